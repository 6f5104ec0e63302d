# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore points on disk: made whole or not at all, and read only where every file is what its manifest says."""

from __future__ import annotations

import calendar
import hashlib
import os
import stat
import time
from collections.abc import Container
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import write_private

MANIFEST = "manifest.json"
#: What is being made, or was left by something that was killed, bears this in front of its id.
PARTIAL = ".partial-"
_MOST_MANIFEST = 64 << 20


class RestorePointError(Exception):
    """A restore point can't be made or used. The message names the file."""


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def epoch(point_id: str) -> int:
    """When a restore point was begun, in seconds since the epoch, by its id."""
    return calendar.timegm(time.strptime(point_id[:16], "%Y%m%dT%H%M%SZ"))


def folder(backups: str, point_id: str) -> str:
    """Where the restore point of that id lies, or would."""
    if not _manifest.is_id(point_id):
        raise RestorePointError(f"{point_id!a} is not the id of a restore point, such as 20250115T050000Z-deploy")
    return os.path.join(backups, point_id)


def begin(backups: str, kind: str, now: float) -> tuple[str, str]:
    """Make the directory of a new restore point. Returns its id, and where its artifacts go until it is finished."""
    os.makedirs(backups, mode=0o700, exist_ok=True)
    wanted = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind}"
    number, point_id = 1, wanted
    while True:
        partial = os.path.join(backups, PARTIAL + point_id)
        if not os.path.lexists(os.path.join(backups, point_id)):
            try:
                os.mkdir(partial, 0o700)
                return point_id, partial
            except FileExistsError:
                pass
        number += 1
        point_id = f"{wanted}-{number}"


def finish(partial: str, manifest: dict[str, Any]) -> str:
    """Write the manifest last, and give the directory its id. Returns where it lies now."""
    for place, _folders, _names in os.walk(partial):
        sync_directory(place)
    write_private(os.path.join(partial, MANIFEST), _manifest.encode(manifest))
    place = os.path.join(os.path.dirname(partial), manifest["id"])
    os.rename(partial, place)
    sync_directory(os.path.dirname(place))
    return place


def read(place: str) -> dict[str, Any]:
    """The manifest of a restore point, or raise RestorePointError."""
    name, path = os.path.basename(place), os.path.join(place, MANIFEST)
    try:
        if os.path.islink(place) or os.path.islink(path):
            raise RestorePointError(f"Restore point {name} can't be used: it is, or its {MANIFEST} is, a link")
        with open(path, encoding="utf-8") as stream:
            text = stream.read(_MOST_MANIFEST)
        return _manifest.decode(text, name)
    except FileNotFoundError as exc:
        raise RestorePointError(f"Restore point {name} can't be used: it has no {MANIFEST}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise RestorePointError(f"Restore point {name} can't be used: {path} can't be read ({exc})") from exc
    except _manifest.ManifestError as exc:
        raise RestorePointError(f"Restore point {name} can't be used: {exc}") from exc


def file_problem(place: str, item: dict[str, Any], checksum: bool = True) -> str | None:
    """What is wrong with one file of a restore point, naming it, or None."""
    path = os.path.join(place, item["path"])
    try:
        if os.path.realpath(path) != os.path.join(os.path.realpath(place), item["path"]):
            return f"{item['path']} is reached through a link"
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return f"{item['path']} is no file"
        if status.st_size != item["size"]:
            what = "was cut off" if status.st_size < item["size"] else "has grown"
            return f"{item['path']} {what}: {status.st_size} bytes in place of {item['size']}"
        if checksum:
            digest = hashlib.sha256()
            with open(path, "rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
            if digest.hexdigest() != item["sha256"]:
                return f"{item['path']} was altered: its SHA-256 is not that of the manifest"
    except FileNotFoundError:
        return f"{item['path']} is missing"
    except OSError as exc:
        return f"{item['path']} can't be read ({exc.strerror})"
    return None


def problem(place: str, manifest: dict[str, Any], checksums: Container[str] = ()) -> str | None:
    """What is wrong with the files of a restore point, or None.

    Args:
        checksums: names of the artifacts whose contents are compared too; of the others only the sizes are.
    """
    for artifact in manifest["artifacts"]:
        for item in artifact["files"]:
            found = file_problem(place, item, artifact["name"] in checksums)
            if found:
                return f"Restore point {manifest['id']} is damaged: {found}"
    return None


def ids(backups: str) -> list[str]:
    """The ids of all restore points, newest first, whether they are whole or not. Unfinished ones have none."""
    try:
        names = os.listdir(backups)
    except FileNotFoundError:
        return []
    return sorted(filter(_manifest.is_id, names), key=lambda name: (epoch(name), name), reverse=True)
