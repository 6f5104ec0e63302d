from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from threading import Thread

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.module_utils import resp
from ansible_collections.sparklio.rollback.plugins.modules import redis_check as module
from hypothesis import given, settings
from hypothesis import strategies as st

SECRET = "p@ss:w/rd 한"
QUOTED = "p%40ss%3Aw%2Frd%20%ED%95%9C"


def run(capsys, **options):
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    out = capsys.readouterr().out
    assert SECRET not in out and QUOTED not in out
    return json.loads(out)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    settings = folder / "redis.conf"
    settings.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass "{SECRET}"\ndir {folder}\n')
    process = subprocess.Popen(["redis-server", str(settings)], stdout=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()


class Fake:
    """Listens, and answers each piece it gets with the next of its replies."""

    def __init__(self, *replies: bytes):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.replies, self.seen = replies, []
        Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        for reply in self.replies:
            self.seen.append(connection.recv(4096))
            connection.sendall(reply)
        connection.close()


def test_a_real_redis_with_its_password(redis, capsys, tmp_path):
    env = tmp_path / ".env"
    env.write_text(f"# 설정\nexport REDIS_URL='redis://:{QUOTED}@127.0.0.1:{redis}/3' # cache\r\n")
    found = run(capsys, env_file=str(env))
    assert found["verdict"] == "pass"
    assert found["evidence"] == f"redis://127.0.0.1:{redis}/3 answered PONG"
    found = run(capsys, url=f"redis://default:{QUOTED}@127.0.0.1:{redis}")
    assert found["verdict"] == "pass"


def test_a_real_redis_refuses(redis, capsys):
    assert "NOAUTH" in run(capsys, url=f"redis://127.0.0.1:{redis}")["evidence"]
    found = run(capsys, url=f"redis://:wrong-one@127.0.0.1:{redis}")
    assert (found["verdict"], "WRONGPASS" in found["evidence"]) == ("fail", True)
    found = run(capsys, url=f"redis://:{QUOTED}@127.0.0.1:{redis}/99")
    assert (found["verdict"], "out of range" in found["evidence"]) == ("fail", True)


@pytest.mark.parametrize(
    ("reply", "verdict", "message"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "fail", "LOADING"),
        (b"HTTP/1.1 400 Bad Request\r\n", "error", "does not answer as Redis does"),
        (b"", "error", "closed without an answer"),
        (b"+" + b"x" * 70000, "error", "does not answer as Redis does"),
        (b"+NOPE\r\n", "fail", "answered 'NOPE' to PING"),
    ],
)
def test_what_else_may_listen_there(capsys, reply, verdict, message):
    found = run(capsys, url=f"redis://127.0.0.1:{Fake(reply).port}", timeout=1)
    assert found["verdict"] == verdict
    assert message in found["evidence"]


def test_a_server_that_repeats_the_password_is_not_repeated(capsys):
    found = run(
        capsys, url=f"redis://:{QUOTED}@127.0.0.1:{Fake(b'-ERR bad ' + SECRET.encode() + bytes([13, 10])).port}"
    )
    assert found["verdict"] == "fail"
    assert "ERR bad ***" in found["evidence"]


def test_silence_and_absence(capsys):
    listener = socket.create_server(("127.0.0.1", 0))
    found = run(capsys, url=f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
    assert (found["verdict"], "no answer in time" in found["evidence"]) == ("error", True)
    assert "connection refused" in run(capsys, url=f"redis://127.0.0.1:{free_port()}")["evidence"]
    assert run(capsys, url="unix:///nowhere/redis.sock")["verdict"] == "error"


def test_an_address_that_is_missing_or_makes_no_sense(capsys, tmp_path):
    env = tmp_path / ".env"
    assert "can't be read: No such file" in run(capsys, env_file=str(env))["evidence"]
    env.write_text("OTHER=1\n")
    assert "sets no REDIS_URL" in run(capsys, env_file=str(env))["evidence"]
    for url in ("http://x", f"redis://:{SECRET}@h:port", "redis://h/x"):
        assert "can't be read; expected redis://" in run(capsys, url=url)["evidence"]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4))
def test_no_word_can_break_out_of_its_command(words):
    raw = resp.encode(*words)
    count, _, rest = raw.partition(b"\r\n")
    assert count == b"*%d" % len(words)
    found = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size[1:])
        found.append(rest[:length].decode())
        rest = rest[length + 2 :]
    assert found == words
