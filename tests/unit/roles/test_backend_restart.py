"""What the role asks systemd about the backend, and what it keeps of the answer. No host is asked."""

from __future__ import annotations

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
