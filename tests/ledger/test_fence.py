"""The last gate before SES: what has changed since the claim is seen, and nobody gets what they must not get."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from sendledger.campaigns import background_work, lifecycle
from sendledger.feedback import suppressions
from sendledger.ledger import claim_emails
from sendledger.ledger.claim_emails import ClaimedEmail, Fenced
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import NO_DELAY, campaign_row, make_campaign, rows_of, statuses
from testbed.invariants import wait_for

TOKEN = uuid.UUID(int=1)
HOUR = dt.timedelta(hours=1)


def started(engine: sa.Engine, connection: sa.Connection, leads: int, delays: list[dt.timedelta]) -> uuid.UUID:
    campaign_id = make_campaign(connection, leads, delays)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def claim(engine: sa.Engine, emails: int = 100) -> list[ClaimedEmail]:
    with engine.begin() as connection:
        return claim_emails.claim(connection, emails, TOKEN)


def fence(engine: sa.Engine, claimed: list[ClaimedEmail]) -> Fenced:
    with engine.begin() as connection:
        return claim_emails.fence(connection, claimed, TOKEN)


@pytest.mark.parametrize("status", ["responded", "not_interested", "converted", "invalid"])
def test_lead_with_a_refusing_status_gets_nothing(engine: sa.Engine, connection: sa.Connection, status: str) -> None:
    campaign_id = started(engine, connection, 2, [NO_DELAY])
    claimed = claim(engine)
    connection.execute(
        sa.text("UPDATE leads SET status = CAST(:status AS lead_status) WHERE id = :id"),
        {"status": status, "id": claimed[0].lead["lead_id"]},  # type: ignore[index]
    )
    connection.commit()
    fenced = fence(engine, claimed)
    assert (list(fenced.sendable), fenced.turned_away) == ([claimed[1].id], {f"lead_{status}": 1})
    assert statuses(engine, campaign_id) == {"skipped": 1, "sending": 1}


def fence_after(
    engine: sa.Engine, connection: sa.Connection, claimed: list[ClaimedEmail], change: Callable[[sa.Connection], object]
) -> Fenced:
    """A fence that has begun before the change, and waited for a campaign until it was committed."""
    waits = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(sa.text("SELECT FROM campaigns FOR UPDATE"))
        fencing = pool.submit(fence, engine, claimed)

        def is_waiting() -> bool:
            connection.rollback()
            return bool(connection.execute(waits).scalar_one())

        wait_for(is_waiting, "the fence waits for the campaign")
        with engine.begin() as opened:
            change(opened)
        holder.rollback()
        return fencing.result()


def test_opt_out_that_was_committed_while_the_fence_waited_is_obeyed(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    started(engine, connection, 1, [NO_DELAY])
    claimed = claim(engine)
    address = claimed[0].lead["email"]  # type: ignore[index]
    fenced = fence_after(
        engine,
        connection,
        claimed,
        lambda opened: suppressions.suppress(opened, address, "unsubscribe", "the recipient"),
    )
    assert fenced.turned_away == {"suppressed": 1}


def test_email_whose_lease_ended_while_the_fence_waited_is_not_sent(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    started(engine, connection, 1, [NO_DELAY])
    ends = sa.text("UPDATE scheduled_emails SET lease_until = clock_timestamp()")
    fenced = fence_after(engine, connection, claim(engine), lambda opened: opened.execute(ends))
    assert (fenced.sendable, fenced.turned_away) == ({}, {})


def test_step_does_not_overtake_one_that_a_resume_has_not_come_to_yet(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", 2)
    monkeypatch.setattr(background_work.cancel_scheduled_emails, "__defaults__", (2,))
    monkeypatch.setattr(lifecycle, "CALL_BUDGET", -1.0)
    campaign_id = started(engine, connection, 6, [NO_DELAY, NO_DELAY])
    connection.execute(
        sa.text("UPDATE scheduled_emails SET scheduled_for = now() + '1 h' WHERE workflow_step_number = 1")
    )
    connection.commit()
    claimed = claim(engine)
    assert {email.step_number for email in claimed} == {2}
    lifecycle.pause_campaign(engine, campaign_id)
    while campaign_row(engine, campaign_id)["background_work"]:
        with engine.begin() as opened:
            background_work.work_once(opened, campaign_id)
    lifecycle.resume_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"sending": 6, "cancelled": 4, "pending": 2}
    assert fence(engine, claimed).turned_away == {"waits_for_earlier_step": 6}


def test_step_that_was_claimed_together_with_a_late_one_keeps_its_gap(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = started(engine, connection, 1, [NO_DELAY, HOUR])
    connection.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = now() - interval '1 day'"))
    connection.commit()
    claimed = claim(engine)
    assert [email.step_number for email in claimed] == [1, 2]
    # Another sender, which had the first one before, has sent it.
    connection.execute(
        sa.text("""
            UPDATE scheduled_emails SET status = 'sent', sent_at = now(), lease_until = NULL
            WHERE workflow_step_number = 1
        """)
    )
    connection.commit()
    assert fence(engine, claimed[1:]).turned_away == {"waits_for_earlier_step": 1}
    first, second = rows_of(engine, campaign_id)
    assert second["scheduled_for"] == first["sent_at"] + HOUR


def test_step_whose_earlier_one_still_waits_is_not_claimed_again_before_its_gap_could_end(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    """So a long queue of first steps does not make the sender claim the second ones every minute."""
    campaign_id = started(engine, connection, 1, [NO_DELAY, HOUR])
    connection.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = now() - interval '1 day'"))
    connection.commit()
    before = connection.execute(sa.text("SELECT now()")).scalar_one()
    assert fence(engine, claim(engine)[1:]).turned_away == {"waits_for_earlier_step": 1}
    assert rows_of(engine, campaign_id)[1]["scheduled_for"] >= before + HOUR


def test_step_after_one_that_failed_for_good_is_skipped(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection, 1, [NO_DELAY, NO_DELAY])
    claimed = claim(engine)
    connection.execute(
        sa.text("""
            UPDATE scheduled_emails
            SET status = 'failed', error_code = 'bad_request', failed_at = now(), lease_until = NULL
            WHERE workflow_step_number = 1
        """)
    )
    connection.commit()
    assert fence(engine, claimed[1:]).turned_away == {"previous_step_failed": 1}
    assert statuses(engine, campaign_id) == {"failed": 1, "skipped": 1}


def test_send_now_waits_for_the_background_work_of_the_campaign(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 1, [NO_DELAY])
    connection.execute(sa.text("""UPDATE campaigns SET background_work = '[{"kind": "pause"}]'"""))
    connection.commit()
    (row,) = rows_of(engine, campaign_id)
    summary = send_scheduled_email(resources, row["id"])
    assert (summary.sent, str(summary.stopped).partition(":")[0]) == (0, "not_pending")


def test_sender_that_helps_leaves_background_work_and_starts_to_the_tick(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, 2, [NO_DELAY])
    connection.execute(sa.text("""UPDATE campaigns SET background_work = '[{"kind": "pause"}]'"""))
    connection.commit()
    send_due_emails(resources, 60.0, further=True)
    assert campaign_row(engine, campaign_id)["background_work"] == [{"kind": "pause"}]
