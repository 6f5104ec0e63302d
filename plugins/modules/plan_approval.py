#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_approval
short_description: Record that a person approved a plan
version_added: "0.1.0"
description:
  - An approval is of one plan, by its hash, names a person, and expires. A plan that would do something else has
    another hash, and needs another approval.
  - Approvals are kept below the state directory as C(approvals/<hash>.json), readable by their owner only. Read them
    with M(sparklio.rollback.plan_approval_info).
options:
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  state:
    description:
      - V(present) records one. An earlier one of the same plan is replaced, since it may have expired.
      - V(absent) takes it back.
    type: str
    choices: [present, absent]
    default: present
  plan:
    description: Hash of the plan, all 64 characters.
    type: str
    required: true
  subject:
    description:
      - What the plan would do, as its C(subject) has it. It must have the hash O(plan).
      - It is kept, so that a later change of the plan can be named.
    type: dict
  by:
    description: Who approves it. Needed with V(present).
    type: str
  recorded_by:
    description: Who records it. By default the user of the host who does.
    type: str
  hours:
    description: How many hours the approval holds, 168 at the most.
    type: float
    default: 4
attributes:
  check_mode:
    support: full
    description: Says what it would do.
  diff_mode:
    support: full
    description: Shows by whom the plan is approved before and after, and until when.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Record who approved the plan
  sparklio.rollback.plan_approval:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    plan: "{{ plan.hash }}"
    subject: "{{ plan.subject }}"
    by: Kim Minji

- name: Take the approval back
  sparklio.rollback.plan_approval:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    plan: "{{ plan.hash }}"
    state: absent
"""

RETURN = r"""
approval:
  description: The approval as it is kept, or none. C(at) and C(expires) are in seconds since the epoch.
  type: dict
  returned: success
  sample:
    plan: 3f0a…
    by: Kim Minji
    recorded_by: deploy@console
    at: 1736957742.0
    expires: 1736972142.0
    subject: {}
path:
  description: The approval's file.
  type: str
  returned: success
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval, approvals
from ansible_collections.sparklio.rollback.plugins.module_utils._approval import ApprovalError


def shown(approval: dict[str, Any] | None) -> str:
    """An approval as the one line of a diff."""
    return f"by {approval['by']} until {_approval.timestamp(approval['expires'])}\n" if approval else ""


def act(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    state_dir, plan = params["state_dir"], params["plan"]
    path = approvals.path(state_dir, plan)
    before = next((item for item in approvals.read_all(state_dir)[0] if item["plan"] == plan), None)
    if params["state"] == "absent":
        changed, after = os.path.lexists(path), None
        if changed and not check:
            os.unlink(path)
    else:
        by = params["recorded_by"] or approvals.recorder()
        changed, after = True, _approval.give(plan, params["by"], by, now, params["hours"], params["subject"])
        if not check:
            approvals.write(state_dir, after)
    diff = {"before_header": path, "after_header": path, "before": shown(before), "after": shown(after)}
    return {"changed": changed, "approval": after, "path": path, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "plan": {"type": "str", "required": True},
            "subject": {"type": "dict"},
            "by": {"type": "str"},
            "recorded_by": {"type": "str"},
            "hours": {"type": "float", "default": 4},
        },
        required_if=[("state", "present", ("by",))],
        supports_check_mode=True,
    )
    try:
        result = act(module.params, module.check_mode, time.time())
    except ApprovalError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"The approval can't be kept in {module.params['state_dir']}: {exc}. Run it as the application's owner."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
