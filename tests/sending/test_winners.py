"""Steps that test their variants and send the winner to the leads that wait."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, intake, lifecycle, variants, winners
from sendledger.campaigns.winners import best_variant
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, InvalidInput
from sendledger.core.tables import campaign_steps, suppressions, workflow_steps
from sendledger.ledger import claim_emails, scheduled_emails
from sendledger.preflight.diagnose import diagnose, note_tick
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import (
    DAY,
    NO_DELAY,
    campaign_row,
    make_campaign,
    make_variants,
    make_workflow,
    pass_time,
    rows_of,
    statuses,
)
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from tests.campaigns.test_intake import new_leads

HOUR = DAY / 24


def started(
    engine: sa.Engine,
    connection: sa.Connection,
    leads: int = 20,
    by: str = "clicked",
    weights: tuple[int, ...] = (1, 1),
    **values: Any,
) -> uuid.UUID:
    """Half of the leads are tested; the winner is decided after four hours."""
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, weights)
    winner = {"by": by, "test_share": 50, "after_seconds": 4 * 3600}
    connection.execute(sa.update(workflow_steps).values(winner=winner))
    tracking: dict[str, Any] = {"track_opens": True, "track_clicks": True}
    campaign_id = make_campaign(connection, leads, workflow_id=workflow_id, **tracking, **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def click(engine: sa.Engine, variant: int) -> None:
    """Everybody who got this variant clicks."""
    with engine.begin() as changing:
        changing.execute(
            sa.text("""
                UPDATE emails m SET clicked_at = m.sent_at FROM scheduled_emails e
                WHERE e.email_id = m.id AND e.variant = :variant
            """),
            {"variant": variant},
        )


def decision(engine: sa.Engine) -> sa.RowMapping:
    with engine.connect() as connection:
        return connection.execute(sa.select(campaign_steps)).mappings().one()


def subjects(ses: SesSimulator) -> dict[str, int]:
    return Counter(email.subject for email in ses.accepted())


def test_test_share_goes_out_split_and_the_rest_waits_without_a_variant(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection)

    send_due_emails(resources, 60.0)

    assert subjects(ses) == {"A": 5, "B": 5}
    waiting = [row for row in rows_of(engine, campaign_id) if row["status"] == "pending"]
    assert {row["variant"] for row in waiting} == {None}
    assert Counter(row["fallback_variant"] for row in waiting) == {1: 5, 2: 5}


def test_winner_goes_to_all_who_wait_without_a_change_of_their_rows(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection)
    send_due_emails(resources, 60.0)
    click(engine, 2)
    pass_time(engine, 4 * HOUR)
    before = [row for row in rows_of(engine, campaign_id) if row["status"] == "pending"]

    assert winners.decide_due(engine) == 1
    assert [row for row in rows_of(engine, campaign_id) if row["status"] == "pending"] == before
    send_due_emails(resources, 60.0)

    assert decision(engine)["winner_variant"] == 2
    assert subjects(ses) == {"A": 5, "B": 15}
    rows = rows_of(engine, campaign_id)
    assert Counter(row["variant"] for row in rows) == {1: 5, 2: 15}
    assert len({(row["variant"], row["template_id"]) for row in rows}) == 2
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert_ledger_is_consistent(engine, ses)


def test_time_of_a_winner_counts_from_the_first_leads(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 0, evergreen=True)
    pass_time(engine, 10 * HOUR)
    send_due_emails(resources, 60.0)
    connection.execute(sa.insert(suppressions).values(value="no@example.com", reason="unsubscribe"))
    assert intake.add_leads(engine, campaign_id, new_leads(connection, "no@example.com"), "ann").emails == 0
    assert (decision(engine)["winner_at"], decision(engine)["winner_decided_at"]) == (None, None)

    intake.add_leads(engine, campaign_id, new_leads(connection, *(f"l{n}@example.com" for n in range(8))), "ann")
    send_due_emails(resources, 60.0)
    assert subjects(ses) == {"A": 2, "B": 2}
    pass_time(engine, 3 * HOUR)
    assert winners.decide_due(engine) == 0
    pass_time(engine, HOUR)
    assert winners.decide_due(engine) == 1


def test_winner_that_is_chosen_before_the_first_leads_goes_to_all_of_them(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 0, evergreen=True)
    with engine.begin() as choosing:
        winners.choose(choosing, campaign_id, 1, 2, "ann")

    intake.add_leads(engine, campaign_id, new_leads(connection, *(f"l{n}@example.com" for n in range(4))), "ann")
    send_due_emails(resources, 60.0)

    assert subjects(ses) == {"B": 4}


def test_time_of_a_winner_counts_from_the_pause_for_leads_that_come_in_meanwhile(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    campaign_id = started(engine, connection, 0, evergreen=True)
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 10 * HOUR)
    intake.add_leads(engine, campaign_id, new_leads(connection, *(f"l{n}@example.com" for n in range(4))), "ann")

    lifecycle.resume_campaign(engine, campaign_id)

    resumed_at = campaign_row(engine, campaign_id)["resumed_at"]
    assert abs(decision(engine)["winner_at"] - resumed_at - 4 * HOUR) < HOUR / 60
    waiting = [row for row in rows_of(engine, campaign_id) if row["fallback_variant"] is not None]
    assert [row["scheduled_for"] for row in waiting] == [decision(engine)["winner_at"]] * 2


def test_without_a_difference_the_rest_is_split_equally(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, weights=(3, 1))
    send_due_emails(resources, 60.0)
    pass_time(engine, 4 * HOUR)

    send_due_emails(resources, 60.0)

    assert (decision(engine)["winner_variant"], decision(engine)["winner_decided_at"] is not None) == (None, True)
    waited = Counter(row["variant"] for row in rows_of(engine, campaign_id) if row["fallback_variant"])
    assert waited == {1: 5, 2: 5}
    assert statuses(engine, campaign_id) == {"sent": 20}


def test_nothing_is_claimed_while_a_decision_is_overdue(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine
) -> None:
    started(engine, connection)
    pass_time(engine, 4 * HOUR)

    with sender_engine.begin() as sending:
        assert claim_emails.claim(sending, 100, uuid.uuid4()) == []
    winners.decide_due(engine)
    with sender_engine.begin() as sending:
        assert len(claim_emails.claim(sending, 100, uuid.uuid4())) == 20


def test_diagnose_says_that_the_rest_waits(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    campaign_id = started(engine, connection)
    send_due_emails(resources, 60.0)
    with engine.begin() as asking:
        # As the sender's handler notes the end of a tick.
        note_tick(asking, 1.0, None)
        assert diagnose(asking, campaign_id, "test").cause == "waits_for_winner"


def test_diagnose_says_that_a_decision_is_overdue(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection)
    pass_time(engine, 4 * HOUR)
    with engine.begin() as asking:
        note_tick(asking, 1.0, None)
        assert diagnose(asking, campaign_id, "test").cause == "waits_for_winner"


def test_send_now_is_refused_for_an_email_that_waits(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection)
    (waiting, *_) = [row["id"] for row in rows_of(engine, campaign_id) if row["variant"] is None]

    with engine.begin() as asking, pytest.raises(Conflict, match="winner of step 1"):
        scheduled_emails.make_due_now(asking, waiting, "ann")


def test_eight_ticks_decide_once(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    started(engine, connection)
    send_due_emails(resources, 60.0)
    pass_time(engine, 4 * HOUR)
    decided: list[int] = []
    barrier = threading.Barrier(8)

    def tick() -> None:
        barrier.wait()
        decided.append(winners.decide_due(engine))

    threads = [threading.Thread(target=tick) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(decided) == [0] * 7 + [1]
    audited = sa.text("SELECT count(*) FROM audit_log WHERE action = 'campaign.winner'")
    assert connection.scalar(audited) == 1


def test_pause_moves_the_decision_by_its_length(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = started(engine, connection)
    planned = decision(engine)["winner_at"]
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 6 * HOUR)
    assert winners.decide_due(engine) == 0

    resumed = lifecycle.resume_campaign(engine, campaign_id)

    assert resumed.shifted_by_seconds > 6 * 3600 - 1
    waiting = {row["scheduled_for"] for row in rows_of(engine, campaign_id) if row["variant"] is None}
    assert waiting == {decision(engine)["winner_at"]} == {campaign_row(engine, campaign_id)["winner_at"]}
    assert abs((decision(engine)["winner_at"] - planned).total_seconds()) < 60
    assert winners.decide_due(engine) == 0


@pytest.mark.parametrize("paused", [False, True])
def test_person_decides_earlier_and_the_rest_goes_at_once(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator, paused: bool
) -> None:
    campaign_id = started(engine, connection)
    send_due_emails(resources, 60.0)
    if paused:
        lifecycle.pause_campaign(engine, campaign_id)
    with engine.begin() as deciding:
        winners.choose(deciding, campaign_id, 1, 1, "ann")
    with engine.begin() as deciding, pytest.raises(Conflict, match="decided already"):
        winners.choose(deciding, campaign_id, 1, 2, "ann")
    if paused:
        lifecycle.resume_campaign(engine, campaign_id)

    send_due_emails(resources, 60.0)

    assert subjects(ses) == {"A": 15, "B": 5}
    audited = connection.execute(sa.text("SELECT actor, detail FROM audit_log WHERE action = 'campaign.winner'"))
    assert audited.all() == [("ann", {"revision": 1, "step_number": 1, "variant": 1})]


def test_winner_that_is_decided_before_its_step_waits_for_the_step(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    workflow_id = make_workflow(connection, [DAY])
    make_variants(connection, workflow_id, (1, 1))
    winner = {"by": "replied", "test_share": 50, "after_seconds": 3600}
    connection.execute(sa.update(workflow_steps).values(winner=winner))
    campaign_id = make_campaign(connection, 4, workflow_id=workflow_id)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as deciding:
        winners.choose(deciding, campaign_id, 1, 2, "ann")

    background_work.work_until(engine, campaign_id, float("inf"))

    assert len({row["scheduled_for"] for row in rows_of(engine, campaign_id)}) == 1


def test_lead_that_came_in_late_does_not_get_its_step_before_its_time(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    workflow_id = make_workflow(connection, [2 * DAY])
    make_variants(connection, workflow_id, (1, 1))
    winner = {"by": "replied", "test_share": 1, "after_seconds": 5 * 86400}
    connection.execute(sa.update(workflow_steps).values(winner=winner))
    campaign_id = make_campaign(connection, ["first@example.com"], workflow_id=workflow_id, evergreen=True)
    lifecycle.start_campaign(engine, campaign_id)
    pass_time(engine, DAY)
    came = new_leads(connection, "day1@example.com")
    intake.add_leads(engine, campaign_id, came, "ann")
    lifecycle.pause_campaign(engine, campaign_id)
    pass_time(engine, 3 * HOUR)
    lifecycle.resume_campaign(engine, campaign_id)
    with engine.begin() as deciding:
        now = deciding.execute(sa.select(sa.func.now())).scalar_one()
        winners.choose(deciding, campaign_id, 1, 2, "ann")

    background_work.work_until(engine, campaign_id, float("inf"))

    waits = {row["lead_id"] in came: row["scheduled_for"] - now for row in rows_of(engine, campaign_id)}
    assert {came: round(wait / HOUR) for came, wait in waits.items()} == {False: 24, True: 48}


def test_tick_that_dies_while_it_decides_leaves_the_decision_to_the_next(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(engine, connection)
    pass_time(engine, 4 * HOUR)
    with monkeypatch.context() as patched:
        patched.setattr(audit_log, "record", lambda *arguments: connection.execute(sa.text("SELECT 1 / 0")))
        assert winners.decide_due(engine) == 0
    assert decision(engine)["winner_decided_at"] is None

    assert winners.decide_due(engine) == 1


def test_decision_that_fails_does_not_stop_other_campaigns(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    testing = started(engine, connection)
    pass_time(engine, 4 * HOUR)
    connection.execute(
        sa.text("ALTER TABLE campaign_steps ADD CONSTRAINT cannot_decide CHECK (winner_decided_at IS NULL)")
    )
    other = make_campaign(connection, 3)
    lifecycle.start_campaign(engine, other)

    send_due_emails(resources, 60.0)

    assert statuses(engine, other) == {"sent": 3}
    assert statuses(engine, testing) == {"pending": 20}


def test_decision_that_fails_does_not_stop_those_of_other_campaigns(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    failing, other = (started(engine, connection) for _ in range(2))
    pass_time(engine, 4 * HOUR)
    connection.execute(
        sa.text(f"""
            ALTER TABLE campaign_steps ADD CONSTRAINT cannot_decide
            CHECK (winner_decided_at IS NULL OR campaign_id <> '{failing}')
        """)
    )
    connection.commit()

    assert winners.decide_due(engine) == 1

    decided = sa.select(campaign_steps.c.campaign_id).where(campaign_steps.c.winner_decided_at.is_not(None))
    assert connection.scalars(decided).all() == [other]


def test_winner_that_is_retired_is_replaced(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection)
    send_due_emails(resources, 60.0)
    click(engine, 2)
    pass_time(engine, 4 * HOUR)
    winners.decide_due(engine)
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 2, "ann")

    send_due_emails(resources, 60.0)

    assert subjects(ses) == {"A": 15, "B": 5}


@pytest.mark.parametrize("rows_per_chunk", [2, 10_000])
def test_those_who_wait_for_a_winner_are_split_equally_over_what_is_left(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_chunk: int,
) -> None:
    campaign_id = started(engine, connection, 48, weights=(2, 1, 1))
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", rows_per_chunk)
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 3, "ann")

    send_due_emails(resources, 60.0)
    assert subjects(ses) == {"A": 16, "B": 8}
    pass_time(engine, 4 * HOUR)
    send_due_emails(resources, 60.0)

    assert decision(engine)["winner_variant"] is None
    assert subjects(ses) == {"A": 16 + 12, "B": 8 + 12}


def test_winner_that_is_retired_is_split_by_the_weights_and_goes_to_no_later_lead(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 24, weights=(2, 1, 1), evergreen=True)
    send_due_emails(resources, 60.0)
    with engine.begin() as choosing:
        winners.choose(choosing, campaign_id, 1, 3, "ann")
    with engine.begin() as retiring:
        variants.retire(retiring, campaign_id, 1, 3, "ann")

    send_due_emails(resources, 60.0)
    assert subjects(ses) == {"A": 6 + 8, "B": 3 + 4, "C": 3}
    intake.add_leads(engine, campaign_id, new_leads(connection, *(f"l{n}@example.com" for n in range(6))), "ann")
    send_due_emails(resources, 60.0)

    assert subjects(ses) == {"A": 14 + 4, "B": 7 + 2, "C": 3}


@pytest.mark.parametrize(("by", "field"), [("opened", "track_opens"), ("clicked", "track_clicks")])
def test_what_is_not_tracked_decides_no_winner(
    engine: sa.Engine, connection: sa.Connection, by: str, field: str
) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1))
    winner = {"by": by, "test_share": 50, "after_seconds": 60}
    connection.execute(sa.update(workflow_steps).values(winner=winner))
    campaign_id = make_campaign(connection, 4, workflow_id=workflow_id)

    with pytest.raises(InvalidInput) as refused:
        lifecycle.start_campaign(engine, campaign_id)

    assert [error.field for error in refused.value.errors] == [field]


def test_replies_and_deliveries_decide_too(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> None:
    started(engine, connection, by="delivered")
    send_due_emails(resources, 60.0)
    with engine.begin() as changing:
        changing.execute(
            sa.text("""
                UPDATE emails m SET delivered_at = m.sent_at FROM scheduled_emails e
                WHERE e.email_id = m.id AND e.variant = 1
            """)
        )
    pass_time(engine, 4 * HOUR)
    send_due_emails(resources, 60.0)
    assert decision(engine)["winner_variant"] == 1


def test_campaign_with_a_winner_comes_to_rest(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, 7)
    let_it_settle(engine, resources)
    assert statuses(engine, campaign_id) == {"sent": 7}
    assert_ledger_is_consistent(engine, ses)


def result(*counts: tuple[int, int]) -> list[dict[str, int]]:
    return [
        {"variant": number, "successes": successes, "tested": sent}
        for number, (successes, sent) in enumerate(counts, 1)
    ]


@pytest.mark.parametrize(
    ("counts", "winner"),
    [
        (((0, 10), (8, 10)), 2),
        (((3, 10), (4, 10)), None),
        (((5, 100), (15, 100)), 2),
        (((1000, 20000), (1200, 20000)), 2),
        (((0, 2), (2, 2)), None),
        (((0, 3), (3, 3)), 2),
        (((9, 10), (8, 10), (0, 10)), None),
        (((0, 10), (9, 10), (1, 10)), 2),
        (((0, 0), (5, 5)), None),
        (((0, 10), (0, 10)), None),
        (((1, 50),), 1),
    ],
)
def test_variant_wins_if_it_is_better_than_each_other_by_more_than_chance(
    counts: tuple[tuple[int, int], ...], winner: int | None
) -> None:
    assert best_variant(result(*counts)) == winner
