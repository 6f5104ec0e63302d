#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: http_check
short_description: Check what HTTP endpoints answer, all at once
version_added: "0.1.0"
description:
  - Asks each endpoint, as often as it takes until it answers as expected or its deadline is over.
  - A check may consist of several requests, O(checks[].steps), of which later ones use what earlier ones answered.
    So it can make a record, upload a file and ask for both again.
  - All checks are made at the same time, so the whole takes as long as the slowest.
  - An unexpected answer is a result, not a failure of the module.
    The verdict is V(fail) for a wrong answer, V(error) for none, V(inconclusive) with nothing to check by.
  - Only GET is tried again. A request that writes is sent once.
  - Proxies of the environment are not used. Redirects are followed.
options:
  checks:
    description: The checks, each with either O(checks[].url) or O(checks[].steps).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the check in the verdict.
        type: str
        required: true
      url: &url
        description:
          - What to ask, from the host's point of view.
          - Here and in O(checks[].steps[].body_json), C({name}) stands for a value that an earlier step took, and
            C({token}) for a random text of this check.
        type: str
      method: &method
        description: How to ask. Anything but V(GET) counts as writing.
        type: str
        choices: [GET, POST, PUT, PATCH, DELETE]
        default: GET
      status: &status
        description: Status codes that are good.
        type: list
        elements: int
        default: [200]
      json_field: &json_field
        description: Field of a JSON answer to look at. Dots lead into objects.
        type: str
      json_values: &json_values
        description: Values of O(checks[].json_field) that are good. An empty list takes any value.
        type: list
        elements: raw
        default: []
      contains: &contains
        description: Text that the body must hold, in the same case.
        type: str
      body_json: &body_json
        description: What to send, as JSON.
        type: dict
      upload: &upload
        description: A file to send, as a form does.
        type: dict
        suboptions:
          field:
            description: Name of the form's field.
            type: str
            default: file
          name:
            description: Name of the file.
            type: str
            required: true
          content:
            description: What is in it.
            type: str
            required: true
      take: &take
        description:
          - Values of the JSON answer that later steps use, as name to path. Dots lead into objects, numbers into lists,
            as in V(0.id).
          - An answer that is an empty list makes the check V(inconclusive).
        type: dict
        default: {}
      body_size: &body_size
        description: How many bytes the answer must have. Usually a value that an earlier step took.
        type: str
      body_uploaded: &body_uploaded
        description: Whether the answer must be the file that an earlier step uploaded, byte by byte.
        type: bool
        default: false
      steps:
        description: The requests, in order. The check holds when all are answered as expected.
        type: list
        elements: dict
        suboptions:
          url:
            <<: *url
            required: true
          method: *method
          status: *status
          json_field: *json_field
          json_values: *json_values
          contains: *contains
          body_json: *body_json
          upload: *upload
          take: *take
          body_size: *body_size
          body_uploaded: *body_uploaded
      headers:
        description: Headers to send. Their values are never shown.
        type: dict
        default: {}
      critical:
        description: Whether the verdict counts; handed through.
        type: bool
        default: true
      deadline:
        description: Seconds until this check gives up. By default O(deadline).
        type: float
      timeout:
        description: Seconds that one try of this check may take. By default O(timeout).
        type: float
  deadline:
    description: Seconds until a check gives up. With V(0) each endpoint is asked once.
    type: float
    default: 20
  interval:
    description: Seconds between two tries.
    type: float
    default: 1
  timeout:
    description: Seconds that one try may take.
    type: float
    default: 5
  max_body_mib:
    description: Largest body that is read, in MiB.
    type: int
    default: 16
  validate_certs:
    description: Whether the certificate of an https server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
attributes:
  check_mode:
    support: partial
    description: Can run in check mode, and changes nothing then.
    details: A check that writes is not made. It is V(inconclusive) then, not critical, and says so.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Ask the backend and the frontend how they are
  sparklio.rollback.http_check:
    deadline: 30
    checks:
      - name: health
        url: http://127.0.0.1:8000/health
        json_field: status
        json_values: [ok, healthy]
      - name: frontend
        url: http://127.0.0.1:3000/
        contains: "<html"
      - name: ollama
        url: http://ollama.internal:11434/api/tags
        critical: false
        deadline: 5
  register: answers

- name: Make a workflow for the first brand
  sparklio.rollback.http_check:
    checks:
      - name: workflow
        headers:
          Authorization: "Bearer {{ vault_token }}"
        steps:
          - url: http://127.0.0.1:8000/api/v1/brands
            take: {brand: 0.id}
          - url: http://127.0.0.1:8000/api/v1/workflows
            method: POST
            status: [200, 201, 202]
            body_json: {brand_id: "{brand}", workflow_type: rollback-check}
            take: {workflow: id}
          - url: "http://127.0.0.1:8000/api/v1/workflows/{workflow}"
"""

RETURN = r"""
verdicts:
  description: One verdict for each check, in their order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
      sample: health
    verdict:
      description: V(pass), V(fail) for a wrong answer, V(error) where nothing answered, or V(inconclusive).
      type: str
      sample: pass
    critical:
      description: As given.
      type: bool
      sample: true
    evidence:
      description: What was asked and seen, in one line.
      type: str
      sample: 'GET http://127.0.0.1:8000/health answered 200, status is "ok"'
    data:
      description: C(url) and C(status) of the last request (null without an answer), C(attempts) and C(seconds) of all.
      type: dict
      sample: {"url": "http://127.0.0.1:8000/health", "status": 200, "attempts": 1, "seconds": 0.02}
verdict:
  description: All verdicts together, those that are not critical left out. V(pass), V(fail) or V(inconclusive).
  returned: always
  type: str
  sample: pass
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.03
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import http_checks


def main() -> None:
    module = AnsibleModule(argument_spec=http_checks.ARGUMENT_SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **http_checks.answer(module.params, module.check_mode))


if __name__ == "__main__":
    main()
