"""The head-end bench's peer: the bare minimum of the same work, without any protocol. `python -m openami.bench.bare FILE`.

Takes wrapper frames, appends what has gathered to a file, syncs once, and answers each frame with as many bytes as a confirmation has.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

ANSWER = bytes(32)


class _Connection(asyncio.Protocol):
    inbox: list[tuple[asyncio.Transport, bytes]]
    wake: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.inbox.append((self.transport, data))
        self.wake.set()


async def _serve(path: str) -> None:
    _Connection.inbox, _Connection.wake = [], asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def store(batch: list[tuple[asyncio.Transport, bytes]]) -> None:
        os.write(handle, b"".join(data for _, data in batch))
        os.fsync(handle)

    while True:
        await _Connection.wake.wait()
        _Connection.wake.clear()
        batch, _Connection.inbox[:] = list(_Connection.inbox), []
        await loop.run_in_executor(None, store, batch)
        for transport, _ in batch:
            if not transport.is_closing():
                transport.write(ANSWER)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
