from __future__ import annotations

import json
from unittest.mock import ANY

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _watch as w
from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import parse_selector
from ansible_collections.sparklio.rollback.plugins.module_utils._histogram import Histogram
from ansible_collections.sparklio.rollback.plugins.module_utils._load import Cpu
from hypothesis import given
from hypothesis import strategies as st

URL = "http://app/metrics"
BAD = parse_selector('status_code=~"5.."')
FAILED = parse_selector('status=~"error|timeout"')
LIMITS = w.Limits()
RULES = w.Rules(duration=300, window=30, recovered_after=3)
STATES = st.sampled_from(["good", "bad", "inconclusive", "error"])
INF = float("inf")


def head():
    return {"began": 1000.0, "release": {"commit": "a" * 40, "tag": "v4.0.20250115-1430"}, "baseline": None}


class Backend:
    """A process under traffic, of which readings are taken at chosen times."""

    def __init__(self):
        self.started, self.counters, self.now = 500.0, {}, 1000.0

    def serve(self, ok=0, failed=0, runs=0, failed_runs=0, seconds=0.1):
        for key, number in (("200", ok), ("500", failed), ("success", runs), ("error", failed_runs)):
            self.counters[key] = self.counters.get(key, 0.0) + number
        bound = "0.5" if seconds <= 0.5 else "10" if seconds <= 10 else "+Inf"
        self.counters[bound] = self.counters.get(bound, 0.0) + ok + failed
        self.counters["sum"] = self.counters.get("sum", 0.0) + (ok + failed) * seconds

    def restart(self):
        self.started, self.counters = self.now, {}

    def reading(self, after=30.0, cpu=None, memory=40.0, mono=None):
        self.now += after
        got = self.counters.get
        codes = {(("status_code", code),): got(code) for code in ("200", "500") if code in self.counters}
        runs = {(("status", name),): got(name) for name in ("success", "error") if name in self.counters}
        latency = {}
        if "sum" in self.counters:
            bounds = {0.5: got("0.5", 0.0), 10.0: got("10", 0.0), INF: got("+Inf", 0.0), None: got("sum")}
            latency = {((), bound): value for bound, value in bounds.items()}
        process = w.Process(self.started, codes, runs, latency)
        return w.Reading(w.Instant(self.now, self.now - 400 if mono is None else mono), {URL: process}, cpu, memory)


def observe(watch, reading, limits=LIMITS, baseline=None):
    return watch.observe(reading, limits, BAD, FAILED, baseline)


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def watch(backend):
    found = w.Watch(head(), RULES)
    assert observe(found, backend.reading(0)) is None
    return found


def test_a_window_holds_what_grew_since_the_last_reading(backend, watch):
    backend.serve(ok=970, failed=30, runs=9, failed_runs=1)
    window = observe(watch, backend.reading())
    assert (window["requests"], window["error_rate_percent"], window["agent_failure_percent"]) == (1000, 3.0, 10.0)
    assert (window["mean_seconds"], window["t"], window["gap"], window["state"]) == (0.1, 30.0, False, "good")
    assert window["requests_per_second"] == pytest.approx(33.3333)


@pytest.mark.parametrize(
    ("traffic", "series"),
    [
        ({"ok": 80, "failed": 20}, "errors"),
        ({"ok": 100, "runs": 10, "failed_runs": 10}, "agents"),
        ({"ok": 100, "seconds": 4.0}, "mean"),
        ({"ok": 100, "seconds": 40.0}, "p95"),
    ],
)
def test_each_limit_makes_a_window_bad(backend, watch, traffic, series):
    backend.serve(**traffic)
    window = observe(watch, backend.reading())
    assert window["state"] == "bad"
    assert series in [breach["series"] for breach in window["breaches"]]


@pytest.mark.parametrize(
    "traffic",
    [{"ok": 94, "failed": 6}, {"ok": 97, "failed": 3}, {"ok": 500, "runs": 7, "failed_runs": 3}, {"ok": 10}, {}],
)
def test_what_is_on_neither_side_of_a_limit_is_neither_good_nor_bad(backend, watch, traffic):
    backend.serve(**traffic)
    window = observe(watch, backend.reading())
    assert window["state"] == "inconclusive"
    assert window["undecided"]
    assert watch.tally() == w.Tally(windows=1, inconclusive=1)


def test_agent_runs_too_few_for_a_proof_do_not_stand_in_the_way(backend, watch):
    backend.serve(ok=200, runs=8, failed_runs=1)
    assert observe(watch, backend.reading())["state"] == "good"


def test_a_limit_that_is_none_is_not_judged(backend, watch):
    backend.serve(ok=50, failed=50, seconds=60, runs=1, failed_runs=20)
    off = w.Limits(None, None, None, None, None, 0.5, None, None)
    assert observe(watch, backend.reading(memory=99), off)["state"] == "good"


def test_load_is_judged_from_the_time_that_was_used_in_the_window(backend):
    watch = w.Watch(head(), RULES)
    observe(watch, backend.reading(0, cpu=Cpu(1000.0, 5000.0)))
    window = observe(watch, backend.reading(cpu=Cpu(1095.0, 5100.0)))
    assert (window["cpu_percent"], window["state"], window["breaches"][0]["series"]) == (95.0, "bad", "cpu")
    after_a_reboot = observe(watch, backend.reading(cpu=Cpu(5.0, 50.0), memory=91.0))
    assert after_a_reboot["cpu_percent"] is None
    assert [breach["series"] for breach in after_a_reboot["breaches"]] == ["memory"]


def test_slower_than_the_baseline_counts_only_above_the_floor_and_not_while_warming_up(backend, watch):
    backend.serve(ok=100, seconds=0.4)
    assert observe(watch, backend.reading(), baseline=0.1)["state"] == "good"
    backend.serve(ok=100, seconds=0.9)
    assert observe(watch, backend.reading(), baseline=0.5)["state"] == "good"
    backend.serve(ok=100, seconds=0.9)
    window = observe(watch, backend.reading(), baseline=0.4)
    assert window["state"] == "bad"
    assert "2 times the baseline of 0.4 s" in window["breaches"][0]["evidence"]
    backend.restart()
    backend.serve(ok=100, seconds=0.9)
    assert observe(watch, backend.reading(), baseline=0.4)["state"] == "good"


def test_windows_with_few_requests_are_judged_together(backend, watch):
    states = []
    for _number in range(4):
        backend.serve(ok=2, failed=5)
        states.append(observe(watch, backend.reading())["state"])
    assert states == ["inconclusive", "inconclusive", "bad", "inconclusive"]


@pytest.mark.parametrize(("failed", "states"), [(8, "iibiibiib"), (1, "igigigigi"), (3, "iiiigiiii"), (0, "ggggggggg")])
def test_a_rate_near_its_limit_is_decided_by_what_follows(backend, watch, failed, states):
    found = ""
    for _number in range(9):
        backend.serve(ok=100 - failed, failed=failed)
        found += observe(watch, backend.reading())["state"][0]
    assert found == states


def test_agent_runs_add_up_until_there_are_enough_though_requests_are(backend, watch):
    states = []
    for _number in range(3):
        backend.serve(ok=100, failed_runs=2)
        states.append(observe(watch, backend.reading())["state"])
    assert states == ["good", "good", "bad"]


def test_latency_is_judged_as_soon_as_there_is_enough_though_the_error_rate_is_not(backend, watch):
    backend.serve(ok=45, failed=5, seconds=4.0)
    assert [breach["series"] for breach in observe(watch, backend.reading())["breaches"]] == ["mean"]
    backend.serve(ok=45, failed=5)
    window = observe(watch, backend.reading())
    assert (window["state"], window["breaches"]) == ("bad", [{"series": "errors", "evidence": ANY}])


def test_a_restart_is_counted_and_does_not_lose_the_new_process(backend, watch):
    backend.serve(ok=1000)
    observe(watch, backend.reading())
    backend.restart()
    backend.serve(ok=1500, failed=2)
    window = observe(watch, backend.reading())
    assert (window["requests"], window["restarts"]) == (1502, 1)


def test_two_processes_behind_one_port_are_found_over_the_windows(backend, watch):
    found = []
    for started in (500.0, 700.0, 500.0):
        backend.started = started
        observe(watch, backend.reading())
        found.append(watch.mixed)
        watch = w.decode(watch.encode(), RULES)
    assert found == [False, False, True]


def test_two_processes_that_began_together_are_told_by_their_counters(backend, watch):
    backend.serve(ok=100)
    observe(watch, backend.reading())
    assert not watch.mixed
    backend.counters["200"] -= 60
    watch = w.decode(watch.encode(), RULES)
    observe(watch, backend.reading())
    assert watch.mixed


def test_and_by_when_these_began(backend, watch):
    backend.serve(ok=100)
    first, second = backend.reading(), backend.reading()
    series = (("status_code", "200"),)
    for reading, created in ((first, 500.1), (second, 500.2)):
        process = reading.processes[URL]._replace(created={series: created})
        observe(watch, reading._replace(processes={URL: process}))
        watch = w.decode(watch.encode(), RULES) if created == 500.1 else watch
    assert watch.mixed


def test_other_buckets_leave_one_window_without_a_latency(watch, backend):
    reading = backend.reading()
    other = w.Process(500.0, {}, {}, {((), 1.0): 5.0, ((), INF): 0.0, ((), None): 2.0})
    observe(
        watch,
        reading._replace(processes={URL: w.Process(500.0, {}, {}, {((), 2.0): 5.0, ((), INF): 0.0, ((), None): 1.0})}),
    )
    window = observe(watch, reading._replace(instant=w.Instant(1090.0, 690.0), processes={URL: other}))
    assert window["mean_seconds"] is None


def test_the_increase_across_a_gap_is_shown_but_never_good_and_its_time_does_not_count(backend, watch):
    backend.serve(ok=100)
    observe(watch, backend.reading())
    backend.serve(ok=5000)
    window = observe(watch, backend.reading(after=600))
    assert (window["gap"], window["state"], window["requests"], window["t"]) == (True, "inconclusive", 5000, 630.0)
    assert watch.watched == 30.0
    backend.serve(ok=500, failed=500)
    assert observe(watch, backend.reading(after=600))["state"] == "bad"


def test_a_clock_that_jumps_changes_nothing_but_a_reboot_falls_back_on_it(backend, watch):
    backend.now += 86400
    assert observe(watch, backend.reading(mono=630.0))["seconds"] == 30.0
    backend.now -= 3 * 86400
    assert observe(watch, backend.reading(mono=660.0))["seconds"] == 30.0
    assert observe(watch, backend.reading(after=45, mono=3.0))["seconds"] == 45.0


def test_a_reading_that_failed_is_an_error_and_the_next_one_counts_what_grew_meanwhile(backend, watch):
    backend.serve(ok=40)
    window = watch.miss(w.Instant(1030.0, 630.0), "connection refused")
    assert (window["state"], window["t"], window["gap"]) == ("error", 30.0, False)
    backend.now = 1030.0
    backend.serve(ok=60)
    after = observe(watch, backend.reading())
    assert (after["requests"], after["seconds"], after["requests_per_second"]) == (100, 30.0, pytest.approx(1.6667))


def play(states, rules):
    watch = w.Watch(head(), rules)
    watch.attempt = w.Instant(1000.0, 600.0)
    for number, state in enumerate(states, 1):
        breaches = [{"series": "x", "evidence": state}] if state in ("bad", "error") else []
        watch._window(w.Instant(1000.0 + 30 * number, 600.0 + 30 * number), state, breaches)
        if watch.verdict():
            break
    return watch


@pytest.mark.parametrize(
    ("states", "outcome", "windows", "said"),
    [
        ("gggggggggg", "good", 10, "10 of 10 windows were good"),
        ("bbgggggggg", "good", 10, "2 bad"),
        ("gggggggbbb", "breached", 10, "3 bad windows in a row (limit 3)"),
        ("bibibggggg", "breached", 5, "3 bad windows in a row (limit 3)"),
        ("bebebggggg", "breached", 5, "3 bad windows in a row (limit 3)"),
        ("bgbgbgbggg", "breached", 7, "4 bad windows in all (limit 4)"),
        ("gggggggggb", "inconclusive", 10, "no row of 3 good windows lasted to the end"),
        ("iiiiiiiiii", "inconclusive", 10, "there was too little traffic for a verdict: 0 of 10 windows were good"),
        ("ggggeeeegg", "error", 8, "4 readings failed in a row (limit 4)"),
        ("egegegegeg", "error", 9, "5 readings failed in all (limit 5)"),
        ("gigigigigi", "good", 10, "5 of 10 windows were good"),
    ],
)
def test_outcomes(states, outcome, windows, said):
    names = {"g": "good", "b": "bad", "i": "inconclusive", "e": "error"}
    rules = RULES._replace(bad_total=4, errors_total=5)
    watch = play([names[state] for state in states], rules)
    found, why = watch.verdict()
    assert (found, len(watch.windows)) == (outcome, windows)
    assert said in why


def test_recovery_is_declared_and_taken_back_and_ends_the_watch_only_where_asked():
    watch = play(["bad", "good", "good", "good", "good"], RULES)
    assert watch.tally().recovered_at == 120.0
    assert watch.verdict() is None
    assert play(["bad", "good", "good", "good", "good"], RULES._replace(until="recovered")).verdict()[0] == "good"
    assert play(["good", "good", "good", "bad"], RULES).tally().recovered_at is None


@given(st.lists(STATES, max_size=40))
def test_totals_only_grow_and_only_a_good_window_ends_a_row_of_bad_ones(states):
    before = w.Tally()
    for number, state in enumerate(states, 1):
        after = before.add(state, float(number), 3)
        kinds = ("windows", "good", "bad", "inconclusive", "errors")
        assert all(getattr(after, kind) >= getattr(before, kind) for kind in kinds)
        assert after.windows == after.good + after.bad + after.inconclusive + after.errors == number
        if after.bad_in_row < before.bad_in_row:
            assert state == "good"
        if state in ("inconclusive", "error"):
            assert (after.good, after.bad, after.bad_in_row) == (before.good, before.bad, before.bad_in_row)
        assert (after.recovered_at is not None) == (after.recovered_at is not None and state != "bad")
        before = after


TRAFFIC = st.tuples(
    st.sampled_from(["serve", "restart", "miss"]),
    st.integers(0, 80),
    st.integers(0, 30),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([0.1, 2.0, 20.0]),
    st.sampled_from([5.0, 30.0, 200.0]),
)


@given(st.lists(TRAFFIC, max_size=12), st.data())
def test_a_watch_that_is_cut_off_anywhere_comes_to_the_same_verdict(steps, data):
    cut = data.draw(st.sets(st.integers(0, len(steps))))
    backend, whole, pieces = Backend(), w.Watch(head(), RULES), w.Watch(head(), RULES)
    for watch in (whole, pieces):
        observe(watch, backend.reading(0))
    for number, (what, ok, failed, runs, failed_runs, seconds, after) in enumerate(steps):
        if number in cut:
            pieces = w.decode(pieces.encode(), RULES)
        if what == "restart":
            backend.restart()
        backend.serve(ok, failed, runs, failed_runs, seconds)
        if what == "miss":
            backend.now += after
            instant = w.Instant(backend.now, backend.now - 400)
            assert whole.miss(instant, "refused") == pieces.miss(instant, "refused")
            continue
        reading = backend.reading(after, cpu=Cpu(backend.now, 2 * backend.now))
        assert observe(whole, reading) == observe(pieces, reading)
    assert whole.verdict() == pieces.verdict()
    assert whole.tally() == pieces.tally()
    assert whole.encode() == pieces.encode()
    assert whole.total() == pieces.total()


def test_the_series_file_is_one_strict_json_object_a_line(backend, watch):
    backend.serve(ok=30, runs=2)
    observe(watch, backend.reading(cpu=Cpu(1.0, 2.0)))

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    events = [json.loads(line, parse_constant=refuse)["event"] for line in watch.encode().splitlines()]
    assert events == ["begin", "window", "reading"]
    watch.close("good", "fine", 1.0)
    assert json.loads(watch.encode().splitlines()[-1]) == {"event": "end", "outcome": "good", "why": "fine", "at": 1.0}


@given(st.integers(1, 400))
def test_a_torn_last_line_is_left_out(size):
    backend = Backend()
    watch = w.Watch(head(), RULES)
    observe(watch, backend.reading(0))
    backend.serve(ok=30)
    observe(watch, backend.reading())
    text = watch.encode()
    last = text.splitlines()[-1]
    found = w.decode(text[: -min(size, len(last)) - 1], RULES)
    assert found.windows == watch.windows
    assert found.attempt.at == watch.attempt.at
    backend.now += 30
    assert observe(found, backend.reading()) is None


@pytest.mark.parametrize("text", ["", "{}\n", "[1]\n{}\n", '{"event": "begin", "version": 9}\n', "{\n{}\n"])
def test_what_is_no_series_is_refused(text):
    with pytest.raises(w.WatchError):
        w.decode(text, RULES)


def test_the_total_leaves_out_bad_windows_and_gaps(backend, watch):
    for traffic, after in (({"ok": 100}, 30), ({"ok": 50, "failed": 50}, 30), ({"ok": 7}, 30), ({"ok": 900}, 900)):
        backend.serve(**traffic)
        observe(watch, backend.reading(after))
    counts, seconds, load = watch.total()
    assert (counts.requests, seconds, load) == (107, 60.0, w.Load(None, 40.0))
    assert counts.latency.mean == pytest.approx(0.1)


def test_histograms_with_other_buckets_are_not_added():
    one, other = Histogram((1.0, INF), (2.0, 1.0), 3.0), Histogram((2.0, INF), (4.0, 1.0), 5.0)
    assert w.Counts(latency=one).plus(w.Counts(latency=other)).latency == other
    assert w.Counts(latency=one).plus(w.Counts()).latency == one


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"window": 0}, "over 0 seconds"),
        ({"duration": 20}, "at least one window"),
        ({"duration": float("nan")}, "at least one window"),
        ({"bad_in_row": 0}, "at least 1"),
        ({"recovered_after": 11}, "do not fit into 300 s"),
    ],
)
def test_rules_that_make_no_sense(rules, said):
    assert said in w.rules_problem(RULES._replace(**rules))


@pytest.mark.parametrize(
    ("limits", "said"), [({"p95_seconds": -1.0}, "negative"), ({"confidence_percent": 100.0}, "con")]
)
def test_limits_that_make_no_sense(limits, said):
    assert said in w.limits_problem(LIMITS._replace(**limits))


def test_the_defaults_make_sense():
    assert w.rules_problem(w.Rules()) is None
    assert w.limits_problem(w.Limits(error_rate_percent=None)) is None
