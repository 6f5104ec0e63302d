from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import select

from app.database import Db
from app.models import Brand, User
from app.services import cache

router = APIRouter(prefix="/api/v1/brands", tags=["brands"])


class NewBrand(BaseModel):
    owner_id: int
    name: str
    tone: str = ""
    embedding: list[float] | None = Field(default=None, min_length=8, max_length=8)


def shown(brand: Brand) -> dict:
    return {"id": brand.id, "owner_id": brand.owner_id, "name": brand.name, "tone": brand.tone}


@router.get("")
def list_brands(session: Db) -> list[dict]:
    def read() -> list[dict]:
        return [shown(brand) for brand in session.scalars(select(Brand).order_by(Brand.id).limit(50))]

    return cache.cached("brands", 5, read)


@router.post("", status_code=201)
def create_brand(new: NewBrand, session: Db) -> dict:
    if session.get(User, new.owner_id) is None:
        raise HTTPException(422, "no such owner")
    brand = Brand(**new.model_dump())
    session.add(brand)
    session.commit()
    cache.forget("brands")
    return shown(brand)


@router.get("/{brand_id}")
def get_brand(brand_id: int, session: Db) -> dict:
    brand = session.get(Brand, brand_id)
    if brand is None:
        raise HTTPException(404, "no such brand")
    return shown(brand)


@router.get("/{brand_id}/similar")
def similar_brands(brand_id: int, session: Db) -> list[dict]:
    brand = session.get(Brand, brand_id)
    if brand is None:
        raise HTTPException(404, "no such brand")
    if brand.embedding is None:
        return []
    nearest = (
        select(Brand)
        .where(Brand.id != brand_id, Brand.embedding.is_not(None))
        .order_by(Brand.embedding.cosine_distance(brand.embedding))
        .limit(5)
    )
    return [shown(other) for other in session.scalars(nearest)]
