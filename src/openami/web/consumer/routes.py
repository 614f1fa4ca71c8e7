"""The pages that show: home, deductions, usage, supply. What changes anything stands in `recharge` and `care`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from ...control.order import What
from ...day import Site
from ...day.why import Why
from ...store.heard import Heard
from ...supply.chain import chain_of
from ..access import Role
from ..api.money import explained
from ..api.words import Refused
from ..failures import NotThere, NotUsable
from ..lane import WAITING_AT_A_SERVER, Lane
from ..parameters import READ, Choice, Day, Lang
from ..reader import LakeTown
from ..townbook import DayCost
from ..wording import Language
from . import answers, care, offline, proof, recharge
from .figures import Column, columns
from .here import Account, Here, OwnAccount, here, own_account, sees_accounts

router = APIRouter(prefix="/my", include_in_schema=False)
SHOWN_EVENTS, SHOWN_ORDERS, SHOWN_MOVES = 10, 3, 10
SUPPLY_BITS = (85, 86)
"""Of the event status word: the last gasp, and the first breath after it."""


def add_consumer_pages(app: FastAPI, town: LakeTown, payer: recharge.Payer) -> None:
    """The app below `/my`, beside the console of `town`."""

    def site() -> Site:
        return town.site

    app.state.lane = Lane(1 if town.rows.database.is_sqlite else WAITING_AT_A_SERVER)
    app.state.town, app.state.site, app.state.payer, app.state.has_consumer_pages = town, site, payer, True
    for part in (offline.router, recharge.first, router, recharge.router, care.router, proof.router):
        app.include_router(part)


@router.api_route("", methods=READ, response_model=None)
async def start(request: Request, lang: Lang = "") -> Response:
    """Where the app opens: the first account's home, without a detour."""

    def first() -> Response:
        who = sees_accounts(request)
        accounts = sorted(who.reach.accounts)
        if who.role is not Role.CONSUMER or not accounts:
            return RedirectResponse("/me", 303)
        return _home(own_account(request, who, accounts[0]))

    return await _quickly(request, first)


@router.api_route("/{account}", methods=READ, response_model=None)
async def home(request: Request, account: Account, lang: Lang = "") -> Response:
    return await _quickly(request, lambda: _home(here(request, account)))


async def _quickly(request: Request, page: Callable[[], Response]) -> Response:
    """One call in one thread, in the lane: the page that is asked for most."""
    town: LakeTown = request.app.state.town
    lane: Lane = request.app.state.lane
    return await lane.go(lambda: town.at_once(page))


def _home(own: Here) -> Response:
    days = own.days()
    if not days:
        return own.page("none_yet.html", None)
    found = own.consumer(days[-1])
    shown = answers.shown_paise(own.site, found, own.gate.now_s)
    orders = own.gate.lookup.orders(own.who.reach, None, SHOWN_ORDERS, serial=found.meter)
    return own.page(
        "home.html",
        days[-1],
        it=found,
        shown_paise=shown,
        since_paise=shown - found.balance_paise,
        now=own.console.local(own.gate.now_s),
        lasts_days=answers.lasting_days(shown, found.week) if shown != found.balance_paise else found.days_left,
        supply_on=answers.supply_on(found, orders),
        last_order=orders[0] if orders else None,
        week_figure=lambda words: week_figure(words, found.week, days[-1]),
    )


@router.api_route("/{account}/days/{day}", methods=READ, response_model=None)
def one_day(own: OwnAccount, day: str, lang: Lang = "") -> Response:
    """Why a day cost what it did, line by line."""
    asked = own.day(day)
    found = own.consumer(asked)
    told = _explained(own, asked)
    return own.page("day.html", asked, it=found, tree=told and told.tree, change=told and told.change, day_url=partial(own.url, "days"))


def _explained(own: Here, day: date) -> Why | None:
    """The derivation of a day; None where it is not charged, or does not tie with what was."""
    if day not in own.days():
        return None
    try:
        return explained(own.site, own.account, day)
    except Refused:
        return None


@router.api_route("/{account}/usage", methods=READ, response_model=None)
def usage(own: OwnAccount, day: Day = "", lang: Lang = "") -> Response:
    """A day by hours on the tariff's clock, the days before it, and the other tariff."""
    asked = own.day(day)
    found = own.consumer(asked)
    hours = answers.one_day(own.site, own.row, own.meter, asked)
    return own.page(
        "usage.html",
        asked,
        it=found,
        hours=hours,
        others=answers.what_if(own.site, own.row, own.meter, asked),
        day_figure=lambda words: day_figure(words, hours),
        usage_url=lambda day: own.url("usage", day=day),
    )


@router.api_route("/{account}/usage.csv", methods=READ, response_model=None)
def usage_csv(own: OwnAccount, day: Day = "", span: Choice = "day") -> Response:
    """A day's hours (hour_start in the deployment's zone), or the seven days to it in paise; empty = not known."""
    asked = own.day(day)
    if span == "day":
        hours = answers.one_day(own.site, own.row, own.meter, asked).hours
        header = "hour_start,wh,whole,estimated"
        rows: list[tuple[object, ...]] = [(h.start.isoformat(), h.wh, int(h.whole), int(h.estimated)) for h in hours]
    elif span == "week":
        week = own.consumer(asked).week
        header = "day,charge_paise,wh,estimated"
        rows = [(d.day.isoformat(), d.charge_paise, d.wh, int(d.estimated)) for d in week]
    else:
        raise NotUsable("span", span)
    text = "".join(",".join("" if value is None else str(value) for value in row) + "\r\n" for row in [(header,), *rows])
    headers = {"content-disposition": f'attachment; filename="{own.account}-{asked}-{span}.csv"', "cache-control": "private, no-store"}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.api_route("/{account}/supply", methods=READ, response_model=None)
def supply(own: OwnAccount, lang: Lang = "") -> Response:
    """Whether there is supply, how an order stands step by step, and what happened lately."""
    days = own.days()
    if not days:
        raise NotThere("day", "")
    orders = own.gate.lookup.orders(own.who.reach, None, SHOWN_ORDERS, serial=own.row["meter"])
    details = [own.gate.lookup.order(own.who.reach, one["order_id"]) for one in orders]
    first_s = own.site.calendar.day_start(own.row["since"])
    events = Heard(own.site.rows).events(first_s=first_s, serial=own.row["meter"], bits=SUPPLY_BITS, limit=SHOWN_EVENTS)
    moves = own.gate.lookup.transfers(own.account, None, SHOWN_MOVES)
    found = own.consumer(days[-1])
    return own.page(
        "supply.html",
        None,
        it=found,
        supply_on=answers.supply_on(found, orders),
        orders=details,
        chains={one["order_id"]: chain_of(own.site.rows, one["order_id"]) for one in orders if one["what"] == What.CONNECT},
        events=events,
        moves=moves,
        alerts=care.alerts_of(own),
        local=own.console.local,
    )


def week_figure(words: Language, week: tuple[DayCost, ...], now: date) -> Markup:
    """Seven days in rupees."""
    known = [(d.day, d.charge_paise) for d in week if d.charge_paise is not None]
    top = max((paise for _, paise in known), default=0)
    if top <= 0:
        return Markup("")  # nothing to see: the page says so
    data = [Column(None if d.charge_paise is None else d.charge_paise / 100, str(d.day.day), d.estimated, d.day == now) for d in week]
    told = [f"{words.day_short(day)}: {words.rupees(paise)}" for day, paise in known]
    return columns("week", words.say("Last seven days, in rupees"), "; ".join(told), data, words.rupees(top))


def day_figure(words: Language, found: answers.OneDay) -> Markup:
    """A day's hours in units, with the bands of the tariff's clock behind them."""
    bands = {k: f"heat l{rank}" for rank, k in enumerate(_cheap_to_dear(found.rates))} if found.rates else {}
    data = [
        Column(
            None if h.wh is None else h.wh / 1000,
            f"{h.start.hour}" if h.start.hour % 3 == 0 else "",
            h.estimated or not h.whole,
            band=bands.get(h.period, ""),
        )
        for h in found.hours
    ]
    known = [(h.wh, h.start) for h in found.hours if h.wh is not None]
    title = words.say("Units by hour, %(day)s", day=words.day_short(found.day))
    if not known:
        return columns("day", title, words.say("Nothing was read on this day."), data, "")
    top_wh, at = max(known)
    told = words.say("Most in the hour from %(time)s: %(units)s units.", time=words.time(at), units=words.number(top_wh / 1000, 2))
    return columns("day", title, told, data, words.say("%(units)s units", units=words.number(top_wh / 1000, 2)))


def _cheap_to_dear(rates: tuple[answers.Rate, ...]) -> list[int]:
    """Positions of the periods, the cheapest first."""
    return sorted(range(len(rates)), key=lambda k: (rates[k].times_mille, rates[k].add_mp))
