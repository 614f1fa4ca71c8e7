"""Tariffs as cards: what a unit costs, what a month costs, when, for whom, by which order; and each tariff through time.

What always holds: a card is what is charged by, said in words, nothing is typed twice; what is unconfirmed stands beside the line that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from fastapi import APIRouter, Request, Response

from ...billing import tariff as rules
from ...billing.tariff import Condition, FixedPer, Line, Payment, Tariff, TariffBook, load_tariffs
from ..failures import NotThere, NotUsable
from ..gate import gate_of
from ..pages import Console, reading_language
from ..parameters import Choice, Day, Lang
from ..wording import Language, language
from .exports import as_file
from .routes import Name, Sees, page

router = APIRouter(prefix="/room")
MP_PER_RUPEE, WH_PER_UNIT, MILLE = 100_000, 1000, 1000
COLUMNS = ("tariff", "since", "until", "line", "what", "rate", "verify")


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a card. rows: (what it is about, "" = everything; how much)."""

    label: str
    rows: tuple[tuple[str, str], ...]
    when: str
    source: str
    verify: str


@router.get("/tariffs", response_model=None)
def tariffs(request: Request, who: Sees, day: Day = "", text: Choice = "", lang: Lang = "") -> Response:
    """The tariffs that hold on a day, today if none is asked for; those of which name, title or category hold `text`."""
    on, book, wanted = _day(request, day), load_tariffs(), text.strip().casefold()
    found = [one for name in book.names if (one := held(book, name, on)) is not None]
    shown = [one for one in found if wanted in " ".join((one.name, one.title_en, one.title_hi, one.category, one.utility)).casefold()]
    return page(request, "tariffs.html", cards=shown, on=on, text=text, said=said)


@router.get("/tariffs.csv", response_model=None)
def tariffs_file(request: Request, who: Sees, day: Day = "", format: Choice = "csv") -> Response:
    """Every line of the tariffs that hold on a day, in words."""
    on, book, words = _day(request, day), load_tariffs(), language(reading_language(request))
    rows = [
        {"tariff": one.name, "since": one.since, "until": one.until, "line": line.label, "what": what, "rate": rate, "verify": line.verify}
        for name in book.names
        if (one := held(book, name, on)) is not None
        for line in said(words, one)
        for what, rate in line.rows
    ]
    return as_file([{key: str(value) for key, value in row.items()} for row in rows], f"tariffs-{on}", format, COLUMNS)


@router.get("/tariffs/{name}", response_model=None)
def tariff(request: Request, who: Sees, name: Name, day: Day = "", lang: Lang = "") -> Response:
    """One tariff as it holds on a day, and its other dates."""
    book, on = load_tariffs(), _day(request, day)
    if name not in book.names:
        raise NotThere("tariff", name)
    versions = book.versions(name)
    shown = held(book, name, on)
    return page(request, "tariff.html", it=shown, name=name, title=shown or versions[-1], on=on, versions=versions, said=said)


def held(book: TariffBook, name: str, day: date) -> Tariff | None:
    """As it holds on `day`; None where it does not."""
    return next((one for one in book.versions(name) if one.since <= day < one.until), None)


def said(words: Language, tariff: Tariff) -> list[Said]:
    """The card's lines, in the order in which they are reckoned."""
    return [
        Said(
            tariff.label(line.name, words.code),
            tuple(_rows(words, tariff, line)),
            _when(words, line.when),
            line.source,
            line.verify,
        )
        for line in tariff.lines
    ]


def _rows(words: Language, tariff: Tariff, line: Line) -> list[tuple[str, str]]:
    say = words.say
    match line.rule:
        case rules.PerUnit(slabs=slabs, whole=whole):
            unit = say("a unit (kWh)") if tariff.energy_unit == "kWh" else say("a kVAh")
            spans = [_span(words, low, slab.up_to, WH_PER_UNIT, say("units")) for low, slab in _steps(slabs)]
            rates = [f"{_rupees(words, slab.rate_mp)} {unit}" for slab in slabs]
            return [
                (say("%(span)s: every unit", span=span) if whole and span else span, rate) for span, rate in zip(spans, rates, strict=True)
            ]
        case rules.Fixed(per=per, slabs=slabs):
            return _fixed(words, per, slabs)
        case rules.Demand(rate_mp=rate, floor_mille=floor, excess_mille=excess):
            rows = [("", f"{_rupees(words, rate)} {say('a kVA and month')}")]
            rows += [(say("at least"), say("%(share)s of the contract demand", share=words.percent(floor / MILLE, 0)))] if floor else []
            return rows + (
                [(say("beyond the contract demand"), say("%(times)s times", times=words.number(excess / MILLE)))] if excess != MILLE else []
            )
        case rules.TimeOfUse() as hours:
            return [
                (f"{period.hi if words.code == 'hi' and period.hi else period.name} {_hours(hours, k)}", _period(words, period))
                for k, period in enumerate(hours.periods)
            ]
        case rules.Percent(percent_milli=percent, of=of):
            return [(say("of %(lines)s", lines=_labels(words, tariff, of)), words.percent(percent / 100_000, 2))]
        case rules.FreeUnits(limit_wh=limit, keep_beyond=keep, within=within):
            free = [
                (
                    say("the first %(units)s units of a month", units=words.integer(limit // WH_PER_UNIT)),
                    say("free") if keep else say("free; beyond them none is"),
                )
            ]
            return free + (
                [(say("while use stays within them"), say("%(lines)s is not taken", lines=_labels(words, tariff, within)))]
                if within
                else []
            )
        case rules.Minimum(rate_mp=rate, per=per):
            return [(say("at least"), f"{_rupees(words, rate)} {_per(words, per)}")]
        case rules.Rounding(to_paise=paise):
            return [("", say("to whole %(amount)s", amount=words.rupees(paise)))]


def _fixed(words: Language, per: FixedPer, slabs: tuple[rules.Slab, ...]) -> list[tuple[str, str]]:
    by_use = per is FixedPer.CONSUMPTION_BAND
    unit = words.say("units") if by_use else "kW"
    return [
        (_span(words, low, slab.up_to, WH_PER_UNIT, unit), f"{_rupees(words, slab.rate_mp)} {_per(words, per)}")
        for low, slab in _steps(slabs)
    ]


def _per(words: Language, per: FixedPer) -> str:
    known = {FixedPer.KW: words.say("a kW and month"), FixedPer.KVA: words.say("a kVA and month")}
    return known.get(per) or words.say("a month and connection")


def _steps(slabs: tuple[rules.Slab, ...]) -> list[tuple[int | None, rules.Slab]]:
    """Each slab behind the limit of the one before it."""
    return list(zip([None, *(slab.up_to for slab in slabs)], slabs, strict=False))


def _span(words: Language, low: int | None, high: int | None, scale: int, unit: str) -> str:
    """ "up to 100 units", "above 100 units", "above 100 up to 200 units", "" where there is no limit. Limits in thousandths of `unit`."""

    def told(limit: int) -> str:
        return words.number(limit / scale, 0 if limit % scale == 0 else 3)

    if low is None:
        return "" if high is None else words.say("up to %(high)s %(unit)s", high=told(high), unit=unit)
    if high is None:
        return words.say("above %(low)s %(unit)s", low=told(low), unit=unit)
    return words.say("above %(low)s up to %(high)s %(unit)s", low=told(low), high=told(high), unit=unit)


def _when(words: Language, when: Condition) -> str:
    """For whom a line is; "" = for everybody."""
    known = {Payment.PREPAID: words.say("prepaid only"), Payment.POSTPAID: words.say("postpaid only")}
    parts = [known.get(when.payment, ""), _span(words, when.over_wh, when.up_to_wh, WH_PER_UNIT, words.say("units"))]
    return ", ".join(part for part in [*parts, _span(words, when.over_w, when.up_to_w, 1000, "kW")] if part)


def _period(words: Language, period: rules.Period) -> str:
    if period.add_mp:
        return f"{'+' if period.add_mp > 0 else ''}{_rupees(words, period.add_mp)} {words.say('a unit (kWh)')}"
    change = (period.times_mille - MILLE) / MILLE
    if not change:
        return words.say("plain")
    share = words.percent(abs(change), 0)
    return words.say("%(share)s dearer", share=share) if change > 0 else words.say("%(share)s cheaper", share=share)


def _hours(hours: rules.TimeOfUse, period: int) -> str:
    return ", ".join(f"{w.start:%H:%M}–{w.end:%H:%M}" for w in hours.windows if w.period == period)


def _labels(words: Language, tariff: Tariff, lines: tuple[str, ...]) -> str:
    return ", ".join(tariff.label(name, words.code) for name in lines)


def _rupees(words: Language, rate_mp: int) -> str:
    """A rate, with as many decimals as it has, two at least."""
    paise = rate_mp / (MP_PER_RUPEE // 100)
    if paise == int(paise):
        return words.rupees(int(paise))
    return f"{words.rupees(0)[0]}{words.number(rate_mp / MP_PER_RUPEE, 4)}"


def _day(request: Request, asked: str) -> date:
    """Any day, also one that is not closed; today for ""."""
    if not asked:
        console: Console = request.app.state.console
        return console.local(gate_of(request).now_s).date()
    try:
        return date.fromisoformat(asked)
    except ValueError:
        raise NotUsable("day", asked) from None
