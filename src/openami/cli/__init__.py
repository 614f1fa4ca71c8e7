"""`openami ...`: the command line, a chapter a reader: words.py (the app and what commands share), town.py (demo, close, history), serving.py
(serve), headend.py (headend), meters.py (decode, read, relay, listen, meter), measuring.py (bench), people.py (people), reporting.py (report),
editing.py (edit), keeping.py (lake), money.py and posting.py (ledger, payments), explaining.py (explain), complaints.py (complaints), losses.py
(losses; losses_kept.py, losses_money.py), operate.py (config, backup, restore), supply.py (supply), terms.py (terms).

Bad input ends with one clear sentence on standard error and exit code 2.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

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
    terms,
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
    "terms",
    "town",
]

INTERRUPTED = 130
USAGE_ERROR: type[Exception] = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""What Typer raises for a word that it does not understand; it carries its own copy of the class."""


def main() -> None:
    """The console script: runs the command, turns our errors and wrong words into one sentence and exit code 2."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("openami").setLevel(logging.INFO)  # of libraries only what warns: their every request and step is nobody's business
    terminated = leaving = False

    def terminate(signum: int, frame: object) -> None:
        """SIGTERM ends as Ctrl-C does, so that what is being built is cleared away; who is leaving already is left in peace."""
        nonlocal terminated
        if not leaving:
            terminated = True
            os.kill(os.getpid(), signal.SIGINT)

    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell script starts what it puts into the background so; SIGTERM, which goes by way of SIGINT, would then end nothing.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminate)
        code = _carry_out()
        leaving = True
    except KeyboardInterrupt:
        code, leaving = INTERRUPTED, True
    if terminated or code == INTERRUPTED:
        _say("stopped; nothing was half-written")
        code = 143 if terminated else INTERRUPTED
        # An interruption of code made from text (dataclasses make theirs so) is remembered by Python, which then dies of SIGINT whatever code
        # it was given; the next such code makes it forget.
        eval("None")  # noqa: S307
    sys.exit(code)


def _carry_out() -> int:
    """Runs the command; its exit code."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except OpenAMIError as error:
        _say(str(error))
        return 2
    except USAGE_ERROR as error:
        said = getattr(error, "format_message", error.__str__)()
        _say(f"{' '.join(said.split())} (openami --help shows what there is)")
        return 2
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0  # Ctrl-C's exit code too is given back as a command's own


def _say(sentence: str) -> None:
    if "openami.operate.logs" in sys.modules and sys.modules["openami.operate.logs"].is_json():
        logging.getLogger("openami").critical(sentence)
    else:
        print(f"openami: {sentence}", file=sys.stderr)
