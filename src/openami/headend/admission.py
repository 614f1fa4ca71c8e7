"""Admission: one frame judged by itself and by its meter's last invocation counter.

Causes of refusal (`docs/glossary.md`, "quarantine"): unknown_meter, malformed, policy, bad_tag, undecipherable, replayed_counter.

What always holds:
- a counter moves only for a frame whose tag holds (0x30) or whose plain text is a whole data-notification (0x20 has no tag: no proof of
  origin, so a wrong key shows as bytes that make no sense);
- counters strictly grow (Green Book 9.2.7.2.4.3): a genuine frame with an equal or lower one is a replay and is refused;
- a meter whose push key is being changed is heard under the old key and, from the first push that only the new one opens, under the new one
  alone; its counter begins anew there;
- the verdict depends on the journal's order alone, never on time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..cosem import ciphering, notification, wrapper
from ..cosem.bulk import BulkDecoder, BulkResult, KeyTable
from ..cosem.bulk import Verdict as Bulk
from ..cosem.ciphering import Keys
from ..cosem.push import PushLayout, layouts
from ..errors import DataError, MeterError
from ..readings import Int32, Int64
from ..registry import Meter
from ..store.keys import MasterKey

BLOCK_LOAD_PUSH = "0.5.25.9.0.255"
"""The push object whose rows are block load [verify: IS 15959 part 2's amendments number it so]."""
NO_LAYOUT = PushLayout("", "", "0.0.0.0.0.0", (), "rows")
BULK_FRAMES_MIN = 8
"""From how many frames on a batch is worth the bulk decoder's fixed cost."""
CONFIRMED = 1 << 30
"""The service class bit of long-invoke-id-and-priority."""


@dataclass(frozen=True, slots=True)
class Correspondent:
    """A registered meter and its push keys, unwrapped in memory only. later: those that it got since, in order; the last may still be under way."""

    meter: Meter
    keys: Keys
    later: tuple[Keys, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """cause None = taken in: then `notification` is set, and `confirm` if the meter asked for it (a wrapper frame, ready to send)."""

    cause: str | None
    detail: str = ""
    serial: str | None = None
    notification: notification.DataNotification | None = None
    meter: Meter | None = None
    confirm: bytes | None = None


def correspondents(
    meters: Iterable[Meter],
    wrapped: dict[str, tuple[bytes, bytes]],
    master: MasterKey,
    changed: Mapping[str, Sequence[tuple[bytes, bytes]]] | None = None,
) -> dict[bytes, Correspondent]:
    """system title -> meter and keys. changed: serial -> the push keys that followed, wrapped, in order. DataError names a meter without keys."""
    known = {}
    for meter in meters:
        if meter.serial not in wrapped:
            raise DataError(f"meter {meter.serial} has no keys in the registry; import them before the head-end starts")
        first, *later = [
            Keys(master.unwrap(ek), master.unwrap(ak)) for ek, ak in (wrapped[meter.serial], *(changed or {}).get(meter.serial, ()))
        ]
        known[meter.system_title] = Correspondent(meter, first, tuple(later))
    return known


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch, judged. confirms: each frame's confirmation, None = none; taken, meters: places of the frames that were taken in by a known form,
    and whose they are (`Admission.peers`), int64 [n]; alone: place -> verdict of every other frame; row, stamp_s: the intervals of block load
    that the known forms brought, and whose they are, int [m]. What came in another form has its `notification` in its verdict."""

    confirms: list[bytes | None]
    taken: Int64
    meters: Int64
    alone: dict[int, Verdict]
    row: Int32
    stamp_s: Int64

    @classmethod
    def of(cls, alone: dict[int, Verdict]) -> Judged:
        """A batch of which every frame was judged alone."""
        none = np.empty(0, np.int64)
        return cls([verdict.confirm for verdict in alone.values()], none, none, alone, np.empty(0, np.int32), none)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A genuine, new frame. later: which of its meter's keys under way has opened it, None = those that hold."""

    row: int
    sealed: ciphering.Sealed
    plain: bytes
    push: notification.DataNotification
    later: int | None = None


class Admission:
    """Judges frames in journal order. `judge` takes one frame, `judge_batch` many through the bulk decoder: the verdicts are the same.

    known: system title -> meter and keys; counters: serial -> last accepted invocation counter, as far as frames were judged before, and moved:
    serial -> how many of its later keys it had used by then (both as the properties of the same names gave them).
    peers: the meters in the rows of `decoder`, whose counters are the ones that count.
    """

    def __init__(
        self,
        known: dict[bytes, Correspondent],
        headend_title: bytes,
        counters: dict[str, int] | None = None,
        moved: Mapping[str, int] | None = None,
    ) -> None:
        self._title = headend_title
        self._apdu_head = bytes((ciphering.GENERAL_GLO, len(headend_title))) + headend_title
        self.peers = list(known.values())
        self.layouts = (*(one for one in layouts() if one.push_object == BLOCK_LOAD_PUSH), NO_LAYOUT)
        self.layout = _layout_of(self.peers, self.layouts)
        self._titles = _key_table(self.peers, self.layout)
        self.decoder = _bulk_decoder(self.peers, self.layouts, self.layout, self._titles)
        self._row = {peer.meter.serial: row for row, peer in enumerate(self.peers)}
        self._row_of_title = {peer.meter.system_title: row for row, peer in enumerate(self.peers)}
        self._later = {row: list(peer.later) for row, peer in enumerate(self.peers) if peer.later}
        self._keys: dict[int, Keys] = {}
        self.proved: list[str] = []
        """Meters whose keys under way have opened a push, since somebody looked."""
        for serial, counter in (counters or {}).items():
            if serial in self._row:
                self.decoder.counters[self._row[serial]] = counter
        self.moved: dict[str, int] = {}
        """serial -> how many of its later keys a meter has left behind or uses now; none where it has moved to none."""
        for serial, passed in (moved or {}).items():
            self._follow(self._row[serial], passed)

    @property
    def counters(self) -> dict[str, int]:
        """serial -> last accepted invocation counter, of the meters that have one."""
        return {serial: int(self.decoder.counters[row]) for serial, row in self._row.items() if self.decoder.counters[row] >= 0}

    def counter(self, serial: str) -> int:
        """The last accepted invocation counter of one registered meter, -1 = none."""
        return int(self.decoder.counters[self._row[serial]])

    def row(self, serial: str) -> int:
        """A registered meter's place in `peers`."""
        return self._row[serial]

    def expect_keys(self, serial: str, keys: Keys) -> None:
        """New push keys are on their way to this meter; the old ones hold until it pushes under these."""
        self._later.setdefault(self._row[serial], []).append(keys)

    @property
    def changing(self) -> list[int]:
        """The rows of the meters that have keys under way which they have not used yet."""
        return [row for row, keys in self._later.items() if keys]

    def same_counters(self, frames: Sequence[bytes]) -> list[tuple[int, int]]:
        """(place, row) of the frames that bear the last accepted counter of their meter: each is that very frame again, or a forgery."""
        if len(frames) < BULK_FRAMES_MIN:
            alone = [(k, self._row_of_title.get(octets[10:18]), octets) for k, octets in enumerate(frames) if _plainly_written(octets)]
            return [
                (k, row)
                for k, row, octets in alone
                if row is not None and self.decoder.counters[row] == int.from_bytes(octets[20:24], "big")
            ]
        simple = [k for k, octets in enumerate(frames) if _plainly_written(octets)]
        if not simple or not self.peers:
            return []
        heads = np.frombuffer(b"".join([frames[k][10:24] for k in simple]), np.uint8).reshape(len(simple), 14)
        row = self._titles.locate(np.ascontiguousarray(heads[:, :8]).view(">u8").ravel())
        counter = np.ascontiguousarray(heads[:, 10:14]).view(">u4").ravel().astype(np.int64)
        same = np.flatnonzero((row >= 0) & (self.decoder.counters[row] == counter)).tolist()
        return [(simple[k], int(row[k])) for k in same]

    def undecided(self, found: BulkResult) -> Int64:
        """The frames of a bulk decoded batch that `judge` must see, in order: those handed back, and of meters whose keys have changed also those
        that the keys so far do not open."""
        if not self._later:
            return found.general
        changing = np.zeros(len(self.peers) + 1, np.bool_)
        changing[self.changing] = True
        under_others = (
            np.isin(found.verdict, (Bulk.BAD_TAG, Bulk.REPLAYED_COUNTER)) & changing[found.meter]
        )  # a new key's counter begins anew
        return np.flatnonzero((found.verdict == Bulk.GENERAL) | under_others)

    def judge_batch(self, frames: Sequence[bytes]) -> Judged:
        """The verdicts of a batch without an object for every frame, and the intervals that came."""
        if len(frames) < BULK_FRAMES_MIN:
            return Judged.of({k: self.judge(octets) for k, octets in enumerate(frames)})
        confirms: list[bytes | None] = [None] * len(frames)
        found = self.decoder.decode(*one_behind_the_other(frames))
        known = found.verdict == Bulk.TAKEN
        taken = np.flatnonzero(known)
        asking = np.flatnonzero(known & ((found.invoke & CONFIRMED) != 0))
        answers = found.invoke[asking].astype(">u4").tobytes()
        for number, (k, row, counter) in enumerate(
            zip(asking.tolist(), found.meter[asking].tolist(), found.counter[asking].tolist(), strict=True)
        ):
            octets = frames[k]
            confirms[k] = self._confirm(octets, row, _control(octets), counter, answers[4 * number : 4 * number + 4])
        alone = {}
        for k in np.flatnonzero(~known).tolist():
            verdict = alone[k] = self.judge(frames[k])
            confirms[k] = verdict.confirm
        return Judged(confirms, taken, found.meter[taken].astype(np.int64), alone, found.meter[found.frame], found.stamp_s)

    def judge(self, octets: bytes) -> Verdict:
        """`octets`: one wrapper frame as it came. Never raises for what a peer sent."""
        seen = self._look(octets)
        if isinstance(seen, Verdict):
            return seen
        if seen.later is not None:
            self._follow(seen.row, seen.later + 1)
            self.decoder.counters[seen.row] = -1
            self.proved.append(self.peers[seen.row].meter.serial)
        meter, control, counter = self.peers[seen.row].meter, seen.sealed.security_control, seen.sealed.invocation_counter
        self.decoder.counters[seen.row] = counter
        confirm = self._confirm(octets, seen.row, control, counter, seen.plain[1:5]) if seen.push.confirmed else None
        return Verdict(None, serial=meter.serial, notification=seen.push, meter=meter, confirm=confirm)

    def foresee(self, octets: bytes) -> str | None:
        """The cause for which a frame would be refused now, None = it would be taken in; nothing moves. Asked of senders that send too much of
        what is refused."""
        seen = self._look(octets)
        return seen.cause if isinstance(seen, Verdict) else None

    def _look(self, octets: bytes) -> Verdict | _Seen:
        """First whether the frame is genuine, then whether it is new: a forged counter moves nothing and proves nothing."""
        try:
            frames = wrapper.unwrap(octets)
            if len(frames) != 1:
                return Verdict("malformed", f"{len(frames)} wrapper frames where one was expected")
            sealed = ciphering.parse_sealed(frames[0].apdu)
        except MeterError as error:
            return Verdict("malformed", str(error))
        row = self._row_of_title.get(sealed.system_title)
        if row is None:
            return Verdict("unknown_meter", f"system title {sealed.system_title.hex() or 'missing'} is not in the registry")
        peer = self.peers[row]
        serial, control = peer.meter.serial, sealed.security_control
        demanded = peer.meter.security_control & 0x30
        if control & demanded != demanded or sealed.tag != ciphering.GENERAL_GLO:
            return Verdict("policy", f"protected with 0x{control:02x}, this meter's push policy demands 0x{demanded:02x}", serial)
        opened = _opened(sealed, self._keys.get(row, peer.keys))
        if not isinstance(opened, MeterError):
            if sealed.invocation_counter <= self.decoder.counters[row]:
                return Verdict(
                    "replayed_counter", f"invocation counter {sealed.invocation_counter} is not above the last accepted one", serial
                )
            return _Seen(row, sealed, *opened)
        for number, keys in enumerate(self._later.get(row, ())):
            under_new = _opened(sealed, keys)
            if not isinstance(under_new, MeterError):
                return _Seen(row, sealed, *under_new, number)
        return Verdict(opened.cause, str(opened), serial)

    def confirm_again(self, octets: bytes) -> bytes | None:
        """The confirmation of a frame that was taken in before, byte for byte this one: the same bytes as then. None = it asked for none."""
        sealed = ciphering.parse_sealed(wrapper.unwrap(octets)[0].apdu)
        row = self._row_of_title[sealed.system_title]
        opened = _opened(sealed, self._keys.get(row, self.peers[row].keys))
        if isinstance(opened, MeterError) or not opened[1].confirmed:
            return None
        return self._confirm(octets, row, sealed.security_control, sealed.invocation_counter, opened[0][1:5])

    def opens(self, octets: bytes) -> bool:
        """Whether a frame of a registered meter opens under the keys that hold, whatever its counter."""
        try:
            sealed = ciphering.parse_sealed(wrapper.unwrap(octets)[0].apdu)
        except (MeterError, IndexError):
            return False
        row = self._row_of_title.get(sealed.system_title)
        return row is not None and not isinstance(_opened(sealed, self._keys.get(row, self.peers[row].keys)), MeterError)

    def _follow(self, row: int, passed: int) -> None:
        """From here on this meter's pushes are under the last of so many of its later keys."""
        keys, serial = self._later[row], self.peers[row].meter.serial
        self._keys[row] = keys[passed - 1]
        self.decoder.rekey(row, keys[passed - 1])
        self.moved[serial] = self.moved.get(serial, 0) + passed
        del keys[:passed]

    def _confirm(self, octets: bytes, row: int, control: int, counter: int, invoke: bytes) -> bytes:
        """The confirmation of the push in the wrapper frame `octets`, protected as the push was (`control`). Its invocation counter is the
        push's own: accepted ones strictly grow, so the nonce (this title, that counter) comes once for a key
        (`docs/decisions/0003-confirming-pushes.md`)."""
        answer = bytes((notification.CONFIRM_TAG,)) + invoke + b"\x00"
        keys = self._keys.get(row) or self.peers[row].keys
        if (
            control in (0x20, 0x30) and len(keys.ek) == 16 and _plainly_written(octets)
        ):  # as `seal` does it, on the way that nearly all take
            front, cipher = octets[19:24], ciphering.gcm(keys.ek)
            if control == 0x20:
                sealed = front + cipher.encrypt(self._title + front[1:], answer, None)[:-16]
            else:
                sealed = front + cipher.encrypt(self._title + front[1:], answer, front[:1] + keys.ak)[: len(answer) + ciphering.TAG_BYTES]
            apdu = self._apdu_head + bytes((len(sealed),)) + sealed
        else:
            apdu = ciphering.seal(ciphering.GENERAL_GLO, self._title, control, counter, keys, answer)
        return octets[:2] + octets[4:6] + octets[2:4] + len(apdu).to_bytes(2, "big") + apdu


def _opened(sealed: ciphering.Sealed, keys: Keys) -> tuple[bytes, notification.DataNotification] | MeterError:
    """The plain bytes and the push in them, or why there is none under these keys."""
    try:
        plain = ciphering.open_sealed(sealed, keys)
    except MeterError as error:
        return error
    try:
        return plain, notification.DataNotification.decode(plain)
    except MeterError as error:
        cause = "malformed" if sealed.security_control.authenticated else "undecipherable"
        return MeterError(f"no data-notification after deciphering: {error}", cause)


def _plainly_written(octets: bytes) -> bool:
    """Whether the title stands at byte 10 and the counter at byte 20, as where no length is written in more bytes than it needs."""
    return len(octets) >= 24 and octets[9] == 8 and octets[18] < 0x80


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


def _key_table(peers: list[Correspondent], layout: Int32) -> KeyTable:
    """Keys of 32 bytes (suite 2) do not fit in it: such a meter's frames come back to the general decoder."""
    short = [peer.keys if len(peer.keys.ek) == 16 else None for peer in peers]
    empty = bytes(16)

    def table(octets: list[bytes], size: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(b"".join(octets), np.uint8).reshape(len(octets), size)

    return KeyTable(
        table([peer.meter.system_title for peer in peers], 8),
        table([k.ek if k else empty for k in short], 16),
        table([k.ak if k else empty for k in short], 16),
        np.array([peer.meter.security_control for peer in peers], np.uint8),
        layout,
    )


def _bulk_decoder(peers: list[Correspondent], known: tuple[PushLayout, ...], layout: Int32, keys: KeyTable) -> BulkDecoder:
    """The bulk decoder for these meters, expecting pushes whose device id is the serial number."""
    decoder = BulkDecoder(known, keys)
    for at, length in {(int(at), len(peer.meter.serial)) for at, peer in zip(layout, peers, strict=True) if known[at] is not NO_LAYOUT}:
        decoder.expect(at, length)
    return decoder
