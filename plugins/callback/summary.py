# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
type: aggregate
short_description: Ends the output of a rollback with what happened, what serves now and what to do next
version_added: "0.1.0"
description:
  - Prints the outcome of a level after the recap, in whole lines, so that it is the last thing on the screen.
  - It reads the statistics that the levels set under C(sparklio_rollback), as other tooling does.
requirements:
  - Enabled by C(callbacks_enabled = sparklio.rollback.summary) in the configuration; the checkout's
    C(ansible.cfg) does so.
author:
  - Sparklio infrastructure team (@sparklio)
"""

from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible_collections.sparklio.rollback.plugins.module_utils import _summary

_COLORS = {"rolled_back": C.COLOR_OK, "unchanged": C.COLOR_OK, "planned": C.COLOR_OK, "resumed": C.COLOR_OK}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sparklio.rollback.summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.lost = None

    def v2_runner_on_unreachable(self, result):
        if self.lost is None:
            self.lost = (result._host.get_name(), str(result._result.get("msg", "no answer")))

    def v2_playbook_on_stats(self, stats):
        outcome = stats.custom.get("_run", {}).get("sparklio_rollback")
        if outcome and "outcome" in outcome:
            self.show(_summary.lines(outcome), _COLORS.get(outcome["outcome"], C.COLOR_ERROR))
        elif self.lost:
            self.show(_summary.unreachable(*self.lost), C.COLOR_UNREACHABLE)

    def show(self, lines, color):
        self._display.display(lines[0], color=color)
        for line in lines[1:]:
            self._display.display(f"  {line}")
        self._display.display("")
