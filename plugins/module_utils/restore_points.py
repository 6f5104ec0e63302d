# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore points on disk: made whole or not at all, and read only where every file is what its manifest says."""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Container, Iterator
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _config, _manifest, _retention
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State, write_private

MANIFEST = "manifest.json"
#: What is being made, or was left by something that was killed, bears this in front of its id.
PARTIAL = ".partial-"
#: What of a restore point lies elsewhere, noted before it is made there: whoever removes it knows that it is its own.
ELSEWHERE = "elsewhere.json"
#: Parts that lie elsewhere, and where in their artifact's meta is written what they are called there.
_PARTS_ELSEWHERE = {"objects": "snapshot", "ollama": "mark"}
#: How far a dump is. Whoever looks at that removes it last, unless the connection is lost.
_PROGRESS = re.compile(r"[a-z]+\.progress(\.seen|\.tmp)?")
_MOST_MANIFEST = 64 << 20
#: What people make by hand as the runbook says, by what it is.
_HAND_MADE = (
    ("environment", re.compile(rf"(?P<of>\.env(?:\.[a-z]+)*)\.backup\.(?P<when>{_config.HAND_MADE_TIME})")),
    ("database", re.compile(r"(?P<of>db|pre_rollback|schema|data)_(?P<when>\d{8}[-_]\d{4,6})\.(?:sql|dump)(?:\.gz)?")),
    ("redis", re.compile(r"(?P<of>redis)_(?P<when>\d{8}[-_]\d{4,6})\.rdb")),
)


class RestorePointError(Exception):
    """A restore point can't be made or used. The message names the file.

    Args:
        unread: where that is no damage, what keeps its manifest from being read: ``newer`` (it is of a newer version)
            or ``unreadable`` (this user may not, or the disk can't).
    """

    def __init__(self, message: str, unread: str | None = None) -> None:
        super().__init__(message)
        self.unread = unread


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def epoch(point_id: str) -> int:
    """When a restore point was begun, in seconds since the epoch, by its id."""
    return calendar.timegm(time.strptime(point_id[:16], "%Y%m%dT%H%M%SZ"))


def release(root: str) -> dict[str, Any]:
    """What is checked out, as a manifest names it, or raise RestorePointError."""
    repo = Repository(root)
    try:
        commit = repo.line("rev-parse", "--verify", "HEAD^{commit}")
        return {"commit": commit, "tag": repo.tag(commit), "branch": repo.branch()}
    except GitError as exc:
        raise RestorePointError(f"What is checked out in {root} can't be read: {exc}") from exc


def folder(backups: str, point_id: str) -> str:
    """Where the restore point of that id lies, or would."""
    if not _manifest.is_id(point_id):
        raise RestorePointError(f"{point_id!r} is not the id of a restore point, such as 20250115T050000Z-deploy")
    return os.path.join(backups, point_id)


def new_id(kind: str, now: float, number: int = 1) -> str:
    """The id of a restore point that is begun now, where it is free. Of one second, each has another number."""
    wanted = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind}"
    return wanted if number < 2 else f"{wanted}-{number}"


def begin(backups: str, kind: str, now: float, number: int = 1) -> tuple[str, str]:
    """Make the directory of a new restore point. Returns its id, and where its artifacts go until it is finished."""
    os.makedirs(backups, mode=0o700, exist_ok=True)
    for point_id in _manifest.numbered(new_id(kind, now, number)):
        partial = os.path.join(backups, PARTIAL + point_id)
        if not os.path.lexists(os.path.join(backups, point_id)):
            try:
                os.mkdir(partial, 0o700)
                return point_id, partial
            except FileExistsError:
                pass
    raise AssertionError("there is always another number")


def finish(partial: str, manifest: dict[str, Any]) -> str:
    """Write the manifest last, and give the directory its id. Returns where it lies now."""
    for place, _folders, names in os.walk(partial):
        os.chmod(place, 0o700)
        for name in names:
            os.chmod(os.path.join(place, name), 0o600)
        sync_directory(place)
    write_private(os.path.join(partial, MANIFEST), _manifest.encode(manifest))
    place = os.path.join(os.path.dirname(partial), manifest["id"])
    os.rename(partial, place)
    sync_directory(os.path.dirname(place))
    return place


def read(place: str) -> dict[str, Any]:
    """The manifest of a restore point, also of one that was retired, or raise RestorePointError."""
    name, path = os.path.basename(place).removeprefix(PARTIAL), os.path.join(place, MANIFEST)
    try:
        if os.path.islink(place) or os.path.islink(path):
            raise RestorePointError(f"Restore point {name} can't be used: it is, or its {MANIFEST} is, a link")
        with open(path, encoding="utf-8") as stream:
            text = stream.read(_MOST_MANIFEST)
        return _manifest.decode(text, name)
    except FileNotFoundError as exc:
        raise RestorePointError(f"Restore point {name} can't be used: it has no {MANIFEST}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        unread = "unreadable" if isinstance(exc, OSError) else None
        raise RestorePointError(f"Restore point {name} can't be used: {path} can't be read ({exc})", unread) from exc
    except _manifest.NewerError as exc:
        raise RestorePointError(f"Restore point {name} can't be used: {exc}", "newer") from exc
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


def unnamed(partial: str, manifest: dict[str, Any]) -> list[str]:
    """What lies in a restore point that is being made and in no artifact, such as what a part that failed has left."""
    named = {item["path"] for artifact in manifest["artifacts"] for item in artifact["files"]} | {MANIFEST, ELSEWHERE}
    found = []
    for place, folders, names in os.walk(partial):
        for name in (*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))):
            path = os.path.relpath(os.path.join(place, name), partial)
            if path not in named and not _PROGRESS.fullmatch(path):
                found.append(path)
    return sorted(found)


def without(backups: str, point_id: str, part: str) -> bool:
    """Remove what a part that failed has left in a restore point that is being made. Returns whether there was any."""
    if not re.fullmatch(r"[a-z]+", part):
        raise RestorePointError(f"{part!r} is no part of a restore point")
    partial = os.path.join(backups, PARTIAL + os.path.basename(folder(backups, point_id)))
    left = [os.path.join(partial, name) for name in (part, PARTIAL + part)]
    left = [path for path in left if os.path.lexists(path)]
    for path in left:
        _remove(path)
    return bool(left)


def ids(backups: str) -> list[str]:
    """The ids of all restore points, newest first, whether they are whole or not. Unfinished ones have none."""
    try:
        names = os.listdir(backups)
    except FileNotFoundError:
        return []
    return sorted(filter(_manifest.is_id, names), key=lambda name: (epoch(name), name), reverse=True)


def unfinished(backups: str, now: float) -> list[dict[str, Any]]:
    """What is being made, or was left by something that was killed: ``id``, ``path``, ``size``, ``idle_seconds``."""
    try:
        names = sorted(os.listdir(backups))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        point_id = name[len(PARTIAL) :]
        if not name.startswith(PARTIAL) or not _manifest.is_id(point_id):
            continue
        path = os.path.join(backups, name)
        size, newest = 0, 0.0
        for place, _folders, files in os.walk(path):
            for item in (place, *(os.path.join(place, file) for file in files)):
                # What is being written there may be renamed at any moment.
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(item)
                    size += status.st_size if stat.S_ISREG(status.st_mode) else 0
                    newest = max(newest, status.st_mtime)
        found.append({"id": point_id, "path": path, "size": size, "idle_seconds": round(max(0.0, now - newest))})
    return found


def noted(place: str) -> dict[str, str]:
    """What was noted of a restore point to lie elsewhere, or raise RestorePointError."""
    path = os.path.join(place, ELSEWHERE)
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        raise RestorePointError(f"{path} can't be read ({exc})") from exc
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise RestorePointError(f"{path} does not say what lies elsewhere")
    return found


def note(partial: str, what: str, name: str | None) -> None:
    """Note what is about to be made elsewhere for a restore point; None takes the note back."""
    found = {key: value for key, value in {**noted(partial), what: name}.items() if value is not None}
    write(os.path.join(partial, ELSEWHERE), found)


def elsewhere(place: str) -> dict[str, str]:
    """What a restore point has elsewhere, to be removed with it: ``objects``, ``ollama``, ``tag``, each with its name.

    The tag of a finished one stays. Where neither note nor manifest can be read there may be anything, and the names
    are empty: another host can have the same id, so nothing may be removed that was only guessed.
    """
    unknown = dict.fromkeys(_PARTS_ELSEWHERE, "")
    has_note = os.path.lexists(os.path.join(place, ELSEWHERE))
    try:
        found = noted(place)
    except RestorePointError:
        has_note, found = False, unknown
    if not os.path.lexists(os.path.join(place, MANIFEST)):
        return found
    found.pop("tag", None)
    try:
        made = {item["name"]: item["meta"] for item in read(place)["artifacts"]}
    except RestorePointError:
        return found if has_note else unknown
    named = {part: str(made[part].get(key) or "") for part, key in _PARTS_ELSEWHERE.items() if part in made}
    if "ollama" in named and "mark" not in made["ollama"]:
        # Of before there were marks: all tags had the id.
        named["ollama"] = os.path.basename(place).removeprefix(PARTIAL)
    return {**(found if has_note else {}), **named}


def tags_in_use(backups: str) -> set[str]:
    """The tags that restore points name."""
    found = set()
    for point_id in ids(backups):
        with contextlib.suppress(RestorePointError):
            found.add(str(read(folder(backups, point_id)).get("backup_tag")))
    return found


def abandon(backups: str, point_id: str, left: Container[str] = ()) -> bool:
    """Remove an unfinished restore point, and nothing else. Returns whether there was one.

    Args:
        left: what could not be removed elsewhere. Of a restore point that has some of it, the note of that stays, so
            that it is tried again when that is stale. So does that of one of which it is not known what it has.
    """
    path = os.path.join(backups, PARTIAL + os.path.basename(folder(backups, point_id)))
    if not os.path.isdir(path) or os.path.islink(path):
        return False
    kept = {what: name for what, name in elsewhere(path).items() if what in left or not name}
    if not kept:
        shutil.rmtree(path)
        sync_directory(backups)
        return True
    write(os.path.join(path, ELSEWHERE), kept)
    for name in os.listdir(path):
        if name != ELSEWHERE:
            _remove(os.path.join(path, name))
    sync_directory(path)
    return True


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def retire(backups: str, point_id: str) -> None:
    """Make a restore point an unfinished one again: from now on nobody finds it, however far its removal gets."""
    os.rename(folder(backups, point_id), os.path.join(backups, PARTIAL + point_id))
    sync_directory(backups)


def mark_verified(backups: str, point_id: str, verified: dict[str, Any]) -> dict[str, Any]:
    """Note in the manifest that the restore point was verified. Returns the manifest."""
    place = folder(backups, point_id)
    manifest = {**read(place), "verified": verified}
    write_private(os.path.join(place, MANIFEST), _manifest.encode(manifest))
    return manifest


def describe(backups: str, point_id: str, now: float, verify: str = "size") -> dict[str, Any]:
    """One line of the list of restore points. One that is damaged is described as far as it can be read.

    Args:
        verify: ``none``, ``size`` of each file, or ``checksum``.
    """
    place = folder(backups, point_id)
    made = epoch(point_id)
    item: dict[str, Any] = {
        "id": point_id,
        "path": place,
        "kind": point_id.split("-")[1],
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made)),
        "age_seconds": round(max(0.0, now - made)),
        "size": 0,
        "release": {},
        "message": "",
        "artifacts": [],
        "skipped": [],
        "verified": None,
        "whole": False,
        "problem": None,
        "unread": None,
    }
    try:
        manifest = read(place)
    except RestorePointError as exc:
        return {**item, "problem": str(exc), "unread": exc.unread}
    names = [artifact["name"] for artifact in manifest["artifacts"]]
    found = None if verify == "none" else problem(place, manifest, names if verify == "checksum" else ())
    return {
        **item,
        "size": sum(file["size"] for artifact in manifest["artifacts"] for file in artifact["files"]),
        "release": manifest["release"],
        "message": manifest.get("message") or "",
        "artifacts": names,
        "skipped": manifest["skipped"],
        "verified": manifest.get("verified"),
        "whole": found is None,
        "problem": found,
    }


def hand_made(root: str) -> list[dict[str, Any]]:
    """Files that people made by hand as the runbook says, newest first by the time in their names."""
    found = []
    for place in ("", "backend", "frontend", "backups"):
        with contextlib.suppress(OSError), os.scandir(os.path.join(root, place)) as entries:
            for entry in entries:
                for what, pattern in _HAND_MADE:
                    match = pattern.fullmatch(entry.name)
                    if match and entry.is_file(follow_symlinks=False):
                        found.append(
                            {
                                "path": entry.path,
                                "what": what,
                                "timestamp": match["when"],
                                "size": entry.stat(follow_symlinks=False).st_size,
                                "target": os.path.join(place, match["of"]) if what == "environment" else None,
                            }
                        )
    return sorted(found, key=lambda item: (item["timestamp"].replace("_", "-"), item["path"]), reverse=True)


def referred(state_dir: str) -> set[str]:
    """Ids of the restore points that runs refer to in their journals."""
    state = State(state_dir)
    found: set[str] = set()
    for run_id in state.run_ids():
        with contextlib.suppress(FileNotFoundError), open(state.journal_path(run_id), "rb") as stream:
            for line in stream:
                found |= _retention.mentioned(run_id, line.decode("utf-8", "replace"))
    return found


def write(path: str, data: Any) -> None:
    """Write data as JSON into a restore point that is being made."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_private(path, json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def _files(dest: str) -> Iterator[str]:
    for place, folders, names in os.walk(dest):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(place, name)


def artifact(name: str, dest: str, meta: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the manifest says of the files below ``dest``, a directory in the restore point that is being made."""
    files = []
    for path in _files(dest):
        digest, size = hashlib.sha256(), 0
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
        files.append({"path": os.path.relpath(path, os.path.dirname(dest)), "size": size, "sha256": digest.hexdigest()})
    return {
        "name": name,
        "type": name,
        "path": os.path.basename(dest),
        "size": sum(item["size"] for item in files),
        "files": files,
        "meta": meta,
        "seconds": round(seconds, 3),
    }
