from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate, pairwise

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _histogram as hg
from hypothesis import given
from hypothesis import strategies as st

NAME = "sparklio_http_request_duration_seconds"
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
ALL = ex.parse_selector("")
seconds = st.floats(0, 60, allow_nan=False)


def le(bound):
    return "+Inf" if bound == math.inf else f"{bound:g}"


def text(observed, bounds=BOUNDS, **labels):
    """What prometheus_client would write of observed seconds."""
    own = [0] * len(bounds)
    for value in observed:
        own[bisect_left(bounds, value)] += 1
    named = "".join(f'{name}="{value}",' for name, value in labels.items())
    lines = [
        f'{NAME}_bucket{{{named}le="{le(bound)}"}} {reached}'
        for bound, reached in zip(bounds, accumulate(own), strict=True)
    ]
    return "\n".join([*lines, f"{NAME}_sum{{{named}}} {math.fsum(observed)!r}", f"{NAME}_count{{{named}}} {sum(own)}"])


def page(*parts, kind="histogram"):
    lines = [f"# TYPE {NAME} {kind}", *parts, ""]
    return ex.read(["\n".join(lines).encode()], hg.sample_names(NAME))


def counters(*parts, selector="", **options):
    return hg.counters(page(*parts, **options), NAME, ex.parse_selector(selector))


def of(observed, bounds=BOUNDS):
    return hg.summed(hg.counters(page(text(observed, bounds)), NAME, ALL))


def test_mean_and_quantiles_of_a_page():
    found = of([0.02] * 50 + [0.3] * 45 + [20.0] * 5)
    assert found.requests == 100
    assert found.mean == pytest.approx(1.145)
    assert found.quantile(0.5) == hg.Quantile(0.025, False)
    assert found.quantile(0.95) == hg.Quantile(0.5, False)
    assert found.quantile(0.99) == hg.Quantile(10.0, True)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    # Worked out by hand: 10 up to 0.1 s, 30 up to 0.5 s, 40 up to 1 s, 50 in all.
    [(0.1, 0.05), (0.2, 0.1), (0.5, 0.4), (0.7, 0.75), (0.8, 1.0), (0.81, 1.0)],
)
def test_interpolation_is_that_of_prometheus(fraction, expected):
    found = hg.quantile({0.1: 10, 0.5: 30, 1.0: 40, math.inf: 50}, fraction)
    assert found.seconds == pytest.approx(expected)
    assert found.at_least == (fraction > 0.8)


def test_a_first_bucket_below_zero_is_its_bound():
    assert hg.quantile({-1.0: 5, math.inf: 5}, 0.5) == hg.Quantile(-1.0, False)


def test_nothing_observed():
    for found in (of([]), hg.Histogram()):
        assert (found.requests, found.mean, found.quantile(0.5)) == (0, None, None)
    assert hg.quantile({}, 0.5) is None


@given(st.lists(seconds, min_size=1, max_size=80), st.floats(0.01, 0.999))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(observed, fraction):
    rank = fraction * len(observed)
    exact = sorted(observed)[max(0, math.ceil(rank) - 1)]
    number = bisect_left(BOUNDS, exact)
    lower = BOUNDS[number - 1] if number else 0.0
    found = of(observed).quantile(fraction)
    assert found.at_least == (exact > 10)
    assert lower <= found.seconds <= min(BOUNDS[number], 10.0) + 1e-9


@given(st.lists(seconds, min_size=1, max_size=40))
def test_quantiles_never_fall(observed):
    measured = of(observed)
    found = [measured.quantile(step / 20).seconds for step in range(1, 20)]
    assert all(high >= low - 1e-9 for low, high in pairwise(found))


@given(st.lists(seconds, min_size=1, max_size=40))
def test_what_lies_in_the_last_bucket_is_within_its_bounds(observed):
    number, least, most = of(observed).beyond
    slow = [value for value in observed if value > 10]
    assert number == len(slow)
    assert least - 1e-6 <= math.fsum(slow) <= most + 1e-6


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), seconds), max_size=6), min_size=1, max_size=6),
    st.sets(st.integers(1, 5)),
)
def test_restarts_lose_nothing_that_was_read(steps, restarts):
    """Each step is what one reading finds more than the one before; a process that began anew begins at 0."""
    scrapes, every, held, started = [], [], {}, 0
    for number, step in enumerate(steps):
        if number in restarts:
            held, started = {}, started + 1
        for series, value in step:
            held.setdefault(series, []).append(value)
            every.append(value)
        found = counters(*(text(observed, s=series) for series, observed in held.items()))
        scrapes.append(er.Scrape(number, found, float(started)))
    found = hg.grown([(scrapes, True)])
    assert found.requests == len(every)
    assert found.seconds == pytest.approx(math.fsum(every), abs=1e-6)
    if every:
        assert found.counts == of(every).counts


def test_one_bucket_that_fell_restarts_all_of_the_process():
    """The larger bucket has overtaken its former value, and its own increase would be too small."""
    before = er.Scrape(0, counters(text([0.02] * 10 + [3.0])))
    after = er.Scrape(1, counters(text([0.02] * 2 + [3.0] * 8)))
    found = hg.grown([([before, after], False)])
    assert (found.requests, found.seconds) == (10, pytest.approx(24.04))


def test_the_first_reading_is_the_origin_unless_the_process_is_fresh():
    scrapes = [er.Scrape(0, counters(text([1.0]))), er.Scrape(1, counters(text([1.0, 2.0])))]
    assert hg.grown([(scrapes, False)]).requests == 1
    assert hg.grown([(scrapes, True)]).requests == 2


def test_endpoints_are_summed_after_their_own_increase():
    one = [er.Scrape(0, counters(text([1.0] * 5))), er.Scrape(1, counters(text([1.0] * 7)))]
    two = [er.Scrape(0, counters(text([3.0] * 9))), er.Scrape(1, counters(text([3.0])))]
    found = hg.grown([(one, False), (two, False)])
    assert (found.requests, found.seconds) == (3, 5.0)


def test_series_are_selected():
    found = counters(text([1.0], endpoint="/a"), text([2.0, 3.0], endpoint="/health"), selector='endpoint!="/health"')
    assert hg.summed(found).seconds == 1.0


def test_the_same_bound_written_otherwise_is_the_same_bucket():
    one, two = text([0.4], (0.5, 1.0, math.inf), s="a"), text([0.4], (0.5, 1.0, math.inf), s="b")
    assert hg.summed(counters(one, two.replace('"1"', '"1.0"'))).requests == 2


GOOD = text([0.02, 0.3, 20.0])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD.replace(f'{NAME}_bucket{{le="+Inf"}} 3\n', ""), 'has no bucket le="+Inf"'),
        (GOOD.replace('le="10"} 2', 'le="10"} 1'), 'has 1 in le="10", fewer than the 2 before it'),
        (GOOD.replace("_count{} 3", "_count{} 4"), 'has the count 4, but 3 in le="+Inf"'),
        (GOOD.replace("_count{} 3", "_count{} NaN"), "has the count nan"),
        (GOOD.replace('le="5"} 2', 'le="5"} NaN'), "the value nan, which no bucket can have"),
        (GOOD.replace('le="+Inf"} 3', 'le="+Inf"} +Inf'), "the value inf, which no bucket can have"),
        (GOOD.replace('le="+Inf"} 3', 'le="+Inf"} 1e300'), "which no bucket can have"),
        (GOOD.replace('le="0.01"} 0', 'le="0.01"} -1'), "the value -1"),
        (GOOD.replace("_sum{} 20.32", "_sum{} NaN"), "the sum nan"),
        (GOOD.replace("_sum{} 20.32", "_sum{} -20"), "the sum -20"),
        (GOOD.replace(f"\n{NAME}_sum{{}} 20.32", ""), "lacks its buckets, its _sum or its _count"),
        (GOOD.replace('le="5"', 'le="five"'), "'five' is not a number"),
        (GOOD.replace('le="5"', 'le="nan"'), "the bound nan"),
        (GOOD.replace('le="5"', 'le="10.0"'), 'has the bucket le="10" twice'),
        (GOOD.replace('le="5"', 'ge="5"'), "a bucket has no label le"),
        (text([1.0], (math.inf,)), 'no bucket but le="+Inf"'),
        (f"{NAME} 3", "name a histogram"),
    ],
)
def test_what_is_no_whole_histogram(lines, message):
    with pytest.raises(hg.HistogramError, match=message.replace("+", r"\+")):
        counters(lines)


def test_another_kind_of_metric():
    with pytest.raises(hg.HistogramError, match="is a summary; name a histogram"):
        counters(kind="summary")


def test_a_label_that_no_series_has():
    with pytest.raises(hg.HistogramError, match="has the label path; its labels are endpoint"):
        counters(text([1.0], endpoint="/a"), selector='path="/a"')
    assert counters(selector='path="/a"') == {}


def test_different_buckets_can_not_be_summed():
    with pytest.raises(
        hg.HistogramError, match=r'{s="a"} and {s="b"} do not have the same buckets, they differ in le=5; sel'
    ):
        hg.summed(counters(text([1.0], s="a"), text([1.0], tuple(b for b in BOUNDS if b != 5), s="b")))
    # The larger set holds all bounds of the smaller one: only reading by reading can it be told.
    changed = [er.Scrape(0, counters(text([1.0])), 1.0), er.Scrape(1, counters(text([1.0], (1.0, math.inf))), 2.0)]
    with pytest.raises(hg.HistogramError, match="before and after a restart, do not have"):
        hg.grown([(changed, False)])


def judged(observed, fraction, limit, min_requests=20):
    found = hg.judge(of(observed), fraction, limit, f"{limit:g} s", min_requests)
    return found.verdict, found.reason


@pytest.mark.parametrize(
    ("observed", "fraction", "limit", "verdict", "reason"),
    [
        ([0.2] * 100, None, 3.0, "pass", "mean 0.2 s is under 3 s"),
        ([4.0] * 100, None, 3.0, "fail", "mean 4 s is not under 3 s"),
        ([0.2] * 100, 0.95, 30.0, "pass", "p95 0.242 s is under 30 s"),
        ([0.2] * 90 + [20.0] * 10, 0.95, 5.0, "fail", "p95 at least 10 s is not under 5 s"),
        ([0.2] * 90 + [20.0] * 10, 0.95, 10.0, "fail", "p95 at least 10 s is not under 10 s"),
        # 7 s beyond the bound in all: at most one request can have taken 30 s.
        ([0.005] * 90 + [10.7] * 10, 0.95, 30.0, "pass", "10 % took over 10 s, but by their sum too few of them 30 s"),
        ([0.2] * 40 + [45.0] * 60, 0.95, 30.0, "fail", "60 % took over 10 s, 45 s on average at the least"),
        ([0.2] * 40 + [25.0] * 60, 0.95, 30.0, "inconclusive", "and no bucket tells how many of them 30 s"),
        # Seven of them can have taken 30 s, and five would be enough.
        ([0.005] * 90 + [24.0] * 10, 0.95, 30.0, "inconclusive", "10 % took over 10 s"),
        # 30 s on average only where the faster ones were as fast as their bucket allows.
        ([0.26] * 40 + [30.05] * 60, 0.95, 30.0, "inconclusive", "60 % took over 10 s"),
        ([], 0.95, 30.0, "inconclusive", "no requests"),
        ([0.2] * 19, None, 3.0, "inconclusive", "19 requests, and mean needs 20"),
        ([0.2] * 99, 0.99, 3.0, "inconclusive", "99 requests, and p99 needs 100"),
        ([0.2] * 100, 0.99, 3.0, "pass", "p99 0.248 s"),
    ],
)
def test_judging_one_statistic(observed, fraction, limit, verdict, reason):
    found = judged(observed, fraction, limit)
    assert found[0] == verdict
    assert reason in found[1]


@given(
    st.lists(st.sampled_from([0.1, 9.0, 11.0, 29.0, 31.0, 300.0]), min_size=20, max_size=60),
    st.sampled_from([0.5, 0.9, 0.95]),
)
def test_a_limit_beyond_the_buckets_never_passes_what_is_over_it(observed, fraction):
    exact = sorted(observed)[math.ceil(round(fraction * len(observed), 6)) - 1]
    if judged(observed, fraction, 30.0)[0] == "pass":
        assert exact < 30


def test_an_exactly_known_quantile_needs_a_request_beyond_it():
    assert [hg.needed(fraction, 20) for fraction in (None, 0.5, 0.95, 0.99, 0.999)] == [20, 20, 20, 100, 1000]


def test_a_baseline_is_a_limit_with_a_floor():
    assert hg.slower_than(0.4, 2, 0.5) == (0.8, "2 times the baseline of 0.4 s")
    assert hg.slower_than(0.01, 2, 0.5) == (0.5, "0.5 s, the least that counts against a baseline")


def test_the_worst_judgement_counts_and_none_is_no_pass():
    def judgements(*verdicts):
        return [hg.Judgement(verdict, "mean", 1.0, "") for verdict in verdicts]

    assert hg.overall([]) == "inconclusive"
    assert hg.overall(judgements("pass", "pass")) == "pass"
    assert hg.overall(judgements("pass", "inconclusive")) == "inconclusive"
    assert hg.overall(judgements("inconclusive", "fail", "pass")) == "fail"
