"""What a rehearsal and a switch are at is shown while they go on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.sparklio.rollback.plugins.action import (
    database_rehearsal,
    database_switch,
    object_snapshot,
    pg_backup,
    pg_verify,
)
from ansible_collections.sparklio.rollback.plugins.module_utils import transfer

FAR = {"pid": 7, "done": 10**6, "about": 10**8, "seconds": 3}
AT = {"pid": 7, "at": "taking back r2, 1 of 2"}


def run(monkeypatch, action, looks, **arguments):
    """Returns the result, what was shown, and the calls of modules."""
    clock, shown, calls, looks = [0.0], [], [], [*looks, {"started": 1, "finished": 1, "verdict": "pass"}]
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args=arguments, check_mode=False, async_val=0)
    plugin._display = SimpleNamespace(display=shown.append)
    plugin._remote_expand_user = lambda path: path
    plugin.get_shell_option = lambda name, default: default

    def execute(name, arguments=None, task_vars=None, wrap_async=False):
        calls.append((name, (arguments or {}).get("progress"), wrap_async))
        return {"ansible_job_id": "j1"} if wrap_async else {"verdict": "pass"}

    def look(text, sudoable):
        found = looks[0] if text.startswith("rm") else looks.pop(0)
        told = "" if "finished" in found else json.dumps(found)
        return {"stdout": json.dumps({"started": 1} if told else found) + "\n" + told}

    looks.append(looks[-1])
    plugin._execute_module, plugin._low_level_execute_command = execute, look
    monkeypatch.setattr(pg_backup.ActionBase, "run", lambda *_arguments: {})
    wait = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(pg_backup, "time", wait)
    return plugin.run(None, {"inventory_hostname": "app", "ansible_play_hosts_all": ["app"]}), shown, calls


@pytest.mark.parametrize(
    ("action", "place", "what"),
    [(pg_verify, "path", "restore / 복원"), (object_snapshot, "dest", "objects / 오브젝트")],
)
def test_it_shows_how_far_the_restore_and_the_copying_are(monkeypatch, action, place, what):
    result, shown, calls = run(monkeypatch, action, [FAR] * 6, **{place: "/b/part"})
    assert result == {"verdict": "pass"}
    assert calls == [(action.ActionModule.module, "/b/part.progress", True)]
    assert shown and shown[0].startswith(f"{what}: ") and "100.0 MB" in shown[0]


@pytest.mark.parametrize(
    ("action", "what"), [(database_rehearsal, "rehearsal / 예행"), (database_switch, "switch / 전환")]
)
def test_it_shows_which_revision_it_is_at(monkeypatch, action, what):
    result, shown, calls = run(monkeypatch, action, [AT] * 8, schema_file="/r/schema.json")
    assert result == {"verdict": "pass"}
    assert calls == [(action.ActionModule.module, "/r/schema.json.progress", True)]
    assert shown[0] == f"{what}: taking back r2, 1 of 2, 0:03 so far" and shown[-1] > shown[0]


def test_nobody_looks_where_it_takes_a_moment(monkeypatch):
    result, shown, calls = run(monkeypatch, database_switch, [], schema_file="/r/s.json", show_progress=False)
    assert (result, shown, calls) == ({"verdict": "pass"}, [], [("sparklio.rollback.database_switch", None, False)])
    # One without a rehearsal, such as an undo, has no place for it.
    assert run(monkeypatch, database_switch, [])[2] == [("sparklio.rollback.database_switch", None, False)]


def test_old_snapshots_are_removed_at_once(monkeypatch):
    assert run(monkeypatch, object_snapshot, [], state="absent", ids=["x"])[2] == [
        ("sparklio.rollback.object_snapshot", None, False)
    ]


def test_each_revision_is_told_when_the_one_before_it_is_done(tmp_path):
    path = tmp_path / "schema.json.progress"

    def told():
        return json.loads(path.read_text())["at"]

    with transfer.told(str(path)):
        done = transfer.Teller(str(path)).revisions(["r2", "r1"])
        assert told() == "taking back r2, 1 of 2"
        done({"revision": "r2", "seconds": 0.1})
        assert told() == "taking back r1, 2 of 2"
        done({"revision": "r1", "seconds": 0.1})
        assert told() == "taking back r1, 2 of 2"
    assert not path.exists()
    transfer.Teller(None).revisions(["r2"])({"revision": "r2"})
