"""What can be said of each consumer's readings and of how they go with the loss of its transformer: one row of numbers per meter.

In: half-hours (or quarter-hours) of whole transformers over weeks, [slot, meter], and what each transformer's own meter saw. Out: float32
[meter, feature] in the order of `NAMES`, NaN = cannot be told (a tree model takes it as such, an evidence counts nothing).

Nothing personal goes in: no name, tariff, caste, income, place or payment; only readings, network and the meter's own events. What is compared with
neighbours is compared by the shape of the day and by size, never by who they are.

Chunks hold whole transformers, so that where the work is cut does not change a number (except `profile`, which the caller gives).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ..errors import RequestError
from ..readings import MISSING, MISSING64, Int32, Int64
from .metered import Float32
from .network import Float64

NAMES = (
    "node_excess", "joint_slope", "joint_t", "idle_share", "idle_excess", "idle_t", "drop", "drop_t", "drop_matched", "night", "lag1", "variation",
    "shape", "repeated", "size", "roughness", "regularity", "tamper", "volt_drop", "doubt",
    "missing",
)  # fmt: skip
COLUMN = {name: k for k, name in enumerate(NAMES)}
IDLE_HOURS = 4
RIDGE = 0.02
ROWS_MIN = 96
WIRES_MAX = 0.06
"""More than this share of the energy no low-voltage network's wires are taken to lose: what is beyond is unexplained."""
SURE_T = 4.0
"""What goes with the loss this surely explains its part of it: among a hundred neighbours chance alone hardly does."""
_NONE = np.int32(MISSING)


@dataclass(frozen=True, slots=True)
class Watched:
    """One chunk: wh: int32 [slot, meter], whole days; node: int32 [meter], the transformer in this chunk, -1 = none; into_wh: int64 [slot, node],
    its own meter, MISSING64 where it has none or was silent. tamper: events of each meter (or None); volt_drop: `drop_per_amp` against its
    neighbours (or None); doubt: probability that it hangs elsewhere (or None)."""

    wh: Int32
    node: Int32
    into_wh: Int64
    slots_per_day: int
    tamper: Float32 | None = None
    volt_drop: Float32 | None = None
    doubt: Float32 | None = None

    def __post_init__(self) -> None:
        slots, meters = self.wh.shape
        if (
            slots % self.slots_per_day
            or self.node.shape != (meters,)
            or len(self.into_wh) != slots
            or int(self.node.max(initial=-1)) >= self.into_wh.shape[1]
        ):
            raise RequestError(
                f"readings {self.wh.shape}, nodes {self.node.shape}, their meters {self.into_wh.shape}: give whole days of the same slots"
            )


@dataclass(frozen=True, slots=True)
class Features:
    """values: float32 [meter, feature]; mean_wh: float32 [meter], mean reading per slot (NaN without any); stolen_wh: float32 [meter], what might
    be missing per day if the evidence is right [Wh], 0 where none speaks; missing_wh: float32 [meter], what its transformer misses per day beyond its
    wires, the most that it can take [Wh]; NaN where the transformer has no meter. The feature `missing` is the share of what came in that no
    neighbour's curve explains; where a member told nothing at all, all that is missing may be its own."""

    values: Float32
    mean_wh: Float32
    stolen_wh: Float32
    missing_wh: Float32
    slots_per_day: int = 48


def features(watched: Watched, profile: Float64) -> Features:
    """All features of a chunk. profile: float64 [slot of day], the average consumer's day [Wh]."""
    slots, meters = watched.wh.shape
    per_day = watched.slots_per_day
    days = slots // per_day
    rows = _by_meter(watched.wh)
    values = np.full((meters, len(NAMES)), np.nan, np.float32)
    daily, filled = np.full((meters, days), np.nan, np.float32), np.zeros((meters, slots), np.float32)
    own = np.full((meters, 9), np.nan, np.float32)
    idle = np.zeros((meters, slots), np.bool_)
    _own_habits(rows, per_day, per_day * IDLE_HOURS // 24, profile, own, daily, filled, idle)
    for name, k in (
        ("night", 0),
        ("lag1", 1),
        ("variation", 2),
        ("shape", 3),
        ("repeated", 4),
        ("roughness", 5),
        ("regularity", 6),
        ("idle_share", 7),
    ):
        values[:, COLUMN[name]] = own[:, k]
    mean = own[:, 8]
    relative = daily / np.maximum(np.nanmean(daily, axis=0, keepdims=True), 1e-6) if meters else daily
    split, drop, drop_t = _drops(relative.astype(np.float32))
    values[:, COLUMN["drop"]], values[:, COLUMN["drop_t"]] = drop, drop_t
    values[:, COLUMN["size"]] = np.log((mean + 1) / (_median_of(mean, watched.node) + 1))
    stolen, missing = np.zeros(meters, np.float32), np.full(meters, np.nan, np.float32)
    for node in range(watched.into_wh.shape[1]):
        members = np.flatnonzero(watched.node == node)
        if members.size:
            _with_the_loss(watched, node, members, filled, idle, daily, split, values, stolen, missing)
    fallen = np.nan_to_num(daily.mean(axis=1)) * np.maximum(np.exp(-np.minimum(np.nan_to_num(drop), 0)) - 1, 0)
    unmetered = np.isnan(values[:, COLUMN["node_excess"]])
    stolen = np.where(unmetered & (np.nan_to_num(drop_t) < -4), fallen, stolen).astype(np.float32)
    for name, given in (("tamper", watched.tamper), ("volt_drop", watched.volt_drop), ("doubt", watched.doubt)):
        if given is not None:
            values[:, COLUMN[name]] = given
    return Features(values, mean, stolen, missing, per_day)


def drop_per_amp(volts: Int32, amps: Int32, node_volts: Int32) -> Float64:
    """Volts lost per ampere registered between the transformer and each home [meter], from steps of both; NaN where too little moves.

    volts: int32 [slot, meter] (0.01 V), amps: int32 [slot, meter] (0.001 A), node_volts: int32 [slot, meter], the transformer's phase of each. A
    meter that registers half the current seems to stand at the end of twice the wire: compare with neighbours on the same pole.
    """
    there = (volts != MISSING) & (amps != MISSING) & (node_volts != MISSING)
    both = there[1:] & there[:-1]
    drop = (node_volts.astype(np.float64) - volts) * 0.01
    ampere = amps * 1e-3
    dv, di = np.where(both, np.diff(drop, axis=0), 0.0), np.where(both, np.diff(ampere, axis=0), 0.0)
    power = (di**2).sum(axis=0)
    slope: Float64 = np.where((power > 1.0) & (both.sum(axis=0) >= ROWS_MIN), (dv * di).sum(axis=0) / np.maximum(power, 1e-9), np.nan)
    return slope


def _median_of(mean: Float32, node: Int32) -> Float32:
    """The middle consumer's mean of each meter's transformer."""
    middle = np.full(mean.size, np.nanmedian(mean) if np.isfinite(mean).any() else 0.0, np.float32)
    for each in np.unique(node[node >= 0]):
        own = node == each
        if np.isfinite(mean[own]).sum() >= 3:
            middle[own] = np.nanmedian(mean[own])
    return middle


def _with_the_loss(  # type: ignore[no-untyped-def]
    watched: Watched, node: int, members: Int64, filled: Float32, idle, daily: Float32, split: Int32, values: Float32, stolen: Float32,
    missing: Float32,
) -> None:  # fmt: skip
    """Features against the transformer's loss, written into `values`, `stolen` and `missing`."""
    into = watched.into_wh[:, node]
    known = into != MISSING64
    if known.sum() < ROWS_MIN:
        return
    x = filled[members].T.astype(np.float64)
    entered = np.where(known, into, 0).astype(np.float64)
    silent = _of_the_silent(x, values[members, COLUMN["variation"]])
    loss = np.where(known, entered - x.sum(axis=1) - silent, 0.0)
    slope, error, square = _joint(x, loss, entered, known)
    technical = np.where(known, square * entered**2, 0.0)  # the meter sits on the low-voltage side: no iron
    excess = np.where(known, loss - technical, 0.0)
    total = max(float(entered.sum()), 1.0)
    values[members, COLUMN["node_excess"]] = excess.sum() / total
    values[members, COLUMN["joint_slope"]] = np.clip(slope, -2, 10)
    values[members, COLUMN["joint_t"]] = np.clip(slope / np.maximum(error, 1e-9), -50, 50)
    left = excess - x @ np.clip(slope, 0, 10)
    idle_excess, idle_t = _idle(idle[members], left, known, values[members, COLUMN["idle_share"]])
    mean = np.maximum(x.mean(axis=0), 1.0)
    values[members, COLUMN["idle_excess"]], values[members, COLUMN["idle_t"]] = np.clip(idle_excess / mean, -5, 20), idle_t
    per_day = watched.slots_per_day
    daily_excess = np.where(known, loss - technical, np.nan).reshape(-1, per_day).mean(axis=1) * per_day
    fallen, matched = _matched(daily[members], daily_excess, split[members])
    values[members, COLUMN["drop_matched"]] = matched
    by_slope = np.where(values[members, COLUMN["joint_t"]] > 3, np.clip(slope, 0, 5) * mean * per_day, 0.0)
    by_idle = np.where(idle_t > 3, np.maximum(idle_excess, 0) * np.nan_to_num(values[members, COLUMN["idle_share"]]) * per_day, 0.0)
    by_drop = np.where((values[members, COLUMN["drop_t"]] < -4) & (matched > 0.3), fallen, 0.0)
    a_day = float(excess.sum()) / (known.sum() / per_day)
    stolen[members] = np.minimum(np.maximum.reduce([by_slope, by_idle, by_drop]), max(a_day, 0.0))
    explained = np.where(values[members, COLUMN["joint_t"]] > SURE_T, by_slope, np.where(idle_t > SURE_T, by_idle, 0.0))
    missing[members] = a_day
    accusing = 0.0 if silent.any() else a_day  # who told nothing may have used ten times what its neighbours do
    values[members, COLUMN["missing"]] = (accusing - (explained.sum() - explained)) * (known.sum() / per_day) / total


def _of_the_silent(x: Float64, variation: Float32) -> Float64:
    """What members that told nothing at all are taken to use, each as the mean of the others, [slot]: a silent meter makes no neighbour a thief."""
    heard = np.isfinite(variation)
    if heard.all() or not heard.any():
        return np.zeros(len(x))
    return np.asarray(x[:, heard].mean(axis=1) * np.count_nonzero(~heard))


def _joint(x: Float64, loss: Float64, entered: Float64, known) -> tuple[Float64, Float64, float]:  # type: ignore[no-untyped-def]
    """All members of a transformer explain its loss together, in steps, after the square law of its wires: slopes and standard errors [member],
    and the square law's coefficient [1 / Wh]. A little ridge keeps homes that move alike apart."""
    ok = known[1:] & known[:-1]
    dx, dy, dq = np.diff(x, axis=0)[ok], np.diff(loss)[ok], np.diff(entered**2)[ok]
    if len(dy) < ROWS_MIN:
        return np.zeros(x.shape[1]), np.full(x.shape[1], np.inf), 0.0
    cut = 6 * max(float(np.median(np.abs(dy))) * 1.4826, 1.0)
    clipped = np.clip(dy, -cut, cut)
    square = _square_law(dq, dx.sum(axis=1), clipped, entered[known])
    scale = np.maximum(np.sqrt((dx**2).mean(axis=0)), 1e-6)
    design = (dx / scale).astype(np.float32)
    gram = (design.T @ design).astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE * len(dy)
    inverse = np.linalg.inv(gram)
    rest = (clipped - square * dq).astype(np.float32)
    found = inverse @ (design.T @ rest).astype(np.float64)
    spread2 = float(((rest - design @ found) ** 2).mean()) * len(dy) / max(len(dy) - len(found), 1)
    error = np.sqrt(np.maximum(np.diag(inverse), 0) * spread2)
    return found / scale, error / scale, square


def _square_law(dq: Float64, taken: Float64, lost: Float64, entered: Float64) -> float:
    """The wires' coefficient beside what is lost evenly with the load, from steps; never negative, never more than `WIRES_MAX` of what came in."""
    from scipy.optimize import nnls

    size = np.array([max(float(np.sqrt((each**2).mean())), 1e-9) for each in (dq, taken)])
    found, _ = nnls(np.stack([dq, taken], axis=1) / size, lost)
    most = WIRES_MAX * float(entered.mean()) / max(float((entered**2).mean()), 1e-9)
    return float(min(found[0] / size[0], most))


def _idle(idle, left: Float64, known, share: Float32) -> tuple[Float64, Float64]:  # type: ignore[no-untyped-def]
    """By how much more is lost [Wh per slot] while a member stands still for hours, and its t value; 0 where it does not, or always."""
    excess, t = np.zeros(len(idle)), np.zeros(len(idle))
    judged = np.flatnonzero((share > 0.03) & (share < 0.95))
    if not judged.size:
        return excess, t
    z = idle[judged][:, known].T.astype(np.float64)
    y = left[known] - left[known].mean()
    z -= z.mean(axis=0)
    gram = z.T @ z + np.eye(judged.size) * RIDGE * len(y)
    inverse = np.linalg.inv(gram)
    found = inverse @ (z.T @ y)
    spread2 = float(((y - z @ found) ** 2).mean())
    follows = 8.0  # neighbouring slots say nearly the same: errors are this much wider in the square
    error = np.sqrt(np.maximum(np.diag(inverse), 1e-12) * spread2 * follows)
    excess[judged], t[judged] = found, np.clip(found / np.maximum(error, 1e-9), -50, 50)
    return excess, t


def _matched(daily: Float32, excess: Float64, split: Int32) -> tuple[Float64, Float64]:
    """By how much a member's day fell at its split [Wh], and the share of it by which the transformer's unexplained loss rose then, -2..2."""
    fallen, share = np.zeros(len(daily)), np.zeros(len(daily))
    _match(daily, excess, split, fallen, share)
    return fallen, share


def _drops(relative: Float32) -> tuple[Int32, Float32, Float32]:
    """The day at which each meter's share of the town's day changes most: split (0 = none), log ratio after / before, t value. [meter]"""
    meters, days = relative.shape
    split, drop, t = np.zeros(meters, np.int32), np.full(meters, np.nan, np.float32), np.full(meters, np.nan, np.float32)
    if days >= 14:
        _find_drops(relative, 5, split, drop, t)
    return split, drop, t


@njit(nogil=True, cache=True, error_model="numpy")
def _find_drops(relative, edge, split, drop, t):  # type: ignore[no-untyped-def]
    meters, days = relative.shape
    for m in range(meters):
        count, total, square = 0, 0.0, 0.0
        for d in range(days):
            v = relative[m, d]
            if not np.isnan(v):
                count += 1
                total += v
                square += v * v
        if count < 14 or total <= 0:
            continue
        n, before, before2, best = 0, 0.0, 0.0, 0.0
        for d in range(days - 1):
            v = relative[m, d]
            if np.isnan(v):
                continue
            n += 1
            before += v
            before2 += v * v
            after = count - n
            if n < edge or after < edge:
                continue
            a, b = before / n, (total - before) / after
            within = (before2 - n * a * a) + (square - before2 - after * b * b)
            error = np.sqrt(max(within, 1e-12) / (count - 2) * (1.0 / n + 1.0 / after)) + 1e-6
            z = (b - a) / error
            if abs(z) > abs(best):
                best = z
                split[m] = d + 1
                drop[m] = np.log((b + 1e-3) / (a + 1e-3))
        t[m] = min(max(best, -50.0), 50.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _match(daily, excess, split, fallen, share):  # type: ignore[no-untyped-def]
    days = daily.shape[1]
    for m in range(daily.shape[0]):
        at = split[m]
        if at <= 0:
            continue
        fell = _mean(daily[m], 0, at) - _mean(daily[m], at, days)
        rose = _mean(excess, at, days) - _mean(excess, 0, at)
        if fell > 0:
            fallen[m] = fell
        if fell > 1 and not np.isnan(rose):
            share[m] = min(max(rose / fell, -2.0), 2.0)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _mean(values, first, end):  # type: ignore[no-untyped-def]
    """Mean of the known values of a stretch; NaN where there is none."""
    total, count = 0.0, 0
    for k in range(first, end):
        if not np.isnan(values[k]):
            total += values[k]
            count += 1
    return total / count if count else np.nan


@njit(nogil=True, cache=True)
def _by_meter(wh):  # type: ignore[no-untyped-def]
    """[slot, meter] turned to [meter, slot], in tiles that stay in the cache."""
    slots, meters = wh.shape
    rows = np.empty((meters, slots), np.int32)
    for first in range(0, slots, 64):
        end = min(first + 64, slots)
        for one in range(0, meters, 64):
            for m in range(one, min(one + 64, meters)):
                for t in range(first, end):
                    rows[m, t] = wh[t, m]
    return rows


@njit(nogil=True, cache=True, error_model="numpy")
def _own_habits(rows, per_day, idle_run, profile, own, daily, filled, idle):  # type: ignore[no-untyped-def]
    """Each meter by itself: night, lag1, variation, shape, repeated, roughness, regularity, idle share, mean; its days, its readings with gaps
    filled by its own slot's mean, and where it stands still for hours."""
    meters, slots = rows.shape
    days = slots // per_day
    night_end = per_day * 5 // 24
    slot_sum, slot_count = np.zeros(per_day), np.zeros(per_day)
    p_mean = profile.mean()
    for m in range(meters):
        slot_sum[:], slot_count[:] = 0.0, 0.0
        count, total, square = 0, 0.0, 0.0
        for d in range(days):
            for s in range(per_day):
                v = rows[m, d * per_day + s]
                if v != _NONE:
                    slot_sum[s] += v
                    slot_count[s] += 1
                    count += 1
                    total += v
                    square += np.float64(v) * v
        if count == 0:
            continue
        mean = total / count
        variance = max(square / count - mean * mean, 0.0)
        pairs, product, steps2, same = 0, 0.0, 0.0, 0
        follow, follow_n = 0.0, 0
        run = 0
        s = -1
        for t in range(slots):
            v = rows[m, t]
            s = s + 1 if s + 1 < per_day else 0
            filled[m, t] = v if v != _NONE else (slot_sum[s] / slot_count[s] if slot_count[s] > 0 else mean)
            run = run + 1 if v == 0 else 0
            if run >= idle_run:
                begin = t - run + 1 if run == idle_run else t
                idle[m, begin : t + 1] = True
            if t > 0 and v != _NONE and rows[m, t - 1] != _NONE:
                u = rows[m, t - 1]
                pairs += 1
                product += (v - mean) * (u - mean)
                steps2 += (np.float64(v) - u) ** 2
                if v == u and v != 0:
                    same += 1
            if t >= per_day and v != _NONE and rows[m, t - per_day] != _NONE:
                follow += (v - mean) * (rows[m, t - per_day] - mean)
                follow_n += 1
        night, cross, own2, p2 = 0.0, 0.0, 0.0, 0.0
        for s in range(per_day):
            x = slot_sum[s] / slot_count[s] if slot_count[s] > 0 else mean
            night += x if s < night_end else 0.0
            cross += (x - mean) * (profile[s] - p_mean)
            own2 += (x - mean) ** 2
            p2 += (profile[s] - p_mean) ** 2
        for d in range(days):
            energy = 0.0
            heard = 0
            for t in range(d * per_day, (d + 1) * per_day):
                energy += filled[m, t]
                heard += 1 if rows[m, t] != _NONE else 0
            if 2 * heard >= per_day:
                daily[m, d] = energy
        own[m, 0] = night / max(mean * per_day, 1e-6)
        own[m, 1] = product / max(pairs * variance, 1e-6) if pairs else np.nan
        own[m, 2] = np.sqrt(variance) / max(mean, 1e-6) if mean > 0 else 0.0
        own[m, 3] = cross / max(np.sqrt(own2 * p2), 1e-6)
        own[m, 4] = same / max(pairs, 1)
        own[m, 5] = steps2 / max(pairs * variance, 1e-6) if pairs else np.nan
        own[m, 6] = follow / max(follow_n * variance, 1e-6) if follow_n else np.nan
        own[m, 7] = idle[m].mean()
        own[m, 8] = mean
