"""Files that people write beside a deployment's data, a line a row, under a line that names the columns: read whole, or refused by file and line.

What always holds: a file that is not there says nothing; UTF-8 with or without a byte order mark; a field that a line leaves out is empty, and
so is a column at the end that nobody wrote, but not one in whose place stands another name: that is a slip of the pen, and refused; what cannot be
read is an InputError that names file, line, what is wrong and what it should be.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import InputError

Item = TypeVar("Item")


def read_written(path: Path, make: Callable[[dict[str, str]], Item], form: str) -> tuple[Item, ...]:
    """What `make` makes of each row, in their order. make: raises ValueError where a row cannot be meant; form: columns and an example, as
    "node,kwh_per_day as DT-1,12.5"."""
    if not path.exists():
        return ()
    found, columns = [], form.split(" as ")[0].split(",")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, restval="", strict=True)
            try:
                head = columns if rows.fieldnames is None else [name.strip() for name in rows.fieldnames]
                rows.fieldnames = head
                absent = [name for name in columns if name not in head]
                if absent and (absent[0] == columns[0] or set(head) - set(columns)):
                    raise InputError(f"{path}: its first line names no column {absent[0]!r}; give {form}")
                for row in rows:
                    found.append(make({name: row.get(name, "").strip() for name in columns}))
            except (csv.Error, ValueError, OverflowError) as error:
                if isinstance(error, UnicodeDecodeError):
                    raise
                raise InputError(f"{path}, line {rows.line_num}: {error}; give {form}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is no text in UTF-8; give {form}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give {form}") from None
    return tuple(found)
