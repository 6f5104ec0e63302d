# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversations with Alembic in an application's own virtual environment, by scripts that go in by standard input."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _alembic_steps,
    _content_manifest,
    _postgres_url,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask, secret_values
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.schema import CannotAsk, find_python, read_environment

#: Options of a module that runs revisions.
ALEMBIC_SPEC: dict[str, Any] = {
    "backend_dir": {"type": "path"},
    "config": {"type": "str", "default": "alembic.ini"},
    "python": {"type": "path"},
    "venvs": {"type": "list", "elements": "str", "default": ["venv", ".venv"]},
}


class StepsError(Exception):
    """Revisions could not be run. The message says which, and why; ``state`` is the SQLSTATE, where there is one."""

    def __init__(self, message: str, state: str = "") -> None:
        super().__init__(message)
        self.state = state


class Steps:
    """Revisions that run in a database of that name on the application's server, and nowhere else.

    It starts at once and loads all it needs; nothing is run before ``finish``. It ends with us, however we end.

    Args:
        params: as ALEMBIC_SPEC has them, and the address as ``url`` or ``env_file`` and ``env_key``.
        database: name of the database.
        direction: ``downgrade`` or ``upgrade``.
        revisions: ids, in the order in which they run.
        heads: what the version table has to be at before; None for whatever it is at.
        before: SQL that runs first, in the same transaction.
        one_transaction: whether to refuse what would leave it, or commit a part of it.
        lock_timeout: milliseconds to wait for a lock; 0 for ever.
    """

    def __init__(
        self,
        params: dict[str, Any],
        database: str,
        direction: str,
        revisions: list[str],
        heads: list[str] | None,
        before: list[str] | None = None,
        one_transaction: bool = False,
        lock_timeout: int = 0,
    ) -> None:
        settings = {
            **_content_manifest.TIMEOUTS,
            "lock_timeout": str(lock_timeout),
            "application_name": "sparklio.rollback",
        }
        self._start(
            params,
            database,
            {
                "mode": "run",
                "config": params["config"],
                "database": database,
                "direction": direction,
                "revisions": revisions,
                "heads": heads,
                "before": before or [],
                "one_transaction": one_transaction,
                "settings": settings,
            },
        )

    def _start(self, params: dict[str, Any], database: str, wanted: dict[str, Any]) -> None:
        backend = params["backend_dir"]
        try:
            if not os.path.isfile(os.path.join(backend, params["config"])):
                raise CannotAsk(f"there is no {params['config']} in {backend}")
            python = find_python(backend, params["python"], params["venvs"])
            variables = read_environment(params["env_file"])
        except CannotAsk as exc:
            raise StepsError(str(exc)) from exc
        url = params["url"] or variables.get(params["env_key"]) or os.environ.get(params["env_key"], "")
        environment = {**os.environ, **variables}
        if url:
            try:
                live = _postgres_url.parse(url).database
            except _postgres_url.UrlError as exc:
                raise StepsError(f"the address of the database can't be used: {exc}") from exc
            # What a service file names would count more than a variable.
            environment.pop("PGSERVICE", None)
            environment.update(_postgres_url.led(environment, live, database))
            environment[params["env_key"]] = _postgres_url.with_database(url, database)
        self.hidden = secret_values(environment)
        self.marker = f"sparklio-{secrets.token_hex(8)}:"
        self.buffer, self.seen = b"", []
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        pipe, self.control = os.pipe()
        try:
            self.process = subprocess.Popen(
                [python, "-", self.marker, str(pipe), json.dumps(wanted)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                cwd=backend,
                env={**environment, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
                pass_fds=(pipe,),
                start_new_session=True,
            )
        except OSError as exc:
            os.close(self.control)
            raise StepsError(f"{python} can't be run ({exc.strerror}); try it by hand") from exc
        finally:
            os.close(pipe)
        with contextlib.suppress(OSError):
            self.process.stdin.write(_alembic_steps.SCRIPT.encode())  # type: ignore[union-attr]
            self.process.stdin.close()  # type: ignore[union-attr]

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait for it. What it had begun is rolled back by the server."""
        with contextlib.suppress(OSError):
            os.close(self.control)
        self.control = -1
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()

    def _next(self, deadline: float) -> dict[str, Any]:
        """The next answer, or raise StepsError."""
        out = self.process.stdout.fileno()  # type: ignore[union-attr]
        while not self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise StepsError("it was not done in time and was stopped; give it a longer deadline")
            block = os.read(out, 1 << 16)
            if not block:
                raise StepsError(f"the application's Python ended early; it said last: {self._last_words()}")
            self.buffer += block
            whole, _newline, self.buffer = self.buffer.rpartition(b"\n")
            self.seen += _alembic_steps.answers(whole.decode("utf-8", "replace").splitlines(), self.marker)
        return self.seen.pop(0)

    def _last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return one_line(mask(lines[-1] if lines else "nothing at all", self.hidden))

    def _answer(
        self,
        deadline: float,
        progress: Callable[[dict[str, Any]], None] | None = None,
        look: Callable[[str, Inside, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        while True:
            answer = self._next(deadline)
            if "at" in answer:
                if look:
                    with Inside(self, deadline) as inside:
                        look(answer["at"], inside, answer["version"])
                self.send(None)
                continue
            if "progress" in answer:
                if progress:
                    progress(answer["progress"])
                continue
            if answer.get("error"):
                raise StepsError(_alembic_steps.failure(answer, self.hidden), answer.get("state") or "")
            return answer

    def ready(self, deadline: float) -> None:
        """Wait until all is loaded, or raise StepsError."""
        self._answer(deadline)

    def send(self, word: str | None) -> None:
        with contextlib.suppress(OSError):
            os.write(self.control, f"{json.dumps(word)}\n".encode())

    def finish(
        self,
        deadline: float,
        progress: Callable[[dict[str, Any]], None] | None = None,
        look: Callable[[str, Inside, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run the revisions, or raise StepsError.

        Args:
            look: with one transaction, is called in it ``before`` the revisions and ``after`` them, with a session and
                the version table. What it raises ends all of it: nothing is committed.

        Returns:
            ``done`` (each revision with its seconds) and ``version`` (``table`` and ``schema`` of the version table).
        """
        os.write(self.control, b".\n")
        return self._answer(deadline, progress, look)


class Inside:
    """The transaction that revisions run in, asked as ``postgres.Session`` is. What is set in it does not stay."""

    def __init__(self, steps: Steps, deadline: float) -> None:
        self.steps, self.deadline = steps, deadline

    def __enter__(self) -> Inside:
        self.ask("SAVEPOINT sparklio_rollback")
        self.ask(_content_manifest.apply_settings())
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.ask("ROLLBACK TO SAVEPOINT sparklio_rollback")
            self.ask("RELEASE SAVEPOINT sparklio_rollback")

    def ask(self, sql: str, seconds: float = 60) -> str:
        self.steps.send(sql)
        return self.steps._answer(min(self.deadline, time.monotonic() + seconds))["answer"]

    def json(self, sql: str, seconds: float = 60) -> Any:
        # As text: drivers differ in what they make of JSON.
        return json.loads(self.ask(f"SELECT ({sql.strip()})::text", seconds))


class OfflineSql(Steps):
    """The SQL of revisions, without a database.

    Args:
        params: as for Steps.
        revisions: ids, in the order in which they would run.
        heads_before: for each of them the heads that the database is at by then.
    """

    def __init__(self, params: dict[str, Any], revisions: list[str], heads_before: list[list[str]]) -> None:
        wanted = {"mode": "sql", "config": params["config"], "direction": "downgrade", "revisions": revisions}
        # A revision may run what it likes beside its SQL: nothing must lead it to what serves.
        self._start(params, "sparklio_no_database", {**wanted, "heads": [], "heads_before": heads_before})

    def read(self, deadline: float) -> tuple[dict[str, str], dict[str, str]]:
        """The SQL of each revision, and why it could not be had of others; or raise StepsError."""
        answer = self._answer(deadline)
        errors = {name: one_line(mask(text, self.hidden)) for name, text in answer["errors"].items()}
        return {name: mask(text, self.hidden) for name, text in answer["sql"].items()}, errors
