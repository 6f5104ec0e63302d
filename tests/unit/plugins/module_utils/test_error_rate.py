from __future__ import annotations

import math

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _error_rate as er
from hypothesis import given, settings
from hypothesis import strategies as st


def scrapes(*counters, started=None):
    started = started or [None] * len(counters)
    pairs = zip(counters, started, strict=True)
    return [er.Scrape(float(at), values, began) for at, (values, began) in enumerate(pairs)]


def test_increases_of_a_plain_window_leave_the_origin_out():
    assert er.increases(scrapes({"a": 10}, {"a": 15}, {"a": 17})) == {"a": 7}


def test_a_fresh_process_counts_from_zero():
    assert er.increases(scrapes({"a": 10}, {"a": 15}), from_zero=True) == {"a": 15}


def test_a_decrease_is_a_restart_and_counts_the_new_value():
    assert er.increases(scrapes({"a": 10}, {"a": 14}, {"a": 3}, {"a": 5})) == {"a": 4 + 3 + 2}


def test_a_restart_that_has_overtaken_the_former_value_is_seen_by_the_start_time():
    found = er.increases(scrapes({"a": 10, "b": 2}, {"a": 12, "b": 1}, started=[100.0, 200.0]))
    assert found == {"a": 12, "b": 1}


def test_a_new_series_counts_from_zero_and_a_vanished_one_keeps_what_it_had():
    assert er.increases(scrapes({"a": 10}, {"a": 12, "b": 4}, {"b": 6}, {"a": 13, "b": 6})) == {"a": 3, "b": 6}


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=12), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_increases_find_every_request_that_a_scrape_could_see(lives, rng):
    """A process lives several times; each life serves requests and is scraped at least at its end."""
    truth: dict[str, int] = {}
    history: list[er.Scrape] = []
    for life, requests in enumerate(lives):
        counters: dict[str, int] = {}
        for series, count in requests:
            counters[series] = counters.get(series, 0) + count
            truth[series] = truth.get(series, 0) + count
            if rng.random() < 0.4:
                history.append(er.Scrape(0, dict(counters), float(life)))
        history.append(er.Scrape(0, dict(counters), float(life)))
    assert er.increases(history, from_zero=True) == truth


def test_restart_and_two_processes_are_told_apart():
    restart = scrapes({}, {}, {}, started=[1.0, 2.0, 2.0])
    assert er.restarts(restart) == 1
    assert not er.several_processes([1.0, 2.0, 2.0])
    assert er.several_processes([1.0, 2.0, 1.0])
    assert not er.several_processes([1.0, None, 1.0, None])
    assert not er.settled(restart)
    assert er.settled(scrapes({}, {}, {}, {}, started=[1.0, 2.0, 2.0, 2.0]))
    assert er.settled(scrapes({}, started=[1.0]))
    assert not er.several_processes([None, None, None])


def test_without_start_times_counters_that_fall_again_and_again_are_several_processes():
    turns = scrapes({"a": 900}, {"a": 100}, {"a": 901}, {"a": 102})
    assert (er.mixed(turns), er.restarts(turns)) == (True, 2)
    restart = scrapes({"a": 900}, {"a": 100}, {"a": 120}, {"a": 130})
    assert (er.mixed(restart), er.restarts(restart), er.settled(restart)) == (False, 1, True)
    assert not er.settled(scrapes({"a": 900}, {"a": 901}, {"a": 100}))
    long_lives = [*({"a": value} for value in range(1, 15)), *({"a": value} for value in range(15))]
    assert not er.mixed(scrapes(*long_lives, {"a": 0}))


def test_counters_that_fall_in_one_and_the_same_process_are_several_that_began_together():
    assert er.mixed(scrapes({"a": 900}, {"a": 100}, started=[5.0, 5.0]))
    assert not er.mixed(scrapes({"a": 900}, {"a": 100}, started=[5.0, 6.0]))
    assert er.mixed(scrapes({}, {}, {}, started=[5.0, 6.0, 5.0]))


def born(*readings, started=None):
    return [er.Scrape(0.0, {"a": value}, started, {"a": created}) for value, created in readings]


def test_workers_that_began_in_the_same_tick_are_told_by_when_their_counters_began():
    """As uvicorn's do. Where the one that is met second has counted more, nothing falls."""
    assert er.mixed(born((10, 1.1), (15, 1.2), started=5.0))
    assert not er.mixed(born((10, 1.1), (15, 1.1), started=5.0))
    assert er.mixed(born((10, 1.1), (15, 1.2), (16, 1.1)))
    restart = born((10, 1.1), (15, 1.2), (16, 1.2))
    assert (er.mixed(restart), er.restarts(restart), er.increases(restart)) == (False, 1, {"a": 16})
    known = [*born((10, 1.1), started=5.0), *born((15, 9.1), (16, 9.1), started=9.0)]
    assert (er.mixed(known), er.restarts(known), er.increases(known)) == (False, 1, {"a": 16})
    once_without = [*born((10, 1.1), started=5.0), er.Scrape(0.0, {}, 5.0), *born((15, 1.2), started=5.0)]
    assert er.mixed(once_without)


def test_a_start_time_that_is_missing_once_is_no_restart():
    found = scrapes({"a": 900}, {"a": 901}, {"a": 903}, started=[5.0, None, 5.0])
    assert (er.increases(found), er.restarts(found)) == ({"a": 3}, 0)


def test_fresh_needs_a_clock_that_agrees():
    assert er.is_fresh(100.0, 130.0, 60)
    assert not er.is_fresh(100.0, 200.0, 60)
    assert not er.is_fresh(100.0, 90.0, 60)
    assert not er.is_fresh(None, 90.0, 60)


def test_bad_values():
    assert er.bad_values({"a": 1, "b": -1, "c": math.nan, "d": math.inf, "e": 1e308, "f": 2.0**53}) == [
        "b", "c", "d", "e",
    ]  # fmt: skip


def test_rate_sums_per_series():
    assert er.rate({"a": 3, "b": 1}, ["b", "c"]) == er.Rate(1, 4)
    assert er.Rate(1, 4).fraction == 0.25
    assert er.Rate(0, 0).fraction is None


# Wilson's interval at 95 %, as in Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("bad", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_values(bad, total, low, high):
    assert er.wilson(bad, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**6), st.floats(0.5, 0.999999))
def test_wilson_holds_the_rate_and_stays_in_bounds(bad, good, confidence):
    low, high = er.wilson(bad, bad + good, confidence)
    assert 0 <= low <= bad / (bad + good) + 1e-12
    assert bad / (bad + good) - 1e-12 <= high <= 1


def test_wilson_without_requests_knows_nothing():
    assert er.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("bad", "total", "verdict", "reason"),
    [
        (0, 0, "inconclusive", "no traffic"),
        (10, 10, "inconclusive", "fewer than the 20"),
        (0, 500, "pass", "under"),
        (80, 500, "fail", "over"),
        (25, 500, "inconclusive", "too few"),
        (1, 20, "inconclusive", "too few"),
    ],
)
def test_decisions(bad, total, verdict, reason):
    found = er.decide(er.Rate(bad, total), 0.05, 20, 0.95)
    assert found.verdict == verdict
    assert reason in found.reason


def judged(increments, threshold, error):
    """The limits of each look; they do not depend on how many were bad."""
    looks = er.Looks(threshold, len(increments), error=error, confidence=0.5)
    total, limits = 0, []
    for number, more in enumerate(increments, 1):
        total += more
        found = looks.judge(er.Rate(threshold * total, total), number)
        limits.append((found.pass_at_most, found.fail_from))
    return limits


def chances(increments, limits, rate):
    """The chances to pass and to fail ever, worked out plainly from what the looks would decide."""
    open_paths, passed, failed = {0: 1.0}, 0.0, 0.0
    for more, (passes, fails) in zip(increments, limits, strict=True):
        following = {}
        for before, chance in open_paths.items():
            for hits in range(more + 1):
                step = math.comb(more, hits) * rate**hits * (1 - rate) ** (more - hits)
                following[before + hits] = following.get(before + hits, 0.0) + chance * step
        open_paths = {}
        for bad, chance in following.items():
            if passes is not None and bad <= passes:
                passed += chance
            elif fails is not None and bad >= fails:
                failed += chance
            else:
                open_paths[bad] = chance
    return passed, failed


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.05, 0.2, 0.5, 0.9]),
    st.sampled_from([0.01, 0.05, 0.3]),
)
def test_the_chance_of_a_wrong_verdict_is_bounded_over_all_looks(increments, threshold, error):
    saved, er.GROWTH = er.GROWTH, 1.0
    try:
        limits = judged(increments, threshold, error)
    finally:
        er.GROWTH = saved
    for rate in (threshold, min(1.0, 1.2 * threshold)):
        assert chances(increments, limits, rate)[0] <= error + 1e-9
    for rate in (threshold, 0.8 * threshold):
        assert chances(increments, limits, rate)[1] <= error + 1e-9


def test_the_looks_spend_the_error_and_do_not_waste_it():
    increments = [40] * 10
    passed, failed = chances(increments, judged(increments, 0.05, 0.01), 0.05)
    assert 0.006 < passed <= 0.01 and 0.006 < failed <= 0.01
    assert chances(increments, judged(increments, 0.05, 0.01), 0.25)[1] > 0.999


def test_no_bad_requests_pass_where_the_binomial_says_so():
    """0.95 ** 90 is just under 1 %."""
    found = [er.Looks(0.05, 10).judge(er.Rate(0, total), 10).verdict for total in (89, 90)]
    assert found == ["inconclusive", "pass"]
    early = [er.Looks(0.05, 10).judge(er.Rate(0, total), 0).verdict for total in (121, 122)]
    assert early == ["inconclusive", "pass"]  # 0.95 ** 122 is just under a fifth of it


def test_a_look_that_would_tell_little_is_left_out_but_not_the_last():
    looks = er.Looks(0.05, 10)
    first = looks.judge(er.Rate(8, 100), 1)
    assert looks.judge(er.Rate(0, 105), 2) == first
    assert looks.judge(er.Rate(0, 105), 10).verdict == "pass"


def test_counts_that_begin_anew_are_judged_with_what_is_left_of_the_error():
    looks = er.Looks(0.05, 10)
    assert looks.judge(er.Rate(60, 1000), 5).verdict == "inconclusive"
    found = looks.judge(er.Rate(0, 90), 10)
    assert (found.verdict, found.pass_at_most) == ("inconclusive", None)
    assert looks.judge(er.Rate(0, 200), 10).verdict == "pass"


def test_many_requests_are_judged_at_once():
    looks = er.Looks(0.05, 20)
    for total in range(50_000, 1_000_001, 50_000):
        assert looks.judge(er.Rate(total // 20, total), total / 50_000).verdict == "inconclusive"
    assert er.Looks(0.05, 60).judge(er.Rate(4_990_000, 100_000_000), 0).verdict == "pass"


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.0}, {"error": 0.0}, {"error": 0.5}])
def test_looks_that_make_no_sense(options):
    with pytest.raises(ValueError):
        er.Looks(**{"threshold": 0.05, "horizon": 1.0, **options})
