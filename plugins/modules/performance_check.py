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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import error_rate, host_load, latency
from ansible_collections.sparklio.rollback.plugins.module_utils.together import together, validated

MEASURED = {"error_rate": error_rate, "latency": latency, "load": host_load}


def main() -> None:
    module = AnsibleModule(argument_spec={name: {"type": "dict"} for name in MEASURED}, supports_check_mode=True)
    start = time.monotonic()
    measures = {}
    for name in MEASURED:
        if module.params[name] is not None:
            try:
                options = validated(MEASURED[name].ARGUMENT_SPEC, module.params[name])
                measures[name] = MEASURED[name].prepare(options)
            except ValueError as exc:
                module.fail_json(msg=f"The settings of {name} can't be used: {exc}.")
    module.exit_json(changed=False, **together(measures), seconds=round(time.monotonic() - start, 3))


if __name__ == "__main__":
    main()
