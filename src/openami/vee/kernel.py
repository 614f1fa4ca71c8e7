"""The whole rule set in one pass over a day block, fused for speed. `run` is what the day calls.

In: raw values int32 [slot, meter], the meters' limits, and whatever else is known (all optional). Out: `VeeResult`.
The loops (`blocks.py`) are compiled, release the GIL and write into no argument. No step looks at another meter, so the result does not
depend on where the meters are cut.
The checks are those of `checks.py`, the estimates those of `estimate.py`; tests/vee holds the plain-loop twins that must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..readings import Bool, Int32, Int64, Quality, UInt32
from .blocks import estimate_blocks, run_blocks, validate_blocks
from .rules import MeterLimits, Row

_CODES: tuple[Quality, ...] = tuple(q for q in Quality if q)


@dataclass(frozen=True, slots=True)
class VeeResult:
    """One day block after VEE.

    validated: int32 [slot, meter], MISSING where there is neither a usable value nor an estimate; quality: uint32, `Quality` bits, same shape;
    unfilled: int32 [meter], how many slots stayed MISSING; counts: how many readings carry each bit (bits that none carries are there with 0).
    """

    validated: Int32
    quality: UInt32
    unfilled: Int32
    counts: dict[Quality, int]


def run(
    values: Int32,
    limits: MeterLimits,
    *,
    conflict: Bool | None = None,
    outage: Bool | None = None,
    inactive: Bool | None = None,
    edited: Bool | None = None,
    voltage_cv: Int32 | None = None,
    export_wh: Int32 | None = None,
    drift_s: Int32 | None = None,
    exchange_slot: Int32 | None = None,
    like_day: Int32 | None = None,
    class_profile: Int32 | None = None,
    register_wh: Int64 | None = None,
    usual_wh: Int64 | None = None,
    into: tuple[Int32, UInt32] | None = None,
) -> VeeResult:
    """Validate, estimate and validate again one day of one energy channel [Wh]. What is None is not known, and what needs it is not judged.

    values: int32 [slot, meter], MISSING = nothing came; limits: from `meter_limits`, same meters, same interval.
    bool [slot, meter]: conflict = two different values came for it; outage = no supply (a missing reading is then 0, not missing);
      inactive = the meter stood disconnected; edited = the value is a person's and is never replaced.
    int32 [slot, meter], MISSING where none: voltage_cv [0.01 V], export_wh, like_day (`estimate.like_day` of the days handed in).
    [meter]: drift_s int32 [s]; exchange_slot int32, -1 = none; register_wh int64, the register's difference over the day, MISSING64 = none;
      usual_wh int64, the usual energy of such a day (`checks.usual_day`), MISSING64 = none.
    class_profile: int32 [slot, rule set], the average consumer of each of the rule sets given to `meter_limits`, MISSING where none.
    into: arrays of the shape of `values` to put `validated` and `quality` into, for whoever has them at hand; None = fresh ones.
    InputError names an array of another shape or kind."""
    given = _Given(values, limits, conflict, outage, inactive, edited, voltage_cv, export_wh, drift_s, exchange_slot)
    known = _Known(values, limits, like_day, class_profile, register_wh, usual_wh)
    validated, quality, unfilled, counts = _outputs(values, into)
    run_blocks(given.values, limits.table, *given.rest, *known.rest, validated, quality, unfilled, counts)
    return _result(validated, quality, unfilled, counts)


def validate(
    values: Int32,
    limits: MeterLimits,
    *,
    conflict: Bool | None = None,
    outage: Bool | None = None,
    inactive: Bool | None = None,
    edited: Bool | None = None,
    voltage_cv: Int32 | None = None,
    export_wh: Int32 | None = None,
    drift_s: Int32 | None = None,
    exchange_slot: Int32 | None = None,
) -> UInt32:
    """The checks that judge single readings and runs, without estimating: uint32 `Quality` bits [slot, meter]. Arguments as for `run`."""
    given = _Given(values, limits, conflict, outage, inactive, edited, voltage_cv, export_wh, drift_s, exchange_slot)
    quality = np.empty(values.shape, np.uint32)
    validate_blocks(given.values, limits.table, *given.rest, quality)
    return quality


def estimate(
    values: Int32,
    quality: UInt32,
    limits: MeterLimits,
    *,
    like_day: Int32 | None = None,
    class_profile: Int32 | None = None,
    register_wh: Int64 | None = None,
    usual_wh: Int64 | None = None,
) -> VeeResult:
    """Fill what `quality` rules out, scale to the register, and judge the finished day (sum, high/low). Arguments as for `run`;
    `estimate(values, validate(values, ...), ...)` is `run(values, ...)`."""
    known = _Known(values, limits, like_day, class_profile, register_wh, usual_wh)
    _shape("quality", quality, values.shape, np.uint32)
    validated, out, unfilled, counts = _outputs(values, None)
    estimate_blocks(
        np.ascontiguousarray(values), np.ascontiguousarray(quality), limits.table, *known.rest, validated, out, unfilled, counts
    )
    return _result(validated, out, unfilled, counts)


def _outputs(values: Int32, into: tuple[Int32, UInt32] | None) -> tuple[Int32, UInt32, Int32, Int64]:
    validated, quality = into or (np.empty(values.shape, np.int32), np.empty(values.shape, np.uint32))
    _shape("into, validated", validated, values.shape, np.int32)
    _shape("into, quality", quality, values.shape, np.uint32)
    return validated, quality, np.zeros(values.shape[1], np.int32), np.zeros(32, np.int64)


def _result(validated: Int32, quality: UInt32, unfilled: Int32, counts: Int64) -> VeeResult:
    return VeeResult(validated, quality, unfilled, {q: int(counts[int(q).bit_length() - 1]) for q in _CODES})


class _Given:
    """The arguments of the checks, each proven to fit, the absent ones as empty arrays."""

    def __init__(
        self,
        values: Int32,
        limits: MeterLimits,
        conflict: Bool | None,
        outage: Bool | None,
        inactive: Bool | None,
        edited: Bool | None,
        voltage_cv: Int32 | None,
        export_wh: Int32 | None,
        drift_s: Int32 | None,
        exchange_slot: Int32 | None,
    ) -> None:
        _fits(values, limits)
        grid, row = values.shape, values.shape[1:]
        self.values = np.ascontiguousarray(values)
        self.rest = (
            _optional("conflict", conflict, grid, np.bool_),
            _optional("outage", outage, grid, np.bool_),
            _optional("inactive", inactive, grid, np.bool_),
            _optional("edited", edited, grid, np.bool_),
            _optional("voltage_cv", voltage_cv, grid, np.int32),
            _optional("export_wh", export_wh, grid, np.int32),
            _optional("drift_s", drift_s, row, np.int32),
            _optional("exchange_slot", exchange_slot, row, np.int32),
        )


class _Known:
    """The arguments of the estimates, likewise."""

    def __init__(
        self, values: Int32, limits: MeterLimits, like: Int32 | None, profile: Int32 | None, register: Int64 | None, usual: Int64 | None
    ) -> None:
        _fits(values, limits)
        sets = int(limits.table[Row.RULE_SET].max()) + 1 if limits.meters else 1
        if profile is not None and profile.shape[1] < sets:
            raise InputError(f"class_profile has {profile.shape[1]} profiles, the meters use {sets} rule sets; give a profile for each")
        shape = (values.shape[0], sets if profile is None else profile.shape[1])
        self.rest = (
            _optional("like_day", like, values.shape, np.int32),
            _optional("class_profile", profile, shape, np.int32),
            _optional("register_wh", register, values.shape[1:], np.int64),
            _optional("usual_wh", usual, values.shape[1:], np.int64),
        )


def _fits(values: Int32, limits: MeterLimits) -> None:
    if values.ndim != 2 or values.dtype != np.int32:
        raise InputError(f"values must be int32 [slot, meter], got {values.dtype} with {values.ndim} dimensions")
    if values.shape[1] != limits.meters:
        raise InputError(
            f"values have {values.shape[1]} meters, their limits are for {limits.meters}; build the limits from the same shard index"
        )


def _shape(name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise InputError(f"{name} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} of shape {array.shape}")


def _optional(name: str, array: npt.NDArray[np.generic] | None, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    if array is None:
        return np.empty((0,) * len(shape), dtype)
    _shape(name, array, shape, dtype)
    return np.ascontiguousarray(array)
