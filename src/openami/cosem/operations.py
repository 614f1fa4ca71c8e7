"""Objects of a meter that do something: relay, limiter, scripts, firmware image, push, calendar, keys (Blue Book 4.4, 4.5).

The relay follows the Blue Book's control modes: in modes 1, 3, 5 and 6 a remote reconnect only reaches "ready for reconnection", and
in 5 and 6 the meter closes by itself after a delay (measured in reference firmware at about 30 s). "Done" is control state 1.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from ..errors import RequestError
from .apdu import AccessResult, ActionOutcome, Outcome, Ref, Selection
from .axdr import NULL, Data, Tag
from .objects import CosemObject, members
from .push import obis_bytes

_DONE = Outcome(ActionOutcome.SUCCESS)


class ControlState(IntEnum):
    """Attribute 3 of the disconnect control."""

    DISCONNECTED = 0
    CONNECTED = 1
    READY_FOR_RECONNECTION = 2


class ControlMode(NamedTuple):
    """What a control mode allows (Blue Book, "Disconnect control", table of modes). reconnect_to: where a remote reconnect leads."""

    remote_disconnect: bool
    manual_disconnect: bool
    local_disconnect: bool
    reconnect_to: ControlState | None
    manual_reconnect: bool
    local_reconnect: bool


_READY, _ON = ControlState.READY_FOR_RECONNECTION, ControlState.CONNECTED
CONTROL_MODES: tuple[ControlMode, ...] = (
    ControlMode(False, False, False, None, False, False),
    ControlMode(True, True, True, _READY, True, False),
    ControlMode(True, True, True, _ON, True, False),
    ControlMode(True, False, True, _READY, True, False),
    ControlMode(True, False, True, _ON, True, False),
    ControlMode(True, True, True, _READY, True, True),
    ControlMode(True, False, True, _READY, True, True),
)


class DisconnectControl(CosemObject):
    """Class 70. Attributes: 2 output_state, 3 control_state, 4 control_mode. Methods: 1 remote_disconnect, 2 remote_reconnect.

    closes_after_s: how long the meter waits in "ready" before it closes by itself, where the mode allows it. A remote reconnect in
    "ready" or "connected" and a disconnect in "disconnected" are refused.
    """

    class_id = 70
    methods = (1, 2)

    def __init__(self, obis: str = "0.0.96.3.10.255", mode: int = 6, closes_after_s: int = 30) -> None:
        super().__init__(obis, {2: NULL, 3: NULL, 4: Data(Tag.ENUM, mode)}, (4,))
        self.state = ControlState.CONNECTED
        self.closes_after_s = closes_after_s
        self._ready_since_s = 0

    @property
    def mode(self) -> ControlMode:
        number: int = self.attributes[4].value
        return CONTROL_MODES[number]

    def stands(self, now_s: int) -> ControlState:
        """The control state now."""
        waiting = self.state is ControlState.READY_FOR_RECONNECTION and self.mode.local_reconnect
        if waiting and now_s - self._ready_since_s >= self.closes_after_s:
            self.state = ControlState.CONNECTED
        return self.state

    def press_button(self, now_s: int) -> bool:
        """A person holds the button: manual reconnect from "ready", manual disconnect from "connected"; False where not allowed."""
        state = self.stands(now_s)
        if state is ControlState.READY_FOR_RECONNECTION and self.mode.manual_reconnect:
            self.state = ControlState.CONNECTED
            return True
        if state is ControlState.CONNECTED and self.mode.manual_disconnect:
            return self._make_ready(now_s)
        return False

    def disconnect_locally(self, now_s: int) -> bool:
        """The meter opens by itself (its limiter does)."""
        return self.stands(now_s) is ControlState.CONNECTED and self.mode.local_disconnect and self._make_ready(now_s)

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if selection is None and member == 2:
            return Data(Tag.BOOLEAN, self.stands(now_s) is ControlState.CONNECTED)
        if selection is None and member == 3:
            return Data(Tag.ENUM, int(self.stands(now_s)))
        return super().get(member, selection, now_s)

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        if member == 4 and value.tag is Tag.ENUM and value.value >= len(CONTROL_MODES):
            return AccessResult.OTHER_REASON
        return super().set(member, value, now_s)

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        state, mode = self.stands(now_s), self.mode
        if member == 1 and mode.remote_disconnect and state is not ControlState.DISCONNECTED:
            self.state = ControlState.DISCONNECTED
            return _DONE
        if member == 2 and mode.reconnect_to is not None and state is ControlState.DISCONNECTED:
            self.state, self._ready_since_s = mode.reconnect_to, now_s
            return _DONE
        return Outcome(ActionOutcome.TEMPORARY_FAILURE if member in self.methods else ActionOutcome.OBJECT_UNAVAILABLE)

    def _make_ready(self, now_s: int) -> bool:
        self.state, self._ready_since_s = ControlState.READY_FOR_RECONNECTION, now_s
        return True


class Limiter(CosemObject):
    """Class 71: thresholds and how long they must be passed. What it would do stands in attribute 11."""

    class_id = 71

    def __init__(self, obis: str, monitored: Ref, threshold: Data, over_s: int, under_s: int) -> None:
        watched = (
            Data(Tag.LONG_UNSIGNED, monitored.class_id),
            Data(Tag.OCTET_STRING, obis_bytes(monitored.obis)),
            Data(Tag.INTEGER, monitored.member),
        )
        script = Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, obis_bytes("0.0.10.0.106.255")), Data(Tag.LONG_UNSIGNED, 1)))
        back = Data(Tag.STRUCTURE, (script.value[0], Data(Tag.LONG_UNSIGNED, 2)))
        emergency = (Data(Tag.LONG_UNSIGNED, 0), Data(Tag.OCTET_STRING, bytes(12)), Data(Tag.DOUBLE_LONG_UNSIGNED, 0))
        super().__init__(
            obis,
            {
                2: Data(Tag.STRUCTURE, watched),
                3: threshold,
                4: threshold,
                5: threshold,
                6: Data(Tag.DOUBLE_LONG_UNSIGNED, over_s),
                7: Data(Tag.DOUBLE_LONG_UNSIGNED, under_s),
                8: Data(Tag.STRUCTURE, emergency),
                9: Data(Tag.ARRAY, ()),
                10: Data(Tag.BOOLEAN, False),
                11: Data(Tag.STRUCTURE, (script, back)),
            },
            (4, 5, 6, 7, 8, 9),
        )

    def set(self, member: int, value: Data, now_s: int) -> AccessResult:
        code = super().set(member, value, now_s)
        if code is AccessResult.SUCCESS and member == 4 and not self.attributes[10].value:
            self.attributes[3] = value
        return code


class ScriptTable(CosemObject):
    """Class 9: scripts by number, each a list of methods with parameters. Method 1 executes one.

    run: invokes one method on the meter (the logical device gives it).
    """

    class_id = 9
    methods = (1,)

    def __init__(self, obis: str, scripts: dict[int, tuple[tuple[Ref, Data], ...]], run: Callable[[Ref, Data, int], Outcome]) -> None:
        super().__init__(obis, {2: Data(Tag.ARRAY, tuple(self._script(number, steps) for number, steps in scripts.items()))})
        self._scripts, self._run = scripts, run

    @staticmethod
    def _script(number: int, steps: tuple[tuple[Ref, Data], ...]) -> Data:
        written = tuple(
            Data(
                Tag.STRUCTURE,
                (
                    Data(Tag.ENUM, 2),
                    Data(Tag.LONG_UNSIGNED, ref.class_id),
                    Data(Tag.OCTET_STRING, obis_bytes(ref.obis)),
                    Data(Tag.INTEGER, ref.member),
                    parameters,
                ),
            )
            for ref, parameters in steps
        )
        return Data(Tag.STRUCTURE, (Data(Tag.LONG_UNSIGNED, number), Data(Tag.ARRAY, written)))

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member != 1 or parameters is None or parameters.tag is not Tag.LONG_UNSIGNED:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE if member != 1 else ActionOutcome.TYPE_UNMATCHED)
        steps = self._scripts.get(parameters.value)
        if steps is None:
            return Outcome(ActionOutcome.OBJECT_UNDEFINED)
        for ref, value in steps:
            outcome = self._run(ref, value, now_s)
            if outcome.code != ActionOutcome.SUCCESS:
                return outcome
        return _DONE


class ImageStatus(IntEnum):
    """Attribute 6 of the image transfer (Blue Book)."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


MAX_IMAGE_BYTES = 16 * 1024 * 1024


class ImageTransfer(CosemObject):
    """Class 18. Methods: 1 initiate {identifier, size}, 2 block {number, bytes}, 3 verify, 4 activate.

    Blocks may come in any order and again; attribute 4 names the first that is missing, so that a broken transfer goes on where it
    stopped. verified: the meter's own check of the whole image. Nothing is activated that was not verified.
    """

    class_id = 18
    methods = (1, 2, 3, 4)

    def __init__(self, obis: str, block_bytes: int, verified: Callable[[bytes, bytes], bool]) -> None:
        super().__init__(obis, {2: Data(Tag.DOUBLE_LONG_UNSIGNED, block_bytes), 5: Data(Tag.BOOLEAN, True), 7: Data(Tag.ARRAY, ())}, (5,))
        self.status = ImageStatus.NOT_INITIATED
        self.identifier, self.size, self.activated = b"", 0, b""
        self._block_bytes, self._verified = block_bytes, verified
        self._blocks: dict[int, bytes] = {}

    @property
    def count(self) -> int:
        """How many blocks the image has."""
        return -(-self.size // self._block_bytes)

    def get(self, member: int, selection: Selection | None, now_s: int) -> Data | AccessResult:
        if selection is None and member == 3:
            return Data(Tag.BIT_STRING, "".join("1" if k in self._blocks else "0" for k in range(self.count)))
        if selection is None and member == 4:
            missing = next((k for k in range(self.count) if k not in self._blocks), self.count)
            return Data(Tag.DOUBLE_LONG_UNSIGNED, missing)
        if selection is None and member == 6:
            return Data(Tag.ENUM, int(self.status))
        return super().get(member, selection, now_s)

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member not in self.methods:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)
        if not self.attributes[5].value:
            return Outcome(ActionOutcome.READ_WRITE_DENIED)
        step = (self._initiate, self._block, self._verify, self._activate)[member - 1]
        return Outcome(step(parameters))

    def _initiate(self, parameters: Data | None) -> ActionOutcome:
        two = members(parameters, Tag.OCTET_STRING, Tag.DOUBLE_LONG_UNSIGNED)
        if two is None or not 0 < two[1] <= MAX_IMAGE_BYTES:
            return ActionOutcome.TYPE_UNMATCHED
        self.identifier, self.size = two
        self._blocks.clear()
        self.status = ImageStatus.INITIATED
        return ActionOutcome.SUCCESS

    def _block(self, parameters: Data | None) -> ActionOutcome:
        two = members(parameters, Tag.DOUBLE_LONG_UNSIGNED, Tag.OCTET_STRING)
        if two is None:
            return ActionOutcome.TYPE_UNMATCHED
        number, octets = two
        due = min(self._block_bytes, self.size - number * self._block_bytes)
        if self.status is not ImageStatus.INITIATED or due <= 0 or len(octets) != due:
            return ActionOutcome.TEMPORARY_FAILURE if self.status is not ImageStatus.INITIATED else ActionOutcome.OTHER_REASON
        self._blocks[number] = octets
        return ActionOutcome.SUCCESS

    def _verify(self, parameters: Data | None) -> ActionOutcome:
        if self.status is ImageStatus.NOT_INITIATED or len(self._blocks) != self.count:
            return ActionOutcome.OTHER_REASON
        image = b"".join(self._blocks[k] for k in range(self.count))
        good = self._verified(self.identifier, image)
        self.status = ImageStatus.VERIFICATION_SUCCESSFUL if good else ImageStatus.VERIFICATION_FAILED
        info = (Data(Tag.DOUBLE_LONG_UNSIGNED, self.size), Data(Tag.OCTET_STRING, self.identifier), Data(Tag.OCTET_STRING, b""))
        self.attributes[7] = Data(Tag.ARRAY, (Data(Tag.STRUCTURE, info),) if good else ())
        return ActionOutcome.SUCCESS if good else ActionOutcome.OTHER_REASON

    def _activate(self, parameters: Data | None) -> ActionOutcome:
        if self.status is not ImageStatus.VERIFICATION_SUCCESSFUL:
            return ActionOutcome.OTHER_REASON
        self.status, self.activated = ImageStatus.ACTIVATION_SUCCESSFUL, self.identifier
        return ActionOutcome.SUCCESS


class PushSetup(CosemObject):
    """Class 40. Attributes: 2 what is pushed, 3 where to, 5 start interval at random, 6 retries, 7 seconds between them. Method 1 asks for
    a push: `asked` counts them, `pushes` is told the setup's logical name, the shell sends."""

    class_id = 40
    methods = (1,)

    def __init__(self, obis: str, objects: tuple[Data, ...], destination: str, pushes: Callable[[str], None] | None = None) -> None:
        where = (Data(Tag.ENUM, 0), Data(Tag.OCTET_STRING, destination.encode()), Data(Tag.ENUM, 0))
        super().__init__(
            obis,
            {
                2: Data(Tag.ARRAY, objects),
                3: Data(Tag.STRUCTURE, where),
                4: Data(Tag.ARRAY, ()),
                5: Data(Tag.LONG_UNSIGNED, 0),
                6: Data(Tag.UNSIGNED, 3),
                7: Data(Tag.LONG_UNSIGNED, 60),
            },
            (2, 3, 4, 5, 6, 7),
        )
        self.asked = 0
        self._pushes = pushes

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member != 1:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)
        self.asked += 1
        if self._pushes is not None:
            self._pushes(self.obis)
        return _DONE


class ActivityCalendar(CosemObject):
    """Class 20: the active time-of-use calendar (attributes 2 to 5) and the next one (6 to 9). Method 1 makes the next one active.

    tables: name, season, week and day tables, for both at the start.
    """

    class_id = 20
    methods = (1,)

    def __init__(self, obis: str, tables: tuple[Data, Data, Data, Data]) -> None:
        both = dict(zip(range(2, 10), (*tables, *tables), strict=True))
        super().__init__(obis, {**both, 10: Data(Tag.OCTET_STRING, b"\xff" * 12)}, (6, 7, 8, 9, 10))

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member != 1:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE)
        self.attributes |= {k: self.attributes[k + 4] for k in range(2, 6)}
        return _DONE


class KeyId(IntEnum):
    """Which key a key transfer carries (Blue Book, "Security setup")."""

    GLOBAL_ENCRYPTION = 0
    GLOBAL_BROADCAST = 1
    AUTHENTICATION = 2
    MASTER = 3


def key_transfer(master_key: bytes, keys: dict[KeyId, bytes]) -> Data:
    """The parameters of global_key_transfer: each key wrapped under the master key (RFC 3394)."""
    if len(master_key) not in (16, 32):
        raise RequestError("a master key has 16 or 32 bytes")
    return Data(
        Tag.ARRAY,
        tuple(
            Data(Tag.STRUCTURE, (Data(Tag.ENUM, int(kind)), Data(Tag.OCTET_STRING, aes_key_wrap(master_key, key))))
            for kind, key in keys.items()
        ),
    )


class SecuritySetup(CosemObject):
    """Class 64. Methods: 1 security_activate, 2 global_key_transfer.

    transferred: told the new keys once all of them were unwrapped; they hold for the next association.
    """

    class_id = 64
    methods = (1, 2)

    def __init__(
        self, obis: str, policy: int, suite: int, server_title: bytes, master_key: bytes, transferred: Callable[[dict[KeyId, bytes]], None]
    ) -> None:
        super().__init__(
            obis,
            {
                2: Data(Tag.ENUM, policy),
                3: Data(Tag.ENUM, suite),
                4: Data(Tag.OCTET_STRING, b""),
                5: Data(Tag.OCTET_STRING, server_title),
            },
        )
        self._master, self._transferred = master_key, transferred
        self._key_bytes = 32 if suite == 2 else 16

    def act(self, member: int, parameters: Data | None, now_s: int) -> Outcome:
        if member == 1 and parameters is not None and parameters.tag is Tag.ENUM:
            if parameters.value < self.attributes[2].value:
                return Outcome(ActionOutcome.READ_WRITE_DENIED)  # a policy is only ever made stronger
            self.attributes[2] = parameters
            return _DONE
        if member != 2 or parameters is None or parameters.tag is not Tag.ARRAY or not parameters.value:
            return Outcome(ActionOutcome.OBJECT_UNAVAILABLE if member not in self.methods else ActionOutcome.TYPE_UNMATCHED)
        keys: dict[KeyId, bytes] = {}
        for one in parameters.value:
            two = members(one, Tag.ENUM, Tag.OCTET_STRING)
            if two is None or two[0] not in tuple(KeyId):
                return Outcome(ActionOutcome.TYPE_UNMATCHED)
            try:
                key = aes_key_unwrap(self._master, two[1])
            except (InvalidUnwrap, ValueError):
                return Outcome(ActionOutcome.OTHER_REASON)
            if len(key) != self._key_bytes:
                return Outcome(ActionOutcome.TYPE_UNMATCHED)  # another suite's key would lock everybody out
            keys[KeyId(two[0])] = key
        self._master = keys.get(KeyId.MASTER, self._master)
        self._transferred(keys)
        return _DONE
