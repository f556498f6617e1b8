"""Each function of the template as it is built, run as Lambda runs it, on events in the form of AWS's documentation."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from standardwebhooks import Webhook

from local.postgres import Postgres
from local.rds_certificates import BUNDLE
from local.ses_simulator import SesSimulator
from local.template import Template
from local.threaded_server import RequestHandler, ThreadedServer
from sendledger.access import api_keys
from sendledger.campaigns import lifecycle
from sendledger.core.signed_tokens import EmailReference, TokenKey, TokenKeys
from sendledger.core.tables import SCHEMA_REVISION, leads
from sendledger.exports import exports
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import lead_batches
from sendledger.webhooks import endpoints
from testbed.campaigns import campaign_row, make_batch, make_campaign, rows_of
from testbed.certificates import Authority
from testbed.databases import admin
from testbed.lambda_runtime import FunctionError, LambdaRuntime
from testbed.object_store import bucket, object_store, s3
from testbed.ses_events import event_of, queued
from testbed.tcp_front import TcpFront
from testbed.webhook_receiver import WebhookReceiver
from tests.functions.conftest import StartFunction

__all__ = ["bucket", "object_store", "s3"]

EVENTS = Path(__file__).parents[1] / "events"

Test = TypeVar("Test", bound=Callable[..., None])
TESTED: set[str] = set()
"""The functions of the template that a test of this module runs."""


def runs(logical_id: str) -> Callable[[Test], Test]:
    """Marks a test that runs this function as it is built."""

    def note(test: Test) -> Test:
        TESTED.add(logical_id)
        return test

    return note


def _event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def _http(method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """A request in API Gateway's form; it encodes bodies that are no text."""
    event = _event("api_request")
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event |= {"rawPath": path, "headers": event["headers"] | headers}
    if body is not None:
        event |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return event


def _stored(event_name: str, bucket: str, key: str) -> Any:
    """S3's notification of this object."""
    event = _event(event_name)
    (record,) = event["Records"]
    record["s3"]["bucket"]["name"] = bucket
    record["s3"]["object"]["key"] = key
    return event


@pytest.fixture
def empty_database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    """The URL of a database without a single table, dropped after the test. Its server has the functions' users."""
    name = f"test_{os.urandom(6).hex()}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres.url(name)
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_no_function_of_the_template_is_left_out(built_template: Template) -> None:
    assert set(built_template.functions) == TESTED


@runs("SenderFunction")
def test_sender_sends_what_is_due_at_the_tick(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url})
    summary = sender.invoke(_event("tick"))
    assert (summary["claimed"], summary["sent"]) == (1, 1), sender.log
    (accepted,) = ses.accepted()
    assert (accepted.subject, accepted.destination) == ("Hello Ann0", ("ann@example.com",))
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert "Tick done" in sender.log
    assert "ann@example.com" not in sender.log


@runs("SenderFunction")
def test_an_event_of_ses_leads_to_its_tick_in_the_senders_log(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    lifecycle.start_campaign(engine, make_campaign(connection, ["ann@example.com"]))
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url})
    sender.invoke(_event("tick"))
    (claim_token,) = ses.events()[0]["detail"]["mail"]["tags"]["claim_token"]
    (done,) = (line for line in sender.log.splitlines() if "Tick done" in line)
    assert claim_token in done
    assert "function_request_id" in done


@runs("CampaignApiFunction")
def test_api_answers_a_request_of_api_gateway(start_function: StartFunction, database_url: str) -> None:
    answer = start_function("CampaignApiFunction", {"DATABASE_URL": database_url}).invoke(_event("api_request"))
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["status"] == "ok"


@runs("CampaignApiFunction")
def test_console_has_its_pages_and_files(start_function: StartFunction, database_url: str) -> None:
    function = start_function("CampaignApiFunction", {"DATABASE_URL": database_url})
    request = _event("api_request")
    page = function.invoke({**request, "rawPath": "/console/sign-in", "rawQueryString": ""})
    assert (page["statusCode"], "Sign in" in page["body"]) == (200, True)
    (style,) = re.findall(r'href="([^"]*[.]css)"', page["body"])
    assert function.invoke({**request, "rawPath": style, "rawQueryString": ""})["statusCode"] == 200


@runs("CampaignApiFunction")
def test_api_needs_a_key_to_create_something(
    start_function: StartFunction, engine: sa.Engine, database_url: str
) -> None:
    with engine.begin() as connection:
        key = api_keys.create(connection, "test", "editor", None).key
    api = start_function("CampaignApiFunction", {"DATABASE_URL": database_url})
    lead = json.dumps({"email": "ann@example.com", "company_name": "Acme"}).encode()
    request = {"content-type": "application/json", "content-length": str(len(lead))}
    refused = api.invoke(_http("POST", "/v1/leads", lead, **request))
    assert refused["statusCode"] == 401
    created = api.invoke(_http("POST", "/v1/leads", lead, authorization=f"Bearer {key}", **request))
    assert created["statusCode"] == 201, created["body"]
    with engine.connect() as connection:
        assert connection.scalars(sa.select(leads.c.email)).all() == ["ann@example.com"]
    assert key not in api.log
    assert "ann@example.com" not in api.log


@runs("SesEventsFunction")
def test_a_batch_of_events_is_recorded_and_only_a_message_that_is_no_event_goes_back(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    environment = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url}
    start_function("SenderFunction", environment).invoke(_event("tick"))
    (email,) = ses.accepted()
    events = start_function("SesEventsFunction", environment)
    answer = events.invoke(queued(event_of(email, "Send"), "no event of SES", event_of(email, "Bounce")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT status FROM emails")) == "bounced"
        assert connection.scalar(sa.text("SELECT value FROM suppressions")) == "ann@example.com"
    assert "ann@example.com" not in events.log


@runs("UnsubscribeFunction")
def test_one_click_of_a_mail_client_opts_out(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    (row,) = rows_of(engine, campaign_id)
    # The key of tests/functions/conftest.py.
    keys = TokenKeys([TokenKey("k1", b"this-key-is-for-tests-only-12345")])
    token = keys.unsubscribe_token(EmailReference(row["id"], campaign_id, row["lead_id"]))
    request = _http(
        "POST",
        f"/u/{token}",
        b"List-Unsubscribe=One-Click",
        **{"content-type": "application/x-www-form-urlencoded"},
    )
    request |= {"routeKey": "ANY /u/{token}", "pathParameters": {"token": token}}
    unsubscribe = start_function("UnsubscribeFunction", {"DATABASE_URL": database_url})
    assert unsubscribe.invoke(request)["statusCode"] == 200
    (row,) = rows_of(engine, campaign_id)
    assert row["status"] == "skipped"
    assert token not in unsubscribe.log
    assert "ann@example.com" not in unsubscribe.log


@runs("ReplyFunction")
def test_a_stored_reply_is_read_after_the_notification_of_s3(
    start_function: StartFunction, engine: sa.Engine, database_url: str, bucket: FileBucket, s3: Any
) -> None:
    message = b"From: ann@example.com\r\nTo: sales@example.com\r\nSubject: Re: Hello\r\n\r\nYes!\r\n"
    s3.put_object(Bucket=bucket.name, Key="replies/1", Body=message)
    environment = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_S3": os.environ["AWS_ENDPOINT_URL_S3"]}
    function = start_function("ReplyFunction", environment)
    assert function.invoke(queued(_stored("s3_put", bucket.name, "replies/1"))) is None
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT from_address FROM replies")) == "ann@example.com"
    assert "ann@example.com" not in function.log


@runs("LeadImportFunction")
def test_an_uploaded_list_is_imported_after_the_notification_of_s3(
    start_function: StartFunction, engine: sa.Engine, database_url: str, bucket: FileBucket, s3: Any
) -> None:
    with engine.begin() as connection:
        batch = lead_batches.create_pending(connection, {"name": "Fair"})
    s3.put_object(Bucket=bucket.name, Key=batch["source_object"], Body=b"email\nann@example.com\nbob@example.com\n")
    environment = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_S3": os.environ["AWS_ENDPOINT_URL_S3"]}
    function = start_function("LeadImportFunction", environment)
    assert function.invoke(_stored("s3_put", bucket.name, batch["source_object"])) is None
    with engine.connect() as connection:
        row = lead_batches.get(connection, batch["id"])
    assert (row["status"], row["total_leads"]) == ("completed", 2), function.log
    # What the schedule of the template gives it; there is nothing left to do.
    assert function.invoke({"bucket": bucket.name}) is None
    assert "ann@example.com" not in function.log


@runs("RetentionFunction")
def test_ledger_of_a_campaign_that_ended_long_ago_is_removed(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.cancel_campaign(engine, campaign_id)
    connection.execute(sa.text("UPDATE campaigns SET cancelled_at = now() - interval '91 days'"))
    connection.commit()
    settings = {"DATABASE_URL": database_url, "KEEP_LEDGERS_DAYS": "90"}
    assert start_function("RetentionFunction", settings).invoke({})["ledger"] == 2
    assert rows_of(engine, campaign_id) == []


@runs("ExportFunction")
def test_an_export_is_written_to_the_bucket(
    start_function: StartFunction,
    engine: sa.Engine,
    connection: sa.Connection,
    database_url: str,
    bucket: FileBucket,
    s3: Any,
) -> None:
    make_batch(connection, ["ann@example.com"])
    export_id = exports.create(connection, "leads", None, {}, "test")["id"]
    connection.commit()
    function = start_function(
        "ExportFunction",
        {
            "DATABASE_URL": database_url,
            "AWS_ENDPOINT_URL_S3": os.environ["AWS_ENDPOINT_URL_S3"],
            "FILE_BUCKET": bucket.name,
        },
    )
    assert function.invoke({"export_id": str(export_id)}) is None
    with engine.connect() as connection:
        row = exports.get(connection, export_id)
    assert row["status"] == "completed", function.log
    written = s3.get_object(Bucket=bucket.name, Key=row["object_key"])["Body"].read()
    text = (gzip.decompress(written) if written[:2] == b"\x1f\x8b" else written).decode("utf-8-sig")
    assert [each["email"] for each in csv.DictReader(io.StringIO(text))] == ["ann@example.com"]
    # Its schedule sends EventBridge's own event.
    assert function.invoke(_event("tick")) is None
    assert "ann@example.com" not in function.log


@runs("MigrateFunction")
def test_migrate_function_upgrades_an_empty_database(start_function: StartFunction, empty_database_url: str) -> None:
    migrate = start_function("MigrateFunction", {"DATABASE_URL": empty_database_url})
    assert migrate.invoke({"action": "current"})["revision"] is None
    upgraded = migrate.invoke({})
    assert upgraded["revision"]
    assert migrate.invoke({"action": "current"})["revision"] == upgraded["revision"]


@runs("CampaignApiFunction")
def test_a_deployment_as_it_is_by_default_speaks_tls_and_logs_in_by_iam(
    start_function: StartFunction, engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    """All of `_open_socket` and `_password_source` as in a deployment; the embedded server believes any token."""
    authority = Authority("Amazon RDS us-east-1 Root CA ECC384 G1")
    certificate = authority.certificate_of("localhost").write(tmp_path, "localhost")
    bundle = tmp_path / "rds-global-bundle.pem"
    bundle.write_bytes(BUNDLE.read_bytes() + authority.pem)
    url = make_url(database_url)
    with engine.begin() as connection:
        key = api_keys.create(connection, "test", "viewer", None).key
    request = _http("GET", "/v1/readiness", b"", authorization=f"Bearer {key}")
    with TcpFront(str(url.query["unix_sock"]), certificate) as front:
        environment = {
            "DATABASE_HOST": "localhost",
            "DATABASE_PORT": str(front.port),
            "DATABASE_NAME": str(url.database),
            "DATABASE_CA_BUNDLE": str(bundle),
        }
        api = start_function("CampaignApiFunction", environment)
        answer = api.invoke(request)
        assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "ok"), api.log
        assert front.encrypted == 1
        # Another authority's certificate: the caller learns nothing, the log names the setting.
        other = start_function("CampaignApiFunction", {**environment, "DATABASE_CA_BUNDLE": str(BUNDLE)})
        answer = other.invoke(request)
        assert answer["statusCode"] >= 500
        assert "DATABASE_CA_BUNDLE" not in answer["body"]
        assert "DATABASE_CA_BUNDLE" in other.log


@runs("MigrateFunction")
def test_a_migration_that_is_killed_by_its_timeout_can_be_repeated(
    start_function: StartFunction, engine: sa.Engine, database_url: str
) -> None:
    migrate = start_function("MigrateFunction", {"DATABASE_URL": database_url}, timeout=3)
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE alembic_version"))
        with pytest.raises(FunctionError, match="timed out"):
            migrate.invoke({})
    # A new execution environment, as on Lambda, with the time that the template gives it.
    migrate = start_function("MigrateFunction", {"DATABASE_URL": database_url})
    assert migrate.invoke({}) == {"revision": SCHEMA_REVISION}


class Aws(RequestHandler):
    """The Lambda API with MigrateFunction behind it, its queue of results, and CloudFormation, which takes answers."""

    migrate: LambdaRuntime
    answers: list[Any]
    results: list[Any]

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result: Any = {}
        failed = []
        target = self.headers.get("X-Amz-Target")
        if self.command == "PUT":
            self.answers.append(body)
        elif target is not None:
            if target == "AmazonSQS.ReceiveMessage":
                messages = [{"Body": json.dumps(each), "ReceiptHandle": "1"} for each in self.results]
                result = {"Messages": messages}
        else:
            try:
                result = self.migrate.invoke(body)
            except FunctionError as error:
                result = {"errorType": error.kind, "errorMessage": error.message}
                failed = [("X-Amz-Function-Error", "Unhandled")]
            if self.headers.get("X-Amz-Invocation-Type") == "Event":
                context = {"requestId": "1", "condition": "RetriesExhausted" if failed else "Success"}
                self.results.append({"requestContext": context, "responsePayload": result})
                self.respond(202, [("x-amzn-RequestId", "1")], b"")
                return
        self.respond(200, failed, json.dumps(result).encode())


@pytest.fixture
def aws() -> Iterator[str]:
    Aws.answers, Aws.results = [], []
    server = ThreadedServer(0, Aws)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def _custom_resource(url: str) -> Any:
    """CloudFormation's request: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html"""
    return {
        "RequestType": "Create",
        "RequestId": str(uuid.uuid4()),
        "ResponseURL": f"{url}/response?signature=x",
        "ResourceType": "Custom::Migration",
        "LogicalResourceId": "Migration",
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/sendledger/1",
        "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:trigger",
        "ResourceProperties": {
            "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:trigger",
            "ServiceTimeout": "960",
            "Migrate": "true",
            "Code": ["arn:aws:lambda:us-east-1:123456789012:layer:MigrationsLayer:1"],
        },
    }


@runs("WebhookExchangeFunction")
@runs("WebhookSenderFunction")
def test_webhooks_go_out_from_a_function_that_asks_another(
    start_function: StartFunction, engine: sa.Engine, database_url: str, aws: str
) -> None:
    with WebhookReceiver() as receiver, engine.begin() as connection:
        values = {"url": receiver.url, "event_types": ["campaign.started"]}
        endpoint = endpoints.create(connection, values, "ann", any_target=True)
        endpoints.add_test(connection, endpoint["id"])
        connection.commit()
        # The API of Lambda has one function behind it, whatever its name.
        Aws.migrate = start_function("WebhookExchangeFunction", {"DATABASE_URL": database_url})
        own = {"AWS_ENDPOINT_URL_LAMBDA": aws, "WEBHOOK_TARGETS": "any"}
        assert start_function("WebhookSenderFunction", own).invoke(_event("tick")) == {"delivered": 1}
    Webhook(endpoint["secret"]).verify(receiver.received[0].body, receiver.received[0].headers)


@runs("MigrationTriggerFunction")
def test_cloudformation_has_the_database_upgraded_and_is_answered(
    start_function: StartFunction, empty_database_url: str, aws: str
) -> None:
    Aws.migrate = start_function("MigrateFunction", {"DATABASE_URL": empty_database_url})
    request = _custom_resource(aws)
    trigger = start_function("MigrationTriggerFunction", {"AWS_ENDPOINT_URL_LAMBDA": aws, "AWS_ENDPOINT_URL_SQS": aws})
    assert trigger.invoke(request) is None
    (answer,) = Aws.answers
    assert (answer["Status"], answer["RequestId"]) == ("SUCCESS", request["RequestId"]), trigger.log
    assert answer["Data"] == {"revision": SCHEMA_REVISION}


@runs("MigrationTriggerFunction")
def test_cloudformation_gets_the_failure_of_a_migration(
    start_function: StartFunction, database_url: str, aws: str
) -> None:
    Aws.migrate = start_function("MigrateFunction", {"DATABASE_URL": f"{database_url}_which_is_not_there"})
    trigger = start_function("MigrationTriggerFunction", {"AWS_ENDPOINT_URL_LAMBDA": aws, "AWS_ENDPOINT_URL_SQS": aws})
    assert trigger.invoke(_custom_resource(aws)) is None
    (answer,) = Aws.answers
    assert answer["Status"] == "FAILED"
    assert "MigrationFailed" in answer["Reason"]


@runs("MigrationTriggerFunction")
def test_cloudformation_gets_the_name_of_a_missing_setting(start_function: StartFunction, aws: str) -> None:
    trigger = start_function("MigrationTriggerFunction", {"MIGRATE_FUNCTION_NAME": ""})
    assert trigger.invoke(_custom_resource(aws)) is None
    (answer,) = Aws.answers
    assert (answer["Status"], answer["Reason"]) == (
        "FAILED",
        "SettingsError: Bad settings: MIGRATE_FUNCTION_NAME: is not set",
    )
