# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database and its schema, asked in the application's own virtual environment and with its own settings."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _alembic, _dotenv
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask, secret_values

ARGUMENT_SPEC: dict[str, Any] = {
    "backend_dir": {"type": "path", "required": True},
    "config": {"type": "str", "default": "alembic.ini"},
    "python": {"type": "path"},
    "env_file": {"type": "path"},
    "expected_heads": {"type": "list", "elements": "str"},
    "venvs": {"type": "list", "elements": "str", "default": ["venv", ".venv"]},
    "count_tables": {"type": "list", "elements": "str", "default": []},
    "count_timeout": {"type": "float", "default": 5},
    "deadline": {"type": "float", "default": 20},
}

NOTHING = {
    "connected": False,
    "heads": None,
    "tree_heads": None,
    "version_table": None,
    "server_version": None,
    "tree_error": None,
    "rows": {},
    "rows_error": None,
}


class CannotAsk(Exception):
    """Something that is needed to ask is missing. The message says what, and what to do."""


def find_python(backend_dir: str, python: str | None, venvs: list[str]) -> str:
    """Return the application's Python."""
    usual = [os.path.join(backend_dir, name, "bin", "python") for name in venvs]
    candidates = [python] if python else usual
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise CannotAsk(f"the application's Python is missing: no {' and no '.join(candidates)}")


def read_environment(env_file: str | None) -> dict[str, str]:
    """Return the variables of the environment file, without those that are set already."""
    if env_file is None:
        return {}
    try:
        with open(env_file, encoding="utf-8-sig", errors="replace") as file:
            variables = _dotenv.parse(file.read(), os.environ)
    except OSError as exc:
        raise CannotAsk(f"the environment file {env_file} can't be read: {exc.strerror}") from exc
    return {name: value for name, value in _alembic.environment(variables).items() if name not in os.environ}


def ask(params: dict[str, Any]) -> dict[str, Any]:
    """Run the script and return its answer."""
    backend = params["backend_dir"]
    if not os.path.isfile(os.path.join(backend, params["config"])):
        raise CannotAsk(f"there is no {params['config']} in {backend}")
    python = find_python(backend, params["python"], params["venvs"])
    variables = read_environment(params["env_file"])
    marker = f"sparklio-{secrets.token_hex(8)}:"
    try:
        done = subprocess.run(
            [
                *(python, "-", marker, str(params["deadline"]), params["config"]),
                *(str(params["count_timeout"]), *params["count_tables"]),
            ],
            input=_alembic.SCRIPT.encode(),
            capture_output=True,
            check=False,
            cwd=backend,
            env={**os.environ, **variables, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
        )
    except OSError as exc:
        raise CannotAsk(f"{python} can't be run ({exc.strerror}); try it by hand") from exc
    stdout, stderr = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    hidden = secret_values({**os.environ, **variables})
    try:
        return _alembic.parse_answer(stdout, stderr, marker, hidden)
    except _alembic.AnswerError as exc:
        raise CannotAsk(f"{python} did not get as far as asking; it said last: {exc}") from exc


def answer(params: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    try:
        found = ask(params)
    except CannotAsk as exc:
        found = {**NOTHING, "error": mask(str(exc))}
    verdict, evidence = _alembic.judge(found, params["expected_heads"])
    return {"verdict": verdict, "evidence": evidence, "seconds": round(time.monotonic() - start, 3), **found}
