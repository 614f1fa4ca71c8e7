"""What meters say beside block load, made into rows: daily, billing and instantaneous registers, status words, events.

Two ways in, one way out: a push (`Reports.push`, body as admission let it through) and a profile that was read (`profile_rows`). What always holds: a
push that does not have its model's layout is refused by name and stops nothing; a status word makes events only of the bits that have changed
since the word before; telling the same again makes the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from ..cosem.axdr import Data, Tag
from ..cosem.is15959 import event_of, events, status_bits, status_changes
from ..cosem.objects import stamp_of
from ..cosem.profile import CLOCK, Row, scaled
from ..cosem.push import CLOCK_OBIS
from ..cosem.register_push import (
    BILLING_DATE_OBIS,
    RegisterPush,
    RegisterRow,
    push_kind,
    push_object_of,
    read_registers,
    register_layout_for,
)
from ..errors import MeterError
from ..registry import Meter
from ..store.heard import REGISTERS, MeterEvent, RegisterReading
from .reader import ProfileLayout

CUMULATIVE = {"1.0.1.8.0.255": "import_wh", "1.0.9.8.0.255": "import_vah", "1.0.2.8.0.255": "export_wh", "1.0.10.8.0.255": "export_vah"}
"""Logical name -> the register that it is (IS 15959 parts 1 and 2)."""
KIND_OF_PROFILE = {"1.0.99.2.0.255": "daily", "1.0.98.1.0.255": "billing", "1.0.94.91.0.255": "instantaneous"}
LAST_GASP, FIRST_BREATH = 85, 86
"""Bits of the event status word that speak of supply (IS 15959 part 2): they are told anew each time, never cleared."""
MOMENTARY = frozenset({LAST_GASP, FIRST_BREATH})
EVENT_LOG = "0.0.99.98."
NO_BIT = -1
_INT64_MAX = 2**63 - 1


def carries_block_load(body: Data) -> bool:
    """Whether a push's body is block load, or nothing that we know: then its layout is told by its model alone."""
    try:
        return push_kind(push_object_of(body)) in ("block_load", None)
    except MeterError:
        return True


Told = tuple[list[MeterEvent], list[RegisterReading], dict[str, tuple[str, int]]]
"""Events, register readings, and serial -> (event status word, its time)."""


@dataclass(slots=True)
class Reports:
    """Gathers rows until `take` hands them over. words: serial -> its last event status word."""

    words: dict[str, str]
    events: list[MeterEvent] = field(default_factory=list)
    registers: list[RegisterReading] = field(default_factory=list)
    changed: dict[str, tuple[str, int]] = field(default_factory=dict)

    def push(self, meter: Meter, body: Data, received_s: int) -> str | None:
        """A push's body; gives its kind, None = it is block load, which is not ours. MeterError (cause "layout") where it cannot be read."""
        push_object = push_object_of(body)
        kind = push_kind(push_object)
        if kind == "block_load":
            return None
        layout = register_layout_for(meter.maker, meter.model, push_object)
        if kind is None or layout is None:
            raise MeterError(f"no layout is known for pushes of {meter.maker} {meter.model} through {push_object}", "layout")
        found = read_registers(layout, body)
        if found.status_word is not None:
            self._word(meter.serial, found, received_s)
        if kind != "events":
            self.registers += [
                reading for row in found.rows if (reading := _reading(kind, meter.serial, row, received_s, "push")) is not None
            ]
        return kind

    def take(self) -> Told:
        """What has gathered, to be written down; nothing is left here."""
        taken = self.events, self.registers, self.changed
        self.events, self.registers, self.changed = [], [], {}
        return taken

    def give_back(self, events: list[MeterEvent], registers: list[RegisterReading], changed: dict[str, tuple[str, int]]) -> None:
        """What was taken and could not be written down: it comes before what has gathered since."""
        self.events, self.registers, self.changed = [*events, *self.events], [*registers, *self.registers], changed | self.changed

    def _word(self, serial: str, push: RegisterPush, received_s: int) -> None:
        word, at_s = push.status_word or "", push.clock_stamp_s
        at_s = received_s if at_s is None else at_s
        before = self.words.get(serial, "0" * len(word))
        kept = "".join("0" if bit in MOMENTARY else mark for bit, mark in enumerate(before))
        for bit, now_set in status_changes(kept, word):
            if now_set or bit not in MOMENTARY:
                self.events.append(status_event(serial, at_s, bit, now_set, received_s))
        self.words[serial] = word
        self.changed[serial] = word, at_s


def status_event(serial: str, at_s: int, bit: int, now_set: bool, received_s: int) -> MeterEvent:
    """A bit of the event status word that was set or cleared, as an event; code 0 where IS 15959 has none for it."""
    known = status_bits().get(bit)
    what = known.what if known else f"status bit {bit}"
    return MeterEvent(serial, at_s, event_of(bit, now_set) or 0, bit, now_set, what if now_set else f"over: {what}", received_s, "push")


def profile_rows(
    serial: str, layout: ProfileLayout, rows: Sequence[Row], received_s: int
) -> tuple[list[MeterEvent], list[RegisterReading]]:
    """Rows of a profile that was read: an event log as events, daily, billing and instantaneous profiles as registers; anything else is nothing
    here. Rows without a time are passed over."""
    if layout.obis.startswith(EVENT_LOG):
        return _logged(serial, layout, rows, received_s), []
    kind = KIND_OF_PROFILE.get(layout.obis)
    if kind is None:
        return [], []
    found = []
    for row in rows:
        values = {}
        stamp_s = row.stamp_s
        for column, data in zip(layout.columns, row.values, strict=True):
            if column.obis == BILLING_DATE_OBIS and column.attribute == 2:
                stamp_s = stamp_of(data, 330) if stamp_s is None else stamp_s
            elif column.obis != CLOCK_OBIS and (number := scaled(data, column.scaler)) is not None:
                values[column.obis, column.attribute] = number
        reading = _reading(kind, serial, RegisterRow(stamp_s, dict(values)), received_s, "pull")
        found += [] if reading is None else [reading]
    return [], found


def _logged(serial: str, layout: ProfileLayout, rows: Sequence[Row], received_s: int) -> list[MeterEvent]:
    """The event code stands in the log's own data object (0.0.96.11.x.255)."""
    at = next((k for k, c in enumerate(layout.columns) if c.obis.startswith("0.0.96.11.")), None)
    if at is None or not any(c[:3] == CLOCK[:3] for c in layout.captures):
        return []
    told = []
    for row in rows:
        code = row.values[at].value
        if row.stamp_s is None or not isinstance(code, int) or row.values[at].tag is Tag.BOOLEAN:
            continue
        fact = events().get(code)
        occurred = fact is None or fact.kind != "restoration"
        told.append(MeterEvent(serial, row.stamp_s, code, NO_BIT, occurred, fact.what if fact else f"event {code}", received_s, "pull"))
    return told


def _reading(kind: str, serial: str, row: RegisterRow, received_s: int, source: str) -> RegisterReading | None:
    """A row as it is kept; None without a time. The first of several columns of one register counts (others are of tariff zones or months)."""
    if row.stamp_s is None:
        return None
    energies: dict[str, int | None] = dict.fromkeys(REGISTERS)
    rest: dict[str, str | int | bool] = {}
    for (obis, attribute), value in row.values.items():
        name = CUMULATIVE.get(obis) if attribute == 2 else None
        whole = _whole(value) if name and isinstance(value, Decimal) else None
        if name and whole is not None:
            energies[name] = whole
        else:
            rest[f"{obis}:{attribute}"] = _plain(value)
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return RegisterReading(kind, row.stamp_s, serial, **energies, rest=text, received_s=received_s, source=source)


def _whole(value: Decimal) -> int | None:
    """Half up; None where no register could hold it."""
    return int(value.quantize(Decimal(1), ROUND_HALF_UP)) if abs(value) < _INT64_MAX else None


def _plain(value: object) -> str | int | bool:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int | str):
        return value
    return format(value, "f") if isinstance(value, Decimal) else str(value)
