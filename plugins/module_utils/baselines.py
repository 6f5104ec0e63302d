# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The baselines on the app host: ``baselines/<commit>.json`` in the state directory."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _baseline
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import write_private


def path_of(state_dir: str, commit: str) -> str:
    """Return where the baseline of a commit is.

    Raises:
        ValueError: it is no commit.
    """
    problem = _baseline.name_problem(commit)
    if problem:
        raise ValueError(problem)
    return os.path.join(state_dir, "baselines", f"{commit}.json")


def write(state_dir: str, baseline: dict[str, Any]) -> str:
    """Store a baseline, and return its path."""
    path = path_of(state_dir, baseline["commit"])
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_private(path, json.dumps(baseline, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
    return path


def load(path: str) -> dict[str, Any] | None:
    """Return one baseline, or None where there is none that can be used."""
    try:
        with open(path, encoding="utf-8") as stream:
            return _baseline.read(json.load(stream))
    except (FileNotFoundError, ValueError):
        return None


def every(state_dir: str) -> list[dict[str, Any]]:
    """Return all baselines that can be used."""
    directory = os.path.join(state_dir, "baselines")
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except FileNotFoundError:
        return []
    return [found for found in (load(os.path.join(directory, name)) for name in names) if found]
