# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name in the background and shows how far its restore is, as pg_backup does."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.action import pg_backup


class ActionModule(pg_backup.ActionModule):
    module = "sparklio.rollback.pg_verify"
    place = "path"
    what = "restore / 복원"
    undone = "The backup was not verified"
