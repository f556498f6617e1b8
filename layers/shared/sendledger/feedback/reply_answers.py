"""Answers to replies: a person's text in, one more scheduled email of the campaign out, which the next tick sends.

It passes the same claim, fence and record as every email, and counts like one. The steps of the campaign do not hold it
up, and what the lead has replied does not stop it; a suppression does. Reads `replies`, `emails` and `suppressions`;
writes `answers`, `scheduled_emails`, `campaign_steps` (a placeholder), `replies`, `campaigns` and `audit_log`.
"""

from __future__ import annotations

import re
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sendledger.campaigns.campaign_steps import write_steps
from sendledger.campaigns.campaigns import get_campaign
from sendledger.campaigns.removed_history import check_not_removed
from sendledger.campaigns.transitions import check_transition
from sendledger.content.email_thread import QuotedEmail, answer_subject, with_quote
from sendledger.content.render_email import MAX_SUBJECT, RenderedEmail
from sendledger.core import audit_log
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.ledger_rules import LAST_STEP, still_planned
from sendledger.core.tables import answers, campaigns, leads, replies, scheduled_emails
from sendledger.core.vocabulary import AuditAction, AutomaticKind, CampaignStatus, RemovalKind
from sendledger.feedback import suppressions

# The first email of the campaign to the lead that SES has given an id to, and what the rows of the lead have in common.
_EARLIER = sa.text("""
    SELECT (array_agg(e.ses_message_id ORDER BY e.workflow_step_number) FILTER (WHERE e.ses_message_id IS NOT NULL))[1]
               AS root_id,
           (array_agg(m.subject ORDER BY e.workflow_step_number) FILTER (WHERE m.subject <> ''))[1] AS subject,
           greatest(max(e.workflow_step_number), :last_step) + 1 AS next_step,
           -- That of later steps, which wait for no cap of new leads.
           coalesce((SELECT t.lane FROM campaign_lanes l JOIN campaign_lanes t ON t.campaign_id = l.campaign_id
                     WHERE l.campaign_id = :campaign_id AND l.lane = max(e.lane) AND t.follow_up
                       AND t.time_zone IS NOT DISTINCT FROM l.time_zone
                       AND t.sender_id IS NOT DISTINCT FROM l.sender_id), max(e.lane)) AS lane
    FROM scheduled_emails e LEFT JOIN emails m ON m.id = e.email_id
    WHERE e.lead_id = :lead_id AND e.campaign_id = :campaign_id
""").bindparams(sa.bindparam("lead_id", type_=sa.UUID), sa.bindparam("campaign_id", type_=sa.UUID))
_IN_HEADER = re.compile(r"<[!-;=?-~]{1,500}>")

# The ledger wants a step for each row. What is sent is in `answers`. A sender of a release before them would send the
# step: it cannot render this for any lead, so the row fails.
_UNSENT = "{{ custom_fields.sendledger_answer }}"
_ANSWERED = sa.text(f"""
    SELECT EXISTS (
        SELECT FROM answers a JOIN scheduled_emails e ON e.id = a.scheduled_email_id
        WHERE a.reply_id = :reply_id
          AND (e.status IN ('sending', 'sent') OR {still_planned("e")} OR e.error_code = 'outcome_unknown'))
""").bindparams(sa.bindparam("reply_id", type_=sa.UUID))
"""Whether a reply has an answer that has gone out, may have, or may still go."""


def answer(connection: sa.Connection, reply_id: uuid.UUID, text: str, actor: str, *, quote: bool) -> int:
    """Write an answer and mark the reply as handled; returns the id of the scheduled email. The caller commits.

    A campaign that was complete runs again until it is sent. An earlier answer that did not go out, and will not, is
    replaced.

    Raises:
        NotFound: there is no such reply.
        Conflict: it cannot be answered: it is no mail of a lead to a campaign, was answered before, the address is
            suppressed, or the campaign is neither running nor complete.
    """
    reply = connection.execute(sa.select(replies).where(replies.c.id == reply_id).with_for_update()).mappings().first()
    if reply is None:
        raise NotFound("reply", reply_id)
    ids = {"lead_id": reply["lead_id"], "campaign_id": reply["campaign_id"]}
    if None in ids.values():
        raise Conflict("This reply belongs to no lead or to no campaign, so it cannot be answered here.")
    if reply["automatic"] == AutomaticKind.DELIVERY_REPORT:
        raise Conflict("This is a report of a mail server; nobody would read an answer to it.")
    status = get_campaign(connection, reply["campaign_id"], lock=True)["status"]
    if status != CampaignStatus.RUNNING:
        if status == CampaignStatus.PAUSED:
            raise Conflict("The campaign is paused and sends nothing; resume it to answer.", status=status)
        status = check_transition("reopen", status)
        check_not_removed(connection, reply["campaign_id"], [RemovalKind.LEDGER])
    locked = sa.select(leads.c.id).where(leads.c.id == reply["lead_id"]).with_for_update(key_share=True)
    connection.execute(locked)
    if (reason := suppressions.reason_for(connection, ids["lead_id"], ids["campaign_id"])) is not None:
        raise Conflict("The address of the lead is suppressed: it gets no mail, and no answer either.", reason=reason)
    if connection.scalar(_ANSWERED, {"reply_id": reply_id}):
        raise Conflict("This reply was answered before.")
    row_id = _write(connection, reply, text, actor, quote=quote)
    connection.execute(
        sa.update(campaigns)
        .where(campaigns.c.id == reply["campaign_id"])
        .values(
            status=status,
            completed_at=None,
            emails_scheduled_count=campaigns.c.emails_scheduled_count + 1,
            updated_at=sa.func.now(),
        )
    )
    connection.execute(
        sa.update(replies).where(replies.c.id == reply_id).values(handled_at=sa.func.now(), handled_by=actor)
    )
    audit_log.record(connection, actor, AuditAction.REPLY_ANSWER, "reply", reply_id, {"scheduled_email_id": row_id})
    return row_id


def _write(connection: sa.Connection, reply: sa.RowMapping, text: str, actor: str, *, quote: bool) -> int:
    ids = {"lead_id": reply["lead_id"], "campaign_id": reply["campaign_id"]}
    earlier = connection.execute(_EARLIER, {**ids, "last_step": LAST_STEP}).one()
    subject = answer_subject(reply["subject"] or earlier.subject or "Your reply")[:MAX_SUBJECT]
    email = RenderedEmail(subject, text, None)
    if quote and reply["body_text"].strip():
        email = with_quote(email, QuotedEmail(reply["created_at"], reply["from_address"], reply["body_text"]))
    step = earlier.next_step or LAST_STEP + 1
    placeholder = {"step_number": step, "delay": sa.text("interval '0'"), "subject": _UNSENT, "body_text": _UNSENT}
    write_steps(connection, reply["campaign_id"], 1, [placeholder])
    row = {**ids, "workflow_step_number": step, "scheduled_for": sa.func.now(), "lane": earlier.lane or 0}
    inserted = sa.insert(scheduled_emails).values(row).returning(scheduled_emails.c.id)
    row_id = int(connection.execute(inserted).scalar_one())
    message_id = reply["message_id"] if reply["message_id"].startswith("<") else None
    written = {
        "scheduled_email_id": row_id,
        "subject": email.subject,
        "body_text": email.body_text,
        # Header values are ASCII, and at most 996 characters with their name.
        "in_reply_to": message_id if message_id and _IN_HEADER.fullmatch(message_id) else None,
        "root_id": earlier.root_id,
        "created_by": actor,
    }
    replaced = {**written, "created_at": sa.func.now()}
    connection.execute(
        insert(answers)
        .values(reply_id=reply["id"], **written)
        .on_conflict_do_update(index_elements=["reply_id"], set_=replaced)
    )
    return row_id
