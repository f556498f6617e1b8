"""Scheduling: the campaign's audience and steps in, rows of the ledger out, set by set.

Reads `leads`, `campaign_leads`, `suppressions` and the campaign's template or workflow; writes `campaign_steps` (the
content as it is now), `campaign_lanes`, `scheduled_emails` and, for each lead that gets nothing, `left_out_leads`. The
caller owns the transaction and has locked the campaign.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.assign_lanes import has_policy, lane_of_lead, lanes_of_places
from sendledger.campaigns.campaign_steps import snapshot_steps, step_values, write_steps
from sendledger.campaigns.campaigns import get_campaign
from sendledger.content.render_email import compile_template
from sendledger.core import audit_log, database
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NobodyToEmail
from sendledger.core.ledger_rules import address_of, no_mail_for_lead
from sendledger.core.tables import (
    campaign_steps,
    campaigns,
    email_templates,
    leads,
    left_out_leads,
    scheduled_emails,
)
from sendledger.core.vocabulary import AuditAction, CampaignStatus

ROWS_PER_BUCKET = 150_000
"""Rows that one transaction writes, at most. The sender writes those of a larger campaign bucket by bucket."""


@dataclass(frozen=True)
class ScheduledLeads:
    """What one scheduling pass did: leads scheduled, rows written, leads left out by reason, and the work left."""

    leads: int
    emails: int
    left_out: Counter[str] = field(default_factory=Counter)
    background_work: list[dict[str, Any]] = field(default_factory=list)


AUDIENCE = f"""
    SELECT l.id, l.status, {address_of("l")} AS address, l.time_zone, l.country
    FROM leads l
    WHERE (l.batch_id = ANY(:batch_ids)
           OR l.id IN (SELECT cl.lead_id FROM campaign_leads cl WHERE cl.campaign_id = :campaign_id))
"""
"""The leads of a campaign's batches and list, with `audience_parameters`; a further condition on `l` may follow."""
REASON_LEFT_OUT = f"CASE {no_mail_for_lead('a', 'a.address', ':campaign_id')} END"
"""Of a row `a` with `status` and `address`, and a parameter `campaign_id`; NULL for a lead that gets mail."""

_JUDGED = f"""
WITH audience AS MATERIALIZED ({AUDIENCE}
      AND (:buckets = 1
           OR (mod(abs(hashtext(coalesce({address_of("l")}, l.id::text))::bigint), :buckets) = :bucket
               -- If an address is edited between two buckets, its lead moves from one into the other.
               AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.lead_id = l.id AND e.campaign_id = :campaign_id)
               AND NOT EXISTS (SELECT FROM left_out_leads o WHERE o.lead_id = l.id AND o.campaign_id = :campaign_id)))
), judged AS (
    SELECT a.id, a.address, a.time_zone, a.country, {REASON_LEFT_OUT} AS reason
    FROM audience a
), ranked AS (
    SELECT id, time_zone, country,
           coalesce(reason, CASE WHEN row_number() OVER (PARTITION BY address, reason ORDER BY id) > 1
                            THEN 'duplicate_address' END) AS reason
    FROM judged
)
"""
_SCHEDULE = sa.text(
    _JUDGED
    + """
, steps AS (
    SELECT step_number, email_template_id, sum(delay) OVER (ORDER BY step_number) AS delay
    FROM campaign_steps WHERE campaign_id = :campaign_id
), placed AS (
    SELECT r.id, coalesce(p.zone, '') AS zone,
           mod(:leads_before + row_number() OVER () - 1, :senders) AS position
    FROM ranked r
    LEFT JOIN json_to_recordset(CAST(:places AS json)) AS p (time_zone text, country text, zone text)
           ON coalesce(p.time_zone, '') = coalesce(r.time_zone, '')
          AND coalesce(p.country, '') = coalesce(r.country, '')
    WHERE r.reason IS NULL
), written AS (
    INSERT INTO scheduled_emails
        (campaign_id, lead_id, template_id, workflow_id, workflow_step_number, scheduled_for, lane)
    SELECT :campaign_id, r.id, s.email_template_id, :workflow_id, s.step_number, :start_at + s.delay,
           coalesce(w.lane, 0)
    FROM placed r CROSS JOIN steps s
    LEFT JOIN json_to_recordset(CAST(:lanes AS json))
           AS w (zone text, position bigint, follow_up boolean, lane smallint)
           ON w.zone = r.zone AND w.position = r.position AND w.follow_up = (s.step_number > 1)
), left_out AS (
    INSERT INTO left_out_leads (campaign_id, lead_id, reason)
    SELECT :campaign_id, r.id, r.reason FROM ranked r WHERE r.reason IS NOT NULL ORDER BY r.reason
    ON CONFLICT (lead_id, campaign_id) DO NOTHING
)
SELECT reason, count(*), (SELECT count(*) FROM steps) FROM ranked GROUP BY reason
"""
)
# Without NULL, as they are compared above: two places that are equal there would give a lead two rows.
_PLACES = sa.text(
    _JUDGED
    + """
SELECT DISTINCT coalesce(time_zone, '') AS time_zone, coalesce(country, '') AS country
FROM ranked WHERE reason IS NULL
"""
)
_AUDIENCE_SIZE = sa.text(f"SELECT count(*) FROM ({AUDIENCE}) a")
_LEFT_OUT = sa.text(_JUDGED + "SELECT reason, count(*) FROM ranked GROUP BY reason")
_ELSEWHERE = sa.text(
    _JUDGED
    + """
SELECT l.id, count(*) OVER () AS total
FROM ranked r JOIN leads l ON l.id = r.id CROSS JOIN LATERAL (SELECT lower(btrim(l.email))) a (address)
WHERE r.reason IS NULL AND a.address <> ALL(:names) AND split_part(a.address, '@', 2) <> ALL(:names)
ORDER BY l.id LIMIT :examples
"""
)
_REACHABLE = sa.text(
    "DECLARE reachable_leads NO SCROLL CURSOR FOR"
    + _JUDGED
    + "SELECT l.* FROM ranked r JOIN leads l ON l.id = r.id WHERE r.reason IS NULL"
)
_UUIDS = sa.ARRAY(sa.UUID)
_SCHEDULED_ALREADY = "scheduled_emails_lead_id_campaign_id_workflow_step_number_key"
"""The unique constraint of the ledger."""


def audience_parameters(campaign: sa.RowMapping, bucket: int, buckets: int) -> dict[str, Any]:
    """The parameters of the statements about an audience, those about a bucket of it included."""
    batch_ids = list(campaign["batch_ids"])
    return {"campaign_id": campaign["id"], "batch_ids": batch_ids, "bucket": bucket, "buckets": buckets}


def _typed(statement: sa.TextClause) -> sa.TextClause:
    return statement.bindparams(sa.bindparam("batch_ids", type_=_UUIDS), sa.bindparam("campaign_id", type_=sa.UUID))


def audience_size(connection: sa.Connection, campaign: sa.RowMapping) -> int:
    """How many leads the campaign's batches and list have, before any is left out."""
    parameters = audience_parameters(campaign, 0, 1)
    return int(
        connection.scalar(_typed(_AUDIENCE_SIZE), {name: parameters[name] for name in ("campaign_id", "batch_ids")})
        or 0
    )


def leads_left_out(connection: sa.Connection, campaign: sa.RowMapping) -> tuple[int, Counter[str]]:
    """How many leads would get mail, and how many would not, by reason; writes nothing."""
    rows = connection.execute(_typed(_LEFT_OUT), audience_parameters(campaign, 0, 1))
    counts: dict[str | None, int] = {reason: count for reason, count in rows}  # noqa: C416 (typed)
    taken = counts.pop(None, 0)
    return taken, Counter({reason: count for reason, count in counts.items() if reason is not None})


def leads_elsewhere(
    connection: sa.Connection, campaign: sa.RowMapping, names: Sequence[str], examples: int
) -> tuple[int, list[uuid.UUID]]:
    """How many leads with addresses and domains that are not among `names` would get mail, and some of these leads.

    The names are in lower case.
    """
    statement = _typed(_ELSEWHERE).bindparams(sa.bindparam("names", type_=sa.ARRAY(sa.Text)))
    parameters = audience_parameters(campaign, 0, 1) | {"names": list(names), "examples": examples}
    rows = connection.execute(statement, parameters).all()
    return rows[0].total if rows else 0, [row.id for row in rows]


def reachable_leads(
    connection: sa.Connection, campaign: sa.RowMapping, chunk: int
) -> Iterator[Sequence[sa.RowMapping]]:
    """The leads that would get mail after a start, in chunks. A cursor keeps memory constant.

    Used once in a transaction, which closes the cursor when it ends.
    """
    connection.execute(_typed(_REACHABLE), audience_parameters(campaign, 0, 1))
    fetch = sa.text(f"FETCH {chunk:d} FROM reachable_leads")
    while rows := connection.execute(fetch).mappings().all():
        yield rows


def schedule_leads(
    connection: sa.Connection, campaign: sa.RowMapping, start_at: dt.datetime, bucket: int = 0, buckets: int = 1
) -> ScheduledLeads:
    """Write the rows of one bucket of the audience in one statement. A single bucket is the whole audience.

    The leads that are left out are written too, each with the reason.

    Leads get their bucket by a hash of the address. So two leads with one address are in the same bucket, and the
    second is left out. Memory does not grow with the audience.
    """
    parameters = audience_parameters(campaign, bucket, buckets)
    places: Sequence[sa.Row[Any]] = []
    if has_policy(campaign):
        places = connection.execute(_typed(_PLACES), parameters).all()
    parameters |= {"workflow_id": campaign["workflow_id"], "start_at": start_at}
    parameters |= lanes_of_places(connection, campaign, places)
    statement = _typed(_SCHEDULE).bindparams(
        sa.bindparam("workflow_id", type_=sa.UUID),
        sa.bindparam("start_at", type_=sa.TIMESTAMP(timezone=True)),
        sa.bindparam("leads_before", type_=sa.BigInteger),
        sa.bindparam("senders", type_=sa.BigInteger),
    )
    leads, emails, left_out = 0, 0, Counter[str]()
    for reason, count, steps in connection.execute(statement, parameters):
        if reason is None:
            leads, emails = count, count * steps
        else:
            left_out[reason] = count
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
    buckets = max(1, -(-audience_size(connection, campaign) * steps // ROWS_PER_BUCKET))
    if buckets == 1:
        scheduled = _schedule_once(connection, campaign)
        reachable, left_out = scheduled.leads, scheduled.left_out
    else:
        reachable, left_out = leads_left_out(connection, campaign)
        scheduled = ScheduledLeads(0, 0, Counter(), [{"kind": "schedule", "bucket": 0, "buckets": buckets}])
    if not reachable:
        message = "Nobody is left to email: every lead of this campaign is left out."
        if not left_out:
            message = "This campaign has no leads. Give it lead batches or leads."
        raise NobodyToEmail(message, leads_left_out=dict(left_out))
    return scheduled


def _schedule_once(connection: sa.Connection, campaign: sa.RowMapping) -> ScheduledLeads:
    start_at = connection.execute(sa.select(sa.func.now())).scalar_one()
    try:
        with connection.begin_nested():
            return schedule_leads(connection, campaign, start_at)
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
    _add_step(connection, campaign_id, step_number, template, delay)
    _refuse_second_lead_with_its_address(connection, campaign_id, lead_id)
    planned = sa.select(scheduled_emails.c.id).where(
        scheduled_emails.c.campaign_id == campaign_id, scheduled_emails.c.lead_id == lead_id
    )
    is_new = connection.execute(planned.limit(1)).first() is None
    row = {
        "campaign_id": campaign_id,
        "lead_id": lead_id,
        "template_id": template,
        "workflow_step_number": step_number,
        "scheduled_for": sa.func.now() + delay,
        "lane": lane_of_lead(connection, campaign, lead_id, step_number),
    }
    try:
        with connection.begin_nested():
            inserted = sa.insert(scheduled_emails).values(row).returning(scheduled_emails.c.id)
            row_id = int(connection.execute(inserted).scalar_one())
    except sa.exc.DBAPIError as error:
        if database.constraint(error) == _SCHEDULED_ALREADY:
            raise Conflict(f"Lead {lead_id} has step {step_number} of campaign {campaign_id} already.") from error
        raise
    _count_added(connection, campaign_id, lead_id, is_new=is_new)
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
    connection: sa.Connection, campaign_id: uuid.UUID, step_number: int, template: uuid.UUID, delay: dt.timedelta
) -> None:
    """Make the template the content of a step that the campaign does not have yet."""
    content = connection.execute(sa.select(email_templates).where(email_templates.c.id == template)).mappings().first()
    if content is None:
        raise _unknown("email_template_id", "email template", template)
    step = step_values(step_number, delay, content)
    compile_template(step["subject"], step["body_text"], step["body_html"])
    write_steps(connection, campaign_id, [step])
    kept = campaign_steps.c
    used = connection.scalar(
        sa.select(kept.email_template_id).where(kept.campaign_id == campaign_id, kept.step_number == step_number)
    )
    if used != template:
        raise Conflict(f"Step {step_number} of campaign {campaign_id} sends template {used}.")


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
