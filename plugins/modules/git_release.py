#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: git_release
short_description: Preserve, stage and check out releases of a clone
version_added: "0.1.0"
description:
  - Changes a clone in the three ways that a rollback needs, and loses nothing. What is uncommitted is kept in a
    branch, and a file that git does not track is never overwritten.
options:
  path:
    description: The application's clone.
    type: path
    required: true
  state:
    description:
      - V(preserved) makes O(branch) at HEAD, with the uncommitted changes on top when there are any.
      - V(staged) writes the tree of O(commit) to O(dest), and leaves the clone's own index alone.
      - V(checked_out) checks O(commit) out in place.
    type: str
    choices: [preserved, staged, checked_out]
    required: true
  commit:
    description: Full id of the commit.
    type: str
  expect:
    description: Full id of the commit that HEAD must still be at. Otherwise somebody else was here, and nothing is
      changed.
    type: str
  branch:
    description: With O(state=preserved), the branch to make. With O(state=checked_out), a branch to be on when it
      still is at O(commit).
    type: str
  dest:
    description: Directory to stage to; made with mode 0700.
    type: path
  force:
    description:
      - Whether tracked files that differ from HEAD are replaced. They are kept in a branch C(<save_branch>) first.
      - A file that git does not track and that is in the way is renamed, with C(.untracked-) and a number after its
        name.
      - An C(index.lock) that a killed git left behind is moved aside.
    type: bool
    default: false
  save_branch:
    description: Branch that keeps what O(force) replaces.
    type: str
  restore_changes:
    description: A branch made by O(state=preserved) whose uncommitted changes are put back after the checkout.
    type: str
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says what would be changed.
  diff_mode:
    support: full
    description: Shows the commit before and after, and the files that change.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Check the release out in place
  sparklio.rollback.git_release:
    path: ~/sparklio_ai_marketing_studio
    state: checked_out
    commit: "{{ release.target.commit }}"
    expect: "{{ release.current.commit }}"
"""

RETURN = r"""
commit:
  description: The commit that HEAD is at, or that was staged.
  type: str
  returned: success
branch:
  description: The branch that was made.
  type: str
  returned: O(state=preserved)
saved:
  description: The commit that holds the uncommitted changes, or none.
  type: str
  returned: success
moved:
  description: New names of files that git does not track and that O(force) would have overwritten.
  type: list
  elements: str
  returned: O(force=true) and O(state=checked_out)
"""

import contextlib
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, RunError

_IDENTITY = {
    "GIT_AUTHOR_NAME": "sparklio.rollback",
    "GIT_AUTHOR_EMAIL": "rollback@localhost",
    "GIT_COMMITTER_NAME": "sparklio.rollback",
    "GIT_COMMITTER_EMAIL": "rollback@localhost",
}


def save(repo: Repository, branch: str) -> str | None:
    """Keep the uncommitted changes of tracked files on top of HEAD in a branch. Returns its commit, or None."""
    stash = ""
    if repo.dirty():
        # Without fresh file times in the index, as after the clone was copied, git stash says nothing and exits with 1.
        with contextlib.suppress(GitError):
            repo.run("update-index", "-q", "--refresh")
        stash = repo.run("stash", "create", f"uncommitted changes kept as {branch}", env=_IDENTITY).strip()
    repo.run("branch", "--force", branch, stash or "HEAD")
    return stash or None


def in_the_way(repo: Repository, head: str, commit: str) -> list[str]:
    """Paths that git does not track here and that a forced checkout of ``commit`` would overwrite."""
    added = repo.run("diff", "--name-only", "-z", "--no-renames", "--diff-filter=A", head, commit).split("\0")
    tracked = set(repo.run("ls-files", "-z").split("\0"))
    found = set()
    for name in filter(None, added):
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            full = os.path.join(repo.path, path)
            if depth < len(parts) and os.path.isdir(full) and not os.path.islink(full):
                continue
            known = path in tracked or any(item.startswith(path + "/") for item in tracked)
            if os.path.lexists(full) and not known:
                found.add(path)
            break
    return sorted(found)


def clear_the_way(repo: Repository, head: str, commit: str) -> list[str]:
    """Move what a forced checkout would overwrite aside, but for what a checkout that was cut off left behind."""
    moved = []
    for path in in_the_way(repo, head, commit):
        full = os.path.join(repo.path, path)
        plain = os.path.isfile(full) and not os.path.islink(full)
        if plain and repo.line("hash-object", "--", path) == repo.tree_id(commit, path):
            continue
        aside = f"{path}.untracked-{time.time_ns()}"
        os.rename(full, os.path.join(repo.path, aside))
        moved.append(aside)
    return moved


def preserved(module: AnsibleModule, repo: Repository, recorder: Recorder) -> dict:
    branch = module.params["branch"]
    head = repo.line("rev-parse", "HEAD")
    if module.check_mode:
        return {"changed": True, "commit": head, "branch": branch, "saved": None}
    saved = save(repo, branch)
    return {"changed": True, "commit": head, "branch": branch, "saved": saved}


def staged(module: AnsibleModule, repo: Repository, recorder: Recorder) -> dict:
    commit, dest = module.params["commit"], module.params["dest"]
    if not module.check_mode:
        os.makedirs(dest, mode=0o700, exist_ok=True)
        index = {"GIT_INDEX_FILE": dest.rstrip("/") + ".index"}
        repo.run("read-tree", commit, env=index)
        repo.run("checkout-index", "--all", "--force", f"--prefix={dest.rstrip('/')}/", env=index, timeout=300)
        os.unlink(index["GIT_INDEX_FILE"])
    return {"changed": False, "commit": commit, "saved": None}


def checked_out(module: AnsibleModule, repo: Repository, recorder: Recorder) -> dict:
    params = module.params
    commit, expect = params["commit"], params["expect"]
    head, branch = repo.line("rev-parse", "HEAD"), repo.branch()
    wanted = (
        params["branch"] if params["branch"] and repo.commit_of(f"refs/heads/{params['branch']}") == commit else None
    )
    if expect and head not in (expect, commit):
        raise GitError(
            f"HEAD is at {head[:12]}, not at {expect[:12]}: somebody else changed this clone. Nothing was changed; "
            "run it again"
        )
    dirty = repo.dirty()
    if dirty and not params["force"]:
        raise GitError(
            f"{len(dirty)} file(s) were changed since the check, such as {dirty[0]}. Commit them or add -e "
            "rollback_save_changes=true"
        )
    changed = head != commit or bool(dirty) or wanted != branch
    result = {
        "changed": changed,
        "commit": commit,
        "saved": None,
        "diff": {
            "before": f"{head}\n",
            "after": f"{commit}\n",
            "prepared": repo.run("diff", "--stat=100", head, commit),
        },
    }
    if not changed or module.check_mode:
        recorder.unneeded()
        return result
    recorder.intent(detail={"from": head, "to": commit, "branch": branch})
    if params["force"]:
        repo.unlock()
        if dirty and params["save_branch"]:
            result["saved"] = save(repo, params["save_branch"])
        result["moved"] = clear_the_way(repo, head, commit)
    command = ["checkout", "--quiet", "--no-overwrite-ignore", "--no-recurse-submodules"]
    if params["force"]:
        command.append("--force")
    command += [wanted, "--"] if wanted else ["--detach", commit, "--"]
    repo.run(*command, timeout=300)
    if params["restore_changes"]:
        stash = repo.commit_of(f"refs/heads/{params['restore_changes']}")
        if stash and repo.commit_of(f"{stash}^2"):
            repo.run("stash", "apply", "--index", stash, env=_IDENTITY)
    now = repo.line("rev-parse", "HEAD")
    if now != commit:
        raise GitError(f"HEAD is at {now[:12]} after the checkout, not at {commit[:12]}")
    recorder.done(detail={"commit": now, "saved": result["saved"], "moved": result.get("moved", [])})
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["preserved", "staged", "checked_out"], "required": True},
            "commit": {"type": "str"},
            "expect": {"type": "str"},
            "branch": {"type": "str"},
            "dest": {"type": "path"},
            "force": {"type": "bool", "default": False},
            "save_branch": {"type": "str"},
            "restore_changes": {"type": "str"},
            "journal": JOURNAL_SPEC,
        },
        required_if=[
            ("state", "preserved", ["branch"]),
            ("state", "staged", ["commit", "dest"]),
            ("state", "checked_out", ["commit"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    repo = Repository(os.path.realpath(params["path"]))
    recorder = Recorder(params["journal"], module.check_mode, "checkout")
    action = {"preserved": preserved, "staged": staged, "checked_out": checked_out}[params["state"]]
    try:
        result = action(module, repo, recorder)
    except (GitError, RunError, OSError) as exc:
        if params["state"] == "checked_out":
            recorder.failed(str(exc))
        module.fail_json(msg=f"git ({params['state'].replace('_', ' ')}): {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
