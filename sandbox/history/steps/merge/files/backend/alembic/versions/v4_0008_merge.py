"""Bring the tags of workflows and the labels of assets together."""

revision = "v4_0008_merge"
down_revision = ("v4_0007_workflow_tags", "v4_0007_asset_labels")
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
