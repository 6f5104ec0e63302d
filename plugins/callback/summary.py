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
  - Where these hold C(exit_code), as those of an assessment do, the process ends with it in place of Ansible's own
    code. Callbacks that are enabled after this one then miss the end of the playbook, so name it last.
requirements:
  - Enabled by C(callbacks_enabled = sparklio.rollback.summary) in the configuration; the checkout's
    C(ansible.cfg) does so.
author:
  - Sparklio infrastructure team (@sparklio)
"""

import atexit
import os

from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader
from ansible_collections.sparklio.rollback.plugins.module_utils import _summary

_WELL = (
    *("rolled_back", "unchanged", "planned", "approved", "resumed", "undone", "purged", "restored", "backed_up"),
    *("healthy", "good"),
)
_COLORS = dict.fromkeys(_WELL, C.COLOR_OK)

#: An assessment that lost its host has no statistics, and yet a code of its own.
_UNASSESSED = 14


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sparklio.rollback.summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.lost = None
        self.assesses = False
        #: The run that holds the lock of each host.
        self.runs = {}

    def v2_playbook_on_start(self, playbook):
        # Here once: each task is a process of its own, which would load all filters of the collection anew.
        filter_loader.get("sparklio.rollback.summary_lines")
        self.assesses = os.path.basename(playbook._file_name or "") == "assess.yml"
        # Ctrl-C ends Ansible without any statistics.
        atexit.register(self.interrupted)

    def v2_runner_on_ok(self, result):
        if result._task.action == "sparklio.rollback.run_lock" and not result._result.get("skipped"):
            # Whoever takes the lock is told of earlier runs.
            taken = result._result.get("run_id") if "history" in result._result else None
            host = result._host.get_name()
            self.runs.pop(host, None)
            if taken:
                self.runs[host] = taken

    def interrupted(self):
        if self.runs and not context.CLIARGS.get("check"):
            self.show(_summary.interrupted(self.runs), C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result):
        if self.lost is None:
            self.lost = (result._host.get_name(), str(result._result.get("msg", "no answer")))

    def v2_playbook_on_stats(self, stats):
        self.runs = {}
        outcome = stats.custom.get("_run", {}).get("sparklio_rollback") or {}
        told = outcome.get("outcome") or outcome.get("recommendation")
        code = outcome.get("exit_code")
        if told:
            self.show(_summary.lines(outcome), _COLORS.get(told, C.COLOR_ERROR))
        elif self.lost:
            self.show(_summary.unreachable(*self.lost), C.COLOR_UNREACHABLE)
            code = _UNASSESSED if self.assesses else None
        if code:
            # The way that Ansible itself ends: what is to be cleaned up is cleaned up.
            raise SystemExit(int(code))

    def show(self, lines, color):
        asked = [item for item in context.CLIARGS.get("inventory") or [] if item not in C.DEFAULT_HOST_LIST]
        typed = (context.CLIARGS.get("args") or [""])[0]
        self._display.display(lines[0], color=color)
        for line in lines[1:]:
            self._display.display(f"  {_summary.pasteable(line, asked, typed, os.getcwd())}")
        self._display.display("")
