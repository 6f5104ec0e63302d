#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_lint
short_description: Lint the SQL of migrations with squawk, where Ansible runs
version_added: "0.1.0"
description:
  - Lints the SQL of each revision with L(squawk,https://squawkhq.com), on the controller, whatever the host is. Nothing
    is installed on a host, nor copied there.
  - Where squawk is missing, or gives no answer, RV(findings) is none and RV(reason) says why. It never fails for that.
options:
  sql:
    description: What to lint.
    type: list
    elements: dict
    required: true
    suboptions:
      revision:
        description: The revision that it belongs to.
        type: str
        required: true
      sql:
        description: Its statements.
        type: str
        required: true
  program:
    description: Where squawk is. By default on C(PATH), else beside the Python that runs Ansible.
    type: path
  exclude:
    description: >-
      Rules whose findings are left out. By default those for migrations of a live database that may be run twice: a
      schema rollback changes a copy, once; and that for the transaction which Alembic writes around each revision.
    type: list
    elements: str
    default: [prefer-robust-stmts, require-lock-timeout, require-statement-timeout, transaction-nesting]
  pg_version:
    description: Version of the server, such as V(15.0).
    type: str
  in_transaction:
    description: Whether the statements of a revision run in one transaction.
    type: bool
    default: true
  timeout:
    description: Seconds that it may take.
    type: float
    default: 30
attributes:
  check_mode:
    support: full
    description: It changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Lint what the downgrade would do
  sparklio.rollback.sql_lint:
    sql:
      - revision: v4_0003
        sql: ALTER TABLE users DROP COLUMN nickname;
    pg_version: "15.0"
  register: lint
"""

RETURN = r"""
findings:
  description: >-
    What was found, in the order of O(sql): C(revision), C(rule), C(level) (V(warning) or V(error)), C(message), and
    C(line), from 1. None where it was not linted.
  returned: always
  type: list
  elements: dict
  sample:
    - revision: v4_0003
      rule: ban-drop-column
      level: warning
      message: Dropping a column may break existing clients.
      line: 1
reason:
  description: Why it was not linted, or none.
  returned: always
  type: str
  sample: >-
    squawk is not installed, so the SQL was not linted. Install it where ansible-playbook runs: pip install squawk-cli
version:
  description: Version of squawk, or none.
  returned: always
  type: str
  sample: 2.70.0
"""
