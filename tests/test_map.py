"""The map of the house is true: docstring, folders, import layers and the list of dependencies agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import openami

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "openami"
ENTRY = re.compile(r"^ {4}(\w+(?:\.py|/)) +(word|kernel|shell|glue) +\S", re.MULTILINE)
NOT_ROOMS = {"__init__.py", "__main__.py"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def on_the_map() -> list[str]:
    return [name for name, _ in ENTRY.findall(openami.__doc__ or "")]


def in_the_house() -> set[str]:
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    return rooms | {path.name for path in PACKAGE.glob("*.py") if path.name not in NOT_ROOMS}


def test_every_room_is_on_the_map() -> None:
    assert in_the_house() - set(on_the_map()) == set()


def test_nothing_on_the_map_is_missing() -> None:
    assert set(on_the_map()) - in_the_house() == set()


def test_no_room_is_on_the_map_twice() -> None:
    assert len(on_the_map()) == len(set(on_the_map()))


def test_every_room_opens_with_a_docstring() -> None:
    mute = [name for name in in_the_house() if not _docstring(PACKAGE / name)]
    assert mute == []


def _docstring(path: Path) -> str:
    text = (path / "__init__.py" if path.is_dir() else path).read_text(encoding="utf-8")
    return text if text.lstrip().startswith('"""') else ""


@pytest.mark.parametrize("room", sorted(name for name in in_the_house() if name.endswith("/")))
def test_every_room_names_its_chapters(room: str) -> None:
    """A room's opening docstring names each of its modules, as `name.py`."""
    docstring = ast.get_docstring(ast.parse(_docstring(PACKAGE / room))) or ""
    chapters = {path.name for path in (PACKAGE / room).glob("*.py")} - NOT_ROOMS
    assert chapters - set(re.findall(r"\b\w+\.py\b", docstring)) == set()


def layers() -> list[str]:
    contract = PYPROJECT["tool"]["importlinter"]["contracts"][0]
    return [name.strip() for layer in contract["layers"] for name in layer.split("|")]


def test_every_room_has_its_layer() -> None:
    rooms = {name.removesuffix(".py").rstrip("/") for name in in_the_house()}
    assert rooms - set(layers()) == set()


def test_every_layer_is_a_room() -> None:
    rooms = {name.removesuffix(".py").rstrip("/") for name in in_the_house()}
    assert set(layers()) - rooms == set()


def test_layers_stand_in_the_order_of_the_docstring() -> None:
    """The docstring's sentence about imports names the same order, from the command line down to the errors."""
    sentence = re.search(r"Imports run one way: (.+?)\.\s*$", openami.__doc__ or "", re.DOTALL)
    assert sentence is not None
    named = [part.strip() for part in re.split(r"[>|]", sentence[1].replace("the kernels", "")) if part.strip()]
    contract = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    depth = {name.strip(): k for k, layer in enumerate(contract) for name in layer.split("|")}
    depths = [depth[name] for name in named]
    assert depths == sorted(depths)


def runtime_dependencies() -> list[str]:
    return [re.split(r"[<>=!~\[ ;]", requirement)[0] for requirement in PYPROJECT["project"]["dependencies"]]


@pytest.mark.parametrize("name", runtime_dependencies())
def test_every_runtime_dependency_is_accounted_for(name: str) -> None:
    """A line of docs/dependencies.md for each: what for, licence, what would replace it."""
    lines = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line, re.IGNORECASE)]
    assert any(len(line.split("|")) >= 5 or len(line) > 60 for line in own), f"docs/dependencies.md has no line for {name}"
