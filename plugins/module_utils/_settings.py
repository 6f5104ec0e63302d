# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the options that a run was given: told at once, before any host is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_CHOICES = {
    "rollback_on_failure": ("revert", "hold"),
    "rollback_database_mode": ("copy", "in_place"),
    "backup_verify": ("restore", "checksum", "none"),
}
_FILLED = ("undo", "purge", "steps", "target_revision", "approve_as")
#: Each is a run of its own, of whatever level the run is that it names.
_RUNS = ("undo", "purge")
_TARGETS = ("target_tag", "target_revision", "steps")
#: Where a run or a configuration is named.
_NAMED = (*_RUNS, *_TARGETS, "restore_point", "config_timestamp")


def problems(given: Mapping[str, Any], takes_back: bool) -> list[str]:
    """Return what is wrong, in sentences, each with its cure.

    Args:
        given: name of an option to its value, None where it was left out. ``leftover`` is what Ansible made of words
            behind ``-e`` that belong to no option. ``app_root`` is ``rollback_app_root``.
        takes_back: whether this playbook takes runs back.
    """
    found = []
    if not isinstance(given.get("app_root"), str) or not given["app_root"]:
        found.append(
            "rollback_app_root is not set. It is the directory of the application's clone; set it in the inventory's "
            "group_vars, such as rollback_app_root: ~/sparklio_ai_marketing_studio"
        )
    if given.get("leftover"):
        found.append(
            f"-e takes name=value, and this is left over: {given['leftover']}. A value with blanks wants quotes inside "
            "of quotes, such as -e 'backup_message=\"the new editor\"'; around the = there are none."
        )
    for name, choices in _CHOICES.items():
        if given.get(name) is not None and given[name] not in choices:
            found.append(f"{name} is {given[name]!r}. Give {' or '.join(choices)}.")
    empty = [name for name in _FILLED if given.get(name) is not None and not str(given[name]).strip()]
    found += [f"{name} is empty. Give a value, or leave it out." for name in empty]
    steps = given.get("steps")
    if steps is not None and "steps" not in empty and not re.fullmatch(r"-[1-9][0-9]{0,5}", str(steps)):
        found.append(f"steps is {steps!r}. Give how many revisions to take back, below zero: -e steps=-1")
    named = [name for name in _NAMED if given.get(name) not in (None, "")]
    runs = [name for name in named if name in _RUNS]
    targets = [name for name in named if name in _TARGETS]
    if runs and len(named) > 1:
        found.append(f"Given are {' and '.join(named)}, and each is a run of its own. Leave out all but one.")
    elif runs and not takes_back:
        found.append(
            f"{runs[0]} is for the playbook of Level 3, whatever the level of that run was: ansible-playbook -i "
            f"INVENTORY playbooks/level3.yml -e {runs[0]}={given[runs[0]]}"
        )
    if len(targets) > 1:
        found.append(
            "Name one target: target_tag for the schema and the code, or target_revision or steps for the schema "
            f"alone. Given are {' and '.join(targets)}."
        )
    return found
