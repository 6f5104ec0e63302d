from __future__ import annotations

import ctypes
import subprocess

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _load, load
from hypothesis import given
from hypothesis import strategies as st

STAT = """cpu  4705 356 584 3699 23 23 10 7 100 50
cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0
intr 1462898
"""

MEMINFO = """MemTotal:       16353864 kB
MemFree:          611216 kB
MemAvailable:    9812316 kB
Buffers:          420648 kB
HugePages_Total:       0
"""

# A recorded one, of an Apple Silicon with 16 KiB pages.
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              123456.
Pages active:                            789012.
Pages inactive:                          345678.
Pages speculative:                        12345.
Pages throttled:                              0.
Pages wired down:                        234567.
Pages purgeable:                          56789.
"Translation faults":                  98765432.
Pages copy-on-write:                     345678.
Pages zero filled:                      8765432.
Pages reactivated:                       234567.
Pages purged:                             45678.
File-backed pages:                       456789.
Anonymous pages:                         678901.
Pages stored in compressor:              123456.
Pages occupied by compressor:             45678.
Decompressions:                            5678.
Compressions:                             12345.
Pageins:                                  56789.
Pageouts:                                  1234.
Swapins:                                    123.
Swapouts:                                    45.
"""


def test_processor_times_of_linux():
    """Guests are in user and nice already, and waiting for a disk is idle."""
    assert _load.proc_stat(STAT) == _load.Cpu(
        4705 + 356 + 584 + 23 + 10 + 7, 4705 + 356 + 584 + 3699 + 23 + 23 + 10 + 7
    )
    assert _load.proc_stat("cpu  1 2 3 4\n") == _load.Cpu(6, 10)


@pytest.mark.parametrize("text", ["", "intr 1", "cpu  1 2 3\n", "cpu0 1 2 3 4\n", "cpu  a b c d\n"])
def test_processor_times_that_can_not_be_read(text):
    with pytest.raises(_load.LoadError, match="/proc/stat"):
        _load.proc_stat(text)


def test_busy_between_two_readings():
    assert _load.cpu_percent(_load.Cpu(100, 1000), _load.Cpu(150, 1200)) == 25
    assert _load.cpu_percent(_load.Cpu(100, 1000), _load.Cpu(90, 1200)) == 0
    with pytest.raises(_load.LoadError, match="did not grow"):
        _load.cpu_percent(_load.Cpu(100, 1000), _load.Cpu(100, 1000))


@given(*[st.integers(0, 2**40)] * 4)
def test_busy_is_a_percentage(busy, idle, more_busy, more_idle):
    before = _load.Cpu(busy, busy + idle)
    after = _load.Cpu(busy + more_busy, busy + idle + more_busy + more_idle)
    if more_busy + more_idle:
        assert 0 <= _load.cpu_percent(before, after) <= 100


def test_memory_of_linux():
    memory = _load.meminfo(MEMINFO)
    assert memory == _load.Memory(16353864 * 1024, 9812316 * 1024)
    assert memory.percent == pytest.approx(40.0, abs=0.01)


@pytest.mark.parametrize("text", ["", "MemTotal: 100 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n"])
def test_memory_that_can_not_be_read(text):
    with pytest.raises(_load.LoadError, match="/proc/meminfo"):
        _load.meminfo(text)


HOST = _load.Memory(1000, 800)


@pytest.mark.parametrize(
    ("limit", "used", "stat", "expected"),
    [
        ("400\n", "300\n", "anon 1\ninactive_file 50\n", _load.Memory(400, 150)),
        ("400\n", "300\n", "inactive_file 1\ntotal_inactive_file 50\n", _load.Memory(400, 150)),
        ("400", "500", "", _load.Memory(400, 0)),
        ("900", "0", "", _load.Memory(900, 800)),
        ("max\n", "300\n", "", HOST),
        ("9223372036854771712\n", "300\n", "", HOST),
        ("0", "300", "", HOST),
        ("400", "much", "", HOST),
    ],
)
def test_a_lower_limit_of_the_control_group_counts(limit, used, stat, expected):
    assert _load.within_limit(HOST, limit, used, stat) == expected


def test_memory_of_macos():
    total = 32 << 30
    used = (678901 - 56789 + 234567 + 45678) * 16384
    assert _load.vm_stat(VM_STAT, total) == _load.Memory(total, total - used)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VM_STAT.replace("Anonymous pages", "Other pages"), "does not tell Anonymous pages"),
        (VM_STAT.split("\n", 1)[1], "the size of a page"),
        ("", "Anonymous pages, Pages purgeable"),
    ],
)
def test_memory_of_macos_that_can_not_be_read(text, message):
    with pytest.raises(_load.LoadError, match=message):
        _load.vm_stat(text, 32 << 30)


def linux(tmp_path, files):
    for name, text in {"proc/stat": STAT, "proc/meminfo": MEMINFO, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ],
)
def test_both_versions_of_control_groups(tmp_path, names):
    root = linux(tmp_path, dict(zip((f"sys/fs/cgroup/{name}" for name in names), ("4096", "1024", ""), strict=True)))
    assert load.linux_memory(root) == _load.Memory(4096, 3072)


def test_linux_without_control_groups(tmp_path):
    root = linux(tmp_path, {})
    assert load.linux_memory(root) == _load.meminfo(MEMINFO)
    assert load.linux_cpu(root) == _load.proc_stat(STAT)


class Host:
    def __call__(self):
        return 7


class Library:
    """What libSystem answers."""

    def __init__(self, result=0):
        self.result = result
        self.mach_host_self = Host()

    def host_statistics(self, host, flavor, found, count):
        assert (host.value, flavor.value, count._obj.value) == (7, 3, 4)
        assert ctypes.sizeof(found) == 16
        found[:] = [10, 20, 60, 10]
        return self.result


def test_processor_times_of_macos():
    assert load.macos_cpu(Library()) == _load.Cpu(40, 100)
    with pytest.raises(_load.LoadError, match="failed with 5"):
        load.macos_cpu(Library(5))


def test_memory_of_macos_is_asked_by_commands():
    answers = {"/usr/sbin/sysctl": "34359738368\n", "/usr/bin/vm_stat": VM_STAT}
    assert load.macos_memory(lambda command: answers[command[0]]).total == 32 << 30
    with pytest.raises(_load.LoadError, match=r"hw\.memsize"):
        load.macos_memory(lambda command: "unknown\n")


def test_what_can_not_be_read_is_said_and_not_raised(monkeypatch):
    def broken():
        raise subprocess.TimeoutExpired("vm_stat", 10)

    monkeypatch.setattr(load, "linux_memory", broken)
    found = load.read("linux")
    assert found.cpu is not None
    assert found.memory_percent is None
    assert "memory: " in found.problems[0]
    assert load.read("sunos5").problems == ("the load of sunos5 can't be read, only that of Linux and macOS",)
