"""An identity provider for the tests: real keys, and the two documents over HTTP that an authorizer reads."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from local.threaded_server import HOST, RequestHandler, ThreadedServer

AUDIENCE = "sendledger-app"


class TokenIssuer:
    """Use it as a context manager. `requests` are the paths that it was asked for."""

    def __init__(self) -> None:
        self._server = ThreadedServer(0, functools.partial(_Documents, self))
        self.url = f"http://{HOST}:{self._server.port}/pool"
        self.requests: list[str] = []
        self.keys: list[RSAKey] = []
        self.add_key()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()

    def add_key(self) -> None:
        """A new key, with which tokens are signed from now on."""
        self.keys.append(RSAKey.generate_key(2048, auto_kid=True))

    def documents(self) -> dict[str, Any]:
        """https://openid.net/specs/openid-connect-discovery-1_0.html"""
        return {
            "/pool/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys.json"},
            "/pool/keys.json": KeySet(list(self.keys)).as_dict(),
        }

    def token(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        key: RSAKey | None = None,
        alg: str = "RS256",
        kid: str | None = None,
    ) -> str:
        """A token for an hour, with `claims` besides the usual ones or instead of them; None leaves one out."""
        key = key or self.keys[-1]
        now = int(time.time())
        usual = {"iss": self.url, "sub": "ann-1", "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600}
        given = {name: value for name, value in {**usual, **(claims or {})}.items() if value is not None}
        return jwt.encode({"alg": alg, "kid": kid or key.kid}, given, key, algorithms=[alg])


class _Documents(RequestHandler):
    def __init__(self, issuer: TokenIssuer, *connection: Any) -> None:
        self._issuer = issuer
        super().__init__(*connection)

    def answer(self) -> None:
        self._issuer.requests.append(self.path)
        found = self._issuer.documents().get(self.path)
        self.respond(200 if found else 404, [("Content-Type", "application/json")], json.dumps(found).encode())
