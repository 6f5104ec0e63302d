# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one HTTP request takes over from the answers of those before it, and how it is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.sparklio.rollback.plugins.module_utils._http_answer import excerpt

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class StepError(ValueError):
    """The step can't be made. The message says what is missing."""


class NothingThere(StepError):
    """The answer is an empty list, so that there is nothing to go on with."""


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a template with each ``{name}`` replaced. A text that is nothing else becomes the value, of its own type.

    Raises:
        StepError: no earlier step took that value.
    """
    if isinstance(template, Mapping):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    whole = _PLACE.fullmatch(template)
    if whole:
        return _value(whole[1], values)
    return _PLACE.sub(lambda match: str(_value(match[1], values)), template)


def fill_url(template: str, values: Mapping[str, Any]) -> str:
    """Return an address with each ``{name}`` replaced, and what would mean something else there encoded."""
    return _PLACE.sub(lambda match: quote(str(_value(match[1], values)), safe=""), template)


def _value(name: str, values: Mapping[str, Any]) -> Any:
    if name not in values:
        raise StepError(f"no earlier step takes {name!r}")
    return values[name]


def take(wanted: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return values of a JSON answer.

    Args:
        wanted: name to path. Dots lead into objects, numbers into lists: ``0.id``.
        body: of the answer.

    Raises:
        NothingThere: it is an empty list.
        StepError: it is no JSON, or holds no such value.
    """
    if not wanted:
        return {}
    try:
        answer = json.loads(body.decode("utf-8"))
    except ValueError:
        raise StepError(f"the answer is not JSON: {excerpt(body)}") from None
    if answer == []:
        raise NothingThere("the answer is an empty list")
    found = {}
    for name, path in wanted.items():
        value = answer
        for key in str(path).split("."):
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                raise StepError(f"the answer holds no {path!r}: {excerpt(body)}")
        found[name] = value
    return found


def multipart(field: str, name: str, content: bytes, boundary: str) -> tuple[bytes, str]:
    """Return the body that uploads one file as a form does, and its content type."""
    if boundary.encode() in content:
        raise ValueError("the boundary is part of the content")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"; filename="{_quoted(name)}"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _quoted(text: str) -> str:
    # As browsers do, by the HTML standard.
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
