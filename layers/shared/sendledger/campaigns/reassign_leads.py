"""Handing the leads of a sender over to another one: those that have had nothing yet from their campaign.

A lead that has had an email keeps its sender for all steps. Reads and writes `campaigns`, `campaign_lanes` and
`scheduled_emails`; reads `sender_addresses`; writes `audit_log`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.tables import sender_addresses
from sendledger.core.vocabulary import AuditAction, SenderAddressStatus
from sendledger.policy.sender_addresses import get

LEADS_AT_ONCE = 20_000
"""Leads that one call moves, at most: a request must end in time."""

# In the order of their ids, as everywhere. Claims pass over campaigns that are locked.
_LOCK = sa.text("""
    SELECT id FROM campaigns
    WHERE :of = ANY(sender_ids) AND status IN ('draft', 'failed', 'scheduled', 'running', 'paused')
    ORDER BY id FOR UPDATE
""").bindparams(sa.bindparam("of", type_=sa.UUID))
# In a campaign that has not started the new one takes the place. One that has started needs both, for the leads that
# have had an email; new leads do not come to the old one any more.
_NAME = sa.text("""
    UPDATE campaigns SET updated_at = now(), sender_ids = CASE
        WHEN status IN ('running', 'paused') AND :to = ANY(sender_ids) THEN sender_ids
        WHEN status IN ('running', 'paused') THEN array_append(sender_ids, :to)
        WHEN :to = ANY(sender_ids) THEN array_remove(sender_ids, :of)
        ELSE array_replace(sender_ids, :of, :to) END,
        former_sender_ids = CASE WHEN status IN ('running', 'paused')
            THEN array_append(array_remove(array_remove(former_sender_ids, :of), :to), :of) ELSE '{}' END
    WHERE id = ANY(:ids)
""").bindparams(
    sa.bindparam("of", type_=sa.UUID), sa.bindparam("to", type_=sa.UUID), sa.bindparam("ids", type_=sa.ARRAY(sa.UUID))
)
_ADD_LANES = sa.text("""
    INSERT INTO campaign_lanes (campaign_id, lane, time_zone, sender_id, follow_up)
    SELECT l.campaign_id, (SELECT max(m.lane) FROM campaign_lanes m WHERE m.campaign_id = l.campaign_id)
                          + row_number() OVER (PARTITION BY l.campaign_id ORDER BY l.lane),
           l.time_zone, :to, l.follow_up
    FROM campaign_lanes l
    WHERE l.campaign_id = ANY(:ids) AND l.sender_id = :of
      AND NOT EXISTS (SELECT FROM campaign_lanes t
                      WHERE t.campaign_id = l.campaign_id AND t.sender_id = :to AND t.follow_up = l.follow_up
                        AND t.time_zone IS NOT DISTINCT FROM l.time_zone)
""").bindparams(
    sa.bindparam("of", type_=sa.UUID), sa.bindparam("to", type_=sa.UUID), sa.bindparam("ids", type_=sa.ARRAY(sa.UUID))
)
_MOVE = sa.text("""
    WITH twin AS MATERIALIZED (
        SELECT l.campaign_id, l.lane, t.lane AS new_lane
        FROM campaign_lanes l JOIN campaign_lanes t
          ON t.campaign_id = l.campaign_id AND t.sender_id = :to AND t.follow_up = l.follow_up
         AND t.time_zone IS NOT DISTINCT FROM l.time_zone
        WHERE l.campaign_id = ANY(:ids) AND l.sender_id = :of
    ), lead AS MATERIALIZED (
        SELECT e.campaign_id, e.lead_id,
               bool_or(e.status IN ('sending', 'sent') OR coalesce(e.error_code = 'outcome_unknown', false))
                   AS had_something
        FROM twin JOIN scheduled_emails e ON e.campaign_id = twin.campaign_id AND e.lane = twin.lane
        WHERE e.lead_id IS NOT NULL
        GROUP BY e.campaign_id, e.lead_id
        HAVING bool_or(e.status = 'pending' OR e.status = 'cancelled' AND e.reason = 'paused')
    ), fresh AS MATERIALIZED (
        SELECT campaign_id, lead_id FROM lead WHERE NOT had_something ORDER BY campaign_id, lead_id LIMIT :limit
    ), moved AS (
        UPDATE scheduled_emails e SET lane = twin.new_lane, updated_at = now()
        FROM fresh f JOIN twin ON twin.campaign_id = f.campaign_id
        WHERE e.lead_id = f.lead_id AND e.campaign_id = f.campaign_id AND e.lane = twin.lane
        RETURNING e.id
    )
    SELECT (SELECT count(DISTINCT campaign_id) FROM fresh) AS campaigns, (SELECT count(*) FROM fresh) AS leads_moved,
           (SELECT count(*) FROM moved) AS emails_moved,
           count(*) FILTER (WHERE had_something) AS leads_kept,
           count(*) FILTER (WHERE NOT had_something) - (SELECT count(*) FROM fresh) AS leads_left
    FROM lead
""").bindparams(
    sa.bindparam("of", type_=sa.UUID), sa.bindparam("to", type_=sa.UUID), sa.bindparam("ids", type_=sa.ARRAY(sa.UUID))
)
# In another lane, an email that is held would go out, and one that is not late would be held. A decision that is not
# carried out yet is about lanes, too.
_HELD = sa.text("""
    SELECT campaign_id FROM campaign_lanes
    WHERE campaign_id = ANY(:ids) AND sender_id IN (:of, :to) AND late_hold_until IS NOT NULL
    UNION
    SELECT id FROM campaigns
    WHERE id = ANY(:ids)
      AND (background_work @> '[{"kind": "release_late"}]' OR background_work @> '[{"kind": "skip_late"}]')
    ORDER BY campaign_id
""").bindparams(
    sa.bindparam("of", type_=sa.UUID), sa.bindparam("to", type_=sa.UUID), sa.bindparam("ids", type_=sa.ARRAY(sa.UUID))
)


@dataclass(frozen=True)
class Reassigned:
    """What a call has moved.

    `leads_kept` keep their sender because they have had an email, and have more to come. `leads_left` are left for the
    next call.
    """

    campaigns: int
    leads_moved: int
    emails_moved: int
    leads_kept: int
    leads_left: int


def reassign(connection: sa.Connection, sender_id: UUID, to: UUID, actor: str) -> Reassigned:
    """Let `to` send what leads get that have had nothing yet, in all campaigns that have not ended.

    Raises:
        NotFound: there is no such sender.
        InvalidInput: `to` is the same one, is disabled, or there is none with this id.
        Conflict: late emails of one of the two are held, or being released or skipped.
    """
    get(connection, sender_id)
    # Kept from being deleted until the campaigns name it.
    other = sa.select(sender_addresses.c.status).where(sender_addresses.c.id == to)
    status = connection.scalar(other.with_for_update(read=True, key_share=True))
    wrong = None
    if status is None:
        wrong = f"there is no sender with the id {to}"
    elif status == SenderAddressStatus.DISABLED:
        wrong = "must be an active sender; this one is disabled"
    elif to == sender_id:
        wrong = "must be another sender"
    if wrong is not None:
        raise InvalidInput("The leads cannot be reassigned.", [FieldError("to", wrong)])
    parameters = {"of": sender_id, "to": to, "ids": list(connection.scalars(_LOCK, {"of": sender_id}))}
    if held := list(map(str, connection.scalars(_HELD, parameters))):
        message = (
            "Late emails of these senders are held; send or skip them first (late-emails of the campaigns), and wait "
            "until that is done (background_work)."
        )
        raise Conflict(message, campaign_ids=held)
    connection.execute(_NAME, parameters)
    connection.execute(_ADD_LANES, parameters)
    row = connection.execute(_MOVE, {**parameters, "limit": LEADS_AT_ONCE}).one()
    done = Reassigned(**row._mapping)
    detail = {"to": str(to), **asdict(done)}
    audit_log.record(connection, actor, AuditAction.SENDER_ADDRESS_REASSIGN, "sender_address", sender_id, detail)
    return done
