"""When the backend is started again that an undo has stopped."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import made, task

STOPPED = {
    "run_undone": False,
    "backend_restart_stopped": True,
    "run_pending": {"database": {}, "backend": {}, "checkout": {}},
}


@pytest.mark.parametrize(
    ("facts", "starts"),
    [
        ({}, True),
        ({"run_undone": True}, False),
        # What is in the tree does not fit the database that was put back, or was never proven to.
        ({"alembic_downgrade_undone": {}}, False),
        ({"run_pending": {"database": {}}}, False),
        ({"run_pending": {"backend": {}}}, False),
        ({"backend_restart_stopped": False}, False),
    ],
)
def test_it_starts_again_only_where_the_database_is_as_it_was(facts: dict[str, Any], starts: bool):
    found = task("backend_restart", "undo_start", "Undo start | Let serve again what was stopped for nothing")
    wanted = [made("backend_restart", "{{ " + item + " }}", **{**STOPPED, **facts}) for item in found["when"]]
    assert all(isinstance(item, bool) for item in wanted) and all(wanted) == starts


def test_without_an_undo_it_starts_nothing():
    found = task("backend_restart", "undo_start", "Undo start | Let serve again what was stopped for nothing")
    known = {key: value for key, value in STOPPED.items() if key != "run_undone"}
    assert not all(made("backend_restart", "{{ " + item + " }}", **known) for item in found["when"])
