"""What meters say over spans of slots, and how far they may be off: what the energy account is made of.

In: validated Wh [slot, meter] with quality. Out: `MeterTotals`, arrays [span, meter]; totals of following days may be added. `Errors` is what is
known of the meters beforehand: their class, their clock, their place; `measured` takes from a day's own readings how well gaps can be filled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from ..errors import RequestError
from ..readings import ESTIMATED_BITS, MISSING, Int32, Int64, UInt32
from .network import Float64

Float32 = npt.NDArray[np.float32]
BLOCK = 512
SETTLED_H = 2.0
"""Hours after which energy put in for what is missing errs by a share 1 / sqrt(2) of what a moment's does: each other two hours err anew. On the
shipped households, a quarter of an hour to five days, the law holds within a tenth (docs/decisions/0029)."""
SIZE_H = 0.8
"""The same for a meter of unknown size: a moment says that much less than a day, however long, of whose size is not known."""
BLOCK_S, BLOCKS_MIN, WHOLE_MIN = 4 * 3600, 3, 30
LIKE_DAY = 0.77
"""The day before tells a gap so much better than the rest of the day does (the shipped households: 0.60 to 0.78)."""
_EST = np.uint32(ESTIMATED_BITS)
_NONE = np.int32(MISSING)


@dataclass(frozen=True, slots=True)
class Errors:
    """How far readings may be off. Arrays float32 [meter]; numbers are shares.

    class_limit: largest error of the meter with its transformers, as a share (class 1 = 0.01); clock_s: standard deviation of the clock's
    offset [s]; step_wh: smallest step of the register; wrong_node: probability that the meter hangs elsewhere than the registry says
    (on another node of the same level below the same parent).
    estimated: relative standard deviation of a moment's energy as estimated; gap: of a moment's missing energy where the meter's own size is known
    from the rest of the span: both fall with the hours that are put in (`SETTLED_H`); unknown: of missing energy where the size is not known.
    `measured` takes these three from a day's own readings.
    """

    class_limit: Float32
    clock_s: Float32
    step_wh: Float32
    wrong_node: Float32
    estimated: float = 0.6
    gap: float = 0.78
    unknown: float = 0.95

    @staticmethod
    def alike(meters: int, class_limit: float = 0.01, clock_s: float = 0.0, step_wh: float = 0.0, wrong_node: float = 0.0) -> Errors:
        """The same for every meter; change single meters with `replace`."""
        limit, clock, step, wrong = (np.full(meters, value, np.float32) for value in (class_limit, clock_s, step_wh, wrong_node))
        return Errors(limit, clock, step, wrong)


@dataclass(frozen=True, slots=True)
class MeterTotals:
    """Each meter over spans, [span, meter]: energy and estimated energy of the present intervals (int64 [Wh]); how many intervals are missing,
    present, estimated (int32); the average consumer's energy in the present and in the missing intervals (float32 [Wh]); reading at the end
    less reading at the beginning (float32 [Wh per interval])."""

    wh: Int64
    estimated_wh: Int64
    missing: Int32
    present: Int32
    estimated: Int32
    usual_there: Float32
    usual_missing: Float32
    step: Float32

    def plus(self, other: MeterTotals) -> MeterTotals:
        """Of this span and the following one together. RequestError where the shapes differ."""
        if self.wh.shape != other.wh.shape:
            raise RequestError(f"totals of {self.wh.shape} and {other.wh.shape} [span, meter] cannot be added; give the same meters")
        return MeterTotals(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def totals(values: Int32, quality: UInt32 | None, slots_per_span: int, usual_wh: Float64) -> MeterTotals:
    """Each meter's totals over spans of `slots_per_span` slots; a last span that is cut short counts as one.

    values, quality (None = nothing is estimated): [slot, meter]; usual_wh: float64 [slot], the average consumer's reading (`usual`), by which missing
    intervals are weighed. RequestError where they do not fit.
    """
    marks = np.zeros((0, 0), np.uint32) if quality is None else quality
    if values.ndim != 2 or marks.shape not in (values.shape, (0, 0)) or usual_wh.shape != values.shape[:1] or slots_per_span < 1:
        raise RequestError(
            f"values {values.shape}, quality {marks.shape}, usual {usual_wh.shape}, {slots_per_span} slots a span: "
            "give [slot, meter] twice, [slot], and 1 or more"
        )
    spans, meters = -(-values.shape[0] // slots_per_span), values.shape[1]
    wide = [np.zeros((spans, meters), np.int64) for _ in range(2)]
    counts = [np.zeros((spans, meters), np.int32) for _ in range(3)]
    usual_parts = [np.zeros((spans, meters), np.float32) for _ in range(3)]
    _totals(values, marks, slots_per_span, usual_wh.astype(np.float32), *wide, *counts, *usual_parts)
    return MeterTotals(*wide, *counts, *usual_parts)


def usual(values: Int32, consumers: Int64, sample: int = 4096) -> Float64:
    """The average consumer's reading of each slot [Wh], from up to `sample` of them evenly spaced; 1 where none is there."""
    chosen = consumers[:: max(1, consumers.size // sample)]
    some = values[:, chosen]
    there = (some != MISSING) & (some >= 0)
    count = there.sum(axis=1)
    mean = np.where(there, some, 0).sum(axis=1, dtype=np.int64) / np.maximum(count, 1)
    return np.where(count > 0, np.maximum(mean, 1e-3), 1.0)


def measured(errors: Errors, values: Int32, consumers: Int64, usual_wh: Float64, interval_s: int, sample: int = 4096) -> Errors:
    """The same errors with `estimated`, `gap` and `unknown` as a day's own readings show them: households differ from country to country.

    values: int32 [slot, meter]; up to `sample` consumers without a gap are asked how well the rest of their day tells each four hours of it, and how
    much they differ in size. As it was where fewer than 30 are whole or the day has fewer than twelve hours.
    """
    per_block = BLOCK_S // interval_s
    blocks = len(values) // per_block if per_block else 0
    chosen = consumers[:: max(1, consumers.size // sample)]
    some = values[: blocks * per_block, chosen]
    whole = some[:, (some != MISSING).all(axis=0)].astype(np.float64)
    if blocks < BLOCKS_MIN or whole.shape[1] < WHOLE_MIN or not whole.any():
        return errors
    parts = whole.reshape(blocks, per_block, -1).sum(axis=1)
    usual_parts = usual_wh[: blocks * per_block].reshape(blocks, per_block).sum(axis=1)[:, None]
    total, weight = parts.sum(axis=0), usual_parts.sum()
    told = (total - parts) / (weight - usual_parts) * usual_parts
    moment2 = ((told - parts) ** 2).sum() / (told**2).sum() * (1 + BLOCK_S / 3600 / SETTLED_H)
    return replace(errors, gap=float(moment2**0.5), estimated=float(LIKE_DAY * moment2**0.5), unknown=float(total.std() / total.mean()))


@njit(nogil=True, cache=True, error_model="numpy")
def _totals(values, quality, slots_per_span, usual_wh, wh, estimated_wh, missing, present, estimated, usual_there, usual_missing, step):  # type: ignore[no-untyped-def]
    slots, meters = values.shape
    energy, guessed = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    gone, marked = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    weight, lost = np.float32(0), np.empty(BLOCK, np.float32)
    for first in range(0, meters, BLOCK):
        n = min(BLOCK, meters - first)
        for span in range(wh.shape[0]):
            begin, end = span * slots_per_span, min((span + 1) * slots_per_span, slots)
            energy[:n], guessed[:n], gone[:n], marked[:n], lost[:n] = 0, 0, 0, 0, 0.0
            weight = np.float32(0)
            for t in range(begin, end):
                weight += usual_wh[t]
                row = values[t, first : first + n]
                if quality.size:
                    _add_marked(row, quality[t, first : first + n], usual_wh[t], energy, guessed, gone, marked, lost)
                    continue
                for i in range(n):
                    there = row[i] != _NONE
                    energy[i] += row[i] if there else 0
                    gone[i] += 0 if there else 1
                    lost[i] += np.float32(0) if there else usual_wh[t]
            for i in range(n):
                m = first + i
                wh[span, m], estimated_wh[span, m] = energy[i], guessed[i]
                missing[span, m], present[span, m], estimated[span, m] = gone[i], end - begin - gone[i], marked[i]
                usual_missing[span, m], usual_there[span, m] = lost[i], weight - lost[i]
                step[span, m] = _step(values, begin, end, m)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add_marked(row, marks, usual_wh, energy, guessed, gone, marked, lost):  # type: ignore[no-untyped-def]
    """One slot of a block some of whose values may be estimates."""
    for i in range(row.size):
        v = row[i]
        there = v != _NONE
        estimate = there & ((marks[i] & _EST) != 0)
        energy[i] += v if there else 0
        guessed[i] += v if estimate else 0
        gone[i] += 0 if there else 1
        marked[i] += 1 if estimate else 0
        lost[i] += np.float32(0) if there else usual_wh


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _step(values, begin, end, m):  # type: ignore[no-untyped-def]
    """What a clock that is off by an interval would move, root mean square: one behind trades the last reading for the one before the first, one
    ahead the first for the one after the last; at the block's edge the nearest that is there. Its sign is that of the two together."""
    after, before = values[min(end, len(values) - 1), m], values[max(begin - 1, 0), m]
    head, tail = values[begin, m], values[end - 1, m]
    behind = np.float32(tail) - np.float32(before) if before != _NONE and tail != _NONE else np.float32(0)
    ahead = np.float32(after) - np.float32(head) if head != _NONE and after != _NONE else np.float32(0)
    size = np.sqrt((ahead * ahead + behind * behind) / np.float32(2))
    return np.float32(size if ahead + behind >= 0 else -size)
