# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs named revisions of Alembic inside an application's own virtual environment: the script, and its answers.

The script goes through the application's own ``env.py``, so that the version table, naming conventions and
whatever else it configures hold. Three things make sure that it never meets another database than the one that it was
given: every new connection of SQLAlchemy is led there, whatever address ``env.py`` reads, and one that a driver makes
past it is closed again where it leads elsewhere; it is asked which database it is in before anything else; and the
version table has to be at the revisions that were expected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

#: Runs under the application's Python, by stdin. Its answers are the lines that begin with the marker. It waits with
#: all imports done until a line comes through the pipe, and ends at once when the pipe does: with us, however we end.
SCRIPT = r"""
import json, os, queue, sys, threading, time

marker, pipe, wanted = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
out = os.fdopen(os.dup(1), "w")
done, current, version = [], [None], {}
words = queue.Queue()


def say(**answer):
    out.write("\n" + marker + json.dumps(answer) + "\n")
    out.flush()


def shown(exc):
    cause = getattr(exc, "orig", None) or exc
    text = str(cause).strip().split("\n")[0]
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    return type(exc).__name__ + (": " + text if text else ""), state


class Refused(Exception):
    pass


def stray(driver, found):
    if found == wanted.get("database"):
        return None
    to = ", not to " + wanted["database"] if wanted.get("database") else ", and SQL is made without any"
    return Refused(
        "%s was led to database %s%s; nothing was run there. Let what connects use op.get_bind(), or an address of the "
        "environment file, which leads to the copy" % (driver, found, to))


def guard():
    # For what opens a connection by itself, past SQLAlchemy. A driver that can't be imported is used by nobody.
    def synchronous(name, former):
        def connect(*args, **options):
            connection = former(*args, **options)
            refused = stray(name, connection.info.dbname)
            if refused:
                connection.close()
                raise refused
            return connection

        return connect

    def psycopg(driver):
        inner, inner_async = driver.Connection.connect.__func__, driver.AsyncConnection.connect.__func__

        async def connect_async(cls, *args, **options):
            connection = await inner_async(cls, *args, **options)
            refused = stray("psycopg", connection.info.dbname)
            if refused:
                await connection.close()
                raise refused
            return connection

        driver.Connection.connect = classmethod(synchronous("psycopg", inner))
        driver.AsyncConnection.connect = classmethod(connect_async)
        driver.connect = driver.Connection.connect

    def psycopg2(driver):
        driver.connect = synchronous("psycopg2", driver.connect)

    def asyncpg(driver):
        former = driver.connect

        async def connect(*args, **options):
            connection = await former(*args, **options)
            refused = stray("asyncpg", await connection.fetchval("SELECT current_database()"))
            if refused:
                connection.terminate()
                raise refused
            return connection

        # Its pools ask the second one.
        driver.connect = driver.connection.connect = connect

    for name, wrap in (("psycopg", psycopg), ("psycopg2", psycopg2), ("asyncpg", asyncpg)):
        try:
            driver = __import__(name)
        except Exception:
            continue
        wrap(driver)


def listen():
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    def lead(dialect, record, cargs, cparams):
        cparams["dbname" if "dbname" in cparams else "database"] = wanted["database"]

    def check(connection, record):
        cursor = connection.cursor()
        cursor.execute("SELECT current_database()")
        found = cursor.fetchone()[0]
        if found != wanted["database"]:
            raise Refused("env.py led to database %s, not to %s; nothing was run there" % (found, wanted["database"]))
        for name, value in wanted["settings"].items():
            # Older servers lack some of them.
            known = "FROM pg_settings WHERE name = '%s'" % name
            cursor.execute("SELECT set_config('%s', '%s', false) %s" % (name, value, known))
        cursor.close()
        connection.commit()

    event.listen(Engine, "do_connect", lead)
    event.listen(Pool, "connect", check)


def steps(script, context, direction, revisions):
    from alembic.runtime.migration import MigrationStep

    make = MigrationStep.downgrade_from_script if direction == "downgrade" else MigrationStep.upgrade_from_script
    return [make(script.revision_map, script.get_revision(name)) for name in revisions]


def online(config, script):
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext

    met = []
    alone = wanted["one_transaction"]

    def run(connection, sql):
        # Names may hold a %, which a driver takes for the place of a parameter where it is given any, be they none.
        return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})

    def under_way(context):
        return str(run(context.connection, "SELECT txid_current()").scalar())

    def converse(context, at):
        # Whoever began us looks around in the transaction, until it has seen enough.
        if not alone:
            return
        say(at=at, version=version)
        while True:
            sql = json.loads(words.get())
            if sql is None:
                return
            found = run(context.connection, sql)
            say(answer=str(found.scalar()) if found.returns_rows else "")

    def count(_heads, context):
        met.append(True)
        return []

    def plan(_heads, context):
        met.append(True)
        if alone and len(met) > 1:
            raise Refused(often)
        version.update(table=context.version_table, schema=context.version_table_schema)
        at = sorted(context.get_current_heads())
        if wanted["heads"] is not None and at != sorted(wanted["heads"]):
            raise Refused("the database is at %s, and %s was expected" % (
                ", ".join(at) or "no revision", ", ".join(sorted(wanted["heads"])) or "no revision"))
        if alone:
            if context._transaction_per_migration:
                raise Refused("env.py sets transaction_per_migration, so that it can't be one transaction")

            def refuse(self):
                raise Refused("revision %s leaves the transaction (autocommit_block)" % current[0])

            MigrationContext.autocommit_block = refuse
            transaction = under_way(context)
            if under_way(context) != transaction:
                raise Refused("env.py lets each statement be committed by itself (AUTOCOMMIT); nothing was run")
        for statement in wanted["before"]:
            run(context.connection, statement)
        converse(context, "before")
        found = steps(script, context, wanted["direction"], wanted["revisions"])
        began = [time.monotonic()]

        def applied(ctx=None, step=None, heads=None, run_args=None, **_):
            now = time.monotonic()
            if alone and under_way(context) != transaction:
                raise Refused("it ends the transaction, so that what it did can't be taken back with the others")
            done.append({"revision": current[0], "seconds": round(now - began[0], 3)})
            say(progress=done[-1])
            if len(done) == len(found):
                converse(context, "after")
            began[0] = time.monotonic()

        context.on_version_apply_callbacks = tuple(context.on_version_apply_callbacks) + (applied,)

        def each():
            for step in found:
                current[0] = step.revision.revision
                yield step
            current[0] = None

        return each()

    often = "env.py calls context.run_migrations more than once, so that it can't be one transaction; nothing was run"
    if alone:
        # What the first of several calls did would be committed before the second one tells of itself.
        with EnvironmentContext(config, script, fn=count, dont_mutate=True):
            script.run_env()
        if len(met) > 1:
            raise Refused(often)
        del met[:]
    with EnvironmentContext(config, script, fn=plan):
        script.run_env()
    if not met:
        raise Refused("env.py ran without calling context.run_migrations")


def offline(config, script):
    import io

    from alembic.runtime.environment import EnvironmentContext

    sql, errors = {}, {}
    heads = list(wanted["heads"])
    for name, before in zip(wanted["revisions"], wanted["heads_before"]):
        current[0] = name
        buffer = io.StringIO()
        config.output_buffer = buffer
        try:
            def plan(_heads, context, name=name):
                return steps(script, context, wanted["direction"], [name])

            with EnvironmentContext(config, script, fn=plan, as_sql=True, starting_rev=tuple(before)):
                script.run_env()
            sql[name] = buffer.getvalue()
        except Exception as exc:
            errors[name] = shown(exc)[0]
    return sql, errors


def watch():
    # Ends with the pipe, so with whoever holds its other end.
    rest = b""
    while True:
        block = os.read(pipe, 1 << 16)
        if not block:
            os._exit(130)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            words.put(line)


threading.Thread(target=watch, daemon=True).start()
try:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(wanted["config"])
    script = ScriptDirectory.from_config(config)
    script.get_heads()
    guard()
    if wanted["mode"] == "sql":
        sql, errors = offline(config, script)
        say(sql=sql, errors=errors, error=None)
    else:
        listen()
        say(ready=True)
        words.get()
        online(config, script)
        say(done=done, version=version, error=None)
except BaseException as exc:
    message, state = shown(exc)
    say(done=done, error=message, state=state, revision=current[0])
out.flush()
os._exit(0)
"""


def answers(lines: Iterable[str], marker: str) -> Iterator[dict[str, Any]]:
    """What the script said, whatever else printed into its output."""
    for line in lines:
        if line.startswith(marker):
            try:
                yield json.loads(line[len(marker) :])
            except ValueError:
                continue


def failure(answer: Mapping[str, Any], secrets: Iterable[str] = ()) -> str:
    """What to say of a run that failed: the revision, and what it said, in one line without secrets."""
    where = f"revision {answer['revision']} failed: " if answer.get("revision") else ""
    return one_line(mask(f"{where}{answer['error']}", secrets), 500)
