from __future__ import annotations

import os
import socket
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Git:
    """A real clone to work on."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        self("init", "-q", "-b", "main")

    def __call__(self, *arguments, date=None):
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        for who in ("AUTHOR", "COMMITTER"):
            env.update({f"GIT_{who}_NAME": "T", f"GIT_{who}_EMAIL": "t@example.org"})
            if date:
                env[f"GIT_{who}_DATE"] = f"{date} +0000"
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()

    def write(self, files):
        for name, text in files.items():
            path = self.path / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, files, tag=None, date=None):
        self.write(files)
        self("add", "-A", date=date)
        self("commit", "-q", "--allow-empty", "-m", f"Release {tag}", date=date)
        if tag:
            self("tag", "-a", tag, "-m", tag, date=date)
        return self("rev-parse", "HEAD")


@pytest.fixture
def git(tmp_path):
    return Git(tmp_path / "app")


@pytest.fixture
def web():
    """Serve texts by their paths; what is no text is called for one. Returns the address."""
    servers = []

    def serve(texts):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                found = texts.get(self.path)
                text = found() if callable(found) else found
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write((text or "not found").encode())

            def log_message(self, *args):
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(httpd)
        Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{httpd.server_port}/"

    yield serve
    for httpd in servers:
        httpd.shutdown()
        httpd.server_close()
