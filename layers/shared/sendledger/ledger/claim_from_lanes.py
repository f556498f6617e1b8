"""The statement that claims from campaigns with a sending policy, and the one that counts what could be claimed.

The part of a campaign is shared among the lanes that it is offered (policy/lane_queue.py). What a sender may send goes
to later steps before first ones, and to the campaigns that it has sent least of today. Of new leads, a campaign gets no
more than its caps leave.
"""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.ledger_rules import due, has_lanes, held_until, may_send, waits_in_lane
from sendledger.policy.companies import rows_by_company
from sendledger.policy.lanes import LANE_PARAMETERS, OPEN_LANES

# A claim of which no lane has a cap for each company does without that part: it plans in half the time. A campaign that
# has got such a cap since its lanes were found gives nothing.
_BY_COMPANY = f"UNION ALL {rows_by_company('q', 'q.share', lock=True)}"
_WITHOUT_COMPANIES = "AND (o.follow_up OR run.company_cap IS NULL)"
_CLAIM = f"""
WITH offered AS MATERIALIZED (
    SELECT o.*, CASE WHEN o.sender_id IS NOT NULL OR o.counted THEN least(o.until, CAST(:day_until AS timestamptz))
                     ELSE o.until END AS closes_at
    FROM json_to_recordset(CAST(:lanes AS json)) AS o (
        campaign_id uuid, lane smallint, sender_id uuid, follow_up boolean, schedule_id uuid, revision integer,
        until timestamptz, remaining bigint, used bigint, tie text, counted boolean, new_leads bigint)
    WHERE o.schedule_id IS NULL
       OR o.until > now() AND (o.schedule_id, o.revision) IN (SELECT s.id, s.revision FROM sending_schedules s)
), run AS MATERIALIZED (
    SELECT c.id, c.late_hold_until, c.sending_schedule_id, c.new_leads_per_company_per_day AS company_cap,
           {has_lanes("c")} AS has_lanes,
           coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NOT NULL AS counts_new_leads
    FROM campaigns c
    WHERE {may_send("c")} AND c.prepared_alone = :alone
      AND CASE WHEN {has_lanes("c")} THEN c.id IN (SELECT campaign_id FROM offered)
               ELSE EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = c.id AND {due("p", "c")}) END
    ORDER BY CASE WHEN :alone THEN c.sender_deaths END, random() LIMIT CASE WHEN :alone THEN 1 ELSE 1000 END
    FOR KEY SHARE OF c SKIP LOCKED
), queue AS MATERIALIZED (
    SELECT run.id AS campaign_id, {held_until("run", "l")} AS late_hold_until, o.lane, o.closes_at, o.sender_id,
           o.follow_up, o.remaining, o.used, o.tie, o.counted, o.new_leads,
           CASE WHEN NOT o.follow_up THEN run.company_cap END AS company_cap
    FROM run LEFT JOIN offered o
      ON run.has_lanes AND o.campaign_id = run.id AND o.schedule_id IS NOT DISTINCT FROM run.sending_schedule_id
         AND (o.follow_up OR o.counted OR NOT run.counts_new_leads) {{without_companies}}
    LEFT JOIN campaign_lanes l ON l.campaign_id = o.campaign_id AND l.lane = o.lane
    WHERE NOT run.has_lanes OR o.lane IS NOT NULL
), shared AS MATERIALIZED (
    SELECT queue.*,
           least(ceil(greatest(1, ceil(CAST(:batch AS numeric) / (SELECT count(DISTINCT campaign_id) FROM queue)))
                      / count(*) OVER (PARTITION BY campaign_id)), remaining, new_leads)::bigint AS share
    FROM queue
), found AS MATERIALIZED (
    SELECT due.id, due.company, due.used_by_company, q.*,
           count(*) OVER (PARTITION BY q.campaign_id, q.lane) < q.share AS is_last,
           row_number() OVER (PARTITION BY q.campaign_id, q.follow_up ORDER BY due.id) AS place,
           row_number() OVER (PARTITION BY q.campaign_id, due.company ORDER BY due.id) AS place_in_company
    FROM shared q CROSS JOIN LATERAL (
        SELECT id, CAST(NULL AS bigint) AS company, CAST(0 AS bigint) AS used_by_company FROM (
            SELECT e.id FROM scheduled_emails e
            WHERE q.lane IS NULL AND e.campaign_id = q.campaign_id AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) whole_campaign
        UNION ALL
        SELECT id, CAST(NULL AS bigint), CAST(0 AS bigint) FROM (
            SELECT e.id FROM scheduled_emails e
            WHERE q.company_cap IS NULL AND e.campaign_id = q.campaign_id AND e.lane = q.lane
              AND {waits_in_lane("e")}
              AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) one_lane
        {{by_company}}
    ) due
), in_companies AS (
    SELECT found.*, row_number() OVER (PARTITION BY campaign_id, follow_up ORDER BY place) AS new_lead
    FROM found WHERE company IS NULL OR used_by_company + place_in_company <= company_cap
), in_campaigns AS (
    SELECT in_companies.*,
           row_number() OVER (PARTITION BY campaign_id, sender_id, follow_up ORDER BY place) AS of_sender
    FROM in_companies WHERE new_leads IS NULL OR new_lead <= new_leads
), picked AS MATERIALIZED (
    SELECT id, lane, closes_at, sender_id, company, counted, is_last FROM (
        SELECT in_campaigns.*,
               row_number() OVER (PARTITION BY sender_id ORDER BY follow_up DESC, used + of_sender, tie) AS turn
        FROM in_campaigns) placed
    WHERE sender_id IS NULL OR turn <= remaining
    ORDER BY place LIMIT :batch
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = least(now() + :lease, picked.closes_at),
        updated_at = now(), sender_id = picked.sender_id, company = picked.company,
        sending_day = CASE WHEN picked.sender_id IS NOT NULL OR picked.counted THEN CAST(:day AS date) END
    FROM picked WHERE e.id = picked.id
    RETURNING e.id, e.campaign_id, e.revision, e.workflow_step_number, e.lead_id, e.sender_id, e.variant,
              e.fallback_variant, picked.lane, picked.is_last
)
"""


def claim_from_lanes(claimed: str, *, by_company: bool) -> sa.TextClause:
    """The claim for campaigns with a sending policy, beside those without. `claimed` reads the claimed rows.

    With `by_company` also from lanes of campaigns with a cap for each company.

    No more lanes are offered than the claim may take emails, as it locks rows of each of them. The lease ends before
    the lane closes or the day ends: the fence lets nothing through after that, and the sweep returns it.
    """
    order = " ORDER BY claimed.campaign_id, claimed.id"
    statement = _CLAIM.replace("{by_company}", _BY_COMPANY if by_company else "")
    statement = statement.replace("{without_companies}", "" if by_company else _WITHOUT_COMPANIES)
    return sa.text(statement + claimed + order).bindparams(
        sa.bindparam("token", type_=sa.UUID),
        sa.bindparam("lease", type_=sa.Interval),
        sa.bindparam("batch", type_=sa.Integer),
        sa.bindparam("alone", type_=sa.Boolean),
        sa.bindparam("lanes", type_=sa.Text),
        sa.bindparam("day", type_=sa.Date),
        sa.bindparam("day_until", type_=sa.TIMESTAMP(timezone=True)),
    )


COUNT_DUE = sa.text(f"""
    WITH lane AS MATERIALIZED ({OPEN_LANES})
    SELECT count(*) FROM (
        SELECT FROM campaigns c CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e WHERE e.campaign_id = c.id AND {due("e", "c")} LIMIT :limit) due
        WHERE {may_send("c")} AND NOT {has_lanes("c")}
        UNION ALL
        SELECT FROM lane CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e
            WHERE lane.company_cap IS NULL AND e.campaign_id = lane.campaign_id AND e.lane = lane.lane
              AND {waits_in_lane("e")}
              AND {due("e", "lane")}
            LIMIT :limit) due
        UNION ALL
        SELECT FROM lane CROSS JOIN LATERAL ({rows_by_company("lane", ":limit")}) due
        LIMIT :limit) bounded
""").bindparams(sa.bindparam("limit", type_=sa.Integer), *LANE_PARAMETERS)
"""How many emails could be claimed if none of them were locked, up to `limit`."""
