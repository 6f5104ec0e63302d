# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Built things on disk: a cache of them by key, copies that cost no space, and swaps by rename."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import glob
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import write_private

#: Lies in every artifact that a run puts in place, and tells it from one that it displaced.
MARKER = ".sparklio-rollback.json"
MANIFEST = "manifest.json"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class ArtifactError(Exception):
    """An artifact can't be built, read or moved. The message says what to do."""


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, destination, follow_symlinks=False)


def link_tree(
    source: str, destination: str, skip: Callable[[str], bool] = lambda path: False, merge: bool = False
) -> None:
    """Copy a tree by hard links: no space, no reading, and a file that is replaced in one tree stays in the other.

    Args:
        source: a directory.
        destination: made; may exist when ``merge``, and then keeps the files that it has.
        skip: tells, by path relative to ``source``, what is left out.
        merge: add to what is there.
    """
    os.makedirs(destination, exist_ok=merge)
    with os.scandir(source) as entries:
        for entry in entries:
            target = os.path.join(destination, entry.name)
            if skip(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                name = entry.name
                link_tree(entry.path, target, lambda path, name=name: skip(f"{name}/{path}"), merge)
            elif merge and os.path.lexists(target):
                continue
            elif entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_file(follow_symlinks=False):
                _link(entry.path, target)
    # Last, since a directory can be one that nothing may be written to.
    shutil.copymode(source, destination)


def measure(path: str) -> dict[str, int]:
    """Files and bytes of a tree, without its marker and manifest."""
    files = size = 0
    for folder, _folders, names in os.walk(path):
        for name in names:
            if (name in (MARKER, MANIFEST) and folder == path) or name.endswith(".pyc"):
                continue
            status = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(status.st_mode):
                files += 1
                size += status.st_size
    return {"files": files, "bytes": size}


class Cache:
    """Artifacts by kind and key, each whole: what is being built has another name until it is finished."""

    def __init__(self, path: str) -> None:
        self.path = path

    def at(self, kind: str, key: str) -> str:
        return os.path.join(self.path, kind, key)

    def has(self, kind: str, key: str) -> bool:
        return os.path.exists(os.path.join(self.at(kind, key), MANIFEST))

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of a whole artifact, or None. One that is damaged is moved aside, so that it is built anew."""
        place = self.at(kind, key)
        try:
            with open(os.path.join(place, MANIFEST), encoding="utf-8") as stream:
                manifest = json.load(stream)
        except FileNotFoundError:
            manifest = None
        except ValueError:
            manifest = {}
        if manifest is None and not os.path.lexists(place):
            return None
        now = measure(os.path.join(place, "content"))
        if not isinstance(manifest, dict) or now != {name: manifest.get(name) for name in ("files", "bytes")}:
            os.rename(place, f"{place}.damaged-{int(time.time())}")
            return None
        return manifest

    def building(self, kind: str, key: str) -> str:
        """An empty place for the content of a new artifact. What a killed run left of it is removed."""
        place = self.at(kind, key) + f".building-{os.getpid()}"
        for left in glob.glob(glob.escape(self.at(kind, key)) + ".building-*"):
            shutil.rmtree(left, ignore_errors=True)
        os.makedirs(place, mode=0o700)
        return os.path.join(place, "content")

    def put(self, kind: str, key: str, content: str, **facts: Any) -> dict[str, Any]:
        """Turn what ``building`` gave into a finished artifact."""
        manifest = {"kind": kind, "key": key, "created": time.time(), **measure(content), **facts}
        place = os.path.dirname(content)
        write_private(os.path.join(place, MANIFEST), json.dumps(manifest, sort_keys=True))
        try:
            os.rename(place, self.at(kind, key))
        except OSError:
            # Somebody finished the same one first. Theirs is as good.
            shutil.rmtree(place, ignore_errors=True)
        return manifest

    def adopt(
        self, kind: str, key: str, live: str, skip: Callable[[str], bool] = lambda path: False, **facts: Any
    ) -> None:
        """Keep what runs now under its key, so that the way back to it needs no build."""
        if self.has(kind, key) or not os.path.isdir(live):
            return
        content = self.building(kind, key)
        link_tree(live, content, lambda path: path == MARKER or skip(path))
        self.put(kind, key, content, origin="adopted", **facts)


def rewrite_prefix(directory: str, old: str, new: str) -> None:
    """Replace a path in the small text files of a directory: interpreter lines and activation scripts.

    Each file is written anew, so that other hard links to it keep the old text.
    """
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > 1_000_000:
            continue
        with open(path, "rb") as stream:
            data = stream.read()
        if old.encode() not in data or b"\0" in data:
            continue
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.unlink(path)
        with open(path, "wb") as stream:
            stream.write(data.replace(old.encode(), new.encode()))
        os.chmod(path, mode)


def mark(path: str, run_id: str, **facts: Any) -> None:
    write_private(os.path.join(path, MARKER), json.dumps({"run_id": run_id, **facts}, sort_keys=True))


def marked_by(path: str) -> str | None:
    """The run that put an artifact in place, or None."""
    try:
        with open(os.path.join(path, MARKER), encoding="utf-8") as stream:
            return str(json.load(stream).get("run_id"))
    except (OSError, ValueError, AttributeError):
        return None


def exchange(first: str, second: str) -> bool:
    """Let two paths trade places in one step. Returns False where the system can't.

    Source: renameat2(2), RENAME_EXCHANGE (Linux 3.15, glibc 2.28).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        call = libc.renameat2
    except (OSError, AttributeError):
        return False
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), first, None, second)


def swap_in(staged: str, live: str, displaced: str) -> None:
    """Put ``staged`` at ``live``, and what was there at ``displaced``."""
    os.makedirs(os.path.dirname(displaced), mode=0o700, exist_ok=True)
    if not os.path.lexists(live):
        os.rename(staged, live)
    elif exchange(staged, live):
        os.rename(staged, displaced)
    else:
        os.rename(live, displaced)
        os.rename(staged, live)


def swap_back(staged: str, live: str, displaced: str, run_id: str) -> bool:
    """Take ``swap_in`` back, wherever it was cut off. Returns whether anything had to be moved."""
    if marked_by(live) == run_id:
        former = displaced if os.path.lexists(displaced) else staged
        if not os.path.lexists(former):
            # There was nothing at the live path before.
            os.rename(live, staged)
        elif exchange(former, live):
            if former != staged:
                os.rename(former, staged)
        else:
            aside = f"{staged}.undone"
            os.rename(live, aside)
            os.rename(former, live)
            os.rename(aside, staged)
        return True
    if not os.path.lexists(live) and os.path.lexists(displaced):
        os.rename(displaced, live)
        return True
    return False


def run_logged(
    command: Sequence[str], cwd: str, log: str, timeout: float, env: Mapping[str, str] | None = None, nice: int = 10
) -> tuple[int, str]:
    """Run a long command at low priority, its output into a private log. Returns its exit code and the output.

    Raises:
        ArtifactError: the command is missing, or took longer than ``timeout`` seconds.
    """
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(fd, "ab") as stream:
        start = stream.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.nice(nice),
            )
        except FileNotFoundError as exc:
            if exc.filename == cwd:
                raise ArtifactError(f"{cwd} was not staged, so {command[0]} can't run in it") from exc
            raise ArtifactError(f"{command[0]} is not installed on this host") from exc
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            os.killpg(process.pid, 9)
            process.wait()
            raise ArtifactError(f"{command[0]} was not done within {timeout:.0f} s; its log is {log}") from exc
    with open(log, "rb") as stream:
        stream.seek(start)
        return code, stream.read().decode("utf-8", "replace")


def telling_line(output: str, signs: Iterable[str]) -> str:
    """The line of a failed build's output that says most: the first with one of the signs, else the last."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    for sign in signs:
        for line in lines:
            if sign in line:
                return mask(line)[:300]
    return mask(lines[-1])[:300] if lines else "it said nothing"
