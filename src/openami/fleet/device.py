"""A simulated IS 15959 single-phase smart meter as a full DLMS/COSEM server: identity, objects, associations, and a life behind them.

    device = build_device(new_identity("XMA0000007", rng), now_s)          # then serve it: serve.py

What always holds:
- its registers show what a real household took, less what an open relay kept back; profiles are captured from those registers;
- what a client changed (clock, relay, limit, calendar, keys, image) is logged as an event, as a meter does;
- it is driven by the time that it is asked at: the same requests at the same times give the same answers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from ..cosem.acse import Mechanism
from ..cosem.axdr import Data, Tag
from ..cosem.ciphering import Keys
from ..cosem.clock import CosemDateTime
from ..cosem.profile import CLOCK, Capture
from ..cosem.server import LogicalDevice
from ..errors import InputError, RequestError
from ..readings import Int32
from .associations import RELAY_OBIS, MeterIdentity, association_setups
from .households import Households, load_households, true_consumption
from .life import Life, Load
from .measured import LiveClock, LiveProfile, LiveRelay, Snapshot
from .meter_objects import PERIODS_S, meter_objects
from .pushing import Pushing
from .tables import MeterTables, meter_tables

MONTHS_MAX = 12
DAYS_MAX = 90
DAY_S = 86_400
ZONE_S = 19_800
ESW_BITS = {7: 3, 9: 4, 67: 11, 69: 51, 201: 81, 203: 82, 251: 83, 301: 84, 302: 84}
"""Event -> bit of the event status word (IS 15959 part 2); the event behind an odd one clears its bit."""
LAST_GASP, FIRST_BREATH = 85, 86
STATUS_WORD, FAILURES, FAILURE_MINUTES = (1, "0.0.94.91.18.255"), "0.0.96.7.0.255", (3, "0.0.94.91.8.255")


def new_identity(serial: str, rng: np.random.Generator, hls: Mechanism = Mechanism.HLS) -> MeterIdentity:
    """A meter's identity with fresh secrets from `rng`. The password is of eight digits, as installers type it."""
    check_serial(serial)
    title = serial.encode()[:3].ljust(3, b"X") + rng.bytes(5)
    password = "".join(str(digit) for digit in rng.integers(0, 10, 8)).encode()
    return MeterIdentity(serial, title, Keys(rng.bytes(16), rng.bytes(16)), password, rng.bytes(16), rng.bytes(16), hls)


def check_serial(serial: str) -> None:
    """InputError where this is no meter's number."""
    if not 1 <= len(serial) <= 16 or not serial.isascii() or not serial.isalnum():
        raise InputError(f"--serial {serial!r} is no meter's number; give 1 to 16 letters and digits, as XMA0000007")


class MeterDevice(LogicalDevice):
    """A logical device with its identity and its life. Everything that a test or a person may want to see stands in attributes."""

    def __init__(self, identity: MeterIdentity, life: Life, relay: LiveRelay, clock: LiveClock, tables: MeterTables) -> None:
        super().__init__(identity.system_title, (relay, clock), ())
        self.identity, self.life, self.relay, self.clock, self.tables = identity, life, relay, clock, tables
        self.profiles: dict[str, LiveProfile] = {}
        self.keep_from_s = 0
        self.pushing = Pushing(self)
        self._failed_at_s: int | None = None
        self._failed_s = 0

    def counter(self, client: int) -> int:
        """The last invocation counter that this client used, 0 = none yet (what 0.0.43.1.x.255 shows)."""
        security = self.setups[client].security
        return max(0, security.last_client_counter) if security else 0

    def capture(self, profile: LiveProfile, stamp_s: int) -> None:
        """A row of `profile` from the objects as they stand at `stamp_s` (true UTC seconds)."""
        profile.add(stamp_s + self.clock.offset_s, tuple(self._shown(column, stamp_s) for column in profile.columns))

    def _shown(self, column: Capture, now_s: int) -> Data:
        shown = self.objects[column.class_id, column.obis].get(column.attribute, None, now_s)
        if not isinstance(shown, Data):
            raise RequestError(f"a profile captures {column.obis} attribute {column.attribute}, which has no value ({shown})")
        return shown

    def captured(self, stamp_s: int, kind: str) -> None:
        """The meter's clock ended a block, a day or a month at `stamp_s`."""
        if kind == "month":
            shown = CosemDateTime.from_stamp(stamp_s + self.clock.offset_s)
            self.objects[3, "0.0.0.1.2.255"].attributes[2] = Data(Tag.OCTET_STRING, shown.encode())
            self._count("0.0.0.1.0.255")
            self.capture(self.profiles["billing"], stamp_s)
            self.pushing.captured("billing")
        elif stamp_s > self.keep_from_s:
            name = "block_load" if kind == "block" else "daily_load"
            self.capture(self.profiles[name], stamp_s)
            self.pushing.captured(name)

    def event(self, code: int, now_s: int) -> None:
        """Logs an event (IS 15959 event codes) in the log of its range, with the measured columns where that log has them."""
        log = self.tables.logs[code // 50 if code <= 300 else 6]
        self.objects[1, f"0.0.96.11.{log.number}.255"].attributes[2] = Data(Tag.LONG_UNSIGNED, code)
        occurred = code % 2 == 1
        if log.measured and occurred:
            self._count("0.0.94.91.0.255")
        if log.name == "transaction":
            self._count("0.0.96.2.0.255")
        if code == 101:
            self._count(FAILURES)
            self._failed_at_s = now_s
        elif code == 102 and self._failed_at_s is not None:
            self._failed_s += now_s - self._failed_at_s
            self._failed_at_s = None
            self.objects[FAILURE_MINUTES].attributes[2] = Data(Tag.DOUBLE_LONG_UNSIGNED, self._failed_s // 60)
        self.capture(self.profiles[f"events_{log.name}"], now_s)
        bit = ESW_BITS.get(code if occurred or code > 300 else code - 1)
        if bit is not None:
            self._status({bit: occurred or code > 300}, now_s)

    def _status(self, changes: dict[int, bool], now_s: int) -> None:
        """Sets bits of the event status word; a change is pushed where the meter's filter lets it through."""
        word = self.objects[STATUS_WORD]
        bits = list(word.attributes[2].value)
        for bit, on in changes.items():
            bits[bit] = "1" if on else "0"
        word.attributes[2] = Data(Tag.BIT_STRING, "".join(bits))
        self.pushing.status_changed(tuple(changes), now_s)

    @property
    def dark(self) -> bool:
        """There is no supply: the meter counts nothing and says nothing."""
        return self.life.dark

    def power_off(self, now_s: int) -> None:
        """The supply goes: logged (event 101, counted), and a last gasp is pushed from what charge is left."""
        if self.life.supply(False, now_s):
            self.event(101, now_s)
            self._status({LAST_GASP: True, FIRST_BREATH: False}, now_s)

    def power_on(self, now_s: int) -> None:
        """The supply is back: logged (event 102, with its duration counted), and a first breath is pushed."""
        if self.life.supply(True, now_s):
            self.event(102, now_s)
            self._status({LAST_GASP: False, FIRST_BREATH: True}, now_s)

    def _count(self, obis: str) -> None:
        counter = self.objects[1, obis]
        counter.attributes[2] = Data(counter.attributes[2].tag, counter.attributes[2].value + 1)

    def accepts_image(self, identifier: bytes, image: bytes) -> bool:
        """The meter's own check of a firmware image: it has a name and some content, and is no blank flash."""
        return bool(identifier) and image.strip(b"\xff\x00") != b""


def build_device(
    identity: MeterIdentity,
    now_s: int,
    *,
    seed: int = 1,
    days: int = 7,
    months: int = 3,
    period_s: int = 1800,
    control_mode: int = 6,
    max_pdu: int = 1024,
    deltas: bool = False,
    general_blocks: bool = False,
    quarter_wh: Int32 | None = None,
) -> MeterDevice:
    """A meter that has lived `months` whole months (0 to 12) and keeps `days` days of block and daily load (1 to 90), as of `now_s`.

    seed: which of the 400 real households it measures, and its power factor; period_s: capture period; deltas: its profiles write null
    for what equals the row before; max_pdu: what it can receive [bytes]; quarter_wh: what its household takes instead, as `Load` wants it.
    """
    if not 1 <= days <= DAYS_MAX:
        raise InputError(f"--days {days}: a meter of this kind keeps 1 to {DAYS_MAX} days of block load")
    if period_s not in PERIODS_S:
        raise InputError(f"a capture period of {period_s} s is not one of IS 15959's: 900 or 1800")
    if not 0 <= control_mode <= 6:
        raise InputError(f"--control-mode {control_mode} does not exist; the relay's modes are 0 to 6 (6 is usual in India)")
    rng = np.random.default_rng(seed)
    device = _alive(identity, now_s, rng, days, min(months, MONTHS_MAX), period_s, control_mode, quarter_wh)
    device.setups = association_setups(identity, now_s, max_pdu, general_blocks)
    for one in meter_objects(device):
        device.add(one)
    _add_profiles(device, days, period_s, deltas)
    for when_s, code in _past_events(rng, now_s, days):
        device.life.advance(when_s)
        device.event(code, when_s)
    device.life.advance(now_s)
    return device


def _alive(
    identity: MeterIdentity,
    now_s: int,
    rng: np.random.Generator,
    days: int,
    months: int,
    period_s: int,
    mode: int,
    own_wh: Int32 | None,
) -> MeterDevice:
    """The device with its relay, clock and life, from local midnight of its first day on."""
    households = _households()
    quarter_wh = households.metered_wh[int(rng.integers(0, len(households.ids)))].reshape(1, -1)
    clock, relay = LiveClock(), LiveRelay(RELAY_OBIS, mode)
    keep_from_s = _midnight(now_s) - days * DAY_S
    since_s = min(_month_back(now_s, months), keep_from_s)
    factor_milli = int(rng.integers(880, 995))
    life = Life(Load(true_consumption(quarter_wh)[0] if own_wh is None else own_wh), relay, period_s, since_s, factor_milli)
    device = MeterDevice(identity, life, relay, clock, meter_tables())
    device.keep_from_s = keep_from_s
    life.captured = device.captured
    clock.attend(life, lambda set_at_s: device.event(151, set_at_s))
    relay.attend(life, device.event)
    return device


@lru_cache(maxsize=1)
def _households() -> Households:
    return load_households()


def _add_profiles(device: MeterDevice, days: int, period_s: int, deltas: bool) -> None:
    """Profiles, event logs, and the scaler profile of each, whose columns stand in another order."""
    tables, life = device.tables, device.life
    kept = {
        "block_load": (period_s, days * DAY_S // PERIODS_S[0]),
        "daily_load": (DAY_S, days),
        "billing": (0, MONTHS_MAX + 1),
    }
    for row in tables.profiles:
        if row.name in kept:
            device.profiles[row.name] = LiveProfile(row.obis, row.columns, *kept[row.name], deltas, life)
        else:
            device.profiles[row.name] = Snapshot(row.obis, row.columns, life, device.capture)
        if row.scalers:
            device.add(Snapshot(row.scalers, _scaled(row.columns), life, device.capture))
    for log in tables.logs:
        code = Capture(1, f"0.0.96.11.{log.number}.255")
        columns = (CLOCK, code, *(tables.log_columns if log.measured else ()))
        device.profiles[f"events_{log.name}"] = LiveProfile(f"0.0.99.98.{log.number}.255", columns, 0, log.depth, deltas, life)
    device.add(Snapshot(tables.log_scalers, _scaled(tables.log_columns), life, device.capture))
    for profile in device.profiles.values():
        device.add(profile)


def _scaled(columns: tuple[Capture, ...]) -> tuple[Capture, ...]:
    """The columns of a scaler profile: attribute 3 of each register once, the last first."""
    return tuple(
        Capture(column.class_id, column.obis, 3) for column in reversed(columns) if column.class_id in (3, 4) and column.attribute == 2
    )


def _past_events(rng: np.random.Generator, now_s: int, days: int) -> list[tuple[int, int]]:
    """(when, code) in order of time: power cuts on about every third day, a magnet once, by seed."""
    from_s, events = _midnight(now_s) - days * DAY_S, list[tuple[int, int]]()
    for day in range(days):
        begins_s = from_s + day * DAY_S + int(rng.integers(0, 70_000))
        if rng.random() < 0.35:
            events += [(begins_s, 101), (begins_s + int(rng.integers(60, 10_000)), 102)]
    magnet_s = from_s + DAY_S // 2
    return sorted([*events, (magnet_s, 201), (magnet_s + 1_200, 202)])


def _midnight(now_s: int) -> int:
    return (now_s + ZONE_S) // DAY_S * DAY_S - ZONE_S


def _month_back(now_s: int, months: int) -> int:
    """Local midnight of the first of the month, `months` months ago."""
    local = datetime.fromtimestamp(now_s + ZONE_S, UTC)
    index = local.year * 12 + local.month - 1 - months
    return int(datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC).timestamp()) - ZONE_S
