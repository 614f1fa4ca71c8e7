"""The journal on NATS JetStream: one stream, a subject a shard, written by several head-ends, read by workers that each own shards.

Subjects: `<stream>.frames.<shard>` and `<stream>.pulled.<shard>`; `none` instead of a shard for meters that are not in the registry. A message is
a batch of at most 64 KiB: the time it was received (UTC microseconds, int64, little-endian), then the frames as `journal.pack` writes them. Its
seq is the stream's, the same for every reader.

What always holds:
- frames of one meter stand in the stream in the order in which `store` says so; a head-end judges them in that order, and so does every worker;
- what is derived (last counters, what was judged, quarantine) lies in a local SQLite file of the embedded journal's form. It may be lost: a
  head-end that begins without it begins at the stream's end, and the workers' judgement, made from the stream alone, is the one that counts.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..cosem import ciphering, wrapper
from ..errors import MeterError
from ..readings import Int64
from ..registry import Meter
from .journal import Batch, Journal, Pulled, Refusal, Stored
from .nats_address import NatsAddress
from .nats_stream import PATIENCE_S, NatsStream, Outgoing

log = logging.getLogger("openami.journal")
BATCH_BYTES = 65_536
NOBODY = "none"
_TITLE = itemgetter(slice(10, 18))
"""Where the system title stands in a push: behind the wrapper's 8 bytes, the tag and its length."""
_PULL = struct.Struct("<qqqHH")
"""Head of what was pulled: received_us, first_s, last_s, lengths of serial and profile; then these two in UTF-8, then the octets."""


class Routes:
    """Which shard a meter belongs to, by its frames and by its serial number."""

    def __init__(self, meters: Iterable[Meter] = ()) -> None:
        self._by_title: dict[bytes, int] = {}
        self._by_serial: dict[str, int] = {}
        for meter in meters:
            self._by_title[meter.system_title] = self._by_serial[meter.serial] = meter.shard

    def of_frames(self, frames: Sequence[bytes]) -> Int64:
        """int64 [frame]: the shard, -1 = nobody's. A push nearly always has its system title in the same place; what is found there by chance is
        a route like any other, and judged where it leads."""
        found = np.fromiter(map(self._by_title.get, map(_TITLE, frames), repeat(-1)), np.int64, len(frames))
        for k in np.flatnonzero(found < 0).tolist():
            found[k] = self._of(frames[k])
        return found

    def of_serial(self, serial: str) -> int:
        return self._by_serial.get(serial, -1)

    def _of(self, octets: bytes) -> int:
        try:
            return self._by_title.get(ciphering.parse_sealed(wrapper.unwrap(octets)[0].apdu).system_title, -1)
        except (MeterError, IndexError):
            return -1


class JetStreamJournal:
    """A `FrameJournal` on a stream. `receive`: for a head-end (it makes the stream, and the proof that confirmed means kept). shards: read only
    theirs, and what belongs to nobody yet; as `worker`, a name that the servers remember, so that they can say how far behind it is."""

    def __init__(
        self,
        address: NatsAddress,
        memory: Path,
        routes: Routes | None = None,
        *,
        receive: bool = False,
        shards: Sequence[int] | None = None,
        worker: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._routes, self._worker = routes or Routes(), worker
        self._shards = None if shards is None else [*(str(shard) for shard in shards), NOBODY]
        self._ident, self._sent = uuid.uuid4().hex, 0
        self._counted = _Counted(memory.with_name("counted.json"), f"{address.stream} {','.join(self._shards or ['*'])}")
        self._asked: list[Pulled] = []
        self._stream = NatsStream(address, create=receive, patience_s=patience_s)
        try:
            self._memory = self._remember(memory, receive)
        except BaseException:
            self._stream.close()
            raise

    def _remember(self, path: Path, receive: bool) -> Journal:
        fresh = not path.is_file()
        memory = Journal(path, create=receive or fresh)
        if fresh and receive:
            memory.settle(self._stream.last_seq(), (), ())
        if fresh and not receive:
            memory.close()
            memory = Journal(path)
        return memory

    def close(self) -> None:
        self._memory.close()
        self._stream.close()

    def store(self, frames: Sequence[bytes], received_us: int) -> list[Stored]:
        """As `FrameJournal.store`. Waits, bounded, where the servers are away; nothing may be confirmed meanwhile."""
        head = received_us.to_bytes(8, "little", signed=True)
        shards = self._routes.of_frames(frames)
        order = np.argsort(shards, kind="stable")
        octets = np.fromiter(map(len, frames), np.int64, len(frames))[order]
        places, messages = [], []
        for first, last in _cut(shards[order], octets):
            own = order[first:last].tolist()
            sizes = (last - first).to_bytes(4, "little") + octets[first:last].astype("<u4").tobytes()
            payload = b"".join([head, sizes, *[frames[k] for k in own]])
            places.append(own)
            messages.append(self._message("frames", int(shards[own[0]]), payload, len(own)))
        return sorted(map(Stored, self._stream.publish(messages), places))

    def append(self, frames: Sequence[bytes], received_us: int) -> int:
        """Store frames; gives the last seq that they have."""
        return max((stored.seq for stored in self.store(frames, received_us)), default=0)

    def batches(self, after: int = 0) -> Iterator[Batch]:
        """All batches of the shards with seq > `after`, in the stream's order, up to the newest. Batches up to `after` are done with."""
        for message in self._stream.read(self._subjects("frames"), after, durable=self._worker):
            received_us = int.from_bytes(message.payload[:8], "little", signed=True)
            yield Batch(message.seq, received_us, message.payload[8:])

    def batch(self, seq: int) -> Batch:
        """The batch of that seq; DataError where there is none."""
        payload = self._stream.get(seq)
        return Batch(seq, int.from_bytes(payload[:8], "little", signed=True), payload[8:])

    def pull(self, serial: str, profile: str, first_s: int, last_s: int, octets: bytes, received_us: int) -> int:
        """Store what a meter gave when it was asked; gives its seq."""
        names = serial.encode(), profile.encode()
        head = _PULL.pack(received_us, first_s, last_s, len(names[0]), len(names[1]))
        message = self._message("pulled", self._routes.of_serial(serial), b"".join([head, *names, octets]), 0)
        return self._stream.publish([message])[0]

    def pulled(self, after: int = 0) -> Iterator[Pulled]:
        """What was pulled with seq > `after`, in order."""
        for message in self._stream.read(self._subjects("pulled"), after):
            received_us, first_s, last_s, serial, profile = _PULL.unpack_from(message.payload)
            at = _PULL.size
            names = message.payload[at : at + serial].decode(), message.payload[at + serial : at + serial + profile].decode()
            yield Pulled(message.seq, received_us, *names, first_s, last_s, message.payload[at + serial + profile :])

    def answered(self, profile: str) -> list[tuple[str, int, int]]:
        """As `Journal.answered`; what was read before is kept in memory without its octets."""
        for one in self.pulled(self._asked[-1].seq if self._asked else 0):
            self._asked.append(Pulled(one.seq, one.received_us, one.serial, one.profile, one.first_s, one.last_s, b""))
        return [(one.serial, one.first_s, one.last_s) for one in self._asked if one.profile == profile]

    def frames(self) -> int:
        """How many frames the stream holds for the shards: counted from the messages' heads, on from where this folder has counted to."""
        seq, frames = self._counted.read()
        newest = self._stream.last_seq()
        if seq > newest:  # another stream of the same name
            seq, frames = 0, 0
        if seq < newest:
            for message in self._stream.read(self._subjects("frames"), seq, headers_only=True):
                frames += int(message.headers.get("Frames", 0))
                seq = message.seq
            self._counted.write(max(seq, newest), frames)
        return frames

    def settle(self, seq: int, counters: Iterable[tuple[str, int]], refusals: Iterable[Refusal]) -> None:
        self._memory.settle(seq, counters, refusals)

    def settled(self) -> int:
        return self._memory.settled()

    def counters(self) -> dict[str, int]:
        return self._memory.counters()

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        self._memory.refuse(refusals)

    def causes(self) -> dict[str, int]:
        return self._memory.causes()

    def quarantine(self, cause: str | None = None, limit: int | None = None, offset: int = 0) -> list[Refusal]:
        return self._memory.quarantine(cause, limit, offset)

    def _subjects(self, kind: str) -> list[str]:
        name = self._stream.address.stream
        return [f"{name}.{kind}.*"] if self._shards is None else [f"{name}.{kind}.{shard}" for shard in self._shards]

    def _message(self, kind: str, shard: int, payload: bytes, frames: int) -> Outgoing:
        self._sent += 1
        headers: dict[str, Any] = {"Frames": str(frames)} if frames else {}
        subject = f"{self._stream.address.stream}.{kind}.{NOBODY if shard < 0 else shard}"
        return Outgoing(subject, f"{self._ident}-{self._sent}", payload, headers)


class _Counted:
    """How many frames were counted up to which seq, in a file beside the memory: an entry for each choice of shards. It is derived, and any process
    may write it: what a slower one writes over a faster one's costs counting again."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def read(self) -> tuple[int, int]:
        seq, frames = self._all().get(self._name, (0, 0))
        return int(seq), int(frames)

    def write(self, seq: int, frames: int) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            beside.write_text(json.dumps(self._all() | {self._name: [seq, frames]}), encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            log.debug("%s cannot be written (%s); it is counted again", self._path, error.strerror)

    def _all(self) -> dict[str, list[int]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {name: pair for name, pair in found.items() if isinstance(pair, list) and len(pair) == 2} if isinstance(found, dict) else {}


def _cut(shards: Int64, octets: Int64) -> Iterator[tuple[int, int]]:
    """Frames in the order of their shards, into batches of one shard and at most `BATCH_BYTES` each (or one frame): from, to."""
    ends = np.cumsum(octets + 4)
    for first, last in pairwise([0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]):
        while first < last:
            before = int(ends[first - 1]) if first else 0
            end = min(max(int(np.searchsorted(ends, before + BATCH_BYTES - 12, "right")), first + 1), last)
            yield first, end
            first = end
