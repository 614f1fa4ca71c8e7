"""One audit trail: the lines of the first one, `audit`, stand at the end of `audit_trail`, chained like its own, and the old table goes."""

import hashlib
import json
from datetime import UTC

import sqlalchemy as sa
from alembic import op

revision = "people_0002"
down_revision = "people_0001"
branch_labels = None
depends_on = "rows_0001"


def upgrade() -> None:
    connection = op.get_bind()
    trail = sa.table(
        "audit_trail", *(sa.column(name) for name in ("at_s", "who", "role", "action", "subject", "why", "address", "outcome"))
    )
    trail.append_column(sa.column("chain", sa.LargeBinary))
    old = sa.table(
        "audit",
        sa.column("id", sa.Integer),
        sa.column("at_utc", sa.DateTime),
        *(sa.column(name) for name in ("who", "action", "subject", "why")),
    )
    chain = connection.execute(sa.text("SELECT chain FROM audit_trail ORDER BY id DESC LIMIT 1")).scalar() or b""
    for row in connection.execute(sa.select(old).order_by(old.c.id)).all():
        entry = {"at_s": int(row.at_utc.replace(tzinfo=UTC).timestamp()), "who": row.who, "role": "", "action": row.action}
        entry |= {"subject": row.subject, "why": row.why, "address": "", "outcome": "done"}
        chain = hashlib.sha256(bytes(chain) + json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()).digest()
        connection.execute(trail.insert(), entry | {"chain": chain})
    op.drop_table("audit")
