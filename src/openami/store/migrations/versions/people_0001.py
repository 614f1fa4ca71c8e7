"""People who may sign in, their sessions, consents and proposals, programs, webhooks, and the audit trail."""

import sqlalchemy as sa
from alembic import op

from openami.store.sql import TEXT

revision = "people_0001"
down_revision = None
branch_labels = ("people",)
depends_on = "rows_0001"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ONLY_GROWS = "the audit trail only grows"


def upgrade() -> None:
    op.create_table(
        "audit_trail",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        sa.Column("who", TEXT, nullable=False, index=True),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False, index=True),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "person",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("password_hash", TEXT),
        sa.Column("totp_wrapped", sa.LargeBinary),
        sa.Column("totp_step", sa.BigInteger, nullable=False),
        sa.Column("phone_digest", sa.LargeBinary, unique=True),
        sa.Column("external_subject", TEXT, unique=True),
        sa.Column("since_s", sa.BigInteger, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
    )
    op.create_table(
        "person_grant",
        sa.Column("name", TEXT, sa.ForeignKey("person.name"), primary_key=True),
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("subject", TEXT, primary_key=True),
    )
    op.create_table(
        "division",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), primary_key=True),
    )
    op.create_table(
        "account_phone",
        sa.Column("phone_digest", sa.LargeBinary, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
    )
    op.create_table(
        "sign_in_failure",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("locked_until_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "one_time_code",
        sa.Column("phone_digest", sa.LargeBinary, primary_key=True),
        sa.Column("code_digest", sa.LargeBinary, nullable=False),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False, index=True),
        sa.Column("began_s", sa.BigInteger, nullable=False),
        sa.Column("seen_s", sa.BigInteger, nullable=False),
        sa.Column("address", TEXT, nullable=False),
    )
    op.create_table(
        "oauth_client",
        sa.Column("name", TEXT, sa.ForeignKey("person.name"), primary_key=True),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("redirects", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("confidential", sa.Boolean, nullable=False),
    )
    op.create_table(
        "oauth_code",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("client", TEXT, sa.ForeignKey("oauth_client.name"), nullable=False),
        sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False),
        sa.Column("redirect", TEXT, nullable=False),
        sa.Column("challenge", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("nonce", TEXT, nullable=False),
        sa.Column("made_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "oauth_refresh",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("family", TEXT, nullable=False, index=True),
        sa.Column("client", TEXT, sa.ForeignKey("oauth_client.name"), nullable=False),
        sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.Boolean, nullable=False),
    )
    op.create_table(
        "signing_key",
        sa.Column("kid", TEXT, primary_key=True),
        sa.Column("since_s", sa.BigInteger, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "consent",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False, index=True),
        sa.Column("partner", TEXT, sa.ForeignKey("person.name"), nullable=False, index=True),
        sa.Column("purposes", TEXT, nullable=False),
        sa.Column("given_by", TEXT, sa.ForeignKey("person.name"), nullable=False),
        sa.Column("given_s", sa.BigInteger, nullable=False),
        sa.Column("until_s", sa.BigInteger, nullable=False),
        sa.Column("ended_s", sa.BigInteger),
    )
    op.create_table(
        "proposal",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("subjects", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("state", TEXT, nullable=False, index=True),
        sa.Column("decided_by", TEXT),
        sa.Column("decided_s", sa.BigInteger),
    )
    op.create_table(
        "kept_answer",
        sa.Column("who", TEXT, primary_key=True),
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("request_digest", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.Column("at_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "webhook",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("events", TEXT, nullable=False),
        sa.Column("secret_wrapped", sa.LargeBinary, nullable=False),
        sa.Column("made_by", TEXT, nullable=False),
        sa.Column("made_s", sa.BigInteger, nullable=False),
        sa.Column("ended_s", sa.BigInteger),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("webhook", TEXT, sa.ForeignKey("webhook.id"), primary_key=True),
        sa.Column("event_id", TEXT, primary_key=True),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False, index=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("not_before_s", sa.BigInteger, nullable=False),
        sa.Column("problem", TEXT, nullable=False),
    )
    op.create_table(
        "feed_position",
        sa.Column("feed", TEXT, primary_key=True),
        sa.Column("position", TEXT, nullable=False),
    )
    _only_grows()


def _only_grows() -> None:
    """The database itself refuses to change or remove a line of the audit trail."""
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER audit_trail_no_{what} BEFORE {what} ON audit_trail BEGIN SELECT RAISE(ABORT, '{ONLY_GROWS}'); END")
        return
    op.execute(
        f"CREATE FUNCTION audit_trail_only_grows() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{ONLY_GROWS}'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER audit_trail_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_trail_only_grows()"
    )
