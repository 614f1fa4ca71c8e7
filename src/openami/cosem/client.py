"""The client's side of an association, sans-IO: bytes in, events and bytes out (Green Book 9.3, 9.4).

    session = ClientSession(settings, link)
    session.open(); ... send session.take_out(), feed what comes to session.feed(), which gives events ...
    session.get(Item(Ref(7, "1.0.99.1.0.255", 2), by_range(...)))

Guarantees: one request is out at a time; every (state, event) pair stands in TRANSITIONS or is refused by name; an answer that is not
protected as agreed is never given out; an answer to another invoke id is counted and passed over. A MeterError from `feed` loses no
event: those in front of it come with the next `feed`.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import NamedTuple

from ..errors import MeterError, RequestError
from . import acse, apdu, hls
from .acse import AssociationResponse, Conformance, Mechanism
from .apdu import ActionOutcome, Code, GeneralBlock, Item, Outcome, Ref, Service
from .apdu_octets import decode_apdu, encode_apdu
from .axdr import Data, Tag
from .blocks import GeneralReceiver, GeneralSender
from .links import Happened, Link, LinkEvent
from .notification import CONFIRM_TAG, DataNotification, DataNotificationConfirm
from .notification import TAG as NOTIFICATION_TAG
from .opening import ClientSettings, Opening
from .protection import Protection, is_sealed
from .requests import Request, Results, action_request, get_request, set_request

__all__ = ["ClientSession", "ClientSettings"]
_REPLY_TO_HLS = Ref(15, hls.CURRENT_ASSOCIATION, 1)


class State(StrEnum):
    IDLE = "idle"
    LINKING = "linking"
    ASSOCIATING = "associating"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    WAITING = "waiting for an answer"
    RELEASING = "releasing"
    UNLINKING = "unlinking"


TRANSITIONS: dict[tuple[State, str], State] = {
    (State.IDLE, "open"): State.LINKING,
    (State.LINKING, "link up"): State.ASSOCIATING,
    (State.LINKING, "link up, pre-established"): State.READY,
    (State.LINKING, "close"): State.UNLINKING,
    (State.LINKING, "link down"): State.IDLE,
    (State.ASSOCIATING, "accepted"): State.READY,
    (State.ASSOCIATING, "challenged"): State.AUTHENTICATING,
    (State.ASSOCIATING, "refused"): State.UNLINKING,
    (State.ASSOCIATING, "close"): State.UNLINKING,
    (State.ASSOCIATING, "link down"): State.IDLE,
    (State.AUTHENTICATING, "authenticated"): State.READY,
    (State.AUTHENTICATING, "refused"): State.UNLINKING,
    (State.AUTHENTICATING, "close"): State.UNLINKING,
    (State.AUTHENTICATING, "link down"): State.IDLE,
    (State.READY, "request"): State.WAITING,
    (State.READY, "release"): State.RELEASING,
    (State.READY, "close"): State.UNLINKING,
    (State.READY, "link down"): State.IDLE,
    (State.WAITING, "answer"): State.READY,
    (State.WAITING, "give up"): State.READY,
    (State.WAITING, "close"): State.UNLINKING,
    (State.WAITING, "link down"): State.IDLE,
    (State.RELEASING, "released"): State.UNLINKING,
    (State.RELEASING, "close"): State.UNLINKING,
    (State.RELEASING, "link down"): State.IDLE,
    (State.UNLINKING, "link down"): State.IDLE,
}


class Associated(NamedTuple):
    """The association stands. max_pdu: what the server can receive, 0 = any. warnings: what was tolerated."""

    conformance: Conformance
    max_pdu: int
    server_title: bytes
    warnings: tuple[str, ...]


class Refused(NamedTuple):
    """The server, or our own check of it, ended the association attempt."""

    step: str
    reason: str
    diagnostic: int | None = None


class Answer(NamedTuple):
    """GET: a tuple of Data or result codes. SET: result codes. ACTION: `Outcome`s. One for each item asked for, in order."""

    kind: str
    invoke: int
    results: tuple[Data | Code | Outcome, ...]


class ServiceRefused(NamedTuple):
    """The server answered a request with an exception."""

    invoke: int
    exception: apdu.ExceptionResponse | apdu.ServiceError


class Notified(NamedTuple):
    """A push or event notification that came over the association."""

    notification: DataNotification | apdu.EventNotification


class Released(NamedTuple):
    """The association is over. note: "" or what the peer did instead of answering in form."""

    note: str


class Closed(NamedTuple):
    """The link is down."""


Event = Associated | Refused | Answer | ServiceRefused | Notified | Released | Closed


class ClientSession:
    """One client, one association. All waiting is the shell's: it calls `give_up` when an answer does not come."""

    def __init__(self, settings: ClientSettings, link: Link) -> None:
        self.settings, self.link = settings, link
        self.state = State.IDLE
        self.conformance = settings.conformance
        self.peer_pdu = settings.pre_established_pdu
        self.stale_answers = 0
        self._opening = Opening(settings)
        self._events: list[Event] = []
        self._backlog: deque[LinkEvent] = deque()
        self._invoke = 0
        self._request: Request | None = None
        self._receiver: GeneralReceiver | None = None
        self._sender: GeneralSender | None = None
        self._own_general = 0

    # -- what the shell asks for ------------------------------------------------------------------------------------------------

    def open(self) -> list[Event]:
        """Opens the link and the association. Returns events that are there at once (a pre-established association)."""
        self._move("open")
        self._link_events(self.link.open())
        return self._take_events()

    def get(self, *items: Item) -> int:
        """Reads attributes: one as GET normal, several as GET with list. Gives the invoke id."""
        if any(item.selection for item in items):
            self._need(Conformance.SELECTIVE_ACCESS, "selective access")
        return self._ask(get_request(self._next_invoke(), items))

    def set(self, *pairs: tuple[Item, Data]) -> int:
        """Writes attributes, in blocks where they do not fit. Gives the invoke id."""
        return self._ask(set_request(self._next_invoke(), pairs, self._room() if self.conformance & Conformance.BLOCK_SET else None))

    def action(self, *pairs: tuple[Ref, Data | None]) -> int:
        """Invokes methods, with parameters in blocks where they do not fit. Gives the invoke id."""
        return self._ask(action_request(self._next_invoke(), pairs, self._room() if self.conformance & Conformance.BLOCK_ACTION else None))

    def confirm(self, notification: DataNotification) -> None:
        """Tells the server that a confirmed notification is kept; only call it once it is."""
        if self.state not in (State.READY, State.WAITING):
            raise RequestError(f"a confirmation needs an association; the client session is {self.state}")
        octets = DataNotificationConfirm(notification.long_invoke_id, True, notification.high_priority, b"").encode()
        self.link.send(self._ciphered.seal(octets) if self._ciphered else octets)

    def release(self) -> list[Event]:
        """Ends the association (RLRQ), then the link. A pre-established association is just left."""
        if self.settings.pre_established:
            return self.close()
        self._move("release")
        inside = b""
        if self._ciphered:
            inside = self._ciphered.seal_initiate(self._opening.initiate().encode())
        self.link.send(acse.Release(acse.RLRQ, 0, inside).encode())
        return self._take_events()

    def close(self) -> list[Event]:
        """Ends the link without asking."""
        self._move("close")
        self._link_events(self.link.close())
        return self._take_events()

    def lost(self) -> None:
        """The link is down (the shell's connection broke, or the link said so): `Closed` comes with the next events."""
        if self.state is not State.IDLE:
            self._move("link down")
            self._forget()
            self._events.append(Closed())

    def give_up(self) -> None:
        """The answer did not come in time: the request is forgotten, a late answer will be passed over."""
        self._move("give up")
        self._forget()

    def timed_out(self) -> bool:
        """No answer came: HDLC repeats itself; over datagrams a GET is asked again, with a new counter, until its answer has begun. True if
        something is sent. What does more than read is never sent twice."""
        request = self._request
        waits = self.state is State.WAITING and self._receiver is None
        if self.link.datagrams and waits and request is not None and request.kind == "get" and not request.begun:
            self._send(request.first)
            return True
        return self.link.timed_out()

    def take_out(self) -> list[bytes]:
        """The frames to send, in order; each belongs into a datagram of its own over UDP."""
        return self.link.take_out()

    def feed(self, chunk: bytes) -> list[Event]:
        """Takes received bytes. MeterError where the peer breaks protocol; the session can go on or be closed."""
        self._link_events(self.link.feed(chunk))
        return self._take_events()

    # -- the association --------------------------------------------------------------------------------------------------------

    def _link_events(self, happened: list[LinkEvent]) -> None:
        self._backlog += happened
        while self._backlog:
            event = self._backlog.popleft()
            if event.what is Happened.UP:
                self._linked()
            elif event.what is Happened.DOWN:
                self.lost()
            else:
                self._received(event.apdu)

    def _linked(self) -> None:
        if self.settings.pre_established:
            self._move("link up, pre-established")
            self._events.append(Associated(self.conformance, self.peer_pdu, b"", ()))
            return
        self._move("link up")
        self.link.send(self._opening.request().encode())

    @property
    def _ciphered(self) -> Protection | None:
        return self._opening.ciphered

    def _received(self, octets: bytes) -> None:
        if not octets:
            raise MeterError("an empty APDU came")
        tag = octets[0]
        if tag == acse.AARE and self.state is State.ASSOCIATING:
            self._answered_association(AssociationResponse.decode(octets))
        elif tag == acse.RLRE and self.state is State.RELEASING:
            acse.Release.decode(octets)
            self._released("")
        elif tag == 0xE0:
            self._general(octets)
        elif is_sealed(octets):
            if self._ciphered is None:
                raise MeterError("a ciphered APDU came, but this association does not cipher", "security")
            plain, _ = self._ciphered.open(octets)
            self._plain(plain, protected=True)
        else:
            self._plain(octets, protected=False)

    def _answered_association(self, response: AssociationResponse) -> None:
        granted = self._opening.judge(response)
        if isinstance(granted, str):
            return self._refuse("association", granted, response.diagnostic if response.result else None)
        self.conformance, self.peer_pdu = granted.conformance & self._opening.offered, granted.max_pdu
        if self.settings.mechanism < Mechanism.HLS:
            self._move("accepted")
            return self._stands()
        if not response.authentication:
            return self._refuse("association", "the server accepted high level security without sending a challenge")
        self._move("challenged")
        proof = self._opening.proof(response.authentication)
        self._request = action_request(self._next_invoke(), ((_REPLY_TO_HLS, Data(Tag.OCTET_STRING, proof)),), None)
        return self._send(self._request.first)

    def _authenticated(self, outcome: Data | Code | Outcome) -> None:
        if not isinstance(outcome, Outcome) or outcome.code != ActionOutcome.SUCCESS:
            return self._refuse("authentication", f"the server refused our answer to its challenge ({outcome})")
        returned = outcome.returned
        if isinstance(returned, Data) and returned.tag is Tag.OCTET_STRING and returned.value:
            try:
                self._opening.check(returned.value)
            except MeterError as error:
                return self._refuse("authentication", f"the server is not who it says: {error}")
        elif self.settings.check_answer:
            return self._refuse("authentication", "the server gave no answer to our challenge")
        else:
            self._opening.warnings.append("the server gave no answer to our challenge; tolerated by configuration")
        self._move("authenticated")
        return self._stands()

    def _stands(self) -> None:
        self._events.append(Associated(self.conformance, self.peer_pdu, self._opening.server_title, tuple(self._opening.warnings)))

    def _refuse(self, step: str, reason: str, diagnostic: int | None = None) -> None:
        self._move("refused")
        self._forget()
        self._events.append(Refused(step, reason, diagnostic))
        self._link_events(self.link.close())

    def _released(self, note: str) -> None:
        self._move("released")
        self._events.append(Released(note))
        self._link_events(self.link.close())

    # -- services ---------------------------------------------------------------------------------------------------------------

    def _plain(self, octets: bytes, protected: bool) -> None:
        """An APDU without its protection."""
        tag = octets[0] if octets else 0
        if tag == acse.RLRE and self.state is State.RELEASING:
            return self._released("")
        exception = tag in (0xD8, 0x0E)
        if self._ciphered and not protected and not exception:
            raise MeterError(f"an APDU with tag 0x{tag:02x} came without the protection that was agreed", "security")
        if tag == NOTIFICATION_TAG:
            self._events.append(Notified(DataNotification.decode(octets)))
            return None
        if tag == CONFIRM_TAG:
            raise MeterError("a confirmation came for a push that was not sent")
        service = decode_apdu(octets)
        if isinstance(service, apdu.EventNotification):
            self._events.append(Notified(service))
            return None
        if isinstance(service, (apdu.ExceptionResponse, apdu.ServiceError)):
            return self._exception(service)
        return self._service(service)

    def _exception(self, exception: apdu.ExceptionResponse | apdu.ServiceError) -> None:
        if self.state is State.RELEASING:
            return self._released(f"the server answered the release with an exception: {exception}")
        if self.state in (State.ASSOCIATING, State.AUTHENTICATING):
            return self._refuse(self.state.value, f"the server answered with an exception: {exception}")
        request = self._request
        if request is None:
            raise MeterError(f"an exception came that answers nothing: {exception}")
        self._move("answer")
        self._forget()
        self._events.append(ServiceRefused(request.invoke & 0x0F, exception))
        return None

    def _service(self, service: Service) -> None:
        """An answer to the request that is out."""
        request = self._request
        if request is None or not request.answers(service):
            self.stale_answers += 1
            return None
        taken = request.take(service)
        if not isinstance(taken, Results):
            return self._send(taken)
        self._forget()
        if self.state is State.AUTHENTICATING:
            return self._authenticated(taken.items[0])
        self._move("answer")
        self._events.append(Answer(request.kind, request.invoke & 0x0F, taken.items))
        return None

    def _ask(self, request: Request) -> int:
        """Sends a new request; nothing has changed where it cannot be sent."""
        if request.items > 1:
            self._need(Conformance.MULTIPLE_REFERENCES, "several items in one request")
        self._move("request")
        try:
            self._send(request.first)
        except RequestError:
            self._move("give up")
            raise
        self._request, self._invoke = request, request.invoke
        return request.invoke & 0x0F

    def _next_invoke(self) -> int:
        """Invoke id and priority: confirmed, high priority, ids 1 to 15 in turn."""
        return 0xC0 | (self._invoke & 0x0F) % 15 + 1

    def _room(self) -> int:
        """How long a plain APDU to the server may be."""
        limit = self.peer_pdu or 0xFFFF
        return limit - (self._ciphered.overhead_bytes if self._ciphered else 0)

    def _need(self, bit: Conformance, what: str) -> None:
        if not self.conformance & bit:
            raise RequestError(f"{what}: not in the conformance that was negotiated")

    def _send(self, service: Service) -> None:
        octets = encode_apdu(service)
        if self._ciphered:
            octets = self._ciphered.seal(octets)
        limit = self.peer_pdu or 0xFFFF
        self._receiver = None
        if len(octets) <= limit:
            self.link.send(octets)
            return
        if not self.conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            raise RequestError(f"an APDU of {len(octets)} bytes is longer than the server's {limit}, and no block transfer was negotiated")
        self._sender = GeneralSender(octets, limit)
        self._send_general(self._sender.window(1, 0, 0, self.settings.general_window))

    def _send_general(self, blocks: list[GeneralBlock]) -> None:
        for block in blocks:
            self._own_general = block.number
            self.link.send(encode_apdu(block))

    def _general(self, octets: bytes) -> None:
        """A general block: an acknowledgement of ours, or a piece of the answer."""
        block = decode_apdu(octets)
        if not isinstance(block, GeneralBlock):
            raise MeterError("these bytes are not a general block")
        if self._sender is not None and not block.data:
            return self._send_general(self._sender.window(block.window, block.acknowledged, 0, self.settings.general_window))
        if self._receiver is None:
            self._receiver, self._sender = GeneralReceiver(), None
        whole = self._receiver.take(block)
        if whole is not None:
            self._receiver, self._own_general = None, 0
            if whole[:1] == b"\xe0":
                raise MeterError("a general block transfer carries another one")
            return self._received(whole)
        if block.streaming:
            self.link.poll()
            return None
        self._own_general += 1
        window, acknowledged = self.settings.general_window, self._receiver.acknowledged
        self.link.send(encode_apdu(GeneralBlock(True, False, window, self._own_general, acknowledged, b"")))
        return None

    def _forget(self) -> None:
        self._request = self._receiver = self._sender = None
        self._own_general = 0

    def _move(self, event: str) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise RequestError(f'"{event}" is not allowed while the client session is {self.state}')
        self.state = after

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
