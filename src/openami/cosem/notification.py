"""Data-notification [15], the APDU of every push, and its confirmation [16] (IEC 62056-5-3 "DataNotification service").

Tag, long-invoke-id-and-priority (4), date-time as an octet-string of 0 or 12 bytes, then for the notification its body as A-XDR data.
Meters write the date-time in four ways; all are read, only the standard's is written (evidence in the cases beside the tests):
0c + 12 bytes (standard; Kamstrup, Kaifa MA309), 09 0c + 12 bytes (Kaifa MA304), 19 + 12 bytes, or the bare 12 bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import MeterError, RequestError
from .axdr import Buffer, Data, decode, encode

TAG = 0x0F
CONFIRM_TAG = 0x10
_CONFIRMED = 1 << 30
_HIGH_PRIORITY = 1 << 31
MAX_LONG_INVOKE_ID = 0xFFFFFF


class DataNotification(NamedTuple):
    """A push. long_invoke_id: 24 bits; confirmed: the peer wants a confirmation; when: b"" or 12 bytes of COSEM date-time."""

    long_invoke_id: int
    confirmed: bool
    high_priority: bool
    when: bytes
    body: Data

    def encode(self) -> bytes:
        return _head(TAG, self.long_invoke_id, self.confirmed, self.high_priority, self.when) + encode(self.body)

    @staticmethod
    def decode(apdu: Buffer) -> DataNotification:
        """From a plain APDU; MeterError where it is none, or anything is left over."""
        invoke, when, at = _read_head(apdu, TAG)
        body, end = decode(apdu, at)
        if end != len(apdu):
            raise MeterError(f"{len(apdu) - end} bytes are left over behind the data-notification of {end} bytes")
        return DataNotification(invoke & MAX_LONG_INVOKE_ID, bool(invoke & _CONFIRMED), bool(invoke & _HIGH_PRIORITY), when, body)


class DataNotificationConfirm(NamedTuple):
    """The answer to a confirmed push, with the push's long invoke id."""

    long_invoke_id: int
    confirmed: bool
    high_priority: bool
    when: bytes

    def encode(self) -> bytes:
        return _head(CONFIRM_TAG, self.long_invoke_id, self.confirmed, self.high_priority, self.when)

    @staticmethod
    def decode(apdu: Buffer) -> DataNotificationConfirm:
        """From a plain APDU; MeterError where it is none, or anything is left over."""
        invoke, when, at = _read_head(apdu, CONFIRM_TAG)
        if at != len(apdu):
            raise MeterError(f"{len(apdu) - at} bytes are left over behind the data-notification-confirm")
        return DataNotificationConfirm(invoke & MAX_LONG_INVOKE_ID, bool(invoke & _CONFIRMED), bool(invoke & _HIGH_PRIORITY), when)


def _head(tag: int, long_invoke_id: int, confirmed: bool, high_priority: bool, when: bytes) -> bytes:
    if not 0 <= long_invoke_id <= MAX_LONG_INVOKE_ID:
        raise RequestError(f"long invoke id {long_invoke_id} does not fit 24 bits")
    if len(when) not in (0, 12):
        raise RequestError(f"a data-notification's date-time has 0 or 12 bytes, not {len(when)}")
    invoke = long_invoke_id | _CONFIRMED * confirmed | _HIGH_PRIORITY * high_priority
    return bytes((tag,)) + invoke.to_bytes(4, "big") + bytes((len(when),)) + when


def _read_head(apdu: Buffer, tag: int) -> tuple[int, bytes, int]:
    """(long-invoke-id-and-priority, date-time, offset behind it)."""
    if len(apdu) < 6 or apdu[0] != tag:
        raise MeterError(f"these {len(apdu)} bytes do not begin like an APDU with tag 0x{tag:02x}")
    first = apdu[5]
    if first == 0:
        at, end = 6, 6
    elif first == 12 or first == 0x19:
        at, end = 6, 18
    elif first == 9 and len(apdu) > 6 and apdu[6] == 12:
        at, end = 7, 19
    elif first in (7, 8):
        at, end = 5, 17  # the high byte of a year between 1792 and 2303: the bare date-time
    else:
        raise MeterError(f"a data-notification's date-time has 0 or 12 bytes, not {first}")
    if end > len(apdu):
        raise MeterError("a data-notification ends inside its date-time")
    return int.from_bytes(apdu[1:5], "big"), bytes(apdu[at:end]), end
