#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alembic_info
short_description: Read which Alembic revisions a database is at, and how many rows it holds
version_added: "0.1.0"
description:
  - Asks the database through the application's own C(env.py), in its own virtual environment, so that the connection is
    made exactly as the application makes it. An C(env.py) that is synchronous or asynchronous will do.
  - Reports the heads that the version table holds even when the tree on disk does not know them, as after a checkout
    of an older release, where C(alembic current) fails with C(Can't locate revision).
  - Counts the rows of tables in the same transaction, so that what a database holds can be compared with what it held.
  - Changes nothing. Transactions on PostgreSQL are begun read-only, and no version table is made.
  - A database that can't be asked is a result (RV(verdict) is V(error)), not a failure of the module.
options:
  backend_dir:
    description: Directory with C(alembic.ini). The script runs in it, as the application does.
    type: path
    required: true
  config:
    description: Alembic's configuration file, relative to O(backend_dir).
    type: str
    default: alembic.ini
  python:
    description: The application's Python. By default that of the first of O(venvs) that exists.
    type: path
  venvs:
    description: Virtual environments to look for the application's Python in, relative to O(backend_dir).
    type: list
    elements: str
    default: [venv, .venv]
  env_file:
    description:
      - File of environment variables to add, for an application that gets its settings from a service manager.
        Variables that are set already stay.
      - A file that does not exist is an error.
    type: path
  expected_heads:
    description: Heads that the database must be at. By default those that the tree on disk declares.
    type: list
    elements: str
  count_tables:
    description:
      - Tables to count the rows of. C(*) and C(?) stand for any characters, as in V(brand*).
      - A count that fails does not touch the verdict.
    type: list
    elements: str
    default: []
  count_timeout:
    description: Seconds that PostgreSQL may take to count one table, and to wait for its lock.
    type: float
    default: 5
  deadline:
    description: Seconds until it gives up.
    type: float
    default: 20
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
- name: Read the revisions of the database
  sparklio.rollback.alembic_info:
    backend_dir: ~/sparklio_ai_marketing_studio/backend
    count_tables: [users, "brand*"]
  register: database
"""

RETURN = r"""
verdict:
  description: V(pass) when the heads are those expected, V(fail) when they differ, V(error) when they can't be read.
  returned: always
  type: str
  sample: pass
evidence:
  description: What was seen, in one line without secrets.
  returned: always
  type: str
  sample: connected to 15.18, at v4_0003, as the tree on disk declares
connected:
  description: Whether the database answered.
  returned: always
  type: bool
  sample: true
heads:
  description: Revisions in the version table, sorted. Null when it could not be read; empty when there is no table.
  returned: always
  type: list
  elements: str
  sample: [v4_0003]
tree_heads:
  description: Heads that the tree on disk declares, sorted. Null when they can't be read.
  returned: always
  type: list
  elements: str
  sample: [v4_0003]
version_table:
  description: >-
    The table in which Alembic keeps its revisions, as env.py configures it, with its schema where that is configured.
    Null when env.py could not be asked.
  returned: always
  type: str
  sample: alembic_version
server_version:
  description: Version of the database server.
  returned: always
  type: str
  sample: 15.18 (Debian 15.18-0+deb12u1)
error:
  description: Why the database could not be asked, or null.
  returned: always
  type: str
  sample: 'OperationalError: connection refused'
tree_error:
  description: Why the migrations on disk could not be read, or null.
  returned: always
  type: str
rows:
  description: Rows of each counted table. Null for one that does not exist; one that could not be counted is left out.
  returned: always
  type: dict
  sample: {"users": 120, "brands": 40, "brand_learnings": null}
rows_error:
  description: Why a table could not be counted, or null.
  returned: always
  type: str
  sample: 'workflows: QueryCanceled: canceling statement due to statement timeout'
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.8
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import schema


def main() -> None:
    module = AnsibleModule(argument_spec=schema.ARGUMENT_SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **schema.answer(module.params))


if __name__ == "__main__":
    main()
