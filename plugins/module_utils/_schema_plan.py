# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollback of the database schema: pure data from what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _approval, _downgrade_marks, _plan
from ansible_collections.sparklio.rollback.plugins.module_utils._plan import refusal, shown

Facts = Mapping[str, Any]

#: A transaction that has been open for so many seconds is told before it is ended.
LONG_SECONDS = 60.0
_UNKNOWN = "revisions that are not known / 리비전을 알 수 없음"
_ADMIN = "set rollback_database_admin_command to a psql that is run as the server's administrator"
_WORDS = {
    "missing": "has no downgrade()",
    "raises": "refuses to be taken back",
    "empty": "can't be taken back",
    "autocommit": "outside of a transaction",
    "loses_data": "loses data",
    "changes_data": "changes data",
    "reads_data": "reads data",
    "unknown": "not wholly known before the rehearsal",
    "merge": "a merge",
    "harmless": "harmless",
}


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return ""


def _heads(names: Sequence[str] | None) -> str:
    return ", ".join(names or []) or "base (no revision at all)"


def _plain(table: str | None) -> str | None:
    """A table's name as a revision file has it: ``public`` is where a name without a schema is looked for."""
    return table[len("public.") :] if table and table.startswith("public.") else table


def _lost(path: Facts, server: Facts) -> list[dict[str, Any]]:
    """What is gone afterwards and held data, in the order of the path, with what there is of it now.

    ``rows`` and ``non_null`` are None where nobody counted: a name that is made at run time, or former values.
    """
    counts = {(_plain(item["table"]), item.get("column")): item for item in server.get("lost") or []}
    found = []
    for revision in path.get("path") or []:
        for drop in revision["drops"]:
            if drop["kind"] not in _downgrade_marks.LOSING:
                continue
            table, column = drop["table"], drop["name"] if drop["kind"] == "column" else None
            known = drop["kind"] in ("table", "rows") or column is not None
            count = counts.get((_plain(table), column), {}) if known else {}
            found.append(
                {
                    "revision": revision["revision"],
                    "kind": drop["kind"],
                    "table": table,
                    "name": drop["name"],
                    "rows": count.get("rows"),
                    "non_null": count.get("non_null"),
                    "text": _downgrade_marks.drop_text(drop),
                }
            )
    return found


def _counted(item: Facts) -> str:
    if item["kind"] == "column" and item["non_null"] is not None:
        return f"{item['text']} ({item['non_null']:,} of {item['rows'] or 0:,} rows have a value)"
    if item["rows"] is not None:
        return f"{item['text']} ({item['rows']:,} rows)"
    return str(item["text"])


def _changes(path: Facts, lost: list[dict[str, Any]], accepted: Sequence[str]) -> list[str]:
    """One line for each revision."""
    lines = []
    for item in path.get("path") or []:
        words = ", ".join(_WORDS.get(mark, mark) for mark in item["marks"])
        line = f"revision {item['revision']}: {words}"
        gone = [_counted(one) for one in lost if one["revision"] == item["revision"]]
        other = [
            _downgrade_marks.drop_text(drop) for drop in item["drops"] if drop["kind"] not in _downgrade_marks.LOSING
        ]
        if gone:
            line += f"; loses {', '.join(gone)}"
        if other:
            line += f"; drops {', '.join(other)}"
        told = [one for one in item["reasons"] if one["mark"] not in ("loses_data", "harmless")]
        if told:
            line += "; " + "; ".join(f"{one['reason']} (line {one['line']})" for one in told)
        if "empty" in item["marks"]:
            line += "; skipped, what its upgrade() did stays"
            line += ", as accepted" if item["revision"] in accepted else ""
        lines.append(f"{line}. {item['title']}".rstrip(" ."))
    return lines


def _revision_refusals(path: Facts, settings: Facts, database: str | None) -> list[dict[str, str]]:
    """What in the revisions stands against taking them back."""
    found = [dict(item) for item in path.get("problems") or []]
    never, stays = [], []
    for item in path.get("path") or []:
        why = {one["mark"]: one for one in item["reasons"]}
        for mark in ("missing", "raises"):
            if mark in item["marks"]:
                never.append(f"{item['revision']}: {why[mark]['reason']} ({item['file']}:{why[mark]['line']})")
        if "empty" in item["marks"] and item["revision"] not in settings["accept_irreversible"]:
            stays.append(item)
    if never:
        found.append(
            refusal(
                "no_downgrade",
                f"These revisions can't be taken back at all: {'; '.join(never)}",
                "Restore the database from a restore point that is older than they are, or deploy a release whose "
                "downgrade() does it and roll back from there",
            )
        )
    if stays:
        names = [item["revision"] for item in stays]
        every = sorted({*settings["accept_irreversible"], *names})
        files = ", ".join(item["file"] for item in stays)
        quoted = ", ".join(f'"{name}"' for name in every)
        found.append(
            refusal(
                "irreversible",
                f"The downgrade() of {', '.join(names)} does nothing, so what the upgrade() did would stay",
                f"Read what stays in {files}; where the target can live with it, add "
                f"-e '{{\"accept_irreversible\": [{quoted}]}}'",
            )
        )
    if path.get("base") and settings["confirm_base"] != database:
        cure = f"If that is meant, add -e confirm_base={database}" if database else "Bring the database up first"
        found.append(
            refusal(
                "base", f"Everything would be taken back, down to a database without any revision{_of(database)}", cure
            )
        )
    if settings["mode"] == "in_place":
        outside = [item["revision"] for item in path.get("path") or [] if "autocommit" in item["marks"]]
        if outside:
            found.append(
                refusal(
                    "autocommit",
                    f"{', '.join(outside)} commits half-way, and in place there would be no way back from there",
                    "Run it on a copy: -e rollback_database_mode=copy",
                )
            )
    return found


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _of(database: str | None) -> str:
    return f" ({database})" if database else ""


def _unreachable(schema: Facts | None, server: Facts) -> dict[str, str] | None:
    why = server.get("error")
    if not why and schema is not None and not schema.get("connected"):
        why = schema.get("error") or schema.get("evidence") or "no answer"
    if not why:
        return None
    return refusal(
        "database",
        f"The database can't be asked: {why}",
        "Bring it up first. Where it is up, see why alembic current fails in the backend's directory",
    )


def _server_refusals(server: Facts, settings: Facts, shared: Sequence[str]) -> list[dict[str, str]]:
    """What the database server stands against, or what is going on there now."""
    found = []
    user, name, copy = server.get("user"), server.get("database"), settings["mode"] == "copy"
    if shared:
        found.append(
            refusal(
                "shared",
                f"Database {name} is that of {', '.join(shared)} too, and each host would take its schema back",
                "Stop the other backends, and limit the run to one host: -e rollback_hosts=HOST. Level 1 takes the "
                "code of the others back then",
            )
        )
    if not (server.get("superuser") or server.get("createdb")):
        found.append(
            refusal(
                "createdb",
                f"User {user} may not create the database that the downgrade is rehearsed on",
                f"ALTER ROLE {user} CREATEDB, or {_ADMIN}",
            )
        )
    if settings["rehearses"] and server.get("untrusted"):
        found.append(
            refusal(
                "untrusted",
                f"User {server.get('maker') or user} may not make {', '.join(server['untrusted'])}, an extension that "
                "the restored backup needs",
                _capital(_ADMIN),
            )
        )
    maker = server.get("maker") or user
    if server.get("unsettable"):
        found.append(
            refusal(
                "settings",
                f"User {maker} may not set on another database what is set on {name}: {shown(server['unsettable'])}",
                f"{_capital(_ADMIN)}; or reset what is not needed: ALTER DATABASE {name} RESET …, ALTER ROLE … IN "
                f"DATABASE {name} RESET …",
            )
        )
    if not copy and server.get("strangers"):
        found.append(
            refusal(
                "strangers",
                f"{shown(server['strangers'])} own something in {name}, which an undo could not restore: user {maker} "
                "is no member of them",
                f"GRANT the role TO {maker}, or {_ADMIN}",
            )
        )
    if copy and not (server.get("superuser") or server.get("owns")):
        found.append(
            refusal(
                "owner",
                f"Database {name} belongs to {server.get('owner')}, so {user} may not rename it",
                f"ALTER DATABASE {name} OWNER TO {user}, or {_ADMIN}",
            )
        )
    if not (server.get("superuser") or server.get("can_terminate")):
        found.append(
            refusal(
                "terminate",
                f"User {user} may not end the sessions of others, who would stand in the way",
                f"GRANT pg_signal_backend TO {user}, or {_ADMIN}",
            )
        )
    disk = server.get("disk")
    if disk and disk["free"] < disk["needed"]:
        found.append(
            refusal(
                "database_disk",
                f"{_bytes(disk['free'])} are free in {disk['path']}, and {_bytes(disk['needed'])} are needed",
                "Free some space there, or purge databases that earlier runs parked",
            )
        )
    in_place = "Run it in place: -e rollback_database_mode=in_place"
    if copy and server.get("slots"):
        names = ", ".join(f"{item['name']} ({'active' if item['active'] else 'idle'})" for item in server["slots"])
        found.append(
            refusal(
                "slots", f"Replication slots belong to {name}, and would stay with the former one: {names}", in_place
            )
        )
    if copy and server.get("subscriptions"):
        names = ", ".join(item["name"] for item in server["subscriptions"])
        found.append(
            refusal("subscriptions", f"Subscriptions of {name} would be lost with the swap: {names}", in_place)
        )
    if server.get("prepared"):
        names = ", ".join(
            f"{item['gid']} of {item['owner']}, {item['seconds']:.0f} s old" for item in server["prepared"]
        )
        found.append(
            refusal(
                "prepared",
                f"Prepared transactions hold their locks whoever is disconnected: {names}",
                "COMMIT PREPARED or ROLLBACK PREPARED each of them",
            )
        )
    if server.get("migrating"):
        names = ", ".join(
            f"process {item['pid']} of {item['user']} ({item['application'] or 'no name'})"
            # Who may not see the sessions of others is not told since when.
            + (f" for {item['seconds']:.0f} s" if item["seconds"] is not None else "")
            for item in server["migrating"]
        )
        found.append(
            refusal(
                "migrating",
                f"Another migration is under way: {names}",
                "Wait for its end; if it hangs, end it: SELECT pg_terminate_backend(pid)",
            )
        )
    return found


def _moved(schema: Facts | None, path: Facts) -> list[dict[str, str]]:
    """A refusal where the database was at other revisions when the path was made."""
    if schema is None or not schema.get("connected") or not path:
        return []
    there = sorted(schema.get("heads") or [])
    if there == sorted(path["current_heads"]):
        return []
    return [
        refusal(
            "moved",
            f"The database is at {_heads(there)}, and the path begins at {_heads(path['current_heads'])}",
            "Somebody migrates it right now: find out who, and try again",
        )
    ]


def _warnings(facts: Facts, lost: list[dict[str, Any]]) -> list[str]:
    path, server, settings = facts["path"] or {}, facts["server"], facts["settings"]
    texts = []
    long = [item for item in server.get("sessions") or [] if (item.get("transaction_seconds") or 0) >= LONG_SECONDS]
    if long:
        names = [
            f"{item['pid']} of {item['user']} ({item['application'] or 'no name'}, {item['state']}, "
            f"{item['transaction_seconds']:.0f} s)"
            for item in sorted(long, key=lambda item: -item["transaction_seconds"])
        ]
        texts.append(f"{len(long)} long transaction(s) will be ended: {shown(names)}")
    for item in server.get("timeouts") or []:
        texts.append(f"{item['setting']} of {item['where']} is overridden while it runs")
    for item in path.get("differing") or []:
        if item["how"] == "changed":
            texts.append(
                f"{item['file']} differs between the two releases, so what {item['revision']} made may not be what the "
                "target's says"
            )
    if path.get("unapplied"):
        texts.append(f"the tree has revisions that the database has not: {shown(list(path['unapplied']))}")
    strange = sorted(set(settings["accept_irreversible"]) - {item["revision"] for item in path.get("path") or []})
    if strange:
        texts.append(f"accept_irreversible names what is not taken back: {', '.join(strange)}")
    sql = facts.get("sql")
    if path.get("path") and (sql is None or sql.get("error")):
        texts.append(f"there is no SQL to read before the rehearsal: {(sql or {}).get('error') or 'it was not made'}")
    lint = facts.get("lint")
    if path.get("path") and lint is None:
        texts.append(f"the SQL was not linted: {facts.get('lint_error') or 'it was not tried'}")
    for item in lint or []:
        where = f" (line {item['line']})" if item.get("line") else ""
        texts.append(f"{item['rule']} in {item['revision']}{where}: {item['message']}")
    if path.get("path") and not server.get("error") and not server.get("disk"):
        texts.append("the free space of the database's disk is not known")
    if lost:
        where = "the parked database" if settings["mode"] == "copy" else "the salvage schema"
        texts.append(
            f"lost to the target, and kept in {where}: {', '.join(dict.fromkeys(item['text'] for item in lost))}"
        )
    return texts


def _steps(facts: Facts, skip: bool) -> list[dict[str, Any]]:
    """Level 1's steps with those of the database between, or the database's and the backend's alone."""
    step = _plan.step
    copy = facts["settings"]["mode"] == "copy"
    does = "copy, downgrade of the copy, validation, swap by rename"
    if not copy:
        does = "downgrade in place in one transaction, what it drops is parked in a salvage schema"
    code = []
    if facts["settings"]["code"]:
        code = _plan.steps(facts)
    else:
        code = [step("switch", "backend", f"the backend is started ({facts['backend']['how']})", skip)]
    rehearses = facts["settings"]["rehearses"]
    point = "a verified restore point" if rehearses else "a restore point that is not restored anywhere,"
    mine = [step("preserve", "restore_point", f"{point} of the database and the environment files", skip)]
    if rehearses:
        mine.append(step("prepare", "rehearsal", "rehearsal: the downgrade on a database restored from it", skip))
    mine += [
        step("switch", "backend_stop", "the backend is stopped", skip),
        step("switch", "database", f"database: {does}", skip),
    ]
    acts = ("preserve", "prepare", "switch")
    return [item for act in acts for part in (mine, code) for item in part if item["act"] == act]


def _end(release: Facts, heads: Sequence[str] | None, with_heads: bool, **more: Any) -> dict[str, Any]:
    """One end of the way. Heads of None are not known, which is another thing than none at all."""
    name = _plan.name_of(release)
    return {
        **{key: release.get(key) for key in ("tag", "commit", "date")},
        "alembic_heads": list(heads or []),
        "name": f"{name} at {_UNKNOWN if heads is None else _heads(heads)}" if with_heads else name,
        **more,
    }


def level3(facts: Facts) -> dict[str, Any]:
    """Plan a rollback of the database schema, with the code or without.

    Args:
        facts: as ``_plan.level1`` takes them (``release``, whose ``target`` is None where the code stays; ``host``,
            ``schema``, ``backend``, ``frontend``, ``python_env``, ``frontend_build``, ``history``); of the code's,
            those that are not needed without it may be left out. Then:

            ``path``: as alembic_path returns it, None where the database could not be asked.
            ``sql``: ``revisions`` (id to offline SQL) and ``error``, or None.
            ``lint``: findings with ``revision``, ``rule``, ``message``, ``line``, or None with ``lint_error``.
            ``server``: as pg_readiness returns it; sizes in bytes, times in seconds.
            ``shared_with``: other hosts of the run that have the same database, or nothing.
            ``approval``: ``required``, ``found``, ``others``, ``how``: see ``_approval.refusal``.
            ``settings``: Level 1's, and ``mode`` (``copy`` or ``in_place``), ``accept_irreversible`` (ids),
            ``accept_dropped`` (tables and columns), ``accept_drift``, ``rehearses`` (whether it is rehearsed on a
            restored backup), ``confirm_base`` (the database's name) and ``code`` (whether it changes too).

    Returns:
        As ``_plan.level1`` does, with ``mode``, ``base``, ``changes`` (a line for each revision), ``lost``,
        ``revisions`` and ``subject``. The hash is that of the subject alone: from, to, revisions with what they do,
        mode, steps, what is accepted, and whether it is rehearsed. What traffic changes is not in it, so that an
        approval outlives a row.
    """
    release, settings = facts["release"], facts["settings"]
    path, server, schema = facts["path"] or {}, facts["server"], facts["schema"]
    current, code = release["current"], bool(settings["code"])
    target = release["target"] if code else current
    nothing = not path.get("path")
    same_code, warnings = _plan.standing(facts) if code else (True, [])
    unreachable = _unreachable(schema, server)
    unchanged = bool(path) and nothing and not path["problems"] and same_code and unreachable is None
    lost = _lost(path, server)
    if code and nothing and path and not path["problems"] and not unchanged:
        warnings.append("the schema is the target's already: Level 1 does the same in less time")
    steps = _steps(facts, nothing)
    revisions = [
        {key: item[key] for key in ("revision", "file", "title", "marks", "drops")} for item in path.get("path") or []
    ]
    # A database that did not answer is at no revision, a target that was not found leads nowhere: neither is the base.
    found = not nothing or not (path.get("problems") or unreachable)
    to = _end(target, path.get("target_heads"), not code, **({} if found or code else {"name": None}))
    from_ = _end(current, None if unreachable else path.get("current_heads"), not code, branch=current.get("branch"))
    subject = {
        "level": 3,
        "from": {"tag": from_["tag"], "commit": from_["commit"], "heads": sorted(from_["alembic_heads"])},
        "to": {"tag": to["tag"], "commit": to["commit"], "heads": sorted(to["alembic_heads"])},
        "mode": settings["mode"],
        "rehearsed": bool(settings["rehearses"]),
        # Of revisions that are not taken back nothing is accepted.
        "accept_irreversible": sorted(
            {item["revision"] for item in revisions}.intersection(settings["accept_irreversible"])
        ),
        "accept_dropped": sorted(set(settings["accept_dropped"])),
        "accept_drift": bool(settings["accept_drift"]),
        "revisions": [
            {
                "revision": item["revision"],
                "marks": list(item["marks"]),
                "drops": [[drop["kind"], drop["table"], drop["name"]] for drop in item["drops"]],
            }
            for item in revisions
        ],
        "steps": [[item["act"], item["step"]] for item in steps],
    }
    digest = _approval.digest(subject)
    plan: dict[str, Any] = {
        "level": 3,
        "from": from_,
        "to": to,
        "mode": settings["mode"],
        "base": bool(path.get("base")),
        "steps": steps,
        "refusals": [] if unchanged else _refusals(facts, path, server, unreachable, digest),
        "warnings": warnings + _warnings(facts, lost),
        "unchanged": unchanged,
        "serving": _plan.serving(facts),
        "changes": _changes(path, lost, settings["accept_irreversible"]),
        "lost": lost,
        "revisions": revisions,
        "subject": subject,
        "hash": digest,
        "expected_seconds": _plan.expected_seconds(facts.get("history") or [], 3),
    }
    return plan


def _refusals(
    facts: Facts, path: Facts, server: Facts, unreachable: dict[str, str] | None, digest: str
) -> list[dict[str, str]]:
    """All that stands against it, in the order in which it is worth mending."""
    release, settings, schema = facts["release"], facts["settings"], facts["schema"]
    idle = bool(path) and not path["path"] and not path["problems"]
    found = [unreachable] if unreachable else []
    if not unreachable:
        found += _moved(schema, path)
        found += _revision_refusals(path, settings, server.get("database"))
        if not idle:
            found += _server_refusals(server, settings, facts.get("shared_with") or [])
    if settings["code"]:
        found += _plan.tree_refusals(release, settings)
        found += _plan.host_refusals(facts["host"], settings, _plan.builds(facts))
        found += _plan.service_refusals(facts["backend"], facts["frontend"])
    else:
        found += _plan.host_refusals(facts["host"], settings, False)
        found += _plan.service_refusals(facts["backend"], {})
    # What has no way has no plan that somebody could agree to, and what leaves the schema alone needs nobody to.
    missing = _approval.refusal(facts["approval"], digest) if path.get("path") and not unreachable else None
    return [*found, missing] if missing else found
