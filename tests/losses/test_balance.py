"""The balance kernel: equal to its plain-loop twin, exact to the Wh, blind to where the work is cut, honest about what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.losses import MISSING64, NodeBalance, balance, loss_outliers
from openami.readings import MISSING, Quality

from . import reference
from .towns import CONSUMER, FEEDER, NOTHING, TRANSFORMER, one_feeder, shard


@st.composite
def days(draw):
    """A shard of any shape (nodes without meters, meters without nodes, several meters on a node) and its day."""
    feeders = draw(st.integers(1, 3))
    transformer_feeder = draw(st.lists(st.integers(0, feeders - 1), min_size=1, max_size=4))
    rows = []
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from([CONSUMER, CONSUMER, CONSUMER, TRANSFORMER, FEEDER, NOTHING]))
        dt = draw(st.integers(-1 if kind == CONSUMER else 0, len(transformer_feeder) - 1))
        feeder = transformer_feeder[dt] if dt >= 0 else draw(st.integers(0, feeders - 1))
        rows.append((kind, -1 if kind in (FEEDER, NOTHING) else dt, -1 if kind == NOTHING else feeder))
    slots, per_hour = draw(st.sampled_from([(4, 2), (8, 4), (7, 4), (3, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(-50, 2**31 - 1, (slots, len(rows)), np.int32)
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.05, 0.5]))] = MISSING
    quality = rng.choice([0, int(Quality.ESTIMATED_LINEAR), int(Quality.SPIKE), int(Quality.ESTIMATED_LIKE_DAY)], values.shape)
    return shard(rows, transformer_feeder, feeders), values, quality.astype(np.uint32), per_hour


def _at(node: NodeBalance, hour: int, k: int) -> dict[str, int | None]:
    result = {key: int(getattr(node, key)[hour, k]) for key in ("in_wh", "out_wh", "loss_wh")}
    result = {key: None if value == MISSING64 else value for key, value in result.items()}
    for side in ("source", "sink"):
        flow = getattr(node, side)
        result |= {f"{side}.{key}": int(getattr(flow, key)[hour, k]) for key in ("wh", "estimated_wh", "expected", "present", "estimated")}
    return result


@settings(max_examples=120, deadline=None)
@given(days())
def test_agrees_with_plain_loops(day):
    index, values, quality, per_hour = day
    result = balance(index, values, quality, per_hour)
    for hour in range(result.transformers.in_wh.shape[0]):
        for dt in range(len(index.transformers)):
            assert _at(result.transformers, hour, dt) == reference.transformer_hour(index, values, quality, per_hour, dt, hour)
        for feeder in range(len(index.feeders)):
            assert _at(result.feeders, hour, feeder) == reference.feeder_hour(index, values, quality, per_hour, feeder, hour)


@settings(max_examples=60, deadline=None)
@given(days())
def test_identity_to_the_wh_wherever_all_is_known(day):
    index, values, quality, per_hour = day
    result = balance(index, values, quality, per_hour)
    direct = index.is_consumer & (index.transformer < 0)
    for dt_side, feeder_side in ((result.transformers, result.feeders), (result.transformers_day, result.feeders_day)):
        for feeder in range(len(index.feeders)):
            if not index.is_feeder[index.feeder == feeder].any() or (direct & (index.feeder == feeder)).any():
                continue
            for span in np.flatnonzero(feeder_side.loss_wh[:, feeder] != MISSING64):
                below = dt_side.in_wh[span, index.transformer_feeder == feeder]
                assert int(feeder_side.in_wh[span, feeder]) == sum(int(x) for x in below) + int(feeder_side.loss_wh[span, feeder])


@settings(max_examples=60, deadline=None)
@given(days(), st.randoms(use_true_random=False))
def test_the_cut_does_not_matter(day, random):
    """The same town as one shard, or as one shard a feeder with its meters in another order, gives the same numbers."""
    index, values, quality, per_hour = day
    whole = balance(index, values, quality, per_hour)
    for feeder in range(len(index.feeders)):
        columns = [m for m in range(index.meters) if index.feeder[m] == feeder]
        random.shuffle(columns)
        kinds = np.where(index.is_consumer, CONSUMER, np.where(index.is_transformer, TRANSFORMER, FEEDER))
        rows = [(str(kinds[m]), int(index.transformer[m]), int(index.feeder[m])) for m in columns]
        part_index = shard(rows, index.transformer_feeder.tolist(), len(index.feeders))
        part = balance(part_index, values[:, columns], quality[:, columns], per_hour)
        own = np.flatnonzero(index.transformer_feeder == feeder)
        np.testing.assert_array_equal(part.transformers.loss_wh[:, own], whole.transformers.loss_wh[:, own])
        np.testing.assert_array_equal(part.transformers.coverage()[:, own], whole.transformers.coverage()[:, own])
        np.testing.assert_array_equal(part.feeders_day.loss_wh[:, feeder], whole.feeders_day.loss_wh[:, feeder])


def _plain_day(transformers: int = 2, homes: int = 3, slots: int = 8):
    index = one_feeder(transformers, homes)
    values = np.full((slots, index.meters), 100, np.int32)
    values[:, index.is_transformer] = 320
    values[:, index.is_feeder] = 650
    return index, values, np.zeros(values.shape, np.uint32)


def test_a_day_worked_by_hand():
    result = balance(*_plain_day(), slots_per_hour=4)
    assert result.transformers.in_wh.tolist() == [[1280, 1280], [1280, 1280]]
    assert result.transformers.loss_wh.tolist() == [[80, 80], [80, 80]]
    assert result.transformers_day.loss_wh.tolist() == [[160, 160]]
    assert result.feeders_day.in_wh.tolist() == [[5200]]
    assert result.feeders_day.loss_wh.tolist() == [[80]]
    assert result.transformers_day.loss_share().tolist() == [[0.0625, 0.0625]]
    assert result.transformers_day.coverage().tolist() == [[1.0, 1.0]]
    assert result.transformers_day.estimated_share().tolist() == [[0.0, 0.0]]


def test_a_node_whose_meter_misses_one_interval_has_no_loss_that_hour_nor_that_day():
    index, values, quality = _plain_day()
    values[5, np.flatnonzero(index.is_transformer)[0]] = MISSING
    result = balance(index, values, quality, 4)
    assert result.transformers.loss_wh[:, 0].tolist() == [80, int(MISSING64)]
    assert result.transformers_day.in_wh[0, 0] == MISSING64
    assert result.transformers_day.loss_wh.tolist() == [[int(MISSING64), 160]]
    assert result.feeders.loss_wh[:, 0].tolist() == [40, int(MISSING64)]
    assert np.isnan(result.transformers_day.loss_share()[0, 0])


def test_a_silent_home_lowers_the_coverage_and_is_never_taken_as_zero_in_silence():
    index, values, quality = _plain_day(homes=4)
    values[:, index.is_transformer] = 420
    values[:, 0] = MISSING
    result = balance(index, values, quality, 4)
    assert result.transformers_day.loss_wh.tolist() == [[960, 160]]
    assert result.transformers_day.coverage().tolist() == [[0.75, 1.0]]


def test_no_home_heard_at_all_means_unknown_not_lost():
    index, values, quality = _plain_day()
    values[:, :3] = MISSING
    result = balance(index, values, quality, 4)
    assert result.transformers_day.out_wh[0, 0] == MISSING64
    assert result.transformers_day.loss_wh[0, 0] == MISSING64
    assert result.transformers_day.coverage()[0, 0] == 0.0


def test_estimates_count_as_energy_but_not_as_coverage():
    index, values, quality = _plain_day()
    quality[:4, 0] = int(Quality.ESTIMATED_LIKE_DAY)
    result = balance(index, values, quality, 4)
    assert result.transformers_day.loss_wh[0, 0] == 160
    assert result.transformers_day.coverage()[0, 0] == pytest.approx(1 - 400 / 2400)
    assert result.transformers_day.estimated_share()[0, 0] == pytest.approx(400 / (2560 + 2400))


def test_a_negative_loss_is_kept():
    index, values, quality = _plain_day()
    values[:, index.is_transformer] = 250
    assert balance(index, values, quality, 4).transformers_day.loss_wh.tolist() == [[-400, -400]]


def test_arrays_that_do_not_fit_the_registry_stop_the_program():
    index, values, quality = _plain_day()
    with pytest.raises(ValueError, match=r"must both be \[slot, 9 meters\]"):
        balance(index, values[:, :-1], quality, 4)
    with pytest.raises(ValueError, match="slots_per_hour"):
        balance(index, values, quality, 0)


def test_outliers_need_peers_and_a_difference_that_meters_can_tell():
    assert np.isnan(loss_outliers(np.array([0.1, 0.2, 0.1, 0.9]))).all()
    assert loss_outliers(np.array([0.1] * 7 + [0.11])).max() < 3.5
    z = loss_outliers(np.array([0.05, 0.06, np.nan, 0.04, 0.07, 0.5, 0.05]))
    assert np.isnan(z[2])
    assert z[5] > 3.5
    assert np.nanmax(np.delete(z, 5)) < 3.5
