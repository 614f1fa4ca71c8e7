"""HDLC frames as DLMS uses them (IEC 62056-46, frame format type 3): addresses, checks, and the frames in a byte stream.

Between flags 0x7E: format and length (2), destination, source, control, header check (2, only in front of information), information,
frame check (2). The length counts everything between the flags. What always holds: a frame whose checks do not hold is passed over and
counted, as the standard wants; the search goes on with the next flag, so garbage between frames costs only itself.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import MeterError, RequestError

FLAG = 0x7E
_ESCAPE = 0x7D
MAX_FRAME_BYTES = 0x7FF

SNRM = 0x83
UA = 0x63
DISC = 0x43
DM = 0x0F
FRMR = 0x87
UI = 0x03
RR = 0x01
RNR = 0x05
REJ = 0x09
POLL_FINAL = 0x10

LLC_COMMAND = b"\xe6\xe6\x00"
LLC_RESPONSE = b"\xe6\xe7\x00"


class Address(NamedTuple):
    """An HDLC address: upper (client, or server's logical device), lower (server's physical device, None in one byte), bytes on the wire."""

    upper: int
    lower: int | None = None
    size: int = 1

    def encode(self) -> bytes:
        lower = self.lower or 0
        if self.size == 1 and self.upper < 0x80 and self.lower is None:
            return bytes((self.upper << 1 | 1,))
        if self.size == 2 and self.upper < 0x80 and lower < 0x80:
            return bytes((self.upper << 1, lower << 1 | 1))
        if self.size == 4 and self.upper < 0x4000 and lower < 0x4000:
            return bytes((self.upper >> 7 << 1, (self.upper & 0x7F) << 1, lower >> 7 << 1, (lower & 0x7F) << 1 | 1))
        raise RequestError(f"HDLC address {self.upper}/{self.lower} does not fit {self.size} byte(s); 1, 2 or 4 are allowed")

    @staticmethod
    def decode(octets: bytes, at: int) -> tuple[Address, int]:
        """The address at `at` and the offset behind it. MeterError for a length other than 1, 2 or 4 bytes."""
        end = at
        while end < len(octets) and not octets[end] & 1:
            end += 1
        end += 1
        if end > len(octets):
            raise MeterError("an HDLC address is cut short")
        size = end - at
        parts = [octet >> 1 for octet in octets[at:end]]
        if size == 1:
            return Address(parts[0]), end
        if size == 2:
            return Address(parts[0], parts[1], 2), end
        if size == 4:
            return Address(parts[0] << 7 | parts[1], parts[2] << 7 | parts[3], 4), end
        raise MeterError(f"an HDLC address has 1, 2 or 4 bytes, not {size}")

    def same(self, other: Address) -> bool:
        """The same station, however many bytes were used to write it; a lower address that is not given is any."""
        return self.upper == other.upper and (self.lower is None or other.lower is None or self.lower == other.lower)


class Frame(NamedTuple):
    """One frame. segmented: more of this information follows in the next frame."""

    destination: Address
    source: Address
    control: int
    information: bytes = b""
    segmented: bool = False

    def encode(self) -> bytes:
        """With its flags and checks."""
        addresses = self.destination.encode() + self.source.encode()
        length = 2 + len(addresses) + 1 + 2 + (len(self.information) + 2 if self.information else 0)
        if length > MAX_FRAME_BYTES:
            raise RequestError(f"an HDLC frame of {length} bytes is too long (at most {MAX_FRAME_BYTES})")
        body = (0xA000 | self.segmented << 11 | length).to_bytes(2, "big") + addresses + bytes((self.control,))
        body += check(body)
        if self.information:
            body += self.information
            body += check(body)
        return b"\x7e" + body + b"\x7e"

    @staticmethod
    def decode(octets: bytes) -> Frame:
        """From the bytes between two flags. MeterError where a check does not hold or the length is wrong."""
        if len(octets) < 7 or octets[0] & 0xF0 != 0xA0:
            raise MeterError("not an HDLC frame of format type 3", octets=octets)
        length = (octets[0] & 7) << 8 | octets[1]
        if length != len(octets):
            raise MeterError(f"an HDLC frame announces {length} bytes and has {len(octets)}", octets=octets)
        destination, at = Address.decode(octets, 2)
        source, at = Address.decode(octets, at)
        if at + 3 > length or (at + 3 != length and at + 5 > length):
            raise MeterError("an HDLC frame is too short for its header", octets=octets)
        if check(octets[: at + 1]) != octets[at + 1 : at + 3]:
            raise MeterError("an HDLC header check does not hold", octets=octets)
        if at + 3 < length and check(octets[:-2]) != octets[-2:]:
            raise MeterError("an HDLC frame check does not hold", octets=octets)
        information = bytes(octets[at + 3 : -2]) if at + 3 < length else b""
        return Frame(destination, source, octets[at], information, bool(octets[0] & 8))


class HdlcReader:
    """Finds the frames in a byte stream: bytes in pieces of any size, garbage between frames, one flag or many.

    octet_stuffing: the sender escapes 0x7E and 0x7D (0x7D, then the byte xor 0x20), which DLMS does not do but some modems' software
    does. `bad_frames` counts frames whose checks failed, `skipped_bytes` what was no frame at all.
    """

    def __init__(self, octet_stuffing: bool = False) -> None:
        self._buffer = bytearray()
        self._stuffed = octet_stuffing
        self.bad_frames = 0
        self.skipped_bytes = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """Takes the next bytes; returns the frames they complete."""
        self._buffer += chunk
        frames: list[Frame] = []
        while self._next(frames):
            pass
        return frames

    def _next(self, frames: list[Frame]) -> bool:
        """One step of the search; False where more bytes are needed."""
        buffer = self._buffer
        start = buffer.find(FLAG)
        if start != 0:
            gone = len(buffer) if start < 0 else start
            self.skipped_bytes += gone
            del buffer[:gone]
            return bool(buffer)
        if len(buffer) < 3:
            return self._drop_flag(len(buffer) > 1 and buffer[1] & 0xF0 != 0xA0)
        if buffer[1] & 0xF0 != 0xA0:
            return self._drop_flag(True)
        end = buffer.find(FLAG, 1) if self._stuffed else 1 + ((buffer[1] & 7) << 8 | buffer[2])
        if self._stuffed and end < 0:
            if len(buffer) > 2 * MAX_FRAME_BYTES + 4:
                return self._drop_flag(True)
            return False
        if not self._stuffed:
            if end < 8 or self._header_is_wrong(end):
                self.bad_frames += 1
                return self._drop_flag(True)
            if len(buffer) <= end:
                return False
        octets = bytes(buffer[1:end])
        try:
            if buffer[end] != FLAG:
                raise MeterError("an HDLC frame has no closing flag", octets=octets)
            frames.append(Frame.decode(_unstuff(octets) if self._stuffed else octets))
        except MeterError:
            self.bad_frames += 1
            return self._drop_flag(True)
        del buffer[:end]
        return True

    def _drop_flag(self, wrong: bool) -> bool:
        """Steps over an opening flag that opens nothing."""
        if wrong:
            del self._buffer[:1]
        return wrong

    def _header_is_wrong(self, end: int) -> bool:
        """True as soon as the header check is known not to hold: no waiting for the end that a damaged length announces."""
        buffer = self._buffer
        at = 3
        for _ in range(2):
            first = at
            while at < len(buffer) and not buffer[at] & 1:
                at += 1
                if at - first > 3:
                    return True
            at += 1
        if at + 3 > len(buffer) or at + 3 > end:
            return at + 3 > end
        return check(bytes(buffer[1 : at + 1])) != bytes(buffer[at + 1 : at + 3])


def _unstuff(octets: bytes) -> bytes:
    out = bytearray()
    escaped = False
    for octet in octets:
        if octet == _ESCAPE and not escaped:
            escaped = True
            continue
        out.append(octet ^ 0x20 if escaped else octet)
        escaped = False
    if escaped:
        raise MeterError("an HDLC frame was aborted by its sender", octets=octets)
    return bytes(out)


def _table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = value >> 1 ^ 0x8408 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_FCS = _table()


def check(octets: bytes) -> bytes:
    """The 16-bit frame check sequence (ISO/IEC 13239, CRC-16/X.25), in its order on the wire."""
    value = 0xFFFF
    for octet in octets:
        value = value >> 8 ^ _FCS[(value ^ octet) & 0xFF]
    return (value ^ 0xFFFF).to_bytes(2, "little")
