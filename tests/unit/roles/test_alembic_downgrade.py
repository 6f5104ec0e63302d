"""What the role's templates make of what was found. No host is asked."""

from __future__ import annotations

from functools import partial

import pytest
import rendering
from ansible_collections.sparklio.rollback.plugins.module_utils import _databases, _rows

loaded = partial(rendering.loaded, "alembic_downgrade")
task = partial(rendering.task, "alembic_downgrade")
made = partial(rendering.made, "alembic_downgrade")

BEFORE = {"users": 200, "workflows": 9, "brand_learnings": 40, "assets": None}


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        # Rows of workflows go as the revision says, brand_learnings as a whole.
        ({"users": 200, "workflows": 5, "brand_learnings": None, "assets": None}, []),
        ({"users": 199, "workflows": 5, "brand_learnings": None, "assets": None}, ["data_users"]),
    ],
)
def test_rows_that_were_rehearsed_to_go_are_no_loss_and_others_are(found, failed):
    rehearsal = {"may_change": ["public.alembic_version", "public.brand_learnings", "app.workflows"], "tables": []}
    template = task("validate", "Validate | Keep what its tables should hold by now")["ansible.builtin.set_fact"]
    before = made(
        template["alembic_downgrade_rows"], alembic_downgrade_rehearsal=rehearsal, preflight_schema={"rows": BEFORE}
    )
    verdicts = _rows.verdicts({"rows": found}, before)
    assert [item["name"] for item in verdicts if item["verdict"] == "fail"] == failed


def test_without_a_rehearsal_the_revisions_say_which_rows_may_go():
    drops = [{"kind": "rows", "table": "workflows", "name": None}, {"kind": "type", "table": None, "name": "mood"}]
    path = {"path": [{"revision": "r2", "drops": drops}]}
    others = "{{ __alembic_downgrade_others }}"
    assert made(others, alembic_downgrade_path=path) == ["alembic_version", "workflows"]
    assert made(others, alembic_downgrade_path={"path": []}) == ["alembic_version"]


DROPS = [
    {"kind": "table", "table": "gone", "name": None},
    {"kind": "column", "table": "users", "name": "profile"},
    {"kind": "rows", "table": "workflows", "name": None},
    {"kind": "values", "table": "users", "name": None},
    {"kind": "schema", "table": None, "name": "archive"},
    {"kind": "schema", "table": None, "name": None},
    {"kind": "type", "table": None, "name": "mood"},
]
ROWS = [{"table": "workflows", "column": None}, {"table": "users", "column": None}]


def test_what_is_copied_aside_is_what_was_rehearsed_or_else_what_the_source_names():
    path = {"path": [{"revision": "r2", "drops": DROPS}]}
    template = "{{ __alembic_downgrade_salvage }}"
    named = [{"table": "gone", "column": None}, {"table": "users", "column": "profile"}]
    assert made(template, alembic_downgrade_path=path) == [*named, *ROWS, {"schema": "archive"}]
    # With the rows that the source names: such may have come since.
    tables = [
        {"table": "public.gone", "what": "dropped"},
        {"table": "public.users", "what": "changed", "columns": ["profile"]},
    ]
    rehearsal = {"may_change": [], "tables": tables}
    rehearsed = [{"table": "public.gone", "column": None}, {"table": "public.users", "column": "profile"}]
    assert made(template, alembic_downgrade_path=path, alembic_downgrade_rehearsal=rehearsal) == [*rehearsed, *ROWS]
    # With the tables that may lose rows by a key, although the rehearsal met none.
    losing = {**rehearsal, "may_lose": ["public.assets"]}
    assert made(template, alembic_downgrade_path=path, alembic_downgrade_rehearsal=losing) == [
        *rehearsed, {"table": "public.assets", "column": None}, *ROWS,
    ]  # fmt: skip
    # The same as the rehearsal copies, which knows no more than the source.
    assert _databases.losses(DROPS) == made(template, alembic_downgrade_path=path)


STANDING = {
    "orphans": [{"name": "orders_user_fk on orders", "count": 3}],
    "invalid_indexes": [],
    "unvalidated": [{"name": "odd on users"}],
}
NAMES = ["orders_user_fk on orders", "odd on users"]


@pytest.mark.parametrize(
    ("facts", "known", "orphans"),
    [
        ({"__alembic_downgrade_standing": STANDING}, NAMES, {"orders_user_fk on orders": 3}),
        ({"__alembic_downgrade_standing": {"skipped": True}}, [], {}),
        (
            {
                "__alembic_downgrade_standing": {"skipped": True},
                "alembic_downgrade_rehearsal": {"known": ["a on b"], "known_orphans": {"a on b": 1}},
            },
            ["a on b"],
            {"a on b": 1},
        ),
    ],
)
def test_what_did_not_hold_before_is_known_to_validate(facts, known, orphans):
    options = task("validate", "Validate | Every foreign key, index and constraint must hold")[
        "sparklio.rollback.pg_integrity"
    ]
    assert made(options["known"], **facts) == known
    assert made(options["known_orphans"], **facts) == orphans


def test_hosts_that_have_the_same_database_know_of_each_other():
    servers = {"app1": "7/1", "app2": "7/1", "app3": "7/2", "app4": None, "app5": None, "app6": "7/1"}
    hostvars = {
        name: {"inventory_hostname": name, "__alembic_downgrade_server": {"identity": identity}}
        for name, identity in servers.items()
    }
    hostvars["down"] = {"inventory_hostname": "down"}
    found = {
        name: made(
            "{{ __alembic_downgrade_shared_with }}",
            **{"hostvars": hostvars, "ansible_play_hosts_all": list(hostvars), **hostvars[name]},
        )
        for name in servers
    }
    assert found == {
        "app1": ["app2", "app6"],
        "app2": ["app1", "app6"],
        "app3": [],
        "app4": [],
        "app5": [],
        "app6": ["app1", "app2"],
    }


@pytest.mark.parametrize(
    ("facts", "rehearses"),
    [
        ({}, True),
        ({"backup_verify": "checksum"}, True),
        ({"rollback_database_mode": "in_place"}, True),
        ({"rollback_database_mode": "in_place", "backup_verify": "checksum"}, False),
    ],
)
def test_the_plan_knows_what_weakens_it(facts, rehearses):
    settings = "{{ __alembic_downgrade_facts.settings }}"
    found = made(settings, accept_dropped="a, b.c", accept_drift="true", **facts)
    assert found["rehearses"] is rehearses and found["accept_drift"] is True
    assert found["accept_dropped"] == ["a", "b.c"]


@pytest.mark.parametrize(
    ("facts", "table"),
    [
        ({}, "alembic_version"),
        ({"preflight_schema": None}, "alembic_version"),
        ({"preflight_schema": {"version_table": None}}, "alembic_version"),
        ({"preflight_schema": {"version_table": "own.v"}}, "v"),
        ({"alembic_downgrade_rehearsal": {"version_table": "meta.versions"}}, "versions"),
    ],
)
def test_validate_leaves_the_version_table_out_by_its_own_name(facts, table):
    options = task("validate", "Validate | Every foreign key, index and constraint must hold")[
        "sparklio.rollback.pg_integrity"
    ]
    assert made(options["version_table"], **facts) == table


@pytest.mark.parametrize(
    ("facts", "table"),
    [
        ({}, "alembic_version"),
        ({"preflight_schema": {"version_table": "v"}}, "v"),
        (
            {"preflight_schema": {"version_table": "v"}, "alembic_downgrade_rehearsal": {"version_table": "own.v"}},
            "own.v",
        ),
    ],
)
def test_another_migration_is_looked_for_by_the_version_table_of_env_py(facts, table):
    for tasks, module in (("check", "pg_readiness"), ("switch", "database_switch")):
        name = f"sparklio.rollback.{module}"
        (found,) = [item for item in loaded(f"tasks/{tasks}.yml") if name in item]
        assert made(found[name]["version_table"], **facts) == table


def test_without_a_rehearsal_the_version_table_may_change_by_its_own_name():
    more = {"alembic_downgrade_path": {"path": []}}
    for table, full in (("own.v", "own.v"), ("v", "public.v")):
        found = made("{{ __alembic_downgrade_may_change }}", preflight_schema={"version_table": table}, **more)
        assert found == [full]


@pytest.mark.parametrize(("act", "title"), [
    ("validate", "Validate | Every foreign key, index and constraint must hold"),
    ("check", "Check | Ask what does not hold before it, where no rehearsal will"),
])  # fmt: skip
def test_what_took_long_in_the_rehearsal_may_take_as_long_again(act, title):
    options = task(act, title)["sparklio.rollback.pg_integrity"]
    for name in ("question_timeout", "deadline"):
        assert made(options[name], alembic_downgrade_deadline=9000) == 9000


@pytest.mark.parametrize(
    ("dry", "dropped", "outcome", "says"),
    [
        (False, "shop_parked_1", "purged", ["Dropped: shop_parked_1", "can't be undone any more"]),
        (True, "schema shop_salvage_1", "planned", ["Would drop: schema", "can't be undone then"]),
        (False, "shop_undone_1", "purged", ["Dropped: shop_undone_1", "Run r1 was undone before"]),
    ],
)
def test_what_a_purge_came_to(dry, dropped, outcome, says):
    fact = task("purge", "Purge | Remember it")["ansible.builtin.set_fact"]
    known = {"ansible_check_mode": dry, "alembic_downgrade_purge": "r1"}
    found = made(fact, **known, __alembic_downgrade_purged={"purged": [dropped]})
    assert found["alembic_downgrade_finished"]["outcome"] == outcome
    assert all(text in found["alembic_downgrade_finished"]["message"] for text in says)
