"""The function that CloudFormation asks to migrate: whatever happens, it answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

import database_roles
import migrate_handler
import migration_trigger_handler
from local.postgres import Postgres, as_user
from local.threaded_server import RequestHandler, ThreadedServer
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings, MigrationTriggerSettings
from sendledger.core.tables import SCHEMA_REVISION, base
from testbed.databases import admin, plain_engine

MINUTE = 60_000
REFUSED = {"errorType": "LoginRefused", "errorMessage": "PAM authentication failed"}


class Aws(RequestHandler):
    """The Lambda API, behind which MigrateFunction runs, its queue of results, Secrets Manager, and where
    CloudFormation takes answers."""

    answers: ClassVar[list[dict[str, Any]]]
    invoked: ClassVar[list[dict[str, Any]]]
    # What the next invocations are answered with: an error code or an error of the function; None lets it work.
    instead: ClassVar[list[str | dict[str, Any] | None]]
    results: ClassVar[list[dict[str, Any]]]
    admin: ClassVar[dict[str, str]]
    loses_results: ClassVar[bool]
    # What the next calls of the queue are answered with; None cuts the connection.
    queue_fails: ClassVar[list[tuple[int, str] | None]]

    def do_PUT(self) -> None:  # noqa: N802 (named by http.server)
        assert self.headers["content-type"] == ""
        self.answers.append(self._body())
        self._reply({})

    def do_POST(self) -> None:  # noqa: N802
        event = self._body()
        target = self.headers.get("x-amz-target", "")
        if target.startswith("AmazonSQS.") and self.queue_fails:
            self._fail_queue(self.queue_fails.pop(0))
        elif target == "AmazonSQS.ReceiveMessage":
            messages = [{"Body": json.dumps(each), "ReceiptHandle": "1"} for each in self.results]
            self.results.clear()
            self._reply({"Messages": messages})
        elif target == "AmazonSQS.DeleteMessage":
            self._reply({})
        elif "SecretId" in event:
            self._reply({"SecretString": json.dumps(self.admin)})
        elif self.headers.get("x-amz-invocation-type") == "Event":
            self._invoke_async(event)
        else:
            self._invoke(event)

    def _fail_queue(self, failure: tuple[int, str] | None) -> None:
        if failure is None:
            self.close_connection = True
        else:
            status, code = failure
            self._reply({"__type": code, "message": "fails"}, status=status)

    def _invoke(self, event: dict[str, Any]) -> None:
        if self.instead and isinstance(self.instead[0], str):
            body = {"message": "is new", "Type": "User"}
            self._reply(body, {"x-amzn-ErrorType": str(self.instead.pop(0))}, status=409)
            return
        failed, result = self._result_of(event)
        self._reply(result, {"X-Amz-Function-Error": "Unhandled"} if failed else {})

    def _invoke_async(self, event: dict[str, Any]) -> None:
        """As an asynchronous invocation with a destination, whose queue still has another deployment's result."""
        failed, result = self._result_of(event)
        for request_id in ("another", "async-1"):
            condition = "RetriesExhausted" if failed else "Success"
            context = {"requestId": request_id, "condition": condition}
            self.results.append({"version": "1.0", "requestContext": context, "responsePayload": result})
        if self.loses_results:
            self.results.clear()
        self._reply({}, {"x-amzn-RequestId": "async-1"}, status=202)

    def _result_of(self, event: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        self.invoked.append(event)
        if self.instead and (error := self.instead.pop(0)) is not None:
            assert isinstance(error, dict)
            return True, error
        try:
            return False, migrate_handler.lambda_handler(event, SimpleNamespace())  # type: ignore[arg-type]
        except Exception as error:
            return True, {"errorType": type(error).__name__, "errorMessage": str(error)}

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return body

    def _reply(self, body: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(encoded)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Aws.answers, Aws.invoked, Aws.instead, Aws.results = [], [], [], []
    Aws.admin, Aws.loses_results = {"username": "postgres", "password": "secret"}, False
    Aws.queue_fails = []
    server = ThreadedServer(0, Aws)
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("MIGRATE_FUNCTION_NAME", "migrate")
    monkeypatch.setenv("MIGRATION_RESULTS_URL", f"{url}/123456789012/results")
    monkeypatch.setattr(migration_trigger_handler, "PAUSE", 0.0)
    for service in ("LAMBDA", "SECRETS_MANAGER", "SQS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "test")
    yield url
    server.stop()


def ask(url: str, request_type: str = "Create", migrate: str = "true", time_left: int = 14 * MINUTE) -> dict[str, Any]:
    """CloudFormation's event of AWS's documentation; returns the one answer."""
    event = {
        "RequestType": request_type,
        "ServiceToken": "arn:trigger",
        "ResponseURL": f"{url}/response?signature=x",
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/sendledger/1",
        "RequestId": "unique-request-id",
        "ResourceType": "Custom::Migration",
        "LogicalResourceId": "Migration",
        "ResourceProperties": {"ServiceToken": "arn:trigger", "Migrate": migrate, "Code": ["arn:migrations:1"]},
    }
    context: Any = SimpleNamespace(
        function_name="trigger",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:trigger",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: time_left,
    )
    migration_trigger_handler.lambda_handler(event, context)
    (answer,) = Aws.answers
    assert (answer["RequestId"], answer["LogicalResourceId"]) == ("unique-request-id", "Migration")
    Aws.answers.clear()
    return answer


def actions() -> list[str]:
    return [event["action"] for event in Aws.invoked]


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
    assert actions() == ["current", "create_roles", "current", "upgrade"]


@pytest.fixture
def on_rds(postgres: Postgres, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database as RDS has it: an administrator who is no superuser, logins by token for every member of rds_iam.

    Here the owner's token is always good, and who is a member of the owner, and so of rds_iam, has no password that is.
    """
    with admin(postgres) as connection:
        for statement in (
            "CREATE ROLE rds_iam",
            "CREATE ROLE rds_admin LOGIN CREATEROLE CREATEDB",
            "GRANT rds_iam TO rds_admin WITH ADMIN OPTION",
            f"ALTER DATABASE {empty_database} OWNER TO rds_admin",
        ):
            connection.execute(sa.text(statement))
        hba = postgres.folder / "pg_hba.conf"
        before = hba.read_text()
        own = f"local {empty_database} sendledger trust\nlocal {empty_database} +sendledger reject\n"
        hba.write_text(own + before)
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    url = as_user(postgres.url(empty_database), "sendledger")
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_USER", "sendledger")
    monkeypatch.setenv("DATABASE_IAM_AUTH", "true")
    monkeypatch.setenv("DATABASE_USER_PREFIX", "sendledger")
    monkeypatch.setenv("DATABASE_ADMIN_SECRET_ARN", "arn:secret")
    Aws.admin = {"username": "rds_admin", "password": "secret"}
    yield postgres.url(empty_database)
    hba.write_text(before)
    with admin(postgres) as connection:
        connection.execute(sa.text("SELECT pg_reload_conf()"))
        connection.execute(sa.text(f"ALTER DATABASE {empty_database} OWNER TO postgres"))
    with plain_engine(postgres.url(empty_database)).begin() as connection:
        connection.execute(sa.text("DROP OWNED BY sendledger, rds_admin, rds_iam CASCADE"))
        for user in ("sendledger", *database_roles.users("sendledger").values(), "rds_admin", "rds_iam"):
            connection.execute(sa.text(f"DROP OWNED BY {user} CASCADE"))
            connection.execute(sa.text(f"DROP ROLE {user}"))


def test_a_second_deployment_does_without_the_administrator_whom_rds_refuses_by_then(aws: str, on_rds: str) -> None:
    assert ask(aws)["Status"] == "SUCCESS"
    as_admin = DatabaseSettings.read({"DATABASE_URL": as_user(on_rds, "rds_admin")})
    with pytest.raises(sa.exc.DBAPIError, match=r"pg_hba\.conf rejects"):
        database.engine(as_admin).connect()
    Aws.invoked.clear()
    answer = ask(aws, "Update")
    assert (answer["Status"], actions()) == ("SUCCESS", ["current", "upgrade"]), answer["Reason"]


def test_users_that_only_the_refused_administrator_could_make_are_named(
    aws: str, on_rds: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_trigger_handler, "PATIENCE", 0.2)
    assert ask(aws)["Status"] == "SUCCESS"
    with plain_engine(on_rds).begin() as connection:
        connection.execute(sa.text("DROP OWNED BY sendledger_files CASCADE"))
        connection.execute(sa.text("DROP ROLE sendledger_files"))
    answer = ask(aws, "Update")
    with admin(postgres) as connection:
        connection.execute(sa.text("CREATE ROLE sendledger_files"))  # as the fixture takes it away
    assert answer["Status"] == "FAILED"
    assert "has no users sendledger_files, and it refuses the administrator." in answer["Reason"]


@pytest.mark.parametrize("first_tokens", [[], [REFUSED, REFUSED]], ids=["at once", "as soon as IAM lets it in"])
def test_user_that_a_later_version_needs_is_made_by_the_administrator_with_a_token(
    aws: str, on_rds: str, monkeypatch: pytest.MonkeyPatch, first_tokens: list[dict[str, Any] | str | None]
) -> None:
    assert ask(aws)["Status"] == "SUCCESS"
    with plain_engine(on_rds).begin() as connection:
        connection.execute(sa.text("DROP OWNED BY sendledger_files CASCADE"))
        connection.execute(sa.text("DROP ROLE sendledger_files"))
    as_user_of = migrate_handler._as_user

    def with_token(settings: DatabaseSettings, user: str, password: str | None) -> DatabaseSettings:
        # The superuser stands for an administrator with a token; one with a password is refused.
        return as_user_of(settings, "postgres" if password is None else user, password)

    monkeypatch.setattr(migrate_handler, "_as_user", with_token)
    Aws.invoked.clear()
    Aws.instead = [None, None, *first_tokens]
    answer = ask(aws, "Update")
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    attempts = ["create_roles"] * (2 + len(first_tokens))
    assert actions() == ["current", *attempts, "current", "upgrade"]
    with plain_engine(on_rds).begin() as connection:
        may = "SELECT has_table_privilege('sendledger_files', 'exports', 'SELECT')"
        assert connection.scalar(sa.text(may))


def test_the_owner_can_give_himself_a_new_password(aws: str, on_rds: str) -> None:
    assert ask(aws)["Status"] == "SUCCESS"
    with plain_engine(as_user(on_rds, "sendledger")).begin() as connection:
        database_roles.create_roles(connection, "sendledger", "new", "sendledger")
    with plain_engine(on_rds).begin() as connection:
        assert connection.scalar(sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = 'sendledger'"))


def test_public_functions_have_a_connection_limit_and_the_sender_has_none(aws: str, on_rds: str) -> None:
    assert ask(aws)["Status"] == "SUCCESS"
    with plain_engine(on_rds).begin() as connection:
        found = connection.execute(sa.text("SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname ~ '^sendledger'"))
        limits = {name.removeprefix("sendledger_"): limit for name, limit in found}
    assert limits == {**database_roles.MAX_CONNECTIONS, "sender": -1, "sendledger": -1}


@pytest.mark.parametrize(
    "first",
    ["AccessDeniedException", "ResourceConflictException", "TooManyRequestsException", "ServiceException", REFUSED],
)
def test_failures_of_new_resources_are_retried(
    aws: str, empty_database: str, first: str | dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Aws.instead = [first, first, first]
    assert ask(aws)["Status"] == "SUCCESS"
    assert actions()[-2:] == ["current", "upgrade"]


@pytest.mark.parametrize("first", ["ResourceConflictException", REFUSED])
def test_lasting_failure_ends_with_its_reason_after_a_while(
    aws: str, empty_database: str, first: str | dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_trigger_handler, "PATIENCE", 0.2)
    Aws.instead = [first] * 10_000
    answer = ask(aws)
    assert answer["Status"] == "FAILED"
    assert ("ResourceConflictException" if isinstance(first, str) else "PAM authentication failed") in answer["Reason"]


def test_any_other_error_of_lambda_is_not_retried(aws: str, empty_database: str) -> None:
    Aws.instead = ["InvalidRequestContentException"]
    assert ask(aws)["Status"] == "FAILED"
    assert Aws.invoked == []


def test_a_migration_that_takes_longer_than_there_is_time_is_answered_before_the_time_is_over(
    aws: str, empty_database: str
) -> None:
    Aws.loses_results = True
    answer = ask(aws, time_left=int(migration_trigger_handler.TIME_TO_ANSWER * 1000) + 300)
    assert (answer["Status"], answer["Reason"][:12]) == ("FAILED", "StillRunning")


QUEUE_OUTAGES = [(500, "InternalFailure"), (503, "ServiceUnavailable"), (400, "ThrottlingException"), None]


@pytest.mark.parametrize("failure", QUEUE_OUTAGES)
def test_an_outage_of_the_queue_does_not_fail_the_migration(
    aws: str, empty_database: str, failure: tuple[int, str] | None
) -> None:
    Aws.queue_fails = [failure] * 6
    answer = ask(aws)
    assert (answer["Status"], Aws.queue_fails) == ("SUCCESS", []), answer["Reason"]


def test_a_result_that_cannot_be_deleted_is_used(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = migration_trigger_handler._Migration._receive

    def receive_and_fail_next(self: migration_trigger_handler._Migration) -> list[dict[str, Any]]:
        found = receive(self)
        Aws.queue_fails = [(500, "InternalFailure"), None]
        return found

    monkeypatch.setattr(migration_trigger_handler._Migration, "_receive", receive_and_fail_next)
    assert ask(aws)["Status"] == "SUCCESS"
    assert Aws.queue_fails == []


def test_a_queue_that_does_not_exist_fails_the_deployment(aws: str, empty_database: str) -> None:
    Aws.queue_fails = [(400, "QueueDoesNotExist")]
    answer = ask(aws)
    assert (answer["Status"], "QueueDoesNotExist" in answer["Reason"]) == ("FAILED", True)


def test_a_hanging_poll_ends_before_cloudformation_is_answered(aws: str) -> None:
    migration = migration_trigger_handler._Migration(MigrationTriggerSettings.read(), 0.0)
    config = migration._queue.meta.config
    longest = config.connect_timeout + config.read_timeout
    assert config.read_timeout > migration_trigger_handler.LONGEST_POLL
    assert longest < migration_trigger_handler.TIME_TO_ANSWER


def test_a_migration_that_lambda_ended_is_reported(aws: str, empty_database: str) -> None:
    Aws.instead = [None, {"errorMessage": "2030-01-01T00:00:00Z 1 Task timed out after 870.00 seconds"}]
    answer = ask(aws)
    assert (answer["Status"], "Task timed out" in answer["Reason"]) == ("FAILED", True)


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


def test_a_database_of_another_application_is_said_to_be_one(
    aws: str, engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '1975ea83b712'"))
    answer = ask(aws)
    assert answer["Status"] == "FAILED"
    assert "at revision 1975ea83b712, another application's" in answer["Reason"]
    assert actions() == ["current", "upgrade"]


def test_a_function_that_still_runs_its_former_code_is_invoked_again_until_it_has_its_own(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left_out = shutil.ignore_patterns(f"{SCHEMA_REVISION}_*", "__pycache__")
    former = shutil.copytree(migrate_handler.HERE, tmp_path / "migrations", ignore=left_out)
    handler = migrate_handler.lambda_handler

    def updated_late(event: dict[str, Any], context: Any) -> dict[str, Any]:
        with monkeypatch.context() as changed:
            if actions().count("upgrade") < 3:
                changed.setattr(migrate_handler, "HERE", str(former))
            return handler(event, context)

    monkeypatch.setattr(migrate_handler, "lambda_handler", updated_late)
    answer = ask(aws, "Update")
    assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"revision": SCHEMA_REVISION}), answer["Reason"]
    assert actions() == ["current", "upgrade", "upgrade", "upgrade"]


def test_a_function_that_goes_on_running_its_former_code_fails_the_deployment(
    aws: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_trigger_handler, "PATIENCE", 0.2)
    monkeypatch.setattr(base, "SCHEMA_REVISION", "9999")  # of the new version, whose migrations are not there
    answer = ask(aws, "Update")
    assert answer["Status"] == "FAILED"
    assert f"at revision {SCHEMA_REVISION}, and this version needs" in answer["Reason"]


@pytest.mark.parametrize(("request_type", "migrate"), [("Delete", "true"), ("Update", "false")])
def test_steps_that_are_switched_off_are_not_done(aws: str, request_type: str, migrate: str) -> None:
    assert ask(aws, request_type, migrate)["Status"] == "SUCCESS"
    assert Aws.invoked == []


def test_a_missing_setting_is_answered_too(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIGRATE_FUNCTION_NAME")
    answer = ask(aws)
    assert (answer["Status"], "MIGRATE_FUNCTION_NAME" in answer["Reason"]) == ("FAILED", True)
