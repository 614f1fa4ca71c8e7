"""What consumers complain of, and what became of it."""

import sqlalchemy as sa
from alembic import op

from openami.store.sql import TEXT

revision = "complaints_0001"
down_revision = None
branch_labels = ("complaints",)
depends_on = "rows_0001"


def upgrade() -> None:
    op.create_table(
        "complaint",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False, index=True),
        sa.Column("about", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("phone_id", TEXT, nullable=False, unique=True),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("closed_s", sa.BigInteger),
        sa.Column("answer", TEXT, nullable=False),
    )
