"""What the role asks systemd about the backend, and when it starts again what an undo has stopped. No host is asked."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import made, task

NAMES = {"backend_restart_app_root": "/app", "backend_restart_run": {}, "backend_restart_service": "api"}
UNIT = {
    "found": True,
    "running": True,
    "reloadable": False,
    "serving_since": 5.0,
    "overridden": ["A"],
    "unknown": ["B"],
}


def test_systemd_is_asked_for_the_variables_that_are_about_to_change():
    options = task("backend_restart", "check_systemd", "Check systemd | Look at the unit")
    options = options["sparklio.rollback.systemd_unit_info"]
    renew = {"files": ["/app/backend/.env"], "keys": ["A"]}
    found = made("backend_restart", options, **NAMES, config_restore_renew={"backend": renew})
    assert found == {"name": "api", "variables": renew}
    assert made("backend_restart", options, **NAMES)["variables"] == {}


def test_what_the_unit_sets_by_itself_is_kept_for_the_plan():
    fact = task("backend_restart", "check_systemd", "Check systemd | Keep it for the plan")["ansible.builtin.set_fact"]
    state = made("backend_restart", fact, **NAMES, __backend_restart_unit=UNIT)["backend_restart_state"]
    assert {name: state[name] for name in UNIT if name != "found"} == {k: v for k, v in UNIT.items() if k != "found"}
    assert state["conflict"] is None and state["refusal"] == ""
    gone = made("backend_restart", fact, **NAMES, __backend_restart_unit={**UNIT, "found": False})
    assert gone["backend_restart_state"]["conflict"] == "systemd has no unit api (rollback_backend_service)"


STOPPED = {
    "run_undone": False,
    "backend_restart_stopped": True,
    "run_pending": {"database": {}, "backend": {}, "checkout": {}},
}


@pytest.mark.parametrize(
    ("facts", "starts"),
    [
        ({}, True),
        ({"run_undone": True}, False),
        # What is in the tree does not fit the database that was put back, or was never proven to.
        ({"alembic_downgrade_undone": {}}, False),
        ({"run_pending": {"database": {}}}, False),
        ({"run_pending": {"backend": {}}}, False),
        ({"backend_restart_stopped": False}, False),
    ],
)
def test_it_starts_again_only_where_the_database_is_as_it_was(facts: dict[str, Any], starts: bool):
    found = task("backend_restart", "undo_start", "Undo start | Let serve again what was stopped for nothing")
    wanted = [made("backend_restart", "{{ " + item + " }}", **{**STOPPED, **facts}) for item in found["when"]]
    assert all(isinstance(item, bool) for item in wanted) and all(wanted) == starts


def test_without_an_undo_it_starts_nothing():
    found = task("backend_restart", "undo_start", "Undo start | Let serve again what was stopped for nothing")
    known = {key: value for key, value in STOPPED.items() if key != "run_undone"}
    assert not all(made("backend_restart", "{{ " + item + " }}", **known) for item in found["when"])
