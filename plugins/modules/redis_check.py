#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_check
short_description: Check that Redis answers with the application's own credentials
version_added: "0.1.0"
description:
  - Connects as the application does, logs in, selects its database and sends PING.
  - Needs neither redis-cli nor a Python library. The password is never shown, and is on no command line.
  - A server that does not answer is a result, not a failure of the module.
options:
  url:
    description:
      - Address, such as V(redis://user:password@127.0.0.1:6379/0). Also C(rediss) (TLS) and C(unix).
      - Exactly one of O(url) and O(env_file).
    type: str
  env_file:
    description: File on the host that holds the address, such as the backend's C(.env).
    type: path
  env_key:
    description: Name of the variable in O(env_file).
    type: str
    default: REDIS_URL
  timeout:
    description: Seconds that each step may take.
    type: float
    default: 5
  validate_certs:
    description: Whether the certificate of a C(rediss) server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
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
- name: Check that Redis answers
  sparklio.rollback.redis_check:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail) when the server refuses, V(error) when it can't be reached or asked.
  returned: always
  type: str
  sample: pass
evidence:
  description: What was asked and seen, in one line without the password.
  returned: always
  type: str
  sample: "redis://127.0.0.1:6379/0 answered PONG"
server:
  description: Address without user and password, or null where it isn't known.
  returned: always
  type: str
  sample: redis://127.0.0.1:6379/0
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.002
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import redis_ping


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_ping.ARGUMENT_SPEC,
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file")],
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **redis_ping.answer(module.params))


if __name__ == "__main__":
    main()
