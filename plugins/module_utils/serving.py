# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release serves: the process on the port, its tree, its start, and the build that the frontend answers for."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, process
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository

ARGUMENT_SPEC: dict[str, Any] = {
    "root": {"type": "path", "required": True},
    "commit": {"type": "str", "required": True},
    "since": {"type": "float", "required": True},
    "backend_dir": {"type": "str", "default": "backend"},
    "backend_port": {"type": "int", "default": 8000},
    "metrics_url": {"type": "str", "required": True},
    "frontend_url": {"type": "str", "required": True},
    "build_id": {"type": "str"},
    "timeout": {"type": "int", "default": 10},
}

#: The metric comes from /proc/stat's boot time, which is whole seconds.
_METRIC_SLACK = 1.5

_MAX_BODY = 64 << 20


def verdict(name: str, value: str, evidence: str, **data: object) -> dict:
    return {"name": name, "verdict": value, "critical": True, "evidence": evidence, "data": data}


def judge_backend(
    head: str, params: dict, holders: list[process.Process], hidden: set[int], metric: float | None
) -> dict:
    """Decide on the backend from what was seen. ``metric`` is None where the release exports no start time."""
    name, commit, since = "serving_backend", params["commit"], params["since"]
    directory = os.path.realpath(os.path.join(params["root"], params["backend_dir"]))
    data = {"head": head, "pids": [item.pid for item in holders], "process_start_time_seconds": metric}
    if head != commit:
        return verdict(name, "fail", f"the tree is at {head[:12]}, not at {commit[:12]}", **data)
    if hidden and not holders and metric is not None and metric >= since - _METRIC_SLACK:
        return verdict(
            name,
            "pass",
            f"commit {commit[:12]}, /metrics is answered by a process that started after the switch began (it runs as "
            "another user)",
            **data,
        )
    if hidden or any(item.cwd not in (directory, None) for item in holders):
        return verdict(
            name,
            "fail",
            f"port {params['backend_port']} is held by a process that is not the backend in {directory}",
            **data,
        )
    if not holders:
        return verdict(name, "fail", f"nothing listens on port {params['backend_port']}", **data)
    # The parent of several workers may be older; what answers are its children, who hold the socket too.
    parents = {item.parent for item in holders}
    answering = [item for item in holders if item.pid not in parents] or holders
    old = [item for item in answering if item.started < since]
    if old:
        return verdict(
            name,
            "fail",
            f"process {old[0].pid} was started {since - old[0].started:.0f} s before the switch and still serves the "
            "old code",
            **data,
        )
    if metric is not None and metric < since - _METRIC_SLACK:
        return verdict(
            name,
            "fail",
            f"/metrics is answered by a process that started {since - metric:.0f} s before the switch",
            **data,
        )
    # A resume that had nothing to start again asks for no time.
    after = " after the switch began" if since else ""
    ages = ", ".join(f"{item.pid} (+{item.started - since:.1f} s)" if since else str(item.pid) for item in answering)
    seen = "and /metrics agrees" if metric is not None else "(this release's /metrics shows no start time)"
    return verdict(name, "pass", f"commit {commit[:12]}, process {ages}{after}, {seen}", **data)


def ask(url: str, timeout: float) -> tuple[int, str]:
    """Return the status and the body, or 0 and why there is none."""
    try:
        with fetch.get(url, timeout, _MAX_BODY) as response:
            return response.status, response.body().decode("utf-8", "replace")
    except fetch.FetchError as exc:
        return 0, str(exc)


def prove_backend(params: dict) -> dict:
    deadline = time.monotonic() + params["timeout"]
    while True:
        found = look_at_backend(params)
        # Workers that are being replaced one by one take a moment.
        if found["verdict"] == "pass" or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def look_at_backend(params: dict) -> dict:
    root = os.path.realpath(params["root"])
    head = Repository(root).line("rev-parse", "HEAD")
    holders, hidden = process.listeners(params["backend_port"])
    status, text = ask(params["metrics_url"], params["timeout"])
    if status != 200:
        what = f"status {status}" if status else text
        return verdict("serving_backend", "error", f"{mask(params['metrics_url'])} gave no metrics ({what})", head=head)
    match = re.search(r"^process_start_time_seconds ([0-9.eE+]+)$", text, re.MULTILINE)
    return judge_backend(head, params, holders, hidden, float(match.group(1)) if match else None)


def prove_frontend(params: dict) -> dict:
    build = params["build_id"]
    url = f"{params['frontend_url'].rstrip('/')}/_next/static/{build}/_buildManifest.js"
    deadline = time.monotonic() + params["timeout"]
    while True:
        status, text = ask(url, params["timeout"])
        if status == 200:
            return verdict("serving_frontend", "pass", f"the server answers for build {build}", build_id=build)
        if time.monotonic() > deadline:
            what = f"status {status}" if status else text
            return verdict(
                "serving_frontend",
                "fail",
                f"the server does not know build {build} ({what}): another build serves",
                build_id=build,
                status=status,
            )
        time.sleep(0.5)


def answer(params: dict[str, Any]) -> dict[str, Any]:
    try:
        verdicts = [prove_backend(params)]
    except GitError as exc:
        verdicts = [verdict("serving_backend", "error", f"the clone can't be read: {exc}")]
    if params["build_id"]:
        verdicts.append(prove_frontend(params))
    return {"verdicts": verdicts}
