# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long piece of work is, left in a file for an action plugin that looks there now and then."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

#: Options of a module whose action shows how far it is.
PROGRESS_SPEC: dict[str, Any] = {
    "show_progress": {"type": "bool", "default": True},
    "progress": {"type": "path"},
}

#: Seconds after which work whose progress nobody looks at is stopped.
ABANDONED = 90


def tell(path: str, **state: Any) -> None:
    """Leave word of how far it is, for whoever looks, with whom to look for."""
    with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
        json.dump({"pid": os.getpid(), **state}, stream)
    os.replace(f"{path}.tmp", path)


@contextlib.contextmanager
def told(path: str | None) -> Iterator[None]:
    """Have the files there while work is done, where somebody wants to know of it, and not afterwards."""
    if path:
        tell(path)
    try:
        yield
    finally:
        for name in (path, f"{path}.seen") if path else ():
            with contextlib.suppress(OSError):
                os.unlink(name)


class Teller:
    """Says what long work is at, where somebody wants to know of it.

    Args:
        path: file for the action plugin that looks there; None where none does.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path

    def __call__(self, at: str) -> None:
        if self.path:
            tell(self.path, at=at)

    def revisions(self, wanted: Sequence[str], verb: str = "taking back") -> Callable[[dict[str, Any]], None]:
        """Say which revision it is at, now and each time that the result is called with the one before it."""

        def done(which: Mapping[str, Any] | None = None) -> None:
            place = list(wanted).index(which["revision"]) + 1 if which else 0
            if place < len(wanted):
                self(f"{verb} {wanted[place]}, {place + 1} of {len(wanted)}")

        done()
        return done


class Watcher:
    """Who waits for the work. Whoever looks touches a file beside that of the progress."""

    def __init__(self, path: str) -> None:
        self.path, self.seen = path, time.time()

    def gone(self) -> bool:
        """Whether nobody has looked for so long that nobody waits any more."""
        with contextlib.suppress(FileNotFoundError):
            self.seen = max(self.seen, os.stat(f"{self.path}.seen").st_mtime)
        return time.time() - self.seen > ABANDONED


class Share:
    """Says how many bytes of about how many are done, where somebody wants to know of it.

    Args:
        path: file for the action plugin that looks there; None where none does.
    """

    def __init__(self, path: str | None) -> None:
        self.path, self.began = path, time.monotonic()
        self.watcher = Watcher(path) if path else None

    def __call__(self, done: int, about: int) -> None:
        if self.path:
            tell(self.path, done=done, about=about, seconds=round(time.monotonic() - self.began, 1))

    def abandoned(self) -> bool:
        """Whether somebody waited and no longer does: what was started for a playbook must not outlive it for long."""
        return bool(self.watcher and self.watcher.gone())
