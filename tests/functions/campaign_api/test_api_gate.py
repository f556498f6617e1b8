"""What every request passes before its route: key, route, role, body; and what errors look like."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import api_resources
import campaign_api_handler
import route_table
from http_errors import RequestRefused
from sendledger.access.api_keys import create
from sendledger.core.tables import api_keys
from sendledger.core.vocabulary import Role
from tests.functions.campaign_api.api_client import Answer, ApiClient

API_FOLDER = Path(campaign_api_handler.__file__).parent
SOME_ID = "123e4567-e89b-12d3-a456-426614174000"
TEMPLATE = {"name": "Hello", "subject": "Hi", "body_text": "Hello"}


def assert_problem(answer: Answer, status: int) -> None:
    """RFC 9457, with what this API promises."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert re.fullmatch(r"urn:sendledger:problem:[a-z_]+", problem["type"])
    assert problem["title"]
    assert problem["detail"]


# Keys


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer sl_wrong", "Basic {key}", "{key}", "Bearer {key}x", "Bearer \u00e9\ud800"],
)
def test_request_without_a_valid_key_is_refused(api: ApiClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.format(key=api.key)}
    answer = ApiClient(api.handler, None).request("GET", "/v1/campaigns", headers=headers)
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_unlisted_path_is_not_shown_to_a_stranger(api: ApiClient) -> None:
    assert_problem(ApiClient(api.handler, None).get("/v1/no-such-path"), 401)


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
def test_revoked_or_expired_key_is_refused(api: ApiClient, engine: sa.Engine, change: str) -> None:
    assert api.get("/v1/campaigns").status == 200
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE api_keys SET {change} WHERE role = 'admin'"))
    assert_problem(api.get("/v1/campaigns"), 401)


def test_key_is_stored_as_a_hash_only(api: ApiClient, engine: sa.Engine) -> None:
    assert api.key is not None
    assert re.fullmatch(r"sl_[A-Za-z0-9_-]{43}", api.key)
    with engine.begin() as connection:
        assert api.key not in str(connection.execute(sa.select(api_keys)).all())


def test_last_use_of_a_key_is_written_once_a_minute(api: ApiClient, engine: sa.Engine) -> None:
    last_use = sa.select(api_keys.c.last_used_at).where(api_keys.c.role == "admin")
    api.get("/v1/campaigns")
    with engine.begin() as connection:
        first = connection.scalar(last_use)
    api.get("/v1/campaigns")
    with engine.begin() as connection:
        assert connection.scalar(last_use) == first
        connection.execute(sa.text("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'"))
    api.get("/v1/campaigns")
    with engine.begin() as connection:
        assert connection.scalar(last_use) != first


# Roles: v viewer, e editor, s sender, a admin may; a dot may not; * everybody, without a key too.

ROLES_OF_ROUTES = """
****  GET    /v1/health
vesa  GET    /v1/readiness
vesa  GET    /v1/openapi.json
vesa  GET    /v1/docs
vesa  GET    /v1/leads
.esa  POST   /v1/leads
.esa  POST   /v1/leads/bulk
vesa  GET    /v1/lead-changes/<lead_change_id>
vesa  GET    /v1/leads/<lead_id>
.esa  PATCH  /v1/leads/<lead_id>
.esa  DELETE /v1/leads/<lead_id>
...a  POST   /v1/leads/<lead_id>/erase
vesa  GET    /v1/leads/<lead_id>/timeline
vesa  GET    /v1/lead-batches
.esa  POST   /v1/lead-batches
.esa  POST   /v1/lead-batches/uploads
vesa  GET    /v1/lead-batches/<lead_batch_id>
.esa  POST   /v1/lead-batches/<lead_batch_id>/import
.esa  DELETE /v1/lead-batches/<lead_batch_id>
vesa  GET    /v1/segments
.esa  POST   /v1/segments
vesa  GET    /v1/segments/<segment_id>
vesa  GET    /v1/segments/<segment_id>/leads
.esa  PATCH  /v1/segments/<segment_id>
.esa  DELETE /v1/segments/<segment_id>
.esa  POST   /v1/exports
.esa  GET    /v1/exports
.esa  GET    /v1/exports/<export_id>
vesa  GET    /v1/email-templates
.esa  POST   /v1/email-templates
.esa  POST   /v1/email-templates/preview
.esa  POST   /v1/email-templates/translate
vesa  GET    /v1/email-templates/<email_template_id>
.esa  PATCH  /v1/email-templates/<email_template_id>
.esa  DELETE /v1/email-templates/<email_template_id>
vesa  GET    /v1/email-templates/<email_template_id>/attachments
.esa  POST   /v1/email-templates/<email_template_id>/attachments
.esa  POST   /v1/email-templates/<email_template_id>/attachments/uploads
.esa  DELETE /v1/email-templates/<email_template_id>/attachments/<attachment_id>
vesa  POST   /v1/email-templates/<email_template_id>/preview
..sa  POST   /v1/email-templates/<email_template_id>/test-send
vesa  GET    /v1/workflows
.esa  POST   /v1/workflows
vesa  GET    /v1/workflows/<workflow_id>
.esa  PATCH  /v1/workflows/<workflow_id>
.esa  DELETE /v1/workflows/<workflow_id>
vesa  GET    /v1/senders
.esa  POST   /v1/senders
vesa  GET    /v1/senders/<sender_id>
..sa  PATCH  /v1/senders/<sender_id>
..sa  POST   /v1/senders/<sender_id>/reassign
.esa  DELETE /v1/senders/<sender_id>
vesa  GET    /v1/sending-schedules
.esa  POST   /v1/sending-schedules
vesa  GET    /v1/sending-schedules/<sending_schedule_id>
..sa  PATCH  /v1/sending-schedules/<sending_schedule_id>
.esa  DELETE /v1/sending-schedules/<sending_schedule_id>
vesa  GET    /v1/campaigns
.esa  POST   /v1/campaigns
vesa  GET    /v1/campaigns/<campaign_id>
.esa  PATCH  /v1/campaigns/<campaign_id>
.esa  DELETE /v1/campaigns/<campaign_id>
vesa  GET    /v1/campaigns/<campaign_id>/preflight
vesa  GET    /v1/campaigns/<campaign_id>/diagnose
vesa  GET    /v1/campaigns/<campaign_id>/plan
..sa  POST   /v1/campaigns/<campaign_id>/start
..sa  POST   /v1/campaigns/<campaign_id>/unschedule
..sa  POST   /v1/campaigns/<campaign_id>/pause
..sa  POST   /v1/campaigns/<campaign_id>/resume
..sa  POST   /v1/campaigns/<campaign_id>/cancel
vesa  GET    /v1/campaigns/<campaign_id>/scheduled-emails
..sa  POST   /v1/campaigns/<campaign_id>/scheduled-emails
vesa  GET    /v1/campaigns/<campaign_id>/left-out-leads
.esa  POST   /v1/campaigns/<campaign_id>/duplicate
..sa  POST   /v1/campaigns/<campaign_id>/leads
..sa  DELETE /v1/campaigns/<campaign_id>/leads/<lead_id>
..sa  POST   /v1/campaigns/<campaign_id>/finish
vesa  GET    /v1/campaigns/<campaign_id>/stats
vesa  GET    /v1/campaigns/<campaign_id>/timeline
..sa  POST   /v1/campaigns/<campaign_id>/steps/<step_number>/variants/<variant>/retire
..sa  POST   /v1/campaigns/<campaign_id>/steps/<step_number>/winner
vesa  GET    /v1/overview
vesa  GET    /v1/campaign-progress
vesa  GET    /v1/scheduled-emails
vesa  GET    /v1/scheduled-emails/<scheduled_email_id>
..sa  POST   /v1/scheduled-emails/<scheduled_email_id>/send
..sa  POST   /v1/scheduled-emails/<scheduled_email_id>/mark-sent
..sa  POST   /v1/scheduled-emails/<scheduled_email_id>/requeue
..sa  POST   /v1/campaigns/<campaign_id>/late-emails
vesa  GET    /v1/campaigns/<campaign_id>/retry-failed
..sa  POST   /v1/campaigns/<campaign_id>/retry-failed
vesa  GET    /v1/sender
vesa  GET    /v1/sender/ticks
vesa  GET    /v1/sender/delivery
..sa  POST   /v1/sender/resume
vesa  GET    /v1/emails/<email_id>
...a  GET    /v1/api-keys
...a  POST   /v1/api-keys
...a  DELETE /v1/api-keys/<api_key_id>
...a  GET    /v1/audit-log
..sa  POST   /v1/confirmations
...a  GET    /v1/webhook-endpoints
...a  POST   /v1/webhook-endpoints
...a  GET    /v1/webhook-endpoints/<endpoint_id>
...a  PATCH  /v1/webhook-endpoints/<endpoint_id>
...a  DELETE /v1/webhook-endpoints/<endpoint_id>
...a  POST   /v1/webhook-endpoints/<endpoint_id>/rotate-secret
...a  POST   /v1/webhook-endpoints/<endpoint_id>/test
...a  POST   /v1/webhook-endpoints/<endpoint_id>/replay
...a  GET    /v1/webhook-endpoints/<endpoint_id>/deliveries
vesa  GET    /v1/replies
..sa  POST   /v1/replies
vesa  GET    /v1/replies/<reply_id>
..sa  PATCH  /v1/replies/<reply_id>
..sa  POST   /v1/replies/<reply_id>/answer
vesa  GET    /v1/suppressions
.esa  POST   /v1/suppressions
.esa  POST   /v1/suppressions/import
..sa  DELETE /v1/suppressions/<suppression_id>
"""
MATRIX = [line.split() for line in ROLES_OF_ROUTES.strip().splitlines()]


def test_each_role_has_the_permissions_of_the_table_and_a_stranger_none(clients: dict[str, ApiClient]) -> None:
    stranger = ApiClient(campaign_api_handler.lambda_handler, None)
    wrong = []
    for marks, method, route in MATRIX:
        path = re.sub(r"<\w+>", SOME_ID, route)
        for role, mark in zip(Role, marks, strict=True):
            status = clients[role].request(method, path).status
            if (status == 403) != (mark == ".") or status in (401, 500):
                wrong.append(f"{role} {method} {route}: {status}")
        status = stranger.request(method, path).status
        if (status == 401) == (marks == "****"):
            wrong.append(f"stranger {method} {route}: {status}")
    assert wrong == []


def test_every_registered_route_is_listed_and_the_other_way_round() -> None:
    app = campaign_api_handler.app
    app.load_all()
    registered = sorted(f"{route.method} {route.path}" for route in app._static_routes + app._dynamic_routes)
    listed = [name for routes in route_table.ROUTES.values() for name in routes]
    assert registered == sorted(listed) == sorted(f"{method} {route}" for _, method, route in MATRIX)


def test_every_module_of_routes_is_in_the_table() -> None:
    assert {path.stem for path in API_FOLDER.glob("*_routes.py")} == set(route_table.ROUTES)


@pytest.mark.parametrize("registered", [["GET /v1/new"], []])
def test_module_with_a_route_too_many_or_too_few_is_refused(registered: list[str]) -> None:
    listed = set(route_table.ROUTES["leads_routes"])
    route_table.check_module("leads_routes", listed)
    routes = listed | set(registered) if registered else listed - {"GET /v1/leads"}
    with pytest.raises(RuntimeError, match=registered[0] if registered else "GET /v1/leads"):
        route_table.check_module("leads_routes", routes)


def test_path_of_its_own_goes_before_one_with_a_parameter() -> None:
    assert route_table.find_route("POST", "/v1/leads/bulk").module == "bulk_leads_routes"
    with pytest.raises(RequestRefused, match="possible: POST"):
        route_table.find_route("GET", "/v1/leads/bulk")


@pytest.mark.parametrize("path", ["/v1/leads/", "/v1/leads//timeline", "v1/leads", "/v1/leads/a/b", ""])
def test_no_part_of_a_path_may_be_empty_or_missing(path: str) -> None:
    with pytest.raises(RequestRefused, match="no such path"):
        route_table.find_route("GET", path)


def test_first_request_imports_the_module_of_its_route_only() -> None:
    check = """
import sys, campaign_api_handler
print(*sorted(name for name in sys.modules if name.endswith("_routes")))
http = {"method": "GET", "path": "/v1/health", "sourceIp": "127.0.0.1"}
context = {"requestId": "1", "stage": "$default", "http": http}
event = {"version": "2.0", "rawPath": "/v1/health", "rawQueryString": "", "headers": {}, "requestContext": context}
answer = campaign_api_handler.lambda_handler(event, None)
print(answer["statusCode"], *sorted(name for name in sys.modules if name.endswith("_routes")))
"""
    ran = subprocess.run([sys.executable, "-c", check], cwd=API_FOLDER, capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("", "200 about_routes")


# Paths and methods


def test_unknown_path_is_not_found(api: ApiClient) -> None:
    assert_problem(api.get("/v1/no-such-path"), 404)
    assert_problem(api.get("/v1/campaigns/a/b/c"), 404)
    assert_problem(api.get('/v1/campaigns/"'), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/campaigns", "GET, POST"),
        ("GET", f"/v1/campaigns/{SOME_ID}/start", "POST"),
        ("TRACE", "/v1/health", "GET"),
    ],
)
def test_wrong_method_is_answered_with_those_possible(api: ApiClient, method: str, path: str, allowed: str) -> None:
    answer = api.request(method, path)
    assert_problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_stage_is_not_part_of_the_path(api: ApiClient) -> None:
    def handler_behind_a_stage(event: dict[str, Any], context: Any) -> dict[str, Any]:
        event["rawPath"] = f"/prod{event['rawPath']}"
        event["requestContext"]["stage"] = "prod"
        return campaign_api_handler.lambda_handler(event, context)

    assert ApiClient(handler_behind_a_stage, api.key).get("/v1/campaigns").status == 200
    assert ApiClient(handler_behind_a_stage, None).get("/v1/health").status == 200


# Queries and bodies


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limt": 5}, "limt"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": 10**30}, "limit"),
        ({"limit": ""}, "limit"),
        ({"status": "sent"}, "status"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'[null,"x"]').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'["2030-01-01","%s"]' % SOME_ID.encode()).decode()}, "cursor"),
        ({"cursor": "a\0b"}, "cursor"),
    ],
)
def test_bad_query_is_refused_naming_the_parameter(api: ApiClient, query: dict[str, object], field: str) -> None:
    answer = api.request("GET", "/v1/campaigns", query=query)
    assert_problem(answer, 422)
    assert answer.fields == [field]


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "",
        " ",
        "{'name': 1}",
        '{"name": NaN}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 100_000,
        b"\xff\xfe",
        b'{"name": "\xe9"}',
    ],
    ids=["cut off", "empty", "blank", "quotes", "NaN", "huge number", "deep", "not UTF-8", "Latin-1"],
)
def test_malformed_json_is_refused(api: ApiClient, body: str | bytes) -> None:
    answer = api.request("POST", "/v1/workflows", body=body)
    # An empty body is not malformed, it is missing.
    assert_problem(answer, 422 if body == "" else 400)


def test_body_that_is_not_the_base64_it_claims_is_refused(api: ApiClient) -> None:
    def garbling_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return campaign_api_handler.lambda_handler({**event, "isBase64Encoded": True, "body": "{}"}, context)

    assert_problem(ApiClient(garbling_handler, api.key).post("/v1/workflows", {}), 400)


def test_json_sent_as_base64_is_read(api: ApiClient) -> None:
    assert api.request("POST", "/v1/email-templates", body=json.dumps(TEMPLATE).encode()).status == 201


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "5"])
def test_json_that_is_not_an_object_is_refused(api: ApiClient, body: str) -> None:
    answer = api.request("POST", "/v1/workflows", body=body)
    assert_problem(answer, 422)
    assert answer.fields == ["body"]


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "text/csv"],
)
def test_wrong_media_type_is_refused_naming_the_right_one(api: ApiClient, content_type: str) -> None:
    answer = api.request("POST", "/v1/workflows", body="{}", headers={"Content-Type": content_type})
    assert_problem(answer, 415)
    assert "application/json" in answer.json["detail"]


@pytest.mark.parametrize("content_type", ["APPLICATION/JSON", "Application/Json ; charset=utf-8", " application/json"])
def test_media_type_has_no_case(api: ApiClient, content_type: str) -> None:
    answer = api.request("POST", "/v1/leads", body='{"email": "a@example.com"}', headers={"Content-Type": content_type})
    assert answer.status == 201
    csv = {"Content-Type": content_type.lower().replace("application/json", "Text/CSV")}
    answer = api.request("POST", "/v1/suppressions/import", body="Email\nann@example.com\n", headers=csv)
    assert (answer.status, answer.json["added"]) == (200, 1)


def test_media_type_may_have_parameters(api: ApiClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert api.request("POST", "/v1/email-templates", body=json.dumps(TEMPLATE), headers=headers).status == 201


def test_body_that_is_too_large_is_refused(api: ApiClient) -> None:
    assert_problem(api.post("/v1/email-templates", {"name": "x" * 3_000_000}), 413)


def test_csv_file_that_is_too_large_for_a_request_is_referred_to_uploads(api: ApiClient) -> None:
    body = 'Email,"Name"\n' + '"ann@example.com","Ann"\n' * 180_000
    answer = api.request(
        "POST", "/v1/lead-batches", query={"name": "x"}, body=body, headers={"Content-Type": "text/csv"}
    )
    assert_problem(answer, 413)
    assert "POST /v1/lead-batches/uploads" in answer.json["detail"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400])
def test_number_that_nothing_can_hold_is_refused_by_field(api: ApiClient, number: str) -> None:
    body = '{"email": "ann@example.com", "custom_fields": {"big": %s}}' % number  # noqa: UP031 (braces)
    answer = api.request("POST", "/v1/leads", body=body)
    assert_problem(answer, 422)
    assert answer.fields == ["custom_fields.big"]


@pytest.mark.parametrize("levels", [40, 300, 900])
def test_body_that_is_nested_too_deeply_is_refused(api: ApiClient, levels: int) -> None:
    template = api.post("/v1/email-templates", TEMPLATE).json
    nested = '{"a":' * levels + "1" + "}" * levels
    body = '{"lead": {"custom_fields": ' + nested + "}}"
    answer = api.request("POST", f"/v1/email-templates/{template['id']}/preview", body=body)
    assert_problem(answer, 400)
    assert "32 levels" in answer.json["detail"]


def test_route_without_a_body_takes_an_empty_object_and_nothing_else(api: ApiClient) -> None:
    path = f"/v1/campaigns/{SOME_ID}/start"
    assert api.post(path).status == api.post(path, {}).status == 404
    answer = api.post(path, {"force": True})
    assert_problem(answer, 422)
    assert answer.fields == ["force"]


# Our own errors


def test_unreachable_database_is_answered_with_503(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    api_resources.engine.cache_clear()
    for path in ("/v1/campaigns", "/v1/readiness"):
        answer = api.get(path)
        assert_problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("key", ["sl_short", "x" * 46, f"sl_{'x' * 42}!", f"sl_{'x' * 44}", "Bearer", "null"])
def test_text_that_cannot_be_a_key_is_refused_without_the_database(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    api_resources.engine.cache_clear()
    assert_problem(ApiClient(api.handler, key).get("/v1/campaigns"), 401)
    assert_problem(ApiClient(api.handler, f"sl_{'x' * 43}").get("/v1/campaigns"), 503)


def test_health_asks_no_database(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    api_resources.engine.cache_clear()
    assert ApiClient(api.handler, None).get("/v1/health").status == 200


def test_a_fixed_key_of_the_local_stack_need_not_look_like_one(
    api: ApiClient, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        create(connection, "fixed", "viewer", key="my own")
    assert_problem(ApiClient(api.handler, "my own").get("/v1/campaigns"), 401)
    monkeypatch.setenv("FIXED_API_KEY", "my own")
    api_resources.settings.cache_clear()
    assert ApiClient(api.handler, "my own").get("/v1/campaigns").status == 200


@pytest.fixture
def altered(engine: sa.Engine) -> Iterator[Callable[[str, str], None]]:
    """Changes the database, and changes it back after the test."""
    undo = []

    def alter(do: str, undo_it: str) -> None:
        undo.append(undo_it)
        with engine.begin() as connection:
            connection.execute(sa.text(do))

    yield alter
    with engine.begin() as connection:
        for statement in undo:
            connection.execute(sa.text(statement))


def test_statement_that_takes_too_long_is_answered_with_503(
    api: ApiClient, engine: sa.Engine, altered: Callable[[str, str], None]
) -> None:
    database = engine.url.database
    altered(f"ALTER DATABASE {database} SET lock_timeout = '1ms'", f"ALTER DATABASE {database} RESET lock_timeout")
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE campaigns"))
        assert_problem(api.get("/v1/campaigns"), 503)


def test_unexpected_error_is_logged_and_not_explained(
    api: ApiClient, altered: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    altered("ALTER TABLE workflows RENAME TO hidden", "ALTER TABLE hidden RENAME TO workflows")
    answer = api.get("/v1/workflows")
    assert_problem(answer, 500)
    assert "workflows" not in (answer.body or "")
    (logged,) = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert logged["correlation_id"] == answer.json["correlation_id"]
    assert logged["sqlstate"] == "42P01"
    assert any("workflows.py" in frame for frame in logged["frames"])


def test_log_of_a_request_has_ids_and_no_data(api: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    api.post("/v1/email-templates", TEMPLATE | {"name": "Confidential"})
    (logged,) = [vars(record) for record in caplog.records if record.message == "Answered"]
    assert (logged["route"], logged["status"]) == ("POST /v1/email-templates", 201)
    assert logged["caller_id"]
    assert "Confidential" not in str(logged)
    assert str(api.key) not in str(logged)


# About


def test_health_needs_no_key(api: ApiClient) -> None:
    answer = ApiClient(api.handler, None).get("/v1/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/v1/docs", "/v1/openapi.json"])
def test_browser_may_send_the_key_as_the_password(clients: dict[str, ApiClient], path: str) -> None:
    stranger = ApiClient(campaign_api_handler.lambda_handler, None)
    refused = stranger.get(path)
    assert_problem(refused, 401)
    assert refused.headers["www-authenticate"].startswith("Basic ")
    password = base64.b64encode(f"me:{clients['viewer'].key}".encode()).decode()
    assert stranger.request("GET", path, headers={"Authorization": f"Basic {password}"}).status == 200
    for credentials in (":", "é", "w6k=", "\ud800", "=" * 10_000):
        assert stranger.request("GET", path, headers={"Authorization": f"Basic {credentials}"}).status == 401


@pytest.mark.parametrize("value", ["1", "\0"])
def test_health_looks_at_nothing_of_a_request(api: ApiClient, value: str) -> None:
    assert ApiClient(api.handler, None).get("/v1/health", x=value).status == 200


def test_docs_send_the_key_that_their_reader_signed_in_with(clients: dict[str, ApiClient]) -> None:
    stranger, key = ApiClient(campaign_api_handler.lambda_handler, None), clients["viewer"].key
    password = base64.b64encode(f"me:{key}".encode()).decode()
    answer = stranger.request("GET", "/v1/docs", headers={"Authorization": f"Basic {password}"})
    script = f'ui.preauthorizeApiKey("api_key", "{key}");'
    assert f"<script>{script}</script>" in (answer.body or "")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{allowed}'" in answer.headers["content-security-policy"]
    assert "preauthorizeApiKey(" not in str(clients["viewer"].get("/v1/docs").body).rpartition("SwaggerUIBundle(")[2]


def test_docs_are_one_page_that_loads_nothing(api: ApiClient) -> None:
    answer = api.get("/v1/docs")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "SwaggerUIBundle" in (answer.body or "")
    assert not re.search(r"<(script|link)[^>]+(src|href)=(?!\"data:,\")", answer.body or "")


def test_docs_have_a_name_and_lead_to_the_document_that_they_show(api: ApiClient) -> None:
    page = api.get("/v1/docs").body or ""
    assert "<title>Sendledger API</title>" in page
    (address,) = re.findall(r"ui\.specActions\.updateUrl\((.*?)\);", page)
    assert api.get(f"/v1/{json.loads(address)}").status == 200


@pytest.mark.parametrize("path", ["/v1/health", "/v1/leads", "/v1/no-such-path", "/v1/docs", "/v1/openapi.json"])
def test_every_answer_forbids_browsers_to_guess_store_or_embed_it(api: ApiClient, path: str) -> None:
    for client in (api, ApiClient(api.handler, None)):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_docs_may_run_their_own_scripts_and_no_others(api: ApiClient) -> None:
    answer = api.get("/v1/docs")
    scripts = re.findall(r"<script>(.*?)</script>", answer.body or "", re.DOTALL)
    (allowed,) = re.findall(r"script-src ([^;]*)", answer.headers["content-security-policy"])
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed.split() == [f"'sha256-{each}'" for each in hashes]
    assert len(hashes) == 2
