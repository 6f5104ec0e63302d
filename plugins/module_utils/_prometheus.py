# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus server answers, and the readings of each of its targets.

Counts are made from the stored samples themselves and not by ``increase()``, which estimates: it extrapolates to the
ends of the window, and it leaves out the value with which a series begins, so that the first errors of all would not
be seen. Sources: Prometheus documentation, "HTTP API" and "Query functions: increase()"; prometheus/prometheus issues
3746 (extrapolation) and 1673 (new series).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils._error_rate import Scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import Selector


class AnswerError(ValueError):
    """The answer is not one of Prometheus, or it refuses the query. The message says which, in one line."""


class Incomplete(Exception):
    """The answer comes with a warning: what it leaves out is not known."""


class Series(NamedTuple):
    """One series: its labels without the name, as sorted pairs; its name; and its samples as (seconds, value)."""

    name: str
    labels: tuple[tuple[str, str], ...]
    samples: list[tuple[float, float]]


class Target(NamedTuple):
    """What Prometheus scrapes: the labels that say which one it is, whether it can, and its readings."""

    labels: tuple[tuple[str, str], ...]
    up: bool
    scrapes: list[Scrape]


def shown(labels: Iterable[tuple[str, str]]) -> str:
    """Name a target."""
    own = dict(labels)
    return " ".join(own[name] for name in ("job", "instance") if own.get(name)) or "a target without a name"


def quoted(text: str) -> str:
    """Write a string as PromQL has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def matchers(selector: Selector) -> str:
    """Write the conditions of a selector as PromQL has them, without braces."""
    return ",".join(f"{label}{operator}{quoted(value)}" for label, operator, value in selector.matchers)


def data(body: bytes) -> Any:
    """Return what an answer of the API holds.

    Raises:
        AnswerError: it is no JSON of Prometheus, or an error.
        Incomplete: it warns.
    """
    try:
        answer = json.loads(body)
        status = answer["status"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise AnswerError("answered something else than the API of Prometheus does") from exc
    if status != "success":
        raise AnswerError(f"refused: {str(answer.get('error', status))[:300]}")
    if answer.get("warnings"):
        raise Incomplete(f"warns, so its answer may be incomplete: {'; '.join(map(str, answer['warnings']))[:300]}")
    return answer.get("data")


def series(found: Any) -> list[Series]:
    """Read the result of a query, be it a matrix or a vector.

    Raises:
        AnswerError: it is neither.
    """
    try:
        if found["resultType"] not in ("matrix", "vector"):
            raise AnswerError(f"answered with a {found['resultType']}, not with series")
        return [_series(item) for item in found["result"]]
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        if isinstance(exc, AnswerError):
            raise
        raise AnswerError("answered with series that can't be read") from exc


def _series(item: dict[str, Any]) -> Series:
    labels = dict(item["metric"])
    name = labels.pop("__name__", "")
    samples = item["values"] if "values" in item else [item["value"]] if "value" in item else []
    return Series(name, tuple(sorted(labels.items())), [(float(at), float(value)) for at, value in samples])


def targets(counters: Iterable[Series], about: Iterable[Series]) -> list[Target]:
    """Sort counters by the target that they come from.

    Args:
        counters: the series to count.
        about: ``up`` and ``process_start_time_seconds``. The labels of both are those of the target alone, so a
            counter is of the target whose labels are among its own.
    """
    up: dict[tuple, dict[float, float]] = {}
    started: dict[tuple, dict[float, float]] = {}
    for item in about:
        (up if item.name == "up" else started).setdefault(item.labels, {}).update(item.samples)
    known = {*up, *started}
    shapes = {tuple(name for name, _value in labels) for labels in known}
    grouped: dict[tuple, list[Series]] = {}
    for counter in counters:
        own = dict(counter.labels)
        keys = [tuple((name, own[name]) for name in shape) for shape in shapes if set(shape) <= set(own)]
        matching = [key for key in keys if key in known]
        alone = tuple((name, own[name]) for name in ("instance", "job") if name in own)
        grouped.setdefault(max(matching, key=len, default=alone), []).append(counter)
    return [
        Target(key, _last(up.get(key, {})) != 0, _scrapes(found, up.get(key, {}), started.get(key, {})))
        for key, found in sorted(grouped.items())
    ]


def _last(samples: dict[float, float]) -> float | None:
    return samples[max(samples)] if samples else None


def _scrapes(counters: list[Series], up: dict[float, float], started: dict[float, float]) -> list[Scrape]:
    # A scrape that brought no counter counts too: those that come after it began at 0.
    read: dict[float, dict] = {at: {} for at in (*started, *(at for at, value in up.items() if value))}
    for counter in counters:
        for at, value in counter.samples:
            read.setdefault(at, {})[counter.labels] = value
    return [Scrape(at, read[at], started.get(at)) for at in sorted(read)]
