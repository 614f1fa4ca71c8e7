"""Frames with system titles in their places, for tests that do not decode them."""

from __future__ import annotations

import numpy as np

from openami.registry import Meter

SHARDS = 3


def meters(count: int = 30) -> list[Meter]:
    return [Meter(f"M{k:04d}", title(k), "XMA", "XMA-1P", k % SHARDS, k // SHARDS, 0x20, 1) for k in range(count)]


def title(number: int) -> bytes:
    return b"XMA" + number.to_bytes(5, "big")


def frame(number: int, content: bytes) -> bytes:
    apdu = b"\xdb\x08" + title(number) + bytes((5 + len(content),)) + b"\x20\0\0\0\1" + content
    return b"\0\1\0\1\0\x40" + len(apdu).to_bytes(2, "big") + apdu


def many(count: int, seed: int = 0, of_meters: int = 30) -> list[bytes]:
    """Frames of any of the meters, every one different."""
    rng = np.random.default_rng(seed)
    return [frame(int(rng.integers(of_meters)), k.to_bytes(4, "big") + seed.to_bytes(4, "big") + rng.bytes(80)) for k in range(count)]
