# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch after a rollback: what a window holds, whether it is good or bad, and what all windows come to.

A window is what the counters grew between two readings, so that no request falls between two windows, nor into a gap
while nobody watched. Where that is too little for a verdict, it is judged together with what follows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram as hg
from ansible_collections.sparklio.rollback.plugins.module_utils import _load
from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import Labels, Selector

VERSION = 1


#: What is judged apart, each as soon as there is enough of it: what grew adds up from window to window until then.
POOLS = ("errors", "agents", "latency")


class WatchError(Exception):
    """A series file that can't be used."""


class Instant(NamedTuple):
    """A moment on one host, in seconds: the wall clock, and the clock since its boot where that is known."""

    at: float
    mono: Optional[float] = None


class Process(NamedTuple):
    """One address at one moment: when its process began, the counters that are to be counted, and when those began."""

    started: Optional[float]
    requests: Mapping[Labels, float]
    agents: Mapping[Labels, float]
    latency: Mapping[hg.Key, float]
    created: Mapping[Labels, float] = MappingProxyType({})

    def to_json(self) -> dict[str, Any]:
        latency = [[labels, _bound(bound), value] for (labels, bound), value in self.latency.items()]
        return {
            "started": self.started,
            "requests": list(self.requests.items()),
            "agents": list(self.agents.items()),
            "latency": latency,
            "created": list(self.created.items()),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Process:
        requests, agents, created = (
            {_labels(labels): value for labels, value in data[field]} for field in ("requests", "agents", "created")
        )
        latency = {
            (_labels(labels), None if bound is None else float(bound)): value
            for labels, bound, value in data["latency"]
        }
        return cls(data["started"], requests, agents, latency, created)


class Reading(NamedTuple):
    """All addresses and the host at one moment."""

    instant: Instant
    processes: Mapping[str, Process]
    cpu: Optional[_load.Cpu] = None
    memory_percent: Optional[float] = None

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "processes": {url: process.to_json() for url, process in self.processes.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reading:
        processes = {url: Process.from_json(process) for url, process in data["processes"].items()}
        cpu = data["cpu"] and _load.Cpu(*data["cpu"])
        return cls(Instant(*data["instant"]), processes, cpu, data["memory_percent"])


class Counts(NamedTuple):
    """What grew in some time."""

    requests: float = 0.0
    errors: float = 0.0
    agent_runs: float = 0.0
    agent_failures: float = 0.0
    latency: hg.Histogram = hg.Histogram()

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.errors + other.errors,
            self.agent_runs + other.agent_runs,
            self.agent_failures + other.agent_failures,
            _joined(self.latency, other.latency),
        )

    def to_json(self) -> dict[str, Any]:
        bounds = [_bound(bound) for bound in self.latency.bounds]
        latency = {"bounds": bounds, "counts": list(self.latency.counts), "seconds": self.latency.seconds}
        return {**self._asdict(), "latency": latency}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        found = data["latency"]
        bounds = tuple(float(bound) for bound in found["bounds"])
        return cls(**{**data, "latency": hg.Histogram(bounds, tuple(found["counts"]), found["seconds"])})


def _bound(bound: float | None) -> float | str | None:
    """JSON knows no infinity."""
    return "+Inf" if bound is not None and math.isinf(bound) else bound


def _labels(pairs: Sequence[Sequence[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)


def _joined(one: hg.Histogram, other: hg.Histogram) -> hg.Histogram:
    """Add two histograms; where another release has other buckets, the later one counts."""
    if not one.bounds or not other.bounds or one.bounds != other.bounds:
        return other if other.bounds else one
    return hg.Histogram(one.bounds, tuple(map(add, one.counts, other.counts)), one.seconds + other.seconds)


class Load(NamedTuple):
    """Percent, or None where it is not known."""

    cpu_percent: float | None = None
    memory_percent: float | None = None


class Limits(NamedTuple):
    """What makes a window bad. None switches a limit off."""

    error_rate_percent: float | None = 5.0
    agent_failure_percent: float | None = 20.0
    mean_seconds: float | None = 3.0
    p95_seconds: float | None = 30.0
    baseline_ratio: float | None = 2.0
    baseline_floor_seconds: float = 0.5
    cpu_percent: float | None = 90.0
    memory_percent: float | None = 90.0
    min_requests: float = 20.0
    min_agent_runs: float = 5.0
    confidence_percent: float = 95.0
    warm_up_seconds: float = 60.0


class Rules(NamedTuple):
    """When the watch is over, and what it came to. Times in seconds."""

    duration: float = 1800.0
    window: float = 30.0
    bad_in_row: int = 3
    bad_total: int = 6
    errors_in_row: int = 4
    errors_total: int = 10
    recovered_after: int = 5
    until: str = "end"


class Tally(NamedTuple):
    """How many windows of each kind there were. ``recovered_at`` is None again after a relapse."""

    windows: int = 0
    good: int = 0
    bad: int = 0
    inconclusive: int = 0
    errors: int = 0
    good_in_row: int = 0
    bad_in_row: int = 0
    errors_in_row: int = 0
    recovered_at: Optional[float] = None

    def add(self, state: str, at: float, recovered_after: int) -> Tally:
        """Count one more window, which ended ``at`` seconds after the watch began.

        An inconclusive window leaves the rows as they are, and a reading that failed breaks only that of good ones:
        neither makes bad windows forgotten.
        """
        found = self._replace(windows=self.windows + 1, errors_in_row=0)
        if state == "good":
            row = self.good_in_row + 1
            found = found._replace(good=self.good + 1, good_in_row=row, bad_in_row=0)
            if row >= recovered_after and self.recovered_at is None:
                found = found._replace(recovered_at=at)
        elif state == "bad":
            found = found._replace(bad=self.bad + 1, bad_in_row=self.bad_in_row + 1, good_in_row=0, recovered_at=None)
        elif state == "inconclusive":
            found = found._replace(inconclusive=self.inconclusive + 1)
        elif state == "error":
            found = found._replace(errors=self.errors + 1, errors_in_row=self.errors_in_row + 1, good_in_row=0)
        else:
            raise ValueError(f"{state!r} is no state of a window")
        return found


class Judgement(NamedTuple):
    """A window's state, what is bad, why nothing can be said yet, and which of the POOLS had enough to be judged."""

    state: str
    breaches: list[dict[str, str]]
    undecided: str
    judged: frozenset[str]


def rules_problem(rules: Rules) -> str | None:
    """Say which setting makes no sense, or None."""
    if not 0 < rules.window <= rules.duration < math.inf:
        return "the window must be over 0 seconds, and the duration at least one window"
    if min(rules.bad_in_row, rules.bad_total, rules.errors_in_row, rules.errors_total, rules.recovered_after) < 1:
        return "the limits of bad windows and of failed readings, and recovered_after, must be at least 1"
    if rules.recovered_after * rules.window > rules.duration:
        return (
            f"{rules.recovered_after} good windows of {rules.window:g} s, which a recovery takes, do not fit into "
            f"{rules.duration:g} s; watch for longer, or ask for fewer (recovered_after)"
        )
    return None


def limits_problem(limits: Limits) -> str | None:
    """Say which limit makes no sense, or None."""
    if any(value is not None and not value >= 0 for value in limits):
        return "no limit can be negative"
    if not 50 <= limits.confidence_percent < 100:
        return "confidence_percent must be at least 50 and under 100"
    return None


def grown(before: Reading, now: Reading, failed_request: Selector, failed_run: Selector) -> tuple[Counts, int]:
    """Return what grew between two readings, and how many processes were replaced in between."""
    total = Counts()
    restarts = 0
    for url, process in now.processes.items():
        earlier = before.processes.get(url, Process(None, {}, {}, {}))
        restarts += None not in (earlier.started, process.started) and earlier.started != process.started
        requests = _rate(earlier.requests, process.requests, earlier, process, failed_request)
        runs = _rate(earlier.agents, process.agents, earlier, process, failed_run)
        try:
            latency = hg.grown([(_scrapes(earlier.latency, process.latency, earlier, process), False)])
        except hg.HistogramError:
            # Another release with other buckets began in between: the next window has a latency again.
            latency = hg.Histogram()
        total = total.plus(Counts(requests.total, requests.bad, runs.total, runs.bad, latency))
    return total, restarts


def _scrapes(before: Mapping, now: Mapping, earlier: Process, process: Process) -> list[er.Scrape]:
    return [er.Scrape(0.0, before, earlier.started), er.Scrape(1.0, now, process.started)]


def _rate(
    before: Mapping[Labels, float], now: Mapping[Labels, float], earlier: Process, process: Process, bad: Selector
) -> er.Rate:
    grown_by = er.increases(_scrapes(before, now, earlier, process))
    return er.rate(grown_by, [labels for labels in grown_by if bad.matches(dict(labels))])


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole > 0 else None


def figures(counts: Counts, seconds: float, load: Load) -> dict[str, Any]:
    """Return what a window shows; None where there was nothing to measure."""
    p95 = counts.latency.quantile(0.95)
    shown = {
        "requests": counts.requests,
        "requests_per_second": counts.requests / seconds if seconds > 0 else None,
        "error_rate_percent": _percent(counts.errors, counts.requests),
        "agent_runs": counts.agent_runs,
        "agent_failure_percent": _percent(counts.agent_failures, counts.agent_runs),
        "mean_seconds": counts.latency.mean,
        "p95_seconds": p95.seconds if p95 else None,
        "cpu_percent": load.cpu_percent,
        "memory_percent": load.memory_percent,
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in shown.items()}
    return {**rounded, "p95_at_least": bool(p95 and p95.at_least)}


def _share(what: str, bad: float, total: float, least: float, limit: float | None, limits: Limits) -> tuple[str, str]:
    """Compare a share with its limit: the verdict (pass, fail, inconclusive), and the evidence.

    As in every decision on a share, all of its interval has to lie on one side of the limit.
    """
    if total < max(least, 1):
        return "inconclusive", f"{what}: {total:g} are fewer than the {least:g} that a verdict needs"
    if limit is None:
        return "pass", ""
    low, high = er.wilson(bad, total, limits.confidence_percent / 100)
    text = f"{what} {100 * bad / total:.1f} % ({bad:g} of {total:g}; interval {100 * low:.1f} to {100 * high:.1f} %)"
    verdict = "fail" if 100 * low >= limit else "pass" if 100 * high < limit else "inconclusive"
    return verdict, f"{text}, limit {limit:g} %"


def _latency_breaches(counts: Counts, limits: Limits, baseline_mean: float | None) -> list[dict]:
    asked: list[tuple[str, float | None, float, str]] = []
    if limits.mean_seconds is not None:
        asked.append(("mean", None, limits.mean_seconds, f"{limits.mean_seconds:g} s"))
    if limits.baseline_ratio is not None and baseline_mean:
        asked.append(
            ("mean", None, *hg.slower_than(baseline_mean, limits.baseline_ratio, limits.baseline_floor_seconds))
        )
    if limits.p95_seconds is not None:
        asked.append(("p95", 0.95, limits.p95_seconds, f"{limits.p95_seconds:g} s"))
    found = []
    for series, fraction, limit, against in asked:
        judged = hg.judge(counts.latency, fraction, limit, against, limits.min_requests)
        if judged.verdict == "fail":
            found.append({"series": series, "evidence": f"latency: {judged.reason}"})
    return found


def judge(pools: Mapping[str, Counts], load: Load, limits: Limits, baseline_mean: float | None = None) -> Judgement:
    """Judge a window.

    It is good when its error rate is proven to be under the limit, and nothing speaks against it: agent runs are often
    too few for a proof, so a share of failed ones under the limit will do.

    Args:
        pools: for each of POOLS what grew since that was judged last.
        load: of the host.
        limits: what is bad.
        baseline_mean: seconds, of a good time; None compares with nothing.
    """
    http, runs, latency = (pools[name] for name in POOLS)
    least, limit = limits.min_requests, limits.error_rate_percent
    errors, errors_evidence = _share("error rate", http.errors, http.requests, least, limit, limits)
    least, limit = limits.min_agent_runs, limits.agent_failure_percent
    agents, agents_evidence = _share("agent failures", runs.agent_failures, runs.agent_runs, least, limit, limits)
    breaches = []
    for series, verdict, evidence in (("errors", errors, errors_evidence), ("agents", agents, agents_evidence)):
        if verdict == "fail":
            breaches.append({"series": series, "evidence": evidence})
    breaches += _latency_breaches(latency, limits, baseline_mean)
    for series, what, value, limit in (
        ("cpu", "CPU", load.cpu_percent, limits.cpu_percent),
        ("memory", "memory", load.memory_percent, limits.memory_percent),
    ):
        if value is not None and limit is not None and value >= limit:
            breaches.append({"series": series, "evidence": f"{what} {value:.0f} %, limit {limit:g} %"})
    share = _percent(runs.agent_failures, runs.agent_runs)
    suspicious = runs.agent_runs >= least and None not in (share, limits.agent_failure_percent)
    undecided = ""
    if errors == "inconclusive":
        undecided = errors_evidence
    elif agents == "inconclusive" and suspicious and share >= limits.agent_failure_percent:
        undecided = agents_evidence
    judged = {"errors": errors != "inconclusive", "agents": agents != "inconclusive"}
    judged["latency"] = latency.latency.requests >= limits.min_requests
    state = "bad" if breaches else "inconclusive" if undecided else "good"
    return Judgement(state, breaches, undecided, frozenset(name for name in POOLS if judged[name]))


def elapsed(before: Instant, now: Instant) -> float:
    """Return the seconds between two moments of one host.

    The wall clock can be set, so it is asked only where the other began anew with a reboot.
    """
    if before.mono is not None and now.mono is not None and now.mono >= before.mono:
        return now.mono - before.mono
    return max(0.0, now.at - before.at)


class Watch:
    """All windows so far, as the series file keeps them: it can be written and read back after any of them."""

    def __init__(self, head: Mapping[str, Any], rules: Rules) -> None:
        self.head = dict(head)
        self.rules = rules
        self.windows: list[dict[str, Any]] = []
        self.reading: Reading | None = None
        self.attempt: Instant | None = None
        self.pools = dict.fromkeys(POOLS, Counts())
        self.starts: dict[str, list[float]] = {}
        self.mixed = False
        self.end: dict[str, Any] | None = None

    def tally(self) -> Tally:
        found = Tally()
        for window in self.windows:
            found = found.add(window["state"], window["t"], self.rules.recovered_after)
        return found

    @property
    def watched(self) -> float:
        """Seconds that were watched; gaps do not count."""
        return sum(window["seconds"] for window in self.windows if not window["gap"])

    @property
    def left(self) -> float:
        return max(0.0, self.rules.duration - self.watched)

    def _window(self, instant: Instant, state: str, breaches: list, **more: Any) -> dict[str, Any]:
        seconds = elapsed(self.attempt, instant) if self.attempt else 0.0
        before = self.windows[-1]["t"] if self.windows else 0.0
        gap = seconds > 1.5 * self.rules.window + 5
        self.attempt = instant
        window = {
            "n": len(self.windows) + 1,
            "t": round(before + seconds, 3),
            "at": round(instant.at, 3),
            "seconds": round(seconds, 3),
            "gap": gap,
            "state": state,
            "breaches": breaches,
            **more,
        }
        self.windows.append(window)
        return window

    def miss(self, instant: Instant, why: str) -> dict[str, Any]:
        """Add a window whose end could not be read."""
        return self._window(instant, "error", [{"series": "reading", "evidence": why}])

    def observe(
        self,
        reading: Reading,
        limits: Limits,
        failed_request: Selector,
        failed_run: Selector,
        baseline_mean: float | None = None,
    ) -> dict[str, Any] | None:
        """Take a reading, and return the window that it ends; the first one only begins one."""
        before, self.reading = self.reading, reading
        self._look_for_others(before, reading)
        if before is None:
            self.attempt = self.attempt or reading.instant
            return None
        if _warming_up(reading, limits.warm_up_seconds):
            baseline_mean = None
        counts, restarts = grown(before, reading, failed_request, failed_run)
        load = load_between(before, reading)
        pools = {name: pool.plus(counts) for name, pool in self.pools.items()}
        judged = judge(pools, load, limits, baseline_mean)
        shown = figures(counts, elapsed(before.instant, reading.instant), load)
        more = {"undecided": judged.undecided, "restarts": restarts, "counts": counts.to_json(), **shown}
        window = self._window(reading.instant, judged.state, judged.breaches, **more)
        if window["gap"] and window["state"] == "good":
            window["state"] = "inconclusive"
        over = POOLS if window["gap"] else judged.judged
        self.pools = {name: Counts() if name in over else pool for name, pool in pools.items()}
        return window

    def _look_for_others(self, before: Reading | None, reading: Reading) -> None:
        """Note whether several processes take turns behind one port, so that nothing can be counted."""
        for url, process in reading.processes.items():
            known = self.starts.setdefault(url, [])
            if process.started is not None and known[-1:] != [process.started]:
                known.append(process.started)
            earlier = before.processes.get(url) if before else None
            pair = [er.Scrape(0.0, item.requests, item.started, item.created) for item in (earlier, process) if item]
            self.mixed = self.mixed or er.several_processes(known) or er.mixed(pair)

    def verdict(self) -> tuple[str, str] | None:
        """Return the outcome and why, or None while the watch goes on."""
        rules, tally = self.rules, self.tally()
        for count, limit, how in (
            (tally.bad_in_row, rules.bad_in_row, "in a row"),
            (tally.bad, rules.bad_total, "in all"),
        ):
            if count >= limit:
                last = next(window for window in reversed(self.windows) if window["state"] == "bad")
                what = "; ".join(breach["evidence"] for breach in last["breaches"])
                return "breached", f"{count} bad windows {how} (limit {limit}), the last one: {what}"
        for count, limit, how in (
            (tally.errors_in_row, rules.errors_in_row, "in a row"),
            (tally.errors, rules.errors_total, "in all"),
        ):
            if count >= limit:
                last = next(window for window in reversed(self.windows) if window["state"] == "error")
                return "error", f"{count} readings failed {how} (limit {limit}): {last['breaches'][0]['evidence']}"
        recovered = tally.recovered_at is not None
        if rules.until == "recovered" and recovered:
            return "good", f"recovered: {rules.recovered_after} good windows in a row"
        # The readings come a little early or late: no further window for what is left by that.
        if self.left > 0.25 * rules.window:
            return None
        seen = (
            f"{tally.good} of {tally.windows} windows were good, {tally.bad} bad, {tally.inconclusive} undecided, "
            f"{tally.errors} not readable"
        )
        if recovered:
            return "good", seen
        if tally.good + tally.bad == 0:
            return "inconclusive", f"there was too little traffic for a verdict: {seen}"
        return "inconclusive", f"no row of {rules.recovered_after} good windows lasted to the end: {seen}"

    def close(self, outcome: str, why: str, at: float) -> None:
        self.end = {"outcome": outcome, "why": why, "at": round(at, 3)}

    def total(self) -> tuple[Counts, float, Load]:
        """Return what grew in the windows that were watched and not bad, how long these were, and the load in them."""
        fine = [item for item in self.windows if item["state"] in ("good", "inconclusive") and not item["gap"]]
        counts = Counts()
        for window in fine:
            counts = counts.plus(Counts.from_json(window["counts"]))
        seconds = sum(window["seconds"] for window in fine)
        return counts, seconds, Load(_mean(fine, "cpu_percent"), _mean(fine, "memory_percent"))

    def encode(self) -> str:
        """Return the series file: one JSON object a line."""
        pools = {name: counts.to_json() for name, counts in self.pools.items()}
        reading = self.reading and self.reading.to_json()
        lines = [{"event": "begin", "version": VERSION, **self.head}]
        lines += [{"event": "window", **window} for window in self.windows]
        if self.end:
            lines.append({"event": "end", **self.end})
        else:
            tail = {"reading": reading, "attempt": self.attempt, "pools": pools, "starts": self.starts}
            lines.append({"event": "reading", **tail})
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def load_between(before: Reading, now: Reading) -> Load:
    """Return the load of the host between two readings."""
    return Load(_cpu_percent(before.cpu, now.cpu), now.memory_percent)


def _mean(windows: Sequence[Mapping[str, Any]], figure: str) -> float | None:
    values = [window[figure] for window in windows if window[figure] is not None]
    return sum(values) / len(values) if values else None


def _warming_up(reading: Reading, within: float) -> bool:
    starts = [process.started for process in reading.processes.values()]
    return any(er.is_fresh(started, reading.instant.at, within) for started in starts)


def _cpu_percent(before: _load.Cpu | None, now: _load.Cpu | None) -> float | None:
    try:
        return None if before is None or now is None else _load.cpu_percent(before, now)
    except _load.LoadError:
        # A reboot lies between them.
        return None


def decode(text: str, rules: Rules) -> Watch:
    """Read a series file back. A last line that was cut off is left out.

    Raises:
        WatchError: it is damaged elsewhere, or of another version.
    """
    lines = text.split("\n")
    events = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                events.append(json.loads(line))
        except ValueError as exc:
            if number == len(lines):
                break
            raise WatchError(f"line {number} is damaged: {exc}") from exc
    begun = bool(events) and all(isinstance(event, dict) and "event" in event for event in events)
    if not begun or events[0]["event"] != "begin" or events[0].get("version") != VERSION:
        raise WatchError(f"it is no series of version {VERSION}")
    head = {key: value for key, value in events[0].items() if key not in ("event", "version")}
    watch = Watch(head, rules)
    for event in events[1:]:
        rest = {key: value for key, value in event.items() if key != "event"}
        if event["event"] == "window":
            watch.windows.append(rest)
        elif event["event"] == "reading":
            watch.reading = rest["reading"] and Reading.from_json(rest["reading"])
            watch.starts = rest["starts"]
            watch.attempt = rest["attempt"] and Instant(*rest["attempt"])
            watch.pools = {name: Counts.from_json(counts) for name, counts in rest["pools"].items()}
        elif event["event"] == "end":
            watch.end = rest
    if watch.attempt is None and watch.windows:
        # The last line was lost, and with it the clock since the boot: the wall clock has to do.
        watch.attempt = Instant(watch.windows[-1]["at"])
    return watch
