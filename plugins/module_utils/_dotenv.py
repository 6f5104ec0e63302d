# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads ``.env`` files as python-dotenv (and so pydantic's settings) does, as far as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

_LINE = re.compile(
    r"""
    [ \t]*
    (?:export[ \t]+)?
    (?P<key>'[^'\n]+'|[^=\#\s'][^=\#\s]*)
    [ \t]*
    (?:=(?:
        [ \t]*'(?P<single>(?:\\'|[^'])*)'
      | [ \t]*"(?P<double>(?:\\"|[^"])*)"
      | (?P<plain>(?![ \t]*['"])[^\n]*)
    ))?
    [ \t]*(?:\#[^\n]*)?(?=\n|\Z)
    """,
    re.VERBOSE,
)
_DOUBLE_ESCAPE = re.compile(r"\\([\\'\"abfnrtv])")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
#: Ports of the schemes that addresses in these files have.
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}
_REFERENCE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


def parse(text: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a ``.env`` file. Lines that make no sense are left out, as python-dotenv does.

    Args:
        text: the file's text; a byte order mark and CRLF are fine.
        environment: where ``${NAME}`` is looked up first, as python-dotenv does; then in the lines before it.
    """
    outer = environment or {}
    found: dict[str, str] = {}
    for key, value in assignments(text):
        found[key] = _REFERENCE.sub(lambda ref: outer.get(ref[1], found.get(ref[1], ref[2] or "")), value)
    return found


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """Yield each variable of a ``.env`` file in the order of its lines, with its value as ``parse`` reads it before it
    looks up references."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    position = 0
    while position < len(text):
        match = _LINE.match(text, position)
        if match is None or match.end() == position:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end + 1
            continue
        position = match.end() + 1
        value = _value(match)
        if value is not None:
            key = match["key"]
            yield key[1:-1] if key.startswith("'") else key, value


def _value(match: re.Match[str]) -> str | None:
    if match["single"] is not None:
        return re.sub(r"\\([\\'])", r"\1", match["single"])
    if match["double"] is not None:
        return _DOUBLE_ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), match["double"])
    if match["plain"] is not None:
        return re.sub(r"\s+#.*", "", match["plain"]).strip()
    return None


def address(value: str) -> dict[str, str | int | None] | None:
    """Return scheme, host, port and origin of an address, and nothing else of it; None where it names no host.

    Args:
        value: such as ``postgresql+psycopg://user:password@host:5432/name``, or ``host:9000``.
    """
    scheme, separator, rest = value.strip().rpartition("://")
    # Up to the last @, since a password may hold "/" and "@" where nobody encoded it.
    place = rest.rpartition("@")[2] if separator else rest
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    scheme = scheme.partition("+")[0].lower()
    port = port or _PORTS.get(scheme)
    shown = f"[{host}]" if ":" in host else host
    origin = f"{scheme or 'http'}://{shown}" + (f":{port}" if port else "")
    return {"scheme": scheme or None, "host": host, "port": port, "origin": origin}
