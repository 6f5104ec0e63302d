# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin filters over how a watch is shown."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _chart, _progress


class FilterModule:
    def filters(self):
        return {
            "monitor_svg": _chart.svg,
            "monitor_conclusion": _progress.conclusion,
            "monitor_overall": _progress.overall,
        }
