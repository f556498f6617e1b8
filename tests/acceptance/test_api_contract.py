"""The API keeps to the OpenAPI document that it serves, whatever it is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.openapi import DOCUMENT
from local.stack import LocalStack

CSV = "Email,First Name\nann@example.com,Ann\nbob@example.com,Bob\n"


@pytest.fixture
def ids(api: httpx.Client) -> dict[str, Any]:
    """Of one thing of each kind, by the names of the path parameters; the campaign runs."""

    def post(path: str, body: object = None) -> Any:
        answer = api.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    batch = api.post("/v1/lead-batches?name=all", content=CSV, headers={"Content-Type": "text/csv"}).json()
    template = post("/v1/email-templates", {"name": "t", "subject": "Hi {{ first_name }}", "body_text": "Hello"})
    steps = [{"step_number": 1, "email_template_id": template["id"]}]
    workflow = post("/v1/workflows", {"name": "w", "steps": steps})
    campaign = post("/v1/campaigns", {"name": "c", "batch_ids": [batch["id"]], "workflow_id": workflow["id"]})
    post(f"/v1/campaigns/{campaign['id']}/start")
    row = api.get("/v1/scheduled-emails").json()["items"][0]
    return {
        "lead_id": row["lead_id"],
        "lead_batch_id": batch["id"],
        "email_template_id": template["id"],
        "workflow_id": workflow["id"],
        "campaign_id": campaign["id"],
        "scheduled_email_id": row["id"],
    }


CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "413", "415", "422"]

[parameters]
"""


@pytest.mark.parametrize("phases", ["coverage,stateful", "examples,fuzzing"])
def test_every_answer_is_documented(
    stack: LocalStack, api: httpx.Client, ids: dict[str, Any], tmp_path: Path, phases: str
) -> None:
    config = tmp_path / "schemathesis.toml"
    # Fuzzing with ids that exist gets further; coverage tries wrong ids too, and stateful testing makes its own.
    known = ids if "fuzzing" in phases else {}
    config.write_text(CONFIG + "".join(f"{name} = {json.dumps(value)}\n" for name, value in known.items()))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"),
        *("run", f"{stack.url}/v1/openapi.json", "--header", f"Authorization: {api.headers['Authorization']}"),
        *("--phases", phases, "--seed", "1", "--max-examples", "10", "--generation-database", "none"),
        # Some rules cannot be told in a schema: ids that must exist, fields that go together, templates that compile.
        *("--exclude-checks", "positive_data_acceptance", "--warnings", "off", "--continue-on-failure"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert run.returncode == 0, run.stdout
    assert '"level":"ERROR"' not in (tmp_path / "functions.log").read_text()


def test_served_document_is_the_committed_one(api: httpx.Client) -> None:
    assert api.get("/v1/openapi.json").text == DOCUMENT.read_text("utf-8")
