# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Alembic inside an application's own virtual environment, changing nothing: the script, and its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

#: Runs under the application's Python, by stdin. Its answer is the line that begins with the marker, since env.py and
#: what it imports may print. The heads are read raw: a tree that does not know the revision can still say it.
SCRIPT = r"""
import json, os, sys, threading

marker, seconds, config_file = sys.argv[1], float(sys.argv[2]), sys.argv[3]
count_seconds, tables = float(sys.argv[4]), sys.argv[5:]
answer = dict.fromkeys(("heads", "tree_heads", "server_version", "error", "tree_error", "rows_error"), None)
answer.update(connected=False, rows={}, version_table=None)
out = os.fdopen(os.dup(1), "w")


def say():
    out.write("\n" + marker + json.dumps(answer) + "\n")
    out.flush()


def give_up():
    # What is known by then stays: a slow count must not hide the schema.
    late = "no answer from the database within %g seconds" % seconds
    answer["rows_error" if answer["connected"] else "error"] = late
    say()
    os._exit(0)


watch = threading.Timer(seconds, give_up)
watch.daemon = True
watch.start()


def shown(exc):
    text = str(getattr(exc, "orig", None) or exc).strip()
    return type(exc).__name__ + (": " + text if text else "")


def count(connection):
    from fnmatch import filter as matching

    from sqlalchemy import inspect

    existing = inspect(connection).get_table_names() if tables else []
    for wanted in tables:
        for name in matching(existing, wanted) or [wanted]:
            if name in answer["rows"]:
                continue
            try:
                answer["rows"][name] = count_table(connection, name) if name in existing else None
            except Exception as exc:
                answer["rows_error"] = name + ": " + shown(exc)


def count_table(connection, name):
    # A savepoint, since a count that is cancelled would spoil the transaction for all the others.
    with connection.begin_nested():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = %d" % (1000 * count_seconds))
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        return connection.exec_driver_sql("SELECT count(*) FROM " + quoted).scalar()


def ask_directly(address):
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url

    def read(connection):
        found = sorted(MigrationContext.configure(connection).get_current_heads())
        answer.update(heads=found, connected=True)
        if connection.dialect.name == "postgresql":
            answer["server_version"] = connection.exec_driver_sql("SHOW server_version").scalar()
        count(connection)

    if make_url(address).get_dialect().is_async:
        import asyncio

        from sqlalchemy.ext.asyncio import create_async_engine

        async def ask():
            async with create_async_engine(address).connect() as connection:
                await connection.run_sync(read)

        asyncio.run(ask())
    else:
        with create_engine(address).connect() as connection:
            read(connection)


try:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def read_only(connection):
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    event.listen(Engine, "begin", read_only)
    config = Config(config_file)
    script = ScriptDirectory.from_config(config)
    try:
        answer["tree_heads"] = sorted(script.get_heads())
    except Exception as exc:
        answer["tree_error"] = shown(exc)
    heads = set()

    def look(_, context):
        heads.update(context.get_current_heads())
        answer["heads"] = sorted(heads)
        answer["version_table"] = ".".join(filter(None, (context.version_table_schema, context.version_table)))
        answer["connected"] = True
        if context.dialect.name == "postgresql":
            answer["server_version"] = context.connection.exec_driver_sql("SHOW server_version").scalar()
        else:
            answer["server_version"] = ".".join(str(n) for n in context.dialect.server_version_info or ()) or None
        count(context.connection)
        return []

    with EnvironmentContext(config, script, fn=look, dont_mutate=True):
        script.run_env()
    if answer["heads"] is None:
        answer["error"] = "env.py ran without asking the database (it never called context.run_migrations)"
except BaseException as exc:
    answer["error"] = shown(exc)
    # A release that can't be imported must not keep the schema from being known: it is the one to be left.
    if not answer["connected"] and os.environ.get("DATABASE_URL"):
        try:
            ask_directly(os.environ["DATABASE_URL"])
            answer["error"] = None
        except BaseException as second:
            if type(second) is not type(exc):
                answer["error"] += "; asked without env.py: " + shown(second)
watch.cancel()
say()
os._exit(0)
"""

#: Variables of an environment file that would change how the script itself runs.
_NEVER = ("PATH", "HOME", "PWD", "SHELL", "IFS", "BASH_ENV", "ENV")


class AnswerError(ValueError):
    """The script did not get as far as its answer. The message says what it printed last."""


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of an environment file that may be passed on to the application's Python."""
    return {
        name: value
        for name, value in variables.items()
        if name not in _NEVER and not name.startswith(("PYTHON", "LD_", "DYLD_")) and "\0" not in value
    }


def parse_answer(stdout: str, stderr: str, marker: str, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the script answered, with secrets taken out of its messages.

    Args:
        stdout: all it wrote, whatever else printed into it.
        stderr: for the message when there is no answer.
        marker: what its line begins with.
        secrets: values that must not be shown.
    """
    secrets = list(secrets)
    for line in reversed(stdout.splitlines()):
        if line.startswith(marker):
            answer = json.loads(line[len(marker) :])
            for key in ("error", "tree_error", "rows_error"):
                if answer.get(key):
                    answer[key] = one_line(mask(answer[key], secrets))
            return answer
    last = [line for line in stderr.splitlines() if line.strip()] or ["nothing at all"]
    raise AnswerError(one_line(mask(last[-1], secrets)))


def _listed(heads: Iterable[str]) -> str:
    return ", ".join(sorted(heads)) or "no revision"


def judge(answer: dict[str, Any], expected: Iterable[str] | None = None) -> tuple[str, str]:
    """Return the verdict and its evidence.

    Args:
        answer: of the script.
        expected: heads that the database must be at. None means those that the tree on disk declares.
    """
    if answer.get("error") or not answer.get("connected"):
        return "error", f"the database could not be asked: {answer.get('error') or 'no reason was given'}"
    heads = set(answer["heads"])
    at = f"connected to {answer.get('server_version') or 'the database'}, at {_listed(heads)}"
    if expected is None:
        if answer.get("tree_error") or answer.get("tree_heads") is None:
            return "error", f"{at}, but the migrations on disk can't be read: {answer.get('tree_error')}"
        wanted, source = set(answer["tree_heads"]), "the tree on disk declares"
    else:
        wanted, source = set(expected), "expected was"
    if heads != wanted:
        return "fail", f"{at}, but {source} {_listed(wanted)}"
    return "pass", f"{at}, as {'expected' if expected is not None else source}"
