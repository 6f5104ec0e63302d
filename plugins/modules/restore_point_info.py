#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_info
short_description: List the restore points of a host
version_added: "0.1.0"
description:
  - Lists them with age, size, release, whether they were verified, and whether they are whole. One that is damaged is
    listed with the name of the file at fault.
  - What was begun and not finished is listed apart, and so are the files that people made by hand, as the runbook says.
  - Says too which ones retention would remove.
options:
  backups:
    description: Directory of the restore points. Where it is missing there are none.
    type: path
    required: true
  id:
    description: Look at this one only.
    type: str
  verify:
    description: >-
      Compare the files with the manifest by V(size), or by V(checksum), which reads all of them. With V(none) only the
      manifests are read.
    type: str
    choices: [none, size, checksum]
    default: size
  app_root:
    description: The application's clone, to look for files made by hand.
    type: path
  state_dir:
    description: State directory of the runs. A restore point that the journal of one names is never RV(expired).
    type: path
  keep:
    description: How many whole restore points of each artifact are kept, whatever their age.
    type: int
    default: 10
  days:
    description: How many days each is kept.
    type: float
    default: 30
  out_of_reach:
    description: >-
      What the caller can't remove elsewhere, V(objects), V(ollama) or V(tag). One that has some of it is RV(held) in
      place of RV(expired) or RV(stale).
    type: list
    elements: str
    default: []
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
- name: List the restore points
  sparklio.rollback.restore_point_info:
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    app_root: ~/sparklio_ai_marketing_studio
  register: found

- name: Show the whole ones
  ansible.builtin.debug:
    msg: "{{ found.restore_points | selectattr('whole') | map(attribute='id') }}"
"""

RETURN = r"""
restore_points:
  description: All of them, newest first.
  type: list
  elements: dict
  returned: success
  contains:
    id:
      description: The restore point; begins with its time in UTC and ends with its kind.
      type: str
      sample: 20250115T070000Z-deploy
    path:
      description: Where it lies.
      type: str
    kind:
      description: What it was made for.
      type: str
      sample: deploy
    made_at:
      description: When it was begun.
      type: str
      sample: '2025-01-15T07:00:00Z'
    age_seconds:
      description: How long ago that was.
      type: int
    size:
      description: Bytes of its files.
      type: int
    release:
      description: What was checked out, with C(commit), C(tag) and C(branch).
      type: dict
    message:
      description: What it was made for, in words.
      type: str
    artifacts:
      description: What it holds.
      type: list
      elements: str
      sample: [database, environment, redis]
    skipped:
      description: What it does not hold, each with C(name) and C(reason).
      type: list
      elements: dict
    verified:
      description: When (C(at)), C(how), with which C(result) and in how many C(seconds) it was verified, or none.
      type: dict
    whole:
      description: Whether the manifest can be read and every file is as it says, as far as O(verify) looks.
      type: bool
    problem:
      description: What is wrong with it, or none.
      type: str
    unread:
      description: >-
        Why nothing is known of it, which is no damage, or none; V(newer) where a newer version of this collection wrote
        its manifest, V(unreadable) where this user may not read it, or the disk can't.
      type: str
newest:
  description: Id of the newest whole one, or none.
  type: str
  returned: success
unfinished:
  description: What was begun and not finished, with C(id), C(path), C(size) and C(idle_seconds).
  type: list
  elements: dict
  returned: success
hand_made:
  description: >-
    Files made by hand, newest first, with C(path), C(what) (environment, database or redis), C(timestamp), C(size) and,
    for environment files, C(target), the file that it is a copy of, relative to O(app_root).
  type: list
  elements: dict
  returned: success
expired:
  description: Ids that retention would remove, oldest first.
  type: list
  elements: str
  returned: success
stale:
  description: Ids of unfinished ones in which nothing has changed for a day.
  type: list
  elements: str
  returned: success
held:
  description:
    - Ids of those that would be RV(expired) or RV(stale), and have something that is O(out_of_reach), or of which it
      can't be read what they have elsewhere.
    - Besides those older than O(days) that are C(unread), whatever they hold.
  type: list
  elements: str
  returned: success
elsewhere:
  description:
    - What those that are RV(expired) or RV(stale) have elsewhere, and, with O(id), that one where it is unfinished.
    - C(objects) holds the names of snapshot buckets, C(ollama) what the tags of models bear, C(tags) the tags that were
      put on a commit for a restore point that was never finished, and that no other one names.
  type: dict
  returned: success
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _retention, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import RunError


def read(params: dict[str, Any], now: float) -> dict[str, Any]:
    backups, only = params["backups"], params["id"]
    names = restore_points.ids(backups)
    if only is not None:
        restore_points.folder(backups, only)
        names = [name for name in names if name == only]
    points = [restore_points.describe(backups, name, now, params["verify"]) for name in names]
    unfinished = restore_points.unfinished(backups, now)
    stale = _retention.stale(unfinished)
    referred = restore_points.referred(params["state_dir"]) if params["state_dir"] else set()
    # With one of them alone nothing is known of the others.
    expired = [] if only else _retention.expired(points, params["keep"], params["days"], referred)
    places = {name: restore_points.folder(backups, name) for name in expired}
    places.update({item["id"]: item["path"] for item in unfinished if item["id"] in ([only] if only else stale)})
    found = {name: restore_points.elsewhere(place) for name, place in places.items()}
    held = [name for name, has in found.items() if set(has) & set(params["out_of_reach"]) or "" in has.values()]
    held += [] if only else _retention.unread(points, params["days"], referred)
    return {
        "restore_points": points,
        "newest": next((item["id"] for item in points if item["whole"]), None),
        "unfinished": unfinished,
        "hand_made": restore_points.hand_made(params["app_root"]) if params["app_root"] else [],
        "expired": [name for name in expired if name not in held],
        "stale": [name for name in stale if name not in held],
        "held": held,
        "elsewhere": elsewhere(backups, {name: has for name, has in found.items() if name not in held}),
    }


def elsewhere(backups: str, found: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """What lies elsewhere of each restore point, as those want it that remove it."""
    tags = sorted({has["tag"] for has in found.values() if "tag" in has})
    used = restore_points.tags_in_use(backups) if tags else set()
    return {
        **{what: [has[what] for has in found.values() if what in has] for what in ("objects", "ollama")},
        "tags": [tag for tag in tags if tag not in used],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "backups": {"type": "path", "required": True},
            "id": {"type": "str"},
            "verify": {"type": "str", "choices": ["none", "size", "checksum"], "default": "size"},
            "app_root": {"type": "path"},
            "state_dir": {"type": "path"},
            "keep": {"type": "int", "default": 10},
            "days": {"type": "float", "default": 30},
            "out_of_reach": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        found = read(module.params, time.time())
    except (restore_points.RestorePointError, RunError) as exc:
        module.fail_json(msg=f"{exc}.")
    except OSError as exc:
        module.fail_json(
            msg=f"{module.params['backups']} can't be read: {exc.strerror}. Run it as the application's owner."
        )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
