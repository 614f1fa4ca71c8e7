"""Opening and closing an association: AARQ, AARE, RLRQ, RLRE in BER, and the xDLMS initiate inside them (IEC 62056-5-3; ISO/IEC 8650-1).

An association request names the application context (with or without ciphering), the caller's system title, the authentication
mechanism and value, and carries the initiate request, in the clear or ciphered. What always holds: unknown fields are passed over,
a field never reads beyond its own length, and an encoded request of the same content has one form (the Green Book's examples).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from ..errors import MeterError
from .axdr import read_length, write_length

AARQ = 0x60
AARE = 0x61
RLRQ = 0x62
RLRE = 0x63

_AUTHENTICATION = (0xAA, 0xAC)
_CONTEXT = bytes.fromhex("608574050801")
_MECHANISM = bytes.fromhex("608574050802")


class Context(IntEnum):
    """Application context names, last arc (Green Book 9.4.2.2.2)."""

    LN = 1
    SN = 2
    LN_CIPHERED = 3
    SN_CIPHERED = 4


class Mechanism(IntEnum):
    """Authentication mechanism names, last arc (Green Book 9.4.2.2.3)."""

    NONE = 0
    LLS = 1
    HLS = 2
    HLS_MD5 = 3
    HLS_SHA1 = 4
    HLS_GMAC = 5
    HLS_SHA256 = 6
    HLS_ECDSA = 7


class Conformance(IntFlag):
    """The conformance block: 24 bits, the first on the wire is the highest (IEC 62056-5-3)."""

    GENERAL_PROTECTION = 1 << 22
    GENERAL_BLOCK_TRANSFER = 1 << 21
    READ = 1 << 20
    WRITE = 1 << 19
    UNCONFIRMED_WRITE = 1 << 18
    DELTA_VALUE_ENCODING = 1 << 17
    ATTRIBUTE0_WITH_SET = 1 << 15
    PRIORITY = 1 << 14
    ATTRIBUTE0_WITH_GET = 1 << 13
    BLOCK_GET = 1 << 12
    BLOCK_SET = 1 << 11
    BLOCK_ACTION = 1 << 10
    MULTIPLE_REFERENCES = 1 << 9
    INFORMATION_REPORT = 1 << 8
    DATA_NOTIFICATION = 1 << 7
    ACCESS = 1 << 6
    PARAMETERIZED_ACCESS = 1 << 5
    GET = 1 << 4
    SET = 1 << 3
    SELECTIVE_ACCESS = 1 << 2
    EVENT_NOTIFICATION = 1 << 1
    ACTION = 1 << 0


DEFAULT_CONFORMANCE = (
    Conformance.PRIORITY
    | Conformance.BLOCK_GET
    | Conformance.BLOCK_SET
    | Conformance.BLOCK_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.EVENT_NOTIFICATION
    | Conformance.ACTION
)


class Diagnostic(IntEnum):
    """Result source diagnostics of the ACSE service user that we give ourselves."""

    NULL = 0
    NO_REASON = 1
    CONTEXT_NOT_SUPPORTED = 2
    CALLING_TITLE_NOT_RECOGNISED = 3
    MECHANISM_NOT_RECOGNISED = 11
    MECHANISM_REQUIRED = 12
    AUTHENTICATION_FAILURE = 13
    AUTHENTICATION_REQUIRED = 14


class InitiateRequest(NamedTuple):
    """xDLMS initiate request. quality: None = left out. max_pdu: what the client can receive [bytes], 0 = any."""

    conformance: Conformance
    max_pdu: int
    dedicated_key: bytes = b""
    response_allowed: bool = True
    quality: int | None = None
    version: int = 6

    def encode(self) -> bytes:
        key = b"\x01" + write_length(len(self.dedicated_key)) + self.dedicated_key if self.dedicated_key else b"\0"
        allowed = b"\0" if self.response_allowed else b"\x01\x00"
        quality = b"\0" if self.quality is None else bytes((1, self.quality & 0xFF))
        tail = _conformance(self.conformance) + self.max_pdu.to_bytes(2, "big")
        return b"\x01" + key + allowed + quality + bytes((self.version,)) + tail

    @staticmethod
    def decode(octets: bytes) -> InitiateRequest:
        cursor = _Cursor(octets, "initiate request")
        cursor.expect(1)
        key = cursor.string() if cursor.octet() else b""
        allowed = bool(cursor.octet()) if cursor.octet() else True
        quality = cursor.octet() if cursor.octet() else None
        version = cursor.octet()
        conformance = _read_conformance(cursor)
        max_pdu = int.from_bytes(cursor.take(2), "big")
        cursor.end()
        return InitiateRequest(conformance, max_pdu, key, allowed, quality, version)


class InitiateResponse(NamedTuple):
    """xDLMS initiate response. max_pdu: what the server can receive [bytes], 0 = any."""

    conformance: Conformance
    max_pdu: int
    quality: int | None = None
    version: int = 6
    vaa_name: int = 7

    def encode(self) -> bytes:
        quality = b"\0" if self.quality is None else bytes((1, self.quality & 0xFF))
        tail = _conformance(self.conformance) + self.max_pdu.to_bytes(2, "big") + self.vaa_name.to_bytes(2, "big")
        return b"\x08" + quality + bytes((self.version,)) + tail

    @staticmethod
    def decode(octets: bytes) -> InitiateResponse:
        cursor = _Cursor(octets, "initiate response")
        cursor.expect(8)
        quality = cursor.octet() if cursor.octet() else None
        version = cursor.octet()
        conformance = _read_conformance(cursor)
        max_pdu = int.from_bytes(cursor.take(2), "big")
        vaa_name = int.from_bytes(cursor.take(2), "big")
        cursor.end()
        return InitiateResponse(conformance, max_pdu, quality, version, vaa_name)


class AssociationRequest(NamedTuple):
    """AARQ. mechanism and authentication None = left out (no security). user_information: the initiate request's APDU, plain or
    ciphered. system_title and user_id: the caller's, b"" and None = left out."""

    context: int
    user_information: bytes
    system_title: bytes = b""
    mechanism: int | None = None
    authentication: bytes | None = None
    user_id: int | None = None
    acse_requirements: bool = False

    def encode(self) -> bytes:
        out = _tlv(0xA1, _tlv(0x06, _CONTEXT + bytes((self.context,))))
        if self.system_title:
            out += _tlv(0xA6, _tlv(0x04, self.system_title))
        if self.user_id is not None:
            out += _tlv(0xA9, _tlv(0x02, bytes((self.user_id,))))
        if self.mechanism is not None:
            out += _tlv(0x8A, b"\x07\x80") + _tlv(0x8B, _MECHANISM + bytes((self.mechanism,)))
        if self.authentication is not None:
            out += _tlv(0xAC, _tlv(0x80, self.authentication))
        return _tlv(AARQ, out + _user_information(self.user_information))

    @staticmethod
    def decode(apdu: bytes) -> AssociationRequest:
        fields = _fields(apdu, AARQ)
        user_id = _inner(fields, 0xA9, 0x02)
        return AssociationRequest(
            _last_arc(_inner(fields, 0xA1, 0x06), _CONTEXT, "application context"),
            _inner(fields, 0xBE, 0x04) or b"",
            _inner(fields, 0xA6, 0x04) or b"",
            _last_arc(fields[0x8B], _MECHANISM, "authentication mechanism") if 0x8B in fields else None,
            _authentication(fields, 0xAC),
            user_id[0] if user_id else None,
            0x8A in fields,
        )


class AssociationResponse(NamedTuple):
    """AARE. result: 0 accepted, 1 rejected for good, 2 rejected for now. diagnostic: of the ACSE service user, or of the provider where
    `by_provider`. The rest as in the request."""

    context: int
    result: int
    diagnostic: int
    user_information: bytes
    system_title: bytes = b""
    mechanism: int | None = None
    authentication: bytes | None = None
    by_provider: bool = False

    def encode(self) -> bytes:
        out = _tlv(0xA1, _tlv(0x06, _CONTEXT + bytes((self.context,))))
        out += _tlv(0xA2, _tlv(0x02, bytes((self.result,))))
        out += _tlv(0xA3, _tlv(0xA2 if self.by_provider else 0xA1, _tlv(0x02, bytes((self.diagnostic,)))))
        if self.system_title:
            out += _tlv(0xA4, _tlv(0x04, self.system_title))
        if self.mechanism is not None:
            out += _tlv(0x88, b"\x07\x80") + _tlv(0x89, _MECHANISM + bytes((self.mechanism,)))
        if self.authentication is not None:
            out += _tlv(0xAA, _tlv(0x80, self.authentication))
        return _tlv(AARE, out + _user_information(self.user_information))

    @staticmethod
    def decode(apdu: bytes) -> AssociationResponse:
        fields = _fields(apdu, AARE)
        result = _inner(fields, 0xA2, 0x02)
        diagnostic = _split(fields.get(0xA3, b""), "result source diagnostic")
        if not result or not diagnostic:
            raise MeterError("an association response names no result")
        source = next(iter(diagnostic))
        code = _split(diagnostic[source], "result source diagnostic").get(0x02, b"")
        if source not in (0xA1, 0xA2) or not code:
            raise MeterError("an association response's diagnostic is not a number")
        return AssociationResponse(
            _last_arc(_inner(fields, 0xA1, 0x06), _CONTEXT, "application context"),
            result[-1],
            code[-1],
            _inner(fields, 0xBE, 0x04) or b"",
            _inner(fields, 0xA4, 0x04) or b"",
            _last_arc(fields[0x89], _MECHANISM, "authentication mechanism") if 0x89 in fields else None,
            _authentication(fields, 0xAA),
            source == 0xA2,
        )


class Release(NamedTuple):
    """RLRQ and RLRE. reason: 0 normal, None = left out. user_information: an initiate APDU, plain or ciphered, or b""."""

    tag: int
    reason: int | None = 0
    user_information: bytes = b""

    def encode(self) -> bytes:
        out = b"" if self.reason is None else _tlv(0x80, bytes((self.reason,)))
        return _tlv(self.tag, out + _user_information(self.user_information))

    @staticmethod
    def decode(apdu: bytes) -> Release:
        if not apdu or apdu[0] not in (RLRQ, RLRE):
            raise MeterError("not a release request or response")
        fields = _fields(apdu, apdu[0])
        reason = fields.get(0x80)
        return Release(apdu[0], reason[-1] if reason else None, _inner(fields, 0xBE, 0x04) or b"")


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + write_length(len(content)) + content


def _user_information(apdu: bytes) -> bytes:
    return _tlv(0xBE, _tlv(0x04, apdu)) if apdu else b""


def _split(content: bytes, where: str) -> dict[int, bytes]:
    """The fields of a BER sequence by tag; the first one counts where a tag comes twice."""
    fields: dict[int, bytes] = {}
    at = 0
    try:
        while at < len(content):
            tag = content[at]
            length, at = read_length(content, at + 1)
            if tag in _AUTHENTICATION and content[at : at + 2] == bytes((0x80, length & 0xFF)):
                length += 2  # a peer that leaves the inner tag and length out of the outer length: see data/quirks.toml
            if length > len(content) - at:
                raise MeterError(f"a field of the {where} announces {length} bytes, but {len(content) - at} follow")
            fields.setdefault(tag, content[at : at + length])
            at += length
    except IndexError as error:
        raise MeterError(f"the {where} is cut short") from error
    return fields


def _fields(apdu: bytes, tag: int) -> dict[int, bytes]:
    name = {AARQ: "association request", AARE: "association response", RLRQ: "release request", RLRE: "release response"}[tag]
    outer = _split(bytes(apdu), name)
    if list(outer) != [tag]:
        raise MeterError(f"these bytes are not one {name}")
    return _split(outer[tag], name)


def _inner(fields: dict[int, bytes], tag: int, inner_tag: int) -> bytes | None:
    """The content of the one field inside the field `tag`, None where it is not there."""
    if tag not in fields:
        return None
    return _split(fields[tag], f"field 0x{tag:02x}").get(inner_tag)


def _last_arc(name: bytes | None, prefix: bytes, what: str) -> int:
    if name is None or len(name) != 7 or name[:6] != prefix:
        raise MeterError(f"the {what} name is missing or not one of DLMS UA's")
    return name[6]


def _authentication(fields: dict[int, bytes], tag: int) -> bytes | None:
    """The authentication value: a character string (0x80) or a bit string (0x81), whose first byte counts its unused bits."""
    if tag not in fields:
        return None
    inner = _split(fields[tag], "authentication value")
    return inner[0x81][1:] if 0x80 not in inner and 0x81 in inner else inner.get(0x80, b"")


def _conformance(bits: Conformance) -> bytes:
    return b"\x5f\x1f\x04\x00" + int(bits).to_bytes(3, "big")


def _read_conformance(cursor: _Cursor) -> Conformance:
    cursor.expect(0x5F)
    tag = cursor.octet()
    if tag == 0x1F:
        tag = cursor.octet()
    if tag != 4:
        raise MeterError("the conformance block is not 24 bits")
    cursor.take(1)
    return Conformance(int.from_bytes(cursor.take(3), "big"))


class _Cursor:
    """Reads forward through bytes; MeterError where they end."""

    def __init__(self, octets: bytes, what: str) -> None:
        self._octets, self._at, self._what = bytes(octets), 0, what

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._octets):
            raise MeterError(f"the {self._what} is cut short")
        piece = self._octets[self._at : end]
        self._at = end
        return piece

    def octet(self) -> int:
        return self.take(1)[0]

    def expect(self, octet: int) -> None:
        if self.octet() != octet:
            raise MeterError(f"the {self._what} does not begin as it must")

    def string(self) -> bytes:
        return self.take(self.octet())

    def end(self) -> None:
        if self._at != len(self._octets):
            raise MeterError(f"{len(self._octets) - self._at} bytes are left over behind the {self._what}")
