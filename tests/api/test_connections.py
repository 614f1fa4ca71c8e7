"""Connections that say nothing, too much, or drop by drop, against the server that is served."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from uvicorn.server import ServerState

from openami.web.connections import HEAD_MOST, Connection
from operate.roles import wait_until

LONG_S = 60.0
"""A wait that only a failing test waits out."""


class Heard(Connection):
    """heard: octets that have come and were dealt with."""

    heard = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.heard += len(data)


class Hasty(Connection):
    head_within_s = 0.1


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/hello")
    def hello(request: Request) -> dict[str, str]:
        return dict(request.headers)

    @app.post("/length")
    async def length(request: Request) -> list[object]:
        body = await request.body()
        return [len(body), sorted(request.headers)]

    return app


@dataclass
class Served:
    """state: has the server's ends of the connections that are open."""

    address: tuple[str, int]
    state: ServerState

    @contextlib.contextmanager
    def connected(self, said: bytes) -> Iterator[tuple[socket.socket, Connection]]:
        """A connection over which `said` has come, and the server's end of it."""
        with socket.create_connection(self.address) as here:
            here.sendall(said)
            name = here.getsockname()
            wait_until(lambda: any(self._is(end, name) and end.heard >= len(said) for end in [*self.state.connections]))
            yield here, next(end for end in [*self.state.connections] if self._is(end, name))

    def _is(self, end: Any, name: tuple[str, int]) -> bool:
        return isinstance(end, Heard) and end.client == name


def _serve(kind: type[Connection]) -> Iterator[Served]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(_app(), http=kind, ws="none", log_level="critical", lifespan="off", timeout_keep_alive=600))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Served(listener.getsockname(), server.server_state)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def patient() -> Iterator[Served]:
    yield from _serve(Heard)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Served]:
    yield from _serve(Hasty)


def _until_closed(connection: socket.socket) -> bytes:
    """All that comes until the server closes; a server that never does fails by time."""
    connection.settimeout(LONG_S)
    told = b""
    while more := connection.recv(65536):
        told += more
    return told


def _answer(connection: socket.socket) -> bytes:
    connection.settimeout(LONG_S)
    told = b""
    while b"}" not in told and b"]]" not in told:
        more = connection.recv(65536)
        assert more, f"closed behind {told!r}"
        told += more
    return told


def _runs(end: Connection) -> bool:
    return end._late is not None and not end._late.cancelled()


def test_a_head_that_does_not_end_is_refused(patient: Served) -> None:
    for fields in (b"x: " + b"a" * HEAD_MOST, b"".join(b"x%d: y\r\n" % k for k in range(HEAD_MOST // 8))):
        with socket.create_connection(patient.address) as connection:  # no octet more: what is not read any more would reset the connection
            connection.sendall((b"GET /hello HTTP/1.1\r\nhost: here\r\n" + fields)[:HEAD_MOST])
            told = _until_closed(connection)
            assert told.startswith(b"HTTP/1.1 431 "), told
            assert str(HEAD_MOST).encode() in told


def test_a_head_just_short_enough_is_answered_and_the_next_one_counted_anew(patient: Served) -> None:
    begun = b"GET /hello HTTP/1.1\r\nhost: here\r\nx: "
    with socket.create_connection(patient.address) as connection:
        for _ in range(3):
            connection.sendall(begun + b"a" * (HEAD_MOST - len(begun) - 5) + b"\r\n\r\n")
            assert _answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_is_not_counted_as_head_nor_what_comes_right_behind_it(patient: Served) -> None:
    body = b"b" * 100_000
    with socket.create_connection(patient.address) as connection:
        connection.sendall(b"POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 100000\r\n\r\n" + body + b"GET /hello HTTP/1.1\r\nho")
        assert b"[100000," in _answer(connection)
        connection.sendall(b"st: here\r\n\r\n")
        assert b'"host":"here"' in _answer(connection)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"", b"400"),
        (b"host: a\r\nhost: b\r\n", b"400"),
        (b"host: [::\r\n", b"400"),
        (b"host: a/b\r\n", b"400"),
        (b"host: a b\r\n", b"400"),
        (b"host:\r\n", b"400"),
        (b"host: ami_1.example.in:8080\r\n", b"200"),
        (b"host: [::1]:8080\r\n", b"200"),
        (b"host: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n", b"200"),
    ],
)
def test_a_request_names_one_host(patient: Served, fields: bytes, status: bytes) -> None:
    with socket.create_connection(patient.address) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\n" + fields + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_fields_behind_a_body_are_nobodys(patient: Served) -> None:
    with socket.create_connection(patient.address) as connection:
        connection.sendall(b"POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"2\r\nab\r\n0\r\nauthorization: Bearer late\r\n\r\n")
        told = _answer(connection)
        assert b"[2," in told
        assert b"authorization" not in told


def test_who_says_nothing_is_not_waited_for(hasty: Served) -> None:
    with socket.create_connection(hasty.address) as connection:
        assert _until_closed(connection) == b""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET /hello HTTP/1.1\r\nhost:", b"HTTP/1.1 408 "),
        (b"\r\n\r\n", b"HTTP/1.1 408 "),
        (b"GET /hello HTTP/1.1\r\nhost: here\r\n\r\nGET /hel", b"HTTP/1.1 200 "),
        (b"POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\nabc", b""),
    ],
    ids=["half a head", "empty lines", "half of a second head", "half a body"],
)
def test_the_clock_runs_for_whoever_has_not_said_it_all(patient: Served, said: bytes, told: bytes) -> None:
    with patient.connected(said) as (connection, end):
        before = _answer(connection) if b"200" in told else b""
        assert _runs(end)
        end.loop.call_soon_threadsafe(end._too_late)
        assert (before + _until_closed(connection)).startswith(told)


def test_an_answer_before_the_body_came_does_not_stop_the_clock(patient: Served) -> None:
    said = b"GET /hello HTTP/1.1\r\nhost: here\r\ncontent-length: 900000\r\n\r\na drop"
    with patient.connected(said) as (connection, end):
        assert _answer(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"another")
        wait_until(lambda: end.heard > len(said))
        assert _runs(end)


def test_no_clock_runs_between_two_requests(patient: Served) -> None:
    said = b"GET /hello HTTP/1.1\r\nhost: here\r\n\r\n"
    with patient.connected(said) as (connection, end):
        for _ in range(2):
            assert _answer(connection).startswith(b"HTTP/1.1 200 ")
            assert not _runs(end)
            connection.sendall(said)
