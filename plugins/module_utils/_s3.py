# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an S3 server answers, and how the snapshot of a bucket is named and compared. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest

_SNAPSHOT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]*-backup-\d{{8}}t\d{{6}}z-(?:{'|'.join(_manifest.KINDS)})(?:-\d+)?")


class Object(NamedTuple):
    """One object of a bucket."""

    key: str
    size: int
    etag: str


class Copied(NamedTuple):
    """One object that was copied, and what the copy has to be. Without ETag, that is not compared."""

    source: Object
    copy: Object


class Listing(NamedTuple):
    """One page of a bucket's objects; ``more`` asks for the next one."""

    objects: list[Object]
    more: Optional[str]


def _text(element: ET.Element, name: str) -> str:
    found = element.find(f"{{*}}{name}")
    return (found.text or "") if found is not None else ""


def parse_listing(body: bytes) -> Listing:
    """Parse the answer to ``list-type=2``. Raises ValueError where it is none.

    Names come encoded where the server heeds ``encoding-type=url``, so that any byte survives the XML.
    """
    try:
        root = ET.fromstring(body)
    except ET.ParseError as exc:
        raise ValueError(f"no list of objects: {exc}") from exc
    if not root.tag.endswith("ListBucketResult"):
        raise ValueError("no list of objects")
    decode = unquote_plus if _text(root, "EncodingType") == "url" else str
    objects = [
        Object(decode(_text(item, "Key")), int(_text(item, "Size") or 0), _text(item, "ETag").strip('"'))
        for item in root.iterfind("{*}Contents")
    ]
    more = _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else ""
    return Listing(objects, more or None)


def error_code(body: bytes) -> str | None:
    """The code of an error's XML, such as ``NoSuchKey``, or None. A copy can fail with status 200."""
    match = re.search(rb"<Error>.*?<Code>(\w+)</Code>", body, re.DOTALL)
    return match[1].decode() if match else None


def copied_etag(body: bytes) -> str:
    """The ETag in the answer to a copy, or nothing."""
    match = re.search(rb"<ETag>(?:\"|&quot;|&#34;)?([\w-]+)", body)
    return match[1].decode() if match else ""


def hides_md5(headers: Mapping[str, str]) -> bool:
    """Whether an object's ETag has nothing to do with its MD5: it is encrypted with a key of KMS or of the client.

    Args:
        headers: of an answer about the object, by whichever case.
    """
    names = {name.lower(): value for name, value in headers.items()}
    kind = names.get("x-amz-server-side-encryption", "")
    return kind.startswith("aws:kms") or "x-amz-server-side-encryption-customer-algorithm" in names


def location(region: str) -> bytes:
    """What is sent to make a bucket in a region. AWS wants it everywhere but in its first, and not there."""
    if region in ("", "us-east-1"):
        return b""
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>'
        f"{escape(region)}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


def snapshot_bucket(bucket: str, point_id: str) -> str:
    """Name of the bucket that holds a restore point's objects: at most 63 characters, all of them small."""
    suffix = f"-backup-{point_id.lower()}"
    return bucket[: 63 - len(suffix)].rstrip("-.") + suffix


def is_snapshot(bucket: str) -> bool:
    """Whether a bucket has the name of one that holds a restore point's objects."""
    return _SNAPSHOT.fullmatch(bucket) is not None


def differences(wanted: Iterable[Object], found: Iterable[Object]) -> list[str]:
    """Return the keys of objects that the copy lacks, or has otherwise, sorted.

    The ETag of an object that came in parts says how many there were, so it can differ from that of its copy.
    """
    copies: Mapping[str, Object] = {item.key: item for item in found}
    wrong = []
    for item in wanted:
        copy = copies.get(item.key)
        if (
            copy is None
            or copy.size != item.size
            or ("-" not in item.etag + copy.etag and item.etag and copy.etag != item.etag)
        ):
            wrong.append(item.key)
    return sorted(wrong)
