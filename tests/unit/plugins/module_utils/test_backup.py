from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _backup, _summary
from hypothesis import given
from hypothesis import strategies as st


def artifact(name, size=10, **meta):
    return {
        "name": name,
        "path": name,
        "files": [{"path": f"{name}/x", "size": size, "sha256": "0" * 64}],
        "meta": meta,
        "seconds": 0.25,
    }


def manifest(*artifacts, commit="a" * 40, tag=None):
    return {"release": {"commit": commit, "tag": tag, "branch": None}, "artifacts": list(artifacts)}


def test_what_changed_is_named_and_no_value_is():
    old = manifest(
        artifact("database", 1000, tables={"users": {"rows": 1}, "old": {"rows": 0}}),
        artifact("redis", keys={"0": 1}),
        artifact("objects", objects=1, bytes=5),
        artifact("ollama", models=[{"name": "q", "digest": "1"}, {"name": "gone", "digest": "1"}]),
    )
    new = manifest(
        artifact("database", 2500000, tables={"users": {"rows": 4}}),
        artifact("redis", keys={"0": 1, "2": 2}),
        artifact("objects", objects=2, bytes=9),
        artifact("ollama", models=[{"name": "q", "digest": "2"}]),
        artifact("services"),
        commit="b" * 40,
        tag="v4.0.20250115-1600",
    )
    keys = {"backend/.env: A": "canary", "backend/.env: B": "x"}, {"backend/.env: A": "canary2", ".env: C": "x"}
    found = [f"{item['what']}: {item['change']}" for item in _backup.changes(old, new, keys, ({"x": "1"}, {"x": "2"}))]
    assert found == [
        "release: aaaaaaaaaaaa -> v4.0.20250115-1600",
        "database: 1.0 KB -> 2.5 MB",
        "objects: 5 bytes -> 9 bytes",
        "services: only in the later one",
        "database: old 0 -> absent rows",
        "database: users 1 -> 4 rows",
        "environment: added .env: C",
        "environment: removed backend/.env: B",
        "environment: changed backend/.env: A",
        "redis: 1 -> 3 keys",
        "objects: 1 -> 2 objects",
        "ollama: removed gone",
        "ollama: changed q",
        "packages: changed x",
    ]
    assert "canary" not in str(found)
    assert _backup.changes(old, old, (keys[0], keys[0])) == []


def content(*tables, large=None):
    rows = [
        {"schema": "public", "name": name, "columns": ["id"], "rows": count, "hash": digest}
        for name, count, digest in tables
    ]
    return {"tables": rows, "large_objects": large}


def said(old, new, **both):
    return [f"{item['what']}: {item['change']}" for item in _backup.changes(old, new, **both)]


def test_as_many_rows_with_other_contents_are_a_change():
    point = manifest(artifact("database", tables={"users": {"rows": 42}, "same": {"rows": 1}}))
    old = content(("users", 42, "1"), ("same", 1, "5"), ("more", 1, "1"), large={"rows": 1, "hash": "1"})
    new = content(("users", 42, "2"), ("same", 1, "5"), ("more", 2, "2"), large={"rows": 1, "hash": "2"})
    assert said(point, point, contents=(old, new)) == [
        "database: table users: other contents, 42 rows as before",
        "database: large objects: other ones, 1 -> 1",
    ]
    assert said(point, point, contents=(old, old)) == [] == said(point, point, contents=(None, new))


def test_contents_that_nobody_hashed_are_not_said_to_be_the_same():
    point = manifest(artifact("database", tables={"users": {"rows": 42}}))
    counted = content(("users", 42, None))
    assert said(point, point, contents=(counted, content(("users", 42, "1")))) == [
        "database: contents are not known, since only rows were counted"
    ]


def test_as_many_objects_with_other_contents_are_a_change():
    point = manifest(artifact("objects", objects=3, bytes=9))
    old, new = {"a": "1", "b": "1", "canary": "1"}, {"a": "1", "b": "2", "c": "1"}
    assert said(point, point, etags=(old, new)) == ["objects: 1 added, 1 removed, 1 with other contents"]
    assert said(point, point, etags=(old, old)) == [] == said(point, point, etags=(None, new))


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.dictionaries(st.text(max_size=3), st.integers()))
def test_nothing_is_said_of_equals_and_something_of_others(old, new):
    assert bool(_backup.difference(old, new)) == (old != new)


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (5e15, "5000.0 TB")])
def test_sizes(count, text):
    assert _backup.size(count) == text


def test_the_list_says_what_each_is():
    item = {
        **{"id": "20250115T070000Z-deploy", "age_seconds": 7300, "size": 5000, "whole": True, "problem": None},
        **{
            "unread": None,
            "verified": {"how": "restore"},
            "release": {"commit": "a" * 40, "tag": None},
            "artifacts": ["redis"],
        },
    }
    found = {
        "restore_points": [item, {**item, "verified": None, "whole": False, "problem": "redis/dump.rdb is missing"}],
        "unfinished": [{"id": "20250115T070001Z-deploy", "idle_seconds": 5, "size": 0}],
        "hand_made": [{"path": "/app/.env.backup.20250115_140000", "what": "environment", "size": 9}],
    }
    lines = [" ".join(line.split()) for line in _backup.table(found)]
    assert lines == [
        "20250115T070000Z-deploy 2 h 5.0 KB verified by restore; aaaaaaaaaaaa, redis",
        "20250115T070000Z-deploy 2 h 5.0 KB not verified; DAMAGED / 손상: redis/dump.rdb is missing",
        "20250115T070001Z-deploy 5 s 0 bytes unfinished, no restore point",
        "made by hand: /app/.env.backup.20250115_140000 (environment, 9 bytes)",
    ]
    assert "There is no restore point" in _backup.table({"restore_points": [], "unfinished": [], "hand_made": []})[0]


def facts(**more):
    return {
        "point": {"id": "20250115T070000Z-deploy", "seconds": 3.21},
        "artifacts": [artifact("environment"), artifact("objects", objects=2, bytes=5000, snapshot="b")],
        "skipped": [{"name": "comfyui", "reason": "no answer"}],
        "warnings": ["the tag was not pushed"],
        "verified": {"how": "restore", "seconds": 1.5},
        "tag": "v4.0.20250115-070000",
        "run": {"id": "r", "dir": "/runs/r"},
        **more,
    }


def test_the_summary_of_a_backup():
    text = "\n".join(_summary.lines(_backup.outcome(facts())))
    assert text.startswith("BACKED UP / 백업 완료")
    assert "20250115T070000Z-deploy (5.0 KB in 3.2 s, verified by restore in 1.5 s)" in text
    assert "2 objects in bucket b" in text and "skipped: comfyui: no answer" in text and "not pushed" in text
    text = "\n".join(_summary.lines(_backup.outcome(facts(compare_to="20250114T070000Z-deploy", verified=None))))
    assert "since 20250114T070000Z-deploy: nothing changed" in text and "not verified" in text


def test_a_backup_that_failed_or_was_only_tried():
    failed = _backup.outcome(facts(failure="Redis was not\n backed up."))
    assert failed["outcome"] == "failed" and failed["message"].startswith("Redis was not backed up. Nothing half-made")
    assert failed["restore_point_id"] is None
    late = _backup.outcome(facts(failure="It failed.", point={"id": "x", "path": "/x"}))
    assert (
        late["message"].startswith("It failed. Restore point x was made before that") and "whole" not in late["message"]
    )
    assert _backup.outcome(facts(check_mode=True))["outcome"] == "planned"
    both = _summary.of_hosts({"a": failed, "b": _backup.outcome(facts())})
    assert both["outcome"] == "failed" and both["hosts"]["b"]["outcome"] == "backed_up"
