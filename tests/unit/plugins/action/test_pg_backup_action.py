from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.sparklio.rollback.plugins.action import pg_backup

WAITING = {"started": True, "finished": False, "ansible_job_id": "j1.2"}
DONE = {"changed": True, "artifact": {"name": "database"}}


def look(answer=WAITING, gone=False, **state):
    text = json.dumps(answer) + "\n" + (json.dumps({"pid": 77, **state}) if state else "")
    return text + (f"\n{pg_backup.GONE}\n" if gone else "")


class Controller:
    """The action plugin with what the host shows at each look, and the only clock."""

    def __init__(self, monkeypatch, looks, check=False, async_val=0, **arguments):
        self.now, self.looks, self.commands, self.shown, self.calls = 0.0, list(looks), [], [], []
        self.plugin = pg_backup.ActionModule.__new__(pg_backup.ActionModule)
        arguments = {"dest": "/b/database", **arguments}
        self.plugin._task = SimpleNamespace(args=arguments, check_mode=check, async_val=async_val)
        self.plugin._display = SimpleNamespace(display=self.shown.append, vv=lambda text: None)
        self.plugin._execute_module = self.execute
        self.plugin._low_level_execute_command = self.command
        self.plugin._remote_expand_user = lambda path: path.replace("~", "/home/x")
        self.plugin.get_shell_option = lambda name, default: default
        monkeypatch.setattr(pg_backup.ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(pg_backup, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds):
        self.now += seconds

    def execute(self, name, arguments=None, task_vars=None, wrap_async=False):
        self.calls.append((arguments, wrap_async, self.plugin._task.async_val))
        return dict(WAITING) if wrap_async else dict(DONE)

    def command(self, text, sudoable):
        self.commands.append(text)
        if text.startswith("rm"):
            return {}
        found = self.looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return {"stdout": found}

    def run(self):
        return self.plugin.run(None, {"inventory_hostname": "app", "ansible_play_hosts_all": ["app"]})


def test_it_shows_how_far_it_is_and_hands_out_the_result(monkeypatch):
    states = [look(done=number * 10**6, about=10**8, seconds=number) for number in range(1, 12)]
    controller = Controller(monkeypatch, [look(), *states, look(DONE)])
    assert controller.run() == DONE
    ((arguments, wrapped, limit),) = controller.calls
    assert wrapped and limit == 7500 and arguments["progress"] == "/b/database.progress"
    assert controller.plugin._task.async_val == 0
    assert 3 <= len(controller.shown) <= 6
    assert controller.shown[-1].startswith("database: ") and " of about 100.0 MB, about " in controller.shown[-1]
    assert "touch /b/database.progress.seen" in controller.commands[0]
    assert controller.commands[-1] == (
        "rm -f /home/x/.ansible_async/j1.2 /b/database.progress /b/database.progress.seen"
    )


@pytest.mark.parametrize("more", [{"check": True}, {"show_progress": False}])
def test_without_progress_it_is_called_as_any_module(monkeypatch, more):
    controller = Controller(monkeypatch, [], **more)
    assert controller.run() == DONE
    assert controller.calls == [(None, False, 0)] and controller.commands == []


def test_a_module_that_was_killed_is_noticed_and_one_late_answer_is_no_death(monkeypatch):
    first, dead = look(done=1, about=2, seconds=1), look(gone=True, done=1, about=2, seconds=1)
    assert Controller(monkeypatch, [first, dead, dead]).run() == {
        "failed": True,
        "msg": "The database was not backed up: it was killed on the host. Run it again.",
    }
    controller = Controller(monkeypatch, [first, dead, look(DONE)])
    assert controller.run() == DONE
    assert "kill -0 77" in controller.commands[1]


def test_what_the_wrapper_says_of_a_dead_module(monkeypatch):
    controller = Controller(monkeypatch, [look({"failed": True, "cmd": "x", "msg": "Traceback"})])
    assert controller.run()["msg"] == "The database was not backed up: it was killed on the host. Run it again."


def test_a_host_that_is_out_of_reach_for_a_while(monkeypatch):
    lost = AnsibleConnectionFailure("lost")
    assert Controller(monkeypatch, [look(), lost, lost, look(DONE)]).run() == DONE
    controller = Controller(monkeypatch, [look(), *[lost] * 100])
    with pytest.raises(AnsibleConnectionFailure):
        controller.run()
    assert pg_backup.PATIENCE < controller.now < pg_backup.PATIENCE + 10


def test_a_job_without_any_answer(monkeypatch):
    assert "holds no answer" in Controller(monkeypatch, ["no such file"]).run()["msg"]
    controller = Controller(monkeypatch, [look()] * 1000, deadline=10)
    assert "no answer came in time" in controller.run()["msg"]
