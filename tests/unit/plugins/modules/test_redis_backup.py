from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from threading import Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _redis, resp
from ansible_collections.sparklio.rollback.plugins.modules import redis_backup as module
from hypothesis import given
from hypothesis import strategies as st

SECRET = "canary-p@ss"
RDB = b"REDIS0010" + b"\x00body" * 50 + b"\xff" + b"12345678"
INFO = b"# Server\r\nredis_version:7.0.15\r\naof_enabled:1\r\n# Keyspace\r\ndb0:keys=12,expires=0\r\ndb3:keys=1\r\n"
OK = b"+OK\r\n"


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


class Fake:
    """Answers each command with the next reply; None ends the connection."""

    def __init__(self, *replies: bytes):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.replies, self.seen = replies, []
        Thread(target=self.serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://:canary-p%40ss@127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self):
        connection, _ = self.listener.accept()
        for reply in self.replies:
            self.seen.append(connection.recv(4096))
            connection.sendall(reply)
        connection.close()


@pytest.fixture(autouse=True)
def no_tool(monkeypatch):
    monkeypatch.setattr(module.AnsibleModule, "get_bin_path", lambda *_args, **_more: None)


def backup(call, tmp_path, server, **options):
    found = call(module, **{"url": server.url, "dest": str(tmp_path / "redis"), "timeout": 2, **options})
    assert SECRET not in str(found)
    return found


def test_what_the_server_sends_is_kept(call, tmp_path):
    server = Fake(OK, bulk(INFO), OK, b"\n\n\n$%d\r\n" % len(RDB) + RDB + b"*1\r\n$4\r\nPING\r\n")
    artifact = backup(call, tmp_path, server)["artifact"]
    assert (tmp_path / "redis/dump.rdb").read_bytes() == RDB
    assert os.stat(tmp_path / "redis/dump.rdb").st_mode & 0o777 == 0o600
    assert artifact["files"][0]["path"] == "redis/dump.rdb" and artifact["size"] == len(RDB)
    assert artifact["meta"] == {
        "server": server.url.replace(":canary-p%40ss@", "") + "/0",
        "redis_version": "7.0.15",
        "keys": {"0": 12, "3": 1},
        "appendonly": True,
        "checked_by": "its beginning and end",
    }
    assert [raw.split(b"\r\n")[2] for raw in server.seen] == [b"AUTH", b"INFO", b"REPLCONF", b"SYNC"]


def test_an_older_server_without_rdb_only(call, tmp_path):
    server = Fake(OK, bulk(INFO), b"-ERR Unrecognized REPLCONF option: rdb-only\r\n", b"$%d\r\n" % len(RDB) + RDB)
    assert backup(call, tmp_path, server)["changed"]


def test_a_dry_run_asks_and_writes_nothing(call, tmp_path):
    artifact = backup(call, tmp_path, Fake(OK, bulk(INFO)), check=True)["artifact"]
    assert artifact["files"] == [] and artifact["meta"]["keys"] == {"0": 12, "3": 1}
    assert not (tmp_path / "redis").exists()


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([b"-WRONGPASS invalid username-password pair\r\n"], "refused: WRONGPASS"),
        ([OK, b"-NOPERM no permissions to run INFO\r\n"], "refused: NOPERM"),
        ([OK, bulk(INFO), OK, b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n"], "NOMASTERLINK"),
        ([OK, bulk(INFO), OK, b"\n"], "sent no copy of its data: the connection was closed"),
        ([OK, bulk(INFO), OK, b"$%d\r\n" % len(RDB) + RDB[:99]], f"(99 of {len(RDB)} bytes came)"),
        ([OK, bulk(INFO), OK, b"$EOF:" + b"0" * 40 + b"\r\n"], "does not answer SYNC as Redis does"),
        ([OK, bulk(INFO), OK, b"$9\r\nREDIS0010"], "is damaged: it does not end as an RDB file does"),
        ([OK, bulk(INFO), OK, b"$%d\r\n" % (1 << 60)], "Free some space there"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "does not answer as Redis does"),
    ],
)
def test_what_can_go_wrong(call, tmp_path, replies, message):
    failed = backup(call, tmp_path, Fake(*replies))
    assert failed["failed"] and message in failed["msg"], failed
    assert not (tmp_path / "redis/dump.rdb").exists()


def test_nothing_listens_there(call, tmp_path, port):
    failed = call(module, url=f"redis://127.0.0.1:{port}", dest=str(tmp_path / "redis"))
    assert "connection refused" in failed["msg"] and "Start Redis" in failed["msg"]
    failed = call(module, env_file=str(tmp_path / ".env"), dest=str(tmp_path / "redis"))
    assert "can't be read" in failed["msg"]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_a_real_redis(call, tmp_path, port):
    settings = tmp_path / "redis.conf"
    settings.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass "{SECRET}"\ndir {tmp_path}\n')
    process = subprocess.Popen(["redis-server", str(settings)], stdout=subprocess.DEVNULL)
    try:
        target = resp.parse_url(f"redis://:canary-p%40ss@127.0.0.1:{port}")
        for _ in range(100):
            try:
                with resp.Connection(target, 1) as connection:
                    connection.login()
                    connection.call("SET", "열쇠", "값")
                break
            except (resp.NoAnswer, resp.Refused):
                time.sleep(0.05)
        found = call(module, url=f"redis://:canary-p%40ss@127.0.0.1:{port}", dest=str(tmp_path / "redis"))
        assert found["artifact"]["meta"]["keys"] == {"0": 1}
    finally:
        process.terminate()
        process.wait()


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_judged(head, tail):
    assert _redis.rdb_problem(head, tail) is None or not (head.startswith(b"REDIS") and tail[-9:] == RDB[-9:])
    assert _redis.rdb_problem(RDB[:9], RDB[-9:]) is None


def test_keys_of_each_database():
    assert _redis.keys(_redis.parse_info("db0:keys=5,expires=1\r\ndbsize:keys=9\r\nx\r\ndb12:keys=1")) == {
        "0": 5,
        "12": 1,
    }
