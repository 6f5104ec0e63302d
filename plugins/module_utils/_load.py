# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's load from what its system tells: how busy the processors were, and how much memory is in use."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional


class LoadError(ValueError):
    """What the system told can't be read. The message names the source."""


class Memory(NamedTuple):
    """In bytes. ``available`` can be had without swapping."""

    total: int
    available: int

    @property
    def percent(self) -> float:
        """How much of it is in use."""
        return 100 * (self.total - self.available) / self.total


class Cpu(NamedTuple):
    """Time since the system began, of all processors together, in any unit."""

    busy: float
    total: float


class Load(NamedTuple):
    """One reading. What can't be read is None, and ``problems`` says why."""

    cpu: Optional[Cpu]
    memory: Optional[Memory]
    problems: tuple[str, ...] = ()

    @property
    def memory_percent(self) -> float | None:
        """How much memory is in use, if that is known."""
        return self.memory and self.memory.percent


def proc_stat(text: str) -> Cpu:
    """Read ``/proc/stat``. Waiting for a disk is idle time; time that a hypervisor took away is not.

    Source: proc_stat(5). Guests are left out of the sum, since user and nice time hold them already.
    """
    match = re.match(r"cpu((?: +\d+){4,})", text)
    if not match:
        raise LoadError("/proc/stat does not begin with the line cpu")
    fields = [int(field) for field in match.group(1).split()[:8]]
    idle = sum(fields[3:5])
    return Cpu(sum(fields) - idle, sum(fields))


def ticks(user: int, system: int, idle: int, nice: int) -> Cpu:
    """Read the ticks of macOS' ``host_statistics``."""
    return Cpu(user + system + nice, user + system + nice + idle)


def cpu_percent(before: Cpu, after: Cpu) -> float:
    """Return how busy the processors were between two readings.

    Raises:
        LoadError: no time has passed, or the clock of the system went backwards.
    """
    total = after.total - before.total
    if total <= 0:
        raise LoadError("the processor's times did not grow between two readings")
    return 100 * min(1.0, max(0.0, (after.busy - before.busy) / total))


def meminfo(text: str) -> Memory:
    """Read ``/proc/meminfo``."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    if "MemTotal" not in fields or "MemAvailable" not in fields or not int(fields["MemTotal"]):
        raise LoadError("/proc/meminfo has no MemTotal and MemAvailable")
    return Memory(int(fields["MemTotal"]) * 1024, int(fields["MemAvailable"]) * 1024)


def within_limit(host: Memory, limit: str, used: str, stat: str) -> Memory:
    """Return what a control group leaves of the host's memory: a container dies by its own limit, not by the host's.

    Args:
        host: without the limit.
        limit: content of ``memory.max``, or of ``memory.limit_in_bytes`` (version 1).
        used: content of ``memory.current``, or of ``memory.usage_in_bytes``.
        stat: content of ``memory.stat``; file pages that were not used lately can be dropped at once.
    """
    fields = dict(re.findall(r"^(\w+) (\d+)$", stat, re.MULTILINE))
    limit, used = limit.strip(), used.strip()
    if not limit.isdigit() or not used.isdigit() or not 0 < int(limit) < host.total:
        return host
    droppable = int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    free = int(limit) - max(0, int(used) - droppable)
    return Memory(int(limit), max(0, min(free, host.available)))


def vm_stat(text: str, total: int) -> Memory:
    """Read the output of macOS' ``vm_stat``.

    In use is what Activity Monitor calls so: memory of applications (anonymous less purgeable), wired, and compressed.
    Cached files are not.
    """
    size = re.search(r"page size of (\d+) bytes", text)
    pages = {name: int(count) for name, count in re.findall(r"^([A-Z][\w -]+): +(\d+)\.$", text, re.MULTILINE)}
    needed = ("Anonymous pages", "Pages purgeable", "Pages wired down", "Pages occupied by compressor")
    missing = [name for name in needed if name not in pages]
    if not size or missing or total <= 0:
        raise LoadError(f"vm_stat does not tell {', '.join(missing) or 'the size of a page, or hw.memsize is 0'}")
    anonymous, purgeable, wired, compressed = (pages[name] for name in needed)
    used = (anonymous - purgeable + wired + compressed) * int(size.group(1))
    return Memory(total, max(0, total - used))
