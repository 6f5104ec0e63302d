# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of Ollama, and the tags that keep them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest

_MARK = "-backup-"


def models(answer: Any) -> list[dict[str, Any]]:
    """Return name, digest and size of each model in the answer to ``/api/tags``. Raises ValueError where it is none."""
    found = answer.get("models") if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise ValueError("no list of models")
    result = []
    for item in found:
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise ValueError("a model without a name")
        size = item.get("size")
        result.append(
            {
                "name": item["name"],
                "digest": str(item.get("digest") or ""),
                "size": size if isinstance(size, int) else 0,
            }
        )
    return sorted(result, key=lambda item: item["name"])


def copy_name(name: str, mark: str) -> str:
    """The tag that keeps a model for a restore point. ``mark`` is its id, or the same with a number that was free."""
    return f"{name if ':' in name else name + ':latest'}{_MARK}{mark}"


def free_mark(found: Iterable[Mapping[str, Any]], point_id: str) -> str:
    """What the tags of a restore point may bear: its id, with another number where somebody else has tags of it."""
    taken = {copied_for(item["name"]) for item in found}
    return next(mark for mark in _manifest.numbered(point_id) if mark not in taken)


def copied_for(name: str) -> Optional[str]:
    """What a tag bears that keeps a model for a restore point, or None."""
    _name, mark, point_id = name.rpartition(_MARK)
    return point_id if mark and _manifest.is_id(point_id) else None


def own(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models less those that restore points keep."""
    return [dict(item) for item in found if copied_for(item["name"]) is None]
