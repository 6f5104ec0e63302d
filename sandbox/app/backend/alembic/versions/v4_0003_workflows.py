"""Workflows, agents and assets."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "v4_0003_workflows"
down_revision = "v4_0002_brands"
branch_labels = None
depends_on = None

status = postgresql.ENUM("pending", "running", "completed", "failed", name="workflow_status", create_type=False)


def upgrade() -> None:
    status.create(op.get_bind(), checkfirst=False)
    op.create_table(
        "workflows",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("brand_id", sa.Integer, sa.ForeignKey("brands.id"), nullable=False),
        sa.Column("workflow_type", sa.String(60), nullable=False),
        sa.Column("status", status, nullable=False, server_default="pending"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_workflows_status", "workflows", ["status"])
    op.create_table(
        "agents",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(60), nullable=False, unique=True),
        sa.Column("instructions", sa.Text, nullable=False),
    )
    op.create_table(
        "assets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("brand_id", sa.Integer, sa.ForeignKey("brands.id"), nullable=False),
        sa.Column("object_key", sa.String(255), nullable=False, unique=True),
        sa.Column("content_type", sa.String(120), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_assets_brand_id", "assets", ["brand_id"])


def downgrade() -> None:
    op.drop_table("assets")
    op.drop_table("agents")
    op.drop_table("workflows")
    status.drop(op.get_bind(), checkfirst=False)
