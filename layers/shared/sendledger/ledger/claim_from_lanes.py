"""The statement that claims from campaigns with a sending policy, and the one that counts what could be claimed.

The part of a campaign is shared among its open lanes. What a sender may send goes to later steps before first ones, and
to the campaigns that it has sent least of today. Of new leads, a campaign gets no more than its caps leave.
"""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, has_lanes, may_send
from sendledger.policy.caps import place_in_turn_sql
from sendledger.policy.companies import COMPANIES, rows_by_company
from sendledger.policy.lanes import LANE_PARAMETERS, OPEN_LANES

_CLAIM = f"""
WITH lane AS MATERIALIZED ({OPEN_LANES} AND c.prepared_alone = :alone), {COMPANIES}, run AS MATERIALIZED (
    SELECT c.id, c.late_hold_until, {has_lanes("c")} AS has_lanes FROM campaigns c
    WHERE {may_send("c")} AND c.prepared_alone = :alone
      AND CASE WHEN {has_lanes("c")} THEN c.id IN (SELECT campaign_id FROM lane)
               ELSE EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = c.id AND {due("p", "c")}) END
    ORDER BY CASE WHEN :alone THEN c.sender_deaths END, random() LIMIT CASE WHEN :alone THEN 1 ELSE 1000 END
    FOR KEY SHARE OF c SKIP LOCKED
), in_turn AS (
    SELECT lane.*, {place_in_turn_sql("campaign_id")} AS tie,
           used + row_number() OVER (PARTITION BY sender_id, campaign_id, follow_up ORDER BY random()) AS turn
    FROM lane WHERE campaign_id IN (SELECT id FROM run)
), with_budget AS (
    SELECT * FROM (
        SELECT in_turn.*, row_number() OVER (PARTITION BY sender_id ORDER BY follow_up DESC, turn, tie) AS place
        FROM in_turn) placed
    WHERE sender_id IS NULL OR place <= remaining
), queue AS MATERIALIZED (
    SELECT run.id AS campaign_id, run.late_hold_until, w.lane, w.until, w.sender_id, w.follow_up, w.remaining, w.used,
           w.tie, w.new_leads, w.company_cap, coalesce(w.follow_up AND w.remaining < :batch, false) AS goes_first,
           row_number() OVER (PARTITION BY run.id ORDER BY w.follow_up DESC NULLS LAST, random()) AS place
    FROM run LEFT JOIN with_budget w ON w.campaign_id = run.id
    WHERE NOT run.has_lanes OR w.lane IS NOT NULL
    ORDER BY goes_first DESC, place, random() LIMIT :batch
), shared AS MATERIALIZED (
    SELECT queue.*,
           least(ceil(greatest(1, ceil(CAST(:batch AS numeric) / (SELECT count(DISTINCT campaign_id) FROM queue)))
                      / count(*) OVER (PARTITION BY campaign_id)), remaining, new_leads)::bigint AS share
    FROM queue
), found AS MATERIALIZED (
    SELECT due.id, due.company, q.campaign_id, q.until, q.sender_id, q.follow_up, q.remaining, q.used, q.tie,
           q.new_leads, q.company_cap,
           row_number() OVER (PARTITION BY q.campaign_id, q.follow_up ORDER BY due.id) AS place,
           row_number() OVER (PARTITION BY q.campaign_id, due.company ORDER BY due.id) AS place_in_company
    FROM shared q CROSS JOIN LATERAL (
        SELECT id, company FROM (
            SELECT e.id, CAST(NULL AS bigint) AS company FROM scheduled_emails e
            WHERE q.lane IS NULL AND e.campaign_id = q.campaign_id AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) whole_campaign
        UNION ALL
        SELECT id, company FROM (
            SELECT e.id, CAST(NULL AS bigint) AS company FROM scheduled_emails e
            WHERE q.company_cap IS NULL AND e.campaign_id = q.campaign_id AND e.lane = q.lane AND e.lane > 0
              AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) one_lane
        UNION ALL
        SELECT id, company FROM (
            {rows_by_company("q", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) lane_by_company
    ) due
), in_companies AS (
    SELECT found.*, row_number() OVER (PARTITION BY found.campaign_id, follow_up ORDER BY place) AS new_lead
    FROM found LEFT JOIN company_used u ON u.campaign_id = found.campaign_id AND u.company = found.company
    WHERE found.company IS NULL OR coalesce(u.used, 0) + place_in_company <= company_cap
), in_campaigns AS (
    SELECT in_companies.*,
           row_number() OVER (PARTITION BY campaign_id, sender_id, follow_up ORDER BY place) AS of_sender
    FROM in_companies WHERE new_leads IS NULL OR new_lead <= new_leads
), picked AS MATERIALIZED (
    SELECT id, until, sender_id, company, remaining, new_leads IS NOT NULL OR company_cap IS NOT NULL AS is_new FROM (
        SELECT in_campaigns.*,
               row_number() OVER (PARTITION BY sender_id ORDER BY follow_up DESC, used + of_sender, tie) AS turn
        FROM in_campaigns) placed
    WHERE sender_id IS NULL OR turn <= remaining
    ORDER BY place LIMIT :batch
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = least(now() + :lease, picked.until), updated_at = now(),
        sender_id = picked.sender_id, company = picked.company,
        sending_day = CASE WHEN picked.sender_id IS NOT NULL OR picked.is_new THEN CAST(:day AS date) END
    FROM picked WHERE e.id = picked.id
    RETURNING e.id, e.campaign_id, e.revision, e.workflow_step_number, e.lead_id, e.sender_id, e.variant,
              e.fallback_variant
)
"""


def claim_from_lanes(claimed: str) -> sa.TextClause:
    """The claim for campaigns with a sending policy, beside those without. `claimed` reads the claimed rows.

    The queue has no more lanes of a sender than that may send emails, and is limited, as rows of each of its lanes are
    locked. The lease ends before the lane closes or the day ends: the fence lets nothing through after that, and the
    sweep returns it.
    """
    order = " ORDER BY claimed.campaign_id, claimed.id"
    return sa.text(_CLAIM + claimed + order).bindparams(
        sa.bindparam("token", type_=sa.UUID),
        sa.bindparam("lease", type_=sa.Interval),
        sa.bindparam("batch", type_=sa.Integer),
        sa.bindparam("alone", type_=sa.Boolean),
        *LANE_PARAMETERS,
    )


COUNT_DUE = sa.text(f"""
    WITH lane AS MATERIALIZED ({OPEN_LANES}), {COMPANIES}
    SELECT count(*) FROM (
        SELECT FROM campaigns c CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND {due("e", "c")} LIMIT :limit) due
        WHERE {may_send("c")} AND NOT {has_lanes("c")}
        UNION ALL
        SELECT FROM lane JOIN campaigns c ON c.id = lane.campaign_id CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e
            WHERE lane.company_cap IS NULL AND e.campaign_id = lane.campaign_id AND e.lane = lane.lane AND e.lane > 0
              AND {due("e", "c")}
            LIMIT :limit) due
        UNION ALL
        SELECT FROM lane JOIN campaigns c ON c.id = lane.campaign_id CROSS JOIN LATERAL (
            {rows_by_company("lane", "c")} LIMIT :limit) due
        LIMIT :limit) bounded
""").bindparams(sa.bindparam("limit", type_=sa.Integer), *LANE_PARAMETERS)
"""How many emails could be claimed if none of them were locked, up to `limit`."""
