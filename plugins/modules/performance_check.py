#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: performance_check
short_description: Measure error rate, latency and load at the same time
version_added: "0.1.0"
description:
  - Does what M(sparklio.rollback.metric_error_rate), M(sparklio.rollback.metric_latency) and
    M(sparklio.rollback.host_load) do, all at once, so that it takes as long as the slowest of them.
  - A verdict is a result. The module fails only on settings that make no sense.
options:
  error_rate:
    description:
      - Options of M(sparklio.rollback.metric_error_rate), by their names. Left out, it is not measured.
      - Those that hold a secret are not taken, here and in O(latency). O(ignore:bearer_token_file) is.
    type: dict
  latency:
    description: Options of M(sparklio.rollback.metric_latency), by their names. Left out, it is not measured.
    type: dict
  load:
    description: Options of M(sparklio.rollback.host_load), by their names. Left out, it is not measured.
    type: dict
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
- name: Measure how the backend and its host perform
  sparklio.rollback.performance_check:
    error_rate:
      urls: [http://127.0.0.1:8000/metrics]
      window: 20
    latency:
      urls: [http://127.0.0.1:8000/metrics]
      mean_max_seconds: 3
      window: 20
    load:
      cpu_max_percent: 70
      memory_max_percent: 80
  register: performance
"""

RETURN = r"""
error_rate:
  description: All that M(sparklio.rollback.metric_error_rate) returns.
  returned: O(error_rate) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "0 of 214 bad = 0.00 %", "rate_percent": 0.0}
latency:
  description: All that M(sparklio.rollback.metric_latency) returns.
  returned: O(latency) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "mean 0.031 s is under 3 s", "mean_seconds": 0.031}
load:
  description: All that M(sparklio.rollback.host_load) returns.
  returned: O(load) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "CPU 12.5 % is under 70 %", "cpu_percent": 12.5}
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 20.1
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.sparklio.rollback.plugins.module_utils import error_rate, host_load, latency

MEASURED = {"error_rate": error_rate, "latency": latency, "load": host_load}

Measure = Callable[[], dict[str, Any]]


def prepare(name: str, options: Mapping[str, Any]) -> Measure:
    """Return what measures as the options say.

    Raises:
        ValueError: they can't be used.
    """
    # What is secret would be shown among the options of this module.
    spec = {option: given for option, given in MEASURED[name].ARGUMENT_SPEC.items() if not given.get("no_log")}
    checked = ArgumentSpecValidator(spec).validate(options)
    if checked.error_messages:
        raise ValueError("; ".join(checked.error_messages))
    hidden = dict.fromkeys(MEASURED[name].ARGUMENT_SPEC)
    return MEASURED[name].prepare({**hidden, **checked.validated_parameters})


def together(measures: Mapping[str, Measure]) -> dict[str, dict[str, Any]]:
    """Return what all of them answer."""
    with ThreadPoolExecutor(max_workers=len(measures) or 1) as pool:
        begun = {name: pool.submit(measure) for name, measure in measures.items()}
    found = {}
    for name, future in begun.items():
        problem = future.exception()
        found[name] = (
            {"verdict": "error", "evidence": f"the measurement itself broke: {problem!r}"}
            if problem
            else future.result()
        )
    return found


def main() -> None:
    module = AnsibleModule(argument_spec={name: {"type": "dict"} for name in MEASURED}, supports_check_mode=True)
    start = time.monotonic()
    measures = {}
    for name in MEASURED:
        if module.params[name] is not None:
            try:
                measures[name] = prepare(name, module.params[name])
            except ValueError as exc:
                module.fail_json(msg=f"The settings of {name} can't be used: {exc}.")
    module.exit_json(changed=False, **together(measures), seconds=round(time.monotonic() - start, 3))


if __name__ == "__main__":
    main()
