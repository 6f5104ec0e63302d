#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's figures, from the backend's /metrics and from locust's own count.

figures.py measure METRICS_URL TRAFFIC_DIR SECONDS OUT   a window: both sources at its start and at its end
figures.py mark TRAFFIC_DIR OUT                          what locust has counted until now
figures.py table BEFORE START END AFTER                  before and after, and the rollback between, as a table
figures.py summary TRAFFIC_DIR                           what a whole run of traffic gave; also as summary.json
"""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from pathlib import Path
from urllib.request import urlopen

REQUESTS = "sparklio_http_requests_total"
DURATION = "sparklio_http_request_duration_seconds"
AGENTS = "sparklio_agent_executions_total"
SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Series = dict[tuple, float]


def scrape(url: str) -> Series:
    with urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = (SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return {(m[1], *sorted(LABEL.findall(m[2] or ""))): float(m[3]) for m in found if m}


def growth(before: Series, after: Series) -> Series:
    """How much each counter grew; one that shrank was reset, and has grown by what it holds now."""
    return {key: value - (old if (old := before.get(key, 0.0)) <= value else 0.0) for key, value in after.items()}


def total(series: Series, name: str, **wanted: object) -> float:
    """The sum over one metric's series whose labels satisfy the tests."""
    return sum(
        value
        for (found, *labels), value in series.items()
        if found == name and all(test(dict(labels).get(label, "")) for label, test in wanted.items())
    )


def quantile(series: Series, share: float) -> str:
    """From a histogram: the bucket that it falls in. In the last one, only a lower bound is known."""
    buckets: dict[float, float] = {}
    for (name, *labels), value in series.items():
        if name == f"{DURATION}_bucket":
            bound = float(dict(labels)["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return "no data"
    rank, below, lower = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return f"over {lower:g} s"
            return f"{lower + (bound - lower) * (rank - below) / (buckets[bound] - below):.2f} s"
        below, lower = buckets[bound], bound
    return "no data"


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "no data"


def rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []


def counted(folder: Path) -> dict:
    """What locust counted so far: requests, and failures by whether an answer came at all."""
    everything = [row for row in rows(folder / "locust_stats.csv") if row.get("Name") == "Aggregated"]
    failures = [(row["Error"], int(row["Occurrences"])) for row in rows(folder / "locust_failures.csv")]
    failed = sum(count for _, count in failures)
    refused = sum(count for error, count in failures if "no answer" in error)
    number = int(everything[-1]["Request Count"]) if everything else 0
    p95 = everything[-1].get("95%", "") if everything else ""
    return {"time": time.time(), "requests": number, "failed": failed, "no_answer": refused, "p95_ms": p95}


def measure(url: str, folder: Path, seconds: float) -> dict:
    first, start = scrape(url), counted(folder)
    time.sleep(seconds)
    last, end = scrape(url), counted(folder)
    grown = growth(first, last)
    requests = total(grown, REQUESTS)
    took = total(grown, f"{DURATION}_count")
    agents = total(grown, AGENTS)
    return {
        "seconds": round(end["time"] - start["time"], 1),
        "backend_requests": int(requests),
        "5xx": share(total(grown, REQUESTS, status_code=lambda code: code.startswith("5")), requests),
        "agent_runs": int(agents),
        "agent_failures": share(total(grown, AGENTS, status=lambda status: status != "success"), agents),
        "mean": f"{total(grown, f'{DURATION}_sum') / took:.2f} s" if took else "no data",
        "p95": quantile(grown, 0.95),
        "visitors": end["requests"] - start["requests"],
        "visitors_failed": share(end["failed"] - start["failed"], end["requests"] - start["requests"]),
    }


TABLE = (
    ("requests to the backend", "backend_requests"),
    ("  answered with 5xx", "5xx"),
    ("  mean time", "mean"),
    ("  95 % within", "p95"),
    ("agent runs", "agent_runs"),
    ("  failed", "agent_failures"),
    ("visitors' requests (locust)", "visitors"),
    ("  failed", "visitors_failed"),
)


def table(before: dict, start: dict, end: dict, after: dict) -> str:
    lines = [f"{'':30}{'before':>14}{'after':>14}", f"{'window':30}{before['seconds']:>12} s{after['seconds']:>12} s"]
    lines += [f"{title:30}{before[key]!s:>14}{after[key]!s:>14}" for title, key in TABLE]
    requests, failed = end["requests"] - start["requests"], end["failed"] - start["failed"]
    lost = end["no_answer"] - start["no_answer"]
    lines.append(
        f"\nThe rollback took {end['time'] - start['time']:.0f} s. Meanwhile visitors made {requests} requests: "
        f"{failed - lost} were answered with an error, {lost} got no answer."
    )
    return "\n".join(lines)


def summary(folder: Path) -> str:
    result = counted(folder)
    (folder / "summary.json").write_text(json.dumps(result) + "\n")
    return (
        f"requests {result['requests']}, failed {result['failed']} ({share(result['failed'], result['requests'])}; "
        f"{result['no_answer']} of them without any answer), 95 % within {result['p95_ms'] or '?'} ms"
    )


def main(command: str, *arguments: str) -> None:
    if command == "measure":
        url, folder, seconds, out = arguments
        Path(out).write_text(json.dumps(measure(url, Path(folder), float(seconds))))
    elif command == "mark":
        folder, out = arguments
        time.sleep(1.2)  # locust writes its files once a second
        Path(out).write_text(json.dumps(counted(Path(folder))))
    elif command == "table":
        print(table(*(json.loads(Path(path).read_text()) for path in arguments)))
    elif command == "summary":
        print(summary(Path(arguments[0])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["help"]))
