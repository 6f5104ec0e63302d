#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_process
short_description: A service that was started by hand with nohup
version_added: "0.1.0"
description:
  - Finds the process of a service by its pid file or by the port that it listens on, and checks its identity. It
    must be ours, run in O(chdir), and have O(identity) in its command line. No other process is ever signalled.
  - A process of somebody else on the port is an error that names it.
  - It is started again with the command and the environment that it had, unless others are given.
options:
  name:
    description: Name of the service, for messages.
    type: str
    required: true
  state:
    description:
      - V(observed) looks.
      - V(replaced) lets new code serve. With O(reload) and at least two uvicorn workers, each worker is replaced
        without refusing a connection; otherwise the process is stopped and started.
      - V(started) starts it where it does not run.
      - V(stopped) stops it, and remembers how to start it again.
    type: str
    choices: [observed, replaced, started, stopped]
    default: observed
  chdir:
    description: Directory that it runs in.
    type: path
    required: true
  port:
    description: TCP port that it listens on.
    type: int
    required: true
  identity:
    description: Text that the command line must hold.
    type: str
    required: true
  command:
    description: Command to start it with. Left out, the one that it runs with now, then the remembered one, then
      O(fallback).
    type: list
    elements: str
  fallback:
    description: Command for a service that does not run and of which nothing is known.
    type: list
    elements: str
    default: []
  remember:
    description:
      - File, mode 0600, that keeps the command and the environment, so that a service which is down can be started as
        before.
      - Written by O(state=observed) when the service runs, and read by the others.
    type: path
  pid_file:
    description: File that gets the process id.
    type: path
  log:
    description: File that its output is appended to.
    type: path
  url:
    description: Address that must answer with a status under 500 before the service counts as up. Left out, an open
      port is enough.
    type: str
  reload:
    description: Whether workers may be replaced one by one. Not after the environment of the parent process was
      swapped.
    type: bool
    default: true
  renew:
    description:
      - Variables of environment files that were changed. A shell that read such a file before it started the service
        gave them on to it, and there they win over the file.
      - O(state=observed) tells which of them the process has; the others give it their values in the files as they are
        now, or take them away.
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
    description: Only replace a process that was started before this time, in seconds since the epoch. Makes a second
      call do nothing.
    type: float
  stop_timeout:
    description: Seconds that it may go on with what it is busy with, before it is killed.
    type: int
    default: 30
  start_timeout:
    description: Seconds until it must answer.
    type: int
    default: 60
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
- name: Let the new code serve
  sparklio.rollback.service_process:
    name: backend
    state: replaced
    chdir: /srv/app/backend
    port: 8000
    identity: app.main:app
    url: http://127.0.0.1:8000/health
    log: /srv/app/logs/backend.log
"""

RETURN = r"""
running:
  description: Whether it runs.
  type: bool
  returned: success
pid:
  description: Id of the process that listens, or of the parent of its workers.
  type: int
  returned: when it runs
started:
  description: When that process started, in seconds since the epoch.
  type: float
  returned: when it runs
serving_since:
  description: When the oldest process that answers was started; of several workers, theirs.
  type: float
  returned: when it runs
workers:
  description: Worker processes, when there are several.
  type: list
  elements: int
  returned: success
method:
  description: How it is, or was, replaced. V(reload), V(restart), V(start), V(stop), or V(none).
  type: str
  returned: success
conflict:
  description: Who else holds the port, or none.
  type: str
  returned: success
reloadable:
  description: Whether its workers can be replaced one by one.
  type: bool
  returned: success
inherited:
  description: Variables of O(renew) that the process has in its own environment, with their value in the files.
  type: list
  elements: str
  returned: when it runs
overridden:
  description: Variables of O(renew) that the process has in its own environment, with another value.
  type: list
  elements: str
  returned: when it runs
argv:
  description: Its command line.
  type: list
  elements: str
  returned: when it runs
gap:
  description: Seconds for which the port was closed.
  type: float
  returned: when it was restarted
"""

import json
import os
import re
import signal
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.sparklio.rollback.plugins.module_utils import _config, _mask, config_files, process
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import (
    JOURNAL_SPEC,
    Recorder,
    RunError,
    write_private,
)

#: From this release on, the parent of uvicorn's workers replaces them one by one on SIGHUP.
_RELOADING_UVICORN = (0, 30)


class Service:
    """One service on one port."""

    def __init__(self, module: AnsibleModule, recorder: Recorder) -> None:
        self.params = module.params
        self.check_mode = module.check_mode
        self.recorder = recorder
        self.chdir = os.path.realpath(self.params["chdir"])
        self.port = self.params["port"]

    def ours(self, item: process.Process) -> bool:
        return (
            item.uid == os.getuid()
            and item.cwd == self.chdir
            and any(self.params["identity"] in part for part in item.argv)
        )

    def find(self) -> tuple[process.Process | None, list[process.Process], str | None]:
        """The main process, its workers, and a description of somebody else on the port."""
        holders, hidden = process.listeners(self.port)
        if hidden and not holders:
            owner = ", ".join("another user" if uid < 0 else f"user {uid}" for uid in sorted(hidden))
            return None, [], f"a process of {owner}"
        mine, others = [], []
        for item in holders:
            parent = process.get(item.parent)
            inherited = parent is not None and self.ours(parent) and item.uid == os.getuid() and item.cwd == self.chdir
            (mine if self.ours(item) or inherited else others).append(item)
        if others:
            item = others[0]
            return None, [], f"process {item.pid} ({' '.join(item.argv)[:80]}) in {item.cwd or 'an unknown directory'}"
        if not mine:
            return self.by_pid_file(), [], None
        # Workers hold the same socket as the parent that gave it to them.
        pids = {item.pid for item in mine}
        mains = [item for item in mine if item.parent not in pids]
        main = min(mains, key=lambda item: item.started)
        workers = [item for item in mine if item.pid != main.pid]
        supervisor = supervised_by(main)
        if supervisor:
            return None, [], f"process {main.pid}, which {supervisor} would start again"
        return main, workers, None

    def by_pid_file(self) -> process.Process | None:
        """A process of ours that is there but does not listen: still starting, or stuck."""
        path = self.params["pid_file"]
        try:
            with open(path or "", encoding="ascii") as stream:
                item = process.get(int(stream.read().strip()))
        except (OSError, ValueError):
            return None
        return item if item and self.ours(item) else None

    def worker_count(self, main: process.Process) -> int:
        for index, part in enumerate(main.argv):
            match = re.fullmatch(r"--workers(?:=(\d+))?", part)
            if match:
                value = match.group(1) or (main.argv[index + 1] if index + 1 < len(main.argv) else "1")
                return int(value) if value.isdigit() else 1
        return 1

    def can_reload(self, main: process.Process | None) -> bool:
        if main is None or not self.params["reload"] or self.worker_count(main) < 2:
            return False
        # What the parent was started with, and what uvicorn gave it from --env-file, stays with its workers.
        renew = self.params["renew"]
        if renew["files"] and (renew["keys"] or any(part.startswith("--env-file") for part in main.argv)):
            return False
        version = uvicorn_version(main)
        return version is not None and version >= _RELOADING_UVICORN

    def remembered(self) -> dict:
        path = self.params["remember"]
        if not path:
            return {}
        try:
            with open(path, encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return {}

    def remember(self, main: process.Process) -> None:
        if self.params["remember"] and not self.check_mode:
            known = {"argv": list(main.argv), "environment": process.environment(main.pid)}
            write_private(self.params["remember"], json.dumps(known))

    def info(self) -> dict:
        main, workers, conflict = self.find()
        if main:
            self.remember(main)
        return self.answer(main, workers, conflict, "none", False)

    def answer(
        self,
        main: process.Process | None,
        workers: list[process.Process],
        conflict: str | None,
        method: str,
        changed: bool,
    ) -> dict:
        result = {
            "changed": changed,
            "running": main is not None,
            "workers": [item.pid for item in workers],
            "method": method,
            "conflict": conflict,
            "reloadable": self.can_reload(main),
        }
        if main:
            serving = min(item.started for item in (workers or [main]))
            renew = self.params["renew"]
            inherited, overridden = _config.in_process(
                process.environment(main.pid) or {} if renew["keys"] else {},
                config_files.values(renew["files"]),
                renew["keys"],
            )
            result.update(
                inherited=inherited,
                overridden=overridden,
                pid=main.pid,
                started=round(main.started, 2),
                serving_since=round(serving, 2),
                argv=list(main.argv),
            )
        return result

    def replaced(self) -> dict:
        main, workers, conflict = self.find()
        if conflict:
            raise process.ProcessError(
                f"Port {self.port} is held by {conflict}, not by the {self.params['name']} in {self.chdir}. It was "
                "left alone; stop it yourself, or set the right port."
            )
        since = self.params["since"]
        # A parent that keeps its workers fresh may itself be older.
        concerned = (workers if workers and self.can_reload(main) else [main, *workers]) if main else []
        fresh = since is not None and all(item.started > since for item in concerned)
        if main and (self.params["state"] == "started" or fresh):
            self.recorder.unneeded()
            return self.answer(main, workers, None, "none", False)
        method = "start" if main is None else "reload" if self.can_reload(main) else "restart"
        if self.check_mode:
            return self.answer(main, workers, None, method, True)
        self.recorder.intent(detail={"method": method, "pid": main.pid if main else None})
        gap = None
        if method == "reload":
            self.reload(main)
        else:
            gap = self.restart(main, workers)
        main, workers, conflict = self.find()
        if main is None:
            raise process.ProcessError(f"The {self.params['name']} came up and went away again{self.last_words()}")
        if self.params["pid_file"]:
            write_private(self.params["pid_file"], f"{main.pid}\n")
        result = self.answer(main, workers, conflict, method, True)
        if gap is not None:
            result["gap"] = round(gap, 2)
        self.recorder.done(detail={"method": method, "pid": main.pid, "gap": result.get("gap")})
        return result

    def stopped(self) -> dict:
        main, workers, conflict = self.find()
        if conflict:
            raise process.ProcessError(
                f"Port {self.port} is held by {conflict}, not by the {self.params['name']} in {self.chdir}. It was "
                "left alone; stop it yourself, or set the right port."
            )
        if main is None or self.check_mode:
            return self.answer(main, workers, None, "stop" if main else "none", main is not None)
        self.remember(main)
        self.recorder.intent(detail={"method": "stop", "pid": main.pid})
        process.stop([main, *workers], self.params["stop_timeout"])
        self.recorder.done(detail={"method": "stop", "pid": main.pid})
        return self.answer(None, [], None, "stop", True)

    def reload(self, main: process.Process) -> None:
        wanted = self.worker_count(main)
        before = time.time()
        former = {item.pid for item in process.children(main.pid) if is_worker(item)}
        process.send(main, signal.SIGHUP)
        deadline = time.monotonic() + self.params["start_timeout"] * wanted
        while time.monotonic() < deadline:
            fresh = [item for item in process.children(main.pid) if is_worker(item)]
            if len(fresh) == wanted and not former & {item.pid for item in fresh} and self.answers():
                return
            if not process.alive(main):
                raise process.ProcessError(
                    f"The {self.params['name']} ended when its workers were replaced{self.last_words()}"
                )
            time.sleep(0.1)
        raise process.ProcessError(
            f"The workers of the {self.params['name']} were not replaced within {time.time() - before:.0f} s; the "
            f"former ones still serve{self.last_words()}"
        )

    def restart(self, main: process.Process | None, workers: list[process.Process]) -> float:
        known = self.remembered()
        if main:
            argv, env = list(main.argv), process.environment(main.pid)
        else:
            argv, env = known.get("argv") or self.params["fallback"], known.get("environment")
        env = self.renewed(env)
        argv = self.params["command"] or argv
        if not argv:
            raise process.ProcessError(
                f"Nobody knows how the {self.params['name']} is started. Set its command in the inventory."
            )
        closed = time.monotonic()
        if main:
            process.stop([main, *workers], self.params["stop_timeout"])
        self.start(argv, env)
        return time.monotonic() - closed

    def renewed(self, env: dict[str, str] | None) -> dict[str, str] | None:
        """The environment with the variables that came from files as these have them now."""
        renew = self.params["renew"]
        if env is None or not renew["keys"]:
            return env
        now = config_files.values(renew["files"])
        kept = {name: value for name, value in env.items() if name not in renew["keys"]}
        return {**kept, **{name: now[name] for name in renew["keys"] if name in now}}

    def start(self, argv: list[str], env: dict[str, str] | None) -> None:
        log = self.params["log"] or os.devnull
        self.log_start = os.path.getsize(log) if os.path.isfile(log) else 0
        child = process.spawn(argv, self.chdir, env, log)
        self.secrets = _mask.secret_values(env or {})
        deadline = time.monotonic() + self.params["start_timeout"]
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise process.ProcessError(
                    f"The {self.params['name']} ended right after its start (exit code "
                    f"{child.returncode}){self.last_words()}"
                )
            if self.answers() and self.find()[0]:
                return
            time.sleep(0.05)
        main = process.get(child.pid)
        if main:
            process.stop([main], 5)
        raise process.ProcessError(
            f"The {self.params['name']} did not answer within {self.params['start_timeout']} s of its "
            f"start{self.last_words()}"
        )

    def answers(self) -> bool:
        if not self.params["url"]:
            return process.connects("127.0.0.1", self.port)
        try:
            open_url(self.params["url"], timeout=5, use_proxy=False)
            return True
        except Exception as exc:
            return 0 < getattr(exc, "code", 0) < 500

    def last_words(self) -> str:
        """The last telling line of its log since the start, without secrets."""
        try:
            with open(self.params["log"], "rb") as stream:
                stream.seek(getattr(self, "log_start", 0))
                lines = [
                    line.strip()
                    for line in stream.read()[-20000:].decode("utf-8", "replace").splitlines()
                    if line.strip()
                ]
        except (OSError, TypeError):
            return ""
        telling = (
            [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
            or [line for line in lines if "ERROR" in line]
            or lines
        )
        return f": {_mask.mask(telling[-1], getattr(self, 'secrets', []))[:300]}" if telling else ""


def supervised_by(item: process.Process) -> str | None:
    """Who would start a process again when it is stopped, or None.

    Source: pm2 sets ``pm_id`` for what it runs; systemd.exec(5), ``SYSTEMD_EXEC_PID`` (systemd 248).
    """
    environment = process.environment(item.pid) or {}
    if "pm_id" in environment:
        return f"pm2 (as {environment.get('name', 'an application')})"
    if environment.get("SYSTEMD_EXEC_PID") == str(item.pid):
        return "systemd"
    return None


def is_worker(item: process.Process) -> bool:
    """Whether a child process is a worker, and not the helper that Python's multiprocessing keeps for itself."""
    return not any("resource_tracker" in part for part in item.argv)


def uvicorn_version(main: process.Process) -> tuple[int, ...] | None:
    """Version of the uvicorn that a process was started from, by the metadata beside its interpreter."""
    for part in main.argv[:2]:
        library = os.path.join(os.path.dirname(os.path.dirname(part)), "lib")
        for folder in sorted(os.listdir(library)) if os.path.isdir(library) else []:
            packages = os.path.join(library, folder, "site-packages")
            for name in os.listdir(packages) if os.path.isdir(packages) else []:
                match = re.fullmatch(r"uvicorn-([\d.]+)\.dist-info", name)
                if match:
                    return tuple(int(number) for number in match.group(1).split(".") if number)
    return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["observed", "replaced", "started", "stopped"], "default": "observed"},
            "chdir": {"type": "path", "required": True},
            "port": {"type": "int", "required": True},
            "identity": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str"},
            "fallback": {"type": "list", "elements": "str", "default": []},
            "remember": {"type": "path"},
            "pid_file": {"type": "path"},
            "log": {"type": "path"},
            "url": {"type": "str"},
            "reload": {"type": "bool", "default": True},
            "renew": config_files.VARIABLES_SPEC,
            "since": {"type": "float"},
            "stop_timeout": {"type": "int", "default": 30},
            "start_timeout": {"type": "int", "default": 60},
            "journal": JOURNAL_SPEC,
        },
        supports_check_mode=True,
    )
    recorder = Recorder(module.params["journal"], module.check_mode, module.params["name"])
    service = Service(module, recorder)
    try:
        if module.params["state"] == "observed":
            result = service.info()
        else:
            with recorder.heartbeat():
                result = service.stopped() if module.params["state"] == "stopped" else service.replaced()
    except (process.ProcessError, config_files.ConfigError, RunError) as exc:
        recorder.failed(str(exc))
        module.fail_json(msg=str(exc))
    except OSError as exc:
        recorder.failed(str(exc))
        module.fail_json(msg=f"The {module.params['name']} can't be replaced: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
