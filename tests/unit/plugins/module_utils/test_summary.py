from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _summary

PLAN = {"from": {"name": "v2"}, "to": {"name": "v1"}, "serving": True}


def failure(act, message="it broke", host="app"):
    return {"host": host, "act": act, "task": "t", "message": message}


def outcome(*failures, **facts):
    return _summary.outcome(
        {"level": 1, "plan": PLAN, "run": {"id": "r1", "dir": "/s/runs/r1"}, "failures": list(failures), **facts}
    )


@pytest.mark.parametrize(
    ("failures", "facts", "name", "serves", "close"),
    [
        ([], {}, "rolled_back", "v1", True),
        ([], {"check_mode": True}, "planned", "v2", True),
        ([], {"finished": {"outcome": "unchanged", "message": "v2 serves already"}}, "unchanged", "v2", True),
        (["check"], {}, "refused", "v2", True),
        (["preserve"], {"pending": []}, "failed", "v2", True),
        (["prepare"], {"pending": []}, "failed", "v2", True),
        (["switch"], {"pending": ["checkout"], "undone": True}, "reverted", "v2", True),
        (["validate"], {"pending": ["checkout"], "undone": True}, "reverted", "v2", True),
        (["switch"], {"pending": ["checkout"], "undone": False, "undo_failure": "no disk"}, "failed", None, False),
        (["validate"], {"pending": ["checkout"]}, "held", None, True),
        (["switch"], {"pending": ["checkout"], "undone": True, "resumed": {"run_id": "r1"}}, "resumed", "v2", True),
        (["switch"], {"pending": ["x"], "undone": False, "resumed": {"run_id": "r1"}}, "failed", None, False),
    ],
)
def test_what_a_run_came_to(failures, facts, name, serves, close):
    found = outcome(*map(failure, failures), **facts)
    assert (found["outcome"], found["serves"], found["close"]) == (name, serves, close)
    # An undo leads the other way round.
    ends = ("v1", "v2") if facts.get("resumed") else ("v2", "v1")
    assert (found["run_id"], found["from"], found["to"]) == ("r1", *ends)
    if failures:
        assert "it broke" in found["message"]
    assert all(isinstance(line, str) and "\n" not in line for line in _summary.lines(found))


def test_a_way_back_that_failed_says_both_and_what_to_run():
    found = outcome(failure("switch"), pending=["checkout"], undone=False, undo_failure="no disk")
    assert "v1 failed in act switch: it broke" in found["message"] and "no disk" in found["message"]
    assert "playbooks/resume.yml" in found["next"][0]


def test_the_failure_that_is_told_is_the_one_that_stopped_the_others():
    found = outcome(failure("check", "another host failed", "b"), failure("check", "port taken", "a"))
    assert found["message"] == "port taken"


def test_a_held_run_says_how_to_go_back():
    found = outcome(failure("validate"), pending=["checkout"])
    assert "target_tag=v2" in found["next"][0]


def test_a_held_configuration_goes_back_to_what_was_kept():
    found = outcome(
        failure("validate"),
        pending=["config_files"],
        plan={**PLAN, "level": 2},
        restore_point="20250115T000000Z-level2",
    )
    assert "playbooks/level2.yml -e restore_point=20250115T000000Z-level2" in found["next"][0]
    assert any("20250115T000000Z-level2" in line and "복원 지점" in line for line in _summary.lines(found))


@pytest.mark.parametrize("resumed", [True, False])
def test_what_served_until_the_undo_is_kept_and_how_it_is_dropped_is_told(resumed):
    kept = {"kept_database": "app_undone_1", "written_since": ["users: 3 inserted"], "undone": True}
    found = outcome(failure("validate"), resumed=resumed, **kept)
    told = "\n".join(_summary.lines(found))
    assert "그동안의 데이터베이스: app_undone_1" in told and "users: 3 inserted" in told
    assert "playbooks/level3.yml -e purge=r1" in found["next"][0]
    assert outcome(failure("validate"), resumed=resumed, undone=True)["next"] == []


def test_a_held_schema_goes_back_by_its_run():
    switched = {"parked": "app_parked_1", "closed_seconds": 3.0, "copy_seconds": 1.0, "swap_seconds": 0.01}
    found = outcome(
        failure("validate"),
        pending=["database", "checkout"],
        plan={**PLAN, "level": 3},
        run={"id": "20250115-140000-level3", "dir": "/r"},
        switched=switched,
    )
    assert found["next"] == [
        "to go back: ansible-playbook -i INVENTORY playbooks/level3.yml -e undo=20250115-140000-level3"
    ]
    assert any("app_parked_1" in line and "이전 데이터베이스" in line for line in _summary.lines(found))


def test_wrong_sudo_gets_a_cure():
    found = outcome(failure("check", "sudo: a password is\nrequired"))
    assert "--ask-become-pass" in found["message"] and "\n" not in found["message"]


def test_the_last_lines_tell_all_in_two_languages():
    found = outcome(
        failure("validate"),
        pending=["checkout"],
        undone=True,
        seconds={"switch": 3.25, "check": 2, "undo": 118.2},
        branch="backup-1",
        verdicts=[{"name": "health", "verdict": "fail", "critical": True, "evidence": "500"}],
    )
    lines = _summary.lines(found)
    assert lines[0] == "FAILED AND UNDONE / 실패하여 원래 상태로 되돌림"
    assert "from v2 to v1" in lines
    assert any(line.startswith("✗ health") and "500" in line for line in lines)
    assert "time: check 2.0 s, switch 3.2 s, undo 1 min 58 s; total 2 min 3 s" in lines
    assert "serves now / 현재 서비스 중: v2" in lines
    assert "what was there before is kept in branch backup-1" in lines
    assert "journal on the host: /s/runs/r1/journal.jsonl" in lines


def test_an_unknown_outcome_is_shown_all_the_same():
    assert _summary.lines({"outcome": "odd"}) == ["ODD"]


def test_of_several_hosts_the_worst_speaks():
    good = outcome(seconds={"check": 3.0, "switch": 2.0})
    bad = outcome(failure("switch"), pending=["checkout"], undone=True, seconds={"check": 5.0})
    assert _summary.of_hosts({"a": good}) == good
    both = _summary.of_hosts({"a": good, "b": bad})
    assert (both["outcome"], both["message"], both["serves"]) == ("reverted", bad["message"], None)
    assert both["seconds"] == {"check": 5.0, "switch": 2.0}
    assert {host: item["outcome"] for host, item in both["hosts"].items()} == {"a": "rolled_back", "b": "reverted"}
    lost = _summary.of_hosts({"a": good, "b": {}})
    assert (lost["serves"], lost["hosts"]["b"]["outcome"]) == (None, "unreachable")
    assert any(line.startswith("b: unreachable, serves unproven") for line in _summary.lines(lost))
    assert _summary.of_hosts({"a": good, "b": good})["serves"] == good["serves"]


LEVEL3 = {**PLAN, "level": 3}
AGAIN = "ansible-playbook -i INVENTORY playbooks/level3.yml"


def test_a_database_that_was_put_aside_is_named_with_what_can_be_done_with_it():
    switched = {"parked": "shop_parked_1", "closed_seconds": 3.42, "copy_seconds": 2.61, "swap_seconds": 0.0214}
    found = outcome(plan=LEVEL3, switched=switched)
    assert found["outcome"] == "rolled_back"
    lines = _summary.lines(found)
    assert "the former database is kept as / 이전 데이터베이스: shop_parked_1" in lines
    assert "the database was closed for 3.4 s (copy 2.6 s, swap 0.021 s)" in lines
    assert any(line.endswith(f"to take it back: {AGAIN} -e undo=r1") for line in lines)
    assert any(line.endswith(f"{AGAIN} -e purge=r1") for line in lines)
    # What every rollback is followed by stays.
    assert "playbooks/monitor.yml" in found["next"][0]


def test_what_was_dropped_in_place_is_named():
    found = outcome(plan=LEVEL3, switched={"parked": "", "salvage": "shop_salvage_1", "closed_seconds": 1.0})
    lines = _summary.lines(found)
    assert "what was dropped is kept in schema / 삭제된 데이터 보관: shop_salvage_1" in lines
    assert any("restores the dump of this run" in line and "-e undo=r1" in line for line in lines)
    assert any("-e purge=r1" in line for line in lines) and not any("was closed for" in line for line in lines)


@pytest.mark.parametrize("facts", [{}, {"switched": {}}, {"switched": None}])
def test_without_a_database_nothing_is_said_of_one(facts):
    found = outcome(**facts)
    assert found["details"] == [] and not any("purge" in text for text in found["next"])


UNDOING = {"pending": ["database"], "undone": True, "resumed": {"run_id": "r1"}, "reopened": True}


@pytest.mark.parametrize(
    ("written", "says"),
    [(["users: 7 inserted, 3 updated", "new: 1 deleted"], "users: 7 inserted, 3 updated; new: 1 deleted"),
     ([], "nothing"), (None, "nothing")],
)  # fmt: skip
def test_an_undo_tells_what_was_written_meanwhile(written, says):
    found = outcome(
        failure("record", "Run r1 is taken back, as asked."),
        **UNDOING,
        kept_database="shop_undone_1",
        written_since=written,
        undo_verdicts=[{"name": "database", "verdict": "pass", "critical": True, "evidence": "at r2"}],
    )
    assert (found["outcome"], found["serves"], found["close"], found["verdict"]) == ("undone", "v2", True, "pass")
    lines = _summary.lines(found)
    assert lines[0] == "UNDONE, as asked / 요청에 따라 되돌림" and any(line.startswith("✓ database") for line in lines)
    assert "what served meanwhile is kept as / 그동안의 데이터베이스: shop_undone_1" in lines
    assert f"written to it since / 그동안 변경된 행: {says}" in lines


def test_an_undo_without_another_database_tells_of_none():
    found = outcome(failure("record"), **UNDOING)
    assert (found["outcome"], found["details"]) == ("undone", [])
    assert outcome(failure("switch"), **{**UNDOING, "reopened": False})["outcome"] == "resumed"


def test_an_undo_that_fails_is_to_be_resumed():
    found = outcome(failure("record"), **{**UNDOING, "undone": False, "undo_failure": "it is gone"})
    assert (found["outcome"], found["close"]) == ("failed", False) and "it is gone" in found["message"]


def test_what_was_stopped_for_an_undo_that_failed_and_serves_again_is_told():
    failed = {**UNDOING, "undone": False, "undo_failure": "sessions did not go away"}
    assert "started again" in outcome(failure("record"), **failed, started_again=True)["message"]
    assert "started again" not in outcome(failure("record"), **failed, started_again=False)["message"]


def test_an_undo_that_is_refused_changes_nothing():
    found = outcome(failure("check", "Run r1 ended as undone."), plan={}, reopened=True)
    assert (found["outcome"], found["message"]) == ("refused", "Run r1 ended as undone.")


def test_a_reverted_schema_tells_what_was_written_too():
    found = outcome(failure("validate"), pending=["database"], undone=True, kept_database="u", written_since=["t: 1 x"])
    assert found["outcome"] == "reverted" and any("t: 1 x" in line for line in _summary.lines(found))


@pytest.mark.parametrize(
    ("name", "headline"),
    [("purged", "PURGED / 보관된 데이터베이스 삭제 완료"), ("approved", "APPROVED, nothing was changed")],
)
def test_what_ends_early_is_told_as_it_is(name, headline):
    found = outcome(finished={"outcome": name, "message": "Dropped: shop_parked_1."}, plan={})
    assert (found["outcome"], found["close"]) == (name, True)
    lines = _summary.lines(found)
    assert lines[0].startswith(headline) and "why: Dropped: shop_parked_1." in lines


def test_of_several_hosts_one_that_is_undone_does_not_hide_a_failure():
    undone, bad = outcome(failure("record"), **UNDOING), outcome(failure("switch"), pending=["x"], undone=False)
    assert _summary.of_hosts({"a": undone, "b": bad})["outcome"] == "failed"
    for name in ("undone", "purged", "approved"):
        assert _summary.of_hosts({"a": {**undone, "outcome": name}, "b": outcome()})["outcome"] in (name, "rolled_back")


def test_a_plan_says_how_to_agree_to_it_and_how_to_do_it():
    facts = {"level": "level3", "check_mode": True, "plans": True, "failures": [], "plan": {"from": {"name": "v2"}}}
    outcome = _summary.outcome({**facts, "finished": None})
    assert (outcome["outcome"], outcome["serves"], outcome["checked_out"]) == ("planned", None, "v2")
    assert any("plan.yml" in text and "approve_as=" in text for text in outcome["next"])
    assert any("level3.yml" in text for text in outcome["next"])
    assert _summary.outcome({**facts, "plans": False, "finished": None})["next"] == ["run it without --check"]


@pytest.mark.parametrize(
    ("failures", "facts"),
    [(["check"], {}), (["prepare"], {"pending": []}), ([], {"check_mode": True})],
)
def test_what_is_only_checked_out_is_not_said_to_serve(failures, facts):
    found = outcome(*map(failure, failures), plan={**PLAN, "serving": False}, **facts)
    assert (found["serves"], found["checked_out"]) == (None, "v2")
    lines = _summary.lines(found)
    assert any(line.endswith("체크아웃된 릴리스: v2") for line in lines)
    assert not any("serves now" in line for line in lines)


def test_a_refusal_before_anything_was_looked_at_proves_nothing():
    found = outcome(failure("check", "There is no release v9."), plan={}, current={"tag": "v2"})
    assert (found["serves"], found["checked_out"]) == (None, "v2")


@pytest.mark.parametrize("facts", [{}, {"finished": {"outcome": "planned", "message": "Would drop: d."}, "plan": {}}])
def test_a_dry_run_names_no_journal_and_how_to_do_it(facts):
    found = outcome(check_mode=True, **facts)
    assert (found["outcome"], found["run_dir"], found["next"]) == ("planned", None, ["run it without --check"])


def test_an_undo_in_a_dry_run_tells_what_it_would_take_back():
    facts = {"plan": {}, "origin": {"name": "v2"}, "target": {"name": "v1"}, "check_mode": True, "resumed": True}
    lines = _summary.lines(
        outcome(failure("record", "Run r1 is taken back."), pending=["database", "checkout"], **facts)
    )
    assert "from v1 to v2" in lines
    assert "would take back / 되돌릴 단계: database, checkout" in lines
    assert any("would be counted" in line for line in lines)
    assert not any(
        "counted" in line for line in _summary.lines(outcome(failure("record"), pending=["checkout"], **facts))
    )


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_rollback_says_how_it_is_taken_back(level):
    found = outcome(plan={**PLAN, "level": level})
    assert found["outcome"] == "rolled_back"
    assert found["next"][-1] == "to take it back: ansible-playbook -i INVENTORY playbooks/level3.yml -e undo=r1"


def test_an_interrupted_run_says_what_takes_it_back():
    again = "ansible-playbook -i INVENTORY playbooks/resume.yml -e rollback_lock_takeover="
    assert _summary.interrupted({"app": "r1"})[-1] == f"next / 다음: {again}r1"
    both = _summary.interrupted({"a": "r1", "b": "r2"})
    assert both[0] == "INTERRUPTED / 중단됨"
    assert [f"next / 다음: {again}r1 -e rollback_hosts=a", f"next / 다음: {again}r2 -e rollback_hosts=b"] == both[-2:]


FROM_HERE = "playbooks/resume.yml -e x=1, see playbooks/gone.yml"
AS_PRINTED = "next: ansible-playbook -i INVENTORY playbooks/resume.yml -e x=1, see playbooks/gone.yml"


@pytest.mark.parametrize(
    ("inventory", "playbook", "expected"),
    [
        (["inventories/prod"], "playbooks/level1.yml", f"-i inventories/prod {FROM_HERE}"),
        (["/etc/one", "a b"], "playbooks/level1.yml", f"-i /etc/one -i 'a b' {FROM_HERE}"),
        (["host,"], "level1.yml", f"-i host, {FROM_HERE}"),
        ([], "sparklio.rollback.level1", "sparklio.rollback.resume -e x=1, see sparklio.rollback.gone"),
    ],
)  # fmt: skip
def test_commands_can_be_pasted(tmp_path, inventory, playbook, expected):
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/resume.yml").touch()
    whole = [item if item.startswith("/") or "," in item else str(tmp_path / item) for item in inventory]
    line = _summary.pasteable(AS_PRINTED, whole, playbook, str(tmp_path))
    assert line == f"next: ansible-playbook {expected}"


def test_commands_of_another_directory_are_those_of_the_playbook_that_was_typed(tmp_path):
    (tmp_path / "x y").mkdir()
    (tmp_path / "x y/resume.yml").touch()
    line = _summary.pasteable(AS_PRINTED, [], str(tmp_path / "x y/level1.yml"), "/")
    assert f"ansible-playbook '{tmp_path}/x y/resume.yml' -e" in line
