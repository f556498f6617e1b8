"""Removing one chunk of an ended campaign: content, events or rows of the ledger, with their totals, in a transaction.

The caller holds the campaign, commits, and calls again while there is more. After a crash the next call continues: what
was committed is removed and counted, the rest is neither. Reads and writes `removals`; writes `emails`, `email_events`,
`scheduled_emails`, `removed_emails`, `past_contacts`, `campaign_counts` and `audit_log`; reads `campaigns`,
`leads`, `campaign_lanes`, `replies`, `unsubscribes` and `adopted_campaigns`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.vocabulary import AuditAction, RemovalKind
from sendledger.retention.due_campaigns import ENDED_AT

ROWS_PER_CHUNK = 2_000
"""A chunk holds its campaign for a fraction of a second."""

_OF_CAMPAIGN = sa.bindparam("campaign_id", type_=sa.UUID)
_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))
_EMAIL_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.UUID))

# A removal begins again, with its archive, if the campaign has run since. What it had removed by then counts.
_GOES_ON = f"(r.completed_at IS NULL AND r.began_at > (SELECT {ENDED_AT} FROM campaigns c WHERE c.id = r.campaign_id))"
_BEGIN = sa.text(f"""
    INSERT INTO removals AS r (campaign_id, kind) VALUES (:campaign_id, :kind)
    ON CONFLICT (campaign_id, kind) DO UPDATE SET
        began_at = CASE WHEN {_GOES_ON} THEN r.began_at ELSE now() END,
        after_id = CASE WHEN {_GOES_ON} THEN r.after_id ELSE 0 END,
        after_sent_at = CASE WHEN {_GOES_ON} THEN r.after_sent_at END,
        rows_removed = CASE WHEN r.completed_at IS NULL THEN r.rows_removed ELSE 0 END,
        archived_after_id = CASE WHEN {_GOES_ON} THEN r.archived_after_id ELSE 0 END,
        archived_after_email = CASE WHEN {_GOES_ON} THEN r.archived_after_email END,
        archive_parts = CASE WHEN {_GOES_ON} THEN r.archive_parts ELSE 0 END,
        archive_rows = CASE WHEN {_GOES_ON} THEN r.archive_rows ELSE 0 END,
        archived_at = CASE WHEN {_GOES_ON} THEN r.archived_at END,
        completed_at = NULL
    RETURNING campaign_id, kind, began_at, after_id, archived_after_id, archived_after_email, archive_parts,
              archive_rows, archived_at
""").bindparams(_OF_CAMPAIGN)

# From the index of the campaign's rows. With an order by id alone the planner may search the whole table.
_NEXT_ROWS = sa.text("""
    SELECT id FROM scheduled_emails
    WHERE (campaign_id, id) > (:campaign_id, :after_id) AND campaign_id <= :campaign_id
    ORDER BY campaign_id, id LIMIT :limit
""").bindparams(_OF_CAMPAIGN, sa.bindparam("after_id", type_=sa.BigInteger))
# What an older application has sent, and no row of the ledger names.
_NEXT_EMAILS = sa.text(
    "SELECT id FROM emails WHERE campaign_id = :campaign_id ORDER BY sent_at LIMIT :limit"
).bindparams(_OF_CAMPAIGN)

_BLANK = """
    WITH chunk AS MATERIALIZED (
        SELECT m.id, m.sent_at FROM emails m
        WHERE m.campaign_id = :campaign_id AND {sent}
          AND (m.subject <> '' OR octet_length(m.body_text) > 0 OR m.body_html IS NOT NULL OR m.metadata IS NOT NULL)
        ORDER BY m.sent_at LIMIT :limit
    ), blanked AS (
        UPDATE emails m SET subject = '', body_text = '', body_html = NULL, metadata = NULL
        FROM chunk WHERE m.id = chunk.id
    ), progress AS (
        UPDATE removals r SET after_sent_at = coalesce((SELECT max(sent_at) FROM chunk), r.after_sent_at)
        WHERE r.campaign_id = :campaign_id AND r.kind = 'content'
    )
    SELECT count(*) FROM chunk
"""
_BLANK_SENT = sa.text(
    _BLANK.format(
        sent="""m.sent_at >= coalesce((SELECT r.after_sent_at FROM removals r
                                       WHERE r.campaign_id = :campaign_id AND r.kind = 'content'), '-infinity')"""
    )
).bindparams(_OF_CAMPAIGN)
_BLANK_UNSENT = sa.text(_BLANK.format(sent="m.sent_at IS NULL")).bindparams(_OF_CAMPAIGN)

# Complaints stay, without the person, because timelines count them. Temporary bounces that no delivery has followed
# stay, because the next one may suppress the address. A delivery stays that separates temporary bounces of another
# campaign from later ones.
_IS_KEPT = """(
    v.event_type = 'Complaint'
    OR v.event_type = 'Bounce' AND v.detail ->> 'bounce_type' = 'Transient' AND v.lead_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM email_events d WHERE d.lead_id = v.lead_id AND d.event_type = 'Delivery'
                       AND d.occurred_at > v.occurred_at)
    OR v.event_type = 'Delivery' AND EXISTS (
        SELECT FROM email_events b WHERE b.lead_id = v.lead_id AND b.campaign_id IS DISTINCT FROM v.campaign_id
          AND b.event_type = 'Bounce' AND b.detail ->> 'bounce_type' = 'Transient'
          AND b.occurred_at < v.occurred_at))"""
_FORGET = """
    WITH found AS MATERIALIZED (SELECT v.id, {kept} AS is_kept FROM {events}), gone AS (
        DELETE FROM email_events v WHERE v.id = ANY(ARRAY(SELECT id FROM found WHERE NOT is_kept)) RETURNING 1
    ), kept AS (
        UPDATE email_events v SET lead_id = CASE WHEN v.event_type <> 'Complaint' THEN v.lead_id END,
            detail = jsonb_strip_nulls(jsonb_build_object(
                'bounce_type', v.detail -> 'bounce_type', 'bounce_sub_type', v.detail -> 'bounce_sub_type',
                'feedback_type', v.detail -> 'feedback_type', 'complaint_sub_type', v.detail -> 'complaint_sub_type'))
        WHERE v.id = ANY(ARRAY(SELECT id FROM found WHERE is_kept))
    )
    SELECT count(*) FROM gone
"""
# OFFSET 0 makes PostgreSQL look for the events of each row by the index. With old statistics it would expect each row
# to have many events, and read all there are.
_FORGET_OF_ROWS = sa.text(
    _FORGET.format(
        kept=_IS_KEPT,
        events="""unnest(:ids) AS row (id) CROSS JOIN LATERAL (
            SELECT * FROM email_events x WHERE x.scheduled_email_id = row.id OFFSET 0) v""",
    )
).bindparams(_IDS)
_FORGET_OF_EMAILS = sa.text(
    _FORGET.format(
        kept=_IS_KEPT,
        events="""emails m CROSS JOIN LATERAL (
            SELECT * FROM email_events x WHERE x.lead_id = m.lead_id AND x.email_id = m.id OFFSET 0) v
            WHERE m.id = ANY(:ids)""",
    )
).bindparams(_EMAIL_IDS)
_EMAILS_WITHOUT_ROW = sa.text(f"""
    SELECT m.id FROM emails m
    WHERE m.campaign_id = :campaign_id AND m.scheduled_email_id IS NULL
      AND EXISTS (SELECT FROM adopted_campaigns a WHERE a.campaign_id = :campaign_id)
      AND EXISTS (SELECT FROM email_events v WHERE v.lead_id = m.lead_id AND v.email_id = m.id AND NOT {_IS_KEPT})
    ORDER BY m.sent_at LIMIT :limit
""").bindparams(_OF_CAMPAIGN)

_FOLD = sa.text("""
    INSERT INTO removed_emails AS r (campaign_id, revision, step_number, variant, sender_id, sending_day, status,
        emails, delivered, opened, clicked, replied, bounced, soft_bounced, complained, unsubscribed)
    SELECT e.campaign_id, e.revision, e.workflow_step_number, coalesce(e.variant, 0),
           coalesce(l.sender_id, e.sender_id, '00000000-0000-0000-0000-000000000000'),
           coalesce(e.sending_day, '-infinity'),
           e.status, count(*), count(m.delivered_at), count(m.opened_at), count(m.clicked_at),
           count(*) FILTER (WHERE EXISTS (
               SELECT FROM replies p
               WHERE p.email_id = m.id AND p.campaign_id = e.campaign_id AND p.automatic IS NULL)),
           count(m.bounced_at), count(m.soft_bounced_at), count(*) FILTER (WHERE m.delivery_status = 'complained'),
           count(*) FILTER (WHERE EXISTS (
               SELECT FROM unsubscribes u WHERE u.scheduled_email_id = e.id AND u.campaign_id = e.campaign_id
                 AND u.undone_at IS NULL))
    FROM scheduled_emails e LEFT JOIN emails m ON m.id = e.email_id
    LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    WHERE e.id = ANY(:ids) GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (campaign_id, revision, step_number, variant, sender_id, sending_day, status) DO UPDATE SET
        emails = r.emails + excluded.emails, delivered = r.delivered + excluded.delivered,
        opened = r.opened + excluded.opened, clicked = r.clicked + excluded.clicked,
        replied = r.replied + excluded.replied, bounced = r.bounced + excluded.bounced,
        soft_bounced = r.soft_bounced + excluded.soft_bounced, complained = r.complained + excluded.complained,
        unsubscribed = r.unsubscribed + excluded.unsubscribed
""").bindparams(_IDS)
# The trigger of the deletion subtracts the same, so that the sums stay.
_KEEP_COUNTS = sa.text("""
    INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count)
    SELECT campaign_id, status, workflow_step_number, coalesce(date_trunc('hour',
           CASE status WHEN 'sent' THEN sent_at WHEN 'failed' THEN failed_at END, 'UTC'), '-infinity'), count(*)
    FROM scheduled_emails WHERE id = ANY(:ids) GROUP BY 1, 2, 3, 4
""").bindparams(_IDS)
_REMEMBER = """
    WITH contact AS MATERIALIZED ({contacts}), known AS MATERIALIZED (
        -- A lead that is being deleted takes its contacts with it.
        SELECT id FROM leads WHERE id = ANY(ARRAY(SELECT lead_id FROM contact)) ORDER BY id FOR KEY SHARE
    )
    INSERT INTO past_contacts AS p (lead_id, campaign_id, last_sent_at, received, opened, clicked, bounced)
    SELECT known.id, :campaign_id, max(contact.sent_at), bool_or(contact.received), bool_or(contact.opened),
           bool_or(contact.clicked), bool_or(contact.bounced)
    FROM contact JOIN known ON known.id = contact.lead_id GROUP BY known.id ORDER BY known.id
    ON CONFLICT (lead_id, campaign_id) DO UPDATE SET
        last_sent_at = greatest(p.last_sent_at, excluded.last_sent_at), received = p.received OR excluded.received,
        opened = p.opened OR excluded.opened, clicked = p.clicked OR excluded.clicked,
        bounced = p.bounced OR excluded.bounced
"""
_WHAT_CAME_BACK = """
    m.opened_at IS NOT NULL AS opened, m.clicked_at IS NOT NULL AS clicked,
    coalesce(m.delivery_status IN ('bounced', 'complained'), false) AS bounced"""
_REMEMBER_ROWS = sa.text(
    _REMEMBER.format(
        contacts=f"""
        SELECT e.lead_id, e.sent_at, e.status = 'sent' AS received, {_WHAT_CAME_BACK}
        FROM scheduled_emails e LEFT JOIN emails m ON m.id = e.email_id
        WHERE e.id = ANY(:ids) AND e.lead_id IS NOT NULL AND (e.status = 'sent' OR m.id IS NOT NULL)"""
    )
).bindparams(_IDS, _OF_CAMPAIGN)
_REMEMBER_EMAILS = sa.text(
    _REMEMBER.format(
        contacts=f"""
        SELECT m.lead_id, m.sent_at AT TIME ZONE 'UTC' AS sent_at, false AS received, {_WHAT_CAME_BACK}
        FROM emails m WHERE m.id = ANY(:ids)"""
    )
).bindparams(_EMAIL_IDS, _OF_CAMPAIGN)
_DELETE_ROWS = sa.text("DELETE FROM scheduled_emails WHERE id = ANY(:ids) RETURNING email_id").bindparams(_IDS)
_DELETE_EMAILS = sa.text("DELETE FROM emails WHERE id = ANY(:ids)").bindparams(_EMAIL_IDS)
_PROGRESS = sa.text("""
    UPDATE removals SET rows_removed = rows_removed + :rows, after_id = greatest(after_id, :after_id),
           completed_at = CASE WHEN :done THEN now() END
    WHERE campaign_id = :campaign_id AND kind = :kind RETURNING rows_removed
""").bindparams(_OF_CAMPAIGN, sa.bindparam("after_id", type_=sa.BigInteger), sa.bindparam("done", type_=sa.Boolean))


@dataclass(frozen=True)
class Chunk:
    """What a chunk removed, how far it got in the ledger, and whether nothing is left."""

    rows: int
    after_id: int = 0
    done: bool = False


def begin(connection: sa.Connection, campaign_id: uuid.UUID, kind: RemovalKind) -> sa.RowMapping:
    """Begin a removal, or go on with it: how far it and its archive have got. The caller holds the campaign."""
    return connection.execute(_BEGIN, {"campaign_id": campaign_id, "kind": kind}).mappings().one()


def remove_chunk(connection: sa.Connection, campaign_id: uuid.UUID, kind: RemovalKind) -> Chunk:
    """Remove the next chunk of a campaign that the caller holds. The last one is noted in the audit log."""
    begun = begin(connection, campaign_id, kind)
    remove = {RemovalKind.CONTENT: _content, RemovalKind.EVENTS: _events, RemovalKind.LEDGER: _ledger}[kind]
    chunk = remove(connection, campaign_id, begun["after_id"])
    progress = {"rows": chunk.rows, "after_id": chunk.after_id, "done": chunk.done}
    removed = connection.execute(_PROGRESS, {"campaign_id": campaign_id, "kind": kind, **progress}).scalar_one()
    if chunk.done and removed:
        detail = {"kind": kind, "rows": removed}
        audit_log.record(connection, SYSTEM, AuditAction.CAMPAIGN_REMOVE_HISTORY, "campaign", campaign_id, detail)
    return chunk


def _content(connection: sa.Connection, campaign_id: uuid.UUID, after_id: int) -> Chunk:
    rows = 0
    for blank in (_BLANK_UNSENT, _BLANK_SENT):
        if rows < ROWS_PER_CHUNK:
            limit = ROWS_PER_CHUNK - rows
            rows += connection.execute(blank, {"campaign_id": campaign_id, "limit": limit}).scalar_one()
    return Chunk(rows, done=rows < ROWS_PER_CHUNK)


def _events(connection: sa.Connection, campaign_id: uuid.UUID, after_id: int) -> Chunk:
    ids = next_rows(connection, campaign_id, after_id, ROWS_PER_CHUNK)
    if ids:
        return Chunk(connection.execute(_FORGET_OF_ROWS, {"ids": ids}).scalar_one(), ids[-1])
    emails = connection.scalars(_EMAILS_WITHOUT_ROW, {"campaign_id": campaign_id, "limit": ROWS_PER_CHUNK}).all()
    forgotten = connection.execute(_FORGET_OF_EMAILS, {"ids": emails}).scalar_one()
    return Chunk(forgotten, done=len(emails) < ROWS_PER_CHUNK)


def _ledger(connection: sa.Connection, campaign_id: uuid.UUID, after_id: int) -> Chunk:
    ids = next_rows(connection, campaign_id, after_id, ROWS_PER_CHUNK)
    if not ids:
        return _emails_without_row(connection, campaign_id)
    # Leads are locked before rows of the ledger, in the order in which the deletion of a lead locks them.
    connection.execute(_REMEMBER_ROWS, {"ids": ids, "campaign_id": campaign_id})
    connection.execute(_FOLD, {"ids": ids})
    connection.execute(_KEEP_COUNTS, {"ids": ids})
    connection.execute(_FORGET_OF_ROWS, {"ids": ids})
    emails = [email_id for email_id in connection.scalars(_DELETE_ROWS, {"ids": ids}) if email_id is not None]
    connection.execute(_DELETE_EMAILS, {"ids": emails})
    return Chunk(len(ids), ids[-1])


def _emails_without_row(connection: sa.Connection, campaign_id: uuid.UUID) -> Chunk:
    ids: Sequence[Any] = connection.scalars(_NEXT_EMAILS, {"campaign_id": campaign_id, "limit": ROWS_PER_CHUNK}).all()
    if ids:
        connection.execute(_REMEMBER_EMAILS, {"ids": ids, "campaign_id": campaign_id})
        connection.execute(_FORGET_OF_EMAILS, {"ids": ids})
        connection.execute(_DELETE_EMAILS, {"ids": ids})
    return Chunk(len(ids), done=len(ids) < ROWS_PER_CHUNK)


def next_rows(connection: sa.Connection, campaign_id: uuid.UUID, after_id: int, limit: int) -> list[int]:
    """The ids of the campaign's next rows of the ledger."""
    after = {"campaign_id": campaign_id, "after_id": after_id, "limit": limit}
    return list(connection.scalars(_NEXT_ROWS, after))
