"""Collecting a little at a time, with stops anywhere, gives the raw of collecting once; a stop costs only what came after the last putting away."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.cosem.ciphering import Keys
from openami.day import Site, collect
from openami.day.gathered import Gathered, marks
from openami.errors import DataError, InputError, StorageError
from openami.fleet.meter import SimulatedMeter
from openami.fleet.town import Town
from openami.headend.admission import Correspondent
from openami.readings import MISSING, DayBlock, Quality
from openami.store.contacts import PUSH_CLIENT, Contacts, WrappedKeys
from openami.store.deployment import Folder
from openami.store.grid import together
from openami.store.journal import Journal
from openami.store.keys import load_master_key

from .killed import killable
from .sites import FIRST, device, make_site, make_town, pushes, send

HIGH = 3_000_000


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town(days=2)


@pytest.fixture(scope="module")
def frames(town: Town) -> list[bytes]:
    """All pushes, some twice, one against another of its slot, and one of an unknown form of stamp."""
    honest = pushes(town)
    stamp = town.calendar.stamp(FIRST, 10)
    against = device(town, 2, HIGH).push(stamp, stamp, {"import_wh": 9_999})
    outside = device(town, 2, HIGH + 1).push(stamp, stamp - 3 * 86_400, {"import_wh": 5})
    return [*honest[:1500], *honest[700:900], against, *honest[1500:], outside, *honest[-50:]]


def contents(site: Site) -> dict[str, Any]:
    """Everything that collecting leaves for others."""
    journal = Journal(site.folder.journal)
    found: dict[str, Any] = {"quarantine": [(r.seq, r.position, r.cause) for r in journal.quarantine()]}
    journal.close()
    for day in site.deployment.open_days:
        for name, block in site.lake.read_blocks("raw", day, 0).items():
            found[f"{day} {name}"] = block.values.tobytes(), block.quality.tobytes()
    return found


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory, town: Town, frames: list[bytes]) -> dict[str, Any]:
    site = make_site(tmp_path_factory.mktemp("once") / "data", town, frames)
    causes = collect(site)
    found = contents(site) | {"causes": causes}
    site.rows.close()
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    root = tmp_path_factory.mktemp("empty") / "data"
    make_site(root, town).rows.close()
    return root


@pytest.fixture
def site(tmp_path: Path, empty: Path) -> Site:
    return Site.open(Folder(Path(shutil.copytree(empty, tmp_path / "data"))))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 8), max_size=3, unique=True).map(sorted))
def test_a_little_at_a_time_is_the_same_as_at_once(
    cuts: list[int], town: Town, frames: list[bytes], empty: Path, at_once: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut where batches of the journal end, so that the quarantine names the same places."""
    site = Site.open(Folder(Path(shutil.copytree(empty, tmp_path_factory.mktemp("cut") / "data"))))
    causes: Counter[str] = Counter()
    edges = [0, *(500 * cut for cut in cuts if 500 * cut < len(frames)), len(frames)]
    for first, last in pairwise(edges):
        send(site.folder, frames[first:last])
        causes = collect(Site.open(site.folder))
    assert contents(site) | {"causes": causes} == at_once


def test_only_what_is_new_is_read(site: Site, frames: list[bytes]) -> None:
    send(site.folder, frames[:1000])
    collect(site)
    send(site.folder, frames[1000:1100])
    steps: list[int] = []
    collect(site, steps.append)
    assert sum(steps) == 100


def test_nothing_new_writes_nothing(site: Site, frames: list[bytes]) -> None:
    send(site.folder, frames)
    first = collect(site)
    before = site.lake.version("raw")
    assert (collect(site), site.lake.version("raw")) == (first, before)


def test_a_frame_of_the_second_day_leaves_the_first_alone(site: Site, town: Town) -> None:
    honest = pushes(town)
    send(site.folder, honest[: 97 * len(town.meters)])
    collect(site)
    before = site.lake.content("raw", FIRST, 0)
    send(site.folder, honest[97 * len(town.meters) :])
    collect(site)
    assert site.lake.content("raw", FIRST, 0) == before


def test_a_day_that_nobody_has_spoken_of_yet_has_no_raw(site: Site, town: Town) -> None:
    send(site.folder, pushes(town)[: 50 * len(town.meters)])
    collect(site)
    assert [site.lake.has("raw", day, 0) for day in site.deployment.open_days] == [True, False]


def test_what_was_fetched_from_a_meter_stands_behind_what_it_pushed(site: Site, town: Town) -> None:
    """As if it had been written behind all pushes: it fills gaps, and where both speak and differ the push stays and is doubted."""
    send(site.folder, pushes(town)[:500])
    collect(site)
    pushed = site.lake.read_blocks("raw", FIRST, 0)["import_wh"]
    other = DayBlock(pushed.day, pushed.shard, pushed.channel, np.full_like(pushed.values, 7), np.zeros_like(pushed.quality))
    (both,) = together([pushed], [other])
    there = pushed.values != MISSING
    assert (both.values == np.where(there, pushed.values, 7)).all()
    assert (both.quality == np.where(there & (pushed.values != 7), Quality.DUPLICATE, 0)).all()


def test_killed_anywhere_it_goes_on_where_it_was_put_away(site: Site, frames: list[bytes], at_once: dict[str, Any], tmp_path: Path) -> None:
    """kill -9 after some of the steps that it takes undisturbed, again and again, until it is through."""
    send(site.folder, frames)
    rng, kills = random.Random(4), 0
    with killable("collect") as collected:
        steps = int(collected(Path(shutil.copytree(site.folder.root, tmp_path / "undisturbed")), 0))
        while collected(site.folder.root, rng.randint(steps // 10, steps // 4)) == "killed":
            kills += 1
            assert kills < 40, f"{steps} steps, and it never comes through"
    assert kills > 1
    assert contents(site) == {name: found for name, found in at_once.items() if name != "causes"}


# What it must not go on from


def test_meters_that_are_judged_otherwise_now_are_read_from_the_beginning(
    site: Site, frames: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(site.folder, frames)
    collect(site)
    meters = site.rows.meters()
    monkeypatch.setattr(type(site.rows), "meters", lambda self: [replace(meters[0], maker="another"), *meters[1:]])
    steps: list[int] = []
    collect(site, steps.append)
    assert sum(steps) == len(frames)


def test_another_journal_is_read_from_the_beginning(site: Site, frames: list[bytes]) -> None:
    send(site.folder, frames)
    collect(site)
    for path in site.folder.journal.parent.glob("journal.db*"):
        path.unlink()
    send(site.folder, frames[:700])
    steps: list[int] = []
    collect(site, steps.append)
    assert sum(steps) == 700


def test_a_damaged_raw_is_made_again_when_the_journal_is_read_anew(site: Site, frames: list[bytes], at_once: dict[str, Any]) -> None:
    send(site.folder, frames)
    collect(site)
    (path,) = site.lake.all_files("raw")[FIRST, 0]
    Path(path).write_bytes(b"damaged")
    assert collect(site, anew=True) == at_once["causes"]
    assert contents(site) == {name: found for name, found in at_once.items() if name != "causes"}


def test_two_at_once_are_refused(site: Site, frames: list[bytes]) -> None:
    send(site.folder, frames[:100])
    with Gathered.open(site.folder.root / "grid"), pytest.raises(InputError, match="being collected by another process"):
        collect(site)


def test_what_is_damaged_is_named(site: Site, frames: list[bytes]) -> None:
    send(site.folder, frames[:1000])
    collect(site)
    (path,) = (site.folder.root / "grid" / "pushed" / "0").glob(f"{FIRST}.parquet")
    path.write_bytes(path.read_bytes()[:200])
    send(site.folder, frames[1000:1100])
    with pytest.raises(DataError, match=rf"{path.name} cannot be read"):
        collect(site)


def test_a_position_of_another_release_is_refused(site: Site, frames: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    send(site.folder, frames[:100])
    collect(site)
    monkeypatch.setattr("openami.day.gathered.FORMAT", "0")
    with pytest.raises(DataError, match=r"another release .* made again from the journal"):
        collect(site)


def test_no_room_leaves_what_was_put_away(site: Site, frames: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    send(site.folder, frames[:1000])
    collect(site)
    before = {path: path.read_bytes() for path in (site.folder.root / "grid").rglob("*.parquet")}
    send(site.folder, frames[1000:1100])

    def full(path: Path, parts: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openami.day.gathered.write_rows", full)
    with pytest.raises(StorageError, match="free space"):
        collect(site)
    assert {path: path.read_bytes() for path in (site.folder.root / "grid").rglob("*") if path.suffix in (".parquet", ".new")} == before


def test_a_meter_that_has_moved_to_new_push_keys_has_moved_for_whoever_goes_on(site: Site, town: Town, frames: list[bytes]) -> None:
    """Otherwise a push under the new keys, sent again by anybody, would be taken in again, and the old keys would hold again."""
    meter, fresh = town.meters[2], Keys(b"\x31" * 16, b"\x32" * 16)
    master = load_master_key(site.folder.master_key)
    stamp = town.calendar.stamp(FIRST, 10)
    renewed = SimulatedMeter(meter.serial, meter.system_title, device(town, 2).layout, meter.security_control, fresh, 1)
    under_new = renewed.push(stamp, stamp, {"import_wh": 1})
    send(site.folder, frames[:40])
    collect(site)
    Contacts(site.rows).propose_keys(meter.serial, PUSH_CLIENT, WrappedKeys(master.wrap(fresh.ek), master.wrap(fresh.ak), "order"), "order")
    send(site.folder, [under_new])
    before = collect(Site.open(site.folder))
    assert not before, "the new keys are known, and their counter begins anew"
    send(site.folder, [under_new, device(town, 2, HIGH).push(stamp, stamp, {"import_wh": 2})])
    after = collect(Site.open(site.folder))
    assert after == Counter(replayed_counter=1, undecipherable=1)
    send(site.folder, [renewed.push(stamp + 905, stamp + 900, {"import_wh": 3})])
    assert collect(Site.open(site.folder)) == after, "the meter itself goes on"


def test_other_keys_than_those_that_were_used_begin_anew(town: Town) -> None:
    known = Correspondent(town.meters[0], Keys(b"1" * 16, b"2" * 16), (Keys(b"3" * 16, b"4" * 16),))
    serial = town.meters[0].serial
    unused, used = marks([known], {})[serial], marks([known], {serial: 1})[serial]
    other = replace(known, later=(Keys(b"5" * 16, b"4" * 16),))
    assert marks([other], {})[serial] == unused
    assert marks([other], {serial: 1})[serial] != used
    assert marks([replace(known, later=())], {serial: 1})[serial] != used
