"""A code knows when its person signed in, as an ID token tells it."""

import sqlalchemy as sa
from alembic import op

revision = "people_0004"
down_revision = "people_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("oauth_code", sa.Column("signed_in_s", sa.BigInteger))
