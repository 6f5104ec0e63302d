from __future__ import annotations

import json
import sys

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import pm2_app as module

FAKE = """#!{python}
import json, sys, time
path = {path!r}
state = json.load(open(path))
state["calls"].append(sys.argv[1:])
if sys.argv[1] == "jlist":
    print(state["notice"])
    print(json.dumps(state["apps"]))
    print(state["after"])
elif state["breaks"] == "hang":
    time.sleep(60)
elif state["breaks"] == "exit":
    print("[PM2][ERROR] Process x not found", file=sys.stderr)
    sys.exit(1)
else:
    for app in state["apps"]:
        app["pid"] += 0 if state["breaks"] == "online" else 1000
        app["pm2_env"].update(pm_uptime=time.time() * 1000, status=state["breaks"] or "online")
json.dump(state, open(path, "w"))
"""


def instance(pid, cwd, mode="cluster_mode", status="online", name="sparklio-frontend"):
    env = {"status": status, "exec_mode": mode, "pm_uptime": 1_700_000_000_000, "restart_time": 2, "pm_cwd": str(cwd)}
    return {"pid": pid, "name": name, "pm2_env": env}


@pytest.fixture
def pm2(call, tmp_path):
    state = State(str(tmp_path / "state"))
    state.acquire("r1", "kim", 300)
    chdir, script, path = tmp_path / "frontend", tmp_path / "pm2", tmp_path / "pm2.json"
    chdir.mkdir()
    script.write_text(FAKE.format(python=sys.executable, path=str(path)))
    script.chmod(0o755)

    def run(name="replaced", apps=None, check=False, notice="", after="", breaks="", **options):
        if apps is not None:
            path.write_text(json.dumps({"apps": apps, "calls": [], "notice": notice, "after": after, "breaks": breaks}))
        journal = {"state_dir": state.path, "run_id": "r1", "act": "switch"}
        given = {"name": "sparklio-frontend", "state": name, "executable": str(script), "chdir": str(chdir)}
        return call(module, check=check, **{**given, "timeout": 1, "journal": journal, **options})

    run.chdir, run.records = chdir, lambda: state.read("r1")
    run.calls = lambda: [item for item in json.loads(path.read_text())["calls"] if item != ["jlist"]]
    return run


NOTICE = "[PM2] Spawning PM2 daemon\n>>>> In-memory PM2 is out-of-date, do:\n[PM2][WARN] x"


@pytest.mark.parametrize(("before", "after"), [("", ""), (NOTICE, ""), ("", "[PM2][WARN] late"), (NOTICE, NOTICE)])
def test_the_list_is_found_among_notices(before, after):
    listed = json.dumps([instance(7, "/a"), instance(8, "/b", name="other"), instance(0, "/a", "fork_mode", "stopped")])
    found = module.parse_list(f"{before}\n{listed}\n{after}", "sparklio-frontend")
    assert [(item["pid"], item["mode"], item["status"]) for item in found] == [
        (7, "cluster", "online"),
        (0, "fork", "stopped"),
    ]
    assert found[0]["started"] == 1_700_000_000 and found[0]["cwd"] == "/a"


@pytest.mark.parametrize(("output", "message"), [("", "no list"), (NOTICE, "no valid JSON"), ("[{]", "no valid JSON")])
def test_an_output_without_a_list_is_said(output, message):
    with pytest.raises(module.Pm2Error, match=message):
        module.parse_list(output, "x")


def test_a_cluster_is_reloaded_and_a_fork_is_restarted(pm2):
    apps = [instance(1, pm2.chdir), instance(2, pm2.chdir)]
    assert pm2(apps=apps, check=True, notice=NOTICE)["method"] == "reload" and pm2.calls() == []
    found = pm2(apps=apps)
    assert found["changed"] and found["method"] == "reload" and pm2.calls() == [["reload", "sparklio-frontend"]]
    assert [item["pid"] for item in found["instances"]] == [1001, 1002]
    assert [item["status"] for item in pm2.records()] == ["intent", "done"]
    assert pm2(apps=[instance(1, pm2.chdir, "fork_mode")])["method"] == "restart"
    # A cluster of which one instance is down can't be reloaded.
    assert pm2(apps=[instance(1, pm2.chdir), instance(2, pm2.chdir, status="stopped")])["method"] == "restart"


def test_a_second_call_with_since_does_nothing(pm2):
    pm2(apps=[instance(1, pm2.chdir)], since=1_700_000_001)
    assert not pm2(since=1_700_000_001)["changed"] and len(pm2.calls()) == 1


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ("exit", "pm2 reload sparklio-frontend exited with 1: [PM2][ERROR]"),
        ("errored", "did not come up under pm2 (1001 errored)"),
        # Online, and still the former process.
        ("online", "did not come up under pm2 (1 online)"),
    ],
)
def test_an_application_that_does_not_come_up_is_a_failure(pm2, breaks, message):
    found = pm2(apps=[instance(1, pm2.chdir)], breaks=breaks)
    assert found["failed"] and message in found["msg"]
    assert len(_journal.pending(pm2.records())) == 1


def test_it_must_answer_too(pm2, port):
    found = pm2(apps=[instance(1, pm2.chdir)], url=f"http://127.0.0.1:{port}/")
    assert found["failed"] and "did not come up" in found["msg"]


def test_a_name_in_another_directory_is_left_alone(pm2, tmp_path):
    apps = [instance(1, tmp_path)]
    found = pm2("observed", apps=apps)
    assert not found["found"] and f"runs in {tmp_path}, not in {pm2.chdir}" in found["conflict"]
    assert pm2(apps=apps)["failed"] and pm2.calls() == [] and pm2.records()[-1]["status"] == "failed"


def test_a_host_without_pm2_or_the_application(pm2, tmp_path):
    found = pm2("observed", executable=str(tmp_path / "none"))
    assert (found["installed"], found["found"]) == (False, False)
    assert "pm2 has no application sparklio-frontend" in pm2(apps=[])["msg"]


def test_a_pm2_that_hangs_is_left_in_time(pm2, monkeypatch):
    pm2(apps=[instance(1, pm2.chdir)], check=True)
    monkeypatch.setattr(module, "COMMAND_SECONDS", 2)
    found = pm2(apps=[instance(1, pm2.chdir)], breaks="hang")
    assert found["failed"] and "did not end within 2 s" in found["msg"] and "pm2 ping" in found["msg"]
    assert pm2.records()[-1]["status"] == "failed"


def test_variables_that_pm2_keeps_are_told(pm2, tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    environments = {1: {"A": "file", "PATH": "/bin"}, 2: {"B": "other"}}
    monkeypatch.setattr(module.process, "environment", environments.get)
    apps = [instance(1, pm2.chdir), instance(2, pm2.chdir)]
    asked = {"files": [str(tmp_path / ".env"), str(tmp_path / "gone")], "keys": ["A", "B", "C"]}
    found = pm2("observed", apps=apps, variables=asked)
    assert (found["inherited"], found["overridden"]) == (["A"], ["B"])
    assert pm2("observed", apps=apps)["inherited"] == []


def stopping(pm2, *apps, breaks="stopped", **options):
    """pm2 keeps an application that it stopped in its list."""
    return pm2("stopped", apps=list(apps), breaks=breaks, **options)


def test_all_instances_are_stopped(pm2):
    apps = [instance(1, pm2.chdir), instance(2, pm2.chdir)]
    assert stopping(pm2, *apps, check=True)["method"] == "stop" and pm2.calls() == [] and pm2.records() == []
    found = stopping(pm2, *apps, notice=NOTICE)
    assert found["changed"] and found["method"] == "stop" and pm2.calls() == [["stop", "sparklio-frontend"]]
    assert {item["status"] for item in found["instances"]} == {"stopped"}
    # An undo has to start what may be stopped: the intent is there first.
    assert [(item["step"], item["status"]) for item in pm2.records()] == [
        ("sparklio-frontend", "intent"),
        ("sparklio-frontend", "done"),
    ]
    assert pm2.records()[0]["detail"] == {"method": "stop", "pids": [1, 2]}
    assert len(_journal.pending(pm2.records())) == 1


@pytest.mark.parametrize("status", ["stopped", "errored"])
def test_what_is_down_already_is_not_stopped_again(pm2, status):
    found = stopping(pm2, instance(0, pm2.chdir, status=status))
    assert (found["changed"], found["method"], pm2.calls(), pm2.records()) == (False, "none", [], [])


def test_an_instance_that_is_about_to_start_is_stopped_too(pm2):
    apps = [instance(0, pm2.chdir, status="stopped"), instance(2, pm2.chdir, status="waiting restart")]
    assert stopping(pm2, *apps)["changed"] and pm2.records()[0]["detail"]["pids"] == [2]


def test_a_stop_that_fails_is_said(pm2, tmp_path):
    found = stopping(pm2, instance(1, pm2.chdir), breaks="exit")
    assert found["failed"] and "pm2 stop sparklio-frontend exited with 1: [PM2][ERROR]" in found["msg"]
    assert pm2.records()[-1]["status"] == "failed" and len(_journal.pending(pm2.records())) == 1
    found = stopping(pm2, instance(1, tmp_path))
    assert found["failed"] and f"runs in {tmp_path}" in found["msg"] and pm2.calls() == []


def test_a_stop_without_a_pm2_is_a_failure(pm2, tmp_path):
    found = pm2("stopped", executable=str(tmp_path / "none"))
    assert found["failed"] and f"no pm2 at {tmp_path}/none, so nothing was stopped" in found["msg"]
