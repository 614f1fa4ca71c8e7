"""A complaint answered: closed, told to the consumer, and no longer in the guard's way, in one transaction.

What always holds: an open dispute about money keeps the supply on by itself (`facts.py` looks for it); answering one ends only what it began: another
open dispute, or one that a person told of in another way, stands.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from ..day.site import Site
from ..errors import InputError
from ..notices.texts import sentence
from ..store.audit import Entry, note_in
from ..store.complaints import DISPUTES, Complaint, Complaints
from ..store.outbox import Notice, Outbox
from ..store.rows import account as registry_account
from ..store.sql import hold
from ..store.supply_rows import SupplyRows, supply_told

ANSWER_MOST = 1000


def answer(site: Site, complaint_id: str, text: str, now_s: int, who: str, role: str = "", address: str = "") -> Complaint:
    """Close a complaint with an answer, by a person. InputError for an answer without words or of more than `ANSWER_MOST` letters, or by nobody;
    RequestError where there is no such open complaint."""
    words = " ".join(text.split())
    if not words or len(words) > ANSWER_MOST or not who.strip():
        raise InputError(f"an answer needs somebody who gives it and 1 to {ANSWER_MOST} letters, not {len(words)}")
    database = site.rows.database
    with database.begin(writing=True, lock="complaints") as connection:
        for lock in ("supply", "outbox", "rows"):
            hold(connection, lock)
        closed = Complaints(database).close_in(connection, complaint_id, words, now_s)
        if closed.about in DISPUTES and _told_by_complaint(connection, closed.account):
            why = f"complaint {closed.id} answered"
            SupplyRows(database).tell_in(connection, closed.account, "dispute_open", False, now_s, who, why)
        language = connection.execute(
            sa.select(registry_account.c.language).where(registry_account.c.number == closed.account)
        ).scalar_one()
        told = sentence("complaint_answered", language, id=closed.id, answer=words)
        Outbox(database).put_in(connection, [Notice(f"answer:{closed.id}", closed.account, "complaint_answered", language, told, now_s)])
        note_in(connection, Entry(now_s, who, role, "complaint.answer", closed.id, str(closed.about), address))
    return closed


def _told_by_complaint(connection: sa.Connection, account: str) -> bool:
    """Whether the newest word on a dispute of this account is yes, and is a complaint's, not a person's own."""
    own = (supply_told.c.account == account, supply_told.c.name == "dispute_open")
    newest = connection.execute(sa.select(supply_told).where(*own).order_by(supply_told.c.id.desc()).limit(1)).first()
    return newest is not None and json.loads(newest.value) is True and newest.why.startswith("complaint ")
