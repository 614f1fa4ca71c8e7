"""What a simulated meter sends by itself, without sockets: which push setup is due, what is in it, how it is ciphered (IS 15959 part 2).

Block load, daily and billing rows are pushed as they are captured, the instantaneous values when asked, the event status word when it
changes. What always holds:
- a push is made from its setup's own object list (attribute 2), so a client that writes another list gets another push;
- a row is pushed until it is settled: confirmed, or sent where no confirmation is asked for; nothing is settled by being tried;
- every attempt is ciphered anew under the push client's next invocation counter, with the same long invoke id;
- events go first, and each as the status word stood when it happened; in the dark there is the last gasp and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..cosem import ciphering, notification
from ..cosem.association import SecurityState
from ..cosem.axdr import NULL, Data, Tag
from ..cosem.profile import Capture, ProfileGeneric
from ..cosem.push import obis_bytes
from ..cosem.register_push import push_kind
from ..errors import MeterError, RequestError
from .associations import PUSH

if TYPE_CHECKING:
    from .device import MeterDevice

INSTANTANEOUS, EVENTS = "0.0.25.9.0.255", "0.4.25.9.0.255"
OF_PROFILE = {"block_load": "0.5.25.9.0.255", "daily_load": "0.6.25.9.0.255", "billing": "0.132.25.9.0.255"}
FILTER = (1, "0.0.94.91.26.255")
ROWS_MAX = 16
"""Rows in one push: what is left goes into the next, so that a push fits a datagram."""
EVENTS_MAX = 50


class Outgoing(NamedTuple):
    """A push on its way. body: what it says; rows_to: (profile's code, stamp) -> settled up to there; last_gasp: sent once, from what
    charge is left."""

    setup: str
    invoke: int
    body: Data
    confirmed: bool
    rows_to: tuple[tuple[str, int], ...]
    rows: int
    last_gasp: bool

    @property
    def kind(self) -> str:
        return push_kind(self.setup) or "other"


class Pushing:
    """The pushes of one meter. confirmed: asks the head-end to confirm each; wake: told when something is due."""

    def __init__(self, device: MeterDevice) -> None:
        self._device = device
        self._due: deque[str] = deque()
        self._events: deque[tuple[Data, bool]] = deque(maxlen=EVENTS_MAX)
        self._settled: dict[str, int] = {}
        self.started = False
        self.confirmed = True
        self.wake: Callable[[], None] = lambda: None

    def start(self, now_s: int, confirmed: bool = True) -> None:
        """Pushes from now on, beginning with the newest row of each profile, the status word and the instantaneous values."""
        self._device.life.advance(now_s)
        self.started, self.confirmed = True, confirmed
        for name in OF_PROFILE:
            profile = self._device.profiles[name]
            stamps = [stamp for stamp, _ in profile.after(-(2**62), profile.depth)]
            self._settled[profile.obis] = stamps[-2] if len(stamps) > 1 else -(2**62)
        for setup in (INSTANTANEOUS, *OF_PROFILE.values()):
            self.ask(setup)
        self._events.append((self._body(EVENTS, now_s)[0], False))

    def ask(self, setup: str) -> None:
        """A push by this setup is due (its method 1, a timer, a capture)."""
        if self.started and setup not in self._due:
            self._due.append(setup)
            self.wake()

    def captured(self, name: str) -> None:
        """The profile has a new row."""
        self.ask(OF_PROFILE[name])

    def status_changed(self, bits: tuple[int, ...], now_s: int) -> None:
        """The status word changed in `bits`; pushed as it stands, where the meter's own filter has one of them."""
        allowed: str = self._device.objects[FILTER].attributes[2].value
        if self.started and any(allowed[bit : bit + 1] == "1" for bit in bits):
            self._events.append((self._body(EVENTS, now_s)[0], self._device.dark))
            self.wake()

    def take(self, now_s: int) -> Outgoing | None:
        """The next push, or None where nothing is due. Give it to `settle` once it is delivered, else it comes again."""
        invoke = self._security().own_counter & notification.MAX_LONG_INVOKE_ID
        while self._events:
            body, gasp = self._events[0]
            if gasp or not self._device.dark:
                return Outgoing(EVENTS, invoke, body, self.confirmed and not gasp, (), 0, gasp)
            self._events.popleft()
        while self._due and not self._device.dark:
            body, rows_to, rows = self._body(self._due[0], now_s)
            if rows or self._due[0] not in OF_PROFILE.values():
                return Outgoing(self._due[0], invoke, body, self.confirmed, rows_to, rows, False)
            self._due.popleft()
        return None

    def settle(self, sent: Outgoing) -> None:
        """`sent` is delivered, or given up where it carries no rows: it does not come again."""
        if sent.setup == EVENTS:
            if self._events and self._events[0][0] is sent.body:
                self._events.popleft()
            return
        self._settled |= dict(sent.rows_to)
        if self._due and self._due[0] == sent.setup and sent.rows < ROWS_MAX:
            self._due.popleft()

    def put_off(self, sent: Outgoing) -> None:
        """`sent` could not be delivered: others go first. Rows wait for the next row of their profile, or for being asked for."""
        if sent.rows:
            if self._due and self._due[0] == sent.setup:
                self._due.popleft()
            return
        self.settle(sent)

    def seal(self, sent: Outgoing) -> bytes:
        """The APDU of one attempt, under the next invocation counter of the push client (64)."""
        security = self._security()
        plain = notification.DataNotification(sent.invoke, sent.confirmed, False, b"", sent.body).encode()
        policy = self._device.setups[PUSH].policy
        octets = ciphering.seal(ciphering.GENERAL_GLO, self._device.title, policy, security.own_counter, security.keys, plain)
        security.own_counter += 1
        return octets

    def confirms(self, sent: Outgoing, apdu: bytes) -> bool:
        """Whether `apdu` is the genuine confirmation of `sent`."""
        try:
            sealed = ciphering.parse_sealed(apdu)
            if sealed.security_control & 0x30 != self._device.setups[PUSH].policy & 0x30:
                return False
            answer = notification.DataNotificationConfirm.decode(ciphering.open_sealed(sealed, self._security().keys))
        except MeterError:
            return False
        return answer.long_invoke_id == sent.invoke

    def _security(self) -> SecurityState:
        security = self._device.setups[PUSH].security
        if security is None:
            raise RequestError("the push association has no keys")
        return security

    def _body(self, setup: str, now_s: int) -> tuple[Data, tuple[tuple[str, int], ...], int]:
        """(the push's body, profile -> last row in it, rows in it), from the setup's object list."""
        values: list[Data] = []
        rows_to: list[tuple[str, int]] = []
        count = 0
        for one in self._device.objects[40, setup].attributes[2].value:
            column = Capture.decode(one)
            found = self._device.objects.get((column.class_id, column.obis))
            if isinstance(found, ProfileGeneric) and column.attribute == 2 and column.obis in self._settled:
                rows = found.after(self._settled[column.obis], ROWS_MAX)
                values.append(Data(Tag.ARRAY, tuple(Data(Tag.STRUCTURE, row) for _, row in rows)))
                rows_to += [(column.obis, rows[-1][0])] if rows else []
                count += len(rows)
            elif (column.class_id, column.attribute) == (40, 1):
                values.append(Data(Tag.OCTET_STRING, obis_bytes(column.obis)))
            else:
                shown = found.get(column.attribute, None, now_s) if found else None
                values.append(shown if isinstance(shown, Data) else NULL)
        return Data(Tag.STRUCTURE, tuple(values)), tuple(rows_to), count
