"""The constructed town: the same seed gives the same town; energy is conserved in it; its limits are named."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openami.errors import DataError, InputError
from openami.fleet.faults import TAKEN_IN, Kind, expected_grid, expected_refusals, plant
from openami.fleet.households import DAYS, SLOTS_PER_DAY, load_households, true_consumption
from openami.fleet.town import Town, build_town, measure
from openami.readings import MISSING
from openami.registry import NodeKind

FIRST = date(2025, 12, 1)
TARIFFS = ("BR-DS2", "BR-DS2-TOU")


def make(seed: int = 1, consumers: int = 60, days: int = 1) -> Town:
    town = build_town(seed, consumers, FIRST, days, TARIFFS)
    measure(town)
    return town


@pytest.fixture(scope="module")
def town() -> Town:
    return make()


def same(one: Town, other: Town) -> list[str]:
    """The fields that agree."""
    agree = []
    for field in fields(Town):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "channels":
            equal = a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        else:
            equal = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        if equal:
            agree.append(field.name)
    return agree


def test_the_same_seed_gives_the_same_town(town: Town) -> None:
    assert same(town, make()) == [field.name for field in fields(Town)]


def test_another_seed_gives_another_town(town: Town) -> None:
    assert {"secrets", "households", "metered_wh", "channels", "accounts"} & set(same(town, make(seed=2))) == set()


def test_every_shard_is_dense_and_holds_whole_feeders(town: Town) -> None:
    for shard in {m.shard for m in town.meters}:
        assert [m.index for m in town.meters if m.shard == shard] == list(range(sum(m.shard == shard for m in town.meters)))
    feeders = {(m.shard, p.feeder) for m, p in zip(town.meters, town.points, strict=True)}
    assert len(feeders) == len(town.feeders)


def test_every_meter_has_a_name_a_title_and_keys_of_its_own(town: Town) -> None:
    for values in (
        [m.serial for m in town.meters],
        [m.system_title for m in town.meters],
        [s.keys.ek for s in town.secrets.values()],
        [s.keys.ak for s in town.secrets.values()],
    ):
        assert len(set(values)) == len(town.meters)


def test_both_makers_and_both_protections_are_there(town: Town) -> None:
    assert {(m.maker, m.security_control) for m in town.meters[: town.consumers]} == {("XMA", 0x20), ("XMB", 0x30)}


def test_more_flows_into_a_transformer_than_its_houses_take(town: Town) -> None:
    for k, transformer in enumerate(town.transformers):
        taken = town.true_wh[: town.consumers][town.true_transformer == k].sum(axis=0)
        given = town.true_wh[town.consumers + k]
        assert (given >= taken).all(), transformer.name
        assert given.sum() < 1.1 * taken.sum() + 1000


def test_more_flows_into_a_feeder_than_its_transformers_take(town: Town) -> None:
    for k, feeder in enumerate(town.feeders):
        own = [town.consumers + j for j, t in enumerate(town.transformers) if t.feeder == feeder.name]
        assert (town.true_wh[town.consumers + len(town.transformers) + k] >= town.true_wh[own].sum(axis=0)).all()


def test_every_consumer_has_one_account(town: Town) -> None:
    points = [p.name for p in town.points if p.kind is NodeKind.CONSUMER]
    assert sorted(a.usage_point for a in town.accounts) == sorted(points)


def test_no_key_shows_in_a_town(town: Town) -> None:
    shown = repr(town)
    assert not [s for s in town.secrets.values() if repr(s.keys.ek)[2:-1] in shown or s.keys.ek.hex() in shown]


@pytest.mark.parametrize(
    ("consumers", "days", "word"), [(19, 1, "--meters 19"), (2801, 1, "--meters 2801"), (60, 0, "--days 0"), (60, 50, "--days 50")]
)
def test_a_town_of_another_size_is_refused(consumers: int, days: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        build_town(1, consumers, FIRST, days, TARIFFS)


# Households


def test_the_shipped_households_are_whole() -> None:
    data = load_households()
    assert data.metered_wh.shape == (400, DAYS, SLOTS_PER_DAY)
    assert (np.diff(data.ids) > 0).all()


def test_the_shipped_households_keep_their_defects() -> None:
    metered = load_households().metered_wh
    assert (metered < 0).any()
    assert (metered > 20_000).any()


def test_what_a_house_truly_took_is_possible_and_differs_only_where_its_meter_was_wrong() -> None:
    metered = load_households().metered_wh.reshape(400, -1)
    true = true_consumption(metered)
    assert ((true >= 0) & (true <= 20_000)).all()
    assert ((true != metered).sum(axis=1) < metered.shape[1] // 50).all()


def _no_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 nothing PAR1")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _a_column_less(path: Path) -> None:
    pq.write_table(pa.table({"household_id": [1], "iso_week": [1], "slot": [0]}), path)


def _a_row_less(path: Path) -> None:
    pq.write_table(pa.table({"household_id": [1], "iso_week": [1], "slot": [0], "kwh": [0.1]}), path)


def _words(path: Path) -> None:
    rows = DAYS * SLOTS_PER_DAY
    pq.write_table(pa.table({"household_id": [1] * rows, "iso_week": [1] * rows, "slot": list(range(rows)), "kwh": ["x"] * rows}), path)


def _gaps(path: Path) -> None:
    rows = DAYS * SLOTS_PER_DAY
    kwh = pa.array([None] + [0.1] * (rows - 1), pa.float64())
    pq.write_table(pa.table({"household_id": [1] * rows, "iso_week": [1] * rows, "slot": list(range(rows)), "kwh": kwh}), path)


@pytest.mark.parametrize("damage", [_no_parquet, _empty, _a_column_less, _a_row_less, _words, _gaps])
def test_a_household_file_that_cannot_be_used_is_named(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "households.parquet"
    damage(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"household data .*households\.parquet"):
        load_households(path)


def test_a_household_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_households(tmp_path / "nothing.parquet")


# Faults


def test_the_same_seed_plants_the_same_faults() -> None:
    one, other = plant(make()), plant(make())
    assert one == other


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_town_has_room_for_every_fault(seed: int) -> None:
    town = build_town(seed, 20, FIRST, 1, TARIFFS)
    plan = plant(town)
    victims = [*plan.silent, *plan.wrong_key, *plan.clock_reset, *plan.clock_fast, *plan.theft, *plan.mapped_wrong]
    assert len(victims) == len(set(victims)), "one fault a meter, so that each can be told from the others"
    assert (len(plan.silent), len(plan.clock_reset), len(plan.clock_fast)) == (3, 1, 1)


@pytest.fixture(scope="module")
def planted() -> tuple[Town, object]:
    town = build_town(3, 60, FIRST, 2, TARIFFS)
    plan = plant(town)
    measure(town)
    return town, plan


def test_every_kind_of_mishap_is_planted(planted: tuple[Town, object]) -> None:
    _, plan = planted
    assert set(plan.sent_by_kind()) == {str(kind) for kind in Kind}  # type: ignore[attr-defined]


def test_the_expected_grid_holds_each_arriving_reading_and_nothing_else(planted: tuple[Town, object]) -> None:
    town, plan = planted
    values, _ = expected_grid(town, plan, "import_wh")  # type: ignore[arg-type]
    for k in range(len(town.meters)):
        stamped = {s.stamp_slot for s in plan.sends[k] if s.kind in TAKEN_IN and s.stamp_slot is not None}  # type: ignore[attr-defined]
        assert set(np.flatnonzero(values[k] != MISSING).tolist()) == {s for s in stamped if 0 <= s < town.slots}


def test_a_resent_or_late_reading_is_no_conflict(planted: tuple[Town, object]) -> None:
    """Only a clock that runs ahead makes two different readings claim one slot."""
    town, plan = planted
    _, conflict = expected_grid(town, plan, "import_wh")  # type: ignore[arg-type]
    assert set(np.flatnonzero(conflict.any(axis=1)).tolist()) <= set(plan.clock_fast)  # type: ignore[attr-defined]


def test_every_refusal_that_must_come_is_of_a_known_cause(planted: tuple[Town, object]) -> None:
    causes = expected_refusals(*planted)  # type: ignore[arg-type]
    assert set(causes) == {"bad_tag", "undecipherable", "malformed", "out_of_day", "replayed_counter", "unknown_meter"}
    assert Counter(causes).total() > 0
