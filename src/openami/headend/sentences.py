"""What passes between a meter and us, in words for a person: steps, refusals, result codes, objects, and bytes without their secrets."""

from __future__ import annotations

from ..cosem.apdu import Ref
from ..cosem.client import Refused, State


def blanked(octets: bytes, secret: bytes) -> str:
    """Bytes as hexadecimal for a person, with every piece of `secret` of two bytes or more shown as **: a frame may end inside it."""
    hidden = bytearray(len(octets))
    for at in range(len(octets) - 1):
        if secret and octets[at : at + 2] in secret:
            hidden[at] = hidden[at + 1] = 1
    return " ".join("**" if hide else f"{octet:02x}" for octet, hide in zip(octets, hidden, strict=True))


DIAGNOSTICS = {
    2: "application context not supported (is ciphering asked for where the meter has none, or the other way round?)",
    11: "authentication mechanism not recognised",
    12: "authentication mechanism required",
    13: "authentication failed (wrong password or secret)",
    14: "authentication required (this client must show who it is)",
}
"""Why an association was refused: result source diagnostic of the service user (IEC 62056-5-3, AARE)."""


STEPS = {
    State.LINKING: "opening the HDLC link",
    State.ASSOCIATING: "opening the association",
    State.AUTHENTICATING: "proving who we are",
}
"""What a conversation is doing until its association stands, for the sentence that ends it."""


HINTS = {
    "service=5": "it cannot decipher what we send: the encryption or authentication key is another one",
    "service=6": "it has seen higher invocation counters than ours",
    "state=2, service=2": "it does not understand what we send: a wrong encryption key or a used invocation counter can look like this",
    "state=1, service=1": "it wants another protection than ours: try --security 0x30, or 0x20",
    "answer to its challenge": "the secret is another one",
}
"""What a meter's refusal means for whoever gave the keys, by what it says."""


def refusal(event: Refused) -> str:
    said = DIAGNOSTICS.get(event.diagnostic or 0) or next((hint for mark, hint in HINTS.items() if mark in event.reason), None)
    return f"{said} [{event.reason}]" if said else event.reason


def code_name(code: object) -> str:
    """A result code in words: "read-write denied", or its number where the standard has no name for it."""
    name = getattr(code, "name", None)
    return str(name).lower().replace("_", " ") if name else f"result code {code}"


def named(ref: Ref) -> str:
    return f"{ref.obis} (class {ref.class_id}, {ref.member})"
