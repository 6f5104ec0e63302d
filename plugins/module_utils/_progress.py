# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a watch is shown on the terminal: a line a window, with what came before it as sparklines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
MARKS = {"good": "✓", "bad": "✗", "inconclusive": "?", "error": "!"}
SPARK = 6


def sparkline(values: Sequence[float | None], top: float | None = None, width: int | None = None) -> str:
    """Return the last ``width`` values as blocks from 0 to ``top``, or to the greatest; ``·`` for an unknown one."""
    shown = list(values if width is None else values[max(0, len(values) - width) :])
    known = [value for value in shown if value is not None and math.isfinite(value)]
    scale = max([*known, top or 0.0, 1e-9])
    text = ""
    for value in shown:
        if value is None or not math.isfinite(value):
            text += "·"
        else:
            text += BLOCKS[min(len(BLOCKS) - 1, int(max(0.0, value) / scale * len(BLOCKS)))]
    return text if width is None else text.rjust(width)


def clock(seconds: float) -> str:
    """Return ``m:ss``, or ``h:mm:ss`` from an hour on."""
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def latency(seconds: float | None, at_least: bool = False) -> str:
    """Return a latency with a fitting unit."""
    if seconds is None:
        return "–"
    text = (
        f"{seconds * 1000:.0f} ms"
        if seconds < 0.9995
        else f"{seconds:.2f} s"
        if seconds < 9.995
        else f"{seconds:.0f} s"
    )
    return f"≥{text}" if at_least else text


def percent(value: float | None, digits: int = 1) -> str:
    """Return a percentage, or a dash."""
    return "–" if value is None else f"{value:.{digits}f} %"


def count(value: float | None) -> str:
    """Return a number of things in at most five characters."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value < 99999.5 else f"{value / 1e6:.1f}M"


_COLUMNS = {
    "time": 7,
    "": 1,
    "requests": 6 + SPARK,
    "errors": 8 + SPARK,
    "agent failures": 8 + SPARK,
    "mean": 8 + SPARK,
    "p95": 7,
    "cpu": 6 + SPARK,
    "mem": 5,
    "left": 7,
}


def headings() -> str:
    """Return the line above those of the windows."""
    return "  ".join(name.rjust(width) for name, width in _COLUMNS.items()).rstrip()


def line(windows: Sequence[Mapping[str, Any]], left: float, limits: Mapping[str, float | None]) -> str:
    """Return one line for the last window, with what came before it as sparklines.

    Args:
        windows: of a watch, oldest first.
        left: seconds until its end.
        limits: the top of each sparkline, by the name of the figure.
    """
    last = windows[-1]

    def series(figure: str, text: str) -> str:
        values = [None if window["gap"] else window.get(figure) for window in windows]
        return f"{text} {sparkline(values, 100.0 if figure == 'cpu_percent' else limits.get(figure), SPARK)}"

    cells = [
        clock(last["t"]),
        MARKS[last["state"]],
        series("requests", count(last.get("requests"))),
        series("error_rate_percent", percent(last.get("error_rate_percent"))),
        series("agent_failure_percent", percent(last.get("agent_failure_percent"))),
        series("mean_seconds", latency(last.get("mean_seconds"))),
        latency(last.get("p95_seconds"), last.get("p95_at_least", False)),
        series("cpu_percent", percent(last.get("cpu_percent"), 0)),
        percent(last.get("memory_percent"), 0),
        clock(left),
    ]
    return "  ".join(map(str.rjust, cells, _COLUMNS.values()))


def opening(result: Mapping[str, Any], duration: float, window: float, dry: bool = False) -> list[str]:
    """Return what is said before the first window.

    Args:
        result: of the first reading: ``release``, ``continued``, ``began``, ``windows``, ``left``, ``limits``,
            ``baseline``.
        duration, window: seconds.
        dry: whether this reading is all there will be.
    """
    release = result["release"]["tag"] or result["release"]["commit"][:12]
    span = f"{release} for {clock(duration)} in windows of {window:g} s"
    if dry:
        first = f"Would watch {span} / 점검만 수행"
    elif result["continued"]:
        began = time.strftime("%H:%M:%S UTC", time.gmtime(result["began"]))
        first = (
            f"Goes on with the watch of {release} that began at {began} / 중단된 모니터링을 이어서 진행합니다: "
            f"{len(result['windows'])} windows so far, {clock(result['left'])} left"
        )
    else:
        first = f"Watches {span} / 롤백 후 모니터링 시작. Interrupt it at any time: the same command goes on"
    limits, baseline = result["limits"], result["baseline"]
    named = [
        ("errors", limits["error_rate_percent"], "{:g} %"),
        ("agent failures", limits["agent_failure_percent"], "{:g} %"),
        ("mean", limits["mean_seconds"], "{:g} s"),
        ("p95", limits["p95_seconds"], "{:g} s"),
        ("CPU", limits["cpu_percent"], "{:g} %"),
        ("memory", limits["memory_percent"], "{:g} %"),
    ]
    parts = [f"{name} {form.format(value)}" for name, value, form in named if value is not None]
    if baseline and limits["baseline_ratio"]:
        whose = baseline["tag"] or baseline["commit"][:12]
        parts.append(
            f"{limits['baseline_ratio']:g} times the baseline's mean of {baseline['mean_seconds']:.3g} s ({whose}), "
            f"but not under {limits['baseline_floor_seconds']:g} s"
        )
    return ["", first, f"Limits / 기준: {', '.join(parts)}", ""]


def remarks(windows: Sequence[Mapping[str, Any]], tally: Mapping[str, Any], rules: Mapping[str, int]) -> list[str]:
    """Return what the line of a window can't hold: why it is bad, a gap, a restart, the recovery.

    Args:
        windows: oldest first; the last one is meant.
        tally: of all windows so far.
        rules: ``bad_in_row``, ``bad_total``, ``errors_in_row``, ``errors_total``, ``recovered_after``.
    """
    found = []
    window, before = windows[-1], windows[-2]["state"] if len(windows) > 1 else ""
    what = "; ".join(breach["evidence"] for breach in window["breaches"])
    if window["gap"]:
        found.append(
            f"nobody watched for {clock(window['seconds'])}; shown is what the counters grew meanwhile / 감시 공백"
        )
    if window.get("restarts"):
        found.append("the process was replaced / 프로세스 재시작")
    if window["state"] == "bad":
        row, total = f"{tally['bad_in_row']} of {rules['bad_in_row']}", f"{tally['bad']} of {rules['bad_total']}"
        found.append(f"bad / 기준 초과 ({row} in a row, {total} in all): {what}")
    elif window["state"] == "error":
        row, total = (
            f"{tally['errors_in_row']} of {rules['errors_in_row']}",
            f"{tally['errors']} of {rules['errors_total']}",
        )
        found.append(f"not readable / 측정 불가 ({row} in a row, {total} in all): {what}")
    elif window.get("undecided") and before != "inconclusive":
        found.append(f"undecided, judged with what follows / 판단 보류: {window['undecided']}")
    if tally["recovered_at"] is not None and tally["recovered_at"] == window["t"]:
        found.append(f"recovered / 회복: {rules['recovered_after']} good windows in a row")
    return [f"{'':11}{text}" for text in found]


_AGAIN = "ansible-playbook -i INVENTORY playbooks/monitor.yml"
_NEXT = {
    "good": [],
    "planned": ["run it without --check"],
    "breached": [
        "see what a rollback would help with: ansible-playbook -i INVENTORY playbooks/assess.yml",
        "to roll back, choose among the last good releases: ansible-playbook -i INVENTORY playbooks/level1.yml",
    ],
    "inconclusive": [f"watch again, for longer or under more traffic: {_AGAIN}"],
    "error": [
        "see what does not answer: ansible-playbook -i INVENTORY playbooks/validate.yml",
        f"then watch again: {_AGAIN}",
    ],
}

#: From bad to good: of several hosts the worst speaks for all.
_RANKS = ("breached", "error", "inconclusive", "good", "planned")


def conclusion(result: Mapping[str, Any], picture: str | None, baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what other tooling reads, and what the summary shows, of a watch on one host.

    Args:
        result: of the watch.
        picture: path on the controller, or None.
        baseline: result of storing one, or None where that was not asked for.
    """
    tally = result["tally"]
    outcome = result["outcome"] or "planned"
    message = result["why"] or "the metrics can be read, nothing was watched"
    if result["recovered_at"] is not None:
        message += f"; recovered after {clock(result['recovered_at'])}"
    if baseline and not baseline.get("stored"):
        message += f"; no baseline was stored: {baseline.get('evidence') or baseline.get('msg') or 'no reason given'}"
    return {
        "level": "monitor",
        "outcome": outcome,
        "message": message,
        "serves": result["release"]["tag"] or result["release"]["commit"][:12],
        "watch": result["watch"],
        "windows": {kind: tally[kind] for kind in ("windows", "good", "bad", "inconclusive", "errors")},
        "recovered_at": result["recovered_at"],
        "continued": result["continued"],
        "series": result["path"] if result["outcome"] else None,
        "picture": picture,
        "baseline": baseline.get("path") if baseline and baseline.get("stored") else None,
        "next": list(_NEXT[outcome]),
    }


def overall(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the watches of all hosts come to: the worst of them, and the others beside it."""
    worst = min(hosts, key=lambda host: _RANKS.index(hosts[host]["outcome"]))
    found = dict(hosts[worst])
    if len(hosts) > 1:
        found["message"] = f"{worst}: {found['message']}"
        found["hosts"] = {host: dict(outcome) for host, outcome in hosts.items()}
    return found
