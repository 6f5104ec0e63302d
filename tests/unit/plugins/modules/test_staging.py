"""python_env, frontend_build and artifact_swap: what is built, cached, staged and put in place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal, artifacts
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import artifact_swap, frontend_build, python_env


@pytest.fixture(scope="module")
def made_venv(tmp_path_factory):
    """A real environment with pip, made once."""
    path = tmp_path_factory.mktemp("made") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    return path


@pytest.fixture
def env(call, tmp_path, made_venv):
    """Stage environments of an application whose own one is a copy of a real one."""
    live = tmp_path / "app/backend/venv"
    live.parent.mkdir(parents=True)
    artifacts.link_tree(str(made_venv), str(live))
    artifacts.rewrite_prefix(str(live / "bin"), str(made_venv), str(live))
    tree = tmp_path / "tree"
    (tree / "backend").mkdir(parents=True)
    (tree / "backend/requirements.txt").write_text("")

    def stage(target="new", check=False, **options):
        given = {
            "candidates": [str(live), str(live) + "-other"],
            "current": "old",
            "target": target,
            "tree": str(tree),
            "cache": str(tmp_path / "cache"),
            "dest": str(tmp_path / "staged/venv"),
            "log": str(tmp_path / "pip.log"),
            **options,
        }
        return call(python_env, check=check, **given)

    stage.live, stage.tree, stage.dest, stage.cache = live, tree, tmp_path / "staged/venv", tmp_path / "cache/venv"
    return stage


def pip_place(prefix):
    command = [str(prefix / "bin/pip"), "--disable-pip-version-check", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_python_that_the_user_names_is_used_or_refused(env):
    found = env(python="/nowhere/python3", check=True)
    assert found["failed"] and "rollback_python is set to /nowhere/python3, which is no working Python" in found["msg"]


def test_the_same_requirements_stage_nothing(env):
    found = env(target="old")
    assert found["action"] == "unchanged" and found["live"] == str(env.live)
    assert not env.dest.exists() and not env.cache.exists()
    assert env(target=None)["action"] == "unchanged"


def test_check_mode_says_build_and_builds_nothing(env):
    assert env(check=True)["action"] == "build"
    assert not env.dest.exists() and not env.cache.exists()


def test_a_new_environment_is_built_once_and_works_after_the_rename(env, call, tmp_path):
    found = env()
    assert found["action"] == "build" and not found["changed"], found
    assert pip_place(env.live).count(str(env.live))
    # What serves is kept under its own key, and a second staging builds nothing.
    kept = sorted(os.listdir(env.cache))
    assert len(kept) == 2 and found["key"] in kept
    shutil.rmtree(env.dest)
    assert env(check=True)["action"] == env()["action"] == "cached"
    paths = {"staged": str(env.dest), "live": str(env.live), "displaced": str(tmp_path / "displaced/venv")}
    swapped = call(artifact_swap, run_id="none", artifacts=[paths])
    assert swapped["changed"] and swapped["moved"] == [str(env.live)]
    assert str(env.live) in pip_place(env.live)
    probe = "import sys; print(sys.prefix)"
    done = subprocess.run([str(env.live / "bin/python"), "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(env.live)
    # Text that names the place is this copy's own; the rest costs no space.
    text = (env.cache / found["key"] / "content/bin/pip").read_text()
    assert str(env.live) not in text.splitlines()[0]
    package = next((env.live / "lib").glob("python*/site-packages/pip/__init__.py"))
    assert package.stat().st_nlink > 1


def test_broken_requirements_say_pips_own_reason_and_leave_nothing(env, made_venv, monkeypatch):
    def run_logged(command, *more):
        if command[1:3] == ["-m", "venv"]:
            return artifacts.link_tree(str(made_venv), command[3]) or 0, ""
        return real(command, *more)

    real = artifacts.run_logged
    monkeypatch.setattr(artifacts, "run_logged", run_logged)
    (env.tree / "backend/requirements.txt").write_text("./no-such-package-here\n")
    found = env()
    assert found["failed"] and "The Python requirements can't be installed: ERROR" in found["msg"]
    assert "no-such-package-here" in found["msg"] and "the old release still serves" in found["msg"]
    assert "\n" not in found["msg"] and str(env.live) in pip_place(env.live)
    assert os.listdir(env.cache) == [] and not env.dest.exists()


def test_a_damaged_cached_environment_is_built_anew(env, made_venv, monkeypatch):
    def build(params, cache, key, base):
        content = cache.building("venv", key)
        artifacts.link_tree(str(made_venv), content)
        cache.put("venv", key, content, prefix=str(made_venv))

    monkeypatch.setattr(python_env, "build", build)
    key = env()["key"]
    os.unlink(env.cache / key / "content/bin/pip")
    shutil.rmtree(env.dest)
    assert env()["action"] == "build"
    assert any(name.startswith(f"{key}.damaged-") for name in os.listdir(env.cache))
    assert (env.dest / "bin/pip").exists()


def test_the_python_of_the_present_environment_is_used_and_a_missing_one_falls_back(env):
    assert env(check=True)["python"] == sys.version.split()[0]
    shutil.rmtree(env.live)
    found = env(target="old", check=True)
    # Nothing is there, so even the same requirements have to be provided.
    assert found["action"] == "build" and found["live"] == str(env.live)


NPM = """#!/bin/sh
echo "$@" >>"{calls}"
case "$1" in
  ci|install) mkdir -p node_modules/next && echo "$1" >node_modules/next/x && exit 0 ;;
  run)
    [ -e fail ] && echo "Failed to compile. password=hunter22" && exit 1
    [ -e elsewhere ] && exit 0
    [ -e node_modules/next/x ] || exit 9
    mkdir -p .next/static/chunks .next/cache
    cat page.js .env.local >.next/BUILD_ID 2>/dev/null
    echo c >.next/cache/c; cat page.js >".next/static/chunks/$(cat page.js).js" ;;
esac
"""


@pytest.fixture
def build(call, tmp_path, monkeypatch):
    tools, live, tree = (tmp_path / name for name in ("tools", "live", "tree"))
    calls = tmp_path / "calls"
    for path in (tools, live / ".next/static/chunks", live / "node_modules/next", tree):
        path.mkdir(parents=True)
    for name, text in {"npm": NPM.format(calls=calls), "node": "#!/bin/sh\necho v20.0.0\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    (live / ".next/BUILD_ID").write_text("former\n")
    (live / ".next/static/chunks/former.js").write_text("former")
    (live / ".next/static/former").mkdir()
    (live / ".next/static/former/_buildManifest.js").write_text("former")
    (live / "node_modules/next/x").write_text("live")
    (live / ".env.local").write_text("NEXT_PUBLIC_A=1")
    (tree / "page.js").write_text("new")

    def stage(check=False, **options):
        given = {
            "live": str(live),
            "current": {"lock": "l1", "frontend_tree": "t1"},
            "target": {"lock": "l1", "frontend_tree": "t2"},
            "tree": str(tree),
            "cache": str(tmp_path / "cache"),
            "dest": str(tmp_path / "staged"),
            "log": str(tmp_path / "log"),
            **options,
        }
        return call(frontend_build, check=check, **given)

    stage.live, stage.tree, stage.dest = live, tree, tmp_path / "staged"
    stage.calls = lambda: calls.read_text().splitlines() if calls.exists() else []
    return stage


NEW_LOCK = {"lock": "l2", "frontend_tree": "t2"}


def test_the_same_tree_lock_and_environment_build_nothing(build):
    found = build(target={"lock": "l1", "frontend_tree": "t1"})
    assert (found["action"], found["packages"], found["build_id"]) == ("unchanged", "unchanged", "former")
    assert build.calls() == [] and not build.dest.exists()


def test_a_new_build_is_staged_with_the_old_static_files_and_costs_one_build(build):
    assert build(check=True)["action"] == "build" and build.calls() == []
    found = build()
    assert (found["action"], found["packages"]) == ("build", "unchanged") and build.calls() == ["run build"]
    assert found["build_id"] == "newNEXT_PUBLIC_A=1" and found["former_build_id"] == "former"
    assert sorted(os.listdir(build.dest / ".next/static/chunks")) == ["former.js", "new.js"]
    # A server on the new build must not answer for the former one, or nothing would prove which of them serves.
    assert not (build.dest / ".next/static/former").exists()
    assert not (build.dest / ".next/cache").exists() and not (build.dest / "node_modules").exists()
    # The environment file does not stay in the tree, and what serves is untouched.
    assert not (build.tree / ".env.local").exists()
    assert os.listdir(build.live / ".next/static/chunks") == ["former.js"]
    shutil.rmtree(build.dest)
    assert build()["action"] == "cached" and build.calls() == ["run build"]
    assert (build.dest / ".next/BUILD_ID").exists()
    # The way back is known too.
    back = {"current": {"lock": "l1", "frontend_tree": "t2"}, "target": {"lock": "l1", "frontend_tree": "t1"}}
    assert build(check=True, **back)["action"] == "cached"


def test_another_environment_file_or_variable_is_another_build(build):
    key = build(check=True)["key"]
    assert build(check=True, environment={"NEXT_PUBLIC_B": "1"})["key"] != key
    (build.live / ".env.local").write_text("NEXT_PUBLIC_A=2")
    assert build(check=True)["key"] != key


def test_environment_files_to_come_are_built_with_and_those_that_serve_stay(build, tmp_path):
    (tmp_path / "kept").write_text("NEXT_PUBLIC_A=2")
    same = {"current": {"lock": "l1", "frontend_tree": "t1"}, "target": {"lock": "l1", "frontend_tree": "t1"}}
    assert build(check=True, **same)["action"] == "unchanged"
    found = build(**same, env_from={".env.local": str(tmp_path / "kept")})
    assert (found["action"], found["build_id"]) == ("build", "newNEXT_PUBLIC_A=2")
    assert (build.live / ".env.local").read_text() == "NEXT_PUBLIC_A=1"
    # The build that serves was kept under the files that it was built with.
    (build.live / ".env.local").write_text("NEXT_PUBLIC_A=2")
    (tmp_path / "kept").write_text("NEXT_PUBLIC_A=1")
    assert build(check=True, **same, env_from={".env.local": str(tmp_path / "kept")})["action"] == "cached"
    # One that did not exist then.
    assert build(check=True, **same, env_from={".env.local": ""})["action"] == "build"


def test_a_build_is_not_kept_under_files_that_were_edited_after_it(build, tmp_path):
    same = {"current": {"lock": "l1", "frontend_tree": "t1"}, "target": {"lock": "l1", "frontend_tree": "t1"}}
    (tmp_path / "kept").write_text("NEXT_PUBLIC_A=2")
    built = (build.live / ".next/BUILD_ID").stat().st_mtime
    os.utime(build.live / ".env.local", (built + 60, built + 60))
    build(**same, env_from={".env.local": str(tmp_path / "kept")})
    (build.live / ".env.local").write_text("NEXT_PUBLIC_A=2")
    (tmp_path / "kept").write_text("NEXT_PUBLIC_A=1")
    assert build(check=True, **same, env_from={".env.local": str(tmp_path / "kept")})["action"] == "build"


def test_another_lock_file_installs_packages_once(build):
    found = build(target=NEW_LOCK)
    assert (found["action"], found["packages"]) == ("build", "build")
    assert [line.split()[0] for line in build.calls()] == ["ci", "run"]
    assert (build.dest / "node_modules/next/x").read_text() == "ci\n"
    assert (build.live / "node_modules/next/x").read_text() == "live"
    shutil.rmtree(build.dest)
    found = build(target=NEW_LOCK)
    assert (found["action"], found["packages"]) == ("cached", "cached") and len(build.calls()) == 2
    assert (build.dest / "node_modules/next/x").exists()


def test_without_a_lock_file_the_packages_are_installed(build):
    build(target={**NEW_LOCK, "has_lock": False})
    assert build.calls()[0].startswith("install ")


def test_a_build_that_fails_says_its_reason_without_secrets_and_leaves_what_serves(build):
    (build.tree / "fail").write_text("")
    found = build()
    assert found["failed"] and "The frontend does not build: Failed to compile. password=***" in found["msg"]
    assert "the old release still serves" in found["msg"] and "\n" not in found["msg"]
    assert not build.dest.exists() and not (build.tree / ".env.local").exists()
    assert (build.live / ".next/BUILD_ID").read_text() == "former\n"


def test_a_build_elsewhere_than_in_next_is_said(build):
    (build.tree / "elsewhere").write_text("")
    assert "left no .next/BUILD_ID" in build()["msg"]


def test_a_damaged_cached_build_is_built_anew(build, tmp_path):
    key = build()["key"]
    (tmp_path / "cache/frontend" / key / "content/BUILD_ID").unlink()
    shutil.rmtree(build.dest)
    shutil.rmtree(build.tree / ".next")
    assert build()["action"] == "build"


def test_a_host_without_node_is_said(build, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Node.js does not answer" in build()["msg"]


@pytest.fixture
def swap(call, tmp_path):
    state = State(str(tmp_path / "state"))
    state.acquire("r1", "kim", 300)
    items = []
    for name in ("venv", "next"):
        paths = {key: tmp_path / key / name for key in ("staged", "live", "displaced")}
        for key in ("staged", "live"):
            paths[key].mkdir(parents=True)
            (paths[key] / "id").write_text(key)
        artifacts.mark(str(paths["staged"]), "r1")
        items.append({key: str(path) for key, path in paths.items()})

    def run(present=True, check=False, journal=True):
        options = {"state_dir": state.path, "run_id": "r1", "act": "switch", "undo": not present}
        options = {"journal": options} if journal else {}
        name = "present" if present else "absent"
        return call(artifact_swap, check=check, run_id="r1", state=name, artifacts=items, **options)

    run.items, run.records = items, lambda: state.read("r1")
    run.ids = lambda: [Path(item["live"], "id").read_text() for item in items]
    return run


def test_artifacts_go_in_place_once_and_back(swap):
    assert swap(check=True)["changed"] and swap.ids() == ["live", "live"]
    assert swap()["changed"] and swap.ids() == ["staged", "staged"]
    assert [item["step"] for item in _journal.pending(swap.records())] == ["artifacts"]
    assert not swap()["changed"]
    assert swap(False, check=True)["changed"] and swap(False)["changed"] and swap.ids() == ["live", "live"]
    assert _journal.pending(swap.records()) == []
    assert not swap(False)["changed"]


def test_the_intent_is_on_disk_before_anything_moves(swap, monkeypatch):
    def cut_off(*paths):
        raise OSError("the power went")

    monkeypatch.setattr(artifacts, "swap_in", cut_off)
    assert swap()["failed"]
    assert [item["status"] for item in swap.records()] == ["intent", "failed"]
    assert _journal.pending(swap.records())[0]["detail"]["artifacts"] == swap.items


def test_half_a_switch_goes_back_whole(swap, monkeypatch):
    real = artifacts.swap_in
    monkeypatch.setattr(artifacts, "swap_in", lambda *paths: real(*paths) if "venv" in paths[0] else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        swap()
    assert swap.ids() == ["staged", "live"]
    assert swap(False)["moved"] == [swap.items[0]["live"]] and swap.ids() == ["live", "live"]


def test_nothing_moves_unless_all_is_staged(swap):
    shutil.rmtree(swap.items[1]["staged"])
    found = swap()
    assert found["failed"] and "was not staged" in found["msg"] and swap.ids() == ["live", "live"]
