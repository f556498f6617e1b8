"""Recording what SES reports: a batch of events in, the delivery history and all that depends on it out, in one step.

An event belongs to the scheduled email and the attempt that its tags name, else to the email with its message id. What
belongs to none is counted and dropped. Everything an event does is the same whenever it arrives: it is stored once, by
its key; states only move forward, times to the earliest, counters by what is new. An email counts once for each kind of
event (delivered, bounced, complained, opened, clicked), and opens and clicks of machines do not count.

An event proves that SES accepted the email: what a sender left without a result is settled as sent. Bounces,
complaints and opt-outs suppress the address. Reads `scheduled_emails`, `leads` and `suppressions`; writes
`email_events`, `emails`, `leads` and `campaigns` (counters), and through record_results.py and suppressions.py what
they write.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.ledger_rules import still_planned
from sendledger.core.vocabulary import DeliveryStatus, quoted
from sendledger.feedback import suppressions
from sendledger.feedback.read_ses_events import Effect, SesEvent
from sendledger.feedback.suppressions import NewSuppression
from sendledger.ledger.settle_unknown import Acceptance, settle_as_sent

ACTOR = "ses"
"""Who the audit log and the suppressions name for what SES reported."""

TRANSIENT_LIMIT = 3
"""Transient bounces of an address without a delivery in between after which it is suppressed."""

_DELIVERY = {
    "Send": "sent",
    "DeliveryDelay": "delayed",
    "Delivery": "delivered",
    "Bounce": "bounced",
    "Complaint": "complained",
}
# The legacy status of emails; its values are in the order in which they may follow each other.
_STATUS = {
    "Send": "sent",
    "Delivery": "delivered",
    "Open": "opened",
    "Click": "clicked",
    "Bounce": "bounced",
    "Reject": "failed",
    "Rendering Failure": "failed",
    "Complaint": "spam",
}


@dataclass
class RecordedEvents:
    """What a batch did. Once it is committed, `touched` campaigns may be complete, `doubtful` ones over a limit."""

    counts: Counter[str] = field(default_factory=Counter)
    """New events by type; those without an email as ``unknown_email``, those known already as ``duplicate``."""
    settled: int = 0
    double_sends: int = 0
    suppressed: int = 0
    emails_skipped: int = 0
    touched: set[uuid.UUID] = field(default_factory=set)
    doubtful: set[uuid.UUID] = field(default_factory=set)

    def add(self, other: RecordedEvents) -> None:
        self.counts += other.counts
        self.settled += other.settled
        self.double_sends += other.double_sends
        self.suppressed += other.suppressed
        self.emails_skipped += other.emails_skipped
        self.touched |= other.touched
        self.doubtful |= other.doubtful


@dataclass(frozen=True)
class _Place:
    """An event and what it belongs to."""

    event: SesEvent
    scheduled_email_id: int | None
    email_id: uuid.UUID | None
    campaign_id: uuid.UUID | None
    lead_id: uuid.UUID | None
    row: sa.RowMapping
    is_second_message: bool
    """SES accepted the scheduled email twice, and this is about the other message."""


_ITEMS = """
    SELECT * FROM json_to_recordset(CAST(:events AS json)) AS v (
        key text, scheduled_email_id bigint, campaign_id uuid, attempt uuid, message_id text)
"""
# Who accepted what: the row that the tags name, and the email that has the message id.
_MATCH = sa.text(f"""
    WITH v AS MATERIALIZED ({_ITEMS})
    SELECT v.key, e.id, e.campaign_id, e.lead_id, e.status, e.reason, e.error_code, e.email_id, e.ses_message_id,
           e.send_started_at IS NOT NULL AS fenced, coalesce(e.claim_token = v.attempt, false) AS same_attempt,
           lower(btrim(l.email)) AS address,
           m.id AS known_email_id, m.scheduled_email_id AS known_row_id, m.campaign_id AS known_campaign_id,
           m.lead_id AS known_lead_id
    FROM v
    LEFT JOIN scheduled_emails e ON e.id = v.scheduled_email_id AND e.campaign_id = v.campaign_id
    LEFT JOIN leads l ON l.id = e.lead_id
    LEFT JOIN LATERAL (SELECT * FROM emails WHERE external_id = v.message_id ORDER BY id LIMIT 1) m ON true
""")
# A row that is pending again although SES accepted an earlier attempt: an operator queued it once more, or the database
# was restored from before. The proof keeps it from being sent a second time.
_REOPEN = sa.text(f"""
    WITH v AS MATERIALIZED ({_ITEMS})
    UPDATE scheduled_emails e
    SET status = 'sending', reason = NULL, claim_token = v.attempt, lease_until = now(), send_started_at = now(),
        updated_at = now()
    FROM v
    WHERE e.id = v.scheduled_email_id AND e.campaign_id = v.campaign_id
      AND {still_planned("e")}
""")
_KEEP_MESSAGE_ID = sa.text(f"""
    WITH v AS MATERIALIZED ({_ITEMS}), row AS (
        UPDATE scheduled_emails e SET ses_message_id = v.message_id, updated_at = now()
        FROM v WHERE e.id = v.scheduled_email_id AND e.ses_message_id IS NULL
        RETURNING e.email_id, v.message_id
    )
    UPDATE emails m SET external_id = row.message_id FROM row WHERE m.id = row.email_id AND m.external_id IS NULL
""")

_RANKS = f"ARRAY[{quoted(DeliveryStatus)}]"
# greatest() and max() of the enum follow the order of its values; least() and min() pass over NULL.
_WRITE = sa.text(f"""
WITH v AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:events AS json)) AS v (
        key text, scheduled_email_id bigint, email_id uuid, campaign_id uuid, lead_id uuid, message_id text, type text,
        occurred_at timestamptz, is_machine boolean, counts boolean, delivery text, status text, detail jsonb)
), new AS (
    INSERT INTO email_events (event_key, scheduled_email_id, email_id, campaign_id, lead_id, ses_message_id, event_type,
                              occurred_at, is_machine, detail)
    SELECT key, scheduled_email_id, email_id, campaign_id, lead_id, message_id, type, occurred_at, is_machine, detail
    FROM v ORDER BY key
    ON CONFLICT (event_key) DO NOTHING
    RETURNING event_key
), happened AS (
    SELECT v.email_id,
           max(array_position({_RANKS}, v.delivery)) AS delivery,
           max(CAST(v.status AS email_status)) AS status,
           min(v.occurred_at) FILTER (WHERE v.type = 'Delivery') AT TIME ZONE 'UTC' AS delivered_at,
           min(v.occurred_at) FILTER (WHERE v.type = 'Open') AT TIME ZONE 'UTC' AS opened_at,
           min(v.occurred_at) FILTER (WHERE v.type = 'Click') AT TIME ZONE 'UTC' AS clicked_at,
           min(v.occurred_at) FILTER (WHERE v.type = 'Bounce') AT TIME ZONE 'UTC' AS bounced_at,
           count(*) FILTER (WHERE v.type = 'Open') AS opens,
           count(*) FILTER (WHERE v.type = 'Click') AS clicks
    FROM v JOIN new ON new.event_key = v.key
    WHERE v.email_id IS NOT NULL AND v.counts
    GROUP BY v.email_id
), changed AS (
    UPDATE emails m SET
        delivery_status = ({_RANKS})[greatest(array_position({_RANKS}, m.delivery_status), h.delivery)],
        status = greatest(m.status, h.status),
        delivered_at = least(m.delivered_at, h.delivered_at),
        opened_at = least(m.opened_at, h.opened_at),
        clicked_at = least(m.clicked_at, h.clicked_at),
        bounced_at = least(m.bounced_at, h.bounced_at),
        -- Counts of the application before this one may be as large as their columns allow.
        open_count = least(coalesce(m.open_count, 0)::bigint + h.opens, 2147483647),
        click_count = least(coalesce(m.click_count, 0)::bigint + h.clicks, 2147483647)
    FROM happened h JOIN emails before ON before.id = h.email_id
    WHERE m.id = h.email_id
    RETURNING m.campaign_id, m.lead_id,
              CAST(before.delivered_at IS NULL AND m.delivered_at IS NOT NULL AS integer) AS delivered,
              CAST(before.bounced_at IS NULL AND m.bounced_at IS NOT NULL AS integer) AS bounced,
              CAST(before.delivery_status IS DISTINCT FROM 'complained' AND m.delivery_status = 'complained' AS integer)
                  AS complained,
              CAST(coalesce(before.open_count, 0) = 0 AND m.open_count > 0 AS integer) AS opened,
              CAST(coalesce(before.click_count, 0) = 0 AND m.click_count > 0 AS integer) AS clicked
), of_leads AS (
    UPDATE leads l SET
        emails_opened = least(coalesce(l.emails_opened, 0)::bigint + c.opened, 2147483647),
        emails_clicked = least(coalesce(l.emails_clicked, 0)::bigint + c.clicked, 2147483647),
        updated_at = now()
    FROM (SELECT lead_id, sum(opened) AS opened, sum(clicked) AS clicked FROM changed GROUP BY lead_id) c
    WHERE l.id = c.lead_id AND c.opened + c.clicked > 0
), of_campaigns AS (
    UPDATE campaigns c SET
        emails_delivered_count = c.emails_delivered_count + n.delivered,
        emails_bounced_count = c.emails_bounced_count + n.bounced,
        emails_complained_count = c.emails_complained_count + n.complained,
        emails_opened_count = c.emails_opened_count + n.opened,
        emails_clicked_count = c.emails_clicked_count + n.clicked,
        emails_opened = least(coalesce(c.emails_opened, 0)::bigint + n.opened, 2147483647),
        emails_clicked = least(coalesce(c.emails_clicked, 0)::bigint + n.clicked, 2147483647),
        updated_at = now()
    FROM (SELECT campaign_id, sum(delivered) AS delivered, sum(bounced) AS bounced, sum(complained) AS complained,
                 sum(opened) AS opened, sum(clicked) AS clicked
          FROM changed GROUP BY campaign_id) n
    WHERE c.id = n.campaign_id AND n.delivered + n.bounced + n.complained + n.opened + n.clicked > 0
)
SELECT event_key FROM new
""")

# Of each address the transient bounces and deliveries in the order in which they happened, cut into runs by the
# deliveries. What lies before the last removal of its suppression is forgiven.
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
_SUPPRESSED_AS_TRANSIENT = sa.text("""
    SELECT value FROM suppressions
    WHERE value = ANY(:addresses) AND removed_at IS NULL AND campaign_id IS NULL AND reason = 'transient_bounces'
""").bindparams(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))
_LIFT = sa.text("""
    UPDATE suppressions
    SET removed_at = now(), removed_by = :actor, removal_reason = 'an email was delivered in between'
    WHERE value = ANY(:addresses) AND removed_at IS NULL AND campaign_id IS NULL AND reason = 'transient_bounces'
""").bindparams(sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))
# An email counts once, however often its recipient changes his mind.
_COUNT_OPT_OUTS = sa.text("""
    WITH first AS (
        SELECT scheduled_email_id, campaign_id FROM email_events
        WHERE scheduled_email_id = ANY(:ids) AND event_type = 'Subscription' AND (detail ->> 'opted_out')::boolean
        GROUP BY 1, 2 HAVING every(event_key = ANY(:new))
    )
    UPDATE campaigns c SET emails_unsubscribed_count = c.emails_unsubscribed_count + n.count, updated_at = now()
    FROM (SELECT campaign_id, count(*) AS count FROM first GROUP BY 1) n WHERE c.id = n.campaign_id
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger)), sa.bindparam("new", type_=sa.ARRAY(sa.Text)))
_FIRST_ALARM = sa.text("""
    SELECT NOT EXISTS (
        SELECT FROM audit_log WHERE entity_type = 'scheduled_email' AND entity_id = :id
          AND action = 'scheduled_email.double_send' AND detail ->> 'second_message_id' = :message_id)
""")


def record_events(connection: sa.Connection, events: Iterable[SesEvent]) -> RecordedEvents:
    """Write a batch of events; the caller commits. Repeating it, in whatever order, changes nothing."""
    given = list(events)
    by_key = {event.key: event for event in given}
    done = RecordedEvents()
    if not given:
        return done
    done.counts["duplicate"] = len(given) - len(by_key)
    _lock(connection, _match(connection, by_key))
    # Again, now that nobody else can change what was found.
    places = _match(connection, by_key)
    if _settle(connection, places, done):
        places = _match(connection, by_key)
    new = _write(connection, places)
    for place in places:
        done.counts[place.event.type if place.event.key in new else "duplicate"] += 1
    done.counts["unknown_email"] += len(by_key) - len(places)
    done.counts = +done.counts  # without the zeros
    fresh = [place for place in places if place.event.key in new]
    _report_second_messages(connection, fresh, done)
    _suppress(connection, fresh, done)
    # Known events too: the first time they were recorded, the process may have died before it looked at the campaign.
    done.doubtful |= {
        place.campaign_id
        for place in places
        if place.campaign_id is not None and place.event.type in ("Bounce", "Complaint")
    }
    return done


def _match(connection: sa.Connection, by_key: Mapping[str, SesEvent]) -> list[_Place]:
    rows = connection.execute(_MATCH, {"events": _items(by_key.values())}).mappings()
    return [place for row in rows if (place := _place(by_key[row["key"]], row)) is not None]


def _place(event: SesEvent, row: sa.RowMapping) -> _Place | None:
    """What the event belongs to; None where that is no email of ours."""
    of_row = (row["id"], row["campaign_id"], row["lead_id"])
    if row["same_attempt"]:
        second = row["ses_message_id"] not in (None, event.message_id)
        return _Place(event, of_row[0], None if second else row["email_id"], of_row[1], of_row[2], row, second)
    if row["known_email_id"] is not None:
        known = (row["known_row_id"], row["known_email_id"], row["known_campaign_id"], row["known_lead_id"])
        return _Place(event, *known, row, False)
    # An attempt that the row no longer knows. Its address tells whether the row is the same as when SES accepted it.
    if row["id"] is not None and event.attempt is not None and row["address"] == event.recipient:
        second = row["status"] in ("sent", "sending") or row["error_code"] == "outcome_unknown"
        return _Place(event, of_row[0], None, of_row[1], of_row[2], row, second)
    return None


def _items(events: Iterable[SesEvent]) -> str:
    return json.dumps(
        [
            {
                "key": event.key,
                "scheduled_email_id": event.scheduled_email_id,
                "campaign_id": event.campaign_id and str(event.campaign_id),
                "attempt": event.attempt and str(event.attempt),
                "message_id": event.message_id,
            }
            for event in events
        ]
    )


def _lock(connection: sa.Connection, places: Sequence[_Place]) -> None:
    """Hold every campaign and lead that the batch may change, in the one order that all who write keep to."""
    addresses = {place.event.recipient for place in places if place.event.effect is not None}
    planned = suppressions.planned_rows(connection, sorted(addresses)) if addresses else set()
    campaign_ids = {place.campaign_id for place in places} | {campaign for _, campaign in planned}
    lead_ids = {place.lead_id for place in places} | {lead for lead, _ in planned}
    suppressions.lock(connection, filter(None, campaign_ids), filter(None, lead_ids))


def _settle(connection: sa.Connection, places: Sequence[_Place], done: RecordedEvents) -> bool:
    """Record as sent what SES has accepted and nobody has recorded; returns whether there was any."""
    lost: dict[int, SesEvent] = {}
    reopened: dict[int, SesEvent] = {}
    without_id: dict[int, SesEvent] = {}
    for place in places:
        row, event = place.row, place.event
        if place.scheduled_email_id is None or place.scheduled_email_id != row["id"]:
            continue  # known by its message id alone, so it is recorded
        if row["same_attempt"]:
            if (row["status"] == "sending" and row["fenced"]) or row["error_code"] == "outcome_unknown":
                lost.setdefault(row["id"], event)
            elif row["status"] == "sent" and row["ses_message_id"] is None:
                without_id.setdefault(row["id"], event)
        elif row["status"] == "pending" or (row["status"] == "cancelled" and row["reason"] == "paused"):
            reopened.setdefault(row["id"], event)
    if reopened:
        connection.execute(_REOPEN, {"events": _items(reopened.values())})
    if without_id:
        connection.execute(_KEEP_MESSAGE_ID, {"events": _items(without_id.values())})
    if accepted := lost | reopened:
        now = dt.datetime.now(dt.UTC)
        acceptances = {
            row_id: Acceptance(event.message_id, max(0.0, (now - event.accepted_at).total_seconds()))
            for row_id, event in accepted.items()
        }
        done.settled = settle_as_sent(connection, acceptances)
        done.touched |= {
            place.campaign_id
            for place in places
            if place.scheduled_email_id in accepted and place.campaign_id is not None
        }
    return bool(accepted or without_id)


def _write(connection: sa.Connection, places: Sequence[_Place]) -> set[str]:
    """Store the events and move on what they are about; returns the keys of those that are new."""
    rows: list[dict[str, Any]] = [
        {
            "key": place.event.key,
            "scheduled_email_id": place.scheduled_email_id,
            "email_id": place.email_id and str(place.email_id),
            "campaign_id": place.campaign_id and str(place.campaign_id),
            "lead_id": place.lead_id and str(place.lead_id),
            "message_id": place.event.message_id,
            "type": place.event.type,
            "occurred_at": place.event.occurred_at.isoformat(),
            "is_machine": place.event.is_machine,
            "counts": place.event.counts,
            "delivery": _DELIVERY.get(place.event.type),
            "status": _STATUS.get(place.event.type),
            "detail": dict(place.event.detail),
        }
        for place in places
    ]
    if not rows:
        return set()
    return set(connection.execute(_WRITE, {"events": json.dumps(rows)}).scalars())


def _report_second_messages(connection: sa.Connection, fresh: Sequence[_Place], done: RecordedEvents) -> None:
    """Put it on record that a scheduled email went out twice, once for each further message."""
    second = {(place.scheduled_email_id, place.event.message_id): place for place in fresh if place.is_second_message}
    for (row_id, message_id), place in second.items():
        if connection.scalar(_FIRST_ALARM, {"id": str(row_id), "message_id": message_id}):
            done.double_sends += 1
            detail = {"first_message_id": place.row["ses_message_id"], "second_message_id": message_id}
            audit_log.record(connection, ACTOR, "scheduled_email.double_send", "scheduled_email", row_id, detail)


def _suppress(connection: sa.Connection, fresh: Sequence[_Place], done: RecordedEvents) -> None:
    """Suppress the addresses that bounced, complained or opted out, and lift what a late delivery has refuted."""
    given = [
        NewSuppression(place.event.recipient, place.event.effect.value)
        for place in fresh
        if place.event.effect not in (None, Effect.SOFT_BOUNCE)
    ]
    bounced = {place.event.recipient for place in fresh if place.event.effect is Effect.SOFT_BOUNCE}
    delivered = {place.event.recipient for place in fresh if place.event.type == "Delivery"}
    if delivered:
        delivered = set(connection.scalars(_SUPPRESSED_AS_TRANSIENT, {"addresses": sorted(delivered)}))
    if bounced or delivered:
        parameters = {"addresses": sorted(bounced | delivered), "limit": TRANSIENT_LIMIT, "actor": ACTOR}
        with_run = set(connection.scalars(_RUNS, parameters))
        given += [NewSuppression(address, Effect.SOFT_BOUNCE.value) for address in with_run & bounced]
        if refuted := delivered - with_run:
            connection.execute(_LIFT, {"addresses": sorted(refuted), "actor": ACTOR})
    if not given:
        return
    suppressed = suppressions.suppress_all(connection, given, ACTOR)
    done.suppressed += len(suppressed.created)
    done.emails_skipped += suppressed.emails_skipped
    done.touched |= suppressed.campaign_ids
    opt_outs = [place for place in fresh if place.event.effect is Effect.OPT_OUT]
    if opt_outs:
        ids = [place.scheduled_email_id for place in opt_outs if place.scheduled_email_id is not None]
        connection.execute(_COUNT_OPT_OUTS, {"ids": ids, "new": [place.event.key for place in opt_outs]})
