"""`openami supply`: why somebody is cut or not, what became of a payment, what consumers were told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, app, audited, site_at

supply_app = typer.Typer(no_args_is_help=True, help="Supply: decisions of the guard, notices, cuts, and payments that become supply again.")
app.add_typer(supply_app, name="supply")
WhoOption = Annotated[str, typer.Option(help="Who says so; it stands in the record.")]
WhyOption = Annotated[str, typer.Option(help="Why; it stands in the record.")]


@supply_app.command()
def decisions(
    data: DataOption = DEMO_FOLDER,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    allowed: Annotated[bool | None, typer.Option("--allowed/--refused", help="Only these.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """What the guard has decided, and what stood in the way ("?" = not known)."""
    from dataclasses import asdict

    from ..store.supply_rows import SupplyRows

    site = site_at(data)
    for one in SupplyRows(site.rows.database).decisions(account, allowed, max(1, limit)):
        if as_json:
            print(json.dumps(asdict(one), ensure_ascii=False))
        else:
            at = site.calendar.local(one.at_s)
            print(
                f"{one.number:6d}  {at:%Y-%m-%d %H:%M:%S}  {one.account:14s} {'cut allowed' if one.allowed else 'no cut':12s} {one.against}"
            )


@supply_app.command()
def explain(
    number: Annotated[int, typer.Argument(help="The decision's number, from `openami supply decisions`.")],
    data: DataOption = DEMO_FOLDER,
    language: Annotated[str, typer.Option(help="en or hi.")] = "en",
) -> None:
    """One decision in full: every rule with its answer and source, the facts, and whether it comes out alike when it is made again. Exit code 1 if
    it does not."""
    from ..supply.guard import replay

    site = site_at(data)
    kept, again = replay(site, number)
    if language not in ("en", "hi"):
        raise InputError(f"--language {language!r} is neither en nor hi")
    print(f"Decision {kept.number}, {site.calendar.local(kept.at_s):%Y-%m-%d %H:%M:%S}, account {kept.account}, meter {kept.meter}")
    print(f"order {kept.order_id}, policy {kept.policy}: {'the cut was allowed' if kept.allowed else 'the cut was refused'}")
    for reason in json.loads(kept.reasons):
        mark = {True: "yes", False: "NO ", None: "?  "}[reason["ok"]]
        source = reason["source"] or f"verify: {reason['verify']}"
        print(f"  {mark} {reason['code']:24s}{reason[language]}  [{source}]")
    print(f"facts: {kept.facts}")
    print("made again: the same" if again.same else f"made again: otherwise in {', '.join(again.differ)}")
    raise typer.Exit(0 if again.same else 1)


@supply_app.command()
def chains(
    data: DataOption = DEMO_FOLDER,
    hours: Annotated[int, typer.Option(help="How far back.")] = 72,
    order_id: Annotated[str | None, typer.Option("--order", help="Only this reconnection.")] = None,
    as_json: JsonOption = False,
) -> None:
    """From payment to light: each reconnection with the time of every step, and what its consumer is told."""
    from dataclasses import asdict

    from ..supply.chain import chain_of
    from ..supply.chain import chains as found_chains

    site = site_at(data)
    since_s = int(time.time()) - hours * 3600 if not site.folder.is_simulated() else 0
    found = [chain_of(site.rows, order_id)] if order_id else found_chains(site.rows, since_s)
    for one in found:
        if as_json:
            print(json.dumps(asdict(one) | {"took_s": one.took_s}, ensure_ascii=False))
            continue
        steps = {"paid": one.paid_s, "posted": one.posted_s, "ordered": one.ordered_s, "sent": one.sent_s, "accepted": one.accepted_s}
        steps |= {"ready": one.ready_s, "closed": one.closed_s, "light": one.light_s}
        told = "  ".join(f"{name} {site.calendar.local(at):%H:%M:%S}" for name, at in steps.items() if at is not None)
        print(f"{one.order_id}  account {one.account}  {one.stage}: {told}")
        print(f"    {one.told('en')}{f'  ({one.problem})' if one.problem else ''}")


@supply_app.command()
def notices(
    data: DataOption = DEMO_FOLDER,
    account: Annotated[str | None, typer.Option(help="Only to this account.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """What consumers were told, and what became of each message."""
    from dataclasses import asdict

    from ..store.outbox import Outbox

    site = site_at(data)
    outbox = Outbox(site.rows.database)
    for one in outbox.of_account(account, limit) if account else outbox.recent(limit):
        if as_json:
            print(json.dumps(asdict(one), ensure_ascii=False))
        else:
            print(f"{site.calendar.local(one.made_s):%Y-%m-%d %H:%M}  {one.account:14s} {one.kind:13s} {one.state:10s} {one.text}")


@supply_app.command()
def reports(
    file: Annotated[Path, typer.Argument(help="A carrier's CSV: notice_id, arrived (yes or no), at (with its offset from UTC).")],
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Take a carrier's reports on deliveries, which the guard goes by. Exit code 1 if any was refused."""
    from ..notices.delivery import take_reports
    from ..store.outbox import Outbox

    taken, refused = take_reports(Outbox(site_at(data).rows.database), file)
    for sentence in refused:
        print(sentence)
    print(f"{taken} reports taken, {len(refused)} refused")
    raise typer.Exit(1 if refused else 0)


@supply_app.command()
def tell(
    account: Annotated[str, typer.Argument(help="The account's number; '*' for all of which nothing else is told.")],
    fact: Annotated[str, typer.Argument(help="life_support, dispute_open, kill_switch_on, written_notice_on ...")],
    value: Annotated[str, typer.Argument(help="yes, no, or a date as 2025-12-01.")],
    who: WhoOption,
    why: WhyOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Tell a fact that the guard asks of and only people know. The kill switch is `tell '*' kill_switch_on yes`."""
    from datetime import date

    from ..store.supply_rows import ANYBODY, SupplyRows

    site = site_at(data)
    if account != ANYBODY and account not in {one.number for one in site.rows.accounts()}:
        raise InputError(f"there is no account {account}; see its number, or give '*' for all")
    if fact == "written_notice_on":
        try:
            date.fromisoformat(value)
        except ValueError:
            raise InputError(f"{value!r} is no date; write it as 2025-12-01") from None
    elif value not in ("yes", "no"):
        raise InputError(f"{fact} is yes or no, not {value!r}")
    told: bool | str = value if fact == "written_notice_on" else value == "yes"
    SupplyRows(site.rows.database).tell(account, fact, told, int(time.time()), who, why)
    audited(site.rows, who, f"supply {fact} {value}", account, why)
    print(f"{account}: {fact} {value}")


@supply_app.command()
def propose(
    who: WhoOption,
    why: WhyOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Propose the cut of everybody whom the guard would allow but for the number: a second person must approve it."""
    from ..control.order import What
    from ..store.proposals import Proposals
    from ..supply.due import allowed_but_for_number

    site = site_at(data)
    now_s = int(time.time())
    meters = allowed_but_for_number(site, now_s)
    if not meters:
        print("the guard would allow nobody's cut now")
        return
    made = Proposals(site.rows).make(str(What.DISCONNECT), tuple(meters), who, why, now_s)
    audited(site.rows, who, "propose disconnect", made.id, f"{len(meters)} meters: {why}")
    print(f"{made.id}: {len(meters)} meters; another person approves it: openami supply approve {made.id} --who NAME")


@supply_app.command()
def approve(
    number: Annotated[str, typer.Argument(help="The proposal's number.")],
    who: WhoOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Approve another person's proposal: its orders are queued, and the guard is asked for each when it leaves."""
    from ..store.proposals import Proposals
    from ..supply.due import order_proposal

    site = site_at(data)
    now_s = int(time.time())
    found = Proposals(site.rows).decide(number, True, who, now_s)
    made = order_proposal(site, found, now_s)
    audited(site.rows, who, "approve disconnect", number, f"{made} orders")
    print(f"{made} orders queued")


@supply_app.command()
def run(
    data: DataOption = DEMO_FOLDER,
    once: Annotated[bool, typer.Option("--once", help="One step, then end.")] = False,
) -> None:
    """The supply worker: notices, cuts that the guard allows, and what follows from them. Beside `openami serve --role headend`; stop it with
    Ctrl-C, start it again at any time."""
    import signal
    import threading

    from ..supply.worker import SupplyWorker

    worker, stop = SupplyWorker(site_at(data)), threading.Event()
    if once:
        done = worker.step(int(time.time()))
        print(", ".join(f"{count} {name}" for name, count in sorted(done.items()) if count) or "nothing to do")
        return
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker.run(stop)
