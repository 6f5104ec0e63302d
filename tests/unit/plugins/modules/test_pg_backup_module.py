"""What needs no server: the session's framing, programs that die with us, and directories that are whole or not there.

The real thing is tried in tests/integration/test_pg_backup.py.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest, _postgres, postgres
from ansible_collections.sparklio.rollback.plugins.modules import pg_backup, pg_verify

FAKE_PSQL = r"""
import re, sys, time
sql, failed = "", ""
for line in sys.stdin:
    if line.startswith("\\echo "):
        text = line[6:].rstrip("\n")
        if ":LAST_ERROR_MESSAGE" in text:
            print(failed, flush=True)
            continue
        state = ("true", "57014") if failed else ("false", "00000")
        print(text.replace(":ERROR", state[0]).replace(":SQLSTATE", state[1]), flush=True)
        if text.endswith("-end"):
            sql, failed = "", ""
    elif line.startswith("\\if"):
        skip = not failed
        if skip:
            for line in sys.stdin:
                if line.startswith("\\endif"):
                    break
    elif line.startswith("\\endif"):
        pass
    elif line.strip() == ";":
        if "fail" in sql:
            failed = "ERROR:  it failed for secret"
        elif "sleep" in sql:
            time.sleep(30)
        elif "leave" in sql:
            sys.exit("FATAL:  the secret connection was lost")
        else:
            print(sql.strip(), flush=True)
    else:
        sql += line
"""


@pytest.fixture
def session(tmp_path):
    program = tmp_path / "psql"
    program.write_text(f"#!{sys.executable}\n{FAKE_PSQL}")
    program.chmod(0o755)
    with postgres.Session([str(program)], dict(os.environ), "secret") as made:
        yield made


def test_each_question_has_its_own_answer(session):
    assert session.ask("one\ntwo") == "one\ntwo"
    assert session.json('{"한글": "-end\\n-state"}') == {"한글": "-end\n-state"}
    assert session.ask("x" * 300_000) == "x" * 300_000


def test_an_answer_that_looks_like_the_end_is_not(session):
    assert session.ask("sparklio-0-end\nsparklio--state true") == "sparklio-0-end\nsparklio--state true"


def test_an_error_is_told_without_the_secret_and_the_session_goes_on(session):
    with pytest.raises(postgres.PostgresError, match=r"it failed for \*\*\*") as caught:
        session.ask("fail")
    assert caught.value.state == "57014"
    assert session.ask("more") == "more"


def test_a_question_has_a_deadline(session):
    began = time.monotonic()
    with pytest.raises(postgres.PostgresError, match="no answer within 0 s"):
        session.ask("sleep", 0.2)
    assert time.monotonic() - began < 3
    assert session.process.poll() is not None


def test_a_lost_session_says_why(session):
    with pytest.raises(postgres.PostgresError, match=r"FATAL: the \*\*\* connection was lost"):
        session.ask("leave")
    with pytest.raises(postgres.PostgresError):
        session.ask("more")


def test_a_program_that_is_missing():
    with pytest.raises(postgres.PostgresError, match="can't be run"):
        postgres.Session(["/nowhere/psql"], {})


def test_a_childs_failure_is_told():
    script = "echo said; echo 'pg_dump: error: no secret' >&2; exit 3"
    with pytest.raises(postgres.PostgresError, match=r"^pg_dump: error: no \*\*\*$"):
        postgres.Child(["/bin/sh", "-c", script], dict(os.environ), "secret").wait(time.monotonic() + 20)
    postgres.Child(["/bin/true"], dict(os.environ)).wait(time.monotonic() + 20)


def test_a_child_is_stopped_at_its_deadline_and_by_its_tick():
    child = postgres.Child(["/bin/sleep", "60"], dict(os.environ))
    with pytest.raises(postgres.PostgresError, match="not done in time"):
        child.wait(time.monotonic() + 0.1)

    def tick():
        raise postgres.PostgresError("the disk got full")

    child = postgres.Child(["/bin/sleep", "60"], dict(os.environ))
    with pytest.raises(postgres.PostgresError, match="the disk got full"):
        child.wait(time.monotonic() + 20, tick, every=0.05)


def test_a_child_and_its_children_die_with_us_even_by_sigkill(tmp_path):
    script = (
        "import os, sys, time\n"
        "from ansible_collections.sparklio.rollback.plugins.module_utils import postgres\n"
        f"postgres.Child(['/bin/sh', '-c', 'cd {tmp_path}; sleep 61 & echo $! >t; mv t pid; wait'], dict(os.environ))\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
        assert running(pid)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while running(pid):
        assert time.monotonic() < deadline, "the grandchild lives on"
        time.sleep(0.02)


def running(pid: int) -> bool:
    out = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(out.strip()) and not out.strip().startswith("Z")


def test_a_directory_appears_whole(tmp_path):
    dest = tmp_path / "database"
    with pg_backup.unfinished(str(dest)) as partial:
        assert not dest.exists()
        pg_backup.write(f"{partial}/file", "x")
    assert os.listdir(tmp_path) == ["database"]
    assert (dest / "file").read_text() == "x"
    assert (dest.stat().st_mode & 0o777, (dest / "file").stat().st_mode & 0o777) == (0o700, 0o600)


def test_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), pg_backup.unfinished(str(tmp_path / "database")) as partial:
        pg_backup.write(f"{partial}/file", "x")
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_what_was_left_is_taken_over_but_not_what_somebody_writes(tmp_path):
    left = tmp_path / ".partial-database"
    (left / "dump").mkdir(parents=True)
    (left / "dump" / "old").write_text("x")
    (left / "roles.sql").write_text("x")
    fd = os.open(left, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with (
        pytest.raises(postgres.PostgresError, match="another backup is writing"),
        pg_backup.unfinished(str(tmp_path / "database")),
    ):
        pass
    assert (left / "roles.sql").exists()
    os.close(fd)
    with pg_backup.unfinished(str(tmp_path / "database")) as partial:
        assert os.listdir(partial) == []
    with (
        pytest.raises(postgres.PostgresError, match="exists already"),
        pg_backup.unfinished(str(tmp_path / "database")),
    ):
        pass


def test_the_address_is_asked_for(call, tmp_path):
    (tmp_path / ".env").write_text("REDIS_URL=redis://x\n")
    found = call(pg_backup, env_file=str(tmp_path / ".env"), dest=str(tmp_path / "database"))
    assert "sets no DATABASE_URL" in found["msg"]
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///canary\n")
    found = call(pg_backup, env_file=str(tmp_path / ".env"), dest=str(tmp_path / "database"))
    assert "it is no URL of PostgreSQL" in found["msg"] and "canary" not in found["msg"]
    assert os.listdir(tmp_path) == [".env"]


def test_checksums_alone_need_no_server(call, tmp_path):
    database = tmp_path / "database"
    database.mkdir()
    (database / "content.json").write_text("{}")
    artifact = pg_backup.artifact("database", str(database), {}, 0)
    options = {"path": str(database), "artifact": artifact, "how": "checksum"}
    assert call(pg_verify, **options)["verdict"] == "pass"
    (database / "extra").write_text("x")
    found = call(pg_verify, **options)
    assert (found["verdict"], found["evidence"]) == ("fail", "database/extra is in no manifest")
    (database / "extra").unlink()
    (database / "content.json").write_text("[]")
    assert "database/content.json was altered" in call(pg_verify, **options)["evidence"]
    outside = {**artifact, "files": [{**artifact["files"][0], "path": "../secret"}]}
    assert "outside" in call(pg_verify, path=str(database), artifact=outside, how="checksum")["evidence"]


def test_without_a_manifest_nothing_passes(call, tmp_path):
    (tmp_path / "database").mkdir()
    assert call(pg_verify, path=str(tmp_path / "database"), how="checksum")["verdict"] == "fail"
    found = call(pg_verify, path=str(tmp_path / "database"), artifact={"files": []}, how="checksum")
    assert found["verdict"] == "fail"


class Answers:
    """A session that has its answers by heart."""

    def __init__(self, **who):
        self.who = {"user": "app", "superuser": False, "createdb": True, "system": "1", "number": 150000, **who}
        self.extensions = []

    def json(self, question):
        if question == _postgres.SERVER:
            return {**self.who, "version": "15", "bytes": 1}
        # Of the extensions that are asked for, none is trusted.
        return self.extensions if question == _content_manifest.EXTENSIONS else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize(
    ("who", "extensions", "message"),
    [
        ({"createdb": False}, [], "app may not make databases"),
        ({}, [{"name": "vector", "schema": "public"}], "app may not make the extension vector"),
    ],
)
def test_who_can_not_verify_does_not_wait_for_the_dump(call, tmp_path, monkeypatch, who, extensions, message):
    session = Answers(**who)
    session.extensions = extensions
    monkeypatch.setattr(postgres, "connect", lambda *_: session)
    monkeypatch.setattr(postgres, "admin_session", lambda *_: session)
    monkeypatch.setattr(postgres.Tools, "for_server", lambda *_: None)

    def reached(*_):
        raise postgres.PostgresError("the dump was begun")

    monkeypatch.setattr(pg_backup, "room", reached)
    options = {"url": "postgresql://app@127.0.0.1/app", "dest": str(tmp_path / "database")}
    failed = call(pg_backup, **options, verifiable=True)["msg"]
    assert message in failed and "-e backup_verify=checksum" in failed
    assert "the dump was begun" in call(pg_backup, **options)["msg"]
    assert os.listdir(tmp_path) == []
