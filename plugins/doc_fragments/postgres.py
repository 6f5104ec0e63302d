# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of the application's database, such as V(postgresql+psycopg://user:password@127.0.0.1:5432/sparklio_v4),
        as SQLAlchemy takes it.
      - Exactly one of O(url) and O(env_file), where the database is asked at all.
    type: str
  env_file:
    description: File on the host that holds the address, such as the backend's C(.env).
    type: path
  env_key:
    description: Name of the variable in O(env_file).
    type: str
    default: DATABASE_URL
  bin_dir:
    description: Directory with PostgreSQL's programs. By default those of the server's version are looked for.
    type: path
"""

    ADMIN = r"""
options:
  admin_command:
    description:
      - Command to put in front of C(psql) to become somebody who may make databases on the same server, such as
        V(sudo -n -u postgres), as a list.
    type: list
    elements: str
    default: []
  admin_url:
    description: Address with the user and password of somebody who may make databases on the same server.
    type: str
"""
