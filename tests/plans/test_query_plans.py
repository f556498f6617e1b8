"""What the sender asks every minute touches open rows only, however much history there is and whatever the planner
knows about it."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from sendledger.campaigns import background_work, completion, failed_emails, late_emails, lifecycle
from sendledger.content.render_email import RenderedEmail
from sendledger.core import database
from sendledger.core.kept_statements import KEPT, _numbered
from sendledger.core.settings import DatabaseSettings
from sendledger.feedback import match_events, record_events
from sendledger.ledger import claim_emails, record_results, sweep
from sendledger.ledger.record_results import SendResult
from sendledger.policy import business_days, lane_queue
from sendledger.ses.answers import Answer, SendOutcome
from testbed.campaigns import DAY, NO_DELAY, make_campaign
from testbed.databases import OWNER, admin

HISTORY = 200_000
MANY = 40
"""Campaigns that run at once."""
LANES = 20_000
BLOCK = 8192


@pytest.fixture(scope="module", params=["stale", "fresh"])
def engine(request: pytest.FixtureRequest, postgres: Postgres, template_database: str) -> Iterator[sa.Engine]:
    """A database with 200,000 rows of completed campaigns. `stale`: the planner believes that it is almost empty."""
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE plans_{request.param} TEMPLATE {template_database}"))
    url = postgres.url(f"plans_{request.param}")
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with created.connect() as connection:
        connection.execute(sa.text("ALTER TABLE scheduled_emails SET (autovacuum_enabled = off)"))
        connection.execute(sa.text("ANALYZE scheduled_emails"))
        for _ in range(4):
            _write_history(connection, make_campaign(connection, 1))
        connection.commit()
        if request.param == "fresh":
            connection.execute(sa.text("ANALYZE"))
            connection.commit()
    yield created
    created.dispose()


def _write_step(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    connection.execute(
        sa.text("""
            INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
            VALUES (:id, 1, interval '0', 's', 'b')
        """),
        {"id": campaign_id},
    )


def _write_history(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    _write_step(connection, campaign_id)
    connection.execute(
        sa.text("""
            INSERT INTO scheduled_emails (campaign_id, workflow_step_number, scheduled_for, status, sent_at)
            SELECT :id, 1, now() - interval '1 day', 'sent', now() FROM generate_series(1, :count)
        """),
        {"id": campaign_id, "count": HISTORY // 4},
    )
    connection.execute(
        sa.text("""
            INSERT INTO scheduled_emails
                (campaign_id, workflow_step_number, scheduled_for, status, error_code, failed_at)
            SELECT :id, 1, now() - interval '1 day', 'failed', 'rejected', now() FROM generate_series(1, :count)
        """),
        {"id": campaign_id, "count": HISTORY // 40},
    )
    connection.execute(sa.text("UPDATE campaigns SET status = 'completed' WHERE id = :id"), {"id": campaign_id})


@pytest.fixture
def first_campaign(postgres: Postgres, template_database: str) -> Iterator[sa.Engine]:
    """A database whose only campaign has just started, and a planner that knows that nothing was ever sent."""
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE plans_first TEMPLATE {template_database}"))
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": postgres.url("plans_first")}))
    with created.connect() as connection:
        connection.execute(sa.text("ALTER TABLE scheduled_emails SET (autovacuum_enabled = off)"))
        lifecycle.start_campaign(created, make_campaign(connection, 10000))
        connection.execute(sa.text("ANALYZE"))
        connection.commit()
    yield created
    created.dispose()
    with admin(postgres) as connection:
        connection.execute(sa.text("DROP DATABASE plans_first"))


@pytest.fixture
def running(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """The only campaign that runs."""
    connection.execute(sa.text("UPDATE campaigns SET status = 'cancelled' WHERE status = 'running'"))
    campaign_id = make_campaign(connection, 1000, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.fixture
def many_running(connection: sa.Connection) -> None:
    """Campaigns that have just started, with nothing due yet; the planner does not know of their rows."""
    connection.execute(sa.text("UPDATE campaigns SET status = 'cancelled' WHERE status = 'running'"))
    for _ in range(MANY):
        campaign_id = make_campaign(connection, 1)
        connection.execute(sa.text("UPDATE campaigns SET status = 'running' WHERE id = :id"), {"id": campaign_id})
        _write_step(connection, campaign_id)
        connection.execute(
            sa.text("""
                INSERT INTO scheduled_emails (campaign_id, workflow_step_number, scheduled_for, status)
                SELECT :id, 1, now() + interval '1 day', 'pending' FROM generate_series(1, 500)
            """),
            {"id": campaign_id},
        )
    connection.commit()


def explain(connection: sa.Connection, statement: sa.TextClause, parameters: dict[str, Any]) -> dict[str, Any]:
    """The plan as it was run, with what it touched; rolled back."""
    connection.execute(sa.text(f"SET LOCAL ROLE {OWNER}_sender"))  # row security applies to it
    explained = sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
    explained = explained.bindparams(*statement._bindparams.values())
    plan: Any = connection.execute(explained, parameters).scalar_one()
    connection.rollback()
    found: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        node for node in nodes(plan) if node.get("Relation Name") == "scheduled_emails" and "Scan" in node["Node Type"]
    ]


def touched(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def claim_plan(connection: sa.Connection, batch: int) -> dict[str, Any]:
    parameters = {"batch": batch, "token": uuid.uuid4(), "lease": claim_emails.LEASE, "alone": False}
    return explain(connection, claim_emails._CLAIM, parameters)


def assert_touches_no_history(connection: sa.Connection, plan: dict[str, Any], blocks: int) -> None:
    for scan in scans(plan):
        assert scan["Node Type"] != "Seq Scan", f"reads the table: {scan}"
        assert scan.get("Rows Removed by Filter", 0) == 0, f"reads rows that it does not need: {scan}"
    size = connection.execute(sa.text("SELECT pg_relation_size('scheduled_emails')")).scalar_one() // BLOCK
    assert touched(plan) < blocks < size


def test_claim_reads_due_rows_by_the_partial_index(connection: sa.Connection, running: uuid.UUID) -> None:
    plan = claim_plan(connection, 10)
    used = {scan.get("Index Name") for scan in scans(plan)}
    assert "scheduled_emails_open_idx" in used
    assert used <= {"scheduled_emails_open_idx", "scheduled_emails_pkey"}
    assert_touches_no_history(connection, plan, 600)


def test_idle_claim_touches_next_to_nothing(connection: sa.Connection, running: uuid.UUID) -> None:
    connection.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = now() + '1 day' WHERE status = 'pending'"))
    connection.commit()
    plan = claim_plan(connection, 500)
    assert_touches_no_history(connection, plan, 250)


def test_many_campaigns_that_have_just_started_are_looked_at_one_by_one(
    connection: sa.Connection, many_running: None
) -> None:
    parameters = {"late_after": dt.timedelta(hours=1)}
    for statement, values in ((completion._FINISHED, {}), (late_emails._LATE_CAMPAIGNS, parameters)):
        connection.execute(sa.text("UPDATE sender_state SET last_tick_at = '2020-01-01'"))
        plan = explain(connection, statement, values)
        used = {scan.get("Index Name") for scan in scans(plan)}
        assert used <= {"scheduled_emails_open_idx", "scheduled_emails_in_lane_idx"}
        # A few blocks of the index for each, and the table for the first row of each.
        assert touched(plan) < MANY * 12


def test_completion_check_stops_at_the_first_open_row(connection: sa.Connection, running: uuid.UUID) -> None:
    plan = explain(connection, completion._COMPLETE, {"campaign_id": running})
    used = {scan.get("Index Name") for scan in scans(plan)}
    assert used == {"scheduled_emails_open_idx"}
    assert_touches_no_history(connection, plan, 250)


def test_sweep_touches_only_what_is_being_sent(connection: sa.Connection, running: uuid.UUID) -> None:
    for statement, parameters in (
        (sweep._FORGET, {"after": 0, "most": sweep.CLAIMS_AT_ONCE}),
        (sweep._RETURN, {"dead": [uuid.uuid4()], "poison": []}),
        (sweep._GIVE_UP, {"grace": sweep.GRACE}),
    ):
        assert_touches_no_history(connection, explain(connection, statement, parameters), 60)


def recording_plan(engine: sa.Engine, connection: sa.Connection, emails: int) -> dict[str, Any]:
    """The plan by which the results of so many emails, claimed and fenced now, are recorded."""
    token = uuid.uuid4()
    with engine.begin() as opened:
        claimed = claim_emails.claim(opened, emails, token)
    with engine.begin() as opened:
        claim_emails.fence(opened, claimed, token)
    assert len(claimed) == emails
    sent = SendOutcome(Answer.SENT, message_id="m")
    rendered = RenderedEmail("s", "t", None)
    rows = [record_results._row(SendResult(email, sent, rendered, 0.0), 1.0) for email in claimed]
    parameters = record_results._parameters(rows, token, first_hand=True)
    return explain(connection, record_results._RECORD, parameters)


@pytest.mark.parametrize("fenced_rows", [10, 500])
def test_recording_finds_rows_by_their_ids_and_leads(
    engine: sa.Engine, connection: sa.Connection, running: uuid.UUID, fenced_rows: int
) -> None:
    # Statistics from the start of the first campaign: of so many rows none is sent yet.
    connection.execute(sa.text("DELETE FROM scheduled_emails WHERE status <> 'pending'"))
    connection.execute(sa.text("ANALYZE scheduled_emails"))
    connection.execute(
        sa.text("UPDATE scheduled_emails SET status = 'sent', sent_at = now() WHERE workflow_step_number = 2")
    )
    connection.commit()
    plan = recording_plan(engine, connection, fenced_rows)
    used = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    by_lead = "scheduled_emails_lead_id_campaign_id_workflow_step_number_key"
    possible = {"scheduled_emails_pkey", "scheduled_emails_outcome_unknown_idx", by_lead}
    assert {name for name in used if name.startswith("scheduled_emails")} <= possible
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans(plan)}


@pytest.mark.parametrize(
    "statement",
    [
        claim_emails._CLAIM,
        claim_emails._FENCE,
        record_results._RECORD,
        match_events._MATCH,
        record_events._WRITE,
        business_days._CALENDARS,
    ],
    ids=["claim", "fence", "record", "match", "events", "calendars"],
)
def test_plan_that_is_kept_for_all_values_does_not_read_the_whole_ledger(
    connection: sa.Connection, statement: sa.TextClause
) -> None:
    assert "scheduled_emails" not in read_whole_by_kept_plan(connection, statement)


def read_whole_by_kept_plan(connection: sa.Connection, statement: sa.TextClause) -> set[str | None]:
    if (connection.dialect.server_version_info or ()) < (16,):
        pytest.skip("EXPLAIN shows such plans since PostgreSQL 16")
    written = str(statement.compile(dialect=connection.dialect))
    assert written.startswith(KEPT)
    explained = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {_numbered(written)}").scalar_one()
    return {node.get("Relation Name") for node in nodes(explained[0]["Plan"]) if node["Node Type"] == "Seq Scan"}


@pytest.fixture
def deep_lanes(connection: sa.Connection, running: uuid.UUID) -> None:
    """A hundred thousand due emails in two of many lanes, of which the planner knows."""
    connection.execute(sa.text("UPDATE campaigns SET new_leads_per_day = 9 WHERE id = :id"), {"id": running})
    lanes = (
        "INSERT INTO campaign_lanes (campaign_id, lane, time_zone) SELECT :id, n, n FROM generate_series(1, :lanes) n"
    )
    connection.execute(sa.text(lanes), {"id": running, "lanes": LANES})
    emails = """
        INSERT INTO scheduled_emails (campaign_id, workflow_step_number, scheduled_for, lane)
        SELECT :id, 1, now(), 1 + mod(n, 2) FROM generate_series(1, 100000) n
    """
    connection.execute(sa.text(emails), {"id": running})
    connection.execute(sa.text("ANALYZE scheduled_emails, campaign_lanes"))


@pytest.mark.parametrize("limits", lane_queue.Limits)
@pytest.mark.usefixtures("deep_lanes")
def test_kept_plan_of_a_claim_from_deep_lanes_does_not_read_the_whole_ledger(
    connection: sa.Connection, limits: lane_queue.Limits
) -> None:
    claim = claim_emails._CLAIM_FROM_LANES[limits, False]
    assert "scheduled_emails" not in read_whole_by_kept_plan(connection, claim)


@pytest.mark.usefixtures("deep_lanes")
def test_open_lanes_are_found_without_reading_the_whole_ledger(connection: sa.Connection) -> None:
    plan = explain(connection, lane_queue._FIND, {"open_zones": "[]", "alone": False})
    assert plan["Actual Rows"] == 1
    assert {scan["Node Type"] for scan in scans(plan)} == {"Index Scan"}


@pytest.mark.usefixtures("deep_lanes")
def test_what_waits_in_closed_lanes_is_not_looked_for(connection: sa.Connection, running: uuid.UUID) -> None:
    schedule = """
        WITH made AS (INSERT INTO sending_schedules (name, time_zone, zone_of, hours)
                      VALUES ('Always', 'UTC', 'lead', '{}') RETURNING id)
        UPDATE campaigns SET sending_schedule_id = made.id FROM made WHERE campaigns.id = :id
        RETURNING sending_schedule_id
    """
    zone = {
        "number": 1,
        "schedule_id": str(connection.execute(sa.text(schedule), {"id": running}).scalar_one()),
        "revision": 1,
        "lead_zone": "2",
        "opens_at": None,
    }
    plan = explain(connection, lane_queue._FIND, {"open_zones": json.dumps([zone]), "alone": False})
    assert plan["Actual Rows"] == 1
    (looked_for,) = scans(plan)
    assert looked_for["Actual Loops"] == 1


def compared_in_vain(plan: dict[str, Any]) -> int:
    return sum(node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"] for node in nodes(plan))


def test_recording_the_first_emails_ever_compares_each_with_its_own_row_only(first_campaign: sa.Engine) -> None:
    with first_campaign.connect() as connection:
        assert compared_in_vain(recording_plan(first_campaign, connection, 500)) <= 500


def test_fence_of_the_first_emails_ever_compares_each_with_its_own_row_only(first_campaign: sa.Engine) -> None:
    token = uuid.uuid4()
    with first_campaign.begin() as opened:
        claimed = claim_emails.claim(opened, 500, token)
    parameters = {"ids": [email.id for email in claimed], "outdated": [], "token": token, "business_gaps": "[]"}
    with first_campaign.connect() as connection:
        plan = explain(connection, claim_emails._FENCE, parameters)
    assert plan["Actual Rows"] == 500
    assert compared_in_vain(plan) <= 500


def test_background_work_of_the_first_campaign_compares_each_row_with_itself_only(first_campaign: sa.Engine) -> None:
    with first_campaign.connect() as connection:
        campaign_id = connection.execute(sa.text("SELECT id FROM campaigns")).scalar_one()
        limits: dict[str, Any] = {"campaign_id": campaign_id, "limit": 1000}
        late = {**limits, "skip": True, "until": dt.datetime.now(dt.UTC), "due_at": None, "lanes": "{}"}
        plans = [
            explain(connection, background_work._CANCEL, {**limits, "reason": "paused"}),
            explain(connection, background_work._LATE, late),
        ]
        connection.execute(sa.text("UPDATE scheduled_emails SET status = 'cancelled', reason = 'paused'"))
        connection.commit()
        plans.append(explain(connection, background_work._RESUME, {**limits, "after_id": 0, "shift_seconds": 60.0}))
        plans.append(explain(connection, background_work._LATE_IN_PAUSE, late | {"after_id": 0}))
    for plan in plans:
        chunks = [node for node in nodes(plan) if node.get("Subplan Name") == "CTE chunk"]
        assert [node["Actual Rows"] for node in chunks] == [1000]
        assert compared_in_vain(plan) <= 1000


def read_by(plan: dict[str, Any], name: str) -> Any:
    """Rows of the ledger that this part of a statement reads."""
    (part,) = (node for node in nodes(plan) if node.get("Subplan Name") == f"CTE {name}")
    found = scans(part)
    assert found
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in found
        if node["Node Type"] != "Bitmap Index Scan"
    )


def test_chunk_of_a_decision_about_late_emails_does_not_read_what_is_decided(first_campaign: sa.Engine) -> None:
    with first_campaign.connect() as connection:
        campaign_id = connection.scalar(sa.text("SELECT id FROM campaigns"))
        pause = """
            UPDATE scheduled_emails
            SET status = 'cancelled', reason = 'paused', scheduled_for = now() - interval '1 day'
        """
        connection.execute(sa.text(pause))
        after_id = connection.scalar(sa.text("SELECT id FROM scheduled_emails ORDER BY id OFFSET 8999 LIMIT 1"))
        # As the chunks before have released them.
        released = sa.text("UPDATE scheduled_emails SET scheduled_for = now() WHERE id <= :id")
        connection.execute(released, {"id": after_id})
        connection.commit()
        until = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        late = {"campaign_id": campaign_id, "limit": 1000, "skip": False, "until": until, "due_at": None, "lanes": "{}"}
        plan = explain(connection, background_work._LATE_IN_PAUSE, late | {"after_id": after_id})
    assert read_by(plan, "in_lanes") == 1000


def test_chunk_of_failed_emails_does_not_read_what_was_left_before(first_campaign: sa.Engine) -> None:
    """Those that cannot be put back."""
    with first_campaign.connect() as connection:
        campaign_id = connection.scalar(sa.text("SELECT id FROM campaigns"))
        fail = """
            UPDATE scheduled_emails SET status = 'failed', failed_at = now() + make_interval(secs => id),
                   error_code = CASE WHEN id <= :id THEN 'undefined_variable' ELSE 'bad_request' END
        """
        after_id = connection.scalar(sa.text("SELECT id FROM scheduled_emails ORDER BY id OFFSET 8999 LIMIT 1"))
        connection.execute(sa.text(fail), {"id": after_id})
        connection.commit()
        failed_at = connection.scalar(
            sa.text("SELECT failed_at FROM scheduled_emails WHERE id = :id"), {"id": after_id}
        )
        back = {"campaign_id": campaign_id, "limit": 1000, "codes": ["bad_request"]}
        back |= {"after_failed_at": failed_at, "after_id": after_id}
        plan = explain(connection, failed_emails._typed(failed_emails._PUT_BACK), back)
    # Each of the thousand, and the row that tells whether its lead was taken out of the campaign.
    assert read_by(plan, "chunk") < 3000


def test_sweep_of_the_first_emails_ever_compares_each_with_its_own_row_only(first_campaign: sa.Engine) -> None:
    with first_campaign.begin() as opened:
        assert len(claim_emails.claim(opened, 500, uuid.uuid4())) == 500
        opened.execute(
            sa.text("UPDATE scheduled_emails SET lease_until = now() - interval '1 s' WHERE status = 'sending'")
        )
    with first_campaign.connect() as connection:
        plan = explain(connection, sweep._RETURN, {"dead": [uuid.uuid4()], "poison": []})
    assert plan["Actual Rows"] == 500
    assert compared_in_vain(plan) <= 500
