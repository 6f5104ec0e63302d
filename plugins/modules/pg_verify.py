#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_verify
short_description: Prove a dump of a database by restoring it into a scratch database
version_added: "0.1.0"
description:
  - Compares the SHA-256 of every file first, so that a flipped bit is found before anything is restored.
  - Then restores the dump into a new database on the same server, compares that with the dump's list of contents, table
    by table, and drops it. The application's database is not touched.
  - The scratch database is called C(<database>_verify_<random>) and bears a comment. It is dropped in any case; one
    that a killed run has left behind is dropped by the next. Nothing without that comment is ever dropped.
  - Making it takes the right CREATEDB, and superuser rights where the database has extensions that are not trusted,
    such as C(vector). Where the application's role has neither, O(admin_command) or O(admin_url) says who does.
  - Event triggers are left out where the application's role is no superuser, who alone may make them.
  - A dump that does not hold what it should is a result (RV(verdict)), not a failure of the module.
options:
  path:
    description: The artifact's directory, as M(sparklio.rollback.pg_backup) made it.
    type: path
    required: true
  artifact:
    description: The artifact as in the manifest. By default that of the manifest in the directory above O(path).
    type: dict
  how:
    description: Whether to restore it, or only to compare the checksums.
    type: str
    choices: [restore, checksum]
    default: restore
  jobs:
    description: How many tables are restored at a time.
    type: int
    default: 2
  keep:
    description:
      - Whether to leave the scratch database there where it holds what was kept, for a rehearsal. It is named in
        RV(scratch); the next verification drops it, at the latest.
    type: bool
    default: false
  disk_factor:
    description: >-
      How much of the size of the database has to be free where the server keeps its data, where that is on this
      host and known.
    type: float
    default: 1.3
  deadline:
    description: Seconds that all of it may take.
    type: float
    default: 7200
extends_documentation_fragment:
  - sparklio.rollback.postgres
  - sparklio.rollback.postgres.admin
  - sparklio.rollback.journal
  - sparklio.rollback.progress
attributes:
  check_mode:
    support: partial
    description: Compares the checksums only.
    details: Nothing is restored then, since that makes a scratch database.
  diff_mode:
    support: none
    description: The data are never shown.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Prove the dump
  sparklio.rollback.pg_verify:
    path: "{{ point.partial }}/database"
    artifact: "{{ kept.artifact }}"
    env_file: ~/sparklio_ai_marketing_studio/backend/.env
    admin_command: [sudo, -n, -u, postgres]
  register: proof
"""

RETURN = r"""
verdict:
  description: >-
    V(pass), V(fail) when a file is damaged or what was restored is not what was kept, V(error) when it could not
    be tried.
  returned: success
  type: str
  sample: pass
evidence:
  description: What was seen, in one line.
  returned: success
  type: str
  sample: 6 tables with 1032 rows, restored into a scratch database, are what was kept
how:
  description: How it was verified.
  returned: success
  type: str
  sample: restore
differences:
  description: All that differs.
  returned: success
  type: list
  elements: str
dropped:
  description: Scratch databases of earlier verifications that were dropped.
  returned: success
  type: list
  elements: str
scratch:
  description: Name of the scratch database that was left there. Empty where none was.
  returned: success
  type: str
  sample: sparklio_v4_verify_1f0c22aa
seconds:
  description: Seconds used.
  returned: success
  type: float
  sample: 2.1
"""

import os
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _content_manifest,
    _postgres,
    postgres,
    scratch,
    transfer,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import JOURNAL_SPEC, Recorder
from ansible_collections.sparklio.rollback.plugins.module_utils.postgres import PostgresError
from ansible_collections.sparklio.rollback.plugins.module_utils.scratch import Damaged


def compare(session: postgres.Session, kept: dict[str, Any], deadline: float) -> list[str]:
    """What differs in the restored database."""
    server = session.json(_postgres.SERVER)
    tables = session.json(_content_manifest.TABLES)
    hashed = any(table["hash"] is not None for table in kept["tables"]) or kept["large_objects"] is not None
    return _content_manifest.differences(kept, postgres.read_content(session, server, tables, hashed, deadline))


def progress(path: str, session: postgres.Session, name: str, about: int) -> Callable[[], None]:
    """What leaves word of how large the scratch database is by now, and stops where nobody looks any more."""
    share = transfer.Share(path)
    question = f"SELECT coalesce(pg_database_size({_content_manifest.literal(name)}), 0)"

    def tick() -> None:
        if share.abandoned():
            raise PostgresError("nobody waits for it any more: ansible-playbook was ended, so the restore was too")
        share(min(int(session.ask(question)), about), about)

    return tick


def verify(params: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str], str]:
    """Restore and compare. Returns the content manifest, what differs, what was swept, and the database that stays."""
    spare: set[str] = set()
    deadline = time.monotonic() + params["deadline"]
    with open(os.path.join(params["path"], "content.json"), encoding="utf-8") as stream:
        kept = _content_manifest.decode(stream.read())
    target = postgres.find_target(params["url"], params["env_file"], params["env_key"])
    tools = postgres.Tools(params["bin_dir"])
    with postgres.connect(tools, target) as session:
        server = session.json(_postgres.SERVER)
    client = tools.for_server(server)
    with scratch.made(params, tools, target, server, kept, scratch.INSTEAD, spare) as place:
        try:
            dump = os.path.join(params["path"], "dump")
            with postgres.connect(tools, target) as session:
                tick = progress(params["progress"], session, place.name, kept["bytes"]) if params["progress"] else None
                scratch.restore(client, target, place, dump, params["jobs"], deadline, tick=tick)
        except PostgresError as exc:
            raise Damaged(f"it can't be restored: {exc}") from exc
        with postgres.connect(tools, target, place.name) as session:
            differs = compare(session, kept, deadline)
        if params["keep"] and not differs:
            spare.add(place.name)
    return kept, differs, place.swept, "".join(spare)


def judge(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    how = "checksum" if check_mode else params["how"]
    differences: list[str] = []
    dropped: list[str] = []
    left = ""
    try:
        artifact = scratch.check_files(params["path"], params["artifact"])
        if how == "checksum":
            verdict, evidence = "pass", f"{len(artifact['files'])} files are what they were"
        else:
            kept, differences, dropped, left = verify(params)
            rows = sum(table["rows"] for table in kept["tables"])
            what = f"{len(kept['tables'])} tables with {rows} rows"
            verdict, evidence = "pass", f"{what}, restored into a scratch database, are what was kept"
            if differences:
                verdict, evidence = "fail", f"the restored database is not what was kept: {'; '.join(differences)}"
    except Damaged as exc:
        verdict, evidence = "fail", str(exc)
    except _content_manifest.ContentError as exc:
        verdict, evidence = "fail", f"content.json can't be used: {exc}"
    except (PostgresError, OSError) as exc:
        verdict, evidence = "error", f"it could not be restored into a scratch database: {exc}"
    return {
        "verdict": verdict,
        "evidence": one_line(evidence, 600),
        "how": how,
        "differences": differences,
        "dropped": dropped,
        "scratch": left,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "artifact": {"type": "dict"},
            "how": {"type": "str", "choices": ["restore", "checksum"], "default": "restore"},
            **postgres.SPEC,
            **postgres.ADMIN_SPEC,
            "jobs": {"type": "int", "default": 2},
            "keep": {"type": "bool", "default": False},
            **transfer.PROGRESS_SPEC,
            "disk_factor": {"type": "float", "default": 1.3},
            "deadline": {"type": "float", "default": 7200},
            "journal": JOURNAL_SPEC,
        },
        mutually_exclusive=[("url", "env_file"), ("admin_command", "admin_url")],
        required_if=[("how", "restore", ("url", "env_file"), True)],
        supports_check_mode=True,
    )
    started = time.monotonic()
    recorder = Recorder(module.params["journal"], module.check_mode, "database")
    with transfer.told(module.params["progress"]), postgres.orderly(), recorder.heartbeat():
        result = judge(module.params, module.check_mode)
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 3), **result)


if __name__ == "__main__":
    main()
