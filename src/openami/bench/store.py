"""`store`: validated day blocks from memory into the lake, with their quality, checksums, fsync and the commit.

`bytes_per_reading` is the size of the readings' file; the sparse quality comes beside it. The peers write the same readings, synced too: DuckDB
and Polars as the data frame of their users has them (long rows; a column per slot), zstd as we have it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..readings import DayBlock
from ..store.blocks import block_to_table
from ..store.lake import Lake
from . import Line, beside, is_there, line, median_seconds, memory
from .shards import DAY, empty_lake, validated_shards

METERS = 1_048_576
PEER_METERS = 131_072


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    blocks = validated_shards(meters)
    readings = sum(block.values.size for block in blocks)
    with empty_lake() as lake:
        took_s = median_seconds(lambda: write_day(lake, blocks, threads))
        own = line("store", "readings_per_s", readings / took_s, "readings/s", readings)
        yield own
        for table, of in (("validated", "readings"), ("validated_quality", "quality")):
            size = sum(Path(path).stat().st_size for paths in lake.files(table, DAY).values() for path in paths)
            yield line("store", "bytes_per_reading", size / readings, "bytes", readings, of=of)
        yield memory("store", readings)
        if peers:
            yield from _peers(own, blocks[0], lake.root)


def write_day(lake: Lake, blocks: list[DayBlock], threads: int) -> None:
    """Shards side by side, one commit for all."""
    with lake.draft(DAY) as draft, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda block: draft.write_blocks("validated", [block]), blocks))
        draft.commit()


def _peers(own: Line, block: DayBlock, folder: Path) -> Iterator[Line]:
    part = DayBlock(block.day, 0, block.channel, np.ascontiguousarray(block.values[:, :PEER_METERS]), block.quality[:, :PEER_METERS])
    wide = block_to_table(part).drop_columns("channel")
    path = folder / "peer.parquet"
    ways: dict[str, tuple[str, Callable[[], object]]] = {}
    if is_there("duckdb"):
        import duckdb

        connection = duckdb.connect()
        connection.register("wide", wide)
        connection.register("long", _long_rows(part))
        copy = f"copy (select * from {{}}) to '{path}' (format parquet, compression zstd)"  # noqa: S608
        ways[f"duckdb {duckdb.__version__}"] = "a column per slot", lambda: connection.execute(copy.format("wide"))
        ways[f"duckdb  {duckdb.__version__}"] = "long rows", lambda: connection.execute(copy.format("long"))
    if is_there("polars"):
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(wide))
        ways[f"polars {pl.__version__}"] = "a column per slot", lambda: frame.write_parquet(path, compression="zstd")
    for peer, (mode, write) in ways.items():
        took_s = median_seconds(lambda write=write: _synced(write, path), 3)  # type: ignore[misc]
        yield from beside(own, " ".join(peer.split()), part.values.size / took_s, n=part.values.size, mode=mode)
        size = path.stat().st_size / part.values.size
        yield line("store", "bytes_per_reading", size, "bytes", part.values.size, peer=" ".join(peer.split()), mode=mode)


def _synced(write: Callable[[], object], path: Path) -> None:
    write()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _long_rows(block: DayBlock) -> pa.Table:
    """meter, slot, wh."""
    wide = block_to_table(block)
    slots, meters = block.values.shape
    wh = pa.concat_arrays([chunk for name in wide.column_names[2:] for chunk in wide[name].chunks])
    slot = np.repeat(np.arange(slots, dtype=np.int16), meters)
    return pa.table({"meter": np.tile(np.arange(meters, dtype=np.int32), slots), "slot": slot, "wh": wh})
