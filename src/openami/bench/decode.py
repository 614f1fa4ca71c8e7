"""`decode`: ciphered push frames of eight columns, a key per meter, to the day grids of six channels; 0x20, and 0x30 with its tag verified.

Everything from the bytes of the wrapper frames on is in the figure: finding the meter, deciphering, template, replay check, scatter.
The peer is this project's own general decoder, a frame at a time: `cryptography` for AES-GCM, general A-XDR, `read_push`.
"""

from __future__ import annotations

from collections.abc import Iterator

import cryptography
import numpy as np

from ..cosem import ciphering, wrapper
from ..cosem.bulk import CHANNEL_NAMES, BulkDecoder, scatter
from ..cosem.ciphering import Keys
from ..cosem.notification import DataNotification
from ..cosem.push import read_push
from ..readings import MISSING, Int32
from . import Line, line, median_seconds, memory
from .pushes import CALENDAR, DAY, DEVICE_ID_BYTES, LAYOUT, Batch, batch

METERS = 300_000
PEER_FRAMES = 5_000


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    """Lines of the bench, one frame per meter: "0x20" and "0x30" with frames in any order, as they arrive, then in the meters' order."""
    for control in (0x20, 0x30):
        for in_meter_order in (False, True):
            frames = batch(meters, control, in_meter_order)
            grid = np.empty((len(CHANNEL_NAMES), 48, meters), np.int32)
            took_s = _bulk(frames, grid, threads, True)
            _check(frames, grid)
            mode = f"0x{control:02x}" + (" in the meters' order" if in_meter_order else "")
            yield line(
                "decode", "frames_per_s", meters / took_s, "frames/s", meters, mode=mode, bytes_per_frame=len(frames.buffer) / meters
            )
        if peers:
            yield from _peers(min(meters, PEER_FRAMES), control, threads)
    yield memory("decode", meters)


def _peers(meters: int, control: int, threads: int) -> Iterator[Line]:
    part = batch(meters, control, False)
    grid = np.empty((len(CHANNEL_NAMES), 48, meters), np.int32)
    took_s = _bulk(part, grid, threads, False)
    _check(part, grid)
    ways = {"OpenAMI without libcrypto's functions": took_s}
    ways[f"general decoder, cryptography {cryptography.__version__}"] = median_seconds(lambda: _one_by_one(part), 3)
    for peer, took_s in ways.items():
        yield line("decode", "frames_per_s", meters / took_s, "frames/s", meters, peer=peer, mode=f"0x{control:02x}")


def _bulk(frames: Batch, grid: Int32, threads: int, use_libcrypto: bool) -> float:
    """Seconds for a batch into `grid`. A decoder of its own for each repetition, for a counter is taken once; making it is not in the figure."""
    spare = [BulkDecoder([LAYOUT], frames.keys, use_libcrypto=use_libcrypto) for _ in range(6)]
    for decoder in spare:
        decoder.expect(0, DEVICE_ID_BYTES)
    column = np.arange(frames.keys.meters, dtype=np.int32)
    grid.fill(MISSING)

    def once() -> None:
        result = spare.pop().decode(frames.buffer, frames.offsets, threads=threads)
        scatter(result, column, CALENDAR.day_start(DAY), CALENDAR.interval_s, grid, threads=threads)

    return median_seconds(once, 5)


def _check(frames: Batch, grid: Int32) -> None:
    meters = np.arange(frames.keys.meters)
    if not np.array_equal(grid[0, meters % 48, meters], frames.wh) or int((grid != MISSING).sum()) != len(CHANNEL_NAMES) * len(meters):
        raise RuntimeError("the grid does not hold what the frames carry: a figure would be of no worth")


def _one_by_one(frames: Batch) -> int:
    """The session path: every frame through the general decoder."""
    keys, rows = frames.keys, 0
    for k, m in enumerate(frames.order):
        frame = wrapper.unwrap(frames.buffer[frames.offsets[k] : frames.offsets[k + 1]].tobytes())[0]
        plain = ciphering.open_sealed(ciphering.parse_sealed(frame.apdu), Keys(keys.ek[m].tobytes(), keys.ak[m].tobytes()))
        rows += len(read_push(LAYOUT, DataNotification.decode(plain).body).rows)
    return rows
