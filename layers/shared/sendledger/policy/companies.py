"""The company of a lead, as a hash of the domain of its address: how many of a company got their first email today.

The hash is stored when an email is claimed. It says nothing of a person, and a changed address changes no count.
"""

from __future__ import annotations

import functools

from sendledger.core.ledger_rules import address_of, due
from sendledger.policy.budgets import SPENT
from sendledger.policy.caps import free_mail_domains

COMPANIES = f"""
    company_used AS MATERIALIZED (
        SELECT s.campaign_id, s.company, count(*) AS used FROM {SPENT} s
        WHERE s.campaign_id = ANY(ARRAY(SELECT campaign_id FROM lane WHERE company_cap IS NOT NULL))
          AND s.workflow_step_number = 1 AND s.company IS NOT NULL
        GROUP BY 1, 2
    ), full_company AS MATERIALIZED (
        SELECT u.campaign_id, u.company FROM company_used u JOIN campaigns c ON c.id = u.campaign_id
        WHERE u.used >= c.new_leads_per_company_per_day
    )
"""
"""The companies of campaigns in a CTE `lane` with a `company_cap`, and those that have used it up; with `day`."""


def company_sql(address: str) -> str:
    """The company of an address as a hash; NULL for free mail providers, whose users share none. With `free_mail`."""
    domain = f"split_part({address}, '@', 2)"
    return f"""
        CASE WHEN {domain} <> '' AND {domain} NOT IN (SELECT unnest(string_to_array(:free_mail, ',')))
             THEN hashtextextended({domain}, 0) END
    """


@functools.cache
def free_mail() -> str:
    """The parameter of `company_sql`."""
    return ",".join(sorted(free_mail_domains()))


def rows_by_company(lane: str, campaign: str) -> str:
    """Due emails of a lane with a cap for each company, without those of companies that have used it up."""
    return f"""
        SELECT e.id, k.company FROM scheduled_emails e LEFT JOIN leads l ON l.id = e.lead_id
        CROSS JOIN LATERAL (SELECT {company_sql(address_of("l"))} AS company OFFSET 0) k
        WHERE {lane}.company_cap IS NOT NULL AND e.campaign_id = {lane}.campaign_id AND e.lane = {lane}.lane
          AND e.lane > 0 AND {due("e", campaign)}
          AND (k.company IS NULL OR (e.campaign_id, k.company) NOT IN (SELECT campaign_id, company FROM full_company))
    """
