# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsed downgrade came to: which tables it changed, what it dropped, and what nobody had said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _schema_lines
from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import (
    OUR_RELATIONS,
    identifier,
    literal,
)

#: Lists what is dropped, cascades too. Takes a superuser; a difference of the schemas tells most of it without.
TRIGGER = (
    "CREATE SCHEMA sparklio_rehearsal",
    "CREATE TABLE sparklio_rehearsal.dropped (at serial, kind text, identity text, table_name text, column_name text)",
    "GRANT USAGE ON SCHEMA sparklio_rehearsal TO PUBLIC",
    """CREATE FUNCTION sparklio_rehearsal.note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $note$
BEGIN
    INSERT INTO sparklio_rehearsal.dropped (kind, identity, table_name, column_name)
    SELECT object_type, object_identity,
        CASE WHEN object_type = 'table column' THEN address_names[1] || '.' || address_names[2]
             WHEN object_type = 'table' THEN schema_name || '.' || object_name END,
        CASE WHEN object_type = 'table column' THEN address_names[3] END
    FROM pg_event_trigger_dropped_objects()
    WHERE NOT is_temporary AND object_type IN ('table', 'table column', 'index', 'view', 'materialized view',
    'sequence',
        'type', 'schema', 'function', 'trigger', 'table constraint', 'extension', 'policy', 'rule')
        AND coalesce(schema_name, '') NOT IN ('pg_toast', 'pg_catalog', 'sparklio_rehearsal')
        AND NOT (object_type = 'type' AND object_identity LIKE '%[]');
END $note$""",
    "CREATE EVENT TRIGGER sparklio_rehearsal ON sql_drop EXECUTE FUNCTION sparklio_rehearsal.note()",
)
DROPPED = """
SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'identity', identity, 'table', table_name,
    'column', column_name) ORDER BY at), '[]') FROM sparklio_rehearsal.dropped
"""
NO_TRIGGER = ("DROP EVENT TRIGGER sparklio_rehearsal", "DROP SCHEMA sparklio_rehearsal CASCADE")


def full_name(table: Mapping[str, Any]) -> str:
    return f"{table['schema']}.{table['name']}"


#: The transaction that is under way; what is written from now on is of a later one.
NOW = "SELECT (txid_current() % 4294967296)::text"


def touched(table: Mapping[str, Any], began_at: str) -> str:
    """The question how many rows a table holds, and how many of them were written since."""
    return (
        f"SELECT jsonb_build_object('rows', count(*), 'touched', "
        f"count(*) FILTER (WHERE age(t.xmin) < age({literal(began_at)}::xid))) "
        f"FROM ONLY {identifier(table['schema'], table['name'])} AS t"
    )


#: What tables and their columns are called, by what they keep when they are renamed.
NAMES = f"""
SELECT coalesce(jsonb_object_agg(c.oid::text, jsonb_build_object('table', n.nspname || '.' || c.relname, 'columns',
    (SELECT coalesce(jsonb_object_agg(a.attnum::text, a.attname), '{{}}') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))), '{{}}')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OUR_RELATIONS}
"""


#: Which tables lose rows when another one does, or values, where a key is set to null or to a default: each the table
#: that refers, the one that it refers to, and whether whole rows go.
CASCADES = """
SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(n.nspname || '.' || c.relname, rn.nspname || '.' || r.relname,
    k.confdeltype = 'c')), '[]')
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')
"""


def renames(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Which tables and columns have another name now, from two answers to NAMES.

    Returns:
        ``tables``, from the former name to the present one, and ``columns``, the same by the table's former name.
    """
    tables, columns = {}, {}
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        if old["table"] != new["table"]:
            tables[old["table"]] = new["table"]
        moved = {
            name: new["columns"][place]
            for place, name in old["columns"].items()
            if new["columns"].get(place, name) != name
        }
        if moved:
            columns[old["table"]] = moved
    return {"tables": tables, "columns": columns}


def changed_tables(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    version_table: str = "public.alembic_version",
    renamed: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Tables that the downgrade dropped, made, renamed or changed; of content that is the same nothing is said.

    Args:
        before: each ``schema``, ``name``, ``columns``, ``rows``, ``hash``.
        after: the same, with how many rows were ``touched``; ``hash`` only where some were and the columns are the
        same.
        version_table: changes anyway.
        renamed: as ``renames`` returns them; None where nothing is called otherwise.

    Returns:
        ``table``, ``what`` (``dropped``, ``made``, ``renamed`` or ``changed``), ``rows`` and ``rows_after``; of those
        that were renamed or changed the ``columns`` that went, those that were ``added``, those that are called
        otherwise (``renamed_columns``), and whether the ``contents`` of the others differ; of those that were renamed
        the present name (``to``).
    """
    was = {full_name(item): item for item in before}
    now = {full_name(item): item for item in after}
    renamed = renamed or {"tables": {}, "columns": {}}
    to = renamed["tables"]
    taken = set(to.values())
    found = []
    for name in sorted({*was, *now} - {version_table}):
        old = was.get(name)
        if old is None and name in taken:
            # Told with the name that it had.
            continue
        # Another table can have taken the name of one that is gone.
        new = now.get(to[name]) if name in to else (None if name in taken else now.get(name))
        if old is None or new is None:
            what = "made" if old is None else "dropped"
            rows = (old or new or {})["rows"]
            found.append({"table": name, "what": what, "rows": rows if old else 0, "rows_after": rows if new else 0})
            continue
        moved = renamed["columns"].get(name, {})
        kept = {moved.get(column, column): column for column in old["columns"]}
        gone = sorted(column for there, column in kept.items() if there not in new["columns"])
        added = sorted(set(new["columns"]) - set(kept))
        contents = bool(new["touched"]) and not (new.get("hash") is not None and new["hash"] == old["hash"])
        if contents or gone or added or moved or name in to or old["rows"] != new["rows"]:
            what = {"what": "renamed", "to": to[name]} if name in to else {"what": "changed"}
            entry = {"table": name, **what, "rows": old["rows"], "rows_after": new["rows"]}
            found.append({**entry, "columns": gone, "added": added, "renamed_columns": moved, "contents": contents})
    return found


def may_change(
    changed: Iterable[Mapping[str, Any]],
    version_table: str = "public.alembic_version",
    planned: Iterable[Mapping[str, Any]] = (),
    tables: Iterable[str] = (),
    cascades: Iterable[Sequence[Any]] = (),
) -> list[str]:
    """Tables whose number of rows may be another one afterwards.

    Args:
        changed: as ``changed_tables`` returns them.
        version_table: may have other rows anyway.
        planned: drops as _downgrade_marks finds them. Rows that go by their source may come before the switch, although
            the rehearsal met none.
        tables: all that there were, with their schemas.
        cascades: as CASCADES answers. Whose rows go, takes those along that refer to them, be it that none did then.
    """
    changed = list(changed)
    names = {item["table"] for item in changed if item["what"] != "changed" or item["rows"] != item["rows_after"]}
    names |= {item["to"] for item in changed if item["what"] == "renamed"}
    return sorted({*names, *_losing(changed, planned, tables, cascades), version_table})


def may_lose(
    changed: Iterable[Mapping[str, Any]],
    planned: Iterable[Mapping[str, Any]],
    tables: Iterable[str],
    cascades: Iterable[Sequence[Any]],
) -> list[str]:
    """Tables that stay and may lose rows, or the values of a key. Arguments as ``may_change`` takes them."""
    cascades = list(cascades)
    losing = _losing(changed, planned, tables, cascades)
    return sorted(losing | {table for table, referred, _whole in cascades if referred in losing})


def _losing(
    changed: Iterable[Mapping[str, Any]],
    planned: Iterable[Mapping[str, Any]],
    tables: Iterable[str],
    cascades: Iterable[Sequence[Any]],
) -> set[str]:
    """Tables that stay and may lose rows."""
    emptied = {item["table"] for item in planned if item["kind"] == "rows" and item["table"]}
    losing = {name for name in tables if {name, name.rpartition(".")[2]} & emptied}
    # Of a table that is dropped whole, the key goes and not the rows that have it.
    losing |= {item["table"] for item in changed if item["what"] != "dropped" and item["rows_after"] < item["rows"]}
    return _with_cascades(losing, cascades)


def _with_cascades(losing: Iterable[str], cascades: Iterable[Sequence[Any]]) -> set[str]:
    referring: dict[str, set[str]] = {}
    for table, referred, whole in cascades:
        if whole:
            referring.setdefault(referred, set()).add(table)
    found: set[str] = set()
    left = set(losing)
    while left:
        found |= left
        left = set().union(*(referring.get(name, ()) for name in left)) - found
    return found


def surprises(
    changed: Iterable[Mapping[str, Any]], planned: Iterable[Mapping[str, Any]], accepted: Iterable[str]
) -> list[str]:
    """What the rehearsal lost although no revision's source names it: tables, columns, and tables that lost rows.

    Args:
        changed: as ``changed_tables`` returns them.
        planned: drops as _downgrade_marks finds them, with ``kind``, ``table`` and ``name``. A table or schema of None
            means that a name is made at run time, so that everything may be meant.
        accepted: names that somebody has agreed to, ``table`` or ``table.column``.
    """
    losing = [item for item in planned if item["kind"] in ("table", "column", "schema", "rows")]
    unnamed = {item["kind"] for item in losing if item["name" if item["kind"] == "schema" else "table"] is None}
    if unnamed - {"rows"}:
        return []
    emptied = {item["table"] for item in losing if item["kind"] == "rows"}
    tables = {item["table"] for item in losing if item["kind"] == "table"}
    columns = {(item["table"], item["name"]) for item in losing if item["kind"] == "column"}
    schemas = {item["name"] for item in losing if item["kind"] == "schema"}
    agreed = set(accepted)

    def named(name: str, column: str | None) -> bool:
        schema, _dot, short = name.rpartition(".")
        if schema in schemas or {name, short} & (tables | agreed):
            return True
        if column is None:
            return False
        planned_columns = {(name, column), (short, column), (name, None), (short, None)}
        return bool(planned_columns & columns or {f"{name}.{column}", f"{short}.{column}"} & agreed)

    found = []
    for item in changed:
        if item["what"] == "dropped" and not named(item["table"], None):
            found.append(item["table"])
        names = [item["table"], item.get("to", item["table"])]
        found += [
            f"{item['table']}.{column}"
            for column in item.get("columns", [])
            if not any(named(name, column) for name in names)
        ]
        fewer = item["what"] != "dropped" and item.get("rows_after", 0) < item.get("rows", 0)
        told = any({name, name.rpartition(".")[2]} & emptied or named(name, None) for name in names)
        if fewer and not unnamed and not told:
            found.append(item["table"])
    return found


def drift(
    before: Sequence[str], after: Sequence[str], built: Sequence[str], built_before: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What the downgrade made of the schema, against one that was built by upgrading an empty database.

    What was another one before, and what no revision of the path touches, is nobody's fault but of who changed it by
    hand.

    Args:
        before: the schema's lines as it was.
        after: as it is after the downgrade.
        built: as an empty database has it when it is upgraded to the same revisions.
        built_before: as it has it when it is upgraded further, to where the database was before.

    Returns:
        What the downgrade itself left wrong, and what was different before it.
    """
    was, now, wanted, wanted_before = (_schema_lines.parse(lines) for lines in (before, after, built, built_before))
    by_hand = {
        name
        for name in {*now, *wanted}
        if now.get(name) != wanted.get(name)
        and now.get(name) == was.get(name)
        and wanted_before.get(name) == wanted.get(name)
    }
    made = [line for line in after if line.partition("\t")[0] not in by_hand]
    made += [line for line in built if line.partition("\t")[0] in by_hand]
    wrong = _schema_lines.differences(built, made)
    return wrong, [text for text in _schema_lines.differences(built, after) if text not in wrong]


def lines(result: Mapping[str, Any]) -> list[str]:
    """What the rehearsal showed, for the terminal."""
    found = [f"rehearsed on a restored backup: {len(result['revisions'])} revision(s) in {result['seconds']:.1f} s"]
    for item in result["tables"]:
        table = item["table"].removeprefix("public.")
        if item["what"] == "dropped":
            found.append(f"drops table {table} with {item['rows']} rows")
        elif item["what"] == "made":
            found.append(f"makes table {table}")
        else:
            parts = [f"is called {item['to'].removeprefix('public.')}"] if item["what"] == "renamed" else []
            parts += [f"calls column {old} {new}" for old, new in item.get("renamed_columns", {}).items()]
            parts += [f"drops column {column}" for column in item["columns"]]
            parts += [f"adds column {column}" for column in item["added"]]
            if item["rows"] != item["rows_after"]:
                parts.append(f"has {item['rows_after']} rows instead of {item['rows']}")
            elif item["contents"]:
                parts.append("changes the contents of other columns")
            found.append(f"table {table}: {', '.join(parts)}")
    # A table's own type and the triggers behind a foreign key say nothing more.
    named = {item["identity"] for item in result["dropped"] if item["kind"] == "table"}
    shown = [
        item
        for item in result["dropped"]
        if item["kind"] not in ("table", "table column")
        and item["identity"] not in named
        and "RI_ConstraintTrigger_" not in item["identity"]
    ]
    if shown:
        names = ", ".join(f"{item['kind']} {item['identity']}" for item in shown[:8])
        found.append(f"drops with them: {names}" + (f" and {len(shown) - 8} more" if len(shown) > 8 else ""))
    found += [
        f"the schema differs from that of the revisions, as it did before: {text}" for text in result["drift"][:5]
    ]
    return found
