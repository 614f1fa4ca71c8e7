"""xDLMS services as values: GET, SET, ACTION in every variant, event-notification, exceptions, general block transfer (IEC 62056-5-3).

Each variant of the standard's choice is a tuple of its own, so that a session cannot mistake one for another. Block contents stay bytes,
because only the last block makes them whole. `apdu_octets.py` turns them into octets and back.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from .axdr import Data


class AccessResult(IntEnum):
    """Data-access-result: why an attribute was not read or written."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250


class ActionOutcome(IntEnum):
    """Action-result: what became of a method."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_ACTION_ABORTED = 15
    NO_LONG_ACTION_IN_PROGRESS = 16
    OTHER_REASON = 250


Code = AccessResult | ActionOutcome | int
"""A result code; plain int where the peer uses one that the standard does not know."""


class Ref(NamedTuple):
    """An attribute or a method: class id, logical name ("1.0.99.1.0.255"), member = attribute or method number."""

    class_id: int
    obis: str
    member: int


class Selection(NamedTuple):
    """Selective access: selector and its parameters (IEC 62056-6-2)."""

    selector: int
    parameters: Data


class Item(NamedTuple):
    """An attribute with an optional selection."""

    ref: Ref
    selection: Selection | None = None


class Block(NamedTuple):
    """A piece of a long parameter. number counts from 1."""

    last: bool
    number: int
    raw: bytes


class Outcome(NamedTuple):
    """What became of one method: its result code and what it returned (data, a data-access-result, or None)."""

    code: Code
    returned: Data | Code | None = None


class GetNormal(NamedTuple):
    invoke: int
    item: Item


class GetNext(NamedTuple):
    invoke: int
    number: int


class GetList(NamedTuple):
    invoke: int
    items: tuple[Item, ...]


class GetResult(NamedTuple):
    invoke: int
    result: Data | Code


class GetBlock(NamedTuple):
    """code: None, or the data-access-result that ended the transfer."""

    invoke: int
    block: Block
    code: Code | None = None


class GetResults(NamedTuple):
    invoke: int
    results: tuple[Data | Code, ...]


class SetNormal(NamedTuple):
    invoke: int
    item: Item
    value: Data


class SetFirst(NamedTuple):
    invoke: int
    item: Item
    block: Block


class SetBlock(NamedTuple):
    invoke: int
    block: Block


class SetList(NamedTuple):
    invoke: int
    items: tuple[Item, ...]
    values: tuple[Data, ...]


class SetListFirst(NamedTuple):
    invoke: int
    items: tuple[Item, ...]
    block: Block


class SetResult(NamedTuple):
    invoke: int
    code: Code


class SetBlockAck(NamedTuple):
    invoke: int
    number: int


class SetLastAck(NamedTuple):
    invoke: int
    code: Code
    number: int


class SetListLastAck(NamedTuple):
    invoke: int
    codes: tuple[Code, ...]
    number: int


class SetResults(NamedTuple):
    invoke: int
    codes: tuple[Code, ...]


class ActionNormal(NamedTuple):
    invoke: int
    ref: Ref
    parameters: Data | None = None


class ActionNext(NamedTuple):
    invoke: int
    number: int


class ActionList(NamedTuple):
    invoke: int
    refs: tuple[Ref, ...]
    parameters: tuple[Data, ...]


class ActionFirst(NamedTuple):
    invoke: int
    ref: Ref
    block: Block


class ActionListFirst(NamedTuple):
    invoke: int
    refs: tuple[Ref, ...]
    block: Block


class ActionBlock(NamedTuple):
    invoke: int
    block: Block


class ActionResult(NamedTuple):
    invoke: int
    outcome: Outcome


class ActionResultBlock(NamedTuple):
    invoke: int
    block: Block


class ActionResults(NamedTuple):
    invoke: int
    outcomes: tuple[Outcome, ...]


class ActionBlockAck(NamedTuple):
    invoke: int
    number: int


class EventNotification(NamedTuple):
    """when: b"" or 12 bytes of COSEM date-time."""

    when: bytes
    ref: Ref
    value: Data


class ExceptionResponse(NamedTuple):
    """state: 1 service not allowed, 2 service unknown. service: 1 operation not possible, 2 not supported, 3 other, 4 PDU too long,
    5 deciphering error, 6 invocation counter error (then the counter that the server expects)."""

    state: int
    service: int
    counter: int | None = None


class ServiceError(NamedTuple):
    """Confirmed-service-error: the service it answers (1 initiate, 5 read, 6 write), the kind of error and its value."""

    service: int
    kind: int
    value: int


class GeneralBlock(NamedTuple):
    """General block transfer: a numbered piece of another APDU. acknowledged: the peer's last block received in sequence."""

    last: bool
    streaming: bool
    window: int
    number: int
    acknowledged: int
    data: bytes


Service = (
    GetNormal
    | GetNext
    | GetList
    | GetResult
    | GetBlock
    | GetResults
    | SetNormal
    | SetFirst
    | SetBlock
    | SetList
    | SetListFirst
    | SetResult
    | SetBlockAck
    | SetLastAck
    | SetListLastAck
    | SetResults
    | ActionNormal
    | ActionNext
    | ActionList
    | ActionFirst
    | ActionListFirst
    | ActionBlock
    | ActionResult
    | ActionResultBlock
    | ActionResults
    | ActionBlockAck
    | EventNotification
    | ExceptionResponse
    | ServiceError
    | GeneralBlock
)
