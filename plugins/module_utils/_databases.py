# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that take each other's place by name: what they are called, what they are known by, and the SQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import (
    OUR_RELATIONS,
    identifier,
    literal,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._readiness import IN_THE_WAY

_MOST_NAME = 63
#: Comments on databases of ours. Without one of them nothing is ever dropped.
CANDIDATE = "sparklio.rollback: candidate of run {run}, safe to drop"
PARKED = "sparklio.rollback: what served before run {run}; purge it on purpose: -e purge={run}"
UNDONE = "sparklio.rollback: what run {run} let serve until it was undone; purge it on purpose: -e purge={run}"


class Names(NamedTuple):
    """What the databases of one run are called beside the one that serves, and the schema for what it drops there."""

    candidate: str
    parked: str
    undone: str
    salvage: str


def names(live: str, run_id: str) -> Names:
    """Return names of at most 63 bytes that belong to a database and a run, such as ``app_parked_20250115_140000``."""
    stamp = re.sub(r"[^a-z0-9]+", "_", run_id.lower().replace("-level3", ""))[:24]

    return Names(*(_cut(live, f"_{word}_{stamp}") for word in Names._fields))


def _cut(name: str, ending: str = "") -> str:
    """The name with an ending, in as many bytes as the server keeps, cut between two characters."""
    return name.encode()[: _MOST_NAME - len(ending)].decode("utf-8", "ignore") + ending


def _unused(name: str, taken: set[str]) -> str:
    """The name as the server keeps it, with a number where another one is the same by then."""
    found, number = _cut(name), 1
    while found in taken:
        number += 1
        found = _cut(name, f"_{number}")
    taken.add(found)
    return found


def run_of(comment: str | None) -> str | None:
    """The run that a database's comment names, or None where it isn't one of ours that was parked."""
    for form in (PARKED, UNDONE):
        before, _run, _rest = form.partition("{run}")
        match = re.match(re.escape(before) + r"([\w.:-]+?)(?=[;,: ]|$)", comment or "")
        if match:
            return match[1]
    return None


#: Tables as ``salvage`` takes them, partitioned ones too. A column's type, or the order of its values, may be the
#: application's own: the downgrade may drop that, and a copy that had it would be in the way, or go with it.
KEEPABLE = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'partitioned', c.relkind = 'p',
    'parent', (SELECT pn.nspname || '.' || pc.relname FROM pg_catalog.pg_inherits i
        JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
        WHERE i.inhrelid = c.oid AND c.relispartition),
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'own_type', tn.nspname <> 'pg_catalog',
        'own_order', EXISTS (SELECT FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace cn
            ON cn.oid = o.collnamespace WHERE o.oid = a.attcollation AND cn.nspname <> 'pg_catalog')
        ) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'key', (SELECT coalesce(jsonb_agg(a.attname ORDER BY u.place), '[]')
        FROM pg_catalog.pg_constraint k CROSS JOIN unnest(k.conkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number
        WHERE k.conrelid = c.oid AND k.contype = 'p')
    ) ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"), '[]')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OUR_RELATIONS}"""


def _full(table: Mapping[str, Any]) -> str:
    return f"{table['schema']}.{table['name']}"


def losses(planned: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What ``salvage`` is told of drops as _downgrade_marks finds them, as far as their names are known."""
    found: list[dict[str, Any]] = []
    for item in planned:
        if item["kind"] == "schema" and item["name"]:
            found.append({"schema": item["name"]})
        elif item["kind"] in ("table", "column", "rows", "values") and item["table"]:
            found.append({"table": item["table"], "column": item["name"] if item["kind"] == "column" else None})
    return found


class _Lost:
    """Which tables are meant by what is about to be lost."""

    def __init__(self, tables: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]]) -> None:
        self.by_name = {_full(table): table for table in tables}
        self.schemas = {item["schema"] for item in lost if item.get("schema")}
        self.items = [item for item in lost if item.get("table")]
        self.names = {item["table"] for item in self.items if item.get("column") is None}

    def whole(self, table: Mapping[str, Any]) -> bool:
        return table["schema"] in self.schemas or bool({_full(table), table["name"]} & self.names)

    def above(self, table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The tables that this one is a partition of."""
        while table["parent"] in self.by_name:
            table = self.by_name[table["parent"]]
            yield table

    def columns(self, table: Mapping[str, Any]) -> list[str]:
        there = {column["name"] for column in table["columns"]}
        named = [item.get("column") for item in self.items if item["table"] in (_full(table), table["name"])]
        return list(dict.fromkeys(column for column in named if column in there))


def may_differ(
    tables: Sequence[Mapping[str, Any]], lost: Sequence[Mapping[str, Any]], may_change: Sequence[str]
) -> list[str]:
    """Tables whose rows may be others afterwards, with the partitions of those, and all of a schema that is lost."""
    meant = _Lost(tables, [item for item in lost if item.get("schema")])
    found = {*may_change, *(_full(table) for table in tables if meant.whole(table))}
    found |= {_full(table) for table in tables if found & {_full(above) for above in meant.above(table)}}
    return sorted(found)


def salvage(
    schema: str,
    tables: Sequence[Mapping[str, Any]],
    lost: Sequence[Mapping[str, Any]],
    may_change: Sequence[str] = (),
) -> list[str]:
    """The statements that copy aside what is about to be lost, for the transaction that loses it.

    Nobody else writes to those tables from before they are copied until the transaction ends: what came between a copy
    and the DROP would be lost everywhere. A lock on a table is one on its partitions and children too, whose rows its
    copy holds.

    Args:
        schema: where to; made first.
        tables: that there are, as KEEPABLE answers.
        lost: ``table`` (with or without its schema) and ``column``, where None stands for the whole table; or
            ``schema``, for all its tables. A column is kept with the table's key, or with the place of each row where
            there is none.
        may_change: tables, with their schemas, that are locked although nothing of them is copied.
    """
    meant = _Lost(tables, lost)
    locked, copies = [], []
    taken: set[str] = set()
    for table in tables:
        source = identifier(table["schema"], table["name"])
        kept = table["name"] if table["schema"] == "public" else _full(table)
        shown = {column["name"]: _shown(column) for column in table["columns"]}
        whole, gone = meant.whole(table), meant.columns(table)
        if whole or gone or _full(table) in may_change:
            locked.append(source)
        # The copy of a partitioned table holds those of its partitions.
        if any(map(meant.whole, meant.above(table))):
            continue
        if whole:
            into = identifier(schema, _unused(kept, taken))
            copies.append(f"CREATE TABLE {into} AS SELECT {', '.join(shown.values())} FROM {source}")
            continue
        for column in gone:
            key = [part for part in table["key"] if part != column]
            # No column of a table may be called ctid, or tableoid.
            where = "tableoid::regclass::text || ctid::text" if table["partitioned"] else "ctid::text"
            place = f"{where} AS {identifier(_unused('place', {column}))}"
            listed = ", ".join([*([shown[part] for part in key] or [place]), shown[column]])
            into = identifier(schema, _unused(f"{kept}.{column}", taken))
            copies.append(f"CREATE TABLE {into} AS SELECT {listed} FROM {source}")
    locks = [f"LOCK TABLE {', '.join(locked)} IN SHARE ROW EXCLUSIVE MODE"] if locked else []
    return [f"CREATE SCHEMA {identifier(schema)}", *locks, *copies]


def _shown(column: Mapping[str, Any]) -> str:
    """A column as its copy has it: nothing of the application's own is left of its type."""
    name = identifier(column["name"])
    plain = name + ("::text" if column["own_type"] else "")
    if column["own_order"]:
        plain += ' COLLATE pg_catalog."default"'
    return plain if plain == name else f"{plain} AS {name}"


#: All databases that bear a name, with what tells them apart whatever they are called.
def found(live: str, known: Sequence[str]) -> str:
    listed = ", ".join(literal(name) for name in (live, *known))
    return f"""
SELECT coalesce(jsonb_object_agg(d.datname, jsonb_build_object(
    'oid', d.oid::bigint, 'owner', pg_get_userbyid(d.datdba), 'connects', d.datallowconn, 'limit', d.datconnlimit,
    'comment', shobj_description(d.oid, 'pg_database'))), '{{}}')
FROM pg_catalog.pg_database d WHERE d.datname IN ({listed})"""


def by_oid(oid: int) -> str:
    return f"SELECT datname FROM pg_catalog.pg_database WHERE oid = {int(oid)}"


def lock(live: str) -> str:
    """One switch of a database at a time. The lock is held in the maintenance database, and ends with the session."""
    return f"SELECT pg_try_advisory_lock(hashtextextended({literal('sparklio.rollback switch ' + live)}, 0))"


def _in_place(run_id: str) -> str:
    return f"hashtextextended({literal('sparklio.rollback in place ' + run_id)}, 0)"


def hold_in_place(run_id: str) -> str:
    """What the transaction of a downgrade in place begins with, and holds until it is over, its commit included."""
    return f"SELECT pg_advisory_xact_lock({_in_place(run_id)})"


def try_in_place(run_id: str) -> str:
    """Whether no downgrade in place of that run is under way in this database, nor will be while the session lasts."""
    return f"SELECT pg_try_advisory_lock({_in_place(run_id)})"


def holders_in_place(run_id: str) -> str:
    """Who is at a downgrade in place of that run in this database."""
    return f"""
SELECT coalesce(jsonb_agg(l.pid), '[]') FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid()
AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
AND (l.classid::bigint << 32 | l.objid::bigint) = {_in_place(run_id)}"""


def allow(name: str, connects: bool) -> str:
    return f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS {'true' if connects else 'false'}"


def _others(name: str, but: int) -> str:
    return f"a.datname = {literal(name)} AND a.pid NOT IN (pg_backend_pid(), {int(but)}) AND {IN_THE_WAY}"


def sessions(name: str, but: int = 0) -> str:
    """Whoever is in a database, without one of ours, and what it is called."""
    return f"""
SELECT coalesce(jsonb_agg(jsonb_build_object('pid', a.pid, 'user', a.usename,
    'application', coalesce(nullif(a.application_name, ''), a.backend_type, 'no name'), 'state', a.state)), '[]')
FROM pg_catalog.pg_stat_activity a
WHERE {_others(name, but)}"""


def terminate(name: str, but: int = 0) -> str:
    return f"""
SELECT count(pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a
WHERE {_others(name, but)}"""


def collation_version(live: str) -> str:
    """The question which version of its collation a database was made with, from PostgreSQL 15 on; else nothing."""
    return f"SELECT datcollversion FROM pg_catalog.pg_database WHERE datname = {literal(live)}"


def copy(live: str, candidate: str, owner: str, number: int, collation: str = "") -> str:
    """The statement that copies a database.

    Args:
        number: version number of the server. From 15 on the files are copied, which takes less time than to log them.
        collation: version of the collation that it was made with. Where the system provides another one by now, the
            server copies it only with this word; the copy is as right or wrong as what it is copied from.
    """
    strategy = " STRATEGY file_copy" if number >= 150000 else ""
    version = f" COLLATION_VERSION {literal(collation)}" if collation else ""
    names = f"{identifier(candidate)} OWNER {identifier(owner)} TEMPLATE {identifier(live)}"
    return f"CREATE DATABASE {names}{strategy}{version}"


def comment(name: str, text: str | None) -> str:
    return f"COMMENT ON DATABASE {identifier(name)} IS {literal(text) if text is not None else 'NULL'}"


def swap(live: str, incoming: str, outgoing: str, mark: str, kept_comment: str | None) -> list[str]:
    """The statements of one transaction by which a database takes the place of another.

    Args:
        live: the name that serves.
        incoming: who takes it over.
        outgoing: what the one that bore it is called from now on.
        mark: comment of that one.
        kept_comment: comment of the one that serves from now on.
    """
    return [
        f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(outgoing)}",
        f"ALTER DATABASE {identifier(incoming)} RENAME TO {identifier(live)}",
        comment(outgoing, mark),
        comment(live, kept_comment),
        allow(live, True),
    ]


def schema_of(table: str) -> str:
    """The question in which schema a table is found by its own name, with the search path of whoever asks."""
    return (
        "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.oid = to_regclass({literal(identifier(table))})"
    )


def version_heads(schema: str | None, table: str) -> str:
    name = identifier(schema, table) if schema else identifier(table)
    return f"SELECT coalesce(jsonb_agg(version_num ORDER BY version_num), '[]') FROM {name}"


def rows(tables: Sequence[Mapping[str, Any]]) -> str:
    """The question how many rows each table holds, as one answer."""
    if not tables:
        return "SELECT '{}'::jsonb"
    parts = [
        f"SELECT {literal(table['schema'] + '.' + table['name'])} AS name, count(*) AS number "
        f"FROM ONLY {identifier(table['schema'], table['name'])}"
        for table in tables
    ]
    return f"SELECT jsonb_object_agg(name, number) FROM ({' UNION ALL '.join(parts)}) AS counted"


def row_changes(before: Mapping[str, int], after: Mapping[str, int], may_change: Sequence[str]) -> list[str]:
    """What became of tables that should have been left alone, in words; nothing where all are as they were.

    Args:
        before: rows by ``schema.table``.
        after: the same, afterwards.
        may_change: tables that the rehearsal saw changed or dropped.
    """
    wrong = []
    for name in sorted({*before, *after} - set(may_change)):
        if name not in after:
            wrong.append(f"table {name} is gone")
        elif name not in before:
            wrong.append(f"table {name} came up")
        elif before[name] != after[name]:
            wrong.append(f"table {name} has {after[name]} rows, {before[name]} before")
    return wrong


#: Rows that were inserted, updated and deleted in each table, since the database or its statistics were made.
ACTIVITY = """
SELECT coalesce(jsonb_object_agg(schemaname || '.' || relname, jsonb_build_array(n_tup_ins, n_tup_upd, n_tup_del)),
'{}')
FROM pg_catalog.pg_stat_user_tables"""


def activity_beside(
    before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]], may_change: Sequence[str]
) -> dict[str, Sequence[int]]:
    """What counts as written before a downgrade in place, by two answers to ACTIVITY around it.

    Others write meanwhile. In a table that the downgrade leaves alone all is theirs, from before it on; in the others
    nobody can tell who wrote, so that only what comes after it counts.
    """
    return {**after, **{name: counts for name, counts in before.items() if name not in may_change}}


def written_since(kept: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> list[str]:
    """What was written to tables between two answers to ACTIVITY, in words.

    A crash of the server resets the statistics: then all that is there counts, which is no more than was written.
    """
    told = []
    for name in sorted(now):
        before = kept.get(name) or (0, 0, 0)
        counts = list(now[name])
        if all(count >= former for count, former in zip(counts, before)):  # noqa: B905 - Python 3.9 has no strict
            counts = [count - former for count, former in zip(counts, before)]  # noqa: B905 - Python 3.9 has no strict
        parts = [
            f"{count} {word}"
            for count, word in zip(counts, ("inserted", "updated", "deleted"))  # noqa: B905 - Python 3.9 has no strict
            if count
        ]
        if parts:
            told.append(f"{name.removeprefix('public.')}: {', '.join(parts)}")
    return told
