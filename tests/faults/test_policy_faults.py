"""Senders and sessions that die in campaigns with caps: nothing twice, nothing lost, and caps kept to the email."""

from __future__ import annotations

import datetime as dt
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns, intake, lifecycle, reassign_leads
from sendledger.core.tables import leads
from sendledger.ledger import claim_emails, settle_unknown, sweep
from sendledger.policy import budgets, sender_addresses
from sendledger.policy.lane_queue import LaneQueue
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, rows_of, statuses
from testbed.databases import plain_engine
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from testbed.moved_clock import MovedClock
from tests.faults.conftest import StartSender
from tests.policy.conftest import MONDAY, MakeSender, leave_unknown

SECONDS = 60.0
# Two leads of each of nine companies: enough for any sender's cap, whichever leads come first.
ADDRESSES = [f"{name}@{company}.example.com" for company in "abcdefghi" for name in "xy"]

_COUNTED = """
    SELECT coalesce(sender_id, '00000000-0000-0000-0000-000000000000'), campaign_id, sending_day,
           workflow_step_number = 1, coalesce(company, 0), count(*)
    FROM scheduled_emails
    WHERE sending_day IS NOT NULL AND (status IN ('sending', 'sent') OR error_code = 'outcome_unknown')
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
_USES = """
    SELECT sender_id, campaign_id, day, is_first, company, CAST(sum(count) AS bigint) FROM cap_uses
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0 ORDER BY 1, 2, 3, 4, 5
"""


def assert_uses_are_counted(engine: sa.Engine) -> None:
    """The counts of caps are what the ledger says."""
    with engine.connect() as connection:
        assert connection.execute(sa.text(_USES)).all() == connection.execute(sa.text(_COUNTED)).all()


def used_today(engine: sa.Engine, campaign_id: uuid.UUID) -> list[sa.RowMapping]:
    return [
        row
        for row in rows_of(engine, campaign_id)
        if row["sending_day"] == MONDAY.date()
        and (row["status"] in ("sending", "sent") or row["error_code"] == "outcome_unknown")
    ]


def capped_campaign(
    engine: sa.Engine, sender_ids: Sequence[uuid.UUID], addresses: Sequence[str] = ADDRESSES, **values: object
) -> uuid.UUID:
    """A draft of two steps with a cap of six new leads a day and of one of each company."""
    caps = {"new_leads_per_day": 6, "new_leads_per_company_per_day": 1, **values}
    with engine.connect() as connection:
        return make_campaign(connection, addresses, [NO_DELAY, DAY], sender_ids=list(sender_ids), **caps)


@pytest.mark.parametrize(
    "failpoint",
    [
        "claim.before_commit",
        "claim.after_commit",
        "fence.before_commit",
        "fence.after_commit",
        "send.before:3",
        "record.before_commit",
        "record.after_commit",
        "sweep.before_commit",
        "fold.after_commit",
    ],
)
def test_caps_are_kept_and_used_up_on_the_day_on_which_a_sender_is_killed(
    failpoint: str,
    make_sender: MakeSender,
    engine: sa.Engine,
    clock: MovedClock,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
) -> None:
    ann, bob = make_sender("ann", 4), make_sender("bob", 3)
    campaign_id = capped_campaign(engine, [ann, bob])
    lifecycle.start_campaign(engine, campaign_id)
    assert start_sender(failpoint=failpoint).wait() is None, "it did not get to the failpoint"
    for minutes in (20, 40):
        clock.move_to(MONDAY + dt.timedelta(minutes=minutes))
        send_due_emails(resources, SECONDS)
    used = used_today(engine, campaign_id)
    by_sender = Counter(row["sender_id"] for row in used)
    assert by_sender[ann] <= 4
    assert by_sender[bob] <= 3
    companies = Counter(row["company"] for row in used if row["company"] is not None)
    assert set(companies.values()) == {1}
    # What the dead sender has returned among them.
    assert len(used) == 6
    assert_uses_are_counted(engine)
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": None, "new_leads_per_company_per_day": None})
        for sender_id in (ann, bob):
            sender_addresses.update(connection, sender_id, {"daily_cap": None})
    let_it_settle(engine, resources)
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert_ledger_is_consistent(engine, ses)
    assert_uses_are_counted(engine)


def interrupted(engine: sa.Engine, nth: int, operation: Callable[[], object]) -> bool:
    """End the session after its nth statement. Returns whether it had so many."""
    done = 0

    def strike(connection: sa.Connection, cursor: object, statement: str, *rest: object) -> None:
        nonlocal done
        done += 1
        if done == nth:
            other = plain_engine(engine.url)
            with other.connect() as administrator:
                administrator.execute(
                    sa.text("""
                        SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                    """)
                )

    sa.event.listen(engine, "after_cursor_execute", strike)
    try:
        operation()
    except sa.exc.DBAPIError:
        assert done == nth
    finally:
        sa.event.remove(engine, "after_cursor_execute", strike)
    return done >= nth


def state(engine: sa.Engine) -> list[tuple[object, ...]]:
    """All that an operation may change."""
    tables = (
        "campaigns", "campaign_steps", "campaign_lanes", "scheduled_emails", "left_out_leads", "lead_batches",
        "sender_addresses", "claims", "cap_uses", "audit_log",
    )  # fmt: skip
    with engine.connect() as connection:
        return [
            tuple(
                connection.execute(
                    sa.text(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t")
                ).one()
            )
            for table in tables
        ]


def interrupt_at_each_statement(engine: sa.Engine, operation: Callable[[], object]) -> None:
    """After each of its statements in turn the session ends. Until the operation is done, all is as before."""
    before = state(engine)
    for nth in range(1, 200):
        if not interrupted(engine, nth, operation):
            assert nth > 3, "it has more statements than that"
            return
        if state(engine) != before:
            return  # interrupted after its commit, when it read what it had done
    raise AssertionError("an operation without end")


def test_session_that_ends_at_any_statement_of_a_start_leaves_no_lane_and_no_row(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    campaign_id = capped_campaign(engine, [make_sender("ann", 4), make_sender("bob")])
    interrupt_at_each_statement(engine, lambda: lifecycle.start_campaign(engine, campaign_id))
    assert statuses(engine, campaign_id) == {"pending": 36}
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM campaign_lanes")) == 4


def test_session_that_ends_at_any_statement_of_an_intake_adds_nobody(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    campaign_id = capped_campaign(engine, [make_sender("ann", 4), make_sender("bob")], evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as connection:
        make_batch(connection, ["new@d.example.com"], time_zone="Asia/Tokyo")
        lead_id = connection.scalars(sa.select(leads.c.id).where(leads.c.email == "new@d.example.com")).one()
    interrupt_at_each_statement(engine, lambda: intake.add_leads(engine, campaign_id, [lead_id], "test"))
    assert statuses(engine, campaign_id) == {"pending": 38}
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM campaign_lanes")) == 8


def test_session_that_ends_at_any_statement_of_a_reassignment_moves_nobody(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann, bob = make_sender("ann", 4), make_sender("bob")
    campaign_id = capped_campaign(engine, [ann])
    lifecycle.start_campaign(engine, campaign_id)

    def reassign() -> None:
        with engine.begin() as connection:
            reassign_leads.reassign(connection, ann, bob, "test")

    interrupt_at_each_statement(engine, reassign)
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 100, uuid.uuid4())
    assert Counter(email.from_address for email in claimed) == {"bob <bob@example.com>": 6}


def test_session_that_ends_at_any_statement_of_a_claim_uses_no_budget(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann", ramp={"start": 3, "step": 1, "ceiling": 9})
    campaign_id = capped_campaign(engine, [ann], new_leads_per_day=9)
    lifecycle.start_campaign(engine, campaign_id)

    def claim() -> None:
        with engine.begin() as connection:
            claim_emails.claim(connection, 100, uuid.uuid4())

    interrupt_at_each_statement(engine, claim)
    assert statuses(engine, campaign_id) == {"sending": 3, "pending": 33}
    claim()
    assert statuses(engine, campaign_id) == {"sending": 3, "pending": 33}
    assert_uses_are_counted(engine)


def test_session_that_ends_at_any_statement_of_a_requeue_changes_no_count(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    campaign_id = capped_campaign(engine, [make_sender("ann", 4)])
    lifecycle.start_campaign(engine, campaign_id)
    claimed = leave_unknown(engine, 1)

    def requeue() -> None:
        with engine.begin() as connection:
            settle_unknown.requeue(connection, claimed[0].id, "test")

    interrupt_at_each_statement(engine, requeue)
    # SES may have accepted it, so it goes on counting.
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 3
    assert statuses(engine, campaign_id) == {"sending": 3, "pending": 33}


def test_eight_senders_exceed_no_cap_of_senders_new_leads_and_companies_together(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    """They keep their lanes, give back, die and are swept, and fold the counts, all at once."""
    senders = [make_sender("ann", 37), make_sender("bob", 23), make_sender("eve")]
    addresses = [f"{name}@{number}.example.com" for number in range(30) for name in ("x", "y", "z")]
    caps = [(17, 1), (None, 2), (40, None), (9, 1)]
    made = {
        capped_campaign(
            engine, senders, addresses, new_leads_per_day=by_day, new_leads_per_company_per_day=by_company
        ): (by_day, by_company)
        for by_day, by_company in caps
    }
    for campaign_id in made:
        lifecycle.start_campaign(engine, campaign_id)
    together = threading.Barrier(8)

    def work(number: int) -> None:
        lanes, choices = LaneQueue(), random.Random(number)
        together.wait()
        for _ in range(8):
            token = uuid.uuid4()
            with engine.begin() as connection:
                claimed = claim_emails.claim(connection, 9, token, lanes=lanes)
            match choices.randrange(5):
                case 0:
                    with engine.begin() as connection:
                        claim_emails.release(connection, claimed, token)
                case 1:
                    with engine.begin() as connection:
                        connection.execute(
                            sa.text(
                                "UPDATE scheduled_emails SET lease_until = now() WHERE claim_token = :token"
                            ).bindparams(sa.bindparam("token", token, sa.UUID))
                        )
                        sweep.sweep(connection)
                case 2:
                    with engine.begin() as connection:
                        budgets.fold(connection)

    with ThreadPoolExecutor(8) as threads:
        for ended in [threads.submit(work, number) for number in range(8)]:
            ended.result()
    while True:
        with engine.begin() as connection:
            if not claim_emails.claim(connection, 100, uuid.uuid4()):
                break
    taken = [row for campaign_id in made for row in rows_of(engine, campaign_id) if row["status"] == "sending"]
    by_sender = Counter(row["sender_id"] for row in taken)
    assert by_sender[senders[0]] <= 37
    assert by_sender[senders[1]] <= 23
    for campaign_id, (by_day, by_company) in made.items():
        own = [row for row in taken if row["campaign_id"] == campaign_id]
        assert by_day is None or len(own) <= by_day
        assert by_company is None or max(Counter(row["lead_company"] for row in own).values()) <= by_company
    assert_uses_are_counted(engine)
