#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_record
short_description: Write what was measured into a restore point
version_added: "0.1.0"
description:
  - Writes data as one JSON file of a restore point that is being made, mode 0600 and on disk before it returns.
  - For what other modules read and do not keep by themselves, such as M(sparklio.rollback.system_info).
options:
  name:
    description: Name of the artifact; also of its directory and its file.
    type: str
    choices: [comfyui, services, packages, baseline]
    required: true
  dest:
    description: Directory of the restore point that is being made.
    type: path
    required: true
  data:
    description: What to write. Secrets do not belong in it.
    type: dict
    required: true
  meta:
    description: What the manifest itself shall say of it.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Writes nothing; RV(artifact) then has no files.
  diff_mode:
    support: none
    description: The file is new.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Keep what is installed
  sparklio.rollback.restore_point_record:
    name: packages
    dest: "{{ point.partial }}"
    data: "{{ system.packages }}"
"""

RETURN = r"""
artifact:
  description: The artifact for the manifest.
  returned: success
  type: dict
  sample:
    name: packages
    type: packages
    path: packages
    size: 412
    seconds: 0.01
    files: [{path: packages/packages.json, size: 412, sha256: 9b1c…}]
    meta: {}
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import restore_points


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "choices": ["comfyui", "services", "packages", "baseline"], "required": True},
            "dest": {"type": "path", "required": True},
            "data": {"type": "dict", "required": True},
            "meta": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    dest = os.path.join(params["dest"], params["name"])
    try:
        if not module.check_mode:
            restore_points.write(os.path.join(dest, f"{params['name']}.json"), params["data"])
        artifact = restore_points.artifact(params["name"], dest, params["meta"], time.monotonic() - started)
    except OSError as exc:
        module.fail_json(
            msg=f"{dest} can't be written: {exc.strerror}. Free some space there, or name another place: "
            "-e rollback_backup_dir=…"
        )
    module.exit_json(changed=True, artifact=artifact)


if __name__ == "__main__":
    main()
