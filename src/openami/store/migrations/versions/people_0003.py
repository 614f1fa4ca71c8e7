"""People are found by role: there may be a million consumers, and a few hundred others."""

from alembic import op

revision = "people_0003"
down_revision = "people_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("person_role", "person", ["role", "name"])
