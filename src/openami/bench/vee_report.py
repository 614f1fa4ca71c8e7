"""`openami report vee`: what VEE finds and how well it estimates on real data, as a page (`vee.md`) and a picture (`vee.svg`).

The page is made of `households.py` and `masking.py` alone; the same seed gives the same bytes. With a folder of sets that are not shipped,
`homes_report.py` writes its page beside it.
"""

from __future__ import annotations

from pathlib import Path

from . import pages
from .homes_report import homes_page
from .households import Clock, Finding, Wrong, findings, heat_pump, planted, wrongly_marked
from .masking import BLOCKS, NAIVE, SHARE, Score, scores

COLOURS = ("#8a8f98", "#c9a227", "#5b8def", "#b07cc6", "#2f9e8f", "#d9743f", "#3c7a3c")
STYLE = (
    "<style>text{fill:#24292f}.g{stroke:#d0d7de}.b{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#444c56}.b{fill:#0d1117}}</style>"
)
WIDTH, HEIGHT, LEFT, TOP, PLOT = 720, 400, 52, 84, 260


def write_report(folder: Path, seed: int = 1, data: Path | None = None) -> list[Path]:
    """Write `vee.md` and `vee.svg` into `folder`, and `vee-homes.md` where `data` is given, the folder of sets that are not shipped; gives their
    paths. StorageError where they cannot be written; InputError where `data` holds none of the sets."""
    return pages.write_pages(folder, lambda: _texts(seed, data))


def _texts(seed: int, data: Path | None) -> dict[str, str]:
    table = {name: scores(hours, seed) for name, hours in BLOCKS.items()}
    texts = {"vee.md": page(findings(), planted(seed), wrongly_marked(), heat_pump(), table, seed), "vee.svg": picture(table)}
    return texts if data is None else {**texts, "vee-homes.md": homes_page(data, seed)}


def page(
    found: list[Finding], faults: list[Finding], wrong: list[Wrong], clock: Clock, table: dict[str, dict[str, Score]], seed: int
) -> str:
    """The page in Markdown."""
    return "\n".join(
        [
            "# VEE on real readings",
            "",
            f"Made by `openami report vee --seed {seed}` from the data sets that are shipped in `src/openami/fleet/data/` (sources and licences",
            "beside them). The same seed gives the same page. No sanctioned load is known of these meters; with one, plausibility finds more.",
            "",
            "## Documented defects of the Swiss households",
            *pages.table(("defect", "household", "check", "readings", "marked"), _documented(found)),
            "",
            "A run is judged inside its day, so the ends of a zero run that reach less than 12 hours into a day are not marked. The spikes are",
            "the readings of household 9717902 above 7 kWh; its others stay below 4.6 kWh.",
            "",
            "## Faults planted into a sound day",
            *pages.table(("check", "planted", "marked", "sound readings", "marked wrongly"), _planted(faults)),
            "",
            "## Good readings marked wrongly",
            "What the checks mark where nothing is documented. High/low usage is judged from the fifth week on, against the same weekday of four",
            "weeks; the others on every day.",
            "",
            *pages.table(("data", "check", "marked", "of", "share", "meter-days"), _wrongly(wrong)),
            "",
            "## Clock changes and doubled rows: the heat pump",
            *_clock(clock),
            "",
            "## Estimates against the truth",
            f"{100 * SHARE:.0f} % of the readings of 393 Swiss households hidden, four weeks; mean absolute error of a hidden quarter hour and, in",
            "brackets, the bias of the estimated energy. Like days are the same weekday of the three weeks before; the register is the day's true",
            "energy. November turns to December in this data and the houses heat with electricity, so older days are too low: a register mends",
            "the energy exactly.",
            "",
            *pages.table(("estimator", *table), _estimates(table)),
            "",
            "![Mean absolute error by estimator and length of the gap](vee.svg)",
            "",
        ]
    )


def _documented(found: list[Finding]) -> list[tuple[str, ...]]:
    return [(f.defect, f.where, pages.check_name(f.check), f"{f.readings:,}", f"{f.found:,}") for f in found]


def _planted(faults: list[Finding]) -> list[tuple[str, ...]]:
    own = {f.check: f for f in faults if f.defect == "planted"}
    rest = {f.check: f for f in faults if f.defect == "elsewhere"}
    return [(pages.check_name(c), f"{f.readings:,}", f"{f.found:,}", f"{rest[c].readings:,}", f"{rest[c].found:,}") for c, f in own.items()]


def _wrongly(wrong: list[Wrong]) -> list[tuple[str, ...]]:
    return [(w.what, pages.check_name(w.check), f"{w.marked:,}", f"{w.judged:,}", f"{100 * w.share:.4f} %", f"{w.days:,}") for w in wrong]


def _clock(clock: Clock) -> list[str]:
    days = ", ".join(f"{count} of {slots} slots" for slots, count in clock.days.items())
    return [
        f"{clock.rows:,} rows in local time without a mark of the clock change, {clock.doubled} stamps twice. Read with the zone Europe/Zurich:",
        f"{days}; {clock.conflicts} slots with two different values, {clock.missing} missing. By the clock alone, as if there were no changes:",
        f"{clock.conflicts_by_clock_alone} slots with two values and {clock.missing_by_clock_alone} missing, and the readings of two hours are lost.",
    ]


def _estimates(table: dict[str, dict[str, Score]]) -> list[tuple[str, ...]]:
    return [(name, *(pages.score_cell(table[gap][name]) for gap in table)) for name in next(iter(table.values()))]


def picture(table: dict[str, dict[str, Score]]) -> str:
    """Mean absolute error as bars, an SVG that follows the reader's light or dark."""
    names = list(next(iter(table.values())))
    most = max(score.mae_wh for by in table.values() for score in by.values())
    step = 100.0
    top = step * -(-most // step)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" role="img">',
        STYLE,
        f'<rect class="b" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Mean absolute error of a hidden quarter hour, Wh (shorter is better)</text>',
    ]
    for k, name in enumerate(names):
        x, y = LEFT + 168 * (k % 4), 40 + 18 * (k // 4)
        label = "carry forward (naive)" if name == NAIVE else name.replace(", scaled to the register", " + register")
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[k]}"/><text x="{x + 15}" y="{y}">{label}</text>')
    for line in range(int(top / step) + 1):
        height = TOP + PLOT * (1 - line * step / top)
        parts.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - 12}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{line * step:.0f}</text>')
    group = (WIDTH - 12 - LEFT) / len(table)
    bar = (group - 24) / len(names)
    for g, (gap, by) in enumerate(table.items()):
        left = LEFT + g * group + 12
        for k, name in enumerate(names):
            parts += _bar(left + k * bar, bar - 2, by[name], top, COLOURS[k], f"{gap}, {name}")
        parts.append(f'<text x="{left + (group - 24) / 2:.1f}" y="{TOP + PLOT + 18}" text-anchor="middle">{gap}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bar(x: float, width: float, score: Score, top: float, colour: str, title: str) -> list[str]:
    if not score.filled:
        return []
    height = PLOT * score.mae_wh / top
    place = f'x="{x:.1f}" y="{TOP + PLOT - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return [f'<rect {place} fill="{colour}"><title>{title}: {score.mae_wh:.0f} Wh</title></rect>']
