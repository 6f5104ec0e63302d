# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with limits on time and size, safe to call from several threads at once.

Ansible's ``open_url`` installs its opener for the whole process, so that threads would share each other's settings:
an opener of our own per request does not. No proxy is used: what is asked is the host's own services.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

PIECE = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """No usable answer. The message says what was asked and what was seen, in one line and without secrets."""


class TooLarge(FetchError):
    """The body has more bytes than were allowed."""


class Response:
    """An answer whose body is still to be read."""

    def __init__(self, asked: str, raw: http.client.HTTPResponse, ends: float, limit: int) -> None:
        self.asked = asked
        self.status: int = raw.status
        self.headers = raw.headers
        self._raw, self._ends, self._limit = raw, ends, limit

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, decompressed where the server compressed it without being asked.

        Raises:
            FetchError: it is larger than the limit, slower than the deadline, in an encoding other than gzip, or
                was cut off.
        """
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise FetchError(f"{self.asked} answered in the encoding {encoding!r}, which was not asked for")
        size = 0
        for piece in self._unzipped() if encoding.endswith("gzip") else self._received():
            size += len(piece)
            if size > self._limit:
                raise TooLarge(f"{self.asked} answered more than {self._limit} bytes")
            yield piece

    def _received(self) -> Iterator[bytes]:
        length: Optional[str] = self.headers.get("Content-Length")
        size = 0
        try:
            while True:
                piece = self._raw.read1(PIECE)
                if not piece:
                    break
                size += len(piece)
                if time.monotonic() > self._ends:
                    raise FetchError(f"{self.asked} did not finish its answer in time ({size} bytes came)")
                yield piece
        except (OSError, http.client.HTTPException) as exc:
            raise FetchError(f"{self.asked} broke off its answer after {size} bytes: {_why(exc)}") from exc
        if length is not None and length.isdigit() and int(length) != size:
            raise FetchError(f"{self.asked} broke off its answer after {size} of {length} bytes")

    def _unzipped(self) -> Iterator[bytes]:
        """Decompress a piece at a time: a few bytes may stand for gigabytes."""
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            for received in self._received():
                while received:
                    yield stream.decompress(received, PIECE)
                    received = stream.unconsumed_tail
            yield stream.flush()
        except zlib.error as exc:
            raise FetchError(f"{self.asked} answered gzip that can't be decompressed: {exc}") from exc
        if not stream.eof:
            raise FetchError(f"{self.asked} broke off its answer in the middle of gzip")

    def body(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.pieces())

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Hands every answer on but redirects: urllib would raise those over 299 and close them."""

    def http_response(self, request, response):
        return super().http_response(request, response) if response.status in REDIRECTS else response

    https_response = http_response


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but logs in nowhere else: urllib would send the credentials to any host that is named."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            following.remove_header("Authorization")
        return following


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Call, and give up after so many seconds.

    A socket's timeout is one for each read, and names are resolved without any. So it takes a thread, one that does
    not keep the program from ending.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as exc:
            outcome.append((None, exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    result, problem = outcome[0]
    if problem is not None:
        raise problem
    return result


def _why(exc: BaseException) -> str:
    reason = getattr(exc, "reason", None) or exc
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return mask(" ".join(str(getattr(reason, "strerror", None) or reason).split())) or type(reason).__name__


def get(
    url: str,
    timeout: float,
    limit: int,
    headers: Mapping[str, str] | None = None,
    validate_certs: bool = True,
    ca_path: str | None = None,
) -> Response:
    """Ask for a URL by GET; otherwise as ``send``."""
    return send("GET", url, timeout, limit, headers, validate_certs, ca_path)


def send(
    method: str,
    url: str,
    timeout: float,
    limit: int,
    headers: Mapping[str, str] | None = None,
    validate_certs: bool = True,
    ca_path: str | None = None,
    body: bytes | None = None,
) -> Response:
    """Send one request, following redirects. An answer with any status is an answer.

    Args:
        method: of HTTP.
        url: http or https.
        timeout: seconds for the whole, connection and body.
        limit: the most bytes that a body may have.
        headers: to send.
        validate_certs: whether the certificate of an https server must be valid.
        ca_path: a file with certificates to trust in place of the system's.
        body: what to send with it.

    Raises:
        FetchError: nothing answered, or the URL is none.
    """
    asked = f"{method} {mask(url)}"
    ends = time.monotonic() + timeout
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError(f"{mask(url)!r} is no URL that begins with http:// or https://")
        try:
            context = ssl.create_default_context(cafile=ca_path)
        except OSError as exc:
            raise FetchError(f"no certificates can be read from {ca_path}: {exc.strerror or exc}") from exc
        if not validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _AnyStatus, _Redirects
        )
        sent = {"User-Agent": "sparklio.rollback", **(headers or {})}
        userinfo, at, host = parts.netloc.rpartition("@")
        if at:
            sent.setdefault("Authorization", "Basic " + base64.b64encode(unquote(userinfo).encode()).decode())
        address = urlunsplit(parts._replace(netloc=host))
        request = urllib.request.Request(address, data=body, headers=sent, method=method)
        seconds = max(0.001, timeout)
        return Response(asked, _within(seconds, lambda: opener.open(request, timeout=seconds)), ends, limit)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FetchError(f"{asked}: {_why(exc)}") from exc
