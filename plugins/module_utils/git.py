# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One conversation with git: no shell, no prompt, no pager, no option taken from a name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable

from ansible_collections.sparklio.rollback.plugins.module_utils import _releases
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}


def _text(output: bytes) -> str:
    """As a file that is opened as text reads it: a carriage return is the end of a line too."""
    return output.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


class GitError(Exception):
    """git said no. ``str()`` is what it said, in one line, without the credentials of a remote's address."""


class Repository:
    """A clone on this host.

    Args:
        path: the top of its work tree.
        executable: git's path.
    """

    def __init__(self, path: str, executable: str = "git") -> None:
        self.path = path
        self.executable = executable

    def run(
        self,
        *arguments: str,
        timeout: float = 60.0,
        env: dict[str, str] | None = None,
        text_input: str | None = None,
    ) -> str:
        """Run ``git arguments`` and return its output, or raise GitError."""
        return _text(self._output(arguments, timeout, env, text_input))

    def _output(
        self, arguments: tuple[str, ...], timeout: float, env: dict[str, str] | None, text_input: str | None
    ) -> bytes:
        environment = {**os.environ, **_ENVIRONMENT, **(env or {})}
        environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10")
        command = [self.executable, "-C", self.path, "-c", "advice.detachedHead=false", *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if text_input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise GitError(f"{self.executable} is not installed") from exc
        try:
            given = None if text_input is None else text_input.encode("utf-8", "surrogateescape")
            out, err = process.communicate(given, timeout)
        except subprocess.TimeoutExpired as exc:
            # Its ssh too: that one would hold the pipes open, and this call with them.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitError(f"git {arguments[0]} gave no answer within {timeout:.0f} s") from exc
        if process.returncode:
            # The last line alone is often no more than "Aborting".
            said = [line.strip() for line in _text(err or out).splitlines() if not line.startswith("hint:")]
            # Masked before it is cut: half a token shows as much.
            text = mask(" ".join(filter(None, said)))[:400]
            raise GitError(text or f"git {arguments[0]} exited with {process.returncode}")
        return out

    def line(self, *arguments: str) -> str:
        return self.run(*arguments).strip()

    def commit_of(self, ref: str) -> str | None:
        """The full commit id of a ref or id, or None."""
        try:
            return self.line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except GitError:
            return None

    def read(self, commit: str, path: str) -> str | None:
        """The text of a file in a commit, or None where the commit has no such file."""
        try:
            return self.run("cat-file", "blob", f"{commit}:{path}")
        except GitError:
            return None

    def blobs(self, commit: str, directory: str) -> dict[str, str]:
        """The files below a directory in a commit: path to blob id. Links and submodules are none."""
        output = self.run("ls-tree", "-r", "-z", commit, "--", directory + "/")
        found = {}
        for entry in filter(None, output.split("\0")):
            about, path = entry.split("\t", 1)
            mode, _kind, blob = about.split()
            if mode.startswith("100"):
                found[path] = blob
        return found

    def contents(self, blobs: Iterable[str]) -> dict[str, str]:
        """The texts of blobs by their ids, read in one go: a process for each of hundreds takes seconds."""
        wanted = sorted(set(blobs))
        if not wanted:
            return {}
        out = self._output(("cat-file", "--batch"), 60.0, None, "".join(f"{blob}\n" for blob in wanted))
        texts, place = {}, 0
        while place < len(out):
            head, place = out[place : out.index(b"\n", place)].decode(), out.index(b"\n", place) + 1
            blob, _kind, size = head.split()
            texts[blob] = _text(out[place : place + int(size)])
            place += int(size) + 1
        return texts

    def tree_id(self, commit: str, path: str) -> str | None:
        try:
            return self.line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}:{path}")
        except GitError:
            return None

    def dirty(self) -> list[str]:
        """Tracked files that differ from HEAD, staged or not."""
        output = self.run(
            "status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=none"
        )
        return [entry[3:] for entry in output.split("\0") if entry]

    def branch(self) -> str | None:
        try:
            return self.line("symbolic-ref", "--quiet", "--short", "HEAD")
        except GitError:
            return None

    def tag(self, commit: str, pattern: str = "v*") -> str | None:
        """The release's own tag on exactly this commit, or None: the first one, since backups put later ones there."""
        names = self.run("tag", "--points-at", commit, "--sort=creatordate", "--list", pattern).split()
        own = [name for name in names if _releases.tag_problem(name) is None]
        return next(iter(own or names), None)

    def unlock(self) -> str | None:
        """Move an ``index.lock`` that a killed git left behind out of the way, and return its new name."""
        lock = os.path.join(self.path, self.line("rev-parse", "--git-path", "index.lock"))
        if not os.path.exists(lock):
            return None
        aside = f"{lock}.left-{os.getpid()}"
        os.rename(lock, aside)
        return aside
