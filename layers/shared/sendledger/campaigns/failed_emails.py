"""Retrying failed emails: counting them, and putting them back.

Only emails that SES certainly did not accept are put back: never one of unknown outcome, never one to a suppressed
address. By default these are emails that SES refused or that had a temporary error. Emails that could not be composed,
or that crashed their sender, are put back only if their error codes are named. Reads `leads`, `suppressions`
and `answers`; writes `scheduled_emails`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.core.ledger_rules import address_of, is_answer, no_mail_for_lead, returned_reason, returned_status
from sendledger.core.vocabulary import ErrorCode, Reason, quoted

CAN_PASS = (ErrorCode.CANNOT_CONNECT, ErrorCode.CANNOT_SIGN, ErrorCode.BAD_CERTIFICATE)
_NOT_BY_DEFAULT = tuple(code for code in ErrorCode if code not in CAN_PASS)

# A deleted lead gets no mail, nor does one that was taken out of the campaign. An answer that another one has replaced
# stays as it is. A CASE because of the planner: with old statistics it would look through all ended rows for each one.
_RETRYABLE = f"""
    e.campaign_id = :campaign_id AND e.status = 'failed' AND e.failed_at IS NOT NULL
    AND e.error_code <> '{ErrorCode.OUTCOME_UNKNOWN}'
    AND CASE WHEN CAST(:codes AS text[]) IS NULL THEN e.error_code NOT IN ({quoted(_NOT_BY_DEFAULT)})
             ELSE e.error_code = ANY(:codes) END
    AND EXISTS (SELECT FROM leads l WHERE l.id = e.lead_id AND CASE
        {no_mail_for_lead("l", address_of("l"), "e.campaign_id", is_answer("e"))} END IS NULL)
    AND NOT EXISTS (SELECT FROM scheduled_emails r WHERE r.lead_id = e.lead_id AND r.campaign_id = e.campaign_id
                    AND CASE r.reason WHEN '{Reason.LEAD_REMOVED}' THEN true END)
    AND (NOT {is_answer("e")} OR EXISTS (SELECT FROM answers a WHERE a.scheduled_email_id = e.id))
"""
_COUNT = sa.text(f"SELECT e.error_code, count(*) FROM scheduled_emails e WHERE {_RETRYABLE} GROUP BY 1")
# The lead's later steps were skipped because of this one. In a lane they are behind it again. The fence keeps the gaps
# between the steps.
_PUT_BACK = sa.text(f"""
WITH c AS (
    SELECT {returned_status("campaigns")} AS status, {returned_reason("campaigns")} AS reason
    FROM campaigns WHERE id = :campaign_id
), chunk AS MATERIALIZED (
    SELECT e.id, e.failed_at, e.lead_id, e.workflow_step_number FROM scheduled_emails e
    WHERE {_RETRYABLE} AND (e.failed_at, e.id) > (coalesce(:after_failed_at, '-infinity'), :after_id)
    ORDER BY e.campaign_id, e.failed_at, e.id LIMIT :limit FOR UPDATE OF e
), back AS (
    UPDATE scheduled_emails e
    SET status = c.status, reason = c.reason, error_code = NULL, failure_reason = NULL, failed_at = NULL,
        retry_count = 0, claim_token = NULL, lease_until = NULL, send_started_at = NULL, updated_at = now()
    FROM chunk CROSS JOIN c WHERE e.id = chunk.id
), later AS (
    UPDATE scheduled_emails n
    SET status = c.status, reason = c.reason, is_behind = CASE WHEN n.lane > 0 THEN true END, updated_at = now()
    FROM chunk CROSS JOIN c
    WHERE n.lead_id = chunk.lead_id AND n.campaign_id = :campaign_id
      AND n.workflow_step_number > chunk.workflow_step_number
      AND n.status = 'skipped' AND n.reason = 'previous_step_failed'
)
SELECT failed_at, id, count(*) OVER () FROM chunk ORDER BY failed_at DESC, id DESC LIMIT 1
""").bindparams(
    sa.bindparam("after_failed_at", type_=sa.TIMESTAMP(timezone=True)), sa.bindparam("after_id", type_=sa.BigInteger)
)


@dataclass(frozen=True)
class FailedEmails:
    """Failed emails that can be put back, by error code."""

    emails: int
    by_error_code: dict[str, int]


def count_failed(connection: sa.Connection, campaign_id: uuid.UUID, codes: Sequence[str] | None) -> FailedEmails:
    """What `put_back` would put back of a campaign."""
    rows = connection.execute(_typed(_COUNT), {"campaign_id": campaign_id, "codes": codes})
    by_code = {code: count for code, count in rows}  # noqa: C416 (rows are no pairs)
    return FailedEmails(sum(by_code.values()), by_code)


def put_back(
    connection: sa.Connection, campaign_id: uuid.UUID, work: Mapping[str, Any], limit: int
) -> tuple[int, list[Any]]:
    """Put back up to `limit` failed emails and their leads' later steps.

    Returns the number of failed emails, and the time and id of the last one: the next chunk begins behind it, so that
    what cannot be put back is read once. The caller has locked the campaign, and subtracts the number from its counter
    of failed emails.
    """
    after = work.get("after", [None, 0])
    failed_at = dt.datetime.fromisoformat(after[0]) if after[0] is not None else None
    parameters = {"campaign_id": campaign_id, "codes": work["codes"], "limit": limit}
    parameters |= {"after_failed_at": failed_at, "after_id": after[1]}
    found = connection.execute(_typed(_PUT_BACK), parameters).one_or_none()
    return (found[2], [found[0].isoformat(), found[1]]) if found is not None else (0, after)


def _typed(statement: sa.TextClause) -> sa.TextClause:
    return statement.bindparams(
        sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("codes", type_=sa.ARRAY(sa.Text))
    )
