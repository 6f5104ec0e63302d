from __future__ import annotations

import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval
from ansible_collections.sparklio.rollback.plugins.module_utils._approval import ApprovalError
from hypothesis import given
from hypothesis import strategies as st

HOUR = 3600.0


def subject(**changes):
    return {
        "level": 3,
        "from": {"tag": "v2", "commit": "b" * 40, "heads": ["r2"]},
        "to": {"tag": "v1", "commit": "a" * 40, "heads": ["r1"]},
        "mode": "copy",
        "revisions": [{"revision": "r2", "marks": ["loses_data"], "drops": [["table", "x", None]]}],
        "steps": [["switch", "database"]],
        **changes,
    }


def give(now=0.0, hours=4, by="Kim Minji", of=None):
    of = of or subject()
    return _approval.give(_approval.digest(of), by, "deploy@console", now, hours, of)


def test_an_approval_is_read_as_it_was_written():
    found = give(now=100.5)
    assert _approval.decode(json.dumps(found, ensure_ascii=False)) == found
    assert found["expires"] - found["at"] == 4 * HOUR


@pytest.mark.parametrize(("by", "kept"), [(" Kim Minji ", "Kim Minji"), ("김민지", "김민지"), ("", ""), (" \t", "")])
def test_it_names_a_person(by, kept):
    if kept:
        assert give(by=by)["by"] == kept
        return
    with pytest.raises(ApprovalError, match="names the person"):
        give(by=by)


@pytest.mark.parametrize("by", ["a\nb", "x" * 201, "\x1b[31mkim"])
def test_a_name_is_one_line_of_text(by):
    with pytest.raises(ApprovalError, match="in one line"):
        give(by=by)


@pytest.mark.parametrize("hours", [0, -1, 169, float("nan"), float("inf")])
def test_it_holds_for_a_while_and_not_forever(hours):
    with pytest.raises(ApprovalError, match="can't hold for"):
        give(hours=hours)


@pytest.mark.parametrize("plan", ["", "abc", "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_a_plan_is_named_by_its_whole_hash(plan):
    with pytest.raises(ApprovalError, match="is not the hash of a plan"):
        _approval.give(plan, "kim", "d@c", 0.0)


def test_a_subject_of_another_plan_is_refused():
    with pytest.raises(ApprovalError, match="has another hash"):
        _approval.give("a" * 64, "kim", "d@c", 0.0, 4, subject())


@given(st.floats(-3600, 10 * HOUR))
def test_it_holds_from_when_it_was_given_until_it_expires(now):
    # A minute of grace: the clock of a console and that of a host differ.
    assert _approval.expired(give(), now) == (not -60 <= now < 4 * HOUR)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '"x"', "null", json.dumps({**give(), "expires": "soon"}), json.dumps({**give(), "by": ""})],
)
def test_a_damaged_one_counts_for_nothing(text):
    with pytest.raises(ApprovalError, match="damaged"):
        _approval.decode(text)


@given(st.text(max_size=60))
def test_any_text_is_an_approval_or_damaged(text):
    with pytest.raises(ApprovalError):
        _approval.decode(text)


def test_the_approval_of_the_plan_and_of_others_to_the_same_place():
    now_it_is = subject(mode="in_place")
    elsewhere = subject(to={"tag": "v0", "commit": "c" * 40, "heads": []})
    given_ = [give(now=1.0), give(now=2.0, of=now_it_is, hours=1), give(of=elsewhere)]
    found = _approval.for_plan(given_, _approval.digest(now_it_is), now_it_is, 3.0)
    assert found["found"] == {**given_[1], "expired": False}
    assert [(item["by"], item["changes"]) for item in found["others"]] == [
        ("Kim Minji", ["mode: copy then, in_place now"])
    ]
    assert _approval.for_plan(given_, _approval.digest(now_it_is), now_it_is, 2 * HOUR)["found"]["expired"]
    assert _approval.for_plan([], "a" * 64, {}, 0.0) == {"found": None, "others": []}


R3 = {"revision": "r3", "marks": ["harmless"], "drops": []}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (subject(), []),
        (subject(revisions=[*subject()["revisions"], R3]), ["revision r3 is taken back too"]),
        (subject(revisions=[]), ["revision r2 is not taken back any more"]),
        (subject(revisions=[{**subject()["revisions"][0], "marks": []}]), ["what revision r2 does"]),
        (
            subject(**{"from": {"tag": "v3", "commit": "c" * 40, "heads": ["r2"]}}),
            ["from: v2 at r2 then, v3 at r2 now"],
        ),
        (
            subject(to={"tag": None, "commit": "c" * 40, "heads": []}),
            [f"to: v1 at r1 then, {'c' * 12} at nothing now"],
        ),
        (subject(steps=[]), ["the steps"]),
    ],
)
def test_what_changed_since_is_named(after, expected):
    assert _approval.changes(subject(), after) == expected


def test_another_order_is_a_change():
    two = [*subject()["revisions"], R3]
    assert _approval.changes(subject(revisions=two), subject(revisions=two[::-1])) == ["the order of the revisions"]


PLAN = _approval.digest(subject())
OTHER = {**give(of=subject(mode="in_place")), "expired": False, "changes": ["mode: in_place then, copy now"]}


@pytest.mark.parametrize(
    ("approval", "code", "message"),
    [
        ({"required": False}, None, ""),
        ({"required": False, "found": None}, None, ""),
        ({"required": True, "found": {**give(), "expired": False}}, None, ""),
        ({"required": True, "found": None}, "approval_missing", "Nobody approved this plan"),
        ({"required": True, "found": {**give(), "expired": True}}, "approval_expired", "Kim Minji expired at 1970"),
        (
            {"required": True, "found": None, "others": [OTHER]},
            "approval_other",
            "since: mode: in_place then, copy now",
        ),
        ({"required": True, "found": OTHER}, "approval_other", "Kim Minji approved another plan"),
    ],
)
def test_a_plan_without_a_good_approval_is_refused(approval, code, message):
    found = _approval.refusal(approval, PLAN)
    assert (found or {}).get("code") == code
    if found:
        assert message in found["message"] and PLAN in found["cure"]


def test_how_to_approve_can_be_said_by_whoever_asks():
    found = _approval.refusal({"required": True, "found": None, "how": "type -e approve=true"}, PLAN)
    assert "and type -e approve=true (plan" in found["cure"]
