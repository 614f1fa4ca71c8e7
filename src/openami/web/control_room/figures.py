"""The control room's charts: what a list of figures says, drawn by `charts`, with title, unit and the picture in words."""

from __future__ import annotations

from markupsafe import Markup

from .. import charts
from ..wording import Language
from .curves import DayBar
from .lists import Demand


def days_figure(words: Language, name: str, title: str, bars: list[DayBar]) -> Markup:
    """Energy by day, or by month, in kWh: hollow where most of it is estimated, a triangle where a check failed."""
    data = [charts.Bar(None if bar.wh is None else bar.wh / 1000, 2 * bar.estimated > bar.of, bar.flagged > 0) for bar in bars]
    every = max(1, -(-len(bars) // 8))
    monthly = any(bar.last != bar.first for bar in bars)
    ticks = [charts.Tick(k, f"{bar.first:%m/%y}" if monthly else f"{bar.first:%d.%m.}") for k, bar in enumerate(bars) if k % every == 0]
    known = [(bar.wh, bar.first) for bar in bars if bar.wh is not None]
    text = words.say("%(known)s of %(bars)s bars are known.", known=len(known), bars=len(bars))
    if known:
        top, low = max(known), min(known)
        text += " " + words.say(
            "Highest %(top)s on %(top_day)s, lowest %(low)s on %(low_day)s.",
            top=words.kwh(top[0]),
            top_day=words.day(top[1]),
            low=words.kwh(low[0]),
            low_day=words.day(low[1]),
        )
    return charts.bars(name, title, text, data, ticks, "kWh")


def demand_figure(words: Language, name: str, title: str, demand: Demand) -> Markup:
    """In and out by hour in kW (the hour's mean)."""

    def kw(wh: int | None) -> float | None:
        return None if wh is None else wh / 1000

    data = [charts.HourBar(kw(into), kw(out)) for _, into, out, _ in demand.hours]
    ticks = [charts.Tick(k, f"{hour:02d}") for k, (hour, _, _, _) in enumerate(demand.hours) if hour % 3 == 0]
    known = sum(into is not None and out is not None for _, into, out, _ in demand.hours)
    text = words.say("%(known)s of %(hours)s hours are known.", known=known, hours=len(demand.hours))
    if demand.peak_kw is not None and demand.peak_hour is not None:
        text += " " + words.say(
            "Highest demand %(kw)s kW in the hour to %(time)s.", kw=words.number(demand.peak_kw), time=f"{demand.peak_hour + 1:02d}:00"
        )
    return charts.in_out(name, title, text, data, ticks, "kW")
