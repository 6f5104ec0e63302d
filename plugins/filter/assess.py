# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin filters over the pure functions that assess a system."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _assess


class FilterModule:
    def filters(self):
        return {
            "assess": _assess.assess,
            "assess_hosts": _assess.overall,
            "unassessed": _assess.unassessed,
        }
