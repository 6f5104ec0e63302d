# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Redis says of itself, and what the two ends of a copy of its data must be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping


def parse_info(text: str) -> dict[str, str]:
    """Return the fields of INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value.strip() for name, sign, value in pairs if sign}


def keys(info: Mapping[str, str]) -> dict[str, int]:
    """Return the number of keys of each database that has any, such as ``{"0": 12}``."""
    found = {}
    for name, value in info.items():
        match = re.match(r"keys=(\d+)", value)
        if name.startswith("db") and name[2:].isdigit() and match:
            found[name[2:]] = int(match[1])
    return found


def rdb_problem(head: bytes, tail: bytes) -> str | None:
    """Why a file is no whole RDB, or None, as far as its first and last 9 bytes tell.

    Source: "Redis RDB Dump File Format": ``REDIS``, four digits, …, 0xFF, and since version 5 eight bytes of CRC64.
    """
    match = re.match(rb"REDIS(\d{4})", head)
    if not match:
        return "it does not begin as an RDB file does"
    end = tail[-9:-8] if int(match[1]) >= 5 else tail[-1:]
    return None if end == b"\xff" else "it does not end as an RDB file does"
