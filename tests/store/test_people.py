"""People, sessions, programs, consents and the audit trail on both engines: what is secret is not there to read, what was done stays."""

from __future__ import annotations

import pyotp
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from openami.errors import InputError, RequestError
from openami.store.audit import AuditTrail, Entry, audit_trail
from openami.store.clients import CODE_LIVES_S, Client, Clients, Given
from openami.store.keys import MasterKey
from openami.store.people import CODE_LIVES_S as PHONE_CODE_LIVES_S
from openami.store.people import CODE_TRIES, FIRST_LOCK_S, FREE_FAILURES, GrantKind, People, SignIn, one_time_code, person
from openami.store.proposals import BEING_DONE, PROPOSAL_LIVES_S, KeptAnswers, Proposals, kept_answer
from openami.store.rows import Rows
from openami.store.sessions import LONGEST_S, STAFF_IDLE_S, STAFF_LONGEST_S, Sessions
from openami.store.sql import Database

PASSWORD = "a long enough password"
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def rows(database: Database) -> Rows:
    return Rows(database)


@pytest.fixture
def people(rows: Rows) -> People:
    return People(rows, MasterKey(bytes(range(32))), QUICK)


def test_a_password_and_a_totp_secret_are_not_there_to_read(rows: Rows, people: People) -> None:
    secret = people.add("ann", "operator", 0, password=PASSWORD, totp=True)
    with rows.begin() as connection:
        row = connection.execute(sa.select(person)).one()
    assert PASSWORD not in repr(row)
    assert secret is not None
    assert secret.encode() not in row.totp_wrapped
    assert row.password_hash.startswith("$argon2id$")


def test_a_totp_code_is_good_for_its_half_minute_and_its_neighbours_once(people: People) -> None:
    secret = people.add("ann", "operator", 0, password=PASSWORD, totp=True)
    totp = pyotp.TOTP(secret)
    assert people.sign_in("ann", PASSWORD, totp.at(3000), 3029).outcome is SignIn.DONE
    assert people.sign_in("ann", PASSWORD, totp.at(3000), 3029).outcome is SignIn.WRONG
    assert people.sign_in("ann", PASSWORD, totp.at(2970), 3000).outcome is SignIn.WRONG  # older than the one that was used
    assert people.sign_in("ann", PASSWORD, totp.at(3030), 3001).outcome is SignIn.DONE
    assert people.sign_in("ann", PASSWORD, totp.at(3030), 3200).outcome is SignIn.WRONG


def test_failures_lock_for_twice_as_long_each_time(people: People) -> None:
    for _ in range(FREE_FAILURES - 1):
        assert people.sign_in("nobody", "x", None, 0).outcome is SignIn.WRONG
    now_s, waits = 0, []
    for _ in range(3):
        waits.append(people.sign_in("nobody", "x", None, now_s).again_s)
        now_s += waits[-1]
    assert waits == [FIRST_LOCK_S, 2 * FIRST_LOCK_S, 4 * FIRST_LOCK_S]


def test_success_forgets_the_failures(people: People) -> None:
    people.add("ann", "installer", 0, password=PASSWORD)
    for _ in range(3):
        for _ in range(FREE_FAILURES - 1):
            assert people.sign_in("ann", "x", None, 0).outcome is SignIn.WRONG
        assert people.sign_in("ann", PASSWORD, None, 0).outcome is SignIn.DONE


@pytest.mark.parametrize("name", ["", "a b", "<b>", "x" * 61, "ü", "a\nb"])
def test_a_name_that_would_not_read_well_is_refused(people: People, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a person's name"):
        people.add(name, "installer", 0)


def test_a_taken_name_and_a_short_password_are_refused(people: People) -> None:
    people.add("ann", "installer", 0)
    with pytest.raises(RequestError, match="ann is there already"):
        people.add("ann", "operator", 0)
    with pytest.raises(InputError, match="10 to 200 characters"):
        people.add("bob", "installer", 0, password="short")
    with pytest.raises(RequestError, match="no person carl"):
        people.disable("carl")


def test_a_code_is_good_for_five_minutes_and_five_tries(rows: Rows, people: People) -> None:
    digest = people._digest("phone", "+919876543210")
    wrong = "0000000"

    def fresh(at_s: int) -> str:
        with rows.begin(writing=True) as connection:
            connection.execute(one_time_code.delete())
            row = {"phone_digest": digest, "code_digest": people._digest("code", "123456"), "made_s": at_s, "tries": 0}
            connection.execute(one_time_code.insert(), row)
        return "123456"

    assert people.sign_in_by_code("98765 43210", fresh(0), PHONE_CODE_LIVES_S).outcome is SignIn.DONE
    assert people.sign_in_by_code("98765 43210", fresh(0), PHONE_CODE_LIVES_S + 1).outcome is SignIn.WRONG
    fresh(1000)
    outcomes = [people.sign_in_by_code("9876543210", wrong, 1000).outcome for _ in range(CODE_TRIES)]
    assert SignIn.DONE not in outcomes
    assert people.sign_in_by_code("+91-9876543210", "123456", 1000).outcome is not SignIn.DONE


def test_grants_come_and_go(people: People) -> None:
    people.add("ann", "operator", 0)
    people.grant("ann", GrantKind.DIVISION, "North")
    people.grant("ann", GrantKind.DIVISION, "North")
    people.grant("ann", GrantKind.JOB, "UP-1")
    people.revoke("ann", GrantKind.JOB, "UP-1")
    assert people.grants("ann") == [(GrantKind.DIVISION, "North")]


def test_people_of_a_role_are_listed_by_name_and_page_with_their_grants(people: People) -> None:
    for name, role in (("zoe", "operator"), ("ann", "auditor"), ("consumer-1", "consumer"), ("bob", "operator")):
        people.add(name, role, 0)
    people.grant("bob", GrantKind.DIVISION, "South")
    people.grant("bob", GrantKind.DIVISION, "North")
    people.grant("consumer-1", GrantKind.ACCOUNT, "A1")
    listed = [(one.name, grants) for one, grants in people.of_roles("operator", "auditor")]
    assert listed == [("ann", []), ("bob", [(GrantKind.DIVISION, "North"), (GrantKind.DIVISION, "South")]), ("zoe", [])]
    assert [one.name for one, _ in people.of_roles("operator", "auditor", after="ann", limit=1)] == ["bob"]
    assert people.of_roles("partner") == []


def test_a_session_ends_by_idleness_by_age_and_with_its_person(rows: Rows, people: People) -> None:
    people.add("ann", "operator", 0)
    people.add("con", "consumer", 0)
    sessions = Sessions(rows)
    token = sessions.begin("ann", 0, "::1")
    assert sessions.find(token, STAFF_IDLE_S) is not None
    assert sessions.find(token, 2 * STAFF_IDLE_S + 1) is None
    token, at_s = sessions.begin("ann", 0, "::1"), 0
    while at_s < STAFF_LONGEST_S:
        assert sessions.find(token, at_s) is not None
        at_s += STAFF_IDLE_S
    assert sessions.find(token, STAFF_LONGEST_S + 1) is None
    token = sessions.begin("con", 0, "::1")
    people.disable("con")
    assert sessions.find(token, 1) is None
    assert LONGEST_S["consumer"] > STAFF_LONGEST_S


def test_a_code_of_a_program_works_once_and_not_for_long(rows: Rows, people: People) -> None:
    clients = Clients(rows, MasterKey(bytes(range(32))))
    people.add("app", "consumer", 0)
    clients.add(Client("app", "App", ("https://a/",), ("meters",), False))
    given = Given("app", "app", ("meters",), "", "https://a/", "c")
    code = clients.make_code(given, 0)
    assert clients.use_code(code, 1) == given
    assert clients.use_code(code, 1) is None
    assert clients.use_code(clients.make_code(given, 0), CODE_LIVES_S + 1) is None
    people.disable("app")
    assert clients.find("app") is None


def test_the_trail_only_grows(rows: Rows) -> None:
    trail = AuditTrail(rows)
    for k in range(3):
        trail.note(Entry(k, "ann", "operator", "order.connect", f"O-{k}", "because", "::1"))
    assert [n for n, _ in trail.latest(10)] == [3, 2, 1]
    assert [e.subject for _, e in trail.latest(10, before=2)] == ["O-0"]
    for change in (audit_trail.delete(), audit_trail.update().values(who="bob")):
        with pytest.raises(Exception, match="only grows"), rows.begin(writing=True) as connection:
            connection.execute(change)
    assert trail.broken_at() is None
    assert [e.who for _, e in trail.latest(10)] == ["ann"] * 3


def test_a_line_changed_behind_the_databases_back_is_found(rows: Rows) -> None:
    trail = AuditTrail(rows)
    numbers = [trail.note(Entry(k, "ann", "operator", "order.connect", f"O-{k}")) for k in range(3)]
    with rows.begin(writing=True) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER audit_trail_no_UPDATE")
        else:
            connection.exec_driver_sql("ALTER TABLE audit_trail DISABLE TRIGGER ALL")
        connection.execute(audit_trail.update().where(audit_trail.c.id == numbers[1]).values(who="bob"))
    assert trail.broken_at() == numbers[1]


def test_a_proposal_is_decided_once_by_another_person_within_a_day(rows: Rows) -> None:
    proposals = Proposals(rows)
    made = proposals.make("disconnect", ("M1", "M2"), "ann", "unpaid", 0)
    for who, at_s, why in (("ann", 1, "second person"), ("bob", PROPOSAL_LIVES_S + 1, "more than a day")):
        with pytest.raises(RequestError, match=why):
            proposals.decide(made.id, True, who, at_s)
    assert proposals.decide(made.id, False, "bob", 1).state == "refused"
    with pytest.raises(RequestError, match="refused already"):
        proposals.decide(made.id, True, "carl", 2)


def test_a_kept_answer_belongs_to_its_request_its_asker_and_its_day(rows: Rows) -> None:
    answers = KeptAnswers(rows, MasterKey(bytes(range(32))))
    assert answers.claim("ann", "key", b"one", 0) is None
    assert answers.claim("ann", "key", b"one", 0) == (BEING_DONE, None)
    answers.keep("ann", "key", 202, {"a": 1})
    with rows.begin() as connection:
        assert '"a"' not in connection.execute(sa.select(kept_answer.c.answer)).scalar_one()
    assert answers.claim("ann", "key", b"one", 10) == (202, {"a": 1})
    with pytest.raises(RequestError, match="another request"):
        answers.claim("ann", "key", b"two", 10)
    assert answers.claim("bob", "key", b"one", 10) is None
    answers.release("bob", "key")
    assert answers.claim("bob", "key", b"two", 10) is None
    assert answers.claim("ann", "key", b"one", 86_401) is None
