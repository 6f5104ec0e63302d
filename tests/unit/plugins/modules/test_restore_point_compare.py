from __future__ import annotations

import json
import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import restore_points
from ansible_collections.sparklio.rollback.plugins.modules import restore_point, restore_point_compare


@pytest.fixture
def make(call, tmp_path):
    backups = str(tmp_path / "backups")

    def one(env, packages, kind="manual", **more):
        begun = call(restore_point, backups=backups, state="begin", kind=kind)
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
        for name, (file, text) in more.items():
            dest = os.path.join(begun["partial"], name)
            os.mkdir(dest)
            with open(os.path.join(dest, file), "w", encoding="utf-8") as stream:
                stream.write(text)
            artifacts.append(restore_points.artifact(name, dest, {}, 0))
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


def test_the_lines_of_a_key_that_nobody_quoted_are_not_told(call, make):
    backups, one = make
    begin = "KEY=-----BEGIN PRIVATE KEY-----\n"
    old = one(f"A=1\n{begin}c2VjcmV0canaryXYZ12==\n", {})
    new = one(f"A=1\n{begin}c2VjcmV0canaryABC34==\nb3RoZXIcanary56==\n", {})
    found = call(restore_point_compare, backups=backups, since=old, id=new)
    assert "changed backend/.env: (a name that is not shown)" in [item["change"] for item in found["changes"]]
    assert "canary" not in str(found)


def database(digest):
    table = {"schema": "public", "name": "users", "columns": ["id"], "rows": 42, "hash": digest}
    rest = {"sequences": [], "large_objects": None, "extensions": [], "objects": {}, "settings": {}, "bytes": 1}
    return "content.json", json.dumps({"version": 1, "tables": [table], **rest})


def objects(etag):
    return "objects.jsonl", json.dumps({"key": "brands/x.png", "size": 5, "etag": etag}) + "\n"


def test_contents_of_as_many_rows_and_objects_are_compared(call, make):
    backups, one = make
    old = one("", {}, database=database("1"), objects=objects("a"))
    new = one("", {}, database=database("2"), objects=objects("b"))
    assert call(restore_point_compare, backups=backups, since=old, id=new)["changes"] == [
        {"what": "database", "change": "table users: other contents, 42 rows as before"},
        {"what": "objects", "change": "1 with other contents"},
    ]
    assert call(restore_point_compare, backups=backups, since=old, id=old)["changes"] == []
    bad = one("", {}, database=("content.json", "{}"))
    assert "no content manifest" in call(restore_point_compare, backups=backups, since=old, id=bad)["msg"]


def test_the_newest_is_one_of_the_same_kind(call, make):
    backups, one = make
    old = one("A=1\n", {}, "deploy")
    level2 = one("A=1\n", {}, "level2")
    new = one("A=1\n", {}, "deploy")
    assert call(restore_point_compare, backups=backups, since="newest", id=new)["since"] == old
    assert call(restore_point_compare, backups=backups, since="newest", kind="level2")["since"] == level2
    assert call(restore_point_compare, backups=backups, since="newest")["since"] in (new, level2)


def test_without_an_earlier_one_it_says_so_and_does_not_fail(call, make):
    backups, one = make
    found = call(restore_point_compare, backups=backups, since="newest", kind="deploy")
    assert not found.get("failed") and (found["since"], found["changes"]) == ("", [])
    assert found["note"] == "There is no earlier restore point of the kind deploy to compare with"
    one("", {}, "level2")
    made = one("", {}, "deploy")
    assert call(restore_point_compare, backups=backups, since="newest", id=made)["note"] == found["note"]


def test_there_must_be_something_to_compare_with(call, make):
    backups, one = make
    made = one("", {})
    missing = call(restore_point_compare, backups=backups, since="20250115T070000Z-deploy")["msg"]
    assert f"There is no restore point 20250115T070000Z-deploy. There are: {made}" in missing
    os.unlink(os.path.join(backups, made, "packages/packages.json"))
    assert "packages.json is missing" in call(restore_point_compare, backups=backups, since=made)["msg"]
