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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import object_store


def main() -> None:
    module = AnsibleModule(argument_spec=object_store.ARGUMENT_SPEC, supports_check_mode=True)
    module.exit_json(changed=False, **object_store.answer(module.params))


if __name__ == "__main__":
    main()
