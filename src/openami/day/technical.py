"""What wires and iron lose where no network model is known: fitted to the last days of each transformer and feeder. The rest is commercial.

What always holds: gaps of consumers are put in at their own mean of that slot of the day; a node without a meter, or with too little to fit, has no
row; the meter of a transformer sits on its low-voltage side, so that its iron is the feeder's loss; below it no wires lose more than `WIRES_MAX`:
who steals at the peak looks like wires.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..losses.features import WIRES_MAX
from ..losses.fitted import fit
from ..losses.network import Level
from ..readings import MISSING, MISSING64, Int32
from .span import Group

TECHNICAL = pa.schema(
    [("level", pa.string()), ("node", pa.string()), ("feeder", pa.string()),
     *((name, pa.float64()) for name in ("in_wh", "technical_wh", "low_wh", "high_wh", "no_load_w", "square_per_w")),
     ("slots", pa.int32()), ("days", pa.int32())]
)  # fmt: skip


def technical_rows(group: Group, interval_s: int) -> list[dict[str, object]]:
    """Rows of `technical` of a feeder: its own, where all its transformers have meters, and its transformers'. Energies are those of the slots that
    were fitted."""
    per_hour = 3600 / interval_s
    taken = _filled(group.span.wh[:, group.members], group.span.slots_per_day)
    into = np.where(group.into_wh != MISSING64, group.into_wh, np.nan)
    below = np.zeros(into.shape)
    np.add.at(below.T, group.at[group.at >= 0], taken.T[group.at >= 0])
    rows = [
        _row(group, str(Level.TRANSFORMER), group.name(k), into[:, k] * per_hour, below[:, k] * per_hour, interval_s, 0.0)
        for k in range(group.dts.size)
    ]
    index = group.span.index
    heads = np.flatnonzero(index.is_feeder & (index.feeder == index.feeders.index(group.feeder)))
    if heads.size == 1 and (group.own >= 0).all():
        head = group.span.wh[:, heads[0]]
        rows.append(
            _row(
                group,
                str(Level.FEEDER),
                group.feeder,
                np.where(head != MISSING, head, np.nan) * per_hour,
                into.sum(axis=1) * per_hour,
                interval_s,
                None,
            )
        )
    return [row for row in rows if row is not None]


def _row(
    group: Group, level: str, node: str, in_w: np.ndarray, out_w: np.ndarray, interval_s: int, no_load_w: float | None
) -> dict[str, object] | None:
    found = fit(in_w, in_w - out_w, interval_s, out_w, no_load_w)
    if found is None:
        return None
    fitted = np.isfinite(in_w) & np.isfinite(out_w)
    in_wh = float(in_w[fitted].sum()) * interval_s / 3600
    most = WIRES_MAX * in_wh if level == str(Level.TRANSFORMER) else np.inf
    return {
        "level": level, "node": node, "feeder": group.feeder, "in_wh": in_wh,
        "technical_wh": min(found.technical_wh, most), "low_wh": min(found.technical_low_wh, most), "high_wh": min(found.technical_high_wh, most),
        "no_load_w": found.no_load_w, "square_per_w": found.square_per_w, "slots": found.slots, "days": group.span.days,
    }  # fmt: skip


def _filled(wh: Int32, per_day: int) -> np.ndarray:
    """[slot, meter] with gaps at the meter's own mean of that slot of the day; 0 for a meter that told nothing."""
    days = wh.reshape(-1, per_day, wh.shape[1])
    there = days != MISSING
    mean = np.where(there, days, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return np.asarray(np.where(there, days, mean[None, :, :]).reshape(wh.shape))
