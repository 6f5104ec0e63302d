#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_check
short_description: Ask all parts of the system at the same time
version_added: "0.1.0"
description:
  - Does what M(sparklio.rollback.http_check), M(sparklio.rollback.alembic_info), M(sparklio.rollback.redis_check),
    M(sparklio.rollback.object_store_check), M(sparklio.rollback.serving_proof) and
    M(sparklio.rollback.metric_error_rate) do, all at once, so that it takes as long as the slowest of them.
  - A verdict is a result. The module fails only on settings that make no sense.
options:
  http:
    description:
      - Options of M(sparklio.rollback.http_check), by their names. Left out, no endpoint is asked.
      - Options that hold a secret, such as headers, are not taken, here and in the others.
    type: dict
  database:
    description: Options of M(sparklio.rollback.alembic_info). Left out, the database is not asked.
    type: dict
  redis:
    description: Options of M(sparklio.rollback.redis_check), with the address from O(ignore:env_file).
    type: dict
  objects:
    description: Options of M(sparklio.rollback.object_store_check). Left out, the object store is not asked.
    type: dict
  serving:
    description: Options of M(sparklio.rollback.serving_proof). Left out, it is not proven which release serves.
    type: dict
  error_rate:
    description: Options of M(sparklio.rollback.metric_error_rate). Left out, it is not measured.
    type: dict
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same; requests that write are not made.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Ask the backend and Redis
  sparklio.rollback.system_check:
    http:
      checks:
        - name: health
          url: http://127.0.0.1:8000/health
    redis:
      env_file: ~/sparklio_ai_marketing_studio/backend/.env
  register: system
"""

RETURN = r"""
http:
  description: All that M(sparklio.rollback.http_check) returns.
  returned: O(http) is given
  type: dict
  sample: {"verdict": "pass", "verdicts": []}
database:
  description: All that M(sparklio.rollback.alembic_info) returns.
  returned: O(database) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "connected to 15.20", "connected": true}
redis:
  description: All that M(sparklio.rollback.redis_check) returns.
  returned: O(redis) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "redis://127.0.0.1:6379/0 answered PONG"}
objects:
  description: All that M(sparklio.rollback.object_store_check) returns.
  returned: O(objects) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "http://127.0.0.1:9000 shows the bucket sparklio-assets"}
serving:
  description: All that M(sparklio.rollback.serving_proof) returns.
  returned: O(serving) is given
  type: dict
  sample: {"verdicts": []}
error_rate:
  description: All that M(sparklio.rollback.metric_error_rate) returns.
  returned: O(error_rate) is given
  type: dict
  sample: {"verdict": "pass", "evidence": "0 of 214 bad = 0.00 %", "rate_percent": 0.0}
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 2.1
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    error_rate,
    http_checks,
    object_store,
    redis_ping,
    schema,
    serving,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.together import Measure, together, validated

PARTS = {
    "http": http_checks,
    "database": schema,
    "redis": redis_ping,
    "objects": object_store,
    "serving": serving,
    "error_rate": error_rate,
}


def prepare(name: str, options: Mapping[str, Any], check_mode: bool) -> Measure:
    """Return what asks as the options say, or raise ValueError."""
    params = validated(PARTS[name].ARGUMENT_SPEC, options)
    if name == "redis" and not params["env_file"]:
        raise ValueError("missing required arguments: env_file")
    if name == "error_rate":
        return error_rate.prepare(params)
    if name == "http":
        for check in params["checks"]:
            check["headers"] = {}
        return partial(http_checks.answer, params, check_mode)
    return partial(PARTS[name].answer, params)


def main() -> None:
    module = AnsibleModule(argument_spec={name: {"type": "dict"} for name in PARTS}, supports_check_mode=True)
    start = time.monotonic()
    measures = {}
    for name in PARTS:
        if module.params[name] is not None:
            try:
                measures[name] = prepare(name, module.params[name], module.check_mode)
            except ValueError as exc:
                module.fail_json(msg=f"The settings of {name} can't be used: {exc}.")
    module.exit_json(changed=False, **together(measures), seconds=round(time.monotonic() - start, 3))


if __name__ == "__main__":
    main()
