"""Signed tokens (JWT, RFC 7519): access tokens by RFC 9068 and ID tokens of our own issuer, and those of an external one that a deployment trusts.

What always holds: ES256 for what we sign; of others' tokens only the asymmetric algorithms listed here; issuer, audience and time are checked
every time; a key is found by its id, and an unknown id makes an external issuer's keys be fetched anew, at most once a minute.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from ..store.clients import Clients
from ..store.rows import Rows

ACCESS_LIVES_S, ID_LIVES_S = 600, 600
EXTERNAL_ALGORITHMS = ["ES256", "ES384", "RS256", "PS256", "EdDSA"]
KEYS_AGAIN_S, UNKNOWN_AGAIN_S, LEEWAY_S = 60, 5, 30
SIGNS_AFTER_S = 2 * KEYS_AGAIN_S
"""How long a new key is only shown before it signs: by then everybody knows it, our own processes and whoever keeps our public keys."""
AUDIENCE = "openami"


@dataclass(frozen=True, slots=True)
class External:
    """An issuer that this deployment trusts. audience: what its tokens must be for; client, secret: ours there, for people's sign-in."""

    issuer: str
    audience: str
    client: str
    secret: str
    title: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: who, through which program, with which scopes (None = all of the role's)."""

    subject: str
    client: str
    scopes: tuple[str, ...] | None
    external: bool


class Tokens:
    """clients: where the signing keys lie, asked each time; fetch: gets a JSON document of the external issuer."""

    def __init__(
        self,
        clients: Callable[[], Clients],
        clock: Callable[[], float],
        external: External | None = None,
        fetch: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        self._clients, self._clock, self.external = clients, clock, external
        self._fetch = fetch or _fetch
        self._lock, self._external_lock = threading.Lock(), threading.Lock()
        self._external_keys: KeySet | None = None
        self._external_asked: float | None = None
        self._about: dict[str, Any] | None = None
        self._own: tuple[Rows, float, list[tuple[ECKey, int]]] | None = None

    def jwks(self) -> dict[str, Any]:
        """Our public keys."""
        return {"keys": [key.as_dict(private=False) | {"use": "sig", "alg": "ES256"} for key, _ in self._keys()]}

    def new_key(self) -> str:
        """A new key, which signs in a while; the ones before are known for ever, by what they signed. Gives its id."""
        self._keys()
        with self._lock:
            self._own = None
            return self._made(self._clients())

    def access(self, issuer: str, subject: str, client: str, scopes: tuple[str, ...], lives_s: int = ACCESS_LIVES_S) -> str:
        now_s = int(self._clock())
        claims = {
            "iss": issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": client,
            "scope": " ".join(scopes),
            "jti": secrets.token_hex(12),
        }
        return self._sign({"typ": "at+jwt"}, claims | {"iat": now_s, "exp": now_s + lives_s})

    def identity(self, issuer: str, subject: str, client: str, nonce: str, role: str, signed_in_s: int | None = None) -> str:
        """signed_in_s: when the person signed in, None = not told."""
        now_s = int(self._clock())
        claims = {"iss": issuer, "aud": client, "sub": subject, "role": role, "iat": now_s, "exp": now_s + ID_LIVES_S}
        claims |= {"nonce": nonce} if nonce else {}
        return self._sign({"typ": "JWT"}, claims | ({} if signed_in_s is None else {"auth_time": signed_in_s}))

    def identity_of(self, token: str, issuer: str) -> tuple[str, str] | None:
        """(subject, program) of an ID token of ours, also of one that is over; None where it is not one."""
        found = self._decoded(token)
        if found is None or found.header.get("typ") != "JWT" or found.claims.get("iss") != issuer:
            return None
        return str(found.claims.get("sub", "")), str(found.claims.get("aud", ""))

    def statement(self, issuer: str, account: str, told: dict[str, Any]) -> str:
        """A signed statement about an account, for whoever trusts our public keys. It opens no door: its type is another one."""
        claims = {"iss": issuer, "sub": account, "iat": int(self._clock()), "statement": told}
        return self._sign({"typ": "statement+jwt"}, claims)

    def verify_statement(self, token: str) -> dict[str, Any] | None:
        """What a statement of ours says; None where it is not one, or was changed."""
        found = self._decoded(token)
        return dict(found.claims) if found is not None and found.header.get("typ") == "statement+jwt" else None

    def verify(self, token: str, issuer: str) -> Claims | None:
        """What an access token of ours, or of the external issuer, says; None where it is not one, or no longer."""
        found = self._decoded(token)
        if found is None:
            return self._verify_external(token)
        if found.header.get("typ") != "at+jwt" or not self._current(found.claims, issuer, AUDIENCE):
            return None
        claims = found.claims
        return Claims(str(claims["sub"]), str(claims.get("client_id", "")), tuple(str(claims.get("scope", "")).split()), False)

    def verify_identity(self, token: str, nonce: str) -> str | None:
        """The subject of the external issuer's ID token, for our own sign-in there."""
        external = self.external
        claims = self._external_claims(token) if external else None
        if claims is None or external is None or not self._current(claims, external.issuer, external.client):
            return None
        return str(claims["sub"]) if secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()) else None

    def about_external(self) -> dict[str, Any]:
        """The external issuer's discovery document; OSError, ValueError or httpx.HTTPError where it cannot be had or is another one's."""
        if self.external is None:
            raise ValueError("no external issuer is configured")
        if self._about is None:
            about = self._fetch(self.external.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if about.get("issuer") != self.external.issuer:
                raise ValueError("the issuer's own description names another issuer")
            self._about = about
        return self._about

    def _verify_external(self, token: str) -> Claims | None:
        external = self.external
        claims = self._external_claims(token) if external else None
        if claims is None or external is None or not self._current(claims, external.issuer, external.audience):
            return None
        scope = claims.get("scope")
        return Claims(str(claims["sub"]), str(claims.get("client_id", "")), tuple(str(scope).split()) if scope else None, True)

    def _external_claims(self, token: str) -> dict[str, Any] | None:
        for anew in (False, True):
            try:
                return dict(jwt.decode(token, self._external_key_set(anew), algorithms=EXTERNAL_ALGORITHMS).claims)
            except (JoseError, ValueError, TypeError, KeyError, OSError, httpx.HTTPError):
                continue
        return None

    def _external_key_set(self, anew: bool) -> KeySet:
        with self._external_lock:
            asked, now = self._external_asked, self._clock()
            if (anew or self._external_keys is None) and (asked is None or now - asked > KEYS_AGAIN_S):
                self._external_asked = now  # also where it does not answer: or every stranger's token would wait for it
                self._external_keys = KeySet.import_key_set(self._fetch(str(self.about_external()["jwks_uri"])))  # type: ignore[arg-type]
            if self._external_keys is None:
                raise ValueError("the external issuer's keys cannot be had just now")
            return self._external_keys

    def _current(self, claims: dict[str, Any], issuer: str, audience: str) -> bool:
        aud, now_s = claims.get("aud"), self._clock()
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float) or not claims.get("sub"):
            return False
        meant = audience in aud if isinstance(aud, list) else aud == audience
        return claims.get("iss") == issuer and meant and now_s < expires + LEEWAY_S and begins <= now_s + LEEWAY_S

    def _sign(self, header: dict[str, str], claims: dict[str, Any]) -> str:
        keys, old_enough = self._keys(), self._clock() - SIGNS_AFTER_S
        key = next((key for key, since_s in keys if since_s <= old_enough), keys[-1][0])
        return jwt.encode({"alg": "ES256", "kid": key.kid} | header, claims, key, algorithms=["ES256"])

    def _decoded(self, token: str) -> jwt.Token | None:
        """A token that one of our keys signed. One by a key that another process has just made makes the keys be read anew."""
        for anew in (False, True):
            try:
                return jwt.decode(token, KeySet([key for key, _ in self._keys(anew)]), algorithms=["ES256"])
            except (JoseError, ValueError, TypeError):
                continue
        return None

    def _keys(self, anew: bool = False) -> list[tuple[ECKey, int]]:
        """With since when they are there, newest first; the first one is made when there is none. Kept for a minute, as long as the database is
        the same one; read `anew` every few seconds at most."""
        clients, now = self._clients(), self._clock()
        with self._lock:
            kept, again_s = self._own, UNKNOWN_AGAIN_S if anew else KEYS_AGAIN_S
            if kept is not None and kept[0] is clients.rows and now - kept[1] < again_s:
                return kept[2]
            if not (stored := clients.signing_keys()):
                self._made(clients)
                stored = clients.signing_keys()
            keys = [(ECKey.import_key(pem, {"kid": kid}), since_s) for kid, pem, since_s in stored]
            self._own = (clients.rows, now, keys)
            return keys

    def _made(self, clients: Clients) -> str:
        made = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8)}, private=True)
        clients.add_signing_key(str(made.kid), made.as_pem(private=True), int(self._clock()))
        return str(made.kid)


def _fetch(url: str) -> dict[str, Any]:
    answer = httpx.get(url, timeout=10.0, follow_redirects=False)
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} did not answer with a JSON object")
    return found
