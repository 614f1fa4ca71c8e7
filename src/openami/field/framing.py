"""Frames found in bytes that may hold several, damaged ones, and garbage between them; for explaining, where the readers only pass over."""

from __future__ import annotations

from typing import NamedTuple

from ..cosem.hdlc import FLAG, Frame, HdlcReader
from ..errors import MeterError


class HdlcPiece(NamedTuple):
    """A frame, or bytes that are none. problem: "" or what is wrong with it."""

    octets: bytes
    frame: Frame | None
    problem: str


def hdlc_pieces(octets: bytes) -> list[HdlcPiece]:
    """Everything in `octets`, in order. A frame whose flags were cut off is found where it stands alone; octet stuffing is undone."""
    if octets[:1] != b"\x7e":
        for bare in (_one(octets), _stuffed(b"\x7e" + octets + b"\x7e")):
            if bare is not None:
                return [HdlcPiece(octets, bare, "")]
    pieces: list[HdlcPiece] = []
    at = 0
    while at < len(octets):
        start = octets.find(b"\x7e", at)
        if start != at:
            end = len(octets) if start < 0 else start
            pieces.append(HdlcPiece(octets[at:end], None, "no HDLC frame: skipped"))
            at = end
            continue
        if at + 1 == len(octets) or octets[at + 1] == FLAG:
            at += 1
            continue
        piece, at = _at_flag(octets, at)
        pieces.append(piece)
    return pieces


def _at_flag(octets: bytes, at: int) -> tuple[HdlcPiece, int]:
    """What begins at the flag at `at`, and the offset behind it (at its closing flag, which may open the next frame)."""
    if octets[at + 1] & 0xF0 == 0xA0 and at + 2 < len(octets):
        end = at + 1 + ((octets[at + 1] & 7) << 8 | octets[at + 2])
        frame = _one(octets[at + 1 : end])
        if frame is not None:
            closed = octets[end : end + 1] == b"\x7e"
            return HdlcPiece(octets[at : end + 1], frame, "" if closed else "no closing flag"), end
    end = octets.find(b"\x7e", at + 1)
    end = len(octets) if end < 0 else end
    piece = octets[at : end + 1]
    frame = _stuffed(piece)
    if frame is not None:
        return HdlcPiece(piece, frame, "octet stuffing, which DLMS does not use"), end
    return HdlcPiece(octets[at:end], None, _why(octets[at + 1 : end])), end


def _one(octets: bytes) -> Frame | None:
    try:
        return Frame.decode(octets)
    except MeterError:
        return None


def _stuffed(piece: bytes) -> Frame | None:
    frames = HdlcReader(octet_stuffing=True).feed(piece) if b"\x7d" in piece else []
    return frames[0] if len(frames) == 1 else None


def _why(octets: bytes) -> str:
    try:
        Frame.decode(octets)
    except MeterError as error:
        return str(error)
    return "no HDLC frame"


def mbus_frames(octets: bytes) -> list[tuple[bytes, str]]:
    """(bytes, problem) of the wired M-Bus long frames that fill `octets`; none where they do not."""
    frames: list[tuple[bytes, str]] = []
    at = 0
    while at < len(octets):
        head = octets[at : at + 4]
        if len(head) < 4 or head[0] != 0x68 or head[3] != 0x68 or head[1] != head[2]:
            return []
        end = at + 6 + head[1]
        if _mbus_problem(octets[at:end]) and not _mbus_problem(octets[at : end + 0x100]):
            end += 0x100  # Sagemcom T210-D: frames of 256 bytes and more, with the low byte of their length
        frame = octets[at:end]
        if len(frame) < 12:
            return []
        if end > len(octets):
            return [*frames, (frame, f"cut short: {end - len(octets)} bytes are missing")]
        frames.append((frame, _mbus_problem(frame)))
        at = end
    return frames


def _mbus_problem(frame: bytes) -> str:
    """What is wrong with a long frame; "" where its stop byte and checksum hold."""
    if len(frame) < 12 or sum(frame[4:-2]) & 0xFF != frame[-2]:
        return "the checksum does not hold"
    return "" if frame[-1] == 0x16 else "no stop byte 0x16"
