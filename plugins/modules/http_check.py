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

import json
import secrets
import threading
import time
from typing import Any, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _http_steps as steps
from ansible_collections.sparklio.rollback.plugins.module_utils import _verdict, fetch
from ansible_collections.sparklio.rollback.plugins.module_utils._http_answer import Expected, judge
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask


class Answer(NamedTuple):
    """What one request came to."""

    verdict: str
    evidence: str
    url: str
    status: Optional[int] = None


class Walk:
    """One check on its way through its requests, and what it took from their answers."""

    def __init__(self, check: dict[str, Any], params: dict[str, Any]) -> None:
        self.params = params
        self.headers = {str(key): str(value) for key, value in check["headers"].items()}
        self.values: dict[str, Any] = {"token": secrets.token_hex(8)}
        self.uploaded: bytes | None = None

    def request(self, step: dict[str, Any]) -> tuple[bytes | None, dict[str, str]]:
        """Return the body to send, and its content type as a header."""
        if step["upload"]:
            upload = steps.fill(step["upload"], self.values)
            self.uploaded = upload["content"].encode()
            body, kind = steps.multipart(
                upload["field"], upload["name"], self.uploaded, f"sparklio-{secrets.token_hex(16)}"
            )
            return body, {"Content-Type": kind}
        if step["body_json"] is not None:
            body = json.dumps(steps.fill(step["body_json"], self.values)).encode()
            return body, {"Content-Type": "application/json"}
        return None, {}

    def attempt(self, step: dict[str, Any], timeout: float) -> Answer:
        """Make one request and judge its answer."""
        params, status, url = self.params, None, step["url"]
        expected = Expected(step["status"], step["json_field"], step["json_values"], step["contains"])
        try:
            url = steps.fill_url(url, self.values)
            sent, kind = self.request(step)
            with fetch.send(
                step["method"], url, timeout, params["max_body_mib"] << 20, {**self.headers, **kind},
                params["validate_certs"], params["ca_path"], sent,
            ) as response:  # fmt: skip
                status, body = response.status, response.body()
            good, seen = judge(expected, status, body)
            if good:
                good, seen = self.compare(step, body, seen)
            if good:
                self.values.update(steps.take(step["take"], body))
        except fetch.FetchError as exc:
            return Answer("error", str(exc), url, status)
        except steps.NothingThere as exc:
            return Answer("inconclusive", f"nothing to check by: {step['method']} {mask(url)}: {exc}", url, status)
        except steps.StepError as exc:
            return Answer("fail", f"{step['method']} {mask(url)}: {exc}", url, status)
        return Answer("pass" if good else "fail", f"{step['method']} {mask(url)} {seen}", url, status)

    def compare(self, step: dict[str, Any], body: bytes, seen: str) -> tuple[bool, str]:
        """Return whether the body is the one that is expected, and what was seen."""
        if step["body_uploaded"]:
            same = body == self.uploaded
            return (
                same,
                f"{seen}, {'the' if same else 'but not the'} {len(self.uploaded or b'')} bytes that were uploaded",
            )
        if step["body_size"] is not None:
            wanted = str(steps.fill(step["body_size"], self.values))
            if str(len(body)) != wanted:
                return False, f"{seen} with {len(body)} bytes, expected {wanted}"
            return True, f"{seen} with all of its {wanted} bytes"
        return True, seen


def writes(check: dict[str, Any]) -> bool:
    """Return whether a check changes something on the server."""
    return any(step["method"] != "GET" for step in check["steps"] or [check])


def run_check(check: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Make each request until its answer is good or the deadline is over."""
    start = time.monotonic()
    ends = start + (params["deadline"] if check["deadline"] is None else check["deadline"])
    longest = params["timeout"] if check["timeout"] is None else check["timeout"]
    walk = Walk(check, params)
    attempts = 0
    for step in check["steps"] or [check]:
        tries = 0
        while True:
            attempts, tries = attempts + 1, tries + 1
            # The last try gets a full timeout even where the deadline is shorter: a deadline of 0 means one try.
            left = ends - time.monotonic()
            answer = walk.attempt(step, min(longest, left) if left > 1 and step["method"] == "GET" else longest)
            over = time.monotonic() + params["interval"] >= ends
            if answer.verdict in ("pass", "inconclusive") or step["method"] != "GET" or over:
                break
            time.sleep(params["interval"])
        if answer.verdict != "pass":
            break
    seconds = round(time.monotonic() - start, 3)
    evidence = answer.evidence
    if answer.verdict != "pass" and tries > 1:
        evidence = f"{evidence} (tried {tries} times in {seconds:.0f} s)"
    return _verdict.make(
        check["name"], answer.verdict, evidence, check["critical"],
        url=mask(answer.url), status=answer.status, attempts=attempts, seconds=seconds,
    )  # fmt: skip


def run_all(params: dict[str, Any], check_mode: bool = False) -> list[dict[str, Any]]:
    """Make all checks at once and return their verdicts in the given order."""
    found: dict[int, dict[str, Any]] = {}

    def work(number: int, check: dict[str, Any]) -> None:
        try:
            found[number] = run_check(check, params)
        except Exception as exc:
            found[number] = _verdict.make(check["name"], "error", f"the check itself broke: {exc!r}", check["critical"])

    def most(check: dict[str, Any]) -> float:
        """Return the seconds that a check may take."""
        deadline = params["deadline"] if check["deadline"] is None else check["deadline"]
        timeout = params["timeout"] if check["timeout"] is None else check["timeout"]
        return deadline + (len(check["steps"] or [check]) + 1) * timeout + 1

    checks = list(enumerate(params["checks"]))
    for number, check in checks:
        if check_mode and writes(check):
            found[number] = _verdict.make(
                check["name"], "inconclusive", "not made in check mode, since it writes", False
            )
    # Daemons, since a server that sends its headers byte by byte would outlast every timeout of a socket.
    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in checks if pair[0] not in found]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + max([most(check) for _number, check in checks], default=0)
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))

    def late(check: dict[str, Any]) -> dict[str, Any]:
        first = (check["steps"] or [check])[0]
        evidence = f"{first['method']} {mask(first['url'])}: no complete answer"
        return _verdict.make(check["name"], "error", evidence, check["critical"])

    return [found.get(number) or late(check) for number, check in checks]


STEP_SPEC = {
    "url": {"type": "str", "required": True},
    "method": {"type": "str", "choices": ["GET", "POST", "PUT", "PATCH", "DELETE"], "default": "GET"},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "json_field": {"type": "str"},
    "json_values": {"type": "list", "elements": "raw", "default": []},
    "contains": {"type": "str"},
    "body_json": {"type": "dict"},
    "upload": {
        "type": "dict",
        "options": {
            "field": {"type": "str", "default": "file"},
            "name": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
        },
    },
    "take": {"type": "dict", "default": {}},
    "body_size": {"type": "str"},
    "body_uploaded": {"type": "bool", "default": False},
}

CHECK_SPEC = {
    **STEP_SPEC,
    "url": {"type": "str"},
    "steps": {"type": "list", "elements": "dict", "options": STEP_SPEC},
    "name": {"type": "str", "required": True},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "critical": {"type": "bool", "default": True},
    "deadline": {"type": "float"},
    "timeout": {"type": "float"},
}

ARGUMENT_SPEC = {
    "checks": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": CHECK_SPEC,
        "required_one_of": [("url", "steps")],
        "mutually_exclusive": [("url", "steps")],
    },
    "deadline": {"type": "float", "default": 20},
    "interval": {"type": "float", "default": 1},
    "timeout": {"type": "float", "default": 5},
    "max_body_mib": {"type": "int", "default": 16},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    start = time.monotonic()
    verdicts = run_all(module.params, module.check_mode)
    module.exit_json(
        changed=False,
        verdicts=verdicts,
        verdict=_verdict.overall(verdicts),
        seconds=round(time.monotonic() - start, 3),
    )


if __name__ == "__main__":
    main()
