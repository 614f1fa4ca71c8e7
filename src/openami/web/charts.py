"""Charts as SVG text: pure functions from values to markup.

What always holds:
- no chart has a width of its own: bars stretch with the page while letters keep their size, from a phone to a wall;
- colours come from the style sheet by class (light, dark, readable for colour-blind people), and nothing is told by colour alone:
  estimated bars are hollow, flagged ones carry a triangle, missing intervals are hatched to the ground;
- every chart has a title and a description in words, and all words are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

PLOT_TOP_PX = 22
AXIS_PX = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval: value in the chart's unit, None = missing; how it came to be known; `flagged`: it failed a check."""

    value: float | None
    estimated: bool = False
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class HourBar:
    """One hour of a node in the chart's unit: what came in and what went out, None = unknown."""

    into: float | None
    out: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time axis before interval number `at`, with its label."""

    at: int
    label: str


def bars(name: str, title: str, description: str, data: Sequence[Bar], ticks: Sequence[Tick], unit: str, height: int = 220) -> Markup:
    """Energy by interval. `name` is an id, unique on its page; the vertical scale starts at 0 and goes below only for negatives."""
    known = [b.value for b in data if b.value is not None]
    low, high, step = scale(min([0.0, *known]), max([0.0, *known]))
    plot = _Plot(len(data), low, high, height)
    solid: list[str] = []
    hollow: list[str] = []
    marks: list[Markup] = []
    gaps: list[int] = []
    for k, bar in enumerate(data):
        if bar.value is None:
            gaps.append(k)
            continue
        (hollow if bar.estimated else solid).append(plot.box(k, 0, bar.value))
        if bar.flagged:
            marks.append(plot.triangle(k, max(bar.value, 0)))
    body = [plot.gaps(gaps, name), plot.grid(step, unit), plot.stretched(("bar", solid), ("bar-est", hollow)), *marks]
    return plot.figure(name, title, description, body, ticks)


def in_out(name: str, title: str, description: str, data: Sequence[HourBar], ticks: Sequence[Tick], unit: str, height: int = 240) -> Markup:
    """In and out by hour: the out as a bar, the loss on top of it up to a line at the in; a negative loss is cut out of the bar."""
    known = [v for b in data for v in (b.into, b.out) if v is not None]
    low, high, step = scale(min([0.0, *known]), max([0.0, *known]))
    plot = _Plot(len(data), low, high, height)
    out: list[str] = []
    loss: list[str] = []
    gain: list[str] = []
    line: list[str] = []
    gaps: list[int] = []
    for k, bar in enumerate(data):
        if bar.into is None or bar.out is None:
            gaps.append(k)
        if bar.out is not None:
            out.append(plot.box(k, 0, bar.out if bar.into is None else min(bar.out, bar.into)))
        if bar.into is not None:
            line.append(plot.level(k, bar.into))
            if bar.out is not None and bar.out != bar.into:
                (loss if bar.into > bar.out else gain).append(plot.box(k, bar.out, bar.into))
    paths = plot.stretched(("bar", out), ("bar-loss", loss), ("bar-gain", gain), ("line", line))
    return plot.figure(name, title, description, [plot.gaps(gaps, name), plot.grid(step, unit), paths], ticks)


def step_line(name: str, title: str, description: str, data: Sequence[float | None], ticks: Sequence[Tick], unit: str) -> Markup:
    """An average by interval (voltage, current) as a step line; its scale need not start at 0. Missing intervals are hatched."""
    known = [v for v in data if v is not None]
    low, high, step = scale(min(known, default=0.0), max(known, default=1.0), lines=2)
    plot = _Plot(len(data), low, high, 120)
    gaps = [k for k, v in enumerate(data) if v is None]
    path, pen_down = [], False
    for k, value in enumerate(data):
        if value is not None:
            path.append(f"{'V' if pen_down else f'M{k} '}{_n(plot.y(value))}H{k + 1}")
        pen_down = value is not None
    return plot.figure(name, title, description, [plot.gaps(gaps, name), plot.grid(step, unit), plot.stretched(("line", path))], ticks)


def share_bar(share: float | None) -> Markup:
    """A thin horizontal bar filled to `share` (cut to 0..1); an empty one where unknown. Decoration: the number stands beside it."""
    width = 0.0 if share is None else 100 * min(max(share, 0.0), 1.0)
    return Markup(
        '<svg class="chart" aria-hidden="true" width="100%" height="6">'
        '<rect width="100%" height="6" opacity=".2"/><rect width="{}%" height="6"/></svg>'
    ).format(_n(width))


def scale(low: float, high: float, lines: int = 4) -> tuple[float, float, float]:
    """(lowest line, highest line, step): both ends on a line, between them about `lines` steps of 1, 2 or 5 x 10^n."""
    span = high - low
    if span <= 1e-9 * max(abs(high), abs(low), 1.0):
        span = max(abs(high), abs(low), 1.0)
        high = low + span
    rough = span / lines
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999999)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where things lie: x in intervals, y in pixels from the top of the plot."""

    intervals: int
    low: float
    high: float
    height: int

    @property
    def plot_px(self) -> int:
        return self.height - PLOT_TOP_PX - AXIS_PX

    def y(self, value: float) -> float:
        return self.plot_px * (self.high - value) / (self.high - self.low)

    def box(self, k: int, start: float, end: float) -> str:
        top, bottom = self.y(max(start, end)), self.y(min(start, end))
        return f"M{_n(k + 0.08)} {_n(top)}h.84V{_n(bottom)}h-.84z"

    def level(self, k: int, value: float) -> str:
        return f"M{k} {_n(self.y(value))}h1"

    def percent(self, at: float) -> str:
        return f"{_n(100 * at / max(self.intervals, 1))}%"

    def stretched(self, *paths: tuple[str, list[str]]) -> Markup:
        """Paths in interval x pixel units, stretched to the width of the page; lines keep their thickness."""
        drawn = Markup("").join(
            Markup('<path class="{}" vector-effect="non-scaling-stroke" d="{}"/>').format(css, "".join(parts))
            for css, parts in paths
            if parts
        )
        return Markup('<svg y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>').format(
            PLOT_TOP_PX, self.plot_px, max(self.intervals, 1), self.plot_px, drawn
        )

    def gaps(self, missing: list[int], name: str) -> Markup:
        if not missing:
            return Markup("")
        runs: list[list[int]] = []
        for k in missing:
            if runs and runs[-1][1] == k:
                runs[-1][1] = k + 1
            else:
                runs.append([k, k + 1])
        pattern = Markup(
            '<defs><pattern id="{0}-gap" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<path class="thin" d="M0 0V6"/></pattern></defs>'
        ).format(name)
        rects = Markup("").join(
            Markup('<rect fill="url(#{}-gap)" x="{}" width="{}" y="{}" height="{}"/>').format(
                name, self.percent(a), self.percent(b - a), PLOT_TOP_PX, self.plot_px
            )
            for a, b in runs
        )
        return pattern + rects

    def grid(self, step: float, unit: str) -> Markup:
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        lines = []
        for k in range(round((self.high - self.low) / step) + 1):
            value = self.low + k * step
            y = PLOT_TOP_PX + self.y(value)
            zero = abs(value) < step / 2
            label = "0" if zero else f"{value:.{decimals}f}".replace("-", "\u2212")
            lines.append(
                Markup('<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/><text x="-6" y="{}">{}</text>').format(
                    "thin" if zero else "grid", _n(y), _n(y), _n(y + 4), label
                )
            )
        return Markup('<g text-anchor="end"><text x="-6" y="9">{}</text>{}</g>').format(unit, Markup("").join(lines))

    def triangle(self, k: int, value: float) -> Markup:
        y = PLOT_TOP_PX + self.y(value) - 9
        return Markup('<svg class="bad" x="{}" y="{}" overflow="visible"><path d="M0 7l-4-7h8z"/></svg>').format(
            self.percent(k + 0.5), _n(max(y, 1))
        )

    def figure(self, name: str, title: str, description: str, body: Sequence[Markup], ticks: Sequence[Tick]) -> Markup:
        axis = []
        for tick in ticks:
            anchor = "start" if tick.at == 0 else "end" if tick.at >= self.intervals else "middle"
            axis.append(
                Markup('<text text-anchor="{}" x="{}" y="{}">{}</text>').format(
                    anchor, self.percent(tick.at), self.height - 5, escape(tick.label)
                )
            )
        return Markup(
            '<div class="plot"><svg class="chart" role="img" aria-labelledby="{0}-t {0}-d" width="100%" height="{1}">'
            '<title id="{0}-t">{2}</title><desc id="{0}-d">{3}</desc>{4}{5}</svg></div>'
        ).format(name, self.height, title, description, Markup("").join(body), Markup("").join(axis))


def _n(value: float) -> str:
    """A number as short as SVG takes it, two decimals at most."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
