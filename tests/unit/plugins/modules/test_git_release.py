from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError, Repository
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import git_release as module


@pytest.fixture
def clone(git):
    git.good = git.commit({"app.py": "good\n", "settings.json": "shipped\n", ".gitignore": "*.env\n"}, "v1")
    git.bad = git.commit({"app.py": "bad\n", "settings.json": None, "new.py": "new\n"}, "v2")
    return git


@pytest.fixture
def run(call, clone, tmp_path):
    state = State(str(tmp_path / "state"))
    state.acquire("r1", "kim", 300)

    def release(name="checked_out", undo=False, check=False, **options):
        journal = {"state_dir": state.path, "run_id": "r1", "act": "undo" if undo else "switch", "undo": undo}
        return call(module, check=check, path=str(clone.path), state=name, journal=journal, **options)

    release.records = lambda: state.read("r1")
    return release


def status(clone):
    return clone("status", "--porcelain")


def test_a_checkout_in_place_and_back_to_the_branch(run, clone):
    found = run(commit=clone.good, expect=clone.bad)
    assert found["changed"] and found["commit"] == clone("rev-parse", "HEAD") == clone.good
    assert (clone.path / "app.py").read_text() == "good\n" and status(clone) == ""
    assert "app.py" in found["diff"]["prepared"] and found["diff"]["before"] == clone.bad + "\n"
    assert not run(commit=clone.good, expect=clone.bad)["changed"]
    back = run(commit=clone.bad, branch="main", force=True, save_branch="kept", undo=True)
    assert back["changed"] and clone("symbolic-ref", "--short", "HEAD") == "main" and status(clone) == ""
    assert _journal.pending(run.records()) == []


def test_a_branch_that_moved_on_is_left_where_it_is(run, clone):
    run(commit=clone.good)
    run(commit=clone.bad, branch="gone")
    assert subprocess.run(["git", "-C", clone.path, "symbolic-ref", "-q", "HEAD"]).returncode == 1
    clone("checkout", "-q", "main")
    moved = clone.commit({"more.py": ""})
    run(commit=clone.bad, branch="main")
    assert clone("rev-parse", "main") == moved and clone("rev-parse", "HEAD") == clone.bad


def test_check_mode_says_and_does_nothing(run, clone):
    found = run(check=True, commit=clone.good)
    assert found["changed"] and "app.py" in found["diff"]["prepared"]
    assert clone("rev-parse", "HEAD") == clone.bad and run.records() == []
    assert run("preserved", check=True, branch="b")["changed"]
    assert "b" not in clone("branch", "--list", "b")
    run("staged", check=True, commit=clone.good, dest=str(clone.path) + "-staged")
    assert not os.path.exists(str(clone.path) + "-staged")


def test_a_change_since_the_check_is_refused_and_kept(run, clone):
    clone.write({"app.py": "hand-made\n"})
    found = run(commit=clone.good, expect=clone.bad)
    assert found["failed"] and "1 file(s) were changed since the check, such as app.py" in found["msg"]
    assert (clone.path / "app.py").read_text() == "hand-made\n" and clone("rev-parse", "HEAD") == clone.bad
    assert _journal.pending(run.records()) == []


def test_somebody_elses_checkout_is_refused(run, clone):
    found = run(commit=clone.good, expect="f" * 40)
    assert found["failed"] and f"HEAD is at {clone.bad[:12]}, not at ffffffffffff" in found["msg"]
    assert clone("rev-parse", "HEAD") == clone.bad


def test_uncommitted_changes_are_saved_and_come_back_after_the_undo(run, clone):
    clone.write({"app.py": "hand-made\n", "added.py": "added\n", "free.txt": "free\n"})
    clone("add", "added.py")
    preserved = run("preserved", branch="backup")
    assert preserved["saved"] == clone("rev-parse", "backup") and clone("show", "backup:app.py") == "hand-made"
    # Preserving touches nothing.
    assert (clone.path / "app.py").read_text() == "hand-made\n"
    found = run(commit=clone.good, force=True, save_branch="at-switch")
    assert not found.get("failed") and (clone.path / "app.py").read_text() == "good\n"
    assert clone("show", "at-switch:app.py") == "hand-made"
    back = run(commit=clone.bad, branch="main", force=True, save_branch="at-undo", restore_changes="backup", undo=True)
    assert not back.get("failed")
    assert (clone.path / "app.py").read_text() == "hand-made\n"
    assert (clone.path / "added.py").read_text() == "added\n" and (clone.path / "free.txt").read_text() == "free\n"
    assert set(status(clone).splitlines()) == {"A  added.py", " M app.py", "?? free.txt"}


def test_a_clean_tree_is_preserved_as_its_commit(run, clone):
    found = run("preserved", branch="backup")
    assert found["saved"] is None and clone("rev-parse", "backup") == clone.bad == found["commit"]


def test_what_somebody_changed_after_the_switch_is_kept_by_the_undo(run, clone):
    run(commit=clone.good)
    clone.write({"app.py": "in between\n"})
    found = run(commit=clone.bad, force=True, save_branch="at-undo", undo=True)
    assert found["saved"] == clone("rev-parse", "at-undo") and clone("show", "at-undo:app.py") == "in between"
    assert (clone.path / "app.py").read_text() == "bad\n"


@pytest.mark.parametrize("name", ["settings.json", "secret.env"])
def test_an_untracked_or_ignored_file_is_never_overwritten(run, clone, name):
    clone("checkout", "-q", "v1")
    with_file = clone.commit({"settings.json": "theirs\n"})
    clone.write({"secret.env": "theirs\n"})
    clone("add", "-f", "secret.env")
    with_file = clone.commit({})
    clone("checkout", "-q", "main")
    clone.write({name: "mine\n"})
    found = run(commit=with_file)
    assert found["failed"] and name in found["msg"] and "\n" not in found["msg"]
    assert (clone.path / name).read_text() == "mine\n" and clone("rev-parse", "HEAD") == clone.bad
    # The way back must come through: it moves the file aside.
    found = run(commit=with_file, force=True)
    assert not found.get("failed") and (clone.path / name).read_text() == "theirs\n"
    (aside,) = found["moved"]
    assert aside.startswith(name) and (clone.path / aside).read_text() == "mine\n"


@pytest.mark.parametrize("way", ["file for folder", "folder for file"])
def test_nothing_is_lost_where_a_file_and_a_folder_meet(run, clone, way):
    target = clone.commit({"data/x.txt": "theirs\n"} if way == "file for folder" else {"data": "theirs\n"})
    clone("checkout", "-q", "v2")
    clone.write({"data": "mine\n"} if way == "file for folder" else {"data/x.txt": "mine\n"})
    found = run(commit=target, force=True)
    assert not found.get("failed"), found
    (aside,) = found["moved"]
    kept = clone.path / aside if way == "file for folder" else clone.path / aside / "x.txt"
    assert kept.read_text() == "mine\n"


def test_a_checkout_cut_off_after_its_files_is_finished_without_leftovers(run, clone):
    # git writes the files first, then the index, then HEAD.
    clone("checkout", "-q", "v1")
    clone.write({"app.py": "bad\n", "new.py": "new\n", "settings.json": None})
    (clone.path / ".git/index.lock").write_text("")
    found = run(commit=clone.bad, force=True, save_branch="kept", undo=True)
    assert not found.get("failed") and found["moved"] == []
    assert clone("rev-parse", "HEAD") == clone.bad and status(clone) == ""


def test_a_lock_left_behind_stops_the_switch_and_is_moved_aside_by_the_undo(run, clone):
    (clone.path / ".git/index.lock").write_text("")
    found = run(commit=clone.good)
    assert found["failed"] and "index.lock" in found["msg"] and clone("rev-parse", "HEAD") == clone.bad
    assert [item["step"] for item in _journal.pending(run.records())] == ["checkout"]
    found = run(commit=clone.good, force=True, save_branch="x")
    assert not found.get("failed") and clone("rev-parse", "HEAD") == clone.good
    assert any(name.startswith("index.lock.left-") for name in os.listdir(clone.path / ".git"))


def test_a_tree_is_staged_without_touching_the_clone(run, clone, tmp_path):
    clone.write({"app.py": "hand-made\n"})
    clone("add", "app.py")
    dest = tmp_path / "staged" / "tree"
    found = run("staged", commit=clone.good, dest=str(dest))
    assert not found["changed"] and (dest / "app.py").read_text() == "good\n"
    assert not (dest / "new.py").exists() and os.stat(dest).st_mode & 0o077 == 0
    assert status(clone) == "M  app.py" and os.listdir(dest.parent) == ["tree"]


def test_a_refused_git_keeps_its_cause_in_one_line(clone):
    clone.write({"settings.json": "mine\n"})
    with pytest.raises(GitError, match=r"settings\.json") as caught:
        Repository(str(clone.path)).run("checkout", "v1")
    assert "\n" not in str(caught.value)


def test_a_git_that_gives_no_answer_is_ended_with_its_children(tmp_path):
    script = tmp_path / "git"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    script.chmod(0o755)
    with pytest.raises(GitError, match="git fetch gave no answer within 1 s"):
        Repository(str(tmp_path), str(script)).run("fetch", timeout=1)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10  # it was sent the signal; on a busy machine it dies a little later
    state = "R"
    while state not in ("Z", "gone") and time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stream:
                state = stream.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            state = "gone"
    assert state in ("Z", "gone")


def test_a_missing_git_is_named(tmp_path):
    with pytest.raises(GitError, match="no-git is not installed"):
        Repository(str(tmp_path), str(tmp_path / "no-git")).run("status")


def test_the_first_tag_on_a_commit_is_its_name(clone):
    repo = Repository(str(clone.path))
    clone("tag", "v3", "v2^{commit}")
    clone("tag", "-a", "v9", "-m", "x", "v2^{commit}", date=4000000000)
    assert repo.tag(clone.bad) == "v2" and repo.tag(clone.good) == "v1"
    assert repo.commit_of("refs/tags/v9") == clone.bad and repo.commit_of("--help") is None
