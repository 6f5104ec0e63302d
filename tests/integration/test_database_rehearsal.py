"""database_rehearsal on a backup that was restored on a real PostgreSQL: what it finds, and what it must not touch."""

from __future__ import annotations

import json

import pytest
from application import ENV, LEARNINGS, LINEAR, NO_LEARNINGS, USER, USERS, Application, module, revision

DROPS = [{"kind": "column", "table": "users", "name": "profile"}, {"kind": "table", "table": "learnings", "name": None}]
EVERYTHING = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"


@pytest.fixture
def app(cluster, tmp_path):
    made = Application(cluster, tmp_path)
    yield made
    for name in made.databases():
        cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def restored(app: Application) -> str:
    """Back the database up, and restore it into a scratch database. Returns that one's name."""
    kept = module("pg_backup", app.options(dest=str(app.root / "database"), admin_command=None), fails=False)
    proof = module(
        "pg_verify",
        app.options(path=str(app.root / "database"), artifact=kept["artifact"], keep=True),
        fails=False,
    )
    assert proof["verdict"] == "pass", proof["evidence"]
    return proof["scratch"]


def rehearse(app: Application, heads: str | None = "r2_learnings", **more) -> dict:
    options = {
        "scratch": restored(app),
        "content_file": str(app.root / "database/content.json"),
        "schema_file": str(app.root / "schema.json"),
        "revisions": ["r2_learnings"],
        "heads": ["r2_learnings"],
        "target_heads": ["r1_users"],
        "build": ["r1_users"],
        "planned": DROPS,
        "backend_dir": str(app.backend),
        **more,
    }
    result = module("database_rehearsal", app.options(**options), fails=False)
    # Nothing is left behind, and nothing happened to what serves.
    assert app.databases() == {app.name: True}, result["evidence"]
    if heads:
        assert app.heads() == [heads]
    return result


def test_it_passes_and_lists_what_is_really_dropped(app):
    users = app.sql("SELECT count(*) FROM users")
    result = rehearse(app)
    assert result["verdict"] == "pass", result["evidence"]
    assert {item["identity"] for item in result["dropped"]} >= {
        "public.learnings",
        "public.users.profile",
        "public.ix_learnings_user_id",
        "public.learnings_id_seq",
    }
    tables = {item["table"]: item for item in result["tables"]}
    assert tables["public.learnings"]["what"] == "dropped" and tables["public.learnings"]["rows"] == int(users)
    assert tables["public.users"]["columns"] == ["profile"] and not tables["public.users"]["contents"]
    assert result["may_change"] == ["public.alembic_version", "public.learnings"]
    assert "drops table learnings with 200 rows" in result["lines"]
    assert json.loads((app.root / "schema.json").read_text())


def test_without_a_superuser_the_schemas_still_tell(app):
    app.cluster.sql("DO $$ BEGIN CREATE ROLE maker LOGIN CREATEDB; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    app.cluster.sql(f"GRANT {USER} TO maker; ALTER ROLE maker PASSWORD 'm'")
    result = rehearse(app, admin_command=None, admin_url=app.cluster.url("postgres", "maker", "m"))
    assert result["verdict"] == "pass", result["evidence"]
    assert result["dropped"] == [] and [item["table"] for item in result["tables"]] == [
        "public.learnings",
        "public.users",
    ]


#: Ways to open a connection past SQLAlchemy; each deletes rows that the rehearsal must leave where they are.
DELETES = {
    "psycopg": "import psycopg\nwith psycopg.connect(ADDRESS) as c:\n    c.execute(DELETE)",
    "psycopg, a class of its own": """
import psycopg
class Connection(psycopg.Connection): pass
with Connection.connect(ADDRESS) as c:
    c.execute(DELETE)""",
    "psycopg, asynchronous": """
import asyncio, psycopg
async def go():
    async with await psycopg.AsyncConnection.connect(ADDRESS) as c:
        await c.execute(DELETE)
asyncio.run(go())""",
    "psycopg2": "import psycopg2\nwith psycopg2.connect(ADDRESS) as c:\n    c.cursor().execute(DELETE)",
    "asyncpg": """
import asyncio, asyncpg
async def go():
    c = await asyncpg.connect(ADDRESS)
    await c.execute(DELETE)
asyncio.run(go())""",
    "asyncpg, a pool": """
import asyncio, asyncpg
async def go():
    async with asyncpg.create_pool(ADDRESS, min_size=1, max_size=1) as pool:
        await pool.execute(DELETE)
asyncio.run(go())""",
    "psql": "import subprocess\nsubprocess.run(['psql', '-Xqc', DELETE, ADDRESS], check=True)",
}


DROP = "op.drop_column('users', 'profile')\nop.drop_table('learnings')"


def deletes(app: Application, how: str, address: str) -> None:
    """Let the downgrade delete rows by a connection of its own."""
    if how != "psql":
        pytest.importorskip(how.partition(",")[0])
    text = DELETES[how].replace("ADDRESS", address).replace("DELETE", "'DELETE FROM learnings WHERE id < 10'")
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, f"import os\n{text}\n{DROP}"))


@pytest.mark.parametrize("how", DELETES)
def test_no_address_of_the_environment_leads_to_what_serves(app, how):
    address = app.url.replace("postgresql+psycopg", "postgresql")
    app.env_file.write_text(f"DATABASE_URL={app.url}\nREPORT_URL={address}\n")
    deletes(app, how, "os.environ['REPORT_URL']")
    result = rehearse(app)
    assert app.sql("SELECT count(*) FROM learnings") == "200"
    assert result["verdict"] == "pass", result["evidence"]


@pytest.mark.parametrize("how", [how for how in DELETES if how != "psql"])
def test_an_address_of_the_revisions_own_is_refused(app, how):
    deletes(app, how, repr(app.url.replace("postgresql+psycopg", "postgresql")))
    result = rehearse(app)
    assert app.sql("SELECT count(*) FROM learnings") == "200"
    driver = how.partition(",")[0]
    assert result["verdict"] == "fail" and f"{driver} was led to database shop, not to shop_" in result["evidence"]
    assert "Let what connects use op.get_bind()" in result["evidence"]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("psycopg", "psycopg was led to database shop, and SQL is made without any"),
        ("psql", "CalledProcessError"),
    ],
)
def test_the_sql_is_read_without_any_database(app, how, says):
    own = app.url.replace("postgresql+psycopg", "postgresql")
    app.env_file.write_text(f"DATABASE_URL={app.url}\nREPORT_URL={own}\n")
    deletes(app, how, repr(own) if how == "psycopg" else "os.environ['REPORT_URL']")
    options = {"revisions": ["r2_learnings"], "heads_before": [["r2_learnings"]], "backend_dir": str(app.backend)}
    found = module("alembic_sql", {**options, "env_file": str(app.env_file)}, fails=False)
    assert app.sql("SELECT count(*) FROM learnings") == "200"
    assert says in found["errors"]["r2_learnings"]


def test_a_downgrade_that_raises_fails_with_its_words(app):
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade="raise RuntimeError('never')"))
    result = rehearse(app)
    assert result["verdict"] == "fail" and "revision r2_learnings failed: RuntimeError: never" in result["evidence"]


def test_a_loss_that_no_revision_names_is_refused_until_it_is_accepted(app):
    hidden = "op.execute('DROP TABLE ' + ''.join(['lear', 'nings']))\nop.drop_column('users', 'profile')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", downgrade=hidden))
    result = rehearse(app, planned=DROPS[:1])
    assert result["verdict"] == "fail" and 'accept_dropped": ["public.learnings"]' in result["evidence"]
    assert rehearse_again(app, planned=DROPS[:1], accepted=["public.learnings"])["verdict"] == "pass"


def rehearse_again(app: Application, **more) -> dict:
    (app.root / "database").rename(app.root / f"database-{len(list(app.root.iterdir()))}")
    return rehearse(app, **more)


def test_a_downgrade_that_leaves_something_behind_is_found(app):
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, "op.drop_column('users', 'profile')"))
    result = rehearse(app)
    assert result["verdict"] == "fail" and "table learnings: not expected" in result["evidence"]
    assert rehearse_again(app, accept_drift=True)["verdict"] == "pass"


def test_what_was_different_before_is_told_and_no_reason_to_fail(app):
    app.sql("CREATE INDEX by_hand ON users (name)")
    result = rehearse(app)
    assert result["verdict"] == "pass", result["evidence"]
    assert any("by_hand" in text for text in result["drift"])


def test_rows_that_change_without_a_word_are_shown(app):
    text = NO_LEARNINGS + "    op.execute(\"UPDATE users SET mood = 'bad' WHERE id < 5\")"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, text))
    result = rehearse(app)
    assert "table users: drops column profile, changes the contents of other columns" in result["lines"]


def test_a_constraint_that_was_never_validated_is_found(app):
    text = NO_LEARNINGS + "    op.execute('ALTER TABLE users ADD CONSTRAINT odd CHECK (id > 5) NOT VALID')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, text))
    result = rehearse(app, build=None)
    assert result["verdict"] == "fail" and "odd on users" in result["evidence"]


def test_what_is_called_otherwise_afterwards_is_no_loss(app):
    text = """
    op.drop_column("users", "profile")
    op.rename_table("learnings", "lessons")
    op.alter_column("users", "name", new_column_name="full_name")
    """
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, text))
    result = rehearse(app, planned=DROPS[:1], build=None)
    assert result["verdict"] == "pass", result["evidence"]
    assert result["may_change"] == ["public.alembic_version", "public.learnings", "public.lessons"]
    assert {
        "table learnings: is called lessons",
        "table users: calls column name full_name, drops column profile",
    } <= set(result["lines"])


def test_a_version_table_of_another_name_in_another_schema(app):
    app.sql(f"CREATE SCHEMA meta AUTHORIZATION {USER}; ALTER TABLE alembic_version SET SCHEMA meta")
    app.sql("ALTER TABLE meta.alembic_version RENAME TO versions")
    configured = "target_metadata=None, version_table='versions', version_table_schema='meta'"
    app.env(ENV.replace("target_metadata=None", configured))
    result = rehearse(app, heads=None)
    assert result["verdict"] == "pass", result["evidence"]
    assert result["version_table"] == "meta.versions" and result["drift"] == []
    assert result["may_change"] == ["meta.versions", "public.learnings"]
    run = "20250115-140000-level3"
    options = {
        **app.options(run_id=run, backend_dir=str(app.backend), journal=app.journal(run)),
        **{"revisions": ["r2_learnings"], "heads": ["r2_learnings"], "target_heads": ["r1_users"]},
        **{"may_change": result["may_change"], "schema_file": str(app.root / "schema.json")},
    }
    module("database_switch", options, fails=False)
    assert app.sql("SELECT version_num FROM meta.versions") == "r1_users"


#: What PostgreSQL prints in another way once it was dumped and restored.
PRINTED_TWICE = """
    op.execute("CREATE DOMAIN size AS varchar(9) CHECK (VALUE IN ('small', 'it''s big'))")
    op.execute(
        "CREATE TABLE orders (id serial PRIMARY KEY, state varchar(9) NOT NULL, size size, note text, total numeric,"
        " paid boolean GENERATED ALWAYS AS (state IN ('paid', 'sent')) STORED,"
        " CONSTRAINT state CHECK (state IN ('new', 'paid', 'sent')),"
        " CHECK (total BETWEEN 0 AND 9 AND note <> ''), CHECK (total = ANY (ARRAY[1, 2])))"
    )
    op.execute("CREATE INDEX ix_open ON orders (id) WHERE state IN ('new', 'paid')")
    op.execute("CREATE INDEX ix_state ON orders ((CASE WHEN state NOT IN ('new', 'sent') THEN 1 END))")
    op.execute("CREATE VIEW open AS SELECT id, CASE WHEN state IN ('new', 'paid') THEN 'o' END AS o FROM orders"
               " WHERE state IN ('new', 'paid') AND EXISTS (SELECT FROM users WHERE name IN ('a', 'b'))")
    op.execute("CREATE MATERIALIZED VIEW few AS SELECT * FROM orders WHERE total BETWEEN 1 AND 2 AND id > 0")
    op.execute("CREATE RULE kept AS ON DELETE TO orders WHERE old.state IN ('paid', 'sent') DO INSTEAD NOTHING")
    op.execute("CREATE POLICY seen ON orders USING (state IN ('new', 'paid'))")
    op.execute("CREATE TRIGGER odd BEFORE UPDATE ON orders FOR EACH ROW WHEN (new.state IN ('new', 'paid'))"
               " EXECUTE FUNCTION suppress_redundant_updates_trigger()")
"""


@pytest.fixture
def make(cluster, tmp_path):
    """Makes an application whose first revision has more in it, and the second more at the end of both its ways."""

    def made(users: str, learnings: str = "", back: str = "") -> Application:
        return Application(
            cluster,
            tmp_path,
            revisions={
                "r1_users": revision("r1_users", None, USERS + users),
                "r2_learnings": revision("r2_learnings", "r1_users", LEARNINGS + learnings, NO_LEARNINGS + back),
            },
        )

    yield made
    for name in cluster.sql("SELECT datname FROM pg_database WHERE datname LIKE 'shop%'").split():
        cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def switch(app: Application, fails: bool = False) -> dict:
    run = "20250115-140000-level3"
    options = {
        **app.options(run_id=run, backend_dir=str(app.backend), journal=app.journal(run)),
        **{"revisions": ["r2_learnings"], "heads": ["r2_learnings"], "target_heads": ["r1_users"]},
        **{"may_change": ["public.alembic_version", "public.learnings"]},
        "schema_file": str(app.root / "schema.json"),
    }
    return module("database_switch", options, fails=fails)


def checked(app: Application) -> list[str]:
    """What Validate says to the schema that serves."""
    found = module("pg_integrity", app.options(schema_file=str(app.root / "schema.json"), admin_command=None))
    assert found["verdict"] in ("pass", "fail"), found["evidence"]
    return found["schema_differences"]


@pytest.mark.parametrize("renamed", [False, True])
def test_what_a_restore_prints_in_another_way_is_no_difference(make, renamed):
    rename = "    op.alter_column('orders', {!r}, new_column_name={!r})\n"
    to, back = (rename.format("state", "stage"), rename.format("stage", "state")) if renamed else ("", "")
    app = make(PRINTED_TWICE, to, back)
    result = rehearse(app)
    assert result["verdict"] == "pass" and result["drift"] == [], result["evidence"]
    # The two do differ as text, or nothing is shown here.
    question = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'state'"
    kept = json.loads((app.root / "schema.json").read_text())
    switch(app)
    assert f"constraint state on orders\t{app.sql(question)}" not in kept
    assert checked(app) == []


def test_a_value_that_a_check_allows_beside_those_is_a_difference(make):
    app = make(PRINTED_TWICE)
    result = rehearse(app)
    assert result["verdict"] == "pass" and result["drift"] == [], result
    app.sql(
        "ALTER TABLE orders DROP CONSTRAINT state, "
        "ADD CONSTRAINT state CHECK (state IN ('new', 'paid', 'sent', 'lost'))"
    )
    failed = switch(app, fails=True)
    assert "constraint state on orders differs" in failed["msg"] and "lost" in failed["msg"]
    assert app.databases() == {app.name: True} and app.heads() == ["r2_learnings"]


EVENT_TRIGGER = """
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER noted ON sql_drop EXECUTE FUNCTION noted();
COMMENT ON EVENT TRIGGER noted IS 'by a superuser';
"""
FOREIGN = f"""
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {USER};
SET ROLE {USER};
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'nowhere');
CREATE USER MAPPING FOR {USER} SERVER other OPTIONS (user 'x', password 'y');
CREATE FOREIGN TABLE far (id int) SERVER other;
"""


@pytest.mark.parametrize("made", [EVENT_TRIGGER, FOREIGN])
def test_what_only_a_superuser_may_make_is_no_obstacle(app, made):
    app.sql(made)
    result = rehearse(app)
    assert result["verdict"] == "pass", result["evidence"]
    switch(app)
    assert checked(app) == []
    # The copy of the files has it.
    assert app.sql("SELECT count(*) FROM pg_event_trigger") == str(int(made == EVENT_TRIGGER))


@pytest.mark.parametrize("whose", ["DATABASE shop", f"ROLE {USER} IN DATABASE shop"])
def test_the_search_path_of_the_database_holds_in_the_scratch_databases(app, whose):
    """Without it Alembic finds no version table there."""
    app.sql(f"CREATE SCHEMA app AUTHORIZATION {USER}; ALTER TABLE alembic_version SET SCHEMA app")
    app.sql(f"ALTER {whose} SET search_path = app, public")
    result = rehearse(app, heads=None)
    assert result["verdict"] == "pass", result["evidence"]
    assert result["version_table"] == "app.alembic_version"


def test_the_base_is_compared_with_an_empty_database(app):
    app.sql("CREATE EXTENSION pgcrypto")
    base = {"revisions": ["r2_learnings", "r1_users"], "target_heads": [], "build": []}
    planned = [*DROPS, {"kind": "table", "table": "users", "name": None}]
    result = rehearse(app, planned=planned, **base)
    assert result["verdict"] == "pass", result["evidence"]
    assert result["drift"] == []
    app.revision("r1_users", revision("r1_users", None, upgrade=USERS, downgrade="    op.drop_table('users')"))
    result = rehearse_again(app, planned=planned, **base)
    assert result["verdict"] == "fail" and "type mood: not expected" in result["evidence"]


def test_a_database_that_is_no_scratch_database_is_left_alone(app):
    restored(app)
    options = app.options(
        scratch=app.name,
        content_file=str(app.root / "database/content.json"),
        schema_file=str(app.root / "schema.json"),
        revisions=["r2_learnings"],
        heads=["r2_learnings"],
        target_heads=["r1_users"],
        backend_dir=str(app.backend),
    )
    result = module("database_rehearsal", options, fails=False)
    assert result["verdict"] == "error" and "is no scratch database" in result["evidence"]
    assert app.heads() == ["r2_learnings"]


def test_several_heads_a_merge_and_an_enum(cluster, tmp_path):
    paused = """
    op.execute("UPDATE users SET mood = 'good' WHERE mood = 'paused'")
    op.execute("ALTER TABLE users ALTER COLUMN mood DROP DEFAULT")
    op.execute("ALTER TYPE mood RENAME TO mood_old")
    op.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    op.execute("ALTER TABLE users ALTER COLUMN mood TYPE mood USING mood::text::mood")
    op.execute("ALTER TABLE users ALTER COLUMN mood SET DEFAULT 'good'")
    op.execute("DROP TYPE mood_old")
    """
    add = """
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'paused'")
    """
    text = {
        **LINEAR,
        "r3_paused": revision("r3_paused", "r2_learnings", add, paused),
        "r3_right": revision("r3_right", "r2_learnings", "op.execute('CREATE TABLE r (id int)')", "op.drop_table('r')"),
        "r4_merge": revision("r4_merge", ("r3_paused", "r3_right")),
    }
    app = Application(cluster, tmp_path, "shop_merge", text)
    try:
        app.sql("UPDATE users SET mood = 'paused' WHERE id <= 3")
        options = app.options(
            scratch=restored(app),
            content_file=str(tmp_path / "database/content.json"),
            schema_file=str(tmp_path / "schema.json"),
            revisions=["r4_merge", "r3_right", "r3_paused"],
            heads=["r4_merge"],
            target_heads=["r2_learnings"],
            build=["r1_users", "r2_learnings"],
            planned=[{"kind": "table", "table": "r", "name": None}],
            backend_dir=str(app.backend),
        )
        result = module("database_rehearsal", options, fails=False)
        assert result["verdict"] == "pass", result["evidence"]
        assert "table users: changes the contents of other columns" in result["lines"]
    finally:
        for name in app.databases():
            cluster.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.parametrize(("action", "passes"), [("CASCADE", True), ("NO ACTION", False)])
def test_rows_that_go_along_by_a_key_may_come_before_the_switch(app, action, passes):
    """The backup had no draft; by the switch there is one that a row refers to."""
    app.sql(
        "ALTER TABLE learnings DROP CONSTRAINT learnings_user_id_fkey;"
        f"ALTER TABLE learnings ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE {action}"
    )
    text = "op.execute(\"DELETE FROM users WHERE name = 'draft'\")\nop.drop_column('users', 'profile')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, text))
    planned = [{"kind": "rows", "table": "users", "name": None}, DROPS[0]]
    result = rehearse(app, planned=planned, build=None)
    assert result["verdict"] == "pass", result["evidence"]
    assert ("public.learnings" in result["may_change"]) is passes and "public.users" in result["may_change"]
    app.sql("INSERT INTO users (name) VALUES ('draft'); INSERT INTO learnings (user_id) SELECT max(id) FROM users")
    run = "20250115-140000-level3"
    options = {
        **app.options(run_id=run, backend_dir=str(app.backend), journal=app.journal(run)),
        **{"revisions": ["r2_learnings"], "heads": ["r2_learnings"], "target_heads": ["r1_users"]},
        **{"may_change": result["may_change"], "schema_file": str(app.root / "schema.json")},
    }
    module("database_switch", options, fails=not passes)
    if passes:
        assert app.sql("SELECT (SELECT count(*) FROM users) || ' ' || count(*) FROM learnings") == "200 200"


@pytest.mark.parametrize("accepted", [False, True])
def test_rows_that_go_by_a_cascade_have_to_be_agreed_to(app, accepted):
    app.sql(
        "ALTER TABLE learnings DROP CONSTRAINT learnings_user_id_fkey;"
        "ALTER TABLE learnings ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE"
    )
    text = "op.execute('DELETE FROM users WHERE id < 9')\nop.drop_column('users', 'profile')"
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, text))
    planned = [{"kind": "rows", "table": "users", "name": None}, DROPS[0]]
    result = rehearse(app, planned=planned, build=None, accepted=["learnings"] if accepted else [])
    assert result["verdict"] == ("pass" if accepted else "fail"), result["evidence"]
    assert accepted or "it loses what no revision names: public.learnings" in result["evidence"]
    assert result["may_lose"] == ["public.learnings", "public.users"]


def test_in_place_what_is_copied_aside_is_rehearsed_too(app):
    result = rehearse(app, mode="in_place")
    assert result["verdict"] == "pass", result["evidence"]
    # Of the copy nothing is told.
    assert not [item for item in result["dropped"] if "salvage" in item["identity"]]
    assert [item["table"] for item in result["tables"]] == ["public.learnings", "public.users"]
    assert "salvage" not in (app.root / "schema.json").read_text()


@pytest.mark.parametrize(
    ("env", "downgrade", "says"),
    [
        (ENV.replace("poolclass=", "isolation_level='AUTOCOMMIT', poolclass="), NO_LEARNINGS, "AUTOCOMMIT"),
        (
            ENV,
            NO_LEARNINGS + "    op.execute('COMMIT')\n    op.execute('BEGIN')",
            "r2_learnings failed: Refused: it ends",
        ),
        (ENV, "op.execute('DROP SCHEMA \"shop_salvage_rehearsal\"')", "other objects depend on it"),
    ],
)
def test_in_place_what_would_be_committed_by_itself_is_found(app, env, downgrade, says):
    app.env(env)
    app.revision("r2_learnings", revision("r2_learnings", "r1_users", LEARNINGS, downgrade))
    result = rehearse(app, mode="in_place")
    assert result["verdict"] == "fail" and says in result["evidence"], result["evidence"]
