"""The ledger of an old campaign: what each lead has got, from `emails`, what is missing, and when it is due.

A campaign and its steps go in. Rows of `scheduled_emails` are written by one statement, or only counted. Reads `leads`,
`campaign_leads`, `emails`, `suppressions`; writes `scheduled_emails`, `left_out_leads`, `campaign_steps` and
`emails.scheduled_email_id`.

Which step an email belongs to: ``follow_up_2`` names it. Emails with ``initial`` or no stage, which the old application
wrote on later steps too, get a lead's free steps in the order in which they were sent. Two emails of one lead with the
same subject and stage are one step that was sent twice. Steps before the last one that a lead got are never sent later.

After the old application's campaign overhaul, its own ledger is used too. A row that it has as sent is never sent
again, with or without its email. A row that failed there, or has an unknown status, may have been sent, and is not sent
again automatically. The leads of that ledger are the campaign's audience.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from sendledger.adoption.overhaul import LEDGER
from sendledger.adoption.report import Ledger
from sendledger.adoption.templates import AdoptedStep
from sendledger.campaigns.audience import REASON_LEFT_OUT
from sendledger.core.tables import campaign_steps
from sendledger.core.vocabulary import CampaignStatus, ErrorCode, Reason

DEFAULT_LEADS_PER_DAY = 50
"""The default of campaigns.leads_per_day, for campaigns that have none."""

WAS_SENT = """(e.status IN ('sent', 'delivered', 'opened', 'clicked', 'bounced', 'spam')
               OR (e.sent_at IS NOT NULL AND e.status IS DISTINCT FROM 'failed'))"""
"""Of a row `e` of emails. An email that was queued or failed was not sent."""

WAS_REFUSED = "(e.status IN ('bounced', 'spam') OR e.bounced_at IS NOT NULL)"
"""Of a row `e` of emails: it bounced or was reported as spam."""

_NO_OLD_LEDGER = """
    SELECT NULL::uuid AS id, NULL::uuid AS lead_id, NULL::uuid AS email_id, 0 AS old_number, '' AS status,
           now() AS at, now() AS due WHERE false
"""
# A pause cancelled pending rows. Rows that failed or have an unknown status may have been sent.
_OLD_LEDGER = f"""
    SELECT id, lead_id, email_id, coalesce(workflow_step_number, 1) AS old_number, CASE
           WHEN status = 'sent' OR sent_at IS NOT NULL THEN 'sent'
           WHEN status IN ('skipped', 'cancelled') AND NOT (status = 'cancelled' AND :was_paused) THEN status
           WHEN status IN ('pending', 'cancelled') AND email_id IS NULL THEN 'pending'
           ELSE 'failed' END AS status,
           greatest(least(coalesce(sent_at, updated_at) AT TIME ZONE 'UTC', now()), '1970-01-01Z') AS at,
           greatest(least(scheduled_for AT TIME ZONE 'UTC', now()), '1970-01-01Z') AS due
    FROM {LEDGER} WHERE campaign_id = :campaign_id
"""

# Old timestamps are UTC without a time zone.
_PLANNED = f"""
), steps AS MATERIALIZED (
    SELECT number, old_number, template_id, delay, sum(delay) OVER (ORDER BY number) AS total
    FROM unnest(CAST(:numbers AS integer[]), CAST(:old_numbers AS integer[]), :templates, :delays)
         AS s (number, old_number, template_id, delay)
), old_ledger AS MATERIALIZED (
    -- One line for each lead and step. Of several, the one that lets the fewest emails go out. Steps with
    -- the same number take the lead's lines in that order.
    SELECT DISTINCT ON (o.lead_id, s.number) o.lead_id, s.number, o.email_id, o.status, o.at, o.due
    FROM (SELECT *, row_number() OVER (PARTITION BY lead_id, old_number ORDER BY
                 array_position(ARRAY['sent', 'failed', 'skipped', 'cancelled', 'pending'], status), due, id) AS place
          FROM old_rows) o
    JOIN (SELECT number, old_number, row_number() OVER (PARTITION BY old_number ORDER BY number) AS place,
                 count(*) OVER (PARTITION BY old_number) AS places FROM steps) s
      ON s.old_number = o.old_number AND s.place = least(o.place, s.places)
    ORDER BY o.lead_id, s.number, o.place
), mails AS MATERIALIZED (
    SELECT e.id, e.lead_id, e.subject, e.external_id,
           -- An impossible time becomes one that can be calculated with.
           greatest(least(coalesce(e.sent_at, e.delivered_at, e.opened_at, e.clicked_at, e.bounced_at, e.created_at)
                          AT TIME ZONE 'UTC', now()), '1970-01-01Z') AS at,
           coalesce(o.number, CASE WHEN e.follow_up_stage ~ '^follow_up_[0-9]{{1,3}}$'
                                   THEN substr(e.follow_up_stage, 11)::integer + 1 END) AS stage
    FROM emails e
    LEFT JOIN (SELECT email_id, lead_id, min(number) AS number FROM old_ledger GROUP BY email_id, lead_id) o
           ON o.email_id = e.id AND o.lead_id = e.lead_id
    WHERE e.campaign_id = :campaign_id AND {WAS_SENT}
), staged AS (
    SELECT DISTINCT ON (lead_id, stage) * FROM mails WHERE stage IS NOT NULL ORDER BY lead_id, stage, at DESC, id
), unstaged AS (
    SELECT *, row_number() OVER (PARTITION BY lead_id ORDER BY at, id) AS place
    FROM (SELECT DISTINCT ON (lead_id, subject) * FROM mails WHERE stage IS NULL
          ORDER BY lead_id, subject, at DESC, id) once
), free AS (
    SELECT l.lead_id, s.number, row_number() OVER (
               PARTITION BY l.lead_id ORDER BY o.status IS NOT DISTINCT FROM 'sent' DESC, s.number) AS place
    FROM (SELECT DISTINCT lead_id FROM unstaged) l CROSS JOIN steps s
    LEFT JOIN old_ledger o ON o.lead_id = l.lead_id AND o.number = s.number
    WHERE NOT EXISTS (SELECT FROM staged g WHERE g.lead_id = l.lead_id AND g.stage = s.number)
), with_email AS MATERIALIZED (
    SELECT lead_id, stage AS number, id AS email_id, external_id, at FROM staged
    UNION ALL
    SELECT u.lead_id, f.number, u.id, u.external_id, u.at
    FROM unstaged u JOIN free f ON f.lead_id = u.lead_id AND f.place = u.place
), had AS MATERIALIZED (
    SELECT * FROM with_email
    UNION ALL
    SELECT o.lead_id, o.number, NULL, NULL, o.at FROM old_ledger o
    WHERE o.status = 'sent'
      AND NOT EXISTS (SELECT FROM with_email w WHERE w.lead_id = o.lead_id AND w.number = o.number)
), closed AS MATERIALIZED (
    SELECT o.lead_id, o.number, o.status, o.due FROM old_ledger o
    WHERE o.status IN ('failed', 'skipped', 'cancelled')
      AND NOT EXISTS (SELECT FROM had h WHERE h.lead_id = o.lead_id AND h.number = o.number)
), progress AS (
    SELECT m.lead_id, m.last_at, coalesce(h.reached, 0) AS reached
    FROM (SELECT lead_id, max(at) AS last_at
          FROM (SELECT lead_id, at FROM mails UNION ALL SELECT lead_id, at FROM had) a GROUP BY lead_id) m
    LEFT JOIN (SELECT lead_id, max(number) AS reached FROM had GROUP BY lead_id) h ON h.lead_id = m.lead_id
), members AS (
    SELECT id FROM leads WHERE batch_id = ANY(:batch_ids) AND NOT EXISTS (SELECT FROM old_rows)
    UNION SELECT lead_id FROM campaign_leads WHERE campaign_id = :campaign_id AND NOT EXISTS (SELECT FROM old_rows)
    UNION SELECT lead_id FROM old_rows
    UNION SELECT lead_id FROM progress
), audience AS MATERIALIZED (
    SELECT l.id, l.status, lower(btrim(l.email)) AS address, p.last_at, coalesce(p.reached, 0) AS reached
    FROM members m JOIN leads l ON l.id = m.id LEFT JOIN progress p ON p.lead_id = l.id
), judged AS (
    SELECT a.*, {REASON_LEFT_OUT} AS reason FROM audience a
), ranked AS MATERIALIZED (
    -- Of two leads with one address, the one that has got more emails stays.
    SELECT id, last_at, reached, coalesce(reason, CASE
        WHEN row_number() OVER (PARTITION BY address, reason ORDER BY reached DESC, id) > 1 THEN 'duplicate_address'
        END) AS reason
    FROM judged
), open_steps AS MATERIALIZED (
    SELECT r.id, r.reached, r.last_at, s.number, s.total, s.delay
    FROM ranked r JOIN steps s ON s.number > r.reached
    WHERE r.reason IS NULL AND NOT EXISTS (SELECT FROM closed c WHERE c.lead_id = r.id AND c.number = s.number)
), wanted AS (
    SELECT DISTINCT ON (id) id, reached, total AS next_total,
           coalesce(last_at, CAST(:start_date AS timestamptz)) + delay AS wanted_at
    FROM open_steps ORDER BY id, number
), next AS (
    -- Overdue emails go out at the campaign's daily pace, not in a burst; the longest overdue are first.
    SELECT id, reached, next_total, CASE
        WHEN wanted_at > now() THEN wanted_at
        ELSE now() + (row_number() OVER (PARTITION BY coalesce(wanted_at > now(), false)
                                         ORDER BY reached = 0, wanted_at, id) - 1)
                     / CAST(:leads_per_day AS integer) * interval '1 day'
        END AS next_at
    FROM wanted
), planned AS MATERIALIZED (
    SELECT h.lead_id, h.number, 'sent' AS status, NULL AS reason, h.at AS scheduled_for, h.at AS sent_at,
           h.email_id, h.external_id
    FROM had h JOIN steps s ON s.number = h.number
    UNION ALL
    SELECT r.id, s.number, 'skipped', '{Reason.LATER_STEP_SENT}', r.last_at, NULL, NULL, NULL
    FROM ranked r JOIN steps s ON s.number < r.reached
    WHERE NOT EXISTS (SELECT FROM had h WHERE h.lead_id = r.id AND h.number = s.number)
      AND NOT EXISTS (SELECT FROM closed c WHERE c.lead_id = r.id AND c.number = s.number)
    UNION ALL
    SELECT r.id, s.number, 'skipped', r.reason, r.last_at + s.delay, NULL, NULL, NULL
    FROM ranked r JOIN steps s ON s.number > r.reached
    WHERE r.reason IS NOT NULL AND r.reached > 0
      AND NOT EXISTS (SELECT FROM closed c WHERE c.lead_id = r.id AND c.number = s.number)
    UNION ALL
    SELECT c.lead_id, c.number, c.status, CASE WHEN c.status <> 'failed' THEN '{Reason.SKIPPED_BEFORE}' END, c.due,
           NULL, NULL, NULL
    FROM closed c JOIN ranked r ON r.id = c.lead_id
    WHERE r.reason IS NULL OR r.reached > 0
    UNION ALL
    SELECT n.id, s.number, 'pending', NULL, n.next_at + (s.total - n.next_total), NULL, NULL, NULL
    FROM next n JOIN open_steps s ON s.id = n.id
)
"""
_COUNTS = """
SELECT 'rows' AS what, CASE WHEN :paused AND status = 'pending' THEN 'cancelled' ELSE status END AS name, count(*)
FROM planned GROUP BY name
UNION ALL SELECT 'left_out', reason, count(*) FROM ranked WHERE reason IS NOT NULL AND reached = 0 GROUP BY reason
UNION ALL SELECT 'leads', 'leads', count(*) FROM ranked WHERE reason IS NULL OR reached > 0
UNION ALL SELECT 'leads', 'waiting', count(*) FROM next
UNION ALL SELECT 'leads', 'reached', coalesce(max(reached), 0) FROM ranked
UNION ALL SELECT 'mails', 'without_step', count(*) FROM mails m
          WHERE NOT EXISTS (SELECT FROM planned p WHERE p.email_id = m.id)
UNION ALL SELECT 'mails', 'without_email', count(*) FROM planned WHERE status = 'sent' AND email_id IS NULL
UNION ALL SELECT 'mails', 'queued', count(*) FROM emails e WHERE e.campaign_id = :campaign_id AND e.status = 'queued'
          AND e.sent_at IS NULL
"""
_WRITE = f"""
, written AS (
    INSERT INTO scheduled_emails (campaign_id, lead_id, template_id, workflow_id, workflow_step_number, scheduled_for,
                                  status, reason, sent_at, ses_message_id, email_id, error_code, failed_at,
                                  failure_reason, claim_token)
    SELECT :campaign_id, p.lead_id, s.template_id, :workflow_id, p.number, p.scheduled_for,
           CASE WHEN :paused AND p.status = 'pending' THEN 'cancelled' ELSE p.status END,
           CASE WHEN :paused AND p.status = 'pending' THEN 'paused' ELSE p.reason END,
           p.sent_at, p.external_id, p.email_id,
           CASE WHEN p.status = 'failed' THEN '{ErrorCode.OUTCOME_UNKNOWN}' END,
           CASE WHEN p.status = 'failed' THEN p.scheduled_for END,
           CASE WHEN p.status = 'failed' THEN 'The application before this one does not know whether it was sent.' END,
           -- With a token an operator can record that it was sent.
           CASE WHEN p.status = 'failed' THEN gen_random_uuid() END
    FROM planned p JOIN steps s ON s.number = p.number
    RETURNING id, email_id
), linked AS (
    UPDATE emails e SET scheduled_email_id = w.id FROM written w WHERE e.id = w.email_id
), left_out AS (
    INSERT INTO left_out_leads (campaign_id, lead_id, reason)
    SELECT :campaign_id, r.id, r.reason FROM ranked r WHERE r.reason IS NOT NULL AND r.reached = 0
    ON CONFLICT (lead_id, campaign_id) DO NOTHING
)
"""
_TYPES: dict[str, Any] = {
    "campaign_id": sa.UUID,
    "workflow_id": sa.UUID,
    "templates": sa.ARRAY(sa.UUID),
    "delays": sa.ARRAY(sa.Interval),
    "batch_ids": sa.ARRAY(sa.UUID),
    "paused": sa.Boolean,
    "was_paused": sa.Boolean,
    "start_date": sa.TIMESTAMP(timezone=True),
}


def is_in_old_ledger(connection: sa.Connection, campaign_id: uuid.UUID) -> bool:
    """Whether the old application's own ledger has rows of this campaign; only for a database after the overhaul."""
    rows = sa.text(f"SELECT EXISTS (SELECT FROM {LEDGER} WHERE campaign_id = :id)")
    return bool(connection.scalar(rows.bindparams(sa.bindparam("id", type_=sa.UUID)), {"id": campaign_id}))


def count(
    connection: sa.Connection, campaign: sa.RowMapping, steps: Sequence[AdoptedStep], *, overhauled: bool
) -> Ledger:
    """What `write` would write."""
    return _run(connection, _COUNTS, campaign, steps, overhauled=overhauled, paused=False)


def write(
    connection: sa.Connection,
    campaign: sa.RowMapping,
    steps: Sequence[AdoptedStep],
    workflow_id: uuid.UUID | None,
    *,
    paused: bool,
    overhauled: bool,
) -> Ledger:
    """Write the campaign's steps and rows. With `paused`, a resume makes the missing ones pending.

    `overhauled`: the old application has its own ledger, which the first migration moved aside.

    The caller has locked the campaign and checked that it has no steps yet.
    """
    connection.execute(
        sa.insert(campaign_steps),
        [
            {
                "campaign_id": campaign["id"],
                "step_number": step.step_number,
                "email_template_id": step.email_template_id,
                "delay": step.delay,
                "subject": step.subject,
                "body_text": step.body_text,
                "body_html": step.body_html,
            }
            for step in steps
        ],
    )
    values = {"workflow_id": workflow_id, "paused": paused}
    return _run(connection, _WRITE + _COUNTS, campaign, steps, overhauled=overhauled, **values)


def _run(
    connection: sa.Connection,
    then: str,
    campaign: sa.RowMapping,
    steps: Sequence[AdoptedStep],
    *,
    overhauled: bool,
    **values: object,
) -> Ledger:
    sql = f"WITH old_rows AS MATERIALIZED ({_OLD_LEDGER if overhauled else _NO_OLD_LEDGER}{_PLANNED}{then}"
    # The planner cannot know the sizes of the parts. Nested loops over them would take quadratic time.
    connection.execute(sa.text("SET LOCAL enable_nestloop = off"))
    if overhauled:
        values["was_paused"] = campaign["status"] == CampaignStatus.PAUSED
    per_day = campaign["leads_per_day"]
    parameters = {
        "campaign_id": campaign["id"],
        "batch_ids": sorted({*campaign["batch_ids"], *filter(None, [campaign["batch_id"]])}),
        "start_date": campaign["start_date"],
        "leads_per_day": per_day if per_day is not None and per_day > 0 else DEFAULT_LEADS_PER_DAY,
        "numbers": [step.step_number for step in steps],
        "old_numbers": [step.step_number if step.old_number is None else step.old_number for step in steps],
        "templates": [step.email_template_id for step in steps],
        "delays": [step.delay for step in steps],
        **values,
    }
    types: list[Any] = [sa.bindparam(name, type_=type_) for name, type_ in _TYPES.items() if name in parameters]
    ledger = Ledger()
    rows = connection.execute(sa.text(sql).bindparams(*types), parameters).all()
    connection.execute(sa.text("SET LOCAL enable_nestloop = on"))
    for what, name, number in rows:
        match what:
            case "rows":
                ledger.rows[name] = number
            case "left_out":
                ledger.left_out[name] = number
            case _:
                setattr(ledger, name, number)
    return ledger
