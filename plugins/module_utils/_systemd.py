# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``systemctl show`` tells of a unit, and which variables its process has that no environment file decides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils import _config

_FILE = re.compile(r"(?P<path>.+) \(ignore_errors=(?:yes|no)\)")


class Unit(NamedTuple):
    """A unit. ``names`` are those that its ``Environment=`` sets, None where that can't be parsed."""

    loaded: bool
    active: bool
    reloadable: bool
    pid: int
    names: Optional[frozenset[str]]
    files: tuple[str, ...]


class Own(NamedTuple):
    """Variables in question that the process has by itself, and those of which that is not known, both sorted."""

    overridden: list[str]
    unknown: list[str]


def parse(output: str) -> Unit:
    """A unit from the properties LoadState, ActiveState, CanReload, MainPID, Environment and EnvironmentFiles."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, sign, value = line.partition("=")
        if sign:
            found.setdefault(name, []).append(value)
    one = {name: values[0] for name, values in found.items()}
    paths = (_FILE.fullmatch(value) for value in found.get("EnvironmentFiles", []))
    return Unit(
        loaded=one.get("LoadState") == "loaded",
        active=one.get("ActiveState") == "active",
        reloadable=one.get("CanReload") == "yes",
        pid=int(one["MainPID"]) if one.get("MainPID", "").isdigit() else 0,
        names=_names(one.get("Environment", "")),
        files=tuple(match["path"] for match in paths if match),
    )


def _names(text: str) -> Optional[frozenset[str]]:
    """The names in ``A=1 "B=two words" $'C=with\\nescapes'``, or None."""
    try:
        return frozenset(part.partition("=")[0].lstrip("$") for part in shlex.split(text))
    except ValueError:
        return None


def own(
    keys: Iterable[str],
    environment: Optional[Mapping[str, str]],
    values: Mapping[str, str],
    fixed: Collection[str],
    renewed: bool,
    unread: bool,
) -> Own:
    """Which of the variables in question the unit gives its process whatever the environment files say.

    Args:
        keys: the variables in question.
        environment: what the process was started with, or None where it does not run or this user may not see it.
        values: what the environment files say now.
        fixed: what the unit sets by itself: its ``Environment=``, and files of its own that no restore point has.
        renewed: whether the unit reads one of the environment files too. What it has from there is read anew at a
            restart, and so is what that file had once.
        unread: whether there is more that the unit sets, and this user may not see it.
    """
    there = set(keys) if environment is None else {key for key in keys if key in environment}
    certain, rest = there & set(fixed), there - set(fixed)
    if environment is not None and not renewed:
        # Those with the files' values come from a script that reads them before it starts the backend.
        return Own(sorted(certain | set(_config.in_process(environment, values, rest)[1])), [])
    return Own(sorted(certain), sorted(rest) if unread else [])
