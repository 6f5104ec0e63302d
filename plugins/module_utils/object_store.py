# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the object store answers and shows the bucket, with the application's own keys."""

from __future__ import annotations

import re
import time
from typing import Any, Optional
from urllib.parse import quote

from ansible_collections.sparklio.rollback.plugins.module_utils import _sigv4, fetch
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.s3 import SPEC, read_settings

ARGUMENT_SPEC: dict[str, Any] = {
    **SPEC,
    "timeout": {"type": "float", "default": 5},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
}

Found = tuple[str, str, Optional[str]]


def check(params: dict[str, Any], now: float) -> Found:
    """Return the verdict, the evidence, and the address without credentials."""
    try:
        settings = read_settings(params)
    except OSError as exc:
        return "error", f"the environment file {params['env_file']} can't be read: {exc.strerror}", None
    if "endpoint" not in settings:
        names = ", ".join(params["env_keys"]["endpoint"])
        return (
            "inconclusive",
            f"{params['env_file']} sets none of {names}: where the object store is, is not known",
            None,
        )
    server = mask(settings["endpoint"].rstrip("/"))
    url = f"{settings['endpoint'].rstrip('/')}/{quote(settings['bucket'])}?list-type=2&max-keys=1"
    signed = {}
    if settings.get("access_key") and settings.get("secret_key"):
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signed = _sigv4.headers(url, settings["access_key"], settings["secret_key"], settings["region"], at)
    try:
        with fetch.get(
            url, params["timeout"], 1 << 20, signed, params["validate_certs"], params["ca_path"]
        ) as response:
            status, body = response.status, response.body()
    except fetch.FetchError as exc:
        return "error", str(exc), server
    return (*judge(server, settings["bucket"], bool(signed), status, body), server)


def judge(server: str, bucket: str, signed: bool, status: int, body: bytes) -> tuple[str, str]:
    """Return the verdict and its evidence."""
    if status == 200 and b"ListBucketResult" in body:
        return "pass", f"{server} shows the bucket {bucket}"
    code = re.search(rb"<Code>(\w+)</Code>", body)
    seen = f"{server} answered {status}" + (f" ({code[1].decode()})" if code else "")
    if status in (401, 403) and not signed:
        return "inconclusive", f"{seen}; the environment file holds no keys to ask for the bucket {bucket} with"
    return "fail", f"{seen} when asked for the bucket {bucket}"


def answer(params: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    verdict, evidence, server = check(params, time.time())
    return {
        "verdict": verdict,
        "evidence": one_line(evidence),
        "server": server,
        "seconds": round(time.monotonic() - start, 3),
    }
