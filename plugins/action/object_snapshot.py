# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name in the background and shows how far its copying is, as pg_backup does."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.action import pg_backup


class ActionModule(pg_backup.ActionModule):
    module = "sparklio.rollback.object_snapshot"
    what = "objects / 오브젝트"
    undone = "The objects were not backed up"
    # A bucket has no usual size.
    deadline = 7 * 86400
