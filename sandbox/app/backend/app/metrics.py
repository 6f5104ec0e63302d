from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

http_requests = Counter("sparklio_http_requests_total", "HTTP requests answered", ["method", "endpoint", "status_code"])
http_duration = Histogram(
    "sparklio_http_request_duration_seconds", "Time to answer", ["method", "endpoint"], buckets=BUCKETS
)
agent_executions = Counter("sparklio_agent_executions_total", "Agent runs", ["agent_name", "status"])
agent_duration = Histogram(
    "sparklio_agent_execution_duration_seconds", "Time of an agent run", ["agent_name"], buckets=BUCKETS
)
workflows = Counter("sparklio_workflows_total", "Workflows", ["workflow_type", "status"])
active_workflows = Gauge("sparklio_active_workflows", "Workflows being worked on", ["workflow_type"])


class HttpMetrics:
    """Counts every answer but those of /metrics itself, by the route's template: a path would be a series an id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        status = 500
        start = perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            endpoint = getattr(scope.get("route"), "path", "unmatched")
            http_requests.labels(scope["method"], endpoint, str(status)).inc()
            http_duration.labels(scope["method"], endpoint).observe(perf_counter() - start)
