"""Room for the large arrays of a shard, used again for the next one: clearing fresh pages would cost as much as the work on them.

What always holds: an array is handed out again only for the same name, so whatever is still in use must have another name; what lies in it
at first is whatever was there before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..readings import Int32, UInt32


class Buffers:
    """One worker's arrays by name. Not for two threads at once."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[np.uint8]] = {}

    def int32(self, name: str, shape: tuple[int, int]) -> Int32:
        """An int32 array of `shape` with any content."""
        return self._take(name, shape).view(np.int32).reshape(shape)

    def uint32(self, name: str, shape: tuple[int, int]) -> UInt32:
        """A uint32 array of `shape` with any content."""
        return self._take(name, shape).view(np.uint32).reshape(shape)

    def _take(self, name: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        octets = 4 * shape[0] * shape[1]
        held = self._held.get(name)
        if held is None or held.size < octets:
            held = self._held[name] = np.empty(octets, np.uint8)
        return held[:octets]
