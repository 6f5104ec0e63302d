"""Brands, with the embedding of what they stand for."""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector

revision = "v4_0002_brands"
down_revision = "v4_0001_users"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "brands",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("tone", sa.Text, nullable=False, server_default=""),
        sa.Column("embedding", Vector(8)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_brands_owner_id", "brands", ["owner_id"])


def downgrade() -> None:
    # The extension stays: provisioning may have made it, and others may use it.
    op.drop_table("brands")
