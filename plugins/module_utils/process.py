# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this host, with and without /proc: who listens on a port, what it runs, since when."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple


class Process(NamedTuple):
    """One process. ``cwd`` is None where it may not be seen; ``started`` is in seconds since the epoch."""

    pid: int
    parent: int
    uid: int
    started: float
    argv: tuple[str, ...]
    cwd: str | None


class ProcessError(Exception):
    """A process can't be found, started or stopped. The message says what to do."""


HAS_PROC = os.path.exists("/proc/self/stat")


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _boot_time() -> float:
    """When the system started, in this moment's wall clock time. /proc/stat has it too, but to the second only."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _from_proc(pid: int) -> Process | None:
    base = f"/proc/{pid}"
    try:
        with open(f"{base}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
        with open(f"{base}/cmdline", "rb") as stream:
            argv = tuple(part.decode("utf-8", "replace") for part in stream.read().split(b"\0") if part)
        uid = os.stat(base).st_uid
    except (OSError, ValueError):
        return None
    if fields[0] == "Z":
        return None
    try:
        cwd: str | None = os.readlink(f"{base}/cwd")
    except OSError:
        cwd = None
    started = _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return Process(pid, int(fields[1]), uid, started, argv, cwd)


def _from_ps(pid: int) -> Process | None:
    row = _output("ps", "-o", "ppid=,uid=,lstart=,command=", "-p", str(pid)).strip()
    match = re.match(r"(\d+)\s+(\d+)\s+(\w+ +\w+ +\d+ [\d:]+ \d+)\s+(.*)", row)
    if not match:
        return None
    started = time.mktime(time.strptime(re.sub(" +", " ", match.group(3)), "%a %b %d %H:%M:%S %Y"))
    cwd = None
    for line in _output("lsof", "-a", "-p", str(pid), "-d", "cwd", "-Fn").splitlines():
        if line.startswith("n"):
            cwd = line[1:]
    return Process(pid, int(match.group(1)), int(match.group(2)), started, tuple(match.group(4).split()), cwd)


def get(pid: int) -> Process | None:
    """The process of that id, or None when there is none (or only a zombie)."""
    return _from_proc(pid) if HAS_PROC else _from_ps(pid)


def everything() -> Iterator[Process]:
    pids = (
        [int(name) for name in os.listdir("/proc") if name.isdigit()]
        if HAS_PROC
        else [int(row) for row in _output("ps", "-axo", "pid=").split()]
    )
    for pid in pids:
        found = get(pid)
        if found:
            yield found


def children(pid: int) -> list[Process]:
    return [item for item in everything() if item.parent == pid]


def _listening_inodes(port: int) -> dict[str, int]:
    """Socket inode to user id, of every TCP socket that listens on the port. Source: proc(5), /proc/net/tcp."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as stream:
            for row in list(stream)[1:]:
                fields = row.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    found[fields[9]] = int(fields[7])
    return found


def _open_files(pid: int) -> set[str]:
    """What a process has open, as far as it can be seen. A busy one closes connections while it is looked at."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def listeners(port: int) -> tuple[list[Process], set[int]]:
    """Processes that listen on a TCP port, and the user ids of sockets whose process may not be seen."""
    if not HAS_PROC:
        pids = {
            int(row[1:])
            for row in _output("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fp").splitlines()
            if row.startswith("p")
        }
        found = [item for item in map(get, pids) if item]
        if found or not connects("127.0.0.1", port):
            return found, set()
        return [], {-1}
    inodes = _listening_inodes(port)
    if not inodes:
        return [], set()
    links = {f"socket:[{inode}]" for inode in inodes}
    seen: set[str] = set()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        held = _open_files(int(name)) & links
        item = get(int(name)) if held else None
        if item:
            found.append(item)
            seen |= held
    hidden = {uid for inode, uid in inodes.items() if f"socket:[{inode}]" not in seen}
    return found, hidden


def connects(host: str, port: int, timeout: float = 1.0) -> bool:
    try:
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False


def environment(pid: int) -> dict[str, str] | None:
    """The environment that a process of our own was started with, or None where the system doesn't show it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            pairs = [item.partition(b"=") for item in stream.read().split(b"\0") if b"=" in item]
    except OSError:
        return None
    return {os.fsdecode(name): os.fsdecode(value) for name, _sign, value in pairs}


def spawn(argv: list[str], cwd: str, env: dict[str, str] | None, log: str) -> subprocess.Popen:
    """Start a process that outlives this one, as ``nohup argv >> log 2>&1 &`` does.

    Args:
        env: its whole environment; None for that of this process.
        log: file that its output is appended to.
    """
    nohup = shutil.which("nohup")
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    with open(log, "ab") as stream:
        return subprocess.Popen(
            ([nohup] if nohup else []) + argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def alive(process: Process) -> bool:
    """Whether it is still the very same process, and not another one with its id."""
    now = get(process.pid)
    return now is not None and abs(now.started - process.started) < 1.5


def send(process: Process, number: int) -> None:
    """Signal a process, after one more look that it is the one that was meant."""
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def wait_gone(processes: list[Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(item) for item in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(processes: list[Process], patience: float) -> bool:
    """End processes: SIGTERM, ``patience`` seconds for what they are busy with, then SIGKILL.

    Returns:
        Whether SIGTERM was enough.
    """
    for item in processes:
        send(item, signal.SIGTERM)
    if wait_gone(processes, patience):
        return True
    for item in processes:
        send(item, signal.SIGKILL)
    if not wait_gone(processes, 10):
        raise ProcessError(
            f"Process {processes[0].pid} does not end, not even by SIGKILL. Look at what it waits for: ps -o "
            f"stat,wchan -p {processes[0].pid}"
        )
    return False
