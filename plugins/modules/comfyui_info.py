#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: comfyui_info
short_description: Tell what a ComfyUI is made of
version_added: "0.1.0"
description:
  - Tells the commit of ComfyUI, those of its custom nodes, and the packages of its environment, which is what it takes
    to have it again. Changes nothing.
options:
  root:
    description: ComfyUI's git clone on its host.
    type: path
    default: ~/ComfyUI
  venvs:
    description: Its environments, relative to O(root), the first that exists counts.
    type: list
    elements: str
    default: [venv, .venv]
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
- name: Look at ComfyUI
  sparklio.rollback.comfyui_info:
    root: ~/ComfyUI
  delegate_to: "{{ groups.comfyui | first }}"
  register: comfyui
"""

RETURN = r"""
comfyui:
  description: >-
    C(root), C(commit), C(branch), C(origin), C(changed_files); C(custom_nodes), each with C(name), C(enabled) and,
    where it is a clone, the same; C(python), C(packages).
  type: dict
  returned: success
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import installed


def custom_nodes(folder: str) -> list[dict[str, Any]]:
    """Each custom node, by the name of its folder or file. ComfyUI passes over those that end with .disabled."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith((".", "__")) or not (os.path.isdir(path) or name.endswith((".py", ".disabled"))):
            continue
        node = installed.clone(path) if os.path.isdir(path) else None
        found.append({"name": name, "enabled": not name.endswith(".disabled"), **(node or {"commit": None})})
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "~/ComfyUI"},
            "venvs": {"type": "list", "elements": "str", "default": ["venv", ".venv"]},
        },
        supports_check_mode=True,
    )
    root = module.params["root"]
    clone = installed.clone(root)
    if clone is None:
        module.fail_json(msg=f"{root} is no git clone of ComfyUI. Name the right one by rollback_comfyui_root.")
    try:
        nodes = custom_nodes(os.path.join(root, "custom_nodes"))
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename} can't be read: {exc.strerror}. Log in as the user who runs ComfyUI.")
    python = installed.environment(root, module.params["venvs"])
    module.exit_json(
        changed=False,
        comfyui={
            "root": root,
            **clone,
            "custom_nodes": nodes,
            "python": python,
            "packages": installed.packages(python),
        },
    )


if __name__ == "__main__":
    main()
