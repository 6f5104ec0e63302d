from __future__ import annotations

import threading

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import redis_ping
from ansible_collections.sparklio.rollback.plugins.modules import system_check as module


def endpoint(port, **more):
    return {"name": "health", "url": f"http://127.0.0.1:{port}/", **more}


def test_all_are_asked_at_the_same_time(call, port, tmp_path, monkeypatch):
    # Each waits for the others: one after another, the barrier would break.
    barrier = threading.Barrier(len(module.PARTS), timeout=5)

    def wait(*_arguments):
        barrier.wait()
        return {"verdict": "pass", "evidence": ""}

    for part in module.PARTS.values():
        if part is not module.error_rate:
            monkeypatch.setattr(part, "answer", wait)
    monkeypatch.setattr(module.error_rate, "prepare", lambda params: wait)
    env_file = str(tmp_path / ".env")
    found = call(
        module,
        http={"checks": [endpoint(port)]},
        database={"backend_dir": str(tmp_path)},
        redis={"env_file": env_file},
        objects={"env_file": env_file},
        serving={
            "root": str(tmp_path), "commit": "a", "since": 0, "metrics_url": "http://x/metrics", "frontend_url": "http://x",
        },
        error_rate={"urls": ["http://127.0.0.1:1/metrics"]},
    )  # fmt: skip
    assert {name: found[name]["verdict"] for name in module.PARTS} == dict.fromkeys(module.PARTS, "pass")


def test_each_answers_as_its_own_module_does(call, port, tmp_path):
    (tmp_path / ".env").write_text(f"REDIS_URL=redis://:hunter22@127.0.0.1:{port}/0\n")
    found = call(
        module,
        http={"checks": [endpoint(port)], "deadline": "0"},
        database={"backend_dir": str(tmp_path)},
        redis={"env_file": str(tmp_path / ".env")},
        objects={"env_file": str(tmp_path / ".env")},
        error_rate={"urls": [f"http://127.0.0.1:{port}/metrics"], "window": 0.1, "deadline": 0.1, "interval": 0.1},
    )
    assert [item["name"] for item in found["http"]["verdicts"]] == ["health"]
    assert found["http"]["verdict"] == "fail" and "refused" in found["http"]["verdicts"][0]["evidence"]
    assert found["database"]["verdict"] == "error" and "alembic.ini" in found["database"]["evidence"]
    assert found["redis"]["verdict"] == "error" and "refused" in found["redis"]["evidence"]
    assert found["objects"]["verdict"] == "inconclusive"
    assert found["error_rate"]["verdict"] == "error"
    assert "hunter22" not in str(found)
    assert "serving" not in found


def test_one_that_breaks_spoils_no_other(call, port, tmp_path, monkeypatch):
    monkeypatch.setattr(redis_ping, "check", lambda params: 1 / 0)
    found = call(module, http={"checks": [endpoint(port)], "deadline": 0}, redis={"env_file": str(tmp_path / ".env")})
    assert found["redis"]["verdict"] == "error" and "ZeroDivisionError" in found["redis"]["evidence"]
    assert "refused" in found["http"]["verdicts"][0]["evidence"]


def test_what_writes_is_not_made_in_check_mode(call, port):
    found = call(module, check=True, http={"checks": [endpoint(port, method="POST")]})
    assert found["http"]["verdicts"][0]["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http": {}}, "The settings of http can't be used: missing required arguments: checks"),
        ({"http": {"checks": [{"name": "x", "url": "http://x", "headers": {"A": "hunter22"}}]}}, "headers"),
        ({"redis": {"url": "redis://:hunter22@x"}}, "url"),
        ({"redis": {}}, "missing required arguments: env_file"),
        ({"database": {"backend_dir": "/x", "deadlin": 1}}, "deadlin"),
        ({"serving": {"root": "/x"}}, "commit"),
        ({"error_rate": {"urls": ["http://x"], "window": -1}}, "window must be over 0"),
    ],
)
def test_settings_that_make_no_sense(call, options, message):
    found = call(module, **options)
    assert found["failed"] and message in found["msg"]
