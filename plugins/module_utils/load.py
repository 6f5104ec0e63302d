# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the system for its load: ``/proc`` on Linux, the kernel and ``vm_stat`` on macOS."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _load

#: Of version 2 and version 1. In a container these are its own.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)

#: From mach/host_info.h and mach/machine.h.
HOST_CPU_LOAD_INFO = 3
CPU_STATES = 4

SECONDS = 10


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def linux_cpu(root: str = "/") -> _load.Cpu:
    """Return the processors' times."""
    return _load.proc_stat(_text(os.path.join(root, "proc/stat")))


def linux_memory(root: str = "/") -> _load.Memory:
    """Return the memory, within the limit of the control group where that is lower."""
    memory = _load.meminfo(_text(os.path.join(root, "proc/meminfo")))
    for names in CGROUPS:
        try:
            limit, used, stat = (_text(os.path.join(root, "sys/fs/cgroup", name)) for name in names)
        except OSError:
            continue
        return _load.within_limit(memory, limit, used, stat)
    return memory


def macos_cpu(library: Any = None) -> _load.Cpu:
    """Return the processors' times. No command tells them summed up since the boot, so the kernel is asked."""
    library = library or ctypes.CDLL("/usr/lib/libSystem.dylib")
    library.mach_host_self.restype = ctypes.c_uint
    found = (ctypes.c_uint * CPU_STATES)()
    count = ctypes.c_uint(CPU_STATES)
    result = library.host_statistics(
        ctypes.c_uint(library.mach_host_self()), ctypes.c_int(HOST_CPU_LOAD_INFO), found, ctypes.byref(count)
    )
    if result != 0:
        raise _load.LoadError(f"host_statistics failed with {result}")
    user, system, idle, nice = found
    return _load.ticks(user, system, idle, nice)


def _run(command: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True, env=environment)
    return done.stdout


def macos_memory(run: Callable[[list[str]], str] = _run) -> _load.Memory:
    """Return the memory."""
    size = run(["/usr/sbin/sysctl", "-n", "hw.memsize"]).strip()
    if not size.isdigit():
        raise _load.LoadError("sysctl does not tell hw.memsize")
    return _load.vm_stat(run(["/usr/bin/vm_stat"]), int(size))


def read(system: str = sys.platform) -> _load.Load:
    """Take one reading. It never raises: what can't be read is None, and the problems say why."""
    readers = {"linux": (linux_cpu, linux_memory), "darwin": (macos_cpu, macos_memory)}
    if system not in readers:
        return _load.Load(None, None, (f"the load of {system} can't be read, only that of Linux and macOS",))
    found: list[Any] = []
    problems = []
    for what, reader in zip(("CPU", "memory"), readers[system]):  # noqa: B905
        try:
            found.append(reader())
        except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as exc:
            found.append(None)
            problems.append(f"{what}: {exc}")
    return _load.Load(found[0], found[1], tuple(problems))
