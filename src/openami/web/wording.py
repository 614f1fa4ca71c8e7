"""Words and numbers as a person reads them, in English and Hindi.

Sentences live in the templates and here as English message ids; `locale/hi.po` holds the Hindi, `locale/consumer.hi.po`
and its like that of a chapter of their own. The catalogue is compiled in memory
at first use, so a translator edits one text file and nothing has to be built.
What always holds: a value that is unknown reads "unknown", never 0; amounts use the Indian grouping; digits are Latin in both
languages, as on Indian bills.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

from ..money import rupees as grouped_rupees
from ..readings import CHECK_BITS, ESTIMATED_BITS, Quality
from ..registry import NodeKind
from .townbook import MeterState

LANGUAGES = ("en", "hi")
MINUS = "\u2212"


def marked(message: str) -> str:
    """The message itself: marks it for extraction where it is named before it is translated."""
    return message


QUALITY_NAMES: dict[Quality, str] = {
    Quality.MISSING: marked("missing"),
    Quality.DUPLICATE: marked("two different values"),
    Quality.OUT_OF_DAY: marked("out of day"),
    Quality.SPIKE: marked("spike"),
    Quality.SUM: marked("sum against register"),
    Quality.HIGH_LOW: marked("high or low usage"),
    Quality.PLAUSIBILITY: marked("not plausible"),
    Quality.FROZEN: marked("frozen value"),
    Quality.ZERO: marked("long zero run"),
    Quality.VOLTAGE_ENERGY: marked("voltage against energy"),
    Quality.REVERSE: marked("reverse energy"),
    Quality.CLOCK_DRIFT: marked("clock drift"),
    Quality.INACTIVE_METER: marked("inactive meter"),
    Quality.METER_EXCHANGE: marked("meter exchange"),
    Quality.OUTAGE: marked("outage"),
    Quality.ESTIMATED_LINEAR: marked("estimated, straight line"),
    Quality.ESTIMATED_LIKE_DAY: marked("estimated, like day"),
    Quality.ESTIMATED_CLASS_PROFILE: marked("estimated, class profile"),
    Quality.SCALED_TO_REGISTER: marked("scaled to register"),
    Quality.EDITED: marked("edited"),
}

CAUSE_NAMES = {
    "unknown_meter": marked("unknown meter"),
    "malformed": marked("malformed frame"),
    "policy": marked("security policy not met"),
    "bad_tag": marked("authentication failed"),
    "undecipherable": marked("cannot be deciphered"),
    "replayed_counter": marked("counter replayed"),
    "layout": marked("unknown layout"),
    "out_of_day": marked("outside the open days"),
}

KIND_NAMES = {
    NodeKind.CONSUMER: marked("consumer"),
    NodeKind.TRANSFORMER: marked("transformer"),
    NodeKind.FEEDER: marked("feeder"),
}

STATE_NAMES = {
    MeterState.ALL: marked("all"),
    MeterState.SILENT: marked("silent"),
    MeterState.INCOMPLETE: marked("incomplete"),
    MeterState.FLAGGED: marked("flagged"),
    MeterState.ESTIMATED: marked("estimated"),
}

ROLE_NAMES = {
    "consumer": marked("consumer"),
    "installer": marked("installer"),
    "operator": marked("operator"),
    "auditor": marked("auditor"),
    "admin": marked("administrator"),
    "partner": marked("partner"),
}

PURPOSE_NAMES = {"readings": marked("readings of the meter"), "bills": marked("balance, statements and payments")}

SCOPE_NAMES = {
    "openid": marked("who you are"),
    "offline_access": marked("also while you are away"),
    "town": marked("balance of feeders and transformers"),
    "frames": marked("frames in quarantine"),
    "meters": marked("meters, readings and events"),
    "accounts": marked("balance, statements and payments"),
    "orders": marked("orders and how they stand"),
    "orders:write": marked("ask for orders"),
    "consents": marked("give and end consents"),
    "audit": marked("the audit trail"),
    "people": marked("who may sign in"),
    "webhooks": marked("who is told what happens"),
}

LINE_REASONS = {
    "energy": marked("for the units that you used"),
    "time_of_use": marked("cheaper or dearer by the hour in which you used them"),
    "subsidy": marked("paid for you by the state government"),
    "prepaid_discount": marked("because you pay in advance"),
    "fixed": marked("this day's part of the monthly charge for your connection"),
    "fuel_surcharge": marked("changes with the price of fuel and bought power"),
    "duty": marked("tax of the state on electricity"),
    "free_units": marked("units of this month that are free for you"),
}


@dataclass(frozen=True)
class Language:
    """One language: its sentences (`say`, `say_n`) and its numbers and dates. Unknown values read "unknown" or "—"."""

    code: str
    locale: Locale
    translations: NullTranslations

    def say(self, message: str, **values: object) -> str:
        text = self.translations.gettext(message)
        return text % values if values else text

    def say_n(self, one: str, many: str, n: int, **values: object) -> str:
        return self.translations.ngettext(one, many, n) % {"n": self.integer(n), **values}

    def integer(self, value: int) -> str:
        return format_decimal(value, format="#,##,##0", locale=self.locale)

    def number(self, value: float, decimals: int = 1) -> str:
        text = format_decimal(round(value, decimals) + 0.0, format="#,##,##0." + "0" * decimals, locale=self.locale)
        return text.replace("-", MINUS)

    def kwh(self, wh: int | None, decimals: int = 1) -> str:
        """Energy in kWh, with its unit: a person's "unit" of electricity."""
        return self.say("unknown") if wh is None else f"{self.number(wh / 1000, decimals)} kWh"

    def percent(self, share: float | None, decimals: int = 1) -> str:
        if share is None:
            return self.say("unknown")
        pattern = "0." + "0" * decimals + "%" if decimals else "0%"
        return format_percent(round(share, decimals + 2) + 0.0, format=pattern, locale=self.locale).replace("-", MINUS)

    def share_met(self, share: float) -> str:
        """A coverage: rounded down to one decimal, so that what is not whole never reads 100 %."""
        cut = int(share * 1000 + 1e-6) / 1000
        return self.percent(cut, 0 if cut in (0.0, 1.0) else 1)

    def rupees(self, paise: int | None) -> str:
        return self.say("unknown") if paise is None else grouped_rupees(paise).replace("-", MINUS)

    def day(self, day: date) -> str:
        return _written(day, "EEE d MMM y", self.code)

    def day_short(self, day: date) -> str:
        return _written(day, "EEE d MMM", self.code)

    def time(self, moment: datetime) -> str:
        return format_time(moment, "HH:mm", tzinfo=moment.tzinfo, locale=self.locale)

    def time_end(self, moment: datetime) -> str:
        """The end of an interval: midnight reads 24:00, because it belongs to the day that it ends."""
        text = self.time(moment)
        return "24:00" if text == "00:00" else text

    def instant(self, moment: datetime | None) -> str:
        if moment is None:
            return self.say("never")
        return format_datetime(moment, "d MMM y, HH:mm", tzinfo=moment.tzinfo, locale=self.locale)

    def quality(self, bits: int) -> list[str]:
        """What is known against a value, in words; empty for a plain valid one."""
        return [self.say(name) for flag, name in QUALITY_NAMES.items() if bits & flag]

    def cause(self, cause: str) -> str:
        return self.say(CAUSE_NAMES[cause]) if cause in CAUSE_NAMES else cause.replace("_", " ")


def is_estimated(bits: int) -> bool:
    return bool(bits & int(ESTIMATED_BITS))


def is_flagged(bits: int) -> bool:
    """True if a check other than "missing" failed."""
    return bool(bits & int(CHECK_BITS) & ~int(Quality.MISSING))


@lru_cache(maxsize=10_000)
def _written(day: date, pattern: str, code: str) -> str:
    """A day in words: few days, on many pages."""
    return format_date(day, pattern, locale=language(code).locale)


@lru_cache(maxsize=len(LANGUAGES))
def language(code: str) -> Language:
    """The language of `code`, one of LANGUAGES."""
    locale = Locale(code, "IN")
    if code == "en":
        return Language(code, locale, NullTranslations())
    folder = resources.files(__package__).joinpath("locale")
    catalogues = [_compiled(folder.joinpath(f"{code}.po").read_bytes(), code)]
    for chapter in sorted(file.name for file in folder.iterdir() if file.name.endswith(f".{code}.po")):
        catalogues[0].add_fallback(_compiled(folder.joinpath(chapter).read_bytes(), code))
    return Language(code, locale, catalogues[0])


def _compiled(source: bytes, code: str) -> GNUTranslations:
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source), locale=code))
    compiled.seek(0)
    return GNUTranslations(compiled)


def negotiate(accept_language: str, offered: Iterable[str] = LANGUAGES) -> str:
    """The first offered language that an Accept-Language header prefers; "en" if it names none of them."""
    wanted: list[tuple[float, int, str]] = []
    for at, part in enumerate(accept_language[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            code = Locale.parse(tag, sep="-").language
            wanted.append((-float(weight or 1), at, code))
        except (ValueError, UnknownLocaleError, TypeError):
            continue
    return next((code for _, _, code in sorted(wanted) if code in tuple(offered)), "en")
