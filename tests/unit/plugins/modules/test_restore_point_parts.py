from __future__ import annotations

import json
import os
import runpy
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _ollama, restore_points
from ansible_collections.sparklio.rollback.plugins.modules import (
    comfyui_info,
    ollama_snapshot,
    release_tag,
    restore_point_record,
    system_info,
)
from hypothesis import given
from hypothesis import strategies as st

POINT = "20250115T070000Z-deploy"
STANDIN = Path(__file__).parents[4] / "sandbox/standins/ollama.py"
TAG = "v4.0.20250115-070000"


@pytest.fixture
def ollama():
    standin = runpy.run_path(str(STANDIN))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), standin["Ollama"])
    Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/", standin["TAGS"]
    httpd.shutdown()
    httpd.server_close()


def test_each_model_gets_a_second_tag(call, ollama, tmp_path):
    url, tags = ollama
    before = dict(tags)
    found = call(ollama_snapshot, True, url=url, id=POINT, dest=str(tmp_path / "ollama"))
    assert tags == before and found["artifact"]["files"] == []
    artifact = call(ollama_snapshot, url=url, id=POINT, dest=str(tmp_path / "ollama"))["artifact"]
    assert len(tags) == 2 * len(before)
    for item in artifact["meta"]["models"]:
        assert tags[item["copy"]]["digest"] == item["digest"] == before[item["name"]]["digest"]
    assert json.loads((tmp_path / "ollama/models.json").read_text())["models"] == artifact["meta"]["models"]
    assert artifact["meta"]["mark"] == POINT and restore_points.elsewhere(str(tmp_path)) == {"ollama": POINT}
    # Once more, after something that failed: its own tags are used.
    again = call(ollama_snapshot, url=url, id=POINT, dest=str(tmp_path / "ollama"))["artifact"]
    assert again["meta"] == artifact["meta"] and len(tags) == 2 * len(before)
    # The same id, from another host.
    other = call(ollama_snapshot, url=url, id=POINT, dest=str(tmp_path / "other/ollama"))["artifact"]
    assert other["meta"]["mark"] == f"{POINT}-2"
    assert restore_points.elsewhere(str(tmp_path / "other")) == {"ollama": f"{POINT}-2"}
    assert [item["name"] for item in other["meta"]["models"]] == sorted(before)
    third = call(ollama_snapshot, url=url, id=f"{POINT}-2", dest=str(tmp_path / "third/ollama"))["artifact"]
    assert third["meta"]["mark"] == f"{POINT}-3" and len(tags) == 4 * len(before)
    assert len(call(ollama_snapshot, url=url, state="absent", marks=[POINT])["removed"]) == len(before)
    assert {_ollama.copied_for(name) for name in tags} == {None, f"{POINT}-2", f"{POINT}-3"}


def test_no_ollama(call, web, port, tmp_path):
    options = {"id": POINT, "dest": str(tmp_path / "ollama"), "timeout": 1}
    assert "connection refused" in call(ollama_snapshot, url=f"http://127.0.0.1:{port}", **options)["msg"]
    url = web({"/api/version": "{}", "/api/tags": '{"models": [{}]}'})
    assert "a model without a name" in call(ollama_snapshot, url=url, **options)["msg"]
    assert "answered 404" in call(ollama_snapshot, url=web({}), **options)["msg"]


@given(st.text(min_size=1))
def test_what_a_tag_keeps_is_known_again(name):
    assert _ollama.copied_for(_ollama.copy_name(name, POINT)) == POINT
    assert _ollama.own([{"name": _ollama.copy_name(name, POINT)}]) == []


def test_a_tag_is_made_once_and_pushed(call, git, tmp_path):
    commit = git.commit({"a": "1"})
    options = {"path": str(git.path), "name": TAG, "annotation": "배포 전", "noted_in": str(tmp_path / "point")}
    assert call(release_tag, True, **options)["changed"] and git("tag") == ""
    assert call(release_tag, **options)["commit"] == commit
    assert git("cat-file", "-t", TAG) == "tag" and "배포 전" in git("cat-file", "tag", TAG)
    assert restore_points.elsewhere(str(tmp_path / "point")) == {"tag": TAG}
    # A tag that somebody else made is not that of the restore point.
    assert not call(release_tag, **{**options, "noted_in": str(tmp_path / "other")})["changed"]
    assert restore_points.elsewhere(str(tmp_path / "other")) == {}
    assert "no remote named origin" in call(release_tag, **{**options, "state": "pushed"})["push_problem"]
    git("init", "-q", "--bare", str(tmp_path / "origin.git"))
    git("remote", "add", "origin", str(tmp_path / "origin.git"))
    assert call(release_tag, **{**options, "state": "pushed"})["pushed"]
    assert git("ls-remote", "--tags", "origin", TAG).startswith(git("rev-parse", TAG))
    os.rename(tmp_path / "origin.git", tmp_path / "away.git")
    found = call(release_tag, **{**options, "state": "pushed"})
    assert not found.get("failed") and not found["pushed"] and found["push_problem"]
    git.commit({"a": "2"})
    assert "is on commit" in call(release_tag, **options)["msg"]
    assert call(release_tag, **{**options, "state": "absent"})["changed"] and git("tag") == ""
    assert "is not the name of a release tag" in call(release_tag, path=str(git.path), name="--delete")["msg"]


def test_comfyui_and_its_nodes(call, git, tmp_path):
    commit = git.commit({"main.py": "", "custom_nodes/example.py": "", "custom_nodes/old.py.disabled": ""})
    node = git.path / "custom_nodes/clone"
    git("clone", "-q", str(git.path), str(node))
    git("-C", str(node), "remote", "set-url", "origin", "https://user:canary@example.org/x.git")
    git("remote", "add", "origin", "https://canary@example.org/main.git")
    (git.path / "custom_nodes/__pycache__").mkdir()
    (git.path / "venv/bin").mkdir(parents=True)
    # Not a link: through one, Python would not know the environment that it belongs to.
    python = git.path / "venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = call(comfyui_info, root=str(git.path))["comfyui"]
    assert "canary" not in str(found) and found["origin"] == "https://***@example.org/main.git"
    assert (found["commit"], found["branch"]) == (commit, "main")
    nodes = {item["name"]: item for item in found["custom_nodes"]}
    assert sorted(nodes) == ["clone", "example.py", "old.py.disabled"]
    assert nodes["clone"]["commit"] == commit and nodes["clone"]["enabled"]
    assert nodes["example.py"]["commit"] is None and not nodes["old.py.disabled"]["enabled"]
    assert any(line.startswith("pytest==") for line in found["packages"])
    assert "is no git clone" in call(comfyui_info, root=str(tmp_path))["msg"]


def test_the_record_of_a_host(call, git, tmp_path, port):
    commit = git.commit({"a": "1"})
    found = call(system_info, root=str(git.path), ports={"backend": port}, pm2="no-such-pm2")
    assert found["services"]["git"]["commit"] == commit
    assert found["services"]["pm2"] is None and found["services"]["processes"] == {"backend": []}
    assert found["packages"]["pip"] is None
    artifact = call(restore_point_record, name="packages", dest=str(tmp_path / "p"), data=found["packages"])["artifact"]
    assert artifact["files"][0]["path"] == "packages/packages.json"
    assert json.loads((tmp_path / "p/packages/packages.json").read_text()) == found["packages"]


def test_no_environment_of_pm2_is_kept():
    text = '[PM2] notice\n[{"name": "x", "pid": 7, "pm2_env": {"status": "online", "SECRET": "canary", "env": {}}}]'
    (item,) = system_info.pm2_list(text)
    assert item["status"] == "online" and "canary" not in str(item)
    assert system_info.pm2_list("nothing") is None and system_info.pm2_list(None) is None
