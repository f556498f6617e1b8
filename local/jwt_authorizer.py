"""The JWT authorizer of API Gateway's HTTP APIs: whether a request has a valid token of the issuer that is configured.

The Authorization header of a request goes in; out come the claims of its token, in the texts that events have. The
issuer is asked for its keys over HTTP, as OpenID Connect Discovery describes it. The rules are those of
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, KeySet, RSAKey
from joserfc.jws import JWSRegistry

from local.template import JwtAuthorizer

ALGORITHMS = ("RS256", "RS384", "RS512")
KEYS_KEPT_SECONDS = 7200
ISSUER_TIMEOUT_SECONDS = 5


class TokenRefusedError(Exception):
    """There is no valid token; the message says why, and is empty where there is none at all."""


class TokenVerifier:
    """`verify` may be called from many threads."""

    def __init__(self, authorizer: JwtAuthorizer) -> None:
        self._authorizer = authorizer
        self._keys: dict[str, RSAKey] = {}
        self._read_at = float("-inf")
        self._reading = threading.Lock()
        # What runs on this machine is not reached through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def verify(self, authorization: str) -> dict[str, str]:
        """The claims of the token. "Bearer" before the token is optional.

        Raises:
            TokenRefusedError: there is none, or it is not valid.
        """
        token = re.sub(r"(?i)\Abearer\s+", "", authorization.strip())
        if not token:
            raise TokenRefusedError
        # The library need not check headers that it does not know.
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            claims = jwt.decode(token, self._key_of, registry=registry).claims
            self._check(claims)
        except JoseError as error:
            raise TokenRefusedError(error.description or error.error) from error
        except ValueError as error:
            raise TokenRefusedError("the token cannot be read") from error
        return {name: _as_text(value) for name, value in claims.items() if value is not None}

    def _check(self, claims: dict[str, Any]) -> None:
        # Only a token without aud is looked at for its client_id.
        audience = claims["aud"] if claims.get("aud") is not None else claims.get("client_id")
        rules = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self._authorizer.issuer},
            exp={"essential": True},
        )
        rules.validate(claims)
        meant_for = audience if isinstance(audience, list) else [audience]
        if not any(each in self._authorizer.audience for each in meant_for):
            raise TokenRefusedError("the token does not have a valid audience")

    def _key_of(self, token: GuestProtocol) -> RSAKey:
        kid = token.headers().get("kid")
        with self._reading:
            fresh = time.monotonic() < self._read_at + KEYS_KEPT_SECONDS
            if not isinstance(kid, str) or not (fresh and kid in self._keys):
                self._keys = self._read_keys()
                self._read_at = time.monotonic()
            key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefusedError("the issuer has no key with the token's kid")
        return key

    def _read_keys(self) -> dict[str, RSAKey]:
        try:
            configuration = self._read(f"{self._authorizer.issuer.rstrip('/')}/.well-known/openid-configuration")
            calls_itself = configuration["issuer"]
            keys = KeySet.import_key_set(self._read(configuration["jwks_uri"]))
        except (OSError, ValueError, LookupError, TypeError, JoseError) as error:
            raise TokenRefusedError("the issuer does not answer with its keys") from error
        if calls_itself != self._authorizer.issuer:
            raise TokenRefusedError("the issuer calls itself something else")
        return {key.kid: key for key in keys if isinstance(key, RSAKey) and key.kid}

    def _read(self, url: str) -> Any:
        with self._opener.open(url, timeout=ISSUER_TIMEOUT_SECONDS) as answer:
            return json.load(answer)


def _as_text(value: Any) -> str:
    """A claim as events have it; that of a list was seen on API Gateway: https://github.com/floci-io/floci/pull/2011"""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{' '.join(_as_text(each) for each in value)}]"
    return json.dumps(value, separators=(",", ":"))
