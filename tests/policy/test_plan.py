"""The plan says how many emails go on which day, and that is what goes."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from sendledger.campaigns import intake, lifecycle
from sendledger.core.tables import campaigns, scheduled_emails, workflow_steps
from sendledger.core.tables import leads as leads_table
from sendledger.ledger import sender_state
from sendledger.policy import budgets, lane_queue, sender_addresses
from sendledger.policy.caps import place_in_turn, share
from sendledger.policy.planned_campaigns import SesLimits
from sendledger.preflight import plan
from sendledger.preflight.plan import Plan
from sendledger.sending import pace
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.campaigns import make_batch, make_campaign, make_variants, make_workflow, rows_of
from testbed.moved_clock import MovedClock
from tests.policy.conftest import MakeSchedule

SECONDS = 60.0
HOUR = dt.timedelta(hours=1)
MONDAY = dt.datetime(2026, 7, 6, 5, tzinfo=dt.UTC)
"""Two hours before the office in Berlin opens."""
AMPLE = SesLimits(1000.0)


@pytest.fixture
def make_senders(clock: MovedClock, engine: sa.Engine) -> Callable[..., list[uuid.UUID]]:
    """Creates a sender with each of these caps, which it uses up at once if nothing else is given."""

    def make(*caps: int | None, **values: Any) -> list[uuid.UUID]:
        with engine.begin() as connection:
            return [
                sender_addresses.create(
                    connection,
                    {"from_address": f"ann{number}@example.com", "daily_cap": cap, "status": "active"}
                    | {"spread": False, **values},
                )["id"]
                for number, cap in enumerate(caps)
            ]

    return make


MakeSenders = Callable[..., list[uuid.UUID]]


def draft(engine: sa.Engine, leads: int, zones: Sequence[str | None] = (None,), **values: Any) -> uuid.UUID:
    """A draft with so many leads in each zone, zone after zone; `steps` are delays, whole numbers of them business
    days."""
    return draft_in_order(engine, [name for name in zones for _ in range(leads)], **values)


def draft_in_order(engine: sa.Engine, zones: Sequence[str | None], **values: Any) -> uuid.UUID:
    """A draft with a lead in each of these zones, in the order of their import."""
    steps = values.pop("steps", [dt.timedelta(0)])
    with engine.begin() as connection:
        workflow_id = make_workflow(
            connection, [step if not isinstance(step, int) else dt.timedelta(0) for step in steps]
        )
        for number, step in enumerate(steps, 1):
            if isinstance(step, int):
                in_days = {"delay": None, "days_after_previous": step, "business_days": True}
                of_step = (workflow_steps.c.workflow_id == workflow_id) & (workflow_steps.c.step_number == number)
                connection.execute(sa.update(workflow_steps).where(of_step).values(in_days))
        # Their order is not that of the addresses.
        addresses = [f"{uuid.uuid4().hex[:12]}@example.com" for _ in zones]
        batch = make_batch(connection, addresses)
        for name in set(zones):
            own = [address for address, of_lead in zip(addresses, zones, strict=True) if of_lead == name]
            connection.execute(sa.update(leads_table).where(leads_table.c.email.in_(own)).values(time_zone=name))
    with engine.connect() as connection:
        return make_campaign(connection, workflow_id=workflow_id, **{"batch_ids": [batch] if zones else [], **values})


def planned(engine: sa.Engine, campaign_id: uuid.UUID, ses: SesLimits | None = AMPLE) -> Plan:
    with engine.begin() as connection:
        return plan.plan(connection, campaign_id, ses)


def by_day(found: Plan) -> list[int]:
    return [day.emails.total() for day in found.days]


def bottlenecks(found: Plan) -> list[str | None]:
    return [day.bottleneck for day in found.days]


BERLIN, LONDON, MOSCOW, PARIS = "Europe/Berlin", "Europe/London", "Europe/Moscow", "Europe/Paris"
NOON = dt.timedelta(hours=4.5)
"""After `MONDAY`: the offices in Berlin and London are open."""
SPLITS = {
    "evenly": ({BERLIN: (13, 13), LONDON: (13, 13)}, 0 * HOUR),
    "unevenly": ({BERLIN: (10, 16), LONDON: (16, 10)}, 0 * HOUR),
    "unevenly the other way": ({BERLIN: (16, 10), LONDON: (10, 16)}, 0 * HOUR),
    "one zone each": ({BERLIN: (25, 1), LONDON: (1, 25)}, 0 * HOUR),
    "three zones": ({BERLIN: (12, 6), LONDON: (4, 14), MOSCOW: (10, 6)}, 0 * HOUR),
    "zones that are open together": ({BERLIN: (10, 16), LONDON: (16, 10)}, NOON),
    "three that are open together": ({BERLIN: (12, 4), LONDON: (4, 16), PARIS: (10, 6)}, NOON),
}
"""The leads of ann and bob in each zone, and when the campaign starts."""


def in_turns(split: Mapping[str, Sequence[int]]) -> list[str]:
    """The zones of leads in an order of import in which the senders, which take turns, get so many in each zone."""
    of_senders = [[name for name, counts in split.items() for _ in range(counts[place])] for place in range(2)]
    return [name for together in zip(*of_senders, strict=True) for name in together]


def ticks(engine: sa.Engine, zones: Iterable[str], start: dt.datetime, days: int) -> Iterator[dt.datetime]:
    """The ticks of a deployment, half a minute after each full one.

    Left out are those at which nothing has changed: no office has opened, nothing has fallen due, and no cap has
    released an email.
    """
    half = dt.timedelta(seconds=30)
    now = start + half
    while now < start + dt.timedelta(days=days):
        yield now
        dates = [now.date() + dt.timedelta(days=day) for day in range(2)]
        changes = [
            dt.datetime.combine(date, dt.time(hour), ZoneInfo(name))
            for date, name, hour in itertools.product(dates, zones, (9, 13))
        ]
        pending = scheduled_emails.c.status == "pending", scheduled_emails.c.scheduled_for > now
        with engine.connect() as connection:
            if due := connection.scalar(sa.select(sa.func.min(scheduled_emails.c.scheduled_for)).where(*pending)):
                changes.append(due)
            left = budgets.budgets(connection)
        # After the hours of a day it is what the clock says.
        releases = [each.next_release for each in left.senders if each.remaining <= 0]
        changes += [release for release in releases if now + half <= release < left.day.ends_at]
        change = min(each for each in changes if each > now) - half
        now = (change + (MONDAY - change) % dt.timedelta(minutes=1) + half).astimezone(dt.UTC)


def send(clock: MovedClock, resources: Resources, zones: Iterable[str], start: dt.datetime, days: int = 35) -> None:
    """Let a deployment run for so many days, or until all campaigns are completed."""
    under_way = sa.select(campaigns.c.id).where(campaigns.c.status == "running")
    for now in ticks(resources.engine, zones, start, days):
        clock.move_to(now)
        send_due_emails(resources, SECONDS)
        with resources.engine.connect() as connection:
            if connection.scalar(under_way.limit(1)) is None:
                break


def assert_sent_as_planned(engine: sa.Engine, found: Plan) -> None:
    since = found.days[0].date
    rows = [row for row in rows_of(engine, found.campaign_id) if row["sent_at"] and row["sent_at"].date() >= since]
    sent = Counter((row["sent_at"].date(), row["workflow_step_number"], row["sender_id"]) for row in rows)
    assert {(day.date, *key): emails for day in found.days for key, emails in day.emails.items()} == sent
    assert found.finishes_at is not None
    assert dt.timedelta(0) <= max(row["sent_at"] for row in rows) - found.finishes_at < dt.timedelta(minutes=1)


@pytest.mark.parametrize(
    ("split", "most", "spread"),
    [
        *((split, pace.MAX_CHUNK, False) for split in SPLITS),
        ("three zones", 2, False),
        ("three that are open together", 7, False),
        ("three zones", pace.MAX_CHUNK, True),
        ("three that are open together", pace.MAX_CHUNK, True),
    ],
)
def test_in_four_weeks_the_plan_and_what_was_sent_differ_by_no_email_on_any_day(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    make_schedule: MakeSchedule,
    make_senders: MakeSenders,
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    most: int,
    *,
    spread: bool,
) -> None:
    """However many emails a claim takes: it is what goes in two seconds."""
    monkeypatch.setattr(pace, "MAX_CHUNK", most)
    leads, after = SPLITS[split]
    clock.move_to(MONDAY + after)
    ann, bob = make_senders(7, 5, spread=spread)
    office = make_schedule(holidays=[dt.date(2026, 7, 14)])
    steps = [dt.timedelta(0), 2, dt.timedelta(days=4)]
    policy: dict[str, Any] = {"sending_schedule_id": office, "sender_ids": [ann, bob]}
    campaign_id = draft_in_order(engine, in_turns(leads), steps=steps, **policy)
    before = planned(engine, campaign_id)
    lifecycle.start_campaign(engine, campaign_id)
    found = planned(engine, campaign_id)
    assert found.finishes_at is not None
    assert MONDAY + dt.timedelta(days=18) < found.finishes_at < MONDAY + dt.timedelta(days=30)
    send(clock, resources, leads, MONDAY + after)
    assert_sent_as_planned(engine, found)
    assert before.days == found.days
    assert found.days[0].emails == {(1, ann): 7, (1, bob): 5}


DAYS = dt.timedelta(days=1)
POLICIES: dict[str, dict[str, Any]] = {
    "cap of new leads": {"caps": (None, None), "new_leads_per_day": 5},
    "cap of new leads and one of a sender": {"caps": (4, None), "new_leads_per_day": 7},
    "ramps": {"caps": (None, 6), "ramp": {"start": 1, "step": 2, "ceiling": 9}},
    "fewer emails than zones": {"caps": (2, 1)},
    "steps that fall due together": {"caps": (5, 3), "steps": [0 * DAYS, 1 * DAYS, 2 * DAYS, 1 * DAYS]},
    "business days": {"caps": (6, None), "steps": [0 * DAYS, 1, 1]},
    "spread caps": {"caps": (5, 3), "spread": True, "steps": [0 * DAYS, 1 * DAYS, 1 * DAYS]},
    "spread caps and steps on one day": {"caps": (7, 2), "spread": True, "steps": [0 * DAYS, 3 * HOUR, 2]},
    "a spread cap and one of new leads": {"caps": (4, None), "spread": True, "new_leads_per_day": 7},
    "spread ramps": {"caps": (None, 6), "spread": True, "ramp": {"start": 1, "step": 2, "ceiling": 9}},
    "spread caps, shortly before an office closes": {
        "caps": (9, 9),
        "spread": True,
        "after": 9.7 * HOUR,
        "split": {BERLIN: (5, 5), LONDON: (1, 1)},
    },
}
"""The campaign starts when all three offices are open, where nothing else is said."""


@pytest.mark.parametrize(
    ("policy", "most", "kept"),
    [
        *((policy, pace.MAX_CHUNK, lane_queue.KEPT_SECONDS) for policy in POLICIES),
        ("cap of new leads", 2, lane_queue.KEPT_SECONDS),
        ("cap of new leads and one of a sender", 3, lane_queue.KEPT_SECONDS),
        ("fewer emails than zones", 2, lane_queue.KEPT_SECONDS),
        ("steps that fall due together", 2, lane_queue.KEPT_SECONDS),
        ("cap of new leads", 1, -1.0),
        ("cap of new leads and one of a sender", 1, -1.0),
        ("a spread cap and one of new leads", 1, -1.0),
    ],
)
def test_the_plan_of_leads_in_several_zones_is_what_is_sent(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    make_schedule: MakeSchedule,
    make_senders: MakeSenders,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    most: int,
    kept: float,
) -> None:
    """However many emails a claim takes, also if each claim is one of another tick, which knows of no turns."""
    monkeypatch.setattr(pace, "MAX_CHUNK", most)
    monkeypatch.setattr(lane_queue, "KEPT_SECONDS", kept)
    values = POLICIES[policy].copy()
    split = values.pop("split", {BERLIN: (5, 2), LONDON: (2, 6), MOSCOW: (4, 3)})
    start = MONDAY + values.pop("after", NOON)
    clock.move_to(start)
    senders = make_senders(*values.pop("caps"), ramp=values.pop("ramp", None), spread=values.pop("spread", False))
    values = {"steps": [0 * DAYS, 2], "sending_schedule_id": make_schedule(), "sender_ids": senders, **values}
    campaign_id = draft_in_order(engine, in_turns(split), **values)
    before = planned(engine, campaign_id)
    lifecycle.start_campaign(engine, campaign_id)
    found = planned(engine, campaign_id)
    send(clock, resources, split, start)
    assert_sent_as_planned(engine, found)
    assert before.days == found.days


@pytest.mark.parametrize(("most", "spread"), [(pace.MAX_CHUNK, False), (2, False), (pace.MAX_CHUNK, True)])
def test_the_plan_of_campaigns_with_several_zones_that_share_senders_is_what_is_sent(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    make_schedule: MakeSchedule,
    make_senders: MakeSenders,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    *,
    spread: bool,
) -> None:
    monkeypatch.setattr(pace, "MAX_CHUNK", most)
    clock.move_to(MONDAY + NOON)
    ann, bob = make_senders(5, 4, spread=spread)
    office = make_schedule()
    splits: list[dict[str, tuple[int, int]]] = [
        {BERLIN: (9, 1), LONDON: (2, 10)},
        {BERLIN: (3, 6), MOSCOW: (5, 2)},
    ]
    both = [
        draft_in_order(
            engine, in_turns(split), steps=[0 * DAYS, 1, 3 * DAYS], sending_schedule_id=office, sender_ids=[ann, bob]
        )
        for split in splits
    ]
    for campaign_id in both:
        lifecycle.start_campaign(engine, campaign_id)
    found = [planned(engine, campaign_id) for campaign_id in both]
    send(clock, resources, (BERLIN, LONDON, MOSCOW), MONDAY + NOON)
    for each in found:
        assert_sent_as_planned(engine, each)


def test_the_plan_of_a_day_that_has_begun_counts_the_new_leads_of_each_sender(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_schedule: MakeSchedule, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY + NOON)
    ann, bob = make_senders(None, None)
    split = {BERLIN: (5, 2), LONDON: (2, 6), MOSCOW: (4, 3)}
    policy: dict[str, Any] = {"sending_schedule_id": make_schedule(), "sender_ids": [ann, bob], "new_leads_per_day": 6}
    campaign_id = draft_in_order(engine, in_turns(split), steps=[0 * DAYS, 2], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    by_hand = [row["id"] for row in rows_of(engine, campaign_id) if row["workflow_step_number"] == 1][:4:2]
    for id_ in by_hand:
        send_scheduled_email(resources, id_)
    found = planned(engine, campaign_id)
    assert found.days[0].emails == {(1, ann): 1, (1, bob): 3}
    send(clock, resources, split, MONDAY + NOON)
    found.days[0].emails[1, ann] += len(by_hand)
    assert_sent_as_planned(engine, found)


def test_the_plan_of_a_resumed_campaign_is_what_is_sent(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_schedule: MakeSchedule, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    split = {BERLIN: (8, 3), LONDON: (2, 7)}
    policy: dict[str, Any] = {"sending_schedule_id": make_schedule(), "sender_ids": make_senders(4, 3)}
    campaign_id = draft_in_order(engine, in_turns(split), steps=[0 * DAYS, 1, 2 * DAYS], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    send(clock, resources, split, MONDAY, 2)
    resumed_at = MONDAY + 3 * DAYS + NOON
    clock.move_to(MONDAY + 2 * DAYS)
    lifecycle.pause_campaign(engine, campaign_id)
    clock.move_to(resumed_at)
    lifecycle.resume_campaign(engine, campaign_id)
    found = planned(engine, campaign_id)
    send(clock, resources, split, resumed_at)
    assert_sent_as_planned(engine, found)


@pytest.mark.parametrize("spread", [False, True], ids=["at once", "spread"])
def test_a_cap_divides_the_emails_over_the_days(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders, *, spread: bool
) -> None:
    clock.move_to(MONDAY)
    found = planned(engine, draft(engine, 100, sender_ids=make_senders(30, spread=spread)))
    assert by_day(found) == [30, 30, 30, 10]
    assert bottlenecks(found) == ["sender_cap", "sender_cap", "sender_cap", None]
    assert found.finishes_at is not None
    assert (found.finishes_at == MONDAY.replace(hour=0) + dt.timedelta(days=3)) is not spread


def test_a_cap_that_is_spread_is_planned_to_the_minute(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    """Of three emails, one goes when the day begins, and the next after a third of 23.5 hours."""
    clock.move_to(MONDAY)
    found = planned(engine, draft(engine, 5, sender_ids=make_senders(3, spread=True)))
    assert by_day(found) == [3, 2]
    assert found.finishes_at == MONDAY.replace(hour=7, minute=50) + dt.timedelta(days=1)


def test_a_ramp_grows_with_the_days(clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders) -> None:
    clock.move_to(MONDAY)
    senders = make_senders(None, ramp={"start": 2, "step": 3, "ceiling": 7})
    assert by_day(planned(engine, draft(engine, 23, sender_ids=senders))) == [2, 5, 7, 7, 2]


def test_a_cap_of_new_leads_is_a_bottleneck(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    found = planned(engine, draft(engine, 10, new_leads_per_day=4, steps=[dt.timedelta(0), dt.timedelta(days=1)]))
    assert by_day(found) == [4, 8, 6, 2]
    assert bottlenecks(found) == ["new_leads_per_day", "new_leads_per_day", None, None]


def test_a_cap_of_new_leads_is_divided_over_the_senders(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    ann, bob, eve = make_senders(None, None, 1)
    found = planned(engine, draft(engine, 15, sender_ids=[ann, bob, eve], new_leads_per_day=5))
    assert [{sender: count for (_, sender), count in day.emails.items()} for day in found.days[:2]] == [
        {ann: 2, bob: 2, eve: 1},
        {ann: 2, bob: 2, eve: 1},
    ]
    assert sum(by_day(found)) == 15
    assert bottlenecks(found)[:2] == ["new_leads_per_day", "new_leads_per_day"]


@pytest.mark.parametrize(("most", "cap_of_company"), [(pace.MAX_CHUNK, None), (1, None), (pace.MAX_CHUNK, 9)])
def test_the_plan_of_new_leads_that_cannot_be_divided_gives_them_to_another_sender_on_another_day(
    clock: MovedClock,
    engine: sa.Engine,
    resources: Resources,
    make_senders: MakeSenders,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    cap_of_company: int | None,
) -> None:
    monkeypatch.setattr(pace, "MAX_CHUNK", most)
    clock.move_to(MONDAY)
    senders = make_senders(None, None, None)
    policy: dict[str, Any] = {"new_leads_per_day": 4, "new_leads_per_company_per_day": cap_of_company}
    campaign_id = draft(engine, 60, sender_ids=senders, **policy)
    lifecycle.start_campaign(engine, campaign_id)
    days = planned(engine, campaign_id).days[:6]
    for day in days:
        clock.move_to(MONDAY + HOUR + (day.date - MONDAY.date()))
        send_due_emails(resources, SECONDS)
        first = min(senders, key=lambda sender_id: place_in_turn(sender_id, day.date))
        assert day.emails == {(1, sender_id): 2 if sender_id == first else 1 for sender_id in senders}
    sent = Counter((row["sent_at"].date(), row["sender_id"]) for row in rows_of(engine, campaign_id) if row["sent_at"])
    assert sent == {(day.date, sender_id): count for day in days for (_, sender_id), count in day.emails.items()}


def test_plan_follows_the_cap_for_each_company(clock: MovedClock, engine: sa.Engine, resources: Resources) -> None:
    clock.move_to(MONDAY)
    with engine.begin() as connection:
        domains = ["big.example"] * 6 + ["mid.example"] * 3 + ["gmail.com"] * 2 + ["one.example", "two.example"]
        batch = make_batch(connection, [f"ann{number}@{domain}" for number, domain in enumerate(domains)])
    with engine.connect() as connection:
        delays = [dt.timedelta(0), dt.timedelta(days=2)]
        campaign_id = make_campaign(connection, delays=delays, new_leads_per_company_per_day=1, batch_ids=[batch])
    assert by_day(planned(engine, campaign_id)) == [6, 2, 8, 3, 3, 2, 1, 1]
    lifecycle.start_campaign(engine, campaign_id)
    found = planned(engine, campaign_id)
    assert by_day(found) == [6, 2, 8, 3, 3, 2, 1, 1]
    assert bottlenecks(found)[:6] == ["new_leads_per_company_per_day"] * 5 + [None]
    for day in range(len(found.days)):
        # A little later each day, so that the second steps are due.
        clock.move_to(MONDAY + dt.timedelta(days=day, minutes=5 + 5 * day))
        send_due_emails(resources, SECONDS)
    sent = Counter(row["sent_at"].date() for row in rows_of(engine, campaign_id) if row["sent_at"])
    assert [count for _, count in sorted(sent.items())] == by_day(found)


def test_leads_of_a_company_that_got_mail_today_wait_for_tomorrow(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    clock.move_to(MONDAY)
    with engine.begin() as connection:
        batch = make_batch(connection, [f"ann{number}@big.example" for number in range(5)])
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, batch_ids=[batch], new_leads_per_company_per_day=2)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    found = planned(engine, campaign_id)
    assert by_day(found) == [0, 2, 1]
    assert bottlenecks(found) == ["new_leads_per_company_per_day", "new_leads_per_company_per_day", None]


def test_emails_that_wait_for_a_winner_go_when_it_is_to_be_decided(
    clock: MovedClock, engine: sa.Engine, resources: Resources
) -> None:
    clock.move_to(MONDAY)
    with engine.begin() as connection:
        workflow_id = make_workflow(connection, [dt.timedelta(0), dt.timedelta(days=2)])
        for step in (1, 2):
            make_variants(connection, workflow_id, [1, 1], step)
        winner = {"by": "delivered", "test_share": 40, "after_seconds": 86_400}
        connection.execute(sa.update(workflow_steps).values(winner=winner))
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 10, workflow_id=workflow_id)
    before = planned(engine, campaign_id)
    assert by_day(before) == [4, 6, 4, 6]
    lifecycle.start_campaign(engine, campaign_id)
    assert by_day(planned(engine, campaign_id)) == [4, 6, 4, 6]
    for day in range(4):
        clock.move_to(MONDAY + dt.timedelta(days=day, minutes=5 + 5 * day))
        send_due_emails(resources, SECONDS)
        assert by_day(planned(engine, campaign_id))[1:] == [4, 6, 4, 6][day + 1 :]
    sent = Counter(row["sent_at"].date() for row in rows_of(engine, campaign_id) if row["sent_at"])
    assert [count for _, count in sorted(sent.items())] == [4, 6, 4, 6]


def test_new_leads_that_ses_leaves_no_room_for_use_up_no_cap(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    by_rate = planned(engine, draft(engine, 10, new_leads_per_day=5), SesLimits(1 / 1800))
    assert by_day(by_rate) == [5, 5]


def test_day_on_which_ses_lets_nothing_out_does_not_count_for_a_ramp(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY.replace(hour=20))
    senders = make_senders(None, ramp={"start": 2, "step": 3, "ceiling": 7})
    found = planned(engine, draft(engine, 5, sender_ids=senders), SesLimits(100.0, 10, 10))
    assert by_day(found) == [0, 2, 3]


def test_days_are_those_of_the_zone_of_the_caps(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sender_state SET sending_day_time_zone = 'Asia/Tokyo'"))
    found = planned(engine, draft(engine, 25, sender_ids=make_senders(10)))
    assert by_day(found) == [10, 10, 5]
    assert found.finishes_at == MONDAY.replace(hour=15) + dt.timedelta(days=1)


def test_what_went_out_today_counts_against_the_cap(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    campaign_id = draft(engine, 10, sender_ids=make_senders(4))
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    assert by_day(planned(engine, campaign_id)) == [0, 4, 2]


def test_a_weekend_is_a_window(clock: MovedClock, engine: sa.Engine, make_schedule: MakeSchedule) -> None:
    clock.move_to(MONDAY + dt.timedelta(days=4, hours=14))
    found = planned(engine, draft(engine, 5, sending_schedule_id=make_schedule()))
    assert by_day(found) == [0, 0, 0, 5]
    assert bottlenecks(found) == ["window", "window", "window", None]
    assert found.finishes_at == MONDAY + dt.timedelta(days=7, hours=2)


def test_the_rate_and_the_quota_of_ses_are_bottlenecks(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = draft(engine, 90)
    by_rate = planned(engine, campaign_id, SesLimits(1 / 1800))
    assert (by_day(by_rate)[0], sum(by_day(by_rate)), bottlenecks(by_rate)) == (38, 90, ["ses_rate", "ses_rate", None])
    by_quota = planned(engine, campaign_id, SesLimits(100.0, 40, 10))
    assert (sum(by_day(by_quota)), bottlenecks(by_quota)[0]) == (90, "ses_daily_quota")
    assert by_day(by_quota)[0] == 30


def test_campaigns_that_share_a_sender_share_its_days(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    senders = make_senders(10)
    lifecycle.start_campaign(engine, draft(engine, 7, sender_ids=senders))
    assert by_day(planned(engine, draft(engine, 20, sender_ids=senders))) == [5, 8, 7]


def test_the_plan_of_campaigns_that_share_a_sender_is_what_each_of_them_sends(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_senders: MakeSenders
) -> None:
    """An odd cap: what is left over goes to another campaign on another day."""
    clock.move_to(MONDAY)
    senders = make_senders(5)
    both = [draft(engine, 16, sender_ids=senders), draft(engine, 19, sender_ids=senders)]
    for campaign_id in both:
        lifecycle.start_campaign(engine, campaign_id)
    days = [by_day(planned(engine, campaign_id)) for campaign_id in both]
    assert days[0][1] + days[1][1] == 5
    for day in range(max(map(len, days))):
        clock.move_to(MONDAY + dt.timedelta(days=day, minutes=5))
        send_due_emails(resources, SECONDS)
    for campaign_id, own in zip(both, days, strict=True):
        sent = Counter(row["sent_at"].day - MONDAY.day for row in rows_of(engine, campaign_id) if row["sent_at"])
        assert [sent[day] for day in range(len(own))] == own


def test_a_campaign_that_will_start_takes_its_part_of_the_sender(
    clock: MovedClock, engine: sa.Engine, resources: Resources, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    senders = make_senders(10)
    campaign_id = draft(engine, 20, sender_ids=senders)
    lifecycle.start_campaign(engine, campaign_id)
    assert by_day(planned(engine, campaign_id)) == [10, 10]
    at_night: dict[str, Any] = {"start_type": "scheduled", "scheduled_start_at": MONDAY.replace(hour=23, minute=50)}
    other = draft(engine, 15, sender_ids=senders, **at_night)
    lifecycle.start_campaign(engine, other)
    assert [by_day(planned(engine, each)) for each in (campaign_id, other)] == [[10, 5, 5], [0, 5, 5, 5]]
    for hours in (1, 18.9, 20, 44, 68):
        clock.move_to(MONDAY + hours * HOUR)
        lifecycle.start_due_campaigns(engine)
        send_due_emails(resources, SECONDS)
    sent = Counter(
        (row["campaign_id"], row["sent_at"].day) for row in [*rows_of(engine, campaign_id), *rows_of(engine, other)]
    )
    assert sent == {(campaign_id, 6): 10, (campaign_id, 7): 5, (campaign_id, 8): 5} | {
        (other, day): 5 for day in (7, 8, 9)
    }


def test_hours_of_a_campaign_that_will_start_do_not_count_before_its_start(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders, make_schedule: MakeSchedule
) -> None:
    """The cap of three is spread over the hours of Berlin; those of New York count from three in the afternoon on."""
    clock.move_to(MONDAY)
    policy: dict[str, Any] = {"sender_ids": make_senders(3, spread=True), "sending_schedule_id": make_schedule()}
    campaign_id = draft(engine, 2, [BERLIN], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    alone = planned(engine, campaign_id).finishes_at
    at_three: dict[str, Any] = {"start_type": "scheduled", "scheduled_start_at": MONDAY + 8 * HOUR}
    lifecycle.start_campaign(engine, draft(engine, 9, ["America/New_York"], **policy, **at_three))
    assert planned(engine, campaign_id).finishes_at == alone


def test_a_campaign_that_cannot_start_takes_nothing(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders
) -> None:
    clock.move_to(MONDAY)
    senders = make_senders(10)
    campaign_id = draft(engine, 20, sender_ids=senders)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as connection:
        (held,) = connection.scalars(sa.select(campaigns.c.batch_ids).where(campaigns.c.id == campaign_id)).one()
    soon: dict[str, Any] = {"start_type": "scheduled", "scheduled_start_at": MONDAY + HOUR, "sender_ids": senders}
    lifecycle.start_campaign(engine, draft(engine, 0, batch_ids=[held], **soon))
    without_steps = draft(engine, 20, **soon)
    lifecycle.start_campaign(engine, without_steps)
    with engine.begin() as connection:
        own = sa.select(campaigns.c.workflow_id).where(campaigns.c.id == without_steps).scalar_subquery()
        connection.execute(sa.delete(workflow_steps).where(workflow_steps.c.workflow_id == own))
    assert by_day(planned(engine, campaign_id)) == [10, 10]


def test_a_draft_splits_its_leads_over_the_senders_as_the_start_does(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders, make_schedule: MakeSchedule
) -> None:
    """In the order of their import every second lead is in Tokyo, where the office is closed by now."""
    clock.move_to(MONDAY + 5 * HOUR)
    ann, bob = make_senders(3, 3)
    policy: dict[str, Any] = {"sender_ids": [ann, bob], "sending_schedule_id": make_schedule()}
    campaign_id = draft_in_order(engine, ["Asia/Tokyo", BERLIN] * 6, **policy)
    before = planned(engine, campaign_id)
    lifecycle.start_campaign(engine, campaign_id)
    assert by_day(before) == [3, 6, 3]
    assert before.days == planned(engine, campaign_id).days


def test_a_scheduled_campaign_begins_at_its_start(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    values: dict[str, Any] = {"start_type": "scheduled", "scheduled_start_at": MONDAY + dt.timedelta(days=2)}
    assert by_day(planned(engine, draft(engine, 3, **values))) == [0, 0, 3]


def test_the_plan_of_a_campaign_that_waits_for_a_person_says_why_it_has_no_end(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders, make_schedule: MakeSchedule
) -> None:
    clock.move_to(MONDAY)
    (sender,) = make_senders(1)
    campaign_id = draft(engine, 3, sender_ids=[sender])
    assert planned(engine, campaign_id, None).reason == "ses_unknown"
    with engine.begin() as connection:
        sender_state.stop(connection, "access_denied", "SES denies access.", None)
    assert planned(engine, campaign_id).reason == "sending_stopped"
    with engine.begin() as connection:
        sender_state.clear_stop(connection, "ann")
        # This one ends by itself.
        sender_state.stop(connection, "daily_quota", "The quota is used up.", 600)
    assert planned(engine, campaign_id).reason is None
    with engine.begin() as connection:
        sender_addresses.update(connection, sender, {"status": "disabled"})
    assert planned(engine, campaign_id).reason == "a_sender_disabled"
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    assert planned(engine, campaign_id).reason == "campaign_paused"
    lifecycle.cancel_campaign(engine, campaign_id)
    assert planned(engine, campaign_id).reason == "campaign_ended"
    closed = draft(engine, 1, ["Mars/Olympus"], sending_schedule_id=make_schedule())
    assert planned(engine, closed).reason == "never_open"


def test_an_evergreen_campaign_has_an_end_when_its_intake_has_ended(clock: MovedClock, engine: sa.Engine) -> None:
    clock.move_to(MONDAY)
    campaign_id = draft(engine, 3, steps=[HOUR], evergreen=True)
    assert planned(engine, campaign_id).reason == "takes_in_leads"
    lifecycle.start_campaign(engine, campaign_id)
    assert planned(engine, campaign_id).reason == "takes_in_leads"
    intake.finish_intake(engine, campaign_id, "ann")
    plan_of_the_rest = planned(engine, campaign_id)
    assert (plan_of_the_rest.reason, by_day(plan_of_the_rest)) == (None, [3])
    assert plan_of_the_rest.finishes_at is not None


def test_a_plan_ends_after_400_days(clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders) -> None:
    clock.move_to(MONDAY)
    found = planned(engine, draft(engine, 500, sender_ids=make_senders(1)))
    assert (found.finishes_at, found.reason, len(found.days)) == (None, "more_than_400_days", 400)


def test_a_plan_with_too_many_lanes_says_so_and_shows_the_days_so_far(
    clock: MovedClock, engine: sa.Engine, make_senders: MakeSenders, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move_to(MONDAY)
    campaign_id = draft(engine, 50, sender_ids=make_senders(1))
    whole = planned(engine, campaign_id)
    monkeypatch.setattr("sendledger.policy.simulate_days.MOST_LOOKS", 15)
    found = planned(engine, campaign_id)
    assert (found.finishes_at, found.reason) == (None, "too_many_lanes")
    assert 0 < len(found.days) < len(whole.days)
    assert found.days == whole.days[: len(found.days)]


def test_a_share_gives_nobody_more_than_is_wanted_and_those_first_who_had_less() -> None:
    a, b, c = (uuid.UUID(int=number) for number in range(3))
    assert share(10, {a: 2, b: 20, c: 20}, Counter(), str) == {a: 2, b: 4, c: 4}
    assert share(10, {a: 20, b: 20}, Counter({a: 4}), str) == {a: 3, b: 7}
    assert share(1, {a: 5, b: 5}, Counter({a: 1}), str) == {a: 0, b: 1}
    assert share(99, {a: 5, b: 5}, Counter(), str) == {a: 5, b: 5}
