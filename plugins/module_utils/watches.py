# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The series of the watches on the app host, ``monitor/<id>.jsonl`` in the state directory, and what they are of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _watch
from ansible_collections.sparklio.rollback.plugins.module_utils.git import Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import write_private


class Store:
    """The series files: one a watch, named after the time at which it began."""

    def __init__(self, state_dir: str) -> None:
        self.directory = os.path.join(state_dir, "monitor")

    def path(self, name: str) -> str:
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise _watch.WatchError(f"{name!r} is not the name of a watch")
        return os.path.join(self.directory, f"{name}.jsonl")

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Let two who watch the same release take turns; each then sees the windows of both."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(self.directory, "guard"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def load(self, name: str, rules: _watch.Rules) -> _watch.Watch:
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return _watch.decode(stream.read(), rules)
        except OSError as exc:
            raise _watch.WatchError(f"{self.path(name)} can't be read: {exc.strerror}") from exc
        except _watch.WatchError as exc:
            raise _watch.WatchError(f"{self.path(name)} can't be used: {exc}") from exc

    def save(self, name: str, watch: _watch.Watch) -> None:
        write_private(self.path(name), watch.encode())

    def newest(self) -> str | None:
        try:
            names = sorted(name for name in os.listdir(self.directory) if name.endswith(".jsonl"))
        except FileNotFoundError:
            return None
        return names[-1][: -len(".jsonl")] if names else None

    def new(self, now: float) -> str:
        """Return a name that no watch has, and that is the newest."""
        stamp = now
        while True:
            name = time.strftime("%Y%m%d-%H%M%S", time.gmtime(stamp))
            if not os.path.exists(self.path(name)):
                return name
            stamp += 1


def release_of(root: str) -> dict[str, Any]:
    repository = Repository(root)
    commit = repository.line("rev-parse", "--verify", "HEAD^{commit}")
    return {"commit": commit, "tag": repository.tag(commit)}


def name_of(release: Mapping[str, Any]) -> str:
    return str(release["tag"] or release["commit"][:12])
