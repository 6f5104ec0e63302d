#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alembic_sql
short_description: Show the SQL by which revisions are taken back, without a database
version_added: "0.1.0"
description:
  - Lets Alembic write the SQL of each downgrade, through the application's own C(env.py) in its offline mode. No
    database is
    asked, and nothing is run.
  - A revision that reads data can't be written down without a database. It is named in RV(errors), and the others
    are shown all
    the same.
options:
  revisions:
    description: Revisions that are to be taken back, newest first.
    type: list
    elements: str
    required: true
  heads_before:
    description: For each of O(revisions) what the version table is at by then.
    type: list
    elements: list
    required: true
  env_file:
    description: File with the variables that C(env.py) needs, such as the backend's C(.env).
    type: path
  deadline:
    description: Seconds that it may take.
    type: float
    default: 60
extends_documentation_fragment:
  - sparklio.rollback.alembic
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
- name: Read what a downgrade would run
  sparklio.rollback.alembic_sql:
    revisions: [v4_0004_brand_learning]
    heads_before: [[v4_0004_brand_learning]]
    backend_dir: ~/sparklio_ai_marketing_studio/backend
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
"""

RETURN = r"""
revisions:
  description: The SQL of each revision, without secrets.
  returned: success
  type: dict
  sample: {v4_0004_brand_learning: "BEGIN;\n\nDROP TABLE brand_learnings;"}
errors:
  description: Why there is no SQL of a revision.
  returned: success
  type: dict
  sample: {v4_0005_backfill: "AttributeError: 'NoneType' object has no attribute 'execute'"}
error:
  description: Why there is none at all, or null.
  returned: success
  type: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import alembic


def read(params: dict[str, Any]) -> dict[str, Any]:
    revisions, before = params["revisions"], params["heads_before"]
    if not revisions:
        return {"revisions": {}, "errors": {}, "error": None}
    try:
        with alembic.OfflineSql({**params, "url": None, "env_key": "DATABASE_URL"}, revisions, before) as asked:
            sql, errors = asked.read(time.monotonic() + params["deadline"])
    except alembic.StepsError as exc:
        return {"revisions": {}, "errors": {}, "error": str(exc)}
    return {"revisions": sql, "errors": errors, "error": None}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "revisions": {"type": "list", "elements": "str", "required": True},
            "heads_before": {"type": "list", "elements": "list", "required": True},
            **alembic.ALEMBIC_SPEC,
            "env_file": {"type": "path"},
            "deadline": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    if len(module.params["revisions"]) != len(module.params["heads_before"]):
        module.fail_json(msg="revisions and heads_before do not have the same length; give the heads for each revision")
    module.exit_json(changed=False, **read(module.params))


if __name__ == "__main__":
    main()
