"""Homes that no rule was tuned by: half hours of Sydney, London and Dublin, ten minutes of Sceaux, hours of Fontana, a heat pump's own meter.

Most of these sets may be tested with and not shipped, so they are read from a folder of the reader's; those that are shipped are always there.
Each reader takes its set's files as their publishers wrote them; what becomes of their clock changes stands in `docs/results/vee.md`.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ..errors import DataError, InputError
from ..readings import MISSING, Int32, Int64
from .households import london, shipped_file, sound_days


@dataclass(frozen=True, slots=True)
class Homes:
    """Homes of one set. wh: int32 [day, slot, home] [Wh] on consecutive days, MISSING where the set has none; minutes: of an interval."""

    name: str
    minutes: int
    wh: Int32


def every_home(folder: Path | None) -> list[Homes]:
    """The shipped sets, and those of `SETS` that lie in `folder`, each below its own name.

    InputError where there is no such folder or it holds none of them; DataError names a set's file that cannot be read."""
    homes = [Homes("Swiss", 15, sound_days()), Homes("London", 30, london()), Homes("heat pump", 15, _heat_pump())]
    if folder is None:
        return homes
    there = [(folder / path, read) for path, read in SETS.items() if (folder / path).exists()]
    if not there:
        raise InputError(
            f"{folder} holds none of the sets {', '.join(SETS)}; give the folder in which they lie, or none for the shipped homes"
        )
    for path, read in there:
        try:
            homes.append(read(path))
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(f"{path} cannot be read as the set that its name says: {error}") from error
    return homes


def sydney(path: Path) -> Homes:
    """Seven homes of the Smart Grid, Smart City trial, from the first to the last day that any was metered."""
    rows = pq.read_table(path)
    at = rows["reading_datetime"].to_numpy().astype("datetime64[s]").astype(np.int64)
    home = np.unique(rows["customer_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    return Homes("Sydney", 30, gridded(at, home, rows["kwh"].to_numpy() * 1000, 30))


def solar_home(path: Path) -> Homes:
    """One home of the Ausgrid solar trial: its general consumption, beside panels that are metered apart."""
    rows = _rows(path)
    at = np.array([datetime.fromisoformat(f"{row['']}+00:00").timestamp() for row in rows], np.int64)
    return Homes("Ausgrid, with solar", 30, gridded(at, np.zeros_like(at), np.array([float(row["GC"]) * 500 for row in rows]), 30))


def dublin(path: Path) -> Homes:
    """The import of one home with panels. Stamps end their interval, on the local clock; of an hour that comes twice one pass is kept."""
    rows = [row for row in _rows(path) if "Import" in row["Read Type"]]
    stamps = [datetime.strptime(f"{row['Read Date and End Time']} +0000", "%d-%m-%Y %H:%M %z") for row in rows]
    at = np.array([stamp.timestamp() - 1800 for stamp in stamps], np.int64)
    return Homes("Dublin, with solar", 30, gridded(at, np.zeros_like(at), np.array([float(row["Read Value"]) * 1000 for row in rows]), 30))


def sceaux(path: Path) -> Homes:
    """One home in ten-minute means of its power."""
    rows = [row for row in _rows(path) if row["date_time"]]
    kw = np.array([float(row["active_power"] or "nan") for row in rows])
    there = ~np.isnan(kw)
    at = np.arange(len(rows), dtype=np.int64) * 600
    return Homes("Sceaux", 10, gridded(at[there], np.zeros(int(there.sum()), np.int64), kw[there] * 1000 / 6, 10))


def fontana(folder: Path) -> Homes:
    """Homes of a zero-net-energy community, what is not shiftable, by the hour; building 12 is left out: its set calls half its readings bad."""
    own = [path for path in sorted(folder.glob("Building_*.csv.gz")) if path.name != "Building_12.csv.gz"]
    columns = [[float(row["non_shiftable_load"]) * 1000 for row in _rows(path)[1:]] for path in own]
    wh = np.rint(np.array(columns)).astype(np.int32)
    return Homes("Fontana", 60, np.ascontiguousarray(wh[:, : wh.shape[1] // 24 * 24].reshape(len(own), -1, 24).transpose(1, 2, 0)))


SETS: dict[str, Callable[[Path], Homes]] = {
    "sgsc_nsw_30min/sgsc_dev.parquet": sydney,
    "ausgrid_solarhome_cust12/data_2011-2012.csv.gz": solar_home,
    "esb_ireland_hdf_30min/HDF_EXAMPLE.csv.gz": dublin,
    "uci_sceaux_household_10min/powerconsumption_2008_m01-09.csv.gz": sceaux,
    "citylearn_fontana_hourly": fontana,
}


def gridded(start_s: Int64, home: npt.NDArray[np.integer], wh: npt.NDArray[np.floating], minutes: int) -> Int32:
    """int32 [day, slot, home] from the first to the last day: readings by the start of their interval in seconds of their own clock."""
    slots, first = 24 * 60 // minutes, int(start_s.min()) // 86_400
    days = int(start_s.max()) // 86_400 - first + 1
    grid = np.full((days * slots, int(home.max()) + 1), MISSING, np.int32)
    grid[start_s // (60 * minutes) - first * slots, home] = np.rint(wh)
    return grid.reshape(days, slots, -1)


def _heat_pump() -> Int32:
    rows = pq.read_table(shipped_file("swiss_heatpump_15min/heatpump.parquet"))
    at = rows["local_start"].to_numpy().astype("datetime64[s]").astype(np.int64)
    return gridded(at, np.zeros_like(at), rows["wh"].to_numpy().astype(np.float64), 15)


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))
