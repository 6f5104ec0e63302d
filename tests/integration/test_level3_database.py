"""What Level 3 asks of a database, and a table's way back, on a real PostgreSQL with everything odd in it."""

from __future__ import annotations

import itertools
import json

import pytest
from ansible_collections.sparklio.rollback.plugins.modules import pg_readiness

#: Everything that a URL and a password file would have to escape.
PASSWORD = "canary:p\\w@d/'%?#"
NUMBERS = itertools.count()


class App:
    """An application's role, which may not make databases, and its own database."""

    def __init__(self, cluster):
        self.cluster, self.name = cluster, f"앱 db{next(NUMBERS)}"
        self.role = f"app_{self.name[-1]}_user"
        escaped = PASSWORD.replace("'", "''")
        cluster.sql(
            f'CREATE ROLE "{self.role}" LOGIN PASSWORD \'{escaped}\'; CREATE DATABASE "{self.name}" OWNER "{self.role}"'
        )
        self.url = cluster.url(self.name, self.role, PASSWORD)

    def sql(self, text):
        """As its own role."""
        return self.cluster.sql(f'SET ROLE "{self.role}"; {text}', self.name)

    def admin(self, text):
        return self.cluster.sql(text, self.name)

    def session(self):
        return self.cluster.session(self.name, self.role, PASSWORD)

    def drop(self):
        self.cluster.sql(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE); DROP ROLE IF EXISTS "{self.role}"')


@pytest.fixture
def app(cluster):
    made = App(cluster)
    yield made
    made.drop()


@pytest.fixture
def ready(call, app):
    def ask(**options):
        where = {} if "env_file" in options else {"url": app.url}
        found = call(pg_readiness, **{**where, **options})
        assert "canary" not in json.dumps({key: found[key] for key in found if key != "invocation"})
        assert not found["changed"]
        return found

    return ask


def test_ready_as_a_role_without_rights_and_as_the_administrator(ready, app, cluster):
    found = ready()
    assert found["error"] is None
    assert (found["database"], found["user"], found["owner"], found["maker"]) == (
        app.name,
        app.role,
        app.role,
        app.role,
    )
    assert (found["superuser"], found["createdb"], found["owns"], found["can_terminate"]) == (False, False, True, True)
    assert found["number"] >= 140000 and found["bytes"] > 1_000_000
    assert [
        found[name] for name in ("sessions", "migrating", "prepared", "slots", "subscriptions", "timeouts", "lost")
    ] == [[]] * 7
    for admin in ({"admin_command": cluster.admin_command}, {"admin_url": cluster.admin_url()}):
        found = ready(**admin, copies=3, disk_factor=2)
        assert found["error"] is None
        assert (found["user"], found["maker"], found["superuser"], found["createdb"]) == (
            app.role,
            "postgres",
            True,
            True,
        )
        assert found["disk"]["path"] == str(cluster.data)
        assert found["disk"]["needed"] == found["bytes"] * 6 and found["disk"]["free"] > 0


def test_who_is_connected_and_who_migrates(ready, app, cluster):
    app.sql("CREATE TABLE alembic_version (version_num varchar(32)); CREATE TABLE users (id int);"
            'CREATE SCHEMA "보관"; CREATE TABLE "보관"."표" (id int)')  # fmt: skip
    with (
        app.session() as idle,
        app.session() as migration,
        app.session() as waiting,
        cluster.session(app.name) as admin,
    ):
        idle.ask("SET application_name = 'uvicorn'")
        idle.ask("BEGIN")
        idle.ask("SELECT count(*) FROM alembic_version, users")
        found = ready()
        assert found["migrating"] == []
        admin.ask("SELECT 1")
        migration.ask("SET application_name = 'alembic'")
        migration.ask("BEGIN")
        migration.ask('ALTER TABLE "보관"."표" ALTER id SET DEFAULT length(\'canary secret\')')
        migration.ask("UPDATE alembic_version SET version_num = '2'")
        waiting.process.stdin.write(b"ALTER TABLE users ADD COLUMN x text;\n")
        waiting.process.stdin.flush()
        for _try in range(100):
            found = ready(admin_command=cluster.admin_command)
            if len(found["migrating"]) == 2:
                break
        assert found["can_terminate"]
        sessions = {item["application"]: item for item in found["sessions"]}
        assert sessions["uvicorn"]["state"] == "idle in transaction" and sessions["uvicorn"]["transaction_seconds"] > 0
        assert len(found["sessions"]) == 4 and all(item["terminable"] for item in found["sessions"])
        first, second = sorted(found["migrating"], key=lambda item: item["waiting"])
        assert (first["application"], first["user"], first["waiting"]) == ("alembic", app.role, False)
        assert first["tables"] == ["alembic_version", "보관.표"]
        assert first["query"] == "UPDATE alembic_version SET version_num = '…' ;"
        assert second["query"].startswith("ALTER TABLE users ADD") and second["waiting"] and second["seconds"] >= 0
        # A role that may not end a superuser's session, nor see what it does.
        found = ready()
        assert not found["can_terminate"]
        (hidden,) = [item for item in found["sessions"] if not item["terminable"]]
        assert (hidden["user"], hidden["state"]) == ("postgres", None)
        assert len(ready(version_table="other.alembic_version")["migrating"]) == 2
        waiting.stop()
        migration.ask("ROLLBACK")
        migration.ask("BEGIN")
        migration.ask("LOCK TABLE alembic_version IN ROW EXCLUSIVE MODE")
        assert [item["tables"] for item in ready()["migrating"]] == [["alembic_version"]]
        assert ready(version_table="보관.alembic_version")["migrating"] == []


def test_what_pins_a_database(ready, app, cluster):
    # First: it waits for whoever has written something.
    app.admin("SELECT pg_create_logical_replication_slot('l3_slot', 'test_decoding')")
    with app.session() as session:
        session.ask("CREATE TABLE t (id int)")
        session.ask("BEGIN")
        session.ask("INSERT INTO t VALUES (1)")
        session.ask("PREPARE TRANSACTION '이름'")
    app.admin("CREATE SUBSCRIPTION l3_sub CONNECTION 'host=/nowhere password=canary' PUBLICATION p "
              "WITH (connect = false, enabled = false, slot_name = NONE)")  # fmt: skip
    try:
        for admin in ({}, {"admin_command": cluster.admin_command}):
            found = ready(**admin)
            assert [(item["gid"], item["owner"]) for item in found["prepared"]] == [("이름", app.role)]
            assert found["slots"] == [{"name": "l3_slot", "plugin": "test_decoding", "active": False}]
            assert found["subscriptions"] == [{"name": "l3_sub", "enabled": False}]
    finally:
        app.admin("ROLLBACK PREPARED '이름'; DROP SUBSCRIPTION l3_sub; SELECT pg_drop_replication_slot('l3_slot')")
    found = ready()
    assert found["prepared"] == found["slots"] == found["subscriptions"] == []


def test_timeouts_that_would_end_a_migration(ready, app, cluster):
    cluster.sql(
        f'ALTER ROLE "{app.role}" SET statement_timeout = \'30s\'; ALTER DATABASE "{app.name}" SET lock_timeout = 500;'
        f'ALTER ROLE "{app.role}" IN DATABASE "{app.name}" SET idle_in_transaction_session_timeout = \'1min\';'
        f"ALTER ROLE \"{app.role}\" SET datestyle = 'German'; ALTER SYSTEM SET idle_session_timeout = '2h';"
        "SELECT pg_reload_conf()"
    )
    try:
        found = [(item["where"], item["setting"]) for item in ready(admin_command=cluster.admin_command)["timeouts"]]
        assert sorted(found) == [
            ("database", "lock_timeout=500"),
            ("role", "statement_timeout=30s"),
            ("role in database", "idle_in_transaction_session_timeout=1min"),
            ("server", "idle_session_timeout=7200000ms"),
        ]
    finally:
        cluster.sql("ALTER SYSTEM RESET idle_session_timeout; SELECT pg_reload_conf()")


def test_what_would_be_lost(ready, app):
    app.sql(
        'CREATE TABLE users (id int, "별명" text, n int); INSERT INTO users '
        "SELECT i, CASE WHEN i % 3 = 0 THEN 'x' END, i FROM generate_series(1, 30) i;"
        'CREATE SCHEMA "보관"; CREATE TABLE "보관"."표" (id int);'
        "CREATE TABLE events (at date, x int) PARTITION BY RANGE (at); CREATE TABLE e1 PARTITION OF events DEFAULT;"
        "INSERT INTO events VALUES ('2020-01-01', 1), ('2020-01-01', NULL);"
        "CREATE VIEW slow AS SELECT 1; CREATE TABLE locked (id int)"
    )
    with app.session() as holder:
        holder.ask("BEGIN")
        holder.ask("LOCK TABLE locked")
        found = ready(
            lost=[
                {"table": "users"},
                {"table": "users", "column": "별명"},
                {"table": "public.users", "column": "nope"},
                {"table": "표"},
                {"table": "보관.표"},
                {"table": "events", "column": "x"},
                {"table": "locked"},
                {"table": "gone"},
            ],
            count_timeout=0.2,
        )
    assert [(item["rows"], item["non_null"], item["reason"]) for item in found["lost"]] == [
        (30, None, None),
        (30, 10, None),
        (30, None, "there is no such column"),
        (0, None, None),
        (0, None, None),
        (2, 1, None),
        (None, None, "it was not counted within 0.2 s"),
        (None, None, "there is no such table"),
    ]
    assert found["lost"][1]["table"] == "users" and found["lost"][1]["column"] == "별명"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda app: {"url": app.url.replace("canary", "wrong-canary")}, "password authentication failed"),
        (
            lambda app: {"url": app.url.replace("127.0.0.1", "127.0.0.1:1").replace(f":1:{app.cluster.port}", ":1")},
            "refused",
        ),
        (lambda app: {"url": app.cluster.url("absent", app.role, PASSWORD)}, 'database "absent" does not exist'),
        (lambda app: {"url": "mysql://canary@x/y"}, "it is no URL of PostgreSQL"),
        (lambda app: {"bin_dir": "/nowhere"}, "psql is missing"),
        (lambda app: {"admin_command": ["false"]}, "false psql"),
        (lambda app: {"admin_command": ["/nowhere/sudo"]}, "can't be run"),
        (lambda app: {"env_file": "/nowhere/.env"}, "/nowhere/.env can't be read"),
    ],
)
def test_what_can_not_be_asked_is_told_without_secrets(ready, app, change, said):
    found = ready(**change(app))
    assert said in found["error"], found["error"]
    assert "\n" not in found["error"]
    assert set(found) >= {*pg_readiness.NOTHING}
