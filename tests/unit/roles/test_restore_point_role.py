"""What the role restore_point decides in its own expressions. They are evaluated here, no task is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLES = Path(__file__).parents[3] / "roles"
LOADER = DataLoader()


def load(path):
    return LOADER.load_from_file(str(ROLES / path), trusted_as_template=True)


def task(path, name):
    """The task of that name, wherever it is in a file."""
    tasks = load(path)
    while tasks:
        item = tasks.pop()
        if item["name"] == name:
            return item
        tasks += [inner for key in ("block", "rescue", "always") for inner in item.get(key, [])]
    raise AssertionError(f"{path} has no task {name!r}")


def value(item, key, **variables):
    return Templar(LOADER, variables={**item.get("vars", {}), **variables}).template(item[key])


def holds(condition, **variables):
    return Templar(LOADER, variables={**load("restore_point/vars/main.yml"), **variables}).evaluate_conditional(
        condition
    )


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("Begin | Only known parts can be asked for", "restore_point_parts"),
        ("Begin | Only known parts can be required", "restore_point_require"),
    ],
)
def test_only_known_parts_are_taken(name, variable):
    condition = task("restore_point/tasks/begin.yml", name)["ansible.builtin.assert"]["that"]
    assert holds(condition, **{variable: ["database", "environment"]}) and holds(condition, **{variable: []})
    assert not holds(condition, **{variable: ["databse", "environment"]})


def test_the_environment_is_kept_first():
    assert load("restore_point/vars/main.yml")["__restore_point_parts"][0] == "environment"
    assert load("alembic_downgrade/tasks/preserve.yml")[0]["vars"]["restore_point_parts"][0] == "environment"


def test_a_rollback_removes_no_old_restore_point():
    when = task("restore_point/tasks/main.yml", "Remove what nobody needs any more")["when"]
    usual = load("restore_point/defaults/main.yml")["restore_point_retain"]
    rollback = load("alembic_downgrade/tasks/preserve.yml")[0]["vars"]["restore_point_retain"]
    assert holds(when, restore_point_retain=usual) and not holds(when, restore_point_retain=rollback)


@pytest.mark.parametrize(("hosts", "away"), [([], ["ollama"]), (["gpu"], [])])
def test_old_ones_are_held_where_ollama_is_not_known(hosts, away):
    item = task("restore_point/tasks/retain.yml", "Retain | Ask which may go")
    options = {"out_of_reach": item["sparklio.rollback.restore_point_info"]["out_of_reach"]}
    assert value({"x": options}, "x", restore_point_ollama_hosts=hosts) == {"out_of_reach": away}


def test_a_backup_does_not_fail_by_what_it_can_not_remove():
    (outer,) = load("restore_point/tasks/retain.yml")
    item = outer["rescue"][0]
    facts = value(item, "ansible.builtin.set_fact", ansible_failed_result={"msg": "no"}, restore_point_warnings=["a"])
    assert facts["restore_point_warnings"] == ["a", "old restore points could not be removed: no"]


def test_each_host_of_a_play_begins_with_a_number_of_its_own():
    number = task("restore_point/tasks/begin.yml", "Begin | Make its directory")["sparklio.rollback.restore_point"]
    hosts = ["app1", "app2"]
    found = [value(number, "number", ansible_play_hosts_all=hosts, inventory_hostname=host) for host in hosts]
    assert found == [1, 2]


@pytest.mark.parametrize("what", ["Remove the snapshot buckets", "Remove the tags of models"])
def test_what_lies_elsewhere_does_not_depend_on_what_this_run_keeps(what):
    when = task("restore_point/tasks/outside.yml", f"Outside | {what}")["when"]
    some = {"objects": ["x"], "ollama": ["x"], "tags": []}
    variables = {"restore_point_parts": ["environment"], "restore_point_ollama_hosts": []}
    assert holds(when, __restore_point_elsewhere=some, **variables)
    assert not holds(when, __restore_point_elsewhere={"objects": [], "ollama": [], "tags": []}, **variables)


def test_what_is_left_elsewhere_is_kept_in_mind_and_told():
    item = task("restore_point/tasks/outside.yml", "Outside | Remember what is left there, and why")
    results = {
        "__restore_point_buckets": {"msg": "no store."},
        "__restore_point_models": {"skipped": True},
        "__restore_point_tags": {"results": []},
    }
    left = value(item, "ansible.builtin.set_fact", **results)["__restore_point_left"]
    assert left == {"objects": "no store."}
    item = task("restore_point/tasks/abandon.yml", "Abandon | Tell what is left elsewhere")
    facts = value(item, "ansible.builtin.set_fact", restore_point_failure="It failed.", __restore_point_left=left)
    assert facts["restore_point_failure"].startswith("It failed. Of the restore point")
    assert facts["restore_point_failure"].endswith("no store.")
    item = task("restore_point/tasks/retain.yml", "Retain | Tell which went")
    gone = {"results": [{"id": "a", "kept": True}, {"id": "b", "kept": False}]}
    facts = value(
        item,
        "ansible.builtin.set_fact",
        __restore_point_gone=gone,
        __restore_point_left=left,
        restore_point_warnings=[],
    )
    assert facts["restore_point_removed"] == ["b"] and "no store." in facts["restore_point_warnings"][0]


@pytest.mark.parametrize(
    ("verify", "database", "how"),
    [
        ("none", True, "OMIT"),
        ("checksum", True, "checksum"),
        ("restore", True, "restore"),
        ("restore", False, "checksum"),
    ],
)
def test_how_it_is_proven_before_it_has_its_name(verify, database, how):
    item = task("restore_point/tasks/finish.yml", "Finish | Prove it, write the manifest, and give it its name")
    options = item["sparklio.rollback.restore_point"]
    found = value(
        {"vars": item["vars"], "x": {"how": options["how"], "seconds": options["seconds"]}},
        "x",
        omit="OMIT",
        restore_point_verify=verify,
        restore_point_artifacts=[{"name": "database"}] if database else [],
        pg_backup_verified={"seconds": 2},
    )
    assert found == {"how": how, "seconds": 2 if how == "restore" else 0}


def test_a_part_that_failed_leaves_nothing():
    item = task("restore_point/tasks/part.yml", "Part | Leave nothing half-made of it")
    options = value(
        item,
        "sparklio.rollback.restore_point",
        restore_point_backups="/b",
        restore_point_made={"id": "x"},
        __restore_point_part="ollama",
    )
    assert options == {"backups": "/b", "state": "without", "id": "x", "part": "ollama"}
