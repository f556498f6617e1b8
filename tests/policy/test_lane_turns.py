"""Campaigns take turns at each claim, and where a cap leaves little, so do their senders and time zones."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.policy.caps import place_in_turn, zones_in_turn
from sendledger.policy.lane_queue import LaneQueue
from testbed.campaigns import NO_DELAY, make_batch, make_campaign, rows_of
from testbed.moved_clock import MovedClock
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender
from tests.policy.test_lane_queue import claim, claims_by_campaign, started

HOUR = dt.timedelta(hours=1)


def started_with_later_steps(
    engine: sa.Engine, count: int, sender_ids: Sequence[uuid.UUID], of: Sequence[uuid.UUID] | None = None
) -> uuid.UUID:
    """A campaign whose first steps, or those of some senders, have gone on an earlier day: the second ones are due."""
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, count, [NO_DELAY, NO_DELAY], sender_ids=list(sender_ids))
    lifecycle.start_campaign(engine, campaign_id)
    gone = sa.text("""
        UPDATE scheduled_emails SET status = 'sent', sent_at = now() - interval '1 day'
        WHERE campaign_id = :id AND workflow_step_number = 1
          AND lane IN (SELECT lane FROM campaign_lanes WHERE campaign_id = :id AND sender_id = ANY(:senders))
    """).bindparams(
        sa.bindparam("id", campaign_id, sa.UUID),
        sa.bindparam("senders", list(of or sender_ids), sa.ARRAY(sa.UUID)),
    )
    with engine.begin() as connection:
        connection.execute(gone)
    return campaign_id


def total_by_campaign(engine: sa.Engine, batch: int, times: int) -> Counter[uuid.UUID]:
    return sum(claims_by_campaign(engine, batch, times), Counter[uuid.UUID]())


def test_later_steps_of_a_sender_with_a_cap_leave_other_campaigns_their_part(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann, bob, eve = make_sender("ann", 900), make_sender("bob", 900), make_sender("eve")
    made = [started_with_later_steps(engine, 30, [ann])]
    made += [started(engine, 30, senders) for senders in ([bob], [eve])]
    assert total_by_campaign(engine, 2, 9) == dict.fromkeys(made, 6)


def test_campaign_with_few_new_leads_gets_its_part_of_each_claim_beside_a_sender_with_a_cap(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    made = [
        started(engine, 30, [make_sender("ann", 900)]),
        started(engine, 30, [make_sender("bob")], new_leads_per_day=500),
    ]
    assert claims_by_campaign(engine, 2, 10) == [dict.fromkeys(made, 1)] * 10


def test_campaign_with_few_new_leads_takes_turns_with_more_campaigns_than_a_claim_takes_from(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann")
    made = [started(engine, 30, [ann], new_leads_per_day=cap) for cap in (None, None, None, None, 500)]
    assert total_by_campaign(engine, 2, 10) == dict.fromkeys(made, 4)


def test_campaign_gets_no_more_for_having_more_senders_with_a_cap(make_sender: MakeSender, engine: sa.Engine) -> None:
    made = [
        started(engine, 60, [make_sender(f"sender{number}", 50) for number in range(20)]),
        started(engine, 60, [make_sender("ann", 50)]),
    ]
    assert claims_by_campaign(engine, 2, 10) == [dict.fromkeys(made, 1)] * 10


def test_campaign_need_not_wait_for_one_with_many_senders_at_the_one_that_they_share(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann", 50)
    made = [
        started(engine, 60, [ann, *(make_sender(f"sender{number}", 50) for number in range(19))]),
        started(engine, 60, [ann]),
    ]
    assert claims_by_campaign(engine, 2, 10) == [dict.fromkeys(made, 1)] * 10


def test_campaign_need_not_wait_for_the_later_steps_of_another_one_from_another_sender(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann, bob = make_sender("ann", 50), make_sender("bob", 900)
    made = [started_with_later_steps(engine, 60, [ann, bob], of=[bob]), started(engine, 60, [ann])]
    assert claims_by_campaign(engine, 2, 10) == [dict.fromkeys(made, 1)] * 10


def test_sender_is_divided_over_its_campaigns_however_few_emails_a_claim_takes(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    """One campaign takes its part of it later than the other."""
    ann, bob = make_sender("ann", 8), make_sender("bob", 900)
    mixed, plain = started_with_later_steps(engine, 40, [ann, bob], of=[bob]), started(engine, 20, [ann])
    lanes = LaneQueue()
    claimed = [email for _ in range(30) for email in claim(engine, lanes)]
    assert Counter((email.campaign_id, email.from_address) for email in claimed) == {
        (mixed, "bob <bob@example.com>"): 20,
        (mixed, "ann <ann@example.com>"): 4,
        (plain, "ann <ann@example.com>"): 4,
    }


def test_senders_of_a_campaign_take_turns_at_its_part(make_sender: MakeSender, engine: sa.Engine) -> None:
    senders = [make_sender("ann", 50), make_sender("bob", 50), make_sender("eve")]
    started(engine, 60, senders)
    started(engine, 60, [make_sender("dora")])
    lanes = LaneQueue()
    claimed = Counter(email.from_address for _ in range(12) for email in claim(engine, lanes))
    assert sorted(claimed.values()) == [4, 4, 4, 12]


def test_few_new_leads_are_offered_once_and_not_once_for_each_sender(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    """So the claim is full."""
    few = started(engine, 60, [make_sender(f"sender{number}") for number in range(10)], new_leads_per_day=3)
    other = started(engine, 60, [make_sender("ann", 900)])
    assert claims_by_campaign(engine, 20, 1) == [{few: 3, other: 17}]


def test_new_leads_of_a_sender_with_a_cap_count_among_the_few_of_a_campaign(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann, bob = make_sender("ann", 900), make_sender("bob")
    few = started(engine, 60, [ann, bob], new_leads_per_day=3)
    other = started(engine, 60, [ann])
    assert claims_by_campaign(engine, 20, 1) == [{few: 3, other: 17}]


def test_sender_with_later_steps_keeps_its_part_of_the_new_leads_of_another_campaign(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    """As planned: its cap leaves enough for both."""
    ann, bob = make_sender("ann", 9), make_sender("bob")
    started_with_later_steps(engine, 5, [ann])
    few = started(engine, 30, [ann, bob], new_leads_per_day=4)
    lanes = LaneQueue()
    claimed = [email for _ in range(4) for email in claim(engine, lanes, 20) if email.campaign_id == few]
    assert sorted(Counter(email.from_address for email in claimed).values()) == [2, 2]


def test_senders_take_turns_at_new_leads_over_the_claims_of_several_ticks(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    started(engine, 30, [make_sender(name) for name in ("ann", "bob", "eve")], new_leads_per_day=9)
    claimed = Counter(email.from_address for _ in range(3) for email in claim(engine, LaneQueue()))
    assert sorted(claimed.values()) == [2, 2, 2]


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("cap_of_company", [None, 9])
def test_new_leads_that_cannot_be_divided_go_to_another_sender_on_another_day(
    make_sender: MakeSender, clock: MovedClock, engine: sa.Engine, batch: int, cap_of_company: int | None
) -> None:
    senders = {name: make_sender(name) for name in ("ann", "bob", "eve")}
    policy: dict[str, Any] = {"new_leads_per_day": 5, "new_leads_per_company_per_day": cap_of_company}
    started(engine, 60, list(senders.values()), **policy)
    for now in (MONDAY + HOUR + dt.timedelta(days=day) for day in range(6)):
        clock.move_to(now)
        lanes = LaneQueue()
        claimed = Counter(email.from_address for _ in range(6) for email in claim(engine, lanes, batch))
        last = max(senders, key=lambda name: place_in_turn(senders[name], now.date()))
        assert claimed == {f"{name} <{name}@example.com>": 1 if name == last else 2 for name in senders}


@pytest.fixture
def by_zone(make_schedule: MakeSchedule, clock: MovedClock, engine: sa.Engine) -> Callable[..., uuid.UUID]:
    """Starts a campaign with six leads in each of three zones in which it is morning, while a day of the caps ends."""
    clock.move_to(MONDAY + 11 * HOUR)
    zones = ("Asia/Seoul", "Asia/Singapore", "Asia/Tokyo")
    hours = {day: [["05:00", "20:00"]] for day in ("mon", "tue")}

    def start(sender_ids: Sequence[uuid.UUID], **values: object) -> uuid.UUID:
        with engine.begin() as connection:
            batches = [
                make_batch(connection, [f"{uuid.uuid4().hex}@example.com" for _ in range(6)], time_zone=name)
                for name in zones
            ]
        schedule_id = make_schedule(hours=hours)
        with engine.connect() as connection:
            policy: dict[str, Any] = {"sender_ids": list(sender_ids), "sending_schedule_id": schedule_id, **values}
            campaign_id = make_campaign(connection, batch_ids=batches, **policy)
        lifecycle.start_campaign(engine, campaign_id)
        return campaign_id

    return start


def claimed_by_zone(engine: sa.Engine, campaign_id: uuid.UUID, day: dt.date) -> Counter[str]:
    zone_of = sa.text("""
        SELECT l.time_zone FROM scheduled_emails e
        JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
        WHERE e.campaign_id = :id AND e.sending_day = :day
    """)
    with engine.connect() as connection:
        return Counter(connection.scalars(zone_of, {"id": campaign_id, "day": day}))


def test_zones_take_turns_at_new_leads_over_the_claims_of_several_ticks(
    make_sender: MakeSender, by_zone: Callable[..., uuid.UUID], engine: sa.Engine
) -> None:
    campaign_id = by_zone([make_sender("ann")], new_leads_per_day=9)
    for _ in range(3):
        assert len(claim(engine, LaneQueue(), 1)) == 1
    assert sorted(claimed_by_zone(engine, campaign_id, MONDAY.date()).values()) == [1, 1, 1]


def test_turns_of_zones_begin_anew_with_a_new_day(
    make_sender: MakeSender, by_zone: Callable[..., uuid.UUID], clock: MovedClock, engine: sa.Engine
) -> None:
    campaign_id = by_zone([make_sender("ann", 5)])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    tuesday = MONDAY.date() + dt.timedelta(days=1)
    clock.move_to(MONDAY + 12 * HOUR + dt.timedelta(seconds=5))
    assert len(claim(engine, lanes, 1)) == 1
    (zone,) = claimed_by_zone(engine, campaign_id, tuesday)
    assert zones_in_turn(["Asia/Seoul", "Asia/Singapore", "Asia/Tokyo"], tuesday, 0)[zone] == 0


def test_emails_of_a_campaign_without_a_policy_go_in_their_order_beside_a_cap(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    """Even where a claim has no room for all that it has found."""
    started(engine, 60, [make_sender("ann", 900)])
    plain = started(engine, 60)
    in_order = [row["id"] for row in sorted(rows_of(engine, plain), key=lambda row: -row["id"])]
    with engine.begin() as connection:
        put_off = "UPDATE scheduled_emails SET scheduled_for = now() - id * interval '1 second' WHERE campaign_id = :id"
        connection.execute(sa.text(put_off), {"id": plain})
    lanes, claimed = LaneQueue(), list[int]()
    for _ in range(20):
        claimed += sorted((email.id for email in claim(engine, lanes, 3) if email.campaign_id == plain), reverse=True)
    assert claimed == in_order[: len(claimed)]
