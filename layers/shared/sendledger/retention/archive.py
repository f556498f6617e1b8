"""Writing what is about to be removed to the bucket first, in parts.

    archive/<campaign>/<kind>/<began>/ledger-00001.csv.gz    rows of the ledger
    archive/<campaign>/<kind>/<began>/emails-00001.csv.gz    emails with their content
    archive/<campaign>/<kind>/<began>/events-00001.csv.gz    what SES reported
    archive/<campaign>/<kind>/<began>/complete.json          written last: only with it the archive counts

A part is read in one transaction, written without one, and noted in another. A part that a crash left behind is written
again under the same name. Nothing is removed before the archive is complete. Reads `scheduled_emails`, `emails` and
`email_events`; writes `removals`.
"""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sendledger.core.vocabulary import RemovalKind
from sendledger.files.file_bucket import FileBucket
from sendledger.files.write_csv import csv_bytes
from sendledger.retention.due_campaigns import hold
from sendledger.retention.remove_rows import begin, next_rows

ARCHIVE = "archive/"
"""The prefix of the files in the bucket."""

ROWS_PER_PART = 5_000
"""Rows of the ledger whose emails and events are held in memory together, at most."""
BYTES_PER_PART = 10_000_000
"""Texts of emails that are held in memory together, if it is more than one email. They are there several times."""

LEDGER = """
    e.id AS scheduled_email_id, e.lead_id, e.workflow_step_number AS step, e.revision, e.variant, e.status, e.reason,
    e.error_code, e.failure_reason, e.scheduled_for, e.sent_at, e.failed_at, e.ses_message_id, e.email_id, e.sender_id,
    e.created_at"""
EMAILS = """
    m.id AS email_id, m.scheduled_email_id, m.lead_id, m.to_address, m.subject, m.body_text, m.body_html,
    m.sent_at AT TIME ZONE 'UTC' AS sent_at, m.delivery_status, m.delivered_at AT TIME ZONE 'UTC' AS delivered_at,
    m.opened_at AT TIME ZONE 'UTC' AS opened_at, m.clicked_at AT TIME ZONE 'UTC' AS clicked_at,
    m.bounced_at AT TIME ZONE 'UTC' AS bounced_at, m.soft_bounced_at AT TIME ZONE 'UTC' AS soft_bounced_at"""
EVENTS = """
    v.id AS event_id, v.scheduled_email_id, v.email_id, v.lead_id, v.ses_message_id, v.event_type, v.occurred_at,
    v.is_machine, CAST(v.detail AS text) AS detail"""
# OFFSET 0 makes PostgreSQL look for the events of each row by the index, as in remove_rows.py.
_OF_ROWS = {
    "ledger": f"SELECT {LEDGER} FROM scheduled_emails e WHERE e.id = ANY(:ids) ORDER BY e.id",
    "emails": f"""SELECT {EMAILS} FROM scheduled_emails e JOIN emails m ON m.id = e.email_id
                  WHERE e.id = ANY(:ids) ORDER BY e.id""",
    "events": f"""SELECT {EVENTS} FROM unnest(:ids) AS row (id) CROSS JOIN LATERAL (
                      SELECT * FROM email_events x WHERE x.scheduled_email_id = row.id OFFSET 0) v
                  ORDER BY v.id""",
}
# Emails that no row of the ledger names: an older application has sent them.
_OF_EMAILS = {
    "emails": f"SELECT {EMAILS} FROM emails m WHERE m.id = ANY(:ids) ORDER BY m.id",
    "events": f"""SELECT {EVENTS} FROM emails m CROSS JOIN LATERAL (
                      SELECT * FROM email_events x WHERE x.lead_id = m.lead_id AND x.email_id = m.id OFFSET 0) v
                  WHERE m.id = ANY(:ids) ORDER BY v.id""",
}
_TEXTS = "coalesce(octet_length(m.body_text) + coalesce(octet_length(m.body_html), 0), 0)"
_FITTING = """
    SELECT id FROM (SELECT {id}, sum({texts}) OVER (ORDER BY {id}) AS bytes FROM {table} WHERE {id} = ANY(:ids)) sized
    WHERE bytes <= :most OR id = :first ORDER BY id
"""
_FITTING_ROWS = _FITTING.format(
    id="e.id", texts=_TEXTS, table="scheduled_emails e LEFT JOIN emails m ON m.id = e.email_id"
)
_FITTING_EMAILS = _FITTING.format(id="m.id", texts=_TEXTS, table="emails m")
_FILES = {
    RemovalKind.LEDGER: ("ledger", "emails", "events"),
    RemovalKind.EVENTS: ("events",),
    RemovalKind.CONTENT: ("emails",),
}
_NEXT_EMAILS = sa.text("""
    SELECT id FROM emails
    WHERE campaign_id = :campaign_id AND scheduled_email_id IS NULL AND id > :after ORDER BY id LIMIT :limit
""").bindparams(sa.bindparam("campaign_id", type_=sa.UUID), sa.bindparam("after", type_=sa.UUID))
# Of several runs one notes a part; they have written the same.
_NOTE = sa.text("""
    UPDATE removals SET archive_parts = archive_parts + CASE WHEN :done THEN 0 ELSE 1 END,
           archive_rows = archive_rows + :rows, archived_after_id = :after_id, archived_after_email = :after_email,
           archived_at = CASE WHEN :done THEN now() END
    WHERE campaign_id = :campaign_id AND kind = :kind AND archive_parts = :parts AND archived_at IS NULL
""").bindparams(
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("after_email", type_=sa.UUID),
    sa.bindparam("after_id", type_=sa.BigInteger),
    sa.bindparam("done", type_=sa.Boolean),
)


@dataclass(frozen=True)
class _Part:
    """Files with their content, how many rows they have, and where the next part begins. Without files: the end."""

    files: dict[str, bytes]
    rows: int
    after_id: int
    after_email: uuid.UUID


def archive(
    engine: sa.Engine, bucket: FileBucket, campaign_id: uuid.UUID, kind: RemovalKind, days: int, deadline: float
) -> bool:
    """Write the archive of a campaign, or go on with it; returns whether it is complete.

    Raises:
        BucketUnreachable
    """
    while time.monotonic() < deadline:
        with engine.begin() as connection:
            if not hold(connection, campaign_id, kind, days):
                return False
            state = begin(connection, campaign_id, kind)
            if state["archived_at"] is not None:
                return True
            part = _read(connection, state)
        folder = f"{ARCHIVE}{campaign_id}/{kind}/{state['began_at']:%Y%m%dT%H%M%SZ}"
        for name, content in part.files.items():
            bucket.store(f"{folder}/{name}-{state['archive_parts'] + 1:05d}.csv.gz", content, "application/gzip")
        if not part.files:
            said = {"campaign_id": str(campaign_id), "kind": kind, "parts": state["archive_parts"]}
            complete = json.dumps({**said, "rows": state["archive_rows"]}).encode()
            bucket.store(f"{folder}/complete.json", complete, "application/json")
        noted = {"parts": state["archive_parts"], "rows": part.rows, "done": not part.files}
        places = {"after_id": part.after_id, "after_email": part.after_email}
        with engine.begin() as connection:
            connection.execute(_NOTE, {"campaign_id": campaign_id, "kind": kind, **noted, **places})
    return False


def _read(connection: sa.Connection, state: sa.RowMapping) -> _Part:
    kind, after_id = RemovalKind(state["kind"]), state["archived_after_id"]
    after_email = state["archived_after_email"] or uuid.UUID(int=0)
    ids = next_rows(connection, state["campaign_id"], after_id, ROWS_PER_PART)
    if ids:
        ids = _fitting(connection, _FITTING_ROWS, sa.BigInteger(), ids)
        files, rows = _written(connection, kind, _OF_ROWS, sa.BigInteger(), ids)
        return _Part(files, rows, ids[-1], after_email)
    after = {"campaign_id": state["campaign_id"], "after": after_email, "limit": ROWS_PER_PART}
    email_ids = connection.scalars(_NEXT_EMAILS, after).all()
    if not email_ids:
        return _Part({}, 0, after_id, after_email)
    email_ids = _fitting(connection, _FITTING_EMAILS, sa.UUID(), email_ids)
    files, rows = _written(connection, kind, _OF_EMAILS, sa.UUID(), email_ids)
    return _Part(files, rows, after_id, email_ids[-1])


def _fitting(connection: sa.Connection, query: str, type_: sa.types.TypeEngine[Any], ids: Sequence[Any]) -> list[Any]:
    """The first of these ids whose texts fit into a part; at least one."""
    parameters = sa.bindparam("ids", list(ids), sa.ARRAY(type_)), sa.bindparam("first", ids[0], type_)
    found = connection.scalars(sa.text(query).bindparams(*parameters), {"most": BYTES_PER_PART})
    return list(found)


def _written(
    connection: sa.Connection,
    kind: RemovalKind,
    queries: dict[str, str],
    type_: sa.types.TypeEngine[Any],
    ids: Sequence[object],
) -> tuple[dict[str, bytes], int]:
    """The files of a part, by name, and how many rows they have."""
    files, rows = {}, 0
    for name in (each for each in _FILES[kind] if each in queries):
        query = sa.text(queries[name]).bindparams(sa.bindparam("ids", list(ids), sa.ARRAY(type_)))
        found = connection.execute(query)
        header, lines = tuple(found.keys()), found.all()
        files[name] = gzip.compress(csv_bytes([header, *lines]), mtime=0)
        rows += len(lines)
    return files, rows
