# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of Redis' protocol (RESP2) as it takes to log in, ask something short, and take a copy of all data.

Source: Redis documentation, "Redis serialization protocol specification"; addresses as in redis-py's ``from_url``.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple, Optional
from urllib.parse import parse_qs, unquote, urlsplit

MAX_REPLY = 1 << 16


class UrlError(ValueError):
    """The address can't be read. The message does not repeat it, since it may hold a password."""


class NoAnswer(Exception):
    """The server can't be reached, or broke off."""


class Refused(Exception):
    """The server answered with an error."""


class Target(NamedTuple):
    """Where a Redis is, and how to log in."""

    scheme: str
    host: str
    port: int
    path: str
    username: Optional[str]
    password: Optional[str]
    database: int

    @property
    def shown(self) -> str:
        """The address without credentials."""
        if self.scheme == "unix":
            return f"unix://{self.path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"


def parse_url(url: str) -> Target:
    """Read the address of a Redis."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError
        number = query.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
        database = int(number)
    except ValueError:
        raise UrlError(
            "the address of Redis can't be read; expected redis://[user]:password@host:port/database "
            "(rediss:// for TLS, unix:// for a socket), with special characters of the password percent-encoded"
        ) from None
    return Target(
        scheme=parts.scheme,
        host=parts.hostname or "localhost",
        port=port,
        path=unquote(parts.path),
        username=unquote(parts.username) if parts.username else query.get("username"),
        password=unquote(parts.password) if parts.password else query.get("password"),
        database=database,
    )


def encode(*words: str) -> bytes:
    """Return a command as an array of bulk strings, in which no byte has a meaning of its own."""
    raw = [word.encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


class Connection:
    """One connection, opened on entering."""

    def __init__(self, target: Target, timeout: float, validate_certs: bool = True, ca_path: str | None = None) -> None:
        self._target, self._timeout = target, timeout
        self._validate, self._ca_path = validate_certs, ca_path
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> Connection:
        try:
            if self._target.scheme == "unix":
                plain = socket.socket(socket.AF_UNIX)
                plain.settimeout(self._timeout)
                plain.connect(self._target.path)
            else:
                plain = socket.create_connection((self._target.host, self._target.port), self._timeout)
            self._socket = plain
            if self._target.scheme == "rediss":
                context = ssl.create_default_context(cafile=self._ca_path)
                if not self._validate:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                self._socket = context.wrap_socket(plain, server_hostname=self._target.host)
        except OSError as exc:
            self.close()
            raise NoAnswer(_why(exc)) from exc
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()

    def login(self) -> None:
        """Log in and select the database, as far as the address asks for it."""
        if self._target.password is not None:
            user = [self._target.username] if self._target.username else []
            self.call("AUTH", *user, self._target.password)
        if self._target.database:
            self.call("SELECT", str(self._target.database))

    def call(self, *words: str) -> str:
        """Send a command and return its simple answer.

        Raises:
            Refused: the server answered with an error; the message is its own, which repeats no argument of AUTH.
            NoAnswer: it did not answer in time, or not in this protocol.
        """
        kind, rest = self._ask(*words)
        if kind != b"+":
            raise NoAnswer("what listens there does not answer as Redis does")
        return rest.decode("utf-8", "replace")

    def text(self, *words: str) -> str:
        """Send a command and return its text of several lines, such as that of INFO. Raises as ``call``."""
        kind, rest = self._ask(*words)
        if kind != b"$" or not rest.isdigit() or int(rest) > MAX_REPLY:
            raise NoAnswer("what listens there does not answer as Redis does")
        size = int(rest) + 2
        try:
            while len(self._buffer) < size:
                self._buffer += self._receive(size - len(self._buffer))
        except OSError as exc:
            raise NoAnswer(_why(exc)) from exc
        found, self._buffer = self._buffer[: size - 2], self._buffer[size:]
        return found.decode("utf-8", "replace")

    def snapshot(self, begin: Callable[[int], None], write: Callable[[bytes], object], seconds: float) -> int:
        """Have the server make a copy of all its data and send it, as it does for a replica. Returns its size.

        The server forks and goes on serving. Nothing can be asked on this connection afterwards.

        Args:
            begin: called with the size before the first byte comes.
            write: called with each piece.
            seconds: for the whole.

        Raises:
            Refused: the server makes none for this user, or not now.
            NoAnswer: it broke off, or did not finish in time.
        """
        ends = time.monotonic() + seconds
        # Its writes meanwhile are not wanted, so it need not keep them. Unknown before Redis 6.2.
        with contextlib.suppress(Refused):
            self.call("REPLCONF", "rdb-only", "1")
        # Without "capa eof" the server does not wait for further replicas, and says the size first.
        kind, rest = self._ask("SYNC")
        if kind != b"$" or not rest.isdigit():
            raise NoAnswer("what listens there does not answer SYNC as Redis does")
        size = left = int(rest)
        begin(size)
        try:
            while left:
                piece = self._buffer[:left] or self._receive(min(left, 1 << 20))
                self._buffer = self._buffer[len(piece) :]
                write(piece)
                left -= len(piece)
                if time.monotonic() > ends:
                    raise NoAnswer(f"it did not finish in {seconds:.0f} s ({size - left} of {size} bytes came)")
        except (socket.timeout, ConnectionError) as exc:
            raise NoAnswer(f"{_why(exc)} ({size - left} of {size} bytes came)") from exc
        return size

    def _ask(self, *words: str) -> tuple[bytes, bytes]:
        """Send a command and return kind and rest of the first line of its answer."""
        if self._socket is None:
            raise NoAnswer("not connected")
        try:
            self._socket.sendall(encode(*words))
            # While it prepares a snapshot, the server sends line feeds as a sign of life.
            line = self._line().lstrip(b"\n")
        except OSError as exc:
            raise NoAnswer(_why(exc)) from exc
        if line[:1] == b"-":
            text = line[1:].decode("utf-8", "replace")
            # What follows the code could quote a secret on some other server than Redis.
            for secret in (self._target.password, *words[1:]):
                text = text.replace(secret, "***") if secret and len(secret) > 3 else text
            raise Refused(text)
        return line[:1], line[1:]

    def _receive(self, size: int) -> bytes:
        if self._socket is None:
            raise NoAnswer("there is no connection")
        piece = self._socket.recv(size)
        if not piece:
            raise ConnectionResetError("the connection was closed in the middle of an answer")
        return piece

    def _line(self) -> bytes:
        if self._socket is None:
            raise NoAnswer("there is no connection")
        while b"\r\n" not in self._buffer:
            piece = self._socket.recv(4096)
            if not piece:
                raise NoAnswer("the connection was closed without an answer")
            self._buffer += piece
            if len(self._buffer) > MAX_REPLY:
                raise NoAnswer("what listens there does not answer as Redis does")
        line, _end, self._buffer = self._buffer.partition(b"\r\n")
        return line


def _why(exc: OSError) -> str:
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return exc.strerror or str(exc)
