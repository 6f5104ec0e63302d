from __future__ import annotations

import json
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch
from ansible_collections.sparklio.rollback.plugins.modules import metric_error_rate as module

NAME = "sparklio_http_requests_total"
URL = "http://app/metrics"
DEFAULTS = {
    "urls": [URL],
    "prometheus_url": None,
    "metric": NAME,
    "bad": 'status_code=~"5.."',
    "total": "",
    "threshold_percent": 5.0,
    "min_requests": 20,
    "confidence_percent": 95.0,
    "max_wrong_percent": 1.0,
    "window": 20.0,
    "deadline": 30.0,
    "interval": 2.0,
    "fresh_process": 0.0,
}


class World:
    """A backend under traffic, and the only clock there is."""

    def __init__(self, rate=0.0, per_second=0.0, started=-1000.0):
        self.now = 0.0
        self.rate, self.per_second = rate, per_second
        self.processes = [[started, {}]]
        self.turn = 0
        self.rng = random.Random(4)
        self.done = 0.0
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
        self.processes = [[self.now, {}]]

    def serve(self):
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()
        for _ in range(int(self.now * self.per_second) - int(self.done * self.per_second)):
            status = "500" if self.rng.random() < self.rate else "200"
            counters = self.processes[self.rng.randrange(len(self.processes))][1]
            counters[status] = counters.get(status, 0) + 1
        self.done = self.now

    def read(self, url):
        self.serve()
        if self.down(self.now):
            raise fetch.FetchError(f"GET {url}: connection refused: nothing listens there")
        self.turn += 1
        began, counters = self.processes[self.turn % len(self.processes)]
        series = {(("endpoint", "/x"), ("status_code", code)): float(count) for code, count in counters.items()}
        samples = {"process_start_time_seconds": {(): 1_700_000_000 + began}}
        if series:
            samples[NAME] = series
        return ex.Exposition(samples, {NAME: "counter"})

    def measure(self, **options):
        settings = module.Settings({**DEFAULTS, **options})
        source = module.Endpoints(settings, self.read, lambda url: [NAME, "up"], self.clock, self.wall)
        return module.measure(settings, source, self.clock, self.sleep)


def test_healthy_traffic_passes_before_the_window_is_over():
    found = World(0.002, 60).measure()
    assert (found["verdict"], found["restarts"]) == ("pass", 0)
    assert found["seconds"] < 15
    assert found["counts"]["total"] > 100
    assert "threshold 5 %" in found["evidence"]


def test_bad_traffic_fails_early():
    found = World(0.25, 60).measure()
    assert found["verdict"] == "fail"
    assert found["seconds"] < 15
    low, high = found["interval_percent"]
    assert 5 < low < found["rate_percent"] < high
    assert 0 < found["limits"]["fail_from"] <= found["counts"]["bad"]


def test_no_traffic_is_inconclusive_and_takes_until_the_deadline():
    found = World().measure()
    assert found["verdict"] == "inconclusive"
    assert found["evidence"].startswith("no traffic")
    assert found["rate_percent"] is None
    assert 30 <= found["seconds"] < 30.1


def test_errors_of_before_the_window_do_not_count():
    world = World(1.0, 100)
    world.now = 10.0
    world.serve()
    world.rate = 0.0
    assert world.measure()["counts"]["bad"] == 0


def test_a_fresh_process_is_counted_from_its_start():
    world = World(0.0, 100, started=0.0)
    world.now = 5.0
    found = world.measure(fresh_process=300.0)
    assert (found["verdict"], found["since_start"], found["counts"]["total"]) == ("pass", True, 580)
    assert found["seconds"] < 1
    assert len(found["samples"]) == 5


def test_two_fresh_processes_are_found_before_the_first_verdict():
    world = World(0.0, 0, started=0.0)
    world.processes = [[1.0, {"200": 900}], [2.0, {"200": 800}]]
    world.now = 5.0
    found = world.measure(fresh_process=300.0)
    assert (found["verdict"], "take turns" in found["evidence"]) == ("error", True)


def test_an_old_process_is_not():
    world = World(0.0, 100, started=-400.0)
    world.now = 5.0
    found = world.measure(fresh_process=300.0)
    assert (found["since_start"], found["samples"][0]["total"]) == (False, 0)


def test_a_restart_in_the_middle_loses_nothing():
    world = World(0.25, 6)
    world.events = [(9.0, world.restart)]
    found = world.measure(min_requests=10_000)
    assert found["restarts"] == 1
    assert "replaced 1 times" in found["evidence"]
    lost = 2 * 6  # at most what was served between the last reading and the restart
    assert 30 * 6 - lost <= found["counts"]["total"] <= 30 * 6


def test_a_restart_puts_the_verdict_off():
    """It could be the first sign of two processes taking turns."""
    calm, world = World(0.0, 60), World(0.0, 60)
    world.events = [(1.5, world.restart)]
    found = world.measure()
    assert (found["verdict"], found["restarts"]) == ("pass", 1)
    assert calm.measure()["seconds"] + 2 * 2 <= found["seconds"] < 12
    world = World(0.0, 3)
    world.events = [(29.0, world.restart)]
    assert "replaced just before the end" in world.measure(min_requests=85)["evidence"]


def test_two_processes_behind_one_port_are_an_error():
    world = World(0.0, 60)
    world.processes = [[-50.0, {"200": 900}], [-49.0, {"200": 100}]]
    found = world.measure()
    assert found["verdict"] == "error"
    assert "take turns" in found["evidence"] and "PROMETHEUS_MULTIPROC_DIR" in found["evidence"]


def test_short_outages_are_bridged_and_long_ones_are_an_error():
    world = World(0.0, 60)
    world.down = lambda now: now < 5
    assert world.measure()["verdict"] == "pass"
    world = World(0.0, 1)
    world.down = lambda now: now < 28 and int(now / 2) % 2 == 1
    assert world.measure()["verdict"] == "inconclusive"
    world = World(0.0, 1)
    world.down = lambda now: now > 10
    found = world.measure()
    assert found["verdict"] == "error"
    assert "connection refused" in found["evidence"] and "4 readings in a row" in found["evidence"]
    assert [sample for sample in found["samples"] if "error" in sample]


def test_a_misspelt_metric_is_an_error_that_names_the_nearest():
    found = World().measure(metric="sparklio_http_request_total")
    assert found["verdict"] == "error"
    assert f"the nearest names are {NAME}" in found["evidence"]


def test_a_misspelt_label_is_an_error_and_not_a_pass():
    world = World(0.5, 60)
    world.now = 1.0
    found = world.measure(bad='status=~"5.."')
    assert found["verdict"] == "error"
    assert "has the label status" in found["evidence"] and "endpoint, status_code" in found["evidence"]


def test_what_is_left_out_of_the_total_counts_neither_as_bad():
    found = World(0.5, 60).measure(total='endpoint!="/x"')
    assert (found["verdict"], found["counts"]) == ("inconclusive", {"bad": 0.0, "total": 0.0})


def test_two_instances_are_summed():
    world = World(0.0, 60)
    found = world.measure(urls=[URL, URL + "2"], min_requests=10_000)
    assert found["counts"]["total"] == 2 * sum(world.processes[0][1].values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_values_that_no_counter_can_have(value):
    world = World()
    world.processes[0][1]["200"] = value
    assert "no counter can have" in world.measure()["evidence"]


@pytest.mark.parametrize(
    "options",
    [
        {"bad": ""},
        {"bad": "nonsense"},
        {"threshold_percent": 0.0},
        {"window": 0.0},
        {"deadline": 10.0},
        {"interval": 0.0},
        {"confidence_percent": 100.0},
        {"urls": []},
    ],
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(ValueError):
        module.Settings({**DEFAULTS, **options})


def test_the_resolved_query():
    query = module.Settings({**DEFAULTS, "total": 'endpoint!="/m"'}).query
    both = 'endpoint!="/m",status_code=~"5.."'
    assert query == f'sum(increase({NAME}{{{both}}}[20s])) / sum(increase({NAME}{{endpoint!="/m"}}[20s]))'


PAGES = {
    "/fresh": (200, "text/plain", f"# TYPE {NAME} counter\nprocess_start_time_seconds 1\n"),
    "/html": (200, "text/html", "<html></html>"),
    "/sneaky": (200, "text/plain", "<html></html>\n"),
    "/half": (200, "text/plain", f'{NAME}{{status_code="200'),
    "/other": (200, "text/plain", "sparklio_http_requests_tota 1\n"),
    "/json": (200, "application/json", "{}"),
    "/busy": (503, "text/plain", "busy"),
    "/big": (200, "text/plain", "x 1\n" * 600_000),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, kind, text = PAGES.get(self.path, (404, "text/plain", "not found"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text) + (9 if self.path == "/half" else 0)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def run(capsys, **options):
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("path", "verdict", "message"),
    [
        ("/fresh", "inconclusive", "no traffic"),
        ("/html", "error", "answered 200 in text/html, not metrics"),
        ("/json", "error", "answered 200 in application/json, not metrics"),
        ("/sneaky", "error", "HTML"),
        ("/half", "error", "broke off its answer after"),
        ("/missing", "error", "answered 404"),
        ("/busy", "error", "answered 503"),
        ("/big", "error", "more than 1048576 bytes"),
        ("/other", "error", "the nearest names are sparklio_http_requests_tota"),
    ],
)
def test_what_real_endpoints_answer(server, capsys, path, verdict, message):
    found = run(capsys, urls=[server + path], window=0.3, deadline=0.4, interval=0.1, max_body_mib=1)
    assert found["verdict"] == verdict
    assert message in found["evidence"]
    assert found["changed"] is False


def test_nothing_listens(capsys):
    found = run(capsys, urls=["http://user:hunter22@127.0.0.1:1/metrics"], window=0.3, interval=0.1)
    assert found["verdict"] == "error"
    assert "connection refused" in found["evidence"]
    assert "hunter22" not in found["evidence"]


def test_bad_settings_fail_in_one_line(capsys):
    found = run(capsys, urls=["http://127.0.0.1:1"], bad="status_code")
    assert found["failed"]
    assert "the selector 'status_code' can't be read" in found["msg"]
