# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal and the lock on the app host: files only; what they mean is decided in ``_journal.py``.

Layout below the state directory: ``lock`` (who runs; its mtime is the heartbeat), ``lock.guard`` (taken by
flock while the lock changes hands), ``runs/<run_id>/journal.jsonl``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _journal

#: Option that every module which changes the system takes. Documented in doc_fragments/journal.py.
JOURNAL_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "state_dir": {"type": "path", "required": True},
        "run_id": {"type": "str", "required": True},
        "act": {"type": "str", "required": True},
        "step": {"type": "str"},
        "undo": {"type": "bool", "default": False},
    },
}


class RunError(Exception):
    """The lock or the journal says no. The message names the cure."""


def _sync_dir(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_private(path: str, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_dir(os.path.dirname(path))


class State:
    """The state directory of one app host."""

    def __init__(self, state_dir: str) -> None:
        self.path = state_dir
        self.lock_path = os.path.join(state_dir, "lock")

    def run_dir(self, run_id: str) -> str:
        if os.path.basename(run_id) != run_id or run_id in ("", ".", ".."):
            raise RunError(f"{run_id!r} is not a run id")
        return os.path.join(self.path, "runs", run_id)

    def journal_path(self, run_id: str) -> str:
        return os.path.join(self.run_dir(run_id), "journal.jsonl")

    def prepare(self) -> None:
        for path in (self.path, os.path.join(self.path, "runs"), os.path.join(self.path, "cache")):
            os.makedirs(path, mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        fd = os.open(self.lock_path + ".guard", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def append(self, run_id: str, event: str, **fields: Any) -> dict[str, Any]:
        """Add one record, on disk before this returns, and refresh the lock's heartbeat."""
        record = {"time": round(time.time(), 3), "run_id": run_id, "event": event, **fields}
        path = self.journal_path(run_id)
        with open(path, "a+b") as stream:
            os.chmod(path, 0o600)
            stream.seek(0)
            content = stream.read()
            tail = content[content.rfind(b"\n") + 1 :]
            prefix = b""
            if _journal.whole(tail):
                prefix = b"\n"
            elif tail:
                # Cut off by a crash: it would swallow this record, or read as damage in the middle.
                stream.truncate(len(content) - len(tail))
            stream.write(prefix + json.dumps(record, ensure_ascii=False, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.touch(run_id)
        return record

    def read(self, run_id: str) -> list[dict[str, Any]]:
        try:
            # A record can be cut off in the middle of a character.
            with open(self.journal_path(run_id), encoding="utf-8", errors="replace") as stream:
                return _journal.decode(stream.read())
        except FileNotFoundError:
            return []
        except ValueError as exc:
            raise RunError(
                f"The journal of run {run_id} can't be read: {exc}. Look at {self.journal_path(run_id)}."
            ) from exc

    def run_ids(self) -> list[str]:
        """All runs, oldest first (an id begins with its UTC time)."""
        try:
            with os.scandir(os.path.join(self.path, "runs")) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []

    def summaries(self) -> list[dict[str, Any]]:
        return [_journal.summary(self.read(run_id)) | {"run_id": run_id} for run_id in self.run_ids()]

    def holder(self) -> dict[str, Any] | None:
        """Who holds the lock, with ``age`` in seconds since the last sign of life, or None."""
        try:
            with open(self.lock_path, encoding="utf-8") as stream:
                text = stream.read()
            age = time.time() - os.stat(self.lock_path).st_mtime
        except FileNotFoundError:
            return None
        try:
            holder = json.loads(text)
        except ValueError:
            holder = {}
        return {
            "run_id": holder.get("run_id", "unknown"),
            "owner": holder.get("owner", "unknown"),
            "age": max(0.0, age),
        }

    def touch(self, run_id: str) -> None:
        holder = self.holder()
        if holder is None or holder["run_id"] != run_id:
            raise RunError(
                f"Run {run_id} no longer holds the lock"
                + (f" (run {holder['run_id']} of {holder['owner']} does)" if holder else "")
                + "; it stops here. Look at what the other run does before you go on."
            )
        os.utime(self.lock_path)

    def unfinished(self) -> dict[str, Any] | None:
        """The newest run that was cut off between its first change and its end, or None."""
        for run_id in reversed(self.run_ids()):
            records = self.read(run_id)
            if records and _journal.ended(records) is None and _journal.pending(records):
                return _journal.summary(records) | {"run_id": run_id}
        return None

    def may_reopen(self, run_id: str) -> str:
        """Return the id of a run that is over and can be taken back, or raise RunError that says why it can't be."""
        runs = self.run_ids()
        if run_id not in runs:
            known = [item["run_id"] for item in self.summaries() if item["outcome"] in _journal.STANDING]
            raise RunError(f"There is no run {run_id!r} here. Runs that still hold: {', '.join(known[-5:]) or 'none'}.")
        records = self.read(run_id)
        outcome = _journal.ended(records)
        if outcome not in _journal.STANDING and outcome is not None:
            raise RunError(f"Run {run_id} ended as {outcome}: there is nothing of it to undo.")
        if not _journal.pending(records):
            raise RunError(f"Run {run_id} changed nothing that could be undone.")
        purged = {
            str(record.get("run")): run for run in runs for record in self.read(run) if record["event"] == "purged"
        }
        if run_id in purged:
            raise RunError(
                f"What run {run_id} put aside was purged by run {purged[run_id]}: there is nothing to go back to but "
                "its restore point."
            )
        # One that was purged can't be undone first, and what this one put aside is found whatever came after it.
        later = [
            item["run_id"]
            for item in self.summaries()
            if item["run_id"] > run_id
            and item["outcome"] in _journal.STANDING
            and item["pending"]
            and item["run_id"] not in purged
        ]
        if later:
            raise RunError(
                f"Run {later[-1]} changed the system after run {run_id}: undo that one first, or roll back to the "
                "release that you want."
            )
        return run_id

    def refusal(self, stale_after: float, takeover: str | None, resume: str | None) -> str | None:
        """Why the lock can't be had now, with its cure, or None."""
        holder = self.holder()
        if holder and holder["age"] < stale_after and holder["run_id"] != takeover:
            words = f"-e rollback_lock_takeover={holder['run_id']}"
            # What it began has to be taken back first, which this run would only say after the takeover.
            begun = resume is None and bool(_journal.pending(self.read(holder["run_id"])))
            how = (
                f"take it back: ansible-playbook -i INVENTORY playbooks/resume.yml {words}" if begun else f"add {words}"
            )
            return (
                f"Run {holder['run_id']} of {holder['owner']} is under way (last sign of life {holder['age']:.0f} s "
                f"ago). Wait for it to end; if you know that it is dead, {how}."
            )
        unfinished = self.unfinished()
        if unfinished and unfinished["run_id"] != resume:
            return (
                f"Run {unfinished['run_id']} was cut off in act {unfinished.get('act', 'unknown')} and left "
                f"{unfinished['pending']} step(s) neither finished nor undone. First run: ansible-playbook "
                "-i INVENTORY playbooks/resume.yml"
            )
        return None

    def acquire(
        self, run_id: str, owner: str, stale_after: float, takeover: str | None = None, resume: str | None = None
    ) -> None:
        """Take the lock, or raise RunError that names its holder and the cure."""
        self.prepare()
        with self.guard():
            why = self.refusal(stale_after, takeover, resume)
            if why:
                raise RunError(why)
            holder = self.holder()
            if holder and holder["run_id"] not in (run_id, resume):
                self._abandon(holder["run_id"], f"taken over by {run_id}")
            write_private(self.lock_path, json.dumps({"run_id": run_id, "owner": owner, "started": time.time()}))
        os.makedirs(self.run_dir(run_id), mode=0o700, exist_ok=True)

    def _abandon(self, run_id: str, why: str) -> None:
        """Close the journal of a run that is dead and left nothing to undo."""
        records = self.read(run_id)
        if records and _journal.ended(records) is None:
            self.append(run_id, "end", outcome="abandoned", message=why)

    def clear(self, stale_after: float, takeover: str | None) -> str | None:
        """Remove the lock of a run that died before it changed anything. Returns that run, or None without one.

        Raises:
            RunError: the run may still be alive.
        """
        if self.holder() is None:
            return None
        with self.guard():
            why = self.refusal(stale_after, takeover, None)
            if why:
                raise RunError(why)
            holder = self.holder()
            if holder is None:
                return None
            self._abandon(holder["run_id"], "cut off before it changed anything")
            os.unlink(self.lock_path)
            return str(holder["run_id"])

    def release(self, run_id: str) -> bool:
        """Give the lock back, if this run holds it, and clear its scratch when nothing is left to undo."""
        # A journal that can't be read keeps its scratch, not the lock.
        with contextlib.suppress(RunError, OSError):
            records = self.read(run_id)
            if not records or _journal.ended(records):
                shutil.rmtree(os.path.join(self.run_dir(run_id), "tree"), ignore_errors=True)
        with self.guard():
            holder = self.holder()
            if holder is None or holder["run_id"] != run_id:
                return False
            os.unlink(self.lock_path)
            return True


class Recorder:
    """What a module uses to journal its one step: the intent before the change, the outcome after it."""

    def __init__(self, options: dict[str, Any] | None, check_mode: bool, default_step: str) -> None:
        self.options = options if options and not check_mode else None
        self.step = (options or {}).get("step") or default_step
        self.state = State(os.path.expanduser(self.options["state_dir"])) if self.options else None

    def _add(self, status: str, **fields: Any) -> None:
        if self.options is None or self.state is None:
            return
        event = "undo" if self.options["undo"] else "step"
        self.state.append(
            self.options["run_id"], event, act=self.options["act"], step=self.step, status=status, **fields
        )

    def intent(self, **fields: Any) -> None:
        self._add("intent", **fields)

    def done(self, **fields: Any) -> None:
        self._add("done", **fields)

    def failed(self, message: str) -> None:
        """Note the failure. The failure itself is what the caller reports, so this one never raises."""
        with contextlib.suppress(RunError, OSError):
            self._add("failed", message=message)

    def unneeded(self) -> None:
        """Note that a step which is to be taken back never happened."""
        if self.options and self.options["undo"]:
            self.done(detail={"unneeded": True})

    @contextlib.contextmanager
    def heartbeat(self, interval: float = 10.0) -> Iterator[None]:
        """Keep the lock alive during one long piece of work."""
        if self.options is None or self.state is None:
            yield
            return
        stop, state, run_id = threading.Event(), self.state, self.options["run_id"]

        def beat() -> None:
            while not stop.wait(interval):
                with contextlib.suppress(RunError, OSError):
                    state.touch(run_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
