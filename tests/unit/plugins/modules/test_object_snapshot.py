from __future__ import annotations

import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _s3, restore_points, s3, transfer
from ansible_collections.sparklio.rollback.plugins.modules import object_snapshot as module
from hypothesis import given
from hypothesis import strategies as st

POINT = "20250115T070000Z-deploy"
SNAPSHOT = "sparklio-assets-backup-20250115t070000z-deploy"
SECRET = "canary-secret-key"


class Server:
    """As much of S3 as it takes, with pages of two objects. ``faults`` answer a method and path instead.

    ``on_create`` answer once a bucket was made, ``kms`` are buckets whose objects are encrypted with a key of KMS, and
    ``places`` the regions that it knows, if not all.
    """

    def __init__(self):
        self.buckets = {"sparklio-assets": {}}
        self.faults, self.on_copy, self.asked, self.lock = {}, [], [], Lock()
        self.on_create, self.bodies, self.kms, self.places = [], [], set(), None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(headers.pop("size", len(body))))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def error(self, status, code):
                self.reply(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

            def handle_any(self):
                parts = urlsplit(self.path)
                bucket, _slash, key = unquote(parts.path).lstrip("/").partition("/")
                with outer.lock:
                    outer.asked.append(f"{self.command} {self.path}")
                    fault = outer.faults.get((self.command, bucket, bool(key)))
                    if fault:
                        status, code = fault.pop(0) if isinstance(fault, list) else fault
                        return self.error(status, code)
                    assert f"Credential=key/{self.headers['X-Amz-Date'][:8]}/" in self.headers["Authorization"]
                    getattr(self, f"s3_{self.command.lower()}")(bucket, key, parse_qs(parts.query, True))

            do_GET = do_PUT = do_HEAD = do_DELETE = handle_any

            def s3_get(self, bucket, key, query):
                if bucket not in outer.buckets:
                    return self.error(404, "NoSuchBucket")
                start = query.get("continuation-token", [""])[0]
                prefix = query["prefix"][0]
                keys = sorted(name for name in outer.buckets[bucket] if name.startswith(prefix) and name > start)
                page, more = keys[:2], keys[2:]
                rows = "".join(
                    f"<Contents><Key>{escape(quote(name))}</Key><Size>{len(outer.buckets[bucket][name])}</Size>"
                    f"<ETag>&quot;{outer.etag(bucket, name)}&quot;</ETag></Contents>"
                    for name in page
                )
                token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
                self.reply(
                    200,
                    f"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><EncodingType>url</EncodingType>"
                    f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{rows}</ListBucketResult>".encode(),
                )

            def s3_put(self, bucket, key, query):
                if not key:
                    return self.create(bucket, self.rfile.read(int(self.headers["Content-Length"])).decode())
                source, _slash, name = unquote(self.headers["x-amz-copy-source"]).lstrip("/").partition("/")
                if outer.on_copy:
                    outer.on_copy.pop(0)()
                if name not in outer.buckets[source]:
                    return self.error(404, "NoSuchKey")
                if self.headers["x-amz-copy-source-if-match"].strip('"') != outer.etag(source, name):
                    return self.error(412, "PreconditionFailed")
                outer.buckets[bucket][key] = outer.buckets[source][name]
                answer = f"<CopyObjectResult><ETag>&quot;{outer.etag(bucket, key)}&quot;</ETag></CopyObjectResult>"
                self.reply(200, answer.encode(), **self.encryption(bucket))

            def create(self, bucket, body):
                outer.bodies.append(body)
                if outer.places is not None and body and not any(place in body for place in outer.places):
                    return self.error(400, "InvalidLocationConstraint")
                if bucket in outer.buckets:
                    return self.error(409, "BucketAlreadyOwnedByYou")
                outer.buckets[bucket] = {}
                return outer.on_create.pop(0)(self) if outer.on_create else self.reply(200)

            def encryption(self, bucket):
                return {"x-amz-server-side-encryption": "aws:kms" if bucket in outer.kms else "AES256"}

            def s3_head(self, bucket, key, query):
                if key not in outer.buckets[bucket]:
                    return self.reply(404)
                about = {"ETag": f'"{outer.etag(bucket, key)}"', **self.encryption(bucket)}
                self.reply(200, size=len(outer.buckets[bucket][key]), **about)

            def s3_delete(self, bucket, key, query):
                if key:
                    outer.buckets[bucket].pop(key, None)
                elif outer.buckets.get(bucket):
                    return self.error(409, "BucketNotEmpty")
                else:
                    outer.buckets.pop(bucket, None)
                self.reply(204)

            def log_message(self, *args):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    def etag(self, bucket, key):
        salt = bucket.encode() if bucket in self.kms else b""
        return hashlib.md5(salt + self.buckets[bucket][key]).hexdigest()


@pytest.fixture
def server():
    found = Server()
    found.buckets["sparklio-assets"].update(
        {"a/1.png": b"one", "a/한글 이름+&.png": b"two", "b/3.png": b"three", "b//./4": b"", "c": b"five"}
    )
    yield found
    found.httpd.shutdown()


@pytest.fixture
def snapshot(call, server, tmp_path, monkeypatch):
    monkeypatch.setattr(s3.time, "sleep", lambda _: None)
    env = tmp_path / ".env"
    env.write_text(
        f"S3_ENDPOINT=http://127.0.0.1:{server.httpd.server_port}\nS3_ACCESS_KEY=key\nS3_SECRET_KEY={SECRET}\n"
    )

    def run(**options):
        found = call(
            module, **{"env_file": str(env), "id": POINT, "dest": str(tmp_path / "objects"), "parallel": 2, **options}
        )
        assert SECRET not in str(found)
        return found

    return run


def test_all_objects_are_copied_over_several_pages(server, snapshot, tmp_path):
    artifact = snapshot()["artifact"]
    assert server.buckets[SNAPSHOT] == server.buckets["sparklio-assets"]
    assert (artifact["meta"]["objects"], artifact["meta"]["bytes"], artifact["meta"]["vanished"]) == (5, 15, 0)
    assert artifact["meta"]["snapshot"] == SNAPSHOT
    lines = (tmp_path / "objects/objects.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == sorted(server.buckets["sparklio-assets"])
    assert artifact["files"][0]["path"] == "objects/objects.jsonl"


def test_prefixes_that_overlap(server, snapshot):
    artifact = snapshot(prefixes=["b/", "b/3", "c"])["artifact"]
    assert sorted(server.buckets[SNAPSHOT]) == ["b//./4", "b/3.png", "c"]
    assert artifact["meta"]["objects"] == 3


def test_a_dry_run_lists_only(server, snapshot, tmp_path):
    assert snapshot(check=True)["artifact"]["meta"]["objects"] == 5
    assert list(server.buckets) == ["sparklio-assets"] and not (tmp_path / "objects").exists()


def test_what_changes_meanwhile(server, snapshot):
    bucket = server.buckets["sparklio-assets"]
    server.on_copy = [lambda: (bucket.update({"a/1.png": b"newer", "c": b"newest"}), bucket.pop("b/3.png"))]
    artifact = snapshot()["artifact"]
    assert artifact["meta"]["vanished"] == 1 and artifact["meta"]["objects"] == 4
    assert server.buckets[SNAPSHOT]["a/1.png"] == b"newer" and server.buckets[SNAPSHOT]["c"] == b"newest"


def test_how_far_it_is_is_told(server, snapshot, monkeypatch, tmp_path):
    path, told = tmp_path / "objects.progress", []
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=iter(range(1000)).__next__))
    monkeypatch.setattr(transfer, "tell", lambda path, **state: told.append((path, state.get("done"))))
    assert snapshot(progress=str(path))["artifact"]["meta"]["objects"] == 5
    # In the order of their keys; what is begun is not done.
    sizes = [len(server.buckets[SNAPSHOT][key]) for key in sorted(server.buckets[SNAPSHOT])]
    assert [done for _path, done in told if done is not None] == [sum(sizes[:count]) for count in range(5)]
    told.clear()
    assert snapshot(id="20250115T070001Z-deploy")["artifact"]["meta"]["objects"] == 5 and told == []


def test_what_nobody_waits_for_is_not_copied_on(server, snapshot, monkeypatch, tmp_path):
    path = tmp_path / "objects.progress"
    monkeypatch.setattr(transfer.Watcher, "gone", lambda self: True)
    failed = snapshot(progress=str(path), parallel=1)
    assert failed["failed"] and "nobody waits for it any more" in failed["msg"]
    assert len(server.buckets[SNAPSHOT]) < 5 and not path.exists()


def test_what_may_pass_is_tried_again(server, snapshot):
    server.faults = {("PUT", SNAPSHOT, True): [(503, "SlowDown"), (500, "InternalError"), (200, "InternalError")]}
    assert snapshot()["artifact"]["meta"]["objects"] == 5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({("GET", "sparklio-assets", False): (403, "SignatureDoesNotMatch")}, "See that the secret key is the right"),
        ({("GET", "sparklio-assets", False): (403, "InvalidAccessKeyId")}, "See that the access key"),
        ({("GET", "sparklio-assets", False): (404, "NoSuchBucket")}, "See that the bucket's name"),
        ({("PUT", SNAPSHOT, False): (403, "AccessDenied")}, "to make one beside it"),
        ({("PUT", SNAPSHOT, True): (507, "InsufficientStorage")}, "answered 507 (InsufficientStorage)"),
    ],
)
def test_refusals_name_their_cure(server, snapshot, fault, message):
    server.faults = fault
    failed = snapshot()
    assert failed["failed"] and message in failed["msg"]


def test_a_copy_that_is_not_the_same_is_found(server, snapshot, monkeypatch):
    monkeypatch.setattr(s3.Store, "copy", lambda self, source, item, bucket: _s3.Copied(item, item))
    assert "5 of 5 copies" in snapshot()["msg"]


@pytest.mark.parametrize("kms", [["sparklio-assets"], [SNAPSHOT], ["sparklio-assets", SNAPSHOT]])
def test_encrypted_objects_are_compared_by_size(server, snapshot, tmp_path, kms):
    server.kms.update(kms)
    artifact = snapshot()["artifact"]
    assert artifact["meta"]["objects"] == 5
    # The list has what tells two restore points apart.
    lines = [json.loads(line) for line in (tmp_path / "objects/objects.jsonl").read_text().splitlines()]
    assert {item["key"]: item["etag"] for item in lines} == {
        key: server.etag("sparklio-assets", key) for key in server.buckets["sparklio-assets"]
    }
    assert _s3.differences([_s3.Object("c", 4, "")], [_s3.Object("c", 5, "x")]) == ["c"]


def test_only_encryption_lets_an_etag_differ(server, snapshot, monkeypatch):
    etag = server.etag
    # As if the server had mixed up two copies of the same size.
    monkeypatch.setattr(
        server, "etag", lambda place, key: "0" * 32 if (place, key) == (SNAPSHOT, "c") else etag(place, key)
    )
    assert "1 of 5 copies" in snapshot()["msg"]
    assert f"HEAD /sparklio-assets/{quote('c')}" in server.asked
    assert sum(line.startswith("HEAD") for line in server.asked) == 1


def test_nothing_listens_or_nothing_is_set(snapshot, call, tmp_path, port):
    assert "connection refused" in snapshot(endpoint=f"http://127.0.0.1:{port}")["msg"].lower()
    env = tmp_path / "other.env"
    env.write_text("S3_ENDPOINT=x:9000\n")
    failed = call(module, env_file=str(env), id=POINT, dest=str(tmp_path / "x"))
    assert "sets none of S3_ACCESS_KEY" in failed["msg"]
    assert "is not the id of a restore point" in snapshot(id="x")["msg"]
    for name in ("sparklio-assets", "a-backup-2025", f"../{SNAPSHOT}", f"{SNAPSHOT}-x"):
        refused = snapshot(state="absent", snapshots=[SNAPSHOT, name])["msg"]
        assert "is not the bucket of a restore point. Nothing was removed" in refused


@pytest.mark.parametrize("silent", [True, False])
def test_a_bucket_of_somebody_else_is_not_touched(server, snapshot, tmp_path, monkeypatch, silent):
    """Two hosts with one store begin in the same second. Some servers say so when the bucket is made, some don't."""
    server.buckets[SNAPSHOT] = {"theirs": b"x"}
    if not silent:
        # It is made between the look and the request.
        has = s3.Store.has
        monkeypatch.setattr(s3.Store, "has", lambda self, name: name != SNAPSHOT and has(self, name))
        server.faults = {("PUT", SNAPSHOT, False): (409, "BucketAlreadyOwnedByYou")}
    artifact = snapshot()["artifact"]
    assert artifact["meta"]["snapshot"] == f"{SNAPSHOT}-2"
    assert restore_points.elsewhere(str(tmp_path)) == {"objects": f"{SNAPSHOT}-2"}
    assert server.buckets[f"{SNAPSHOT}-2"] == server.buckets["sparklio-assets"]
    assert snapshot(state="absent", snapshots=[f"{SNAPSHOT}-2"])["removed"] == [f"{SNAPSHOT}-2"]
    assert server.buckets[SNAPSHOT] == {"theirs": b"x"}


def answer_lost(handler):
    handler.close_connection = True


@pytest.mark.parametrize("answer", [lambda handler: handler.error(500, "InternalError"), answer_lost])
@pytest.mark.parametrize("noted", [False, True])
def test_a_bucket_that_was_made_without_an_answer_is_its_own(server, snapshot, tmp_path, answer, noted):
    if noted:
        restore_points.note(str(tmp_path), "objects", SNAPSHOT)
    server.on_create = [answer]
    assert snapshot()["artifact"]["meta"]["snapshot"] == SNAPSHOT
    assert restore_points.elsewhere(str(tmp_path)) == {"objects": SNAPSHOT}
    assert list(server.buckets) == ["sparklio-assets", SNAPSHOT]


@pytest.mark.parametrize("answer", [(500, "InternalError"), (503, "SlowDown")])
def test_a_bucket_that_another_host_made_meanwhile_is_not_its_own(server, snapshot, tmp_path, monkeypatch, answer):
    has = s3.Store.has
    monkeypatch.setattr(s3.Store, "has", lambda self, name: name != SNAPSHOT and has(self, name))
    # After a fault it may be its own, where nothing is in it. One that asks to wait has made nothing.
    theirs = {"theirs": b"x"} if answer[0] == 500 else {}
    server.buckets[SNAPSHOT] = dict(theirs)
    server.faults = {("PUT", SNAPSHOT, False): [answer]}
    assert snapshot()["artifact"]["meta"]["snapshot"] == f"{SNAPSHOT}-2"
    assert restore_points.elsewhere(str(tmp_path)) == {"objects": f"{SNAPSHOT}-2"}
    assert server.buckets[SNAPSHOT] == theirs


@pytest.mark.parametrize(
    ("region", "places", "sent"),
    [
        ("us-east-1", None, [None]),
        ("eu-central-1", None, ["eu-central-1"]),
        ("eu-central-1", ["default"], ["eu-central-1", None]),
    ],
)
def test_the_bucket_is_made_in_the_region(server, snapshot, region, places, sent):
    server.places = places
    assert snapshot(region=region)["artifact"]["meta"]["snapshot"] == SNAPSHOT
    found = [re.search("<LocationConstraint>(.*)</LocationConstraint>", body) for body in server.bodies]
    assert [match[1] if match else None for match in found] == sent


def test_what_a_region_is_called_stays_text():
    assert b"<LocationConstraint>a&lt;b</" in _s3.location("a<b") and _s3.location("") == b""


@pytest.mark.parametrize(
    ("headers", "hidden"),
    [
        ({}, False),
        ({"x-amz-server-side-encryption": "AES256"}, False),
        ({"X-Amz-Server-Side-Encryption": "aws:kms"}, True),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, True),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, True),
    ],
)
def test_which_encryption_makes_an_etag_that_is_no_md5(headers, hidden):
    assert _s3.hides_md5(headers) is hidden


@pytest.mark.parametrize(
    ("body", "etag"),
    [
        (b'<CopyObjectResult><ETag>"0a"</ETag></CopyObjectResult>', "0a"),
        (b"<CopyObjectResult><ETag>&#34;0a-2&#34;</ETag></CopyObjectResult>", "0a-2"),
        (b"<ETag>&quot;0a&quot;</ETag>", "0a"),
        (b"<ETag>0a</ETag>", "0a"),
        (b"<CopyObjectResult/>", ""),
    ],
)
def test_the_etag_of_a_copy_is_read(body, etag):
    assert _s3.copied_etag(body) == etag


def test_the_number_goes_on_from_that_of_the_id(server, snapshot):
    server.buckets.update({f"{SNAPSHOT}-2": {}, f"{SNAPSHOT}-3": {}})
    assert snapshot(id=f"{POINT}-2")["artifact"]["meta"]["snapshot"] == f"{SNAPSHOT}-4"


def test_where_no_name_is_free_nothing_is_made(server, snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_NAMES", 2)
    server.buckets.update({SNAPSHOT: {}, f"{SNAPSHOT}-2": {}})
    assert f"bucket {SNAPSHOT} is there already, and so are 1" in snapshot()["msg"]
    assert restore_points.elsewhere(str(tmp_path)) == {} and len(server.buckets) == 3


def test_the_bucket_is_noted_before_it_is_made(server, snapshot, tmp_path):
    server.faults = {("PUT", SNAPSHOT, True): (507, "InsufficientStorage")}
    assert snapshot()["failed"] and SNAPSHOT in server.buckets
    assert restore_points.elsewhere(str(tmp_path)) == {"objects": SNAPSHOT}
    server.faults = {}
    # It is its own, so it is used.
    assert snapshot()["artifact"]["meta"]["snapshot"] == SNAPSHOT
    assert list(server.buckets) == ["sparklio-assets", SNAPSHOT]


def test_only_snapshots_are_removed(server, snapshot):
    snapshot()
    other = "sparklio-assets-backup-20250116t070000z-deploy"
    found = snapshot(state="absent", snapshots=[SNAPSHOT, other])
    assert found["removed"] == [SNAPSHOT] and found["changed"]
    assert list(server.buckets) == ["sparklio-assets"] and len(server.buckets["sparklio-assets"]) == 5
    assert not snapshot(state="absent", snapshots=[SNAPSHOT])["changed"]


@given(st.text("abc-.", min_size=1, max_size=63))
def test_a_snapshot_bucket_has_a_name_that_s3_takes(bucket):
    name = _s3.snapshot_bucket("x" + bucket, "20250115T070000Z-deploy-12")
    assert len(name) <= 63 and re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name)
    assert name.endswith("-backup-20250115t070000z-deploy-12") and _s3.is_snapshot(name)
    assert not _s3.is_snapshot("x" + bucket)


OBJECTS = st.lists(
    st.builds(_s3.Object, st.text(max_size=3), st.integers(0, 9), st.sampled_from(["", "a", "b", "a-2", "b-3"])),
    max_size=6,
    unique_by=lambda item: item.key,
)


@given(OBJECTS, OBJECTS)
def test_differences_are_found(wanted, found):
    assert _s3.differences(wanted, wanted) == []
    wrong = _s3.differences(wanted, found)
    sizes = {item.key: item.size for item in found}
    assert {item.key for item in wanted if sizes.get(item.key) != item.size} <= set(wrong) <= {i.key for i in wanted}


@given(st.binary(max_size=60))
def test_no_answer_breaks_the_parser(body):
    for text in (body, b"<ListBucketResult><Contents>" + body + b"</Contents></ListBucketResult>"):
        with contextlib.suppress(ValueError):
            assert isinstance(_s3.parse_listing(text).objects, list)
