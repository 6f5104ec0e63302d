from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.database import Db
from app.models import User

router = APIRouter(prefix="/api/v1/users", tags=["users"])


class NewUser(BaseModel):
    email: str
    name: str


def shown(user: User) -> dict:
    return {"id": user.id, "email": user.email, "name": user.name}


@router.get("")
def list_users(session: Db, limit: int = 50) -> list[dict]:
    return [shown(user) for user in session.scalars(select(User).order_by(User.id).limit(limit))]


@router.post("", status_code=201)
def create_user(new: NewUser, session: Db) -> dict:
    user = User(email=new.email, name=new.name)
    session.add(user)
    try:
        session.commit()
    except IntegrityError as problem:
        raise HTTPException(409, "a user with this address exists") from problem
    return shown(user)


@router.get("/{user_id}")
def get_user(user_id: int, session: Db) -> dict:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404, "no such user")
    return shown(user)
