# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the readings that a watch and a baseline rest on: the metrics pages of all addresses, and the host's load."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram as hg
from ansible_collections.sparklio.rollback.plugins.module_utils import load, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._watch import (
    Instant,
    Limits,
    Process,
    Reading,
    limits_problem,
)

#: Options that say what is counted and what is bad. Documented in the doc fragment ``sparklio.rollback.readings``.
SPEC: dict[str, dict[str, Any]] = {
    "requests_metric": {"type": "str", "default": "sparklio_http_requests_total"},
    "latency_metric": {"type": "str", "default": "sparklio_http_request_duration_seconds"},
    "agents_metric": {"type": "str", "default": "sparklio_agent_executions_total"},
    "selector": {"type": "str", "default": ""},
    "failed_request": {"type": "str", "default": 'status_code=~"5.."'},
    "failed_run": {"type": "str", "default": 'status=~"error|timeout"'},
    "limits": {
        "type": "dict",
        "options": {
            "error_rate_percent": {"type": "float"},
            "agent_failure_percent": {"type": "float"},
            "mean_seconds": {"type": "float"},
            "p95_seconds": {"type": "float"},
            "baseline_ratio": {"type": "float"},
            "baseline_floor_seconds": {"type": "float", "default": 0.5},
            "warm_up_seconds": {"type": "float", "default": 60},
            "cpu_percent": {"type": "float"},
            "memory_percent": {"type": "float"},
            "min_requests": {"type": "float", "default": 20},
            "min_agent_runs": {"type": "float", "default": 5},
            "confidence_percent": {"type": "float", "default": 95},
        },
    },
}

#: Two processes behind one port show themselves in several quick readings.
FIRST_READINGS = 3
FIRST_PAUSE = 0.25


def limits_of(params: Mapping[str, Any]) -> Limits:
    """Return the limits that the options ask for, without any those of the runbook.

    Raises:
        ValueError: they make no sense.
    """
    limits = Limits(**params["limits"]) if params["limits"] else Limits()
    problem = limits_problem(limits)
    if problem:
        raise ValueError(problem)
    return limits


class Source:
    """Reads as the options of ``scrape.SPEC`` and ``SPEC`` say.

    Raises:
        ValueError: the options can't be used.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.pages = scrape.Pages(dict(params))
        self.urls: list[str] = params["urls"]
        self.requests: str = params["requests_metric"]
        self.latency: str = params["latency_metric"]
        self.agents: str = params["agents_metric"]
        self.selector = ex.parse_selector(params["selector"])
        self.failed_request = ex.parse_selector(params["failed_request"])
        self.failed_run = ex.parse_selector(params["failed_run"])
        if not self.urls:
            raise ValueError("urls names no address")
        if not self.failed_request.matchers or not self.failed_run.matchers:
            raise ValueError("failed_request and failed_run must name at least one condition each")
        self.created = scrape.created_name(self.requests)
        self.names = [self.requests, self.created, self.agents, *hg.sample_names(self.latency), scrape.STARTED]

    def first(self) -> tuple[Reading, list[str]]:
        """Take a reading that others are compared with, and return it with warnings of what is not measured.

        Raises:
            NothingToMeasure: the address, a metric or a selector is wrong.
            ExpositionError: what it answers can't be read.
            FetchError: it does not answer now.
        """
        warnings = []
        for url in self.urls:
            page = self.pages.read(url, self.names)
            scrape.require(page, self.requests, url, self.pages.known_names)
            for metric, what in ((self.agents, "agent runs"), (self.latency, "latency")):
                names = (metric, f"{metric}_bucket")
                if not any(name in page.samples or name in page.types for name in names):
                    hint = scrape.similar(metric, self.pages.known_names(url))
                    warnings.append(f"{mask(url)} has no metric {metric}, so {what} are not watched; {hint}")
        readings = [self.take()]
        for _number in range(FIRST_READINGS - 1):
            time.sleep(FIRST_PAUSE)
            readings.append(self.take())
        for url in self.urls:
            seen = [reading.processes[url] for reading in readings]
            if er.mixed([er.Scrape(0.0, item.requests, item.started, item.created) for item in seen]):
                raise scrape.NothingToMeasure(scrape.MIXED)
        return readings[-1], warnings

    def take(self) -> Reading:
        """Take one reading. Raises as ``first`` does."""
        processes = {url: self._process(url, self.pages.read(url, self.names)) for url in self.urls}
        seen = load.read()
        return Reading(Instant(time.time(), time.monotonic()), processes, seen.cpu, seen.memory_percent)

    def _process(self, url: str, page: ex.Exposition) -> Process:
        try:
            latency = hg.counters(page, self.latency, self.selector)
        except hg.HistogramError as exc:
            raise scrape.NothingToMeasure(f"{mask(url)}: {exc}") from exc
        return Process(
            next(iter(page.samples.get(scrape.STARTED, {}).values()), None),
            self._counters(url, page, self.requests, self.selector, self.failed_request),
            self._counters(url, page, self.agents, ex.Selector(()), self.failed_run),
            latency,
            page.samples.get(self.created, {}),
        )

    def _counters(
        self, url: str, page: ex.Exposition, metric: str, counted: ex.Selector, bad: ex.Selector
    ) -> dict[ex.Labels, float]:
        series = page.samples.get(metric, {})
        if page.types.get(metric) in ("gauge", "histogram", "summary"):
            raise scrape.NothingToMeasure(f"{metric} at {mask(url)} is a {page.types[metric]}, not a counter")
        wrong = er.bad_values(series)
        if wrong:
            raise scrape.NothingToMeasure(
                f"{metric} at {mask(url)} holds the value {series[wrong[0]]}, which no counter can have"
            )
        known = {name for labels in series for name, _value in labels}
        missing = {label for label, _operator, _value in (*counted.matchers, *bad.matchers)} - known
        if series and missing:
            raise scrape.NothingToMeasure(
                f"no series of {metric} has the label {', '.join(sorted(missing))}; "
                f"its labels are {', '.join(sorted(known)) or 'none'}"
            )
        return {labels: value for labels, value in series.items() if counted.matches(dict(labels))}
