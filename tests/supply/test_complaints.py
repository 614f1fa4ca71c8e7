"""A complaint about money keeps the supply on until it is answered; the answer is told, recorded, and ends nothing else."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.control.order import Order, What
from openami.day import Site
from openami.errors import InputError, RequestError
from openami.fleet.town import Town
from openami.store.audit import AuditTrail
from openami.store.complaints import About, Complaints
from openami.store.outbox import Outbox
from openami.store.supply_rows import SupplyRows
from openami.supply.complaints import answer
from openami.supply.facts import facts_of

from .houses import FIRST, at, in_order, owing

NOON = "84:00"


def disputed(site: Site, account: str) -> bool | None:
    return facts_of(site, Order("o", What.DISCONNECT, account, "", at(site, FIRST, NOON)), at(site, FIRST, NOON)).dispute_open


def complain(site: Site, account: str, phone: str, about: About = About.AMOUNT) -> str:
    return Complaints(site.rows.database).make(account, about, "the amount is wrong", phone, at(site, FIRST, "80:00")).id


def test_an_open_dispute_is_a_fact_of_its_own_and_its_answer_ends_it(site: Site, town: Town) -> None:
    now_s, account = at(site, FIRST, NOON), owing(town)[0]
    in_order(site, now_s)
    assert disputed(site, account) is False
    first, second = complain(site, account, "a"), complain(site, account, "b", About.PAYMENT)
    SupplyRows(site.rows.database).tell(account, "dispute_open", True, now_s, "phone", f"complaint {first}")
    assert disputed(site, account) is True
    answer(site, first, "the meter was read again", now_s, "asha")
    assert disputed(site, account) is True, "the other one is open"
    answer(site, second, "the payment was found", now_s, "asha")
    assert disputed(site, account) is False
    told = [one.text for one in Outbox(site.rows.database).of_account(account) if one.kind == "complaint_answered"]
    assert len(told) == 2
    assert any("the payment was found" in text for text in told)
    assert [entry.who for _, entry in AuditTrail(site.rows).latest(10, action="complaint.answer")] == ["asha", "asha"]


def test_what_a_person_told_of_a_dispute_is_not_ended_by_an_answer(site: Site, town: Town) -> None:
    now_s, account = at(site, FIRST, NOON), owing(town)[0]
    number = complain(site, account, "a")
    SupplyRows(site.rows.database).tell(account, "dispute_open", True, now_s, "ravi", "case 14 of the ombudsman")
    answer(site, number, "looked into", now_s, "asha")
    assert disputed(site, account) is True


def test_a_complaint_about_the_meter_holds_nobody_back(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, NOON))
    complain(site, owing(town)[0], "a", About.METER)
    assert disputed(site, owing(town)[0]) is False


def test_an_answer_is_given_once_by_somebody_and_in_words(site: Site, town: Town) -> None:
    now_s, number = at(site, FIRST, NOON), complain(site, owing(town)[0], "a")
    for words, who in (("", "asha"), ("x" * 1001, "asha"), ("fine", " ")):
        with pytest.raises(InputError, match="an answer needs somebody who gives it"):
            answer(site, number, words, now_s, who)
    answer(site, number, "fine", now_s, "asha")
    with pytest.raises(RequestError, match="was closed already"):
        answer(site, number, "again", now_s, "asha")
    with pytest.raises(RequestError, match="complaint G0 is not there"):
        answer(site, "G0", "fine", now_s, "asha")


def test_the_commands_list_and_answer(site: Site, town: Town) -> None:
    number = complain(site, owing(town)[0], "a")
    where = ["--data", str(site.folder.root)]
    (told,) = CliRunner().invoke(app, ["complaints", "list", "--json", *where]).stdout.splitlines()
    assert (json.loads(told)["id"], json.loads(told)["disputes"]) == (number, True)
    assert "is answered" in CliRunner().invoke(app, ["complaints", "answer", number, "looked into", "--who", "asha", *where]).stdout
    assert CliRunner().invoke(app, ["complaints", "list", *where]).stdout == "0 open\n"
