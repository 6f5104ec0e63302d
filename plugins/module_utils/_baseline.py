# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The baseline of a release: how it performed while all was well, so that "twice as slow" has something to compare."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _watch

VERSION = 1
QUANTILES = (0.5, 0.95, 0.99)


def make(
    release: Mapping[str, Any], made_at: float, seconds: float, counts: _watch.Counts, load: _watch.Load
) -> dict[str, Any]:
    """Return a baseline as it is stored.

    Args:
        release: ``commit`` and ``tag`` (or None).
        made_at: seconds since the epoch.
        seconds: how long it was measured.
        counts: what grew in that time.
        load: of the host in that time.

    A quantile is None where the buckets tell only its lower bound: a ratio to that would be made up.
    """
    shown = _watch.figures(counts, seconds, load)
    found = {fraction: counts.latency.quantile(fraction) for fraction in QUANTILES}
    return {
        "version": VERSION,
        "commit": release["commit"],
        "tag": release["tag"],
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made_at)),
        "window_seconds": round(seconds, 3),
        "requests": counts.requests,
        "error_rate_percent": shown["error_rate_percent"],
        "mean_seconds": shown["mean_seconds"],
        "quantiles": {
            f"{fraction:g}": round(value.seconds, 4) if value and not value.at_least else None
            for fraction, value in found.items()
        },
        "agent_failure_percent": shown["agent_failure_percent"],
        "cpu_percent": shown["cpu_percent"],
        "memory_percent": shown["memory_percent"],
    }


def judge(counts: _watch.Counts, load: _watch.Load, limits: _watch.Limits) -> tuple[str, str]:
    """Say whether this time was good enough to compare others with: verdict and evidence.

    As a good window of the watch, and with a latency: that is what it is for.
    """
    judged = _watch.judge(dict.fromkeys(_watch.POOLS, counts), load, limits)
    if judged.breaches:
        return "fail", "; ".join(breach["evidence"] for breach in judged.breaches)
    if judged.undecided:
        return "inconclusive", judged.undecided
    mean = counts.latency.mean
    if mean is None:
        return "inconclusive", f"no latency was measured ({counts.requests:g} requests)"
    return "pass", f"{counts.errors:g} of {counts.requests:g} requests failed, mean latency {mean:.3g} s"


def name_problem(commit: str) -> str | None:
    """Say what is wrong with a commit that is to name a file, or None."""
    if re.fullmatch(r"[0-9a-f]{7,64}", commit):
        return None
    return f"{commit[:60]!r} is not the id of a commit (hexadecimal digits, in full)"


def read(data: Any) -> dict[str, Any] | None:
    """Return a stored baseline, or None where it is none of this version."""
    if not isinstance(data, dict) or data.get("version") != VERSION:
        return None
    if not isinstance(data.get("commit"), str) or not isinstance(data.get("made_at"), str):
        return None
    mean = data.get("mean_seconds")
    return data if isinstance(mean, (int, float)) and mean > 0 else None


def choose(baselines: Iterable[Mapping[str, Any]], commit: str) -> Mapping[str, Any] | None:
    """Return the commit's own baseline, else the newest of another one."""
    found = sorted(baselines, key=lambda item: (item["commit"] == commit, item["made_at"]))
    return found[-1] if found else None
