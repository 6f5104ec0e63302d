from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _verdict
from hypothesis import given, settings
from hypothesis import strategies as st

kinds = st.sampled_from(list(_verdict.MARKS))
some = st.lists(st.builds(_verdict.make, st.text(max_size=8), kinds, st.text(max_size=400), st.booleans()))


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([], "inconclusive"),
        ([("pass", False)], "inconclusive"),
        ([("pass", True), ("fail", False), ("error", False)], "pass"),
        ([("pass", True), ("inconclusive", True)], "inconclusive"),
        ([("pass", True), ("error", True)], "fail"),
        ([("inconclusive", True), ("fail", True)], "fail"),
    ],
)
def test_overall(verdicts, whole):
    assert _verdict.overall([_verdict.make("x", verdict, "", critical) for verdict, critical in verdicts]) == whole


@settings(deadline=None)
@given(some)
def test_no_whole_passes_with_a_part_that_did_not(verdicts):
    if _verdict.overall(verdicts) == "pass":
        critical = [item["verdict"] for item in verdicts if item["critical"]]
        assert critical and set(critical) == {"pass"}
    lines = _verdict.table(verdicts)
    assert len(lines) == len(verdicts)
    assert not any("\n" in line or "\x1b" in line for line in (item["evidence"] for item in verdicts))


def test_an_unknown_verdict_is_an_error():
    assert _verdict.make("x", "PASS", "fine")["verdict"] == "error"


def test_results_become_verdicts():
    results = {
        "http": {
            "changed": False,
            "verdicts": [
                {"name": "health", "verdict": "pass", "critical": True, "evidence": "ok", "data": {"status": 200}}
            ],
        },
        "skipped": {"skipped": True, "changed": False},
        "absent": {},
        "redis": {"verdict": "error", "evidence": "refused", "seconds": 0.1, "changed": False, "failed": False},
        "broken": {"failed": True, "msg": "Traceback\nboom"},
        "old": {"changed": False},
    }
    found = _verdict.from_results(results, ["redis"])
    assert [(item["name"], item["verdict"], item["critical"]) for item in found] == [
        ("health", "pass", True),
        ("redis", "error", False),
        ("broken", "error", True),
        ("old", "error", True),
    ]
    assert found[0]["data"] == {"status": 200}
    assert found[1]["data"] == {"seconds": 0.1}
    assert found[2]["evidence"] == "Traceback boom"


LEVELS = {"system": ["health", "objects"], "function": ["agent", "asset"], "data": ["data"]}
ROWS = {"verdicts": [_verdict.make("data_users", "fail", "2 rows, 1 fewer than before")]}


def test_verdicts_are_put_in_the_order_of_their_levels():
    results = {
        "data": ROWS,
        "other": {"verdict": "pass", "evidence": ""},
        "agent": {"verdict": "pass", "evidence": ""},
        "objects": {"verdict": "pass", "evidence": ""},
        "health": {"verdict": "pass", "evidence": ""},
    }
    found = _verdict.from_results(results, [], LEVELS)
    assert [(item["name"], item.get("level")) for item in found] == [
        ("health", "system"),
        ("objects", "system"),
        ("agent", "function"),
        ("data_users", "data"),
        ("other", None),
    ]


def test_a_name_covers_all_verdicts_of_its_check():
    (item,) = _verdict.from_results({"data": ROWS}, ["data"])
    assert (item["name"], item["critical"]) == ("data_users", False)
    (item,) = _verdict.from_results({"data": ROWS}, ["data_users"])
    assert not item["critical"]
    (item,) = _verdict.from_results({"data": ROWS}, ["data_brands"])
    assert item["critical"]


def test_what_can_not_hold_without_another_decides_nothing_when_that_did_not_hold():
    needs = {"asset": ["objects", "database"], "agent": ["ollama"]}
    results = {
        "objects": {"verdict": "error", "evidence": "connection refused"},
        "asset": {"verdict": "fail", "evidence": "answered 503"},
        "agent": {"verdict": "fail", "evidence": "status is error"},
        "ollama": {"verdict": "pass", "evidence": "", "critical": False},
    }
    found = {item["name"]: item for item in _verdict.from_results(results, [], None, needs)}
    assert {name for name, item in found.items() if item["critical"]} == {"objects", "agent"}
    assert found["asset"]["evidence"] == "answered 503; objects did not hold either"
    results["asset"]["verdict"] = "pass"
    assert {item["name"]: item for item in _verdict.from_results(results, [], None, needs)}["asset"]["critical"]


def test_levels_head_their_lines_and_all_lines_are_aligned():
    results = {
        "health": {"verdict": "pass", "evidence": "fine"},
        "agent": {"verdict": "inconclusive", "evidence": "not made"},
        "사용자": {"verdict": "pass", "evidence": "3"},
    }
    levels = {"system": ["health"], "function": ["agent"], "data": ["사용자"]}
    assert _verdict.table(_verdict.from_results(results, ["agent"], levels)) == [
        "System / 시스템",
        "  ✓ health  pass          fine",
        "Function / 기능",
        "  ⚠ agent   inconclusive  not made (non-critical)",
        "Data / 데이터",
        "  ✓ 사용자  pass          3",
    ]


def test_the_table_is_aligned_and_marks_what_counts():
    lines = _verdict.table(
        [
            _verdict.make("health", "pass", "fine"),
            _verdict.make("database", "fail", "gone"),
            _verdict.make("ollama", "error", "refused", False),
            _verdict.make("error_rate", "inconclusive", "no traffic"),
        ]
    )
    assert lines == [
        "✓ health      pass          fine",
        "✗ database    fail          gone",
        "⚠ ollama      error         refused (non-critical)",
        "? error_rate  inconclusive  no traffic",
    ]


def test_the_failure_names_each_check_with_its_evidence_and_cure_in_one_line():
    verdicts = [
        _verdict.make("health", "fail", "answered 500"),
        _verdict.make("redis", "error", "refused\nthere"),
        _verdict.make("error_rate", "inconclusive", "no traffic"),
        _verdict.make("ollama", "error", "refused", False),
    ]
    text = _verdict.failure(verdicts, {"redis": "Start it."})
    assert text == (
        "2 critical checks of 3 did not hold. health (fail): answered 500. | redis (error): refused there. Start it."
    )
    assert "error_rate (inconclusive): no traffic." in _verdict.failure(verdicts, {}, inconclusive=True)
    assert "nothing is proven" in _verdict.failure([])
