"""Settling a scheduled email whose outcome is unknown: by an event of SES, or by an operator.

Reads `campaigns`, `campaign_steps`, `campaign_step_variants` and `leads`; writes `scheduled_emails` and
`campaigns`, and records through `record_results`.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns.removed_history import check_not_removed
from sendledger.campaigns.transitions import check_transition
from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import CompiledTemplate, RenderedEmail, compile_template
from sendledger.content.template_filters import RenderError
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import returned_reason, returned_status
from sendledger.core.tables import campaign_step_variants, campaign_steps, campaigns, leads, scheduled_emails
from sendledger.core.vocabulary import AuditAction, CampaignStatus, ErrorCode, Reason, RemovalKind, ScheduledEmailStatus
from sendledger.ledger.answers import WrittenAnswer, find_answers
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.email_threads import EmailThread, NotYet, find_threads
from sendledger.ledger.record_results import SendResult, record
from sendledger.ses.answers import Answer, SendOutcome

_REQUEUE = sa.text(f"""
    UPDATE scheduled_emails e
    SET status = {returned_status("c")}, reason = {returned_reason("c")},
        error_code = NULL, failure_reason = NULL, failed_at = NULL,
        claim_token = NULL, lease_until = NULL, send_started_at = NULL, updated_at = now()
    FROM campaigns c WHERE c.id = e.campaign_id AND e.id = :id
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))
_LEAD_IS_REMOVED = sa.text(f"""
    SELECT EXISTS (
        SELECT FROM scheduled_emails e
        JOIN scheduled_emails r ON r.lead_id = e.lead_id AND r.campaign_id = e.campaign_id
        WHERE e.id = :id AND r.reason = '{Reason.LEAD_REMOVED}')
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))


@dataclass(frozen=True)
class Acceptance:
    """SES did accept an email: its message id, if it is known, and how many seconds ago that was."""

    message_id: str | None
    seconds_ago: float = 0.0


def settle_as_sent(connection: sa.Connection, accepted: Mapping[int, Acceptance]) -> int:
    """Record as sent those of these scheduled emails that are `sending` or of unknown outcome; returns how many.

    SES or an operator has confirmed it. The content that was sent is lost with its sender, so it is rendered again from
    the campaign's own copy. Other emails are left alone.
    """
    variant, texts = campaign_step_variants.c, ("subject", "body_text", "body_html")
    has_variants = variant.variant.is_not(None)
    rows = connection.execute(
        sa.select(
            scheduled_emails.c.id,
            scheduled_emails.c.campaign_id,
            scheduled_emails.c.workflow_step_number,
            scheduled_emails.c.claim_token,
            scheduled_emails.c.lead_id,
            *(sa.case((has_variants, variant[name]), else_=campaign_steps.c[name]).label(name) for name in texts),
            campaigns.c.name.label("campaign_name"),
        )
        .join(campaigns, campaigns.c.id == scheduled_emails.c.campaign_id)
        .join(
            campaign_steps,
            (campaign_steps.c.campaign_id == scheduled_emails.c.campaign_id)
            & (campaign_steps.c.revision == scheduled_emails.c.revision)
            & (campaign_steps.c.step_number == scheduled_emails.c.workflow_step_number),
        )
        .outerjoin(
            campaign_step_variants,
            (variant.campaign_id == scheduled_emails.c.campaign_id)
            & (variant.revision == scheduled_emails.c.revision)
            & (variant.step_number == scheduled_emails.c.workflow_step_number)
            & (variant.variant == scheduled_emails.c.variant),
        )
        .where(scheduled_emails.c.id.in_(accepted), scheduled_emails.c.claim_token.is_not(None))
    ).mappings()
    by_token: dict[uuid.UUID, list[sa.RowMapping]] = {}
    for row in rows:
        by_token.setdefault(row["claim_token"], []).append(row)
    lead_ids = {row["lead_id"] for token in by_token.values() for row in token}
    found = connection.execute(sa.select(leads).where(leads.c.id.in_(lead_ids))).mappings()
    known_leads = {lead["id"]: {**lead, "lead_id": lead["id"]} for lead in found}
    ids = [row["id"] for token in by_token.values() for row in token]
    threads, written = find_threads(connection, ids), find_answers(connection, ids)
    settled = 0
    compiled = functools.cache(compile_template)
    for token, same_token in by_token.items():
        results = [
            _settled(
                row,
                known_leads.get(row["lead_id"]),
                accepted[row["id"]],
                compiled,
                written.get(row["id"]) or threads.get(row["id"]),
            )
            for row in same_token
        ]
        settled += record(connection, results, token, first_hand=False).counts[ScheduledEmailStatus.SENT]
    return settled


def _settled(
    row: sa.RowMapping,
    lead: dict[str, Any] | None,
    acceptance: Acceptance,
    compiled: Callable[[str, str, str | None], CompiledTemplate],
    known: WrittenAnswer | EmailThread | NotYet | None,
) -> SendResult:
    rendered = None
    subject = known.subject if isinstance(known, EmailThread) else None
    if isinstance(known, WrittenAnswer):
        rendered = RenderedEmail(known.subject, known.text, None)
    elif lead is not None:
        try:
            template = compiled(row["subject"], row["body_text"], row["body_html"])
            rendered = template.render(lead_variables(lead, row["campaign_name"]), subject)
        except RenderError:
            # The lead has lost a value since. It matters more that the email is recorded than how it reads.
            rendered = RenderedEmail(subject or row["subject"][:500], row["body_text"], row["body_html"])
    email = ClaimedEmail(row["id"], row["campaign_id"], row["workflow_step_number"], lead)
    outcome = SendOutcome(Answer.SENT, acceptance.message_id)
    return SendResult(email, outcome, rendered, time.monotonic() - acceptance.seconds_ago)


def mark_sent(connection: sa.Connection, scheduled_email_id: int, actor: str) -> None:
    """Record that an email of unknown outcome was sent, as an operator found out.

    Raises:
        NotFound: no such scheduled email.
        Conflict: its outcome is not unknown.
    """
    _check_unknown(connection, scheduled_email_id)
    if not settle_as_sent(connection, {scheduled_email_id: Acceptance(None)}):
        raise Conflict(f"Scheduled email {scheduled_email_id} has just been settled in another way; look at it again.")
    audit_log.record(connection, actor, AuditAction.SCHEDULED_EMAIL_MARK_SENT, "scheduled_email", scheduled_email_id)


def requeue(connection: sa.Connection, scheduled_email_id: int, actor: str) -> None:
    """Queue an email of unknown outcome again, as an operator decided. If SES did accept it, the lead gets it twice.

    A completed campaign runs again until the row is terminal.

    Raises:
        NotFound: no such scheduled email.
        Conflict: its outcome is not unknown, or its lead was taken out of the campaign.
        IllegalTransition: its campaign has ended, and not by completing.
    """
    campaign_id = _check_unknown(connection, scheduled_email_id)
    status = connection.scalar(sa.select(campaigns.c.status).where(campaigns.c.id == campaign_id).with_for_update())
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        status = check_transition("reopen", status)
    check_not_removed(connection, campaign_id, list(RemovalKind))
    _check_unknown(connection, scheduled_email_id)
    if connection.scalar(_LEAD_IS_REMOVED, {"id": scheduled_email_id}):
        message = "The lead of this email was taken out of the campaign and gets nothing more; mark it as sent instead."
        raise Conflict(message, status=status)
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(
            status=status,
            completed_at=None,
            emails_failed_count=campaigns.c.emails_failed_count - 1,
            updated_at=sa.func.now(),
        )
    )
    connection.execute(_REQUEUE, {"id": scheduled_email_id})
    audit_log.record(connection, actor, AuditAction.SCHEDULED_EMAIL_REQUEUE, "scheduled_email", scheduled_email_id)


def _check_unknown(connection: sa.Connection, scheduled_email_id: int) -> uuid.UUID:
    row = connection.execute(
        sa.select(scheduled_emails.c.campaign_id, scheduled_emails.c.status, scheduled_emails.c.error_code).where(
            scheduled_emails.c.id == scheduled_email_id
        )
    ).first()
    if row is None:
        raise NotFound("scheduled email", scheduled_email_id)
    campaign_id, status, error_code = row
    if error_code != ErrorCode.OUTCOME_UNKNOWN:
        raise Conflict(
            f"Scheduled email {scheduled_email_id} is {status}; only one whose outcome is unknown can be settled.",
            status=status,
        )
    return uuid.UUID(str(campaign_id))
