from __future__ import annotations

import base64
import errno
import json
import os
import stat
import struct

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import config_files, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import config_diff, config_restore, config_snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: What people write into such files, and what must survive.
ODD = (
    b"\xef\xbb\xbf# \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xec\xa3\xbc\xec\x84\x9d\r\n"
    b"export A='single'\r\nB=\"double # no comment\" # comment\n\nEMPTY=\n  SPACED = x  \nC=\xff\xfe\nLAST=no newline"
)


@pytest.fixture
def app(git, tmp_path):
    git.commit(
        {
            "backend/app/settings.py": "import os\nURL = os.environ['DATABASE_URL']\n",
            "backend/.env.example": "DATABASE_URL=x\nS3_KEY=x\nOLLAMA_URL=\n",
            ".gitignore": ".env\n",
        },
        tag="v4.0.20250115-1430",
    )
    (git.path / "frontend").mkdir()
    write(git.path / "backend/.env", b"DATABASE_URL=old\nS3_KEY=k\n", 0o600)
    write(git.path / ".env", ODD, 0o640)
    return App(git.path, tmp_path)


def write(path, body, mode=0o600):
    path.write_bytes(body)
    path.chmod(mode)


class App:
    def __init__(self, root, tmp_path):
        self.root = root
        self.state = tmp_path / "state"
        self.backups = self.state / "backups"

    def state_of(self, name):
        path = self.root / name
        if not os.path.lexists(path):
            return None
        status = path.stat()
        link = os.readlink(path) if path.is_symlink() else None
        return path.read_bytes(), oct(stat.S_IMODE(status.st_mode)), status.st_uid, link

    def all(self):
        return {name: self.state_of(name) for name in (".env", "backend/.env", "frontend/.env.local")}


@pytest.fixture
def keep(app, call):
    def run(kind="manual"):
        return call(config_snapshot, root=str(app.root), restore_point={"backups": str(app.backups), "kind": kind})

    return run


@pytest.fixture
def diff(app, call):
    def run(**options):
        return call(config_diff, root=str(app.root), backups=str(app.backups), **options)

    return run


@pytest.fixture
def restore(app, call, keep, diff):
    def run(point, check=False, **more):
        found = diff(restore_point=point["id"])
        assert found["refusals"] == [], found
        kept = keep("level2")
        options = {
            "root": str(app.root),
            "run_id": "run1",
            "displaced": str(app.state / "displaced"),
            "preserved": kept["path"],
            **more,
        }
        result = call(config_restore, check=check, source=found["source"], **options)
        return result, lambda: call(config_restore, state="absent", source=found["source"], **options)

    return run


def test_a_snapshot_is_private_whole_and_byte_for_byte(app, keep):
    made = keep()
    place = app.backups / made["id"]
    manifest = restore_points.read(str(place))
    artifact = manifest["artifacts"][0]
    assert manifest["release"]["tag"] == "v4.0.20250115-1430"
    assert (place / "environment/.env").read_bytes() == ODD
    assert [item["mode"] for item in artifact["files"]] == ["0640", "0600"]
    assert artifact["meta"]["absent"] == ["frontend/.env.local"]
    for path in place.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE(app.backups.stat().st_mode) == 0o700
    assert "artifact" not in made


def test_the_run_that_it_is_made_for_is_journaled_with_it(app, call):
    state, journal = journal_of(app)
    run = {"state_dir": journal["state_dir"], "run_id": "run1", "record": {"level": 2}}
    options = {"backups": str(app.backups), "kind": "level2", "run": run}
    call(config_snapshot, check=True, root=str(app.root), restore_point=options)
    assert state.read("run1") == []
    made = call(config_snapshot, root=str(app.root), restore_point=options)
    record = state.read("run1")[0]
    assert (record["event"], record["level"], record["restore_point"]) == ("run", 2, made["id"])


def test_an_artifact_for_a_restore_point_of_others(app, call, tmp_path):
    dest = tmp_path / ".partial-x" / "environment"
    dest.parent.mkdir()
    found = call(config_snapshot, root=str(app.root), dest=str(dest))["artifact"]
    assert found["name"] == "environment" and found["path"] == "environment" and found["seconds"] >= 0
    assert [item["path"] for item in found["files"]] == ["environment/.env", "environment/backend/.env"]


def test_a_snapshot_in_a_dry_run_writes_nothing(app, call):
    call(config_snapshot, check=True, root=str(app.root), restore_point={"backups": str(app.backups)})
    assert not app.backups.exists()


def test_a_snapshot_that_fails_leaves_nothing(app, call):
    (app.root / "frontend/.env.local").mkdir()
    said = call(config_snapshot, root=str(app.root), restore_point={"backups": str(app.backups)})
    assert said["failed"] and "frontend/.env.local" in said["msg"]
    assert os.listdir(app.backups) == []


@pytest.mark.parametrize("files", [["/etc/passwd"], ["../x"]])
def test_no_other_file_is_kept(app, call, files):
    assert "lies outside" in call(config_snapshot, root=str(app.root), files=files, dest="/x")["msg"]


def test_files_come_back_byte_for_byte_and_go_again(app, keep, restore):
    before = app.all()
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n", 0o644)
    write(app.root / ".env", b"A=1\n", 0o600)
    write(app.root / "frontend/.env.local", b"NEXT_PUBLIC_API_URL=x\n", 0o600)
    changed = app.all()
    result, undo = restore(point)
    assert result["changed"] and set(result["replaced"]) == set(changed)
    assert app.all() == before
    assert (app.state / "displaced/frontend/.env.local").read_bytes() == b"NEXT_PUBLIC_API_URL=x\n"
    assert undo()["changed"]
    assert app.all() == changed
    assert not undo()["changed"]
    assert not [name for name in os.listdir(app.root / "backend") if name.endswith(".tmp")]


def test_nothing_to_change_changes_nothing(app, keep, diff, restore):
    point = keep()
    found = diff(restore_point=point["id"])
    assert found["unchanged"] and found["services"] == []
    inode = (app.root / "backend/.env").stat().st_ino
    assert not restore(point)[0]["changed"]
    assert (app.root / "backend/.env").stat().st_ino == inode


def test_a_mode_alone_restarts_nobody(app, keep, diff, restore):
    point = keep()
    (app.root / "backend/.env").chmod(0o644)
    found = diff(restore_point=point["id"])
    assert not found["unchanged"] and found["services"] == []
    assert next(item for item in found["files"] if item["target"] == "backend/.env")["does"] == "mode 0644 to 0600"
    restore(point)
    assert app.state_of("backend/.env")[1] == "0o600"


def test_a_link_stays_and_its_target_is_replaced(app, keep, restore):
    elsewhere = app.state / "backend.env"
    app.state.mkdir()
    write(elsewhere, b"DATABASE_URL=old\n", 0o600)
    (app.root / "backend/.env").unlink()
    (app.root / "backend/.env").symlink_to(elsewhere)
    point = keep()
    write(elsewhere, b"DATABASE_URL=new\n", 0o600)
    _result, undo = restore(point)
    assert os.readlink(app.root / "backend/.env") == str(elsewhere)
    assert elsewhere.read_bytes() == b"DATABASE_URL=old\n"
    undo()
    assert os.readlink(app.root / "backend/.env") == str(elsewhere)
    assert elsewhere.read_bytes() == b"DATABASE_URL=new\n"


def test_a_link_that_an_editor_replaced_is_made_again(app, keep, restore):
    (app.root / "backend/.env").unlink()
    (app.root / "backend/.env").symlink_to("../.env")
    before = app.all()
    point = keep()
    # As sed -i does.
    (app.root / "backend/.env").unlink()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n", 0o600)
    edited = app.all()
    _result, undo = restore(point)
    assert app.all() == before
    undo()
    assert app.all() == edited


def test_a_link_is_not_made_again_over_something_else(app, keep, diff):
    elsewhere = app.state / "backend.env"
    app.state.mkdir()
    write(elsewhere, b"DATABASE_URL=old\n")
    (app.root / "backend/.env").unlink()
    (app.root / "backend/.env").symlink_to(elsewhere)
    point = keep()
    (app.root / "backend/.env").unlink()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    write(elsewhere, b"OTHER=1\n")
    assert diff(restore_point=point["id"])["refusals"][0]["code"] == "link"


def test_a_link_that_leads_to_nothing_gets_its_file_back(app, keep, restore):
    elsewhere = app.state / "backend.env"
    app.state.mkdir()
    write(elsewhere, b"DATABASE_URL=old\n")
    (app.root / "backend/.env").unlink()
    (app.root / "backend/.env").symlink_to(elsewhere)
    point = keep()
    elsewhere.unlink()
    _result, undo = restore(point)
    assert elsewhere.read_bytes() == b"DATABASE_URL=old\n"
    undo()
    assert (app.root / "backend/.env").is_symlink() and not elsewhere.exists()


def link_to_nothing(app, target):
    (app.root / "backend/.env").unlink(missing_ok=True)
    (app.root / "backend/.env").symlink_to(target)


@pytest.mark.parametrize("folder", ["state", "gone"])
def test_a_link_that_led_to_nothing_is_put_back(app, keep, diff, restore, folder):
    nowhere = app.state / folder / "backend.env"
    link_to_nothing(app, nowhere)
    point = keep()
    (app.root / "backend/.env").unlink()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    edited = app.all()
    _result, undo = restore(point)
    assert os.readlink(app.root / "backend/.env") == str(nowhere)
    assert (app.state / "displaced/backend/.env").read_bytes() == b"DATABASE_URL=new\n"
    assert diff(restore_point=point["id"])["unchanged"]
    undo()
    assert app.all() == edited


def test_a_link_that_led_to_nothing_comes_back_in_place_of_nothing_and_goes_again(app, keep, diff, restore):
    link_to_nothing(app, "../nowhere.env")
    point = keep()
    (app.root / "backend/.env").unlink()
    _result, undo = restore(point)
    assert os.readlink(app.root / "backend/.env") == "../nowhere.env"
    assert diff(restore_point=point["id"])["unchanged"]
    assert diff(restore_point=point["id"])["services"] == []
    undo()
    assert not os.path.lexists(app.root / "backend/.env")


def test_what_lies_behind_a_link_that_led_to_nothing_is_left_alone(app, call, keep, diff):
    other = app.root / "other.env"
    link_to_nothing(app, "../other.env")
    point = keep()
    (app.root / "backend/.env").unlink()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    write(other, b"OTHER=1\n")
    found = diff(restore_point=point["id"])
    assert found["refusals"][0]["code"] == "link" and "led to nothing" in found["refusals"][0]["message"]
    # An undo goes on.
    options = {"run_id": "r", "displaced": str(app.state / "displaced"), "preserved": str(app.backups / point["id"])}
    assert call(config_restore, root=str(app.root), state="absent", **options)["changed"]
    assert other.read_bytes() == b"OTHER=1\n"
    assert os.readlink(app.root / "backend/.env") == "../other.env"


def test_what_a_link_leads_to_that_did_not_exist_is_moved_away(app, keep, restore):
    link_to_nothing(app, "../other.env")
    point = keep()
    write(app.root / "other.env", b"DATABASE_URL=new\n")
    edited = app.all()
    _result, undo = restore(point)
    assert os.readlink(app.root / "backend/.env") == "../other.env" and not (app.root / "other.env").exists()
    undo()
    assert app.all() == edited


def damage(place, how):
    path, manifest = place / "environment/backend/.env", place / "manifest.json"
    data = json.loads(manifest.read_text())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    elif how == "altered":
        path.write_bytes(path.read_bytes().replace(b"old", b"odd"))
    elif how == "linked":
        (place / "copy").write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(place / "copy")
    elif how == "no manifest":
        manifest.unlink()
    elif how == "no JSON":
        manifest.write_text("{")
    elif how == "newer":
        manifest.write_text(json.dumps({**data, "version": 2}))
    elif how == "outside":
        data["artifacts"][0]["files"][1]["path"] = "../../../etc/passwd"
        manifest.write_text(json.dumps(data))
    elif how == "target outside":
        data["artifacts"][0]["files"][1]["target"] = "../outside"
        manifest.write_text(json.dumps(data))
    elif how == "other target":
        data["artifacts"][0]["files"][1]["target"] = "backend/app/settings.py"
        manifest.write_text(json.dumps(data))
    elif how == "other artifact":
        item = {"path": "redis/dump.rdb", "size": 3, "sha256": "0" * 64}
        data["artifacts"].append({**data["artifacts"][0], "name": "redis", "path": "redis", "files": [item]})
        manifest.write_text(json.dumps(data))
    elif how == "other id":
        manifest.write_text(json.dumps({**data, "id": "20200101T000000Z-deploy"}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "environment/backend/.env is missing"),
        ("truncated", "environment/backend/.env was cut off: 23 bytes in place of 26"),
        ("altered", "environment/backend/.env was altered"),
        ("linked", "environment/backend/.env is reached through a link"),
        ("no manifest", "it has no manifest.json"),
        ("no JSON", "its manifest is no JSON"),
        ("newer", "its manifest has version 2, and this collection reads up to version 1"),
        ("outside", "names the path '../../../etc/passwd', which lies outside of its folder"),
        ("target outside", "'../outside' lies outside of the application"),
        ("other target", "'backend/app/settings.py' is none of the environment files"),
        ("other artifact", "redis/dump.rdb is missing"),
        ("other id", "its manifest is that of '20200101T000000Z-deploy'"),
    ],
)
def test_a_damaged_restore_point_is_refused_and_named(app, call, keep, diff, how, says):
    point, good = keep(), keep("deploy")
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    before = app.all()
    damage(app.backups / point["id"], how)
    for wanted in ({"restore_point": point["id"]}, {"timestamp": "20990101_000000"}):
        if "timestamp" in wanted:
            os.rename(app.backups / good["id"], app.backups / "20200101T000000Z-deploy")
        found = diff(**wanted)
        assert found["source"] is None
        assert says in found["refusals"][0]["message"] and point["id"] in found["refusals"][0]["message"]
    said = call(
        config_restore,
        root=str(app.root),
        run_id="r",
        displaced="/x",
        preserved="/x",
        source={"restore_point": str(app.backups / point["id"])},
    )
    assert said["failed"] and says in said["msg"]
    assert app.all() == before


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "newer"])
def test_a_damaged_restore_point_is_not_offered(app, keep, diff, how):
    bad, good = keep(), keep("deploy")
    damage(app.backups / bad["id"], how)
    offered = diff()["refusals"][0]
    assert good["id"] in str(offered) and bad["id"] not in str(offered)


def test_the_newest_is_named_and_what_was_passed_over(app, keep, diff):
    good, bad = keep("deploy"), keep("deploy")
    damage(app.backups / bad["id"], "altered")
    keep("level2")
    found = diff(restore_point="newest")
    assert found["source"]["name"] == f"{good['id']}, the newest"
    assert found["source"]["restore_point"] == str(app.backups / good["id"])
    (said,) = found["warnings_found"]
    assert said.startswith(f"a newer one was passed over: Restore point {bad['id']} is damaged")
    damage(app.backups / good["id"], "missing")
    refused = diff(restore_point="newest")["refusals"][0]
    assert "No backup has made a whole restore point" in refused["message"]


def test_unfinished_restore_points_are_not_there(app, keep, diff):
    point = keep()
    os.rename(app.backups / point["id"], app.backups / f".partial-{point['id']}")
    assert "There is no restore point" in diff(restore_point=point["id"])["refusals"][0]["message"]


def test_copies_by_hand_are_used_and_attributes_stay(app, diff, call, keep):
    write(app.root / "backend/.env.backup.20250115_140000", b"DATABASE_URL=hand\nS3_KEY=k\n", 0o644)
    write(app.root / ".env.backup.20250115_140001", b"A=1\n", 0o644)
    write(app.root / "backend/.env.backup.old", b"x", 0o644)
    found = diff(timestamp="20250115_140000")
    assert found["source"]["name"] == "20250115_140000, kept by hand"
    assert {item["target"]: item["action"] for item in found["files"]} == {".env": "replace", "backend/.env": "replace"}
    call(
        config_restore,
        root=str(app.root),
        source=found["source"],
        preserved=keep("level2")["path"],
        run_id="r",
        displaced=str(app.state / "d"),
    )
    assert app.state_of("backend/.env")[:2] == (b"DATABASE_URL=hand\nS3_KEY=k\n", "0o600")
    assert app.state_of(".env")[:2] == (b"A=1\n", "0o640")


def test_every_copy_by_hand_that_is_listed_can_be_had(app, diff):
    for name in ("backend/.env.backup.20250115-140000", "backend/.env.backup.20250114_1400"):
        write(app.root / name, b"DATABASE_URL=hand\nS3_KEY=k\n")
    write(app.root / "backend/.env.backup.20250113_14000", b"x")
    listed = restore_points.hand_made(str(app.root))
    assert [item["timestamp"] for item in listed] == ["20250115-140000", "20250114_1400"]
    for item in listed:
        found = diff(timestamp=item["timestamp"])
        assert found["source"]["hand_made"] == {"backend/.env": item["path"]}
        assert found["refusals"] == []


def test_a_tag_is_that_of_a_backup_or_any_on_its_commit(app, keep, diff, git):
    first, second = keep("deploy"), keep("deploy")
    path = app.backups / first["id"] / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "backup_tag": "v4.0.20250115-150000"}))
    git("tag", "v4.0.20250115-1500")
    assert diff(tag="v4.0.20250115-150000")["source"]["name"] == first["id"]
    assert diff(tag="v4.0.20250115-1500")["source"]["name"] == second["id"]
    assert diff(tag="v4.0.20250115-1501")["refusals"][0]["code"] == "unknown"


def test_a_damaged_restore_point_without_the_files_is_not_in_the_way(app, call, keep, diff):
    point = keep()
    os.rename(app.backups / point["id"], app.backups / "20200101T000000Z-deploy")
    path = app.backups / "20200101T000000Z-deploy/manifest.json"
    path.write_text(path.read_text().replace(point["id"], "20200101T000000Z-deploy"))
    other = keep("deploy")
    path = app.backups / other["id"] / "manifest.json"
    item = {"path": "redis/dump.rdb", "size": 3, "sha256": "0" * 64}
    redis = {"name": "redis", "type": "redis", "path": "redis", "size": 3, "seconds": 1, "files": [item], "meta": {}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "artifacts": [redis]}))
    assert diff(timestamp="20990101_000000")["source"]["name"] == "20200101T000000Z-deploy"
    assert diff(tag="v4.0.20250115-1430")["source"]["name"] == "20200101T000000Z-deploy"


def test_a_key_that_the_code_needs_must_stay(app, keep, diff):
    write(app.root / "backend/.env", b"OTHER=1\n")
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\nOLLAMA_URL=x\n")
    assert diff(restore_point=point["id"])["missing"] == [
        {"key": "DATABASE_URL", "service": "backend", "how": "read without a default at backend/app/settings.py:2"},
        {"key": "S3_KEY", "service": "backend", "how": "named in backend/.env.example"},
    ]


def test_what_runs_without_a_key_goes_on_without_it(app, keep, diff):
    for name, text in {
        "backend/scripts/seed.py": "import os\nTOKEN = os.environ['SEED_TOKEN']\n",
        "frontend/seed.py": "import os\nTOKEN = os.environ['OTHER_TOKEN']\n",
    }.items():
        (app.root / name).parent.mkdir(exist_ok=True)
        (app.root / name).write_text(text)
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    found = diff(restore_point=point["id"])
    assert (found["missing"], found["refusals"]) == ([], [])
    assert found["unmet"] == [
        {"key": "SEED_TOKEN", "service": "backend", "how": "read without a default at backend/scripts/seed.py:2"}
    ]
    assert found["keys"] == {"backend": ["DATABASE_URL", "SEED_TOKEN"]}
    # What is there, and would go away, may be needed.
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\nSEED_TOKEN=x\n")
    found = diff(restore_point=point["id"])
    assert ([item["key"] for item in found["missing"]], found["unmet"]) == (["SEED_TOKEN"], [])


def test_a_key_may_come_from_another_file_of_the_same_service(app, keep, diff):
    write(app.root / "backend/.env", b"OTHER=1\n")
    write(app.root / ".env", b"DATABASE_URL=x\nS3_KEY=y\n")
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    assert diff(restore_point=point["id"])["missing"] == []


def test_a_key_that_the_frontend_needs_must_stay(app, keep, diff):
    for name, text in {
        "lib/api.ts": "// process.env.COMMENT\nexport const url = process.env.API_URL\n",
        "lib/level.ts": "export const level = process.env.LEVEL ?? 'one'\n",
        "lib/api.test.ts": "process.env.IN_A_TEST\n",
        ".next/server/x.js": "process.env.BUILT\n",
        "out/x.js": "process.env.BUILT\n",
        "node_modules/x/x.js": "process.env.PACKAGE\n",
        ".env.example": "NAMED=x\nMAY_BE_EMPTY=\n",
        ".env.production": "ELSEWHERE=x\n",
        "lib/more.ts": "use(process.env.ELSEWHERE)\n",
    }.items():
        path = app.root / "frontend" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    local = app.root / "frontend/.env.local"
    write(local, b"OTHER=1\n")
    point = keep()
    every = ("API_URL", "LEVEL", "IN_A_TEST", "BUILT", "PACKAGE", "COMMENT", "NAMED", "MAY_BE_EMPTY", "ELSEWHERE")
    write(local, "".join(f"{key}=x\n" for key in every).encode())
    found = diff(restore_point=point["id"])
    assert found["missing"] == [
        {"key": "API_URL", "service": "frontend", "how": "read without a default at frontend/lib/api.ts:2"},
        {"key": "NAMED", "service": "frontend", "how": "named in frontend/.env.example"},
    ]
    assert found["lines"][-1] == (
        "variables that are needed: 1 read without a default by the Python code in backend; 2 named in "
        "backend/.env.example; 2 read without a default by the JavaScript code in frontend; 1 named in "
        "frontend/.env.example"
    )


def test_a_public_variable_of_the_frontend_means_a_build(app, keep, diff):
    write(app.root / "frontend/.env.local", b"NEXT_PUBLIC_API_URL=a\nSECRET=1\n")
    point = keep()
    write(app.root / "frontend/.env.local", b"NEXT_PUBLIC_API_URL=a\nSECRET=2\n")
    found = diff(restore_point=point["id"])
    assert (found["services"], found["build_keys"]) == (["frontend"], [])
    write(app.root / "frontend/.env.local", b"NEXT_PUBLIC_API_URL=b\nSECRET=1\n")
    found = diff(restore_point=point["id"])
    assert (found["services"], found["build_keys"]) == (["frontend"], ["NEXT_PUBLIC_API_URL"])


@pytest.mark.parametrize("place", [".env.local", ".env.production"])
def test_a_public_variable_that_refers_to_another_means_a_build(app, keep, diff, place):
    def local(host):
        public = b"NEXT_PUBLIC_API_URL=$API_HOST/v1\n"
        write(app.root / "frontend/.env.production", public if place == ".env.production" else b"OTHER=1\n")
        write(
            app.root / "frontend/.env.local", b"API_HOST=%s\nSECRET=$X\n" % host + (public if place[5] == "l" else b"")
        )

    local(b"http://old")
    point = keep()
    local(b"http://new")
    found = diff(restore_point=point["id"])
    assert (found["keys"], found["build_keys"]) == ({"frontend": ["API_HOST"]}, ["NEXT_PUBLIC_API_URL"])


def test_no_value_is_told(app, keep, diff, restore):
    write(app.root / "backend/.env", b"DATABASE_URL=canary-one\nS3_KEY=k\n# canary-two\n")
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=canary-three\nS3_KEY=k\n# canary-four\n")
    said = json.dumps([diff(restore_point=point["id"]), restore(point)[0]])
    assert "canary" not in said
    assert "DATABASE_URL" in said


def test_a_file_edited_after_it_was_kept_is_left_alone(app, call, keep, diff):
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    kept = keep("level2")
    write(app.root / "backend/.env", b"DATABASE_URL=newer\nS3_KEY=k\n")
    said = call(
        config_restore,
        root=str(app.root),
        source=diff(restore_point=point["id"])["source"],
        preserved=kept["path"],
        run_id="r",
        displaced="/x",
    )
    assert "backend/.env was changed after this run had kept it" in said["msg"]
    assert app.state_of("backend/.env")[0] == b"DATABASE_URL=newer\nS3_KEY=k\n"


def test_a_dry_run_shows_masked_differences_and_writes_nothing(app, call, keep, diff):
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=newer\nS3_KEY=k\n")
    before = app.all()
    said = call(
        config_restore,
        check=True,
        root=str(app.root),
        source=diff(restore_point=point["id"])["source"],
        run_id="r",
        displaced="/x",
    )
    assert said["changed"] and app.all() == before
    assert said["diff"] == [
        {
            "before_header": "backend/.env",
            "after_header": "backend/.env",
            "before": "DATABASE_URL=<5 characters>\n",
            "after": "DATABASE_URL=<3 characters>\n",
        }
    ]


def journal_of(app):
    state = State(str(app.state))
    state.acquire("run1", "test", 300)
    return state, {"state_dir": str(app.state), "run_id": "run1", "act": "switch"}


def test_cut_off_between_two_renames_it_is_taken_back(app, keep, restore, monkeypatch):
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    write(app.root / ".env", b"A=1\n")
    edited = app.all()
    state, journal = journal_of(app)
    real, calls = os.rename, []

    def rename(source, dest):
        if str(source).endswith(".tmp"):
            calls.append(dest)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
        real(source, dest)

    with monkeypatch.context() as patch:
        patch.setattr(config_files.os, "rename", rename)
        result, undo = restore(point, journal=journal)
    assert result["failed"] and app.all() != edited
    assert state.read("run1")[0]["detail"]["targets"] == [".env", "backend/.env"]
    assert undo()["changed"]
    assert app.all() == edited
    assert not list(app.root.rglob("*.tmp"))


@pytest.mark.parametrize("linked_is", ["source", "preserved"])
def test_no_secret_stays_beside_the_target_of_a_link_that_was_to_be_made_again(app, call, keep, linked_is):
    elsewhere = app.state / "backend.env"
    app.state.mkdir()
    write(elsewhere, b"DATABASE_URL=old\n")
    link_to_nothing(app, elsewhere)
    linked = keep()
    (app.root / "backend/.env").unlink()
    elsewhere.unlink()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    plain = keep("level2")
    staged = app.state / ".backend.env.run1.tmp"
    write(staged, b"DATABASE_URL=old\n")
    source, preserved = (linked, plain) if linked_is == "source" else (plain, linked)
    result = call(
        config_restore,
        root=str(app.root),
        state="absent",
        run_id="run1",
        displaced=str(app.state / "displaced"),
        source={"restore_point": source["path"]},
        preserved=preserved["path"],
        detail={"targets": ["backend/.env"]},
    )
    assert not result.get("failed") and not staged.exists()


def edit(app, text=b"DATABASE_URL=by hand\n"):
    write(app.root / "backend/.env", text, 0o644)
    return app.root / "backend/.env"


@pytest.fixture
def switched(app, call, keep, restore):
    """A run that was killed after the switch, and what resume.yml then does. Returns the point, and the undo."""
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\n")
    state, journal = journal_of(app)
    restore(point, journal=journal)
    detail = state.read("run1")[0]["detail"]

    def undo(**more):
        return call(
            config_restore,
            root=str(app.root),
            state="absent",
            run_id="run1",
            displaced=str(app.state / "displaced"),
            preserved=detail["preserved"],
            journal={**journal, "undo": True},
            **{"source": detail["source"], "detail": {"targets": detail["targets"]}, **more},
        )

    return point, undo


def test_an_edit_by_hand_is_kept_when_the_files_are_taken_back(app, switched, monkeypatch):
    _point, undo = switched
    said = []
    monkeypatch.setattr(config_restore.AnsibleModule, "warn", lambda _module, text: said.append(text))
    edit(app)
    result = undo()
    kept = app.state / "displaced/backend/.env"
    assert app.state_of("backend/.env")[0] == b"DATABASE_URL=new\n"
    assert kept.read_bytes() == b"DATABASE_URL=by hand\n" and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert result["aside"] == [{"target": "backend/.env", "path": str(kept)}]
    assert f"what it held is kept as {kept}" in said[0] and "by hand" not in json.dumps([said, result])
    # Cut off, and edited again: neither takes the other's place.
    edit(app, b"DATABASE_URL=again\n")
    assert undo()["aside"][0]["path"] == f"{kept}.1"
    assert kept.read_bytes() == b"DATABASE_URL=by hand\n"


def test_what_the_run_itself_put_there_is_not_kept_again(app, switched):
    _point, undo = switched
    assert undo()["aside"] == [] and not (app.state / "displaced").exists()


@pytest.mark.parametrize("source", ["lost", "not journaled"])
def test_what_may_be_an_edit_is_kept_where_the_source_is_not_known(app, switched, source):
    point, undo = switched
    if source == "lost":
        os.unlink(app.backups / point["id"] / "manifest.json")
    more = {"source": None} if source == "not journaled" else {}
    assert [item["target"] for item in undo(**more)["aside"]] == ["backend/.env"]


def test_a_dry_run_of_an_undo_keeps_nothing(app, call, switched):
    point, _undo = switched
    edit(app)
    options = {"root": str(app.root), "run_id": "r", "displaced": str(app.state / "d"), "preserved": point["path"]}
    assert call(config_restore, check=True, state="absent", **options)["aside"] == []
    assert not (app.state / "d").exists()


def test_the_selinux_context_is_kept_and_put_back(app, keep, restore, monkeypatch):
    contexts, given_ = {}, []
    monkeypatch.setattr(config_files, "_context", lambda path: contexts.get(os.path.basename(path), "usr_t"))
    monkeypatch.setattr(config_files.os, "setxattr", lambda *arguments: given_.append(arguments[1:]), raising=False)
    contexts[".env"] = "etc_t"
    point = keep()
    assert restore_points.read(str(app.backups / point["id"]))["artifacts"][0]["files"][0]["selinux"] == "etc_t"
    write(app.root / ".env", b"A=1\n")
    restore(point)
    assert given_ == [("security.selinux", b"etc_t\0")]


#: POSIX ACL as Linux keeps it, of mode 0640: the group has no right, user 54321 may read.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 54321), (4, 0, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
)


@pytest.fixture
def acl(app):
    """Give an environment file the ACL, or look at it; skips where the file system has none."""
    if not hasattr(os, "setxattr"):
        pytest.skip("Linux only")

    def of(name, value=None, kind="access"):
        try:
            if value is not None:
                os.setxattr(app.root / name, f"system.posix_acl_{kind}", value)
            return os.getxattr(app.root / name, f"system.posix_acl_{kind}")
        except OSError as exc:
            if exc.errno == errno.ENOTSUP:
                pytest.skip("no ACLs here")
            assert exc.errno == errno.ENODATA
            return b""

    return of


def test_an_acl_is_kept_put_back_and_given_to_what_replaces_the_file(app, acl, keep, restore):
    acl("backend/.env", ACL)
    point = keep()
    item = restore_points.read(str(app.backups / point["id"]))["artifacts"][0]["files"][1]
    assert (item["mode"], base64.b64decode(item["acl"])) == ("0640", ACL)
    os.unlink(app.root / "backend/.env")
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n", 0o600)
    _result, undo = restore(point)
    assert acl("backend/.env") == ACL and app.state_of("backend/.env")[1] == "0o640"
    undo()
    assert acl("backend/.env") == b"" and app.state_of("backend/.env")[1] == "0o600"


def test_an_acl_is_compared_and_is_back_after_the_undo(app, acl, keep, diff, restore):
    point = keep()
    acl("backend/.env", ACL)
    os.chmod(app.root / "backend/.env", 0o600)
    found = diff(restore_point=point["id"])
    assert [item["does"] for item in found["files"]][1] == "no ACL (rights of further users) any more"
    _result, undo = restore(point)
    assert acl("backend/.env") == b""
    undo()
    assert acl("backend/.env")[4:].count(struct.pack("<HHI", 2, 4, 54321)) == 1


def test_the_acl_that_a_directory_gives_is_not_given_to_what_had_none(app, acl, keep, restore):
    acl("backend", ACL, "default")
    os.chmod(app.root / "backend/.env", 0o640)
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n", 0o600)
    restore(point)
    assert acl("backend/.env") == b"" and app.state_of("backend/.env")[1] == "0o640"


def test_where_the_acl_of_then_is_not_known_the_file_keeps_its_own(app, acl, keep, diff, restore):
    point = keep()
    path = app.backups / point["id"] / "manifest.json"
    manifest = json.loads(path.read_text())
    for item in manifest["artifacts"][0]["files"]:
        del item["acl"]
        item["mode"] = "0640"
    path.write_text(json.dumps(manifest))
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    acl("backend/.env", ACL)
    restore(point)
    assert acl("backend/.env") == ACL and app.state_of("backend/.env")[0] == b"DATABASE_URL=old\nS3_KEY=k\n"
    assert diff(restore_point=point["id"])["unchanged"]


@pytest.mark.parametrize("code", [errno.ENOTSUP, None])
def test_without_acls_nothing_is_other(app, keep, diff, restore, monkeypatch, code):
    def refuse(path, name, *more):
        raise OSError(code, os.strerror(code))

    for name in ("getxattr", "setxattr", "removexattr"):
        if code:
            monkeypatch.setattr(config_files.os, name, refuse, raising=False)
        else:
            monkeypatch.delattr(config_files.os, name, raising=False)
    point = keep()
    assert restore_points.read(str(app.backups / point["id"]))["artifacts"][0]["files"][0]["acl"] is None
    write(app.root / ".env", b"A=1\n")
    restore(point)
    assert diff(restore_point=point["id"])["unchanged"]
    # What had one somewhere else must not be opened to its group by the mode alone.
    wanted = config_files.look(str(app.root), ".env")._replace(acl=ACL)
    with pytest.raises(config_files.ConfigError, match="can't get back its owner, mode, ACL"):
        config_files.put(str(app.root), [wanted], "run", str(app.state / "removed"))
    assert not list(app.root.rglob("*.tmp"))


def test_a_full_disk_changes_nothing(app, keep, restore, monkeypatch):
    point = keep()
    write(app.root / "backend/.env", b"DATABASE_URL=new\nS3_KEY=k\n")
    write(app.root / ".env", b"A=1\n")
    edited = app.all()
    real = config_files.write_synced

    def full(path, body, mode=0o600):
        real(path, body, mode)
        if path.startswith(str(app.root / "backend")):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(config_files, "write_synced", full)
    result, _undo = restore(point)
    assert result["failed"] and "No space left" in result["msg"]
    assert app.all() == edited
    assert not list(app.root.rglob("*.tmp"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), mode=st.sampled_from([0o600, 0o640, 0o644, 0o400]))
def test_any_bytes_survive(tmp_path_factory, body, mode):
    root, place = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("point") / "environment"
    write(root / ".env", body, mode)
    artifact = config_files.snapshot(str(root), [".env"], str(place))
    item = artifact["files"][0]
    wanted = config_files._keep(str(place.parent), item)
    (root / ".env").unlink()
    config_files.put(str(root), [wanted], "run", str(root / "removed"))
    assert (root / ".env").read_bytes() == body
    assert stat.S_IMODE((root / ".env").stat().st_mode) == mode
