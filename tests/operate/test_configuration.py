"""What is wrong with settings is found, all at once, each with its line and a way out; no secret is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from day.sites import make_town
from openami.demo.run import found
from openami.operate.configuration import Finding, check
from openami.store.deployment import FILE, Folder


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Folder(tmp_path_factory.mktemp("config") / "data")
    found(folder, make_town(days=1))
    return folder.root


@pytest.fixture
def folder(tmp_path: Path, founded: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    import shutil

    monkeypatch.delenv("OPENAMI_MASTER_KEY", raising=False)
    return Folder(Path(shutil.copytree(founded, tmp_path / "data")))


def add(folder: Folder, *lines: str) -> int:
    """Lines behind the settings; gives the number of the first."""
    path = folder.root / FILE
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    return text.count("\n") + 1


def change(folder: Folder, old: str, new: str) -> None:
    path = folder.root / FILE
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def only(folder: Folder) -> Finding:
    (one,) = check(folder)
    return one


def test_settings_that_are_right_have_no_finding(folder: Folder) -> None:
    assert check(folder, reach=True) == []


@pytest.mark.parametrize(
    ("line", "key", "why", "way_out"),
    [
        ('jurnal = "x"', "jurnal", "no such setting", "did you mean journal?"),
        ('journal = "http://h/x"', "journal", "nats://host:4222", "mend it"),
        ('journal = "nats://h/x?replicas=2"', "journal", "replicas are 1, 3 or 5", "mend it"),
        ('database = "mysql://h/x"', "database", "not known", "postgresql+psycopg"),
        ('database = "postgresql://u:geheim@h/x"', "database", "holds a password", "env:NAME"),
        ('database = "env:NOT_SET_HERE"', "database", "NOT_SET_HERE, which is not set", "set it"),
        ('database = "file:/not/there"', "database", "cannot be read", "mend the path"),
        ('lake = "ftp://x"', "lake", "no address of an object store", "s3://bucket/prefix"),
        ("lake = 5", "lake", "is not str", "quotes"),
        ('lake = ""', "lake", "is empty", "left out"),
        ('journal = ""', "journal", "is empty", "left out"),
        ('journal = "nats://h:99999/x"', "journal", "no port", "host:4222"),
        ('lake = "s3://bucket"\nlake_endpoint = "https://h:99999"', "lake_endpoint", "no address of an object store", "https://host:port"),
        ("refused_percent = -1", "refused_percent", "below zero", "leave it out"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_a_way_out(folder: Folder, line: str, key: str, why: str, way_out: str) -> None:
    number = add(folder, line) + line.count("\n")
    one = only(folder)
    assert (one.line, one.key, one.serious) == (number, key, True)
    assert why in one.why
    assert way_out in one.way_out
    assert "geheim" not in str(one)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("interval_minutes = 15", "interval_minutes = 7", "interval_minutes"),
        ("days = 1", "days = 0", "days"),
        ('"Asia/Kolkata"', '"Asia/Patna"', "zone"),
        ("format = 2", "format = 99", "format"),
        ("first_day = 2025-12-01", "first_day = 2025-12-01T00:00:00", "first_day"),
    ],
)
def test_values_that_cannot_be_are_named(folder: Folder, old: str, new: str, key: str) -> None:
    change(folder, old, new)
    assert (only(folder).key, only(folder).serious) == (key, True)


def test_everything_is_said_at_once_and_what_keeps_it_from_running_first(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAMI_DATABSE", "x")
    change(folder, "days = 1", "days = 0")
    add(folder, 'jurnal = "x"', 'lake_secret_key = "AKIAEXAMPLE"')
    told = check(folder)
    assert {one.key for one in told if one.serious} == {"days", "jurnal", "lake_secret_key"}
    assert [one.serious for one in told] == sorted((one.serious for one in told), reverse=True)
    assert any(one.key == "OPENAMI_DATABSE" and one.way_out == "did you mean OPENAMI_DATABASE?" for one in told)
    assert not any("AKIAEXAMPLE" in str(one) for one in told)


def test_a_file_that_is_no_toml_is_named_by_its_line(folder: Folder) -> None:
    number = add(folder, "x = = 3")
    assert (only(folder).line, "not TOML" in only(folder).why) == (number, True)


def test_a_master_key_that_others_may_read_is_said(folder: Folder) -> None:
    folder.master_key.chmod(0o644)
    assert ("mode 644" in only(folder).why, f"chmod 600 {folder.master_key}" in only(folder).way_out) == (True, True)


def test_a_master_key_that_is_not_there_is_said(folder: Folder) -> None:
    folder.master_key.unlink()
    assert "no master key" in only(folder).why


def test_a_place_from_the_environment_is_used_and_blamed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAMI_LAKE", "s3://bucket/prefix")
    assert folder.load().lake == "s3://bucket/prefix"
    assert check(folder) == []
    monkeypatch.setenv("OPENAMI_LAKE", "gs://bucket")
    assert (only(folder).file, only(folder).key) == ("environment", "OPENAMI_LAKE")


def test_a_secret_from_the_environment_stays_a_reference(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAMI_LAKE_SECRET_KEY", "geheim")
    assert folder.load().lake_secret_key == "env:OPENAMI_LAKE_SECRET_KEY"


def test_files_beside_are_checked_too(folder: Folder) -> None:
    (folder.root / "sign_in.toml").write_text('colour = "red"\n', encoding="utf-8")
    (folder.root / "payments.toml").write_text('[demo]\nsecrets = ["geheim"]\n', encoding="utf-8")
    told = check(folder)
    assert {Path(one.file).name for one in told} == {"sign_in.toml", "payments.toml"}
    assert not any("geheim" in str(one) for one in told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAMI_WATCH", "everywhere"),
        ("OPENAMI_LOG", "xml"),
        ("OPENAMI_TRACES", "collector:4318"),
        ("OPENAMI_NATS_CA", "/not/there.pem"),
    ],
)
def test_a_variable_that_cannot_be_used_is_blamed(folder: Folder, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert (only(folder).file, only(folder).key, only(folder).serious) == ("environment", name, True)
    monkeypatch.setenv(name, "")
    assert check(folder) == []


def test_a_database_that_does_not_answer_is_said_where_it_is_asked_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HERE", "postgresql://nobody@127.0.0.1:1/none")
    add(folder, 'database = "env:DB_HERE"')
    assert check(folder) == []
    (one,) = check(folder, reach=True)
    assert (one.key, "cannot be used" in one.why) == ("database", True)
