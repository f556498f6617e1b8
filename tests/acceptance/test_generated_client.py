"""A typed client generated from the committed document does everything that a campaign needs."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from local.openapi import DOCUMENT
from local.stack import LocalStack
from sendledger.access import api_keys
from sendledger.core.tables import sender_state
from testbed.campaigns import pass_time

PACKAGE = "generated_by_the_test"
# What a user of the generator has to say: that a CSV file is sent as it is, and that problems are JSON.
CONFIG = """
content_type_overrides:
  text/csv: application/octet-stream
  application/problem+json: application/json
post_hooks: []
"""
CSV = "Email,First Name,Company\nann@example.com,Ann,Acme\nbob@example.com,Bob,Byte\nbroken,,\n"

Call = Callable[..., Any]


def operations() -> dict[str, str]:
    """The module of each operation in the generated package."""
    document = json.loads(DOCUMENT.read_text("utf-8"))
    return {
        operation["operationId"]: f"{operation['tags'][0].lower().replace(' ', '_')}.{operation['operationId']}"
        for methods in document["paths"].values()
        for operation in methods.values()
        if "application/json" in str(operation["responses"].get("200", "application/json"))
    }


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the package; what the generator cannot make a method of, it warns of."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", str(DOCUMENT)),
        *("--output-path", str(folder / PACKAGE), "--meta", "none", "--config", str(folder / "config.yaml")),
        "--fail-on-warning",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture
def models(generated: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(generated)
    return importlib.import_module(f"{PACKAGE}.models")


@pytest.fixture
def call(stack: LocalStack, engine: sa.Engine, models: Any) -> Iterator[Call]:
    """Calls an operation by its id with the key of an admin; the answer is an object of the generated types."""
    with engine.begin() as connection:
        key = api_keys.create(connection, "generated client", "admin").key
    modules = operations()
    with importlib.import_module(PACKAGE).AuthenticatedClient(
        stack.url, key, raise_on_unexpected_status=True
    ) as client:

        def run(operation_id: str, *path: object, **arguments: Any) -> Any:
            module = importlib.import_module(f"{PACKAGE}.api.{modules[operation_id]}")
            return module.sync(*path, client=client, **arguments)

        yield run


def test_every_operation_has_a_method(generated: Path) -> None:
    missing = [
        module
        for module in operations().values()
        if not (generated / PACKAGE / "api" / f"{module.replace('.', '/')}.py").exists()
    ]
    assert missing == []


def test_both_imports_take_a_file_in_a_form_too(call: Call, models: Any) -> None:
    file = importlib.import_module(f"{PACKAGE}.types").File
    leads = file(payload=BytesIO(CSV.encode()), file_name="leads.csv")
    assert call("import_lead_batch", body=models.ImportLeadBatchFilesCsvForm(leads), name="Leads").failed_imports == 1
    addresses = file(payload=BytesIO(b"Email\nann@example.com\n"), file_name="list.csv")
    assert call("import_suppressions", body=models.ImportSuppressionsFilesCsvForm(addresses)).added == 1


def test_generated_client_runs_a_campaign(call: Call, models: Any, stack: LocalStack, engine: sa.Engine) -> None:
    # What it needs: leads from a file, two templates, a workflow
    file = importlib.import_module(f"{PACKAGE}.types").File(payload=BytesIO(CSV.encode()))
    batch = call("import_lead_batch", body=file, name="Leads")
    assert isinstance(batch, models.ImportedLeadBatch)
    assert (batch.successful_imports, batch.failed_imports) == (2, 1)
    templates = [
        call(
            "create_email_template",
            body=models.NewEmailTemplate(
                name=f"Step {number}", subject=f"Step {number}", body_text="Hi {{ first_name }}"
            ),
        )
        for number in (1, 2)
    ]
    preview = call(
        "preview_email_template",
        templates[0].id,
        body=models.PreviewRequest(lead=models.PreviewLead(first_name="Zoë")),
    )
    assert preview.body_text.startswith("Hi Zoë")
    steps = [
        models.NewStep(step_number=number, email_template_id=template.id, days_after_previous=number - 1)
        for number, template in enumerate(templates, 1)
    ]
    workflow = call("create_workflow", body=models.NewWorkflow(name="Flow", steps=steps))

    # Start, once, however often it is asked for
    campaign = call(
        "create_campaign", body=models.NewCampaign(name="Campaign", batch_ids=[batch.id], workflow_id=workflow.id)
    )
    assert campaign.status is models.CampaignStatus.DRAFT
    assert call("preflight_campaign", campaign.id).errors == []
    started = [call("start_campaign", campaign.id, idempotency_key="start-1") for _ in range(2)]
    assert [answer.emails_scheduled_count for answer in started] == [4, 4]
    refused = call("start_campaign", campaign.id)
    assert isinstance(refused, models.Problem)
    assert (refused.status, refused["current_status"]) == (409, "running")

    # Send, pause, resume, and watch
    stack.tick()
    assert call("pause_campaign", campaign.id).emails_cancelled == 2
    assert call("resume_campaign", campaign.id).emails_rescheduled == 2
    stats = call("get_campaign_stats", campaign.id)
    assert (stats.by_status.sent, stats.by_status.pending, stats.funnel.sent) == (2, 2, 2)
    assert isinstance(stats.next_due_at, dt.datetime)
    first = call("list_campaign_scheduled_emails", campaign.id, limit=3)
    second = call("list_campaign_scheduled_emails", campaign.id, limit=3, cursor=first.next_cursor)
    rows = [*first.items, *second.items]
    assert (len(first.items), len(rows), second.next_cursor) == (3, 4, None)
    sent = next(row for row in rows if row.status is models.ScheduledEmailStatus.SENT)
    assert call("get_email", sent.email_id).subject == "Step 1"

    # One of them answers, the other opts out and wants to be forgotten
    answering, leaving = sorted({str(row.lead_id) for row in rows}, key=lambda id_: call("get_lead", id_).email)
    reply = call(
        "receive_reply",
        body=models.NewReply(from_address="ann@example.com", subject="Re: Step 1", text="Yes", message_id="<1@x>"),
    )
    assert (str(reply.lead_id), reply.emails_skipped) == (answering, 1)
    pass_time(engine, dt.timedelta(days=1))
    with engine.begin() as connection:
        # The sender was there all the time: this is no outage.
        connection.execute(sa.update(sender_state).values(last_tick_at=sa.func.now()))
    stack.tick()
    erased = call("erase_lead", leaving, body=models.Erasure(keep_suppressed=True))
    assert (erased.emails_erased, erased.is_suppressed) == (2, True)
    assert [item.value for item in call("list_suppressions").items] == ["bob@example.com"]

    # All of it is on record
    assert call("get_campaign", campaign.id).status is models.CampaignStatus.COMPLETED
    stats = call("get_campaign_stats", campaign.id)
    assert (stats.by_status.sent, stats.by_status.skipped, stats.funnel.replied) == (3, 1, 1)
    timeline = call("get_campaign_timeline", campaign.id, interval=models.GetCampaignTimelineInterval.DAY)
    assert sum(item.sent for item in timeline.items) == 3
    assert call("get_overview").campaigns_by_status["completed"] == 1
    actions = [entry.action for entry in call("list_audit_log").items]
    lifecycle = ["campaign.start", "campaign.pause", "campaign.resume"]
    assert [action for action in actions if action in lifecycle] == lifecycle
    assert {"lead.reply", "lead.erase"} <= set(actions)
