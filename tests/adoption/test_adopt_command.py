"""The command and the Lambda function by which an existing installation is adopted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import migrate_handler
from sendledger.core.errors import Conflict
from testbed.campaigns import campaign_row
from testbed.legacy_database import THREE_STEPS, OldApplication, old_application, old_rows

ROOT = Path(__file__).parents[2]


class Context:
    """As much of a Lambda context as the function asks for."""

    def __init__(self, milliseconds: int = 900_000) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.migrate_existing_campaigns", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def campaigns(engine: sa.Engine) -> dict[str, Any]:
    """An active campaign and a completed one, each with emails missing."""
    with old_application(engine) as connection:
        old = OldApplication(connection)
        lead, workflow = old.lead("ann@example.com"), old.workflow(THREE_STEPS)
        made = {name: old.campaign(name, status=name, workflow_id=workflow) for name in ("active", "completed")}
        for campaign in made.values():
            old.email(campaign, lead, 1)
    return made


def test_command_refuses_to_change_anything_without_a_backup(
    engine: sa.Engine, database_url: str, campaigns: dict[str, Any]
) -> None:
    before = old_rows(engine)
    done = run(database_url)
    assert done.returncode == 1
    assert "Take a backup first" in done.stderr
    assert old_rows(engine) == before


def test_command_says_what_became_of_each_campaign(
    engine: sa.Engine, database_url: str, campaigns: dict[str, Any]
) -> None:
    rehearsed = run(database_url, "--dry-run")
    done = run(database_url, "--snapshot", "rds:before", "--reopen-incomplete", str(campaigns["completed"]))
    assert (rehearsed.returncode, done.returncode) == (0, 0)
    assert f"completed ({campaigns['completed']}): completed\n  completed with 2 emails missing" in rehearsed.stdout
    assert "Nothing was changed; this is what would be:" in rehearsed.stdout
    for name in ("active", "completed"):
        assert f"{name} ({campaigns[name]}): {name} → running; 2 pending, 1 sent" in done.stdout
    assert "  scheduled_emails: 6 rows" in done.stdout
    assert [campaign_row(engine, campaign)["status"] for campaign in campaigns.values()] == ["running", "running"]


def test_command_says_that_a_person_is_needed(engine: sa.Engine, database_url: str) -> None:
    with old_application(engine) as connection:
        OldApplication(connection).campaign("Empty", status="active", campaign_type="manual")
    done = run(database_url, "--backup-taken")
    assert done.returncode == 3
    assert "problem: left as it is: the campaign has neither an email template nor a workflow" in done.stdout


def test_command_refuses_a_database_of_another_version(engine: sa.Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    done = run(database_url, "--backup-taken")
    assert done.returncode == 1
    assert "This database is at revision 0003" in done.stderr


def test_function_does_the_same(
    engine: sa.Engine, database_url: str, campaigns: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    event = {"action": "migrate_existing_campaigns"}
    with pytest.raises(Conflict, match="Take a backup first"):
        migrate_handler.lambda_handler(event, Context())  # type: ignore[arg-type]
    unfinished = migrate_handler.lambda_handler({**event, "backup_taken": True}, Context(60_000))  # type: ignore[arg-type]
    assert not unfinished["finished"]
    report = migrate_handler.lambda_handler({**event, "backup_taken": True, "reopen_incomplete": True}, Context())  # type: ignore[arg-type]
    assert report["finished"]
    assert report["tables"]["scheduled_emails"] == 6
    assert [campaign_row(engine, campaign)["status"] for campaign in campaigns.values()] == ["running", "running"]
