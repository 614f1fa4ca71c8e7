"""The embedded OAuth 2.1 and OpenID Connect provider: authorization code with PKCE, client credentials, refresh; discovery, JWKS, end of session.

What always holds: a person is sent back only to an address that the program has registered, compared letter by letter; every code needs its proof
key (S256); a program gets at most the scopes that it registered and that the person's role has; what goes wrong is told as RFC 6749 wants it, and
to the program's address only once that address is known to be the program's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Annotated, Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from ..errors import RequestError
from ..store.clients import Client, Given, family_of
from .access import Right, Role, Who, rights_of
from .demo_people import make_demo_people
from .failures import NotUsable
from .gate import FORM_FIELD, Gate, NotSignedIn, address_of, gate_of, needs
from .pages import Console
from .sign_in import left
from .tokens import ACCESS_LIVES_S, Tokens

router = APIRouter()
Text = Annotated[str, Form(max_length=4000)]
Known = Annotated[Who, Depends(needs())]
IDENTITY = "openid"
OFFLINE = "offline_access"
CHALLENGE = 43
STATE_MOST, NONCE_MOST = 500, 200
GRANTS = ("authorization_code", "client_credentials", "refresh_token")
PROMPTS = ("none", "login", "consent", "select_account")
KEPT_S = 60
"""How long others may keep what this provider says of itself; a new key is shown for longer before it signs."""
WHY = {
    "invalid_client": "there is no such program, or this is not its secret; it comes by HTTP Basic or as client_id and client_secret",
    "invalid_grant": "this code or refresh token is unknown, used, too old, or not for this program, address and proof key; ask anew",
    "invalid_scope": "a scope goes beyond what was given, or is not known; leave scope out for all of it",
    "unauthorized_client": "this program acts for people only, not for itself; use authorization_code",
    "unsupported_grant_type": f"grant_type is one of {', '.join(GRANTS)}, in a body of application/x-www-form-urlencoded",
    "unsupported_token_type": f"an access token cannot be taken back; it ends within {ACCESS_LIVES_S} s. Revoke the refresh token",
}
"""Why a program is refused, for whoever writes it (RFC 6749, 5.2: error_description)."""


@router.get("/.well-known/openid-configuration")
@router.get("/.well-known/oauth-authorization-server")
def discovery(request: Request) -> Response:
    base = gate_of(request).base_url(request)
    found = {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "jwks_uri": f"{base}/oauth/jwks",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "end_session_endpoint": f"{base}/oauth/end-session",
        "scopes_supported": [IDENTITY, OFFLINE, *(str(right) for right in Right)],
        "claims_supported": ["sub", "iss", "aud", "iat", "exp", "nonce", "auth_time", "role", "locale"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "prompt_values_supported": list(PROMPTS),
        "ui_locales_supported": ["en", "hi"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
    }
    return _kept(found)


@router.get("/oauth/jwks")
def jwks(request: Request) -> Response:
    return _kept(_tokens(request).jwks())


@router.get("/oauth/authorize")
def authorize(request: Request) -> Response:
    """Asks the person whether the program may act for them; one who has not signed in, or too long ago for `max_age`, signs in first."""
    asked, gate = dict(request.query_params), gate_of(request)
    who, prompts = gate.who(request), asked.get("prompt", "").split()
    if who is None and "none" not in prompts:
        raise NotSignedIn
    client = _client_and_address(gate, asked, _given_twice(request))
    if problem := _wrong(asked, who, _given_twice(request)):
        return _back(request, asked, {"error": problem})
    if who is None or "none" in prompts:
        return _back(request, asked, {"error": "login_required" if who is None else "consent_required"})
    if {"login", "select_account"} & set(prompts) or gate.now_s - _signed_in_s(gate, who) >= int(asked.get("max_age") or 10**9):
        onward = urlencode({name: value for name, value in asked.items() if name not in ("prompt", "max_age")})
        return RedirectResponse("/sign-in?" + urlencode({"next": f"/oauth/authorize?{onward}"}), 303)
    console: Console = request.app.state.console
    host = _origin(asked["redirect_uri"])
    page = console.page(request, "authorize.html", None, client=client, asked=asked, scopes=_scopes(client, who, asked), host=host)
    return _leading_to(page, host)


@router.post("/oauth/authorize")
async def agreed(request: Request, who: Known) -> Response:
    given = {name: str(value) for name, value in (await request.form()).items()}
    gate = gate_of(request)
    gate.check_form(request, who, given.pop(FORM_FIELD, ""))
    allowed = given.pop("agree", "") == "yes"
    client = _client_and_address(gate, given)
    if problem := _wrong(given, who):
        return _back(request, given, {"error": problem})
    scopes = _scopes(client, who, given)
    gate.note(who, request, "oauth.authorize", client.name, " ".join(scopes), "done" if allowed else "refused")
    if not allowed:
        return _back(request, given, {"error": "access_denied"})
    stands_for = Given(
        client.name, who.name, scopes, given.get("nonce", ""), given["redirect_uri"], given["code_challenge"], _signed_in_s(gate, who)
    )
    return _back(request, given, {"code": gate.clients.make_code(stands_for, gate.now_s)})


@router.post("/oauth/token")
def token(
    request: Request,
    grant_type: Text = "",
    code: Text = "",
    redirect_uri: Text = "",
    code_verifier: Text = "",
    refresh_token: Text = "",
    scope: Text = "",
    client_id: Text = "",
    client_secret: Text = "",
) -> Response:
    gate = gate_of(request)
    if grant_type not in GRANTS:
        return _refuse(400, "unsupported_grant_type")
    client = _program(request, gate, client_id, client_secret)
    if client is None:
        return _unknown(request, gate, client_id)
    if grant_type == "client_credentials":
        return _own_token(request, gate, client, scope)
    if grant_type == "refresh_token":
        return _fresh_token(request, gate, client, refresh_token, tuple(scope.split()))
    given = gate.clients.use_code(code, gate.now_s)
    if given is None or given.client != client.name or given.redirect != redirect_uri or not _proves(code_verifier, given.challenge):
        return _refuse(400, "invalid_grant")
    return _answer(request, gate, given, refresh=OFFLINE in given.scopes, family=family_of(code))


@router.post("/oauth/revoke")
def revoke(request: Request, token: Text = "", client_id: Text = "", client_secret: Text = "") -> Response:
    """Ends a refresh token and all that came of it (RFC 7009); an access token ends by itself within ten minutes, and is not said to be ended."""
    gate = gate_of(request)
    client = _program(request, gate, client_id, client_secret)
    if client is None:
        return _unknown(request, gate, client_id)
    if _tokens(request).verify(token, gate.issuer(request)) is not None:
        return _refuse(400, "unsupported_token_type")
    gate.clients.revoke(token, client.name)
    return Response(status_code=200)


@router.get("/oauth/userinfo")
@router.post("/oauth/userinfo")
def userinfo(request: Request) -> Response:
    """Of a token that was given for `openid` (OpenID Connect Core 5.3)."""
    gate = gate_of(request)
    who = gate.who(request)
    if who is None or not who.program:
        told = 'Bearer realm="openami"' + (', error="invalid_token"' if "authorization" in request.headers else "")
        return JSONResponse({"error": "invalid_token"}, 401, headers={"www-authenticate": told})
    claims = _tokens(request).verify(request.headers["authorization"].partition(" ")[2].strip(), gate.issuer(request))
    if claims is not None and claims.scopes is not None and IDENTITY not in claims.scopes:
        told = f'Bearer realm="openami", error="insufficient_scope", scope="{IDENTITY}"'
        return JSONResponse({"error": "insufficient_scope"}, 403, headers={"www-authenticate": told})
    return JSONResponse({"sub": who.name, "role": str(who.role), "locale": who.language}, headers={"cache-control": "no-store"})


@router.get("/oauth/end-session")
def end_session(request: Request) -> Response:
    """A program asks that its person is signed out here (OpenID Connect RP-Initiated Logout 1.0). With an ID token of that person at once, else they
    are asked. They are sent back to an address of the program alone, compared letter by letter."""
    gate, asked = gate_of(request), dict(request.query_params)
    who, onward = gate.who(request), _after_session(request, asked)
    if who is None or not who.session:
        return RedirectResponse(onward or "/sign-in", 303)
    hint = _tokens(request).identity_of(asked.get("id_token_hint", ""), gate.issuer(request))
    if hint is not None and hint[0] == who.name:
        return left(request, gate, who, onward or "/sign-in")
    console: Console = request.app.state.console
    return _leading_to(console.page(request, "end_session.html", None, asked=asked), _origin(onward) if onward else "")


@router.post("/oauth/end-session")
async def session_ended(request: Request) -> Response:
    """The person agrees. A program that posts here itself, as it may, is led to the question: its form token is not ours."""
    given = {name: str(value) for name, value in (await request.form()).items()}
    gate, form = gate_of(request), given.pop(FORM_FIELD, None)
    who = gate.who(request)
    if who is None or form is None:
        return RedirectResponse("/oauth/end-session?" + urlencode(given), 303)
    gate.check_form(request, who, form)
    return left(request, gate, who, _after_session(request, given) or "/sign-in")


def _after_session(request: Request, asked: dict[str, str]) -> str:
    """Where to after the end; "" where no address was named, or none of the program's."""
    gate = gate_of(request)
    hint = _tokens(request).identity_of(asked.get("id_token_hint", ""), gate.issuer(request))
    named = asked.get("client_id") or (hint[1] if hint else "")
    client, address = gate.clients.find(named[:60]) if named else None, asked.get("post_logout_redirect_uri", "")
    if client is None or address not in client.redirects:
        return ""
    return _with(address, {"state": asked["state"]} if asked.get("state") else {})


def _client_and_address(gate: Gate, asked: dict[str, str], twice: frozenset[str] = frozenset()) -> Client:
    """The program and that the address is its own; until both are known nobody is sent anywhere."""
    client = gate.clients.find(asked.get("client_id", "")[:60])
    if client is None or "client_id" in twice:
        raise NotUsable("client_id", asked.get("client_id", "")[:60])
    if not client.may_send_back_to(asked.get("redirect_uri", "")) or "redirect_uri" in twice:
        raise NotUsable("redirect_uri", asked.get("redirect_uri", "")[:200])
    return client


def _given_twice(request: Request) -> frozenset[str]:
    """Parameters that come more than once, which none may (RFC 6749, 3.1)."""
    given = request.query_params
    return frozenset(name for name in given if len(given.getlist(name)) > 1)


def _wrong(asked: dict[str, str], who: Who | None, twice: frozenset[str] = frozenset()) -> str | None:
    """What is wrong with a request, in the word of RFC 6749 or OpenID Connect Core 3.1.2.6; None = nothing."""
    if asked.get("response_type") != "code":
        return "unsupported_response_type"
    for handed in ("request", "request_uri"):
        if handed in asked:
            return f"{handed}_not_supported"
    challenge, prompts = asked.get("code_challenge", ""), asked.get("prompt", "").split()
    too_long = len(asked.get("state", "")) > STATE_MOST or len(asked.get("nonce", "")) > NONCE_MOST
    wrong_key = asked.get("code_challenge_method") != "S256" or len(challenge) != CHALLENGE
    wrong_prompt = not set(prompts) <= set(PROMPTS) or ("none" in prompts and len(prompts) > 1)
    max_age = asked.get("max_age", "0")
    wrong_form = asked.get("response_mode", "query") != "query" or not (max_age.isascii() and max_age.isdigit() and len(max_age) < 10)
    if twice or too_long or wrong_key or wrong_prompt or wrong_form:
        return "invalid_request"
    return "access_denied" if who is not None and (who.program or who.role is Role.PARTNER) else None


def _signed_in_s(gate: Gate, who: Who) -> int:
    """When the person signed in, in UTC seconds."""
    found = gate.sessions.find(who.session, gate.now_s, seen=False)
    if found is None:
        raise NotSignedIn
    return found.began_s


def _scopes(client: Client, who: Who, asked: dict[str, str]) -> tuple[str, ...]:
    wanted = asked.get("scope", "").split()
    own = {str(right) for right in who.rights} & set(client.scopes)
    return tuple(s for s in dict.fromkeys(wanted) if s in own or s in (IDENTITY, OFFLINE))


def _back(request: Request, asked: dict[str, str], answer: dict[str, str]) -> Response:
    told = answer | ({"state": asked["state"]} if asked.get("state") else {}) | {"iss": gate_of(request).base_url(request)}
    return RedirectResponse(_with(asked["redirect_uri"], told), 303)


def _with(address: str, told: dict[str, str]) -> str:
    """The address with what is told to it."""
    return address + ("&" if urlsplit(address).query else "?") * bool(told) + urlencode(told)


def _kept(found: dict[str, Any]) -> JSONResponse:
    """What anybody may know, and keep for a while."""
    return JSONResponse(found, headers={"cache-control": f"public, max-age={KEPT_S}"})


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"  # an app's own scheme has no host (RFC 8252, 7.1)


def _leading_to(page: Response, host: str) -> Response:
    """A page that is kept nowhere, and whose form's answer may lead to `host`."""
    allowed = host if "[" not in host else host.partition("//")[0]  # a policy cannot name a host by its IPv6 number
    page.headers["cache-control"] = "no-store"
    page.headers["content-security-policy"] = (
        f"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {allowed}; base-uri 'none'; frame-ancestors 'none'"
    )
    return page


def _program(request: Request, gate: Gate, client_id: str, secret: str) -> Client | None:
    """The program that asks, by its secret (Basic or in the form); one without a secret by its name alone: its proof is the PKCE key."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            client_id, secret = unquote_plus(client_id), unquote_plus(secret)  # RFC 6749, 2.3.1
        except (ValueError, UnicodeDecodeError):
            return None
    make_demo_people(gate)
    client = gate.clients.find(client_id[:60])
    if client is not None and not client.confidential:
        return client
    return client if client is not None and gate.people.check_secret(client.name, secret) else None


def _own_token(request: Request, gate: Gate, client: Client, scope: str) -> Response:
    """For a program that acts for itself, with its own role."""
    person = gate.people.find(client.name)
    if person is None or not client.confidential:
        return _refuse(400, "unauthorized_client")
    own = {str(right) for right in rights_of(person.role)} & set(client.scopes)
    wanted = scope.split() or sorted(own)
    if not set(wanted) <= own:
        return _refuse(400, "invalid_scope")
    gate.note(gate.described(person), request, "oauth.token", client.name, " ".join(wanted))
    return _answer(request, gate, Given(client.name, client.name, tuple(wanted)), refresh=False)


def _fresh_token(request: Request, gate: Gate, client: Client, spent: str, wanted: tuple[str, ...]) -> Response:
    """wanted: fewer scopes for this access token than were agreed to, none = all; the refresh token keeps them all (RFC 6749, 6)."""
    try:
        found = gate.clients.use_refresh(spent, client.name, gate.now_s, wanted)
    except RequestError:
        return _refuse(400, "invalid_scope")
    if found is None:
        return _refuse(400, "invalid_grant")
    given, family = found
    return _answer(request, gate, given, refresh=True, family=family, scopes=wanted)


def _answer(request: Request, gate: Gate, given: Given, *, refresh: bool, family: str = "", scopes: tuple[str, ...] = ()) -> Response:
    """The tokens. scopes: of the access token, () = all that were given."""
    person, scopes = gate.people.find(given.name), scopes or given.scopes
    if person is None or person.disabled:
        return _refuse(400, "invalid_grant")
    tokens, issuer = _tokens(request), gate.issuer(request)
    body: dict[str, Any] = {"token_type": "Bearer", "expires_in": ACCESS_LIVES_S, "scope": " ".join(scopes)}
    body["access_token"] = tokens.access(issuer, given.name, given.client, scopes)
    if IDENTITY in scopes:
        body["id_token"] = tokens.identity(issuer, given.name, given.client, given.nonce, person.role, given.signed_in_s)
    if refresh:
        body["refresh_token"] = gate.clients.make_refresh(given, gate.now_s, family)
    return JSONResponse(body, headers={"cache-control": "no-store"})


def _proves(verifier: str, challenge: str) -> bool:
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return CHALLENGE <= len(verifier) <= 128 and hmac.compare_digest(made, challenge)


def _tokens(request: Request) -> Tokens:
    tokens = gate_of(request).tokens
    if tokens is None:
        raise RuntimeError("the gate has no tokens")
    return tokens


def _unknown(request: Request, gate: Gate, client_id: str) -> Response:
    """No such program, or not its secret: in the trail, and from one address not too often. A right secret is never held up by others' wrong ones."""
    standing = request.app.state.tries.take(f"oauth {address_of(request)}")
    if not standing.allowed:
        return JSONResponse({"error": "temporarily_unavailable"}, 429, headers={"retry-after": str(standing.again_s)})
    gate.note(None, request, "oauth.token", client_id[:60], "not this program's secret", "refused")
    return _refuse(401, "invalid_client")


def _refuse(status: int, error: str) -> JSONResponse:
    headers = {"cache-control": "no-store"} | ({"www-authenticate": 'Basic realm="openami"'} if status == 401 else {})
    return JSONResponse({"error": error, "error_description": WHY[error]}, status, headers=headers)
