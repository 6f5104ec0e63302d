"""How long a backup of a database takes, and how large it is: against the runbook's ``pg_dump sparklio_v4 > file``.

Both run in turns on the sandbox's app host, on a database of their own that is dropped at the end. BENCH_INVENTORY
names another host, BENCH_POSTGRESQL_BIN the directory there with the programs of another client, one that can do zstd.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import report

INVENTORY = os.environ.get("BENCH_INVENTORY", "inventories/sandbox")
CLIENT = os.environ.get("BENCH_POSTGRESQL_BIN", "")
PG_DUMP = f"{CLIENT}/pg_dump" if CLIENT else "pg_dump"
PAGE = report.ROOT / "docs" / "restore-points.md"
ADMIN = ["sudo", "-n", "-u", "postgres"]
WORK = "/var/tmp/sparklio-bench"
PASSWORD = "bench"
URL = f"postgresql://sparklio_bench:{PASSWORD}@127.0.0.1:5432/sparklio_bench"
SIZE = 4
#: The most that a backup may take, as a part of the runbook's time: where the client can do zstd or lz4, and elsewhere.
LIMITS = {"zstd:1": 0.7, "lz4": 0.7, "gzip:1": 1.0}

#: Nanoseconds of processor that the host, or its container, has used: what else the machine does is not in it.
USED = (
    "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || "
    'awk \'$1 == "usage_usec" {print $2 "000"}\' /sys/fs/cgroup/cpu.stat'
)

PREPARE = f"""
DROP DATABASE IF EXISTS sparklio_bench WITH (FORCE);
DROP ROLE IF EXISTS sparklio_bench;
CREATE ROLE sparklio_bench LOGIN PASSWORD '{PASSWORD}';
CREATE DATABASE sparklio_bench OWNER sparklio_bench;
"""
# What Sparklio holds: users, workflows with their JSON, assets with captions, learned weights.
FILL = """
SET ROLE sparklio_bench;
SET max_parallel_maintenance_workers = 0;
CREATE TABLE users (id bigserial PRIMARY KEY, email text UNIQUE, name text, created_at timestamptz DEFAULT now());
CREATE TABLE workflows (id bigserial PRIMARY KEY, user_id int, kind text, state text, payload jsonb,
    at timestamptz DEFAULT now());
CREATE TABLE assets (id bigserial PRIMARY KEY, name text, kind text, meta jsonb, caption text);
CREATE TABLE brand_learnings (id bigserial PRIMARY KEY, brand_id int, weight float8, data jsonb);
INSERT INTO users (email, name) SELECT 'user' || i || '@example.com', '사용자 ' || i FROM generate_series(1, {users}) i;
INSERT INTO workflows (user_id, kind, state, payload) SELECT i % 1000, 'campaign', 'done', jsonb_build_object(
    'prompt', repeat('스파클리오 캠페인 문구를 만들어 주세요 ', 3),
    'run', md5(i::text), 'scores', array[i % 7, i % 11, i % 13], 'agent', 'copywriter',
    'result', jsonb_build_object('title', '여름 할인 ' || i,
    'body', repeat('Summer sale for brand ' || (i % 100) || '. ', 5))) FROM generate_series(1, {rows}) i;
INSERT INTO assets (name, kind, meta, caption) SELECT 'asset-' || i || '.png', 'image',
    jsonb_build_object('w', 1024, 'h', 768, 'sha', md5(i::text)), repeat('caption ' || i || ' ', 8)
    FROM generate_series(1, {rows}) i;
INSERT INTO brand_learnings (brand_id, weight, data) SELECT i % 50, random(), jsonb_build_object(
    'feature', md5((i * 7)::text), 'values', array[random(), random()]) FROM generate_series(1, {rows}) i;
CREATE INDEX ON workflows (user_id);
"""


class Taken(NamedTuple):
    """What one backup took."""

    seconds: float
    size: int
    compression: str = ""
    client: str = ""
    processor: float = 0


def ansible(module: str, options: dict) -> dict:
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}
    command = [
        str(Path(sys.executable).parent / "ansible"),
        "-i",
        INVENTORY,
        "app",
        "-m",
        module,
        "-a",
        json.dumps(options),
    ]
    out = subprocess.run(command, cwd=report.ROOT, env=env, capture_output=True, text=True, check=False)
    if "{" not in out.stdout:
        raise SystemExit(out.stderr or out.stdout)
    (result,) = json.loads(out.stdout)["plays"][0]["tasks"][0]["hosts"].values()
    if result.get("failed") or result.get("unreachable"):
        raise SystemExit(f"{module}: {result.get('msg')} {result.get('stderr', '')}")
    return result


def shell(script: str) -> str:
    return ansible("ansible.builtin.shell", {"cmd": script, "executable": "/bin/bash"})["stdout"]


def psql(sql: str, database: str = "postgres") -> str:
    argv = [*ADMIN, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database]
    return ansible("ansible.builtin.command", {"argv": argv, "stdin": sql})["stdout"]


def used() -> float:
    return int(shell(USED)) / 1e9


def with_processor(work: Callable[[], Taken]) -> Taken:
    before = used()
    taken = work()
    return taken._replace(processor=used() - before)


def runbook() -> Taken:
    """The runbook's own line, over the same connection."""
    out = shell(
        f"rm -rf {WORK}/*; sync; begin=$(date +%s%N); PGPASSWORD={PASSWORD} {PG_DUMP} -h 127.0.0.1 -U sparklio_bench "
        f"sparklio_bench > {WORK}/db.sql && echo $(( $(date +%s%N) - begin )) $(stat -c %s {WORK}/db.sql)"
    )
    nanoseconds, size = map(int, out.split())
    return Taken(nanoseconds / 1e9, size)


def ours(content: str) -> Taken:
    shell(f"rm -rf {WORK}/*; sync")
    options = {"url": URL, "dest": f"{WORK}/database", "content": content, "show_progress": False}
    if CLIENT:
        options["bin_dir"] = CLIENT
    artifact = ansible("sparklio.rollback.pg_backup", options)["artifact"]
    meta = artifact["meta"]
    return Taken(artifact["seconds"], artifact["size"], meta["compression"], meta["client_version"])


def main() -> None:
    options = report.arguments(__doc__).parse_args()
    turns = 3 if options.quick else 5
    rows = 200_000 if options.quick else 1_050_000
    psql(PREPARE)
    try:
        psql(FILL.format(users=rows // 6, rows=rows), "sparklio_bench")
        psql("VACUUM (ANALYZE, PARALLEL 0); CHECKPOINT;", "sparklio_bench")
        shell(f"rm -rf {WORK}; mkdir -m 700 {WORK}")
        version = psql("SHOW server_version")
        size = int(psql("SELECT pg_database_size('sparklio_bench')"))
        runbook()
        works = [runbook, partial(ours, "hash"), partial(ours, "rows")]
        taken = [[with_processor(work) for work in works] for _turn in range(turns)]
    finally:
        shell(f"rm -rf {WORK}")
        psql("DROP DATABASE IF EXISTS sparklio_bench WITH (FORCE); DROP ROLE IF EXISTS sparklio_bench;")
    compression, client = taken[0][1].compression, taken[0][1].client
    names = ["pg_dump > file, as in the runbook", "pg_backup", "pg_backup, content: rows"]
    figures = []
    for column, name in enumerate(names):
        seconds = median(turn[column].seconds for turn in taken)
        ratio = median(turn[column].seconds / turn[0].seconds for turn in taken)
        share = median(turn[column].size / turn[0].size for turn in taken)
        processor = median(turn[column].processor for turn in taken)
        figures.append(
            {
                "what": name,
                "seconds": seconds,
                "processor": processor,
                "time": ratio,
                "size": share,
                "bytes": taken[0][column].size,
            }
        )
    text = report.table(
        ["Backup", "Seconds", "Time", "Processor, s", "Size", "MB"],
        [
            [
                row["what"],
                f"{row['seconds']:.1f}",
                f"{row['time']:.2f}",
                f"{row['processor']:.1f}",
                f"{row['size']:.2f}",
                f"{row['bytes'] / 1e6:.0f}",
            ]
            for row in figures
        ],
    )
    text += (
        f"\n\nPostgreSQL {version.split()[0]}, client {client} ({compression}), a database of {size / 1e6:.0f} MB; "
        f"medians of {turns} turns, ratios within a turn. {report.machine()}, load {os.getloadavg()[1]:.1f}."
    )
    report.publish("backup", {"turns": taken, "rows": figures, "database": size}, text, options.docs, PAGE)
    if figures[1]["size"] > 1 / SIZE:
        sys.exit("A backup is larger than a quarter of the runbook's.")
    if figures[1]["time"] > LIMITS[compression]:
        sys.exit(f"A backup takes more than {LIMITS[compression]} of the runbook's time.")


if __name__ == "__main__":
    main()
