"""A deployment that names no issuer takes API keys only, whatever a request claims."""

from __future__ import annotations

import httpx

from local.stack import LocalStack
from testbed.token_issuer import TokenIssuer


def test_no_token_opens_the_api_while_no_issuer_is_named(stack: LocalStack, api: httpx.Client) -> None:
    assert stack.token_url is None
    with TokenIssuer() as issuer:
        token = issuer.token({"cognito:groups": ["sendledger-admin"]})
        answer = httpx.get(f"{stack.url}/v1/campaigns", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert issuer.requests == []
    assert api.get("/v1/campaigns").status_code == 200
