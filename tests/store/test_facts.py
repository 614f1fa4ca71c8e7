"""Facts and edits are only ever added, by any number of writers, and come back as they were told."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from openami.errors import InputError
from openami.readings import MISSING64
from openami.store.facts import Told, edits_of, facts_of, make_edits, tell_facts, tell_rises
from openami.store.lake import Lake
from openami.vee.edit import Edit
from openami.vee.facts import FactKind

DAY, SHAPE = date(2026, 1, 1), (48, 10)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def edit(value: int | None, slot: int = 3, made_us: int = 1_000, **other: str) -> Edit:
    return Edit(2, slot, value, other.get("person", "R. Officer"), other.get("reason", "register read on site"), made_us)


def test_edits_come_back_oldest_first_with_who_and_why(lake):
    make_edits(lake, DAY, 0, SHAPE, "import_wh", [edit(7, made_us=2_000)])
    make_edits(lake, DAY, 0, SHAPE, "import_wh", [edit(None, made_us=1_000)])
    make_edits(lake, DAY, 0, SHAPE, "export_wh", [edit(1)])
    assert edits_of(lake, DAY, 0, "import_wh") == [edit(None, made_us=1_000), edit(7, made_us=2_000)]
    assert edits_of(lake, DAY, 1, "import_wh") == []


def test_nobody_who_adds_at_the_same_time_is_lost(lake):
    def add(person: int) -> None:
        for k in range(5):
            make_edits(lake, DAY, person % 2, SHAPE, "import_wh", [edit(k, made_us=person * 100 + k)])

    threads = [threading.Thread(target=add, args=(person,)) for person in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(e.made_us for shard in (0, 1) for e in edits_of(lake, DAY, shard, "import_wh")) == sorted(
        p * 100 + k for p in range(4) for k in range(5)
    )


@pytest.mark.parametrize("wrong", [edit(1, slot=48), edit(1, person=" "), edit(1, reason=""), edit(-(2**31))])
def test_an_edit_that_could_never_be_applied_is_not_written(lake, wrong):
    with pytest.raises(InputError):
        make_edits(lake, DAY, 0, SHAPE, "import_wh", [wrong])
    assert lake.tables() == []


def test_facts_of_a_meter_hold_for_every_channel_those_of_a_register_for_its_own(lake):
    outage = Told(FactKind.OUTAGE, 4, 10, 12, 1, "event 101", 5)
    register = Told(FactKind.REGISTER, 4, 0, 47, 9_000, "1.0.1.8.0.255", 6, "import_wh")
    taken_back = Told(FactKind.REGISTER, 5, 0, 47, None, "1.0.1.8.0.255", 7, "import_wh")
    tell_facts(lake, DAY, 0, SHAPE, [outage, register, taken_back])
    own, other = facts_of(lake, DAY, 0, "import_wh"), facts_of(lake, DAY, 0, "export_wh")
    assert own.kind.tolist() == [FactKind.OUTAGE, FactKind.REGISTER, FactKind.REGISTER]
    assert own.value.tolist() == [1, 9_000, int(MISSING64)]
    assert (other.kind.tolist(), other.first.tolist(), other.last.tolist()) == ([FactKind.OUTAGE], [10], [12])
    assert facts_of(lake, DAY, 1, "import_wh") is None


def test_registers_of_a_whole_shard_are_the_same_facts(lake):
    rises = np.array([900, MISSING64, 0], np.int64)
    assert tell_rises(lake, DAY, 0, "import_wh", rises, "daily load", 5) == 2
    told = [Told(FactKind.REGISTER, meter, 0, 0, rise, "daily load", 5, "import_wh") for meter, rise in ((0, 900), (2, 0))]
    tell_facts(lake, DAY, 1, (48, 3), told)
    assert lake.read("facts", DAY, 0).equals(lake.read("facts", DAY, 1))
    assert tell_rises(lake, DAY, 2, "import_wh", np.full(3, MISSING64), "daily load", 5) == 0
    assert facts_of(lake, DAY, 2, "import_wh") is None


def test_facts_of_another_channel_only_are_none_of_this_one(lake):
    tell_rises(lake, DAY, 0, "export_wh", np.array([5], np.int64), "daily load", 5)
    assert facts_of(lake, DAY, 0, "import_wh").kind.size == 0


@pytest.mark.parametrize(
    "wrong",
    [
        Told(FactKind.OUTAGE, 10, 0, 1, 1, "x", 0),
        Told(FactKind.OUTAGE, 1, 0, 1, 1, "", 0),
        Told(FactKind.REGISTER, 1, 0, 1, 1, "x", 0, "watts"),
    ],
)
def test_a_fact_that_says_nothing_usable_is_not_written(lake, wrong):
    with pytest.raises(InputError):
        tell_facts(lake, DAY, 0, SHAPE, [wrong])
    assert lake.tables() == []
