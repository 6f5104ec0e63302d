# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The revision files of a commit, read from git objects with no checkout. What they mean is in ``_revisions.py``."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils import _revisions
from ansible_collections.sparklio.rollback.plugins.module_utils.git import Repository


class Tree(NamedTuple):
    """The migrations of one commit.

    Attributes:
        directories: where Alembic looks for them, relative to the clone.
        script_location: where ``env.py`` is.
        sources: the text of each Python file there, by its path.
        blobs: the git blob of each, by its path.
    """

    directories: tuple[str, ...]
    script_location: str
    sources: dict[str, str]
    blobs: dict[str, str]


def read(repo: Repository, commit: str, backend: str) -> Tree | None:
    """The migrations of a commit, or None where it has no ``alembic.ini``.

    Raises:
        RevisionError: ``alembic.ini`` can't be read.
        GitError: git can't.
    """
    ini = repo.read(commit, f"{backend}/alembic.ini")
    if ini is None:
        return None
    recursive, directories = _revisions.recursive(ini), _revisions.version_directories(ini, backend)
    blobs: dict[str, str] = {}
    for directory in directories:
        for path, blob in repo.blobs(commit, directory).items():
            # Alembic looks below it only where recursive_version_locations says so.
            if path.endswith(".py") and (recursive or posixpath.dirname(path) == directory):
                blobs[path] = blob
    texts = repo.contents(blobs.values())
    script = _revisions.script_location(ini, backend)
    return Tree(tuple(directories), script, {path: texts[blob] for path, blob in blobs.items()}, blobs)


def parse(tree: Tree | None) -> tuple[list[_revisions.Revision], list[_revisions.RevisionError]]:
    """The revisions of a tree, by path, and what is wrong with the files that can't be read."""
    found, wrong = [], []
    for path, source in sorted(tree.sources.items()) if tree else ():
        try:
            revision = _revisions.parse_revision(source, path)
        except _revisions.RevisionError as exc:
            wrong.append(exc)
        else:
            if revision:
                found.append(revision)
    return found, wrong


def heads(repo: Repository, commit: str, backend: str) -> list[str]:
    """The heads that a commit's revision files declare. An application without Alembic has none.

    Raises:
        RevisionError: the first thing that is wrong with them.
        GitError: git can't read them.
    """
    revisions, wrong = parse(read(repo, commit, backend))
    if wrong:
        raise wrong[0]
    return _revisions.heads(revisions)
