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

from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram, _plan, _verdict

Facts = Mapping[str, Any]
Verdicts = Mapping[str, Mapping[str, Any]]

#: What must pass before a system is called healthy. Each can be switched off by ``facts["checks"]``.
CHECKS = (
    "health", "frontend", "router", "database", "redis", "objects", "ollama", "comfyui",
    "error_rate", "agent_failures", "response_time", "slowdown", "cpu", "memory",
)  # fmt: skip

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
_NODES = ("ollama", "comfyui")

#: A file that was written so soon after a checkout belongs to that deployment, in seconds.
_DEPLOYMENT = 600.0

_DEFAULT_LIMITS = {
    "response_seconds": 30.0,
    "mean_seconds": 3.0,
    "slowdown_ratio": 2.0,
    "slowdown_floor_seconds": 0.5,
    "traffic_ratio": 2.0,
    "cpu_percent": 90.0,
    "memory_percent": 90.0,
}


class Trigger(NamedTuple):
    """One condition of the runbook that holds."""

    check: str
    evidence: str
    #: Upstreams that are down and explain it.
    explained_by: tuple[str, ...] = ()
    #: What else explains it: ``load`` (more traffic, other work on the host) or ``unfelt`` (users notice nothing).
    excused: str = ""


def _map(value: Any) -> Facts:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _limit(facts: Facts, name: str) -> float:
    value = _number(_map(facts.get("limits")).get(name))
    return _DEFAULT_LIMITS[name] if value is None else value


def _release_name(release: Any) -> str:
    release = _map(release)
    return str(release.get("tag") or str(release.get("commit") or "")[:12] or "an unknown release")


def _ago(seconds: float) -> str:
    minutes = max(0.0, seconds) / 60
    if minutes < 1:
        return "less than a minute ago"
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"


# What was measured, as verdicts

#: What Ansible adds to the result of a task that ran in the background.
_BACKGROUND = ("ansible_job_id", "results_file", "started", "finished", "erased", "stdout", "stderr", "stdout_lines",
               "stderr_lines", "item", "ansible_loop_var", "attempts")  # fmt: skip

_LATE = {"verdict": "inconclusive", "evidence": "not waited for: other evidence had decided"}


def results(facts: Facts) -> dict[str, Facts]:
    """Return what the modules returned, by check, with what was measured in the background among it."""
    found = {name: result for name, result in _map(facts.get("results")).items() if isinstance(result, Mapping)}
    for result in facts.get("measured") or []:
        name = _map(_map(result).get("item")).get("name")
        if not name:
            continue
        found[name] = {key: value for key, value in result.items() if key not in _BACKGROUND}
        if "verdict" not in result and result.get("finished") in (0, False):
            found[name] = {**_LATE}
    return found


def _process(facts: Facts, name: str) -> Facts:
    """Return what was seen of the process of a service."""
    seen = [item for item in facts.get("processes") or [] if _map(_map(item).get("item")).get("name") == name]
    return seen[0] if seen else {}


def per_second(count: Any, seconds: Any) -> float | None:
    """Return requests a second, or None where that can't be said."""
    number, span = _number(count), _number(seconds)
    return number / span if number is not None and span else None


def _busier(facts: Facts, baseline: Facts) -> str:
    """Say that there is far more traffic than the baseline was made with, or return nothing."""
    latency = _map(results(facts).get("response_time"))
    now = per_second(latency.get("count"), latency.get("seconds"))
    before = per_second(baseline.get("requests"), baseline.get("window_seconds"))
    if now is None or not before or now < _limit(facts, "traffic_ratio") * before:
        return ""
    return f"{now:.1f} requests/s, {now / before:.1f} times those of the baseline"


def _slower(facts: Facts, mean: float, baseline: Facts) -> tuple[bool, float] | None:
    """Return whether the mean is too far over that of a baseline, and the ratio."""
    before = _number(baseline.get("mean_seconds"))
    if not before or before <= 0:
        return None
    limit, _words = _histogram.slower_than(
        before, _limit(facts, "slowdown_ratio"), _limit(facts, "slowdown_floor_seconds")
    )
    return mean >= limit, mean / before


def _baselines(facts: Facts) -> tuple[Facts, Facts]:
    """Return the baseline of the release that runs, and that of another one."""
    known = _map(facts.get("baselines"))
    own, other = _map(known.get("own")), _map(known.get("other"))
    return own, {} if own and other.get("commit") == own.get("commit") else other


def slowdown(facts: Facts) -> dict[str, Any]:
    """Compare the mean response time with the baselines: ``own`` of the release that runs, ``other`` of another one.

    A release that was fast when its own baseline was made, and is slow now, was not made slow by its code.
    """
    latency = _map(results(facts).get("response_time"))
    mean, verdict = _number(latency.get("mean_seconds")), latency.get("verdict")
    if mean is None or verdict not in ("pass", "fail"):
        kind = "error" if verdict == "error" else "inconclusive"
        return _verdict.make("slowdown", kind, latency.get("evidence") or "the response time was not measured")
    own, other = _baselines(facts)
    against_own, against_other = _slower(facts, mean, own), _slower(facts, mean, other)
    reference, compared = (other, against_other) if against_other else (own, against_own)
    if compared is None:
        cap = _limit(facts, "mean_seconds")
        side = "under" if mean < cap else "over"
        return _verdict.make(
            "slowdown",
            "inconclusive",
            f"mean {mean:.3g} s, {side} the checklist's {cap:g} s; there is no baseline to compare it with: make one "
            "while the system is well, by ansible-playbook -i INVENTORY playbooks/baseline.yml",
            # Under the absolute limit, a comparison that nobody prepared does not stand against a healthy system.
            critical=mean >= cap,
            felt=mean >= cap,
        )
    over, ratio = compared
    evidence = (
        f"mean {mean:.3g} s, {ratio:.1f} times the {_number(reference.get('mean_seconds')):.3g} s of "
        f"{_release_name(reference)} (limit {_limit(facts, 'slowdown_ratio'):g} times, and "
        f"{_limit(facts, 'slowdown_floor_seconds'):g} s)"
    )
    if not over:
        return _verdict.make("slowdown", "pass", evidence, felt=False)
    busier = _busier(facts, own) or _busier(facts, other)
    excused = ""
    if against_own and against_own[0]:
        excused = "load"
        evidence += f"; slow by load: the same release took {_number(own.get('mean_seconds')):.3g} s before"
    elif busier:
        excused = "load"
    if busier:
        evidence += f"; slow by load: {busier}"
    if not excused:
        evidence += "; slow by release: the traffic is no more than then"
    return _verdict.make("slowdown", "fail", evidence, felt=True, excused=excused)


def load_verdicts(facts: Facts, slow: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge CPU and memory, and say whether the release or the load explains them.

    Args:
        facts: of the host.
        slow: the verdict of ``slowdown``, which says whether anybody feels it.
    """
    load = _map(results(facts).get("load"))
    own, other = _baselines(facts)
    found = []
    for name, key, shown in (("cpu", "cpu_percent", "CPU"), ("memory", "memory_percent", "memory")):
        value, limit = _number(load.get(key)), _limit(facts, key)
        if value is None:
            why = load.get("msg") or load.get("evidence") or "not measured"
            found.append(_verdict.make(name, "inconclusive" if load == _LATE else "error", f"{shown}: {why}"))
            continue
        evidence, excused = f"{shown} {value:.0f} %, limit {limit:g} %", ""
        if value < limit:
            found.append(_verdict.make(name, "pass", evidence))
            continue
        busier = _busier(facts, own) or _busier(facts, other)
        before = _number(other.get(key))
        lately = _number(own.get(key))
        if busier:
            excused, evidence = "load", f"{evidence}; {busier}"
        elif lately is not None and lately < limit:
            excused, evidence = "load", f"{evidence}; the same release used {lately:.0f} % before"
        elif before is not None and before >= limit - 10:
            excused, evidence = "load", f"{evidence}; it was {before:.0f} % with {_release_name(other)} too"
        elif name == "cpu" and slow["verdict"] != "fail" and slow["data"].get("felt") is False:
            excused, evidence = "unfelt", f"{evidence}; the answers are not slow"
        found.append(_verdict.make(name, "fail", evidence, excused=excused))
    return found


def _release_verdict(facts: Facts) -> dict[str, Any]:
    release = _map(facts.get("release"))
    current = _map(release.get("current"))
    if not current.get("commit"):
        return _verdict.make("release", "error", release.get("msg") or "the releases could not be read")
    known = ", ".join(str(item.get("tag")) for item in release.get("last_good") or [] if isinstance(item, Mapping))
    bad = current.get("tag") and current["tag"] in (release.get("bad_releases") or [])
    text = f"{_release_name(current)} is checked out" + (", which an earlier rollback left as bad" if bad else "")
    return _verdict.make("release", "pass", f"{text}; earlier releases: {known or 'none'}")


def _runs_verdict(facts: Facts) -> dict[str, Any]:
    runs = _map(facts.get("runs"))
    if _number(runs.get("now")) is None:
        return _verdict.make("runs", "error", runs.get("msg") or "the journals could not be read")
    if _under_way(facts):
        holder = runs["holder"]
        return _verdict.make(
            "runs", "inconclusive", f"run {holder.get('run_id')} of {holder.get('owner')} is under way"
        )
    if _map(runs.get("unfinished")):
        cut = runs["unfinished"]
        return _verdict.make(
            "runs", "fail", f"run {cut.get('run_id')} was cut off in act {cut.get('act')} with {cut.get('pending')} "
            "step(s) neither finished nor undone"
        )  # fmt: skip
    last = _last_run(facts)
    if last is None:
        return _verdict.make("runs", "pass", "no earlier rollback")
    return _verdict.make("runs", "pass", f"the last rollback {_run_text(last, runs['now'])}")


def _configuration_verdict(facts: Facts) -> dict[str, Any]:
    """Say which environment files changed since the deployment. Only a hint: it decides nothing."""
    files = [item for item in facts.get("environment") or [] if isinstance(item, Mapping)]
    deployed = _number(_map(_map(facts.get("release")).get("current")).get("checked_out_at"))
    started = _number(_process(facts, "backend").get("serving_since"))
    now = _number(_map(facts.get("runs")).get("now"))
    changed, waiting = [], []
    for item in files:
        modified = _number(item.get("modified"))
        if modified is None or deployed is None or modified <= deployed + _DEPLOYMENT:
            continue
        late = started is not None and modified > started
        (waiting if late else changed).append(f"{item.get('path')} ({_ago((now or modified) - modified)})")
    if changed:
        evidence = f"changed after the release was checked out: {', '.join(changed)}; Level 2 would undo that"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False)
    if waiting:
        evidence = f"changed after the process began, so not in force: {', '.join(waiting)}"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False)
    if not files or deployed is None:
        evidence = "when the files changed, or the release, is not known"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False)
    return _verdict.make("configuration", "pass", "not changed since the release was checked out", critical=False)


def verdicts(facts: Facts) -> list[dict[str, Any]]:
    """Return one verdict for each check, and for the releases, the runs and the configuration.

    A check that is required and was not made is inconclusive, never left out.
    """
    plain = {name: result for name, result in results(facts).items() if name not in ("load", "slowdown")}
    found = {item["name"]: item for item in _verdict.from_results(plain, noncritical=_NODES)}
    slow = slowdown(facts)
    for item in (slow, *load_verdicts(facts, slow)):
        found[item["name"]] = item
    required = _required(facts)
    made = [
        found.get(name) or _verdict.make(name, "inconclusive", "not measured", critical=name not in _NODES)
        for name in required
    ]
    extra = [item for name, item in found.items() if name not in CHECKS]
    return [*made, *extra, _release_verdict(facts), _runs_verdict(facts), _configuration_verdict(facts)]


def _required(facts: Facts) -> list[str]:
    chosen = facts.get("checks")
    return [name for name in CHECKS if chosen is None or name in chosen]


# What holds


def _down(facts: Facts, found: Verdicts) -> dict[str, str]:
    """Return the upstreams that are known to be down, each with the evidence.

    One that could not be asked, because its address is missing or the application's Python, is not known to be down.
    """
    down = {}
    known_results = results(facts)
    for name in (*_CORE, *_NODES):
        item = found.get(name)
        if item is None or item["verdict"] not in ("fail", "error"):
            continue
        result, known = _map(known_results.get(name)), True
        if name == "database":
            # A server that takes connections is up, whatever keeps the application from asking it. Where its port is
            # not known, the application must have come as far as to ask.
            listens = _map(facts.get("database_port")).get("open")
            asked = result.get("tree_heads") is not None
            known = result.get("connected") is False and (asked if listens is None else not listens)
        elif name in _CORE:
            known = item["verdict"] == "fail" or bool(result.get("server"))
        if known:
            down[name] = item["evidence"]
    return down


def _dead(facts: Facts, found: Verdicts, check: str, process: str) -> str:
    """Say that a service is down, hangs or answers badly, or return nothing.

    No answer alone says nothing: it takes that nothing listens, or that it kept us waiting for as long as an emergency.
    """
    item = found.get(check)
    if item is None or item["verdict"] not in ("fail", "error"):
        return ""
    if item["verdict"] == "fail":
        return item["evidence"]
    seen = _process(facts, process)
    if seen.get("running") is False and not seen.get("conflict"):
        return f"nothing listens on its port: {item['evidence']}"
    waited = _number(_map(item.get("data")).get("seconds"))
    if waited is not None and waited >= _limit(facts, "response_seconds"):
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
    nodes = tuple(name for name in down if name in _NODES)

    def failed(check: str) -> bool:
        return check in found and found[check]["verdict"] == "fail"

    def trigger(check: str, explained_by: tuple[str, ...]) -> Trigger:
        item = found[check]
        return Trigger(check, item["evidence"], explained_by, str(_map(item.get("data")).get("excused") or ""))

    held: dict[str, list[Trigger]] = {name: [] for name in SCENARIOS}
    for check, process in (("health", "backend"), ("frontend", "frontend")):
        why = _dead(facts, found, check, process)
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


# Earlier runs


def _under_way(facts: Facts) -> bool:
    runs = _map(facts.get("runs"))
    age = _number(_map(runs.get("holder")).get("age"))
    return age is not None and age < (_number(facts.get("lock_stale_after")) or 300.0)


def _last_run(facts: Facts) -> Facts | None:
    """The newest rollback that changed something and came to its end, or None. A run to a newer release is none."""
    for run in _map(facts.get("runs")).get("runs") or []:
        if not isinstance(run, Mapping) or run.get("outcome") not in ("rolled_back", "held", "reverted"):
            continue
        left, reached = _map(run.get("from")), _map(run.get("to"))
        return run if reached and (_number(reached.get("date")) or 0) <= (_number(left.get("date")) or 0) else None
    return None


def _run_text(run: Facts, now: Any) -> str:
    ended = _number(run.get("ended_at"))
    when = _ago(float(now) - ended) if ended is not None else "at an unknown time"
    what = {
        "rolled_back": f"went to {_release_name(run.get('to'))}",
        "held": f"went to {_release_name(run.get('to'))} and was held",
        "reverted": f"to {_release_name(run.get('to'))} failed and was undone",
    }[run["outcome"]]
    return f"{what}, {when} (run {run.get('run_id')})"


def flapping(facts: Facts) -> str:
    """Say that the last rollback ended too short a time ago to roll back again, or return nothing.

    What was deployed after it is another release, and may be rolled back at once.
    """
    run, runs = _last_run(facts), _map(facts.get("runs"))
    minutes = _number(facts.get("min_interval_minutes"))
    minutes = 30.0 if minutes is None else minutes
    ended, now = _number(_map(run).get("ended_at")), _number(runs.get("now"))
    if run is None or ended is None or now is None or now - ended >= 60 * minutes:
        return ""
    left_at = _map(run.get("from" if run["outcome"] == "reverted" else "to")).get("commit")
    current = _map(_map(facts.get("release")).get("current")).get("commit")
    if current and left_at and current != left_at:
        return ""
    wait = max(1, math.ceil((60 * minutes - (now - ended)) / 60))
    return (
        f"the last rollback {_run_text(run, now)}, and it still fails: another one would flap. Look for a cause "
        f"outside the release, and assess again in {wait} min; to go on all the same, add "
        "-e assess_min_interval_minutes=0"
    )


# Where to


class Way(NamedTuple):
    """The release to go to and the level that leads there; without a target, why."""

    target: str | None
    level: int | None
    evidence: str


def way(facts: Facts) -> Way:
    """Choose the release to go back to, and the level that its schema calls for."""
    release = _map(facts.get("release"))
    current, target = _map(release.get("current")), _map(facts.get("target"))
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
    if (_number(target.get("date")) or 0) > (_number(current.get("date")) or 0):
        return Way(None, None, f"{tag} is newer than what runs: deploy it instead of rolling back")
    schema = results(facts).get("database")
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


# The conclusion

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


def _scenario_list(held: Mapping[str, Sequence[Trigger]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "evidence": [item.evidence for item in held[name]],
            "checks": [item.check for item in held[name]],
            "vetoed_by": sorted({up for item in held[name] for up in item.explained_by})
            if not curable(held[name])
            else [],
            "curable": curable(held[name]),
        }
        for name in SCENARIOS
        if name in held
    ]


def _hints(facts: Facts, found: Verdicts, rolls_back: bool, down: Mapping[str, str]) -> list[str]:
    hints = []
    configuration = found["configuration"]
    if "Level 2" in configuration["evidence"]:
        hints.append(f"configuration {configuration['evidence']}, if the trouble began then")
    if rolls_back and _map(_map(facts.get("release")).get("current")).get("dirty"):
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
    evidence = verdicts(facts)
    found = {item["name"]: item for item in evidence}
    down = _down(facts, found)
    held = triggers(facts, found, down)
    # Of several, the one to act on: the first that a rollback cures.
    names = [name for name in SCENARIOS if name in held]
    main = next((name for name in names if curable(held[name])), names[0] if names else "none")
    unclear = [item["name"] for item in evidence if item["verdict"] in ("inconclusive", "error") and item["critical"]]
    unclear += [name for name in _NODES if name in found and found[name]["verdict"] in ("inconclusive", "error")]
    result: dict[str, Any] = {
        "host": facts.get("host"),
        "scenario": main,
        "scenarios": _scenario_list(held),
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

    if _under_way(facts):
        return conclude(
            "watch",
            f"{found['runs']['evidence']}: wait for it to end",
            "롤백이 진행 중입니다. 끝난 뒤 다시 판단하세요.",
        )
    if _map(_map(facts.get("runs")).get("unfinished")):
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
        if any(item.excused == "load" for item in held[main]):
            return conclude(
                "no_rollback",
                f"{main}: {why}; a rollback takes no load away: find what makes it, shed it or add capacity",
                "릴리스가 아니라 부하 때문에 느립니다. 롤백 대신 부하를 줄이거나 용량을 늘리세요.",
            )
        return conclude("watch", f"{main}: {why}; watch it", "부하가 높지만 응답은 정상입니다. 지켜보세요.")
    bad = [item for item in evidence if item["critical"] and item["verdict"] == "fail"]
    if unclear or bad or not _required(facts):
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
