"""Files that people write beside the data: what a spreadsheet makes of them is read, what cannot be meant is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from openami.day.written import read_written
from openami.errors import InputError

FORM = "node,kwh as DT-1,12.5"


def read(path: Path, octets: bytes) -> tuple[tuple[str, float], ...]:
    path.write_bytes(octets)
    return read_written(path, lambda row: (row["node"], float(row["kwh"])), FORM)


@pytest.mark.parametrize(
    "octets",
    [
        b"node,kwh\nDT-1,1.5\n",
        b"\xef\xbb\xbfnode,kwh\r\nDT-1,1.5\r\n",
        b"kwh,remark,node\n1.5,new, DT-1 \n",
        b"node,kwh\n\nDT-1,1.5,more,fields\n",
        b"node, kwh\nDT-1, 1.5\n",
    ],
    ids=["plain", "a spreadsheet's", "other order", "more than asked", "spaces after commas"],
)
def test_what_can_be_meant_is_read(tmp_path: Path, octets: bytes) -> None:
    assert read(tmp_path / "a.csv", octets) == (("DT-1", 1.5),)


@pytest.mark.parametrize("octets", [b"", b"node,kwh\n"], ids=["empty", "only a head"])
def test_a_file_without_rows_says_nothing(tmp_path: Path, octets: bytes) -> None:
    assert read(tmp_path / "a.csv", octets) == ()
    assert read_written(tmp_path / "none.csv", dict, FORM) == ()


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"DT-1,1.5\n", r"a\.csv: its first line names no column 'node'; give node,kwh as"),
        (b"node,kWh\nDT-1,1.5\n", r"a\.csv: its first line names no column 'kwh'; give node,kwh as"),
        (b"node,kwh\nDT-1,1\nDT-2,many\n", r"a\.csv, line 3: could not convert"),
        (b"node,kwh\nDT-1\n", r"a\.csv, line 2: "),
        (b'node,kwh\n"DT-1,1\n', r"a\.csv, line 1: unexpected end of data"),
        ("node,kwh\nDT-1,1\n".encode("utf-16"), r"a\.csv: this is no text in UTF-8"),
        (b"node,kwh\nDT-1,1\n\xff,2\n", r"a\.csv: this is no text in UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_line(tmp_path: Path, octets: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.csv", octets)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_written(tmp_path, dict, FORM)
