"""One row group read alone is what the whole file says of it, and the file stays Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.store.groups import GroupFile, write_indexed


def _table(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, 5000, rng.integers(0, 6)).tolist() if rng.random() > 0.2 else None for _ in range(rows)]
    return pa.table({"meter": pa.array(range(rows), pa.int32()), "values": pa.array(values, pa.list_(pa.int32()))}).replace_schema_metadata(
        {b"about": b"a part"}
    )


def _write(table: pa.Table, size: int):
    return lambda sink: pq.write_table(table, sink, row_group_size=size, compression="lz4", write_page_checksum=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("groups")


@given(rows=st.integers(1, 90), size=st.integers(1, 7), seed=st.integers(0, 9), indexed=st.booleans())
def test_a_group_alone_is_the_group_in_the_file(folder, rows, size, seed, indexed):
    table, path = _table(rows, seed), Path(folder) / "part.parquet"
    if indexed:
        write_indexed(path, _write(table, size))
    else:
        _write(table, size)(path)
    whole, alone = pq.ParquetFile(path), GroupFile(str(path))
    assert whole.read().equals(table)
    assert alone.groups == whole.num_row_groups
    assert alone.metadata[b"about"] == b"a part"
    for group in {0, alone.groups // 2, alone.groups - 1}:
        assert alone.rows(group) == whole.metadata.row_group(group).num_rows
        assert alone.read(group, ["meter", "values.list.element"]).to_pydict() == whole.read_row_group(group).to_pydict()


def test_a_group_is_found_without_the_others_being_looked_at(tmp_path):
    path = tmp_path / "part.parquet"
    write_indexed(path, _write(_table(40, 1), 4))
    octets, whole = bytearray(path.read_bytes()), pq.ParquetFile(path).read_row_group(9)
    length = int.from_bytes(octets[-8:-4], "little")
    first = GroupFile(str(path))._places[1:3] + len(octets) - 8 - length
    octets[first[0] : first[1]] = bytes(int(first[1] - first[0]))  # what the footer says of the first group is gone
    path.write_bytes(octets)
    assert GroupFile(str(path)).read(9, ["meter"])["meter"].equals(whole["meter"])


@pytest.mark.parametrize("octets", [b"", b"PAR1", b"no Parquet at all, but long enough"])
def test_what_is_no_parquet_file_is_said(tmp_path, octets):
    path = tmp_path / "part.parquet"
    path.write_bytes(octets)
    with pytest.raises((OSError, pa.ArrowException)):
        GroupFile(str(path))
