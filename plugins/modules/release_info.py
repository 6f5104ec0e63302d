#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: What a release is, read from git objects alone
version_added: "0.1.0"
description:
  - Reads the release that is checked out and the one that is asked for, without a checkout.
  - A name that is not a release tag is reported in RV(problems), never handed to git as an option.
options:
  path:
    description: The application's clone.
    type: path
    required: true
  target_tag:
    description: The release to go to. Left out, RV(last_good) has what could be asked for.
    type: str
  fetch:
    description:
      - Whether tags are fetched from the remote first. A remote that gives no answer is a warning when the tag is
        known here.
      - Never done in check mode.
    type: bool
    default: true
  remote:
    description: Name of the remote.
    type: str
    default: origin
  tag_pattern:
    description: Regular expression that the whole name of a release tag matches.
    type: str
    default: 'v\d+\.\d+\.\d{8}-\d{4}(\d{2})?'
  backend:
    description: Directory of the backend, relative to O(path).
    type: str
    default: backend
  frontend:
    description: Directory of the frontend, relative to O(path).
    type: str
    default: frontend
  requirements:
    description: Requirements files of the backend, relative to it. Files that they name by C(-r) and C(-c) count too.
    type: list
    elements: str
    default: [requirements.txt]
  state_dir:
    description:
      - State directory on the host. Releases that an earlier rollback went away from, by its journals, are not offered.
    type: path
attributes:
  check_mode:
    support: full
    description: Nothing is fetched then.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Read both releases
  sparklio.rollback.release_info:
    path: ~/sparklio_ai_marketing_studio
    target_tag: v4.0.20250115-1430
  register: release
"""

RETURN = r"""
current:
  description: The release that is checked out.
  type: dict
  returned: success
  sample:
    tag: v4.0.20250115-1600
    commit: 1f0c…
    date: 1736923200
    branch: null
    dirty: []
    checked_out_at: 1736930000.0
    requirements: 9b1c…
    lock: 77aa…
    frontend_tree: 4f5e…
    alembic_heads: [c3d4]
target:
  description: The release that was asked for, with the same keys; none when there is no such release.
  type: dict
  returned: success
problems:
  description: What stands against the target, each with C(code), C(message) and C(cure).
  type: list
  elements: dict
  returned: success
last_good:
  description: Earlier releases, newest first, at most five.
  type: list
  elements: dict
  returned: success
bad_releases:
  description: Tags that earlier rollbacks went away from.
  type: list
  elements: str
  returned: success
root:
  description: The clone, as an absolute path.
  type: str
  returned: success
overwritten:
  description: Files here that git does not track and that the target would overwrite.
  type: list
  elements: str
  returned: success
diffstat:
  description: What a checkout would change, one line a file.
  type: str
  returned: when there is a target
commits:
  description: Commits that are left behind, newest first, one line each.
  type: list
  elements: str
  returned: when there is a target
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _journal,
    _releases,
    _revisions,
    revision_files,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError, State


def describe(repo: Repository, commit: str, params: dict, heads: list[str]) -> dict:
    """All that a release needs, from the objects of its commit."""
    backend, frontend = params["backend"], params["frontend"]
    texts: dict[str, str] = {}
    for name in params["requirements"]:
        texts.update(_releases.requirement_files(f"{backend}/{name}", lambda path: repo.read(commit, path)))
    lock = repo.read(commit, f"{frontend}/package-lock.json")
    package = repo.read(commit, f"{frontend}/package.json")
    return {
        "tag": repo.tag(commit),
        "commit": commit,
        "subject": repo.line("log", "-1", "--format=%s", commit),
        "date": int(repo.line("log", "-1", "--format=%ct", commit)),
        "requirements": _releases.digest(texts) if texts else None,
        "requirement_files": sorted(texts),
        "lock": _releases.digest([lock if lock is not None else package]) if (lock or package) else None,
        "frontend_tree": repo.tree_id(commit, frontend),
        "has_lock": lock is not None,
        "alembic_heads": heads,
    }


def checked_out_at(repo: Repository) -> float | None:
    """When HEAD last changed. None where git keeps no reflog."""
    try:
        stamp = repo.line("log", "-g", "-1", "--format=%gd", "--date=unix", "HEAD")
        return float(stamp.split("{", 1)[1].rstrip("}"))
    except (GitError, IndexError, ValueError):
        return None


def problem(code: str, message: str, cure: str) -> dict:
    return {"code": code, "message": message, "cure": cure}


def find_target(repo: Repository, params: dict, offer: str, warnings: list[str]) -> tuple[str | None, list[dict]]:
    """Resolve the tag to a commit, or say why that can't be done."""
    tag = params["target_tag"]
    if not tag:
        return None, [problem("no_target", "No target_tag was given", f"Choose one: {offer}")]
    bad_form = _releases.tag_problem(tag, params["tag_pattern"])
    if bad_form:
        if repo.commit_of(f"refs/heads/{tag}") or repo.commit_of(f"refs/remotes/{params['remote']}/{tag}"):
            bad_form = f"{tag} is a branch, not a release tag"
        return None, [problem("bad_tag", bad_form, f"Choose one: {offer}")]
    commit = repo.commit_of(f"refs/tags/{tag}")
    if commit is None:
        where = "" if not warnings else f" ({warnings[-1]})"
        return None, [problem("unknown_tag", f"There is no release {tag} here{where}", f"Choose one: {offer}")]
    return commit, []


def all_tags(repo: Repository, pattern: str) -> list[dict]:
    output = repo.run(
        "for-each-ref",
        "--sort=-creatordate",
        "--format=%(refname:short)%00%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)%00%(creatordate:unix)%00%(contents:subject)",
        "refs/tags",
    )
    tags = []
    for row in output.splitlines():
        tag, commit, date, subject = [*row.split("\0"), "", "", ""][:4]
        if _releases.tag_problem(tag, pattern) is None:
            tags.append({"tag": tag, "commit": commit, "date": int(date or 0), "subject": subject})
    return tags


def gather(module: AnsibleModule) -> dict:
    params = module.params
    root = os.path.realpath(params["path"])
    repo = Repository(root)
    if not os.path.isdir(root):
        module.fail_json(
            msg=f"There is no directory {params['path']} on this host. Set rollback_app_root to the application's "
            "clone."
        )
    try:
        head = repo.line("rev-parse", "--verify", "HEAD^{commit}")
    except GitError as exc:
        cure = "Set rollback_app_root to the application's clone"
        if "not installed" in str(exc):
            cure = "Put git on the PATH of this user"
        module.fail_json(msg=f"{root} can't be read as a git clone: {exc}. {cure}.")
    warnings: list[str] = []
    malformed = params["target_tag"] and _releases.tag_problem(params["target_tag"], params["tag_pattern"])
    wanted = params["fetch"] and params["target_tag"] and not malformed
    if wanted and not module.check_mode:
        try:
            if params["remote"] in repo.line("remote").split():
                repo.run("fetch", "--quiet", "--tags", "--no-recurse-submodules", params["remote"], timeout=60)
        except GitError as exc:
            warnings.append(f"the tags could not be fetched from {params['remote']}: {exc}")
    elif wanted and repo.commit_of(f"refs/tags/{params['target_tag']}") is None:
        warnings.append(f"a dry run fetches no tags; {params['remote']} may have it: git fetch --tags in the clone")
    tags = all_tags(repo, params["tag_pattern"])
    bad = _journal.left_because_bad(State(params["state_dir"]).summaries()) if params["state_dir"] else []
    bad = _releases.with_twins(tags, bad)
    last_good = _releases.last_good(tags, head, bad)
    offer = ", ".join(item["tag"] for item in last_good) or "there is no earlier release in this clone"
    commit, problems = find_target(repo, params, offer, warnings)
    try:
        heads = revision_files.heads(repo, head, params["backend"])
    except _revisions.RevisionError as exc:
        # Broken migrations are a reason to leave a release, not to stay on it.
        heads = []
        warnings.append(f"the migrations of the release that is checked out can't be read: {exc}")
    current = describe(repo, head, params, heads)
    current.update(branch=repo.branch(), dirty=repo.dirty(), checked_out_at=checked_out_at(repo))
    result: dict = {
        "current": current,
        "target": None,
        "problems": problems,
        "last_good": last_good,
        "overwritten": [],
        "bad_releases": bad,
    }
    result["root"] = root
    for part in (params["backend"], params["frontend"]) if commit else ():
        if not os.path.isdir(os.path.join(root, part)):
            cure = "Set rollback_app_root, or the name of that part, in the inventory"
            module.fail_json(msg=f"There is no directory {part} in {root}. {cure}.")
    if commit:
        try:
            heads = revision_files.heads(repo, commit, params["backend"])
            result["target"] = {**describe(repo, commit, params, heads), "tag": params["target_tag"]}
        except _revisions.RevisionError as exc:
            problems.append(
                problem(
                    "bad_revisions",
                    f"The migrations of {params['target_tag']} can't be read: {exc}",
                    f"Choose another release: {offer}",
                )
            )
        added = repo.run("diff", "--name-only", "-z", "--no-renames", "--diff-filter=A", head, commit).split("\0")
        result["overwritten"] = [name for name in added if name and os.path.lexists(os.path.join(root, name))]
        result["diffstat"] = repo.run("diff", "--stat=100", "--no-color", head, commit)
        result["commits"] = repo.run("log", "--oneline", "--no-color", "-50", f"{commit}..{head}").splitlines()
    for text in warnings:
        module.warn(text)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "target_tag": {"type": "str"},
            "fetch": {"type": "bool", "default": True},
            "remote": {"type": "str", "default": "origin"},
            "tag_pattern": {"type": "str", "default": _releases.TAG_PATTERN},
            "backend": {"type": "str", "default": "backend"},
            "frontend": {"type": "str", "default": "frontend"},
            "requirements": {"type": "list", "elements": "str", "default": ["requirements.txt"]},
            "state_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = gather(module)
    except (GitError, RunError, _revisions.RevisionError) as exc:
        module.fail_json(msg=f"The releases could not be read from {module.params['path']}: {exc}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
