from __future__ import annotations

import json
import multiprocessing
import os
import stat
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import Recorder, RunError, State, write_private

SWITCH = {"act": "switch", "step": "checkout"}


@pytest.fixture
def state(tmp_path):
    return State(str(tmp_path / "app.rollback"))


def age(state, seconds):
    past = time.time() - seconds
    os.utime(state.lock_path, (past, past))


def options(state, run_id, **more):
    return {"state_dir": state.path, "run_id": run_id, "act": "switch", "step": None, "undo": False, **more}


def test_a_second_run_is_refused_with_the_owner_and_the_cure(state):
    state.acquire("r1", "kim@ops", 300)
    with pytest.raises(RunError, match=r"Run r1 of kim@ops is under way .* -e rollback_lock_takeover=r1"):
        state.acquire("r2", "lee", 300)
    assert state.holder()["run_id"] == "r1"


def test_a_lock_without_a_sign_of_life_is_taken_over_and_its_run_is_closed(state):
    state.acquire("r1", "kim", 300)
    state.append("r1", "act", act="check", status="begun")
    age(state, 301)
    state.acquire("r2", "lee", 300)
    assert state.holder()["run_id"] == "r2"
    assert state.read("r1")[-1]["outcome"] == "abandoned"
    with pytest.raises(RunError, match=r"Run r1 no longer holds the lock \(run r2 of lee does\)"):
        state.append("r1", "act", act="switch", status="begun")


def test_a_stale_run_with_open_steps_is_not_walked_over(state):
    state.acquire("r1", "kim", 300)
    state.append("r1", "act", act="switch", status="begun")
    state.append("r1", "step", status="intent", **SWITCH)
    age(state, 301)
    with pytest.raises(RunError, match=r"Run r1 was cut off in act switch and left 1 step.*playbooks/resume\.yml"):
        state.acquire("r2", "lee", 300)
    with pytest.raises(RunError, match="resume"):
        state.acquire("r2", "lee", 300, takeover="r1")
    state.acquire("r1", "lee", 300, resume="r1")
    assert state.holder()["owner"] == "lee"


def test_of_a_dead_run_with_open_steps_the_way_back_is_named_at_once(state):
    state.acquire("r1", "kim@ops", 300)
    state.append("r1", "step", act="switch", step="checkout", status="intent", detail={})
    with pytest.raises(RunError, match=r"take it back: .* playbooks/resume.yml -e rollback_lock_takeover=r1"):
        state.acquire("r2", "lee", 300)
    with pytest.raises(RunError, match=r"dead, add -e rollback_lock_takeover=r1"):
        state.acquire("r1", "lee", 300, resume="r1")


def test_takeover_names_exactly_one_run(state):
    state.acquire("r1", "kim", 300)
    with pytest.raises(RunError, match="Run r1 of kim"):
        state.acquire("r2", "lee", 300, takeover="r0")
    state.acquire("r2", "lee", 300, takeover="r1")
    assert state.holder()["run_id"] == "r2"


def test_every_record_is_a_sign_of_life(state):
    state.acquire("r1", "kim", 300)
    age(state, 299)
    state.append("r1", "act", act="check", status="begun")
    assert state.holder()["age"] < 10


def test_the_heartbeat_goes_on_during_long_work(state):
    state.acquire("r1", "kim", 300)
    recorder = Recorder(options(state, "r1"), False, "python_env")
    age(state, 299)
    with recorder.heartbeat(interval=0.02):
        deadline = time.monotonic() + 5
        while state.holder()["age"] > 10 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert state.holder()["age"] < 10


def test_only_the_holder_gives_the_lock_back(state):
    state.acquire("r1", "kim", 300)
    assert state.release("r2") is False
    assert state.holder()["run_id"] == "r1"
    assert state.release("r1") is True
    assert state.release("r1") is False


def _acquire(path, run_id, barrier, results):
    barrier.wait()
    try:
        State(path).acquire(run_id, "x", 300)
        results.put(run_id)
    except RunError:
        results.put(None)


@pytest.mark.parametrize("stale", [False, True])
def test_of_several_at_once_exactly_one_wins(state, stale):
    if stale:
        state.acquire("r0", "dead", 300)
        age(state, 301)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    runs = [context.Process(target=_acquire, args=(state.path, f"r{n}", barrier, results)) for n in range(1, 7)]
    for item in runs:
        item.start()
    won = [name for name in (results.get(timeout=30) for _ in runs) if name]
    for item in runs:
        item.join()
    assert won == [state.holder()["run_id"]]


def test_a_journal_cut_at_any_byte_can_be_read_and_gone_on_with(state):
    state.acquire("r1", "한", 300)
    state.append("r1", "step", status="intent", **SWITCH)
    whole = len(state.read("r1"))
    state.append("r1", "step", status="done", note="되돌림 ✓", **SWITCH)
    path = state.journal_path("r1")
    with open(path, "rb") as stream:
        content = stream.read()
    start = content[:-1].rfind(b"\n") + 1
    for cut in range(start, len(content) + 1):
        with open(path, "wb") as stream:
            stream.write(content[:cut])
        kept = whole + (cut >= len(content) - 1)
        assert len(state.read("r1")) == kept, cut
        state.append("r1", "act", act="undo", status="begun")
        records = state.read("r1")
        assert len(records) == kept + 1 and records[-1]["act"] == "undo", cut


def test_damage_in_the_middle_is_said_with_the_file(state):
    state.acquire("r1", "kim", 300)
    state.append("r1", "act", act="check", status="begun")
    with open(state.journal_path("r1"), "r+b") as stream:
        stream.write(b"xxxx")
    with pytest.raises(RunError, match=r"run r1 can't be read: line 1 .*journal\.jsonl"):
        state.read("r1")


def test_all_files_are_private(state):
    old = os.umask(0)
    try:
        state.acquire("r1", "kim", 300)
        state.append("r1", "act", act="check", status="begun")
    finally:
        os.umask(old)
    for folder, folders, names in os.walk(state.path):
        for name in [*folders, *names]:
            mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
            assert mode & 0o077 == 0, name


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lock"
    write_private(str(path), "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(str(path), "new\ud800")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["lock"]


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b"])
def test_a_run_id_is_no_path(state, run_id):
    with pytest.raises(RunError, match="is not a run id"):
        state.run_dir(run_id)


def test_what_lies_beside_the_runs_is_no_run(state):
    state.acquire("r1", "kim", 300)
    with open(os.path.join(state.path, "runs", ".DS_Store"), "w") as stream:
        stream.write("x")
    assert state.run_ids() == ["r1"] and state.unfinished() is None


def test_a_lock_that_is_no_json_still_holds(state):
    state.prepare()
    with open(state.lock_path, "w") as stream:
        stream.write("x")
    with pytest.raises(RunError, match="Run unknown of unknown is under way"):
        state.acquire("r1", "kim", 300)


def test_the_recorder_writes_the_intent_before_and_the_outcome_after(state):
    state.acquire("r1", "kim", 300)
    recorder = Recorder(options(state, "r1"), False, "checkout")
    recorder.intent(detail={"from": "a"})
    assert [(item["event"], item["status"]) for item in state.read("r1")] == [("step", "intent")]
    recorder.done()
    undo = Recorder(options(state, "r1", undo=True), False, "checkout")
    undo.unneeded()
    records = state.read("r1")
    assert [(item["event"], item["status"]) for item in records[1:]] == [("step", "done"), ("undo", "done")]
    assert records[-1]["detail"] == {"unneeded": True}


def test_the_recorder_is_silent_in_check_mode_and_outside_of_a_run(state):
    state.acquire("r1", "kim", 300)
    for recorder in (Recorder(options(state, "r1"), True, "x"), Recorder(None, False, "x")):
        recorder.intent()
        recorder.done()
        with recorder.heartbeat():
            pass
    assert state.read("r1") == []


def test_a_run_that_lost_the_lock_stops_before_it_changes_anything(state):
    state.acquire("r1", "kim", 300)
    state.acquire("r2", "lee", 300, takeover="r1")
    recorder = Recorder(options(state, "r1"), False, "checkout")
    with pytest.raises(RunError, match="no longer holds the lock"):
        recorder.intent()
    recorder.failed("does not raise")


def test_the_newest_cut_off_run_is_the_unfinished_one(state):
    for run_id, ends in (("20250101-000000-a", True), ("20250102-000000-a", False), ("20250103-000000-a", True)):
        state.acquire(run_id, "kim", 300)
        state.append(run_id, "run", level=1)
        state.append(run_id, "step", status="intent", **SWITCH)
        if ends:
            state.append(run_id, "end", outcome="rolled_back")
        os.unlink(state.lock_path)
        if not ends:
            break
    assert state.unfinished()["run_id"] == "20250102-000000-a"
    with open(state.journal_path("20250102-000000-a")) as stream:
        assert all(json.loads(row)["run_id"] == "20250102-000000-a" for row in stream)


def over(state, run_id, outcome="rolled_back", *more, level=3, steps=("database", "checkout")):
    """A run that is over, and what its journal holds."""
    state.acquire(run_id, "kim", 300)
    state.append(run_id, "run", level=level, **{"from": {"tag": "v2"}, "to": {"tag": "v1"}})
    for name in steps:
        state.append(run_id, "step", act="switch", step=name, status="intent")
        state.append(run_id, "step", act="switch", step=name, status="done")
    for event, fields in more:
        state.append(run_id, event, **fields)
    if outcome:
        state.append(run_id, "end", outcome=outcome)
    state.release(run_id)


A, B, C = (f"2025011{day}-140000-level3" for day in (5, 6, 7))


@pytest.mark.parametrize("outcome", ["rolled_back", "held"])
def test_a_run_that_holds_can_be_taken_back(state, outcome):
    over(state, A, outcome)
    assert state.may_reopen(A) == A


def test_only_a_run_that_there_is_can_be_taken_back(state):
    with pytest.raises(RunError, match=r"no run '20250117-140000-level3' here\. Runs that still hold: none"):
        state.may_reopen(C)
    over(state, A)
    over(state, B, "reverted")
    with pytest.raises(RunError, match=rf"Runs that still hold: {A}\.$"):
        state.may_reopen(C)
    with pytest.raises(RunError, match=r"There is no run '\.\./x' here"):
        state.may_reopen("../x")


@pytest.mark.parametrize("outcome", ["reverted", "undone", "abandoned", "refused", "purged"])
def test_a_run_that_was_taken_back_is_not_taken_back_again(state, outcome):
    over(state, A, outcome)
    with pytest.raises(RunError, match=f"Run {A} ended as {outcome}: there is nothing of it to undo"):
        state.may_reopen(A)


@pytest.mark.parametrize("steps", [(), ("checkout",)])
def test_a_run_that_left_nothing_can_t_be_taken_back(state, steps):
    undone = [("undo", {"step": name, "status": "done"}) for name in steps]
    over(state, A, "held", *undone, steps=steps)
    with pytest.raises(RunError, match=f"Run {A} changed nothing that could be undone"):
        state.may_reopen(A)


def test_of_several_runs_the_last_is_taken_back_first(state):
    over(state, A)
    over(state, B, level=1, steps=("checkout",))
    # What came to nothing, or changed nothing, is in nobody's way.
    over(state, C, "reverted")
    over(state, "20250118-140000-deploy", "backed_up", steps=())
    over(state, "20250119-140000-level1", "rolled_back", steps=())
    with pytest.raises(RunError, match=f"Run {B} changed the system after run {A}: undo that one first"):
        state.may_reopen(A)
    assert state.may_reopen(B) == B
    state.acquire(B, "kim", 300)
    for name in ("checkout",):
        state.append(B, "undo", step=name, status="done")
    state.append(B, "end", outcome="undone")
    state.release(B)
    assert state.may_reopen(A) == A


def test_a_later_run_that_was_purged_bars_no_earlier_one(state):
    """It can't be undone first any more, and what the earlier one put aside is still there."""
    over(state, A)
    over(state, B)
    with pytest.raises(RunError, match=f"Run {B} changed the system after run {A}"):
        state.may_reopen(A)
    over(state, C, "purged", ("purged", {"run": B, "what": ["shop_parked"]}), steps=())
    assert state.may_reopen(A) == A
    with pytest.raises(RunError, match=f"What run {B} put aside was purged"):
        state.may_reopen(B)


def test_a_run_whose_database_was_purged_is_refused_before_anything_is_stopped(state):
    over(state, A)
    over(state, B, "purged", ("purged", {"run": A, "what": ["shop_parked"]}), steps=())
    with pytest.raises(RunError, match=f"What run {A} put aside was purged by run {B}.*restore point"):
        state.may_reopen(A)
    over(state, C)
    assert state.may_reopen(C) == C
