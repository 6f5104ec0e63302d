from __future__ import annotations

import json
import random
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Thread

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _prometheus as prom
from ansible_collections.sparklio.rollback.plugins.module_utils import error_rate, fetch
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
        self.created = None
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
        samples = {} if began is None else {"process_start_time_seconds": {(): 1_700_000_000 + began}}
        if series:
            samples[NAME] = series
            if self.created:
                samples["sparklio_http_requests_created"] = dict.fromkeys(series, self.created[self.turn % 2])
        return ex.Exposition(samples, {NAME: "counter"})

    def measure(self, **options):
        settings = error_rate.Settings({**DEFAULTS, **options})
        source = error_rate.Endpoints(settings, self.read, lambda url: [NAME, "up"], self.clock, self.wall)
        return error_rate.measure(settings, source, self.clock, self.sleep)


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


def test_two_processes_that_began_together_are_found_though_no_counter_falls():
    world = World()
    world.processes = [[-50.0, {"200": 5}], [-50.0, {"200": 5}]]
    world.created = (1.0, 1.25)
    found = world.measure()
    assert (found["verdict"], "take turns" in found["evidence"]) == ("error", True)


def test_two_processes_are_found_without_start_times_too():
    """prometheus_client exports them on Linux only."""
    world = World(0.0, 60)
    world.processes = [[None, {"200": 900}], [None, {"200": 100}]]
    found = world.measure()
    assert (found["verdict"], "take turns" in found["evidence"]) == ("error", True)


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_a_clock_that_is_set_meanwhile_miscounts_nothing(jump):
    """Whether the process is fresh can't be told then; everything else goes by the steady clock."""
    world, shift = World(0.0, 60, started=0.0), []
    world.now = 1.0
    true_wall = world.wall
    world.wall = lambda: true_wall() + sum(shift)
    world.events = [(1.3, lambda: shift.append(jump))]
    found = world.measure(fresh_process=300.0, min_requests=200)
    assert (found["verdict"], found["since_start"]) == ("pass", False)
    assert found["counts"]["total"] == world.processes[0][1]["200"] - 60
    assert found["seconds"] < 10


def test_a_clock_that_was_set_back_before_makes_no_process_fresh():
    world = World(0.0, 60, started=3600.0)
    assert world.measure(fresh_process=300.0)["since_start"] is False


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e308])
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
        {"threshold_percent": 100.0},
        {"max_wrong_percent": 0.0},
        {"max_wrong_percent": 50.0},
        {"metric": "a metric"},
        {"urls": []},
    ],
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(ValueError):
        error_rate.Settings({**DEFAULTS, **options})


def test_the_resolved_query():
    query = error_rate.Settings({**DEFAULTS, "total": 'endpoint!="/m"'}).query
    both = 'endpoint!="/m",status_code=~"5.."'
    assert query == f'sum(increase({NAME}{{{both}}}[20s])) / sum(increase({NAME}{{endpoint!="/m"}}[20s]))'
    assert r'{a="\\d\n\"",b="1"}' in error_rate.Settings({**DEFAULTS, "bad": r'a="\\d\n\"",b="1"'}).query


class Tsdb:
    """A Prometheus that scrapes a world, for as long as the world's clock goes on; and its API."""

    shown = "http://prometheus:9090"

    def __init__(self, world, every=5.0):
        self.world, self.every = world, every
        self.next = 0.0
        self.kept = {}
        self.metadata = [NAME]
        self.reachable = lambda now: True
        self.asked = []

    def keep(self, name, labels, value):
        target = {"instance": "app:8000", "job": "sparklio"}
        key = (name, tuple(sorted({**target, **dict(labels)}.items())))
        self.kept.setdefault(key, []).append((self.world.wall(), float(value)))

    def run(self, until):
        while self.next <= until:
            self.world.now = self.next
            up = self.reachable(self.next)
            self.keep("up", (), up)
            if up:
                for name, series in self.world.read(URL).samples.items():
                    for labels, value in series.items():
                        self.keep(name, labels, value)
            self.next += self.every
        self.world.now = until

    def sleep(self, seconds):
        self.run(self.world.now + seconds)

    def names(self):
        return sorted({name for name, _labels in self.kept})

    def declared(self, metric):
        return metric in self.metadata

    def query(self, expression):
        self.asked.append(expression)
        counted = re.fullmatch(r"count by \(job, instance\) \((.*)\)", expression)
        if counted:
            what = counted.group(1)
            if what == "up == 1":
                return [series._replace(name="") for series in self.find("up", "", 10) if series.samples[-1][1]]
            found = self.find(*re.fullmatch(r"last_over_time\(([a-z_]+)(.*)\[1d\]\)", what).groups(), 86_400)
            kept = {tuple(pair for pair in series.labels if pair[0] in ("instance", "job")) for series in found}
            return [prom.Series("", labels, [(0.0, 1.0)]) for labels in kept]
        what, span = re.fullmatch(r"(.*)\[(\d+)ms\]", expression).groups()
        if what.startswith("{__name__"):
            assert 'job=~"sparklio"' in what
            return self.find("up", "", int(span) / 1000) + self.find("process_start_time_seconds", "", int(span) / 1000)
        return self.find(*re.fullmatch(r"([a-z_]+)(.*)", what).groups(), int(span) / 1000)

    def find(self, wanted, selector, span):
        matches = ex.parse_selector(selector).matches
        found = []
        for (name, labels), samples in self.kept.items():
            inside = [(at, value) for at, value in samples if self.world.wall() - span < at]
            if name == wanted and inside and matches(dict(labels)):
                found.append(prom.Series(name, labels, inside))
        return found

    def measure(self, **options):
        given = {**DEFAULTS, "urls": None, "prometheus_url": "http://prometheus:9090", "window": 60.0, **options}
        settings = error_rate.Settings(given)
        return error_rate.measure(settings, error_rate.Stored(settings, self), self.world.clock, self.sleep)


def stored(rate=0.0, per_second=0.0, seconds=300.0, started=-1000.0, **options):
    found = Tsdb(World(rate, per_second, started), **options)
    found.run(seconds)
    return found


@pytest.mark.parametrize(("rate", "verdict"), [(0.002, "pass"), (0.25, "fail")])
def test_what_prometheus_has_stored_is_judged_at_once(rate, verdict):
    database = stored(rate, 10)
    found = database.measure()
    assert (found["verdict"], found["seconds"], len(found["samples"])) == (verdict, 0.0, 1)
    assert found["counts"]["total"] == 550  # twelve scrapes: 55 seconds
    assert "12 readings in 60.0 s" in found["evidence"]


def test_where_the_stored_window_does_not_decide_it_goes_on():
    database = stored(0.0, 1.2)
    assert database.measure(deadline=0.0)["verdict"] == "inconclusive"
    found = database.measure(deadline=60.0)
    assert found["verdict"] == "pass"
    assert 10 < found["seconds"] < 60
    assert found["counts"]["total"] > 1.2 * 60


def test_the_first_errors_of_all_are_seen():
    """increase() takes the first value of a series for its origin."""
    database = stored(0.0, 10)
    database.world.rate = 1.0
    database.sleep(6)
    database.world.rate = 0.0
    found = database.measure()
    assert found["counts"]["bad"] >= 50
    assert found["verdict"] == "fail"


def test_a_restart_in_the_stored_window_loses_nothing():
    database = stored(0.25, 10, seconds=270.0)
    database.world.restart()
    database.sleep(30)
    found = database.measure()
    assert (found["verdict"], found["restarts"]) == ("fail", 1)
    assert 500 <= found["counts"]["total"] <= 550


def test_a_fresh_process_is_counted_from_its_start_by_prometheus_too():
    database = stored(0.0, 10, seconds=200.0, started=0.0)
    assert database.measure(fresh_process=300.0)["counts"]["total"] == 2000
    assert database.measure(fresh_process=100.0)["counts"]["total"] == 550


def test_two_processes_that_prometheus_scrapes_by_one_port_are_an_error():
    database = Tsdb(World(0.0, 10))
    database.world.processes = [[-50.0, {"200": 900}], [-49.0, {"200": 100}]]
    database.run(60)
    found = database.measure()
    assert (found["verdict"], "take turns" in found["evidence"]) == ("error", True)


def test_a_process_that_prometheus_cannot_scrape_has_no_verdict():
    database = stored(0.0, 10, seconds=280.0)
    database.reachable = lambda now: now < 290
    database.sleep(20)
    found = database.measure(deadline=20.0)
    assert found["verdict"] == "error"
    assert "http://prometheus:9090 can't scrape sparklio app:8000" in found["evidence"]
    assert found["seconds"] >= 20
    database.sleep(600)
    found = database.measure(deadline=0.0)
    assert (found["verdict"], "can't scrape sparklio app:8000" in found["evidence"]) == ("error", True)
    database.reachable = lambda now: True
    database.sleep(60)
    assert database.measure(deadline=0.0)["verdict"] == "pass"


def test_no_traffic_yet_and_no_such_metric_are_told_apart():
    database = stored(0.0, 0)
    found = database.measure(deadline=0.0)
    assert (found["verdict"], found["reason"]) == ("inconclusive", "no traffic")
    found = database.measure(metric="sparklio_http_request_total")
    assert found["verdict"] == "error"
    assert "has no metric sparklio_http_request_total; no name there is similar" in found["evidence"]
    database.world.per_second = 1.0
    database.sleep(20)
    found = database.measure(metric="sparklio_http_request_total")
    assert f"the nearest names are {NAME}" in found["evidence"]
    found = database.measure(deadline=0.0, total='job="other"')
    assert (found["verdict"], found["reason"]) == ("inconclusive", "no traffic")


@pytest.mark.parametrize("options", [{"bad": 'status=~"5.."'}, {"total": 'stage="x"'}])
def test_a_label_that_no_stored_series_has_is_an_error(options):
    found = stored(0.5, 10).measure(**options)
    assert found["verdict"] == "error"
    assert "has the label st" in found["evidence"] and "endpoint, instance, job, status_code" in found["evidence"]


def test_one_scrape_is_no_increase():
    found = stored(0.5, 10).measure(window=4.0, deadline=0.0)
    assert found["verdict"] == "inconclusive"
    assert "only one scrape lies in 4000ms; take a longer window" in found["evidence"]


def test_values_that_prometheus_cannot_have_counted():
    database = stored(0.5, 10)
    database.world.processes[0][1]["200"] = float("nan")
    database.sleep(5)
    assert "at sparklio app:8000 holds the value nan" in database.measure()["evidence"]


def test_what_is_asked_is_promql():
    database = stored(0.5, 10)
    database.measure(total='endpoint!~"/health|/x",job="sparklio"')
    assert database.asked[0] == f'{NAME}{{endpoint!~"/health|/x",job="sparklio"}}[60000ms]'


def test_exactly_one_source_is_named(capsys):
    assert "mutually exclusive" in run(capsys, urls=["http://a/"], prometheus_url="http://b/")["msg"]
    assert "one of the following is required" in run(capsys)["msg"]
    found = run(capsys, prometheus_url="http://127.0.0.1:1/", bearer_token="a b")
    assert found["failed"] and "a space" in found["msg"]


def test_a_prometheus_that_is_down(capsys):
    found = run(capsys, prometheus_url="http://127.0.0.1:1/", window=60, deadline=0)
    assert found["verdict"] == "error"
    assert "connection refused" in found["evidence"]


BEGAN = time.time()


def page(*values, more=""):
    lines = [f'{NAME}{{status_code="{code}"}} {value}' for code, value in values]
    return "\n".join([*lines, more, f"process_start_time_seconds {BEGAN}", ""])


OPEN_METRICS = (
    "# HELP sparklio_http_requests HTTP requests\n# TYPE sparklio_http_requests counter\n"
    f'{NAME}{{status_code="200"}} 400.0 1700000000.5 # {{trace_id="KOO5S4vxi0o"}} 0.67 1700000000.1\n'
    f'{NAME}{{status_code="500"}} 100.0 # {{}} 1\n'
    'sparklio_http_requests_created{status_code="200"} 1.7e9\n'
    f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {time.time():.1f}\n# EOF\n"
)
ESCAPED = r'sparklio_http_requests_total{endpoint="/a\"b\\c\nd} 1",status_code="200"} 500'

TURNS = cycle([1.5, 1.75])


def by_turns():
    """One of two workers that began in the same clock tick and have counted the same."""
    return page((200, 500), more=f'sparklio_http_requests_created{{status_code="200"}} {next(TURNS)}')


PAGES = {
    "/fresh": (200, "text/plain", f"# TYPE {NAME} counter\nprocess_start_time_seconds 1\n"),
    "/nan": (200, "text/plain", page((200, 500), (500, "NaN"))),
    "/infinite": (200, "text/plain", page((200, "+Inf"), (500, 0))),
    "/negative": (200, "text/plain", page((200, 500), (500, "-3"))),
    "/huge": (200, "text/plain", page((200, "1e308"), (500, "1e308"))),
    "/twice": (200, "text/plain", page((200, 500), (500, 1), (500, 2))),
    "/words": (200, "text/plain", page((200, "many"), (500, 1))),
    "/escaped": (200, "text/plain; version=0.0.4", page((500, 100), more=ESCAPED)),
    "/open": (
        200,
        "application/openmetrics-text; version=1.0.0",
        OPEN_METRICS.replace("{}\n#", f"{time.time():.1f}\n#"),
    ),
    "/turns": (200, "text/plain", by_turns),
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
        text = text if isinstance(text, str) else text()
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
        ("/nan", "error", "holds the value nan, which no counter can have"),
        ("/infinite", "error", "holds the value inf"),
        ("/negative", "error", "holds the value -3.0"),
        ("/huge", "error", "holds the value 1e+308"),
        ("/twice", "error", "stands there twice"),
        ("/words", "error", "'many' is not a number"),
        ("/escaped", "fail", "100 of 600 bad = 16.67 %"),
        ("/turns", "error", "several processes take turns"),
        ("/open", "fail", "100 of 500 bad = 20.00 %"),
    ],
)
def test_what_real_endpoints_answer(server, capsys, monkeypatch, path, verdict, message):
    monkeypatch.setattr(error_rate, "FIRST_INTERVAL", 0.01)
    options = {"window": 0.2, "deadline": 0.2, "interval": 0.05, "fresh_process": 300}
    found = run(capsys, urls=[server + path], max_body_mib=1, **options)
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
