#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_integrity
short_description: Check that what a database declares really holds, and that its schema is the one that is expected
version_added: "0.1.0"
description:
  - Looks for the rows behind every foreign key, validated or not, in place of only listing the keys; for indexes that
    are not valid, and constraints that were never validated.
  - Compares the schema with expected lines, and reports rows and hashes of tables, where that is asked for.
  - Everything is asked in one read-only transaction, and so of one instant. Each question has a timeout.
  - A database that does not hold, or can't be asked, is a result (RV(verdict)), not a failure of the module.
options:
  database:
    description: Name of another database on the same server, such as a candidate. By default the application's own.
    type: str
  known:
    description:
      - What was so before and is no failure. Of constraints and indexes the C(name) as in RV(unvalidated) and
        RV(invalid_indexes), of schemas the line as in RV(schema_differences).
      - Orphans of a constraint that is named here are no failure where it is not validated.
    type: list
    elements: str
    default: []
  known_orphans:
    description: C(name) of a foreign key, as in RV(orphans), to how many orphans it had before. No more are no failure.
    type: dict
    default: {}
  schema_file:
    description: File on the host with the lines that are expected, as a JSON list, as RV(schema) gave them elsewhere.
    type: path
  want_schema:
    description: Whether to return RV(schema).
    type: bool
    default: false
  version_table:
    description: Alembic's version table, which is no part of the schema; outside of C(public) with its schema.
    type: str
    default: alembic_version
  content:
    description: >-
      What to return of each table (RV(tables)), nothing, its number of V(rows), or also a V(hash) of them as in
      C(content.json) of a backup.
    type: str
    choices: [none, rows, hash]
    default: none
  only_tables:
    description: Tables to return the content of; outside of C(public) with their schema. By default all.
    type: list
    elements: str
  question_timeout:
    description: Seconds that the server may take for one question, such as one foreign key or one table.
    type: float
    default: 300
  deadline:
    description: Seconds that all of it may take. What is not checked by then is RV(unchecked).
    type: float
    default: 1800
extends_documentation_fragment:
  - sparklio.rollback.postgres
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
- name: Look at the live database first, for what is not of the rollback's making
  sparklio.rollback.pg_integrity:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
  register: before

- name: Check the candidate
  sparklio.rollback.pg_integrity:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    database: sparklio_v4_candidate
    known: "{{ (before.unvalidated + before.invalid_indexes) | map(attribute='name') }}"
    schema_file: "{{ run_info.path }}/schema.json"
    content: hash
  register: candidate
"""

RETURN = r"""
verdict:
  description: >-
    V(pass), V(fail) when something does not hold or the schema is another, V(error) when the database can't be asked,
    or nothing failed and not everything could be checked.
  returned: always
  type: str
  sample: pass
evidence:
  description: What was seen, in one line.
  returned: always
  type: str
  sample: 12 foreign keys hold, and every index is valid; the schema is as expected
database:
  description: The database that was checked, or none.
  returned: always
  type: str
foreign_keys:
  description: How many foreign keys were checked.
  returned: always
  type: int
orphans:
  description: >-
    Foreign keys with rows that refer to nothing, each with C(name), C(table), C(constraint), C(references), C(count),
    an C(example) of their key, and whether it is C(known).
  returned: always
  type: list
  elements: dict
  sample:
    - name: orders_user_fk on orders
      table: orders
      constraint: orders_user_fk
      references: users
      validated: true
      count: 3
      example: "[17]"
      known: false
invalid_indexes:
  description: Indexes that are not valid, each with C(name), C(table), C(index) and C(known).
  returned: always
  type: list
  elements: dict
unvalidated:
  description: Constraints that were never validated, each with C(name), C(table), C(constraint) and C(known).
  returned: always
  type: list
  elements: dict
unchecked:
  description: What could not be checked, each with C(name) and C(reason).
  returned: always
  type: list
  elements: dict
schema_differences:
  description: What differs from O(schema_file), also where O(known) names it. None without it.
  returned: always
  type: list
  elements: str
  sample: ["index ix_users_email on users: missing"]
schema:
  description: The schema as lines, with O(want_schema).
  returned: always
  type: list
  elements: str
tables:
  description: Name of a table to its C(rows) and C(hash), with O(content).
  returned: always
  type: dict
  sample: {users: {rows: 120, hash: "-8123410000"}}
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.8
"""

import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _integrity,
    _postgres,
    _schema_lines,
    integrity,
    postgres,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

NOTHING: dict[str, Any] = {
    "database": None,
    "foreign_keys": 0,
    **{name: [] for name in ("orphans", "invalid_indexes", "unvalidated", "unchecked")},
    **dict.fromkeys(("schema_differences", "schema", "tables")),
}


def read_content(questions: integrity.Questions, params: dict[str, Any], number: int, found: dict[str, Any]) -> None:
    """Fill in what the tables hold."""
    found["tables"] = {}
    only = params["only_tables"]
    for table in questions.ask(_content_manifest.TABLES):
        name = _content_manifest.table_name(table)
        if only is not None and name not in only:
            continue
        try:
            sql = _content_manifest.content_of(table, params["content"] == "hash", number >= 140000)
            found["tables"][name] = questions.ask(sql)
        except integrity.CannotAsk as exc:
            found["unchecked"].append({"name": f"rows of {name}", "reason": str(exc)})


def examine(params: dict[str, Any], found: dict[str, Any]) -> None:
    """Fill in what is found, or raise integrity.CannotAsk, PostgresError, OSError or ValueError."""
    deadline = time.monotonic() + params["deadline"]
    wanted = None
    if params["schema_file"]:
        with open(params["schema_file"], encoding="utf-8") as stream:
            wanted = json.load(stream)
        if not isinstance(wanted, list) or not wanted or not all(isinstance(line, str) for line in wanted):
            raise ValueError(f"{params['schema_file']} holds no list of lines")
    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    found["database"] = params["database"] or target.database
    try:
        session = postgres.connect(postgres.Tools(params["bin_dir"]), target, params["database"])
    except PostgresError as exc:
        raise PostgresError(f"{target._replace(database=found['database']).shown}: {exc}") from exc
    with session:
        number = session.json(_postgres.SERVER)["number"]
        questions = integrity.Questions(session, params["question_timeout"], deadline)
        if wanted is not None or params["want_schema"]:
            lines = questions.ask(_schema_lines.query(params["version_table"]))
            found["schema"] = lines if params["want_schema"] else None
            found["schema_differences"] = None if wanted is None else _schema_lines.differences(wanted, lines)
        integrity.check(questions, params["known"], params["known_orphans"], found)
        if params["content"] != "none":
            read_content(questions, params, number, found)
        session.ask("ROLLBACK")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **postgres.SPEC,
            "database": {"type": "str"},
            "known": {"type": "list", "elements": "str", "default": []},
            "known_orphans": {"type": "dict", "default": {}},
            "schema_file": {"type": "path"},
            "want_schema": {"type": "bool", "default": False},
            "version_table": {"type": "str", "default": "alembic_version"},
            "content": {"type": "str", "choices": ["none", "rows", "hash"], "default": "none"},
            "only_tables": {"type": "list", "elements": "str"},
            "question_timeout": {"type": "float", "default": 300},
            "deadline": {"type": "float", "default": 1800},
        },
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file")],
        supports_check_mode=True,
    )
    started = time.monotonic()
    found = {name: list(value) if isinstance(value, list) else value for name, value in NOTHING.items()}
    try:
        examine(module.params, found)
        verdict, evidence = _integrity.judge(found, module.params["known"])
    except (integrity.CannotAsk, PostgresError, OSError, ValueError) as exc:
        verdict, evidence = "error", f"the database could not be checked: {exc}"
    module.exit_json(
        changed=False,
        verdict=verdict,
        evidence=one_line(evidence, 600),
        seconds=round(time.monotonic() - started, 3),
        **found,
    )


if __name__ == "__main__":
    main()
