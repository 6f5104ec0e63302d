# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs a request to an S3 server by AWS Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit

_EMPTY = hashlib.sha256(b"").hexdigest()


def headers(
    url: str,
    access_key: str,
    secret_key: str,
    region: str,
    at: str,
    method: str = "GET",
    extra: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        url: what is asked, its path encoded as S3 wants it.
        access_key: who asks.
        secret_key: never sent.
        region: of the bucket; servers that are not AWS usually take ``us-east-1``.
        at: time in UTC, as ``20130524T000000Z``.
        method: of HTTP.
        extra: further headers that the signature shall cover, such as ``x-amz-copy-source``; part of what is returned.
        body: what is sent.
    """
    digest = hashlib.sha256(body).hexdigest() if body else _EMPTY
    more = {name.lower(): " ".join(value.split()) for name, value in (extra or {}).items()}
    parts = urlsplit(url)
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    signed = {**more, "host": parts.netloc.rpartition("@")[2], "x-amz-content-sha256": digest, "x-amz-date": at}
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    names = ";".join(sorted(signed))
    request = "\n".join(
        [
            method,
            parts.path or "/",
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            digest,
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in (at[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    proof = f"Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {
        **(extra or {}),
        "X-Amz-Date": at,
        "X-Amz-Content-SHA256": digest,
        "Authorization": f"AWS4-HMAC-SHA256 {proof}",
    }
