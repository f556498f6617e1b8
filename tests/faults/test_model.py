"""A model of the whole life of campaigns: whatever happens in whatever order, the invariants hold after every step."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import gc
import os
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, late_emails, lifecycle, schedule_emails
from sendledger.core.errors import Conflict, IllegalTransition, InvalidInput
from sendledger.core.tables import campaign_lanes, campaigns, leads, scheduled_emails, suppressions
from sendledger.core.vocabulary import TERMINAL_STATUSES
from sendledger.leads import erase_leads
from sendledger.ledger import settle_unknown, sweep
from sendledger.ledger.settle_unknown import Acceptance
from sendledger.preflight.diagnose import diagnose
from sendledger.sending import pace
from sendledger.sending.tick import send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_batch, make_campaign
from testbed.dying_engine import FAILPOINTS, Crash, dying_engine
from testbed.invariants import assert_ledger_is_consistent
from testbed.moved_clock import MovedClock
from testbed.senders import sender_resources
from testbed.sending_rules import CampaignRules, ScheduleRules, SenderRules
from tests.faults.learning_model import LEARNING, Learning
from tests.faults.policy_model import (
    DEPLOYMENT,
    HOUSE_ADDRESS,
    MINUTE,
    MONDAY,
    NEW_LEADS,
    NUMBER,
    PLACE,
    SECONDS,
)

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "8"))
"""How many lives; a longer run finds more: `MODEL_EXAMPLES=500 .venv/bin/pytest tests/faults/test_model.py`."""

STEPS = 18
MOST_TICKS = 300
FAULTS = ["error_500", "error_500_after_accept", "reset", "reset_after_accept", "reject_429", "bad_request"]
CAMPAIGN = st.fixed_dictionaries(
    {
        "places": st.lists(PLACE, min_size=1, max_size=4),
        "delays": st.lists(st.sampled_from([NO_DELAY, DAY]), min_size=1, max_size=3),
        "schedule": st.none() | NUMBER,
        "senders": st.sets(st.integers(0, 2)),
        "caps": NEW_LEADS,
        "learning": st.one_of(st.none(), LEARNING, LEARNING),
    }
)


class Campaigns(Learning):
    """The test fills in what the fixtures made."""

    database_url: str

    def __init__(self) -> None:
        super().__init__()
        self.suppressed: dict[str, int] = {}
        self.resting: dict[uuid.UUID, int] = {}

    @initialize(deployment=DEPLOYMENT, campaign=CAMPAIGN)
    def begin(self, deployment: dict[str, Any], campaign: dict[str, Any]) -> None:
        self.deploy(**deployment)
        self.start(campaign)

    @rule(campaign=CAMPAIGN)
    def start(self, campaign: dict[str, Any]) -> None:
        self.start_one(**campaign)

    def start_one(
        self,
        places: list[tuple[str, str | None]],
        delays: list[dt.timedelta],
        schedule: int | None,
        senders: set[int],
        caps: dict[str, Any],
        learning: dict[str, Any] | None,
    ) -> None:
        chosen = [self.senders[number] for number in senders if number < len(self.senders)]
        schedule_id, rules = (None, None) if schedule is None else self.schedules[schedule % len(self.schedules)]
        values = {"sender_ids": [id_ for id_, _ in chosen], "sending_schedule_id": schedule_id, **caps}
        with self.engine.begin() as connection:
            values["batch_ids"] = []
            for domain, zone in places:
                address = f"lead{len(self.sending_rules.lead_zones)}@{domain}"
                values["batch_ids"].append(make_batch(connection, [address], time_zone=zone))
                self.sending_rules.lead_zones[address] = zone
        with self.engine.connect() as connection:
            flow = None
            if learning is not None:
                flow = self.make_flow(connection, delays, learning)
                values["batch_ids"].append(self.make_crowd(connection, learning["crowd"]))
                intake = {"every": learning["every"]} if flow.evergreen and learning["every"] else None
                values |= {"workflow_id": flow.workflow_id, "evergreen": flow.evergreen, "intake": intake}
            campaign_id = make_campaign(connection, delays=delays, track_clicks=True, **values)
        self.sending_rules.campaigns[str(campaign_id)] = CampaignRules(
            delays, rules, [address for _, address in chosen] or [HOUSE_ADDRESS], **caps
        )
        lifecycle.start_campaign(self.engine, campaign_id)
        self.campaign_ids.append(campaign_id)
        if flow is not None:
            self.learning.flows[campaign_id] = flow

    @rule(failpoint=st.sampled_from(FAILPOINTS))
    def crash(self, failpoint: str) -> None:
        with (
            self.looking(),
            dying_engine(self.database_url, failpoint) as engine,
            contextlib.suppress(Crash),
        ):
            send_due_emails(dataclasses.replace(self.resources, engine=engine), SECONDS)

    @rule(kind=st.sampled_from(FAULTS), count=st.integers(1, 3))
    def ses_fails(self, kind: str, count: int) -> None:
        self.simulator.faults.clear()
        self.simulator.add_fault(kind, count=count)

    @rule()
    def sweep(self) -> None:
        with self.engine.begin() as connection:
            sweep.sweep(connection)

    @rule(action=st.sampled_from(["send", "skip", None]))
    def outage(self, action: str | None) -> None:
        """What has become late meanwhile is held by the next tick, until somebody decides."""
        self.move(DAY)
        self.tick()
        if action is not None:
            self.operator_decides_about_late_emails(action)

    @rule(which=NUMBER, action=st.sampled_from(["pause", "resume", "pause", "resume", "refresh", "cancel"]))
    def change(self, which: int, action: str) -> None:
        campaign_id = self.campaign_ids[which % len(self.campaign_ids)]
        with contextlib.suppress(Conflict, InvalidInput):
            match action:
                case "pause":
                    lifecycle.pause_campaign(self.engine, campaign_id)
                    self.resting[campaign_id] = self.accepted_for(campaign_id)
                case "resume":
                    lifecycle.resume_campaign(self.engine, campaign_id)
                    del self.resting[campaign_id]
                case "refresh":
                    lifecycle.resume_campaign(self.engine, campaign_id, refresh_content=True)
                    del self.resting[campaign_id]
                    if campaign_id in self.learning.flows:
                        self.learning.flows[campaign_id].refresh()
                case "cancel":
                    lifecycle.cancel_campaign(self.engine, campaign_id)
                    self.resting[campaign_id] = self.accepted_for(campaign_id)

    @rule(which=NUMBER)
    def person_opts_out(self, which: int) -> None:
        with self.engine.begin() as connection:
            _, address = self.lead(connection, which)
            if address not in self.suppressed:
                connection.execute(sa.insert(suppressions).values(value=address, reason="unsubscribe"))
                self.suppressed[address] = self.accepted_by(address)

    @rule(which=NUMBER, keep=st.booleans())
    def person_is_erased(self, which: int, keep: bool) -> None:
        with contextlib.suppress(Conflict), self.engine.begin() as connection:
            lead_id, address = self.lead(connection, which)
            erase_leads.erase(connection, lead_id, "ann", keep_suppressed=keep)
            self.suppressed.setdefault(address, self.accepted_by(address))

    def lead(self, connection: sa.Connection, which: int) -> tuple[uuid.UUID, str]:
        """Somebody who is not erased yet; as long as there is nobody else, somebody new."""
        query = sa.select(leads.c.id, leads.c.email).where(leads.c.erased_at.is_(None)).order_by(leads.c.email)
        known = connection.execute(query).all()
        if not known:
            values = {"email": "new@example.com", "company_name": "New", "industry": "spa", "source": "test"}
            known = connection.execute(sa.insert(leads).values(values).returning(leads.c.id, leads.c.email)).all()
        id_, address = known[which % len(known)]
        return id_, str(address).lower()

    @rule(action=st.sampled_from(["send", "skip"]))
    def operator_decides_about_late_emails(self, action: str) -> None:
        lanes = campaign_lanes
        with self.engine.connect() as connection:
            held = {
                *connection.scalars(sa.select(campaigns.c.id).where(campaigns.c.late_hold_until.is_not(None))),
                *connection.scalars(sa.select(lanes.c.campaign_id).where(lanes.c.late_hold_until.is_not(None))),
            }
        for campaign_id in held:
            with contextlib.suppress(Conflict):  # paused, or ended
                late_emails.decide_late_emails(self.engine, campaign_id, action, "ann")

    @rule(how_many=st.integers(1, 4))
    def events_arrive(self, how_many: int) -> None:
        with self.engine.begin() as connection:
            tokens = {row.id: str(row.claim_token) for row in connection.execute(sa.select(scheduled_emails))}
            accepted = {
                id_: Acceptance(email.message_id)
                for email in self.simulator.accepted()[-how_many:]
                if tokens[id_ := int(email.tags["scheduled_email_id"])] == email.tags["claim_token"]
            }
            settle_unknown.settle_as_sent(connection, accepted)

    @rule(which=st.integers(0, 9), action=st.sampled_from([settle_unknown.mark_sent, settle_unknown.requeue]))
    def operator_settles_an_unknown_outcome(self, which: int, action: Any) -> None:
        with contextlib.suppress(Conflict), self.engine.begin() as connection:
            query = (
                "SELECT e.id FROM scheduled_emails e JOIN campaigns c ON c.id = e.campaign_id "
                "WHERE e.error_code = 'outcome_unknown' AND c.status <> 'cancelled' ORDER BY e.id"
            )
            unknown = connection.scalars(sa.text(query)).all()
            if unknown:
                action(connection, unknown[which % len(unknown)], "ann")

    def accepted_by(self, address: str) -> int:
        return sum(address == email.destination[0].lower() for email in self.simulator.accepted())

    def accepted_for(self, campaign_id: uuid.UUID) -> int:
        return sum(email.tags["campaign_id"] == str(campaign_id) for email in self.simulator.accepted())

    @invariant()
    def nothing_is_sent_twice_or_lost(self) -> None:
        assert_ledger_is_consistent(self.engine, self.simulator, quiet=False)

    @invariant()
    def nobody_gets_mail_after_opting_out(self) -> None:
        assert {address: self.accepted_by(address) for address in self.suppressed} == self.suppressed

    @invariant()
    def nothing_is_sent_from_a_paused_or_cancelled_campaign(self) -> None:
        assert {id_: self.accepted_for(id_) for id_ in self.resting} == self.resting

    def teardown(self) -> None:
        """What is paused goes on, what is held is sent, senders work. Then everything comes to rest, and the stricter
        form holds: every campaign has ended and every email is terminal."""
        self.simulator.faults.clear()
        for campaign_id in self.campaign_ids:
            with contextlib.suppress(IllegalTransition):
                lifecycle.resume_campaign(self.engine, campaign_id)
        self.end_intakes()
        self.let_senders_work()
        # This one notices the last outage.
        self.tick()
        self.operator_decides_about_late_emails("send")
        self.come_to_rest()
        with self.engine.connect() as connection:
            ended = connection.scalars(sa.select(campaigns.c.status)).all()
            terminal = connection.scalars(sa.select(scheduled_emails.c.status)).all()
        assert set(ended) <= {"completed", "cancelled"}
        assert set(terminal) <= set(TERMINAL_STATUSES)
        assert_ledger_is_consistent(self.engine, self.simulator)
        self.what_was_learned_holds()
        self.what_was_promised_came_in()

    def come_to_rest(self) -> None:
        """Tick whenever a campaign says that its next email goes, until all have ended."""
        for _ in range(MOST_TICKS):
            self.tick()
            with self.engine.connect() as connection:
                unsettled = connection.execute(_UNSETTLED).all()
                said = [(row, diagnose(connection, row.id, "test")) for row in unsettled if row.status == "running"]
            if not unsettled:
                return
            times = [found.next_send_at for _, found in said if found.next_send_at is not None]
            # Leases, the grace time, a quota stop and every retry lie within 20 minutes.
            self.clock.move_to(max(self.now() + 20 * MINUTE, min(times, default=MONDAY)))
            with self.engine.begin() as connection:
                connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now(), last_tick_ended_at = now()"))
        raise AssertionError(f"still not at rest after {MOST_TICKS} ticks: {said}")


_UNSETTLED = sa.text("""
    SELECT c.id, c.status, c.background_work FROM campaigns c
    WHERE c.status = 'running' OR c.background_work <> '[]'
       OR EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND e.status = 'sending')
""")


@pytest.fixture
def machine(
    database_url: str, engine: sa.Engine, sender_engine: sa.Engine, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> type[Campaigns]:
    clock = MovedClock(engine)
    # Small enough for four leads to be a huge campaign: calls begin background work and leave the rest to the ticks.
    monkeypatch.setattr(pace, "MAX_CHUNK", 3)
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 4)
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", 2)
    monkeypatch.setattr(lifecycle, "CALL_BUDGET", 0.0)
    # A day without a tick is an outage, a retry's time is none.
    resources = sender_resources(
        sender_engine, ses.url, GUARDRAILS_ENABLED="false", LATE_AFTER_MINUTES="120", SENDER_CONNECTIONS="4"
    )
    own = {"database_url": database_url, "engine": engine, "simulator": ses, "resources": resources, "clock": clock}
    return type("Machine", (Campaigns,), own)


# The threads of the dead end with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_every_life_of_campaigns_keeps_the_invariants(machine: type[Campaigns]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            # To shrink takes minutes.
            phases=[Phase.generate, *([Phase.shrink] if "MODEL_SHRINKS" in os.environ else [])],
        ),
    )
    gc.collect()


LEARNED: dict[str, Any] = {
    "weights": [1, 1, 2],
    "keep_variant": True,
    "winner": {"by": "clicked", "test_share": 80, "after_seconds": 3600},
    "evergreen": True,
    "every": "2 hours",
    "crowd": 12,
}
NEW: dict[str, Any] = {"which": 0, "places": [("example.com", None)] * 4, "known": [], "twin": False, "how": "request"}
LIFE: list[tuple[str, dict[str, Any]]] = [
    ("tick", {}),
    ("people_like_a_variant", {"which": 0, "variant": 3, "what": "clicked"}),
    ("leads_come_in", {**NEW, "twin": True, "known": [0, 1]}),
    ("variant_is_retired", {"which": 0, "step": 1, "variant": 1}),
    ("workflow_is_edited", {"which": 0, "step": 1, "place": 1, "edit": "text"}),
    ("leads_come_in", NEW),
    ("workflow_is_edited", {"which": 0, "step": 1, "place": 0, "edit": "broken"}),
    ("leads_come_in", {**NEW, "how": "batch"}),
    ("hours_of_work", {"hours": 3}),
    ("leads_come_in", {**NEW, "how": "import"}),
    ("tick", {}),
    ("workflow_is_edited", {"which": 0, "step": 1, "place": 0, "edit": "text"}),
    ("change", {"which": 0, "action": "pause"}),
    ("workflow_is_edited", {"which": 0, "step": 1, "place": 1, "edit": "order"}),
    ("change", {"which": 0, "action": "refresh"}),
    ("hours_of_work", {"hours": 3}),
    ("leads_come_in", NEW),
    ("winner_is_chosen", {"which": 0, "variant": 2}),
    ("lead_is_removed", {"which": 0, "lead": 3}),
    ("variant_is_retired", {"which": 0, "step": 2, "variant": 2}),
    ("hours_of_work", {"hours": 3}),
    ("leads_come_in", {**NEW, "how": "import"}),
    ("intake_ends", {"which": 0, "finish": True}),
    ("hours_of_work", {"hours": 3}),
]
"""One life that meets all that is learned: the names of rules and what they are given."""


def test_life_of_a_campaign_that_learns_keeps_the_invariants(machine: type[Campaigns], engine: sa.Engine) -> None:
    life = machine()
    always_open = ScheduleRules("UTC", False, {day: [(0, 24)] for day in range(7)})
    life.deploy("UTC", [always_open], [SenderRules()])
    no_cap = {"new_leads_per_day": None, "new_leads_per_company_per_day": None}
    life.start_one([("example.com", None)], [NO_DELAY, DAY], None, set(), no_cap, LEARNED)
    for name, given in LIFE:
        getattr(life, name)(**given)
        life.nothing_is_sent_twice_or_lost()
        life.nothing_goes_to_a_lead_that_was_removed()
        life.what_was_learned_holds()
    life.teardown()
    with engine.connect() as connection:
        decided = sa.text("SELECT detail ->> 'variant' FROM audit_log WHERE detail ? 'counts' ORDER BY id")
        assert connection.scalars(decided).first() == "3"
        revisions = sa.text("SELECT max(revision) FROM scheduled_emails")
        assert (connection.scalar(revisions) or 0) >= 3
