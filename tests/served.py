"""One simulated meter on a real socket, in a thread of its own, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np

from openami.cosem.acse import Mechanism
from openami.cosem.ciphering import Keys
from openami.cosem.protection import Form
from openami.cosem.server import Event, Violation
from openami.fleet.device import MeterDevice, build_device, new_identity
from openami.fleet.serve import DeviceServer, serve_device
from openami.headend.session import FIRMWARE, PUBLIC, READER, Credentials, MeterAddress, Patience

NOON_S = 1_764_570_600
"""2025-12-01 12:00 in India."""
MIDNIGHT_S = NOON_S - 12 * 3600
SHORT = Patience(connect_s=5.0, answer_s=5.0)


class ServedMeter:
    """Use as a context: a meter is served from entering to leaving. `now_s`: its time, to be moved at will; `told`: its events."""

    def __init__(
        self, *, hdlc: bool = False, hls: Mechanism = Mechanism.HLS, serial: str = "XMA0000007", keys: Keys | None = None, **how: Any
    ) -> None:
        self.now_s, self.hdlc, self.told = NOON_S, hdlc, list[Event]()
        made = new_identity(serial, np.random.default_rng(7), hls)
        self.identity = replace(made, keys=keys, suite=how.pop("suite", 0)) if keys else made
        self.device: MeterDevice = build_device(self.identity, NOON_S, **({"days": 3, "months": 1} | how))
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: DeviceServer | None = None

    def __enter__(self) -> ServedMeter:
        self._thread.start()
        self.appear()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def appear(self) -> None:
        """Listens, on the port that it had before if any."""
        serving = serve_device(self.device, "127.0.0.1", self.port, self.hdlc, clock=lambda: self.now_s, told=self.told.append)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        self.port = self._server.port

    def vanish(self) -> None:
        """Hangs up on everybody and listens no more."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(10)
            self._server = None

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def address(self) -> MeterAddress:
        return MeterAddress("127.0.0.1", self.port, self.hdlc)

    def credentials(self, client: int, form: Form = Form.GLO, **changes: Any) -> Credentials:
        """Those that this meter takes from `client`."""
        identity = self.identity
        if client == PUBLIC:
            return Credentials()
        mechanism, secret = (Mechanism.LLS, identity.password) if client == READER else (identity.hls, identity.hls_secret)
        known = {"client": client, "mechanism": mechanism, "secret": secret, "keys": identity.keys, "form": form}
        return Credentials(**(known | changes))

    @property
    def violations(self) -> list[str]:
        return [event.cause for event in self.told if isinstance(event, Violation)]


__all__ = ["FIRMWARE", "MIDNIGHT_S", "NOON_S", "SHORT", "ServedMeter"]
