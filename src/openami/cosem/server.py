"""The meter's side of an association, sans-IO: bytes in, events and bytes out (Green Book 9.3, 9.4).

    device = LogicalDevice(title, objects, setups)
    session = ServerSession(device, link, challenge)
    events = session.feed(chunk, now_s); send session.take_out()

Guarantees: a request is answered with data only inside an association whose rights cover it and whose protection holds; what breaks
protocol, security or rights is refused, reported as `Violation` and never raised; every (state, event) pair stands in TRANSITIONS or is
refused by name; invocation counters live in the device's setups and only grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from ..errors import MeterError, OpenAMIError, RequestError
from . import acse, apdu, hls
from .acse import AssociationRequest, AssociationResponse, Conformance, Context, Diagnostic, InitiateResponse, Mechanism
from .apdu import AccessResult, ActionOutcome, ExceptionResponse, GeneralBlock, Outcome, Ref, Service
from .apdu_octets import decode_apdu, encode_apdu
from .association import AssociationObject, AssociationSetup, Granted, Rejection, judge
from .axdr import Data, Tag
from .blocks import GeneralReceiver, GeneralSender
from .ciphering import SecurityControl
from .links import Happened, HdlcLink, Link, LinkEvent
from .notification import CONFIRM_TAG, DataNotification, DataNotificationConfirm
from .objects import CosemObject
from .protection import Protection, is_sealed
from .services import Services

GENERAL_WINDOW = 8


class State(StrEnum):
    DOWN = "down"
    LINKED = "linked, not associated"
    CHALLENGED = "challenged"
    ASSOCIATED = "associated"


TRANSITIONS: dict[tuple[State, str], State] = {
    (State.DOWN, "link up"): State.LINKED,
    (State.LINKED, "accept"): State.ASSOCIATED,
    (State.LINKED, "challenge"): State.CHALLENGED,
    (State.LINKED, "link down"): State.DOWN,
    (State.CHALLENGED, "authenticate"): State.ASSOCIATED,
    (State.CHALLENGED, "end"): State.LINKED,
    (State.CHALLENGED, "link down"): State.DOWN,
    (State.ASSOCIATED, "end"): State.LINKED,
    (State.ASSOCIATED, "link down"): State.DOWN,
}


class Opened(NamedTuple):
    """An association stands."""

    client: int


class Ended(NamedTuple):
    """An association is over."""

    client: int


class Violation(NamedTuple):
    """Something was refused. cause: as of `MeterError`, or "rights", "association", "authentication"."""

    client: int
    cause: str
    message: str
    octets: bytes


class Served(NamedTuple):
    """A request was carried out. codes: the result of each item, 0 = success."""

    client: int
    verb: str
    refs: tuple[Ref, ...]
    codes: tuple[int, ...]


class Confirmed(NamedTuple):
    """The client has kept a confirmed notification."""

    client: int
    long_invoke_id: int


Event = Opened | Ended | Violation | Served | Confirmed


class LogicalDevice:
    """A meter's logical device: objects by (class, name), and its association setups by client. title: its system title, 8 bytes."""

    def __init__(self, title: bytes, objects: Iterable[CosemObject], setups: Iterable[AssociationSetup], address: int = 1) -> None:
        self.title, self.address = title, address
        self.objects = {(one.class_id, one.obis): one for one in objects}
        self.setups = {setup.client: setup for setup in setups}

    def add(self, one: CosemObject) -> None:
        self.objects[one.class_id, one.obis] = one

    def run(self, ref: Ref, parameters: Data, now_s: int) -> Outcome:
        """A method invoked by the meter itself (a script does)."""
        found = self.objects.get((ref.class_id, ref.obis))
        return found.act(ref.member, parameters, now_s) if found else Outcome(ActionOutcome.OBJECT_UNDEFINED)


class ServerSession:
    """One link of a meter and the association on it. challenge: gives fresh random bytes for HLS (16)."""

    def __init__(self, device: LogicalDevice, link: Link, challenge: Callable[[], bytes]) -> None:
        self.device, self.link = device, link
        self.state = State.DOWN
        self.client = 0
        self._challenge = challenge
        self._setup: AssociationSetup | None = None
        self._protection: Protection | None = None
        self._control = SecurityControl(0)
        self._stoc = self._ctos = b""
        self._events: list[Event] = []
        self._sender: GeneralSender | None = None
        self._receiver: GeneralReceiver | None = None
        self._peer_window = 1
        self._by_general = False
        self._own_general = 0
        self._now_s = 0
        self.peer_pdu = 0
        self.conformance = Conformance(0)
        self._services: Services | None = None
        if not isinstance(link, HdlcLink):
            self._move("link up")

    def feed(self, chunk: bytes, now_s: int) -> list[Event]:
        """Takes received bytes at `now_s` (UTC seconds) and answers what they ask. Never raises for what a peer sends."""
        self._now_s = now_s
        while True:
            try:
                happened = self.link.feed(chunk)
            except MeterError as error:
                self._violation(error.cause, str(error), error.octets)
                chunk = b""
                continue
            for event in happened:
                self._link_event(event)
            if not happened or isinstance(self.link, HdlcLink):
                break
            chunk = b""
        self.link.flush()
        events, self._events = self._events, []
        return events

    def notify(self, notification: DataNotification | apdu.EventNotification) -> None:
        """Sends a push or an event over the association that stands, protected as its policy asks. RequestError where none stands."""
        setup, protection = self._setup, self._protection
        if self.state is not State.ASSOCIATED or setup is None:
            raise RequestError(f"a notification needs an association; the server session is {self.state}")
        octets = notification.encode() if isinstance(notification, DataNotification) else encode_apdu(notification)
        self._catch_up()
        if protection is not None and setup.policy:
            octets = protection.seal(octets, self._control or setup.policy)
            setup.keep_counters(protection)
        self.link.send(octets)

    def lost(self) -> list[Event]:
        """The connection is gone."""
        self._end("link down")
        events, self._events = self._events, []
        return events

    def take_out(self) -> list[bytes]:
        """The frames to send, in order."""
        return self.link.take_out()

    def _link_event(self, event: LinkEvent) -> None:
        if event.what is Happened.UP:
            self._move("link up")
        elif event.what is Happened.DOWN:
            self._end("link down")
        else:
            self._received(event)

    def _received(self, event: LinkEvent) -> None:
        """One APDU, and an answer to whatever is wrong with it."""
        if event.source != self.client and self.state is not State.LINKED:
            self._end("end")
        self.client = event.source
        if not isinstance(self.link, HdlcLink):
            self.link.peer = event.source
        self._catch_up()
        try:
            self._apdu(event.apdu)
        except MeterError as error:
            self._violation(error.cause, str(error), event.apdu)
            if not (self.link.datagrams and error.cause == "replay" and self.state is not State.LINKED):
                # A network may bring a datagram twice: an exception would be taken for the answer to what the client asks next.
                self._refuse_with(_exception_for(error, self._last_counter()))
        except OpenAMIError as error:
            self._violation("local", str(error), event.apdu)
            self._refuse_with(ExceptionResponse(1, 3))

    def _apdu(self, octets: bytes) -> None:
        tag = octets[0] if octets else 0
        if tag == acse.AARQ:
            if self.state is not State.LINKED:
                self._end("end")
            self._association(AssociationRequest.decode(octets))
        elif tag == acse.RLRQ:
            self._release(acse.Release.decode(octets))
        elif tag == 0xE0:
            self._general(octets)
        else:
            self._by_general = False
            self._request(octets)

    # -- the association --------------------------------------------------------------------------------------------------------

    def _association(self, request: AssociationRequest) -> None:
        judged = judge(request, self.device.setups.get(self.client), self.device.title)
        if isinstance(judged, Rejection):
            return self._reject(request, judged)
        return self._accept(request, judged)

    def _accept(self, request: AssociationRequest, granted: Granted) -> None:
        setup, protection, initiate, self._control = granted
        self._setup, self._protection = setup, protection
        general = Conformance.GENERAL_PROTECTION if setup.policy else Conformance(0)
        self.conformance = initiate.conformance & (setup.conformance | general)
        self.peer_pdu = min(initiate.max_pdu or self.link.most_bytes, self.link.most_bytes)
        answer = InitiateResponse(self.conformance, setup.max_pdu, initiate.quality).encode()
        if protection is not None and setup.policy:
            answer = protection.seal_initiate(answer, self._control)
            if initiate.dedicated_key:
                protection.use_dedicated_key(initiate.dedicated_key)
        challenged = setup.mechanism >= Mechanism.HLS
        if challenged:
            self._stoc, self._ctos = self._challenge(), request.authentication or b""
        response = AssociationResponse(
            request.context,
            0,
            Diagnostic.AUTHENTICATION_REQUIRED if challenged else Diagnostic.NULL,
            answer,
            self.device.title if protection is not None else b"",
            int(setup.mechanism) if challenged else None,
            self._stoc if challenged else None,
        )
        self._start_services(setup)
        self._move("challenge" if challenged else "accept")
        setup.keep_counters(protection)
        self.link.send(response.encode())
        if not challenged:
            self._events.append(Opened(self.client))

    def _start_services(self, setup: AssociationSetup) -> None:
        association = AssociationObject(setup, self.device.objects.values(), self.device.address)
        own = {(15, hls.CURRENT_ASSOCIATION): association, (15, setup.obis): association}
        self._services = Services({**self.device.objects, **own}, setup.may, self.conformance)

    def _reject(self, request: AssociationRequest, why: Rejection) -> None:
        inside = encode_apdu(why.error) if why.error else b""
        context = request.context if request.context in (Context.LN, Context.LN_CIPHERED) else Context.LN
        self.link.send(AssociationResponse(context, 1, why.diagnostic, inside).encode())
        self._violation(why.cause, f"association of client {self.client} refused: {why.why}", b"")

    def _release(self, request: acse.Release) -> None:
        if self.state is State.LINKED:
            raise MeterError("a release came and there is no association")
        inside = b""
        protection, setup = self._protection, self._setup
        if protection is not None and setup is not None and setup.policy:
            if is_sealed(request.user_information):
                protection.open(request.user_information, learn_form=True)
            elif request.user_information:
                raise MeterError("a release came with user information in the clear", "security")
            if request.user_information:
                answer = InitiateResponse(self.conformance, setup.max_pdu).encode()
                inside = protection.seal_initiate(answer, self._control)
            setup.keep_counters(protection)
        self.link.send(acse.Release(acse.RLRE, 0, inside).encode())
        self._end("end")

    def _end(self, event: str) -> None:
        was = self.state
        if event == "end" and was is State.LINKED:
            return
        if event == "link down" and was is State.DOWN:
            return
        self._move(event)
        if was is State.ASSOCIATED:
            self._events.append(Ended(self.client))
        self._setup = self._protection = self._services = self._sender = self._receiver = None
        self._own_general = 0

    def _catch_up(self) -> None:
        """Another link of the same client may have used counters since: this one goes on from there, so that none is used twice."""
        if self._protection is not None and self._setup is not None:
            self._setup.catch_up(self._protection)

    # -- requests ---------------------------------------------------------------------------------------------------------------

    def _request(self, octets: bytes) -> None:
        """A service request, plain or ciphered."""
        if self.state is State.LINKED:
            self._pre_establish(octets)
        setup, protection = self._setup, self._protection
        if setup is None or self._services is None:
            raise MeterError(f"a request came while the server is {self.state}", "association")
        if is_sealed(octets):
            if protection is None or not setup.policy:
                raise MeterError("a ciphered request came in an association without ciphering", "security")
            octets, self._control = protection.open(octets, learn_form=True)
            setup.keep_counters(protection)
        elif setup.policy:
            raise MeterError("a request came in the clear where the policy asks for ciphering", "security")
        if not octets:
            raise MeterError("an empty request came")
        if octets[0] == acse.RLRQ:
            return self._release(acse.Release.decode(octets))
        if octets[0] == CONFIRM_TAG and self.state is State.ASSOCIATED:
            self._events.append(Confirmed(self.client, DataNotificationConfirm.decode(octets).long_invoke_id))
            return None
        request = decode_apdu(octets)
        if self.state is State.CHALLENGED:
            return self._authenticate(request)
        room = self._room()
        answer = self._services.answer(request, room, self._now_s, self._by_general)
        for verb, refs, codes in self._services.take_done():
            self._events.append(Served(self.client, verb, refs, codes))
            denied = [ref for ref, code in zip(refs, codes, strict=True) if code == AccessResult.READ_WRITE_DENIED]
            if denied:
                self._violation("rights", f"client {self.client} may not {verb} {denied[0]}", b"")
        return self._reply(answer)

    def _pre_establish(self, octets: bytes) -> None:
        setup = self.device.setups.get(self.client)
        if setup is None or not setup.pre_established:
            return
        self._setup, self._protection = setup, setup.protect(self.device.title, setup.client_title)
        self.conformance, self.peer_pdu, self._control = setup.conformance, setup.max_pdu, SecurityControl(setup.policy)
        self._start_services(setup)
        self._move("accept")
        self._events.append(Opened(self.client))

    def _authenticate(self, request: Service) -> None:
        """Pass 3 of HLS: the only request that a challenged client may send."""
        setup, protection = self._setup, self._protection
        expected = isinstance(request, apdu.ActionNormal) and request.ref.class_id == 15 and request.ref.member == 1
        if setup is None or not isinstance(request, apdu.ActionNormal) or not expected:
            raise MeterError("a request came before the client proved itself", "association")
        value = request.parameters
        keys = protection.keys if protection else None
        client_title = protection.peer_title if protection else b""
        theirs = hls.Challenge(self._stoc, self._ctos, client_title, self.device.title)
        try:
            if value is None or value.tag is not Tag.OCTET_STRING:
                raise MeterError("the answer to the challenge is not an octet-string", "authentication")
            hls.check(setup.mechanism, theirs, setup.secret, keys, value.value)
        except MeterError as error:
            self._reply(apdu.ActionResult(request.invoke, Outcome(ActionOutcome.READ_WRITE_DENIED)))
            self._violation("authentication", str(error), b"")
            self._end("end")
            return
        counter = protection.take_counter() if protection is not None and setup.mechanism is Mechanism.HLS_GMAC else 0
        setup.keep_counters(protection)
        ours = hls.Challenge(self._ctos, self._stoc, self.device.title, client_title)
        proof = hls.answer(setup.mechanism, ours, setup.secret, keys, counter, setup.policy & 0x0F)
        self._reply(apdu.ActionResult(request.invoke, Outcome(ActionOutcome.SUCCESS, Data(Tag.OCTET_STRING, proof))))
        self._move("authenticate")
        self._events.append(Opened(self.client))

    def _room(self) -> int:
        """How long a plain answer may be."""
        sealed = self._setup is not None and bool(self._setup.policy)
        return (self.peer_pdu or 0xFFFF) - (self._protection.overhead_bytes if sealed and self._protection else 0)

    def _reply(self, service: Service) -> None:
        octets = encode_apdu(service)
        setup, protection = self._setup, self._protection
        if protection is not None and setup is not None and setup.policy:
            octets = protection.seal(octets, self._control or setup.policy)
            setup.keep_counters(protection)
        limit = self.peer_pdu or 0xFFFF
        if self._by_general or (len(octets) > limit and self.conformance & Conformance.GENERAL_BLOCK_TRANSFER):
            self._sender = GeneralSender(octets, limit)
            acknowledged = self._receiver.acknowledged if self._receiver else 0
            self._send_general(self._sender.window(self._peer_window, 0, acknowledged, GENERAL_WINDOW))
            return
        self.link.send(octets)

    def _refuse_with(self, exception: ExceptionResponse) -> None:
        """An exception response, in the clear: a peer whose security is broken could not read it otherwise."""
        self._receiver = self._sender = None
        if self.state is not State.DOWN:
            self.link.send(encode_apdu(exception))

    def _send_general(self, blocks: list[GeneralBlock]) -> None:
        for block in blocks:
            self.link.send(encode_apdu(block))

    def _general(self, octets: bytes) -> None:
        """A general block: an acknowledgement of ours, or a piece of a request."""
        if not self.conformance & Conformance.GENERAL_BLOCK_TRANSFER:
            raise MeterError("general block transfer was not negotiated")
        block = decode_apdu(octets)
        if not isinstance(block, GeneralBlock):
            raise MeterError("these bytes are not a general block")
        self._peer_window = block.window
        if not block.data:
            if self._sender is not None:
                acknowledged = self._receiver.acknowledged if self._receiver else 0
                self._send_general(self._sender.window(block.window, block.acknowledged, acknowledged, GENERAL_WINDOW))
            return
        if self._receiver is None or block.number == 1:
            self._receiver, self._sender, self._own_general = GeneralReceiver(), None, 0
        whole = self._receiver.take(block)
        if whole is not None:
            self._by_general = True
            self._request(whole)
        elif not block.streaming:
            self._own_general += 1
            ready = GeneralBlock(False, False, GENERAL_WINDOW, self._own_general, self._receiver.acknowledged, b"")
            self.link.send(encode_apdu(ready))

    def _last_counter(self) -> int:
        """The last invocation counter of this client, of an association that stands or is being asked for; -1 = none."""
        if self._protection is not None:
            return self._protection.last_peer_counter
        setup = self.device.setups.get(self.client)
        return setup.security.last_client_counter if setup is not None and setup.security is not None else -1

    def _violation(self, cause: str, message: str, octets: bytes) -> None:
        self._events.append(Violation(self.client, cause, message, octets))

    def _move(self, event: str) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise MeterError(f'"{event}" is not allowed while the server session is {self.state}', "association")
        self.state = after


def _exception_for(error: MeterError, last_counter: int) -> ExceptionResponse:
    """The exception response that tells a peer what was wrong; an invocation counter error names the one that is due."""
    if error.cause == "replay":
        return ExceptionResponse(1, 6, last_counter + 1)
    if error.cause == "bad_tag":
        return ExceptionResponse(1, 5)
    if error.cause in ("security", "association"):
        return ExceptionResponse(1, 1)
    return ExceptionResponse(2, 2)
