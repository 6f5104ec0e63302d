# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the runbook's scenarios holds, and whether a rollback would help: pure functions over what was measured.

The order in which things decide:

1. A run that is under way (wait for it), then one that was cut off (``resume``): no level starts before it is cleared.
2. ``security``, said by a person: a rollback, whatever the metrics say.
3. A scenario whose triggers are not all explained by an upstream that is down, nor by load: a rollback; but
   ``no_rollback`` where the last one ended minutes ago, or where there is no release to go to.
4. A scenario that holds and that a rollback does not cure (``no_rollback``), or that nobody feels yet (``watch``).
5. An upstream that is down although nothing fails yet: ``no_rollback``.
6. ``healthy`` where every required check passed, else ``unknown``. No data is never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import _assess_evidence as ev
from ansible_collections.sparklio.rollback.plugins.module_utils import _plan, _verdict

Facts = ev.Facts
Verdicts = Mapping[str, Mapping[str, Any]]

#: Worst first: of several scenarios, the first that a rollback cures is the one to act on.
SCENARIOS = ("security", "emergency", "function", "performance")

#: Worst first: of several hosts, the first of these decides.
RECOMMENDATIONS = ("resume", "rollback", "no_rollback", "unassessed", "unknown", "watch", "healthy")

#: Apart from ansible-playbook's own: 1 and 2 (failed), 3 and 4 (unreachable), 5, 99 and 250.
EXIT_CODES = {
    "healthy": 0,
    "rollback": 10,
    "no_rollback": 11,
    "unknown": 12,
    "watch": 12,
    "resume": 13,
    "unassessed": 14,
}

#: What a recommendation is as a verdict, where it is no fail.
_VERDICTS = {"healthy": "pass", "unassessed": "error", "unknown": "inconclusive", "watch": "inconclusive"}

#: What to repair, by the upstream that is down.
REPAIRS = {
    "database": "bring PostgreSQL up, or correct DATABASE_URL",
    "redis": "bring Redis up, or correct REDIS_URL",
    "objects": "bring the object store up, or correct its address and keys",
    "ollama": "see that the Ollama node is up and has the model that OLLAMA_MODEL names",
    "comfyui": "bring the ComfyUI node up",
}

#: Whatever fails may fail for one of these.
_CORE = ("database", "redis", "objects")


class Trigger(NamedTuple):
    """One condition of the runbook that holds."""

    check: str
    evidence: str
    #: Upstreams that are down and explain it.
    explained_by: tuple[str, ...] = ()
    #: What else explains it: ``load`` (more traffic, a busy host), ``elsewhere`` (the same release was fast before), or
    #: ``unfelt`` (users notice nothing).
    excused: str = ""


def _down(facts: Facts, found: Verdicts) -> dict[str, str]:
    """Return the upstreams that are known to be down, each with the evidence.

    One that could not be asked, because its address is missing or the application's Python, is not known to be down.
    """
    down = {}
    known_results = ev.results(facts)
    for name in (*_CORE, *ev.NODES):
        item = found.get(name)
        if item is None or item["verdict"] not in ("fail", "error"):
            continue
        result, known = ev.as_map(known_results.get(name)), True
        if name == "database":
            # A server that takes connections is up, whatever keeps the application from asking it. Where its port is
            # not known, the application must have come as far as to ask.
            listens = ev.as_map(facts.get("database_port")).get("open")
            asked = result.get("tree_heads") is not None
            known = result.get("connected") is False and (asked if listens is None else not listens)
        elif name in _CORE:
            known = item["verdict"] == "fail" or bool(result.get("server"))
        if known:
            down[name] = item["evidence"]
    return down


def _dead(facts: Facts, found: Verdicts, check: str, service: str) -> str:
    """Say that a service is down, hangs or answers badly, or return nothing.

    No answer alone says nothing: it takes that nothing listens, or that it kept us waiting for as long as an emergency.
    """
    item = found.get(check)
    if item is None or item["verdict"] not in ("fail", "error"):
        return ""
    if item["verdict"] == "fail":
        return item["evidence"]
    seen = ev.process(facts, service)
    if seen.get("running") is False and not seen.get("conflict"):
        return f"nothing listens on its port: {item['evidence']}"
    waited = ev.number(ev.as_map(item.get("data")).get("seconds"))
    if waited is not None and waited >= ev.limit(facts, "response_seconds"):
        return f"no answer in {waited:.0f} s: {item['evidence']}"
    return ""


def triggers(facts: Facts, found: Verdicts, down: Iterable[str]) -> dict[str, list[Trigger]]:
    """Return the conditions of the runbook that hold, by scenario, each with what explains it.

    Args:
        facts: of the host.
        found: the verdicts by name.
        down: upstreams that are down.
    """
    down = list(down)
    core = tuple(name for name in down if name in _CORE)
    nodes = tuple(name for name in down if name in ev.NODES)

    def failed(check: str) -> bool:
        return check in found and found[check]["verdict"] == "fail"

    def trigger(check: str, explained_by: tuple[str, ...]) -> Trigger:
        item = found[check]
        return Trigger(check, item["evidence"], explained_by, str(ev.as_map(item.get("data")).get("excused") or ""))

    held: dict[str, list[Trigger]] = {name: [] for name in SCENARIOS}
    for check, service in (("health", "backend"), ("frontend", "frontend")):
        why = _dead(facts, found, check, service)
        if why:
            held["emergency"].append(Trigger(check, why, core))
    if failed("error_rate"):
        # Proven over the threshold where no GPU node is asked: then the nodes don't explain it.
        outside = failed("error_rate_elsewhere")
        held["emergency"].append(trigger("error_rate", core if outside else core + nodes))
    if failed("response_time"):
        held["emergency"].append(trigger("response_time", core + nodes))
    if failed("agent_failures"):
        outside = failed("agent_failures_elsewhere")
        ollama = tuple(name for name in nodes if name == "ollama" or not outside)
        held["function"].append(trigger("agent_failures", core + ollama))
    if failed("router"):
        held["function"].append(trigger("router", core + nodes))
    if failed("slowdown"):
        held["performance"].append(trigger("slowdown", core + nodes))
    held["performance"] += [trigger(check, core) for check in ("cpu", "memory") if failed(check)]
    if facts.get("scenario") == "security":
        held["security"].append(Trigger("said", "said by a person: -e scenario=security"))
    return {name: items for name, items in held.items() if items}


def curable(items: Iterable[Trigger]) -> bool:
    """Whether a rollback may cure a scenario: one of its triggers is explained by nothing else."""
    return any(not item.explained_by and not item.excused for item in items)


def flapping(facts: Facts) -> str:
    """Say that the last rollback ended too short a time ago to roll back again, or return nothing.

    What was deployed after it is another release, and may be rolled back at once.
    """
    run, runs = ev.last_run(facts), ev.as_map(facts.get("runs"))
    minutes = ev.number(facts.get("min_interval_minutes"))
    minutes = 30.0 if minutes is None else minutes
    ended, now = ev.number(ev.as_map(run).get("ended_at")), ev.number(runs.get("now"))
    if run is None or ended is None or now is None or now - ended >= 60 * minutes:
        return ""
    left_at = ev.as_map(run.get("from" if run["outcome"] == "reverted" else "to")).get("commit")
    current = ev.as_map(ev.as_map(facts.get("release")).get("current")).get("commit")
    if current and left_at and current != left_at:
        return ""
    wait = max(1, math.ceil((60 * minutes - (now - ended)) / 60))
    return (
        f"the last rollback {ev.run_text(run, now)}, and it still fails: another one would flap. Look for a cause "
        f"outside the release, and assess again in {wait} min; to go on all the same, add "
        "-e assess_min_interval_minutes=0"
    )


class Way(NamedTuple):
    """The release to go to and the level that leads there; without a target, why."""

    target: str | None
    level: int | None
    evidence: str


def way(facts: Facts) -> Way:
    """Choose the release to go back to, and the level that its schema calls for."""
    release = ev.as_map(facts.get("release"))
    current, target = ev.as_map(release.get("current")), ev.as_map(facts.get("target"))
    if not target.get("tag"):
        problems = [item for item in facts.get("target_problems") or [] if isinstance(item, Mapping)]
        if problems:
            return Way(None, None, f"{problems[0].get('message')}. {problems[0].get('cure')}")
        if not current.get("commit"):
            return Way(None, None, f"the releases could not be read: {release.get('msg') or 'no answer'}")
        return Way(
            None,
            None,
            "there is no earlier release here that is not known as bad. Fetch the tags (git fetch --tags in the "
            "clone), name one by -e target_tag=TAG, or mend it forward by a hotfix",
        )
    tag = str(target["tag"])
    if (ev.number(target.get("date")) or 0) > (ev.number(current.get("date")) or 0):
        return Way(None, None, f"{tag} is newer than what runs: deploy it instead of rolling back")
    schema = ev.results(facts).get("database")
    needs = {
        "alembic_heads": target.get("alembic_heads") or [],
        **{k: target.get(k) for k in ("tag", "date", "commit")},
    }
    runs = {"alembic_heads": current.get("alembic_heads") or [], "date": current.get("date")}
    refusal = _plan.schema_refusal(runs, needs, schema if isinstance(schema, Mapping) else None)
    if refusal is None and isinstance(schema, Mapping):
        return Way(tag, 1, f"{tag} runs on the schema that the database has")
    if refusal is not None and refusal["code"] == "schema":
        return Way(tag, 3, refusal["message"])
    return Way(tag, 1, f"which schema the database has is not known; Level 1 refuses where {tag} can't run on it")


def _command(facts: Facts, playbook: str, *variables: str) -> str:
    words = ["ansible-playbook", "-i", str(facts.get("inventory") or "INVENTORY"), f"playbooks/{playbook}.yml"]
    for variable in variables:
        words += ["-e", variable]
    return " ".join(words)


_SCENARIO_KO = {
    "security": "보안",
    "emergency": "긴급",
    "function": "기능",
    "performance": "성능",
    "none": "해당 없음",
}
_UPSTREAM_KO = {
    "database": "데이터베이스",
    "redis": "Redis",
    "objects": "오브젝트 스토어",
    "ollama": "Ollama",
    "comfyui": "ComfyUI",
}


def _scenario(name: str, items: Sequence[Trigger]) -> dict[str, Any]:
    vetoes = sorted({upstream for item in items for upstream in item.explained_by})
    return {
        "name": name,
        "evidence": [item.evidence for item in items],
        "checks": [item.check for item in items],
        "curable": curable(items),
        "vetoed_by": [] if curable(items) else vetoes,
    }


def _hints(facts: Facts, found: Verdicts, rolls_back: bool, down: Mapping[str, str]) -> list[str]:
    hints = []
    configuration = found["configuration"]
    if configuration["data"].get("in_force"):
        hints.append(f"configuration {configuration['evidence']}, if the trouble began then")
    if rolls_back and ev.as_map(ev.as_map(facts.get("release")).get("current")).get("dirty"):
        hints.append("tracked files have uncommitted changes: Level 1 takes -e rollback_save_changes=true to keep them")
    if rolls_back:
        hints += [f"also down: {name} ({evidence}); {REPAIRS[name]}" for name, evidence in down.items()]
    return hints


def assess(facts: Facts) -> dict[str, Any]:
    """Decide for one host.

    Args:
        facts: ``host``, ``scenario`` (``security`` where a person said so), ``results`` (what the modules returned, by
            check) and ``measured`` (the same, in the background), ``checks`` (those required), ``processes`` (of
            ``service_process``), ``database_port`` (``open``), ``release`` and ``target`` with ``target_problems`` (of
            ``release_info``), ``runs`` (of ``run_info``), ``environment`` (files of ``env_file_info``), ``baselines``
            (``own``, ``other``), ``limits``, ``min_interval_minutes``, ``lock_stale_after``, ``inventory``. Any of them
            may be missing.

    Returns:
        ``recommendation``, ``scenario`` and ``scenarios``, ``level`` and ``target`` of a rollback, ``command`` to type,
        ``vetoes``, ``message`` and ``message_ko``, ``hints``, ``confidence``, and ``evidence``: all verdicts.
    """
    evidence = ev.verdicts(facts)
    found = {item["name"]: item for item in evidence}
    down = _down(facts, found)
    held = triggers(facts, found, down)
    # Of several, the one to act on: the first that a rollback cures.
    names = [name for name in SCENARIOS if name in held]
    main = next((name for name in names if curable(held[name])), names[0] if names else "none")
    unclear = [item["name"] for item in evidence if item["verdict"] in ("inconclusive", "error") and item["critical"]]
    unclear += [name for name in ev.NODES if name in found and found[name]["verdict"] in ("inconclusive", "error")]
    result: dict[str, Any] = {
        "host": facts.get("host"),
        "scenario": main,
        "scenarios": [_scenario(name, held[name]) for name in names],
        "level": None,
        "target": None,
        "command": _command(facts, "assess"),
        "vetoes": [],
        "unclear": unclear,
        "confidence": "medium" if unclear else "high",
        "evidence": evidence,
    }
    why = "; ".join(item.evidence for item in held.get(main, []))

    def conclude(recommendation: str, message: str, korean: str, **more: Any) -> dict[str, Any]:
        hints = _hints(facts, found, recommendation == "rollback", down)
        return {
            **result,
            "recommendation": recommendation,
            "message": _verdict.one_line(message, 800),
            "message_ko": korean,
            "hints": hints,
            **more,
        }

    def vetoes(names: Iterable[str]) -> list[dict[str, str]]:
        return [{"name": name, "evidence": down[name], "repair": REPAIRS[name]} for name in names]

    if ev.under_way(facts):
        return conclude(
            "watch",
            f"{found['runs']['evidence']}: wait for it to end",
            "롤백이 진행 중입니다. 끝난 뒤 다시 판단하세요.",
        )
    if ev.as_map(ev.as_map(facts.get("runs")).get("unfinished")):
        return conclude(
            "resume",
            f"{found['runs']['evidence']}: it comes first",
            "중단된 롤백이 있습니다. 먼저 복구(resume)하세요.",
            command=_command(facts, "resume"),
        )
    if main != "none" and curable(held[main]):
        too_soon = "" if main == "security" else flapping(facts)
        if too_soon:
            return conclude(
                "no_rollback",
                f"{main}: {why}; but {too_soon}",
                "방금 롤백했으므로 다시 롤백하지 않습니다. 릴리스 밖의 원인을 찾으세요.",
            )
        route = way(facts)
        if route.target is None:
            return conclude(
                "no_rollback",
                f"{main}: {why}; but {route.evidence}",
                "되돌아갈 정상 릴리스가 없습니다. 태그를 가져오거나 핫픽스로 복구하세요.",
            )
        return conclude(
            "rollback",
            f"{main}: {why}; Level {route.level}, since {route.evidence}",
            f"{_SCENARIO_KO[main]} 롤백 필요: 레벨 {route.level}, {route.target} 버전으로",
            level=route.level,
            target=route.target,
            command=_command(facts, f"level{route.level}", f"target_tag={route.target}"),
            vetoes=vetoes(down) if main == "security" else [],
        )
    explaining = sorted({up for items in held.values() for item in items for up in item.explained_by} or down)
    if explaining:
        repair = "; ".join(f"{REPAIRS[name]} ({down[name]})" for name in explaining)
        what = f"{main}: {why}; but" if main != "none" else "no scenario holds, but"
        return conclude(
            "no_rollback",
            f"{what} {' and '.join(explaining)} can't be used, which no rollback cures: {repair}; then assess again",
            f"롤백으로 해결되지 않습니다. {', '.join(_UPSTREAM_KO[name] for name in explaining)} 복구가 먼저입니다.",
            vetoes=vetoes(explaining),
        )
    if main != "none":
        excuses = {item.excused for item in held[main]}
        if "elsewhere" in excuses:
            return conclude(
                "no_rollback",
                f"{main}: {why}; the code is what it was when it was fast: look at the database, the nodes, and "
                "what was configured or filled up since",
                "같은 릴리스가 전에는 빨랐으므로 롤백은 소용없습니다. 데이터베이스, 노드, 설정 변경을 확인하세요.",
            )
        if "load" in excuses:
            return conclude(
                "no_rollback",
                f"{main}: {why}; a rollback takes no load away: find what makes it, shed it or add capacity",
                "릴리스가 아니라 부하 때문에 느립니다. 롤백 대신 부하를 줄이거나 용량을 늘리세요.",
            )
        return conclude("watch", f"{main}: {why}; watch it", "부하가 높지만 응답은 정상입니다. 지켜보세요.")
    bad = [item for item in evidence if item["critical"] and item["verdict"] == "fail"]
    if unclear or bad or not ev.required(facts):
        shown = "; ".join(f"{item['name']}: {item['evidence']}" for item in [*bad, *(found[name] for name in unclear)])
        return conclude(
            "unknown",
            f"undecided: {shown or 'nothing was measured'}",
            "판단할 수 없습니다. 근거가 부족합니다 (정상이라는 뜻이 아님).",
            confidence="low",
        )
    return conclude("healthy", "every check passed; nothing to do", "정상입니다. 롤백이 필요하지 않습니다.", command="")


def unassessed(host: str, why: str) -> dict[str, Any]:
    """Return the result for a host that could not be assessed at all."""
    text = _verdict.one_line(why).removeprefix("Task failed: ") or "no reason was given"
    return {
        "host": host,
        "recommendation": "unassessed",
        "scenario": "none",
        "scenarios": [],
        "level": None,
        "target": None,
        "command": "",
        "vetoes": [],
        "unclear": [],
        "confidence": "low",
        "message": f"could not be assessed: {text}",
        "message_ko": "판단하지 못했습니다. 접속과 설정을 확인하세요.",
        "hints": [],
        "evidence": [_verdict.make("host", "error", text)],
    }


def overall(results: Mapping[str, Facts | None]) -> dict[str, Any]:
    """Return what holds for all hosts together: the worst of them decides, and is named.

    Args:
        results: name of a host to what ``assess`` returned for it, None where it came to no result.

    Returns:
        The statistic ``sparklio_rollback`` of an assessment, with ``exit_code``.
    """
    ranked = sorted(
        (item or unassessed(host, "it went away while it was assessed") for host, item in results.items()),
        key=lambda item: RECOMMENDATIONS.index(item["recommendation"]),
    ) or [unassessed("all", "the inventory has no host to assess")]
    worst = ranked[0]
    keys = ("recommendation", "scenario", "scenarios", "target", "command", "vetoes", "hints", "confidence", "unclear")
    recommendation = worst["recommendation"]
    on = f"{worst['host']}: " if len(ranked) > 1 else ""
    return {
        "level": "assess",
        **{key: worst[key] for key in keys},
        "rollback_level": worst["level"],
        "host": worst["host"],
        "message": f"{on}{worst['message']}",
        "message_ko": f"{on}{worst['message_ko']}",
        "verdict": _VERDICTS.get(recommendation, "fail"),
        "verdicts": worst["evidence"],
        "hosts": {str(item["host"]): dict(item) for item in ranked},
        "exit_code": EXIT_CODES[recommendation],
    }
