"""What went wrong on a page, as a sentence in the reader's language that says what would be right.

What always holds: a sentence is true for every role that can meet it; what was given is shown shortened and never as markup; what a program would
be told in English (`api.words.Refused`) has a sentence of its own here.
"""

from __future__ import annotations

import unicodedata
from datetime import date

from fastapi.exceptions import RequestValidationError

from ..errors import InputError, OpenAMIError
from .gate import ForeignForm, NotAllowed, NotSignedIn
from .townbook import DamagedDay
from .wording import Language, marked

GIVEN_MOST = 60
TOLD_ANYHOW = ("day", "first", "last", "serial", "name", "account", "lang")
"""Of an address: parts whose own sentence says more than that they are too long."""
JOINERS = "\u200c\u200d"
"""Of no width, and a part of how words are written in Hindi and its neighbours."""


class NotThere(Exception):
    """A page of something that the town does not have. kind: "meter", "transformer", "feeder", "account", "consent", "order", "proposal",
    "complaint", "person", "tariff", "node", "running", "page" or "day"."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind, self.name = kind, name


class NotUsable(Exception):
    """A parameter that cannot be used: its name and what was given."""

    def __init__(self, field: str, given: str) -> None:
        super().__init__(field, given)
        self.field, self.given = field, given


def say_failure(words: Language, status: int, failure: Exception, days: tuple[date, ...]) -> tuple[str, str]:
    """Title and sentence for a failure page."""
    if isinstance(failure, NotThere):
        return words.say("Not found"), _say_not_there(words, failure, days)
    if isinstance(failure, NotUsable):
        return words.say("This cannot be used"), _say_not_usable(words, failure.field, failure.given)
    if isinstance(failure, RequestValidationError):
        return words.say("This cannot be used"), _say_out_of_bounds(words, failure)
    if isinstance(failure, InputError) or status == 413:
        return words.say("This cannot be used"), words.say("What was given cannot be used. Check it and try again.")
    if isinstance(failure, NotSignedIn):
        return words.say("You are not signed in"), words.say(
            "Your session has ended, or you have not signed in yet. Nothing was changed. Sign in and try again."
        )
    if isinstance(failure, NotAllowed):
        return words.say("Not for your role"), words.say(
            "Your role does not include this. Nothing was changed. Ask your administrator if your work needs it."
        )
    if isinstance(failure, ForeignForm):
        return words.say("This page is too old"), words.say(
            "The form was opened too long ago, in another session, or on another site. Nothing was changed. Open the page again and repeat it."
        )
    if status == 404:
        return words.say("Not found"), words.say("There is no page at this address. The links below lead on.")
    if isinstance(failure, DamagedDay):
        return words.say("The data of this day is damaged"), words.say(
            "What is stored of %(day)s is damaged and cannot be shown until it is restored. Other days can be read. The operator's log says more.",
            day=words.day(failure.day),
        )
    if isinstance(failure, OpenAMIError) or status == 503:
        return (
            words.say("Not available now"),
            words.say("The stored data cannot be read just now. Nothing is lost; try again in a minute. The operator's log says more."),
        )
    if status == 500:
        return words.say("Our mistake"), words.say("Something went wrong on our side. Nothing was changed. The operator's log says more.")
    return words.say("This is not possible"), words.say(
        "This address does not answer this kind of request (status %(status)s).", status=status
    )


def _say_not_there(words: Language, failure: NotThere, days: tuple[date, ...]) -> str:
    name = shown(failure.name)
    if failure.kind == "day" and not days:
        return words.say("No day has been stored yet. Pages fill as soon as the first readings are checked.")
    sentences = {
        "day": words.say(
            "There is no data for %(name)s. There are days from %(first)s to %(last)s.",
            name=name,
            first=words.day(days[0]) if days else "",
            last=words.day(days[-1]) if days else "",
        ),
        "meter": words.say("There is no meter %(name)s here for you. Check the number.", name=name),
        "transformer": words.say("There is no transformer %(name)s here for you. Check the name.", name=name),
        "feeder": words.say("There is no feeder %(name)s here for you. Check the name.", name=name),
        "node": words.say("There is nothing called %(name)s here for you. Choose from the list.", name=name),
        "account": words.say("There is no account %(name)s. Check the number on your bill.", name=name),
        "consent": words.say("There is no consent %(name)s. Your own are listed on your page.", name=name),
        "order": words.say("There is no order %(name)s. Look for it in the list of orders.", name=name),
        "proposal": words.say("There is no proposal %(name)s. What waits is in the list of orders.", name=name),
        "payment": words.say("There is no payment %(name)s of this account. Your recharges are listed under Recharge.", name=name),
        "complaint": words.say("There is no complaint %(name)s here for you. What waits for an answer is in the list.", name=name),
        "person": words.say("There is nobody called %(name)s. The list shows who there is.", name=name),
        "tariff": words.say("There is no tariff %(name)s. The list shows which there are.", name=name),
        "running": words.say("No reading has come yet of a day that is not closed. Closed days are under Losses."),
        "page": words.say("There is no page at this address. The links below lead on."),
    }
    return sentences.get(failure.kind, sentences["page"])


def _say_out_of_bounds(words: Language, failure: RequestValidationError) -> str:
    error = failure.errors()[0]
    field, most, given = str(error["loc"][-1]), error.get("ctx", {}).get("max_length"), str(error.get("input", ""))
    own = error["loc"][0] != "body" and field in TOLD_ANYHOW
    called = words.say(FIELDS.get(field, field))
    if most is not None and not own:
        return words.say(
            "What was given for “%(field)s” is too long: at most %(most)s letters. Nothing was changed.", field=called, most=most
        )
    if "\0" in given and not own:
        return words.say("“%(field)s” holds a character that cannot be kept. Nothing was changed. Write it again without.", field=called)
    return _say_not_usable(words, field, given)


def shown(given: str) -> str:
    """What somebody gave, as it can stand in a sentence: short, and with nothing that cannot be seen or turns the sentence around."""
    short = given if len(given) <= GIVEN_MOST else given[: GIVEN_MOST - 3] + "..."
    return "".join("�" if unicodedata.category(c)[0] == "C" and c not in JOINERS else c for c in short)


def _say_not_usable(words: Language, field: str, given: str) -> str:
    given = words.say(FIELDS.get(given, given)) if field == "twice" else shown(given)
    return words.say(SENTENCES.get(field, CHOOSE), given=given, field=words.say(FIELDS.get(field, field)))


FIELDS = {
    "about": marked("About"),
    "account": marked("Account"),
    "action": marked("Action"),
    "amount": marked("Amount"),
    "answer": marked("Answer"),
    "cause": marked("Cause"),
    "check": marked("Check"),
    "code": marked("Code"),
    "feeder": marked("Feeder"),
    "format": marked("Form of the file"),
    "kind": marked("Kind"),
    "language": marked("Language"),
    "meter": marked("Meter"),
    "name": marked("Name"),
    "note": marked("What was seen"),
    "number": marked("Number"),
    "order_id": marked("Order"),
    "partner": marked("Who"),
    "password": marked("Password"),
    "payment": marked("Payment"),
    "payment_id": marked("Payment"),
    "phone": marked("Phone number"),
    "reach": marked("What they reach"),
    "reply": marked("Answer"),
    "result": marked("Found"),
    "role": marked("Role"),
    "serials": marked("Meters"),
    "shard": marked("Number"),
    "state": marked("State"),
    "subject": marked("To what"),
    "text": marked("Text"),
    "transformer": marked("Transformer"),
    "value": marked("Right value, Wh"),
    "what": marked("What"),
    "who": marked("Who"),
    "why": marked("Reason"),
}
"""What a field is called on a page."""
SENTENCES = {
    "day": marked("“%(given)s” is not a day. Write it as in 2026-01-31."),
    "first": marked("“%(given)s” is not a day. Write it as in 2026-01-31."),
    "last": marked("“%(given)s” is not a day. Write it as in 2026-01-31."),
    "range": marked("%(given)s cannot be shown. Choose a first day that is not after the last."),
    "lang": marked("“%(given)s” is not a language of this page. Choose en or hi."),
    "why": marked("Give a reason of at least five letters; it stands in the audit trail."),
    "meters": marked("Name 1 to 1,000 meters."),
    "span": marked("“%(given)s” is not a span of the curve. Choose one from the page."),
    "begins": marked("“%(given)s” is not the start of an interval of this day. Choose one from the list."),
    "form": marked("This form cannot be used any more. Nothing was changed. Open the page again and repeat it."),
    "cursor": marked("This part of the list is no longer there. Begin the list again."),
    "payment_begun": marked(
        "This payment was begun before, for another amount. Nothing was taken a second time. Begin a new recharge, or look how this one stands."
    ),
    "order-state": marked("This order has left for its meter, or has ended: it cannot be withdrawn any more. Nothing was changed."),
    "proposal-state": marked(
        "This proposal is your own, was decided on before, or has waited for more than a day. Nothing was changed. Look at the list of orders."
    ),
    "complaint-state": marked("This complaint was answered before. Nothing was changed. Look at the list of complaints."),
    "reply": marked("Write an answer of at least five letters; the consumer is told it."),
    "no-visit": marked("Nothing was written: on that day no consumer's meter of this number hangs anywhere. Check number and day."),
    "sent-before": marked(
        "This form was sent before, at %(given)s, and was done then. It was not done again. Open the page again to see how it stands."
    ),
    "being-done": marked(
        "This form was sent a moment ago and is still being worked on. Look whether it was done before you send it again."
    ),
    "twice": marked("“%(given)s” came more than once. Nothing was changed. Open the page again and repeat it."),
    "reading-state": marked(
        "Somebody has corrected this day since the page was opened. Nothing was changed. Look at the corrections and decide anew."
    ),
    "list-name": marked("Give the list a name of 1 to 40 letters."),
    "address": marked("Only lists of the control room can be kept under a name."),
    "idempotency-key": marked("This form was sent before, with something else in it. Nothing was changed. Begin again."),
    "value": marked("“%(given)s” is not a value. Write watt-hours in figures, like 250."),
    "to": marked("“%(given)s” is not proposed any more. Open the list again and look at it anew."),
    "person": marked("“%(given)s” cannot be a person's name: use 1 to 60 letters, digits and . _ @ -"),
    "person_there": marked("There is somebody called “%(given)s” already. Choose another name."),
    "client_id": marked(
        "The program that sent you here is not known, or wants you back at an address that is not its own. It was told nothing. Ask its makers."
    ),
    "oneself": marked("Nobody changes their own access. Ask another administrator."),
    "reach": marked("“%(given)s” cannot be granted. Write all:*, division:NAME, job:USAGE_POINT or account:NUMBER of one that there is."),
    "phone": marked("This is not a phone number. Write ten digits, or + and 8 to 15 digits."),
    "purpose": marked("Choose at least one thing that may be seen."),
    "days": marked("“%(given)s” is not a number of days. Give 1 to 366."),
    "file": marked("%(given)s statements are too many for one file. Give the beginning of an account number first."),
    "offset": marked("“%(given)s” is not a place in the list. Give a number from 0 up."),
    "serial": marked("“%(given)s” cannot be a name here: use up to 40 letters, digits, spaces, points and hyphens."),
    "name": marked("“%(given)s” cannot be a name here: use up to 40 letters, digits, spaces, points and hyphens."),
    "account": marked("“%(given)s” cannot be a name here: use up to 40 letters, digits, spaces, points and hyphens."),
    "key": marked("This form cannot be used any more. Nothing was changed. Open the page again and repeat it."),
    "phone_id": marked("This form cannot be used any more. Nothing was changed. Open the page again and repeat it."),
}
"""Of fields, and of states in which nothing can be done: what is told of one that cannot be used."""
CHOOSE = marked("“%(given)s” cannot be used for “%(field)s”. Choose from the list on the page.")
