"""Events, registers, status words and marks of service levels, as the head-end hears them."""

import sqlalchemy as sa
from alembic import op

from openami.store.sql import TEXT

revision = "heard_0001"
down_revision = None
branch_labels = ("heard",)
depends_on = "rows_0001"


def upgrade() -> None:
    op.create_table(
        "meter_event",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("at_s", sa.BigInteger, primary_key=True),
        sa.Column("code", sa.Integer, primary_key=True),
        sa.Column("bit", sa.Integer, primary_key=True),
        sa.Column("occurred", sa.Boolean, primary_key=True),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("received_s", sa.BigInteger, nullable=False),
        sa.Column("source", TEXT, nullable=False),
    )
    op.create_index("meter_event_at", "meter_event", ["at_s"])
    op.create_index("meter_event_received", "meter_event", ["received_s"])
    op.create_table(
        "register_reading",
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("stamp_s", sa.BigInteger, primary_key=True),
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        *(sa.Column(name, sa.BigInteger) for name in ("import_wh", "import_vah", "export_wh", "export_vah")),
        sa.Column("rest", TEXT, nullable=False),
        sa.Column("received_s", sa.BigInteger, nullable=False),
        sa.Column("source", TEXT, nullable=False),
    )
    op.create_table(
        "status_word",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("word", TEXT, nullable=False),
        sa.Column("at_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "level_mark",
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("since_s", sa.BigInteger, primary_key=True),
        sa.Column("at_s", sa.BigInteger, primary_key=True),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
    )
