"""More charts as SVG text, by the rules of `charts`: areas in a tree map, a value with its band, spans of time as lanes.

What always holds: nothing is told by colour alone (each area and lane carries its words, the band has its middle line); every chart has a title and a
description, all words are escaped; what is unknown leaves a gap, or an area that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .charts import PLOT_TOP_PX, Tick, _n, _Plot, scale

MAP_WIDTH, MAP_HEIGHT = 1200, 460
LETTERS_PX, LABEL_HEIGHT_PX, GAP = 7.2, 18, 2
LANE_PX = 24


@dataclass(frozen=True, slots=True)
class Area:
    """One area of a tree map: its size in any unit, what stands on it, where it leads, and the style sheet's class for its colour."""

    size: float
    label: str
    note: str
    href: str
    css_class: str


@dataclass(frozen=True, slots=True)
class Band:
    """A value between low and high in the chart's unit; None = unknown."""

    low: float | None
    middle: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A span of time, start to end as shares 0..1 of the chart's width; open: it had not ended."""

    label: str
    start: float
    end: float
    open: bool


def tree_map(name: str, title: str, description: str, areas: Sequence[Area]) -> Markup:
    """Areas as large as their size, the largest first from the upper left; those of no size are left out."""
    shown = sorted((area for area in areas if area.size > 0), key=lambda area: -area.size)
    drawn = []
    for area, (x, y, width, height) in zip(shown, _squares([a.size for a in shown], MAP_WIDTH, MAP_HEIGHT), strict=True):
        words = Markup("")
        if height >= LABEL_HEIGHT_PX and width >= LETTERS_PX * len(area.label) + 8:
            words = Markup('<text x="{}" y="{}">{}</text>').format(_n(x + 6), _n(y + 16), area.label)
            if height >= 2 * LABEL_HEIGHT_PX and width >= LETTERS_PX * len(area.note) + 8:
                words += Markup('<text x="{}" y="{}">{}</text>').format(_n(x + 6), _n(y + 33), area.note)
        drawn.append(
            Markup('<a href="{}"><title>{}: {}</title><rect class="{}" x="{}" y="{}" width="{}" height="{}"/>{}</a>').format(
                area.href, area.label, area.note, area.css_class, _n(x), _n(y), _n(max(width - GAP, 0)), _n(max(height - GAP, 0)), words
            )
        )
    return Markup(
        '<svg class="map" role="group" aria-labelledby="{0}-t {0}-d" font-size="12" viewBox="0 0 {1} {2}"><title id="{0}-t">{3}</title>'
        '<desc id="{0}-d">{4}</desc>{5}</svg>'
    ).format(name, MAP_WIDTH, MAP_HEIGHT, title, description, Markup("").join(drawn))


def band(name: str, title: str, description: str, data: Sequence[Band], ticks: Sequence[Tick], unit: str, height: int = 220) -> Markup:
    """The middle as a step line, low to high as an area behind it; unknown intervals are hatched."""
    known = [v for b in data for v in (b.low, b.middle, b.high) if v is not None]
    low, high, step = scale(min([0.0, *known]), max([0.0, *known]))
    plot = _Plot(len(data), low, high, height)
    area, line, gaps = list[str](), list[str](), list[int]()
    for k, one in enumerate(data):
        if one.low is None or one.high is None or one.middle is None:
            gaps.append(k)
            continue
        area.append(f"M{k} {_n(plot.y(one.high))}h1V{_n(plot.y(one.low))}h-1z")
        line.append(plot.level(k, one.middle))
    body = [plot.gaps(gaps, name), plot.grid(step, unit), plot.stretched(("heat l2", area), ("line", line))]
    return plot.figure(name, title, description, body, ticks)


def lanes(name: str, title: str, description: str, data: Sequence[Lane], ticks: Sequence[tuple[float, str]]) -> Markup:
    """A lane for each span, in the order given; an open one is hollow."""
    height = PLOT_TOP_PX + LANE_PX * len(data) + 20
    drawn = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(f"{_n(100 * at)}%", PLOT_TOP_PX, height - 20)
        for at, _ in ticks
    ]
    for k, lane in enumerate(data):
        top = PLOT_TOP_PX + LANE_PX * k
        start, width = 100 * lane.start, max(0.4, 100 * (lane.end - lane.start))
        late = start > 100 - start - width  # words stand where there is more room
        place, anchor = (start - 0.5, "end") if late else (start + width + 0.5, "start")
        drawn.append(
            Markup('<rect class="{}" x="{}%" y="{}" width="{}%" height="12"/><text x="{}%" y="{}" text-anchor="{}">{}</text>').format(
                "bar-est" if lane.open else "bar", _n(start), top + 5, _n(width), _n(min(place, 99.0)), top + 15, anchor, lane.label
            )
        )
    for at, label in ticks:
        anchor = "start" if at <= 0 else "end" if at >= 1 else "middle"
        drawn.append(Markup('<text text-anchor="{}" x="{}%" y="{}">{}</text>').format(anchor, _n(100 * at), height - 5, label))
    return Markup(
        '<div class="plot"><svg class="chart" role="img" aria-labelledby="{0}-t {0}-d" width="100%" height="{1}"><title id="{0}-t">{2}</title>'
        '<desc id="{0}-d">{3}</desc>{4}</svg></div>'
    ).format(name, height, title, description, Markup("").join(drawn))


def _squares(sizes: list[float], width: float, height: float) -> list[tuple[float, float, float, float]]:
    """Rectangles (x, y, width, height) of these shares of the whole, as square as rows of them can be (sizes: the largest first).

    Rows are filled along the shorter side for as long as the worst of their ratios gets better (Bruls, Huizing and van Wijk 2000)."""
    total, x, y, found = sum(sizes), 0.0, 0.0, list[tuple[float, float, float, float]]()
    rest = [size * width * height / total for size in sizes] if total else []
    while rest:
        side = min(width, height)
        count = 1
        while count < len(rest) and _worst(rest[: count + 1], side) <= _worst(rest[:count], side):
            count += 1
        row, rest = rest[:count], rest[count:]
        thick = sum(row) / side if side else 0.0
        at = 0.0
        for area in row:
            long = area / thick if thick else 0.0
            found.append((x, y + at, thick, long) if width >= height else (x + at, y, long, thick))
            at += long
        x, y, width, height = (x + thick, y, width - thick, height) if width >= height else (x, y + thick, width, height - thick)
    return found


def _worst(row: list[float], side: float) -> float:
    """The worst ratio of the sides of a row's rectangles, 1 = a square."""
    whole = sum(row)
    if not whole or not side:
        return float("inf")
    return max(side * side * max(row) / whole**2, whole**2 / (side * side * min(row)))
