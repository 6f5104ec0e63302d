# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic revision files read as text: which heads a tree declares, without importing or running any of it."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from typing import NamedTuple

_VARIABLES = ("revision", "down_revision", "depends_on", "branch_labels")


class RevisionError(ValueError):
    """A revision file that cannot be read. The message names the file.

    Attributes:
        code: ``syntax`` (not valid Python), ``ids`` (no literal ids), or ``revisions`` for all else.
        line: of the file, None where it is not known.
    """

    def __init__(self, message: str, code: str = "revisions", line: int | None = None) -> None:
        super().__init__(message)
        self.code, self.line = code, line


class Revision(NamedTuple):
    """One revision file: its id, the revisions it stands on, and those it merely depends on."""

    revision: str
    down_revisions: tuple[str, ...]
    depends_on: tuple[str, ...]
    path: str
    labels: tuple[str, ...] = ()


def _names(node: ast.expr, path: str, variable: str) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError) as exc:
        raise RevisionError(
            f"{path}: {variable} is computed, not a literal, and can't be read without running it", "ids", node.lineno
        ) from exc
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (tuple, list, set)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise RevisionError(f"{path}: {variable} is neither a revision id nor a tuple of them", "ids", node.lineno)


def parse_revision(source: str, path: str) -> Revision | None:
    """Read one revision file.

    Args:
        source: the file's text.
        path: its name, for messages.

    Returns:
        The revision, or None for a Python file that declares none (such as ``__init__.py``).

    Raises:
        RevisionError: a syntax error, or ids that are not literals.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as exc:
        # Its text has the line too, in a file that it does not know.
        why = getattr(exc, "msg", None) or exc
        raise RevisionError(f"{path}: not valid Python: {why}", "syntax", getattr(exc, "lineno", None)) from exc
    found: dict[str, tuple[str, ...]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _VARIABLES:
                found[target.id] = _names(value, path, target.id)
    if "revision" not in found:
        return None
    if len(found["revision"]) != 1:
        raise RevisionError(f"{path}: revision is not one id", "ids")
    below, depends, labels = (found.get(name, ()) for name in _VARIABLES[1:])
    return Revision(found["revision"][0], below, depends, path, labels)


def heads(revisions: Iterable[Revision]) -> list[str]:
    """Return the ids that no other revision stands or depends on, sorted.

    That is what the version table holds once all is applied. ``alembic heads`` prints more: a head that another
    branch depends on is one there, and has no row of its own.

    Source: Alembic's documentation, "Working with Branches: Branch Dependencies" (effective head).

    Raises:
        RevisionError: two files with one id, or a file that stands on a revision that is missing.
    """
    by_id: dict[str, Revision] = {}
    for item in revisions:
        if item.revision in by_id:
            raise RevisionError(f"{item.path} and {by_id[item.revision].path} both declare revision {item.revision}")
        by_id[item.revision] = item
    labels = {label: {item.revision} for item in by_id.values() for label in item.labels}
    below: set[str] = set()
    for item in by_id.values():
        for parent in item.down_revisions:
            if parent not in by_id:
                raise RevisionError(f"{item.path} stands on revision {parent}, which no file declares")
            below.add(parent)
        for label in item.depends_on:
            below.update(labels.get(label, {label}))
    return sorted(set(by_id) - below)


def _section(alembic_ini: str) -> Mapping[str, str]:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(alembic_ini)
    except ConfigError as exc:
        raise RevisionError(f"alembic.ini can't be read: {exc}".replace("\n", " ")) from exc
    return parser["alembic"] if parser.has_section("alembic") else {}


def recursive(alembic_ini: str) -> bool:
    """Whether revision files in directories below the version locations count too."""
    return _section(alembic_ini).get("recursive_version_locations", "").strip().lower() in ("true", "1", "yes", "on")


def _resolve(location: str, backend: str) -> str:
    return posixpath.normpath(posixpath.join(backend, location.strip().replace("%(here)s", ".")))


def script_location(alembic_ini: str, backend: str) -> str:
    """Return the directory of ``env.py``, relative to the repository's root. Arguments as ``version_directories``."""
    return _resolve(_section(alembic_ini).get("script_location", "alembic"), backend)


def version_directories(alembic_ini: str, backend: str) -> list[str]:
    """Return the directories that hold revision files, relative to the repository's root.

    Args:
        alembic_ini: text of ``alembic.ini``.
        backend: the directory it lies in, relative to the repository's root.

    Source: Alembic's documentation, "Tutorial: Editing the .ini File" (script_location, version_locations).
    """
    section = _section(alembic_ini)
    locations = section.get("version_locations", "").strip()
    if not locations:
        return [posixpath.join(script_location(alembic_ini, backend), "versions")]
    for separator in ("\n", ";", ",", ":"):
        locations = locations.replace(separator, " ")
    script = section.get("script_location", "alembic")
    return [_resolve(part.replace("%(script_location)s", script), backend) for part in locations.split()]
