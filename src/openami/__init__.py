"""OpenAMI, the open AMI platform. The rooms, in the order of the data:

    readings.py   word    channels, units, day blocks, quality codes, the meaning of a timestamp
    registry.py   word    who and where: meter, usage point, account, transformer, feeder
    money.py      word    paise as integers; charge rows and transfer rows
    errors.py     word    the one exception tree
    cosem/        kernel  meter bytes <-> values: HDLC and wrapper, xDLMS, ciphering, IS 15959 profiles; no sockets, no side
    vee/          kernel  validate, estimate, edit: one named check per function
    billing/      kernel  tariff x readings -> charges
    prepaid/      kernel  the ledger, the daily statement, notices, who is due for disconnection
    control/      kernel  the disconnection guard, its decisions written down and made again; the life of an order
    losses/       kernel  the energy account with intervals, technical loss, AT&C, outages, mapping, suspects, demand
    fleet/        shell   simulated meters on real sockets, with seeded faults and their ground truth
    headend/      shell   talks to meters: the push listener and its admission of frames; sessions and readers
    payments/     shell   money that comes in by a gateway: bills, signed events, reconciliation; a gateway that misbehaves
    notices/      shell   words to consumers, their carriers, and what became of each message
    store/        shell   journal, day blocks, registry and ledger rows
    engine.py     shell   runs a stage over days and shards: here in threads, or on Apache Spark
    web/          shell   the consoles and the API: who may see and do what
    day/          glue    the whole way, one page: collect, close, charge
    supply/       glue    from balance to light: due, told, limited or cut where the guard allows; a payment becomes supply again
    demo/         glue    the main job: a town from frames to rupees, compared with what was planted
    field/        glue    one meter, one frame, one order: what an engineer in the field needs
    analyst.py    glue    readings for people who ask questions, in Python and SQL: `openami.open`
    client.py     glue    the API for Python programs: `openami.Client`
    studies/      glue    what the energy audit finds where the truth is known: pages under docs/results
    bench/        glue    speed and memory, beside what one would use instead
    operate/      glue    a running deployment: settings, metrics, logs, health, the worker, backup and restore
    cli/          glue    `openami ...`

Imports run one way: cli > operate|bench > demo|web|field|analyst|client|studies > supply > day
> headend|payments|notices > fleet|store|engine > the kernels > registry > readings|money > errors.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client as Client

__version__ = "0.1.0"


def open(path: str | Path) -> Any:
    """A data folder for analysis, an `openami.analyst.Data`: `openami.open("data/demo").readings("import_wh", days="2025-12-01")`."""
    return import_module(".analyst", __name__).Data.open(path)


def __getattr__(name: str) -> Any:
    """`openami.Client`, looked up when it is first used: importing `openami` loads nothing."""
    if name == "Client":
        return import_module(".client", __name__).Client
    raise AttributeError(f"module 'openami' has no attribute {name!r}")
