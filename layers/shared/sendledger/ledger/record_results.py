"""Recording: the answers of SES for a chunk of emails go into all tables that depend on them, in one transaction.

Writes `scheduled_emails` (guarded by the claim token, so that a replay changes nothing), `emails`, `campaigns`
(counters) and `leads` (status, last contact). A step that was sent late moves the lead's next step, so that the gap
between them is at least the configured one. A step that failed for good makes the later ones skipped.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from sendledger.content.render_email import RenderedEmail
from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import (
    LAST_STEP,
    is_answer,
    lock_campaigns,
    lock_leads,
    returned_reason,
    returned_status,
    still_planned,
)
from sendledger.core.ordered_ids import ordered_id
from sendledger.core.row_arrays import LONG_TEXT, RowArrays
from sendledger.core.vocabulary import ScheduledEmailStatus
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.policy import business_days
from sendledger.ses.answers import Answer, SendOutcome

MAX_ATTEMPTS = 3
"""SES calls for one row, when each answer is a temporary error that proves that the email was not accepted."""

RETRY_BASE_SECONDS = 60.0
"""The first retry comes after one to two times this, the second after two to four times."""


class SendResult(NamedTuple):
    """What became of one claimed email. `rendered` is None if it could not be rendered."""

    email: ClaimedEmail
    outcome: SendOutcome
    rendered: RenderedEmail | None
    ended_at: float
    """`time.monotonic()` when the answer came."""


@dataclass(frozen=True)
class Recorded:
    """Rows by the status they now have (``unknown`` and ``retry`` apart), and the campaigns they belong to."""

    counts: Counter[str]
    campaign_ids: frozenset[uuid.UUID]


_LOCK_CAMPAIGNS = lock_campaigns("NO KEY UPDATE")
# Two campaigns may be writing to the same leads.
_LOCK_LEADS = lock_leads()

_RESULTS = RowArrays(
    "r",
    {
        "id": "bigint",
        "kind": "text",
        "message_id": "text",
        "error_code": "text",
        "message": "text",
        "age": "float8",
        "retry_in": "float8",
        "email_id": "uuid",
        "to_address": "text",
        "subject": "text",
        "body_text": LONG_TEXT,
        "body_html": LONG_TEXT,
        "next_due": "timestamptz",
    },
)
# Rows are found by their ids and leads. With a plain `status = …` or `claim_token = …`, a planner that expects few such
# rows would scan all of them for each result. CASE prevents that.
_RECORD = sa.text(f"""{KEPT}
WITH r AS MATERIALIZED (
    SELECT * FROM {_RESULTS.table}
), done AS (
    UPDATE scheduled_emails e SET
        status = CASE WHEN r.kind = 'sent' THEN 'sent'
                      WHEN r.kind = 'failed' OR (r.kind = 'retry' AND e.retry_count + 1 >= :max_attempts) THEN 'failed'
                      ELSE {returned_status("c")} END,
        reason = CASE WHEN r.kind NOT IN ('sent', 'failed')
                        AND NOT (r.kind = 'retry' AND e.retry_count + 1 >= :max_attempts)
                      THEN {returned_reason("c")} END,
        scheduled_for = CASE r.kind WHEN 'retry' THEN now() + make_interval(secs => r.retry_in * 2 ^ e.retry_count)
                                    WHEN 'later' THEN now() + make_interval(secs => r.retry_in)
                                    ELSE e.scheduled_for END,
        retry_count = e.retry_count + CASE WHEN r.kind = 'retry' THEN 1 ELSE 0 END,
        error_code = CASE WHEN r.kind IN ('failed', 'retry', 'later') THEN r.error_code END,
        failure_reason = CASE WHEN r.kind IN ('failed', 'retry', 'later') THEN r.message END,
        failed_at = CASE WHEN r.kind = 'failed' OR (r.kind = 'retry' AND e.retry_count + 1 >= :max_attempts)
                         THEN statement_timestamp() - make_interval(secs => r.age) END,
        sent_at = CASE WHEN r.kind = 'sent' THEN statement_timestamp() - make_interval(secs => r.age) END,
        ses_message_id = coalesce(r.message_id, e.ses_message_id),
        email_id = CASE WHEN r.kind = 'sent' AND e.lead_id IS NOT NULL THEN r.email_id END,
        claim_token = CASE WHEN r.kind IN ('sent', 'failed') THEN e.claim_token END,
        send_started_at = CASE WHEN r.kind IN ('sent', 'failed') THEN e.send_started_at END,
        lease_until = NULL,
        updated_at = now()
    FROM r CROSS JOIN campaigns c
    WHERE e.id = r.id AND c.id = e.campaign_id
      -- For a row that was recorded as unknown, only the result "sent" counts.
      AND CASE WHEN e.claim_token IS DISTINCT FROM :token THEN false
               WHEN e.status = 'sending' THEN true
               WHEN e.status = 'failed' THEN e.error_code = 'outcome_unknown' AND r.kind = 'sent' END
    RETURNING e.id, e.campaign_id, e.lead_id, e.revision, e.workflow_step_number, e.status, e.error_code, e.sent_at,
              e.email_id, e.lane, r.kind, r.next_due, (
                  -- As it was before. Nearly always the index that has only such rows is empty.
                  SELECT true FROM scheduled_emails before
                  WHERE before.id = e.id AND before.failed_at IS NOT NULL AND before.error_code = 'outcome_unknown'
              ) AS was_unknown
), written AS (
    INSERT INTO emails (id, lead_id, campaign_id, subject, body_text, body_html, follow_up_stage, status, sent_at,
                        external_id, created_at, to_address, scheduled_email_id, delivery_status)
    SELECT r.email_id, d.lead_id, d.campaign_id, r.subject, r.body_text, r.body_html,
           CASE WHEN {is_answer("d")} THEN 'answer' WHEN d.workflow_step_number = 1 THEN 'initial'
                ELSE 'follow_up_' || d.workflow_step_number - 1 END,
           'sent', d.sent_at, r.message_id, now(), r.to_address, d.id, 'sent'
    FROM done d JOIN r ON r.id = d.id
    WHERE d.email_id IS NOT NULL
), contacted AS (
    UPDATE leads l SET
        status = CASE WHEN sent.step = 1 AND l.status = 'new' THEN 'contacted'
                      WHEN sent.step = 2 AND l.status IN ('new', 'contacted') THEN 'follow_up_1'
                      WHEN sent.step >= 3 AND l.status IN ('new', 'contacted', 'follow_up_1') THEN 'follow_up_2'
                      ELSE l.status END,
        follow_up_stage = CASE WHEN sent.step IS NULL THEN l.follow_up_stage WHEN sent.step = 1 THEN 'initial'
                               WHEN sent.step = 2 THEN 'follow_up_1' ELSE 'follow_up_2' END,
        last_contacted_at = greatest(l.last_contacted_at, sent.at),
        -- Counts of the earlier application may be as large as their columns allow.
        emails_sent = least(coalesce(l.emails_sent, 0)::bigint + sent.count, 2147483647),
        updated_at = now()
    FROM (SELECT lead_id, max(workflow_step_number) FILTER (WHERE NOT {is_answer("done")}) AS step,
                 max(sent_at)::timestamp AS at, count(*) AS count
          FROM done WHERE status = 'sent' GROUP BY lead_id) sent
    WHERE l.id = sent.lead_id
), counted AS (
    UPDATE campaigns c SET
        emails_sent_count = c.emails_sent_count + by_campaign.sent,
        emails_sent = least(coalesce(c.emails_sent, 0)::bigint + by_campaign.sent, 2147483647),
        emails_failed_count = c.emails_failed_count + by_campaign.failed,
        current_workflow_step = greatest(c.current_workflow_step, by_campaign.step),
        last_run_at = now(),
        updated_at = now()
    FROM (SELECT campaign_id, count(*) FILTER (WHERE status = 'sent') AS sent,
                 count(*) FILTER (WHERE status = 'failed') - count(*) FILTER (WHERE was_unknown) AS failed,
                 coalesce(max(workflow_step_number)
                          FILTER (WHERE status = 'sent' AND NOT {is_answer("done")}), 0) AS step
          FROM done GROUP BY campaign_id) by_campaign
    WHERE c.id = by_campaign.campaign_id
), following AS MATERIALIZED (
    -- In lanes in whole minutes. What went in one minute falls due together then, and the plan knows in which order.
    SELECT d.lead_id, d.campaign_id, s.step_number AS next_step,
           CASE WHEN d.lane = 0 THEN coalesce(d.next_due, d.sent_at + s.delay)
                ELSE date_trunc('minute', coalesce(d.next_due, d.sent_at + s.delay) + interval '59.999999 seconds')
           END AS due
    FROM done d CROSS JOIN LATERAL (
        SELECT step_number, delay FROM campaign_steps
        WHERE campaign_id = d.campaign_id AND revision = d.revision AND step_number > d.workflow_step_number
          AND step_number <= {LAST_STEP}
        ORDER BY step_number LIMIT 1) s
    WHERE d.status = 'sent'
), pushed AS (
    UPDATE scheduled_emails n SET scheduled_for = greatest(n.scheduled_for, f.due), is_behind = NULL, updated_at = now()
    FROM following f
    WHERE n.lead_id = f.lead_id AND n.campaign_id = f.campaign_id AND n.workflow_step_number = f.next_step
      AND {still_planned("n")} AND (n.scheduled_for < f.due OR n.is_behind)
), ended AS (
    UPDATE scheduled_emails n SET status = 'skipped', reason = 'previous_step_failed', updated_at = now()
    FROM done d
    WHERE d.status = 'failed' AND d.error_code <> 'outcome_unknown'
      AND n.lead_id = d.lead_id AND n.campaign_id = d.campaign_id AND n.workflow_step_number > d.workflow_step_number
      AND NOT {is_answer("n")} AND {still_planned("n")}
), settled AS MATERIALIZED (
    -- An event of SES came first, or this is a replay. The row is sent already; the content is known only now.
    SELECT b.id, b.campaign_id, b.email_id, r.subject, r.body_text, r.body_html
    FROM r JOIN scheduled_emails b ON b.id = r.id
    -- Not by EXISTS: of few rows, as the planner expects them, it would compare each with each.
    WHERE :first_hand AND r.kind = 'sent' AND r.id NOT IN (SELECT id FROM done)
      AND CASE WHEN b.status = 'sent' THEN b.claim_token = :token END
), reworded AS (
    UPDATE emails m SET subject = s.subject, body_text = s.body_text, body_html = s.body_html
    FROM settled s WHERE m.id = s.email_id AND s.subject IS NOT NULL
)
SELECT campaign_id,
       CASE WHEN error_code = 'outcome_unknown' THEN 'unknown'
            WHEN status = 'pending' AND kind IN ('retry', 'later') THEN 'retry' ELSE status END AS status,
       count(*)
FROM done GROUP BY 1, 2
UNION ALL
SELECT campaign_id, 'sent', count(*) FROM settled GROUP BY 1
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("max_attempts", type_=sa.Integer),
    sa.bindparam("first_hand", type_=sa.Boolean),
)


def record(
    connection: sa.Connection, results: Sequence[SendResult], token: uuid.UUID, *, first_hand: bool = True
) -> Recorded:
    """Write the results of a chunk with one claim token. The caller commits.

    `first_hand` results come from the sender itself, which knows what it sent. If an event of SES was faster, they
    still count as sent, and their content replaces the one that was rendered for the event.

    It may be repeated if the answer to COMMIT was lost: rows that are recorded already do not match again.
    """
    campaign_ids = {result.email.campaign_id for result in results}
    connection.execute(_LOCK_CAMPAIGNS, {"ids": list(campaign_ids)})
    lead_ids = {result.email.lead["lead_id"] for result in results if result.email.lead is not None}
    connection.execute(_LOCK_LEADS, {"ids": list(lead_ids)})
    now = time.monotonic()
    sent_ago = {result.email.id: now - result.ended_at for result in results if result.outcome.answer is Answer.SENT}
    next_due = business_days.next_steps_due(connection, sent_ago, list(campaign_ids))
    written = [_row(result, now) for result in results]
    for each in written:
        if each["id"] in next_due:
            each["next_due"] = next_due[each["id"]].isoformat()
    rows = connection.execute(_RECORD, _parameters(written, token, first_hand=first_hand))
    counts: Counter[str] = Counter()
    for _, status, count in rows:
        counts[status] += count
    return Recorded(counts, frozenset(campaign_ids))


def _parameters(written: Sequence[dict[str, Any]], token: uuid.UUID, *, first_hand: bool) -> dict[str, Any]:
    how = {"token": token, "max_attempts": MAX_ATTEMPTS, "first_hand": first_hand}
    return {**_RESULTS.parameters(written), **how}


def _row(result: SendResult, now: float) -> dict[str, Any]:
    outcome = result.outcome
    kind: str
    match outcome.answer:
        case Answer.SENT:
            kind = ScheduledEmailStatus.SENT
        case Answer.FAIL_ROW | Answer.UNKNOWN:
            kind = ScheduledEmailStatus.FAILED
        case Answer.RETRY_LATER:
            kind = "retry"
        case Answer.NOT_REACHED | Answer.FILES_NOT_REACHED:
            kind = "later"  # not counted as an attempt: an outage of AWS must not fail emails
        case _:
            kind = "back"
    row: dict[str, Any] = {
        "id": result.email.id,
        "kind": kind,
        "message_id": _storable(outcome.message_id),
        "error_code": _storable(outcome.error_code),
        "message": _storable(outcome.message),
        "age": now - result.ended_at,
    }
    if kind in ("retry", "later"):
        # Jitter, so that rows that failed together are not retried together. The row's own count decides how often.
        row["retry_in"] = RETRY_BASE_SECONDS * random.uniform(1, 2)  # noqa: S311 (not a secret)
    if kind == ScheduledEmailStatus.SENT and result.rendered is not None and result.email.lead is not None:
        row |= {
            "email_id": str(ordered_id()),
            "to_address": result.email.lead["email"],
            "subject": result.rendered.subject,
            "body_text": result.rendered.body_text,
            "body_html": result.rendered.body_html,
        }
    return row


def _storable(text: str | None) -> str | None:
    """A foreign text without characters that PostgreSQL refuses. One of them would lose the results of a whole
    chunk."""
    return text.replace("\x00", "").encode(errors="replace").decode() if text is not None else None
