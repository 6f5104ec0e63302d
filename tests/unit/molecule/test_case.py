"""The judge of the molecule cases must be able to say no: each way a case can go wrong turns it red."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("case", PROJECT / "molecule/shared/case.py")
case = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(case)

TABLES = sorted(PROJECT.glob("molecule/*/vars/cases.yml"))
BEFORE = {
    "head": "aaa",
    "describe": "v1",
    "dirty": "",
    "branches": ["main"],
    "backend": [{"pid": 1, "started": 10.0}],
    "frontend": [{"pid": 2, "started": 10.0}],
    "pm2": [{"pid": 2}],
    "build_id": "b1",
    "requirements": "r1",
    "venv": "e1",
    "settings": {".env": "s1"},
    "schema": ["h1"],
    "health": {"code": 200, "body": ""},
    "web": 200,
    "lock": None,
    "run": {"run_id": "one", "records": [], "damaged": 0},
    "leaks": [],
}
REFUSED = {"name": "x", "ends": "failed", "says": ["choose one"]}
DONE = {"name": "x", "ends": "ok", "serves": "v0", "restarted": True, "changed": 2, "outcome": "rolled_back"}
AFTER = {
    **BEFORE,
    "head": "bbb",
    "describe": "v0",
    "backend": [{"pid": 3, "started": 101.0}],
    "run": {"run_id": "two", "records": [{"event": "end", "outcome": "rolled_back"}], "damaged": 0},
}


def judge(table: dict, code: int, text: str, after: dict, **changes) -> list[str]:
    return case.judge(table, code, text, BEFORE, {**copy.deepcopy(after), **changes}, ["hunter22"], began=100.0)


def test_arguments_that_several_cases_share() -> None:
    shared = ["-e", "a=1"]
    assert case.command({"args": [[shared, "-e"], "b=2", 3]})[4:] == ["-e", "a=1", "-e", "b=2", "3"]


def test_words_that_the_host_prints_take_their_place() -> None:
    table = {"name": "RUN", "args": [["-e", "undo=RUN"]], "says": ["run RUN is over"]}
    assert case.taken(table, {"RUN": "r1"}) == {"name": "RUN", "args": ["-e", "undo=r1"], "says": ["run r1 is over"]}


def test_the_exact_exit_code() -> None:
    wanted = {**REFUSED, "code": 10}
    assert judge(wanted, 10, "choose one", BEFORE) == []
    assert judge(wanted, 2, "choose one", BEFORE)


@pytest.mark.parametrize(
    ("comes", "wanted", "asked"),
    [
        (False, True, ["status", "start"]),
        (True, True, ["status"]),
        (True, False, ["status", "stop"]),
        (False, False, ["status"]),
    ],
)
def test_traffic_is_as_the_case_wants_it(monkeypatch, comes: bool, wanted: bool, asked: list[str]) -> None:
    seen = []

    def sandbox(*argv: str) -> str:
        seen.append(argv[1])
        return "traffic: running, pid 7" if comes else "traffic: none"

    monkeypatch.setattr(case, "sandbox", sandbox)
    case.visit(wanted)
    assert seen == asked


@pytest.fixture
def looked(monkeypatch, tmp_path: Path) -> list[str]:
    """What was looked at anew on the app host."""
    seen: list[str] = []
    monkeypatch.setattr(case, "LEFT", tmp_path / "left.json")
    monkeypatch.setattr(case, "CHANGED", tmp_path / "lock")
    case.CHANGED.touch()
    os.utime(case.CHANGED, (1, 1))
    monkeypatch.setattr(case, "observe", lambda: seen.append("anew") or {"head": "anew"})
    return seen


def test_a_case_begins_with_what_the_one_before_left(looked: list[str]) -> None:
    case.leave(REFUSED, [], AFTER)
    assert case.before(REFUSED) == AFTER
    assert looked == []
    # Once only: what this one leaves is not known yet.
    assert case.before(REFUSED) == {"head": "anew"}


@pytest.mark.parametrize("key", ["reset", "break", "on_app"])
def test_where_something_happened_since_it_looks_again(looked: list[str], key: str) -> None:
    case.leave(REFUSED, [], AFTER)
    assert case.before({**REFUSED, key: ["x"]}) == {"head": "anew"}


@pytest.mark.parametrize("key", ["break", "off_app", "kill", "rival", "interrupt", "down", "proof"])
def test_what_may_go_on_changing_is_not_passed_on(looked: list[str], key: str) -> None:
    case.leave({**REFUSED, key: ["x"]}, [], AFTER)
    assert case.before(REFUSED) == {"head": "anew"}


def test_neither_is_what_a_failed_case_left_nor_what_is_old(looked: list[str]) -> None:
    case.leave(REFUSED, ["it should fail"], AFTER)
    assert case.before(REFUSED) == {"head": "anew"}
    case.leave(REFUSED, [], AFTER)
    os.utime(case.LEFT, (1, 1))
    assert case.before(REFUSED) == {"head": "anew"}


def test_a_reset_between_two_scenarios_is_not_taken_for_what_the_case_did(looked: list[str]) -> None:
    case.leave(REFUSED, [], AFTER)
    case.CHANGED.touch()
    assert case.before(REFUSED) == {"head": "anew"}


def test_a_run_is_interrupted_at_its_word(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = case.start(["sh", "-c", "echo half   way; exec sleep 60"], log)
    case.interrupt_when(process, "half way", log)
    assert process.wait(timeout=10) == -case.signal.SIGINT


def test_a_run_that_never_says_it_cannot_be_interrupted(tmp_path: Path) -> None:
    process = case.start(["true"], tmp_path / "log")
    with pytest.raises(case.CaseError, match="half way"):
        case.interrupt_when(process, "half way", tmp_path / "log")


def test_what_is_as_it_should_be_is_not_complained_about() -> None:
    assert judge(REFUSED, 2, "no:\n  choose   one", BEFORE) == []
    assert judge(DONE, 0, "app : changed=2", AFTER) == []


@pytest.mark.parametrize("key", case.STILL)
def test_a_refused_run_touches_nothing(key: str) -> None:
    assert judge(REFUSED, 2, "choose one", BEFORE, **{key: "other"})


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "choose one"),
        (2, "something else"),
        (2, "choose one hunter22"),
        (2, "choose one\nTraceback (most recent call last):"),
    ],
)
def test_the_end_and_the_words_of_a_refusal(code: int, text: str) -> None:
    assert judge(REFUSED, code, text, BEFORE)


@pytest.mark.parametrize(
    ("code", "text", "changes"),
    [
        (2, "changed=2", {}),
        (0, "changed=3", {}),
        (0, "", {}),
        (0, "changed=2", {"describe": "v1"}),
        (0, "changed=2", {"dirty": " M x"}),
        (0, "changed=2", {"backend": BEFORE["backend"]}),
        (0, "changed=2", {"backend": []}),
        (0, "changed=2", {"health": {"code": 500, "body": ""}}),
        (0, "changed=2", {"web": 0}),
        (0, "changed=2", {"lock": "{}"}),
        (0, "changed=2", {"leaks": ["journal.jsonl"]}),
        (0, "changed=2", {"run": {**AFTER["run"], "damaged": 1}}),
        (0, "changed=2", {"run": {**AFTER["run"], "records": []}}),
        (0, "changed=2", {"run": {**AFTER["run"], "records": [{"event": "end", "outcome": "failed"}]}}),
    ],
)
def test_a_rollback_is_complete(code: int, text: str, changes: dict) -> None:
    assert judge(DONE, code, text, AFTER, **changes)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parts[-3])
def test_tables_hold_only_what_the_driver_knows(path: Path) -> None:
    table = yaml.safe_load(path.read_text(encoding="utf-8"))["cases"]
    assert table
    for entry in table:
        assert set(entry) <= case.KNOWN
        assert entry["ends"] in ("ok", "failed")
        assert all(isinstance(part, str) for part in entry.get("says", []))
    names = [entry["name"] for entry in table]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("table", "quick", "left_out"),
    [
        ({"thorough": True}, "1", "only with --thorough"),
        ({"thorough": True}, None, None),
        ({}, "1", None),
        ({"needs": "containers"}, None, "needs containers"),
    ],
)
def test_what_is_left_out_says_why(monkeypatch, tmp_path, capsys, table, quick, left_out) -> None:
    ran, results = [], tmp_path / "cases.tsv"
    hosts = tmp_path / ".cache/sandbox/hosts.json"
    hosts.parent.mkdir(parents=True)
    hosts.write_text('{"mode": "here"}')
    monkeypatch.setattr(case, "PROJECT", tmp_path)
    monkeypatch.setattr(case, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(case, "run", lambda table: ran.append(table["name"]) or [])
    monkeypatch.setattr(case.sys, "argv", ["case.py", json.dumps({"name": "x", "ends": "ok", **table})])
    monkeypatch.setenv("SPARKLIO_CASES", str(results))
    monkeypatch.delenv("SPARKLIO_QUICK", raising=False)
    if quick:
        monkeypatch.setenv("SPARKLIO_QUICK", quick)
    assert case.main() == 0
    assert ran == ([] if left_out else ["x"])
    if left_out:
        assert left_out in capsys.readouterr().out and results.read_text().startswith("skipped\t0\tx: ")
    else:
        assert results.read_text().startswith("passed\t")


def test_what_failed_says_why_in_one_line(monkeypatch, tmp_path) -> None:
    results = tmp_path / "cases.tsv"
    monkeypatch.setenv("SPARKLIO_CASES", str(results))
    case.report("failed", 3.4, "x", ["head changed:\n  a ->\tb", "y" * 1000])
    assert results.read_text() == "failed\t3\tx\thead changed: a -> b\t" + "y" * 300 + "\n"
