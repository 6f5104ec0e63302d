"""Runs one case against the sandbox as a user would, and judges it from outside.

A case is a mapping, given as JSON:
  name              what is shown
  tag               target_tag, left out where there is none
  playbook          default playbooks/level1.yml
  inventory         default inventories/sandbox
  args              further arguments of ansible-playbook
  reset             bring the sandbox back to its pristine state first
  break             faults of bin/sandbox, taken back afterwards
  on_app, off_app   shell commands on the app host before and after
  take              words that args and says stand for, each as a shell command on the app host prints it, after on_app
  rival             start another run first, and expect it to succeed
  needs             containers: left out where the sandbox is this machine itself
  thorough          true: left out by bin/test without --thorough
  kill              kill -9 the run as soon as its journal has a record with these fields
  interrupt         Ctrl-C as soon as the output holds this
  traffic           true: visitors come, false: none does, left out: as the case before left it
Expectations:
  ends              ok or failed (required)
  code              the exact exit code
  says, hides       parts that the output has and has not; white space counts as one blank
  untouched         nothing at all changed on the app host (true by default where the run is to fail)
  serves            the tag that is checked out and serves afterwards
  restarted         the backend process is a new one
  changed           number of changed tasks in the recap
  outcome           outcome in the last journal
  proof             shell commands on the app host that succeed afterwards
  down              the services need not answer afterwards
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LOGS = PROJECT / ".cache/test/cases"
#: There where a case failed, so that the next one does not inherit what it left.
SPOILT = LOGS / "spoilt"
#: What the app host was like when the case before had ended: the next one begins there, and need not look again.
LEFT = LOGS / "left.json"
#: Touched by bin/sandbox whenever it changes the sandbox: resets it, breaks or heals something.
CHANGED = PROJECT / ".cache/sandbox/lock"
#: Seconds after which somebody may have been at it by hand.
FRESH = 30
#: Cases with one of these do not begin as the one before ended, or do not end with the state that was looked at.
MOVING = {"reset", "break", "on_app"}
UNSETTLED = {"break", "off_app", "kill", "rival", "interrupt", "down", "proof"}
DEADLINE = 900
KNOWN = {
    *("name", "tag", "playbook", "args", "reset", "break", "on_app", "off_app", "rival", "kill", "ends", "says"),
    *("hides", "untouched", "serves", "restarted", "changed", "outcome", "down", "inventory", "needs", "proof"),
    *("code", "traffic", "interrupt", "take", "thorough"),
}
#: What no refused run may alter.
STILL = (
    *("head", "dirty", "branches", "backend", "frontend", "pm2", "build_id", "requirements", "venv", "settings"),
    "schema",
)


class CaseError(Exception):
    """The case could not be set up, which says nothing about the collection."""


def sandbox(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["bin/sandbox", *argv], cwd=PROJECT, input=stdin, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode:
        raise CaseError(f"bin/sandbox {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def restore_state() -> None:
    """Bring the sandbox back to where the scenario's cases begin."""
    playbook = os.environ.get("SPARKLIO_PREPARE")
    if not playbook:
        sandbox("reset")
        return
    python = f"ansible_python_interpreter={sys.executable}"
    argv = ["ansible-playbook", "-i", "localhost,", "-e", python, playbook]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    if done.returncode:
        raise CaseError(f"{playbook} ended with {done.returncode}: {done.stdout.strip()[-500:]}")


def observe(*what: str):
    out = sandbox("ssh", "app", "python3", "-", *what, stdin=(HERE / "observe.py").read_text(encoding="utf-8"))
    return json.loads(out.strip().splitlines()[-1])


def command(case: dict) -> list[str]:
    argv = [
        "ansible-playbook",
        "-i",
        case.get("inventory", "inventories/sandbox"),
        case.get("playbook", "playbooks/level1.yml"),
    ]
    if "tag" in case:
        # As JSON, so that blanks and line breaks of a hostile tag arrive.
        argv += ["-e", json.dumps({"target_tag": case["tag"]})]
    return argv + words(case.get("args", []))


def words(arguments: list) -> list[str]:
    """Arguments in a row; a list within is one that several cases share."""
    found = []
    for argument in arguments:
        found += words(argument) if isinstance(argument, list) else [str(argument)]
    return found


def taken(case: dict, printed: dict[str, str]) -> dict:
    """The case with what was printed in place of the words that stand for it."""

    def fill(text: str) -> str:
        for word, value in printed.items():
            text = text.replace(word, value)
        return text

    return {
        **case,
        "args": [fill(word) for word in words(case.get("args", []))],
        "says": [fill(text) for text in case.get("says", [])],
    }


def start(argv: list[str], log: Path) -> subprocess.Popen:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))},
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
    }
    with log.open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            argv,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell that starts something in the background has it ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def kill_when(process: subprocess.Popen, fields: dict, old_run: str | None) -> None:
    """Kill the whole process group once the new run's journal has a record with these fields."""
    while process.poll() is None:
        run = observe("progress")["run"]
        if run["run_id"] != old_run and any(fields.items() <= record.items() for record in run["records"]):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
    raise CaseError(f"the run ended before its journal had {fields}")


def interrupt_when(process: subprocess.Popen, text: str, log: Path) -> None:
    """Press Ctrl-C once the output holds the text."""
    while process.poll() is None:
        if squeeze(text) in squeeze(log.read_text(encoding="utf-8", errors="replace")):
            os.killpg(process.pid, signal.SIGINT)
            return
        time.sleep(0.2)
    raise CaseError(f"the run ended before it said: {text}")


def visit(wanted: bool) -> None:
    """Let visitors come, or none."""
    comes = "running" in sandbox("traffic", "status")
    if wanted and not comes:
        sandbox("traffic", "start", "--run-time", "20m")
    if comes and not wanted:
        sandbox("traffic", "stop")


def wait_for_lock(process: subprocess.Popen) -> None:
    while process.poll() is None:
        if observe("progress")["lock"]:
            return
    raise CaseError("the first run ended before it was seen to hold the lock")


def script(line: str) -> str:
    """Return what bash reads from its standard input: in braces, so that no command in it can take the rest away."""
    return f"set -e\n{{\n{line}\n}} </dev/null\n"


def squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def before(case: dict) -> dict:
    """The state that the case begins with: as the one before left it, where nothing happened since."""
    try:
        left = json.loads(LEFT.read_text(encoding="utf-8"))
        written = LEFT.stat().st_mtime
        fresh = time.time() - written < FRESH and CHANGED.stat().st_mtime < written
    except (OSError, ValueError):
        left, fresh = None, False
    LEFT.unlink(missing_ok=True)
    return left if fresh and not MOVING & set(case) else observe()


def leave(case: dict, wrong: list[str], after: dict) -> None:
    """Keep the state for the next case, where it can be relied on."""
    if not wrong and not UNSETTLED & set(case):
        LEFT.touch(mode=0o600)
        LEFT.write_text(json.dumps(after), encoding="utf-8")


def judge(case: dict, code: int, text: str, before: dict, after: dict, secrets: list[str], began: float) -> list[str]:
    """Everything that is not as the case says."""
    wrong = []
    flat = squeeze(text)
    if case["ends"] == "ok" and code != 0:
        wrong.append(f"it should succeed and ended with exit code {code}")
    if case["ends"] == "failed" and code == 0:
        wrong.append("it should fail and ended with exit code 0")
    if "code" in case and code != case["code"]:
        wrong.append(f"it should end with exit code {case['code']} and ended with {code}")
    wrong += [f"the output does not say: {part}" for part in case.get("says", []) if squeeze(part) not in flat]
    wrong += [f"the output says: {part}" for part in case.get("hides", []) if squeeze(part) in flat]
    if "Traceback (most recent call last)" in text:
        wrong.append("the output has a traceback")
    if any(secret in text for secret in secrets):
        wrong.append("the output has a secret in it")
    wrong += [f"{path} has a secret in it" for path in after["leaks"]]
    if case.get("untouched", case["ends"] == "failed" and "serves" not in case and "kill" not in case):
        wrong += [f"{key} changed: {before[key]} -> {after[key]}" for key in STILL if before[key] != after[key]]
    if "serves" in case:
        if after["describe"] != case["serves"]:
            wrong.append(f"{after['describe']} is checked out, not {case['serves']}")
        if after["dirty"]:
            wrong.append(f"the tree is dirty: {after['dirty']}")
    if case.get("restarted") and not (
        after["backend"] and all(item["started"] >= began - 1 for item in after["backend"])
    ):
        wrong.append(f"the backend did not start after the run began: {after['backend']}")
    if not case.get("down") and "kill" not in case:
        if after["health"]["code"] != before["health"]["code"] and after["health"]["code"] != 200:
            wrong.append(f"the backend answers {after['health']}")
        if after["web"] not in (200, before["web"]):
            wrong.append(f"the frontend answers {after['web']}")
        if after["lock"] and not before["lock"]:
            wrong.append(f"the lock is still held: {after['lock']}")
    if "changed" in case:
        counts = [int(number) for number in re.findall(r"\bchanged=(\d+)", text)]
        if not counts or sum(counts) != case["changed"]:
            wrong.append(f"changed tasks: {counts}, expected {case['changed']} in all")
    if "outcome" in case:
        ends = [record.get("outcome") for record in after["run"]["records"] if record.get("event") == "end"]
        if ends[-1:] != [case["outcome"]]:
            wrong.append(f"the journal of {after['run']['run_id']} ends with {ends[-1:]}, not {case['outcome']}")
        if after["run"]["damaged"]:
            wrong.append(f"{after['run']['damaged']} lines of the journal can't be parsed")
    return wrong


def run(case: dict) -> list[str]:
    unknown = set(case) - KNOWN
    if unknown or "ends" not in case:
        raise CaseError(f"unknown or missing keys: {sorted(unknown) or 'ends'}")
    log = LOGS / (re.sub(r"[^a-z0-9]+", "-", case["name"].lower()).strip("-") + ".log")
    if case.get("reset") or SPOILT.exists():
        LEFT.unlink(missing_ok=True)
        restore_state()
        SPOILT.unlink(missing_ok=True)
    if "traffic" in case:
        visit(case["traffic"])
    rival = None
    try:
        for fault in case.get("break", []):
            sandbox("break", fault)
        for line in case.get("on_app", []):
            sandbox("ssh", "app", "bash -s", stdin=script(line))
        if "take" in case:
            asked = {word: sandbox("ssh", "app", "bash -s", stdin=script(line)) for word, line in case["take"].items()}
            if not all(value.strip() for value in asked.values()):
                raise CaseError(f"nothing was printed for one of {sorted(asked)}")
            case = taken(case, {word: value.strip() for word, value in asked.items()})
        found = before(case)
        if not found["secrets"]:
            raise CaseError("no secret was found on the app host, so none could be missed")
        began = time.time()
        if case.get("rival"):
            rival = start(command({**case, "args": []}), log.with_suffix(".rival.log"))
            wait_for_lock(rival)
        process = start(command(case), log)
        try:
            if "kill" in case:
                kill_when(process, case["kill"], found["run"]["run_id"])
            if "interrupt" in case:
                interrupt_when(process, case["interrupt"], log)
            code = process.wait(timeout=DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        text = log.read_text(encoding="utf-8", errors="replace")
        wrong = []
        if rival and rival.wait(timeout=DEADLINE) != 0:
            wrong.append(f"the first run ended with exit code {rival.returncode}, see {rival.args}")
        after = observe()
        wrong += judge(case, code, text, found, after, found["secrets"], began)
        for line in case.get("proof", []):
            try:
                sandbox("ssh", "app", "bash -s", stdin=script(line))
            except CaseError as error:
                wrong.append(f"the proof failed: {error}")
        leave(case, wrong, after)
        return wrong
    finally:
        if rival and rival.poll() is None:
            os.killpg(rival.pid, signal.SIGKILL)
        for line in case.get("off_app", []):
            sandbox("ssh", "app", "bash -s", stdin=script(line))
        for fault in reversed(case.get("break", [])):
            sandbox("heal", fault)


def report(result: str, seconds: float, text: str, wrong: Sequence[str] = ()) -> None:
    """Add a line to what bin/test shows at its end: tabs between its parts, the reasons of a failure last."""
    path = os.environ.get("SPARKLIO_CASES")
    if path:
        line = [result, f"{seconds:.0f}", text] + [squeeze(reason)[:300] for reason in wrong]
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("\t".join(line) + "\n")


def main() -> int:
    case = json.loads(sys.argv[1])
    LOGS.mkdir(parents=True, exist_ok=True)
    mode = json.loads((PROJECT / ".cache/sandbox/hosts.json").read_text(encoding="utf-8"))["mode"]
    reason = ""
    if case.get("needs", mode) != mode:
        reason = f"{case['name']}: needs {case['needs']}, and the sandbox is this machine itself"
    elif case.get("thorough") and os.environ.get("SPARKLIO_QUICK"):
        reason = f"{case['name']}: only with --thorough"
    if reason:
        report("skipped", 0, reason)
        print(f"SKIP: {reason}")
        return 0
    begin = time.monotonic()
    try:
        wrong = run(case)
    except (CaseError, subprocess.TimeoutExpired) as error:
        wrong = [f"the case could not be run: {error}"]
    if wrong:
        SPOILT.touch()
    report("failed" if wrong else "passed", time.monotonic() - begin, case["name"], wrong)
    if wrong:
        print(f"{case['name']}:")
        print("\n".join(f"  - {line}" for line in wrong))
        print(f"  command: {' '.join(command(case))}")
        print(f"  all output: {LOGS.relative_to(PROJECT)}/")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
