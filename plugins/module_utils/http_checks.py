# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP endpoints, all asked at once, each again until its answer is good or its time is over."""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import Any, NamedTuple, Optional

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

ARGUMENT_SPEC: dict[str, Any] = {
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


def answer(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Make all checks and return what the module answers."""
    start = time.monotonic()
    verdicts = run_all(params, check_mode)
    return {
        "verdicts": verdicts,
        "verdict": _verdict.overall(verdicts),
        "seconds": round(time.monotonic() - start, 3),
    }
