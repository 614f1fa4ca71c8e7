"""Net metering: what is billed, banked and settled."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.billing import load_tariffs
from openami.billing.netting import net, settle
from openami.errors import RequestError

ODISHA = load_tariffs().on("OD-DOM", date(2025, 10, 1)).net_metering
KWH = 1000


@pytest.mark.parametrize(
    ("imported", "exported", "bank", "billed", "banked"),
    [
        (300, 0, 0, 300, 0),
        (300, 100, 0, 200, 0),
        (300, 400, 0, 30, 130),  # at most 90 % of the consumption is set off: 270 of 400, 130 are banked
        (300, 0, 130, 170, 0),  # the bank of the month before pays
        (0, 50, 20, 0, 70),
    ],
)
def test_odisha_month(imported, exported, bank, billed, banked):
    result = net(ODISHA, *(np.array([[value * KWH]]) for value in (imported, exported, bank)))
    assert (result.billed_wh[0, 0], result.bank_wh[0, 0]) == (billed * KWH, banked * KWH)


def test_the_bank_of_march_is_paid():
    assert settle(ODISHA, np.array([[130 * KWH, 1]])).tolist() == [466_70, 0]  # 130 x 3.59; a watt-hour is a third of a paisa


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_no_watt_hour_is_lost_or_billed_below_zero(seed):
    imported, exported, bank = np.random.default_rng(seed).integers(0, 10**9, (3, 2, 5))
    result = net(ODISHA, imported, exported, bank)
    assert (result.billed_wh - result.bank_wh == imported - exported - bank).all()
    assert (result.billed_wh >= 0).all()
    assert (result.bank_wh >= 0).all()
    assert (result.credited_wh * 10 <= imported * 9).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match=r"import is \(1, 2\), export \(1, 3\)"):
        net(ODISHA, np.zeros((1, 2), np.int64), np.zeros((1, 3), np.int64), np.zeros((1, 2), np.int64))
