# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an assessment rests on: everything that was asked, measured and read of one host, as verdicts.

Nothing here decides what to do; that is done in ``_assess.py``. Any fact may be missing or of the wrong kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram, _verdict

Facts = Mapping[str, Any]

#: What must pass before a system is called healthy. Each can be switched off by ``facts["checks"]``.
CHECKS = (
    "health", "frontend", "router", "database", "redis", "objects", "ollama", "comfyui",
    "error_rate", "agent_failures", "response_time", "slowdown", "cpu", "memory",
)  # fmt: skip

#: GPU nodes: the runbook calls them non-critical.
NODES = ("ollama", "comfyui")

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


def as_map(value: Any) -> Facts:
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def limit(facts: Facts, name: str) -> float:
    value = number(as_map(facts.get("limits")).get(name))
    return _DEFAULT_LIMITS[name] if value is None else value


def release_name(release: Any) -> str:
    release = as_map(release)
    return str(release.get("tag") or str(release.get("commit") or "")[:12] or "an unknown release")


def _ago(seconds: float) -> str:
    minutes = max(0.0, seconds) / 60
    if minutes < 1:
        return "less than a minute ago"
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"


#: What Ansible adds to the result of a task that ran in the background.
_BACKGROUND = ("ansible_job_id", "results_file", "started", "finished", "erased", "stdout", "stderr", "stdout_lines",
               "stderr_lines", "item", "ansible_loop_var", "attempts")  # fmt: skip

_LATE = {"verdict": "inconclusive", "evidence": "not waited for: other evidence had decided"}


def results(facts: Facts) -> dict[str, Facts]:
    """Return what the modules returned, by check, with what was measured in the background among it."""
    found = {name: result for name, result in as_map(facts.get("results")).items() if isinstance(result, Mapping)}
    for result in facts.get("measured") or []:
        name = as_map(as_map(result).get("item")).get("name")
        if not name:
            continue
        found[name] = {key: value for key, value in result.items() if key not in _BACKGROUND}
        if "verdict" not in result and result.get("finished") in (0, False):
            found[name] = {**_LATE}
    return found


def process(facts: Facts, name: str) -> Facts:
    """Return what was seen of the process of a service."""
    seen = [item for item in facts.get("processes") or [] if as_map(as_map(item).get("item")).get("name") == name]
    return seen[0] if seen else {}


def per_second(count: Any, seconds: Any) -> float | None:
    """Return requests a second, or None where that can't be said."""
    many, span = number(count), number(seconds)
    return many / span if many is not None and span else None


def _busier(facts: Facts, baseline: Facts) -> str:
    """Say that there is far more traffic than the baseline was made with, or return nothing."""
    latency = as_map(results(facts).get("response_time"))
    now = per_second(latency.get("count"), latency.get("seconds"))
    before = per_second(baseline.get("requests"), baseline.get("window_seconds"))
    if now is None or not before or now < limit(facts, "traffic_ratio") * before:
        return ""
    return f"{now:.1f} requests/s, {now / before:.1f} times those of the baseline"


def _hot(facts: Facts) -> str:
    """Say that the CPU is busy, or return nothing."""
    cpu = number(as_map(results(facts).get("load")).get("cpu_percent"))
    return f"CPU {cpu:.0f} %" if cpu is not None and cpu >= limit(facts, "cpu_percent") else ""


def _slower(facts: Facts, mean: float, baseline: Facts) -> tuple[bool, float] | None:
    """Return whether the mean is too far over that of a baseline, and the ratio."""
    before = number(baseline.get("mean_seconds"))
    if not before or before <= 0:
        return None
    most, _words = _histogram.slower_than(
        before, limit(facts, "slowdown_ratio"), limit(facts, "slowdown_floor_seconds")
    )
    return mean >= most, mean / before


def _baselines(facts: Facts) -> tuple[Facts, Facts]:
    """Return the baseline of the release that runs, and that of another one."""
    known = as_map(facts.get("baselines"))
    own, other = as_map(known.get("own")), as_map(known.get("other"))
    return own, {} if own and other.get("commit") == own.get("commit") else other


def slowdown(facts: Facts) -> dict[str, Any]:
    """Compare the mean response time with the baselines: ``own`` of the release that runs, ``other`` of another one.

    A release that was fast when its own baseline was made, and is slow now, was not made slow by its code.
    """
    latency = as_map(results(facts).get("response_time"))
    mean, verdict = number(latency.get("mean_seconds")), latency.get("verdict")
    if mean is None or verdict not in ("pass", "fail"):
        kind = "error" if verdict == "error" else "inconclusive"
        return _verdict.make("slowdown", kind, latency.get("evidence") or "the response time was not measured")
    own, other = _baselines(facts)
    against_own, against_other = _slower(facts, mean, own), _slower(facts, mean, other)
    # The other release says more, unless only the own one was faster.
    own_only = against_own and (against_other is None or (against_own[0] and not against_other[0]))
    reference, compared = (own, against_own) if own_only else (other, against_other)
    if compared is None:
        cap = limit(facts, "mean_seconds")
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
        f"mean {mean:.3g} s, {ratio:.1f} times the {number(reference.get('mean_seconds')):.3g} s of "
        f"{release_name(reference)} (limit {limit(facts, 'slowdown_ratio'):g} times, and "
        f"{limit(facts, 'slowdown_floor_seconds'):g} s)"
    )
    if not over:
        return _verdict.make("slowdown", "pass", evidence, felt=False)
    load = _busier(facts, own) or _busier(facts, other) or _hot(facts)
    before = f"the same release took {number(own.get('mean_seconds')):.3g} s before" if against_own else ""
    if against_own and against_own[0]:
        why = f"slow by load: {load}; {before}" if load else f"not slow by release: {before}"
        return _verdict.make(
            "slowdown", "fail", f"{evidence}; {why}", felt=True, excused="load" if load else "elsewhere"
        )
    busier = _busier(facts, other)
    why = f"slow by load: {busier}" if busier else "slow by release"
    return _verdict.make("slowdown", "fail", f"{evidence}; {why}", felt=True, excused="load" if busier else "")


def load_verdicts(facts: Facts, slow: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge CPU and memory, and say whether the release or the load explains them.

    Args:
        facts: of the host.
        slow: the verdict of ``slowdown``, which says whether anybody feels it.
    """
    load = as_map(results(facts).get("load"))
    own, other = _baselines(facts)
    found = []
    for name, key, shown in (("cpu", "cpu_percent", "CPU"), ("memory", "memory_percent", "memory")):
        value, most = number(load.get(key)), limit(facts, key)
        if value is None:
            why = load.get("msg") or load.get("evidence") or "not measured"
            found.append(_verdict.make(name, "inconclusive" if load in ({}, _LATE) else "error", f"{shown}: {why}"))
            continue
        evidence, excused = f"{shown} {value:.0f} %, limit {most:g} %", ""
        if value < most:
            found.append(_verdict.make(name, "pass", evidence))
            continue
        busier = _busier(facts, own) or _busier(facts, other)
        before = number(other.get(key))
        lately = number(own.get(key))
        if busier:
            excused, evidence = "load", f"{evidence}; {busier}"
        elif name == "cpu" and lately is not None and lately < most:
            # Not so for memory: a leak takes its time.
            excused, evidence = "load", f"{evidence}; the same release used {lately:.0f} % before"
        elif before is not None and before >= most - 10:
            excused, evidence = "load", f"{evidence}; it was {before:.0f} % with {release_name(other)} too"
        elif name == "cpu" and slow["verdict"] != "fail" and slow["data"].get("felt") is False:
            excused, evidence = "unfelt", f"{evidence}; the answers are not slow"
        found.append(_verdict.make(name, "fail", evidence, excused=excused))
    return found


def _release_verdict(facts: Facts) -> dict[str, Any]:
    release = as_map(facts.get("release"))
    current = as_map(release.get("current"))
    if not current.get("commit"):
        return _verdict.make("release", "error", release.get("msg") or "the releases could not be read")
    known = ", ".join(str(item.get("tag")) for item in release.get("last_good") or [] if isinstance(item, Mapping))
    bad = current.get("tag") and current["tag"] in (release.get("bad_releases") or [])
    text = f"{release_name(current)} is checked out" + (", which an earlier rollback left as bad" if bad else "")
    return _verdict.make("release", "pass", f"{text}; earlier releases: {known or 'none'}")


def _runs_verdict(facts: Facts) -> dict[str, Any]:
    runs = as_map(facts.get("runs"))
    if number(runs.get("now")) is None:
        return _verdict.make("runs", "error", runs.get("msg") or "the journals could not be read")
    if under_way(facts):
        holder = runs["holder"]
        return _verdict.make(
            "runs", "inconclusive", f"run {holder.get('run_id')} of {holder.get('owner')} is under way"
        )
    if as_map(runs.get("unfinished")):
        cut = runs["unfinished"]
        return _verdict.make(
            "runs", "fail", f"run {cut.get('run_id')} was cut off in act {cut.get('act')} with {cut.get('pending')} "
            "step(s) neither finished nor undone"
        )  # fmt: skip
    last = last_run(facts)
    if last is None:
        return _verdict.make("runs", "pass", "no earlier rollback")
    return _verdict.make("runs", "pass", f"the last rollback {run_text(last, runs['now'])}")


def _configuration_verdict(facts: Facts) -> dict[str, Any]:
    """Say which environment files changed since the deployment. Only a hint: it decides nothing."""
    files = [item for item in facts.get("environment") or [] if isinstance(item, Mapping)]
    deployed = number(as_map(as_map(facts.get("release")).get("current")).get("checked_out_at"))
    started = number(process(facts, "backend").get("serving_since"))
    now = number(as_map(facts.get("runs")).get("now"))
    changed, waiting = [], []
    for item in files:
        modified = number(item.get("modified"))
        if modified is None or deployed is None or modified <= deployed + _DEPLOYMENT:
            continue
        late = started is not None and modified > started
        (waiting if late else changed).append(f"{item.get('path')} ({_ago((now or modified) - modified)})")
    if changed:
        evidence = f"changed after the release was checked out: {', '.join(changed)}; Level 2 would undo that"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False, in_force=True)
    if waiting:
        evidence = f"changed after the process began, so not in force: {', '.join(waiting)}"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False)
    if not files or deployed is None:
        evidence = "when the files changed, or the release, is not known"
        return _verdict.make("configuration", "inconclusive", evidence, critical=False)
    return _verdict.make("configuration", "pass", "not changed since the release was checked out", critical=False)


def under_way(facts: Facts) -> bool:
    runs = as_map(facts.get("runs"))
    age = number(as_map(runs.get("holder")).get("age"))
    return age is not None and age < (number(facts.get("lock_stale_after")) or 300.0)


def last_run(facts: Facts) -> Facts | None:
    """The newest rollback that changed something and came to its end, or None. A run to a newer release is none."""
    for run in as_map(facts.get("runs")).get("runs") or []:
        if not isinstance(run, Mapping) or run.get("outcome") not in ("rolled_back", "held", "reverted"):
            continue
        left, reached = as_map(run.get("from")), as_map(run.get("to"))
        return run if reached and (number(reached.get("date")) or 0) <= (number(left.get("date")) or 0) else None
    return None


def run_text(run: Facts, now: Any) -> str:
    ended = number(run.get("ended_at"))
    when = _ago(float(now) - ended) if ended is not None else "at an unknown time"
    what = {
        "rolled_back": f"went to {release_name(run.get('to'))}",
        "held": f"went to {release_name(run.get('to'))} and was held",
        "reverted": f"to {release_name(run.get('to'))} failed and was undone",
    }[run["outcome"]]
    return f"{what}, {when} (run {run.get('run_id')})"


def verdicts(facts: Facts) -> list[dict[str, Any]]:
    """Return one verdict for each check, and for the releases, the runs and the configuration.

    A check that is required and was not made is inconclusive, never left out.
    """
    plain = {name: result for name, result in results(facts).items() if name not in ("load", "slowdown")}
    found = {item["name"]: item for item in _verdict.from_results(plain, noncritical=NODES)}
    slow = slowdown(facts)
    for item in (slow, *load_verdicts(facts, slow)):
        found[item["name"]] = item
    made = [
        found.get(name) or _verdict.make(name, "inconclusive", "not measured", critical=name not in NODES)
        for name in required(facts)
    ]
    extra = [item for name, item in found.items() if name not in CHECKS]
    return [*made, *extra, _release_verdict(facts), _runs_verdict(facts), _configuration_verdict(facts)]


def required(facts: Facts) -> list[str]:
    chosen = facts.get("checks")
    return [name for name in CHECKS if chosen is None or name in chosen]
