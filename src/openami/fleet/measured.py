"""COSEM objects of a simulated meter whose values come from its life: registers, peaks, clock, relay, profiles.

Each lets the life advance to the time of the request before it answers, so that a value is never older than the question.
"""

from __future__ import annotations

from collections.abc import Callable

from ..cosem.apdu import AccessResult, ActionOutcome, Outcome, Selection
from ..cosem.axdr import Data, Tag
from ..cosem.clock import CosemDateTime
from ..cosem.objects import Clock, CosemObject, ExtendedRegister, Register
from ..cosem.operations import ControlState, DisconnectControl
from ..cosem.profile import Capture, ProfileGeneric
from .life import Life
from .tables import RegisterRow

_FLOATS = (Tag.FLOAT32, Tag.FLOAT64)


def shown(row: RegisterRow, milli: int) -> Data:
    """A quantity in thousandths as the register's number: rounded half up to its scaler, or a float where its type is one."""
    if row.tag in _FLOATS:
        return Data(row.tag, milli / 1000 / 10**row.scaler)
    up, down = 10 ** max(0, -row.scaler - 3), 10 ** max(0, row.scaler + 3)
    return Data(row.tag, (2 * milli * up + down) // (2 * down))


class LiveRegister(Register):
    """Class 3: a quantity of the meter's life."""

    def __init__(self, row: RegisterRow, life: Life) -> None:
        super().__init__(row.obis, shown(row, 0), row.scaler, row.unit)
        self._row, self._life = row, life

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member == 2 and selection is None:
            self._life.advance(now_s)
            return shown(self._row, self._life.milli(self._row.quantity))
        return super().get(member, selection, now_s)


class LivePeak(ExtendedRegister):
    """Class 4: the month's highest demand and when it was."""

    def __init__(self, row: RegisterRow, life: Life) -> None:
        super().__init__(row.obis, shown(row, 0), row.scaler, row.unit, CosemDateTime().encode())
        self._row, self._life = row, life

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member in (2, 5) and selection is None:
            self._life.advance(now_s)
            if member == 2:
                return shown(self._row, self._life.milli(self._row.quantity))
            return Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(self._life.peak[1] + self._life.offset_s).encode())
        return super().get(member, selection, now_s)


class LiveClock(Clock):
    """Class 8 of a meter whose captures follow it: what was captured before it is set stays as it was."""

    def attend(self, life: Life, was_set: Callable[[int], None]) -> None:
        self._life, self._was_set = life, was_set

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        self._life.advance(now_s)
        code = super().set(member, value, now_s)
        if member == 2 and code is AccessResult.SUCCESS:
            self._tell(now_s)
        return code

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        self._life.advance(now_s)
        outcome = super().act(member, parameters, now_s)
        if outcome.code is ActionOutcome.SUCCESS:
            self._tell(now_s)
        return outcome

    def _tell(self, now_s: int) -> None:
        self._life.offset_s = self.offset_s
        self._was_set(now_s)


class LiveRelay(DisconnectControl):
    """Class 70 of a meter that counts: energy up to an order is counted as the relay stood, and every movement is an event."""

    def attend(self, life: Life, event: Callable[[int, int], None]) -> None:
        self._life, self._event = life, event
        self._told = ControlState.CONNECTED

    def closes_at(self) -> int | None:
        """When the meter will close by itself; None where it will not."""
        waiting = self.state is ControlState.READY_FOR_RECONNECTION and self.mode.local_reconnect
        return self._ready_since_s + self.closes_after_s if waiting else None

    def stands(self, now_s: int) -> ControlState:
        closes_at = self.closes_at()
        state = super().stands(now_s)
        if closes_at is not None and state is ControlState.CONNECTED:
            self._tell(closes_at)
        return state

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        self._life.advance(now_s)
        return super().get(member, selection, now_s)

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        self._life.advance(now_s)
        outcome = super().act(member, parameters, now_s)
        self._tell(now_s)
        return outcome

    def press_button(self, now_s: int) -> bool:
        self._life.advance(now_s)
        moved = super().press_button(now_s)
        self._tell(now_s)
        return moved

    def disconnect_locally(self, now_s: int) -> bool:
        self._life.advance(now_s)
        moved = super().disconnect_locally(now_s)
        self._tell(now_s)
        return moved

    def _tell(self, when_s: int) -> None:
        """Logs 301 (load cut) or 302 (load on) where the contact moved."""
        closed, was_closed = self.state is ControlState.CONNECTED, self._told is ControlState.CONNECTED
        self._told = self.state
        if closed is not was_closed:
            self._event(302 if closed else 301, when_s)


class LiveProfile(ProfileGeneric):
    """Class 7 whose rows are captured in time before they are read."""

    def __init__(self, obis: str, columns: tuple[Capture, ...], period_s: int, depth: int, deltas: bool, life: Life) -> None:
        super().__init__(obis, columns, period_s, depth, deltas)
        self._life = life

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        self._life.advance(now_s)
        return super().get(member, selection, now_s)


class Snapshot(LiveProfile):
    """A profile of one row, captured when it is asked for: nameplate, instantaneous values, scalers."""

    def __init__(self, obis: str, columns: tuple[Capture, ...], life: Life, capture: Callable[[LiveProfile, int], None]) -> None:
        super().__init__(obis, columns, 0, 1, False, life)
        self._capture = capture

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if member in (2, 7):
            super().act(1, None, now_s)
            self._capture(self, now_s)
        return super().get(member, selection, now_s)


class Watched(CosemObject):
    """Any object of which the meter wants to know what a client changed: `after(verb, member, now_s)` with "set" or "action"."""

    def __init__(self, inner: CosemObject, life: Life, after: Callable[[str, int, int], None]) -> None:
        self.obis, self.attributes, self.writable = inner.obis, inner.attributes, inner.writable
        self.class_id, self.version, self.methods = inner.class_id, inner.version, inner.methods
        self.inner, self._life, self._after = inner, life, after

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        return self.inner.get(member, selection, now_s)

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        self._life.advance(now_s)
        code = self.inner.set(member, value, now_s)
        if code is AccessResult.SUCCESS:
            self._after("set", member, now_s)
        return code

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        self._life.advance(now_s)
        outcome = self.inner.act(member, parameters, now_s)
        if outcome.code is ActionOutcome.SUCCESS:
            self._after("action", member, now_s)
        return outcome
