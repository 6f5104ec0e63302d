#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_swap
short_description: Put staged artifacts in place by rename, and take that back
version_added: "0.1.0"
description:
  - Exchanges each staged directory with the one that serves. On Linux the two trade places in one step.
  - What is displaced is kept, and goes back with O(state=absent), wherever the exchange was cut off.
options:
  run_id:
    description: The run whose artifacts these are.
    type: str
    required: true
  state:
    description: V(present) puts them in place, V(absent) puts the former ones back.
    type: str
    choices: [present, absent]
    default: present
  artifacts:
    description: The artifacts, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      staged:
        description: Where the new one is.
        type: path
        required: true
      live:
        description: Where it goes.
        type: path
        required: true
      displaced:
        description: Where the former one is kept.
        type: path
        required: true
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says which would be moved.
  diff_mode:
    support: none
    description: Directories are not compared.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Swap the environment
  sparklio.rollback.artifact_swap:
    run_id: 20250115-161502-level1
    artifacts:
      - staged: /srv/app.rollback/runs/x/staged/venv
        live: /srv/app/backend/venv
        displaced: /srv/app.rollback/runs/x/displaced/venv
"""

RETURN = r"""
moved:
  description: Live paths that now hold another artifact.
  type: list
  elements: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import artifacts
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, RunError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "artifacts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "staged": {"type": "path", "required": True},
                    "live": {"type": "path", "required": True},
                    "displaced": {"type": "path", "required": True},
                },
            },
            "journal": JOURNAL_SPEC,
        },
        supports_check_mode=True,
    )
    params = module.params
    recorder = Recorder(params["journal"], module.check_mode, "artifacts")
    items = params["artifacts"]
    moved = []
    try:
        if params["state"] == "present":
            todo = [item for item in items if artifacts.marked_by(item["live"]) != params["run_id"]]
            for item in todo:
                if not os.path.isdir(item["staged"]) and not module.check_mode:
                    raise OSError(f"{item['staged']} was not staged")
            if todo and not module.check_mode:
                recorder.intent(detail={"artifacts": items})
                for item in todo:
                    artifacts.swap_in(item["staged"], item["live"], item["displaced"])
                recorder.done(detail={"live": [item["live"] for item in todo]})
            moved = [item["live"] for item in todo]
        elif module.check_mode:
            moved = [item["live"] for item in items if artifacts.marked_by(item["live"]) == params["run_id"]]
        else:
            for item in reversed(items):
                if artifacts.swap_back(item["staged"], item["live"], item["displaced"], params["run_id"]):
                    moved.append(item["live"])
            recorder.done(detail={"live": moved})
    except (OSError, RunError) as exc:
        recorder.failed(str(exc))
        module.fail_json(msg=f"The artifacts can't be swapped: {exc}")
    module.exit_json(changed=bool(moved), moved=moved)


if __name__ == "__main__":
    main()
