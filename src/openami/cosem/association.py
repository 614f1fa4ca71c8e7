"""Who may open an association with a meter and what it may do there: setups as data, the judgement of a request, and the association
object itself (class 15).

Clients differ in rights: IS 15959's public client reads a few names, the meter reader reads, the utility setting client also writes and
moves the relay. Rights are rows (`Allow`), never code. Secrets and keys appear in no repr.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import MeterError
from .acse import DEFAULT_CONFORMANCE, AssociationRequest, Conformance, Context, Diagnostic, InitiateRequest, Mechanism
from .apdu import AccessResult, Ref, Selection, ServiceError
from .axdr import Data, Tag
from .ciphering import Keys, SecurityControl
from .objects import CosemObject
from .protection import Protection, control_of, is_sealed, title_in
from .push import obis_bytes

MIN_CLIENT_PDU = 12


class Allow(NamedTuple):
    """One right. verbs: of "g" (get), "s" (set), "a" (action). class_id, member: None = any. obis: "" = any, else the code or the
    beginning of one ("1.0.99." or "0.0.42.0.0.255")."""

    verbs: str
    class_id: int | None = None
    obis: str = ""
    member: int | None = None

    def covers(self, verb: str, ref: Ref) -> bool:
        return (
            verb in self.verbs
            and self.class_id in (None, ref.class_id)
            and ref.obis.startswith(self.obis)
            and self.member in (None, ref.member)
        )


@dataclass(slots=True)
class SecurityState:
    """What an association's security keeps over restarts: keys, our next invocation counter, the client's last one (-1 = none yet)."""

    keys: Keys
    own_counter: int = 1
    last_client_counter: int = -1


@dataclass(frozen=True, slots=True)
class AssociationSetup:
    """What one client (SAP) of a meter may do and how it must prove itself.

    policy: security control byte that its APDUs need at least; 0 = plain. security: keys and counters; needed where the policy is not 0
    or the mechanism is GMAC. client_title: used where the client leaves its title out. security_setup: logical name of the object that
    holds this association's keys, "" = none.
    """

    client: int
    name: str
    obis: str
    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = field(default=b"", repr=False)
    policy: int = 0
    security: SecurityState | None = None
    rights: tuple[Allow, ...] = (Allow("gsa"),)
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_pdu: int = 0xFFFF
    pre_established: bool = False
    client_title: bytes = b""
    security_setup: str = ""

    def may(self, verb: str, ref: Ref) -> bool:
        """The rights of this client; the association object's reply to the challenge is always open to it."""
        return any(allow.covers(verb, ref) for allow in self.rights)

    def protect(self, own_title: bytes, client_title: bytes) -> Protection | None:
        """A new association's protection, whose counters go on from those that are kept; None without keys."""
        kept = self.security
        if kept is None:
            return None
        return Protection(kept.keys, own_title, client_title, self.policy, kept.own_counter, kept.last_client_counter)

    def keep_counters(self, protection: Protection | None) -> None:
        """Keeps how far an association has counted."""
        if protection is not None and self.security is not None:
            self.security.own_counter = protection.counter
            self.security.last_client_counter = protection.last_peer_counter

    def catch_up(self, protection: Protection) -> None:
        """Lets an association count on from what is kept, where another link has counted further."""
        if self.security is not None:
            protection.counter = max(protection.counter, self.security.own_counter)
            protection.last_peer_counter = max(protection.last_peer_counter, self.security.last_client_counter)


class Granted(NamedTuple):
    """An association request that holds. setup: as it stands for this association. control: the security control byte to answer with."""

    setup: AssociationSetup
    protection: Protection | None
    initiate: InitiateRequest
    control: SecurityControl


class Rejection(NamedTuple):
    """Why there is no association. cause: as of a server's `Violation`."""

    diagnostic: Diagnostic
    why: str
    error: ServiceError | None = None
    cause: str = "association"


def judge(request: AssociationRequest, setup: AssociationSetup | None, own_title: bytes) -> Granted | Rejection:
    """What a meter says to an association request of the client of `setup`. MeterError where the initiate request inside is not protected as
    is due; the counters of what could be opened are kept even then."""
    if setup is None or setup.pre_established:
        return Rejection(Diagnostic.NO_REASON, "no association for this client")
    if not setup.policy and setup.security is not None and request.context == Context.LN_CIPHERED:
        setup = replace(setup, policy=_offered_policy(request))  # more than is asked for is welcome
    if request.context != (Context.LN_CIPHERED if setup.policy else Context.LN):
        return Rejection(Diagnostic.CONTEXT_NOT_SUPPORTED, f"application context {request.context}")
    mechanism = request.mechanism or 0
    if mechanism != setup.mechanism:
        return Rejection(
            Diagnostic.MECHANISM_REQUIRED if request.mechanism is None else Diagnostic.MECHANISM_NOT_RECOGNISED,
            f"authentication mechanism {mechanism} where {int(setup.mechanism)} is due",
        )
    title = request.system_title or title_in(request.user_information) or setup.client_title
    if setup.security is not None and len(title) != 8:
        return Rejection(Diagnostic.CALLING_TITLE_NOT_RECOGNISED, "no system title of the client")
    protection = setup.protect(own_title, title)
    initiate, control = _opened_initiate(request, setup, protection)
    wrong = _initiate_error(initiate, setup)
    if wrong is not None:
        return Rejection(Diagnostic.NO_REASON, f"initiate request refused: {wrong}", wrong)
    if setup.mechanism is Mechanism.LLS and not hmac.compare_digest(request.authentication or b"", setup.secret):
        return Rejection(Diagnostic.AUTHENTICATION_FAILURE, "wrong password", cause="authentication")
    if setup.mechanism >= Mechanism.HLS and not 8 <= len(request.authentication or b"") <= 64:
        return Rejection(Diagnostic.AUTHENTICATION_FAILURE, "no challenge of 8 to 64 bytes", cause="authentication")
    return Granted(setup, protection, initiate, control)


def _opened_initiate(
    request: AssociationRequest, setup: AssociationSetup, protection: Protection | None
) -> tuple[InitiateRequest, SecurityControl]:
    """The initiate request, and the security control byte under which it came; the setup's where it came in the clear."""
    octets, control = request.user_information, SecurityControl(setup.policy)
    if is_sealed(octets):
        if protection is None or not setup.policy:
            raise MeterError("a ciphered initiate request came where no ciphering is set up", "security")
        octets, control = protection.open(octets, learn_form=True)
        setup.keep_counters(protection)
    elif setup.policy:
        raise MeterError("the initiate request came in the clear where the policy asks for ciphering", "security")
    return InitiateRequest.decode(octets), control


def _offered_policy(request: AssociationRequest) -> int:
    """The security control byte under which a client sent its initiate request, 0 where that is in the clear."""
    if not is_sealed(request.user_information):
        return 0
    return control_of(request.user_information) & 0x3F


def _initiate_error(initiate: InitiateRequest, setup: AssociationSetup) -> ServiceError | None:
    """Why an initiate request cannot be granted (service error "initiate": 1 version too low, 2 conformance, 3 PDU too short)."""
    if initiate.version < 6:
        return ServiceError(1, 6, 1)
    if not initiate.conformance & setup.conformance:
        return ServiceError(1, 6, 2)
    if 0 < initiate.max_pdu < MIN_CLIENT_PDU:
        return ServiceError(1, 6, 3)
    return None


def _arcs(last: int, mechanism: bool) -> Data:
    """An object identifier of DLMS UA as the BER bytes of its arcs."""
    return Data(Tag.OCTET_STRING, bytes.fromhex("60857405080" + ("2" if mechanism else "1")) + bytes((last,)))


class AssociationObject(CosemObject):
    """Class 15, association LN, as one client sees it: object list with its own rights, partners, context, status."""

    class_id = 15
    version = 1
    methods = (1,)

    def __init__(self, setup: AssociationSetup, objects: Iterable[CosemObject], server: int) -> None:
        context = Context.LN_CIPHERED if setup.policy else Context.LN
        partners = (Data(Tag.INTEGER, setup.client), Data(Tag.LONG_UNSIGNED, server))
        limits = (
            Data(Tag.BIT_STRING, f"{int(setup.conformance):024b}"),
            Data(Tag.LONG_UNSIGNED, setup.max_pdu),
            Data(Tag.LONG_UNSIGNED, setup.max_pdu),
            Data(Tag.UNSIGNED, 6),
            Data(Tag.INTEGER, 0),
            Data(Tag.OCTET_STRING, b""),
        )
        super().__init__(
            setup.obis,
            {
                3: Data(Tag.STRUCTURE, partners),
                4: _arcs(context, mechanism=False),
                5: Data(Tag.STRUCTURE, limits),
                6: _arcs(setup.mechanism, mechanism=True),
                8: Data(Tag.ENUM, 2),
                9: Data(Tag.OCTET_STRING, obis_bytes(setup.security_setup) if setup.security_setup else b""),
            },
        )
        self._setup, self._objects = setup, objects

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member == 2 and selection is None:
            return Data(Tag.ARRAY, tuple(self._listed(one) for one in (*self._objects, self)))
        return super().get(member, selection, now_s)

    def _listed(self, one: CosemObject) -> Data:
        """An element of the object list: class, version, name and the rights of this client."""
        attributes = []
        for member in sorted({*one.attributes, *((2,) if one is self else ())}):
            ref = Ref(one.class_id, one.obis, member)
            mode = self._setup.may("g", ref) | (self._setup.may("s", ref) and member in one.writable) << 1
            attributes.append(Data(Tag.STRUCTURE, (Data(Tag.INTEGER, member), Data(Tag.ENUM, mode), Data(Tag.NULL, None))))
        methods = []
        for member in one.methods:
            allowed = self._setup.may("a", Ref(one.class_id, one.obis, member))
            methods.append(Data(Tag.STRUCTURE, (Data(Tag.INTEGER, member), Data(Tag.ENUM, int(allowed)))))
        rights = Data(Tag.STRUCTURE, (Data(Tag.ARRAY, tuple(attributes)), Data(Tag.ARRAY, tuple(methods))))
        head = (Data(Tag.LONG_UNSIGNED, one.class_id), Data(Tag.UNSIGNED, one.version), Data(Tag.OCTET_STRING, obis_bytes(one.obis)))
        return Data(Tag.STRUCTURE, (*head, rights))
