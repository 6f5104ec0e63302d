"""Worst answer time of Redis while it is backed up, against the runbook's SAVE.

Starts a Redis of its own on a free port, with a password and an append-only file, fills it, and measures PING on one
connection while another copies all data. Needs redis-server, of Debian's package of that name.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import report
from ansible_collections.sparklio.rollback.plugins.module_utils import resp

PASSWORD = "bench-only"
PAGE = report.ROOT / "docs" / "restore-points.md"
#: Seconds that the worst answer may take.
LIMIT = 0.100
ROUNDS = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(port: int, keys: int) -> None:
    """Values of 100 to 200 bytes, as a cache has them."""
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(resp.encode("AUTH", PASSWORD))
        raw.recv(100)
        for start in range(0, keys, 10000):
            count = min(10000, keys - start)
            raw.sendall(b"".join(resp.encode("SET", f"cache:{start + n}", "v" * (100 + n % 100)) for n in range(count)))
            left = count * len(b"+OK\r\n")
            while left:
                left -= len(raw.recv(min(left, 1 << 16)))


def worst_ping(target: resp.Target, work: Callable[[], None]) -> tuple[float, float, int]:
    """Run the work in a thread. Returns the worst answer time meanwhile, how long it took, and the number of pings."""
    problem: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as exc:
            problem.append(exc)

    thread = threading.Thread(target=run)
    worst, count = 0.0, 0
    with resp.Connection(target, 60) as connection:
        connection.login()
        began = time.monotonic()
        thread.start()
        while thread.is_alive():
            asked = time.monotonic()
            connection.call("PING")
            worst, count = max(worst, time.monotonic() - asked), count + 1
            time.sleep(0.002)
        seconds = time.monotonic() - began
    if problem:
        raise problem[0]
    return worst, seconds, count


def copy(target: resp.Target, path: Path) -> None:
    with resp.Connection(target, 60) as connection, path.open("wb") as stream:
        connection.login()
        connection.snapshot(lambda _size: None, stream.write, 600)


def save(target: resp.Target) -> None:
    with resp.Connection(target, 600) as connection:
        connection.login()
        connection.call("SAVE")


def main() -> None:
    options = report.arguments(__doc__).parse_args()
    keys = 100_000 if options.quick else 1_000_000
    if not shutil.which("redis-server"):
        sys.exit("redis-server is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--dir", folder]
        server = subprocess.Popen(
            ["redis-server", *settings, "--save", "", "--appendonly", "yes"], stdout=subprocess.DEVNULL
        )
        try:
            target = resp.parse_url(f"redis://:{PASSWORD}@127.0.0.1:{port}")
            for _attempt in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            fill(port, keys)
            time.sleep(2)
            path = Path(folder) / "copy.rdb"
            idle = worst_ping(target, lambda: time.sleep(3))
            rounds = [worst_ping(target, lambda: copy(target, path)) for _round in range(ROUNDS)]
            size = path.stat().st_size
            slow = worst_ping(target, lambda: save(target))
        finally:
            server.terminate()
            server.wait()
    works = [
        ("nothing else", idle),
        *((f"backup, round {number}", taken) for number, taken in enumerate(rounds, 1)),
        ("SAVE, as in the runbook", slow),
    ]
    text = report.table(
        ["Meanwhile", "Worst PING, ms", "PINGs", "Seconds"],
        [[what, f"{worst * 1000:.0f}", str(count), f"{seconds:.1f}"] for what, (worst, seconds, count) in works],
    )
    text += f"\n\n{keys:,} keys, {size / 1e6:.0f} MB as RDB. {report.machine()}, load {os.getloadavg()[1]:.1f}."
    report.publish("redis_backup", {what: taken for what, taken in works}, text, options.docs, PAGE)
    worst = max(taken[0] for taken in rounds)
    if worst >= LIMIT:
        sys.exit(f"An answer took {worst * 1000:.0f} ms during a backup, and {LIMIT * 1000:.0f} are promised.")


if __name__ == "__main__":
    main()
