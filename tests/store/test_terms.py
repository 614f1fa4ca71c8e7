"""Terms of an account on both engines: all or none, never changed, and the registry shows the last one."""

from __future__ import annotations

from datetime import date

import pytest
import sqlalchemy as sa

from openami.errors import OpenAMIError, RequestError
from openami.registry import Account, PaymentMode
from openami.store.rows import Rows
from openami.store.sql import Database
from openami.store.terms import Change, TermBook, Terms, account_term

BEGAN, JUNE = date(2025, 4, 1), date(2025, 6, 1)


@pytest.fixture
def book(database: Database) -> TermBook:
    Rows(database).add_registry([], [], [], [], [Account("A", "U", "-", "hi", "BR-DS2", PaymentMode.PREPAID, BEGAN, BEGAN, 0)], [])
    return TermBook(database)


def test_a_file_is_told_whole_or_not_at_all(book: TermBook, database: Database) -> None:
    with pytest.raises(RequestError, match="there is no account Z"):
        book.tell([Change("A", JUNE, "BR-DS1"), Change("Z", JUNE, "BR-DS1")], 1, "asha", "order")
    assert book.history("A") == []
    assert book.tell([Change("A", JUNE, "BR-DS1"), Change("A", JUNE, None, 7_000)], 1, "asha", "order") == 2
    assert book.on(date(2025, 7, 1)) == {"A": Terms("BR-DS1", 7_000, JUNE)}
    assert book.on(date(2025, 5, 31)) == {"A": Terms("BR-DS2", None, None, JUNE)}
    account = Rows(database).account("A")
    assert account is not None
    assert account.tariff == "BR-DS1"


def test_what_was_told_is_never_changed(book: TermBook, database: Database) -> None:
    book.tell([Change("A", JUNE, "BR-DS1")], 1, "asha", "order")
    for statement in (account_term.update().values(who="nobody"), account_term.delete()):
        with pytest.raises((sa.exc.DBAPIError, OpenAMIError), match="never changed or removed"), database.begin(writing=True) as connection:
            connection.execute(statement)
    assert [row.who for row in book.history("A")] == ["asha", "asha"]
