# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Latency from classic Prometheus histograms: increases, mean, quantiles, and what limits and a baseline make of them.

Buckets are held by their own counts and not cumulatively: each is then a counter of its own, so that no restart can
leave a larger bucket with fewer requests than a smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from typing import NamedTuple, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils._error_rate import Scrape, increases
from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import (
    Exposition,
    ExpositionError,
    Labels,
    Selector,
    parse_number,
)

#: A series' labels without ``le``, and the upper bound of one of its buckets; None for the sum of what was observed.
Key = tuple[Labels, Optional[float]]

#: Over this, whole numbers are no longer exact: no counter of requests or seconds comes near it.
MOST = 2.0**53


class HistogramError(ValueError):
    """What was read is no histogram, or contradicts itself."""


class Quantile(NamedTuple):
    """A quantile in seconds; ``at_least`` when it lies in the last bucket, of which only the lower bound is known."""

    seconds: float
    at_least: bool


def quantile(cumulative: Mapping[float, float], fraction: float) -> Quantile | None:
    """Return a quantile as Prometheus does, None without requests.

    Source: Prometheus documentation, "Query functions: histogram_quantile()": requests are taken as spread evenly over
    their bucket, which begins at the bound before it, or at 0.

    Args:
        cumulative: upper bound of each bucket, the last one infinite, to how many requests took at most so long.
        fraction: over 0 and under 1.
    """
    bounds = sorted(cumulative)
    if not bounds or cumulative[bounds[-1]] <= 0:
        return None
    rank = fraction * cumulative[bounds[-1]]
    bound = next((bound for bound in bounds if cumulative[bound] >= rank), bounds[-1])
    number = bounds.index(bound)
    lower = bounds[number - 1] if number else min(0.0, bound)
    if math.isinf(bound):
        return Quantile(lower, True)
    before = cumulative[lower] if number else 0.0
    return Quantile(lower + (bound - lower) * (rank - before) / (cumulative[bound] - before), False)


class Histogram(NamedTuple):
    """Requests by how long they took: upper bounds (ascending, the last infinite), their own counts, total seconds."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def requests(self) -> float:
        """Number of requests."""
        return math.fsum(self.counts)

    @property
    def mean(self) -> float | None:
        """Mean in seconds, None without requests."""
        return self.seconds / self.requests if self.requests > 0 else None

    def quantile(self, fraction: float) -> Quantile | None:
        """Return a quantile, None without requests."""
        reached = accumulate(self.counts)
        return quantile({bound: next(reached) for bound in self.bounds}, fraction)

    @property
    def beyond(self) -> tuple[float, float, float]:
        """Return how many requests lie in the last bucket, and the least and the greatest sum that they can have."""
        inside = range(len(self.bounds) - 1)
        lower = (0.0, *self.bounds)
        least = self.seconds - math.fsum(self.bounds[number] * self.counts[number] for number in inside)
        most = self.seconds - math.fsum(lower[number] * self.counts[number] for number in inside)
        return self.counts[-1], least, most


class Judgement(NamedTuple):
    """One comparison: the verdict (pass, fail, inconclusive), of what, with which limit in seconds, and in words."""

    verdict: str
    what: str
    limit: float
    reason: str


def sample_names(metric: str) -> list[str]:
    """Return the names to read from a page: the histogram's declaration and its samples."""
    return [metric, f"{metric}_bucket", f"{metric}_sum", f"{metric}_count"]


def _le(labels: Labels) -> tuple[Labels, float]:
    named = dict(labels)
    if "le" not in named:
        raise HistogramError("a bucket has no label le")
    try:
        bound = parse_number(named.pop("le"))
    except ExpositionError as exc:
        raise HistogramError(f"the label le of a bucket: {exc}") from exc
    if math.isnan(bound) or bound == -math.inf:
        raise HistogramError(f"a bucket has the bound {bound}")
    return tuple(sorted(named.items())), bound


def shown(labels: Labels) -> str:
    """Return labels as PromQL writes them."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}"


def _own_counts(cumulative: Mapping[float, float], place: str) -> dict[float, float]:
    bounds = sorted(cumulative)
    if not bounds or bounds[-1] != math.inf:
        raise HistogramError(f'{place} has no bucket le="+Inf"')
    if len(bounds) < 2:
        raise HistogramError(f'{place} has no bucket but le="+Inf"')
    own, before = {}, 0.0
    for bound in bounds:
        value = cumulative[bound]
        if not (0 <= value <= MOST):
            raise HistogramError(f"{place} holds the value {value}, which no bucket can have")
        if value < before:
            raise HistogramError(f'{place} has {value:g} in le="{bound:g}", fewer than the {before:g} before it')
        own[bound], before = value - before, value
    return own


def counters(page: Exposition, metric: str, selector: Selector) -> dict[Key, float]:
    """Return the counters of one page that belong to a histogram: each bucket's own count, and each series' sum.

    Args:
        page: holds what ``sample_names`` names.
        metric: the histogram's name.
        selector: which series to take.

    Raises:
        HistogramError: it is no whole histogram. The message names the series.
    """
    buckets, sums, counts = (page.samples.get(name, {}) for name in sample_names(metric)[1:])
    kind = page.types.get(metric)
    if metric in page.samples or kind in ("counter", "gauge", "summary"):
        raise HistogramError(
            f"{metric} is {'a ' + kind if kind else 'no histogram'}; name a histogram, without _bucket"
        )
    cumulative: dict[Labels, dict[float, float]] = {}
    for labels, value in buckets.items():
        series, bound = _le(labels)
        if bound in cumulative.setdefault(series, {}):
            raise HistogramError(f'{metric}{shown(series)} has the bucket le="{bound:g}" twice')
        cumulative[series][bound] = value
    lost = [
        series
        for series in (*cumulative, *sums, *counts)
        if not (series in cumulative and series in sums and series in counts)
    ]
    if lost:
        raise HistogramError(f"{metric}{shown(lost[0])} lacks its buckets, its _sum or its _count")
    known = {name for series in cumulative for name, _value in series}
    missing = {label for label, _operator, _value in selector.matchers} - known
    if cumulative and missing:
        raise HistogramError(
            f"no series of {metric} has the label {', '.join(sorted(missing))}; "
            f"its labels are {', '.join(sorted(known)) or 'none'}"
        )
    found: dict[Key, float] = {}
    for series, values in cumulative.items():
        if not selector.matches(dict(series)):
            continue
        place = f"{metric}{shown(series)}"
        own = _own_counts(values, place)
        if not (0 <= sums[series] <= MOST):
            raise HistogramError(f"{place} has the sum {sums[series]}, which no durations can have")
        if counts[series] != values[math.inf]:
            raise HistogramError(f'{place} has the count {counts[series]:g}, but {values[math.inf]:g} in le="+Inf"')
        found.update({(series, bound): value for bound, value in own.items()})
        found[series, None] = sums[series]
    return found


def _restarts_told(scrapes: Sequence[Scrape]) -> list[Scrape]:
    """Number the processes: a new one began where the start changed, or where any counter fell."""
    told: list[Scrape] = []
    process = 0
    for number, scrape in enumerate(scrapes):
        if number:
            before = scrapes[number - 1]
            other = scrape.started is not None and scrape.started != before.started
            fell = any(value < before.counters.get(key, 0.0) for key, value in scrape.counters.items())
            process += other or fell
        told.append(scrape._replace(started=float(process)))
    return told


def _buckets(series: Iterable[Key]) -> frozenset[float]:
    """Return the bounds that all series have; with others in some of them, no quantile could be taken of all."""
    bounds: dict[Labels, set[float]] = {}
    for labels, bound in series:
        if bound is not None:
            bounds.setdefault(labels, set()).add(bound)
    origin, *others = bounds
    for other in others:
        _agree(bounds[origin], bounds[other], f"{shown(origin)} and {shown(other)}")
    return frozenset(bounds[origin])


def _agree(one: Set[float], other: Set[float], what: str) -> None:
    if one != other:
        differ = ", ".join(f"{bound:g}" for bound in sorted(one ^ other))
        raise HistogramError(f"{what} do not have the same buckets, they differ in le={differ}; select those that do")


def summed(series: Mapping[Key, float]) -> Histogram:
    """Add series up to one histogram.

    Raises:
        HistogramError: they do not have the same buckets.
    """
    if not series:
        return Histogram()
    bounds = tuple(sorted(_buckets(series)))
    parts: dict[Optional[float], list[float]] = {bound: [] for bound in (*bounds, None)}
    for (_labels, bound), value in series.items():
        parts[bound].append(value)
    return Histogram(bounds, tuple(math.fsum(parts[bound]) for bound in bounds), math.fsum(parts[None]))


def grown(processes: Sequence[tuple[Sequence[Scrape], bool]]) -> Histogram:
    """Return what was observed over all scrapes: increases per series and process first, sums then.

    A histogram starts anew as a whole: where one of its counters fell, all of that process count from 0.

    Args:
        processes: of each endpoint its scrapes, with the counters of ``counters``, and whether the first one counts
            from 0 because the process began inside the window.

    Raises:
        HistogramError: the buckets are not the same everywhere and all the time.
    """
    seen = [_buckets(scrape.counters) for scrapes, _fresh in processes for scrape in scrapes if scrape.counters]
    for other in seen:
        _agree(seen[0], other, "the endpoints, or one before and after a restart,")
    total: dict[Key, float] = {}
    for scrapes, from_zero in processes:
        for key, value in increases(_restarts_told(scrapes), from_zero).items():
            total[key] = total.get(key, 0.0) + value
    return summed(total)


def name_of(fraction: float | None) -> str:
    """Return how a statistic is called: mean, p50, p99.9."""
    return "mean" if fraction is None else f"p{100 * fraction:.10g}"


def needed(fraction: float | None, min_requests: float) -> float:
    """Return how many requests a statistic needs: a quantile so many that one of them may lie beyond it."""
    return min_requests if fraction is None else max(min_requests, math.ceil(round(1 / (1 - fraction), 6)))


def _beyond_the_buckets(measured: Histogram, fraction: float, limit: float) -> tuple[str, str]:
    """Compare a quantile in the last bucket with a limit that lies in there too.

    Nothing is known of those requests but their sum, within bounds. It passes when not even all of that sum makes
    enough of them reach the limit (Markov's inequality), and fails when they reached it on average.
    """
    last = measured.bounds[-2]
    number, least, most = measured.beyond
    share = f"{100 * number / measured.requests:.3g} % took over {last:g} s"
    if (most - last * number) / (limit - last) < (1 - fraction) * measured.requests:
        return "pass", f"{share}, but by their sum too few of them {limit:g} s"
    if least >= limit * number:
        return "fail", f"{share}, {least / number:.3g} s on average at the least"
    return "inconclusive", f"{share}, and no bucket tells how many of them {limit:g} s"


def judge(measured: Histogram, fraction: float | None, limit: float, against: str, min_requests: float) -> Judgement:
    """Compare one statistic with a limit; one that reaches it is too high.

    Args:
        measured: of all series.
        fraction: of the quantile; None for the mean.
        limit: seconds.
        against: the limit in words.
        min_requests: below so many requests there is no verdict.
    """
    what = name_of(fraction)
    least = needed(fraction, min_requests)
    if measured.requests < max(least, 1):
        seen = f"{measured.requests:g} requests, and {what} needs {least:g}" if measured.requests else "no requests"
        return Judgement("inconclusive", what, limit, seen)
    found = Quantile(measured.mean or 0.0, False) if fraction is None else measured.quantile(fraction)
    if found is None:
        return Judgement("inconclusive", what, limit, "no requests")
    value = f"{what} {'at least ' if found.at_least else ''}{found.seconds:.3g} s"
    if found.at_least and found.seconds < limit and fraction is not None:
        verdict, why = _beyond_the_buckets(measured, fraction, limit)
        return Judgement(verdict, what, limit, f"{value}, limit {against}: {why}")
    verdict = "fail" if found.seconds >= limit else "pass"
    return Judgement(verdict, what, limit, f"{value} is {'not ' if verdict == 'fail' else ''}under {against}")


def slower_than(baseline: float, ratio: float, floor: float) -> tuple[float, str]:
    """Return the limit that a baseline sets, and its words: so many times the baseline, and never under the floor."""
    if ratio * baseline < floor:
        return floor, f"{floor:g} s, the least that counts against a baseline"
    return ratio * baseline, f"{ratio:g} times the baseline of {baseline:.3g} s"


def overall(judgements: Iterable[Judgement]) -> str:
    """Return what all mean together. None at all is inconclusive: nothing was judged."""
    verdicts = [judgement.verdict for judgement in judgements]
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts and set(verdicts) == {"pass"} else "inconclusive"
