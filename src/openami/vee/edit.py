"""A person's correction of a reading: what, by whom, why. Raw stays as it was; the correction is data of its own, applied on every run.

What always holds: an edit without a reason or a person is refused; the newest edit of a slot is the one in force, and the older ones stay
in the list that was handed in; an edit can be taken back by a later one without a value. An edited value is never estimated away; the checks
still mark it (`Quality.EDITED` beside their bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..readings import MISSING, Bool, Int32


@dataclass(frozen=True, slots=True)
class Edit:
    """One correction in one day block: `meter` is the dense index, `value` in the channel's unit x 10**scaler (None = earlier edits of the slot
    are taken back, the reading is again what the meter said), `made_us` UTC microseconds."""

    meter: int
    slot: int
    value: int | None
    person: str
    reason: str
    made_us: int


def apply_edits(values: Int32, edits: Sequence[Edit]) -> tuple[Int32, Bool]:
    """The corrected values (a new array) and bool [slot, meter], True = edited: `run`'s `edited`.

    values: int32 [slot, meter]. Where two edits claim a slot the one made later holds, of the same moment the later in the list.
    InputError names an edit that has no person or reason, lies outside the block, or gives no int32 value."""
    slots, meters = values.shape
    out, edited = values.copy(), np.zeros(values.shape, np.bool_)
    for edit in sorted(edits, key=lambda e: e.made_us):
        where = f"the edit of meter {edit.meter}, slot {edit.slot}"
        if not edit.person.strip() or not edit.reason.strip():
            raise InputError(f"{where} has no person or no reason; both are needed, for the consumer may ask")
        if not (0 <= edit.meter < meters and 0 <= edit.slot < slots):
            raise InputError(f"{where} is outside the block of {slots} slots and {meters} meters")
        if edit.value is None:
            out[edit.slot, edit.meter] = values[edit.slot, edit.meter]
            edited[edit.slot, edit.meter] = False
            continue
        if not MISSING < edit.value < 2**31:
            raise InputError(f"{where} gives {edit.value}, which is no reading; to take a value away, let a check or an outage do it")
        out[edit.slot, edit.meter] = edit.value
        edited[edit.slot, edit.meter] = True
    return out, edited
