"""What the pages ask of a town: `TownReader`, and the frozen answers that it gives.

What always holds:
- answers are complete for their page: a page asks once, and computes nothing but its layout;
- None means unknown or absent, never 0; energies are integer Wh, money integer paise, shares are 0..1 (a loss may be below 0);
- instants are aware datetimes in the deployment's zone; a `day` is a local calendar day; an interval is named by its end;
- no answer holds a key or a secret; a consumer's name is only in `Consumer` (it is personal data: never in a URL or a log).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from ..day.found import Told
from ..errors import DataError
from ..readings import Calendar, Channel, Quality
from ..registry import NodeKind, PaymentMode


class DamagedDay(DataError):
    """The stored data of `day` cannot be read; the message names the file."""

    def __init__(self, day: date, message: str) -> None:
        super().__init__(message)
        self.day = day


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence or label that the data brings along, in both languages; plain text, never markup."""

    en: str
    hi: str

    def of(self, language: str) -> str:
        return self.hi if language == "hi" else self.en


@dataclass(frozen=True, slots=True)
class Intervals:
    """How much of what should be there is there, in meter intervals: expected = metered + estimated + missing."""

    expected: int
    metered: int
    estimated: int
    missing: int


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """The balance of a transformer or feeder over an hour or a day (`losses.NodeBalance`, one cell).

    in_wh, out_wh, loss_wh: None = unknown (`losses.MISSING64`). coverage: share that was truly metered. estimated_share: None
    without any energy. z: how far the loss share stands out among the peers (`losses.loss_outliers`), None = cannot be told.
    """

    in_wh: int | None
    out_wh: int | None
    loss_wh: int | None
    coverage: float
    estimated_share: float | None = None
    z: float | None = None

    @property
    def loss_share(self) -> float | None:
        return self.loss_wh / self.in_wh if self.loss_wh is not None and self.in_wh else None


@dataclass(frozen=True, slots=True)
class TransformerNode:
    name: str
    feeder: str
    rating_kva: int
    consumers: int
    figures: NodeFigures


@dataclass(frozen=True, slots=True)
class FeederNode:
    name: str
    substation: str
    figures: NodeFigures
    transformers: tuple[TransformerNode, ...]


@dataclass(frozen=True, slots=True)
class CheckCount:
    """Failures of one VEE check on the day: raw intervals that carry its bit, and on how many meters."""

    check: Quality
    intervals: int
    meters: int


@dataclass(frozen=True, slots=True)
class CauseCount:
    """Frames in quarantine for one cause (the head-end's word: "unknown_meter", "bad_tag", "replayed", "malformed" ...)."""

    cause: str
    frames: int


@dataclass(frozen=True, slots=True)
class SilentMeter:
    """A meter of which the day has no interval at all. last_heard: end of its last interval ever received, None = never heard."""

    serial: str
    kind: NodeKind
    transformer: str | None
    feeder: str
    last_heard: datetime | None


class SuspicionKind(StrEnum):
    """WRONG_TRANSFORMER: hangs elsewhere than registered. COUNTS_TOO_LITTLE: registers less than flows."""

    WRONG_TRANSFORMER = "wrong_transformer"
    COUNTS_TOO_LITTLE = "counts_too_little"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A reason to look that the energy audit found (`day.found`), never a verdict. transformer: as registered, "" = none; to_transformer only for
    WRONG_TRANSFORMER; evidence: the strongest first, with the figures of its sentences in features; days: over how many days it was judged."""

    kind: SuspicionKind
    serial: str
    transformer: str
    to_transformer: str | None
    probability: float
    evidence: tuple[Told, ...]
    features: Mapping[str, float]
    days: int


@dataclass(frozen=True, slots=True)
class Money:
    """The day's money over all accounts [paise]: charged (net of subsidy), recharged, sum of closing balances; how many accounts are
    below zero, have a low-balance notice due (none is sent from here), and would be due for disconnection (guard reasons not yet considered)."""

    charged_paise: int
    recharged_paise: int
    balance_paise: int
    accounts: int
    negative: int
    low: int
    due: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The wall. frames_*: over the whole journal (received = accepted + quarantined). as_of: when these figures were computed. feeders, silent,
    suspicions: within the reach, of silent meters and suspicions the first ones; silent_meters: how many there are in all.

    consumers_wh, feeders_wh: the day's validated energy, of consumers and at the feeders' heads (None = a feeder unknown).
    checks: every check of VEE that ran, those with no failure too. demo: True when the meters are simulated.
    """

    day: date
    as_of: datetime
    name: str
    demo: bool
    meters: int
    intervals: Intervals
    frames_received: int
    frames_accepted: int
    checks: tuple[CheckCount, ...]
    consumers_wh: int
    feeders_wh: int | None
    money: Money
    feeders: tuple[FeederNode, ...]
    silent_meters: int
    silent: tuple[SilentMeter, ...]
    quarantine: tuple[CauseCount, ...]
    suspicions: tuple[Suspicion, ...]


class MeterState(StrEnum):
    """Filter of the meter list: silent = no interval on the day; incomplete = some missing; flagged = some interval failed a
    check other than "missing"."""

    ALL = "all"
    SILENT = "silent"
    INCOMPLETE = "incomplete"
    FLAGGED = "flagged"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class MeterQuery:
    """text: a serial, usage point or account number, or a part of one, "" = any. kind, transformer, feeder: None = any. check: only meters with an
    interval that failed it. feeders: only meters on these, None = on any. offset, limit: the page, in the order of the registry."""

    day: date
    text: str = ""
    state: MeterState = MeterState.ALL
    kind: NodeKind | None = None
    transformer: str | None = None
    feeder: str | None = None
    check: Quality | None = None
    feeders: frozenset[str] | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A meter on one day. day_wh: sum of its validated intervals, None when it has none. flagged: intervals that failed a check
    other than "missing"."""

    serial: str
    kind: NodeKind
    usage_point: str
    transformer: str | None
    feeder: str
    account: str | None
    intervals: Intervals
    flagged: int
    day_wh: int | None


@dataclass(frozen=True, slots=True)
class MeterList:
    """rows: at most `limit`; total: how many meters match in all (of a text, among the first thousands that hold it); transformers, feeders: names
    for the filter's choices, empty where there are too many to choose from."""

    rows: tuple[MeterRow, ...]
    total: int
    transformers: tuple[str, ...]
    feeders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval. raw, value: as received, and after VEE, in the channel's unit x 10**scaler; None = none. quality: `Quality` bits."""

    end: datetime
    raw: int | None
    value: int | None
    quality: int


@dataclass(frozen=True, slots=True)
class ChannelDay:
    """One channel's day, all its slots in order. Channels that VEE does not validate have value = raw."""

    channel: Channel
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class MeterDay:
    """A meter's day. channels: `import_wh` first, then what else it pushed. last_heard as in `SilentMeter`. tariff: None without account."""

    row: MeterRow
    day: date
    maker: str
    model: str
    phase: str
    connected_load_w: int
    since: date
    tariff: str | None
    last_heard: datetime | None
    channels: tuple[ChannelDay, ...]
    suspicions: tuple[Suspicion, ...]


@dataclass(frozen=True, slots=True)
class HourFigures:
    """One hour of a node, named by its end."""

    end: datetime
    figures: NodeFigures


@dataclass(frozen=True, slots=True)
class TransformerDay:
    """own_meter: serial of the meter on its low-voltage side, None = not metered. consumers: who is registered on it."""

    node: TransformerNode
    day: date
    own_meter: str | None
    hours: tuple[HourFigures, ...]
    consumers: tuple[MeterRow, ...]
    suspicions: tuple[Suspicion, ...]


@dataclass(frozen=True, slots=True)
class FeederDay:
    node: FeederNode
    day: date
    own_meter: str | None
    hours: tuple[HourFigures, ...]


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a day's charge: `line` the tariff's name ("energy", "fixed", "duty", "subsidy", "free_units" ...); > 0 owed, < 0 rebate.

    label: the tariff's words for it. verify: what is still unconfirmed about it, None when all is.
    """

    line: str
    label: Words
    amount_paise: int
    verify: str | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """An account's day: closing = opening + recharges - sum of lines - adjustments (what earlier days are put right by). wh: the day's energy,
    None = unknown; estimated_wh, missing intervals: how sure it is. month_wh: the month's energy up to and including this day."""

    day: date
    opening_paise: int
    recharges_paise: tuple[int, ...]
    lines: tuple[ChargeLine, ...]
    closing_paise: int
    wh: int | None
    estimated_wh: int
    missing_intervals: int
    month_wh: int | None
    adjustments_paise: int = 0

    @property
    def charge_paise(self) -> int:
        return sum(line.amount_paise for line in self.lines)


@dataclass(frozen=True, slots=True)
class StatedDay:
    """A statement in one line. taken: charges and adjustments; wh: None = unknown."""

    day: date
    taken_paise: int
    recharged_paise: int
    closing_paise: int
    wh: int | None
    estimated_wh: int


@dataclass(frozen=True, slots=True)
class DayCost:
    """wh, charge_paise: None = the day is unknown or not yet charged; estimated: any of its intervals is an estimate."""

    day: date
    wh: int | None
    charge_paise: int | None
    estimated: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """Why supply is not cut although it might be due, or what stands against the account (`control`'s guard): code and sentence."""

    code: str
    sentence: Words


@dataclass(frozen=True, slots=True)
class Supply:
    """connected: the relay's state as it was last read from the meter, None = never read, so unknown. last_heard: as in `SilentMeter`.
    due: the policy would disconnect this account; withheld: the guard's reasons not to. A cut is possible only if due and nothing
    is withheld. explain: why it is, or is not, due; None = nothing to say."""

    connected: bool | None
    last_heard: datetime | None
    due: bool
    withheld: tuple[Reason, ...]
    explain: Words | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer's page. balance_paise: closing balance of the latest statement; balance_as_of: the end of that statement's day, which
    says nothing about readings; readings_until: the end of the last truly metered interval that is in the balance, None = there is none.

    days_left: for how many days the balance lasts at the present use, None = cannot be told; low: a low-balance notice is due.
    statement: of the asked day, None = that day is not charged. week: the seven days up to the asked day, oldest first.
    language: the account's own ("hi", "en").
    """

    account: str
    name: str
    language: str
    meter: str
    usage_point: str
    transformer: str | None
    tariff: str
    tariff_title: Words
    payment_mode: PaymentMode
    balance_paise: int
    balance_as_of: datetime
    readings_until: datetime | None
    days_left: int | None
    low: bool
    statement: Statement | None
    week: tuple[DayCost, ...]
    supply: Supply


@dataclass(frozen=True, slots=True)
class DueRow:
    account: str
    meter: str
    transformer: str | None
    balance_paise: int
    days_negative: int | None
    withheld: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class DueList:
    """Accounts that the policy would disconnect on `day`, with the guard's reasons why not; poorest first. policy: its name and source;
    judged_at: the instant for which the guard was asked; rows: a page of them; total: how many there are; held: how many of them the guard holds
    back; no relay is operated."""

    day: date
    judged_at: datetime
    policy: str
    policy_title: Words
    rows: tuple[DueRow, ...]
    total: int
    held: int


@dataclass(frozen=True, slots=True)
class QuarantinedFrame:
    """number: the page's cursor and the frame's name. octets: as received, wrapper header included. serial: None = not known."""

    number: str
    received: datetime
    cause: str
    detail: str
    serial: str | None
    octets: bytes


@dataclass(frozen=True, slots=True)
class Quarantine:
    """rows: at most `limit`, latest first; causes: counts over everything; total: of the chosen cause."""

    causes: tuple[CauseCount, ...]
    total: int
    rows: tuple[QuarantinedFrame, ...]


class TownReader(Protocol):
    """The read side of one deployment. Calls come from several threads at once; none of them writes.

    Methods that take a name give None where there is no such thing. `day` is always one of `days()`; where its own
    stored data is damaged, DamagedDay is raised.
    """

    @property
    def calendar(self) -> Calendar: ...

    def days(self) -> tuple[date, ...]:
        """Days that have validated day blocks, oldest first; empty before the first one."""

    def damaged(self) -> tuple[date, ...]:
        """Days of which stored data was wanted and could not be read, oldest first: the answers given so far leave them out."""

    def overview(self, day: date, feeders: Set[str] | None = None) -> Overview:
        """feeders: which are told of one by one, None = all; the sums are the town's."""

    def meters(self, query: MeterQuery) -> MeterList: ...

    def meter(self, serial: str, day: date) -> MeterDay | None: ...

    def transformer(self, name: str, day: date) -> TransformerDay | None: ...

    def feeder(self, name: str, day: date) -> FeederDay | None: ...

    def consumer(self, account: str, day: date) -> Consumer | None: ...

    def stated(self, account: str, day: date) -> StatedDay | None:
        """A day's statement in one line, None where the account has none; of many days, quicker than `consumer` of each."""

    def due(self, day: date, feeders: Set[str] | None = None, offset: int = 0, limit: int = 50) -> DueList:
        """Of accounts on these feeders, None = any."""

    def quarantine(self, cause: str | None, offset: int, limit: int) -> Quarantine: ...
