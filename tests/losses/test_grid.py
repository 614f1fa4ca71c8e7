"""Technical loss by power flow: networks read from pandapower and OpenDSS, and the fit where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openami.errors import InputError, RequestError
from openami.losses.fitted import fit
from openami.losses.grid import buses_below, flow, voltages
from openami.losses.opendss import read_opendss
from openami.losses.pandapower_grid import grid_of
from openami.studies.physics import circuit_audit, european_circuit, metered_loss_kwh, simbench_year

EUROPEAN = Path(__file__).parents[3] / "shared/data/ieee_european_lv_feeder/lvtestcase_opendss.zip"

MASTER = """
! two homes behind a transformer and 100 m of cable
clear
New circuit.small
Edit Vsource.Source BasekV=11 pu=1.0 ISC3=3000 ISC1=5
Redirect parts/codes.txt
New Transformer.T Buses=[SourceBus low] Conns=[Delta Wye] kVs=[11 0.4] kVAs=[100 100] XHL=4
~ %noloadloss=0.2
New Line.cable Bus1=low Bus2=end phases=3 Linecode=thin Length=100 Units=m
New Load.a Phases=1 Bus1=end.1 kV=0.23 kW=2 PF=0.9 Yearly=day vmaxpu=2
New Load.b Phases=1 Bus1=end.2 kV=0.23 kW=1 PF=1 Yearly=day vmaxpu=2
New energymeter.m1 Line.cable 1
Set voltagebases=[11 .4]
solve
"""
FILES = {
    "Master.dss": MASTER,
    "parts\\codes.txt": "New LineCode.thin nphases=3 R1=0.5 X1=0.1 R0=2 X0=0.4 C1=0 C0=0 Units=km\n"
    "New Loadshape.day npts=4 interval=0.25 mult=(0 1 2 0.5) useactual=no\n",
}


@pytest.fixture(scope="module")
def small():
    return read_opendss(FILES, "Master.dss")


def test_opendss_text_is_read(small):
    grid = small.grid
    assert grid.buses == ("sourcebus", "low", "end")
    assert grid.bus_v.tolist() == [11_000, 400, 400]
    assert grid.wires.r1.tolist() == [pytest.approx(0.05)]
    assert grid.transformers.p0.tolist() == [pytest.approx(200)]
    assert grid.transformers.pk.tolist() == [pytest.approx(400)]
    assert grid.loads.phase.tolist() == [0, 1]
    p, q = small.power()
    assert p.tolist() == [[0, 0], [2000, 1000], [4000, 2000], [1000, 500]]
    assert q[1].tolist() == pytest.approx([2000 * np.tan(np.arccos(0.9)), 0])


def test_infeed_is_load_and_loss(small):
    found = flow(small.grid, *small.power())
    assert found.infeed_w == pytest.approx(found.load_w + found.loss_w, abs=1e-3)
    assert found.load_w == pytest.approx([0, 3000, 6000, 1500], abs=1e-3)
    assert found.transformer_loss_w[0] == pytest.approx(200, rel=0.01)  # nothing but iron


def test_a_wires_loss_is_i2r_and_the_neutrals(small):
    """Load b alone: its current through phase and return, whose resistance is (2 R1 + R0) / 3 of the cable."""
    p = np.array([[0.0, 1000.0]])
    found = flow(small.grid, p, np.zeros_like(p))
    current = 1000 / voltages(small.grid, p, np.zeros_like(p))[0, 1]
    assert found.wire_loss_w[0] == pytest.approx(current**2 * (2 * 0.05 + 0.2) / 3, rel=1e-3)


def test_above_its_voltage_limit_a_load_is_an_impedance():
    high = {**FILES, "Master.dss": MASTER.replace("pu=1.0", "pu=1.05").replace("vmaxpu=2", "vmaxpu=1.0")}
    circuit = read_opendss(high, "Master.dss")
    p, q = circuit.power()
    found = flow(circuit.grid, p, q)
    volts = voltages(circuit.grid, p, q)
    assert found.load_w == pytest.approx((p * (volts / 230) ** 2).sum(axis=1), rel=1e-6)
    assert (found.load_w[1:] > p.sum(axis=1)[1:]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Redirect parts/codes.txt", "Redirect gone.txt"), "lack gone.txt"),
        (("Linecode=thin", "Linecode=thick"), "line code thick"),
        (("Linecode=thin", "geometry=g1"), "geometry"),
        (("New Load.b Phases=1 Bus1=end.2", "New Load.b Phases=1 Bus1=end.2.3"), "between two phases"),
        (("New Load.b", "New Capacitor.c Bus1=end\nNew Load.b"), "class capacitor"),
        (("solve", "dance"), "'dance' is a command"),
        (("Bus1=low Bus2=end", "Bus1=elsewhere Bus2=end"), "not joined to the infeed"),
        (("kW=2", "kW=two"), "is no number"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, said):
    with pytest.raises(InputError, match=said):
        read_opendss({**FILES, "Master.dss": MASTER.replace(*change, 1)}, "Master.dss")


def test_a_shape_that_a_load_uses_must_be_there():
    circuit = read_opendss({**FILES, "Master.dss": MASTER.replace("Yearly=day", "Yearly=night", 1)}, "Master.dss")
    with pytest.raises(InputError, match="night"):
        circuit.power()


def test_loads_that_do_not_fit_are_refused(small):
    with pytest.raises(RequestError, match="2 loads"):
        flow(small.grid, np.zeros((4, 3)), np.zeros((4, 3)))


def test_a_network_that_cannot_carry_its_loads_is_named(small):
    with pytest.raises(InputError, match="no solution"):
        flow(small.grid, np.full((1, 2), 5e7), np.zeros((1, 2)))


def test_buses_below_a_transformer(small):
    assert list(buses_below(small.grid)) == [(0, 1), (0, 2)]


def test_perfect_meters_find_the_power_flows_loss_opendss(small):
    audit = circuit_audit("small", small.grid, *(np.repeat(each[1:], 50, axis=0) for each in small.power()), 900)
    assert audit.audit_against_flow == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def rural3() -> tuple[Any, Any, Any]:
    return simbench_year("1-LV-rural3")


@pytest.mark.skipif(not EUROPEAN.exists(), reason="the IEEE European LV feeder's OpenDSS files are not there")
def test_the_real_european_feeder_is_read_and_its_loss_found():
    """55 loads on 906 buses; an evening's hour in minutes."""
    circuit = european_circuit(EUROPEAN)
    power, reactive = circuit.power()
    assert power.shape == (1440, 55)
    hour = slice(18 * 60, 19 * 60)
    told = circuit_audit("IEEE European LV", circuit.grid, power[hour], reactive[hour], 60)
    assert abs(told.audit_against_flow) < 1e-3
    assert 0.1 < told.percent < 3


def test_our_flow_is_pandapowers():
    """Three slots of 1-LV-urban6 as pandapower 3.5.6 reckons them under pandas 2 (T model of the transformer)."""
    slots, theirs_w = [0, 11_910, 24_415], [1939.433, 1744.923, 1793.675]
    net, p_w, q_var = simbench_year("1-LV-urban6")
    assert flow(grid_of(net), p_w[slots], q_var[slots]).loss_w == pytest.approx(theirs_w, rel=1e-4)


def test_perfect_meters_find_the_power_flows_loss_simbench(rural3):
    """A summer day with reverse flow; the year is in the report."""
    net, p_w, q_var = rural3
    day = slice(17_000, 17_096)
    found = flow(grid_of(net), p_w[day], q_var[day])
    assert found.infeed_w.min() < 0  # the sun feeds back
    assert metered_loss_kwh(found, p_w[day], 900) * 4e3 == pytest.approx(found.loss_w.sum(), rel=1e-3)


def test_what_a_pandapower_network_has_and_we_cannot_read_is_named(rural3):
    net = rural3[0].deepcopy()
    net.ext_grid = net.ext_grid.iloc[:0]
    with pytest.raises(InputError, match="external grids"):
        grid_of(net)


def wires_and_theft(even: float, seed: int = 3):
    """30 days in half hours: 150 W of iron, wires, and a share that is not registered."""
    rng = np.random.default_rng(seed)
    taken = 8000 + 6000 * np.sin(np.arange(1440) / 48 * 2 * np.pi) + rng.gamma(2, 1500, 1440)
    technical = 150 + 1.2e-6 * taken**2
    registered = (1 - even) * taken
    return taken + technical, technical, technical + even * taken + rng.normal(0, 20, 1440), registered


@pytest.mark.parametrize("even", [0.0, 0.1])
def test_the_fit_parts_wires_from_theft(even):
    into, technical, lost, registered = wires_and_theft(even)
    found = fit(into, lost, 1800, registered)
    assert found is not None
    assert found.technical_low_wh <= technical.sum() / 2 <= found.technical_high_wh
    assert found.even == pytest.approx(even / (1 - even), abs=0.01)
    assert found.commercial_wh + found.technical_wh == pytest.approx(lost.sum() / 2)


@pytest.mark.parametrize("even", [0.0, 0.1])
def test_what_each_consumers_own_wire_loses_is_no_theft(even):
    """40 homes whose peaks are their own: each loses by its own square, all together by the square of the sum; theft takes evenly."""
    rng = np.random.default_rng(4)
    homes = rng.gamma(0.6, 800, (2000, 40)) * rng.uniform(0.5, 2, 40)
    taken, squares = homes.sum(axis=1), (homes**2).sum(axis=1)
    wires = 60 + 1e-7 * taken**2 + 1e-5 * squares
    into, registered = taken + wires, taken * (1 - even)
    found = fit(into, into - registered, 1800, registered, squares_w2=squares * (1 - even) ** 2)
    assert found is not None
    assert found.technical_wh == pytest.approx(wires.sum() / 2, rel=0.02)


def test_a_known_iron_loss_is_kept():
    into, _, lost, registered = wires_and_theft(0.05)
    found = fit(into, lost, 1800, registered, fixed_no_load_w=150.0)
    assert found is not None
    assert found.no_load_w == 150.0


def test_too_little_cannot_be_fitted():
    assert fit(np.arange(95.0), np.arange(95.0), 1800) is None
    assert fit(np.full(200, 5.0), np.arange(200.0), 1800) is None
    assert fit(np.full(200, np.nan), np.arange(200.0), 1800) is None
