#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_approval_info
short_description: Read who approved a plan, and whether that still holds
version_added: "0.1.0"
description:
  - Reads the approvals that M(sparklio.rollback.plan_approval) keeps. Changes nothing, and makes no directory.
options:
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  plan:
    description: Hash of the plan, all 64 characters.
    type: str
    required: true
  subject:
    description: What the plan would do, as its C(subject) has it. It finds the approvals of other plans.
    type: dict
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
- name: Read whether the plan is approved
  sparklio.rollback.plan_approval_info:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    plan: "{{ plan.hash }}"
    subject: "{{ plan.subject }}"
  register: approval
"""

RETURN = r"""
found:
  description:
    - The approval of O(plan), or none. C(at) and C(expires) are in seconds since the epoch, C(expired) is judged by the
      host's clock.
  type: dict
  returned: success
  sample:
    plan: 3f0a…
    by: Kim Minji
    recorded_by: deploy@console
    at: 1736957742.0
    expires: 1736972142.0
    expired: false
    subject: {}
others:
  description:
    - Approvals of other plans that lead to the same place, newest first, with C(changes), how O(subject) differs from
      what was approved.
  type: list
  elements: dict
  returned: success
damaged:
  description: Approvals that can't be read, with the reason. They count for nothing.
  type: list
  elements: str
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval, approvals
from ansible_collections.sparklio.rollback.plugins.module_utils._approval import ApprovalError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "plan": {"type": "str", "required": True},
            "subject": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        plan = _approval.plan_hash(params["plan"])
        known, damaged = approvals.read_all(params["state_dir"])
    except ApprovalError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"The approvals in {params['state_dir']} can't be read: {exc}.")
    module.exit_json(
        changed=False, damaged=damaged, **_approval.for_plan(known, plan, params["subject"] or {}, time.time())
    )


if __name__ == "__main__":
    main()
