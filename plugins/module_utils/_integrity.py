# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what a database declares really holds: the questions, and what their answers mean. Pure.

A foreign key that is there proves nothing: rows that came in with ``session_replication_role = replica``, by a restore
with triggers disabled, or before a constraint that was never validated, were not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import (
    OUR_RELATIONS,
    identifier,
    listed,
    table_name,
)

#: A partition's copy of a key follows from the partitioned table's.
FOREIGN_KEYS = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'constraint', k.conname, 'validated', k.convalidated,
    'match', k.confmatchtype, 'period', coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false),
    'references', jsonb_build_object('schema', fn.nspname, 'name', f.relname, 'kind', f.relkind),
    'pairs', (SELECT jsonb_agg(jsonb_build_array(a.attname, b.attname, oper_n.nspname, oper.oprname) ORDER BY u.place)
        FROM unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY AS u (here, there, equal, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.here
        JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.there
        JOIN pg_catalog.pg_operator oper ON oper.oid = u.equal
        JOIN pg_catalog.pg_namespace oper_n ON oper_n.oid = oper.oprnamespace)
    ) ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", k.conname COLLATE "C"), '[]')
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relpersistence <> 't'
AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AND {OUR_RELATIONS}
"""

INVALID_INDEXES = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'index', x.relname)
    ORDER BY n.nspname COLLATE "C", x.relname COLLATE "C"), '[]')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relpersistence <> 't' AND {OUR_RELATIONS}
"""

#: Those of domains stand beside those of tables, under the name of the domain.
UNVALIDATED = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object('schema', found.schema, 'name', found.name, 'constraint', found.conname)
    ORDER BY found.schema COLLATE "C", found.name COLLATE "C", found.conname COLLATE "C"), '[]')
FROM (
    SELECT n.nspname AS schema, c.relname AS name, k.conname, k.convalidated, to_jsonb(k) ->> 'conenforced' AS enforced
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.conparentid = 0 AND c.relpersistence <> 't' AND {OUR_RELATIONS}
    UNION ALL
    SELECT n.nspname, t.typname, k.conname, k.convalidated, NULL
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
) AS found WHERE NOT found.convalidated AND coalesce(found.enforced::boolean, true)
"""


def name_of(item: Mapping[str, Any]) -> str:
    """What a constraint or an index is called, such as ``orders_user_fk on orders``."""
    return f"{item.get('constraint') or item.get('index')} on {table_name(item)}"


def _rows_of(table: Mapping[str, Any]) -> str:
    # A table that others inherit from answers for its own rows only, a partitioned one for those of its partitions.
    only = "" if table["kind"] == "p" else "ONLY "
    return f"{only}{identifier(table['schema'], table['name'])}"


def orphans(key: Mapping[str, Any]) -> str:
    """The question how many rows refer to nothing, with the least of their keys as an example."""
    columns = [f"f.{identifier(pair[0])}" for pair in key["pairs"]]
    equal = " AND ".join(
        f"p.{identifier(there)} OPERATOR({identifier(schema)}.{operator}) f.{identifier(here)}"
        for here, there, schema, operator in key["pairs"]
    )
    example = f"jsonb_build_array({', '.join(columns)})::text"
    filled = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    rows = _rows_of(key)
    parts = [
        f"SELECT {example} AS key FROM {rows} AS f WHERE {filled} "
        f"AND NOT EXISTS (SELECT FROM {_rows_of(key['references'])} AS p WHERE {equal})"
    ]
    if key["match"] == "f" and len(columns) > 1:
        # By itself, so that the join above stays one.
        some = " OR ".join(f"{column} IS NOT NULL" for column in columns)
        parts.append(f"SELECT {example} FROM {rows} AS f WHERE ({some}) AND NOT ({filled})")
    return (
        "SELECT jsonb_build_object('count', count(*), 'example', min(key COLLATE \"C\")) "
        f"FROM ({' UNION ALL '.join(parts)}) AS orphans"
    )


def failures(found: Mapping[str, Any]) -> list[str]:
    """What does not hold, in words, without what was known before."""
    said = []
    for item in found["orphans"]:
        if not item["known"]:
            rows = "1 row refers" if item["count"] == 1 else f"{item['count']} rows refer"
            said.append(f"{item['name']}: {rows} to nothing in {item['references']}, such as {item['example']}")
    for what, items in (("not valid", found["invalid_indexes"]), ("never validated", found["unvalidated"])):
        names = [item["name"] for item in items if not item["known"]]
        if names:
            said.append(f"{what}: {listed(names)}")
    return said


def judge(found: Mapping[str, Any], known: Sequence[str] = ()) -> tuple[str, str]:
    """Return the verdict and its evidence.

    Args:
        found: what was found, as the module returns it.
        known: differences between the schemas that were there before.
    """
    differences = [line for line in found["schema_differences"] or () if line not in known]
    bad = failures(found)
    if differences:
        bad.append(f"the schema differs: {listed(differences, 3)}")
    if bad:
        return "fail", "; ".join(bad)
    if found["unchecked"]:
        named = [f"{item['name']} ({item['reason']})" for item in found["unchecked"]]
        return "error", f"not everything could be checked: {listed(named, 3)}"
    parts = [f"{found['foreign_keys']} foreign keys hold, and every index is valid"]
    if found["schema_differences"] is not None:
        parts.append("the schema is as expected")
    if found["tables"] is not None:
        parts.append(
            f"{len(found['tables'])} tables with {sum(item['rows'] for item in found['tables'].values())} rows"
        )
    before = [item["name"] for key in ("orphans", "invalid_indexes", "unvalidated") for item in found[key]]
    before += [line for line in found["schema_differences"] or () if line in known]
    if before:
        parts.append(f"as before: {listed(before, 3)}")
    return "pass", "; ".join(parts)
