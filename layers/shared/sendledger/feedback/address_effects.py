"""What SES events mean for addresses: suppressions, and opt-outs that are counted.

Bounces, complaints and opt-outs suppress. Transient bounces do so when several come without a delivery in between.
Events and what they belong to go in. Reads `leads`, `email_events` and `suppressions`; writes `suppressions`,
`unsubscribes`, `campaigns.emails_unsubscribed_count`, and through suppressions.py what that writes. The caller owns the
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set

import sqlalchemy as sa

from sendledger.core.kept_statements import KEPT
from sendledger.feedback import suppressions
from sendledger.feedback.match_events import Place
from sendledger.feedback.read_ses_events import Effect
from sendledger.feedback.suppressions import NewSuppression, Suppressed

ACTOR = "ses"
"""The actor of what SES reported, in the audit log and in suppressions."""

TRANSIENT_LIMIT = 3
"""After this many transient bounces in a row, without a delivery between them, an address is suppressed."""

# The transient bounces and deliveries of each address in the order in which they happened. Each delivery begins a new
# run. Events before the last removal of its suppression do not count.
_RUNS = sa.text("""
    WITH history AS (
        SELECT lower(l.email) AS address, e.event_key, e.occurred_at, e.event_type = 'Delivery' AS delivered
        FROM leads l JOIN email_events e ON e.lead_id = l.id
        WHERE lower(l.email) = ANY(:addresses)
          AND (e.event_type = 'Delivery'
               OR (e.event_type = 'Bounce' AND e.detail ->> 'bounce_type' = 'Transient'))
          AND e.occurred_at > coalesce((SELECT max(s.removed_at) FROM suppressions s
                                        WHERE s.value = lower(l.email) AND s.removed_by <> :actor), '-infinity')
    ), cut AS (
        SELECT address, delivered,
               count(*) FILTER (WHERE delivered) OVER (PARTITION BY address ORDER BY occurred_at, event_key) AS run
        FROM history
    )
    SELECT DISTINCT address FROM cut WHERE NOT delivered GROUP BY address, run HAVING count(*) >= :limit
""").bindparams(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))
_SUPPRESSED_AS_TRANSIENT = sa.text(f"""{KEPT}
    SELECT value FROM suppressions
    WHERE value = ANY(:addresses) AND removed_at IS NULL AND campaign_id IS NULL AND reason = 'transient_bounces'
""").bindparams(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))
_LIFT = sa.text("""
    UPDATE suppressions
    SET removed_at = now(), removed_by = :actor, removal_reason = 'an email was delivered in between'
    WHERE value = ANY(:addresses) AND removed_at IS NULL AND campaign_id IS NULL AND reason = 'transient_bounces'
""").bindparams(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))
_COUNT_OPT_OUTS = sa.text("""
    WITH given AS (
        SELECT * FROM json_to_recordset(CAST(:given AS json)) AS v (
            lead_id uuid, campaign_id uuid, scheduled_email_id bigint)
    ), new AS (
        INSERT INTO unsubscribes (lead_id, campaign_id, scheduled_email_id, scope, method)
        SELECT lead_id, campaign_id, scheduled_email_id, 'everything', 'ses' FROM given
        ON CONFLICT (lead_id, campaign_id) WHERE undone_at IS NULL DO NOTHING
        RETURNING campaign_id
    )
    UPDATE campaigns c SET emails_unsubscribed_count = c.emails_unsubscribed_count + n.count, updated_at = now()
    FROM (SELECT campaign_id, count(*) AS count FROM new GROUP BY campaign_id) n WHERE c.id = n.campaign_id
""")


def suppress_addresses(connection: sa.Connection, fresh: Sequence[Place], delivered: Set[str]) -> Suppressed:
    """Suppress the addresses that bounced, complained or opted out. A late delivery lifts suppressions that it
    disproves."""
    given = [
        NewSuppression(address, place.event.effect.value)
        for place in fresh
        if place.event.effect not in (None, Effect.SOFT_BOUNCE)
        for address in place.addresses
    ]
    bounced = {place.event.recipient for place in fresh if place.event.effect is Effect.SOFT_BOUNCE}
    if delivered:
        delivered = set(connection.scalars(_SUPPRESSED_AS_TRANSIENT, {"addresses": sorted(delivered)}))
    if bounced or delivered:
        parameters = {"addresses": sorted(bounced | delivered), "limit": TRANSIENT_LIMIT, "actor": ACTOR}
        with_run = set(connection.scalars(_RUNS, parameters))
        given += [NewSuppression(address, Effect.SOFT_BOUNCE.value) for address in with_run & bounced]
        if refuted := delivered - with_run:
            connection.execute(_LIFT, {"addresses": sorted(refuted), "actor": ACTOR})
    return suppressions.suppress_all(connection, given, ACTOR)


def count_opt_outs(connection: sa.Connection, fresh: Sequence[Place]) -> None:
    """Record opt-outs at SES like those by the link. A person counts once for each campaign."""
    opt_outs = {
        (str(place.lead_id), str(place.campaign_id)): place.scheduled_email_id
        for place in fresh
        if place.event.effect is Effect.OPT_OUT and place.lead_id and place.campaign_id and place.scheduled_email_id
    }
    if opt_outs:
        given = [
            {"lead_id": lead_id, "campaign_id": campaign_id, "scheduled_email_id": scheduled_email_id}
            for (lead_id, campaign_id), scheduled_email_id in sorted(opt_outs.items())
        ]
        connection.execute(_COUNT_OPT_OUTS, {"given": json.dumps(given)})
