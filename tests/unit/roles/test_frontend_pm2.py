"""What the role asks pm2 about the frontend, and what it keeps of the answer. No host is asked."""

from __future__ import annotations

from typing import Any

from rendering import made, task

NAMES = {"frontend_pm2_app_root": "/app", "frontend_pm2_run": {}}


def asked(**facts: Any) -> dict[str, Any]:
    options = task("frontend_pm2", "find", "Find | Look at the frontend under pm2")["sparklio.rollback.pm2_app"]
    return made("frontend_pm2", options, **NAMES, **facts)


def test_pm2_is_asked_for_the_variables_that_are_about_to_change():
    renew = {"files": ["/app/frontend/.env.local"], "keys": ["API_URL"]}
    assert asked(config_restore_renew={"backend": {}, "frontend": renew})["variables"] == renew


def test_a_level_that_leaves_the_configuration_alone_asks_for_none():
    assert asked()["variables"] == {}


def test_what_pm2_keeps_by_itself_is_kept_for_the_plan():
    fact = task("frontend_pm2", "find", "Find | Keep it for the plan")["ansible.builtin.set_fact"]
    app = {"found": True, "instances": [{"status": "online", "mode": "fork"}], "conflict": None}
    facts = {
        "__frontend_pm2_app": {**app, "inherited": ["API_URL"], "overridden": ["OTHER"]},
        "__frontend_pm2_process": {"skipped": True},
    }
    state = made("frontend_pm2", fact, **NAMES, **facts)["frontend_pm2_state"]
    assert (state["stuck"], state["inherited"], state["overridden"]) == (["API_URL"], [], ["OTHER"])
