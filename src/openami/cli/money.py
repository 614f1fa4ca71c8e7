"""`openami ledger` and `openami payments`: money as a clerk and an auditor see it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..money import rupees
from ..registry import PaymentMode
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app, audited, site_at

ledger_app = typer.Typer(no_args_is_help=True, help="The ledger: an account's money, its chain, totals, conversions.")
payments_app = typer.Typer(no_args_is_help=True, help="Payments: a gateway's file against the ledger, the poll, a simulated gateway.")
app.add_typer(ledger_app, name="ledger")
app.add_typer(payments_app, name="payments")


@ledger_app.command()
def show(
    account: Annotated[str, typer.Argument(help="The account's number.")],
    data: DataOption = DEMO_FOLDER,
    at: Annotated[str | None, typer.Option(help="What the balance showed then: local time, as 2025-12-03T14:05.")] = None,
    as_json: JsonOption = False,
) -> None:
    """An account's rows, where it stands, and what its balance showed at an instant."""
    from ..day.books import shown_balance_paise
    from ..store.ledger import Ledger

    site = site_at(data)
    ledger = Ledger(site.rows.database)
    standing, rows = ledger.standing(account), ledger.rows(account)
    instant = int(datetime.now(UTC).timestamp()) if at is None else _instant(site, at)
    shown = shown_balance_paise(site, account, instant)
    told = [asdict(row.transfer) | {"posted_s": row.posted_s, "hash": row.hash.hex()} for row in rows]
    if as_json:
        print(json.dumps({"account": account, "at_s": instant, "shown_paise": shown, "rows": told}, default=str))
        return
    for row in rows:
        t = row.transfer
        posted = site.calendar.local(row.posted_s).strftime("%Y-%m-%d %H:%M")
        refers = f"  for {t.refers_to}" if t.refers_to else ""
        print(
            f"{t.day}  posted {posted}  {t.kind:12s}{t.debit:>10s} -> {t.credit:10s}{rupees(t.amount_paise):>16s}  {t.transfer_id}{refers}"
        )
    charged = f"charges up to {standing.charged_to} are in the ledger" if standing.charged_to else "charges are in the statements"
    print(f"balance shown {'now' if at is None else at}: {rupees(shown)}; {charged}")


def _instant(site: Any, text: str) -> int:
    from zoneinfo import ZoneInfo

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--at {text!r} is not a time; write it as 2025-12-03T14:05") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(site.deployment.zone))).timestamp())


@ledger_app.command()
def check(data: DataOption = DEMO_FOLDER, as_json: JsonOption = False) -> None:
    """Does everything tie? Every account's chain and head, debits against credits, statements against the ledger. Exit code 1 if not."""
    from ..day.books import untied
    from ..store.ledger import Ledger

    site = site_at(data)
    ledger = Ledger(site.rows.database)
    books = ledger.trial_balance()
    broken = [{"account": account, "what": what} for account, what in ledger.broken()]
    differ = [each for day in site.lake.days("statements") for each in untied(site, day)]
    holds = not broken and not differ and sum(books.values()) == 0
    if as_json:
        print(
            json.dumps({"holds": holds, "books_paise": books, "broken": broken, "untied": [asdict(each) for each in differ]}, default=str)
        )
    else:
        for book, paise in books.items():
            print(f"{book:10s}{rupees(paise):>20s}")
        for one in broken:
            print(f"account {one['account']}: {one['what']}")
        for each in differ:
            print(f"{each.day} {each.what}: statements {rupees(each.statements_paise)}, ledger {rupees(each.ledger_paise)}")
        print("everything ties" if holds else "this does not tie")
    raise typer.Exit(0 if holds else 1)


@ledger_app.command()
def note(data: DataOption = DEMO_FOLDER) -> None:
    """Keep the totals of the closed days, as control totals that later questions and checks go by."""
    from ..day.books import note_totals

    site = site_at(data)
    print(f"{sum(note_totals(site, day) for day in site.lake.days('statements'))} totals noted")


@ledger_app.command()
def settle(
    through: Annotated[str, typer.Option(help="The last day whose charges are taken.")],
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Bring the charges of closed days into the ledger, as a conversion needs them."""
    from ..day.books import settle_charges

    print(f"{settle_charges(site_at(data), a_day(through, '--through'))} rows posted")


@ledger_app.command()
def convert(
    conversion_id: Annotated[
        str, typer.Argument(help="A name for this conversion; run it again under the same name to take what is left.")
    ],
    to: Annotated[PaymentMode, typer.Option(help="The payment mode to go to.")],
    day: Annotated[str, typer.Option(help="The first local day of the new mode.")],
    who: Annotated[str, typer.Option(help="Who orders it.")],
    why: Annotated[str, typer.Option(help="On what ground.")],
    accounts: Annotated[list[str] | None, typer.Option("--account", help="Only these accounts; left out = all of the other mode.")] = None,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Convert accounts between prepaid and postpaid; what is not settled keeps its mode and is named. Exit code 1 while any is."""
    from ..store import ledger_conversion

    site = site_at(data)
    database, now = site.rows.database, datetime.now(UTC)
    done = ledger_conversion.convert(
        database, conversion_id, to, a_day(day, "--day"), int(now.timestamp()), who=who, why=why, numbers=accounts
    )
    audited(site.rows, who, f"convert to {to.value}", conversion_id, why)
    print(
        f"{done.converted} converted, {done.refused} not; {rupees(done.rupees_before_paise)} before, {rupees(done.rupees_after_paise)} after"
    )
    for number, causes in ledger_conversion.refusals(database, conversion_id, 20):
        print(f"account {number}: {'; '.join(causes)}")
    raise typer.Exit(0 if done.finished else 1)


@ledger_app.command()
def bills(
    account: Annotated[str, typer.Argument(help="The account's number.")], data: DataOption = DEMO_FOLDER, as_json: JsonOption = False
) -> None:
    """A postpaid account's bills of which something is owed, the oldest first."""
    from ..store.ledger_bills import open_bills

    found = open_bills(site_at(data).rows.database, account)
    for each in found:
        if as_json:
            print(json.dumps(asdict(each), default=str))
        else:
            print(f"{each.bill_id}  issued {each.issued}, due {each.due}: {rupees(each.owed_paise)} of {rupees(each.amount_paise)} owed")
    if not as_json:
        print(f"{len(found)} bills open, {rupees(sum(each.owed_paise for each in found))} owed")


@ledger_app.command()
def late(day: Annotated[str, typer.Option(help="The local day up to which lateness is charged.")], data: DataOption = DEMO_FOLDER) -> None:
    """Charge the late surcharge of overdue postpaid bills, by the deployment's policy; a day is charged once, however often this is run."""
    from ..prepaid.postpaid import postpaid_policy
    from ..store.ledger_bills import charge_lateness

    site, on = site_at(data), a_day(day, "--day")
    policy = postpaid_policy(site.deployment.policy, on)
    print(f"{charge_lateness(site.rows.database, policy, on, int(datetime.now(UTC).timestamp()))} accounts charged")


@ledger_app.command()
def interest(
    day: Annotated[str, typer.Option(help="The local day up to which interest is paid.")],
    since: Annotated[str, typer.Option(help="The day from which deposits earn it where none was paid before.")],
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Pay interest on deposits, by the deployment's policy; a day is paid once, however often this is run."""
    from ..prepaid.postpaid import postpaid_policy
    from ..store.ledger_bills import pay_deposit_interest

    site, on = site_at(data), a_day(day, "--day")
    policy, now = postpaid_policy(site.deployment.policy, on), int(datetime.now(UTC).timestamp())
    print(f"{pay_deposit_interest(site.rows.database, policy, on, a_day(since, '--since'), now)} accounts paid")


@ledger_app.command()
def instalments(
    day: Annotated[str, typer.Option(help="The local day whose instalments are taken.")], data: DataOption = DEMO_FOLDER
) -> None:
    """Take the agreed daily instalments of old arrears, with what was missed before, up to the cap; a day is taken once. A closed day is refused:
    its statement is told, and the next open day takes what was missed."""
    from ..day.books import refuse_unshown
    from ..store.ledger_bills import take_instalments

    site, on, now_s = site_at(data), a_day(day, "--day"), int(datetime.now(UTC).timestamp())
    refuse_unshown(site, on, now_s)
    print(f"{take_instalments(site.rows.database, on, now_s)} accounts paid their instalment")


@payments_app.command()
def reconcile(
    file: Annotated[Path, typer.Argument(help="The gateway's file of the day: CSV with payment_id, account, amount_paise.")],
    gateway: Annotated[str, typer.Option(help="The gateway's name in the ledger.")],
    day: Annotated[str, typer.Option(help="The local day of the file.")],
    data: DataOption = DEMO_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """What a gateway's file and the ledger do not agree on. Exit code 1 if there is anything."""
    from ..payments import daily_file

    site = site_at(data)
    rows = daily_file.read_daily_file(file, gateway)
    differences = daily_file.reconcile(site.rows.database, gateway, a_day(day, "--day"), rows)
    for each in differences:
        if as_json:
            print(json.dumps(asdict(each)))
        else:
            theirs, ours = ("-" if p is None else rupees(p) for p in (each.theirs_paise, each.ours_paise))
            print(f"{each.payment_id}  account {each.account}  {each.cause}: gateway {theirs}, ledger {ours}")
    if not as_json:
        print(f"{len(rows)} payments in the file, {len(differences)} differences")
    raise typer.Exit(1 if differences else 0)


@payments_app.command()
def poll(
    gateway: Annotated[str, typer.Option(help="A gateway of payments.toml.")],
    older_than: Annotated[int, typer.Option(help="Seconds that a payment must have been open for.")] = 60,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Ask a gateway how the payments stand that are still open, and take what it answers."""
    from ..payments.client import GatewayClient
    from ..payments.gateways import load_gateways
    from ..supply.paying import payment_desk

    site, known = site_at(data), load_gateways(data)
    if gateway not in known or not known[gateway].address:
        raise InputError(f"{data / 'payments.toml'} has no gateway {gateway!r} with an address; write a table [{gateway}]")
    client = GatewayClient(known[gateway], payment_desk(site))
    outcomes = client.poll(older_than)
    client.close()
    for outcome in outcomes:
        print(f"{outcome.event.payment_id}: {outcome.result} {outcome.cause or outcome.state or ''}".rstrip())
    print(f"{len(outcomes)} answers")


@payments_app.command("serve")
def serve_payments(
    data: DataOption = DEMO_FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 8090,
) -> None:
    """Take gateways' messages alone, apart from the console: the routes of `payments_router`."""
    from fastapi import FastAPI

    from ..payments.gateways import load_gateways
    from ..payments.http import payments_router
    from ..supply.paying import payment_desk

    site, gateways = site_at(data), load_gateways(data)
    if not gateways:
        raise InputError(f"{data / 'payments.toml'} names no gateway, so nobody could be believed; see docs/money.md")
    app_ = FastAPI(title="OpenAMI payments", docs_url=None, redoc_url=None)
    app_.include_router(payments_router(payment_desk(site), gateways))
    _serve(app_, host, port, "Payments are taken")


@payments_app.command("gateway")
def gateway_(
    webhook: Annotated[str, typer.Option(help="Where payments are told of, as http://127.0.0.1:8090/payments/upi/events.")],
    secret: Annotated[str, typer.Option(help="The shared secret, by reference: env:NAME or file:PATH.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 8091,
    seed: Annotated[int, typer.Option(help="Of its misbehaviour.")] = 1,
) -> None:
    """A simulated payment gateway that misbehaves on request, for tests and demonstrations."""
    from ..payments.gateways import Gateway
    from ..payments.simulator import create_gateway
    from ..store.sql import refer

    if not secret.startswith(("env:", "file:")):
        raise InputError("--secret holds the secret itself; give env:NAME or file:PATH")
    app_ = create_gateway(Gateway("simulated", "", (refer(secret, "--secret").encode(),)), webhook, seed)
    _serve(app_, host, port, "The simulated gateway listens")


def _serve(app_: Any, host: str, port: int, what: str) -> None:
    import contextlib
    import sys

    import uvicorn

    from .serving import bind

    listener = bind(host, port)
    print(f"{what} at http://{host}:{listener.getsockname()[1]}/ - stop it with Ctrl-C", file=sys.stderr, flush=True)
    config = uvicorn.Config(app_, log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
