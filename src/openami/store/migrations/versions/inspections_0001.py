"""What visits to meters found."""

import sqlalchemy as sa
from alembic import op

from openami.store.migrations.guards import only_grows
from openami.store.sql import TEXT

revision = "inspections_0001"
down_revision = None
branch_labels = ("inspections",)
depends_on = None
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "inspection",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("result", TEXT, nullable=False),
        sa.Column("at_random", sa.Boolean, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in ("feeder", "features", "who", "note")),
        sa.Column("made_s", sa.BigInteger, nullable=False),
    )
    op.create_index("inspection_serial", "inspection", ["serial", "day"])
    only_grows("inspection")
