"""Finding what a reply answers: the email whose token is in the address that it was sent to, else the email that it
refers to (In-Reply-To, References), else the latest email to the address that it comes from.

A reply goes in, the lead, campaign and email come out. Reads `scheduled_emails`, `emails`, `leads`, `campaigns` and
`past_contacts`.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.core.signed_tokens import REPLY_PREFIX, TokenKeys
from sendledger.core.tables import campaigns, emails, leads, past_contacts, scheduled_emails
from sendledger.core.vocabulary import ReplyMatch
from sendledger.feedback.read_reply import ReadReply

RECENT = dt.timedelta(days=90)
"""How old the latest email may be, if only the sender's address connects a message with it."""

# SES makes the Message-ID from the id in its answer and a domain that it does not document. The id alone is unique.
# https://docs.aws.amazon.com/ses/latest/dg/header-fields.html
_SES_MESSAGE_ID = re.compile(r"<([^@<>]+)@[a-z0-9.-]+>", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """The email that was answered; parts of it may have been deleted since."""

    by: ReplyMatch
    lead_id: uuid.UUID
    campaign_id: uuid.UUID | None
    email_id: uuid.UUID | None


def find_answered(connection: sa.Connection, reply: ReadReply, keys: TokenKeys | None) -> Match | None:
    """What a reply answers; None if it is no answer to one of our emails."""
    answers_ours = False
    for address in reply.to_addresses if keys is not None else ():
        local = address.rpartition("@")[0]
        scheduled_email_id = keys and keys.read_reply_token(local.removeprefix(REPLY_PREFIX))
        if scheduled_email_id is not None:
            answers_ours = True
            row = connection.execute(
                sa.select(
                    scheduled_emails.c.lead_id, scheduled_emails.c.campaign_id, scheduled_emails.c.email_id
                ).where(scheduled_emails.c.id == scheduled_email_id, scheduled_emails.c.lead_id.is_not(None))
            ).first()
            if row is not None:
                return Match(ReplyMatch.TOKEN, *row)
    email = sa.select(emails.c.lead_id, emails.c.campaign_id, emails.c.id).order_by(emails.c.sent_at.desc()).limit(1)
    message_ids = [found[1] for referred in reply.referred_ids if (found := _SES_MESSAGE_ID.fullmatch(referred))]
    if message_ids:
        row = connection.execute(email.where(emails.c.external_id.in_(message_ids))).first()
        if row is not None:
            return Match(ReplyMatch.MESSAGE_ID, *row)
    if reply.from_address:
        row = connection.execute(
            email.join(leads, leads.c.id == emails.c.lead_id).where(
                sa.func.lower(leads.c.email) == reply.from_address,
                emails.c.sent_at > sa.func.timezone("UTC", sa.func.now() - sa.literal(RECENT, sa.Interval)),
            )
        ).first()
        if row is not None:
            return Match(ReplyMatch.ADDRESS, *row)
    if reply.from_address and (answers_ours or message_ids):
        # It answers an email, and retention may have removed that one.
        contact = (
            sa.select(past_contacts.c.lead_id, past_contacts.c.campaign_id)
            .join(leads, leads.c.id == past_contacts.c.lead_id)
            .join(campaigns, campaigns.c.id == past_contacts.c.campaign_id)
            .where(sa.func.lower(leads.c.email) == reply.from_address, past_contacts.c.received)
            .order_by(past_contacts.c.last_sent_at.desc().nulls_last())
        )
        if (known := connection.execute(contact.limit(1)).first()) is not None:
            return Match(ReplyMatch.ADDRESS, *known, None)
    return None


def is_erased(connection: sa.Connection, match: Match) -> bool:
    """Whether the lead was erased meanwhile, which ends what is known of its emails. If not, an erasure waits from now
    on.

    The lock is the one that a reply with this lead takes anyway.
    """
    lead = sa.select(leads.c.erased_at).where(leads.c.id == match.lead_id).with_for_update(read=True, key_share=True)
    return connection.scalar(lead) is not None
