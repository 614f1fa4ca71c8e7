"""The settings of a data folder: they come back as they were saved; what cannot be used is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import DataError
from openami.store.deployment import FILE, Deployment, Folder

PLAIN = Deployment("Town", "Asia/Kolkata", 15, date(2025, 12, 1), 3, "bihar", "4f414d0000505553", 1)


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=30), seed=st.none() | st.integers(0, 2**63 - 1))
def test_saved_settings_come_back(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int | None) -> None:
    folder = Folder(tmp_path_factory.mktemp("data"))
    folder.save(replace(PLAIN, name=name, seed=seed))
    assert folder.load() == replace(PLAIN, name=name, seed=seed)


def test_open_days_are_days_from_the_first() -> None:
    assert replace(PLAIN, first_day=date(2026, 2, 28), days=2).open_days == [date(2026, 2, 28), date(2026, 3, 1)]


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text("a file"), lambda p: p.mkdir()])
def test_a_place_without_settings_is_no_data_folder(tmp_path: Path, make: object) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(DataError, match="no OpenAMI data in"):
        Folder(tmp_path / "data").load()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("first_day", "cannot be read"),
        ("first_day = 2025-13-01", "cannot be read"),
        ('first_day = "2025-12-01"', "is not date"),
        ("first_day = 2025-12-01T00:00:00", "is not date"),
        ("days = 0", "days = 0"),
        ("days = -3", "days = -3"),
        ("days = 99999999", "days = 99999999"),
        ("days = true", "is not int"),
        ('days = "3"', "is not int"),
        ("interval_minutes = 7", "does not divide a day"),
        ("interval_minutes = 0", "does not divide a day"),
        ('zone = "Asia/Patna"', "time zone's name"),
        ('zone = "../etc/passwd"', "time zone's name"),
        ("zone = 5", "is not str"),
        ("seed = 1.5", "is not int"),
        ("colour = 1", "colour"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, line: str, reason: str) -> None:
    folder = Folder(tmp_path)
    folder.save(PLAIN)
    own = line.split(" ")[0]
    kept = [x for x in (tmp_path / FILE).read_text().splitlines() if not x.startswith(own + " ")]
    (tmp_path / FILE).write_text("\n".join([*kept, line]))
    with pytest.raises(DataError, match=reason) as caught:
        folder.load()
    assert FILE in str(caught.value)


@pytest.mark.parametrize("octets", [b"\xff\xfe\x00", b"", b"name = 'half"])
def test_a_corrupt_file_is_named(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / FILE).write_bytes(octets)
    with pytest.raises(DataError, match=rf"{FILE} cannot be read"):
        Folder(tmp_path).load()


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(DataError, match=rf"{FILE} cannot be read"):
        Folder(tmp_path).load()
