#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: object_store_check
short_description: Check that the object store (MinIO, S3) shows the bucket to the application's own keys
version_added: "0.1.0"
description:
  - Asks for the first object of the bucket, signed with the keys that the application uses. Reads nothing else, and
    changes nothing.
  - Needs neither the client C(mc) nor a Python library. The secret key is never sent, shown, or on a command line.
  - A server that does not answer is a result, not a failure of the module.
  - The bucket is addressed by path, as MinIO takes it.
options:
  env_file:
    description: File on the host that holds the address and the keys, such as the backend's C(.env).
    type: path
    required: true
  endpoint:
    description: Address of the server, in place of the one in O(env_file). Without a scheme, C(http) is meant.
    type: str
  bucket:
    description: Name of the bucket where O(env_file) names none.
    type: str
    default: sparklio-assets
  region:
    description: Region of the bucket where O(env_file) names none.
    type: str
    default: us-east-1
  env_keys:
    description: Names of the variables in O(env_file), each the first that is set.
    type: dict
    default: {}
    suboptions:
      endpoint:
        description: Hold the address.
        type: list
        elements: str
        default: [S3_ENDPOINT, S3_ENDPOINT_URL, MINIO_ENDPOINT, AWS_ENDPOINT_URL]
      access_key:
        description: Hold the access key.
        type: list
        elements: str
        default: [S3_ACCESS_KEY, MINIO_ACCESS_KEY, AWS_ACCESS_KEY_ID]
      secret_key:
        description: Hold the secret key.
        type: list
        elements: str
        default: [S3_SECRET_KEY, MINIO_SECRET_KEY, AWS_SECRET_ACCESS_KEY]
      bucket:
        description: Hold the bucket.
        type: list
        elements: str
        default: [S3_BUCKET, MINIO_BUCKET, S3_BUCKET_NAME, MINIO_BUCKET_NAME]
      region:
        description: Hold the region.
        type: list
        elements: str
        default: [S3_REGION, MINIO_REGION, AWS_REGION]
  timeout:
    description: Seconds that the answer may take.
    type: float
    default: 5
  validate_certs:
    description: Whether the certificate of an https server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Check that the object store shows its bucket
  sparklio.rollback.object_store_check:
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
"""

RETURN = r"""
verdict:
  description:
    - V(pass), V(fail) when the server refuses, V(error) when it can't be reached.
    - V(inconclusive) where no address is known, or no keys and the server merely answers.
  returned: always
  type: str
  sample: pass
evidence:
  description: What was asked and seen, in one line without the keys.
  returned: always
  type: str
  sample: http://127.0.0.1:9000 shows the bucket sparklio-assets
server:
  description: Address without user and password, or null where it isn't known.
  returned: always
  type: str
  sample: http://127.0.0.1:9000
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 0.02
"""

import re
import time
from typing import Any, Optional
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _sigv4, fetch
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.s3 import SPEC, read_settings

Found = tuple[str, str, Optional[str]]


def check(params: dict[str, Any], now: float) -> Found:
    """Return the verdict, the evidence, and the address without credentials."""
    try:
        settings = read_settings(params)
    except OSError as exc:
        return "error", f"the environment file {params['env_file']} can't be read: {exc.strerror}", None
    if "endpoint" not in settings:
        names = ", ".join(params["env_keys"]["endpoint"])
        return (
            "inconclusive",
            f"{params['env_file']} sets none of {names}: where the object store is, is not known",
            None,
        )
    server = mask(settings["endpoint"].rstrip("/"))
    url = f"{settings['endpoint'].rstrip('/')}/{quote(settings['bucket'])}?list-type=2&max-keys=1"
    signed = {}
    if settings.get("access_key") and settings.get("secret_key"):
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signed = _sigv4.headers(url, settings["access_key"], settings["secret_key"], settings["region"], at)
    try:
        with fetch.get(
            url, params["timeout"], 1 << 20, signed, params["validate_certs"], params["ca_path"]
        ) as response:
            status, body = response.status, response.body()
    except fetch.FetchError as exc:
        return "error", str(exc), server
    return (*judge(server, settings["bucket"], bool(signed), status, body), server)


def judge(server: str, bucket: str, signed: bool, status: int, body: bytes) -> tuple[str, str]:
    """Return the verdict and its evidence."""
    if status == 200 and b"ListBucketResult" in body:
        return "pass", f"{server} shows the bucket {bucket}"
    code = re.search(rb"<Code>(\w+)</Code>", body)
    seen = f"{server} answered {status}" + (f" ({code[1].decode()})" if code else "")
    if status in (401, 403) and not signed:
        return "inconclusive", f"{seen}; the environment file holds no keys to ask for the bucket {bucket} with"
    return "fail", f"{seen} when asked for the bucket {bucket}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "timeout": {"type": "float", "default": 5},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    start = time.monotonic()
    verdict, evidence, server = check(module.params, time.time())
    module.exit_json(
        changed=False,
        verdict=verdict,
        evidence=one_line(evidence),
        server=server,
        seconds=round(time.monotonic() - start, 3),
    )


if __name__ == "__main__":
    main()
