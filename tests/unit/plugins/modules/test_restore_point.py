from __future__ import annotations

import errno
import json
import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _backup, restore_points
from ansible_collections.sparklio.rollback.plugins.modules import config_diff, restore_point, restore_point_info

COMMIT = "3f2a9c5e41b07d68a1c2f4e5d6b7a8c9d0e1f203"


@pytest.fixture
def backups(tmp_path):
    return tmp_path / "state" / "backups"


@pytest.fixture
def make(call, backups):
    def one(text="hello", **options):
        begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
        dest = os.path.join(begun["partial"], "redis")
        restore_points.write(os.path.join(dest, "dump.json"), text)
        os.chmod(os.path.join(dest, "dump.json"), 0o644)
        os.chmod(dest, 0o755)
        artifact = restore_points.artifact("redis", dest, {}, 0.1)
        return call(
            restore_point,
            **{"backups": str(backups), "state": "finish", "id": begun["id"], "artifacts": [artifact], **options},
        )

    return one


def info(call, backups, **options):
    return call(restore_point_info, backups=str(backups), **options)


def test_a_restore_point_is_made_private_and_whole(call, backups, make):
    made = make(purpose="배포 전", release={"commit": COMMIT, "tag": "v4.0.20250115-1600", "branch": "main"})
    assert made["changed"]
    assert oct(os.stat(made["path"]).st_mode & 0o777) == "0o700"
    for place, _folders, names in os.walk(made["path"]):
        assert os.stat(place).st_mode & 0o777 == 0o700
        assert all(os.stat(os.path.join(place, name)).st_mode & 0o777 == 0o600 for name in names)
    found = info(call, backups)
    assert found["newest"] == made["id"]
    (item,) = found["restore_points"]
    assert item["whole"] and item["problem"] is None and item["verified"] is None
    assert (item["artifacts"], item["message"], item["size"]) == (["redis"], "배포 전", made["bytes"])
    assert item["release"]["commit"] == COMMIT


def test_two_of_the_same_second(make):
    ids = {make()["id"] for _ in range(3)}
    assert len(ids) == 3


def test_what_is_not_finished_is_not_listed(call, backups):
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    assert begun["free"] > 0
    found = info(call, backups)
    assert found["restore_points"] == [] and found["newest"] is None
    assert [item["id"] for item in found["unfinished"]] == [begun["id"]]
    assert found["stale"] == []
    for entry in ("", "redis"):
        path = os.path.join(begun["partial"], entry)
        os.makedirs(path, exist_ok=True)
        os.utime(path, (1, 1))
    os.utime(begun["partial"], (1, 1))
    assert info(call, backups)["stale"] == [begun["id"]]
    assert call(restore_point, backups=str(backups), state="abandon", id=begun["id"])["changed"]
    assert not call(restore_point, backups=str(backups), state="abandon", id=begun["id"])["changed"]
    assert info(call, backups)["unfinished"] == []


@pytest.mark.parametrize("step", ["write_private", "sync_directory", "rename"])
def test_killed_at_any_step_it_is_not_listed(call, backups, make, monkeypatch, step):
    earlier = make()

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "rename" else restore_points, step, die)
        if step == "write_private":
            patch.setattr(restore_points, "write", lambda *_: None)
        begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
        with pytest.raises(Killed):
            call(restore_point, backups=str(backups), state="finish", id=begun["id"])
    found = info(call, backups)
    assert [item["id"] for item in found["restore_points"]] == [earlier["id"]]
    assert [item["id"] for item in found["unfinished"]] == [begun["id"]]


def test_a_file_that_shrank_before_the_end_stops_it(call, backups):
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    dest = os.path.join(begun["partial"], "redis")
    restore_points.write(os.path.join(dest, "dump.json"), "hello")
    artifact = restore_points.artifact("redis", dest, {}, 0.1)
    os.truncate(os.path.join(dest, "dump.json"), 2)
    failed = call(restore_point, backups=str(backups), state="finish", id=begun["id"], artifacts=[artifact])
    assert failed["failed"] and "redis/dump.json was cut off: 2 bytes" in failed["msg"]
    artifact["files"][0]["path"] = "../../x"
    failed = call(restore_point, backups=str(backups), state="finish", id=begun["id"], artifacts=[artifact])
    assert "outside of its folder" in failed["msg"]
    assert info(call, backups)["restore_points"] == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path, 1), "redis/dump.json was cut off"),
        (lambda path: path.write_text('"jello"\n'), "redis/dump.json was altered"),
        (lambda path: path.unlink(), "redis/dump.json is missing"),
        (lambda path: (path.rename(path.parent / "x"), path.symlink_to("x")), "is reached through a link"),
    ],
)
def test_the_file_at_fault_is_named(call, backups, make, damage, message):
    made, other = make(), make()
    damage(backups / made["id"] / "redis/dump.json")
    found = {item["id"]: item for item in info(call, backups, verify="checksum")["restore_points"]}
    assert not found[made["id"]]["whole"] and message in found[made["id"]]["problem"]
    assert found[other["id"]]["whole"]
    failed = call(restore_point, backups=str(backups), state="verified", id=made["id"])
    assert message in failed["msg"]


def test_verified_is_noted_and_survives(call, backups, make):
    made = make()
    note = call(restore_point, backups=str(backups), state="verified", id=made["id"], how="restore", seconds=3)
    assert note["verified"]["how"] == "restore" and note["verified"]["seconds"] >= 3
    assert info(call, backups)["restore_points"][0]["verified"] == note["verified"]


def test_a_newer_or_strange_manifest_is_told(call, backups, make):
    made = make()
    path = backups / made["id"] / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "version": 2}))
    assert "version 2, and this collection reads up to version 1" in info(call, backups)["restore_points"][0]["problem"]
    path.write_bytes(b"\xff\xfe")
    assert "can't be read" in info(call, backups)["restore_points"][0]["problem"]
    path.unlink()
    assert "has no manifest.json" in info(call, backups)["restore_points"][0]["problem"]


def test_retired_is_off_the_list_at_once(call, backups, make):
    made = make()
    assert call(restore_point, True, backups=str(backups), state="retired", ids=[made["id"]])["changed"]
    assert info(call, backups)["newest"] == made["id"]
    assert call(restore_point, backups=str(backups), state="retired", ids=[made["id"]])["changed"]
    assert not call(restore_point, backups=str(backups), state="retired", ids=[made["id"]])["changed"]
    assert info(call, backups)["newest"] is None
    assert call(restore_point, backups=str(backups), state="abandon", id=made["id"])["changed"]
    assert os.listdir(backups) == []


def test_a_run_that_refers_to_one_keeps_it(call, backups, make, tmp_path):
    made = [make()["id"] for _ in range(3)]
    for number, name in enumerate(made):
        aged = f"2020010{number + 1}T000000Z-deploy"
        path = backups / name / "manifest.json"
        path.write_text(path.read_text().replace(name, aged))
        (backups / name).rename(backups / aged)
    options = {"keep": 1, "days": 1, "state_dir": str(tmp_path / "state")}
    assert info(call, backups, **options)["expired"] == ["20200101T000000Z-deploy", "20200102T000000Z-deploy"]
    run = tmp_path / "state/runs/20200103-000000-level2"
    run.mkdir(parents=True)
    (run / "journal.jsonl").write_text('{"event": "run", "point": "20200101T000000Z-deploy"}\n')
    assert info(call, backups, **options)["expired"] == ["20200102T000000Z-deploy"]


def test_files_made_by_hand(call, backups, tmp_path):
    root = tmp_path / "app"
    for name in (
        *(
            ".env.backup.20250115_140000",
            "backend/.env.backup.20250116_140000",
            "frontend/.env.local.backup.20250114_140000",
        ),
        *(
            "backups/db_20250115_140000.sql",
            "backups/redis_20250115_140000.rdb",
            "backups/notes.txt",
            ".env.backup.old",
        ),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = info(call, backups, app_root=str(root))["hand_made"]
    assert [(item["what"], item["target"]) for item in found if item["what"] == "environment"] == [
        ("environment", "backend/.env"),
        ("environment", ".env"),
        ("environment", "frontend/.env.local"),
    ]
    assert [os.path.basename(item["path"]) for item in found if item["what"] != "environment"] == [
        "redis_20250115_140000.rdb",
        "db_20250115_140000.sql",
    ]


def test_a_full_disk_names_its_cure(call, backups, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(restore_points, "begin", full)
    failed = call(restore_point, backups=str(backups), state="begin")
    assert "No space left on device. Free some space there" in failed["msg"]


def test_ids_are_no_paths(call, backups):
    for name in ("../x", "20250115T070000Z-deploy/../..", ".partial-20250115T070000Z-deploy"):
        assert (
            "is not the id of a restore point"
            in call(restore_point, backups=str(backups), state="abandon", id=name)["msg"]
        )
        assert "is not the id of a restore point" in info(call, backups, id=name)["msg"]


def test_a_release_keeps_its_own_tag(call, backups, git):
    git.commit({"a": "1"}, tag="v4.0.20250115-1600", date="2025-01-15T16:00:00")
    git("tag", "-a", "v4.0.20250116-090000", "-m", "backup", date="2025-01-16T09:00:00")
    begun = call(restore_point, backups=str(backups), state="begin", root=str(git.path))
    assert begun["release"]["tag"] == "v4.0.20250115-1600"
    options = {"backups": str(backups), "state": "finish", "id": begun["id"], "root": str(git.path)}
    git.commit({"a": "2"})
    moved = call(restore_point, **options, release=begun["release"])
    assert "another commit was checked out meanwhile" in moved["msg"]
    git("reset", "-q", "--hard", "HEAD~1")
    made = call(restore_point, **options, release=begun["release"], backup_tag="v4.0.20250116-090000")
    with open(os.path.join(made["path"], "manifest.json"), encoding="utf-8") as stream:
        manifest = json.load(stream)
    assert manifest["release"] == {**begun["release"]} and manifest["backup_tag"] == "v4.0.20250116-090000"


def aged(backups, name, point_id, artifacts=()):
    """Give a finished restore point another id, and artifacts that lie elsewhere. Returns the id."""
    path = backups / name / "manifest.json"
    manifest = {**json.loads(path.read_text()), "id": point_id}
    manifest["artifacts"] += artifacts
    path.write_text(json.dumps(manifest))
    (backups / name).rename(backups / point_id)
    return point_id


def lying(name, **meta):
    return {"name": name, "type": name, "path": name, "size": 0, "seconds": 0.1, "files": [], "meta": meta}


def test_what_an_old_one_has_elsewhere_is_known_by_its_own_manifest(call, backups, make):
    objects, ollama = lying("objects", snapshot="b"), lying("ollama", mark="20200103T000000Z-deploy-2")
    plain = aged(backups, make()["id"], "20200101T000000Z-deploy")
    bucket = aged(backups, make()["id"], "20200102T000000Z-deploy", [lying("objects", snapshot="a")])
    both = aged(backups, make()["id"], "20200103T000000Z-deploy", [objects, ollama])
    aged(backups, make()["id"], "20300101T000000Z-deploy", [objects, ollama])
    options = {"keep": 1, "days": 1}
    found = info(call, backups, **options)
    assert found["expired"] == [plain, bucket, both] and found["held"] == []
    assert found["elsewhere"] == {"objects": ["a", "b"], "ollama": ["20200103T000000Z-deploy-2"], "tags": []}
    # A run that can't reach Ollama leaves what has tags there as it is.
    found = info(call, backups, out_of_reach=["ollama"], **options)
    assert (found["expired"], found["held"]) == ([plain, bucket], [both])
    assert found["elsewhere"] == {"objects": ["a"], "ollama": [], "tags": []}


def test_an_old_one_of_which_it_is_not_known_what_it_has_elsewhere_stays(call, backups, make):
    """Its bucket may have another number, and the one that has its id may be another host's."""
    lost = aged(backups, make()["id"], "20200101T000000Z-deploy", [lying("objects", snapshot="b")])
    (backups / lost / "manifest.json").write_text("{")
    (backups / lost / "elsewhere.json").write_text("{")
    aged(backups, make()["id"], "20300101T000000Z-deploy", [lying("database")])
    found = info(call, backups, keep=1, days=1)
    assert (found["expired"], found["held"]) == ([], [lost])
    assert found["elsewhere"] == {"objects": [], "ollama": [], "tags": []}
    (backups / lost / "elsewhere.json").write_text('{"objects": "b-2"}')
    found = info(call, backups, keep=1, days=1)
    assert found["expired"] == [lost] and found["elsewhere"]["objects"] == ["b-2"]
    # Nor does its note go when its directory does.
    (backups / lost / "elsewhere.json").write_text("{")
    call(restore_point, backups=str(backups), state="retired", ids=[lost])
    assert call(restore_point, backups=str(backups), state="abandon", id=lost)["kept"]
    assert os.listdir(backups / f".partial-{lost}") == ["elsewhere.json"]
    assert restore_points.elsewhere(str(backups / f".partial-{lost}")) == {"objects": "", "ollama": ""}


def test_hosts_of_one_play_get_ids_of_their_own(call, backups):
    options = {"backups": str(backups), "state": "begin", "kind": "deploy"}
    second = call(restore_point, **options, number=2)["id"]
    assert second.endswith("-deploy-2") and call(restore_point, True, **options, number=3)["id"].endswith("-deploy-3")
    assert restore_points.begin(str(backups), "deploy", restore_points.epoch(second), 2)[0] == f"{second[:-2]}-3"
    assert restore_points.begin(str(backups), "deploy", restore_points.epoch(second))[0] == second[:-2]


def test_what_could_not_be_removed_elsewhere_is_tried_again(call, backups, make):
    tag = "v4.0.20200101-000000"
    point_id = aged(backups, make()["id"], "20200101T000000Z-deploy", [lying("objects", snapshot="b")])
    restore_points.note(str(backups / point_id), "tag", tag)
    call(restore_point, backups=str(backups), state="retired", ids=[point_id])
    options = {"backups": str(backups), "state": "abandon", "id": point_id}
    assert call(restore_point, **options, left=["objects"])["kept"]
    left = backups / f".partial-{point_id}"
    assert os.listdir(left) == ["elsewhere.json"]
    for path in (left, left / "elsewhere.json"):
        os.utime(path, (1, 1))
    found = info(call, backups)
    # The tag of one that was finished stays, also when its manifest is gone.
    assert found["stale"] == [point_id] and found["elsewhere"] == {"objects": ["b"], "ollama": [], "tags": []}
    gone = call(restore_point, **options, left=["ollama"])
    assert gone["changed"] and not gone["kept"] and not left.exists()


def test_abandoning_a_finished_one_finds_nothing_elsewhere(call, backups, make):
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    restore_points.note(begun["partial"], "objects", "b")
    restore_points.note(begun["partial"], "tag", "v4.0.20250115-070000")
    found = info(call, backups, id=begun["id"])
    assert found["elsewhere"] == {"objects": ["b"], "ollama": [], "tags": ["v4.0.20250115-070000"]}
    assert info(call, backups)["elsewhere"]["objects"] == []
    made = call(restore_point, backups=str(backups), state="finish", id=begun["id"])
    found = info(call, backups, id=begun["id"])
    assert found["restore_points"][0]["path"] == made["path"]
    assert found["elsewhere"] == {"objects": [], "ollama": [], "tags": []}


def test_a_tag_that_a_manifest_names_stays(call, backups, make):
    make(backup_tag="v4.0.20250115-070000")
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    restore_points.note(begun["partial"], "tag", "v4.0.20250115-070000")
    assert info(call, backups, id=begun["id"])["elsewhere"]["tags"] == []


def test_where_nothing_can_be_read_there_may_be_anything(backups, make):
    place = backups / "20250115T070000Z-deploy"
    place.mkdir(parents=True)
    assert restore_points.elsewhere(str(place)) == {}
    (place / "elsewhere.json").write_text('{"tag": 1}')
    assert sorted(restore_points.elsewhere(str(place))) == ["objects", "ollama"]
    (place / "manifest.json").write_text("{")
    assert restore_points.elsewhere(str(place)) == {"objects": "", "ollama": ""}
    # What was noted before it was made is all there is.
    (place / "elsewhere.json").write_text('{"tag": "v4.0.20250115-070000", "objects": "b"}')
    assert restore_points.elsewhere(str(place)) == {"objects": "b"}
    (place / "elsewhere.json").unlink()
    assert restore_points.elsewhere(str(place)) == {"objects": "", "ollama": ""}
    # One of before there were marks.
    old = aged(backups, make()["id"], "20200101T000000Z-deploy", [lying("ollama", server="http://x")])
    assert restore_points.elsewhere(str(backups / old)) == {"ollama": old}


@pytest.mark.parametrize(("how", "part"), [("checksum", "redis"), ("checksum", "database"), ("restore", "redis")])
def test_one_that_is_found_damaged_is_never_listed(call, backups, how, part):
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    dest = os.path.join(begun["partial"], part)
    restore_points.write(os.path.join(dest, "dump.json"), "hello")
    options = {
        "backups": str(backups),
        "state": "finish",
        "id": begun["id"],
        "artifacts": [restore_points.artifact(part, dest, {}, 0.1)],
        "how": how,
    }
    good = (backups / begun["partial"] / part / "dump.json").read_text()
    (backups / begun["partial"] / part / "dump.json").write_text(good.replace("hello", "jello"))
    failed = call(restore_point, **options)
    assert f"{part}/dump.json was altered" in failed["msg"]
    assert info(call, backups)["restore_points"] == []
    (backups / begun["partial"] / part / "dump.json").write_text(good)
    made = call(restore_point, **options, seconds=3 if how == "restore" else 0)
    assert made["verified"]["how"] == how and (made["verified"]["seconds"] >= 3) == (how == "restore")
    assert info(call, backups)["restore_points"][0]["verified"] == made["verified"]


def test_what_a_part_that_failed_has_left_is_in_no_restore_point(call, backups):
    begun = call(restore_point, backups=str(backups), state="begin", kind="deploy")
    restore_points.write(os.path.join(begun["partial"], "redis", "dump.json"), "half of it")
    restore_points.write(os.path.join(begun["partial"], ".partial-redis", "dump.json"), "half of it")
    os.symlink("/etc", os.path.join(begun["partial"], "redis", "link"))
    restore_points.note(begun["partial"], "objects", "b")
    options = {"backups": str(backups), "id": begun["id"]}
    failed = call(restore_point, **options, state="finish")
    assert "3 files in it belong to no artifact, such as .partial-redis/dump.json" in failed["msg"]
    assert "is no part" in call(restore_point, **options, state="without", part="..")["msg"]
    assert call(restore_point, True, **options, state="without", part="redis")["changed"]
    assert call(restore_point, **options, state="without", part="redis")["changed"]
    assert not call(restore_point, **options, state="without", part="redis")["changed"]
    # What tells how far a dump is may be left where the connection was lost.
    restore_points.write(os.path.join(begun["partial"], "database.progress.seen"), "")
    made = call(restore_point, **options, state="finish")
    assert sorted(os.listdir(made["path"])) == ["database.progress.seen", "elsewhere.json", "manifest.json"]


def test_a_strange_field_is_told_and_the_others_are_listed(call, backups, make):
    made, other = make(), make()
    path = backups / made["id"] / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "verified": True}))
    lines = _backup.table(info(call, backups))
    (damaged,) = [line for line in lines if made["id"] + " " in line]
    assert "DAMAGED" in damaged and "its verification is no JSON object" in damaged
    assert any(line.startswith(other["id"]) and "DAMAGED" not in line for line in lines)


def test_what_no_reader_bears_is_told_and_the_others_are_listed(call, backups, make):
    deep, odd, other = make(), make(), make()
    (backups / deep["id"] / "manifest.json").write_text('{"meta":' * 100_000)
    (backups / deep["id"] / "elsewhere.json").write_text('{"meta":' * 100_000)
    path = backups / odd["id"] / "manifest.json"
    path.write_text(path.read_text().replace("redis/dump.json", "redis/\\ud800"))
    found = {item["id"]: item["problem"] for item in info(call, backups)["restore_points"]}
    assert "nested too deep" in found[deep["id"]] and "which no file can have" in found[odd["id"]]
    assert found[other["id"]] is None
    assert [item["problem"] is None for item in config_diff.points_in(str(backups))] == [True, False, False]
    assert restore_points.elsewhere(str(backups / deep["id"])) == {"objects": "", "ollama": ""}


def test_what_a_newer_version_or_another_user_made_is_never_removed(call, backups, make):
    newer, closed, bad = (
        aged(backups, make()["id"], f"2020010{day}T000000Z-deploy", [lying("database")]) for day in (1, 2, 3)
    )
    aged(backups, make()["id"], "20300101T000000Z-deploy", [lying("database")])
    path = backups / newer / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    (backups / closed / "manifest.json").unlink()
    (backups / closed / "manifest.json").mkdir()
    (backups / bad / "manifest.json").write_text("{")
    for name in (newer, closed, bad):
        (backups / name / "elsewhere.json").write_text('{"tag": "v4.0.20200101-000000"}')
    found = info(call, backups, keep=1, days=1)
    assert (found["expired"], found["held"]) == ([bad], [closed, newer])
    told = {item["id"]: item["unread"] for item in found["restore_points"]}
    assert (told[newer], told[closed], told[bad]) == ("newer", "unreadable", None)
    lines = {line.split()[0]: line for line in _backup.table(found)}
    assert "NOT READ" in lines[newer] and "version 2" in lines[newer] and "DAMAGED" not in lines[newer]
    assert "NOT READ" in lines[closed] and "DAMAGED" in lines[bad]
