"""The meter's proof on paper: a PDF in the reader's language, laid out by Typst from `web/paper/statement.typ` with the fonts beside it.

What always holds: Devanagari is shaped, not strung together; the file is archival and tagged for readers of the screen (PDF/A-3a, PDF/UA-1); the
signed statement is attached to it, and printed as a code, so that also the sheet of paper can be checked. Nothing is fetched from anywhere.
"""

from __future__ import annotations

import io
import json
import threading
from datetime import datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segno

from ...store.heard import RegisterReading
from ..townbook import StatedDay
from ..wording import Language, marked

if TYPE_CHECKING:
    from .proof import Held, Proof

DAYS_MOST = 100
"""A quarter and some days are told one by one; of a longer time the registers alone, for as many years as there are."""
AGREE_WH = 1000
"""A register counts whole units on many displays: up to one unit the two counts agree."""
NOT_READ = (
    "A midnight register was not read, so the meter's own count of these days cannot be shown. You can compare the display of your meter."
)
MORE_DAYS = "More than %(days)s days: here is what the meter counted. What was taken is proved for up to %(days)s days at once."
STANDARDS: list[Any] = ["a-3a", "ua-1"]
_one_at_a_time = threading.Lock()


def on_paper(words: Language, account: str, proof: Proof, meters: list[Held], signed: str, issuer: str, made: datetime) -> bytes:
    """The PDF. signed: the statement as a JWS; issuer: our public address; made: now, in the deployment's zone."""
    told = {
        "lang": words.code,
        "title": words.say("What your meter showed"),
        "issuer": "OpenAMI",
        "about": " · ".join([words.say("Account %(number)s", number=account), _span(words, proof)]),
        "footer": " · ".join([words.say("Account %(number)s", number=account), words.say("made %(moment)s", moment=words.instant(made))]),
        "lines": _lines(words, proof),
        "sentences": _sentences(words, proof),
        **_days(words, proof),
        **_meters(words, meters),
        **_signature(words, signed, issuer),
    }
    with _one_at_a_time:
        made_of: bytes = _compiler().compile(
            sys_inputs={"paper": json.dumps(told)}, pdf_standards=STANDARDS, timestamp=int(made.timestamp()), format="pdf"
        )
    return made_of


@lru_cache(maxsize=1)
def _compiler() -> Any:
    """Typst over the folder of paper alone: it reads no other file, and has no other font."""
    import typst

    folder = Path(str(resources.files("openami.web").joinpath("paper")))
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])
    return typst.Compiler(folder / "statement.typ", root=folder, font_paths=fonts, ignore_system_fonts=True)


def _span(words: Language, proof: Proof) -> str:
    return words.day(proof.first) if proof.first == proof.last else f"{words.day(proof.first)} – {words.day(proof.last)}"


def _register(words: Language, one: RegisterReading | None) -> str:
    return words.say("not read") if one is None or one.import_wh is None else words.kwh(one.import_wh, 3)


def _lines(words: Language, proof: Proof) -> list[dict[str, Any]]:
    estimated = words.say("of which estimated: %(units)s units", units=words.number(proof.estimated_wh / 1000, 2))
    rows = [
        (words.say("Meter"), "", proof.meter, False),
        (words.say("Register at the start"), f"{words.day(proof.first)}, 00:00", _register(words, proof.start), False),
        (words.say("Register at the end"), f"{words.day(proof.last)}, 24:00", _register(words, proof.end), False),
        (words.say("The meter counted"), "", words.kwh(proof.grown_wh, 3), True),
    ]
    if not proof.registers_only:
        taken = (words.say("Taken for these days"), "", words.rupees(proof.charge_paise), True)
        charged = (words.say("You were charged for"), estimated if proof.estimated_wh else "", words.kwh(proof.charged_wh, 3), True)
        rows = [taken, *rows, charged]
    return [{"label": label, "note": note, "value": value, "strong": strong} for label, note, value, strong in rows]


def _sentences(words: Language, proof: Proof) -> list[str]:
    if proof.registers_only or proof.grown_wh is None or proof.charged_wh is None:
        more = [words.say(MORE_DAYS, days=DAYS_MOST)] if proof.registers_only else []
        return more + ([words.say(NOT_READ)] if proof.grown_wh is None else [])
    apart = abs(proof.grown_wh - proof.charged_wh)
    if apart <= AGREE_WH:
        return [words.say("Both agree.")]
    return [words.say("They differ by %(units)s units. If you think this is wrong, dispute it.", units=words.number(apart / 1000, 3))]


def _days(words: Language, proof: Proof) -> dict[str, Any]:
    def row(one: StatedDay) -> list[str]:
        paid = one.recharged_paise
        units = words.say("unknown") if one.wh is None else words.number(one.wh / 1000, 2) + ("~" if one.estimated_wh else "")
        return [
            words.day(one.day),
            words.rupees(one.taken_paise),
            f"+{words.rupees(paid)}" if paid else "",
            words.rupees(one.closing_paise),
            units,
        ]

    whole = "" if proof.charged_wh is None else words.number(proof.charged_wh / 1000, 2)
    paid = sum(one.recharged_paise for one in proof.statements)
    return {
        "days_title": words.say("Day by day"),
        "days_head": [
            words.say(word) for word in (marked("Day"), marked("Taken"), marked("Paid in"), marked("Balance after"), marked("Units"))
        ],
        "days": [row(one) for one in proof.statements],
        "days_sum": [words.say("Together"), words.rupees(proof.charge_paise), f"+{words.rupees(paid)}" if paid else "", "", whole],
        "days_note": f"~ {words.say('partly estimated')}" if proof.estimated_wh else "",
    }


def _meters(words: Language, meters: list[Held]) -> dict[str, Any]:
    shown = meters if len(meters) > 1 else []
    rows = [
        [
            f"{one.meter}, {words.day(one.since)} – {words.day(one.until) if one.until else words.say('today')}",
            _register(words, one.first),
            _register(words, one.last) if one.until else "",
        ]
        for one in shown
    ]
    return {
        "meters_title": words.say("From the old meter to the new one"),
        "meters_head": [words.say("Meter"), words.say("First count"), words.say("Last count")],
        "meters": rows,
    }


def _signature(words: Language, signed: str, issuer: str) -> dict[str, Any]:
    code = io.BytesIO()
    segno.make(signed, error="l", micro=False).save(code, kind="svg", border=2, xmldecl=False)
    return {
        "jws": signed,
        "code": code.getvalue().decode(),
        "code_alt": words.say("The signed statement as a QR code"),
        "signature_title": words.say("Signature"),
        "signature_text": words.say(
            "The figures above are signed. The signed statement is attached to this file, and is the code beside: a program that reads JWS can check "
            "it with our public keys, also from paper."
        ),
        "signature_words": [f"{issuer}/oauth/jwks"],
    }
