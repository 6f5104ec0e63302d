#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_rehearsal
short_description: Rehearse a downgrade on a database that was restored from a backup
version_added: "0.1.0"
description:
  - Takes back the revisions in a scratch database that M(sparklio.rollback.pg_verify) has left, with the
    application's own
    Alembic, and tells what that came to. Which tables were dropped or changed, what went with them, how long it
    took, and whether
    foreign keys, indexes and constraints hold afterwards. The application's database is not touched.
  - Every variable of the environment and of O(env_file) that holds an address of the application's database holds one
    of the scratch database instead, and a connection of psycopg, psycopg2 or asyncpg that leads elsewhere is closed and
    fails the rehearsal. A program that a revision runs with an address of its own is not stopped.
  - What was dropped is listed by an event trigger where the administrator is a superuser, cascades too. The tables are
    compared with the dump's list of contents in any case.
  - The schema is compared with one that is built by upgrading an empty scratch database to the same heads.
  - Both scratch databases are dropped in any case.
  - A downgrade that fails, or loses what no revision's source names, is a result (RV(verdict)), not a failure of the
    module.
options:
  scratch:
    description: Name of the scratch database. Its contents are those of O(content_file).
    type: str
    required: true
  content_file:
    description: The dump's list of contents, C(content.json) in the artifact's directory.
    type: path
    required: true
  schema_file:
    description: File to write the schema to that the downgrade led to, for M(sparklio.rollback.database_switch).
    type: path
    required: true
  revisions:
    description: Revisions that are taken back, newest first.
    type: list
    elements: str
    required: true
  heads:
    description: What the version table is at before.
    type: list
    elements: str
    required: true
  target_heads:
    description: What it has to be at afterwards.
    type: list
    elements: str
    required: true
  mode:
    description:
      - As of M(sparklio.rollback.database_switch). With V(in_place) it is rehearsed in one transaction, which copies
        aside what O(planned) names, so that what would stand in the way of that is known before.
    type: str
    choices: [copy, in_place]
    default: copy
  build:
    description:
      - Revisions by which an empty database comes to O(target_heads), oldest first. None at all, for the base, compares
        with an empty database and its extensions. Left out, the schema is not compared.
    type: list
    elements: str
  planned:
    description: Drops that the revisions' sources name, each C(kind), C(table) and C(name), as
      M(sparklio.rollback.alembic_path) finds them.
    type: list
    elements: dict
    default: []
  accepted:
    description: Tables, and columns as C(table.column), whose loss was agreed to although no source names it.
    type: list
    elements: str
    default: []
  accept_drift:
    description: Whether the schema may differ from that of the revisions.
    type: bool
    default: false
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
    support: none
    description: A dry run has no scratch database.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Rehearse the downgrade
  sparklio.rollback.database_rehearsal:
    scratch: sparklio_v4_verify_1f0c22aa
    content_file: "{{ point.path }}/database/content.json"
    schema_file: "{{ run_info.dir }}/schema.json"
    revisions: [v4_0004_brand_learning]
    heads: [v4_0004_brand_learning]
    target_heads: [v4_0003_workflows]
    build: [v4_0001_users, v4_0002_brands, v4_0003_workflows]
    backend_dir: ~/sparklio_ai_marketing_studio/backend
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
"""

RETURN = r"""
verdict:
  description: >-
    V(pass), V(fail) when the downgrade fails, loses more than planned, or leaves something broken, V(error) when it
    could
    not be tried.
  returned: success
  type: str
  sample: pass
evidence:
  description: What was seen, in one line.
  returned: success
  type: str
  sample: 1 revision taken back in 0.3 s; 1 table dropped, 1 changed; foreign keys hold
revisions:
  description: Each revision that was taken back, with the seconds it took.
  returned: success
  type: list
  elements: dict
  sample: [{revision: v4_0004_brand_learning, seconds: 0.21}]
dropped:
  description: All that the event trigger saw dropped, with C(kind), C(identity), C(table) and C(column).
  returned: success
  type: list
  elements: dict
  sample: [{kind: table, identity: public.brand_learnings, table: public.brand_learnings, column: null}]
tables:
  description: >-
    Tables that differ, with C(what) (V(dropped), V(made), V(renamed), V(changed)), C(rows) before and C(rows_after),
    the C(columns) that went and came (C(added)) or are called otherwise (C(renamed_columns)), and whether the
    C(contents) of the others differ. Of those that were renamed, C(table) is the former name and C(to) the present one.
  returned: success
  type: list
  elements: dict
  sample: [{table: public.brand_learnings, what: dropped, rows: 42, rows_after: 0}]
may_change:
  description: >-
    Tables whose number of rows may be another one afterwards, with those whose rows go along by a foreign key with
    C(ON DELETE CASCADE).
  returned: success
  type: list
  elements: str
  sample: [public.alembic_version, public.brand_learnings]
may_lose:
  description: >-
    Tables that stay and may lose rows, or the values of a key by C(ON DELETE SET NULL) or C(SET DEFAULT). A downgrade
    in place copies them aside.
  returned: success
  type: list
  elements: str
  sample: [public.brands, public.assets]
version_table:
  description: The table in which Alembic keeps its revisions, as env.py configures it, with its schema.
  returned: success
  type: str
  sample: public.alembic_version
drift:
  description: How the schema differs from that of the revisions, where it did so before the downgrade.
  returned: success
  type: list
  elements: str
known:
  description: Constraints and indexes that did not hold before, and still don't.
  returned: success
  type: list
  elements: str
known_orphans:
  description: How many rows refer to nothing, by foreign key, as they did before.
  returned: success
  type: dict
lines:
  description: What it showed, for the terminal.
  returned: success
  type: list
  elements: str
seconds:
  description: Seconds that the revisions took.
  returned: success
  type: float
  sample: 0.3
"""

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _databases,
    _integrity,
    _postgres,
    _rehearsal,
    _schema_lines,
    alembic,
    databases,
    integrity,
    postgres,
    scratch,
    transfer,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import (
    JOURNAL_SPEC,
    Recorder,
    RunError,
    write_private,
)
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError


class Failed(Exception):
    """The downgrade is not what was planned. The message says why."""


class Rehearsal:
    """One rehearsal in one scratch database."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.say = transfer.Teller(params["progress"])
        self.deadline = time.monotonic() + params["deadline"]
        self.target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
        self.tools = postgres.Tools(params["bin_dir"])
        with open(params["content_file"], encoding="utf-8") as stream:
            self.kept = _content_manifest.decode(stream.read())
        self.result: dict[str, Any] = {
            "revisions": [],
            "dropped": [],
            "tables": [],
            "may_change": [],
            "may_lose": [],
            "version_table": "",
            "drift": [],
            "known": [],
            "known_orphans": {},
            "seconds": 0.0,
        }

    def left(self) -> float:
        return max(1.0, self.deadline - time.monotonic())

    def run(self) -> str:
        """Rehearse. Returns the evidence, or raises Failed, PostgresError or StepsError."""
        params, name = self.params, self.params["scratch"]
        with postgres.connect(self.tools, self.target) as session:
            self.owner = session.json(_postgres.SERVER)["user"]
        with postgres.admin_session(params, self.tools, self.target, self.target.database) as admin:
            who = admin.json(_postgres.SERVER)
            place = scratch.Scratch(admin, self.target.database, who["number"])
            if not name.startswith(place.prefix) or not place.claim(name):
                raise PostgresError(f"{name} is no scratch database of {self.target.database}, or somebody uses it")
            try:
                traced = who["superuser"] and self.trace(name)
                place.configure(name, self.owner, self.kept["settings"])
                schema_before = self.downgrade(name, traced)
                self.say("comparing rows, schema and foreign keys")
                with postgres.connect(self.tools, self.target, name) as session:
                    self.compare(session)
                    after = self.schema(session)
                    write_private(params["schema_file"], json.dumps(after, ensure_ascii=False, indent=0))
                    broken = self.check(session)
            finally:
                with contextlib.suppress(PostgresError):
                    place.drop(name)
            wrong, self.result["drift"] = self.drift(place, who, schema_before, after)
        return self.judge(broken, wrong)

    def trace(self, name: str) -> bool:
        with postgres.admin_session(self.params, self.tools, self.target, name) as inside:
            for statement in _rehearsal.TRIGGER:
                inside.ask(statement)
        return True

    def downgrade(self, name: str, traced: bool) -> list[str]:
        """Take the revisions back. Returns the schema as it was before."""
        params = self.params
        self.say("checking what holds before it")
        in_place, keep = params["mode"] == "in_place", []
        salvage = _databases.names(self.target.database, "rehearsal").salvage
        if in_place:
            with postgres.connect(self.tools, self.target, name) as session:
                keepable = session.json(_databases.KEEPABLE)
                keep = _databases.salvage(salvage, keepable, _databases.losses(params["planned"]))
        arguments = (params["revisions"], params["heads"], keep, in_place)
        with alembic.Steps(params, name, "downgrade", *arguments) as steps:
            with postgres.connect(self.tools, self.target, name) as session:
                # With the version table, whose name only env.py knows: what is there no more afterwards does not count.
                before = session.json(_schema_lines.query(""), self.left())
                self.names = session.json(_rehearsal.NAMES, self.left())
                self.cascades = session.json(_rehearsal.CASCADES, self.left())
                self.began_at = session.ask(_rehearsal.NOW)
                self.check(session)
            steps.ready(min(self.deadline, time.monotonic() + 120))
            began = time.monotonic()
            try:
                done = steps.finish(self.deadline, self.say.revisions(params["revisions"]))
            except alembic.StepsError as exc:
                raise Failed(f"the downgrade does not succeed: {exc}") from exc
            self.result.update(revisions=done["done"], seconds=round(time.monotonic() - began, 2))
        version = done["version"]
        with postgres.connect(self.tools, self.target, name) as session:
            heads = databases.heads(session, version)
            self.result["version_table"] = databases.find_version(session, version)
        if heads != sorted(params["target_heads"]):
            raise Failed(
                f"the downgrade leads to {', '.join(heads) or 'no revision'}, not to "
                f"{', '.join(sorted(params['target_heads'])) or 'no revision'}"
            )
        if traced:
            with postgres.admin_session(params, self.tools, self.target, name) as inside:
                self.result["dropped"] = inside.json(_rehearsal.DROPPED)
                for statement in _rehearsal.NO_TRIGGER:
                    inside.ask(statement)
        if in_place:
            with postgres.connect(self.tools, self.target, name) as session:
                session.ask(f"DROP SCHEMA {_content_manifest.identifier(salvage)} CASCADE", self.left())
        return before

    def schema(self, session: postgres.Session) -> list[str]:
        """The schema's lines without the version table, as the switch asks for them too."""
        table = self.result["version_table"].partition(".")[2]
        return session.json(_schema_lines.query(table), self.left())

    def check(self, session: postgres.Session) -> list[str]:
        """What does not hold now although it did when this was asked before, in words."""
        found: dict[str, Any] = {"foreign_keys": 0}
        found.update({name: [] for name in ("orphans", "invalid_indexes", "unvalidated", "unchecked")})
        result = self.result
        questions = integrity.Questions(session, self.left(), self.deadline)
        integrity.check(questions, result["known"], result["known_orphans"], found)
        session.ask("ROLLBACK")
        wrong = _integrity.failures(found) + [
            f"{item['name']} could not be checked ({item['reason']})" for item in found["unchecked"]
        ]
        items = (*found["orphans"], *found["invalid_indexes"], *found["unvalidated"])
        result["known"] = sorted({item["name"] for item in items})
        result["known_orphans"] = {item["name"]: item["count"] for item in found["orphans"]}
        return wrong

    def compare(self, session: postgres.Session) -> None:
        """Fill in which tables the downgrade dropped or changed."""
        records = session.json(_postgres.SERVER)["number"] >= 140000
        kept = {_rehearsal.full_name(table): table for table in self.kept["tables"]}
        tables = session.json(_content_manifest.TABLES)
        renamed = _rehearsal.renames(self.names, session.json(_rehearsal.NAMES, self.left()))
        formerly = {new: old for old, new in renamed["tables"].items()}
        for table in tables:
            table.update(session.json(_rehearsal.touched(table, self.began_at), self.left()))
            name = _rehearsal.full_name(table)
            former = kept.get(formerly.get(name, name))
            # Rows that were written anew need not be other rows: a rewrite of the table does that too.
            if table["touched"] and former and former["hash"] and former["columns"] == table["columns"]:
                table.update(session.json(_content_manifest.content_of(table, True, records), self.left()))
        result = self.result
        version, planned = result["version_table"], self.params["planned"]
        result["tables"] = _rehearsal.changed_tables(self.kept["tables"], tables, version, renamed)
        # A revision can make a key as well as drop one.
        cascades = [*self.cascades, *session.json(_rehearsal.CASCADES, self.left())]
        result["may_change"] = _rehearsal.may_change(result["tables"], version, planned, kept, cascades)
        result["may_lose"] = _rehearsal.may_lose(result["tables"], planned, kept, cascades)

    def drift(
        self, place: scratch.Scratch, who: dict[str, Any], before: Sequence[str], after: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Compare with a schema that was built from nothing."""
        params = self.params
        if params["build"] is None:
            return [], []
        name = place.create(self.owner, self.kept["settings"])
        try:
            if self.kept["extensions"] and who["user"] != self.owner:
                with postgres.admin_session(params, self.tools, self.target, name) as inside:
                    scratch.make_extensions(inside, self.owner, self.kept["extensions"])
            place.configure(name, self.owner, self.kept["settings"])
            with postgres.connect(self.tools, self.target, name) as session:
                # It was there before the first revision: Alembic makes its table first.
                home = self.result["version_table"].partition(".")[0]
                session.ask(f"CREATE SCHEMA IF NOT EXISTS {_content_manifest.identifier(home)}")
            built = self.built(name, params["build"], [])
            if not params["build"]:
                # Those that are left do no harm, and those that are gone are not missed.
                built = _schema_lines.with_extensions(built, after)
            built_before = self.built(name, params["revisions"][::-1], params["target_heads"])
        except alembic.StepsError as exc:
            return [f"an empty database can't be upgraded by the same revisions: {exc}"], []
        finally:
            place.drop(name)
        return _rehearsal.drift(before, after, built, built_before)

    def built(self, name: str, revisions: list[str], heads: list[str]) -> list[str]:
        """Upgrade a scratch database by these revisions. Returns its schema."""
        if revisions:
            with alembic.Steps(self.params, name, "upgrade", revisions, heads) as steps:
                steps.ready(min(self.deadline, time.monotonic() + 120))
                steps.finish(self.deadline, self.say.revisions(revisions, "making an empty database up to"))
        with postgres.connect(self.tools, self.target, name) as session:
            return self.schema(session)

    def judge(self, broken: Sequence[str], wrong: Sequence[str]) -> str:
        result, params = self.result, self.params
        if broken:
            raise Failed(f"after the downgrade {'; '.join(broken[:3])}")
        unplanned = _rehearsal.surprises(result["tables"], params["planned"], params["accepted"])
        if unplanned:
            listed = json.dumps({"accept_dropped": unplanned})
            raise Failed(
                f"it loses what no revision names: {', '.join(unplanned)}. See why; if that is meant, run it again "
                f"with -e '{listed}'"
            )
        if wrong and not params["accept_drift"]:
            raise Failed(
                "the schema is not the one that an empty database gets at these revisions: "
                f"{'; '.join(wrong[:4])}. Mend the downgrade, or take it as it is: -e accept_drift=true"
            )
        result["drift"] = [*wrong, *result["drift"]]
        kinds = [item["what"] for item in result["tables"]]
        return (
            f"{len(result['revisions'])} revision(s) taken back in {result['seconds']:.1f} s; "
            f"{kinds.count('dropped')} table(s) dropped, {kinds.count('changed')} changed; foreign keys, indexes and "
            "constraints hold"
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "scratch": {"type": "str", "required": True},
            "content_file": {"type": "path", "required": True},
            "schema_file": {"type": "path", "required": True},
            "revisions": {"type": "list", "elements": "str", "required": True},
            "heads": {"type": "list", "elements": "str", "required": True},
            "target_heads": {"type": "list", "elements": "str", "required": True},
            "mode": {"type": "str", "choices": ["copy", "in_place"], "default": "copy"},
            "build": {"type": "list", "elements": "str"},
            "planned": {"type": "list", "elements": "dict", "default": []},
            "accepted": {"type": "list", "elements": "str", "default": []},
            "accept_drift": {"type": "bool", "default": False},
            **alembic.ALEMBIC_SPEC,
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            **transfer.PROGRESS_SPEC,
            "deadline": {"type": "float", "default": 7200},
            "journal": JOURNAL_SPEC,
        },
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        required_one_of=[("url", "env_file")],
    )
    recorder = Recorder(module.params["journal"], module.check_mode, "rehearsal")
    rehearsal = None
    try:
        with transfer.told(module.params["progress"]), postgres.orderly(), recorder.heartbeat():
            rehearsal = Rehearsal(module.params)
            verdict, evidence = "pass", rehearsal.run()
    except Failed as exc:
        verdict, evidence = "fail", str(exc)
    except (PostgresError, alembic.StepsError, _content_manifest.ContentError, RunError, OSError) as exc:
        verdict, evidence = "error", f"the downgrade could not be rehearsed: {exc}"
    result = rehearsal.result if rehearsal else {}
    shown = _rehearsal.lines(result) if rehearsal else []
    module.exit_json(changed=False, verdict=verdict, evidence=one_line(evidence, 900), lines=shown, **result)


if __name__ == "__main__":
    main()
