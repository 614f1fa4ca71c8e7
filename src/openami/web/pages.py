"""Pages: a template filled with a town's answer, in the reader's language.

In: the request (for its language), a template's name, an answer from `townbook`. Out: a complete HTML page. Templates escape everything;
what they may call beyond the answer stands in `_helpers`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import cache, partial
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from fastapi.datastructures import FormData
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ..errors import OpenAMIError
from ..readings import CHECKS, Quality
from . import charts
from .access import Right, Role
from .failures import NotThere, NotUsable, say_failure
from .gate import Gate, cookie_name, set_cookie
from .townbook import ChannelDay, DamagedDay, HourFigures, MeterState, NodeFigures, TownReader
from .translated import TranslatedEnvironment
from .wording import (
    KIND_NAMES,
    LANGUAGES,
    LINE_REASONS,
    PURPOSE_NAMES,
    QUALITY_NAMES,
    ROLE_NAMES,
    SCOPE_NAMES,
    STATE_NAMES,
    Language,
    is_estimated,
    is_flagged,
    language,
    negotiate,
)

LOSS_STEPS = (0.02, 0.04, 0.08, 0.16)
"""Loss shares at which the tree's colour changes."""

STANDS_OUT_Z = 3.5
HOURS_BETWEEN_TICKS = 3
LANGUAGE_KEPT_S = 365 * 86_400
TYPED, TYPED_MOST = ("serials", "text", "reply", "note", "why"), 50_000
"""Fields of forms into which a person writes words."""
OUR_FAULT = 500
"""From this status on the store may be what failed: it is not asked again."""


class Console:
    """Fills pages for one town. static_versions: file name -> version, so that browsers may keep a file for ever."""

    def __init__(self, town: TownReader, static_versions: Mapping[str, str]) -> None:
        self._town = town
        self.static = dict(static_versions)
        self._environments = {code: _environment(language(code)) for code in LANGUAGES}

    def make_out(self) -> None:
        """Every template, in every language, which otherwise its first reader waits for."""
        for environment in self._environments.values():
            for name in environment.list_templates():
                environment.get_template(name)

    def day(self, asked: str) -> date:
        """The asked day, or the last one for "". Raises NotUsable if it is no date, NotThere where it has no data."""
        days = self._town.days()
        if not asked:
            if not days:
                raise NotThere("day", "")
            return days[-1]
        try:
            day = date.fromisoformat(asked)
        except ValueError:
            raise NotUsable("day", asked) from None
        if asked != day.isoformat():
            raise NotUsable("day", asked)
        if day not in days:
            raise NotThere("day", day.isoformat())
        return day

    def page(
        self,
        request: Request,
        template: str,
        day: date | None,
        own_language: str = "",
        status: int = 200,
        keeps_language: bool = False,
        **answer: object,
    ) -> Response:
        """`template` filled. own_language: what the page's subject speaks, if the reader has not asked for another; keeps_language: the subject is
        the reader, whose browser remembers it as if it had been asked for."""
        asked = _asked_language(request)
        code = reading_language(request, own_language)
        environment = self._environments[code]
        days, damaged = self._stored_days(failing=status != 200)
        context = {
            **_helpers(language(code), self._town.calendar.interval_minutes),
            "href": partial(_href, asked),
            "switch": [(other, _switched(request, other)) for other in LANGUAGES],
            "static": self.static,
            "path": request.url.path,
            "day": day,
            "days": days,
            "damaged": "" if status != 200 else ", ".join(language(code).day(d) for d in damaged),
            "before": days[bisect_left(days, day) - 1] if day and bisect_left(days, day) else None,
            "after": days[bisect_right(days, day)] if day and bisect_right(days, day) < len(days) else None,
            "asked_language": asked,
            "who": getattr(request.state, "who", None),
            "has_room": getattr(request.app.state, "room", None) is not None,
            "form": self._form(request),
            "Right": Right,
            "zone": self._town.calendar.zone,
        }
        html = environment.get_template(template).render(**context, **answer)
        page = HTMLResponse(html, status, headers={"cache-control": "private, no-cache", "vary": "accept-language, cookie"})
        if (asked or keeps_language) and request.cookies.get(cookie_name(request, "language")) != code:
            set_cookie(request, page, "language", code, LANGUAGE_KEPT_S)  # also for pages behind a form, a failure, an expired session
        return page

    def local(self, at_s: int) -> datetime:
        """A stored instant in the deployment's zone."""
        return self._town.calendar.local(at_s)

    def _form(self, request: Request) -> str:
        gate: Gate | None = getattr(request.app.state, "gate", None)
        return gate.form_token(request, getattr(request.state, "who", None)) if gate else ""

    def failure(self, request: Request, status: int, failure: Exception, onward: str = "") -> Response:
        """A page that says what is wrong and what would be right, with the words that were typed. onward: where to go on after signing in."""
        _recognise(request, status)
        words = language(reading_language(request))
        days, damaged = self._stored_days(failing=True)
        title, sentence = say_failure(words, status, failure, days)
        hurt = failure.day if isinstance(failure, DamagedDay) else None
        others = [max((d for d in days if hurt and d < hurt and d not in damaged), default=None)]
        others += [min((d for d in days if hurt and d > hurt and d not in damaged), default=None)]
        return self.page(
            request,
            "failure.html",
            None,
            status=status,
            failure_title=title,
            sentence=sentence,
            typed=_typed(request),
            onward=onward,
            other_days=[d for d in others if d is not None],
        )

    def _stored_days(self, failing: bool) -> tuple[tuple[date, ...], tuple[date, ...]]:
        """The town's days, and the damaged ones among them. failing: the page tells of a failure, and stands without them."""
        try:
            return self._town.days(), self._town.damaged()
        except OpenAMIError:
            if failing:
                return (), ()
            raise


def _typed(request: Request) -> list[str]:
    """What a person had written into the form that was refused: words, not figures or secrets."""
    given: FormData = getattr(request.state, "given", FormData())
    found = [str(given.get(name, "")).replace("\0", "") for name in TYPED]
    return [words[:TYPED_MOST] for words in found if words.strip()]


def _recognise(request: Request, status: int) -> None:
    """Who is asking, for a page that says what went wrong before anybody looked: an address that there is not, a parameter out of bounds."""
    gate: Gate | None = getattr(request.app.state, "gate", None)
    if gate is None or status >= OUR_FAULT:
        return
    try:
        gate.who(request)
    except OpenAMIError:
        return  # then it is told as to a stranger


def reading_language(request: Request, own_language: str = "") -> str:
    """In which language this reader reads: the one asked for now, the one asked for before (a cookie), the subject's own, a signed-in consumer's,
    what the browser prefers. A page that says what went wrong goes by the same, so it speaks as the page before it did."""
    who = getattr(request.state, "who", None)
    consumers = who.language if who is not None and who.role is Role.CONSUMER else ""
    known = (_asked_language(request), request.cookies.get(cookie_name(request, "language"), ""), own_language, consumers)
    return next((code for code in known if code in LANGUAGES), "") or negotiate(request.headers.get("accept-language", ""))


def _asked_language(request: Request) -> str:
    asked = request.query_params.get("lang", "")
    return asked if asked in LANGUAGES else ""


def _environment(words: Language) -> Environment:
    return TranslatedEnvironment(
        words.translations,
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _helpers(words: Language, interval_minutes: int) -> Mapping[str, object]:
    return {
        "L": words,
        "loss_class": loss_class,
        "stands_out": lambda f: f.z is not None and abs(f.z) >= STANDS_OUT_Z,
        "LOSS_STEPS": LOSS_STEPS,
        "share_bar": charts.share_bar,
        "translated": partial(_translated, words),
        "is_estimated": is_estimated,
        "is_flagged": is_flagged,
        "kind_names": {kind.value: words.say(name) for kind, name in KIND_NAMES.items()},
        "state_names": {state.value: words.say(name) for state, name in STATE_NAMES.items()},
        "check_names": {str(q.name).lower(): words.say(QUALITY_NAMES[q]) for q in CHECKS},
        "line_reasons": {line: words.say(reason) for line, reason in LINE_REASONS.items()},
        "role_names": ROLE_NAMES,
        "purpose_names": PURPOSE_NAMES,
        "scope_names": SCOPE_NAMES,
        "interval_minutes": interval_minutes,
        "channel_figure": partial(channel_figure, words, interval_minutes),
        "hours_figure": partial(hours_figure, words),
        "marked_runs": partial(marked_runs, interval_minutes),
        "Quality": Quality,
        "MeterState": MeterState,
    }


def _translated(words: Language, note: str) -> str | Markup:
    """A sentence that data brings along; in English, and marked so, where there is no translation of it."""
    told = words.say(note)
    return told if told != note or words.code == "en" else Markup('<span lang="en">{}</span>').format(note)


def loss_class(figures: NodeFigures) -> str:
    """The style sheet's classes for a loss: "heat" and "l-unknown", "l-negative", or "l0" to "l4" by LOSS_STEPS."""
    share = figures.loss_share
    if share is None:
        return "heat l-unknown"
    return "heat l-negative" if share < 0 else f"heat l{sum(share >= step for step in LOSS_STEPS)}"


def day_counts(day: ChannelDay) -> dict[str, int]:
    """How many intervals of a channel's day are missing, estimated, flagged, or plain."""
    counts = {"missing": 0, "estimated": 0, "flagged": 0, "plain": 0}
    for slot in day.slots:
        counts["missing"] += slot.value is None
        counts["estimated"] += slot.value is not None and is_estimated(slot.quality)
        counts["flagged"] += is_flagged(slot.quality)
        counts["plain"] += slot.value is not None and not is_estimated(slot.quality) and not is_flagged(slot.quality)
    return counts


def marked_runs(interval_minutes: int, day: ChannelDay) -> list[tuple[datetime, datetime, int]]:
    """Neighbouring intervals with the same quality other than valid: (start of the first, end of the last, quality)."""
    runs: list[tuple[datetime, datetime, int]] = []
    for slot in day.slots:
        start = slot.end - timedelta(minutes=interval_minutes)
        if runs and runs[-1][1:] == (start, slot.quality):
            runs[-1] = (runs[-1][0], slot.end, slot.quality)
        elif slot.quality:
            runs.append((start, slot.end, slot.quality))
    return runs


def channel_figure(words: Language, interval_minutes: int, name: str, title: str, day: ChannelDay) -> Markup:
    """One channel's day: bars for energies, a step line for averages. The description is the picture in words."""
    factor = 10.0**day.channel.scaler
    values = [None if s.value is None else s.value * factor for s in day.slots]
    ticks = _ticks([s.end - timedelta(minutes=interval_minutes) for s in day.slots], HOURS_BETWEEN_TICKS)
    counts = day_counts(day)
    description = words.say(
        "%(slots)s intervals: %(missing)s missing, %(estimated)s estimated, %(flagged)s flagged.",
        slots=len(day.slots),
        missing=counts["missing"],
        estimated=counts["estimated"],
        flagged=counts["flagged"],
    )
    known = [(v, s.end) for v, s in zip(values, day.slots, strict=True) if v is not None]
    if known:
        top, low = max(known), min(known)
        description += " " + words.say(
            "Highest %(top)s %(unit)s at %(top_time)s, lowest %(low)s %(unit)s at %(low_time)s.",
            top=words.number(top[0], 0 if day.channel.additive else 1),
            low=words.number(low[0], 0 if day.channel.additive else 1),
            unit=day.channel.unit,
            top_time=words.time(top[1]),
            low_time=words.time(low[1]),
        )
    if not day.channel.additive:
        return charts.step_line(name, title, description, values, ticks, day.channel.unit)
    data = [charts.Bar(v, is_estimated(s.quality), is_flagged(s.quality)) for v, s in zip(values, day.slots, strict=True)]
    return charts.bars(name, title, description, data, ticks, day.channel.unit)


def hours_figure(words: Language, name: str, title: str, hours: tuple[HourFigures, ...]) -> Markup:
    """In, out and loss of a node by hour, in kWh."""

    def kwh(wh: int | None) -> float | None:
        return None if wh is None else wh / 1000

    data = [charts.HourBar(kwh(h.figures.in_wh), kwh(h.figures.out_wh)) for h in hours]
    ticks = _ticks([h.end - timedelta(hours=1) for h in hours], HOURS_BETWEEN_TICKS)
    losses = [(h.figures.loss_wh, h.end) for h in hours if h.figures.loss_wh is not None]
    description = words.say("%(known)s of %(hours)s hours are known.", known=len(losses), hours=len(hours))
    if losses:
        worst = max(losses)
        description += " " + words.say(
            "Highest loss %(loss)s in the hour to %(time)s.", loss=words.kwh(worst[0]), time=words.time(worst[1])
        )
    return charts.in_out(name, title, description, data, ticks, "kWh")


def _ticks(starts: list[datetime], every_hours: int) -> list[charts.Tick]:
    marks = [charts.Tick(k, f"{s:%H}") for k, s in enumerate(starts) if s.minute == 0 and s.hour % every_hours == 0]
    return [*marks, charts.Tick(len(starts), "24")]


def _href(asked_language: str, *segments: str, **parameters: object) -> str:
    """A link inside the console: path segments and parameters, empty ones left out; keeps the language that the reader asked for."""
    given = {key: str(value) for key, value in parameters.items() if value not in (None, "")}
    if asked_language:
        given["lang"] = asked_language
    path = "/" + "/".join(quote(segment, safe="") for segment in segments if segment)
    return path + (f"?{urlencode(given)}" if given else "")


def _switched(request: Request, code: str) -> str:
    """This very page in another language."""
    parameters = [(key, value) for key, value in request.query_params.multi_items() if key != "lang"]
    return f"{quote(request.url.path)}?{urlencode([*parameters, ('lang', code)])}"
