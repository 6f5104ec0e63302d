from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.sparklio.rollback.plugins.action import metric_watch

TALLY = {"bad_in_row": 0, "bad": 0, "errors_in_row": 0, "errors": 0, "recovered_at": None}
LIMITS = dict.fromkeys(
    (
        "error_rate_percent",
        "agent_failure_percent",
        "mean_seconds",
        "p95_seconds",
        "baseline_ratio",
        "cpu_percent",
        "memory_percent",
    )
)


def answer(number=0, over=False, **more):
    window = {"n": number, "t": 30.0 * number, "seconds": 30.0, "gap": False, "state": "good", "breaches": []}
    return {
        "watch": "w1",
        "release": {"tag": "v1", "commit": "a" * 40},
        "continued": False,
        "began": 0.0,
        "baseline": None,
        "limits": LIMITS,
        "windows": [],
        "window": window if number else None,
        "tally": TALLY,
        "left": 1800 - 30.0 * number,
        "due_in": 30.0,
        "over": over,
        "outcome": "good" if over else None,
        **more,
    }


class Controller:
    """The action plugin with answers of the module, and the only clock: calls take two seconds, sleeps too long."""

    def __init__(self, monkeypatch, answers, hosts=("app",), check=False, **arguments):
        self.now, self.answers, self.calls, self.shown = 100.0, list(answers), [], []
        self.plugin = metric_watch.ActionModule.__new__(metric_watch.ActionModule)
        self.plugin._task = SimpleNamespace(args=arguments, check_mode=check)
        self.plugin._display = SimpleNamespace(display=lambda text, color=None: self.shown.append(text))
        self.plugin._execute_module = self.execute
        monkeypatch.setattr(metric_watch.ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(metric_watch, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        self.hosts = hosts

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds + 0.1

    def execute(self, name, arguments, task_vars):
        self.calls.append((self.now, arguments))
        self.now += 2
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def run(self):
        return self.plugin.run(None, {"inventory_hostname": "app", "ansible_play_hosts_all": list(self.hosts)})


def test_readings_are_evenly_spaced_however_long_a_call_takes(monkeypatch):
    controller = Controller(
        monkeypatch, [answer(), *(answer(number) for number in range(1, 60)), answer(60, over=True)]
    )
    result = controller.run()
    times = [at for at, _arguments in controller.calls]
    assert times[60] - times[1] == pytest.approx(59 * 30)
    assert all(after - before == pytest.approx(30) for before, after in pairwise(times[1:]))
    assert (len(result["windows"]), result["outcome"]) == (60, "good")
    assert result["_ansible_verbose_override"]


def test_the_first_call_finds_the_watch_and_the_others_name_it(monkeypatch):
    controller = Controller(monkeypatch, [answer(), answer(1, over=True)], duration=60, window=30)
    controller.run()
    assert [arguments.get("watch") for _at, arguments in controller.calls] == [None, "w1"]


def test_a_line_a_window_and_the_headings_again_after_a_while(monkeypatch):
    controller = Controller(
        monkeypatch, [answer(), *(answer(number) for number in range(1, 25)), answer(25, over=True)]
    )
    controller.run()
    assert sum("agent failures" in line and "requests" in line for line in controller.shown) == 2
    assert sum("✓" in line for line in controller.shown) == 25


def test_a_watch_that_goes_on_shows_what_was_before_and_waits_for_the_rest_of_the_window(monkeypatch):
    before = [answer(1)["window"], answer(2)["window"]]
    controller = Controller(
        monkeypatch, [answer(window=None, windows=before, continued=True, due_in=12.0), answer(3, over=True)]
    )
    result = controller.run()
    assert controller.calls[1][0] - controller.calls[0][0] == pytest.approx(14.1)
    assert [window["n"] for window in result["windows"]] == [1, 2, 3]
    assert result["continued"]
    assert "Goes on with the watch of v1" in controller.shown[1]


def test_a_gap_that_the_first_call_closed_is_shown(monkeypatch):
    gap = {**answer(1)["window"], "gap": True, "seconds": 600.0}
    controller = Controller(monkeypatch, [answer(window=gap, windows=[gap], continued=True), answer(2, over=True)])
    assert len(controller.run()["windows"]) == 2
    assert any("nobody watched for 10:00" in line for line in controller.shown)


def test_a_host_that_is_lost_is_tried_again_and_its_window_is_not_lost(monkeypatch):
    lost = AnsibleConnectionFailure("no route to host")
    controller = Controller(monkeypatch, [answer(), lost, lost, lost, answer(1), lost, answer(2, over=True)])
    assert controller.run()["outcome"] == "good"
    assert sum("can't be reached, trying again" in line for line in controller.shown) == 4


def test_a_host_that_stays_lost_is_unreachable(monkeypatch):
    lost = AnsibleConnectionFailure("no route to host")
    controller = Controller(monkeypatch, [answer(), lost, lost], errors_in_row=2)
    with pytest.raises(AnsibleConnectionFailure):
        controller.run()


def test_it_does_not_outlive_the_playbook_that_it_belongs_to(monkeypatch):
    controller = Controller(monkeypatch, [answer(), *(answer(number) for number in range(1, 60))])
    monkeypatch.setattr(metric_watch, "os", SimpleNamespace(getppid=lambda: 1 if len(controller.calls) > 3 else 4711))
    with pytest.raises(AnsibleError, match="start it again"):
        controller.run()
    assert len(controller.calls) == 4


@pytest.mark.parametrize("answers", [[{"failed": True, "msg": "x"}], [answer(), {"failed": True, "msg": "x"}]])
def test_a_failure_ends_it(monkeypatch, answers):
    result = Controller(monkeypatch, answers).run()
    assert (result["failed"], result["msg"]) == (True, "x")


def test_check_mode_reads_once(monkeypatch):
    controller = Controller(monkeypatch, [answer()], check=True)
    controller.run()
    assert len(controller.calls) == 1


def test_several_hosts_are_told_apart(monkeypatch):
    controller = Controller(monkeypatch, [answer(), answer(1, over=True)], hosts=("app", "app2"))
    controller.run()
    assert all(line.startswith("app: ") for line in controller.shown)
