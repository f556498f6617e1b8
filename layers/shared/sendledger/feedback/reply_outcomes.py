"""What the team makes of a reply: an outcome in, the lead's status and what campaigns still send to it out.

Reads `suppressions`; writes `replies`, `leads` (status), `scheduled_emails`, `campaigns` and `audit_log`; opting out is
written by unsubscribe.py and suppressions.py. Locks campaigns, then leads, then rows.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.campaigns import completion
from sendledger.campaigns.removed_history import check_not_removed
from sendledger.campaigns.transitions import check_transition
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import address_of, is_answer, lock_campaigns, lock_leads, still_planned
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import campaigns, emails, leads, replies
from sendledger.core.vocabulary import (
    AuditAction,
    CampaignStatus,
    LeadStatus,
    Reason,
    RemovalKind,
    ReplyOutcome,
    SuppressionReason,
    UnsubscribeMethod,
    UnsubscribeScope,
)
from sendledger.feedback import suppressions, unsubscribe

LONGEST_WAIT = dt.timedelta(days=3650)

_STATUS_AFTER = {
    ReplyOutcome.INTERESTED: LeadStatus.INTERESTED,
    ReplyOutcome.NOT_INTERESTED: LeadStatus.NOT_INTERESTED,
    ReplyOutcome.WRONG_PERSON: LeadStatus.INVALID,
    ReplyOutcome.UNSUBSCRIBE: LeadStatus.NOT_INTERESTED,
}
_SKIPPED_AS = {
    ReplyOutcome.NOT_INTERESTED: Reason.LEAD_NOT_INTERESTED,
    ReplyOutcome.WRONG_PERSON: Reason.LEAD_INVALID,
    ReplyOutcome.UNSUBSCRIBE: Reason.LEAD_NOT_INTERESTED,
}

_UUIDS = sa.ARRAY(sa.UUID)
_LOCK_CAMPAIGNS = lock_campaigns("UPDATE")
# Everybody with the address of the lead is the same person.
_SAME_PERSON = sa.text(f"""
    SELECT l.id FROM leads l, leads own
    WHERE own.id = :lead_id AND (l.id = own.id OR (coalesce(btrim(own.email), '') <> ''
                                                   AND {address_of("l")} = {address_of("own")}))
    ORDER BY l.id
""").bindparams(sa.bindparam("lead_id", type_=sa.UUID))
_PLANNED_IN = sa.text(f"""
    SELECT DISTINCT e.campaign_id FROM scheduled_emails e WHERE e.lead_id = ANY(:lead_ids) AND {still_planned("e")}
""").bindparams(sa.bindparam("lead_ids", type_=_UUIDS))
_LOCK_LEADS = lock_leads()
_SKIP = sa.text(f"""
    UPDATE scheduled_emails e SET status = 'skipped', reason = :reason, updated_at = now()
    WHERE e.lead_id = ANY(:lead_ids) AND NOT {is_answer("e")} AND {still_planned("e")} RETURNING e.campaign_id
""").bindparams(sa.bindparam("lead_ids", type_=_UUIDS))
# What the reply, or an outcome before this one, has stopped, and what is still planned. The gaps between them stay.
_MOVE = sa.text(f"""
    WITH remaining AS MATERIALIZED (
        SELECT e.id, e.scheduled_for - min(e.scheduled_for) OVER () AS after_first,
               e.lane > 0 AND e.workflow_step_number > min(e.workflow_step_number) OVER () AS is_behind
        FROM scheduled_emails e
        WHERE e.lead_id = :lead_id AND e.campaign_id = :campaign_id AND NOT {is_answer("e")}
          AND (CASE WHEN e.status = 'skipped'
                    THEN e.reason IN ('replied', 'lead_responded', 'lead_not_interested', 'lead_invalid') END
               OR {still_planned("e")})
    )
    UPDATE scheduled_emails e
    SET status = CASE WHEN :paused THEN 'cancelled' ELSE 'pending' END,
        reason = CASE WHEN :paused THEN 'paused' END,
        scheduled_for = :until + r.after_first, is_behind = CASE WHEN r.is_behind THEN true END,
        claim_token = NULL, lease_until = NULL, updated_at = now()
    FROM remaining r WHERE e.id = r.id
""").bindparams(
    sa.bindparam("lead_id", type_=sa.UUID),
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("paused", type_=sa.Boolean),
    sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True)),
)
_REOPEN_LEAD = sa.text("""
    UPDATE leads l SET updated_at = now(), status = CASE
        WHEN l.status NOT IN ('responded', 'not_interested', 'invalid') THEN l.status
        WHEN l.follow_up_stage = 'follow_up_2' THEN 'follow_up_2'
        WHEN l.follow_up_stage = 'follow_up_1' THEN 'follow_up_1'
        ELSE 'contacted' END
    WHERE l.id = :lead_id
""").bindparams(sa.bindparam("lead_id", type_=sa.UUID))


@dataclass(frozen=True)
class _Effect:
    """Emails that are not sent because of an outcome, or at another time, and the campaigns that may be complete."""

    emails_skipped: int = 0
    emails_moved: int = 0
    touched: frozenset[uuid.UUID] = frozenset()


def update(
    engine: sa.Engine,
    reply_id: uuid.UUID,
    actor: str,
    *,
    outcome: ReplyOutcome | None = None,
    later_until: dt.datetime | None = None,
    handled: bool | None = None,
) -> None:
    """Set what is given. An outcome changes the lead and what is sent to it, and marks the reply as handled.

    Raises:
        NotFound: there is no such reply.
        InvalidInput: the time of a "later" is not valid, or the reply belongs to no lead, or its lead has no address.
        Conflict: the steps cannot be moved: the campaign has ended, or the address is suppressed.
    """
    with engine.begin() as connection:
        row = (
            connection.execute(sa.select(replies).where(replies.c.id == reply_id).with_for_update()).mappings().first()
        )
        if row is None:
            raise NotFound("reply", reply_id)
        _check(connection, row, outcome, later_until)
        changes: dict[str, Any] = {}
        effect = _Effect()
        if outcome is not None:
            effect = _apply(connection, row, outcome, later_until, actor)
            changes |= {"outcome": outcome, "later_until": later_until}
        if outcome is not None or handled is not None:
            is_handled = handled is not False
            changes |= {
                "handled_at": sa.func.now() if is_handled else None,
                "handled_by": actor if is_handled else None,
            }
        if changes:
            connection.execute(sa.update(replies).where(replies.c.id == reply_id).values(changes))
            detail = {
                "outcome": outcome,
                "handled": handled is not False,
                "emails_skipped": effect.emails_skipped,
                "emails_moved": effect.emails_moved,
            }
            audit_log.record(connection, actor, AuditAction.REPLY_UPDATE, "reply", reply_id, detail)
    for campaign_id in sorted(effect.touched):
        completion.mark_campaign_complete(engine, campaign_id)


def _check(
    connection: sa.Connection, reply: sa.RowMapping, outcome: ReplyOutcome | None, later_until: dt.datetime | None
) -> None:
    errors: list[FieldError] = []
    if later_until is not None:
        now: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
        if outcome is not ReplyOutcome.LATER:
            errors.append(FieldError("later_until", "belongs to the outcome later"))
        elif not now < later_until <= now + LONGEST_WAIT:
            message = f"must be a time from now on, at most {LONGEST_WAIT.days} days ahead"
            errors.append(FieldError("later_until", message))
        elif reply["campaign_id"] is None:
            errors.append(FieldError("later_until", "the reply belongs to no campaign, so there are no steps to move"))
    if outcome is not None and reply["lead_id"] is None:
        errors.append(FieldError("outcome", "the reply belongs to no lead; it can only be marked as handled"))
    if errors:
        raise InvalidInput("The reply cannot be changed like this.", errors)


def _apply(
    connection: sa.Connection,
    reply: sa.RowMapping,
    outcome: ReplyOutcome,
    later_until: dt.datetime | None,
    actor: str,
) -> _Effect:
    lead_ids = list(connection.scalars(_SAME_PERSON, {"lead_id": reply["lead_id"]}))
    affected = set(connection.scalars(_PLANNED_IN, {"lead_ids": lead_ids}))
    if reply["campaign_id"] is not None:
        affected.add(reply["campaign_id"])
    connection.execute(_LOCK_CAMPAIGNS, {"ids": sorted(affected)})
    connection.execute(_LOCK_LEADS, {"ids": lead_ids})
    if outcome is ReplyOutcome.LATER:
        return _move(connection, reply, later_until) if later_until is not None else _Effect()
    _set_status(connection, lead_ids, _STATUS_AFTER[outcome])
    touched = set[uuid.UUID]()
    if outcome is ReplyOutcome.UNSUBSCRIBE:
        touched |= _opt_out(connection, reply, actor)
    skipped: list[uuid.UUID] = []
    if outcome in _SKIPPED_AS:
        parameters = {"lead_ids": lead_ids, "reason": _SKIPPED_AS[outcome]}
        skipped = list(connection.scalars(_SKIP, parameters))
    return _Effect(len(skipped), 0, frozenset(touched | set(skipped)))


def _set_status(connection: sa.Connection, lead_ids: Iterable[uuid.UUID], status: LeadStatus) -> None:
    connection.execute(sa.update(leads).where(leads.c.id.in_(lead_ids)).values(status=status, updated_at=sa.func.now()))


def _opt_out(connection: sa.Connection, reply: sa.RowMapping, actor: str) -> set[uuid.UUID]:
    """Suppress the lead's address; where the email is known that was answered, also as any opt-out is written."""
    address = connection.scalar(sa.select(leads.c.email).where(leads.c.id == reply["lead_id"]))
    if not (address or "").strip():
        message = "the lead has no address that could be suppressed"
        raise InvalidInput("The reply cannot be changed like this.", [FieldError("outcome", message)])
    suppressed = suppressions.suppress(connection, str(address), SuppressionReason.UNSUBSCRIBE, actor)
    answered = connection.scalar(sa.select(emails.c.scheduled_email_id).where(emails.c.id == reply["email_id"]))
    if answered is not None and reply["campaign_id"] is not None:
        email = EmailReference(answered, reply["campaign_id"], reply["lead_id"])
        unsubscribe.opt_out(connection, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.REPLY)
    return set(suppressed.campaign_ids)


def _move(connection: sa.Connection, reply: sa.RowMapping, until: dt.datetime) -> _Effect:
    ids = {"lead_id": reply["lead_id"], "campaign_id": reply["campaign_id"]}
    if (reason := suppressions.reason_for(connection, reply["lead_id"], reply["campaign_id"])) is not None:
        raise Conflict("The address of the lead is suppressed, so nothing can be sent later.", reason=reason)
    query = sa.select(campaigns.c.status).where(campaigns.c.id == reply["campaign_id"])
    status = connection.execute(query).scalar_one()
    if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
        status = check_transition("reopen", status)
    check_not_removed(connection, reply["campaign_id"], list(RemovalKind))
    paused = status == CampaignStatus.PAUSED
    moved = connection.execute(_MOVE, {**ids, "paused": paused, "until": until}).rowcount
    connection.execute(_REOPEN_LEAD, {"lead_id": reply["lead_id"]})
    if moved:
        changes = {"status": status, "completed_at": None, "updated_at": sa.func.now()}
        connection.execute(sa.update(campaigns).where(campaigns.c.id == reply["campaign_id"]).values(changes))
    return _Effect(emails_moved=moved)
