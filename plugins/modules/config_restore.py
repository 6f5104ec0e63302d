#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_restore
short_description: Put environment files back by rename, and take that back
version_added: "0.1.0"
description:
  - Writes all files that differ beside those that they replace, each with its mode, owner, POSIX ACL and SELinux
    context, and then lets each take its place by one rename. A link stays a link; what it points to is replaced.
  - Everything is compared once more before the first rename. What is put back with O(state=absent) is what
    O(preserved) holds. What somebody wrote meanwhile is copied to O(displaced) first.
options:
  root:
    description: Root of the application's git clone.
    type: path
    required: true
  files:
    description: The environment files, relative to O(root). No other file is ever written.
    type: list
    elements: str
    default: [.env, backend/.env, frontend/.env.local]
  state:
    description: V(present) puts the files of O(source) in place, V(absent) those of O(preserved) again.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Where they come from, as M(sparklio.rollback.config_diff) returns it. Needed with O(state=present).
      - With O(state=absent), where they came from; what is neither from there nor in O(preserved) was edited by hand.
    type: dict
    suboptions:
      name:
        description: What it is called.
        type: str
      restore_point:
        description: Directory of a restore point.
        type: path
      hand_made:
        description: Path of the copy of each file.
        type: dict
  preserved:
    description: Directory of the restore point with the files as they were before this run. Not needed in check mode.
    type: path
  run_id:
    description: The run, part of the names of temporary files.
    type: str
    required: true
  displaced:
    description: Directory that a file is moved to which did not exist then, and that edits by hand are copied to.
    type: path
    required: true
  detail:
    description: What the undo needs to know besides, for the journal. No values.
    type: dict
    default: {}
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says which files would be replaced.
  diff_mode:
    support: full
    description: By key, with every value masked.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Put the files of a restore point in place
  sparklio.rollback.config_restore:
    root: ~/sparklio_ai_marketing_studio
    source: "{{ differences.source }}"
    preserved: "{{ kept.path }}"
    run_id: 20250115-161502-level2
    displaced: ~/sparklio_ai_marketing_studio.rollback/runs/20250115-161502-level2/displaced
"""

RETURN = r"""
replaced:
  description: The files that are others now, relative to O(root).
  type: list
  elements: str
  returned: success
aside:
  description: With O(state=absent), the edits by hand that were copied first, each with C(target) and C(path).
  type: list
  elements: dict
  returned: success
"""

import contextlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _config, config_files
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, RunError


def source_states(params: dict[str, Any]) -> dict[str, _config.State]:
    source = params["source"] or {}
    if source.get("hand_made"):
        for target in source["hand_made"]:
            problem = _config.target_problem(target, params["files"])
            if problem:
                raise config_files.ConfigError(problem)
        return config_files.from_hand_made(params["root"], source["hand_made"])
    return config_files.from_restore_point(source["restore_point"], params["files"])


def differing(root: str, wanted: dict[str, _config.State]) -> list[tuple[_config.State, _config.State]]:
    """What is and what is wanted, of each file where they differ."""
    found = [(config_files.look(root, target), state) for target, state in wanted.items()]
    return [pair for pair in found if _config.action(*pair) != "none"]


def present(params: dict[str, Any], recorder: Recorder, check_mode: bool) -> dict[str, Any]:
    root = params["root"]
    pairs = differing(root, source_states(params))
    targets = [state.target for _found, state in pairs]
    result = {
        "changed": bool(pairs),
        "replaced": targets,
        "diff": [
            _config.masked_diff(state.target, _config.key_changes(found.body, state.body))
            for found, state in pairs
            if found.body != state.body
        ],
    }
    if check_mode or not pairs:
        return result
    kept = config_files.from_restore_point(params["preserved"], params["files"])
    for found, state in pairs:
        if state.target not in kept or kept[state.target].body != found.body:
            raise config_files.ConfigError(
                f"{state.target} was changed after this run had kept it, and that would be lost. Run it again"
            )
        problem = config_files.link_problem(root, found, state, [wanted for _found, wanted in pairs])
        if problem:
            raise config_files.ConfigError(problem)
    # The undo has to know what this run itself put there.
    source = {key: value for key, value in params["source"].items() if value}
    recorder.intent(detail={"targets": targets, "preserved": params["preserved"], "source": source, **params["detail"]})
    config_files.put(root, [state for _found, state in pairs], params["run_id"], params["displaced"])
    recorder.done(detail={"targets": targets})
    return result


def absent(params: dict[str, Any], recorder: Recorder, check_mode: bool) -> dict[str, Any]:
    root = params["root"]
    kept = config_files.from_restore_point(params["preserved"], params["files"])
    targets = params["detail"].get("targets") or list(kept)
    pairs = differing(root, {target: kept[target] for target in targets if target in kept})
    replaced = [state.target for _found, state in pairs]
    aside: list[dict[str, str]] = []
    if not check_mode:
        put: dict[str, _config.State] = {}
        # Without it, whatever is there may be somebody's work.
        with contextlib.suppress(config_files.ConfigError, OSError):
            put = source_states(params) if params["source"] else {}
        config_files.clear(root, targets, [*put.values(), *kept.values()], params["run_id"])
        for found, state in pairs:
            known = [state.body, put[state.target].body if state.target in put else None]
            if found.body is not None and found.body not in known:
                path = config_files.copy_aside(found, os.path.join(params["displaced"], state.target))
                aside.append({"target": state.target, "path": path})
        config_files.put(root, [state for _found, state in pairs], params["run_id"], params["displaced"])
        recorder.done(detail={"targets": replaced, "aside": aside})
    return {"changed": bool(pairs), "replaced": replaced, "aside": aside}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "default": [".env", "backend/.env", "frontend/.env.local"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "source": {
                "type": "dict",
                "options": {"name": {"type": "str"}, "restore_point": {"type": "path"}, "hand_made": {"type": "dict"}},
                "mutually_exclusive": [("restore_point", "hand_made")],
                "required_one_of": [("restore_point", "hand_made")],
            },
            "preserved": {"type": "path"},
            "run_id": {"type": "str", "required": True},
            "displaced": {"type": "path", "required": True},
            "detail": {"type": "dict", "default": {}},
            "journal": JOURNAL_SPEC,
        },
        required_if=[("state", "present", ["source"]), ("state", "absent", ["preserved"])],
        supports_check_mode=True,
    )
    params = module.params
    recorder = Recorder(params["journal"], module.check_mode, "config_files")
    if params["state"] == "present" and not module.check_mode and not params["preserved"]:
        module.fail_json(msg="The files are replaced only after they were kept: set preserved to that restore point.")
    try:
        if params["state"] == "present":
            result = present(params, recorder, module.check_mode)
        else:
            result = absent(params, recorder, module.check_mode)
    except (config_files.ConfigError, OSError, RunError) as exc:
        recorder.failed(str(exc))
        module.fail_json(msg=f"The environment files can't be put in place: {exc}.")
    for item in result.get("aside", []):
        module.warn(f"{item['target']} was not as this run had left it: what it held is kept as {item['path']}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
