"""The part of the model that is about variants, winners, leads that come in later and workflows that are edited.

It says who must come in; testbed/learning_rules.py what they must get.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from local.ses_simulator import AcceptedEmail
from sendledger.campaigns import campaigns as stored_campaigns
from sendledger.campaigns import intake, remove_lead, schedule_emails, variants, winners
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.tables import (
    campaigns,
    email_templates,
    lead_batches,
    leads,
    scheduled_emails,
    workflow_step_variants,
    workflow_steps,
)
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from testbed.campaigns import make_batch, make_template, make_workflow
from testbed.learning_rules import BROKEN, Flow, LearningRules, Ledger, Variant
from testbed.sending_rules import FREE_MAIL
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.faults.policy_model import HOUR, NUMBER, PLACE, Policy

WINNER = st.fixed_dictionaries(
    {
        "by": st.sampled_from(["clicked", "delivered"]),
        "test_share": st.sampled_from([50, 80]),
        "after_seconds": st.sampled_from([3600, 24 * 3600]),
    }
)
LEARNING = st.fixed_dictionaries(
    {
        "weights": st.sampled_from([[1], [1, 1], [1, 1], [3, 1], [2, 3], [1, 2, 1]]),
        "keep_variant": st.booleans(),
        "winner": st.one_of(st.none(), WINNER, WINNER),
        "evergreen": st.sampled_from([True, True, False]),
        "every": st.sampled_from([None, "2 hours", "1 day"]),
        "crowd": st.sampled_from([0, 8, 12]),
    }
)
"""What a campaign has besides its policy: variants of each step, a winner of the first one, an intake."""


class Learning(Policy):
    """The test fills in what the fixtures made."""

    def __init__(self) -> None:
        super().__init__()
        self.learning = LearningRules()
        self.removed: dict[tuple[str, str], int] = {}
        self.promised: list[tuple[uuid.UUID, uuid.UUID]] = []
        self.read = 0
        self.numbers = itertools.count()

    def make_flow(self, connection: sa.Connection, steps: Sequence[dt.timedelta], learning: dict[str, Any]) -> Flow:
        workflow_id = make_workflow(connection, steps)
        weights = learning["weights"]
        # With one variant there is nothing to find out.
        winner = learning["winner"] if len(weights) > 1 else None
        own = workflow_steps.c
        of_workflow = sa.update(workflow_steps).where(own.workflow_id == workflow_id)
        connection.execute(of_workflow.values(keep_variant=learning["keep_variant"]))
        connection.execute(of_workflow.where(own.step_number == 1).values(winner=winner))
        flow = Flow(workflow_id, {}, winner, learning["evergreen"])
        for number in range(1, len(steps) + 1):
            texts = [(self._text(), weight) for weight in weights]
            flow.now[number] = tuple(
                Variant(make_template(connection, subject=text), text, weight) for text, weight in texts
            )
            self._write_step(connection, flow, number)
        flow.kept[1] = dict(flow.now)
        return flow

    def make_crowd(self, connection: sa.Connection, count: int) -> uuid.UUID:
        addresses = [f"crowd{next(self.numbers)}@{FREE_MAIL}" for _ in range(count)]
        self.sending_rules.lead_zones |= dict.fromkeys(addresses)
        return make_batch(connection, addresses)

    def _text(self) -> str:
        return f"Text {next(self.numbers)}"

    def _write_step(self, connection: sa.Connection, flow: Flow, number: int) -> None:
        """Let a step of the workflow have these variants."""
        own = workflow_steps.c
        of_step = sa.and_(own.workflow_id == flow.workflow_id, own.step_number == number)
        step_id = connection.execute(sa.select(own.id).where(of_step)).scalar_one()
        several = workflow_step_variants.c
        connection.execute(sa.delete(workflow_step_variants).where(several.workflow_step_id == step_id))
        step = flow.now[number]
        connection.execute(sa.update(workflow_steps).where(of_step).values(email_template_id=step[0].template_id))
        for place, variant in enumerate(step, 1) if len(step) > 1 else ():
            row = {"workflow_step_id": step_id, "variant": place, "weight": variant.weight}
            connection.execute(sa.insert(workflow_step_variants).values(email_template_id=variant.template_id, **row))

    def _store_lead(self, connection: sa.Connection, address: str, zone: str | None, batch_id: uuid.UUID) -> uuid.UUID:
        self.sending_rules.lead_zones[address] = zone
        values = {"email": address, "company_name": "New", "industry": "spa", "source": "test", "time_zone": zone}
        stored = sa.insert(leads).values(batch_id=batch_id, **values).returning(leads.c.id)
        id_: uuid.UUID = connection.execute(stored).scalar_one()
        return id_

    def flow(self, which: int) -> tuple[uuid.UUID, Flow]:
        return list(self.learning.flows.items())[which % len(self.learning.flows)]

    @precondition(lambda self: self.learning.flows)
    @rule(
        which=NUMBER,
        places=st.lists(PLACE, min_size=1, max_size=4),
        known=st.lists(NUMBER, max_size=2),
        twin=st.booleans(),
        how=st.sampled_from(["request", "request", "import", "batch"]),
    )
    def leads_come_in(
        self, which: int, places: list[tuple[str, str | None]], known: list[int], twin: bool, how: str
    ) -> None:
        """New ones, at random some that are known, twice in one request, or a second lead with the same address."""
        campaign_id, flow = self.flow(which)
        with self.engine.begin() as connection:
            before = connection.execute(sa.select(leads.c.id, leads.c.email).order_by(leads.c.email, leads.c.id)).all()
            own = sa.select(campaigns.c.batch_ids).where(campaigns.c.id == campaign_id)
            in_batch = how == "batch"
            batch_id = connection.execute(own).scalar_one()[0] if in_batch else make_batch(connection, [])
            new = ((f"new{next(self.numbers)}@{domain}", zone) for domain, zone in places)
            ids = [self._store_lead(connection, address, zone, batch_id) for address, zone in new]
            address = before[which % len(before)].email if before else None
            if twin and address:
                zones = self.sending_rules.lead_zones
                name, _, domain = address.partition("@")
                ids.append(self._store_lead(connection, f"{name.upper()}@{domain}", zones.get(address), batch_id))
            for number in known if how == "request" and before else ():
                lead = before[number % len(before)]
                self.sending_rules.lead_zones.setdefault(lead.email or "", None)
                ids.append(lead.id)
            connection.execute(sa.update(lead_batches).where(lead_batches.c.id == batch_id).values(status="completed"))
        with contextlib.suppress(Conflict):
            match how:
                case "request":
                    self._add_leads(campaign_id, flow, ids)
                case "import":
                    with self.engine.begin() as connection:
                        intake.give_batch(connection, campaign_id, batch_id, "ann")
                    self.promised.append((campaign_id, batch_id))

    def _add_leads(self, campaign_id: uuid.UUID, flow: Flow, ids: list[uuid.UUID]) -> None:
        newest = max(flow.kept)
        expected = self._outcomes(campaign_id, ids)
        is_edited = flow.now != flow.kept[newest] and not flow.is_broken
        taken = self._in_one_request(campaign_id, ids)
        assert [(str(outcome), reason) for outcome, reason in taken.outcomes] == expected
        assert taken.revision == newest + is_edited
        assert bool(taken.problems) == flow.is_broken
        with self.engine.connect() as connection:
            said = connection.scalar(sa.select(campaigns.c.workflow_errors).where(campaigns.c.id == campaign_id))
        assert bool(said) == flow.is_broken

    def _in_one_request(self, campaign_id: uuid.UUID, ids: list[uuid.UUID]) -> intake.TakenIn:
        """A request takes one transaction, however small a bucket is."""
        rows = schedule_emails.ROWS_PER_BUCKET
        schedule_emails.ROWS_PER_BUCKET = 1000
        try:
            return intake.add_leads(self.engine, campaign_id, ids, "ann")
        finally:
            schedule_emails.ROWS_PER_BUCKET = rows

    def _outcomes(self, campaign_id: uuid.UUID, ids: list[uuid.UUID]) -> list[tuple[str, str | None]]:
        """What must become of leads that are added."""
        with self.engine.connect() as connection:
            addresses = {
                id_: (email or "").lower() for id_, email in connection.execute(sa.select(leads.c.id, leads.c.email))
            }
            own = sa.select(scheduled_emails.c.lead_id).where(scheduled_emails.c.campaign_id == campaign_id)
            there = set(connection.scalars(own)) - {None}
            suppressed = set(connection.scalars(sa.text("SELECT value FROM suppressions WHERE removed_at IS NULL")))
        taken = {addresses[id_] for id_ in there}
        reasons: dict[uuid.UUID, str | None] = {}
        for id_ in sorted(set(ids) - there):
            address = addresses[id_]
            if not address:
                reasons[id_] = "no_address"
            elif address in suppressed:
                reasons[id_] = "suppressed"
            else:
                reasons[id_] = "duplicate_address" if address in taken else None
                taken.add(address)
        found: list[tuple[str, str | None]] = []
        for place, id_ in enumerate(ids):
            if id_ in ids[:place]:
                found.append(("not_added", "duplicate_address"))
            elif id_ in there:
                found.append(("already_there", None))
            else:
                found.append(("not_added" if reasons[id_] else "added", reasons[id_]))
        return found

    @precondition(lambda self: self.learning.flows)
    @rule(which=NUMBER, finish=st.booleans())
    def intake_ends(self, which: int, finish: bool) -> None:
        campaign_id, flow = self.flow(which)
        at = self.now() if finish else self.now() + HOUR
        with contextlib.suppress(Conflict):
            if finish:
                intake.finish_intake(self.engine, campaign_id, "ann")
            else:
                with self.engine.begin() as connection:
                    stored_campaigns.update(connection, campaign_id, {"end_at": at})
            flow.ends_at = at

    @precondition(lambda self: self.learning.flows)
    @rule(
        which=NUMBER,
        step=NUMBER,
        place=NUMBER,
        edit=st.sampled_from(["text", "text", "order", "weights", "broken"]),
    )
    def workflow_is_edited(self, which: int, step: int, place: int, edit: str) -> None:
        _, flow = self.flow(which)
        number = 1 + step % len(flow.now)
        own = flow.now[number]
        place %= len(own)
        match edit:
            case "text" | "broken":
                subject = BROKEN if edit == "broken" else self._text()
                flow.now[number] = (*own[:place], own[place]._replace(subject=subject), *own[place + 1 :])
            case "order":
                flow.now[number] = own[place:] + own[:place]
            case "weights":
                weights = [each.weight for each in own]
                turned = weights[place:] + weights[:place]
                flow.now[number] = tuple(each._replace(weight=w) for each, w in zip(own, turned, strict=True))
        with self.engine.begin() as connection:
            self._write_step(connection, flow, number)
            for variant in flow.now[number]:
                of_template = sa.update(email_templates).where(email_templates.c.id == variant.template_id)
                connection.execute(of_template.values(subject=variant.subject))

    @precondition(lambda self: self.learning.flows)
    @rule(which=NUMBER, variant=st.integers(1, 3))
    def winner_is_chosen(self, which: int, variant: int) -> None:
        campaign_id, _ = self.flow(which)
        with contextlib.suppress(Conflict, NotFound), self.engine.begin() as connection:
            winners.choose(connection, campaign_id, 1, variant, "ann")

    @precondition(lambda self: self.learning.flows)
    @rule(which=NUMBER, step=st.integers(1, 2), variant=st.integers(1, 3))
    def variant_is_retired(self, which: int, step: int, variant: int) -> None:
        campaign_id, _ = self.flow(which)
        with contextlib.suppress(Conflict, NotFound), self.engine.begin() as connection:
            variants.retire(connection, campaign_id, step, variant, "ann")

    @precondition(lambda self: self.campaign_ids)
    @rule(which=NUMBER, lead=NUMBER)
    def lead_is_removed(self, which: int, lead: int) -> None:
        campaign_id = self.campaign_ids[which % len(self.campaign_ids)]
        own = sa.select(leads.c.id, leads.c.email).join(scheduled_emails, scheduled_emails.c.lead_id == leads.c.id)
        with self.engine.connect() as connection:
            known = connection.execute(
                own.where(scheduled_emails.c.campaign_id == campaign_id).distinct().order_by(leads.c.email, leads.c.id)
            ).all()
        if known:
            lead_id, address = known[lead % len(known)]
            with contextlib.suppress(Conflict):
                remove_lead.remove_lead(self.engine, campaign_id, lead_id, "ann")
                key = str(campaign_id), str(address)
                self.removed[key] = self._accepted_of(*key)

    def _accepted_of(self, campaign_id: str, address: str) -> int:
        accepted = self.simulator.accepted()
        return sum(email.tags["campaign_id"] == campaign_id and address in email.destination for email in accepted)

    @precondition(lambda self: self.learning.flows)
    @rule(which=NUMBER, variant=st.sampled_from([1, 1, 2]), what=st.sampled_from(["clicked", "delivered"]))
    def people_like_a_variant(self, which: int, variant: int, what: str) -> None:
        """All that got it click, or it is delivered to all of them: to nobody that got another one."""
        campaign_id, flow = self.flow(which)
        rows = Ledger.read(self.engine, [campaign_id]).rows
        own = [
            email
            for email in self.simulator.accepted()
            if (row := rows.get(int(email.tags["scheduled_email_id"]))) is not None and row["variant"] == variant
        ]
        self._report(own, "Click" if what == "clicked" else "Delivery")
        rows = Ledger.read(self.engine, [campaign_id]).rows
        for email in own:
            row = rows[int(email.tags["scheduled_email_id"])]
            if row["ses_message_id"] == email.message_id:
                flow.reported[what].add(row["id"])

    @rule(how_many=st.integers(1, 4))
    def late_events_arrive(self, how_many: int) -> None:
        """Also of emails whose row was queued again since."""
        self._report(self.simulator.accepted()[-how_many:], "Send")

    def _report(self, accepted: Sequence[AcceptedEmail], type_: str) -> None:
        read = [read_ses_event(json.dumps(event_of(email, type_)), ACCOUNT, CONFIGURATION_SET) for email in accepted]
        events = [event for event in read if isinstance(event, SesEvent)]
        assert len(events) == len(accepted)
        with self.engine.begin() as connection:
            record_events(connection, events)

    def end_intakes(self) -> None:
        for campaign_id in self.learning.flows:
            with contextlib.suppress(Conflict):
                intake.finish_intake(self.engine, campaign_id, "ann")
                self.learning.flows[campaign_id].ends_at = self.now()

    def what_was_promised_came_in(self) -> None:
        """Each lead of an import for a campaign that has completed is in it, or was left out for a reason."""
        with self.engine.connect() as connection:
            for campaign_id, batch_id in self.promised:
                forgotten = connection.scalar(_FORGOTTEN, {"campaign_id": campaign_id, "batch_id": batch_id})
                assert not forgotten, f"{forgotten} leads of {batch_id} are not in {campaign_id}"

    @invariant()
    def nothing_goes_to_a_lead_that_was_removed(self) -> None:
        assert {key: self._accepted_of(*key) for key in self.removed} == self.removed

    @invariant()
    def what_was_learned_holds(self) -> None:
        """Everything else, from one reading of the ledger."""
        if self.learning.flows:
            new = self.simulator.accepted()[self.read :]
            self.read += len(new)
            self.learning.check(Ledger.read(self.engine, list(self.learning.flows)), new)


_FORGOTTEN = sa.text("""
    SELECT count(*) FROM leads l JOIN campaigns c ON c.id = :campaign_id AND c.status = 'completed'
    WHERE l.batch_id = :batch_id AND l.erased_at IS NULL
      AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.lead_id = l.id AND e.campaign_id = c.id)
      AND NOT EXISTS (SELECT FROM left_out_leads o WHERE o.lead_id = l.id AND o.campaign_id = c.id)
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("batch_id", type_=sa.UUID))
