"""Long APDUs in pieces: the general block transfer of both directions (Green Book 9.4.6.13; IEC 62056-5-3).

A sender numbers its pieces from 1 and sends a window of them: all but the last of the window are "streaming", then it waits for the
peer's acknowledgement, which names the last piece received in sequence; what is behind it is sent again. A receiver takes pieces in
sequence only. Both are bounded: a transfer longer than the limit is refused.
"""

from __future__ import annotations

from ..errors import MeterError, RequestError
from .apdu import GeneralBlock

MAX_LONG_BYTES = 4 * 1024 * 1024
"""The longest reassembled parameter or APDU that is taken from a peer."""
GENERAL_HEADER_BYTES = 9


def cut(raw: bytes, size: int) -> list[bytes]:
    """`raw` in pieces of at most `size` bytes; one empty piece for nothing."""
    if size < 1:
        raise RequestError("the negotiated APDU size leaves no room for a block; negotiate a larger one")
    return [raw[k : k + size] for k in range(0, len(raw), size)] or [b""]


class LongValue:
    """A long parameter of GET, SET or ACTION put together from its service-specific blocks, numbered from 1."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self.number = 0

    def take(self, number: int, raw: bytes) -> None:
        """The next block; MeterError where it is not the next one or the whole grows too long."""
        if number != self.number + 1:
            raise MeterError(f"block {number} came where block {self.number + 1} is due")
        if len(self._raw) + len(raw) > MAX_LONG_BYTES:
            raise MeterError(f"a long parameter grows beyond {MAX_LONG_BYTES} bytes")
        self.number = number
        self._raw += raw

    def whole(self) -> bytes:
        return bytes(self._raw)


class GeneralSender:
    """Sends one APDU in general blocks of at most `apdu_bytes` each."""

    def __init__(self, apdu: bytes, apdu_bytes: int) -> None:
        self._pieces = cut(apdu, apdu_bytes - GENERAL_HEADER_BYTES)
        if len(self._pieces) > 0xFFFF:
            raise RequestError(f"an APDU of {len(apdu)} bytes needs more than 65535 blocks; negotiate a larger APDU size")
        self._sent = 0

    def window(self, peer_window: int, acknowledged: int, own_acknowledged: int, own_window: int) -> list[GeneralBlock]:
        """The blocks to send now. peer_window: how many the peer takes; acknowledged: the last one it has, 0 at the start.

        MeterError where it acknowledges what was not sent.
        """
        if acknowledged > self._sent:
            raise MeterError(f"block {acknowledged} is acknowledged but only {self._sent} were sent")
        first = acknowledged + 1
        last = min(len(self._pieces), acknowledged + max(1, peer_window))
        self._sent = last
        blocks = []
        for number in range(first, last + 1):
            ends = number == len(self._pieces)
            blocks.append(GeneralBlock(ends, number < last, own_window, number, own_acknowledged, self._pieces[number - 1]))
        return blocks

    @property
    def number(self) -> int:
        """The last block sent."""
        return self._sent


class GeneralReceiver:
    """Puts one APDU together from general blocks."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self.acknowledged = 0

    def take(self, block: GeneralBlock) -> bytes | None:
        """The whole APDU with its last block in sequence, else None; pieces out of sequence are left to be sent again."""
        if block.number != self.acknowledged + 1:
            return None
        if len(self._raw) + len(block.data) > MAX_LONG_BYTES:
            raise MeterError(f"a general block transfer grows beyond {MAX_LONG_BYTES} bytes")
        self.acknowledged = block.number
        self._raw += block.data
        return bytes(self._raw) if block.last else None
