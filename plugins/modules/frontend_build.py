#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_build
short_description: Stage the build of a Next.js frontend beside the one that serves
version_added: "0.1.0"
description:
  - Builds are kept by the hash of the lock file, of the frontend's tree and of its environment files, since
    C(NEXT_PUBLIC_*) is inlined by the build; packages by the lock file. Both also by the version of Node.js.
  - A known build is copied by hard links, a new one is built once in the staged tree. The directory that serves
    is left alone, and what is in it is kept in the cache too.
  - The static files of the build that serves are added to the new one, so that a browser which loaded a page
    before the switch still gets what that page refers to. Their names hold a hash of their content.
options:
  live:
    description: Directory of the frontend that serves.
    type: path
    required: true
  current:
    description: C(lock) and C(frontend_tree) of the release that serves, as M(sparklio.rollback.release_info) returns
      it.
    type: dict
    required: true
  target:
    description: The same of the release to stage.
    type: dict
    required: true
  tree:
    description: Directory of the frontend in the staged tree.
    type: path
    required: true
  env_files:
    description: Environment files that the build reads, relative to O(live).
    type: list
    elements: str
    default: [.env.local, .env.production.local]
  env_from:
    description:
      - Where the build to stage has environment files from that are not those of O(live), by their name in
        O(env_files). With an empty path it has none of that name.
    type: dict
    default: {}
  environment:
    description: Further environment of the build. Part of its key.
    type: dict
    default: {}
  cache:
    description: Directory of the cache.
    type: path
    required: true
  dest:
    description: Directory to stage C(.next) and C(node_modules) in.
    type: path
    required: true
  log:
    description: File that gets the output of npm and the build, mode 0600.
    type: path
    required: true
  npm:
    description: npm's executable.
    type: str
    default: npm
  npm_args:
    description: Arguments for C(npm ci).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that C(npm ci) may take, and again the build.
    type: int
    default: 1200
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says whether the build is unchanged, cached, or would be built.
  diff_mode:
    support: none
    description: The build that serves is not changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Stage the frontend's build
  sparklio.rollback.frontend_build:
    live: /srv/app/frontend
    current: "{{ release.current }}"
    target: "{{ release.target }}"
    tree: /srv/app.rollback/runs/x/tree/frontend
    cache: /srv/app.rollback/cache
    dest: /srv/app.rollback/runs/x/staged
    log: /srv/app.rollback/runs/x/frontend.log
"""

RETURN = r"""
action:
  description: V(unchanged), V(cached), or V(build).
  type: str
  returned: success
packages:
  description: The same for C(node_modules).
  type: str
  returned: success
build_id:
  description: C(BUILD_ID) of the build that is staged, or of the one that serves where nothing changes.
  type: str
  returned: when it is known
former_build_id:
  description: C(BUILD_ID) of the build that serves.
  type: str
  returned: success
key:
  description: Key of the build in the cache.
  type: str
  returned: success
packages_key:
  description: Key of the packages in the cache.
  type: str
  returned: success
former_key:
  description: Key of the build that serves.
  type: str
  returned: success
former_packages_key:
  description: Key of the packages that serve.
  type: str
  returned: success
seconds:
  description: Time taken.
  type: float
  returned: success
"""

import os
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _releases, artifacts
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder


def read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def build_id(directory: str) -> str | None:
    text = read_text(os.path.join(directory, "BUILD_ID"))
    return text.strip() if text else None


def node_version() -> str:
    try:
        done = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise artifacts.ArtifactError(
            "Node.js does not answer on this host (node --version). Put it on the PATH of this user."
        ) from exc
    return done.stdout.strip()


def not_built(path: str) -> bool:
    """What a build leaves behind for the next build, and no server reads."""
    return path in ("cache", "trace")


class Stager:
    """One staging of one frontend."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params = dict(module.params)
        self.cache = artifacts.Cache(self.params["cache"])
        self.node = node_version()
        live = {name: os.path.join(self.params["live"], name) for name in self.params["env_files"]}
        #: Environment files that the target is built with; one without a path is left out.
        self.env_paths = {name: self.params["env_from"].get(name, path) for name, path in live.items()}
        self.former_environment, self.environment = self.digest(live), self.digest(self.env_paths)
        self.live_next = os.path.join(self.params["live"], ".next")
        self.live_modules = os.path.join(self.params["live"], "node_modules")

    def digest(self, paths: dict) -> str:
        texts = {name: (read_text(path) if path else None) or "" for name, path in paths.items()}
        variables = {f"${name}": str(value) for name, value in self.params["environment"].items()}
        return _releases.digest({**texts, **variables})

    def keys(self, release: dict, environment: str) -> tuple[str, str]:
        packages = _releases.digest([release["lock"] or "", self.node])[:20]
        return packages, _releases.digest([packages, release["frontend_tree"] or "", environment])[:20]

    def command(self, arguments: list[str], what: str) -> None:
        env = {
            "NEXT_TELEMETRY_DISABLED": "1",
            "CI": "1",
            **{name: str(value) for name, value in self.params["environment"].items()},
        }
        code, output = artifacts.run_logged(
            [self.params["npm"], *arguments], self.params["tree"], self.params["log"], self.params["timeout"], env
        )
        if code:
            line = artifacts.telling_line(
                output, ["SyntaxError", "Type error", "npm error code", "Error:", "Failed to compile", "npm error"]
            )
            raise artifacts.ArtifactError(
                f"{what}: {line} (log on the host: {self.params['log']}). Nothing was switched, the old release still "
                "serves; choose another release or mend this one."
            )

    def provide_packages(self, key: str) -> None:
        """Put the packages of the target into the staged tree."""
        modules = os.path.join(self.params["tree"], "node_modules")
        if os.path.isdir(modules):
            return
        if self.params["current"]["lock"] == self.params["target"]["lock"] and os.path.isdir(self.live_modules):
            artifacts.link_tree(self.live_modules, modules, lambda path: path in (artifacts.MARKER, ".cache"))
        elif self.cache.get("node_modules", key):
            artifacts.link_tree(os.path.join(self.cache.at("node_modules", key), "content"), modules)
        else:
            verb = "ci" if self.params["target"].get("has_lock", True) else "install"
            self.command(
                [verb, "--no-audit", "--no-fund", *self.params["npm_args"]],
                "The frontend's packages can't be installed",
            )
            self.cache.adopt("node_modules", key, modules, lambda path: path == ".cache")

    def build(self, packages_key: str, key: str) -> None:
        self.provide_packages(packages_key)
        for name, source in self.env_paths.items():
            if source and os.path.exists(source):
                os.makedirs(self.params["tree"], exist_ok=True)
                shutil.copyfile(source, os.path.join(self.params["tree"], name))
                os.chmod(os.path.join(self.params["tree"], name), 0o600)
        try:
            self.command(["run", "build"], "The frontend does not build")
        finally:
            for name in self.params["env_files"]:
                path = os.path.join(self.params["tree"], name)
                if os.path.exists(path):
                    os.unlink(path)
        built = os.path.join(self.params["tree"], ".next")
        if build_id(built) is None:
            raise artifacts.ArtifactError(
                "The frontend's build left no .next/BUILD_ID. Set its distDir back to .next, or look at the log: "
                + self.params["log"]
            )
        content = self.cache.building("frontend", key)
        artifacts.link_tree(built, content, not_built)
        self.cache.put("frontend", key, content, build_id=build_id(built), origin="built")

    def edited_since(self) -> bool:
        """Whether an environment file that is to be left is younger than the build, which may not know it then."""
        try:
            built = os.stat(os.path.join(self.live_next, "BUILD_ID")).st_mtime
        except FileNotFoundError:
            return False
        live = [os.path.join(self.params["live"], name) for name in self.params["env_from"]]
        return any(os.path.exists(path) and os.stat(path).st_mtime > built + 1 for path in live)

    def plan(self) -> dict:
        packages_key, key = self.keys(self.params["target"], self.environment)
        former_packages, former = self.keys(self.params["current"], self.former_environment)
        modules_here = os.path.isdir(self.live_modules)
        former_id = build_id(self.live_next)
        packages = (
            "unchanged"
            if packages_key == former_packages and modules_here
            else ("cached" if self.cache.has("node_modules", packages_key) else "build")
        )
        if self.params["target"]["frontend_tree"] is None or (key == former and former_id and packages == "unchanged"):
            action = "unchanged"
        else:
            action = "cached" if self.cache.has("frontend", key) else "build"
        return {
            "action": action,
            "packages": packages,
            "key": key,
            "packages_key": packages_key,
            "former_key": former,
            "former_packages_key": former_packages,
            "former_build_id": former_id,
            "build_id": former_id if action == "unchanged" else None,
        }

    def stage(self, run_id: str) -> dict:
        plan = self.plan()
        if plan["action"] == "unchanged":
            return plan
        if plan["action"] == "cached" and not self.cache.get("frontend", plan["key"]):
            plan["action"] = "build"
        if plan["action"] == "build":
            self.build(plan["packages_key"], plan["key"])
        elif plan["packages"] != "unchanged":
            self.provide_packages(plan["packages_key"])
        if not self.edited_since():
            self.cache.adopt(
                "frontend", plan["former_key"], self.live_next, not_built, build_id=plan["former_build_id"]
            )
        manifest = self.cache.get("frontend", plan["key"])
        if manifest is None:
            raise artifacts.ArtifactError(
                "The cached frontend build is damaged and was moved aside. Run it again: it is built anew."
            )
        os.makedirs(self.params["dest"], mode=0o700, exist_ok=True)
        staged = os.path.join(self.params["dest"], ".next")
        artifacts.link_tree(os.path.join(self.cache.at("frontend", plan["key"]), "content"), staged)
        if os.path.isdir(os.path.join(self.live_next, "static")):
            # Not the folder named by its BUILD_ID: only a server that was started on a build may answer for it.
            artifacts.link_tree(
                os.path.join(self.live_next, "static"),
                os.path.join(staged, "static"),
                lambda path: path == plan["former_build_id"],
                merge=True,
            )
        artifacts.mark(staged, run_id, key=plan["key"])
        if plan["packages"] != "unchanged":
            self.cache.adopt(
                "node_modules", plan["former_packages_key"], self.live_modules, lambda path: path == ".cache"
            )
            modules = os.path.join(self.params["dest"], "node_modules")
            os.rename(os.path.join(self.params["tree"], "node_modules"), modules)
            artifacts.mark(modules, run_id, key=plan["packages_key"])
        plan["build_id"] = manifest["build_id"]
        return plan


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "live": {"type": "path", "required": True},
            "current": {"type": "dict", "required": True},
            "target": {"type": "dict", "required": True},
            "tree": {"type": "path", "required": True},
            "env_files": {"type": "list", "elements": "str", "default": [".env.local", ".env.production.local"]},
            "env_from": {"type": "dict", "default": {}},
            "environment": {"type": "dict", "default": {}},
            "cache": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "log": {"type": "path", "required": True},
            "npm": {"type": "str", "default": "npm"},
            "npm_args": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 1200},
            "journal": JOURNAL_SPEC,
        },
        supports_check_mode=True,
    )
    recorder = Recorder(module.params["journal"], module.check_mode, "frontend_build")
    run_id = (module.params["journal"] or {}).get("run_id", "none")
    started = time.monotonic()
    try:
        stager = Stager(module)
        if module.check_mode:
            result = stager.plan()
        else:
            with recorder.heartbeat():
                result = stager.stage(run_id)
    except artifacts.ArtifactError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"The frontend can't be staged: {exc}. Nothing was switched, the old release still serves."
        )
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 2), **result)


if __name__ == "__main__":
    main()
