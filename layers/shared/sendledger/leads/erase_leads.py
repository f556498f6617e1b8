"""Erasure: all personal data of a lead is removed permanently. The ledger keeps anonymous rows.

A lead's id goes in. Writes `leads` (and every other lead with the same address: it is the same person), `emails`,
`email_events`, `replies`, `campaign_leads`, `past_contacts`, `scheduled_emails`, `left_out_leads`, `suppressions`,
`idempotency_keys` and `audit_log`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import still_planned
from sendledger.core.tables import (
    campaign_leads,
    campaigns,
    email_events,
    emails,
    idempotency_keys,
    leads,
    left_out_leads,
    past_contacts,
    replies,
    scheduled_emails,
    suppressions,
)
from sendledger.core.vocabulary import (
    AuditAction,
    ErrorCode,
    LeadStatus,
    Reason,
    ScheduledEmailStatus,
    SuppressionReason,
)
from sendledger.leads.import_leads import lock_addresses

KEPT_COLUMNS = frozenset({"id", "source", "source_type", "batch_id", "created_at"})
"""Columns of a lead that are kept. All others are emptied, also columns that are added later."""

KEPT_OF_EVENTS = ("bounce_type", "bounce_sub_type", "feedback_type")
"""Columns of events that counts need. A diagnostic text, a link or an IP address may identify a person."""

LONGEST_REQUEST = dt.timedelta(minutes=1)
"""How long after its start a request may store an answer: API Gateway ends it after 29 s."""

_ANSWER = (idempotency_keys.c.caller_id, idempotency_keys.c.key)


@dataclass(frozen=True)
class ErasedLead:
    """What an erasure did. The counts are 0 if it had been done before."""

    lead_id: UUID
    erased_at: dt.datetime
    leads_erased: int
    emails_erased: int
    replies_erased: int
    emails_skipped: int
    is_suppressed: bool
    """The address is kept, as a suppression and nowhere else."""


def erase(connection: sa.Connection, lead_id: UUID, actor: str, *, keep_suppressed: bool) -> ErasedLead:
    """Erase a lead in the caller's transaction. Its planned emails are skipped as `lead_erased`.

    With `keep_suppressed` the address stays as a suppression, so that it gets no mail even if it is imported again.
    Without it, its suppressions are removed too, and an import makes a new lead.

    Raises:
        NotFound: there is no such lead.
        Conflict: an email to it is on its way to SES.
    """
    person = _person(connection, lead_id)
    # Before anything is locked: there may be many, and no index finds them.
    answers = _answers_about(connection, person)
    # Prevents that another lead with this address is created meanwhile.
    lock_addresses(connection)
    if (now_known := _person(connection, lead_id)) != person:
        person = now_known
        answers |= _answers_about(connection, person)
    address, lead_ids = person
    skipped = _end_mail(connection, lead_id, lead_ids)
    emails_erased = _blank_emails(connection, lead_ids)
    by_the_lead: sa.ColumnElement[bool] = replies.c.lead_id.in_(lead_ids)
    if address:
        by_the_lead |= sa.func.lower(replies.c.from_address) == address
    replies_erased = connection.execute(sa.delete(replies).where(by_the_lead)).rowcount
    for table in (campaign_leads, past_contacts):
        connection.execute(sa.delete(table).where(table.c.lead_id.in_(lead_ids)))
    _blank_answers(connection, person, answers)
    is_suppressed = bool(address) and _keep_suppression(connection, address, actor, keep_suppressed)
    blank = {column.name: _blank(column) for column in leads.columns if column.name not in KEPT_COLUMNS}
    now = sa.func.now()
    changed = blank | {
        "status": LeadStatus.INVALID,
        "erased_at": sa.func.coalesce(leads.c.erased_at, now),
        "updated_at": now,
    }
    erased_at: dt.datetime = connection.scalars(
        sa.update(leads).where(leads.c.id.in_(lead_ids)).values(changed).returning(leads.c.erased_at)
    ).all()[0]
    done = ErasedLead(lead_id, erased_at, len(lead_ids), emails_erased, replies_erased, skipped, is_suppressed)
    for id_ in lead_ids:
        detail = {"emails_skipped": skipped, "keep_suppressed": keep_suppressed}
        audit_log.record(connection, actor, AuditAction.LEAD_ERASE, "lead", id_, detail)
    return done


def _person(connection: sa.Connection, lead_id: UUID) -> tuple[str, list[UUID]]:
    """The address of a lead, which may be empty, and all leads with it.

    Raises:
        NotFound: there is no such lead.
    """
    known = connection.execute(sa.select(leads.c.email).where(leads.c.id == lead_id)).one_or_none()
    if known is None:
        raise NotFound("lead", lead_id)
    address = (known.email or "").strip().lower()
    same_person: sa.ColumnElement[bool] = leads.c.id == lead_id
    if address:
        same_person |= sa.func.lower(leads.c.email) == address
    return address, list(connection.scalars(sa.select(leads.c.id).where(same_person).order_by(leads.c.id)))


def _end_mail(connection: sa.Connection, lead_id: UUID, lead_ids: list[UUID]) -> int:
    """Skip planned emails and remove the leads from the ledger. Returns how many emails were skipped."""
    rows = scheduled_emails.c
    still_to_come = rows.lead_id.in_(lead_ids) & sa.literal_column(still_planned("scheduled_emails"), sa.Boolean)
    # The order in which results are recorded: campaigns, leads, rows of the ledger. Events wait for the lock of their
    # campaign: those of an email that is recorded as sent lock no lead.
    connection.execute(
        sa.select(campaigns.c.id)
        .where(campaigns.c.id.in_(sa.select(rows.campaign_id).where(rows.lead_id.in_(lead_ids))))
        .order_by(campaigns.c.id)
        .with_for_update(read=True)
    )
    held = sa.select(leads.c.id).where(leads.c.id.in_(lead_ids)).order_by(leads.c.id).with_for_update()
    if lead_id not in connection.scalars(held).all():
        # It was deleted while this waited for the lock.
        raise NotFound("lead", lead_id)
    skipped = connection.execute(
        sa.update(scheduled_emails)
        .where(still_to_come)
        .values(status=ScheduledEmailStatus.SKIPPED, reason=Reason.LEAD_ERASED, updated_at=sa.func.now())
    ).rowcount
    on_its_way = (
        sa.select(rows.id).where(rows.lead_id.in_(lead_ids), rows.status == ScheduledEmailStatus.SENDING).limit(1)
    )
    if connection.execute(on_its_way).first() is not None:
        raise Conflict("An email to this lead is on its way; erase the lead in a few minutes.")
    connection.execute(
        sa.update(scheduled_emails)
        .where(rows.lead_id.in_(lead_ids))
        .values(
            lead_id=None,
            # Messages of SES may quote the address.
            failure_reason=None,
            # With another token no later event finds the row, also one of unknown outcome: a bounce would store the
            # address again, as a suppression. An operator can still settle the row.
            claim_token=sa.case((rows.error_code == ErrorCode.OUTCOME_UNKNOWN, sa.func.gen_random_uuid())),
            updated_at=sa.func.now(),
        )
    )
    connection.execute(sa.update(left_out_leads).where(left_out_leads.c.lead_id.in_(lead_ids)).values(lead_id=None))
    return skipped


def _blank_emails(connection: sa.Connection, lead_ids: list[UUID]) -> int:
    # Without its message id no later event finds the email, so personal data in events is dropped.
    blanked = connection.execute(
        sa.update(emails)
        .where(emails.c.lead_id.in_(lead_ids))
        .values(
            to_address=None,
            subject="",
            body_text="",
            body_html=None,
            error_message=None,
            external_id=None,
            metadata_=None,
        )
    ).rowcount
    kept = sa.func.jsonb_strip_nulls(
        sa.func.jsonb_build_object(
            *(part for name in KEPT_OF_EVENTS for part in (sa.literal_column(f"'{name}'"), email_events.c.detail[name]))
        ),
        type_=JSONB,
    )
    connection.execute(sa.update(email_events).where(email_events.c.lead_id.in_(lead_ids)).values(detail=kept))
    return blanked


def _mention(person: tuple[str, list[UUID]]) -> sa.ColumnElement[bool]:
    """Whether a stored answer contains the lead."""
    address, lead_ids = person
    body = sa.func.lower(idempotency_keys.c.answer["body"].astext)
    return sa.or_(*(sa.func.strpos(body, text) > 0 for text in filter(None, (address, *map(str, lead_ids)))))


def _answers_about(connection: sa.Connection, person: tuple[str, list[UUID]]) -> set[tuple[UUID, str]]:
    """The keys of stored answers for repeated requests that contain the lead; locks nothing."""
    found = connection.execute(sa.select(*_ANSWER).where(_mention(person)))
    return {(caller_id, key) for caller_id, key in found}


def _blank_answers(
    connection: sa.Connection, person: tuple[str, list[UUID]], answers: Collection[tuple[UUID, str]]
) -> None:
    """Remove these answers, and those that were stored since they were looked for: they are repeated without a body."""
    since = _mention(person) & (idempotency_keys.c.started_at > sa.func.now() - LONGEST_REQUEST)
    for which in (sa.tuple_(*_ANSWER).in_(answers), since):
        connection.execute(
            sa.update(idempotency_keys)
            .where(which)
            .values(answer=idempotency_keys.c.answer.op("||")(sa.literal({"body": ""}, JSONB)))
        )


def _keep_suppression(connection: sa.Connection, address: str, actor: str, keep: bool) -> bool:
    """Leave exactly one suppression of the address, from every campaign and without a note, or none."""
    of_address = suppressions.c.value == address
    wanted = of_address & suppressions.c.campaign_id.is_(None) & suppressions.c.removed_at.is_(None)
    connection.execute(sa.delete(suppressions).where(of_address & ~wanted if keep else of_address))
    if not keep:
        return False
    if connection.execute(sa.update(suppressions).where(wanted).values(note=None)).rowcount == 0:
        connection.execute(
            sa.insert(suppressions).values(value=address, reason=SuppressionReason.MANUAL, created_by=actor)
        )
    return True


def _blank(column: sa.Column[object]) -> object:
    if column.nullable:
        return sa.null()
    return ""
