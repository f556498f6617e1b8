"""The function that CloudFormation asks to migrate: whatever happens, it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

import database_roles
import migrate_handler
import migration_trigger_handler
from local.postgres import Postgres
from local.threaded_server import RequestHandler, ThreadedServer
from sendledger.core.tables import SCHEMA_REVISION
from testbed.databases import admin

CONTEXT: Any = SimpleNamespace(
    function_name="trigger", memory_limit_in_mb=512, invoked_function_arn="arn:trigger", aws_request_id="1"
)


class Aws(RequestHandler):
    """The Lambda API, behind which MigrateFunction runs, Secrets Manager, and where CloudFormation takes answers."""

    answers: ClassVar[list[dict[str, Any]]]
    invoked: ClassVar[list[dict[str, Any]]]

    def do_PUT(self) -> None:  # noqa: N802 (named by http.server)
        assert self.headers["content-type"] == ""
        self.answers.append(self._body())
        self._reply({})

    def do_POST(self) -> None:  # noqa: N802
        event = self._body()
        if "SecretId" in event:
            self._reply({"SecretString": json.dumps({"username": "postgres", "password": "secret"})})
            return
        self.invoked.append(event)
        try:
            self._reply(migrate_handler.lambda_handler(event, SimpleNamespace()))  # type: ignore[arg-type]
        except Exception as error:
            self._reply({"errorType": type(error).__name__, "errorMessage": str(error)}, {"X-Amz-Function-Error": "x"})

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return body

    def _reply(self, body: Any, headers: dict[str, str] | None = None) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(encoded)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Aws.answers, Aws.invoked = [], []
    server = ThreadedServer(0, Aws)
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("MIGRATE_FUNCTION_NAME", "migrate")
    for service in ("LAMBDA", "SECRETS_MANAGER"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "test")
    yield url
    server.stop()


def ask(url: str, request_type: str = "Create", migrate: str = "true") -> dict[str, Any]:
    """CloudFormation's event of AWS's documentation; returns the one answer."""
    event = {
        "RequestType": request_type,
        "ServiceToken": "arn:trigger",
        "ResponseURL": f"{url}/response?signature=x",
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/sendledger/1",
        "RequestId": "unique-request-id",
        "ResourceType": "Custom::Migration",
        "LogicalResourceId": "Migration",
        "ResourceProperties": {"ServiceToken": "arn:trigger", "Migrate": migrate, "Version": "arn:migrate:1"},
    }
    migration_trigger_handler.lambda_handler(event, CONTEXT)
    (answer,) = Aws.answers
    assert (answer["RequestId"], answer["LogicalResourceId"]) == ("unique-request-id", "Migration")
    return answer


@pytest.fixture
def empty_database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "migrated_by_deployment"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    monkeypatch.setenv("DATABASE_URL", postgres.url(name))
    yield name
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        for user in ("sendledger", *database_roles.users("sendledger").values()):
            connection.execute(sa.text(f"DROP ROLE IF EXISTS {user}"))


def test_a_first_deployment_creates_the_users_and_the_schema(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_ADMIN_SECRET_ARN", "arn:secret")
    monkeypatch.setenv("DATABASE_USER_PREFIX", "sendledger")
    answer = ask(aws)
    assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"revision": SCHEMA_REVISION}), answer["Reason"]
    assert [event["action"] for event in Aws.invoked] == ["create_roles", "upgrade"]
    Aws.answers.clear()
    # The next one finds everything there.
    assert ask(aws, "Update")["Status"] == "SUCCESS"


def test_users_that_the_database_does_not_have_fail_the_deployment_and_are_named(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_USER_PREFIX", "sendledger")
    answer = ask(aws)
    assert answer["Status"] == "FAILED"
    assert "has no users sendledger_api, " in answer["Reason"]


def test_a_migration_that_fails_fails_the_deployment_and_says_why(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    answer = ask(aws, "Update")
    assert answer["Status"] == "FAILED"
    assert "could not be reached" in answer["Reason"]


def test_an_older_version_that_comes_back_accepts_the_newer_schema(
    aws: str, engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    answer = ask(aws, "Update")
    assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"revision": "9999", "newer": True})


@pytest.mark.parametrize(("request_type", "migrate"), [("Delete", "true"), ("Update", "false")])
def test_what_is_not_asked_for_is_not_done(aws: str, request_type: str, migrate: str) -> None:
    assert ask(aws, request_type, migrate)["Status"] == "SUCCESS"
    assert Aws.invoked == []


def test_a_missing_setting_is_answered_too(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIGRATE_FUNCTION_NAME")
    answer = ask(aws)
    assert (answer["Status"], "MIGRATE_FUNCTION_NAME" in answer["Reason"]) == ("FAILED", True)
