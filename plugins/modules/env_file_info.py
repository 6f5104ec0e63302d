#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: env_file_info
short_description: Read when environment files changed, and where they point to
version_added: "0.1.0"
description:
  - Says when each file changed, and which host and port an address in them names. Users, passwords and everything else
    of an address stay on the host.
  - A file that does not exist, or that can't be read, is a result.
options:
  paths:
    description: The files. Where several set a variable, the last one counts.
    type: list
    elements: path
    required: true
  addresses:
    description: Variables that hold an address, such as C(DATABASE_URL). Only scheme, host and port are returned.
    type: list
    elements: str
    default: []
  values:
    description: Variables whose value is returned as it is. A name that looks like that of a secret is refused.
    type: list
    elements: str
    default: []
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
- name: See when the configuration changed, and which database it names
  sparklio.rollback.env_file_info:
    paths: [~/sparklio_ai_marketing_studio/backend/.env]
    addresses: [DATABASE_URL, S3_ENDPOINT]
    values: [OLLAMA_MODEL]
  register: environment_files
"""

RETURN = r"""
files:
  description: One entry for each path, in their order.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: As given, expanded.
      type: str
    modified:
      description: When its content last changed, in seconds since the epoch. None where there is no such file.
      type: float
    error:
      description: Why it can't be read, or none.
      type: str
addresses:
  description:
    - The addresses that are set, each with C(scheme), C(host), C(port) and C(origin).
    - Without a port, the usual one of the scheme.
  type: dict
  returned: success
  sample: {"S3_ENDPOINT": {"scheme": "http", "host": "127.0.0.1", "port": 9000, "origin": "http://127.0.0.1:9000"}}
values:
  description: The values that are set.
  type: dict
  returned: success
  sample: {"OLLAMA_MODEL": "qwen2.5:7b"}
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask, secret_values


def read(paths: list[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return what is known of each file, and the variables of all."""
    files: list[dict[str, Any]] = []
    variables: dict[str, str] = {}
    for path in paths:
        entry: dict[str, Any] = {"path": path, "modified": None, "error": None}
        try:
            entry["modified"] = os.stat(path).st_mtime
            with open(path, encoding="utf-8-sig", errors="replace") as stream:
                variables.update(_dotenv.parse(stream.read(), os.environ))
        except OSError as exc:
            entry["error"] = exc.strerror
        files.append(entry)
    return files, variables


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "values": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    files, variables = read(module.params["paths"])
    shown = {}
    for name in module.params["values"]:
        if secret_values({name: "x" * 8}):
            module.fail_json(msg=f"{name} looks like a secret, which is never shown; take it out of values.")
        if variables.get(name):
            shown[name] = mask(variables[name])
    addresses = {}
    for name in module.params["addresses"]:
        address = _dotenv.address(variables.get(name, ""))
        if address:
            addresses[name] = address
    module.exit_json(changed=False, files=files, addresses=addresses, values=shown)


if __name__ == "__main__":
    main()
