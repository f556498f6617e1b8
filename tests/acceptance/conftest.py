"""The whole product as it is deployed, on this machine: real functions behind HTTP, PostgreSQL and an SES endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from local.event_queue import EventQueue
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


@pytest.fixture
def parameters() -> dict[str, str]:
    """Parameters of the template that a module's tests want to be set."""
    return {}


@pytest.fixture
def ses_events() -> EventQueue | None:
    """Where SES reports to, if a module's tests want that; see reporting_ses.py."""
    return None


@pytest.fixture
def stack(
    database_url: str, ses: SesSimulator, tmp_path: Path, parameters: dict[str, str], ses_events: EventQueue | None
) -> Iterator[LocalStack]:
    """It sends only when it is told to: `stack.tick()`. What the functions log is in `tmp_path`/functions.log."""
    url = ses.url
    with (
        (tmp_path / "functions.log").open("ab") as log,
        LocalStack(
            TEMPLATE, database_url=database_url, ses_url=url, log=log, parameters=parameters, ses_events=ses_events
        ) as running,
    ):
        yield running


@pytest.fixture
def api(stack: LocalStack, engine: sa.Engine) -> Iterator[httpx.Client]:
    """A client with the key of an admin."""
    with engine.begin() as connection:
        key = api_keys.create(connection, "acceptance", "admin").key
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=300) as client:
        yield client
