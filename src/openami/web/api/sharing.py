"""What is one's own: who I am, consents; and what an administrator keeps: people, webhooks."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ...store.consents import PURPOSES, Consent
from ...store.webhooks import Webhook
from ..access import Right, Role, Who
from ..gate import gate_of
from ..hooks import EVENTS
from ..outward import Forbidden, target_of
from .words import (
    NAME,
    NOT_MODIFIED,
    Answer,
    Cursor,
    Limit,
    Missing,
    Page,
    Refused,
    Whole,
    api_needs,
    documented,
    key_of,
    page_of,
    town_of,
)
from .work import Key, once

router = APIRouter()
SignedIn = Annotated[Who, Depends(api_needs())]
Shares = Annotated[Who, Depends(api_needs(Right.CONSENTS))]
KeepsPeople = Annotated[Who, Depends(api_needs(Right.PEOPLE))]
KeepsHooks = Annotated[Who, Depends(api_needs(Right.WEBHOOKS))]
PURPOSE_CHOICE = "^(" + "|".join(PURPOSES) + ")$"
EVENT_CHOICE = "^(" + "|".join(event.replace(".", r"\.") for event in EVENTS) + ")$"
EVENT_ID = r"^[A-Za-z0-9][A-Za-z0-9 ._:-]{0,119}$"
CONSENT_DAYS_MOST = 366


class Me(Answer):
    """Who is asking, and what they may."""

    name: str
    role: str
    program: str | None
    rights: list[str]
    everything: bool
    feeders: list[str]
    usage_points: list[str]
    accounts: list[str]


class PersonRow(Answer):
    name: str
    role: str
    since: datetime
    second_factor: bool
    disabled: bool
    grants: list[str]


class GivenConsent(BaseModel):
    """account: one's own; partner: the program that may see it; purposes: what; days: for how long."""

    model_config = ConfigDict(extra="forbid", strict=True)
    account: str = Field(pattern=NAME)
    partner: str = Field(pattern=r"^[A-Za-z0-9._@-]{1,60}$")
    purposes: list[Annotated[str, Field(pattern=PURPOSE_CHOICE)]] = Field(min_length=1, max_length=len(PURPOSES))
    days: Whole = Field(ge=1, le=CONSENT_DAYS_MOST)


class ConsentRow(Answer):
    """ended: when it was taken back, null = it was not."""

    id: str
    account: str
    partner: str
    purposes: list[str]
    given: datetime
    until: datetime
    ended: datetime | None
    holds: bool


class WantedHook(BaseModel):
    """url: https, in printable ASCII (other names as punycode), and not an address inside our own network unless `sign_in.toml` allows it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    url: str = Field(min_length=10, max_length=500, pattern=r"^https?://[!-~]+$")
    events: list[Annotated[str, Field(pattern=EVENT_CHOICE)]] = Field(min_length=1, max_length=len(EVENTS))


class HookRow(Answer):
    id: str
    url: str
    events: list[str]
    made_by: str
    made: datetime
    secret_mark: str


class DeliveryRow(Answer):
    """One event for one address."""

    event: str
    type: str
    state: str
    tries: int
    due: datetime
    problem: str | None


class NewHook(HookRow):
    secret: str


@router.get("/me", responses=documented(success=NOT_MODIFIED))
def me(who: SignedIn) -> Me:
    """Who is asking, and what they may."""
    return Me(
        name=who.name,
        role=str(who.role),
        program=who.program or None,
        rights=sorted(str(right) for right in who.rights if who.may(right)),
        everything=who.reach.everything,
        feeders=sorted(who.reach.feeders),
        usage_points=sorted(who.reach.points),
        accounts=sorted(who.reach.accounts),
    )


@router.get("/people", responses=documented(404, success=NOT_MODIFIED))
def people(request: Request, who: KeepsPeople, limit: Limit = 100, cursor: Cursor = None) -> Page[PersonRow]:
    """By name: everybody who may sign in, but consumers, who come by the phone of their account. An administrator adds and changes them, in the
    control room or with `openami people`."""
    gate, local, after = gate_of(request), town_of(request).calendar.local, key_of(cursor, str)
    everybody = (role for role in Role if role is not Role.CONSUMER)
    found, onward = page_of(
        gate.people.of_roles(*everybody, after=after[0] if after else "", limit=limit + 1), limit, lambda row: (row[0].name,)
    )
    rows = [
        PersonRow(
            name=p.name,
            role=p.role,
            since=local(p.since_s),
            second_factor=p.totp,
            disabled=p.disabled,
            grants=[f"{k}:{s}" for k, s in grants],
        )
        for p, grants in found
    ]
    return Page(items=rows, next=onward)


@router.get("/consents", responses=documented(404, success=NOT_MODIFIED))
def consents(request: Request, who: Shares, limit: Limit = 100, cursor: Cursor = None) -> Page[ConsentRow]:
    """The consents over one's own accounts, latest first; ended ones too."""
    rows, after = gate_of(request).consents.of_accounts(sorted(who.reach.accounts)), key_of(cursor, int, str)
    if after is not None:
        rows = [one for one in rows if (-one.given_s, one.id) > (-after[0], after[1])]
    kept, onward = page_of(rows, limit, lambda one: (one.given_s, one.id))
    return Page(items=[_consent(request, one) for one in kept], next=onward)


@router.post("/consents", status_code=201, response_model=ConsentRow, responses=documented(400, 404, 409))
def give_consent(request: Request, who: Shares, given: GivenConsent, key: Key) -> Response:
    """Let a partner see an account of one's own."""
    return once(request, who, key, given.model_dump(), 201, lambda: _give(request, who, given))


@router.post("/consents/{number}/end", responses=documented(404))
def end_consent(request: Request, who: Shares, number: Annotated[str, Path(pattern=r"^C[0-9a-f]{16}$")]) -> ConsentRow:
    """Take a consent back; at once, and for good."""
    gate = gate_of(request)
    found = gate.consents.find(number)
    if found is None or found.account not in who.reach.accounts:
        raise Missing("consent", number)
    gate.consents.end(number, gate.now_s)
    gate.note(who, request, "consent.end", number)
    after = gate.consents.find(number)
    return _consent(request, after or found)


HookId = Annotated[str, Path(pattern=r"^W[0-9a-f]{16}$")]


@router.get("/webhooks", responses=documented(404, success=NOT_MODIFIED))
def webhooks(request: Request, who: KeepsHooks, limit: Limit = 100, cursor: Cursor = None) -> Page[HookRow]:
    """Who is told what happens."""
    after = key_of(cursor, str)
    rows = [one for one in gate_of(request).webhooks.all() if after is None or one.id > after[0]]
    kept, onward = page_of(rows, limit, lambda one: (one.id,))
    return Page(items=[HookRow(**_hook(request, one)) for one in kept], next=onward)


@router.get("/webhooks/{number}", responses=documented(404, success=NOT_MODIFIED))
def webhook(request: Request, who: KeepsHooks, number: HookId) -> HookRow:
    """One subscription."""
    return HookRow(**_hook(request, _known(request, number)))


@router.get("/webhooks/{number}/deliveries", responses=documented(404, success=NOT_MODIFIED))
def deliveries(request: Request, who: KeepsHooks, number: HookId, limit: Limit = 100, cursor: Cursor = None) -> Page[DeliveryRow]:
    """What was told to the address, and what is to be, the latest first; what was taken or given up is kept for thirty days."""
    _known(request, number)
    kept, onward = page_of(
        gate_of(request).webhooks.told(number, key_of(cursor, int, str), limit + 1), limit, lambda one: (one.due_s, one.event_id)
    )
    local = town_of(request).calendar.local
    rows = [
        DeliveryRow(event=one.event_id, type=one.kind, state=one.state, tries=one.tries, due=local(one.due_s), problem=one.problem or None)
        for one in kept
    ]
    return Page(items=rows, next=onward)


@router.post("/webhooks/{number}/deliveries/{event}/again", status_code=202, responses=documented(404))
def deliver_again(
    request: Request, who: KeepsHooks, number: HookId, event: Annotated[str, Path(pattern=EVENT_ID, max_length=120)]
) -> HookRow:
    """Tell it once more, whatever became of it before: for a receiver that was away for longer than the tries last."""
    found, gate = _known(request, number), gate_of(request)
    if not gate.webhooks.again(number, event, gate.now_s):
        raise Missing("delivery", event)
    gate.note(who, request, "webhook.again", number, event)
    return HookRow(**_hook(request, found))


@router.post("/webhooks/{number}/secret", status_code=201, response_model=NewHook, responses=documented(400, 404, 409))
def new_secret(request: Request, who: KeepsHooks, number: HookId, key: Key) -> Response:
    """A new secret. For a day what is told is signed with the one before as well, so that nothing is missed while the receiver changes over."""

    def act() -> NewHook:
        gate = gate_of(request)
        made = gate.webhooks.new_secret(number, gate.now_s)
        if made is None:
            raise Missing("webhook", number)
        gate.note(who, request, "webhook.secret", number)
        return NewHook(**_hook(request, _known(request, number)), secret=_shown(made))

    return once(request, who, key, {"secret of": number}, 201, act)


@router.post("/webhooks", status_code=201, response_model=NewHook, responses=documented(400, 409))
def add_webhook(request: Request, who: KeepsHooks, wanted: WantedHook, key: Key) -> Response:
    """Tell an address what happens, signed."""
    return once(request, who, key, wanted.model_dump(), 201, lambda: _subscribe(request, who, wanted))


@router.delete("/webhooks/{number}", status_code=204, responses=documented(404))
def end_webhook(request: Request, who: KeepsHooks, number: HookId) -> Response:
    """Tell it nothing more."""
    gate = gate_of(request)
    if not gate.webhooks.end(number, gate.now_s):
        raise Missing("webhook", number)
    gate.note(who, request, "webhook.end", number)
    return Response(status_code=204)


def _give(request: Request, who: Who, given: GivenConsent) -> ConsentRow:
    gate = gate_of(request)
    if given.account not in who.reach.accounts:
        raise Missing("account", given.account)
    partner = gate.people.find(given.partner)
    if partner is None or partner.role != Role.PARTNER or partner.disabled:
        raise Missing("partner", given.partner)
    purposes = tuple(sorted(set(given.purposes)))
    made = gate.consents.give(given.account, given.partner, purposes, who.name, gate.now_s, gate.now_s + 86_400 * given.days)
    gate.note(who, request, "consent.give", made.id, f"{given.partner}: {' '.join(purposes)}, {given.days} days")
    return _consent(request, made)


def _subscribe(request: Request, who: Who, wanted: WantedHook) -> NewHook:
    gate = gate_of(request)
    try:
        target_of(wanted.url, gate.webhook_hosts)
    except Forbidden as forbidden:
        raise Refused(403, "webhook-address", str(forbidden)) from forbidden
    made, secret = gate.webhooks.add(wanted.url, tuple(sorted(set(wanted.events))), who.acts, gate.now_s)
    gate.note(who, request, "webhook.add", made.id, ", ".join(made.events))
    return NewHook(**_hook(request, made), secret=_shown(secret))


def _known(request: Request, number: str) -> Webhook:
    found = next((one for one in gate_of(request).webhooks.all() if one.id == number), None)
    if found is None:
        raise Missing("webhook", number)
    return found


def _hook(request: Request, one: Webhook) -> dict[str, Any]:
    made = town_of(request).calendar.local(one.made_s)
    return {"id": one.id, "url": one.url, "events": list(one.events), "made_by": one.made_by, "made": made, "secret_mark": one.mark}


def _shown(secret: bytes) -> str:
    return "whsec_" + base64.b64encode(secret).decode()


def _consent(request: Request, one: Consent) -> ConsentRow:
    local = town_of(request).calendar.local
    return ConsentRow(
        id=one.id,
        account=one.account,
        partner=one.partner,
        purposes=list(one.purposes),
        given=local(one.given_s),
        until=local(one.until_s),
        ended=None if one.ended_s is None else local(one.ended_s),
        holds=one.holds(gate_of(request).now_s),
    )
