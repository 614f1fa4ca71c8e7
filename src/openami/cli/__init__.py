"""`openami ...`: the command line, a chapter a reader: words.py (the app and what commands share), town.py (demo, close, history), serving.py
(serve), headend.py (headend), meters.py (decode, read, relay, listen, meter), measuring.py (bench), people.py (people), reporting.py (report),
editing.py (edit), keeping.py (lake), money.py and posting.py (ledger, payments), explaining.py (explain), complaints.py (complaints), losses.py
(losses; losses_kept.py, losses_money.py), operate.py (config, backup, restore), supply.py (supply).

Bad input ends with one clear sentence on standard error and exit code 2.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import typer

from ..errors import OpenAMIError
from . import (
    complaints,
    editing,
    explaining,
    headend,
    keeping,
    losses,
    measuring,
    meters,
    money,
    operate,
    people,
    posting,
    reporting,
    serving,
    supply,
    town,
)
from .words import app

__all__ = [
    "app",
    "complaints",
    "editing",
    "explaining",
    "headend",
    "keeping",
    "losses",
    "main",
    "measuring",
    "meters",
    "money",
    "operate",
    "people",
    "posting",
    "reporting",
    "serving",
    "supply",
    "town",
]

INTERRUPTED = 130
USAGE_ERROR: type[Exception] = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""What Typer raises for a word that it does not understand; it carries its own copy of the class."""


def main() -> None:
    """The console script: runs the command, turns our errors and wrong words into one sentence and exit code 2."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("openami").setLevel(logging.INFO)  # of libraries only what warns: their every request and step is nobody's business
    terminated = False

    def terminate(signum: int, frame: object) -> None:
        """SIGTERM ends as Ctrl-C does, so that what is being built is cleared away."""
        nonlocal terminated
        terminated = True
        os.kill(os.getpid(), signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell script starts what it puts into the background so; SIGTERM, which goes by way of SIGINT, would then end nothing.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except OpenAMIError as error:
        _leave(str(error), 2)
    except USAGE_ERROR as error:
        said = getattr(error, "format_message", error.__str__)()
        _leave(f"{' '.join(said.split())} (openami --help shows what there is)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _leave("stopped; nothing was half-written", 143 if terminated else INTERRUPTED)
    if terminated or code == INTERRUPTED:  # Typer gives back Ctrl-C's exit code as a command's own
        _leave("stopped; nothing was half-written", 143 if terminated else INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(sentence: str, code: int) -> NoReturn:
    if "openami.operate.logs" in sys.modules and sys.modules["openami.operate.logs"].is_json():
        logging.getLogger("openami").critical(sentence)
    else:
        print(f"openami: {sentence}", file=sys.stderr)
    sys.exit(code)
