"""First suspicions: what is planted is found, and honest towns raise nothing."""

from __future__ import annotations

import numpy as np
import pytest

from openami.losses import balance, idle_while_flowing, loss_outliers, understated, wrong_transformers
from openami.readings import MISSING

from .towns import households_wh, one_feeder

TRANSFORMERS, HOMES, SLOTS = 6, 20, 96


@pytest.fixture
def town():
    """Index, what the homes truly used, and a function that makes the registered day: transformers see the true use plus 3 % and I2R."""
    index = one_feeder(TRANSFORMERS, HOMES)
    used = households_wh(SLOTS, TRANSFORMERS * HOMES, seed=7)

    def registered(truly_on: np.ndarray, homes: np.ndarray) -> np.ndarray:
        below = np.stack([used[:, truly_on == t].sum(axis=1) for t in range(TRANSFORMERS)], axis=1)
        flow = (below + 40 + 1.2e-6 * below.astype(float) ** 2).astype(np.int32)
        return np.concatenate([homes, flow, flow.sum(axis=1, keepdims=True)], axis=1).astype(np.int32)

    return index, used, registered


def _home_transformer(index):
    return index.transformer[: TRANSFORMERS * HOMES].copy()


def test_an_honest_town_raises_no_suspicion(town):
    index, used, registered = town
    day = registered(_home_transformer(index), used)
    assert wrong_transformers(index, day) == []
    assert understated(index, day) == []


def test_two_homes_on_the_wrong_transformer_are_named_with_the_right_one(town):
    index, used, registered = town
    truth = _home_transformer(index)
    truth[5], truth[70] = 4, 1
    day = registered(truth, used)
    moves = wrong_transformers(index, day)
    assert {(m.meter, m.now, m.to) for m in moves[:2]} == {(5, 0, 4), (70, 3, 1)}
    assert len(moves) == 2
    assert all(0.7 < m.explained < 1.3 and m.residual_reduction > 0.1 for m in moves)


def test_a_home_that_registers_a_third_is_named(town):
    index, used, registered = town
    homes = used.copy()
    homes[:, 44] //= 3
    found = understated(index, registered(_home_transformer(index), homes))
    assert [(u.meter, u.transformer) for u in found] == [(44, 2)]
    assert found[0].unregistered_per_wh == pytest.approx(2, rel=0.2)


def test_one_thief_does_not_make_a_neighbour_look_like_another(town):
    """A neighbour who switches with the thief, half as much: alone it would look short as well."""
    index, used, registered = town
    used[:, 45] = used[:, 45] // 8 + used[:, 44] // 2
    homes = used.copy()
    homes[:, 44] //= 3
    assert [u.meter for u in understated(index, registered(_home_transformer(index), homes))] == [44]


def test_nobody_is_accused_beside_a_home_that_was_not_heard(town):
    """A home registers a third, but another one on the same transformer was not heard: the loss could be that one's use."""
    index, used, registered = town
    homes = used.copy()
    homes[:, 44] //= 3
    day = registered(_home_transformer(index), homes)
    day[:30, 50] = MISSING
    assert understated(index, day) == []
    day[:20, 50] = 0
    assert [u.meter for u in understated(index, day)] == [44]


def test_a_transformer_with_a_thief_stands_out(town):
    index, used, registered = town
    homes = used.copy()
    homes[20:, 30] = 0
    homes[20:, 31] = 0
    day = registered(_home_transformer(index), homes)
    result = balance(index, day, np.zeros(day.shape, np.uint32), 4)
    z = loss_outliers(result.transformers_day.loss_share()[0])
    assert np.flatnonzero(z > 3.5).tolist() == [1]


def test_a_silent_home_and_a_silent_transformer_accuse_nobody(town):
    index, used, registered = town
    day = registered(_home_transformer(index), used)
    day[:, 3] = MISSING
    day[30:60, 50] = MISSING
    day[:, TRANSFORMERS * HOMES + 5] = MISSING
    assert wrong_transformers(index, day) == []
    assert understated(index, day) == []


def test_a_home_that_stands_still_while_energy_flows_is_named(town):
    index, used, registered = town
    homes = used.copy()
    homes[24:64, 25] = 0
    found = idle_while_flowing(index, registered(_home_transformer(index), homes), 4)
    assert [(i.meter, i.transformer) for i in found] == [(25, 1)]
    assert found[0].excess_wh == pytest.approx(4 * used[24:64, 25].mean(), rel=0.5)
    assert found[0].idle_share == pytest.approx(10 / 24)


def test_a_home_that_truly_rests_is_not_named(town):
    """The same hours without reading, but nothing flows: an empty home."""
    index, used, registered = town
    used[24:64, 25] = 0
    assert idle_while_flowing(index, registered(_home_transformer(index), used), 4) == []


def test_standing_still_is_not_judged_beside_a_home_that_was_not_heard(town):
    index, used, registered = town
    homes = used.copy()
    homes[24:64, 25] = 0
    day = registered(_home_transformer(index), homes)
    day[:, 30] = MISSING
    assert idle_while_flowing(index, day, 4) == []


def test_outliers_need_peers_and_a_difference_that_meters_can_tell():
    assert np.isnan(loss_outliers(np.array([0.1, 0.2, 0.1, 0.9]))).all()
    assert loss_outliers(np.array([0.1] * 7 + [0.11])).max() < 3.5
    z = loss_outliers(np.array([0.05, 0.06, np.nan, 0.04, 0.07, 0.5, 0.05]))
    assert np.isnan(z[2])
    assert z[5] > 3.5
    assert np.nanmax(np.delete(z, 5)) < 3.5
