"""Addresses that are told what happens, and what is still to be told to them.

What always holds: what is to be told is on disk until it was taken (an answer of 2xx) or given up after its last try; secrets lie wrapped; the
same event is handed to a subscriber at least once, with the same id.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .keys import MasterKey
from .rows import Rows
from .sql import TEXT, insert, metadata

AGAIN_S = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)
"""How long after each failed try the next one comes; behind the last one it is given up."""
SECRET_OCTETS = 32
OLD_SECRET_HOLDS_S = 86_400
"""How long what is told is signed with the secret before as well, so that whoever listens can change over."""
KEPT_S = 30 * 86_400
"""How long what was taken or given up can be looked at."""
TELLING = "telling"
"""Of the feeds' positions, the one that says who tells: until when (seconds), and its name."""

webhook = sa.Table(
    "webhook",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("url", TEXT, nullable=False),
    sa.Column("events", TEXT, nullable=False),
    sa.Column("secret_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("made_by", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("ended_s", sa.BigInteger),
)
webhook_delivery = sa.Table(
    "webhook_delivery",
    metadata,
    sa.Column("webhook", TEXT, sa.ForeignKey("webhook.id"), primary_key=True),
    sa.Column("event_id", TEXT, primary_key=True),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False, index=True),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("problem", TEXT, nullable=False),
)
feed_position = sa.Table(
    "feed_position",
    metadata,
    sa.Column("feed", TEXT, primary_key=True),
    sa.Column("position", TEXT, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """mark: tells its secret from every other one, and nothing of it."""

    id: str
    url: str
    events: tuple[str, ...]
    made_by: str
    made_s: int
    mark: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to be told to one address. secrets: sign it, the newest first."""

    webhook: str
    event_id: str
    url: str
    body: str
    tries: int
    secrets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one thing that was to be told. state: "waiting", "taken", "given_up"; due_s: when it comes next, or came last; problem: why the
    last try led nowhere, "" = nothing to tell."""

    event_id: str
    kind: str
    state: str
    tries: int
    due_s: int
    problem: str


class Webhooks:
    def __init__(self, rows: Rows, master: MasterKey) -> None:
        self._rows, self._master = rows, master

    def add(self, url: str, events: tuple[str, ...], made_by: str, now_s: int) -> tuple[Webhook, bytes]:
        """The subscription and its secret, which is shown this once."""
        secret = secrets.token_bytes(SECRET_OCTETS)
        made = Webhook(f"W{secrets.token_hex(8)}", url, events, made_by, now_s, self._mark_of(secret))
        row = {"id": made.id, "url": url, "events": " ".join(events), "secret_wrapped": self._master.wrap_secret(secret)}
        with self._rows.begin(writing=True) as connection:
            if connection.execute(sa.select(webhook.c.id).where(webhook.c.ended_s.is_(None)).limit(1)).first() is None:
                feeds = feed_position.c.feed != TELLING  # nobody was told meanwhile, and nobody is told now what was then
                connection.execute(feed_position.delete().where(feeds))
            connection.execute(webhook.insert(), row | {"made_by": made_by, "made_s": now_s})
        return made, secret

    def new_secret(self, number: str, now_s: int) -> bytes | None:
        """A new secret, which is shown this once; the one before signs beside it for a day. None where there is no such subscription."""
        own, secret = sa.and_(webhook.c.id == number, webhook.c.ended_s.is_(None)), secrets.token_bytes(SECRET_OCTETS)
        with self._rows.begin(writing=True) as connection:
            wrapped = connection.execute(sa.select(webhook.c.secret_wrapped).where(own)).scalar()
            if wrapped is None:
                return None
            before = self._master.unwrap_secret(wrapped)[:SECRET_OCTETS]
            both = secret + before + (now_s + OLD_SECRET_HOLDS_S).to_bytes(8)
            connection.execute(webhook.update().where(own).values(secret_wrapped=self._master.wrap_secret(both)))
        return secret

    def _secrets(self, wrapped: bytes, now_s: int) -> tuple[bytes, ...]:
        """Of one subscription: the secret, and the one before it while it holds (behind it, with its end in seconds)."""
        kept = self._master.unwrap_secret(wrapped)
        secret, before, until = kept[:SECRET_OCTETS], kept[SECRET_OCTETS : 2 * SECRET_OCTETS], kept[2 * SECRET_OCTETS :]
        return (secret, before) if before and now_s < int.from_bytes(until) else (secret,)

    def end(self, number: str, now_s: int) -> bool:
        """False where there is none, or it has ended already."""
        with self._rows.begin(writing=True) as connection:
            own = webhook.update().where(webhook.c.id == number, webhook.c.ended_s.is_(None)).values(ended_s=now_s)
            return bool(connection.execute(own).rowcount)

    def all(self) -> list[Webhook]:
        query = sa.select(webhook).where(webhook.c.ended_s.is_(None)).order_by(webhook.c.id)
        with self._rows.begin() as connection:
            return [self._webhook(row) for row in connection.execute(query)]

    def _webhook(self, row: Any) -> Webhook:
        mark = self._mark_of(self._master.unwrap_secret(row.secret_wrapped)[:SECRET_OCTETS])
        return Webhook(row.id, row.url, tuple(row.events.split()), row.made_by, row.made_s, mark)

    def _mark_of(self, secret: bytes) -> str:
        return self._master.mac("webhook.mark", secret)[:4].hex()

    def position(self, feed: str) -> str | None:
        """How far a feed has been told."""
        with self._rows.begin() as connection:
            return connection.execute(sa.select(feed_position.c.position).where(feed_position.c.feed == feed)).scalar()

    def hand_over(self, feed: str, position: str, events: list[tuple[str, str, dict[str, Any]]], now_s: int) -> int:
        """Write down what is to be told, and that the feed was read up to `position`, together. events: (kind, event id, data). Nobody is told what
        happened (`at_s`) before they subscribed. Gives how many deliveries came of it."""
        subscribed = self.all()
        made = [
            {"webhook": w.id, "event_id": number, "body": json.dumps({"type": kind, "id": number, "data": data}, ensure_ascii=False)}
            for kind, number, data in events
            for w in subscribed
            if kind in w.events and data.get("at_s", now_s) >= w.made_s
        ]
        with self._rows.begin(writing=True) as connection:
            connection.execute(feed_position.delete().where(feed_position.c.feed == feed))
            connection.execute(feed_position.insert(), {"feed": feed, "position": position})
            if made:
                new = {"state": "waiting", "tries": 0, "not_before_s": now_s, "problem": ""}
                connection.execute(webhook_delivery.insert(), [row | new for row in made])
        return len(made)

    def leads(self, teller: str, now_s: int, lasts_s: int) -> bool:
        """Whether `teller` is the one among a deployment's consoles that tells: whoever asked first, until it has not asked for `lasts_s`."""
        query = sa.select(feed_position.c.position).where(feed_position.c.feed == TELLING)
        with self._rows.begin() as connection:
            holder, until_s = _lease(connection.execute(query).scalar())
        if now_s < until_s and (holder != teller or until_s - now_s > lasts_s // 2):
            return holder == teller
        with self._rows.begin(writing=True) as connection:
            connection.execute(insert(connection, feed_position).values(feed=TELLING, position="0 ").on_conflict_do_nothing())
            holder, until_s = _lease(connection.execute(query.with_for_update()).scalar())
            if holder != teller and now_s < until_s:
                return False
            own = feed_position.update().where(feed_position.c.feed == TELLING)
            connection.execute(own.values(position=f"{now_s + lasts_s} {teller}"))
            return True

    def leave(self, teller: str) -> None:
        """Another one may tell at once, if it was `teller`."""
        with self._rows.begin(writing=True) as connection:
            held = sa.select(feed_position.c.position).where(feed_position.c.feed == TELLING).with_for_update()
            if _lease(connection.execute(held).scalar())[0] == teller:
                ended = (
                    feed_position.update().where(feed_position.c.feed == TELLING).values(position="0 ")
                )  # the row stays: `leads` waits on it
                connection.execute(ended)

    def due(self, now_s: int, limit: int = 50) -> list[Delivery]:
        query = (
            sa.select(webhook_delivery, webhook.c.url, webhook.c.secret_wrapped)
            .join(webhook)
            .where(webhook_delivery.c.state == "waiting", webhook_delivery.c.not_before_s <= now_s, webhook.c.ended_s.is_(None))
            .order_by(webhook_delivery.c.not_before_s, webhook_delivery.c.event_id)
            .limit(limit)
        )
        with self._rows.begin() as connection:
            return [
                Delivery(r.webhook, r.event_id, r.url, r.body, r.tries, self._secrets(r.secret_wrapped, now_s))
                for r in connection.execute(query)
            ]

    def told(self, number: str, after: tuple[int, str] | None, limit: int) -> list[Told]:
        """What was, or is to be, told to one address, the latest first; after: (due_s, event_id) of the last one seen."""
        key = (webhook_delivery.c.not_before_s, webhook_delivery.c.event_id)
        query = (
            sa.select(webhook_delivery)
            .where(webhook_delivery.c.webhook == number)
            .order_by(*(column.desc() for column in key))
            .limit(limit)
        )
        if after is not None:
            query = query.where(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, after)))
        with self._rows.begin() as connection:
            return [
                Told(r.event_id, json.loads(r.body)["type"], r.state, r.tries, r.not_before_s, r.problem) for r in connection.execute(query)
            ]

    def again(self, number: str, event_id: str, now_s: int) -> bool:
        """Tell it once more, from now on as if for the first time; False where there is no such delivery."""
        own = (webhook_delivery.c.webhook == number, webhook_delivery.c.event_id == event_id)
        anew = webhook_delivery.update().where(*own).values(state="waiting", tries=0, not_before_s=now_s)
        with self._rows.begin(writing=True) as connection:
            return bool(connection.execute(anew).rowcount)

    def postpone(self, number: str, now_s: int) -> None:
        """What waits for an address that does not answer just now comes later; or the others would wait behind it."""
        due = (webhook_delivery.c.webhook == number, webhook_delivery.c.state == "waiting", webhook_delivery.c.not_before_s <= now_s)
        with self._rows.begin(writing=True) as connection:
            connection.execute(webhook_delivery.update().where(*due).values(not_before_s=now_s + AGAIN_S[0]))

    def forget(self, now_s: int) -> int:
        """What was taken or given up long ago; how many."""
        old = (webhook_delivery.c.state.in_(("taken", "given_up")), webhook_delivery.c.not_before_s < now_s - KEPT_S)
        with self._rows.begin(writing=True) as connection:
            return int(connection.execute(webhook_delivery.delete().where(*old)).rowcount)

    def taken(self, delivery: Delivery) -> None:
        self._mark(delivery, state="taken", tries=delivery.tries + 1, problem="")

    def failed(self, delivery: Delivery, problem: str, now_s: int) -> None:
        """To be tried again later, or given up behind the last try."""
        if delivery.tries >= len(AGAIN_S):
            self._mark(delivery, state="given_up", tries=delivery.tries + 1, problem=problem)
        else:
            again_s = now_s + AGAIN_S[delivery.tries]
            self._mark(delivery, state="waiting", tries=delivery.tries + 1, problem=problem, not_before_s=again_s)

    def _mark(self, delivery: Delivery, **values: Any) -> None:
        own = (webhook_delivery.c.webhook == delivery.webhook, webhook_delivery.c.event_id == delivery.event_id)
        with self._rows.begin(writing=True) as connection:
            connection.execute(webhook_delivery.update().where(*own).values(**values))


def _lease(position: str | None) -> tuple[str, int]:
    """(who, until when in seconds) of a position of `TELLING`."""
    until, _, who = (position or "0 ").partition(" ")
    return who, int(until)
