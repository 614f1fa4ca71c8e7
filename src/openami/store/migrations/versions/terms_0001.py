"""On what terms an account is charged from which day."""

import sqlalchemy as sa
from alembic import op

from openami.store.migrations.guards import only_grows
from openami.store.sql import TEXT

revision = "terms_0001"
down_revision = None
branch_labels = ("terms",)
depends_on = "rows_0001"
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "account_term",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False),
        sa.Column("since", sa.Date, nullable=False),
        sa.Column("tariff", TEXT),
        sa.Column("contract_va", sa.BigInteger),
        sa.Column("told_s", sa.BigInteger, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
    )
    op.create_index("account_term_account", "account_term", ["account", "since"])
    only_grows("account_term")
