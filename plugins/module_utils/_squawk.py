# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The linter squawk: how it is called, and what its answer means. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

#: Rules for migrations that run on a live database and may be run twice. A schema rollback changes a copy, once. And
#: the transaction that Alembic writes around each revision's SQL is no finding.
EXCLUDED = ("prefer-robust-stmts", "require-lock-timeout", "require-statement-timeout", "transaction-nesting")


class LintError(ValueError):
    """The linter gave no answer. The message says what it said instead."""


def file_name(number: int) -> str:
    """The file that a revision's SQL is given in. Its own name may be anything."""
    return f"{number:04d}.sql"


def command(program: str, number: int, config: str, pg_version: str | None, in_transaction: bool) -> list[str]:
    """How to lint so many files in the current directory.

    Rules are not excluded by the program: one version refuses the names of rules that only another one knows.
    """
    options = ["--reporter", "json", "--config", config]
    options += ["--pg-version", pg_version] if pg_version else []
    options += ["--assume-in-transaction"] if in_transaction else []
    return [program, *options, *(file_name(at) for at in range(number))]


def parse(
    stdout: str, stderr: str, revisions: Sequence[str], excluded: Iterable[str] = EXCLUDED
) -> list[dict[str, Any]]:
    """Return what it found: ``revision``, ``rule``, ``level``, ``message``, ``line`` from 1, in the order of revisions.

    Raises:
        LintError: it did not answer as it should.
    """
    try:
        items = json.loads(stdout)
        gone = set(excluded)
        places = {file_name(number): number for number in range(len(revisions))}
        found = [
            (places[item["file"].rpartition("/")[2]], _finding(item)) for item in items if item["rule_name"] not in gone
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        said = one_line(stderr or stdout) or "nothing at all"
        raise LintError(f"squawk did not answer as it should; it said: {said}") from exc
    found.sort(key=lambda pair: (pair[0], pair[1]["line"]))
    return [{"revision": revisions[place], **finding} for place, finding in found]


def _finding(item: Mapping[str, Any]) -> dict[str, Any]:
    message = item.get("message")
    if message is None:
        # Before version 2: a list of notes and helps.
        message = " ".join(text for part in item["messages"] for text in part.values())
    return {
        "rule": str(item["rule_name"]),
        "level": str(item["level"]).lower(),
        "message": one_line(message),
        "line": int(item["line"]) + 1,
    }
