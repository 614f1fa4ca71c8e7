"""The consoles: what a town's day looks like to the control room and to a consumer; server-drawn, readable without JavaScript.

    townbook.py   what the pages ask, and the answers' shape (`TownReader`)
    app.py        routes: parameters checked, answers asked, pages filled, safe headers
    pages.py      a template filled in the reader's language; what went wrong, in words
    charts.py     curves and bars as SVG, pure functions
    tables.py     the same as CSV
    reader.py     the answers from a data folder, also when it is replaced (`LakeTown`)
    opened.py     the answers from one such folder as it was opened
    closed_days.py  closed days in memory, read once a version
    wording.py    English and Hindi: sentences, numbers, dates, quality and check names

What always holds: pages only read; what is unknown is shown as unknown; a loss is never shown without its coverage.
"""

from .app import create_app
from .townbook import TownReader

__all__ = ["TownReader", "create_app"]
