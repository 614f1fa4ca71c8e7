"""Simulated meters in a process of their own, for the benches: prints their ports and secrets as one JSON line, then serves until it is stopped.

python -m openami.bench.meters COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np

from ..fleet.device import build_device, new_identity
from ..fleet.serve import now_s, serve_device


async def main(count: int) -> None:
    """All meters share one household's days: what differs is their identity."""
    rng, told = np.random.default_rng(1), []
    for number in range(1, count + 1):
        identity = new_identity(f"XMA{number:07d}", rng)
        server = await serve_device(build_device(identity, now_s(), days=2, months=0, control_mode=4))
        told.append(
            {
                "serial": identity.serial,
                "system_title": identity.system_title.hex(),
                "ek": identity.keys.ek.hex(),
                "ak": identity.keys.ak.hex(),
                "password": identity.password.decode(),
                "hls_secret": identity.hls_secret.hex(),
                "port": server.port,
            }
        )
    print(json.dumps({"port": 0, "meters": told}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
