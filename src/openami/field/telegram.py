"""Text telegrams (IEC 62056-21 data readout; the P1 port of DSMR) that meters of Sagemcom and others send inside DLMS ciphering."""

from __future__ import annotations

import re

from .node import Node
from .obis import obis_name

_LINE = re.compile(r"(\d+)-(\d+):(\d+)\.(\d+)\.(\d+)((?:\([^()]*\))+)")


def telegram(octets: bytes) -> Node | None:
    """The lines of a telegram, each with what its code stands for; None where the bytes are none: it begins with "/" and is text."""
    if octets[:1] != b"/" or b"\r\n" not in octets or not all(octet in b"\r\n\t" or 0x20 <= octet < 0x7F for octet in octets):
        return None
    lines = [line for line in octets.decode("ascii").split("\r\n") if line]
    return Node("text telegram", f"{len(octets)} bytes", "IEC 62056-21, not DLMS", inside=[_line(line) for line in lines])


def _line(line: str) -> Node:
    found = _LINE.fullmatch(line)
    if found is None:
        return Node("end" if line[0] == "!" else "identification" if line[0] == "/" else "line", line)
    code = ".".join((*found.groups()[:5], "255"))
    return Node(code, found.group(6), obis_name(code))
