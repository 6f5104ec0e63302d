"""Addresses in lower case, so that one person can't register twice."""

from alembic import op

revision = "v4_0006_plain_emails"
down_revision = "v4_0005_workflow_paused"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE users SET email = lower(email) WHERE email <> lower(email)")


def downgrade() -> None:
    # The former spelling was not kept.
    pass
