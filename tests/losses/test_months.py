"""Accounts put together by node over a change of the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openami.errors import RequestError
from openami.losses.account import Part, account
from openami.losses.half_width import half_width
from openami.losses.metered import Errors, totals
from openami.losses.months import join
from openami.readings import MISSING64

from .test_account import TWO_TRANSFORMERS, sums

ERRORS = Errors.alike(6, class_limit=0.01, clock_s=60.0)
FIRST = account(TWO_TRANSFORMERS, sums(400, 800, 1000, 1240, 1040, 2360), ERRORS, 1800)


def test_energies_add_up_over_a_moved_meter():
    moved = replace(TWO_TRANSFORMERS, meter_node=np.array([0, 1, 1, -1, -1, -1], np.int32))
    second = account(moved, sums(400, 800, 1000, 440, 1840, 2360), ERRORS, 1800)
    found = join([FIRST, second])
    assert found.loss_wh.tolist() == [80, 80, 160]
    assert found.in_wh.tolist() == [1680, 2880, 4720]
    assert found.likely_wh.tolist() == [80.0, 80.0, 160.0]


def test_what_lasts_is_added_and_the_rest_in_the_square():
    found = join([FIRST, FIRST])
    assert found.spread_wh[Part.CLASS] == pytest.approx(2 * FIRST.spread_wh[Part.CLASS, 0])
    assert found.spread_wh[Part.CLOCK] == pytest.approx(2**0.5 * FIRST.spread_wh[Part.CLOCK, 0])
    assert found.limit_wh == pytest.approx(2 * FIRST.limit_wh[0])
    assert found.high_wh - found.likely_wh == pytest.approx(half_width(found.spread_wh, Part.MAPPING, found.limit_wh, found.moves))


def test_unknown_in_one_stretch_is_unknown():
    lame = account(replace(TWO_TRANSFORMERS, own_meter=np.array([-1, 4, 5], np.int32)), sums(400, 800, 1000, 0, 1040, 2360), ERRORS, 1800)
    found = join([FIRST, lame])
    assert found.loss_wh[0] == MISSING64
    assert np.isnan(found.likely_wh[0])
    assert found.loss_wh[1] == 80


def test_nothing_and_hours_cannot_be_joined():
    hours = totals(np.ones((4, 6), np.int32), np.zeros((4, 6), np.uint32), 2, np.ones(4))
    for wrong in ([], [account(TWO_TRANSFORMERS, hours, ERRORS, 1800)]):
        with pytest.raises(RequestError, match="single span"):
            join(wrong)


def test_one_span_joined_is_itself():
    found = join([FIRST])
    assert found.loss_wh.tolist() == FIRST.loss_wh[0].tolist()
    assert found.coverage == pytest.approx(FIRST.coverage[0])
    assert found.low_wh == pytest.approx(FIRST.low_wh[0])
