"""What pages may be asked with: the bounds of each kind of parameter and form field, in one place.

What always holds: nothing that is asked for holds a NUL character, which no database takes; a text has an end. What is out of bounds is told in a
sentence (`failures`) before a route runs.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from fastapi import Form, Query
from pydantic import BeforeValidator

from .api.words import CURSOR

READ = ["GET", "HEAD"]
PLAIN = r"^[^\x00]*$"


def in_latin_figures(given: object) -> object:
    """१२ is 12, as figures of every script are."""
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in given) if isinstance(given, str) else given


def letters(text: str) -> int:
    """How many letters of a text can be seen: no spaces, nothing of no width."""
    return sum(not c.isspace() and unicodedata.category(c)[0] != "C" for c in text)


LatinFigures = BeforeValidator(in_latin_figures)
Lang = Annotated[str, Query(pattern=r"^(en|hi)?$")]
Day = Annotated[str, LatinFigures, Query(max_length=10, pattern=PLAIN)]
Choice = Annotated[str, LatinFigures, Query(max_length=40, pattern=PLAIN)]
"""A word to choose by: the beginning of a serial, a state, a kind."""
Words = Annotated[str, Query(max_length=100, pattern=PLAIN)]
Cursor = Annotated[str | None, Query(pattern=CURSOR)]
Given = Annotated[str, Form(max_length=300, pattern=PLAIN)]
"""A field of a form."""
Figures = Annotated[str, LatinFigures, Form(max_length=300, pattern=PLAIN)]
"""A field in which figures are given: a number, a day, a phone, a code."""
SHORTEST_REASON = 5
"""Of what is done to somebody: it stands in the audit trail."""
