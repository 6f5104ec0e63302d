# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far something long is, in one line: bytes of about how many and the time that is left, or what it is at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._backup import size
from ansible_collections.sparklio.rollback.plugins.module_utils._progress import clock


def left(done: int, about: int, seconds: float) -> float | None:
    """Seconds that are left at the rate so far, or None while nothing can be said."""
    if done <= 0 or seconds <= 0:
        return None
    return max(0, about - done) * seconds / done


def line(what: str, done: int, about: int, seconds: float) -> str:
    """Return what is shown, such as ``database: 45.0 MB of about 160.0 MB, 0:12 left``."""
    rest = left(done, about, seconds)
    ending = f"{clock(seconds)} so far" if rest is None else f"about {clock(rest)} left / 남음"
    return f"{what}: {size(done)} of about {size(max(done, about))}, {ending}"


def shown(what: str, state: Mapping[str, Any], elapsed: float) -> str:
    """Return what is shown of what was told: what it is ``at``, or ``done`` of ``about`` bytes in ``seconds``."""
    if "at" in state:
        return f"{what}: {state['at']}, {clock(elapsed)} so far"
    return line(what, state["done"], state["about"], state["seconds"])
