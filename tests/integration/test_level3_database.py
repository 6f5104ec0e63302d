"""What Level 3 asks of a database, and a table's way back, on a real PostgreSQL with everything odd in it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest, restore_points
from ansible_collections.sparklio.rollback.plugins.modules import (
    pg_backup,
    pg_integrity,
    pg_readiness,
    pg_restore_table,
    pg_verify,
)

PROJECT = Path(__file__).resolve().parents[2]
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
        for name in self.cluster.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{self.name}%'").splitlines():
            self.cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
        self.cluster.sql(f'DROP ROLE "{self.role}"')


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
    identity = found["identity"]
    assert identity.endswith("/" + cluster.sql(f"SELECT oid FROM pg_database WHERE datname = '{app.name}'"))
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
        assert found["identity"] == identity
        assert found["disk"]["path"] == str(cluster.data)
        assert found["disk"]["needed"] == found["bytes"] * 6 and found["disk"]["free"] > 0


def test_what_the_maker_may_neither_set_nor_give_away(ready, app, cluster):
    cluster.sql(f"""
        ALTER DATABASE "{app.name}" SET log_min_duration_statement = '5s';
        ALTER DATABASE "{app.name}" SET dynamic_library_path = '$libdir';
        ALTER DATABASE "{app.name}" SET work_mem = '5MB';
        ALTER DATABASE "{app.name}" SET app.thing = 'x';
        ALTER ROLE "{app.role}" IN DATABASE "{app.name}" SET work_mem = '6MB';
        ALTER ROLE postgres IN DATABASE "{app.name}" SET work_mem = '7MB';""")
    found = ready()
    assert found["error"] is None
    assert found["unsettable"] == [
        "dynamic_library_path",
        "log_min_duration_statement",
        "work_mem of role postgres",
    ]
    assert found["strangers"] == []
    # Any one of them is reason enough.
    for number, statement in enumerate(
        (
            "CREATE TABLE theirs (id int)",
            'CREATE SCHEMA "남의"',
            "CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE theirs AS ENUM ('a')",
            "SELECT lo_create(4711)",
            "CREATE PUBLICATION theirs",
        )
    ):
        role = f"owner {number}"
        try:
            app.admin(f'CREATE ROLE "{role}" SUPERUSER; SET ROLE "{role}"; {statement}')
            assert ready()["strangers"] == [role]
            found = ready(admin_command=cluster.admin_command)
            assert (found["unsettable"], found["strangers"]) == ([], [])
            cluster.sql(f'GRANT "{role}" TO "{app.role}"')
            assert ready()["strangers"] == []
        finally:
            app.admin(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    app.admin("CREATE TABLE theirs (id int)")
    assert ready()["strangers"] == ["postgres"]
    if int(cluster.sql("SHOW server_version_num")) >= 150000:
        cluster.sql(f'GRANT SET ON PARAMETER log_min_duration_statement TO "{app.role}"')
        assert "log_min_duration_statement" not in ready()["unsettable"]
        cluster.sql(f'REVOKE SET ON PARAMETER log_min_duration_statement FROM "{app.role}"')


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
        # Nor may one who may end everybody else's.
        cluster.sql(f'GRANT pg_signal_backend TO "{app.role}"')
        assert [item["user"] for item in ready()["sessions"] if not item["terminable"]] == ["postgres"]
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


@pytest.fixture
def integrity(call, app):
    def ask(**options):
        found = call(pg_integrity, **{"url": app.url, **options})
        assert "canary" not in json.dumps({key: found[key] for key in found if key != "invocation"})
        assert not found["changed"]
        return found

    return ask


KEYS = """
CREATE EXTENSION citext;
CREATE TABLE users (id int PRIMARY KEY, "이름" citext UNIQUE, boss int REFERENCES users);
INSERT INTO users VALUES (1, 'Kim', NULL), (2, 'lee', 1);
CREATE TABLE pairs (a int, b text, PRIMARY KEY (a, b));
INSERT INTO pairs VALUES (1, 'x');
CREATE SCHEMA "보관";
CREATE TABLE "보관"."표" (id int, a int, b varchar(5), owner citext REFERENCES users ("이름"),
  CONSTRAINT simple_fk FOREIGN KEY (a, b) REFERENCES pairs (a, b), c int, d text,
  CONSTRAINT full_fk FOREIGN KEY (c, d) REFERENCES pairs (a, b) MATCH FULL);
INSERT INTO "보관"."표" VALUES (1, 1, 'x', 'KIM', 1, 'x'), (2, 9, NULL, NULL, NULL, NULL);
CREATE TABLE events (at date, user_id bigint REFERENCES users, x int, PRIMARY KEY (at, x)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE events_2 PARTITION OF events DEFAULT;
INSERT INTO events VALUES ('2020-02-02', 1, 1), ('2022-02-02', 2, 1);
CREATE TABLE notes (at date, x int, FOREIGN KEY (at, x) REFERENCES events);
INSERT INTO notes VALUES ('2022-02-02', 1);
CREATE TABLE base (user_id int REFERENCES users);
CREATE TABLE derived () INHERITS (base);
INSERT INTO derived VALUES (99);
"""


def test_foreign_keys_are_looked_behind(integrity, app):
    app.admin(KEYS)
    app.admin(
        f'GRANT ALL ON ALL TABLES IN SCHEMA public, "보관" TO "{app.role}"; GRANT ALL ON SCHEMA "보관" TO "{app.role}"'
    )
    found = integrity()
    assert (found["verdict"], found["foreign_keys"], found["orphans"]) == ("pass", 7, []), found
    app.admin(
        "SET session_replication_role = replica;"
        "UPDATE users SET boss = 77 WHERE id = 2;"
        "INSERT INTO \"보관\".\"표\" VALUES (3, 1, 'y', 'nobody', 1, NULL), (4, 1, 'y', NULL, 2, 'x');"
        "INSERT INTO events VALUES ('2020-03-03', 55, 2), ('2022-03-03', 55, 2);"
        "INSERT INTO notes VALUES ('2020-12-12', 9); INSERT INTO base VALUES (66);"
    )
    found = integrity()
    assert found["verdict"] == "fail"
    seen = {item["name"]: (item["count"], item["example"], item["references"]) for item in found["orphans"]}
    assert seen == {
        "users_boss_fkey on users": (1, "[77]", "users"),
        "simple_fk on 보관.표": (2, '[1, "y"]', "pairs"),
        "full_fk on 보관.표": (2, "[1, null]", "pairs"),
        "표_owner_fkey on 보관.표": (1, '["nobody"]', "users"),
        "events_user_id_fkey on events": (2, "[55]", "users"),
        "notes_at_x_fkey on notes": (1, '["2020-12-12", 9]', "events"),
        "base_user_id_fkey on base": (1, "[66]", "users"),
    }
    assert "users_boss_fkey on users: 1 row" in found["evidence"] and "such as [77]" in found["evidence"]
    counts = {item["name"]: item["count"] for item in found["orphans"]}
    found = integrity(known_orphans=counts)
    assert found["verdict"] == "pass" and "as before" in found["evidence"]
    # A key that was validated is not excused by its name.
    assert len([item for item in integrity(known=list(counts))["orphans"] if not item["known"]]) == len(counts)
    counts["simple_fk on 보관.표"] = 1
    assert [item["name"] for item in integrity(known_orphans=counts)["orphans"] if not item["known"]] == [
        "simple_fk on 보관.표"
    ]


def test_what_is_not_valid_or_was_never_validated(integrity, app, cluster):
    app.sql(
        "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE dup (x int, user_id int);"
        "INSERT INTO dup VALUES (1, 5), (1, NULL);"
        "ALTER TABLE dup ADD CONSTRAINT positive CHECK (x > 1) NOT VALID;"
        "ALTER TABLE dup ADD CONSTRAINT user_fk FOREIGN KEY (user_id) REFERENCES users NOT VALID;"
        "CREATE DOMAIN small AS int; ALTER DOMAIN small ADD CONSTRAINT tiny CHECK (VALUE < 9) NOT VALID"
    )
    said = cluster.sql("CREATE UNIQUE INDEX CONCURRENTLY dup_x ON dup (x)", app.name, fails=True)
    assert "could not create unique index" in said
    found = integrity()
    assert found["verdict"] == "fail"
    assert [(item["name"], item["index"], item["known"]) for item in found["invalid_indexes"]] == [
        ("dup_x on dup", "dup_x", False)
    ]
    names = [item["name"] for item in found["unvalidated"]]
    assert names == ["positive on dup", "user_fk on dup", "tiny on small"]
    assert "not valid: dup_x on dup; never validated: positive on dup" in found["evidence"]
    assert [(item["name"], item["validated"]) for item in found["orphans"]] == [("user_fk on dup", False)]
    found = integrity(known=[*names, "dup_x on dup"])
    assert found["verdict"] == "pass" and found["orphans"][0]["known"], found
    found = integrity(known=names, want_schema=True)
    assert found["verdict"] == "fail"
    (line,) = [line for line in found["schema"] if line.startswith("index dup_x on dup\t")]
    assert line.endswith(" (invalid)")


def test_what_can_not_be_checked_never_passes(integrity, app, cluster):
    app.admin("CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE a (id int REFERENCES users);"
              "CREATE TABLE b (id int REFERENCES users)")  # fmt: skip
    app.admin(f'GRANT SELECT ON users, b TO "{app.role}"')
    found = integrity(content="rows")
    assert found["verdict"] == "error" and found["foreign_keys"] == 1
    assert [item["name"] for item in found["unchecked"]] == ["a_id_fkey on a", "rows of a"]
    assert "permission denied" in found["unchecked"][0]["reason"]
    app.admin(f'GRANT SELECT ON a TO "{app.role}"')
    with cluster.session(app.name) as holder:
        holder.ask("BEGIN")
        holder.ask("LOCK TABLE a")
        found = integrity(question_timeout=0.2)
        assert found["unchecked"] == [{"name": "a_id_fkey on a", "reason": "no answer within 0.2 s"}]
    found = integrity(deadline=0)
    assert found["verdict"] == "error" and "no time left" in found["evidence"]
    found = integrity(database="없음")
    assert found["verdict"] == "error" and "does not exist" in found["evidence"] and found["database"] == "없음"


def test_contents_are_those_of_the_moment(integrity, app):
    app.sql('CREATE TABLE "표" (id int, t text); INSERT INTO "표" VALUES (1, \'a\'), (2, NULL); CREATE TABLE empty ()')
    rows = integrity(content="rows")["tables"]
    assert rows == {"표": {"rows": 2, "hash": None}, "empty": {"rows": 0, "hash": None}}
    first = integrity(content="hash", only_tables=["표"])["tables"]
    assert first["표"]["rows"] == 2 and first["표"]["hash"] and set(first) == {"표"}
    app.sql("UPDATE \"표\" SET t = 'b' WHERE id = 1")
    assert integrity(content="hash")["tables"]["표"]["hash"] != first["표"]["hash"]


SCHEMA = """
CREATE EXTENSION citext;
CREATE SCHEMA "보관";
CREATE TYPE mood AS ENUM ('좋음', 'bad');
CREATE DOMAIN positive AS int DEFAULT 1 CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text COLLATE "C");
CREATE TYPE span AS RANGE (subtype = numeric);
CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL, m mood DEFAULT 'bad', n numeric(8, 2),
  twice numeric GENERATED ALWAYS AS (n * 2) STORED, c text COLLATE "C", p pair, CHECK (n > 0));
CREATE UNIQUE INDEX ix_users_email ON users (lower(email)) WHERE n > 1;
CREATE TABLE "보관"."표.1" (id int GENERATED BY DEFAULT AS IDENTITY, "a.b" int,
  user_id bigint REFERENCES users ON DELETE CASCADE);
ALTER TABLE "보관"."표.1" ADD CONSTRAINT later CHECK ("a.b" > 0) NOT VALID;
CREATE TABLE events (at date, x int) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE INDEX ix_events ON events (x);
CREATE TABLE derived (z int) INHERITS (users);
CREATE UNLOGGED TABLE fast (id int) WITH (fillfactor = 50);
CREATE SEQUENCE down INCREMENT -1 CYCLE;
CREATE VIEW emails AS SELECT id, email FROM users;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM users;
CREATE UNIQUE INDEX ix_totals ON totals (n);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE PROCEDURE work(a int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE TRIGGER touched BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE RULE quiet AS ON DELETE TO users DO INSTEAD NOTHING;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON users FOR SELECT TO PUBLIC USING (id > 0);
CREATE STATISTICS st_users (dependencies) ON id, n FROM users;
COMMENT ON TABLE users IS '사용자';
COMMENT ON COLUMN users.email IS 'where';
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
COMMENT ON TABLE alembic_version IS 'not this';
"""


def test_two_schemas_are_the_same_whatever_the_order(integrity, app, cluster, tmp_path):
    app.sql(SCHEMA)
    lines = integrity(want_schema=True)["schema"]
    assert lines == sorted(lines) and not [line for line in lines if "alembic_version" in line or "citext_" in line]
    kinds = {line.split(" ")[0] for line in lines}
    assert kinds >= {
        *("schema", "extension", "table", "column", "constraint", "index", "type", "sequence", "view", "materialized"),
        *("function", "procedure", "aggregate", "trigger", "rule", "policy", "statistics", "comment"),
    }
    assert "column users.email\ttext NOT NULL" in lines
    assert "type mood\tenum ('좋음', 'bad')" in lines
    assert 'constraint later on "보관"."표.1"\tCHECK (("a.b" > 0)) NOT VALID' in lines
    assert "sequence users_id_seq\tbigint increment 1 from 1 to 9223372036854775807 owned by public.users.id" in lines
    assert not [line for line in lines if line.startswith("index events_1_x")]
    wanted = tmp_path / "schema.json"
    wanted.write_text(json.dumps(lines))
    other = App(cluster)
    try:
        # Columns in another order, other numbers of objects, other contents, another place of the sequence.
        other.sql("CREATE TABLE filler (id int); DROP TABLE filler;" + SCHEMA.replace(
            "id bigserial PRIMARY KEY, email text NOT NULL", "email text NOT NULL, id bigserial PRIMARY KEY, gone int"
        ) + "ALTER TABLE users DROP COLUMN gone; SELECT nextval('users_id_seq'), nextval('users_id_seq');")  # fmt: skip
        found = integrity(url=other.url, schema_file=str(wanted))
        assert (found["schema_differences"], found["schema"]) == ([], None)
        assert found["unvalidated"][0]["name"] == "later on 보관.표.1"
    finally:
        other.drop()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP INDEX ix_users_email", "index ix_users_email on users: missing"),
        ("CREATE INDEX ix_more ON users (n)", "index ix_more on users: not expected"),
        ("ALTER TABLE users ADD y int", "column derived.y: not expected|column users.y: not expected"),
        (
            "ALTER TABLE users ALTER m TYPE text",
            "column derived.m differs: text DEFAULT 'bad'::public.mood instead of public.mood DEFAULT|"
            "column users.m differs",
        ),
        ("ALTER TYPE mood ADD VALUE 'new'", "type mood differs: enum ('좋음', 'bad', 'new') instead of enum ('좋음', "),
        ("DROP TABLE \"보관\".\"표.1\"", 'sequence "보관"."표.1_id_seq": missing|table "보관"."표.1": missing'),
        ("CREATE TABLE extra (id int PRIMARY KEY)", "table extra: not expected"),
        (
            "ALTER TABLE users ALTER email DROP NOT NULL",
            "column derived.email differs: text instead|column users.email differs: text instead of text NOT NULL",
        ),
        ("CREATE OR REPLACE VIEW emails AS SELECT id, lower(email) AS email FROM users", "view emails differs"),
        ("COMMENT ON COLUMN users.email IS NULL", "comment on table column public.users.email: missing"),
        ("ALTER TABLE users DISABLE TRIGGER touched", "trigger touched on users differs"),
        ("ALTER POLICY mine ON users USING (id > 1)", "policy mine on users differs: r permissive to PUBLIC using"),
        ("ALTER SEQUENCE down NO CYCLE", "sequence down differs"),
        ("ALTER DOMAIN positive SET NOT NULL", "type positive differs"),
        ("ALTER TABLE \"보관\".\"표.1\" VALIDATE CONSTRAINT later", 'constraint later on "보관"."표.1" differs'),
        ("DROP AGGREGATE total (int)", "aggregate total(integer): missing"),
        ("ALTER TABLE fast SET LOGGED", "table fast differs"),
        ("DROP RULE quiet ON users", "rule quiet on users: missing"),
        ("DROP STATISTICS st_users", "statistics st_users: missing"),
    ],
)  # fmt: skip
def test_what_differs_in_a_schema_is_named(integrity, app, tmp_path, change, said):
    app.sql(SCHEMA)
    wanted = tmp_path / "schema.json"
    wanted.write_text(json.dumps(integrity(want_schema=True)["schema"]))
    app.sql(change)
    found = integrity(schema_file=str(wanted), known=["later on 보관.표.1"])
    differences = found["schema_differences"]
    assert found["verdict"] == "fail"
    assert len(differences) == len(said.split("|")), differences
    for line, wanted_line in zip(differences, said.split("|"), strict=True):
        assert line.startswith(wanted_line)
    assert integrity(schema_file=str(wanted), known=["later on 보관.표.1", *differences])["verdict"] == "pass"


def test_a_schema_file_that_says_nothing_is_no_expectation(integrity, tmp_path):
    for text in ("[]", "{}", "nothing"):
        (tmp_path / "s.json").write_text(text)
        assert integrity(schema_file=str(tmp_path / "s.json"))["verdict"] == "error"
    assert "No such file" in integrity(schema_file="/nowhere/s.json")["evidence"]


TABLES = """
CREATE EXTENSION citext;
CREATE SCHEMA "보관";
CREATE TYPE mood AS ENUM ('좋음', 'bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE teams (id int PRIMARY KEY);
INSERT INTO teams VALUES (1), (2);
CREATE TABLE users (id bigserial PRIMARY KEY, email citext UNIQUE, m mood, moods mood[], p positive,
  team int REFERENCES teams, at timestamptz(3) DEFAULT now(), n numeric(8, 2),
  twice numeric GENERATED ALWAYS AS (n * 2) STORED, raw bytea,
  "order" text, CHECK (n > 0));
INSERT INTO users (email, m, moods, p, team, n, raw, "order")
  SELECT 'u' || i || '@example.com', 'bad', ARRAY['좋음', 'bad']::mood[], i, 1 + i % 2, i + 0.5,
  decode(md5(i::text), 'hex'),
  CASE WHEN i % 3 = 0 THEN E'a\\tb\\n\\\\.\\n\\\\! touch /tmp/l3-canary' WHEN i % 3 = 1 THEN '\\N' END
  FROM generate_series(1, 200) i;
CREATE TABLE "보관"."브랜드 표" (a int, "이름" text, b int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY ("이름", a));
INSERT INTO "보관"."브랜드 표" SELECT i, '한글 ' || i FROM generate_series(1, 50) i;
CREATE TABLE events (at date, x int, PRIMARY KEY (at, x)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
INSERT INTO events SELECT '2020-01-01'::date + i, i FROM generate_series(1, 90) i;
CREATE TABLE derived (z int) INHERITS (teams);
INSERT INTO derived VALUES (7, 8);
CREATE TABLE nokey (t text);
INSERT INTO nokey VALUES (NULL), ('x'), ('x');
CREATE TABLE empty (id int PRIMARY KEY);
CREATE TABLE big AS SELECT i, md5(i::text) || md5(i::text) AS t FROM generate_series(1, 20000) i;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE TRIGGER never BEFORE DELETE ON users EXECUTE FUNCTION fail();
"""
POINT = "20250115T050000Z-deploy"
SCHEMA_OF_POINT = "restored_20250115t050000z_deploy"


@pytest.fixture
def point(call, app, cluster, tmp_path):
    """A restore point with the database of the application, whose role may set its own odd defaults."""
    app.sql(TABLES)
    cluster.sql(
        f"ALTER ROLE \"{app.role}\" SET datestyle = 'German'; ALTER ROLE \"{app.role}\" SET statement_timeout = '1s'"
    )
    backups = tmp_path / "backups"
    place = backups / POINT
    place.mkdir(parents=True, mode=0o700)
    found = call(pg_backup, url=app.url, dest=str(place / "database"))
    assert "artifact" in found, found
    kept = found["artifact"]
    manifest = {
        **{
            "version": 1,
            "id": POINT,
            "kind": "deploy",
            "made_at": "2025-01-15T05:00:00Z",
            "release": {},
            "skipped": [],
        },
        "artifacts": [kept],
    }
    restore_points.write_private(str(place / "manifest.json"), _manifest.encode(manifest))
    return backups


@pytest.fixture
def bring(call, app, cluster, point):
    def run(table, check=False, **options):
        options = {"backups": str(point), "id": POINT, "admin_command": cluster.admin_command, **options}
        found = call(pg_restore_table, check=check, url=app.url, table=table, **options)
        assert "canary" not in json.dumps({key: found[key] for key in found if key != "invocation"})
        left = cluster.sql("SELECT count(*) FROM pg_database WHERE datname LIKE '%_verify_%'")
        assert left == "0"
        return found

    return run


def test_a_table_comes_back_beside_the_live_one(bring, app):
    before = app.sql("SELECT count(*), sum(hashtextextended(u::text, 0)) FROM users u")
    app.sql("TRUNCATE users; INSERT INTO users (email, n) VALUES ('new', 1)")
    found = bring("users", check=True)
    assert (found["changed"], found["rows"], found["schema"]) == (True, 200, SCHEMA_OF_POINT), found
    assert app.sql(f"SELECT to_regnamespace('{SCHEMA_OF_POINT}') IS NULL") == "t"
    found = bring("users")
    assert found.get("table") == f"{SCHEMA_OF_POINT}.users", found
    assert (found["primary_key"], found["as_text"], found["notes"]) == (["id"], [], [])
    owner = f"SELECT tableowner FROM pg_tables WHERE schemaname = '{SCHEMA_OF_POINT}'"
    assert app.sql(owner) == app.role
    constraints = (
        f"SELECT contype FROM pg_constraint WHERE conrelid = '{SCHEMA_OF_POINT}.users'::regclass AND contype <> 'n'"
    )
    assert app.sql(constraints) == "p"
    assert app.sql("SELECT email FROM users") == "new"
    again = bring("users")
    assert again["failed"] and "is there already" in again["msg"]
    assert f'DROP TABLE "{SCHEMA_OF_POINT}"."users"' in again["msg"]
    app.sql("TRUNCATE users")
    for statement in found["next"]:
        app.sql(statement)
    after = app.sql("SELECT count(*), sum(hashtextextended(u::text, 0)) FROM users u")
    assert after == before
    assert bring("users")["rows"] == 200


@pytest.mark.parametrize(
    ("table", "rows", "key"),
    [
        ("보관.브랜드 표", 50, ["이름", "a"]),
        ("브랜드 표", 50, ["이름", "a"]),
        ("events_1", 90, ["at", "x"]),
        ("derived", 1, []),
        ("teams", 2, ["id"]),
        ("nokey", 3, []),
        ("empty", 0, ["id"]),
    ],
)
def test_any_kind_of_table(bring, app, table, rows, key):
    found = bring(table)
    assert (found.get("rows"), found.get("primary_key")) == (rows, key), found
    name = table.rpartition(".")[2]
    assert app.sql(f'SELECT count(*) FROM {SCHEMA_OF_POINT}."{name}"') == str(rows)
    for statement in found["next"]:
        app.sql(statement)


def test_types_that_are_gone_or_others_now_come_as_text(bring, app):
    app.sql(
        "ALTER TABLE users DROP m, DROP moods, DROP p; DROP TYPE mood;"
        "CREATE TYPE mood AS ENUM ('bad', 'other', '좋음');"
        "DROP DOMAIN positive; ALTER TABLE users ADD m mood, ADD must int NOT NULL DEFAULT 1;"
        "ALTER TABLE users ADD needed int NOT NULL DEFAULT 1;"
        "ALTER TABLE users ALTER needed DROP DEFAULT"
    )
    found = bring("users")
    assert found["as_text"] == ["m", "moods", "p"]
    assert found["notes"] == [
        "Columns that the live table has no more: moods, p.",
        "Columns that the live table needs and the restored one has not: needed.",
        "As text, since their types are gone or others now: m, moods, p.",
    ]
    app.sql("ALTER TABLE users ALTER needed SET DEFAULT 1; TRUNCATE users")
    for statement in found["next"]:
        app.sql(statement)
    assert app.sql("SELECT count(*), min(m::text) FROM users") == "200|bad"


def test_a_table_that_is_gone_can_be_moved_back(bring, app):
    app.sql('DROP TABLE "보관"."브랜드 표"')
    found = bring("브랜드 표")
    assert "There is no table 보관.브랜드 표 any more" in found["notes"][0]
    app.sql(found["next"][0])
    assert app.sql('SELECT count(*) FROM "보관"."브랜드 표"') == "50"


def test_what_can_not_be_restored_is_refused(bring, app, point, cluster):
    def said(table="users", **options):
        found = bring(table, **options)
        assert found["failed"], found
        assert app.sql(f"SELECT to_regnamespace('{SCHEMA_OF_POINT}') IS NULL") == "t"
        return found["msg"]

    assert (
        "there is no table nope in it; there is big, derived, empty, events_1, nokey, teams, users, 보관.브랜드 표"
        in said("nope")
    )
    assert "there is no table events in it" in said("events")
    assert f"there is no restore point 20250101T000000Z-deploy in {point}; there is {POINT}" in said(
        id="20250101T000000Z-deploy"
    )
    assert "is not the id of a restore point" in said(id="../x")
    assert "may not make databases" in said(admin_command=[])
    assert "may not make databases" in said(admin_command=[], check=True)
    assert "Free some space there" in said(disk_factor=1e12)
    assert "Free some space there" in said(disk_factor=1e12, check=True)
    assert "was not done in time" in said(deadline=0.5)
    assert "false psql" in said(admin_command=["false"])
    app.admin(f'ALTER DATABASE "{app.name}" OWNER TO postgres')
    assert f'GRANT CREATE ON DATABASE "{app.name}" TO "{app.role}"' in said()
    app.admin(f'ALTER DATABASE "{app.name}" OWNER TO "{app.role}"')
    victim = max((point / POINT / "database" / "dump").glob("*.gz"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert f"is damaged: database/dump/{victim.name} was altered" in said()


def test_rows_that_are_not_those_that_were_kept_are_taken_back(bring, app, point):
    place = point / POINT
    content = json.loads((place / "database" / "content.json").read_text())
    (users,) = [table for table in content["tables"] if table["name"] == "users"]
    users["hash"] = "1"
    (place / "database" / "content.json").write_text(json.dumps(content))
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["artifacts"] = [restore_points.artifact("database", str(place / "database"), {}, 0)]
    (place / "manifest.json").write_text(json.dumps(manifest))
    found = bring("users")
    assert "its rows are not those that were kept" in found["msg"]
    assert app.sql(f"SELECT to_regnamespace('{SCHEMA_OF_POINT}') IS NULL") == "t"


def test_a_dump_is_verified_as_it_is_restored(call, app, cluster, point):
    path = str(point / POINT / "database")
    found = call(pg_verify, path=path, url=app.url, admin_url=cluster.admin_url())
    assert (found["verdict"], found["differences"]) == ("pass", []), found
    found = call(pg_verify, path=path, url=app.url)
    assert "may not make databases" in found["evidence"] and "compare checksums only" in found["evidence"]
    # Its own role can do it alone where it may make databases: the extension is a trusted one.
    cluster.sql(f'ALTER ROLE "{app.role}" CREATEDB')
    assert call(pg_verify, path=path, url=app.url)["verdict"] == "pass"
    assert call(pg_restore_table, url=app.url, backups=str(point), id=POINT, table="users")["rows"] == 200


def test_killed_in_the_middle_nothing_of_the_table_is_there(bring, app, cluster, point):
    options = {
        **{"url": app.url, "backups": str(point), "id": POINT, "table": "big"},
        "admin_command": cluster.admin_command,
    }
    script = (
        "import json, sys\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.sparklio.rollback.plugins.modules import pg_restore_table\n"
        "with patch_module_args({**json.load(sys.stdin), '_ansible_check_mode': False}): pg_restore_table.main()\n"
    )
    writing = f"datname = '{app.name}' AND query LIKE 'CREATE SCHEMA IF NOT EXISTS%' AND wait_event_type = 'Lock'"
    with app.session() as holder:
        # It waits for this one to end, with more rows on the way than a pipe holds.
        holder.ask("BEGIN")
        holder.ask(f"CREATE SCHEMA {SCHEMA_OF_POINT}")
        running = subprocess.Popen(
            [sys.executable, "-c", script],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            running.stdin.write(json.dumps(options).encode())
            running.stdin.close()
            for _try in range(600):
                if cluster.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {writing}") == "1":
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("it did not get as far as writing")
            # Longer than its role would let it.
            time.sleep(1.2)
            assert cluster.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {writing}") == "1"
        finally:
            running.kill()
            running.wait()
        holder.ask("ROLLBACK")
    for _try in range(200):
        others = f"datname LIKE '{app.name}%' AND backend_type = 'client backend'"
        if cluster.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {others}") == "0":
            break
        time.sleep(0.05)
    assert app.sql(f"SELECT to_regnamespace('{SCHEMA_OF_POINT}') IS NULL") == "t"
    left = cluster.sql("SELECT datname FROM pg_database WHERE datname LIKE '%_verify_%'").split("\n")
    assert len(left) == 1 and left[0]
    found = bring("big")
    assert found["dropped"] == left and found["rows"] == 20000


def play(tmp_path, point, app, *arguments):
    inventory = tmp_path / "inventory.json"
    root = tmp_path / "clone"
    (root / "backend").mkdir(parents=True, exist_ok=True)
    (root / "backend" / ".env").write_text(f"DATABASE_URL={app.url}\n")
    host = {
        **{"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "rollback_app_root": str(root)},
        **{"rollback_backup_dir": str(point), "rollback_database_admin_command": app.cluster.admin_command},
    }
    inventory.write_text(json.dumps({"app": {"hosts": {"l3-host": host}}}))
    line = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "playbooks/restore_table.yml"]
    done = subprocess.run([*line, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)
    assert "canary" not in done.stdout + done.stderr
    assert not (tmp_path / "clone.rollback" / "lock").exists()
    return done


def test_the_playbook_says_what_to_type_next_and_gives_the_lock_back(tmp_path, point, app):
    names = ("-e", f"restore_point={POINT}", "-e", "table=users")
    done = play(tmp_path, point, app, "-e", "restore_point=newest", *names[2:], "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert f"200 rows of users would come into {SCHEMA_OF_POINT}.users, from restore point {POINT}." in said
    done = play(tmp_path, point, app, *names)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "ON CONFLICT DO NOTHING" in said and "변경되지 않았습니다" in said and f"from restore point {POINT}" in said
    assert app.sql(f"SELECT count(*) FROM {SCHEMA_OF_POINT}.users") == "200"
    done = play(tmp_path, point, app, *names)
    assert done.returncode != 0 and "is there already, and nothing is replaced" in done.stdout + done.stderr
    done = play(tmp_path, point, app)
    assert done.returncode != 0 and "Name the restore point and the table" in done.stdout + done.stderr
