"""What a meter answers to GET, SET and ACTION: the objects asked, block by block where an answer or a parameter is long.

One `Services` lives as long as its association. It gets decoded requests and gives the answer to encode, so it knows nothing of
ciphering, framing or addresses. A long transfer is kept until its last block, the next request, or a block that is out of turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import MeterError, RequestError
from . import apdu, apdu_octets
from .acse import Conformance
from .apdu import AccessResult, ActionOutcome, Block, Code, ExceptionResponse, Item, Outcome, Ref, Service
from .apdu_octets import encode_apdu
from .axdr import Data, decode_all, encode
from .blocks import LongValue, cut
from .objects import CosemObject

Done = tuple[str, tuple[Ref, ...], tuple[int, ...]]
_NOT_SUPPORTED = ExceptionResponse(2, 2)
_BLOCK_HEADER_BYTES = 16


class LongService:
    """A transfer that is not finished: the pieces of an answer still to go, or the blocks of a parameter that have come."""

    def __init__(self, first: Service, pieces: list[bytes] | None = None) -> None:
        self.first, self.pieces = first, pieces or []
        self.number = 0
        self.value = LongValue()


class Services:
    """objects: by (class, name). may(verb, ref): the rights. conformance: as negotiated; a service outside it is refused."""

    def __init__(self, objects: Mapping[tuple[int, str], CosemObject], may: Callable[[str, Ref], bool], conformance: Conformance) -> None:
        self._objects, self._may, self._conformance = objects, may, conformance
        self._long: LongService | None = None
        self._done: list[Done] = []
        self._room = 0
        self._now_s = 0
        self._by_general = False

    def take_done(self) -> list[Done]:
        """What was carried out since the last time: (verb, references, codes)."""
        done, self._done = self._done, []
        return done

    def answer(self, request: Service, room: int, now_s: int, by_general: bool = False) -> Service:
        """The answer to a request. room: how many bytes an answer may have. by_general: the request came by general block transfer, and
        the answer will go so."""
        self._room, self._now_s, self._by_general = room, now_s, by_general
        if isinstance(request, (apdu.GetNormal, apdu.GetList)):
            return self._get(request)
        if isinstance(request, (apdu.GetNext, apdu.ActionNext)):
            return self._next(request)
        if isinstance(request, (apdu.SetNormal, apdu.SetList)):
            return self._set(request)
        if isinstance(request, (apdu.ActionNormal, apdu.ActionList)):
            return self._action(request)
        if isinstance(request, (apdu.SetFirst, apdu.SetListFirst, apdu.ActionFirst, apdu.ActionListFirst)):
            self._long = LongService(request)
            return self._parameter(request.invoke, request.block)
        if isinstance(request, (apdu.SetBlock, apdu.ActionBlock)):
            return self._parameter(request.invoke, request.block)
        raise MeterError(f"a {type(request).__name__} is not a request that a server answers")

    # -- reading ----------------------------------------------------------------------------------------------------------------

    def _get(self, request: apdu.GetNormal | apdu.GetList) -> Service:
        if not self._conformance & Conformance.GET:
            return _NOT_SUPPORTED
        self._long = None
        listed = isinstance(request, apdu.GetList)
        items = request.items if isinstance(request, apdu.GetList) else (request.item,)
        if listed and not self._conformance & Conformance.MULTIPLE_REFERENCES:
            return _NOT_SUPPORTED
        results = tuple(self._read(item) for item in items)
        self._done.append(("get", tuple(item.ref for item in items), tuple(_number(result) for result in results)))
        whole: Service = apdu.GetResults(request.invoke, results) if listed else apdu.GetResult(request.invoke, results[0])
        if self._goes_whole(whole, Conformance.BLOCK_GET):
            return whole
        if not self._conformance & Conformance.BLOCK_GET or (not listed and not isinstance(results[0], Data)):
            return apdu.GetResult(request.invoke, AccessResult.DATA_BLOCK_UNAVAILABLE)
        raw = apdu_octets.sequence(results, apdu_octets.data_or_code) if listed else encode(_data(results[0]))
        self._long = LongService(request, cut(raw, self._room - _BLOCK_HEADER_BYTES))
        return self._next_get(request.invoke)

    def _goes_whole(self, answer: Service, blocks: Conformance) -> bool:
        """True where the answer fits, or general block transfer carries it. Service-specific blocks come first where both were agreed:
        some clients announce the general transfer and cannot take it."""
        if len(encode_apdu(answer)) <= self._room or self._by_general:
            return True
        return bool(self._conformance & Conformance.GENERAL_BLOCK_TRANSFER) and not self._conformance & blocks

    def _read(self, item: Item) -> Data | Code:
        found, code = self._find("g", item.ref)
        if found is None:
            return code
        if item.selection is not None and not self._conformance & Conformance.SELECTIVE_ACCESS:
            return AccessResult.SCOPE_OF_ACCESS_VIOLATED
        return found.get(item.ref.member, item.selection, self._now_s)

    def _find(self, verb: str, ref: Ref) -> tuple[CosemObject | None, AccessResult]:
        found = self._objects.get((ref.class_id, ref.obis))
        if found is None:
            wrong_class = any(obis == ref.obis for _, obis in self._objects)
            return None, AccessResult.OBJECT_CLASS_INCONSISTENT if wrong_class else AccessResult.OBJECT_UNDEFINED
        if not self._may(verb, ref):
            return None, AccessResult.READ_WRITE_DENIED
        return found, AccessResult.SUCCESS

    def _next(self, request: apdu.GetNext | apdu.ActionNext) -> Service:
        """The client has block `number` and asks for the one behind it."""
        long, get = self._long, isinstance(request, apdu.GetNext)
        reading = long is not None and isinstance(long.first, (apdu.GetNormal, apdu.GetList))
        if long is None or not long.pieces or reading is not get:
            code = AccessResult.NO_LONG_GET_IN_PROGRESS
        elif request.number != long.number:
            code = AccessResult.DATA_BLOCK_NUMBER_INVALID
        else:
            return self._next_get(request.invoke) if get else self._next_action(request.invoke)
        self._long = None
        if get:
            return apdu.GetBlock(request.invoke, Block(True, request.number, b""), code)
        return apdu.ActionResult(request.invoke, Outcome(ActionOutcome.NO_LONG_ACTION_IN_PROGRESS))

    def _next_get(self, invoke: int) -> Service:
        return apdu.GetBlock(invoke, self._next_block())

    def _next_action(self, invoke: int) -> Service:
        return apdu.ActionResultBlock(invoke, self._next_block())

    def _next_block(self) -> Block:
        long = self._long
        if long is None:
            raise RequestError("no long answer is kept")
        long.number += 1
        block = Block(len(long.pieces) == 1, long.number, long.pieces.pop(0))
        if block.last:
            self._long = None
        return block

    # -- writing ----------------------------------------------------------------------------------------------------------------

    def _set(self, request: apdu.SetNormal | apdu.SetList) -> Service:
        if not self._conformance & Conformance.SET:
            return _NOT_SUPPORTED
        self._long = None
        if isinstance(request, apdu.SetNormal):
            return apdu.SetResult(request.invoke, self._write((request.item,), (request.value,))[0])
        return apdu.SetResults(request.invoke, self._write(request.items, request.values))

    def _write(self, items: tuple[Item, ...], values: tuple[Data, ...]) -> tuple[Code, ...]:
        if len(items) != len(values):
            raise MeterError(f"{len(values)} values came for {len(items)} attributes")
        codes = []
        for item, value in zip(items, values, strict=True):
            found, code = self._find("s", item.ref)
            if found is not None:
                code = AccessResult.SCOPE_OF_ACCESS_VIOLATED if item.selection else found.set(item.ref.member, value, self._now_s)
            codes.append(code)
        self._done.append(("set", tuple(item.ref for item in items), tuple(int(code) for code in codes)))
        return tuple(codes)

    def _action(self, request: apdu.ActionNormal | apdu.ActionList) -> Service:
        if not self._conformance & Conformance.ACTION:
            return _NOT_SUPPORTED
        self._long = None
        if isinstance(request, apdu.ActionNormal):
            return self._outcomes(request.invoke, request, self._invoke((request.ref,), (request.parameters,)))
        return self._outcomes(request.invoke, request, self._invoke(request.refs, request.parameters))

    def _invoke(self, refs: tuple[Ref, ...], parameters: tuple[Data | None, ...]) -> tuple[Outcome, ...]:
        if len(refs) != len(parameters):
            raise MeterError(f"{len(parameters)} parameters came for {len(refs)} methods")
        outcomes = []
        for ref, value in zip(refs, parameters, strict=True):
            found, code = self._find("a", ref)
            outcomes.append(found.act(ref.member, value, self._now_s) if found else Outcome(ActionOutcome(code)))
        self._done.append(("action", refs, tuple(int(outcome.code) for outcome in outcomes)))
        return tuple(outcomes)

    def _outcomes(self, invoke: int, request: Service, outcomes: tuple[Outcome, ...]) -> Service:
        listed = isinstance(request, (apdu.ActionList, apdu.ActionListFirst))
        whole: Service = apdu.ActionResults(invoke, outcomes) if listed else apdu.ActionResult(invoke, outcomes[0])
        if self._goes_whole(whole, Conformance.BLOCK_ACTION) or not self._conformance & Conformance.BLOCK_ACTION:
            return whole
        raw = apdu_octets.sequence(outcomes, apdu_octets.outcome_bytes) if listed else encode(_returned(outcomes[0]))
        self._long = LongService(request, cut(raw, self._room - _BLOCK_HEADER_BYTES))
        return self._next_action(invoke)

    def _parameter(self, invoke: int, block: Block) -> Service:
        """A block of a long parameter of SET or ACTION."""
        long = self._long
        setting = long is not None and isinstance(long.first, (apdu.SetFirst, apdu.SetListFirst))
        bit = Conformance.BLOCK_SET if setting else Conformance.BLOCK_ACTION
        if long is None or long.pieces or not self._conformance & bit:
            self._long = None
            return ExceptionResponse(1, 1)
        long.value.take(block.number, block.raw)
        if not block.last:
            return apdu.SetBlockAck(invoke, block.number) if setting else apdu.ActionBlockAck(invoke, block.number)
        self._long = None
        raw, first = long.value.whole(), long.first
        if isinstance(first, apdu.SetFirst):
            return apdu.SetLastAck(invoke, self._write((first.item,), (decode_all(raw),))[0], block.number)
        if isinstance(first, apdu.SetListFirst):
            return apdu.SetListLastAck(invoke, self._write(first.items, apdu_octets.decode_values(raw)), block.number)
        if isinstance(first, apdu.ActionFirst):
            return self._outcomes(invoke, first, self._invoke((first.ref,), (decode_all(raw),)))
        if isinstance(first, apdu.ActionListFirst):
            return self._outcomes(invoke, first, self._invoke(first.refs, apdu_octets.decode_values(raw)))
        raise MeterError("a block came for a transfer that takes none")


def _number(result: Data | Code) -> int:
    return 0 if isinstance(result, Data) else int(result)


def _data(result: Data | Code) -> Data:
    if not isinstance(result, Data):
        raise RequestError("a result code is never long")
    return result


def _returned(outcome: Outcome) -> Data:
    """What a single method returned, as the blocks carry it: the bare data, as those of a GET do."""
    if not isinstance(outcome.returned, Data):
        raise RequestError("a result code is never long")
    return outcome.returned
