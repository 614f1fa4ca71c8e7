"""Links carry whole APDUs over framed bytes: the wrapper over IP, and the HDLC data link of both sides (IEC 62056-46, 62056-47).

Both links have the same shape: `open`, `send`, `close` and `feed` on one hand, `take_out` for the bytes to send on the other. `feed`
gives `LinkEvent`s: UP, APDU (with its bytes), DOWN. No clock here: the shell calls `timed_out` when its patience ends.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import NamedTuple

from ..errors import MeterError, RequestError
from . import hdlc
from .hdlc import Address, Frame, HdlcReader
from .wrapper import MAX_APDU_BYTES, WrapperReader, wrap

DEFAULT_INFORMATION_BYTES = 128
DEFAULT_WINDOW = 1
MAX_INFORMATION_BYTES = 2030
"""What fits a frame of 2047 bytes with the longest addresses (IEC 62056-46, 6.4.4.4.3.2)."""
MAX_DATAGRAM_APDU_BYTES = 65_507 - 8
"""What fits a UDP datagram behind the wrapper's header (RFC 768 over IPv4)."""
GENERAL_BLOCK = b"\xe0"
PLAIN_SNRM_FROM = 2
"""From which repetition on the link is asked for without parameters: a station that cannot read them may answer none."""


class Happened(StrEnum):
    UP = "up"
    APDU = "apdu"
    DOWN = "down"


class LinkEvent(NamedTuple):
    """What a link reports. source, destination: addresses of an APDU as the peer wrote them (client and server SAP)."""

    what: Happened
    apdu: bytes = b""
    source: int = 0
    destination: int = 0


class WrapperLink:
    """The wrapper as a link: up at once, one frame for each APDU. own, peer: wPorts (client SAP, logical device).

    datagrams: it goes over UDP, where each `feed` is one datagram of whole frames and any may be lost. most_bytes: of an APDU to be sent.
    """

    def __init__(self, own: int, peer: int, max_apdu_bytes: int = MAX_APDU_BYTES, *, datagrams: bool = False) -> None:
        self.own, self.peer, self.datagrams = own, peer, datagrams
        self.most_bytes = MAX_DATAGRAM_APDU_BYTES if datagrams else MAX_APDU_BYTES
        self._limit = max_apdu_bytes
        self._reader = WrapperReader(max_apdu_bytes)
        self._out: list[bytes] = []

    def open(self) -> list[LinkEvent]:
        return [LinkEvent(Happened.UP)]

    def close(self) -> list[LinkEvent]:
        return [LinkEvent(Happened.DOWN)]

    def send(self, apdu: bytes) -> None:
        self._out.append(wrap(self.own, self.peer, apdu))

    def feed(self, chunk: bytes) -> list[LinkEvent]:
        """MeterError as from `WrapperReader.feed`, and where a datagram ends inside a frame."""
        if self.datagrams and chunk:
            self._reader = WrapperReader(self._limit)  # what one datagram leaves over does not go on in the next
        frames = self._reader.feed(chunk)
        if self.datagrams and not frames:
            self._reader.end()
        return [LinkEvent(Happened.APDU, frame.apdu, frame.source, frame.destination) for frame in frames]

    def flush(self) -> None:
        """Nothing is held back."""

    def poll(self) -> None:
        """The peer sends without being asked."""

    def timed_out(self) -> bool:
        """TCP repeats by itself, and over UDP the session asks again: nothing to repeat here."""
        return False

    def take_out(self) -> list[bytes]:
        out, self._out = self._out, []
        return out


class LinkState(StrEnum):
    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"
    CLOSING = "closing"


class HdlcParameters(NamedTuple):
    """What one station can do: information field and window, transmitting and receiving (IEC 62056-46, 6.4.4.4.3)."""

    transmit_bytes: int = DEFAULT_INFORMATION_BYTES
    receive_bytes: int = DEFAULT_INFORMATION_BYTES
    transmit_window: int = DEFAULT_WINDOW
    receive_window: int = DEFAULT_WINDOW

    def encode(self) -> bytes:
        sizes = b""
        for tag, value in ((5, self.transmit_bytes), (6, self.receive_bytes)):
            raw = value.to_bytes(1 if value < 0x100 else 2, "big")
            sizes += bytes((tag, len(raw))) + raw
        windows = b"".join(
            bytes((tag, 4)) + value.to_bytes(4, "big") for tag, value in ((7, self.transmit_window), (8, self.receive_window))
        )
        return b"\x81\x80" + bytes((len(sizes + windows),)) + sizes + windows

    @staticmethod
    def decode(information: bytes) -> HdlcParameters:
        """From the information field of SNRM or UA; what it leaves out keeps the default, what makes no sense raises MeterError."""
        values = {5: DEFAULT_INFORMATION_BYTES, 6: DEFAULT_INFORMATION_BYTES, 7: DEFAULT_WINDOW, 8: DEFAULT_WINDOW}
        if information:
            if information[:2] != b"\x81\x80" or len(information) < 3 or information[2] != len(information) - 3:
                raise MeterError("HDLC parameters are not in the form of IEC 62056-46")
            at = 3
            while at + 2 <= len(information):
                tag, size = information[at], information[at + 1]
                if at + 2 + size > len(information):
                    raise MeterError("an HDLC parameter is cut short")
                if tag in values:
                    values[tag] = int.from_bytes(information[at + 2 : at + 2 + size], "big")
                at += 2 + size
        if min(values[5], values[6]) < 1 or not (1 <= values[7] <= 7 and 1 <= values[8] <= 7):
            raise MeterError("HDLC parameters are out of range (information at least 1 byte, windows 1 to 7)")
        return HdlcParameters(values[5], values[6], values[7], values[8])

    def agreed(self, peer: HdlcParameters) -> HdlcParameters:
        """What both can do: mine to send is his to receive."""
        return HdlcParameters(
            min(self.transmit_bytes, peer.receive_bytes),
            min(self.receive_bytes, peer.transmit_bytes),
            min(self.transmit_window, peer.receive_window),
            min(self.receive_window, peer.transmit_window),
        )


class HdlcLink:
    """One station of an HDLC data link in normal response mode: the primary (client) or the secondary (server).

    The primary asks (P), the secondary answers and gives the turn back (F). An APDU is cut into segments; a window of frames goes out
    at a time; what is not acknowledged is sent again when the peer's N(R) says so. `timed_out` makes the primary ask again.
    peer None: a secondary that takes whoever opens the link, and answers in the address form that was used.
    """

    datagrams, most_bytes = False, MAX_APDU_BYTES

    def __init__(
        self, own: Address, peer: Address | None, primary: bool, offer: HdlcParameters | None = None, max_apdu_bytes: int = MAX_APDU_BYTES
    ) -> None:
        self.own, self.primary = own, primary
        self.peer = peer or Address(0)
        self._any_peer = peer is None
        self.state = LinkState.DOWN
        self.offer = offer or HdlcParameters()
        self.agreed = HdlcParameters()
        self.refused_frames = 0
        self._asked = 0
        self._limit = max_apdu_bytes
        self._reader = HdlcReader()
        self._out: list[bytes] = []
        self._frames: deque[Frame] = deque()
        self._unasked = Unasked(max_apdu_bytes)
        self._happened: list[LinkEvent] = []
        self._reset()

    def _reset(self) -> None:
        self._send_number = self._receive_number = 0  # V(S), V(R)
        self._queue: list[tuple[bytes, bool]] = []  # segments not sent yet
        self._unacknowledged: list[tuple[int, bytes, bool]] = []  # (N(S), information, segmented)
        self._assembly = bytearray()
        self._turn = self.primary

    def open(self) -> list[LinkEvent]:
        """The primary asks for the link (SNRM); a secondary just waits."""
        if not self.primary or self.state is not LinkState.DOWN:
            raise RequestError(f"an HDLC link that is {self.state} cannot be opened from here")
        self.state, self._asked = LinkState.CONNECTING, 0
        self._ask_for_link()
        return []

    def close(self) -> list[LinkEvent]:
        """The primary ends the link (DISC)."""
        if not self.primary or self.state not in (LinkState.UP, LinkState.CONNECTING):
            raise RequestError(f"an HDLC link that is {self.state} cannot be closed from here")
        self.state = LinkState.CLOSING
        self._unnumbered(hdlc.DISC)
        return []

    def send(self, apdu: bytes) -> None:
        """Queues an APDU; it goes out when it is this station's turn."""
        if self.state is not LinkState.UP:
            raise RequestError(f"an HDLC link that is {self.state} carries no APDU")
        information = (hdlc.LLC_COMMAND if self.primary else hdlc.LLC_RESPONSE) + apdu
        size = self.agreed.transmit_bytes
        pieces = [information[k : k + size] for k in range(0, len(information), size)]
        self._queue += [(piece, k < len(pieces) - 1) for k, piece in enumerate(pieces)]
        if self.primary and self._turn:
            self._transmit()

    def flush(self) -> None:
        """The secondary answers a poll: with what it has to send, or with "ready"."""
        if not self.primary and self._turn and self.state is LinkState.UP:
            self._transmit()

    def poll(self) -> None:
        """More is to come from the secondary, and it waits to be asked."""
        if self.primary and self._turn and self.state is LinkState.UP:
            self._transmit()

    def timed_out(self) -> bool:
        """No answer came: the primary asks again. True if something is sent."""
        if not self.primary:
            return False
        if self.state is LinkState.CONNECTING:
            self._asked += 1
            self._ask_for_link()
        elif self.state is LinkState.CLOSING:
            self._unnumbered(hdlc.DISC)
        elif self.state is LinkState.UP:
            if self._turn:
                self._transmit()
            else:
                self._supervise()
        else:
            return False
        return True

    def _ask_for_link(self) -> None:
        """SNRM with what we can do; at last without, which means the standard's defaults."""
        if self._asked >= PLAIN_SNRM_FROM:
            self.offer = HdlcParameters()
        self._unnumbered(hdlc.SNRM, b"" if self.offer == HdlcParameters() else self.offer.encode())

    def take_out(self) -> list[bytes]:
        out, self._out = self._out, []
        return out

    def feed(self, chunk: bytes) -> list[LinkEvent]:
        """Takes bytes; frames for other stations, with failed checks or out of order are passed over, as the standard says.

        MeterError where a frame is right and its content is not; what came in front of it and behind it is given by the next `feed`.
        """
        self._frames += self._reader.feed(chunk)
        while self._frames:
            frame = self._frames.popleft()
            if frame.control & 0xEF == hdlc.UI:
                self._happened += self._pushed(frame)
            elif frame.destination.same(self.own) and (frame.source.same(self.peer) or self._adopts(frame)):
                self._happened += self._primary_got(frame) if self.primary else self._secondary_got(frame)
            else:
                self.refused_frames += 1
        happened, self._happened = self._happened, []
        return happened

    def _adopts(self, frame: Frame) -> bool:
        """A new client opens the link of a secondary that takes any."""
        if not self._any_peer or frame.control & 0xEF not in (hdlc.SNRM, hdlc.DISC):
            return False
        if frame.control & 0xEF == hdlc.DISC and self.state is not LinkState.DOWN:
            return False
        self.peer = frame.source
        return True

    def _primary_got(self, frame: Frame) -> list[LinkEvent]:
        kind = frame.control & 0xEF
        if kind == hdlc.UA and self.state is LinkState.CONNECTING:
            self._reset()
            self.agreed = self.offer.agreed(HdlcParameters.decode(frame.information))
            self.state = LinkState.UP
            return [LinkEvent(Happened.UP)]
        if kind in (hdlc.UA, hdlc.DM) and self.state is LinkState.CLOSING:
            self.state = LinkState.DOWN
            return [LinkEvent(Happened.DOWN)]
        if kind in (hdlc.DM, hdlc.FRMR) and self.state in (LinkState.CONNECTING, LinkState.UP):
            self.state = LinkState.DOWN
            return [LinkEvent(Happened.DOWN)]
        if self.state is LinkState.UP and not self._turn:
            return self._numbered(frame)
        self.refused_frames += 1
        return []

    def _secondary_got(self, frame: Frame) -> list[LinkEvent]:
        kind = frame.control & 0xEF
        if kind == hdlc.SNRM:
            self.own = frame.destination
            self._reset()
            self.agreed = self.offer.agreed(HdlcParameters.decode(frame.information))
            was, self.state = self.state, LinkState.UP
            # The answer names what this station will do from its own side.
            self._unnumbered(hdlc.UA, self.agreed.encode() if frame.information or self.offer != HdlcParameters() else b"")
            return [LinkEvent(Happened.UP)] if was is LinkState.DOWN else [LinkEvent(Happened.DOWN), LinkEvent(Happened.UP)]
        if kind == hdlc.DISC:
            was, self.state = self.state, LinkState.DOWN
            self._unnumbered(hdlc.DM if was is LinkState.DOWN else hdlc.UA)
            return [] if was is LinkState.DOWN else [LinkEvent(Happened.DOWN)]
        if self.state is not LinkState.UP:
            if frame.control & hdlc.POLL_FINAL:
                self._unnumbered(hdlc.DM)
            return []
        return self._numbered(frame)

    def _numbered(self, frame: Frame) -> list[LinkEvent]:
        """An information frame, RR, RNR or REJ while the link is up. What a REJ asks for again is sent again in any case."""
        control = frame.control
        if control & 1 and control & 0x0F not in (hdlc.RR, hdlc.RNR, hdlc.REJ):
            self.refused_frames += 1
            return []
        events: list[LinkEvent] = []
        self._acknowledge(control >> 5)
        if not control & 1:
            if (control >> 1 & 7) == self._receive_number:
                self._receive_number = (self._receive_number + 1) & 7
                events = self._assemble(frame)
            else:
                self.refused_frames += 1
        if control & hdlc.POLL_FINAL:
            self._turn = True
            if self.primary and (self._unacknowledged or self._queue or self._assembly):
                self._transmit()
        return events

    def _acknowledge(self, expected: int) -> None:
        """The peer expects N(S) = `expected` next: what is older has arrived, unless the number is of no frame we have."""
        numbers = [number for number, _, _ in self._unacknowledged]
        if expected == self._send_number:
            self._unacknowledged.clear()
        elif expected in numbers:
            del self._unacknowledged[: numbers.index(expected)]

    def _assemble(self, frame: Frame) -> list[LinkEvent]:
        self._assembly += frame.information
        if len(self._assembly) > self._limit + 3:
            self._assembly.clear()
            raise MeterError(f"the peer's segments make an APDU of more than {self._limit} bytes")
        if frame.segmented:
            return []
        information = bytes(self._assembly)
        self._assembly.clear()
        return self._apdu(frame, information)

    def _pushed(self, frame: Frame) -> list[LinkEvent]:
        """A UI frame stands outside the numbered ones, so its segments are put together apart."""
        information = self._unasked.take(frame)
        return [] if information is None else self._apdu(frame, information)

    def _apdu(self, frame: Frame, information: bytes) -> list[LinkEvent]:
        return [LinkEvent(Happened.APDU, without_llc(information), frame.source.upper, frame.destination.upper)]

    def _transmit(self) -> None:
        """Uses the turn: repeats what was not acknowledged, fills the window, and gives the turn to the peer with the last frame."""
        window = [*self._unacknowledged]
        while self._queue and len(window) < self.agreed.transmit_window:
            piece, segmented = self._queue.pop(0)
            window.append((self._send_number, piece, segmented))
            self._send_number = (self._send_number + 1) & 7
        self._unacknowledged = window
        self._turn = False
        if not window:
            self._supervise()
        for k, (number, piece, segmented) in enumerate(window):
            final = hdlc.POLL_FINAL if k == len(window) - 1 else 0
            control = self._receive_number << 5 | final | number << 1
            self._out.append(Frame(self.peer, self.own, control, piece, segmented).encode())

    def _supervise(self) -> None:
        """RR: "ready", with what has been received so far."""
        self._turn = False
        self._out.append(Frame(self.peer, self.own, self._receive_number << 5 | hdlc.POLL_FINAL | hdlc.RR).encode())

    def _unnumbered(self, kind: int, information: bytes = b"") -> None:
        self._out.append(Frame(self.peer, self.own, kind | hdlc.POLL_FINAL, information).encode())


Link = WrapperLink | HdlcLink


class Unasked:
    """Frames that a meter sends without being asked, put together: segments of one station, one behind the other."""

    def __init__(self, max_apdu_bytes: int = MAX_APDU_BYTES) -> None:
        self._limit = max_apdu_bytes
        self._so_far = bytearray()
        self._source: Address | None = None

    def take(self, frame: Frame) -> bytes | None:
        """The whole information, None = more of it follows; a new beginning, or another station, forgets a lost end. MeterError if too long."""
        if frame.source != self._source or frame.information[:3] in (hdlc.LLC_COMMAND, hdlc.LLC_RESPONSE):
            self._so_far.clear()
        self._source = frame.source
        self._so_far += frame.information
        if len(self._so_far) > self._limit + 3:
            self._so_far.clear()
            raise MeterError(f"the peer's segments make an APDU of more than {self._limit} bytes", octets=frame.encode())
        if frame.segmented:
            return None
        information = bytes(self._so_far)
        self._so_far.clear()
        if information[:1] == GENERAL_BLOCK:  # no LLC header behind the first block: see data/quirks.toml
            information = hdlc.LLC_RESPONSE + information
        return information


def without_llc(information: bytes) -> bytes:
    """The APDU behind the LLC header (IEC 62056-46, 5.4). MeterError where there is no header."""
    if information[:3] not in (hdlc.LLC_COMMAND, hdlc.LLC_RESPONSE):
        raise MeterError("an HDLC frame's information does not begin with the DLMS LLC header", octets=information)
    return information[3:]


def push_frame(own: Address, peer: Address, apdu: bytes, llc: bytes = hdlc.LLC_RESPONSE) -> bytes:
    """An APDU that nobody asked for as one HDLC UI frame, as meters push on a local port; llc: LLC_COMMAND from the head-end's side."""
    return Frame(peer, own, hdlc.UI | hdlc.POLL_FINAL, llc + apdu).encode()
