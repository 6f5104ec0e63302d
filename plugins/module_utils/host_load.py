# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how busy the processors are over a window, and how much memory is in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _load, load
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line


def judge(name: str, percent: float | None, limit: float, what: str, problem: str) -> dict[str, Any]:
    """Return the verdict on one figure; one that reaches the limit is too high."""
    if percent is None:
        verdict, evidence = "error", problem
    else:
        verdict = "fail" if percent >= limit else "pass"
        evidence = f"{what} is {'not ' if verdict == 'fail' else ''}under {limit:g} %"
    data = {"percent": percent, "limit_percent": limit}
    return {"name": name, "verdict": verdict, "evidence": one_line(evidence), "data": data}


def measure(
    params: dict[str, Any],
    read: Callable[[], _load.Load] = load.read,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Take two readings, the window apart, and return the module's answer."""
    begin = clock()
    before = read()
    sleep(params["window"])
    after = read()
    seconds = clock() - begin
    problems = list(dict.fromkeys((*before.problems, *after.problems)))
    cpu = None
    if before.cpu and after.cpu:
        try:
            cpu = round(_load.cpu_percent(before.cpu, after.cpu), 2)
        except _load.LoadError as exc:
            problems.append(f"CPU: {exc}")
    memory = after.memory and round(after.memory.percent, 2)
    cores = os.cpu_count() or 1
    problem = "; ".join(problems)
    shown = {
        "cpu": f"CPU {cpu} % of {cores} cores over {seconds:.1f} s",
        "memory": f"memory {memory} % of {after.memory.total / 2**30:.1f} GiB" if after.memory else "",
    }
    figures = {"cpu": cpu, "memory": memory}
    limits = {name: params[f"{name}_max_percent"] for name in figures}
    verdicts = [
        judge(name, figures[name], limit, shown[name], problem) for name, limit in limits.items() if limit is not None
    ]
    worst = [kind for kind in ("error", "fail", "pass") if any(item["verdict"] == kind for item in verdicts)]
    free = [shown[name] for name, limit in limits.items() if limit is None and figures[name] is not None]
    told = [*dict.fromkeys(item["evidence"] for item in verdicts), *free] or [problem]
    return {
        "verdict": worst[0] if worst else "inconclusive",
        "evidence": one_line("; ".join(told if verdicts else ["there is no limit to judge by", *told])),
        "verdicts": verdicts,
        "cpu_percent": cpu,
        "memory_percent": memory,
        "memory_total_mib": after.memory and after.memory.total >> 20,
        "load1": round(os.getloadavg()[0], 2),
        "cores": cores,
        "seconds": round(seconds, 3),
    }


ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "window": {"type": "float", "default": 5},
    "cpu_max_percent": {"type": "float"},
    "memory_max_percent": {"type": "float"},
}


def prepare(params: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return what measures as the options of ARGUMENT_SPEC say.

    Raises:
        ValueError: they can't be used.
    """
    for name in ARGUMENT_SPEC:
        value = params[name]
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} must be over 0, not {value}")
    return lambda: measure(params)
