"""Level 3's work on a database of 1 GB: for how long nobody can write, against a plain copy of the database; and all of
it with the backup, its restore and the rehearsal, against the runbook's own steps done by hand.

On a PostgreSQL of its own, in turns. What Ansible takes between the steps is not in the figures: they are those of the
modules, each in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import report
from backup import FILL

sys.path.insert(0, str(report.ROOT / "tests/integration"))
from application import Application, module, revision
from conftest import Cluster, _server_programs

PAGE = report.ROOT / "docs" / "schema.md"
#: As a server in production has it, and not as one for tests.
SETTINGS = "fsync = on\nshared_buffers = 512MB\nmax_wal_size = 4GB\nautovacuum = on\n"
DROP = """
    op.drop_column("workflows", "payload")
    op.drop_table("brand_learnings")
"""
HISTORY = {
    "r1": revision("r1", None, "pass", "pass"),
    "r2": revision("r2", "r1", "pass", DROP),
}
DROPS = [
    {"kind": "column", "table": "workflows", "name": "payload"},
    {"kind": "table", "table": "brand_learnings", "name": None},
]
#: The most that is promised.
CLOSED, SWAP, WITH_RESTORE, WITHOUT_RESTORE, UNDO = 1.5, 0.1, 1 / 3, 1.0, 5.0


def timed(work) -> tuple[float, dict]:
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result or {}


class Turn:
    """One way there and back, by hand and by Level 3, on the same database."""

    def __init__(self, app: Application, number: int) -> None:
        self.app, self.run_id = app, f"2025011{number % 10}-140000-level3"
        self.folder = app.root / f"turn-{number}"
        self.folder.mkdir()
        self.env = {**os.environ, "DATABASE_URL": app.url, "PGPASSWORD": "", "PGHOST": app.cluster.sockets}
        self.env |= {"PGPORT": str(app.cluster.port), "PGUSER": "postgres"}

    def shell(self, *lines: str) -> float:
        script = "set -e\n" + "\n".join(lines)
        began = time.monotonic()
        subprocess.run(["bash", "-c", script], env=self.env, cwd=self.app.backend, check=True, capture_output=True)
        return time.monotonic() - began

    def copy(self, strategy: str = "") -> float:
        """What a plain copy takes."""
        seconds, _ = timed(
            lambda: self.app.cluster.sql(f"CHECKPOINT; CREATE DATABASE shop_copy TEMPLATE shop {strategy}")
        )
        self.app.cluster.sql("DROP DATABASE shop_copy")
        return seconds

    def by_hand(self) -> tuple[float, float]:
        """The runbook's steps: three dumps, the downgrade, the counts; then its restore. The database is as before."""
        programs, dump = self.app.cluster.programs, self.folder / "by-hand.sql"
        steps = self.shell(
            f"{programs}/pg_dump shop > {dump}",
            f"{programs}/pg_dump --schema-only shop > {self.folder}/schema.sql",
            f"{programs}/pg_dump --data-only shop > {self.folder}/data.sql",
            f"{sys.executable} -m alembic downgrade r1",
            f"{programs}/psql -qAt shop -c 'SELECT count(*) FROM users' -c 'SELECT count(*) FROM workflows' "
            "-c 'SELECT count(*) FROM assets' -c 'SELECT * FROM information_schema.table_constraints'",
        )
        # Into a new database: over the old one it restores nothing at all.
        restore = self.shell(
            f"{programs}/psql -q -c 'DROP DATABASE shop WITH (FORCE)' postgres",
            f"{programs}/psql -q -c 'CREATE DATABASE shop OWNER shop_user' postgres",
            f"{programs}/psql -q -v ON_ERROR_STOP=1 shop < {dump}",
        )
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.app.cluster.sql("VACUUM ANALYZE", "shop")
        return steps, restore

    def level3(self) -> dict[str, float]:
        app, found, result = self.app, {}, {}

        def step(name: str, what: str, **options) -> None:
            found[name], result[name] = timed(lambda: module(what, app.options(**options), fails=False))

        run = {"journal": app.journal(self.run_id), "run_id": self.run_id, "backend_dir": str(app.backend)}
        heads = {"revisions": ["r2"], "heads": ["r2"], "target_heads": ["r1"]}
        step("backup", "pg_backup", dest=f"{self.folder}/database", admin_command=None)
        step(
            "restore",
            "pg_verify",
            **{"path": f"{self.folder}/database", "artifact": result["backup"]["artifact"], "keep": True},
        )
        step(
            "rehearsal",
            "database_rehearsal",
            **{"scratch": result["restore"]["scratch"], "content_file": f"{self.folder}/database/content.json"},
            **{"schema_file": f"{self.folder}/schema.json", "planned": DROPS, "backend_dir": str(app.backend)},
            **heads,
        )
        assert result["rehearsal"]["verdict"] == "pass", result["rehearsal"]["evidence"]
        step(
            "switch",
            "database_switch",
            **{"may_change": result["rehearsal"]["may_change"], "schema_file": f"{self.folder}/schema.json"},
            **heads,
            **run,
        )
        step("validate", "pg_integrity", admin_command=None)
        detail = app.pending(self.run_id)["database"]
        undo = {"state": "undone", "run_id": self.run_id, "detail": detail}
        step("undo", "database_switch", **undo, journal=app.journal(self.run_id, "undo", True))
        app.cluster.sql(f"DROP DATABASE {result['undo']['parked']}")
        shutil.rmtree(self.folder)
        (app.state_dir / "lock").unlink()
        return {
            **found,
            "all": sum(found[name] for name in ("backup", "restore", "rehearsal", "switch", "validate")),
            "closed": result["switch"]["closed_seconds"],
            "copy": result["switch"]["copy_seconds"],
            "swap": result["switch"]["swap_seconds"],
            "undo_closed": result["undo"]["closed_seconds"],
        }


def measure(app: Application, turns: int) -> list[dict[str, float]]:
    taken = []
    for number in range(turns):
        turn = Turn(app, number)
        plain = turn.copy()
        steps, restore = turn.by_hand()
        taken.append({"plain": plain, "steps": steps, "runbook_restore": restore, **turn.level3()})
    return taken


def main() -> None:
    options = report.arguments(__doc__).parse_args()
    turns, rows = (2, 150_000) if options.quick else (3, 1_050_000)
    cluster = Cluster(_server_programs(), SETTINGS)
    folder = Path(tempfile.mkdtemp(prefix="bench-schema-"))
    try:
        cluster.start()
        app = Application(cluster, folder, "shop", HISTORY)
        app.sql(FILL.replace("SET ROLE sparklio_bench", "SET ROLE shop_user").format(users=rows // 6, rows=rows))
        app.sql("VACUUM (ANALYZE, PARALLEL 0); CHECKPOINT;")
        size = int(app.sql("SELECT pg_database_size('shop')"))
        version = app.sql("SHOW server_version").split()[0]
        taken = measure(app, turns)
    finally:
        cluster.destroy()
        shutil.rmtree(folder, ignore_errors=True)

    def middle(name: str) -> float:
        return median(turn[name] for turn in taken)

    def ratio(name: str, *others: str) -> float:
        return median(turn[name] / sum(turn[other] for other in others) for turn in taken)

    figures = [
        ("nobody can write", "closed", ratio("closed", "plain"), CLOSED, "CREATE DATABASE … TEMPLATE"),
        ("all of it", "all", ratio("all", "steps", "runbook_restore"), WITH_RESTORE, "the runbook with its restore"),
        ("all of it", "all", ratio("all", "steps"), WITHOUT_RESTORE, "the runbook without it"),
    ]
    text = report.table(
        ["Level 3", "Seconds", "Ratio", "Promised", "Against"],
        [
            [what, f"{middle(key):.1f}", f"{value:.2f}", f"{most:.2f}", against]
            for what, key, value, most, against in figures
        ]
        + [
            ["the swap", f"{middle('swap'):.3f}", "", f"{SWAP:.1f} s", ""],
            ["undo", f"{middle('undo'):.1f}", "", f"{UNDO:.0f} s", ""],
            *[
                [f"of it: {name}", f"{middle(name):.1f}", "", "", ""]
                for name in ("backup", "restore", "rehearsal", "switch", "validate")
            ],
            ["by hand: a plain copy", f"{middle('plain'):.1f}", "", "", ""],
            ["by hand: the runbook's steps", f"{middle('steps'):.1f}", "", "", ""],
            ["by hand: its restore", f"{middle('runbook_restore'):.1f}", "", "", ""],
        ],
    )
    text += (
        f"\n\nPostgreSQL {version}, a database of {size / 1e6:.0f} MB; medians of {turns} turns, ratios within a turn. "
        f"{report.machine()}, load {os.getloadavg()[1]:.1f}."
    )
    report.publish("schema", taken, text, options.docs, PAGE)
    broken = [f"{what} against {against}" for what, _key, value, most, against in figures if value > most]
    broken += ["the swap"] if middle("swap") > SWAP else []
    broken += ["undo"] if middle("undo") > UNDO else []
    if broken:
        sys.exit(f"Not as promised: {', '.join(broken)}.")


if __name__ == "__main__":
    main()
