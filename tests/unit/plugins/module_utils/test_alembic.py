"""alembic.Steps, against a Python that only speaks the protocol, then against the real Alembic without a server."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import textwrap
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import alembic

URL = "postgresql://app:hunter22@db.example:5432/shop?sslmode=require"
#: Says what it was given, waits for the word to go, and then does what ACT says.
FAKE = """
import json, os, subprocess, sys, time
sys.stdin.read()
marker, pipe, wanted = sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
def say(**answer):
    print("noise", flush=True)
    print(marker + json.dumps(answer), flush=True)
open("given.json", "w").write(json.dumps({"wanted": wanted, "url": os.environ.get("DATABASE_URL"), "pid": os.getpid()}))
"""
GOES = 'say(ready=True)\nassert os.read(pipe, 1) == b"."\n'
SOON = 20


@pytest.fixture
def backend(tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")
    return tmp_path


@pytest.fixture
def begin(backend):
    """Start Steps on a Python that does as it is told."""
    begun = []

    def start(text, *arguments, database="shop_candidate", **options):
        (backend / "fake.py").write_text(FAKE + text)
        python = backend / "venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{backend}/fake.py" "$@"\n')
        python.chmod(0o755)
        params = {"backend_dir": str(backend), "config": "alembic.ini", "python": None, "venvs": ["venv", ".venv"]}
        params |= {"url": None, "env_file": str(backend / ".env"), "env_key": "DATABASE_URL"}
        steps = alembic.Steps({**params, **options}, database, *(arguments or ("downgrade", ["r2"], ["r2"])))
        begun.append(steps)
        return steps

    yield start
    for steps in begun:
        if steps.process.poll() is None:
            steps.stop()


def soon():
    return time.monotonic() + SOON


def test_revisions_are_run_once_they_are_wanted(begin, backend):
    steps = begin(GOES + 'say(progress={"revision": "r2"})\nsay(done=[{"revision": "r2", "seconds": 1}], error=None)')
    with steps:
        steps.ready(soon())
        seen = []
        assert steps.finish(soon(), seen.append)["done"] == [{"revision": "r2", "seconds": 1}]
        assert seen == [{"revision": "r2"}]
    given = json.loads((backend / "given.json").read_text())
    # env.py finds the copy where it looks, and the script leads it there whatever it reads.
    assert given["url"] == URL.replace("/shop?", "/shop_candidate?")
    wanted = given["wanted"]
    assert (wanted["database"], wanted["revisions"], wanted["heads"]) == ("shop_candidate", ["r2"], ["r2"])
    assert (wanted["direction"], wanted["before"], wanted["one_transaction"]) == ("downgrade", [], False)
    # The role's own timeouts must not end a migration.
    assert wanted["settings"]["statement_timeout"] == "0" and wanted["settings"]["lock_timeout"] == "0"


def test_in_place_gives_up_a_lock_and_keeps_what_it_drops(begin, backend):
    begin(GOES, "downgrade", ["r2"], None, ["CREATE SCHEMA x"], True, 500).ready(soon())
    wanted = json.loads((backend / "given.json").read_text())["wanted"]
    assert (wanted["heads"], wanted["before"], wanted["one_transaction"]) == (None, ["CREATE SCHEMA x"], True)
    assert wanted["settings"]["lock_timeout"] == "500"


def test_a_failure_is_one_line_without_secrets_and_with_its_state(begin):
    said = 'say(error="OperationalError: hunter22\\nis wrong", state="55P03", revision="r2")'
    steps = begin(GOES + said)
    steps.ready(soon())
    with pytest.raises(alembic.StepsError, match=r"^revision r2 failed: OperationalError: [^\n]*$") as caught:
        steps.finish(soon())
    assert caught.value.state == "55P03" and "hunter22" not in str(caught.value)


def test_one_that_ends_early_says_its_last_words(begin):
    steps = begin('print("a\\nImportError: no hunter22", file=sys.stderr)\nsys.exit(3)')
    with pytest.raises(alembic.StepsError, match=r"ended early; it said last: ImportError: no ") as caught:
        steps.ready(soon())
    assert "hunter22" not in str(caught.value)


def test_one_that_is_not_done_in_time_is_ended_with_all_that_it_started(begin, backend):
    child = 'child = subprocess.Popen(["sleep", "60"])\nopen("child", "w").write(str(child.pid))\n'
    with begin(child + GOES + "time.sleep(60)") as steps:
        steps.ready(soon())
        with pytest.raises(alembic.StepsError, match="not done in time"):
            steps.finish(time.monotonic() + 0.2)
    assert steps.process.poll() is not None
    pid = int((backend / "child").read_text())
    deadline = soon()
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody collects here is gone too.
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0] != "Z"


def test_an_answer_that_comes_in_pieces_is_read_whole(begin):
    text = 'line = marker + json.dumps({"ready": True, "x": "한" * 3000}) + chr(10)\nraw = line.encode()\n'
    text += "for start in (0, 7, 4001, len(raw)):\n    pass\n"
    text += "for one, two in ((0, 7), (7, 4001), (4001, None)):\n    os.write(1, raw[one:two]); time.sleep(0.05)\n"
    begin(text + "time.sleep(60)").ready(soon())


@pytest.mark.parametrize(
    ("gone", "says"),
    [("alembic.ini", "there is no alembic.ini in"), ("venv", "venv"), (".env", ".env")],
)
def test_what_is_missing_is_said(begin, backend, gone, says):
    options = {"alembic.ini": {}, "venv": {"venvs": ["nowhere/venv"]}, ".env": {"env_file": str(backend / "no/.env")}}
    if gone == "alembic.ini":
        (backend / gone).unlink()
    with pytest.raises(alembic.StepsError, match=says):
        begin(GOES, **options[gone])


# The real script, through the real Alembic. SQLite stands in for the server: what it is asked is answered by functions.

ENV = """
import sqlite3
from alembic import context
from sqlalchemy import create_engine, pool

numbers = iter(range(1000))

def connect():
    made = sqlite3.connect(PATH)
    made.create_function("current_database", 0, lambda: IN)
    made.create_function("set_config", 3, lambda *given: open(SET, "a").write(repr(given)) and "")
    made.create_function("txid_current", 0, lambda: next(numbers) if OWN else 7)
    made.execute("CREATE TEMP TABLE pg_settings (name text)")
    made.executemany("INSERT INTO pg_settings VALUES (?)", [(name,) for name in KNOWN])
    made.commit()
    return made

print("env.py prints")
engine = create_engine("sqlite://", creator=connect, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None, **MORE)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture
def real(backend):
    """An application with two revisions, and the database at the second."""
    pytest.importorskip("alembic", reason="alembic is not installed beside the tests")
    python = backend / "venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    versions = backend / "alembic/versions"
    versions.mkdir(parents=True)
    for name, down in (("r1", None), ("r2", "r1")):
        (versions / f"{name}.py").write_text(
            f"from alembic import op\nrevision = {name!r}\ndown_revision = {down!r}\n"
            f"def upgrade():\n    op.execute('CREATE TABLE {name} (id int)')\n"
            f"def downgrade():\n    op.execute('DROP TABLE {name}')\n"
        )
    path = backend / "app.db"
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('r2');"
            "CREATE TABLE r1 (id int); CREATE TABLE r2 (id int);"
        )
    database.close()

    class Real:
        def __init__(self):
            self.env()

        def env(
            self,
            text=ENV,
            inside="shop_candidate",
            known=("statement_timeout", "transaction_timeout"),
            own=False,
            **more,
        ):
            names = f"PATH, IN, SET, MORE = {str(path)!r}, {inside!r}, {str(backend / 'set')!r}, {more!r}\n"
            names += f"KNOWN, OWN = {known!r}, {own!r}\n"
            (backend / "alembic/env.py").write_text(names + textwrap.dedent(text))

        def downgrade(self, name, text):
            found = (versions / f"{name}.py").read_text().partition("def downgrade")[0]
            (versions / f"{name}.py").write_text(f"{found}def downgrade():\n{textwrap.indent(text, '    ')}\n")

        def steps(self, *arguments, kind=alembic.Steps):
            params = {"backend_dir": str(backend), "config": "alembic.ini", "python": None, "venvs": ["venv"]}
            return kind({**params, "url": URL, "env_file": None, "env_key": "DATABASE_URL"}, *arguments)

        def run(self, *arguments):
            with self.steps("shop_candidate", *arguments) as steps:
                steps.ready(soon())
                return steps.finish(soon())

        def tables(self):
            with sqlite3.connect(path) as found:
                rows = found.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
                version = found.execute("SELECT group_concat(version_num) FROM alembic_version").fetchone()[0]
            found.close()
            return [name for (name,) in rows if name != "alembic_version"], version

    return Real()


def test_a_timeout_that_the_server_does_not_know_is_not_set(real, backend):
    real.env(known=("statement_timeout",))
    real.run("downgrade", ["r2"], ["r2"])
    given = (backend / "set").read_text()
    assert "statement_timeout" in given and "transaction_timeout" not in given


def test_named_revisions_are_taken_back_through_env_py(real, backend):
    answer = real.run("downgrade", ["r2"], ["r2"])
    assert [item["revision"] for item in answer["done"]] == ["r2"]
    assert answer["version"] == {"table": "alembic_version", "schema": None}
    assert real.tables() == (["r1"], "r1")
    # Each connection sets the timeouts for itself.
    given = (backend / "set").read_text().replace("false", "0")
    assert "('statement_timeout', '0', 0)" in given and "('transaction_timeout', '0', 0)" in given
    real.run("upgrade", ["r2"], ["r1"])
    assert real.tables() == (["r1", "r2"], "r2")
    real.run("downgrade", ["r2", "r1"], None)
    assert real.tables() == ([], None)


def test_nothing_is_run_in_another_database(real):
    real.env(inside="shop")
    with pytest.raises(alembic.StepsError, match="led to database shop, not to shop_candidate; nothing was run there"):
        real.run("downgrade", ["r2"], ["r2"])
    assert real.tables() == (["r1", "r2"], "r2")


def test_nothing_is_run_where_the_database_is_at_other_revisions(real):
    with pytest.raises(alembic.StepsError, match="the database is at r2, and r1 was expected"):
        real.run("downgrade", ["r1"], ["r1"])
    assert real.tables() == (["r1", "r2"], "r2")


def test_an_env_py_that_runs_nothing_is_no_success(real):
    real.env("pass")
    with pytest.raises(alembic.StepsError, match=r"without calling context\.run_migrations"):
        real.run("downgrade", ["r2"], ["r2"])


def test_a_revision_that_raises_is_named(real):
    real.downgrade("r2", "raise RuntimeError('never\\nagain')")
    with pytest.raises(alembic.StepsError, match=r"^revision r2 failed: RuntimeError: never$"):
        real.run("downgrade", ["r2"], ["r2"])


def test_a_revision_that_ends_the_process_is_a_failure(real):
    real.downgrade("r2", "import os\nos._exit(0)")
    with pytest.raises(alembic.StepsError, match="ended early"):
        real.run("downgrade", ["r2"], ["r2"])


def test_in_one_transaction_what_leaves_it_is_refused(real):
    real.downgrade("r2", "with op.get_context().autocommit_block():\n    op.execute('DROP TABLE r1')")
    with pytest.raises(alembic.StepsError, match="revision r2 leaves the transaction"):
        real.run("downgrade", ["r2"], ["r2"], [], True)
    assert real.tables() == (["r1", "r2"], "r2")
    real.env(transaction_per_migration=True)
    with pytest.raises(alembic.StepsError, match=r"env\.py sets transaction_per_migration"):
        real.run("downgrade", ["r2"], ["r2"], [], True)


def test_in_one_transaction_an_env_py_that_commits_by_itself_is_refused(real):
    real.env(own=True)
    with pytest.raises(alembic.StepsError, match=r"AUTOCOMMIT.*nothing was run"):
        real.run("downgrade", ["r2"], ["r2"], [], True)
    real.env(ENV.replace("        context.run_migrations()", "        context.run_migrations()\n" * 2))
    with pytest.raises(alembic.StepsError, match=r"more than once.*nothing was run"):
        real.run("downgrade", ["r2"], ["r2"], [], True)
    assert real.tables() == (["r1", "r2"], "r2")
    # A copy may be downgraded as env.py likes it.
    real.env(own=True)
    real.run("downgrade", ["r2"], ["r2"])
    assert real.tables() == (["r1"], "r1")


def test_what_is_to_be_kept_is_copied_before_anything_is_dropped(real):
    real.run("downgrade", ["r2"], ["r2"], ["CREATE TABLE kept AS SELECT * FROM r2"], True)
    assert real.tables() == (["kept", "r1"], "r1")


DRIVER = """
import sys

from alembic import context
from sqlalchemy import create_engine, pool

class driver:
    __version__, paramstyle = "2.9.9", "pyformat"
    class Error(Exception): pass
    InterfaceError = OperationalError = DatabaseError = Error
    class extensions:
        pass
    extras = extensions
    @staticmethod
    def connect(*places, **named):
        raise driver.Error("asked for " + str(named.get("dbname") or named.get("database")))

sys.modules["psycopg2"] = driver
engine = create_engine(ADDRESS, module=driver, poolclass=pool.NullPool)
with engine.connect() as connection:
    pass
"""


@pytest.mark.parametrize("driver", ["psycopg2", "pg8000"])
def test_every_connection_is_led_to_the_copy_whatever_the_address_says(real, driver):
    real.env(DRIVER.replace("ADDRESS", repr(f"postgresql+{driver}://app@db.example/shop")))
    with pytest.raises(alembic.StepsError, match="asked for shop_candidate"):
        real.run("downgrade", ["r2"], ["r2"])


def test_it_ends_when_we_do(real):
    with real.steps("shop_candidate", "downgrade", ["r2"], ["r2"]) as steps:
        steps.ready(soon())
        # Whatever ends us closes the pipe.
        os.close(steps.control)
        steps.control = os.open(os.devnull, os.O_WRONLY)
        assert steps.process.wait(SOON) == 130
    assert real.tables() == (["r1", "r2"], "r2")


def test_the_sql_of_revisions_without_a_database(real):
    real.env("""
    from alembic import context
    context.configure(url="postgresql://app@db.example/shop", dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
    """)
    real.downgrade("r1", "op.get_bind().execute('SELECT 1').fetchall()")
    with real.steps(["r2", "r1"], [["r2"], ["r1"]], kind=alembic.OfflineSql) as steps:
        sql, errors = steps.read(soon())
    assert "DROP TABLE r2" in sql["r2"] and list(errors) == ["r1"]
