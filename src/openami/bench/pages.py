"""How the pages of results are written: tables, the names of checks, a score in a cell, files in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..errors import StorageError
from ..readings import Quality
from .masking import Score


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table."""
    columns = list(head)
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in rows)]


def check_name(check: Quality) -> str:
    """A check as a reader calls it."""
    return str(check.name).lower().replace("_", " ")


def score_cell(score: Score) -> str:
    """Error and, in brackets, bias of the energy; "cannot" where nothing was estimated."""
    if not score.filled:
        return "cannot"
    return f"{score.mae_wh:.0f} Wh ({'0' if score.bias == 0 else f'{100 * score.bias:+.1f} %'})"


def write_pages(folder: Path, make: Callable[[], Mapping[str, str]]) -> list[Path]:
    """Make the texts and write each below its name; gives their paths. StorageError where the folder cannot be had, before anything is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pages = make()
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the report cannot be written into {folder} ({os.strerror(error.errno or 0)}); give a writable folder"
        ) from error
    return [folder / name for name in pages]
