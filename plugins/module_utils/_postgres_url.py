# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a DATABASE_URL as SQLAlchemy does, and says the same to PostgreSQL's own programs by their environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

# SQLAlchemy's own pattern: a password ends at the last "@" of what stands before the host, whatever else it holds.
_URL = re.compile(
    r"""
    (?P<scheme>[\w+]+)://
    (?:(?P<user>[^:/?]*)(?::(?P<password>.*))?@)?
    (?:\[(?P<ipv6>[^/?\]]+)\]|(?P<host>[^/:?]*))
    (?::(?P<port>[^/?]*))?
    (?:/(?P<database>[^?]*))?
    (?:\?(?P<query>[^@]*))?
    """,
    re.VERBOSE | re.DOTALL,
)
#: Options of a URL that libpq knows, and the variables that say the same. Those of a driver's own are left out.
_VARIABLES = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "hostaddr": "PGHOSTADDR",
    "krbsrvname": "PGKRBSRVNAME",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "requirepeer": "PGREQUIREPEER",
    "service": "PGSERVICE",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
_DBNAME = re.compile(
    r"(?P<name>(?:^|(?<=\s))dbname\s*=\s*)(?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<plain>[^\s']\S*))", re.DOTALL
)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class UrlError(ValueError):
    """No address of a PostgreSQL database. The message holds nothing of it."""


class Target(NamedTuple):
    """Where a database is, and who asks. ``variables`` are further settings of libpq."""

    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    user: str | None
    password: str | None
    database: str
    variables: dict[str, str]

    @property
    def shown(self) -> str:
        """The address without user and password."""
        places = [
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
            for host, port in zip(self.hosts, self.ports)  # noqa: B905 - Python 3.9 has no strict
        ]
        return f"postgresql://{','.join(places)}/{self.database}"

    @property
    def local(self) -> bool:
        """Whether the server is on this host."""
        return all(not host or host.startswith("/") or host in _LOOPBACK for host in self.hosts)

    def environment(self, database: str | None = None) -> dict[str, str]:
        """The variables by which libpq connects there.

        Args:
            database: another one on the same server.
        """
        found = {"PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "sparklio.rollback"}
        if self.local:
            # Without a word on it libpq would encrypt what never leaves this host, which a dump pays for.
            found["PGSSLMODE"] = "allow"
        found.update(self.variables)
        if any(self.hosts):
            found["PGHOST"] = ",".join(self.hosts)
        if any(self.ports):
            found["PGPORT"] = ",".join(self.ports)
        if self.user:
            found["PGUSER"] = self.user
        if self.password:
            found["PGPASSWORD"] = self.password
        found["PGDATABASE"] = database or self.database
        return found


def parse(url: str) -> Target:
    """Return where a URL leads, such as ``postgresql+psycopg://user:password@host:5432/name?sslmode=require``.

    Raises:
        UrlError: it is no such URL.
    """
    match = _URL.fullmatch(url.strip())
    if match is None or not re.fullmatch(r"postgres(ql)?(\+\w+)?", match["scheme"]):
        raise UrlError("it is no URL of PostgreSQL, such as postgresql://user:password@host:5432/name")
    query = parse_qsl(match["query"] or "", keep_blank_values=True)
    options = dict(query)
    hosts = [value for name, value in query if name in ("host", "unix_sock")]
    port = match["port"] or ""
    if hosts:
        places = [place for value in hosts for place in value.split(",")]
    elif "," in port:
        # libpq's own way to name several, each with its port.
        first = f"[{match['ipv6']}]" if match["ipv6"] else unquote(match["host"] or "")
        places, port = f"{first}:{port}".split(","), ""
    else:
        host = match["ipv6"] or unquote(match["host"] or "")
        places = host.split(",")
    split = [_place(place, options.get("port") or port) for place in places]
    ports = tuple(port for _host, port in split)
    if any(port and not (port.isdigit() and 0 < int(port) < 65536) for port in ports):
        raise UrlError("its port is no number from 1 to 65535")
    database = options.get("dbname") or unquote(match["database"] or "")
    if not database or "\0" in database:
        raise UrlError("it names no database")
    variables = {_VARIABLES[name]: value for name, value in query if name in _VARIABLES and value}
    ssl = options.get("ssl", "").lower()
    if ssl and "PGSSLMODE" not in variables:
        # asyncpg's word for it.
        variables["PGSSLMODE"] = ssl if ssl in _SSL_MODES else "require" if ssl in ("true", "1", "on") else "prefer"
    user = options.get("user") or (unquote(match["user"]) if match["user"] else None)
    password = options.get("password") or (unquote(match["password"]) if match["password"] else None)
    if "\0" in f"{user}{password}{url}":
        raise UrlError("it holds a NUL character")
    return Target(tuple(host for host, _port in split), ports, user, password, database, variables)


def with_database(url: str, database: str) -> str:
    """Return the same address with another database.

    Raises:
        UrlError: it is no such URL.
    """
    parse(url)
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise UrlError("it is no URL")
    items = [item for item in (match["query"] or "").split("&") if item]
    query = "&".join(item for item in items if unquote(item.partition("=")[0]) != "dbname")
    # Not by the next "/" or "?": a password may hold them.
    if match["database"] is not None:
        base = match.string[: match.start("database")]
    elif match["query"] is not None:
        base = match.string[: match.start("query") - 1] + "/"
    else:
        base = match.string + "/"
    return f"{base}{quote(database, safe='')}" + (f"?{query}" if query else "")


def led(variables: Mapping[str, str], live: str, database: str) -> dict[str, str]:
    """What has to be another value in an environment so that nothing in it leads to the live database any more.

    By the name alone: a server has more names (an alias, an address, a socket) than anybody can tell from here, and
    where it is another server there is no such database, so that nothing is written there either.

    Args:
        variables: the environment.
        live: name of the database that serves.
        database: name of the one that takes its place.
    """
    found = {}
    for name, value in variables.items():
        try:
            if parse(value).database == live:
                found[name] = with_database(value, database)
        except UrlError:
            words = _DBNAME.sub(lambda match: _word(match, live, database), value)
            if words != value:
                found[name] = words
    return {**found, "PGDATABASE": database}


def _word(match: re.Match[str], live: str, database: str) -> str:
    """``dbname=…`` of libpq's own way to write an address, with the other database where it is the live one."""
    said = match["plain"] if match["quoted"] is None else match["quoted"]
    if re.sub(r"\\(.)", r"\1", said, flags=re.DOTALL) != live:
        return match[0]
    quoted = re.sub(r"(['\\])", r"\\\1", database)
    return f"{match['name']}'{quoted}'"


def _place(text: str, port: str) -> tuple[str, str]:
    """Split a host from its own port, where it has one, as SQLAlchemy's ``host=one:5432`` does."""
    match = None if text.startswith("/") else re.fullmatch(r"\[?([^\]]*?)\]?:(\d+)", text)
    if match and (":" not in match[1] or text.startswith("[")):
        return match[1], match[2]
    # A socket is in a directory; libpq adds the name.
    return re.sub(r"/\.s\.PGSQL\.\d+$", "", text), port
