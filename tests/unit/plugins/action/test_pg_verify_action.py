from __future__ import annotations

import json
from types import SimpleNamespace

from ansible_collections.sparklio.rollback.plugins.action import pg_backup, pg_verify


def test_it_shows_how_far_the_restore_is(monkeypatch):
    clock, shown, calls = [0.0], [], []
    state = {"pid": 7, "done": 10**6, "about": 10**8, "seconds": 3}
    looks = [json.dumps({"started": 1}) + "\n" + json.dumps(state)] * 6
    looks.append(json.dumps({"started": 1, "finished": 1, "verdict": "pass"}))
    plugin = pg_verify.ActionModule.__new__(pg_verify.ActionModule)
    plugin._task = SimpleNamespace(args={"path": "/b/database"}, check_mode=False, async_val=0)
    plugin._display = SimpleNamespace(display=shown.append)
    plugin._remote_expand_user = lambda path: path
    plugin.get_shell_option = lambda name, default: default

    def execute(name, arguments=None, task_vars=None, wrap_async=False):
        calls.append((name, arguments["progress"], wrap_async))
        return {"ansible_job_id": "j1"}

    plugin._execute_module = execute
    plugin._low_level_execute_command = lambda text, sudoable: {} if text.startswith("rm") else {"stdout": looks.pop(0)}
    monkeypatch.setattr(pg_backup.ActionBase, "run", lambda *_arguments: {})
    wait = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(pg_backup, "time", wait)
    result = plugin.run(None, {"inventory_hostname": "app", "ansible_play_hosts_all": ["app"]})
    assert result == {"verdict": "pass"}
    assert calls == [("sparklio.rollback.pg_verify", "/b/database.progress", True)]
    assert shown and shown[0].startswith("restore / 복원: ") and "100.0 MB" in shown[0]
