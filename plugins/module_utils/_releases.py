# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about releases: which names may be a tag at all, what a requirements file rests on, what was good."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

#: Release tags of Sparklio V4: ``v4.0.YYYYMMDD-HHMM`` or ``-HHMMSS``.
TAG_PATTERN = r"v\d+\.\d+\.\d{8}-\d{4}(\d{2})?"


def tag_problem(tag: str, pattern: str = TAG_PATTERN) -> str | None:
    """Say what is wrong with the form of a tag's name, or None. The name itself is quoted, never echoed raw.

    ``git check-ref-format`` allows far more (spaces excepted) than a release tag ever holds; a name that
    begins with ``-`` would be read by git as an option.
    """
    if re.fullmatch(pattern, tag):
        return None
    shown = ascii(tag if len(tag) <= 60 else tag[:57] + "...")
    return f"{shown} is not the name of a release tag (expected: {pattern})"


def requirement_files(start: str, read: Callable[[str], str | None]) -> dict[str, str]:
    """Return every requirements file that ``start`` rests on (``-r``, ``-c``), path to text.

    Args:
        start: path of the first file, relative to the tree's root.
        read: returns the text of a path in the tree, or None where there is no such file.

    Source: pip's documentation, "Requirements File Format".
    """
    found: dict[str, str] = {}
    todo = [posixpath.normpath(start)]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        text = read(path)
        if text is None:
            continue
        found[path] = text
        for line in text.splitlines():
            match = re.match(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]+([^\s#]+)", line)
            if match and "://" not in match.group(1):
                todo.append(posixpath.normpath(posixpath.join(posixpath.dirname(path), match.group(1))))
    return found


def digest(parts: Mapping[str, str] | Sequence[str]) -> str:
    """SHA-256 (hex) over named or ordered texts. Lengths are hashed too, so that no two lists collide by joining."""
    pairs = sorted(parts.items()) if isinstance(parts, Mapping) else list(enumerate(parts))
    total = hashlib.sha256()
    for name, text in pairs:
        for item in (str(name), text):
            raw = item.encode("utf-8", "surrogateescape")
            total.update(b"%d:" % len(raw) + raw)
    return total.hexdigest()


def with_twins(tags: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Return the names of tags, and of all others on the same commits: a backup before a deploy puts one more there."""
    tags, wanted = list(tags), set(names)
    commits = {item["commit"] for item in tags if item["tag"] in wanted}
    return sorted(wanted | {item["tag"] for item in tags if item["commit"] in commits})


def last_good(
    tags: Iterable[Mapping[str, Any]], current_commit: str, bad: Iterable[str], limit: int = 5
) -> list[dict[str, Any]]:
    """Return the tags worth offering as a target, newest first: of each commit its first, which is the release's own.

    Left out: what runs now, what is newer than it, and releases that an earlier run left because they were bad.

    Args:
        tags: newest first; each has ``tag``, ``commit``, ``date`` (seconds since the epoch).
        current_commit: full id of the commit that is checked out.
        bad: names of tags that an earlier rollback went away from.
        limit: how many at the most.
    """
    tags = list(tags)
    avoid = set(bad)
    dates = [item["date"] for item in tags if item["commit"] == current_commit]
    newest = min(dates) if dates else None
    first = {item["commit"]: item for item in sorted(tags, key=lambda item: item["date"], reverse=True)}
    good = [
        dict(item)
        for item in tags
        if first[item["commit"]] is item
        and item["commit"] != current_commit
        and item["tag"] not in avoid
        and (newest is None or item["date"] <= newest)
    ]
    return good[:limit]
