"""Callers with a token: what becomes of the claims that API Gateway has verified, and when they are looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

import api_resources
import campaign_api_handler
import token_access
from http_errors import RequestRefused
from sendledger.access.callers import Caller
from sendledger.core.errors import SettingsError
from sendledger.core.settings import TokenSettings
from sendledger.core.vocabulary import Role
from tests.functions.campaign_api.api_client import Answer, ApiClient
from tests.functions.campaign_api.test_api_gate import MATRIX, SOME_ID

ISSUER = "https://idp.example.com/pool"
SETTINGS = {"JWT_ISSUER": ISSUER, "JWT_ROLE_CLAIM": "cognito:groups", "JWT_ROLE_PREFIX": "sendledger-"}
ADMIN = {"iss": ISSUER, "sub": "ann-1", "cognito:groups": "[sendledger-admin]"}


def find_caller(claims: Any, **settings: str) -> Caller | None:
    event = {"requestContext": {"authorizer": {"jwt": {"claims": claims, "scopes": None}}}}
    return token_access.find_caller(APIGatewayProxyEventV2(event), TokenSettings.read(SETTINGS | settings))


def role_of(groups: Any, **settings: str) -> str | None:
    claim = settings.get("JWT_ROLE_CLAIM", "cognito:groups")
    try:
        caller = find_caller({"iss": ISSUER, "sub": "ann-1", claim: groups}, **settings)
    except RequestRefused:
        return None
    assert caller is not None
    return caller.role


# From a claim to a role


@pytest.mark.parametrize(
    ("rendered", "role"),
    [
        ("sendledger-viewer", "viewer"),
        ("[sendledger-editor]", "editor"),
        ("[poweruser sendledger-sender eu-west-1_Google]", "sender"),
        ("openid sendledger-admin profile", "admin"),
        ("[sendledger-viewer sendledger-admin sendledger-editor]", "admin"),
    ],
)
def test_highest_role_among_the_values_of_the_claim_counts(rendered: str, role: str) -> None:
    assert role_of(rendered) == role


@pytest.mark.parametrize(
    "rendered",
    [
        None,
        "",
        "[]",
        "admin",
        "[admin viewer]",
        "sendledger-",
        "[sendledger-owner]",
        "Sendledger-Admin",
        "sendledger-administrator",
        "not-sendledger-admin",
        "sendledger-admin,sendledger-viewer",
        "[[sendledger-admin]]",
        '["sendledger-admin"]',
        "sendledger-admin\u00a0",
        ["sendledger-admin"],
        {"sendledger-admin": True},
        True,
    ],
)
def test_anything_else_gives_no_role(rendered: Any) -> None:
    assert role_of(rendered) is None


def test_claim_and_prefix_are_settings() -> None:
    assert role_of("openid sendledger/sender", JWT_ROLE_CLAIM="scope", JWT_ROLE_PREFIX="sendledger/") == "sender"
    assert role_of("[editor]", JWT_ROLE_CLAIM="https://example.com/roles", JWT_ROLE_PREFIX="") == "editor"


# Who acts


def test_caller_is_the_subject_of_the_issuer() -> None:
    caller = find_caller(ADMIN | {"name": "Ann", "email": "ann@example.com"})
    assert caller is not None
    assert (caller.name, caller.actor) == ("ann-1", f"jwt:{ISSUER}#ann-1")
    assert caller == find_caller(ADMIN | {"exp": "1", "jti": "another token"})


def test_callers_differ_by_subject_and_by_issuer() -> None:
    elsewhere = "https://idp.example.com/other"
    callers = [
        find_caller(ADMIN),
        find_caller(ADMIN | {"sub": "bob-2"}),
        find_caller(ADMIN | {"iss": elsewhere}, JWT_ISSUER=elsewhere),
    ]
    assert len({caller.id for caller in callers if caller}) == 3
    assert len({caller.actor for caller in callers if caller}) == 3


@pytest.mark.parametrize("subject", [None, "", "a" * 256, "a\nb", "a\0", "\ud800", 7])
def test_token_that_does_not_say_who_acts_is_refused(subject: Any) -> None:
    with pytest.raises(RequestRefused) as refused:
        find_caller(ADMIN | {"sub": subject})
    assert refused.value.problem.status == 403
    assert refused.value.problem.data["claim"] == "sub"


@pytest.mark.parametrize("issuer", [None, "https://idp.example.com", f"{ISSUER}/", "https://evil.example.com"])
def test_claims_of_another_authorizer_are_not_believed(issuer: str | None) -> None:
    with pytest.raises(RequestRefused) as refused:
        find_caller(ADMIN | {"iss": issuer})
    assert refused.value.problem.status == 401


# When claims are looked at


@pytest.fixture
def takes_tokens(clients: dict[str, ApiClient], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    api_resources.token_settings.cache_clear()
    yield
    api_resources.token_settings.cache_clear()


def with_authorizer(key: str | None, authorizer: Any) -> ApiClient:
    """A client whose requests come with this in their request context, where no caller can put anything."""

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        event["requestContext"]["authorizer"] = authorizer
        return campaign_api_handler.lambda_handler(event, context)

    return ApiClient(handler, key)


def claiming(claims: dict[str, str], key: str | None = None) -> ApiClient:
    return with_authorizer(key, {"jwt": {"claims": claims, "scopes": None}})


@pytest.mark.usefixtures("takes_tokens")
def test_verified_claims_open_the_api() -> None:
    assert claiming(ADMIN).get("/v1/api-keys").status == 200
    assert claiming(ADMIN | {"cognito:groups": "[sendledger-viewer]"}).get("/v1/api-keys").status == 403


@pytest.mark.usefixtures("takes_tokens")
def test_each_role_of_a_token_has_the_permissions_of_the_table() -> None:
    wrong = []
    for marks, method, route in MATRIX:
        path = re.sub(r"<\w+>", SOME_ID, route)
        for role, mark in zip(Role, marks, strict=True):
            status = claiming(ADMIN | {"cognito:groups": f"[sendledger-{role}]"}).request(method, path).status
            if (status == 403) != (mark == ".") or status in (401, 500):
                wrong.append(f"{role} {method} {route}: {status}")
    assert wrong == []


def test_claims_open_nothing_while_no_issuer_is_named(clients: dict[str, ApiClient]) -> None:
    assert claiming(ADMIN).get("/v1/api-keys").status == 401
    assert claiming(ADMIN, clients["viewer"].key).get("/v1/api-keys").status == 403


@pytest.mark.usefixtures("takes_tokens")
def test_key_does_not_help_a_token_without_a_role(api: ApiClient) -> None:
    assert claiming({"iss": ISSUER, "sub": "ann-1"}, api.key).get("/v1/campaigns").status == 403


@pytest.mark.usefixtures("takes_tokens")
@pytest.mark.parametrize(
    "authorizer",
    [
        None,
        {},
        {"jwt": None},
        {"jwt": {}},
        {"jwt": {"claims": None}},
        {"lambda": ADMIN},
        {"claims": ADMIN},
        {"iam": {}},
    ],
)
def test_request_that_no_jwt_authorizer_has_seen_needs_a_key(api: ApiClient, authorizer: Any) -> None:
    assert with_authorizer(None, authorizer).get("/v1/campaigns").status == 401
    assert with_authorizer(api.key, authorizer).get("/v1/campaigns").status == 200


@pytest.mark.usefixtures("takes_tokens")
@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.request("GET", "/v1/campaigns", query={"requestContext.authorizer.jwt.claims.sub": "x"}),
        lambda client: client.request("GET", "/v1/campaigns", headers={"x-amzn-oidc-data": "e30.e30.e30"}),
        lambda client: client.request("GET", "/v1/campaigns", headers={"Authorization": "Bearer e30.e30.e30"}),
        lambda client: client.post("/v1/leads", {"requestContext": {"authorizer": {"jwt": {"claims": ADMIN}}}}),
    ],
)
def test_claims_that_a_caller_sends_itself_are_ignored(send: Callable[[ApiClient], Answer]) -> None:
    assert send(ApiClient(campaign_api_handler.lambda_handler, None)).status == 401


@pytest.mark.usefixtures("takes_tokens")
def test_unknown_path_is_not_shown_to_a_token_without_a_role() -> None:
    assert claiming({"iss": ISSUER, "sub": "ann-1"}).get("/v1/no-such-path").status == 403
    assert claiming(ADMIN).get("/v1/no-such-path").status == 404


# Settings


@pytest.mark.parametrize("issuer", ["http://idp.example.com", "idp.example.com", "https://idp.example.com?x=1"])
def test_issuer_must_be_an_address(issuer: str) -> None:
    with pytest.raises(SettingsError, match="JWT_ISSUER"):
        TokenSettings.read(SETTINGS | {"JWT_ISSUER": issuer})


def test_issuer_is_kept_to_the_letter() -> None:
    assert (
        TokenSettings.read(SETTINGS | {"JWT_ISSUER": "https://a.example.com/"}).jwt_issuer == "https://a.example.com/"
    )


def test_an_issuer_needs_a_claim_for_the_role() -> None:
    with pytest.raises(SettingsError, match="JWT_ROLE_CLAIM"):
        TokenSettings.read({"JWT_ISSUER": ISSUER})
