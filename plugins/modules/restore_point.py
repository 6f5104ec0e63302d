#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point
short_description: Begin, finish, verify or remove a restore point
version_added: "0.1.0"
description:
  - A restore point is a directory with a manifest and the artifacts that other modules put there. It is made under a
    name that is never listed, synced, given its manifest, and renamed last. So it is whole or it is none.
  - The manifest is documented in C(docs/restore-points.md) of the collection.
options:
  backups:
    description: Directory of the restore points. Made with mode 0700 when it is missing.
    type: path
    required: true
  state:
    description:
      - V(begin) makes the directory for a new one.
      - V(finish) writes the manifest and gives it its name. Its files must have the sizes that O(artifacts) names, and
        with O(how) the contents too, which the manifest then notes. There must be no other files.
      - V(without) removes what O(part) has left in one that is being made, which then goes on without that part.
      - V(abandon) removes what was begun and not finished. Nothing else is touched. The note of what lies elsewhere
        stays where O(left) names some of it.
      - V(verified) notes in the manifest that it was verified, after it compared the checksum of every file; with
        O(how=restore), of all but the database's, which were compared when that was restored.
      - V(retired) takes finished ones off the list, to be removed by V(abandon) afterwards.
    type: str
    choices: [begin, finish, without, abandon, verified, retired]
    required: true
  kind:
    description: With O(state=begin), what it is made for. The last part of its id.
    type: str
    choices: [deploy, level1, level2, level3, level4, manual]
    default: manual
  number:
    description:
      - With O(state=begin), the number that its id gets where it is not 1, or the next one that is free.
      - Hosts that begin in the same second and share an object store each need one of their own.
    type: int
    default: 1
  id:
    description: Which one. Required but with O(state=begin) and O(state=retired).
    type: str
  ids:
    description: With O(state=retired), which ones.
    type: list
    elements: str
    default: []
  part:
    description: With O(state=without), the part that could not be kept.
    type: str
  left:
    description:
      - With O(state=abandon), what could not be removed elsewhere, V(objects), V(ollama) or V(tag).
    type: list
    elements: str
    default: []
  root:
    description:
      - The application's clone. O(state=begin) returns what is checked out there as RV(release).
      - With O(state=finish), the same commit must still be checked out.
    type: path
  backup_tag:
    description: With O(state=finish), the tag that was put on the commit for this restore point.
    type: str
  artifacts:
    description: With O(state=finish), what the modules that made the artifacts returned as C(artifact).
    type: list
    elements: dict
    default: []
  skipped:
    description: With O(state=finish), what is not in it, each with C(name) and C(reason).
    type: list
    elements: dict
    default: []
  release:
    description: With O(state=finish), what was checked out.
    type: dict
    default: {}
    suboptions:
      commit:
        description: Full id of the commit.
        type: str
      tag:
        description: Its own tag, which is the first one on that commit.
        type: str
      branch:
        description: The branch, none where a tag or a commit is checked out.
        type: str
  made_by:
    description: With O(state=finish), who made it.
    type: str
    default: unknown
  purpose:
    description: With O(state=finish), what for, such as the message of a deploy.
    type: str
    default: ""
  how:
    description:
      - Whether the database was restored, or its files are to be compared with the manifest like all others.
      - With O(state=verified), V(checksum) by default. With O(state=finish) nothing is compared without it.
    type: str
    choices: [restore, checksum]
  seconds:
    description: With O(how=restore), how long that took, in seconds.
    type: float
    default: 0
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says what it would do, and writes nothing. O(state=begin) then returns an id and no directory.
  diff_mode:
    support: none
    description: Contents of restore points are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Begin a restore point
  sparklio.rollback.restore_point:
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    state: begin
    kind: deploy
  register: point

- name: Keep the environment files in it
  sparklio.rollback.config_snapshot:
    root: ~/sparklio_ai_marketing_studio
    dest: "{{ point.partial }}/environment"
  register: environment_files

- name: Finish it
  sparklio.rollback.restore_point:
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    state: finish
    id: "{{ point.id }}"
    artifacts: ["{{ environment_files.artifact }}"]
    release: {commit: 3f2a9c5e41b07d68a1c2f4e5d6b7a8c9d0e1f203, tag: v4.0.20250115-1600, branch: main}
    purpose: Before the release of the new editor
"""

RETURN = r"""
id:
  description: The restore point.
  type: str
  returned: state is not retired
  sample: 20250115T070000Z-deploy
partial:
  description: Directory for the artifacts until it is finished.
  type: str
  returned: state is begin
path:
  description: Where it lies.
  type: str
  returned: state is finish or verified
bytes:
  description: Size of its files.
  type: int
  returned: state is finish
kept:
  description: Whether the note of what lies elsewhere stays, so that a later backup tries again to remove that.
  type: bool
  returned: state is abandon
verified:
  description: When (C(at)), C(how), with which C(result) and in how many C(seconds) it was verified.
  type: dict
  returned: state is verified or finish; then none without O(how)
release:
  description: What is checked out, with C(commit), C(tag) and C(branch).
  type: dict
  returned: O(root) is given
free:
  description: Free bytes on the file system of the restore points.
  type: int
  returned: state is begin
"""

import errno
import os
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder

RestorePointError = restore_points.RestorePointError


def stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def begin(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    runs = {"release": restore_points.release(params["root"])} if params["root"] else {}
    if check:
        point_id = restore_points.new_id(params["kind"], now, params["number"])
        partial = os.path.join(params["backups"], restore_points.PARTIAL + point_id)
        return {"changed": True, "id": point_id, "partial": partial, **runs}
    point_id, partial = restore_points.begin(params["backups"], params["kind"], now, params["number"])
    room = os.statvfs(partial)
    return {"changed": True, "id": point_id, "partial": partial, "free": room.f_bavail * room.f_frsize, **runs}


def proof(params: dict[str, Any], place: str, manifest: dict[str, Any], now: float) -> dict[str, Any]:
    """Compare files with the manifest. Returns what that notes of it, or raises RestorePointError."""
    how, started = params["how"] or "checksum", time.monotonic()
    names = [item["name"] for item in manifest["artifacts"] if how == "checksum" or item["name"] != "database"]
    found = restore_points.problem(place, manifest, names)
    if found:
        raise RestorePointError(found)
    seconds = round(params["seconds"] + time.monotonic() - started, 1)
    return {"at": stamp(now), "how": how, "result": "pass", "seconds": seconds}


def finish(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    point_id = params["id"]
    place = restore_points.folder(params["backups"], point_id)
    partial = os.path.join(params["backups"], restore_points.PARTIAL + point_id)
    runs = params["release"]
    if params["root"]:
        current = restore_points.release(params["root"])
        if runs.get("commit") not in (None, current["commit"]):
            raise RestorePointError(
                f"Restore point {point_id} can't be finished: another commit was checked out meanwhile, "
                f"{current['commit'][:12]} in place of {runs['commit'][:12]}. Run it again"
            )
        runs = current
    manifest = {
        "version": _manifest.VERSION,
        "id": point_id,
        "kind": point_id.split("-")[1],
        "made_at": stamp(restore_points.epoch(point_id)),
        "made_by": params["made_by"],
        "message": params["purpose"],
        "host": socket.gethostname(),
        "release": runs,
        "backup_tag": params["backup_tag"],
        "artifacts": params["artifacts"],
        # A reason is what a module said, which need not be a text.
        "skipped": [{**item, "reason": str(item.get("reason"))} for item in params["skipped"]],
        "verified": None,
    }
    _manifest.validate(manifest, point_id)
    size = sum(item["size"] for artifact in params["artifacts"] for item in artifact["files"])
    if check:
        return {"changed": True, "id": point_id, "path": place, "bytes": size, "release": runs}
    if not os.path.isdir(partial):
        raise RestorePointError(f"Restore point {point_id} was not begun, or is finished already")
    found = restore_points.problem(partial, manifest)
    if found:
        raise RestorePointError(found)
    others = restore_points.unnamed(partial, manifest)
    if others:
        raise RestorePointError(
            f"Restore point {point_id} can't be finished: {len(others)} files in it belong to no artifact, such as "
            f"{others[0]}. Run it again"
        )
    # Before it has its name: one that is damaged is never listed.
    note = proof(params, partial, manifest, now) if params["how"] else None
    place = restore_points.finish(partial, {**manifest, "verified": note})
    return {"changed": True, "id": point_id, "path": place, "bytes": size, "release": runs, "verified": note}


def verified(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    backups, point_id = params["backups"], params["id"]
    place = restore_points.folder(backups, point_id)
    note = proof(params, place, restore_points.read(place), now)
    if not check:
        restore_points.mark_verified(backups, point_id, note)
    return {"changed": True, "id": point_id, "path": place, "verified": note}


def act(params: dict[str, Any], check: bool, now: float) -> dict[str, Any]:
    backups, state, point_id = params["backups"], params["state"], params["id"]
    if state == "begin":
        return begin(params, check, now)
    if state == "finish":
        return finish(params, check, now)
    if state == "verified":
        return verified(params, check, now)
    if state == "without":
        partial = os.path.join(
            backups, restore_points.PARTIAL + os.path.basename(restore_points.folder(backups, point_id))
        )
        left = os.path.lexists(os.path.join(partial, params["part"]))
        return {"changed": left if check else restore_points.without(backups, point_id, params["part"]), "id": point_id}
    if state == "abandon":
        partial = os.path.join(
            backups, restore_points.PARTIAL + os.path.basename(restore_points.folder(backups, point_id))
        )
        changed = os.path.isdir(partial) if check else restore_points.abandon(backups, point_id, params["left"])
        return {"changed": changed, "id": point_id, "kept": not check and os.path.isdir(partial)}
    gone = [name for name in params["ids"] if name in restore_points.ids(backups)]
    for name in [] if check else gone:
        restore_points.retire(backups, name)
    return {"changed": bool(gone)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "backups": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["begin", "finish", "without", "abandon", "verified", "retired"],
                "required": True,
            },
            "kind": {
                "type": "str",
                "choices": ["deploy", "level1", "level2", "level3", "level4", "manual"],
                "default": "manual",
            },
            "number": {"type": "int", "default": 1},
            "id": {"type": "str"},
            "ids": {"type": "list", "elements": "str", "default": []},
            "part": {"type": "str"},
            "left": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path"},
            "backup_tag": {"type": "str"},
            "artifacts": {"type": "list", "elements": "dict", "default": []},
            "skipped": {"type": "list", "elements": "dict", "default": []},
            "release": {
                "type": "dict",
                "default": {},
                "options": {"commit": {"type": "str"}, "tag": {"type": "str"}, "branch": {"type": "str"}},
            },
            "made_by": {"type": "str", "default": "unknown"},
            "purpose": {"type": "str", "default": ""},
            "how": {"type": "str", "choices": ["restore", "checksum"]},
            "seconds": {"type": "float", "default": 0},
            "journal": JOURNAL_SPEC,
        },
        required_if=[
            ("state", "finish", ["id"]),
            ("state", "without", ["id", "part"]),
            ("state", "abandon", ["id"]),
            ("state", "verified", ["id"]),
            ("state", "retired", ["ids"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    try:
        with Recorder(params["journal"], module.check_mode, "restore_point").heartbeat():
            result = act(params, module.check_mode, time.time())
    except RestorePointError as exc:
        module.fail_json(msg=f"{exc}.")
    except _manifest.ManifestError as exc:
        module.fail_json(msg=f"Restore point {params['id']} can't be finished: {exc}.")
    except OSError as exc:
        cure = {
            errno.ENOSPC: "Free some space there, or name another place: -e rollback_backup_dir=…",
            errno.EDQUOT: "Free some space there, or name another place: -e rollback_backup_dir=…",
            errno.EACCES: "Make it writable for this user, or name another place: -e rollback_backup_dir=…",
            errno.EROFS: "Name a writable place: -e rollback_backup_dir=…",
        }.get(exc.errno or 0, "Look at that directory")
        module.fail_json(msg=f"The restore points in {params['backups']} can't be written: {exc.strerror}. {cure}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
