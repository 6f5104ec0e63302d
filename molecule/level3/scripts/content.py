"""Run on the app host: what the databases hold, asked by psql and not by the collection. Ends with 1 where it is wrong.

Usage: python3 level3-content.py COMMAND
  keep     remember every row of the database that serves, and forget what was acknowledged so far
  held     nothing that was kept or acknowledged since is missing, in whichever database of ours it is now
  serves   nothing that was kept or acknowledged since is missing in the database that serves
  apart    the parked database holds all of it, and what the downgrade leaves alone is the same in the one that serves
  salvaged nothing that was kept or acknowledged since is missing in the database that serves and its salvage schema
  one      exactly one database bears the name that serves, all others of ours are closed
  parked   the same, and names of those that are closed
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path.home()
KEPT, ACKNOWLEDGED = HOME / "level3-kept.json", HOME / "level3-acknowledged"
#: Rows of these are only ever inserted; those of the others are changed too while the application works.
INSERTED = ("users", "agents", "assets")
#: What of a workflow its worker leaves alone.
WORKFLOW = ("id", "brand_id", "workflow_type", "created_at")
#: Where the writer's markers are.
MARKED = {"users": "name", "brand_learnings": "lesson"}
LIVE = urllib.parse.urlsplit(
    re.search(
        r"(?m)^DATABASE_URL=(.*)", (HOME / "sparklio_ai_marketing_studio/backend/.env").read_text(encoding="utf-8")
    )[1]
).path.strip("/")


def psql(query: str, database: str = "postgres", writes: bool = False) -> str:
    done = subprocess.run(
        ["sudo", "-n", "-u", "postgres", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database],
        input=query if writes else f"SET default_transaction_read_only = on;\n{query}",
        **{"capture_output": True, "text": True, "timeout": 60, "cwd": "/"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{database}: {done.stderr.strip()}")
    return done.stdout.strip()


def databases() -> dict[str, bool]:
    """All whose names begin as that of the one that serves, and whether they let anybody in."""
    return json.loads(
        psql(
            "SELECT json_object_agg(datname, datallowconn) FROM pg_database "
            f"WHERE left(datname, {len(LIVE)}) = '{LIVE}'"
        )
    )


@contextmanager
def opened(name: str) -> Iterator[str]:
    """A database that is closed, for as long as it is read."""
    if name == LIVE:
        yield name
        return
    psql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true', writes=True)
    try:
        yield name
    finally:
        psql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false', writes=True)


def columns(database: str, schema: str = "public") -> dict[str, list[str]]:
    return json.loads(
        psql(
            "SELECT json_object_agg(relname, names) FROM (SELECT relname, json_agg(attname ORDER BY attnum) AS names "
            f"FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE relnamespace = '{schema}'::regnamespace "
            "AND relkind = 'r' AND relname <> 'alembic_version' AND attnum > 0 AND NOT attisdropped GROUP BY 1) t",
            database,
        )
    )


def rows(database: str, table: str, names: list[str] | tuple[str, ...], schema: str = "public") -> dict[str, str]:
    """The hash of each row, by its key: all tables but one have an ``id``."""
    key = "id::text" if "id" in names else f"ROW({', '.join(names)})::text"
    listed = ", ".join(f'"{name}"' for name in names)
    answer = psql(f'SELECT json_object_agg({key}, md5(ROW({listed})::text)) FROM {schema}."{table}"', database)
    return json.loads(answer) if answer else {}


def content(database: str, schema: str = "public") -> dict[str, dict[str, str]]:
    return {table: rows(database, table, names, schema) for table, names in columns(database, schema).items()}


def markers(database: str, schema: str = "public") -> set[str]:
    found: set[str] = set()
    there = columns(database, schema)
    for table, column in MARKED.items():
        if table in there:
            found |= set(
                psql(f"SELECT {column} FROM {schema}.{table} WHERE {column} LIKE 'ack-%'", database).split("\n")
            )
    return found


def acknowledged() -> set[str]:
    return set(ACKNOWLEDGED.read_text(encoding="utf-8").split()) if ACKNOWLEDGED.exists() else set()


def keep() -> None:
    # Renamed and read again later: the writer may be about to add a line.
    ACKNOWLEDGED.unlink(missing_ok=True)
    found = content(LIVE)
    KEPT.write_text(json.dumps(found), encoding="utf-8")
    print({table: len(items) for table, items in found.items()})


def missing(kept: dict[str, dict[str, str]], places: list[dict[str, dict[str, str]]]) -> list[str]:
    """Rows that are in no place. Those of tables that are only inserted into must be the same to the last byte."""
    told = []
    for table, items in kept.items():
        for key, digest in items.items():
            there = [place[table][key] for place in places if key in place.get(table, {})]
            if not there or (table in INSERTED and digest not in there):
                told.append(f"row {key} of {table} is {'another' if there else 'missing'}")
    return told


def look(names: list[str], schemas: tuple[str, ...] = ("public",)) -> None:
    """Nothing that was kept or acknowledged is missing in all of these databases together."""
    kept, told, places, seen = json.loads(KEPT.read_text(encoding="utf-8")), acknowledged(), [], set()
    for name in names:
        with opened(name):
            for schema in schemas:
                places.append(content(name, schema))
                seen |= markers(name, schema)
    wrong = missing(kept, places) + [f"{marker} was acknowledged and is missing" for marker in sorted(told - seen)]
    print(f"{sum(map(len, kept.values()))} rows kept, {len(told)} acknowledged since, looked for in {', '.join(names)}")
    if not kept["users"] or not kept["workflows"]:
        sys.exit("nothing was kept, so nothing could be missed")
    if not told:
        sys.exit("nobody wrote since, so nothing could be missed")
    if wrong:
        sys.exit("; ".join(wrong[:10]) + f" ({len(wrong)} in all)")


def held() -> None:
    look([name for name in sorted(databases()) if name == LIVE or "_parked_" in name or "_undone_" in name])


def serves() -> None:
    look([LIVE])


def salvaged() -> None:
    found = psql("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_salvage\\_%'", LIVE).split()
    if len(found) != 1:
        sys.exit(f"salvage schemas: {found}")
    look([LIVE], ("public", found[0]))
    profiles = psql(f'SELECT count(learned_profile) FROM {found[0]}."brands.learned_profile"', LIVE)
    # A table of which values are changed is kept whole.
    wanted = {"brand_learnings", "brands.learned_profile", "workflows"}
    if set(columns(LIVE, found[0])) != wanted or int(profiles) == 0:
        sys.exit(f"salvaged are {columns(LIVE, found[0])}, with {profiles} profiles")


def apart() -> None:
    """The newest parked database against what serves: what the downgrade takes, and nothing else, is the difference."""
    name = max(name for name in databases() if "_parked_" in name)
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    with opened(name):
        here, there = columns(LIVE), columns(name)
        wrong = missing(kept, [content(name)])
        if {table: set(names) - set(here.get(table, [])) for table, names in there.items()} != {
            **{table: set() for table in there},
            "brands": {"learned_profile"},
            "brand_learnings": set(there["brand_learnings"]),
        }:
            wrong.append(f"the schemas differ otherwise: {there} and {here}")
        for table in sorted(set(here) & set(there)):
            names = WORKFLOW if table == "workflows" else here[table]
            before, now = rows(name, table, names), rows(LIVE, table, names)
            wrong += [f"row {key} of {table} is not what it was" for key in before if now.get(key) != before[key]]
            # Later than the newest one that is parked, so it was written since.
            first = max(map(int, before))
            wrong += [f"row {key} of {table} came up" for key in set(now) - set(before) if int(key) <= first]
            print(f"{table}: {len(before)} parked, {len(now)} serve")
    if wrong:
        sys.exit("; ".join(wrong[:10]) + f" ({len(wrong)} in all)")


def one() -> list[str]:
    for _ in range(20):
        found = databases()
        # Whoever reads a closed one opens it for that long.
        if not [name for name, connects in found.items() if connects and name != LIVE]:
            break
        time.sleep(0.2)
    strange = [
        name
        for name, connects in found.items()
        if name != LIVE and (connects or not re.fullmatch(re.escape(LIVE) + r"_(parked|undone)_\d{8}_\d{6}", name))
    ]
    if found.get(LIVE) is not True or strange:
        sys.exit(f"databases, and whether they are open: {found}")
    return sorted(set(found) - {LIVE})


def parked() -> None:
    print(" ".join(one()))


if __name__ == "__main__":
    os.umask(0o077)
    commands = (keep, held, serves, apart, salvaged, one, parked)
    {command.__name__: command for command in commands}[sys.argv[1]]()
