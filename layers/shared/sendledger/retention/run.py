"""One run of retention: settings in, everything that is too old removed, chunk by chunk, while there is time.

Each chunk is a short transaction of its own. Several runs at once take different campaigns. Between two chunks a run
rests as long as the chunk took, so that the senders have the database to themselves half of the time. Writes
`retention_state`, `replies` and `answers`, and through remove_rows.py what that writes.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter

import sqlalchemy as sa
from aws_lambda_powertools import Logger
from sqlalchemy.dialects.postgresql import insert

from sendledger.core.settings import RetentionSettings
from sendledger.core.tables import retention_state
from sendledger.core.vocabulary import RemovalKind
from sendledger.files.file_bucket import BucketUnreachable, FileBucket
from sendledger.retention import remove_rows
from sendledger.retention.archive import archive
from sendledger.retention.due_campaigns import HAS_ENDED, count_waiting, hold, next_campaign

REPLIES = "replies"
"""The word for emptied replies, beside the kinds of removals."""

logger = Logger(child=True)

# A reply that a person has not dealt with stays, and so does one of a campaign under way.
_BLANK_REPLIES = sa.text(f"""
    WITH chunk AS MATERIALIZED (
        SELECT r.id FROM replies r
        WHERE (r.body_text <> '' OR r.subject <> '') AND r.created_at < now() - make_interval(days => :days)
          AND (r.handled_at IS NOT NULL OR r.automatic IS NOT NULL)
          AND (r.campaign_id IS NULL OR EXISTS (SELECT FROM campaigns c WHERE c.id = r.campaign_id AND {HAS_ENDED}))
        ORDER BY r.created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), answered AS (
        UPDATE answers a SET subject = '', body_text = '' FROM chunk WHERE a.reply_id = chunk.id
    ), blanked AS (
        UPDATE replies r SET subject = '', body_text = '' FROM chunk WHERE r.id = chunk.id
    )
    SELECT count(*) FROM chunk
""")


def remove_old(
    engine: sa.Engine, settings: RetentionSettings, deadline: float, bucket: FileBucket | None = None
) -> Counter[str]:
    """Remove what is older than the settings say, until nothing is left or `time.monotonic()` passes the deadline.

    With a bucket, what is removed of a campaign is archived there first, as a whole. Returns how many rows were
    removed, by kind. A campaign that fails does not stop the others; its error is raised at the end.
    """
    removed: Counter[str] = Counter()
    errors: list[Exception] = []
    # The ledger first: its emails and events go with it.
    kinds = {
        RemovalKind.LEDGER: settings.keep_ledgers_days,
        RemovalKind.EVENTS: settings.keep_events_days,
        RemovalKind.CONTENT: settings.keep_content_days,
    }
    kinds = {kind: days for kind, days in kinds.items() if days}
    for kind, days in kinds.items():
        passed: set[uuid.UUID] = set()
        while time.monotonic() < deadline:
            with engine.begin() as connection:
                campaign_id = next_campaign(connection, kind, days, passed)
            if campaign_id is None:
                break
            passed.add(campaign_id)
            try:
                if bucket is not None and not archive(engine, bucket, campaign_id, kind, days, deadline):
                    continue
                removed[kind] += _remove_all(engine, campaign_id, kind, days, deadline)
            except (sa.exc.DBAPIError, BucketUnreachable) as error:
                logger.exception("Retention failed", extra={"campaign_id": str(campaign_id), "kind": kind})
                errors.append(error)
    if settings.keep_content_days:
        removed[REPLIES] = _blank_replies(engine, settings.keep_content_days, deadline)
    with engine.begin() as connection:
        waiting = max((count_waiting(connection, kind, days) for kind, days in kinds.items()), default=0)
        values = {"last_run_at": sa.func.now(), "rows_removed": dict(removed), "campaigns_waiting": waiting}
        connection.execute(
            insert(retention_state).values(id=1, **values).on_conflict_do_update(index_elements=["id"], set_=values)
        )
    if errors:
        raise errors[0]
    return removed


def _remove_all(engine: sa.Engine, campaign_id: uuid.UUID, kind: RemovalKind, days: int, deadline: float) -> int:
    """Remove one campaign's rows of a kind, as far as the time goes. Returns how many."""
    removed = 0
    while True:
        began = time.monotonic()
        with engine.begin() as connection:
            if not hold(connection, campaign_id, kind, days):
                return removed
            chunk = remove_rows.remove_chunk(connection, campaign_id, kind)
        removed += chunk.rows
        if chunk.done or time.monotonic() >= deadline:
            return removed
        time.sleep(time.monotonic() - began)


def _blank_replies(engine: sa.Engine, days: int, deadline: float) -> int:
    blanked = 0
    while time.monotonic() < deadline:
        with engine.begin() as connection:
            chunk = {"days": days, "limit": remove_rows.ROWS_PER_CHUNK}
            rows = connection.execute(_BLANK_REPLIES, chunk).scalar_one()
        blanked += rows
        if rows < remove_rows.ROWS_PER_CHUNK:
            break
    return blanked
