"""How each kind of order is asked of a meter and read back: relay, load limit, clock, calendar, keys.

A procedure has two halves: `read` says how the meter stands against the order, and may be repeated as often as one likes; `send` asks for it
once. Who decides when each is done is `orders.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from ..control.order import Event, Order, What, closing, reading
from ..cosem.apdu import Item, Ref
from ..cosem.axdr import Data, Tag, decode_all
from ..cosem.ciphering import Keys
from ..cosem.clock import CosemDateTime
from ..cosem.objects import read_scaler_unit, stamp_of
from ..cosem.operations import KeyId, key_transfer
from ..cosem.push import obis_text
from ..errors import InputError, MeterError
from ..store.contacts import PUSH_CLIENT
from .lines import Talk
from .sentences import code_name
from .session import UTILITY, Denied, MeterSession
from .wishes import SECURITY_SETUPS, read_wish

RELAY, LIMITER, CLOCK, CALENDAR = "0.0.96.3.10.255", "0.0.17.0.0.255", "0.0.1.0.0.255", "0.0.13.0.0.255"
CLOCK_TOLERANCE_S = 5
DEVIATION_MINUTES = -330
PUSH_UNDER_WAY_S = 300
"""How long behind a key change a push under the old keys may still have been on its way."""
NOTHING = Data(Tag.INTEGER, 0)
READ_NOW = (("import", "1.0.1.8.0.255"), ("export", "1.0.2.8.0.255"), ("voltage", "1.0.12.7.0.255"))
VOLTAGES, LIVE_V = ("1.0.12.7.0.255", "1.0.32.7.0.255"), 100
"""Instantaneous voltage of a single-phase and of a three-phase meter (phase R); from how many volts on a supply counts as alive, of 230 V."""


class Procedure(Protocol):
    """client: who asks. settle_s: how long after a success the meter may still show the old state."""

    client: int
    settle_s: int

    async def read(self, talk: Talk, order: Order) -> tuple[Event | None, str]:
        """How the meter stands against the order: READ_AS_ASKED, READ_OTHERWISE, READ_READY, None = it cannot be told yet; and a note for the
        record."""

    async def send(self, talk: Talk, order: Order) -> None:
        """Ask for it, once. Denied: the meter has refused it; any other error: nobody knows."""


class RelayProcedure:
    """Disconnect and connect: class 70. Done is control state and output together."""

    client, settle_s = UTILITY, 10

    async def read(self, talk: Talk, order: Order) -> tuple[Event, str]:
        session = await talk.session()
        output, state, mode = [one.value for one in await given(session, *(Ref(70, RELAY, member) for member in (2, 3, 4)))]
        if not isinstance(output, bool | int) or not isinstance(state, int):
            raise MeterError(f"{session.address} gives a relay state that is none: {output}, {state}", "layout")
        event = reading(order.what, state, bool(output))
        note = f"control state {state}, output {int(output)}, control mode {mode}"
        if event is Event.READ_READY:
            note += f"; closes: {closing(mode if isinstance(mode, int) else None)}"
        return event, note

    async def send(self, talk: Talk, order: Order) -> None:
        session = await talk.session()
        await session.action(Ref(70, RELAY, 1 if order.what is What.DISCONNECT else 2), NOTHING)


async def voltage_seen(talk: Talk) -> str:
    """The voltage that the meter shows now, in words, "" where it shows too little to live on. A meter that measures ahead of its relay says by this
    that its feeder is alive, not more. Denied: it shows none."""
    session = await talk.session()
    for obis in VOLTAGES:
        shown, scale = await session.get_each(Item(Ref(3, obis, 2)), Item(Ref(3, obis, 3)))
        if isinstance(shown, Data) and isinstance(scale, Data) and isinstance(shown.value, int | float):
            scaler, _ = read_scaler_unit(scale) or (0, "")
            volts = shown.value * 10.0**scaler
            return f"{volts:.1f} V at the meter" if volts >= LIVE_V else ""
    raise Denied(f"{session.address} shows no voltage to client {session.credentials.client}", "object undefined")


class LoadLimitProcedure:
    """{"limit_w": 5000} and, if wanted, "over_s" and "under_s": the limiter's normal threshold and durations (class 71)."""

    client, settle_s = UTILITY, 0

    async def read(self, talk: Talk, order: Order) -> tuple[Event, str]:
        session = await talk.session()
        wanted = await self._wanted(session, order)
        shown = await given(session, *(Ref(71, LIMITER, member) for member in wanted))
        as_asked = all(one.value == value for one, value in zip(shown, wanted.values(), strict=True))
        note = ", ".join(f"attribute {member} is {one.value}" for member, one in zip(wanted, shown, strict=True))
        return (Event.READ_AS_ASKED if as_asked else Event.READ_OTHERWISE), note

    async def send(self, talk: Talk, order: Order) -> None:
        session = await talk.session()
        for member, value in (await self._wanted(session, order)).items():
            (old,) = await given(session, Ref(71, LIMITER, member))
            await session.set(Item(Ref(71, LIMITER, member)), Data(old.tag, value))

    async def _wanted(self, session: MeterSession, order: Order) -> dict[int, int]:
        """Attribute -> number, the threshold in the scale of the quantity that is watched."""
        wish = read_wish(order.what, order.wish)
        (monitored,) = await given(session, Ref(71, LIMITER, 2))
        class_id, name, attribute = (one.value for one in monitored.value)
        if (class_id, attribute) not in ((3, 2), (5, 2)):
            raise InputError(f"the limiter of {session.address} watches class {class_id}, attribute {attribute}; it is not set in watts")
        (scale,) = await given(session, Ref(class_id, obis_text(name), 3 if class_id == 3 else 4))
        scaler, unit = read_scaler_unit(scale) or (0, "")
        whole, rest = divmod(wish["limit_w"] * 10 ** max(0, -scaler), 10 ** max(0, scaler))
        if unit not in ("W", "VA") or rest:
            raise InputError(f"a limit of {wish['limit_w']} W cannot be written in steps of 10^{scaler} {unit}; give a multiple of them")
        named = {4: whole, 6: wish.get("over_s"), 7: wish.get("under_s")}
        return {member: value for member, value in named.items() if value is not None}


class ClockProcedure:
    """Set to our time as it is when it is sent. {"tolerance_s": 5}: how near is near enough."""

    client, settle_s = UTILITY, 0

    def __init__(self, now_s: Callable[[], int]) -> None:
        self._now_s = now_s

    async def read(self, talk: Talk, order: Order) -> tuple[Event, str]:
        (shown,) = await given(await talk.session(), Ref(8, CLOCK, 2))
        stamp = stamp_of(shown, -DEVIATION_MINUTES)
        if stamp is None:
            return Event.READ_OTHERWISE, "the meter's clock shows no time"
        ahead_s = stamp - self._now_s()
        near = abs(ahead_s) <= read_wish(order.what, order.wish).get("tolerance_s", CLOCK_TOLERANCE_S)
        return (Event.READ_AS_ASKED if near else Event.READ_OTHERWISE), f"the meter's clock is {ahead_s:+d} s from ours"

    async def send(self, talk: Talk, order: Order) -> None:
        session = await talk.session()
        now = CosemDateTime.from_stamp(self._now_s(), DEVIATION_MINUTES, 0)
        await session.set(Item(Ref(8, CLOCK, 2)), Data(Tag.OCTET_STRING, now.encode()))


class ReadProcedure:
    """Read now: energies, voltage and the clock, as the note of the step that ends the order. Nothing is sent; what the meter does not have is
    left out, and a meter that has none of it is an error."""

    client, settle_s = UTILITY, 0

    async def read(self, talk: Talk, order: Order) -> tuple[Event, str]:
        session, told = await talk.session(), list[str]()
        for name, obis in READ_NOW:
            try:
                value, scale = await given(session, Ref(3, obis, 2), Ref(3, obis, 3))
            except Denied:
                continue
            scaler, unit = read_scaler_unit(scale) or (0, "")
            if isinstance(value.value, int | float):
                told.append(f"{name} {round(value.value * 10.0**scaler, 3):g} {unit}")
        if not told:
            raise MeterError(f"{session.address} gives none of its registers", "layout")
        (shown,) = await given(session, Ref(8, CLOCK, 2))
        stamp = stamp_of(shown, -DEVIATION_MINUTES)
        return Event.READ_AS_ASKED, ", ".join([*told, f"meter's clock {stamp} s UTC" if stamp is not None else "no clock"])

    async def send(self, talk: Talk, order: Order) -> None:
        raise InputError(f"order {order.order_id} only reads; nothing is sent for it")


class CalendarProcedure:
    """{"name", "seasons", "weeks", "days"}: the tables of a time-of-use calendar, each as A-XDR in hexadecimal; written as the passive calendar,
    which is then made active (class 20)."""

    client, settle_s = UTILITY, 60

    async def read(self, talk: Talk, order: Order) -> tuple[Event, str]:
        shown = await given(await talk.session(), *(Ref(20, CALENDAR, member) for member in (2, 3, 4, 5)))
        as_asked = list(shown) == self._tables(order)
        return (Event.READ_AS_ASKED if as_asked else Event.READ_OTHERWISE), f"active calendar {shown[0].value!r}"

    async def send(self, talk: Talk, order: Order) -> None:
        session = await talk.session()
        for member, table in zip((6, 7, 8, 9), self._tables(order), strict=True):
            await session.set(Item(Ref(20, CALENDAR, member)), table)
        await session.action(Ref(20, CALENDAR, 1), NOTHING)

    def _tables(self, order: Order) -> list[Data]:
        wish = read_wish(order.what, order.wish)
        return [decode_all(bytes.fromhex(wish[name])) for name in ("name", "seasons", "weeks", "days")]


class KeysProcedure:
    """{"client": 48}: new global keys for one association, made here, kept beside the old ones, wrapped for the journey under the meter's own
    transfer key. Done is an association with the new ones; a meter that takes only the old ones has not got them. Pushes (client 64) have no
    association: done is a push under the new keys, and one under the old ones, a while behind the sending, says that they were not taken."""

    client, settle_s = UTILITY, 0

    async def read(self, talk: Talk, order: Order) -> tuple[Event | None, str]:
        if not order.sent_before:
            return Event.READ_OTHERWISE, "new keys were never sent"
        client = read_wish(order.what, order.wish)["client"]
        if client == PUSH_CLIENT:
            sent_s = max(step.at_s for step in order.steps if step.event is Event.SEND)
            used = talk.lines.push_keys_used(order.meter, order.order_id, sent_s + PUSH_UNDER_WAY_S)
            if used is None:
                return None, "no push since the new keys were sent"
            return (Event.READ_AS_ASKED if used else Event.READ_OTHERWISE), f"it pushes under the {'new' if used else 'old'} keys"
        await talk.hang_up()
        if await talk.lines.proves_new_keys(order.meter, client, order.order_id):
            return Event.READ_AS_ASKED, f"client {client} is taken with the new keys"
        return Event.READ_OTHERWISE, f"client {client} is refused with the new keys"

    async def send(self, talk: Talk, order: Order) -> None:
        client, session = read_wish(order.what, order.wish)["client"], await talk.session()
        fresh = Keys(secrets.token_bytes(16), secrets.token_bytes(16))
        keys = talk.lines.new_keys(order.meter, client, fresh, order.order_id)
        wrapped = key_transfer(talk.lines.transfer_key(order.meter), {KeyId.GLOBAL_ENCRYPTION: keys.ek, KeyId.AUTHENTICATION: keys.ak})
        await session.action(Ref(64, SECURITY_SETUPS[client], 2), wrapped)


async def given(session: MeterSession, *refs: Ref) -> list[Data]:
    """Several attributes, all of which must be there; Denied names the first that is not."""
    found = []
    for ref, one in zip(refs, await session.get_each(*(Item(ref) for ref in refs)), strict=True):
        if not isinstance(one, Data):
            client = session.credentials.client
            what = f"{ref.obis} (class {ref.class_id}, {ref.member})"
            raise Denied(f"{session.address} does not give {what} to client {client}: {code_name(one)}", code_name(one))
        found.append(one)
    return found
