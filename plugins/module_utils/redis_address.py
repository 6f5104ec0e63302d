# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the application's Redis is: as an option says, or its environment file."""

from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv


class NoAddress(Exception):
    """The address is not where it should be. The message says what to do."""


def find_url(url: str | None, env_file: str | None, env_key: str) -> str:
    """Return the address, from the option or from the environment file."""
    if url:
        return url
    try:
        with open(env_file or "", encoding="utf-8-sig", errors="replace") as file:
            variables = _dotenv.parse(file.read())
    except OSError as exc:
        raise NoAddress(f"the environment file {env_file} can't be read: {exc.strerror}") from exc
    if not variables.get(env_key):
        raise NoAddress(f"{env_file} sets no {env_key}; name the variable that holds the address of Redis")
    return variables[env_key]
