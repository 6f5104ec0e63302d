"""An agent writes one text for one brand: by Ollama where it is set, else from a template."""

import json
import urllib.request
from time import perf_counter, sleep

from app import metrics
from app.settings import settings


def write(instructions: str, prompt: str) -> str:
    if not settings.ollama_url:
        sleep(0.02)
        return f"{instructions}: {prompt}"
    request = urllib.request.Request(
        f"{settings.ollama_url.rstrip('/')}/api/generate",
        data=json.dumps(
            {"model": settings.ollama_model, "prompt": f"{instructions}\n\n{prompt}", "stream": False}
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=settings.agent_timeout_seconds) as answer:
        return json.load(answer)["response"]


def execute(name: str, instructions: str, prompt: str) -> dict:
    """Run an agent. A run that fails is an answer, not an exception: the caller shows it and may try again."""
    start = perf_counter()
    output, detail = None, None
    try:
        output = write(instructions, prompt)
        status = "success"
    except TimeoutError:
        status, detail = "timeout", "the agent did not answer in time"
    except (OSError, ValueError, LookupError) as problem:
        # urllib wraps a timeout while it connects.
        timed_out = isinstance(getattr(problem, "reason", None), TimeoutError)
        status, detail = ("timeout" if timed_out else "error"), f"{type(problem).__name__}: {problem}"
    seconds = perf_counter() - start
    metrics.agent_executions.labels(name, status).inc()
    metrics.agent_duration.labels(name).observe(seconds)
    return {"agent": name, "status": status, "output": output, "detail": detail, "seconds": round(seconds, 3)}
