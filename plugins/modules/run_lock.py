#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Begin or end a run, one at a time on a host
version_added: "0.1.0"
description:
  - Takes the lock of an app host for one run, or gives it back.
  - The lock names its owner. Its modification time is the heartbeat, refreshed by every record of the journal.
  - A lock without a sign of life for O(stale_after) seconds is taken over, unless its run was cut off between
    its first change and its end. Then V(playbooks/resume.yml) has to bring the system to a known state first.
options:
  state_dir:
    description: State directory on the host. Made with mode 0700 when it is missing.
    type: path
    required: true
  state:
    description: V(present) takes the lock and opens a run, V(absent) gives it back.
    type: str
    choices: [present, absent]
    default: present
  run_id:
    description:
      - The run. Left out with O(state=present), an id is made from the host's time in UTC and the level.
      - Required with O(state=absent).
    type: str
  level:
    description: What the run does, such as V(level1); part of the id.
    type: str
    default: run
  owner:
    description: Who runs it and from where, shown to whoever finds the lock taken.
    type: str
    default: unknown
  stale_after:
    description: Seconds without a sign of life after which the lock counts as left behind.
    type: int
    default: 300
  takeover:
    description: Id of a run whose lock is taken whatever its age. Only for a run that is known to be dead.
    type: str
  resume:
    description:
      - V(true) opens the newest run that was cut off again, in place of a new one.
      - A run that died before it changed anything needs no undo; only its lock is removed then.
    type: bool
    default: false
  reopen:
    description:
      - Id of a run that is over and is to be taken back after all. Refused where it changed nothing that still
        holds, or
        where a later run changed the system.
    type: str
  records:
    description:
      - With O(state=absent), what the journal ends with, as in M(sparklio.rollback.run_journal).
      - Where they can't be written the module fails, and the lock is given back all the same.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
    description: Says whether the lock could be had, takes nothing and writes nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Begin a run
  sparklio.rollback.run_lock:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    level: level1
    owner: minji@console
  register: run

- name: End it
  sparklio.rollback.run_lock:
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    run_id: "{{ run.run_id }}"
    state: absent
    records:
      - event: end
        outcome: rolled_back
        message: v4.0.20250115-1430 serves
"""

RETURN = r"""
run_id:
  description: The run, or an empty string when there is nothing to resume.
  type: str
  returned: success
  sample: 20250115-161502-level1
run_dir:
  description: The run's own directory on the host.
  type: str
  returned: success
history:
  description: Earlier runs, oldest first, as summaries of their journals.
  type: list
  elements: dict
  returned: O(state=present)
cleared:
  description: A run that died before it changed anything, and whose lock was removed.
  type: str
  returned: O(resume=true) and there is nothing to resume
pending:
  description: With O(resume=true), the steps to take back, newest first.
  type: list
  elements: dict
  returned: O(resume=true)
resumed:
  description: With O(resume=true), what that run was, as a summary of its journal.
  type: dict
  returned: O(reopen), or O(resume=true) and there is something to resume
"""

import errno
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError, State


def new_id(state: State, level: str) -> str:
    """An id that begins with the time in UTC, and that no earlier run of the same second has."""
    wanted = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{level}"
    taken, number, run_id = set(state.run_ids()), 1, wanted
    while run_id in taken:
        number += 1
        run_id = f"{wanted}-{number}"
    return run_id


def present(module: AnsibleModule, state: State) -> dict:
    params = module.params
    resume = None
    if params["resume"]:
        unfinished = state.unfinished()
        if unfinished is None:
            cleared = None if module.check_mode else state.clear(params["stale_after"], params["takeover"])
            return {"changed": False, "run_id": "", "run_dir": "", "pending": [], "history": [], "cleared": cleared}
        resume = unfinished["run_id"]
    if params["reopen"]:
        resume = state.may_reopen(params["reopen"])
    run_id = resume or params["run_id"] or new_id(state, params["level"])
    # Read first: what fails here must not leave a lock behind.
    history = [item for item in state.summaries() if item["run_id"] != run_id]
    if module.check_mode:
        why = state.refusal(params["stale_after"], params["takeover"], resume)
        if why:
            raise RunError(why)
    else:
        state.acquire(run_id, params["owner"], params["stale_after"], params["takeover"], resume)
        if params["reopen"]:
            state.append(run_id, "reopened", owner=params["owner"])
    result = {
        "changed": False,
        "run_id": run_id,
        "run_dir": state.run_dir(run_id),
        "history": history,
    }
    if resume:
        records = state.read(resume)
        result["pending"] = _journal.pending(records)
        result["resumed"] = _journal.summary(records)
    return result


def absent(module: AnsibleModule, state: State) -> dict:
    run_id = module.params["run_id"]
    if not module.check_mode:
        try:
            for record in module.params["records"]:
                state.append(run_id, **record)
        finally:
            state.release(run_id)
    return {"changed": False, "run_id": run_id, "run_dir": state.run_dir(run_id)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "run_id": {"type": "str"},
            "level": {"type": "str", "default": "run"},
            "owner": {"type": "str", "default": "unknown"},
            "stale_after": {"type": "int", "default": 300},
            "takeover": {"type": "str"},
            "resume": {"type": "bool", "default": False},
            "reopen": {"type": "str"},
            "records": {"type": "list", "elements": "dict", "default": []},
        },
        mutually_exclusive=[("resume", "reopen"), ("run_id", "reopen")],
        required_if=[("state", "absent", ["run_id"])],
        supports_check_mode=True,
    )
    state = State(module.params["state_dir"])
    try:
        result = present(module, state) if module.params["state"] == "present" else absent(module, state)
    except RunError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        cure = {
            errno.ENOSPC: "Free some space there and run it again",
            errno.EDQUOT: "Free some space there and run it again",
            errno.EACCES: "Make it writable for this user, or name another place: -e rollback_state_dir=…",
            errno.EROFS: "Name a writable place: -e rollback_state_dir=…",
        }.get(exc.errno or 0, "Look at that directory")
        module.fail_json(msg=f"The state directory {state.path} can't be used: {exc.strerror}. {cure}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
