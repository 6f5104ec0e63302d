# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment files on disk: read with all that belongs to them, kept in a restore point, and put back by rename."""

from __future__ import annotations

import base64
import contextlib
import errno
import grp
import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _config, _manifest, restore_points

#: Name of the artifact, and of its directory in a restore point.
ARTIFACT = "environment"
#: What is larger than this is no environment file.
MOST_BYTES = 4 << 20
#: Option of a module that tells which variables of environment files a service has by itself, or gives it their values.
VARIABLES_SPEC: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "files": {"type": "list", "elements": "path", "default": []},
        # Names, nothing secret.
        "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    },
    "apply_defaults": True,
}
_SELINUX = "security.selinux"
_ACL = "system.posix_acl_access"


class ConfigError(Exception):
    """An environment file can't be read or written. The message names it."""


def look(root: str, target: str) -> _config.State:
    """An environment file as it is. A link is followed, and remembered, even where it leads to nothing."""
    path = os.path.join(root, target)
    symlink = os.readlink(path) if os.path.islink(path) else None
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{target} is no file")
            body = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return _config.State(target, None, symlink=symlink)
    except OSError as exc:
        raise ConfigError(f"{target} can't be read ({exc.strerror})") from exc
    if len(body) > MOST_BYTES:
        raise ConfigError(f"{target} is larger than {MOST_BYTES >> 20} MiB, which no environment file is")
    return _config.State(
        target, body, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, _context(path), symlink, _acl(path)
    )


def _context(path: str) -> str | None:
    """The SELinux context of a file, or None where the system has none."""
    try:
        return os.getxattr(path, _SELINUX).rstrip(b"\0").decode()
    except (OSError, AttributeError):
        return None


def _acl(path: str) -> bytes | None:
    """The POSIX ACL of a file, empty where it has none beside its mode, or None where the system keeps none."""
    try:
        return os.getxattr(path, _ACL)
    except AttributeError:
        return None
    except OSError as exc:
        return b"" if exc.errno == errno.ENODATA else None


def _named(lookup: Any, number: int | None) -> str | None:
    try:
        return None if number is None else lookup(number)[0]
    except KeyError:
        return None


def values(paths: Iterable[str]) -> dict[str, str]:
    """The variables of all files together; the last one counts. A file that does not exist has none."""
    found: dict[str, str] = {}
    for path in paths:
        found.update(_config.variables(look(os.path.dirname(path), os.path.basename(path)).body))
    return found


def write_synced(path: str, body: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet, readable by nobody else meanwhile, on disk before this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(body)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())


def snapshot(root: str, targets: Iterable[str], dest: str) -> dict[str, Any]:
    """Keep environment files byte for byte below ``dest``, a directory inside of a restore point.

    Returns:
        The artifact for the manifest, without ``seconds``.
    """
    folder = os.path.basename(dest.rstrip("/"))
    states = [look(root, target) for target in targets]
    files, absent, links = [], [], {}
    for state in states:
        if state.body is None:
            absent.append(state.target)
            if state.symlink is not None:
                links[state.target] = state.symlink
            continue
        path = os.path.join(dest, state.target)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_synced(path, state.body)
        files.append(
            {
                "path": f"{folder}/{state.target}",
                "size": len(state.body),
                "sha256": hashlib.sha256(state.body).hexdigest(),
                "target": state.target,
                "mode": f"{state.mode or 0:04o}",
                "uid": state.uid,
                "gid": state.gid,
                "owner": _named(pwd.getpwuid, state.uid),
                "group": _named(grp.getgrgid, state.gid),
                "selinux": state.selinux,
                "symlink": state.symlink,
                "acl": None if state.acl is None else base64.b64encode(state.acl).decode(),
            }
        )
    os.makedirs(dest, mode=0o700, exist_ok=True)
    for place, _folders, _names in os.walk(dest):
        restore_points.sync_directory(place)
    return {
        "name": ARTIFACT,
        "type": "environment",
        "path": folder,
        "size": sum(item["size"] for item in files),
        "files": files,
        "meta": {"absent": absent, "links": links},
    }


def _keep(place: str, item: Mapping[str, Any]) -> _config.State:
    """One file of a restore point as a state. Its content was compared with the manifest just before."""
    problem = restore_points.file_problem(place, dict(item))
    if problem:
        raise ConfigError(f"Restore point {os.path.basename(place)} is damaged: {problem}")
    with open(os.path.join(place, item["path"]), "rb") as stream:
        body = stream.read()
    try:
        mode = int(str(item["mode"]), 8) & 0o7777
    except (KeyError, ValueError) as exc:
        raise ConfigError(f"Restore point {os.path.basename(place)} has no mode for {item['path']}") from exc
    acl = None if item.get("acl") is None else base64.b64decode(item["acl"])
    return _config.State(
        str(item["target"]), body, mode, item.get("uid"), item.get("gid"), item.get("selinux"), item.get("symlink"), acl
    )


def from_restore_point(place: str, allowed: Sequence[str]) -> dict[str, _config.State]:
    """The environment files as a restore point has them, by target, those that were absent too.

    Args:
        place: its directory.
        allowed: the files that may be written.
    """
    try:
        manifest = restore_points.read(place)
        damage = restore_points.problem(place, manifest)
    except restore_points.RestorePointError as exc:
        raise ConfigError(str(exc)) from exc
    if damage:
        raise ConfigError(damage)
    artifact = _manifest.artifact(manifest, ARTIFACT)
    if artifact is None:
        raise ConfigError(f"Restore point {manifest['id']} holds no environment files")
    states: dict[str, _config.State] = {}
    for target in [*(item.get("target") for item in artifact["files"]), *artifact["meta"].get("absent", [])]:
        problem = _config.target_problem(str(target), allowed)
        if problem:
            raise ConfigError(f"Restore point {manifest['id']} can't be used: {problem}")
    for item in artifact["files"]:
        states[item["target"]] = _keep(place, item)
    for target in artifact["meta"].get("absent", []):
        link = artifact["meta"].get("links", {}).get(target)
        states.setdefault(target, _config.State(target, None, symlink=link))
    return states


def paths(place: str) -> dict[str, str]:
    """Where the bytes of each environment file lie in a restore point, by target."""
    artifact = _manifest.artifact(restore_points.read(place), ARTIFACT) or {"files": []}
    return {item["target"]: os.path.join(place, item["path"]) for item in artifact["files"]}


def from_hand_made(root: str, files: Mapping[str, str]) -> dict[str, _config.State]:
    """The environment files as people kept them by hand: their bytes. Everything else stays as it is."""
    states = {}
    for target, path in files.items():
        here, kept = look(root, target), look(os.path.dirname(path), os.path.basename(path))
        if kept.body is None:
            raise ConfigError(f"{path} is missing")
        states[target] = here._replace(body=kept.body, mode=here.mode if here.body is not None else 0o600)
    return states


def real_place(root: str, state: _config.State) -> str:
    """The file that holds, or will hold, the bytes: behind the link where it is one."""
    path = os.path.join(root, state.target)
    folder = os.path.realpath(os.path.dirname(path))
    if state.symlink is None:
        return os.path.join(folder, os.path.basename(path))
    return os.path.realpath(os.path.join(folder, state.symlink))


def link_problem(root: str, found: _config.State, wanted: _config.State, states: Iterable[_config.State]) -> str | None:
    """Why a link can't be made again, or None. What lies behind it must be kept too, or be the same already."""
    if wanted.symlink is None or wanted.symlink == found.symlink:
        return None
    behind = real_place(root, wanted)
    if any(other.symlink is None and real_place(root, other) == behind for other in states):
        return None
    if wanted.body is None:
        if not os.path.lexists(behind):
            return None
        return f"{wanted.target} was a link to {wanted.symlink}, which led to nothing; something lies there now"
    with contextlib.suppress(OSError), open(behind, "rb") as stream:
        if stream.read(MOST_BYTES + 1) == wanted.body:
            return None
    return (
        f"{wanted.target} was a link to {wanted.symlink}, and is none now; what lies there is something else, which "
        "would be lost"
    )


def write_problem(root: str, found: _config.State, wanted: _config.State) -> str | None:
    """Why a file can't be replaced by this user, or None."""
    places = [os.path.join(root, wanted.target)]
    # A link that led to nothing is made again without anything behind it, and its directory may be gone too.
    if wanted.body is not None or found.symlink == wanted.symlink:
        places.insert(0, real_place(root, wanted))
    for folder in map(os.path.dirname, places):
        if not os.path.isdir(folder):
            return f"there is no directory {folder} for {wanted.target}"
        if not os.access(folder, os.W_OK):
            return f"this user may not write to {folder}, where {wanted.target} is replaced"
    if os.geteuid() != 0 and wanted.body is not None and wanted.uid not in (None, os.geteuid()):
        return f"{wanted.target} belongs to user {wanted.uid}, and only root can give a file away"
    return None


def _temporary(place: str, run_id: str) -> str:
    return os.path.join(os.path.dirname(place), f".{os.path.basename(place)}.{run_id}.tmp")


def _set_acl(path: str, acl: bytes | None) -> None:
    """Give a file an ACL, or take the one away that it has from its directory. None leaves it."""
    if acl:
        if not hasattr(os, "setxattr"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        os.setxattr(path, _ACL, acl)
    elif acl is not None and _acl(path):
        os.removexattr(path, _ACL)


def _stage(place: str, wanted: _config.State, run_id: str) -> str:
    """Write the new file beside the one that it replaces, with all its attributes. Returns its path."""
    temporary = _temporary(place, run_id)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        write_synced(temporary, wanted.body or b"")
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    try:
        here = os.stat(temporary)
        uid, gid = (
            -1 if want in (None, have) else want
            for want, have in ((wanted.uid, here.st_uid), (wanted.gid, here.st_gid))
        )
        if (uid, gid) != (-1, -1):
            os.chown(temporary, uid, gid)
        _set_acl(temporary, _acl(place) if wanted.acl is None else wanted.acl)
        # After owner and ACL, which both change bits of it.
        os.chmod(temporary, 0o600 if wanted.mode is None else wanted.mode)
        if wanted.selinux and _context(temporary) not in (None, wanted.selinux):
            os.setxattr(temporary, _SELINUX, wanted.selinux.encode() + b"\0")
    except OSError as exc:
        os.unlink(temporary)
        raise ConfigError(
            f"{wanted.target} can't get back its owner, mode, ACL or SELinux context ({exc.strerror})"
        ) from exc
    return temporary


def put(root: str, wanted: Sequence[_config.State], run_id: str, removed: str) -> None:
    """Put environment files in place: all are written first, then each takes its place by one rename.

    Args:
        wanted: the files that differ.
        run_id: the run, part of the temporary names.
        removed: directory that a file, or a link, is moved to which did not exist then.
    """
    staged: dict[str, str] = {}
    try:
        for state in wanted:
            place = real_place(root, state)
            if state.body is not None and place not in staged:
                staged[place] = _stage(place, state, run_id)
    except (ConfigError, OSError):
        for temporary in staged.values():
            os.unlink(temporary)
        raise
    for place, temporary in staged.items():
        os.rename(temporary, place)
    for state in wanted:
        path = os.path.join(root, state.target)
        linked = state.symlink is not None and os.path.islink(path) and os.readlink(path) == state.symlink
        if state.body is None:
            # Through another link, or where that one is to come, lies what is none of this file's.
            _move(real_place(root, state) if linked else path, os.path.join(removed, state.target))
        if state.symlink is not None and not linked:
            temporary = _temporary(path, run_id)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(state.symlink, temporary)
            os.rename(temporary, path)
    for folder in {os.path.dirname(path) for path in (*staged, *(os.path.join(root, s.target) for s in wanted))}:
        restore_points.sync_directory(folder)


def _free(dest: str) -> str:
    """A path that nothing has, in a directory that is there."""
    os.makedirs(os.path.dirname(dest), mode=0o700, exist_ok=True)
    number, place = 0, dest
    while os.path.lexists(place):
        number += 1
        place = f"{dest}.{number}"
    return place


def copy_aside(state: _config.State, dest: str) -> str:
    """Keep what a file holds, before something takes its place. Returns where."""
    place = _free(dest)
    write_synced(place, state.body or b"")
    restore_points.sync_directory(os.path.dirname(place))
    return place


def _move(path: str, dest: str) -> None:
    """Move a file out of the way, to another file system too. One that is gone already is fine."""
    if not os.path.lexists(path):
        return
    place = _free(dest)
    try:
        os.rename(path, place)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        shutil.copy2(path, place, follow_symlinks=False)
        os.unlink(path)


def clear(root: str, targets: Iterable[str], states: Iterable[_config.State], run_id: str) -> None:
    """Remove what a run that was cut off left beside the files: it may hold secrets.

    Args:
        states: what was being put, or is to be: a link that was not made yet has its new file beside where it leads.
    """
    paths = [os.path.join(root, target) for target in targets]
    for place in {*paths, *map(os.path.realpath, paths), *(real_place(root, state) for state in states)}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(_temporary(place, run_id))
