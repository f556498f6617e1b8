"""The statement that claims from campaigns with a sending policy, and the one that counts what could be claimed.

The part of a campaign is shared among the lanes that it is offered (policy/lane_queue.py); a lane that takes turns at a
cap gives as many as it has turns. Where campaigns with lanes take turns, one gets the part of those that wait, too. A
part of less than an email is the chance of one. What a sender may send goes to the campaigns that it has sent least of
today, and to each zone in turn; where that is little, it is offered no lanes of first steps beside later ones. Of new
leads, a campaign gets no more than its caps leave, from each of its senders in turn.
"""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.core.ledger_rules import due, has_lanes, held_until, may_send, waits_in_lane
from sendledger.policy.companies import rows_by_company
from sendledger.policy.lane_queue import OFFERED, Limits
from sendledger.policy.lanes import LANE_PARAMETERS, OPEN_LANES

MOST = 1000
"""Emails of one claim, at most."""

# A claim of which no lane has a cap for each company does without that part: it plans in half the time. A campaign that
# has got such a cap since its lanes were found gives nothing. One that can reach no cap sorts what it finds once.
_BY_COMPANY = f"""UNION ALL
        SELECT id, company, used_by_company, CAST(NULL AS timestamptz)
        FROM ({rows_by_company("q", "q.share", lock=True)}) by_company"""
_WITHOUT_COMPANIES = "AND (o.follow_up OR run.company_cap IS NULL)"
_CLAIM = f"""
WITH offered AS MATERIALIZED (
    SELECT offer.number AS offer, offer.turns, offer.zone_place, offer.given, offer.given_by_sender,
           l.campaign_id, l.lane, l.sender_id, l.follow_up, l.late_hold_until,
           z.schedule_id, b.remaining, b.tie AS sender_tie, u.used, u.tie,
           n.campaign_id IS NOT NULL AS counted, n.remaining AS new_leads,
           CASE WHEN l.sender_id IS NOT NULL OR n.campaign_id IS NOT NULL
                THEN least(z.until, CAST(:day_until AS timestamptz)) ELSE z.until END AS closes_at
    FROM {OFFERED.table} JOIN campaign_lanes l ON l.campaign_id = offer.campaign_id AND l.lane = offer.lane
    LEFT JOIN json_to_recordset(CAST(:zones AS json))
        AS z (number integer, schedule_id uuid, revision integer, until timestamptz) ON z.number = offer.zone
    LEFT JOIN json_to_recordset(CAST(:senders AS json))
        AS b (sender_id uuid, remaining bigint, tie text) ON b.sender_id = l.sender_id
    LEFT JOIN json_to_recordset(CAST(:uses AS json)) AS u (sender_id uuid, campaign_id uuid, used bigint, tie text)
        ON u.sender_id = l.sender_id AND u.campaign_id = l.campaign_id
    LEFT JOIN json_to_recordset(CAST(:new_leads AS json)) AS n (campaign_id uuid, remaining bigint)
        ON n.campaign_id = l.campaign_id AND NOT l.follow_up
    WHERE (l.sender_id IS NULL OR b.sender_id IS NOT NULL)
      AND (offer.zone = 0
           OR z.until > now() AND (z.schedule_id, z.revision) IN (SELECT s.id, s.revision FROM sending_schedules s))
), run AS MATERIALIZED (
    SELECT c.id, c.late_hold_until, c.sending_schedule_id, c.new_leads_per_company_per_day AS company_cap,
           {has_lanes("c")} AS has_lanes,
           coalesce(c.new_leads_per_day, c.new_leads_per_company_per_day) IS NOT NULL AS counts_new_leads
    FROM campaigns c
    WHERE {may_send("c")} AND c.prepared_alone = {{alone}}
      AND CASE WHEN {has_lanes("c")} THEN c.id IN (SELECT campaign_id FROM offered)
               ELSE EXISTS (SELECT FROM scheduled_emails p WHERE p.campaign_id = c.id AND {due("p", "c")}) END
    ORDER BY {{in_order}}
    FOR KEY SHARE OF c SKIP LOCKED
), queue AS MATERIALIZED (
    SELECT run.id AS campaign_id, {held_until("run", "o")} AS late_hold_until, o.offer, o.lane, o.closes_at,
           o.turns, o.zone_place, o.given, o.given_by_sender, o.sender_id, o.follow_up, o.remaining, o.sender_tie,
           o.used, o.tie, o.counted, o.new_leads,
           CASE WHEN NOT o.follow_up THEN run.company_cap END AS company_cap
    FROM run LEFT JOIN offered o
      ON run.has_lanes AND o.campaign_id = run.id AND o.schedule_id IS NOT DISTINCT FROM run.sending_schedule_id
         AND (o.follow_up OR o.counted OR NOT run.counts_new_leads) {{without_companies}}
    WHERE NOT run.has_lanes OR o.lane IS NOT NULL
), parts AS MATERIALIZED (
    SELECT CAST(:batch AS double precision) / nullif(plain + sharing, 0) AS of_plain,
           CAST(:batch AS double precision) * sharing / nullif((plain + sharing) * offered, 0) AS of_offered
    FROM (
        SELECT plain, offered, CASE WHEN offered > 0 THEN greatest(offered, :sharing) ELSE 0 END AS sharing
        FROM (SELECT count(DISTINCT campaign_id) FILTER (WHERE lane IS NULL) AS plain,
                     count(DISTINCT campaign_id) FILTER (WHERE lane IS NOT NULL) AS offered FROM queue) kinds
    ) campaigns
), shared AS MATERIALIZED (
    -- One more than a lane that takes turns may give: so it is known whether it has more.
    SELECT parted.*, coalesce(turns + 1, least(ceil(part_of_lane), remaining, new_leads)::bigint) AS share
           {{part_of_sender}}
    FROM (
        SELECT queue.*, part, part / count(*) OVER (PARTITION BY queue.campaign_id) AS part_of_lane
        FROM queue CROSS JOIN parts
        CROSS JOIN LATERAL (SELECT CASE WHEN lane IS NULL THEN of_plain ELSE of_offered END) own (part)
    ) parted
), found AS MATERIALIZED (
    SELECT due.id, due.company, due.used_by_company, q.*,
           count(*) OVER (PARTITION BY q.campaign_id, q.lane) AS in_lane, {{places}}
    FROM shared q CROSS JOIN LATERAL (
        SELECT id, CAST(NULL AS bigint) AS company, CAST(0 AS bigint) AS used_by_company, scheduled_for FROM (
            SELECT e.id, e.scheduled_for FROM scheduled_emails e
            WHERE q.lane IS NULL AND e.campaign_id = q.campaign_id AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) whole_campaign
        UNION ALL
        SELECT id, CAST(NULL AS bigint), CAST(0 AS bigint), scheduled_for FROM (
            SELECT e.id, e.scheduled_for FROM scheduled_emails e
            WHERE q.company_cap IS NULL AND e.campaign_id = q.campaign_id AND e.lane = q.lane
              AND {waits_in_lane("e")}
              AND {due("e", "q")}
            ORDER BY e.scheduled_for, e.id LIMIT q.share FOR UPDATE OF e SKIP LOCKED) one_lane
        {{by_company}}
    ) due
), {{chosen}}, picked AS MATERIALIZED (
    -- A number that the planner knows, whatever the batch is: it would expect a tenth of all that waits.
    SELECT * FROM chosen LIMIT {MOST}
), claimed AS (
    UPDATE scheduled_emails e
    SET status = 'sending', claim_token = :token, lease_until = least(now() + :lease, picked.closes_at),
        updated_at = now(), sender_id = picked.sender_id, company = picked.company,
        sending_day = CASE WHEN picked.sender_id IS NOT NULL OR picked.counted THEN CAST(:day AS date) END
    FROM picked WHERE e.id = picked.id
    RETURNING e.id, e.campaign_id, e.revision, e.workflow_step_number, e.lead_id, e.sender_id, e.variant,
              e.fallback_variant, picked.offer, picked.is_last
)
"""
# The zones of a sender take turns, and the senders of a campaign, and each claim goes on where the last one ended. The
# plan counts on it.
_WITHIN_CAPS = """in_companies AS (
    SELECT found.*, row_number() OVER (PARTITION BY campaign_id, sender_id, follow_up
                                       ORDER BY coalesce(given, 0) + place_in_lane, zone_place) AS of_kind
    FROM found
    WHERE (company IS NULL OR used_by_company + place_in_company <= company_cap)
      AND (turns IS NULL OR company_cap IS NOT NULL OR place_in_lane <= turns)
), of_senders AS (
    SELECT in_companies.*,
           row_number() OVER (
               PARTITION BY campaign_id, follow_up ORDER BY coalesce(given_by_sender, 0) + of_kind, sender_tie) AS place
    FROM in_companies
), chosen AS (
    SELECT id, offer, closes_at, sender_id, company, counted,
           in_lane < share AND (turns IS NULL OR company_cap IS NOT NULL OR place_in_lane = in_lane) AS is_last
    FROM (
        SELECT of_senders.*, row_number() OVER (PARTITION BY sender_id ORDER BY used + of_kind, tie) AS of_cap
        FROM of_senders WHERE new_leads IS NULL OR place <= new_leads) placed
    WHERE sender_id IS NULL OR of_cap <= remaining
    ORDER BY CASE WHEN used IS NULL OR new_leads IS NOT NULL THEN (place - random()) / part
                  ELSE (of_cap - random()) / part_of_sender END
    LIMIT :batch
)"""
_PLACES_WITHIN_CAPS = """
           row_number() OVER (PARTITION BY q.campaign_id, q.lane ORDER BY due.scheduled_for, due.id) AS place_in_lane,
           row_number() OVER (PARTITION BY q.campaign_id, due.company ORDER BY due.id) AS place_in_company"""
_PART_OF_SENDER = ", sum(part_of_lane) OVER (PARTITION BY sender_id) AS part_of_sender"
_WITHOUT_CAPS = """chosen AS (
    SELECT id, offer, closes_at, sender_id, company, counted, in_lane < share AS is_last FROM found
    ORDER BY (place - random()) / part_of_lane LIMIT :batch
)"""
_PLACES_WITHOUT_CAPS = """
           row_number() OVER (PARTITION BY q.campaign_id, q.lane ORDER BY due.id) AS place"""


def claim_from_lanes(claimed: str, limits: Limits, *, alone: bool) -> sa.TextClause:
    """The claim for campaigns with a sending policy, beside those without. `claimed` reads the claimed rows.

    With `alone` from one campaign whose emails are prepared alone.

    No more lanes are offered than the claim may take emails, as it locks rows of each of them. The lease ends before
    the lane closes or the day ends: the fence lets nothing through after that, and the sweep returns it.
    """
    by_company, without_caps = limits is Limits.COMPANIES, limits is Limits.NONE
    parts = {
        "{places}": _PLACES_WITHOUT_CAPS if without_caps else _PLACES_WITHIN_CAPS,
        "{chosen}": _WITHOUT_CAPS if without_caps else _WITHIN_CAPS,
        "{part_of_sender}": "" if without_caps else _PART_OF_SENDER,
        "{by_company}": _BY_COMPANY if by_company else "",
        "{without_companies}": "" if by_company else _WITHOUT_COMPANIES,
        "{alone}": "true" if alone else "false",
        "{in_order}": "c.sender_deaths, random() LIMIT 1" if alone else "random() LIMIT 1000",
    }
    statement = _CLAIM
    for name, part in parts.items():
        statement = statement.replace(name, part)
    return sa.text(f"{KEPT}{statement}{claimed} ORDER BY claimed.campaign_id, claimed.id").bindparams(
        sa.bindparam("token", type_=sa.UUID),
        sa.bindparam("lease", type_=sa.Interval),
        sa.bindparam("batch", type_=sa.Integer),
        sa.bindparam("sharing", type_=sa.Integer),
        *(sa.bindparam(name, type_=sa.Text) for name in ("zones", "senders", "uses", "new_leads")),
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
