"""Run on the app host by way of stdin: prints what is true there, as JSON, without asking the collection.

Usage: python3 - < observe.py            the state
       python3 - progress < observe.py   how far a run is
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path.home() / "sparklio_ai_marketing_studio"
STATE = Path(f"{ROOT}.rollback")
SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|API_?KEY|ACCESS_KEY", re.IGNORECASE)


def output(*argv: str, **environment: str) -> str | None:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=30, check=True, env={**os.environ, **environment}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def git(*argv: str) -> str | None:
    return output("git", "-C", str(ROOT), *argv)


def environment() -> dict[str, str]:
    with contextlib.suppress(OSError):
        lines = (ROOT / "backend/.env").read_text(encoding="utf-8").splitlines()
        pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
        return {key.strip(): value.strip().strip("'\"") for key, value in pairs}
    return {}


def secrets() -> list[str]:
    found = set()
    for key, value in environment().items():
        if SECRET_NAME.search(key):
            found.add(value)
        if "://" in value:
            found.add(urllib.parse.urlsplit(value).password or "")
    # A short value, or the product's name, turns up by itself.
    found = {value for value in found if len(value) >= 8 and value not in ("sparklio", "sparklio_user")}
    with contextlib.suppress(OSError):
        found |= set(json.loads((Path.home() / "canaries.json").read_text(encoding="utf-8")))
    return sorted(found)


def started(pid: int) -> float | None:
    """Start of a process, in seconds since the epoch."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return None
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def process(pid: int) -> dict:
    cwd = None
    with contextlib.suppress(OSError):
        cwd = os.readlink(f"/proc/{pid}/cwd")
    return {"pid": pid, "started": started(pid), "cwd": cwd}


def listeners(port: int) -> list[dict]:
    """The processes of this user that listen on a port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                field = line.split()
                if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{field[9]}]")
    pids = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry) in inodes:
                pids.add(int(entry.parts[2]))
    return [process(pid) for pid in sorted(pids)]


def pm2() -> list[dict]:
    text = output("pm2", "jlist")
    with contextlib.suppress(ValueError, TypeError, IndexError):
        # The first call of a session can print a banner before the list.
        apps = json.loads(text[text.index("[{") :])
        return [
            {
                "name": app["name"],
                "pid": app["pid"],
                "restarts": app["pm2_env"]["restart_time"],
                "status": app["pm2_env"]["status"],
            }
            for app in apps
        ]
    return []


def http(url: str) -> dict:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return {"code": answer.status, "body": answer.read(2000).decode(errors="replace")}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "body": error.read(2000).decode(errors="replace")}
    except OSError as error:
        return {"code": 0, "body": str(error)}


def digest(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return f"{oct(path.stat().st_mode & 0o777)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return None


def text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return None


def schema() -> list[str] | None:
    url = urllib.parse.urlsplit(environment().get("DATABASE_URL", ""))
    rows = output(
        *("psql", "-XAtq", "-c", "SELECT version_num FROM alembic_version ORDER BY 1"),
        PGHOST=url.hostname or "",
        PGPORT=str(url.port or 5432),
        PGUSER=url.username or "",
        PGPASSWORD=urllib.parse.unquote(url.password or ""),
        PGDATABASE=url.path.strip("/"),
    )
    return None if rows is None else rows.split()


def last_run() -> dict:
    runs = sorted((STATE / "runs").glob("*/journal.jsonl"))
    if not runs:
        return {"run_id": None, "records": [], "damaged": 0, "mode": None}
    records, damaged = [], 0
    for line in runs[-1].read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            damaged += 1
    return {
        "run_id": runs[-1].parent.name,
        "records": records,
        "damaged": damaged,
        "mode": oct(runs[-1].stat().st_mode & 0o777),
    }


def leaks() -> list[str]:
    """Files of the runs that hold a secret."""
    values = secrets()
    found = []
    # os.walk, since a run that is under way moves directories meanwhile.
    for folder, folders, names in os.walk(STATE / "runs"):
        # What pip and npm brought holds nothing of this host.
        folders[:] = [name for name in folders if name not in ("node_modules", "site-packages")]
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if path.is_file() and any(value in path.read_text(errors="replace") for value in values):
                    found.append(str(path))
    return found


def state() -> dict:
    return {
        # The values that may appear nowhere.
        "secrets": secrets(),
        "head": git("rev-parse", "HEAD"),
        "describe": git("describe", "--tags", "--always"),
        "dirty": git("status", "--porcelain", "--untracked-files=no"),
        "branches": (git("for-each-ref", "--format=%(refname:short)", "refs/heads") or "").split(),
        "backend": listeners(8000),
        "frontend": listeners(3000),
        "pm2": pm2(),
        "build_id": text(ROOT / "frontend/.next/BUILD_ID"),
        "requirements": digest(ROOT / "backend/requirements.txt"),
        "venv": str((ROOT / "backend/venv").resolve()) + f" {(ROOT / 'backend/venv/pyvenv.cfg').stat().st_mtime_ns}"
        if (ROOT / "backend/venv/pyvenv.cfg").exists()
        else None,
        "settings": {name: digest(ROOT / name) for name in (".env", "backend/.env", "frontend/.env.local")},
        "schema": schema(),
        "health": http("http://127.0.0.1:8000/health"),
        "web": http("http://127.0.0.1:3000/")["code"],
        "lock": text(STATE / "lock"),
        "run": last_run(),
        "leaks": leaks(),
    }


def progress() -> dict:
    """What tells how far a run is: quick, so that it can be asked again and again."""
    return {"lock": text(STATE / "lock"), "run": last_run()}


print(json.dumps({"progress": progress}.get("".join(sys.argv[1:]), state)()))
