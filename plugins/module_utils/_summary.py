# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last thing an operator reads: what happened, what serves now, what to do next. Korean beside English."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _verdict

_HEADLINES = {
    "rolled_back": ("ROLLED BACK", "롤백 완료"),
    "unchanged": ("NOTHING TO DO", "변경 없음"),
    "planned": ("DRY RUN", "점검만 수행 (변경 없음)"),
    "refused": ("REFUSED, nothing was changed", "거부됨, 변경 없음"),
    "failed": ("FAILED", "실패"),
    "reverted": ("FAILED AND UNDONE", "실패하여 원래 상태로 되돌림"),
    "held": ("FAILED AND HELD", "실패, 현재 상태 유지"),
    "backed_up": ("BACKED UP", "백업 완료"),
    "restored": ("RESTORED, beside what is there", "복원 완료, 기존 데이터는 그대로"),
    "resumed": ("RESUMED: the cut-off run was undone", "중단된 롤백을 되돌림"),
    "undone": ("UNDONE, as asked", "요청에 따라 되돌림"),
    "purged": ("PURGED", "보관된 데이터베이스 삭제 완료"),
    "approved": ("APPROVED, nothing was changed", "계획 승인됨 (변경 없음)"),
    "good": ("WATCHED, all is well", "모니터링 완료, 정상"),
    "breached": ("BREACHED: a limit was exceeded", "기준 초과"),
    "inconclusive": ("INCONCLUSIVE, which is not a pass", "판단 불가 (정상이라는 뜻이 아님)"),
    "error": ("COULD NOT MEASURE", "측정하지 못함"),
}
_CONCLUSIONS = {
    "healthy": ("HEALTHY, nothing to do", "정상, 조치 불필요"),
    "watch": ("WATCH, no rollback now", "관찰 필요, 지금은 롤백하지 않음"),
    "rollback": ("ROLL BACK", "롤백 필요"),
    "no_rollback": ("NO ROLLBACK WOULD HELP", "롤백으로 해결되지 않음"),
    "resume": ("RESUME THE CUT-OFF RUN FIRST", "중단된 롤백부터 복구"),
    "unknown": ("UNDECIDED, which is not healthy", "판단 불가 (정상이라는 뜻이 아님)"),
    "unassessed": ("COULD NOT ASSESS", "판단하지 못함"),
}
_SCENARIOS = {"emergency": "긴급", "performance": "성능", "function": "기능", "security": "보안"}
#: From bad to good: of several hosts the worst speaks for the run.
_RANKS = (
    "failed",
    "held",
    "reverted",
    "refused",
    "rolled_back",
    "resumed",
    "undone",
    "purged",
    "planned",
    "approved",
    "backed_up",
    "restored",
    "unchanged",
)
_ACTS = ("check", "preserve", "prepare", "switch", "validate", "undo", "record")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """Return the summary of a run.

    Args:
        outcome: ``outcome``, ``level``, ``from`` and ``to`` (names), ``serves`` (what serves now, None when that was
            not proven), ``checked_out`` (what the tree is at, where no more is known), ``seconds`` (of each act),
            ``verdicts``, ``message``, ``run_id``, ``run_dir``, ``branch``, ``next``; or what an assessment came to.
    """
    if outcome.get("level") == "assess":
        return assessment(outcome)
    english, korean = _HEADLINES.get(outcome["outcome"], (outcome["outcome"].upper(), ""))
    result = [f"{english} / {korean}" if korean else english]
    if outcome.get("to"):
        result.append(f"from {outcome.get('from') or 'what is not known'} to {outcome['to']}")
    if outcome.get("message"):
        result.append(f"why: {outcome['message']}")
    result += outcome.get("details") or []
    result += _verdict.table(outcome.get("verdicts") or [])
    seconds = outcome.get("seconds") or {}
    acts = [f"{name} {_duration(seconds[name])}" for name in _ACTS if seconds.get(name) is not None]
    if acts:
        total = _duration(sum(seconds[name] for name in _ACTS if seconds.get(name) is not None))
        result.append(f"time: {', '.join(acts)}; total {total}")
    if outcome.get("serves"):
        result.append(f"serves now / 현재 서비스 중: {outcome['serves']}")
    elif outcome.get("checked_out"):
        result.append(f"checked out, whether it serves was not proven / 체크아웃된 릴리스: {outcome['checked_out']}")
    if outcome.get("branch"):
        result.append(f"what was there before is kept in branch {outcome['branch']}")
    if outcome.get("restore_point"):
        result.append(f"what was there before is kept in restore point / 복원 지점: {outcome['restore_point']}")
    if outcome.get("run_dir"):
        result.append(f"journal on the host: {outcome['run_dir']}/journal.jsonl")
    if outcome.get("series"):
        result.append(f"series on the host: {outcome['series']}")
    if outcome.get("picture"):
        result.append(f"picture / 그래프: {outcome['picture']}")
    if outcome.get("baseline"):
        result.append(f"baseline on the host: {outcome['baseline']}")
    for host, item in (outcome.get("hosts") or {}).items():
        result.append(f"{host}: {item['outcome']}, serves {item.get('serves') or 'unproven'}")
    for text in outcome.get("next") or []:
        result.append(f"next / 다음: {text}")
    return result


def assessment(outcome: Mapping[str, Any]) -> list[str]:
    """Return what an assessment came to.

    Args:
        outcome: the statistic that ``_assess.overall`` makes.
    """
    recommendation = outcome["recommendation"]
    english, korean = _CONCLUSIONS[recommendation]
    if recommendation == "rollback":
        english += f": Level {outcome['rollback_level']}, to {outcome['target']}"
    result = [f"{english} / {korean}"]
    held = [f"{item['name']} ({_SCENARIOS[item['name']]})" for item in outcome["scenarios"]]
    result.append(f"scenario / 시나리오: {', '.join(held) or 'none / 해당 없음'}")
    result += [f"why: {outcome['message']}", f"결론: {outcome['message_ko']}"]
    hosts = outcome["hosts"]
    for name, item in hosts.items():
        if len(hosts) > 1:
            result.append(f"{name}: {item['recommendation']}: {item['message']}")
        result += _verdict.table(item["evidence"])
    result += [f"hint / 참고: {text}" for text in outcome["hints"]]
    if outcome["command"]:
        result.append(f"type / 실행: {outcome['command']}")
    return result


def unreachable(host: str, message: str) -> list[str]:
    """What to print when a host went away, since no act can run there any more."""
    why = " ".join(message.split()).removeprefix("Task failed: ")
    return [
        "UNREACHABLE / 접속 불가",
        f"why: {host} can't be reached: {why}",
        "next / 다음: check the network, and the address, user and key in the inventory; ssh to it has to work",
        "next / 다음: if it went away in the middle of a run: ansible-playbook -i INVENTORY playbooks/resume.yml",
    ]


def interrupted(runs: Mapping[str, str]) -> list[str]:
    """What to print when a run was ended from outside, between its lock and its end.

    Args:
        runs: name of a host to the run that holds its lock; at least one.
    """
    again = "ansible-playbook -i INVENTORY playbooks/resume.yml -e rollback_lock_takeover="
    one = len(runs) == 1
    return [
        "INTERRUPTED / 중단됨",
        "why: it was ended from outside. What it had begun can go on there for a while, and nothing was taken back",
        "next / 다음: this takes back what it changed, and gives its lock back / 변경 사항을 되돌리고 잠금을 해제:",
        *(f"next / 다음: {again}{run}" + ("" if one else f" -e rollback_hosts={host}") for host, run in runs.items()),
    ]


def pasteable(line: str, inventory: Sequence[str], playbook: str, here: str) -> str:
    """A line with its commands as they can be pasted: with the inventory and the playbooks of the command under way.

    Args:
        line: holds commands such as ``ansible-playbook -i INVENTORY playbooks/resume.yml``.
        inventory: the inventories that the command names; none where the configuration does.
        playbook: the playbook as it was typed, a path or a name such as ``sparklio.rollback.level1``.
        here: the current directory.
    """

    def near(item: str) -> str:
        path = item if "," in item else os.path.relpath(item, here)
        return item if path.startswith("..") else path

    line = line.replace("-i INVENTORY ", "".join(f"-i {shlex.quote(near(item))} " for item in inventory))

    def named(match: re.Match[str]) -> str:
        if playbook.startswith("sparklio.rollback."):
            return f"sparklio.rollback.{match[1]}"
        path = os.path.join(os.path.dirname(playbook), f"{match[1]}.yml")
        return shlex.quote(path) if os.path.exists(os.path.join(here, path)) else match[0]

    return re.sub(r"(?<![\w./-])playbooks/(\w+)\.yml", named, line)


def _with_cure(message: str) -> str:
    """Add what to do to a message of Ansible's own that names none."""
    message = " ".join(message.split())
    if re.search(r"\bsudo: |waiting for become|become password", message):
        message += " This user can't become another one there: give it a sudo rule, or pass --ask-become-pass."
    return message


def outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Decide what a run came to.

    Args:
        facts: ``level``, ``check_mode``, ``plans`` (whether there was only a plan to make), ``failures`` (each
            ``host``, ``act``, ``task``, ``message``), ``finished`` (``outcome`` and ``message`` of a run that ended
            early, or None), ``undone`` (True, False, or None when
            nothing was taken back), ``undo_failure``, ``started_again`` (whether what was stopped for the undo serves
            again), ``pending`` (names of steps), ``on_failure``, ``resumed``,
            ``current`` (the release found at the start), ``plan``,
            ``run`` (``id``, ``dir``), ``branch``, ``restore_point`` (where what was there before is kept),
            ``seconds``, ``verdicts``, ``verdict``, ``undo_verdicts``.

    Returns:
        What ``lines`` shows and other tooling reads; ``close`` is False when the run has to be resumed.
    """
    plan, run = facts.get("plan") or {}, facts.get("run") or {}
    origin = facts.get("origin") or plan.get("from") or {}
    target = facts.get("target") or plan.get("to") or {}
    current = facts.get("current") or {}
    before = origin.get("name") or current.get("tag") or (current.get("commit") or "")[:12] or None
    after = target.get("name")
    failures = list(facts.get("failures") or [])
    # An undo leads from what that run went to, to where it began.
    ends = (after, before) if facts.get("resumed") else (before, after)
    # What was only looked at serves as far as its processes tell.
    found = {"serves": before if plan.get("serving") else None, "checked_out": before}
    result: dict[str, Any] = {
        "run_id": run.get("id"),
        # A dry run has no journal.
        "run_dir": None if facts.get("check_mode") else run.get("dir"),
        "level": facts["level"],
        "from": ends[0],
        "to": ends[1],
        "branch": facts.get("branch"),
        "restore_point": facts.get("restore_point"),
        "seconds": dict(facts.get("seconds") or {}),
        "verdict": facts.get("verdict"),
        "verdicts": list(facts.get("verdicts") or []),
        "message": "",
        "serves": None,
        "next": [],
        "close": True,
    }
    if facts.get("check_mode") and facts.get("resumed"):
        steps = list(facts.get("pending") or [])
        details = [f"would take back / 되돌릴 단계: {', '.join(steps)}"] if steps else []
        if "database" in steps:
            details.append("what was written since would be counted, and kept in the database that is put aside")
        return {
            **result,
            "outcome": "planned",
            "message": failures[0]["message"],
            "details": details,
            "next": ["run it without --check"],
        }
    if not failures:
        finished = facts.get("finished")
        parked = _parked(run, facts.get("switched") or {})
        if finished:
            looked = {"serves": before} if finished["outcome"] == "unchanged" else found
            result.update(outcome=finished["outcome"], message=finished["message"], **looked)
            if finished["outcome"] == "planned":
                result["next"] = ["run it without --check"]
        elif facts.get("check_mode"):
            further = ["run it without --check"]
            if facts.get("plans"):
                again = "ansible-playbook -i INVENTORY playbooks/{}.yml, with the same -e"
                further = [
                    f"to agree to it: {again.format('plan')} and -e 'approve_as=\"NAME\"'",
                    f"to do it: {again.format('level3')}",
                ]
            result.update(outcome="planned", next=further, branch=None, **found)
        else:
            result.update(
                outcome="rolled_back",
                serves=after,
                next=[
                    "watch it for half an hour: ansible-playbook -i INVENTORY playbooks/monitor.yml",
                    "prove it again at any time: ansible-playbook -i INVENTORY playbooks/validate.yml",
                    *parked["next"],
                ],
                details=parked["details"],
            )
        return result
    first = next((item for item in failures if item["message"] != "another host failed"), failures[0])
    act, why = first["act"], _with_cure(str(first["message"]))
    where = f" on {first['host']}" if len(failures) > 1 else ""
    back_to = origin.get("tag") or current.get("tag") or before
    again = f"ansible-playbook -i INVENTORY playbooks/level1.yml -e target_tag={back_to} -e rollback_allow_bad=true"
    if plan.get("level") == 2:
        again = f"ansible-playbook -i INVENTORY playbooks/level2.yml -e restore_point={facts.get('restore_point')}"
    if plan.get("level") == 3:
        # Level 1 would refuse: the schema is another one by now.
        again = f"ansible-playbook -i INVENTORY playbooks/level3.yml -e undo={run.get('id')}"
    result["details"] = _written(facts)
    if act == "check":
        result.update(outcome="refused", message=why, **found)
    elif facts.get("undone") and facts.get("resumed"):
        result.update(
            outcome="undone" if facts.get("reopened") else "resumed",
            message=why,
            serves=before,
            verdict="pass",
            verdicts=list(facts.get("undo_verdicts") or []),
            next=_drop_undone(run, facts),
        )
    elif facts.get("undone"):
        result.update(
            outcome="reverted",
            message=f"{after} failed in act {act}{where}: {why}",
            serves=before,
            undo_verdicts=list(facts.get("undo_verdicts") or []),
            next=_drop_undone(run, facts),
        )
    elif facts.get("undone") is False:
        result.update(
            outcome="failed",
            message=f"{after} failed in act {act}{where}: {why} The way back to {before} failed too: "
            f"{facts.get('undo_failure')}"
            + (" The backend was started again, as it was before that." if facts.get("started_again") else ""),
            next=[
                "mend what is named above, then: ansible-playbook -i INVENTORY playbooks/resume.yml",
                "and prove it: ansible-playbook -i INVENTORY playbooks/validate.yml",
            ],
            close=False,
        )
    elif not facts.get("pending"):
        # It got as far as that, so Check found it served, unless the plan tells otherwise.
        found["serves"] = before if plan.get("serving", True) else None
        result.update(outcome="failed", message=f"Act {act} failed{where}: {why}", **found)
    else:
        result.update(
            outcome="held",
            message=f"{after} failed in act {act}{where} and was kept, as rollback_on_failure=hold asks: {why}",
            next=[f"to go back: {again}"],
            details=_parked(run, facts.get("switched") or {})["details"],
        )
    return result


def _parked(run: Mapping[str, Any], switched: Mapping[str, Any]) -> dict[str, Any]:
    """How a run is taken back, and what to say of a database that it put aside."""
    again, run_id = "ansible-playbook -i INVENTORY playbooks/level3.yml", run.get("id")
    if switched.get("salvage"):
        return {
            "details": [f"what was dropped is kept in schema / 삭제된 데이터 보관: {switched['salvage']}"],
            "next": [
                f"to take it back (restores the dump of this run): {again} -e undo={run_id}",
                f"once nobody needs what was dropped any more: {again} -e purge={run_id}",
            ],
        }
    if not switched.get("parked"):
        return {"details": [], "next": [f"to take it back: {again} -e undo={run_id}"]}
    return {
        "details": [
            f"the former database is kept as / 이전 데이터베이스: {switched['parked']}",
            f"the database was closed for {switched['closed_seconds']:.1f} s (copy {switched['copy_seconds']:.1f} s, "
            f"swap {switched['swap_seconds']:.3f} s)",
        ],
        "next": [
            f"to take it back: {again} -e undo={run_id}",
            f"once nobody needs the former database any more: {again} -e purge={run_id}",
        ],
    }


def _written(facts: Mapping[str, Any]) -> list[str]:
    """What was written to a database that was put aside again."""
    if not facts.get("kept_database"):
        return []
    written = list(facts.get("written_since") or [])
    return [
        f"what served meanwhile is kept as / 그동안의 데이터베이스: {facts['kept_database']}",
        f"written to it since / 그동안 변경된 행: {'; '.join(written) or 'nothing'}",
    ]


def _drop_undone(run: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """How what served meanwhile is dropped, where it was put aside."""
    if not facts.get("kept_database"):
        return []
    return [
        "once nobody needs what was written meanwhile any more: ansible-playbook -i INVENTORY playbooks/level3.yml "
        f"-e purge={run.get('id')}"
    ]


def of_hosts(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run came to on all of its hosts: the worst outcome, with each host's own under ``hosts``.

    A release serves only where it serves on every host; the seconds of an act are those of the slowest host.

    Args:
        outcomes: name of a host to what ``outcome`` returned for it, empty for one that came to no end (it was
            unreachable); at least one has an outcome.
    """
    known = {host: dict(item) for host, item in outcomes.items() if item}
    worst = min(known.values(), key=lambda item: _RANKS.index(item["outcome"]))
    if len(outcomes) == 1:
        return worst
    serving = {item.get("serves") if item else None for item in outcomes.values()}
    acts = {act for item in known.values() for act in item["seconds"]}
    return {
        **worst,
        "serves": serving.pop() if len(serving) == 1 else None,
        "seconds": {act: max(item["seconds"].get(act, 0) for item in known.values()) for act in acts},
        "hosts": {host: known.get(host, {"outcome": "unreachable", "serves": None}) for host in outcomes},
    }
