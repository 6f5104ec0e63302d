# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lints on the controller, whatever the host is: nothing is ever installed on a target, nor copied there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

from ansible.plugins.action import ActionBase
from ansible_collections.sparklio.rollback.plugins.module_utils import _squawk
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line

SPEC = {
    "sql": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"revision": {"type": "str", "required": True}, "sql": {"type": "str", "required": True}},
    },
    "program": {"type": "path"},
    "exclude": {"type": "list", "elements": "str", "default": list(_squawk.EXCLUDED)},
    "pg_version": {"type": "str"},
    "in_transaction": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 30},
}
INSTALL = "Install it where ansible-playbook runs: pip install squawk-cli"


def find(program):
    """Where squawk is: as named, else on PATH, else beside the Python that runs Ansible."""
    if program:
        return shutil.which(program)
    return shutil.which("squawk") or shutil.which("squawk", path=os.path.dirname(sys.executable))


def output(command, folder, timeout):
    """What the program says on its standard output and on the other, or OSError, or TimeoutExpired."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def lint(args):
    """Return ``findings``, or none and a ``reason``, and the ``version`` of the program."""
    answer = {"findings": None, "reason": None, "version": None}
    program = find(args["program"])
    if program is None:
        return {**answer, "reason": f"squawk is not installed, so the SQL was not linted. {INSTALL}"}
    deadline = time.monotonic() + args["timeout"]
    # A directory that nobody else may enter; the files in it need nothing more.
    with tempfile.TemporaryDirectory(prefix="sparklio-lint-") as folder:
        try:
            answer["version"] = one_line(output([program, "--version"], folder, args["timeout"])[0].split()[-1], 40)
            if not args["sql"]:
                return {**answer, "findings": []}
            for number, item in enumerate(args["sql"]):
                with open(os.path.join(folder, _squawk.file_name(number)), "w", encoding="utf-8") as stream:
                    stream.write(item["sql"])
            # An empty one, or it takes what it finds in some directory above.
            config = os.path.join(folder, "squawk.toml")
            with open(config, "w", encoding="utf-8"):
                pass
            command = _squawk.command(program, len(args["sql"]), config, args["pg_version"], args["in_transaction"])
            said = output(command, folder, max(0.1, deadline - time.monotonic()))
            revisions = [item["revision"] for item in args["sql"]]
            answer["findings"] = _squawk.parse(*said, revisions, args["exclude"])
        except (OSError, IndexError) as exc:
            answer["reason"] = f"{program} can't be run ({getattr(exc, 'strerror', None) or 'it says no version'})"
        except subprocess.TimeoutExpired:
            answer["reason"] = f"{program} gave no answer within {args['timeout']:.0f} s"
        except _squawk.LintError as exc:
            answer["reason"] = str(exc)
    return answer


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=SPEC)
        return {**result, "changed": False, **lint(args)}
