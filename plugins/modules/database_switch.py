#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_switch
short_description: Let a downgraded copy of a database take its place, and the former one back
version_added: "0.1.0"
description:
  - The database that serves is never downgraded. It is closed, copied as files, and the copy is downgraded with the
    application's own Alembic, in its own virtual environment, and checked. Then both change their names in one
    transaction. The former database stays under the name C(<database>_parked_<time of the run>), closed, until it is
    purged on purpose.
  - Whatever fails before the names change leaves the former database serving, and the copy is dropped.
  - V(undone) lets the former database serve again, from wherever a run was cut off. What served meanwhile is kept as
    C(<database>_undone_<time of the run>), and how many rows were written to it since is reported.
  - Databases are told apart by their oid, which a change of names does not alter.
  - Only one switch of a database is under way at a time, by an advisory lock in the database C(postgres).
options:
  state:
    description:
      - V(switched) downgrades a copy and lets it serve, V(undone) takes that back, V(purged) drops what a run has
        parked.
    type: str
    choices: [switched, undone, purged]
    default: switched
  run_id:
    description: The run that this belongs to. The names of the databases come from it.
    type: str
    required: true
  revisions:
    description: Revisions that are taken back, newest first. For V(switched).
    type: list
    elements: str
    default: []
  heads:
    description: What the version table has to be at before. For V(switched).
    type: list
    elements: str
    default: []
  target_heads:
    description: What it has to be at afterwards. For V(switched).
    type: list
    elements: str
    default: []
  may_change:
    description: Tables, as C(schema.table), whose rows may be others afterwards, as a rehearsal has shown.
    type: list
    elements: str
    default: []
  version_table:
    description:
      - Alembic's version table, with its schema where that is known, as M(sparklio.rollback.database_rehearsal) or
        M(sparklio.rollback.alembic_info) answers. Whoever holds it migrates, and V(switched) is refused.
    type: str
    default: alembic_version
  schema_file:
    description:
      - File with the schema that the copy must have afterwards, as M(sparklio.rollback.database_rehearsal) leaves it.
    type: path
  mode:
    description:
      - V(copy) downgrades a copy. V(in_place) downgrades the database itself, for one that is too big to copy, or that
        subscriptions or replication slots belong to. It does so in one transaction, and what that drops is copied
        into a schema C(<database>_salvage_<time of the run>) in the same
        transaction. A revision that leaves the transaction is refused.
      - It is compared with the rehearsal in that transaction too, so that whatever differs is rolled back.
      - What it waits for longer than O(lock_timeout) it gives up, and tries again.
      - V(undone) restores O(dump) into a new database then, and lets that serve.
    type: str
    choices: [copy, in_place]
    default: copy
  lost:
    description:
      - What to copy aside with V(in_place), each C(table) and C(column), or C(schema). A column of null stands for the
        table, a schema for all its tables. Values of types that are the application's own are kept as text.
      - Nobody else writes to these tables, nor to those of O(may_change), from before the copy until the end.
    type: list
    elements: dict
    default: []
  dump:
    description: Artifact's directory of a dump that was made after the writers were stopped. Needed with V(in_place).
    type: path
  dump_files:
    description:
      - Its files, each C(path), C(size) and C(sha256), as M(sparklio.rollback.pg_backup) answers. Needed with
        V(in_place). They are compared before anything is changed, and again before V(undone) closes the database.
    type: list
    elements: dict
  lock_timeout:
    description: Milliseconds to wait for a lock with V(in_place), before it lets the others go first.
    type: int
    default: 500
  lock_deadline:
    description: Seconds within which it must have got its locks.
    type: float
    default: 120
  detail:
    description: What the run's journal says of its step, for V(undone).
    type: dict
  close_timeout:
    description: Seconds within which all sessions of the database must be gone.
    type: float
    default: 30
  connect_timeout:
    description: Seconds to wait for a server that does not answer yet, as after a crash.
    type: float
    default: 60
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 7200
extends_documentation_fragment:
  - sparklio.rollback.alembic
  - sparklio.rollback.postgres
  - sparklio.rollback.postgres.admin
  - sparklio.rollback.journal
  - sparklio.rollback.progress
attributes:
  check_mode:
    support: full
    description:
      - Tells what would be done, and asks the server only. V(undone) fails where it could not be done, and reads the
        dump of V(in_place) for it.
  diff_mode:
    support: none
    description: The data are never shown; what is lost is in the plan.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Let a downgraded copy take the database's place
  sparklio.rollback.database_switch:
    run_id: 20250115-140000-level3
    revisions: [v4_0005_workflow_paused, v4_0004_brand_learning]
    heads: [v4_0005_workflow_paused]
    target_heads: [v4_0003_workflows]
    backend_dir: ~/sparklio_ai_marketing_studio/backend
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]

- name: Drop what a run has parked
  sparklio.rollback.database_switch:
    state: purged
    run_id: 20250115-140000-level3
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
"""

RETURN = r"""
database:
  description: Name of the database that serves.
  returned: success
  type: str
  sample: sparklio_v4
parked:
  description: Name of the database that was put aside, or that was put aside by V(undone). Empty where none was.
  returned: success
  type: str
  sample: sparklio_v4_parked_20250115_140000
closed_seconds:
  description: For how long nobody could write to the database.
  returned: for V(switched) and V(undone)
  type: float
  sample: 3.4
copy_seconds:
  description: Seconds that the copy took, 0 with V(in_place).
  returned: for V(switched)
  type: float
  sample: 2.6
swap_seconds:
  description: Seconds that the change of names took.
  returned: for V(switched) and V(undone)
  type: float
  sample: 0.02
salvage:
  description: Schema that holds what was dropped.
  returned: with V(in_place)
  type: str
  sample: sparklio_v4_salvage_20250115_140000
tries:
  description: How often it was tried until all locks were had.
  returned: with V(in_place)
  type: int
  sample: 1
revisions:
  description: Each revision that was taken back, with the seconds it took.
  returned: for V(switched)
  type: list
  elements: dict
  sample: [{revision: v4_0004_brand_learning, seconds: 0.21}]
sessions_ended:
  description: How many sessions were ended.
  returned: for V(switched) and V(undone)
  type: int
  sample: 4
written_since:
  description: How many rows were written to each table since it began to serve, as the server's statistics have it.
  returned: for V(undone)
  type: list
  elements: str
  sample: ["workflows: 12 inserted, 3 updated"]
purged:
  description: Databases that were dropped, or would be in check mode.
  returned: for V(purged)
  type: list
  elements: str
  sample: [sparklio_v4_parked_20250115_140000]
"""

import contextlib
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _databases,
    _postgres,
    _readiness,
    _schema_lines,
    alembic,
    databases,
    postgres,
    scratch,
    transfer,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder, RunError
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError

#: SQLSTATEs of a lock that was not to be had, and of a deadlock.
_LOCKED = ("55P03", "40P01")
#: How many times the size that the database had a restore of its dump takes for a moment, its log included.
ROOM = 1.3


class NotTakenBack(PostgresError):
    """What was begun could not be taken back either. The message says why of both, and what does it."""


class Switch:
    """One switch: what it is about, and how it goes."""

    def __init__(self, module: AnsibleModule, recorder: Recorder) -> None:
        self.params, self.check_mode, self.recorder = module.params, module.check_mode, recorder
        self.say = transfer.Teller(self.params["progress"])
        self.deadline = time.monotonic() + self.params["deadline"]
        self.target = postgres.find_target(self.params["url"], self.params["env_file"], self.params["env_key"])
        self.tools = postgres.Tools(self.params["bin_dir"])
        self.live = self.target.database
        self.names = _databases.names(self.live, self.params["run_id"])

    def left(self) -> float:
        return max(1.0, self.deadline - time.monotonic())

    def connect(self, wait: float = 0.0):
        return databases.connect(self.params, self.tools, self.target, time.monotonic() + wait)

    def look(self) -> dict[str, Any]:
        """What the database is like while it serves. Refuses while somebody else changes its schema."""
        with postgres.connect(self.tools, self.target) as session:
            found = {"server": session.json(_postgres.SERVER), "settings": session.json(_postgres.DATABASE)}
        self.alone()
        return found

    def alone(self) -> None:
        """Raise PostgresError while somebody else changes the schema. The administrator's session sees who."""
        with postgres.admin_session(self.params, self.tools, self.target, self.live) as session:
            ours = [int(session.ask("SELECT pg_backend_pid()"))]
            busy = session.json(_readiness.migrating(self.params["version_table"], ours))
        if busy:
            who = "; ".join(f"process {item['pid']} of {item['user']} ({item['application']})" for item in busy)
            raise PostgresError(f"another migration of {self.live} is under way: {who}. Wait for it, or end it")

    def switched(self) -> dict[str, Any]:
        found = self.look()
        with self.connect() as admin:
            postgres.same_server(admin.server, found["server"])
            if not admin.server["createdb"]:
                raise PostgresError(f"{admin.server['user']} may not make databases; {postgres.CURE}")
            self.may_set(admin)
            facts = admin.facts(*self.names)
            taken = [name for name in self.names if name in facts]
            if taken:
                raise PostgresError(f"{', '.join(taken)} exists already; another run of that time made it")
            if self.check_mode:
                return {"changed": True, "parked": self.names.parked}
            detail = {
                "live": self.live,
                "system": admin.server["system"],
                "oid": facts[self.live]["oid"],
                "comment": facts[self.live]["comment"],
                "owner": facts[self.live]["owner"],
                "mode": self.params["mode"],
                "heads": self.params["heads"],
                "target_heads": self.params["target_heads"],
                "dump": self.params["dump"],
                "dump_files": self.params["dump_files"],
                **self.names._asdict(),
            }
            if self.params["mode"] == "in_place":
                return self.in_place(admin, detail)
            with alembic.Steps(
                self.params, self.names.candidate, "downgrade", self.params["revisions"], self.params["heads"]
            ) as steps:
                steps.ready(min(self.deadline, time.monotonic() + 120))
                admin.checkpoint(self.left())
                # Somebody may have begun since, and would be ended in the middle.
                self.alone()
                self.recorder.intent(detail=detail)
                try:
                    return self.go(admin, steps, detail, found["settings"])
                except BaseException as exc:
                    steps.stop()
                    self.take_back(admin, exc, lambda again: self.restore(again, detail))
                    raise

    def take_back(self, admin: databases.Databases, exc: BaseException, mend: Callable[..., Any]) -> None:
        """Take back what was begun, or raise NotTakenBack.

        Over a connection of its own: the other may have died with the server, or still owe an answer. It is closed
        first, since the lock is its.
        """
        admin.session.close()
        try:
            with self.connect(self.params["connect_timeout"]) as again:
                mend(again)
        except (PostgresError, OSError, ValueError) as second:
            why = str(exc) if isinstance(exc, Exception) else "it was ended from outside"
            raise NotTakenBack(
                f"{why}; and what was begun could not be taken back: {second}. Next: "
                "ansible-playbook -i INVENTORY playbooks/resume.yml"
            ) from exc

    def go(self, admin: databases.Databases, steps: Any, detail: dict[str, Any], settings: dict) -> dict[str, Any]:
        """The part during which nobody can write."""
        began = time.monotonic()
        candidate = self.names.candidate
        self.say("closing the database")
        ended = admin.close(self.live, min(self.deadline, began + self.params["close_timeout"]))
        self.say("copying it")
        admin.copy(candidate, detail["owner"], _databases.CANDIDATE.format(run=self.params["run_id"]), self.left())
        copied = time.monotonic()
        # A copy takes along neither rights nor settings nor the limit of the database itself.
        admin.run(_postgres.settings_statements(candidate, {**settings, "comment": None}))
        with postgres.connect(self.tools, self.target, candidate) as session:
            before = session.json(_databases.rows(session.json(_content_manifest.TABLES)), self.left())
            done = steps.finish(self.deadline, self.say.revisions(self.params["revisions"]))
            self.say("comparing the copy with the rehearsal")
            self.check(session, before, done["version"], self.params["may_change"])
            self.recorder.intent(detail={**detail, "activity": session.json(_databases.ACTIVITY)})
        mark = _databases.PARKED.format(run=self.params["run_id"])
        statements = _databases.swap(self.live, candidate, self.names.parked, mark, detail["comment"])
        swapped = admin.swap(statements, candidate, min(self.deadline, time.monotonic() + 10))
        closed = time.monotonic() - began
        result = {
            "parked": self.names.parked,
            "closed_seconds": round(closed, 3),
            "copy_seconds": round(copied - began, 3),
            "swap_seconds": round(swapped, 4),
            "revisions": done["done"],
            "sessions_ended": ended,
        }
        self.recorder.done(detail=result)
        return {"changed": True, **result}

    def in_place(self, admin: databases.Databases, detail: dict[str, Any]) -> dict[str, Any]:
        """Downgrade the database itself, in one transaction that also keeps what it drops."""
        began = time.monotonic()
        params, give_up = self.params, began + self.params["lock_deadline"]
        self.whole(detail)
        self.may_restore(admin, detail)
        with postgres.connect(self.tools, self.target) as session:
            activity = session.json(_databases.ACTIVITY)
            keepable = session.json(_databases.KEEPABLE)
            keep = _databases.salvage(self.names.salvage, keepable, params["lost"], params["may_change"])
            # First of all, so that an undo can wait for its end: nobody sees before what it comes to.
            keep = [_databases.hold_in_place(params["run_id"]), *keep]
            may_change = _databases.may_differ(keepable, params["lost"], params["may_change"])
        before: dict[str, int] = {}

        def look(at: str, inside: alembic.Inside, version: dict[str, Any]) -> None:
            if at == "before":
                before.update(self.counted(inside))
            else:
                self.say("comparing the database with the rehearsal")
                self.check(inside, before, version, may_change)

        # Until it is done, what it writes itself counts too.
        self.recorder.intent(detail={**detail, "activity": activity})
        tries = 0
        while True:
            tries += 1
            with alembic.Steps(
                *(params, self.live, "downgrade", params["revisions"], params["heads"], keep, True),
                params["lock_timeout"],
            ) as steps:
                steps.ready(min(self.deadline, time.monotonic() + 120))
                try:
                    before.clear()
                    done = steps.finish(self.deadline, self.say.revisions(params["revisions"]), look)
                    break
                except PostgresError as exc:
                    raise PostgresError(f"{exc}. All of it was rolled back") from exc
                except alembic.StepsError as exc:
                    if exc.state not in _LOCKED:
                        raise
                    others = self.in_the_way()
                    waited = f"{tries} tries in {time.monotonic() - began:.0f} s"
                    if time.monotonic() > give_up:
                        raise alembic.StepsError(f"{exc} ({waited}; longest at work: {others})", exc.state) from exc
                    self.say(
                        f"waiting for a lock, {waited} of {params['lock_deadline']:.0f} s; longest at work: {others}"
                    )
            time.sleep(random.uniform(0.1, 1.0))
        with postgres.connect(self.tools, self.target) as session:
            activity = _databases.activity_beside(activity, session.json(_databases.ACTIVITY), may_change)
            self.recorder.intent(detail={**detail, "activity": activity, "committed": True})
        result = {
            "parked": "",
            "salvage": self.names.salvage,
            "closed_seconds": round(time.monotonic() - began, 3),
            "copy_seconds": 0.0,
            "swap_seconds": 0.0,
            "revisions": done["done"],
            "sessions_ended": 0,
            "tries": tries,
        }
        self.recorder.done(detail=result)
        return {"changed": True, **result}

    def in_the_way(self) -> str:
        """Whose transactions have been open for longest in that database."""
        try:
            with postgres.connect(self.tools, self.target) as session:
                open_ = session.json(_readiness.sessions([int(session.ask("SELECT pg_backend_pid()"))]))
        except PostgresError as exc:
            return f"not known: {exc}"
        # Of another role's session an ordinary user is told no more than that it is there.
        at_work = [item for item in open_ if item["transaction_seconds"] is not None or item["state"] is None]
        at_work.sort(key=lambda item: item["transaction_seconds"] or 0, reverse=True)
        names = [
            f"process {item['pid']} of {item['user']} "
            + (
                "(what it does may not be seen)"
                if item["state"] is None
                else f"({item['application'] or 'no name'}, {item['state']}, {item['transaction_seconds']:.0f} s)"
            )
            for item in at_work[:3]
        ]
        return ", ".join(names) or "nobody any more"

    @staticmethod
    def whole(detail: dict[str, Any]) -> None:
        """Raise PostgresError where the dump is not what was kept. Older runs did not note its files."""
        if detail.get("dump_files") is None:
            return
        try:
            scratch.check_files(detail["dump"], {"files": detail["dump_files"]})
        except scratch.Damaged as exc:
            raise PostgresError(
                f"the dump of before the downgrade ({detail['dump']}) is damaged: {exc}. Nothing was changed. The "
                "restore point of the run holds the database as it was when the run began"
            ) from exc

    def is_kept(self, name: str) -> bool:
        """Whether that is a table in the schema for what was dropped."""
        return name.startswith(f"{self.names.salvage}.")

    def counted(self, session: postgres.Session | alembic.Inside) -> dict[str, int]:
        """How many rows each table holds but those of the schema for what was dropped."""
        found = session.json(_databases.rows(session.json(_content_manifest.TABLES)), self.left())
        return {name: rows for name, rows in found.items() if not self.is_kept(name)}

    def check(
        self,
        session: postgres.Session | alembic.Inside,
        before: dict[str, int],
        version: dict[str, Any],
        may_change: list[str],
    ) -> None:
        """Compare the database with what it must be by now, or raise PostgresError."""
        heads = databases.heads(session, version)
        wanted = sorted(self.params["target_heads"])
        if heads != wanted:
            raise PostgresError(
                f"the downgraded database is at {', '.join(heads) or 'no revision'}, not at "
                f"{', '.join(wanted) or 'no revision'}"
            )
        # Where all is taken back it has no rows.
        may_change = [*may_change, databases.find_version(session, version)]
        wrong = _databases.row_changes(before, self.counted(session), may_change)
        if self.params["schema_file"]:
            with open(self.params["schema_file"], encoding="utf-8") as stream:
                kept = json.load(stream)
            table = version.get("table") or "alembic_version"
            got = session.json(_schema_lines.query(table), self.left())
            wrong += _schema_lines.differences(kept, [line for line in got if self.names.salvage not in line])
        if wrong:
            raise PostgresError(f"the downgraded database is not what the rehearsal came to: {'; '.join(wrong[:5])}")

    def undone(self) -> dict[str, Any]:
        detail = self.params["detail"] or {}
        if detail.get("unneeded") or not detail.get("oid"):
            self.recorder.unneeded()
            return {"changed": False, "parked": ""}
        if detail["live"] != self.live:
            raise PostgresError(
                f"run {self.params['run_id']} changed {detail['live']}, and the application's address leads to "
                f"{self.live} now. Nothing was changed. Let it lead to {detail['live']} again "
                f"({self.params['env_key']}), and run it again"
            )
        with self.connect(self.params["connect_timeout"]) as admin:
            self.same(admin, detail)
            if self.check_mode:
                self.could(admin, detail)
                return {"changed": True, "parked": detail["undone"]}
            result = self.restore(admin, detail)
        self.recorder.done(detail=result)
        return {"changed": True, **result}

    def same(self, admin: databases.Databases, detail: dict[str, Any]) -> None:
        """Raise PostgresError where this is not the server that the run changed. Older runs did not note it."""
        if detail.get("system") not in (None, admin.server["system"]):
            raise PostgresError(
                f"this is another server than the one on which run {self.params['run_id']} changed {self.live}, so "
                "that its oids mean other databases. Nothing was changed. Let the application's address and the "
                "administrator's lead to that server, or restore the restore point of the run here"
            )
        try:
            session = postgres.connect(self.tools, self.target)
        except PostgresError:
            # A run that was cut off has left it closed.
            return
        with session:
            postgres.same_server(admin.server, session.json(_postgres.SERVER))

    def could(self, admin: databases.Databases, detail: dict[str, Any]) -> None:
        """Raise PostgresError where it could not be taken back."""
        self.find(admin, detail)
        if detail["mode"] == "copy":
            return
        mine = admin.facts().get(self.live)
        # A closed one can't be asked: a restore of the dump was cut off.
        if mine and mine["oid"] == detail["oid"] and (not mine["connects"] or self.may_come(detail)):
            self.restorable(admin, detail)

    def restorable(self, admin: databases.Databases, detail: dict[str, Any]) -> dict[str, Any]:
        """What the dump holds, or PostgresError where it can't be restored."""
        self.whole(detail)
        with open(os.path.join(detail["dump"], "content.json"), encoding="utf-8") as stream:
            kept = _content_manifest.decode(stream.read())
        scratch.check_rights(admin.session, admin.server, kept["extensions"])
        self.may_restore(admin, detail)
        scratch.room(kept["bytes"], admin.server, self.target, ROOM, what="the database that the dump is restored into")
        return kept

    def may_set(self, admin: databases.Databases) -> None:
        """Raise PostgresError where the administrator may not set on another database what is set on this one."""
        lacking = admin.session.json(_readiness.unsettable(self.live, admin.server["number"]))
        if lacking:
            raise PostgresError(
                f"{admin.server['user']} may not set on another database what is set on {self.live}: "
                f"{', '.join(lacking)}. Nothing was changed. Reset what is not needed, or {postgres.CURE}"
            )

    def may_restore(self, admin: databases.Databases, detail: dict[str, Any]) -> None:
        """Raise PostgresError where the administrator may not restore the dump with its owners and settings."""
        if admin.server["superuser"]:
            return
        self.may_set(admin)
        client = self.tools.for_server(admin.server)
        roles = scratch.owners(client, os.path.join(detail["dump"], "dump"), dict(os.environ), self.deadline)
        strangers = admin.session.json(_readiness.strangers_among(roles, admin.server["number"]))
        if strangers:
            raise PostgresError(
                f"{admin.server['user']} is no member of {', '.join(strangers)}, who own something in the dump. "
                f"Nothing was changed. GRANT the role TO {admin.server['user']}, or {postgres.CURE}"
            )

    @staticmethod
    def find(admin: databases.Databases, detail: dict[str, Any]) -> str:
        """What the database that served before is called now, or PostgresError: an oid alone may be another's."""
        where = admin.name_of(detail["oid"])
        if where is None:
            raise PostgresError(
                f"the database that served before (oid {detail['oid']}) is gone; it was purged. What serves now is all "
                "there is; the restore point of the run holds what was before"
            )
        aside = detail["parked" if detail["mode"] == "copy" else "undone"]
        if where not in (detail["live"], aside):
            raise PostgresError(
                f"the database with the oid of the one that served before ({detail['oid']}) is called {where}, neither "
                f"{detail['live']} nor {aside}. Nothing was changed. Where somebody renamed it, call it {aside} again "
                f"(ALTER DATABASE {_content_manifest.identifier(where)} RENAME TO "
                f"{_content_manifest.identifier(aside)}) and run it again; where it is another database, the server "
                "was made anew, and the restore point of the run holds what was before"
            )
        return where

    def restore(self, admin: databases.Databases, detail: dict[str, Any]) -> dict[str, Any]:
        """Let the database of that oid bear the name that serves, whatever state the server was left in."""
        if detail["mode"] == "in_place":
            return self.restore_dump(admin, detail)
        facts = admin.facts(detail["candidate"], detail["parked"], detail["undone"])
        where = self.find(admin, detail)
        began = time.monotonic()
        result: dict[str, Any] = {"parked": "", "written_since": [], "sessions_ended": 0, "swap_seconds": 0.0}
        if where == self.live:
            admin.open(self.live)
            if detail["candidate"] in facts:
                admin.drop(detail["candidate"])
        else:
            began = time.monotonic()
            mark = _databases.UNDONE.format(run=self.params["run_id"])
            statements = _databases.swap(self.live, where, detail["undone"], mark, detail["comment"])
            try:
                result["sessions_ended"], result["written_since"] = self.shut(admin, detail)
                result["swap_seconds"] = round(admin.swap(statements, where, time.monotonic() + 10), 4)
            except BaseException as exc:
                self.take_back(admin, exc, lambda again: again.open(self.live))
                raise
            result["parked"] = detail["undone"]
        result["closed_seconds"] = round(time.monotonic() - began, 3)
        return result

    def restore_dump(self, admin: databases.Databases, detail: dict[str, Any]) -> dict[str, Any]:
        """Let the database serve as its dump has it, where the downgrade in place was committed."""
        result: dict[str, Any] = {"parked": "", "written_since": [], "sessions_ended": 0, "swap_seconds": 0.0}
        began = time.monotonic()
        facts = admin.facts(detail["candidate"], detail["undone"])
        if self.find(admin, detail) != self.live:
            # It has been put aside already: a restored one serves.
            return {**result, "closed_seconds": 0.0}
        if detail["candidate"] in facts:
            admin.drop(detail["candidate"])
        # One that was killed while it restored the dump has left it closed.
        admin.open(self.live)
        self.settle(admin)
        if not self.committed(detail):
            return {**result, "closed_seconds": round(time.monotonic() - began, 3)}
        with postgres.connect(self.tools, self.target) as session:
            server, settings = session.json(_postgres.SERVER), session.json(_postgres.DATABASE)
        kept = self.restorable(admin, detail)
        try:
            ended, result["written_since"] = self.shut(admin, detail)
            self.say("restoring the dump")
            self.fill(admin, detail, server, settings, kept)
            mark = _databases.UNDONE.format(run=self.params["run_id"])
            statements = _databases.swap(self.live, detail["candidate"], detail["undone"], mark, detail["comment"])
            swapped = admin.swap(statements, detail["candidate"], time.monotonic() + 10)
        except BaseException as exc:
            self.take_back(admin, exc, lambda again: self.reopen(again, detail))
            raise
        result.update(parked=detail["undone"], sessions_ended=ended, swap_seconds=round(swapped, 4))
        return {**result, "closed_seconds": round(time.monotonic() - began, 3)}

    def reopen(self, admin: databases.Databases, detail: dict[str, Any]) -> None:
        """Let people in again where they could not be sent away, or a restore of the dump has failed."""
        if admin.name_of(detail["oid"]) == self.live:
            admin.open(self.live)
            admin.drop(detail["candidate"])

    def fill(self, admin: databases.Databases, detail: dict, server: dict, settings: dict, kept: dict) -> None:
        """Make the new database of the dump, with owners and rights, and compare it with what was kept."""
        name, owner = detail["candidate"], detail["owner"]
        who = (self.params, self.tools, self.target)
        admin.session.ask(_postgres.create_scratch(name, owner, settings), 300)
        admin.session.ask(_databases.comment(name, _databases.CANDIDATE.format(run=self.params["run_id"])))
        admin.run(_postgres.settings_statements(name, {**settings, "comment": None}))
        program = f"{self.tools.for_server(server).directory}/pg_restore"
        postgres.pipe(
            [program, "--no-subscriptions", "-f", "-", os.path.join(detail["dump"], "dump")],
            *postgres.admin_psql(*who, name),
            self.deadline,
            server["number"],
        )
        with postgres.connect(self.tools, self.target, name) as session:
            tables = session.json(_content_manifest.TABLES)
            hashed = any(table["hash"] is not None for table in kept["tables"])
            now = postgres.read_content(session, server, tables, hashed, self.deadline)
        differs = _content_manifest.differences(kept, now)
        if differs:
            raise PostgresError(f"the restored database is not what was kept: {'; '.join(differs[:5])}")
        # A dump holds no statistics, and without them the first queries are planned blindly.
        self.say("gathering the statistics of the restored database")
        # They are no condition of serving.
        with contextlib.suppress(PostgresError), postgres.admin_session(*who, name) as inside:
            inside.ask("ANALYZE", self.left())

    def shut(self, admin: databases.Databases, detail: dict[str, Any]) -> tuple[int, list[str]]:
        """Close what serves. Returns how many sessions were ended, and what was written to it.

        That is asked once nobody writes any more, by a session from before: nobody gets in by then.
        """
        deadline = time.monotonic() + self.params["close_timeout"]
        if detail.get("activity") is None:
            return admin.close(self.live, deadline), []
        try:
            session = postgres.connect(self.tools, self.target)
        except PostgresError as exc:
            return admin.close(self.live, deadline), [f"not known: {exc}"]
        with session:
            ended = admin.close(self.live, deadline, int(session.ask("SELECT pg_backend_pid()")))
            written = self.written(session, detail)
        # The server takes a moment to let that one go.
        admin.close(self.live, deadline)
        return ended, written

    def written(self, session: postgres.Session, detail: dict[str, Any]) -> list[str]:
        try:
            now = session.json(_databases.ACTIVITY, 60)
        except PostgresError as exc:
            return [f"not known: {exc}"]
        now = {name: counts for name, counts in now.items() if not self.is_kept(name)}
        return _databases.written_since(detail["activity"], now)

    def purged(self) -> dict[str, Any]:
        with self.connect() as admin:
            with postgres.connect(self.tools, self.target) as session:
                postgres.same_server(admin.server, session.json(_postgres.SERVER))
            facts = admin.facts(self.names.parked, self.names.undone)
            ours = [
                name
                for name, item in facts.items()
                if name != self.live and _databases.run_of(item["comment"]) == self.params["run_id"]
            ]
            salvaged = self.salvaged()
            if not ours and not salvaged:
                others = ", ".join(self.all_parked(admin)) or "there is none"
                raise PostgresError(f"run {self.params['run_id']} has no database parked here. Parked are: {others}")
            if not self.check_mode:
                for name in ours:
                    admin.drop(name)
                if salvaged:
                    with postgres.connect(self.tools, self.target) as session:
                        session.ask(f"DROP SCHEMA {_content_manifest.identifier(self.names.salvage)} CASCADE", 300)
        kept = [f"schema {self.names.salvage}"] if salvaged else []
        return {"changed": True, "purged": [*sorted(ours), *kept], "parked": ""}

    def salvaged(self) -> bool:
        """Whether the database has a schema with what the run dropped in place."""
        with postgres.connect(self.tools, self.target) as session:
            question = (
                f"SELECT to_regnamespace({_content_manifest.literal(_content_manifest.identifier(self.names.salvage))})"
            )
            return session.ask(f"{question} IS NOT NULL") == "t"

    def settle(self, admin: databases.Databases) -> None:
        """Wait until nothing of the downgrade in place is under way any more, or raise PostgresError.

        Its server process outlives whoever began it, and commits what it was told to commit, however long that takes.
        """
        run, deadline = self.params["run_id"], time.monotonic() + self.params["close_timeout"]
        with postgres.connect(self.tools, self.target) as session:
            while session.ask(_databases.try_in_place(run)) != "t":
                pids = session.json(_databases.holders_in_place(run))
                if time.monotonic() > deadline:
                    raise PostgresError(
                        f"the downgrade of run {run} is still under way in {self.live}, by process "
                        f"{', '.join(map(str, pids))} of the server. Nothing was changed. End it (SELECT "
                        "pg_terminate_backend(pid)) or wait for it, and run it again"
                    )
                # Who may not end it can still wait for it.
                with contextlib.suppress(PostgresError):
                    admin.run([f"SELECT pg_terminate_backend({int(pid)})" for pid in pids])
                time.sleep(0.1)

    def may_come(self, detail: dict[str, Any]) -> bool:
        """Whether the downgrade in place was committed, or may still be."""
        with postgres.connect(self.tools, self.target) as session:
            under_way = session.json(_databases.holders_in_place(self.params["run_id"]))
        return bool(under_way) or self.committed(detail)

    def committed(self, detail: dict[str, Any]) -> bool:
        """Whether the downgrade in place was committed, as far as the database and the journal can tell.

        The schema for what it dropped was made in the same transaction, but somebody may have dropped it since.
        """
        if detail.get("committed") or self.salvaged():
            return True
        if detail.get("heads") is None:
            # Older runs did not note them.
            return False
        with postgres.connect(self.tools, self.target) as session:
            try:
                at = databases.heads(session, {})
            except PostgresError:
                return False
        # At neither of both somebody else migrated since: that is not ours to take back.
        return at == sorted(detail["target_heads"]) != sorted(detail["heads"])

    def all_parked(self, admin: databases.Databases) -> list[str]:
        listed = admin.session.json(
            "SELECT coalesce(jsonb_agg(shobj_description(oid, 'pg_database')), '[]') FROM pg_catalog.pg_database "
            "WHERE shobj_description(oid, 'pg_database') LIKE 'sparklio.rollback: %'"
        )
        return sorted({run for run in map(_databases.run_of, listed) if run})


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["switched", "undone", "purged"], "default": "switched"},
            "run_id": {"type": "str", "required": True},
            "revisions": {"type": "list", "elements": "str", "default": []},
            "heads": {"type": "list", "elements": "str", "default": []},
            "target_heads": {"type": "list", "elements": "str", "default": []},
            "may_change": {"type": "list", "elements": "str", "default": []},
            "version_table": {"type": "str", "default": "alembic_version"},
            "schema_file": {"type": "path"},
            "mode": {"type": "str", "choices": ["copy", "in_place"], "default": "copy"},
            "lost": {"type": "list", "elements": "dict", "default": []},
            "dump": {"type": "path"},
            "dump_files": {"type": "list", "elements": "dict"},
            "lock_timeout": {"type": "int", "default": 500},
            "lock_deadline": {"type": "float", "default": 120},
            "detail": {"type": "dict"},
            **alembic.ALEMBIC_SPEC,
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            "close_timeout": {"type": "float", "default": 30},
            "connect_timeout": {"type": "float", "default": 60},
            **transfer.PROGRESS_SPEC,
            "deadline": {"type": "float", "default": 7200},
            "journal": JOURNAL_SPEC,
        },
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        required_one_of=[("url", "env_file")],
        required_if=[
            ("state", "switched", ("backend_dir",)),
            ("state", "undone", ("detail",)),
            ("mode", "in_place", ("dump", "dump_files")),
        ],
        supports_check_mode=True,
    )
    recorder = Recorder(module.params["journal"], module.check_mode, "database")
    try:
        with transfer.told(module.params["progress"]), postgres.orderly(), recorder.heartbeat():
            result = getattr(Switch(module, recorder), module.params["state"])()
    except (PostgresError, alembic.StepsError, _content_manifest.ContentError, RunError, OSError, ValueError) as exc:
        recorder.failed(str(exc))
        said = _said(module.params, isinstance(exc, NotTakenBack))
        module.fail_json(msg=f"The database {said}: {exc}.".replace("..", "."))
    module.exit_json(database=_live(module), **result)


def _live(module: AnsibleModule) -> str:
    params = module.params
    return postgres.find_target(params["url"], params["env_file"], params["env_key"]).database


def _said(params: dict[str, Any], closed: bool) -> str:
    if params["state"] == "switched" and params["mode"] == "in_place":
        # It may have been committed, where it is only the end of it that failed.
        return "could not be downgraded in place"
    return {
        "switched": f"could not be switched, and {'may be closed' if closed else 'is as it was'}",
        "undone": f"could not be switched back{', and may be closed' if closed else ''}",
        "purged": "of that run could not be purged",
    }[params["state"]]


if __name__ == "__main__":
    main()
