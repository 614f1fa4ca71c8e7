"""The ledger's tables: rows that are never changed, where each account stands, and what was agreed about it.

What always holds: `ledger_row`, `control_total` and `payment_event` only grow, which triggers hold on both engines; `ledger_head` says nothing
that the rows do not say and is compared with them by `Ledger.broken`.
"""

from __future__ import annotations

import sqlalchemy as sa

from .sql import TEXT, metadata

PAISE = sa.BigInteger
account = sa.table(
    "account",
    sa.column("number", TEXT),
    sa.column("payment_mode", TEXT),
    sa.column("since", sa.Date),
    sa.column("mode_since", sa.Date),
    sa.column("opening_paise", PAISE),
)
"""What the ledger reads of the registry's accounts (`rows.py` has the table)."""

ledger_row = sa.Table(
    "ledger_row",
    metadata,
    sa.Column("transfer_id", TEXT, primary_key=True),
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("day", sa.Date, nullable=False, index=True),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("debit", TEXT, nullable=False),
    sa.Column("credit", TEXT, nullable=False),
    sa.Column("amount_paise", PAISE, sa.CheckConstraint("amount_paise > 0", name="ledger_row_moves_something"), nullable=False),
    sa.Column("refers_to", TEXT, nullable=False),
    sa.Column("posted_s", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("account", "number"),
)
sa.Index(
    "ix_ledger_row_refers_to",
    ledger_row.c.refers_to,
    sqlite_where=ledger_row.c.refers_to != "",
    postgresql_where=ledger_row.c.refers_to != "",
)
# Where an account stands. The four books are credits less debits, so what is owed is negative. charged_to: the last day whose charges are in
# the ledger; balance_known, deposit_known: what the account brought from before is in the ledger.
ledger_head = sa.Table(
    "ledger_head",
    metadata,
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("posted_s", sa.BigInteger, nullable=False),
    sa.Column("balance_paise", PAISE, nullable=False),
    sa.Column("dues_paise", PAISE, nullable=False),
    sa.Column("arrears_paise", PAISE, nullable=False),
    sa.Column("deposit_paise", PAISE, nullable=False),
    sa.Column("charged_to", sa.Date),
    sa.Column("balance_known", sa.Boolean, nullable=False),
    sa.Column("deposit_known", sa.Boolean, nullable=False),
)
# From which day an account is prepaid or postpaid; the newest row of a day holds.
payment_mode = sa.Table(
    "payment_mode",
    metadata,
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
    sa.Column("since", sa.Date, primary_key=True),
    sa.Column("decided_s", sa.BigInteger, primary_key=True),
    sa.Column("mode", TEXT, nullable=False),
    sa.Column("conversion_id", TEXT, nullable=False),
)
conversion = sa.Table(
    "conversion",
    metadata,
    sa.Column("conversion_id", TEXT, primary_key=True),
    sa.Column("mode", TEXT, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("why", TEXT, nullable=False),
    sa.Column("began_s", sa.BigInteger, nullable=False),
    sa.Column("converted", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
)
# What still stands in the way, by account; rewritten whenever the conversion is run again.
conversion_refusal = sa.Table(
    "conversion_refusal",
    metadata,
    sa.Column("conversion_id", TEXT, sa.ForeignKey("conversion.conversion_id"), primary_key=True),
    sa.Column("account", TEXT, primary_key=True),
    sa.Column("cause", sa.Integer, nullable=False),
)
# The totals of a closed (day, shard), as its statements show them, and the version of the lake's table that holds them.
control_total = sa.Table(
    "control_total",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("closed_s", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("lake_version", sa.BigInteger, nullable=False),
    sa.Column("accounts", sa.BigInteger, nullable=False),
    sa.Column("opening_paise", PAISE, nullable=False),
    sa.Column("recharges_paise", PAISE, nullable=False),
    sa.Column("charges_paise", PAISE, nullable=False),
    sa.Column("closing_paise", PAISE, nullable=False),
)
arrears_agreement = sa.Table(
    "arrears_agreement",
    metadata,
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
    sa.Column("since", sa.Date, primary_key=True),
    sa.Column("daily_paise", PAISE, nullable=False),
    sa.Column("cap_paise", PAISE, nullable=False),
)
# A postpaid bill, or a part of one that is asked for by instalment.
bill = sa.Table(
    "bill",
    metadata,
    sa.Column("bill_id", TEXT, primary_key=True),
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False, index=True),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    sa.Column("issued", sa.Date, nullable=False),
    sa.Column("due", sa.Date, nullable=False),
    sa.Column("amount_paise", PAISE, nullable=False),
)
payment = sa.Table(
    "payment",
    metadata,
    sa.Column("gateway", TEXT, primary_key=True),
    sa.Column("payment_id", TEXT, primary_key=True),
    sa.Column("account", TEXT, nullable=False, index=True),
    sa.Column("amount_paise", PAISE, nullable=False),
    sa.Column("asked_s", sa.BigInteger, nullable=False),
    sa.Column("state", TEXT, nullable=False, index=True),
    sa.Column("settled_s", sa.BigInteger),
)
payment_event = sa.Table(
    "payment_event",
    metadata,
    sa.Column("gateway", TEXT, primary_key=True),
    sa.Column("event_id", TEXT, primary_key=True),
    sa.Column("payment_id", TEXT, nullable=False, index=True),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("account", TEXT, nullable=False),
    sa.Column("amount_paise", PAISE, nullable=False),
    sa.Column("happened_s", sa.BigInteger, nullable=False),
    sa.Column("received_s", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)
