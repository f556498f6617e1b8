"""Counts are those of the ledger, whoever changed it and however large it is, and cost next to nothing to read."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaign_counts, campaigns, lifecycle
from sendledger.core.tables import replies
from sendledger.feedback import suppressions
from sendledger.feedback.suppressions import NewSuppression
from sendledger.leads import leads
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, pass_time, rows_of

COUNTED = sa.text("""
    SELECT campaign_id, step_number, what, hour, CAST(sum(count) AS bigint) FROM campaign_counts
    WHERE what NOT IN ('delivered', 'opened', 'clicked', 'bounced', 'soft_bounced')
    GROUP BY 1, 2, 3, 4 HAVING sum(count) <> 0
""")
LEDGER = sa.text("""
    SELECT campaign_id, workflow_step_number, status, coalesce(date_trunc('hour',
           CASE status WHEN 'sent' THEN sent_at WHEN 'failed' THEN failed_at END, 'UTC'), '-infinity'), count(*)
    FROM scheduled_emails GROUP BY 1, 2, 3, 4
""")
BY_DAY = sa.text("SELECT day, what, CAST(sum(count) AS bigint) FROM daily_counts GROUP BY 1, 2 HAVING sum(count) <> 0")
OF_CAMPAIGNS = sa.text("""
    SELECT CAST(hour AT TIME ZONE 'UTC' AS date), what, CAST(sum(count) AS bigint) FROM campaign_counts
    WHERE hour > '-infinity' GROUP BY 1, 2 HAVING sum(count) <> 0
""")


def assert_exact(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        counted, ledger, by_day, of_campaigns = (
            {tuple(row) for row in connection.execute(query)} for query in (COUNTED, LEDGER, BY_DAY, OF_CAMPAIGNS)
        )
    assert counted == ledger
    assert by_day == of_campaigns


def stats(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[str, Any]:
    with engine.connect() as connection:
        return campaign_counts.campaign_stats(connection, campaigns.get_campaign(connection, campaign_id))


def test_counts_are_those_of_the_ledger_after_all_that_can_happen_to_it(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    addresses = [f"lead{number}@example.com" for number in range(8)]
    campaign_id = make_campaign(connection, addresses, [NO_DELAY, DAY, DAY])
    ses.add_fault("bad_request", address="lead1@example.com")
    lifecycle.start_campaign(engine, campaign_id)
    assert_exact(engine)
    send_due_emails(resources, 30.0)
    assert_exact(engine)
    lifecycle.pause_campaign(engine, campaign_id)
    assert_exact(engine)
    lifecycle.resume_campaign(engine, campaign_id)
    pass_time(engine, DAY)
    assert_exact(engine)
    with engine.begin() as changing:
        suppressions.suppress_all(changing, [NewSuppression("lead2@example.com", "manual")], "test")
        leads.delete(changing, rows_of(engine, campaign_id)[0]["lead_id"])
    assert_exact(engine)
    send_due_emails(resources, 30.0)
    lifecycle.cancel_campaign(engine, campaign_id)
    assert_exact(engine)
    with engine.begin() as changing:
        campaigns.delete(changing, campaign_id, "test")
    assert_exact(engine)
    with engine.connect() as looking:
        assert looking.scalar(sa.text("SELECT count(*) FROM campaign_counts")) == 0


def test_folding_changes_no_sum(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    campaign_id = make_campaign(connection, 5, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    before = stats(engine, campaign_id)
    for _ in range(2):
        with engine.begin() as folding:
            campaign_counts.fold(folding)
        assert stats(engine, campaign_id)["by_step"] == before["by_step"]
        assert_exact(engine)
    totals = connection.execute(sa.text("SELECT count(*), bool_and(is_total) FROM campaign_counts")).one()
    # Step 1: pending and sending, both none any more, and sent; step 2: pending.
    assert tuple(totals) == (4, True)
    days = connection.execute(sa.text("SELECT what, count, is_total FROM daily_counts")).all()
    assert [tuple(day) for day in days] == [("sent", 5, True)]


def test_campaign_that_somebody_holds_is_folded_later(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(sa.text("SELECT FROM campaigns FOR UPDATE"))
    changes = sa.text("SELECT count(*) FROM campaign_counts WHERE NOT is_total")
    with engine.begin() as folding:
        campaign_counts.fold(folding)
        assert folding.scalar(changes) == 1
    connection.rollback()
    with engine.begin() as folding:
        campaign_counts.fold(folding)
        assert folding.scalar(changes) == 0


def test_senders_of_one_campaign_do_not_wait_for_each_other_to_count(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    first, second = (row["id"] for row in rows_of(engine, campaign_id))
    skip = sa.text("UPDATE scheduled_emails SET status = 'skipped', reason = 'late' WHERE id = :id")
    connection.execute(skip, {"id": first})
    with engine.begin() as other:
        other.execute(sa.text("SET LOCAL lock_timeout = '1ms'"))
        other.execute(skip, {"id": second})
    connection.commit()
    assert stats(engine, campaign_id)["by_status"]["skipped"] == 2


@pytest.mark.parametrize("minutes", [0, 30])
def test_expected_end_follows_from_the_rate_and_the_last_due_time(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, minutes: int
) -> None:
    campaign_id = make_campaign(connection, 30, [NO_DELAY, dt.timedelta(hours=1)])
    lifecycle.start_campaign(engine, campaign_id)
    assert stats(engine, campaign_id)["expected_to_finish_at"] is None
    send_due_emails(resources, 30.0)
    if minutes:
        pass_time(engine, dt.timedelta(minutes=minutes))
    seen = stats(engine, campaign_id)
    assert seen["by_status"] == {"pending": 30, "sending": 0, "sent": 30, "failed": 0, "skipped": 0, "cancelled": 0}
    # Thirty in the time since the start, which counts as a minute at least.
    assert seen["emails_per_second"] == pytest.approx(30 / max(60, minutes * 60), rel=0.05)
    rest = dt.timedelta(seconds=30 / seen["emails_per_second"])
    # What is overdue is expected from now on, which goes on between the two statements.
    assert abs(seen["expected_to_finish_at"] - seen["next_due_at"] - rest) < dt.timedelta(seconds=5)
    lifecycle.pause_campaign(engine, campaign_id)
    assert stats(engine, campaign_id)["expected_to_finish_at"] is None


def test_stats_of_a_large_campaign_touch_a_few_blocks(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    connection.execute(
        sa.text("""
            INSERT INTO scheduled_emails (campaign_id, workflow_step_number, scheduled_for, status, sent_at)
            SELECT :id, 1 + mod(n, 2), now() - interval '1 day', CASE mod(n, 3) WHEN 0 THEN 'pending' ELSE 'sent' END,
                   CASE WHEN mod(n, 3) > 0 THEN now() - make_interval(mins => mod(n, 600)) END
            FROM generate_series(1, 60000) n
        """),
        {"id": campaign_id},
    )
    campaign_counts.fold(connection)
    assert connection.scalar(sa.text("SELECT pg_relation_size('scheduled_emails') / 8192")) > 800
    blocks = 0
    for statement in (campaign_counts._BY_STEP, campaign_counts._DUE, campaign_counts._RATE):
        explained = sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
        plan: Any = connection.execute(explained, {"campaign_id": campaign_id}).scalar_one()
        top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        blocks += top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    assert blocks < 60


def test_results_are_counted_by_step(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY], track_opens=True)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        changing.execute(sa.text("UPDATE emails SET delivered_at = now(), opened_at = now()"))
    pass_time(engine, DAY)
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        changing.execute(sa.text("UPDATE emails SET delivered_at = now() WHERE delivered_at IS NULL"))
        reply = {"message_id": "1", "source": "api", "from_address": "a", "subject": "", "body_text": ""}
        second = sa.text("SELECT e.email_id FROM scheduled_emails e WHERE workflow_step_number = 2 LIMIT 1")
        answered = {"campaign_id": campaign_id, "email_id": changing.scalar(second)}
        changing.execute(sa.insert(replies).values(**reply, **answered))
        campaign_counts.fold(changing)
    steps = stats(engine, campaign_id)["by_step"]
    names = ("sent", "delivered", "opened", "replied")
    assert [[step["funnel"][name] for name in names] for step in steps] == [[2, 2, 2, 0], [2, 2, 0, 1]]
    assert [step["rates"]["replied"] for step in steps] == [0.0, 0.5]


def test_results_from_before_they_were_counted_by_step_leave_the_funnel_of_steps_out(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as changing:
        counted = "INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count) "
        changing.execute(sa.text(f"{counted} VALUES (:id, 'delivered', 0, now(), 1)"), {"id": str(campaign_id)})
    assert [step["funnel"] for step in stats(engine, campaign_id)["by_step"]] == [None, None]


def test_overview_reads_the_days_of_all_campaigns_together(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    for number in range(2):
        lifecycle.start_campaign(engine, make_campaign(connection, 3, name=str(number)))
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        for days in (1, 40):
            changing.execute(
                sa.text("""
                    INSERT INTO campaign_counts (campaign_id, what, hour, count)
                    SELECT id, 'sent', now() - make_interval(days => :days), 7 FROM campaigns
                """),
                {"days": days},
            )
    statements: list[str] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *asked: statements.append(asked[2]))
    seen = campaign_counts.overview(connection)
    assert seen["last_30_days"]["sent"] == 20
    assert sum("FROM daily_counts" in statement for statement in statements) == 1
    assert not any("campaign_counts" in statement for statement in statements)


def test_overview_forgets_a_campaign_that_is_deleted(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    first, second = (make_campaign(connection, count, name=str(count)) for count in (2, 3))
    for campaign_id in (first, second):
        lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        campaign_counts.fold(changing)
        campaigns.delete(changing, first, "test")
    assert campaign_counts.overview(connection)["last_30_days"]["sent"] == 3
