"""Sign-in through an external OpenID Connect issuer (authorization code with PKCE): a person there is one of ours if `openami people` linked them.

What always holds: state, nonce and proof key are new for each attempt and lie in a cookie that only this browser has; who is not linked does not
come in, whatever the issuer says; roles and reach are ours, never the issuer's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from .failures import NotThere
from .gate import Gate, cookie_name, drop_cookie, gate_of, set_cookie
from .sign_in import entered, safe_path
from .tokens import External, Tokens

router = APIRouter()
ATTEMPT_S = 600
CALLBACK = "/sign-in/external/back"


@router.get("/sign-in/external")
def go(request: Request) -> Response:
    gate, tokens, external = _configured(request)
    parts = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(parts["verifier"].encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": external.client,
        "redirect_uri": gate.base_url(request) + CALLBACK,
        "scope": "openid",
        "state": parts["state"],
        "nonce": parts["nonce"],
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    try:
        there = str(tokens.about_external()["authorization_endpoint"])
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        gate.note(None, request, "sign_in", "", "external: its issuer does not answer", "refused")
        return RedirectResponse("/sign-in?problem=external", 303)
    answer = RedirectResponse(f"{there}?{urlencode(asked)}", 303)
    kept = json.dumps(parts | {"next": safe_path(request.query_params.get("next", "/"))})
    set_cookie(request, answer, "external", base64.urlsafe_b64encode(kept.encode()).decode(), ATTEMPT_S)
    return answer


@router.get(CALLBACK)
def back(request: Request, code: str = "", state: str = "") -> Response:
    gate, tokens, external = _configured(request)
    try:
        kept = json.loads(base64.urlsafe_b64decode(request.cookies.get(cookie_name(request, "external"), "")))
        known = hmac.compare_digest(str(kept["state"]).encode(), state.encode())
    except (ValueError, KeyError, TypeError):
        known = False
    subject = _subject(request, gate, tokens, external, code, kept) if known and code else None
    person = gate.people.by_external(subject) if subject else None
    if person is None or person.disabled:
        gate.note(None, request, "sign_in", "", "external", "refused")
        answer: Response = RedirectResponse("/sign-in?problem=external", 303)
    else:
        answer = entered(request, gate, person, "external", str(kept.get("next", "/")))
    drop_cookie(request, answer, "external")
    return answer


def _subject(request: Request, gate: Gate, tokens: Tokens, external: External, code: str, kept: dict[str, str]) -> str | None:
    given = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": gate.base_url(request) + CALLBACK,
        "code_verifier": str(kept.get("verifier", "")),
    }
    try:
        url = str(tokens.about_external()["token_endpoint"])
        found = httpx.post(url, data=given, auth=(external.client, external.secret), timeout=10.0).json()
    except (httpx.HTTPError, OSError, ValueError, KeyError):
        return None
    token = found.get("id_token") if isinstance(found, dict) else None
    return tokens.verify_identity(token, str(kept.get("nonce", ""))) if isinstance(token, str) else None


def _configured(request: Request) -> tuple[Gate, Tokens, External]:
    gate = gate_of(request)
    if gate.tokens is None or gate.tokens.external is None:
        raise NotThere("page", "")
    return gate, gate.tokens, gate.tokens.external
