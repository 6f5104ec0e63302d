# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Visitors of the sandbox: pages, lists, agent runs, workflows and assets, about 16 requests a second.

BACKEND_URL=… FRONTEND_URL=… locust -f locustfile.py --headless --users 12 --spawn-rate 12 --run-time 60s --csv PREFIX

A request is tried once. It failed when there was no whole answer within TIMEOUT seconds (refused, reset, timed out)
or when the answer was not 2xx; PREFIX_failures.csv says which. A kept connection that a restarting server closed is
such a failure too: a browser would have asked again, but a caller of the API sees it. An agent run that fails is
answered with 200 and a status: it counts as "agent run: STATUS", with no failure, as the metrics count it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import choice

from locust import FastHttpUser, constant_throughput, task

BACKEND = os.environ.get("BACKEND_URL", "http://127.0.0.1:8000").rstrip("/")
FRONTEND = os.environ.get("FRONTEND_URL", "http://127.0.0.1:3000").rstrip("/")
TIMEOUT = float(os.environ.get("TRAFFIC_TIMEOUT", "10"))
AGENTS = ("copywriter", "strategist", "designer", "reviewer")
PAGES = ("/", "/dashboard", "/workflows")
LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'


class Visitor(FastHttpUser):
    host = BACKEND
    # Each visitor does one thing in 0.75 s: the load stays the same when answers get slow, as long as they come.
    wait_time = constant_throughput(4 / 3)
    connection_timeout = TIMEOUT
    network_timeout = TIMEOUT
    # One try: a request that was tried again in silence would hide the first failure.
    max_retries = 0
    max_redirects = 0

    @contextmanager
    def asked(self, method: str, path: str, name: str, base: str = BACKEND, **more) -> Iterator:
        with self.client.request(method, base + path, name=name, catch_response=True, **more) as answer:
            if not 200 <= answer.status_code < 300:
                answer.failure(f"HTTP {answer.status_code}" if answer.status_code else f"no answer: {answer.error}")
            yield answer

    def get(self, path: str, name: str | None = None, base: str = BACKEND) -> None:
        with self.asked("GET", path, name or path, base):
            pass

    @task(4)
    def page(self) -> None:
        path = choice(PAGES)
        self.get(path, f"page {path}", FRONTEND)

    @task(1)
    def health(self) -> None:
        self.get("/health")

    @task(6)
    def brands(self) -> None:
        self.get("/api/v1/brands")

    @task(4)
    def brand(self) -> None:
        number = choice(range(1, 21))
        self.get(f"/api/v1/brands/{number}", "/api/v1/brands/{id}")
        self.get(f"/api/v1/brands/{number}/similar", "/api/v1/brands/{id}/similar")

    @task(2)
    def users(self) -> None:
        self.get("/api/v1/users")

    @task(3)
    def workflows(self) -> None:
        self.get("/api/v1/workflows")

    @task(2)
    def start_workflow(self) -> None:
        with self.asked("POST", "/api/v1/workflows", "start a workflow", json={"brand_id": choice(range(1, 21))}):
            pass

    @task(8)
    def run_agent(self) -> None:
        agent = choice(AGENTS)
        with self.asked(
            "POST", f"/api/v1/agents/{agent}/execute", "run an agent", json={"prompt": "a spring campaign"}
        ) as answer:
            if answer.status_code == 200:
                answer.request_meta["name"] = f"agent run: {answer.json().get('status')}"

    @task(3)
    def assets(self) -> None:
        self.get("/api/v1/assets")
        self.get(f"/api/v1/assets/{choice(range(1, 11))}/content", "/api/v1/assets/{id}/content")

    @task(1)
    def upload(self) -> None:
        part = (
            '--sparklio\r\nContent-Disposition: form-data; name="file"; filename="mark.svg"\r\n'
            "Content-Type: image/svg+xml\r\n\r\n"
        )
        with self.asked(
            "POST",
            "/api/v1/assets?brand_id=1",
            "upload an asset",
            data=part.encode() + LOGO + b"\r\n--sparklio--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=sparklio"},
        ):
            pass
