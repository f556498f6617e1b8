"""Threads: scheduled emails that go out as answers in, the emails that they answer out.

The parent is the lead's newest email of the campaign that SES has given an id to: one of unknown outcome has no id and
is not used. The root is the email that began the thread of the parent. Reads `scheduled_emails`, `campaign_steps` and
`emails`, whose subject is as it was sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.content.email_thread import answer_subject
from sendledger.core.ledger_rules import is_step_of, still_planned


@dataclass(frozen=True)
class EmailThread:
    """What an answer needs of the emails before it. `parent_text` is empty where it is not quoted."""

    root_id: str
    parent_id: str
    subject: str
    parent_text: str
    parent_sent_at: dt.datetime


class NotYet:
    """An earlier step may still go out, so it is not known yet what the email answers."""


NOT_YET = NotYet()

_HAS_GONE_OUT = "p.status = 'sent' AND p.ses_message_id IS NOT NULL AND p.email_id IS NOT NULL"

# What began the thread is the newest step up to the parent that is in no thread, or the first one that went out. The
# steps are found in one look at the lead's rows. Their rows are then fetched by subqueries that find one row each: for
# plain joins the planner may scan all rows.
_THREADS = sa.text(f"""
SELECT e.id, earlier.is_open, parent.ses_message_id AS parent_id, parent.sent_at, parent.subject, parent.parent_text,
       CASE WHEN earlier.root_step = earlier.parent_step THEN parent.ses_message_id ELSE
           (SELECT root.ses_message_id FROM scheduled_emails root
            WHERE root.lead_id = e.lead_id AND root.campaign_id = e.campaign_id
              AND root.workflow_step_number = earlier.root_step) END AS root_id
FROM scheduled_emails e
JOIN campaign_steps own ON {is_step_of("own", "e")}
CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(p.status = 'sending' OR {still_planned("p")}), false) AS is_open,
           max(p.workflow_step_number) FILTER (WHERE {_HAS_GONE_OUT}) AS parent_step,
           coalesce(max(p.workflow_step_number) FILTER (WHERE {_HAS_GONE_OUT} AND NOT s.in_thread),
                    min(p.workflow_step_number) FILTER (WHERE {_HAS_GONE_OUT})) AS root_step
    FROM scheduled_emails p
    JOIN campaign_steps s ON {is_step_of("s", "p")}
    WHERE p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id AND p.workflow_step_number < e.workflow_step_number
) earlier
LEFT JOIN LATERAL (
    SELECT p.ses_message_id, p.sent_at, m.subject, CASE WHEN own.quote THEN m.body_text ELSE '' END AS parent_text
    FROM scheduled_emails p JOIN emails m ON m.id = p.email_id
    WHERE p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id AND p.workflow_step_number = earlier.parent_step
    LIMIT 1
) parent ON true
WHERE e.id = ANY(:ids) AND own.in_thread
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger)))


def find_threads(connection: sa.Connection, scheduled_email_ids: Collection[int]) -> dict[int, EmailThread | NotYet]:
    """The thread of each of these that continues one, in one statement; what is missing begins a new one."""
    found: dict[int, EmailThread | NotYet] = {}
    for row in connection.execute(_THREADS, {"ids": list(scheduled_email_ids)}):
        if row.is_open:
            found[row.id] = NOT_YET
        elif row.parent_id is not None:
            subject = answer_subject(row.subject)
            found[row.id] = EmailThread(row.root_id, row.parent_id, subject, row.parent_text or "", row.sent_at)
    return found
