from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import select

from app import metrics
from app.database import Db
from app.models import Brand, Workflow
from app.services import cache

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"])


class NewWorkflow(BaseModel):
    brand_id: int
    workflow_type: str = "campaign"


def shown(workflow: Workflow) -> dict:
    return {
        "id": workflow.id,
        "brand_id": workflow.brand_id,
        "workflow_type": workflow.workflow_type,
        "status": workflow.status,
    }


@router.get("")
def list_workflows(session: Db) -> list[dict]:
    newest = select(Workflow).order_by(Workflow.id.desc()).limit(20)
    return [shown(workflow) for workflow in session.scalars(newest)]


@router.post("", status_code=202)
def create_workflow(new: NewWorkflow, session: Db) -> dict:
    if session.get(Brand, new.brand_id) is None:
        raise HTTPException(422, "no such brand")
    workflow = Workflow(brand_id=new.brand_id, workflow_type=new.workflow_type, status="pending")
    session.add(workflow)
    session.commit()
    metrics.workflows.labels(new.workflow_type, "started").inc()
    return {**shown(workflow), "queued": cache.enqueue(workflow.id)}


@router.get("/{workflow_id}")
def get_workflow(workflow_id: int, session: Db) -> dict:
    workflow = session.get(Workflow, workflow_id)
    if workflow is None:
        raise HTTPException(404, "no such workflow")
    return shown(workflow)
