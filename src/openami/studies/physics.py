"""Does the audit find what wires truly lose? Two public networks, metered without fault: the energy account's loss beside the power flow's.

SimBench 1-LV-rural3 (year 2016 in quarter hours; pip `simbench`, its networks under ODbL, read and not shipped) and the IEEE European LV test
feeder (one winter day in minutes; OpenDSS text, a folder or zip that the reader gives).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..losses.account import account
from ..losses.fitted import Fitted, fit
from ..losses.grid import Flow, Grid, flow
from ..losses.metered import Errors, totals
from ..losses.network import Float64, Level, Tree
from ..losses.opendss import Circuit, read_opendss
from ..losses.pandapower_grid import grid_of
from ..readings import Int32

STEP_WH = 0.01
FITTED = ("1-LV-rural1", "1-LV-rural2", "1-LV-semiurb4", "1-LV-semiurb5", "1-LV-urban6")
SEASONS = (("January to March", slice(0, 96 * 90)), ("July to September", slice(96 * 182, 96 * 272)))
PUBLISHED = {"1-LV-rural3": 3.478, "IEEE European LV": 0.969}
"""Loss as reckoned by others, in percent: pandapower's flow of the whole year per load; OpenDSS' flow of the day per infeed."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One network. Energies [kWh]: flow_* by power flow, audit_loss by the energy account of its meters; percent: of `base`;
    squares_w2: float64 [slot], the sum of the squares of what each connection takes or gives."""

    network: str
    base: str
    flow_loss_kwh: float
    audit_loss_kwh: float
    base_kwh: float
    published_percent: float
    flow: Flow
    squares_w2: Float64

    @property
    def percent(self) -> float:
        return 100 * self.audit_loss_kwh / self.base_kwh

    @property
    def audit_against_flow(self) -> float:
        """Relative difference."""
        return self.audit_loss_kwh / self.flow_loss_kwh - 1


def simbench_year(code: str, scenario: int = 0) -> tuple[Any, Float64, Float64]:
    """A SimBench network with its year's loads and generators, [slot, load then generator] W and var. InputError where simbench is missing."""
    try:
        import simbench
    except ImportError:
        raise InputError("SimBench's networks need the extra `grid`: pip install 'openami[grid]'") from None
    net = simbench.get_simbench_net(f"{code}--{scenario}-sw")
    absolute = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    load = [absolute["load", key][net.load.index].to_numpy(float) * 1e6 for key in ("p_mw", "q_mvar")]
    made = absolute["sgen", "p_mw"][net.sgen.index].to_numpy(float) * 1e6
    return net, np.concatenate([load[0], -made], axis=1), np.concatenate([load[1], np.zeros_like(made)], axis=1)


def simbench_audit(slots: int | None = None) -> Audit:
    """The year of 1-LV-rural3, or its first `slots` quarter hours."""
    net, p_w, q_var = simbench_year("1-LV-rural3")
    p_w, q_var = p_w[:slots], q_var[:slots]
    found = flow(grid_of(net), p_w, q_var)
    load_kwh = float(p_w[:, : len(net.load)].sum()) / 4e3
    return Audit(
        "1-LV-rural3", "load", found.loss_w.sum() / 4e3, metered_loss_kwh(found, p_w, 900), load_kwh, PUBLISHED["1-LV-rural3"], found,
        (p_w**2).sum(axis=1),
    )  # fmt: skip


def european_circuit(folder: Path) -> Circuit:
    """The IEEE European LV feeder from its OpenDSS files, in a folder or a zip."""
    if folder.suffix == ".zip":
        with zipfile.ZipFile(folder) as archive:
            texts = {n: archive.read(n).decode() for n in archive.namelist() if not n.endswith("/")}
    else:
        texts = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    master = next((n for n in texts if n.lower().endswith("master.dss")), None)
    if master is None:
        raise InputError(f"{folder} has no Master.dss; give the IEEE European LV feeder's OpenDSS folder or zip")
    return read_opendss(texts, master)


def european_audit(folder: Path, slots: int | None = None) -> Audit:
    circuit = european_circuit(folder)
    p_w, q_var = circuit.power()
    p_w, q_var = p_w[:slots], q_var[:slots]
    return circuit_audit("IEEE European LV", circuit.grid, p_w, q_var, 60)


def circuit_audit(name: str, grid: Grid, p_w: Float64, q_var: Float64, interval_s: int) -> Audit:
    """Meters of what loads truly take (some take more than rated above their voltage), so the flow is asked per load."""
    found = flow(grid, p_w, q_var)
    taken = p_w * (found.load_w / p_w.sum(axis=1))[:, None]  # an audit needs their sum; how it is shared out among loads does not matter
    hours = interval_s / 3600e3
    loss = metered_loss_kwh(found, taken, interval_s)
    published, squares = PUBLISHED.get(name, np.nan), (taken**2).sum(axis=1)
    return Audit(name, "infeed", found.loss_w.sum() * hours, loss, found.infeed_w.sum() * hours, published, found, squares)


def metered_loss_kwh(found: Flow, p_w: Float64, interval_s: int) -> float:
    """The loss by the energy account: a meter at the infeed and one at each load, counting imports and exports in steps of 0.01 Wh without error."""
    power = np.concatenate([p_w, found.infeed_w[:, None]], axis=1)
    into, out = counted(np.maximum(power, 0), interval_s), counted(np.maximum(-power, 0), interval_s)
    meters = power.shape[1]
    tree = replace(one_node(meters), own_meter=np.array([meters - 1], np.int32))
    ones, plain = np.ones(len(power)), np.zeros(power.shape, np.uint32)
    errors = Errors.alike(meters, class_limit=0.0)
    reckoned = account(tree, totals(into, plain, len(power), ones), errors, interval_s, totals(out, plain, len(power), ones))
    return float(reckoned.loss_wh[0, 0]) * STEP_WH / 1e3


def counted(power_w: Float64, interval_s: int) -> Int32:
    """What a faultless meter counts: whole steps of its register, slot by slot."""
    register = np.floor(np.cumsum(power_w, axis=0) * (interval_s / 3600) / STEP_WH + 1e-6)
    return np.diff(register, axis=0, prepend=0).astype(np.int32)


def one_node(meters: int) -> Tree:
    return Tree(
        ("T",), (Level.TRANSFORMER,), np.array([-1], np.int32), np.array([0], np.int32), np.array([-1], np.int32), np.array([np.nan]),
        np.concatenate([np.zeros(meters - 1), [-1]]).astype(np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretch:
    """Slots of a network's flow by which it is fitted as if its wires were not known. taken_w: float64 [slot], what consumers take; squares_w2: as
    of an `Audit`."""

    network: str
    span: str
    flow: Flow
    taken_w: Float64
    squares_w2: Float64
    interval_s: int


def stretches(rural: Audit, european: Audit | None) -> Iterator[Stretch]:
    """The two networks of the audits and other low-voltage codes of SimBench, 90 days each but the day of the European feeder."""
    net, p_w, _ = simbench_year("1-LV-rural3")
    for span, days in SEASONS:
        yield _stretch("1-LV-rural3", span, _cut(rural.flow, days), p_w[days], len(net.load))
    span, days = SEASONS[0]
    for code in FITTED:
        net, p_w, q_var = simbench_year(code)
        yield _stretch(code, span, flow(grid_of(net), p_w[days], q_var[days]), p_w[days], len(net.load))
    if european is not None:
        yield Stretch(european.network, "a day", european.flow, european.flow.load_w, european.squares_w2, 60)


def _stretch(code: str, span: str, found: Flow, p_w: Float64, loads: int) -> Stretch:
    """Quarter hours of a SimBench network."""
    return Stretch(code, span, found, p_w[:, :loads].sum(axis=1), (p_w**2).sum(axis=1), 900)


def _cut(found: Flow, slots: slice) -> Flow:
    return Flow(*(getattr(found, each.name)[slots] for each in fields(found)))


def fitted_beside_flow(of: Stretch, stolen: float) -> tuple[Fitted | None, float, float]:
    """The fit where a share `stolen` of what consumers take is not metered: (fit, true technical, truly stolen Wh)."""
    hours = of.interval_s / 3600
    gone = stolen * of.taken_w
    squares = of.squares_w2 * (1 - stolen) ** 2
    found = fit(of.flow.infeed_w, of.flow.loss_w + gone, of.interval_s, of.taken_w - gone, squares_w2=squares)
    return found, float(of.flow.loss_w.sum()) * hours, float(gone.sum()) * hours
