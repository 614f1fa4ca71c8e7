"""Orders to meters, proposals that a second person decides on, and the audit trail.

What always holds: an order needs a reason and an idempotency key, so that a request sent twice acts once; whoever asks for more than a few
disconnections within an hour only proposes them, and another person agrees or not; the guard is asked for every disconnection all the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from ...control.order import END, Event, Order, State, What, advance
from ...errors import RequestError
from ...store.lookup import Reach
from ...store.order_book import NOT_LEFT, OrderBook
from ...store.proposals import BEING_DONE, PROPOSAL_LIVES_S, Proposal
from ..access import DISCONNECTS_ALONE, DISCONNECTS_WINDOW_S, Right, Who
from ..gate import Gate, gate_of
from ..hooks import SETTLED_S
from .words import (
    NAME,
    NOT_MODIFIED,
    SENTENCE,
    Answer,
    Cursor,
    Followed,
    Limit,
    Missing,
    Page,
    Refused,
    Since,
    api_needs,
    documented,
    followed,
    key_of,
    page_of,
    town_of,
)

router = APIRouter()
OrderId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:-]{0,99}$", max_length=100)]
ProposalId = Annotated[str, Path(pattern=r"^P[0-9a-f]{16}$")]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key", pattern=r"^[A-Za-z0-9_-]{8,64}$", description="New for each new request, the same when it is sent again."
    ),
]
SeesOrders = Annotated[Who, Depends(api_needs(Right.ORDERS))]
MakesOrders = Annotated[Who, Depends(api_needs(Right.ORDER))]
SeesAudit = Annotated[Who, Depends(api_needs(Right.AUDIT))]
METERS_MOST = 1000
KEPT_NOWHERE = {"cache-control": "no-store"}
"""An answer that may hold a secret which is shown once."""
ANSWER_PATIENCE_S, ANSWER_LOOK_S = 10.0, 0.05
"""How long, and how often, a request that came twice at once waits for the answer to the first of them."""
ASKED_FROM_CONSOLE = (What.DISCONNECT, What.CONNECT, What.CLOCK, What.READ)
ASKABLE = "^(" + "|".join(str(what) for what in ASKED_FROM_CONSOLE) + ")$"
STATE_CHOICE = "^(" + "|".join(str(state) for state in State) + ")$"


class Asked(BaseModel):
    """What is asked for. why: the reason, for the audit trail and for whoever agrees."""

    model_config = ConfigDict(extra="forbid", strict=True)
    what: str = Field(pattern=ASKABLE)
    meters: list[Annotated[str, Field(pattern=NAME)]] = Field(min_length=1, max_length=METERS_MOST)
    why: str = Field(min_length=5, max_length=300, pattern=SENTENCE)


class Decided(BaseModel):
    """approve: false refuses the proposal."""

    model_config = ConfigDict(extra="forbid", strict=True)
    approve: bool


class Withdrawn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    why: str = Field(min_length=5, max_length=300, pattern=SENTENCE)


class StepOfOrder(Answer):
    at: datetime
    event: str
    state: str
    note: str


class OrderSummary(Answer):
    """An order to a meter, and how it stands."""

    order_id: str
    what: str
    meter: str
    usage_point: str
    account: str | None
    state: str
    requested: datetime
    who: str
    why: str
    problem: str | None


class OrderWhole(OrderSummary):
    steps: list[StepOfOrder]


class ProposalRow(Answer):
    """What somebody proposed. state: waiting, approved, refused, expired."""

    id: str
    what: str
    meters: list[str]
    who: str
    why: str
    made: datetime
    state: str
    decided_by: str | None
    decided: datetime | None


class Taken(Answer):
    """What came of asking: the orders, or the proposal that a second person must agree to."""

    orders: list[str]
    proposal: str | None


class Trail(Answer):
    """A line of the audit trail."""

    number: int
    at: datetime
    who: str
    role: str
    action: str
    subject: str
    why: str
    address: str
    outcome: str


@router.get("/orders", responses=documented(404, success=NOT_MODIFIED))
def orders(
    request: Request,
    who: SeesOrders,
    meter: Annotated[str | None, Query(pattern=NAME, max_length=40)] = None,
    state: Annotated[str | None, Query(pattern=STATE_CHOICE)] = None,
    since: Since = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Followed[OrderSummary]:
    """Orders to meters that may be seen, latest first; with `since`, those that were asked for or had a step since then and at least three seconds
    ago, by their last change, the longest ago first."""
    lookup, only = gate_of(request).lookup, {"serial": meter or "", "state": state or ""}
    if since is None:
        rows = lookup.orders(who.reach, key_of(cursor, int, str), limit + 1, **only)
        kept, onward = page_of(rows, limit, lambda row: (row["requested_s"], row["order_id"]))
        return Followed(items=[OrderSummary(**_order(request, row)) for row in kept], next=onward, later=None)

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["changed_s"], row["order_id"], True

    after = key_of(cursor, int, str, bool) or (int(since.timestamp()), "", True)
    rows = lookup.orders_changed(who.reach, after[:2], gate_of(request).now_s - SETTLED_S, limit + 1, **only)
    kept, onward = page_of(rows, limit, key)
    return followed([OrderSummary(**_order(request, row)) for row in kept], onward, after, kept, key)


@router.get("/orders/{order_id}", responses=documented(404, success=NOT_MODIFIED))
def order(request: Request, who: SeesOrders, order_id: OrderId) -> OrderWhole:
    """One order with all that has happened to it."""
    found = gate_of(request).lookup.order(who.reach, order_id)
    if found is None:
        raise Missing("order", order_id)
    local = town_of(request).calendar.local
    steps = [StepOfOrder(at=local(s["at_s"]), event=s["event"], state=s["state"], note=s["note"]) for s in found["steps"]]
    return OrderWhole(**_order(request, found), steps=steps)


@router.post("/orders", status_code=202, response_model=Taken, responses=documented(400, 404, 409))
def ask(request: Request, who: MakesOrders, asked: Asked, key: Key) -> Response:
    """Ask for an order to each of the meters. All of them are written down, or none; more than ten disconnections of one person within an hour
    become a proposal for a second person."""
    return once(request, who, key, asked.model_dump(), 202, lambda: ask_for(request, who, asked))


@router.post("/orders/{order_id}/withdraw", responses=documented(400, 404, 409))
def withdraw(request: Request, who: MakesOrders, order_id: OrderId, given: Withdrawn) -> OrderWhole:
    """Take an order back that has not left for its meter yet."""
    gate = gate_of(request)
    if gate.lookup.order(who.reach, order_id) is None:
        raise Missing("order", order_id)
    book = OrderBook(gate.backing.rows)
    standing = book.order(order_id)
    if standing.state in END or standing.state not in NOT_LEFT:
        raise Refused(409, "order-state", f"order {order_id} is {standing.state}: what has left or ended cannot be withdrawn")
    try:
        book.record(standing, advance(standing, Event.WITHDRAW, max(gate.now_s, _last_s(standing)), f"{who.acts}: {given.why}"))
    except RequestError as error:
        raise Refused(409, "order-state", str(error)) from error
    gate.note(who, request, "order.withdraw", order_id, given.why)
    return order(request, who, order_id)


@router.get("/proposals", responses=documented(404, success=NOT_MODIFIED))
def proposals(request: Request, who: MakesOrders, limit: Limit = 100, cursor: Cursor = None) -> Page[ProposalRow]:
    """What waits for a second person, and what was decided, latest first; only those whose meters are all within the reach."""
    gate = gate_of(request)
    kept, onward = page_of(gate.proposals.page(key_of(cursor, int, str), limit + 1), limit, lambda p: (p.made_s, p.id))
    return Page(items=[_proposal(request, p) for p in kept if _sees_all(request, who, p)], next=onward)


@router.post("/proposals/{number}/decision", responses=documented(400, 404, 409))
def decide(request: Request, who: MakesOrders, number: ProposalId, given: Decided) -> ProposalRow:
    """Agree to another person's proposal, or refuse it."""
    gate = gate_of(request)
    found = gate.proposals.find(number)
    if found is None or not _sees_all(request, who, found):
        raise Missing("proposal", number)
    if who.program:
        raise Refused(403, "person-wanted", "a program cannot be the second person; sign in and decide yourself")
    orders: list[Order] = []

    def act(connection: Connection, agreed: Proposal) -> None:
        orders.extend(_orders(gate, What(agreed.what), list(agreed.subjects), f"{agreed.who}, agreed by {who.name}", agreed.why, number))
        _write(gate, connection, orders)

    try:
        after = gate.proposals.decide(number, given.approve, who.name, gate.now_s, act)
    except RequestError as error:
        raise Refused(409, "proposal-state", str(error)) from error
    gate.note(who, request, "proposal.approve" if given.approve else "proposal.refuse", number, after.why)
    _note_all(request, who, orders)
    return _proposal(request, after)


@router.get("/audit", responses=documented(404, success=NOT_MODIFIED))
def audit(
    request: Request,
    reader: SeesAudit,
    who: Annotated[str | None, Query(max_length=60, pattern=r"^[^\x00]*$")] = None,
    subject: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    action: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Trail]:
    """The audit trail, latest first."""
    before = key_of(cursor, int)
    found = gate_of(request).trail.latest(limit + 1, before[0] if before else None, who, action, subject)
    kept, onward = page_of(found, limit, lambda line: (line[0],))
    local = town_of(request).calendar.local
    return Page(
        items=[
            Trail(
                number=n,
                at=local(e.at_s),
                who=e.who,
                role=e.role,
                action=e.action,
                subject=e.subject,
                why=e.why,
                address=e.address,
                outcome=e.outcome,
            )
            for n, e in kept
        ],
        next=onward,
    )


def once(request: Request, who: Who, key: str, given: Any, status: int, act: Callable[[], Answer]) -> Response:
    """`act` done once for an idempotency key, however many ask at once; sent again, the same answer with `Idempotency-Replayed: true`."""
    answers, now_s = gate_of(request).answers, gate_of(request).now_s
    digest = hashlib.sha256(f"{request.url.path}\n{json.dumps(given, sort_keys=True)}".encode()).digest()
    waits_until = time.monotonic() + ANSWER_PATIENCE_S
    try:
        while (kept := answers.claim(who.name, key, digest, now_s)) is not None:
            if kept[0] != BEING_DONE:
                return JSONResponse(kept[1], kept[0], headers={"idempotency-replayed": "true"} | KEPT_NOWHERE)
            if time.monotonic() > waits_until:
                raise Refused(
                    409, "idempotency-key", "this request was begun and has no answer yet; look whether it was done, then give a new key"
                )
            time.sleep(ANSWER_LOOK_S)
    except RequestError as error:
        raise Refused(409, "idempotency-key", str(error)) from error
    try:
        body = act().model_dump(mode="json")
    except Exception:
        answers.release(who.name, key)
        raise
    answers.keep(who.name, key, status, body)
    return JSONResponse(body, status, headers=KEPT_NOWHERE)


def ask_for(request: Request, who: Who, asked: Asked) -> Taken:
    """The orders, or the proposal that a second person must agree to. Refused where a meter is not there for `who`."""
    gate = gate_of(request)
    what, serials = What(asked.what), list(dict.fromkeys(asked.meters))
    there = {row["serial"] for row in gate.lookup.meters_named(who.reach, serials)}
    if absent := [serial for serial in serials if serial not in there]:
        raise Missing("meter", absent[0])
    orders = _orders(gate, what, serials, who.acts, asked.why)
    with gate.backing.rows.begin(writing=True) as connection:
        allowed = what is not What.DISCONNECT or _alone(gate, who, len(serials))
        if allowed:
            _write(gate, connection, orders)
    if allowed:
        _note_all(request, who, orders)
        return Taken(orders=[order.order_id for order in orders], proposal=None)
    made = gate.proposals.make(what, tuple(serials), who.name, asked.why, gate.now_s)
    gate.note(who, request, f"order.{what}", made.id, f"{len(serials)} meters: {asked.why}", "waiting")
    return Taken(orders=[], proposal=made.id)


def _orders(gate: Gate, what: What, serials: list[str], who: str, why: str, under: str = "") -> list[Order]:
    """An order to each meter, not written down yet."""
    accounts = {row["serial"]: row["account"] or "" for row in gate.lookup.meters_named(Reach(everything=True), serials)}
    numbers = [f"{under or 'A' + secrets.token_hex(6)}:{serial}"[:100] for serial in serials]
    return [
        Order(number, what, accounts[serial], serial, gate.now_s, who=who, why=why) for number, serial in zip(numbers, serials, strict=True)
    ]


def _alone(gate: Gate, who: Who, more: int) -> bool:
    """Whether somebody may ask for so many more disconnections without a second person, by hand and by programs together. Asked while nobody else
    writes orders, so that many requests at once, to many processes, do not pass."""
    return gate.lookup.asked_by(who.name, What.DISCONNECT, gate.now_s - DISCONNECTS_WINDOW_S) + more <= DISCONNECTS_ALONE


def _write(gate: Gate, connection: Connection, orders: list[Order]) -> None:
    """All orders or none, into the book from which the head-end's desk takes them."""
    for order in orders:
        OrderBook(gate.backing.rows).ask_in(connection, order)


def _note_all(request: Request, who: Who, orders: list[Order]) -> None:
    for order in orders:
        gate_of(request).note(who, request, f"order.{order.what}", order.order_id, order.why)


def _sees_all(request: Request, who: Who, found: Proposal) -> bool:
    return who.reach.everything or len(gate_of(request).lookup.meters_named(who.reach, list(found.subjects))) == len(found.subjects)


def _last_s(standing: Order) -> int:
    return standing.steps[-1].at_s if standing.steps else standing.requested_s


def _order(request: Request, row: dict[str, Any]) -> dict[str, Any]:
    plain = {name: row[name] for name in ("order_id", "what", "meter", "usage_point", "state", "who", "why")}
    requested = town_of(request).calendar.local(row["requested_s"])
    return plain | {"account": row["account"] or None, "requested": requested, "problem": row["problem"] or None}


def _proposal(request: Request, found: Proposal) -> ProposalRow:
    local, now_s = town_of(request).calendar.local, gate_of(request).now_s
    state = "expired" if found.state == "waiting" and now_s - found.made_s > PROPOSAL_LIVES_S else found.state
    return ProposalRow(
        id=found.id,
        what=found.what,
        meters=list(found.subjects),
        who=found.who,
        why=found.why,
        made=local(found.made_s),
        state=state,
        decided_by=found.decided_by,
        decided=None if found.decided_s is None else local(found.decided_s),
    )
