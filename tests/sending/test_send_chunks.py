"""A sender's own house: the rate with a slow SES, what a stop or a refusal asks for, and that no result is lost."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.ledger import claim_emails, rate_limiter, sender_state
from sendledger.ledger.sender_state import SenderState
from sendledger.sending import fence_parts, pace
from sendledger.sending.compose_email import Composer
from sendledger.sending.fence_parts import call_times
from sendledger.sending.pace import Pace
from sendledger.sending.prepare_emails import Preparer
from sendledger.sending.send_chunks import ChunkSender
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import SendingLimits, TickSummary
from testbed.campaigns import NO_DELAY, campaign_row, make_campaign, rows_of, statuses
from testbed.databases import url_as
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for
from testbed.senders import sender_resources
from testbed.tcp_front import TcpFront

SECONDS = 60.0


def started(engine: sa.Engine, connection: sa.Connection, leads: int, **values: Any) -> uuid.UUID:
    campaign_id = make_campaign(connection, leads, **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def state(engine: sa.Engine) -> SenderState:
    with engine.connect() as connection:
        return sender_state.read(connection)


# The rate


def test_slow_ses_does_not_keep_the_rate_down(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    rate, emails = 30, 90
    started(engine, connection, emails)
    ses.account.max_send_rate = rate
    ses.account.latency_ms = 2000
    began = time.monotonic()
    assert send_due_emails(resources, SECONDS).sent == emails
    # With a connection for each call of a quarter of a second, which is where it begins, SES would need 20 s.
    assert time.monotonic() - began < 20.0
    assert ses.counts.rejected == 0


# The rate


def test_first_chunk_is_small_as_nobody_knows_yet_how_fast_ses_is(resources: Resources) -> None:
    limits, deadline = SendingLimits(1e6, 1e6), time.monotonic() + SECONDS
    sender = ChunkSender(resources.engine, resources.ses_client, resources.settings, limits, TickSummary(), deadline)
    try:
        assert sender._pace.chunk_size == pace.FIRST_CHUNK < pace.MAX_CHUNK
        sender._calls._call_seconds = 0.02
        assert sender._pace.chunk_size == pace.MAX_CHUNK
    finally:
        sender._finish()


@pytest.fixture
def chunk_sender(resources: Resources) -> Iterator[ChunkSender]:
    """A sender at 100 emails a second that has sent nothing yet."""
    limits = SendingLimits(100.0, 1_000_000.0)
    deadline = time.monotonic() + SECONDS
    created = ChunkSender(resources.engine, resources.ses_client, resources.settings, limits, TickSummary(), deadline)
    yield created
    created._recorder.close()
    created._preparer.close()


def test_time_that_passed_before_a_part_was_fenced_is_reserved_again(resources: Resources) -> None:
    now = time.monotonic()
    in_time, later = call_times(resources.engine, now - 0.5, 100, 100.0)
    assert (len(in_time), len(later)) == (50, 50)
    assert min(in_time) >= now
    assert min(later) >= now
    with resources.engine.begin() as connection:
        assert rate_limiter.reserve_rate(connection, 1, 100.0) > 0.4


def test_few_large_emails_are_under_way_at_once(chunk_sender: ChunkSender) -> None:
    assert chunk_sender._pace.useful() > 20
    chunk_sender._preparer.bytes_per_email = 8_000_000
    assert (chunk_sender._pace.useful(), chunk_sender._pace.chunk_size) == (2, 2)


@pytest.mark.parametrize(
    ("fencing_seconds", "begins_in", "count", "missed"),
    [
        (0.03125, 0.0625, 100, 0),
        (0.03125, 0.015625, 100, 16),
        (10.0, 0.0, 100, 56),
        (0.03125, -1.0, 100, 100),
        (0.03125, -1.0, 30, 0),  # at a rate that no sender reaches
    ],
)
def test_last_fence_tells_which_emails_the_next_one_would_miss(
    fencing_seconds: float,
    begins_in: float,
    count: int,
    missed: int,
    chunk_sender: ChunkSender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: 100.0))
    for seconds in (0.0, fencing_seconds):
        chunk_sender._pace.fencing.took(seconds)
    assert chunk_sender._pace.missed(100.0 + begins_in, count, 1024.0) == missed


def test_parts_follow_what_the_fences_before_them_took(chunk_sender: ChunkSender) -> None:
    pace = chunk_sender._pace
    parts = pace.parts(100)
    sizes, leads, useful = list[int](), list[float](), list[int]()
    for seconds in (0.005, 0.005, 0.105, 0.005, 0.105, 0.105, 0.105):
        sizes.append(len(next(parts)))
        pace.fencing.took(seconds)
        leads.append(round(pace.lead, 3))
        useful.append(pace.useful())
    # One slow fence of three changes nothing.
    assert sizes == [5] * 7
    assert leads == [0.03] * 6 + [0.125]
    assert useful == [useful[0]] * 6 + [useful[0] + 10]
    assert [len(part) for part in parts] == [32, 33]


def test_as_many_results_are_recorded_as_come_in_meanwhile(chunk_sender: ChunkSender) -> None:
    pace, sizes = chunk_sender._pace, list[int]()
    for seconds in (0.0625, 0.25, 0.5, 0.25, 10.0, 10.0, 10.0):
        pace.recording.took(seconds)
        sizes.append(pace.record_size)
    assert sizes == [7, 7, 7, 25, 25, 25, 100]


def test_distant_database_is_asked_for_many_emails_at_once(
    engine: sa.Engine,
    connection: sa.Connection,
    database_url: str,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fence, fenced = claim_emails.fence, list[int]()

    def noted(opened: sa.Connection, emails: Any, token: uuid.UUID) -> claim_emails.Fenced:
        fenced.append(len(emails))
        return fence(opened, emails, token)

    monkeypatch.setattr(claim_emails, "fence", noted)
    campaign_id = started(engine, connection, 150)
    ses.account.max_send_rate = 100
    url = make_url(database_url)
    with TcpFront(str(url.query["unix_sock"]), round_trip=0.04) as front:
        far = url.set(host="127.0.0.1", port=front.port).difference_update_query(["unix_sock"])
        its_engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url_as("sender", str(far))}))
        send_due_emails(dataclasses.replace(resources, engine=its_engine), SECONDS)
        its_engine.dispose()
    assert statuses(engine, campaign_id) == {"sent": 150}
    # In parts of a twentieth of a second it would be more than 30 fences, and half of each part would miss its time.
    assert len(fenced) <= 12


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a sender does, in order, while it sends chunks of two parts with five emails each."""
    monkeypatch.setattr(pace, "MAX_CHUNK", 10)
    monkeypatch.setattr(fence_parts, "next_part", lambda left, *_: min(left, 5))
    found: list[str] = []

    def note(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noted(*args: Any, **options: Any) -> Any:
            found.append(name)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, noted)

    note(claim_emails, "claim")
    note(Composer, "compose")
    note(rate_limiter, "reserve_rate")
    note(claim_emails, "fence")
    return found


def test_next_emails_are_claimed_and_prepared_between_two_parts_of_a_chunk(
    engine: sa.Engine,
    connection: sa.Connection,
    chunk_sender: ChunkSender,
    happened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare = Preparer.prepare

    def with_time(self: Preparer, claimed: Any, most: int, until: float, **options: Any) -> Any:
        return prepare(self, claimed, most, math.inf, **options)

    # The machine may be busy.
    monkeypatch.setattr(Preparer, "prepare", with_time)
    monkeypatch.setattr(Pace, "leaves_time", lambda *_: True)
    monkeypatch.setattr(Pace, "missed", lambda *_: 0)
    campaign_id = started(engine, connection, 20)
    chunk_sender.run()
    assert statuses(engine, campaign_id) == {"sent": 20}
    # One email is composed to try the content.
    assert happened.count("compose") == 21
    happened = [name for name in happened if name != "reserve_rate"]
    first = happened.index("fence")
    assert happened[first : first + 8] == ["fence", "claim", *["compose"] * 5, "fence"]


def test_emails_whose_time_has_passed_are_not_fenced_before_they_have_another(
    engine: sa.Engine,
    connection: sa.Connection,
    chunk_sender: ChunkSender,
    ses: SesSimulator,
    happened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fenced email that waits for seconds has an unknown outcome if the sender dies meanwhile."""
    reserve = rate_limiter.reserve_rate

    def long_ago(opened: sa.Connection, count: int, rate: float) -> float:
        monkeypatch.setattr(rate_limiter, "reserve_rate", reserve)
        return reserve(opened, count, rate) - SECONDS

    monkeypatch.setattr(rate_limiter, "reserve_rate", long_ago)
    campaign_id = started(engine, connection, 20)
    chunk_sender.run()
    first = happened.index("reserve_rate")
    # The first part was fenced at once, and gets its time after this chunk. The second part is left for the next one.
    assert happened[first : first + 3] == ["reserve_rate", "fence", "reserve_rate"]
    assert "fence" not in happened[first + 3 : happened.index("reserve_rate", first + 3)]
    assert happened.count("compose") == 21
    assert statuses(engine, campaign_id) == {"sent": 20}
    assert len(ses.accepted()) == 20


def test_sender_that_has_to_slow_down_recovers(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started(engine, connection, 150)
    ses.account.max_send_rate = 40
    ses.add_fault("reject_429")
    rates: list[float] = []
    reserve = rate_limiter.reserve_rate

    def note(opened: sa.Connection, count: int, rate: float) -> float:
        rates.append(rate)
        return reserve(opened, count, rate)

    monkeypatch.setattr(rate_limiter, "reserve_rate", note)
    assert send_due_emails(resources, SECONDS).sent == 150
    assert min(rates) == pytest.approx(max(rates) / 2)
    assert rates[-1] > min(rates)


# Stops and refusals


@pytest.mark.parametrize("fault", ["sending_paused", "daily_quota", "access_denied"])
def test_stop_halts_the_senders_own_calls(
    fault: str, engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 100)
    ses.add_fault(fault, count=None)
    resources = sender_resources(sender_engine, ses.url, SENDER_CONNECTIONS="1")
    summary = send_due_emails(resources, SECONDS)
    assert summary.stopped is not None
    assert summary.released >= 99
    assert ses.counts.send_requests == 1
    assert statuses(engine, campaign_id) == {"pending": 100}
    assert state(engine).stop_code is not None


def test_address_that_the_senders_role_does_not_cover_pauses_its_campaign_only(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    refused = started(engine, connection, 1, from_address="a@other.example")
    other = started(engine, connection, 3)
    message = "User is not authorized to perform `ses:SendEmail' on resource `arn:aws:ses:x:1:identity/other.example'"
    (lead,) = (row["lead_id"] for row in rows_of(engine, refused))
    address = connection.execute(sa.text("SELECT email FROM leads WHERE id = :id"), {"id": lead}).scalar_one()
    ses.add_fault("access_denied", address=address, message=message, count=None)
    assert send_due_emails(resources, SECONDS).sent == 3
    assert campaign_row(engine, refused)["status"] == "paused"
    assert "identity/other.example" in campaign_row(engine, refused)["failure_reason"]
    assert statuses(engine, other) == {"sent": 3}
    assert state(engine).stop_code is None


@pytest.mark.parametrize("permanent", [False, True])
def test_credentials_that_cannot_be_had_stop_the_sending_and_fail_no_email(
    permanent: bool,
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = started(engine, connection, 20, delays=[NO_DELAY, NO_DELAY])
    signer = resources.ses_client._request_signer
    with monkeypatch.context() as context:
        context.setattr(resources.ses_client, "get_account", account)  # which must be signed as well
        if permanent:
            context.setattr(signer, "_credentials", None)
        else:
            context.setattr(signer, "get_auth_instance", expired)
        summary = send_due_emails(resources, SECONDS)
    assert str(summary.stopped).startswith("cannot_sign")
    assert statuses(engine, campaign_id) == {"pending": 40}
    assert ses.counts.send_requests == 0
    assert (state(engine).stopped_until is None) is permanent


def expired(*args: Any, **options: Any) -> None:
    raise RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")


def account() -> dict[str, Any]:
    return {"SendQuota": {"MaxSendRate": 10.0, "Max24HourSend": -1.0}, "ProductionAccessEnabled": True}


def test_sandbox_is_reported(connection: sa.Connection, resources: Resources, ses: SesSimulator) -> None:
    assert not send_due_emails(resources, SECONDS).sandbox
    ses.account.production_access = False
    assert send_due_emails(resources, SECONDS).sandbox


def test_campaign_whose_stored_template_is_not_valid_is_paused_and_no_email_is_lost(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    other = started(engine, connection, 20)
    campaign_id = started(engine, connection, 30)
    change = sa.text("UPDATE campaign_steps SET body_text = :body WHERE campaign_id = :id")
    connection.execute(change, {"body": "Hi\n{{ company_name.upper() }}", "id": campaign_id})
    connection.commit()
    summary = send_due_emails(resources, SECONDS)
    assert (summary.sent, summary.failed, summary.campaigns_paused) == (20, 0, 1)
    reason = campaign_row(engine, campaign_id)["failure_reason"]
    assert reason.startswith("The template of step 1 is not valid: body_text, line 2: a call is not possible")
    assert statuses(engine, other) == {"sent": 20}
    connection.execute(change, {"body": "Hi", "id": campaign_id})
    connection.commit()
    lifecycle.resume_campaign(engine, campaign_id)
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 30}


# What is in hand


def test_campaign_that_somebody_holds_for_a_moment_is_waited_for(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 10)
    holder = engine.connect()
    holder.execute(sa.text("SELECT FROM campaigns FOR UPDATE"))
    timer = threading.Timer(0.3, holder.close)
    timer.start()
    assert send_due_emails(resources, SECONDS, further=True).sent == 10
    timer.join()
    assert statuses(engine, campaign_id) == {"sent": 10}


def test_call_that_stalls_keeps_neither_results_nor_new_emails_waiting(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    first = started(engine, connection, 5)
    ses.add_fault("stall", seconds=8.0)
    tick = threading.Thread(target=send_due_emails, args=(resources, SECONDS))
    tick.start()
    wait_for(lambda: statuses(engine, first) == {"sending": 1, "sent": 4}, "what was answered is recorded")
    second = started(engine, connection, 5)
    wait_for(lambda: statuses(engine, second) == {"sent": 5}, "what became due meanwhile is sent")
    assert statuses(engine, first) == {"sending": 1, "sent": 4}
    tick.join()


def test_results_are_written_though_a_campaign_cannot_be_paused(
    engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    """A refusal asks for a pause; whatever becomes of that, what SES took is recorded and the rest given back."""
    campaign_id = started(engine, connection, 30)
    connection.execute(
        sa.text("""
            CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); END $$
        """)
    )
    connection.execute(
        sa.text("""
            CREATE TRIGGER never BEFORE UPDATE ON campaigns FOR EACH ROW
            WHEN (NEW.status = 'paused') EXECUTE FUNCTION never()
        """)
    )
    connection.commit()
    ses.add_fault("message_rejected", nth=10)
    ses.account.max_send_rate = 10
    url = url_as("sender", database_url)
    impatient = database.engine(DatabaseSettings.read({"DATABASE_URL": url}), longest_statement=0.5)
    summary = send_due_emails(sender_resources(impatient, ses.url), SECONDS)
    impatient.dispose()
    assert (summary.sent, summary.failed, summary.campaigns_paused) == (29, 0, 0) or summary.sent == 30
    assert set(statuses(engine, campaign_id)) <= {"sent", "pending"}
    assert_ledger_is_consistent(engine, ses)


def test_result_that_cannot_be_written_keeps_no_other_from_being(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 9)
    poisoned = rows_of(engine, campaign_id)[4]["id"]
    connection.execute(
        sa.text(f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON emails FOR EACH ROW
                WHEN (NEW.scheduled_email_id = {poisoned}) EXECUTE FUNCTION refuse();
        """)
    )
    connection.commit()
    with pytest.raises(sa.exc.DBAPIError, match="not this one"):
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 8, "sending": 1}
