"""Signing in and out, and what is one's own: pages and forms, all of them without JavaScript.

Staff sign in with a name, a password and, by role, a code from their authenticator; consumers with a phone number and the code sent to it; where
an external issuer is configured, people of it through it. A simulated town shows its demo people and lets anybody on this machine in as them.

What always holds: what is wrong is said in the reader's language without saying which part was wrong; nobody is sent to another site after it;
whoever clicks twice has signed in once, though a code works once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from ..errors import InputError
from ..store.consents import PURPOSES
from ..store.people import Attempt, Person, SignIn
from .access import STAFF, Right, Role, Who
from .demo_people import DEMO_PEOPLE, enter_as, make_demo_people
from .failures import NotThere, NotUsable
from .gate import FormToken, Gate, NotAllowed, address_of, cookie_name, drop_cookie, gate_of, is_loopback, needs, set_cookie
from .once import SAME_CLICK_S, ActsOnce, same_click
from .pages import Console
from .parameters import Figures, Given, Lang

router = APIRouter()
own = APIRouter(route_class=ActsOnce)
NEXT_MOST = 4000
"""Of a path with all that a program asks for in it, its state and nonce among that."""
Next = Annotated[str, Form(alias="next", max_length=NEXT_MOST)]
Known = Annotated[Who, Depends(needs())]
Purposes = Annotated[tuple[str, ...], Form()]
CONSENT_DAYS_MAX = 366
IN_TESTS = ("testclient", "testserver")
Sender = Callable[[str, str], None]
"""Sends a one-time code: (phone number as it was written, code). OSError where it cannot."""


@router.get("/sign-in")
@router.head("/sign-in", include_in_schema=False)
def sign_in_page(request: Request, lang: Lang = "") -> Response:
    problem = "external" if request.query_params.get("problem") == "external" else ""
    return _page(request, "sign_in.html", problem=problem, name="", onward=safe_path(request.query_params.get("next", "/")))


@router.post("/sign-in")
def sign_in(
    request: Request, name: Given = "", password: Given = "", code: Figures = "", form: FormToken = "", onward: Next = "/"
) -> Response:
    gate = gate_of(request)
    if _just_in(request, gate):
        return RedirectResponse(safe_path(onward), 303)
    gate.check_form(request, None, form)
    if not request.app.state.tries.take(address_of(request)).allowed:
        return _page(request, "sign_in.html", 429, problem="often", name="", again_s=60, onward=safe_path(onward))
    make_demo_people(gate)
    filled = name.strip(), password, code
    attempt = _tried(request, filled, lambda: gate.people.sign_in(filled[0], password, code or None, gate.now_s, address_of(request)))
    if attempt.outcome is SignIn.DONE and attempt.person is not None:
        if attempt.person.role != Role.PARTNER and gate.clients.find(attempt.person.name) is None:
            return entered(request, gate, attempt.person, "password", onward)
        attempt = Attempt(SignIn.WRONG)  # programs come with tokens, never through a page: whatever their role, they have no second factor
    return _refused(request, gate, "sign_in.html", attempt, onward, name=name.strip()[:60])


@router.post("/sign-in/demo")
def sign_in_demo(request: Request, person: Given = "", form: FormToken = "", onward: Next = "/") -> Response:
    """As one of the demo people: only in a simulated town, only from this machine."""
    gate = gate_of(request)
    if not shows_demo(gate, request) or person not in DEMO_PEOPLE:
        raise NotThere("page", "")
    if _just_in(request, gate):
        return RedirectResponse(safe_path(onward), 303)
    gate.check_form(request, None, form)
    return entered(request, gate, enter_as(gate, person), "demo", onward)


@router.get("/sign-in/phone")
@router.head("/sign-in/phone", include_in_schema=False)
def phone_page(request: Request, lang: Lang = "") -> Response:
    return _page(request, "phone.html", problem="", phone="", shown="", onward=safe_path(request.query_params.get("next", "/")))


@router.post("/sign-in/phone")
def send_code(request: Request, phone: Figures = "", form: FormToken = "", onward: Next = "/") -> Response:
    """Sends a code if the phone has an account; the page is the same if it has none."""
    gate, onward = gate_of(request), safe_path(onward)
    gate.check_form(request, None, form)
    if not request.app.state.tries.take(address_of(request)).allowed:
        return _page(request, "phone.html", 429, problem="often", again_s=60, phone="", shown="", onward=onward)
    sender: Sender | None = request.app.state.send_code
    demo = shows_demo(gate, request)
    make_demo_people(gate)
    if sender is None and not demo:
        return _page(request, "phone.html", 503, problem="no_sender", phone="", shown="", onward=onward)
    try:
        code = gate.people.make_code(phone, gate.now_s)
    except InputError:
        raise NotUsable("phone", phone) from None
    if code is not None:
        gate.note(None, request, "code.send")
        if sender is not None:
            sender(phone, code)
    return _page(request, "phone.html", problem="", phone=phone, shown=code or "" if demo else "", onward=onward)


@router.post("/sign-in/code")
def sign_in_by_code(request: Request, phone: Figures = "", code: Figures = "", form: FormToken = "", onward: Next = "/") -> Response:
    gate, onward = gate_of(request), safe_path(onward)
    if _just_in(request, gate):
        return RedirectResponse(onward, 303)
    gate.check_form(request, None, form)
    if not request.app.state.tries.take(address_of(request)).allowed:
        return _page(request, "phone.html", 429, problem="often", again_s=60, phone=phone, shown="", onward=onward)
    try:
        attempt = _tried(request, (phone, code), lambda: gate.people.sign_in_by_code(phone, code, gate.now_s, address_of(request)))
    except InputError:
        raise NotUsable("phone", phone) from None
    if attempt.outcome is SignIn.DONE and attempt.person is not None:
        return entered(request, gate, attempt.person, "one-time code", onward)
    return _refused(request, gate, "phone.html", attempt, onward, phone=phone, shown="")


def _tried(request: Request, filled: tuple[str, ...], attempt: Callable[[], Attempt]) -> Attempt:
    """What comes of an attempt, by which a code is used up; of the same click again, what came of it then."""
    with same_click(request, *filled) as click:
        if click.came:
            known = gate_of(request).people.find(click.came)
            return Attempt(SignIn.WRONG) if known is None or known.disabled else Attempt(SignIn.DONE, known)
        found = attempt()
        click.came = found.person.name if found.outcome is SignIn.DONE and found.person is not None else ""
        return found


def _just_in(request: Request, gate: Gate) -> bool:
    """Whether the same click let this browser in already: it has a session seconds old, and the form's cookie is gone with its answer."""
    gate.check_origin(request)
    if cookie_name(request, "form") in request.cookies:
        return False
    found = gate.sessions.find(request.cookies.get(cookie_name(request), ""), gate.now_s, seen=False)
    return found is not None and gate.now_s - found.began_s <= SAME_CLICK_S


@router.post("/sign-out")
def sign_out(request: Request, who: Known, form: FormToken = "") -> Response:
    gate = gate_of(request)
    gate.check_form(request, who, form)
    return left(request, gate, who, "/sign-in")


def left(request: Request, gate: Gate, who: Who, onward: str) -> Response:
    """The end of a session, and of what the browser keeps of it. onward: an address that was checked."""
    gate.sessions.end(who.session)
    gate.note(who, request, "sign_out")
    answer = RedirectResponse(onward, 303)
    drop_cookie(request, answer, "session")
    answer.headers["clear-site-data"] = '"cache", "storage"'  # also what the consumer's app keeps for without a network
    return answer


@router.get("/me")
@router.head("/me", include_in_schema=False)
def me(request: Request, who: Known, lang: Lang = "") -> Response:
    """What is one's own: accounts, jobs, consents; and the way out."""
    gate = gate_of(request)
    accounts = sorted(who.reach.accounts) if who.role is Role.CONSUMER else []
    points = sorted(who.reach.points) if who.role is Role.INSTALLER else []
    meters = [gate.lookup.usage_point(who.reach, point) for point in points]
    return _page(
        request,
        "me.html",
        person=who,
        accounts=accounts,
        account_pages="my" if request.app.state.has_consumer_pages else "consumers",
        jobs=[m for m in meters if m is not None],
        consents=gate.consents.of_accounts(accounts) if accounts else [],
        partners=[p for p, _ in gate.people.of_roles(Role.PARTNER) if not p.disabled] if accounts else [],
        now_s=gate.now_s,
        local=request.app.state.console.local,
    )


@own.post("/me/consents")
def give_consent(
    request: Request, who: Known, account: Given = "", partner: Given = "", days: Figures = "", form: FormToken = "", purpose: Purposes = ()
) -> Response:
    gate = gate_of(request)
    gate.check_form(request, who, form)
    _own_account(who, account)
    known = gate.people.find(partner)
    if known is None or known.role != Role.PARTNER or known.disabled:
        raise NotUsable("partner", partner)
    if not purpose or any(one not in PURPOSES for one in purpose):
        raise NotUsable("purpose", " ".join(purpose))
    if not days.isascii() or not days.isdigit() or not 1 <= int(days[:6]) <= CONSENT_DAYS_MAX:
        raise NotUsable("days", days)
    made = gate.consents.give(account, partner, tuple(sorted(set(purpose))), who.name, gate.now_s, gate.now_s + 86_400 * int(days))
    gate.note(who, request, "consent.give", made.id, f"{partner}: {' '.join(made.purposes)}, {days} days")
    return RedirectResponse("/me", 303)


@own.post("/me/consents/{number}/end")
def end_consent(request: Request, number: str, who: Known, form: FormToken = "") -> Response:
    gate = gate_of(request)
    gate.check_form(request, who, form)
    found = gate.consents.find(number)
    if found is None:
        raise NotThere("consent", number)
    _own_account(who, found.account)
    gate.consents.end(number, gate.now_s)
    gate.note(who, request, "consent.end", number)
    return RedirectResponse("/me", 303)


def _own_account(who: Who, account: str) -> None:
    if not who.may(Right.CONSENTS):
        raise NotAllowed(Right.CONSENTS)
    if account not in who.reach.accounts:
        raise NotThere("account", account)


def shows_demo(gate: Gate, request: Request) -> bool:
    """Whether demo people may be seen and entered: a simulated town, asked from this very machine and by its own name: a foreign page's name may
    lead here too (DNS rebinding), and would be one origin with us."""
    return gate.demo and all(is_loopback(one) or one in IN_TESTS for one in (address_of(request), request.url.hostname or ""))


def safe_path(text: str) -> str:
    """A path on this site, or "/": never another site's address."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and all(0x20 < ord(c) < 0x7F and c != "\\" for c in text)
    return text if plain and not text.startswith("/sign-") else "/"


def page_before(request: Request) -> str:
    """The page of ours from which a form was sent; "" = not known."""
    before = urlsplit(request.headers.get("referer", ""))
    path = safe_path(before.path + (f"?{before.query}" if before.query else ""))
    return path if before.netloc == request.url.netloc and path != "/" else ""


def sign_in_for(request: Request, language: str) -> Response:
    """The way to the sign-in page, and back to what was asked for; whoever asked for a page of the app signs in by phone, where codes can be sent."""
    by_phone = request.url.path.startswith("/my") and (request.app.state.send_code is not None or shows_demo(gate_of(request), request))
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    onward = f"?next={quote(safe_path(asked), safe='/')}" + (f"&lang={language}" if language else "")
    return RedirectResponse(f"/sign-in{'/phone' if by_phone else ''}{onward}", 303)


def entered(request: Request, gate: Gate, person: Person, how: str, onward: str) -> Response:
    """A new session, under a new token: one that was there before is ended."""
    before = request.cookies.get(cookie_name(request))
    if before:
        gate.sessions.end(before)
    token = gate.sessions.begin(person.name, gate.now_s, address_of(request))
    gate.note(gate.described(person), request, "sign_in", "", how)
    answer = RedirectResponse(safe_path(onward), 303)
    set_cookie(request, answer, "session", token, None if Role(person.role) in STAFF else 90 * 86_400)
    drop_cookie(request, answer, "form")
    return answer


def _refused(request: Request, gate: Gate, template: str, attempt: Attempt, onward: str, **given: str) -> Response:
    if attempt.outcome is not SignIn.CODE_WANTED:
        gate.note(None, request, "sign_in", "", str(attempt.outcome), "refused")
    status = 429 if attempt.outcome is SignIn.LOCKED else 401
    answer: dict[str, Any] = {"problem": str(attempt.outcome), "again_s": attempt.again_s, "onward": safe_path(onward)}
    return _page(request, template, status, **answer, **given)


def _page(request: Request, template: str, status: int = 200, **answer: Any) -> Response:
    gate: Gate = gate_of(request)
    console: Console = request.app.state.console
    demo = DEMO_PEOPLE if shows_demo(gate, request) else {}
    external = gate.tokens.external if gate.tokens else None
    found = console.page(request, template, None, status=status, demo=demo, external=external.title if external else "", **answer)
    found.headers["cache-control"] = "private, no-store"
    gate.keep_form_cookie(request, found)
    return found
