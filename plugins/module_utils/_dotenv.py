# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads ``.env`` files as python-dotenv (and so pydantic's settings) does, as far as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
_REFERENCE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


def parse(text: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a ``.env`` file. Lines that make no sense are left out, as python-dotenv does.

    Args:
        text: the file's text; a byte order mark and CRLF are fine.
        environment: where ``${NAME}`` is looked up first, as python-dotenv does; then in the lines before it.
    """
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    outer = environment or {}
    found: dict[str, str] = {}
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
            found[key[1:-1] if key.startswith("'") else key] = _REFERENCE.sub(
                lambda ref: outer.get(ref[1], found.get(ref[1], ref[2] or "")), value
            )
    return found


def _value(match: re.Match[str]) -> str | None:
    if match["single"] is not None:
        return re.sub(r"\\([\\'])", r"\1", match["single"])
    if match["double"] is not None:
        return _DOUBLE_ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), match["double"])
    if match["plain"] is not None:
        return re.sub(r"\s+#.*", "", match["plain"]).strip()
    return None
