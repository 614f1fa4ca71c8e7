"""A `Grid` from OpenDSS text: one Vsource, lines by line code or by their own sequence impedances, two-winding transformers, loads, shapes.

In: the files' texts by name. Out: `Circuit`: the grid, and each load's rated power, power factor and shape. No file is opened here.

What always holds: a command or an element that would change the flow and is not understood is refused by name (`InputError`); what only shows
results (monitors, meters, plots, coordinates) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .grid import THREE_PHASE, Grid, Loads, Transformers, Wires
from .network import Float64

PASSED_OVER = {
    "set",
    "clear",
    "calcvoltagebases",
    "calcv",
    "solve",
    "buscoords",
    "plot",
    "show",
    "export",
    "batchedit",
    "closedi",
    "compile",
}
SILENT = {"monitor", "energymeter"}
METRES = {"m": 1.0, "km": 1e3, "ft": 0.3048, "kft": 304.8, "mi": 1609.344, "cm": 0.01, "in": 0.0254, "none": 1.0}
HOLDS = re.compile(r"""([\w%]+)\s*=\s*(\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|"[^"]*"|'[^']*'|[^\s,=]+)""")
U_MAX_PU = 1.05
"""OpenDSS's own default of a load's Vmaxpu."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """grid; kw, power_factor: float64 [load], rated; shape: the load's shape by name, '' = none; shapes: multipliers by name."""

    grid: Grid
    kw: Float64
    power_factor: Float64
    shape: tuple[str, ...]
    shapes: dict[str, Float64]

    def power(self) -> tuple[Float64, Float64]:
        """p [W] and q [var], float64 [slot, load], as the shapes say. InputError where a load's shape is not there or of another length."""
        missing = sorted({name for name in self.shape if name not in self.shapes})
        if missing:
            raise InputError(f"loads use the shapes {', '.join(missing[:5])}, which are not in the files; add them")
        lengths = {self.shapes[name].size for name in self.shape}
        if len(lengths) != 1:
            raise InputError(f"the loads' shapes have {sorted(lengths)} points; give one length")
        p = np.stack([self.shapes[name] for name in self.shape], axis=1) * self.kw * 1e3
        return p, p * np.tan(np.arccos(np.abs(self.power_factor))) * np.sign(self.power_factor)


@dataclass(slots=True)
class _Read:
    """Elements by class and name, with their properties, as the commands left them."""

    elements: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, dict[str, str]]:
        return self.elements.setdefault(kind, {})


def read_opendss(texts: Mapping[str, str], master: str) -> Circuit:
    """texts: file name (as commands write it, / between folders, any case) -> text; master: the file to begin with."""
    files = {_plain(name): text for name, text in texts.items()}
    read = _Read()
    _run(files, _plain(master), read, depth=0)
    return _circuit(files, _plain(master).rpartition("/")[0], read)


def _plain(name: str) -> str:
    return name.strip("\"'()[] ").replace("\\", "/").removeprefix("./").lower()


def _run(files: Mapping[str, str], name: str, read: _Read, depth: int) -> None:
    if name not in files:
        raise InputError(f"the OpenDSS files lack {name}; add it")
    if depth > 10:
        raise InputError(f"{name} redirects to itself; mend its Redirect")
    last: dict[str, str] = {}
    for number, raw in enumerate(files[name].splitlines(), 1):
        line = re.split(r"!|//", raw, maxsplit=1)[0].strip()
        if not line:
            continue
        verb, _, rest = line.partition(" ")
        verb = verb.lower()
        if verb in ("redirect", "compile"):
            folder = name.rpartition("/")[0]
            _run(files, f"{folder}/{_plain(rest)}" if folder else _plain(rest), read, depth + 1)
        elif verb in ("~", "more"):
            last.update(_properties(rest))
        elif verb in ("new", "edit"):
            last = _element(rest, read, f"{name}, line {number}")
        elif verb not in PASSED_OVER:
            raise InputError(
                f"{name}, line {number}: {verb!r} is a command that is not understood; take it out or write New, Edit, Redirect"
            )


def _element(rest: str, read: _Read, where: str) -> dict[str, str]:
    head, _, tail = rest.strip().removeprefix("object=").partition(" ")
    kind, dot, name = head.strip("\"'").lower().partition(".")
    if not dot:
        raise InputError(f"{where}: {head!r} is no element; write Class.Name")
    own = read.of(kind).setdefault(name, {})
    own.update(_properties(tail))
    return own


def _properties(text: str) -> dict[str, str]:
    return {key.lower(): value for key, value in HOLDS.findall(text)}


def _numbers(value: str) -> list[float]:
    return [float(part) for part in re.split(r"[\s,]+", value.strip("[](){}\"' ")) if part]


def _words(value: str) -> list[str]:
    return [part.lower() for part in re.split(r"[\s,]+", value.strip("[](){}\"' ")) if part]


def _number(element: dict[str, str], key: str, otherwise: float, who: str) -> float:
    if key not in element:
        return otherwise
    try:
        return _numbers(element[key])[0]
    except (ValueError, IndexError):
        raise InputError(f"{who}: {key}={element[key]} is no number; mend it") from None


def _circuit(files: Mapping[str, str], folder: str, read: _Read) -> Circuit:
    known = {"circuit", "vsource", "linecode", "line", "loadshape", "load", "transformer"} | SILENT
    for kind in read.elements:
        if kind not in known:
            raise InputError(
                f"the circuit has elements of class {kind}, which is not read; replace or take out {', '.join(read.of(kind))[:80]}"
            )
    buses: dict[str, int] = {}

    def bus(text: str) -> int:
        return buses.setdefault(text.strip("\"' ").lower().partition(".")[0], len(buses))

    source = {**next(iter(read.of("circuit").values()), {}), **read.of("vsource").get("source", {})}
    source_bus = bus(source.get("bus1", "sourcebus"))
    transformers = _transformers(read, bus)
    wires = _wires(read, bus)
    loads, kw, power_factor, shape = _loads(read, bus)
    base_v = _number(source, "basekv", 115.0, "Vsource.source") * 1e3
    current = _number(source, "isc3", 10_000.0, "Vsource.source")
    grid = Grid(
        buses=tuple(buses),
        bus_v=_voltages(len(buses), source_bus, base_v, wires, transformers),
        wires=wires,
        transformers=transformers,
        loads=loads,
        source_bus=source_bus,
        source_pu=_number(source, "pu", 1.0, "Vsource.source"),
        source_sk=3**0.5 * base_v * current,
        source_rx=1 / _number(source, "x1r1", 4.0, "Vsource.source"),
    )
    return Circuit(grid, kw, power_factor, shape, _shapes(files, folder, read))


def _voltages(count: int, start: int, base_v: float, wires: Wires, transformers: Transformers) -> Float64:
    """Rated voltage of every bus, from the infeed outwards."""
    volts = np.zeros(count)
    volts[start] = base_v
    edges = [(a, b, 0.0, 0.0) for a, b in zip(wires.from_bus.tolist(), wires.to_bus.tolist(), strict=True)]
    edges += list(zip(transformers.from_bus.tolist(), transformers.to_bus.tolist(), transformers.u1, transformers.u2, strict=True))
    following: dict[int, list[tuple[int, float]]] = {}
    for a, b, u1, u2 in edges:
        following.setdefault(a, []).append((b, u2))
        following.setdefault(b, []).append((a, u1))
    open_ends = [start]
    while open_ends:
        here = open_ends.pop()
        for there, u in following.get(here, []):
            if volts[there] == 0.0:
                volts[there] = u or volts[here]
                open_ends.append(there)
    if (volts == 0.0).any():
        raise InputError(f"{int((volts == 0).sum())} buses are not joined to the infeed; join them or take them out")
    return volts


def _wires(read: _Read, bus: Callable[[str], int]) -> Wires:
    rows = []
    codes = read.of("linecode")
    for name, line in read.of("line").items():
        who = f"Line.{name}"
        for refused in ("geometry", "spacing", "wires", "rmatrix"):
            if refused in line:
                raise InputError(f"{who} is given by {refused}, which is not read; give R1, X1, R0, X0")
        code = codes.get(line.get("linecode", "").lower(), {})
        if "linecode" in line and not code:
            raise InputError(f"{who} uses line code {line['linecode']}, which is not there; add it")
        unit = METRES.get(line.get("units", code.get("units", "none")).lower(), 1.0)
        per = METRES.get(code.get("units", line.get("units", "none")).lower(), 1.0) if code else unit
        length = _number(line, "length", 1.0, who) * unit / per
        both = {**code, **line}
        values = [_number(both, key, 0.0, who) * length for key in ("r1", "x1", "c1", "r0", "x0", "c0")]
        rows.append((bus(line["bus1"]), bus(line["bus2"]), *values))
    a = np.array(rows, np.float64).reshape(-1, 8)
    r1, x1, c1, r0, x0, c0 = a[:, 2:].T
    return Wires(a[:, 0].astype(np.int32), a[:, 1].astype(np.int32), r1, x1, c1 * 1e-9, r0, x0, c0 * 1e-9)


def _transformers(read: _Read, bus: Callable[[str], int]) -> Transformers:
    rows, delta = [], []
    for name, t in read.of("transformer").items():
        who = f"Transformer.{name}"
        ends, volts = _words(t.get("buses", "")), _numbers(t.get("kvs", ""))
        if len(ends) != 2 or len(volts) != 2:
            raise InputError(f"{who} does not have two windings as Buses=[a b] kVs=[x y]; only such are read")
        sn = _numbers(t["kvas"])[0] * 1e3 if "kvas" in t else _number(t, "kva", 1000.0, who) * 1e3
        resistance = sum(_numbers(t["%rs"])) if "%rs" in t else 2 * _number(t, "%r", 0.2, who)
        resistance = _number(t, "%loadloss", resistance, who)
        uk = np.hypot(_number(t, "xhl", 7.0, who), resistance) / 100
        p0 = _number(t, "%noloadloss", 0.0, who) / 100 * sn
        i0 = max(np.hypot(_number(t, "%imag", 0.0, who), _number(t, "%noloadloss", 0.0, who)) / 100, 0.0)
        rows.append((bus(ends[0]), bus(ends[1]), volts[0] * 1e3, volts[1] * 1e3, sn, uk, resistance / 100 * sn, i0, p0))
        delta.append(_words(t.get("conns", "wye wye"))[0].startswith(("d", "l")))
    a = np.array(rows, np.float64).reshape(-1, 9)
    is_delta = np.array(delta, np.bool_)
    u1, u2, sn, uk, pk, i0, p0 = a[:, 2:].T
    clock = np.where(is_delta, 1, 0).astype(np.int32)
    return Transformers(a[:, 0].astype(np.int32), a[:, 1].astype(np.int32), u1, u2, sn, uk, pk, i0, p0, is_delta, clock)


def _loads(read: _Read, bus: Callable[[str], int]) -> tuple[Loads, Float64, Float64, tuple[str, ...]]:
    rows, names, shape = [], [], []
    for name, load in read.of("load").items():
        who = f"Load.{name}"
        phases = int(_number(load, "phases", 3, who))
        place, *nodes = load["bus1"].strip("\"' ").lower().split(".")
        if phases == 1 and len(nodes) > 1 and nodes[1] != "0":
            raise InputError(f"{who} is between two phases ({load['bus1']}), which is not read; put it between a phase and neutral")
        if phases not in (1, 3) or _number(load, "model", 1, who) != 1:
            raise InputError(f"{who} has {phases} phases and model {load.get('model', 1)}; only 1 or 3 phases of model 1 are read")
        phase = int(nodes[0]) - 1 if phases == 1 and nodes else (0 if phases == 1 else THREE_PHASE)
        volts = _number(load, "kv", 12.47, who) * 1e3 / (1 if phases == 1 else 3**0.5)
        rows.append(
            (
                bus(place),
                phase,
                volts * _number(load, "vmaxpu", U_MAX_PU, who),
                _number(load, "kw", 10.0, who),
                _number(load, "pf", 0.88, who),
            )
        )
        names.append(name)
        shape.append(load.get("yearly", load.get("daily", "")).lower())
    a = np.array(rows, np.float64).reshape(-1, 5)
    return Loads(tuple(names), a[:, 0].astype(np.int32), a[:, 1].astype(np.int32), a[:, 2]), a[:, 3], a[:, 4], tuple(shape)


def _shapes(files: Mapping[str, str], folder: str, read: _Read) -> dict[str, Float64]:
    shapes = {}
    for name, shape in read.of("loadshape").items():
        text = shape.get("mult", "")
        named = re.search(r"file\s*=\s*([^)\]]+)", text, re.IGNORECASE)
        if named:
            wanted = _plain(named[1])
            wanted = f"{folder}/{wanted}" if folder else wanted
            if wanted not in files:
                continue  # a shape that no load uses may lack its file; one that is used is refused in `Circuit.power`
            text = files[wanted]
        shapes[name] = np.array(_numbers(text), np.float64)
    return shapes
