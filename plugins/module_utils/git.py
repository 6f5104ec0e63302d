# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One conversation with git: no shell, no prompt, no pager, no option taken from a name."""

from __future__ import annotations

import os
import signal
import subprocess

from ansible_collections.sparklio.rollback.plugins.module_utils import _releases

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}


class GitError(Exception):
    """git said no. ``str()`` is what it said, in one line."""


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
        environment = {**os.environ, **_ENVIRONMENT, **(env or {})}
        environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10")
        command = [self.executable, "-C", self.path, "-c", "advice.detachedHead=false", *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if text_input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="surrogateescape",
                env=environment,
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise GitError(f"{self.executable} is not installed") from exc
        try:
            out, err = process.communicate(text_input, timeout)
        except subprocess.TimeoutExpired as exc:
            # Its ssh too: that one would hold the pipes open, and this call with them.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitError(f"git {arguments[0]} gave no answer within {timeout:.0f} s") from exc
        if process.returncode:
            # The last line alone is often no more than "Aborting".
            said = [line.strip() for line in (err or out).splitlines() if not line.startswith("hint:")]
            raise GitError(" ".join(filter(None, said))[:400] or f"git {arguments[0]} exited with {process.returncode}")
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

    def files(self, commit: str, directory: str) -> list[str]:
        output = self.run("ls-tree", "-r", "-z", "--name-only", commit, "--", directory + "/")
        return [name for name in output.split("\0") if name]

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
