"""Outbox and addresses, facts that people told, decisions of the guard, the pulse of payment channels."""

import sqlalchemy as sa
from alembic import op

from openami.store.migrations.guards import only_grows
from openami.store.sql import TEXT

revision = "supply_0001"
down_revision = None
branch_labels = ("supply",)
depends_on = ("rows_0001",)
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _outbox()
    op.create_table(
        "supply_told",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        *(sa.Column(name, TEXT, nullable=False) for name in ("account", "name", "value")),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("who", "why")),
    )
    op.create_index("supply_told_account", "supply_told", ["account", "name"])
    op.create_table(
        "supply_decision",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("at_s", sa.BigInteger, nullable=False, index=True),
        sa.Column("account", TEXT, nullable=False, index=True),
        sa.Column("meter", TEXT, nullable=False),
        sa.Column("order_id", TEXT, nullable=False, index=True),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("allowed", sa.Boolean, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("against", "facts", "reasons")),
    )
    op.create_table(
        "channel_pulse",
        sa.Column("channel", TEXT, primary_key=True),
        sa.Column("up_since_s", sa.BigInteger),
        sa.Column("seen_s", sa.BigInteger, nullable=False),
    )
    for table in ("supply_told", "supply_decision"):
        only_grows(table)


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("notice_id", TEXT, primary_key=True),
        *(sa.Column(name, TEXT, nullable=False) for name in ("account", "kind", "language", "text")),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before_s", sa.BigInteger, nullable=False),
        sa.Column("sender", TEXT, nullable=False),
        sa.Column("sent_s", sa.BigInteger),
        sa.Column("delivered_s", sa.BigInteger),
        sa.Column("problem", TEXT, nullable=False),
    )
    op.create_index("outbox_state", "outbox", ["state", "not_before_s"])
    op.create_index("outbox_account", "outbox", ["account", "kind", "delivered_s"])
    op.create_table(
        "notice_address",
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
        sa.Column("address", TEXT, nullable=False),
    )
