# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what an HTTP endpoint answered with what is expected of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line


class Expected(NamedTuple):
    """What counts as a good answer. Conditions left out are not checked."""

    status: Sequence[int] = (200,)
    json_field: str | None = None
    json_values: Sequence[Any] = ()
    contains: str | None = None


def excerpt(body: bytes, limit: int = 120) -> str:
    """Return the beginning of a body for a message, in one line and without secrets."""
    return one_line(mask(body[: limit * 8].decode("utf-8", "replace")), limit) or "an empty body"


def _same(value: Any, wanted: Any) -> bool:
    # A setting may come as text ("true", "1") where JSON has the value itself.
    return str(wanted) == (value if isinstance(value, str) else json.dumps(value)) or (
        type(value) is type(wanted) and value == wanted
    )


def judge(expected: Expected, status: int, body: bytes) -> tuple[bool, str]:
    """Return whether an answer is as expected, and what was seen, as the end of a sentence about the URL."""
    if status not in expected.status:
        wanted = " or ".join(str(code) for code in expected.status)
        return False, f"answered {status}, expected {wanted}: {excerpt(body)}"
    seen = f"answered {status}"
    if expected.json_field:
        try:
            value = json.loads(body.decode("utf-8"))
        except ValueError:
            return False, f"{seen}, but not in JSON: {excerpt(body)}"
        for key in expected.json_field.split("."):
            if not isinstance(value, dict) or key not in value:
                return False, f"{seen} without the field {expected.json_field!r}: {excerpt(body)}"
            value = value[key]
        shown = one_line(mask(json.dumps(value, ensure_ascii=False)), 80)
        seen = f"{seen}, {expected.json_field} is {shown}"
        if expected.json_values and not any(_same(value, wanted) for wanted in expected.json_values):
            wanted = " or ".join(json.dumps(item, ensure_ascii=False) for item in expected.json_values)
            return False, f"{seen}, expected {wanted}: {excerpt(body)}"
    if expected.contains is not None:
        if expected.contains.encode() not in body:
            return False, f"{seen}, but without {expected.contains!r}: {excerpt(body)}"
        seen = f"{seen}, with {expected.contains!r}"
    return True, seen
