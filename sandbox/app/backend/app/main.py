from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.api import agents, assets, brands, system, users, workflows
from app.metrics import HttpMetrics
from app.services.worker import Worker
from app.settings import VERSION


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    worker = Worker()
    worker.start()
    yield
    worker.stop()


app = FastAPI(title="Sparklio V4", version=VERSION, lifespan=lifespan)
for part in (system, users, brands, workflows, agents, assets):
    app.include_router(part.router)
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
app.add_middleware(HttpMetrics)
