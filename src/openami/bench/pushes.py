"""Benchmark frames: one ciphered block-load push of eight columns per meter, a key per meter, in wrapper frames as the journal holds them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..cosem.axdr import Tag
from ..cosem.bulk import KeyTable
from ..cosem.bulk_cipher import Bytes
from ..cosem.bulk_template import Template, from_layout
from ..cosem.clock import CosemDateTime
from ..cosem.push import Column, PushLayout
from ..readings import CHANNELS, Calendar, Int64

CALENDAR = Calendar()
DAY = date(2026, 11, 1)
DEVICE_ID_BYTES = 8
COLUMNS = (
    Column("0.0.1.0.0.255", 2, Tag.OCTET_STRING, 0, ""),
    Column("1.0.12.27.0.255", 2, Tag.LONG_UNSIGNED, -1, "V"),
    Column("1.0.1.29.0.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 0, "Wh"),
    Column("1.0.9.29.0.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 0, "VAh"),
    Column("1.0.2.29.0.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 0, "Wh"),
    Column("1.0.10.29.0.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 0, "VAh"),
    Column("1.0.11.27.0.255", 2, Tag.LONG_UNSIGNED, -2, "A"),
    Column("0.0.96.10.1.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 0, ""),
)
LAYOUT = PushLayout("BENCH", "BENCH", "0.5.25.9.0.255", COLUMNS, "rows")


@dataclass(frozen=True, slots=True)
class Batch:
    """buffer, offsets: the frames, as `BulkDecoder.decode` takes them; wh: int64 [meter], the import reading that each frame carries;
    order: int64 [frame], the meter that sent it."""

    buffer: Bytes
    offsets: Int64
    keys: KeyTable
    wh: Int64
    order: Int64


def batch(meters: int, security_control: int, in_meter_order: bool, seed: int = 0) -> Batch:
    """A frame from each of `meters` meters, the slots of the day in turn, in the meters' order or (as frames arrive) in any."""
    rng = np.random.default_rng(seed)
    template = from_layout(LAYOUT, DEVICE_ID_BYTES)
    plain, wh = _plain(template, meters, rng)
    ek, ak = (rng.integers(0, 256, (meters, 16), dtype=np.uint8) for _ in range(2))
    titles = np.zeros((meters, 8), np.uint8)
    titles[:, :3] = np.frombuffer(b"XMB", np.uint8)
    titles[:, 4:] = np.arange(meters, dtype=">u4").view(np.uint8).reshape(meters, 4)
    order = np.arange(meters) if in_meter_order else rng.permutation(meters)
    frames = [_sealed(plain[m].tobytes(), titles[m].tobytes(), ek[m].tobytes(), ak[m].tobytes(), security_control) for m in order]
    keys = KeyTable(titles, ek, ak, np.full(meters, security_control, np.uint8), np.zeros(meters, np.int32))
    offsets = np.cumsum([0, *map(len, frames)]).astype(np.int64)
    return Batch(np.frombuffer(bytearray(b"".join(frames)), np.uint8), offsets, keys, wh, order)


def _plain(template: Template, meters: int, rng: np.random.Generator) -> tuple[Bytes, Int64]:
    """Plain data-notifications uint8 [meter, byte], written by the template's places, and their import readings."""
    plain = np.tile(template.pattern, (meters, 1))
    clocks = b"".join(CosemDateTime.from_stamp(CALENDAR.stamp(DAY, slot)).encode() for slot in range(48))
    stamps = np.frombuffer(clocks, np.uint8).reshape(48, 12)[np.arange(meters) % 48]
    plain[:, template.stamp_at[0] : template.stamp_at[0] + 12] = stamps
    wh = rng.integers(0, 900, meters)
    for field in template.fields:
        last = field.at + (4 if field.kind == 5 else 2)
        number = wh if field.channel == CHANNELS[0].name else rng.integers(0, 2400, meters)
        plain[:, last - 2 : last] = number.astype(">u2").view(np.uint8).reshape(meters, 2)
    return plain, wh.astype(np.int64)


def _sealed(plain: bytes, title: bytes, ek: bytes, ak: bytes, control: int) -> bytes:
    """As `ciphering.seal` and `wrapper.wrap` write it, without their checks."""
    head = bytes((control,)) + (7).to_bytes(4, "big")
    tagged = bool(control & 0x10)
    body = AESGCM(ek).encrypt(title + head[1:], plain, head[:1] + ak if tagged else None)[: len(plain) + 12 * tagged]
    size = len(head) + len(body)
    apdu = b"\xdb\x08" + title + (bytes((size,)) if size < 128 else b"\x81" + bytes((size,))) + head + body
    return struct.pack(">HHHH", 1, 1, 64, len(apdu)) + apdu
