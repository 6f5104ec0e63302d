#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alembic_path
short_description: Which Alembic revisions a rollback takes back, and what each of them does
version_added: "0.1.0"
description:
  - Reads the revision files of two commits from git objects, with no checkout. None of them is imported or run.
  - The path is absolute. It holds all branches, in an order in which each revision is a head when it is taken back, and
    takes back what C(alembic downgrade) would.
  - What each C(downgrade()) does is read from its syntax tree. What only the rehearsal can tell is marked as unknown.
  - Whatever stands against it is in RV(problems), and no failure of the module.
options:
  root:
    description: The application's clone.
    type: path
    required: true
  backend:
    description: Directory with C(alembic.ini), relative to O(root).
    type: str
    default: backend
  commit:
    description: The newer tree, whose scripts run the downgrade.
    type: str
    default: HEAD
  heads:
    description: Revisions that the database is at, as RV(sparklio.rollback.alembic_info#module:heads) has them.
    type: list
    elements: str
    required: true
  target_commit:
    description: The release to go to. What its tree declares stays applied, and nothing else.
    type: str
  revision:
    description:
      - The revision to go to, in full, or V(base) for everything. What stands on it is taken back; other branches are
        left as they are.
      - Abbreviated and relative ones are refused, with what to type instead.
    type: str
  steps:
    description:
      - How many revisions to take back, below zero. It is resolved to a revision, or refused where it is ambiguous.
    type: int
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Read what the database is at
  sparklio.rollback.alembic_info:
    backend_dir: ~/sparklio_ai_marketing_studio/backend
  register: database

- name: Find the way to an earlier release
  sparklio.rollback.alembic_path:
    root: ~/sparklio_ai_marketing_studio
    heads: "{{ database.heads }}"
    target_commit: v4.0.20250115-1430
  register: path

- name: Find what one step back is
  sparklio.rollback.alembic_path:
    root: ~/sparklio_ai_marketing_studio
    heads: "{{ database.heads }}"
    steps: -1
"""

RETURN = r"""
current_heads:
  description: O(heads), each once, sorted.
  type: list
  elements: str
  returned: success
  sample: [v4_0008_merge]
target_heads:
  description: What the version table holds afterwards, sorted. Null where there is no way.
  type: list
  elements: str
  returned: success
  sample: [v4_0003_workflows]
tree_heads:
  description: Heads that the newer tree declares, sorted. Null where they can't be read.
  type: list
  elements: str
  returned: success
  sample: [v4_0008_merge]
unapplied:
  description: Revisions of the newer tree that the database has not, oldest first.
  type: list
  elements: str
  returned: success
  sample: []
target:
  description:
    - What was asked for. C(kind) is V(commit), V(revision) or V(steps); C(name) as it was given, C(commit) in full, and
      C(revision) in full, to which C(steps) was resolved.
  type: dict
  returned: success
  sample: {"kind": "steps", "name": "-1", "commit": null, "revision": "v4_0007_asset_labels"}
base:
  description: Whether the path takes back everything that the database has.
  type: bool
  returned: success
path:
  description:
    - The revisions to take back, newest first, each with its C(revision), C(file) relative to the clone, C(title),
      C(down_revisions), C(heads_before) (what the version table holds by then), C(marks), C(reasons) and C(drops).
    - C(marks) are of V(missing), V(raises), V(empty) (these three can't be taken back), V(autocommit), V(loses_data),
      V(changes_data), V(reads_data), V(unknown), V(merge) and V(harmless).
    - C(reasons) has for each mark the line and why. C(drops) has C(kind), C(table), C(name) and C(line); a name that is
      made at run time is null.
  type: list
  elements: dict
  returned: success
  sample:
    - revision: v4_0004_brand_learning
      file: backend/alembic/versions/v4_0004_brand_learning.py
      title: What a brand has learned from its campaigns.
      down_revisions: [v4_0003_workflows]
      marks: [loses_data]
      reasons:
        - mark: loses_data
          line: 36
          reason: column brands.learned_profile is gone
      drops:
        - kind: column
          table: brands
          name: learned_profile
          line: 36
build:
  description: >-
    Revisions by which an empty database comes to RV(target_heads), oldest first; none for the base. Null where there is
    no way.
  type: list
  elements: str
  returned: success
  sample: [v4_0001_users, v4_0002_brands, v4_0003_workflows]
differing:
  description:
    - Revisions whose files are not the same in both commits. C(how) is V(changed), or V(target_only) where only the
      target's tree has the revision; C(file) is the newer tree's, C(target_file) the target's.
    - Empty without O(target_commit).
  type: list
  elements: dict
  returned: success
  sample:
    - revision: v4_0002_brands
      how: changed
      file: backend/alembic/versions/v4_0002_brands.py
      target_file: backend/alembic/versions/v4_0002_brands.py
problems:
  description: What stands against it, each with C(code), C(message) and C(cure).
  type: list
  elements: dict
  returned: success
  sample:
    - code: abbreviated
      message: "'v4_0003' is abbreviated"
      cure: "Name it in full: -e target_revision=v4_0003_workflows"
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _downgrade_marks,
    _revision_graph,
    _revisions,
    revision_files,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository


def problem(code: str, message: str, cure: str) -> dict[str, str]:
    return {"code": code, "message": message, "cure": cure}


class Side:
    """The migrations of one commit, and what is wrong with them."""

    def __init__(self, repo: Repository, ref: str, backend: str, newer: bool) -> None:
        found = repo.commit_of(ref)
        if found is None:
            raise GitError(f"there is no commit {ref!r} in {repo.path}")
        self.commit, self.newer = found, newer
        self.name = repo.tag(found) or found[:12]
        self.tree: revision_files.Tree | None = None
        #: By what is wrong, without the commit it was seen in: the same in both trees is told once.
        self.problems: dict[str, dict[str, str]] = {}
        self.revisions: list[_revisions.Revision] = []
        self.graph: _revision_graph.Graph | None = None
        self.cure = "Choose another release, whose migrations can be read"
        if newer:
            self.cure = (
                "Alembic reads all of this tree, so nothing can be taken back with it: correct it, and commit that"
            )
        try:
            self.tree = revision_files.read(repo, found, backend)
        except _revisions.RevisionError as exc:
            self._add(str(exc), problem("bad_ini", str(exc), self.cure))
            return
        if self.tree is None:
            text = f"There is no {backend}/alembic.ini, so no migrations are known"
            cure = (
                f"Set the backend's directory, or check out what has {backend}" if newer else "Choose another release"
            )
            self._add(f"{text} {newer}", problem("no_alembic", text, cure))
            return
        self._read()

    def _read(self) -> None:
        self.revisions, wrong = revision_files.parse(self.tree)
        for exc in wrong:
            where = f", line {exc.line}" if exc.line else ""
            self._add(str(exc), problem(exc.code, str(exc), self.cure), where)
        for exc in _revision_graph.problems(self.revisions):
            # What stands on a file that can't be read is not missing.
            if exc.code != "missing" or not wrong:
                self._add(str(exc), {**exc.problem(), **({} if self.newer else {"cure": self.cure})})
        if not self.problems:
            self.graph = _revision_graph.Graph(self.revisions)

    def _add(self, key: str, found: dict[str, str], where: str = "") -> None:
        self.problems[key] = {**found, "message": f"{found['message']} (in {self.name}{where})"}

    def files(self) -> dict[str, str]:
        return {item.revision: item.path for item in self.revisions}


def uncommitted(repo: Repository, side: Side) -> list[dict[str, str]]:
    """A problem where the files that would run are not those that were read: changed, or not known to git."""
    if side.tree is None or side.commit != repo.commit_of("HEAD"):
        return []
    # env.py runs around each of them.
    places = {*side.tree.directories, side.tree.script_location}
    output = repo.run("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", *sorted(places))
    names = sorted(entry[3:] for entry in output.split("\0") if entry.endswith(".py"))
    if not names:
        return []
    return [
        problem(
            "uncommitted",
            f"Revision files, or env.py, are not as they were committed: {', '.join(names)}",
            "Commit them, or move them away: what would run is not what was read",
        )
    ]


def differing(newer: Side, older: Side) -> list[dict[str, Any]]:
    """Revisions that are not the same in both trees."""
    here, there = newer.files(), older.files()
    found = []
    for revision, path in sorted(there.items()):
        mine = here.get(revision)
        if mine is None:
            found.append({"revision": revision, "how": "target_only", "file": None, "target_file": path})
        elif newer.tree.blobs[mine] != older.tree.blobs[path]:
            found.append({"revision": revision, "how": "changed", "file": mine, "target_file": path})
    return found


def to_commit(newer: Side, older: Side, heads: list[str], found: dict[str, Any]) -> list[str]:
    """The way to a release, or GraphError. Notes what the two trees do not agree on."""
    wanted = older.graph.heads()
    alone = [item["revision"] for item in found["differing"] if item["how"] == "target_only"]
    if alone:
        raise _revision_graph.GraphError(
            "target_only",
            f"Only {older.name} has {', '.join(alone)}, and {newer.name}, whose scripts would run, has not",
            f"Choose a release that {newer.name} came from; if {older.name} is newer, deploy it with its migrations",
        )
    kept = newer.graph.ancestors(item for item in wanted if item in newer.graph.revisions)
    apart = sorted(kept ^ set(older.graph.revisions))
    if apart:
        raise _revision_graph.GraphError(
            "rewritten",
            f"The history of {older.name} was rewritten in {newer.name}: only one of the two has {', '.join(apart)}",
            "Choose a release whose history was not rewritten, or restore the database from a restore point",
        )
    path = newer.graph.path_to_heads(heads, wanted)
    after = newer.graph.heads_after(heads, path)
    if after != wanted:
        extra = sorted(set(after) - set(newer.graph.heads(newer.graph.ancestors(after))))
        cure = "Choose another release, or restore the database from a restore point"
        if extra:
            cure = f"Leave out what depends on {', '.join(extra)} although it stands on it already, in a newer release"
        raise _revision_graph.GraphError(
            "heads_differ",
            f"The database would be at {', '.join(after) or 'nothing'} then, and {older.name} declares "
            f"{', '.join(wanted) or 'nothing'}",
            cure,
        )
    return path


def find(newer: Side, older: Side | None, params: dict[str, Any], found: dict[str, Any]) -> None:
    """Fill in the path, or the problem that stands against it."""
    graph, heads = newer.graph, found["current_heads"]
    found["tree_heads"] = graph.heads()
    try:
        if older is not None:
            path = to_commit(newer, older, heads, found)
        else:
            target = params["revision"]
            if params["steps"] is not None:
                target = graph.resolve_steps(heads, params["steps"])
            path = graph.path_to_revision(heads, target)
            found["target"]["revision"] = target
    except _revision_graph.GraphError as exc:
        found["problems"].append(exc.problem())
        return
    applied = graph.ancestors(heads)
    found["unapplied"] = graph.order(set(graph.revisions) - applied)[::-1]
    found["target_heads"] = graph.heads_after(heads, path)
    found["base"] = bool(path) and not found["target_heads"]
    found["build"] = graph.path_to_heads(found["target_heads"], [])[::-1] if found["target_heads"] else []
    for at, name in enumerate(path):
        item = graph.revisions[name]
        marks = _downgrade_marks.read(newer.tree.sources[item.path], item.down_revisions)
        about = {"revision": name, "file": item.path, "down_revisions": list(item.down_revisions)}
        about["heads_before"] = graph.heads_after(heads, path[:at])
        found["path"].append({**about, **marks.data()})


def gather(params: dict[str, Any]) -> dict[str, Any]:
    repo = Repository(os.path.realpath(params["root"]))
    newer = Side(repo, params["commit"], params["backend"], True)
    older = Side(repo, params["target_commit"], params["backend"], False) if params["target_commit"] else None
    kind = next(name for name in ("target_commit", "revision", "steps") if params[name] is not None)
    found: dict[str, Any] = {
        "current_heads": sorted(set(params["heads"])),
        "target_heads": None,
        "tree_heads": None,
        "unapplied": [],
        "target": {
            "kind": kind.replace("target_", ""),
            "name": str(params[kind]),
            "commit": older.commit if older else None,
            "revision": None,
        },
        "base": False,
        "path": [],
        "build": None,
        "differing": [],
        "problems": [*newer.problems.values(), *uncommitted(repo, newer)],
    }
    if older is not None:
        found["problems"] += [item for key, item in older.problems.items() if key not in newer.problems]
        if newer.tree and older.tree:
            found["differing"] = differing(newer, older)
    if newer.graph and (older is None or older.graph):
        find(newer, older, params, found)
    return found


def main() -> None:
    targets = ("target_commit", "revision", "steps")
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "backend": {"type": "str", "default": "backend"},
            "commit": {"type": "str", "default": "HEAD"},
            "heads": {"type": "list", "elements": "str", "required": True},
            "target_commit": {"type": "str"},
            "revision": {"type": "str"},
            "steps": {"type": "int"},
        },
        mutually_exclusive=[targets],
        required_one_of=[targets],
        supports_check_mode=True,
    )
    try:
        result = gather(module.params)
    except GitError as exc:
        module.fail_json(msg=f"The migrations can't be read from {module.params['root']}: {exc}.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
