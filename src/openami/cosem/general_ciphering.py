"""general-ciphering [0xDD]: a ciphered APDU that names both ends and a transaction (Green Book 9.2.7.2.4.8; IEC 62056-5-3).

transaction-id, originator and recipient system title, date-time, other-information (each with its length), key-info (optional), then the
protected bytes as in the other forms. Served is the identified global unicast key. A wrapped key and an agreed key (key agreement of suites
1 and 2) have their place in `KeyInfo` and are refused by name; general-signing [0xDF] is not read at all.

Whether the tag covers the five header fields is read in two ways: Gurux and others authenticate as in every other form, the Green Book's
figure counts length and value of each field in. A tag that holds in either way is taken, and answered in the same way: both bind the keys,
the originator (in the nonce) and the content.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ..errors import MeterError, RequestError
from .axdr import take, write_length
from .ciphering import GENERAL_CIPHERING, Keys, Sealed, open_sealed, parse_protected, protect


class KeyInfo(IntEnum):
    """The choice in key-info."""

    IDENTIFIED = 0
    WRAPPED = 1
    AGREED = 2


class GeneralHeader(NamedTuple):
    """The fields in front. originator, recipient: system titles, 8 bytes or b""; key_info: key-info as sent, without its presence flag,
    b"" = left out (the global unicast key)."""

    transaction: bytes
    originator: bytes
    recipient: bytes
    when: bytes = b""
    other: bytes = b""
    key_info: bytes = b"\x00\x00"

    def fields(self) -> bytes:
        """The five fields as they stand on the wire, each with its length."""
        return b"".join(write_length(len(one)) + one for one in self[:5])


def seal_general(header: GeneralHeader, security_control: int, counter: int, keys: Keys, plain: bytes, binds_header: bool = False) -> bytes:
    """`plain` as a general-ciphering APDU. binds_header: the tag covers the header fields too. RequestError as `protect` gives it."""
    if len(header.originator) != 8:
        raise RequestError(f"the originator's system title has 8 bytes, not {len(header.originator)}")
    fields = header.fields()
    protected = protect(header.originator, security_control, counter, keys, plain, fields if binds_header else b"")
    key_info = b"\x01" + header.key_info if header.key_info else b"\x00"
    return bytes((GENERAL_CIPHERING,)) + fields + key_info + write_length(len(protected)) + protected


def parse_general(apdu: bytes) -> tuple[GeneralHeader, Sealed]:
    """A general-ciphering APDU taken apart; MeterError where it is none, is cut short, or uses a key that is not served."""
    try:
        if apdu[0] != GENERAL_CIPHERING:
            raise MeterError(f"0x{apdu[0]:02x} is not the tag of general-ciphering")
        at, parts = 1, []
        for name, sizes in (
            ("transaction id", None),
            ("originator's title", (0, 8)),
            ("recipient's title", (0, 8)),
            ("date-time", (0, 12)),
            ("other information", None),
        ):
            part, at = take(apdu, at)
            if sizes is not None and len(part) not in sizes:
                raise MeterError(f"general-ciphering: the {name} has {len(part)} bytes, not {' or '.join(map(str, sizes))}")
            parts.append(part)
        key_info, at = _key_info(apdu, at)
        protected, at = take(apdu, at)
    except IndexError as error:
        raise MeterError(f"a general-ciphering APDU is cut short at {len(apdu)} bytes") from error
    if at != len(apdu):
        raise MeterError(f"{len(apdu) - at} bytes are left over behind a general-ciphering APDU")
    header = GeneralHeader(parts[0], parts[1], parts[2], parts[3], parts[4], key_info)
    return header, parse_protected(GENERAL_CIPHERING, header.originator, protected)


def open_general(header: GeneralHeader, sealed: Sealed, keys: Keys, title: bytes) -> tuple[bytes, bool]:
    """(plain bytes, whether the tag covers the header). title: the originator's. MeterError(cause="bad_tag") where it holds in neither way."""
    try:
        return open_sealed(sealed, keys, title, header.fields()), True
    except MeterError as error:
        if error.cause != "bad_tag":
            raise
    return open_sealed(sealed, keys, title), False


def _key_info(apdu: bytes, at: int) -> tuple[bytes, int]:
    """key-info without its presence flag, and the offset behind it."""
    present = apdu[at]
    at += 1
    if not present:
        return b"", at
    kind = apdu[at]
    if kind == KeyInfo.IDENTIFIED:
        if apdu[at + 1] != 0:
            raise MeterError("general-ciphering under the broadcast key is not served", "security")
        return bytes(apdu[at : at + 2]), at + 2
    names = {KeyInfo.WRAPPED: "a wrapped key", KeyInfo.AGREED: "an agreed key"}
    raise MeterError(
        f"general-ciphering with {names.get(KeyInfo(kind), 'a key')} is not served"
        if kind in names
        else "general-ciphering: no such key-info",
        "security",
    )
