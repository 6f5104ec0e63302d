from __future__ import annotations

import copy
import json
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.sparklio.rollback.plugins.filter import plan as filters
from ansible_collections.sparklio.rollback.plugins.module_utils import _approval, _plan, _schema_plan
from hypothesis import given
from hypothesis import strategies as st


def revision(name="r2", marks=("loses_data",), drops=(("table", "learnings", None),), reason="table learnings is gone"):
    return {
        "revision": name,
        "file": f"backend/alembic/versions/{name}.py",
        "title": f"About {name}.",
        "down_revisions": ["r1"],
        "marks": list(marks),
        "reasons": [{"mark": mark, "line": 7, "reason": reason} for mark in marks],
        "drops": [{"kind": kind, "table": table, "name": what, "line": 7} for kind, table, what in drops],
    }


def facts(**changes):
    """A system on which nothing stands against going from v2 to v1. ``a__b=x`` sets facts["a"]["b"]."""
    found = {
        "release": {
            "current": {
                "tag": "v2",
                "commit": "b" * 40,
                "date": 200,
                "branch": "main",
                "dirty": [],
                "checked_out_at": 1000.0,
                "alembic_heads": ["r2"],
            },
            "target": {"tag": "v1", "commit": "a" * 40, "date": 100, "alembic_heads": ["r1"]},
            "overwritten": [],
            "bad_releases": [],
        },
        "settings": {
            "save_changes": False,
            "allow_bad": False,
            "min_free_mb": 2000,
            "bad_releases": [],
            "mode": "copy",
            "accept_irreversible": [],
            "accept_dropped": [],
            "accept_drift": False,
            "rehearses": True,
            "confirm_base": "",
            "code": True,
        },
        "host": {
            "missing": [],
            "writable": True,
            "same_device": True,
            "free_mb": 9000,
            "root_free_mb": 9000,
            "state_dir": "/srv/app.rollback",
            "user": "sparklio",
        },
        "schema": {"connected": True, "heads": ["r2"]},
        "backend": {"running": True, "serving_since": 2000.0, "conflict": None, "how": "restart"},
        "frontend": {"running": True, "conflict": None, "how": "reload"},
        "python_env": {"action": "unchanged"},
        "frontend_build": {"action": "cached", "packages": "unchanged"},
        "history": [],
        "path": {
            "current_heads": ["r2"],
            "target_heads": ["r1"],
            "tree_heads": ["r2"],
            "unapplied": [],
            "target": {"kind": "commit", "name": "v1", "commit": "a" * 40, "revision": None},
            "base": False,
            "path": [revision()],
            "differing": [],
            "problems": [],
        },
        "sql": {"revisions": {"r2": "DROP TABLE learnings"}, "error": None},
        "lint": [],
        "server": {
            "database": "sparklio_v4",
            "identity": "7391204856123456789/16384",
            "bytes": 10**9,
            "owner": "sparklio_user",
            "user": "sparklio_user",
            "superuser": False,
            "createdb": True,
            "owns": True,
            "can_terminate": True,
            "maker": "sparklio_user",
            "server_version": "15.18",
            "number": 150018,
            "untrusted": [],
            "disk": {"path": "/var/lib/postgresql", "free": 9 * 2**30, "needed": 2**30},
            "sessions": [],
            "migrating": [],
            "prepared": [],
            "slots": [],
            "subscriptions": [],
            "timeouts": [],
            "lost": [{"table": "learnings", "column": None, "rows": 1204, "non_null": None, "reason": None}],
            "error": None,
            "seconds": 0.3,
        },
        "approval": {"required": False, "found": None},
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        place = found
        for key in above:
            place = place[key]
        place[last] = value
    return found


NO_CODE = {"settings__code": False, "release__target": None}
NOTHING = {"path__path": [], "path__target_heads": ["r2"]}
EMPTY = revision(marks=["empty"], drops=[], reason="downgrade() does nothing, and upgrade() does something")


def test_nothing_stands_against_a_good_system():
    plan = _schema_plan.level3(facts())
    assert plan["refusals"] == [] and not plan["unchanged"] and plan["level"] == 3 and plan["mode"] == "copy"
    assert (plan["from"]["name"], plan["to"]["name"]) == ("v2", "v1")
    assert (plan["from"]["alembic_heads"], plan["to"]["alembic_heads"]) == (["r2"], ["r1"])
    assert [(item["act"], item["step"]) for item in plan["steps"] if not item["skip"]] == [
        ("preserve", "restore_point"),
        ("preserve", "branch"),
        ("prepare", "rehearsal"),
        ("prepare", "frontend_build"),
        ("switch", "backend_stop"),
        ("switch", "database"),
        ("switch", "checkout"),
        ("switch", "backend"),
        ("switch", "frontend_artifacts"),
        ("switch", "frontend"),
    ]
    assert all(item["reversible"] for item in plan["steps"])
    assert plan["warnings"] == ["lost to the target, and kept in the parked database: table learnings"]


def test_without_the_code_only_the_database_and_the_backend_are_touched():
    given_facts = facts(**NO_CODE)
    for key in ("frontend", "python_env", "frontend_build"):
        del given_facts[key]
    plan = _schema_plan.level3(given_facts)
    assert plan["refusals"] == []
    assert (plan["from"]["name"], plan["to"]["name"]) == ("v2 at r2", "v2 at r1")
    assert plan["to"]["commit"] == plan["from"]["commit"]
    assert [item["step"] for item in plan["steps"]] == [
        "restore_point",
        "rehearsal",
        "backend_stop",
        "database",
        "backend",
    ]


# As pg_readiness returns them.
SESSION = {"pid": 7, "user": "etl", "application": "", "state": "idle in transaction", "seconds": 9.0}
SESSION["terminable"] = True
MIGRATING = {"pid": 7, "user": "u", "application": "", "seconds": 3.0, "query": "ALTER", "waiting": False, "tables": []}
CRM = {"name": "crm", "enabled": True}
CDC = {"name": "cdc", "plugin": "pgoutput", "active": False}


@pytest.mark.parametrize(
    ("changes", "code", "message", "cure"),
    [
        ({"path__problems": [{"code": "ahead", "message": "m", "cure": "c"}]}, "ahead", "m", "c"),
        (
            {"path__path": [EMPTY]},
            "irreversible",
            "downgrade.. of r2 does nothing",
            """-e '{"accept_irreversible": ["r2"]}'""",
        ),
        (
            {"path__path": [revision(marks=["raises"], reason="downgrade() raises X")]},
            "no_downgrade",
            "r2: downgrade.. raises X .backend/alembic/versions/r2.py:7",
            "Restore the database",
        ),
        (
            {"path__path": [revision(marks=["missing"])], "settings__accept_irreversible": ["r2"]},
            "no_downgrade",
            "can't be taken back at all",
            "Restore the database",
        ),
        ({"path__base": True}, "base", r"Everything.*sparklio_v4", "-e confirm_base=sparklio_v4"),
        ({"path__base": True, "settings__confirm_base": "other"}, "base", "Everything", "-e confirm_base=sparklio_v4"),
        ({"schema": {"connected": False, "error": "refused"}}, "database", "can't be asked: refused", "Bring it up"),
        ({"server__error": "no route"}, "database", "can't be asked: no route", "Bring it up"),
        ({"schema__heads": ["r3"]}, "moved", "is at r3, and the path begins at r2", "try again"),
        ({"server__createdb": False}, "createdb", "sparklio_user may not create", "rollback_database_admin_command"),
        (
            {"server__unsettable": ["log_min_duration_statement", "work_mem of role a"], "server__maker": "maker"},
            "settings",
            "maker may not set .* sparklio_v4: log_min_duration_statement, work_mem of role a",
            "ALTER DATABASE sparklio_v4 RESET",
        ),
        (
            {"server__strangers": ["postgres"], "server__maker": "maker", "settings__mode": "in_place"},
            "strangers",
            "postgres own something in sparklio_v4",
            "GRANT the role TO maker, or set rollback_database_admin_command",
        ),
        (
            {"server__untrusted": ["vector"], "server__maker": "maker"},
            "untrusted",
            "maker may not make vector, an extension",
            "Set rollback_database_admin_command",
        ),
        ({"shared_with": ["app2", "app3"]}, "shared", "that of app2, app3 too", "-e rollback_hosts=HOST"),
        ({"server__owns": False, "server__owner": "dba"}, "owner", "belongs to dba", "rollback_database_admin_command"),
        ({"server__can_terminate": False}, "terminate", "may not end", "GRANT pg_signal_backend TO sparklio_user"),
        (
            {"server__disk": {"path": "/pg", "free": 2**30, "needed": 2**31}},
            "database_disk",
            r"1\.0 GiB are free in /pg, and 2\.0 GiB are needed",
            "purge",
        ),
        (
            {"server__slots": [{**CDC, "active": True}]},
            "slots",
            r"cdc \(active\)",
            "-e rollback_database_mode=in_place",
        ),
        ({"server__subscriptions": [CRM]}, "subscriptions", "crm", "-e rollback_database_mode=in_place"),
        (
            {"settings__mode": "in_place", "path__path": [revision(marks=["autocommit"])]},
            "autocommit",
            "r2 commits half-way",
            "rollback_database_mode=copy",
        ),
        (
            {"server__prepared": [{"gid": "x1", "owner": "pay", "seconds": 70.0}]},
            "prepared",
            "x1 of pay, 70 s old",
            "ROLLBACK PREPARED",
        ),
        (
            {"server__migrating": [MIGRATING]},
            "migrating",
            r"process 7 of u \(no name\) for 3 s",
            "pg_terminate_backend",
        ),
        (
            {"server__migrating": [{**MIGRATING, "seconds": None}]},
            "migrating",
            r"process 7 of u \(no name\)(?! for)",
            "pg_terminate_backend",
        ),
        ({"approval__required": True}, "approval_missing", "Nobody approved", "plan_approval"),
        ({"release__current__dirty": ["a"]}, "dirty", "1 tracked", "save_changes"),
        ({"release__bad_releases": ["v1"]}, "bad_release", "v1 was left", "rollback_allow_bad=true"),
        ({"host__missing": ["npm"]}, "tools", "npm", "PATH"),
        ({"host__free_mb": 100}, "disk", "100 MiB", "Free some space"),
        ({"frontend__conflict": "pm2's x"}, "frontend_conflict", "pm2's x", "Nothing was stopped"),
        ({**NO_CODE, "backend__conflict": "process 1"}, "backend_conflict", "process 1", "Nothing was stopped"),
        ({**NO_CODE, "host__writable": False}, "not_writable", "may not write", "owner"),
    ],
)
def test_each_refusal_stands_alone_and_names_its_cure(changes, code, message, cure):
    plan = _schema_plan.level3(facts(**changes))
    assert [item["code"] for item in plan["refusals"]] == [code]
    line = _plan.refusal_line(plan)
    assert "\n" not in line and cure in line
    assert re.search(message, line)


@pytest.mark.parametrize(
    "changes",
    [
        {"path__path": [EMPTY], "settings__accept_irreversible": ["r2"]},
        {"path__base": True, "settings__confirm_base": "sparklio_v4"},
        {"server__createdb": False, "server__owns": False, "server__can_terminate": False, "server__superuser": True},
        {"settings__mode": "in_place", "server__slots": [CDC]},
        {"settings__mode": "in_place", "server__owns": False, "server__subscriptions": [CRM]},
        {"path__path": [revision(marks=["autocommit"])]},
        # A copy of the files needs no right to make what is in them.
        {"settings__mode": "in_place", "settings__rehearses": False, "server__untrusted": ["vector"]},
        {"server__strangers": ["postgres"]},
        {**NOTHING, "shared_with": ["app2"]},
        {**NO_CODE, "release__current__dirty": ["a"]},
        {**NO_CODE, "frontend__conflict": "x"},
        {"schema": None},
        {**NOTHING, "server__createdb": False, "approval__required": True},
    ],
)
def test_what_the_operator_allowed_or_is_not_touched_is_no_refusal(changes):
    assert _schema_plan.level3(facts(**changes))["refusals"] == []


def test_all_refusals_are_said_at_once():
    plan = _schema_plan.level3(
        facts(
            path__path=[EMPTY],
            server__createdb=False,
            server__prepared=[{"gid": "x", "owner": "y", "seconds": 1.0}],
            release__current__dirty=["a"],
            approval__required=True,
        )
    )
    codes = [item["code"] for item in plan["refusals"]]
    assert codes == ["irreversible", "createdb", "prepared", "dirty", "approval_missing"]


def test_a_database_that_cannot_be_asked_is_the_one_thing_that_is_said_of_it():
    plan = _schema_plan.level3(facts(path=None, server={"error": "refused"}, schema={"connected": False}))
    assert [item["code"] for item in plan["refusals"]] == ["database"] and plan["hash"] and not plan["unchanged"]


def test_revisions_that_are_not_known_are_not_the_base():
    """A database that is down is asked for its path all the same, as one that is at nothing."""
    down = {"schema": {"connected": False, "error": "refused"}, "path__current_heads": [], "path__path": []}
    plan = _schema_plan.level3(facts(**NO_CODE, **down, path__target_heads=[]))
    assert plan["from"]["name"] == "v2 at revisions that are not known / 리비전을 알 수 없음"
    assert plan["to"]["name"] is None and plan["from"]["alembic_heads"] == []
    assert _plan.plan_lines(plan)[0].startswith(f"{plan['from']['name']} -> ?")


def test_a_target_that_is_refused_is_no_way_to_the_base():
    problem = {"code": "unknown", "message": "There is no revision r9", "cure": "Choose one"}
    plan = _schema_plan.level3(
        facts(**NO_CODE, path__path=[], path__target_heads=[], path__problems=[problem], path__base=False)
    )
    assert (plan["from"]["name"], plan["to"]["name"]) == ("v2 at r2", None)
    base = _schema_plan.level3(facts(**NO_CODE, path__target_heads=[], path__base=True))
    assert base["to"]["name"] == "v2 at base (no revision at all)"


def test_whether_what_is_checked_out_serves():
    assert _schema_plan.level3(facts())["serving"]
    assert not _schema_plan.level3(facts(backend__running=False))["serving"]
    assert not _plan.level1(facts(backend__serving_since=900.0))["serving"]


def test_what_was_accepted_before_is_kept_in_what_to_type():
    changes = {"path__path": [EMPTY, {**EMPTY, "revision": "r0"}], "settings__accept_irreversible": ["r0"]}
    (found,) = _schema_plan.level3(facts(**changes))["refusals"]
    typed = re.search(r"-e '(.*)'", found["cure"])[1]
    assert json.loads(typed) == {"accept_irreversible": ["r0", "r2"]}
    assert _schema_plan.level3(facts(**{**changes, "settings__accept_irreversible": ["r0", "r2"]}))["refusals"] == []


def test_the_schema_is_there_already():
    same = {"tag": "v2", "commit": "b" * 40, "date": 200, "alembic_heads": ["r2"]}
    plan = _schema_plan.level3(facts(**NOTHING, release__target=same, host__free_mb=0))
    assert plan["unchanged"] and plan["refusals"] == []
    assert _schema_plan.level3(facts(**NOTHING, **NO_CODE))["unchanged"]
    broken = {"path__problems": [{"code": "ahead", "message": "m", "cure": "c"}]}
    assert not _schema_plan.level3(facts(**NOTHING, **NO_CODE, **broken))["unchanged"]


def test_the_code_alone_can_differ():
    plan = _schema_plan.level3(facts(**NOTHING))
    assert not plan["unchanged"] and "Level 1 does the same" in plan["warnings"][0]
    skipped = {item["step"] for item in plan["steps"] if item["skip"]}
    assert {"restore_point", "rehearsal", "backend_stop", "database"} <= skipped and "checkout" not in skipped


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"server__sessions": [{**SESSION, "transaction_seconds": 61.0}, {**SESSION, "transaction_seconds": None}]},
            r"1 long transaction.*: 7 of etl \(no name, idle in transaction, 61 s\)",
        ),
        (
            {"server__timeouts": [{"where": "role", "setting": "statement_timeout=5s"}]},
            "statement_timeout=5s of role is overridden",
        ),
        (
            {"path__differing": [{"revision": "r1", "how": "changed", "file": "f.py", "target_file": "f.py"}]},
            "f.py differs between the two releases",
        ),
        ({"path__unapplied": ["r3"]}, "the tree has revisions that the database has not: r3"),
        ({"sql": None}, "no SQL to read before the rehearsal: it was not made"),
        ({"sql": {"revisions": {}, "error": "r2 reads data"}}, "no SQL to read .*: r2 reads data"),
        ({"lint": None}, "the SQL was not linted: it was not tried"),
        ({"lint": None, "lint_error": "no squawk here"}, "the SQL was not linted: no squawk here"),
        (
            {"lint": [{"revision": "r2", "rule": "ban-drop-table", "message": "it locks", "line": 3}]},
            r"ban-drop-table in r2 \(line 3\): it locks",
        ),
        ({"server__disk": None}, "free space of the database's disk is not known"),
        ({"settings__accept_irreversible": ["r9"]}, "accept_irreversible names what is not taken back: r9"),
        ({"settings__mode": "in_place"}, "kept in the salvage schema: table learnings"),
        ({"backend__running": False}, "the backend does not run"),
    ],
)
def test_what_is_worth_knowing_is_a_warning(changes, says):
    plan = _schema_plan.level3(facts(**changes))
    assert plan["refusals"] == []
    assert any(re.search(says, text) for text in plan["warnings"])
    assert all("\n" not in text for text in plan["warnings"])


def test_a_line_for_each_revision_says_what_is_lost_and_what_is_skipped():
    path = [
        revision("m", ["merge"], [], "it brings branches together, and changes nothing"),
        {**EMPTY, "revision": "e"},
        revision("c", drops=[("column", "brands", "tone"), ("index", None, "i")], reason="x"),
        revision(),
        revision("u", ["loses_data", "changes_data"], [("values", "users", None)], "UPDATE of users"),
        revision("n", drops=[("table", None, None)]),
        revision("h", ["harmless"], [], "nothing that holds data is dropped or changed"),
    ]
    counts = [
        {"table": "public.learnings", "column": None, "rows": 1204, "non_null": None, "reason": None},
        {"table": "brands", "column": "tone", "rows": 40, "non_null": 38, "reason": None},
    ]
    plan = _schema_plan.level3(facts(path__path=path, server__lost=counts, settings__accept_irreversible=["e"]))
    assert plan["changes"] == [
        "revision m: a merge; it brings branches together, and changes nothing (line 7). About m",
        "revision e: can't be taken back; downgrade() does nothing, and upgrade() does something (line 7); skipped, "
        "what its upgrade() did stays, as accepted. About r2",
        "revision c: loses data; loses column brands.tone (38 of 40 rows have a value); drops index i. About c",
        "revision r2: loses data; loses table learnings (1,204 rows). About r2",
        "revision u: loses data, changes data; loses former values of users; UPDATE of users (line 7). About u",
        "revision n: loses data; loses a table named at run time: the rehearsal tells. About n",
        "revision h: harmless. About h",
    ]
    assert [(item["revision"], item["rows"], item["non_null"]) for item in plan["lost"]] == [
        ("c", 40, 38),
        ("r2", 1204, None),
        ("u", None, None),
        ("n", None, None),
    ]
    assert all(line in _plan.plan_lines(plan) for line in plan["changes"])
    assert [item["revision"] for item in plan["revisions"]] == ["m", "e", "c", "r2", "u", "n", "h"]


COUNT = st.one_of(st.none(), st.integers(0, 10**6))
TIME = st.floats(0, 10**6)
TRAFFIC = st.fixed_dictionaries(
    {
        "server__bytes": st.integers(0, 2**40),
        "server__lost": st.lists(
            st.fixed_dictionaries(
                {"table": st.sampled_from(["learnings", "x"]), "column": st.none(), "rows": COUNT, "non_null": COUNT}
            ),
            max_size=2,
        ),
        "server__sessions": st.lists(
            st.fixed_dictionaries(
                {
                    "pid": st.integers(1, 9999),
                    "user": st.just("u"),
                    "application": st.just(""),
                    "state": st.just("active"),
                    "seconds": TIME,
                    "transaction_seconds": st.one_of(st.none(), TIME),
                }
            ),
            max_size=3,
        ),
        "server__disk": st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {"path": st.just("/pg"), "free": st.integers(0, 2**40), "needed": st.integers(0, 2**40)}
            ),
        ),
        "server__prepared": st.lists(st.just({"gid": "x", "owner": "y", "seconds": 1.0}), max_size=1),
        "server__migrating": st.lists(
            st.fixed_dictionaries(
                {
                    "pid": st.just(1),
                    "user": st.just("u"),
                    "application": st.just(""),
                    "seconds": st.one_of(st.none(), TIME),
                    "query": st.just(""),
                }
            ),
            max_size=1,
        ),
        "server__createdb": st.booleans(),
        "server__server_version": st.sampled_from(["15.18", "15.19"]),
        "backend__serving_since": st.one_of(st.none(), TIME),
        "backend__running": st.booleans(),
        "frontend__running": st.booleans(),
        "host__free_mb": st.integers(0, 10**6),
        "python_env__action": st.sampled_from(["unchanged", "cached", "build"]),
        "frontend_build__action": st.sampled_from(["unchanged", "cached", "build"]),
        "release__current__dirty": st.lists(st.just("a"), max_size=1),
        "sql": st.sampled_from([None, {"revisions": {}, "error": "x"}]),
        "lint": st.sampled_from([None, []]),
        "approval__required": st.booleans(),
        # r9 is not taken back.
        "settings__accept_irreversible": st.sampled_from([[], ["r9"]]),
        "history": st.lists(st.just({"outcome": "rolled_back", "level": 3, "seconds": {"check": 7}}), max_size=1),
    }
)


@given(TRAFFIC)
def test_an_approval_outlives_what_traffic_changes(traffic):
    given_facts = facts(**traffic)
    before = copy.deepcopy(given_facts)
    plan = _schema_plan.level3(given_facts)
    assert given_facts == before
    assert plan["hash"] == _schema_plan.level3(facts())["hash"] == _approval.digest(plan["subject"])
    assert json.loads(json.dumps(plan)) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"release__target__commit": "c" * 40},
        {"release__current__commit": "c" * 40},
        {"path__current_heads": ["r2", "s1"], "schema__heads": ["r2", "s1"]},
        {"path__target_heads": ["r0"]},
        {"path__path": [revision("r3"), revision()]},
        {"path__path": [revision(marks=["loses_data", "unknown"])]},
        {"path__path": [revision(drops=[("table", "other", None)])]},
        {"settings__mode": "in_place"},
        {"settings__accept_irreversible": ["r2"]},
        {"settings__accept_dropped": ["users.profile"]},
        {"settings__accept_drift": True},
        {"settings__rehearses": False},
        NO_CODE,
    ],
)
def test_an_approval_does_not_outlive_a_change_of_what_would_be_done(change):
    assert _schema_plan.level3(facts(**change))["hash"] != _schema_plan.level3(facts())["hash"]


def test_what_is_not_rehearsed_is_not_said_to_be():
    settings = {"settings__mode": "in_place", "settings__rehearses": False}
    plan = _schema_plan.level3(facts(**settings))
    assert "rehearsal" not in [item["step"] for item in plan["steps"]]
    assert "preserve a restore point that is not restored anywhere" in "\n".join(_plan.plan_lines(plan))


def test_what_was_accepted_meanwhile_is_named():
    """Nobody agreed to it."""
    given_facts, now = _schema_plan.level3(facts()), _schema_plan.level3(facts(settings__accept_drift=True))
    assert _approval.changes(given_facts["subject"], now["subject"]) == ["accept_drift: False then, True now"]


def test_the_order_of_the_revisions_is_part_of_the_plan():
    two = [revision("a"), revision("b")]
    plans = [_schema_plan.level3(facts(path__path=path)) for path in (two, two[::-1])]
    assert plans[0]["hash"] != plans[1]["hash"]


def test_an_approved_plan_goes_on():
    plan = _schema_plan.level3(facts())
    given_ = _approval.give(plan["hash"], "Kim Minji", "deploy@console", 1000.0, 4, plan["subject"])
    approval = {"required": True, **_approval.for_plan([given_], plan["hash"], plan["subject"], 1001.0)}
    assert _schema_plan.level3(facts(approval=approval))["refusals"] == []
    late = {"required": True, **_approval.for_plan([given_], plan["hash"], plan["subject"], 1000.0 + 5 * 3600)}
    (found,) = _schema_plan.level3(facts(approval=late))["refusals"]
    assert found["code"] == "approval_expired" and "Kim Minji expired at 1970-01-01T04:16:40Z" in found["message"]
    now = _schema_plan.level3(facts(path__path=[revision(drops=[("table", "other", None)])]))
    other = {"required": True, **_approval.for_plan([given_], now["hash"], now["subject"], 1001.0)}
    (found,) = _schema_plan.level3(facts(path__path=[revision(drops=[("table", "other", None)])], approval=other))[
        "refusals"
    ]
    assert found["code"] == "approval_other" and "changed since: what revision r2 does" in found["message"]


def test_only_runs_of_this_level_tell_the_expected_time():
    runs = [{"outcome": "rolled_back", "level": level, "seconds": {"check": 10 * level}} for level in (1, 3)]
    assert _schema_plan.level3(facts(history=runs))["expected_seconds"] == 30


def test_the_filter_names_the_fact_that_lacks():
    known = filters.FilterModule().filters()
    assert known["level3_plan"](facts())["level"] == 3
    broken = facts()
    del broken["server"]
    with pytest.raises(AnsibleFilterError, match="level3_plan lacks a fact: 'server'"):
        known["level3_plan"](broken)
