"""The accuracy class that stands on a meter's nameplate; null = not known."""

from alembic import op

revision = "rows_0005"
down_revision = "rows_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE meter ADD COLUMN accuracy_class FLOAT CHECK (accuracy_class > 0 AND accuracy_class <= 10)")  # on both engines
