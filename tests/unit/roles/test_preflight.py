"""What the role refuses before it asks a host."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import made, task


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, None),
        ({"undo": "r1"}, None),
        ({"purge": "r1"}, None),
        ({"target_tag": "v1"}, None),
        # Which of two targets is meant is asked where the revisions are looked for.
        ({"target_tag": "v1", "steps": -1}, None),
        (
            {"undo": "r1", "purge": "r2"},
            "Given are undo and purge, and each is a run of its own. Leave out all but one.",
        ),
        ({"undo": "r1", "target_tag": "v1"}, "Given are undo and target_tag"),
        ({"purge": "r1", "target_revision": "base"}, "Given are purge and target_revision"),
        ({"undo": "r1", "steps": -1}, "Given are undo and steps"),
    ],
)
def test_one_thing_at_a_time(facts: dict[str, Any], said: str | None):
    found = task("preflight", "settings", "Settings | One thing at a time")
    known = {**found["vars"], **facts}
    assert made("preflight", "{{ " + found["ansible.builtin.assert"]["that"] + " }}", **known) == (said is None)
    if said:
        assert said in made("preflight", found["ansible.builtin.assert"]["fail_msg"], **known)
