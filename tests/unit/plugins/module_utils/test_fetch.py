from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import time
import tracemalloc
from itertools import repeat
from threading import Event, Thread

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch

OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1 << 20


class Wire:
    """A server that sends what it is told, byte for byte, and keeps what it was asked."""

    def __init__(self, context=None):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/metrics"
        self.context = context
        self.asked = []
        self.over = Event()
        self.answer = lambda path: [OK, b"\r\n"]
        Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _address = self.socket.accept()
            except OSError:
                return
            Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                self.asked.append(request.decode())
                for piece in self.answer(request.split()[1].decode()):
                    if piece is None:
                        self.over.wait(5)
                    else:
                        connection.sendall(piece)
        except OSError:
            pass

    def close(self):
        self.over.set()
        self.socket.close()


@pytest.fixture
def wire():
    server = Wire()
    yield server
    server.close()


def body(wire, *pieces, limit=MIB, timeout=5.0):
    wire.answer = lambda path: pieces
    with fetch.get(wire.url, timeout, limit) as response:
        return response.body()


def test_a_plain_body(wire):
    assert body(wire, OK, b"Content-Length: 3\r\n\r\nabc") == b"abc"
    assert "Accept-Encoding: identity" in wire.asked[0] and "Authorization" not in wire.asked[0]


@pytest.mark.parametrize(
    ("head", "sent", "message"),
    [
        (b"Content-Length: 9\r\n\r\n", b"abc", "broke off its answer after 3 of 9 bytes"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n9\r\nabc", "broke off its answer after"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", "broke off its answer after"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"no number\r\n", "broke off its answer after"),
        (b"Content-Encoding: br\r\n\r\n", b"abc", "in the encoding 'br', which was not asked for"),
        (b"Content-Encoding: gzip\r\n\r\n", b"abc", "gzip that can't be decompressed"),
        (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"abc", mtime=0)[:-9], "in the middle of gzip"),
        (b"Content-Encoding: gzip\r\n\r\n", b"", "in the middle of gzip"),
    ],
)
def test_bodies_that_are_no_use(wire, head, sent, message):
    with pytest.raises(fetch.FetchError, match="GET http:") as caught:
        body(wire, OK, head, sent)
    assert message in str(caught.value)


def test_gzip_that_nobody_asked_for_is_decompressed(wire):
    text = bytes(range(256)) * 1000
    zipped = gzip.compress(text)
    assert body(wire, OK, b"Content-Encoding: GZIP\r\n\r\n", zipped[:100], zipped[100:]) == text


def test_a_body_that_is_too_large_is_left_and_never_held(wire):
    """200 MB, as sent and as what a small gzip body becomes."""
    block = b"x" * MIB
    with pytest.raises(fetch.TooLarge, match="answered more than 8388608 bytes"):
        body(wire, OK, b"\r\n", *repeat(block, 200), limit=8 * MIB)
    bomb = gzip.compress(block * 200, 1)
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        wire.answer = lambda path: [OK, b"Content-Encoding: gzip\r\n\r\n", bomb]
        with fetch.get(wire.url, 5, 8 * MIB) as response, pytest.raises(fetch.TooLarge):
            for _piece in response.pieces():
                pass
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pieces", [[None], [b"HTTP/1.1 ", None], [OK, b"X-Slow: ", *[b"."] * 3, None]])
def test_a_server_that_never_answers_is_left_in_time(wire, pieces):
    start = time.monotonic()
    with pytest.raises(fetch.FetchError, match="no answer in time"):
        body(wire, *pieces, timeout=0.2)
    assert time.monotonic() - start < 2


def test_a_head_that_comes_byte_by_byte_does_not_outlast_the_timeout(wire):
    def slowly(path):
        yield OK
        while not wire.over.wait(0.05):
            yield b"x"

    wire.answer = slowly
    with pytest.raises(fetch.FetchError, match="no answer in time"):
        fetch.get(wire.url, 0.3, MIB)


def test_a_body_that_comes_byte_by_byte_does_not_either(wire):
    def slowly(path):
        yield OK + b"\r\n"
        while not wire.over.wait(0.05):
            yield b"x"

    wire.answer = slowly
    with fetch.get(wire.url, 0.3, MIB) as response, pytest.raises(fetch.FetchError, match="did not finish"):
        response.body()


def test_only_the_host_that_was_named_is_told_the_credentials(wire):
    other = Wire()
    moved = b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: "
    hops = {"/metrics": b"/metrics/", "/metrics/": f"http://127.0.0.1:{other.port}/elsewhere".encode()}
    wire.answer = lambda path: [moved, hops[path], b"\r\n\r\n"]
    fetch.get(wire.url, 5, MIB, {"Authorization": "Bearer abc"}).close()
    other.close()
    assert ["Bearer abc" in request for request in wire.asked] == [True, True]
    assert len(other.asked) == 1 and "Bearer" not in other.asked[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, for a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    path.write_text(path.read_text() + (path.parent / f"{path.name}.crt").read_text())
    return str(path)


def test_a_certificate_must_be_valid_unless_told_otherwise(certificate, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Wire(context)
    url = f"https://127.0.0.1:{server.port}/"
    with pytest.raises(fetch.FetchError, match=r"(?i)certificate"):
        fetch.get(url, 5, MIB)
    assert fetch.get(url, 5, MIB, ca_path=certificate).status == 200
    assert fetch.get(url, 5, MIB, validate_certs=False).status == 200
    server.close()
    with pytest.raises(fetch.FetchError, match=r"no certificates can be read from .*missing.pem: No such file"):
        fetch.get(url, 5, MIB, ca_path=str(tmp_path / "missing.pem"))


@pytest.mark.parametrize("url", ["ftp://host/", "metrics", "http://", "http://user:hunter22@[::1/"])
def test_what_is_no_address(url):
    with pytest.raises(fetch.FetchError) as caught:
        fetch.get(url, 1, MIB)
    assert "hunter22" not in str(caught.value)
