"""How a client opens an association: what it proposes, how it judges the answer, and the proof of each side to the other (Green Book 9.3, 9.2.7.4).

    opening = Opening(settings)
    ... send opening.request(); judge(response); where the server challenges: send proof(its challenge), check(what it returns)

Whose turn it is knows `client.py`; what a server tolerates or leaves out is kept in `warnings`, what cannot be tolerated is a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import MeterError, RequestError
from . import hls
from .acse import (
    DEFAULT_CONFORMANCE,
    AssociationRequest,
    AssociationResponse,
    Conformance,
    Context,
    InitiateRequest,
    InitiateResponse,
    Mechanism,
)
from .apdu_octets import decode_apdu
from .protection import Form, Protection, is_sealed

MIN_SERVER_PDU = 96
"""A server that takes less could not even be sent a ciphered request with a selection, nor its blocks."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How one client talks to one meter.

    secret: password of LLS, secret of HLS. challenge: our own random bytes for HLS, 8 to 64 (16 for mechanism 2). protection: None =
    no ciphering. dedicated_key: random 16 bytes to use the ded- forms, b"" = none. user_information of a release is ciphered where the
    association is. check_answer: False tolerates a meter that gives no proof of its own in the last step of HLS (a quirk to be listed).
    """

    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = field(default=b"", repr=False)
    challenge: bytes = b""
    protection: Protection | None = None
    dedicated_key: bytes = field(default=b"", repr=False)
    conformance: Conformance = DEFAULT_CONFORMANCE
    max_pdu: int = 0xFFFF
    pre_established: bool = False
    pre_established_pdu: int = 0
    general_window: int = 8
    check_answer: bool = True


class Opening:
    """One client's way into one association. warnings: what was tolerated."""

    def __init__(self, settings: ClientSettings) -> None:
        self.warnings: list[str] = []
        self._settings, self._protection = settings, settings.protection
        self._stoc = b""

    def request(self) -> AssociationRequest:
        """The association request; RequestError where the settings do not suffice for the mechanism."""
        mechanism = self._settings.mechanism
        if mechanism in hls.WEAK:
            self.warnings.append(f"authentication mechanism {int(mechanism)} rests on a broken hash; change the meter to 5 or 6")
        if mechanism >= Mechanism.HLS and not 8 <= len(self._settings.challenge) <= 64:
            raise RequestError("HLS needs a random challenge of 8 to 64 bytes in the settings")
        initiate = self.initiate().encode()
        return AssociationRequest(
            Context.LN_CIPHERED if self.ciphered else Context.LN,
            self.ciphered.seal_initiate(initiate) if self.ciphered else initiate,
            self._own_title,
            None if mechanism is Mechanism.NONE else int(mechanism),
            {Mechanism.NONE: None, Mechanism.LLS: self._settings.secret}.get(mechanism, self._settings.challenge),
        )

    def judge(self, response: AssociationResponse) -> InitiateResponse | str:
        """What the server grants, or why there is no association. From then on the protection knows its title and the dedicated key."""
        if response.result != 0:
            return _why(response)
        if self._protection is not None:
            if response.system_title and not self._protection.peer_title:
                self._protection.peer_title = response.system_title
            if not response.system_title:
                self.warnings.append("the server left out its system title")
        granted = self._opened(response.user_information)
        if granted is None:
            return "the server accepted without an initiate response"
        if 0 < granted.max_pdu < MIN_SERVER_PDU:
            return f"the server takes APDUs of {granted.max_pdu} bytes only, {MIN_SERVER_PDU} are needed"
        if self._settings.dedicated_key and self.ciphered:
            self.ciphered.use_dedicated_key(self._settings.dedicated_key)
        return granted

    def proof(self, challenge: bytes) -> bytes:
        """Our answer to the server's challenge, which `check` will need too."""
        self._stoc = challenge
        settings, protection = self._settings, self._protection
        given = hls.Challenge(challenge, settings.challenge, self._own_title, self.server_title)
        if protection is None:
            return hls.answer(settings.mechanism, given, settings.secret, None, 0)
        counter = protection.take_counter() if settings.mechanism is Mechanism.HLS_GMAC else 0
        return hls.answer(settings.mechanism, given, settings.secret, protection.keys, counter, protection.policy & 0x0F)

    def check(self, answered: bytes) -> None:
        """The server's answer to our challenge; MeterError where it does not hold."""
        settings, protection = self._settings, self._protection
        theirs = hls.Challenge(settings.challenge, self._stoc, self.server_title, self._own_title)
        hls.check(settings.mechanism, theirs, settings.secret, protection.keys if protection else None, answered)

    def initiate(self) -> InitiateRequest:
        return InitiateRequest(self.offered, self._settings.max_pdu, self._settings.dedicated_key)

    @property
    def ciphered(self) -> Protection | None:
        """The protection where this association ciphers; one without a policy only lends its titles and keys to HLS."""
        return self._protection if self._protection is not None and self._protection.policy else None

    @property
    def offered(self) -> Conformance:
        """What is proposed: the settings', and general protection where the general forms are spoken."""
        general = self.ciphered is not None and self.ciphered.form in (Form.GENERAL_GLO, Form.GENERAL_DED, Form.GENERAL_CIPHERING)
        return self._settings.conformance | (Conformance.GENERAL_PROTECTION if general else Conformance(0))

    @property
    def server_title(self) -> bytes:
        return self._protection.peer_title if self._protection else b""

    @property
    def _own_title(self) -> bytes:
        return self._protection.own_title if self._protection else b""

    def _opened(self, octets: bytes) -> InitiateResponse | None:
        if not octets:
            return None
        if is_sealed(octets):
            if self._protection is None:
                raise MeterError("the initiate response is ciphered, but this association has no keys", "security")
            octets, _ = self._protection.open(octets)
        elif self.ciphered:
            self.warnings.append("the server sent its initiate response in the clear")
        return InitiateResponse.decode(octets)


def _why(response: AssociationResponse) -> str:
    """A refusal in words, with the service error inside where there is one."""
    inside = ""
    if response.user_information[:1] == b"\x0e":
        inside = f"; {decode_apdu(response.user_information)}"
    source = "service provider" if response.by_provider else "service user"
    return f"result {response.result}, diagnostic {response.diagnostic} of the {source}{inside}"
