"""The API for people of the team's own identity provider: its tokens, from a real issuer to the audit log."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from local.stack import LocalStack
from sendledger.core.vocabulary import Role
from testbed.documented import script
from testbed.token_issuer import AUDIENCE, TokenIssuer

SOME_ID = "123e4567-e89b-12d3-a456-426614174000"
GROUPS = "cognito:groups"
LEAD = {"email": "ann@example.com"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as running:
        yield running


@pytest.fixture
def parameters(issuer: TokenIssuer) -> dict[str, str]:
    return {"JwtIssuer": issuer.url, "JwtAudience": AUDIENCE}


@pytest.fixture
def tokens(stack: LocalStack) -> Iterator[httpx.Client]:
    """A client of the address for tokens."""
    assert stack.token_url
    with httpx.Client(base_url=stack.token_url, timeout=300) as client:
        yield client


def bearer(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}


# What each role may do: v viewer, e editor, s sender, a admin; the whole table is in test_api_gate.py.

SAMPLE = """
vesa  GET    /v1/health
vesa  GET    /v1/campaigns
.esa  POST   /v1/leads
..sa  POST   /v1/campaigns/<id>/start
...a  GET    /v1/audit-log
...a  POST   /v1/api-keys
"""


def test_each_role_of_a_token_has_the_permissions_of_the_table(tokens: httpx.Client, issuer: TokenIssuer) -> None:
    wrong = []
    for marks, method, route in (line.split() for line in SAMPLE.strip().splitlines()):
        for role, mark in zip(Role, marks, strict=True):
            token = issuer.token({GROUPS: ["everybody", f"sendledger-{role}"]})
            status = tokens.request(method, route.replace("<id>", SOME_ID), headers=bearer(token)).status_code
            if (status == 403) != (mark == ".") or status in (401, 500):
                wrong.append(f"{role} {method} {route}: {status}")
    assert wrong == []


def test_token_without_a_role_is_refused_naming_the_claim_and_what_it_may_be(
    tokens: httpx.Client, issuer: TokenIssuer
) -> None:
    without: list[dict[str, Any]] = [{}, {GROUPS: []}, {GROUPS: ["admin"]}, {"role": "sendledger-admin"}]
    for claims in without:
        answer = tokens.get("/v1/campaigns", headers=bearer(issuer.token(claims)))
        assert answer.status_code == 403, claims
        problem = answer.json()
        assert (problem["claim"], problem["allowed"]) == (GROUPS, [f"sendledger-{role}" for role in Role])
        assert GROUPS in problem["detail"]
        assert "sendledger-viewer" in problem["detail"]


# Who is not let in: with the groups of an admin, each of them

Forge = Callable[[TokenIssuer], str]
ADMIN: dict[str, Any] = {GROUPS: ["sendledger-admin"]}
REFUSED: dict[str, Forge] = {
    "expired": lambda issuer: issuer.token(ADMIN | {"exp": int(time.time()) - 1}),
    "not valid yet": lambda issuer: issuer.token(ADMIN | {"nbf": int(time.time()) + 60}),
    "for somebody else": lambda issuer: issuer.token(ADMIN | {"aud": "another-app"}),
    "of another issuer": lambda issuer: issuer.token(ADMIN | {"iss": "https://idp.example.com"}),
    "signed by another": lambda issuer: issuer.token(ADMIN, key=RSAKey.generate_key(2048), kid=issuer.keys[-1].kid),
    # {"alg":"none"}
    "not signed": lambda issuer: f"eyJhbGciOiJub25lIn0.{issuer.token(ADMIN).split('.')[1]}.",
}


def test_only_a_valid_token_is_let_in(tokens: httpx.Client, issuer: TokenIssuer, api: httpx.Client) -> None:
    statuses = {
        name: tokens.get("/v1/leads", headers=bearer(forge(issuer))).status_code for name, forge in REFUSED.items()
    }
    assert statuses == dict.fromkeys(REFUSED, 401)
    assert tokens.get("/v1/leads").status_code == 401
    # An API key is no token, and the other address knows no tokens.
    assert tokens.get("/v1/leads", headers={"Authorization": api.headers["Authorization"]}).status_code == 401
    assert api.get("/v1/leads", headers=bearer(issuer.token(ADMIN))).status_code == 401


def test_api_keys_go_on_working_and_a_token_may_make_them(
    tokens: httpx.Client, issuer: TokenIssuer, api: httpx.Client
) -> None:
    assert api.get("/v1/leads").status_code == 200
    key = {"name": "ci", "role": "viewer"}
    made = tokens.post("/v1/api-keys", json=key, headers=bearer(issuer.token(ADMIN))).json()
    assert api.get("/v1/leads", headers={"Authorization": f"Bearer {made['key']}"}).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="There is no curl here.")
def test_command_of_the_page_gets_an_answer(stack: LocalStack, issuer: TokenIssuer) -> None:
    shown = script("docs/operations/tokens.md").replace("<TokenApiUrl>", str(stack.token_url))
    environment = {**os.environ, "TOKEN": issuer.token(ADMIN)}
    typed = subprocess.run(
        ["bash", "-eu"], input=shown, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert " 200 " in typed.stdout.splitlines()[0]
    assert '"items"' in typed.stdout


# Who it was


def test_audit_log_names_issuer_and_subject(tokens: httpx.Client, issuer: TokenIssuer) -> None:
    headers = bearer(issuer.token(ADMIN | {"sub": "auth0|ann"}))
    added = tokens.post("/v1/suppressions", json={"value": "bob@example.com"}, headers=headers)
    assert added.status_code == 201, added.text
    actor = f"jwt:{issuer.url}#auth0|ann"
    (entry,) = tokens.get("/v1/audit-log", params={"actor": actor}, headers=headers).json()["items"]
    assert entry["actor"] == actor
    assert entry["entity_type"] == "suppression"


def test_idempotency_keys_of_two_people_do_not_meet_whatever_tokens_they_show(
    tokens: httpx.Client, issuer: TokenIssuer, api: httpx.Client
) -> None:
    def add(subject: str, email: str) -> httpx.Response:
        token = issuer.token(ADMIN | {"sub": subject, "jti": str(time.monotonic_ns())})
        return tokens.post("/v1/leads", json={"email": email}, headers=bearer(token, Idempotency_Key="a"))

    first, again = add("ann-1", "ann@example.com"), add("ann-1", "ann@example.com")
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert add("bob-2", "bob@example.com").status_code == 201
    assert api.post("/v1/leads", json={"email": "eve@example.com"}, headers={"Idempotency-Key": "a"}).status_code == 201


def test_log_has_neither_subject_nor_token(tokens: httpx.Client, issuer: TokenIssuer, tmp_path: Path) -> None:
    token = issuer.token(ADMIN | {"sub": "ann@example.com"})
    assert tokens.get("/v1/campaigns", headers=bearer(token)).status_code == 200
    log = (tmp_path / "functions.log").read_text()
    assert '"caller_id"' in log
    assert "ann@example.com" not in log
    assert token not in log
