"""Three meters that the head-end knows, and what they send."""

from __future__ import annotations

from collections.abc import Sequence

from openami.cosem import ciphering, notification, wrapper
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.push import layout_for
from openami.fleet.meter import BLOCK_LOAD_PUSH, METER_PORT, PUSH_PORT, SimulatedMeter
from openami.headend.admission import Admission, Correspondent, Verdict
from openami.registry import Meter

HEADEND = b"OAM\x00\x00TST"
STAMP = 1_764_528_300
VALUES = {"import_wh": 250, "import_vah": 260, "voltage_v": 23_000, "current_a": 1_100}

ENCRYPTED = Meter("XMA0000001", b"XMA\x00\x00\x00\x00\x01", "XMA", "XMA-1P", 0, 0, 0x20, 1)
AUTHENTICATED = Meter("XMB0000002", b"XMB\x00\x00\x00\x00\x02", "XMB", "XMB-1P", 0, 1, 0x30, 1)
OTHER = Meter("XMB0000003", b"XMB\x00\x00\x00\x00\x03", "XMB", "XMB-1P", 0, 2, 0x30, 1)
METERS = (ENCRYPTED, AUTHENTICATED, OTHER)
KEYS = {m.serial: Keys(bytes([k + 1]) * 16, bytes([k + 101]) * 16) for k, m in enumerate(METERS)}


def admission(counters: dict[str, int] | None = None) -> Admission:
    return Admission({m.system_title: Correspondent(m, KEYS[m.serial]) for m in METERS}, HEADEND, counters)


def verdicts(judge: Admission, frames: Sequence[bytes]) -> list[Verdict]:
    """A batch's verdicts in its order, as if each frame had been judged alone; what was taken in by its known form has no `notification`."""
    judged = judge.judge_batch(frames)
    of = {place: judge.peers[row].meter for place, row in zip(judged.taken.tolist(), judged.meters.tolist(), strict=True)}
    return [
        judged.alone[k] if k in judged.alone else Verdict(None, serial=of[k].serial, meter=of[k], confirm=confirm)
        for k, confirm in enumerate(judged.confirms)
    ]


def simulated(meter: Meter, counter: int = 100, keys: Keys | None = None) -> SimulatedMeter:
    layout = layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH)
    return SimulatedMeter(meter.serial, meter.system_title, layout, meter.security_control, keys or KEYS[meter.serial], counter)


def push(meter: Meter, counter: int = 100, keys: Keys | None = None) -> bytes:
    """A genuine block-load push of `meter` (unless the keys are another's), as it goes over the wire."""
    return simulated(meter, counter, keys).push(STAMP + 5, STAMP, VALUES)


def sealed(
    meter: Meter,
    plain: bytes,
    counter: int = 100,
    *,
    control: int | None = None,
    tag: int = ciphering.GENERAL_GLO,
    title: bytes | None = None,
    source: int = METER_PORT,
) -> bytes:
    """Any plain bytes under the meter's keys, as it goes over the wire."""
    control = meter.security_control if control is None else control
    apdu = ciphering.seal(tag, meter.system_title if title is None else title, control, counter, KEYS[meter.serial], plain)
    return wrapper.wrap(source, PUSH_PORT, apdu)


def notify(invoke: int = 1, body: Data | None = None, *, confirmed: bool = True) -> bytes:
    return notification.DataNotification(invoke, confirmed, False, b"", body or Data(Tag.UNSIGNED, 7)).encode()
