"""Workflows can be paused."""

from alembic import op

revision = "v4_0005_workflow_paused"
down_revision = "v4_0004_brand_learning"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A value that was added inside a transaction can't be used before its end.
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE workflow_status ADD VALUE IF NOT EXISTS 'paused' AFTER 'running'")


def downgrade() -> None:
    # PostgreSQL can't drop a value: the type is made anew, and paused workflows go back to the queue.
    op.execute("UPDATE workflows SET status = 'pending' WHERE status = 'paused'")
    op.execute("ALTER TABLE workflows ALTER COLUMN status DROP DEFAULT")
    op.execute("ALTER TYPE workflow_status RENAME TO workflow_status_with_paused")
    op.execute("CREATE TYPE workflow_status AS ENUM ('pending', 'running', 'completed', 'failed')")
    op.execute("ALTER TABLE workflows ALTER COLUMN status TYPE workflow_status USING status::text::workflow_status")
    op.execute("ALTER TABLE workflows ALTER COLUMN status SET DEFAULT 'pending'")
    op.execute("DROP TYPE workflow_status_with_paused")
