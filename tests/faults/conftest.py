"""What the fault tests share: senders in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from local.ses_simulator import SesSimulator
from tests.faults.sender_process import SenderProcess, SenderRun

StartSender = Callable[..., SenderProcess]


@pytest.fixture
def start_sender(database_url: str, ses: SesSimulator) -> Iterator[StartSender]:
    """Starts a sender on the test's database and SES; the arguments are the fields of SenderRun."""
    started: list[SenderProcess] = []

    def start(**fields: object) -> SenderProcess:
        started.append(SenderProcess(SenderRun(database_url, ses.url, **fields)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for process in started:
        process.end()
