"""A small application with a database of its own and an Alembic history, for tests on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
USER = "shop_user"
#: Everything that a URL and a password file would have to escape.
PASSWORD = "canary:p\\w@d/'%?#"

INI = "[alembic]\nscript_location = alembic\nprepend_sys_path = .\npath_separator = os\n"
ENV = """
import os

from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
if context.is_offline_mode():
    context.configure(url="postgresql+psycopg://", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=None)
        with context.begin_transaction():
            context.run_migrations()
"""
REVISION = '''"""{title}"""

import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''
USERS = """
    op.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    op.execute(
        "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, mood mood NOT NULL DEFAULT 'good',"
        " at timestamptz NOT NULL DEFAULT now())"
    )
    op.execute("INSERT INTO users (name) SELECT '사용자 ' || i FROM generate_series(1, 200) i")
"""
LEARNINGS = """
    op.execute("CREATE TABLE learnings (id serial PRIMARY KEY, user_id int NOT NULL REFERENCES users, lesson text)")
    op.execute("CREATE INDEX ix_learnings_user_id ON learnings (user_id)")
    op.execute("INSERT INTO learnings (user_id, lesson) SELECT id, 'lesson ' || id FROM users")
    op.execute("ALTER TABLE users ADD COLUMN profile jsonb")
    op.execute("UPDATE users SET profile = jsonb_build_object('n', id) WHERE id % 2 = 0")
"""
NO_LEARNINGS = """
    op.drop_column("users", "profile")
    op.drop_table("learnings")
"""


def revision(
    name: str, down=None, upgrade="    pass", downgrade="    pass", title="", labels=None, depends=None
) -> str:
    indent = lambda text: textwrap.indent(textwrap.dedent(text).strip("\n") or "pass", "    ")  # noqa: E731
    values = {"revision": name, "down": down, "labels": labels, "depends": depends, "title": title or name}
    return REVISION.format(**values, upgrade=indent(upgrade), downgrade=indent(downgrade))


LINEAR = {
    "r1_users": revision("r1_users", None, USERS, "    op.drop_table('users')\n    op.execute('DROP TYPE mood')"),
    "r2_learnings": revision("r2_learnings", "r1_users", LEARNINGS, NO_LEARNINGS),
}


class Application:
    """A backend's directory beside a database of that name, owned by a role that may not make databases."""

    def __init__(self, cluster, folder: Path, name: str = "shop", revisions: dict[str, str] | None = None) -> None:
        self.cluster, self.name, self.root = cluster, name, folder
        self.backend = folder / "backend"
        self.state_dir = folder / "state"
        (self.backend / "alembic/versions").mkdir(parents=True)
        (self.backend / "venv/bin").mkdir(parents=True)
        # No link: Python looks for its environment beside the path that it was called by.
        python = self.backend / "venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (self.backend / "alembic.ini").write_text(INI)
        self.env(ENV)
        for key, text in (revisions or LINEAR).items():
            self.revision(key, text)
        quoted = PASSWORD.replace("'", "''")
        cluster.sql(
            f"""
            DROP DATABASE IF EXISTS "{name}" WITH (FORCE);
            DO $$ BEGIN CREATE ROLE {USER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            ALTER ROLE {USER} RESET ALL;
            ALTER ROLE {USER} NOCREATEDB PASSWORD '{quoted}';
            CREATE DATABASE "{name}" OWNER {USER};
            """
        )
        self.url = cluster.url(name, USER, PASSWORD)
        self.env_file = self.backend / ".env"
        self.env_file.write_text(f"DATABASE_URL={self.url}\n")
        self.alembic("upgrade", "heads")

    def env(self, text: str) -> None:
        (self.backend / "alembic/env.py").write_text(text)

    def revision(self, name: str, text: str) -> None:
        (self.backend / f"alembic/versions/{name}.py").write_text(text)

    def alembic(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            **{"cwd": self.backend, "capture_output": True, "text": True, "timeout": 60},
            env={**os.environ, "DATABASE_URL": self.url},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def options(self, **more) -> dict:
        """What every module is told of the database, and of who may make one. None leaves something out."""
        told = {"env_file": str(self.env_file), "admin_command": self.cluster.admin_command}
        told = {**told, "bin_dir": self.cluster.programs, **more}
        return {name: value for name, value in told.items() if value is not None}

    def heads(self, database: str | None = None) -> list[str]:
        return self.sql("SELECT version_num FROM alembic_version ORDER BY 1", database).split()

    def sql(self, text: str, database: str | None = None) -> str:
        return self.cluster.sql(text, database or self.name)

    def databases(self) -> dict[str, bool]:
        """Databases whose names begin as ours does, and whether they let anybody in."""
        found = self.cluster.sql(
            f"SELECT json_object_agg(datname, datallowconn) FROM pg_database WHERE datname LIKE '{self.name}%'"
        )
        return json.loads(found)

    def journal(self, run_id: str, act: str = "switch", undo: bool = False) -> dict:
        """A run that holds the lock, as the option ``journal`` of a module."""
        from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State

        state = State(str(self.state_dir))
        if not state.holder():
            state.acquire(run_id, "test", 300)
        return {"state_dir": str(self.state_dir), "run_id": run_id, "act": act, "undo": undo}

    def pending(self, run_id: str) -> dict[str, dict]:
        from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
        from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State

        return {item["step"]: item["detail"] for item in _journal.pending(State(str(self.state_dir)).read(run_id))}


def module(name: str, options: dict, before: str = "", fails: bool | None = None) -> dict:
    """Run a module in a process of its own.

    Args:
        before: Python that runs in that process first, such as what kills it at some point.
        fails: True or False when it must fail or must not.
    """
    program = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(PROJECT / '.collections')!r})\n"
        f"from ansible_collections.sparklio.rollback.plugins.modules import {name} as module\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        f"{before}\n"
        "with patch_module_args(json.loads(sys.stdin.read())):\n    module.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        **{"input": json.dumps(options), "capture_output": True, "text": True, "timeout": 300},
        check=False,
    )
    assert PASSWORD not in done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    result = json.loads(lines[-1]) if lines else {}
    result.pop("invocation", None)
    result["rc"] = done.returncode
    if fails is not None:
        assert lines, done.stderr
        assert bool(result.get("failed")) == fails, (result, done.stderr)
    return {**result, "stderr": done.stderr}
