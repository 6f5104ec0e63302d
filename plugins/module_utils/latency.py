# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how long requests take: reads a histogram over a window."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram as hg
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.scrape import STARTED, NothingToMeasure

#: So many readings in a row may fail, as the four of Argo Rollouts' consecutiveErrorLimit.
CONSECUTIVE_ERRORS = 4

#: The first readings are taken quickly: they show whether several processes answer behind the same port.
FIRST_READINGS = 5
FIRST_INTERVAL = 0.2


def _by_quantile(values: Mapping[str, Any] | None, option: str) -> dict[float, float]:
    found = {}
    for key, value in (values or {}).items():
        try:
            fraction, seconds = float(key), float(value)
        except (TypeError, ValueError) as exc:
            raise ValueError(
                f"{option} maps quantiles to seconds, such as 0.95 to 30, not {key!r} to {value!r}"
            ) from exc
        if not (0 < fraction < 1 and 0 < seconds < float("inf")):
            raise ValueError(f"{option} needs quantiles between 0 and 1 and seconds over 0, not {key} and {value}")
        found[fraction] = seconds
    return found


class Settings:
    """The module's options, checked."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.urls: list[str] = params["urls"]
        self.metric: str = params["metric"]
        self.selector = ex.parse_selector(params["selector"])
        self.min_requests: int = params["min_requests"]
        self.window: float = params["window"]
        self.deadline: float = params["window"] if params["deadline"] is None else params["deadline"]
        self.interval: float = params["interval"]
        self.fresh_process: float = params["fresh_process"]
        ratio, floor = params["baseline_ratio"], params["baseline_floor_seconds"]
        mean_max = params["mean_max_seconds"]
        baseline = params["baseline"] or {}
        limits = _by_quantile(params["limits"], "limits")
        before: dict[Optional[float], float] = dict(_by_quantile(baseline.get("quantiles"), "baseline"))
        if baseline.get("mean") is not None:
            before[None] = baseline["mean"]
        problems = {
            "urls names no address": not self.urls,
            "quantiles must lie between 0 and 1": not all(0 < fraction < 1 for fraction in params["quantiles"]),
            "mean_max_seconds must be over 0": mean_max is not None and not mean_max > 0,
            "the mean of baseline must not be negative": not before.get(None, 0.0) >= 0,
            "baseline_ratio must be over 1": not ratio > 1,
            "baseline_floor_seconds must be over 0": not floor > 0,
            "window must be over 0": not self.window > 0,
            "deadline must be at least as long as window": self.deadline < self.window,
            "interval must be over 0": not self.interval > 0,
        }
        for problem, present in problems.items():
            if present:
                raise ValueError(problem)
        #: Of each comparison: the quantile (None for the mean), the limit in seconds, and the limit in words.
        self.comparisons: list[tuple[Optional[float], float, str]] = [
            *([] if mean_max is None else [(None, mean_max, f"{mean_max:g} s")]),
            *((fraction, limit, f"{limit:g} s") for fraction, limit in limits.items()),
            *((fraction, *hg.slower_than(value, ratio, floor)) for fraction, value in before.items()),
        ]
        asked = {fraction for fraction, _limit, _words in self.comparisons if fraction is not None}
        self.quantiles = sorted({*params["quantiles"], *asked})

    @property
    def query(self) -> list[str]:
        chosen = f"{{{self.selector}}}" if self.selector.matchers else ""

        def grown(suffix: str) -> str:
            return f"(increase({self.metric}_{suffix}{chosen}[{self.window:g}s]))"

        quantiles = [f"histogram_quantile({fraction:g}, sum by (le) {grown('bucket')})" for fraction in self.quantiles]
        return [f"sum{grown('sum')} / sum{grown('count')}", *quantiles]

    def judge(self, measured: hg.Histogram) -> list[hg.Judgement]:
        return [hg.judge(measured, what, limit, words, self.min_requests) for what, limit, words in self.comparisons]

    def enough(self, measured: hg.Histogram) -> bool:
        needed = [hg.needed(what, self.min_requests) for what, _limit, _words in self.comparisons]
        return measured.requests >= max([1, *needed])


def require(page: ex.Exposition, metric: str, url: str, known_names: Callable[[str], list[str]]) -> None:
    """Refuse a page that does not know the histogram.

    Raises:
        NothingToMeasure: the page lacks it. The message names the nearest names.
    """
    if not any(page.samples.get(name) for name in hg.sample_names(metric)):
        scrape.require(page, metric, url, known_names)


class Measurement:
    """All readings so far, and what follows from them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scrapes: list[list[er.Scrape]] = [[] for _url in settings.urls]
        self.fresh = [False for _url in settings.urls]
        self.samples: list[dict[str, Any]] = []
        self.measured = hg.Histogram()

    def add(self, pages: list[tuple[str, ex.Exposition]], at: float, wall: float) -> None:
        for number, (url, page) in enumerate(pages):
            try:
                counters = hg.counters(page, self.settings.metric, self.settings.selector)
            except hg.HistogramError as exc:
                raise NothingToMeasure(f"{mask(url)}: {exc}") from exc
            began = next(iter(page.samples.get(STARTED, {}).values()), None)
            if not self.scrapes[number]:
                self.fresh[number] = er.is_fresh(began, wall, self.settings.fresh_process)
            created = page.samples.get(scrape.created_name(self.settings.metric), {})
            self.scrapes[number].append(er.Scrape(at, counters, began, created))
        if any(er.mixed(scrapes) for scrapes in self.scrapes):
            raise NothingToMeasure(scrape.MIXED)
        try:
            self.measured = hg.grown(list(zip(self.scrapes, self.fresh)))  # noqa: B905
        except hg.HistogramError as exc:
            raise NothingToMeasure(f"{self.settings.metric}: {exc}") from exc
        self.samples.append(
            {"at": round(at, 3), "count": self.measured.requests, "mean_seconds": _rounded(self.measured.mean)}
        )

    def settled(self) -> bool:
        return all(er.settled(scrapes) for scrapes in self.scrapes)

    def restarts(self) -> int:
        return sum(er.restarts(scrapes) for scrapes in self.scrapes)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _answer(
    settings: Settings, measurement: Measurement, seconds: float, verdict: str = "", reason: str = ""
) -> dict[str, Any]:
    measured = measurement.measured
    judgements = settings.judge(measured) if not verdict else []
    verdict = verdict or hg.overall(judgements)
    # What decides stands first, so that a line that is cut still says it.
    decisive = sorted(judgements, key=lambda judgement: judgement.verdict != verdict)
    reason = reason or "; ".join(judgement.reason for judgement in decisive) or "there is no limit to judge by"
    good = [sample for sample in measurement.samples if "error" not in sample]
    evidence = reason
    if good:
        known = {judgement.what for judgement in judgements}
        rest = [f"{name} {value}" for name, value in _figures(settings, measured).items() if name not in known]
        evidence = "; ".join([reason, *([", ".join(rest)] if rest and verdict != "error" else [])])
        evidence += f"; {measured.requests:g} requests, {len(good)} readings in {seconds:.1f} s"
        evidence += ", counted from the start of the process" if any(measurement.fresh) else ""
        evidence += f"; the process was replaced {measurement.restarts()} times" if measurement.restarts() else ""
    return {
        "verdict": verdict,
        "evidence": one_line(evidence),
        "reason": one_line(reason),
        "mean_seconds": _rounded(measured.mean),
        "quantiles": {f"{fraction:g}": _shown(measured.quantile(fraction)) for fraction in settings.quantiles},
        "count": measured.requests,
        "comparisons": [dict(judgement._asdict()) for judgement in judgements],
        "samples": measurement.samples,
        "restarts": measurement.restarts(),
        "since_start": any(measurement.fresh),
        "query": settings.query,
        "seconds": round(seconds, 3),
    }


def _shown(quantile: hg.Quantile | None) -> dict[str, Any] | None:
    return quantile and {"seconds": _rounded(quantile.seconds), "at_least": quantile.at_least}


def _figures(settings: Settings, measured: hg.Histogram) -> dict[str, str]:
    if measured.mean is None:
        return {}
    found = {"mean": f"{measured.mean:.3g} s"}
    for fraction in settings.quantiles:
        quantile = measured.quantile(fraction)
        if quantile is not None:
            found[hg.name_of(fraction)] = f"{'at least ' if quantile.at_least else ''}{quantile.seconds:.3g} s"
    return found


def measure(
    settings: Settings,
    read: Callable[[str], ex.Exposition],
    known_names: Callable[[str], list[str]],
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Read for the window, or until the deadline where the requests are too few, and return the module's answer.

    Args:
        settings: the module's options.
        read: fetches one page of metrics.
        known_names: fetches the names of all metrics of a page, for a message.
        clock: seconds, never set back.
        wall: seconds since the epoch, compared only with the start of a process.
        sleep: waits for so many seconds.
    """
    begin = clock()
    end = begin + settings.deadline
    measurement = Measurement(settings)
    origin: float | None = None
    readings = errors = 0

    def done(verdict: str = "", reason: str = "") -> dict[str, Any]:
        return _answer(settings, measurement, clock() - begin, verdict, reason)

    while True:
        now = clock()
        try:
            pages = [(url, read(url)) for url in settings.urls]
            if origin is None:
                for url, page in pages:
                    require(page, settings.metric, url, known_names)
                origin = now
            measurement.add(pages, now - origin, wall())
            errors = 0
        except (NothingToMeasure, ex.ExpositionError) as exc:
            return done("error", str(exc))
        except fetch.FetchError as exc:
            errors += 1
            measurement.samples.append({"at": round(now - (begin if origin is None else origin), 3), "error": str(exc)})
            if errors >= CONSECUTIVE_ERRORS or clock() + settings.interval > end:
                return done("error", f"{exc} ({errors} readings in a row failed)")
            sleep(settings.interval)
            continue
        readings += 1
        due = min(origin + settings.window, end)
        if now >= end - 1e-6:
            return (
                done()
                if measurement.settled()
                else done("inconclusive", "the process was replaced just before the end")
            )
        if now >= due - 1e-6 and measurement.settled() and settings.enough(measurement.measured):
            return done()
        pause = settings.interval if readings >= FIRST_READINGS else min(settings.interval, FIRST_INTERVAL)
        sleep(max(0.0, min([now + pause, *(at for at in (due, end) if at > now)]) - clock()))


ARGUMENT_SPEC = {
    **scrape.SPEC,
    "metric": {"type": "str", "default": "sparklio_http_request_duration_seconds"},
    "selector": {"type": "str", "default": ""},
    "quantiles": {"type": "list", "elements": "float", "default": [0.5, 0.95, 0.99]},
    "mean_max_seconds": {"type": "float"},
    "limits": {"type": "dict", "default": {}},
    "baseline": {
        "type": "dict",
        "options": {"mean": {"type": "float"}, "quantiles": {"type": "dict", "default": {}}},
    },
    "baseline_ratio": {"type": "float", "default": 2},
    "baseline_floor_seconds": {"type": "float", "default": 0.5},
    "min_requests": {"type": "int", "default": 20},
    "window": {"type": "float", "default": 60},
    "deadline": {"type": "float"},
    "interval": {"type": "float", "default": 2},
    "fresh_process": {"type": "float", "default": 0},
}


def prepare(params: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return what measures as the options of ARGUMENT_SPEC say.

    Raises:
        ValueError: they can't be used.
    """
    settings = Settings(params)
    pages = scrape.Pages(params)
    names = [*hg.sample_names(settings.metric), scrape.created_name(settings.metric), STARTED]
    return lambda: measure(settings, lambda url: pages.read(url, names), pages.known_names)
