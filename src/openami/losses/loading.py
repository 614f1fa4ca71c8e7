"""How a transformer fares: loading against rating, heat and ageing, unbalance, power factor, voltage, and what it could still carry.

In: a transformer's own readings [slot, node] and its rating. Out: arrays [node]. NaN where the rating or the readings are not known.

The thermal constants and the voltage limits are configuration with a source; those marked `verify` in the docstrings were not checked against the
standard's own text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..readings import MISSING, MISSING64, Int32, Int64
from .network import Float64


@dataclass(frozen=True, slots=True)
class Thermal:
    """An oil-immersed distribution transformer, ONAN (IEC 60076-7, table 4, as remembered: verify). top_oil_k and hot_spot_k: rises at rated load
    [K]; loss_ratio: load loss / no-load loss at rated load; oil_x, winding_y: exponents; oil_minutes: time constant of the oil."""

    top_oil_k: float = 55.0
    hot_spot_k: float = 23.0
    loss_ratio: float = 5.0
    oil_x: float = 0.8
    winding_y: float = 1.6
    oil_minutes: float = 180.0


@dataclass(frozen=True, slots=True)
class Loading:
    """All float64 [node], NaN where unknown. peak_share, mean_share: of the rating; over_hours: hours above it; hot_spot_c: highest temperature of
    the winding; ageing: mean rate of ageing, 1 = normal (98 degrees); power_factor: active / apparent energy; coverage: share of slots known."""

    peak_share: Float64
    mean_share: Float64
    over_hours: Float64
    hot_spot_c: Float64
    ageing: Float64
    power_factor: Float64
    coverage: Float64


def loading(
    wh: Int64, vah: Int64, rating_kva: Float64, interval_s: int, ambient_c: Float64 | None = None, thermal: Thermal | None = None
) -> Loading:
    """wh, vah: int64 [slot, node], MISSING64 where unknown; rating_kva: [node], NaN = unknown; ambient_c: [slot], the air (None: no temperatures are
    told). RequestError where they do not fit."""
    if wh.shape != vah.shape or wh.shape[1:] != rating_kva.shape or (ambient_c is not None and ambient_c.shape != wh.shape[:1]):
        raise RequestError(f"Wh {wh.shape}, VAh {vah.shape}, ratings {rating_kva.shape}: give [slot, node] twice and [node]")
    hours = interval_s / 3600
    known = (vah != MISSING64) & (wh != MISSING64)
    share = np.where(known, vah / hours / 1e3, np.nan) / rating_kva[None, :]
    some = np.isfinite(share).any(axis=0)

    def over(reduce, values: Float64) -> Float64:  # type: ignore[no-untyped-def]
        return np.array([reduce(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in values.T])

    hot = _hot_spot(share, ambient_c, interval_s, thermal or Thermal()) if ambient_c is not None else np.full(share.shape, np.nan)
    total_wh, total_vah = (np.where(known, each, 0).sum(axis=0) for each in (wh, vah))
    return Loading(
        peak_share=over(np.max, share),
        mean_share=over(np.mean, share),
        over_hours=np.where(some, (np.nan_to_num(share) > 1).sum(axis=0) * hours, np.nan),
        hot_spot_c=over(np.max, hot),
        ageing=over(np.mean, 2 ** ((hot - 98) / 6)),  # IEC 60076-7, non-upgraded paper
        power_factor=np.where(total_vah > 0, total_wh / np.maximum(total_vah, 1), np.nan),
        coverage=known.mean(axis=0) if len(known) else np.zeros(rating_kva.size),
    )


def unbalance(phase_wh: Int64) -> Float64:
    """Largest deviation of a phase from the three's mean, as a share of the mean, [slot, node], from phase_wh int64 [slot, node, 3]; NaN where a
    phase is unknown or nothing flows (NEMA MG 1's definition, on energy)."""
    known = (phase_wh != MISSING64).all(axis=2)
    values = np.where(known[:, :, None], phase_wh, 0).astype(np.float64)
    mean = values.mean(axis=2)
    worst = np.abs(values - mean[:, :, None]).max(axis=2)
    return np.where(known & (mean > 0), worst / np.maximum(mean, 1e-9), np.nan)


def outside_limits(volts: Int32, nominal_v: float, below: float = 0.06, above: float = 0.06) -> tuple[Float64, Float64]:
    """Share of each meter's known slots below and above the limits, [meter]; volts: int32 [slot, meter] in 0.01 V. Defaults: 6 % either way at low
    voltage (Indian supply codes; verify)."""
    known = volts != MISSING
    count = np.maximum(known.sum(axis=0), 1)
    v = volts * 0.01
    low, high = (known & (v < nominal_v * (1 - below))).sum(axis=0) / count, (known & (v > nominal_v * (1 + above))).sum(axis=0) / count
    any_known = known.any(axis=0)
    return np.where(any_known, low, np.nan), np.where(any_known, high, np.nan)


@dataclass(frozen=True, slots=True)
class Headroom:
    """[node], kW: solar_kw of rooftop power that could be added before reverse flow at the sunniest slots reaches the rating; vehicle_kw of charging
    that could be added at night; day_kw at the peak. Never below 0."""

    solar_kw: Float64
    vehicle_kw: Float64
    day_kw: Float64


def headroom(wh: Int64, rating_kva: Float64, slots_per_day: int, power_factor: float = 0.95) -> Headroom:
    """wh: int64 [slot, node], whole days, negative where energy flows back. Sunny slots: 10 to 15 h, the lowest twentieth of demand; night: 22 to
    5 h, the highest twentieth; the peak: the highest hundredth. NaN without a rating or readings."""
    kw = np.where(wh != MISSING64, wh * (slots_per_day / 24) / 1e3, np.nan).reshape(-1, slots_per_day, wh.shape[1])
    hour = np.arange(slots_per_day) * 24 / slots_per_day
    able = rating_kva * power_factor

    def level(chosen, q: float) -> Float64:  # type: ignore[no-untyped-def]
        some = kw[:, chosen].reshape(-1, kw.shape[2])
        return np.array([np.quantile(c[np.isfinite(c)], q) if np.isfinite(c).any() else np.nan for c in some.T])

    sunny, night, all_day = (hour >= 10) & (hour < 15), (hour >= 22) | (hour < 5), hour >= 0
    return Headroom(*(np.maximum(each, 0) for each in (able + level(sunny, 0.05), able - level(night, 0.95), able - level(all_day, 0.99))))


def peak_shares(wh: Int32, category: Int32, categories: int, peaks: int = 10) -> Float64:
    """Each consumer category's share of the energy at the `peaks` highest slots of a node, [category], from its consumers' wh int32 [slot, meter];
    category: int32 [meter]. NaN where nothing flows."""
    there = np.where(wh != MISSING, wh, 0).astype(np.int64)
    highest = np.argsort(-there.sum(axis=1), kind="stable")[:peaks]
    by = np.bincount(category, there[highest].sum(axis=0), categories)
    return by / by.sum() if by.sum() > 0 else np.full(categories, np.nan)


def _hot_spot(share: Float64, ambient_c: Float64, interval_s: int, t: Thermal) -> Float64:
    """Winding's hottest spot [slot, node]: the oil follows its load with its time constant, the winding at once; a gap keeps the oil as it was."""
    rise = t.top_oil_k * ((1 + t.loss_ratio * share**2) / (1 + t.loss_ratio)) ** t.oil_x
    keep = np.exp(-interval_s / 60 / t.oil_minutes)
    oil = np.nan_to_num(rise[0]) if len(rise) else np.zeros(share.shape[1])
    hot = np.full(share.shape, np.nan)
    for slot in range(len(share)):
        oil = np.where(np.isfinite(rise[slot]), keep * oil + (1 - keep) * np.nan_to_num(rise[slot]), oil)
        hot[slot] = ambient_c[slot] + oil + t.hot_spot_k * share[slot] ** t.winding_y
    return hot
