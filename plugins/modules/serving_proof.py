#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_proof
short_description: Prove which release serves
version_added: "0.1.0"
description:
  - Proves that the tree is at the commit, that every process which answers on the backend's port was started in
    that tree after the switch, and that the frontend serves the build that belongs to it.
  - The backend's C(process_start_time_seconds) on its metrics address, read over HTTP, must agree. The frontend
    must serve the manifest of the build, whose path holds C(BUILD_ID); a server started on another build doesn't.
options:
  root:
    description: The application's clone.
    type: path
    required: true
  commit:
    description: Full id of the commit that must serve.
    type: str
    required: true
  since:
    description: When the switch began, in seconds since the epoch on this host.
    type: float
    required: true
  backend_dir:
    description: Directory of the backend, relative to O(root).
    type: str
    default: backend
  backend_port:
    description: TCP port of the backend.
    type: int
    default: 8000
  metrics_url:
    description: Metrics address of the backend.
    type: str
    required: true
  frontend_url:
    description: Address of the frontend.
    type: str
    required: true
  build_id:
    description: C(BUILD_ID) that the frontend must serve. Left out, the frontend is not asked.
    type: str
  timeout:
    description: Seconds for each answer.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Prove what serves
  sparklio.rollback.serving_proof:
    root: ~/sparklio_ai_marketing_studio
    commit: "{{ release.target.commit }}"
    since: "{{ switched_at }}"
    metrics_url: http://127.0.0.1:8000/metrics
    frontend_url: http://127.0.0.1:3000
    build_id: "{{ build.build_id }}"
"""

RETURN = r"""
verdicts:
  description: One verdict for the backend and one for the frontend.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import serving


def main() -> None:
    module = AnsibleModule(argument_spec=serving.ARGUMENT_SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **serving.answer(module.params))


if __name__ == "__main__":
    main()
