#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_load
short_description: Judge how busy a host's processors are and how much of its memory is in use
version_added: "0.1.0"
description:
  - Measures the processors of the whole host over some seconds, and its memory at their end, on Linux and macOS.
  - On Linux from C(/proc/stat) and C(/proc/meminfo). Waiting for a disk counts as idle, file caches as free. Where the
    control group of a container has less memory than the host, its limit counts. The processors are always the host's.
  - On macOS by the kernel's C(host_statistics) and by C(vm_stat). Memory in use is what Activity Monitor calls so.
  - A verdict is a result. The module fails only on settings that make no sense.
options:
  window:
    description: Seconds over which the processors are measured.
    type: float
    default: 5
  cpu_max_percent:
    description: The processors are too busy from here on, in percent of all of them. Without it they are not judged.
    type: float
  memory_max_percent:
    description: Too much memory is in use from here on, in percent. Without it the memory is not judged.
    type: float
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
- name: Judge the load by the checklist of the runbook
  sparklio.rollback.host_load:
    window: 10
    cpu_max_percent: 70
    memory_max_percent: 80
  register: load
"""

RETURN = r"""
verdict:
  description:
    - V(pass), V(fail) or V(error), of all limits together. V(error) when the system does not tell what a limit needs.
    - V(inconclusive) when no limit was given.
  returned: always
  type: str
  sample: pass
evidence:
  description: What was measured, in one line.
  returned: always
  type: str
  sample: CPU 12.5 % of 8 cores over 5.0 s is under 70 %; memory 41.0 % of 15.6 GiB is under 80 %
verdicts:
  description: One for each limit, named C(cpu) and C(memory), with its evidence and figures.
  returned: always
  type: list
  elements: dict
  sample:
    - name: cpu
      verdict: pass
      evidence: CPU 12.5 % of 8 cores over 5.0 s is under 70 %
      data: {percent: 12.5, limit_percent: 70.0}
cpu_percent:
  description: How busy all processors were together. Null when the system does not tell.
  returned: always
  type: float
  sample: 12.5
memory_percent:
  description: How much of the memory is in use. Null when the system does not tell.
  returned: always
  type: float
  sample: 41.0
memory_total_mib:
  description: The memory that there is, in MiB. Null when the system does not tell.
  returned: always
  type: int
  sample: 15974
load1:
  description: Load average of the last minute.
  returned: always
  type: float
  sample: 0.97
cores:
  description: Number of processors.
  returned: always
  type: int
  sample: 8
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 5.0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils.host_load import ARGUMENT_SPEC, prepare


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        measure = prepare(module.params)
    except ValueError as exc:
        module.fail_json(msg=f"{exc}.")
    module.exit_json(changed=False, **measure())


if __name__ == "__main__":
    main()
