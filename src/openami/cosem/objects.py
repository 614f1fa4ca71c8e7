"""COSEM objects of a simulated meter: the base that every class shares, and the classes that only hold values (Blue Book 4.3, 4.5).

An object answers `get`, `set` and `act` with values or result codes and never raises for what a client asks. Time is an argument
(`now_s`, UTC seconds): an object that changes by itself (a clock, a relay that closes after a delay) is asked "how do you stand now".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .apdu import AccessResult, ActionOutcome, Outcome, Selection
from .axdr import NULL, Data, Tag
from .clock import CosemDateTime
from .push import obis_bytes

# Units of IEC 62056-6-2 (Blue Book 4.3.2), as far as meters here use them.
UNITS: dict[str, int] = {
    "year": 1, "month": 2, "day": 4, "h": 5, "min": 6, "s": 7, "deg": 8, "degC": 9, "currency": 10, "m3": 13, "Pa": 23, "J": 25,
    "W": 27, "VA": 28, "var": 29, "Wh": 30, "VAh": 31, "varh": 32, "A": 33, "C": 34, "V": 35, "Hz": 44, "%": 56, "dBm": 70, "count": 254, "": 255,
}  # fmt: skip
UNIT_NAMES = {number: name for name, number in UNITS.items()}


def scaler_unit(scaler: int, unit: str) -> Data:
    """The structure {scaler, unit} of a register. unit "" = a number without unit."""
    return Data(Tag.STRUCTURE, (Data(Tag.INTEGER, scaler), Data(Tag.ENUM, UNITS.get(unit, 255))))


def read_scaler_unit(data: Data) -> tuple[int, str] | None:
    """(scaler, unit) of a register's attribute 3, None where it is no such structure."""
    if data.tag is not Tag.STRUCTURE or len(data.value) != 2:
        return None
    scaler, unit = data.value
    if not isinstance(scaler.value, int) or not isinstance(unit.value, int):
        return None
    return scaler.value, UNIT_NAMES.get(unit.value, f"unit {unit.value}")


class CosemObject:
    """An object: class id, version, logical name, its attributes by number, and which of them a client may write at all."""

    class_id = 1
    version = 0
    methods: tuple[int, ...] = ()

    def __init__(self, obis: str, attributes: Mapping[int, Data], writable: Iterable[int] = ()) -> None:
        self.obis = obis
        self.attributes: dict[int, Data] = {1: Data(Tag.OCTET_STRING, obis_bytes(obis)), **attributes}
        self.writable = frozenset(writable)

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        """An attribute's value. A selection is only understood where the class has one."""
        if selection is not None:
            return AccessResult.SCOPE_OF_ACCESS_VIOLATED
        return self.attributes.get(member, AccessResult.OBJECT_UNAVAILABLE)

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        """Writes an attribute; the type must stay."""
        if member not in self.attributes:
            return AccessResult.OBJECT_UNAVAILABLE
        if member not in self.writable:
            return AccessResult.READ_WRITE_DENIED
        if value.tag is not self.attributes[member].tag and self.attributes[member] != NULL:
            return AccessResult.TYPE_UNMATCHED
        self.attributes[member] = value
        return AccessResult.SUCCESS

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        """Invokes a method."""
        return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)


class DataObject(CosemObject):
    """Class 1: one value. source: asked for the value each time, where it is not constant."""

    def __init__(self, obis: str, value: Data = NULL, writable: bool = False, source: Callable[[], Data] | None = None) -> None:
        super().__init__(obis, {2: value}, (2,) if writable else ())
        self._source = source

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member == 2 and self._source is not None and selection is None:
            return self._source()
        return super().get(member, selection, now_s)


class Register(CosemObject):
    """Class 3: a value with scaler and unit. Method 1 resets it."""

    class_id = 3
    methods = (1,)

    def __init__(self, obis: str, value: Data, scaler: int, unit: str) -> None:
        super().__init__(obis, {2: value, 3: scaler_unit(scaler, unit)})

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member != 1:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)
        value = self.attributes[2]
        self.attributes[2] = Data(value.tag, type(value.value)()) if value.value is not None else value
        return Outcome(ActionOutcome.SUCCESS)


class ExtendedRegister(Register):
    """Class 4: a register with a status and the time of its capture."""

    class_id = 4

    def __init__(self, obis: str, value: Data, scaler: int, unit: str, capture_time: bytes, status: Data = NULL) -> None:
        super().__init__(obis, value, scaler, unit)
        self.attributes |= {4: status, 5: Data(Tag.OCTET_STRING, capture_time)}


class DemandRegister(CosemObject):
    """Class 5: average over a period. Methods: 1 reset, 2 next_period."""

    class_id = 5
    methods = (1, 2)

    def __init__(self, obis: str, current: Data, last: Data, scaler: int, unit: str, period_s: int, started: bytes) -> None:
        super().__init__(
            obis,
            {
                2: current,
                3: last,
                4: scaler_unit(scaler, unit),
                5: NULL,
                6: Data(Tag.OCTET_STRING, started),
                7: Data(Tag.OCTET_STRING, started),
                8: Data(Tag.DOUBLE_LONG_UNSIGNED, period_s),
                9: Data(Tag.LONG_UNSIGNED, 1),
            },
        )

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        current = self.attributes[2]
        zero = Data(current.tag, type(current.value)())
        if member not in self.methods:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)
        self.attributes |= {
            3: zero if member == 1 else current,
            2: zero,
            6: Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(now_s).encode()),
        }
        return Outcome(ActionOutcome.SUCCESS)


class Clock(CosemObject):
    """Class 8. The meter's time is the true time plus `offset_s`; setting attribute 2 changes the offset. Method 6 shifts it."""

    class_id = 8
    methods = (6,)

    def __init__(self, obis: str = "0.0.1.0.0.255", deviation_minutes: int = -330, offset_s: int = 0) -> None:
        zeros = Data(Tag.OCTET_STRING, CosemDateTime().encode())
        super().__init__(
            obis,
            {
                2: zeros,
                3: Data(Tag.LONG, deviation_minutes),
                4: Data(Tag.UNSIGNED, 0),
                5: zeros,
                6: zeros,
                7: Data(Tag.INTEGER, 0),
                8: Data(Tag.BOOLEAN, False),
                9: Data(Tag.ENUM, 1),
            },
            (2,),
        )
        self.deviation_minutes, self.offset_s = deviation_minutes, offset_s

    def reading(self, now_s: int) -> CosemDateTime:
        """What the meter's clock shows."""
        return CosemDateTime.from_stamp(now_s + self.offset_s, self.deviation_minutes)

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member == 2 and selection is None:
            return Data(Tag.OCTET_STRING, self.reading(now_s).encode())
        return super().get(member, selection, now_s)

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        if member != 2:
            return super().set(member, value, now_s)
        stamp = stamp_of(value, -self.deviation_minutes)
        if stamp is None:
            return AccessResult.TYPE_UNMATCHED
        self.offset_s = stamp - now_s
        return AccessResult.SUCCESS

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member != 6 or parameters is None or parameters.tag is not Tag.LONG or abs(parameters.value) > 900:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE if member != 6 else ActionOutcome.TYPE_UNMATCHED)
        self.offset_s += parameters.value
        return Outcome(ActionOutcome.SUCCESS)


def stamp_of(data: Data, zone_offset_minutes: int) -> int | None:
    """The instant in a date-time or an octet-string of 12 bytes, UTC seconds; None where it is neither or names none."""
    if data.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME) or len(data.value) != 12:
        return None
    return CosemDateTime.decode(data.value).to_stamp(zone_offset_minutes)


def members(data: Data | None, *tags: Tag) -> tuple[Any, ...] | None:
    """The values of a structure whose members have exactly these tags, else None."""
    if data is None or data.tag is not Tag.STRUCTURE or tuple(member.tag for member in data.value) != tags:
        return None
    return tuple(member.value for member in data.value)
