from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import process
from ansible_collections.sparklio.rollback.plugins.modules import systemd_unit_info as module

needs_proc = pytest.mark.skipif(not process.HAS_PROC, reason="without /proc no environment is shown")


@pytest.fixture
def unit(call, tmp_path, monkeypatch):
    tool = tmp_path / "bin/systemctl"
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")

    def run(*more, pid=0, code=0, reload="no", keys=("A", "B"), files=(".env",)):
        lines = ["LoadState=loaded", "ActiveState=active", f"MainPID={pid}", f"CanReload={reload}", *more]
        text = "\n".join(lines)
        tool.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n[ {code} = 0 ] || echo no bus >&2\nexit {code}\n")
        tool.chmod(0o755)
        asked = {"files": [str(tmp_path / name) for name in files], "keys": list(keys)}
        return call(module, name="sparklio-backend", variables=asked)

    run.root = tmp_path
    (tmp_path / ".env").write_text("A=canary-a\nB=canary-b\n")
    return run


@pytest.fixture
def sleeper():
    started = []

    def start(**environment):
        command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return started[-1].pid

    yield start
    for item in started:
        item.kill()
        item.wait()
        item.stdout.close()


@needs_proc
def test_what_the_unit_sets_is_told_by_name_alone(unit, sleeper):
    pid = sleeper(A="canary-other", C="canary-c")
    found = unit("Environment=A=canary-other C=canary-c", pid=pid, keys=("A", "B", "C"))
    assert (found["overridden"], found["unknown"]) == (["A", "C"], [])
    assert found["found"] and found["running"] and not found["reloadable"]
    assert abs(found["serving_since"] - process.get(pid).started) < 1 and "canary" not in str(found)


@needs_proc
def test_what_comes_from_a_restored_file_is_not_the_units_own(unit, sleeper):
    pid = sleeper(A="canary-a", B="canary-earlier", C="canary-c")
    (unit.root / "other").write_text("C=canary-c\n")
    (unit.root / "link").symlink_to(".env")
    files = [f"EnvironmentFiles={unit.root}/{name} (ignore_errors=no)" for name in ("link", "oth*")]
    found = unit("Environment=", *files, pid=pid, keys=("A", "B", "C"))
    assert (found["overridden"], found["unknown"]) == (["C"], [])


def test_where_the_process_may_not_be_seen_systemctl_tells(unit, monkeypatch):
    monkeypatch.setattr(process, "environment", lambda pid: None)
    assert unit("Environment=A=canary", pid=1)["overridden"] == ["A"]
    (unit.root / "closed").mkdir()
    found = unit("Environment=A=canary", f"EnvironmentFiles={unit.root}/closed (ignore_errors=no)", pid=1)
    assert (found["overridden"], found["unknown"]) == (["A"], ["B"])


def test_nothing_is_read_where_nothing_is_asked(unit, monkeypatch):
    monkeypatch.setattr(process, "environment", None)
    found = unit("Environment=A=canary", pid=1, keys=())
    assert (found["overridden"], found["unknown"]) == ([], [])


def test_after_a_reload_the_workers_count(monkeypatch):
    def item(pid, started, *argv):
        return process.Process(pid, 1, 0, started, argv, None)

    helper = item(3, 10.0, "python", "-c", "from multiprocessing.resource_tracker import main")
    monkeypatch.setattr(process, "get", lambda pid: item(pid, 5.0))
    monkeypatch.setattr(process, "children", lambda pid: [item(2, 100.0), helper, item(4, 101.0)])
    assert module.serving_since(module._systemd.Unit(True, True, True, 1, None, ())) == 100.0
    assert module.serving_since(module._systemd.Unit(True, True, False, 1, None, ())) == 5.0
    assert module.serving_since(module._systemd.Unit(True, False, False, 0, None, ())) == 0


def test_a_systemctl_that_fails_is_named(unit):
    found = unit(code=1)
    assert found["failed"] and found["msg"].startswith("systemctl show sparklio-backend failed: no bus.")
