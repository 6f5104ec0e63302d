# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: what one check found, what all of them together mean, and how both are shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Verdict = Mapping[str, Any]

MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "error": "✗"}

#: The levels of the runbook's checklist, in its order, and their headings.
LEVELS = {
    "system": "System / 시스템",
    "function": "Function / 기능",
    "performance": "Performance / 성능",
    "data": "Data / 데이터",
}

#: What Ansible adds to a module's result, and what the verdict says by itself.
_NOT_DATA = {
    "name", "verdict", "critical", "evidence", "changed", "failed", "failed_when_result", "skipped", "invocation",
    "ansible_facts", "warnings", "deprecations", "verdicts",
}  # fmt: skip


def one_line(text: Any, limit: int = 300) -> str:
    """Return text with every run of white space and every control character made one space, cut at a limit."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def make(name: str, verdict: str, evidence: Any, critical: bool = True, **data: Any) -> dict[str, Any]:
    """Return a verdict. One that is none of the four is an error: nothing unknown ever passes."""
    known = verdict in MARKS
    return {
        "name": name,
        "verdict": verdict if known else "error",
        "critical": bool(critical),
        "evidence": one_line(evidence if known else f"the check answered {verdict!r}, which is no verdict"),
        "data": data,
    }


def from_results(
    results: Mapping[str, Mapping[str, Any]],
    noncritical: Iterable[str] = (),
    levels: Mapping[str, Iterable[str]] | None = None,
    needs: Mapping[str, Iterable[str]] | None = None,
) -> list[dict[str, Any]]:
    """Turn what modules returned into verdicts, in the order given.

    Args:
        results: name of a check to its module's result. A result with ``verdicts`` stands for all of those; one that
            was skipped, or is empty, for none; one that failed is an error.
        noncritical: names of checks that decide nothing.
        levels: levels to the names of their checks. The verdicts are put in this order, then in the one of the names.
        needs: name of a check to those that it can't hold without. Where one of them did not hold, it decides nothing.
    """
    relaxed = set(noncritical)
    places = {name: (level, place) for level, names in (levels or {}).items() for place, name in enumerate(names)}
    found = []
    for name, result in results.items():
        if not result or result.get("skipped"):
            continue
        items = [result]
        if not result.get("failed") and isinstance(result.get("verdicts"), list):
            items = result["verdicts"]
        for item in items:
            if item.get("failed") or "verdict" not in item:
                item = {"verdict": "error", "evidence": item.get("msg") or "the check gave no verdict", "name": name}
            data = item.get("data") if isinstance(item.get("data"), Mapping) else None
            if data is None:
                data = {key: value for key, value in item.items() if key not in _NOT_DATA}
            label = str(item.get("name") or name)
            critical = bool(item.get("critical", True)) and not {label, name} & relaxed
            verdict = make(label, str(item["verdict"]), item.get("evidence", ""), critical, **data)
            key = label if label in places else name
            found.append((key, {**verdict, "level": places[key][0]} if key in places else verdict))
    lost = {item["name"] for _key, item in found if item["verdict"] in ("fail", "error")}
    for key, item in found:
        missing = [name for name in (needs or {}).get(key, ()) if name in lost]
        if missing and item["verdict"] != "pass":
            item.update(critical=False, evidence=one_line(f"{item['evidence']}; {missing[0]} did not hold either"))
    order = list(levels or {})
    last = (len(order), 0)
    found.sort(key=lambda pair: (order.index(places[pair[0]][0]), places[pair[0]][1]) if pair[0] in places else last)
    return [item for _key, item in found]


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the critical verdicts that make the whole a failure."""
    return [item for item in verdicts if item["critical"] and item["verdict"] in ("fail", "error")]


def overall(verdicts: Sequence[Verdict]) -> str:
    """Return what all mean together: fail, inconclusive or pass. No critical check at all is inconclusive."""
    critical = [item["verdict"] for item in verdicts if item["critical"]]
    if failed(verdicts):
        return "fail"
    if not critical or any(verdict != "pass" for verdict in critical):
        return "inconclusive"
    return "pass"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Return one aligned line a verdict, for a terminal, under the headings of their levels where they have some.

    A check that is not critical is never a cross.
    """
    width = max([_width(item["name"]) for item in verdicts], default=0)
    kinds = max([len(item["verdict"]) for item in verdicts], default=0)
    margin = "  " if any(item.get("level") for item in verdicts) else ""
    lines: list[str] = []
    above = None
    for item in verdicts:
        level = item.get("level")
        if level != above:
            lines.append(LEVELS.get(level or "", level or "Other / 기타"))
            above = level
        mark = MARKS[item["verdict"]] if item["critical"] or item["verdict"] == "pass" else "⚠"
        note = "" if item["critical"] or item["verdict"] == "pass" else " (non-critical)"
        name = item["name"] + " " * (width - _width(item["name"]))
        lines.append(f"{margin}{mark} {name}  {item['verdict']:<{kinds}}  {item['evidence']}{note}")
    return lines


def failure(verdicts: Sequence[Verdict], cures: Mapping[str, str] | None = None, inconclusive: bool = False) -> str:
    """Return one line that names each critical check that did not hold, with its evidence and what to do.

    Args:
        verdicts: of all checks.
        cures: name of a check, or else of its level, to what to do about it.
        inconclusive: name those without a clear answer too.
    """
    cures = cures or {}
    bad = failed(verdicts)
    if inconclusive:
        bad = [*bad, *(item for item in verdicts if item["critical"] and item["verdict"] == "inconclusive")]
    parts = []
    for item in bad:
        cure = cures.get(item["name"], cures.get(item.get("level", "")))
        found = f"{item['name']} ({item['verdict']}): {item['evidence'].rstrip('.')}."
        parts.append(f"{found} {cure}" if cure else found)
    if not parts:
        return "No critical check was made: nothing is proven. Name some in validate_checks."
    checks = "1 critical check" if len(parts) == 1 else f"{len(parts)} critical checks"
    return f"{checks} of {sum(1 for item in verdicts if item['critical'])} did not hold. " + " | ".join(parts)
