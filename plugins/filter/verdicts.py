# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _rows, _verdict


class FilterModule:
    """Filters over verdicts; each is documented in a YAML file beside this one."""

    def filters(self):
        return {
            "verdicts": _verdict.from_results,
            "overall_verdict": _verdict.overall,
            "verdict_table": _verdict.table,
            "verdict_failure": _verdict.failure,
            "row_verdicts": _rows.verdicts,
        }
