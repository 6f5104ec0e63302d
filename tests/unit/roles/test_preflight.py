"""What the role refuses before it asks a host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _settings
from rendering import made

ROOT = {"rollback_app_root": "/app"}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, None),
        ({"run_level": "level3", "undo": "r1"}, None),
        ({"run_level": "level1", "undo": "r1"}, "playbooks/level3.yml -e undo=r1"),
        ({"run_level": "level3", "run_plans": True, "purge": "r1"}, "playbooks/level3.yml -e purge=r1"),
        ({"rollback_app_root": ""}, "rollback_app_root is not set"),
        ({"_raw_params": "new editor"}, "this is left over: new editor"),
    ],
)
def test_what_was_given_is_what_is_looked_at(facts: dict[str, Any], said: str | None):
    given = made("preflight", "{{ __preflight_given }}", **{**ROOT, **facts})
    found = _settings.problems(given, made("preflight", "{{ __preflight_takes_back }}", **facts))
    assert found == [] if said is None else len(found) == 1 and said in found[0]
