"""What looks for secrets on the app host must be able to find them: each place where one can turn up turns it red."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "molecule/shared"
SECRET = "hunter2-hunter2"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "canaries.json").write_text(json.dumps(["cnry-", SECRET]))
    point = tmp_path / "app.rollback/backups/20250115T070000Z-deploy"
    run = tmp_path / "app.rollback/runs/one"
    for path, text in (
        (point / "environment/backend/.env", f"A=cnry-1\nB={SECRET}\n"),
        (point / "objects/objects.jsonl", '{"key": "cnry-object"}\n'),
        (point / "manifest.json", "{}"),
        (run / "journal.jsonl", "{}\n"),
        (run / "displaced/frontend/.env.local", "A=cnry-2\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder, _folders, names in os.walk(tmp_path / "app.rollback"):
        os.chmod(folder, 0o700)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o600)
    return tmp_path


def traces(home, messages=()):
    """Run it with a system's journal that says this, each as who and what. Returns the exit code and the lines."""
    tools = home / "bin"
    tools.mkdir(exist_ok=True)
    lines = [json.dumps({"SYSLOG_IDENTIFIER": who, "MESSAGE": text}) for who, text in messages]
    (home / "system.log").write_text("".join(line + "\n" for line in lines))
    for name, text in (("journalctl", f"cat {home}/system.log"), ("sudo", 'shift; exec "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, str(SHARED / "traces.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == "" and SECRET not in done.stdout
    return done.returncode, done.stdout.split("\n", 1)[1].strip()


def test_copies_of_the_files_are_what_restore_points_are_for(home):
    assert traces(home, [("ansible-stat", "Invoked with path=/x"), ("swift-proxy", "GET /cnry-object")]) == (0, "")


@pytest.mark.parametrize("text", ["cnry-secret", SECRET])
@pytest.mark.parametrize("name", ["manifest.json", "elsewhere.json", "services/services.json"])
def test_a_secret_in_a_restore_point_is_found(home, name, text):
    path = home / "app.rollback/backups/20250115T070000Z-deploy" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(f'{{"message": "{text}"}}')
    path.chmod(0o600)
    assert traces(home) == (1, f"{path} has a canary in it")


def test_a_secret_in_a_journal_is_found(home):
    path = home / "app.rollback/runs/one/journal.jsonl"
    path.write_text('{"message": "cnry-1"}\n')
    assert traces(home) == (1, f"{path} has a canary in it")


@pytest.mark.parametrize("who", ["ansible-sparklio.rollback.config_diff", "sudo"])
def test_a_secret_in_the_system_s_journal_is_found(home, who):
    code, said = traces(home, [(who, f"Invoked with url=redis://:{SECRET}@x")])
    assert code == 1 and who in said


@pytest.mark.parametrize(
    ("name", "mode"),
    [("runs/one/journal.jsonl", 0o644), ("backups", 0o755), ("backups/20250115T070000Z-deploy/manifest.json", 0o640)],
)
def test_what_others_can_read_is_found(home, name, mode):
    path = home / "app.rollback" / name
    path.chmod(mode)
    assert traces(home) == (1, f"{path} has the mode {mode:o}")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="there is no /proc")
def test_a_secret_on_a_command_line_is_found_until_the_sign_is_removed(home):
    sign, found = home / "canary-sampling", home / "canary-sampled"
    sign.touch()
    # Not the other: a scenario's own commands may have it, where one runs on this machine.
    (home / "canaries.json").write_text(json.dumps([SECRET]))
    environment = {**os.environ, "HOME": str(home)}
    sampler = subprocess.Popen([sys.executable, str(SHARED / "sampler.py"), "60"], env=environment)
    try:
        shown = subprocess.Popen(["sh", "-c", f"sleep 20; : {SECRET}"])
        try:
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and not (found.exists() and "sh -c" in found.read_text()):
                time.sleep(0.1)
        finally:
            shown.kill()
            shown.wait()
        looks, *hits = found.read_text().splitlines()
        assert looks.split()[1] == "1" and [hit.strip() for hit in hits] == ["sh -c sleep 20; : ***"]
        sign.unlink()
        assert sampler.wait(timeout=15) == 0
    finally:
        sampler.kill()
        sampler.wait()
