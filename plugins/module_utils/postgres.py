# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conversations with PostgreSQL by its own programs: one session of psql, and pg_dump and pg_restore that die with us.

There is no driver on the host's own Python, and the application's environment may be the very thing that is broken;
psql comes with pg_dump, which is needed anyway, and is told how to connect in the same way.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _dotenv,
    _postgres,
    _postgres_url,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

#: Where packages put the programs of one version, whatever is on PATH.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
#: Where a server on this host usually keeps its data, when it may not say.
_DATA = ("/var/lib/postgresql", "/var/lib/pgsql", "/opt/homebrew/var", "/usr/local/var")

#: The options that say where the application's database is, and where PostgreSQL's programs.
SPEC: dict[str, Any] = {
    "url": {"type": "str", "no_log": True},
    "env_file": {"type": "path"},
    "env_key": {"type": "str", "default": "DATABASE_URL", "no_log": False},
    "bin_dir": {"type": "path"},
}
#: The options that say who may make databases.
ADMIN_SPEC: dict[str, Any] = {
    "admin_command": {"type": "list", "elements": "str", "default": []},
    "admin_url": {"type": "str", "no_log": True},
}

# Runs a program in this process group, and ends the group when standard input does: with us, however we end.
_LIFELINE = """
import os, signal, subprocess, sys, threading

def watch():
    os.read(0, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
os._exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL) & 255)
"""


#: Who makes and renames databases where the application's role may not, as the end of a message.
CURE = (
    "let somebody do it who may: -e '{\"rollback_database_admin_command\": [sudo, -n, -u, postgres]}' or "
    "rollback_database_admin_url"
)


class PostgresError(Exception):
    """PostgreSQL, or one of its programs, says no. ``state`` is the SQLSTATE, where there is one."""

    def __init__(self, message: str, state: str = "") -> None:
        super().__init__(message)
        self.state = state


def find_target(url: str | None, env_file: str | None, env_key: str) -> _postgres_url.Target:
    """Where the application's database is, from the option or from its environment file, or raise PostgresError."""
    if not url:
        try:
            with open(env_file or "", encoding="utf-8-sig", errors="replace") as file:
                url = _dotenv.parse(file.read()).get(env_key)
        except OSError as exc:
            raise PostgresError(f"the environment file {env_file} can't be read: {exc.strerror}") from exc
        if not url:
            raise PostgresError(f"{env_file} sets no {env_key}; name the variable with the address of the database")
    try:
        return _postgres_url.parse(url)
    except _postgres_url.UrlError as exc:
        raise PostgresError(f"the address of the database can't be used: {exc}") from exc


def environment(target: _postgres_url.Target, database: str | None = None) -> dict[str, str]:
    """The environment of a program that is to connect there, and nowhere else."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") or name in ("PGPASSFILE", "PGSYSCONFDIR", "PGSERVICEFILE")
    }
    return {**kept, **target.environment(database), "LC_ALL": "C", "PGCLIENTENCODING": "UTF8"}


class Tools:
    """PostgreSQL's programs on this host.

    Args:
        directory: where they are; None to look for them.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        if directory:
            places = [directory]
        else:
            # On Debian those on PATH are wrappers that choose a version by themselves: they come last.
            places = [place for pattern in _PLACES for place in sorted(glob.glob(pattern), reverse=True)]
            places += os.environ.get("PATH", "").split(os.pathsep)
        self.places = [place for place in dict.fromkeys(places) if place]

    def psql(self) -> str:
        found = shutil.which("psql", path=os.pathsep.join(self.places))
        if found is None:
            where = f"in {self.directory}" if self.directory else "on PATH, nor where packages put it"
            raise PostgresError(f"psql is missing: it is not {where}. Install PostgreSQL's client programs")
        return found

    def clients(self) -> list[_postgres.Client]:
        found = []
        for place in self.places:
            if all(shutil.which(name, path=place) for name in ("pg_dump", "pg_restore")):
                version = _postgres.version_of(_output([os.path.join(place, "pg_dump"), "--version"]))
                if version:
                    found.append(_postgres.Client(place, version))
        return found

    def for_server(self, server: dict[str, Any]) -> _postgres.Client:
        """The client for a server, or raise PostgresError where there is none that is new enough."""
        clients, major = self.clients(), server["number"] // 10000
        client = _postgres.choose(clients, major)
        if client:
            return client
        where = f" in {self.directory}" if self.directory else ""
        if not clients:
            raise PostgresError(
                f"pg_dump and pg_restore are missing{where}. Install PostgreSQL {major}'s client programs"
            )
        seen = ", ".join(sorted({".".join(map(str, item.version)) for item in clients}))
        raise PostgresError(
            f"pg_dump is older than the server: {seen}{where}, and the server is {server['version']}. Install the "
            f"client of PostgreSQL {major}, or name where they are: -e rollback_postgresql_bin=DIR"
        )


def _output(command: list[str], env: dict[str, str] | None = None, seconds: float = 20) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, env=env, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def can_compress(client: _postgres.Client, method: str) -> bool:
    """Whether its pg_dump was built with that method: it says so before it connects anywhere."""
    with tempfile.TemporaryDirectory() as scratch:
        env = {**os.environ, "PGHOST": scratch, "LC_ALL": "C"}
        said = _output(
            [f"{client.directory}/pg_dump", "-w", "-Fd", f"-Z{method}", "-f", f"{scratch}/probe", "-d", "probe"],
            env,
        )
    return "ompress" not in said and "connection" in said


def knows(client: _postgres.Client, program: str, option: str) -> bool:
    return option in _output([os.path.join(client.directory, program), "--help"])


class Session:
    """One session of psql that lasts, and with it its transaction.

    What psql says is told apart by a word that nobody else knows. Every question has a deadline. One that was left in
    the middle ends the session: its answer is still to come, and would be taken for that to the next question.

    Args:
        command: psql, with what has to stand in front of it.
        env: its environment, which says where to connect.
        secret: what is taken out of messages.
    """

    def __init__(self, command: list[str], env: dict[str, str], secret: str | None = None) -> None:
        self.marker = f"sparklio-{secrets.token_hex(12)}"
        self.hidden = [secret] if secret else []
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self.buffer, self.over = b"", False
        try:
            self.process = subprocess.Popen(
                [*command, "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-v", "VERBOSITY=terse"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=env,
                start_new_session=True,
            )
        except OSError as exc:
            self.errors.close()
            raise PostgresError(f"{command[0]} can't be run: {exc.strerror}") from exc

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.stop()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()

    def stop(self) -> None:
        """End it in the middle of a question: the server is asked to stop, and psql killed."""
        self.over = True
        for number in (signal.SIGINT, signal.SIGKILL):
            # What sudo runs may not be ours to end; it ends with its input.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
                return

    def ask(self, sql: str, seconds: float = 60) -> str:
        """Run one statement and return what it answers, or raise PostgresError."""
        if self.over:
            raise PostgresError("the session with the database was ended in the middle of a question")
        mark = self.marker
        text = (
            f"{sql}\n;\n\\echo {mark}-state :ERROR :SQLSTATE\n\\if :ERROR\n\\echo :LAST_ERROR_MESSAGE\n\\endif\n"
            f"\\echo {mark}-end\n"
        )
        try:
            answer = self._exchange(text, f"{mark}-end\n".encode(), seconds)
        except BaseException:
            self.stop()
            raise
        body, _mark, rest = answer.partition(f"{mark}-state ")
        state, _newline, message = rest.partition("\n")
        failed, _blank, code = state.partition(" ")
        if failed != "false":
            raise PostgresError(one_line(mask(message, self.hidden)) or "it failed without a message", code)
        return body.rstrip("\n")

    def json(self, sql: str, seconds: float = 60) -> Any:
        return json.loads(self.ask(sql, seconds))

    def _exchange(self, text: str, end: bytes, seconds: float) -> str:
        try:
            self.process.stdin.write(text.encode())  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except (OSError, ValueError):
            raise self._gone() from None
        return self._until(end, time.monotonic() + seconds, seconds)

    def _until(self, end: bytes, deadline: float, seconds: float) -> str:
        out = self.process.stdout.fileno()  # type: ignore[union-attr]
        searched = 0
        while True:
            at = self.buffer.find(end, max(0, searched - len(end)))
            if at >= 0 and (at == 0 or self.buffer[at - 1 : at] == b"\n"):
                found, self.buffer = self.buffer[:at], self.buffer[at + len(end) :]
                return found.decode("utf-8", "replace")
            searched = len(self.buffer)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise PostgresError(f"the database gave no answer within {seconds:.0f} s")
            block = os.read(out, 1 << 16)
            if not block:
                raise self._gone()
            self.buffer += block

    def _gone(self) -> PostgresError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.errors.seek(0)
        said = [line for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return PostgresError(one_line(mask(" ".join(said[-4:]), self.hidden)) or "psql ended without a message")


def connect(tools: Tools, target: _postgres_url.Target, database: str | None = None) -> Session:
    """Open a session with the settings that a content manifest wants, or raise PostgresError."""
    session = Session([tools.psql()], environment(target, database), target.password)
    try:
        # By itself, and first: a role's own timeout may be shorter than all the others take.
        session.ask("SET statement_timeout = 0", 30)
        session.ask(_content_manifest.apply_settings(), 30)
    except BaseException:
        session.close()
        raise
    return session


def admin_session(params: dict[str, Any], tools: Tools, target: Any, database: str) -> Session:
    """A session of somebody who may make databases: of the application's own role where nobody else is named."""
    command, env, secret = admin_psql(params, tools, target, database)
    session = Session(command, env, secret)
    try:
        session.ask(_content_manifest.apply_settings(), 30)
    except PostgresError as exc:
        session.close()
        if params["admin_command"] and not params["admin_url"]:
            raise PostgresError(f"{' '.join(params['admin_command'])} psql: {exc}") from exc
        raise
    return session


def admin_psql(
    params: dict[str, Any], tools: Tools, target: Any, database: str
) -> tuple[list[str], dict[str, str], str | None]:
    """psql as somebody who may make databases: its command, its environment, and what to hide of it."""
    if params["admin_url"]:
        try:
            target = _postgres_url.parse(params["admin_url"])
        except _postgres_url.UrlError as exc:
            raise PostgresError(f"admin_url can't be used: {exc}") from exc
    elif params["admin_command"]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return [*params["admin_command"], "psql", "-d", database], {**env, "LC_ALL": "C"}, None
    return [tools.psql()], environment(target, database), target.password


#: What a client of version 17 begins with, and an older server does not know.
_UNKNOWN = b"\nSET transaction_timeout = 0;\n"


def pipe(
    source: list[str],
    command: list[str],
    env: dict[str, str],
    secret: str | None,
    deadline: float,
    number: int,
) -> None:
    """Let psql run in one transaction what a program writes, or raise PostgresError.

    Args:
        source: the program. It is not connected anywhere.
        command: psql, with what has to stand in front of it.
        env: psql's environment, which says where to connect.
        secret: what is taken out of messages.
        deadline: by the monotonic clock.
        number: version number of the server.
    """
    with tempfile.TemporaryFile() as said:
        options = {"stderr": said, "start_new_session": True}
        writer = subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
        psql = subprocess.Popen(
            [*command, "-X", "-q", "-w", "-1", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "env": env},
            **options,
        )

        def carry() -> None:
            with contextlib.suppress(OSError), writer.stdout, psql.stdin:  # type: ignore[union-attr]
                head = writer.stdout.read(1 << 16)  # type: ignore[union-attr]
                psql.stdin.write(head if number >= 170000 else head.replace(_UNKNOWN, b"\n", 1))  # type: ignore[union-attr]
                shutil.copyfileobj(writer.stdout, psql.stdin, 1 << 20)  # type: ignore[arg-type]

        threading.Thread(target=carry, daemon=True).start()
        try:
            codes = [process.wait(max(0.1, deadline - time.monotonic())) for process in (psql, writer)]
        except subprocess.TimeoutExpired:
            raise PostgresError("psql was not done in time and was stopped; give it a longer deadline") from None
        finally:
            for process in (psql, writer):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if any(codes):
            said.seek(0)
            lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
            raise PostgresError(one_line(mask(" ".join(lines[:3]), [secret] if secret else [])) or "psql failed")


def same_server(who: dict[str, Any], server: dict[str, Any]) -> None:
    """Raise PostgresError where two sessions, that answered SERVER, are not on one server."""
    if who["system"] != server["system"]:
        raise PostgresError("the administrator's connection leads to another server than the application's")


class Child:
    """A program that ends with us, with all that it started, however we end.

    Args:
        command: what to run.
        env: its environment.
        secret: what is taken out of messages.
    """

    def __init__(self, command: list[str], env: dict[str, str], secret: str | None = None) -> None:
        self.name = os.path.basename(command[0])
        self.hidden = [secret] if secret else []
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        self.seen = 0
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LIFELINE, *command],
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )

    def wait(self, deadline: float, tick: Callable[[], None] | None = None, every: float = 1.0) -> None:
        """Wait until it has ended well, or raise PostgresError. ``tick`` is called now and then, and may raise."""
        due = time.monotonic() + every
        try:
            while True:
                try:
                    code = self.process.wait(0.05)
                    break
                except subprocess.TimeoutExpired:
                    pass
                now = time.monotonic()
                if now > deadline:
                    raise PostgresError(f"{self.name} was not done in time and was stopped; give it a longer deadline")
                if tick and now >= due:
                    due = now + every
                    tick()
            if code:
                raise PostgresError(self._why(code))
        finally:
            self.stop()

    def lines(self) -> list[str]:
        """What it said since this was asked last, whole lines only."""
        said = os.pread(self.said.fileno(), 1 << 20, self.seen)
        whole = said[: said.rfind(b"\n") + 1]
        self.seen += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def all_lines(self) -> list[str]:
        """All that it said."""
        self.said.seek(0)
        return self.said.read().decode("utf-8", "replace").splitlines()

    def _why(self, code: int) -> str:
        lines = self.all_lines()
        wrong = [line for line in lines if "error:" in line or "fatal:" in line.lower() or "detail:" in line]
        text = one_line(mask(" ".join(wrong or lines[-3:]), self.hidden))
        return text or f"{self.name} ended with exit code {code} and no message"

    def stop(self) -> None:
        """End the whole group, and wait for it."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]


class Beside(threading.Thread):
    """Work beside other work. ``result()`` hands out what it came to, or raises what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work, self.value, self.error = work, None, None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.work()
        except BaseException as exc:
            self.error = exc

    def check(self, seconds: float = 0) -> None:
        """Raise what it has raised so far, or raises within that time."""
        self.join(seconds)
        if self.error:
            raise self.error

    def result(self) -> Any:
        self.join()
        self.check()
        return self.value


def read_content(
    session: Session,
    server: dict[str, Any],
    tables: list[dict[str, Any]],
    hashed: bool,
    deadline: float,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Read what the database holds in the session's own transaction, or raise PostgresError."""

    def left() -> float:
        return max(1.0, deadline - time.monotonic())

    try:
        large_objects = session.json(_content_manifest.LARGE_OBJECTS, left()) if hashed else None
        for table in tables:
            question = _content_manifest.content_of(table, hashed, server["number"] >= 140000)
            table.update(session.json(question, left()))
        sequences = session.json(_content_manifest.SEQUENCES, left())
        extensions = session.json(_content_manifest.EXTENSIONS)
        objects = session.json(_content_manifest.OBJECTS)
    except PostgresError as exc:
        raise PostgresError(f"what the database holds can't be read: {exc}", exc.state) from exc
    return _content_manifest.manifest(server, tables, sequences, large_objects, extensions, objects, settings)


def copy_rows(
    tools: Tools,
    target: _postgres_url.Target,
    source: str,
    reading: list[str],
    writing: tuple[str, str],
    deadline: float,
) -> None:
    """Copy rows from one database to another in one transaction, or raise PostgresError and leave nothing.

    The writer's transaction ends by the statement that follows the rows. That is only sent when the reader ended well:
    whatever is cut off before, even by our own death, is rolled back.

    Args:
        source: name of the database that is read.
        reading: statements that write the rows to standard output.
        writing: what stands in front of the rows, and what follows them.
    """
    psql = [tools.psql(), "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
    asked = [part for statement in reading for part in ("-c", statement)]
    with tempfile.TemporaryFile() as read_errors, tempfile.TemporaryFile() as write_errors:
        reader = subprocess.Popen(
            [*psql, *asked],
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": read_errors},
            env=environment(target, source),
        )
        writer = subprocess.Popen(
            psql,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": write_errors},
            env=environment(target),
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            reader.kill()
            writer.kill()

        timer = threading.Timer(max(0.1, deadline - time.monotonic()), stop)
        timer.start()
        try:
            complete = _transfer(reader, writer, writing)
        finally:
            timer.cancel()
            for process in (reader, writer):
                if process.poll() is None:
                    process.kill()
                process.wait()
        if complete:
            return
        if late.is_set():
            raise PostgresError("it was not done in time and was stopped; give it a longer deadline")
        errors = read_errors if reader.returncode not in (0, -9, -13) else write_errors
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
        hidden = [target.password] if target.password else []
        raise PostgresError(one_line(mask(said, hidden)) or "psql ended without a message")


def _transfer(reader: subprocess.Popen, writer: subprocess.Popen, writing: tuple[str, str]) -> bool:
    """Pass the rows on. Returns whether both ended well."""
    rows, to = reader.stdout, writer.stdin
    try:
        to.write(writing[0].encode())
        for block in iter(lambda: rows.read(1 << 18), b""):
            to.write(block)
        if reader.wait():
            writer.kill()
            return False
        to.write(writing[1].encode())
        to.close()
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            to.close()
        writer.wait()
        return False
    return writer.wait() == 0


def free(path: str) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def data_directory(server: dict[str, Any], local: bool) -> str | None:
    """Where the server keeps its data, where that is on this host and known."""
    for place in (server["data_directory"], *_DATA):
        if local and place and os.path.exists(place):
            return place
    return None


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Let a signal that ends us be an exception, so that what was begun is taken back."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
