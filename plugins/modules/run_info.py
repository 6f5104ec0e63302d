#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_info
short_description: Read which runs there were, and whether one is under way or was cut off
version_added: "0.1.0"
description:
  - Reads the lock and the journals. Changes nothing, not even the lock, and makes no directory.
  - Without a state directory there were no runs.
options:
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  limit:
    description: How many runs to return at the most.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Read the last runs
  sparklio.rollback.run_info:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
  register: runs
"""

RETURN = r"""
now:
  description: The host's time, in seconds since the epoch.
  type: float
  returned: success
holder:
  description: Who holds the lock, with C(age), the seconds since the last sign of life. None where nobody does.
  type: dict
  returned: success
  sample: {"run_id": "20250115-161502-level1", "owner": "minji@console", "age": 4.2}
unfinished:
  description: The newest run that left steps neither finished nor undone, as a summary of its journal, or none.
  type: dict
  returned: success
runs:
  description:
    - The last runs, newest first, as summaries of their journals, with C(ended_at) and C(message) of their end.
  type: list
  elements: dict
  returned: success
  sample:
    - run_id: 20250115-161502-level1
      level: 1
      outcome: rolled_back
      ended_at: 1736957742.1
      message: ""
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError, State


def read(state: State, limit: int) -> dict:
    runs = []
    for run_id in reversed(state.run_ids()[-limit:] if limit > 0 else []):
        records = state.read(run_id)
        end = next((record for record in reversed(records) if record["event"] == "end"), {})
        runs.append(
            _journal.summary(records)
            | {"run_id": run_id, "ended_at": end.get("time"), "message": end.get("message") or ""}
        )
    return {"holder": state.holder(), "unfinished": state.unfinished(), "runs": runs}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "limit": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    state = State(module.params["state_dir"])
    try:
        found = read(state, module.params["limit"])
    except RunError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"The state directory {state.path} can't be read: {exc.strerror}. Run it as the application's owner."
        )
    module.exit_json(changed=False, now=time.time(), **found)


if __name__ == "__main__":
    main()
