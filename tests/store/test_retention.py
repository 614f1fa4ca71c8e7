"""What retention may take and what it may not."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from openami.errors import DataError, InputError
from openami.store.delta import KEEP_DAYS, PROPERTIES
from openami.store.facts import edits_of, make_edits
from openami.store.lake import Lake
from openami.store.retention import pin, pinned, retire, sweep, tidy
from openami.vee.edit import Edit

DAY = date(2026, 1, 1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A day of a table told three times: versions and values 1, 2, 3."""
    lake = Lake(tmp_path / "lake")
    for value in (1, 2, 3):
        lake.replace("t", DAY, 0, pa.table({"a": [value]}))
    return lake


def told(lake: Lake, version: int) -> list[int]:
    return lake.read("t", DAY, 0, version=version)["a"].to_pylist()


def test_every_version_inside_the_retention_stays_readable(lake):
    versions = [lake.version("t") - 2, lake.version("t") - 1, lake.version("t")]
    assert sweep(lake, keep_days=1) == {}
    assert [told(lake, version) for version in versions] == [[1], [2], [3]]


def test_older_versions_go_and_the_current_one_stays(lake):
    last = lake.version("t")
    swept = sweep(lake, keep_days=0)
    assert len(swept["t"]) == 2
    assert lake.read("t", DAY, 0)["a"].to_pylist() == [3]
    with pytest.raises(DataError):
        told(lake, last - 1)


def test_a_dry_run_tells_the_same_and_removes_nothing(lake):
    last = lake.version("t")
    only_told = sweep(lake, keep_days=0, dry_run=True)
    assert told(lake, last - 1) == [2]
    assert {name.rsplit("/", 1)[-1] for name in only_told["t"]} == {name.rsplit("/", 1)[-1] for name in sweep(lake, keep_days=0)["t"]}


def test_a_pinned_version_outlives_its_time(lake):
    last = lake.version("t")
    pin(lake, "t", last - 2, "what was known when supply was cut, order 17", DAY)
    sweep(lake, keep_days=0)
    assert told(lake, last - 2) == [1]
    assert pinned(lake, "t") == [last - 2]
    with pytest.raises(DataError):
        told(lake, last - 1)


def test_a_version_that_is_not_there_cannot_be_pinned(lake):
    with pytest.raises(DataError):
        pin(lake, "t", 99, "why", DAY)


def test_a_file_of_a_killed_draft_goes_when_it_is_old_and_not_before(lake):
    left = lake.root / "t" / "day=2026-01-01" / "shard=0" / "left.parquet"
    left.write_bytes(b"PAR1")
    sweep(lake, keep_days=1)
    assert left.exists()
    os.utime(left, (1, 1))
    sweep(lake, keep_days=1)
    assert not left.exists()


def test_a_table_keeps_its_log_as_long_as_its_versions(lake):
    """Delta Lake's own 30 days would make every older version unreadable."""
    assert lake.opened("t").metadata().configuration == PROPERTIES


def test_a_table_made_without_our_properties_gets_them(tmp_path):
    DeltaTable.create(str(tmp_path / "lake" / "old"), pa.schema([("a", pa.int64())]))
    lake = Lake(tmp_path / "lake")
    tidy(lake)
    assert lake.opened("old").metadata().configuration == PROPERTIES


def test_merging_small_files_changes_no_row(tmp_path):
    lake = Lake(tmp_path / "lake")
    edits = [Edit(0, k, k, "R. Officer", "read on site", k) for k in range(12)]
    for edit in edits:
        make_edits(lake, DAY, 0, (48, 1), "import_wh", [edit])
    assert len(lake.all_files("edits")[DAY, 0]) == 12
    assert tidy(lake).merged == {"edits": 1}
    assert len(lake.all_files("edits")[DAY, 0]) == 1
    assert edits_of(lake, DAY, 0, "import_wh") == edits


def test_a_long_log_gets_a_checkpoint_and_every_version_is_still_there(lake):
    first = lake.version("t")
    for value in range(60):
        lake.replace("t", DAY, 0, pa.table({"a": [value]}))
    assert tidy(lake).shortened == ("t",)
    assert lake.commits_since_checkpoint("t") == 0
    assert told(lake, first) == [3]


def test_old_days_are_retired_and_young_ones_refused(tmp_path):
    lake, today = Lake(tmp_path / "lake"), date(2026, 1, 1)
    for day in (date(2020, 1, 1), date(2025, 12, 31)):
        lake.replace("t", day, 0, pa.table({"a": [1]}))
    assert retire(lake, date(2021, 1, 1), today) == {"t": 1}
    assert lake.days("t") == [date(2025, 12, 31)]
    with pytest.raises(InputError, match=f"kept for {KEEP_DAYS} days"):
        retire(lake, date(2025, 6, 1), today)
