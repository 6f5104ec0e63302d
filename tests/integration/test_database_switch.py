"""database_switch against a real PostgreSQL: what is switched and taken back, and what may go wrong at each step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from textwrap import dedent

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _readiness, postgres
from application import ENV, LINEAR, NO_LEARNINGS, PASSWORD, USER, Application, module, revision

RUN = "20250115-140000-level3"
STAMP = "20250115_140000"
MAY = ["public.alembic_version", "public.learnings"]
HASH = "SELECT count(*), sum(hashtext(t::text)) FROM (SELECT * FROM {} ORDER BY 1) t"


@pytest.fixture
def app(cluster, tmp_path):
    made = Application(cluster, tmp_path)
    yield made
    for name in made.databases():
        cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def switch(app: Application, fails: bool | None = False, before: str = "", **more) -> dict:
    options = {
        **app.options(run_id=RUN, backend_dir=str(app.backend), journal=app.journal(RUN)),
        "revisions": ["r2_learnings"],
        "heads": ["r2_learnings"],
        "target_heads": ["r1_users"],
        "may_change": MAY,
        **more,
    }
    return module("database_switch", options, before, fails)


def undo(app: Application, fails: bool | None = False, before: str = "", **more) -> dict:
    detail = app.pending(RUN).get("database", {"unneeded": True})
    options = app.options(state="undone", run_id=RUN, detail=detail, journal=app.journal(RUN, "undo", True))
    told = {name: value for name, value in {**options, **more}.items() if value is not None}
    return module("database_switch", told, before, fails)


def as_before(app: Application, before: str) -> None:
    """Exactly one database bears the name, it lets people in, and no row is missing."""
    assert app.databases() == {app.name: True}
    assert app.heads() == ["r2_learnings"]
    assert app.sql(HASH.format("users")) + app.sql(HASH.format("learnings")) == before


def state(app: Application) -> str:
    return app.sql(HASH.format("users")) + app.sql(HASH.format("learnings"))


def test_a_downgraded_copy_serves_and_the_former_database_is_kept(app):
    before = state(app)
    users = app.sql("SELECT count(*), sum(hashtext(name)) FROM users")
    result = switch(app)
    assert result["changed"] and result["parked"] == f"shop_parked_{STAMP}"
    assert app.databases() == {"shop": True, f"shop_parked_{STAMP}": False}
    assert app.heads() == ["r1_users"]
    assert app.sql("SELECT count(*), sum(hashtext(name)) FROM users") == users
    assert app.sql("SELECT to_regclass('learnings') IS NULL") == "t"
    assert [item["revision"] for item in result["revisions"]] == ["r2_learnings"]
    assert 0 < result["swap_seconds"] < result["closed_seconds"] and result["copy_seconds"] > 0
    app.cluster.sql(f"ALTER DATABASE shop_parked_{STAMP} ALLOW_CONNECTIONS true")
    kept = f"shop_parked_{STAMP}"
    assert app.sql(HASH.format("users"), kept) + app.sql(HASH.format("learnings"), kept) == before


def test_the_copy_takes_rights_settings_limit_and_comment_along(app):
    app.cluster.sql(
        f"""
        ALTER DATABASE shop SET work_mem = '5MB';
        ALTER DATABASE shop SET search_path = public, "아카이브";
        ALTER ROLE {USER} IN DATABASE shop SET statement_timeout = '7s';
        ALTER DATABASE shop CONNECTION LIMIT 33;
        REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
        COMMENT ON DATABASE shop IS 'the shop''s';
        """
    )
    told = """
        SELECT datconnlimit, datacl, pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'),
          (SELECT array_agg(setrole::text || setconfig::text ORDER BY setrole) FROM pg_db_role_setting
           WHERE setdatabase = d.oid)
        FROM pg_database d WHERE datname = 'shop'"""
    before = app.cluster.sql(told)
    assert "33" in before and "5MB" in before and "7s" in before and "shop's" in before
    switch(app)
    assert app.cluster.sql(told) == before
    undo(app)
    assert app.cluster.sql(told) == before


def test_undo_lets_the_former_database_serve_and_reports_what_was_written(app):
    before = state(app)
    switch(app)
    app.sql("INSERT INTO users (name) SELECT 'later ' || i FROM generate_series(1, 7) i")
    app.sql("UPDATE users SET name = name || '!' WHERE id <= 3")
    result = undo(app)
    assert result["written_since"] == ["users: 7 inserted, 3 updated"]
    assert app.databases() == {"shop": True, f"shop_undone_{STAMP}": False}
    assert state(app) == before and app.heads() == ["r2_learnings"]
    app.cluster.sql(f"ALTER DATABASE shop_undone_{STAMP} ALLOW_CONNECTIONS true")
    assert app.sql("SELECT count(*) FROM users WHERE name LIKE 'later%'", f"shop_undone_{STAMP}") == "7"


#: Somebody writes when the module is about to let nobody in any more.
LATE = """
import subprocess
from ansible_collections.sparklio.rollback.plugins.module_utils import databases
former = databases.Databases.close
def late(self, *arguments, **options):
    # Fails once it is closed.
    subprocess.run({admin!r} + ["psql", "-Xqd", "shop", "-c", "INSERT INTO users (name) VALUES ('late')"])
    return former(self, *arguments, **options)
databases.Databases.close = late
"""


@pytest.mark.parametrize("mode", ["copy", "in_place"])
def test_what_is_written_just_before_an_undo_closes_the_database_is_counted(app, mode):
    (switch if mode == "copy" else in_place)(app)
    result = undo(app, before=LATE.format(admin=app.cluster.admin_command))
    assert result["written_since"] == ["users: 1 inserted"] and result["sessions_ended"] == 0


def test_undo_twice_changes_nothing_more(app):
    switch(app)
    detail = app.pending(RUN)["database"]
    undo(app)
    app.sql("INSERT INTO users (name) VALUES ('after the undo')")
    options = app.options(state="undone", run_id=RUN, detail=detail, journal=app.journal(RUN, "undo", True))
    module("database_switch", options, fails=False)
    assert app.sql("SELECT count(*) FROM users WHERE name = 'after the undo'") == "1"
    assert app.databases() == {"shop": True, f"shop_undone_{STAMP}": False}


def test_purge_drops_what_a_run_has_parked_and_nothing_else(app):
    app.cluster.sql("CREATE DATABASE shop_parked_by_hand")
    switch(app)
    options = app.options(state="purged", run_id=RUN)
    told = module("database_switch", {**options, "_ansible_check_mode": True}, fails=False)
    assert told["purged"] == [f"shop_parked_{STAMP}"] and f"shop_parked_{STAMP}" in app.databases()
    assert module("database_switch", options, fails=False)["purged"] == [f"shop_parked_{STAMP}"]
    assert app.databases() == {"shop": True, "shop_parked_by_hand": True}
    refused = module("database_switch", options, fails=True)
    assert "has no database parked here" in refused["msg"]


def test_purge_of_an_unknown_run_names_those_that_there_are(app):
    switch(app)
    refused = module("database_switch", app.options(state="purged", run_id="20240101-000000-level3"), fails=True)
    assert RUN in refused["msg"] and f"shop_parked_{STAMP}" in app.databases()


def test_undo_after_a_purge_says_that_it_is_gone_and_touches_nothing(app):
    switch(app)
    module("database_switch", app.options(state="purged", run_id=RUN), fails=False)
    # A dry run says it too: it is asked before the backend is stopped.
    for more in ({"_ansible_check_mode": True}, {}):
        refused = undo(app, fails=True, **more)
        assert "was purged" in refused["msg"]
    assert app.databases() == {"shop": True} and app.heads() == ["r1_users"]


def named(app: Application) -> str:
    """Every database's oid, name, comment and whether it lets anybody in."""
    return app.cluster.sql(
        "SELECT oid, datname, datallowconn, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY oid"
    )


@pytest.mark.parametrize("mode", ["copy", "in_place"])
def test_an_undo_takes_no_other_database_for_the_one_that_served(app, mode):
    (switch if mode == "copy" else in_place)(app)
    app.cluster.sql("CREATE DATABASE shop_v5 TEMPLATE shop; CREATE DATABASE shop_accounting")
    detail, before = app.pending(RUN)["database"], named(app)
    other = int(app.cluster.sql("SELECT oid FROM pg_database WHERE datname = 'shop_accounting'"))
    # As on a server that was made anew. Older runs did not note which one it was.
    older = {**{name: value for name, value in detail.items() if name != "system"}, "oid": other}
    elsewhere = {"url": app.cluster.url("shop_v5", USER, PASSWORD), "env_file": None}
    for more, says in (
        ({**elsewhere}, "leads to shop_v5 now. Nothing was changed. Let it lead to shop again"),
        ({"detail": older}, "is called shop_accounting, neither shop nor shop_"),
        ({"detail": {**detail, "system": "7391204856123456789"}}, "this is another server than the one on which run"),
    ):
        for check in (True, False):
            refused = undo(app, fails=True, _ansible_check_mode=check, **more)["msg"]
            assert says in refused and "Nothing was changed" in refused, refused
            assert named(app) == before


@pytest.mark.parametrize("state", ["undone", "purged"])
def test_nothing_is_undone_or_purged_on_another_server_than_the_applications(app, state):
    switch(app)
    before = named(app)
    other = """
from ansible_collections.sparklio.rollback.plugins.module_utils import databases
former = databases.Databases.__init__
def elsewhere(self, *arguments):
    former(self, *arguments)
    self.server["system"] = "7391204856123456789"
databases.Databases.__init__ = elsewhere
"""
    detail = {name: value for name, value in app.pending(RUN)["database"].items() if name != "system"}
    options = app.options(state=state, run_id=RUN, detail=detail)
    refused = module("database_switch", options, other, fails=True)["msg"]
    assert "leads to another server than the application's" in refused and named(app) == before


def test_check_mode_changes_nothing(app):
    before = state(app)
    assert switch(app, _ansible_check_mode=True)["changed"]
    as_before(app, before)


@pytest.mark.parametrize(
    "downgrade, says",
    [
        (
            "op.drop_table('learnings')\nraise RuntimeError('half-way')",
            "revision r2_learnings failed: RuntimeError: half-way",
        ),
        ("op.drop_table('learnings')\nop.execute('SELECT 1 / 0')", "division by zero"),
        ("op.execute('DROP TABLE nothing')", 'table "nothing" does not exist'),
        ("import os\nos._exit(9)", "ended early"),
        (
            "op.drop_table('learnings')\nop.execute('DELETE FROM users WHERE id < 10')",
            "table public.users has 191 rows, 200 before",
        ),
    ],
)
def test_a_downgrade_that_fails_leaves_what_served(app, downgrade, says):
    before = state(app)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=downgrade))
    failed = switch(app, fails=True)
    assert says in failed["msg"], failed["msg"]
    as_before(app, before)
    assert undo(app)["parked"] == ""
    as_before(app, before)


def test_a_downgrade_that_commits_half_of_itself_touches_only_the_copy(app):
    before = state(app)
    text = """
    op.drop_table('learnings')
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS nothing")
    raise RuntimeError('after the commit')
    """
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=text))
    assert "after the commit" in switch(app, fails=True)["msg"]
    as_before(app, before)


def test_a_downgrade_that_hangs_is_ended(app):
    before = state(app)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade="op.execute('SELECT pg_sleep(600)')"))
    began = time.monotonic()
    assert "not done in time" in switch(app, fails=True, deadline=5)["msg"]
    assert time.monotonic() - began < 60
    as_before(app, before)


def test_timeouts_of_the_role_do_not_end_the_downgrade(app):
    listed = ", ".join(f"'{name}'" for name in _readiness.TIMEOUTS)
    for name in app.cluster.sql(f"SELECT name FROM pg_settings WHERE name IN ({listed})").split():
        app.cluster.sql(f"ALTER ROLE {USER} SET {name} = '50ms'")
    # All that the plan says to be overridden, as far as this server knows it.
    left = f"SELECT 1 / (count(*) = 0)::int FROM pg_settings WHERE name IN ({listed}) AND setting <> '0'"
    slow = (
        f'op.execute("{left}")\nop.execute("SELECT pg_sleep(0.3)")\n'
        'op.drop_column("users", "profile")\nop.drop_table("learnings")'
    )
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=slow))
    switch(app)
    assert app.heads() == ["r1_users"]


def test_who_is_in_is_sent_away_and_nobody_gets_in(app):
    with app.cluster.session("shop") as reader, app.cluster.session("shop", USER, PASSWORD) as writer:
        reader.ask("BEGIN")
        reader.ask("SELECT count(*) FROM users")
        writer.ask("SELECT 1")
        result = switch(app)
        assert result["sessions_ended"] == 2
        with pytest.raises(Exception, match=r"terminat|closed|server"):
            reader.ask("SELECT 1")


def test_a_session_that_cannot_be_ended_is_named_and_the_database_opens_again(app):
    before = state(app)
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    with app.cluster.session("shop") as reader:
        reader.ask("SELECT 1")
        failed = switch(app, fails=True, admin_command=[], close_timeout=2)
        assert "can't be ended" in failed["msg"] and "rollback_database_admin" in failed["msg"]
    as_before(app, before)


@pytest.mark.parametrize("mode", ["copy", "in_place"])
def test_an_undo_that_cannot_end_a_session_leaves_what_serves_open(app, mode):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    (switch if mode == "copy" else in_place)(app)
    before = named(app)
    with app.cluster.session("shop") as reader:
        reader.ask("SELECT 1")
        failed = undo(app, fails=True, admin_command=[], close_timeout=1)["msg"]
        assert "can't be ended" in failed and "rollback_database_admin" in failed and "may be closed" not in failed
    assert named(app) == before and app.databases()["shop"]
    undo(app, admin_command=[])
    assert app.heads() == ["r2_learnings"]


#: Somebody is in the database that is about to take the place, and has been let go by the second time it is tried.
BUSY = """
import time
from ansible_collections.sparklio.rollback.plugins.module_utils import databases, postgres
closes, transaction, tries = databases.Databases.close, databases.Databases.transaction, []
def slow(self, *arguments, **options):
    time.sleep(5.5)
    return closes(self, *arguments, **options)
def busy(self, statements):
    tries.append(1)
    if len(tries) == 1:
        raise postgres.PostgresError("it is being accessed by other users", "55006")
    transaction(self, statements)
databases.Databases.close, databases.Databases.transaction = slow, busy
"""


def test_an_undo_that_was_long_in_closing_tries_the_change_of_names_again(app):
    switch(app)
    assert undo(app, before=BUSY)["parked"] == f"shop_undone_{STAMP}"


def test_an_autovacuum_worker_is_no_session_that_has_to_be_ended(app):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    app.sql("CREATE TABLE big AS SELECT i, repeat('x', 500) AS text FROM generate_series(1, 20000) i; DELETE FROM big")
    app.sql(f"ALTER TABLE big OWNER TO {USER}")
    # One page in a tenth of a second: it is still at work when the database is closed.
    slow = ("autovacuum = on", "autovacuum_naptime = 1", "vacuum_cost_limit = 1", "autovacuum_vacuum_cost_delay = 100")
    worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = 'shop'"
    try:
        app.cluster.sql(
            "".join(f"ALTER SYSTEM SET {setting};\n" for setting in slow)
            + "ALTER SYSTEM SET autovacuum_vacuum_threshold = 1000;\nSELECT pg_reload_conf();"
        )
        for _try in range(300):
            if app.cluster.sql(worker) != "0":
                break
            time.sleep(0.1)
        assert app.cluster.sql(worker) == "1"
        assert switch(app, admin_command=[])["sessions_ended"] == 0
    finally:
        app.cluster.sql("ALTER SYSTEM RESET ALL;\nSELECT pg_reload_conf();")
    assert app.heads() == ["r1_users"]


@pytest.mark.parametrize("who", [(USER, PASSWORD), ("postgres", None)])
@pytest.mark.parametrize("admin", [None, []])
def test_another_migration_is_waited_for_by_somebody_else(app, who, admin):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    more = {} if admin is None else {"admin_command": admin}
    with app.cluster.session("shop", *who) as other:
        other.ask("BEGIN")
        other.ask("UPDATE alembic_version SET version_num = version_num")
        failed = switch(app, fails=True, **more)
        assert "another migration of shop is under way" in failed["msg"]
        assert other.ask("SELECT 1") == "1"
    assert app.databases() == {"shop": True}


def test_a_migration_that_begins_just_before_the_switch_is_waited_for_too(app):
    begins = f"""
import subprocess
from ansible_collections.sparklio.rollback.plugins.module_utils import databases
def begin(self, seconds):
    global other
    other = subprocess.Popen({app.cluster.admin_command!r} + ["psql", "-Xqd", "shop"], stdin=subprocess.PIPE, text=True)
    other.stdin.write("BEGIN; LOCK TABLE learnings;\\n\\n")
    other.stdin.flush()
    while self.session.ask("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'") == "0":
        pass
databases.Databases.checkpoint = begin
"""
    assert "another migration of shop is under way" in switch(app, fails=True, before=begins)["msg"]
    assert app.databases() == {"shop": True} and not app.pending(RUN)


@pytest.mark.parametrize("configured", [None, "versions", "meta.versions"])
def test_a_migration_of_data_alone_is_waited_for_whatever_the_version_table_is_called(app, configured):
    """Until it is done it has only read that table."""
    if configured:
        schema, _dot, table = configured.rpartition(".")
        app.sql(f"CREATE SCHEMA meta AUTHORIZATION {USER}; ALTER TABLE alembic_version RENAME TO {table}")
        app.sql(f"ALTER TABLE {table} SET SCHEMA {schema or 'public'}")
        options = f"target_metadata=None, version_table={table!r}, version_table_schema={schema or None!r}"
        app.env(ENV.replace("target_metadata=None", options))
    text = "op.execute(\"UPDATE users SET name = 'x' WHERE id = 1\")\nop.execute('SELECT pg_sleep(60)')"
    app.revision("r3_data", revision("r3_data", "r2_learnings", text))
    found = module("alembic_info", {"backend_dir": str(app.backend), "env_file": str(app.env_file)}, fails=False)
    assert found["version_table"] == (configured or "alembic_version")
    other = subprocess.Popen(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        **{"cwd": app.backend, "env": {**os.environ, "DATABASE_URL": app.url}, "stderr": subprocess.DEVNULL},
    )
    try:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND wait_event = 'PgSleep'"
        for _try in range(300):
            if app.cluster.sql(sleeping) == "1":
                break
            time.sleep(0.1)
        ready = module("pg_readiness", app.options(version_table=found["version_table"]), fails=False)
        assert [item["query"] for item in ready["migrating"]] == ["SELECT pg_sleep(60)"]
        failed = switch(app, fails=True, version_table=found["version_table"])
        assert "another migration of shop is under way" in failed["msg"]
        assert app.cluster.sql(sleeping) == "1"
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("admin", [None, []])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY by_name ON users (name)",
        "DROP INDEX CONCURRENTLY ix_learnings_user_id",
        "REINDEX TABLE CONCURRENTLY users",
        "VACUUM users",
    ],
)
def test_an_index_that_is_made_bit_by_bit_is_waited_for_and_a_vacuum_is_not(app, statement, admin):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    more = {} if admin is None else {"admin_command": admin}
    slow = "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET vacuum_cost_page_hit = 10000"
    # What a superuser's session does is hidden from the application's role.
    who = ("postgres", None) if admin == [] and "VACUUM" not in statement else (USER, PASSWORD)
    with app.cluster.session("shop", USER, PASSWORD) as writer, app.cluster.session("shop", *who) as other:
        if statement.startswith("VACUUM"):
            app.sql("INSERT INTO users (name) SELECT repeat('x', 900) FROM generate_series(1, 4000)")
            other.ask(slow)
        else:
            writer.ask("BEGIN")
            writer.ask("DELETE FROM users WHERE id < 0")
            writer.ask("DELETE FROM learnings WHERE id < 0")
        other.process.stdin.write(f"{statement};\n".encode())
        other.process.stdin.flush()
        held = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND granted"
        for _try in range(100):
            if app.cluster.sql(held) == "t":
                break
            time.sleep(0.05)
        assert app.cluster.sql(held) == "t"
        if statement.startswith("VACUUM"):
            assert module("pg_readiness", app.options(**more), fails=False)["migrating"] == []
        else:
            assert "another migration of shop is under way" in switch(app, fails=True, **more)["msg"]
            assert writer.ask("SELECT 1") == "1"


def test_two_switches_do_not_overlap(app):
    with app.cluster.session() as other:
        other.ask("SELECT pg_advisory_lock(hashtextextended('sparklio.rollback switch shop', 0))")
        assert "another switch of shop is under way" in switch(app, fails=True)["msg"]
    assert app.databases() == {"shop": True}


def test_an_undo_waits_for_what_a_killed_run_left_at_work(app):
    before = state(app)
    switch(app)
    held = "SELECT pg_advisory_lock(hashtextextended('sparklio.rollback switch shop', 0))"
    with app.cluster.session() as other:
        other.ask(held)
        assert "another switch of shop is under way" in undo(app, fails=True, connect_timeout=1)["msg"]
        ends = threading.Timer(
            3, app.cluster.sql, [f"SELECT pg_terminate_backend({other.ask('SELECT pg_backend_pid()')})"]
        )
        ends.start()
        assert undo(app)["parked"] == f"shop_undone_{STAMP}"
        ends.join()
    assert state(app) == before


def test_a_role_that_may_not_make_databases_is_told_who_may(app):
    failed = switch(app, fails=True, admin_command=[])
    assert "may not make databases" in failed["msg"] and "rollback_database_admin_command" in failed["msg"]
    assert app.databases() == {"shop": True}


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER DATABASE shop SET log_min_duration_statement = '5s'", "log_min_duration_statement"),
        ("ALTER ROLE postgres IN DATABASE shop SET work_mem = '5MB'", "work_mem of role postgres"),
    ],
)
def test_what_cannot_be_set_on_the_copy_is_named_before_anything_is_closed(app, statement, named):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB; {statement}")
    for check in (True, False):
        failed = switch(app, fails=True, admin_command=[], _ansible_check_mode=check)["msg"]
        assert f"may not set on another database what is set on shop: {named}" in failed, failed
        assert "rollback_database_admin_command" in failed
    assert not app.pending(RUN)
    switch(app)


def test_the_database_has_to_be_where_it_was_said_to_be(app):
    before = state(app)
    failed = switch(app, fails=True, heads=["r1_users"])
    assert "the database is at r2_learnings, and r1_users was expected" in failed["msg"]
    as_before(app, before)


def test_an_env_py_with_an_address_of_its_own_is_led_to_the_copy(app):
    fixed = """
from alembic import context
from sqlalchemy import create_engine, pool
engine = create_engine(ADDRESS, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""
    app.env(fixed.replace("ADDRESS", repr(app.url)))
    switch(app)
    assert app.heads() == ["r1_users"] and f"shop_parked_{STAMP}" in app.databases()


ASYNCHRONOUS = """
import asyncio
import os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

async def run():
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(run())
"""


def test_an_env_py_that_is_asynchronous_is_led_to_the_copy(app):
    app.env(ASYNCHRONOUS)
    switch(app)
    assert app.heads() == ["r1_users"] and f"shop_parked_{STAMP}" in app.databases()


def test_a_version_table_in_a_schema_of_its_own(app):
    app.sql(f"CREATE SCHEMA meta AUTHORIZATION {USER}; ALTER TABLE alembic_version SET SCHEMA meta")
    configured = "target_metadata=None, version_table_schema='meta'"
    app.env(ENV.replace("target_metadata=None", configured))
    switch(app, may_change=["meta.alembic_version", "public.learnings"])
    assert app.sql("SELECT version_num FROM meta.alembic_version") == "r1_users"


def test_an_env_py_that_gets_elsewhere_all_the_same_runs_nothing_there(app):
    app.cluster.sql(f"CREATE DATABASE shop_other OWNER {USER} TEMPLATE shop")
    before = state(app)
    elsewhere = """
import psycopg
from alembic import context
from sqlalchemy import create_engine, pool
engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(ADDRESS), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""
    address = app.url.replace("postgresql+psycopg", "postgresql").rpartition("/")[0] + "/shop_other"
    app.env(elsewhere.replace("ADDRESS", repr(address)))
    assert "psycopg was led to database shop_other, not to shop_candidate" in switch(app, fails=True)["msg"]
    assert app.heads("shop_other") == ["r2_learnings"] and state(app) == before


def test_a_history_with_two_roots_and_a_merge(cluster, tmp_path):
    text = {
        **LINEAR,
        "r3_left": revision("r3_left", "r2_learnings", "op.execute('CREATE TABLE l (id int)')", "op.drop_table('l')"),
        "r3_right": revision("r3_right", "r2_learnings", "op.execute('CREATE TABLE r (id int)')", "op.drop_table('r')"),
        "r4_merge": revision("r4_merge", ("r3_left", "r3_right")),
        "a1": revision(
            "a1", None, "op.execute('CREATE TABLE a (id int)')", "op.drop_table('a')", labels=("analytics",)
        ),
    }
    app = Application(cluster, tmp_path, "shop_many", text)
    try:
        result = switch(
            app,
            revisions=["r4_merge", "r3_right", "r3_left", "a1"],
            heads=["a1", "r4_merge"],
            target_heads=["r2_learnings"],
            may_change=["public.alembic_version", "public.l", "public.r", "public.a"],
        )
        assert app.heads() == ["r2_learnings"] and len(result["revisions"]) == 4
    finally:
        for name in app.databases():
            cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


#: Where the module is killed: a method of Databases or of Steps, before or after it did its work.
MOMENTS = [
    (where, method, when)
    for where, methods in (
        ("databases.Databases", ("close", "copy", "run", "swap", "checkpoint")),
        ("alembic.Steps", ("finish",)),
    )
    for method in methods
    for when in ("before", "after")
]
KILL = """
import os
from ansible_collections.sparklio.rollback.plugins.module_utils import alembic, databases
former = {where}.{method}
def dying(self, *arguments, **options):
    if {before}: os.kill(os.getpid(), 9)
    result = former(self, *arguments, **options)
    os.kill(os.getpid(), 9)
{where}.{method} = dying
"""


@pytest.mark.parametrize("where, method, when", MOMENTS)
def test_killed_at_any_step_it_can_be_taken_back(app, where, method, when):
    before = state(app)
    died = switch(app, fails=None, before=KILL.format(where=where, method=method, before=when == "before"))
    assert died["rc"] == -signal.SIGKILL
    undo(app)
    left = app.databases()
    assert left.pop("shop") is True
    assert not any(left.values()) and all("undone" in name for name in left)
    assert app.heads() == ["r2_learnings"] and state(app) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_is_taken_back_it_can_be_taken_back_again(app, when):
    before = state(app)
    switch(app)
    died = undo(
        app, fails=None, before=KILL.format(where="databases.Databases", method="swap", before=when == "before")
    )
    assert died["rc"] == -signal.SIGKILL
    undo(app)
    assert app.databases()["shop"] and state(app) == before


def test_a_server_that_crashes_in_the_middle_comes_back_with_what_it_had(app):
    before = state(app)
    text = "op.drop_table('learnings')\nop.execute('SELECT pg_sleep(600)')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=text))
    crash = """
import os, threading, time
from ansible_collections.sparklio.rollback.plugins.module_utils import alembic
former = alembic.Steps.finish
def crashing(self, *arguments, **options):
    def crash():
        time.sleep(1.5)
        pid = int(open({pid!r}).readline())
        os.kill(pid, 9)
    threading.Thread(target=crash, daemon=True).start()
    return former(self, *arguments, **options)
alembic.Steps.finish = crashing
"""
    pid = str(app.cluster.data / "postmaster.pid")
    failed = switch(app, fails=True, before=crash.format(pid=pid), connect_timeout=2)["msg"]
    # Nobody knows what became of a database that can't be asked.
    assert "may be closed" in failed and "Next: ansible-playbook -i INVENTORY playbooks/resume.yml" in failed
    assert "as it was" not in failed and "revision r2_learnings failed" in failed
    app.cluster.server.stop()
    app.cluster.start()
    undo(app)
    as_before(app, before)


CRASH = """
    import os
    os.kill(op.get_bind().exec_driver_sql("SELECT pg_backend_pid()").scalar(), 9)
    op.execute("SELECT pg_sleep(600)")
"""


def test_a_server_that_restarts_by_itself_opens_what_was_closed(app):
    before = state(app)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=CRASH))
    failed = switch(app, fails=True)["msg"]
    assert "revision r2_learnings failed" in failed and "as it was" in failed
    as_before(app, before)


#: In the middle of a question to the server, which still owes the answer then.
OWING = """
import os, threading
from ansible_collections.sparklio.rollback.plugins.module_utils import databases
def owing(self, *arguments, **options):
    {what}
databases.Databases.{method} = owing
"""
SIGNAL = "threading.Timer(0.5, os.kill, (os.getpid(), 15)).start(); self.session.ask('SELECT pg_sleep(3)')"


def test_a_signal_in_the_middle_of_a_question_opens_what_was_closed(app):
    before = state(app)
    ended = switch(app, fails=None, before=OWING.format(method="copy", what=SIGNAL))
    assert ended["rc"] == 128 + signal.SIGTERM
    as_before(app, before)


def test_a_question_that_takes_too_long_opens_what_was_closed(app):
    before = state(app)
    failed = switch(
        app, fails=True, before=OWING.format(method="copy", what="self.session.ask('SELECT pg_sleep(600)', 0.5)")
    )
    assert "gave no answer within" in failed["msg"] and "as it was" in failed["msg"]
    as_before(app, before)


@pytest.mark.parametrize("how", ["signal", "late"])
def test_a_session_left_in_the_middle_of_a_question_takes_no_other(cluster, how):
    def leave(_number, _frame):
        raise SystemExit

    former = signal.signal(signal.SIGALRM, leave)
    try:
        with cluster.session() as session:
            if how == "late":
                with pytest.raises(postgres.PostgresError, match="no answer"):
                    session.ask("SELECT pg_sleep(2)", 0.2)
            else:
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                with pytest.raises(SystemExit):
                    session.ask("SELECT 'the former' FROM pg_sleep(1)")
            with pytest.raises(postgres.PostgresError, match="in the middle of a question"):
                session.ask("SELECT 1")
    finally:
        signal.signal(signal.SIGALRM, former)


def test_a_schema_other_than_the_rehearsed_one_does_not_serve(app, tmp_path):
    before = state(app)
    kept = tmp_path / "schema.json"
    kept.write_text(json.dumps(["table public.nothing"]))
    assert (
        "the downgraded database is not what the rehearsal came to"
        in switch(app, fails=True, schema_file=str(kept))["msg"]
    )
    as_before(app, before)


LOST = [{"table": "users", "column": "profile"}, {"table": "learnings", "column": None}]
SALVAGE = f"shop_salvage_{STAMP}"


def in_place(app: Application, fails: bool | None = False, **more) -> dict:
    """What the role does: a dump once nobody writes any more, then the downgrade of the database itself."""
    dump = app.root / "before"
    if not dump.exists():
        made = module("pg_backup", app.options(dest=str(dump), admin_command=None), fails=False)
        app.files = made["artifact"]["files"]
    options = {"mode": "in_place", "dump": str(dump), "dump_files": app.files, "lost": LOST}
    return switch(app, fails, **{**options, **more})


def flip(app: Application) -> str:
    """Turn one bit in the middle of one file of the dump. Done twice, all is as it was."""
    item = max(app.files, key=lambda item: item["size"])
    path = app.root / item["path"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return item["path"]


def test_who_is_in_the_way_of_a_copy(cluster):
    """Clients, and workers of extensions and subscriptions; of a hidden session only the user is known."""
    there = "VALUES (10, 'client backend'), (11, NULL), (12, 'pg_cron'), (13, 'logical replication worker'), "
    gone = "(14, 'parallel worker'), (NULL, 'autovacuum worker'), (NULL, NULL)"
    asked = f"SELECT string_agg(a.usesysid::text, ' ' ORDER BY 1) FROM ({there}{gone}) AS a (usesysid, backend_type)"
    assert cluster.sql(f"{asked} WHERE {_readiness.IN_THE_WAY}").split() == ["10", "11", "12", "13"]


def test_a_database_whose_collation_has_another_version_by_now_is_copied(app):
    """As after an upgrade of the operating system, which the server only warns of until somebody copies it."""
    app.cluster.sql("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'shop'")
    switch(app)
    assert app.heads() == ["r1_users"]
    assert app.cluster.sql("SELECT datcollversion FROM pg_database WHERE datname = 'shop'") == "1.0"


def test_in_place_it_keeps_what_it_drops_in_the_same_transaction(app):
    learnings = app.sql("SELECT count(*), sum(hashtext(t::text)) FROM learnings t")
    profiles = app.sql("SELECT sum(hashtext(id || profile::text)) FROM users")
    oid = app.cluster.sql("SELECT oid FROM pg_database WHERE datname = 'shop'")
    result = in_place(app)
    assert result["salvage"] == SALVAGE and app.heads() == ["r1_users"]
    assert app.cluster.sql("SELECT oid FROM pg_database WHERE datname = 'shop'") == oid
    assert app.databases() == {"shop": True}
    assert app.sql(f'SELECT count(*), sum(hashtext(t::text)) FROM "{SALVAGE}".learnings t') == learnings
    assert app.sql(f'SELECT sum(hashtext(id || profile::text)) FROM "{SALVAGE}"."users.profile"') == profiles


def test_in_place_it_is_taken_back_by_restoring_the_dump_into_a_new_database(app):
    app.cluster.sql(f"ALTER DATABASE shop SET work_mem = '5MB'; GRANT CONNECT ON DATABASE shop TO {USER}")
    app.sql("CREATE ROLE reader_of_shop; GRANT SELECT ON users TO reader_of_shop")
    try:
        before = state(app)
        in_place(app)
        app.sql("INSERT INTO users (name) VALUES ('later')")
        result = undo(app)
        assert result["written_since"] == ["users: 1 inserted"]
        assert state(app) == before and app.heads() == ["r2_learnings"]
        assert app.databases() == {"shop": True, f"shop_undone_{STAMP}": False}
        # A dump holds no statistics.
        assert app.sql("SELECT count(*) > 0 FROM pg_statistic WHERE starelid = 'users'::regclass") == "t"
        assert app.sql("SELECT has_table_privilege('reader_of_shop', 'users', 'SELECT')") == "t"
        assert "5MB" in app.cluster.sql(
            "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'shop'"
        )
        undo(app)
        assert state(app) == before
    finally:
        for name in app.databases():
            app.cluster.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            app.sql("DROP OWNED BY reader_of_shop", name)
        app.cluster.sql("DROP ROLE reader_of_shop")


@pytest.mark.parametrize("noted", [True, False])
def test_in_place_it_is_taken_back_where_somebody_dropped_what_was_kept(app, noted):
    before = state(app)
    in_place(app)
    app.sql(f'DROP SCHEMA "{SALVAGE}" CASCADE')
    detail = app.pending(RUN)["database"]
    if not noted:
        # Killed right after the commit.
        del detail["committed"]
    undo(app, detail=detail)
    assert state(app) == before and app.heads() == ["r2_learnings"]


@pytest.mark.parametrize(
    "downgrade, says",
    [
        ("op.drop_table('learnings')\nraise RuntimeError('half-way')", "half-way"),
        ("with op.get_context().autocommit_block():\n    op.execute('SELECT 1')", "leaves the transaction"),
    ],
)
def test_in_place_a_failure_rolls_all_of_it_back(app, downgrade, says):
    before = state(app)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=downgrade))
    assert says in in_place(app, fails=True)["msg"]
    as_before(app, before)
    assert app.sql(f"SELECT to_regnamespace('\"{SALVAGE}\"') IS NULL") == "t"
    undo(app)
    as_before(app, before)


def test_in_place_it_lets_others_go_first_and_tries_again(app):
    with app.cluster.session("shop") as reader:
        reader.ask("BEGIN")
        reader.ask("SELECT count(*) FROM learnings")
        other = f"longest at work: process {reader.ask('SELECT pg_backend_pid()')} of "
        seen, over, progress = [], threading.Event(), app.root / "progress"

        def watch():
            while not over.wait(0.02):
                if progress.exists():
                    seen.append(json.loads(progress.read_text()).get("at") or "")

        threading.Thread(target=watch, daemon=True).start()
        failed = in_place(app, fails=True, lock_deadline=3, progress=str(progress))
        over.set()
        assert "lock timeout" in failed["msg"] and "tries" in failed["msg"] and other in failed["msg"]
        assert any(text.startswith("waiting for a lock, ") and other in text for text in seen)
        reader.ask("SELECT count(*) FROM users")
    assert app.heads() == ["r2_learnings"]
    assert in_place(app)["tries"] == 1


def test_in_place_killed_in_the_middle_nothing_happened(app):
    before = state(app)
    text = NO_LEARNINGS + "    import os\n    os.kill(os.getppid(), 9)\n    import time\n    time.sleep(30)"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=text))
    in_place(app, fails=None)
    undo(app)
    as_before(app, before)


#: A commit that takes as long as one that waits for a replica, and a module that is killed meanwhile.
LONG_COMMIT = """
    CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM {waits}; RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON alembic_version DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION nap()"""
COMMITTING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
KILLED = """
import os, subprocess, threading
def watch():
    while subprocess.run({psql!r} + ["-c", {committing!r}], capture_output=True, text=True).stdout.strip() != "1":
        pass
    os.kill(os.getpid(), {number})
threading.Thread(target=watch, daemon=True).start()
"""


def killed_in_commit(app: Application, number: int, **more) -> None:
    psql = [*app.cluster.admin_command, "psql", "-XqAt"]
    in_place(app, fails=None, before=KILLED.format(psql=psql, committing=COMMITTING, number=int(number)), **more)
    assert app.cluster.sql(COMMITTING) == "1" and app.heads() == ["r2_learnings"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_in_place_killed_while_it_commits_nothing_is_committed_after_the_undo(app, number):
    app.sql(LONG_COMMIT.format(waits="pg_sleep(6)"))
    before = state(app)
    killed_in_commit(app, number)
    # A dry run says whether it could be taken back if it came to that.
    damaged = flip(app)
    assert f"is damaged: {damaged} was altered" in undo(app, fails=True, _ansible_check_mode=True)["msg"]
    flip(app)
    undo(app)
    time.sleep(7)
    assert state(app) == before and app.heads() == ["r2_learnings"] and app.databases()["shop"]


def test_in_place_who_cannot_end_what_commits_waits_for_it(app):
    app.sql(LONG_COMMIT.format(waits="pg_sleep(4)"))
    before = state(app)
    killed_in_commit(app, signal.SIGKILL)
    powerless = """
from ansible_collections.sparklio.rollback.plugins.module_utils import databases, postgres
former = databases.Databases.run
def run(self, statements):
    if any("pg_terminate_backend" in statement for statement in statements):
        raise postgres.PostgresError("must be a superuser to terminate it", "42501")
    former(self, statements)
databases.Databases.run = run
"""
    refused = undo(app, fails=True, before=powerless, close_timeout=0.1)["msg"]
    assert "is still under way in shop, by process" in refused and "Nothing was changed" in refused
    assert undo(app, before=powerless)["parked"] == f"shop_undone_{STAMP}"
    assert state(app) == before and app.heads() == ["r2_learnings"]


#: Somebody else writes in the middle of the downgrade, and notes whether that went well.
BESIDE = """
import subprocess
done = subprocess.run({admin!r} + ["psql", "-Xqd", "shop", "-c", "SET lock_timeout = '300ms'; " + {sql!r}])
open({noted!r}, "w").write(str(done.returncode))
"""


def unharmed(app: Application, before: str) -> None:
    """What serves is what it was, and there is nothing to take back."""
    as_before(app, before)
    assert app.sql(f"SELECT to_regnamespace('\"{SALVAGE}\"') IS NULL") == "t"
    assert undo(app)["parked"] == ""
    as_before(app, before)


def test_in_place_what_is_not_as_rehearsed_is_rolled_back(app, tmp_path):
    before = state(app)
    text = NO_LEARNINGS + "    op.execute('DELETE FROM users WHERE id < 10')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=text))
    failed = in_place(app, fails=True)["msg"]
    assert "table public.users has 191 rows, 200 before" in failed and "All of it was rolled back" in failed
    unharmed(app, before)
    app.revision("r2_learnings", LINEAR["r2_learnings"])
    kept = tmp_path / "schema.json"
    kept.write_text(json.dumps(["table public.nothing"]))
    assert "table public.nothing: missing" in in_place(app, fails=True, schema_file=str(kept))["msg"]
    assert "is at r1_users, not at other" in in_place(app, fails=True, target_heads=["other"])["msg"]
    unharmed(app, before)


def test_in_place_a_row_that_others_write_meanwhile_is_not_lost_to_what_it_rolls_back(app):
    beside = BESIDE.format(
        admin=app.cluster.admin_command, sql="INSERT INTO users (name) VALUES ('late')", noted=str(app.root / "noted")
    )
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=beside))
    failed = in_place(app, fails=True, lost=[])["msg"]
    assert "table public.users has 201 rows, 200 before" in failed
    undo(app)
    assert app.databases() == {"shop": True} and app.heads() == ["r2_learnings"]
    assert app.sql("SELECT count(*) FROM users WHERE name = 'late'") == "1"


@pytest.mark.parametrize("mode", ["copy", "in_place"])
def test_a_version_table_of_another_name_has_no_rows_where_all_is_taken_back(app, mode):
    app.sql(f"CREATE SCHEMA meta AUTHORIZATION {USER}; ALTER TABLE alembic_version SET SCHEMA meta")
    app.env(ENV.replace("target_metadata=None", "target_metadata=None, version_table_schema='meta'"))
    more = {"revisions": ["r2_learnings", "r1_users"], "target_heads": [], "may_change": [*MAY, "public.users"]}
    (switch if mode == "copy" else in_place)(app, **more)
    assert app.sql("SELECT count(*) FROM meta.alembic_version") == "0"


AUTOCOMMIT = ENV.replace("poolclass=", "isolation_level='AUTOCOMMIT', poolclass=")
TENANTS = ENV.replace(
    "    with engine.connect() as connection:\n        context.configure(",
    "    for tenant in ('public', 'two'):\n      with engine.connect() as connection:\n"
    "        connection.exec_driver_sql(f'SET search_path = {tenant}')\n        connection.commit()\n"
    "        context.configure(",
)


def two_tenants(app: Application) -> None:
    app.sql(
        f"""
        CREATE SCHEMA two AUTHORIZATION {USER};
        SET ROLE {USER};
        CREATE TABLE two.alembic_version AS TABLE alembic_version;
        CREATE TABLE two.users AS TABLE users;
        CREATE TABLE two.learnings AS TABLE learnings;
        """
    )


COMMITS = "    op.execute('COMMIT')\n    op.execute('BEGIN')\n"


@pytest.mark.parametrize(
    ("env", "downgrade", "says"),
    [
        (AUTOCOMMIT, NO_LEARNINGS + "    raise RuntimeError('half-way')", "env.py lets each statement be committed"),
        (AUTOCOMMIT, NO_LEARNINGS, "env.py lets each statement be committed"),
        (TENANTS, NO_LEARNINGS, "env.py calls context.run_migrations more than once"),
    ],
)
def test_in_place_an_env_py_that_commits_by_itself_is_refused(app, env, downgrade, says):
    two_tenants(app)
    before = state(app)
    app.env(env)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=downgrade))
    assert says in in_place(app, fails=True)["msg"]
    unharmed(app, before)
    assert app.sql("SELECT version_num FROM two.alembic_version") == "r2_learnings"


def test_in_place_an_env_py_that_is_asynchronous_is_asked_in_its_transaction_too(app):
    app.env(ASYNCHRONOUS)
    assert "transaction_per_migration" in in_place(app, fails=True)["msg"]
    app.env(ASYNCHRONOUS.replace(", transaction_per_migration=True", ""))
    before = state(app)
    assert "is at r1_users, not at other" in in_place(app, fails=True, target_heads=["other"])["msg"]
    unharmed(app, before)
    in_place(app)
    assert app.heads() == ["r1_users"]


def test_in_place_a_downgrade_that_ends_the_transaction_is_told(app):
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=COMMITS + NO_LEARNINGS))
    assert "it ends the transaction" in in_place(app, fails=True)["msg"]


def test_in_place_a_crash_while_the_dump_is_restored_leaves_it_open(app):
    in_place(app)
    kill = "SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    crash = OWING.format(
        method="swap", what=f"os.kill(int(self.session.ask({kill!r})), 9); self.session.ask('SELECT 1')"
    )
    assert "could not be switched back" in undo(app, fails=True, before=crash)["msg"]
    assert app.databases() == {"shop": True} and app.heads() == ["r1_users"]
    undo(app)
    assert app.heads() == ["r2_learnings"]


@pytest.mark.parametrize(("method", "when"), [("close", "after"), ("swap", "before"), ("swap", "after")])
def test_in_place_killed_while_the_dump_is_restored_it_can_be_taken_back_again(app, method, when):
    before = state(app)
    in_place(app)
    died = undo(
        app, fails=None, before=KILL.format(where="databases.Databases", method=method, before=when == "before")
    )
    assert died["rc"] == -signal.SIGKILL
    undo(app)
    assert app.databases() == {"shop": True, f"shop_undone_{STAMP}": False}
    assert state(app) == before and app.heads() == ["r2_learnings"]


def test_in_place_a_column_of_a_table_without_a_key_is_kept_with_the_place_of_each_row(app):
    app.sql(f"CREATE TABLE log (text text); INSERT INTO log VALUES ('a'); ALTER TABLE log OWNER TO {USER}")
    in_place(app, lost=[*LOST, {"table": "log", "column": "text"}])
    assert app.sql(f'SELECT place, text FROM "{SALVAGE}"."log.text"') == "(0,1)|a"


def test_in_place_names_that_a_driver_would_take_for_parameters_are_kept_too(app):
    app.sql('CREATE TABLE "100%s of" ("50%" int, "per cent %(id)s" text); INSERT INTO "100%s of" VALUES (1, $$a$$)')
    app.sql(f'ALTER TABLE "100%s of" OWNER TO {USER}')
    lost = [*LOST, {"table": "100%s of", "column": "50%"}, {"table": "100%s of", "column": "per cent %(id)s"}]
    in_place(app, lost=lost)
    assert app.sql(f'SELECT "50%" FROM "{SALVAGE}"."100%s of.50%"') == "1"
    assert app.sql(f'SELECT "per cent %(id)s" FROM "{SALVAGE}"."100%s of.per cent %(id)s"') == "a"


@pytest.mark.parametrize(
    ("table", "columns", "lost", "may"),
    [("learnings", "(user_id, lesson) VALUES (1, 'late')", LOST, MAY), ("users", "(name) VALUES ('late')", [], MAY)],
)
def test_in_place_nobody_writes_between_the_copy_and_the_drop(app, table, columns, lost, may):
    sql, noted = f"INSERT INTO {table} {columns}", app.root / "noted"
    beside = BESIDE.format(admin=app.cluster.admin_command, sql=sql, noted=str(noted))
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=beside + dedent(NO_LEARNINGS)))
    before = app.sql(f"SELECT count(*) FROM {table}")
    in_place(app, lost=lost, may_change=[*may, f"public.{table}"])
    # Whoever wrote it was told that it was not.
    assert noted.read_text() != "0"
    where = f'"{SALVAGE}".{table}' if lost else table
    assert app.sql(f"SELECT count(*) FROM {where}") == before


@pytest.mark.parametrize("cascade", ["", " CASCADE"])
def test_in_place_a_copy_neither_holds_a_type_nor_goes_with_it(app, cascade):
    app.sql(
        f"""
        SET ROLE {USER};
        CREATE TYPE phase AS ENUM ('on', 'off');
        CREATE DOMAIN short AS text CHECK (length(value) < 9);
        CREATE COLLATION own FROM "C";
        ALTER TABLE learnings ADD phase phase DEFAULT 'on', ADD phases phase[] DEFAULT '{{on,off}}', ADD short short,
            ADD own text COLLATE own;
        UPDATE learnings SET phase = 'off', short = 'a', own = 'b' WHERE id = 1;
        """
    )
    dropped = "".join(
        f"\n    op.execute('DROP {what}{cascade}')" for what in ("TYPE phase", "DOMAIN short", "COLLATION own")
    )
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=NO_LEARNINGS + dropped))
    in_place(app)
    kept = f'FROM "{SALVAGE}".learnings'
    assert app.sql(f"SELECT DISTINCT phase, phases {kept} ORDER BY 1") == "off|{on,off}\non|{on,off}"
    assert app.sql(f"SELECT short, own {kept} WHERE id = 1") == "a|b"
    # In the order that they had.
    assert app.sql(f"SELECT * {kept} WHERE id = 1") == "1|1|lesson 1|off|{on,off}|a|b"


def test_in_place_partitioned_tables_and_whole_schemas_are_copied_aside(app):
    app.sql(
        f"""
        GRANT CREATE ON SCHEMA public TO {USER};
        SET ROLE {USER};
        CREATE TABLE events (at int, what text) PARTITION BY RANGE (at);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
        INSERT INTO events SELECT i, 'event ' || i FROM generate_series(0, 9) i;
        CREATE TABLE parts (at int, what text, of text) PARTITION BY RANGE (at);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        INSERT INTO parts VALUES (1, 'a', 'b');
        CREATE SCHEMA archive;
        CREATE TABLE archive.old (id int);
        INSERT INTO archive.old VALUES (1), (2);
        """
    )
    more = "op.drop_table('events')\nop.execute('DROP SCHEMA archive CASCADE')\nop.drop_column('parts', 'of')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=f"{dedent(NO_LEARNINGS)}\n{more}"))
    lost = [
        *LOST,
        {"table": "events", "column": None},
        {"schema": "archive", "table": None},
        {"table": "parts", "column": "of"},
    ]
    in_place(app, lost=lost, may_change=[*MAY, "public.events"])
    assert app.sql(f'SELECT count(*), min(what) FROM "{SALVAGE}".events') == "10|event 0"
    assert app.sql(f'SELECT count(*) FROM "{SALVAGE}"."archive.old"') == "2"
    assert app.sql(f'SELECT * FROM "{SALVAGE}"."parts.of"') == "parts_1(0,1)|b"
    listed = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{SALVAGE}'"
    assert app.sql(listed) == str(len(LOST) + 3)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE users SET name = 'other' WHERE id = 1", "users: 1 updated"),
        ("INSERT INTO users (name) VALUES ('other')", "users: 1 inserted"),
    ],
)
def test_in_place_what_others_write_during_the_downgrade_is_told(app, statement, says):
    writes = f"""
import subprocess
from ansible_collections.sparklio.rollback.plugins.module_utils import alembic
former = alembic.Steps.finish
def writing(self, *arguments, **options):
    subprocess.run({app.cluster.admin_command!r} + ["psql", "-Xqd", "shop", "-c", {statement!r}], check=True)
    return former(self, *arguments, **options)
alembic.Steps.finish = writing
"""
    in_place(app, before=writes)
    assert undo(app)["written_since"] == [says]


def refuses(app: Application, says: str, **more) -> None:
    """It can't be taken back, a dry run says so before the backend is stopped for it, and nothing is changed."""
    for check in (True, False):
        failed = undo(app, fails=True, _ansible_check_mode=check, **more)["msg"]
        assert says in failed, failed
        assert app.heads() == ["r1_users"] and app.databases() == {"shop": True}


def test_in_place_it_is_not_taken_back_where_the_restored_database_would_not_fit(app):
    in_place(app)
    full = (
        "from ansible_collections.sparklio.rollback.plugins.module_utils import postgres\npostgres.free = lambda _: 1"
    )
    refuses(app, "the database that the dump is restored into takes about", before=full)
    refuses(app, "Free some space there", before=full)
    undo(app)
    assert app.heads() == ["r2_learnings"]


def test_in_place_it_is_not_taken_back_by_who_may_not_make_databases(app):
    in_place(app)
    refuses(app, "may not make databases", admin_command=[])


def test_in_place_it_is_not_taken_back_by_who_could_not_give_things_to_their_owners(app):
    app.cluster.sql(f"ALTER ROLE {USER} CREATEDB")
    app.sql(f"CREATE TABLE theirs (id int); GRANT SELECT ON theirs TO {USER}")
    says = f"{USER} is no member of postgres, who own something in the dump"
    failed = in_place(app, fails=True, admin_command=[])["msg"]
    assert says in failed and app.heads() == ["r2_learnings"]
    in_place(app)
    refuses(app, says, admin_command=[])
    undo(app)
    assert app.heads() == ["r2_learnings"]


def test_in_place_nothing_is_downgraded_without_a_dump_that_is_whole(app):
    in_place(app, fails=True, revisions=["nothing"])
    damaged = flip(app)
    failed = in_place(app, fails=True)["msg"]
    assert f"is damaged: {damaged} was altered" in failed and "Nothing was changed" in failed
    assert app.heads() == ["r2_learnings"] and app.sql(f"SELECT to_regnamespace('\"{SALVAGE}\"') IS NULL") == "t"
    flip(app)
    in_place(app)
    assert app.heads() == ["r1_users"]


def test_in_place_a_dump_that_is_damaged_later_closes_nothing(app):
    in_place(app)
    refuses(app, f"is damaged: {flip(app)} was altered")
    flip(app)
    content = app.root / "before/content.json"
    content.rename(app.root / "content.json")
    refuses(app, "before/content.json is missing")
    (app.root / "content.json").rename(content)
    undo(app)
    assert app.heads() == ["r2_learnings"]


def test_in_place_what_was_taken_back_or_never_done_needs_no_dump(app):
    in_place(app, fails=True, target_heads=["other"], revisions=["nothing"])
    flip(app)
    undo(app, _ansible_check_mode=True)
    undo(app)
    assert app.heads() == ["r2_learnings"] and app.databases() == {"shop": True}


def test_in_place_it_is_taken_back_while_a_subscription_is_at_work(app):
    admin = app.cluster.sql
    admin("CREATE DATABASE feed")
    admin("CREATE TABLE learnt (id int PRIMARY KEY); CREATE PUBLICATION news FOR TABLE learnt", "feed")
    admin("SELECT pg_create_logical_replication_slot('shop_news', 'pgoutput')", "feed")
    app.sql(f"CREATE TABLE learnt (id int PRIMARY KEY); ALTER TABLE learnt OWNER TO {USER}")
    source = f"host={app.cluster.sockets} port={app.cluster.port} user=postgres dbname=feed"
    how = "create_slot = false, slot_name = shop_news, copy_data = false"
    admin(f"CREATE SUBSCRIPTION news CONNECTION '{source}' PUBLICATION news WITH ({how})", "shop")
    try:
        for _ in range(100):
            if admin("SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL") == "1":
                break
            time.sleep(0.1)
        in_place(app)
        undo(app)
        assert app.heads() == ["r2_learnings"]
        assert app.databases() == {"shop": True, f"shop_undone_{STAMP}": False}
    finally:
        for name in app.databases():
            admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            here = "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            if admin(f"SELECT count(*) FROM pg_subscription WHERE {here}", name) == "1":
                admin("ALTER SUBSCRIPTION news DISABLE", name)
                admin("ALTER SUBSCRIPTION news SET (slot_name = NONE)", name)
                admin("DROP SUBSCRIPTION news", name)
        for _ in range(100):
            if admin("SELECT active FROM pg_replication_slots WHERE slot_name = 'shop_news'") == "f":
                break
            time.sleep(0.1)
        admin("SELECT pg_drop_replication_slot('shop_news')", "feed")
        admin("DROP DATABASE feed WITH (FORCE)")


def test_in_place_purge_drops_what_was_kept(app):
    in_place(app)
    assert module("database_switch", app.options(state="purged", run_id=RUN), fails=False)["purged"] == [
        f"schema {SALVAGE}"
    ]
    assert app.sql(f"SELECT to_regnamespace('\"{SALVAGE}\"') IS NULL") == "t"
