"""Redis: a cache that may be missing, and the queue of workflows."""

import json
import logging
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from app.settings import settings

log = logging.getLogger("sparklio.cache")
QUEUE = "sparklio:queue:workflows"
client = Redis.from_url(
    settings.redis_url, socket_connect_timeout=0.5, socket_timeout=1.0, decode_responses=True, health_check_interval=15
)


def cached(key: str, seconds: int, make: Callable[[], Any]) -> Any:
    """Return what the cache holds, else make it. Without Redis it is made each time."""
    try:
        held = client.get(f"sparklio:cache:{key}")
    except RedisError as problem:
        log.warning("cache is away: %s", type(problem).__name__)
        return make()
    if held is not None:
        return json.loads(held)
    value = make()
    try:
        client.set(f"sparklio:cache:{key}", json.dumps(value), ex=seconds)
    except RedisError as problem:
        log.warning("cache is away: %s", type(problem).__name__)
    return value


def forget(key: str) -> None:
    try:
        client.delete(f"sparklio:cache:{key}")
    except RedisError as problem:
        log.warning("cache is away: %s", type(problem).__name__)


def enqueue(workflow_id: int) -> bool:
    """Say whether the workflow was queued; if not, it stays pending in the database."""
    try:
        client.rpush(QUEUE, workflow_id)
    except RedisError as problem:
        log.warning("queue is away: %s", type(problem).__name__)
        return False
    return True


def dequeue() -> int | None:
    held = client.lpop(QUEUE)
    return int(held) if held is not None else None
