"""What a client asks by GET, SET and ACTION, block by block where a parameter or an answer is long: the other side of `services.py`.

A `Request` holds the APDU to send first and takes what the server answers: it gives the next APDU to send, or the results, one for each
item asked for. It knows nothing of ciphering, framing or addresses.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import MeterError, RequestError
from . import apdu, apdu_octets
from .apdu import Block, Code, Item, Outcome, Ref, Service
from .apdu_octets import encode_apdu
from .axdr import NULL, Data, decode_all, encode
from .blocks import LongValue, cut

_LENGTH_BYTES = 4


class Results(NamedTuple):
    """GET: data or result codes; SET: result codes; ACTION: outcomes."""

    items: tuple[Data | Code | Outcome, ...]


_ANSWERS: dict[str, tuple[type, ...]] = {
    "get": (apdu.GetResult, apdu.GetBlock, apdu.GetResults),
    "set": (apdu.SetResult, apdu.SetBlockAck, apdu.SetLastAck, apdu.SetListLastAck, apdu.SetResults),
    "action": (apdu.ActionResult, apdu.ActionResultBlock, apdu.ActionResults, apdu.ActionBlockAck),
}


class Request:
    """A request that is out. kind: "get", "set" or "action"; invoke: its invoke id and priority byte; first: what to send first."""

    def __init__(self, kind: str, invoke: int, items: int, first: Service, pieces: list[bytes] | None = None) -> None:
        self.kind, self.invoke, self.items, self.first = kind, invoke, items, first
        self._pieces = pieces or []
        self._sent = 1
        self._long = LongValue()
        self.begun = False
        """The first part of the answer has come."""

    def answers(self, service: Service) -> bool:
        """True for an answer to this request; another invoke id belongs to an older one."""
        invoke = getattr(service, "invoke", None)
        return invoke is not None and invoke & 0x0F == self.invoke & 0x0F

    def take(self, service: Service) -> Service | Results:
        """The next APDU to send, or the results. MeterError where the server answers something else, or out of turn."""
        if not isinstance(service, _ANSWERS[self.kind]):
            raise MeterError(f"a {type(service).__name__} came in answer to a {self.kind} request")
        self.begun = True
        if isinstance(service, (apdu.GetBlock, apdu.ActionResultBlock)):
            return self._block(service)
        if isinstance(service, (apdu.SetBlockAck, apdu.ActionBlockAck)):
            return self._next(service.number)
        return self._checked(_results(service))

    def _block(self, service: apdu.GetBlock | apdu.ActionResultBlock) -> Service | Results:
        """A block of a long answer."""
        if isinstance(service, apdu.GetBlock) and service.code is not None:
            return Results((service.code,) * self.items)
        self._long.take(service.block.number, service.block.raw)
        if not service.block.last:
            number = service.block.number
            return apdu.GetNext(self.invoke, number) if self.kind == "get" else apdu.ActionNext(self.invoke, number)
        raw = self._long.whole()
        if self.kind == "action":
            return self._checked(apdu_octets.decode_outcomes(raw, self.items > 1))
        return self._checked(apdu_octets.decode_results(raw) if self.items > 1 else (decode_all(raw),))

    def _next(self, number: int) -> Service:
        """The server has block `number` of our long parameter."""
        if number != self._sent or not self._pieces:
            raise MeterError(f"block {number} is acknowledged, but block {self._sent} was sent last")
        self._sent += 1
        block = Block(len(self._pieces) == 1, self._sent, self._pieces.pop(0))
        return apdu.SetBlock(self.invoke, block) if self.kind == "set" else apdu.ActionBlock(self.invoke, block)

    def _checked(self, results: tuple[Data | Code | Outcome, ...]) -> Results:
        if len(results) != self.items:
            raise MeterError(f"{len(results)} results came in answer to {self.items} items")
        return Results(results)


def get_request(invoke: int, items: tuple[Item, ...]) -> Request:
    """One attribute as GET normal, several as GET with list."""
    _some(items)
    return Request("get", invoke, len(items), apdu.GetNormal(invoke, items[0]) if len(items) == 1 else apdu.GetList(invoke, items))


def set_request(invoke: int, pairs: tuple[tuple[Item, Data], ...], room: int | None) -> Request:
    """SET of one attribute or a list. room: the bytes that one APDU may have, else in blocks; None = never in blocks."""
    _some(pairs)
    items, values = tuple(item for item, _ in pairs), tuple(value for _, value in pairs)
    if len(pairs) == 1:
        whole = apdu.SetNormal(invoke, items[0], values[0])
        return _maybe_long("set", whole, apdu.SetFirst(invoke, items[0], _EMPTY), values, room)
    return _maybe_long("set", apdu.SetList(invoke, items, values), apdu.SetListFirst(invoke, items, _EMPTY), values, room)


def action_request(invoke: int, pairs: tuple[tuple[Ref, Data | None], ...], room: int | None) -> Request:
    """ACTION of one method or a list; room as for `set_request`."""
    _some(pairs)
    refs, values = tuple(ref for ref, _ in pairs), tuple(NULL if value is None else value for _, value in pairs)
    if len(pairs) == 1:
        return _maybe_long("action", apdu.ActionNormal(invoke, *pairs[0]), apdu.ActionFirst(invoke, refs[0], _EMPTY), values, room)
    return _maybe_long("action", apdu.ActionList(invoke, refs, values), apdu.ActionListFirst(invoke, refs, _EMPTY), values, room)


_EMPTY = Block(False, 1, b"")
_First = apdu.SetFirst | apdu.SetListFirst | apdu.ActionFirst | apdu.ActionListFirst


def _maybe_long(
    kind: str,
    whole: apdu.SetNormal | apdu.SetList | apdu.ActionNormal | apdu.ActionList,
    first: _First,
    values: tuple[Data, ...],
    room: int | None,
) -> Request:
    """The request whole where it fits, else its first block; the rest goes out as the server acknowledges."""
    if room is None or len(encode_apdu(whole)) <= room:
        return Request(kind, whole.invoke, len(values), whole)
    raw = encode(values[0]) if len(values) == 1 else apdu_octets.sequence(values, encode)
    pieces = cut(raw, room - len(encode_apdu(first)) - _LENGTH_BYTES)
    block = Block(len(pieces) == 1, 1, pieces.pop(0))
    return Request(kind, whole.invoke, len(values), first._replace(block=block), pieces)


def _results(service: Service) -> tuple[Data | Code | Outcome, ...]:
    """The results in an answer that is whole."""
    if isinstance(service, apdu.GetResult):
        return (service.result,)
    if isinstance(service, apdu.GetResults):
        return service.results
    if isinstance(service, (apdu.SetResult, apdu.SetLastAck)):
        return (service.code,)
    if isinstance(service, (apdu.SetResults, apdu.SetListLastAck)):
        return service.codes
    if isinstance(service, apdu.ActionResult):
        return (service.outcome,)
    if isinstance(service, apdu.ActionResults):
        return service.outcomes
    raise MeterError(f"a {type(service).__name__} carries no results")


def _some(items: tuple[object, ...]) -> None:
    if not items:
        raise RequestError("a request names nothing")
