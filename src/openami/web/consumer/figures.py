"""A week in rupees and a day in hours, drawn as SVG: pure functions, small enough for a slow network.

What always holds: a picture has a title and says in words what it shows; nothing is told by colour alone: estimates are hollow, gaps are crossed
out, the tariff's periods carry their letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, PLOT, FOOT = 328, 96, 16


@dataclass(frozen=True, slots=True)
class Column:
    """value: None = unknown, a cross; label: below it, "" = none; hollow: partly estimated; mark: now, in ink; band: style class, "" = plain."""

    value: float | None
    label: str = ""
    hollow: bool = False
    mark: bool = False
    band: str = ""


def columns(name: str, title: str, description: str, data: Sequence[Column], top: str) -> Markup:
    """Bars from 0 to the largest value, which `top` names; a negative value is drawn as none. name: unique on the page."""
    largest = max((c.value for c in data if c.value is not None), default=0.0)
    step = WIDTH / max(len(data), 1)
    drawn = [_column(c, k * step, step, largest) for k, c in enumerate(data)]
    labels = [
        Markup('<text x="{}" y="{}">{}</text>').format(round(k * step + step / 2), PLOT + FOOT - 3, c.label)
        for k, c in enumerate(data)
        if c.label
    ]
    bands = [_band(c, k * step, step) for k, c in enumerate(data) if c.band]
    return Markup(
        '<svg class="chart" text-anchor="middle" viewBox="0 -14 {} {}" role="img" '
        'aria-labelledby="{}-t {}-d"><title id="{}-t">{}</title><desc id="{}-d">{}</desc>'
        '<path class="grid" d="M0 .5H{}M0 {}H{}"/><text text-anchor="start" x="0" y="-3">{}</text>{}{}{}</svg>'
    ).format(
        WIDTH,
        PLOT + FOOT + 14,
        *(name,) * 3,
        title,
        name,
        description,
        WIDTH,
        PLOT + 0.5,
        WIDTH,
        top,
        Markup("").join(bands),
        Markup("").join(drawn),
        Markup("").join(labels),
    )


def _column(one: Column, x: float, step: float, largest: float) -> Markup:
    gap = min(6.0, step * 0.2)
    if one.value is None:
        return Markup('<path class="thin" d="M{:.0f} {}l6 -6m0 6l-6 -6"/>').format(x + step / 2 - 3, PLOT - 2)
    height = max(0.0, one.value) / largest * (PLOT - 4) if largest > 0 else 0.0
    shape = "bar-est" if one.hollow else "now" if one.mark else "bar"
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        shape, x + gap / 2, PLOT - height, step - gap, max(height, 1.0)
    )


def _band(one: Column, x: float, step: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>').format(escape(one.band), x, step, PLOT)
