"""Registry, keys, recharges, audit, contacts and orders as the first release had them; a table that its database has already is left alone."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from openami.store.sql import TEXT

revision = "rows_0001"
down_revision = None
branch_labels = ("rows",)
depends_on = None


def upgrade() -> None:
    there = set(sa.inspect(op.get_bind()).get_table_names())

    def make(name: str, *parts: Any) -> None:
        if name not in there:
            op.create_table(name, *parts)

    make("feeder", sa.Column("name", TEXT, primary_key=True), sa.Column("substation", TEXT, nullable=False))
    make(
        "transformer",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), nullable=False),
        sa.Column("rating_kva", sa.Integer, nullable=False),
    )
    make(
        "meter",
        sa.Column("serial", TEXT, primary_key=True),
        sa.Column("system_title", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("maker", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("security_control", sa.Integer, nullable=False),
        sa.Column("phases", sa.Integer, nullable=False),
        sa.UniqueConstraint("shard", "index"),
    )
    make(
        "meter_key",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
        sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
    )
    make(
        "usage_point",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("meter", TEXT, sa.ForeignKey("meter.serial"), nullable=False, index=True),
        sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), nullable=False),
        sa.Column("transformer", TEXT, sa.ForeignKey("transformer.name")),
        sa.Column("phase", TEXT, nullable=False),
        sa.Column("connected_load_w", sa.Integer, nullable=False),
        sa.Column("since", sa.Date, nullable=False),
        sa.Column("until", sa.Date),
        sa.PrimaryKeyConstraint("name", "since"),
    )
    make(
        "account",
        sa.Column("number", TEXT, primary_key=True),
        sa.Column("usage_point", TEXT, nullable=False, index=True),
        sa.Column("consumer_name", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("tariff", TEXT, nullable=False),
        sa.Column("payment_mode", TEXT, nullable=False),
        sa.Column("since", sa.Date, nullable=False),
        sa.Column("mode_since", sa.Date, nullable=False),
        sa.Column("opening_paise", sa.BigInteger, nullable=False),
    )
    make(
        "transfer",
        sa.Column("transfer_id", TEXT, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False, index=True),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("amount_paise", sa.BigInteger, nullable=False),
    )
    make(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at_utc", sa.DateTime, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
    )
    make(
        "invocation_counter",
        sa.Column("meter", TEXT, primary_key=True),
        sa.Column("title", sa.LargeBinary, primary_key=True),
        sa.Column("next", sa.BigInteger, nullable=False),
    )
    make(
        "line",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("hdlc", sa.Boolean, nullable=False),
        sa.Column("cell", TEXT, nullable=False),
        sa.Column("mechanism", sa.Integer, nullable=False),
        sa.Column("general", sa.Boolean, nullable=False),
        sa.Column("password_wrapped", sa.LargeBinary),
        sa.Column("hls_secret_wrapped", sa.LargeBinary),
        sa.Column("transfer_key_wrapped", sa.LargeBinary),
    )
    make(
        "contact",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("heard_s", sa.BigInteger),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("not_before_s", sa.BigInteger, nullable=False),
        sa.Column("problem", TEXT, nullable=False),
    )
    make(
        "association_key",
        sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
        sa.Column("client", sa.Integer, primary_key=True),
        sa.Column("state", TEXT, primary_key=True),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
        sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
    )
    make(
        "meter_order",
        sa.Column("order_id", TEXT, primary_key=True),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("meter", TEXT, sa.ForeignKey("meter.serial"), nullable=False, index=True),
        sa.Column("requested_s", sa.BigInteger, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("wish", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before_s", sa.BigInteger, nullable=False),
        sa.Column("problem", TEXT, nullable=False),
    )
    make(
        "order_step",
        sa.Column("order_id", TEXT, sa.ForeignKey("meter_order.order_id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
    )
