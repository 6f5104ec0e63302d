# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal says: pure functions over its records. Reading and writing the file is in ``journal.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

#: Outcomes of a run whose changes still hold.
STANDING = ("rolled_back", "held")


def decode(text: str) -> list[dict[str, Any]]:
    """Parse a journal. A last line that was cut off by a crash is left out; damage elsewhere raises ValueError."""
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as exc:
            if number == len(lines):
                break
            raise ValueError(f"line {number} of the journal is damaged: {exc}") from exc
        if not isinstance(record, dict) or "event" not in record:
            raise ValueError(f"line {number} of the journal is not a record")
        records.append(record)
    return records


def whole(line: bytes) -> bool:
    """Whether what follows a journal's last line break is a record that lacks nothing but the line break."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def ended(records: Sequence[Record]) -> str | None:
    """Return the outcome of a run that is over, else None. One that was opened again to be undone is not over."""
    for record in reversed(records):
        if record["event"] == "end":
            return str(record["outcome"])
        if record["event"] == "reopened":
            return None
    return None


def pending(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the steps that were begun and not undone, newest first: what an undo has to take back.

    A step counts from its intent: after a crash nobody knows whether it happened, so its inverse must
    cope with both.
    """
    open_steps: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["event"] == "step" and record["status"] == "intent":
            open_steps.pop(record["step"], None)
            open_steps[record["step"]] = dict(record)
        elif record["event"] == "undo" and record["status"] == "done":
            open_steps.pop(record["step"], None)
    return list(reversed(open_steps.values()))


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return what one run was: id, level, from, to, outcome, last act, seconds of each act."""
    run: dict[str, Any] = {"outcome": ended(records), "seconds": {}, "pending": len(pending(records))}
    for record in records:
        if record["event"] == "run":
            run.update({key: record.get(key) for key in ("run_id", "level", "from", "to", "started", "owner")})
        elif record["event"] == "act":
            run["act"] = record["act"]
        if isinstance(record.get("seconds"), dict):
            run["seconds"].update(record["seconds"])
    return run


def left_because_bad(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tags that rollbacks went away from, sorted, less those that a later run went back to and kept.

    A run towards a newer release is not a rollback, and says nothing bad of what it leaves.

    Args:
        runs: summaries, oldest first; ``from`` and ``to`` hold ``tag`` and ``date`` (seconds since the epoch).
    """
    bad: set[str] = set()
    for run in runs:
        if run.get("outcome") not in STANDING:
            continue
        left, reached = run.get("from") or {}, run.get("to") or {}
        if left.get("tag") == reached.get("tag"):
            # Its configuration was at fault, which says nothing of the release.
            continue
        bad.discard(reached.get("tag", ""))
        if (reached.get("date") or 0) <= (left.get("date") or 0):
            bad.add(left.get("tag") or "")
    return sorted(tag for tag in bad if tag)
