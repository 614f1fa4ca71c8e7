"""A `Grid` from a pandapower network (SimBench's are such): buses, lines, two-winding transformers, switches, loads and static generators.

Nothing of pandapower is imported: only the tables of the network that is given are read. Generators count as negative loads. What is not in
the list above and would carry current is refused by name, never left out unseen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from .grid import Grid, Loads, Transformers, Wires

UNREAD = ("gen", "trafo3w", "impedance", "shunt", "ward", "xward", "dcline", "motor", "storage")


def grid_of(net: Any) -> Grid:
    """net: a pandapower network with one external grid. Loads stand first, static generators after them, in the order of their tables.

    Buses that closed bus-to-bus switches join become one; lines and transformers behind an open switch are left out. InputError names what
    cannot be read.
    """
    for table in UNREAD:
        if table in net and len(net[table]) and net[table].in_service.any():
            raise InputError(
                f"the network has {len(net[table])} rows of {table}, which is not read; replace them by loads or take them out"
            )
    if len(net.ext_grid[net.ext_grid.in_service]) != 1:
        raise InputError(f"the network has {len(net.ext_grid)} external grids; cut it so that it has one")
    at, names, volts = _joined_buses(net)
    opened = net.switch[~net.switch.closed]
    lines = net.line[net.line.in_service & ~net.line.index.isin(opened[opened.et == "l"].element)]
    trafos = net.trafo[net.trafo.in_service & ~net.trafo.index.isin(opened[opened.et == "t"].element)]
    source = net.ext_grid[net.ext_grid.in_service].iloc[0]
    rows = [(str(row.name), at[row.bus], row.in_service) for table in (net.load, net.sgen) for row in table.itertuples()]
    return Grid(
        buses=names,
        bus_v=volts,
        wires=_wires(lines, at),
        transformers=_transformers(trafos, at),
        loads=Loads(
            names=tuple(name for name, _, _ in rows),
            bus=np.array([bus for _, bus, _ in rows], np.int32),
            phase=np.full(len(rows), -1, np.int32),
            u_max_v=np.full(len(rows), np.inf),
        ),
        source_bus=at[source.bus],
        source_pu=float(source.vm_pu),
    )


def _joined_buses(net: Any) -> tuple[dict[int, int], tuple[str, ...], np.ndarray]:
    """pandapower's bus -> position, with the names and voltages of the positions."""
    first = {bus: bus for bus in net.bus.index}

    def root(bus: int) -> int:
        while first[bus] != bus:
            first[bus] = first[first[bus]]
            bus = first[bus]
        return bus

    for row in net.switch[(net.switch.et == "b") & net.switch.closed].itertuples():
        first[root(row.element)] = root(row.bus)
    roots = [bus for bus in net.bus.index if root(bus) == bus and net.bus.in_service[bus]]
    position = {bus: k for k, bus in enumerate(roots)}
    names = tuple(str(net.bus.name[bus]) for bus in roots)
    volts = np.array([net.bus.vn_kv[bus] for bus in roots]) * 1e3
    return {bus: position[root(bus)] for bus in net.bus.index if net.bus.in_service[bus]}, names, volts


def _wires(lines: Any, at: dict[int, int]) -> Wires:
    parallel = lines.parallel.to_numpy(float)
    km = lines.length_km.to_numpy(float)
    r1, x1 = lines.r_ohm_per_km.to_numpy(float) * km / parallel, lines.x_ohm_per_km.to_numpy(float) * km / parallel
    c1 = lines.c_nf_per_km.to_numpy(float) * 1e-9 * km * parallel
    return Wires(
        from_bus=np.array([at[b] for b in lines.from_bus], np.int32),
        to_bus=np.array([at[b] for b in lines.to_bus], np.int32),
        r1=r1, x1=x1, c1=c1, r0=4 * r1, x0=4 * x1, c0=0.5 * c1,
    )  # fmt: skip


def _transformers(trafos: Any, at: dict[int, int]) -> Transformers:
    parallel = trafos.parallel.to_numpy(float)
    sn = trafos.sn_mva.to_numpy(float) * 1e6 * parallel
    if len(trafos) and (trafos.tap_side.fillna("hv") != "hv").any():
        raise InputError("a transformer has its taps on the low side, which is not read; give its rated voltages without them")
    steps = (trafos.tap_pos.fillna(0) - trafos.tap_neutral.fillna(0)).to_numpy(float)
    tap = 1 + steps * trafos.tap_step_percent.fillna(0).to_numpy(float) / 100
    return Transformers(
        from_bus=np.array([at[b] for b in trafos.hv_bus], np.int32),
        to_bus=np.array([at[b] for b in trafos.lv_bus], np.int32),
        u1=trafos.vn_hv_kv.to_numpy(float) * 1e3 * tap,
        u2=trafos.vn_lv_kv.to_numpy(float) * 1e3,
        sn=sn,
        uk=trafos.vk_percent.to_numpy(float) / 100,
        pk=trafos.vkr_percent.to_numpy(float) / 100 * sn,
        i0=trafos.i0_percent.to_numpy(float) / 100,
        p0=trafos.pfe_kw.to_numpy(float) * 1e3 * parallel,
        delta=np.full(len(trafos), True),
        clock=(np.rint(trafos.shift_degree.to_numpy(float) / 30).astype(np.int32)) % 12,
    )
