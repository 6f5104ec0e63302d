# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a Prometheus server. Errors are those of ``scrape``: final, or perhaps over at the next try."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.sparklio.rollback.plugins.module_utils import _prometheus as prom
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask


class Server:
    """A Prometheus server, or what has its HTTP API, as the options of ``scrape.CONNECTION_SPEC`` say to reach it.

    Raises:
        ValueError: the options can't be used.
    """

    def __init__(self, url: str, params: dict[str, Any]) -> None:
        self.shown = mask(url)
        self._url = url.rstrip("/")
        self._ask = scrape.connection(params)

    def query(self, expression: str) -> list[prom.Series]:
        """Return the series that a query finds now, by the server's clock.

        Raises:
            NothingToMeasure: it is no Prometheus, it refuses the query, or it wants another log-in.
            FetchError: it does not answer now, or not completely.
        """
        return self._get("query", {"query": expression}, prom.series)

    def names(self) -> list[str]:
        """Return the names of all metrics. Raises as ``query`` does."""
        return self._get(f"label/{quote('__name__')}/values", {}, lambda found: [str(name) for name in found or []])

    def declared(self, metric: str) -> bool:
        """Say whether a target that is scraped declares the metric, be it without a series. Raises as ``query``."""
        # OpenMetrics declares counters without their suffix.
        short = metric[: -len("_total")] if metric.endswith("_total") else metric
        return any(self._get("metadata", {"metric": name}, bool) for name in (metric, short))

    def _get(self, path: str, arguments: dict[str, str], read: Any) -> Any:
        query = "?" + urlencode(arguments) if arguments else ""
        with self._ask(f"{self._url}/api/v1/{path}{query}") as response:
            asked = f"GET {self.shown} /api/v1/{path}"
            status = response.status
            if status in (401, 403):
                raise scrape.NothingToMeasure(
                    f"{asked} answered {status}: log in by bearer_token, or by url_username and url_password"
                )
            if status in (429, 500, 502, 503, 504):
                raise fetch.FetchError(f"{asked} answered {status}")
            try:
                return read(prom.data(response.body()))
            except fetch.TooLarge as exc:
                raise scrape.NothingToMeasure(f"{exc}; narrow the selectors or raise max_body_mib") from exc
            except prom.Incomplete as exc:
                raise fetch.FetchError(f"{asked} {exc}") from exc
            except prom.AnswerError as exc:
                raise scrape.NothingToMeasure(f"{asked} {exc} (status {status})") from exc
