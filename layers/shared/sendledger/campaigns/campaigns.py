"""Campaigns as records: create, read, change, delete. Their changes of status are in lifecycle.py.

Reads and writes `campaigns` and `campaign_leads`; reads what a campaign refers to; writes `audit_log`, and `cap_uses`
through policy/companies.py.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import has_policy, parts_steps
from sendledger.campaigns.missing_parts import CONTENT, missing_audience, missing_content
from sendledger.campaigns.transitions import is_startable
from sendledger.core import audit_log, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import takes_in_leads
from sendledger.core.pagination import Page
from sendledger.core.tables import (
    campaign_lanes,
    campaign_leads,
    campaigns,
    email_templates,
    lead_batches,
    leads,
    segments,
    sender_addresses,
    sending_schedules,
    workflows,
)
from sendledger.core.vocabulary import UNDER_WAY_STATUSES, AuditAction, CampaignStatus, CampaignType, StartType
from sendledger.policy.budgets import sending_day_now
from sendledger.policy.companies import count_new_leads_of_day

CAPS = ("new_leads_per_day", "new_leads_per_company_per_day")
INTAKE = ("end_at", "intake")
ALWAYS_CHANGEABLE = frozenset({"name", "description", "guardrails", *CAPS})
WITHOUT_CHECK = ALWAYS_CHANGEABLE.union({"start_type", "scheduled_start_at"})
"""A scheduled campaign can start after a change of these as well as before. A start can always be put off."""
TYPES_WITHOUT_AUDIENCE = (CampaignType.LEAD_GENERATION, CampaignType.FULLY_AUTOMATED)
"""These find their own leads."""
OUTREACH_TYPES = (None, *(each for each in CampaignType if each not in TYPES_WITHOUT_AUDIENCE))
"""These send emails, including those of the old application."""
MOST_ERRORS = 100
"""How many unknown ids an error names."""

_NOTHING_CHOSEN: Mapping[str, Any] = {
    "campaign_type": CampaignType.OUTREACH,
    "email_template_id": None,
    "workflow_id": None,
    "batch_ids": [],
    "segment_ids": [],
    "evergreen": False,
    "end_at": None,
    "intake": None,
    "from_address": None,
    "sender_ids": [],
    "start_type": StartType.MANUAL,
    "scheduled_start_at": None,
}

_table = campaigns
_chosen_leads = (
    sa.select(sa.func.count(campaign_leads.c.lead_id.distinct()))
    .where(campaign_leads.c.campaign_id == _table.c.id)
    .scalar_subquery()
    .label("lead_ids_count")
)
# The old application knows one batch only.
_all_batches = sa.case(
    (sa.or_(_table.c.batch_id.is_(None), _table.c.batch_id == sa.any_(_table.c.batch_ids)), _table.c.batch_ids),
    else_=sa.func.array_prepend(_table.c.batch_id, _table.c.batch_ids, type_=_table.c.batch_ids.type),
)
# In a campaign with a sending policy, lanes are held.
_late_lane = (
    sa.select(sa.func.max(campaign_lanes.c.late_hold_until))
    .where(campaign_lanes.c.campaign_id == _table.c.id)
    .scalar_subquery()
)
# Columns that the earlier application may have left empty, or has under another name.
_DERIVED = {
    "status": sa.func.coalesce(_table.c.status, CampaignStatus.DRAFT),
    "campaign_type": sa.func.coalesce(_table.c.campaign_type, CampaignType.OUTREACH),
    "batch_ids": _all_batches,
    "late_hold_until": sa.func.greatest(_table.c.late_hold_until, _late_lane),
}
_CAMPAIGN = tuple(_DERIVED.get(column.name, column).label(column.name) for column in _table.c)
# Each side has an index. A campaign that has gone on or ended keeps no reason.
_NEEDS_ATTENTION = sa.or_(
    sa.and_(
        _table.c.failure_reason.is_not(None),
        _table.c.status.in_([CampaignStatus.SCHEDULED, CampaignStatus.PAUSED, CampaignStatus.FAILED]),
    ),
    sa.and_(
        _table.c.status == CampaignStatus.RUNNING,
        sa.or_(_DERIVED["late_hold_until"].is_not(None), sa.func.jsonb_array_length(_table.c.workflow_errors) > 0),
    ),
)


def create(
    connection: sa.Connection, values: Mapping[str, Any], lead_ids: Sequence[UUID] = (), actor: str = SYSTEM
) -> sa.RowMapping:
    """Store a draft. `values` are columns, `lead_ids` the leads besides those of its batches and segments.

    It may have no content and no leads yet.

    Raises:
        InvalidInput: the parts do not fit together, or something that it refers to does not exist.
    """
    merged = {**_NOTHING_CHOSEN, **values, "lead_ids_count": len(lead_ids)}
    _check(connection, merged, values, lead_ids)
    campaign_id = connection.execute(
        sa.insert(_table)
        .values({**values, "status": CampaignStatus.DRAFT, "use_workflow": values.get("workflow_id") is not None})
        .returning(_table.c.id)
    ).scalar_one()
    _write_leads(connection, campaign_id, lead_ids)
    audit_log.record(connection, actor, AuditAction.CAMPAIGN_CREATE, "campaign", campaign_id)
    return get_campaign(connection, campaign_id, count_leads=True)


def get_campaign(
    connection: sa.Connection, campaign_id: UUID, *, lock: bool = False, count_leads: bool = False
) -> sa.RowMapping:
    """A campaign; `batch_ids` are all its lead batches.

    With `lock` it is locked against senders and other changes until the transaction ends. With `count_leads` it has
    `lead_ids_count`, the number of leads that were chosen one by one; not every function may read those.

    Raises:
        NotFound: there is no such campaign.
    """
    own = _table.c.id == campaign_id
    if lock:
        # In a separate statement: the next one sees what the holder of the lock has committed.
        connection.execute(sa.select(_table.c.id).where(own).with_for_update())
    query = sa.select(*_CAMPAIGN, *([_chosen_leads] if count_leads else [])).where(own)
    found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise NotFound("campaign", campaign_id)
    return found


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    ids: Sequence[UUID] | None = None,
    status: str | None = None,
    type_: str | None = None,
    needs_attention: bool | None = None,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of campaigns, in the order of `pagination.Order`.

    A campaign needs attention that is stopped, or waits to start, for a reason, and one that runs and cannot go on in
    part: it holds late emails, or its edited workflow cannot be sent.
    """
    query = sa.select(*_CAMPAIGN, _chosen_leads)
    if ids is not None:
        query = query.where(_table.c.id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.UUID))))
    if status is not None:
        query = query.where(_table.c.status == status)
    if type_ is not None:
        query = query.where(_table.c.campaign_type == type_)
    if needs_attention is not None:
        no = sa.not_(sa.func.coalesce(_NEEDS_ATTENTION, sa.false()))
        query = query.where(_NEEDS_ATTENTION if needs_attention else no)
    return pagination.sorted_page(connection, query, _table, limit, cursor, sort)


def update(
    connection: sa.Connection,
    campaign_id: UUID,
    changes: Mapping[str, Any],
    lead_ids: Sequence[UUID] | None = None,
    actor: str = SYSTEM,
) -> sa.RowMapping:
    """Change the given columns only; `lead_ids`, if given, replace all chosen leads.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it has started, and more than its name, description, guardrails, caps and intake would change, or it
            started without caps and senders, or takes in no leads, or its last cap would go while late emails are held.
        InvalidInput: as in `create`, or it is scheduled and would lose its content or its leads.
    """
    current = get_campaign(connection, campaign_id, lock=True, count_leads=True)
    changed = sorted([*changes, *(["lead_ids"] if lead_ids is not None else [])])
    detail = {"fields": changed, **_changed_limits(current, changes)}
    _check_caps(connection, current, changes)
    _refuse_loss_of_holds(current, changes)
    always = ALWAYS_CHANGEABLE if is_startable(current) else ALWAYS_CHANGEABLE.union(INTAKE)
    if lead_ids is not None or not changes.keys() <= always:
        if not is_startable(current):
            raise Conflict(
                f"The campaign is {current['status']}; only its name, description, guardrails, caps of new leads and, "
                "if it is evergreen, end_at and intake can be changed.",
                status=current["status"],
            )
        merged = {**current, **changes}
        if lead_ids is not None:
            merged["lead_ids_count"] = len(lead_ids)
        is_scheduled = current["status"] == CampaignStatus.SCHEDULED
        must_be_complete = is_scheduled and not WITHOUT_CHECK.issuperset(changed)
        misfits = list(_misfits({**current}))
        _check(connection, merged, changes, lead_ids or (), misfits, must_be_complete=must_be_complete)
        if is_scheduled and merged["start_type"] != StartType.SCHEDULED:
            message = "The campaign is scheduled; unschedule it first, or change scheduled_start_at."
            raise Conflict(message, status=current["status"])
        changes = {**changes, "use_workflow": merged["workflow_id"] is not None}
        if "batch_ids" in changes:
            changes["batch_id"] = None
    elif changes.keys() & set(INTAKE):
        _refuse_without_intake(connection, current)
        if "intake" in changes:
            changes = {**changes, "next_intake_at": next_intake(changes["intake"])}
    if lead_ids is not None:
        connection.execute(sa.delete(campaign_leads).where(campaign_leads.c.campaign_id == campaign_id))
        _write_leads(connection, campaign_id, lead_ids)
    if changes:
        connection.execute(
            sa.update(_table).where(_table.c.id == campaign_id).values({**changes, "updated_at": sa.func.now()})
        )
    if changed:
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_UPDATE, "campaign", campaign_id, detail)
    return get_campaign(connection, campaign_id, count_leads=True)


def _changed_limits(current: sa.RowMapping, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The old and the new limits, for the audit log: they can be changed while emails go out."""
    names = [name for name in ("guardrails", *CAPS, *INTAKE) if name in changes]
    return {name: {"before": _shown(current[name]), "after": _shown(changes[name])} for name in names}


def _shown(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value


def takes_in(connection: sa.Connection, campaign_id: UUID) -> bool:
    """Whether leads can still be added to the campaign once it is under way."""
    own = sa.text(f"SELECT {takes_in_leads('c')} FROM campaigns c WHERE id = :id")
    return bool(connection.scalar(own.bindparams(sa.bindparam("id", campaign_id, sa.UUID))))


def next_intake(intake: Mapping[str, str] | None) -> sa.ColumnElement[dt.datetime] | None:
    """When a campaign looks for new leads next, counted from now."""
    return sa.func.now() + sa.cast(sa.literal(intake["every"], sa.Text), sa.Interval) if intake else None


def _refuse_without_intake(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    status = campaign["status"]
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED) or not takes_in(connection, campaign["id"]):
        message = f"The campaign is {status} and takes in no leads; end_at and intake can be changed while it does."
        raise Conflict(message, status=status)


def _check_caps(connection: sa.Connection, current: sa.RowMapping, changes: Mapping[str, Any]) -> None:
    """First and later steps of a campaign wait in separate lanes only if it had caps or senders when it started.

    A cap that is new counts the emails of the whole day.
    """
    given = [name for name in CAPS if changes.get(name) is not None]
    if is_startable(current) or not given:
        return
    if not parts_steps(connection, current["id"]):
        status = current["status"]
        message = f"The campaign is {status} and started without a cap of new leads; it cannot get one any more."
        raise Conflict(message, status=status)
    if any(current[name] is None for name in given):
        count_new_leads_of_day(connection, current["id"], sending_day_now(connection))


def _refuse_loss_of_holds(current: sa.RowMapping, changes: Mapping[str, Any]) -> None:
    """Without a policy no claim looks at lanes, and what they hold would go out."""
    is_held = current["status"] in UNDER_WAY_STATUSES and current["late_hold_until"] is not None
    if is_held and has_policy(current) and not has_policy({**current, **changes}):
        message = "Late emails of this campaign are held; send or skip them (late-emails) before it loses its last cap."
        raise Conflict(message, status=current["status"])


def delete(connection: sa.Connection, campaign_id: UUID, actor: str) -> None:
    """Delete a campaign that is not under way, and its part of the ledger.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it is scheduled, running or paused.
    """
    current = get_campaign(connection, campaign_id, lock=True)
    if current["status"] in UNDER_WAY_STATUSES:
        raise Conflict(f"The campaign is {current['status']}; cancel it first.", status=current["status"])
    connection.execute(sa.delete(_table).where(_table.c.id == campaign_id))
    audit_log.record(
        connection, actor, AuditAction.CAMPAIGN_DELETE, "campaign", campaign_id, {"status": current["status"]}
    )


def _write_leads(connection: sa.Connection, campaign_id: UUID, lead_ids: Sequence[UUID]) -> None:
    if lead_ids:
        chosen = sa.select(sa.literal(campaign_id, sa.UUID), _unnested(lead_ids))
        connection.execute(sa.insert(campaign_leads).from_select(["campaign_id", "lead_id"], chosen))


def _unnested(ids: Sequence[UUID]) -> sa.ColumnElement[UUID]:
    return sa.func.unnest(sa.literal(list(dict.fromkeys(ids)), sa.ARRAY(sa.UUID)), type_=sa.UUID)


def _check(
    connection: sa.Connection,
    campaign: Mapping[str, Any],
    given: Mapping[str, Any],
    lead_ids: Sequence[UUID],
    misfits: Collection[FieldError] = (),
    *,
    must_be_complete: bool = False,
) -> None:
    """`campaign` is the campaign after the change. Only the references in `given` are looked up.

    `misfits` are those before the change, which drafts of an adopted database may have. They may stay.
    """
    errors = [error for error in _misfits(campaign) if error.field in given or error not in misfits]
    errors += _missing(connection, given, lead_ids)
    if must_be_complete:
        has_chosen_leads = campaign["lead_ids_count"] > 0
        errors += [
            *missing_content(connection, campaign),
            *missing_audience(campaign, has_chosen_leads=has_chosen_leads),
        ]
    if errors:
        raise InvalidInput("The campaign is not valid.", errors[:MOST_ERRORS])


def _misfits(campaign: Mapping[str, Any]) -> Iterator[FieldError]:
    is_outreach = campaign["campaign_type"] not in TYPES_WITHOUT_AUDIENCE
    if all(campaign[name] is not None for name in CONTENT):
        for name in CONTENT:
            yield FieldError(name, "only one of email_template_id and workflow_id can be chosen")
    for name in ("end_at", "intake"):
        if campaign[name] is not None and not (is_outreach and campaign["evergreen"]):
            yield FieldError(name, "is for evergreen outreach campaigns only")
    if campaign["sender_ids"] and campaign["from_address"] is not None:
        yield FieldError("from_address", "must be null in a campaign with sender_ids, which say what it sends from")
    if len(set(campaign["sender_ids"])) < len(campaign["sender_ids"]):
        yield FieldError("sender_ids", "must not name a sender twice")
    if campaign["start_type"] == StartType.SCHEDULED and campaign["scheduled_start_at"] is None:
        yield FieldError("scheduled_start_at", "is needed with start_type scheduled")
    elif campaign["start_type"] != StartType.SCHEDULED and campaign["scheduled_start_at"] is not None:
        yield FieldError("scheduled_start_at", "is only for a start at a time of its own (start_type scheduled)")


def _missing(connection: sa.Connection, given: Mapping[str, Any], lead_ids: Sequence[UUID]) -> Iterator[FieldError]:
    wanted = (
        ("email_template_id", "email template", email_templates, given.get("email_template_id")),
        ("workflow_id", "workflow", workflows, given.get("workflow_id")),
        ("batch_ids", "lead batch", lead_batches, given.get("batch_ids")),
        ("segment_ids", "segment", segments, given.get("segment_ids")),
        ("sending_schedule_id", "sending schedule", sending_schedules, given.get("sending_schedule_id")),
        ("sender_ids", "sender", sender_addresses, given.get("sender_ids")),
        ("lead_ids", "lead", leads, lead_ids),
    )
    for field, kind, table, value in wanted:
        ids = value if isinstance(value, Sequence) else [value] if value else []
        if not ids:
            continue
        # Locked until this campaign is committed, so that a concurrent delete sees that it is in use.
        query = sa.select(table.c.id).where(table.c.id == sa.any_(sa.literal(ids, sa.ARRAY(sa.UUID))))
        found = set(connection.scalars(query.with_for_update(read=True, key_share=True)))
        for index, id_ in enumerate(ids):
            if id_ not in found:
                path = f"{field}.{index}" if isinstance(value, Sequence) else field
                yield FieldError(path, f"there is no {kind} with the id {id_}")
