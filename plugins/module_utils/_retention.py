# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which restore points may go. Pure; see docs/restore-points.md."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest

#: An unfinished restore point may still be written to until nothing in it has changed for so long, in seconds.
UNFINISHED_AGE = 86400
_MENTIONED = re.compile(r"\b\d{8}T\d{6}Z-[a-z0-9]+(?:-\d+)?")
_OWN_RUN = re.compile(r"-backup(?:-\d+)?$")


def expired(points: Iterable[Mapping[str, Any]], keep: int, days: float, referred: Container[str] = ()) -> list[str]:
    """Return the ids of the restore points that retention removes, oldest first.

    Both limits have to be passed: one goes that is older than ``days`` and that is, for each thing it holds, none of
    the newest ``keep`` whole ones that hold it. So many level 2 restore points never push out the last database. The
    newest verified one of each thing stays too, and while nothing whole holds a thing, so do the damaged ones. One that
    only could not be read is not damaged, and stays.

    Args:
        points: each with ``id``, ``age_seconds``, ``whole``, ``verified``, ``artifacts`` (names) and ``unread`` (why
            its manifest could not be read, which is no damage, or None).
        keep: how many whole ones of each thing stay whatever their age; at least 1 does.
        days: how long each stays.
        referred: ids that a run refers to.
    """
    ordered = sorted(points, key=lambda item: item["age_seconds"])
    kept: set[str] = set()
    whole: dict[str, int] = {}
    verified: set[str] = set()
    for item in ordered:
        if not item["whole"]:
            continue
        for name in item["artifacts"]:
            whole[name] = whole.get(name, 0) + 1
            if whole[name] <= max(1, keep) or (item["verified"] and name not in verified):
                kept.add(item["id"])
            if item["verified"]:
                verified.add(name)
    return [
        item["id"]
        for item in reversed(ordered)
        if item["age_seconds"] > days * 86400
        and item["id"] not in kept
        and item["id"] not in referred
        and not item["unread"]
        # One whose manifest can't be read may hold anything.
        and (item["whole"] or all(whole.get(name) for name in item["artifacts"] or ["database"]))
    ]


def unread(points: Iterable[Mapping[str, Any]], days: float, referred: Container[str] = ()) -> list[str]:
    """Return the ids of those past their days of which nobody can tell here what they hold, in the order given."""
    return [
        item["id"]
        for item in points
        if item["unread"] and item["age_seconds"] > days * 86400 and item["id"] not in referred
    ]


def stale(unfinished: Iterable[Mapping[str, Any]], own: str | None = None) -> list[str]:
    """Return the ids of unfinished restore points that nothing works on any more."""
    return sorted(item["id"] for item in unfinished if item["idle_seconds"] > UNFINISHED_AGE and item["id"] != own)


def mentioned(run_id: str, journal: str) -> set[str]:
    """Return the ids of restore points that the journal of a run refers to.

    A backup's own journal does not count: it names what it made, and needs it for nothing.
    """
    if _OWN_RUN.search(run_id):
        return set()
    return {name for name in _MENTIONED.findall(journal) if _manifest.is_id(name)}
