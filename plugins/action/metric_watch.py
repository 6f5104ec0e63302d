# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls the module of the same name once a window and shows a line for each: modules themselves can't show progress."""

from __future__ import annotations

import os
import time

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.sparklio.rollback.plugins.module_utils import _progress

MODULE = "sparklio.rollback.metric_watch"

#: After so many lines the headings are repeated.
PAGE = 20

COLORS = {"bad": C.COLOR_ERROR, "error": C.COLOR_WARN, "inconclusive": C.COLOR_SKIP}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        hosts = task_vars.get("ansible_play_hosts_all") or []
        self.prefix = f"{task_vars['inventory_hostname']}: " if len(hosts) > 1 else ""
        self.lines = 0
        self.lost = 0
        result = self.read(task_vars, {})
        if result.get("failed") or result.get("unreachable"):
            return self.answer(result, [])
        windows = result["windows"]
        rules = {name: self.number(name, default) for name, default in (("window", 30), ("duration", 1800))}
        for text in _progress.opening(result, rules["duration"], rules["window"], self._task.check_mode):
            self.show(text)
        if self._task.check_mode:
            return self.answer(result, windows)
        if windows and result["window"]:
            self.show_window(result, windows)
        due = time.monotonic() + result["due_in"]
        parent = os.getppid()
        while not result["over"]:
            time.sleep(max(0.0, due - time.monotonic()))
            if os.getppid() != parent:
                # A worker outlives an ansible-playbook that was killed, and would go on with nobody to see it.
                raise AnsibleError("ansible-playbook is gone: the watch stops here; start it again, and it goes on")
            due = max(due + rules["window"], time.monotonic())
            following = self.next(task_vars, result)
            if following is None:
                continue
            if following.get("failed") or following.get("unreachable"):
                return self.answer(following, windows)
            result = {**following, "continued": result["continued"]}
            if result["window"]:
                windows.append(result["window"])
                self.show_window(result, windows)
        return self.answer(result, windows)

    def number(self, name, default):
        value = self._task.args.get(name)
        return default if value is None else float(value)

    def read(self, task_vars, more):
        return self._execute_module(MODULE, {**self._task.args, **more}, task_vars=task_vars)

    def next(self, task_vars, result):
        """Take the next reading. A host that can't be reached is tried again later: the series is there."""
        try:
            following = self.read(task_vars, {"watch": result["watch"]})
            self.lost = 0
            return following
        except AnsibleConnectionFailure as exc:
            self.lost += 1
            if self.lost >= self.number("errors_in_row", 4):
                raise
            why = " ".join(str(exc).split())
            self.show(f"the host can't be reached, trying again at the next window: {why}", C.COLOR_WARN)
            return None

    def show_window(self, result, windows):
        if self.lines % PAGE == 0:
            self.show(_progress.headings())
        self.lines += 1
        window = windows[-1]
        self.show(_progress.line(windows, result["left"], result["limits"]), COLORS.get(window["state"]))
        for text in _progress.remarks(windows, result["tally"], self.counted()):
            self.show(text, COLORS.get(window["state"], C.COLOR_OK))

    def counted(self):
        defaults = {"bad_in_row": 3, "bad_total": 6, "errors_in_row": 4, "errors_total": 10, "recovered_after": 5}
        return {name: int(self.number(name, default)) for name, default in defaults.items()}

    def show(self, text, color=None):
        self._display.display(self.prefix + text, color=color)

    def answer(self, result, windows):
        # All windows are in the result: with -v they would be printed once more.
        return {**result, "windows": windows, "_ansible_verbose_override": True}
