#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_error_rate
short_description: Judge the share of bad requests by the counters of a metrics endpoint
version_added: "0.1.0"
description:
  - Reads a counter from one or several metrics endpoints again and again, and judges which share of its increase
    is bad.
  - The increase is taken for each series by itself and survives a restart of the process.
  - V(pass) when the interval of the rate lies under O(threshold_percent), V(fail) when it lies over it,
    V(inconclusive) when the requests are too few to tell. It answers as soon as the evidence decides, after three
    readings at the earliest.
  - V(error) when there is nothing to measure by. The endpoint is down, answers something else, has no such metric,
    or several processes take turns behind it.
  - A verdict is a result. The module fails only on settings that make no sense.
extends_documentation_fragment: sparklio.rollback.metrics
options:
  metric:
    description: Name of the counter.
    type: str
    default: sparklio_http_requests_total
  bad:
    description:
      - Which of the counted series are bad, as in PromQL.
      - A series that does not exist counts as none. Counters with labels do not exist before their first use.
    type: str
    default: status_code=~"5.."
  total:
    description: Which series are counted at all, as in PromQL. The empty string counts all.
    type: str
    default: ""
  threshold_percent:
    description: The rate that is too high, in percent.
    type: float
    default: 5
  min_requests:
    description: Below so many requests there is no verdict.
    type: int
    default: 20
  confidence_percent:
    description: Confidence of the verdict and of the interval, in percent.
    type: float
    default: 95
  window:
    description: Seconds of observation after which the verdict is due.
    type: float
    default: 60
  deadline:
    description:
      - Seconds after which the module answers in any case. Between O(window) and then it goes on only where
        the evidence does not decide. By default as long as O(window).
    type: float
  interval:
    description: Seconds between two readings.
    type: float
    default: 2
  fresh_process:
    description:
      - A process that began at most so many seconds ago is counted from its beginning, where its counters were 0.
        Else the first reading is the origin.
      - V(0) always takes the first reading as the origin.
    type: float
    default: 0
notes:
  - The evidence is looked at five times at the most, and the error that repeated looks add is kept in bounds by
    sharing it out among them. So an interval that just touches the threshold can stay inconclusive.
  - With 0 bad requests and a threshold of 5 %, about 100 requests are needed for V(pass) at the end and 145 before it.
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Measure the errors since the backend was started, for 20 seconds at the most
  sparklio.rollback.metric_error_rate:
    urls: [http://127.0.0.1:8000/metrics]
    total: endpoint!~"/health|/metrics"
    window: 20
    deadline: 30
    fresh_process: 300
  register: error_rate

- name: Measure the failures of agent runs
  sparklio.rollback.metric_error_rate:
    urls: [http://127.0.0.1:8000/metrics]
    metric: sparklio_agent_executions_total
    bad: status=~"error|timeout"
    threshold_percent: 20
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail), V(inconclusive) or V(error).
  returned: always
  type: str
  sample: pass
evidence:
  description: What was measured, in one line.
  returned: always
  type: str
  sample: "0 of 214 bad = 0.00 % (95 % interval 0.00 to 1.76 %), threshold 5 %; 4 readings in 6.1 s"
reason:
  description: Why the verdict is what it is.
  returned: always
  type: str
  sample: the interval is under the threshold
rate_percent:
  description: Bad of total, in percent. Null without requests.
  returned: always
  type: float
  sample: 0.0
interval_percent:
  description: Ends of the rate's interval at O(confidence_percent), in percent (Wilson). Null without a reading.
  returned: always
  type: list
  elements: float
  sample: [0.0, 1.76]
decision_interval_percent:
  description: The wider interval that the verdict rests on, since the evidence is looked at more than once.
  returned: always
  type: list
  elements: float
  sample: [0.0, 3.39]
threshold_percent:
  description: As given.
  returned: always
  type: float
  sample: 5.0
counts:
  description: Increase over all series, C(bad) and C(total).
  returned: always
  type: dict
  sample: {"bad": 0.0, "total": 214.0}
samples:
  description: Every reading. Seconds after the first one, the counts so far, or what went wrong.
  returned: always
  type: list
  elements: dict
  sample: [{"at": 0.0, "bad": 0.0, "total": 12.0}, {"at": 2.0, "bad": 0.0, "total": 80.0}]
restarts:
  description: How often a process was seen to begin anew.
  returned: always
  type: int
  sample: 0
since_start:
  description: Whether the counts go back to the beginning of the process.
  returned: always
  type: bool
  sample: true
query:
  description: What was measured, as PromQL.
  returned: always
  type: str
  sample: 'sum(increase(m{status_code=~"5.."}[20s])) / sum(increase(m[20s]))'
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 6.1
"""

import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.scrape import STARTED, NothingToMeasure

#: So many readings in a row may fail, as the four of Argo Rollouts' consecutiveErrorLimit.
CONSECUTIVE_ERRORS = 4

#: Before so many readings there is no verdict, and they are taken quickly: a single one, even of a fresh process with
#: enough requests, can't tell whether other processes answer behind the same port.
FIRST_READINGS = 3
FIRST_INTERVAL = 0.25


class Settings:
    """The module's options, checked."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.urls: list[str] = params["urls"]
        self.metric: str = params["metric"]
        self.bad = ex.parse_selector(params["bad"])
        self.total = ex.parse_selector(params["total"])
        self.threshold = params["threshold_percent"] / 100
        self.confidence = params["confidence_percent"] / 100
        self.min_requests: int = params["min_requests"]
        self.window: float = params["window"]
        self.deadline: float = params["window"] if params["deadline"] is None else params["deadline"]
        self.interval: float = params["interval"]
        self.fresh_process: float = params["fresh_process"]
        problems = {
            "urls names no address": not self.urls,
            "bad selects nothing; name at least one condition": not self.bad.matchers,
            "threshold_percent must be over 0 and at most 100": not 0 < self.threshold <= 1,
            "confidence_percent must be at least 50 and under 100": not 0.5 <= self.confidence < 1,
            "window must be over 0": not self.window > 0,
            "deadline must be at least as long as window": self.deadline < self.window,
            "interval must be over 0": not self.interval > 0,
        }
        for problem, present in problems.items():
            if present:
                raise ValueError(problem)

    @property
    def query(self) -> str:
        span = f"[{self.window:g}s]"
        both = ",".join(part for part in (str(self.total), str(self.bad)) if part)
        total = f"{{{self.total}}}" if self.total.matchers else ""
        return f"sum(increase({self.metric}{{{both}}}{span})) / sum(increase({self.metric}{total}{span}))"


def select(settings: Settings, page: ex.Exposition, url: str) -> tuple[dict[ex.Labels, float], float | None]:
    """Return the counters of one page that are to be counted, and when its process began."""
    series = page.samples.get(settings.metric, {})
    kind = page.types.get(settings.metric)
    if kind in ("gauge", "histogram", "summary"):
        raise NothingToMeasure(f"{settings.metric} is a {kind}, not a counter")
    wrong = er.bad_values(series)
    if wrong:
        value = series[wrong[0]]
        raise NothingToMeasure(f"{settings.metric} at {mask(url)} holds the value {value}, which no counter can have")
    known = {name for labels in series for name, _value in labels}
    missing = {label for label, _op, _value in (*settings.bad.matchers, *settings.total.matchers)} - known
    if series and missing:
        raise NothingToMeasure(
            f"no series of {settings.metric} has the label {', '.join(sorted(missing))}; "
            f"its labels are {', '.join(sorted(known)) or 'none'}"
        )
    counted = {labels: value for labels, value in series.items() if settings.total.matches(dict(labels))}
    began = next(iter(page.samples.get(STARTED, {}).values()), None)
    return counted, began


class Measurement:
    """All readings so far, and what follows from them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scrapes: list[list[er.Scrape]] = [[] for _url in settings.urls]
        self.fresh = [False for _url in settings.urls]
        self.samples: list[dict[str, Any]] = []

    def add(self, pages: list[tuple[dict[ex.Labels, float], float | None]], at: float, wall: float) -> er.Rate:
        for number, (counters, began) in enumerate(pages):
            if not self.scrapes[number]:
                self.fresh[number] = er.is_fresh(began, wall, self.settings.fresh_process)
            self.scrapes[number].append(er.Scrape(at, counters, began))
        if any(er.several_processes(scrape.started for scrape in scrapes) for scrapes in self.scrapes):
            raise NothingToMeasure(
                "several processes take turns behind one port, each with counters of its own; run one process, "
                "or set prometheus_client's multiprocess mode (PROMETHEUS_MULTIPROC_DIR)"
            )
        measured = self.rate()
        self.samples.append({"at": round(at, 3), "bad": measured.bad, "total": measured.total})
        return measured

    def rate(self) -> er.Rate:
        parts = []
        for number, scrapes in enumerate(self.scrapes):
            grown = er.increases(scrapes, self.fresh[number])
            parts.append(er.rate(grown, [labels for labels in grown if self.settings.bad.matches(dict(labels))]))
        return er.Rate(sum(part.bad for part in parts), sum(part.total for part in parts))

    def settled(self) -> bool:
        return all(er.settled(scrapes) for scrapes in self.scrapes)

    def restarts(self) -> int:
        return sum(er.restarts(scrapes) for scrapes in self.scrapes)


def _answer(settings: Settings, measurement: Measurement, verdict: str, reason: str, seconds: float,
            decision: er.Decision | None = None) -> dict[str, Any]:  # fmt: skip
    def percent(ends: tuple[float, float]) -> list[float]:
        return [round(100 * end, 4) for end in ends]

    good = [sample for sample in measurement.samples if "error" not in sample]
    measured = er.Rate(good[-1]["bad"], good[-1]["total"]) if good else er.Rate(0.0, 0.0)
    interval = er.wilson(measured.bad, measured.total, settings.confidence)
    threshold = 100 * settings.threshold
    if measured.fraction is not None:
        evidence = (
            f"{measured.bad:g} of {measured.total:g} bad = {100 * measured.fraction:.2f} % "
            f"({100 * settings.confidence:g} % interval {100 * interval[0]:.2f} to {100 * interval[1]:.2f} %), "
            f"threshold {threshold:g} %; {len(good)} readings in {seconds:.1f} s"
        )
        evidence += ", counted from the start of the process" if any(measurement.fresh) else ""
        evidence += f"; the process was replaced {measurement.restarts()} times" if measurement.restarts() else ""
    else:
        evidence = f"no requests in {seconds:.1f} s ({len(good)} readings)" if good else ""
    if verdict not in ("pass", "fail") or not evidence:
        evidence = reason if verdict == "error" or not evidence else f"{reason}: {evidence}"
    return {
        "verdict": verdict,
        "evidence": one_line(evidence),
        "reason": reason,
        "rate_percent": None if measured.fraction is None else round(100 * measured.fraction, 4),
        "interval_percent": percent(interval) if good else None,
        "decision_interval_percent": percent(decision.interval) if decision else None,
        "threshold_percent": round(threshold, 6),
        "counts": {"bad": measured.bad, "total": measured.total},
        "samples": measurement.samples,
        "restarts": measurement.restarts(),
        "since_start": any(measurement.fresh),
        "query": settings.query,
        "seconds": round(seconds, 3),
    }


def measure(
    settings: Settings,
    read: Callable[[str], ex.Exposition],
    known_names: Callable[[str], list[str]],
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Read until the evidence decides or the deadline is over, and return the module's answer.

    Args:
        settings: the module's options.
        read: fetches one page of metrics.
        known_names: fetches the names of all metrics of a page, for a message.
        clock: seconds, never set back.
        wall: seconds since the epoch, compared only with the start of a process.
        sleep: waits for so many seconds.
    """
    begin = clock()
    measurement = Measurement(settings)
    origin: float | None = None
    plan: list[float] = []
    looks = errors = 0
    decision: er.Decision | None = None

    def done(verdict: str, reason: str) -> dict[str, Any]:
        return _answer(settings, measurement, verdict, reason, clock() - begin, decision)

    while True:
        now = clock()
        try:
            pages = [(url, read(url)) for url in settings.urls]
            if origin is None:
                for url, page in pages:
                    scrape.require(page, settings.metric, url, known_names)
                origin = now
                left = max(0.001, begin + settings.deadline - now)
                plan = er.look_plan(min(settings.window, left), left)
            counted = [select(settings, page, url) for url, page in pages]
            measured = measurement.add(counted, now - origin, wall())
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
        elapsed = now - origin
        reached = sum(1 for due in plan if due <= elapsed + 1e-6)
        readings = len(measurement.scrapes[0])
        if reached > looks and (readings >= FIRST_READINGS or reached == len(plan)):
            looks = reached
            confidence = er.look_confidence(looks - 1, len(plan), settings.confidence)
            decision = er.decide(measured, settings.threshold, settings.min_requests, confidence)
            if decision.verdict != "inconclusive" and measurement.settled():
                return done(decision.verdict, decision.reason)
            if looks == len(plan):
                if decision.verdict == "inconclusive":
                    return done("inconclusive", decision.reason)
                return done("inconclusive", "the process was replaced just before the end")
        pause = settings.interval if readings >= FIRST_READINGS else min(settings.interval, FIRST_INTERVAL)
        due = [origin + plan[look] for look in range(looks, len(plan)) if plan[look] > elapsed]
        sleep(max(0.0, min([now + pause, *due]) - clock()))


ARGUMENT_SPEC = {
    **scrape.SPEC,
    "metric": {"type": "str", "default": "sparklio_http_requests_total"},
    "bad": {"type": "str", "default": 'status_code=~"5.."'},
    "total": {"type": "str", "default": ""},
    "threshold_percent": {"type": "float", "default": 5},
    "min_requests": {"type": "int", "default": 20},
    "confidence_percent": {"type": "float", "default": 95},
    "window": {"type": "float", "default": 60},
    "deadline": {"type": "float"},
    "interval": {"type": "float", "default": 2},
    "fresh_process": {"type": "float", "default": 0},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=scrape.EXCLUSIVE,
        required_together=scrape.TOGETHER,
        supports_check_mode=True,
    )
    try:
        settings = Settings(module.params)
        pages = scrape.Pages(module.params)
    except ValueError as exc:
        module.fail_json(msg=f"These settings can't be used: {exc}.")
    names = [settings.metric, STARTED]
    module.exit_json(changed=False, **measure(settings, lambda url: pages.read(url, names), pages.known_names))


if __name__ == "__main__":
    main()
