"""Usage points are found by feeder and by transformer, in the order of their meters: a list of a node's meters, among a million."""

from alembic import op

revision = "rows_0003"
down_revision = "rows_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_usage_point_feeder_meter", "usage_point", ["feeder", "meter"])
    op.create_index("ix_usage_point_transformer_meter", "usage_point", ["transformer", "meter"])
