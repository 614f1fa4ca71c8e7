"""Technical loss by power flow: a low- or medium-voltage network and what its wires and transformers lose, slot by slot.

In: `Grid` (from `pandapower_grid`, `opendss` or by hand) and the loads' power. Out: `Flow`. The flow itself is power-grid-model's batch
calculation (the extra `grid`; MPL-2.0), symmetric where every load is three-phase, else with all three phases.

What always holds: infeed + generation = load + loss in every slot, to the solver's tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, RequestError
from ..readings import Bool, Int32
from .network import Float64

BATCH = 2_000
THREE_PHASE = -1
ROUNDS_MAX = 6


@dataclass(frozen=True, slots=True)
class Wires:
    """Lines and cables, all [wire]: from_bus, to_bus; resistance, reactance [ohm] and capacitance [F], positive and zero sequence."""

    from_bus: Int32
    to_bus: Int32
    r1: Float64
    x1: Float64
    c1: Float64
    r0: Float64
    x0: Float64
    c0: Float64


@dataclass(frozen=True, slots=True)
class Transformers:
    """Two-winding transformers, all [transformer]: from_bus is the high side; rated voltages u1, u2 [V] (the tap is in u1); sn [VA];
    uk short-circuit voltage [share]; pk copper loss at rated current [W]; i0 no-load current [share]; p0 no-load loss [W]; delta: whether the
    high side is in delta (else in star with neutral); clock of the low side."""

    from_bus: Int32
    to_bus: Int32
    u1: Float64
    u2: Float64
    sn: Float64
    uk: Float64
    pk: Float64
    i0: Float64
    p0: Float64
    delta: Bool
    clock: Int32


@dataclass(frozen=True, slots=True)
class Loads:
    """All [load]: bus; phase 0, 1, 2, or -1 for three phases alike; u_max_v: above this voltage (line to neutral, or line to line of a
    three-phase load) the load acts as the impedance that it is at this voltage, as OpenDSS reckons; inf = constant power always."""

    names: tuple[str, ...]
    bus: Int32
    phase: Int32
    u_max_v: Float64


@dataclass(frozen=True, slots=True)
class Grid:
    """A network with one infeed. bus_v: rated line-to-line voltage [V]; source_pu: voltage of the infeed; source_sk: its short-circuit
    power [VA], source_rx its R/X."""

    buses: tuple[str, ...]
    bus_v: Float64
    wires: Wires
    transformers: Transformers
    loads: Loads
    source_bus: int
    source_pu: float
    source_sk: float = 1e12
    source_rx: float = 0.1


@dataclass(frozen=True, slots=True)
class Flow:
    """By slot, float64 [W]: infeed (behind the source's own impedance), loads (negative loads are generation), losses of wires, of the
    transformers' copper and iron together; u_min, u_max: lowest and highest bus voltage [share of rated]."""

    infeed_w: Float64
    load_w: Float64
    wire_loss_w: Float64
    transformer_loss_w: Float64
    u_min: Float64
    u_max: Float64

    @property
    def loss_w(self) -> Float64:
        return self.wire_loss_w + self.transformer_loss_w


def flow(grid: Grid, p_w: Float64, q_var: Float64) -> Flow:
    """p_w, q_var: float64 [slot, load]. RequestError where they do not fit; InputError where the network cannot carry them."""
    if p_w.shape != q_var.shape or p_w.ndim != 2 or p_w.shape[1] != len(grid.loads.names):
        raise RequestError(f"p {p_w.shape} and q {q_var.shape} for {len(grid.loads.names)} loads; give [slot, load] twice")
    parts = [_flow_part(grid, p_w[first : first + BATCH], q_var[first : first + BATCH]) for first in range(0, len(p_w), BATCH)]
    return Flow(*(np.concatenate([getattr(part, name) for part in parts]) for name in Flow.__slots__))


def wire_losses(grid: Grid, p_w: Float64, q_var: Float64, group: Int32) -> Float64:
    """What the wires of each group lose, float64 [slot, group] in W; group: int32 [wire], -1 = of none."""
    groups = int(group.max(initial=-1)) + 1
    parts = []
    for first in range(0, len(p_w), BATCH):
        solved, _ = _solve(grid, p_w[first : first + BATCH], q_var[first : first + BATCH])
        lost = solved["line"]["p_from"] + solved["line"]["p_to"]
        lost = lost if lost.ndim == 2 else lost.sum(axis=2)
        total = np.zeros((groups, len(lost)))
        np.add.at(total, group[group >= 0], lost.T[group >= 0])
        parts.append(total.T)
    return np.concatenate(parts)


def voltages(grid: Grid, p_w: Float64, q_var: Float64) -> Float64:
    """Each load's voltage [V], line to neutral (line to line / sqrt 3 for three-phase loads), float64 [slot, load]."""
    parts = []
    for first in range(0, len(p_w), BATCH):
        solved, _ = _solve(grid, p_w[first : first + BATCH], q_var[first : first + BATCH])
        parts.append(_load_volts(grid, solved))
    return np.concatenate(parts)


def _flow_part(grid: Grid, p_w: Float64, q_var: Float64) -> Flow:
    solved, p_taken = _solve(grid, p_w, q_var)

    def total(component: str, *names: str) -> Float64:
        if component not in solved:
            return np.zeros(len(p_w))
        values = sum(solved[component][name] for name in names)
        return np.asarray(values.reshape(len(p_w), -1).sum(axis=1))

    u = solved["node"]["u_pu"].reshape(len(p_w), -1)
    live = np.where(u > 0.01, u, np.nan)
    return Flow(
        infeed_w=total("source", "p"),
        load_w=p_taken,
        wire_loss_w=total("line", "p_from", "p_to"),
        transformer_loss_w=total("transformer", "p_from", "p_to"),
        u_min=np.nanmin(live, axis=1),
        u_max=np.nanmax(live, axis=1),
    )


def _solve(grid: Grid, p_w: Float64, q_var: Float64) -> tuple[dict[str, Any], Float64]:
    """Power flow of a batch; loads above their voltage limit are turned into impedances until none changes. Gives the solver's output and
    what the loads took [W] by slot."""
    symmetric = bool((grid.loads.phase == THREE_PHASE).all())
    model = _model(grid, symmetric)
    stiff = np.zeros(p_w.shape, np.bool_)  # True: as an impedance
    for _ in range(ROUNDS_MAX):
        solved = _run(model, grid, p_w, q_var, stiff, symmetric)
        if np.isinf(grid.loads.u_max_v).all():
            break
        above = _load_volts(grid, solved) > grid.loads.u_max_v
        if (above == stiff).all():
            break
        stiff = above | stiff
    load = "sym_load" if symmetric else "asym_load"
    return solved, solved[load]["p"].reshape(len(p_w), -1).sum(axis=1)


def _load_volts(grid: Grid, solved: dict[str, Any]) -> Float64:
    u = (
        solved["node"]["u_pu"][:, grid.loads.bus]
        * (grid.bus_v[grid.loads.bus] / np.sqrt(3))[(None, slice(None), *[None] * (solved["node"]["u_pu"].ndim - 2))]
    )
    if u.ndim == 2:
        return np.asarray(u)
    one = np.take_along_axis(u, np.maximum(grid.loads.phase, 0)[None, :, None], axis=2)[:, :, 0]
    return np.where(grid.loads.phase == THREE_PHASE, u.mean(axis=2), one)


def _model(grid: Grid, symmetric: bool) -> Any:
    try:
        import power_grid_model as pgm
    except ImportError:
        raise InputError("power flow needs power-grid-model; install it with: pip install 'openami[grid]'") from None
    ids = _Ids(grid)
    data = {
        "node": _filled(pgm, "node", id=ids.bus, u_rated=grid.bus_v),
        "source": _filled(
            pgm, "source", id=[ids.source], node=[grid.source_bus], status=[1], u_ref=[grid.source_pu], sk=[grid.source_sk],
            rx_ratio=[grid.source_rx], z01_ratio=[1.0],
        ),
    }  # fmt: skip
    w, t = grid.wires, grid.transformers
    if w.r1.size:
        data["line"] = _filled(
            pgm, "line", id=ids.wire, from_node=w.from_bus, to_node=w.to_bus, from_status=1, to_status=1, r1=w.r1, x1=w.x1, c1=w.c1, tan1=0.0,
            r0=w.r0, x0=w.x0, c0=w.c0, tan0=0.0,
        )  # fmt: skip
    if t.u1.size:
        winding = pgm.WindingType
        data["transformer"] = _filled(
            pgm, "transformer", id=ids.transformer, from_node=t.from_bus, to_node=t.to_bus, from_status=1, to_status=1, u1=t.u1, u2=t.u2,
            sn=t.sn, uk=t.uk, pk=t.pk, i0=t.i0, p0=t.p0, winding_from=np.where(t.delta, winding.delta, winding.wye_n), winding_to=winding.wye_n,
            clock=t.clock, tap_side=0, tap_pos=0, tap_min=0, tap_max=0, tap_nom=0, tap_size=0.0,
        )  # fmt: skip
    load = "sym_load" if symmetric else "asym_load"
    kinds = np.repeat([int(pgm.LoadGenType.const_power), int(pgm.LoadGenType.const_impedance)], len(grid.loads.names))
    data[load] = _filled(
        pgm, load, id=ids.load, node=np.tile(grid.loads.bus, 2), status=1, type=kinds, p_specified=0.0, q_specified=0.0
    )  # fmt: skip
    try:
        return pgm.PowerGridModel(data, system_frequency=50.0)
    except Exception as error:  # the solver has many error classes of its own
        raise InputError(f"the network cannot be built: {str(error).splitlines()[0]}; mend its records") from error


class _Ids:
    """The solver's numbers: buses first, so that a bus's number is its position; every load stands twice, as power and as impedance."""

    def __init__(self, grid: Grid) -> None:
        counts = (len(grid.buses), grid.wires.r1.size, grid.transformers.u1.size, 1, 2 * len(grid.loads.names))
        ends = np.cumsum((0, *counts))
        self.bus, self.wire, self.transformer, source, self.load = (np.arange(a, b) for a, b in pairwise(ends))
        self.source = int(source[0])


def _filled(pgm: Any, component: str, **columns: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = pgm.initialize_array("input", component, len(np.atleast_1d(columns["id"])))
    for name, values in columns.items():
        array[name] = values
    return array


def _run(model: Any, grid: Grid, p_w: Float64, q_var: Float64, stiff: Bool, symmetric: bool) -> dict[str, Any]:
    import power_grid_model as pgm

    loads, load = len(grid.loads.names), "sym_load" if symmetric else "asym_load"
    update = pgm.initialize_array("update", load, (len(p_w), 2 * loads))
    update["id"] = _Ids(grid).load
    # an impedance that takes p at u_max takes p x (rated / u_max)^2 at the rated voltage, which is what the solver is told
    at_rated = np.where(np.isfinite(grid.loads.u_max_v), grid.bus_v[grid.loads.bus] / np.sqrt(3) / grid.loads.u_max_v, 1.0) ** 2
    for name, values in (("p_specified", p_w), ("q_specified", q_var)):
        both = np.concatenate([np.where(stiff, 0.0, values), np.where(stiff, values * at_rated, 0.0)], axis=1)
        update[name] = both if symmetric else _by_phase(both, np.tile(grid.loads.phase, 2))
    outputs = {"node": ["u_pu"], "source": ["p"], load: ["p"]}
    outputs |= {"line": ["p_from", "p_to"]} if grid.wires.r1.size else {}
    outputs |= {"transformer": ["p_from", "p_to"]} if grid.transformers.u1.size else {}
    try:
        solved: dict[str, Any] = model.calculate_power_flow(
            symmetric=symmetric, update_data={load: update}, output_component_types=outputs, threading=2
        )
    except Exception as error:  # the solver has many error classes of its own
        raise InputError(f"the power flow finds no solution: {str(error).splitlines()[0]}; check the loads against the network") from error
    return solved


def _by_phase(values: Float64, phase: Int32) -> Float64:
    """[slot, load] to [slot, load, 3]: a single-phase load on its phase, a three-phase load a third on each."""
    share = np.where((phase == THREE_PHASE)[:, None], 1 / 3, np.arange(3)[None, :] == phase[:, None])
    return values[:, :, None] * share


def buses_below(grid: Grid) -> Iterator[tuple[int, int]]:
    """(transformer, bus) of every bus that is reached from a transformer's low side without passing another transformer."""
    following: dict[int, list[int]] = {}
    for a, b in zip(grid.wires.from_bus.tolist(), grid.wires.to_bus.tolist(), strict=True):
        following.setdefault(a, []).append(b)
        following.setdefault(b, []).append(a)
    for k, start in enumerate(grid.transformers.to_bus.tolist()):
        seen, open_ends = {start}, [start]
        while open_ends:
            for bus in following.get(open_ends.pop(), []):
                if bus not in seen:
                    seen.add(bus)
                    open_ends.append(bus)
        yield from ((k, bus) for bus in sorted(seen))
