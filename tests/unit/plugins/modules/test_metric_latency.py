from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, latency
from ansible_collections.sparklio.rollback.plugins.modules import metric_latency as module

NAME = "sparklio_http_request_duration_seconds"
URL = "http://app/metrics"
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
DEFAULTS = {
    "urls": [URL],
    "metric": NAME,
    "selector": "",
    "quantiles": [0.5, 0.95, 0.99],
    "mean_max_seconds": 3.0,
    "limits": {"0.95": 30},
    "baseline": None,
    "baseline_ratio": 2.0,
    "baseline_floor_seconds": 0.5,
    "min_requests": 20,
    "window": 20.0,
    "deadline": 30.0,
    "interval": 2.0,
    "fresh_process": 0.0,
}


class World:
    """A backend whose requests take so many seconds, and the only clock there is."""

    def __init__(self, takes=0.2, per_second=10.0, started=-1000.0):
        self.now = self.done = 0.0
        self.takes, self.per_second = takes, per_second
        self.processes = [[started, []]]
        self.turn = 0
        self.down = lambda now: False
        self.events = []

    def clock(self):
        return self.now

    def wall(self):
        return 1_700_000_000 + self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds + 0.001

    def restart(self):
        self.processes = [[self.now, []]]

    def read(self, url):
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()
        for _ in range(int(self.now * self.per_second) - int(self.done * self.per_second)):
            self.processes[0][1].append(self.takes)
        self.done = self.now
        if self.down(self.now):
            raise fetch.FetchError(f"GET {url}: connection refused: nothing listens there")
        self.turn += 1
        began, observed = self.processes[self.turn % len(self.processes)]
        return page(observed, 1_700_000_000 + began)

    def measure(self, **options):
        settings = latency.Settings({**DEFAULTS, **options})
        return latency.measure(settings, self.read, lambda url: [NAME, "up"], self.clock, self.wall, self.sleep)


def page(observed, began):
    samples = {"process_start_time_seconds": {(): began}}
    if observed:
        own = [0] * len(BOUNDS)
        for value in observed:
            own[bisect_left(BOUNDS, value)] += 1
        samples[f"{NAME}_bucket"] = {
            (("endpoint", "/x"), ("le", str(bound).replace("inf", "+Inf"))): float(reached)
            for bound, reached in zip(BOUNDS, accumulate(own), strict=True)
        }
        samples[f"{NAME}_sum"] = {(("endpoint", "/x"),): math.fsum(observed)}
        samples[f"{NAME}_count"] = {(("endpoint", "/x"),): float(len(observed))}
    return ex.Exposition(samples, {NAME: "histogram"})


def test_quick_answers_pass_after_the_window():
    found = World().measure()
    assert (found["verdict"], found["restarts"], found["since_start"]) == ("pass", 0, False)
    assert 20 <= found["seconds"] < 20.1
    assert found["count"] == pytest.approx(200, abs=1)
    assert found["mean_seconds"] == pytest.approx(0.2)
    assert found["quantiles"]["0.95"] == {"seconds": pytest.approx(0.2425), "at_least": False}
    assert found["evidence"].startswith("mean 0.2 s is under 3 s; p95 0.242 s is under 30 s; p50 ")
    assert [sample["at"] for sample in found["samples"]][:2] == [0.0, pytest.approx(0.201)]


def test_slow_answers_fail_and_what_decides_stands_first():
    found = World(4.0).measure(mean_max_seconds=3.0)
    assert found["verdict"] == "fail"
    assert found["evidence"].startswith("mean 4 s is not under 3 s; p95")
    found = World(8.0).measure(mean_max_seconds=9.0, limits={"0.95": 5})
    assert found["evidence"].startswith("p95 9.75 s is not under 5 s; mean 8 s")


def test_a_quantile_in_the_last_bucket_is_at_least_its_bound():
    found = World(12.0).measure(mean_max_seconds=None)
    assert found["quantiles"]["0.5"] == {"seconds": 10.0, "at_least": True}
    assert found["verdict"] == "inconclusive"
    assert "p95 at least 10 s, limit 30 s: 100 % took over 10 s" in found["evidence"]


def test_no_traffic_is_inconclusive_and_takes_until_the_deadline():
    found = World(per_second=0).measure()
    assert (found["verdict"], found["mean_seconds"], found["quantiles"]["0.5"]) == ("inconclusive", None, None)
    assert found["evidence"].startswith("no requests")
    assert 30 <= found["seconds"] < 30.1


def test_too_few_requests_are_waited_for():
    found = World(per_second=0.8).measure(deadline=60.0)
    assert found["verdict"] == "pass"
    assert 20 < found["seconds"] < 30
    assert World(per_second=0.5).measure()["evidence"].startswith("15 requests, and mean needs 20")


def test_requests_of_before_the_window_do_not_count():
    world = World(9.0, 100)
    world.now = 10.0
    world.read(URL)
    world.takes = 0.1
    assert world.measure()["mean_seconds"] == pytest.approx(0.1)


def test_a_fresh_process_is_counted_from_its_start():
    world = World(0.1, 10, started=0.0)
    world.now = 50.0
    found = world.measure(fresh_process=300.0)
    assert (found["count"], found["since_start"]) == (pytest.approx(700, abs=2), True)
    assert "counted from the start of the process" in found["evidence"]


def test_a_restart_in_the_middle_loses_nothing_that_was_read():
    world = World()
    world.events = [(9.0, world.restart)]
    found = world.measure()
    assert found["restarts"] == 1 and "replaced 1 times" in found["evidence"]
    assert 180 - 20 <= found["count"] <= 200


def test_a_restart_just_before_the_end_puts_the_verdict_off():
    world = World()
    world.events = [(19.9, world.restart)]
    found = world.measure()
    assert found["verdict"] == "pass" and found["seconds"] > 22
    world = World()
    world.events = [(29.9, world.restart)]
    found = world.measure(min_requests=10_000)
    assert found["evidence"].startswith("the process was replaced just before the end")


def test_two_processes_behind_one_port_are_an_error():
    world = World()
    world.processes = [[-50.0, [0.1] * 900], [-49.0, [0.2] * 10]]
    found = world.measure()
    assert found["verdict"] == "error"
    assert "take turns" in found["evidence"]
    assert found["seconds"] < 2


def test_two_instances_are_summed():
    assert World().measure(urls=[URL, URL + "2"])["count"] == pytest.approx(400, abs=2)


def test_short_outages_are_bridged_and_long_ones_are_an_error():
    world = World()
    world.down = lambda now: now < 5
    assert world.measure()["verdict"] == "pass"
    world = World()
    world.down = lambda now: now > 10
    found = world.measure()
    assert found["verdict"] == "error"
    assert "4 readings in a row" in found["evidence"]


def test_a_baseline_is_compared_with():
    found = World(0.9).measure(baseline={"mean": 0.4, "quantiles": {"0.95": 2.0}}, limits={})
    assert found["verdict"] == "fail"
    assert found["evidence"].startswith(
        "mean 0.9 s is not under 2 times the baseline of 0.4 s; mean 0.9 s is under 3 s"
    )
    assert [item["what"] for item in found["comparisons"]] == ["mean", "p95", "mean"]


def test_under_the_floor_nothing_is_too_slow():
    found = World(0.3).measure(baseline={"mean": 0.01, "quantiles": {}})
    assert found["verdict"] == "pass"
    assert "0.5 s, the least that counts against a baseline" in found["evidence"]


def test_without_a_limit_nothing_is_judged():
    found = World().measure(mean_max_seconds=None, limits={})
    assert found["verdict"] == "inconclusive"
    assert found["evidence"].startswith("there is no limit to judge by; mean 0.2 s, p50 ")


def test_a_misspelt_metric_is_an_error_that_names_the_nearest():
    found = World().measure(metric="sparklio_http_requests_duration_seconds")
    assert found["verdict"] == "error"
    assert f"the nearest names are {NAME}" in found["evidence"]


def test_the_resolved_query():
    query = latency.Settings({**DEFAULTS, "selector": 'endpoint!="/m"', "quantiles": []}).query
    assert query == [
        f'sum(increase({NAME}_sum{{endpoint!="/m"}}[20s])) / sum(increase({NAME}_count{{endpoint!="/m"}}[20s]))',
        f'histogram_quantile(0.95, sum by (le) (increase({NAME}_bucket{{endpoint!="/m"}}[20s])))',
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"urls": []},
        {"selector": "nonsense"},
        {"quantiles": [1.0]},
        {"mean_max_seconds": 0.0},
        {"limits": {"p95": 30}},
        {"limits": {"95": 30}},
        {"limits": {"0.95": "soon"}},
        {"limits": {"0.95": float("nan")}},
        {"baseline": {"mean": -1.0}},
        {"baseline": {"quantiles": {"2": 1}}},
        {"baseline_ratio": 1.0},
        {"baseline_floor_seconds": 0.0},
        {"window": 0.0},
        {"deadline": 10.0},
        {"interval": 0.0},
    ],
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(ValueError):
        latency.Settings({**DEFAULTS, **options})


@pytest.mark.parametrize(
    ("path", "verdict", "message"),
    [
        ("histogram", "inconclusive", "no requests"),
        ("fresh", "inconclusive", "no requests"),
        ("broken", "error", 'has no bucket le="+Inf"'),
        ("gauge", "error", f"{NAME} is a gauge; name a histogram"),
        ("other", "error", "has no metric"),
        ("html", "error", "not metrics"),
        ("gone", "error", "answered 404"),
    ],
)
def test_what_real_endpoints_answer(pages, call, path, verdict, message):
    found = call(module, urls=[pages + path], mean_max_seconds=3, window=0.2, interval=0.1)
    assert found["verdict"] == verdict
    assert message in found["evidence"]
    assert found["changed"] is False


@pytest.fixture
def pages(web):
    good = f'{NAME}_bucket{{le="1.0"}} 1\n{NAME}_bucket{{le="+Inf"}} 1\n{NAME}_sum 0.5\n{NAME}_count 1\n'
    return web(
        {
            "/histogram": good,
            "/fresh": f"# TYPE {NAME} histogram\n",
            "/broken": good.replace('le="+Inf"', 'le="2.0"'),
            "/gauge": f"# TYPE {NAME} gauge\n{NAME} 1\n",
            "/other": "up 1\n",
            "/html": "<html></html>\n",
        }
    )


def test_nothing_listens(call):
    found = call(module, urls=["http://user:hunter22@127.0.0.1:1/metrics"], window=0.3, interval=0.1)
    assert found["verdict"] == "error"
    assert "connection refused" in found["evidence"] and "hunter22" not in found["evidence"]


def test_bad_settings_fail_in_one_line(call):
    found = call(module, urls=["http://127.0.0.1:1"], limits={"p95": 3})
    assert found["failed"] and "limits maps quantiles to seconds" in found["msg"]
