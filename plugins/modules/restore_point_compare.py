#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_compare
short_description: Tell what changed between two restore points
version_added: "0.1.0"
description:
  - Compares release, sizes, rows and contents of each table, keys of the environment files, number of keys in Redis,
    objects by their ETags, models and installed packages. What changed is named, and no value is shown.
options:
  backups:
    description: Directory of the restore points.
    type: path
    required: true
  since:
    description:
      - Id of the earlier one, or V(newest) for the newest whole one of O(kind) (but O(id)). Where there is no such one
        yet, nothing is compared, and RV(note) says so.
    type: str
    required: true
  kind:
    description:
      - With O(since=newest), what the earlier one was made for, since those of the levels hold less than a backup. By
        default that of O(id), else any.
    type: str
    choices: [deploy, level1, level2, level3, level4, manual]
  id:
    description: Id of the later one. Left out, only whether O(since) is there is found out.
    type: str
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: What changed is in the result.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Tell what changed since the last deploy
  sparklio.rollback.restore_point_compare:
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    since: 20250114T070000Z-deploy
    id: 20250115T070000Z-deploy
"""

RETURN = r"""
since:
  description: Id of the earlier one, empty where there is none.
  returned: success
  type: str
note:
  description: Why nothing is compared, else empty.
  returned: success
  type: str
  sample: "There is no earlier restore point of the kind deploy to compare with"
changes:
  description: What changed, each with C(what), the artifact or C(release), and C(change), in words.
  returned: success
  type: list
  elements: dict
  sample:
    - {what: database, change: users 120 -> 124 rows}
    - {what: environment, change: 'changed backend/.env: LOG_LEVEL'}
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _backup,
    _config,
    _content_manifest,
    _dotenv,
    _manifest,
    restore_points,
)


def keys(place: str, manifest: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The variables of the environment files, by file and name. The values are for comparing, never for showing.

    The lines of a key that nobody quoted pass for variables too: they share one name that may be shown.
    """
    found: dict[str, dict[str, str]] = {}
    for item in (_manifest.artifact(manifest, "environment") or {"files": []})["files"]:
        with open(os.path.join(place, item["path"]), encoding="utf-8-sig", errors="replace") as stream:
            variables = _dotenv.parse(stream.read())
        target = item.get("target") or item["path"]
        for name, value in variables.items():
            found.setdefault(f"{target}: {_config.shown(name)}", {})[name] = value
    return found


def packages(place: str, manifest: dict[str, Any]) -> dict[str, str]:
    """What is installed: Python packages by name, and versions of Python, Node.js and npm."""
    found = {}
    for item in (_manifest.artifact(manifest, "packages") or {"files": []})["files"]:
        with open(os.path.join(place, item["path"]), encoding="utf-8") as stream:
            data = json.load(stream)
        for line in data.pop("pip", None) or []:
            name, _sign, version = line.partition("==")
            found[name] = version
        found.update({name: str(version) for name, version in data.items()})
    return found


def listed(place: str, manifest: dict[str, Any], artifact: str, name: str) -> str | None:
    """The path of one file of an artifact, or None where the restore point has no such file."""
    files = (_manifest.artifact(manifest, artifact) or {"files": []})["files"]
    return next((os.path.join(place, item["path"]) for item in files if os.path.basename(item["path"]) == name), None)


def content(place: str, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """What the database's tables hold: the hash of each."""
    path = listed(place, manifest, "database", "content.json")
    if path is None:
        return None
    with open(path, encoding="utf-8") as stream:
        return _content_manifest.decode(stream.read())


def etags(place: str, manifest: dict[str, Any]) -> dict[str, str] | None:
    """The ETag of each object by its name."""
    path = listed(place, manifest, "objects", "objects.jsonl")
    if path is None:
        return None
    with open(path, encoding="utf-8") as stream:
        return {item["key"]: item["etag"] for item in map(json.loads, filter(str.strip, stream))}


def read(backups: str, point_id: str) -> tuple[str, dict[str, Any]]:
    place = restore_points.folder(backups, point_id)
    if not os.path.isdir(place):
        names = ", ".join(restore_points.ids(backups)[:5]) or "none"
        raise restore_points.RestorePointError(f"There is no restore point {point_id}. There are: {names}")
    manifest = restore_points.read(place)
    found = restore_points.problem(place, manifest)
    if found:
        raise restore_points.RestorePointError(found)
    return place, manifest


def newest(backups: str, kind: str | None, other: str | None) -> str | None:
    """The id of the newest whole restore point of that kind, or of any, but the other one."""
    for point_id in restore_points.ids(backups):
        if point_id == other or kind not in (None, point_id.split("-")[1]):
            continue
        if restore_points.describe(backups, point_id, 0)["whole"]:
            return point_id
    return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "backups": {"type": "path", "required": True},
            "since": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": list(_manifest.KINDS)},
            "id": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    changes: list[dict[str, str]] = []
    try:
        since = params["since"]
        if since == "newest":
            kind = params["kind"] or (params["id"].split("-")[1] if _manifest.is_id(params["id"] or "") else None)
            since = newest(params["backups"], kind, params["id"])
            if since is None:
                of_kind = f" of the kind {kind}" if kind else ""
                note = f"There is no earlier restore point{of_kind} to compare with"
                module.exit_json(changed=False, since="", note=note, changes=[])
        old = read(params["backups"], since)
        if params["id"]:
            new = read(params["backups"], params["id"])
            changes = _backup.changes(
                old[1],
                new[1],
                keys=(keys(*old), keys(*new)),
                packages=(packages(*old), packages(*new)),
                contents=(content(*old), content(*new)),
                etags=(etags(*old), etags(*new)),
            )
    except (restore_points.RestorePointError, _content_manifest.ContentError, OSError, ValueError, KeyError) as exc:
        module.fail_json(msg=f"Nothing can be compared with {params['since']}: {exc}.")
    module.exit_json(changed=False, since=since, note="", changes=changes)


if __name__ == "__main__":
    main()
