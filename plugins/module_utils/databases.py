# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server's databases, as whoever may make them sees them: closed, copied, renamed, dropped where they are ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _databases,
    _postgres,
    postgres,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

#: SQLSTATE of "being accessed by other users".
_IN_USE = "55006"


class Databases:
    """One session in the maintenance database, which holds the lock on the switch of one database.

    Args:
        session: of whoever may make databases, in ``postgres``.
        live: name of the database that serves.
    """

    def __init__(self, session: postgres.Session, live: str) -> None:
        self.session, self.live = session, live
        if session.ask(_databases.lock(live)) != "t":
            raise PostgresError(f"another switch of {live} is under way; wait for it")
        self.server = session.json(_postgres.SERVER)

    def facts(self, *names: str) -> dict[str, dict[str, Any]]:
        """Those of these names, and of the live one, that there are: oid, owner, connects, limit, comment."""
        return self.session.json(_databases.found(self.live, names))

    def name_of(self, oid: int) -> str | None:
        return self.session.ask(_databases.by_oid(oid)) or None

    def close(self, name: str, deadline: float, but: int = 0) -> int:
        """Let nobody in any more, and end who is in. Returns how many sessions were ended, or raises PostgresError.

        Args:
            but: process id of a session of ours that stays.
        """
        self.session.ask(_databases.allow(name, False))
        ended = 0
        while True:
            left = self.session.json(_databases.sessions(name, but))
            if not left:
                return ended
            if time.monotonic() > deadline:
                who = "; ".join(f"process {item['pid']} of {item['user']} ({item['application']})" for item in left[:3])
                raise PostgresError(f"sessions of {name} did not go away: {who}. End them and run it again")
            try:
                ended = max(ended, int(self.session.ask(_databases.terminate(name, but))))
            except PostgresError as exc:
                raise PostgresError(f"sessions of {name} can't be ended: {exc}; {postgres.CURE}", exc.state) from exc
            time.sleep(0.02)

    def open(self, name: str) -> None:
        self.session.ask(_databases.allow(name, True))

    def copy(self, name: str, owner: str, mark: str, seconds: float) -> None:
        number = self.server["number"]
        try:
            collation = self.session.ask(_databases.collation_version(self.live)) if number >= 150000 else ""
            self.session.ask(_databases.copy(self.live, name, owner, number, collation), seconds)
        except PostgresError as exc:
            raise PostgresError(f"{self.live} can't be copied: {exc}", exc.state) from exc
        self.session.ask(_databases.comment(name, mark))

    def drop(self, name: str) -> None:
        force = " WITH (FORCE)" if self.server["number"] >= 130000 else ""
        self.session.ask(f"DROP DATABASE IF EXISTS {_content_manifest.identifier(name)}{force}", 300)

    def checkpoint(self, seconds: float) -> None:
        """Write to disk what a copy would have to wait for, while everybody still works. Takes a right of its own."""
        with contextlib.suppress(PostgresError):
            self.session.ask("CHECKPOINT", seconds)

    def run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self.session.ask(statement)

    def transaction(self, statements: Sequence[str]) -> None:
        self.session.ask("BEGIN")
        try:
            self.run(statements)
            self.session.ask("COMMIT")
        except PostgresError:
            with contextlib.suppress(PostgresError):
                self.session.ask("ROLLBACK")
            raise

    def swap(self, statements: Sequence[str], incoming: str, deadline: float) -> float:
        """Let a database take the place of another in one transaction. Returns its seconds, or raises PostgresError."""
        while True:
            began = time.monotonic()
            try:
                self.transaction(statements)
                return time.monotonic() - began
            except PostgresError as exc:
                if exc.state != _IN_USE or began > deadline:
                    raise PostgresError(f"the databases could not change places: {exc}", exc.state) from exc
                with contextlib.suppress(PostgresError):
                    self.session.ask(_databases.terminate(incoming))
                time.sleep(0.02)


def heads(session: postgres.Session, version: dict[str, Any]) -> list[str]:
    """What a version table says, sorted.

    Args:
        version: ``table`` and ``schema`` as Alembic was configured; without a schema it is found as Alembic finds it.
    """
    session.ask("RESET search_path")
    found = session.json(_databases.version_heads(version.get("schema"), version.get("table") or "alembic_version"))
    session.ask("SET search_path = pg_catalog")
    return found


def find_version(session: postgres.Session, version: dict[str, Any]) -> str:
    """Alembic's version table with its schema, which is where Alembic finds it unless env.py names one."""
    table, schema = version.get("table") or "alembic_version", version.get("schema")
    if not schema:
        session.ask("RESET search_path")
        schema = session.ask(_databases.schema_of(table))
        session.ask("SET search_path = pg_catalog")
    return f"{schema}.{table}"


@contextlib.contextmanager
def connect(params: dict[str, Any], tools: postgres.Tools, target: Any, deadline: float = 0.0) -> Iterator[Databases]:
    """Open the maintenance database, or raise PostgresError.

    Args:
        params: ``admin_command`` and ``admin_url`` of the module.
        deadline: until when to try again: a server that was killed takes a while, and so does a module that still works
            on the host although the ansible-playbook that began it was killed.
    """
    while True:
        try:
            session = postgres.admin_session(params, tools, target, "postgres")
            try:
                found = Databases(session, target.database)
            except PostgresError:
                session.close()
                raise
            break
        except PostgresError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    with session:
        yield found
