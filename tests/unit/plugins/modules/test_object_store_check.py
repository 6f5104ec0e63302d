from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.modules import object_store_check as module

LISTING = b'<?xml version="1.0"?><ListBucketResult><Name>sparklio-assets</Name></ListBucketResult>'
SECRET = "hunter22hunter22"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.seen, httpd.answer = [], (200, LISTING)
    httpd.place = f"127.0.0.1:{httpd.server_port}"
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def run(call, tmp_path):
    def check(text, **options):
        path = tmp_path / ".env"
        path.write_text(text)
        found = call(module, env_file=str(path), timeout=2, **options)
        assert SECRET not in str(found)
        return found

    return check


def test_the_bucket_is_asked_for_with_the_applications_own_keys(server, run):
    text = f"S3_ENDPOINT=http://{server.place}/\nS3_ACCESS_KEY=app\nS3_SECRET_KEY={SECRET}\nS3_REGION=eu-west-1\n"
    found = run(text)
    assert (found["verdict"], found["evidence"]) == (
        "pass",
        f"http://{server.place} shows the bucket sparklio-assets",
    )
    ((path, headers),) = server.seen
    assert path == "/sparklio-assets?list-type=2&max-keys=1"
    assert "Credential=app/" in headers["Authorization"] and "/eu-west-1/s3/" in headers["Authorization"]
    assert SECRET not in str(headers)


def test_the_usual_names_and_an_address_without_a_scheme_will_do(server, run):
    text = f"MINIO_ENDPOINT={server.place}\nMINIO_ACCESS_KEY=app\nMINIO_SECRET_KEY={SECRET}\nMINIO_BUCKET=other one\n"
    assert run(text)["verdict"] == "pass"
    assert server.seen[0][0].startswith("/other%20one?")
    own = run(f"STORE=http://{server.place}\nBUCKET=b\n", env_keys={"endpoint": ["STORE"], "bucket": ["BUCKET"]})
    assert own["verdict"] == "pass" and server.seen[1][0].startswith("/b?")
    assert run("", endpoint=server.place, bucket="given")["verdict"] == "pass"


@pytest.mark.parametrize(
    ("answer", "keys", "verdict", "evidence"),
    [
        ((403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"), True, "fail", "403 (SignatureDoesNotMatch)"),
        (
            (404, b"<Error><Code>NoSuchBucket</Code></Error>"),
            True,
            "fail",
            "404 (NoSuchBucket) when asked for the bucket",
        ),
        ((503, b"busy"), True, "fail", "answered 503 when"),
        ((200, b"<html>a proxy's page</html>"), True, "fail", "answered 200 when"),
        ((403, b"<Error><Code>AccessDenied</Code></Error>"), False, "inconclusive", "holds no keys"),
    ],
)
def test_an_answer_that_shows_no_bucket_never_passes(server, run, answer, keys, verdict, evidence):
    server.answer = answer
    text = f"S3_ENDPOINT=http://{server.place}\n" + (f"S3_ACCESS_KEY=app\nS3_SECRET_KEY={SECRET}\n" if keys else "")
    found = run(text)
    assert found["verdict"] == verdict
    assert evidence in found["evidence"]


def test_no_server_no_address_and_no_file_are_told_apart(call, run):
    gone = run(f"S3_ENDPOINT=http://user:{SECRET}@127.0.0.1:1\nS3_ACCESS_KEY=a\nS3_SECRET_KEY={SECRET}")
    assert gone["verdict"] == "error" and "connection refused" in gone["evidence"]
    assert gone["server"] == "http://user:***@127.0.0.1:1"
    assert run("REDIS_URL=x")["verdict"] == "inconclusive"
    missing = call(module, env_file="/nowhere/.env")
    assert missing["verdict"] == "error" and "can't be read: No such file" in missing["evidence"]
