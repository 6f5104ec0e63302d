# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads metrics pages over HTTP for the modules that measure, and tells what may pass from what will not.

``NothingToMeasure`` and ``ExpositionError`` are final: the address or the metric is wrong, and trying again does not
help. ``FetchError`` may be over at the next reading: nothing listens, no answer in time, 502 to 504.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

STARTED = "process_start_time_seconds"

MIXED = (
    "several processes take turns behind one port, each with counters of its own; run one process, or set "
    "prometheus_client's multiprocess mode (PROMETHEUS_MULTIPROC_DIR)"
)

#: How to reach a server: part of SPEC, and for modules that ask something other than metrics pages.
CONNECTION_SPEC: dict[str, dict[str, Any]] = {
    "timeout": {"type": "float", "default": 5},
    "max_body_mib": {"type": "int", "default": 64},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "bearer_token": {"type": "str", "no_log": True},
    "bearer_token_file": {"type": "path", "no_log": False},
}

#: The options of the doc fragment ``sparklio.rollback.metrics``, for an argument_spec.
SPEC: dict[str, dict[str, Any]] = {
    "urls": {"type": "list", "elements": "str", "required": True, "aliases": ["url"]},
    **CONNECTION_SPEC,
}

#: For AnsibleModule: ways to log in that exclude each other, and those that need each other.
EXCLUSIVE = [("bearer_token", "bearer_token_file", "url_username")]
TOGETHER = [("url_username", "url_password")]


class NothingToMeasure(Exception):
    """The endpoint answers, but not with what can be judged: trying again would not help."""


def authorization(params: dict[str, Any]) -> dict[str, str]:
    """Return the header that logs in, or none.

    Raises:
        ValueError: a token can't be read or can't be sent. The message does not hold it.
    """
    if params["url_username"]:
        pair = f"{params['url_username']}:{params['url_password'] or ''}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    token, path = params["bearer_token"], params["bearer_token_file"]
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is no text"
            raise ValueError(f"bearer_token_file {path} can't be read: {reason}") from exc
        if not token:
            raise ValueError(f"bearer_token_file {path} is empty")
    if not token:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("the bearer token holds a space, a line break or another character that no token has")
    return {"Authorization": f"Bearer {token}"}


def connection(params: dict[str, Any]) -> Callable[[str], fetch.Response]:
    """Return a function that asks for a URL as the options of CONNECTION_SPEC say.

    Raises:
        ValueError: the options can't be used.
    """
    headers = authorization(params)

    def ask(url: str) -> fetch.Response:
        limit = params["max_body_mib"] << 20
        return fetch.get(url, params["timeout"], limit, headers, params["validate_certs"], params["ca_path"])

    return ask


class Pages:
    """Metrics pages, as the options of SPEC say to read them.

    Raises:
        ValueError: the options can't be used.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self._ask = connection(params)

    def read(self, url: str, names: Iterable[str]) -> ex.Exposition:
        """Return the series of the named metrics.

        Raises:
            NothingToMeasure: it answers, but not with metrics.
            ExpositionError: it answers with metrics that can't be read.
            FetchError: it does not answer now.
        """
        wanted = list(names)
        return self._parse(url, lambda pieces: ex.read(pieces, wanted))

    def known_names(self, url: str) -> list[str]:
        """Return the names of all metrics of a page. Raises as ``read`` does."""
        return self._parse(url, ex.names)

    def _parse(self, url: str, parse: Callable[[Iterable[bytes]], Any]) -> Any:
        with self._ask(url) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if response.status != 200 or kind in ("text/html", "application/json"):
                seen = f"answered {response.status}" + (f" in {kind}" if kind else "")
                problem = f"GET {mask(url)} {seen}, not metrics; name the address of the metrics endpoint"
                # A server that is starting or overloaded may answer better at the next reading.
                raise fetch.FetchError(problem) if response.status in (502, 503, 504) else NothingToMeasure(problem)
            try:
                return parse(response.pieces())
            except ex.ExpositionError as exc:
                raise ex.ExpositionError(f"GET {mask(url)}: {exc}") from exc
            except fetch.TooLarge as exc:
                raise NothingToMeasure(f"{exc}; if that is a metrics page, raise max_body_mib") from exc


def created_name(metric: str) -> str:
    """Return the name under which a page says when each series of a metric began: two processes never agree on it."""
    return f"{metric[: -len('_total')] if metric.endswith('_total') else metric}_created"


def require(page: ex.Exposition, metric: str, url: str, known_names: Callable[[str], list[str]]) -> None:
    """Refuse a metric that the page does not know; one that it declares merely has no series yet.

    Raises:
        NothingToMeasure: the page lacks it. The message names the nearest names.
    """
    if metric in page.samples or metric in page.types:
        return
    raise NothingToMeasure(f"{mask(url)} has no metric {metric}; {similar(metric, known_names(url))}")


def similar(metric: str, known: Iterable[str]) -> str:
    """Return what to say of a name that is not known."""
    names = ex.nearest(metric, known)
    return f"the nearest names are {', '.join(names)}" if names else "no name there is similar"
