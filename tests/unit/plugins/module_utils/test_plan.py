from __future__ import annotations

import copy
import json
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.sparklio.rollback.plugins.filter import plan as filters
from ansible_collections.sparklio.rollback.plugins.module_utils import _plan
from hypothesis import given
from hypothesis import strategies as st


def facts(**changes):
    """A host on which nothing stands against going from v2 to v1. ``a__b=x`` sets facts["a"]["b"]."""
    found = {
        "release": {
            "current": {
                "tag": "v2",
                "commit": "b" * 40,
                "date": 200,
                "branch": "main",
                "dirty": [],
                "checked_out_at": 1000.0,
                "alembic_heads": ["r1", "s1"],
            },
            "target": {"tag": "v1", "commit": "a" * 40, "date": 100, "alembic_heads": ["s1", "r1"]},
            "overwritten": [],
            "bad_releases": [],
        },
        "settings": {"save_changes": False, "allow_bad": False, "min_free_mb": 2000, "bad_releases": []},
        "host": {
            "missing": [],
            "writable": True,
            "same_device": True,
            "free_mb": 9000,
            "root_free_mb": 9000,
            "state_dir": "/srv/app.rollback",
            "user": "sparklio",
        },
        "schema": {"connected": True, "heads": ["s1", "r1"]},
        "backend": {"running": True, "serving_since": 2000.0, "conflict": None, "how": "restart"},
        "frontend": {"running": True, "conflict": None, "how": "reload"},
        "python_env": {"action": "unchanged"},
        "frontend_build": {"action": "cached", "packages": "unchanged"},
        "history": [],
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        place = found
        for key in above:
            place = place[key]
        place[last] = value
    return found


SAME = {"release__target": {"tag": "v2", "commit": "b" * 40, "date": 200, "alembic_heads": ["r1", "s1"]}}


def test_nothing_stands_against_a_good_host():
    plan = _plan.level1(facts())
    assert plan["refusals"] == [] and not plan["unchanged"]
    assert (plan["from"]["name"], plan["to"]["name"]) == ("v2", "v1")
    skipped = {item["step"] for item in plan["steps"] if item["skip"]}
    assert skipped == {"tree", "python_env", "backend_artifacts"}


@pytest.mark.parametrize(
    ("changes", "code", "message", "cure"),
    [
        (
            {"release__current__dirty": ["a", "b", "c", "d"]},
            "dirty",
            "4 tracked file.*a, b, c and 1 more",
            "save_changes",
        ),
        ({"release__overwritten": ["x"]}, "overwritten", "1 file.*not track: x", "Move them away"),
        ({"release__bad_releases": ["v1"]}, "bad_release", "v1 was left", "rollback_allow_bad=true"),
        (
            {"schema__heads": ["r1", "s2"]},
            "schema",
            "v1 needs the schema at r1, s1.*r1, s2",
            "level3.yml -e target_tag=v1",
        ),
        ({"schema__heads": []}, "schema", "database is at nothing", "level3"),
        ({"schema__heads": ["s2"], "release__target__date": 300}, "schema", "needs", "alembic upgrade"),
        ({"schema": {"connected": False, "error": "refused"}}, "schema_unknown", "refused", "schema_check=false"),
        ({"host__missing": ["npm"]}, "tools", "npm", "PATH"),
        ({"host__writable": False}, "not_writable", "User sparklio may not", "owner"),
        ({"host__same_device": False}, "device", "another file system", "rollback_state_dir"),
        ({"host__free_mb": 100}, "disk", "100 MiB are free and 200", "Free some space"),
        ({"host__root_free_mb": 1999, "python_env__action": "build"}, "disk", "1999 .* 2000", "Free some space"),
        ({"backend__conflict": "process 1 (nginx)"}, "backend_conflict", "process 1", "Nothing was stopped"),
        ({"frontend__conflict": "pm2's x"}, "frontend_conflict", "pm2's x", "Nothing was stopped"),
        ({"backend__refusal": "no", "backend__cure": "do"}, "backend", "no", "do"),
    ],
)
def test_each_refusal_stands_alone_and_names_its_cure(changes, code, message, cure):
    plan = _plan.level1(facts(**changes))
    assert [item["code"] for item in plan["refusals"]] == [code]
    line = _plan.refusal_line(plan)
    assert "\n" not in line
    assert cure in line
    assert re.search(message, line)


@pytest.mark.parametrize(
    "changes",
    [
        {"release__current__dirty": ["a"], "settings__save_changes": True},
        {"release__bad_releases": ["v1"], "settings__allow_bad": True},
        {"schema": None},
        {
            "schema": {"connected": False},
            "release__current__alembic_heads": [],
            "release__target__alembic_heads": [],
        },
        {"host__free_mb": 200, "host__root_free_mb": 200},
    ],
)
def test_what_the_operator_allowed_is_no_refusal(changes):
    assert _plan.level1(facts(**changes))["refusals"] == []


def test_all_refusals_are_said_at_once():
    plan = _plan.level1(facts(host__missing=["npm"], schema__heads=["x"], release__current__dirty=["a"]))
    assert [item["code"] for item in plan["refusals"]] == ["dirty", "schema", "tools"]
    assert _plan.refusal_line(plan).count(" | ") == 2


def test_a_release_that_serves_already_is_unchanged_whatever_the_host_lacks():
    plan = _plan.level1(facts(**SAME, host__free_mb=0))
    assert plan["unchanged"] and plan["refusals"] == []


def test_a_frontend_that_is_down_is_started_though_its_build_is_the_right_one():
    plan = _plan.level1(facts(**SAME, frontend__running=False, frontend_build__action="unchanged"))
    assert not plan["unchanged"] and "the frontend does not run" in plan["warnings"][0]
    skipped = {item["step"]: item["skip"] for item in plan["steps"]}
    assert skipped["frontend_artifacts"] and not skipped["frontend"]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"backend__serving_since": 900.0}, "started before the tree was last changed"),
        ({"backend__running": False, "backend__serving_since": None}, "does not run"),
    ],
)
def test_the_right_tree_alone_is_not_enough(changes, warning):
    plan = _plan.level1(facts(**SAME, **changes))
    assert not plan["unchanged"] and warning in plan["warnings"][0]
    assert next(item for item in plan["steps"] if item["step"] == "checkout")["skip"]
    assert not next(item for item in plan["steps"] if item["step"] == "backend")["skip"]


ACTIONS = st.sampled_from(["unchanged", "cached", "build"])


@given(ACTIONS, ACTIONS, ACTIONS, st.integers(0, 5000), st.lists(st.sampled_from(["a", "b", "c"])), st.booleans())
def test_the_same_facts_give_the_same_hash_and_are_left_alone(env, build, packages, free, dirty, save):
    given_facts = facts(
        python_env__action=env,
        frontend_build__action=build,
        frontend_build__packages=packages,
        host__free_mb=free,
        release__current__dirty=dirty,
        settings__save_changes=save,
    )
    before = copy.deepcopy(given_facts)
    plan = _plan.level1(given_facts)
    assert given_facts == before
    again = _plan.level1(json.loads(json.dumps(given_facts)))
    assert again == plan and again["hash"] == plan["hash"]
    other = facts(release__target__commit="c" * 40)
    assert _plan.level1(other)["hash"] != plan["hash"]


@pytest.mark.parametrize(
    "change",
    [
        {"release__target__commit": "c" * 40},
        {"python_env__action": "build"},
        {"backend__how": "reload"},
        {"host__missing": ["npm"]},
        {"release__current__branch": None},
    ],
)
def test_an_approval_does_not_outlive_a_change_of_what_would_be_done(change):
    assert _plan.level1(facts(**change))["hash"] != _plan.level1(facts())["hash"]


def test_the_expected_time_is_the_median_of_the_runs_that_got_there():
    def run(seconds, outcome="rolled_back"):
        return {"outcome": outcome, "seconds": {"check": seconds, "switch": None}}

    assert _plan.expected_seconds([]) is None
    assert _plan.expected_seconds([run(900), run(10), run(20), run(5, "refused")]) == 20


def test_the_plan_reads_on_a_terminal():
    lines = _plan.plan_lines(_plan.level1(facts(backend__running=False)))
    assert lines[0].startswith("v2 -> v1   plan ")
    assert any(line.startswith("skip     Python environment: unchanged") for line in lines)
    assert any(line.startswith("warning: the backend does not run") for line in lines)


def test_the_filter_names_the_fact_that_lacks():
    known = filters.FilterModule().filters()
    assert known["level1_plan"](facts())["level"] == 1
    broken = facts()
    del broken["host"]
    with pytest.raises(AnsibleFilterError, match="level1_plan lacks a fact: 'host'"):
        known["level1_plan"](broken)
