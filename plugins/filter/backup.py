# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin filters over the pure functions that sum up backups."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.sparklio.rollback.plugins.module_utils import _backup


def backup_outcome(facts):
    try:
        return _backup.outcome(facts)
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(f"sparklio.rollback.backup_outcome lacks a fact: {exc}") from exc


class FilterModule:
    def filters(self):
        return {"backup_outcome": backup_outcome, "restore_point_table": _backup.table}
