"""Facts become arrays: twins in plain loops, whatever the order in which they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import InputError
from openami.readings import MISSING, MISSING64
from openami.vee.edit import Edit, apply_edits
from openami.vee.facts import FactKind, Facts, known_of

SLOTS, METERS = 6, 3


def facts(rows: list[tuple[int, int, int, int, int, int]]) -> Facts:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (np.int8, np.int32, np.int32, np.int32, np.int64, np.int64)
    return Facts(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


@st.composite
def some_facts(draw):
    rows = []
    for k in range(draw(st.integers(0, 12))):
        first = draw(st.integers(0, SLOTS - 1))
        last = draw(st.integers(first, SLOTS - 1))
        value = draw(st.sampled_from([1, 700, -5, int(MISSING64)]))
        rows.append((draw(st.integers(1, 5)), draw(st.integers(0, METERS - 1)), first, last, value, k))
    return rows


def reference(rows):
    """The same by looking at one fact after the other, oldest first."""
    spans = {FactKind.OUTAGE: {}, FactKind.INACTIVE: {}}
    single = {FactKind.EXCHANGE: {}, FactKind.CLOCK: {}, FactKind.REGISTER: {}}
    for kind, meter, first, last, value, _ in sorted(rows, key=lambda row: row[5]):
        if kind in spans:
            spans[kind][meter, first, last] = value != MISSING64
        else:
            single[kind][meter] = None if value == MISSING64 else (first if kind == FactKind.EXCHANGE else value)
    masks = {}
    for kind, told in spans.items():
        mask = np.zeros((SLOTS, METERS), bool)
        for (meter, first, last), holds in told.items():
            for slot in range(first, last + 1):
                mask[slot, meter] |= holds
        masks[kind] = mask if told else None
    return masks, single


@given(some_facts(), st.randoms())
def test_facts_in_any_order_are_what_the_plain_loop_says(rows, random):
    masks, single = reference(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    known = known_of(facts(shuffled), SLOTS, METERS)
    for name, kind in (("outage", FactKind.OUTAGE), ("inactive", FactKind.INACTIVE)):
        assert (known[name] is None) == (masks[kind] is None)
        if masks[kind] is not None:
            np.testing.assert_array_equal(known[name], masks[kind])
    for name, kind, nothing in (
        ("exchange_slot", FactKind.EXCHANGE, -1),
        ("drift_s", FactKind.CLOCK, 0),
        ("register_wh", FactKind.REGISTER, int(MISSING64)),
    ):
        expected = [single[kind].get(m) for m in range(METERS)]
        if not single[kind]:
            assert known[name] is None
        else:
            assert known[name].tolist() == [nothing if e is None else e for e in expected]


@pytest.mark.parametrize("row", [(1, METERS, 0, 0, 1, 0), (1, 0, 0, SLOTS, 1, 0), (1, 0, 3, 2, 1, 0), (1, -1, 0, 0, 1, 0)])
def test_a_fact_outside_the_block_is_refused(row):
    with pytest.raises(InputError, match="lies outside the block"):
        known_of(facts([row]), SLOTS, METERS)


def edit(value, made_us, slot=2):
    return Edit(1, slot, value, "R. Officer", "meter photographed", made_us)


def test_an_edit_that_is_taken_back_leaves_the_reading_as_it_came():
    values = np.arange(SLOTS * METERS, dtype=np.int32).reshape(SLOTS, METERS)
    out, edited = apply_edits(values, [edit(None, 2), edit(900, 1)])
    np.testing.assert_array_equal(out, values)
    assert not edited.any()


def test_the_newest_edit_holds():
    values = np.full((SLOTS, METERS), MISSING, np.int32)
    out, edited = apply_edits(values, [edit(5, 3), edit(4, 1), edit(None, 2)])
    assert (out[2, 1], edited[2, 1], int(edited.sum())) == (5, True, 1)
