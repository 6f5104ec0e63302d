#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_backup
short_description: Keep all data of a Redis as an RDB file
version_added: "0.1.0"
description:
  - Asks for the data over the application's own connection, as a replica does. Redis forks for it and goes on
    serving, unlike with C(SAVE). So it needs no rights on the server's files, and Redis may be on another host.
  - The file is checked by C(redis-check-rdb) where that is installed, else by its beginning and its end.
  - The password is on no command line and is never shown.
options:
  dest:
    description: Directory for C(dump.rdb), in the restore point that is being made. Its name is that in the manifest.
    type: path
    required: true
  url:
    description:
      - Address, such as V(redis://user:password@127.0.0.1:6379/0). Also C(rediss) (TLS) and C(unix).
      - Exactly one of O(url) and O(env_file).
    type: str
  env_file:
    description: File on the host that holds the address, such as the backend's C(.env).
    type: path
  env_key:
    description: Name of the variable in O(env_file).
    type: str
    default: REDIS_URL
  timeout:
    description: Seconds without any sign of life after which Redis counts as gone.
    type: float
    default: 30
  deadline:
    description: Seconds that the copy may take in all.
    type: float
    default: 3600
  validate_certs:
    description: Whether the certificate of a C(rediss) server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
extends_documentation_fragment:
  - sparklio.rollback.journal
attributes:
  check_mode:
    support: full
    description: Logs in and asks what there is, and writes nothing. RV(artifact) then has no files.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Keep Redis
  sparklio.rollback.redis_backup:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    dest: "{{ point.partial }}/redis"
"""

RETURN = r"""
artifact:
  description: >-
    The artifact for the manifest. Its C(meta) holds C(server) (without credentials), C(redis_version), C(keys) of each
    database when it began, C(appendonly), C(checked_by) and, where that tells, C(keys_read).
  returned: success
  type: dict
  sample:
    name: redis
    type: redis
    path: redis
    size: 1024
    seconds: 0.4
    files: [{path: redis/dump.rdb, size: 1024, sha256: 9b1c…}]
    meta: {server: 'redis://127.0.0.1:6379/0', redis_version: 7.0.15, keys: {'0': 12}, appendonly: true}
"""

import os
import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _redis, resp, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.redis_address import NoAddress, find_url


class BackupError(Exception):
    """There is no copy. The message says why and what to do."""


def room_for(folder: str, size: int) -> None:
    """Raise BackupError where a file of that size does not fit."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < size:
        raise BackupError(
            f"Redis has {size} bytes of data, and {folder} has {free} bytes free. Free some space there, or name "
            "another place: -e rollback_backup_dir=…"
        )


def check(module: AnsibleModule, path: str) -> dict[str, Any]:
    """Say how the file was checked, or raise BackupError."""
    with open(path, "rb") as stream:
        head = stream.read(9)
        stream.seek(-min(9, os.path.getsize(path)), os.SEEK_END)
        problem = _redis.rdb_problem(head, stream.read())
    if problem:
        raise BackupError(f"What Redis sent is damaged: {problem}. Run it again")
    tool = module.get_bin_path("redis-check-rdb")
    if not tool:
        return {"checked_by": "its beginning and end"}
    code, out, err = module.run_command([tool, path])
    if code:
        # An older tool than the server is not the fault of the file.
        if "Can't handle RDB format version" in out + err:
            return {"checked_by": "its beginning and end"}
        raise BackupError(f"redis-check-rdb finds what Redis sent damaged (exit code {code}). Run it again")
    read = re.search(r"(\d+) keys read", out)
    return {"checked_by": "redis-check-rdb", **({"keys_read": int(read[1])} if read else {})}


def copy(connection: resp.Connection, path: str, deadline: float) -> None:
    """Write the server's data into a new file, on disk before this returns."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        try:
            connection.snapshot(lambda size: room_for(folder, size), stream.write, deadline)
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            os.unlink(path)
            raise


def backup(module: AnsibleModule, params: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    target = resp.parse_url(find_url(params["url"], params["env_file"], params["env_key"]))
    path = os.path.join(params["dest"], "dump.rdb")
    try:
        with resp.Connection(target, params["timeout"], params["validate_certs"], params["ca_path"]) as connection:
            connection.login()
            info = _redis.parse_info(connection.text("INFO"))
            meta: dict[str, Any] = {
                "server": target.shown,
                "redis_version": info.get("redis_version", "unknown"),
                "keys": _redis.keys(info),
                "appendonly": info.get("aof_enabled") == "1",
            }
            if module.check_mode:
                return restore_points.artifact("redis", params["dest"], meta, 0)
            try:
                copy(connection, path, params["deadline"])
            except resp.NoAnswer as exc:
                raise BackupError(
                    f"{target.shown} sent no copy of its data: {exc}. Its log says why; its own disk may be full, or "
                    "its directory not writable"
                ) from exc
    except resp.Refused as exc:
        cure = "see that REDIS_URL has the password that Redis wants, and that its user may INFO and SYNC"
        raise BackupError(f"{target.shown} refused: {exc}. Run it again when it can answer, or {cure}") from exc
    except resp.NoAnswer as exc:
        raise BackupError(f"{target.shown} can't be reached: {exc}. Start Redis, and run it again") from exc
    try:
        meta.update(check(module, path))
    except BackupError:
        os.unlink(path)
        raise
    return restore_points.artifact("redis", params["dest"], meta, time.monotonic() - started)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "url": {"type": "str", "no_log": True},
            "env_file": {"type": "path"},
            "env_key": {"type": "str", "default": "REDIS_URL", "no_log": False},
            "timeout": {"type": "float", "default": 30},
            "deadline": {"type": "float", "default": 3600},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "journal": JOURNAL_SPEC,
        },
        required_one_of=[("url", "env_file")],
        mutually_exclusive=[("url", "env_file")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        with Recorder(params["journal"], module.check_mode, "redis").heartbeat():
            artifact = backup(module, params)
    except (BackupError, NoAddress, resp.UrlError) as exc:
        module.fail_json(msg=f"Redis was not backed up: {exc}.")
    except OSError as exc:
        module.fail_json(
            msg=f"Redis was not backed up: {params['dest']} can't be written ({exc.strerror}). Free some space there, "
            "or name another place: -e rollback_backup_dir=…"
        )
    module.exit_json(changed=True, artifact=artifact)


if __name__ == "__main__":
    main()
