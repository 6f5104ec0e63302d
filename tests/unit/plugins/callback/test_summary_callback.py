from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible import constants as C
from ansible_collections.sparklio.rollback.plugins.callback import summary
from ansible_collections.sparklio.rollback.plugins.module_utils import _assess, _summary

LOCK = "sparklio.rollback.run_lock"


def result(host, answer, action=LOCK):
    return SimpleNamespace(
        _host=SimpleNamespace(get_name=lambda: host), _task=SimpleNamespace(action=action), _result=answer
    )


class Screen:
    def __init__(self):
        self.lines = []

    def display(self, text, color=None):
        self.lines.append(text)


@pytest.fixture
def callback(monkeypatch):
    # Loads what Ansible has found on its paths, and nothing is looked for here.
    monkeypatch.setattr(summary, "filter_loader", SimpleNamespace(get=lambda name: None))
    found = summary.CallbackModule()
    found._display = Screen()
    return found


def end(callback, outcome=None):
    """Let the playbook end, and return the exit code that the callback asks for, or None."""
    try:
        callback.v2_playbook_on_stats(
            SimpleNamespace(custom={"_run": {"sparklio_rollback": outcome}} if outcome else {})
        )
    except SystemExit as exc:
        return exc.code
    return None


def lose_host(callback):
    host = SimpleNamespace(get_name=lambda: "app1")
    callback.v2_runner_on_unreachable(SimpleNamespace(_host=host, _result={"msg": "no route to host"}))


def assessed(recommendation):
    return _assess.overall({"app1": {**_assess.unassessed("app1", "why"), "recommendation": recommendation}})


@pytest.mark.parametrize("recommendation", _assess.RECOMMENDATIONS)
def test_an_assessment_ends_with_its_own_code_after_all_is_printed(callback, recommendation):
    assert end(callback, assessed(recommendation)) == (_assess.EXIT_CODES[recommendation] or None)
    assert any("could not be assessed: why" in line for line in callback._display.lines)


def test_a_level_keeps_ansibles_code(callback):
    assert end(callback, {"outcome": "failed", "level": 1, "message": "it broke"}) is None
    assert callback._display.lines[0] == "FAILED / 실패"


@pytest.mark.parametrize("outcome", _summary._RANKS)
def test_only_what_went_wrong_is_shown_as_such(outcome):
    wrong = outcome in ("failed", "held", "reverted", "refused")
    assert summary._COLORS.get(outcome) == (None if wrong else C.COLOR_OK)


def test_nothing_is_said_of_other_playbooks(callback):
    assert end(callback) is None
    assert callback._display.lines == []


@pytest.mark.parametrize(("playbook", "code"), [("/x/playbooks/assess.yml", 14), ("/x/playbooks/level1.yml", None)])
def test_a_host_that_went_away_before_any_outcome(callback, playbook, code):
    callback.v2_playbook_on_start(SimpleNamespace(_file_name=playbook))
    lose_host(callback)
    assert end(callback) == code
    assert callback._display.lines[0].startswith("UNREACHABLE")


def test_an_outcome_counts_more_than_a_host_that_went_away(callback):
    callback.v2_playbook_on_start(SimpleNamespace(_file_name="assess.yml"))
    lose_host(callback)
    assert end(callback, assessed("rollback")) == 10


TAKEN = {"run_id": "r1", "history": []}


def test_a_run_that_is_interrupted_is_named_with_what_takes_it_back(callback):
    callback.v2_runner_on_ok(result("app", TAKEN))
    callback.interrupted()
    assert callback._display.lines[0] == "INTERRUPTED / 중단됨"
    assert any("playbooks/resume.yml -e rollback_lock_takeover=r1" in line for line in callback._display.lines)


@pytest.mark.parametrize(
    "results",
    [
        [],
        [result("app", {"run_id": "r1", "history": []}, "ansible.builtin.debug")],
        [result("app", TAKEN), result("app", {"run_id": "r1"})],
        [result("app", {"run_id": "", "history": [], "cleared": None})],
    ],
)
def test_where_no_lock_is_held_nothing_is_said(callback, results):
    for item in results:
        callback.v2_runner_on_ok(item)
    callback.interrupted()
    assert callback._display.lines == []


def test_a_run_that_came_to_its_end_was_not_interrupted(callback):
    callback.v2_runner_on_ok(result("app", TAKEN))
    end(callback, {"outcome": "failed", "level": 1, "message": "it broke"})
    callback.interrupted()
    assert not any("INTERRUPTED" in line for line in callback._display.lines)


def test_a_dry_run_holds_no_lock(callback, monkeypatch):
    monkeypatch.setattr(summary.context, "CLIARGS", {"check": True})
    callback.v2_runner_on_ok(result("app", TAKEN))
    callback.interrupted()
    assert callback._display.lines == []


def test_what_is_printed_can_be_pasted(callback, monkeypatch):
    given = {"inventory": ["a,", "/elsewhere/prod"], "args": ["sparklio.rollback.level1"]}
    monkeypatch.setattr(summary.context, "CLIARGS", given)
    end(callback, {"outcome": "failed", "next": ["ansible-playbook -i INVENTORY playbooks/resume.yml"]})
    assert (
        "  next / 다음: ansible-playbook -i a, -i /elsewhere/prod sparklio.rollback.resume" in callback._display.lines
    )
