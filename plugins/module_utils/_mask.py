# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes secrets out of text that is about to be shown, such as the last lines of a log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

_SECRET_NAME = re.compile(r"pass|secret|token|key|credential|dsn|_url$|^url$", re.IGNORECASE)
# Up to the last @: a password may hold "/" and "@" where nobody encoded it, and hiding too much is harmless.
_URL_PASSWORD = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/'\"]*):([^\s'\"]+)@")
# Alone, what stands before the @ is a token more often than a user. In ssh's addresses it is always a user.
_URL_TOKEN = re.compile(r"(?<!ssh)://[^\s:/?#@'\"]+(?::(?:x-oauth-basic)?)?@")
_ASSIGNMENT = re.compile(
    r"(?i)\b([a-z0-9_]*(?:password|passwd|secret|token|api[_-]?key)[a-z0-9_]*['\"]?\s*[=:]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|[^\s'\",;]+)"
)
# A command's option and its value, in a line or in the list of its arguments.
_OPTION = re.compile(
    r"(?i)(--[a-z0-9_-]*(?:password|passwd|secret|token|key)['\"]?,?[ \t]+)(?:\"[^\"]*\"|'[^']*'|(?!-)\S+)"
)


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values in an environment that must never be shown, longest first."""
    values = set()
    for name, value in environment.items():
        if len(value) < 4 or not _SECRET_NAME.search(name):
            continue
        match = _URL_PASSWORD.search(value)
        if match and len(match.group(2)) >= 4:
            values.update((match.group(2), unquote(match.group(2))))
        if "://" not in value and not value.startswith("/"):
            values.add(value)
    return sorted(values, key=len, reverse=True)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace known secrets, passwords and tokens in URLs, ``password=…`` and ``--password …`` by ``***``."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _URL_PASSWORD.sub(r"\1:***@", _URL_TOKEN.sub("://***@", text))
    return _OPTION.sub(r"\1***", _ASSIGNMENT.sub(r"\1***", text))
