# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the share of bad requests: reads until the evidence decides, or the deadline is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _prometheus as prom
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, prometheus, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.scrape import STARTED, NothingToMeasure

#: So many readings in a row may fail, as the four of Argo Rollouts' consecutiveErrorLimit.
CONSECUTIVE_ERRORS = 4

#: Before so many readings of an endpoint there is no verdict, and they are taken quickly: a single one, even of a fresh
#: process with enough requests, can't tell whether other processes answer behind the same port.
FIRST_READINGS = 5
FIRST_INTERVAL = 0.2

#: A wall clock that moved so many seconds more or less than the steady one was set meanwhile.
CLOCK_SET = 1.0


class Settings:
    """The module's options, checked."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.urls: list[str] = params["urls"] or []
        self.prometheus_url: str | None = params["prometheus_url"]
        self.metric: str = params["metric"]
        self.bad = ex.parse_selector(params["bad"])
        self.total = ex.parse_selector(params["total"])
        self.threshold = params["threshold_percent"] / 100
        self.confidence = params["confidence_percent"] / 100
        self.wrong = params["max_wrong_percent"] / 100
        self.min_requests: int = params["min_requests"]
        self.window: float = params["window"]
        self.deadline: float = params["window"] if params["deadline"] is None else params["deadline"]
        self.interval: float = params["interval"]
        self.fresh_process: float = params["fresh_process"]
        problems = {
            "urls names no address": not self.urls and not self.prometheus_url,
            "metric is no name of a metric": not re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", self.metric),
            "bad selects nothing; name at least one condition": not self.bad.matchers,
            "threshold_percent must be over 0 and under 100": not 0 < self.threshold < 1,
            "confidence_percent must be at least 50 and under 100": not 0.5 <= self.confidence < 1,
            "max_wrong_percent must be over 0 and under 50": not 0 < self.wrong < 0.5,
            "window must be over 0": not self.window > 0,
            "deadline must not be negative": self.deadline < 0,
            "deadline must be at least as long as window": not self.prometheus_url and self.deadline < self.window,
            "interval must be over 0": not self.interval > 0,
        }
        for problem, present in problems.items():
            if present:
                raise ValueError(problem)

    @property
    def selector(self) -> str:
        return self.metric + (f"{{{prom.matchers(self.total)}}}" if self.total.matchers else "")

    @property
    def query(self) -> str:
        span = f"[{self.window:g}s]"
        both = prom.matchers(ex.Selector((*self.total.matchers, *self.bad.matchers)))
        return f"sum(increase({self.metric}{{{both}}}{span})) / sum(increase({self.selector}{span}))"


class Target(NamedTuple):
    """All readings of one process, and whether they count from its beginning."""

    scrapes: list[er.Scrape]
    fresh: bool


class Reading(NamedTuple):
    """What is known after one more reading, and what stands in the way of a verdict: its name and the reason."""

    targets: list[Target]
    obstacle: tuple[str, str] | None = None


def check_series(settings: Settings, series: Iterable[ex.Labels], where: str) -> None:
    """Refuse selectors with a label that no series has: they would find nothing bad."""
    found = list(series)
    known = {name for labels in found for name, _value in labels}
    missing = {label for label, _op, _value in (*settings.bad.matchers, *settings.total.matchers)} - known
    if found and missing:
        raise NothingToMeasure(
            f"no series of {settings.metric} at {where} has the label {', '.join(sorted(missing))}; "
            f"its labels are {', '.join(sorted(known)) or 'none'}"
        )


def check_values(settings: Settings, counters: Mapping[ex.Labels, float], where: str) -> None:
    """Refuse values that would be counted wrongly."""
    wrong = er.bad_values(counters)
    if wrong:
        raise NothingToMeasure(
            f"{settings.metric} at {where} holds the value {counters[wrong[0]]}, which no counter can have"
        )


class Endpoints:
    """The metrics pages of the processes themselves."""

    before = 0.0
    first_readings = FIRST_READINGS

    def __init__(
        self,
        settings: Settings,
        read: Callable[[str], ex.Exposition],
        known_names: Callable[[str], list[str]],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self._read, self._known_names = settings, read, known_names
        self._clock, self._wall = clock, wall
        self._scrapes: list[list[er.Scrape]] = [[] for _url in settings.urls]
        self._fresh = [False for _url in settings.urls]
        self._offset: float | None = None

    def read(self, elapsed: float) -> Reading:
        pages = [(url, self._read(url)) for url in self.settings.urls]
        offset = self._wall() - self._clock()
        if self._offset is None:
            for url, page in pages:
                scrape.require(page, self.settings.metric, url, self._known_names)
            self._offset = offset
        for number, (url, page) in enumerate(pages):
            counters = self._counters(url, page)
            began = next(iter(page.samples.get(STARTED, {}).values()), None)
            if not self._scrapes[number]:
                self._fresh[number] = er.is_fresh(began, self._wall(), self.settings.fresh_process)
            created = page.samples.get(scrape.created_name(self.settings.metric), {})
            self._scrapes[number].append(er.Scrape(elapsed, counters, began, created))
        if abs(offset - self._offset) > CLOCK_SET:
            # Nobody knows which of the two times was right, so none of the processes is known to be fresh.
            self._fresh = [False for _url in self.settings.urls]
        return Reading([Target(scrapes, self._fresh[number]) for number, scrapes in enumerate(self._scrapes)])

    def _counters(self, url: str, page: ex.Exposition) -> dict[ex.Labels, float]:
        kind = page.types.get(self.settings.metric)
        if kind in ("gauge", "histogram", "summary"):
            raise NothingToMeasure(f"{self.settings.metric} is a {kind}, not a counter")
        series = page.samples.get(self.settings.metric, {})
        check_values(self.settings, series, mask(url))
        check_series(self.settings, series, mask(url))
        return {labels: value for labels, value in series.items() if self.settings.total.matches(dict(labels))}


class Stored:
    """What a Prometheus server has stored of them."""

    first_readings = 1

    def __init__(self, settings: Settings, server: prometheus.Server) -> None:
        self.settings, self._server = settings, server
        self.before = settings.window

    def read(self, elapsed: float) -> Reading:
        # The server's clock is the only one: the window grows by what passes here, and ends when it is asked.
        span = f"[{round(1000 * (self.before + elapsed))}ms]"
        counters = self._server.query(self.settings.selector + span)
        if not counters:
            return self._nothing(span)
        jobs = sorted({value for item in counters for name, value in item.labels if name == "job"})
        chosen = f",job=~{prom.quoted('|'.join(map(re.escape, jobs)))}" if jobs else ""
        about = self._server.query(f'{{__name__=~"up|{STARTED}"{chosen}}}{span}')
        check_series(self.settings, [item.labels for item in counters], self._server.shown)
        targets = []
        down = []
        for target in prom.targets(counters, about):
            for reading in target.scrapes:
                check_values(self.settings, reading.counters, prom.shown(target.labels))
            first = target.scrapes[0]
            fresh = er.is_fresh(first.started, first.at, self.settings.fresh_process)
            targets.append(Target(target.scrapes, fresh))
            if not target.up:
                down.append(prom.shown(target.labels))
        if down:
            return Reading(targets, ("error", self._unscraped(down)))
        if not any(len(target.scrapes) > 1 or target.fresh for target in targets):
            return Reading(targets, ("inconclusive", f"only one scrape lies in {span[1:-1]}; take a longer window"))
        return Reading(targets)

    def _nothing(self, span: str) -> Reading:
        """Tell why nothing was found: no such metric or label, no traffic yet, or no scrapes."""
        metric = self.settings.metric
        names = self._server.names()
        if metric not in names and not self._server.declared(metric):
            raise NothingToMeasure(f"{self._server.shown} has no metric {metric}; {scrape.similar(metric, names)}")
        anything = self._server.query(metric + span)
        check_series(self.settings, [item.labels for item in anything], self._server.shown)
        once = self._server.query(f"count by (job, instance) (last_over_time({self.settings.selector}[1d]))")
        if not once:
            return Reading([])
        up = {item.labels for item in self._server.query("count by (job, instance) (up == 1)")}
        down = [prom.shown(item.labels) for item in once if item.labels not in up]
        return Reading([], ("error", self._unscraped(down)) if down else None)

    def _unscraped(self, targets: list[str]) -> str:
        named = ", ".join(targets[:3]) + (f" and {len(targets) - 3} more" if len(targets) > 3 else "")
        return f"{self._server.shown} can't scrape {named}: see its page of targets"


class Measurement:
    """All readings so far, and what follows from them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.targets: list[Target] = []
        self.samples: list[dict[str, Any]] = []
        self.readings = 0

    def add(self, targets: list[Target], at: float) -> er.Rate:
        self.targets = targets
        self.readings += 1
        if any(er.mixed(target.scrapes) for target in targets):
            raise NothingToMeasure(scrape.MIXED)
        measured = self.rate()
        self.samples.append({"at": round(at, 3), "bad": measured.bad, "total": measured.total})
        return measured

    def rate(self) -> er.Rate:
        parts = []
        for target in self.targets:
            grown = er.increases(target.scrapes, target.fresh)
            parts.append(er.rate(grown, [labels for labels in grown if self.settings.bad.matches(dict(labels))]))
        return er.Rate(sum(part.bad for part in parts), sum(part.total for part in parts))

    @property
    def settled(self) -> bool:
        return all(er.settled(target.scrapes) for target in self.targets)

    @property
    def restarts(self) -> int:
        return sum(er.restarts(target.scrapes) for target in self.targets)

    @property
    def fresh(self) -> bool:
        return any(target.fresh for target in self.targets)


def _answer(settings: Settings, measurement: Measurement, verdict: str, reason: str, seconds: float, span: float,
            decision: er.Decision | None) -> dict[str, Any]:  # fmt: skip
    good = [sample for sample in measurement.samples if "error" not in sample]
    measured = er.Rate(good[-1]["bad"], good[-1]["total"]) if good else er.Rate(0.0, 0.0)
    interval = er.wilson(measured.bad, measured.total, settings.confidence)
    threshold = 100 * settings.threshold
    scrapes = max((len(target.scrapes) for target in measurement.targets), default=0)
    if measured.fraction is not None:
        evidence = (
            f"{measured.bad:g} of {measured.total:g} bad = {100 * measured.fraction:.2f} % "
            f"({100 * settings.confidence:g} % interval {100 * interval[0]:.2f} to {100 * interval[1]:.2f} %), "
            f"threshold {threshold:g} %; {scrapes} readings in {span:.1f} s"
        )
        evidence += ", counted from the start of the process" if measurement.fresh else ""
        evidence += f"; the process was replaced {measurement.restarts} times" if measurement.restarts else ""
    else:
        evidence = f"no requests in {span:.1f} s ({scrapes} readings)" if good else ""
    if verdict not in ("pass", "fail") or not evidence:
        evidence = reason if verdict == "error" or not evidence else f"{reason}: {evidence}"
    return {
        "verdict": verdict,
        "evidence": one_line(evidence),
        "reason": reason,
        "rate_percent": None if measured.fraction is None else round(100 * measured.fraction, 4),
        "interval_percent": [round(100 * end, 4) for end in interval] if good else None,
        "threshold_percent": round(threshold, 6),
        "counts": {"bad": measured.bad, "total": measured.total},
        "limits": {
            "pass_at_most": decision.pass_at_most if decision else None,
            "fail_from": decision.fail_from if decision else None,
        },
        "samples": measurement.samples,
        "restarts": measurement.restarts,
        "since_start": measurement.fresh,
        "query": settings.query,
        "seconds": round(seconds, 3),
    }


def measure(
    settings: Settings,
    source: Endpoints | Stored,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Read until the evidence decides or the deadline is over, and return the module's answer.

    Args:
        settings: the module's options.
        source: what is read.
        clock: seconds, never set back.
        sleep: waits for so many seconds.
    """
    begin = clock()
    measurement = Measurement(settings)
    origin: float | None = None
    looks: er.Looks | None = None
    errors = 0
    left = settings.deadline
    decision: er.Decision | None = None

    def done(verdict: str, reason: str) -> dict[str, Any]:
        span = source.before + (0.0 if origin is None else clock() - origin)
        return _answer(settings, measurement, verdict, reason, clock() - begin, span, decision)

    while True:
        now = clock()
        elapsed = 0.0 if origin is None else now - origin
        try:
            reading = source.read(elapsed)
            if looks is None:
                origin, left = now, max(0.0, begin + settings.deadline - now)
                looks = er.Looks(
                    settings.threshold, source.before + left, settings.min_requests, settings.wrong, settings.confidence
                )
            measured = measurement.add(reading.targets, elapsed)
            errors = 0
        except (NothingToMeasure, ex.ExpositionError) as exc:
            return done("error", str(exc))
        except fetch.FetchError as exc:
            errors += 1
            since = begin if origin is None else origin
            measurement.samples.append({"at": round(now - since, 3), "error": str(exc)})
            if errors >= CONSECUTIVE_ERRORS or clock() + settings.interval > begin + settings.deadline:
                return done("error", f"{exc} ({errors} readings in a row failed)")
            sleep(settings.interval)
            continue
        last = elapsed >= left - 1e-6
        settled = measurement.settled and not reading.obstacle
        if settled and (last or measurement.readings >= source.first_readings):
            at = source.before + (left if last else elapsed)
            decision = looks.judge(measured, at)
            if decision.verdict != "inconclusive":
                return done(decision.verdict, decision.reason)
        if last:
            if reading.obstacle:
                return done(*reading.obstacle)
            return done("inconclusive", decision.reason if settled else "the process was replaced just before the end")
        pause = settings.interval
        if measurement.readings < source.first_readings:
            pause = min(pause, FIRST_INTERVAL)
        sleep(max(0.0, min(now + pause, origin + left) - clock()))


ARGUMENT_SPEC = {
    **scrape.SPEC,
    "urls": {**scrape.SPEC["urls"], "required": False},
    "prometheus_url": {"type": "str"},
    "metric": {"type": "str", "default": "sparklio_http_requests_total"},
    "bad": {"type": "str", "default": 'status_code=~"5.."'},
    "total": {"type": "str", "default": ""},
    "threshold_percent": {"type": "float", "default": 5},
    "min_requests": {"type": "int", "default": 20},
    "max_wrong_percent": {"type": "float", "default": 1},
    "confidence_percent": {"type": "float", "default": 95},
    "window": {"type": "float", "default": 60},
    "deadline": {"type": "float"},
    "interval": {"type": "float", "default": 2},
    "fresh_process": {"type": "float", "default": 0},
}


def source_of(settings: Settings, params: dict[str, Any]) -> Endpoints | Stored:
    """Return what the options name to read from."""
    if settings.prometheus_url:
        return Stored(settings, prometheus.Server(settings.prometheus_url, params))
    pages = scrape.Pages(params)
    names = [settings.metric, scrape.created_name(settings.metric), STARTED]
    return Endpoints(settings, lambda url: pages.read(url, names), pages.known_names)


def prepare(params: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return what measures as the options of ARGUMENT_SPEC say.

    Raises:
        ValueError: they can't be used.
    """
    settings = Settings(params)
    source = source_of(settings, params)
    return lambda: measure(settings, source)
