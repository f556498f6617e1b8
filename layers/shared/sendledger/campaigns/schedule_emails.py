"""Scheduling: the campaign's audience and steps in, rows of the ledger out, set by set.

Reads the audience (audience.py) and the campaign's template or workflow; writes `campaign_steps` and
`campaign_step_variants` (the content as it is now), `campaign_lanes`, `scheduled_emails` and, for each lead that gets
nothing, `left_out_leads`. The caller owns the transaction and has locked the campaign.
"""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import company_of_lead, lane_of_lead, lanes_of_places, waits_in_lanes
from sendledger.campaigns.audience import Audience, audience_of, audience_size, leads_left_out
from sendledger.campaigns.campaign_steps import count_steps, snapshot_steps, step_values, with_attachments, write_steps
from sendledger.campaigns.campaigns import get_campaign, takes_in
from sendledger.campaigns.split_leads import place_of
from sendledger.campaigns.variants import splits, variant_of_template
from sendledger.campaigns.winners import forget_times, set_times
from sendledger.content.render_email import compile_template
from sendledger.core import audit_log, database
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NobodyToEmail
from sendledger.core.ledger_rules import LAST_STEP, returned_reason, returned_status
from sendledger.core.tables import (
    campaign_steps,
    campaigns,
    email_templates,
    leads,
    left_out_leads,
    scheduled_emails,
)
from sendledger.core.vocabulary import AuditAction, CampaignStatus
from sendledger.policy.companies import company_sql

ROWS_PER_BUCKET = 150_000
"""Rows that one transaction writes, at most. The sender writes those of a larger campaign bucket by bucket."""


@dataclass(frozen=True)
class ScheduledLeads:
    """What one scheduling pass did: leads scheduled, rows written, leads left out by reason, and the work left."""

    leads: int
    emails: int
    left_out: Counter[str] = field(default_factory=Counter)
    background_work: list[dict[str, Any]] = field(default_factory=list)


_STEPS = f"""
    FROM campaign_steps s
    WHERE s.campaign_id = :campaign_id AND s.revision = :revision AND s.step_number <= {LAST_STEP}"""
_COLUMNS = (
    "campaign_id, revision, lead_id, template_id, workflow_id, workflow_step_number, scheduled_for, status, reason"
)
_STATUS = f"""{returned_status("c")}, {returned_reason("c")}"""
# Of a campaign without a sending policy and variants: no lanes and no turns. What is due together is stored together,
# in the order of the index by lead, whose pages are then written one after the other.
_ROWS = f"""
, steps AS (
    SELECT s.step_number, s.email_template_id, sum(s.delay) OVER (ORDER BY s.step_number) AS delay {_STEPS}
), written AS (
    INSERT INTO scheduled_emails ({_COLUMNS})
    SELECT :campaign_id, :revision, r.id, s.email_template_id, :workflow_id, s.step_number, :start_at + s.delay,
           {_STATUS}
    FROM ranked r CROSS JOIN steps s CROSS JOIN (SELECT CAST(:status AS text)) c (status) WHERE r.reason IS NULL
    ORDER BY s.step_number, r.id
)"""


# What variants add to the statement. `drawn` has other ranks for the steps that do not keep the variant of the others.
# A negative turn is an email that waits for the winner.
_NO_VARIANTS = {"of_step": _STEPS, "template": "s.email_template_id", "scheduled_for": "d.due_at"}
_VARIANTS = {
    "of_step": f""",
           s.keep_variant, v.first, v.head, v.length, v.before, v.templates,
           CASE WHEN s.winner_decided_at IS NULL THEN s.winner_at END AS winner_at
    FROM (SELECT s.* {_STEPS}) s
    LEFT JOIN json_to_recordset(CAST(:splits AS json))
           AS v (step_number int, first int, head int, length int, before bigint, templates uuid[])
           ON v.step_number = s.step_number""",
    "drawn": """, drawn AS (
    SELECT r.id, s.step_number, :leads_before - 1 + row_number() OVER (
               PARTITION BY s.step_number ORDER BY hashtextextended(r.id::text, s.step_number), r.id) AS rank
    FROM placed r CROSS JOIN steps s WHERE s.length IS NOT NULL AND NOT s.keep_variant
)""",
    "columns": ", variant, fallback_variant, winner_wait",
    "template": "CASE WHEN v.turn IS NULL THEN s.email_template_id ELSE s.templates[v.turn] END",
    "scheduled_for": "greatest(d.due_at, CASE WHEN v.turn < 0 THEN s.winner_at END)",
    "values": """,
           CASE WHEN v.turn > 0 THEN v.turn END, CASE WHEN v.turn < 0 THEN -v.turn END,
           CASE WHEN v.turn < 0 THEN greatest(0, floor(extract(epoch FROM s.winner_at - d.due_at)))::integer END""",
    "turn": f"""
    LEFT JOIN drawn ON drawn.id = r.id AND drawn.step_number = s.step_number
    CROSS JOIN LATERAL (SELECT coalesce(drawn.rank, r.rank) - s.before) own (rank)
    CROSS JOIN LATERAL (
        SELECT (CAST(:turns AS smallint[]))[s.first + {place_of("own.rank", "s.head", "s.length")}]) v (turn)""",
}


@functools.cache
def _rows_in_turns(*, in_lanes: bool, has_variants: bool, has_times: bool) -> str:
    """Rows of a campaign whose leads take turns at variants or, in lanes, at senders.

    `rank` counts all leads that the campaign ever had. It decides which variant a lead gets; see variants.splits. What
    only lanes, only variants or only business days (`has_times`) need is left out without them, as it is looked up for
    each row.
    """
    place, places, columns, values, lanes, times, due_at = "", "", "", "", "", "", ":start_at + s.delay"
    if in_lanes:
        company = company_sql("r.address")
        place = f", coalesce(p.zone, '') AS zone, CASE WHEN CAST(:part_steps AS boolean) THEN {company} END AS company"
        places = """
    LEFT JOIN json_to_recordset(CAST(:places AS json)) AS p (time_zone text, country text, zone text)
           ON coalesce(p.time_zone, '') = coalesce(r.time_zone, '')
          AND coalesce(p.country, '') = coalesce(r.country, '')"""
        columns = ", lane, lead_company, is_behind"
        values = """, CASE WHEN s.step_number = 1 THEN r.first_lane ELSE r.later_lane END,
           CASE WHEN s.step_number = 1 THEN r.company END,
           CASE WHEN CAST(:part_steps AS boolean) AND s.step_number > 1 THEN true END"""
        # For each lead, not for each of its rows.
        lanes = """, in_lanes AS MATERIALIZED (
    SELECT placed.*, coalesce(w.first_lane, 0) AS first_lane, coalesce(w.later_lane, 0) AS later_lane
    FROM placed LEFT JOIN json_to_recordset(CAST(:lanes AS json))
                AS w (zone text, position bigint, first_lane smallint, later_lane smallint)
         ON w.zone = placed.zone AND w.position = mod(placed.rank, CAST(:senders AS bigint))
)"""
    if has_times:
        times = """
    LEFT JOIN json_to_recordset(CAST(:times AS json)) AS t (zone text, step_number integer, due_at timestamptz)
           ON t.zone = r.zone AND t.step_number = s.step_number"""
        due_at = "coalesce(t.due_at, :start_at + s.delay)"
    added = defaultdict(str, _VARIANTS if has_variants else _NO_VARIANTS)
    return f"""
, steps AS (
    SELECT s.step_number, s.email_template_id, sum(s.delay) OVER (ORDER BY s.step_number) AS delay{added["of_step"]}
), placed AS (
    -- In the order of the import. The plan of a draft numbers them in the same way.
    SELECT r.id, r.rank{place}
    FROM (SELECT r.*, :leads_before + row_number() OVER (ORDER BY r.id) - 1 AS rank FROM ranked r
          -- A CASE because of the planner, which would expect few of them.
          WHERE CASE WHEN r.reason IS NULL THEN true END) r{places}
){lanes}{added["drawn"]}, written AS (
    INSERT INTO scheduled_emails ({_COLUMNS}{added["columns"]}{columns})
    SELECT :campaign_id, :revision, r.id, {added["template"]}, :workflow_id, s.step_number,
           {added["scheduled_for"]}, {_STATUS}{added["values"]}{values}
    FROM {"in_lanes" if in_lanes else "placed"} r CROSS JOIN steps s
    CROSS JOIN (SELECT CAST(:status AS text)) c (status){added["turn"]}{times}
    CROSS JOIN LATERAL (SELECT {due_at}) d (due_at)
    ORDER BY s.step_number, r.id
)"""


_LEFT_OUT = """
, left_out AS (
    INSERT INTO left_out_leads (campaign_id, lead_id, reason)
    SELECT :campaign_id, r.id, r.reason FROM ranked r WHERE r.reason IS NOT NULL ORDER BY r.reason
    ON CONFLICT (lead_id, campaign_id) DO NOTHING
)
SELECT reason, count(*), (SELECT count(*) FROM steps) FROM ranked GROUP BY reason
"""
_SCHEDULED_ALREADY = "scheduled_emails_lead_id_campaign_id_workflow_step_number_key"
"""The unique constraint of the ledger."""


def schedule_leads(
    connection: sa.Connection,
    campaign: sa.RowMapping,
    audience: Audience,
    start_at: dt.datetime,
    bucket: int = 0,
    buckets: int = 1,
    status: CampaignStatus = CampaignStatus.RUNNING,
) -> ScheduledLeads:
    """Write the rows of one bucket of the audience in one statement. A single bucket is the whole audience.

    The leads that are left out are written too, each with the reason. With the `status` paused the rows are as if the
    pause had cancelled them.

    Leads get their bucket by a hash of the address. So two leads with one address are in the same bucket, and the
    second is left out. Memory does not grow with the audience.
    """
    are_first = audience.newcomers and set_times(connection, campaign, start_at)
    common = (
        sa.bindparam("revision", campaign["revision"], sa.SmallInteger),
        sa.bindparam("workflow_id", campaign["workflow_id"], sa.UUID),
        sa.bindparam("start_at", start_at, sa.TIMESTAMP(timezone=True)),
        sa.bindparam("status", status, sa.Text),
    )
    has_lanes = waits_in_lanes(connection, campaign)
    of_steps, turns = splits(connection, campaign)
    if has_lanes or turns:
        places = connection.execute(audience.places(bucket, buckets)).all() if has_lanes else []
        parameters = lanes_of_places(connection, campaign, places, start_at)
        own: tuple[sa.BindParameter[Any], ...] = (sa.bindparam("leads_before", type_=sa.BigInteger),)
        if turns:
            own += sa.bindparam("splits", of_steps), sa.bindparam("turns", turns, sa.ARRAY(sa.SmallInteger))
        rows = _rows_in_turns(in_lanes=has_lanes, has_variants=bool(turns), has_times="times" in parameters)
        statement = audience.judged(rows + _LEFT_OUT, bucket, buckets, *common, *own)
    else:
        statement, parameters = audience.judged(_ROWS + _LEFT_OUT, bucket, buckets, *common), {}
    # The leads and rows of a bucket are sorted in memory, and the triggers read them there.
    connection.execute(sa.text("SET LOCAL work_mem = '64MB'"))
    leads, emails, left_out = 0, 0, Counter[str]()
    for reason, count, steps in connection.execute(statement, parameters):
        if reason is None:
            leads, emails = count, count * steps
        else:
            left_out[reason] = count
    if are_first and not leads:
        forget_times(connection, campaign)
    return ScheduledLeads(leads, emails, left_out)


def schedule_emails_for_campaign(connection: sa.Connection, campaign_id: uuid.UUID) -> ScheduledLeads:
    """Write every future email of a campaign, counted from now: one row per lead, or per lead and step.

    The content of each step is copied as it is now. A campaign with more than `ROWS_PER_BUCKET` rows gets no rows yet,
    but `background_work` that writes them.

    Raises:
        NotFound: there is no such campaign.
        InvalidInput: there is nothing to send, or a template is not valid.
        NobodyToEmail: every lead is left out.
        Conflict: its emails are scheduled already.
    """
    campaign = get_campaign(connection, campaign_id, lock=True)
    steps = snapshot_steps(connection, campaign)
    start_at = connection.execute(sa.select(sa.func.now())).scalar_one()
    set_times(connection, campaign, start_at)
    audience = audience_of(connection, campaign, lock=True)
    size = audience_size(connection, audience)
    buckets = max(1, -(-size * steps // ROWS_PER_BUCKET))
    if buckets == 1:
        scheduled = _schedule_once(connection, campaign, audience, start_at)
        reachable, left_out = scheduled.leads, scheduled.left_out
    else:
        reachable, left_out = leads_left_out(connection, audience)
        scheduled = ScheduledLeads(0, 0, Counter(), [{"kind": "schedule", "bucket": 0, "buckets": buckets}])
    if not reachable and not takes_in(connection, campaign_id):
        message = "Nobody is left to email: every lead of this campaign is left out."
        if not left_out:
            message = "This campaign has no leads. Give it lead batches, segments or leads."
        raise NobodyToEmail(message, leads_left_out=dict(left_out))
    if not reachable:
        forget_times(connection, campaign)
    return scheduled


def counters(campaign: sa.RowMapping | dict[str, Any], scheduled: ScheduledLeads) -> dict[str, Any]:
    """The columns of a locked campaign that change with leads that were scheduled after its start."""
    left_out = Counter(campaign["leads_left_out"]) + scheduled.left_out
    return {
        "leads_left_out": dict(left_out),
        "total_leads_targeted": campaigns.c.total_leads_targeted + scheduled.leads,
        "emails_scheduled_count": campaigns.c.emails_scheduled_count + scheduled.emails,
    }


def _schedule_once(
    connection: sa.Connection, campaign: sa.RowMapping, audience: Audience, start_at: dt.datetime
) -> ScheduledLeads:
    try:
        with connection.begin_nested():
            return schedule_leads(connection, campaign, audience, start_at)
    except sa.exc.DBAPIError as error:
        if database.constraint(error) == _SCHEDULED_ALREADY:
            raise Conflict(f"The emails of campaign {campaign['id']} are scheduled already.") from error
        raise


def schedule_email_for_lead(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    lead_id: uuid.UUID,
    template: uuid.UUID,
    delay: dt.timedelta,
    step_number: int = 1,
    actor: str = SYSTEM,
) -> int:
    """Write one row: this template to this lead, `delay` from now, as this step of the campaign. Returns the row's id.

    As for every email, the fence checks whether the lead may get it.

    Raises:
        NotFound: there is no such campaign.
        InvalidInput: there is no such template or lead, or the template is not valid.
        Conflict: the lead has this step already, the step sends another template, another lead with the same address is
            in the campaign, or the campaign is not running.
    """
    # The lock prevents that the campaign completes without this row.
    campaign = get_campaign(connection, campaign_id, lock=True)
    status = campaign["status"]
    if status != CampaignStatus.RUNNING:
        # A start writes all emails of a campaign and would conflict with one that was written before.
        message = f"Campaign {campaign_id} is {status}; an email can be added to a running one only."
        raise Conflict(message, status=status)
    planned = sa.select(scheduled_emails.c.revision).where(
        scheduled_emails.c.campaign_id == campaign_id,
        scheduled_emails.c.lead_id == lead_id,
        scheduled_emails.c.workflow_step_number <= LAST_STEP,
    )
    has = connection.scalar(planned.limit(1))
    revision = campaign["revision"] if has is None else has
    if campaign["evergreen"] and step_number > count_steps(connection, campaign_id, revision):
        # All leads that come in later would get it too.
        raise Conflict("An evergreen campaign has the steps of its workflow.", status=status)
    variant = _add_step(connection, campaign_id, revision, step_number, template, delay)
    _refuse_second_lead_with_its_address(connection, campaign_id, lead_id)
    row = {
        "campaign_id": campaign_id,
        "revision": revision,
        "lead_id": lead_id,
        "template_id": template,
        "workflow_step_number": step_number,
        "scheduled_for": sa.func.now() + delay,
        "lane": lane_of_lead(connection, campaign, lead_id, step_number),
        "lead_company": company_of_lead(connection, campaign, lead_id) if step_number == 1 else None,
        "variant": variant,
    }
    try:
        with connection.begin_nested():
            inserted = sa.insert(scheduled_emails).values(row).returning(scheduled_emails.c.id)
            row_id = int(connection.execute(inserted).scalar_one())
    except sa.exc.DBAPIError as error:
        if database.constraint(error) == _SCHEDULED_ALREADY:
            raise Conflict(f"Lead {lead_id} has step {step_number} of campaign {campaign_id} already.") from error
        raise
    _count_added(connection, campaign_id, lead_id, is_new=has is None)
    audit_log.record(connection, actor, AuditAction.SCHEDULED_EMAIL_CREATE, "scheduled_email", row_id)
    return row_id


def _count_added(connection: sa.Connection, campaign_id: uuid.UUID, lead_id: uuid.UUID, *, is_new: bool) -> None:
    """Count one more email, and a lead that is new in the campaign. It is no longer left out."""
    left_out = left_out_leads.c
    connection.execute(
        sa.delete(left_out_leads).where(left_out.lead_id == lead_id, left_out.campaign_id == campaign_id)
    )
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(
            emails_scheduled_count=campaigns.c.emails_scheduled_count + 1,
            total_leads_targeted=campaigns.c.total_leads_targeted + int(is_new),
        )
    )


def _add_step(
    connection: sa.Connection,
    campaign_id: uuid.UUID,
    revision: int,
    step_number: int,
    template: uuid.UUID,
    delay: dt.timedelta,
) -> int | None:
    """Make the template the content of a step that the campaign does not have yet. Returns which variant it is."""
    content = connection.execute(sa.select(email_templates).where(email_templates.c.id == template)).mappings().first()
    if content is None:
        raise _unknown("email_template_id", "email template", template)
    step = step_values(step_number, delay, content)
    compile_template(step["subject"], step["body_text"], step["body_html"])
    write_steps(connection, campaign_id, revision, with_attachments(connection, [step]))
    if (variant := variant_of_template(connection, campaign_id, revision, step_number, template)) is not None:
        return variant
    kept = campaign_steps.c
    of_step = sa.and_(kept.campaign_id == campaign_id, kept.revision == revision, kept.step_number == step_number)
    used = connection.scalar(sa.select(kept.email_template_id).where(of_step))
    if used != template:
        raise Conflict(f"Step {step_number} of campaign {campaign_id} sends template {used}.")
    return None


def _refuse_second_lead_with_its_address(connection: sa.Connection, campaign_id: uuid.UUID, lead_id: uuid.UUID) -> None:
    # Locked, so that it is not deleted meanwhile.
    held = sa.select(leads.c.email).where(leads.c.id == lead_id).with_for_update(read=True, key_share=True)
    lead = connection.execute(held).one_or_none()
    if lead is None:
        raise _unknown("lead_id", "lead", lead_id)
    other = sa.select(leads.c.id).where(
        sa.func.lower(leads.c.email) == (lead.email or "").lower(),
        leads.c.id != lead_id,
        sa.exists().where(scheduled_emails.c.lead_id == leads.c.id, scheduled_emails.c.campaign_id == campaign_id),
    )
    if lead.email and (twin := connection.scalar(other.limit(1))) is not None:
        raise Conflict(f"Lead {twin} has the same address and is in campaign {campaign_id}.", lead_id=str(twin))


def _unknown(field: str, kind: str, id_: uuid.UUID) -> InvalidInput:
    return InvalidInput("The email is not valid.", [FieldError(field, f"there is no {kind} with the id {id_}")])
