# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  urls:
    description: Addresses of C(/metrics), one for each process. Several are summed.
    type: list
    elements: str
    required: true
    aliases: [url]
  timeout:
    description: Seconds that one reading may take.
    type: float
    default: 5
  max_body_mib:
    description: Largest body that is read, in MiB, also after decompression.
    type: int
    default: 64
  validate_certs:
    description: Whether the certificate of an https server must be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates to trust, in place of the system's.
    type: path
  url_username:
    description: User name for basic authentication.
    type: str
  url_password:
    description: Password for basic authentication.
    type: str
  bearer_token:
    description: Token to log in with, sent in the header C(Authorization).
    type: str
  bearer_token_file:
    description: File on the host that holds the token and nothing else.
    type: path
"""
