"""Single rows out of files that are read once: the first of a key, of the version that was asked for, however little may be kept."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import DataError
from openami.store.blocks import write_rows
from openami.store.kept import KeptRows
from openami.store.lake import Lake

DAY = date(2025, 12, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@given(
    keys=st.lists(st.text(st.characters(categories=["L", "N"]), max_size=3), max_size=20), in_order=st.booleans(), asked=st.text(max_size=3)
)
def test_the_first_row_of_a_key_is_found_in_order_or_not(folder: Path, keys: list[str], in_order: bool, asked: str) -> None:
    held = sorted(keys) if in_order else keys
    path = folder / f"{abs(hash((tuple(held), asked)))}.parquet"
    write_rows(path, [pa.table({"account": pa.array(held, pa.string()), "paise": pa.array(range(len(held)), pa.int64())})])
    found = KeptRows()
    for name in {*held, asked}:
        expected = {"paise": held.index(name)} if name in held else None
        assert found.row(str(path), "account", name, ["paise"]) == expected
    path.unlink()


def test_long_texts_that_are_kept_as_one_of_each_read_as_they_are(folder: Path) -> None:
    path, told = folder / "reasons.parquet", [None if k % 7 == 0 else f"reason {k % 3}" for k in range(30)]
    rows = pa.table({"account": [f"{k:02d}" for k in range(30)], "reasons": told})
    pq.write_table(rows, path, row_group_size=10, write_page_checksum=True)  # three dictionaries in one file
    kept = KeptRows()
    assert [kept.row(str(path), "account", f"{k:02d}", ("reasons",)) for k in range(30)] == [{"reasons": one} for one in told]


def test_what_is_too_much_is_let_go_and_read_again(folder: Path) -> None:
    paths = [folder / f"{k}.parquet" for k in range(3)]
    for k, path in enumerate(paths):
        write_rows(path, [pa.table({"account": ["a"], "paise": pa.array([k], pa.int64())})])
    kept = KeptRows(most_bytes=1)
    for _ in range(2):
        assert [kept.row(str(path), "account", "a", ["paise"]) for path in paths] == [{"paise": 0}, {"paise": 1}, {"paise": 2}]
    assert len(kept._files) == 1


def test_a_row_is_of_the_version_that_was_asked_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.row("t", DAY, 0, "a", ["paise"]) is None
    first = lake.replace("t", DAY, 0, pa.table({"account": ["a"], "paise": pa.array([1], pa.int64())}))
    assert lake.row("t", DAY, 0, "a", ["paise"]) == {"paise": 1}
    lake.replace("t", DAY, 0, pa.table({"account": ["a", "b"], "paise": pa.array([2, 3], pa.int64())}))
    assert [lake.row("t", DAY, 0, name, ["paise", "nothing"]) for name in "abc"] == [{"paise": 2}, {"paise": 3}, None]
    assert [lake.row("t", DAY, 0, name, ["paise"], first) for name in "ab"] == [{"paise": 1}, None]
    assert lake.row("t", DAY, 1, "a", ["paise"]) is None


def test_a_row_asked_for_in_passing_is_the_same_and_nothing_of_it_is_kept(folder: Path) -> None:
    path, accounts = folder / "groups.parquet", [f"{k:02d}" for k in range(30)]
    rows = pa.table({"account": accounts, "paise": pa.array(range(30), pa.int64()), "held": [k == 7 for k in range(30)]})
    pq.write_table(rows, path, row_group_size=7, write_page_checksum=True)
    kept = KeptRows()
    found = [kept.passing(str(path), "account", number, ("paise", "held", "of another time")) for number in (*accounts, "30")]
    assert found == [*({"paise": k, "held": k == 7} for k in range(30)), None]
    assert not kept._files
    assert kept.row(str(path), "account", "07", ("paise",)) == kept.passing(str(path), "account", "07", ("paise",)) == {"paise": 7}
    path.write_bytes(b"no rows")
    with pytest.raises(DataError, match="cannot be read"):
        kept.passing(str(path), "account", "07", ("paise", "held"))
