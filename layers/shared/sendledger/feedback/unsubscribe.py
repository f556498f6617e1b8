"""Opting out by the link in an email, and undoing it. The reference of the email goes in.

Reads `emails` and `leads` (the address that the email went to, and the one the lead has now) and `sender_addresses`
(whom it came from); writes `unsubscribes`
(what was asked, kept after the lead and the campaign are gone), `suppressions` and pending `scheduled_emails` (through
suppressions.py), `campaigns.emails_unsubscribed_count` and `audit_log`. The caller owns the transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.core import audit_log
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import (
    campaigns,
    emails,
    leads,
    past_contacts,
    scheduled_emails,
    sender_addresses,
    unsubscribes,
)
from sendledger.core.tables import suppressions as _suppressed
from sendledger.core.vocabulary import (
    AuditAction,
    DeliveryStatus,
    SuppressionReason,
    UnsubscribeMethod,
    UnsubscribeScope,
)
from sendledger.feedback import suppressions
from sendledger.feedback.suppressions import NewSuppression

RECIPIENT = "recipient"
"""The actor of what a recipient did."""


def opt_out(
    connection: sa.Connection, email: EmailReference, scope: UnsubscribeScope, method: UnsubscribeMethod
) -> bool:
    """Stop mail to the person who got this email, from its campaign or from all. Returns whether anything changed.

    Doing it again changes nothing, and a smaller scope than before does not undo anything. A deleted lead has no
    address left, and none is needed: the ledger has no mail for it any more.
    """
    _limit_to(connection, email.lead_id)
    campaign_id = email.campaign_id if scope == UnsubscribeScope.CAMPAIGN else None
    addresses = _addresses(connection, email)
    # Before the count, which would lock a campaign out of order.
    planned = suppressions.planned_rows(connection, addresses, campaign_id)
    suppressions.lock(connection, {email.campaign_id} | {of for _, of in planned}, {lead for lead, _ in planned})
    row = insert(unsubscribes).values(
        lead_id=email.lead_id,
        campaign_id=email.campaign_id,
        scheduled_email_id=email.scheduled_email_id,
        scope=scope,
        method=method,
    )
    one_campaign, everything = UnsubscribeScope.CAMPAIGN, UnsubscribeScope.EVERYTHING
    changed = connection.execute(
        row.on_conflict_do_update(
            index_elements=["lead_id", "campaign_id"],
            index_where=unsubscribes.c.undone_at.is_(None),
            set_={"scope": row.excluded.scope, "method": row.excluded.method},
            where=(unsubscribes.c.scope == one_campaign) & (row.excluded.scope == everything),
        ).returning((sa.literal_column("xmax") == sa.literal_column("'0'::xid")).label("is_new"))
    ).first()
    if changed is not None:
        if changed.is_new:
            _count(connection, [email.campaign_id], 1)
        detail = {"campaign_id": str(email.campaign_id), "scope": scope, "method": method}
        audit_log.record(connection, RECIPIENT, AuditAction.LEAD_UNSUBSCRIBE, "lead", email.lead_id, detail)
    # Also if nothing changed: the suppression may have been removed since.
    if campaign_id is None or _campaign_exists(connection, campaign_id):
        opted_out = [NewSuppression(address, SuppressionReason.UNSUBSCRIBE) for address in addresses]
        suppressions.suppress_all(connection, opted_out, RECIPIENT, campaign_id)
    return changed is not None


def sender_and_choice(connection: sa.Connection, email: EmailReference) -> tuple[str | None, bool]:
    """Whom the email came from, and whether there is something to undo.

    None stands for the deployment's own sender. The text is empty if the campaign has several senders, and the row that
    says which one it was is removed.
    """
    _limit_to(connection, email.lead_id)
    sender = (
        sa.select(
            sa.func.coalesce(
                sender_addresses.c.from_address,
                campaigns.c.from_address,
                sa.case((sa.func.cardinality(campaigns.c.sender_ids) > 0, "")),
            )
        )
        .select_from(
            campaigns.outerjoin(
                scheduled_emails,
                (scheduled_emails.c.campaign_id == campaigns.c.id)
                & (scheduled_emails.c.id == email.scheduled_email_id),
            ).outerjoin(sender_addresses, sender_addresses.c.id == scheduled_emails.c.sender_id)
        )
        .where(campaigns.c.id == email.campaign_id)
    )
    is_opted_out = sa.exists().where(_of_this_email_in_force(email))
    found = connection.execute(sa.select(sender.scalar_subquery(), is_opted_out)).one()
    return found[0], bool(found[1])


def is_suppressed(connection: sa.Connection, email: EmailReference) -> bool:
    """Whether the person would get no mail anyway: the address bounced, or a recipient complained about an email."""
    _limit_to(connection, email.lead_id)
    suppressed = sa.exists().where(
        _suppressed.c.value.in_(_addresses(connection, email)),
        _suppressed.c.removed_at.is_(None),
        _suppressed.c.campaign_id.is_(None) | (_suppressed.c.campaign_id == email.campaign_id),
    )
    return bool(connection.scalar(sa.select(suppressed)))


def undo(connection: sa.Connection, email: EmailReference) -> bool:
    """Undo opting out of this email's campaign and of everything. Returns whether there was anything to undo.

    Only suppressions by opting out are removed. An address that bounced or complained, or that the team had suppressed
    before, stays suppressed. Emails that were skipped meanwhile are not sent later.
    """
    _limit_to(connection, email.lead_id)
    in_force = connection.scalars(sa.select(unsubscribes.c.campaign_id).where(_of_this_email_in_force(email)))
    # As an opt-out does. Before the rows change, for which one that has locked the campaigns would wait.
    suppressions.lock(connection, {email.campaign_id, *in_force}, ())
    undone = connection.scalars(
        sa.update(unsubscribes)
        .where(_of_this_email_in_force(email))
        .values(undone_at=sa.func.now())
        .returning(unsubscribes.c.campaign_id)
    ).all()
    _count(connection, undone, -1)
    bounced = sa.exists(
        # Not SELECT *: the public function may not read all columns.
        sa.select(emails.c.lead_id).where(
            emails.c.lead_id == leads.c.id,
            sa.func.lower(leads.c.email) == _suppressed.c.value,
            emails.c.delivery_status.in_((DeliveryStatus.BOUNCED, DeliveryStatus.COMPLAINED)),
        )
    ) | sa.exists(
        # Of emails that retention has removed.
        sa.select(past_contacts.c.lead_id).where(
            past_contacts.c.lead_id == leads.c.id,
            sa.func.lower(leads.c.email) == _suppressed.c.value,
            past_contacts.c.bounced,
        )
    )
    removed = connection.execute(
        sa.update(_suppressed)
        .where(
            _suppressed.c.value.in_(_addresses(connection, email)),
            # created_by stays the first one when a stronger reason replaces the reason.
            (_suppressed.c.reason == SuppressionReason.UNSUBSCRIBE) & (_suppressed.c.created_by == RECIPIENT),
            _suppressed.c.removed_at.is_(None),
            _suppressed.c.campaign_id.is_(None) | (_suppressed.c.campaign_id == email.campaign_id),
            ~bounced,
        )
        .values(removed_at=sa.func.now(), removed_by=RECIPIENT, removal_reason="undone by the recipient")
    ).rowcount
    if undone or removed:
        detail = {"campaign_id": str(email.campaign_id)}
        audit_log.record(connection, RECIPIENT, AuditAction.LEAD_UNSUBSCRIBE_UNDO, "lead", email.lead_id, detail)
    return bool(undone or removed)


def _of_this_email_in_force(email: EmailReference) -> sa.ColumnElement[bool]:
    return sa.and_(
        unsubscribes.c.lead_id == email.lead_id,
        unsubscribes.c.undone_at.is_(None),
        # A choice in the list management of SES is valid until it is changed there.
        unsubscribes.c.method != UnsubscribeMethod.SES,
        (unsubscribes.c.campaign_id == email.campaign_id) | (unsubscribes.c.scope == UnsubscribeScope.EVERYTHING),
    )


def _limit_to(connection: sa.Connection, lead_id: uuid.UUID) -> None:
    """The public function's database user sees the rows of this lead only, until the transaction ends.

    migrations/database_roles.py has its rights; other users see what they always see.
    """
    connection.execute(sa.select(sa.func.set_config("sendledger.lead_id", str(lead_id), True)))


def _addresses(connection: sa.Connection, email: EmailReference) -> list[str]:
    """Where the email went, and where the lead's next one would go."""
    sent_to = sa.select(emails.c.to_address).where(
        emails.c.lead_id == email.lead_id, emails.c.scheduled_email_id == email.scheduled_email_id
    )
    now = sa.select(leads.c.email).where(leads.c.id == email.lead_id)
    addresses = connection.scalars(sent_to.union(now)).all()
    return sorted({address.strip().lower() for address in addresses if address and address.strip()})


def _campaign_exists(connection: sa.Connection, campaign_id: uuid.UUID) -> bool:
    return connection.scalar(sa.select(campaigns.c.id).where(campaigns.c.id == campaign_id)) is not None


def _count(connection: sa.Connection, campaign_ids: Sequence[uuid.UUID], change: int) -> None:
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id.in_(campaign_ids))
        .values(emails_unsubscribed_count=campaigns.c.emails_unsubscribed_count + change)
    )
