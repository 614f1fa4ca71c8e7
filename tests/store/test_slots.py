"""Files of day blocks by our own writer: others read from them what Arrow's writer would have put there."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openami.errors import DataError
from openami.readings import EXPORT_WH, IMPORT_WH, MISSING, Channel, DayBlock, Int32
from openami.store.blocks import PAGE_ROWS, BlockFile, block_to_table, blocks_to_table, plain_schema, write_rows
from openami.store.slots import slot_schema, write_slots

DAY = date(2025, 12, 1)
NOISY = PAGE_ROWS + 13


def block(values: Int32, channel: Channel = IMPORT_WH) -> DayBlock:
    return DayBlock(DAY, 0, channel, values, np.zeros(values.shape, np.uint32))


def written(blocks: list[DayBlock]) -> bytes:
    stream = io.BytesIO()
    write_slots(stream, blocks)
    return stream.getvalue()


@pytest.fixture(scope="module")
def noisy() -> list[DayBlock]:
    """Two channels of more than a row group: noise, with gaps, without gaps, nothing at all, zeros, and large and negative numbers."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 5000, (5, NOISY)).astype(np.int32)
    values[0, rng.random(NOISY) < 0.02] = MISSING
    values[2], values[3] = MISSING, 0
    values[4] = rng.integers(-(2**31) + 1, 2**31, NOISY)
    return [block(values), block(np.ascontiguousarray(values[::-1]), EXPORT_WH)]


@pytest.fixture(scope="module")
def file(noisy: list[DayBlock], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slots") / "noisy.parquet"
    write_slots(path, noisy)
    return path


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        st.tuples(st.integers(1, 4), st.integers(1, 700)),
        elements=st.one_of(st.integers(-300, 300), st.integers(-(2**31), 2**31 - 1)),
        fill=st.just(int(MISSING)),
    )
)
def test_any_block_comes_back_as_its_rows(values: Int32) -> None:
    blocks = [block(values), block(values, EXPORT_WH)]
    expected = blocks_to_table(blocks)
    found = pq.read_table(pa.BufferReader(written(blocks)), page_checksum_verification=True)
    assert found.schema == plain_schema(expected.schema) == slot_schema(len(values))
    assert found.to_pydict() == expected.to_pydict()


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        st.tuples(st.integers(1, 3), st.sampled_from([1, 7, 8, 9, 64, 65, 701])),
        elements=st.one_of(st.just(int(MISSING)), st.integers(-300, 300), st.integers(-(2**31), 2**31 - 1)),
    )
)
def test_any_block_comes_back_as_itself(tmp_path_factory: pytest.TempPathFactory, values: Int32) -> None:
    path = tmp_path_factory.mktemp("any") / "block.parquet"
    write_slots(path, [block(values), block(values[::-1], EXPORT_WH)])
    opened = BlockFile(path)
    np.testing.assert_array_equal(opened.values(IMPORT_WH.name), values)
    np.testing.assert_array_equal(opened.values(EXPORT_WH.name), values[::-1])


def by_another_writer(blocks: list[DayBlock], path: Path) -> Path:
    write_rows(path, [block_to_table(one) for one in blocks])
    return path


@pytest.mark.parametrize("ours", [True, False])
def test_a_channel_comes_back_as_its_block(noisy: list[DayBlock], file: Path, tmp_path: Path, ours: bool) -> None:
    opened = BlockFile(file if ours else by_another_writer(noisy, tmp_path / "arrows.parquet"))
    assert opened.channels == [IMPORT_WH.name, EXPORT_WH.name]
    for one in noisy:
        np.testing.assert_array_equal(opened.values(one.channel.name), one.values)
        parts = list(opened.parts(one.channel.name))
        assert [part.first for part in parts] == [0, PAGE_ROWS]
        np.testing.assert_array_equal(np.hstack([np.stack(part.columns) for part in parts]), one.values)


def test_duckdb_and_polars_read_every_value(noisy: list[DayBlock], file: Path) -> None:
    expected = blocks_to_table(noisy).cast(slot_schema(5))
    with duckdb.connect() as connection:
        found = connection.sql(f"select * from '{file}' order by channel desc, meter").to_arrow_table()
    assert found.cast(slot_schema(5)).equals(expected)
    assert pl.read_parquet(file).equals(pl.DataFrame(pl.from_arrow(expected)))


def test_noise_is_stored_and_gaps_cost_little(noisy: list[DayBlock], file: Path) -> None:
    group = pq.ParquetFile(file).metadata.row_group(0)
    of = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    assert of["s01"].total_compressed_size < 1.7 * PAGE_ROWS
    assert of["s00"].total_compressed_size < of["s01"].total_compressed_size + 0.02 * PAGE_ROWS
    assert of["s02"].total_compressed_size < 1000
    assert of["s03"].total_compressed_size < 1000


@pytest.mark.parametrize("part", range(1, 24))
def test_one_octet_that_changed_is_found(noisy: list[DayBlock], file: Path, tmp_path: Path, part: int) -> None:
    """Anywhere among the pages: in a value, a mask, a header or a meter's number."""
    octets = bytearray(file.read_bytes())
    pages = pq.ParquetFile(file).metadata.row_group(part % 4).column(1 + part % 6)
    octets[pages.data_page_offset + part * (pages.total_compressed_size - 1) // 24] ^= 0x10
    path = tmp_path / "changed.parquet"
    path.write_bytes(octets)
    with pytest.raises(DataError, match=r"changed.parquet cannot be read"):
        [BlockFile(path).values(one.channel.name) for one in noisy]


def test_a_page_that_says_other_numbers_of_values_than_its_row_group_is_refused(tmp_path: Path) -> None:
    """Two files' pages put together, each right in itself."""
    path = tmp_path / "mixed.parquet"
    write_slots(path, [block(np.arange(20, dtype=np.int32).reshape(2, 10))])
    octets = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(2)
    other = written([block(np.arange(18, dtype=np.int32).reshape(2, 9))])
    theirs = pq.ParquetFile(pa.BufferReader(other)).metadata.row_group(0).column(2)
    page = other[theirs.data_page_offset : theirs.data_page_offset + theirs.total_compressed_size]
    assert len(page) <= column.total_compressed_size
    octets[column.data_page_offset : column.data_page_offset + len(page)] = page
    path.write_bytes(octets)
    with pytest.raises(DataError, match=r"mixed.parquet cannot be read .*column 2 in row group 0"):
        BlockFile(path).values(IMPORT_WH.name)
