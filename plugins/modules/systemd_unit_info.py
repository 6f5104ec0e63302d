#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_unit_info
short_description: Tell how a systemd unit stands, and which variables it gives its process by itself
version_added: "0.1.0"
description:
  - Asks C(systemctl show), and reads the environment of the unit's main process where this user may. Needs no root, and
    changes nothing.
  - Only names of variables are told. No value leaves the host.
options:
  name:
    description: Name of the unit.
    type: str
    required: true
  variables:
    description:
      - Variables of environment files that are about to change. What the unit sets by itself wins over the files.
    type: dict
    default: {}
    suboptions:
      files:
        description: The environment files; the last one counts.
        type: list
        elements: path
        default: []
      keys:
        description: Names of the variables.
        type: list
        elements: str
        default: []
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
- name: Look at the backend's unit
  sparklio.rollback.systemd_unit_info:
    name: sparklio-backend
    variables:
      files: [/srv/app/backend/.env]
      keys: [DATABASE_URL]
  register: unit
"""

RETURN = r"""
found:
  description: Whether systemd has such a unit.
  type: bool
  returned: success
running:
  description: Whether it is active.
  type: bool
  returned: success
reloadable:
  description: Whether it can be reloaded.
  type: bool
  returned: success
serving_since:
  description: >-
    When its main process was started, in seconds since the epoch; of one that can be reloaded, the oldest of its
    workers. 0 where it does not run.
  type: float
  returned: success
overridden:
  description: >-
    Variables of O(variables) that the unit gives its process by itself, by C(Environment=) or by an C(EnvironmentFile=)
    that is none of the files. What it reads from one of the files is read anew at a restart, and is not named.
  type: list
  elements: str
  returned: success
unknown:
  description: Variables of O(variables) of which this user can't tell that, as the unit's environment is closed to it.
  type: list
  elements: str
  returned: success
"""

import glob
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _systemd, config_files, process

PROPERTIES = "LoadState,ActiveState,MainPID,CanReload,Environment,EnvironmentFiles"


def serving_since(unit: _systemd.Unit) -> float:
    """When what serves was started, in seconds since the epoch, or 0. A reload gives the main process new workers."""
    main = process.get(unit.pid) if unit.pid else None
    if main is None:
        return 0.0
    children = process.children(main.pid) if unit.reloadable else []
    # Python's own helper is no worker, and outlives them.
    workers = [item for item in children if not any("multiprocessing.resource_tracker" in part for part in item.argv)]
    return round(min(item.started for item in (workers or [main])), 2)


def own(unit: _systemd.Unit, asked: dict[str, Any]) -> _systemd.Own:
    """Which of the variables asked for the unit has by itself."""
    if not asked["keys"]:
        return _systemd.Own([], [])
    restored = {os.path.realpath(path) for path in asked["files"]}
    fixed, renewed, unread = set(unit.names or ()), False, unit.names is None
    for path in [found for pattern in unit.files for found in (glob.glob(pattern) or [pattern])]:
        if os.path.realpath(path) in restored:
            renewed = True
            continue
        try:
            fixed |= set(config_files.values([path]))
        except config_files.ConfigError:
            unread = True
    environment = process.environment(unit.pid) if unit.pid else None
    return _systemd.own(asked["keys"], environment, config_files.values(asked["files"]), fixed, renewed, unread)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "variables": config_files.VARIABLES_SPEC,
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    tool = module.get_bin_path("systemctl")
    if tool is None:
        module.fail_json(
            msg="There is no systemctl on this host. Name what runs the backend: rollback_backend_manager."
        )
    code, out, err = module.run_command([tool, "show", "--property", PROPERTIES, "--", name])
    if code:
        said = " ".join(err.split())[-300:] or f"it exited with {code}"
        module.fail_json(msg=f"systemctl show {name} failed: {said}. See on the host: systemctl status {name}")
    unit = _systemd.parse(out)
    try:
        found = own(unit, module.params["variables"])
    except config_files.ConfigError as exc:
        module.fail_json(msg=f"The unit {name} can't be compared with the environment files: {exc}. Mend that first.")
    module.exit_json(
        changed=False,
        found=unit.loaded,
        running=unit.active,
        reloadable=unit.reloadable,
        serving_since=serving_since(unit),
        overridden=found.overridden,
        unknown=found.unknown,
    )


if __name__ == "__main__":
    main()
