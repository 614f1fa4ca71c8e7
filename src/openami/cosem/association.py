"""Who may open an association with a meter and what it may do there: setups as data, and the association object itself (class 15).

Clients differ in rights: IS 15959's public client reads a few names, the meter reader reads, the utility setting client also writes and
moves the relay. Rights are rows (`Allow`), never code. Secrets and keys appear in no repr.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .acse import DEFAULT_CONFORMANCE, Conformance, Context, Mechanism
from .apdu import AccessResult, Ref, Selection
from .axdr import Data, Tag
from .ciphering import Keys
from .objects import CosemObject
from .push import obis_bytes


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
