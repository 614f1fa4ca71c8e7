"""Profile generic (class 7): its buffer read by a client and served by a meter, by range, by entry and by column (Blue Book 4.3.6).

Reading: a buffer is an array of structures, or a compact array. A null in a row means "as in the row before"; a null in the clock
column means "one capture period later"; a column never vanishes. Serving: rows are kept in order of time, the oldest fall out.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from decimal import Decimal
from typing import Any, NamedTuple

from ..errors import MeterError
from .apdu import AccessResult, ActionOutcome, Outcome, Selection
from .axdr import NULL, Data, Tag
from .clock import CosemDateTime
from .objects import CosemObject, members, read_scaler_unit, stamp_of
from .push import CLOCK_OBIS, obis_bytes, obis_text

BY_RANGE = 1
BY_ENTRY = 2


class Capture(NamedTuple):
    """A captured object: class, logical name, attribute, index into it (0 = the whole attribute)."""

    class_id: int
    obis: str
    attribute: int = 2
    data_index: int = 0

    def encode(self) -> Data:
        return Data(
            Tag.STRUCTURE,
            (
                Data(Tag.LONG_UNSIGNED, self.class_id),
                Data(Tag.OCTET_STRING, obis_bytes(self.obis)),
                Data(Tag.INTEGER, self.attribute),
                Data(Tag.LONG_UNSIGNED, self.data_index),
            ),
        )

    @staticmethod
    def decode(data: Data) -> Capture:
        """From {class, logical name, attribute, index}; MeterError for any other shape."""
        parts = members(data, Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.INTEGER, Tag.LONG_UNSIGNED)
        if parts is None:
            raise MeterError("a capture object is not the structure of class, logical name, attribute and index", "layout")
        return Capture(parts[0], obis_text(parts[1]), parts[2], parts[3])


CLOCK = Capture(8, CLOCK_OBIS)


def by_range(from_s: int, to_s: int, columns: tuple[Capture, ...] = (), deviation_minutes: int = -330) -> Selection:
    """Rows with from_s <= clock <= to_s (UTC seconds); columns () = all."""
    bounds = (CosemDateTime.from_stamp(stamp, deviation_minutes).encode() for stamp in (from_s, to_s))
    first, last = (Data(Tag.OCTET_STRING, octets) for octets in bounds)
    chosen = Data(Tag.ARRAY, tuple(column.encode() for column in columns))
    return Selection(BY_RANGE, Data(Tag.STRUCTURE, (CLOCK.encode(), first, last, chosen)))


def by_entry(first: int, last: int = 0, first_column: int = 1, last_column: int = 0) -> Selection:
    """Rows `first` to `last`, the oldest is 1; last 0 = to the newest. Columns likewise."""
    rows = (Data(Tag.DOUBLE_LONG_UNSIGNED, first), Data(Tag.DOUBLE_LONG_UNSIGNED, last))
    columns = (Data(Tag.LONG_UNSIGNED, first_column), Data(Tag.LONG_UNSIGNED, last_column))
    return Selection(BY_ENTRY, Data(Tag.STRUCTURE, rows + columns))


def read_captures(data: Data) -> tuple[Capture, ...]:
    """A profile's capture objects (attribute 3)."""
    if data.tag is not Tag.ARRAY:
        raise MeterError("a profile's capture objects are not an array", "layout")
    return tuple(Capture.decode(one) for one in data.value)


class Row(NamedTuple):
    """One row of a buffer. stamp_s: its clock, UTC seconds, None where there is none; values: a `Data` for each column, in order."""

    stamp_s: int | None
    values: tuple[Data, ...]


def read_buffer(columns: tuple[Capture, ...], buffer: Data, capture_period_s: int = 0, zone_offset_minutes: int = 330) -> list[Row]:
    """A profile's buffer (attribute 2) as rows with every null filled in.

    capture_period_s: what a null in the clock column adds to the row before; 0 = unknown, then it stays without stamp.
    zone_offset_minutes: for clocks whose deviation is not specified. A null with no row in front of it stays null. MeterError
    (cause "layout") where a row does not have a value for each column.
    """
    if buffer.tag is Tag.COMPACT_ARRAY:
        raw = [one.value if one.tag is Tag.STRUCTURE else (one,) for one in buffer.value.elements]
    elif buffer.tag is Tag.ARRAY:
        raw = [one.value if one.tag is Tag.STRUCTURE else None for one in buffer.value]
    else:
        raise MeterError(f"a profile buffer is a {buffer.tag.name.lower()}, not an array", "layout")
    clock_at = next((k for k, column in enumerate(columns) if column.obis == CLOCK_OBIS and column.attribute == 2), None)
    rows: list[Row] = []
    before: tuple[Data, ...] = (NULL,) * len(columns)
    stamp: int | None = None
    for values in raw:
        if values is None or len(values) != len(columns):
            raise MeterError(f"a profile row does not have the {len(columns)} columns of its capture objects", "layout")
        filled = tuple(old if new.tag is Tag.NULL else new for new, old in zip(values, before, strict=True))
        if clock_at is not None:
            if values[clock_at].tag is not Tag.NULL:
                stamp = stamp_of(values[clock_at], zone_offset_minutes)
            elif stamp is not None and capture_period_s:
                stamp += capture_period_s
                filled = (*filled[:clock_at], _clock_like(filled[clock_at], stamp), *filled[clock_at + 1 :])
            else:
                stamp = None
        rows.append(Row(stamp, filled))
        before = filled
    return rows


def read_scalers(columns: tuple[Capture, ...], buffer: Data) -> dict[str, tuple[int, str]]:
    """A scaler profile's only row as {logical name: (scaler, unit)}.

    Scaler columns may stand in another order than the profile's, so the match is by logical name. A column that is no scaler and unit
    is left out.
    """
    rows = read_buffer(columns, buffer)
    found = {}
    for column, value in zip(columns, rows[0].values if rows else (), strict=False):
        pair = read_scaler_unit(value)
        if pair is not None:
            found[column.obis] = pair
    return found


def scaled(data: Data, scaler: int) -> Decimal | None:
    """number x 10**scaler, exact for integers; None where `data` is no finite number."""
    value = data.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return Decimal(value).scaleb(scaler)


def _clock_like(clock: Data, stamp_s: int) -> Data:
    """The clock of a later row in the form of `clock`."""
    old = CosemDateTime.decode(clock.value)
    deviation = -330 if old.deviation_minutes is None else old.deviation_minutes
    new = CosemDateTime.from_stamp(stamp_s, deviation, old.status or 0)
    return Data(clock.tag, new._replace(deviation_minutes=old.deviation_minutes, status=old.status).encode())


class ProfileGeneric(CosemObject):
    """Class 7 of a meter. Methods: 1 reset, 2 capture (through `add`). deltas: nulls for what equals the row before.

    rows come through `add` in order of time; beyond `depth` the oldest falls out. The first column is the clock where the profile can
    be read by range.
    """

    class_id = 7
    version = 1
    methods = (1, 2)

    def __init__(self, obis: str, columns: tuple[Capture, ...], period_s: int, depth: int, deltas: bool = False) -> None:
        super().__init__(
            obis,
            {
                2: Data(Tag.ARRAY, ()),
                3: Data(Tag.ARRAY, tuple(column.encode() for column in columns)),
                4: Data(Tag.DOUBLE_LONG_UNSIGNED, period_s),
                5: Data(Tag.ENUM, 1),
                6: CLOCK.encode(),
                7: NULL,
                8: Data(Tag.DOUBLE_LONG_UNSIGNED, depth),
            },
            (4,),
        )
        self.columns, self.depth, self.deltas = columns, depth, deltas
        self._stamps: list[int] = []
        self._rows: list[tuple[Data, ...]] = []

    def add(self, stamp_s: int, values: tuple[Data, ...]) -> None:
        """A new row; one with a stamp that is there already takes its place."""
        at = bisect_left(self._stamps, stamp_s)
        if at < len(self._stamps) and self._stamps[at] == stamp_s:
            self._rows[at] = values
            return
        self._stamps.insert(at, stamp_s)
        self._rows.insert(at, values)
        del self._stamps[: -self.depth], self._rows[: -self.depth]

    def __len__(self) -> int:
        return len(self._rows)

    def after(self, stamp_s: int, count: int) -> list[tuple[int, tuple[Data, ...]]]:
        """At most `count` rows behind `stamp_s`, the oldest first, each with its stamp [UTC seconds] (a meter pushes them)."""
        first = bisect_right(self._stamps, stamp_s)
        return list(zip(self._stamps[first : first + count], self._rows[first : first + count], strict=True))

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member == 7:
            return Data(Tag.DOUBLE_LONG_UNSIGNED, len(self._rows))
        if member != 2:
            return super().get(member, selection, now_s)
        chosen = self._select(selection)
        if isinstance(chosen, AccessResult):
            return chosen
        first, last, columns = chosen
        rows = [tuple(row[k] for k in columns) for row in self._rows[first:last]]
        if self.deltas:
            rows = [row if k == 0 else _delta(rows[k - 1], row) for k, row in enumerate(rows)]
        return Data(Tag.ARRAY, tuple(Data(Tag.STRUCTURE, row) for row in rows))

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member == 1:
            self._stamps.clear()
            self._rows.clear()
            return Outcome(ActionOutcome.SUCCESS)
        return Outcome(ActionOutcome.READ_WRITE_DENIED if member == 2 else ActionOutcome.OBJECT_UNAVAILABLE)

    def _select(self, selection: Selection | None) -> tuple[int, int, tuple[int, ...]] | AccessResult:
        """(first row, row behind the last, columns)."""
        if selection is None:
            return 0, len(self._rows), tuple(range(len(self.columns)))
        if selection.selector == BY_RANGE:
            return self._range(selection.parameters)
        if selection.selector == BY_ENTRY:
            return self._entries(selection.parameters)
        return AccessResult.SCOPE_OF_ACCESS_VIOLATED

    def _range(self, parameters: Data) -> tuple[int, int, tuple[int, ...]] | AccessResult:
        if parameters.tag is not Tag.STRUCTURE or len(parameters.value) != 4 or parameters.value[3].tag is not Tag.ARRAY:
            return AccessResult.TYPE_UNMATCHED
        restricting, first, last, chosen = parameters.value
        try:
            by = Capture.decode(restricting)
            wanted = read_captures(chosen)
        except MeterError:
            return AccessResult.TYPE_UNMATCHED
        bounds = stamp_of(first, 330), stamp_of(last, 330)
        # A bill is found by its own date as well as by the clock: both are what its rows are kept in order of.
        if by[:3] not in (CLOCK[:3], self.columns[0][:3]) or bounds[0] is None or bounds[1] is None:
            return AccessResult.SCOPE_OF_ACCESS_VIOLATED
        places = {column[:3]: k for k, column in enumerate(self.columns)}
        if any(column[:3] not in places for column in wanted):
            return AccessResult.SCOPE_OF_ACCESS_VIOLATED
        columns = tuple(sorted(places[column[:3]] for column in wanted)) or tuple(range(len(self.columns)))
        return bisect_left(self._stamps, bounds[0]), bisect_right(self._stamps, bounds[1]), columns

    def _entries(self, parameters: Data) -> tuple[int, int, tuple[int, ...]] | AccessResult:
        four = members(parameters, Tag.DOUBLE_LONG_UNSIGNED, Tag.DOUBLE_LONG_UNSIGNED, Tag.LONG_UNSIGNED, Tag.LONG_UNSIGNED)
        if four is None:
            return AccessResult.TYPE_UNMATCHED
        first, last, first_column, last_column = four
        columns = range(max(first_column, 1) - 1, min(last_column or len(self.columns), len(self.columns)))
        return max(first, 1) - 1, last or len(self._rows), tuple(columns)


def _delta(before: tuple[Data, ...], row: tuple[Data, ...]) -> tuple[Data, ...]:
    """`row` with a null for what is as before; a clock is always written, because readers differ about a null there."""
    return tuple(NULL if new == old and _plain(new) else new for new, old in zip(row, before, strict=True))


def _plain(data: Data) -> Any:
    return data.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME, Tag.NULL)
