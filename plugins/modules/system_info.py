#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_info
short_description: Tell what runs and what is installed on an app host
version_added: "0.1.0"
description:
  - Tells the commit that is checked out, the processes that listen on the services' ports, what pm2 runs, and the
    versions of Python packages, Node.js and npm. For the record, so what can't be found out is null and no failure.
  - Environments of processes hold secrets, so none is read.
options:
  root:
    description: Root of the application's git clone.
    type: path
    required: true
  ports:
    description: Name of each service, and the port that it listens on.
    type: dict
    default: {backend: 8000, frontend: 3000}
  backend_dir:
    description: The backend's directory, relative to O(root).
    type: str
    default: backend
  venvs:
    description: The backend's environments, relative to its directory, the first that exists counts.
    type: list
    elements: str
    default: [venv, .venv]
  pm2:
    description: Name or path of pm2.
    type: str
    default: pm2
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
- name: Look at what runs
  sparklio.rollback.system_info:
    root: ~/sparklio_ai_marketing_studio
  register: system
"""

RETURN = r"""
services:
  description: C(git), C(pm2) and, by service, C(processes) with C(pid), C(started) and C(command).
  type: dict
  returned: success
packages:
  description: C(python), C(node) and C(npm) (versions) and C(pip), the lines of C(pip freeze).
  type: dict
  returned: success
"""

import json
import os
import time
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import installed, process
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask


def pm2_list(text: Optional[str]) -> Optional[list[dict[str, Any]]]:
    """What ``pm2 jlist`` prints, less the environments, which hold secrets."""
    for line in reversed((text or "").splitlines()):
        # pm2 may print notices around the list, some of which begin with [PM2].
        if line.startswith("["):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return [
                {
                    "name": item.get("name"),
                    "pid": item.get("pid"),
                    **{
                        name: (item.get("pm2_env") or {}).get(field)
                        for name, field in (
                            ("status", "status"),
                            ("mode", "exec_mode"),
                            ("instances", "instances"),
                            ("script", "pm_exec_path"),
                            ("cwd", "pm_cwd"),
                            ("restarts", "restart_time"),
                        )
                    },
                }
                for item in found
                if isinstance(item, dict)
            ]
    return None


def listening(port: int) -> list[dict[str, Any]]:
    found, _hidden = process.listeners(port)
    return [
        {
            "pid": item.pid,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.started)),
            "command": mask(" ".join(item.argv)),
            "cwd": item.cwd,
        }
        for item in found
    ]


def version(*command: str) -> Optional[str]:
    text = installed.output(*command, timeout=20)
    return text.strip() if text else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "ports": {"type": "dict", "default": {"backend": 8000, "frontend": 3000}},
            "backend_dir": {"type": "str", "default": "backend"},
            "venvs": {"type": "list", "elements": "str", "default": ["venv", ".venv"]},
            "pm2": {"type": "str", "default": "pm2"},
        },
        supports_check_mode=True,
    )
    params = module.params
    python = installed.environment(os.path.join(params["root"], params["backend_dir"]), params["venvs"])
    module.exit_json(
        changed=False,
        services={
            "git": installed.clone(params["root"]),
            "pm2": pm2_list(installed.output(params["pm2"], "jlist")),
            "processes": {name: listening(int(port)) for name, port in sorted(params["ports"].items())},
        },
        packages={
            "python": version(python, "--version") if python else None,
            "pip": installed.packages(python),
            "node": version("node", "--version"),
            "npm": version("npm", "--version"),
        },
    )


if __name__ == "__main__":
    main()
