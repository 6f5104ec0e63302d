# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  backend_dir:
    description: The backend's directory, which holds O(config). Needed wherever revisions are run.
    type: path
  config:
    description: Alembic's configuration, relative to O(backend_dir).
    type: str
    default: alembic.ini
  python:
    description: The application's Python. By default the first of O(venvs) that has one.
    type: path
  venvs:
    description: Names of virtual environments in O(backend_dir), in order of preference.
    type: list
    elements: str
    default: [venv, .venv]
"""
