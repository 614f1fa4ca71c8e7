"""`openami relay`: supply off, on, or just its state; an order is done only when the meter says that the relay stands as ordered.

A relay's control mode decides what "on" means (Blue Book, class 70): at once (modes 2 and 4), or only "ready for reconnection", and then by the meter
itself after its delay or at the consumer's button (modes 1, 3, 5, 6).
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from ..cosem.apdu import Item, Ref
from ..cosem.axdr import Data, Tag
from ..errors import MeterError
from ..headend.sentences import code_name
from ..headend.session import Denied, MeterSession, Patience, SilentMeter, Trace
from .access import Access, open_meter

RELAY = "0.0.96.3.10.255"
STATES = {0: "disconnected", 1: "connected", 2: "ready for reconnection"}
POLL_S = 2.0


class Order(StrEnum):
    OFF = "off"
    ON = "on"
    STATE = "state"


def run(access: Access, order: Order, wait_s: float, patience: Patience, trace: Trace | None = None) -> dict[str, Any]:
    """Carry out `order` and give the state read back: output, control state, mode, and `done`: whether the relay stands as ordered."""
    return asyncio.run(_relay(access, order, wait_s, patience, trace))


async def _relay(access: Access, order: Order, wait_s: float, patience: Patience, trace: Trace | None) -> dict[str, Any]:
    async with await open_meter(access, patience, trace) as session:
        before = await _state(session)
        accepted = None
        if order is not Order.STATE and not _stands(before, order):
            try:
                await session.action(Ref(70, RELAY, 1 if order is Order.OFF else 2), Data(Tag.INTEGER, 0))
                accepted = True
            except SilentMeter as silent:
                raise SilentMeter(
                    f"{silent}; whether the relay has moved is not known: ask with openami relay {access.url} state"
                ) from None
            except Denied:
                # A meter that is already "ready for reconnection" refuses to be made ready again; it still closes by itself.
                if order is Order.OFF or before["control_state"] != STATES[2]:
                    raise
                accepted = False
        after = before if order is Order.STATE else await _wait(session, order, wait_s)
        return {"order": str(order), "accepted": accepted, "before": before, **after, "done": order is Order.STATE or _stands(after, order)}


async def _wait(session: MeterSession, order: Order, wait_s: float) -> dict[str, Any]:
    """Read the state back until it stands as ordered, or until the patience for it ends."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        state = await _state(session)
        if _stands(state, order) or asyncio.get_running_loop().time() >= deadline:
            return state
        await asyncio.sleep(min(POLL_S, wait_s))


async def _state(session: MeterSession) -> dict[str, Any]:
    given = await session.get_each(*(Item(Ref(70, RELAY, attribute)) for attribute in (2, 3, 4)))
    for attribute, one in zip((2, 3), given, strict=False):
        if not isinstance(one, Data):
            why = (
                f"{session.address} does not give {RELAY} (class 70, {attribute}) to client {session.credentials.client}: {code_name(one)}"
            )
            raise Denied(why, code_name(one))
    output, state, mode = (one.value if isinstance(one, Data) else None for one in given)
    if not (isinstance(output, int) and isinstance(state, int) and isinstance(mode, int | None)):
        raise MeterError(f"the meter gives a relay state that is no number: {output}, {state}, {mode}", "layout")
    return {"output": bool(output), "control_state": STATES.get(state, f"state {state}"), "control_mode": mode}


def _stands(state: dict[str, Any], order: Order) -> bool:
    """Done means the control state and the contact itself, never just a successful ACTION."""
    wanted = (True, STATES[1]) if order is Order.ON else (False, STATES[0])
    return (state["output"], state["control_state"]) == wanted
