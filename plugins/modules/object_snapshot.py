#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: object_snapshot
short_description: Keep the objects of a bucket in a snapshot bucket
version_added: "0.1.0"
description:
  - Has an S3 server copy the objects of a bucket, or those below some prefixes, into a new bucket for each restore
    point. The server copies, so nothing passes through the host, and body, content type and metadata are kept.
  - A snapshot bucket that is there already is somebody else's, such as that of another host which began a backup in the
    same second. Nothing in it is touched, and the next number makes the name of this one. What is made is noted beside
    O(dest) before, in the restore point, so that only that is ever removed.
  - Afterwards the copies are compared with what was to be copied, by size and ETag. By size alone where the ETag of
    the copy is another one by nature, of an object that was uploaded in parts, or that the server says is encrypted
    with a key of KMS (SSE-KMS).
  - Works with any server that speaks plain S3, such as MinIO. Nothing but Python's standard library is needed.
options:
  state:
    description: V(present) makes the snapshot of O(id), V(absent) removes O(snapshots). A missing one is no error.
    type: str
    choices: [present, absent]
    default: present
  id:
    description: The restore point; part of the snapshot bucket's name. Required with O(state=present).
    type: str
  snapshots:
    description:
      - With O(state=absent), the buckets that are removed, as restore points name them. Only those whose names can be
        that of a snapshot are taken.
    type: list
    elements: str
    default: []
  dest:
    description:
      - Directory for C(objects.jsonl), the list of what was copied, in the restore point that is being made.
      - Required with O(state=present).
    type: path
  prefixes:
    description: Only objects whose names begin with one of these. Empty for all.
    type: list
    elements: str
    default: []
  env_file:
    description: File on the host that holds address and keys, such as the backend's C(.env).
    type: path
    required: true
  endpoint:
    description: Address of the server, in place of that in O(env_file).
    type: str
  bucket:
    description: Name of the bucket where O(env_file) names none.
    type: str
    default: sparklio-assets
  region:
    description: Region where O(env_file) names none.
    type: str
    default: us-east-1
  env_keys:
    description: Names of the variables in O(env_file), the first that is set counts.
    type: dict
    default: {}
    suboptions:
      endpoint:
        description: The address.
        type: list
        elements: str
        default: [S3_ENDPOINT, S3_ENDPOINT_URL, MINIO_ENDPOINT, AWS_ENDPOINT_URL]
      access_key:
        description: Who asks.
        type: list
        elements: str
        default: [S3_ACCESS_KEY, MINIO_ACCESS_KEY, AWS_ACCESS_KEY_ID]
      secret_key:
        description: Its secret.
        type: list
        elements: str
        default: [S3_SECRET_KEY, MINIO_SECRET_KEY, AWS_SECRET_ACCESS_KEY]
      bucket:
        description: The bucket.
        type: list
        elements: str
        default: [S3_BUCKET, MINIO_BUCKET, S3_BUCKET_NAME, MINIO_BUCKET_NAME]
      region:
        description: Its region.
        type: list
        elements: str
        default: [S3_REGION, MINIO_REGION, AWS_REGION]
  parallel:
    description: How many objects are copied at the same time.
    type: int
    default: 4
  timeout:
    description: Seconds that each answer may take; the copy of a large object is one.
    type: float
    default: 60
  validate_certs:
    description: Whether the certificate of an https server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
extends_documentation_fragment:
  - sparklio.rollback.journal
  - sparklio.rollback.progress
attributes:
  check_mode:
    support: full
    description: Lists what would be copied, and changes nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Keep the objects
  sparklio.rollback.object_snapshot:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    id: "{{ point.id }}"
    dest: "{{ point.partial }}/objects"
    prefixes: [brands/, published/]
"""

RETURN = r"""
artifact:
  description: >-
    The artifact for the manifest. Its C(meta) holds C(server) (without credentials), C(bucket), C(snapshot) (the bucket
    with the copies), C(prefixes), C(objects), C(bytes) and C(vanished), how many were deleted meanwhile.
  returned: state is present
  type: dict
  sample:
    name: objects
    type: objects
    path: objects
    size: 210
    seconds: 1.4
    files: [{path: objects/objects.jsonl, size: 210, sha256: 9b1c…}]
    meta: {bucket: sparklio-assets, snapshot: sparklio-assets-backup-20250115t070000z-deploy, objects: 2, bytes: 90210}
removed:
  description: The snapshot buckets that were removed.
  returned: state is absent
  type: list
  elements: str
"""

import itertools
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest, _s3, restore_points, s3, transfer
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, write_private

#: So many restore points of one second are a mistake of somebody.
_MOST_NAMES = 100


def connect(params: dict[str, Any]) -> tuple[s3.Store, str]:
    """Return the server, and the bucket."""
    try:
        settings = s3.read_settings(params)
    except OSError as exc:
        raise s3.S3Error(f"the environment file {params['env_file']} can't be read: {exc.strerror}") from exc
    for name in ("endpoint", "access_key", "secret_key"):
        if not settings.get(name):
            names = ", ".join(params["env_keys"][name])
            raise s3.S3Error(
                f"{params['env_file']} sets none of {names}. Set one, or name yours by rollback_objects_keys"
            )
    store = s3.Store(settings, params["timeout"], params["validate_certs"], params["ca_path"])
    return store, settings["bucket"]


def wanted(store: s3.Store, bucket: str, prefixes: list[str]) -> list[_s3.Object]:
    """All objects below the prefixes, each once."""
    found = {item.key: item for prefix in prefixes or [""] for item in store.objects(bucket, prefix)}
    return [found[key] for key in sorted(found)]


def make(store: s3.Store, bucket: str, point_id: str, partial: str) -> str:
    """Make the snapshot bucket, noted as that of this restore point before. Returns its name, or raises S3Error."""
    noted = restore_points.noted(partial).get("objects")
    if noted:
        if not store.has(noted):
            store.create(noted)
        return noted
    for name in itertools.islice(_manifest.numbered(point_id), _MOST_NAMES):
        snapshot = _s3.snapshot_bucket(bucket, name)
        # Some servers make a bucket that one has already without a word.
        if store.has(snapshot):
            continue
        restore_points.note(partial, "objects", snapshot)
        try:
            store.create(snapshot)
        except s3.S3Error as exc:
            if exc.code not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
                raise
            restore_points.note(partial, "objects", None)
            continue
        return snapshot
    raise s3.S3Error(
        f"bucket {_s3.snapshot_bucket(bucket, point_id)} is there already, and so are {_MOST_NAMES - 1} with the next "
        "numbers. Nothing in them was touched. Remove those that nobody needs"
    )


def copies(
    store: s3.Store, bucket: str, items: list[_s3.Object], snapshot: str, params: dict[str, Any]
) -> list[_s3.Copied]:
    """Have the server copy the objects, and return those that were still there. The first that fails ends it."""
    share, about, done = transfer.Share(params["progress"]), sum(item.size for item in items), 0
    copied: list[_s3.Copied] = []
    due = 0.0
    with ThreadPoolExecutor(max(1, params["parallel"])) as pool:
        futures = [pool.submit(store.copy, bucket, item, snapshot) for item in items]
        try:
            for future, item in zip(futures, items):  # noqa: B905 - Python 3.9 has no strict
                ended = False
                while not ended:
                    ended = bool(wait([future], timeout=1).done)
                    if time.monotonic() >= due:
                        due = time.monotonic() + 0.5
                        share(done, about)
                        if share.abandoned():
                            raise restore_points.RestorePointError(
                                "nobody waits for it any more: ansible-playbook was ended, so the copying was too"
                            )
                found = future.result()
                copied += [found] if found else []
                done += item.size
        except BaseException:
            # What is left in the queue is not begun.
            for future in futures:
                future.cancel()
            raise
    return copied


def present(params: dict[str, Any], check: bool) -> dict[str, Any]:
    started = time.monotonic()
    store, bucket = connect(params)
    snapshot = _s3.snapshot_bucket(bucket, params["id"])
    items = wanted(store, bucket, params["prefixes"])
    copied: list[_s3.Object] = []
    if not check:
        snapshot = make(store, bucket, params["id"], os.path.dirname(params["dest"].rstrip("/")))
        found = copies(store, bucket, items, snapshot, params)
        copied = [item.source for item in found]
        wrong = _s3.differences((item.copy for item in found), store.objects(snapshot))
        if wrong:
            raise s3.S3Error(
                f"{len(wrong)} of {len(copied)} copies in bucket {snapshot} are not what was copied. Run it again"
            )
        os.makedirs(params["dest"], mode=0o700, exist_ok=True)
        lines = (json.dumps(item._asdict(), ensure_ascii=False, sort_keys=True) + "\n" for item in copied)
        write_private(os.path.join(params["dest"], "objects.jsonl"), "".join(lines))
    meta = {
        "server": store.shown,
        "bucket": bucket,
        "snapshot": snapshot,
        "prefixes": params["prefixes"],
        "objects": len(items if check else copied),
        "bytes": sum(item.size for item in (items if check else copied)),
        "vanished": 0 if check else len(items) - len(copied),
    }
    return {"artifact": restore_points.artifact("objects", params["dest"], meta, time.monotonic() - started)}


def absent(params: dict[str, Any], check: bool) -> dict[str, Any]:
    store, _bucket = connect(params)
    removed = []
    for snapshot in params["snapshots"]:
        try:
            keys = [item.key for item in store.objects(snapshot)]
        except s3.S3Error as exc:
            if exc.code in ("NoSuchBucket", "404"):
                continue
            raise
        removed.append(snapshot)
        if not check:
            with ThreadPoolExecutor(max(1, params["parallel"])) as pool:
                list(pool.map(lambda key, place=snapshot: store.delete(place, key), keys))
            store.remove(snapshot)
    return {"removed": removed}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "id": {"type": "str"},
            "snapshots": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path"},
            "prefixes": {"type": "list", "elements": "str", "default": []},
            **s3.SPEC,
            "parallel": {"type": "int", "default": 4},
            "timeout": {"type": "float", "default": 60},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "journal": JOURNAL_SPEC,
            **transfer.PROGRESS_SPEC,
        },
        required_if=[("state", "present", ["id", "dest"]), ("state", "absent", ["snapshots"])],
        supports_check_mode=True,
    )
    params = module.params
    is_present = params["state"] == "present"
    if is_present and not _manifest.is_id(params["id"]):
        module.fail_json(msg=f"{params['id']!r} is not the id of a restore point, such as 20250115T050000Z-deploy.")
    for name in [] if is_present else params["snapshots"]:
        if not _s3.is_snapshot(name):
            module.fail_json(msg=f"{name!r} is not the bucket of a restore point. Nothing was removed.")
    try:
        with transfer.told(params["progress"]), Recorder(params["journal"], module.check_mode, "objects").heartbeat():
            result = (present if is_present else absent)(params, module.check_mode)
    except s3.S3Error as exc:
        what = "were not backed up" if is_present else "of old restore points were not removed"
        cure = {
            "": "Start it, or see that it can be reached, and run it again",
            "InvalidAccessKeyId": "See that the access key is the right one",
            "SignatureDoesNotMatch": "See that the secret key is the right one",
            "AccessDenied": "These keys must be allowed to read the bucket, and to make one beside it",
            "NoSuchBucket": "See that the bucket's name is the right one",
        }.get(exc.code)
        module.fail_json(msg=f"The objects {what}: {exc}." + (f" {cure}." if cure and ". " not in str(exc) else ""))
    except restore_points.RestorePointError as exc:
        module.fail_json(msg=f"The objects were not backed up: {exc}.")
    except OSError as exc:
        module.fail_json(
            msg=f"The objects were not backed up: {params['dest']} can't be written ({exc.strerror}). Free some space "
            "there, or name another place: -e rollback_backup_dir=…"
        )
    module.exit_json(changed=is_present or bool(result["removed"]), **result)


if __name__ == "__main__":
    main()
