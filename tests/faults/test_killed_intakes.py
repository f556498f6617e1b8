"""What adds leads, makes a revision, decides a winner or retires a variant is killed, and nothing is lost or twice."""

from __future__ import annotations

import functools
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import intake, lifecycle, variants, winners
from sendledger.core.tables import campaigns, email_templates, leads, workflow_steps
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import (
    DAY,
    NO_DELAY,
    campaign_row,
    make_batch,
    make_campaign,
    make_variants,
    make_workflow,
    pass_time,
    rows_of,
)
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from testbed.sender_process import SenderProcess, SenderRun
from tests.faults.conftest import StartSender

LEADS = 12
HOUR = DAY / 24

Kill = Callable[[str, Callable[[sa.Engine], object]], None]


@pytest.fixture
def kill(database_url: str, ses: SesSimulator) -> Iterator[Kill]:
    """Do something in a process of its own, which is killed at the failpoint."""
    started: list[SenderProcess] = []

    def killed(failpoint: str, call: Callable[[sa.Engine], object]) -> None:
        started.append(SenderProcess(SenderRun(database_url, ses.url, failpoint=failpoint, call=call)))
        assert started[-1].wait() is None, "it did not get to the failpoint"

    yield killed
    for process in started:
        process.end()


def audited(engine: sa.Engine, action: str) -> int:
    with engine.connect() as connection:
        count = sa.text("SELECT count(*) FROM audit_log WHERE action = :action")
        return int(connection.scalar(count, {"action": action}) or 0)


@pytest.fixture
def evergreen(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """A campaign of two steps with one lead, due for an intake of further ones after its workflow was edited."""
    campaign_id = make_campaign(
        connection, ["first@example.com"], [NO_DELAY, DAY], evergreen=True, intake={"every": "10 days"}
    )
    lifecycle.start_campaign(engine, campaign_id)
    batch_id = make_batch(connection, [f"l{number}@example.com" for number in range(LEADS)])
    connection.execute(sa.update(campaigns).values(batch_ids=[batch_id], next_intake_at=sa.func.now()))
    connection.execute(sa.update(email_templates).values(body_text="Edited"))
    connection.commit()
    return campaign_id


def each_lead_came_in_once(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    rows, campaign = rows_of(engine, campaign_id), campaign_row(engine, campaign_id)
    assert len(rows) == 2 * (LEADS + 1) == campaign["emails_scheduled_count"]
    assert len({row["lead_id"] for row in rows}) == LEADS + 1 == campaign["total_leads_targeted"]
    assert Counter(row["revision"] for row in rows) == {1: 2, 2: 2 * LEADS}
    assert campaign["revision"] == 2
    assert audited(engine, "campaign.revision") == 1


@pytest.mark.parametrize(
    "failpoint",
    [
        "begin_intake.before_commit",
        "begin_intake.after_commit",
        "new_revision.before",
        "new_revision.after",
        "write_rows.after",
        "write_rows.before_commit",
        "write_rows.after_commit",
    ],
)
def test_sender_that_is_killed_in_an_intake_takes_each_lead_in_once(
    failpoint: str,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
    evergreen: uuid.UUID,
) -> None:
    assert start_sender(failpoint=failpoint).wait() is None, "it did not get to the failpoint"

    send_due_emails(resources, 60.0)

    each_lead_came_in_once(engine, evergreen)
    intake.finish_intake(engine, evergreen, "ann")
    let_it_settle(engine, resources)
    found = assert_ledger_is_consistent(engine, ses)
    assert (found.emails_accepted, found.outcome_unknown) == (2 * (LEADS + 1), 0)


@pytest.mark.parametrize(
    ("failpoint", "committed"),
    [
        ("new_revision.before", False),
        ("new_revision.after", False),
        ("take_in.before", False),
        ("take_in.after", False),
        ("take_in.before_commit", False),
        ("take_in.after_commit", True),
    ],
)
def test_request_that_is_killed_adds_all_of_its_leads_or_none_and_may_be_repeated(
    failpoint: str, committed: bool, engine: sa.Engine, connection: sa.Connection, kill: Kill, evergreen: uuid.UUID
) -> None:
    ids = list(connection.scalars(sa.select(leads.c.id).where(leads.c.email.like("l%"))))

    kill(failpoint, functools.partial(intake.add_leads, campaign_id=evergreen, lead_ids=ids, actor="ann"))

    assert len(rows_of(engine, evergreen)) == (2 * (LEADS + 1) if committed else 2)
    again = intake.add_leads(engine, evergreen, ids, "ann")
    expected = "already_there" if committed else "added"
    assert Counter(outcome for outcome, _ in again.outcomes) == {expected: LEADS}
    each_lead_came_in_once(engine, evergreen)


@pytest.fixture
def tested(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """A campaign whose test emails are sent, and whose winner, variant 2, is to be decided."""
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1))
    winner = {"by": "clicked", "test_share": 50, "after_seconds": 4 * 3600}
    connection.execute(sa.update(workflow_steps).values(winner=winner))
    campaign_id = make_campaign(connection, 2 * LEADS, workflow_id=workflow_id, track_clicks=True)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 60.0)
    clicked = """UPDATE emails m SET clicked_at = m.sent_at FROM scheduled_emails e
                 WHERE e.email_id = m.id AND e.variant = 2"""
    connection.execute(sa.text(clicked))
    connection.commit()
    return campaign_id


@pytest.mark.parametrize("failpoint", ["weigh.before", "weigh.after", "audit.before", "audit.before_commit"])
def test_winner_is_decided_by_the_next_tick_after_one_was_killed(
    failpoint: str,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
    tested: uuid.UUID,
) -> None:
    pass_time(engine, 4 * HOUR)
    assert start_sender(failpoint=failpoint).wait() is None, "it did not get to the failpoint"
    assert audited(engine, "campaign.winner") == 0
    assert Counter(row["status"] for row in rows_of(engine, tested)) == {"sent": LEADS, "pending": LEADS}

    let_it_settle(engine, resources)

    assert Counter(row["variant"] for row in rows_of(engine, tested)) == {1: LEADS // 2, 2: LEADS + LEADS // 2}
    assert audited(engine, "campaign.winner") == 1
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == 2 * LEADS


def test_decision_that_was_committed_before_the_kill_counts(
    engine: sa.Engine, ses: SesSimulator, resources: Resources, start_sender: StartSender, tested: uuid.UUID
) -> None:
    pass_time(engine, 4 * HOUR)
    assert start_sender(failpoint="audit.after_commit").wait() is None
    assert audited(engine, "campaign.winner") == 1

    let_it_settle(engine, resources)

    assert Counter(row["variant"] for row in rows_of(engine, tested)) == {1: LEADS // 2, 2: LEADS + LEADS // 2}
    assert audited(engine, "campaign.winner") == 1
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == 2 * LEADS


def choose_the_first(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        winners.choose(connection, campaign_id, 1, 1, "ann")


@pytest.mark.parametrize(
    ("failpoint", "decided"), [("audit.before", False), ("audit.before_commit", False), ("audit.after_commit", True)]
)
def test_choice_of_a_winner_that_is_killed_is_whole_or_not_there(
    failpoint: str,
    decided: bool,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    kill: Kill,
    tested: uuid.UUID,
) -> None:
    kill(failpoint, functools.partial(choose_the_first, campaign_id=tested))
    assert audited(engine, "campaign.winner") == decided

    let_it_settle(engine, resources)

    winner = 1 if decided else 2
    assert Counter(row["variant"] for row in rows_of(engine, tested))[winner] == LEADS + LEADS // 2
    assert audited(engine, "campaign.winner") == 1
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == 2 * LEADS


def retire_the_second(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        variants.retire(connection, campaign_id, 1, 2, "ann")


@pytest.fixture
def split(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """A campaign of one step with three variants, of which nothing is sent yet."""
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1, 1))
    campaign_id = make_campaign(connection, LEADS, workflow_id=workflow_id)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.mark.parametrize(
    ("failpoint", "retired"), [("audit.before", False), ("audit.before_commit", False), ("audit.after_commit", True)]
)
def test_retiring_that_is_killed_is_whole_or_not_there(
    failpoint: str,
    retired: bool,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    kill: Kill,
    split: uuid.UUID,
) -> None:
    kill(failpoint, functools.partial(retire_the_second, campaign_id=split))

    let_it_settle(engine, resources)

    expected = {1: 6, 3: 6} if retired else {1: 4, 2: 4, 3: 4}
    assert Counter(row["variant"] for row in rows_of(engine, split)) == expected
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == LEADS


@pytest.mark.parametrize(
    "failpoint",
    ["split.before", "split.after", "split.after:2", "background_work.before_commit:2", "split.after_commit"],
)
def test_sender_that_is_killed_while_it_splits_a_retired_variant_splits_each_email_once(
    failpoint: str,
    engine: sa.Engine,
    ses: SesSimulator,
    resources: Resources,
    start_sender: StartSender,
    split: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retire_the_second(engine, split)
    killed = start_sender(failpoint=failpoint, rows_per_chunk=2)
    assert killed.wait() is None, "it did not get to the failpoint"
    assert Counter(row["status"] for row in rows_of(engine, split)) == {"pending": LEADS}

    let_it_settle(engine, resources)

    assert Counter(row["variant"] for row in rows_of(engine, split)) == {1: 6, 3: 6}
    assert assert_ledger_is_consistent(engine, ses).emails_accepted == LEADS
