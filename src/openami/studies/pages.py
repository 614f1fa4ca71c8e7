"""The studies as pages: `openami report losses [STUDY]` writes docs/results/losses-STUDY.md, with the command that made it and
the load under which it was made. Same seed, same numbers; only the last line of a page differs from one day to the next."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from . import demand, interval, mapping, outage, physics, theft

INTERVAL_RUNS, MAPPING_SEEDS, OUTAGE_RUNS, THEFT_SEEDS = 400, 3, 10, 5


def write(names: Sequence[str], folder: Path, seed: int, data: Path | None) -> Iterable[Path]:
    """The pages of these studies, one after another; none named = all. data: the folder of public data that is not shipped; studies that cannot do
    without it are refused by name, or left out with a sentence where all are asked for."""
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        raise InputError(f"there is no study of losses {unknown[0]!r}; known are {', '.join(STUDIES)}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or STUDIES:
        begin, used, load = time.perf_counter(), time.process_time(), os.getloadavg()[0]
        body = STUDIES[name](seed, data)
        command = f"openami report losses {name}{'' if seed == 1 else f' --seed {seed}'}{'' if data is None else ' --data FOLDER'}"
        made = (
            f"\n---\nMade by `{command}` on {os.cpu_count()} cores: {time.process_time() - used:.0f} s of CPU, "
            f"{time.perf_counter() - begin:.0f} s in all, load {load:.1f} at the beginning.\n"
        )
        path = folder / f"losses-{name}.md"
        path.write_text(body.rstrip() + "\n" + made, encoding="utf-8")
        yield path


def interval_page(seed: int, data: Path | None) -> str:
    """Coverage over 400 runs of each setting, at every level and span."""
    usual = _covered(interval.USUAL, seed)
    hits, of = (sum(getattr(each, name) for own in usual.values() for each in own) for name in ("inside", "intervals"))
    rows = [
        (level, span, _share_covered(own), f"{sum(each.intervals for each in own):,}",
         f"± {100 * statistics.mean(each.half_width_share for each in own):.2f} % of what came in")
        for (level, span), own in usual.items()
    ]  # fmt: skip
    others = [(setting.name, *map(_share_covered, _covered(setting, 100 * seed + k).values())) for k, setting in enumerate(interval.OTHERS)]
    head = [f"{level}, {span}" for level, span in usual]
    return (
        "# Are the intervals of the losses honest?\n\n"
        f"{INTERVAL_RUNS} seeded runs: the 90 % interval covered the true loss in **{100 * hits / of:.1f} %** of {of:,} cases "
        "(wanted: 87 to 93 %).\n\n" + _says(interval.__doc__) + _table(("node", "span", "covered", "intervals", "half width, mean"), rows)
        + f"\n## Other networks, other meters, other gaps\n\n{INTERVAL_RUNS} runs of each, with draws of its own. Of a "
        "substation's days, as many as runs, chance alone moves a figure by three points, of a feeder's by two.\n\n"
        + _table(("setting", *head), others)
    )  # fmt: skip


def _covered(setting: interval.Setting, seed: int) -> dict[tuple[str, str], list[interval.Covered]]:
    """Every run of a setting, by level and span."""
    found: dict[tuple[str, str], list[interval.Covered]] = defaultdict(list)
    for run in interval.runs(INTERVAL_RUNS, seed, setting):
        for each in run:
            found[each.level, each.span].append(each)
    return found


def _share_covered(runs: Sequence[interval.Covered]) -> str:
    return f"{100 * sum(each.inside for each in runs) / sum(each.intervals for each in runs):.1f} %"


def physics_page(seed: int, data: Path | None) -> str:
    """SimBench's year, the European LV feeder's day where it is there, and the fit without a network."""
    rural = physics.simbench_audit()
    feeder = data / "ieee_european_lv_feeder" / "lvtestcase_opendss.zip" if data else None
    european = physics.european_audit(feeder) if feeder is not None and feeder.exists() else None
    rows = [
        (a.network, f"{a.percent:.3f} % of {a.base}", f"{a.published_percent:.3f} %", f"{a.flow_loss_kwh:,.2f} kWh", f"{a.audit_loss_kwh:,.2f} kWh",
         f"{100 * a.audit_against_flow:+.4f} %")
        for a in (rural, european) if a is not None
    ]  # fmt: skip
    left_out = "" if european else "\nThe IEEE European LV feeder was left out: give its OpenDSS files with `--data`.\n"
    fits = [_fitted_row(of, stolen) for of in physics.stretches(rural, european) for stolen in (0.0, 0.03, 0.08)]
    return (
        "# Does the audit find what wires truly lose?\n\n" + _says(physics.__doc__)
        + _table(("network", "loss by the audit", "as others reckon", "power flow", "account of the meters", "audit against flow"), rows) + left_out
        + FITS + _table(("network", "span", "not metered", "technical, fitted / true", "commercial, fitted", "commercial, true"), fits)
    )  # fmt: skip


FITS = """
## Without a network model

Networks known only by their meters: technical loss as fitted, as a share of the true one (90 % interval), and what is left over as commercial,
beside what was truly not metered. Wires that all share lose by the square of the sum, each consumer's own wire by its own square; consumers are not
at their peaks together, so the second part goes with the load as theft does. A fit without it was always low: 0.5 to 7.5 % on the six networks of
SimBench, 17 % on the European feeder. What is left has both signs: reactive power, and where along the wires the load sits.

"""


def _fitted_row(of: physics.Stretch, stolen: float) -> tuple[str, ...]:
    found, technical, taken_away = physics.fitted_beside_flow(of, stolen)
    if found is None:
        return of.network, of.span, f"{100 * stolen:.0f} %", "no fit", "-", f"{taken_away / 1e3:,.0f} kWh"
    share, low, high = (each / technical for each in (found.technical_wh, found.technical_low_wh, found.technical_high_wh))
    told = f"{share:.3f} ({low:.3f} to {high:.3f})"
    return of.network, of.span, f"{100 * stolen:.0f} %", told, f"{found.commercial_wh / 1e3:,.0f} kWh", f"{taken_away / 1e3:,.0f} kWh"


def outage_page(seed: int, data: Path | None) -> str:
    """Places, delays and indices, for three lengths of listening."""
    parts = ["# Are outages found where they are?\n\n", _says(outage.__doc__)]
    runs = [outage.one_run(seed * 1000 + k) for k in range(OUTAGE_RUNS)]
    rows = []
    for level in ("service", "phase", "transformer", "feeder"):
        judged = [j for run in runs for j in run.judged if j.level == level]
        delays = [j.delay_s for j in judged if j.delay_s is not None]
        rows.append((
            level, len(judged), _percent(j.level_right for j in judged), _percent(j.node_right for j in judged),
            _percent(j.delay_s is None for j in judged), f"{statistics.median(delays):.0f} s",
            f"{statistics.mean(abs(j.customers_off) for j in judged):.2f}",
        ))  # fmt: skip
    parts.append(_table(("planted at", "outages", "level right", "place right", "not found", "delay, median", "customers off, mean"), rows))
    parts.append(
        "\nA lone connection whose only gasp is lost is not found: nobody else could tell. It stays a silent meter.\n"
        f"False outages: {sum(run.false for run in runs)} in {OUTAGE_RUNS} runs of ten days.\n\n"
    )
    indices = [("SAIFI", "saifi"), ("SAIDI, minutes", "saidi_min"), ("CAIDI, minutes", "caidi_min"), ("MAIFI", "maifi")]
    parts.append(_table(("index", "true", "told", "off"), [_index_row(name, key, runs) for name, key in indices]))
    parts.append("\n## How long to listen\n\n")
    waits = []
    for window in (10, 30, 60, 120):
        some = [outage.one_run(seed * 1000 + k, window_s=window) for k in range(3)]
        judged = [j for run in some for j in run.judged if j.level != "service"]
        waits.append((f"{window} s", _percent(j.node_right for j in judged), sum(run.false for run in some)))
    parts.append(_table(("gathered for", "place right (fuse, transformer, feeder)", "false outages in 3 runs"), waits))
    return "".join(parts)


def _index_row(name: str, key: str, runs: list[outage.Run]) -> tuple[str, str, str, str]:
    true, told = (statistics.mean(getattr(getattr(run, side), key) or 0.0 for run in runs) for side in ("true", "told"))
    return name, f"{true:.3f}", f"{told:.3f}", f"{100 * (told / true - 1):+.1f} %"


def mapping_page(seed: int, data: Path | None) -> str:
    rows = [
        (f"{s.days} days", f"{s.noise_v:g} V", s.evidence, f"{100 * s.transformer_right:.1f} %", f"{100 * s.found:.0f} %",
         "-" if s.precision != s.precision else f"{100 * s.precision:.0f} %", f"{100 * s.phase_right:.1f} %")
        for s in mapping.grid(range(seed, seed + MAPPING_SEEDS))
    ]  # fmt: skip
    head = ("span", "noise of voltages", "evidence", "transformer right", "wrong homes found", "proposals right", "phase right")
    return f"# Where do meters really hang?\n\n{_says(mapping.__doc__)}Mean of {MAPPING_SEEDS} seeds.\n\n" + _table(head, rows)


def theft_page(seed: int, data: Path | None) -> str:
    """Every method with and without transformers' meters."""
    seeds = list(range(seed, seed + THEFT_SEEDS))
    told = list(theft.results(seeds))
    every, placed = [r for r in told if isinstance(r, theft.Result)], [p for p in told if isinstance(p, theft.Placed)]
    best = [r.possible for r in every]
    parts = [
        "# Who steals?\n\n", _says(theft.__doc__),
        (
            f"{THEFT_SEEDS} seeds, mean ± standard deviation. AUC of a shape: its thieves against the honest. Precision: thieves of any shape among "
            f"the 1 % ({int(theft.VISITS * theft.network().mean_w.size)}) visited; recovered: their share of all energy stolen, of which the best "
            f"possible 1 % of visits could reach {_spread(best, 100)} %. Visits are ranked by expected energy, AUC by probability. The learning "
            "methods have learnt from inspections of two other towns (a tenth of their customers at random and the tenth that the cold start "
            "suspects most).\n\n"
        ),
    ]  # fmt: skip
    for metered in (True, False):
        by_method: dict[str, list[theft.Result]] = defaultdict(list)
        for result in every:
            if result.metered == metered:
                by_method[result.method].append(result)
        rows = [
            (name, *(_spread([r.auc[s] for r in own]) for s in theft.SHAPES), _spread([r.auc_all for r in own]),
             f"{_spread([r.precision for r in own], 100)} %", f"{_spread([r.recovered for r in own], 100)} %")
            for name, own in by_method.items()
        ]  # fmt: skip
        parts.append(f"## {'With' if metered else 'Without'} transformers' meters\n\n")
        parts.append(_table(("method", *theft.SHAPES, "h1 to h4", "precision", "recovered"), rows) + "\n")
    parts += [
        "## Wrong places, before anybody is called a thief\n\n",
        PLACES,
        _table(PLACED, [_placed(*row) for row in zip(seeds, placed, strict=True)]),
        SURE,
        _table(("stated confidence", "places", "mean confidence", "right"), _sure([each for p in placed for each in p.sure])),
    ]
    parts.append("\n" + UNSEEN)
    return "".join(parts)


def _placed(seed: int, p: theft.Placed) -> tuple[object, ...]:
    return seed, p.wrong, p.doubted, p.right, f"{100 * p.energy_share:.0f} %", p.mistaken, p.doubted_wrongly


def _sure(told: Sequence[tuple[float, bool]]) -> Iterator[tuple[object, ...]]:
    """Other places by how sure they were, beside how often they were right."""
    for low, high in pairwise((0.5, 0.7, 0.8, 0.9, 0.97, 1.001)):
        own = [(confidence, right) for confidence, right in told if low <= confidence < high]
        if own:
            confidence, right = (statistics.mean(each) for each in zip(*own, strict=True))
            yield f"{low:g} to {min(high, 1):g}", len(own), f"{100 * confidence:.0f} %", f"{100 * right:.0f} %"


SURE = """
Is the confidence honest? Every other place believed by more than a half, all seeds together; from 0.9 on it is proposed to a person:

"""
PLACED = (
    "seed",
    "wrongly registered",
    "doubted",
    "proposed rightly",
    "their share of the wrong energy",
    "proposed wrongly",
    "honest, at home and doubted",
)
PLACES = """By energies alone, among all the network's transformers, with the thieves at work: what they take is noise in this. Those who use
much are found; who uses little on a transformer of a hundred customers is not, and does little harm there. Where voltages are read they decide:
[losses-mapping](losses-mapping.md).

The limit: one registered wrongly in a hundred, on any of some ninety transformers, is believed with nine to one after a log likelihood of 11.
A coefficient with standard error s at both transformers gives 1 / (s² + 0.01) of it, so s must be below about 0.3, with what thieves take as noise.

"""


UNSEEN = """## What cannot be seen, and why

- **h5 and h6 keep the day's energy**: nothing is missing, so no energy balance can see them, and nothing is recovered by a visit. They are told by
  their looks only: h5 repeats itself; h6 has an ordinary day at the wrong hours, and with a transformer's meter its ups and downs do not arrive
  there. Without that meter the evidence is at chance (a day turned round is another household's day); only boosting, which has seen others of
  them, does better.
- **h1 with a constant share near 0.8** takes little and looks like a quiet home; only its transformer's loss, in step with it, tells.
- **A thief from before the first reading** leaves no fall; a hook before the meter of somebody who has none leaves nothing but its transformer's
  loss.
- **Precision is of guilty meters, not of crimes**: the same evidence comes from a wrong current-transformer ratio, a stuck register or a
  wrong mapping. Each suspect says so.
- **Tamper events and volts per ampere** are evidence in a running system; these households have neither, so the study does not show what they add.
- The thieves are planted by formula on real households. Real ones adapt; these figures compare methods and promise nothing.
"""


def demand_page(seed: int, data: Path | None) -> str:
    if data is None:
        raise InputError("the forecast study needs real loads that are not shipped; give their folder with --data")
    rows = [
        (
            t.load,
            t.method,
            f"{t.pinball_percent:.2f} %",
            f"{t.against_naive:.2f}",
            f"{100 * t.within_90:.0f} %",
            f"{100 * t.within_50:.0f} %",
            t.days,
        )
        for load in demand.loads(data)
        for t in demand.told(load, seed=seed)
    ]
    head = (
        "load",
        "method",
        "pinball loss / mean demand",
        "against seasonal naive",
        "inside the 90 % band",
        "inside the 50 % band",
        "days",
    )
    return f"# How good is tomorrow's demand?\n\n{_says(demand.__doc__)}" + _table(head, rows)


STUDIES: dict[str, Callable[[int, Path | None], str]] = {
    "interval": interval_page,
    "physics": physics_page,
    "outages": outage_page,
    "mapping": mapping_page,
    "theft": theft_page,
    "forecast": demand_page,
}


def _says(doc: str | None) -> str:
    """A module's docstring as the page's introduction, without the question that is the page's title."""
    return (doc or "").partition("?")[2].strip() + "\n\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def _percent(truths: Iterable[bool]) -> str:
    held = list(truths)
    return f"{100 * sum(held) / max(len(held), 1):.1f} %"


def _spread(values: Sequence[float], times: float = 1.0) -> str:
    digits = 1 if times > 1 else 3
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{times * statistics.mean(values):.{digits}f} ± {times * spread:.{digits}f}"
