#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_table
short_description: Bring one table of a restore point into the live database, beside what is there
version_added: "0.1.0"
description:
  - The table comes into a schema of its own, C(restored_) and the restore point's id. Nothing that is there is changed,
    and whoever wants rows of it takes them by a statement that RV(next) names.
  - All files of the dump are compared with their SHA-256 first. The table is then restored into a scratch database on
    the same server, as by M(sparklio.rollback.pg_verify), and copied from there in one transaction, which ends only
    when its rows and their hash are those that were kept.
  - It has its primary key, and no foreign keys, defaults, checks or triggers, so that nothing depends on it. Columns
    whose type the database does not have any more, or has with another definition, are text.
  - A table of that name in that schema is never replaced.
options:
  backups:
    description: Directory of the restore points.
    type: path
    required: true
  id:
    description:
      - The restore point, or V(newest) for the newest whole one with a database of the kinds deploy and manual, so none
        that a rollback made. RV(id) says which one it is.
    type: str
    required: true
  table:
    description: Name of the table as it was then; outside of C(public) with its schema, as in V(archive.users).
    type: str
    required: true
  disk_factor:
    description: >-
      How many times the size of the table's compressed dump has to be free where the server keeps its data, where that
      is on this host and known. It is there twice for a while, in the scratch database and in the live one.
    type: float
    default: 30
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 3600
extends_documentation_fragment:
  - sparklio.rollback.postgres
  - sparklio.rollback.postgres.admin
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Compares the checksums, and asks the database for all that would be in the way. Nothing is made.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Bring the users of before the deploy back, beside those of now
  sparklio.rollback.pg_restore_table:
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    id: 20250115T050000Z-deploy
    table: users
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
  register: restored
"""

RETURN = r"""
id:
  description: The restore point that it is from.
  returned: success
  type: str
  sample: 20250115T050000Z-deploy
schema:
  description: The schema that it is in, or would be.
  returned: success
  type: str
  sample: restored_20250115t050000z_deploy
table:
  description: What it is called there.
  returned: success
  type: str
  sample: restored_20250115t050000z_deploy.users
rows:
  description: How many rows it has.
  returned: success
  type: int
  sample: 1200
primary_key:
  description: Columns of its primary key; empty where it has none, or in check mode.
  returned: success
  type: list
  elements: str
  sample: [id]
as_text:
  description: Columns that came as text; empty in check mode.
  returned: success
  type: list
  elements: str
next:
  description: Statements to go on with, for somebody to choose from. The last one takes the restored table away.
  returned: success
  type: list
  elements: str
  sample:
    - SELECT count(*) FROM "restored_20250115t050000z_deploy"."users";
    - INSERT INTO "public"."users" ("id") SELECT "id" FROM "restored_…"."users" ON CONFLICT DO NOTHING;
    - DROP TABLE "restored_20250115t050000z_deploy"."users";
notes:
  description: What to know before.
  returned: success
  type: list
  elements: str
dropped:
  description: Scratch databases of earlier runs that were dropped.
  returned: success
  type: list
  elements: str
seconds:
  description: Seconds used.
  returned: success
  type: float
  sample: 2.1
"""

import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _manifest,
    _postgres,
    _restore_table,
    _schema_lines,
    postgres,
    restore_points,
    scratch,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError


class Refused(Exception):
    """It can't be restored. The message says why, and what to do."""


class NoDatabase(Refused):
    """The restore point is of something else."""


def find_artifact(backups: str, point_id: str) -> str:
    """Where the database's dump of a restore point lies, with every file of it as it was, or Refused."""
    try:
        place = restore_points.folder(backups, point_id)
        if not os.path.isdir(place):
            there = restore_points.ids(backups)
            raise Refused(
                f"there is no restore point {point_id} in {backups}; there is {', '.join(there[:8]) or 'none'}"
            )
        kept = _manifest.artifact(restore_points.read(place), "database")
    except restore_points.RestorePointError as exc:
        raise Refused(str(exc)) from exc
    if kept is None:
        raise NoDatabase(
            f"restore point {point_id} holds no database; list them: ansible-playbook -i INVENTORY "
            "playbooks/restore_points.yml"
        )
    path = os.path.join(place, kept["path"])
    try:
        scratch.check_files(path, kept)
    except scratch.Damaged as exc:
        raise Refused(f"restore point {point_id} is damaged: {exc}. Take another one") from exc
    return path


def find_point(backups: str, wanted: str) -> tuple[str, str, list[str]]:
    """The id of the restore point that is meant, where its dump lies, and what is wrong with newer ones; or Refused."""
    if wanted != _manifest.NEWEST:
        return wanted, find_artifact(backups, wanted), []
    passed_over = []
    for point_id in filter(_manifest.may_be_newest, restore_points.ids(backups)):
        try:
            return point_id, find_artifact(backups, point_id), passed_over
        except NoDatabase:
            continue
        except Refused as exc:
            passed_over.append(str(exc))
    why = "".join(f"; {text}" for text in passed_over[:2])
    raise Refused(f"no backup has made a whole restore point with a database in {backups}{why}")


def find_table(content: dict[str, Any], name: str) -> dict[str, Any]:
    table = _content_manifest.find_table(name, content["tables"])
    if table is None:
        names = sorted(map(_content_manifest.table_name, content["tables"]))
        raise Refused(f"there is no table {name} in it; there is {_content_manifest.listed(names, 60) or 'none'}")
    if not table["columns"]:
        raise Refused(f"the table {name} has no columns")
    return dict(table)


def refuse(session: postgres.Session, server: dict[str, Any], schema: str, name: str) -> None:
    """What is in the way in the live database."""
    literal, place = _content_manifest.literal, _content_manifest.identifier(schema, name)
    there = session.ask(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname = {literal(schema)} AND c.relname = {literal(name)})"
    )
    if there == "t":
        raise Refused(f"{schema}.{name} is there already, and nothing is replaced. To take it away: DROP TABLE {place}")
    rights = session.json(
        "SELECT jsonb_build_object('database', has_database_privilege(current_database(), 'CREATE'), 'schema', "
        "(SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n "
        f"WHERE n.nspname = {literal(schema)}))"
    )
    database = _content_manifest.identifier(server["database"])
    if rights["schema"] is False:
        raise Refused(f"{server['user']} may not make a table in the schema {schema}, which somebody else made")
    if rights["schema"] is None and not rights["database"]:
        raise Refused(
            f"{server['user']} may not make a schema in {server['database']}. As its owner: GRANT CREATE ON DATABASE "
            f"{database} TO {_content_manifest.identifier(server['user'])}"
        )


def prepare(
    client: _postgres.Client, target: Any, place: scratch.Made, dump: str, table: dict[str, Any], deadline: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Fill the scratch database with what the table needs, and its rows. Returns what it and the types are made of."""
    schema, name = table["schema"], table["name"]
    scratch.restore(client, target, place, dump, 1, deadline, options=["--section=pre-data"])
    scratch.restore(
        *(client, target, place, dump, 1, deadline),
        choose=lambda toc: _restore_table.constraint_lines(toc, schema, name),
    )
    with postgres.connect(postgres.Tools(client.directory), target, place.name) as session:
        found = session.json(_restore_table.described(schema, name))
        types = _schema_lines.parse(session.json(_schema_lines.query(kinds=_schema_lines.TYPES)))
        # They were needed to know the key; rows come in faster without.
        for constraint in found["constraints"]:
            names = (_content_manifest.identifier(schema, name), _content_manifest.identifier(constraint))
            session.ask("ALTER TABLE {} DROP CONSTRAINT {} CASCADE".format(*names))
    scratch.restore(
        *(client, target, place, dump, 1, deadline),
        options=["--data-only", "-n", schema, "-t", name],
    )
    return found, types


def restore(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Restore the table, or raise Refused or PostgresError."""
    deadline = time.monotonic() + params["deadline"]
    point_id, path, passed_over = find_point(params["backups"], params["id"])
    with open(os.path.join(path, "content.json"), encoding="utf-8") as stream:
        content = _content_manifest.decode(stream.read())
    table = find_table(content, params["table"])
    schema, dump = _restore_table.schema_name(point_id), os.path.join(path, "dump")
    found = {"id": point_id, "schema": schema, "table": f"{schema}.{table['name']}", "rows": table["rows"]}
    passed_over = [f"A newer restore point was passed over: {text}." for text in passed_over]
    found.update(primary_key=[], as_text=[], next=[], notes=passed_over, dropped=[])

    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    tools = postgres.Tools(params["bin_dir"])
    with postgres.connect(tools, target) as live:
        server = live.json(_postgres.SERVER)
        refuse(live, server, schema, table["name"])
        client = tools.for_server(server)
        toc = scratch.contents(client, dump, postgres.environment(target), deadline)
        with os.scandir(dump) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        content["bytes"] = _restore_table.data_size(toc, sizes, table["schema"], table["name"])
        if check_mode:
            scratch.could(params, tools, target, server, content["extensions"], content["bytes"])
            return found
        with scratch.made(params, tools, target, server, content) as place:
            found["dropped"] = place.swept
            made, types = prepare(client, target, place, dump, table, deadline)
            columns = made["columns"]
            there = live.json(_restore_table.types_there({item["base"] for item in columns}))
            known = _schema_lines.parse(live.json(_schema_lines.query(kinds=_schema_lines.TYPES)))
            text = _restore_table.as_text(columns, there, types, known)
            binary = [
                item["name"]
                for item in columns
                if item["kind"] in _content_manifest.BINARY and item["name"] not in text
            ]
            note = f"Restored from {point_id} by sparklio.rollback; nothing needs it"
            writing = (
                _restore_table.before(schema, table["name"], columns, text),
                _restore_table.after(schema, table, made["primary_key"], binary, note, server["number"] >= 140000),
            )
            postgres.copy_rows(
                tools, target, place.name, _restore_table.read_out(table, columns, text), writing, deadline
            )
        answer = live.ask(_restore_table.described(table["schema"], table["name"]))
        now = json.loads(answer) if answer else None
        steps, notes = _restore_table.next_steps(schema, table, columns, text, now)
    return {**found, "primary_key": made["primary_key"], "as_text": text, "next": steps, "notes": passed_over + notes}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            "backups": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "table": {"type": "str", "required": True},
            "disk_factor": {"type": "float", "default": 30},
            "deadline": {"type": "float", "default": 3600},
            "journal": JOURNAL_SPEC,
        },
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        supports_check_mode=True,
    )
    params, started = module.params, time.monotonic()
    try:
        with postgres.orderly(), Recorder(params["journal"], module.check_mode, "table").heartbeat():
            found = restore(params, module.check_mode)
    except (Refused, PostgresError, _content_manifest.ContentError) as exc:
        module.fail_json(msg=f"The table {params['table']} was not restored: {exc}.")
    except OSError as exc:
        module.fail_json(
            msg=f"The table {params['table']} was not restored: {exc.filename or params['backups']} can't be read "
            f"({exc.strerror}). Run it as the application's owner."
        )
    module.exit_json(changed=True, seconds=round(time.monotonic() - started, 3), **found)


if __name__ == "__main__":
    main()
