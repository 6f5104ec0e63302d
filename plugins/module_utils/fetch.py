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
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Optional
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

PIECE = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """No usable answer. The message says what was asked and what was seen, in one line and without secrets."""


class Response:
    """An answer whose body is still to be read."""

    def __init__(self, asked: str, raw: http.client.HTTPResponse, ends: float, limit: int) -> None:
        self.asked = asked
        self.status: int = raw.status
        self.headers = raw.headers
        self._raw, self._ends, self._limit = raw, ends, limit

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises:
            FetchError: it is larger than the limit, slower than the deadline, compressed, or was cut off.
        """
        encoding = self.headers.get("Content-Encoding", "identity")
        if encoding not in ("identity", ""):
            raise FetchError(f"{self.asked} answered in the encoding {encoding!r}, which was not asked for")
        length: Optional[str] = self.headers.get("Content-Length")
        size = 0
        try:
            while True:
                piece = self._raw.read1(PIECE)
                if not piece:
                    break
                size += len(piece)
                if size > self._limit:
                    raise FetchError(f"{self.asked} answered more than {self._limit} bytes")
                if time.monotonic() > self._ends:
                    raise FetchError(f"{self.asked} did not finish its answer in time ({size} bytes came)")
                yield piece
        except (OSError, http.client.HTTPException) as exc:
            raise FetchError(f"{self.asked} broke off its answer after {size} bytes: {_why(exc)}") from exc
        if length is not None and length.isdigit() and int(length) != size:
            raise FetchError(f"{self.asked} broke off its answer after {size} of {length} bytes")

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
        context = ssl.create_default_context(cafile=ca_path)
        if not validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _AnyStatus
        )
        sent = {"User-Agent": "sparklio.rollback", **(headers or {})}
        userinfo, at, host = parts.netloc.rpartition("@")
        if at:
            sent.setdefault("Authorization", "Basic " + base64.b64encode(unquote(userinfo).encode()).decode())
        address = urlunsplit(parts._replace(netloc=host))
        request = urllib.request.Request(address, data=body, headers=sent, method=method)
        return Response(asked, opener.open(request, timeout=max(0.001, timeout)), ends, limit)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FetchError(f"{asked}: {_why(exc)}") from exc
