"""Readings for people who ask questions: a data folder opened for Python and SQL.

    import openami
    found = openami.open("data/demo").readings("import_wh", days=("2025-12-01", "2025-12-07"), meters=["XMA0000001"])
    found.numpy(), found.pandas(), found.arrow(), found.unit

What always holds: nothing here writes; a number is in its channel's unit, and what is missing is NaN or null, never 0; every value's `Quality`
bits come with it; a stamp is the END of its interval, in UTC. A few meters over many days come from the meter-ordered history where it is
up to date with the table, everything else from the day blocks: the answer is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import DeltaTable

from .errors import DataError, InputError
from .readings import CHANNEL_BY_NAME, MISSING, Calendar, Channel, Int32, Int64, Quality, UInt32
from .registry import Meter
from .store.blocks import MARKS, SLOT, WAY_OUT, BlockFile, dense_quality
from .store.deployment import Folder
from .store.history import History
from .store.lake import Lake
from .store.places import place_of
from .store.rows import Rows

Day = date | str
FEW_METERS = 16
MANY_DAYS = 7


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one channel. values: int32 [interval, meter] in unit x 10**scaler, MISSING where there is none; quality: uint32, same shape,
    `Quality` bits (a day that the table does not have is missing); stamp_s: int64 [interval], the end of each interval in UTC seconds; meters:
    serial numbers, in column order."""

    channel: Channel
    zone: str
    meters: tuple[str, ...]
    stamp_s: Int64
    values: Int32
    quality: UInt32

    @property
    def unit(self) -> str:
        return self.channel.unit

    def numpy(self) -> npt.NDArray[np.float64]:
        """float64 [interval, meter] in `unit`, NaN where there is no value."""
        return np.where(self.values == MISSING, np.nan, self.values * 10.0**self.channel.scaler)

    def arrow(self) -> pa.Table:
        """Long rows: meter, stamp (end of the interval, UTC), value (null = missing; its field's metadata names the unit), quality."""
        intervals, meters = self.values.shape
        gaps = (self.values == MISSING).T.ravel()
        stamp = pa.array(np.tile(self.stamp_s, meters)).cast(pa.timestamp("s", "UTC"))
        serial = pa.DictionaryArray.from_arrays(np.repeat(np.arange(meters, dtype=np.int32), intervals), pa.array(self.meters, pa.string()))
        value = pa.array(np.nan_to_num(self.numpy().T.ravel()), mask=gaps)
        fields = [
            pa.field("meter", serial.type),
            pa.field("stamp", stamp.type),
            pa.field("value", value.type, metadata={"unit": self.unit, "channel": self.channel.name, "obis": self.channel.obis}),
            pa.field("quality", pa.uint32()),
        ]
        return pa.table([serial, stamp, value, pa.array(self.quality.T.ravel())], schema=pa.schema(fields))

    def pandas(self) -> Any:
        """A pandas DataFrame: a row per interval (its end, in local time), a column per meter, NaN = missing; `attrs` names the unit.
        InputError where pandas is not installed."""
        try:
            import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError:
            raise InputError("pandas is not installed; install it, or take .numpy() or .arrow()") from None
        index = pandas.to_datetime(self.stamp_s, unit="s", utc=True).tz_convert(self.zone).rename("interval_end")
        frame = pandas.DataFrame(self.numpy(), index=index, columns=list(self.meters))
        frame.attrs.update(unit=self.unit, channel=self.channel.name)
        return frame


@dataclass(slots=True)
class Data:
    """An open data folder: its calendar, its registry, its lake and the history beside it."""

    calendar: Calendar
    rows: Rows
    lake: Lake
    history: History

    @staticmethod
    def open(path: str | Path) -> Data:
        """DataError where there is no data folder of ours."""
        folder = Folder(Path(path))
        deployment = folder.load()
        lake = Lake(place_of(folder, deployment))
        return Data(deployment.calendar, Rows.of(folder), lake, History(lake))

    def readings(
        self,
        channel: str = "import_wh",
        days: Day | tuple[Day, Day] | None = None,
        meters: str | Sequence[str] | None = None,
        table: str = "validated",
    ) -> Readings:
        """Readings of `channel`: days = one day, or (first, last) both included, None = all that `table` has; meters = serial numbers, None =
        all; table = "validated" or "raw". InputError names a channel, a day, a meter or a table that there is not."""
        if channel not in CHANNEL_BY_NAME:
            raise InputError(f"there is no channel {channel!r}; known are {', '.join(CHANNEL_BY_NAME)}")
        if table not in ("validated", "raw"):
            raise InputError(f"readings are in the tables validated and raw, not in {table!r}")
        own = self._meters(meters)
        chosen = self._days(days, table)
        slots = [self.calendar.slots(day) for day in chosen]
        edges = np.concatenate([[0], np.cumsum(slots)]).astype(np.int64)
        found = Readings(
            CHANNEL_BY_NAME[channel],
            self.calendar.zone,
            tuple(meter.serial for meter in own),
            np.array([self.calendar.stamp(day, slot) for day, count in zip(chosen, slots, strict=True) for slot in range(count)], np.int64),
            np.full((edges[-1], len(own)), MISSING, np.int32),
            np.full((edges[-1], len(own)), Quality.MISSING, np.uint32),
        )
        for shard in sorted({meter.shard for meter in own}):
            column = np.array([k for k, meter in enumerate(own) if meter.shard == shard], np.int64)
            left = self._from_history(found, channel, own, column, chosen, edges) if table == "validated" else set(chosen)
            self._from_blocks(found, table, own, column, [(k, day) for k, day in enumerate(chosen) if day in left], edges)
        return found

    def delta(self, table: str = "validated", version: int | None = None) -> DeltaTable:
        """A table for other tools, also where it lies in an object store: `data.delta().to_pyarrow_dataset()`, `.file_uris()`, `.history()`. version:
        as it was then. DataError where there is no such table or version."""
        return self.lake.opened(table, version)

    def long_view(self, connection: Any, table: str = "validated", name: str = "readings") -> None:
        """Views of long rows in a DuckDB connection, of the table's version of this moment; no row = missing:

        name             day, shard, channel, meter (index in the shard), slot, value (in unit x 10**scaler, as stored)
        name + "_told"   the same with serial, stamp (end of the interval, UTC), value in the channel's unit, unit, and quality (0 = plain valid);
                         it joins, so ask it for a few days or meters"""
        dataset = self.delta(table).to_pyarrow_dataset()
        slots = [column for column in dataset.schema.names if SLOT.fullmatch(column)]
        connection.register(f"{name}_blocks", dataset)
        connection.execute(
            f"create or replace temp view {name} as select day, shard, channel, meter, cast(substr(slot, 2) as smallint) as slot, value "  # noqa: S608
            f"from (unpivot {name}_blocks on {', '.join(slots)} into name slot value value)"
        )
        connection.register(f"{name}_quality", self.delta(f"{table}_quality").to_pyarrow_dataset())
        connection.register(f"{name}_meters", self._meter_rows())
        connection.register(f"{name}_channels", _channel_rows())
        connection.register(f"{name}_stamps", self._stamp_rows(table))
        connection.execute(
            f"create or replace temp view {name}_told as select r.day, r.shard, r.channel, m.serial, r.slot, s.stamp, "  # noqa: S608
            f"r.value * c.step as value, c.unit, coalesce(q.quality, 0) as quality from {name} r "
            f"join {name}_meters m using (shard, meter) join {name}_channels c using (channel) join {name}_stamps s using (day, slot) "
            f"left join {name}_quality q using (day, shard, channel, meter, slot)"
        )

    def charge_view(self, connection: Any, name: str = "charge_lines") -> None:
        """A view of the charges in a DuckDB connection, a row per account, day and line of its tariff (the lines of 0 too), of the tables' versions
        of this moment: day, shard, account, meter, tariff, line, amount_paise. A line that an account's tariff does not have has no row.
        Adjustments are rows of the table `adjustments`."""
        dataset = self.delta("charges").to_pyarrow_dataset()
        lines = [column for column in dataset.schema.names if column.endswith("_paise") and column != "to_date_paise"]
        connection.register(f"{name}_wide", dataset)
        connection.register(f"{name}_accounts", self.delta("statements").to_pyarrow_dataset())
        connection.execute(
            f"create or replace temp view {name} as select c.day, c.shard, a.account, c.meter, c.tariff, "  # noqa: S608
            f"regexp_replace(c.line, '_paise$', '') as line, c.amount_paise "
            f"from (unpivot {name}_wide on {', '.join(lines)} into name line value amount_paise) c "
            f"join (select day, shard, meter, account from {name}_accounts) a using (day, shard, meter)"
        )

    def _meter_rows(self) -> pa.Table:
        own = self.rows.meters()
        shard, index = ([getattr(meter, name) for meter in own] for name in ("shard", "index"))
        return pa.table(
            {"shard": pa.array(shard, pa.int32()), "meter": pa.array(index, pa.int32()), "serial": [meter.serial for meter in own]}
        )

    def _stamp_rows(self, table: str) -> pa.Table:
        places = [(day, slot) for day in self.lake.days(table) for slot in range(self.calendar.slots(day))]
        stamps = pa.array([self.calendar.stamp(*place) for place in places], pa.int64()).cast(pa.timestamp("s", "UTC"))
        day, slot = ([place[k] for place in places] for k in (0, 1))
        return pa.table({"day": pa.array(day, pa.date32()), "slot": pa.array(slot, pa.int16()), "stamp": stamps})

    def _meters(self, meters: str | Sequence[str] | None) -> list[Meter]:
        known = self.rows.meters()
        if meters is None:
            return known
        wanted = [meters] if isinstance(meters, str) else list(meters)
        by_serial = {meter.serial: meter for meter in known}
        if missing := [serial for serial in wanted if serial not in by_serial]:
            raise InputError(f"there is no meter {missing[0]!r} in the registry ({len(known)} meters, the first is {known[0].serial})")
        return [by_serial[serial] for serial in wanted]

    def _days(self, days: Day | tuple[Day, Day] | None, table: str) -> list[date]:
        if days is None:
            return self.lake.days(table)
        asked = tuple(days) if isinstance(days, tuple | list) else (days, days)
        if len(asked) != 2:
            raise InputError(f"days is one day, or (first, last), not {len(asked)} of them; ask for a span, or several times")
        first, last = map(_date, asked)
        if last < first:
            raise InputError(f"the days from {first} to {last} are none; give the earlier one first")
        return [first + timedelta(days=k) for k in range((last - first).days + 1)]

    def _from_history(self, found: Readings, channel: str, own: list[Meter], column: Int64, chosen: list[date], edges: Int64) -> set[date]:
        """Fill in what the history has and is not behind; gives the days that are left."""
        if len(column) > FEW_METERS or len(chosen) < MANY_DAYS:
            return set(chosen)
        shard = own[column[0]].shard
        left = {day for day, of in self.history.behind() if of == shard} & set(chosen)
        place = {day: k for k, day in enumerate(chosen)}
        for at in column.tolist():
            days = self.history.meter(channel, shard, own[at].index, chosen[0], chosen[-1])
            for k, day in enumerate(days.days):
                if day not in left and days.quality is not None:
                    rows = slice(int(edges[place[day]]), int(edges[place[day] + 1]))
                    found.values[rows, at] = days.values[k, : days.slots[k]]
                    found.quality[rows, at] = days.quality[k, : days.slots[k]]
        return left

    def _from_blocks(
        self, found: Readings, table: str, own: list[Meter], column: Int64, days: list[tuple[int, date]], edges: Int64
    ) -> None:
        shard = own[column[0]].shard
        files = self.lake.all_files(table) if days else {}
        index = np.array([own[at].index for at in column.tolist()], np.int64)
        for k, day in days:
            for path in files.get((day, shard), []):
                file = BlockFile(path)
                if not (meters := file.meters(found.channel.name)):
                    continue
                there = index < meters
                values = file.values(found.channel.name)
                quality = dense_quality(self.lake.read(f"{table}_quality", day, shard, needed=MARKS), found.channel.name, values.shape)
                rows = np.arange(edges[k], edges[k + 1])[:, None]
                if len(values) < len(rows):
                    raise DataError(f"{path} has {len(values)} slots where {day} has {len(rows)}; {WAY_OUT}")
                found.values[rows, column[there]] = values[: len(rows), index[there]]
                found.quality[rows, column[there]] = quality[: len(rows), index[there]]


def _channel_rows() -> pa.Table:
    """The channels: name, unit, and what one step of a stored number is in it."""
    known = list(CHANNEL_BY_NAME.values())
    return pa.table({"channel": [c.name for c in known], "unit": [c.unit for c in known], "step": [10.0**c.scaler for c in known]})


def _date(day: Day) -> date:
    try:
        return day.date() if isinstance(day, datetime) else day if isinstance(day, date) else date.fromisoformat(day)
    except ValueError:
        raise InputError(f"{day!r} is not a date; write year-month-day, as 2025-12-01") from None
