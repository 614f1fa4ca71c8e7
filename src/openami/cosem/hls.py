"""High level security: what each side answers to the other's challenge (Green Book 9.2.7.4).

Mechanism 2 is the makers' own; in India it is AES-128 of the challenge under the HLS secret (ECB, secret and challenge zero-padded).
5 is GMAC under the global keys, 6 is SHA-256 over secret, titles and challenges. 3 (MD5) and 4 (SHA-1) are broken: a client may use
them to reach an old meter, and is told so; a server of ours does not offer them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ..errors import MeterError, RequestError
from .acse import Mechanism
from .ciphering import TAG_BYTES, Keys, gmac

_GMAC_CONTROL = 0x10
CURRENT_ASSOCIATION = "0.0.40.0.0.255"
"""The association object as its own client names it: method 1 takes the answer to the challenge."""
WEAK = frozenset((Mechanism.HLS_MD5, Mechanism.HLS_SHA1))


class Challenge(NamedTuple):
    """What an answer is made from. challenge: the other side's, that is answered; own: the one sent to the other side."""

    challenge: bytes
    own: bytes
    own_title: bytes
    peer_title: bytes


def answer(mechanism: int, given: Challenge, secret: bytes, keys: Keys | None, counter: int, suite: int = 0) -> bytes:
    """f(challenge): the bytes for reply_to_HLS_authentication. counter: an invocation counter, used by GMAC only."""
    if mechanism == Mechanism.HLS:
        return _aes_ecb(secret, given.challenge)
    if mechanism == Mechanism.HLS_MD5:
        return hashlib.md5(given.challenge + secret, usedforsecurity=False).digest()
    if mechanism == Mechanism.HLS_SHA1:
        return hashlib.sha1(given.challenge + secret, usedforsecurity=False).digest()
    if mechanism == Mechanism.HLS_GMAC:
        if keys is None:
            raise RequestError("HLS with GMAC needs the global encryption and authentication keys")
        control = _GMAC_CONTROL | suite
        return bytes((control,)) + counter.to_bytes(4, "big") + gmac(given.own_title, control, counter, keys, given.challenge)
    if mechanism == Mechanism.HLS_SHA256:
        return hashlib.sha256(secret + given.own_title + given.peer_title + given.challenge + given.own).digest()
    raise RequestError(f"authentication mechanism {mechanism} has no challenge that can be answered here (2, 3, 4, 5 and 6 have)")


def check(mechanism: int, given: Challenge, secret: bytes, keys: Keys | None, answered: bytes) -> None:
    """Checks the peer's answer to our challenge, in constant time; MeterError(cause="authentication") where it does not hold.

    given: as the peer sees it (its own title and challenge as `own_title` and `own`). GMAC's counter is not held against the counters
    of ciphered APDUs: peers count it apart or together, and the challenge is what makes the answer fresh.
    """
    counter, suite = 0, 0
    if mechanism == Mechanism.HLS_GMAC:
        if len(answered) != 5 + TAG_BYTES or answered[0] & 0xF0 != _GMAC_CONTROL:
            raise MeterError("the answer to the challenge is not a GMAC with its security header", "authentication")
        counter, suite = int.from_bytes(answered[1:5], "big"), answered[0] & 0x0F
    if not hmac.compare_digest(answer(mechanism, given, secret, keys, counter, suite), answered):
        raise MeterError("the answer to the challenge does not hold: wrong secret or key", "authentication")


def _aes_ecb(secret: bytes, challenge: bytes) -> bytes:
    if not 0 < len(secret) <= 32:
        raise RequestError(f"HLS mechanism 2 needs a secret of 16 bytes, not {len(secret)}")
    secret += bytes(-len(secret) % 8 if len(secret) > 16 else 16 - len(secret))
    padded = challenge + bytes(-len(challenge) % 16)
    encryptor = Cipher(algorithms.AES(secret), modes.ECB()).encryptor()  # noqa: S305 - the mechanism is defined so
    return encryptor.update(padded) + encryptor.finalize()
