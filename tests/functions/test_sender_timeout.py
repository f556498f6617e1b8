"""The built sender and the time that Lambda gives it: it ends before, and where it cannot it is killed without harm.

Each test takes as long as one tick that sends nothing: SES has 13 s to answer, and the end of a tick 7 s.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.ledger import sweep
from testbed.campaigns import campaign_row, make_campaign, pass_time, rows_of
from testbed.invariants import LONGER_THAN_ANY_GRACE, assert_ledger_is_consistent, wait_for
from testbed.lambda_runtime import FunctionError, LambdaRuntime
from tests.functions.conftest import StartFunction

LEADS = 60
RATE = 10.0
"""Emails a second, so that at the end of a tick some are with SES, some claimed and some not touched."""

TIMEOUT = 24
TICK: dict[str, Any] = {}


@pytest.fixture
def ses() -> Any:
    with SesSimulator(rate=RATE, daily_quota=-1) as simulator:
        yield simulator


@pytest.fixture
def sender(start_function: StartFunction, database_url: str, ses: SesSimulator) -> LambdaRuntime:
    """A sender that has had its cold start; SES's errors stop no campaign."""
    environment = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url, "GUARDRAILS_ENABLED": "false"}
    runtime = start_function("SenderFunction", environment, timeout=TIMEOUT)
    assert runtime.invoke(TICK)["claimed"] == 0
    return runtime


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, sender: LambdaRuntime) -> uuid.UUID:
    campaign_id = make_campaign(connection, LEADS)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def _by_state(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[str, set[int]]:
    """The ids of the ledger's rows by status, or the error of those that failed; "fenced" for those of `sending`."""
    found: dict[str, set[int]] = {}
    for row in rows_of(engine, campaign_id):
        state = row["error_code"] or row["status"]
        if state == "sending" and row["send_started_at"] is not None:
            state = "fenced"
        found.setdefault(state, set()).add(row["id"])
    return found


def _send_the_rest(engine: sa.Engine, sender: LambdaRuntime, campaign_id: uuid.UUID) -> None:
    for _ in range(5):
        pass_time(engine, LONGER_THAN_ANY_GRACE)
        sender.invoke(TICK)
        if campaign_row(engine, campaign_id)["status"] == "completed":
            return


def test_sender_ends_in_time_although_ses_does_not_answer(
    sender: LambdaRuntime, engine: sa.Engine, campaign_id: uuid.UUID, ses: SesSimulator
) -> None:
    ses.add_fault("stall", count=None)
    summary = sender.invoke(TICK)
    found = _by_state(engine, campaign_id)
    # What was with SES is unknown, and everything else was given back: nothing is left to a sweep.
    assert set(found) == {"outcome_unknown", "pending"}
    assert len(found["outcome_unknown"]) == summary["unknown"]
    ses.faults.clear()
    _send_the_rest(engine, sender, campaign_id)
    assert {int(email.tags["scheduled_email_id"]) for email in ses.accepted()} == found["pending"]
    assert_ledger_is_consistent(engine, ses)


def test_sender_killed_by_its_timeout_leaves_nothing_to_chance(
    sender: LambdaRuntime, engine: sa.Engine, campaign_id: uuid.UUID, ses: SesSimulator
) -> None:
    # The worst case: SES takes the emails, and the sender never hears of it.
    ses.add_fault("stall_after_accept", count=None)
    ended: list[FunctionError] = []

    def invoke() -> None:
        with pytest.raises(FunctionError, match="timed out") as caught:
            sender.invoke(TICK)
        ended.append(caught.value)

    tick = threading.Thread(target=invoke)
    tick.start()
    wait_for(
        lambda: len(ses.accepted()) >= 3 and "sending" in _by_state(engine, campaign_id),
        "some are with SES and others are claimed",
    )
    sender.freeze()
    tick.join()
    assert [error.kind for error in ended] == ["Sandbox.Timedout"]
    killed = _by_state(engine, campaign_id)
    taken = {int(email.tags["scheduled_email_id"]) for email in ses.accepted()}
    assert set(killed) == {"pending", "sending", "fenced"}
    assert taken <= killed["fenced"]

    pass_time(engine, LONGER_THAN_ANY_GRACE)
    with engine.begin() as connection:
        swept = sweep.sweep(connection)
    assert (swept.returned, swept.unknown) == (len(killed["sending"]), len(killed["fenced"]))
    assert _by_state(engine, campaign_id) == {
        "pending": killed["pending"] | killed["sending"],
        "outcome_unknown": killed["fenced"],
    }

    ses.faults.clear()
    _send_the_rest(engine, sender, campaign_id)
    everything = {row["id"] for row in rows_of(engine, campaign_id)}
    sent = [int(email.tags["scheduled_email_id"]) for email in ses.accepted()]
    assert sorted(sent) == sorted(taken | (everything - killed["fenced"]))
    assert_ledger_is_consistent(engine, ses)
