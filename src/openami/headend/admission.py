"""Admission: one frame judged by itself and by its meter's last invocation counter.

Causes of refusal (`docs/glossary.md`, "quarantine"): unknown_meter, malformed, policy, bad_tag, undecipherable, replayed_counter.

What always holds:
- a counter moves only for a frame whose tag holds (0x30) or whose plain text is a whole data-notification (0x20 has no tag: no proof of
  origin, so a wrong key shows as bytes that make no sense);
- counters strictly grow (Green Book 9.2.7.2.4.3): a genuine frame with an equal or lower one is a replay and is refused;
- the verdict depends on the journal's order alone, never on time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..cosem import ciphering, notification, wrapper
from ..cosem.bulk import BulkDecoder, KeyTable
from ..cosem.bulk import Verdict as Bulk
from ..cosem.ciphering import Keys
from ..cosem.push import PushLayout, layouts
from ..errors import DataError, MeterError
from ..readings import Int32, Int64
from ..registry import Meter
from ..store.keys import MasterKey

BLOCK_LOAD_PUSH = "0.5.25.9.0.255"
"""The push object whose rows are block load [verify: IS 15959 part 2's amendments number it so]."""
NO_LAYOUT = PushLayout("", "", "", (), "rows")
BULK_FRAMES_MIN = 8
"""From how many frames on a batch is worth the bulk decoder's fixed cost."""
CONFIRMED = 1 << 30
"""The service class bit of long-invoke-id-and-priority."""


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
    """Judges frames in journal order. `judge` takes one frame, `judge_all` a batch through the bulk decoder: the verdicts are the same.

    known: system title -> meter and keys; counters: serial -> last accepted invocation counter, as far as frames were judged before.
    peers: the meters in the rows of `decoder`, whose counters are the ones that count.
    """

    def __init__(self, known: dict[bytes, Correspondent], headend_title: bytes, counters: dict[str, int] | None = None) -> None:
        self._known = known
        self._title = headend_title
        self.peers = list(known.values())
        self.layouts = (*(one for one in layouts() if one.push_object == BLOCK_LOAD_PUSH), NO_LAYOUT)
        self.layout = _layout_of(self.peers, self.layouts)
        self.decoder = _bulk_decoder(self.peers, self.layouts, self.layout)
        self._row = {peer.meter.serial: row for row, peer in enumerate(self.peers)}
        for serial, counter in (counters or {}).items():
            if serial in self._row:
                self.decoder.counters[self._row[serial]] = counter

    @property
    def counters(self) -> dict[str, int]:
        """serial -> last accepted invocation counter, of the meters that have one."""
        return {serial: int(self.decoder.counters[row]) for serial, row in self._row.items() if self.decoder.counters[row] >= 0}

    def counter(self, serial: str) -> int:
        """The last accepted invocation counter of one registered meter, -1 = none."""
        return int(self.decoder.counters[self._row[serial]])

    def judge_all(self, frames: Sequence[bytes]) -> list[Verdict]:
        """The verdicts of a batch, in its order. A frame that is taken in by its known form has no `notification` in its verdict."""
        if len(frames) < BULK_FRAMES_MIN:
            return [self.judge(octets) for octets in frames]
        found = self.decoder.decode(*one_behind_the_other(frames))
        verdicts = []
        for octets, code, row, counter, invoke in zip(
            frames, found.verdict.tolist(), found.meter.tolist(), found.counter.tolist(), found.invoke.tolist(), strict=True
        ):
            verdicts.append(self._taken(octets, self.peers[row], counter, invoke) if code == Bulk.TAKEN else self.judge(octets))
        return verdicts

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
        return self._judge_known(peer, sealed, octets)

    def _judge_known(self, peer: Correspondent, sealed: ciphering.Sealed, octets: bytes) -> Verdict:
        """First whether the frame is genuine, then whether it is new: a forged counter moves nothing and proves nothing."""
        serial, control = peer.meter.serial, sealed.security_control
        demanded = peer.meter.security_control & 0x30
        if control & demanded != demanded or sealed.tag != ciphering.GENERAL_GLO:
            return Verdict("policy", f"protected with 0x{control:02x}, this meter's push policy demands 0x{demanded:02x}", serial)
        try:
            plain = ciphering.open_sealed(sealed, peer.keys)
        except MeterError as error:
            return Verdict(error.cause, str(error), serial)
        try:
            push = notification.DataNotification.decode(plain)
        except MeterError as error:
            cause = "malformed" if control.authenticated else "undecipherable"
            return Verdict(cause, f"no data-notification after deciphering: {error}", serial)
        if sealed.invocation_counter <= self.counter(serial):
            return Verdict("replayed_counter", f"invocation counter {sealed.invocation_counter} is not above the last accepted one", serial)
        self.decoder.counters[self._row[serial]] = sealed.invocation_counter
        confirm = self._confirm(octets, peer, control, sealed.invocation_counter, plain[1:5]) if push.confirmed else None
        return Verdict(None, serial=serial, notification=push, meter=peer.meter, confirm=confirm)

    def _taken(self, octets: bytes, peer: Correspondent, counter: int, invoke: int) -> Verdict:
        """The verdict on a frame that the bulk decoder has taken in."""
        confirm = self._confirm(octets, peer, _control(octets), counter, invoke.to_bytes(4, "big")) if invoke & CONFIRMED else None
        return Verdict(None, serial=peer.meter.serial, meter=peer.meter, confirm=confirm)

    def _confirm(self, octets: bytes, peer: Correspondent, control: int, counter: int, invoke: bytes) -> bytes:
        """The confirmation of the push in the wrapper frame `octets`, protected as the push was (`control`). Its invocation counter is the
        push's own: accepted ones strictly grow, so the nonce (this title, that counter) comes once for a key
        (`docs/decisions/0003-confirming-pushes.md`)."""
        answer = bytes((notification.CONFIRM_TAG,)) + invoke + b"\x00"
        apdu = ciphering.seal(ciphering.GENERAL_GLO, self._title, control, counter, peer.keys, answer)
        return octets[:2] + octets[4:6] + octets[2:4] + len(apdu).to_bytes(2, "big") + apdu


def _control(octets: bytes) -> int:
    """The security control byte of a sealed wrapper frame. Lengths may be written in more bytes than they need, by anybody on the way."""
    if octets[9] == 8 and octets[18] < 0x80:
        return octets[19]
    return ciphering.parse_sealed(octets[8:]).security_control


def one_behind_the_other(frames: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Int64]:
    """Frames as the bulk decoder takes them: bytes, and offsets int64 [n + 1]. It would take a bare APDU too, but a push comes in a wrapper:
    what does not begin like one stands there as nothing, and so is handed back."""
    wrapped = [octets if octets[:2] == b"\x00\x01" else b"" for octets in frames]
    offsets = np.concatenate([[0], np.cumsum([len(octets) for octets in wrapped])]).astype(np.int64)
    return np.frombuffer(b"".join(wrapped), np.uint8), offsets


def _layout_of(peers: list[Correspondent], known: tuple[PushLayout, ...]) -> Int32:
    """Each meter's position in `known`; the last one, which nothing fits, for a model without layout."""
    at = {(one.maker, one.model): k for k, one in enumerate(known)}
    return np.array([at.get((peer.meter.maker, peer.meter.model), len(known) - 1) for peer in peers], np.int32)


def _bulk_decoder(peers: list[Correspondent], known: tuple[PushLayout, ...], layout: Int32) -> BulkDecoder:
    """The bulk decoder for these meters, expecting pushes whose device id is the serial number. Keys of 32 bytes (suite 2) do not fit its
    table: such a meter's frames come back to the general decoder."""
    short = [peer.keys if len(peer.keys.ek) == 16 else None for peer in peers]
    empty = bytes(16)

    def table(octets: list[bytes], size: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(b"".join(octets), np.uint8).reshape(len(octets), size)

    keys = KeyTable(
        table([peer.meter.system_title for peer in peers], 8),
        table([k.ek if k else empty for k in short], 16),
        table([k.ak if k else empty for k in short], 16),
        np.array([peer.meter.security_control for peer in peers], np.uint8),
        layout,
    )
    decoder = BulkDecoder(known, keys)
    for at, length in {(int(at), len(peer.meter.serial)) for at, peer in zip(layout, peers, strict=True) if known[at] is not NO_LAYOUT}:
        decoder.expect(at, length)
    return decoder
