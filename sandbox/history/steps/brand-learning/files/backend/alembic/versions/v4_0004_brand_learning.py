"""What a brand has learned from its campaigns."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "v4_0004_brand_learning"
down_revision = "v4_0003_workflows"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "brand_learnings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("brand_id", sa.Integer, sa.ForeignKey("brands.id"), nullable=False),
        sa.Column("lesson", sa.Text, nullable=False),
        sa.Column("weight", sa.Float, nullable=False, server_default="1"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_brand_learnings_brand_id", "brand_learnings", ["brand_id"])
    op.add_column("brands", sa.Column("learned_profile", postgresql.JSONB))
    op.execute(
        "UPDATE brands SET learned_profile = jsonb_build_object('tone', tone, 'campaigns',"
        " (SELECT count(*) FROM workflows WHERE workflows.brand_id = brands.id))"
    )
    op.execute(
        "INSERT INTO brand_learnings (brand_id, lesson, weight)"
        " SELECT brand_id, 'finished a ' || workflow_type, count(*) FROM workflows"
        " WHERE status = 'completed' GROUP BY brand_id, workflow_type"
    )


def downgrade() -> None:
    op.drop_column("brands", "learned_profile")
    op.drop_table("brand_learnings")
