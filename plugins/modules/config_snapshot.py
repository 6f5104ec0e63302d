#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_snapshot
short_description: Keep the environment files of the application, byte for byte
version_added: "0.1.0"
description:
  - Copies the environment files with mode 0600, and records size, SHA-256, mode, owner, POSIX ACL, SELinux context and
    link text of each. A file that does not exist is recorded as absent.
  - Either into a restore point that is being made (O(dest)), or as a restore point of its own (O(restore_point)).
options:
  root:
    description: Root of the application's git clone.
    type: path
    required: true
  files:
    description: The environment files, relative to O(root).
    type: list
    elements: str
    default: [.env, backend/.env, frontend/.env.local]
  dest:
    description: Directory for the copies, in the restore point that is being made. Its name is that in the manifest.
    type: path
  restore_point:
    description: Make a restore point of its own in place of O(dest), whole or not at all.
    type: dict
    suboptions:
      backups:
        description: Directory of the restore points. Made with mode 0700 when it is missing.
        type: path
        required: true
      kind:
        description: What it is made for; part of its id.
        type: str
        choices: [deploy, level1, level2, level3, level4, manual]
        default: manual
      made_by:
        description: Who makes it.
        type: str
        default: unknown
      reason:
        description: What for.
        type: str
        default: ""
      run:
        description:
          - Run whose journal gets what the run is, with the id of the restore point as C(restore_point). Spares a task
            where every second counts.
        type: dict
        suboptions:
          state_dir:
            description: State directory on the host.
            type: path
            required: true
          run_id:
            description: The run that holds the lock.
            type: str
            required: true
          record:
            description: What is written with the event C(run).
            type: dict
            required: true
attributes:
  check_mode:
    support: full
    description: Reads the files and writes nothing.
  diff_mode:
    support: none
    description: Contents of these files are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Add the environment files to a restore point
  sparklio.rollback.config_snapshot:
    root: ~/sparklio_ai_marketing_studio
    dest: "{{ restore_point.path }}/environment"
  register: environment_files

- name: Keep them as a restore point of their own
  sparklio.rollback.config_snapshot:
    root: ~/sparklio_ai_marketing_studio
    restore_point:
      backups: ~/sparklio_ai_marketing_studio.rollback/backups
      kind: manual
      reason: before I edit them
"""

RETURN = r"""
artifact:
  description: The artifact for the manifest.
  type: dict
  returned: with O(dest), outside of check mode
  sample:
    name: environment
    type: environment
    path: environment
    size: 512
    seconds: 0.01
    meta: {absent: [.env]}
    files:
      - path: environment/backend/.env
        target: backend/.env
        size: 512
        sha256: 9b1c…
        mode: "0600"
        uid: 1000
        gid: 1000
        owner: sparklio
        group: sparklio
        selinux: null
        symlink: null
        acl: ""
id:
  description: Id of the restore point.
  type: str
  returned: with O(restore_point), outside of check mode
path:
  description: Its directory.
  type: str
  returned: with O(restore_point), outside of check mode
"""

import os
import shutil
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _config,
    _manifest,
    config_files,
    restore_points,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError, State


def release(root: str) -> dict[str, Any]:
    """What is checked out, as a manifest names it."""
    repo = Repository(root)
    commit = repo.line("rev-parse", "--verify", "HEAD^{commit}")
    return {"commit": commit, "tag": repo.tag(commit), "branch": repo.branch()}


def keep(root: str, files: list[str], options: dict[str, Any], now: float) -> dict[str, Any]:
    """Make a restore point of the environment files alone."""
    started = time.monotonic()
    runs = release(root)
    point_id, partial = restore_points.begin(options["backups"], options["kind"], now)
    try:
        found = config_files.snapshot(root, files, os.path.join(partial, config_files.ARTIFACT))
        artifact = {**found, "seconds": round(time.monotonic() - started, 3)}
        manifest = {
            "version": _manifest.VERSION,
            "id": point_id,
            "kind": options["kind"],
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "made_by": options["made_by"],
            "message": options["reason"],
            "host": socket.gethostname(),
            "release": runs,
            "artifacts": [artifact],
            "skipped": [],
            "verified": None,
        }
        path = restore_points.finish(partial, manifest)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # Without the artifact: nobody needs the hashes there, and a short secret in a known file can be guessed from one.
    return {"id": point_id, "path": path}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "default": [".env", "backend/.env", "frontend/.env.local"]},
            "dest": {"type": "path"},
            "restore_point": {
                "type": "dict",
                "options": {
                    "backups": {"type": "path", "required": True},
                    "kind": {"type": "str", "choices": list(_manifest.KINDS), "default": "manual"},
                    "made_by": {"type": "str", "default": "unknown"},
                    "reason": {"type": "str", "default": ""},
                    "run": {
                        "type": "dict",
                        "options": {
                            "state_dir": {"type": "path", "required": True},
                            "run_id": {"type": "str", "required": True},
                            "record": {"type": "dict", "required": True},
                        },
                    },
                },
            },
        },
        mutually_exclusive=[("dest", "restore_point")],
        required_one_of=[("dest", "restore_point")],
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    for target in params["files"]:
        problem = _config.target_problem(target, params["files"])
        if problem:
            module.fail_json(msg=f"The environment files can't be kept: {problem}. Mend rollback_environment_files.")
    try:
        if module.check_mode:
            for target in params["files"]:
                config_files.look(params["root"], target)
            module.exit_json(changed=True)
        if params["dest"]:
            artifact = config_files.snapshot(params["root"], params["files"], params["dest"])
            artifact["seconds"] = round(time.monotonic() - started, 3)
            result = {"artifact": artifact}
        else:
            result = keep(params["root"], params["files"], params["restore_point"], time.time())
            run = params["restore_point"]["run"]
            if run:
                record = {**run["record"], "restore_point": result["id"]}
                State(run["state_dir"]).append(run["run_id"], "run", **record)
    except (config_files.ConfigError, GitError, RunError, OSError) as exc:
        module.fail_json(msg=f"The environment files can't be kept: {exc}. Mend that and run it again.")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
