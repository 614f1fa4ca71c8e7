"""Triggers that hold what the documents promise, on both engines."""

from __future__ import annotations

import zlib

from alembic import op


def only_grows(table: str) -> None:
    """From now on no row of `table` can be changed or removed, by whatever program."""
    sentence = f"a row of {table} is never changed or removed: post another that puts it right"
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{sentence}'); END")
        return
    op.execute(
        f"CREATE FUNCTION {table}_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{sentence}' "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(f"CREATE TRIGGER {table}_rows BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_only_grows()")
    op.execute(f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_only_grows()")


def belongs_to_account(table: str) -> None:
    """On PostgreSQL, in place of the reference of `table` to its accounts, which looks at one row after another and writes a lock into each
    account: what a statement adds is looked at once, at its end. An account cannot go meanwhile, because its head in the ledger refers to it."""
    sentence = f"a row of {table} belongs to no account that is there"
    op.drop_constraint(f"{table}_account_fkey", table, type_="foreignkey")
    op.execute(
        f"CREATE FUNCTION {table}_belongs() RETURNS trigger LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$ BEGIN "  # noqa: S608 - our own words
        "IF EXISTS (SELECT FROM come WHERE NOT EXISTS (SELECT FROM account WHERE account.number = come.account)) THEN "
        f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'foreign_key_violation'; END IF; RETURN NULL; END $$"
    )
    for event in ("INSERT", "UPDATE"):
        op.execute(
            f"CREATE TRIGGER {table}_belongs_{event.lower()} AFTER {event} ON {table} REFERENCING NEW TABLE AS come "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_belongs()"
        )


KEPT_CHANGES = 100_000
EVENTS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}


def notes_changes() -> None:
    """From now on whatever changes a row of the registry, by whatever program, adds the meters that it is about to `registry_change`, each with a
    mark that no other change has; null = a feeder or transformer. At least the newest `KEPT_CHANGES` stay.

    On PostgreSQL such changes wait for each other, before they touch a row: their numbers rise in the order in which they are committed."""
    (_notes_on_sqlite if op.get_bind().dialect.name == "sqlite" else _notes_on_postgresql)()


def _notes_on_sqlite() -> None:
    """Row by row, as SQLite has it: so each trigger is as plain as can be, what a row was is noted only where that is about another meter, and what
    is old is forgotten only now and then."""
    mark, add = "hex(randomblob(12))", "INSERT INTO registry_change (serial, mark)"
    op.execute(f"{add} VALUES (NULL, {mark})")
    op.execute(
        "CREATE TRIGGER registry_change_few AFTER INSERT ON registry_change WHEN NEW.number % 1000 = 0 BEGIN "  # noqa: S608 - our own words
        f"DELETE FROM registry_change WHERE number <= NEW.number - {KEPT_CHANGES}; END"
    )
    whole, one = f"{add} VALUES (NULL, {mark})", f"{add} VALUES (%s, {mark})"
    of_point = f"{add} SELECT meter, {mark} FROM usage_point WHERE name = %s"  # noqa: S608 - our own words
    notes = (("feeder", "", whole), ("transformer", "", whole), ("meter", "serial", one), ("usage_point", "meter", one))
    for table, told_by, note in (*notes, ("account", "usage_point", of_point)):
        events = [("insert", "INSERT", "NEW"), ("update", "UPDATE", "NEW"), ("delete", "DELETE", "OLD")]
        if told_by:
            events.append(("moved", f"UPDATE OF {told_by}", "OLD"))
        for name, event, row in events:
            moved = f"WHEN OLD.{told_by} IS NOT NEW.{told_by} " if name == "moved" else ""
            body = note.replace("%s", f"{row}.{told_by}")
            op.execute(f"CREATE TRIGGER {table}_noted_{name} AFTER {event} ON {table} {moved}BEGIN {body}; END")


def _notes_on_postgresql() -> None:
    mark, meters_of = (
        "gen_random_uuid()::text",
        {
            "feeder": "SELECT NULL AS serial FROM {rows}",
            "transformer": "SELECT NULL AS serial FROM {rows}",
            "meter": "SELECT serial FROM {rows}",
            "usage_point": "SELECT meter AS serial FROM {rows}",
            "account": "SELECT meter AS serial FROM usage_point WHERE name IN (SELECT usage_point FROM {rows})",
        },
    )
    op.execute(f"INSERT INTO registry_change (mark) VALUES ({mark})")  # noqa: S608 - our own words
    op.execute(
        "CREATE FUNCTION registry_waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock({zlib.crc32(b'openami registry')}); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE FUNCTION registry_emptied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 - our own words
        f"DELETE FROM registry_change; INSERT INTO registry_change (mark) VALUES ({mark}); RETURN NULL; END $$"
    )
    for table, changed_of in meters_of.items():
        op.execute(
            f"CREATE TRIGGER {table}_waits BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION registry_waits()"
        )
        op.execute(f"CREATE TRIGGER {table}_emptied AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION registry_emptied()")
        for event, rows in EVENTS.items():
            changed = " UNION ".join(changed_of.format(rows=f"{row.lower()}_rows") for row in rows)
            op.execute(
                f"CREATE FUNCTION {table}_noted_{event.lower()}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 - our own words
                f"INSERT INTO registry_change (serial, mark) SELECT serial, {mark} FROM ({changed}) AS changed; "
                f"DELETE FROM registry_change WHERE number <= (SELECT max(number) FROM registry_change) - {KEPT_CHANGES}; "
                "RETURN NULL; END $$"
            )
            seen = " ".join(f"{row} TABLE AS {row.lower()}_rows" for row in rows)
            op.execute(
                f"CREATE TRIGGER {table}_noted_{event.lower()} AFTER {event} ON {table} REFERENCING {seen} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_noted_{event.lower()}()"
            )
