# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scratch databases: made beside the application's from a dump, by somebody who may, and dropped whatever happens."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _manifest,
    _postgres,
    postgres,
    restore_points,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

#: The other way out, where no scratch database can be made to verify a backup.
INSTEAD = "; or compare checksums only: -e backup_verify=checksum"


class Made(NamedTuple):
    """A scratch database that was made, the extensions that are in it already, what was swept before, the server's
    version number, and whether a superuser restores into it."""

    name: str
    extensions: list[dict[str, Any]]
    swept: list[str]
    number: int
    superuser: bool


class Damaged(Exception):
    """The dump is not what was kept. The message names what."""


class Scratch:
    """The scratch databases on a server, made and dropped by somebody who may.

    Args:
        admin: a session in the application's database, so that all verifications meet at the same advisory locks.
        database: name of the application's database.
        number: version number of the server.
    """

    def __init__(self, admin: postgres.Session, database: str, number: int) -> None:
        self.admin, self.prefix = admin, _postgres.scratch_prefix(database)
        self.force = " WITH (FORCE)" if number >= 130000 else ""

    def claim(self, name: str) -> bool:
        """Whether nobody else works with it. The claim ends with the session, so with whoever holds it."""
        question = f"SELECT pg_try_advisory_lock(hashtextextended({_content_manifest.literal('sparklio ' + name)}, 0))"
        return self.admin.ask(question) == "t"

    def drop(self, name: str) -> None:
        self.admin.ask(f"DROP DATABASE IF EXISTS {_content_manifest.identifier(name)}{self.force}", 120)

    def sweep(self) -> list[str]:
        """Drop what killed verifications have left: with our comment, and nobody's claim."""
        literal = _content_manifest.literal
        left = self.admin.json(
            "SELECT coalesce(jsonb_agg(datname), '[]') FROM pg_catalog.pg_database "
            f"WHERE left(datname, length({literal(self.prefix)})) = {literal(self.prefix)} "
            f"AND shobj_description(oid, 'pg_database') = {literal(_postgres.MARKER)}"
        )
        gone = [name for name in left if self.claim(name)]
        for name in gone:
            self.drop(name)
        return gone

    def create(self, owner: str, settings: dict[str, Any]) -> str:
        name = self.prefix + secrets.token_hex(4)
        self.claim(name)
        self.admin.ask(_postgres.create_scratch(name, owner, settings), 300)
        comment = _content_manifest.literal(_postgres.MARKER)
        self.admin.ask(f"COMMENT ON DATABASE {_content_manifest.identifier(name)} IS {comment}")
        return name

    def configure(self, name: str, owner: str, settings: dict[str, Any]) -> None:
        """Give it what is set on the database, for all or for its owner: the search path, say.

        Only once all is restored: a dump is restored with the settings that it brings along. What this role may not set
        it goes without.
        """
        for statement in _postgres.parameter_statements(name, settings, (None, owner)):
            with contextlib.suppress(PostgresError):
                self.admin.ask(statement)


def check_files(path: str, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compare every file of an artifact with its SHA-256. Returns the artifact, or raises Damaged.

    Args:
        path: the artifact's directory in its restore point.
        kept: the artifact as in the manifest; None to read that.
    """
    place = os.path.abspath(path)
    point = os.path.dirname(place)
    try:
        if kept is None:
            kept = _manifest.artifact(restore_points.read(point), os.path.basename(place))
    except restore_points.RestorePointError as exc:
        raise Damaged(str(exc)) from exc
    if not kept or not kept.get("files"):
        raise Damaged(f"no manifest names the files of {path}")
    for item in kept["files"]:
        problem = _manifest.path_problem(item["path"])
        found = f"it {problem}" if problem else restore_points.file_problem(point, item)
        if found:
            raise Damaged(found)
    listed = {item["path"] for item in kept["files"]}
    for folder, _folders, names in os.walk(path):
        for name in names:
            found = os.path.relpath(os.path.join(folder, name), point)
            if found not in listed:
                raise Damaged(f"{found} is in no manifest")
    return kept


def untrusted(admin: postgres.Session, who: dict[str, Any], extensions: list[dict[str, Any]]) -> list[str]:
    """The extensions that this role may not make, by name."""
    if who["superuser"] or not extensions:
        return []
    names = ", ".join(_content_manifest.literal(item["name"]) for item in extensions)
    trusted = admin.json(
        "SELECT coalesce(jsonb_agg(DISTINCT name), '[]') FROM pg_catalog.pg_available_extension_versions "
        f"WHERE trusted AND name IN ({names})"
    )
    return [item["name"] for item in extensions if item["name"] not in trusted]


def check_rights(
    admin: postgres.Session, who: dict[str, Any], extensions: list[dict[str, Any]], instead: str = ""
) -> None:
    """Raise PostgresError where this role may not make the scratch database. ``instead`` is another way out."""
    if not who["createdb"]:
        raise PostgresError(f"{who['user']} may not make databases (ALTER ROLE … CREATEDB); {postgres.CURE}{instead}")
    missing = untrusted(admin, who, extensions)
    if missing:
        raise PostgresError(f"{who['user']} may not make the extension {', '.join(missing)}; {postgres.CURE}{instead}")


def make_extensions(session: postgres.Session, owner: str, extensions: list[dict[str, Any]]) -> None:
    """Make them, and let the owner use the foreign-data wrappers that they bring."""
    identifier = _content_manifest.identifier
    for item in extensions:
        if item["schema"] not in ("public", "pg_catalog"):
            session.ask(f"CREATE SCHEMA IF NOT EXISTS {identifier(item['schema'])} AUTHORIZATION {identifier(owner)}")
        schema = "" if item["schema"] == "pg_catalog" else f" SCHEMA {identifier(item['schema'])}"
        # The version that the server has: that of the dump may not be there any more.
        session.ask(f"CREATE EXTENSION IF NOT EXISTS {identifier(item['name'])}{schema} CASCADE", 120)
    # Only with that may the owner make the foreign servers of the dump again.
    wrappers = session.json(
        "SELECT coalesce(jsonb_agg(fdwname), '[]') FROM pg_catalog.pg_foreign_data_wrapper "
        f"WHERE NOT has_foreign_data_wrapper_privilege({_content_manifest.literal(owner)}, oid, 'USAGE')"
    )
    for name in wrappers:
        # Who may not grant it may have no server that needs it.
        with contextlib.suppress(PostgresError):
            session.ask(f"GRANT USAGE ON FOREIGN DATA WRAPPER {identifier(name)} TO {identifier(owner)}")


def room(
    size: int, server: dict[str, Any], target: Any, factor: float, instead: str = "", what: str = "the scratch database"
) -> None:
    """Raise PostgresError where the server's disk is known and has no room for one more database of that size."""
    place = postgres.data_directory(server, target.local)
    if place is None:
        return
    free, needed = postgres.free(place), int(size * factor)
    if free < needed:
        raise PostgresError(
            f"{what} takes about {needed >> 20} MB, and the server's disk ({place}) has {free >> 20} MB "
            f"free. Free some space there{instead}"
        )


def could(
    params: dict[str, Any],
    tools: postgres.Tools,
    target: Any,
    server: dict[str, Any],
    extensions: list[dict[str, Any]],
    size: int | None = None,
    instead: str = "",
) -> None:
    """Raise PostgresError where the scratch database of ``made`` could not be made. Makes nothing.

    Args:
        extensions: those that it has to have.
        size: how many bytes have to fit; None to ask for room later: what a killed verification has left makes some.
        instead: what else could be done, as the end of a message.
    """
    with postgres.admin_session(params, tools, target, target.database) as admin:
        who = admin.json(_postgres.SERVER)
        postgres.same_server(who, server)
        check_rights(admin, who, extensions, instead)
        if size is not None:
            room(size, who, target, params["disk_factor"], instead)


@contextlib.contextmanager
def made(
    params: dict[str, Any],
    tools: postgres.Tools,
    target: Any,
    server: dict[str, Any],
    kept: dict[str, Any],
    instead: str = "",
    spare: set[str] | None = None,
) -> Iterator[Made]:
    """A scratch database for what a dump holds, with its untrusted extensions, dropped in any case afterwards.

    Args:
        server: as the application's session answers SERVER.
        kept: the dump's content manifest; its ``bytes`` are what has to fit.
        instead: what else could be done where it can't be made, as the end of a message.
        spare: databases that are left there for somebody else to drop; asked when all is done.
    """
    with postgres.admin_session(params, tools, target, target.database) as admin:
        who = admin.json(_postgres.SERVER)
        postgres.same_server(who, server)
        check_rights(admin, who, kept["extensions"], instead)
        scratch = Scratch(admin, target.database, server["number"])
        # What is swept makes room.
        swept = scratch.sweep()
        room(kept["bytes"], who, target, params["disk_factor"], instead)
        name = scratch.create(server["user"], kept["settings"])
        try:
            extensions = kept["extensions"] if who["user"] != server["user"] else []
            if extensions:
                with postgres.admin_session(params, tools, target, name) as inside:
                    make_extensions(inside, server["user"], extensions)
            yield Made(name, extensions, swept, server["number"], server["superuser"])
        finally:
            if name not in (spare or ()):
                scratch.drop(name)


def restore(
    client: _postgres.Client,
    target: Any,
    place: Made,
    dump: str,
    jobs: int,
    deadline: float,
    choose: Callable[[list[str]], Iterable[str]] = lambda toc: toc,
    options: Iterable[str] = (),
    tick: Callable[[], None] | None = None,
) -> None:
    """Restore a dump into a scratch database, or raise PostgresError.

    Args:
        choose: which lines of ``pg_restore --list`` to restore.
        options: further ones of pg_restore.
        tick: called now and then meanwhile, and may raise.
    """
    program, env = f"{client.directory}/pg_restore", postgres.environment(target, place.name)
    # A newer client makes settings that this server does not know; nothing else may fail.
    newer = client.version[0] > place.number // 10000
    with tempfile.TemporaryDirectory() as folder:
        wanted = os.path.join(folder, "wanted")
        lines = contents(client, dump, env, deadline)
        schemas = [item["schema"] for item in place.extensions if item["schema"] not in ("public", "pg_catalog")]
        names = [item["name"] for item in place.extensions]
        with open(wanted, "w", encoding="utf-8") as to:
            to.writelines(choose(_postgres.without(lines, names, schemas, place.superuser)))
        child = postgres.Child(
            [
                *(program, "-w", f"-j{jobs}", "--no-owner", "--no-privileges", "--no-publications"),
                *("--no-subscriptions", "--no-security-labels", "--no-tablespaces"),
                *([] if newer else ["--exit-on-error"]),
                *(*options, "-L", wanted, "-d", place.name, dump),
            ],
            env,
            target.password,
        )
        try:
            child.wait(deadline, tick)
        except PostgresError:
            if not (newer and _postgres.only_unknown_settings(child.all_lines())):
                raise


def owners(client: _postgres.Client, dump: str, env: dict[str, str], deadline: float) -> set[str]:
    """The roles that a dump gives something to, or raise PostgresError."""
    with tempfile.TemporaryDirectory() as folder:
        schema = os.path.join(folder, "schema")
        command = [f"{client.directory}/pg_restore", "--schema-only", "--no-subscriptions", "-f", schema, dump]
        postgres.Child(command, env).wait(deadline)
        with open(schema, encoding="utf-8", errors="replace") as stream:
            return _postgres.owners(stream)


def contents(client: _postgres.Client, dump: str, env: dict[str, str], deadline: float) -> list[str]:
    """The lines of ``pg_restore --list``, or raise PostgresError."""
    with tempfile.TemporaryDirectory() as folder:
        toc = os.path.join(folder, "toc")
        postgres.Child([f"{client.directory}/pg_restore", "--list", "-f", toc, dump], env).wait(deadline)
        with open(toc, encoding="utf-8") as stream:
            return stream.readlines()
