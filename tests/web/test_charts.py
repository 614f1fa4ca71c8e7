"""Charts: what is drawn is what was given, nothing is told by colour alone, and no text can become markup."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.web import charts
from openami.web.charts import Bar, HourBar, Tick

TICKS = [Tick(0, "00"), Tick(4, "24")]


def _parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def _gaps(figure: ET.Element) -> list[ET.Element]:
    return [e for e in figure.iter() if e.get("fill") == "url(#c-gap)"]


def _by_class(figure: ET.Element, css: str) -> list[ET.Element]:
    return [e for e in figure.iter() if e.get("class") == css]


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(1, 6))
def test_a_scale_holds_its_data_and_ends_on_round_steps(low, span, lines):
    bottom, top, step = charts.scale(low, low + span, lines)
    slack = 1e-6 * step
    assert bottom <= low + slack
    assert top >= low + span - slack
    assert (top - bottom) / step <= lines + 3
    assert math.isclose(step / 10 ** math.floor(math.log10(step) + 1e-9), 1) or round(step / 10 ** math.floor(math.log10(step) + 1e-9)) in (
        2,
        5,
    )


def test_bars_are_as_high_as_their_values():
    figure = _parsed(charts.bars("c", "t", "d", [Bar(0), Bar(50), Bar(100), Bar(200)], TICKS, "Wh", height=242))
    boxes = _by_class(figure, "bar")[0].get("d").split("z")
    tops = [float(b.split(" ")[1].split("h")[0]) for b in boxes if b]
    assert tops == [200, 150, 100, 0]


def test_missing_is_hatched_estimated_hollow_flagged_has_a_triangle():
    data = [Bar(10), Bar(None), Bar(None), Bar(20, estimated=True, flagged=True)]
    figure = _parsed(charts.bars("c", "t", "d", data, TICKS, "Wh"))
    (gap,) = _gaps(figure)
    assert (gap.get("x"), gap.get("width")) == ("25%", "50%")
    assert len(_by_class(figure, "bar-est")) == 1
    assert [f.get("x") for f in _by_class(figure, "bad")] == ["87.5%"]


def test_a_day_without_a_single_value_is_all_gap():
    figure = _parsed(charts.bars("c", "t", "d", [Bar(None)] * 4, TICKS, "Wh"))
    assert [g.get("width") for g in _gaps(figure)] == ["100%"]
    assert not _by_class(figure, "bar")
    step = _parsed(charts.step_line("s", "t", "d", [None] * 4, TICKS, "V"))
    assert not _by_class(step, "line")


def test_loss_stands_on_the_out_and_a_negative_one_is_another_colour():
    figure = _parsed(charts.in_out("c", "t", "d", [HourBar(10, 8), HourBar(8, 10), HourBar(5, 5), HourBar(None, 4)], TICKS, "kWh"))
    assert _by_class(figure, "bar-loss")[0].get("d").count("z") == 1
    assert _by_class(figure, "bar-gain")[0].get("d").count("z") == 1
    assert _by_class(figure, "bar")[0].get("d").count("z") == 4
    assert _by_class(figure, "line")[0].get("d").count("h1") == 3
    assert [g.get("x") for g in _gaps(figure)] == ["75%"]


def test_a_step_line_breaks_where_a_value_is_missing():
    figure = _parsed(charts.step_line("c", "t", "d", [230.0, 231.0, None, 229.0], TICKS, "V"))
    assert _by_class(figure, "line")[0].get("d").count("M") == 2


def test_negative_energy_is_drawn_below_zero():
    figure = _parsed(charts.bars("c", "t", "d", [Bar(-50), Bar(50)], TICKS, "Wh"))
    labels = [e.text for e in figure.iter("text") if e.get("x") == "-6"]
    assert "\u2212" + "50" in "".join(str(x) for x in labels)
    assert len(_by_class(figure, "thin")) == 1


def test_every_chart_has_its_words_and_they_are_escaped():
    hostile = '</title><script>alert("1")</script>'
    for markup in (
        charts.bars("c", hostile, hostile, [Bar(1)], [Tick(0, hostile)], hostile),
        charts.in_out("c", hostile, hostile, [HourBar(1, 1)], [Tick(0, hostile)], hostile),
        charts.step_line("c", hostile, hostile, [1.0], [Tick(0, hostile)], hostile),
    ):
        assert "<script" not in markup
        (svg,) = [e for e in _parsed(markup) if e.get("role") == "img"]
        assert svg.get("aria-labelledby") == "c-t c-d"
        assert [svg.find("title").text, svg.find("desc").text] == [hostile, hostile]


@pytest.mark.parametrize(("share", "width"), [(0.5, "50%"), (None, "0%"), (1.7, "100%"), (-0.2, "0%")])
def test_a_share_bar_is_cut_to_its_track(share, width):
    assert _parsed(charts.share_bar(share))[1].get("width") == width
