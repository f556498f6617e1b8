"""Recording SES events: a batch goes in, the delivery history and what depends on it is written in one transaction.

An event belongs to the scheduled email and the claim that its tags name, else to the email with its message id. An
event of no known email is counted and dropped. The order of events makes no difference: an event is stored once, by its
key; statuses only move forward, times are the earliest ones, and only new events change counters. An email counts once
for each kind of event (delivered, bounced, complained, opened, clicked). Opens and clicks of machines do not count. A
soft bounce counts while the email is neither delivered nor hard bounced.

An event proves that SES accepted the email: a row that its sender left without a result is settled as sent. Bounces,
complaints and opt-outs suppress the address. Reads `scheduled_emails`, `leads` and `suppressions`; writes
`email_events`, `emails`, `leads` and `campaigns` (counters), and through record_results.py and suppressions.py what
they write.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.kept_statements import KEPT
from sendledger.core.row_arrays import RowArrays
from sendledger.core.vocabulary import (
    AuditAction,
    DeliveryStatus,
    EmailStatus,
    ErrorCode,
    EventType,
    ScheduledEmailStatus,
    quoted,
)
from sendledger.feedback import suppressions
from sendledger.feedback.address_effects import ACTOR, count_opt_outs, suppress_addresses
from sendledger.feedback.match_events import ITEMS, Place, did_not_go, items_of, match_events
from sendledger.feedback.read_ses_events import Effect, SesEvent
from sendledger.ledger.settle_unknown import Acceptance, settle_as_sent

_DELIVERY = {
    EventType.SEND: DeliveryStatus.SENT,
    EventType.DELIVERY_DELAY: DeliveryStatus.DELAYED,
    EventType.DELIVERY: DeliveryStatus.DELIVERED,
    EventType.COMPLAINT: DeliveryStatus.COMPLAINED,
}
# The legacy status of emails. The values are in the order in which they may follow each other.
_STATUS = {
    EventType.SEND: EmailStatus.SENT,
    EventType.DELIVERY: EmailStatus.DELIVERED,
    EventType.OPEN: EmailStatus.OPENED,
    EventType.CLICK: EmailStatus.CLICKED,
    EventType.REJECT: EmailStatus.FAILED,
    EventType.RENDERING_FAILURE: EmailStatus.FAILED,
    EventType.COMPLAINT: EmailStatus.SPAM,
}


@dataclass
class RecordedEvents:
    """What a batch did. Once it is committed, `touched` campaigns may be complete, `doubtful` ones over a limit."""

    counts: Counter[str] = field(default_factory=Counter)
    """New events by type. Events of unknown emails count as ``unknown_email``, known events as ``duplicate``."""
    settled: int = 0
    double_sends: int = 0
    suppressed: int = 0
    emails_skipped: int = 0
    touched: set[uuid.UUID] = field(default_factory=set)
    doubtful: set[uuid.UUID] = field(default_factory=set)
    left: list[SesEvent] = field(default_factory=list)
    """Events that were not written, as their emails are not recorded as sent by their claims."""

    def add(self, other: RecordedEvents) -> None:
        self.counts += other.counts
        self.settled += other.settled
        self.double_sends += other.double_sends
        self.suppressed += other.suppressed
        self.emails_skipped += other.emails_skipped
        self.touched |= other.touched
        self.doubtful |= other.doubtful


# A row that did not go out, although SES accepted an earlier email: an operator queued it again, or an older backup was
# restored. The event prevents that it is sent twice. What became of it meanwhile counts no more: it may have been
# cancelled, skipped or refused. The earlier email goes on counting against the caps of its day, so this one must not.
_REOPEN = sa.text(f"""
    WITH v AS MATERIALIZED ({ITEMS})
    UPDATE scheduled_emails e
    SET status = CASE e.status WHEN 'failed' THEN 'failed' ELSE 'sending' END, reason = NULL,
        error_code = CASE e.status WHEN 'failed' THEN 'outcome_unknown' END,
        claim_token = v.claim_token, lease_until = now(), send_started_at = now(), sending_day = NULL,
        updated_at = now()
    FROM v
    WHERE e.id = v.scheduled_email_id AND e.campaign_id = v.campaign_id
      AND {did_not_go("e")}
""")
_KEEP_MESSAGE_ID = sa.text(f"""
    WITH v AS MATERIALIZED ({ITEMS}), row AS (
        UPDATE scheduled_emails e SET ses_message_id = v.message_id, updated_at = now()
        FROM v WHERE e.id = v.scheduled_email_id AND e.ses_message_id IS NULL
        RETURNING e.email_id, v.message_id
    )
    UPDATE emails m SET external_id = row.message_id FROM row WHERE m.id = row.email_id AND m.external_id IS NULL
""")

_EVENTS = RowArrays(
    "v",
    {
        "key": "text",
        "scheduled_email_id": "bigint",
        "email_id": "uuid",
        "campaign_id": "uuid",
        "lead_id": "uuid",
        "message_id": "text",
        "type": "text",
        "occurred_at": "timestamptz",
        "is_machine": "boolean",
        "counts": "boolean",
        "delivery": "text",
        "status": "text",
        "detail": "jsonb",
        "claim_token": "uuid",
    },
)
_RANKS = f"ARRAY[{quoted(DeliveryStatus)}]"
# greatest() and max() of the enum follow the order of its values; least() and min() ignore NULL. Whoever was told the
# same event at the same time has waited for the lock of its campaign or lead, and finds it here. ON CONFLICT would
# write two records to the WAL for each row. An event with a claim token was not matched: its email and lead are those
# of the row that its tags name, if that is recorded as sent by this claim. With the CASE, it is found by its id.
_WRITE = sa.text(f"""{KEPT}
WITH v AS MATERIALIZED (
    SELECT v.key, v.scheduled_email_id, coalesce(v.email_id, e.email_id) AS email_id, v.campaign_id,
           coalesce(v.lead_id, e.lead_id) AS lead_id, v.message_id, v.type, v.occurred_at, v.is_machine, v.counts,
           v.delivery, v.status, v.detail,
           v.claim_token IS NULL OR coalesce(
               e.claim_token = v.claim_token AND e.campaign_id = v.campaign_id AND e.status = 'sent'
               AND e.email_id IS NOT NULL AND e.ses_message_id = v.message_id, false) AS is_ours
    FROM {_EVENTS.table}
    LEFT JOIN scheduled_emails e ON e.id = CASE WHEN v.claim_token IS NOT NULL THEN v.scheduled_email_id END
    LEFT JOIN email_events known ON known.event_key = v.key
    WHERE known.id IS NULL
), new AS (
    INSERT INTO email_events (event_key, scheduled_email_id, email_id, campaign_id, lead_id, ses_message_id, event_type,
                              occurred_at, is_machine, detail)
    SELECT key, scheduled_email_id, email_id, campaign_id, lead_id, message_id, type, occurred_at, is_machine, detail
    FROM v WHERE is_ours ORDER BY key
), happened AS (
    SELECT v.email_id,
           max(array_position({_RANKS}, v.delivery)) AS delivery,
           max(CAST(v.status AS email_status)) AS status,
           min(v.occurred_at) FILTER (WHERE v.type = 'Delivery') AT TIME ZONE 'UTC' AS delivered_at,
           min(v.occurred_at) FILTER (WHERE v.type = 'Open') AT TIME ZONE 'UTC' AS opened_at,
           min(v.occurred_at) FILTER (WHERE v.type = 'Click') AT TIME ZONE 'UTC' AS clicked_at,
           min(v.occurred_at) FILTER (WHERE v.delivery = 'bounced') AT TIME ZONE 'UTC' AS bounced_at,
           min(v.occurred_at) FILTER (WHERE v.delivery = 'soft_bounced') AT TIME ZONE 'UTC' AS soft_bounced_at,
           count(*) FILTER (WHERE v.type = 'Open') AS opens,
           count(*) FILTER (WHERE v.type = 'Click') AS clicks
    FROM v
    WHERE v.is_ours AND v.email_id IS NOT NULL AND v.counts
    GROUP BY v.email_id
), changed AS (
    UPDATE emails m SET
        delivery_status = ({_RANKS})[greatest(array_position({_RANKS}, m.delivery_status), h.delivery)],
        status = greatest(m.status, h.status),
        delivered_at = least(m.delivered_at, h.delivered_at),
        opened_at = least(m.opened_at, h.opened_at),
        clicked_at = least(m.clicked_at, h.clicked_at),
        bounced_at = least(m.bounced_at, h.bounced_at),
        soft_bounced_at = CASE
            WHEN greatest(array_position({_RANKS}, m.delivery_status), h.delivery)
                 = array_position({_RANKS}, 'soft_bounced') THEN least(m.soft_bounced_at, h.soft_bounced_at) END,
        -- Counts of the earlier application may be as large as their columns allow.
        open_count = least(coalesce(m.open_count, 0)::bigint + h.opens, 2147483647),
        click_count = least(coalesce(m.click_count, 0)::bigint + h.clicks, 2147483647)
    FROM happened h JOIN emails before ON before.id = h.email_id
    WHERE m.id = h.email_id
      -- What changes nothing writes no version of the row. That is each Send event of an email that is recorded.
      AND (h.delivery > coalesce(array_position({_RANKS}, m.delivery_status), 0)
           OR h.status > m.status OR m.status IS NULL OR h.opens + h.clicks > 0
           OR num_nonnulls(h.delivered_at, h.opened_at, h.clicked_at, h.bounced_at, h.soft_bounced_at) > 0)
    RETURNING m.campaign_id, m.lead_id,
              CAST(before.delivered_at IS NULL AND m.delivered_at IS NOT NULL AS integer) AS delivered,
              CAST(before.bounced_at IS NULL AND m.bounced_at IS NOT NULL AS integer) AS bounced,
              CAST(m.soft_bounced_at IS NOT NULL AS integer) - CAST(before.soft_bounced_at IS NOT NULL AS integer)
                  AS soft_bounced,
              CAST(before.delivery_status IS DISTINCT FROM 'complained' AND m.delivery_status = 'complained' AS integer)
                  AS complained,
              CAST(coalesce(before.open_count, 0) = 0 AND m.open_count > 0 AS integer) AS opened,
              CAST(coalesce(before.click_count, 0) = 0 AND m.click_count > 0 AS integer) AS clicked
), of_leads AS (
    UPDATE leads l SET
        emails_opened = least(coalesce(l.emails_opened, 0)::bigint + c.opened, 2147483647),
        emails_clicked = least(coalesce(l.emails_clicked, 0)::bigint + c.clicked, 2147483647),
        updated_at = now()
    FROM (SELECT lead_id, sum(opened) AS opened, sum(clicked) AS clicked FROM changed
          WHERE opened + clicked > 0 GROUP BY lead_id) c
    WHERE l.id = c.lead_id
), of_campaigns AS (
    UPDATE campaigns c SET
        emails_delivered_count = c.emails_delivered_count + n.delivered,
        emails_bounced_count = c.emails_bounced_count + n.bounced,
        emails_soft_bounced_count = c.emails_soft_bounced_count + n.soft_bounced,
        emails_complained_count = c.emails_complained_count + n.complained,
        emails_opened_count = c.emails_opened_count + n.opened,
        emails_clicked_count = c.emails_clicked_count + n.clicked,
        emails_opened = least(coalesce(c.emails_opened, 0)::bigint + n.opened, 2147483647),
        emails_clicked = least(coalesce(c.emails_clicked, 0)::bigint + n.clicked, 2147483647),
        updated_at = now()
    FROM (SELECT campaign_id, sum(delivered) AS delivered, sum(bounced) AS bounced,
                 sum(soft_bounced) AS soft_bounced, sum(complained) AS complained, sum(opened) AS opened,
                 sum(clicked) AS clicked
          FROM changed GROUP BY campaign_id) n
    WHERE c.id = n.campaign_id
      AND (n.delivered, n.bounced, n.soft_bounced, n.complained, n.opened, n.clicked) <> (0, 0, 0, 0, 0, 0)
)
SELECT key, is_ours FROM v
""")

_FIRST_ALARM = sa.text("""
    SELECT NOT EXISTS (
        SELECT FROM audit_log WHERE entity_type = 'scheduled_email' AND entity_id = :id
          AND action = 'scheduled_email.double_send' AND detail ->> 'second_message_id' = :message_id)
""")


def record_events(
    connection: sa.Connection, events: Iterable[SesEvent], *, are_of_sent: bool = False
) -> RecordedEvents:
    """Write a batch of events. The caller commits. Repeating it, in any order, changes nothing.

    With `are_of_sent`, events that change no lead and have all tags are taken for those of emails that are recorded as
    sent, as most are, and are not looked up. Those of other emails are `left`. They need other locks, so they are to be
    recorded in another transaction.
    """
    given = list(events)
    by_key = {event.key: event for event in given}
    done = RecordedEvents()
    if not given:
        return done
    done.counts["duplicate"] = len(given) - len(by_key)
    plain = {key: event for key, event in by_key.items() if are_of_sent and _is_plain(event)}
    others = {key: event for key, event in by_key.items() if key not in plain}
    _lock(connection, match_events(connection, others), {event.campaign_id for event in plain.values()})
    # Again, now that the rows are locked.
    places = match_events(connection, others)
    if _settle(connection, places, done):
        places = match_events(connection, others)
    written = _write(connection, plain.values(), places)
    done.left = [plain.pop(key) for key, is_ours in written.items() if not is_ours]
    new = {key for key, is_ours in written.items() if is_ours}
    for event in [*plain.values(), *(place.event for place in places)]:
        done.counts[event.type if event.key in new else "duplicate"] += 1
    done.counts["unknown_email"] += len(others) - len(places)
    done.counts = +done.counts  # without the zeros
    fresh = [place for place in places if place.event.key in new]
    _report_second_messages(connection, fresh, done)
    delivered = {event.recipient for key, event in by_key.items() if key in new and event.type == EventType.DELIVERY}
    suppressed = suppress_addresses(connection, fresh, delivered)
    done.suppressed += len(suppressed.created)
    done.emails_skipped += suppressed.emails_skipped
    done.touched |= suppressed.campaign_ids
    count_opt_outs(connection, fresh)
    # Known events too: the process that recorded them may have died before it checked the campaign.
    done.doubtful |= {
        place.campaign_id
        for place in places
        if place.campaign_id is not None and place.event.type in (EventType.BOUNCE, EventType.COMPLAINT)
    }
    return done


_PLAIN = (EventType.SEND, EventType.DELIVERY, EventType.DELIVERY_DELAY)
"""What changes the email and the counts only, if the email is recorded as sent."""


def _is_plain(event: SesEvent) -> bool:
    has_tags = None not in (event.scheduled_email_id, event.campaign_id, event.claim_token)
    return has_tags and event.type in _PLAIN and event.effect is None


def _lock(connection: sa.Connection, places: Sequence[Place], of_plain: set[uuid.UUID | None]) -> None:
    """Lock every campaign and lead that the batch may change, in the order that ledger_rules.py prescribes."""
    addresses = {address for place in places if place.event.effect is not None for address in place.addresses}
    planned = suppressions.planned_rows(connection, sorted(addresses)) if addresses else set()
    campaign_ids = of_plain | {place.campaign_id for place in places} | {campaign for _, campaign in planned}
    lead_ids = {place.lead_id for place in places if _may_change_lead(place)} | {lead for lead, _ in planned}
    suppressions.lock(connection, filter(None, campaign_ids), filter(None, lead_ids))


def _may_change_lead(place: Place) -> bool:
    """A row that is not recorded as sent may be settled, which counts the email as sent to the lead."""
    is_sent = place.row["same_claim"] and place.row["status"] == ScheduledEmailStatus.SENT
    return not is_sent or place.event.effect is not None or place.event.type in (EventType.OPEN, EventType.CLICK)


def _settle(connection: sa.Connection, places: Sequence[Place], done: RecordedEvents) -> bool:
    """Record as sent what SES has accepted and no sender has recorded. Returns whether there was any."""
    lost: dict[int, SesEvent] = {}
    reopened: dict[int, SesEvent] = {}
    without_id: dict[int, SesEvent] = {}
    for place in places:
        row, event = place.row, place.event
        if place.scheduled_email_id is None or place.scheduled_email_id != row["id"]:
            continue  # found by its message id, so it is recorded already
        if row["same_claim"]:
            is_fenced = row["status"] == ScheduledEmailStatus.SENDING and row["fenced"]
            if is_fenced or row["error_code"] == ErrorCode.OUTCOME_UNKNOWN:
                lost.setdefault(row["id"], event)
            elif row["status"] == ScheduledEmailStatus.SENT and row["ses_message_id"] is None:
                without_id.setdefault(row["id"], event)
        elif row["did_not_go"]:
            reopened.setdefault(row["id"], event)
    if reopened:
        connection.execute(_REOPEN, items_of(reopened.values()))
    if without_id:
        connection.execute(_KEEP_MESSAGE_ID, items_of(without_id.values()))
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


def _write(connection: sa.Connection, plain: Iterable[SesEvent], places: Iterable[Place]) -> dict[str, bool]:
    """Store the events and update what they belong to. Returns the keys of the new events: with False those of `plain`
    events whose email is not recorded as sent by their claim, which are not stored."""
    rows = [
        _row(
            event,
            scheduled_email_id=event.scheduled_email_id,
            campaign_id=event.campaign_id,
            claim_token=event.claim_token,
        )
        for event in plain
    ]
    rows += [
        _row(
            place.event,
            scheduled_email_id=place.scheduled_email_id,
            email_id=place.email_id,
            campaign_id=place.campaign_id,
            lead_id=place.lead_id,
        )
        for place in places
    ]
    if not rows:
        return {}
    return dict(map(tuple, connection.execute(_WRITE, _EVENTS.parameters(rows))))


def _row(event: SesEvent, **belongs_to: Any) -> dict[str, Any]:
    return {
        "key": event.key,
        "message_id": event.message_id,
        "type": event.type,
        "occurred_at": event.occurred_at.isoformat(),
        "is_machine": event.is_machine,
        "counts": event.counts,
        "delivery": _delivery(event),
        "status": _status(event),
        "detail": json.dumps(dict(event.detail)),
        **belongs_to,
    }


def _status(event: SesEvent) -> EmailStatus | None:
    """The legacy status that an event leads to."""
    return EmailStatus.BOUNCED if event.effect is Effect.HARD_BOUNCE else _STATUS.get(event.type)


def _delivery(event: SesEvent) -> DeliveryStatus | None:
    """The delivery status that an event leads to. Only a permanent bounce overrides a delivery."""
    if event.type == EventType.BOUNCE:
        return DeliveryStatus.BOUNCED if event.effect is Effect.HARD_BOUNCE else DeliveryStatus.SOFT_BOUNCED
    return _DELIVERY.get(event.type)


def _report_second_messages(connection: sa.Connection, fresh: Sequence[Place], done: RecordedEvents) -> None:
    """Record that a scheduled email was sent twice, once for each further message."""
    second = {(place.scheduled_email_id, place.event.message_id): place for place in fresh if place.is_second_message}
    for (row_id, message_id), place in second.items():
        if connection.scalar(_FIRST_ALARM, {"id": str(row_id), "message_id": message_id}):
            done.double_sends += 1
            detail = {"first_message_id": place.row["ses_message_id"], "second_message_id": message_id}
            audit_log.record(
                connection, ACTOR, AuditAction.SCHEDULED_EMAIL_DOUBLE_SEND, "scheduled_email", row_id, detail
            )
