#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Ollama: its HTTP API with canned answers, and a real store of tags. Usage: ollama.py [PORT]

Tags are mutable, digests are not, a copied tag costs no disk: as in Ollama. No model is run.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "0.5.4"
LOCK = threading.Lock()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def model(content: str, family: str = "qwen2", size: int = 4_683_087_332) -> dict:
    return {
        "digest": hashlib.sha256(content.encode()).hexdigest(),
        "size": size,
        "modified_at": now(),
        "details": {"format": "gguf", "family": family, "parameter_size": "7.6B", "quantization_level": "Q4_K_M"},
    }


def full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


TAGS = {
    "qwen2.5:7b": model("qwen2.5:7b 2025-01"),
    "qwen2.5:14b": model("qwen2.5:14b 2025-01", size=8_988_124_069),
    "nomic-embed-text:latest": model("nomic-embed-text 2025-01", "nomic-bert", 274_302_450),
}


class Ollama(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ollama-standin"

    def answer(self, body: object, status: int = 200, kind: str = "application/json; charset=utf-8") -> None:
        data = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def stream(self, parts: list[dict], wanted: bool) -> None:
        if not wanted:
            self.answer(parts[-1])
            return
        self.answer("".join(json.dumps(part) + "\n" for part in parts), kind="application/x-ndjson")

    def read(self) -> dict | None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            value = json.loads(text or b"{}")
        except ValueError:
            value = None
        return value if isinstance(value, dict) else None

    def missing(self, name: str) -> None:
        self.answer({"error": f"model '{name}' not found"}, 404)

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer("Ollama is running", kind="text/plain; charset=utf-8")
        elif self.path == "/api/version":
            self.answer({"version": VERSION})
        elif self.path == "/api/tags":
            with LOCK:
                self.answer({"models": [{"name": name, "model": name, **entry} for name, entry in TAGS.items()]})
        elif self.path == "/api/ps":
            self.answer({"models": []})
        else:
            self.answer("404 page not found", 404, "text/plain")

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        request = self.read() or {}
        name = full(request.get("model") or request.get("name") or "")
        with LOCK:
            known = TAGS.pop(name, None) if self.path == "/api/delete" else None
        self.answer(None) if known else self.missing(name)

    def do_POST(self) -> None:
        request = self.read()
        if request is None:
            self.answer({"error": "invalid JSON"}, 400)
            return
        name = full(request.get("model") or request.get("name") or "")
        stream = request.get("stream", True)
        with LOCK:
            entry = TAGS.get(name)
        if self.path == "/api/pull":
            with LOCK:
                TAGS[name] = model(f"{name} {now()}")
            self.stream([{"status": "pulling manifest"}, {"status": "success"}], stream)
        elif self.path == "/api/copy":
            source = full(request.get("source", ""))
            with LOCK:
                known = TAGS.get(source)
                if known:
                    TAGS[full(request.get("destination", ""))] = {**known, "modified_at": now()}
            self.answer(None) if known else self.missing(source)
        elif entry is None:
            self.missing(name)
        elif self.path == "/api/show":
            self.answer({"modelfile": f"FROM {name}", "details": entry["details"], "modified_at": entry["modified_at"]})
        elif self.path == "/api/generate":
            text = f"(stand-in) {str(request.get('prompt', ''))[:60]}"
            end = {"model": name, "created_at": now(), "done": True, "done_reason": "stop", "eval_count": 8}
            self.stream([{**end, "response": text, "done": False}, {**end, "response": "" if stream else text}], stream)
        elif self.path == "/api/chat":
            message = {"role": "assistant", "content": "(stand-in)"}
            self.stream([{"model": name, "created_at": now(), "message": message, "done": True}], stream)
        elif self.path in ("/api/embed", "/api/embeddings"):
            self.answer({"model": name, "embeddings": [[0.1] * 8], "embedding": [0.1] * 8})
        else:
            self.answer("404 page not found", 404, "text/plain")

    def log_message(self, *arguments: object) -> None:
        """Say nothing: traffic calls it several times a second."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1]) if len(sys.argv) > 1 else 11434), Ollama).serve_forever()
