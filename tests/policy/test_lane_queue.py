"""A tick keeps the lanes that it has found. What changes meanwhile counts at its next claim all the same."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa

from sendledger.campaigns import campaigns, lifecycle
from sendledger.ledger import claim_emails
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.policy import budgets, lane_queue, sender_addresses, sending_schedules
from sendledger.policy.lane_queue import LaneQueue
from testbed.campaigns import DAY, NO_DELAY, make_campaign, rows_of
from testbed.moved_clock import MovedClock
from tests.policy.conftest import MONDAY, MakeSchedule, MakeSender

OPEN = {"hours": {"mon": [["00:00", "24:00"]]}, "time_zone": "UTC", "zone_of": "schedule"}


def started(
    engine: sa.Engine, count: int, sender_ids: Sequence[uuid.UUID] = (), delays: int = 1, **values: object
) -> uuid.UUID:
    with engine.connect() as connection:
        steps = [NO_DELAY, DAY][:delays]
        campaign_id = make_campaign(connection, count, steps, sender_ids=list(sender_ids), **values)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def claim(engine: sa.Engine, lanes: LaneQueue, batch: int = 2) -> list[ClaimedEmail]:
    with engine.begin() as connection:
        return claim_emails.claim(connection, batch, uuid.uuid4(), lanes=lanes)


@pytest.fixture
def searches(engine: sa.Engine) -> Iterator[list[str]]:
    """The statements that have looked for lanes."""
    found: list[str] = []

    def note(connection: sa.Connection, cursor: object, statement: str, *rest: object) -> None:
        if "string_agg(CAST(l.lane" in statement:
            found.append(statement)

    sa.event.listen(engine, "after_cursor_execute", note)
    yield found
    sa.event.remove(engine, "after_cursor_execute", note)


def test_lanes_are_found_once_for_many_claims(make_sender: MakeSender, engine: sa.Engine, searches: list[str]) -> None:
    campaign_id = started(engine, 20, [make_sender("ann", 100), make_sender("bob")])
    lanes = LaneQueue()
    claimed = [email.id for _ in range(10) for email in claim(engine, lanes)]
    assert sorted(claimed) == sorted(row["id"] for row in rows_of(engine, campaign_id))
    assert len(searches) == 1


def test_no_claim_is_empty_while_another_lane_has_something(make_sender: MakeSender, engine: sa.Engine) -> None:
    """A lane has given all that was asked for, and nobody knows that it was all it had."""
    started(engine, 16, [make_sender(f"sender{number}") for number in range(8)])
    lanes, claimed = LaneQueue(), 0
    while got := claim(engine, lanes):
        claimed += len(got)
    assert claimed == 16


def test_lanes_that_give_less_than_their_share_are_offered_together(make_sender: MakeSender, engine: sa.Engine) -> None:
    started(engine, 16, [make_sender(f"sender{number}") for number in range(8)])
    lanes = LaneQueue()
    assert [len(claim(engine, lanes, 8)) for _ in range(4)] == [2, 4, 8, 2]


def claims_by_campaign(engine: sa.Engine, batch: int, times: int) -> list[Counter[uuid.UUID]]:
    """How many emails of each campaign a sender gets, claim by claim."""
    lanes = LaneQueue()
    return [Counter(email.campaign_id for email in claim(engine, lanes, batch)) for _ in range(times)]


def test_campaigns_take_turns_where_they_are_more_than_a_claim_takes_from(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "CAMPAIGNS_AT_ONCE", 2)
    ann = make_sender("ann")
    made = [started(engine, 8, [ann]) for _ in range(6)]
    claims = claims_by_campaign(engine, 4, 6)
    assert [sorted(each.values()) for each in claims] == [[2, 2]] * 6
    assert sum(claims[:3], Counter[uuid.UUID]()) == dict.fromkeys(made, 2)
    assert sum(claims, Counter[uuid.UUID]()) == dict.fromkeys(made, 4)


def test_cap_that_ends_before_each_campaign_has_had_its_turn_is_shared_equally(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "CAMPAIGNS_AT_ONCE", 1)
    ann = make_sender("ann", 6)
    made = [started(engine, 9, [ann]) for _ in range(3)]
    assert sum(claims_by_campaign(engine, 3, 3), Counter[uuid.UUID]()) == dict.fromkeys(made, 2)


def test_cap_of_a_claim_goes_to_each_campaign_though_it_cannot_be_divided(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann", 14)
    for _ in range(10):
        started(engine, 9, [ann])
    (claimed,) = claims_by_campaign(engine, 14, 1)
    assert sorted(claimed.values()) == [1] * 6 + [2] * 4


def test_cap_of_a_turn_of_small_claims_is_shared_equally(make_sender: MakeSender, engine: sa.Engine) -> None:
    """Overlapping ticks do not know whose turn it is."""
    ann = make_sender("ann", 12)
    made = [started(engine, 9, [ann]) for _ in range(12)]
    queues = [LaneQueue() for _ in range(6)]
    claimed = Counter(email.campaign_id for lanes in queues for email in claim(engine, lanes, 2))
    assert claimed == dict.fromkeys(made, 1)


def test_cap_of_several_claims_goes_to_the_campaigns_that_have_used_less_of_it(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann", 18)
    made = [started(engine, 9, [ann])]
    assert claims_by_campaign(engine, 6, 1) == [{made[0]: 6}]
    made += [started(engine, 9, [ann]) for _ in range(2)]
    claims = claims_by_campaign(engine, 4, 4)
    assert claims == [dict.fromkeys(made[1:], 2)] * 3 + [{}]


def test_campaigns_that_wait_share_in_a_claim_if_their_sender_may_send_more_than_it_takes(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    ann = make_sender("ann", 3)
    for _ in range(4):
        started(engine, 9, [ann])
    with engine.begin() as connection:
        offer = LaneQueue().offer(connection, 2, alone=False)
    assert offer is not None
    assert (len(json.loads(offer["uses"])), offer["sharing"]) == (2, 4)


def test_campaigns_that_take_turns_get_as_much_as_those_without_a_policy(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "CAMPAIGNS_AT_ONCE", 1)
    ann = make_sender("ann")
    made = [started(engine, 9, senders) for senders in ([ann], [ann], [ann], [], [], [])]
    claims = claims_by_campaign(engine, 6, 3)
    assert [sorted(each.values()) for each in claims] == [[1, 1, 1, 3]] * 3
    assert sum(claims, Counter[uuid.UUID]()) == dict.fromkeys(made, 3)


def test_claims_smaller_than_the_number_of_campaigns_give_to_all_of_them_alike(
    make_sender: MakeSender, engine: sa.Engine
) -> None:
    """On average: such a claim takes from some of them, in any order."""
    ann = make_sender("ann", 1000)
    in_lanes = {started(engine, 20, [ann], new_leads_per_day=cap) for cap in (None, 19) for _ in range(5)}
    for _ in range(10):
        started(engine, 20)
    claims = claims_by_campaign(engine, 4, 50)
    assert [each.total() for each in claims] == [4] * 50
    got = sum(claims, Counter[uuid.UUID]())
    # Half of 200, give or take six standard deviations.
    assert 60 < sum(got[each] for each in in_lanes) < 140


def test_lane_of_which_a_full_claim_took_nothing_is_offered_again(
    make_sender: MakeSender, engine: sa.Engine, searches: list[str]
) -> None:
    ann = make_sender("ann", 1000)
    in_lanes = {started(engine, 1, [ann]) for _ in range(4)}
    for _ in range(8):
        started(engine, 20)
    claims = claims_by_campaign(engine, 2, 60)
    assert in_lanes <= sum(claims, Counter[uuid.UUID]()).keys()
    assert len(searches) == 1


def test_more_campaigns_are_asked_where_lanes_give_less_than_their_share(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "CAMPAIGNS_AT_ONCE", 2)
    ann = make_sender("ann")
    for _ in range(14):
        started(engine, 1, [ann])
    assert [sum(each.values()) for each in claims_by_campaign(engine, 8, 3)] == [2, 4, 8]


def test_more_lanes_of_each_campaign_are_asked_before_more_campaigns(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "CAMPAIGNS_AT_ONCE", 2)
    senders = [make_sender(f"sender{number}") for number in range(4)]
    for _ in range(6):
        started(engine, 8, senders)
    claims = claims_by_campaign(engine, 8, 4)
    assert [sorted(each.values()) for each in claims] == [[2, 2], [4, 4], [4, 4], [4, 4]]


def test_what_a_cap_has_left_says_nothing_of_what_lanes_have(make_sender: MakeSender, engine: sa.Engine) -> None:
    started(engine, 9, [make_sender("ann", 1)])
    started(engine, 30, [make_sender(name) for name in ("bob", "carl", "dora")])
    lanes = LaneQueue()
    assert len(claim(engine, lanes, 8)) == 5
    second = claim(engine, lanes, 8)
    assert len(second) == 8
    assert len({email.from_address for email in second}) == 2


def test_claim_that_a_cap_leaves_just_enough_for_takes_no_more(make_sender: MakeSender, engine: sa.Engine) -> None:
    ann = make_sender("ann", 4)
    for _ in range(3):
        started(engine, 9, [ann])
    assert [sum(each.values()) for each in claims_by_campaign(engine, 4, 2)] == [4, 0]


def test_schedule_that_closes_closes_kept_lanes_at_the_next_claim(
    make_schedule: MakeSchedule, clock: MovedClock, engine: sa.Engine
) -> None:
    clock.move_to(MONDAY)
    schedule_id = make_schedule(**OPEN)
    started(engine, 9, sending_schedule_id=schedule_id)
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    with engine.begin() as connection:
        sending_schedules.update(connection, schedule_id, {"holidays": [MONDAY.date()]})
    assert claim(engine, lanes) == []


def test_schedule_that_opens_counts_at_the_next_claim_beside_kept_lanes(
    make_schedule: MakeSchedule, clock: MovedClock, engine: sa.Engine
) -> None:
    clock.move_to(MONDAY)
    closed = make_schedule(**{**OPEN, "holidays": [MONDAY.date()]})
    opened = started(engine, 9, sending_schedule_id=make_schedule(**OPEN))
    waiting = started(engine, 9, sending_schedule_id=closed)
    lanes = LaneQueue()
    assert {email.campaign_id for email in claim(engine, lanes)} == {opened}
    with engine.begin() as connection:
        sending_schedules.update(connection, closed, {"holidays": []})
    assert {email.campaign_id for email in claim(engine, lanes)} == {opened, waiting}


def test_hours_of_a_spread_budget_are_those_of_a_changed_schedule(
    make_schedule: MakeSchedule, make_sender: MakeSender, engine: sa.Engine
) -> None:
    closed = make_schedule(**{**OPEN, "holidays": [MONDAY.date()]})
    other = started(engine, 9, [make_sender("bob")])
    waiting = started(engine, 9, [make_sender("ann", 9, spread=True)], sending_schedule_id=closed)
    lanes = LaneQueue()
    assert {email.campaign_id for email in claim(engine, lanes)} == {other}
    with engine.begin() as connection:
        sending_schedules.update(connection, closed, {"holidays": []})
    assert {email.campaign_id for email in claim(engine, lanes)} == {waiting, other}


def test_spread_budget_of_a_new_day_counts_at_its_first_claim(
    make_sender: MakeSender, clock: MovedClock, engine: sa.Engine
) -> None:
    clock.move_to(MONDAY + dt.timedelta(hours=11.9))
    started(engine, 9, [make_sender("ann", 4, spread=True)])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    clock.move_to(MONDAY + dt.timedelta(hours=12, seconds=5))
    assert len(claim(engine, lanes)) == 1


def test_cap_holds_for_lanes_that_are_found_at_the_second_look(
    make_schedule: MakeSchedule,
    make_sender: MakeSender,
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A schedule changes twice while a claim looks for lanes."""
    monkeypatch.setattr(lane_queue, "LOOK_AGAIN_SECONDS", -1.0)
    ann, schedule_id = make_sender("ann", 4), make_schedule(**OPEN)
    for _ in range(3):
        started(engine, 9, [ann], sending_schedule_id=schedule_id)
    lanes, find, looks = LaneQueue(), LaneQueue._find, list[bool]()
    assert len(claim(engine, lanes)) == 2

    def change(holidays: list[dt.date]) -> None:
        with engine.begin() as connection:
            sending_schedules.update(connection, schedule_id, {"holidays": holidays})

    def find_and_open(queue: LaneQueue, connection: sa.Connection, *, alone: bool) -> None:
        find(queue, connection, alone=alone)
        looks.append(bool(queue._campaigns))
        if not queue._campaigns:
            change([])

    change([MONDAY.date()])
    monkeypatch.setattr(LaneQueue, "_find", find_and_open)
    assert len(claim(engine, lanes, 9)) == 2
    assert looks == [False, True]


def test_kept_lanes_end_with_their_opening(make_schedule: MakeSchedule, clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    schedule_id = make_schedule(**{**OPEN, "hours": {"mon": [["11:00", "13:00"]]}})
    started(engine, 9, sending_schedule_id=schedule_id)
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    clock.move_to(MONDAY + dt.timedelta(hours=1))
    assert claim(engine, lanes) == []


def test_paused_campaign_gives_nothing_from_kept_lanes(make_sender: MakeSender, engine: sa.Engine) -> None:
    campaign_id = started(engine, 9, [make_sender("ann")])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    lifecycle.pause_campaign(engine, campaign_id, rows_at_once=False)
    assert claim(engine, lanes) == []


@pytest.mark.parametrize("change", [{"status": "disabled"}, {"daily_cap": 2}])
def test_changed_sender_counts_for_kept_lanes(
    make_sender: MakeSender, engine: sa.Engine, change: dict[str, object]
) -> None:
    ann = make_sender("ann", 9)
    started(engine, 9, [ann])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    with engine.begin() as connection:
        sender_addresses.update(connection, ann, change)
    assert claim(engine, lanes) == []


def test_cap_of_new_leads_that_comes_later_counts_for_kept_lanes(make_sender: MakeSender, engine: sa.Engine) -> None:
    campaign_id = started(engine, 9, [make_sender("ann")])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_day": 3})
    assert len(claim(engine, lanes)) == 1
    assert claim(engine, lanes) == []


def test_what_becomes_due_is_found_when_the_kept_lanes_are_empty(
    make_sender: MakeSender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_queue, "LOOK_AGAIN_SECONDS", 0.0)
    ann = make_sender("ann")
    started(engine, 1, [ann])
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 1
    later = started(engine, 1, [ann])
    assert [email.campaign_id for email in claim(engine, lanes)] == [later]


def test_lanes_that_are_found_and_give_nothing_are_looked_for_once(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, searches: list[str]
) -> None:
    """To look for them may take longer than they are kept for."""
    monkeypatch.setattr(lane_queue, "LOOK_AGAIN_SECONDS", 0.0)
    with engine.connect() as connection:
        addresses = [f"lead{number}@acme.example.com" for number in range(3)]
        campaign_id = make_campaign(connection, addresses, [NO_DELAY], new_leads_per_company_per_day=1)
    lifecycle.start_campaign(engine, campaign_id)
    assert len(claim(engine, LaneQueue())) == 1
    searches.clear()
    assert claim(engine, LaneQueue()) == []
    assert len(searches) == 1


def test_claim_with_senders_and_caps_writes_no_index_entries(make_sender: MakeSender, engine: sa.Engine) -> None:
    started(engine, 5, [make_sender("ann", 9)], new_leads_per_day=9, new_leads_per_company_per_day=9)
    updates = sa.text(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_emails'"
    )
    token = uuid.uuid4()
    with engine.begin() as connection:
        claimed = claim_emails.claim(connection, 10, token)
        claim_emails.fence(connection, claimed, token)
        updated, without_index_entries = connection.execute(updates).one()
    assert len(claimed) == 5
    assert without_index_entries == updated == 10


def test_isolated_campaign_is_claimed_alone_and_keeps_its_caps(make_sender: MakeSender, engine: sa.Engine) -> None:
    ann = make_sender("ann", 5)
    isolated, other = started(engine, 9, [ann], new_leads_per_day=2), started(engine, 9, [ann])
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE campaigns SET prepared_alone = true WHERE id = :id").bindparams(
                sa.bindparam("id", isolated, sa.UUID)
            )
        )
    assert {email.campaign_id for email in claim(engine, LaneQueue())} == {other}
    with engine.begin() as connection:
        alone = claim_emails.claim(connection, 9, uuid.uuid4(), alone=True)
    assert [email.campaign_id for email in alone] == [isolated, isolated]
    assert len(claim(engine, LaneQueue(), 9)) == 1


def test_cap_for_each_company_that_is_new_holds_for_kept_lanes(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = started(engine, 9, new_leads_per_day=8)
    lanes = LaneQueue()
    assert len(claim(engine, lanes)) == 2
    with engine.begin() as connection:
        campaigns.update(connection, campaign_id, {"new_leads_per_company_per_day": 3})
    assert claim(engine, lanes, 9) == []
    assert len(claim(engine, LaneQueue(), 9)) == 1


def test_days_that_are_long_over_are_one_number_for_each_sender(
    make_sender: MakeSender, clock: MovedClock, engine: sa.Engine
) -> None:
    ann = make_sender("ann", ramp={"start": 2, "step": 1, "ceiling": 9})
    for _ in range(2):
        started(engine, 9, [ann])
    claim(engine, LaneQueue(), 9)
    uses = sa.text("SELECT campaign_id, count, is_total FROM cap_uses WHERE sender_id = :ann")
    clock.move_to(MONDAY + 30 * DAY)
    with engine.begin() as connection:
        budgets.fold(connection)
        budgets.forget_days(connection)
        assert [tuple(row)[1:] for row in connection.execute(uses, {"ann": ann})] == [(1, True), (1, True)]
    clock.move_to(MONDAY + 31 * DAY)
    with engine.begin() as connection:
        for _ in range(2):
            budgets.forget_days(connection)
        assert [tuple(row) for row in connection.execute(uses, {"ann": ann})] == [(uuid.UUID(int=0), 2, True)]
    # The day still counts for the ramp.
    assert len(claim(engine, LaneQueue(), 9)) == 3
