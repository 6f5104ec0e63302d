#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_journal
short_description: Write to the journal of a run, or read it
version_added: "0.1.0"
description:
  - The journal is one JSON object a line, on disk before the module returns. The report, the announcement and
    the undo are all read from it.
  - Writing refreshes the heartbeat of the lock, and fails when another run holds the lock.
options:
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  run_id:
    description: The run.
    type: str
    required: true
  records:
    description: What to add. Each needs C(event); the time and the run are filled in.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  diff_mode:
    support: none
    description: A journal only grows.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Note that an act begins, and what the acts before it took
  sparklio.rollback.run_journal:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    run_id: 20250115-161502-level1
    records:
      - event: act
        act: switch
        seconds: {check: 4.2, preserve: 0.6, prepare: 31.0}
"""

RETURN = r"""
now:
  description: The host's time, in seconds since the epoch.
  type: float
  returned: success
pending:
  description: Steps that were begun and not undone, newest first.
  type: list
  elements: dict
  returned: success
outcome:
  description: The outcome of a run that is over, else none.
  type: str
  returned: success
summary:
  description: What the run was so far.
  type: dict
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError, State


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "run_id": {"type": "str", "required": True},
            "records": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    state = State(params["state_dir"])
    try:
        for record in params["records"]:
            if not module.check_mode:
                state.append(params["run_id"], **record)
        records = state.read(params["run_id"])
    except RunError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"The journal {state.journal_path(params['run_id'])} can't be written: {exc.strerror}.")
    module.exit_json(
        changed=False,
        now=time.time(),
        pending=_journal.pending(records),
        outcome=_journal.ended(records),
        summary=_journal.summary(records),
    )


if __name__ == "__main__":
    main()
