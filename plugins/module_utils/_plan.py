# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollback: pure data from what was read. Nothing is changed while it holds a refusal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]


def refusal(code: str, message: str, cure: str) -> dict[str, str]:
    """Why a run is refused, and what to do."""
    return {"code": code, "message": message, "cure": cure}


def name_of(release: Facts) -> str:
    """The release's tag, or the beginning of its commit."""
    return release.get("tag") or str(release["commit"])[:12]


def shown(items: list[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def schema_refusal(current: Facts, target: Facts, schema: Facts | None) -> dict[str, str] | None:
    """Why the target's code can't run on the database as it is, or None.

    The heads that the database bears must be the heads that the target's tree declares. Code that is older
    would meet tables it does not know; code that is newer would miss some.

    Args:
        current: the release that is checked out, with ``alembic_heads``.
        target: the release to go to, with ``alembic_heads``.
        schema: what the database says, ``connected``, ``heads`` and ``error``; None when it was not asked.
    """
    wanted = sorted(target["alembic_heads"])
    if schema is None:
        return None
    if not schema.get("connected"):
        if not wanted and not current["alembic_heads"]:
            return None
        return refusal(
            "schema_unknown",
            "The database does not say which schema it has "
            f"({schema.get('error') or schema.get('evidence') or 'no answer'})",
            "Bring the database up first: a code rollback does not cure it. Where it is up, see why alembic current "
            "fails in the backend's directory. If you know that the schema fits, add -e rollback_schema_check=false",
        )
    heads = sorted(schema.get("heads") or [])
    if heads == wanted:
        return None
    there, needs = ", ".join(heads) or "nothing", ", ".join(wanted) or "nothing"
    message = f"{name_of(target)} needs the schema at {needs}, and the database is at {there}"
    if (target.get("date") or 0) > (current.get("date") or 0):
        return refusal(
            "schema",
            message,
            f"{name_of(target)} is newer: deploy it with its migrations (alembic upgrade) instead of rolling back",
        )
    tag = target.get("tag") or target["commit"]
    return refusal(
        "schema",
        message,
        f"Run the schema rollback instead: ansible-playbook -i INVENTORY playbooks/level3.yml -e target_tag={tag}",
    )


def tree_refusals(release: Facts, settings: Facts) -> list[dict[str, str]]:
    """What stands against a checkout of the target: see ``level1`` for the facts."""
    found = []
    dirty = list(release["current"]["dirty"])
    if dirty and not settings["save_changes"]:
        found.append(
            refusal(
                "dirty",
                f"{len(dirty)} tracked file(s) have uncommitted changes: {shown(dirty)}",
                "Commit them, or add -e rollback_save_changes=true to keep them in the backup branch",
            )
        )
    overwritten = list(release["overwritten"])
    if overwritten:
        found.append(
            refusal(
                "overwritten",
                f"The checkout would overwrite {len(overwritten)} file(s) that git does not track: "
                f"{shown(overwritten)}",
                "Move them away",
            )
        )
    tag = release["target"].get("tag")
    if tag in release["bad_releases"] and not settings["allow_bad"]:
        found.append(
            refusal(
                "bad_release",
                f"{tag} was left by an earlier rollback because it was bad",
                "Choose another release; if this one is wanted all the same, add -e rollback_allow_bad=true",
            )
        )
    return found


def host_refusals(host: Facts, settings: Facts, builds: bool) -> list[dict[str, str]]:
    """What the host lacks. Something that is built needs ten times the free space."""
    found = []
    if host["missing"]:
        found.append(
            refusal(
                "tools", f"Not found on this host: {', '.join(host['missing'])}", "Put them on the PATH of this user"
            )
        )
    if not host["writable"]:
        found.append(
            refusal(
                "not_writable",
                f"User {host['user']} may not write to the application or to {host['state_dir']}",
                "Run it as the application's owner",
            )
        )
    if not host["same_device"]:
        found.append(
            refusal(
                "device",
                f"{host['state_dir']} lies on another file system than the application, so nothing can be swapped by "
                "rename",
                "Set rollback_state_dir to a directory beside the application",
            )
        )
    need = settings["min_free_mb"] if builds else settings["min_free_mb"] // 10
    free = min(host["free_mb"], host["root_free_mb"])
    if free < need:
        found.append(
            refusal(
                "disk",
                f"The disk is full: {free} MiB are free and {need} MiB are needed",
                f"Free some space on the file system of {host['state_dir']}",
            )
        )
    return found


def service_refusals(backend: Facts, frontend: Facts) -> list[dict[str, str]]:
    """Why a service can't be replaced. One that is left alone is given as an empty mapping."""
    found = []
    for name, service in (("backend", backend), ("frontend", frontend)):
        if service.get("conflict"):
            found.append(
                refusal(
                    f"{name}_conflict",
                    f"The {name} can't be replaced: {service['conflict']}",
                    f"Nothing was stopped. Stop that process yourself, or set the {name}'s manager, name and port in "
                    "the inventory",
                )
            )
    if backend.get("refusal"):
        found.append(refusal("backend", backend["refusal"], backend["cure"]))
    return found


def step(act: str, name: str, does: str, skip: bool = False) -> dict[str, Any]:
    """One step of a plan."""
    return {"act": act, "step": name, "does": does, "skip": skip, "reversible": True}


def steps(facts: Facts) -> list[dict[str, Any]]:
    """What a change of the code does, in order: see ``level1`` for the facts."""
    release, backend, frontend = facts["release"], facts["backend"], facts["frontend"]
    env, build = facts["python_env"], facts["frontend_build"]
    same_commit = release["current"]["commit"] == release["target"]["commit"]
    words = {"unchanged": "unchanged", "cached": "taken from the cache", "build": "built anew"}
    env_same, build_same = env["action"] == "unchanged", build["action"] == "unchanged"
    return [
        step("preserve", "branch", "a branch at the present commit"),
        step(
            "prepare", "tree", "the release's tree is staged", env["action"] != "build" and build["action"] != "build"
        ),
        step("prepare", "python_env", f"Python environment: {words[env['action']]}", env_same),
        step(
            "prepare",
            "frontend_build",
            f"frontend build: {words[build['action']]}, packages: {words[build['packages']]}",
            build_same,
        ),
        step("switch", "checkout", "the release is checked out in place", same_commit),
        step("switch", "backend_artifacts", "the Python environment is swapped by rename", env_same),
        step("switch", "backend", f"the backend is replaced ({backend['how']})"),
        step("switch", "frontend_artifacts", "the frontend's build is swapped by rename", build_same),
        step(
            "switch",
            "frontend",
            f"the frontend is replaced ({frontend['how']})",
            build_same and bool(frontend["running"]),
        ),
    ]


def _stale(facts: Facts) -> bool:
    """Whether the backend was started before the tree was last changed."""
    since = facts["backend"].get("serving_since")
    checked_out = facts["release"]["current"].get("checked_out_at")
    return bool(since and checked_out and since < checked_out - 1)


def serving(facts: Facts) -> bool:
    """Whether what is checked out is what serves, as far as the processes tell: see ``level1`` for the facts."""
    return bool(facts["backend"]["running"]) and not _stale(facts)


def standing(facts: Facts) -> tuple[bool, list[str]]:
    """Whether the target serves already, and what is worth knowing of how things stand: see ``level1``."""
    release, backend = facts["release"], facts["backend"]
    current, target = release["current"], release["target"]
    stale = _stale(facts)
    unchanged = (
        current["commit"] == target["commit"]
        and not stale
        and not current["dirty"]
        and bool(backend["running"])
        and bool(facts["frontend"]["running"])
    )
    warnings = []
    if not facts["frontend"]["running"]:
        warnings.append("the frontend does not run; it will be started")
    if stale:
        warnings.append(
            "the backend was started before the tree was last changed: what serves now may be older than what is "
            "checked out"
        )
    if not backend["running"]:
        warnings.append("the backend does not run; it will be started")
    if current["dirty"] and facts["settings"]["save_changes"]:
        warnings.append(
            f"uncommitted changes to {shown(list(current['dirty']))} are kept in the backup branch and leave the tree"
        )
    return unchanged, warnings


def builds(facts: Facts) -> bool:
    """Whether something has to be built: see ``level1`` for the facts."""
    build = facts["frontend_build"]
    return "build" in (facts["python_env"]["action"], build["action"], build["packages"])


def level1(facts: Facts) -> dict[str, Any]:
    """Plan a code rollback.

    Args:
        facts: ``release`` (as release_info returns it), ``host`` (host_check), ``schema`` (alembic_info, or None),
            ``backend`` and ``frontend`` (``running``, ``serving_since``, ``conflict``, ``how``),
            ``python_env`` and ``frontend_build`` (their modules in check mode), ``settings``
            (``save_changes``, ``allow_bad``, ``min_free_mb``), ``history`` (run summaries).

    Returns:
        ``from``, ``to``, ``steps``, ``refusals``, ``warnings``, ``unchanged``, ``serving`` (whether what is checked
        out serves), ``expected_seconds`` (from earlier runs, None without one) and ``hash``.
    """
    release, settings = facts["release"], facts["settings"]
    current, target = release["current"], release["target"]
    unchanged, warnings = standing(facts)
    refusals: list[dict[str, str]] = []
    if not unchanged:
        refusals = tree_refusals(release, settings)
        schema = schema_refusal(current, target, facts["schema"])
        if schema:
            refusals.append(schema)
        refusals += host_refusals(facts["host"], settings, builds(facts))
        refusals += service_refusals(facts["backend"], facts["frontend"])
    keys = ("tag", "commit", "date", "alembic_heads")
    plan: dict[str, Any] = {
        "level": 1,
        "from": {key: current.get(key) for key in keys} | {"name": name_of(current), "branch": current.get("branch")},
        "to": {key: target.get(key) for key in keys} | {"name": name_of(target)},
        "steps": steps(facts),
        "refusals": refusals,
        "unchanged": unchanged,
    }
    plan["hash"] = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    plan["warnings"] = warnings
    plan["serving"] = serving(facts)
    plan["expected_seconds"] = expected_seconds(facts.get("history") or [])
    return plan


def expected_seconds(history: list[Facts], level: int = 1) -> float | None:
    """Median duration of the level's earlier runs that came to their end, in seconds, or None."""
    totals = sorted(
        sum(value or 0 for value in run["seconds"].values())
        for run in history
        if run.get("outcome") == "rolled_back" and run.get("level", 1) == level
    )
    return round(totals[len(totals) // 2], 1) if totals else None


def refusal_line(plan: Facts) -> str:
    """All refusals in one line, each with its cure."""
    return " | ".join(f"{item['message']}. {item['cure']}." for item in plan["refusals"])


def plan_lines(plan: Facts) -> list[str]:
    """The plan for the terminal."""
    lines = [f"{plan['from']['name']} -> {plan['to']['name'] or '?'}   plan {plan['hash'][:12]}"]
    for item in plan["steps"]:
        mark = "skip" if item["skip"] else item["act"]
        lines.append(f"{mark:<8} {item['does']}")
    lines += plan.get("changes", [])
    lines += [f"warning: {text}" for text in plan["warnings"]]
    if plan["expected_seconds"]:
        lines.append(f"expected time, from earlier runs: {plan['expected_seconds']:.0f} s")
    return lines
