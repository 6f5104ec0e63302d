"""What the role's templates make of what was found. No host is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.sparklio.rollback.plugins.module_utils import _rows

ROLE = Path(__file__).resolve().parents[3] / "roles/alembic_downgrade"


def loaded(name: str) -> Any:
    return DataLoader().load_from_file(str(ROLE / name), trusted_as_template=True)


def task(name: str, title: str) -> dict[str, Any]:
    return next(item for item in loaded(f"tasks/{name}.yml") if item["name"] == title)


def made(template: Any, **facts: Any) -> Any:
    variables = {**loaded("defaults/main.yml"), **loaded("vars/main.yml"), **facts}
    return Templar(DataLoader(), variables=variables).template(template)


BEFORE = {"users": 200, "workflows": 9, "brand_learnings": 40, "assets": None}


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        # Rows of workflows go as the revision says, brand_learnings as a whole.
        ({"users": 200, "workflows": 5, "brand_learnings": None, "assets": None}, []),
        ({"users": 199, "workflows": 5, "brand_learnings": None, "assets": None}, ["data_users"]),
    ],
)
def test_rows_that_were_rehearsed_to_go_are_no_loss_and_others_are(found, failed):
    rehearsal = {"may_change": ["public.alembic_version", "public.brand_learnings", "app.workflows"], "tables": []}
    template = task("validate", "Validate | Keep what its tables should hold by now")["ansible.builtin.set_fact"]
    before = made(
        template["alembic_downgrade_rows"], alembic_downgrade_rehearsal=rehearsal, preflight_schema={"rows": BEFORE}
    )
    verdicts = _rows.verdicts({"rows": found}, before)
    assert [item["name"] for item in verdicts if item["verdict"] == "fail"] == failed


def test_without_a_rehearsal_the_revisions_say_which_rows_may_go():
    drops = [{"kind": "rows", "table": "workflows", "name": None}, {"kind": "type", "table": None, "name": "mood"}]
    path = {"path": [{"revision": "r2", "drops": drops}]}
    others = trust_as_template("{{ __alembic_downgrade_others }}")
    assert made(others, alembic_downgrade_path=path) == ["alembic_version", "workflows"]
    assert made(others, alembic_downgrade_path={"path": []}) == ["alembic_version"]
