from __future__ import annotations

import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import restore_points
from ansible_collections.sparklio.rollback.plugins.modules import restore_point, restore_point_compare


@pytest.fixture
def make(call, tmp_path):
    backups = str(tmp_path / "backups")

    def one(env, packages):
        begun = call(restore_point, backups=backups, state="begin")
        artifacts = []
        for name, file, data in (("environment", "backend/.env", env), ("packages", "packages.json", packages)):
            dest = os.path.join(begun["partial"], name)
            path = os.path.join(dest, file)
            restore_points.write(path, data)
            if name == "environment":
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(data)
            artifact = restore_points.artifact(name, dest, {}, 0)
            if name == "environment":
                artifact["files"][0]["target"] = file
            artifacts.append(artifact)
        return call(restore_point, backups=backups, state="finish", id=begun["id"], artifacts=artifacts)["id"]

    return backups, one


def test_keys_and_packages_are_compared_and_no_value_is_told(call, make):
    backups, one = make
    old = one("A=canary-1\nB=2\n", {"pip": ["x==1", "y==1"], "node": "v20"})
    new = one("export A='canary-2'\r\nC=\r\n", {"pip": ["x==1", "z==1"], "node": "v22"})
    found = call(restore_point_compare, backups=backups, since=old, id=new)
    said = [f"{item['what']}: {item['change']}" for item in found["changes"] if "bytes" not in item["change"]]
    assert said == [
        "environment: added backend/.env: C",
        "environment: removed backend/.env: B",
        "environment: changed backend/.env: A",
        "packages: added z",
        "packages: removed y",
        "packages: changed node",
    ]
    assert "canary" not in str(found)
    assert call(restore_point_compare, backups=backups, since="newest", id=new)["since"] == old


def test_there_must_be_something_to_compare_with(call, make):
    backups, one = make
    assert (
        "There is no restore point that is whole" in call(restore_point_compare, backups=backups, since="newest")["msg"]
    )
    made = one("", {})
    missing = call(restore_point_compare, backups=backups, since="20250115T070000Z-deploy")["msg"]
    assert f"There is no restore point 20250115T070000Z-deploy. There are: {made}" in missing
    os.unlink(os.path.join(backups, made, "packages/packages.json"))
    assert "packages.json is missing" in call(restore_point_compare, backups=backups, since=made)["msg"]
