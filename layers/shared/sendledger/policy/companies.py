"""The company of a lead, as a hash of the domain of its address: how many of a company got their first email today.

A first step has the company of its lead from the start on (`scheduled_emails.lead_company`; NULL for addresses at free
mail providers, whose users share none). It says nothing of a person, and a changed address changes no count.
"""

from __future__ import annotations

import functools

from sendledger.core.ledger_rules import due, is_open
from sendledger.policy.caps import free_mail_domains


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
