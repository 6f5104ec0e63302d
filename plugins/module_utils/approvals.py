# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals of plans on the app host, ``approvals/<hash>.json`` below the state directory. What they mean is in
``_approval.py``."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _approval
from ansible_collections.sparklio.rollback.plugins.module_utils._approval import ApprovalError
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State, write_private


def folder(state_dir: str) -> str:
    return os.path.join(state_dir, "approvals")


def path(state_dir: str, plan: str) -> str:
    """The file of a plan's approval, whether it exists or not.

    Raises:
        ApprovalError: that is no hash.
    """
    return os.path.join(folder(state_dir), f"{_approval.plan_hash(plan)}.json")


def read_all(state_dir: str) -> tuple[list[dict[str, Any]], list[str]]:
    """All approvals, and what is wrong with those that can't be read."""
    approvals, damaged = [], []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder(state_dir))):
            if not name.endswith(".json"):
                continue
            try:
                with open(os.path.join(folder(state_dir), name), encoding="utf-8") as stream:
                    found = _approval.decode(stream.read())
                if name != f"{found['plan']}.json":
                    raise ApprovalError("It is of another plan than its name says. Remove it.")
                approvals.append(found)
            except (ApprovalError, OSError, UnicodeDecodeError) as exc:
                damaged.append(f"{name}: {exc}")
    return approvals, damaged


def recorder() -> str:
    """Who runs this, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def write(state_dir: str, approval: dict[str, Any]) -> None:
    """Keep an approval, in place of an earlier one of the same plan."""
    State(state_dir).prepare()
    os.makedirs(folder(state_dir), mode=0o700, exist_ok=True)
    write_private(path(state_dir, approval["plan"]), json.dumps(approval, ensure_ascii=False, sort_keys=True) + "\n")
