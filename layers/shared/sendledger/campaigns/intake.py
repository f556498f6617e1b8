"""Intake: leads come into an evergreen campaign after its start, and their steps count from then.

They come one request at a time (`add_leads`), or in background work (`begin_due_intakes`) from its lead batches, list
and segments, at the campaign's own times and after an import for it. Who is left out is decided as at a start, by
audience.py. The campaign does not complete until a person or `end_at` ends the intake, and what was accepted before has
come in. Reads `leads`; reads and writes `campaigns`, `lead_batches`, `left_out_leads` and `scheduled_emails`; writes
`audit_log`.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import schedule_emails
from sendledger.campaigns.audience import audience_of_leads
from sendledger.campaigns.campaign_steps import count_steps
from sendledger.campaigns.campaigns import get_campaign, takes_in
from sendledger.campaigns.completion import mark_campaign_complete
from sendledger.campaigns.hold_batches import imported_for
from sendledger.campaigns.revisions import newest_revision
from sendledger.campaigns.schedule_emails import counters, schedule_leads
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.ledger_rules import takes_in_leads
from sendledger.core.tables import campaigns, lead_batches, leads, left_out_leads, scheduled_emails
from sendledger.core.vocabulary import AuditAction, CampaignStatus, IntakeOutcome, LeadBatchStatus, Reason

_IMPORTED = imported_for("c", [LeadBatchStatus.COMPLETED])
# Imports were accepted while the campaign took in leads, so they come in also if that has ended since. Their leads are
# all that comes in before the campaign's own time.
_BEGIN = sa.text(f"""
    WITH due AS MATERIALIZED (
        SELECT id, {takes_in_leads("c")} AND coalesce(next_intake_at <= now(), false) AS is_time FROM campaigns c
        WHERE status = 'running' AND evergreen
          AND ({takes_in_leads("c")} AND next_intake_at <= now() OR EXISTS ({_IMPORTED}))
          AND NOT background_work @> '[{{"kind": "intake"}}]'
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE campaigns c
    SET background_work = background_work || jsonb_build_array(
            jsonb_build_object('kind', 'intake', 'bucket', 0, 'buckets', 0)
            || CASE WHEN is_time THEN '{{}}' ELSE jsonb_build_object('batch_ids', to_jsonb(ARRAY({_IMPORTED}))) END),
        batch_ids = batch_ids || ARRAY({_IMPORTED}),
        -- After an outage one intake makes up for all that were missed.
        next_intake_at = CASE WHEN NOT is_time THEN next_intake_at
                              WHEN next_intake_at + CAST(intake ->> 'every' AS interval) > now()
                              THEN next_intake_at + CAST(intake ->> 'every' AS interval)
                              ELSE now() + CAST(intake ->> 'every' AS interval) END,
        updated_at = now()
    FROM due WHERE c.id = due.id
""")


@dataclass(frozen=True)
class TakenIn:
    """What became of each lead, in the order given, with the reason if it is left out.

    `problems` are of an edited workflow that cannot be sent: the leads have got the revision before.
    """

    status: CampaignStatus
    outcomes: list[tuple[IntakeOutcome, str | None]]
    emails: int
    revision: int
    problems: list[FieldError]


def add_leads(engine: sa.Engine, campaign_id: uuid.UUID, lead_ids: Sequence[uuid.UUID], actor: str) -> TakenIn:
    """Add leads to a campaign under way: those of them that would get mail by a start now, and are not in it yet.

    All happens in one transaction, so that a repetition after a crash adds nothing twice. A lead that was left out
    before is judged again.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it takes in no leads, or not at this moment.
        InvalidInput: they would get more emails than one transaction writes.
    """
    with engine.begin() as connection:
        campaign = refuse_unless_open(connection, campaign_id, lock=True)
        status = CampaignStatus(campaign["status"])
        wanted = sorted(set(lead_ids))
        campaign, problems = newest_revision(connection, campaign, actor)
        steps = count_steps(connection, campaign_id, campaign["revision"])
        if len(wanted) * steps > schedule_emails.ROWS_PER_BUCKET:
            most = schedule_emails.ROWS_PER_BUCKET // steps
            message = f"must be at most {most:,} leads at once in this campaign: each gets {steps} emails"
            raise InvalidInput("These are too many leads at once.", [FieldError("lead_ids", message)])
        # Locked, so that they are not deleted meanwhile.
        lock = sa.select(leads.c.id).where(_one_of(leads.c.id, wanted)).order_by(leads.c.id)
        known = set(connection.scalars(lock.with_for_update(read=True, key_share=True)))
        rows = scheduled_emails.c
        there = sa.select(rows.lead_id).where(_one_of(rows.lead_id, wanted), rows.campaign_id == campaign_id)
        before = set(connection.scalars(there))
        judged = left_out_leads.c
        own = sa.and_(_one_of(judged.lead_id, wanted), judged.campaign_id == campaign_id)
        forgotten = Counter(connection.scalars(sa.delete(left_out_leads).where(own).returning(judged.reason)))
        is_paused = status == CampaignStatus.PAUSED
        # The resume moves what is paused by the length of the whole pause.
        at = campaign["paused_at"] if is_paused else connection.execute(sa.select(sa.func.now())).scalar_one()
        added = schedule_leads(connection, campaign, audience_of_leads(campaign, wanted), at, status=status)
        changes = counters({**campaign, "leads_left_out": Counter(campaign["leads_left_out"]) - forgotten}, added)
        if added.leads:
            changes["idle_since"] = None
            detail = {"leads": added.leads, "emails": added.emails}
            audit_log.record(connection, actor, AuditAction.CAMPAIGN_LEADS_ADD, "campaign", campaign_id, detail)
        connection.execute(
            sa.update(campaigns).where(campaigns.c.id == campaign_id).values(**changes, updated_at=sa.func.now())
        )
        left_out = dict(map(tuple, connection.execute(sa.select(judged.lead_id, judged.reason).where(own))))
    outcomes = _outcomes(lead_ids, known, before, left_out)
    return TakenIn(status, outcomes, added.emails, campaign["revision"], problems)


def _outcomes(
    lead_ids: Sequence[uuid.UUID],
    known: set[uuid.UUID],
    before: set[uuid.UUID],
    left_out: Mapping[uuid.UUID, str],
) -> list[tuple[IntakeOutcome, str | None]]:
    seen: set[uuid.UUID] = set()
    outcomes: list[tuple[IntakeOutcome, str | None]] = []
    for lead_id in lead_ids:
        if lead_id not in known:
            outcomes.append((IntakeOutcome.NO_SUCH_LEAD, None))
        elif lead_id in seen:
            outcomes.append((IntakeOutcome.NOT_ADDED, Reason.DUPLICATE_ADDRESS))
        elif lead_id in before:
            outcomes.append((IntakeOutcome.ALREADY_THERE, None))
        elif lead_id in left_out:
            outcomes.append((IntakeOutcome.NOT_ADDED, left_out[lead_id]))
        else:
            outcomes.append((IntakeOutcome.ADDED, None))
        seen.add(lead_id)
    return outcomes


def _one_of(column: sa.Column[Any], ids: Sequence[uuid.UUID]) -> sa.ColumnElement[bool]:
    return column == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.UUID)))


def refuse_unless_open(connection: sa.Connection, campaign_id: uuid.UUID, *, lock: bool = False) -> sa.RowMapping:
    """The campaign, if it takes in leads now.

    Raises:
        NotFound, Conflict: as `add_leads`.
    """
    campaign = get_campaign(connection, campaign_id, lock=lock)
    status = campaign["status"]
    if not campaign["evergreen"]:
        raise Conflict("This campaign is not evergreen: its leads are those of its start.", status=status)
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        raise Conflict(f"The campaign is {status}; it takes in leads while it is running or paused.", status=status)
    if not takes_in(connection, campaign["id"]):
        raise Conflict("The intake of this campaign has ended.", status=status)
    kinds = [work["kind"] for work in campaign["background_work"]]
    # A pause or a resume that is over, and whose rows are still being changed, would change rows that are added now.
    unfinished = "pause" if status == CampaignStatus.RUNNING else "resume"
    if "schedule" in kinds or unfinished in kinds:
        message = "The emails of this campaign are still being scheduled or changed; try again in a few minutes."
        raise Conflict(message, status=status)
    return campaign


def finish_intake(engine: sa.Engine, campaign_id: uuid.UUID, actor: str) -> CampaignStatus:
    """End the intake. The campaign completes when every one of its emails is terminal, which may be now.

    What was accepted before still comes in: the leads of imports for the campaign, and an intake that has begun.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it takes in no leads.
    """
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = campaign["status"]
        under_way = status in (CampaignStatus.RUNNING, CampaignStatus.PAUSED)
        if not under_way or not takes_in(connection, campaign_id):
            raise Conflict(f"The campaign is {status} and takes in no leads.", status=status)
        connection.execute(
            sa.update(campaigns)
            .where(campaigns.c.id == campaign_id)
            .values(
                intake_ended_at=sa.func.now(),
                next_intake_at=None,
                idle_since=None,
                workflow_errors=[],
                updated_at=sa.func.now(),
            )
        )
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_FINISH, "campaign", campaign_id)
    return CampaignStatus.COMPLETED if mark_campaign_complete(engine, campaign_id) else CampaignStatus(status)


def give_batch(
    connection: sa.Connection, campaign_id: uuid.UUID, lead_batch_id: uuid.UUID, actor: str, *, dry_run: bool = False
) -> None:
    """Let a campaign take in the leads of a new batch as soon as its import is complete. A dry run imports nothing yet.

    Called at the end of a transaction that may have locked other campaigns: this one is locked as weakly as possible.
    It is locked before it is looked at, so that its intake does not end in between.

    Raises:
        NotFound, Conflict: as `add_leads`.
    """
    lock = sa.select(campaigns.c.id).where(campaigns.c.id == campaign_id)
    connection.execute(lock.with_for_update(read=True, key_share=True))
    refuse_unless_open(connection, campaign_id)
    own = sa.update(lead_batches).where(lead_batches.c.id == lead_batch_id)
    connection.execute(own.values(active_campaign_id=campaign_id))
    if not dry_run:
        record_batch(connection, campaign_id, lead_batch_id, actor)


def record_batch(connection: sa.Connection, campaign_id: uuid.UUID, lead_batch_id: uuid.UUID, actor: str) -> None:
    """Record who imports a lead batch for a campaign."""
    detail = {"lead_batch_id": str(lead_batch_id)}
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_LEADS_ADD, "campaign", campaign_id, detail)


def begin_due_intakes(connection: sa.Connection) -> int:
    """Add an intake to the background work of each running campaign that is due for one. Returns how many."""
    return connection.execute(_BEGIN).rowcount
