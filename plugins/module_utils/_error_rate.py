# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error rates from counters: increases that survive restarts, an interval for the rate, and the decision.

Repeated looks: deciding "as soon as the 95 % interval is clear of the threshold" at every scrape would be wrong far
more often than in 5 % of the cases (Armitage, McPherson, Rowe: "Repeated significance tests on accumulating data",
J. R. Stat. Soc. A 132, 1969). So the error is spent over a number of looks that is planned before the first one: half
of it at the last look and the rest in equal parts at the earlier ones, each look using its own share. By Bonferroni's
inequality (Dunn: "Multiple comparisons among means", J. Am. Stat. Assoc. 56, 1961) the chance of any wrong verdict is
then at most the whole error, however the looks depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

#: Planned looks at the evidence. More of them gain little (Pocock, Biometrika 64, 1977) and make each look stricter.
LOOKS = 5


class Scrape(NamedTuple):
    """One reading of one process: when it was taken (seconds, any origin), its counters, and when the process began."""

    at: float
    counters: Mapping[Hashable, float]
    started: float | None = None


class Rate(NamedTuple):
    """Bad of total, as counts (floats, since counters are), and as a fraction; None without any."""

    bad: float
    total: float

    @property
    def fraction(self) -> float | None:
        """Bad / total."""
        return self.bad / self.total if self.total > 0 else None


class Decision(NamedTuple):
    """The verdict (pass, fail, inconclusive), why, and the interval at the confidence that this look had."""

    verdict: str
    reason: str
    interval: tuple[float, float]
    confidence: float


def bad_values(counters: Mapping[Hashable, float]) -> list[Hashable]:
    """Return the series whose value no counter can have: NaN, infinite or negative."""
    return [series for series, value in counters.items() if not (math.isfinite(value) and value >= 0)]


def increases(scrapes: Sequence[Scrape], from_zero: bool = False) -> dict[Hashable, float]:
    """Return how much each series of one process grew, over all scrapes.

    A decrease means a restart: the increase is the new value. So does a process that began at another time, for all
    its series, since one may already have overtaken its former value. A series that is new counts from 0, and one
    that vanished keeps what it had.

    Args:
        scrapes: in the order they were taken.
        from_zero: count the first scrape too, because the process began inside the window.
    """
    total: dict[Hashable, float] = {}
    last: dict[Hashable, float] = {}
    for number, scrape in enumerate(scrapes):
        if number and scrape.started != scrapes[number - 1].started and scrape.started is not None:
            last = {}
        for series, value in scrape.counters.items():
            if number == 0 and not from_zero:
                grown = 0.0
            else:
                before = last.get(series, 0.0)
                grown = value - before if value >= before else value
            total[series] = total.get(series, 0.0) + grown
            last[series] = value
    return total


def restarts(scrapes: Sequence[Scrape]) -> int:
    """Return how often the process was seen to be another one than before."""
    starts = [scrape.started for scrape in scrapes if scrape.started is not None]
    return sum(1 for number in range(1, len(starts)) if starts[number] != starts[number - 1])


def several_processes(starts: Iterable[float | None]) -> bool:
    """Say whether a process came back after another one had answered: two behind one port, not a restart.

    Args:
        starts: ``process_start_time_seconds`` of each scrape, in order; None where it was not exported.
    """
    seen: set[float] = set()
    previous: float | None = None
    for started in starts:
        if started is None or started == previous:
            continue
        if started in seen:
            return True
        seen.add(started)
        previous = started
    return False


def settled(scrapes: Sequence[Scrape], quiet: int = 3) -> bool:
    """Say whether the last few scrapes agree on the process, so that a restart is not two processes taking turns."""
    return restarts(scrapes) == 0 or (restarts(scrapes[-quiet:]) == 0 and len(scrapes) >= quiet)


def is_fresh(started: float | None, now: float, within: float) -> bool:
    """Say whether a process began less than ``within`` seconds ago; one in the future is a clock set back, so no."""
    return started is not None and 0 <= now - started <= within


def rate(grown: Mapping[Hashable, float], bad: Iterable[Hashable]) -> Rate:
    """Sum the increases of all series, and of those that are bad."""
    bad = set(bad)
    return Rate(
        math.fsum(value for series, value in grown.items() if series in bad),
        math.fsum(grown.values()),
    )


def wilson(bad: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a proportion, as fractions.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22,
    1927. Unlike the normal approximation it holds for few requests and for no bad ones.
    """
    if total <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = bad / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(max(0.0, share * (1 - share) / total + z * z / (4 * total * total)))
    scale = 1 + z * z / total
    low = 0.0 if bad <= 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if bad >= total else min(1.0, (centre + spread) / scale)
    return low, high


def look_plan(window: float, deadline: float, looks: int = LOOKS) -> list[float]:
    """Return the times, in seconds after the first scrape, at which the evidence is looked at.

    They are spread evenly over the window, with the first at 0 (a fresh process may have served enough already), and
    one more at the deadline where that lies behind the window.
    """
    inside = looks - 1 if deadline > window else looks
    times = [window * number / (inside - 1) for number in range(inside - 1)]
    return [*times, window, deadline] if deadline > window else [*times, window]


def look_confidence(look: int, looks: int, confidence: float = 0.95) -> float:
    """Return the confidence to use at one look (counted from 0), so that all together keep ``confidence``."""
    error = 1 - confidence
    if looks == 1:
        return confidence
    return 1 - (error / 2 if look >= looks - 1 else error / 2 / (looks - 1))


def decide(measured: Rate, threshold: float, min_requests: float, confidence: float) -> Decision:
    """Judge one look: pass when the interval is under the threshold, fail when it is over it, else inconclusive.

    Args:
        measured: bad of total.
        threshold: a fraction; a rate at or above it is too high.
        min_requests: below so many requests there is no verdict.
        confidence: of the interval, a fraction.
    """
    low, high = wilson(measured.bad, measured.total, confidence)
    if measured.total <= 0:
        verdict, reason = "inconclusive", "no traffic"
    elif measured.total < min_requests:
        verdict, reason = "inconclusive", f"fewer than the {min_requests:g} requests that a verdict needs"
    elif high < threshold:
        verdict, reason = "pass", "the interval is under the threshold"
    elif low >= threshold:
        verdict, reason = "fail", "the interval is over the threshold"
    else:
        verdict, reason = "inconclusive", "too few requests to tell the rate from the threshold"
    return Decision(verdict, reason, (low, high), confidence)
