"""Real consumption of real households: the shipped data set, in Wh per quarter hour."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..readings import Bool, Int32, Int64

SLOTS_PER_DAY = 96
DAYS = 49
IMPOSSIBLE_WH = 20_000
"""No shipped household truly takes 20 kWh in 15 minutes (80 kW): above it, or below zero, the METER was wrong, not the house."""


@dataclass(frozen=True, slots=True)
class Households:
    """ids: int64 [household], ascending; metered_wh: int32 [household, day, slot], as the meters gave it, defects included."""

    ids: Int64
    metered_wh: Int32


def load_households(path: Path | None = None) -> Households:
    """The shipped households, or those of another file of the same form. DataError names a file that is corrupt or of another form."""
    source = path or Path(str(resources.files("openami.fleet") / "data/swiss_households_15min/households.parquet"))
    try:
        table = pq.read_table(source, columns=["household_id", "iso_week", "slot", "kwh"])
        table = table.sort_by([("household_id", "ascending"), ("iso_week", "ascending"), ("slot", "ascending")])
        kwh = table["kwh"].cast(pa.float64()).to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"household data {source} cannot be read ({str(error)[:120]}); install openami again or give a sound file"
        ) from error
    ids, rows = np.unique(table["household_id"].to_numpy(), return_counts=True)
    if (rows != DAYS * SLOTS_PER_DAY).any():
        raise DataError(
            f"household data {source} has {table.num_rows:,} rows, {len(ids)} households need {len(ids) * DAYS * SLOTS_PER_DAY:,}; "
            "install openami again or give a complete file"
        )
    if not np.isfinite(kwh).all():
        raise DataError(f"household data {source} has rows without a number; install openami again or give a complete file")
    metered = np.rint(kwh * 1000).astype(np.int32).reshape(len(ids), DAYS, SLOTS_PER_DAY)
    return Households(ids.astype(np.int64), metered)


def true_consumption(metered_wh: Int32) -> Int32:
    """What the house took where its meter gave the impossible: the mean of its nearest sound neighbours. [household, slot] -> same.

    A construction (nobody knows the truth); it keeps a meter's fault out of the transformer's energy, where it never flowed.
    """
    true = metered_wh.copy()
    wrong = (metered_wh < 0) | (metered_wh > IMPOSSIBLE_WH) | spikes(metered_wh)
    for row in np.flatnonzero(wrong.any(axis=1)):
        sound = np.flatnonzero(~wrong[row])
        true[row, wrong[row]] = np.rint(np.interp(np.flatnonzero(wrong[row]), sound, metered_wh[row, sound])).astype(np.int32)
    return true


def spikes(metered_wh: Int32) -> Bool:
    """True where a value is above 7 kWh and more than three times anything in the hour on either side: a meter's fault, not a load."""
    padded = np.pad(metered_wh, ((0, 0), (4, 4)), mode="edge")
    around = np.maximum.reduce([padded[:, 4 + k : 4 + k + metered_wh.shape[1]] for k in (-4, -3, -2, -1, 1, 2, 3, 4)])
    return np.asarray((metered_wh > 7_000) & (metered_wh > 3 * np.maximum(around, 1)), np.bool_)
