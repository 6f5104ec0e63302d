# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a database whether what it declares really holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest, _integrity, postgres
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

_TOO_SLOW = ("57014", "55P03")


class CannotAsk(Exception):
    """One question got no answer, and the transaction goes on. The message says why."""


class Questions:
    """A read-only transaction in which one question may fail without the others."""

    def __init__(self, session: postgres.Session, timeout: float, deadline: float) -> None:
        self.session, self.timeout, self.deadline = session, timeout, deadline
        session.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def ask(self, sql: str) -> Any:
        """The answer, or CannotAsk."""
        left = min(self.timeout, self.deadline - time.monotonic())
        if left <= 0:
            raise CannotAsk("there was no time left")
        self.session.ask(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
        self.session.ask("SAVEPOINT question")
        try:
            return self.session.json(sql, left + 5)
        except PostgresError as exc:
            # Where the session itself is gone, this says so.
            self.session.ask("ROLLBACK TO SAVEPOINT question")
            raise CannotAsk(f"no answer within {left:.1f} s" if exc.state in _TOO_SLOW else str(exc)) from exc
        finally:
            self.session.ask("RELEASE SAVEPOINT question")


def check(questions: Questions, known: Sequence[str], known_orphans: Mapping[str, int], found: dict[str, Any]) -> None:
    """Fill in what does not hold.

    Args:
        known: indexes and constraints that were not valid before.
        known_orphans: how many rows a foreign key did not hold for before.
        found: gets ``foreign_keys``, ``orphans``, ``invalid_indexes``, ``unvalidated`` and ``unchecked``.
    """

    def named(items: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
        return [
            {
                "name": _integrity.name_of(item),
                "table": _content_manifest.table_name(item),
                what: item[what],
                "known": _integrity.name_of(item) in known,
            }
            for item in items
        ]

    found["invalid_indexes"] = named(questions.ask(_integrity.INVALID_INDEXES), "index")
    found["unvalidated"] = named(questions.ask(_integrity.UNVALIDATED), "constraint")
    for key in questions.ask(_integrity.FOREIGN_KEYS):
        name = _integrity.name_of(key)
        try:
            if key["period"]:
                raise CannotAsk("it refers to periods of time, which can't be checked yet")
            answer = questions.ask(_integrity.orphans(key))
        except CannotAsk as exc:
            found["unchecked"].append({"name": name, "reason": str(exc)})
            continue
        found["foreign_keys"] += 1
        if answer["count"]:
            before = (not key["validated"] and name in known) or answer["count"] <= int(known_orphans.get(name, 0))
            found["orphans"].append(
                {
                    "name": name,
                    "table": _content_manifest.table_name(key),
                    "constraint": key["constraint"],
                    "references": _content_manifest.table_name(key["references"]),
                    "validated": key["validated"],
                    "count": answer["count"],
                    "example": one_line(answer["example"], 80),
                    "known": before,
                }
            )
