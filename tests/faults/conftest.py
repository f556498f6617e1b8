"""What the fault tests share: senders in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.sending.tick import Resources
from testbed.databases import url_as
from testbed.sender_process import SenderProcess, SenderRun
from testbed.senders import sender_resources
from tests.policy.conftest import clock as clock
from tests.policy.conftest import make_sender as make_sender

StartSender = Callable[..., SenderProcess]


@pytest.fixture
def start_sender(database_url: str, ses: SesSimulator) -> Iterator[StartSender]:
    """Starts a sender on the test's database and SES; the arguments are the fields of SenderRun."""
    started: list[SenderProcess] = []
    sender_url = url_as("sender", database_url)

    def start(**fields: object) -> SenderProcess:
        started.append(SenderProcess(SenderRun(sender_url, ses.url, **fields)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    """A sender that no guardrail stops: here SES misbehaves on purpose."""
    return sender_resources(sender_engine, ses.url, GUARDRAILS_ENABLED="false")
