# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's programs: which of them to take, what their lines mean, and what a dump leaves out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils._content_manifest import identifier, literal

#: Known to all: a schema that is dumped twice has to be the same text twice.
RESTRICT_KEY = "sparkliorollback"
#: Comment on the scratch databases of verifications. Without it nothing is ever dropped.
MARKER = "sparklio.rollback: scratch database of a verification, safe to drop"
_MOST_NAME = 63

#: What pg_dump keeps of a database itself only in the plain format.
DATABASE = """
SELECT jsonb_build_object(
    'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
    'collate', d.datcollate, 'ctype', d.datctype, 'provider', to_jsonb(d) ->> 'datlocprovider',
    'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
    'connection_limit', d.datconnlimit, 'comment', shobj_description(d.oid, 'pg_database'),
    'default_acl', d.datacl IS NULL,
    'acl', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'grantee', CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
        'privilege', a.privilege_type, 'grantable', a.is_grantable)), '[]') FROM aclexplode(d.datacl) a),
    'settings', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'role', CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, 'setting', item)), '[]')
        FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS item WHERE s.setdatabase = d.oid))
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""

SERVER = """
SELECT jsonb_build_object(
    'version', current_setting('server_version'), 'number', current_setting('server_version_num')::int,
    'database', current_database(), 'bytes', pg_database_size(current_database()), 'user', current_user,
    'superuser', r.rolsuper, 'createdb', r.rolcreatedb OR r.rolsuper,
    'system', (SELECT system_identifier FROM pg_control_system())::text,
    'data_directory', (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'))
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""

#: Settings that are lists: each of their items is quoted by itself.
_LISTS = {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}


class Client(NamedTuple):
    """A directory with PostgreSQL's programs, and the version of its pg_dump."""

    directory: str
    version: tuple[int, int]


def version_of(text: str) -> tuple[int, int] | None:
    """The version in what ``pg_dump --version`` says, such as ``pg_dump (PostgreSQL) 15.20 (Debian …)``."""
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2] or 0)) if match else None


def choose(clients: Sequence[Client], server: int) -> Client | None:
    """The client for a server of that major version: one of the same, else the oldest of the newer ones.

    What a newer one writes, the server's own programs may not be able to read.
    """
    fitting = [client for client in clients if client.version[0] >= server]
    return min(fitting, key=lambda client: client.version[0], default=None)


#: What ``--compress`` takes from PostgreSQL 16 on, the best first: zstd at its least level is as fast as lz4, in half
#: the size. Clients are built with and without the first two.
COMPRESSIONS = ("zstd:1", "lz4", "gzip:1")


def compression(version: tuple[int, int], can: Callable[[str], bool]) -> str:
    """What follows ``--compress``.

    Args:
        can: whether the client was built with a method.
    """
    if version[0] < 16:
        return "1"
    return next(method for method in COMPRESSIONS if method == COMPRESSIONS[-1] or can(method))


def finished(line: str) -> str | None:
    """The table that a line of ``pg_dump --verbose`` says to be done, or None."""
    match = re.search(r"finished item \d+ TABLE DATA (.+)$", line)
    return match[1].strip() if match else None


def estimate(written: int, done: float, usual: float, total: float) -> int:
    """How many bytes a dump will have, of what it has written so far.

    Args:
        written: bytes of the dump.
        done: bytes in the database of the tables that are finished.
        usual: part of the database's size that a dump usually has.
        total: bytes in the database of all tables.
    """
    guess = total * usual
    if done > 0 and total > 0:
        # What is there counts as it is, and the rest as usual.
        guess = written + (1 - min(1.0, done / total)) * guess
    return max(int(guess), written)


def needed(database: int, factor: float, reserve: int) -> int:
    return int(database * factor) + reserve


def scratch_prefix(database: str) -> str:
    """What the names of a database's scratch databases begin with, short enough for 63 bytes in all."""
    kept = database.encode()[: _MOST_NAME - len("_verify_") - 8].decode("utf-8", "ignore")
    return f"{kept}_verify_"


def only_unknown_settings(lines: Sequence[str]) -> bool:
    """Whether all that pg_restore could not do was to make settings that an older server does not know.

    A newer client begins each connection with its own, such as ``SET transaction_timeout = 0;``. That it says at the
    end how many errors it passed over, those of its workers not counted, proves that it came so far.
    """
    failed = [line.partition("Command was: ")[2].strip() for line in lines if "Command was: " in line]
    passed_over = [re.search(r"errors ignored on restore: (\d+)$", line.strip()) for line in lines]
    counts = [int(match[1]) for match in passed_over if match]
    return (
        len(counts) == 1
        and 0 < counts[0] <= len(failed) == sum("error: " in line for line in lines)
        and all(re.fullmatch(r"SET [a-z_]+ = [^;']+;", command) for command in failed)
    )


def _items(value: str) -> list[str]:
    """The items of a list as PostgreSQL keeps it: ``public, "$user"``."""
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^,"]+))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') if quoted or not plain else plain.strip() for quoted, plain in found]


def _value(name: str, value: str) -> str:
    if name in _LISTS:
        return ", ".join(map(literal, _items(value))) or "''"
    return literal(value)


def settings_sql(database: str, settings: Mapping[str, Any]) -> str:
    """The same as settings_statements, as one text for psql."""
    return "".join(f"{line};\n" for line in settings_statements(database, settings))


def settings_statements(database: str, settings: Mapping[str, Any]) -> list[str]:
    """The statements that give a database its own settings, limit, rights and comment.

    Args:
        database: the name to give them to; it need not be the one that they were read from.
        settings: as DATABASE asks for them.
    """
    name = identifier(database)
    lines = [f"ALTER DATABASE {name} OWNER TO {identifier(settings['owner'])}"]
    if settings["connection_limit"] != -1:
        lines.append(f"ALTER DATABASE {name} CONNECTION LIMIT {int(settings['connection_limit'])}")
    if settings["comment"] is not None:
        lines.append(f"COMMENT ON DATABASE {name} IS {literal(settings['comment'])}")
    lines += parameter_statements(database, settings)
    if not settings["default_acl"]:
        lines += [f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"]
        lines += [f"REVOKE ALL ON DATABASE {name} FROM {identifier(settings['owner'])}"]
    for item in settings["acl"]:
        to = identifier(item["grantee"]) if item["grantee"] else "PUBLIC"
        grant = " WITH GRANT OPTION" if item["grantable"] else ""
        lines.append(f"GRANT {item['privilege']} ON DATABASE {name} TO {to}{grant}")
    return lines


def parameter_statements(
    database: str, settings: Mapping[str, Any], roles: Iterable[str | None] | None = None
) -> list[str]:
    """The statements that set what is set on a database, for all (None) or for a role in it.

    Args:
        roles: whose; None for everybody's.
    """
    name, lines = identifier(database), []
    for item in settings["settings"]:
        if roles is not None and item["role"] not in roles:
            continue
        key, _sign, value = item["setting"].partition("=")
        whose = f"ROLE {identifier(item['role'])} IN DATABASE {name}" if item["role"] else f"DATABASE {name}"
        parameter = ".".join(identifier(part) for part in key.split("."))
        lines.append(f"ALTER {whose} SET {parameter} TO {_value(key.lower(), value)}")
    return lines


def create_scratch(name: str, owner: str, settings: Mapping[str, Any]) -> str:
    """The statement that makes an empty database that sorts and compares as the kept one does."""
    parts = [
        f"CREATE DATABASE {identifier(name)} OWNER {identifier(owner)} TEMPLATE template0",
        f"ENCODING {literal(settings['encoding'])} LC_COLLATE {literal(settings['collate'])}",
        f"LC_CTYPE {literal(settings['ctype'])}",
    ]
    provider = settings.get("provider")
    if provider == "i" and settings.get("locale"):
        parts.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(settings['locale'])}")
    elif provider == "b" and settings.get("locale"):
        parts.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(settings['locale'])}")
    return " ".join(parts)


def owners(schema: Iterable[str]) -> set[str]:
    """The roles that the lines of a dump's schema make owners."""
    found = (re.match(r'ALTER .+ OWNER TO (?:"((?:[^"]|"")+)"|([^";]+));$', line.rstrip("\n")) for line in schema)
    return {match[1].replace('""', '"') if match[1] else match[2] for match in found if match}


def without(toc: Iterable[str], extensions: Iterable[str], schemas: Iterable[str], superuser: bool = True) -> list[str]:
    """The lines of ``pg_restore --list`` without the extensions and schemas that are there already.

    Args:
        superuser: whether a superuser restores; nobody else may make event triggers.
    """
    gone = {f"EXTENSION - {name}" for name in extensions} | {f"SCHEMA - {name}" for name in schemas}
    gone |= {f"COMMENT - EXTENSION {name}" for name in extensions}
    kept = []
    for line in toc:
        what = re.sub(r"^\d+; \d+ \d+ ", "", line).rstrip()
        # A schema's line ends in its owner; an extension's has none.
        if what in gone or (what.startswith("SCHEMA - ") and what.rpartition(" ")[0] in gone):
            continue
        if not superuser and what.startswith(("EVENT TRIGGER - ", "COMMENT - EVENT TRIGGER ")):
            continue
        kept.append(line)
    return kept
