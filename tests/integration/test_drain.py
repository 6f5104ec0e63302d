"""The role drain against a metrics endpoint and an HAProxy: a stand-in, and the real one where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Thread

import pytest

PROJECT = Path(__file__).resolve().parents[2]
REEL = 'sparklio_active_workflows{workflow_type="reel"}'

PLAY = """
- name: Drain
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Take the lock
      sparklio.rollback.run_lock: {state_dir: "{{ state }}", level: level1, owner: test, stale_after: 300}
      when: run is not defined
      register: lock
    - name: Know the run
      ansible.builtin.set_fact:
        run_info: {id: "{{ run | default(lock.run_id) }}", state_dir: "{{ state }}"}
    - name: Know what is pending
      sparklio.rollback.run_journal: {state_dir: "{{ state }}", run_id: "{{ run_info.id }}"}
      register: journal
    - name: Keep it
      ansible.builtin.set_fact:
        run_pending: "{{ journal.pending | items2dict(key_name='step', value_name='detail') }}"
    - name: Call the role
      ansible.builtin.include_role:
        name: sparklio.rollback.drain
        tasks_from: "{{ entry }}"
      loop: "{{ entries }}"
      loop_control: {loop_var: entry}
"""


class Backend:
    """Metrics of a backend: the text, which tests change, and what was seen of the world at each reading."""

    def __init__(self) -> None:
        self.active = [1]
        self.look: Callable[[], object] = lambda: None
        self.seen: list[object] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                backend.seen.append(backend.look())
                active = backend.active.pop(0) if len(backend.active) > 1 else backend.active[0]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"# TYPE sparklio_active_workflows gauge\n{REEL} {active}\n".encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


class StandIn:
    """Answers the commands of HAProxy's socket that the module sends."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "stand-in.sock")
        status = {"app1": "UP"}
        self.status = status

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                for command in self.rfile.readline().decode().strip().split("; "):
                    words = command.split()
                    if command == "show info":
                        self.wfile.write(b"Name: HAProxy\nVersion: 2.6.12\n")
                    elif command == "show stat":
                        rows = "".join(f"sparklio,{name},{state},1,0\n" for name, state in status.items())
                        self.wfile.write(f"# pxname,svname,status,weight,scur\n{rows}".encode())
                    elif words[:2] == ["set", "server"]:
                        status[words[2].partition("/")[2]] = words[4].upper()
                    elif words[:2] == ["enable", "server"]:
                        status[words[2].partition("/")[2]] = "UP"

        Thread(target=ThreadingUnixStreamServer(self.socket, Handler).serve_forever, daemon=True).start()

    def state(self) -> str:
        return self.status["app1"]

    def stop(self) -> None:
        pass


class Real:
    """HAProxy itself."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.socket = str(folder / "real.sock")
        (folder / "haproxy.cfg").write_text(
            f"global\n  stats socket {self.socket} mode 600 level admin\n"
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
            f"backend sparklio\n  server app1 {backend.removeprefix('http://')}\n"
        )
        self.process = subprocess.Popen(["haproxy", "-W", "-db", "-f", str(folder / "haproxy.cfg")])
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket):
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)

    def state(self) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.socket)
            client.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        rows = [line.split(",") for line in answer.splitlines()]
        return next(row[17] for row in rows if row[1:2] == ["app1"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class World:
    def __init__(self, folder: Path, balancer: StandIn | Real, backend: Backend) -> None:
        self.folder, self.balancer, self.backend = folder, balancer, backend
        self.flag = folder / "maintenance.on"
        self.open_state = balancer.state()
        backend.look = lambda: (balancer.state(), self.flag.exists())
        (folder / "play.yml").write_text(PLAY)
        self.settings = {
            "rollback_backend_url": backend.url,
            "rollback_drain_timeout": 1,
            "rollback_drain_maintenance_file": str(self.flag),
            "rollback_drain_haproxy": {"server": "app1", "backend": "sparklio", "socket": balancer.socket},
            "drain_interval": 0.1,
        }

    def again(self, entries: list[str], **settings: object) -> tuple[int, str]:
        """Call without the run of an earlier call."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        return self.run(entries, **settings)

    def run(self, entries: list[str], *options: str, configured: bool = True, **settings: object) -> tuple[int, str]:
        variables = {
            **(self.settings if configured else {}),
            **settings,
            "state": str(self.folder / "state"),
            "entries": entries,
            "ansible_python_interpreter": sys.executable,
        }
        done = subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(variables), "play.yml", *options],
            cwd=self.folder,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    @property
    def open(self) -> bool:
        return self.balancer.state() == self.open_state and not self.flag.exists()

    def journal(self) -> list[dict]:
        (path,) = (self.folder / "state/runs").glob("*/journal.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(params=["stand-in", "real"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    backend = Backend()
    if request.param == "real" and not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    balancer = Real(tmp_path, backend.url) if request.param == "real" else StandIn(tmp_path)
    yield World(tmp_path, balancer, backend)
    balancer.stop()
    backend.server.shutdown()


def test_requests_are_kept_out_while_workflows_end(world: World) -> None:
    world.backend.active = [1, 1, 1, 0]
    code, output = world.run(["check", "before", "after"])
    assert code == 0, output
    assert world.backend.seen[0] == (world.open_state, False)
    assert set(world.backend.seen[1:]) == {("DRAIN", True)}
    assert world.open
    assert "sparklio_active_workflows is 0 after" in output
    steps = [(item["event"], item.get("status")) for item in world.journal()]
    assert steps == [("step", "intent"), ("step", "done"), ("drain", None), ("undo", "done")]


def test_at_the_end_of_the_time_it_goes_on_or_stops(world: World) -> None:
    code, output = world.run(["before"])
    assert code == 0, output
    assert "Not drained, going on: sparklio_active_workflows is 1 and not == 0 after 1" in output
    assert not world.open
    world.flag.unlink()
    code, output = world.again(["before"], rollback_drain_on_timeout="abort")
    assert code != 0
    assert "nothing was switched (drain_on_timeout is abort)" in output
    assert 'workflow_type="reel" 1' in output.replace("\\", "")
    assert world.open
    assert [item["left"] for item in world.journal() if item["event"] == "drain"] == [{'workflow_type="reel"': 1.0}]


def test_a_later_call_opens_what_the_journal_says_is_closed(world: World) -> None:
    """As playbooks/resume.yml does, without the settings of the call that was cut off."""
    world.run(["before"])
    assert not world.open
    run = world.journal()[0]["run_id"]
    for _again in range(2):
        code, output = world.run(["undo"], configured=False, run=run)
        assert code == 0, output
        assert world.open
    assert world.journal()[-1]["event"] == "undo"


def test_a_maintenance_page_of_somebody_else_stays(world: World) -> None:
    world.flag.write_text("theirs")
    assert world.run(["before", "after"])[0] == 0
    assert world.flag.read_text() == "theirs"


def test_a_server_that_haproxy_does_not_know(world: World) -> None:
    """It stops, and the way back does not stop for it."""
    wrong = {"server": "app2", "backend": "sparklio", "socket": world.balancer.socket}
    code, output = world.run(["before"], rollback_drain_haproxy=wrong)
    assert code != 0 and "The specified backend 'sparklio/app2' was not found!" in output
    assert world.flag.exists()
    code, output = world.run(["undo"], configured=False, run=world.journal()[0]["run_id"])
    assert code == 0, output
    assert world.open


def test_a_dry_run_changes_nothing(world: World) -> None:
    code, output = world.run(["check", "before", "after"], "--check", rollback_drain_on_timeout="abort")
    assert code == 0, output
    assert "Now: sparklio_active_workflows is 1" in output
    assert set(world.backend.seen) == {(world.open_state, False)} and world.open


@pytest.mark.parametrize("world", ["stand-in"], indirect=True)
def test_what_could_not_be_drained_is_refused_first(world: World) -> None:
    nobody = {"rollback_backend_url": "http://127.0.0.1:1"}
    code, output = world.again(["check"], **nobody, rollback_drain_on_timeout="abort")
    assert code != 0 and "can't be told: GET http://127.0.0.1:1/metrics: connection refused" in output
    begin = time.monotonic()
    code, output = world.again(["check", "before", "after"], **nobody, rollback_drain_timeout=300)
    assert code == 0, output
    assert "Not drained, going on" in output and time.monotonic() - begin < 60
    code, output = world.again(["check"], rollback_drain_maintenance_file="/nowhere/at/all.on")
    assert code != 0 and "/nowhere/at is no directory that this user may write to" in output
    wrong = {"server": "app1", "socket": str(world.folder / "nothing.sock")}
    code, output = world.again(["check"], rollback_drain_haproxy=wrong)
    assert code != 0 and "is no socket that this user may write to" in output
    code, output = world.again(["check"], rollback_drain_on_timeout="perhaps")
    assert code != 0 and "value of drain_on_timeout must be one of" in output
    assert world.open
