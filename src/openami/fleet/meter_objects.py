"""The objects of a simulated meter that do not make up its life: names, counters, settings, orders, keys, firmware, calendar."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..cosem.apdu import AccessResult, Ref
from ..cosem.association import AssociationSetup
from ..cosem.axdr import Data, Tag
from ..cosem.ciphering import Keys
from ..cosem.objects import CosemObject, DataObject, Register, scaler_unit
from ..cosem.operations import ActivityCalendar, ImageTransfer, KeyId, Limiter, PushSetup, ScriptTable, SecuritySetup
from ..cosem.push import obis_bytes
from .associations import RELAY_OBIS, MeterIdentity
from .life import ZONE_BY_HOUR
from .measured import LivePeak, LiveRegister, Watched

if TYPE_CHECKING:
    from .device import MeterDevice

IMAGE_BLOCK_BYTES = 128
LOAD_LIMIT_W = 5000
PERIODS_S = (900, 1800)
LIMIT_OVER_S, LIMIT_UNDER_S = 120, 120
ASSOCIATION_NUMBERS = {32: 2, 48: 3, 64: 4, 80: 5, 96: 6}


def meter_objects(device: MeterDevice) -> list[CosemObject]:
    """Everything but clock, relay and profiles."""
    return [*_registers(device), *_names(device), *_settings(device), *_orders(device), *_securities(device)]


def _registers(device: MeterDevice) -> list[CosemObject]:
    made: list[CosemObject] = []
    for row in device.tables.registers:
        kind = LivePeak if row.class_id == 4 else LiveRegister
        made.append(kind(row, device.life))
    return made


def _text(obis: str, text: str, writable: bool = False) -> DataObject:
    return DataObject(obis, Data(Tag.OCTET_STRING, text.encode()), writable)


def _number(obis: str, tag: Tag, value: int, writable: bool = False) -> DataObject:
    return DataObject(obis, Data(tag, value), writable)


def _names(device: MeterDevice) -> list[CosemObject]:
    """Nameplate, counters, settings and prepayment data: values that do not measure."""
    identity, life = device.identity, device.life
    year = datetime.fromtimestamp(life.since_s, UTC).year
    sap = Data(Tag.STRUCTURE, (Data(Tag.LONG_UNSIGNED, device.address), Data(Tag.OCTET_STRING, device_name(identity))))
    access_point = CosemObject("0.0.41.0.0.255", {2: Data(Tag.ARRAY, (sap,))})
    access_point.class_id = 17

    def counter(client: int) -> DataObject:
        obis = f"0.0.43.1.{ASSOCIATION_NUMBERS[client]}.255"
        return DataObject(obis, source=lambda: Data(Tag.DOUBLE_LONG_UNSIGNED, device.counter(client)))

    billing_date = CosemObject("0.0.0.1.2.255", {2: Data(Tag.OCTET_STRING, b"\xff" * 12), 3: scaler_unit(0, "")})
    billing_date.class_id = 3
    return [
        billing_date,
        DataObject("0.0.42.0.0.255", Data(Tag.OCTET_STRING, device_name(identity))),
        access_point,
        _text("0.0.96.1.0.255", identity.serial),
        _text("0.0.96.1.2.255", device_name(identity).decode("latin-1")),
        _text("0.0.96.1.1.255", "OPENAMI SIMULATED"),
        _text("0.0.96.1.4.255", str(year)),
        _text("1.0.0.2.0.255", "SIM-1.00"),
        _number("0.0.94.91.9.255", Tag.UNSIGNED, 6),
        _text("0.0.94.91.11.255", "D1"),
        _text("0.0.94.91.12.255", "5-30A"),
        *(counter(client) for client in ASSOCIATION_NUMBERS),
        *(_number(f"0.0.96.11.{k}.255", Tag.LONG_UNSIGNED, 0) for k in range(7)),
        _number("0.0.96.10.1.255", Tag.UNSIGNED, 0),
        _number("0.0.94.91.0.255", Tag.LONG_UNSIGNED, 0),
        _number("0.0.0.1.0.255", Tag.LONG_UNSIGNED, 0),
        _number("0.0.96.2.0.255", Tag.LONG_UNSIGNED, 0),
        _number("0.0.96.7.0.255", Tag.LONG_UNSIGNED, 0),
        Register("0.0.94.91.8.255", Data(Tag.DOUBLE_LONG_UNSIGNED, 0), 0, "min"),
        DataObject("0.0.94.91.18.255", Data(Tag.BIT_STRING, "0" * 128)),
    ]


def device_name(identity: MeterIdentity) -> bytes:
    """The logical device name: maker's three letters and the serial number."""
    maker = identity.system_title[:3]
    serial = identity.serial.encode()
    return serial if serial.startswith(maker) else maker + serial


def _settings(device: MeterDevice) -> list[CosemObject]:
    """What the utility may set: periods, prepayment display, billing dates, load limit, calendar. Each change is an event."""
    life = device.life
    unset = Data(Tag.OCTET_STRING, b"\xff" * 12)

    def logged(one: CosemObject, code: int) -> Watched:
        return Watched(one, life, lambda verb, member, now_s: device.event(code, now_s))

    period = _number("1.0.0.8.4.255", Tag.LONG_UNSIGNED, life.period_s, True)
    limit = Data(Tag.DOUBLE_LONG_UNSIGNED, LOAD_LIMIT_W)
    return [
        logged(_number("1.0.0.8.0.255", Tag.LONG_UNSIGNED, life.period_s, True), 152),
        CapturePeriod(period, device),
        DataObject("0.0.94.91.26.255", Data(Tag.BIT_STRING, "1" * 128), True),
        _number("0.0.94.96.19.255", Tag.UNSIGNED, 0, True),
        _number("0.0.94.96.20.255", Tag.UNSIGNED, 1, True),
        *(_number(f"0.0.94.96.{k}.255", Tag.DOUBLE_LONG, 0, True) for k in (21, 23, 24)),
        *(DataObject(f"0.0.94.96.{k}.255", unset, True) for k in (22, 25)),
        logged(_billing_dates(), 154),
        logged(Limiter("0.0.17.0.0.255", Ref(3, "1.0.1.7.0.255", 2), limit, LIMIT_OVER_S, LIMIT_UNDER_S), 158),
        logged(ActivityCalendar("0.0.13.0.0.255", _calendar()), 155),
    ]


class CapturePeriod(Watched):
    """1.0.0.8.4.255: the capture period of block load, 900 or 1800 s; other values are refused."""

    def __init__(self, inner: CosemObject, device: MeterDevice) -> None:
        super().__init__(inner, device.life, self._changed)
        self._device = device

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        if member == 2 and value.value not in PERIODS_S:
            return AccessResult.OTHER_REASON
        return super().set(member, value, now_s)

    def _changed(self, verb: str, member: int, now_s: int) -> None:
        period_s: int = self.attributes[2].value
        self._device.life.period_s = period_s
        self._device.profiles["block_load"].attributes[4] = Data(Tag.DOUBLE_LONG_UNSIGNED, period_s)
        self._device.event(153, now_s)


def _billing_dates() -> CosemObject:
    """Class 22: billing at 00:00 of the first of every month."""
    when = (Data(Tag.OCTET_STRING, bytes(4)), Data(Tag.OCTET_STRING, b"\xff\xff\xff\x01\xff"))
    script = (Data(Tag.OCTET_STRING, obis_bytes("0.0.10.0.1.255")), Data(Tag.LONG_UNSIGNED, 1))
    schedule = CosemObject(
        "0.0.15.0.0.255",
        {2: Data(Tag.STRUCTURE, script), 3: Data(Tag.ENUM, 1), 4: Data(Tag.ARRAY, (Data(Tag.STRUCTURE, when),))},
        (4,),
    )
    schedule.class_id = 22
    return schedule


def _calendar() -> tuple[Data, Data, Data, Data]:
    """Name, seasons, weeks and days of the calendar that the registers count by."""

    def text(octets: bytes) -> Data:
        return Data(Tag.OCTET_STRING, octets)

    season = Data(Tag.STRUCTURE, (text(b"ALL"), text(b"\xff\xff\x01\x01\xff\0\0\0\0\x80\0\xff"), text(b"WEEK")))
    week = Data(Tag.STRUCTURE, (text(b"WEEK"), *(Data(Tag.UNSIGNED, 1),) * 7))
    starts = [hour for hour in range(24) if hour == 0 or ZONE_BY_HOUR[hour] != ZONE_BY_HOUR[hour - 1]]
    script = text(obis_bytes("0.0.10.0.100.255"))
    slots = tuple(
        Data(Tag.STRUCTURE, (text(bytes((hour, 0, 0, 0))), script, Data(Tag.LONG_UNSIGNED, ZONE_BY_HOUR[hour]))) for hour in starts
    )
    day = Data(Tag.STRUCTURE, (Data(Tag.UNSIGNED, 1), Data(Tag.ARRAY, slots)))
    return text(b"TOU"), Data(Tag.ARRAY, (season,)), Data(Tag.ARRAY, (week,)), Data(Tag.ARRAY, (day,))


def _orders(device: MeterDevice) -> list[CosemObject]:
    """Scripts that move the relay, firmware image, push setups."""
    nothing = Data(Tag.INTEGER, 0)
    relay: dict[int, tuple[tuple[Ref, Data], ...]] = {1: ((Ref(70, RELAY_OBIS, 1), nothing),), 2: ((Ref(70, RELAY_OBIS, 2), nothing),)}
    image = ImageTransfer("0.0.44.0.0.255", IMAGE_BLOCK_BYTES, device.accepts_image)

    def activated(verb: str, member: int, now_s: int) -> None:
        if (verb, member) == ("action", 4):
            device.objects[1, "1.0.0.2.0.255"].attributes[2] = Data(Tag.OCTET_STRING, image.activated)
            device.event(157, now_s)

    pushes = (
        PushSetup(obis, tuple(column.encode() for column in columns), "", device.pushing.ask)
        for obis, columns in device.tables.pushes.items()
    )
    return [ScriptTable("0.0.10.0.106.255", relay, device.run), Watched(image, device.life, activated), *pushes]


def _securities(device: MeterDevice) -> list[CosemObject]:
    """A security setup for each ciphered association; new keys hold from its next association on, and for it alone."""
    made: list[CosemObject] = []
    for client, number in ASSOCIATION_NUMBERS.items():
        setup = device.setups[client]

        def transferred(keys: dict[KeyId, bytes], setup: AssociationSetup = setup) -> None:
            if setup.security is not None:
                old = setup.security.keys
                setup.security.keys = Keys(keys.get(KeyId.GLOBAL_ENCRYPTION, old.ek), keys.get(KeyId.AUTHENTICATION, old.ak))

        one = SecuritySetup(
            f"0.0.43.0.{number}.255", setup.policy >> 4, setup.policy & 0x0F, device.title, device.identity.master_key, transferred
        )
        made.append(Watched(one, device.life, lambda verb, member, now_s: device.event(164, now_s)))
    return made
