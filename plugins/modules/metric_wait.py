#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_wait
short_description: Wait until a gauge of a metrics endpoint meets a condition
version_added: "0.1.0"
description:
  - Reads a gauge from one or several metrics endpoints again and again, sums its series, and ends as soon as the sum
    meets O(condition), or at the deadline.
  - V(pass) when the condition was met, V(fail) when it was not by the deadline. Then it says which series were left.
  - V(error) when it could not be told. The endpoint did not answer at the deadline, answers something else, has no such
    metric, or several processes take turns behind it.
  - A verdict is a result. The module fails only on settings that make no sense.
extends_documentation_fragment: sparklio.rollback.metrics
options:
  metric:
    description:
      - Name of the gauge.
      - One that the endpoint declares without any series is 0. Gauges with labels do not exist before their first use.
    type: str
    default: sparklio_active_workflows
  selector:
    description: Which series are summed, as in PromQL. The empty string takes all.
    type: str
    default: ""
  condition:
    description: What the sum has to be. By default 0, which then holds for each series by itself too.
    type: dict
    suboptions:
      op:
        description: How to compare.
        type: str
        choices: ["==", "!=", "<=", "<", ">=", ">"]
        default: "=="
      value:
        description: What to compare with.
        type: float
        default: 0
  stable_readings:
    description: So many readings in a row have to meet the condition.
    type: int
    default: 1
  deadline:
    description:
      - Seconds to wait at the most. With V(0) it reads once.
      - A condition that holds then is read on, as often as O(stable_readings) asks.
    type: float
    default: 300
  interval:
    description: Seconds between two readings.
    type: float
    default: 2
  heartbeat:
    description: The run whose lock is kept alive meanwhile, for a wait that is longer than a lock may be silent.
    type: dict
    suboptions:
      state_dir:
        description: State directory on the host.
        type: path
        required: true
      run_id:
        description: The run that holds the lock.
        type: str
        required: true
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
- name: Wait until no workflow is being worked on, for five minutes at the most
  sparklio.rollback.metric_wait:
    urls: [http://127.0.0.1:8000/metrics]
    metric: sparklio_active_workflows
    deadline: 300
  register: drained

- name: Wait until at most one campaign is
  sparklio.rollback.metric_wait:
    urls: [http://127.0.0.1:8000/metrics]
    selector: workflow_type="campaign"
    condition: {op: "<=", value: 1}
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail) or V(error).
  returned: always
  type: str
  sample: fail
met:
  description: Whether the condition was met.
  returned: always
  type: bool
  sample: false
evidence:
  description: What was seen, in one line.
  returned: always
  type: str
  sample: 'sparklio_active_workflows is 3 and not == 0 after 300.0 s: workflow_type="campaign" 3'
value:
  description: The sum at the last reading. Null without a reading.
  returned: always
  type: float
  sample: 3.0
left:
  description: The series that were not 0 at the last reading, by their labels.
  returned: always
  type: dict
  sample: {'workflow_type="campaign"': 2.0, 'workflow_type="reel"': 1.0}
samples:
  description: Readings with another sum than the one before. Seconds since the beginning, the sum, or what went wrong.
  returned: always
  type: list
  elements: dict
  sample: [{"at": 0.0, "value": 4.0}, {"at": 84.1, "value": 3.0}]
readings:
  description: Number of readings.
  returned: always
  type: int
  sample: 151
query:
  description: What was waited for, as PromQL.
  returned: always
  type: str
  sample: sum(sparklio_active_workflows) == 0
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 300.0
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _gauge, fetch, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.scrape import STARTED, NothingToMeasure


class Settings:
    """The module's options, checked."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.urls: list[str] = params["urls"]
        self.metric: str = params["metric"]
        self.selector = ex.parse_selector(params["selector"])
        condition = params["condition"] or {"op": "==", "value": 0.0}
        self.condition = _gauge.Condition(condition["op"], condition["value"])
        self.stable: int = params["stable_readings"]
        self.deadline: float = params["deadline"]
        self.interval: float = params["interval"]
        problems = {
            "urls names no address": not self.urls,
            "stable_readings must be at least 1": self.stable < 1,
            "deadline must not be negative": not self.deadline >= 0,
            "interval must be over 0": not self.interval > 0,
        }
        for problem, present in problems.items():
            if present:
                raise ValueError(problem)

    @property
    def query(self) -> str:
        chosen = f"{{{self.selector}}}" if self.selector.matchers else ""
        return f"sum({self.metric}{chosen}) {self.condition}"


class Wait:
    """All readings so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.starts: list[list[float | None]] = [[] for _url in settings.urls]
        self.series: dict[ex.Labels, float] | None = None
        self.samples: list[dict[str, Any]] = []
        self.readings = self.stable = 0

    @property
    def value(self) -> float | None:
        return None if self.series is None else sum(self.series.values())

    def add(self, pages: list[tuple[str, ex.Exposition]], known_names: Callable[[str], list[str]]) -> None:
        found = []
        for number, (url, page) in enumerate(pages):
            scrape.require(page, self.settings.metric, url, known_names)
            try:
                found.append(_gauge.values(page, self.settings.metric, self.settings.selector))
            except _gauge.GaugeError as exc:
                raise NothingToMeasure(f"{mask(url)}: {exc}") from exc
            self.starts[number].append(next(iter(page.samples.get(STARTED, {}).values()), None))
        if any(er.several_processes(starts) for starts in self.starts):
            raise NothingToMeasure(scrape.MIXED)
        self.series = _gauge.summed(found)
        self.readings += 1
        self.stable = self.stable + 1 if self.settings.condition.met(self.series.values()) else 0

    def note(self, at: float, **seen: Any) -> None:
        if not self.samples or {key: self.samples[-1].get(key) for key in seen} != seen:
            self.samples.append({"at": round(at, 3), **seen})

    def answer(self, verdict: str, seconds: float, reason: str = "") -> dict[str, Any]:
        left = _gauge.left(self.series or {})
        shown = ", ".join(f"{labels} {value:g}" for labels, value in left.items() if labels)
        evidence = "" if self.value is None else f"{self.settings.metric} is {self.value:g}"
        if verdict != "pass":
            evidence += f" and not {self.settings.condition}" if evidence and verdict == "fail" else ""
            evidence += f" after {seconds:.1f} s" if evidence else ""
            evidence = f"{reason}; before that {evidence}" if reason and evidence else reason or evidence
        else:
            evidence += f" after {seconds:.1f} s"
        return {
            "verdict": verdict,
            "met": verdict == "pass",
            "evidence": one_line(evidence + (f": {shown}" if shown and self.value is not None else "")),
            "value": self.value,
            "left": left,
            "samples": self.samples,
            "readings": self.readings,
            "query": self.settings.query,
            "seconds": round(seconds, 3),
        }


def wait(
    settings: Settings,
    read: Callable[[str], ex.Exposition],
    known_names: Callable[[str], list[str]],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Read until the condition is met or the deadline is over, and return the module's answer.

    Args:
        settings: the module's options.
        read: fetches one page of metrics.
        known_names: fetches the names of all metrics of a page, for a message.
        clock: seconds, never set back.
        sleep: waits for so many seconds.
    """
    begin = clock()
    end = begin + settings.deadline
    state = Wait(settings)
    while True:
        now = clock()
        problem = ""
        try:
            state.add([(url, read(url)) for url in settings.urls], known_names)
            state.note(now - begin, value=state.value)
        except (NothingToMeasure, ex.ExpositionError) as exc:
            return state.answer("error", clock() - begin, str(exc))
        except fetch.FetchError as exc:
            problem = str(exc)
            state.stable = 0
            state.note(now - begin, error=problem)
        if state.stable >= settings.stable:
            return state.answer("pass", clock() - begin)
        # What began to hold just before the deadline may show that it lasts.
        if now >= end - 1e-6 and not state.stable:
            return state.answer("error" if problem else "fail", clock() - begin, problem)
        due = now + settings.interval
        sleep(max(0.0, (due if state.stable else min(due, end)) - clock()))


ARGUMENT_SPEC = {
    **scrape.SPEC,
    "metric": {"type": "str", "default": "sparklio_active_workflows"},
    "selector": {"type": "str", "default": ""},
    "condition": {
        "type": "dict",
        "options": {
            "op": {"type": "str", "choices": list(_gauge.OPERATORS), "default": "=="},
            "value": {"type": "float", "default": 0},
        },
    },
    "stable_readings": {"type": "int", "default": 1},
    "deadline": {"type": "float", "default": 300},
    "interval": {"type": "float", "default": 2},
    "heartbeat": {
        "type": "dict",
        "options": {"state_dir": {"type": "path", "required": True}, "run_id": {"type": "str", "required": True}},
    },
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
    with Recorder(module.params["heartbeat"], module.check_mode, "wait").heartbeat():
        found = wait(settings, lambda url: pages.read(url, names), pages.known_names)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
