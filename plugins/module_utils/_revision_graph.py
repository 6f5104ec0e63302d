# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph of Alembic revisions: which of them a downgrade takes back, and in which order. Nothing is run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

from ansible_collections.sparklio.rollback.plugins.module_utils._revisions import Revision

BASE = "base"
_SYMBOLS = ("head", "heads", "current", "base")
#: Alembic's own form of a relative target: ``-1``, ``+2``, ``ae10-2``, ``branch@head-1``.
_RELATIVE = re.compile(r"(?:(.+?)@)?(\w+)?([+-]\d+)")


class GraphError(ValueError):
    """What can't be done with these revisions.

    Attributes:
        code: a word for programs, such as ``unknown``.
        message: what is wrong, one line without a full stop.
        cure: what to do about it.
    """

    def __init__(self, code: str, message: str, cure: str) -> None:
        super().__init__(f"{message}. {cure}.")
        self.code, self.message, self.cure = code, message, cure

    def problem(self) -> dict[str, str]:
        """The same as data."""
        return {"code": self.code, "message": self.message, "cure": self.cure}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _option(name: str) -> str:
    return f"-e target_revision={name}"


def _between(first: Revision, second: Revision) -> str:
    return " and ".join(sorted((first.path, second.path)))


def problems(revisions: Iterable[Revision]) -> list[GraphError]:
    """All that keeps these files from being one history: an id or a label twice, a parent that no file declares, a
    circle.

    Args:
        revisions: of one tree, in any order.
    """
    found: list[GraphError] = []
    by_id: dict[str, Revision] = {}
    for item in revisions:
        other = by_id.setdefault(item.revision, item)
        if other is not item:
            found.append(
                GraphError(
                    "duplicate",
                    f"{_between(item, other)} both declare revision {item.revision}",
                    "Remove one of them, or give it an id of its own, in a newer release; Alembic takes either",
                )
            )
    labels: dict[str, Revision] = {}
    for item in by_id.values():
        for label in item.labels:
            other = labels.get(label) or by_id.get(label) or item
            if other is not item:
                found.append(
                    GraphError(
                        "label",
                        f"Branch label {label} of {item.path} is that of {other.path} already",
                        "Give each branch a label of its own in a newer release: Alembic refuses this one",
                    )
                )
            labels[label] = item
    for item in by_id.values():
        for names, known, word in ((item.down_revisions, (), "stands"), (item.depends_on, labels, "depends")):
            for name in names:
                if name not in by_id and name not in known:
                    found.append(
                        GraphError(
                            "missing",
                            f"{item.path} {word} on revision {name}, which no file declares",
                            "Bring its file back, from an older commit: "
                            f"git log --all -S '{name}' -- '*.py' in the clone shows where it was",
                        )
                    )
    if not found:
        circle = _circle({item.revision: _below(item, labels) for item in by_id.values()})
        if circle:
            found.append(
                GraphError(
                    "circle",
                    f"Revisions stand on each other in a circle: {_listed(circle)}",
                    "Correct their down_revision or depends_on in a newer release: Alembic refuses this tree",
                )
            )
    return found


def _below(item: Revision, labels: dict[str, Revision]) -> tuple[str, ...]:
    """What a revision stands and depends on, each once, a label as the revision that bears it."""
    depends = (labels[name].revision if name in labels else name for name in item.depends_on)
    return tuple(dict.fromkeys((*item.down_revisions, *depends)))


def _circle(below: dict[str, tuple[str, ...]]) -> list[str]:
    """Ids that are left when all that stands on nothing is taken away again and again, sorted."""
    left = dict(below)
    while True:
        free = [name for name, parents in left.items() if not any(parent in left for parent in parents)]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]


class Graph:
    """A history with any number of roots, branches, merges and dependencies.

    Args:
        revisions: of one tree, in any order.

    Raises:
        GraphError: the first of ``problems()``.
    """

    def __init__(self, revisions: Iterable[Revision]) -> None:
        every = list(revisions)
        wrong = problems(every)
        if wrong:
            raise wrong[0]
        self.revisions: dict[str, Revision] = {
            item.revision: item for item in sorted(every, key=lambda item: item.revision)
        }
        self.labels: dict[str, str] = {label: item.revision for item in every for label in item.labels}
        bearers = {label: self.revisions[name] for label, name in self.labels.items()}
        self._below = {name: _below(item, bearers) for name, item in self.revisions.items()}
        self._children: dict[str, list[str]] = {name: [] for name in self.revisions}
        self._above: dict[str, list[str]] = {name: [] for name in self.revisions}
        for name, item in self.revisions.items():
            for parent in dict.fromkeys(item.down_revisions):
                self._children[parent].append(name)
            for parent in self._below[name]:
                self._above[parent].append(name)

    def heads(self, of: Collection[str] | None = None) -> list[str]:
        """The ids that no other of these stands or depends on, sorted. Without ``of``: of the whole tree."""
        among = set(self.revisions if of is None else of)
        return sorted(name for name in among if not any(child in among for child in self._above[name]))

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """The revisions that have to be applied with these, and these themselves."""
        return self._reach(names, self._below)

    def descendants(self, name: str) -> set[str]:
        """The revisions that stand on this one, and all that stands or depends on one of those.

        What merely depends on ``name`` itself is none of them, for that is no reason to take it back.
        """
        return self._reach(self._children[name], self._above)

    def _reach(self, names: Iterable[str], edges: dict[str, Sequence[str]] | dict[str, list[str]]) -> set[str]:
        seen: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += edges[name]
        return seen

    def resolve(self, name: str) -> str:
        """The id that was meant by ``name``, which must be one: nothing is guessed.

        Raises:
            GraphError: ``unknown``, ``abbreviated``, ``ambiguous``, ``relative`` (``-1``, ``x-2``, ``head``) or
                ``branch`` (``x@y``, or a branch label).
        """
        if name in self.revisions:
            return name
        if name in self.labels:
            raise GraphError(
                "branch",
                f"{name} is a branch label, and no revision",
                f"Name the revision that the branch is to be at; its first is {_option(self.labels[name])}",
            )
        if name in _SYMBOLS or _RELATIVE.fullmatch(name):
            raise GraphError(
                "relative",
                f"{name!r} is relative to what the database happens to be at",
                f"Name a revision: {_option('ID')} (the heads of the tree are {_listed(self.heads())}), or take back a "
                "number of revisions: -e steps=-1",
            )
        if "@" in name:
            last = name.rpartition("@")[2]
            like = last if last in self.revisions else "ID"
            raise GraphError(
                "branch",
                f"{name!r} names a branch as well as a revision",
                f"Name the revision alone: {_option(like)}; other branches are left as they are",
            )
        begin = [item for item in self.revisions if name and item.startswith(name)]
        if len(begin) == 1:
            raise GraphError("abbreviated", f"{name!r} is abbreviated", f"Name it in full: {_option(begin[0])}")
        if begin:
            raise GraphError(
                "ambiguous",
                f"{name!r} is the beginning of {len(begin)} revisions",
                f"Name one of them in full: {', '.join(map(_option, begin))}",
            )
        message = f"There is no revision {name!r} in the tree that is checked out"
        raise GraphError("unknown", message, self._nearest(name))

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, list(self.revisions), 3, 0.5)
        if near:
            return f"The nearest names: {', '.join(map(_option, near))}"
        return f"Its heads are {_listed(self.heads())}; alembic history in the backend's directory shows all"

    def _known(self, current: Iterable[str]) -> list[str]:
        """The heads of the database, sorted, none of them unknown to this tree."""
        names = sorted(set(current))
        lacking = [name for name in names if name not in self.revisions]
        if lacking:
            raise GraphError(
                "lacking",
                f"The database is at {_listed(lacking)}, of which the tree that is checked out has no file",
                "Check out the release that the database was last upgraded with: only its scripts can take that back",
            )
        return names

    def order(self, chosen: Collection[str]) -> list[str]:
        """These revisions, so that none comes before another that stands or depends on it, branch after branch.

        The same set always has the same order.
        """
        left = set(chosen)
        done: list[str] = []
        while left:
            ready = [name for name in sorted(left) if not any(child in left for child in self._above[name])]
            beneath = set(self._below[done[-1]]) if done else set()
            name = next((item for item in ready if item in beneath), ready[0])
            left.discard(name)
            done.append(name)
        return done

    def path_to_heads(self, current: Iterable[str], target: Iterable[str]) -> list[str]:
        """What has to be taken back so that exactly the target's revisions stay applied, newest first.

        Args:
            current: what the version table holds.
            target: the heads that a release declares. None of them: everything is taken back.

        Raises:
            GraphError: ``lacking`` (the database is at a revision that this tree has not), ``unknown`` (the target
                is), or ``ahead`` (it has revisions that the database has not).
        """
        applied = self.ancestors(self._known(current))
        wanted = sorted(set(target))
        unknown = [name for name in wanted if name not in self.revisions]
        if unknown:
            raise GraphError(
                "unknown",
                f"The target is at {_listed(unknown)}, of which the tree that is checked out has no file",
                "Choose a release whose migrations are all in this one's history",
            )
        kept = self.ancestors(wanted)
        ahead = self.order(kept - applied)
        if ahead:
            raise GraphError(
                "ahead",
                f"The database lacks {_listed(ahead[::-1])}, which the target has",
                "Going there is an upgrade and no rollback: deploy the target with its migrations (alembic upgrade)",
            )
        return self.order(applied - kept)

    def path_to_revision(self, current: Iterable[str], revision: str) -> list[str]:
        """What ``alembic downgrade REVISION`` takes back, newest first: what stands on it. Other branches are left.

        Args:
            current: what the version table holds.
            revision: a full id, or ``base`` for all of every branch.

        Raises:
            GraphError: as ``resolve`` does, ``lacking``, or ``not_applied``.

        Source: ``alembic.script.revision.RevisionMap._collect_downgrade_revisions``.
        """
        heads = self._known(current)
        applied = self.ancestors(heads)
        if revision == BASE:
            return self.order(applied)
        name = self.resolve(revision)
        if name not in applied:
            raise GraphError(
                "not_applied",
                f"{name} is not applied: the database is at {_listed(heads)}",
                "A rollback goes to a revision that one of these stands on; alembic history shows them",
            )
        return self.order(applied & self.descendants(name))

    def resolve_steps(self, current: Iterable[str], steps: int) -> str:
        """Which revision is reached by taking back so many, or ``base``.

        Args:
            current: what the version table holds.
            steps: how many, below zero.

        Raises:
            GraphError: ``steps`` (not below zero, or more than there are), ``ambiguous`` (several heads, a merge, or
                something else that would have to go too), or ``lacking``.
        """
        heads = self.heads(self.ancestors(self._known(current)))
        if steps >= 0:
            raise GraphError("steps", f"steps={steps} takes nothing back", "Give a number below zero: -e steps=-1")
        if not heads:
            raise GraphError("steps", "The database has no revision to take back", "There is nothing to do")
        if len(heads) > 1:
            ends = [self._walk(head, steps) for head in heads]
            raise self._ambiguous(heads, f"The database is at {len(heads)} heads: {_listed(heads)}", steps, ends)
        name, taken = heads[0], 0
        while taken < -steps:
            below = self.revisions[name].down_revisions if name != BASE else ()
            if len(set(below)) > 1:
                raise self._ambiguous(heads, f"{name} is a merge of {_listed(below)}", steps, below)
            if name == BASE:
                raise GraphError(
                    "steps",
                    f"Only {taken} revisions can be taken back, and {-steps} were asked for",
                    f"Give fewer, or take back everything: {_option(BASE)}",
                )
            name, taken = (below[0] if below else BASE), taken + 1
        path = self.path_to_revision(heads, name)
        if len(path) != taken:
            raise self._ambiguous(heads, f"{len(path)} revisions would have to go to reach {name}", steps, [name])
        return name

    def _walk(self, name: str, steps: int) -> str:
        """As far down as one branch goes on alone, at the most ``-steps``."""
        for _step in range(-steps):
            below = set(self.revisions[name].down_revisions)
            if len(below) != 1:
                return name if below else BASE
            name = below.pop()
        return name

    def _ambiguous(self, current: Iterable[str], why: str, steps: int, ends: Iterable[str]) -> GraphError:
        texts = []
        for end in dict.fromkeys(ends):
            path = self.path_to_revision(current, end)
            texts.append(f"{_option(end)} (takes back {_listed(path)})")
        return GraphError(
            "ambiguous", f"{why}, so steps={steps} can mean several things", f"Say which: {'; '.join(texts)}"
        )

    def _entries(self, name: str) -> tuple[str, ...]:
        """What Alembic enters into the version table in place of a revision, as far as nothing else implies it."""
        item = self.revisions[name]
        lineage = self._reach(item.down_revisions, {key: one.down_revisions for key, one in self.revisions.items()})
        implied = {parent for one in lineage for parent in self._below_by_dependency(one)}
        depends = [parent for parent in self._below_by_dependency(name) if parent not in implied]
        return tuple(dict.fromkeys((*item.down_revisions, *depends)))

    def _below_by_dependency(self, name: str) -> list[str]:
        return [self.labels.get(label, label) for label in self.revisions[name].depends_on]

    def heads_after(self, current: Iterable[str], path: Iterable[str]) -> list[str]:
        """What Alembic leaves in the version table when this path is taken back, sorted.

        That are the heads of what stays applied, and in one case more: a revision that depends on an ancestor of its
        own is replaced by both where there is another head (Alembic 1.20).

        Args:
            current: what the version table holds.
            path: newest first, as the functions above return it.

        Source: ``alembic.runtime.migration.HeadMaintainer`` and ``RevisionStep``.
        """
        rows = set(self._known(current))
        for name in path:
            rows.discard(name)
            entries = set(self._entries(name))
            if rows:
                entries -= self.ancestors(rows)
            else:
                entries -= {one for entry in entries for one in self.ancestors([entry]) - {entry}}
            rows |= entries
        return sorted(rows)
