#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Whether a host has the room and the tools for a rollback
version_added: "0.1.0"
description:
  - Looks at free space, at the file systems that directories lie on, and for tools. Changes nothing.
options:
  root:
    description: The application's clone.
    type: path
    required: true
  state_dir:
    description: State directory; need not exist yet.
    type: path
    required: true
  tools:
    description: Executables to look for.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: It only looks.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Look at the host
  sparklio.rollback.host_check:
    root: ~/sparklio_ai_marketing_studio
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    tools: [git, node, npm]
"""

RETURN = r"""
free_mb:
  description: Free space for this user where the state directory is, or will be, in MiB.
  type: int
  returned: success
root_free_mb:
  description: The same where the application is.
  type: int
  returned: success
same_device:
  description: Whether a rename between the two is possible.
  type: bool
  returned: success
writable:
  description: Whether this user may write to both.
  type: bool
  returned: success
missing:
  description: Tools that were not found.
  type: list
  elements: str
  returned: success
state_dir:
  description: The state directory, as an absolute path.
  type: str
  returned: success
user:
  description: The user that the modules run as.
  type: str
  returned: success
now:
  description: The host's time, in seconds since the epoch.
  type: float
  returned: success
"""

import os
import pwd
import time

from ansible.module_utils.basic import AnsibleModule


def existing(path: str) -> str:
    """The path itself, or the nearest directory above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def free_mb(path: str) -> int:
    status = os.statvfs(existing(path))
    return status.f_bavail * status.f_frsize // 2**20


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state_dir": {"type": "path", "required": True},
            "tools": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    root = os.path.realpath(module.params["root"])
    state_dir = os.path.abspath(module.params["state_dir"])
    module.exit_json(
        changed=False,
        free_mb=free_mb(state_dir),
        root_free_mb=free_mb(root),
        same_device=os.stat(existing(root)).st_dev == os.stat(existing(state_dir)).st_dev,
        writable=os.access(root, os.W_OK) and os.access(existing(state_dir), os.W_OK),
        missing=[name for name in module.params["tools"] if module.get_bin_path(name) is None],
        state_dir=state_dir,
        user=pwd.getpwuid(os.getuid()).pw_name,
        now=time.time(),
    )


if __name__ == "__main__":
    main()
