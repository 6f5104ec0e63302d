# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain S3, with the application's own keys and nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv, _s3, _sigv4
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

ENV_KEYS = {
    "endpoint": ["S3_ENDPOINT", "S3_ENDPOINT_URL", "MINIO_ENDPOINT", "AWS_ENDPOINT_URL"],
    "access_key": ["S3_ACCESS_KEY", "MINIO_ACCESS_KEY", "AWS_ACCESS_KEY_ID"],
    "secret_key": ["S3_SECRET_KEY", "MINIO_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"],
    "bucket": ["S3_BUCKET", "MINIO_BUCKET", "S3_BUCKET_NAME", "MINIO_BUCKET_NAME"],
    "region": ["S3_REGION", "MINIO_REGION", "AWS_REGION"],
}
#: The options that say where the object store is, and with which of the application's variables.
SPEC: dict[str, Any] = {
    "env_file": {"type": "path", "required": True},
    "endpoint": {"type": "str"},
    "bucket": {"type": "str", "default": "sparklio-assets"},
    "region": {"type": "str", "default": "us-east-1"},
    "env_keys": {
        "type": "dict",
        "default": {},
        # The names of the variables, not what they hold.
        "no_log": False,
        "options": {
            name: {"type": "list", "elements": "str", "default": usual, "no_log": False}
            for name, usual in ENV_KEYS.items()
        },
    },
}
#: A server copies no larger object in one request.
MAX_COPY = 5 << 30
_MOST_ANSWER = 64 << 20
_TRIES = 4


class S3Error(Exception):
    """The object store says no, or nothing. ``code`` is S3's, empty where nothing answered.

    ``maybe_done``: the same request was sent before, and nobody knows what came of that.
    """

    def __init__(self, message: str, code: str = "", maybe_done: bool = False) -> None:
        super().__init__(message)
        self.code, self.maybe_done = code, maybe_done


def read_settings(params: dict[str, Any]) -> dict[str, str]:
    """Return the settings that are known, by the names of ``env_keys``.

    Raises:
        OSError: the file can't be read.
    """
    with open(params["env_file"], encoding="utf-8-sig", errors="replace") as file:
        variables = _dotenv.parse(file.read())
    found = {"bucket": params["bucket"], "region": params["region"]}
    for setting, names in params["env_keys"].items():
        value = next((variables[name] for name in names if variables.get(name)), None)
        if value:
            found[setting] = value
    if params["endpoint"]:
        found["endpoint"] = params["endpoint"]
    if "endpoint" in found and "://" not in found["endpoint"]:
        found["endpoint"] = f"http://{found['endpoint']}"
    return found


class Store:
    """One object store. Safe to use from several threads: each has a connection of its own, which is kept.

    Args:
        settings: ``endpoint``, ``access_key``, ``secret_key`` and ``region``.
        timeout: seconds that each answer may take.
    """

    def __init__(
        self, settings: Mapping[str, str], timeout: float, validate_certs: bool = True, ca_path: Optional[str] = None
    ) -> None:
        self._settings, self._timeout = settings, timeout
        self.shown = mask(settings["endpoint"].rstrip("/"))
        self._parts = urlsplit(settings["endpoint"].rstrip("/"))
        self._context = None
        if self._parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca_path)
            if not validate_certs:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        self._local = threading.local()

    def _connection(self) -> http.client.HTTPConnection:
        found = getattr(self._local, "connection", None)
        if found is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._context:
                found = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
            else:
                found = http.client.HTTPConnection(host, port, timeout=self._timeout)
            self._local.connection = found
        return found

    def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """Send a request and return headers and body of its answer, or raise S3Error.

        What fails for a reason that may pass is sent anew. So only what can be sent twice may be sent by this.
        """
        path = f"{self._parts.path}/{quote(bucket)}" + (f"/{quote(key, safe='/-_.~')}" if key else "")
        target = path + (f"?{urlencode(sorted((query or {}).items()), quote_via=quote, safe='-_.~')}" if query else "")
        url = f"{self._parts.scheme}://{self._parts.netloc.rpartition('@')[2]}{target}"
        problem, maybe_done = S3Error("no answer"), False
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(0.2 * 2**attempt)
            at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            keys = self._settings
            headers = _sigv4.headers(
                url, keys["access_key"], keys["secret_key"], keys["region"], at, method, extra, body
            )
            try:
                connection = self._connection()
                connection.request(method, target, body or None, headers)
                response = connection.getresponse()
                answer = response.read(_MOST_ANSWER)
            except (OSError, http.client.HTTPException) as exc:
                self._local.connection = None
                why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
                problem = S3Error(f"{self.shown} gave no answer: {why}", maybe_done=maybe_done)
                if isinstance(exc, ConnectionRefusedError):
                    break
                maybe_done = True
                continue
            code = _s3.error_code(answer)
            if response.status < 300 and code is None:
                return response.headers, answer
            code = code or str(response.status)
            told = f"{self.shown} answered {response.status} ({code}) to {method} in bucket {bucket}"
            problem = S3Error(told, code, maybe_done)
            if response.status < 500 and code not in ("SlowDown", "InternalError"):
                break
            maybe_done = maybe_done or code != "SlowDown"
        raise problem

    def objects(self, bucket: str, prefix: str = "") -> Iterator[_s3.Object]:
        """Yield all objects of a bucket whose names begin with the prefix."""
        more: Optional[str] = None
        while True:
            query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
            _headers, body = self.request(
                "GET", bucket, query={**query, **({"continuation-token": more} if more else {})}
            )
            try:
                page = _s3.parse_listing(body)
            except ValueError as exc:
                raise S3Error(f"{self.shown} answered {exc}, when asked for those of bucket {bucket}") from exc
            yield from page.objects
            if page.more is None:
                return
            more = page.more

    def has(self, bucket: str) -> bool:
        """Whether there is a bucket of that name."""
        try:
            next(self.objects(bucket), None)
        except S3Error as exc:
            if exc.code in ("NoSuchBucket", "404"):
                return False
            raise
        return True

    def create(self, bucket: str) -> None:
        """Make a bucket, in the region of the settings, or raise S3Error, also where it is there already.

        But where it may be what this call made itself, by an attempt whose answer got lost, and is empty, all is well.
        """
        body = _s3.location(self._settings["region"])
        try:
            self.request("PUT", bucket, body=body)
        except S3Error as exc:
            if exc.code == "InvalidLocationConstraint" and body:
                # Such as Ceph, whose places have names of their own, and which has one that it takes by itself.
                self.request("PUT", bucket)
            elif not (exc.code == "BucketAlreadyOwnedByYou" and exc.maybe_done and self._is_empty(bucket)):
                raise

    def _is_empty(self, bucket: str) -> bool:
        return next(self.objects(bucket), None) is None

    def copy(self, source: str, item: _s3.Object, bucket: str) -> Optional[_s3.Copied]:
        """Have the server copy one object, with its type and metadata. Returns what was copied, and what it has to be.

        An object that was replaced since it was listed is copied as it is now; None is for one that was deleted.
        """
        if item.size > MAX_COPY:
            raise S3Error(
                f"an object of {item.size} bytes is in bucket {source}, and a server copies {MAX_COPY} at the most. "
                "Leave its folder out by rollback_objects_prefixes"
            )
        place = f"/{quote(source)}/{quote(item.key, safe='/-_.~')}"
        for last in (False, True):
            extra = {"x-amz-copy-source": place, "x-amz-copy-source-if-match": f'"{item.etag}"'}
            try:
                headers, answer = self.request("PUT", bucket, item.key, extra=extra)
                return _s3.Copied(item, self._to_be(source, item, headers, answer))
            except S3Error as exc:
                if exc.code in ("NoSuchKey", "404"):
                    return None
                if exc.code not in ("PreconditionFailed", "412") or last:
                    raise
            now = self.head(source, item.key)
            if now is None:
                return None
            item = now
        return None

    def _to_be(self, source: str, item: _s3.Object, headers: http.client.HTTPMessage, answer: bytes) -> _s3.Object:
        """What the copy of an object has to be: the same, but without ETag where encryption makes that another one."""
        etag = _s3.copied_etag(answer)
        if etag == item.etag or "-" in etag + item.etag:
            return item
        hidden = _s3.hides_md5(headers)
        if not hidden:
            with _gone_is_well():
                hidden = _s3.hides_md5(self.request("HEAD", source, item.key)[0])
        return item._replace(etag="") if hidden else item

    def head(self, bucket: str, key: str) -> Optional[_s3.Object]:
        """What an object is now, or None."""
        try:
            headers, _body = self.request("HEAD", bucket, key)
        except S3Error as exc:
            if exc.code in ("NoSuchKey", "404"):
                return None
            raise
        return _s3.Object(key, int(headers["Content-Length"]), headers.get("ETag", "").strip('"'))

    def delete(self, bucket: str, key: str) -> None:
        with _gone_is_well():
            self.request("DELETE", bucket, key)

    def remove(self, bucket: str) -> None:
        """Remove an empty bucket."""
        with _gone_is_well():
            self.request("DELETE", bucket)


@contextlib.contextmanager
def _gone_is_well() -> Iterator[None]:
    try:
        yield
    except S3Error as exc:
        if exc.code not in ("NoSuchKey", "NoSuchBucket", "404"):
            raise
