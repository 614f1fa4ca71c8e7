"""What wires and iron lose where no network model is known: fitted to the last days of each transformer and feeder. The rest is commercial.

What always holds: a meter counts where it most probably hangs, not where the registry has it; gaps of consumers are put in at their own mean of
that slot of the day, silent ones at their neighbours'; how much is silent or may hang elsewhere widens the interval; a node without a meter, or with
too little to fit, has no row; the meter of a transformer sits on its low-voltage side, so that its iron is the feeder's loss; below it wires lose
something, and no more than `WIRES_MAX`: who steals at the peak looks like wires, who steals at night hides them, and a fit at either bound says no
more than that.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..losses.features import WIRES_MAX
from ..losses.fitted import fit
from ..losses.half_width import NORMAL_90
from ..losses.network import Level
from ..readings import MISSING, MISSING64, Bool, Int32
from .signs import Whereabouts
from .span import Group

SILENT = 0.5
"""Who told less than this share of its intervals is silent: what it used is not known from itself."""
PASSES = 0.5
"""Standard deviation of the part of energy put in, or put elsewhere, that passes for the wires': it may go with the square of the load, or not."""

TECHNICAL = pa.schema(
    [("level", pa.string()), ("node", pa.string()), ("feeder", pa.string()),
     *((name, pa.float64()) for name in ("in_wh", "technical_wh", "low_wh", "high_wh", "no_load_w", "square_per_w")),
     ("slots", pa.int32()), ("days", pa.int32())]
)  # fmt: skip


def technical_rows(group: Group, where: Whereabouts, interval_s: int) -> list[dict[str, object]]:
    """Rows of `technical` of a feeder: its own, where all its transformers have meters, and its transformers'. Energies are those of the slots that
    were fitted."""
    per_hour = 3600 / interval_s
    at, astray = _placed(group, where)
    own = group.span.wh[:, group.members]
    silent = (own != MISSING).mean(axis=0) < SILENT
    taken = _filled(own, group.span.slots_per_day)
    _as_neighbours(taken, at, silent)
    unsure_wh2 = np.zeros(group.dts.size)
    np.add.at(unsure_wh2, at[at >= 0], ((PASSES * taken.sum(axis=0)) ** 2 * np.where(silent, 1.0, astray * (1 - astray)))[at >= 0])
    into = np.where(group.into_wh != MISSING64, group.into_wh, np.nan)
    below, squares = np.zeros((2, *into.shape))
    np.add.at(below.T, at[at >= 0], taken.T[at >= 0])
    np.add.at(squares.T, at[at >= 0], (taken.T[at >= 0] * per_hour) ** 2)
    unsure = NORMAL_90 * np.sqrt(unsure_wh2)
    rows = [
        _row(
            group, str(Level.TRANSFORMER), group.name(k), into[:, k] * per_hour, below[:, k] * per_hour, squares[:, k], interval_s, 0.0,
            float(unsure[k]),
        )
        for k in range(group.dts.size)
    ]  # fmt: skip
    index = group.span.index
    heads = np.flatnonzero(index.is_feeder & (index.feeder == index.feeders.index(group.feeder)))
    if heads.size == 1 and (group.own >= 0).all():
        head = group.span.wh[:, heads[0]]
        head_w = np.where(head != MISSING, head, np.nan) * per_hour
        into_w = into * per_hour
        rows.append(
            _row(group, str(Level.FEEDER), group.feeder, head_w, into_w.sum(axis=1), (into_w**2).sum(axis=1), interval_s, None, 0.0)
        )
    return [row for row in rows if row is not None]


def _row(
    group: Group, level: str, node: str, in_w: np.ndarray, out_w: np.ndarray, squares_w2: np.ndarray, interval_s: int, no_load_w: float | None,
    unsure_wh: float,
) -> dict[str, object] | None:  # fmt: skip
    found = fit(in_w, in_w - out_w, interval_s, out_w, no_load_w, squares_w2)
    if found is None:
        return None
    fitted = np.isfinite(in_w) & np.isfinite(out_w)
    in_wh = float(in_w[fitted].sum()) * interval_s / 3600
    below, above = (np.hypot(end - found.technical_wh, unsure_wh) for end in (found.technical_low_wh, found.technical_high_wh))
    low, high = max(found.technical_wh - below, 0.0), found.technical_wh + above
    most = WIRES_MAX * in_wh if level == str(Level.TRANSFORMER) else np.inf
    if np.isfinite(most) and not 0 < found.technical_wh <= most:
        low, high = 0.0, most
    return {
        "level": level, "node": node, "feeder": group.feeder, "in_wh": in_wh,
        "technical_wh": min(found.technical_wh, most), "low_wh": low, "high_wh": min(high, most),
        "no_load_w": found.no_load_w, "square_per_w": found.square_per_w, "slots": found.slots, "days": group.span.days,
    }  # fmt: skip


def _placed(group: Group, where: Whereabouts) -> tuple[Int32, np.ndarray]:
    """Where each member most probably hangs among the transformers, and the probability that it hangs elsewhere, float64 [member]."""
    at, astray = group.at.copy(), where.doubts.astype(np.float64)
    for p in where.proposals:
        at[p.meter], astray[p.meter] = p.to, 1 - p.confidence
    return at, astray


def _as_neighbours(taken: np.ndarray, at: Int32, silent: Bool) -> None:
    """Puts the mean of a transformer's other members in for the silent ones (in place)."""
    for k in np.unique(at[silent & (at >= 0)]).tolist():
        told = (at == k) & ~silent
        if told.any():
            taken[:, (at == k) & silent] = taken[:, told].mean(axis=1, keepdims=True)


def _filled(wh: Int32, per_day: int) -> np.ndarray:
    """[slot, meter] with gaps at the meter's own mean of that slot of the day; 0 for a meter that told nothing."""
    days = wh.reshape(-1, per_day, wh.shape[1])
    there = days != MISSING
    mean = np.where(there, days, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return np.asarray(np.where(there, days, mean[None, :, :]).reshape(wh.shape))
