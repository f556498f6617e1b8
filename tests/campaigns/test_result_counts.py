"""Statistics by sender, variant and revision are counted as things happen, and no ledger is read for them."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from local.ses_simulator import SesSimulator
from sendledger.campaigns import (
    campaign_counts,
    campaigns,
    detailed_results,
    lifecycle,
    reassign_leads,
    step_results,
    variants,
)
from sendledger.core.tables import emails, replies, unsubscribes
from sendledger.leads import leads
from sendledger.ledger import sweep
from sendledger.policy import sender_addresses
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_variants, make_workflow, pass_time
from testbed.databases import SCRIPTS
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for

SECONDS = 60.0
BEFORE_REPLIES, WITH_REPLIES = "0077", "0078"
"""The revisions before and with the triggers that count replies and opt-outs."""
LEDGER = sa.text("""
    SELECT l.sender_id, e.variant, e.status, count(*) AS emails FROM scheduled_emails e
    JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    WHERE e.campaign_id = :id AND e.workflow_step_number = 1 GROUP BY 1, 2, 3
""").bindparams(sa.bindparam("id", type_=sa.UUID))


def make_senders(engine: sa.Engine, *names: str) -> list[uuid.UUID]:
    with engine.begin() as connection:
        return [sender_addresses.create(connection, {"from_address": f"{name}@example.com"})["id"] for name in names]


def emails_of(connection: sa.Connection, campaign_id: uuid.UUID) -> list[Any]:
    found = sa.select(emails.c.id, emails.c.lead_id, emails.c.campaign_id, emails.c.scheduled_email_id)
    of_campaign = found.where(emails.c.campaign_id == campaign_id).order_by(emails.c.scheduled_email_id)
    return list(connection.execute(of_campaign))


def reply(connection: sa.Connection, email: Any, automatic: str | None = None) -> None:
    message = {"message_id": uuid.uuid4().hex, "source": "ses", "from_address": "a@b.example", "subject": "Re"}
    answered = {"lead_id": email.lead_id, "campaign_id": email.campaign_id, "email_id": email.id}
    values = {**message, **answered, "body_text": "Yes", "matched_by": "token", "automatic": automatic}
    connection.execute(sa.insert(replies).values(values))


def opt_out(connection: sa.Connection, email: Any) -> None:
    by = {"lead_id": email.lead_id, "campaign_id": email.campaign_id, "scheduled_email_id": email.scheduled_email_id}
    connection.execute(sa.insert(unsubscribes).values(**by, scope="campaign", method="page"))


def complain(connection: sa.Connection, email: Any) -> None:
    connection.execute(sa.update(emails).where(emails.c.id == email.id).values(delivery_status="complained"))


def came_back(found: dict[str, Any]) -> dict[str, int]:
    return {name: found["funnel"][name] for name in ("replied", "unsubscribed", "complained")}


def started(engine: sa.Engine, count: int, sender_ids: list[uuid.UUID]) -> uuid.UUID:
    """Two steps; the first one has three variants."""
    with engine.begin() as connection:
        workflow_id = make_workflow(connection, [NO_DELAY, DAY])
        make_variants(connection, workflow_id, [1, 1, 1])
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, count, workflow_id=workflow_id, sender_ids=sender_ids)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def stats(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[str, Any]:
    with engine.begin() as connection:
        return campaign_counts.campaign_stats(connection, campaigns.get_campaign(connection, campaign_id))


def assert_true(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    """What the statistics say of the first step is what its rows say."""
    by_sender, by_variant = Counter[Any](), Counter[Any]()
    with engine.connect() as connection:
        for row in connection.execute(LEDGER, {"id": campaign_id}):
            by_sender[row.sender_id, row.status] += row.emails
            by_variant[row.variant, row.status] += row.emails
        second = "SELECT l.sender_id, e.status FROM scheduled_emails e JOIN campaign_lanes l USING (campaign_id, lane)"
        for sender_id, status in connection.execute(sa.text(f"{second} WHERE e.workflow_step_number = 2")):
            by_sender[sender_id, status] += 1
    found = stats(engine, campaign_id)
    assert {
        (each["sender_id"], status): count
        for each in found["by_sender"]
        for status, count in each["by_status"].items()
        if count
    } == by_sender
    assert {
        (each["variant"], status): count
        for each in found["by_step"][0]["variants"]
        for status, count in each["by_status"].items()
        if count
    } == by_variant


def test_statistics_are_true_after_all_that_can_happen(
    engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann, bob, cia = make_senders(engine, "ann", "bob", "cia")
    campaign_id = started(engine, 13, [ann, bob])
    assert_true(engine, campaign_id)
    with engine.begin() as connection:
        variants.retire(connection, campaign_id, 1, 2, "ann")
        reassign_leads.reassign(connection, bob, cia, "ann")
    send_due_emails(resources, SECONDS)
    assert_true(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    assert_true(engine, campaign_id)
    lifecycle.resume_campaign(engine, campaign_id)
    with engine.begin() as connection:
        lead = connection.execute(sa.text("SELECT id FROM leads LIMIT 1")).scalar_one()
        leads.delete(connection, lead, "ann")
    let_it_settle(engine, resources)
    assert_true(engine, campaign_id)
    assert sum(each["by_status"]["sent"] for each in stats(engine, campaign_id)["by_sender"]) == 25
    assert_ledger_is_consistent(engine, ses)


@pytest.mark.parametrize("has_senders", [True, False], ids=["senders", "plain"])
def test_what_comes_back_is_counted_once_for_each_email(
    engine: sa.Engine, resources: Resources, has_senders: bool
) -> None:
    if has_senders:
        campaign_id = started(engine, 5, make_senders(engine, "ann", "bob"))
    else:
        with engine.connect() as connection:
            campaign_id = make_campaign(connection, 5, [NO_DELAY, DAY])
        lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        first, second, third, *_ = emails_of(connection, campaign_id)
        for email, automatic in ((first, None), (first, None), (second, "subject"), (second, None), (third, "subject")):
            reply(connection, email, automatic)
        for email in (first, second, third):
            opt_out(connection, email)
        complain(connection, third)
    with engine.begin() as connection:
        connection.execute(
            sa.update(unsubscribes).where(unsubscribes.c.lead_id == first.lead_id).values(undone_at=sa.func.now())
        )
        campaign_counts.fold(connection)
    found, expected = stats(engine, campaign_id), {"replied": 2, "unsubscribed": 2, "complained": 1}
    assert came_back(found["by_step"][0]) == expected
    assert came_back(found["by_step"][1]) == dict.fromkeys(expected, 0)
    of_senders = sum((Counter(came_back(each)) for each in found["by_sender"]), Counter[str]())
    assert of_senders == (expected if has_senders else {})


def test_two_replies_to_one_email_at_the_same_time_count_once(engine: sa.Engine, resources: Resources) -> None:
    campaign_id = started(engine, 3, make_senders(engine, "ann"))
    send_due_emails(resources, SECONDS)
    with engine.connect() as one, engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        email = emails_of(one, campaign_id)[0]
        reply(one, email)

        def reply_too() -> None:
            with engine.begin() as other:
                reply(other, email)

        def is_waiting() -> bool:
            watching.rollback()
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            return bool(watching.scalar(sa.text(waiting)))

        replying = pool.submit(reply_too)
        try:
            wait_for(is_waiting, "the second reply waits for the first")
        finally:
            one.commit()
        replying.result()
    assert came_back(stats(engine, campaign_id)["by_step"][0])["replied"] == 1


def test_migration_counts_what_came_back_before_the_triggers(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    of_senders = started(engine, 4, make_senders(engine, "ann"))
    plain = make_campaign(connection, 4, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, plain)
    send_due_emails(resources, SECONDS)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, BEFORE_REPLIES)
    connection.commit()
    for number, revision in enumerate([WITH_REPLIES, "head"]):
        for campaign_id in (of_senders, plain):
            email = emails_of(connection, campaign_id)[number]
            reply(connection, email)
            opt_out(connection, email)
            complain(connection, email)
        connection.commit()
        command.upgrade(config, revision)
        connection.commit()
    for campaign_id in (of_senders, plain):
        found = stats(engine, campaign_id)["by_step"][0]
        assert came_back(found) == {"replied": 2, "unsubscribed": 2, "complained": 2}


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("back_to", "dies_at"),
    [(BEFORE_REPLIES, "DROP FUNCTION IF EXISTS count_results_of_opt_outs"), ("0067", "DROP TABLE result_counts")],
)
def test_counting_goes_on_after_a_downgrade_that_was_interrupted_and_an_upgrade(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, back_to: str, dies_at: str
) -> None:
    of_senders = started(engine, 6, make_senders(engine, "ann"))
    plain = make_campaign(connection, 6, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, plain)
    send_due_emails(resources, SECONDS)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)

    def die(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(dies_at):
            raise Interrupted

    def come_back(number: int) -> None:
        for campaign_id in (of_senders, plain):
            email = emails_of(connection, campaign_id)[number]
            reply(connection, email)
            opt_out(connection, email)
            complain(connection, email)
        connection.commit()

    come_back(0)
    sa.event.listen(connection, "before_cursor_execute", die)
    with pytest.raises(Interrupted):
        command.downgrade(config, back_to)
    sa.event.remove(connection, "before_cursor_execute", die)
    connection.invalidate()
    connection.rollback()
    come_back(1)
    command.upgrade(config, "head")
    connection.commit()
    come_back(2)

    for campaign_id in (of_senders, plain):
        found = stats(engine, campaign_id)["by_step"][0]
        assert came_back(found) == {"replied": 3, "unsubscribed": 3, "complained": 3}
    assert_true(engine, of_senders)


def test_folding_changes_no_sum(engine: sa.Engine, resources: Resources) -> None:
    campaign_id = started(engine, 8, make_senders(engine, "ann", "bob"))
    send_due_emails(resources, SECONDS)
    before = stats(engine, campaign_id)
    for _ in range(2):
        with engine.begin() as connection:
            campaign_counts.fold(connection)
    assert stats(engine, campaign_id) == before
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT is_total, count(*) FROM result_counts GROUP BY 1")).all()
    assert [is_total for is_total, _ in rows] == [True]


def test_what_senders_do_between_two_counts_makes_no_number_negative(engine: sa.Engine, resources: Resources) -> None:
    campaign_id = started(engine, 3, make_senders(engine, "ann"))
    before = {each["step_number"]: each["by_status"] for each in stats(engine, campaign_id)["by_step"]}
    send_due_emails(resources, SECONDS)
    with engine.connect() as connection:
        found = detailed_results.detailed_results(connection, campaign_id, before, {1: {"unsubscribed": 0}})
    assert {sender_id is None for _, _, _, sender_id in found} == {False}


COUNTED = ("campaign_counts", "result_counts", "removed_emails", "campaign_lanes", "claims")


@pytest.mark.parametrize("statement", [detailed_results._RESULTS, step_results._RESULTS], ids=["detailed", "by step"])
def test_ledger_and_what_came_back_are_not_read(
    engine: sa.Engine, resources: Resources, statement: sa.TextClause
) -> None:
    campaign_id = started(engine, 500, make_senders(engine, "ann"))
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        for email in emails_of(connection, campaign_id):
            reply(connection, email)
        campaign_counts.fold(connection)
    assert sweep.forget_settled_claims(engine, time.monotonic() + SECONDS)
    with engine.connect() as connection:
        explained = sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
        plan = connection.execute(
            explained.bindparams(*statement._bindparams.values()), {"campaign_id": campaign_id}
        ).scalar_one()
    scans = scans_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    read = [scan for scan in scans if "Relation Name" in scan]
    assert {"result_counts"} <= {scan["Relation Name"] for scan in read}
    others = [scan for scan in read if scan["Relation Name"] not in COUNTED]
    assert {scan["Relation Name"] for scan in others} <= {"scheduled_emails"}
    assert all(scan["Actual Rows"] * scan["Actual Loops"] == 0 for scan in others)
    assert all(scan.get("Rows Removed by Filter", 0) == 0 for scan in others)
    counts = [scan for scan in read if scan["Relation Name"] in ("campaign_counts", "result_counts")]
    assert sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in counts) < 50


def scans_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(scan for child in plan.get("Plans", []) for scan in scans_of(child))]


@pytest.mark.parametrize("first", [1, 199], ids=["one first", "most first"])
def test_counting_what_was_reported_looks_up_the_rows_of_these_emails_only(
    engine: sa.Engine, resources: Resources, first: int
) -> None:
    """A session keeps the plan of the first call, whatever the tables are like by then."""
    campaign_id = started(engine, 200, make_senders(engine, "ann"))
    send_due_emails(resources, SECONDS)
    deliver = """
        UPDATE emails SET delivered_at = now()
        WHERE id IN (SELECT id FROM emails WHERE delivered_at IS NULL LIMIT :most)
    """
    looked_up = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_emails'"
    engine.dispose()
    with engine.begin() as connection:
        for most in (first, 200 - first):
            assert connection.execute(sa.text(deliver), {"most": most}).rowcount == most
        # By each of the two triggers.
        assert tuple(connection.execute(sa.text(looked_up)).one()) == (0, 2 * 200)
    assert sum(each["funnel"]["delivered"] for each in stats(engine, campaign_id)["by_sender"]) == 200


def test_campaign_without_senders_and_variants_has_no_such_counts(engine: sa.Engine, resources: Resources) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY], new_leads_per_day=2)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    pass_time(engine, DAY)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM result_counts")) == 0


@pytest.mark.parametrize("trigger_counts", [False, True], ids=["nothing", "a part"])
def test_migration_counts_what_the_triggers_have_not(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, trigger_counts: bool
) -> None:
    """Senders work on between the two revisions: the second one counts nothing twice."""
    campaign_id = started(engine, 9, make_senders(engine, "ann", "bob"))
    if not trigger_counts:
        send_due_emails(resources, SECONDS)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    command.downgrade(config, "0067")
    connection.commit()
    command.upgrade(config, "0068")
    connection.commit()
    if trigger_counts:
        move = "status = 'sent', sent_at = now()"
        connection.execute(sa.text(f"UPDATE scheduled_emails SET {move} WHERE workflow_step_number = 1"))
        connection.commit()
    command.upgrade(config, "head")
    connection.commit()
    assert_true(engine, campaign_id)
    connection.rollback()
