"""How often metric_error_rate is wrong, and how soon it knows: simulated windows of traffic with a restart in each.

Every window goes through the module's own code, from the text of the page to the verdict; only the clock and the
network are made up. The lines of the runbook that judge the error rate (scripts/validate_rollback.sh, step 6) read
the same pages, at three moments.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from statistics import median
from typing import NamedTuple

import report
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import error_rate as module
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch
from ansible_collections.sparklio.rollback.plugins.module_utils.scrape import STARTED

SEED = 20250115
RATES = (0.5, 2.0, 4.0, 6.0, 10.0, 25.0)
THRESHOLD = 5.0
WINDOW = 60.0
#: Percent of the windows that may end in a wrong verdict, where the rate is not close to the threshold.
MOST_WRONG = 1.0
CLOSE = (4.0, 6.0)

HISTORY = 3600.0  # the process that is met has served so many seconds, with so many percent of errors
HISTORY_RATE = 0.5
GAP = 1.0  # seconds in which nothing listens, around a restart
LATENCY = 0.005  # seconds that a reading takes
EPOCH = 1.7e9
ENDPOINTS = ("/api/v1/agents/{agent_id}/execute", "/api/v1/workflows", "/health")


class Traffic(NamedTuple):
    """One kind of traffic to judge."""

    name: str
    per_second: float
    deadline: float = WINDOW
    rates: tuple[float, ...] = RATES
    restart: tuple[float, float] = (20.0, 40.0)  # seconds between which it is
    bursts: bool = False
    promised: bool = True


TRAFFIC = (
    Traffic("2 a second", 2.0),
    Traffic("50 a second", 50.0),
    # What decides within seconds has to meet a restart within seconds.
    Traffic("50 a second, restart at once", 50.0, restart=(0.1, 2.0)),
    Traffic("2 a second, deadline 300 s", 2.0, deadline=300.0, promised=False),
    Traffic("50 a second, errors in bursts", 50.0, rates=(2.0, 10.0), bursts=True, promised=False),
)


def steady(rng: random.Random, rate: float, times: list[float]) -> list[bool]:
    return [rng.random() < rate for _time in times]


def bursts(rng: random.Random, rate: float, times: list[float]) -> list[bool]:
    """Errors come together: half of the requests fail in bursts of a second on average, and none between them."""
    share = rate / 0.5
    lengths = {True: 1.0, False: (1 - share) / share}
    now = rng.random() < share
    until = rng.expovariate(1 / lengths[now])
    flags = []
    for time in times:
        while time > until:
            now = not now
            until += rng.expovariate(1 / lengths[now])
        flags.append(now and rng.random() < 0.5)
    return flags


class Trace:
    """Requests of one window and what a backend's counters say of them at any moment."""

    def __init__(self, rng: random.Random, traffic: Traffic, percent: float) -> None:
        span = traffic.deadline + 1
        gaps = (rng.expovariate(traffic.per_second) for _ in iter(int, 1))
        self.times = list(until(accumulate(gaps), span))
        failed = (bursts if traffic.bursts else steady)(rng, percent / 100, self.times)
        self.bad = [0, *accumulate(failed)]
        self.restart = rng.uniform(*traffic.restart)
        self.back = self.restart + GAP
        before = HISTORY * traffic.per_second
        noise = rng.gauss(0, 1) * (before * HISTORY_RATE / 100) ** 0.5
        errors = max(0, round(before * HISTORY_RATE / 100 + noise))
        self.history = (round(before) - errors, errors)
        self.stops, self.resumes = (bisect_right(self.times, moment) for moment in (self.restart, self.back))

    def page(self, now: float) -> str:
        served = bisect_right(self.times, now)
        if now < self.restart:
            bad = self.bad[served]
            good, began = served - bad + self.history[0], EPOCH - HISTORY
            bad += self.history[1]
        else:
            bad = self.bad[served] - self.bad[self.resumes]
            good, began = served - self.resumes - bad, EPOCH + self.back
        lines = ["# HELP sparklio_http_requests_total HTTP requests", "# TYPE sparklio_http_requests_total counter"]
        for status, count in (("200", good), ("500", bad)):
            for number, endpoint in enumerate(ENDPOINTS):
                share = (count + number) // len(ENDPOINTS)
                if share:  # a series with labels does not exist before its first use
                    labels = f'endpoint="{endpoint}",method="POST",status_code="{status}"'
                    lines.append(f"sparklio_http_requests_total{{{labels}}} {share}.0")
        return "\n".join([*lines, "# TYPE process_start_time_seconds gauge", f"{STARTED} {began!r}", ""])


def until(times: Iterator[float], end: float) -> Iterator[float]:
    for time in times:
        if time > end:
            return
        yield time


class Clock:
    """The only time there is."""

    def __init__(self) -> None:
        self.now = 0.0

    def steady(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def judged(trace: Trace, traffic: Traffic) -> dict:
    """Let the module judge, with its own defaults."""
    clock = Clock()

    def read(url: str) -> ex.Exposition:
        now = clock.now
        clock.sleep(LATENCY)
        if trace.restart <= now < trace.back:
            raise fetch.FetchError(f"GET {url}: connection refused: nothing listens there")
        return ex.read([trace.page(now).encode()], [settings.metric, STARTED])

    defaults = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    settings = module.Settings(
        {
            **defaults,
            "urls": ["http://127.0.0.1:8000/metrics"],
            "threshold_percent": THRESHOLD,
            "window": WINDOW,
            "deadline": traffic.deadline,
        }
    )
    source = module.Endpoints(settings, read, lambda url: [], clock.steady, clock.wall)
    return module.measure(settings, source, clock.steady, clock.sleep)


def runbook(page: str) -> str:
    """Judge as the runbook's shell does. ``test_runbook`` runs its own lines to see that this is so."""
    lines = [line for line in page.splitlines() if "sparklio_http_requests_total" in line]
    bad = [line for line in lines if re.search('sparklio_http_requests_total.*status_code="5', line)]
    total, errors = (sum(awk(line) for line in some) for some in (lines, bad))
    if total == 0:
        return "pass"
    if not bad:
        return "fail"  # awk prints an empty line, bc reports a syntax error, and (( )) of nothing is false
    # scale=2 cuts the quotient off at two digits before it is multiplied
    return "pass" if int(100 * errors) // int(total) < THRESHOLD else "fail"


def awk(line: str) -> float:
    number = re.match(r"[-+]?\d+(\.\d*)?", line.split()[1])
    return float(number.group()) if number else 0.0


SCRIPT = r"""
curl() { cat "$PAGE"; }
ERROR_RATE=$(curl -s http://localhost:8000/metrics | grep "sparklio_http_requests_total.*status_code=\"5" | awk '{sum+=$2} END {print sum}')
TOTAL_REQUESTS=$(curl -s http://localhost:8000/metrics | grep "sparklio_http_requests_total" | awk '{sum+=$2} END {print sum}')

if [ -z "$TOTAL_REQUESTS" ] || [ "$TOTAL_REQUESTS" -eq 0 ]; then
    echo "⚠ No requests recorded yet"
else
    ERROR_PERCENTAGE=$(echo "scale=2; ($ERROR_RATE / $TOTAL_REQUESTS) * 100" | bc)
    echo "Error rate: $ERROR_PERCENTAGE%"

    if (( $(echo "$ERROR_PERCENTAGE < 5.0" | bc -l) )); then
        echo "✓ Error rate is acceptable"
    else
        echo "✗ Error rate is too high: $ERROR_PERCENTAGE%"
        exit 1
    fi
fi
"""  # noqa: E501


def test_runbook() -> None:
    """Run the runbook's own lines over some pages, and see that ``runbook`` says the same."""
    if not (shutil.which("bash") and shutil.which("bc")):
        print("bash or bc is missing: what the runbook's lines answer was not tried here.\n")
        return
    trace = Trace(random.Random(SEED), TRAFFIC[1], THRESHOLD)
    page, seen = "".join, set()
    empty = "# TYPE sparklio_http_requests_total counter\n"
    series = 'sparklio_http_requests_total{{endpoint="/",status_code="{}"}} {}.0\n'
    pages = [page([empty, series.format(200, 1000 - bad), series.format(500, bad)]) for bad in (1, 49, 50, 51, 59, 999)]
    pages += [empty, "", page([empty, series.format(200, 100)]), *(trace.page(at) for at in (0, 3, trace.back + 3, 60))]
    for text in pages:
        with tempfile.NamedTemporaryFile("w", suffix=".prom") as file:
            file.write(text)
            file.flush()
            environment = {**os.environ, "PAGE": file.name}
            done = subprocess.run(["bash", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
        seen.add(done.returncode)
        if ("pass" if done.returncode == 0 else "fail") != runbook(text):
            raise SystemExit(f"The runbook's lines do not say {runbook(text)} of this page:\n{text}{done.stdout}")
    assert seen == {0, 1}


#: When the runbook's lines are run: their verdict is of that very moment.
MOMENTS: dict[str, Callable[[Trace], float]] = {
    "old process": lambda trace: trace.restart - 0.001,
    "10 s after": lambda trace: trace.back + 10,
    "at the end": lambda trace: WINDOW,
}


def simulate(traffic: Traffic, percent: float, windows: int) -> dict:
    right = "pass" if percent < THRESHOLD else "fail"
    verdicts: Counter[str] = Counter()
    wrong_runbook: Counter[str] = Counter()
    seconds, after_restart = [], 0
    for number in range(windows):
        trace = Trace(random.Random(f"{SEED} {traffic.name} {percent} {number}"), traffic, percent)
        found = judged(trace, traffic)
        verdicts[found["verdict"]] += 1
        if found["verdict"] in ("pass", "fail"):
            seconds.append(found["seconds"])
            after_restart += found["restarts"] > 0
        wrong_runbook.update(moment for moment, at in MOMENTS.items() if runbook(trace.page(at(trace))) != right)
    wrong = verdicts["fail" if right == "pass" else "pass"]
    return {
        "traffic": traffic._asdict(),
        "rate_percent": percent,
        "windows": windows,
        "verdicts": dict(verdicts),
        "wrong_percent": 100 * wrong / windows,
        "median_seconds": median(seconds) if seconds else None,
        "decided_after_the_restart": after_restart,
        "runbook_wrong_percent": {moment: 100 * wrong_runbook[moment] / windows for moment in MOMENTS},
    }


def cells(row: dict) -> list[str]:
    share = [
        f"{100 * row['verdicts'].get(verdict, 0) / row['windows']:.1f}" for verdict in ("pass", "fail", "inconclusive")
    ]
    waited = row["median_seconds"]
    return [
        row["traffic"]["name"],
        f"{row['rate_percent']:g} %",
        *share,
        f"{row['wrong_percent']:.1f}",
        f"{100 * row['decided_after_the_restart'] / row['windows']:.0f}",
        "–" if waited is None else f"{waited:.0f}",
        *(f"{row['runbook_wrong_percent'][moment]:.1f}" for moment in MOMENTS),
    ]


def main() -> None:
    options = report.arguments(__doc__).parse_args()
    windows = 100 if options.quick else 1000
    test_runbook()
    rows = []
    for traffic in TRAFFIC:
        for percent in traffic.rates:
            rows.append(simulate(traffic, percent, windows))
            print(f"  {' '.join(cells(rows[-1]))}", file=sys.stderr)
    head = ["Requests", "True rate", "pass %", "fail %", "inconclusive %", "wrong %", "after the restart %", "median s"]
    text = report.table([*head, *(f"runbook: {moment}" for moment in MOMENTS)], [cells(row) for row in rows])
    text += f"\n\n{windows:,} windows a row, seed {SEED}. Measured on {report.machine()}."
    report.publish("decisions", {"seed": SEED, "rows": rows}, text, options.docs)
    errors = sum(row["verdicts"].get("error", 0) for row in rows)
    missed = [
        row for row in rows
        if row["traffic"]["promised"] and row["rate_percent"] not in CLOSE and row["wrong_percent"] > MOST_WRONG
    ]  # fmt: skip
    if errors or missed:
        sys.exit(f"{errors} windows ended in an error; wrong too often: {[cells(row)[:6] for row in missed]}")


if __name__ == "__main__":
    main()
