from __future__ import annotations

import json
import os

from ansible_collections.sparklio.rollback.plugins.modules import run_info


def journal(state, run_id, *records):
    path = state / "runs" / run_id
    path.mkdir(parents=True)
    lines = [json.dumps({"time": 100.0 + n, "run_id": run_id, **record}) for n, record in enumerate(records)]
    (path / "journal.jsonl").write_text("\n".join(lines) + "\n")


RUN = {"event": "run", "level": "level1", "from": {"tag": "v2"}, "to": {"tag": "v1"}}


def test_no_state_directory_means_no_runs(call, tmp_path):
    found = call(run_info, state_dir=str(tmp_path / "none"))
    assert (found["runs"], found["holder"], found["unfinished"]) == ([], None, None)
    assert not (tmp_path / "none").exists()


def test_the_newest_run_comes_first_with_its_end(call, tmp_path):
    journal(tmp_path, "20250101-000000-level1", RUN, {"event": "end", "outcome": "held", "message": "it broke"})
    journal(tmp_path, "20250102-000000-level1", RUN, {"event": "end", "outcome": "rolled_back"})
    found = call(run_info, state_dir=str(tmp_path))
    assert [(run["outcome"], run["ended_at"], run["message"]) for run in found["runs"]] == [
        ("rolled_back", 101.0, ""),
        ("held", 101.0, "it broke"),
    ]
    assert found["runs"][0]["to"] == {"tag": "v1"}
    assert [run["outcome"] for run in call(run_info, state_dir=str(tmp_path), limit=1)["runs"]] == ["rolled_back"]


def test_a_cut_off_run_and_a_lock_are_read_and_left_as_they_are(call, tmp_path):
    step = {"event": "step", "act": "switch", "step": "checkout", "status": "intent"}
    journal(tmp_path, "20250101-000000-level1", RUN, {"event": "act", "act": "switch"}, step)
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"run_id": "r", "owner": "minji"}))
    os.utime(lock, (1000, 1000))
    found = call(run_info, state_dir=str(tmp_path), check=True)
    assert found["unfinished"]["pending"] == 1
    assert (found["holder"]["owner"], found["holder"]["age"] > 300) == ("minji", True)
    assert lock.stat().st_mtime == 1000
    assert sorted(os.listdir(tmp_path)) == ["lock", "runs"]


def test_a_damaged_journal_is_named(call, tmp_path):
    journal(tmp_path, "20250101-000000-level1", RUN)
    (tmp_path / "runs/20250101-000000-level1/journal.jsonl").write_text("}{\n{}\n")
    assert "20250101-000000-level1" in call(run_info, state_dir=str(tmp_path))["msg"]
