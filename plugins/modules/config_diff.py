#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_diff
short_description: Compare the environment files with those of a restore point, and say what going back would break
version_added: "0.1.0"
description:
  - Finds the restore point by its id, by a time or by the release that ran then; or the copies that people made by hand
    (C(.env.backup.20250115_140000)). Checks that it is whole, the environment files by their SHA-256.
  - Compares by key. No value leaves the host, only how many characters it has and whether it is the same.
  - Reads which variables the code needs, without running it, and says which of them would be missing, and which no
    file sets now either.
options:
  root:
    description: Root of the application's git clone.
    type: path
    required: true
  backups:
    description: Directory of the restore points.
    type: path
    required: true
  files:
    description: The environment files, relative to O(root). No other file is ever compared.
    type: list
    elements: str
    default: [.env, backend/.env, frontend/.env.local]
  readers:
    description: Services that read each file. A service is restarted only when one of its files changes.
    type: dict
    default: {".env": [backend], "backend/.env": [backend], "frontend/.env.local": [frontend]}
  restore_point:
    description:
      - Id of the restore point to go back to, or V(newest) for the newest whole one with environment files of the kinds
        deploy and manual, so none that a rollback made. RV(source) says which one it is.
      - One of O(restore_point), O(timestamp) and O(tag) is needed.
    type: str
  timestamp:
    description:
      - Time to go back to, such as V(20250115_140000), in the time zone of the host. Copies by hand of that time, else
        the newest restore point that is not younger. One that Level 2 made, of what it went away from, is passed over,
        unless it is of that very second.
    type: str
  tag:
    description:
      - Release to go back to the configuration of, by any tag on its commit. The newest restore point that was made
        while it ran; one that a level made, of what it went away from, only where there is no other.
      - The tag that a backup put there means the restore point of that backup.
    type: str
  code:
    description:
      - Directory of each service's code, relative to O(root), in which needed variables are looked for. In Python it is
        what has no default, in JavaScript and TypeScript what is read from C(process.env) without one.
    type: dict
    default: {backend: backend, frontend: frontend}
  build_keys:
    description: Patterns of the variables that the frontend's build inlines.
    type: list
    elements: str
    default: [NEXT_PUBLIC_*]
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: M(sparklio.rollback.config_restore) shows the masked differences.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: See what the configuration of yesterday's deploy would change
  sparklio.rollback.config_diff:
    root: ~/sparklio_ai_marketing_studio
    backups: ~/sparklio_ai_marketing_studio.rollback/backups
    restore_point: 20250115T050000Z-deploy
  register: differences
"""

RETURN = r"""
release:
  description: C(commit), C(tag) and C(branch) of what is checked out.
  type: dict
  returned: success
refusals:
  description: What stands against it, each with C(code), C(message) and C(cure).
  type: list
  elements: dict
  returned: success
source:
  description: What was found, with C(name) and what M(sparklio.rollback.config_restore) takes as its source, or none.
  type: dict
  returned: success
  sample: {"name": "20250115T050000Z-deploy", "restore_point": "/srv/app.rollback/backups/20250115T050000Z-deploy"}
files:
  description: One entry for each file of it. C(action) is V(none), V(replace), V(create), V(remove) or V(attributes).
  type: list
  elements: dict
  returned: success
  sample:
    - target: backend/.env
      readers: [backend]
      action: replace
      does: "keys: 1 changed"
      modified: 1736923200.0
      from: /srv/app.rollback/backups/20250115T050000Z-deploy/environment/backend/.env
lines:
  description: One line for each key that differs, its value masked, and how the needed variables were found.
  type: list
  elements: str
  returned: success
  sample: ["changed  DATABASE_URL in backend/.env (62 characters to 64 characters)"]
services:
  description: Services that read a file whose content differs.
  type: list
  elements: str
  returned: success
keys:
  description: Names of the variables that differ, would be missing, or are RV(unmet), by service.
  type: dict
  returned: success
build_keys:
  description:
    - Those that the frontend's build inlines, where they differ or refer to one that does (C($NAME), C(${NAME})), in a
      file that stays too.
  type: list
  elements: str
  returned: success
missing:
  description: Needed variables that would be missing, each with C(key), C(service) and C(how) it was found.
  type: list
  elements: dict
  returned: success
unmet:
  description:
    - The same of variables that the code reads without a default and that no file sets, neither now nor then. Only of
      RV(services).
  type: list
  elements: dict
  returned: success
unchanged:
  description: Whether there is nothing to do.
  type: bool
  returned: success
warnings_found:
  description: What the operator should know.
  type: list
  elements: str
  returned: success
"""

import contextlib
import os
import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _config,
    _env_keys,
    _manifest,
    config_files,
    restore_points,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository

_NO_CODE = {"venv", ".venv", "env", "node_modules", "site-packages", "__pycache__", "tests", "test", "alembic"}
#: What a program is built to, where the code that people wrote is not.
_BUILT = {"out", "build", "dist", "coverage"}
_JAVASCRIPT = (".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts")
_JAVASCRIPT_TESTS = re.compile(r".+\.(?:test|spec|stories|d)\.\w+")
#: Where Next.js reads variables besides.
_NEXT_FILES = (".env", ".env.production", ".env.production.local", ".env.local")
_DEFAULT_READERS = {".env": ["backend"], "backend/.env": ["backend"], "frontend/.env.local": ["frontend"]}


def points_in(backups: str) -> list[dict[str, Any]]:
    """All restore points, newest first, as ``_config.choose`` takes them."""
    found = []
    for point_id in restore_points.ids(backups):
        item: dict[str, Any] = {"id": point_id, "at": restore_points.epoch(point_id), "usable": True}
        place = os.path.join(backups, point_id)
        try:
            manifest = restore_points.read(place)
            item.update({key: manifest["release"].get(key) for key in ("tag", "commit")})
            item["backup_tag"] = manifest.get("backup_tag")
            item["usable"] = _manifest.artifact(manifest, config_files.ARTIFACT) is not None
            # What is offered has to be good: these files are small, so they are read.
            item["problem"] = restore_points.problem(place, manifest, (config_files.ARTIFACT,))
        except restore_points.RestorePointError as exc:
            item["problem"] = str(exc)
        found.append(item)
    return found


def stamps_of(root: str, target: str) -> dict[str, int]:
    """The backups by hand of one file: the time in its name to seconds since the epoch, in the host's time zone."""
    folder, name = os.path.split(os.path.join(root, target))
    found = {}
    for entry in os.listdir(folder) if os.path.isdir(folder) else []:
        in_name = _config.copied_at(entry, name)
        at = seconds(_config.timestamp(in_name) or "") if in_name else None
        if in_name and at is not None:
            found[in_name] = at
    return found


def seconds(stamp: str) -> int | None:
    try:
        return int(time.mktime(time.strptime(stamp, "%Y%m%d_%H%M%S")))
    except (ValueError, OverflowError):
        return None


def sources(root: str, directory: str) -> tuple[dict[str, str], dict[str, str]]:
    """The Python and the JavaScript files below a directory that read the environment, by path relative to the root."""
    python: dict[str, str] = {}
    javascript: dict[str, str] = {}
    top = os.path.join(root, directory)
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in _NO_CODE and not name.startswith("."))
        scripts = [name for name in names if name.endswith(_JAVASCRIPT) and not _JAVASCRIPT_TESTS.fullmatch(name)]
        if os.path.relpath(folder, top).split(os.sep)[0] in _BUILT:
            scripts = []
        for found, signs, chosen in (
            (python, _env_keys.SIGNS, [name for name in names if name.endswith(".py")]),
            (javascript, _env_keys.JAVASCRIPT_SIGNS, scripts),
        ):
            for path in (os.path.join(folder, name) for name in chosen):
                if os.path.isfile(path):
                    with open(path, encoding="utf-8", errors="replace") as stream:
                        text = stream.read()
                    if any(sign in text for sign in signs):
                        found[os.path.relpath(path, root)] = text
    return python, javascript


class Comparison:
    """What is, and what was."""

    def __init__(self, params: dict[str, Any], wanted: dict[str, _config.State], paths: dict[str, str]) -> None:
        self.params = params
        self.paths = paths
        self.root = params["root"]
        self.found = {target: config_files.look(self.root, target) for target in params["files"]}
        self.wanted = wanted
        self.changes = {
            target: _config.key_changes(self.found[target].body, state.body) for target, state in wanted.items()
        }

    def keys_of(self, service: str, after: bool) -> set[str]:
        """The variables that the files of a service set, now or then."""
        keys: set[str] = set()
        for target in self.params["files"]:
            if service in self.params["readers"].get(target, []):
                state = self.wanted.get(target, self.found[target]) if after else self.found[target]
                keys |= set(_config.variables(state.body))
        return keys

    def files(self) -> list[dict[str, Any]]:
        rows = []
        for target, wanted in self.wanted.items():
            action = _config.action(self.found[target], wanted)
            path = os.path.join(self.root, target)
            rows.append(
                {
                    "target": target,
                    "readers": list(self.params["readers"].get(target, [])),
                    "action": action,
                    "does": self.does(target, action),
                    "modified": os.stat(path).st_mtime if os.path.exists(path) else None,
                    "from": self.paths.get(target, ""),
                }
            )
        return rows

    def does(self, target: str, action: str) -> str:
        changes = self.changes[target]
        attributes = _config.attribute_changes(self.found[target], self.wanted[target])
        if action == "create":
            return f"made, with {len(changes.added)} keys"
        if action == "remove":
            link = self.wanted[target].symlink
            return "moved away, it did not exist then" if link is None else f"moved away, {link} did not exist then"
        counts = [
            f"{len(keys)} {word}"
            for word, keys in (("changed", changes.changed), ("added", changes.added), ("removed", changes.removed))
            if keys
        ]
        texts = [f"keys: {', '.join(counts)}"] if counts else ["the same keys"] if action == "replace" else []
        return ", ".join(texts + attributes) or "as it is"

    def missing(self) -> tuple[list[dict[str, str]], list[dict[str, str]], list[str]]:
        """Needed variables that would be missing, those that no file has now either, and how they were found."""
        services = sorted({service for readers in self.params["readers"].values() for service in readers})
        found, unmet, how = [], [], []
        for service in services:
            needs: list[_env_keys.Need] = []
            provided: set[str] = set()
            if service in self.params["code"]:
                directory = self.params["code"][service]
                python, javascript = sources(self.root, directory)
                for language, texts, read in (
                    ("Python ", python, _env_keys.from_python(python)),
                    ("JavaScript ", javascript, _env_keys.from_javascript(javascript)),
                    ("", not (python or javascript), []),
                ):
                    if texts:
                        needs += read
                        how.append(f"{len(read)} read without a default by the {language}code in {directory}")
                if not python:
                    provided = {key for body in self.untouched(directory) for key in _config.variables(body)}
            for example in self.examples(service):
                with open(os.path.join(self.root, example), encoding="utf-8", errors="replace") as stream:
                    named = _env_keys.from_example(example, stream.read())
                needs += named
                how.append(f"{len(named)} named in {example}")
            keys = self.keys_of(service, False), self.keys_of(service, True), provided
            for rows, which in ((found, _env_keys.missing(needs, *keys)), (unmet, _env_keys.unmet(needs, *keys))):
                rows += [{"key": need.key, "service": service, "how": need.how} for need in which]
        return found, unmet, how

    def examples(self, service: str) -> list[str]:
        """The example files of a service: one by the name of its file, or the usual one beside it."""
        found: dict[str, None] = {}
        for target in self.params["files"]:
            if service in self.params["readers"].get(target, []):
                found[f"{target}.example"] = found[os.path.join(os.path.dirname(target), ".env.example")] = None
        return [name for name in found if os.path.isfile(os.path.join(self.root, name))]

    def untouched(self, directory: str) -> list[bytes | None]:
        """The files that Next.js reads besides, and which no restore point touches."""
        names = {os.path.normpath(os.path.join(directory, name)) for name in _NEXT_FILES} - set(self.params["files"])
        found = []
        for name in names:
            # What can't be read gives nobody a variable.
            with contextlib.suppress(config_files.ConfigError):
                found.append(config_files.look(self.root, name).body)
        return found

    def differing_for_next(self) -> set[str]:
        """The variables of the frontend that differ as its build reads them."""
        files = [
            (self.found[target].body, self.wanted.get(target, self.found[target]).body)
            for target in self.params["files"]
            if "frontend" in self.params["readers"].get(target, [])
        ]
        directory = self.params["code"].get("frontend")
        return _config.differing_for_next(files, self.untouched(directory) if directory else [])

    def refusals(self) -> list[dict[str, str]]:
        found = []
        for target, wanted in self.wanted.items():
            here = self.found[target]
            if _config.action(here, wanted) == "none":
                continue
            problem = config_files.link_problem(self.root, here, wanted, self.wanted.values())
            if problem:
                cure = "Keep that file elsewhere, or make the link again yourself"
                found.append(_config.refusal("link", problem[0].upper() + problem[1:], cure))
            problem = config_files.write_problem(self.root, here, wanted)
            if problem:
                cure = "Run it as the application's owner"
                found.append(_config.refusal("not_writable", problem[0].upper() + problem[1:], cure))
        return found

    def result(self) -> dict[str, Any]:
        files = self.files()
        differing = [item["target"] for item in files if item["action"] in ("replace", "create", "remove")]
        readers = self.params["readers"]
        services = _config.concerned(differing, readers)
        missing, unmet, how = self.missing()
        # What is not started anew is not asked whether it has them from elsewhere, either.
        unmet = [item for item in unmet if item["service"] in services]
        keys: dict[str, set[str]] = {service: set() for service in services}
        for target in differing:
            changes = self.changes[target]
            for service in readers.get(target, []):
                keys[service] |= {*changes.changed, *changes.added, *changes.removed}
        build_keys = _config.matching(self.differing_for_next(), self.params["build_keys"])
        for item in (*missing, *unmet):
            keys.setdefault(item["service"], set()).add(item["key"])
        lines = [line for target in self.wanted for line in _config.change_lines(target, self.changes[target])]
        unread = [target for target in differing if not readers.get(target)]
        return {
            "files": files,
            "lines": [*lines, f"variables that are needed: {'; '.join(how)}"] if how else lines,
            "services": services,
            "keys": {
                service: sorted(key for key in names if _config.shown(key) == key) for service, names in keys.items()
            },
            "build_keys": build_keys,
            "missing": missing,
            "unmet": unmet,
            "refusals": self.refusals(),
            "unchanged": all(item["action"] == "none" for item in files),
            "warnings": [f"no service is said to read {target} (rollback_environment_readers)" for target in unread],
        }


def wanted_states(
    params: dict[str, Any], choice: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, _config.State], dict[str, str]]:
    """What was chosen, for config_restore; the states that it holds; and the path of each file's bytes."""
    if "restore_point" in choice:
        place = restore_points.folder(params["backups"], choice["restore_point"])
        states, paths = config_files.from_restore_point(place, params["files"]), config_files.paths(place)
        newest = ", the newest" if "passed_over" in choice else ""
        return {"name": f"{choice['restore_point']}{newest}", "restore_point": place}, states, paths
    group = choice["hand_made"]
    paths = {
        target: os.path.join(params["root"], f"{target}.backup.{stamp}") for target, stamp in group["files"].items()
    }
    source = {"name": f"{group['timestamp']}, kept by hand", "hand_made": paths}
    return source, config_files.from_hand_made(params["root"], paths), paths


def compare(params: dict[str, Any]) -> dict[str, Any]:
    repo = Repository(params["root"])
    commit = repo.line("rev-parse", "--verify", "HEAD^{commit}")
    result: dict[str, Any] = {
        "release": {"commit": commit, "tag": repo.tag(commit), "branch": repo.branch()},
        "source": None,
        "files": [],
        "lines": [],
        "services": [],
        "keys": {},
        "build_keys": [],
        "missing": [],
        "unmet": [],
        "unchanged": False,
        "warnings": [],
    }
    stamp = _config.timestamp(params["timestamp"] or "")
    wanted = {"restore_point": params["restore_point"], "timestamp": params["timestamp"], "tag": params["tag"]}
    wanted["commit"] = repo.commit_of(f"refs/tags/{params['tag']}") if params["tag"] else None
    choice, refused = _config.choose(
        points_in(params["backups"]),
        _config.hand_made({target: stamps_of(params["root"], target) for target in params["files"]}),
        {**wanted, "at": seconds(stamp) if stamp else None},
    )
    if choice is None:
        return {**result, "refusals": [refused]}
    try:
        source, states, paths = wanted_states(params, choice)
    except config_files.ConfigError as exc:
        return {**result, "refusals": [_config.refusal("damaged", str(exc), "Nothing was touched; choose another one")]}
    found = Comparison(params, states, paths).result()
    found["warnings"] += [f"a newer one was passed over: {text}" for text in choice.get("passed_over", [])]
    return {**result, "source": source, **found}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "backups": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "default": list(_DEFAULT_READERS)},
            "readers": {"type": "dict", "default": _DEFAULT_READERS},
            "restore_point": {"type": "str"},
            "timestamp": {"type": "str"},
            "tag": {"type": "str"},
            "code": {"type": "dict", "default": {"backend": "backend", "frontend": "frontend"}},
            # Patterns of names, nothing secret.
            "build_keys": {"type": "list", "elements": "str", "default": ["NEXT_PUBLIC_*"], "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        result = compare(module.params)
    except (GitError, config_files.ConfigError, OSError) as exc:
        module.fail_json(msg=f"The environment files can't be compared: {exc}. Mend that and run it again.")
    module.exit_json(changed=False, warnings_found=result.pop("warnings"), **result)


if __name__ == "__main__":
    main()
