#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for ComfyUI: its HTTP API with canned answers. Usage: comfyui.py [PORT]. A prompt is done at once."""

from __future__ import annotations

import json
import platform
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
HISTORY: dict[str, dict] = {}
STATS = {
    "system": {
        "os": "posix",
        "comfyui_version": "0.3.10",
        "python_version": platform.python_version(),
        "pytorch_version": "none (stand-in)",
        "embedded_python": False,
        "argv": ["main.py", "--listen"],
        "ram_total": 34_359_738_368,
        "ram_free": 21_474_836_480,
    },
    "devices": [
        {"name": "stand-in", "type": "cpu", "index": 0, "vram_total": 25_769_803_776, "vram_free": 22_548_578_304}
    ],
}


class ComfyUI(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "comfyui-standin"

    def answer(self, body: object, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        path = self.path.removeprefix("/api").partition("?")[0]
        with LOCK:
            history = dict(HISTORY)
        if path == "/system_stats":
            self.answer(STATS)
        elif path == "/queue":
            self.answer({"queue_running": [], "queue_pending": []})
        elif path == "/prompt":
            self.answer({"exec_info": {"queue_remaining": 0}})
        elif path == "/history":
            self.answer(history)
        elif path.startswith("/history/"):
            prompt = path.removeprefix("/history/")
            self.answer({prompt: history[prompt]} if prompt in history else {})
        elif path == "/object_info":
            self.answer({"KSampler": {"category": "sampling", "output": ["LATENT"]}})
        else:
            self.answer({"error": "not found"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/api")
        if path in ("/queue", "/interrupt", "/free", "/history"):
            self.answer({})
            return
        try:
            prompt = json.loads(text)["prompt"]
        except (ValueError, KeyError, TypeError):
            self.answer({"error": {"type": "no_prompt", "message": "No prompt provided"}, "node_errors": {}}, 400)
            return
        name = str(uuid.uuid4())
        with LOCK:
            HISTORY[name] = {"prompt": prompt, "outputs": {}, "status": {"status_str": "success", "completed": True}}
        self.answer({"prompt_id": name, "number": len(HISTORY), "node_errors": {}})

    def log_message(self, *arguments: object) -> None:
        """Say nothing: health checks call it all the time."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1]) if len(sys.argv) > 1 else 8188), ComfyUI).serve_forever()
