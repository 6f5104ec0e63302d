# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of a dump beside the live one: where it goes, what it is made of, and what people do with it then. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import (
    apply_settings,
    content_of,
    identifier,
    literal,
    table_name,
)


def schema_name(point_id: str) -> str:
    """The schema that the tables of a restore point go into, such as ``restored_20250115t050000z_deploy``."""
    return "restored_" + re.sub(r"[^a-z0-9]+", "_", point_id.lower())


def described(schema: str, name: str) -> str:
    """The question what a table is made of. A type's own line is its name as in the lines of a schema."""
    return f"""
SELECT jsonb_build_object(
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'kind', format_type(a.atttypid, NULL), 'not_null', a.attnotnull,
        'written', a.attgenerated = '', 'always', a.attidentity = 'a',
        'default', a.atthasdef OR a.attidentity <> '', 'base', format_type(b.oid, NULL),
        'builtin', n.nspname = 'pg_catalog',
        'line', 'type ' || CASE n.nspname WHEN 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END
            || quote_ident(b.typname),
        'extension', EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_type'::regclass
            AND d.objid = b.oid AND d.deptype = 'e')) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_type b ON b.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
        JOIN pg_catalog.pg_namespace n ON n.oid = b.typnamespace
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'primary_key', (SELECT coalesce(jsonb_agg(a.attname ORDER BY u.place), '[]')
        FROM pg_catalog.pg_constraint k CROSS JOIN unnest(k.conkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number
        WHERE k.conrelid = c.oid AND k.contype = 'p'),
    'constraints', (SELECT coalesce(jsonb_agg(k.conname ORDER BY k.conname), '[]') FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {literal(schema)} AND c.relname = {literal(name)} AND c.relkind IN ('r', 'p')
"""


def types_there(bases: Collection[str]) -> str:
    """The question which of these types a database has."""
    values = ", ".join(f"({literal(base)})" for base in sorted(bases)) or "(NULL)"
    return (
        "SELECT coalesce(jsonb_agg(v.name), '[]') FROM (VALUES "
        f"{values}) AS v (name) WHERE to_regtype(v.name::text) IS NOT NULL"
    )


def as_text(
    columns: Iterable[Mapping[str, Any]], there: Collection[str], wanted: Mapping[str, str], live: Mapping[str, str]
) -> list[str]:
    """The columns whose type the live database does not have, or has as another: their values come as text.

    Args:
        columns: of the table that is restored.
        there: names of the types that the live database has.
        wanted: lines of the types in the dump.
        live: lines of the types in the live database.
    """
    return [
        column["name"]
        for column in columns
        if not column["builtin"]
        and not (
            column["base"] in there
            and (column["extension"] or wanted.get(column["line"]) == live.get(column["line"], ""))
        )
    ]


def constraint_lines(toc: Iterable[str], schema: str, name: str) -> list[str]:
    """The lines of ``pg_restore --list`` for a table's own keys.

    Those of a table whose name only begins so may be among them. They belong to that one, and do no harm.
    """
    wanted = f"CONSTRAINT {schema} {name} "
    return [line for line in toc if re.sub(r"^\d+; \d+ \d+ ", "", line).startswith(wanted)]


def data_size(toc: Iterable[str], sizes: Mapping[str, int], schema: str, name: str) -> int:
    """How many bytes the dump has of a table. ``sizes`` are those of the dump's files, which bear the item's number."""
    wanted = f"TABLE DATA {schema} {name} "
    found = 0
    for line in toc:
        match = re.match(r"(\d+); \d+ \d+ (.*)", line)
        if match and match[2].startswith(wanted):
            found += sum(size for file, size in sizes.items() if file.startswith(f"{match[1]}.dat"))
    return found


def read_out(table: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], text: Collection[str]) -> list[str]:
    """The statements that write a table's rows to standard output, and nothing else."""
    shown = ", ".join(f"t.{identifier(item['name'])}{'::text' if item['name'] in text else ''}" for item in columns)
    settings = apply_settings().replace("SELECT ", "PERFORM ", 1)
    rows = f"{identifier(table['schema'], table['name'])} AS t"
    # The timeout by itself, and first: a role's own may be shorter than the rest takes.
    return [
        "SET statement_timeout = 0",
        f"DO {literal(f'BEGIN {settings}; END')}",
        f"COPY (SELECT {shown} FROM ONLY {rows}) TO STDOUT",
    ]


def before(schema: str, name: str, columns: Sequence[Mapping[str, Any]], text: Collection[str]) -> str:
    """What makes the table, up to its rows."""
    place = identifier(schema, name)
    made = ", ".join(
        f"{identifier(item['name'])} {'text' if item['name'] in text else item['type']}"
        + (" NOT NULL" if item["not_null"] else "")
        for item in columns
    )
    names = ", ".join(identifier(item["name"]) for item in columns)
    return (
        f"SET statement_timeout = 0;\n{apply_settings()};\nBEGIN;\nCREATE SCHEMA IF NOT EXISTS {identifier(schema)};\n"
        f"CREATE TABLE {place} ({made});\nCOPY {place} ({names}) FROM STDIN;\n"
    )


def after(
    schema: str, table: Mapping[str, Any], key: Sequence[str], binary: Sequence[str], note: str, records: bool
) -> str:
    """What follows the rows: the key, the proof that they are those that were kept, and only then the end.

    Args:
        table: as in the dump's content manifest.
        binary: columns that are hashed as they are stored.
        records: whether the server can hash rows as they are stored.
    """
    place = identifier(schema, table["name"])
    keyed = f"ALTER TABLE {place} ADD PRIMARY KEY ({', '.join(map(identifier, key))});\n" if key else ""
    restored = {"schema": schema, "name": table["name"], "columns": table["columns"], "binary": binary}
    question = content_of(restored, table["hash"] is not None, records)
    kept = json.dumps({"rows": table["rows"], "hash": table["hash"]})
    proof = (
        f"BEGIN IF ({question}) <> {literal(kept)}::jsonb THEN "
        "RAISE EXCEPTION 'its rows are not those that were kept'; END IF; END"
    )
    return f"\\.\n{keyed}COMMENT ON TABLE {place} IS {literal(note)};\nDO {literal(proof)};\nCOMMIT;\n"


def next_steps(
    schema: str,
    table: Mapping[str, Any],
    columns: Sequence[Mapping[str, Any]],
    text: Collection[str],
    live: Mapping[str, Any] | None,
) -> tuple[list[str], list[str]]:
    """The statements that people may type next, and what they should know.

    Args:
        columns: of the restored table.
        text: those of them that came as text.
        live: the live table of that name as ``described`` answers, or None where there is none.
    """
    place, target = identifier(schema, table["name"]), identifier(table["schema"], table["name"])
    drop = f"DROP TABLE {place};"
    if live is None:
        notes = [f"There is no table {table_name(table)} any more; what it referred to may be gone too."]
        if text:
            notes.append(f"As text, since their types are gone or others now: {', '.join(text)}.")
        return [f"ALTER TABLE {place} SET SCHEMA {identifier(table['schema'])};", drop], notes
    there = {item["name"]: item for item in live["columns"]}
    common = [item["name"] for item in columns if item["name"] in there and there[item["name"]]["written"]]
    chosen = [identifier(name) + (f"::{there[name]['type']}" if name in text else "") for name in common]
    overriding = " OVERRIDING SYSTEM VALUE" if any(there[name]["always"] for name in common) else ""
    steps = [
        f"SELECT count(*) FROM {place};",
        f"INSERT INTO {target} ({', '.join(map(identifier, common))}){overriding}\n"
        f"  SELECT {', '.join(chosen)} FROM {place} ON CONFLICT DO NOTHING;",
        drop,
    ]
    notes = []
    gone = [item["name"] for item in columns if item["name"] not in there]
    if gone:
        notes.append(f"Columns that the live table has no more: {', '.join(gone)}.")
    needed = [
        item["name"]
        for item in live["columns"]
        if item["not_null"] and not item["default"] and item["name"] not in {column["name"] for column in columns}
    ]
    if needed:
        notes.append(f"Columns that the live table needs and the restored one has not: {', '.join(needed)}.")
    if text:
        notes.append(f"As text, since their types are gone or others now: {', '.join(text)}.")
    return steps, notes
