"""Meters' keys at rest: wrapped with one master key (AES key wrap, RFC 3394), never in a log, a repr or an error.

The master key comes from the environment (`OPENAMI_MASTER_KEY`, 64 hex digits) or from a file that only its owner may read.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

from ..errors import DataError, InputError

ENVIRONMENT = "OPENAMI_MASTER_KEY"


class MasterKey:
    """A 256-bit key that wraps and unwraps meters' keys. It shows itself to nobody."""

    def __init__(self, octets: bytes) -> None:
        if len(octets) != 32:
            raise InputError(f"the master key has {8 * len(octets)} bits, it needs 256; give 64 hex digits in {ENVIRONMENT} or in its file")
        self._octets = octets

    def __repr__(self) -> str:
        return "MasterKey(...)"

    def wrap(self, key: bytes) -> bytes:
        """A meter's key (16 or 32 bytes) as it may lie on disk: 8 bytes longer."""
        return aes_key_wrap(self._octets, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key again; DataError where the master key is another one or the bytes were changed."""
        try:
            return aes_key_unwrap(self._octets, wrapped)
        except InvalidUnwrap:
            raise DataError(
                "a meter's key cannot be unwrapped: the master key is not the one that wrapped it; give the right one"
            ) from None

    def mac(self, purpose: str, octets: bytes) -> bytes:
        """A keyed digest (HMAC-SHA-256) for one purpose: it tells equal things apart from others, and nobody without the key can guess one."""
        own = hmac.digest(self._octets, b"openami " + purpose.encode(), "sha256")
        return hmac.digest(own, octets, "sha256")

    def wrap_secret(self, secret: bytes) -> bytes:
        """A password or another secret of any length (1 byte or more) as it may lie on disk (AES key wrap with padding, RFC 5649)."""
        return aes_key_wrap_with_padding(self._octets, secret)

    def unwrap_secret(self, wrapped: bytes) -> bytes:
        """The secret again; DataError as `unwrap`."""
        try:
            return aes_key_unwrap_with_padding(self._octets, wrapped)
        except InvalidUnwrap:
            raise DataError(
                "a meter's secret cannot be unwrapped: the master key is not the one that wrapped it; give the right one"
            ) from None


def load_master_key(path: Path, *, create: bool = False) -> MasterKey:
    """From the environment if set, else from `path` (made with a fresh random key when `create`)."""
    if text := os.environ.get(ENVIRONMENT):
        return MasterKey(_parse(text, f"environment variable {ENVIRONMENT}"))
    if create and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise DataError(f"no master key: {path} is not there and {ENVIRONMENT} is not set; restore the file or set the variable") from None
    except OSError as error:
        raise DataError(f"master key {path} cannot be read ({error.strerror}); let this user read it, or set {ENVIRONMENT}") from None
    return MasterKey(_parse(text, f"file {path}"))


def _parse(text: str, source: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        raise InputError(f"the master key in {source} is not hexadecimal; it needs 64 hex digits") from None
