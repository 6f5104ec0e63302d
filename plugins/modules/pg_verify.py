#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_verify
short_description: Prove a dump of a database by restoring it into a scratch database
version_added: "0.1.0"
description:
  - Compares the SHA-256 of every file first, so that a flipped bit is found before anything is restored.
  - Then restores the dump into a new database on the same server, compares that with the dump's list of contents, table
    by table, and drops it. The application's database is not touched.
  - The scratch database is called C(<database>_verify_<random>) and bears a comment. It is dropped in any case; one
    that a killed run has left behind is dropped by the next. Nothing without that comment is ever dropped.
  - Making it takes the right CREATEDB, and superuser rights where the database has extensions that are not trusted,
    such as C(vector). Where the application's role has neither, O(admin_command) or O(admin_url) says who does.
  - A dump that does not hold what it should is a result (RV(verdict)), not a failure of the module.
options:
  path:
    description: The artifact's directory, as M(sparklio.rollback.pg_backup) made it.
    type: path
    required: true
  artifact:
    description: The artifact as in the manifest. By default that of the manifest in the directory above O(path).
    type: dict
  how:
    description: Whether to restore it, or only to compare the checksums.
    type: str
    choices: [restore, checksum]
    default: restore
  url:
    description: Address of the application's database. To restore, exactly one of O(url) and O(env_file) is needed.
    type: str
  env_file:
    description: File on the host that holds the address, such as the backend's C(.env).
    type: path
  env_key:
    description: Name of the variable in O(env_file).
    type: str
    default: DATABASE_URL
  admin_command:
    description:
      - Command to put in front of C(psql) to become somebody who may make databases on the same server, such as
        V(sudo -n -u postgres), as a list.
    type: list
    elements: str
    default: []
  admin_url:
    description: Address with the user and password of somebody who may make databases on the same server.
    type: str
  bin_dir:
    description: Directory with PostgreSQL's programs. By default those of the server's version are looked for.
    type: path
  jobs:
    description: How many tables are restored at a time.
    type: int
    default: 2
  disk_factor:
    description: >-
      How much of the size of the database has to be free where the server keeps its data, where that is on this
      host and known.
    type: float
    default: 1.3
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 7200
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: partial
    description: Compares the checksums only.
    details: Nothing is restored then, since that makes a scratch database.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Prove the dump
  sparklio.rollback.pg_verify:
    path: "{{ point.partial }}/database"
    artifact: "{{ kept.artifact }}"
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
  register: proof
"""

RETURN = r"""
verdict:
  description: >-
    V(pass), V(fail) when a file is damaged or what was restored is not what was kept, V(error) when it could not
    be tried.
  returned: success
  type: str
  sample: pass
evidence:
  description: What was seen, in one line.
  returned: success
  type: str
  sample: 6 tables with 1032 rows, restored into a scratch database, are what was kept
how:
  description: How it was verified.
  returned: success
  type: str
  sample: restore
differences:
  description: All that differs.
  returned: success
  type: list
  elements: str
dropped:
  description: Scratch databases of earlier verifications that were dropped.
  returned: success
  type: list
  elements: str
seconds:
  description: Seconds used.
  returned: success
  type: float
  sample: 2.1
"""

import os
import secrets
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _manifest,
    _postgres,
    _postgres_url,
    postgres,
    restore_points,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

CURE = (
    "let somebody make it who may: -e '{\"rollback_database_admin_command\": [sudo, -n, -u, postgres]}' or "
    "rollback_database_admin_url; or compare checksums only: -e backup_verify=checksum"
)


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


def check_files(params: dict[str, Any]) -> dict[str, Any]:
    """Compare every file with its SHA-256. Returns the artifact, or raises Damaged."""
    point = os.path.dirname(os.path.abspath(params["path"]))
    kept = params["artifact"]
    try:
        if kept is None:
            kept = _manifest.artifact(restore_points.read(point), os.path.basename(os.path.abspath(params["path"])))
    except restore_points.RestorePointError as exc:
        raise Damaged(str(exc)) from exc
    if not kept or not kept.get("files"):
        raise Damaged(f"no manifest names the files of {params['path']}")
    for item in kept["files"]:
        problem = _manifest.path_problem(item["path"])
        found = f"it {problem}" if problem else restore_points.file_problem(point, item)
        if found:
            raise Damaged(found)
    listed = {item["path"] for item in kept["files"]}
    for place, _folders, names in os.walk(params["path"]):
        for name in names:
            path = os.path.relpath(os.path.join(place, name), point)
            if path not in listed:
                raise Damaged(f"{path} is in no manifest")
    return kept


def admin_session(params: dict[str, Any], tools: postgres.Tools, target: Any, database: str) -> postgres.Session:
    """A session of somebody who may make databases: of the application's own role where nobody else is named."""
    if params["admin_url"]:
        try:
            return postgres.connect(tools, _postgres_url.parse(params["admin_url"]), database)
        except _postgres_url.UrlError as exc:
            raise PostgresError(f"admin_url can't be used: {exc}") from exc
    if not params["admin_command"]:
        return postgres.connect(tools, target, database)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    session = postgres.Session([*params["admin_command"], "psql", "-d", database], {**env, "LC_ALL": "C"})
    try:
        session.ask(_content_manifest.apply_settings(), 30)
    except PostgresError as exc:
        session.close()
        raise PostgresError(f"{' '.join(params['admin_command'])} psql: {exc}") from exc
    return session


def check_rights(admin: postgres.Session, who: dict[str, Any], extensions: list[dict[str, Any]]) -> None:
    if not who["createdb"]:
        raise PostgresError(f"{who['user']} may not make databases (ALTER ROLE … CREATEDB); {CURE}")
    if who["superuser"] or not extensions:
        return
    names = ", ".join(_content_manifest.literal(item["name"]) for item in extensions)
    trusted = admin.json(
        "SELECT coalesce(jsonb_agg(DISTINCT name), '[]') FROM pg_catalog.pg_available_extension_versions "
        f"WHERE trusted AND name IN ({names})"
    )
    missing = [item["name"] for item in extensions if item["name"] not in trusted]
    if missing:
        raise PostgresError(f"{who['user']} may not make the extension {', '.join(missing)}; {CURE}")


def make_extensions(session: postgres.Session, owner: str, extensions: list[dict[str, Any]]) -> None:
    identifier = _content_manifest.identifier
    for item in extensions:
        if item["schema"] not in ("public", "pg_catalog"):
            session.ask(f"CREATE SCHEMA IF NOT EXISTS {identifier(item['schema'])} AUTHORIZATION {identifier(owner)}")
        schema = "" if item["schema"] == "pg_catalog" else f" SCHEMA {identifier(item['schema'])}"
        # The version that the server has: that of the dump may not be there any more.
        session.ask(f"CREATE EXTENSION IF NOT EXISTS {identifier(item['name'])}{schema} CASCADE", 120)


def restore(
    client: _postgres.Client,
    target: Any,
    name: str,
    params: dict[str, Any],
    there: list[dict[str, Any]],
    newer: bool,
    deadline: float,
) -> None:
    """Restore the dump into the scratch database, or raise PostgresError.

    A client that is newer than the server makes settings that this one does not know; nothing else may fail.
    """
    program, dump = f"{client.directory}/pg_restore", os.path.join(params["path"], "dump")
    env = postgres.environment(target, name)
    with tempfile.TemporaryDirectory() as folder:
        toc, wanted = os.path.join(folder, "toc"), os.path.join(folder, "wanted")
        postgres.Child([program, "--list", "-f", toc, dump], env).wait(deadline)
        schemas = [item["schema"] for item in there if item["schema"] not in ("public", "pg_catalog")]
        with open(toc, encoding="utf-8") as source, open(wanted, "w", encoding="utf-8") as to:
            to.writelines(_postgres.without(source, [item["name"] for item in there], schemas))
        child = postgres.Child(
            [
                *(program, "-w", f"-j{params['jobs']}", "--no-owner", "--no-privileges", "--no-publications"),
                *("--no-subscriptions", "--no-security-labels", "--no-tablespaces"),
                *([] if newer else ["--exit-on-error"]),
                *("-L", wanted, "-d", name, dump),
            ],
            env,
            target.password,
        )
        try:
            child.wait(deadline)
        except PostgresError:
            if not (newer and _postgres.only_unknown_settings(child.all_lines())):
                raise


def compare(session: postgres.Session, kept: dict[str, Any], deadline: float) -> list[str]:
    """What differs in the restored database."""
    server = session.json(_postgres.SERVER)
    tables = session.json(_content_manifest.TABLES)
    hashed = any(table["hash"] is not None for table in kept["tables"]) or kept["large_objects"] is not None
    return _content_manifest.differences(kept, postgres.read_content(session, server, tables, hashed, deadline))


def room(kept: dict[str, Any], server: dict[str, Any], target: Any, factor: float) -> None:
    place = postgres.data_directory(server, target.local)
    if place is None:
        return
    free, needed = postgres.free(place), int(kept["bytes"] * factor)
    if free < needed:
        raise PostgresError(
            f"the scratch database takes about {needed >> 20} MB, and the server's disk ({place}) has {free >> 20} MB "
            "free. Free some space there, or compare checksums only: -e backup_verify=checksum"
        )


def verify(params: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore and compare. Returns the content manifest, what differs, and what was swept."""
    deadline = time.monotonic() + params["deadline"]
    with open(os.path.join(params["path"], "content.json"), encoding="utf-8") as stream:
        kept = _content_manifest.decode(stream.read())
    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    tools = postgres.Tools(params["bin_dir"])
    with postgres.connect(tools, target) as session:
        server = session.json(_postgres.SERVER)
    with admin_session(params, tools, target, target.database) as admin:
        who = admin.json(_postgres.SERVER)
        if who["system"] != server["system"]:
            raise PostgresError("the administrator's connection leads to another server than the application's")
        check_rights(admin, who, kept["extensions"])
        scratch = Scratch(admin, target.database, server["number"])
        swept = scratch.sweep()
        room(
            kept,
            {**server, "data_directory": who["data_directory"] or server["data_directory"]},
            target,
            params["disk_factor"],
        )
        client = tools.for_server(server)
        name = scratch.create(server["user"], kept["settings"])
        try:
            there = kept["extensions"] if who["user"] != server["user"] else []
            if there:
                with admin_session(params, tools, target, name) as inside:
                    make_extensions(inside, server["user"], there)
            try:
                newer = client.version[0] > server["number"] // 10000
                restore(client, target, name, params, there, newer, deadline)
            except PostgresError as exc:
                raise Damaged(f"it can't be restored: {exc}") from exc
            with postgres.connect(tools, target, name) as session:
                return kept, compare(session, kept, deadline), swept
        finally:
            scratch.drop(name)


def judge(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    how = "checksum" if check_mode else params["how"]
    differences: list[str] = []
    dropped: list[str] = []
    try:
        artifact = check_files(params)
        if how == "checksum":
            verdict, evidence = "pass", f"{len(artifact['files'])} files are what they were"
        else:
            kept, differences, dropped = verify(params)
            rows = sum(table["rows"] for table in kept["tables"])
            what = f"{len(kept['tables'])} tables with {rows} rows"
            verdict, evidence = "pass", f"{what}, restored into a scratch database, are what was kept"
            if differences:
                verdict, evidence = "fail", f"the restored database is not what was kept: {'; '.join(differences)}"
    except Damaged as exc:
        verdict, evidence = "fail", str(exc)
    except _content_manifest.ContentError as exc:
        verdict, evidence = "fail", f"content.json can't be used: {exc}"
    except (PostgresError, OSError) as exc:
        verdict, evidence = "error", f"it could not be restored into a scratch database: {exc}"
    return {
        "verdict": verdict,
        "evidence": one_line(evidence, 600),
        "how": how,
        "differences": differences,
        "dropped": dropped,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "artifact": {"type": "dict"},
            "how": {"type": "str", "choices": ["restore", "checksum"], "default": "restore"},
            "url": {"type": "str", "no_log": True},
            "env_file": {"type": "path"},
            "env_key": {"type": "str", "default": "DATABASE_URL", "no_log": False},
            "admin_command": {"type": "list", "elements": "str", "default": []},
            "admin_url": {"type": "str", "no_log": True},
            "bin_dir": {"type": "path"},
            "jobs": {"type": "int", "default": 2},
            "disk_factor": {"type": "float", "default": 1.3},
            "deadline": {"type": "float", "default": 7200},
            "journal": JOURNAL_SPEC,
        },
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        required_if=[("how", "restore", ("url", "env_file"), True)],
        supports_check_mode=True,
    )
    started = time.monotonic()
    with postgres.orderly(), Recorder(module.params["journal"], module.check_mode, "database").heartbeat():
        result = judge(module.params, module.check_mode)
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 3), **result)


if __name__ == "__main__":
    main()
