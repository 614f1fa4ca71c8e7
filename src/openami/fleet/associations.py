"""Who may talk to a simulated meter and what each may do: the six associations of IS 15959 part 2 as rows.

Keys are one pair for the meter; each association has its own invocation counters, far enough apart that no counter is used twice with a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..cosem.acse import DEFAULT_CONFORMANCE, Conformance, Mechanism
from ..cosem.association import Allow, AssociationSetup, SecurityState
from ..cosem.ciphering import Keys
from ..errors import RequestError

PUBLIC, READER, UTILITY, PUSH, FIRMWARE, DISPLAY = 16, 32, 48, 64, 80, 96
CONFORMANCE = DEFAULT_CONFORMANCE | Conformance.GENERAL_PROTECTION | Conformance.DATA_NOTIFICATION
RELAY_OBIS = "0.0.96.3.10.255"
COUNTERS_FROM_S = 1_704_067_200
"""Own counters start from the seconds since 2024, so that they grow over restarts of a simulator that keeps nothing."""


@dataclass(frozen=True, slots=True)
class MeterIdentity:
    """A meter's name and secrets. password: LLS of client 32; hls_secret: 16 bytes, of clients 48 and 80; master_key: wraps new keys.

    hls: mechanism of clients 48 and 80: 2 (AES-128 of the challenge, usual in India), 5 (GMAC) or 6 (SHA-256). suite: security suite, 0 or 1
    with keys of 16 bytes, 2 with keys of 32; its symmetric services only.
    """

    serial: str
    system_title: bytes
    keys: Keys
    password: bytes = field(repr=False)
    hls_secret: bytes = field(repr=False)
    master_key: bytes = field(repr=False)
    hls: Mechanism = Mechanism.HLS
    suite: int = 0

    def __post_init__(self) -> None:
        if self.suite not in (0, 1, 2) or len(self.keys.ek) != (32 if self.suite == 2 else 16):
            raise RequestError(f"security suite {self.suite} and keys of {len(self.keys.ek)} bytes do not belong together")


_NAMES = (Allow("g", 1, "0.0.42.0.0.255"), Allow("g", 1, "0.0.96.1."), Allow("g", 1, "1.0.0.2.0.255"), Allow("g", 17), Allow("g", 8))
_COUNTERS = (Allow("g", 1, "0.0.43.1."),)
_OWN = (Allow("g", 15),)
_NO_SECRETS = tuple(Allow("g", class_id) for class_id in (1, 3, 4, 5, 7, 8, 9, 17, 18, 20, 22, 40, 64, 70, 71))

RIGHTS: dict[int, tuple[Allow, ...]] = {
    PUBLIC: (*_NAMES, *_COUNTERS, *_OWN),
    READER: (*_NO_SECRETS, *_OWN),
    UTILITY: (
        *_NO_SECRETS,
        *_OWN,
        *(Allow("s", class_id) for class_id in (1, 7, 8, 20, 22, 40, 70, 71)),
        *(Allow("a", class_id) for class_id in (8, 9, 20, 40)),
        Allow("a", 70, RELAY_OBIS),
        Allow("a", 64, "0.0.43.0."),
        Allow("a", 15),
    ),
    PUSH: (),
    FIRMWARE: (*_NAMES, *_COUNTERS, *_OWN, Allow("gsa", 18), Allow("ga", 64, "0.0.43.0.5.255"), Allow("a", 15)),
    DISPLAY: (
        *_NAMES,
        Allow("g", 7, "1.0.94.91.0.255"),
        Allow("g", 7, "1.0.94.91.3.255"),
        Allow("g", 1, "0.0.94.96."),
        Allow("g", 3),
        *_OWN,
    ),
}
"""What each client may do: "g" get, "s" set, "a" action. The relay is the utility's alone; the image is the firmware client's alone."""

_ROWS = (
    (PUBLIC, "public", 1, 0x00, False),
    (READER, "meter reader", 2, 0x20, False),
    (UTILITY, "utility setting", 3, 0x30, False),
    (PUSH, "push", 4, 0x20, True),
    (FIRMWARE, "firmware upgrade", 5, 0x30, False),
    (DISPLAY, "in-home display", 6, 0x20, True),
)


def association_setups(identity: MeterIdentity, now_s: int, max_pdu: int, general_blocks: bool = False) -> dict[int, AssociationSetup]:
    """The setups by client (IS 15959 part 2, table 2). Counters start from `now_s` (UTC seconds).

    general_blocks: also offers general block transfer, which few meters of this kind do.
    """
    conformance = CONFORMANCE | (Conformance.GENERAL_BLOCK_TRANSFER if general_blocks else 0)
    setups = {}
    for client, name, number, policy, pre_established in _ROWS:
        mechanism, secret = Mechanism.NONE, b""
        if client == READER:
            mechanism, secret = Mechanism.LLS, identity.password
        elif client in (UTILITY, FIRMWARE):
            mechanism, secret = identity.hls, identity.hls_secret
        security = SecurityState(identity.keys, (number << 28) + (now_s - COUNTERS_FROM_S) % (1 << 28), -1) if policy else None
        setups[client] = AssociationSetup(
            client,
            name,
            f"0.0.40.0.{number}.255",
            mechanism,
            secret,
            policy | identity.suite if policy else 0,
            security,
            RIGHTS[client],
            conformance,
            max_pdu,
            pre_established,
            security_setup=f"0.0.43.0.{number}.255" if security is not None else "",
        )
    return setups
