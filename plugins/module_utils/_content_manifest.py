# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database holds, table by table: the questions that find it out, and how two answers compare. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = 1

#: Keeps the role's own timeouts from ending a session that has to last, as far as the server knows them.
TIMEOUTS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
#: What a row looks like as text depends on these; both sides must say it the same way.
SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "3",
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "xmlbinary": "base64",
    "jit": "off",
    "row_security": "off",
    **TIMEOUTS,
    "lock_timeout": "10s",
}

OURS = """
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = '{catalog}'::pg_catalog.regclass
                    AND d.objid = {object}.oid AND d.deptype = 'e')"""
OUR_RELATIONS = OURS.format(catalog="pg_catalog.pg_class", object="c")

#: Types whose values are hashed as they are stored, at a fraction of the cost. All others are made text first: they
#: have no hash, or one that is the same for 1.0 and 1.00 (as jsonb has for the numbers in it).
BINARY = (
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "date", "timestamp without time zone"),
    *("timestamp with time zone", "uuid", "bytea", "jsonb"),
)
_BINARY_LIST = ", ".join(f"'{name}'" for name in BINARY)

#: Each row is one answer, as JSON in one line.
TABLES = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'bytes', pg_table_size(c.oid),
    'readable', has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
    'hidden', row_security_active(c.oid),
    'columns', (SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attname COLLATE "C"), '[]')
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'binary', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid::regtype::text IN ({_BINARY_LIST}))
    ) ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"), '[]')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OUR_RELATIONS}
"""

SEQUENCES = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'increment', s.seqincrement, 'cycle', s.seqcycle,
    'readable', has_sequence_privilege(c.oid, 'SELECT'),
    'last', CASE WHEN has_sequence_privilege(c.oid, 'SELECT') THEN pg_sequence_last_value(c.oid) END
    ) ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"), '[]')
FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {OUR_RELATIONS}
"""

LARGE_OBJECTS = """
SELECT jsonb_build_object('rows', count(*), 'hash',
    coalesce(sum(hashtextextended(m.oid::text || ':' || encode(sha256(lo_get(m.oid)), 'hex'), 0)), 0)::text)
FROM pg_catalog.pg_largeobject_metadata m
"""

EXTENSIONS = """
SELECT coalesce(jsonb_agg(jsonb_build_object('name', e.extname, 'version', e.extversion, 'schema', n.nspname)
    ORDER BY e.oid), '[]')
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'
"""

_OUR_FUNCTIONS = OURS.format(catalog="pg_catalog.pg_proc", object="p")
#: How many of each kind there are. A table's kind is that of pg_class.relkind.
OBJECTS = f"""
SELECT coalesce(jsonb_object_agg(kind, number), '{{}}') FROM (
    SELECT 'relation ' || c.relkind::text AS kind, count(*) AS number
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND {OUR_RELATIONS} GROUP BY c.relkind
    UNION ALL
    SELECT 'constraint ' || k.contype::text, count(*)
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype IN ('p', 'u', 'f', 'x') AND k.conparentid = 0 AND c.relpersistence <> 't' AND {OUR_RELATIONS}
    GROUP BY k.contype
    UNION ALL
    SELECT 'trigger', count(*)
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND c.relpersistence <> 't' AND {OUR_RELATIONS}
    UNION ALL
    SELECT 'function', count(*)
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {_OUR_FUNCTIONS}
) AS counted
"""


class ContentError(Exception):
    """A content manifest can't be used. The message says why."""


def identifier(*parts: str) -> str:
    """Quote the parts of a name for SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """Quote a text for SQL, whatever standard_conforming_strings is."""
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return f"E{quoted}" if "\\" in text else quoted


def table_name(table: Mapping[str, Any]) -> str:
    """Name a table for people; those in public by their own name alone."""
    return table["name"] if table["schema"] == "public" else f"{table['schema']}.{table['name']}"


def find_table(name: str, tables: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The table that people call so: by its own name where it is in public or no other schema has one of that name."""
    for table in tables:
        if name in (table_name(table), f"{table['schema']}.{table['name']}"):
            return table
    bare = [table for table in tables if table["name"] == name]
    return bare[0] if len(bare) == 1 else None


def apply_settings() -> str:
    """The statement that sets SETTINGS, as far as the server knows them."""
    pairs = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in SETTINGS.items())
    return (
        f"SELECT count(set_config(s.name, v.value, false)) FROM (VALUES {pairs}) AS v(name, value) "
        "JOIN pg_catalog.pg_settings s ON lower(s.name) = v.name"
    )


def lock(tables: Sequence[Mapping[str, Any]]) -> str | None:
    """The statement that keeps the tables from being dropped, rewritten or emptied until the dump has them.

    TRUNCATE would empty a table even for those who look at an older snapshot.
    """
    names = ", ".join(f"ONLY {identifier(table['schema'], table['name'])}" for table in tables)
    return f"LOCK TABLE {names} IN ACCESS SHARE MODE" if names else None


def content_of(table: Mapping[str, Any], hashed: bool = True, records: bool = True) -> str:
    """The question how many rows a table holds, and which.

    The columns are taken by name: a dump may put those of an inheriting table into another order. Unlike ``t::text``,
    this also does for a column that is called as the table is.

    Args:
        hashed: whether to ask which, not only how many.
        records: whether the server can hash rows as they are stored (PostgreSQL 14 and later).
    """
    if not hashed:
        digest = "NULL"
    elif records and table["columns"]:
        columns = ", ".join(
            f"t.{identifier(name)}" + ("" if name in table["binary"] else '::text COLLATE "C"')
            for name in table["columns"]
        )
        digest = f"coalesce(sum(hash_record_extended(ROW({columns}), 0)), 0)::text"
    else:
        columns = ", ".join(f"t.{identifier(name)}" for name in table["columns"])
        digest = f"coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text"
    return (
        f"SELECT jsonb_build_object('rows', count(*), 'hash', {digest}) "
        f"FROM ONLY {identifier(table['schema'], table['name'])} AS t"
    )


def refusals(tables: Sequence[Mapping[str, Any]], sequences: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why a dump by this role would not hold everything, each with its cure; nothing where it would."""
    found = []
    unreadable = [table_name(item) for item in (*tables, *sequences) if not item["readable"]]
    hidden = [table_name(table) for table in tables if table["readable"] and table["hidden"]]
    if unreadable:
        found.append(f"it may not read {listed(unreadable)} (GRANT pg_read_all_data TO the role, or name its owner)")
    if hidden:
        found.append(
            f"row level security would hide rows of {listed(hidden)} (ALTER ROLE … BYPASSRLS, or name its owner)"
        )
    return found


def listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def manifest(
    server: Mapping[str, Any],
    tables: Sequence[Mapping[str, Any]],
    sequences: Sequence[Mapping[str, Any]],
    large_objects: Mapping[str, Any] | None,
    extensions: Sequence[Mapping[str, Any]],
    objects: Mapping[str, int],
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the answers together. ``tables`` have got their ``rows`` and ``hash``."""
    return {
        "version": VERSION,
        "server_version": server["version"],
        "database": server["database"],
        "bytes": server["bytes"],
        "tables": [{key: table[key] for key in ("schema", "name", "columns", "rows", "hash")} for table in tables],
        "sequences": [
            {key: item[key] for key in ("schema", "name", "increment", "cycle", "last")} for item in sequences
        ],
        "large_objects": None if large_objects is None else dict(large_objects),
        "extensions": [dict(item) for item in extensions],
        "objects": dict(objects),
        "settings": dict(settings or {}),
    }


def decode(text: str) -> dict[str, Any]:
    """Parse a content manifest, or raise ContentError."""
    try:
        found = json.loads(text)
        if found["version"] > VERSION:
            raise ContentError(f"it has version {found['version']}, and this collection reads up to version {VERSION}")
        for table in found["tables"]:
            if not (isinstance(table["schema"], str) and isinstance(table["name"], str)):
                raise ContentError("it names a table that has no name")
            table["rows"], table["hash"], table["columns"]
        for key in ("sequences", "large_objects", "extensions", "objects", "settings", "bytes"):
            found[key]
    except (ValueError, KeyError, TypeError) as exc:
        raise ContentError(f"it is no content manifest ({type(exc).__name__}: {exc})") from exc
    return found


def differences(kept: Mapping[str, Any], restored: Mapping[str, Any]) -> list[str]:
    """What differs in a restored database from what was kept, in words; nothing where it is the same.

    Sequences are no part of a snapshot: they may have gone on between it and the dump, and never back.
    """
    found = []
    wanted, got = _by_name(kept["tables"]), _by_name(restored["tables"])
    for name, table in wanted.items():
        other, shown = got.get(name), table_name(table)
        if other is None:
            found.append(f"table {shown} is missing")
        elif other["columns"] != table["columns"]:
            found.append(f"table {shown} has other columns")
        elif other["rows"] != table["rows"]:
            found.append(f"table {shown} has {other['rows']} rows, {table['rows']} were kept")
        elif table["hash"] is not None and other["hash"] != table["hash"]:
            found.append(f"table {shown} has {table['rows']} rows as it had, with other contents")
    found += [f"table {table_name(got[name])} was not kept" for name in got if name not in wanted]
    sequences = _by_name(restored["sequences"])
    for name, item in _by_name(kept["sequences"]).items():
        found += _sequence_problem(item, sequences.get(name))
    if kept["large_objects"] is not None and kept["large_objects"] != restored["large_objects"]:
        counts = [(side["large_objects"] or {}).get("rows") for side in (restored, kept)]
        found.append(f"there are {counts[0]} large objects, {counts[1]} were kept, or their contents differ")
    kinds = sorted({*kept["objects"], *restored["objects"]})
    found += [
        f"{restored['objects'].get(kind, 0)} of the kind {kind!r}, {kept['objects'].get(kind, 0)} were kept"
        for kind in kinds
        if kept["objects"].get(kind, 0) != restored["objects"].get(kind, 0)
    ]
    return found


def _sequence_problem(kept: Mapping[str, Any], restored: Mapping[str, Any] | None) -> list[str]:
    shown = table_name(kept)
    if restored is None:
        return [f"sequence {shown} is missing"]
    last, now = kept["last"], restored["last"]
    if last is None or kept["cycle"]:
        return []
    if now is None or (now < last if kept["increment"] > 0 else now > last):
        return [f"sequence {shown} is at {now}, behind {last}"]
    return []


def _by_name(items: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(item["schema"], item["name"]): item for item in items}
