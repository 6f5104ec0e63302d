from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.modules import http_check as module


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if self.path == "/silent":
            time.sleep(3)
            return
        if self.path == "/drip":
            # A server that never ends its headers outlasts every timeout of a socket.
            for _ in range(30):
                try:
                    self.wfile.write(b"X")
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.1)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/health")
            self.end_headers()
            return
        tries = sum(1 for path, _ in self.server.seen if path == self.path)
        good = self.path != "/late" or tries >= 3
        body = json.dumps({"status": "ok" if good else "starting"}).encode()
        if self.path == "/html":
            body = b"<!DOCTYPE html><html></html>"
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body) + (5 if self.path == "/half" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.seen = []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def run(capsys, checks, **options):
    with patch_module_args({"checks": checks, "interval": 0.1, "deadline": 0.5, **options}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def test_all_verdicts_come_in_the_given_order(server, capsys):
    found = run(
        capsys,
        [
            {"name": "health", "url": server.url + "/health", "json_field": "status", "json_values": ["ok"]},
            {"name": "gone", "url": "http://127.0.0.1:1/", "critical": False},
            {"name": "frontend", "url": server.url + "/html", "contains": "<html"},
            {"name": "moved", "url": server.url + "/moved"},
        ],
    )
    assert [(item["name"], item["verdict"], item["critical"]) for item in found["verdicts"]] == [
        ("health", "pass", True),
        ("gone", "error", False),
        ("frontend", "pass", True),
        ("moved", "pass", True),
    ]
    assert found["verdict"] == "pass"
    assert found["verdicts"][0]["data"]["status"] == 200
    assert "connection refused" in found["verdicts"][1]["evidence"]


def test_a_wrong_answer_is_a_fail_and_none_is_an_error(server, capsys):
    found = run(
        capsys,
        [
            {"name": "wrong", "url": server.url + "/health", "json_field": "status", "json_values": ["healthy"]},
            {"name": "missing", "url": server.url + "/missing"},
            {"name": "half", "url": server.url + "/half"},
            {"name": "file", "url": "file:///etc/passwd"},
        ],
        deadline=0,
    )
    assert [item["verdict"] for item in found["verdicts"]] == ["fail", "fail", "error", "error"]
    assert 'status is "ok", expected "healthy"' in found["verdicts"][0]["evidence"]
    assert "answered 404, expected 200" in found["verdicts"][1]["evidence"]
    assert "broke off" in found["verdicts"][2]["evidence"]
    assert "no URL" in found["verdicts"][3]["evidence"]
    assert found["verdict"] == "fail"


def test_it_tries_until_the_answer_is_good(server, capsys):
    check = {"name": "late", "url": server.url + "/late", "json_field": "status", "json_values": ["ok"]}
    found = run(capsys, [check], deadline=5)
    assert found["verdicts"][0]["verdict"] == "pass"
    assert found["verdicts"][0]["data"]["attempts"] == 3


def test_checks_run_at_the_same_time_and_silence_has_an_end(server, capsys):
    start = time.monotonic()
    checks = [{"name": str(number), "url": server.url + "/silent", "deadline": 0} for number in range(8)]
    found = run(capsys, [*checks, {"name": "drip", "url": server.url + "/drip"}], timeout=0.3)
    assert time.monotonic() - start < 2.5
    assert {item["verdict"] for item in found["verdicts"]} == {"error"}
    assert "no answer in time" in found["verdicts"][0]["evidence"]


def test_headers_are_sent_and_never_shown(server, capsys, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    check = {"name": "health", "url": server.url + "/health", "headers": {"Authorization": "Bearer hunter22"}}
    found = run(capsys, [check])
    assert server.seen[0][1]["Authorization"] == "Bearer hunter22"
    assert found["verdicts"][0]["verdict"] == "pass"
    assert "hunter22" not in json.dumps(found)


def test_a_password_in_the_address_is_used_and_masked(server, capsys):
    found = run(capsys, [{"name": "x", "url": server.url.replace("//", "//user:hunter22@") + "/health"}])
    assert server.seen[0][1]["Authorization"] == "Basic dXNlcjpodW50ZXIyMg=="
    assert "hunter22" not in json.dumps(found["verdicts"])
    found = run(capsys, [{"name": "x", "url": "http://user:hunter22@127.0.0.1:1/"}], deadline=0)
    assert "hunter22" not in json.dumps(found["verdicts"])
