#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_approval
short_description: Record that a person approved a plan, or read who did
version_added: "0.1.0"
description:
  - An approval is of one plan, by its hash, names a person, and expires. A plan that would do something else has
    another hash, and needs another approval.
  - Approvals are kept below the state directory as C(approvals/<hash>.json), readable by their owner only.
options:
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  state:
    description:
      - V(info) reads the approval of O(plan), and those of other plans that lead to the same place.
      - V(present) records one. An earlier one of the same plan is replaced.
      - V(absent) takes it back.
    type: str
    choices: [info, present, absent]
    default: info
  plan:
    description: Hash of the plan, all 64 characters. Needed with V(present) and V(absent).
    type: str
  subject:
    description:
      - What the plan would do, as its C(subject) has it. It must have the hash O(plan).
      - With V(present) it is kept, so that a later change can be named. With V(info) it finds the approvals of other
        plans.
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
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Record who approved the plan
  sparklio.rollback.plan_approval:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    state: present
    plan: "{{ plan.hash }}"
    subject: "{{ plan.subject }}"
    by: Kim Minji

- name: Read whether it is approved
  sparklio.rollback.plan_approval:
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
path:
  description: The approval's file, or none without O(plan).
  type: str
  returned: success
damaged:
  description: Approvals that can't be read, with the reason. They count for nothing.
  type: list
  elements: str
  returned: success
"""

import contextlib
import getpass
import json
import os
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval
from ansible_collections.sparklio.rollback.plugins.module_utils._approval import ApprovalError
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State, write_private


def read_all(folder: str) -> tuple[list[dict[str, Any]], list[str]]:
    """All approvals in a directory, and what is wrong with those that can't be read."""
    approvals, damaged = [], []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".json"):
                continue
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as stream:
                    found = _approval.decode(stream.read())
                if name != f"{found['plan']}.json":
                    raise ApprovalError("It is of another plan than its name says. Remove it.")
                approvals.append(found)
            except (ApprovalError, OSError, UnicodeDecodeError) as exc:
                damaged.append(f"{name}: {exc}")
    return approvals, damaged


def recorder() -> str:
    """Who runs this, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def shown(approval: dict[str, Any] | None) -> str:
    if approval is None:
        return ""
    return f"by {approval['by']} until {_approval.timestamp(approval['expires'])}\n"


def act(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    folder = os.path.join(params["state_dir"], "approvals")
    plan = _approval.plan_hash(params["plan"]) if params["plan"] else None
    path = os.path.join(folder, f"{plan}.json") if plan else None
    subject = params["subject"] or {}
    approvals, damaged = read_all(folder)
    before = _approval.for_plan(approvals, plan or "", subject, now)
    result: dict[str, Any] = {"changed": False, "path": path, "damaged": damaged, **before}
    if params["state"] == "info" or path is None:
        return result
    if params["state"] == "absent":
        there = os.path.lexists(path)
        if there and not check:
            os.unlink(path)
        after = None
        result.update(changed=there, found=None)
    else:
        by = params["recorded_by"] or recorder()
        after = _approval.give(plan or "", params["by"] or "", by, now, params["hours"], subject)
        if not check:
            State(params["state_dir"]).prepare()
            os.makedirs(folder, mode=0o700, exist_ok=True)
            write_private(path, json.dumps(after, ensure_ascii=False, sort_keys=True) + "\n")
        result.update(changed=True, found={**after, "expired": False})
    result["diff"] = {
        "before_header": path,
        "after_header": path,
        "before": shown(before["found"]),
        "after": shown(after),
    }
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["info", "present", "absent"], "default": "info"},
            "plan": {"type": "str"},
            "subject": {"type": "dict"},
            "by": {"type": "str"},
            "recorded_by": {"type": "str"},
            "hours": {"type": "float", "default": _approval.HOURS},
        },
        required_if=[("state", "present", ("plan", "by")), ("state", "absent", ("plan",))],
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
