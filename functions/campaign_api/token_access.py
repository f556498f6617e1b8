"""Callers with a token: the claims that API Gateway's JWT authorizer has verified go in, the caller comes out.

The authorizer has checked signature, issuer, audience and times. A request reaches this function through it or with an
API key. The token itself is not read here, and claims are ignored while the settings name no issuer.
"""

from __future__ import annotations

from http import HTTPStatus

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from http_errors import Problem, RequestRefused
from sendledger.access.callers import Caller, token_subject
from sendledger.core.settings import TokenSettings
from sendledger.core.vocabulary import Role

SUBJECT = "sub"
MAX_SUBJECT_LENGTH = 255
"""https://openid.net/specs/openid-connect-core-1_0.html#IDToken"""


def find_caller(request: APIGatewayProxyEventV2, settings: TokenSettings) -> Caller | None:
    """The caller whose token the authorizer has verified. None if there is no verified token, or tokens are off.

    Raises:
        RequestRefused: 401, the token is another issuer's; 403, it does not say who acts, or gives no role.
    """
    if settings.jwt_issuer is None or settings.jwt_role_claim is None:
        return None
    authorizer = request.raw_event["requestContext"].get("authorizer") or {}
    claims = (authorizer.get("jwt") or {}).get("claims")
    if claims is None:
        return None
    if claims.get("iss") != settings.jwt_issuer:
        # The result of an authorizer that was added by hand is not trusted.
        raise RequestRefused(
            Problem(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "The token is not from the issuer that is trusted here.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        )
    subject = claims.get(SUBJECT)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
        detail = f"The token's claim {SUBJECT} must say who acts, in 1 to {MAX_SUBJECT_LENGTH} characters."
        raise _refused(SUBJECT, detail)
    claim = settings.jwt_role_claim
    values = _values(claims.get(claim))
    role_of = {settings.jwt_role_prefix + role: role for role in Role}
    held = [role for value, role in role_of.items() if value in values]
    if not held:
        detail = f"The token's claim {claim} gives no role; it must have one of {', '.join(role_of)}."
        raise _refused(claim, detail, allowed=list(role_of))
    return token_subject(settings.jwt_issuer, subject, held[-1])


def _values(claim: object) -> list[str]:
    """The values of a claim as API Gateway renders it: a list as "[a b]", in brackets and not quoted, all else as text.

    A text is taken for a list of words as well: that is what scopes are (RFC 6749, section 3.3).
    """
    if not isinstance(claim, str):
        return []
    in_brackets = claim.startswith("[") and claim.endswith("]")
    return (claim[1:-1] if in_brackets else claim).split(" ")


def _refused(claim: str, detail: str, **data: object) -> RequestRefused:
    return RequestRefused(Problem(HTTPStatus.FORBIDDEN, "forbidden", detail, data={"claim": claim, **data}))
