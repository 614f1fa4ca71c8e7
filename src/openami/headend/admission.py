"""Admission: one frame judged by itself and by its meter's last invocation counter.

Causes of refusal (`docs/glossary.md`, "quarantine"): unknown_meter, malformed, policy, bad_tag, undecipherable, replayed_counter.

What always holds:
- a counter moves only for a frame whose tag holds (0x30) or whose plain text is a whole data-notification (0x20 has no tag: no proof of
  origin, so a wrong key shows as bytes that make no sense);
- counters strictly grow (Green Book 9.2.7.2.4.3): an equal or lower one is a replay and is refused, whatever it says;
- the verdict depends on the journal's order alone, never on time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..cosem import ciphering, notification, wrapper
from ..cosem.ciphering import Keys
from ..errors import DataError, MeterError
from ..registry import Meter
from ..store.keys import MasterKey


@dataclass(frozen=True, slots=True)
class Correspondent:
    """A registered meter and its keys, unwrapped in memory only."""

    meter: Meter
    keys: Keys


@dataclass(frozen=True, slots=True)
class Verdict:
    """cause None = taken in: then `notification` is set, and `confirm` if the meter asked for it (a wrapper frame, ready to send)."""

    cause: str | None
    detail: str = ""
    serial: str | None = None
    notification: notification.DataNotification | None = None
    meter: Meter | None = None
    confirm: bytes | None = None


def correspondents(meters: Iterable[Meter], wrapped: dict[str, tuple[bytes, bytes]], master: MasterKey) -> dict[bytes, Correspondent]:
    """system title -> meter and keys. DataError names a meter without keys."""
    known = {}
    for meter in meters:
        if meter.serial not in wrapped:
            raise DataError(f"meter {meter.serial} has no keys in the registry; import them before the head-end starts")
        ek, ak = wrapped[meter.serial]
        known[meter.system_title] = Correspondent(meter, Keys(master.unwrap(ek), master.unwrap(ak)))
    return known


class Admission:
    """Judges frames in journal order. `counters`: serial -> last accepted invocation counter, as far as frames were judged before."""

    def __init__(self, known: dict[bytes, Correspondent], headend_title: bytes, counters: dict[str, int] | None = None) -> None:
        self._known = known
        self._title = headend_title
        self.counters = dict(counters or {})

    def judge(self, octets: bytes) -> Verdict:
        """`octets`: one wrapper frame as it came. Never raises for what a peer sent."""
        try:
            frames = wrapper.unwrap(octets)
            if len(frames) != 1:
                return Verdict("malformed", f"{len(frames)} wrapper frames where one was expected")
            sealed = ciphering.parse_sealed(frames[0].apdu)
        except MeterError as error:
            return Verdict("malformed", str(error))
        peer = self._known.get(sealed.system_title)
        if peer is None:
            return Verdict("unknown_meter", f"system title {sealed.system_title.hex() or 'missing'} is not in the registry")
        return self._judge_known(peer, sealed, frames[0])

    def _judge_known(self, peer: Correspondent, sealed: ciphering.Sealed, frame: wrapper.WrapperFrame) -> Verdict:
        serial, control = peer.meter.serial, sealed.security_control
        demanded = peer.meter.security_control & 0x30
        if control & demanded != demanded or sealed.tag != ciphering.GENERAL_GLO:
            return Verdict("policy", f"protected with 0x{control:02x}, this meter's push policy demands 0x{demanded:02x}", serial)
        last = self.counters.get(serial, -1)
        if sealed.invocation_counter <= last:
            return Verdict("replayed_counter", f"invocation counter {sealed.invocation_counter}, the last accepted one was {last}", serial)
        try:
            plain = ciphering.open_sealed(sealed, peer.keys)
        except MeterError as error:
            return Verdict(error.cause, str(error), serial)
        try:
            push = notification.DataNotification.decode(plain)
        except MeterError as error:
            cause = "malformed" if control.authenticated else "undecipherable"
            return Verdict(cause, f"no data-notification after deciphering: {error}", serial)
        self.counters[serial] = sealed.invocation_counter
        confirm = self._confirm(peer, sealed, push, frame) if push.confirmed else None
        return Verdict(None, serial=serial, notification=push, meter=peer.meter, confirm=confirm)

    def _confirm(
        self, peer: Correspondent, sealed: ciphering.Sealed, push: notification.DataNotification, frame: wrapper.WrapperFrame
    ) -> bytes:
        """The confirmation, protected as the push was. Its invocation counter is the push's own: accepted ones strictly grow, so the nonce
        (this title, that counter) comes once for a key (`docs/decisions/0003-confirming-pushes.md`)."""
        answer = notification.DataNotificationConfirm(push.long_invoke_id, push.confirmed, push.high_priority, b"")
        apdu = ciphering.seal(
            ciphering.GENERAL_GLO, self._title, int(sealed.security_control), sealed.invocation_counter, peer.keys, answer.encode()
        )
        return wrapper.wrap(frame.destination, frame.source, apdu)
