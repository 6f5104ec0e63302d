from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch
from ansible_collections.sparklio.rollback.plugins.modules import metric_wait as module

NAME = "sparklio_active_workflows"
URL = "http://app/metrics"
DEFAULTS = {
    "urls": [URL],
    "metric": NAME,
    "selector": "",
    "condition": None,
    "stable_readings": 1,
    "deadline": 300.0,
    "interval": 2.0,
}


class World:
    """A backend whose workflows end, and the only clock there is."""

    def __init__(self, **ends):
        self.now = 0.0
        self.ends = ends
        self.down = lambda now: False
        self.starts = [1.0]
        self.readings = 0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds + 0.001

    def read(self, url):
        self.readings += 1
        if self.down(self.now):
            raise fetch.FetchError(f"GET {url}: connection refused: nothing listens there")
        series = {(("workflow_type", name),): float(self.now < end) for name, end in self.ends.items()}
        samples = {"process_start_time_seconds": {(): self.starts[self.readings % len(self.starts)]}}
        if series:
            samples[NAME] = series
        return ex.Exposition(samples, {NAME: "gauge"})

    def wait(self, **options):
        settings = module.Settings({**DEFAULTS, **options})
        return module.wait(settings, self.read, lambda url: [NAME, "up"], self.clock, self.sleep)


def test_it_ends_as_soon_as_nothing_is_left():
    found = World(campaign=10, reel=3).wait()
    assert (found["verdict"], found["met"], found["value"], found["left"]) == ("pass", True, 0.0, {})
    assert 10 <= found["seconds"] < 12.1
    assert found["evidence"].startswith(f"{NAME} is 0 after 10.0")
    assert [sample["value"] for sample in found["samples"]] == [2.0, 1.0, 0.0]
    assert found["query"] == f"sum({NAME}) == 0"


def test_a_gauge_that_was_never_set_is_zero():
    found = World().wait()
    assert (found["verdict"], found["seconds"], found["readings"]) == ("pass", 0.0, 1)


def test_at_the_deadline_it_says_what_was_left():
    found = World(campaign=1000, reel=3).wait()
    assert (found["verdict"], found["met"], found["value"]) == ("fail", False, 1.0)
    assert found["left"] == {'workflow_type="campaign"': 1.0}
    assert 300 <= found["seconds"] < 300.1
    assert found["evidence"] == f'{NAME} is 1 and not == 0 after 300.0 s: workflow_type="campaign" 1'


def test_a_deadline_of_zero_reads_once():
    found = World(campaign=1000).wait(deadline=0.0)
    assert (found["verdict"], found["readings"], found["seconds"]) == ("fail", 1, 0.0)


def test_several_readings_in_a_row():
    world = World()
    world.read = lambda url: ex.Exposition({NAME: {(): float(world.now < 7 or 9 < world.now < 11)}}, {})
    found = world.wait(stable_readings=3)
    assert found["verdict"] == "pass" and 16 <= found["seconds"] < 16.1
    found = World(campaign=299).wait(stable_readings=3)
    assert found["verdict"] == "pass" and 304 <= found["seconds"] < 304.3


def test_other_conditions():
    world = World(campaign=1000, reel=5)
    assert world.wait(condition={"op": "<=", "value": 1.0})["seconds"] == pytest.approx(6, abs=0.01)
    found = World(campaign=1000).wait(condition={"op": ">", "value": 1.0}, deadline=4.0)
    assert "is 1 and not > 1 after 4.0 s" in found["evidence"]


def test_outages_are_bridged_up_to_the_deadline():
    world = World(campaign=50)
    world.down = lambda now: 5 < now < 100
    found = world.wait()
    assert found["verdict"] == "pass" and 100 < found["seconds"] < 103
    assert len(found["samples"]) == 3
    world = World(campaign=1000)
    world.down = lambda now: now > 5
    found = world.wait()
    assert found["verdict"] == "error" and found["seconds"] < 300.1
    assert found["evidence"].startswith("GET http://app/metrics: connection refused")
    assert f'before that {NAME} is 1 after 300.0 s: workflow_type="campaign" 1' in found["evidence"]


def test_two_processes_behind_one_port_are_an_error():
    world = World(campaign=1000)
    world.starts = [1.0, 2.0]
    found = world.wait()
    assert found["verdict"] == "error" and "take turns" in found["evidence"]
    assert found["seconds"] < 10


def test_a_restart_takes_the_workflows_with_it():
    world = World(campaign=1000)
    world.starts = [1.0] * 3 + [2.0] * 100
    read = world.read

    def restarted(url):
        if world.now > 5:
            world.ends = {}
        return read(url)

    world.read = restarted
    assert world.wait()["verdict"] == "pass"


def test_two_instances_are_summed():
    found = World(campaign=1000).wait(urls=[URL, URL + "2"], deadline=0.0)
    assert found["left"] == {'workflow_type="campaign"': 2.0}


def test_a_misspelt_metric_is_an_error_at_once():
    found = World().wait(metric="sparklio_active_workflow")
    assert (found["verdict"], found["seconds"]) == ("error", 0.0)
    assert f"the nearest names are {NAME}" in found["evidence"]


@pytest.mark.parametrize(
    "options", [{"urls": []}, {"selector": "x"}, {"stable_readings": 0}, {"deadline": -1.0}, {"interval": 0.0}]
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(ValueError):
        module.Settings({**DEFAULTS, **options})


@pytest.mark.parametrize(
    ("path", "verdict", "message"),
    [
        ("idle", "pass", f"{NAME} is 0 after"),
        ("busy", "fail", 'workflow_type="reel" 3'),
        ("odd", "error", "holds the value nan"),
        ("kind", "error", "is a counter, not a gauge"),
        ("other", "error", f"the nearest names are {NAME}s"),
        ("html", "error", "not metrics"),
        ("gone", "error", "answered 404"),
    ],
)
def test_what_real_endpoints_answer(web, call, path, verdict, message):
    pages = web(
        {
            "/idle": f"# TYPE {NAME} gauge\n",
            "/busy": f'{NAME}{{workflow_type="reel"}} 3\n',
            "/odd": f"{NAME} NaN\n",
            "/kind": f"# TYPE {NAME} counter\n{NAME} 1\n",
            "/other": f"{NAME}s 1\n",
            "/html": "<html></html>\n",
        }
    )
    found = call(module, urls=[pages + path], deadline=0)
    assert found["verdict"] == verdict
    assert message in found["evidence"]
    assert found["changed"] is False


def test_the_lock_of_the_run_is_kept_alive(web, call, tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"run_id": "r1", "owner": "me"}))
    os.utime(lock, (0, 0))
    original = module.Recorder.heartbeat
    monkeypatch.setattr(module.Recorder, "heartbeat", lambda self: original(self, 0.01))
    pages = web({"/busy": f"{NAME} 3\n"})
    options = {"urls": [pages + "busy"], "deadline": 0.2, "heartbeat": {"state_dir": str(tmp_path), "run_id": "r1"}}
    call(module, check=True, **options)
    assert lock.stat().st_mtime == 0
    assert call(module, **options)["verdict"] == "fail"
    assert time.time() - lock.stat().st_mtime < 60


def test_nothing_listens(call):
    found = call(module, urls=["http://user:hunter22@127.0.0.1:1/metrics"], deadline=0)
    assert found["verdict"] == "error"
    assert "connection refused" in found["evidence"] and "hunter22" not in found["evidence"]


def test_bad_settings_fail_in_one_line(call):
    assert "interval must be over 0" in call(module, urls=["http://127.0.0.1:1"], interval=0)["msg"]
