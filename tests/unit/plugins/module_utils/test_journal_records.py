from __future__ import annotations

import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from hypothesis import given
from hypothesis import strategies as st

STEPS = st.sampled_from(["checkout", "backend", "frontend", "artifacts"])
RECORDS = st.lists(
    st.builds(
        lambda event, status, step: {"event": event, "status": status, "step": step},
        st.sampled_from(["step", "undo"]),
        st.sampled_from(["intent", "done", "failed"]),
        STEPS,
    )
)


def line(**record):
    return json.dumps({"event": "step", **record}, ensure_ascii=False) + "\n"


def step(name, status, event="step"):
    return {"event": event, "step": name, "status": status}


def test_a_last_line_cut_at_any_byte_loses_that_line_only():
    first, last = line(step="checkout", status="intent"), line(step="backend", status="intent", note="한글 }{")
    for cut in range(len(last.encode()) - 1):
        found = _journal.decode(first + last.encode()[:cut].decode("utf-8", "replace"))
        assert [item["step"] for item in found] == ["checkout"], cut
    # Only the line break lacks: the record is whole.
    assert len(_journal.decode(first + last[:-1])) == 2


@pytest.mark.parametrize("text", ["{bad\n" + line(), "[]\n", '"event"\n', '{"no": 1}\n'])
def test_damage_elsewhere_names_the_line(text):
    with pytest.raises(ValueError, match="line 1 of the journal"):
        _journal.decode(text)


@pytest.mark.parametrize(("tail", "whole"), [(b"", False), (b'{"a": 1', False), (b'{"a": 1}', True), (b"3", False)])
def test_only_a_whole_record_is_kept_when_the_next_is_added(tail, whole):
    assert _journal.whole(tail) is whole


def test_a_step_counts_from_its_intent_until_it_is_undone():
    records = [step("checkout", "intent"), step("checkout", "done"), step("backend", "intent")]
    assert [item["step"] for item in _journal.pending(records)] == ["backend", "checkout"]
    records += [step("backend", "intent", "undo"), step("backend", "failed", "undo")]
    assert [item["step"] for item in _journal.pending(records)] == ["backend", "checkout"]
    records += [step("backend", "done", "undo")]
    assert [item["step"] for item in _journal.pending(records)] == ["checkout"]


@given(RECORDS)
def test_pending_is_what_a_replay_leaves_open(records):
    def is_open(name):
        mine = [item for item in records if item["step"] == name]
        begun = [n for n, item in enumerate(mine) if item["event"] == "step" and item["status"] == "intent"]
        undone = [n for n, item in enumerate(mine) if item["event"] == "undo" and item["status"] == "done"]
        return bool(begun) and (not undone or begun[-1] > undone[-1])

    pending = [item["step"] for item in _journal.pending(records)]
    assert sorted(pending) == sorted({item["step"] for item in records if is_open(item["step"])})

    def latest(name):
        mine = [n for n, item in enumerate(records) if item == step(name, "intent")]
        return mine[-1]

    assert pending == sorted(pending, key=latest, reverse=True)


@given(RECORDS, st.integers(min_value=0))
def test_undoing_what_is_pending_leaves_nothing_pending_wherever_it_is_cut_off(records, cut):
    undo = [step(item["step"], "done", "undo") for item in _journal.pending(records)]
    cut %= len(undo) + 1
    halfway = records + undo[:cut]
    rest = [step(item["step"], "done", "undo") for item in _journal.pending(halfway)]
    assert rest == undo[cut:]
    assert _journal.pending(halfway + rest) == []


def test_the_summary_says_what_the_run_was():
    records = [
        {"event": "run", "run_id": "r", "level": 1, "from": {"tag": "b"}, "to": {"tag": "a"}, "owner": "kim"},
        {"event": "act", "act": "check", "status": "done"},
        {"event": "act", "act": "switch", "status": "begun"},
        step("checkout", "intent"),
    ]
    found = _journal.summary(records)
    assert (found["run_id"], found["to"], found["act"], found["pending"]) == ("r", {"tag": "a"}, "switch", 1)
    assert found["seconds"] == {} and found["outcome"] is None
    found = _journal.summary([*records, {"event": "end", "outcome": "failed", "seconds": {"check": 1.5}}])
    assert (found["outcome"], found["seconds"]) == ("failed", {"check": 1.5})


def run(left, reached, outcome="rolled_back"):
    return {
        "from": {"tag": left, "date": int(left[1:])},
        "to": {"tag": reached, "date": int(reached[1:])},
        "outcome": outcome,
    }


@pytest.mark.parametrize(
    ("runs", "bad"),
    [
        ([run("v3", "v2")], ["v3"]),
        ([run("v3", "v2", "held")], ["v3"]),
        ([run("v3", "v2", "reverted")], []),
        ([run("v2", "v3")], []),
        ([run("v3", "v2"), run("v2", "v3")], []),
        ([run("v3", "v2"), run("v2", "v1")], ["v2", "v3"]),
        ([run("v3", "v3")], []),
        ([run("v3", "v2"), run("v3", "v3")], ["v3"]),
        ([{"outcome": "rolled_back", "from": None, "to": {"tag": "v1"}}], []),
    ],
)
def test_a_release_is_bad_when_a_rollback_left_it_for_an_older_one(runs, bad):
    assert _journal.left_because_bad(runs) == bad


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([], None),
        ([{"event": "end", "outcome": "rolled_back"}], "rolled_back"),
        # Opened again: it is not over, and whatever dies from here on is to be resumed.
        ([{"event": "end", "outcome": "rolled_back"}, {"event": "reopened"}], None),
        ([{"event": "end", "outcome": "rolled_back"}, {"event": "reopened"}, {"event": "act", "act": "undo"}], None),
        (
            [{"event": "end", "outcome": "held"}, {"event": "reopened"}, {"event": "end", "outcome": "undone"}],
            "undone",
        ),
    ],
)
def test_a_run_that_is_opened_again_is_not_over(events, outcome):
    records = [step("database", "intent"), *events]
    assert _journal.ended(records) == outcome
    assert _journal.summary(records)["outcome"] == outcome


def test_a_release_that_was_left_and_come_back_to_by_an_undo_is_not_bad():
    left = {"from": {"tag": "v2", "date": 2}, "to": {"tag": "v1", "date": 1}}
    assert _journal.left_because_bad([{**left, "outcome": "rolled_back"}]) == ["v2"]
    assert _journal.left_because_bad([{**left, "outcome": "undone"}]) == []
