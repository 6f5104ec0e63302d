from __future__ import annotations

import math
import random

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


def test_fresh_needs_a_clock_that_agrees():
    assert er.is_fresh(100.0, 130.0, 60)
    assert not er.is_fresh(100.0, 200.0, 60)
    assert not er.is_fresh(100.0, 90.0, 60)
    assert not er.is_fresh(None, 90.0, 60)


def test_bad_values():
    assert er.bad_values({"a": 1, "b": -1, "c": math.nan, "d": math.inf}) == ["b", "c", "d"]


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


@settings(deadline=None)
@given(st.floats(0.1, 1e4), st.floats(0, 1e4), st.integers(3, 30), st.floats(0.5, 0.9999))
def test_the_planned_looks_spend_no_more_than_the_error(window, more, looks, confidence):
    plan = er.look_plan(window, window + more, looks)
    assert len(plan) == looks
    assert plan == sorted(plan) and plan[0] == 0 and plan[-1] == window + more
    spent = sum(1 - er.look_confidence(look, looks, confidence) for look in range(looks))
    assert spent == pytest.approx(1 - confidence)


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


def test_a_system_at_the_threshold_is_rarely_called_good_or_bad():
    """At exactly 5 % both verdicts are wrong. Looking five times must not make more than 5 % of them."""
    rng = random.Random(20250115)
    wrong = 0
    for _ in range(600):
        bad = total = 0
        for look in range(er.LOOKS):
            for _ in range(60):
                total += 1
                bad += rng.random() < 0.05
            confidence = er.look_confidence(look, er.LOOKS)
            if er.decide(er.Rate(bad, total), 0.05, 20, confidence).verdict != "inconclusive":
                wrong += 1
                break
    assert wrong <= 0.05 * 600
