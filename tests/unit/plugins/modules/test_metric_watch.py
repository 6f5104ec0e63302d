from __future__ import annotations

import itertools
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import load, readings, watches
from ansible_collections.sparklio.rollback.plugins.modules import metric_baseline, metric_watch

TAG = "v4.0.20250115-1430"


class App:
    """A metrics page over HTTP, and the clock of its host."""

    started = 1_699_999_000.0

    def __init__(self, root):
        self.root, self.now = root, 1_700_000_000.0
        self.ok = self.failed = self.runs = 0
        self.seconds, self.total_seconds = 0.1, 0.0
        self.status, self.text = 200, None
        self.warnings = []
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = app.page().encode()
                self.send_response(app.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"

    def page(self):
        if self.text is not None:
            return self.text
        total = self.ok + self.failed
        return "".join(
            line + "\n"
            for line in (
                f"process_start_time_seconds {self.started}",
                f'sparklio_http_requests_total{{endpoint="/x",status_code="200"}} {self.ok}',
                f'sparklio_http_requests_total{{endpoint="/x",status_code="500"}} {self.failed}',
                f'sparklio_http_requests_total{{endpoint="/health",status_code="500"}} {9 * total}',
                f'sparklio_http_request_duration_seconds_bucket{{endpoint="/x",le="0.5"}} {total}',
                f'sparklio_http_request_duration_seconds_bucket{{endpoint="/x",le="+Inf"}} {total}',
                f'sparklio_http_request_duration_seconds_sum{{endpoint="/x"}} {self.total_seconds}',
                f'sparklio_http_request_duration_seconds_count{{endpoint="/x"}} {total}',
                f'sparklio_agent_executions_total{{status="success"}} {self.runs}',
            )
        )

    def options(self, tmp_path, **more):
        return {
            "app_root": str(self.root),
            "state_dir": str(tmp_path / "state"),
            "urls": [self.url],
            "selector": 'endpoint!="/health"',
            "duration": 150,
            "recovered_after": 2,
            **more,
        }

    def serve(self, ok=0, failed=0, after=30.0):
        self.now += after
        self.ok, self.failed = self.ok + ok, self.failed + failed
        self.total_seconds += (ok + failed) * self.seconds

    # What the modules take from the module time.
    gmtime, strftime = staticmethod(time.gmtime), staticmethod(time.strftime)

    def time(self):
        return self.now

    def monotonic(self):
        return self.now - 1_699_000_000

    def sleep(self, seconds):
        if seconds >= 1:
            self.serve(ok=300, after=seconds)


@pytest.fixture
def app(git, monkeypatch):
    git.commit({"a": "1"}, TAG)
    found = App(git.path)
    for module in (metric_watch, metric_baseline, readings):
        monkeypatch.setattr(module, "time", found)
    quiet = load._load.Load(load._load.Cpu(1.0, 2.0), load._load.Memory(100, 60))
    monkeypatch.setattr(readings.load, "read", lambda: quiet)
    # Ansible keeps warnings for the whole process.
    monkeypatch.setattr(metric_watch.AnsibleModule, "warn", lambda _module, text: found.warnings.append(text))
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def reading(app, call, tmp_path):
    return lambda **more: call(metric_watch, **app.options(tmp_path, **more))


def series(result):
    with open(result["path"], encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def test_a_watch_to_its_end(app, reading):
    first = reading()
    assert (first["release"]["tag"], first["window"], first["left"], first["over"]) == (TAG, None, 150, False)
    windows = []
    for _number in range(5):
        app.serve(ok=100)
        result = reading(watch=first["watch"])
        windows.append(result["window"])
    assert [window["requests"] for window in windows] == [100.0] * 5
    assert (result["over"], result["outcome"], result["recovered_at"]) == (True, "good", 60.0)
    assert [event["event"] for event in series(result)] == ["begin", *["window"] * 5, "end"]
    assert os.stat(result["path"]).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(result["path"])).st_mode & 0o777 == 0o700
    another = reading()
    assert (another["continued"], another["watch"] > first["watch"]) == (False, True)


def test_a_breach_ends_it_at_once(app, reading):
    name = reading()["watch"]
    for number in range(1, 4):
        app.serve(ok=70, failed=30)
        result = reading(watch=name)
        assert result["over"] == (number == 3)
    assert result["outcome"] == "breached"
    assert "error rate 30.0 %" in result["why"]


def test_it_goes_on_where_it_was_cut_off(app, reading):
    name = reading()["watch"]
    app.serve(ok=100)
    reading(watch=name)
    app.serve(ok=7, after=10)
    early = reading()
    assert (early["watch"], early["continued"], early["window"]) == (name, True, None)
    assert (early["due_in"], len(early["windows"])) == (20.0, 1)
    app.serve(ok=800, after=600)
    late = reading()
    assert (late["watch"], late["window"]["gap"], late["window"]["requests"]) == (name, True, 807.0)
    assert late["left"] == 120.0


@pytest.mark.parametrize(("more", "after"), [({"restart": True}, 30), ({"resume_within": 20}, 30), ({}, 4000)])
def test_it_begins_anew_where_asked_or_too_old(app, reading, more, after):
    name = reading()["watch"]
    app.serve(ok=100, after=after)
    again = reading(**more)
    assert again["watch"] > name
    assert (again["continued"], again["windows"]) == (False, [])


def test_a_watch_of_another_release_or_that_is_over_is_not_continued(app, reading, git):
    name = reading()["watch"]
    git.commit({"a": "2"}, "v4.0.20250115-1600")
    app.serve(ok=100)
    other = reading()
    assert (other["continued"], other["release"]["tag"]) == (False, "v4.0.20250115-1600")
    ended = reading(watch=name)
    assert (ended["outcome"], ended["over"]) == ("inconclusive", True)
    assert "v4.0.20250115-1600 was checked out while v4.0.20250115-1430 was being watched" in ended["why"]
    app.serve()
    assert reading()["watch"] == other["watch"]


def test_a_metric_that_is_misspelt_is_a_wrong_setting_and_not_an_error_window(reading):
    result = reading(requests_metric="sparklio_http_request_total")
    assert result["failed"]
    assert "the nearest names are sparklio_http_requests_total" in result["msg"]


def test_two_processes_behind_one_port_are_a_wrong_setting(app, reading, monkeypatch):
    starts = itertools.cycle((1.0, 2.0))
    monkeypatch.setattr(App, "started", property(lambda _app: next(starts)), raising=False)
    result = reading()
    assert result["failed"]
    assert "PROMETHEUS_MULTIPROC_DIR" in result["msg"]


def test_metrics_that_are_missing_beside_it_are_said(app, reading):
    reading(agents_metric="sparklio_agent_execution_total")
    assert "agent runs are not watched; the nearest names are sparklio_agent_executions_total" in app.warnings[0]


@pytest.mark.parametrize(
    ("status", "text"), [(503, None), (404, None), (200, "<html>"), (200, "x{ 1\nsparklio_http_requests_total{ 1")]
)
def test_what_can_not_be_read_later_is_an_error_window(app, reading, status, text):
    name = reading()["watch"]
    app.serve(ok=50)
    app.status, app.text = status, text
    result = reading(watch=name)
    assert (result["window"]["state"], result["tally"]["errors"]) == ("error", 1)
    app.status, app.text = 200, None
    app.serve(ok=50)
    assert reading(watch=name)["window"]["requests"] == 100


def test_a_backend_that_is_down_at_the_start_is_waited_for_and_given_up(app, reading):
    app.status = 503
    result = reading()
    for _number in range(3):
        app.serve()
        result = reading(watch=result["watch"])
    assert (result["over"], result["outcome"]) == (True, "error")
    assert "4 readings failed in a row" in result["why"]


def test_a_restart_in_between_is_counted_from_zero(app, reading):
    name = reading()["watch"]
    app.serve(ok=500)
    reading(watch=name)
    app.started, app.ok = app.now, 0
    app.serve(ok=600)
    result = reading(watch=name)
    assert (result["window"]["requests"], result["window"]["restarts"]) == (600, 1)


def test_check_mode_reads_once_and_keeps_nothing(app, call, tmp_path):
    result = call(metric_watch, check=True, **app.options(tmp_path))
    assert (result["over"], result["changed"]) == (False, False)
    assert not (tmp_path / "state").exists()


def test_a_damaged_series_is_said_and_a_new_watch_begins(app, reading):
    first = reading()
    with open(first["path"], "w", encoding="utf-8") as stream:
        stream.write("{}\n{}\n")
    app.serve()
    result = reading()
    assert not result["continued"]
    assert "can't be used" in app.warnings[0]


def test_a_name_can_not_lead_out_of_the_directory(reading):
    result = reading(watch="../../x")
    assert "is not the name of a watch" in result["msg"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"window": 0}, "over 0 seconds"),
        ({"limits": {"mean_seconds": -1}}, "no limit can be negative"),
        ({"failed_request": ""}, "must name at least one condition"),
        ({"selector": "status_code=5"}, "can't be read"),
    ],
)
def test_settings_that_can_not_be_used(reading, more, said):
    result = reading(**more)
    assert result["failed"]
    assert said in result["msg"]


def test_what_is_no_clone_is_said(app, reading, tmp_path):
    app.root = tmp_path
    assert "can't be read as the application's clone" in reading()["msg"]


def test_a_baseline_is_compared_with(app, reading, call, tmp_path):
    options = {key: app.options(tmp_path)[key] for key in ("app_root", "state_dir", "urls", "selector")}
    app.seconds = 0.3
    made = call(metric_baseline, **options)
    assert (made["stored"], made["baseline"]["mean_seconds"], made["baseline"]["requests"]) == (True, 0.3, 300)
    name = reading()["watch"]
    states = []
    for app.seconds in (0.5, 0.7):
        app.serve(ok=100)
        result = reading(watch=name)
        states.append(result["window"]["state"])
    assert (result["baseline"]["mean_seconds"], states) == (0.3, ["good", "bad"])
    assert "2 times the baseline of 0.3 s" in result["window"]["breaches"][0]["evidence"]


@pytest.mark.parametrize(("ok", "failed", "stored"), [(400, 0, True), (300, 100, False)])
def test_a_watch_becomes_a_baseline_only_where_it_ended_well(app, reading, call, tmp_path, ok, failed, stored):
    name = reading()["watch"]
    for _number in range(5):
        app.serve(ok, failed)
        reading(watch=name)
    result = call(metric_baseline, state_dir=str(tmp_path / "state"), watch=name)
    assert result["stored"] == result["changed"] == stored
    if stored:
        assert (result["baseline"]["requests"], result["baseline"]["window_seconds"]) == (2000, 150)
        assert (result["baseline"]["tag"], result["verdict"]) == (TAG, "pass")
    else:
        assert "ended as breached" in result["evidence"]


def test_nothing_is_stored_in_check_mode_or_without_traffic(app, call, tmp_path, monkeypatch):
    options = {key: app.options(tmp_path)[key] for key in ("app_root", "state_dir", "urls", "selector")}
    result = call(metric_baseline, check=True, **options)
    assert (result["changed"], result["stored"], result["verdict"]) == (True, False, "pass")
    monkeypatch.setattr(app, "sleep", lambda seconds: app.serve(after=seconds))
    result = call(metric_baseline, **options)
    assert (result["stored"], result["verdict"]) == (False, "inconclusive")
    app.status = 503
    result = call(metric_baseline, **options)
    assert (result["stored"], result["verdict"]) == (False, "error")
    assert "answered 503" in result["evidence"]
    assert not (tmp_path / "state").exists()


def test_a_baseline_is_read_back(app, call, tmp_path):
    options = {key: app.options(tmp_path)[key] for key in ("app_root", "state_dir", "urls", "selector")}
    made = call(metric_baseline, **options)
    where = {"state": "read", "state_dir": options["state_dir"]}
    own = call(metric_baseline, app_root=options["app_root"], **where)
    assert (own["baseline"], own["own"], own["stored"]) == (made["baseline"], True, True)
    assert own["latency"]["mean"] == made["baseline"]["mean_seconds"]
    assert call(metric_baseline, commit="b" * 40, **where)["baseline"] is None
    newest = call(metric_baseline, commit="b" * 40, or_newest=True, **where)
    assert (newest["baseline"], newest["own"]) == (made["baseline"], False)
    assert "is not the id of a commit" in call(metric_baseline, commit="../x", **where)["msg"]


def test_names_of_watches_never_repeat(tmp_path):
    store = watches.Store(str(tmp_path))
    os.makedirs(store.directory)
    names = []
    for _number in range(3):
        names.append(store.new(1_700_000_000.0))
        (tmp_path / "monitor" / f"{names[-1]}.jsonl").touch()
    assert names == sorted(set(names))
    assert store.newest() == names[-1]
