from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.settings import VERSION

router = APIRouter()


@router.get("/health")
async def health() -> dict:
    return {"status": "ok", "version": VERSION}


@router.get("/api/v1/router/health")
async def router_health() -> dict:
    return {"status": "healthy"}


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
