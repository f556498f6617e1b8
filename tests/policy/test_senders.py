"""A campaign's leads are split over its senders, and each sender keeps to its daily cap."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import late_emails, lifecycle, schedule_emails
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core.errors import Conflict
from sendledger.core.tables import email_templates, leads
from sendledger.core.vocabulary import ReplySource
from sendledger.feedback import replies, reply_answers
from sendledger.feedback.read_reply import reply_from_fields
from sendledger.leads import import_leads
from sendledger.ledger import claim_emails, scheduled_emails, sweep
from sendledger.policy import budgets, sender_addresses
from sendledger.policy.lane_queue import LaneQueue
from sendledger.preflight import diagnose
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, rows_of, statuses
from testbed.moved_clock import MovedClock
from testbed.senders import sender_resources
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender, cause, claim_by_eight, leave_unknown

SECONDS = 60.0


def started(
    engine: sa.Engine,
    sender_ids: Sequence[uuid.UUID],
    count: int,
    delays: list[dt.timedelta] | None = None,
    **values: object,
) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, count, delays, sender_ids=list(sender_ids), **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def change(engine: sa.Engine, sender_id: uuid.UUID, **changes: object) -> None:
    with engine.begin() as connection:
        sender_addresses.update(connection, sender_id, changes)


def sent_from(ses: SesSimulator) -> dict[str, int]:
    return dict(Counter(mail.from_address.partition(" ")[0] for mail in ses.accepted()))


@pytest.mark.parametrize("per_bucket", [schedule_emails.ROWS_PER_BUCKET, 7])
def test_leads_are_split_evenly_and_keep_their_sender_for_all_steps(
    make_sender: MakeSender,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    clock: MovedClock,
    monkeypatch: pytest.MonkeyPatch,
    per_bucket: int,
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", per_bucket)
    campaign_id = started(engine, [make_sender(name) for name in ("ann", "bob", "eve")], 20, [NO_DELAY, DAY])
    for now in (MONDAY + dt.timedelta(minutes=5), MONDAY + DAY + dt.timedelta(hours=1)):
        clock.move_to(now)
        send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 40}
    by_lead: dict[str, set[str]] = {}
    for mail in ses.accepted():
        by_lead.setdefault(mail.destination[0], set()).add(mail.from_address)
    assert {len(senders) for senders in by_lead.values()} == {1}
    leads_of = Counter(next(iter(senders)) for senders in by_lead.values())
    assert sorted(leads_of.values()) == [6, 7, 7]


def test_a_senders_reply_address_goes_before_that_of_the_campaign(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann, bob = make_sender("ann"), make_sender("bob")
    change(engine, ann, reply_to_address="ann@office.example.com")
    started(engine, [ann, bob], 2, reply_to_address="team@example.com")
    send_due_emails(resources, SECONDS)
    replies = {mail.from_address.partition(" ")[0]: mail.reply_to for mail in ses.accepted()}
    assert replies == {"ann": ("ann@office.example.com",), "bob": ("team@example.com",)}


def test_no_more_than_the_cap_goes_out_on_a_day(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator, clock: MovedClock
) -> None:
    campaign_id = started(engine, [make_sender("ann", 5)], 12)
    for day, sent in enumerate((5, 10, 12)):
        for _ in clock.ticks(MONDAY + day * DAY, MONDAY + day * DAY + dt.timedelta(hours=6), dt.timedelta(hours=2)):
            send_due_emails(resources, SECONDS)
        assert len(ses.accepted()) == sent
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_cap_goes_to_the_first_leads_of_a_file(make_sender: MakeSender, engine: sa.Engine) -> None:
    names = [f"lead{number * 7 % 40}@example.com" for number in range(40)]
    with engine.begin() as connection:
        file = io.BytesIO("\n".join(["email", *names]).encode())
        batch_id = import_leads.import_file(connection, file, {"name": "By importance"}, "ann").lead_batch["id"]
    started(engine, [make_sender("ann", 5)], 0, [NO_DELAY, DAY], batch_ids=[batch_id])
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 100, uuid.uuid4())
    assert [email.lead["email"] for email in claimed if email.lead is not None] == names[:5]


def test_leads_of_a_file_take_turns_at_the_senders_row_by_row(make_sender: MakeSender, engine: sa.Engine) -> None:
    names = [f"lead{number * 7 % 40}@example.com" for number in range(40)]
    with engine.begin() as connection:
        file = io.BytesIO("\n".join(["email", *names]).encode())
        batch_id = import_leads.import_file(connection, file, {"name": "By importance"}, "ann").lead_batch["id"]
    ann, bob = make_sender("ann", 5), make_sender("bob", 3)
    started(engine, [ann, bob], 0, [NO_DELAY, DAY], batch_ids=[batch_id])
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 100, uuid.uuid4())
    of_senders = defaultdict[str | None, list[str]](list)
    for email in claimed:
        if email.lead is not None:
            of_senders[email.from_address].append(email.lead["email"])
    assert of_senders == {"ann <ann@example.com>": names[0:10:2], "bob <bob@example.com>": names[1:7:2]}


def test_rows_that_wait_for_budget_are_not_touched(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    campaign_id = started(engine, [make_sender("ann", 1)], 3)
    send_due_emails(resources, SECONDS)
    before = [row for row in rows_of(engine, campaign_id) if row["status"] == "pending"]
    send_due_emails(resources, SECONDS)
    assert [row for row in rows_of(engine, campaign_id) if row["status"] == "pending"] == before


def test_campaigns_share_a_senders_budget_equally(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources
) -> None:
    ann = make_sender("ann", 10)
    large, small = started(engine, [ann], 50), started(engine, [ann], 8)
    send_due_emails(resources, SECONDS)
    assert [statuses(engine, each)["sent"] for each in (large, small)] == [5, 5]


def test_later_steps_go_before_first_ones_where_budget_is_short(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    campaign_id = started(engine, [make_sender("ann", 4)], 6, [NO_DELAY, DAY])
    send_due_emails(resources, SECONDS)
    clock.move_to(MONDAY + DAY + dt.timedelta(minutes=1))
    send_due_emails(resources, SECONDS)
    steps = Counter(row["workflow_step_number"] for row in rows_of(engine, campaign_id) if row["status"] == "sent")
    assert steps == {1: 4, 2: 4}


def test_later_steps_count_for_a_campaigns_part_of_a_sender(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    """Two later steps and one first one of the campaign that has them, and three first ones of the other."""
    ann = make_sender("ann", 2)
    has_later_steps = started(engine, [ann], 9, [NO_DELAY, DAY])
    send_due_emails(resources, SECONDS)
    clock.move_to(MONDAY + DAY + dt.timedelta(minutes=1))
    change(engine, ann, daily_cap=6)
    other = started(engine, [ann], 9)
    with engine.begin() as connection:
        lanes = LaneQueue()
        claimed = [claim_emails.claim(connection, 100, uuid.uuid4(), lanes=lanes) for _ in range(2)]
    taken = [Counter((email.campaign_id, email.step_number) for email in each) for each in claimed]
    assert taken == [{(has_later_steps, 2): 2}, {(has_later_steps, 1): 1, (other, 1): 3}]


def test_first_steps_of_other_campaigns_wait_for_all_later_steps_where_budget_is_short(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, clock: MovedClock
) -> None:
    ann = make_sender("ann", 12)
    started(engine, [ann], 30, [NO_DELAY, DAY])
    send_due_emails(resources, SECONDS)
    clock.move_to(MONDAY + DAY + dt.timedelta(minutes=1))
    change(engine, ann, daily_cap=9)
    for _ in range(4):
        started(engine, [ann], 9)
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 10, uuid.uuid4())
    assert Counter(email.step_number for email in claimed) == {2: 9}


def test_what_a_dead_sender_held_may_go_on_the_same_day(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, [make_sender("ann", 3)], 9)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 3
    with engine.begin() as connection:
        assert claim_emails.claim(connection, 100, uuid.uuid4()) == []
        connection.execute(
            sa.text("UPDATE scheduled_emails SET lease_until = now() - interval '1 s' WHERE status = 'sending'")
        )
    with engine.begin() as connection:
        assert sweep.sweep(connection).returned == 3
    send_due_emails(resources, SECONDS)
    assert len(ses.accepted()) == 3


def test_an_unknown_outcome_counts_against_the_cap(make_sender: MakeSender, engine: sa.Engine) -> None:
    started(engine, [make_sender("ann", 3)], 9)
    leave_unknown(engine, 2)
    with engine.begin() as connection:
        assert len(claim_emails.claim(connection, 100, uuid.uuid4())) == 1


def test_overlapping_claims_never_exceed_a_cap_together(make_sender: MakeSender, engine: sa.Engine) -> None:
    """Eight claims at once, which meet each other's locks; some give back, and what they gave back is claimed again."""
    senders = [make_sender("ann", 40), make_sender("bob", 23), make_sender("eve")]
    for _ in range(5):
        started(engine, senders, 30, [NO_DELAY, DAY])
    claim_by_eight(engine)
    with engine.connect() as connection:
        counted = connection.execute(
            sa.text(
                "SELECT a.daily_cap, count(*) FROM scheduled_emails e JOIN sender_addresses a ON a.id = e.sender_id"
                " WHERE e.status = 'sending' GROUP BY 1"
            )
        )
        assert {cap: count for cap, count in counted} == {40: 40, 23: 23, None: 50}  # noqa: C416 (rows are no pairs)


@pytest.mark.parametrize(("before", "after"), [({"status": "disabled"}, {"status": "active"}), ({}, {})])
def test_a_sender_that_gets_its_cap_or_is_enabled_after_the_lock_has_no_budget_yet(
    make_sender: MakeSender, engine: sa.Engine, before: dict[str, object], after: dict[str, object]
) -> None:
    ann, bob = make_sender("ann", 5), make_sender("bob")
    started(engine, [ann, bob], 4)
    change(engine, bob, **before)

    def budgets_of() -> set[uuid.UUID]:
        with engine.begin() as connection:
            return {each.sender_id for each in budgets.budgets(connection, lock=True).senders}

    def change_bob(connection: sa.Connection, cursor: object, statement: str, *rest: object) -> None:
        if "FOR NO KEY UPDATE OF a" in statement:
            change(engine, bob, daily_cap=5, **after)

    sa.event.listen(engine, "after_cursor_execute", change_bob)
    try:
        assert budgets_of() == {ann}
    finally:
        sa.event.remove(engine, "after_cursor_execute", change_bob)
    assert budgets_of() == {ann, bob}


def test_nothing_that_was_claimed_before_midnight_is_sent_after_it(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    started(engine, [make_sender("ann", 3)], 9)
    clock.move_to(MONDAY + dt.timedelta(hours=12, seconds=-30))
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 100, token)
    clock.move_to(MONDAY + dt.timedelta(hours=12))
    with engine.begin() as connection:
        assert claim_emails.fence(connection, claimed, token).sendable == {}


def test_send_now_passes_the_cap_and_counts(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, [make_sender("ann", 2)], 6)
    for row in rows_of(engine, campaign_id)[:3]:
        send_scheduled_email(resources, row["id"])
    assert sent_from(ses) == {"ann": 3}
    send_due_emails(resources, SECONDS)
    assert sent_from(ses) == {"ann": 3}


def test_send_now_sends_nothing_from_a_disabled_sender(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann = make_sender("ann")
    campaign_id = started(engine, [ann], 1)
    change(engine, ann, status="disabled")
    (row,) = rows_of(engine, campaign_id)
    with engine.begin() as connection, pytest.raises(Conflict, match=r"ann@example\.com is disabled"):
        scheduled_emails.make_due_now(connection, row["id"], "ann")
    assert send_scheduled_email(resources, row["id"]).sent == 0
    assert (sent_from(ses), statuses(engine, campaign_id)) == ({}, {"pending": 1})
    change(engine, ann, status="active")
    assert send_scheduled_email(resources, row["id"]).sent == 1


def test_emails_of_a_disabled_sender_wait_and_the_campaign_says_so(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann, bob = make_sender("ann"), make_sender("bob")
    campaign_id = started(engine, [ann, bob], 4)
    change(engine, ann, status="disabled")
    send_due_emails(resources, SECONDS)
    assert sent_from(ses) == {"bob": 2}
    assert cause(engine, campaign_id) == ("sender_disabled", None)
    change(engine, ann, status="active")
    send_due_emails(resources, SECONDS)
    assert sent_from(ses) == {"ann": 2, "bob": 2}


def test_diagnose_says_that_the_cap_is_reached_and_when_it_goes_on(
    make_sender: MakeSender, make_schedule: MakeSchedule, engine: sa.Engine, resources: Resources
) -> None:
    ann = make_sender("ann", 1)
    around_the_clock = started(engine, [ann], 2)
    send_due_emails(resources, SECONDS)
    assert cause(engine, around_the_clock) == ("sender_cap_reached", MONDAY + dt.timedelta(hours=12))
    by_day = started(engine, [ann], 2, sending_schedule_id=make_schedule())
    assert cause(engine, by_day) == ("sender_cap_reached", MONDAY + dt.timedelta(hours=19))


def test_hours_and_caps_hold_together(
    make_sender: MakeSender,
    make_schedule: MakeSchedule,
    engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
    clock: MovedClock,
) -> None:
    started(engine, [make_sender("ann", 3), make_sender("bob", 2)], 20, sending_schedule_id=make_schedule())
    clock.move_to(MONDAY + dt.timedelta(hours=4))
    send_due_emails(resources, SECONDS)
    assert sent_from(ses) == {}
    clock.move_to(MONDAY + dt.timedelta(hours=20))
    send_due_emails(resources, SECONDS)
    assert sent_from(ses) == {"ann": 3, "bob": 2}


def test_a_changed_cap_counts_at_the_next_claim(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    ann = make_sender("ann", 2)
    started(engine, [ann], 9)
    for cap, sent in ((2, 2), (1, 2), (5, 5), (None, 9)):
        change(engine, ann, daily_cap=cap)
        send_due_emails(resources, SECONDS)
        assert len(ses.accepted()) == sent


def test_an_added_email_goes_out_from_the_leads_own_sender(
    make_sender: MakeSender, engine: sa.Engine, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, [make_sender("ann"), make_sender("bob")], 2, [NO_DELAY, DAY])
    send_due_emails(resources, SECONDS)
    first = {mail.destination[0]: mail.from_address for mail in ses.accepted()}
    with engine.begin() as connection:
        template_id = connection.scalar(sa.select(email_templates.c.id).limit(1))
        assert template_id is not None
        for lead_id in connection.scalars(sa.select(leads.c.id)).all():
            schedule_emails.schedule_email_for_lead(connection, campaign_id, lead_id, template_id, NO_DELAY, 3)
        make_batch(connection, ["new@example.com"])
        new = connection.scalar(sa.select(leads.c.id).where(leads.c.email == "new@example.com"))
        assert new is not None
        schedule_emails.schedule_email_for_lead(connection, campaign_id, new, template_id, NO_DELAY, 3)
    for row in rows_of(engine, campaign_id):
        if row["workflow_step_number"] > 1:
            with engine.begin() as connection:
                connection.execute(
                    sa.text(
                        "UPDATE scheduled_emails SET status = 'skipped', reason = 'late' WHERE workflow_step_number = 2"
                    )
                )
    send_due_emails(resources, SECONDS)
    later = [mail for mail in ses.accepted() if mail.destination[0] in first][2:]
    assert len(later) == 2
    assert all(mail.from_address == first[mail.destination[0]] for mail in later)
    assert sum(sent_from(ses).values()) == 5


def test_the_late_guard_does_not_hold_what_waits_for_a_cap(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    capped, free = started(engine, [make_sender("ann", 1)], 3), started(engine, [make_sender("bob")], 3)
    hours = dt.timedelta(hours=6)
    with engine.begin() as connection:
        late_emails.hold_after_outage(connection, hours)
    clock.move_to(MONDAY + dt.timedelta(hours=8))
    with engine.begin() as connection:
        assert late_emails.hold_after_outage(connection, hours) == 1
    with engine.connect() as connection:
        assert get_campaign(connection, capped)["late_hold_until"] is None
        assert get_campaign(connection, free)["late_hold_until"] is not None


def test_emails_that_wait_for_a_cap_are_not_overdue(
    make_sender: MakeSender, engine: sa.Engine, clock: MovedClock
) -> None:
    started(engine, [make_sender("ann", 1)], 3)
    clock.move_to(MONDAY + 2 * DAY)
    with engine.connect() as connection:
        assert diagnose.oldest_due_seconds(connection) == 0
    started(engine, [make_sender("bob")], 3)
    clock.move_to(MONDAY + 3 * DAY)
    with engine.connect() as connection:
        assert diagnose.oldest_due_seconds(connection) > 86_000


def test_answer_to_a_reply_counts_to_the_cap_of_the_sender(
    make_sender: MakeSender, engine: sa.Engine, sender_engine: sa.Engine, ses: SesSimulator, clock: MovedClock
) -> None:
    resources = sender_resources(sender_engine, ses.url, LATE_AFTER_MINUTES="1000000")
    started(engine, [make_sender("ann", 1)], 1)
    send_due_emails(resources, SECONDS)
    (first,) = ses.accepted()
    reply = reply_from_fields(first.destination[0], "Re: Hello", "What does it cost?", message_id="<1@example.com>")
    received = replies.receive(engine, reply, ReplySource.API, "all", None)
    with engine.begin() as connection:
        reply_answers.answer(connection, received.id, "Nothing.", "nora", quote=False)
    send_due_emails(resources, SECONDS)
    assert len(ses.accepted()) == 1
    clock.move_to(MONDAY + DAY)
    send_due_emails(resources, SECONDS)
    assert [mail.from_address for mail in ses.accepted()] == [first.from_address] * 2
    assert [mail.request["Content"]["Simple"]["Body"]["Text"]["Data"] for mail in ses.accepted()][1] == "Nothing."
