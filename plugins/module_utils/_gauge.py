# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gauges: their sum over series and endpoints, and whether it meets a condition."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import Exposition, Labels, Selector

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


class GaugeError(ValueError):
    """What was read is no gauge that could be compared."""


class Condition(NamedTuple):
    """What the sum of all series has to be."""

    op: str
    value: float

    def __str__(self) -> str:
        return f"{self.op} {self.value:g}"

    def met(self, values: Iterable[float]) -> bool:
        """Say whether it holds. For "== 0" each series must be 0, lest one that went negative hides another."""
        found = list(values)
        if (self.op, self.value) == ("==", 0):
            return not any(found)
        return OPERATORS[self.op](math.fsum(found), self.value)


def values(page: Exposition, metric: str, selector: Selector) -> dict[Labels, float]:
    """Return the series of one page; none where the gauge is declared and was never set.

    Raises:
        GaugeError: it is another kind of metric, no series has a label of the selector, or a value is not a number.
    """
    series = page.samples.get(metric, {})
    kind = page.types.get(metric)
    if kind in ("counter", "histogram", "summary"):
        raise GaugeError(f"{metric} is a {kind}, not a gauge")
    known = {name for labels in series for name, _value in labels}
    missing = {label for label, _operator, _value in selector.matchers} - known
    if series and missing:
        raise GaugeError(
            f"no series of {metric} has the label {', '.join(sorted(missing))}; "
            f"its labels are {', '.join(sorted(known)) or 'none'}"
        )
    found = {labels: value for labels, value in series.items() if selector.matches(dict(labels))}
    wrong = [value for value in found.values() if not math.isfinite(value)]
    if wrong:
        raise GaugeError(f"{metric} holds the value {wrong[0]}, which can't be compared")
    return found


def summed(pages: Iterable[dict[Labels, float]]) -> dict[Labels, float]:
    """Add endpoints up, series by series."""
    total: dict[Labels, float] = {}
    for page in pages:
        for labels, value in page.items():
            total[labels] = total.get(labels, 0.0) + value
    return total


def left(series: dict[Labels, float]) -> dict[str, float]:
    """Return the series that are not 0, by their labels as PromQL writes them, the largest first."""
    named = {
        ", ".join(f'{name}="{value}"' for name, value in labels): value for labels, value in series.items() if value
    }
    return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))
