"""service_process and module_utils/process on real processes: a small server that behaves as uvicorn does."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _journal, process
from ansible_collections.sparklio.rollback.plugins.module_utils.journal import State
from ansible_collections.sparklio.rollback.plugins.modules import service_process as module

SERVER = """
import http.server, os, signal, sys, time
mode = open("mode").read()
if mode == "fail":
    print("Traceback (most recent call last):\\n  File x\\nsqlalchemy.exc.OperationalError: " + os.environ["SAYS"])
    print("INFO: bye")
    sys.exit(3)
if mode == "hang":
    time.sleep(60)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ.get('MARK')} {os.getpid()} {open('mode').read()}".encode()
        self.send_response(503 if mode == "unwell" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

httpd = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
workers = []

def spawn():
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        httpd.serve_forever(0.05)
    return pid

def reload(*_):
    for index, old in enumerate(list(workers)):
        if open("mode").read() != "frozen":
            workers[index] = spawn()
            os.kill(old, signal.SIGTERM)
            os.waitpid(old, 0)

def end(*_):
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    os._exit(0)

if "--workers" in sys.argv:
    workers += [spawn() for _ in range(int(sys.argv[sys.argv.index("--workers") + 1]))]
    signal.signal(signal.SIGHUP, reload)
    signal.signal(signal.SIGTERM, end)
    while True:
        time.sleep(0.05)
httpd.serve_forever(0.05)
"""


@pytest.fixture
def app(call, tmp_path, port):
    state = State(str(tmp_path / "state"))
    state.acquire("r1", "kim", 300)
    backend, program = tmp_path / "backend", tmp_path / "venv/bin/uvicorn"
    for path in (backend, program.parent, tmp_path / "venv/lib/python3/site-packages/uvicorn-0.30.1.dist-info"):
        path.mkdir(parents=True)
    program.write_text(SERVER)
    (backend / "mode").write_text("")
    begun = []

    class App:
        records = staticmethod(lambda: state.read("r1"))
        pid_file, remember, log = tmp_path / "pid", tmp_path / "remember", tmp_path / "logs/backend.log"

        def __init__(self):
            self.port, self.chdir, self.packages = port, backend, tmp_path / "venv/lib/python3/site-packages"

        def argv(self, *more, name="app.main:app"):
            return [sys.executable, str(program), name, "--port", str(port), *more]

        def begin(self, *more, cwd=backend, name="app.main:app", **environment):
            item = subprocess.Popen(
                self.argv(*more, name=name), cwd=cwd, start_new_session=True, env={**os.environ, **environment}
            )
            begun.append(item)
            deadline = time.monotonic() + 20
            while not process.connects("127.0.0.1", port) and time.monotonic() < deadline:
                time.sleep(0.02)
            # So that what is started next can be told apart by its time.
            time.sleep(0.05)
            return item

        def mode(self, text):
            (backend / "mode").write_text(text)

        def get(self):
            with urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read().decode().split(" ")

        def __call__(self, name="replaced", check=False, **options):
            given = {
                "name": "backend",
                "state": name,
                "chdir": str(backend),
                "port": port,
                "identity": "app.main:app",
                "url": f"http://127.0.0.1:{port}/",
                "log": str(self.log),
                "pid_file": str(self.pid_file),
                "remember": str(self.remember),
                "stop_timeout": 5,
                "start_timeout": 20,
                "journal": {"state_dir": state.path, "run_id": "r1", "act": "switch"},
                **options,
            }
            return call(module, check=check, **{key: value for key, value in given.items() if value is not None})

    yield App()
    ours = {str(backend), str(tmp_path)}
    left = [item for item in process.everything() if item.cwd in ours and str(program) in item.argv]
    for item in left:
        process.send(item, signal.SIGKILL)
    for item in begun:
        item.wait(10)


def reap(item):
    """Collect a child of the tests, which would stay a zombie for as long as they run."""
    threading.Thread(target=item.wait, daemon=True).start()


def test_what_runs_is_found_and_remembered_in_private(app):
    item = app.begin(MARK="mine")
    found = app("observed")
    assert found["running"] and found["pid"] == item.pid and found["conflict"] is None and not found["changed"]
    assert abs(found["started"] - time.time()) < 60 and found["serving_since"] == found["started"]
    assert found["argv"] == app.argv() and found["method"] == "none"
    assert stat.S_IMODE(app.remember.stat().st_mode) == 0o600


def test_nothing_runs(app):
    found = app("observed")
    assert (found["running"], found["conflict"], found["workers"]) == (False, None, [])


def test_a_restart_keeps_command_and_environment_and_outlives_its_session(app):
    item = app.begin(MARK="mine")
    reap(item)
    assert app(check=True)["method"] == "restart" and app.get()[1] == str(item.pid)
    found = app()
    assert found["method"] == "restart" and found["pid"] != item.pid and found["gap"] > 0
    assert app.get()[:2] == ["mine", str(found["pid"])]
    assert app.pid_file.read_text() == f"{found['pid']}\n"
    assert [item["status"] for item in app.records()] == ["intent", "done"]
    os.kill(found["pid"], signal.SIGHUP)
    time.sleep(0.2)
    assert app.get()[1] == str(found["pid"])
    assert os.getsid(found["pid"]) == found["pid"]


def test_a_second_call_with_since_does_nothing(app):
    reap(app.begin())
    since = time.time()
    first = app(since=since)
    assert first["changed"]
    second = app(since=since)
    assert not second["changed"] and second["pid"] == first["pid"]
    assert not app("started")["changed"]


@pytest.mark.parametrize("foreign", ["directory", "identity"])
def test_somebody_else_on_the_port_is_named_and_left_alone(app, tmp_path, foreign):
    (tmp_path / "mode").write_text("")
    item = app.begin(**({"cwd": tmp_path} if foreign == "directory" else {"name": "other:app"}))
    found = app()
    assert found["failed"] and f"Port {app.port} is held by process {item.pid} (" in found["msg"]
    assert "It was left alone" in found["msg"] and app.get()[1] == str(item.pid) and item.poll() is None
    assert app.records()[-1]["status"] == "failed" and _journal.pending(app.records()) == []
    assert f"process {item.pid}" in app("observed")["conflict"]


def test_a_pid_file_that_names_somebody_else_stops_nobody(app):
    sleeper = subprocess.Popen(["sleep", "60"], cwd=app.chdir)
    try:
        app.pid_file.write_text(str(sleeper.pid))
        found = app(command=app.argv())
        assert found["method"] == "start" and found["pid"] != sleeper.pid and sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_one_that_is_there_and_does_not_listen_is_replaced_by_its_pid_file(app):
    app.mode("hang")
    stuck = subprocess.Popen(app.argv(), cwd=app.chdir, start_new_session=True)
    reap(stuck)
    app.pid_file.write_text(str(stuck.pid))
    time.sleep(0.5)
    app.mode("")
    found = app()
    assert found["method"] == "restart" and process.get(stuck.pid) is None and app.get()[1] == str(found["pid"])


def test_a_start_that_fails_says_the_last_telling_line_without_secrets(app):
    long = "x" * 205
    says = f"connection to postgresql://u:hunter22@db failed {long} hunter24-is-long-enough-to-cross-the-cut"
    reap(app.begin(SAYS=says, DB_PASSWORD="hunter24-is-long-enough-to-cross-the-cut"))
    app.mode("fail")
    found = app()
    assert (
        found["failed"] and "ended right after its start (exit code 3): sqlalchemy.exc.OperationalError" in found["msg"]
    )
    assert "hunter2" not in found["msg"] and "***" in found["msg"] and "\n" not in found["msg"]
    assert "hunter2" not in str(app.records()) and [i["step"] for i in _journal.pending(app.records())] == ["backend"]


def test_one_that_is_down_starts_as_it_was(app):
    item = app.begin(MARK="before")
    app("observed")
    item.kill()
    item.wait()
    found = app("started")
    assert found["method"] == "start" and app.get()[0] == "before" and found["argv"] == app.argv()


def test_one_of_which_nothing_is_known_uses_the_fallback_or_says_so(app):
    assert "Nobody knows how the backend is started" in app("started")["msg"]
    assert app("started", check=True)["method"] == "start" and not process.connects("127.0.0.1", app.port)
    assert app("started", fallback=app.argv())["running"]


def test_one_that_does_not_answer_in_time_is_not_left_behind(app):
    app.mode("hang")
    found = app(command=app.argv(), start_timeout=1)
    assert "did not answer within 1 s of its start" in found["msg"]
    assert not [item for item in process.everything() if item.cwd == str(app.chdir)]


def test_an_answer_of_500_and_above_is_no_answer(app):
    app.mode("unwell")
    assert "did not answer within 1 s" in app(command=app.argv(), start_timeout=1)["msg"]


def test_one_that_ignores_sigterm_is_killed_in_the_end(app):
    app.mode("stubborn")
    item = app.begin()
    reap(item)
    app.mode("")
    assert app(stop_timeout=1)["pid"] != item.pid and process.get(item.pid) is None


def test_workers_are_replaced_without_refusing_a_connection(app):
    item = app.begin("--workers", "2")
    before = app("observed")
    assert before["pid"] == item.pid and len(before["workers"]) == 2 and before["reloadable"]
    failures, count, done = [], [0], threading.Event()

    def visit():
        while not done.is_set():
            try:
                app.get()
                count[0] += 1
            except OSError as exc:
                # A worker that ends may drop what it was busy with; nobody may be turned away.
                if "refused" in str(exc):
                    failures.append(exc)

    visitor = threading.Thread(target=visit)
    visitor.start()
    since = time.time()
    found = app(since=since)
    done.set()
    visitor.join()
    assert found["method"] == "reload" and found["pid"] == item.pid, found
    assert len(found["workers"]) == 2 and not set(found["workers"]) & set(before["workers"])
    assert failures == [] and count[0] > 0 and found["serving_since"] > since
    # The parent is older than that, and there is still nothing left to do.
    assert not app(since=since)["changed"]
    # Unless the parent must not stay.
    again = app(since=since, reload=False)
    reap(item)
    assert again["method"] == "restart" and again["pid"] != item.pid


def test_one_that_closes_a_connection_while_it_is_looked_at_is_seen_as_well(app, monkeypatch):
    item, listed = app.begin(), os.listdir
    gone = str(2**20)
    monkeypatch.setattr(os, "listdir", lambda path=".": [gone, *listed(path)] if "/fd" in str(path) else listed(path))
    assert [found.pid for found in process.listeners(app.port)[0]] == [item.pid]


def test_workers_that_are_not_replaced_are_a_failure(app):
    app.begin("--workers", "2")
    app.mode("frozen")
    found = app(start_timeout=1)
    assert "The workers of the backend were not replaced within" in found["msg"] and app.get()[2] == "frozen"


def test_an_old_uvicorn_is_restarted(app):
    os.rename(app.packages / "uvicorn-0.30.1.dist-info", app.packages / "uvicorn-0.29.0.dist-info")
    app.begin("--workers", "2")
    assert app(check=True)["method"] == "restart"


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        (("uvicorn", "a:b"), 1),
        (("uvicorn", "--workers", "4"), 4),
        (("uvicorn", "--workers=3"), 3),
        (("uvicorn", "--workers"), 1),
        (("uvicorn", "--workers", "many"), 1),
    ],
)
def test_the_number_of_workers_is_read_off_the_command_line(argv, count):
    item = process.Process(1, 0, 0, 0.0, argv, None)
    assert module.Service.worker_count(None, item) == count


def test_a_reused_pid_is_not_signalled():
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        mine = process.get(sleeper.pid)
        earlier = mine._replace(started=mine.started - 60)
        assert process.alive(mine) and not process.alive(earlier)
        process.send(earlier, signal.SIGKILL)
        assert process.stop([earlier], 1) is True
        time.sleep(0.1)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert process.get(sleeper.pid) is None and not process.alive(mine)


def test_a_process_is_the_same_through_proc_and_through_ps():
    if not process.HAS_PROC or not shutil.which("ps"):
        pytest.skip("needs both /proc and ps")
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        # While a program is being loaded, its command line is empty.
        while not process._from_proc(sleeper.pid).argv:
            time.sleep(0.01)
        one, other = process._from_proc(sleeper.pid), process._from_ps(sleeper.pid)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert one[:3] == other[:3] and one.argv == other.argv and abs(one.started - other.started) < 2
    assert process._from_ps(sleeper.pid) is None


def test_a_zombie_is_no_process():
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while process.get(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.get(child.pid) is None
    child.wait()


def test_without_proc_the_same_is_found_through_ps_and_lsof(app, monkeypatch):
    if not (shutil.which("ps") and shutil.which("lsof")):
        pytest.skip("needs ps and lsof, as every Mac has them")
    item = app.begin()
    with monkeypatch.context() as patch:
        patch.setattr(process, "HAS_PROC", False)
        found = app("observed")
        assert found["pid"] == item.pid and found["conflict"] is None
        reap(item)
        assert app()["method"] == "restart"
    assert app.get()[1] != str(item.pid)


def test_what_pm2_runs_is_not_taken_for_a_service_started_by_hand(app):
    item = app.begin(pm_id="0", name="app.main:app", MARK="pm2")
    found = app("replaced")
    assert found["failed"] and f"process {item.pid}, which pm2" in found["msg"]
    assert item.poll() is None and app.get()[0] == "pm2"


def test_what_systemd_runs_is_known_by_its_own_mark():
    with subprocess.Popen(["sh", "-c", "export SYSTEMD_EXEC_PID=$$; exec sleep 30"]) as item:
        deadline = time.monotonic() + 10
        while process.get(item.pid).argv[:1] != ("sleep",) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert module.supervised_by(process.get(item.pid)) == "systemd"
        assert module.supervised_by(process.get(os.getpid())) is None
        item.kill()


def test_variables_that_a_shell_gave_on_are_given_anew(app, tmp_path):
    file = tmp_path / ".env"
    file.write_text("MARK=old\nGONE=1\nOTHER=file\n")
    reap(app.begin(MARK="old", GONE="1", OTHER="by hand"))
    renew = {"files": [str(file)], "keys": ["MARK", "GONE", "OTHER", "NEVER"]}
    found = app("observed", renew=renew)
    assert (found["inherited"], found["overridden"]) == (["GONE", "MARK"], ["OTHER"])
    assert app("observed")["inherited"] == []
    file.write_text("MARK=new\nOTHER=file\n")
    found = app(renew={**renew, "keys": found["inherited"]})
    environment = process.environment(found["pid"])
    assert app.get()[0] == "new" and "GONE" not in environment and environment["OTHER"] == "by hand"


def test_workers_that_inherit_what_changed_are_not_replaced_one_by_one(app, tmp_path):
    file = tmp_path / ".env"
    file.write_text("MARK=old\n")
    reap(app.begin("--workers", "2", MARK="old"))
    assert app(check=True)["method"] == "reload"
    assert app(check=True, renew={"files": [str(file)], "keys": []})["method"] == "reload"
    assert app(check=True, renew={"files": [str(file)], "keys": ["MARK"]})["method"] == "restart"


def test_workers_under_a_parent_that_read_the_file_are_not_replaced_one_by_one(app, tmp_path):
    reap(app.begin("--workers", "2", "--env-file", str(tmp_path / ".env")))
    assert app(check=True)["method"] == "reload"
    assert app(check=True, renew={"files": [str(tmp_path / ".env")], "keys": []})["method"] == "restart"


def test_it_is_stopped_and_starts_again_as_it_was(app):
    item = app.begin(MARK="mine")
    reap(item)
    assert app("stopped", check=True)["changed"] and app.get()[1] == str(item.pid) and app.records() == []
    found = app("stopped")
    assert found["changed"] and (found["running"], found["method"]) == (False, "stop")
    assert not process.connects("127.0.0.1", app.port)
    # An undo has to start what may be stopped: the intent is there first.
    assert [record["status"] for record in app.records()] == ["intent", "done"]
    assert app.records()[0]["detail"] == {"method": "stop", "pid": item.pid}
    assert [record["step"] for record in _journal.pending(app.records())] == ["backend"]
    again = app("stopped")
    assert (again["changed"], again["method"], len(app.records())) == (False, "none", 2)
    assert app("observed")["running"] is False
    # How it ran is known although nothing was observed before it was stopped.
    assert app("replaced")["running"] and app.get()[0] == "mine"


def test_workers_are_stopped_with_their_parent(app):
    reap(app.begin("--workers", "2"))
    assert len(app("observed")["workers"]) == 2
    assert app("stopped")["changed"]
    left = [item for item in process.everything() if item.cwd == str(app.chdir) and "app.main:app" in item.argv]
    assert left == [] and not process.connects("127.0.0.1", app.port)


def test_one_that_ignores_a_stop_is_killed_in_the_end(app):
    app.mode("stubborn")
    reap(app.begin())
    assert app("stopped", stop_timeout=1)["changed"] and not process.connects("127.0.0.1", app.port)


def test_somebody_else_on_the_port_is_not_stopped(app):
    item = app.begin(name="other:app")
    found = app("stopped")
    assert found["failed"] and f"Port {app.port} is held by process {item.pid} (" in found["msg"]
    assert item.poll() is None and _journal.pending(app.records()) == []


def test_a_stop_outside_of_a_run_is_not_journaled(app):
    reap(app.begin())
    assert app("stopped", journal=None)["changed"] and app.records() == []
