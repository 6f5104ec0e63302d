# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals: that a named person agreed to one plan, for some hours. Their files are in ``approvals.py``."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

HOURS = 4.0
_HASH = re.compile(r"[0-9a-f]{64}")
_TEXT_MOST = 200


class ApprovalError(ValueError):
    """An approval that can't be given or read. The message is one line and names the cure."""


def digest(subject: Mapping[str, Any]) -> str:
    """The hash of what a plan would do: SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(subject, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as UTC, such as ``2025-01-15T16:15:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def plan_hash(text: str) -> str:
    """The hash of a plan, checked, since a file is named by it.

    Raises:
        ApprovalError: it is none.
    """
    if not _HASH.fullmatch(text):
        raise ApprovalError(f"{text!r} is not the hash of a plan. Take all 64 characters that the plan shows.")
    return text


def person(text: str) -> str:
    """The name of who agrees, without blanks around it.

    Raises:
        ApprovalError: it is empty, too long, or more than one line.
    """
    name = text.strip()
    if not name or len(name) > _TEXT_MOST or not name.isprintable():
        raise ApprovalError("An approval names the person who gives it, in one line. Name them in full.")
    return name


def give(
    plan: str, by: str, recorded_by: str, now: float, hours: float = HOURS, subject: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make an approval.

    Args:
        plan: hash of the plan.
        by: who agrees to it.
        recorded_by: who wrote that down, ``user@host``.
        now: seconds since the epoch.
        hours: how long it holds.
        subject: what the plan would do, as ``_schema_plan.level3`` returns it, so that a later change can be named.

    Returns:
        ``plan``, ``by``, ``recorded_by``, ``at``, ``expires`` (seconds since the epoch) and ``subject``.

    Raises:
        ApprovalError: no hash, no person, no time, or a subject that is another plan's.
    """
    if not 0 < hours <= 24 * 7:
        raise ApprovalError(f"An approval can't hold for {hours:g} hours. Give more than 0 and at the most 168.")
    if subject and digest(subject) != plan_hash(plan):
        raise ApprovalError("What was given as the plan's subject has another hash. Make the plan anew, and read it.")
    return {
        "plan": plan_hash(plan),
        "by": person(by),
        "recorded_by": recorded_by,
        "at": round(now, 3),
        "expires": round(now + hours * 3600, 3),
        "subject": dict(subject or {}),
    }


def decode(text: str) -> dict[str, Any]:
    """Read an approval's file.

    Raises:
        ApprovalError: it is damaged.
    """
    try:
        found = json.loads(text)
        plan_hash(found["plan"])
        person(found["by"])
        return {
            "plan": found["plan"],
            "by": found["by"],
            "recorded_by": str(found["recorded_by"]),
            "at": float(found["at"]),
            "expires": float(found["expires"]),
            "subject": dict(found.get("subject") or {}),
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ApprovalError(
            f"It is damaged ({type(exc).__name__}). Remove it, and have the plan approved anew."
        ) from exc


def expired(approval: Mapping[str, Any], now: float) -> bool:
    """Whether it no longer holds. One from the future does not hold either: a clock was set back."""
    return not approval["at"] - 60 <= now < approval["expires"]


def _target(subject: Mapping[str, Any]) -> Any:
    to = subject.get("to") or {}
    return subject.get("level"), to.get("tag") or to.get("commit"), to.get("heads")


def for_plan(
    approvals: Iterable[Mapping[str, Any]], plan: str, subject: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """Which approval there is of a plan, and which of other plans that lead to the same place.

    Args:
        approvals: as ``decode`` returns them.
        plan: the hash of the plan.
        subject: what the plan would do, or nothing.
        now: seconds since the epoch.

    Returns:
        ``found`` (the approval with ``expired``, or None) and ``others`` (newest first, each with ``expired`` and
        ``changes``, how the plan differs from the one that was approved).
    """
    found, others = None, []
    for approval in approvals:
        item = {**approval, "expired": expired(approval, now)}
        if approval["plan"] == plan:
            found = item
        elif subject and _target(approval["subject"]) == _target(subject):
            others.append({**item, "changes": changes(approval["subject"], subject)})
    return {"found": found, "others": sorted(others, key=lambda item: item["at"], reverse=True)}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """How one plan's subject differs from another's, one text each."""
    texts = []
    for key in sorted(set(before) | set(after)):
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        if key == "revisions":
            texts += _revision_changes(was or [], now or [])
        elif key in ("from", "to"):
            texts.append(f"{key}: {_place(was)} then, {_place(now)} now")
        elif key == "steps":
            texts.append("the steps")
        else:
            texts.append(f"{key}: {was} then, {now} now")
    return texts


def _place(place: Any) -> str:
    place = place or {}
    heads = ", ".join(place.get("heads") or []) or "nothing"
    return f"{place.get('tag') or str(place.get('commit'))[:12]} at {heads}"


def _revision_changes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    was, now = ({item["revision"]: item for item in side} for side in (before, after))
    texts = [f"revision {name} is not taken back any more" for name in was if name not in now]
    texts += [f"revision {name} is taken back too" for name in now if name not in was]
    texts += [f"what revision {name} does" for name in now if name in was and was[name] != now[name]]
    return texts or ["the order of the revisions"]


def refusal(approval: Mapping[str, Any], plan: str) -> dict[str, str] | None:
    """Why a plan that needs an approval can't be carried out, or None.

    Args:
        approval: ``required``, ``found`` and ``others`` as ``for_plan`` returns them; ``how``, how one is given.
        plan: the hash of the plan.
    """
    if not approval["required"]:
        return None
    found, others = approval.get("found"), approval.get("others") or []
    how = approval.get("how") or "record it with the module sparklio.rollback.plan_approval"
    cure = f"Have somebody who answers for the data read this plan, and {how} (plan {plan})"
    if found and found["plan"] != plan:
        found, others = None, [found, *others]
    if found and not found["expired"]:
        return None
    if found:
        message = f"The approval of this plan by {found['by']} expired at {timestamp(found['expires'])}"
        return {"code": "approval_expired", "message": message, "cure": cure}
    if others:
        last = others[0]
        texts = "; ".join(last.get("changes") or []) or "it is another plan"
        message = f"{last['by']} approved another plan ({last['plan'][:12]}), and it changed since: {texts}"
        return {"code": "approval_other", "message": message, "cure": cure}
    return {"code": "approval_missing", "message": "Nobody approved this plan", "cure": cure}
