#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Dump the application's PostgreSQL database, with a list of what it holds
version_added: "0.1.0"
description:
  - Dumps with C(pg_dump) in the directory format, with several jobs and the best compression that the client can do
    fast (from PostgreSQL 16 on zstd or lz4, where it was built with one of them; else gzip at level 1).
  - The dump and C(content.json) share one snapshot. That file lists the rows of each table and a hash of them, so that
    a database that was restored from the dump can be compared with it by M(sparklio.rollback.pg_verify).
  - C(schema.sql), C(settings.sql) and C(roles.sql) hold the schema, what belongs to the database itself (owner, rights,
    connection limit, settings), and the roles without passwords. The data alone come from
    the dump by C(pg_restore --data-only).
  - Everything is written under another name, brought to disk, and renamed when it is whole. When it fails or is ended
    nothing of it stays; whatever kills it, C(pg_dump) ends too.
  - Refused before anything is written where the client is older than the server, the disk has no room, or the role
    would not see every row; with O(verifiable), also where nobody may make the scratch database to restore it into.
  - The password is on no command line and is never shown.
options:
  dest:
    description: Directory to make, in the restore point that is being made. Its name is that in the manifest.
    type: path
    required: true
  jobs:
    description: How many tables are dumped at a time.
    type: int
    default: 2
  content:
    description:
      - What the list of contents holds of each table. With V(rows) it takes a fraction of the time, and a restored
        database is only compared by its numbers of rows.
    type: str
    choices: [hash, rows]
    default: hash
  disk_factor:
    description: Part of the size of the database that has to be free for the dump.
    type: float
    default: 0.5
  reserve_mb:
    description: Megabytes that stay free. The dump is stopped before it takes them.
    type: int
    default: 256
  verifiable:
    description:
      - Whether it is to be restored by M(sparklio.rollback.pg_verify) afterwards. Then whoever is to make the scratch
        database is asked before, so that nobody waits for a dump that can't be verified.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for a table that somebody is changing.
    type: float
    default: 30
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 7200
extends_documentation_fragment:
  - sparklio.rollback.postgres
  - sparklio.rollback.postgres.admin
  - sparklio.rollback.journal
  - sparklio.rollback.progress
attributes:
  check_mode:
    support: full
    description: Asks the database and the disk, and writes nothing. RV(artifact) then has no files.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Keep the database
  sparklio.rollback.pg_backup:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    dest: "{{ point.partial }}/database"
"""

RETURN = r"""
artifact:
  description: >-
    The artifact for the manifest. Its C(meta) holds C(server) (without credentials), C(server_version),
    C(client_version), C(compression), C(jobs), C(bytes) of the database, C(tables) with their C(rows), and C(missing):
    what could not be kept.
  returned: success
  type: dict
  sample:
    name: database
    type: database
    path: database
    size: 2048
    seconds: 1.2
    files: [{path: database/dump/toc.dat, size: 1024, sha256: 9b1c…}]
    meta: {server: 'postgresql://127.0.0.1:5432/sparklio_v4', tables: {users: {rows: 120}}, missing: []}
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest, _postgres, postgres, scratch
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import Child, PostgresError
from ansible_collections.sparklio.rollback.plugins.module_utils.restore_points import artifact, sync_directory
from ansible_collections.sparklio.rollback.plugins.module_utils.transfer import PROGRESS_SPEC, Share, told

#: Part of a database's size that its compressed dump usually has: for the first guess of how much there will be.
USUAL = 0.2


class Progress:
    """Says how far the dump is, in a file, and stops it where the disk gets full."""

    def __init__(self, params: dict[str, Any], folder: str, tables: list[dict[str, Any]]) -> None:
        self.share, self.reserve, self.folder = Share(params["progress"]), params["reserve_mb"] << 20, folder
        self.sizes: dict[str, list[int]] = {}
        for table in tables:
            self.sizes.setdefault(table["name"], []).append(table["bytes"] or 0)
        self.total = sum(sum(sizes) for sizes in self.sizes.values())
        self.done = 0

    def tick(self, child: Child) -> None:
        for line in child.lines():
            sizes = self.sizes.get(_postgres.finished(line) or "")
            if sizes:
                self.done += sizes.pop()
        if postgres.free(self.folder) < self.reserve:
            raise PostgresError(
                f"the disk of {self.folder} got full: only {self.reserve >> 20} MB were left, and the dump was stopped "
                "before it took them. Free some space there, or name another place: -e rollback_backup_dir=…"
            )
        if self.share.path:
            self.watched()
            written = 0
            with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(self.folder, "dump")) as entries:
                written = sum(entry.stat().st_size for entry in entries)
            self.share(written, _postgres.estimate(written, self.done, USUAL, self.total))

    def watched(self) -> None:
        """Stop where nobody looks any more."""
        if self.share.abandoned():
            raise PostgresError("nobody waits for it any more: ansible-playbook was ended, so the dump was too")


@contextlib.contextmanager
def unfinished(dest: str) -> Iterator[str]:
    """A directory beside ``dest`` that becomes it when all went well, and is gone otherwise."""
    parent, name = os.path.split(os.path.abspath(dest))
    if os.path.lexists(dest):
        raise PostgresError(f"{dest} exists already; name a new directory")
    partial = os.path.join(parent, f".partial-{name}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(partial, 0o700)
    fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PostgresError(f"another backup is writing {partial}; wait for it") from None
        try:
            # What a backup that was killed has left.
            for entry in os.listdir(partial):
                place = os.path.join(partial, entry)
                shutil.rmtree(place) if os.path.isdir(place) else os.unlink(place)
            yield partial
            os.rename(partial, dest)
            sync_directory(parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def sync(path: str) -> None:
    os.chmod(path, 0o600)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: str) -> None:
    """Bring all files and directories to disk, readable by their owner only."""
    paths = []
    for place, _folders, names in os.walk(folder, topdown=False):
        os.chmod(place, 0o700)
        paths += [os.path.join(place, name) for name in names]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sync, paths))
    for place, _folders, _names in os.walk(folder, topdown=False):
        sync_directory(place)


def room(folder: str, server: dict[str, Any], params: dict[str, Any]) -> None:
    needed, free = (
        _postgres.needed(server["bytes"], params["disk_factor"], params["reserve_mb"] << 20),
        postgres.free(folder),
    )
    if free < needed:
        raise PostgresError(
            f"the database has {server['bytes'] >> 20} MB, for which {needed >> 20} MB should be free, and {folder} "
            f"has {free >> 20} MB. Free some space there, or name another place: -e rollback_backup_dir=…"
        )


def snapshot(session: postgres.Session, tables: list[dict[str, Any]]) -> str:
    """Begin the transaction whose snapshot the dump takes too. Returns its name."""
    session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # Before the first question, so that the snapshot is taken when nobody can empty or rewrite a table any more.
    statement = _content_manifest.lock(tables)
    if statement:
        try:
            session.ask(statement, 120)
        except PostgresError as exc:
            raise PostgresError(
                f"somebody is changing a table, so nothing was dumped ({exc}). Run it again", exc.state
            ) from exc
    return session.ask("SELECT pg_export_snapshot()")


def roles(client: _postgres.Client, target: Any, key: list[str], path: str, deadline: float) -> str | None:
    """Keep the roles without passwords. Returns why that was not possible, or None."""
    try:
        Child(
            [
                *(f"{client.directory}/pg_dumpall", "-w", "--roles-only", "--no-role-passwords", *key),
                *("-l", target.database, "-f", path),
            ],
            postgres.environment(target),
            target.password,
        ).wait(min(deadline, time.monotonic() + 120))
        return None
    except PostgresError as exc:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return f"roles.sql: {exc}"


def restrict(client: _postgres.Client, program: str) -> list[str]:
    known = postgres.knows(client, program, "--restrict-key")
    return [f"--restrict-key={_postgres.RESTRICT_KEY}"] if known else []


def dump(
    session: postgres.Session,
    client: _postgres.Client,
    target: Any,
    server: dict[str, Any],
    partial: str,
    params: dict[str, Any],
    deadline: float,
) -> dict[str, Any]:
    """Fill the directory. Returns what the manifest says of it."""
    compression = _postgres.compression(client.version, lambda method: postgres.can_compress(client, method))
    settings = session.json(_postgres.DATABASE)
    env = postgres.environment(target)
    tables = session.json(_content_manifest.TABLES)
    name = snapshot(session, tables)
    # Once more, now in the snapshot: what came in between is dumped, and so has to be listed.
    tables = session.json(_content_manifest.TABLES)
    refuse(tables, session.json(_content_manifest.SEQUENCES))
    progress = Progress(params, partial, tables)
    child = Child(
        [
            *(f"{client.directory}/pg_dump", "-w", "-v", "-Fd", f"-j{params['jobs']}", f"-Z{compression}", "--no-sync"),
            *(f"--snapshot={name}", f"--lock-wait-timeout={int(1000 * params['lock_timeout'])}"),
            *("-f", f"{partial}/dump", "-d", target.database),
        ],
        env,
        target.password,
    )
    try:
        reader = postgres.Beside(
            lambda: postgres.read_content(session, server, tables, params["content"] == "hash", deadline, settings)
        )
        missing = roles(client, target, restrict(client, "pg_dumpall"), f"{partial}/roles.sql", deadline)

        def tick() -> None:
            progress.tick(child)
            reader.check()

        try:
            child.wait(deadline, tick)
        except PostgresError:
            # Where the session failed, the dump's complaint about its snapshot is no more than what follows.
            reader.check(2)
            raise
        content = reader.result()
    finally:
        child.stop()
    Child(
        [
            *(f"{client.directory}/pg_restore", "--schema-only", *restrict(client, "pg_restore")),
            *("-f", f"{partial}/schema.sql", f"{partial}/dump"),
        ],
        env,
    ).wait(deadline)
    write(f"{partial}/settings.sql", _postgres.settings_sql(target.database, settings))
    write(f"{partial}/content.json", json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    return {
        "server": target.shown,
        "database": target.database,
        "server_version": server["version"],
        "client_version": ".".join(map(str, client.version)),
        "compression": "gzip:1" if compression == "1" else compression,
        "jobs": params["jobs"],
        "bytes": server["bytes"],
        "content": params["content"],
        "tables": {_content_manifest.table_name(table): {"rows": table["rows"]} for table in content["tables"]},
        "missing": [missing] if missing else [],
    }


def refuse(tables: list[dict[str, Any]], sequences: list[dict[str, Any]]) -> None:
    why = _content_manifest.refusals(tables, sequences)
    if why:
        raise PostgresError(f"the dump would not hold everything: {'; '.join(why)}")


def backup(module: AnsibleModule, params: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    deadline = started + params["deadline"]
    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    tools, parent = postgres.Tools(params["bin_dir"]), os.path.dirname(os.path.abspath(params["dest"]))
    try:
        session = postgres.connect(tools, target)
    except PostgresError as exc:
        raise PostgresError(f"{target.shown} can't be reached or refuses: {exc}") from exc
    with session:
        server = session.json(_postgres.SERVER)
        client = tools.for_server(server)
        refuse(session.json(_content_manifest.TABLES), session.json(_content_manifest.SEQUENCES))
        if params["verifiable"]:
            extensions = session.json(_content_manifest.EXTENSIONS)
            scratch.could(params, tools, target, server, extensions, instead=scratch.INSTEAD)
        if module.check_mode:
            if os.path.isdir(parent):
                room(parent, server, params)
            meta = {"server": target.shown, "server_version": server["version"], "bytes": server["bytes"]}
            return artifact("database", params["dest"], meta, 0)
        room(parent, server, params)
        with unfinished(params["dest"]) as partial:
            meta = dump(session, client, target, server, partial, params, deadline)
            sync_tree(partial)
    kept = artifact("database", params["dest"], meta, 0)
    return {**kept, "seconds": round(time.monotonic() - started, 3)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            "verifiable": {"type": "bool", "default": False},
            "jobs": {"type": "int", "default": 2},
            "content": {"type": "str", "choices": ["hash", "rows"], "default": "hash"},
            "disk_factor": {"type": "float", "default": 0.5},
            "reserve_mb": {"type": "int", "default": 256},
            "lock_timeout": {"type": "float", "default": 30},
            "deadline": {"type": "float", "default": 7200},
            **PROGRESS_SPEC,
            "journal": JOURNAL_SPEC,
        },
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        with (
            told(params["progress"]),
            postgres.orderly(),
            Recorder(params["journal"], module.check_mode, "database").heartbeat(),
        ):
            kept = backup(module, params)
    except PostgresError as exc:
        module.fail_json(msg=f"The database was not backed up: {exc}.")
    except OSError as exc:
        module.fail_json(
            msg=f"The database was not backed up: {exc.filename or params['dest']} can't be written ({exc.strerror}). "
            "Free some space there, or name another place: -e rollback_backup_dir=…"
        )
    module.exit_json(changed=True, artifact=kept)


if __name__ == "__main__":
    main()
