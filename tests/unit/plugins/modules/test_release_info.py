from __future__ import annotations

import shutil

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import release_info as module

GOOD, BAD, NEW = "v4.0.20250115-1430", "v4.0.20250115-1600", "v4.0.20250116-1000"


def revision(name, down=None):
    return f"revision = {name!r}\ndown_revision = {down!r}\nraise SystemExit('never run')\n"


@pytest.fixture
def clone(git):
    git.commit(
        {
            ".gitignore": "local.json\n",
            "backend/requirements.txt": "-r base.txt\n",
            "backend/base.txt": "fastapi\n",
            "backend/alembic.ini": "[alembic]\nscript_location = alembic\n",
            "backend/alembic/versions/a.py": revision("a"),
            "backend/alembic/versions/__init__.py": "",
            "backend/alembic/versions/archive/z.py": revision("z"),
            "frontend/package.json": "{}",
            "frontend/package-lock.json": "{}",
        },
        GOOD,
        1736951400,
    )
    git.commit({"frontend/page.js": "bad"}, BAD, 1736956800)
    files = {"backend/alembic/versions/b.py": revision("b", "a"), "backend/alembic/versions/c.py": revision("c", "a")}
    git.commit({**files, "backend/base.txt": "fastapi>1\n"}, NEW, 1737021600)
    git("tag", "not-a-release")
    git("checkout", "-q", BAD)
    return git


def test_both_releases_are_read_from_git_objects(call, clone):
    shutil.rmtree(clone.path / "backend/alembic")
    found = call(module, path=str(clone.path), target_tag=GOOD, fetch=False)
    assert found["problems"] == []
    current, target = found["current"], found["target"]
    assert (current["tag"], target["tag"]) == (BAD, GOOD)
    assert current["alembic_heads"] == target["alembic_heads"] == ["a"]
    assert current["requirements"] == target["requirements"]
    assert current["frontend_tree"] != target["frontend_tree"] and current["lock"] == target["lock"]
    assert target["date"] == 1736951400 and target["commit"] == clone("rev-parse", GOOD + "^{commit}")
    assert target["requirement_files"] == ["backend/base.txt", "backend/requirements.txt"]
    assert "backend/alembic/versions/a.py" in current["dirty"]


def test_two_heads_and_changed_requirements(call, clone):
    found = call(module, path=str(clone.path), target_tag=NEW, fetch=False)
    assert found["target"]["alembic_heads"] == ["b", "c"]
    assert found["target"]["requirements"] != found["current"]["requirements"]


@pytest.mark.parametrize(
    ("tag", "code", "message"),
    [
        ("--upload-pack=x", "bad_tag", "'--upload-pack=x' is not the name of a release tag"),
        ("; rm -rf /", "bad_tag", "'; rm -rf /' is not"),
        ("../../etc", "bad_tag", "'../../etc' is not"),
        (GOOD + "\n", "bad_tag", f"'{GOOD}\\n' is not"),
        ("main", "bad_tag", "main is a branch, not a release tag"),
        ("not-a-release", "bad_tag", "is not the name"),
        ("v4.0.20990101-0000", "unknown_tag", "There is no release v4.0.20990101-0000 here"),
        (None, "no_target", "No target_tag was given"),
        ("", "no_target", "No target_tag was given"),
    ],
)
def test_each_bad_target_is_one_line_with_the_last_good_tags(call, clone, tag, code, message):
    head = clone("rev-parse", "HEAD")
    found = call(module, path=str(clone.path), target_tag=tag, fetch=False)
    (problem,) = found["problems"]
    assert problem["code"] == code and message in problem["message"]
    assert problem["cure"] == f"Choose one: {GOOD}"
    assert "\n" not in problem["message"] + problem["cure"]
    assert found["target"] is None and clone("rev-parse", "HEAD") == head


def test_tags_are_fetched_from_the_remote_but_not_in_check_mode(call, clone, tmp_path):
    other = tmp_path / "other"
    clone("clone", "-q", str(clone.path), str(other))
    clone("-C", str(other), "checkout", "-q", BAD)
    late = "v4.0.20250115-1500"
    clone("tag", late, GOOD)
    unknown = call(module, check=True, path=str(other), target_tag=late)["problems"][0]
    assert unknown["code"] == "unknown_tag" and "a dry run fetches no tags" in unknown["message"]
    assert call(module, path=str(other), target_tag=late)["problems"] == []


def test_a_remote_without_an_answer_is_a_warning_when_the_tag_is_known(call, clone, monkeypatch):
    # Where controller code is loaded too, as in these tests, ansible-core shows a warning itself and returns none.
    warnings = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda self, text: warnings.append(text))
    clone("remote", "add", "origin", str(clone.path) + "-gone")
    found = call(module, path=str(clone.path), target_tag=GOOD)
    assert found["problems"] == [] and "could not be fetched from origin" in warnings[0]
    found = call(module, path=str(clone.path), target_tag="v4.0.20990101-0000")
    assert "could not be fetched" in found["problems"][0]["message"] and "\n" not in found["problems"][0]["message"]


def test_no_token_of_the_remote_is_shown(call, clone, monkeypatch, tmp_path):
    warnings = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda self, text: warnings.append(text))
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho \"fatal: no Password for 'https://hunter22@example.org'\" >&2\nexit 1\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    clone("remote", "add", "origin", "ssh://example.org/repo.git")
    call(module, path=str(clone.path), target_tag=GOOD)
    assert "'https://***@example.org'" in warnings[0] and "hunter22" not in warnings[0]


@pytest.mark.parametrize("ignored", [True, False])
def test_a_file_that_the_checkout_would_overwrite_is_named(call, clone, ignored):
    if ignored:
        clone("checkout", "-q", NEW)
        clone.path.joinpath("local.json").write_text("theirs")
        clone("add", "-f", "local.json")
        clone("commit", "-q", "-m", "x")
        clone("tag", "v4.0.20250117-1000")
        clone("checkout", "-q", BAD)
        clone.path.joinpath("local.json").write_text("mine")
        found = call(module, path=str(clone.path), target_tag="v4.0.20250117-1000", fetch=False)
        assert found["overwritten"] == ["local.json"]
    else:
        clone.path.joinpath("backend/alembic/versions/b.py").write_text("mine")
        found = call(module, path=str(clone.path), target_tag=NEW, fetch=False)
        assert found["overwritten"] == ["backend/alembic/versions/b.py"]


def test_a_release_that_an_earlier_run_left_is_not_offered(call, clone, tmp_path):
    state = State(str(tmp_path / "state"))
    state.acquire("r1", "kim", 300)
    run = {"from": {"tag": GOOD, "date": 2}, "to": {"tag": "v4.0.20250101-0000", "date": 1}, "level": 1}
    state.append("r1", "run", **run)
    state.append("r1", "end", outcome="rolled_back")
    found = call(module, path=str(clone.path), fetch=False, state_dir=state.path)
    assert found["bad_releases"] == [GOOD] and found["last_good"] == []
    assert found["problems"][0]["cure"] == "Choose one: there is no earlier release in this clone"


def test_what_is_left_behind_is_shown(call, clone):
    found = call(module, path=str(clone.path), target_tag=GOOD, fetch=False)
    assert "frontend/page.js" in found["diffstat"] and len(found["commits"]) == 1
    assert found["current"]["checked_out_at"] > 1.7e9 and found["current"]["branch"] is None


def test_migrations_that_cannot_be_read_are_a_problem_of_the_target(call, clone):
    clone("checkout", "-q", "main")
    broken = "v4.0.20250118-1000"
    clone.commit({"backend/alembic/versions/d.py": "revision = 'd"}, broken)
    clone("checkout", "-q", BAD)
    found = call(module, path=str(clone.path), target_tag=broken, fetch=False)
    assert found["target"] is None and found["problems"][0]["code"] == "bad_revisions"
    assert "d.py: not valid Python" in found["problems"][0]["message"]


def test_a_release_with_broken_migrations_can_be_left(call, clone):
    clone("checkout", "-q", "main")
    clone.commit({"backend/alembic/versions/d.py": "revision = 'd"}, "v4.0.20250118-1000")
    found = call(module, path=str(clone.path), target_tag=BAD, fetch=False)
    assert found["problems"] == [] and found["target"]["alembic_heads"] == ["a"]
    assert found["current"]["alembic_heads"] == []


def test_what_is_no_clone_says_which_setting_is_wrong(call, tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        found = call(module, path=str(path))
        assert found["failed"] and "Set rollback_app_root to the application's clone." in found["msg"]
