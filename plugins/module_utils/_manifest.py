# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a restore point: what it holds, and what may be believed of it. See docs/restore-points.md."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

#: The newest version that can be read, and the one that is written.
VERSION = 1
KINDS = ("deploy", "level1", "level2", "level3", "level4", "manual")
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


class ManifestError(Exception):
    """A manifest can't be believed. The message says what is wrong with it, and follows the restore point's name."""


def is_id(text: str) -> bool:
    """Whether a text is the id of a restore point, such as ``20250115T050000Z-deploy``."""
    return _ID.fullmatch(text) is not None


def path_problem(path: Any) -> str | None:
    """Why a path of a manifest may not be followed, or None. It must stay in the restore point's folder."""
    if not isinstance(path, str) or not path or "\0" in path:
        return "names a file without a path"
    if path.startswith("/") or ".." in path.split("/"):
        return f"names the path {path!a}, which lies outside of its folder"
    if posixpath.normpath(path) != path:
        return f"names the path {path!a}, which is not in its shortest form"
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
        raise ManifestError(f"its manifest has version {version}, and this collection reads up to version {VERSION}")
    for name, wanted in _FIELDS.items():
        if not isinstance(manifest.get(name), wanted):
            raise ManifestError(f"its manifest has no {name}")
    if not is_id(manifest["id"]) or (expected_id is not None and manifest["id"] != expected_id):
        raise ManifestError(f"its manifest is that of {manifest['id']!a}")
    names = set()
    for artifact in manifest["artifacts"]:
        _validate_artifact(artifact)
        if artifact["name"] in names:
            raise ManifestError(f"its manifest names the artifact {artifact['name']!a} twice")
        names.add(artifact["name"])
    return manifest


def _validate_artifact(artifact: Any) -> None:
    if not isinstance(artifact, dict) or not isinstance(artifact.get("name"), str):
        raise ManifestError("its manifest names an artifact without a name")
    name = artifact["name"]
    problem = path_problem(artifact.get("path"))
    if problem:
        raise ManifestError(f"its artifact {name!a} {problem}")
    if not isinstance(artifact.get("files"), list) or not isinstance(artifact.get("meta", {}), dict):
        raise ManifestError(f"its artifact {name!a} has no files")
    for item in artifact["files"]:
        problem = path_problem(item.get("path") if isinstance(item, dict) else None)
        if problem:
            raise ManifestError(f"its artifact {name!a} {problem}")
        size = item.get("size")
        if not isinstance(size, int) or size < 0 or not _SHA256.fullmatch(str(item.get("sha256"))):
            raise ManifestError(f"its artifact {name!a} has no size or SHA-256 for {item['path']}")


def decode(text: str, expected_id: str | None = None) -> dict[str, Any]:
    """Parse and validate a manifest, or raise ManifestError."""
    try:
        manifest = json.loads(text)
    except ValueError as exc:
        raise ManifestError(f"its manifest is no JSON: {exc}") from exc
    return validate(manifest, expected_id)


def encode(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, after the check that every reader makes."""
    return json.dumps(validate(dict(manifest)), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def artifact(manifest: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The artifact of that name, or None where the restore point has none."""
    return next((item for item in manifest["artifacts"] if item["name"] == name), None)
