# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name in the background and shows how far it is: modules themselves can't."""

from __future__ import annotations

import json
import shlex
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.sparklio.rollback.plugins.module_utils import _transfer

#: Seconds between two looks, and between two lines.
LOOK = 1.0
SHOW = 2.0
#: A job that nobody has looked at for so long stops by itself; so long, then, the host may be out of reach.
PATIENCE = 60.0
GONE = "sparklio-gone"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_async = True

    module = "sparklio.rollback.pg_backup"
    #: Option with the directory beside which the progress is told.
    place = "dest"
    what = "database"
    undone = "The database was not backed up"
    #: Seconds that it may take, where the module has no option deadline.
    deadline = 7200

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        shown = str(self._task.args.get("show_progress", True)).lower() not in ("false", "no", "0", "off")
        dest = self._task.args.get(self.place)
        if self._task.async_val or self._task.check_mode or not shown or not dest:
            return self._execute_module(self.module, task_vars=task_vars, wrap_async=bool(self._task.async_val))
        hosts = task_vars.get("ansible_play_hosts_all") or []
        self.prefix = f"{task_vars['inventory_hostname']}: " if len(hosts) > 1 else ""
        return self.follow(task_vars, str(dest).rstrip("/"))

    def follow(self, task_vars, dest):
        """Start the module, look after it, and hand out what it came to."""
        limit = self._task.async_val = int(float(self._task.args.get("deadline") or self.deadline)) + 300
        try:
            progress = self._remote_expand_user(f"{dest}.progress")
            args = {**self._task.args, "progress": progress}
            started = self._execute_module(self.module, args, task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0
        job = started.get("ansible_job_id")
        if not job:
            return started
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        try:
            result = self.wait(f"{folder}/{job}", progress, limit)
        finally:
            left = " ".join(map(shlex.quote, (f"{folder}/{job}", progress, f"{progress}.seen")))
            self._low_level_execute_command(f"rm -f {left}", sudoable=True)
        for name in ("ansible_job_id", "results_file", "started", "finished"):
            result.pop(name, None)
        return result

    def wait(self, answer, progress, limit):
        """Look at the job until it is over, show a line now and then, and return its result."""
        # The answer is there when the module is over, however it ended; a look is the sign that somebody waits.
        place = shlex.quote(progress)
        look = f"cat {shlex.quote(answer)}; echo; cat {place} 2>/dev/null; touch {place}.seen"
        began = shown = time.monotonic()
        deadline = began + limit
        lost, pause, alive, gone = None, 0.2, "", 0
        while True:
            time.sleep(pause)
            pause = min(LOOK, pause * 1.5)
            try:
                seen = self._low_level_execute_command(look + alive, sudoable=True).get("stdout", "")
                lost = None
            except AnsibleConnectionFailure as exc:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > PATIENCE:
                    raise
                self._display.vv(f"{self.prefix}the host can't be reached, trying again: {exc}")
                continue
            first, _newline, rest = seen.strip().partition("\n")
            result = self.parsed(first)
            if result is None:
                return {"failed": True, "msg": f"What became of it can't be read: {answer} holds no answer."}
            if "cmd" in result:
                # What the wrapper says of a module that ended without an answer.
                return {"failed": True, "msg": f"{self.undone}: it was killed on the host. Run it again."}
            if not result.get("started") or result.get("finished"):
                return result
            if time.monotonic() > deadline:
                return {"failed": True, "msg": f"{self.undone}: no answer came in time. Run it again."}
            rest, dead, _more = rest.partition(GONE)
            # Twice, since the answer is written a moment after the module has ended.
            gone = gone + 1 if dead else 0
            if gone > 1:
                return {"failed": True, "msg": f"{self.undone}: it was killed on the host. Run it again."}
            state = self.parsed(rest)
            if state and state.get("pid"):
                alive = f"; kill -0 {int(state['pid'])} 2>/dev/null || echo {GONE}"
            if state and len(state) > 1 and time.monotonic() - shown >= SHOW:
                shown = time.monotonic()
                self._display.display(self.prefix + _transfer.shown(self.what, state, shown - began))

    @staticmethod
    def parsed(text):
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None
