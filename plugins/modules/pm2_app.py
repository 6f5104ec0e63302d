#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pm2_app
short_description: An application under pm2
version_added: "0.1.0"
description:
  - Reads pm2's own list, and lets new code serve. In cluster mode the instances are replaced one by one and no
    connection is refused (C(pm2 reload)); in fork mode the application is restarted.
  - It is done when every instance is online with a new process and the address answers.
options:
  name:
    description: Name of the application in pm2.
    type: str
    required: true
  state:
    description: V(observed) looks, V(replaced) lets new code serve, V(stopped) stops all instances.
    type: str
    choices: [observed, replaced, stopped]
    default: observed
  executable:
    description: pm2's path. Over SSH the PATH is short, a pm2 of nvm needs its full path.
    type: str
    default: pm2
  chdir:
    description: Directory that the application must run in. Another one means that the name belongs to something
      else, which is left alone.
    type: path
    required: true
  url:
    description: Address that must answer with a status under 500.
    type: str
  variables:
    description:
      - Variables of environment files that are about to change. What pm2 was started with it gives on at each restart,
        and there they win over the files.
    type: dict
    default: {}
    suboptions:
      files:
        description: The environment files; the last one counts.
        type: list
        elements: path
        default: []
      keys:
        description: Names of the variables.
        type: list
        elements: str
        default: []
  since:
    description: Only replace an application of which an instance was started before this time, in seconds since the
      epoch.
    type: float
  timeout:
    description: Seconds until every instance must be online and answer.
    type: int
    default: 90
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says how it would be replaced.
  diff_mode:
    support: none
    description: A process has no text to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Let the new build serve
  sparklio.rollback.pm2_app:
    name: sparklio-frontend
    state: replaced
    chdir: /srv/app/frontend
    url: http://127.0.0.1:3000
"""

RETURN = r"""
installed:
  description: Whether pm2 answers at all.
  type: bool
  returned: success
found:
  description: Whether pm2 has an application of that name in that directory.
  type: bool
  returned: success
instances:
  description: The instances, each with C(pid), C(status), C(mode), C(started) (seconds since the epoch) and
    C(restarts).
  type: list
  elements: dict
  returned: success
inherited:
  description: Variables of O(variables) that an instance has in its own environment, with their value in the files.
  type: list
  elements: str
  returned: success
overridden:
  description: Variables of O(variables) that an instance has in its own environment, with another value.
  type: list
  elements: str
  returned: success
method:
  description: V(reload), V(restart), or V(none).
  type: str
  returned: success
conflict:
  description: What else has that name, or none.
  type: str
  returned: success
"""

import json
import os
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.sparklio.rollback.plugins.module_utils import _config, config_files, process
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, RunError

#: The least that a command of pm2 is given; its daemon starts with the first one.
COMMAND_SECONDS = 60


class Pm2Error(Exception):
    """pm2 said no."""


def parse_list(output: str, name: str) -> list[dict]:
    """Return the instances of one application from what ``pm2 jlist`` prints.

    pm2 may print notices around the list, some of which begin with ``[PM2]``.
    """
    everything, problem = None, "no list"
    for line in reversed(output.splitlines()):
        if line.startswith("["):
            try:
                everything = json.loads(line)
                break
            except ValueError as exc:
                problem = f"no valid JSON: {exc}"
    if everything is None:
        raise Pm2Error(f"pm2 jlist printed {problem}")
    return [
        {
            "pid": item.get("pid") or 0,
            "status": item["pm2_env"].get("status", "unknown"),
            "mode": "cluster" if item["pm2_env"].get("exec_mode") == "cluster_mode" else "fork",
            "started": (item["pm2_env"].get("pm_uptime") or 0) / 1000,
            "restarts": item["pm2_env"].get("restart_time", 0),
            "cwd": item["pm2_env"].get("pm_cwd", ""),
        }
        for item in everything
        if item.get("name") == name
    ]


class App:
    def __init__(self, module: AnsibleModule, recorder: Recorder) -> None:
        self.module = module
        self.params = module.params
        self.recorder = recorder

    def call(self, *arguments: str) -> tuple[int, str, str]:
        executable = self.module.get_bin_path(self.params["executable"])
        if executable is None:
            raise FileNotFoundError(self.params["executable"])
        seconds = max(COMMAND_SECONDS, self.params["timeout"])
        # Into files: the daemon that pm2 starts at its first use would hold pipes open for ever.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            try:
                done = subprocess.run(
                    [executable, *arguments],
                    env={**os.environ, "PM2_DISCRETE_MODE": "true"},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as exc:
                raise Pm2Error(
                    f"pm2 {' '.join(arguments)} did not end within {seconds} s; see on the host whether its daemon "
                    "answers: pm2 ping"
                ) from exc
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def instances(self) -> list[dict]:
        code, out, err = self.call("jlist")
        if code:
            raise Pm2Error(f"pm2 jlist exited with {code}: {mask(err.strip())[-200:]}")
        return parse_list(out, self.params["name"])

    def look(self) -> dict:
        try:
            found = self.instances()
        except FileNotFoundError:
            nothing: dict = {"instances": [], "inherited": [], "overridden": []}
            return {"installed": False, "found": False, "conflict": None, "method": "none", **nothing}
        chdir = os.path.realpath(self.params["chdir"])
        foreign = [item for item in found if os.path.realpath(item["cwd"]) != chdir]
        conflict = f"pm2's {self.params['name']} runs in {foreign[0]['cwd']}, not in {chdir}" if foreign else None
        return {
            "installed": True,
            "found": bool(found) and not foreign,
            "instances": found,
            "conflict": conflict,
            "method": "none",
            **self.environment(found),
        }

    def environment(self, instances: list[dict]) -> dict:
        """Which of the variables asked for the instances have by themselves."""
        asked = self.params["variables"]
        own: dict[str, str] = {}
        for item in instances if asked["keys"] else []:
            own.update(process.environment(item["pid"]) or {})
        inherited, overridden = _config.in_process(own, config_files.values(asked["files"]), asked["keys"])
        return {"inherited": inherited, "overridden": overridden}

    def answers(self) -> bool:
        if not self.params["url"]:
            return True
        try:
            open_url(self.params["url"], timeout=10, use_proxy=False)
            return True
        except Exception as exc:
            return 0 < getattr(exc, "code", 0) < 500

    def replaced(self) -> dict:
        before = self.look()
        if not before["found"]:
            raise Pm2Error(
                before["conflict"]
                or f"pm2 has no application {self.params['name']}. Start it once (pm2 start), or set "
                "rollback_frontend_service."
            )
        since = self.params["since"]
        if since is not None and all(
            item["started"] > since and item["status"] == "online" for item in before["instances"]
        ):
            self.recorder.unneeded()
            return {"changed": False, **before}
        cluster = all(item["mode"] == "cluster" and item["status"] == "online" for item in before["instances"])
        method = "reload" if cluster else "restart"
        if self.module.check_mode:
            return {"changed": True, **before, "method": method}
        former = {item["pid"] for item in before["instances"]}
        self.recorder.intent(detail={"method": method, "pids": sorted(former)})
        code, out, err = self.call(method, self.params["name"])
        if code:
            raise Pm2Error(
                f"pm2 {method} {self.params['name']} exited with {code}: {mask((err or out).strip())[-300:]}"
            )
        deadline = time.monotonic() + self.params["timeout"]
        while True:
            now = self.instances()
            fresh = [item for item in now if item["status"] == "online" and item["pid"] and item["pid"] not in former]
            if len(fresh) == len(before["instances"]) == len(now) and self.answers():
                break
            if any(item["status"] == "errored" for item in now) or time.monotonic() > deadline:
                states = ", ".join(f"{item['pid']} {item['status']}" for item in now)
                raise Pm2Error(
                    f"{self.params['name']} did not come up under pm2 ({states}). Look at: pm2 logs "
                    f"{self.params['name']} --lines 50 --nostream"
                )
            time.sleep(0.3)
        self.recorder.done(detail={"method": method, "pids": [item["pid"] for item in now]})
        return {**self.look(), "changed": True, "method": method}

    def stopped(self) -> dict:
        before = self.look()
        running = [item for item in before["instances"] if item["status"] not in ("stopped", "errored")]
        if before["conflict"]:
            raise Pm2Error(before["conflict"])
        if not before["installed"]:
            # Nobody can tell then that nothing runs.
            raise Pm2Error(
                f"There is no pm2 at {self.params['executable']}, so nothing was stopped. Name it: rollback_pm2."
            )
        if not running or self.module.check_mode:
            return {"changed": bool(running), **before, "method": "stop" if running else "none"}
        self.recorder.intent(detail={"method": "stop", "pids": [item["pid"] for item in running]})
        code, out, err = self.call("stop", self.params["name"])
        if code:
            raise Pm2Error(f"pm2 stop {self.params['name']} exited with {code}: {mask((err or out).strip())[-300:]}")
        self.recorder.done(detail={"method": "stop"})
        return {**self.look(), "changed": True, "method": "stop"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["observed", "replaced", "stopped"], "default": "observed"},
            "executable": {"type": "str", "default": "pm2"},
            "chdir": {"type": "path", "required": True},
            "url": {"type": "str"},
            "variables": config_files.VARIABLES_SPEC,
            "since": {"type": "float"},
            "timeout": {"type": "int", "default": 90},
            "journal": JOURNAL_SPEC,
        },
        supports_check_mode=True,
    )
    recorder = Recorder(module.params["journal"], module.check_mode, module.params["name"])
    app = App(module, recorder)
    try:
        if module.params["state"] == "observed":
            result = {"changed": False, **app.look()}
        else:
            with recorder.heartbeat():
                result = app.stopped() if module.params["state"] == "stopped" else app.replaced()
    except (Pm2Error, config_files.ConfigError, RunError, OSError) as exc:
        recorder.failed(str(exc))
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
