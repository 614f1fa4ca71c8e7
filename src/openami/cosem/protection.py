"""The security context of one association: how APDUs are sealed and opened, and the invocation counters (Green Book 9.2.7, IS 15959).

Peers differ: one speaks only general-glo-ciphering, another only the service-specific glo- forms, a third uses the dedicated key, a
fourth general-ciphering. A
context remembers the form that the peer used last, so that a server answers in it. What always holds:
- the own counter only grows, and each value is used once; `counter` is the next one, to be kept over restarts;
- a peer's counter that does not grow is refused (cause "replay"), and the last good one is kept;
- an APDU protected with less than the policy asks for is refused (cause "security").
"""

from __future__ import annotations

from enum import StrEnum

from ..errors import MeterError, RequestError
from .ciphering import (
    DED_OF,
    DED_TAGS,
    GENERAL_CIPHERING,
    GENERAL_DED,
    GENERAL_GLO,
    GLO_OF,
    SEALED_TAGS,
    Keys,
    SecurityControl,
    open_sealed,
    parse_sealed,
    seal,
)
from .general_ciphering import GeneralHeader, open_general, parse_general, seal_general

MAX_COUNTER = 0xFFFFFFFF


class Form(StrEnum):
    """How a ciphered APDU is dressed."""

    GLO = "glo"
    DED = "ded"
    GENERAL_GLO = "general-glo"
    GENERAL_DED = "general-ded"
    GENERAL_CIPHERING = "general-ciphering"


class Protection:
    """Seals and opens the APDUs of one association.

    policy: security control byte that both ways need at least (0x20, 0x30; 0 = plain is allowed), suite included. counter: the next own
    invocation counter. last_peer_counter: the last one seen from the peer, -1 = none yet; a peer may begin anywhere above it.
    """

    def __init__(
        self,
        keys: Keys,
        own_title: bytes,
        peer_title: bytes = b"",
        policy: int = 0x30,
        counter: int = 0,
        last_peer_counter: int = -1,
        form: Form = Form.GLO,
    ) -> None:
        if len(own_title) != 8:
            raise RequestError(f"a system title has 8 bytes, not {len(own_title)}")
        self.keys, self.own_title, self.peer_title = keys, own_title, peer_title
        self.policy, self.form = policy, form
        self.counter, self.last_peer_counter = counter, last_peer_counter
        self.dedicated: Keys | None = None
        self._dedicated_last = -1
        self._transaction = b""
        self._binds_header = False

    def use_dedicated_key(self, key: bytes) -> None:
        """From now on the ded- forms use `key` (with the global authentication key)."""
        self.dedicated = Keys(key, self.keys.ak)

    @property
    def overhead_bytes(self) -> int:
        """Room that ciphering may need around an APDU: tag, titles, lengths, security header and authentication tag."""
        return 64 if self.form is Form.GENERAL_CIPHERING else 40

    def take_counter(self) -> int:
        """The next own invocation counter, used up by asking."""
        if self.counter > MAX_COUNTER:
            raise RequestError("the invocation counter is used up: transfer a new key before anything else is sent")
        self.counter += 1
        return self.counter - 1

    def seal(self, plain: bytes, control: int | None = None) -> bytes:
        """A service APDU sealed in the current form. control: the security control byte, the policy's where None."""
        form = self.form
        if form is Form.GENERAL_CIPHERING:
            counter = self.take_counter()
            header = GeneralHeader(self._transaction or counter.to_bytes(8, "big"), self.own_title, self.peer_title)
            return seal_general(header, control or self.policy, counter, self.keys, plain, self._binds_header)
        if form in (Form.DED, Form.GENERAL_DED) and self.dedicated is None:
            raise RequestError("the dedicated form is asked for but no dedicated key was agreed in the association request")
        dedicated = self.dedicated if form in (Form.DED, Form.GENERAL_DED) else None
        table = {Form.GLO: GLO_OF, Form.DED: DED_OF}.get(form)
        general = GENERAL_DED if dedicated else GENERAL_GLO
        tag = general if table is None else table.get(plain[0], general)
        return seal(tag, self.own_title, control or self.policy, self.take_counter(), dedicated or self.keys, plain)

    def seal_initiate(self, plain: bytes, control: int | None = None) -> bytes:
        """The initiate request or response: always under the global key, service-specific unless the form is general."""
        tag = GENERAL_GLO if self.form in (Form.GENERAL_GLO, Form.GENERAL_DED) else GLO_OF[plain[0]]
        return seal(tag, self.own_title, control or self.policy, self.take_counter(), self.keys, plain)

    def open(self, apdu: bytes, learn_form: bool = False) -> tuple[bytes, SecurityControl]:
        """The plain APDU and its security control byte.

        learn_form: answer from now on in the form of this APDU (a server does). MeterError with cause "bad_tag", "replay", "security"
        or "malformed"; nothing changes then, neither counter nor form.
        """
        header, sealed = parse_general(apdu) if apdu[:1] == bytes((GENERAL_CIPHERING,)) else (None, parse_sealed(apdu))
        if header is not None and header.recipient not in (b"", self.own_title):
            raise MeterError(f"the APDU is meant for system title {header.recipient.hex()}, not for {self.own_title.hex()}", "security")
        if self.peer_title and sealed.system_title and sealed.system_title != self.peer_title:
            raise MeterError(f"the APDU comes from system title {sealed.system_title.hex()}, not from {self.peer_title.hex()}", "security")
        dedicated = sealed.tag == GENERAL_DED or sealed.tag in DED_TAGS
        if dedicated and self.dedicated is None:
            raise MeterError("the APDU uses a dedicated key, and none was agreed", "security")
        self._demand(sealed.security_control)
        last = self._dedicated_last if dedicated else self.last_peer_counter
        if sealed.invocation_counter <= last:
            raise MeterError(f"invocation counter {sealed.invocation_counter} does not grow (the last was {last})", "replay")
        keys = self.dedicated if dedicated and self.dedicated else self.keys
        title = self.peer_title or sealed.system_title
        binds_header = self._binds_header
        if header is None:
            plain = open_sealed(sealed, keys, title)
        else:
            plain, binds_header = open_general(header, sealed, keys, title)
        self._binds_header = binds_header
        if dedicated:
            self._dedicated_last = sealed.invocation_counter
        else:
            self.last_peer_counter = sealed.invocation_counter
        if sealed.system_title and not self.peer_title:
            self.peer_title = sealed.system_title
        if learn_form and header is not None:
            self.form, self._transaction = Form.GENERAL_CIPHERING, header.transaction
        elif learn_form:
            general = sealed.tag in (GENERAL_GLO, GENERAL_DED)
            self.form = (Form.GENERAL_DED if general else Form.DED) if dedicated else (Form.GENERAL_GLO if general else Form.GLO)
        return plain, sealed.security_control

    def _demand(self, control: SecurityControl) -> None:
        if control & 0x30 & self.policy != self.policy & 0x30 or control.suite != self.policy & 0x0F:
            raise MeterError(f"security control byte 0x{control:02x} is less than the policy's 0x{self.policy:02x}", "security")


def control_of(apdu: bytes) -> SecurityControl:
    """The security control byte of a ciphered APDU of any form; MeterError where it is none."""
    if apdu[:1] == bytes((GENERAL_CIPHERING,)):
        return parse_general(apdu)[1].security_control
    return parse_sealed(apdu).security_control


def title_in(apdu: bytes) -> bytes:
    """The system title that a ciphered APDU carries itself, b"" where its form has none, or it is not ciphered."""
    if not is_sealed(apdu):
        return b""
    return parse_general(apdu)[1].system_title if apdu[0] == GENERAL_CIPHERING else parse_sealed(apdu).system_title


def is_sealed(apdu: bytes) -> bool:
    """True for an APDU of any ciphered form."""
    return bool(apdu) and (apdu[0] in SEALED_TAGS or apdu[0] == GENERAL_CIPHERING)
