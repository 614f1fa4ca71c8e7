"""The general way through a batch, one frame at a time: what the bulk path must agree with."""

from __future__ import annotations

from dataclasses import dataclass

from openami.cosem import ciphering, wrapper
from openami.cosem.ciphering import Keys
from openami.cosem.notification import DataNotification
from openami.cosem.push import Push, PushLayout, read_push
from openami.errors import MeterError


@dataclass
class ReferenceMeter:
    title: bytes
    keys: Keys
    demanded: int
    layout: PushLayout
    last_counter: int = -1


def judged(meters: list[ReferenceMeter], frame: bytes) -> tuple[str, Push | None]:
    """(cause or "taken", push), in the head-end's order of questions; moves the meter's counter."""
    apdu = frame
    try:
        if frame[:2] == b"\x00\x01":
            frames = wrapper.unwrap(frame)
            if len(frames) != 1:
                return "malformed", None
            apdu = frames[0].apdu
        sealed = ciphering.parse_sealed(apdu)
    except MeterError:
        return "malformed", None
    meter = next((m for m in meters if m.title == sealed.system_title), None)
    if meter is None:
        return "unknown_meter", None
    if sealed.security_control & meter.demanded != meter.demanded or sealed.tag != ciphering.GENERAL_GLO:
        return "policy", None
    if sealed.invocation_counter <= meter.last_counter:
        return "replayed_counter", None
    try:
        plain = ciphering.open_sealed(sealed, meter.keys)
    except MeterError as error:
        return error.cause, None
    try:
        push = read_push(meter.layout, DataNotification.decode(plain).body)
    except MeterError:
        return "malformed" if sealed.security_control.authenticated else "undecipherable", None
    meter.last_counter = sealed.invocation_counter
    return "taken", push
