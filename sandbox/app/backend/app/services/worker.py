"""Takes workflows from the queue, one at a time, beside the requests."""

import logging
from datetime import UTC, datetime
from threading import Event, Thread

from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app import metrics
from app.database import SessionLocal
from app.models import Workflow
from app.services import cache

log = logging.getLogger("sparklio.worker")
WORK_SECONDS = 0.15


class Worker:
    def __init__(self) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._loop, name="workflows", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                workflow_id = cache.dequeue()
                if workflow_id is not None:
                    self._work(workflow_id)
                    continue
                pause = 0.2
            except (RedisError, SQLAlchemyError) as problem:
                log.warning("workflows wait: %s", type(problem).__name__)
                pause = 2.0
            self._stop.wait(pause)

    def _work(self, workflow_id: int) -> None:
        with SessionLocal() as session:
            workflow = session.get(Workflow, workflow_id)
            if workflow is None or workflow.status != "pending":
                return
            workflow.status = "running"
            session.commit()
            with metrics.active_workflows.labels(workflow.workflow_type).track_inprogress():
                self._stop.wait(WORK_SECONDS)
                workflow.status = "completed"
                workflow.finished_at = datetime.now(UTC)
                session.commit()
            metrics.workflows.labels(workflow.workflow_type, "completed").inc()
