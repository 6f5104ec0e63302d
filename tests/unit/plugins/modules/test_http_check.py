from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.sparklio.rollback.plugins.modules import http_check as module


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, self.headers["Content-Type"], body))
        if self.path == "/assets":
            # As a form's parser does: the part between its headers and the closing boundary.
            self.server.stored = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
            answer = {"id": 9, "size": len(self.server.stored)}
        else:
            answer = {"id": 5, "status": "success"}
        self.reply(503 if self.path == "/broken" else 201, json.dumps(answer).encode())

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
        known = {
            "/brands": b'[{"id": 3, "name": "first"}]',
            "/none": b"[]",
            "/assets/9/content": self.server.stored,
            "/assets/8/content": b"something else",
        }
        if self.path in known:
            self.reply(200, known[self.path])
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
    httpd.seen, httpd.posted, httpd.stored = [], [], b""
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def run(capsys, checks, check_mode=False, **options):
    given = {"checks": checks, "interval": 0.1, "deadline": 0.5, "_ansible_check_mode": check_mode, **options}
    with patch_module_args(given), pytest.raises(SystemExit):
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


def round_trip(server, asset="{asset}", **last):
    return [
        {"url": server.url + "/brands", "take": {"brand": "0.id"}},
        {
            "url": server.url + "/assets",
            "method": "POST",
            "status": [201],
            "upload": {"name": "rollback-check.txt", "content": "written for brand {brand}: {token}"},
            "take": {"asset": "id", "size": "size"},
        },
        {"url": f"{server.url}/assets/{asset}/content", **last},
    ]


def test_later_steps_use_what_earlier_ones_answered(server, capsys):
    checks = [
        {
            "name": "workflow",
            "steps": [
                {"url": server.url + "/brands", "take": {"brand": "0.id"}},
                {
                    "url": server.url + "/workflows",
                    "method": "POST",
                    "status": [201],
                    "body_json": {"brand_id": "{brand}", "workflow_type": "rollback-check"},
                    "json_field": "status",
                    "json_values": ["success"],
                },
            ],
        },
        {"name": "asset", "steps": round_trip(server, body_uploaded=True)},
    ]
    found = run(capsys, checks)
    assert [item["verdict"] for item in found["verdicts"]] == ["pass", "pass"], found
    assert found["verdicts"][0]["evidence"] == f'POST {server.url}/workflows answered 201, status is "success"'
    assert found["verdicts"][0]["data"]["attempts"] == 2
    assert found["verdicts"][1]["evidence"].endswith(f"the {len(server.stored)} bytes that were uploaded")
    assert server.stored.startswith(b"written for brand 3: ")
    sent = {path: (kind, body) for path, kind, body in server.posted}
    assert sent["/workflows"][0] == "application/json"
    assert json.loads(sent["/workflows"][1]) == {"brand_id": 3, "workflow_type": "rollback-check"}
    assert sent["/assets"][0].startswith("multipart/form-data; boundary=")


def test_a_body_that_is_not_the_one_uploaded_fails(server, capsys):
    checks = [
        {"name": "other", "steps": round_trip(server, asset="8", body_uploaded=True)},
        {"name": "short", "steps": round_trip(server, asset="8", body_size="{size}")},
        {"name": "whole", "steps": round_trip(server, body_size="{size}")},
    ]
    found = run(capsys, checks, deadline=0)
    assert [item["verdict"] for item in found["verdicts"]] == ["fail", "fail", "pass"]
    assert "but not the" in found["verdicts"][0]["evidence"]
    assert "with 14 bytes, expected" in found["verdicts"][1]["evidence"]


def test_what_writes_is_sent_once_and_what_follows_is_not_made(server, capsys):
    steps = [{"url": server.url + "/broken", "method": "POST", "status": [201]}, {"url": server.url + "/health"}]
    found = run(capsys, [{"name": "broken", "steps": steps}])
    assert found["verdicts"][0]["verdict"] == "fail"
    assert f"POST {server.url}/broken answered 503, expected 201" in found["verdicts"][0]["evidence"]
    assert len(server.posted) == 1 and not server.seen


def test_nothing_is_written_in_check_mode(server, capsys):
    checks = [
        {"name": "asset", "steps": round_trip(server)},
        {"name": "health", "url": server.url + "/health"},
    ]
    found = run(capsys, checks, check_mode=True)
    assert not server.posted
    assert [(item["name"], item["verdict"], item["critical"]) for item in found["verdicts"]] == [
        ("asset", "inconclusive", False),
        ("health", "pass", True),
    ]
    assert found["verdicts"][0]["evidence"] == "not made in check mode, since it writes"


def test_nothing_to_check_by_is_inconclusive(server, capsys):
    steps = [{"url": server.url + "/none", "take": {"asset": "0.id"}}, {"url": server.url + "/assets/{asset}"}]
    found = run(capsys, [{"name": "asset", "steps": steps}])
    assert found["verdicts"][0]["verdict"] == "inconclusive"
    assert found["verdicts"][0]["data"]["attempts"] == 1
    assert "nothing to check by" in found["verdicts"][0]["evidence"]


@pytest.mark.parametrize("check", [{"name": "x"}, {"name": "x", "url": "http://h", "steps": [{"url": "http://h"}]}])
def test_a_check_has_one_address_or_steps(capsys, check):
    assert run(capsys, [check])["failed"]
