# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of replacing a database: the questions that find it out, and how answers are shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import (
    OUR_RELATIONS,
    OURS,
    identifier,
    literal,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

#: What ends a migration in the middle, where it is set on the role or the database.
TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
_TIMEOUT_NAMES = ", ".join(f"'{name}'" for name in TIMEOUTS)

#: What the asking role may do with the database, and where the server keeps it.
RIGHTS = """
SELECT jsonb_build_object(
    'oid', d.oid::bigint, 'owner', pg_get_userbyid(d.datdba), 'owns', pg_has_role(d.datdba, 'USAGE'),
    'location', nullif(pg_tablespace_location(d.dattablespace), ''))
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""

PREPARED = """
SELECT coalesce(jsonb_agg(jsonb_build_object('gid', p.gid, 'owner', p.owner,
    'seconds', round(extract(epoch FROM clock_timestamp() - p.prepared)::numeric, 1)) ORDER BY p.prepared), '[]')
FROM pg_catalog.pg_prepared_xacts p WHERE p.database = current_database()
"""

SLOTS = """
SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.slot_name, 'plugin', s.plugin, 'active', s.active)
    ORDER BY s.slot_name), '[]')
FROM pg_catalog.pg_replication_slots s WHERE s.database = current_database() AND s.slot_type = 'logical'
"""

SUBSCRIPTIONS = """
SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.subname, 'enabled', s.subenabled) ORDER BY s.subname), '[]')
FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database()
"""

#: Those of the asking session beneath all that it has set itself.
TIMEOUTS_BENEATH = f"""
SELECT coalesce(jsonb_object_agg(name, reset_val), '{{}}')
FROM pg_catalog.pg_settings WHERE name IN ({_TIMEOUT_NAMES}) AND reset_val <> '0'
"""

RELATIONS = f"""
SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'columns',
    (SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))), '[]')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND {OUR_RELATIONS}
"""

#: Which processes of pg_stat_activity (as ``a``) don't let a database be copied or renamed until they are ended: those
#: of clients, and of extensions and subscriptions, which have a user too. The server's own go by themselves. Whoever
#: may not see another role's session sees neither what kind it is nor what it does.
IN_THE_WAY = (
    "a.usesysid IS NOT NULL "
    "AND coalesce(a.backend_type, 'client backend') NOT IN ('autovacuum worker', 'parallel worker')"
)


def _pids(pids: Iterable[int]) -> str:
    return ", ".join(str(int(pid)) for pid in pids) or "0"


def sessions(but: Iterable[int]) -> str:
    """The question who else is connected. ``but`` are process ids of the sessions that ask."""
    return f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'pid', a.pid, 'user', a.usename, 'application', a.application_name, 'state', a.state,
    'seconds', round(extract(epoch FROM clock_timestamp() - a.state_change)::numeric, 1),
    'transaction_seconds', round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1),
    'terminable', CASE WHEN r.rolsuper THEN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
        ELSE pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE') END
    ) ORDER BY a.pid), '[]')
FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database() AND {IN_THE_WAY} AND a.pid NOT IN ({_pids(but)})
"""


#: What takes ShareUpdateExclusiveLock and is a migration: it changes an index or a partition bit by bit, in
#: transactions of its own, or validates a constraint. VACUUM and ANALYZE take it too. What a session does that may not
#: be looked into, nobody knows.
_BIT_BY_BIT = r"a.query ~* '\m(concurrently|validate)\M' OR a.query = '<insufficient privilege>'"


def migrating(version_table: str, but: Iterable[int]) -> str:
    """The question who changes the schema, or waits to.

    Who holds the version table, or has read it and writes in the same transaction, as a migration of data does until
    it is done; who holds a table for itself alone; and who changes an index concurrently.
    """
    schema, _dot, name = version_table.rpartition(".")
    version = f"c.relname = {literal(name)}" + (f" AND n.nspname = {literal(schema)}" if schema else "")
    return f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'pid', a.pid, 'user', a.usename, 'application', a.application_name, 'waiting', held.waiting,
    'tables', held.tables, 'seconds', round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1),
    'query', a.query) ORDER BY a.pid), '[]')
FROM (
    SELECT l.pid, bool_or(NOT l.granted) AS waiting,
        jsonb_agg(DISTINCT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname)
            FILTER (WHERE l.mode <> 'AccessShareLock') AS tables,
        bool_or(l.mode = 'AccessExclusiveLock') AS alone,
        bool_or({version}) AND bool_or(l.mode <> 'AccessShareLock') AS version,
        bool_or(l.mode = 'ShareUpdateExclusiveLock') AS bit_by_bit
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE l.locktype = 'relation' AND c.relkind IN ('r', 'p') AND {OUR_RELATIONS} AND l.mode <> 'SIReadLock'
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND l.pid NOT IN ({_pids(but)}) GROUP BY l.pid
) AS held JOIN pg_catalog.pg_stat_activity a ON a.pid = held.pid
WHERE {IN_THE_WAY} AND (held.alone OR held.version OR held.bit_by_bit AND ({_BIT_BY_BIT}))
"""


def timeouts(role: str) -> str:
    """The question which timeouts are set on a role, on the database, or on both together."""
    return f"""
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'where', CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'all roles' WHEN s.setrole = 0 THEN 'database'
        WHEN s.setdatabase = 0 THEN 'role' ELSE 'role in database' END,
    'setting', item) ORDER BY s.setdatabase, s.setrole, item), '[]')
FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS item
WHERE s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {literal(role)}))
AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
AND split_part(item, '=', 1) IN ({_TIMEOUT_NAMES})
"""


def all_timeouts(named: Sequence[Mapping[str, str]], beneath: Mapping[str, str]) -> list[dict[str, str]]:
    """Put those that are set on somebody beside those of the server's configuration, or of the address itself."""
    known = {item["setting"].partition("=")[0] for item in named}
    return [dict(item) for item in named] + [
        {"where": "server", "setting": f"{name}={value}ms"}
        for name, value in sorted(beneath.items())
        if name not in known
    ]


def unsettable(database: str, number: int) -> str:
    """The question what is set on a database, for all or for a role in it, that the asking role may not set on another.

    Args:
        number: version number of the server.
    """
    granted = "has_parameter_privilege(found.name, 'SET')" if number >= 150000 else "false"
    administers = "pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')" if number >= 160000 else "true"
    # What may not even be read is the superuser's too. Of an extension's own the server knows those that it has loaded.
    context = "coalesce(p.context, CASE WHEN found.name LIKE '%.%' THEN 'user' ELSE 'superuser' END)"
    return f"""
SELECT coalesce(jsonb_agg(found.name || coalesce(' of role ' || r.rolname, '') ORDER BY found.name, r.rolname), '[]')
FROM (SELECT s.setrole, split_part(item, '=', 1) AS name
    FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
    unnest(s.setconfig) AS item WHERE d.datname = {literal(database)}) AS found
JOIN pg_catalog.pg_roles me ON me.rolname = current_user
LEFT JOIN pg_catalog.pg_roles r ON r.oid = found.setrole
LEFT JOIN pg_catalog.pg_settings p ON lower(p.name) = lower(found.name)
WHERE NOT me.rolsuper AND ({context} LIKE 'superuser%' AND NOT {granted}
    OR found.setrole <> 0 AND (r.rolsuper OR r.oid <> me.oid AND NOT (me.rolcreaterole AND {administers})))"""


def _is_member(owner: str, number: int) -> str:
    return f"pg_has_role({owner}, '{'SET' if number >= 160000 else 'MEMBER'}')"


def strangers(number: int) -> str:
    """The question who owns something in the database whom the asking role could give nothing to."""
    kinds = [
        ("pg_class", "o.relowner", "o.relnamespace", "o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"),
        ("pg_proc", "o.proowner", "o.pronamespace", "true"),
        ("pg_type", "o.typowner", "o.typnamespace", "o.typtype IN ('d', 'e', 'r')"),
    ]
    # That of public is only kept where it is not the one that every new database has.
    usual = "'pg_database_owner'" if number >= 150000 else "(SELECT rolname FROM pg_roles WHERE oid = 10)"
    parts = [
        f"SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n "
        f"WHERE {OURS.format(catalog='pg_catalog.pg_namespace', object='n')} "
        f"AND NOT (n.nspname = 'public' AND pg_get_userbyid(n.nspowner) = {usual})",
        *(
            f"SELECT {owner} FROM pg_catalog.{catalog} o JOIN pg_catalog.pg_namespace n ON n.oid = {schema} "
            f"WHERE {OURS.format(catalog=f'pg_catalog.{catalog}', object='o')} AND {which}"
            for catalog, owner, schema, which in kinds
        ),
        "SELECT lomowner FROM pg_catalog.pg_largeobject_metadata",
        "SELECT pubowner FROM pg_catalog.pg_publication",
        "SELECT evtowner FROM pg_catalog.pg_event_trigger",
        "SELECT srvowner FROM pg_catalog.pg_foreign_server",
    ]
    return (
        "SELECT coalesce(jsonb_agg(DISTINCT pg_get_userbyid(owner)), '[]') "
        f"FROM ({' UNION '.join(parts)}) AS owned WHERE NOT {_is_member('owner', number)}"
    )


def strangers_among(roles: Iterable[str], number: int) -> str:
    """The question which of these roles are such."""
    listed = ", ".join(literal(name) for name in sorted(roles)) or "NULL"
    return (
        "SELECT coalesce(jsonb_agg(rolname ORDER BY rolname), '[]') FROM pg_catalog.pg_roles "
        f"WHERE rolname IN ({listed}) AND NOT {_is_member('oid', number)}"
    )


def count(relation: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The question how many rows a table has, and in how many of them each of the columns holds something."""
    counted = "".join(f", {literal(column)}, count(t.{identifier(column)})" for column in columns)
    return (
        f"SELECT jsonb_build_object('rows', count(*), 'columns', jsonb_build_object({counted[2:]})) "
        f"FROM {identifier(relation['schema'], relation['name'])} AS t"
    )


def statement(text: str | None, limit: int = 120) -> str | None:
    """A statement for people to recognise, without the values in it: they may be secrets, or somebody's data."""
    if text is None:
        return None
    # Cut-off literals too: the server keeps the first 1024 bytes of a statement.
    hidden = re.sub(r"\$(\w*)\$.*?(?:\$\1\$|\Z)", "$$…$$", text, flags=re.DOTALL)
    hidden = re.sub(r"'(?:[^'\\]|\\.|'')*(?:'|\Z)", "'…'", hidden, flags=re.DOTALL)
    return one_line(hidden, limit)
