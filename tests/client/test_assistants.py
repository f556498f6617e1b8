"""`sendledger mcp`: an assistant with the key of an editor reads and prepares, and starts only what a person confirms.

The client is that of the official package.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from sendledger_client import Sendledger, models
from sendledger_client.commands.assistants import CONFIRMED, WRITES, server
from sendledger_client.generated.api import READS
from tests.client.conftest import Run, Running


@pytest.fixture
def assistant(running: Running, api: Sendledger) -> Iterator[Sendledger]:
    """The API with the key of an editor."""
    created = api.create_api_key(body=models.NewApiKey(uuid.uuid4().hex, models.Role.EDITOR))
    assert isinstance(created.key, str)
    with Sendledger(running.stack.url, created.key) as client:
        yield client


def call(assistant: Sendledger, tool: str, **arguments: Any) -> CallToolResult:
    async def calling() -> CallToolResult:
        async with Client(server(assistant)) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(calling())


def answer(assistant: Sendledger, tool: str, **arguments: Any) -> dict[str, Any]:
    result = call(assistant, tool, **arguments)
    assert not result.is_error, result.content
    given: dict[str, Any] = result.structured_content or {}
    return given


def refusal(assistant: Sendledger, tool: str, **arguments: Any) -> str:
    result = call(assistant, tool, **arguments)
    assert result.is_error
    return " ".join(part.text for part in result.content if part.type == "text")


@pytest.fixture
def campaign(assistant: Sendledger) -> dict[str, Any]:
    """A campaign that the assistant has prepared with its tools."""
    address = f"{uuid.uuid4().hex}@example.com"
    lead = answer(assistant, "create_lead", email=address, custom_fields={"plan": "Pro"})
    template = answer(
        assistant, "create_email_template", name=uuid.uuid4().hex, subject="Hello", body_text="{{ custom_fields.plan }}"
    )
    shown = answer(assistant, "preview_email_template", email_template_id=template["id"], lead_id=lead["id"])
    assert shown["body_text"] == "Pro"
    steps = [{"step_number": 1, "email_template_id": template["id"]}]
    workflow = answer(assistant, "create_workflow", name=uuid.uuid4().hex, steps=steps)
    return answer(
        assistant,
        "create_campaign",
        name=uuid.uuid4().hex,
        lead_ids=[lead["id"]],
        workflow_id=workflow["id"],
        postal_address_waived=True,
    )


def test_every_reading_operation_is_a_tool_and_nothing_deletes(assistant: Sendledger) -> None:
    async def listing() -> dict[str, Any]:
        async with Client(server(assistant)) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    tools = asyncio.run(listing())
    assert tools.keys() == {*READS, *WRITES, *CONFIRMED, "import_leads"}
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == set(READS)
    assert {name for name, tool in tools.items() if tool.annotations.destructive_hint} == set(CONFIRMED)
    assert not [name for name in tools if name.startswith(("delete", "remove", "revoke"))]
    step = tools["create_workflow"].input_schema["$defs"]["NewStep"]
    assert "email_template_id" in step["properties"]


def test_assistant_looks_at_what_it_has_prepared(assistant: Sendledger, campaign: dict[str, Any]) -> None:
    assert answer(assistant, "get_campaign", campaign_id=campaign["id"])["status"] == "draft"
    listed = answer(assistant, "list_campaigns", status="draft", limit=200)["items"]
    assert campaign["id"] in [each["id"] for each in listed]


def test_start_and_cancel_need_a_token_of_a_person(run: Run, assistant: Sendledger, campaign: dict[str, Any]) -> None:
    id_ = campaign["id"]
    for tool, operation, status in (("start_campaign", "start", "running"), ("cancel_campaign", "cancel", "cancelled")):
        assert f"sendledger confirm {operation} {id_}" in refusal(assistant, tool, campaign_id=id_)
        assert "does not allow" in refusal(assistant, tool, campaign_id=id_, confirmation="k1." + "0" * 48)
        token = run("confirm", operation, campaign["name"], "--yes").out.strip()
        assert answer(assistant, tool, campaign_id=id_, confirmation=token)["status"] == status


def test_assistant_cannot_confirm_by_itself(
    assistant: Sendledger, campaign: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDLEDGER_API_KEY", assistant._client.token)
    ended = run("confirm", "start", campaign["id"], "--yes")
    assert (ended.code, ended.out) == (3, "")
    assert run("campaigns", "start", campaign["id"], "--yes").code == 3


def test_lead_is_erased_with_a_token(run: Run, assistant: Sendledger) -> None:
    lead = answer(assistant, "create_lead", email=f"{uuid.uuid4().hex}@example.com")["id"]
    assert "confirm erase" in refusal(assistant, "erase_lead", lead_id=lead, keep_suppressed=True)
    token = run("confirm", "erase", lead, "--yes").out.strip()
    erased = answer(assistant, "erase_lead", lead_id=lead, keep_suppressed=True, confirmation=token)
    assert erased["leads_erased"] == 1


def test_leads_are_tried_before_they_are_imported(assistant: Sendledger) -> None:
    file = {"csv": f"Email\n{uuid.uuid4().hex}@example.com\nbroken\n", "name": "Fair"}
    tried = answer(assistant, "import_leads", **file)
    assert (tried["successful_imports"], tried["failed_imports"]) == (1, 1)
    assert answer(assistant, "import_leads", **file, dry_run=False)["successful_imports"] == 1


def test_refusal_of_the_api_reaches_the_assistant_in_words(assistant: Sendledger) -> None:
    assert "there is no" in refusal(assistant, "get_campaign", campaign_id=str(uuid.uuid4())).lower()
    assert "email" in refusal(assistant, "create_lead", email="broken")
    assert "needs the role sender" in refusal(assistant, "pause_campaign", campaign_id=str(uuid.uuid4()))


def test_installed_program_serves_over_standard_input_and_output(running: Running, api: Sendledger) -> None:
    environment = {"SENDLEDGER_URL": running.stack.url, "SENDLEDGER_API_KEY": running.key}
    program = StdioServerParameters(
        command=str(Path(sys.executable).with_name("sendledger")), args=["mcp"], env=environment
    )

    async def overview() -> CallToolResult:
        async with Client(program) as client:
            return await client.call_tool("get_overview", {})

    result = asyncio.run(overview())
    assert (result.is_error, result.structured_content == api.get_overview().to_dict()) == (False, True)
