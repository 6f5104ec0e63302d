from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import run_journal, run_lock

SCRIPT = """
import sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.modules import run_lock
with patch_module_args({"state_dir": sys.argv[1], "level": "level1", "owner": sys.argv[2]}):
    sys.stdin.readline()
    run_lock.main()
"""


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path / "app.rollback")


def records(*items):
    return [{"event": "act", "act": "switch", "status": "begun"}, *items]


END = {"event": "end", "outcome": "rolled_back"}
INTENT = {"event": "step", "act": "switch", "step": "checkout", "status": "intent", "detail": {"from": "b"}}


def test_a_run_begins_and_ends(call, state_dir):
    first = call(run_lock, state_dir=state_dir, level="level1", owner="kim")
    assert first["run_id"].endswith("-level1") and os.path.isdir(first["run_dir"])
    refused = call(run_lock, state_dir=state_dir, level="level1", owner="lee")
    assert refused["failed"] and "of kim is under way" in refused["msg"]
    assert f"rollback_lock_takeover={first['run_id']}" in refused["msg"]
    call(run_lock, state_dir=state_dir, state="absent", run_id=first["run_id"])
    again = call(run_lock, state_dir=state_dir, level="level1", owner="lee")
    # Even within the same second it is another run.
    assert not again.get("failed") and again["run_id"] != first["run_id"]


def test_two_processes_at_once_get_one_lock(state_dir):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    runs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, state_dir, owner], stdin=-1, stdout=-1, text=True, env=env)
        for owner in ("kim", "lee")
    ]
    for item in runs:
        item.stdin.write("go\n")
        item.stdin.flush()
    found = [json.loads(item.communicate(timeout=60)[0]) for item in runs]
    assert sorted(item.get("failed", False) for item in found) == [False, True]


def test_check_mode_takes_nothing_and_sees_the_lock(call, state_dir):
    assert not call(run_lock, check=True, state_dir=state_dir).get("failed")
    assert not os.path.exists(state_dir)
    call(run_lock, state_dir=state_dir, owner="kim")
    assert "of kim is under way" in call(run_lock, check=True, state_dir=state_dir)["msg"]


def test_a_cut_off_run_is_resumed_with_what_it_left(call, state_dir):
    run_id = call(run_lock, state_dir=state_dir, owner="kim")["run_id"]
    call(run_journal, state_dir=state_dir, run_id=run_id, records=records(INTENT))
    past = time.time() - 400
    os.utime(os.path.join(state_dir, "lock"), (past, past))
    refused = call(run_lock, state_dir=state_dir, owner="lee")
    assert f"Run {run_id} was cut off in act switch" in refused["msg"] and "playbooks/resume.yml" in refused["msg"]
    resumed = call(run_lock, state_dir=state_dir, owner="lee", resume=True)
    assert resumed["run_id"] == run_id and resumed["resumed"]["act"] == "switch"
    assert [(item["step"], item["detail"]) for item in resumed["pending"]] == [("checkout", {"from": "b"})]


def test_there_may_be_nothing_to_resume(call, state_dir):
    assert call(run_lock, state_dir=state_dir, resume=True)["run_id"] == ""
    assert not os.path.exists(os.path.join(state_dir, "lock"))


def test_earlier_runs_are_told(call, state_dir):
    run_id = call(run_lock, state_dir=state_dir)["run_id"]
    run = {"event": "run", "from": {"tag": "v2", "date": 2}, "to": {"tag": "v1", "date": 1}, "level": 1}
    call(run_journal, state_dir=state_dir, run_id=run_id, records=[run, {"event": "end", "outcome": "rolled_back"}])
    call(run_lock, state_dir=state_dir, state="absent", run_id=run_id)
    found = call(run_lock, state_dir=state_dir)
    assert [(item["run_id"], item["outcome"]) for item in found["history"]] == [(run_id, "rolled_back")]


def test_a_state_directory_that_is_a_file_gets_one_line(call, tmp_path):
    (tmp_path / "file").write_text("")
    found = call(run_lock, state_dir=str(tmp_path / "file"))
    assert found["failed"] and "can't be used" in found["msg"] and "\n" not in found["msg"]


def test_the_journal_answers_what_is_open(call, state_dir):
    run_id = call(run_lock, state_dir=state_dir)["run_id"]
    found = call(run_journal, state_dir=state_dir, run_id=run_id, records=records(INTENT))
    assert [item["step"] for item in found["pending"]] == ["checkout"] and found["outcome"] is None
    undo = {"event": "undo", "act": "undo", "step": "checkout", "status": "done"}
    found = call(
        run_journal, state_dir=state_dir, run_id=run_id, records=[undo, {"event": "end", "outcome": "reverted"}]
    )
    assert found["pending"] == [] and found["outcome"] == "reverted"


def test_the_journal_of_a_run_without_the_lock_stops_it(call, state_dir):
    run_id = call(run_lock, state_dir=state_dir)["run_id"]
    call(run_lock, state_dir=state_dir, state="absent", run_id=run_id)
    found = call(run_journal, state_dir=state_dir, run_id=run_id, records=records())
    assert found["failed"] and "no longer holds the lock" in found["msg"]


def test_check_mode_writes_no_journal(call, state_dir):
    run_id = call(run_lock, state_dir=state_dir)["run_id"]
    call(run_journal, check=True, state_dir=state_dir, run_id=run_id, records=records())
    assert State(state_dir).read(run_id) == []


def test_a_run_that_died_before_any_change_only_leaves_its_lock(call, state_dir):
    first = call(run_lock, state_dir=state_dir, owner="minji@console")["run_id"]
    call(run_journal, state_dir=state_dir, run_id=first, records=[{"event": "act", "act": "prepare"}])
    alive = call(run_lock, state_dir=state_dir, resume=True)
    assert alive["failed"] and f"rollback_lock_takeover={first}" in alive["msg"]
    assert call(run_lock, check=True, state_dir=state_dir, resume=True, stale_after=0)["cleared"] is None
    found = call(run_lock, state_dir=state_dir, resume=True, stale_after=0)
    assert (found["run_id"], found["cleared"]) == ("", first)
    assert call(run_journal, state_dir=state_dir, run_id=first)["outcome"] == "abandoned"
    # The next one need not wait for the lock to grow old.
    assert call(run_lock, state_dir=state_dir)["run_id"] != first


@pytest.fixture
def over(call, state_dir):
    """A run that is over and holds."""
    run_id = call(run_lock, state_dir=state_dir, level="level3", owner="kim")["run_id"]
    run = {"event": "run", "level": 3, "from": {"tag": "v2"}, "to": {"tag": "v1"}}
    intent = {**INTENT, "step": "database", "detail": {"oid": 16384}}
    ended = {"event": "end", "outcome": "rolled_back"}
    call(run_journal, state_dir=state_dir, run_id=run_id, records=[run, *records(intent), ended])
    call(run_lock, state_dir=state_dir, state="absent", run_id=run_id)
    return run_id


def test_a_run_that_is_over_is_opened_again(call, state_dir, over):
    found = call(run_lock, check=True, state_dir=state_dir, reopen=over)
    assert found["run_id"] == over and State(state_dir).read(over)[-1]["event"] == "end"
    found = call(run_lock, state_dir=state_dir, reopen=over, owner="lee")
    assert (found["run_id"], found["resumed"]["level"], found["history"]) == (over, 3, [])
    assert [(item["step"], item["detail"]) for item in found["pending"]] == [("database", {"oid": 16384})]
    last = State(state_dir).read(over)[-1]
    assert (last["event"], last["owner"]) == ("reopened", "lee")
    # While it is taken back nobody else begins, not even the same undo.
    assert "of lee is under way" in call(run_lock, state_dir=state_dir, reopen=over)["msg"]


def test_a_second_undo_is_refused(call, state_dir, over):
    call(run_lock, state_dir=state_dir, reopen=over)
    undone = {"event": "undo", "act": "undo", "step": "database", "status": "done"}
    call(run_journal, state_dir=state_dir, run_id=over, records=[undone, {"event": "end", "outcome": "undone"}])
    call(run_lock, state_dir=state_dir, state="absent", run_id=over)
    for check in (True, False):
        found = call(run_lock, check=check, state_dir=state_dir, reopen=over)
        assert found["failed"] and f"Run {over} ended as undone" in found["msg"]
    assert State(state_dir).holder() is None


def test_one_that_is_killed_while_it_is_taken_back_is_resumed(call, state_dir, over):
    call(run_lock, state_dir=state_dir, reopen=over)
    past = time.time() - 400
    os.utime(os.path.join(state_dir, "lock"), (past, past))
    refused = call(run_lock, state_dir=state_dir)
    assert f"Run {over} was cut off" in refused["msg"] and "playbooks/resume.yml" in refused["msg"]
    found = call(run_lock, state_dir=state_dir, resume=True)
    assert found["run_id"] == over and [item["step"] for item in found["pending"]] == ["database"]


def test_an_unknown_run_is_not_opened_and_leaves_no_lock(call, state_dir, over):
    found = call(run_lock, state_dir=state_dir, reopen="20200101-000000-level3")
    assert found["failed"] and over in found["msg"] and State(state_dir).holder() is None
    assert call(run_lock, state_dir=state_dir, reopen=over, resume=True)["failed"]


def test_the_last_records_are_written_before_the_lock_is_given_back(call, state_dir):
    run = call(run_lock, state_dir=state_dir, level="level1", owner="kim")["run_id"]
    last = [{"event": "verdicts"}, END]
    checked = call(run_lock, state_dir=state_dir, state="absent", run_id=run, records=last, check=True)
    assert not checked.get("failed") and State(state_dir).read(run) == [] and State(state_dir).holder()["run_id"] == run
    assert not call(run_lock, state_dir=state_dir, state="absent", run_id=run, records=last).get("failed")
    assert [item["event"] for item in State(state_dir).read(run)] == ["verdicts", "end"]
    assert State(state_dir).holder() is None


def test_a_journal_that_cannot_be_written_does_not_keep_the_lock(call, state_dir):
    run = call(run_lock, state_dir=state_dir, level="level1", owner="kim")["run_id"]
    os.mkdir(State(state_dir).journal_path(run))
    failed = call(run_lock, state_dir=state_dir, state="absent", run_id=run, records=[END])
    assert failed["failed"] and "can't be used" in failed["msg"]
    assert not os.path.exists(State(state_dir).lock_path)


def test_a_run_that_lost_its_lock_leaves_that_of_the_other(call, state_dir):
    call(run_lock, state_dir=state_dir, run_id="20250115-161502-level1", owner="kim")
    other = call(run_lock, state_dir=state_dir, owner="lee", stale_after=0)["run_id"]
    failed = call(run_lock, state_dir=state_dir, state="absent", run_id="20250115-161502-level1", records=[END])
    assert failed["failed"] and f"run {other} of lee does" in failed["msg"]
    assert State(state_dir).holder()["run_id"] == other
