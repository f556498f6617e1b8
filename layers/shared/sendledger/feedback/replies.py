"""Replies: a reply comes in, and the sequence of its lead ends.

Which email it answers, match_reply.py finds. Automatic mail and mail with a forged sender is stored and stops nothing.
Writes `replies`, `leads` (status, last response), pending `scheduled_emails`, `campaigns` (counters) and `audit_log`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.campaigns import completion
from sendledger.core import audit_log, pagination
from sendledger.core.errors import NotFound
from sendledger.core.ledger_rules import LAST_STEP, lock_campaigns, still_planned
from sendledger.core.pagination import Page
from sendledger.core.settings import StopOnReply
from sendledger.core.signed_tokens import TokenKeys
from sendledger.core.tables import (
    campaigns,
    leads,
    replies,
    scheduled_emails,
    sender_addresses,
)
from sendledger.core.vocabulary import (
    AuditAction,
    AuthenticationResult,
    AutomaticKind,
    LeadStatus,
    Reason,
    ReplyKind,
    ReplyMatch,
    ReplyOutcome,
    ReplySource,
    ScheduledEmailStatus,
)
from sendledger.feedback.match_reply import Match, find_answered, is_erased
from sendledger.feedback.read_reply import ReadReply
from sendledger.feedback.stop_words import asks_to_stop

_LOCK_CAMPAIGNS = lock_campaigns("NO KEY UPDATE")

RECIPIENT = "recipient"
"""The actor of what a recipient did."""

_STATUSES_BEFORE_REPLY = (LeadStatus.NEW, LeadStatus.CONTACTED, LeadStatus.FOLLOW_UP_1, LeadStatus.FOLLOW_UP_2)

_OUT_OF_OFFICE = (
    AutomaticKind.AUTO_SUBMITTED,
    AutomaticKind.X_AUTOREPLY,
    AutomaticKind.PRECEDENCE,
    AutomaticKind.EMPTY_RETURN_PATH,
    AutomaticKind.SUBJECT,
)
_stored = replies
_kind = sa.case(
    (_stored.c.automatic == AutomaticKind.DELIVERY_REPORT, sa.literal(ReplyKind.DELIVERY_REPORT)),
    (_stored.c.automatic.in_(_OUT_OF_OFFICE), sa.literal(ReplyKind.OUT_OF_OFFICE)),
    (_stored.c.automatic.is_not(None), sa.literal(ReplyKind.OTHER)),
    (_stored.c.asks_to_stop, sa.literal(ReplyKind.UNSUBSCRIBE_REQUEST)),
    else_=sa.literal(ReplyKind.HUMAN),
)
_proposed = sa.case((_kind == ReplyKind.UNSUBSCRIBE_REQUEST, sa.literal(ReplyOutcome.UNSUBSCRIBE)))
_KEPT = (
    _stored.c.id,
    _stored.c.message_id,
    _stored.c.source,
    _stored.c.from_address,
    _stored.c.subject,
    _stored.c.body_text,
    _stored.c.automatic,
    _stored.c.spf,
    _stored.c.dkim,
    _stored.c.dmarc,
    _stored.c.matched_by,
    _stored.c.lead_id,
    _stored.c.campaign_id,
    _stored.c.email_id,
    _stored.c.emails_skipped,
    _stored.c.created_at,
    _kind.label("kind"),
    _proposed.label("proposed_outcome"),
    _stored.c.outcome,
    _stored.c.later_until,
    _stored.c.handled_at,
    _stored.c.handled_by,
)


@dataclass(frozen=True)
class ReceivedReply:
    """A stored reply. `is_new` is False for a message that was received before: then nothing was changed."""

    id: uuid.UUID
    is_new: bool
    matched_by: str | None
    lead_id: uuid.UUID | None
    campaign_id: uuid.UUID | None
    automatic: str | None
    emails_skipped: int


def receive(
    engine: sa.Engine, reply: ReadReply, source: ReplySource, stop: StopOnReply, keys: TokenKeys | None
) -> ReceivedReply:
    """Store a reply. If a person wrote it, stop the mail to its lead, and complete campaigns that have nothing left to
    send.

    With `stop` "all" the lead, and every other lead with its address, becomes `responded`, which no campaign writes
    to. With "campaign" the remaining steps of that one campaign are skipped and other campaigns go on. A message that
    comes again changes nothing.
    """
    with engine.begin() as connection:
        received, touched = _receive(connection, reply, source, stop, keys)
    for campaign_id in touched:
        completion.mark_campaign_complete(engine, campaign_id)
    return received


def get(connection: sa.Connection, reply_id: uuid.UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such reply.
    """
    row = connection.execute(sa.select(*_KEPT).where(_stored.c.id == reply_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("reply", reply_id)
    return row


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    campaign_id: uuid.UUID | None = None,
    lead_id: uuid.UUID | None = None,
    kind: ReplyKind | None = None,
    handled: bool | None = None,
    sender: str | None = None,
    default_sender: str | None = None,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of replies, in the order of `pagination.Order`.

    `sender` is the lower-case address that the answered campaign sends from; a campaign that names none sends from
    `default_sender`.
    """
    query = sa.select(*_KEPT)
    if kind is not None:
        query = query.where(_kind == kind)
    if handled is not None:
        query = query.where(_stored.c.handled_at.is_not(None) if handled else _stored.c.handled_at.is_(None))
    if sender is not None:
        query = query.where(_was_sent_from(sender, default_sender or ""))
    if campaign_id is not None:
        query = query.where(_stored.c.campaign_id == campaign_id)
    if lead_id is not None:
        query = query.where(_stored.c.lead_id == lead_id)
    return pagination.sorted_page(connection, query, _stored, limit, cursor, sort)


def _was_sent_from(sender: str, default_sender: str) -> sa.ColumnElement[bool]:
    """Whether the answered email was sent from this address: by its own sender, else by its campaign's."""

    def is_of(mailbox: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        # With a display name the address is in angle brackets at the end.
        lower = sa.func.lower(mailbox)
        return (lower == sender) | (sa.func.right(lower, len(sender) + 2) == f"<{sender}>")

    answered = (
        sa.select(sender_addresses.c.from_address)
        .join(scheduled_emails, scheduled_emails.c.sender_id == sender_addresses.c.id)
        .where(scheduled_emails.c.email_id == _stored.c.email_id)
        .correlate(_stored)
        .scalar_subquery()
    )
    own = sa.select(campaigns.c.from_address).where(campaigns.c.id == _stored.c.campaign_id).correlate(_stored)
    return _stored.c.campaign_id.is_not(None) & is_of(sa.func.coalesce(answered, own.scalar_subquery(), default_sender))


def _receive(
    connection: sa.Connection, reply: ReadReply, source: ReplySource, stop: StopOnReply, keys: TokenKeys | None
) -> tuple[ReceivedReply, list[uuid.UUID]]:
    match = find_answered(connection, reply, keys)
    automatic = _automatic(reply, match)
    stopped = _lock_what_stops(connection, match, stop) if match is not None and automatic is None else None
    if match is not None and is_erased(connection, match):
        match, stopped, automatic = None, None, _automatic(reply, None)
    reply_id = connection.scalar(
        insert(_stored)
        .values(
            message_id=reply.message_id,
            source=source,
            from_address=reply.from_address,
            subject=reply.subject,
            body_text=reply.text,
            automatic=automatic,
            asks_to_stop=automatic is None and asks_to_stop(reply.subject, reply.text),
            spf=reply.spf,
            dkim=reply.dkim,
            dmarc=reply.dmarc,
            matched_by=match and match.by,
            lead_id=match and match.lead_id,
            campaign_id=match and match.campaign_id,
            email_id=match and match.email_id,
        )
        .on_conflict_do_nothing(index_elements=["message_id"])
        .returning(_stored.c.id)
    )
    if reply_id is None:
        known = sa.select(*_KEPT).where(_stored.c.message_id == reply.message_id)
        return _received(connection.execute(known).mappings().one(), is_new=False), []
    touched: list[uuid.UUID] = []
    if match is not None and stopped is not None:
        skipped, touched = _stop(connection, match, reply_id, stop, stopped)
        connection.execute(sa.update(_stored).where(_stored.c.id == reply_id).values(emails_skipped=skipped))
        detail = {
            "reply_id": str(reply_id),
            "campaign_id": match.campaign_id and str(match.campaign_id),
            "matched_by": match.by,
            "emails_skipped": skipped,
        }
        audit_log.record(connection, RECIPIENT, AuditAction.LEAD_REPLY, "lead", match.lead_id, detail)
    return _received(get(connection, reply_id), is_new=True), touched


def _automatic(reply: ReadReply, match: Match | None) -> AutomaticKind | None:
    """Why the reply is not a person's, now that it is known what it answers.

    Only our emails contain tokens, so a sender with a valid token got the email. Mailing lists forward answers of
    persons.
    """
    automatic = reply.automatic
    if automatic is AutomaticKind.MAILING_LIST and match and match.by in (ReplyMatch.TOKEN, ReplyMatch.MESSAGE_ID):
        automatic = None
    if automatic is None and reply.dmarc is AuthenticationResult.FAIL and not (match and match.by is ReplyMatch.TOKEN):
        return AutomaticKind.FORGED
    return automatic


def _received(row: sa.RowMapping, *, is_new: bool) -> ReceivedReply:
    return ReceivedReply(
        id=row["id"],
        is_new=is_new,
        matched_by=row["matched_by"],
        lead_id=row["lead_id"],
        campaign_id=row["campaign_id"],
        automatic=row["automatic"],
        emails_skipped=row["emails_skipped"],
    )


@dataclass(frozen=True)
class _Stopped:
    """The leads that are one person, and which rows of the ledger these would still get."""

    lead_ids: list[uuid.UUID]
    to_come: sa.ColumnElement[bool]


def _lock_what_stops(connection: sa.Connection, match: Match, stop: StopOnReply) -> _Stopped:
    """Lock the campaigns that a reply changes, in the order of their ids.

    Before the reply is stored: its foreign key locks the answered campaign, which may not be the first of them. The
    lock is strong enough for the counters, because an erasure that got its own in between would wait for the lead.
    """
    own = sa.select(leads.c.email).where(leads.c.id == match.lead_id).scalar_subquery()
    same_person = leads.c.id == match.lead_id
    if stop == "all":
        same_person |= sa.func.lower(leads.c.email) == sa.func.lower(own)
    lead_ids = list(connection.scalars(sa.select(leads.c.id).where(same_person).order_by(leads.c.id)))
    rows = scheduled_emails.c
    # Rows that a sender has claimed but not fenced are stopped too: its fence will not find them.
    # (CASE makes the planner find the rows by their leads only.)
    to_come = rows.lead_id.in_(lead_ids) & sa.case(
        (rows.status == ScheduledEmailStatus.SENDING, rows.send_started_at.is_(None)),
        else_=sa.literal_column(still_planned("scheduled_emails"), sa.Boolean),
    )
    to_come &= rows.workflow_step_number <= LAST_STEP
    if stop == "campaign":
        to_come &= rows.campaign_id == match.campaign_id
    affected = set(connection.scalars(sa.select(rows.campaign_id).where(to_come).distinct()))
    if match.campaign_id is not None:
        affected.add(match.campaign_id)
    connection.execute(_LOCK_CAMPAIGNS, {"ids": sorted(affected)})
    return _Stopped(lead_ids, to_come)


def _stop(
    connection: sa.Connection, match: Match, reply_id: uuid.UUID, stop: StopOnReply, stopped: _Stopped
) -> tuple[int, list[uuid.UUID]]:
    """Skip the emails that the lead would still get. Returns how many, and their campaigns."""
    lead_ids, rows = stopped.lead_ids, scheduled_emails.c
    # The lock order is campaigns, leads, rows.
    _count(connection, match, reply_id)
    changes: dict[str, object] = {"last_responded_at": sa.func.timezone("UTC", sa.func.now())}
    if stop == "all":
        # A status that the team has set stays.
        undecided = leads.c.status.is_(None) | leads.c.status.in_(_STATUSES_BEFORE_REPLY)
        responded = sa.literal(LeadStatus.RESPONDED, leads.c.status.type)
        changes["status"] = sa.case((undecided, responded), else_=leads.c.status)
    in_order = sa.select(leads.c.id).where(leads.c.id.in_(lead_ids)).order_by(leads.c.id)
    connection.execute(in_order.with_for_update(key_share=True))
    connection.execute(sa.update(leads).where(leads.c.id.in_(lead_ids)).values(**changes, updated_at=sa.func.now()))
    skipped = connection.scalars(
        sa.update(scheduled_emails)
        .where(stopped.to_come)
        .values(status=ScheduledEmailStatus.SKIPPED, reason=Reason.REPLIED)
        .values(claim_token=None, lease_until=None, updated_at=sa.func.now())
        .returning(rows.campaign_id)
    ).all()
    return len(skipped), sorted(set(skipped))


def _count(connection: sa.Connection, match: Match, reply_id: uuid.UUID) -> None:
    """One more response, and one more email with a response if it had none before."""
    earlier = sa.exists().where(
        _stored.c.id != reply_id,
        _stored.c.automatic.is_(None),
        _stored.c.lead_id == match.lead_id,
        _stored.c.campaign_id == match.campaign_id,
        _stored.c.email_id.is_not_distinct_from(match.email_id),
    )
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == match.campaign_id)
        .values(
            # A count of the earlier application may be as large as its column allows.
            responses_received=sa.func.least(sa.func.coalesce(campaigns.c.responses_received, 0), 2**31 - 2) + 1,
            emails_replied_count=campaigns.c.emails_replied_count + sa.case((earlier, 0), else_=1),
            updated_at=sa.func.now(),
        )
    )
