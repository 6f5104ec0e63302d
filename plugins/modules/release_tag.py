#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_tag
short_description: Put an annotated tag on what is checked out
version_added: "0.1.0"
description:
  - Tags the commit that is checked out, and pushes that one tag where there is a remote.
  - A push that fails is no failure of the module. RV(push_problem) says why.
options:
  path:
    description: The clone.
    type: path
    required: true
  name:
    description: Name of the tag.
    type: str
    required: true
  annotation:
    description: Its message.
    type: str
    default: Deployment backup
  state:
    description:
      - V(present) makes the tag where it is missing. One of that name on another commit is a failure.
      - V(pushed) pushes it.
      - V(absent) removes it from the clone, and never from the remote.
    type: str
    choices: [present, pushed, absent]
    default: present
  noted_in:
    description:
      - Directory of the restore point that is being made. A tag that this makes is noted there before, so that only
        that one is ever removed again.
    type: path
  remote:
    description: Name of the remote. Where the clone has none of that name, nothing is pushed.
    type: str
    default: origin
attributes:
  check_mode:
    support: full
    description: Says what it would do.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Tag what runs
  sparklio.rollback.release_tag:
    path: ~/sparklio_ai_marketing_studio
    name: v4.0.20250115-070000
    annotation: Before the release of the new editor

- name: Push the tag
  sparklio.rollback.release_tag:
    path: ~/sparklio_ai_marketing_studio
    name: v4.0.20250115-070000
    state: pushed
"""

RETURN = r"""
commit:
  description: The commit that is checked out.
  type: str
  returned: success
branch:
  description: Its branch, or none.
  type: str
  returned: success
pushed:
  description: Whether the remote has the tag now.
  type: bool
  returned: state is pushed
push_problem:
  description: Why it was not pushed, or none.
  type: str
  returned: state is pushed
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _releases, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository


def identity(repo: Repository) -> list[str]:
    """Options that name a tagger where the host's settings name none."""
    try:
        repo.line("var", "GIT_COMMITTER_IDENT")
    except GitError:
        return ["-c", "user.name=sparklio.rollback", "-c", "user.email=sparklio.rollback@localhost"]
    return []


def act(params: dict[str, Any], check: bool) -> dict[str, Any]:
    repo, name = Repository(params["path"]), params["name"]
    commit = repo.line("rev-parse", "--verify", "HEAD^{commit}")
    there = repo.commit_of(f"refs/tags/{name}")
    result: dict[str, Any] = {"changed": False, "commit": commit, "branch": repo.branch()}
    if params["state"] == "present":
        if there is not None and there != commit:
            raise GitError(f"tag {name} is on commit {there[:12]} already, and {commit[:12]} is checked out")
        if there is None and not check:
            if params["noted_in"]:
                restore_points.note(params["noted_in"], "tag", name)
            repo.run(
                *identity(repo),
                "tag",
                "-a",
                "--no-sign",
                "-F",
                "-",
                "--",
                name,
                commit,
                text_input=params["annotation"] + "\n",
            )
        return {**result, "changed": there is None}
    if params["state"] == "absent":
        if there is not None and not check:
            repo.run("tag", "-d", "--", name)
        return {**result, "changed": there is not None}
    if params["remote"] not in repo.run("remote").split():
        return {**result, "pushed": False, "push_problem": f"the clone has no remote named {params['remote']}"}
    if check:
        return {**result, "changed": True, "pushed": False, "push_problem": None}
    try:
        repo.run("push", "--quiet", params["remote"], f"refs/tags/{name}:refs/tags/{name}")
    except GitError as exc:
        return {**result, "pushed": False, "push_problem": str(exc)}
    return {**result, "changed": True, "pushed": True, "push_problem": None}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "annotation": {"type": "str", "default": "Deployment backup"},
            "state": {"type": "str", "choices": ["present", "pushed", "absent"], "default": "present"},
            "noted_in": {"type": "path"},
            "remote": {"type": "str", "default": "origin"},
        },
        supports_check_mode=True,
    )
    params = module.params
    problem = _releases.tag_problem(params["name"])
    if problem:
        module.fail_json(msg=f"{problem}.")
    try:
        result = act(params, module.check_mode)
    except GitError as exc:
        module.fail_json(msg=f"The release in {params['path']} can't be tagged: {exc}.")
    except restore_points.RestorePointError as exc:
        module.fail_json(msg=f"The release in {params['path']} can't be tagged: {exc}.")
    except OSError as exc:
        module.fail_json(msg=f"{params['noted_in']} can't be written: {exc.strerror}. Free some space there.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
