"""A role's templates, and what they make of given facts. No host is asked, and no task is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[3] / "roles"


def loaded(role: str, name: str) -> Any:
    path = ROLES / role / name
    return DataLoader().load_from_file(str(path), trusted_as_template=True) if path.exists() else {}


def task(role: str, name: str, title: str) -> dict[str, Any]:
    return next(item for item in loaded(role, f"tasks/{name}.yml") if item["name"] == title)


def made(role: str, template: Any, **facts: Any) -> Any:
    variables = {**loaded(role, "defaults/main.yml"), **loaded(role, "vars/main.yml"), **facts}
    template = trust_as_template(template) if isinstance(template, str) else template
    return Templar(DataLoader(), variables=variables).template(template)
