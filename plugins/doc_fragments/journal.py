# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  journal:
    description:
      - The run that this change belongs to. The module then writes its intent to the run's journal before
        it changes anything, and the outcome afterwards, each on disk before it goes on.
      - Without it nothing is journaled.
    type: dict
    suboptions:
      state_dir:
        description: State directory on the host; V(runs/<run_id>/journal.jsonl) lies below it.
        type: path
        required: true
      run_id:
        description: The run that holds the lock.
        type: str
        required: true
      act:
        description: Name of the act, such as V(switch).
        type: str
        required: true
      step:
        description: Name of the step; each module has a default.
        type: str
      undo:
        description: Whether this call takes the step of that name back.
        type: bool
        default: false
"""
