from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _settings


def problems(takes_back=True, **given):
    return _settings.problems({"app_root": "/app", **given}, takes_back)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"undo": "r1"},
        {"purge": "r1"},
        {"target_tag": "v1", "restore_point": "newest"},
        {"steps": -1},
        {"steps": "-12"},
        {"rollback_on_failure": "hold", "rollback_database_mode": "in_place", "backup_verify": "none"},
        {"target_tag": "", "restore_point": ""},
    ],
)
def test_what_is_well_meant_is_let_through(given):
    assert problems(**given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"app_root": None}, "rollback_app_root is not set"),
        ({"app_root": ["x"]}, "rollback_app_root is not set"),
        ({"leftover": "new editor"}, "this is left over: new editor. A value with blanks wants quotes"),
        ({"rollback_on_failure": "stop"}, "rollback_on_failure is 'stop'. Give revert or hold."),
        ({"rollback_database_mode": "fast"}, "rollback_database_mode is 'fast'. Give copy or in_place."),
        ({"backup_verify": "스키마"}, "backup_verify is '스키마'. Give restore or checksum or none."),
        ({"steps": "abc"}, "steps is 'abc'. Give how many revisions to take back, below zero: -e steps=-1"),
        ({"steps": 0}, "steps is 0."),
        ({"steps": 1}, "steps is 1."),
        ({"steps": "-0"}, "steps is '-0'."),
        ({"steps": " "}, "steps is empty."),
        ({"undo": ""}, "undo is empty. Give a value, or leave it out."),
        ({"approve_as": " "}, "approve_as is empty."),
        ({"undo": "r1", "purge": "r2"}, "Given are undo and purge, and each is a run of its own."),
        ({"undo": "r1", "target_tag": "v1"}, "Given are undo and target_tag,"),
        ({"purge": "r1", "restore_point": "p"}, "Given are purge and restore_point,"),
        ({"undo": "r1", "config_timestamp": "t"}, "Given are undo and config_timestamp,"),
        ({"takes_back": False, "undo": "r1"}, "playbooks/level3.yml -e undo=r1"),
        ({"target_tag": "v1", "steps": -1}, "Name one target: target_tag for"),
        ({"target_revision": "base", "steps": -1}, "Given are target_revision and steps."),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_cure(given, said):
    found = problems(**given)
    assert len(found) == 1 and said in found[0]


def test_all_of_it_is_told_at_once():
    assert len(problems(steps="x", backup_verify="y", leftover="z", app_root=None)) == 4
