"""The demo for people: a progress bar while it works, one table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..money import rupees
from .run import Stage


@contextmanager
def stages(*, quiet: bool) -> Iterator[Stage]:
    """Progress bars on standard error, one a stage; none at all when quiet."""
    if quiet:
        yield lambda name, steps: lambda done: None
        return
    columns = (TextColumn("{task.description:<38}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def stage(name: str, steps: int) -> Callable[[int], None]:
            task = progress.add_task(name, total=steps)
            return lambda done: progress.advance(task, done)

        yield stage


def print_report(report: dict[str, Any]) -> None:
    """The report as one table: what came, what was refused, what was flagged, energy, money, losses, time."""
    console = Console()
    table = Table(
        title=f"{report['consumers']} households, {report['days']} days from {report['first_day']}, seed {report['seed']}", show_lines=False
    )
    table.add_column("")
    table.add_column("planted", justify="right")
    table.add_column("found", justify="right")
    table.add_column("", justify="left")
    _frames(table, report)
    _checks(table, report)
    _asked(table, report)
    _supply(table, report)
    _outages(table, report)
    _suspicion(table, report)
    _figures(table, report)
    _losses(table, report)
    table.add_section()
    for sentence, ok in report["holds"].items():
        table.add_row(sentence, "", "[green]holds[/]" if ok else "[bold red]DOES NOT HOLD[/]", "")
    console.print(table)


def _section(table: Table, title: str) -> None:
    table.add_section()
    table.add_row(f"[bold]{title}[/]")


def _frames(table: Table, report: dict[str, Any]) -> None:
    planned = report["frames"]["planned"]
    _section(table, "Frames")
    lost = planned.get("lost", 0) + planned.get("unheard", 0)
    sent = sum(planned.values()) - lost
    table.add_row("  sent / received", f"{sent:,}", f"{report['frames']['received']:,}", f"{lost:,} more were lost on the way")
    for cause, count in report["quarantine"].items():
        table.add_row(
            f"  quarantined: {cause.replace('_', ' ')}",
            f"{count['planted']:,}",
            f"{count['found']:,}",
            _tick(count["planted"] == count["found"]),
        )


def _checks(table: Table, report: dict[str, Any]) -> None:
    complete = report["completeness"]
    _section(table, "Readings")
    note = f"{complete['estimated']:,} estimated, {complete['without_any_value']:,} left without a value"
    table.add_row(
        "  measured intervals", "", f"{complete['measured']:,}", f"{complete['measured_share']:.2%} of {complete['intervals']:,}; {note}"
    )
    for name, count in report["checks"].items():
        planted = "" if count["planted"] is None else f"{count['planted']:,}"
        table.add_row(f"  check: {name.replace('_', ' ')}", planted, f"{count['flagged']:,}", "")


def _asked(table: Table, report: dict[str, Any]) -> None:
    """What was read from meters."""
    asked = report["asked"]
    _section(table, "Asked of meters")
    note = f"from {asked['meters']} meters, and {asked['registers']} registers at midnight"
    table.add_row("  intervals that their pushes lost / read", f"{asked['missing']:,}", f"{asked['rows']:,}", note)


def _supply(table: Table, report: dict[str, Any]) -> None:
    """Who was told, what the guard said, and what became of the orders to relays."""
    supply = report["supply"]
    _section(table, "Supply")
    messages = ", ".join(f"{count:,} {name}" for name, count in supply["messages"].items())
    table.add_row("  messages", "", f"{sum(supply['messages'].values()):,}", messages)
    decided = supply["decisions"]
    why = ", ".join(f"{count:,} {code}" for code, count in decided.items() if ":" in code)
    table.add_row("  the guard: cuts allowed / refused", f"{decided.get('allowed', 0):,}", f"{decided.get('refused', 0):,}", why)
    for order in supply["orders"]:
        table.add_row(f"  {order['what']} {order['account']}", "", order["state"], order["note"])
    for one in supply["chains"]:
        if one["took_s"] is not None:
            table.add_row(
                f"  payment to light {one['account']}", "", f"{one['took_s']} s", f"the meter closes {one['closing'].replace('_', ' ')}"
            )


def _outages(table: Table, report: dict[str, Any]) -> None:
    """Each planted outage with its customers, planted and found."""
    outages = report["outages"]
    _section(table, "Outages")
    for one in outages["planted"]:
        found = one["found"]
        note = f"{one['gasps_heard']} gasps heard" + (", announced" if one["planned"] else "")
        table.add_row(f"  {one['level']} {one['node']}, customers", str(one["customers"]), str(found["customers"]) if found else "-", note)
    told = [f"SAIDI {outages['saidi_min']:.1f} min, MAIFI {outages['maifi']:.3f}"] if outages["saidi_min"] is not None else []
    table.add_row("  interruptions per customer (SAIFI)", "", "-" if outages["saifi"] is None else f"{outages['saifi']:.3f}", *told)


def _suspicion(table: Table, report: dict[str, Any]) -> None:
    found = report["suspicion"]
    _section(table, "Suspicion (a reason to look, never a verdict)")
    table.add_row("  meters on the wrong transformer", str(len(found["mapped_wrong_planted"])), str(len(found["mapped_wrong_found"])), "")
    seen = sum(place is not None for place in found["thieves_found"].values())
    others = len(found["counting_too_little"]) - seen
    table.add_row(
        "  meters that count too little, by their own curve", str(len(found["thieves_found"])), str(seen), f"and {others} more to look at"
    )
    for serial, shape in found["thieves_planted"].items():
        at = found["thieves_transformer"][serial]
        share = "unknown" if at["loss_share"] is None else f"{at['loss_share']:.2%}"
        table.add_row(
            f"  theft of shape {shape}, in the balance",
            "",
            share,
            f"{at['transformer']}: place {at['place']} of {at['of']} by loss" if at["place"] else "",
        )


def _figures(table: Table, report: dict[str, Any]) -> None:
    energy, money = report["energy_kwh"], report["money"]
    _section(table, "Energy and money")
    note = f"of which {energy['consumers_estimated']:,.0f} kWh estimated"
    table.add_row("  consumers' energy", "", f"{energy['consumers_validated']:,.0f} kWh", note)
    for line, paise in ((k, v) for k, v in money["by_line_paise"].items() if v):
        table.add_row(f"  charged: {line.replace('_', ' ')}", "", rupees(paise), "")
    table.add_row("  charged in all", "", rupees(money["charges_paise"]), f"recharged {rupees(money['recharges_paise'])}")


def _losses(table: Table, report: dict[str, Any]) -> None:
    _section(table, "Loss (with coverage: the share of the energy that was truly metered)")
    for kind in ("feeders", "transformers"):
        nodes = report["losses"][kind]
        for name, node in nodes.items() if kind == "feeders" else _worst(nodes):
            share = "unknown" if node["loss_share"] is None else f"{node['loss_share']:.2%}"
            table.add_row(f"  {name}", "", share, f"of {node['in_wh'] / 1000:,.0f} kWh, coverage {node['coverage']:.1%}")
    time = report["timings"]
    _section(table, "Time")
    pushed = f"push {time['push_s']:.1f} s, decode {time['collect_s']:.1f} s, validate-bill-balance {time['close_s']:.1f} s"
    table.add_row("  in all", "", f"{time['total_s']:.1f} s", f"{time['frames_per_s']:,} frames/s; {pushed}")


def _worst(nodes: dict[str, Any]) -> list[tuple[str, Any]]:
    """The five transformers with the highest loss share."""
    known = [(name, node) for name, node in nodes.items() if node["loss_share"] is not None]
    return sorted(known, key=lambda item: -item[1]["loss_share"])[:5]


def _tick(ok: bool) -> str:
    return "" if ok else "[red]differs[/]"
