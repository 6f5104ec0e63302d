# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a restore point: what it holds, and what may be believed of it. See docs/restore-points.md."""

from __future__ import annotations

import base64
import json
import math
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: The newest version that can be read, and the one that is written.
VERSION = 1
KINDS = ("deploy", "level1", "level2", "level3", "level4", "manual")
#: In place of an id: the newest whole one that was made to go back to, not by a rollback of what it went away from.
NEWEST = "newest"
_TO_GO_BACK_TO = ("deploy", "manual")
#: Levels that put other environment files in place of those that they keep. Levels 1 and 3 leave them as they are.
_LEFT_BEHIND = ("level2", "level4")
_ID = re.compile(rf"\d{{8}}T\d{{6}}Z-(?:{'|'.join(KINDS)})(?:-\d+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "kind": str,
    "made_at": str,
    "release": dict,
    "artifacts": list,
    "skipped": list,
}
#: What further fields have to be, by name; where one may be missing, that is the same as none.
_TEXT, _NUMBER, _TABLE = ((str,), "a text"), ((int, float), "a number"), ((dict,), "a JSON object")
_MAY_TEXT, _MAY_COUNT = ((str, type(None)), "a text or null"), ((int, type(None)), "a whole number or null")
_RUN = {"commit": _MAY_TEXT, "tag": _MAY_TEXT, "branch": _MAY_TEXT}
_ABOUT = {"made_by": _MAY_TEXT, "message": _MAY_TEXT, "host": _MAY_TEXT, "backup_tag": _MAY_TEXT}
_SKIPPED = {"name": _TEXT, "reason": _TEXT}
_VERIFIED = {"at": _TEXT, "how": _TEXT, "result": _TEXT, "seconds": _NUMBER}
_ARTIFACT = {"type": _TEXT, "size": ((int,), "a whole number"), "seconds": _NUMBER, "meta": _TABLE}
_ENVIRONMENT = {
    "target": _TEXT,
    "mode": _MAY_TEXT,
    "uid": _MAY_COUNT,
    "gid": _MAY_COUNT,
    "owner": _MAY_TEXT,
    "group": _MAY_TEXT,
    "selinux": _MAY_TEXT,
    "symlink": _MAY_TEXT,
    "acl": _MAY_TEXT,
}


class ManifestError(Exception):
    """A manifest can't be believed. The message says what is wrong with it, and follows the restore point's name."""


class NewerError(ManifestError):
    """A manifest of a version that this collection does not know yet. That is no damage."""


def is_id(text: str) -> bool:
    """Whether a text is the id of a restore point, such as ``20250115T050000Z-deploy``."""
    return _ID.fullmatch(text) is not None


def numbered(point_id: str) -> Iterator[str]:
    """An id and those after it: ``…-deploy``, ``…-deploy-2``, ``…-deploy-3``. Some number of them is free anywhere."""
    base, number = point_id, 1
    if point_id.count("-") > 1:
        base, _dash, last = point_id.rpartition("-")
        number = int(last)
    while True:
        yield base if number < 2 else f"{base}-{number}"
        number += 1


def may_be_newest(point_id: str) -> bool:
    """Whether the word ``newest`` can mean the restore point of that id, where it is whole and holds what is asked."""
    return point_id.split("-")[1] in _TO_GO_BACK_TO


def was_left(point_id: str) -> bool:
    """Whether the environment files of the restore point of that id are what a rollback went away from."""
    return point_id.split("-")[1] in _LEFT_BEHIND


def path_problem(path: Any) -> str | None:
    """Why a path of a manifest may not be followed, or None. It must stay in the restore point's folder."""
    if not isinstance(path, str) or not path or "\0" in path:
        return "names a file without a path"
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return f"names the path {path!r}, which no file can have"
    if path.startswith("/") or ".." in path.split("/"):
        return f"names the path {path!r}, which lies outside of its folder"
    if posixpath.normpath(path) != path:
        return f"names the path {path!r}, which is not in its shortest form"
    return None


def validate(manifest: Any, expected_id: str | None = None) -> dict[str, Any]:
    """Return the manifest, or raise ManifestError.

    Args:
        manifest: what was parsed.
        expected_id: name of the folder that it lies in.
    """
    if not isinstance(manifest, dict):
        raise ManifestError("its manifest is no JSON object")
    version = manifest.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ManifestError("its manifest has no version")
    if version > VERSION:
        raise NewerError(f"its manifest has version {version}, and this collection reads up to version {VERSION}")
    for name, wanted in _FIELDS.items():
        if not isinstance(manifest.get(name), wanted):
            raise ManifestError(f"its manifest has no {name}")
    if not is_id(manifest["id"]) or (expected_id is not None and manifest["id"] != expected_id):
        raise ManifestError(f"its manifest is that of {manifest['id']!r}")
    if manifest["kind"] not in KINDS:
        raise ManifestError(f"its manifest has the kind {manifest['kind']!r}, which is none of {', '.join(KINDS)}")
    _check("its manifest", manifest, _ABOUT)
    _check("its release", manifest["release"], _RUN)
    for item in manifest["skipped"]:
        _check("what it skipped", item, _SKIPPED)
    if manifest.get("verified") is not None:
        _check("its verification", manifest["verified"], _VERIFIED)
    names = set()
    for artifact in manifest["artifacts"]:
        _validate_artifact(artifact)
        if artifact["name"] in names:
            raise ManifestError(f"its manifest names the artifact {artifact['name']!r} twice")
        names.add(artifact["name"])
    return manifest


def _check(what: str, data: Any, fields: Mapping[str, tuple[tuple[type, ...], str]]) -> None:
    """Raise ManifestError where a field is not what it has to be. No number may be negative or endless."""
    if not isinstance(data, dict):
        raise ManifestError(f"{what} is no JSON object")
    for name, (wanted, word) in fields.items():
        value = data.get(name)
        number = isinstance(value, (int, float))
        if isinstance(value, bool) or not isinstance(value, wanted) or (number and not 0 <= value < math.inf):
            raise ManifestError(f"{what} has no {name} that is {word}")


def _validate_artifact(artifact: Any) -> None:
    if not isinstance(artifact, dict) or not isinstance(artifact.get("name"), str):
        raise ManifestError("its manifest names an artifact without a name")
    name = artifact["name"]
    problem = path_problem(artifact.get("path"))
    if problem:
        raise ManifestError(f"its artifact {name!r} {problem}")
    _check(f"its artifact {name!r}", artifact, _ARTIFACT)
    if not isinstance(artifact.get("files"), list):
        raise ManifestError(f"its artifact {name!r} has no files")
    for item in artifact["files"]:
        problem = path_problem(item.get("path") if isinstance(item, dict) else None)
        if problem:
            raise ManifestError(f"its artifact {name!r} {problem}")
        size = item.get("size")
        if (
            not isinstance(size, int)
            or isinstance(size, bool)
            or size < 0
            or not _SHA256.fullmatch(str(item.get("sha256")))
        ):
            raise ManifestError(f"its artifact {name!r} has no size or SHA-256 for {item['path']}")
    if name == "environment":
        _validate_environment(artifact)


def _validate_environment(artifact: Mapping[str, Any]) -> None:
    for item in artifact["files"]:
        _check(f"its file {item['path']}", item, _ENVIRONMENT)
        try:
            base64.b64decode(item.get("acl") or "", validate=True)
        except ValueError as exc:
            raise ManifestError(f"its file {item['path']} has no acl that is base64") from exc
    absent, links = artifact["meta"].get("absent", []), artifact["meta"].get("links", {})
    if not isinstance(absent, list) or not all(isinstance(target, str) for target in absent):
        raise ManifestError("its artifact 'environment' has no list of the files that were absent")
    if not isinstance(links, dict) or not all(isinstance(text, str) for text in links.values()):
        raise ManifestError("its artifact 'environment' has no table of the links that led to nothing")


def decode(text: str, expected_id: str | None = None) -> dict[str, Any]:
    """Parse and validate a manifest, or raise ManifestError."""
    try:
        manifest = json.loads(text)
    except ValueError as exc:
        raise ManifestError(f"its manifest is no JSON: {exc}") from exc
    except RecursionError as exc:
        raise ManifestError("its manifest is nested too deep") from exc
    return validate(manifest, expected_id)


def encode(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, after the check that every reader makes."""
    return json.dumps(validate(dict(manifest)), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def artifact(manifest: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The artifact of that name, or None where the restore point has none."""
    return next((item for item in manifest["artifacts"] if item["name"] == name), None)
