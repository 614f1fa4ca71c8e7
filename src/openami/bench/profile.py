"""`profile`: a full day's profile responses (48 rows of 8 columns, plain get-response-normal) to rows of readings.

The peer is this project's own general decoder, a response at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..cosem.axdr import Tag, decode
from ..cosem.bulk import BulkResult, Verdict, decode_profiles
from ..cosem.bulk_cipher import Bytes
from ..cosem.bulk_template import Template, learn_profile
from ..cosem.clock import CosemDateTime
from ..readings import Int64
from . import Line, line, median_seconds, memory
from .pushes import CALENDAR, COLUMNS, DAY

METERS = 50_000
ROWS = 48
PEER_RESPONSES = 500


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    """Lines of the bench: a day's response from each of `meters` meters."""
    example = _response()
    template = learn_profile(COLUMNS, example)
    responses = _responses(template, meters)
    offsets = np.arange(meters + 1, dtype=np.int64) * len(example)
    found: list[BulkResult] = []

    def once() -> None:
        found[:] = [decode_profiles(template, responses.reshape(-1), offsets, threads=threads)]

    took_s = median_seconds(once)
    if (found[0].verdict != Verdict.TAKEN).any() or len(found[0].frame) != meters * ROWS:
        raise RuntimeError("not every profile response was read: a figure would be of no worth")
    yield line("profile", "rows_per_s", meters * ROWS / took_s, "rows/s", meters * ROWS, columns=len(COLUMNS))
    if peers:
        few = [responses[k].tobytes() for k in range(min(meters, PEER_RESPONSES))]
        took_s = median_seconds(lambda: sum(len(decode(one, 4)[0].value) for one in few), 3)
        n = len(few) * ROWS
        yield line("profile", "rows_per_s", n / took_s, "rows/s", n, peer="general A-XDR decoder, without stamps and channels")
    yield memory("profile", meters * ROWS)


def _response() -> bytes:
    """A get-response-normal with a day's buffer, its numbers zero."""
    width = {Tag.LONG_UNSIGNED: 2, Tag.DOUBLE_LONG_UNSIGNED: 4}
    out = bytearray(b"\xc4\x01\xc1\x00\x01") + bytes((ROWS,))
    for slot in range(ROWS):
        out += bytes((Tag.STRUCTURE, len(COLUMNS), Tag.OCTET_STRING, 12)) + CosemDateTime.from_stamp(CALENDAR.stamp(DAY, slot)).encode()
        for column in COLUMNS[1:]:
            out += bytes((column.tag,)) + bytes(width[column.tag])
    return bytes(out)


def _responses(template: Template, meters: int) -> Bytes:
    """uint8 [meter, byte], with numbers of their own."""
    rng = np.random.default_rng(0)
    responses = np.tile(template.pattern, (meters, 1))
    numbers: Int64 = rng.integers(0, 2400, (len(template.fields), meters))
    for field, number in zip(template.fields, numbers, strict=True):
        last = field.at + (4 if field.kind == 5 else 2)
        responses[:, last - 2 : last] = number.astype(">u2").view(np.uint8).reshape(meters, 2)
    return responses
