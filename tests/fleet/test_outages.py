"""Planted outages: who is dark takes nothing and says nothing but its gasp; meters above count accordingly."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from openami.fleet.faults import Kind, Plan, plant
from openami.fleet.outages import LOST_SHARE, with_supply
from openami.fleet.town import Town, build_town

FIRST = date(2025, 12, 1)


def make(consumers: int, seed: int = 1) -> tuple[Town, Plan]:
    town = build_town(seed, consumers, FIRST, 1, ("BR-DS2",))
    return town, plant(town)


@pytest.fixture(scope="module")
def dark_town() -> tuple[Town, Plan]:
    return make(200)


def test_a_town_has_an_outage_of_each_level_and_a_small_one_what_it_can(dark_town: tuple[Town, Plan]) -> None:
    assert [dark.level for dark in dark_town[1].dark] == ["phase", "transformer", "feeder", "transformer"]
    assert [dark.momentary for dark in dark_town[1].dark] == [False, False, False, True]
    assert [dark.level for dark in make(20)[1].dark] == ["phase", "transformer", "transformer"], "one transformer is its feeder"


def test_a_fifth_of_the_gasps_is_lost(dark_town: tuple[Town, Plan]) -> None:
    town, plan = dark_town
    feeder = plan.dark[2]
    mute = {*plan.wrong_key, *(k for k, (_, last) in plan.silent.items() if last == town.slots)}
    assert len(feeder.gasps) == pytest.approx((1 - LOST_SHARE) * len(set(feeder.meters) - mute), abs=1)
    assert all(0 <= at - feeder.start_s < 10 for at in feeder.gasps.values())


def test_who_is_dark_takes_nothing_and_pushes_nothing(dark_town: tuple[Town, Plan]) -> None:
    town, plan = dark_town
    for dark in plan.dark[:3]:
        slots = np.flatnonzero(with_supply(town, dark) == 0)
        assert slots.size > 0
        assert (town.true_wh[np.ix_(dark.meters, slots)] == 0).all()
        silent = [m for m in dark.meters if m not in plan.wrong_key]
        assert not {send.slot for m in silent for send in plan.sends[m] if send.kind in (Kind.PLAIN, Kind.LATE)} & set(slots.tolist())


def test_the_meters_above_see_what_is_left(dark_town: tuple[Town, Plan]) -> None:
    town, plan = dark_town
    fuse, transformer, feeder, _ = plan.dark
    place = {t.name: town.consumers + k for k, t in enumerate(town.transformers)}
    heads = {f.name: town.consumers + len(town.transformers) + k for k, f in enumerate(town.feeders)}
    dark = np.flatnonzero(with_supply(town, transformer) == 0)
    assert (town.metered_wh[place[transformer.node], dark] == 0).all()
    dark = np.flatnonzero(with_supply(town, feeder) == 0)
    assert (town.metered_wh[heads[feeder.node], dark] == 0).all()
    dark = np.flatnonzero(with_supply(town, fuse) == 0)
    assert (town.metered_wh[place[fuse.node.split()[0]], dark] > 0).all(), "a fuse leaves the other phases"


def test_each_gasp_and_breath_is_said_once_and_in_order(dark_town: tuple[Town, Plan]) -> None:
    plan = dark_town[1]
    for dark in plan.dark:
        for meter in dark.gasps.keys() & dark.breaths.keys():
            said = [s for s in plan.sends[meter] if s.at_s and dark.start_s <= s.at_s < dark.end_s + 60]
            assert [s.kind for s in said] == [Kind.GASP, Kind.BREATH]
