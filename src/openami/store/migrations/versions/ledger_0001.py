"""The ledger: rows, heads, payment modes, conversions, totals, bills and payments. Recharges of the first release become its first rows."""

from datetime import date
from itertools import groupby

import sqlalchemy as sa
from alembic import op

from openami.money import TransferRow
from openami.store.ledger import append, as_transfer
from openami.store.ledger_bulk import open_accounts
from openami.store.migrations.guards import only_grows
from openami.store.sql import TEXT

revision = "ledger_0001"
down_revision = None
branch_labels = ("ledger",)
depends_on = ("rows_0001",)
SECONDS_A_DAY = 86_400


def upgrade() -> None:
    _rows()
    _agreements()
    _payments()
    for table in ("ledger_row", "control_total", "payment_event"):
        only_grows(table)
    _take_over()


def _rows() -> None:
    op.create_table(
        "ledger_row",
        sa.Column("transfer_id", TEXT, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Date, nullable=False, index=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("debit", TEXT, nullable=False),
        sa.Column("credit", TEXT, nullable=False),
        sa.Column("amount_paise", sa.BigInteger, sa.CheckConstraint("amount_paise > 0", name="ledger_row_moves_something"), nullable=False),
        sa.Column("refers_to", TEXT, nullable=False),
        sa.Column("posted_s", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("account", "number"),
    )
    where = sa.text("refers_to != ''")
    op.create_index("ix_ledger_row_refers_to", "ledger_row", ["refers_to"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "ledger_head",
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("posted_s", sa.BigInteger, nullable=False),
        sa.Column("balance_paise", sa.BigInteger, nullable=False),
        sa.Column("dues_paise", sa.BigInteger, nullable=False),
        sa.Column("arrears_paise", sa.BigInteger, nullable=False),
        sa.Column("deposit_paise", sa.BigInteger, nullable=False),
        sa.Column("charged_to", sa.Date),
        sa.Column("balance_known", sa.Boolean, nullable=False),
        sa.Column("deposit_known", sa.Boolean, nullable=False),
    )
    op.create_table(
        "control_total",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("closed_s", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("lake_version", sa.BigInteger, nullable=False),
        sa.Column("accounts", sa.BigInteger, nullable=False),
        sa.Column("opening_paise", sa.BigInteger, nullable=False),
        sa.Column("recharges_paise", sa.BigInteger, nullable=False),
        sa.Column("charges_paise", sa.BigInteger, nullable=False),
        sa.Column("closing_paise", sa.BigInteger, nullable=False),
    )


def _agreements() -> None:
    op.create_table(
        "payment_mode",
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
        sa.Column("since", sa.Date, primary_key=True),
        sa.Column("decided_s", sa.BigInteger, primary_key=True),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column("conversion_id", TEXT, nullable=False),
    )
    op.create_table(
        "conversion",
        sa.Column("conversion_id", TEXT, primary_key=True),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("began_s", sa.BigInteger, nullable=False),
        sa.Column("converted", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "conversion_refusal",
        sa.Column("conversion_id", TEXT, sa.ForeignKey("conversion.conversion_id"), primary_key=True),
        sa.Column("account", TEXT, primary_key=True),
        sa.Column("cause", sa.Integer, nullable=False),
    )
    op.create_table(
        "arrears_agreement",
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
        sa.Column("since", sa.Date, primary_key=True),
        sa.Column("daily_paise", sa.BigInteger, nullable=False),
        sa.Column("cap_paise", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bill",
        sa.Column("bill_id", TEXT, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False, index=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("first_day", sa.Date, nullable=False),
        sa.Column("last_day", sa.Date, nullable=False),
        sa.Column("issued", sa.Date, nullable=False),
        sa.Column("due", sa.Date, nullable=False),
        sa.Column("amount_paise", sa.BigInteger, nullable=False),
    )


def _payments() -> None:
    op.create_table(
        "payment",
        sa.Column("gateway", TEXT, primary_key=True),
        sa.Column("payment_id", TEXT, primary_key=True),
        sa.Column("account", TEXT, nullable=False, index=True),
        sa.Column("amount_paise", sa.BigInteger, nullable=False),
        sa.Column("asked_s", sa.BigInteger, nullable=False),
        sa.Column("state", TEXT, nullable=False, index=True),
        sa.Column("settled_s", sa.BigInteger),
    )
    op.create_table(
        "payment_event",
        sa.Column("gateway", TEXT, primary_key=True),
        sa.Column("event_id", TEXT, primary_key=True),
        sa.Column("payment_id", TEXT, nullable=False, index=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("amount_paise", sa.BigInteger, nullable=False),
        sa.Column("happened_s", sa.BigInteger, nullable=False),
        sa.Column("received_s", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )


def _take_over() -> None:
    """Heads and openings of the accounts that are there, then their recharges, day by day, as posted at the end of their day."""
    connection = op.get_bind()
    transfer = sa.Table("transfer", sa.MetaData(), autoload_with=connection)
    open_accounts(connection, 0)
    found = connection.execute(sa.select(transfer).order_by(transfer.c.day, transfer.c.transfer_id)).all()
    for day, rows in groupby(found, key=lambda row: row.day):
        posted_s = (day.toordinal() - date(1970, 1, 1).toordinal() + 1) * SECONDS_A_DAY
        append(connection, [as_transfer(TransferRow(*row)) for row in rows], posted_s)
    op.drop_table("transfer")
