#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_readiness
short_description: Find out what stands in the way of replacing a database by a copy of it
version_added: "0.1.0"
description:
  - A schema rollback copies the database, changes the copy, and swaps it in by rename. That takes rights and disk,
    nobody else who changes the schema, and no prepared transaction, logical replication slot or subscription.
  - Asks for all of it, and how much would be lost with given tables and columns. Changes nothing, and holds no lock but
    that of a reader.
  - What it finds is judged by others. A database that can't be asked is a result (RV(error)), not a failure of the
    module.
options:
  lost:
    description: Tables and columns to count.
    type: list
    elements: dict
    default: []
    suboptions:
      table:
        description: Name of the table; outside of C(public) with its schema, as in V(archive.users).
        type: str
        required: true
      column:
        description: Name of a column, to count in how many rows it holds something.
        type: str
  count_timeout:
    description: Seconds that the server may take to count one table, or wait for its lock. It is not counted then.
    type: float
    default: 5
  copies:
    description: How many copies of the database have to fit beside it, such as the candidate and the rehearsal.
    type: int
    default: 2
  disk_factor:
    description: How much of the size of the database one copy may take.
    type: float
    default: 1.3
  version_table:
    description:
      - Alembic's version table, as M(sparklio.rollback.alembic_info) answers.
      - Without a schema it is one of that name in any.
    type: str
    default: alembic_version
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 60
extends_documentation_fragment:
  - sparklio.rollback.postgres
  - sparklio.rollback.postgres.admin
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Ask what stands in the way of a schema rollback
  sparklio.rollback.pg_readiness:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
    lost:
      - table: brand_learnings
      - table: users
        column: nickname
  register: readiness
"""

RETURN = r"""
error:
  description: Why it could not be asked, in one line without secrets, or none. All else is then as far as it was known.
  returned: always
  type: str
  sample: 'postgresql://127.0.0.1:5432/sparklio_v4: FATAL: password authentication failed for user "sparklio_user"'
database:
  description: Name of the database, or none.
  returned: always
  type: str
  sample: sparklio_v4
identity:
  description: The same for two addresses only where they lead to the same database, or none.
  returned: always
  type: str
  sample: 7391204856123456789/16384
bytes:
  description: Its size.
  returned: always
  type: int
server_version:
  description: Version of the server.
  returned: always
  type: str
  sample: 15.18 (Debian 15.18-0+deb12u1)
number:
  description: The same as a number.
  returned: always
  type: int
  sample: 150018
user:
  description: The application's role.
  returned: always
  type: str
  sample: sparklio_user
owner:
  description: Owner of the database.
  returned: always
  type: str
  sample: sparklio_user
maker:
  description: Who makes the databases, the administrator where one is named, else the application's role.
  returned: always
  type: str
  sample: postgres
superuser:
  description: Whether RV(maker) is a superuser.
  returned: always
  type: bool
createdb:
  description: Whether RV(maker) may make databases.
  returned: always
  type: bool
owns:
  description: Whether RV(maker) may copy and rename the database, as its owner may.
  returned: always
  type: bool
can_terminate:
  description: Whether RV(maker) may end every one of RV(sessions).
  returned: always
  type: bool
untrusted:
  description: Extensions of the database that RV(maker) may not make. It takes that to restore a dump, not to copy.
  returned: always
  type: list
  elements: str
unsettable:
  description: >-
    Parameters that are set on the database, for all or for a role in it, and that RV(maker) may not set on another: a
    copy, or the database that an undo in place restores, would lack them.
  returned: always
  type: list
  elements: str
  sample: [log_min_duration_statement, work_mem of role postgres]
strangers:
  description: >-
    Roles that own something in the database, and that RV(maker) is no member of. It takes that to restore a dump as it
    was, as an undo in place does, not to copy.
  returned: always
  type: list
  elements: str
  sample: [postgres]
disk:
  description: >-
    Where the server keeps the database (C(path)), how many bytes are C(free) there, and how many are C(needed) for
    O(copies). None where the server is not on this host, or does not say.
  returned: always
  type: dict
  sample: {path: /var/lib/postgresql/15/main, free: 21474836480, needed: 2791728742}
sessions:
  description: >-
    Who else is connected to the database: C(pid), C(user), C(application), C(state), C(seconds) since that changed,
    C(transaction_seconds), and whether RV(maker) may end it (C(terminable)). What may not be seen is none.
  returned: always
  type: list
  elements: dict
  sample:
    - pid: 4711
      user: sparklio_user
      application: uvicorn
      state: idle
      seconds: 3.2
      transaction_seconds: null
      terminable: true
migrating:
  description: >-
    Who holds the version table otherwise than to read it, or has read it and writes in the same transaction, or holds
    any table for itself alone, or changes an index of one concurrently, or is C(waiting) to: C(pid), C(user),
    C(application), C(tables), C(seconds) since its transaction began, and C(query) without the values in it.
  returned: always
  type: list
  elements: dict
  sample:
    - pid: 4712
      user: sparklio_user
      application: alembic
      waiting: false
      tables: [alembic_version]
      seconds: 12.5
      query: ALTER TABLE users ADD COLUMN nickname text
prepared:
  description: Prepared transactions of the database, with C(gid), C(owner) and C(seconds).
  returned: always
  type: list
  elements: dict
slots:
  description: Logical replication slots of the database, with C(name), C(plugin) and C(active).
  returned: always
  type: list
  elements: dict
subscriptions:
  description: Subscriptions of the database, with C(name) and C(enabled).
  returned: always
  type: list
  elements: dict
timeouts:
  description: >-
    Timeouts that would end a migration by the application's role, with C(setting) and C(where) it is set (V(role),
    V(database), V(role in database), V(all roles), or V(server) for its configuration or the address itself).
  returned: always
  type: list
  elements: dict
  sample: [{where: role, setting: statement_timeout=30s}]
lost:
  description: >-
    Each of O(lost), with C(table), C(column), C(rows) of the table, and C(non_null), the rows in which the column holds
    something. Where they could not be counted both are none, and C(reason) says why.
  returned: always
  type: list
  elements: dict
  sample: [{table: users, column: nickname, rows: 1200, non_null: 800, reason: null}]
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.3
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _postgres,
    _readiness,
    postgres,
    scratch,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

NOTHING: dict[str, Any] = {
    **dict.fromkeys(
        ("database", "identity", "bytes", "server_version", "number", "user", "owner", "maker", "disk", "error")
    ),
    **dict.fromkeys(("superuser", "createdb", "owns", "can_terminate"), False),
    **{
        name: []
        for name in (
            *("untrusted", "unsettable", "strangers", "sessions", "migrating", "prepared", "slots", "subscriptions"),
            *("timeouts", "lost"),
        )
    },
}
#: What the server says where it took too long, or a lock did.
_TOO_SLOW = ("57014", "55P03")


def count(
    session: postgres.Session, wanted: list[dict[str, Any]], timeout: float, deadline: float
) -> list[dict[str, Any]]:
    """Count the tables and columns that were asked for, each table once."""
    relations = session.json(_readiness.RELATIONS)
    answers: dict[tuple[str, str], dict[str, Any]] = {}
    found = []
    for item in wanted:
        relation = _content_manifest.find_table(item["table"], relations)
        if relation is None:
            found.append({**item, "rows": None, "non_null": None, "reason": "there is no such table"})
            continue
        key = (relation["schema"], relation["name"])
        if key not in answers:
            named = {
                other["column"]
                for other in wanted
                if _content_manifest.find_table(other["table"], relations) == relation
            }
            columns = [name for name in relation["columns"] if name in named]
            answers[key] = ask_count(session, _readiness.count(relation, columns), timeout, deadline)
        answer, column = answers[key], item["column"]
        missing = column is not None and column not in relation["columns"]
        found.append(
            {
                **item,
                "rows": answer["rows"],
                "non_null": answer["columns"].get(column),
                "reason": "there is no such column" if missing else answer["reason"],
            }
        )
    return found


def ask_count(session: postgres.Session, question: str, timeout: float, deadline: float) -> dict[str, Any]:
    left = min(timeout, deadline - time.monotonic())
    if left <= 0:
        return {"rows": None, "columns": {}, "reason": "there was no time left to count it"}
    limit = max(1, int(left * 1000))
    session.ask(f"SET statement_timeout = {limit}; SET lock_timeout = {limit}")
    try:
        return {**session.json(question, left + 5), "reason": None}
    except PostgresError as exc:
        why = f"it was not counted within {left:.1f} s" if exc.state in _TOO_SLOW else str(exc)
        return {"rows": None, "columns": {}, "reason": why}
    finally:
        session.ask("SET statement_timeout = 0")


def room(server: dict[str, Any], location: str | None, target: Any, params: dict[str, Any]) -> dict[str, Any] | None:
    path = postgres.data_directory({"data_directory": location or server["data_directory"]}, target.local)
    if path is None:
        return None
    needed = int(server["bytes"] * params["disk_factor"] * params["copies"])
    return {"path": path, "free": postgres.free(path), "needed": needed}


def ask(params: dict[str, Any], found: dict[str, Any]) -> None:
    """Fill in what is found, as far as it gets, or raise PostgresError."""
    deadline = time.monotonic() + params["deadline"]
    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    tools = postgres.Tools(params["bin_dir"])
    found["database"] = target.database
    try:
        session = postgres.connect(tools, target)
    except PostgresError as exc:
        raise PostgresError(f"{target.shown}: {exc}") from exc
    with session:
        server = session.json(_postgres.SERVER)
        found.update(bytes=server["bytes"], server_version=server["version"], number=server["number"])
        own = session.json(_readiness.RIGHTS)
        found.update(user=server["user"], owner=own["owner"], identity=f"{server['system']}/{own['oid']}")
        beneath = session.json(_readiness.TIMEOUTS_BENEATH)
        # Of two sessions the administrator's sees more.
        with postgres.admin_session(params, tools, target, target.database) as admin:
            who = admin.json(_postgres.SERVER)
            postgres.same_server(who, server)
            rights = admin.json(_readiness.RIGHTS)
            ours = [int(each.ask("SELECT pg_backend_pid()")) for each in (session, admin)]
            found.update(
                maker=who["user"],
                superuser=who["superuser"],
                createdb=who["createdb"],
                owns=rights["owns"],
                untrusted=scratch.untrusted(admin, who, admin.json(_content_manifest.EXTENSIONS)),
                unsettable=admin.json(_readiness.unsettable(target.database, server["number"])),
                strangers=admin.json(_readiness.strangers(server["number"])),
                disk=room(
                    {**server, "data_directory": who["data_directory"] or server["data_directory"]},
                    rights["location"],
                    target,
                    params,
                ),
                sessions=admin.json(_readiness.sessions(ours)),
                migrating=[
                    {**item, "query": _readiness.statement(item["query"])}
                    for item in admin.json(_readiness.migrating(params["version_table"], ours))
                ],
                prepared=admin.json(_readiness.PREPARED),
                slots=admin.json(_readiness.SLOTS),
                subscriptions=admin.json(_readiness.SUBSCRIPTIONS),
                timeouts=_readiness.all_timeouts(admin.json(_readiness.timeouts(server["user"])), beneath),
            )
            found["can_terminate"] = all(item["terminable"] for item in found["sessions"])
            found["lost"] = count(admin, params["lost"], params["count_timeout"], deadline)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            "lost": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"table": {"type": "str", "required": True}, "column": {"type": "str"}},
            },
            "count_timeout": {"type": "float", "default": 5},
            "copies": {"type": "int", "default": 2},
            "disk_factor": {"type": "float", "default": 1.3},
            "version_table": {"type": "str", "default": "alembic_version"},
            "deadline": {"type": "float", "default": 60},
        },
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        supports_check_mode=True,
    )
    started = time.monotonic()
    found = dict(NOTHING)
    try:
        ask(module.params, found)
    except PostgresError as exc:
        found["error"] = str(exc)
    except OSError as exc:
        found["error"] = f"{exc.filename or 'a file'} can't be read: {exc.strerror}"
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 3), **found)


if __name__ == "__main__":
    main()
