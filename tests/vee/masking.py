"""How good the estimates are: hide sound readings of the shipped households and compare.

`python -m tests.vee.masking` prints the table of docs/vee.md.

Days 21..48 of households without a documented defect; the like days are the same weekday of the three weeks before.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import numpy as np

from openami import vee
from openami.fleet.households import load_households
from openami.readings import MISSING
from openami.vee.estimate import like_day

DEFECTIVE = (9717902, 3487292, 5069667, 5219426, 5781866, 7761776, 9635190)
SHARE = 0.05
FIRST_DAY, LAST_DAY = 21, 49


@lru_cache(maxsize=1)
def households() -> tuple[np.ndarray, np.ndarray]:
    """ids [household] and readings [day, slot, household]."""
    shipped = load_households()
    return shipped.ids, np.ascontiguousarray(shipped.metered_wh.transpose(1, 2, 0))


def sound_days() -> np.ndarray:
    """int32 [day, slot, household] without the defective households."""
    ids, days = households()
    return np.ascontiguousarray(days[:, :, ~np.isin(ids, DEFECTIVE)])


def hidden(rng: np.random.Generator, shape: tuple[int, ...], block: int) -> np.ndarray:
    """bool [slot, meter], SHARE of it True, in blocks of `block` slots."""
    slots, meters = shape
    starts = rng.random((slots, meters)) < SHARE / block
    mask = np.zeros((slots, meters), np.bool_)
    for k in range(block):
        mask[k:] |= starts[: slots - k]
    return mask


def carried_forward(values: np.ndarray) -> np.ndarray:
    """The naive estimate: the last reading that came (the first one, before any came)."""
    out = values.copy()
    for t in range(1, len(out)):
        out[t] = np.where(out[t] == MISSING, out[t - 1], out[t])
    for t in range(len(out) - 2, -1, -1):
        out[t] = np.where(out[t] == MISSING, out[t + 1], out[t])
    return np.where(out == MISSING, 0, out)


def score(block: int, seed: int = 1) -> dict[str, tuple[float, float]]:
    """Per method: mean absolute error of a hidden reading [Wh], and energy bias [share of the hidden energy]. `block` in slots."""
    days = sound_days()
    meters = days.shape[2]
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    limits = vee.meter_limits(rules, np.zeros(meters, np.int64), 15)
    rng = np.random.default_rng(seed)
    errors: dict[str, list[np.ndarray]] = {}
    truth: list[np.ndarray] = []
    for d in range(FIRST_DAY, LAST_DAY):
        mask = hidden(rng, days[d].shape, block)
        raw = np.where(mask, MISSING, days[d]).astype(np.int32)
        like = like_day(days[[d - 7, d - 14, d - 21]])
        register = days[d].sum(axis=0, dtype=np.int64)
        methods = {
            "carry forward": carried_forward(raw),
            "vee without register": vee.run(raw, limits, like_day=like).validated,
            "vee scaled to register": vee.run(raw, limits, like_day=like, register_wh=register).validated,
            "like day alone": np.where(mask, like, raw),
        }
        truth.append(days[d][mask])
        for name, values in methods.items():
            errors.setdefault(name, []).append(values[mask].astype(np.int64) - days[d][mask])
    energy = float(np.concatenate(truth).sum())
    joined = {name: np.concatenate(parts) for name, parts in errors.items()}
    return {name: (float(np.abs(e).mean()), float(e.sum()) / energy) for name, e in joined.items()}


def main() -> None:
    for block, name in ((1, "single readings"), (8, "2-hour blocks"), (24, "6-hour blocks"), (96, "whole days")):
        for method, (mae, bias) in score(block).items():
            print(f"| {name} | {method} | {mae:.1f} | {100 * bias:+.2f} % |")


if __name__ == "__main__":
    main()
