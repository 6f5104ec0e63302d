# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment files: what differs between two states, where to go back to, and the plan. No value leaves here."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv, _manifest, _plan

#: A name that looks like one. The lines of a key or a certificate that nobody quoted can pass for names too.
_NAME = re.compile(r"(?:[A-Z_][A-Z0-9_]{0,63}|[a-z_][a-z0-9_]{0,63})")
_TIMESTAMP = re.compile(r"(\d{8})[_T-]?(\d{4}(?:\d{2})?)Z?")
#: The time in the name of a copy that somebody made by hand.
HAND_MADE_TIME = r"\d{8}[-_]\d{4}(?:\d{2})?"
_HIDDEN = "(a name that is not shown)"
#: How a value refers to another one for Next.js: by ``$NAME`` or ``${NAME}``; a backslash makes it the sign itself.
_NEXT_REFERENCE = re.compile(r"(?<!\\)\$\{?(\w+)", re.ASCII)
#: The runbook copies one file after the other, each with its own time.
HAND_MADE_SECONDS = 5


class State(NamedTuple):
    """One environment file, as it is or as it was. What is None is not known, or does not matter."""

    target: str
    body: bytes | None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    selinux: str | None = None
    symlink: str | None = None
    #: POSIX ACL as the file system keeps it; empty where the mode says all.
    acl: bytes | None = None


class KeyChanges(NamedTuple):
    """What differs by key: length before, length after. ``other``: comments, order, quotes or blanks do."""

    changed: dict[str, tuple[int, int]]
    added: dict[str, int]
    removed: dict[str, int]
    other: bool


def variables(body: bytes | None) -> dict[str, str]:
    """The variables of a file's bytes, whatever their encoding."""
    return _dotenv.parse(_text(body))


def _text(body: bytes | None) -> str:
    return (body or b"").decode("utf-8", "surrogateescape")


def differing_for_next(
    files: Iterable[tuple[bytes | None, bytes | None]], besides: Iterable[bytes | None] = ()
) -> set[str]:
    """The keys that differ as Next.js reads them: by their own line, or by one that they refer to in whichever file.

    Args:
        files: each file of the frontend as it is and as it would be.
        besides: its files that stay.
    """
    pairs = [tuple(dict(_dotenv.assignments(_text(body))) for body in pair) for pair in files]
    found = {key for is_now, then in pairs for key in {*is_now, *then} if is_now.get(key) != then.get(key)}
    every = [side for pair in pairs for side in pair] + [dict(_dotenv.assignments(_text(body))) for body in besides]
    while True:
        more = {
            key for side in every for key, value in side.items() if not found.isdisjoint(_NEXT_REFERENCE.findall(value))
        } - found
        if not more:
            return found
        found |= more


def key_changes(before: bytes | None, after: bytes | None) -> KeyChanges:
    """Compare two states of a file by key. Values are only counted."""
    old, new = variables(before), variables(after)
    changed = {key: (len(old[key]), len(new[key])) for key in old if key in new and old[key] != new[key]}
    added = {key: len(value) for key, value in new.items() if key not in old}
    removed = {key: len(value) for key, value in old.items() if key not in new}
    return KeyChanges(changed, added, removed, before != after and not (changed or added or removed))


def shown(key: str) -> str:
    """A key's name, or a stand-in where it may be the line of a secret."""
    return key if _NAME.fullmatch(key) else _HIDDEN


def _characters(count: int) -> str:
    return "empty" if count == 0 else f"{count} character{'s' if count > 1 else ''}"


def change_lines(target: str, changes: KeyChanges) -> list[str]:
    """One line a key that differs, for the plan. Every value is masked."""
    rows = []
    for key, (was, is_now) in changes.changed.items():
        how = f"{_characters(was)}, another value" if was == is_now else f"{_characters(was)} to {_characters(is_now)}"
        rows.append(("changed", key, how))
    rows += [("added", key, _characters(size)) for key, size in changes.added.items()]
    rows += [("removed", key, _characters(size)) for key, size in changes.removed.items()]
    lines = [f"{word:<8} {shown(key)} in {target} ({how})" for word, key, how in sorted(rows, key=lambda row: row[1])]
    if changes.other:
        lines.append(f"changed  {target}: comments, order, quotes or blanks, and no value")
    return lines


def masked_diff(target: str, changes: KeyChanges) -> dict[str, str]:
    """What ``--diff`` shows of one file: its keys that differ, every value masked."""
    before = {key: f"<{_characters(was)}>" for key, (was, _now) in changes.changed.items()}
    after = {
        key: f"<{_characters(now)}{', another value' if was == now else ''}>"
        for key, (was, now) in changes.changed.items()
    }
    before.update({key: f"<{_characters(size)}>" for key, size in changes.removed.items()})
    after.update({key: f"<{_characters(size)}>" for key, size in changes.added.items()})
    texts = ["".join(f"{shown(key)}={side[key]}\n" for key in sorted(side)) for side in (before, after)]
    if changes.other:
        texts = ["# as it is now\n", "# other comments, order, quotes or blanks; no value\n"]
    return {"before_header": target, "after_header": target, "before": texts[0], "after": texts[1]}


def attribute_changes(found: State, wanted: State) -> list[str]:
    """How mode, owner, ACL, SELinux context or link differ, one text each. Unknown ones don't."""
    texts: list[str] = []
    if found.body is None and wanted.body is None and found.symlink != wanted.symlink:
        return [f"a link to {wanted.symlink} again, which leads to nothing" if wanted.symlink else "no link any more"]
    if found.body is None or wanted.body is None:
        return texts
    if wanted.mode is not None and found.mode != wanted.mode:
        texts.append(f"mode {found.mode or 0:04o} to {wanted.mode:04o}")
    for word, is_now, was in (("owner", found.uid, wanted.uid), ("group", found.gid, wanted.gid)):
        if was is not None and is_now != was:
            texts.append(f"{word} {is_now} to {was}")
    if None not in (found.acl, wanted.acl) and found.acl != wanted.acl:
        texts.append(
            "its ACL (rights of further users) as it was" if wanted.acl else "no ACL (rights of further users) any more"
        )
    if wanted.selinux and found.selinux and found.selinux != wanted.selinux:
        texts.append(f"SELinux context {found.selinux} to {wanted.selinux}")
    if found.symlink != wanted.symlink:
        texts.append(f"a link to {wanted.symlink} again" if wanted.symlink else "a file of its own again, and no link")
    return texts


def action(found: State, wanted: State) -> str:
    """What has to be done: ``none``, ``replace``, ``create``, ``remove`` or ``attributes``."""
    if found.body is not None and wanted.body is None:
        return "remove"
    if found.body is None and wanted.body is not None:
        return "create"
    if found.body != wanted.body:
        return "replace"
    return "attributes" if attribute_changes(found, wanted) else "none"


def concerned(targets: Iterable[str], readers: Mapping[str, Sequence[str]]) -> list[str]:
    """The services that read one of these files, sorted."""
    return sorted({service for target in targets for service in readers.get(target, ())})


def matching(keys: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The keys that match one of the patterns, such as ``NEXT_PUBLIC_*``, sorted."""
    return sorted(key for key in keys if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns))


def in_process(
    environment: Mapping[str, str], values: Mapping[str, str], keys: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Which variables a process has in its own environment, where its files count for nothing any more.

    Args:
        environment: what it was started with.
        values: what its files say.
        keys: the variables in question.

    Returns:
        Those that came from the files, by a shell that read them, and those that have another value.
    """
    there = sorted({key for key in keys if key in environment})
    same = [key for key in there if environment[key] == values.get(key)]
    return same, [key for key in there if key not in same]


def timestamp(text: str) -> str | None:
    """A timestamp in the runbook's form ``20250115_140000``, or None for what is none. Seconds may be left out."""
    match = _TIMESTAMP.fullmatch(text.strip())
    return f"{match[1]}_{match[2]:0<6}" if match else None


def copied_at(name: str, target: str) -> str | None:
    """The time in the name of a file that is a copy by hand of another one, as it stands there, or None."""
    match = re.fullmatch(rf"{re.escape(target)}\.backup\.({HAND_MADE_TIME})", name)
    return match[1] if match else None


def hand_made(files: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Group the backups that people made by hand, newest first: those of different files that belong together.

    Args:
        files: target to its backups, the time in the name of each to seconds since the epoch.

    Returns:
        ``timestamp`` and ``at`` of the oldest of each group, ``stamps``, all in the runbook's form, and ``files``
        (target to the time in the name of its copy).
    """
    every = sorted((at, stamp, target) for target, stamps in files.items() for stamp, at in stamps.items())
    groups: list[dict[str, Any]] = []
    for at, in_name, target in every:
        last, stamp = groups[-1] if groups else None, timestamp(in_name)
        if last and at - last["at"] <= HAND_MADE_SECONDS and target not in last["files"]:
            last["files"][target] = in_name
            last["stamps"].append(stamp)
        else:
            groups.append({"timestamp": stamp, "at": at, "stamps": [stamp], "files": {target: in_name}})
    return groups[::-1]


def refusal(code: str, message: str, cure: str) -> dict[str, str]:
    """Why a run is refused, and what to do."""
    return {"code": code, "message": message, "cure": cure}


def offer(points: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]], most: int = 5) -> str:
    """What there is to go back to, in one line."""
    texts = [
        f"-e restore_point={item['id']} ({item.get('tag') or 'no tag'})"
        for item in points
        if item["usable"] and not item["problem"]
    ][:most]
    texts += [f"-e config_timestamp={group['timestamp']} ({', '.join(sorted(group['files']))})" for group in groups][
        :most
    ]
    if not texts:
        return (
            "there is nothing to go back to; make a restore point: ansible-playbook -i INVENTORY playbooks/backup.yml"
        )
    return f"choose one: {', '.join(texts)}"


def _while_it_ran(points: Sequence[Mapping[str, Any]], tag: str, commit: str | None) -> list[Mapping[str, Any]]:
    """The restore points that a tag means: the one that it was made for, else those of the release that it names."""
    named = any(item.get("tag") == tag for item in points)
    own = [item for item in points if item.get("backup_tag") == tag]
    # The first backup's tag is the release's own from then on, where that had none.
    if own and not named:
        return own
    # One commit can have several tags, and the manifest has but one of them.
    return [
        item
        for item in points
        if tag in (item.get("tag"), item.get("backup_tag")) or (commit and item.get("commit") == commit)
    ]


def _newest(points: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any] | None, list[str]]:
    """The newest whole one with environment files that no rollback made, and what is wrong with newer ones."""
    passed_over = []
    for item in points:
        if not item["usable"] or not _manifest.may_be_newest(item["id"]):
            continue
        if not item["problem"]:
            return item, passed_over
        passed_over.append(str(item["problem"]))
    return None, passed_over


def choose(
    points: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
    """Find where to go back to. Nothing is guessed: what can't be had is refused, with what there is.

    Args:
        points: restore points, newest first: ``id``, ``at`` (seconds since the epoch), ``tag``, ``commit`` and
            ``backup_tag``, ``usable`` (it holds environment files, or what it holds can't be read) and ``problem`` (why
            it can't be used, or None).
        groups: as ``hand_made`` returns them.
        wanted: ``restore_point`` (an id, or ``newest``), ``timestamp``, ``tag``, empty where not given; ``at``, the
            timestamp in seconds since the epoch, and ``commit``, that of the tag, None where there is none.

    Returns:
        The choice (``restore_point``, with ``passed_over`` where the newest was asked for: what is wrong with newer
        ones; or ``hand_made``), or the refusal.
    """
    given = [name for name in ("restore_point", "timestamp", "tag") if wanted.get(name)]
    options = {"restore_point": "restore_point", "timestamp": "config_timestamp", "tag": "target_tag"}
    there_is = offer(points, groups)
    if not given:
        return None, refusal("no_target", "Nothing was named to go back to", f"To go back, {there_is}")
    if len(given) > 1:
        both = " and ".join(options[name] for name in given)
        return None, refusal("ambiguous", f"{both} were given, and they may differ", "Give one of them")
    if wanted["restore_point"] == _manifest.NEWEST:
        found, passed_over = _newest(points)
        if found is None:
            why = "".join(f"; {text}" for text in passed_over[:2])
            return None, refusal(
                "unknown",
                f"No backup has made a whole restore point with environment files here{why}",
                there_is[0].upper() + there_is[1:],
            )
        return {"restore_point": found["id"], "passed_over": passed_over}, None
    if wanted["restore_point"]:
        name = wanted["restore_point"]
        found = next((item for item in points if item["id"] == name), None)
        if found is None:
            return None, refusal(
                "unknown", f"There is no restore point {name!r} here", there_is[0].upper() + there_is[1:]
            )
    elif wanted["timestamp"]:
        stamp, at = timestamp(wanted["timestamp"]), wanted.get("at")
        if stamp is None or at is None:
            return None, refusal(
                "bad_timestamp",
                f"{wanted['timestamp']!r} is not a time such as 20250115_140000",
                there_is[0].upper() + there_is[1:],
            )
        group = next((item for item in groups if stamp in item["stamps"]), None)
        if group is not None:
            return {"hand_made": dict(group)}, None
        kept = [item for item in points if item["at"] <= at and item["usable"]]
        # From its time on something else was in force.
        found = next((item for item in kept if item["at"] == at or not _manifest.was_left(item["id"])), None)
        if found is None:
            but = ", but for what a rollback went away from" if kept else ""
            return None, refusal(
                "unknown",
                f"Nothing was kept up to {stamp} (time of the host){but}",
                there_is[0].upper() + there_is[1:],
            )
    else:
        tag = wanted["tag"]
        while_it_ran = _while_it_ran([item for item in points if item["usable"]], tag, wanted.get("commit"))
        # What a level kept is what somebody went away from.
        found = next((item for item in while_it_ran if "-level" not in item["id"]), next(iter(while_it_ran), None))
        if found is None:
            return None, refusal(
                "unknown", f"No restore point was made while {tag!r} ran", there_is[0].upper() + there_is[1:]
            )
    if found["problem"]:
        return None, refusal("damaged", str(found["problem"]), f"Nothing was touched. To go back, {there_is}")
    if not found["usable"]:
        return None, refusal(
            "no_files", f"Restore point {found['id']} holds no environment files", there_is[0].upper() + there_is[1:]
        )
    return {"restore_point": found["id"]}, None


def target_problem(target: str, files: Iterable[str]) -> str | None:
    """Why a restore point may not write to that file of the application, or None."""
    if target.startswith("/") or ".." in target.split("/") or posixpath.normpath(target) != target:
        return f"{target!r} lies outside of the application"
    if target not in files:
        return f"{target!r} is none of the environment files here (rollback_environment_files)"
    return None


def level2(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Plan a rollback of the configuration.

    Args:
        facts: ``diff`` (as config_diff returns it), ``backend`` and ``frontend`` (``running``, ``conflict``, ``how``,
            ``stuck``, ``overridden``, ``unknown``; None where they need not be restarted), ``build`` (frontend_build in
            check mode, or None), ``dirty`` (changed files of the frontend), ``settings`` (``allow_missing``),
            ``history`` (run summaries).

    Returns:
        As ``_plan.level1`` does, with ``changes`` (masked lines).
    """
    diff, build = facts["diff"], facts.get("build")
    release, source = diff["release"], diff["source"]
    name = release["tag"] or release["commit"][:12]
    warnings = list(diff["warnings"])
    refusals: list[dict[str, str]] = list(diff["refusals"])
    for service in diff["services"]:
        seen = facts.get(service) or {}
        if seen.get("conflict"):
            refusals.append(
                refusal(
                    f"{service}_conflict",
                    f"The {service} can't be replaced: {seen['conflict']}",
                    f"Nothing was stopped. Stop that process yourself, or set the {service}'s manager, name and port "
                    "in the inventory",
                )
            )
        if seen.get("refusal"):
            refusals.append(refusal(service, seen["refusal"], seen["cure"]))
        stuck = seen.get("stuck") or []
        if stuck:
            refusals.append(
                refusal(
                    "stuck",
                    f"pm2 keeps {', '.join(stuck)} for the {service} itself, and gives it on at each restart",
                    f"Take it out there: pm2 delete the {service}, and start it from a shell without these variables",
                )
            )
        overridden = sorted(set(seen.get("overridden") or []) & set(diff["keys"].get(service, [])))
        if overridden:
            warnings.append(
                f"the {service} has {', '.join(overridden)} from its own environment, where the files count for nothing"
            )
        unknown = sorted(set(seen.get("unknown") or []) & set(diff["keys"].get(service, [])))
        if unknown:
            warnings.append(
                f"it is not known whether the {service}'s unit sets {', '.join(unknown)} by itself, where the files "
                "count for nothing: this user may not read its environment; see systemctl cat on the host"
            )
        if seen.get("running") is False:
            warnings.append(f"the {service} does not run; it will be started")
    warnings += [*_stale_warnings(facts), *_unmet_warnings(facts)]
    refusals += _missing_refusals(facts)
    if build and build["action"] == "build" and facts.get("dirty"):
        refusals.append(
            refusal(
                "dirty",
                f"The frontend has to be built, and has uncommitted changes: {', '.join(facts['dirty'][:3])}",
                "Commit them, or take them back",
            )
        )
    words = {"unchanged": "stays", "cached": "taken from the cache", "build": "built anew"}
    steps = [_plan.step("preserve", "restore_point", "a restore point of the environment files as they are")]
    if build:
        steps.append(_plan.step("prepare", "frontend_build", f"frontend build: {words[build['action']]}"))
    steps += [
        _plan.step("switch", "config_files", f"{item['target']}: {item['does']}")
        for item in diff["files"]
        if item["action"] != "none"
    ]
    for service in ("backend", "frontend"):
        seen = facts.get(service) or {}
        skip = service not in diff["services"]
        does = "reads no file that changes, and is left alone" if skip else f"is replaced ({seen.get('how')})"
        steps.append(_plan.step("switch", service, f"the {service} {does}", skip))
    plan: dict[str, Any] = {
        "level": 2,
        "from": {**_kept(release), "name": f"{name} as configured before"},
        "to": {**_kept(release), "name": f"{name} with the configuration of {source['name']}"},
        "source": source,
        "steps": steps,
        "changes": diff["lines"],
        "refusals": [] if diff["unchanged"] else refusals,
        "unchanged": diff["unchanged"],
    }
    plan["hash"] = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    plan["warnings"] = warnings
    plan["expected_seconds"] = _plan.expected_seconds(facts.get("history") or [], 2)
    return plan


def _kept(release: Mapping[str, Any]) -> dict[str, Any]:
    return {key: release.get(key) for key in ("tag", "commit", "branch")}


def _stale_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What a service may not have read yet: a file that is younger than its process."""
    since = (facts.get("backend") or {}).get("serving_since")
    late = [
        item["target"]
        for item in facts["diff"]["files"]
        if since and "backend" in item["readers"] and (item["modified"] or 0) > since + 1
    ]
    if not late:
        return []
    return [f"the backend was started before {', '.join(late)} was last changed, and may run with other settings"]


def _not_elsewhere(facts: Mapping[str, Any], needs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The needs that nobody allowed to be missing, and that the service has not from its own environment."""
    allowed = {key.upper() for key in facts["settings"]["allow_missing"]}
    found = []
    for item in needs:
        seen = facts.get(item["service"]) or {}
        # Of what is not known there is a warning.
        has = {key.upper() for name in ("overridden", "unknown") for key in seen.get(name) or []}
        if item["key"].upper() not in allowed | has:
            found.append(item)
    return found


def _needs(found: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(f"{item['key']} for the {item['service']} ({item['how']})" for item in found)


def _unmet_warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the code reads and no file sets. The change takes none of it away, and what runs does without."""
    found = _not_elsewhere(facts, facts["diff"]["unmet"])
    if not found:
        return []
    return [f"no file sets, now or then, what some code fails without: {_needs(found)}"]


def _missing_refusals(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """A refusal that names every key which would be missing, and how it is known to be needed."""
    found = _not_elsewhere(facts, facts["diff"]["missing"])
    if not found:
        return []
    keys = ",".join(item["key"] for item in found)
    return [
        refusal(
            "missing_keys",
            f"The code that runs needs what would be missing then: {_needs(found)}",
            f"Choose another restore point, or go on without: -e config_allow_missing={keys}",
        )
    ]
