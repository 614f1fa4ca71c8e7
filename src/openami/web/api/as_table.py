"""Readings as a table that leaves piece by piece: an Arrow IPC stream, or CSV.

What always holds: both forms are made of the same batches, `end` (UTC), `value` (null = none) and `quality` (bits), behind `meter` where they are of
many; a piece is some thousand rows, and nothing is kept of those that have left.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from ...readings import MISSING, Channel, Int32, Quality, UInt32

ARROW, CSV = "application/vnd.apache.arrow.stream", "text/csv; charset=utf-8"
FORMS = {"text/csv": "csv", ARROW: "arrow"}
WORDS = {int(bit): str(bit.name).lower() for bit in Quality if bit}
PIECE_ROWS = 32_768
_PLAIN = pcsv.WriteOptions(include_header=False, quoting_style="none")


def quality_words(bits: int) -> list[str]:
    return [word for bit, word in WORDS.items() if bits & bit]


def success(what: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer in these forms, beside JSON."""
    content = {"text/csv": {"schema": {"type": "string"}}, ARROW: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": what, "content": content}}


def schema_of(channel: Channel, meter: str = "") -> pa.Schema:
    """meter: whose readings they are; "" = many meters', each row with its own."""
    about = ({"meter": meter} if meter else {}) | {"channel": channel.name, "unit": channel.unit, "scaler": str(channel.scaler)}
    fields = [
        pa.field("end", pa.timestamp("s", "UTC")),
        pa.field("value", pa.int32(), metadata=about),
        pa.field("quality", pa.uint32()),
    ]
    return pa.schema(fields if meter else [pa.field("meter", pa.dictionary(pa.int32(), pa.string())), *fields])


def batch_of(
    schema: pa.Schema, ends: npt.NDArray[np.int64], values: Int32, quality: UInt32, meters: pa.DictionaryArray | None = None
) -> pa.RecordBatch:
    """All of one length; ends: UTC seconds."""
    columns = [pa.array(ends).cast(pa.timestamp("s", "UTC")), pa.array(values, mask=values == MISSING), pa.array(quality)]
    return pa.record_batch(columns if meters is None else [meters, *columns], schema=schema)


def arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def csv(schema: pa.Schema, channel: Channel, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """interval_end in UTC; value in the channel's unit x 10^scaler, empty = none; lines end as RFC 4180 has them."""
    named = "meter," if "meter" in schema.names else ""
    yield f"{named}interval_end,{channel.name}_e{channel.scaler},quality\r\n".encode()
    for batch in batches:
        columns = {name: batch.column(name) for name in schema.names}
        ends, bits = (columns[name].dictionary_encode() for name in ("end", "quality"))
        columns["end"] = pc.strftime(ends.dictionary.cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%SZ").take(ends.indices)
        words = pa.array([" ".join(quality_words(one)) for one in bits.dictionary.to_pylist()], pa.string())
        columns["quality"] = words.take(bits.indices)
        if named:
            columns["meter"] = columns["meter"].cast(pa.string())
        sink = io.BytesIO()
        pcsv.write_csv(pa.table(columns), sink, _PLAIN)
        yield sink.getvalue().replace(b"\n", b"\r\n")


def begun(pieces: Iterator[Any]) -> Iterator[Any]:
    """The same, its first piece made already: what cannot be read is a problem then, and not an answer that breaks off."""
    return chain([first for first in [next(pieces, None)] if first is not None], pieces)
