from __future__ import annotations

import json
import os
import sqlite3
import sys
import textwrap

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.module_utils import _alembic
from ansible_collections.sparklio.rollback.plugins.modules import alembic_info as module

SYNC = """
from alembic import context
from sqlalchemy import create_engine, pool

print("env.py prints on stdout, sparklio-fake:{}")
engine = create_engine(URL, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""

ASYNC = """
import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


async def run():
    engine = create_async_engine(URL.replace("sqlite:", "sqlite+aiosqlite:"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(run())
"""


COUNT_HOOK = """
import time

from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "before_cursor_execute")
def wait(connection, cursor, statement, *rest):
    if "count(*)" in statement:
        HERE
"""


BROKEN = "#!/bin/sh\ncat >/dev/null\necho broken venv >&2\nexit 1\n"


@pytest.fixture
def backend(tmp_path):
    """An application's backend directory: two revisions on disk, and the database at the first."""
    pytest.importorskip("alembic", reason="alembic is not installed beside the tests")
    (tmp_path / "venv/bin").mkdir(parents=True)
    python = tmp_path / "venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    versions = tmp_path / "alembic/versions"
    versions.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = alembic\nprepend_sys_path = .\n")
    for revision, down in (("one", None), ("two", "one")):
        (versions / f"{revision}.py").write_text(
            f"revision = {revision!r}\ndown_revision = {down!r}\ndef upgrade(): raise SystemExit('ran')\n"
        )
    write_env(tmp_path)
    stamp(tmp_path, "two")
    return tmp_path


def write_env(backend, text=SYNC, url=None):
    url = url or f"sqlite:///{backend}/app.db"
    (backend / "alembic/env.py").write_text(f"URL = {url!r}\n{textwrap.dedent(text)}")


def stamp(backend, *heads):
    with sqlite3.connect(backend / "app.db") as database:
        database.execute("DROP TABLE IF EXISTS alembic_version")
        if heads:
            database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            database.executemany("INSERT INTO alembic_version VALUES (?)", [(head,) for head in heads])
    database.close()


def run(capfd, backend, **options):
    with patch_module_args({"backend_dir": str(backend), **options}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("text", [SYNC, ASYNC], ids=["sync", "async"])
def test_heads_of_database_and_tree(backend, capfd, text):
    if text is ASYNC:
        pytest.importorskip("aiosqlite", reason="aiosqlite is not installed beside the tests")
    write_env(backend, text)
    found = run(capfd, backend)
    assert (found["verdict"], found["connected"], found["heads"], found["tree_heads"]) == (
        "pass",
        True,
        ["two"],
        ["two"],
    )
    assert found["server_version"].startswith("3.")
    assert found["changed"] is False


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_a_release_that_cannot_be_imported_does_not_hide_the_schema(backend, capfd, driver):
    if "aio" in driver:
        pytest.importorskip("aiosqlite", reason="aiosqlite is not installed beside the tests")
    write_env(backend, "raise RuntimeError('SPARKLIO_REGION is not set')")
    (backend / ".env").write_text(f"DATABASE_URL={driver}:///{backend}/app.db\n")
    found = run(capfd, backend, env_file=str(backend / ".env"))
    assert (found["verdict"], found["connected"], found["heads"], found["error"]) == ("pass", True, ["two"], None)
    (backend / ".env").write_text("DATABASE_URL=nosuch://u:hunter22@h/d\n")
    found = run(capfd, backend, env_file=str(backend / ".env"))
    assert found["verdict"] == "error" and "SPARKLIO_REGION is not set; asked without env.py:" in found["error"]
    assert "hunter22" not in json.dumps(found)


def test_a_revision_that_the_tree_does_not_know_is_still_reported(backend, capfd):
    stamp(backend, "three", "other")
    found = run(capfd, backend)
    assert (found["verdict"], found["heads"]) == ("fail", ["other", "three"])
    assert "at other, three, but the tree on disk declares two" in found["evidence"]
    expected = run(capfd, backend, expected_heads=["three", "other"])
    assert expected["verdict"] == "pass" and expected["evidence"].endswith(", as expected")
    assert "expected was one" in run(capfd, backend, expected_heads=["one"])["evidence"]


def test_nothing_is_made_where_there_is_no_version_table(backend, capfd):
    stamp(backend)
    before = (backend / "app.db").read_bytes()
    found = run(capfd, backend)
    assert (found["verdict"], found["connected"], found["heads"]) == ("fail", True, [])
    assert (backend / "app.db").read_bytes() == before
    assert not list(backend.rglob("__pycache__"))


def test_a_database_that_can_not_be_asked_is_an_error_without_its_password(backend, capfd):
    write_env(backend, SYNC.replace("create_engine(URL", "create_engine('sqlite:////nowhere/app.db'"))
    found = run(capfd, backend)
    assert (found["verdict"], found["connected"], found["heads"]) == ("error", False, None)
    assert "unable to open database file" in found["evidence"]
    (backend / ".env").write_text("DATABASE_URL=postgresql://u:hunter22@h/db\nPATH=/nowhere\n")
    write_env(backend, "import os\nraise RuntimeError('no: ' + os.environ['DATABASE_URL'] + ' hunter22')")
    found = run(capfd, backend, env_file=str(backend / ".env"))
    assert "postgresql://u:***@h/db ***" in found["error"]
    assert "hunter22" not in json.dumps(found)


@pytest.mark.parametrize("text", [SYNC, "raise RuntimeError('no settings')"], ids=["env.py", "without env.py"])
def test_rows_are_counted_where_there_are_tables(backend, capfd, text):
    write_env(backend, COUNT_HOOK.replace("HERE", "if 'spoilt' in statement: raise RuntimeError('cancelled')") + text)
    (backend / ".env").write_text(f"DATABASE_URL=sqlite:///{backend}/app.db\n")
    with sqlite3.connect(backend / "app.db") as database:
        for table, rows in (("users", 3), ("brands", 0), ("brand_learnings", 2), ('odd"name', 1), ("spoilt", 1)):
            quoted = table.replace('"', '""')
            database.execute(f'CREATE TABLE "{quoted}" (id INTEGER)')
            database.executemany(f'INSERT INTO "{quoted}" VALUES (?)', [(n,) for n in range(rows)])
    database.close()
    tables = ["spoilt", "users", "brand*", "agents", 'odd"name']
    found = run(capfd, backend, env_file=str(backend / ".env"), count_tables=tables)
    assert found["verdict"] == "pass", found
    assert found["rows"] == {"users": 3, "brands": 0, "brand_learnings": 2, "agents": None, 'odd"name': 1}
    assert found["rows_error"] == "spoilt: RuntimeError: cancelled"
    assert run(capfd, backend)["rows"] == {}


def test_a_slow_count_does_not_hide_the_schema(backend, capfd):
    with sqlite3.connect(backend / "app.db") as database:
        database.execute("CREATE TABLE users (id INTEGER)")
    database.close()
    write_env(backend, COUNT_HOOK.replace("HERE", "time.sleep(60)") + SYNC)
    found = run(capfd, backend, count_tables=["users"], deadline=4)
    assert (found["verdict"], found["heads"], found["rows"]) == ("pass", ["two"], {})
    assert "within 4 seconds" in found["rows_error"]


def test_silence_has_an_end(backend, capfd):
    write_env(backend, "import time\ntime.sleep(60)")
    found = run(capfd, backend, deadline=5)
    assert "no answer from the database within 5 seconds" in found["evidence"]
    assert found["tree_heads"] == ["two"]
    assert found["seconds"] < 10


def test_a_tree_that_can_not_be_read_does_not_hide_the_database(backend, capfd):
    (backend / "alembic/versions/three.py").write_text("revision = 'three'\ndown_revision = 'gone'\n")
    found = run(capfd, backend)
    assert (found["verdict"], found["heads"], found["tree_heads"]) == ("error", ["two"], None)
    assert "migrations on disk can't be read" in found["evidence"]
    assert run(capfd, backend, expected_heads=["two"])["verdict"] == "pass"


def test_an_env_that_never_asks_is_an_error(backend, capfd):
    write_env(backend, "")
    assert "never called context.run_migrations" in run(capfd, backend)["error"]


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda backend: (backend / "alembic.ini").unlink(), {}, "there is no alembic.ini in"),
        (lambda backend: (backend / "venv/bin/python").unlink(), {}, "the application's Python is missing: no"),
        (lambda backend: None, {"env_file": "/nowhere/.env"}, "can't be read: No such file"),
        (
            lambda backend: (backend / "venv/bin/python").write_text(BROKEN),
            {},
            "did not get as far as asking; it said last: broken venv",
        ),
        # It may end before or after the script was handed to it.
        (lambda backend: (backend / "venv/bin/python").write_text("#!/bin/sh\nexit 1\n"), {}, "venv/bin/python "),
    ],
)
def test_what_is_missing_is_named(backend, capfd, spoil, options, message):
    spoil(backend)
    found = run(capfd, backend, **options)
    assert found["verdict"] == "error"
    assert message in found["evidence"]


def test_dotvenv_will_do(backend, capfd):
    os.rename(backend / "venv", backend / ".venv")
    assert run(capfd, backend)["verdict"] == "pass"


def test_the_answer_is_found_among_other_output():
    answer = {"connected": True, "heads": [], "error": None}
    out = "noise\nmark-1:{}\n" + "mark-2:" + json.dumps(answer) + "\nmore noise without end"
    assert _alembic.parse_answer(out, "", "mark-2:") == answer
    with pytest.raises(_alembic.AnswerError, match="boom \\*\\*\\*"):
        _alembic.parse_answer("noise", "first\nboom hunter22\n\n", "mark-2:", ["hunter22"])


def test_variables_that_would_change_the_script_are_left_out():
    given = {"DATABASE_URL": "x", "PATH": "/evil", "PYTHONPATH": "/evil", "LD_PRELOAD": "evil.so", "BAD": "a\0b"}
    assert _alembic.environment(given) == {"DATABASE_URL": "x"}
