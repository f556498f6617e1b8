"""The part of the model that is about the sending policy: schedules, senders, caps, and a clock that goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import uuid
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from local.ses_simulator import SesSimulator
from sendledger.campaigns import campaigns, reassign_leads
from sendledger.core.errors import Conflict, InvalidInput
from sendledger.core.tables import scheduled_emails
from sendledger.policy import sender_addresses, sending_schedules
from sendledger.policy.openings import WEEKDAYS
from sendledger.sending.tick import Resources, send_due_emails, send_scheduled_email
from testbed.moved_clock import MovedClock
from testbed.sending_rules import FREE_MAIL, ScheduleRules, SenderRules, SendingRules, Sent

SECONDS = 60.0
"""How long a tick may take."""

HOUSE_ADDRESS = "sales@example.com"
"""What campaigns without senders send from."""

MONDAY = dt.datetime(2031, 10, 20, tzinfo=dt.UTC)
"""Later than the start of any server. Six days later clocks in Berlin are set back."""

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)

HOURS = st.sampled_from(
    [
        {day: [(9, 12), (13, 17)] for day in range(5)},
        {day: [(0, 24)] for day in range(7)},
        {day: [(20, 24)] for day in range(7)} | {6: [(0, 8)]},
        {2: [(9, 17)]},
    ]
)
SCHEDULE = st.builds(
    ScheduleRules,
    time_zone=st.sampled_from(["Europe/Berlin", "America/New_York"]),
    goes_by_lead=st.booleans(),
    hours=HOURS,
    holidays=st.sampled_from([[], [MONDAY.date() + dt.timedelta(days=1)]]),
)
SENDER = st.builds(
    SenderRules,
    daily_cap=st.sampled_from([None, 1, 2, 4]),
    ramp=st.sampled_from([None, None, (1, 1, 3)]),
    spread=st.booleans(),
    is_active=st.sampled_from([True, True, True, False]),
)
PLACE = st.tuples(st.sampled_from(["example.com", FREE_MAIL]), st.sampled_from([None, "Asia/Tokyo", "Europe/Berlin"]))
CAP = st.sampled_from([None, None, 1, 2])
NEW_LEADS = st.fixed_dictionaries({"new_leads_per_day": CAP, "new_leads_per_company_per_day": CAP})
"""Caps of new leads."""
DEPLOYMENT = st.fixed_dictionaries(
    {
        "day_zone": st.sampled_from(["UTC", "Pacific/Auckland"]),
        "schedules": st.lists(SCHEDULE, min_size=1, max_size=2),
        "senders": st.lists(SENDER, min_size=1, max_size=3),
    }
)
NUMBER = st.integers(0, 99)
"""One of those there are: the remainder counts."""


class Policy(RuleBasedStateMachine):
    """The test fills in what the fixtures made."""

    engine: sa.Engine
    simulator: SesSimulator
    resources: Resources
    clock: MovedClock

    def __init__(self) -> None:
        super().__init__()
        self.campaign_ids: list[uuid.UUID] = []
        self.schedules: list[tuple[uuid.UUID, ScheduleRules]] = []
        self.senders: list[tuple[uuid.UUID, str]] = []
        self.looked_at = 0
        self.simulator.clear()
        self.clock.move_to(MONDAY)
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("""
                    TRUNCATE campaigns, daily_counts, leads, lead_batches, email_templates, workflows, suppressions,
                             emails, scheduled_emails, sender_addresses, sending_schedules, cap_uses, claims CASCADE
                """)
            )
            connection.execute(
                sa.text("""
                    UPDATE sender_state SET stop_code = NULL, stopped_until = NULL, last_tick_at = now(),
                           last_tick_ended_at = now(), rate_reserved_until = now()
                """)
            )

    def deploy(self, day_zone: str, schedules: list[ScheduleRules], senders: list[SenderRules]) -> None:
        self.sending_rules = SendingRules(ZoneInfo(day_zone))
        changed = self.resources.settings.model_copy(update={"sending_day_time_zone": day_zone})
        self.resources = dataclasses.replace(self.resources, settings=changed)
        with self.engine.begin() as connection:
            for schedule in schedules:
                values: dict[str, Any] = {
                    "name": "Hours",
                    "time_zone": schedule.time_zone,
                    "holidays": schedule.holidays,
                }
                values |= {"zone_of": "lead" if schedule.goes_by_lead else "schedule", "hours": in_words(schedule)}
                self.schedules.append((sending_schedules.create(connection, values)["id"], schedule))
            for number, sender in enumerate(senders):
                address = f"ann{number}@example.com"
                created = sender_addresses.create(connection, {"from_address": address, **columns(sender)})
                self.senders.append((created["id"], address))
                self.sending_rules.senders[address] = sender
        self.tick()

    @rule()
    def tick(self) -> None:
        with self.looking():
            send_due_emails(self.resources, SECONDS)

    @rule(which=NUMBER, hours=HOURS)
    def schedule_changes(self, which: int, hours: dict[int, list[tuple[int, int]]]) -> None:
        schedule_id, schedule = self.schedules[which % len(self.schedules)]
        schedule.hours = hours
        with self.engine.begin() as connection:
            sending_schedules.update(connection, schedule_id, {"hours": in_words(schedule)})

    @rule(which=NUMBER, sender=SENDER)
    def sender_changes(self, which: int, sender: SenderRules) -> None:
        sender_id, address = self.senders[which % len(self.senders)]
        self.sending_rules.senders[address] = sender
        with self.engine.begin() as connection:
            sender_addresses.update(connection, sender_id, columns(sender))

    @rule(which=NUMBER, caps=NEW_LEADS)
    def caps_of_new_leads_change(self, which: int, caps: dict[str, Any]) -> None:
        campaign_id = self.campaign_ids[which % len(self.campaign_ids)]
        with contextlib.suppress(Conflict), self.engine.begin() as connection:
            campaigns.update(connection, campaign_id, caps)
            for name, cap in caps.items():
                setattr(self.sending_rules.campaigns[str(campaign_id)], name, cap)

    @rule(of=NUMBER, to=NUMBER)
    def leads_are_reassigned(self, of: int, to: int) -> None:
        (of_id, of_address), (to_id, to_address) = (self.senders[each % len(self.senders)] for each in (of, to))
        with contextlib.suppress(InvalidInput, Conflict), self.engine.begin() as connection:
            reassign_leads.reassign(connection, of_id, to_id, "ann")
            for campaign in self.sending_rules.campaigns.values():
                if of_address in campaign.senders:
                    campaign.senders = [*campaign.senders, to_address]

    @rule(which=NUMBER)
    def operator_sends_now(self, which: int) -> None:
        pending = sa.select(scheduled_emails.c.id).where(scheduled_emails.c.status == "pending")
        with self.engine.connect() as connection:
            ids = connection.scalars(pending.order_by(scheduled_emails.c.id)).all()
        if ids:
            with self.looking(by_hand=True):
                send_scheduled_email(self.resources, ids[which % len(ids)])

    @rule(minutes=st.sampled_from([1, 3, 20, 5 * 60, 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.move(minutes * MINUTE)

    @rule(hours=st.sampled_from([3, 8]))
    def hours_of_work(self, hours: int) -> None:
        for _ in range(hours):
            self.move(HOUR)
            self.tick()

    def let_senders_work(self) -> None:
        """Make them all active."""
        for sender_id, address in self.senders:
            self.sending_rules.senders[address].is_active = True
            with self.engine.begin() as connection:
                sender_addresses.update(connection, sender_id, {"status": "active"})

    def now(self) -> dt.datetime:
        with self.engine.connect() as connection:
            now: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
        return now

    def move(self, time: dt.timedelta) -> None:
        self.clock.move_to(self.now() + time)

    @contextlib.contextmanager
    def looking(self, *, by_hand: bool = False) -> Iterator[None]:
        """What SES accepts meanwhile must be allowed by the rules; `by_hand` if an operator sends it."""
        if (now := self.now()).minute == 59:
            # No opening and no day begins or ends while a sender works.
            self.clock.move_to(now := now.replace(minute=0, second=0, microsecond=0) + HOUR)
        with self.engine.connect() as connection:
            maybe_sent = connection.execute(_MAYBE_SENT).all()
            again = {int(id_) for id_ in connection.scalars(_REQUEUED)}
        accepted = {int(email.tags["scheduled_email_id"]) for email in self.simulator.accepted()}
        unknown = [
            Sent(str(row.campaign_id), row.step, row.sender or HOUSE_ADDRESS, row.lead or "", row.at, row.at)
            for row in maybe_sent
            if row.id not in accepted
        ]
        yield
        until = self.now()
        new = self.simulator.accepted()[self.looked_at :]
        self.looked_at += len(new)
        with self.engine.connect() as connection:
            ids = [int(email.tags["scheduled_email_id"]) for email in new]
            own = scheduled_emails.c
            steps = sa.select(own.id, own.workflow_step_number).where(own.id == sa.any_(sa.literal(ids, _IDS)))
            step_of = {id_: step for id_, step in connection.execute(steps)}  # noqa: C416 (rows are no pairs)
        self.sending_rules.check(
            [
                Sent(
                    *(email.tags["campaign_id"], step_of[id_], parseaddr(email.from_address)[1], email.destination[0]),
                    *(now, until, by_hand, id_ in again),
                )
                for id_, email in zip(ids, new, strict=True)
            ],
            unknown,
        )


_IDS = sa.ARRAY(sa.BigInteger)
_MAYBE_SENT = sa.text("""
    SELECT e.id, e.campaign_id, e.workflow_step_number AS step, a.address AS sender, l.email AS lead,
           coalesce(e.send_started_at, e.updated_at) AS at
    FROM scheduled_emails e LEFT JOIN sender_addresses a ON a.id = e.sender_id LEFT JOIN leads l ON l.id = e.lead_id
    WHERE e.status = 'sending' AND e.send_started_at IS NOT NULL OR e.error_code = 'outcome_unknown'
""")
_REQUEUED = sa.text("SELECT entity_id FROM audit_log WHERE action = 'scheduled_email.requeue'")


def in_words(schedule: ScheduleRules) -> dict[str, list[list[str]]]:
    """The hours of a schedule as they are stored."""
    return {
        WEEKDAYS[day]: [[f"{first:02}:00", f"{past:02}:00"] for first, past in spans]
        for day, spans in schedule.hours.items()
    }


def columns(sender: SenderRules) -> dict[str, Any]:
    """The columns of a sender."""
    ramp = sender.ramp and dict(zip(("start", "step", "ceiling"), sender.ramp, strict=True))
    status = "active" if sender.is_active else "disabled"
    return {"daily_cap": sender.daily_cap, "ramp": ramp, "spread": sender.spread, "status": status}
