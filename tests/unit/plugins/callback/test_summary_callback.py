from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible import constants as C
from ansible_collections.sparklio.rollback.plugins.callback import summary
from ansible_collections.sparklio.rollback.plugins.module_utils import _assess, _summary


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
