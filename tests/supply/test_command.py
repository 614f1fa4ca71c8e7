"""`openami supply` as a clerk types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.control.order import Order, What
from openami.day import Site
from openami.errors import InputError
from openami.fleet.town import Town
from openami.store.outbox import Outbox
from openami.store.supply_rows import SupplyRows
from openami.supply.guard import SupplyGuard

from .houses import FIRST, Phones, at, in_order, owing, worker_of


def run(site: Site, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["supply", *words, "--data", str(site.folder.root)])
    if isinstance(done.exception, InputError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_decision_is_listed_explained_and_made_again(site: Site, town: Town) -> None:
    now_s, account = at(site, FIRST, "60:00"), owing(town)[0]
    meter = next(p.meter for a in town.accounts if a.number == account for p in town.points if p.name == a.usage_point)
    SupplyGuard(site)(Order("o1", What.DISCONNECT, account, meter, now_s, who="asha"), now_s)
    (one,) = (json.loads(line) for line in run(site, "decisions", "--account", account, "--json").splitlines())
    assert not one["allowed"]
    assert "life_support?" in one["against"].split()
    told = run(site, "explain", str(one["number"]))
    assert "made again: the same" in told
    assert all(reason["code"] in told for reason in json.loads(one["reasons"]))
    with pytest.raises(InputError, match="there is no decision 99"):
        run(site, "explain", "99")


def test_what_is_told_stands_with_its_person_and_is_refused_by_name(site: Site, town: Town) -> None:
    account = owing(town)[0]
    run(site, "tell", account, "life_support", "yes", "--who", "asha", "--why", "oxygen at home")
    assert [(row["name"], row["who"]) for row in SupplyRows(site.rows.database).history(account)] == [("life_support", "asha")]
    for words, why in (
        (("99", "life_support", "yes"), "there is no account 99"),
        ((account, "life_support", "maybe"), "is yes or no"),
        ((account, "luck", "yes"), "luck"),
        ((account, "written_notice_on", "yesterday"), "is no date"),
    ):
        with pytest.raises(InputError, match=why):
            run(site, "tell", *words, "--who", "asha", "--why", "x")


def test_a_carriers_file_is_taken_and_what_never_left_is_named(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    worker_of(site, phones).step(at(site, FIRST, "32:00"))
    sent = next(notice.notice_id for notice in phones.took if notice.kind == "before_cut")
    file = site.folder.root / "reports.csv"
    file.write_text(f"notice_id,arrived,at\n{sent},yes,2025-12-02T08:00:09+05:30\nN99,yes,2025-12-02T08:00:09+05:30\n", encoding="utf-8")
    assert "message N99 was never sent" in run(site, "reports", str(file), code=1)
    assert next(one for one in Outbox(site.rows.database).recent(1000) if one.notice_id == sent).delivered_s == at(site, FIRST, "32:00") + 9
    assert "delivered" in run(site, "notices", "--limit", "1000")
