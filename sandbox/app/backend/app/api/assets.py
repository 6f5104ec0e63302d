from uuid import uuid4

from fastapi import APIRouter, HTTPException, Response, UploadFile
from minio.error import MinioException
from sqlalchemy import select
from urllib3.exceptions import HTTPError

from app.database import Db
from app.models import Asset, Brand
from app.services import objects

router = APIRouter(prefix="/api/v1/assets", tags=["assets"])
AWAY = (MinioException, HTTPError)


def shown(asset: Asset) -> dict:
    return {
        "id": asset.id,
        "brand_id": asset.brand_id,
        "object_key": asset.object_key,
        "content_type": asset.content_type,
        "size": asset.size,
    }


def object_key(brand: Brand, filename: str) -> str:
    return f"brands/{brand.id}/{uuid4().hex}-{filename}"


@router.get("")
def list_assets(session: Db) -> list[dict]:
    return [shown(asset) for asset in session.scalars(select(Asset).order_by(Asset.id.desc()).limit(20))]


@router.post("", status_code=201)
def upload(brand_id: int, file: UploadFile, session: Db) -> dict:
    brand = session.get(Brand, brand_id)
    if brand is None:
        raise HTTPException(422, "no such brand")
    body = file.file.read()
    asset = Asset(
        brand_id=brand_id,
        object_key=object_key(brand, file.filename or "asset"),
        content_type=file.content_type or "application/octet-stream",
        size=len(body),
    )
    try:
        objects.put(asset.object_key, body, asset.content_type)
    except AWAY as problem:
        raise HTTPException(503, f"the object store is away: {type(problem).__name__}") from problem
    session.add(asset)
    session.commit()
    return shown(asset)


@router.get("/{asset_id}/content")
def download(asset_id: int, session: Db) -> Response:
    asset = session.get(Asset, asset_id)
    if asset is None:
        raise HTTPException(404, "no such asset")
    try:
        return Response(objects.get(asset.object_key), media_type=asset.content_type)
    except AWAY as problem:
        raise HTTPException(503, f"the object store is away: {type(problem).__name__}") from problem
