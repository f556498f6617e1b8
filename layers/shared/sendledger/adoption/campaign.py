"""Takes over one campaign of an existing installation, in the caller's transaction.

The locked campaign goes in, a report comes out. A campaign is taken over completely or not at all. If a campaign should
send but cannot be taken over, it is left as it is, and the report says what a person has to change. Reads and writes
`campaigns`, `lead_batches`, `adopted_campaigns`, `audit_log`, and more through templates.py and ledger.py.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.adoption import ledger as adopt_ledger
from sendledger.adoption.report import CampaignReport, Ledger, on_one_line
from sendledger.adoption.templates import AdoptedStep, Copies, Untranslatable, follow_ups_as_steps, workflow_as_steps
from sendledger.core import audit_log
from sendledger.core.postgres_values import is_infinite
from sendledger.core.tables import adopted_campaigns, campaigns, lead_batches, scheduled_emails
from sendledger.core.vocabulary import AuditAction, CampaignStatus, CampaignType, ScheduledEmailStatus

ACTOR = "migrate-existing-campaigns"
_HOLDING = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)
"""A campaign with one of these keeps its lead batches."""
OLD_TYPES = (None, CampaignType.AUTOMATED, CampaignType.MANUAL)
"""Both names and none mean `outreach`, unless the campaign only generated leads."""
MOST_COUNTED = 1_000_000_000
"""The highest start of an adopted campaign's counters. They are 32-bit integers that will grow."""


class NothingToSend(Untranslatable):
    """The campaign has no leads that could get an email or have got one."""


@dataclass(frozen=True)
class AdoptionOptions:
    """How to take over.

    `reopen` is True to reopen every campaign that was completed with emails missing, or the ids of campaigns.
    """

    dry_run: bool = False
    backup: str | None = None
    """The backup: the id of a snapshot, or that one was taken."""
    reopen: bool | Collection[uuid.UUID] = False

    def reopens(self, campaign_id: uuid.UUID) -> bool:
        return self.reopen if isinstance(self.reopen, bool) else campaign_id in self.reopen


@dataclass
class AdoptionRun:
    """The state that the transactions of one run share."""

    options: AdoptionOptions
    copies: Copies
    overhauled: bool = False
    """The old application has its own ledger, which the first migration moved aside."""
    holders: dict[uuid.UUID, str] = field(default_factory=dict)
    """Lead batch → the campaign that got it in this run, as the report calls it. A dry run may have rolled that back
    already."""


def adopt_campaign(connection: sa.Connection, run: AdoptionRun, campaign: sa.RowMapping) -> CampaignReport | None:
    """Take over one locked campaign. None if there is nothing to do or report."""
    if connection.scalar(_HAS_STEPS, {"id": campaign["id"]}):
        return None  # another run has taken it over
    result = CampaignReport(str(campaign["id"]), campaign["name"], campaign["status"], campaign["status"])
    wanted = _is_wanted(run, campaign)
    if odd := list(_odd_values(campaign, dates=wanted)):
        result.explain(odd, blocks=wanted)
        return result
    values = _columns(connection, campaign)
    if (values.get("campaign_type") or campaign["campaign_type"]) == CampaignType.OUTREACH:
        try:
            with connection.begin_nested() as savepoint:
                values |= _emails(connection, run, campaign, result)
                if result.status_after == campaign["status"] and campaign["status"] == CampaignStatus.COMPLETED:
                    run.copies.added.clear()
                    savepoint.rollback()
        except Untranslatable as untranslatable:
            run.copies.added.clear()
            is_paused = campaign["status"] == CampaignStatus.PAUSED
            blocks = wanted and not (is_paused and isinstance(untranslatable, NothingToSend))
            result.explain(untranslatable.problems, blocks=blocks)
            if blocks:
                return result
    if values:
        _store(connection, run, campaign, values, result)
    return result if result.says_something else None


def _odd_values(campaign: sa.RowMapping, *, dates: bool) -> Iterator[str]:
    """Values without a known meaning. With one of them the campaign is left as it is."""
    if campaign["campaign_type"] not in (None, *CampaignType):
        yield f"its campaign_type is {on_one_line(campaign['campaign_type'])!r}, none of {', '.join(CampaignType)}"
    for name in ("start_date", "end_date"):
        if dates and is_infinite(campaign[name]):
            yield f"its date is infinite: {name}"


_HAS_STEPS = sa.text("SELECT EXISTS (SELECT FROM campaign_steps WHERE campaign_id = :id)").bindparams(
    sa.bindparam("id", type_=sa.UUID)
)


def _is_wanted(run: AdoptionRun, campaign: sa.RowMapping) -> bool:
    """Whether the campaign should send."""
    reopened = campaign["status"] == CampaignStatus.COMPLETED and run.options.reopens(campaign["id"])
    return campaign["status"] in (CampaignStatus.ACTIVE, CampaignStatus.PAUSED) or reopened


def _columns(connection: sa.Connection, campaign: sa.RowMapping) -> dict[str, Any]:
    """Values of new columns that are derived from old ones. Columns that have a value are left out."""
    adopted = connection.scalar(
        sa.select(sa.func.count())
        .where(adopted_campaigns.c.campaign_id == campaign["id"])
        .select_from(adopted_campaigns)
    )
    values: dict[str, Any] = {}
    if campaign["campaign_type"] in OLD_TYPES:
        only_leads = connection.scalar(_ONLY_LEADS, {"id": campaign["id"]})
        values["campaign_type"] = CampaignType.LEAD_GENERATION if only_leads else CampaignType.OUTREACH
    if campaign["batch_id"] is not None and not campaign["batch_ids"]:
        values["batch_ids"] = [campaign["batch_id"]]
    starts_at, planned_at = campaign["start_date"], campaign["scheduled_start_at"]
    if starts_at is not None and planned_at is None and not is_infinite(starts_at):
        values["scheduled_start_at"] = starts_at
    if campaign["is_recurring"] and campaign["status"] in _MAY_RECUR and not campaign["evergreen"]:
        values |= {"evergreen": True, "intake": {"every": _interval(campaign["recurring_interval"])}}
    if campaign["workflow_id"] is not None and not campaign["use_workflow"]:
        values["use_workflow"] = True
    if not adopted:
        for old, new in (("emails_sent", "emails_sent_count"), ("leads_generated", "total_leads_targeted")):
            if campaign[old]:
                values[new] = max(_count(campaign[old]), campaign[new])
    return {name: value for name, value in values.items() if value != campaign[name]}


_MAY_RECUR = (CampaignStatus.DRAFT, CampaignStatus.ACTIVE, CampaignStatus.PAUSED)
_NAMED_INTERVALS = {"hourly": "1 hour", "weekly": "1 week", "biweekly": "2 weeks", "monthly": "30 days"}
_INTERVAL = re.compile(r"([1-9][0-9]{0,3})[ _-]?(minute|hour|day|week)s?")


def _interval(recurring: str | None) -> str:
    """How often a recurring campaign of the old application looked for new leads; where that is not clear, daily."""
    said = (recurring or "").strip().lower()
    found = _INTERVAL.fullmatch(said)
    return f"{found[1]} {found[2]}s" if found else _NAMED_INTERVALS.get(said, "1 day")


# A campaign that only found leads, or was meant to, and has nothing to send.
_ONLY_LEADS = sa.text("""
    SELECT c.campaign_type IS DISTINCT FROM 'manual' AND c.workflow_id IS NULL AND c.email_template_id IS NULL
           AND NOT EXISTS (SELECT FROM emails e WHERE e.campaign_id = c.id)
    FROM campaigns c WHERE c.id = :id
""").bindparams(sa.bindparam("id", type_=sa.UUID))


def _emails(
    connection: sa.Connection, run: AdoptionRun, campaign: sa.RowMapping, result: CampaignReport
) -> dict[str, Any]:
    """Write the campaign's content and, if it should send, its ledger. Returns the columns to set.

    Raises:
        Untranslatable: a person has to change something first.
    """
    status = campaign["status"]
    if status in (None, CampaignStatus.ARCHIVED):
        return {}
    if status == CampaignStatus.DRAFT and campaign["campaign_type"] not in OLD_TYPES:
        return {}
    workflow_id, steps = campaign["workflow_id"], []
    if workflow_id is not None:
        steps = workflow_as_steps(connection, run.copies, workflow_id)
        result.notes += _repeated_numbers(steps)
        if status == CampaignStatus.DRAFT:
            result.notes += _odd_delays(steps)
            return {}
    elif status != CampaignStatus.DRAFT or campaign["email_template_id"] is not None:
        # The overhaul sent one email to each lead of a campaign without a workflow.
        single = run.overhauled and adopt_ledger.is_in_old_ledger(connection, campaign["id"])
        follow_ups = {"follow_up_enabled": False} if single else {}
        workflow_id, steps = follow_ups_as_steps(connection, run.copies, {**campaign, **follow_ups})
    values = {"workflow_id": workflow_id, "use_workflow": True} if workflow_id != campaign["workflow_id"] else {}
    if status == CampaignStatus.DRAFT:
        return values
    if status == CampaignStatus.COMPLETED:
        missing = adopt_ledger.count(connection, campaign, steps, overhauled=run.overhauled)
        if not missing.rows[ScheduledEmailStatus.PENDING]:
            return {}
        if not run.options.reopens(campaign["id"]):
            result.missing = missing.rows[ScheduledEmailStatus.PENDING]
            return {}
    return values | _open(connection, run, campaign, result, workflow_id, steps)


def _open(
    connection: sa.Connection,
    run: AdoptionRun,
    campaign: sa.RowMapping,
    result: CampaignReport,
    workflow_id: uuid.UUID | None,
    steps: list[AdoptedStep],
) -> dict[str, Any]:
    if odd_delays := _odd_delays(steps):
        raise Untranslatable(odd_delays)
    now = connection.execute(sa.select(sa.func.now())).scalar_one()
    over = campaign["end_date"] is not None and campaign["end_date"] <= now
    paused = campaign["status"] == CampaignStatus.PAUSED or over
    ledger = adopt_ledger.write(connection, campaign, steps, workflow_id, paused=paused, overhauled=run.overhauled)
    if not ledger.rows:
        raise NothingToSend(["it has no leads that an email could go to"])
    result.take(ledger, CampaignStatus.PAUSED if paused else CampaignStatus.RUNNING, len(steps))
    if over and campaign["status"] != CampaignStatus.PAUSED:
        result.problems.append("its end date has passed; it was paused instead of going on: resume or cancel it")
    result.notes += _notes(campaign, ledger)
    result.notes += _hold_batches(connection, run, campaign)
    first_sent = sa.select(sa.func.min(scheduled_emails.c.sent_at)).where(
        scheduled_emails.c.campaign_id == campaign["id"]
    )
    return {
        "status": result.status_after,
        "paused_at": now if paused else None,
        "actual_started_at": sa.func.coalesce(first_sent.scalar_subquery(), now),
        "total_leads_targeted": max(_count(campaign["leads_generated"]), ledger.leads),
        "emails_scheduled_count": ledger.rows.total(),
        "emails_sent_count": max(_count(campaign["emails_sent"]), ledger.rows[ScheduledEmailStatus.SENT]),
        "emails_failed_count": ledger.rows[ScheduledEmailStatus.FAILED],
        "current_workflow_step": min(ledger.reached, len(steps)),
        "leads_left_out": dict(ledger.left_out),
        # An evergreen one goes on looking for new leads.
        "next_intake_at": sa.func.greatest(campaign["next_run_at"], now) if campaign["is_recurring"] else None,
    }


def _count(stored: int | None) -> int:
    """A count of the old application, low enough to grow."""
    return min(max(stored or 0, 0), MOST_COUNTED)


def _odd_delays(steps: Sequence[AdoptedStep]) -> list[str]:
    return [step.odd_delay for step in steps if step.odd_delay]


def _repeated_numbers(steps: Sequence[AdoptedStep]) -> Iterator[str]:
    for old_number, group in itertools.groupby(steps, key=lambda step: step.old_number):
        same = [repr(on_one_line(step.subject)) for step in group]
        if len(same) > 1:
            yield (
                f"its workflow has {len(same)} steps with the number {old_number}; they are sent one after the other, "
                f"the oldest first: {', '.join(same)}"
            )


def _notes(campaign: sa.RowMapping, ledger: Ledger) -> Iterator[str]:
    said = max(campaign["emails_sent"] or 0, campaign["emails_sent_count"])
    sent, failed = ledger.rows[ScheduledEmailStatus.SENT], ledger.rows[ScheduledEmailStatus.FAILED]
    if sent != said:
        yield f"emails_sent says {said}; {sent} emails were found"
    if failed:
        yield f"{failed} emails may have been sent, nobody knows; they are not sent again by themselves"
    if ledger.without_step:
        yield f"{ledger.without_step} emails were sent twice or beyond the last step"
    if ledger.queued:
        yield f"{ledger.queued} emails are still queued by the old application: make sure that it does not send them"


def _hold_batches(connection: sa.Connection, run: AdoptionRun, campaign: sa.RowMapping) -> Iterator[str]:
    """Give the campaign its lead batches. A batch that another campaign holds stays there and is reported."""
    batch_ids = sorted({*campaign["batch_ids"], *filter(None, [campaign["batch_id"]])})
    holder = campaigns.alias("holder")
    query = (
        sa.select(
            lead_batches.c.id,
            lead_batches.c.name,
            sa.case((holder.c.status.in_(_HOLDING), holder.c.id)).label("holder_id"),
            holder.c.name.label("holder_name"),
        )
        .select_from(lead_batches.outerjoin(holder, holder.c.id == lead_batches.c.active_campaign_id))
        .where(lead_batches.c.id.in_(batch_ids))
        .order_by(lead_batches.c.id)
        .with_for_update(of=lead_batches)
    )
    rows = connection.execute(query).mappings().all()
    free = []
    for row in rows:
        held_by = run.holders.get(row["id"])
        if row["holder_id"] is not None:
            held_by = _called(row["holder_name"], row["holder_id"])
        if held_by is None:
            free.append(row["id"])
        else:
            yield f"its lead batch {_called(row['name'], row['id'])} is held by campaign {held_by}"
    if missing := set(batch_ids) - {row["id"] for row in rows}:
        yield f"its lead batch {', '.join(sorted(map(str, missing)))} does not exist"
    run.holders |= dict.fromkeys(free, _called(campaign["name"], campaign["id"]))
    run.copies.added.update(("lead_batches", batch_id) for batch_id in free)
    connection.execute(
        sa.update(lead_batches)
        .where(lead_batches.c.id.in_(free))
        .values(active_campaign_id=campaign["id"], updated_at=sa.func.now())
    )


def _called(name: str, id_: uuid.UUID) -> str:
    """Its name, or its id where it has none that can be read."""
    shown = on_one_line(name)
    return repr(shown) if shown else str(id_)


def _store(
    connection: sa.Connection, run: AdoptionRun, campaign: sa.RowMapping, values: dict[str, Any], result: CampaignReport
) -> None:
    before = {
        name: str(campaign[name]) if campaign[name] is not None else None
        for name in ("status", "campaign_type", "workflow_id")
    }
    connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign["id"]).values(values))
    connection.execute(
        insert(adopted_campaigns)
        .values(campaign_id=campaign["id"], before=before)
        .on_conflict_do_nothing(index_elements=["campaign_id"])
    )
    detail = {"from": campaign["status"], "to": result.status_after, "rows": dict(result.rows)}
    audit_log.record(
        connection,
        ACTOR,
        AuditAction.CAMPAIGN_ADOPT,
        "campaign",
        campaign["id"],
        {**detail, "backup": run.options.backup},
    )
    run.copies.added.add(("campaigns", campaign["id"]))
    result.changed = True
