# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of Redis' protocol (RESP2) as it takes to log in and ask something short.

Source: Redis documentation, "Redis serialization protocol specification"; addresses as in redis-py's ``from_url``.
"""

from __future__ import annotations

import socket
import ssl
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
        if self._socket is None:
            raise NoAnswer("not connected")
        try:
            self._socket.sendall(encode(*words))
            line = self._line()
        except OSError as exc:
            raise NoAnswer(_why(exc)) from exc
        kind, text = line[:1], line[1:].decode("utf-8", "replace")
        if kind == b"-":
            # What follows the code could quote a secret on some other server than Redis.
            for secret in (self._target.password, *words[1:]):
                text = text.replace(secret, "***") if secret and len(secret) > 3 else text
            raise Refused(text)
        if kind != b"+":
            raise NoAnswer("what listens there does not answer as Redis does")
        return text

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
