from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import select

from app.database import Db
from app.models import Agent
from app.services import agents

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])


class Run(BaseModel):
    prompt: str


@router.get("")
def list_agents(session: Db) -> list[dict]:
    return [{"id": agent.id, "name": agent.name} for agent in session.scalars(select(Agent).order_by(Agent.name))]


@router.post("/{name}/execute")
def execute(name: str, run: Run, session: Db) -> dict:
    agent = session.scalar(select(Agent).where(Agent.name == name))
    if agent is None:
        raise HTTPException(404, "no such agent")
    instructions = agent.instructions
    # The connection goes back to the pool while the agent thinks.
    session.close()
    return agents.execute(name, instructions, run.prompt)
