"""xDLMS services: octets <-> values (IEC 62056-5-3, the A-XDR of the APDUs).

`decode_apdu` turns a plain APDU into one of the tuples of `apdu.py`, `encode_apdu` turns it back. What always holds: the whole APDU is
used up or MeterError is raised.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ..errors import MeterError, RequestError
from .apdu import (
    AccessResult,
    ActionBlock,
    ActionBlockAck,
    ActionFirst,
    ActionList,
    ActionListFirst,
    ActionNext,
    ActionNormal,
    ActionOutcome,
    ActionResult,
    ActionResultBlock,
    ActionResults,
    Block,
    Code,
    EventNotification,
    ExceptionResponse,
    GeneralBlock,
    GetBlock,
    GetList,
    GetNext,
    GetNormal,
    GetResult,
    GetResults,
    Item,
    Outcome,
    Ref,
    Selection,
    Service,
    ServiceError,
    SetBlock,
    SetBlockAck,
    SetFirst,
    SetLastAck,
    SetList,
    SetListFirst,
    SetListLastAck,
    SetNormal,
    SetResult,
    SetResults,
)
from .axdr import Data, decode, encode, read_length, take, write_length
from .push import obis_bytes, obis_text

MAX_LIST = 256
_U32 = struct.Struct(">I")


def _result_code(kind: type[AccessResult] | type[ActionOutcome], octet: int) -> Code:
    try:
        return kind(octet)
    except ValueError:
        return octet


class _Reader:
    """Reads forward through one APDU."""

    def __init__(self, apdu: bytes) -> None:
        self.apdu = apdu
        self.at = 0

    def octet(self) -> int:
        self.at += 1
        return self.apdu[self.at - 1]

    def number(self) -> int:
        (value,) = _U32.unpack_from(self.apdu, self.at)
        self.at += 4
        return int(value)

    def flag(self) -> bool:
        return self.octet() != 0

    def string(self) -> bytes:
        value, self.at = take(self.apdu, self.at)
        return value

    def data(self) -> Data:
        value, self.at = decode(self.apdu, self.at)
        return value

    def ref(self) -> Ref:
        if self.at + 9 > len(self.apdu):
            raise MeterError("an attribute or method reference is cut short")
        octets = self.apdu[self.at : self.at + 9]
        self.at += 9
        return Ref(octets[0] << 8 | octets[1], obis_text(octets[2:8]), octets[8])

    def item(self) -> Item:
        ref = self.ref()
        return Item(ref, Selection(self.octet(), self.data())) if self.flag() else Item(ref)

    def block(self) -> Block:
        return Block(self.flag(), self.number(), self.string())

    def access(self) -> Code:
        return _result_code(AccessResult, self.octet())

    def data_or_code(self) -> Data | Code:
        return self.access() if self.flag() else self.data()

    def outcome(self) -> Outcome:
        code = _result_code(ActionOutcome, self.octet())
        return Outcome(code, self.data_or_code() if self.flag() else None)

    def many(self, one: Callable[[], Any]) -> tuple[Any, ...]:
        count, self.at = read_length(self.apdu, self.at)
        if count > MAX_LIST:
            raise MeterError(f"a list of {count} is more than the {MAX_LIST} that are accepted")
        return tuple(one() for _ in range(count))

    def get_block(self, invoke: int) -> GetBlock:
        last, number = self.flag(), self.number()
        if self.flag():
            return GetBlock(invoke, Block(last, number, b""), self.access())
        return GetBlock(invoke, Block(last, number, self.string()))


_DECODERS: dict[tuple[int, int], Callable[[_Reader, int], Any]] = {
    (0xC0, 1): lambda r, i: GetNormal(i, r.item()),
    (0xC0, 2): lambda r, i: GetNext(i, r.number()),
    (0xC0, 3): lambda r, i: GetList(i, r.many(r.item)),
    (0xC4, 1): lambda r, i: GetResult(i, r.data_or_code()),
    (0xC4, 2): lambda r, i: r.get_block(i),
    (0xC4, 3): lambda r, i: GetResults(i, r.many(r.data_or_code)),
    (0xC1, 1): lambda r, i: SetNormal(i, r.item(), r.data()),
    (0xC1, 2): lambda r, i: SetFirst(i, r.item(), r.block()),
    (0xC1, 3): lambda r, i: SetBlock(i, r.block()),
    (0xC1, 4): lambda r, i: SetList(i, r.many(r.item), r.many(r.data)),
    (0xC1, 5): lambda r, i: SetListFirst(i, r.many(r.item), r.block()),
    (0xC5, 1): lambda r, i: SetResult(i, r.access()),
    (0xC5, 2): lambda r, i: SetBlockAck(i, r.number()),
    (0xC5, 3): lambda r, i: SetLastAck(i, r.access(), r.number()),
    (0xC5, 4): lambda r, i: SetListLastAck(i, r.many(r.access), r.number()),
    (0xC5, 5): lambda r, i: SetResults(i, r.many(r.access)),
    (0xC3, 1): lambda r, i: ActionNormal(i, r.ref(), r.data() if r.flag() else None),
    (0xC3, 2): lambda r, i: ActionNext(i, r.number()),
    (0xC3, 3): lambda r, i: ActionList(i, r.many(r.ref), r.many(r.data)),
    (0xC3, 4): lambda r, i: ActionFirst(i, r.ref(), r.block()),
    (0xC3, 5): lambda r, i: ActionListFirst(i, r.many(r.ref), r.block()),
    (0xC3, 6): lambda r, i: ActionBlock(i, r.block()),
    (0xC7, 1): lambda r, i: ActionResult(i, r.outcome()),
    (0xC7, 2): lambda r, i: ActionResultBlock(i, r.block()),
    (0xC7, 3): lambda r, i: ActionResults(i, r.many(r.outcome)),
    (0xC7, 4): lambda r, i: ActionBlockAck(i, r.number()),
}

SERVICE_TAGS = frozenset((0x0E, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7, 0xD8, 0xE0))


def decode_apdu(apdu: bytes) -> Service:
    """A plain service APDU as its tuple. MeterError where it is none, is cut short, or something is left over."""
    reader = _Reader(bytes(apdu))
    try:
        service = _decode(reader)
    except (IndexError, struct.error) as error:
        raise MeterError(f"an APDU of {len(apdu)} bytes is cut short") from error
    if reader.at != len(apdu):
        raise MeterError(f"{len(apdu) - reader.at} bytes are left over behind a {type(service).__name__}")
    return service


def _decode(reader: _Reader) -> Service:
    tag = reader.octet()
    if tag == 0xE0:
        control, number, acknowledged = struct.unpack_from(">BHH", reader.apdu, reader.at)
        reader.at += 5
        return GeneralBlock(bool(control & 0x80), bool(control & 0x40), control & 0x3F, number, acknowledged, reader.string())
    if tag == 0xD8:
        state, service = reader.octet(), reader.octet()
        counter = reader.number() if service == 6 and reader.at < len(reader.apdu) else None
        return ExceptionResponse(state, service, counter)
    if tag == 0x0E:
        return ServiceError(reader.octet(), reader.octet(), reader.octet())
    if tag == 0xC2:
        when = reader.string() if reader.flag() else b""
        return EventNotification(when, reader.ref(), reader.data())
    kind, invoke = reader.octet(), reader.octet()
    decoder = _DECODERS.get((tag, kind))
    if decoder is None:
        raise MeterError(f"an APDU with tag 0x{tag:02x} and choice {kind} is not known")
    return decoder(reader, invoke)  # type: ignore[no-any-return]


def _ref(ref: Ref) -> bytes:
    return ref.class_id.to_bytes(2, "big") + obis_bytes(ref.obis) + bytes((ref.member & 0xFF,))


def _item(item: Item) -> bytes:
    if item.selection is None:
        return _ref(item.ref) + b"\0"
    return _ref(item.ref) + bytes((1, item.selection.selector)) + encode(item.selection.parameters)


def _string(octets: bytes) -> bytes:
    return write_length(len(octets)) + octets


def _block(block: Block) -> bytes:
    return bytes((block.last,)) + _U32.pack(block.number) + _string(block.raw)


def data_or_code(result: Data | Code) -> bytes:
    """Get-Data-Result: 0 and data, or 1 and the data-access-result."""
    return b"\0" + encode(result) if isinstance(result, Data) else bytes((1, result))


def outcome_bytes(outcome: Outcome) -> bytes:
    """Action-Response-With-Optional-Data."""
    returned = b"\0" if outcome.returned is None else b"\1" + data_or_code(outcome.returned)
    return bytes((outcome.code,)) + returned


def sequence(items: tuple[Any, ...], one: Callable[[Any], bytes]) -> bytes:
    """A counted list."""
    return write_length(len(items)) + b"".join(map(one, items))


def _code(code: Code) -> bytes:
    return bytes((code,))


def _get_block(s: GetBlock) -> bytes:
    head = bytes((s.block.last,)) + _U32.pack(s.block.number)
    return head + (b"\0" + _string(s.block.raw) if s.code is None else bytes((1, s.code)))


# Tuple -> (tag, choice, what stands behind the invoke id).
_ENCODERS: dict[type, tuple[int, int, Callable[[Any], bytes]]] = {
    GetNormal: (0xC0, 1, lambda s: _item(s.item)),
    GetNext: (0xC0, 2, lambda s: _U32.pack(s.number)),
    GetList: (0xC0, 3, lambda s: sequence(s.items, _item)),
    GetResult: (0xC4, 1, lambda s: data_or_code(s.result)),
    GetBlock: (0xC4, 2, _get_block),
    GetResults: (0xC4, 3, lambda s: sequence(s.results, data_or_code)),
    SetNormal: (0xC1, 1, lambda s: _item(s.item) + encode(s.value)),
    SetFirst: (0xC1, 2, lambda s: _item(s.item) + _block(s.block)),
    SetBlock: (0xC1, 3, lambda s: _block(s.block)),
    SetList: (0xC1, 4, lambda s: sequence(s.items, _item) + sequence(s.values, encode)),
    SetListFirst: (0xC1, 5, lambda s: sequence(s.items, _item) + _block(s.block)),
    SetResult: (0xC5, 1, lambda s: _code(s.code)),
    SetBlockAck: (0xC5, 2, lambda s: _U32.pack(s.number)),
    SetLastAck: (0xC5, 3, lambda s: _code(s.code) + _U32.pack(s.number)),
    SetListLastAck: (0xC5, 4, lambda s: sequence(s.codes, _code) + _U32.pack(s.number)),
    SetResults: (0xC5, 5, lambda s: sequence(s.codes, _code)),
    ActionNormal: (0xC3, 1, lambda s: _ref(s.ref) + (b"\0" if s.parameters is None else b"\1" + encode(s.parameters))),
    ActionNext: (0xC3, 2, lambda s: _U32.pack(s.number)),
    ActionList: (0xC3, 3, lambda s: sequence(s.refs, _ref) + sequence(s.parameters, encode)),
    ActionFirst: (0xC3, 4, lambda s: _ref(s.ref) + _block(s.block)),
    ActionListFirst: (0xC3, 5, lambda s: sequence(s.refs, _ref) + _block(s.block)),
    ActionBlock: (0xC3, 6, lambda s: _block(s.block)),
    ActionResult: (0xC7, 1, lambda s: outcome_bytes(s.outcome)),
    ActionResultBlock: (0xC7, 2, lambda s: _block(s.block)),
    ActionResults: (0xC7, 3, lambda s: sequence(s.outcomes, outcome_bytes)),
    ActionBlockAck: (0xC7, 4, lambda s: _U32.pack(s.number)),
}


def encode_apdu(service: Service) -> bytes:
    """The plain APDU. RequestError where a number does not fit its field."""
    try:
        if isinstance(service, GeneralBlock):
            control = service.last << 7 | service.streaming << 6 | (service.window & 0x3F)
            return b"\xe0" + struct.pack(">BHH", control, service.number, service.acknowledged) + _string(service.data)
        if isinstance(service, ExceptionResponse):
            counter = b"" if service.counter is None else _U32.pack(service.counter)
            return bytes((0xD8, service.state, service.service)) + counter
        if isinstance(service, ServiceError):
            return bytes((0x0E, *service))
        if isinstance(service, EventNotification):
            when = b"\1" + _string(service.when) if service.when else b"\0"
            return b"\xc2" + when + _ref(service.ref) + encode(service.value)
        tag, choice, rest = _ENCODERS[type(service)]
        return bytes((tag, choice, service.invoke)) + rest(service)
    except (struct.error, ValueError, OverflowError) as error:
        raise RequestError(f"a number of a {type(service).__name__} does not fit its field: {error}") from error


def decode_results(raw: bytes) -> tuple[Data | Code, ...]:
    """The joined blocks of a GET with list."""
    reader = _Reader(raw)
    return tuple(_all(reader, lambda: reader.many(reader.data_or_code)))


def decode_values(raw: bytes) -> tuple[Data, ...]:
    """The joined blocks of a SET or ACTION request with list."""
    reader = _Reader(raw)
    return tuple(_all(reader, lambda: reader.many(reader.data)))


def decode_outcomes(raw: bytes, listed: bool) -> tuple[Outcome, ...]:
    """The joined blocks of an ACTION response. A single one is written in four ways: result and optional Get-Data-Result, a
    Get-Data-Result, an optional Get-Data-Result, or the bare data; the first that uses up all bytes counts."""
    reader = _Reader(raw)
    if listed:
        return tuple(_all(reader, lambda: reader.many(reader.outcome)))
    forms: tuple[Callable[[], Outcome], ...] = (
        reader.outcome,
        lambda: Outcome(ActionOutcome.SUCCESS, reader.data_or_code()),
        lambda: Outcome(ActionOutcome.SUCCESS, reader.data_or_code() if reader.flag() else None),
        lambda: Outcome(ActionOutcome.SUCCESS, reader.data()),
    )
    for form in forms:
        reader.at = 0
        try:
            return (_all(reader, form),)
        except MeterError:
            continue
    raise MeterError("the joined blocks of an ACTION response make no sense")


def _all(reader: _Reader, read: Callable[[], Any]) -> Any:
    try:
        value = read()
    except (IndexError, struct.error) as error:
        raise MeterError(f"joined blocks of {len(reader.apdu)} bytes are cut short") from error
    if reader.at != len(reader.apdu):
        raise MeterError(f"{len(reader.apdu) - reader.at} bytes are left over in joined blocks")
    return value
