"""Uploads through the API: a URL to put a file to, which starts nothing by itself."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from sendledger.campaigns import background_work, intake
from sendledger.core.tables import campaign_leads, idempotency_keys, lead_batches
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import import_files
from sendledger.leads.import_leads import list_known, lock_addresses
from testbed.campaigns import make_batch
from testbed.databases import working_as
from testbed.invariants import wait_for
from tests.campaigns.test_intake import waiting_for_locks
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

PAGE = "https://crm.example.com"
API_FOLDER = Path(__file__).parents[3] / "functions" / "campaign_api"


def test_file_can_be_put_to_the_url_of_an_upload(api: ApiClient, bucket: FileBucket) -> None:
    answer = api.post("/v1/lead-batches/uploads", {"name": "Fair", "file_name": "fair.csv"})
    assert answer.status == 201
    upload = answer.json
    left = dt.datetime.fromisoformat(upload["expires_at"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=55) < left <= dt.timedelta(hours=1)
    put = httpx.put(upload["upload_url"], headers=upload["upload_headers"], content=b"email\na@b.co\n")
    assert put.status_code == 200
    assert bucket.find(f"imports/{upload['id']}.csv").size == 13


def test_page_of_an_allowed_origin_can_put_a_file_to_the_url(api: ApiClient, s3: Any, bucket: FileBucket) -> None:
    """What a browser asks before, and reads after, with the rule of the template."""
    rule = {"AllowedOrigins": [PAGE], "AllowedMethods": ["PUT"], "AllowedHeaders": ["Content-Type"]}
    rules = {"CORSRules": [{**rule, "MaxAgeSeconds": 3600}]}
    s3.put_bucket_cors(Bucket=bucket.name, CORSConfiguration=rules)
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair"}).json
    asking = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    asked = httpx.options(upload["upload_url"], headers={"Origin": PAGE, **asking})
    allowed = {name: asked.headers[f"access-control-{name}"] for name in ("allow-origin", "allow-methods", "max-age")}
    assert allowed == {"allow-origin": PAGE, "allow-methods": "PUT", "max-age": "3600"}
    assert {name.lower() for name in upload["upload_headers"]} <= {
        name.strip().lower() for name in asked.headers["access-control-allow-headers"].split(",")
    }
    put = httpx.put(upload["upload_url"], headers={"Origin": PAGE, **upload["upload_headers"]}, content=b"email\n")
    assert (put.status_code, put.headers["access-control-allow-origin"]) == (200, PAGE)


def test_lead_batch_of_an_upload_waits_for_its_file(api: ApiClient) -> None:
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair"}).json
    batch = api.get(f"/v1/lead-batches/{upload['id']}").json
    expected = {"name": "Fair", "status": "pending", "total_leads": 0, "rejects_url": None, "uploaded_by": "admin"}
    assert {name: batch[name] for name in expected} == expected


def test_uploads_that_are_under_way_are_listed(api: ApiClient, engine: sa.Engine) -> None:
    ids = [api.post("/v1/lead-batches/uploads", {"name": name}).json["id"] for name in ("first", "second", "third")]
    with engine.begin() as connection:
        connection.execute(sa.update(lead_batches).where(lead_batches.c.id == ids[1]).values(status="completed"))
    assert [item["id"] for item in api.get("/v1/lead-batches", status="pending").json["items"]] == [ids[2], ids[0]]
    assert api.get("/v1/lead-batches", status="uploading").fields == ["status"]


def evergreen(api: ApiClient) -> str:
    """The id of a running campaign that takes in leads."""
    template = api.post("/v1/email-templates", {"name": "T", "subject": "S", "body_text": "B"}).json
    fields = {"name": "C", "evergreen": True, "email_template_id": template["id"]}
    campaign_id: str = api.post("/v1/campaigns", fields).json["id"]
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    return campaign_id


def test_leads_of_an_upload_for_a_campaign_come_into_it_when_the_import_is_complete(
    api: ApiClient, engine: sa.Engine, bucket: FileBucket
) -> None:
    """Those that are there already, too."""
    campaign_id = evergreen(api)
    api.post("/v1/leads", {"email": "known@b.co"})
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair", "campaign_id": campaign_id}).json
    file = b"email\na@b.co\nb@b.co\nnowhere\nKnown@b.co\n"
    httpx.put(upload["upload_url"], headers=upload["upload_headers"], content=file)
    with engine.begin() as connection:
        assert intake.begin_due_intakes(connection) == 0
    with working_as("files", engine) as files:
        import_files.work(files, bucket, uuid.UUID(upload["id"]), float("inf"))

    with working_as("sender", engine) as sender:
        with sender.begin() as connection:
            assert intake.begin_due_intakes(connection) == 1
        background_work.work_until(sender, uuid.UUID(campaign_id), float("inf"))
        with sender.begin() as connection:
            assert intake.begin_due_intakes(connection) == 0

    campaign = api.get(f"/v1/campaigns/{campaign_id}").json
    assert (campaign["total_leads_targeted"], campaign["batch_ids"]) == (3, [upload["id"]])


def uploaded(api: ApiClient, file: bytes, **fields: Any) -> uuid.UUID:
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair", **fields}).json
    httpx.put(upload["upload_url"], headers=upload["upload_headers"], content=file)
    return uuid.UUID(upload["id"])


def test_lead_that_somebody_else_stores_during_an_import_for_a_campaign_comes_into_it_too(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    campaign_id = evergreen(api)
    batch_id = uploaded(api, b"email\na@b.co\n", campaign_id=campaign_id)
    with working_as("files", engine) as files, ThreadPoolExecutor(1) as threads:
        lock_addresses(connection)
        importing = threads.submit(import_files.work, files, bucket, batch_id, float("inf"))
        wait_for(lambda: waiting_for_locks(engine) == 1, "an import that has found no known lead")
        make_batch(connection, ["a@b.co"])
        connection.commit()
        importing.result()

    assert api.get(f"/v1/lead-batches/{batch_id}").json["duplicates_skipped"] == 1
    assert api.get(f"/v1/campaigns/{campaign_id}").json["lead_ids_count"] == 1


class Killed(Exception):
    pass


def test_lead_that_somebody_else_stores_before_the_import_is_killed_comes_into_its_campaign_when_it_goes_on(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, bucket: FileBucket
) -> None:
    campaign_id = evergreen(api)
    batch_id = uploaded(api, b"email\nbroken\na@b.co\n", campaign_id=campaign_id)
    looks: list[str] = []

    def die_at_the_second_look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO campaign_leads" in statement:
            looks.append(statement)
            if len(looks) == 2:
                raise Killed

    with working_as("files", engine) as files, ThreadPoolExecutor(1) as threads:
        sa.event.listen(files, "before_cursor_execute", die_at_the_second_look)
        lock_addresses(connection)
        importing = threads.submit(import_files.work, files, bucket, batch_id, float("inf"))
        wait_for(lambda: waiting_for_locks(engine) == 1, "an import that has found no known lead")
        make_batch(connection, ["a@b.co"])
        connection.commit()
        with pytest.raises(Killed):
            importing.result()
        assert api.get(f"/v1/campaigns/{campaign_id}").json["lead_ids_count"] == 0
        assert not import_files.work(files, bucket, batch_id, float("inf"))

    batch = api.get(f"/v1/lead-batches/{batch_id}").json
    assert (batch["status"], batch["total_leads"], batch["duplicates_skipped"]) == ("completed", 2, 1)
    assert api.get(f"/v1/campaigns/{campaign_id}").json["lead_ids_count"] == 1


def test_lead_that_two_imports_list_at_the_same_time_counts_once(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = evergreen(api)
    lead_id = api.post("/v1/leads", {"email": "known@b.co"}).json["id"]
    batches = [uploaded(api, b"", campaign_id=campaign_id) for _ in range(2)]
    with engine.begin() as other:
        for each, batch_id in zip((connection, other), batches, strict=True):
            assert list_known(each, batch_id, ["known@b.co"]) == 1
        connection.commit()
    rows = sa.select(campaign_leads.c.lead_id)
    assert [str(each) for each in connection.scalars(rows)] == [lead_id, lead_id]
    assert api.get(f"/v1/campaigns/{campaign_id}").json["lead_ids_count"] == 1
    assert api.get("/v1/campaigns").json["items"][0]["lead_ids_count"] == 1


def test_checked_file_is_imported_for_a_campaign_by_a_sender_only(
    api: ApiClient, clients: dict[str, ApiClient], engine: sa.Engine, bucket: FileBucket
) -> None:
    """And the audit log says that leads come in when they do, not when the file is checked."""
    campaign_id = evergreen(api)
    batch_id = uploaded(clients["sender"], b"email\na@b.co\n", campaign_id=campaign_id, dry_run=True)
    with working_as("files", engine) as files:
        import_files.work(files, bucket, batch_id, float("inf"))
    given = {"entity_id": campaign_id, "action": "campaign.leads_add"}
    assert api.get("/v1/audit-log", **given).json["items"] == []
    path = f"/v1/lead-batches/{batch_id}"

    refused = clients["editor"].post(f"{path}/import", {})

    assert (refused.status, refused.json["required_role"]) == (403, "sender")
    assert api.get(path).json["status"] == "checked"
    assert clients["sender"].post(f"{path}/import", {}).json["status"] == "importing"
    (entry,) = api.get("/v1/audit-log", **given).json["items"]
    assert entry["detail"] == {"lead_batch_id": str(batch_id)}


def test_editor_checks_a_file_for_a_campaign_again(
    api: ApiClient, clients: dict[str, ApiClient], engine: sa.Engine
) -> None:
    id_ = batch_with(engine, api, **CHECKED, active_campaign_id=evergreen(api))
    assert clients["editor"].post(f"/v1/lead-batches/{id_}/import", {"dry_run": True}).status == 202


def test_upload_for_a_campaign_that_takes_in_nobody_is_refused_and_leaves_no_batch(api: ApiClient) -> None:
    campaign_id = evergreen(api)
    api.post(f"/v1/campaigns/{campaign_id}/finish")
    wanted = {"name": "Fair", "campaign_id": campaign_id}
    assert api.post("/v1/lead-batches/uploads", wanted).status == 409
    unknown = "123e4567-e89b-12d3-a456-426614174000"
    assert api.post("/v1/lead-batches/uploads", {**wanted, "campaign_id": unknown}).status == 404
    assert api.get("/v1/lead-batches").json["items"] == []


@pytest.mark.parametrize("status", ["pending", "checking", "checked", "importing", "deleting"])
def test_campaign_is_not_started_while_a_batch_is_incomplete(api: ApiClient, engine: sa.Engine, status: str) -> None:
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair"}).json
    with engine.begin() as connection:
        connection.execute(sa.update(lead_batches).values(status=status))
    template = api.post("/v1/email-templates", {"name": "T", "subject": "S", "body_text": "B"}).json
    fields = {"name": "C", "batch_ids": [upload["id"]], "email_template_id": template["id"]}
    fields["postal_address_waived"] = True
    campaign = api.post("/v1/campaigns", fields).json
    answer = api.post(f"/v1/campaigns/{campaign['id']}/start")
    assert answer.status == 409, answer.body
    assert f"is {status}" in answer.json["detail"]


def test_rejects_can_be_downloaded_for_a_week(api: ApiClient, engine: sa.Engine, s3: Any, bucket: FileBucket) -> None:
    upload = api.post("/v1/lead-batches/uploads", {"name": "Fair"}).json
    key = f"rejects/{upload['id']}.csv"
    s3.put_object(Bucket=bucket.name, Key=key, Body=b"rejected_row\n2\n")
    done = sa.update(lead_batches).values(status="completed", rejects_object=key)
    with engine.begin() as connection:
        connection.execute(done)
    shown = api.get(f"/v1/lead-batches/{upload['id']}").json
    assert httpx.get(shown["rejects_url"]).text == "rejected_row\n2\n"
    with engine.begin() as connection:
        week_ago = sa.func.timezone("UTC", sa.func.now()) - sa.text("interval '8 days'")
        connection.execute(sa.update(lead_batches).values(created_at=week_ago))
    assert api.get(f"/v1/lead-batches/{upload['id']}").json["rejects_url"] is None


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "size": 1}, {"name": "x", "file_name": "x" * 256}])
def test_bad_upload_is_refused(api: ApiClient, body: Any) -> None:
    assert api.post("/v1/lead-batches/uploads", body).status == 422


def test_viewer_does_not_upload(clients: dict[str, ApiClient]) -> None:
    assert clients["viewer"].post("/v1/lead-batches/uploads", {"name": "Fair"}).status == 403
    assert clients["editor"].post("/v1/lead-batches/uploads", {"name": "Fair"}).status == 201


def test_neither_a_cold_start_nor_a_route_loads_an_aws_client_or_a_page_before_its_use() -> None:
    check = (
        "import sys, campaign_api_handler; campaign_api_handler.app.load_all();"
        " print(*{'boto3', 'botocore.client'} & sys.modules.keys(),"
        " *(name for name in sys.modules if name.startswith('console.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", check], cwd=API_FOLDER, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_signed_url_of_an_upload_is_not_kept_for_repeated_requests(api: ApiClient, engine: sa.Engine) -> None:
    headers = {"Idempotency-Key": "a"}
    body = {"name": "f", "redirect_to": "https://crm.example.com/imported"}
    first, again = (api.request("POST", "/v1/lead-batches/uploads", body=body, headers=headers) for _ in "12")
    assert "Signature" in first.json["upload_url"]
    assert first.json["form"]["fields"]["x-amz-signature"]
    assert again.json == first.json | {"upload_url": None, "form": None}
    with engine.connect() as connection:
        assert "Signature" not in str(connection.execute(sa.select(idempotency_keys.c.answer)).all())


CHECKED = {"status": "checked", "import_settings": {"columns": {"Firm": "company_name"}, "dry_run": True}}


def batch_with(engine: sa.Engine, api: ApiClient, **values: Any) -> str:
    id_: str = api.post("/v1/lead-batches/uploads", {"name": "Fair"}).json["id"]
    with engine.begin() as connection:
        connection.execute(sa.update(lead_batches).where(lead_batches.c.id == id_).values(values))
    return id_


def test_checked_file_is_imported_with_its_columns(api: ApiClient, engine: sa.Engine) -> None:
    id_ = batch_with(engine, api, **CHECKED, total_leads=9, successful_imports=8)
    answer = api.post(f"/v1/lead-batches/{id_}/import", {})
    assert (answer.status, answer.json["status"], answer.json["total_leads"]) == (202, "importing", 0)
    assert api.get(f"/v1/lead-batches/{id_}").json["chosen_columns"] == {"Firm": "company_name"}
    assert api.get("/v1/audit-log", entity_id=id_).json["items"][0]["action"] == "lead_batch.import"


def test_checked_file_is_checked_again_with_other_columns(api: ApiClient, engine: sa.Engine) -> None:
    id_ = batch_with(engine, api, **CHECKED)
    answer = api.post(f"/v1/lead-batches/{id_}/import", {"dry_run": True, "columns": {"Firm": "ignored"}})
    assert (answer.status, answer.json["status"]) == (202, "checking")
    assert api.get(f"/v1/lead-batches/{id_}").json["chosen_columns"] == {"Firm": "ignored"}


def test_failed_import_goes_on_after_its_rows(api: ApiClient, engine: sa.Engine) -> None:
    id_ = batch_with(engine, api, status="failed", failure_reason="x", total_leads=5_000, successful_imports=4_999)
    answer = api.post(f"/v1/lead-batches/{id_}/import", {})
    assert (answer.json["status"], answer.json["total_leads"], answer.json["failure_reason"]) == (
        "importing",
        5_000,
        None,
    )


@pytest.mark.parametrize("body", [{"dry_run": True}, {"columns": {"Firm": "ignored"}}])
def test_import_that_has_begun_does_not_go_on_otherwise(api: ApiClient, engine: sa.Engine, body: Any) -> None:
    id_ = batch_with(engine, api, status="failed", failure_reason="x", total_leads=5_000)
    answer = api.post(f"/v1/lead-batches/{id_}/import", body)
    assert (answer.status, "5,000 rows" in answer.json["detail"]) == (409, True)


@pytest.mark.parametrize("status", ["pending", "checking", "importing", "completed", "deleting"])
def test_only_a_checked_or_failed_file_is_imported(api: ApiClient, engine: sa.Engine, status: str) -> None:
    id_ = batch_with(engine, api, status=status)
    answer = api.post(f"/v1/lead-batches/{id_}/import", {})
    assert (answer.status, status in answer.json["detail"]) == (409, True)


def test_batch_without_an_uploaded_file_is_not_imported_again(api: ApiClient, engine: sa.Engine) -> None:
    id_ = batch_with(engine, api, status="failed", failure_reason="x", source_object=None)
    assert api.post(f"/v1/lead-batches/{id_}/import", {}).status == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"columns": {"Firm": "nonsense"}}, "columns.Firm"),
        ({"columns": {"x" * 256: "ignored"}}, "columns"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"redirect_to": "javascript:alert(1)"}, "redirect_to"),
    ],
)
def test_bad_field_of_an_upload_is_named(api: ApiClient, body: dict[str, Any], field: str) -> None:
    answer = api.post("/v1/lead-batches/uploads", {"name": "Fair", **body})
    assert answer.status == 422
    assert any(field in each for each in answer.fields), answer.fields
