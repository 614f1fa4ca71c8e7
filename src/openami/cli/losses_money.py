"""`openami losses atc` and `openami losses quarter`: energy against money, by feeder, division and in all."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..day.site import Site
    from ..losses.atc import Atc


def atc_by_feeder(site: Site, span: list[date], as_json: bool) -> None:
    """AT&C loss over the days, by the method of their financial year."""
    from ..day.sold import feeder_books
    from ..losses.atc import atc, method_of, together

    books = feeder_books(site, span)
    method = method_of(span[-1].year - (span[-1].month < 4))
    divisions = sorted({f.division for f in books})
    entities = [("feeder", f.feeder, f.books) for f in books]
    entities += [("division", d, together(f.books for f in books if f.division == d)) for d in divisions]
    entities.append(("all", "all", together(f.books for f in books)))
    if not as_json:
        print(
            f"{'':20s}{'in kWh':>12s}{'sold kWh':>12s}{'billed':>9s}{'collected':>11s}{'AT&C %':>9s}{'90 % interval':>20s}{'metered':>9s}"
        )
    for level, name, own in entities:
        found = atc(own, method)
        print(json.dumps({"level": level, "name": name, **asdict(found)}, ensure_ascii=False) if as_json else _line(name, found))
    if not as_json:
        print(f"by {method.name}; debtors below zero are advances. {span[0]} to {span[-1]}")


def _line(name: str, found: Atc) -> str:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    interval = "unknown" if found.low is None or found.high is None else f"{found.low:.1f} to {found.high:.1f}"
    percent = "-" if found.percent is None else f"{found.percent:.1f}"
    line = (
        f"{name:20s}{found.input_kwh:12,}{found.sold_kwh:12,}{share(found.billing_efficiency):>9s}{share(found.collection_efficiency):>11s}"
        f"{percent:>9s}{interval:>20s}{share(found.coverage):>9s}"
    )
    return "".join([line, *(f"\n  ! {doubt}" for doubt in found.doubts)])


def quarter(site: Site, words: list[str], discom: str, out: Path | None) -> None:
    """The quarterly energy account as CSV: a file, or without `out` the terminal, where what is said about it goes to standard error."""
    from ..day.sold import feeder_books
    from ..losses.atc import method_of
    from ..losses.quarterly import Quarter, quarterly_account

    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise InputError("write the year in which the financial year begins and the quarter: openami losses quarter 2025 3")
    asked = Quarter(int(words[0]), int(words[1]))
    days = [day for day in site.lake.days("validated") if asked.first <= day <= asked.last]
    if not days:
        raise InputError(f"no day of {asked} ({asked.first} to {asked.last}) is closed")
    text = quarterly_account(discom, asked, feeder_books(site, days), method_of(asked.year))
    said = f"{asked}, {len(days)} of its {(asked.last - asked.first).days + 1} days are closed; due on {asked.due}"
    if out is None:
        typer.echo(text, nl=False)
        typer.echo(said, err=True)
        return
    try:
        out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); name another file with --out") from error
    print(f"{out}: {said}")
