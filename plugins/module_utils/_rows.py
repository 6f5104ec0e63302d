# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares how many rows a database's tables hold with how many they held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _verdict


def verdicts(counted: Mapping[str, Any], before: Mapping[str, int | None] | None = None) -> list[dict[str, Any]]:
    """Return one verdict a table, named ``data_<table>``.

    Args:
        counted: ``rows`` (None for a table that does not exist) and ``rows_error``, as alembic_info returns them.
        before: rows of each table before the change. A table that it does not name is only looked for. Fewer rows are
            no pass, and critical where more than half of them are gone: what a schema rollback leaves of each table is
            compared to the row while nobody can write, which these counts can't be.
    """
    rows = counted.get("rows") or {}
    if not rows:
        why = counted.get("error") or counted.get("rows_error") or "no table was counted"
        return [_verdict.make("data", "error", f"the rows could not be counted: {why}")]
    before = before or {}
    tables = [*rows, *(table for table, held in before.items() if held is not None and table not in rows)]
    return [_judge(table, rows, before.get(table), counted.get("rows_error")) for table in tables]


def _judge(table: str, rows: Mapping[str, int | None], before: int | None, why: str | None) -> dict[str, Any]:
    def verdict(kind: str, evidence: str, critical: bool = True) -> dict[str, Any]:
        return _verdict.make(f"data_{table}", kind, evidence, critical, rows=rows.get(table), before=before)

    if table not in rows:
        return verdict("inconclusive", f"could not be counted: {why or 'it was left out'}")
    now = rows[table]
    if now is None and before is None:
        return verdict("inconclusive", "there is no such table", critical=False)
    if now is None:
        return verdict("fail", f"there is no such table any more; it held {_rows(before)}")
    if before is None:
        return verdict("pass", _rows(now))
    if now < before:
        # People delete things all the time, and a run takes minutes. It is another matter when most of a table is gone.
        most = before - now > before / 2
        why = "" if most else ": some that users deleted meanwhile, or look what became of them"
        return verdict("fail", f"{_rows(now)}, {before - now} fewer than before{why}", critical=most)
    return verdict("pass", f"{_rows(now)}, before {before}")


def _rows(count: int | None) -> str:
    return "1 row" if count == 1 else f"{count} rows"
