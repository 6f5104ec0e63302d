# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Redis answers, with the application's own settings."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import resp
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.redis_address import NoAddress, find_url

ARGUMENT_SPEC: dict[str, Any] = {
    "url": {"type": "str", "no_log": True},
    "env_file": {"type": "path"},
    "env_key": {"type": "str", "default": "REDIS_URL", "no_log": False},
    "timeout": {"type": "float", "default": 5},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
}


def check(params: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return the verdict, the evidence, and the address without credentials."""
    server = None
    try:
        target = resp.parse_url(find_url(params["url"], params["env_file"], params["env_key"]))
        server = target.shown
        with resp.Connection(target, params["timeout"], params["validate_certs"], params["ca_path"]) as connection:
            connection.login()
            reply = connection.call("PING")
    except (NoAddress, resp.UrlError) as exc:
        return "error", str(exc), server
    except resp.Refused as exc:
        return "fail", f"{server} refused: {exc}", server
    except resp.NoAnswer as exc:
        return "error", f"{server}: {exc}", server
    if reply != "PONG":
        return "fail", f"{server} answered {reply!r} to PING, expected PONG", server
    return "pass", f"{server} answered PONG", server


def answer(params: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    verdict, evidence, server = check(params)
    return {
        "verdict": verdict,
        "evidence": one_line(evidence),
        "server": server,
        "seconds": round(time.monotonic() - start, 3),
    }
