"""`openami headend status|orders|order|events`: the head-end seen and told by anybody who may write into the data folder."""

from __future__ import annotations

import json
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, app, audited

headend_app = typer.Typer(no_args_is_help=True, help="The head-end: how it stands, its orders, what meters have told.")
app.add_typer(headend_app, name="headend")


@headend_app.command()
def status(data: DataOption = DEMO_FOLDER, as_json: JsonOption = False) -> None:
    """Service levels and their clocks, silent meters, orders, what is refused."""
    from ..headend.status import read_status
    from ..store.deployment import Folder

    folder = Folder(data)
    found = read_status(folder, int(time.time()))
    if as_json:
        print(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
        return
    zone = folder.load().calendar
    state = found.state or {}
    if found.alive:
        print(
            f"head-end      running, port {state.get('port')}, {state.get('connections', 0):,} connections, {state.get('frames', 0):,} frames"
        )
        print(f"              {state.get('confirmed', 0):,} confirmed, tasks {_counts(state.get('tasks', {}))}")
    else:
        print(f"head-end      not running{_since(zone.local(state['at_s'])) if 'at_s' in state else ''}")
    for one in found.levels:
        print(f"level         {one.level.name}: {_standing(one.standing)}")
    print(f"meters        {found.meters:,}; silent for a day {len(found.silent):,}; never heard {len(found.never_heard):,}")
    for quiet in found.silent[:10]:
        print(f"  silent      {quiet.serial}{_since(zone.local(quiet.heard_s))}{'; ' + quiet.problem if quiet.problem else ''}")
    print(f"orders        {_counts(found.orders)}")
    print(f"quarantine    {_counts(found.refused)}; refused and not stored: {_counts(found.not_stored)}")


@headend_app.command()
def orders(
    data: DataOption = DEMO_FOLDER,
    unsettled: Annotated[bool, typer.Option("--unsettled", help="Only those that are not settled.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Orders to meters and what became of them."""
    from ..store.deployment import Folder
    from ..store.order_book import OrderBook
    from ..store.rows import Rows

    folder = Folder(data)
    zone = folder.load().calendar
    rows = Rows.of(folder)
    book = OrderBook(rows)
    for one in book.recent(limit, unsettled):
        due = book.due(one.order_id)
        if as_json:
            steps = [{"at_s": s.at_s, "event": str(s.event), "state": str(s.state), "note": s.note} for s in one.steps]
            told: dict[str, object] = {
                "order_id": one.order_id,
                "what": str(one.what),
                "meter": one.meter,
                "account": one.account,
                "state": str(one.state),
                "requested_s": one.requested_s,
                "who": one.who,
                "why": one.why,
                "problem": due.problem,
            }
            print(json.dumps({**told, "steps": steps}, ensure_ascii=False))
            continue
        note = due.problem or (one.steps[-1].note if one.steps else "")
        print(f"{zone.local(one.requested_s):%Y-%m-%d %H:%M:%S}  {one.order_id:20s} {one.what:12s} {one.meter:12s} {one.state:12s} {note}")
    rows.close()


@headend_app.command()
def order(
    what: Annotated[str, typer.Argument(metavar="disconnect|connect|load_limit|clock|calendar|keys|image|read")],
    meter: Annotated[str, typer.Argument(metavar="SERIAL")],
    who: Annotated[str, typer.Option(help="Who wants it; it stands in the audit trail.")],
    why: Annotated[str, typer.Option(help="Why; it stands in the audit trail.")],
    wish: Annotated[str, typer.Option(help='What exactly, as JSON: {"limit_w": 3000}, {"client": 64} ...')] = "{}",
    account: Annotated[str, typer.Option(help="The consumer's account, of a relay order.")] = "",
    image: Annotated[
        Path | None, typer.Option(help="image: the firmware file; it is kept in the data folder. Its name names the image.")
    ] = None,
    order_id: Annotated[str | None, typer.Option("--id", help="The same id again is the same order; left out = made up.")] = None,
    data: DataOption = DEMO_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Queue an order. The head-end carries it out; a disconnection only if the guard allows it at that moment."""
    from ..control.order import Order, What
    from ..headend.wishes import read_wish, strangers
    from ..store.deployment import Folder
    from ..store.order_book import OrderBook
    from ..store.rows import Rows

    if what not in list(What):
        raise InputError(f"{what!r} is no order; write {', '.join(What)}")
    if (what == What.IMAGE) != (image is not None):
        raise InputError("an order of a firmware image, and only that, is given the file; write image SERIAL --image FILE")
    if not who.strip() or not why.strip():
        raise InputError("an order needs somebody who wants it and a reason; give --who and --why")
    rows = Rows.of(Folder(data))
    try:
        if meter not in {one.serial for one in rows.meters()}:
            raise InputError(f"meter {meter} is not in the registry of {data}; see its serial number there")
        if image is not None:
            wish = _with_image(wish, image, Folder(data).images)
        if unknown := strangers(What(what), read_wish(What(what), wish)):
            raise InputError(f"--wish of a {what} order does not know {', '.join(unknown)}; docs/headend.md says what it may say")
        made = Order(order_id or f"o-{secrets.token_hex(6)}", What(what), account, meter, int(time.time()), wish=wish, who=who, why=why)
        asked = OrderBook(rows).ask(made)
        audited(rows, who, f"order {what}", meter, f"{asked.order_id}: {why}")
    finally:
        rows.close()
    if as_json:
        print(json.dumps({"order_id": asked.order_id, "what": str(asked.what), "meter": asked.meter, "state": str(asked.state)}))
    else:
        print(f"{asked.order_id}  {asked.what}  {asked.meter}  {asked.state}")


@headend_app.command()
def events(
    data: DataOption = DEMO_FOLDER,
    meter: Annotated[str | None, typer.Option(help="Only of this meter.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """What meters have told: magnet, cover, power gone and back ..."""
    from dataclasses import asdict

    from ..store.deployment import Folder
    from ..store.heard import Heard
    from ..store.rows import Rows

    folder = Folder(data)
    zone = folder.load().calendar
    rows = Rows.of(folder)
    for one in Heard(rows).events(serial=meter, limit=limit):
        if as_json:
            print(json.dumps(asdict(one), ensure_ascii=False))
        else:
            print(f"{zone.local(one.at_s):%Y-%m-%d %H:%M:%S}  {one.serial:12s} {one.code or '':>5}  {one.text}")
    rows.close()


def _with_image(wish: str, file: Path, kept: Path) -> str:
    """The wish with the image's name, size and SHA-256, and its bytes kept where the head-end looks for them."""
    from ..headend.images import keep_image
    from ..headend.wishes import as_object

    try:
        octets = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); give --image a firmware file") from None
    named = {"identifier": file.stem, "size": len(octets), "sha256": keep_image(kept, octets)}
    return json.dumps(named | as_object(wish))


def _counts(of: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in of.items()) or "none"


def _since(at: datetime) -> str:
    return f" since {at:%Y-%m-%d %H:%M}"


def _standing(stood: object) -> str:
    from ..headend.levels import Standing

    if not isinstance(stood, Standing):
        return "nothing is due"
    share = f"{stood.done:,} of {stood.due:,} in time"
    if stood.met is None:
        return f"{share}; {stood.lacking:,} more within {stood.left_s / 3600:.1f} h ({stood.per_hour:,.0f} an hour)"
    return f"{share}; {'met' if stood.met else 'missed'}"
