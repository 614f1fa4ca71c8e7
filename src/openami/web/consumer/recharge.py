"""Paying from the phone: an amount, a second look at it, the gateway, and how the payment stands.

What always holds: a payment is written down before a gateway is asked, under an id that the page brings along, so a form sent twice pays once;
the balance moves only when the gateway's signed word is in; no amount is chosen beforehand, and nothing is added to it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from ...errors import InputError, OpenAMIError, RequestError
from ...payments.client import GatewayClient
from ...payments.desk import PaymentDesk
from ...payments.event import State, read_event
from ...payments.gateways import Gateway
from ...payments.signing import HEADER, doubt
from ...payments.simulator import Simulator
from ...prepaid.recharge import RechargePolicy, recharge_policy
from ..failures import NotThere, NotUsable
from ..gate import FormToken
from ..once import Filled
from ..parameters import READ, Choice, Lang, LatinFigures
from . import answers
from .here import Here, OwnAccount, SeesAccounts

log = logging.getLogger(__name__)
first = APIRouter(prefix="/my", include_in_schema=False)
router = APIRouter(prefix="/my", include_in_schema=False, route_class=Filled)
RUPEES_MOST = 100_000
SUGGESTED_DAYS = (7, 15, 30)
ROUNDED_TO_RUPEES = 50
PLAIN_RUPEES = (100, 200, 500)
"""Where it cannot be told how long an amount lasts."""
PAYMENT_ID = re.compile(r"W[0-9a-f]{24}")
AMOUNT = re.compile(r"[0-9]{1,7}(\.[0-9]{1,2})?")
Text = Annotated[str, LatinFigures, Form(max_length=60)]


@dataclass(frozen=True)
class Payer:
    """How one deployment's consumers pay. gateway: None = they cannot pay from here; simulated: it is ours, and nothing is really paid."""

    gateway: Gateway | None
    desk: Callable[[], PaymentDesk]
    simulated: bool = False

    def begin(self, payment_id: str, account: str, amount_paise: int, policy: RechargePolicy) -> None:
        """Written down, and the gateway asked to collect. RequestError by name where it is not accepted; a gateway that does not answer now is
        asked again by the poll."""
        if self.gateway is None:
            raise RequestError("there is no payment gateway; name one in payments.toml")
        desk = self.desk()
        state = desk.start(self.gateway.name, payment_id, account, amount_paise, policy)
        if self.simulated or state is not State.PENDING:
            return
        client = GatewayClient(self.gateway, desk)
        try:
            client.collect(payment_id, account, amount_paise)
        except OpenAMIError as error:
            log.warning("gateway %s was not reached for payment %s: %s", self.gateway.name, payment_id, error)
        finally:
            client.close()

    def asked_for(self, payment_id: str) -> tuple[str, int, State] | None:
        """Account, amount [paise] and state of a payment that was begun; None where none was."""
        return self.desk().asked_for(self.gateway.name, payment_id) if self.gateway is not None else None

    def pay_simulated(self, payment_id: str, account: str, amount_paise: int) -> None:
        """The payer's tap in the simulated gateway: it collects, and tells us by a signed event like any other."""
        if self.gateway is None or not self.simulated:
            raise RequestError("only a simulated gateway can be told to pay")
        gateway, desk = self.gateway, self.desk()

        async def send(body: bytes, headers: dict[str, str]) -> int:
            if doubt(gateway.secrets, headers.get(HEADER), body, desk.now_s()):
                return 401
            return 409 if desk.take(read_event(gateway.name, body, desk.now_s())).cause else 200

        asyncio.run(Simulator(gateway, send, seed=int(payment_id[1:9], 16)).collect(payment_id, account, amount_paise))


def payer_of(request: Request) -> Payer:
    found: Payer = request.app.state.payer
    return found


@first.api_route("/recharge", methods=READ, response_model=None)
def shortcut(who: SeesAccounts) -> Response:
    """From the phone's home screen: to the first account's recharge."""
    accounts = sorted(who.reach.accounts)
    return RedirectResponse(f"/my/{accounts[0]}/recharge" if accounts else "/me", 303)


@router.api_route("/{account}/recharge", methods=READ, response_model=None)
def choose(own: OwnAccount, lang: Lang = "") -> Response:
    return _choice(own)


@router.post("/{account}/recharge", response_model=None)
def look_again(own: OwnAccount, amount: Text = "", form: FormToken = "", lang: Lang = "") -> Response:
    """To the amount once more; nothing has happened yet. That page has the payment's number in its address: whoever comes back to it later finds
    how this payment stands, and begins no other."""
    own.gate.check_form(own.request, own.who, form)
    paise, problem = _amount(own, amount)
    if problem:
        return _choice(own, problem, amount)
    return RedirectResponse(own.url("recharge", f"W{secrets.token_hex(12)}", amount=f"{paise // 100}.{paise % 100:02d}"), 303)


@router.post("/{account}/recharge/{payment_id}", response_model=None)
def begin(own: OwnAccount, payment_id: str, amount: Text = "", form: FormToken = "", lang: Lang = "") -> Response:
    """Pay; the same form sent twice pays once."""
    own.gate.check_form(own.request, own.who, form)
    if not PAYMENT_ID.fullmatch(payment_id):
        raise NotUsable("payment", payment_id)
    paise, problem = _amount(own, amount)
    if problem:
        return _choice(own, problem, amount)
    try:
        payer_of(own.request).begin(payment_id, own.account, paise, _policy(own))
    except RequestError:
        raise NotUsable("payment_begun", amount) from None
    own.gate.note(own.who, own.request, "payment.start", payment_id, f"{paise} paise")
    return RedirectResponse(own.url("recharge", payment_id), 303)


@router.api_route("/{account}/recharge/{payment_id}", methods=READ, response_model=None)
def stands(own: OwnAccount, payment_id: str, amount: Choice = "", lang: Lang = "") -> Response:
    """How the payment stands, and what the balance is now; of one that is not begun, the amount once more, with what it does."""
    if amount and PAYMENT_ID.fullmatch(payment_id) and payer_of(own.request).asked_for(payment_id) is None:
        return _look(own, payment_id, amount)
    paise, state = _own_payment(own, payment_id)
    found = own.consumer(own.town.days()[-1])
    shown = answers.shown_paise(own.site, found, own.gate.now_s)
    return own.page(
        "recharge_state.html",
        None,
        it=found,
        payment_id=payment_id,
        amount_paise=paise,
        state=state.value,
        shown_paise=shown,
        lasts_days=answers.lasting_days(shown, found.week),
        simulated=payer_of(own.request).simulated,
    )


@router.post("/{account}/recharge/{payment_id}/simulated", response_model=None)
def tap(own: OwnAccount, payment_id: str, form: FormToken = "", lang: Lang = "") -> Response:
    """Of a simulated town: the payer agrees, as in a payment app."""
    own.gate.check_form(own.request, own.who, form)
    paise, state = _own_payment(own, payment_id)
    payer = payer_of(own.request)
    if not payer.simulated:
        raise NotThere("page", "")
    if state is State.PENDING:
        payer.pay_simulated(payment_id, own.account, paise)
    return RedirectResponse(own.url("recharge", payment_id), 303)


def _look(own: Here, payment_id: str, amount: str) -> Response:
    paise, problem = _amount(own, amount)
    if problem:
        return _choice(own, problem, amount)
    found = own.consumer(own.town.days()[-1])
    shown = answers.shown_paise(own.site, found, own.gate.now_s)
    return own.page(
        "recharge_confirm.html",
        None,
        it=found,
        amount_paise=paise,
        payment_id=payment_id,
        after_paise=shown + paise,
        lasts_days=answers.lasting_days(shown + paise, found.week),
        simulated=payer_of(own.request).simulated,
    )


def _own_payment(own: Here, payment_id: str) -> tuple[int, State]:
    """Amount and state of one of the account's payments; another's is not there."""
    found = payer_of(own.request).asked_for(payment_id) if PAYMENT_ID.fullmatch(payment_id) else None
    if found is None or found[0] != own.account:
        raise NotThere("payment", payment_id)
    return found[1], found[2]


def _choice(own: Here, problem: str = "", amount: str = "") -> Response:
    """The amounts: what is owed, and what lasts for a week, half a month and a month at the present use; none is chosen."""
    found = own.consumer(own.town.days()[-1])
    shown = answers.shown_paise(own.site, found, own.gate.now_s)
    mean = answers.mean_paise(found.week)
    offers: list[tuple[int, int | None]] = []
    if mean and mean > 0:
        for days in SUGGESTED_DAYS:
            rupees = -(-mean * days // (100 * ROUNDED_TO_RUPEES)) * ROUNDED_TO_RUPEES
            if rupees * 100 >= max(_policy(own).least_paise, 1) and rupees not in [r for r, _ in offers]:
                offers.append((rupees, answers.lasting_days(rupees * 100, found.week)))
    else:
        offers = [(rupees, None) for rupees in PLAIN_RUPEES if rupees * 100 >= _policy(own).least_paise]
    return own.page(
        "recharge.html",
        None,
        status=422 if problem else 200,
        it=found,
        shown_paise=shown,
        offers=offers,
        owed_rupees=-(shown // 100) if shown < 0 else 0,
        rules=_policy(own),
        problem=problem,
        amount=amount,
        possible=payer_of(own.request).gateway is not None,
        moves=[m for m in own.gate.lookup.transfers(own.account, None, 20) if m["kind"] != "charge"][:8],
        local=own.console.local,
    )


def _amount(own: Here, text: str) -> tuple[int, str]:
    """Paise, and what is wrong with them: "" = nothing, else "amount", "most", "least", "step" or "use"."""
    plain = text.strip().removeprefix("₹").replace(",", "").strip()
    if not AMOUNT.fullmatch(plain):
        return 0, "amount"
    whole, _, part = plain.partition(".")
    paise = int(whole) * 100 + int(part.ljust(2, "0") or 0)
    if paise <= 0:
        return 0, "amount"
    rules = _policy(own)
    if paise > RUPEES_MOST * 100:
        return paise, "most"
    if paise < rules.least_paise:
        return paise, "least"
    return paise, "step" if rules.step_paise and paise % rules.step_paise else ""


def _policy(own: Here) -> RechargePolicy:
    """The utility's; one that has none of its own takes any amount."""
    try:
        return recharge_policy(own.site.deployment.policy)
    except InputError:
        return RechargePolicy(own.site.deployment.policy, 0, 0, 0, (), False, "", "no rules on amounts are known for this utility")
