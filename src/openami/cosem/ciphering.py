"""Protection of APDUs with AES-GCM (Green Book 9.2.7.2; IEC 62056-5-3 "ciphering"): security suites 0, 1 and 2, symmetric services.

A sealed APDU is: tag, [system title with its length, in the general forms], length, security control byte, invocation counter (4),
ciphertext, authentication tag (12, only where authenticated). The nonce is system title + invocation counter; the associated data is
the security control byte + authentication key (+ the plain bytes where they are not encrypted).

Guarantees: a tag is compared in constant time and nothing is returned where it does not hold; keys appear in no repr and no error.
Encryption alone (0x20) proves no origin: the caller must mind the invocation counter and plausibility. Counters are the caller's.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import MeterError, RequestError
from .axdr import read_length, write_length

GENERAL_GLO = 0xDB
GENERAL_DED = 0xDC
GENERAL_CIPHERING = 0xDD
"""See `general_ciphering.py`."""
TAG_BYTES = 12

GLO_TAGS = frozenset((0x21, 0x28, 0x2E, *range(0xC8, 0xD0)))
"""glo-initiate-request and -response, glo-confirmed-service-error, glo-get/set/event-notification/action requests and responses."""
DED_TAGS = frozenset(range(0xD0, 0xD8))
SEALED_TAGS = GLO_TAGS | DED_TAGS | {GENERAL_GLO, GENERAL_DED}

# Plain APDU tag -> its service-specific global and dedicated ciphering tag (IEC 62056-5-3, XDLMS-APDU choice).
GLO_OF = {1: 0x21, 8: 0x28, 14: 0x2E, 0xC0: 0xC8, 0xC1: 0xC9, 0xC2: 0xCA, 0xC3: 0xCB, 0xC4: 0xCC, 0xC5: 0xCD, 0xC7: 0xCF}
DED_OF = {0xC0: 0xD0, 0xC1: 0xD1, 0xC2: 0xD2, 0xC3: 0xD3, 0xC4: 0xD4, 0xC5: 0xD5, 0xC7: 0xD7}


class SecurityControl(int):
    """The security control byte: suite in bits 0-3, authenticated 0x10, encrypted 0x20, broadcast key 0x40, compressed 0x80."""

    @property
    def suite(self) -> int:
        return self & 0x0F

    @property
    def authenticated(self) -> bool:
        return bool(self & 0x10)

    @property
    def encrypted(self) -> bool:
        return bool(self & 0x20)

    @property
    def broadcast(self) -> bool:
        return bool(self & 0x40)

    @property
    def compressed(self) -> bool:
        return bool(self & 0x80)


@dataclass(frozen=True, slots=True)
class Keys:
    """Encryption key `ek` (global or dedicated) and authentication key `ak`: 16 bytes each, or 32 for suite 2. Never shown."""

    ek: bytes = field(repr=False)
    ak: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.ek) not in (16, 32) or len(self.ak) not in (16, 32):
            raise RequestError(f"keys have 16 bytes (suites 0, 1) or 32 (suite 2), not {len(self.ek)} and {len(self.ak)}")


class Sealed(NamedTuple):
    """A protected APDU taken apart, nothing undone yet. system_title is b"" where the form does not carry it; tag12 is b"" where
    the bytes are not authenticated."""

    tag: int
    system_title: bytes
    security_control: SecurityControl
    invocation_counter: int
    ciphertext: bytes
    tag12: bytes


def seal(service_tag: int, system_title: bytes, security_control: int, invocation_counter: int, keys: Keys, plain: bytes) -> bytes:
    """`plain` protected, as an APDU with the tag `service_tag`.

    system_title: the sender's, 8 bytes. security_control: 0x10, 0x20 or 0x30 plus the suite. invocation_counter: 32 bits, never
    used twice with one key. RequestError where an argument breaks these rules.
    """
    if service_tag not in SEALED_TAGS:
        raise RequestError(f"0x{service_tag:02x} is not the tag of a ciphered APDU")
    if not 0 <= invocation_counter <= 0xFFFFFFFF:
        raise RequestError(f"invocation counter {invocation_counter} is outside 32 bits: the key must be changed before it overflows")
    protected = protect(system_title, security_control, invocation_counter, keys, plain)
    title = write_length(len(system_title)) + system_title if service_tag in (GENERAL_GLO, GENERAL_DED) else b""
    return bytes((service_tag,)) + title + write_length(len(protected)) + protected


def protect(system_title: bytes, security_control: int, invocation_counter: int, keys: Keys, plain: bytes, header: bytes = b"") -> bytes:
    """Security control byte, counter, ciphertext and tag: what stands inside a ciphered APDU. header: bytes that are authenticated as well
    (general-ciphering's)."""
    control = SecurityControl(security_control)
    _check_use(control, keys, RequestError)
    if len(system_title) != 8:
        raise RequestError(f"a system title has 8 bytes, not {len(system_title)}")
    front = bytes((control,)) + invocation_counter.to_bytes(4, "big")
    nonce = system_title + front[1:]
    cipher = gcm(keys.ek)
    if not control.encrypted:
        return front + plain + cipher.encrypt(nonce, b"", front[:1] + keys.ak + header + plain)[:TAG_BYTES]
    if not control.authenticated:
        return front + cipher.encrypt(nonce, plain, None)[:-16]
    return front + cipher.encrypt(nonce, plain, front[:1] + keys.ak + header)[: len(plain) + TAG_BYTES]


def parse_sealed(apdu: bytes) -> Sealed:
    """A ciphered APDU taken apart; MeterError where it is none, or is cut short or too long."""
    try:
        tag = apdu[0]
        if tag not in SEALED_TAGS:
            raise MeterError(f"0x{tag:02x} is not the tag of a ciphered APDU")
        at = 1
        title = b""
        if tag in (GENERAL_GLO, GENERAL_DED):
            size, at = read_length(apdu, at)
            if size not in (0, 8):
                raise MeterError(f"a system title has 8 bytes or is left out, not {size}")
            title = bytes(apdu[at : at + size])
            at += size
        length, at = read_length(apdu, at)
    except IndexError as error:
        raise MeterError(f"a ciphered APDU is cut short at {len(apdu)} bytes") from error
    if length != len(apdu) - at:
        raise MeterError(f"a ciphered APDU announces {length} bytes, but {len(apdu) - at} follow")
    return parse_protected(tag, title, bytes(apdu[at:]))


def parse_protected(tag: int, system_title: bytes, protected: bytes) -> Sealed:
    """What stands inside a ciphered APDU taken apart."""
    if len(protected) < 5:
        raise MeterError(f"a ciphered APDU holds {len(protected)} bytes, less than its security header of 5")
    control = SecurityControl(protected[0])
    end = len(protected)
    if control.authenticated:
        end -= TAG_BYTES
        if end < 5:
            raise MeterError("an authenticated APDU is too short to hold its tag of 12 bytes", "bad_tag")
    return Sealed(tag, system_title, control, int.from_bytes(protected[1:5], "big"), protected[5:end], protected[end:])


def open_sealed(sealed: Sealed, keys: Keys, system_title: bytes | None = None, header: bytes = b"") -> bytes:
    """The plain bytes. system_title: the sender's, where the form does not carry it (or to insist on the known one); header: as in
    `protect`.

    MeterError(cause="bad_tag") where the tag does not hold; cause "malformed" where the security control byte asks for what the
    keys cannot do. Without authentication any key gives bytes: the reader of the bytes finds out.
    """
    title = system_title or sealed.system_title
    if len(title) != 8:
        raise MeterError("a ciphered APDU carries no system title and the sender's is not known")
    control = sealed.security_control
    _check_use(control, keys, MeterError)
    nonce = title + sealed.invocation_counter.to_bytes(4, "big")
    cipher = gcm(keys.ek)
    head = bytes((control,)) + keys.ak + header
    if not control.encrypted:
        plain = sealed.ciphertext
        tag = cipher.encrypt(nonce, b"", head + plain)[:TAG_BYTES]
    else:
        # GCM's keystream is AES-CTR from counter 2: encrypting the ciphertext undoes it, in one call and without a tag to give.
        plain = cipher.encrypt(nonce, sealed.ciphertext, None)[:-16]
        if not control.authenticated:
            return plain
        tag = cipher.encrypt(nonce, plain, head)[-16:-4]
    if not hmac.compare_digest(tag, sealed.tag12):
        raise MeterError("the authentication tag does not hold: wrong key, wrong system title or altered bytes", "bad_tag")
    return plain


def gmac(system_title: bytes, security_control: int, invocation_counter: int, keys: Keys, message: bytes) -> bytes:
    """The 12-byte GMAC of `message` (HLS mechanism 5): tag over security control byte, authentication key and message."""
    nonce = system_title + invocation_counter.to_bytes(4, "big")
    return gcm(keys.ek).encrypt(nonce, b"", bytes((security_control,)) + keys.ak + message)[:TAG_BYTES]


def _check_use(control: SecurityControl, keys: Keys, blame: type[MeterError] | type[RequestError]) -> None:
    if control.suite > 2:
        raise blame(f"security suite {control.suite} is not known (0, 1 and 2 are)")
    if control.compressed:
        raise blame("compressed APDUs are not supported")
    if not control.authenticated and not control.encrypted:
        raise blame(f"security control byte 0x{control:02x} neither authenticates nor encrypts")
    if len(keys.ek) != (32 if control.suite == 2 else 16):
        raise blame(f"security suite {control.suite} needs keys of {32 if control.suite == 2 else 16} bytes, these have {len(keys.ek)}")


@lru_cache(maxsize=65_536)
def gcm(key: bytes) -> AESGCM:
    """The cipher under a key, kept for the next time: its set-up costs as much as a short message."""
    return AESGCM(key)
