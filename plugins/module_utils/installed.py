# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed and checked out on this host, for the record. What can't be found out is None."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Any, Optional

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository


def output(*command: str, timeout: float = 60) -> Optional[str]:
    """What a command prints, or None where it fails or is missing."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def environment(root: str, names: Iterable[str]) -> Optional[str]:
    """The interpreter of the first virtual environment below the root that exists."""
    for name in names:
        path = os.path.join(root, name, "bin", "python")
        if os.access(path, os.X_OK):
            return path
    return None


def packages(python: Optional[str]) -> Optional[list[str]]:
    """What ``pip freeze`` lists, without passwords of addresses in it."""
    text = output(python, "-m", "pip", "freeze", "--all") if python else None
    return None if text is None else sorted(mask(line) for line in text.splitlines() if line.strip())


def clone(path: str) -> Optional[dict[str, Any]]:
    """Commit, branch, origin (without credentials) and changed files of a clone, or None where it is none."""
    repo = Repository(path)
    try:
        top = repo.line("rev-parse", "--show-toplevel")
        # A folder within a clone answers as that clone.
        if os.path.realpath(top) != os.path.realpath(path):
            return None
        commit = repo.line("rev-parse", "--verify", "HEAD^{commit}")
        changed = len(repo.dirty())
    except GitError:
        return None
    try:
        origin: Optional[str] = mask(repo.line("config", "--get", "remote.origin.url"))
    except GitError:
        origin = None
    return {"commit": commit, "branch": repo.branch(), "origin": origin, "changed_files": changed}
