#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: http_check
short_description: Check what HTTP endpoints answer, all at once
version_added: "0.1.0"
description:
  - Asks each endpoint with GET, as often as it takes until it answers as expected or its deadline is over.
  - All endpoints are asked at the same time, so the whole takes as long as the slowest.
  - An unexpected answer is a result, not a failure of the module.
    The verdict is V(fail) for a wrong answer and V(error) for none.
  - Proxies of the environment are not used. Redirects are followed.
options:
  checks:
    description: The endpoints.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the check in the verdict.
        type: str
        required: true
      url:
        description: What to ask, from the host's point of view.
        type: str
        required: true
      status:
        description: Status codes that are good.
        type: list
        elements: int
        default: [200]
      json_field:
        description: Field of a JSON answer to look at. Dots lead into objects.
        type: str
      json_values:
        description: Values of O(checks[].json_field) that are good. An empty list takes any value.
        type: list
        elements: raw
        default: []
      contains:
        description: Text that the body must hold, in the same case.
        type: str
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
    support: full
    description: The module changes nothing, so it does the same.
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
      description: V(pass), V(fail) for a wrong answer, or V(error) where nothing answered.
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
      description: C(url), C(status) (null without an answer), C(attempts) and C(seconds).
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

import threading
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _verdict, fetch
from ansible_collections.sparklio.rollback.plugins.module_utils._http_answer import Expected, judge
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask


def attempt(check: dict[str, Any], params: dict[str, Any], timeout: float) -> tuple[str, str, int | None]:
    """Ask once. Return the verdict, the evidence and the status code."""
    expected = Expected(check["status"], check["json_field"], check["json_values"], check["contains"])
    status = None
    try:
        with fetch.get(
            check["url"],
            timeout,
            params["max_body_mib"] << 20,
            {str(key): str(value) for key, value in check["headers"].items()},
            params["validate_certs"],
            params["ca_path"],
        ) as response:
            status = response.status
            good, seen = judge(expected, status, response.body())
    except fetch.FetchError as exc:
        return "error", str(exc), status
    return "pass" if good else "fail", f"GET {mask(check['url'])} {seen}", status


def run_check(check: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Ask until the answer is good or the deadline is over."""
    start = time.monotonic()
    ends = start + (params["deadline"] if check["deadline"] is None else check["deadline"])
    attempts = 0
    while True:
        attempts += 1
        # The last try gets a full timeout even where the deadline is shorter: a deadline of 0 means one try.
        left = ends - time.monotonic()
        timeout = min(params["timeout"], left) if left > 1 else params["timeout"]
        verdict, evidence, status = attempt(check, params, timeout)
        if verdict == "pass" or time.monotonic() + params["interval"] >= ends:
            break
        time.sleep(params["interval"])
    seconds = round(time.monotonic() - start, 3)
    if verdict != "pass" and attempts > 1:
        evidence = f"{evidence} (tried {attempts} times in {seconds:.0f} s)"
    return _verdict.make(
        check["name"], verdict, evidence, check["critical"],
        url=mask(check["url"]), status=status, attempts=attempts, seconds=seconds,
    )  # fmt: skip


def run_all(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Run all checks at once and return their verdicts in the given order."""
    found: dict[int, dict[str, Any]] = {}

    def work(number: int, check: dict[str, Any]) -> None:
        try:
            found[number] = run_check(check, params)
        except Exception as exc:
            found[number] = _verdict.make(check["name"], "error", f"the check itself broke: {exc!r}", check["critical"])

    # Daemons, since a server that sends its headers byte by byte would outlast every timeout of a socket.
    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(params["checks"])]
    for thread in threads:
        thread.start()
    longest = max([params["deadline"], *(check["deadline"] or 0 for check in params["checks"])])
    ends = time.monotonic() + longest + 2 * params["timeout"] + 1
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))

    def late(check: dict[str, Any]) -> dict[str, Any]:
        return _verdict.make(check["name"], "error", f"GET {mask(check['url'])}: no complete answer", check["critical"])

    return [found.get(number) or late(check) for number, check in enumerate(params["checks"])]


CHECK_SPEC = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "json_field": {"type": "str"},
    "json_values": {"type": "list", "elements": "raw", "default": []},
    "contains": {"type": "str"},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "critical": {"type": "bool", "default": True},
    "deadline": {"type": "float"},
}

ARGUMENT_SPEC = {
    "checks": {"type": "list", "elements": "dict", "required": True, "options": CHECK_SPEC},
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
    verdicts = run_all(module.params)
    module.exit_json(
        changed=False,
        verdicts=verdicts,
        verdict=_verdict.overall(verdicts),
        seconds=round(time.monotonic() - start, 3),
    )


if __name__ == "__main__":
    main()
