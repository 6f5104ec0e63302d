#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_env
short_description: Stage the Python environment of a release beside the one that serves
version_added: "0.1.0"
description:
  - Environments are kept by the hash of their requirements and the version of Python. A known one is copied by hard
    links, a new one is built once. The environment that serves is left alone; it is kept in the cache too.
  - The copy is made for its final place, so that its scripts work there after a rename.
options:
  candidates:
    description: Places where the environment may be, the first that exists counts. The first one is where a missing
      one goes.
    type: list
    elements: path
    required: true
  current:
    description: Hash of the requirements of the release that serves, as M(sparklio.rollback.release_info) returns it.
    type: str
  target:
    description: Hash of the requirements of the release to stage. None where it has no requirements file; nothing is
      done then.
    type: str
  tree:
    description: The staged tree of the release.
    type: path
    required: true
  requirements:
    description: Requirements files to install, relative to O(tree).
    type: list
    elements: str
    default: [backend/requirements.txt]
  cache:
    description: Directory of the cache.
    type: path
    required: true
  dest:
    description: Where to stage the environment; must not exist.
    type: path
    required: true
  log:
    description: File that gets pip's output, mode 0600.
    type: path
    required: true
  python:
    description: Interpreter to build with. Left out, the one that the present environment was made from.
    type: path
  pip_args:
    description: Arguments for C(pip install), such as an index.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that pip may take.
    type: int
    default: 900
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Says whether the environment is unchanged, cached, or would be built.
  diff_mode:
    support: none
    description: The environment that serves is not changed.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Stage the backend's environment
  sparklio.rollback.python_env:
    candidates: [/srv/app/backend/venv, /srv/app/backend/.venv]
    current: "{{ release.current.requirements }}"
    target: "{{ release.target.requirements }}"
    tree: /srv/app.rollback/runs/x/tree
    cache: /srv/app.rollback/cache
    dest: /srv/app.rollback/runs/x/staged/venv
    log: /srv/app.rollback/runs/x/pip.log
"""

RETURN = r"""
action:
  description: V(unchanged), V(cached), or V(build).
  type: str
  returned: success
live:
  description: Path of the environment that serves, and where the staged one goes.
  type: str
  returned: success
key:
  description: Key in the cache.
  type: str
  returned: success
python:
  description: Version of Python.
  type: str
  returned: success
seconds:
  description: Time taken.
  type: float
  returned: success
"""

import json
import os
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _releases, artifacts
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder

_PROBE = (
    "import json,platform,sys;base=getattr(sys,'_base_executable',None) or sys.executable;"
    "print(json.dumps([platform.python_version(),platform.machine(),base]))"
)


def interpreter(live: str | None, python: str | None) -> tuple[str, str, str]:
    """Version, machine and base interpreter of the present environment, or of ``python``."""
    candidates = [python] if python else [*([os.path.join(live, "bin", "python")] if live else []), "python3"]
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "-c", _PROBE],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
                stdin=subprocess.DEVNULL,
            )
            version, machine, base = json.loads(done.stdout)
            return version, machine, base
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
    if python:
        raise artifacts.ArtifactError(f"rollback_python is set to {python}, which is no working Python on this host.")
    raise artifacts.ArtifactError(
        "There is no working Python to make an environment with. Install python3, or set rollback_python."
    )


def build(params: dict, cache: artifacts.Cache, key: str, base: str) -> None:
    content = cache.building("venv", key)
    try:
        code, output = artifacts.run_logged([base, "-m", "venv", content], "/", params["log"], 120)
        if code:
            raise artifacts.ArtifactError(
                f"No environment could be made with {base}: {artifacts.telling_line(output, ['Error', 'error'])}. On "
                "Debian, install python3-venv."
            )
        command = [
            os.path.join(content, "bin", "python"),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
        ]
        for name in params["requirements"]:
            command += ["-r", os.path.join(params["tree"], name)]
        code, output = artifacts.run_logged(
            command + params["pip_args"], params["tree"], params["log"], params["timeout"]
        )
        if code:
            raise artifacts.ArtifactError(
                "The Python requirements can't be installed: "
                f"{artifacts.telling_line(output, ['ERROR: No matching', 'ERROR: Could not', 'ERROR:'])} "
                f"(log on the host: {params['log']}). Nothing was switched, the old release still serves; choose "
                "another release or mend its requirements."
            )
        cache.put("venv", key, content, prefix=content, origin="built")
    except BaseException:
        shutil.rmtree(os.path.dirname(content), ignore_errors=True)
        raise


def place(cache: artifacts.Cache, key: str, dest: str, live: str, run_id: str) -> None:
    manifest = cache.get("venv", key)
    if manifest is None:
        raise artifacts.ArtifactError(
            f"The cached environment {key} is damaged and was moved aside. Run it again: it is built anew."
        )
    os.makedirs(os.path.dirname(dest), mode=0o700, exist_ok=True)
    artifacts.link_tree(os.path.join(cache.at("venv", key), "content"), dest)
    artifacts.rewrite_prefix(os.path.join(dest, "bin"), manifest["prefix"], live)
    artifacts.rewrite_prefix(dest, manifest["prefix"], live)
    artifacts.mark(dest, run_id, key=key)


def stage(module: AnsibleModule, recorder: Recorder) -> dict:
    params = module.params
    candidates = params["candidates"]
    found = next((path for path in candidates if os.path.lexists(os.path.join(path, "bin", "python"))), None)
    live = found or candidates[0]
    if params["target"] is None:
        return {"action": "unchanged", "live": live, "key": "", "python": ""}
    version, machine, base = interpreter(found, params["python"])
    key = _releases.digest([params["target"], version, machine])[:20]
    result = {"live": live, "key": key, "python": version}
    if found and params["current"] == params["target"]:
        return {**result, "action": "unchanged"}
    cache = artifacts.Cache(params["cache"])
    cached = cache.get("venv", key) is not None if not module.check_mode else cache.has("venv", key)
    result["action"] = "cached" if cached else "build"
    if module.check_mode:
        return result
    with recorder.heartbeat():
        if not cached:
            build(params, cache, key, base)
        if found and params["current"]:
            former = _releases.digest([params["current"], version, machine])[:20]
            cache.adopt("venv", former, found, prefix=found)
        run_id = (params["journal"] or {}).get("run_id", "none")
        place(cache, key, params["dest"], live, run_id)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "candidates": {"type": "list", "elements": "path", "required": True},
            "current": {"type": "str"},
            "target": {"type": "str"},
            "tree": {"type": "path", "required": True},
            "requirements": {"type": "list", "elements": "str", "default": ["backend/requirements.txt"]},
            "cache": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "log": {"type": "path", "required": True},
            "python": {"type": "path"},
            "pip_args": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 900},
            "journal": JOURNAL_SPEC,
        },
        supports_check_mode=True,
    )
    recorder = Recorder(module.params["journal"], module.check_mode, "python_env")
    started = time.monotonic()
    try:
        result = stage(module, recorder)
    except artifacts.ArtifactError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(
            msg=f"The Python environment can't be staged: {exc}. Nothing was switched, the old release still serves."
        )
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 2), **result)


if __name__ == "__main__":
    main()
