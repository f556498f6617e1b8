"""The JWT authorizer of an HTTP API, over real HTTP, with an issuer that has real keys."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from local.cloudformation import TemplateError
from local.jwt_authorizer import TokenRefusedError, TokenVerifier
from local.stack import LocalStack
from local.template import JwtAuthorizer, read_template
from testbed.token_issuer import AUDIENCE, TokenIssuer
from tests.local.conftest import HANDLER

TEMPLATE = """
Parameters:
  Issuer: {Type: String, Default: ""}
  Audience: {Type: CommaDelimitedList, Default: ""}
Conditions:
  TakesTokens: !Not [!Equals [!Ref Issuer, ""]]
Resources:
  OpenApi: {Type: AWS::Serverless::HttpApi}
  TokenApi:
    Type: AWS::Serverless::HttpApi
    Condition: TakesTokens
    Properties:
      Auth:
        DefaultAuthorizer: Issuer
        Authorizers:
          Issuer:
            IdentitySource: %(identity_source)s
            JwtConfiguration: {issuer: !Ref Issuer, audience: !Ref Audience}
      DefinitionBody:
        paths:
          /v1/{proxy+}:
            x-amazon-apigateway-any-method:
              x-amazon-apigateway-integration:
                uri: !Sub arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/%(target)s/invocations
                payloadFormatVersion: "2.0"
                timeoutInMillis: 5000
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: echo
      Handler: echo_handler.lambda_handler
      Timeout: 10
      Environment: {Variables: {A: b}}
      Events:
        Open: {Type: HttpApi, Properties: {ApiId: !Ref OpenApi, Path: "/v1/{proxy+}", Method: ANY}}
"""


def write_template(folder: Path, **values: str) -> Path:
    path = folder / "template.yaml"
    defaults = {"identity_source": "$request.header.Authorization", "target": "${EchoFunction.Arn}"}
    path.write_text(TEMPLATE % (defaults | values))
    return path


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as running:
        yield running


@pytest.fixture(scope="module")
def stack(issuer: TokenIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "echo").mkdir()
    (folder / "echo" / "echo_handler.py").write_text(HANDLER)
    given = {"Issuer": issuer.url, "Audience": f"another-app,{AUDIENCE}"}
    with (
        (folder / "log").open("ab") as log,
        LocalStack(
            write_template(folder),
            database_url="postgresql://",
            ses_url="http://127.0.0.1:1",
            log=log,
            parameters=given,
        ) as running,
    ):
        yield running


@pytest.fixture
def ask(stack: LocalStack) -> Iterator[Callable[[str | None], httpx.Response]]:
    """Sends a request with this Authorization."""
    assert stack.token_url
    with httpx.Client(base_url=stack.token_url, timeout=300) as client:

        def send(authorization: str | None) -> httpx.Response:
            return client.get("/v1/leads", headers={} if authorization is None else {"Authorization": authorization})

        yield send


Ask = Callable[[str | None], httpx.Response]


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    authorizer = answer.json()["requestContext"]["authorizer"]
    assert authorizer["jwt"]["scopes"] is None
    claims: dict[str, Any] = authorizer["jwt"]["claims"]
    return claims


def assert_refused(answer: httpx.Response, reason: str) -> None:
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["www-authenticate"].startswith('Bearer scope="" error="invalid_token" error_description="')
    assert reason in answer.headers["www-authenticate"]


# What passes


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", ""])
def test_valid_token_passes_with_or_without_its_scheme(ask: Ask, issuer: TokenIssuer, scheme: str) -> None:
    assert claims_of(ask(scheme + issuer.token()))["sub"] == "ann-1"


def test_claims_come_as_the_texts_that_api_gateway_makes_of_them(ask: Ask, issuer: TokenIssuer) -> None:
    given: dict[str, Any] = {
        "cognito:groups": ["sendledger-admin", "poweruser"],
        "scope": "openid profile",
        "email_verified": True,
        "auth_time": 1_700_000_000,
        "address": {"country": "JP"},
        "none": [],
    }
    claims = claims_of(ask(issuer.token(given)))
    assert {name: claims[name] for name in given} == {
        "cognito:groups": "[sendledger-admin poweruser]",
        "scope": "openid profile",
        "email_verified": "true",
        "auth_time": "1700000000",
        "address": '{"country":"JP"}',
        "none": "[]",
    }


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-app"},
        {"aud": ["x", AUDIENCE]},
        {"aud": None, "client_id": AUDIENCE},
        {"iat": None, "nbf": None},
    ],
    ids=["another one", "one of several", "client_id without aud", "no iat, no nbf"],
)
def test_token_for_one_of_the_audiences_passes(ask: Ask, issuer: TokenIssuer, claims: dict[str, Any]) -> None:
    claims_of(ask(issuer.token(claims)))


@pytest.mark.parametrize("alg", ["RS384", "RS512"])
def test_every_rsa_signature_is_known(ask: Ask, issuer: TokenIssuer, alg: str) -> None:
    claims_of(ask(issuer.token(alg=alg)))


def test_keys_are_fetched_once_and_again_for_a_new_one(issuer: TokenIssuer) -> None:
    verifier = TokenVerifier(JwtAuthorizer(issuer.url, (AUDIENCE,)))
    issuer.requests.clear()
    old = issuer.token()
    for _ in range(3):
        verifier.verify(old)
    assert issuer.requests == ["/pool/.well-known/openid-configuration", "/pool/keys.json"]
    issuer.add_key()
    verifier.verify(issuer.token())
    verifier.verify(old)
    assert len(issuer.requests) == 4


# What does not


@pytest.mark.parametrize("authorization", [None, ""])
def test_request_without_a_token_is_refused(ask: Ask, authorization: str | None) -> None:
    answer = ask(authorization)
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["www-authenticate"] == "Bearer"


HOUR = 3600


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "somebody-else"}, "the token does not have a valid audience"),
        ({"aud": "somebody-else", "client_id": AUDIENCE}, "the token does not have a valid audience"),
        ({"aud": None}, "the token does not have a valid audience"),
        ({"aud": []}, "the token does not have a valid audience"),
        ({"aud": {"a": AUDIENCE}}, "aud"),
        ({"iss": "https://elsewhere.example.com"}, "iss"),
        ({"iss": None}, "iss"),
        ({"exp": None}, "exp"),
        ({"exp": int(time.time()) - 1}, "expired"),
        ({"exp": "tomorrow"}, "exp"),
        ({"nbf": int(time.time()) + HOUR}, "not yet valid"),
        ({"iat": int(time.time()) + HOUR}, "issued in the future"),
    ],
)
def test_token_with_other_claims_is_refused(ask: Ask, issuer: TokenIssuer, claims: dict[str, Any], reason: str) -> None:
    assert_refused(ask(f"Bearer {issuer.token(claims)}"), reason)


def with_header(token: str, **header: str | None) -> str:
    """The token with another header, up to its signature."""
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.{token.split('.')[1]}."


def signed_with_the_public_key(issuer: TokenIssuer) -> str:
    """The known attack on libraries that take the algorithm from the token."""
    key = issuer.keys[-1]
    signed = with_header(issuer.token(), alg="HS256", kid=key.kid)
    signature = hmac.digest(key.as_pem(private=False), signed.removesuffix(".").encode(), "sha256")
    return signed + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        lambda issuer: with_header(issuer.token(), alg="none"),
        lambda issuer: with_header(issuer.token(), alg="RS256", kid=issuer.keys[-1].kid),
        lambda issuer: issuer.token(kid="../keys"),
        lambda issuer: issuer.token()[:-4] + "AAAA",
        lambda issuer: ".".join([issuer.token().split(".")[0], issuer.token({"sub": "eve"}).split(".")[1], "AAAA"]),
        lambda issuer: issuer.token(key=RSAKey.generate_key(2048, auto_kid=True)),
        lambda issuer: issuer.token(key=RSAKey.generate_key(2048), kid=issuer.keys[-1].kid),
        signed_with_the_public_key,
        lambda issuer: "sl_not_a_token",
        lambda issuer: "a.b.c",
    ],
    ids=[
        "alg none",
        "no signature",
        "unknown key id",
        "cut signature",
        "other claims",
        "unknown key",
        "other key, known id",
        "HS256 with the public key",
        "API key",
        "no base64",
    ],
)
def test_token_that_the_issuer_has_not_signed_is_refused(
    ask: Ask, issuer: TokenIssuer, forge: Callable[[TokenIssuer], str]
) -> None:
    assert_refused(ask(f"Bearer {forge(issuer)}"), "")


def test_nobody_passes_while_the_issuer_does_not_answer() -> None:
    with TokenIssuer() as gone:
        token = gone.token()
    with pytest.raises(TokenRefusedError, match="does not answer"):
        TokenVerifier(JwtAuthorizer(gone.url, (AUDIENCE,))).verify(token)


def test_issuer_must_be_named_to_the_letter(issuer: TokenIssuer) -> None:
    almost = f"{issuer.url}/"
    with pytest.raises(TokenRefusedError, match="something else"):
        TokenVerifier(JwtAuthorizer(almost, (AUDIENCE,))).verify(issuer.token({"iss": almost}))


# The template


def test_api_with_an_authorizer_has_its_own_address(stack: LocalStack) -> None:
    assert stack.token_url not in (None, stack.url)
    answer = httpx.get(f"{stack.url}/v1/leads")
    assert answer.status_code == 200
    assert "authorizer" not in answer.json()["requestContext"]


def test_without_its_condition_there_is_no_such_api(tmp_path: Path) -> None:
    template = read_template(write_template(tmp_path), {})
    assert [route.authorizer for route in template.routes] == [None]


@pytest.mark.parametrize(
    "values",
    [{"identity_source": "$request.querystring.token"}, {"target": "arn:aws:lambda:us-east-1:123456789012:function:x"}],
)
def test_an_authorizer_or_route_that_cannot_be_followed_here_is_an_error(
    tmp_path: Path, values: dict[str, str]
) -> None:
    with pytest.raises(TemplateError, match="TokenApi"):
        read_template(write_template(tmp_path, **values), {"Issuer": "https://idp.example.com", "Audience": "a"})


def test_the_authorizer_of_one_route_is_an_error_and_not_overlooked(tmp_path: Path) -> None:
    path = write_template(tmp_path)
    path.write_text(path.read_text().replace("Method: ANY}", "Method: ANY, Auth: {Authorizer: Issuer}}"))
    with pytest.raises(TemplateError, match="DefaultAuthorizer"):
        read_template(path, {})
