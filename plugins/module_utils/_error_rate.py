# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error rates from counters: increases that survive restarts, an interval for the rate, and the decision.

Repeated looks: deciding "as soon as the 95 % interval is clear of the threshold" at every scrape would be wrong far
more often than in 5 % of the cases (Armitage, McPherson, Rowe: "Repeated significance tests on accumulating data",
J. R. Stat. Soc. A 132, 1969). So ``Looks`` spends the error that is allowed little by little, by the time that has
passed (Lan, DeMets: "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983; by calendar time:
"Group sequential procedures: calendar versus information time", Stat. Med. 8, 1989). What each look spends is exact
for a binomial count at the threshold, with no normal approximation (Jennison, Turnbull: "Group Sequential Methods
with Applications to Clinical Trials", 2000, chapter 12). A rate farther from the threshold errs less often.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import mul
from statistics import NormalDist
from types import MappingProxyType
from typing import NamedTuple

#: Of the error, so much may be spent at the first look already: a fresh process has often served enough by then.
FIRST_SHARE = 0.2

#: A look takes so much more requests than the one before: it would tell nothing new, and it costs time to work out.
GROWTH = 1.1

#: Without start times, so many readings may not see counters fall twice: no process lives that shortly.
RECENT = 10

#: Above it a double can't count one by one.
LARGEST = 2.0**53


class Scrape(NamedTuple):
    """One reading of one process.

    When it was taken (seconds, any origin), its counters, when the process began, and when each counter did, where
    that is exported (``_created``).
    """

    at: float
    counters: Mapping[Hashable, float]
    started: float | None = None
    created: Mapping[Hashable, float] = MappingProxyType({})


class Rate(NamedTuple):
    """Bad of total, as counts (floats, since counters are), and as a fraction; None without any."""

    bad: float
    total: float

    @property
    def fraction(self) -> float | None:
        """Bad / total."""
        return self.bad / self.total if self.total > 0 else None


class Decision(NamedTuple):
    """The verdict (pass, fail, inconclusive), why, and up to and from how many bad ones this look would decide."""

    verdict: str
    reason: str
    pass_at_most: int | None = None
    fail_from: int | None = None


def bad_values(counters: Mapping[Hashable, float]) -> list[Hashable]:
    """Return the series whose value no counter can have: NaN, infinite, negative, or too large to count by."""
    return [series for series, value in counters.items() if not 0 <= value <= LARGEST]


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
    born: dict[Hashable, float] = {}
    began: float | None = None
    for number, scrape in enumerate(scrapes):
        if scrape.started is not None:
            if began not in (None, scrape.started):
                last = {}
            began = scrape.started
        for series, created in scrape.created.items():
            if born.get(series, created) != created:
                last.pop(series, None)
            born[series] = created
        for series, value in scrape.counters.items():
            if number == 0 and not from_zero:
                grown = 0.0
            else:
                before = last.get(series, 0.0)
                grown = value - before if value >= before else value
            total[series] = total.get(series, 0.0) + grown
            last[series] = value
    return total


def _fell(before: Scrape, after: Scrape) -> bool:
    return any(value < before.counters.get(series, 0.0) for series, value in after.counters.items())


def _same_start(before: Scrape, after: Scrape) -> bool | None:
    """Say whether both began at the same time; None where that is not known."""
    return None if before.started is None or after.started is None else before.started == after.started


def _replaced(before: Scrape, after: Scrape) -> bool:
    """Say whether another process answered: it or a counter began at another time or, where unknown, a counter fell."""
    same = _same_start(before, after)
    recreated = any(before.created.get(series, created) != created for series, created in after.created.items())
    return same is False or recreated or (same is None and _fell(before, after))


def restarts(scrapes: Sequence[Scrape]) -> int:
    """Return how often the process was seen to be another one than before."""
    return sum(map(_replaced, scrapes, scrapes[1:]))


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


def mixed(scrapes: Sequence[Scrape]) -> bool:
    """Say whether several processes answer in turn, each with counters of its own, so that nothing can be counted.

    A process comes back that had been replaced. Or the start time stays, but a counter falls or began at another time:
    the workers of one server often begin in the same clock tick. Where start times are not exported, a counter that
    began earlier comes back, or counters fall again and again.
    """
    if several_processes(scrape.started for scrape in scrapes):
        return True
    born: dict[Hashable, float] = {}
    fell_at = -RECENT
    for number in range(1, len(scrapes)):
        before, after = scrapes[number - 1], scrapes[number]
        same = _same_start(before, after)
        born = {} if same is False else {**born, **before.created}
        changed = [series for series, created in after.created.items() if born.get(series, created) != created]
        if changed and (same or any(after.created[series] < born[series] for series in changed)):
            return True
        if _fell(before, after) and same is not False:
            if same or number - fell_at < RECENT:
                return True
            fell_at = number
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


def _binomial(trials: int, chance: float) -> tuple[int, list[float]]:
    """Return the probabilities of so many hits, without the ends that are negligible, and where they begin."""
    peak = int((trials + 1) * chance)
    height = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(peak + 1)
        - math.lgamma(trials - peak + 1)
        + peak * math.log(chance)
        + (trials - peak) * math.log1p(-chance)
    )
    odds = chance / (1 - chance)
    below, above = [], [height]
    hits, value = peak, height
    while hits > 0 and value > 1e-15:
        value *= hits / (trials - hits + 1) / odds
        below.append(value)
        hits -= 1
    first, hits, value = hits, peak, height
    while hits < trials and value > 1e-15:
        value *= (trials - hits) / (hits + 1) * odds
        above.append(value)
        hits += 1
    return first, [*reversed(below), *above]


def _convolved(long: list[float], short: list[float]) -> list[float]:
    turned = short[::-1]
    margin = [0.0] * (len(short) - 1)
    padded = [*margin, *long, *margin]
    return [sum(map(mul, padded[at : at + len(short)], turned)) for at in range(len(long) + len(short) - 1)]


class Looks:
    """Judges counts that grow, as often as wanted, with a bound on the chance of any wrong verdict.

    It holds how likely each number of bad ones is that no look has decided on yet, if the rate were exactly the
    threshold. Of that, each look cuts off both ends as far as the error allowed up to then goes: few bad ones pass,
    many fail.
    """

    def __init__(
        self,
        threshold: float,
        horizon: float,
        min_requests: float = 0,
        error: float = 0.01,
        confidence: float = 0.95,
    ) -> None:
        """Begin.

        Args:
            threshold: a fraction over 0 and under 1; a rate at or above it is too high.
            horizon: seconds after which the last look is due.
            min_requests: below so many requests there is no verdict.
            error: the chance of V(pass) at a rate that is too high, and of V(fail) at one that is not, at most.
            confidence: of Wilson's interval, which must be clear of the threshold too.
        """
        if not (0 < threshold < 1 and 0 < error < 0.5):
            raise ValueError("a threshold lies between 0 and 1, and an error between 0 and 0.5")
        self._threshold, self._horizon, self._min_requests = threshold, horizon, min_requests
        self._error, self._confidence = error, confidence
        self._total = 0
        self._first, self._chances = 0, [1.0]
        self._spent_low = self._spent_high = 0.0
        self._limits: tuple[int | None, int | None] = (None, None)

    def judge(self, measured: Rate, at: float) -> Decision:
        """Look at the counts so far, ``at`` seconds after the beginning."""
        total, bad = round(measured.total), round(measured.bad)
        if total <= 0:
            return Decision("inconclusive", "no traffic")
        if total < self._min_requests:
            few = f"fewer than the {self._min_requests:.0f} requests that a verdict needs"
            return Decision("inconclusive", few, *self._limits)
        undecided = "too few requests to tell the rate from the threshold"
        last = at >= self._horizon
        if not last and self._total <= total < GROWTH * self._total:
            return Decision("inconclusive", undecided, *self._limits)
        passes, fails = self._limits = self._spend(total, 1.0 if last else at / self._horizon)
        low, high = wilson(measured.bad, measured.total, self._confidence)
        if passes is not None and bad <= passes and high < self._threshold:
            return Decision("pass", "the interval is under the threshold", passes, fails)
        if fails is not None and bad >= fails and low >= self._threshold:
            return Decision("fail", "the interval is over the threshold", passes, fails)
        return Decision("inconclusive", undecided, passes, fails)

    def _spend(self, total: int, time: float) -> tuple[int | None, int | None]:
        """Go on to ``total`` requests, cut both ends off, and return up to and from where they are cut."""
        if total < self._total:
            # The counts began anew: what was spent stays spent, so the bound holds.
            self._total, self._first, self._chances = 0, 0, [1.0]
        if total > self._total:
            first, more = _binomial(total - self._total, self._threshold)
            self._first += first
            self._chances = _convolved(*sorted((self._chances, more), key=len, reverse=True))
        self._total = total
        allowed = self._error * (FIRST_SHARE + (1 - FIRST_SHARE) * time)
        low, high = 0, len(self._chances)
        while low < high and self._spent_low + self._chances[low] <= allowed:
            self._spent_low += self._chances[low]
            low += 1
        while high > low and self._spent_high + self._chances[high - 1] <= allowed:
            self._spent_high += self._chances[high - 1]
            high -= 1
        passes, fails = self._first + low - 1, self._first + high
        self._first, self._chances = self._first + low, self._chances[low:high]
        return passes if passes >= 0 else None, fails if fails <= total else None


def decide(measured: Rate, threshold: float, min_requests: float, confidence: float) -> Decision:
    """Judge by a single look: pass when the interval is under the threshold, fail when it is over it.

    Args:
        measured: bad of total.
        threshold: a fraction; a rate at or above it is too high.
        min_requests: below so many requests there is no verdict.
        confidence: of the interval, a fraction.
    """
    return Looks(threshold, 0, min_requests, (1 - confidence) / 2, confidence).judge(measured, 0)
