from __future__ import annotations

import json
import os
import stat
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval
from ansible_collections.sparklio.rollback.plugins.modules import plan_approval, plan_approval_info

SUBJECT = {"level": 3, "to": {"tag": "v1", "commit": "a" * 40, "heads": ["r1"]}, "mode": "copy"}
CHANGED = {**SUBJECT, "mode": "in_place"}
PLAN, OTHER = _approval.digest(SUBJECT), _approval.digest(CHANGED)


@pytest.fixture
def approve(call, tmp_path):
    def run(state="present", check=False, **options):
        return call(plan_approval, check=check, state_dir=str(tmp_path / "state"), state=state, **options)

    return run


@pytest.fixture
def read(call, tmp_path):
    def run(plan=PLAN, **options):
        return call(plan_approval_info, state_dir=str(tmp_path / "state"), plan=plan, **options)

    return run


def test_an_approval_is_kept_and_found(approve, read):
    made = approve("present", plan=PLAN, by="Kim Minji", recorded_by="deploy@console", subject=SUBJECT)
    assert made["changed"] and made["path"].endswith(f"/state/approvals/{PLAN}.json")
    assert stat.S_IMODE(os.stat(made["path"]).st_mode) == 0o600
    for path in (os.path.dirname(made["path"]), os.path.dirname(os.path.dirname(made["path"]))):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    found = read(subject=SUBJECT)
    assert not found["changed"] and found["found"] == {**made["approval"], "expired": False}
    assert (found["found"]["by"], found["found"]["recorded_by"]) == ("Kim Minji", "deploy@console")
    assert found["found"]["expires"] - found["found"]["at"] == 4 * 3600
    assert not found["found"]["expired"] and found["others"] == [] and found["damaged"] == []


def test_without_any_there_is_none_and_nothing_is_made(read, tmp_path):
    found = read(subject=SUBJECT)
    assert (found["found"], found["others"]) == (None, [])
    assert not (tmp_path / "state").exists()


def test_a_plan_that_changed_since_names_how(approve, read):
    approve("present", plan=PLAN, by="Kim Minji", subject=SUBJECT)
    found = read(OTHER, subject=CHANGED)
    assert found["found"] is None
    assert [item["changes"] for item in found["others"]] == [["mode: copy then, in_place now"]]


def test_it_expires(approve, read):
    made = approve("present", plan=PLAN, by="Kim Minji", hours=1)
    with open(made["path"]) as stream:
        content = json.load(stream)
    content.update(at=time.time() - 7200, expires=time.time() - 3600)
    with open(made["path"], "w") as stream:
        json.dump(content, stream)
    assert read()["found"]["expired"]


def test_a_later_one_replaces_it_and_absent_takes_it_back(approve, read):
    approve("present", plan=PLAN, by="Kim Minji", hours=1)
    again = approve("present", plan=PLAN, by="Lee Jun", hours=2)
    assert "by Kim Minji until" in again["diff"]["before"] and "by Lee Jun until" in again["diff"]["after"]
    assert read()["found"]["by"] == "Lee Jun"
    gone = approve("absent", plan=PLAN)
    assert gone["changed"] and gone["approval"] is None and gone["diff"]["after"] == ""
    assert not approve("absent", plan=PLAN)["changed"] and read()["found"] is None


def test_check_mode_keeps_nothing(approve, read, tmp_path):
    made = approve("present", check=True, plan=PLAN, by="Kim Minji")
    assert made["changed"] and made["approval"]["by"] == "Kim Minji" and not (tmp_path / "state").exists()
    approve("present", plan=PLAN, by="Kim Minji")
    assert approve("absent", check=True, plan=PLAN)["changed"] and read()["found"]


def test_who_records_it_is_known_without_being_told(approve):
    assert "@" in approve("present", plan=PLAN, by="Kim Minji")["approval"]["recorded_by"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": PLAN}, "by"),
        ({"by": "Kim Minji"}, "plan"),
        ({"plan": PLAN, "by": " "}, "names the person"),
        ({"plan": PLAN[:12], "by": "Kim Minji"}, "is not the hash of a plan"),
        ({"plan": "../../etc/passwd", "by": "Kim Minji"}, "is not the hash of a plan"),
        ({"plan": PLAN, "by": "Kim Minji", "hours": 0}, "can't hold for 0 hours"),
        ({"plan": PLAN, "by": "Kim Minji", "subject": CHANGED}, "has another hash"),
    ],
)
def test_what_is_no_approval_is_refused_in_one_line(approve, tmp_path, options, message):
    found = approve("present", **options)
    assert found["failed"] and message in found["msg"] and "\n" not in found["msg"]
    assert not (tmp_path / "state").exists()


def test_damaged_files_are_named_and_count_for_nothing(approve, read):
    path = approve("present", plan=PLAN, by="Kim Minji")["path"]
    os.rename(path, os.path.join(os.path.dirname(path), f"{OTHER}.json"))
    with open(path, "w") as stream:
        stream.write("{")
    found = read(OTHER)
    assert found["found"] is None
    assert [text[:3] for text in found["damaged"]] == sorted([PLAN[:3], OTHER[:3]])
    assert any("of another plan than its name says" in text for text in found["damaged"])


def test_a_plan_is_asked_for_by_its_whole_hash(read):
    assert "is not the hash of a plan" in read("../x")["msg"]
