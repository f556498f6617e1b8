"""A model of the whole life of campaigns: whatever happens in whatever order, the invariants hold after every step."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import gc
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from local.ses_simulator import SesSimulator
from sendledger.campaigns import background_work, late_emails, lifecycle, schedule_emails
from sendledger.core import database
from sendledger.core.errors import Conflict, IllegalTransition
from sendledger.core.settings import DatabaseSettings
from sendledger.core.tables import campaigns, leads, scheduled_emails, suppressions
from sendledger.core.vocabulary import TERMINAL_STATUSES
from sendledger.leads import erase_leads
from sendledger.ledger import settle_unknown, sweep
from sendledger.ledger.settle_unknown import Acceptance
from sendledger.sending import send_chunks
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.ses.ses_sender import SesSender
from testbed.campaigns import DAY, NO_DELAY, make_campaign, pass_time
from testbed.databases import url_as
from testbed.invariants import assert_ledger_is_consistent, let_it_settle
from testbed.sender_process import install
from testbed.senders import sender_resources

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "30"))
STEPS = 18
SECONDS = 60.0

FAILPOINTS = [
    f"{step}.{when}{nth}"
    for nth in ("", ":2")
    for step, when in (
        ("claim", "before_commit"),
        ("claim", "after_commit"),
        ("reserve", "after_commit"),
        ("fence", "before_commit"),
        ("fence", "after_commit"),
        ("send", "before"),
        ("send", "after"),
        ("record", "before_commit"),
        ("record", "after_commit"),
        ("complete", "before"),
        ("sweep", "before_commit"),
    )
]
FAULTS = ["error_500", "error_500_after_accept", "reset", "reset_after_accept", "reject_429", "bad_request"]


class Crash(BaseException):
    """The process is dead from here on."""


@contextlib.contextmanager
def dying_engine(database_url: str, failpoint: str) -> Iterator[sa.Engine]:
    """An engine of a process that dies at the failpoint: after it no statement, no commit and no SES call gets out."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url_as("sender", database_url)}))
    dead = False
    real_send = SesSender.send

    def die() -> None:
        nonlocal dead
        dead = True
        raise Crash

    def refuse(*args: Any) -> None:
        if dead:
            raise Crash

    def send(self: SesSender, *args: Any) -> Any:
        refuse()
        return real_send(self, *args)

    SesSender.send = send  # type: ignore[assignment, method-assign]
    # The kernel closes a dead process's connections; here nobody would, and the garbage collector stumbles over them.
    checked_out: list[sa.PoolProxiedConnection] = []
    sa.event.listen(engine, "checkout", lambda _connection, _record, proxy: checked_out.append(proxy))
    uninstall = install(engine, failpoint, die)
    sa.event.listen(engine, "before_cursor_execute", refuse)
    sa.event.listen(engine, "commit", refuse)
    try:
        yield engine
    finally:
        uninstall()
        SesSender.send = real_send  # type: ignore[method-assign]
        for proxy in checked_out:
            if proxy.is_valid:
                proxy.invalidate()
        engine.dispose()


class Campaigns(RuleBasedStateMachine):
    """The test fills in what the fixtures made."""

    database_url: str
    engine: sa.Engine
    simulator: SesSimulator
    resources: Resources

    def __init__(self) -> None:
        super().__init__()
        self.campaign_ids: list[uuid.UUID] = []
        self.suppressed: dict[str, int] = {}
        self.resting: dict[uuid.UUID, int] = {}
        self.simulator.clear()
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("""
                    TRUNCATE campaigns, leads, lead_batches, email_templates, workflows, suppressions, emails,
                             scheduled_emails CASCADE
                """)
            )
            connection.execute(
                sa.text("UPDATE sender_state SET stop_code = NULL, stopped_until = NULL, last_tick_at = now()")
            )

    @initialize(leads=st.integers(1, 4), delays=st.lists(st.sampled_from([NO_DELAY, DAY]), min_size=1, max_size=3))
    def first_campaign(self, leads: int, delays: list[dt.timedelta]) -> None:
        self.start(leads, delays)

    @rule(leads=st.integers(1, 4), delays=st.lists(st.sampled_from([NO_DELAY, DAY]), min_size=1, max_size=3))
    def start(self, leads: int, delays: list[dt.timedelta]) -> None:
        with self.engine.connect() as connection:
            campaign_id = make_campaign(connection, leads, delays)
        lifecycle.start_campaign(self.engine, campaign_id)
        self.campaign_ids.append(campaign_id)

    @rule()
    def tick(self) -> None:
        send_due_emails(self.resources, SECONDS)

    @rule(failpoint=st.sampled_from(FAILPOINTS))
    def crash(self, failpoint: str) -> None:
        with dying_engine(self.database_url, failpoint) as engine, contextlib.suppress(Crash):
            send_due_emails(dataclasses.replace(self.resources, engine=engine), SECONDS)

    @rule(kind=st.sampled_from(FAULTS), count=st.integers(1, 3))
    def ses_fails(self, kind: str, count: int) -> None:
        self.simulator.faults.clear()
        self.simulator.add_fault(kind, count=count)

    @rule()
    def sweep(self) -> None:
        with self.engine.begin() as connection:
            sweep.sweep(connection)

    @rule(minutes=st.sampled_from([1, 3, 20, 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        pass_time(self.engine, dt.timedelta(minutes=minutes))

    @rule(action=st.sampled_from(["send", "skip", None]))
    def outage(self, action: str | None) -> None:
        """What has become late meanwhile is held by the next tick, until somebody decides."""
        pass_time(self.engine, DAY)
        self.tick()
        if action is not None:
            self.operator_decides_about_late_emails(action)

    @rule(which=st.integers(0, 9), action=st.sampled_from(["pause", "resume", "pause", "resume", "cancel"]))
    def change(self, which: int, action: str) -> None:
        campaign_id = self.campaign_ids[which % len(self.campaign_ids)]
        with contextlib.suppress(IllegalTransition):
            match action:
                case "pause":
                    lifecycle.pause_campaign(self.engine, campaign_id)
                    self.resting[campaign_id] = self.accepted_for("campaign_id", str(campaign_id))
                case "resume":
                    lifecycle.resume_campaign(self.engine, campaign_id)
                    del self.resting[campaign_id]
                case "cancel":
                    lifecycle.cancel_campaign(self.engine, campaign_id)
                    self.resting[campaign_id] = self.accepted_for("campaign_id", str(campaign_id))

    @rule(which=st.integers(0, 99))
    def person_opts_out(self, which: int) -> None:
        with self.engine.begin() as connection:
            _, address = self.lead(connection, which)
            if address not in self.suppressed:
                connection.execute(sa.insert(suppressions).values(value=address, reason="unsubscribe"))
                self.suppressed[address] = self.accepted_by(address)

    @rule(which=st.integers(0, 99), keep=st.booleans())
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
        return id_, str(address)

    @rule(action=st.sampled_from(["send", "skip"]))
    def operator_decides_about_late_emails(self, action: str) -> None:
        with self.engine.connect() as connection:
            held = connection.scalars(sa.select(campaigns.c.id).where(campaigns.c.late_hold_until.is_not(None))).all()
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
        with self.engine.begin() as connection:
            query = (
                "SELECT e.id FROM scheduled_emails e JOIN campaigns c ON c.id = e.campaign_id "
                "WHERE e.error_code = 'outcome_unknown' AND c.status <> 'cancelled' ORDER BY e.id"
            )
            unknown = connection.scalars(sa.text(query)).all()
            if unknown:
                action(connection, unknown[which % len(unknown)], "ann")

    def accepted_by(self, address: str) -> int:
        return sum(address in email.destination for email in self.simulator.accepted())

    def accepted_for(self, tag: str, value: str) -> int:
        return sum(email.tags[tag] == value for email in self.simulator.accepted())

    @invariant()
    def nothing_is_sent_twice_or_lost(self) -> None:
        assert_ledger_is_consistent(self.engine, self.simulator, quiet=False)

    @invariant()
    def nobody_gets_mail_after_opting_out(self) -> None:
        assert {address: self.accepted_by(address) for address in self.suppressed} == self.suppressed

    @invariant()
    def nothing_is_sent_from_a_paused_or_cancelled_campaign(self) -> None:
        assert {id_: self.accepted_for("campaign_id", str(id_)) for id_ in self.resting} == self.resting

    def teardown(self) -> None:
        """What is paused goes on and what is held is sent. Then everything comes to rest, and the stricter form holds:
        every campaign has ended and every email is terminal."""
        self.simulator.faults.clear()
        for campaign_id in self.campaign_ids:
            with contextlib.suppress(IllegalTransition):
                lifecycle.resume_campaign(self.engine, campaign_id)
        # This one notices the last outage.
        self.tick()
        self.operator_decides_about_late_emails("send")
        let_it_settle(self.engine, self.resources)
        with self.engine.connect() as connection:
            ended = connection.scalars(sa.select(campaigns.c.status)).all()
            terminal = connection.scalars(sa.select(scheduled_emails.c.status)).all()
        assert set(ended) <= {"completed", "cancelled"}
        assert set(terminal) <= set(TERMINAL_STATUSES)
        assert_ledger_is_consistent(self.engine, self.simulator)


# The connections of the dead are closed by nobody.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::ResourceWarning",
)
def test_every_life_of_campaigns_keeps_the_invariants(
    database_url: str, engine: sa.Engine, sender_engine: sa.Engine, ses: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small enough for four leads to be a huge campaign: calls begin background work and leave the rest to the ticks.
    monkeypatch.setattr(send_chunks, "MAX_CHUNK", 3)
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 4)
    monkeypatch.setattr(background_work, "ROWS_PER_CHUNK", 2)
    monkeypatch.setattr(lifecycle, "CALL_BUDGET", 0.0)
    # A day without a tick is an outage, a retry's time is none.
    resources = sender_resources(
        sender_engine, ses.url, GUARDRAILS_ENABLED="false", LATE_AFTER_MINUTES="120", SENDER_THREADS="4"
    )
    machine = type(
        "Machine",
        (Campaigns,),
        {"database_url": database_url, "engine": engine, "simulator": ses, "resources": resources},
    )
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
        ),
    )
    gc.collect()
