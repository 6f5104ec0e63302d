"""Labels on assets."""

import sqlalchemy as sa
from alembic import op

revision = "v4_0007_asset_labels"
down_revision = "v4_0006_plain_emails"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asset_labels",
        sa.Column("asset_id", sa.Integer, sa.ForeignKey("assets.id"), primary_key=True),
        sa.Column("label", sa.String(60), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("asset_labels")
