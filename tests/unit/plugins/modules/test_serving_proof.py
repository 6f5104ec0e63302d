from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import process, serving
from ansible_collections.sparklio.rollback.plugins.modules import host_check
from ansible_collections.sparklio.rollback.plugins.modules import serving_proof as module

HEAD = "a" * 40
PARAMS = {"root": "/srv/app", "backend_dir": "backend", "backend_port": 8000, "commit": HEAD, "since": 1000.0}


def holder(pid=10, started=1005.0, cwd="/srv/app/backend", parent=1):
    return process.Process(pid, parent, 1, started, ("uvicorn",), cwd)


@pytest.mark.parametrize(
    ("head", "holders", "hidden", "metric", "verdict", "evidence"),
    [
        (HEAD, [holder()], set(), 1005.3, "pass", "and /metrics agrees"),
        (HEAD, [holder()], set(), None, "pass", "shows no start time"),
        (HEAD, [holder()], set(), 999.0, "pass", "agrees"),
        (HEAD, [holder()], set(), 990.0, "fail", "answered by a process that started 10 s before"),
        (HEAD, [holder(started=900.0)], set(), None, "fail", "process 10 was started 100 s before the switch"),
        ("b" * 40, [holder()], set(), 1005.0, "fail", "the tree is at bbbbbbbbbbbb, not at aaaaaaaaaaaa"),
        (HEAD, [holder(cwd="/srv/other")], set(), 1005.0, "fail", "is not the backend in /srv/app/backend"),
        (HEAD, [], set(), 1005.0, "fail", "nothing listens on port 8000"),
        (HEAD, [], {5}, 1005.0, "pass", "another user"),
        (HEAD, [], {5}, None, "fail", "not the backend"),
        (HEAD, [], {5}, 900.0, "fail", "not the backend"),
        (HEAD, [holder(), holder(11)], {5}, 1005.0, "fail", "not the backend"),
        # The parent of several workers may be older; none of the workers may.
        (HEAD, [holder(1000, 500.0), holder(11, parent=1000)], set(), 1005.0, "pass", "process 11 (+5.0 s)"),
        (HEAD, [holder(1000, 500.0), holder(11, 999.0, parent=1000)], set(), None, "fail", "process 11 was started"),
        (HEAD, [holder(11), holder(12, 800.0)], set(), None, "fail", "process 12"),
    ],
)
def test_the_backend_is_judged_by_tree_process_and_metric(head, holders, hidden, metric, verdict, evidence):
    found = serving.judge_backend(head, PARAMS, holders, hidden, metric)
    assert (found["name"], found["verdict"], found["critical"]) == ("serving_backend", verdict, True)
    assert evidence in found["evidence"]


@pytest.fixture
def served(git, port, tmp_path):
    """A clone whose backend, a real process in it, serves metrics and one frontend build."""
    git.commit({"backend/app.py": "", "frontend/x": ""}, "v1")
    manifest = git.path / "backend/_next/static/build1/_buildManifest.js"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("x")
    os.symlink(git.path, tmp_path / "link")
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    git.since = time.time() - 0.05
    server = subprocess.Popen(command, cwd=git.path / "backend", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not process.connects("127.0.0.1", port):
        time.sleep(0.02)
    (git.path / "backend/metrics").write_text(
        f"# x\nprocess_start_time_seconds {process.get(server.pid).started:.2f}\n"
    )
    git.url = f"http://127.0.0.1:{port}"
    yield git
    server.kill()
    server.wait()


def prove(call, served, root=None, **options):
    given = {
        "root": str(root or served.path),
        "commit": served("rev-parse", "HEAD"),
        "since": served.since,
        "backend_port": int(served.url.rsplit(":", 1)[1]),
        "metrics_url": served.url + "/metrics",
        "frontend_url": served.url + "/",
        "timeout": 1,
    }
    return {item["name"]: item for item in call(module, **{**given, **options})["verdicts"]}


def test_what_really_serves_is_proven_even_through_a_link(call, served, tmp_path):
    for root in (served.path, tmp_path / "link"):
        found = prove(call, served, root, build_id="build1")
        assert [item["verdict"] for item in found.values()] == ["pass", "pass"], found
        assert "and /metrics agrees" in found["serving_backend"]["evidence"]


def test_a_process_from_before_the_switch_is_no_proof(call, served):
    found = prove(call, served, since=time.time() + 60)
    assert list(found) == ["serving_backend"] and found["serving_backend"]["verdict"] == "fail"
    assert "still serves the old code" in found["serving_backend"]["evidence"]


def test_another_build_and_a_frontend_that_is_down_are_told_apart(call, served):
    found = prove(call, served, build_id="build2")["serving_frontend"]
    assert found["verdict"] == "fail" and "does not know build build2 (status 404)" in found["evidence"]
    found = prove(call, served, build_id="build1", frontend_url="http://127.0.0.1:1")["serving_frontend"]
    assert found["verdict"] == "fail" and "refused" in found["evidence"]


@pytest.mark.parametrize(
    ("address", "why"), [("/missing", "(status 404)"), (None, "connection refused: nothing listens there")]
)
def test_metrics_that_do_not_answer_are_an_error(call, served, address, why):
    host = served.url.replace("//", "//me:hunter22@") if address else "http://me:hunter22@127.0.0.1:1"
    found = prove(call, served, metrics_url=f"{host}{address or '/'}")["serving_backend"]
    assert found["verdict"] == "error" and "gave no metrics" in found["evidence"] and why in found["evidence"]
    assert "hunter22" not in found["evidence"]


def test_a_clone_that_cannot_be_read_is_an_error(call, served, tmp_path):
    found = prove(call, served, root=tmp_path)
    assert found["serving_backend"]["verdict"] == "error"


def test_a_frontend_may_need_a_moment(call, served, tmp_path):
    (tmp_path / "late/_next/static/build1").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "late"))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    Thread(
        target=lambda: (time.sleep(0.3), (tmp_path / "late/_next/static/build1/_buildManifest.js").write_text(""))
    ).start()
    found = prove(call, served, build_id="build1", frontend_url=f"http://127.0.0.1:{httpd.server_port}", timeout=10)
    httpd.shutdown()
    httpd.server_close()
    assert found["serving_frontend"]["verdict"] == "pass"


def test_a_host_is_looked_at(call, tmp_path):
    (tmp_path / "app").mkdir()
    state_dir = tmp_path / "not/there/yet"
    found = call(host_check, root=str(tmp_path / "app"), state_dir=str(state_dir), tools=["git", "no-such-tool"])
    assert found["missing"] == ["no-such-tool"] and found["same_device"] and found["writable"]
    assert found["free_mb"] > 0 and abs(found["free_mb"] - found["root_free_mb"]) < 100
    assert found["state_dir"] == str(state_dir) and not state_dir.parent.exists()
    assert abs(found["now"] - time.time()) < 60 and not found["changed"]


def test_another_file_system_is_seen(call, tmp_path):
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("needs a second file system, such as /dev/shm")
    assert not call(host_check, root=str(tmp_path), state_dir="/dev/shm/x/y")["same_device"]
