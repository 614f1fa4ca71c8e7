"""The embedded OAuth 2.1 and OpenID Connect provider: authorization code with PKCE, client credentials, refresh; discovery and JWKS.

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

from ..store.clients import Client, Given, family_of
from .access import Right, Role, Who, rights_of
from .demo_people import make_demo_people
from .failures import NotUsable
from .gate import FORM_FIELD, Gate, address_of, gate_of, needs
from .pages import Console
from .tokens import ACCESS_LIVES_S, Tokens

router = APIRouter()
Text = Annotated[str, Form(max_length=4000)]
Known = Annotated[Who, Depends(needs())]
IDENTITY = "openid"
OFFLINE = "offline_access"
CHALLENGE = 43
STATE_MOST, NONCE_MOST = 500, 200
GRANTS = ("authorization_code", "client_credentials", "refresh_token")


@router.get("/.well-known/openid-configuration")
@router.get("/.well-known/oauth-authorization-server")
def discovery(request: Request) -> dict[str, Any]:
    base = gate_of(request).base_url(request)
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "jwks_uri": f"{base}/oauth/jwks",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "scopes_supported": [IDENTITY, OFFLINE, *(str(right) for right in Right)],
        "response_types_supported": ["code"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "authorization_response_iss_parameter_supported": True,
    }


@router.get("/oauth/jwks")
def jwks(request: Request) -> dict[str, Any]:
    return _tokens(request).jwks()


@router.get("/oauth/authorize")
def authorize(request: Request, who: Known) -> Response:
    """Asks the person whether the program may act for them."""
    asked = dict(request.query_params)
    gate = gate_of(request)
    client = _client_and_address(gate, asked)
    if problem := _wrong(asked, who):
        return _back(request, asked, {"error": problem})
    console: Console = request.app.state.console
    page = console.page(
        request, "authorize.html", None, client=client, asked=asked, scopes=_scopes(client, who, asked), host=_origin(asked)
    )
    page.headers["cache-control"] = "no-store"
    page.headers["content-security-policy"] = (
        f"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {_origin(asked)}; base-uri 'none'; frame-ancestors 'none'"
    )
    return page


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
    stands_for = Given(client.name, who.name, scopes, given.get("nonce", ""), given["redirect_uri"], given["code_challenge"])
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
        return _fresh_token(request, gate, client, refresh_token)
    given = gate.clients.use_code(code, gate.now_s)
    if given is None or given.client != client.name or given.redirect != redirect_uri or not _proves(code_verifier, given.challenge):
        return _refuse(400, "invalid_grant")
    return _answer(request, gate, given, refresh=OFFLINE in given.scopes, family=family_of(code))


@router.post("/oauth/revoke")
def revoke(request: Request, token: Text = "", client_id: Text = "", client_secret: Text = "") -> Response:
    """Ends a refresh token and all that came of it (RFC 7009); an access token ends by itself within ten minutes."""
    gate = gate_of(request)
    client = _program(request, gate, client_id, client_secret)
    if client is None:
        return _unknown(request, gate, client_id)
    gate.clients.revoke(token, client.name)
    return Response(status_code=200)


@router.get("/oauth/userinfo")
def userinfo(request: Request) -> Response:
    who = gate_of(request).who(request)
    if who is None or not who.program:
        return JSONResponse({"error": "invalid_token"}, 401, headers={"www-authenticate": 'Bearer error="invalid_token"'})
    return JSONResponse({"sub": who.name, "role": str(who.role), "locale": who.language}, headers={"cache-control": "no-store"})


def _client_and_address(gate: Gate, asked: dict[str, str]) -> Client:
    """The program and that the address is its own; until both are known nobody is sent anywhere."""
    client = gate.clients.find(asked.get("client_id", "")[:60])
    if client is None:
        raise NotUsable("client_id", asked.get("client_id", "")[:60])
    if asked.get("redirect_uri", "") not in client.redirects:
        raise NotUsable("redirect_uri", asked.get("redirect_uri", "")[:200])
    return client


def _wrong(asked: dict[str, str], who: Who) -> str | None:
    """What is wrong with a request, in RFC 6749's word; None = nothing."""
    if asked.get("response_type") != "code":
        return "unsupported_response_type"
    challenge = asked.get("code_challenge", "")
    too_long = len(asked.get("state", "")) > STATE_MOST or len(asked.get("nonce", "")) > NONCE_MOST
    if asked.get("code_challenge_method") != "S256" or len(challenge) != CHALLENGE or too_long:
        return "invalid_request"
    return "access_denied" if who.program or who.role is Role.PARTNER else None


def _scopes(client: Client, who: Who, asked: dict[str, str]) -> tuple[str, ...]:
    wanted = asked.get("scope", "").split()
    own = {str(right) for right in who.rights} & set(client.scopes)
    return tuple(s for s in dict.fromkeys(wanted) if s in own or s in (IDENTITY, OFFLINE))


def _back(request: Request, asked: dict[str, str], answer: dict[str, str]) -> Response:
    told = answer | ({"state": asked["state"]} if asked.get("state") else {}) | {"iss": gate_of(request).base_url(request)}
    address = asked["redirect_uri"]
    return RedirectResponse(address + ("&" if urlsplit(address).query else "?") + urlencode(told), 303)


def _origin(asked: dict[str, str]) -> str:
    parts = urlsplit(asked["redirect_uri"])
    return f"{parts.scheme}://{parts.netloc}"


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


def _fresh_token(request: Request, gate: Gate, client: Client, spent: str) -> Response:
    found = gate.clients.use_refresh(spent, client.name, gate.now_s)
    if found is None:
        return _refuse(400, "invalid_grant")
    given, family = found
    return _answer(request, gate, given, refresh=True, family=family)


def _answer(request: Request, gate: Gate, given: Given, *, refresh: bool, family: str = "") -> Response:
    person = gate.people.find(given.name)
    if person is None or person.disabled:
        return _refuse(400, "invalid_grant")
    tokens, issuer = _tokens(request), gate.issuer(request)
    body: dict[str, Any] = {"token_type": "Bearer", "expires_in": ACCESS_LIVES_S, "scope": " ".join(given.scopes)}
    body["access_token"] = tokens.access(issuer, given.name, given.client, given.scopes)
    if IDENTITY in given.scopes:
        body["id_token"] = tokens.identity(issuer, given.name, given.client, given.nonce, person.role)
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
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Basic"} if status == 401 else {})
    return JSONResponse({"error": error}, status, headers=headers)
