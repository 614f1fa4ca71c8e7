"""The running day reckoned on from the time before is what it is when reckoned anew, plainly; and who lacks intervals is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.day import Site, collect
from openami.day import running as a_day
from openami.day.network import FOLDER
from openami.day.running import Course, Running, running
from openami.fleet.town import build_town, measure
from openami.readings import EXPORT_WH, IMPORT_WH, MISSING, DayBlock, Quality

from .running_reference import plainly
from .sites import FIRST, copy_of, make_site, pushes

S = "SS-1 33/11 kV"
SLOTS = 41
"""Ten hours and a quarter of one."""


@pytest.fixture(scope="module")
def town_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two feeders, a shard each, of one substation; a day that nobody has closed."""
    town = build_town(5, 36, FIRST, 1, ("BR-DS2",))
    measure(town)
    site = make_site(tmp_path_factory.mktemp("kept") / "data", town, pushes(town))
    collect(site)
    assert site.rows.shards() == [0, 1]
    return site


@pytest.fixture
def site(town_site: Site, tmp_path) -> Site:
    return copy_of(town_site, tmp_path)


def at(site: Site, slots: int = SLOTS) -> int:
    return site.calendar.day_start(FIRST) + slots * site.calendar.interval_s + 60


def rewrite(site: Site, shard: int, seed: int, missing: float, *, exports: bool = False, estimated: bool = False) -> None:
    """Raw of a shard written again: some intervals have not come, some are impossible, homes give back, some values are marked as estimates."""
    rng = np.random.default_rng(seed)
    blocks = site.lake.read_blocks("raw", FIRST, shard)
    energy = blocks[IMPORT_WH.name]
    values, quality = energy.values.copy(), energy.quality.copy()
    values[rng.random(values.shape) < missing] = MISSING
    values[rng.random(values.shape) < 0.01] = -7
    if estimated:
        quality[(rng.random(values.shape) < 0.1) & (values != MISSING)] |= np.uint32(Quality.ESTIMATED_LINEAR)
    quality[values == MISSING] = np.uint32(Quality.MISSING)
    written = [replace(energy, values=values, quality=quality)]
    if exports:
        given_back = np.where(rng.random(values.shape) < 0.3, 900, 0).astype(np.int32)
        given_back[:, rng.random(values.shape[1]) < 0.5] = MISSING
        marks = np.where(given_back == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
        written.append(DayBlock(FIRST, shard, EXPORT_WH, given_back, marks))
    site.lake.write_blocks("raw", written)


def same(found: Running | None, plain: dict) -> None:
    """Energies to the Wh, all else but for the order of sums."""
    assert found is not None
    told = {(one.level, one.node, one.hour): one for one in [*found.so_far, *found.hours()]}
    assert told.keys() == plain.keys()
    for key, one in told.items():
        other = plain[key]
        assert (one.feeder, one.in_wh, one.out_wh, one.loss_wh) == (other.feeder, other.in_wh, other.out_wh, other.loss_wh), key
        for name in ("likely_wh", "low_wh", "high_wh", "coverage", "estimated_share"):
            value, expected = getattr(one, name), getattr(other, name)
            assert (value is None) == (expected is None), (key, name)
            assert value is None or value == pytest.approx(expected, rel=1e-9, abs=1e-6), (key, name)
        assert one.spread_wh == pytest.approx(other.spread_wh, rel=1e-9, abs=1e-6), key


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    missing=st.sampled_from((0.0, 0.02, 0.4)),
    exports=st.booleans(),
    estimated=st.booleans(),
    slots=st.integers(1, 96),
)
def test_it_is_what_the_closed_days_account_would_be(
    town_site: Site, tmp_path_factory, seed: int, missing: float, exports: bool, estimated: bool, slots: int
) -> None:
    site = copy_of(town_site, tmp_path_factory.mktemp("drawn"))
    for shard in (0, 1):
        rewrite(site, shard, seed + shard, missing, exports=exports and shard == 0, estimated=estimated)
    same(running(site, at(site, slots), FIRST), plainly(site, FIRST, slots))


def test_a_course_goes_on_as_if_it_began_anew(site: Site) -> None:
    """Through an hour that ends, a shard that comes late, a load that is assessed, a meter that comes and one that is moved away."""
    course, meters = Course(site), site.rows.meters()

    def holds(slots: int) -> None:
        same(course.at(at(site, slots), FIRST), plainly(site, FIRST, slots))

    holds(SLOTS)
    holds(SLOTS + 3)
    rewrite(site, 1, 7, 0.2, exports=True)
    holds(SLOTS + 3)
    (site.folder.root / FOLDER).mkdir()
    dt = site.rows.transformers()[0].name
    (site.folder.root / FOLDER / "assessed.csv").write_text(f"node,kwh_per_day\n{dt},24\n{S},48\n")
    holds(SLOTS + 3)
    index = max(one.index for one in meters if one.shard == 0) + 1
    site.rows.add_registry((), (), [replace(meters[0], serial="NEW0000001", system_title=b"NEWTITLE", shard=0, index=index)], (), (), ())
    holds(SLOTS + 3)
    (site.folder.root / FOLDER / "errors.csv").write_text("what,name,class_percent,clock_s\nuse,feeder,2.5,60\n")
    holds(SLOTS + 3)


def test_a_meter_without_a_place_is_a_doubt_as_soon_as_it_counts(site: Site) -> None:
    """The network that is kept is another then, though nothing of the records has changed."""
    meters = site.rows.meters()
    index = max(one.index for one in meters if one.shard == 0) + 1
    site.rows.add_registry((), (), [replace(meters[0], serial="NEW0000001", system_title=b"NEWTITLE", shard=0, index=index)], (), (), ())
    course = Course(site)
    before = course.at(at(site), FIRST)
    blocks = site.lake.read_blocks("raw", FIRST, 0)
    wider = [
        replace(
            one,
            values=np.pad(one.values, ((0, 0), (0, 1)), constant_values=500),
            quality=np.pad(one.quality, ((0, 0), (0, 1))),
        )
        for one in blocks.values()
    ]
    site.lake.write_blocks("raw", wider)
    after = course.at(at(site), FIRST)
    assert before is not None
    assert not any("NEW0000001" in sentence for sentence in before.doubts)
    assert after is not None
    assert any("NEW0000001" in sentence for sentence in after.doubts)
    same(after, plainly(site, FIRST, SLOTS))


def test_what_has_not_changed_is_not_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    course, read = Course(site), list[int]()
    first = course.at(at(site), FIRST)
    plain = a_day.read_so_far

    def noted(own: Site, day: date, shard: int, slots: int, meters: int) -> object:
        read.append(shard)
        return plain(own, day, shard, slots, meters)

    monkeypatch.setattr(a_day, "read_so_far", noted)
    assert course.at(at(site), FIRST) is first
    assert read == []
    rewrite(site, 1, 3, 0.1)
    assert course.at(at(site), FIRST) is not first
    assert read == [1]


def test_another_day_is_begun_anew(site: Site) -> None:
    course = Course(site)
    assert course.at(at(site), FIRST) is not None
    assert course.at(at(site), FIRST + timedelta(days=1)) is None
    assert course.at(at(site), FIRST) is not None


def lacks(site: Site, node: str, hour: int | None) -> dict[str, tuple[bool | None, int | None]]:
    """By level, of a node so far or in an hour: whether its own meter lacks intervals, and of how many nodes below the meter does."""
    found = running(site, at(site, 48), FIRST)
    assert found is not None
    own = found.of(node)
    rows = own.so_far if hour is None else own.hours()
    return {one.level: (one.own_lacks, one.below_lack) for one in rows if one.hour == hour}


def test_a_node_whose_meter_lacks_an_interval_says_so_and_so_does_what_feeds_it(site: Site) -> None:
    """One transformer's meter and one feeder's head have not told of 03:00 to 03:15."""
    assert lacks(site, S, None) == {"substation area": (False, 0)}
    index = site.index_of(0, FIRST)
    blocks = site.lake.read_blocks("raw", FIRST, 0)
    dt = int(np.flatnonzero(index.is_transformer)[0])
    name, feeder = index.transformers[index.transformer[dt]], index.feeders[index.feeder[np.flatnonzero(index.is_feeder)[0]]]
    blocks[IMPORT_WH.name].values[12, dt] = MISSING
    site.lake.write_blocks("raw", list(blocks.values()))
    for hour, lacking in ((None, True), (3, True), (4, False)):
        assert lacks(site, name, hour) == {"transformer": (lacking, 0)}
        assert lacks(site, feeder, hour) == {"feeder": (False, int(lacking))}
        assert lacks(site, S, hour) == {"substation area": (False, 0)}, "the feeder's head is whole"
    blocks[IMPORT_WH.name].values[12, np.flatnonzero(index.is_feeder)] = MISSING
    site.lake.write_blocks("raw", list(blocks.values()))
    for hour, lacking in ((None, 2), (3, 2), (4, 0)):
        assert lacks(site, feeder, hour) == {"feeder": (bool(lacking), lacking // 2)}
        assert lacks(site, S, hour) == {"substation area": (False, lacking)}
