"""Orders are found by account and by time: payments and the guard ask for them so, among millions."""

from alembic import op

revision = "rows_0002"
down_revision = "rows_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_meter_order_account", "meter_order", ["account"])
    op.create_index("ix_meter_order_requested_s", "meter_order", ["requested_s"])
    op.create_index("ix_order_step_at_s", "order_step", ["at_s"])
