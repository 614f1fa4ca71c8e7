"""What has changed in the registry is noted, by meter: whoever keeps a copy of it knows what to read again."""

import sqlalchemy as sa
from alembic import op

from openami.store.migrations.guards import notes_changes
from openami.store.sql import TEXT

revision = "rows_0004"
down_revision = "rows_0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "registry_change",
        sa.Column("number", BIG, primary_key=True, autoincrement=True),
        sa.Column("serial", TEXT),
        sa.Column("mark", TEXT, nullable=False),
    )
    notes_changes()
