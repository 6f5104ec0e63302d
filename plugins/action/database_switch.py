# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name in the background and shows what it is at, as pg_backup does."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.action import pg_backup


class ActionModule(pg_backup.ActionModule):
    module = "sparklio.rollback.database_switch"
    place = "schema_file"
    what = "switch / 전환"
    undone = "What became of the database is in the journal; next: ansible-playbook -i INVENTORY playbooks/resume.yml"
