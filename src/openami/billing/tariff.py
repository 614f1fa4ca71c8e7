"""A tariff as values: what a day's tariff says, before any account is billed.

What always holds:
- a `Tariff` is a frozen snapshot: the lines that hold between `since` and `until` (exclusive), in the order in which they are computed;
- a rate is an integer in milli-paise per kWh (or kVAh), an amount per month in milli-paise, a percentage in thousandths of a percent,
  a multiplier in thousandths, a limit in Wh: nothing is a float;
- a line looks only at quantities and at lines before it, so a bill can be recomputed by hand from top to bottom;
- every line names its source or says what is still to be verified (`Tariff.verify`); whoever shows a bill should show that too.

The language is described in `docs/tariffs.md`; `billing/tariff_file.py` reads it; `billing/bill.py` computes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, time
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from pathlib import Path

from ..errors import DataError, InputError

DAY_TYPES = frozenset(("weekday", "saturday", "sunday", "holiday"))
SETTLEMENT = "settlement"
"""The name of the line by which banked units of net metering are paid out; no line of a tariff is called so."""
SETTLEMENT_LABEL = {"en": "Banked units paid out", "hi": "जमा यूनिट का भुगतान"}


class Payment(StrEnum):
    """To whom a line applies."""

    ANY = "any"
    PREPAID = "prepaid"
    POSTPAID = "postpaid"


@dataclass(frozen=True, slots=True)
class Slab:
    """Up to and including `up_to` (Wh of the billing period, W of load, by context; None = no upper limit) the rate is `rate_mp`."""

    up_to: int | None
    rate_mp: int


@dataclass(frozen=True, slots=True)
class PerUnit:
    """So much per kWh by slabs. `whole`: the slab in which the consumption ends prices every unit; else each slab prices its own units
    (telescopic). Energy charge, wheeling, per-unit surcharge or duty; with negative rates a subsidy or a rebate."""

    slabs: tuple[Slab, ...]
    whole: bool


class FixedPer(StrEnum):
    CONNECTION = "connection"
    KW = "kw"
    KVA = "kva"
    LOAD_BAND = "load_band"
    CONSUMPTION_BAND = "consumption_band"


@dataclass(frozen=True, slots=True)
class Fixed:
    """So much per billing month, taken day by day. per kW / kVA: of sanctioned load, rounded up to `step` W or VA first.
    Bands: `slabs` by load [W] or by consumption [Wh] give the amount of a connection."""

    per: FixedPer
    slabs: tuple[Slab, ...]
    step: int


@dataclass(frozen=True, slots=True)
class Demand:
    """So much per kVA and month of billing demand: the recorded maximum, but at least `floor_mille` thousandths of the contract
    demand. What was recorded beyond the contract demand is charged at `excess_mille` thousandths of the rate."""

    rate_mp: int
    floor_mille: int
    excess_mille: int


@dataclass(frozen=True, slots=True)
class Period:
    """A time-of-use period: `times_mille` thousandths of the base rate, or `add_mp` milli-paise on every kWh (negative: a rebate).
    hi: its name in Hindi."""

    name: str
    times_mille: int
    add_mp: int
    hi: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end` of the local day (end 00:00 = midnight; start > end runs over midnight) `period` holds, on `days`
    ("weekday", "saturday", "sunday", "holiday"), within the season of months and days `season` (both included; None = all year)."""

    start: time
    end: time
    period: int
    days: frozenset[str]
    season: tuple[tuple[int, int], tuple[int, int]] | None


@dataclass(frozen=True, slots=True)
class TimeOfUse:
    """What the hours add to, or take from, the base lines. Multipliers act on the base's average price of the billing period: the
    base amount is shared out to the periods by energy. Adders act on the period's own units."""

    periods: tuple[Period, ...]
    windows: tuple[Window, ...]
    of: tuple[str, ...]

    @property
    def multiplies(self) -> bool:
        return all(p.add_mp == 0 for p in self.periods)

    @property
    def asks_holidays(self) -> bool:
        """Whether a day's hours depend on its type, so that it must be known which days are holidays."""
        return any(w.days != DAY_TYPES for w in self.windows)


@dataclass(frozen=True, slots=True)
class Percent:
    """`percent_milli` thousandths of a percent of the lines `of`, as printed on the bill: duty, surcharge, subsidy, rebate."""

    percent_milli: int
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FreeUnits:
    """Takes back what the first `limit_wh` of the billing period cost in the lines `of` (their bill for those units alone). While
    the whole consumption is within the limit, it also takes back the lines `within`. `keep_beyond` False: all is lost beyond."""

    limit_wh: int
    of: tuple[str, ...]
    within: tuple[str, ...]
    keep_beyond: bool


@dataclass(frozen=True, slots=True)
class Minimum:
    """Raises the lines `of` to at least `rate_mp` per connection or kW and month, by days."""

    rate_mp: int
    per: FixedPer
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounds the sum of all lines before it to a multiple of `to_paise`, half up; the line is the difference."""

    to_paise: int


Rule = PerUnit | Fixed | Demand | TimeOfUse | Percent | FreeUnits | Minimum | Rounding


@dataclass(frozen=True, slots=True)
class NetMetering:
    """Exported energy is set off against imported energy: at most `cap_mille` thousandths of the import; the rest is banked until the
    end of `settle_month`, and then paid at `settle_mp` milli-paise per kWh."""

    cap_mille: int
    settle_month: int
    settle_mp: int
    source: str
    verify: str


@dataclass(frozen=True, slots=True)
class Condition:
    """When a line applies at all; outside it the line is 0. `over` exclusive, `up_to` inclusive, None = no limit."""

    payment: Payment = Payment.ANY
    over_wh: int | None = None
    up_to_wh: int | None = None
    over_w: int | None = None
    up_to_w: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill: its name, what a consumer reads, what it computes, for whom, and where that stands written."""

    name: str
    label_en: str
    label_hi: str
    rule: Rule
    when: Condition
    source: str
    verify: str


@dataclass(frozen=True, slots=True)
class Tariff:
    """What holds from `since` until `until` (exclusive). Hashable, compared by value.

    energy_unit: "kWh" or "kVAh", so `channel` is the day blocks' channel to fold; period_months: months of one billing period, to
    which slabs and free units refer; order, source: the regulator's order; verify: one sentence for every unconfirmed fact.
    """

    name: str
    title_en: str
    title_hi: str
    utility: str
    category: str
    currency: str
    energy_unit: str
    period_months: int
    since: date
    until: date
    order: str
    source: str
    lines: tuple[Line, ...]
    verify: tuple[str, ...] = field(compare=False)
    net_metering: NetMetering | None = None

    @property
    def line_names(self) -> tuple[str, ...]:
        return tuple(line.name for line in self.lines)

    @property
    def channel(self) -> str:
        return "import_wh" if self.energy_unit == "kWh" else "import_vah"

    @property
    def time_of_use(self) -> TimeOfUse | None:
        return next((line.rule for line in self.lines if isinstance(line.rule, TimeOfUse)), None)

    @property
    def periods(self) -> tuple[str, ...]:
        """Names of the time-of-use periods in the order of `energy_wh`'s first axis; ("all",) without time of use."""
        tou = self.time_of_use
        return tuple(p.name for p in tou.periods) if tou else ("all",)

    @property
    def needs_demand(self) -> bool:
        return any(isinstance(line.rule, Demand) for line in self.lines)

    @property
    def needs_contract(self) -> bool:
        """True if a line is per kVA, so that sanctioned kVA (contract demand) must be given."""
        return any(isinstance(line.rule, Demand) or (isinstance(line.rule, Fixed) and line.rule.per is FixedPer.KVA) for line in self.lines)

    def label(self, line: str, language: str) -> str:
        """What a consumer reads for `line`: Hindi for "hi", else English; a line of another tariff is shown by its name."""
        found = next((item for item in self.lines if item.name == line), None)
        if found is None:
            return SETTLEMENT_LABEL["hi" if language == "hi" else "en"] if line == SETTLEMENT else line
        return found.label_hi if language == "hi" else found.label_en


@dataclass(frozen=True)
class TariffBook:
    """All tariffs by name, each a row of snapshots that join without gap or overlap, in the order of their dates."""

    tariffs: dict[str, tuple[Tariff, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.tariffs))

    def versions(self, name: str) -> tuple[Tariff, ...]:
        """Every snapshot of `name`, oldest first. Raises InputError for a name that is not here, listing those that are."""
        if name not in self.tariffs:
            raise InputError(f"there is no tariff {name!r}; known are {', '.join(self.names)}")
        return self.tariffs[name]

    def on(self, name: str, day: date) -> Tariff:
        """The tariff `name` as it holds on `day`. Raises InputError for an unknown name, or a day outside its dates."""
        versions = self.versions(name)
        for tariff in versions:
            if tariff.since <= day < tariff.until:
                return tariff
        raise InputError(
            f"tariff {name} has no rates for {day}: it holds from {versions[0].since} until {versions[-1].until}; "
            f"choose a day inside, or add an order for that day to its file"
        )


def load_tariffs(folder: Path | str | None = None) -> TariffBook:
    """Read every `*.toml` of `folder` (None: those shipped with OpenAMI).

    Raises InputError naming file, line, key and reason for a tariff that cannot be used: an unknown key, a gap or an overlap of
    dates or hours, a rate that is not exact. Raises DataError for a folder without tariffs.
    """
    if folder is None:
        return _shipped()
    files = sorted(Path(folder).glob("*.toml"))
    try:
        return _read(str(folder), [(path.name, path.read_text("utf-8")) for path in files])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"a tariff in {folder} cannot be read: {error}; make it readable, as UTF-8 text") from None


@lru_cache(maxsize=1)
def _shipped() -> TariffBook:
    root = resources.files(__package__).joinpath("data/tariffs")
    return _read("openami/billing/data/tariffs", sorted((f.name, f.read_text("utf-8")) for f in root.iterdir() if f.name.endswith(".toml")))


def _read(where: str, files: Iterable[tuple[str, str]]) -> TariffBook:
    from .tariff_file import read_tariffs

    book = read_tariffs(list(files))
    if not book:
        raise DataError(f"no tariff (*.toml) in {where}; name a folder that has some, or leave it out to use those shipped")
    return TariffBook(book)
