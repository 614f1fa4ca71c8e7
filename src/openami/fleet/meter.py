"""One simulated meter: its layout, keys and invocation counter; it makes the bytes of each push and knows its confirmation when it sees it."""

from __future__ import annotations

from dataclasses import dataclass

from ..cosem import ciphering, notification, wrapper
from ..cosem.axdr import Data
from ..cosem.ciphering import Keys
from ..cosem.clock import CosemDateTime
from ..cosem.push import PushLayout, push_body
from ..cosem.register_push import STATUS_WORD_OBIS, RegisterRow, register_body, register_layout_for
from ..errors import MeterError, RequestError

PUSH_PORT = 64
"""wPort of the push association's client (IS 15959 part 2)."""
METER_PORT = 1
BLOCK_LOAD_PUSH = "0.5.25.9.0.255"
EVENT_PUSH = "0.4.25.9.0.255"
STATUS_BITS = 128
DEVIATION_MINUTES = -330


@dataclass(slots=True)
class SimulatedMeter:
    """counter: the invocation counter of the next frame; it only grows."""

    serial: str
    system_title: bytes
    layout: PushLayout
    security_control: int
    keys: Keys
    counter: int

    def push(self, clock_s: int, stamp_s: int, values: dict[str, int]) -> bytes:
        """A block-load push of one row as a wrapper frame, asking for confirmation; uses up one counter value.

        clock_s: the meter's clock as it sends, stamp_s: the end of the interval, both UTC seconds; values: stored integers by channel name.
        """
        clock = CosemDateTime.from_stamp(clock_s, DEVIATION_MINUTES, 0)
        return self._sealed(push_body(self.layout, self.serial.encode(), clock, [(stamp_s, values)]))

    def status(self, clock_s: int, bit: int) -> bytes:
        """A push of the event status word with one bit set, as a wrapper frame, asking for confirmation; uses up one counter value."""
        layout = register_layout_for(self.layout.maker, self.layout.model, EVENT_PUSH)
        if layout is None:
            raise RequestError(f"no layout is known for status words of {self.layout.maker} {self.layout.model}")
        word = "".join("1" if each == bit else "0" for each in range(STATUS_BITS))
        clock = CosemDateTime.from_stamp(clock_s, DEVIATION_MINUTES, 0)
        return self._sealed(register_body(layout, self.serial.encode(), clock, [RegisterRow(clock_s, {(STATUS_WORD_OBIS, 2): word})]))

    def _sealed(self, body: Data) -> bytes:
        plain = notification.DataNotification(self.counter & notification.MAX_LONG_INVOKE_ID, True, False, b"", body).encode()
        sealed = ciphering.seal(ciphering.GENERAL_GLO, self.system_title, self.security_control, self.counter, self.keys, plain)
        self.counter += 1
        return wrapper.wrap(METER_PORT, PUSH_PORT, sealed)

    def confirms(self, apdu: bytes, long_invoke_id: int) -> bool:
        """Whether `apdu`, received from the head-end, is the genuine confirmation of the push with `long_invoke_id`."""
        try:
            sealed = ciphering.parse_sealed(apdu)
            answer = notification.DataNotificationConfirm.decode(ciphering.open_sealed(sealed, self.keys))
        except MeterError:
            return False
        return answer.long_invoke_id == long_invoke_id
