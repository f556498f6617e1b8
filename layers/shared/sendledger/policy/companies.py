"""The company of a lead, as a hash of the domain of its address: how many of a company got their first email today.

A first step has the company of its lead from the start on (`scheduled_emails.lead_company`; NULL for addresses at free
mail providers, whose users share none). It says nothing of a person, and a changed address changes no count. Claims
count companies only while their campaign has a cap for each of them: most have none, and each company would be a row of
`cap_uses`. Reads `emails`; reads and writes `scheduled_emails` and `cap_uses`.
"""

from __future__ import annotations

import functools
import uuid

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, is_open, is_sending
from sendledger.policy.caps import SendingDay, free_mail_domains

_NOBODY = "CAST('00000000-0000-0000-0000-000000000000' AS uuid)"
# What went today is found by indexes, however large the campaign is. Nothing is taken away from what counts: an email
# that was queued again after an unknown outcome counts twice. What is being sent notes its company, as its return
# subtracts it.
_COUNT_AGAIN = sa.text(f"""
    WITH went AS MATERIALIZED (
        SELECT e.id, coalesce(e.sender_id, {_NOBODY}) AS sender_id, coalesce(e.lead_company, 0) AS company
        FROM (
            SELECT m.scheduled_email_id AS id FROM emails m
            WHERE m.campaign_id = :campaign_id AND m.sent_at >= CAST(:since AS timestamptz) AT TIME ZONE 'UTC'
            UNION
            SELECT s.id FROM scheduled_emails s WHERE s.campaign_id = :campaign_id AND {is_sending("s")}
            UNION
            SELECT u.id FROM scheduled_emails u
            WHERE u.campaign_id = :campaign_id AND u.failed_at >= :since AND u.error_code = 'outcome_unknown'
        ) found JOIN scheduled_emails e ON e.id = found.id
        WHERE e.campaign_id = :campaign_id AND e.workflow_step_number = 1 AND coalesce(e.sending_day, :day) = :day
    ), noted AS (
        UPDATE scheduled_emails e SET sending_day = :day, company = e.lead_company
        FROM went WHERE e.id = went.id AND e.status = 'sending'
    ), counts AS (
        SELECT sender_id, company, coalesce(w.n, 0) AS went, coalesce(c.n, 0) AS counted
        FROM (SELECT sender_id, company, count(*) AS n FROM went GROUP BY 1, 2) w
        FULL JOIN (SELECT sender_id, company, sum(count) AS n FROM cap_uses
                   WHERE campaign_id = :campaign_id AND day = :day AND is_first GROUP BY 1, 2) c
        USING (sender_id, company)
    ), known AS (
        SELECT counts.*, coalesce(sum(greatest(went - counted, 0)) FILTER (WHERE company <> 0)
                                  OVER (PARTITION BY sender_id), 0) AS moved
        FROM counts
    )
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count)
    SELECT sender_id, :campaign_id, :day, true, company, more FROM (
        SELECT sender_id, company,
               CASE company WHEN 0 THEN greatest(went, counted - moved) - counted
                            ELSE greatest(went - counted, 0) END AS more
        FROM known) changes
    WHERE more <> 0
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("day", type_=sa.Date),
    sa.bindparam("since", type_=sa.TIMESTAMP(timezone=True)),
)


def company_sql(address: str) -> str:
    """The company of an address as a hash, NULL where it has none. With the parameter `free_mail`."""
    domain = f"split_part({address}, '@', 2)"
    return f"""
        CASE WHEN {domain} <> '' AND {domain} NOT IN (SELECT unnest(string_to_array(:free_mail, ',')))
             THEN hashtextextended({domain}, 0) END
    """


@functools.cache
def free_mail() -> str:
    """The parameter of `company_sql`."""
    return ",".join(sorted(free_mail_domains()))


def count_new_leads_of_day(connection: sa.Connection, campaign_id: uuid.UUID, day: SendingDay) -> None:
    """Count the new leads that a campaign wrote to on this day before it got a cap, by company.

    The caller has locked the campaign against senders. A repetition changes nothing.
    """
    connection.execute(_COUNT_AGAIN, {"campaign_id": campaign_id, "day": day.date, "since": day.starts_at})


def rows_by_company(lane: str, most: str, *, lock: bool = False) -> str:
    """Due emails of a lane with a `company_cap`, `most` of each kind: to no company, and to companies with some left.

    The lane has a `late_hold_until`, too. With the parameter `day`. It goes from one company to the next, in the order
    of their hashes, from a random one on. A company that has used up its cap costs one look, however many emails wait
    for it.
    """
    own = f"e.campaign_id = {lane}.campaign_id AND e.lane = {lane}.lane AND e.lane > 0 AND e.workflow_step_number = 1"
    company = "coalesce(e.lead_company, 0)"
    locked = "FOR UPDATE OF e SKIP LOCKED" if lock else ""

    end = "CASE WHEN w.wrapped THEN w.start ELSE 9223372036854775807 END"

    def first(columns: str, condition: str) -> str:
        return f"""(SELECT {company}, {columns} FROM scheduled_emails e
                    WHERE {own} AND {is_open("e")} AND {condition} ORDER BY {company} LIMIT 1)"""

    state = f"""
        LATERAL (SELECT coalesce(sum(u.count), 0) AS used FROM cap_uses u
                 WHERE u.campaign_id = {lane}.campaign_id AND u.day = :day AND u.is_first AND u.company = n.company) s
        CROSS JOIN LATERAL (SELECT n.company <> 0 AND s.used < {lane}.company_cap AND EXISTS (
            SELECT FROM scheduled_emails e
            WHERE {own} AND {company} = n.company AND {due("e", lane)}) AS has_some) h
    """
    return f"""
        SELECT id, CAST(NULL AS bigint) AS company, CAST(0 AS bigint) AS used_by_company FROM (
            SELECT e.id FROM scheduled_emails e
            WHERE {lane}.company_cap IS NOT NULL AND {own} AND {company} = 0 AND {due("e", lane)}
            ORDER BY e.scheduled_for, e.id LIMIT {most} {locked}) without_company
        UNION ALL
        SELECT id, company, used_by_company FROM (
            WITH RECURSIVE walk (start, company, wrapped, used, has_some, found) AS (
                SELECT r.start, n.company, n.wrapped, s.used, h.has_some, CAST(h.has_some AS int)
                FROM (SELECT hashtextextended(random()::text, 0) AS start OFFSET 0) r CROSS JOIN LATERAL (
                    {first("false", f"{company} >= r.start")} UNION ALL
                    {first("true", f"{company} < r.start")} LIMIT 1) n (company, wrapped)
                CROSS JOIN {state}
                WHERE {lane}.company_cap IS NOT NULL
                UNION ALL
                SELECT w.start, n.company, n.wrapped, s.used, h.has_some, w.found + CAST(h.has_some AS int)
                FROM walk w CROSS JOIN LATERAL (
                    {first("w.wrapped", f"{company} > w.company AND {company} < {end}")} UNION ALL
                    {first("true", f"NOT w.wrapped AND {company} < w.start")} LIMIT 1) n (company, wrapped)
                CROSS JOIN {state}
                WHERE w.found < {most}
            )
            SELECT picked.id, walk.company, CAST(walk.used AS bigint) AS used_by_company
            FROM walk CROSS JOIN LATERAL (
                SELECT e.id FROM scheduled_emails e
                WHERE {own} AND {company} = walk.company AND {due("e", lane)}
                ORDER BY e.scheduled_for, e.id
                LIMIT CAST({lane}.company_cap - walk.used AS bigint) {locked}) picked
            WHERE walk.has_some LIMIT {most}) of_companies
    """
