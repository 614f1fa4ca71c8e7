"""What the head-end must remember of each meter between conversations: invocation counters, where it listens, its secrets (wrapped), its contacts.

What always holds: a counter is on disk before it is used and is given out once, whoever asks; secrets lie here only wrapped by the master key;
an older key is kept until the meter has proved the newer one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from ..errors import RequestError
from .rows import Rows, association_key, contact, invocation_counter, line
from .sql import insert, upsert

COUNTER_END = 1 << 32
PUSH_CLIENT = 64
"""The pre-established association of pushes (IS 15959 part 2). Old keys stay: the journal is judged anew with those of each frame's time."""


@dataclass(frozen=True, slots=True)
class MeterLine:
    """How a meter is reached. cell: what limits how many may be talked to at once (a network cell, a gateway), "" = none.

    Wrapped: password of client 32, HLS secret of 48 and 80, and the key under which new keys travel; None = not known.
    mechanism: of clients 48 and 80 (2, 5, 6); general: general-glo-ciphering.
    """

    serial: str
    host: str
    port: int
    hdlc: bool = False
    cell: str = ""
    mechanism: int = 2
    general: bool = False
    password_wrapped: bytes | None = field(default=None, repr=False)
    hls_secret_wrapped: bytes | None = field(default=None, repr=False)
    transfer_key_wrapped: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of talking to a meter. heard_s: when it last answered, UTC seconds, None = never; failures: how often in a row it has
    not; not_before_s: when to try again; problem: why it failed."""

    serial: str
    heard_s: int | None
    failures: int = 0
    not_before_s: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """Encryption and authentication key, wrapped; order_id: the key change that brought them, "" = none did."""

    ek: bytes = field(repr=False)
    ak: bytes = field(repr=False)
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class PushKeys:
    """The keys of a meter's pushes behind those of the registry. proved: used by the meter, in order, the last one holds; coming: under way."""

    proved: tuple[WrappedKeys, ...]
    coming: WrappedKeys | None


class Contacts:
    """These tables in a registry database. It is a `headend.session.CounterBook`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    # -- invocation counters ----------------------------------------------------------------------------------------------------

    def next_counter(self, meter: str, title: bytes) -> int | None:
        """The next free counter of (meter, our title); None = none was ever given out."""
        with self._rows.begin() as connection:
            found = connection.execute(sa.select(invocation_counter.c.next).where(*_counter_is(meter, title))).scalar()
            return None if found is None else int(found)

    def reserve_counters(self, meter: str, title: bytes, count: int, at_least: int) -> int:
        """Take `count` counters, on disk when this returns; gives the first. RequestError where the key's counters are used up."""
        with self._rows.begin(writing=True) as connection:
            known = connection.execute(sa.select(invocation_counter.c.next).where(*_counter_is(meter, title))).scalar()
            first = max(at_least, known or 0)
            if first + count > COUNTER_END:
                raise RequestError(
                    f"the invocation counters of meter {meter} are used up ({first}): order a key change before anything else"
                )
            row = {"meter": meter, "title": title, "next": first + count}
            connection.execute(upsert(connection, invocation_counter, row, "meter", "title"))
            return first

    def return_counters(self, meter: str, title: bytes, used_to: int, reserved_to: int) -> None:
        """Give back what was not used, unless somebody has reserved behind it."""
        with self._rows.begin(writing=True) as connection:
            mine = (*_counter_is(meter, title), invocation_counter.c.next == reserved_to)
            if used_to < reserved_to:
                connection.execute(invocation_counter.update().where(*mine).values(next=used_to))

    # -- lines and contacts -----------------------------------------------------------------------------------------------------

    def add_lines(self, lines: Iterable[MeterLine]) -> None:
        """Where meters listen, and their wrapped secrets; a meter that is there already is changed."""
        with self._rows.begin(writing=True) as connection:
            for one in lines:
                connection.execute(upsert(connection, line, asdict(one), "serial"))

    def lines(self) -> dict[str, MeterLine]:
        """serial -> line."""
        with self._rows.begin() as connection:
            return {row.serial: MeterLine(*row) for row in connection.execute(sa.select(line).order_by(line.c.serial))}

    def contacts(self) -> dict[str, Contact]:
        """serial -> contact, of the meters that were tried or heard at all."""
        with self._rows.begin() as connection:
            return {row.serial: Contact(*row) for row in connection.execute(sa.select(contact).order_by(contact.c.serial))}

    def note_contacts(self, seen: Iterable[Contact]) -> None:
        """The newest state of these contacts; `heard_s` never goes back."""
        with self._rows.begin(writing=True) as connection:
            for one in seen:
                row = asdict(one)
                change = insert(connection, contact).values(row)
                newest = sa.case((contact.c.heard_s > change.excluded.heard_s, contact.c.heard_s), else_=change.excluded.heard_s)
                kept: dict[str, sa.ColumnElement[object]] = {n: change.excluded[n] for n in row if n not in ("serial", "heard_s")}
                kept["heard_s"] = sa.func.coalesce(newest, contact.c.heard_s)
                connection.execute(change.on_conflict_do_update(index_elements=["serial"], set_=kept))

    # -- keys -------------------------------------------------------------------------------------------------------------------

    def association_keys(self, serial: str, client: int) -> tuple[WrappedKeys | None, WrappedKeys | None]:
        """(the keys that hold for this client, the ones under way), None = the meter's own, or none under way."""
        with self._rows.begin() as connection:
            query = sa.select(association_key).where(association_key.c.serial == serial, association_key.c.client == client)
            found = {row.state: WrappedKeys(row.ek_wrapped, row.ak_wrapped, row.order_id) for row in connection.execute(query)}
            return found.get("current"), found.get("next")

    def propose_keys(self, serial: str, client: int, keys: WrappedKeys, order_id: str) -> WrappedKeys:
        """Keep new keys beside the old ones, before they are sent; gives what is kept: a proposal of the same order stays as it was.

        RequestError where another order's keys are still under way.
        """
        with self._rows.begin(writing=True) as connection:
            where = (association_key.c.serial == serial, association_key.c.client == client, association_key.c.state == "next")
            held = connection.execute(sa.select(association_key).where(*where)).first()
            if held is not None and held.order_id != order_id:
                raise RequestError(f"meter {serial} has keys under way by order {held.order_id}; let it end before {order_id}")
            if held is not None:
                return WrappedKeys(held.ek_wrapped, held.ak_wrapped, order_id)
            row = {"serial": serial, "client": client, "state": "next", "order_id": order_id}
            connection.execute(association_key.insert(), row | {"ek_wrapped": keys.ek, "ak_wrapped": keys.ak})
            return keys

    def keys_proved(self, serial: str, client: int) -> None:
        """The meter has proved the keys under way: they hold from now on, and the older ones are forgotten."""
        with self._rows.begin(writing=True) as connection:
            own = (association_key.c.serial == serial, association_key.c.client == client)
            if connection.execute(sa.select(association_key).where(*own, association_key.c.state == "next")).first() is None:
                return
            if client == PUSH_CLIENT:
                olds = connection.execute(sa.select(sa.func.count()).where(*own, association_key.c.state.like("old-%"))).scalar_one()
                connection.execute(
                    association_key.update().where(*own, association_key.c.state == "current").values(state=f"old-{olds:04d}")
                )
            else:
                connection.execute(association_key.delete().where(*own, association_key.c.state == "current"))
            connection.execute(association_key.update().where(*own, association_key.c.state == "next").values(state="current"))

    def push_keys(self) -> dict[str, PushKeys]:
        """serial -> the push keys that followed the registry's, of the meters that have any."""
        query = sa.select(association_key).where(association_key.c.client == PUSH_CLIENT)
        found: dict[str, dict[str, WrappedKeys]] = {}
        with self._rows.begin() as connection:
            for row in connection.execute(query):
                found.setdefault(row.serial, {})[row.state] = WrappedKeys(row.ek_wrapped, row.ak_wrapped, row.order_id)
        return {
            serial: PushKeys(
                tuple(of[state] for state in (*sorted(s for s in of if s.startswith("old-")), "current") if state in of), of.get("next")
            )
            for serial, of in found.items()
        }

    def keys_dropped(self, serial: str, order_id: str) -> None:
        """The meter has not taken the keys under way by `order_id`: only the older ones hold."""
        with self._rows.begin(writing=True) as connection:
            own = (association_key.c.serial == serial, association_key.c.order_id == order_id, association_key.c.state == "next")
            connection.execute(association_key.delete().where(*own))


def _counter_is(meter: str, title: bytes) -> tuple[sa.ColumnElement[bool], ...]:
    return invocation_counter.c.meter == meter, invocation_counter.c.title == title
