"""Deletes the files of the bucket that nothing refers to any more. Reads the attachments of templates and of campaigns.

A file is without a reference if its attachment was removed, and no campaign that has started keeps it. What is younger
than `KEPT_DAYS` stays: it may be about to be attached, or a database that was restored to an earlier time refers to it.
"""

from __future__ import annotations

import datetime as dt
import time

import sqlalchemy as sa

from sendledger.files.file_bucket import FileBucket

KEPT_DAYS = 35
"""As long as RDS keeps backups, at most."""

_UNUSED = sa.text("""
    SELECT key FROM unnest(CAST(:keys AS text[])) AS key
    WHERE NOT EXISTS (SELECT FROM email_template_attachments a WHERE :prefix || a.id = key)
      AND NOT EXISTS (SELECT FROM campaign_steps s, jsonb_array_elements(s.attachments) AS file
                      WHERE :prefix || (file ->> 'id') = key)
      AND NOT EXISTS (SELECT FROM campaign_step_variants v, jsonb_array_elements(v.attachments) AS file
                      WHERE :prefix || (file ->> 'id') = key)
""")


def remove_unused_files(engine: sa.Engine, bucket: FileBucket, prefix: str, deadline: float) -> int:
    """Delete those with this prefix until `time.monotonic()` passes `deadline`; returns their number."""
    removed = 0
    for keys in bucket.keys_before(dt.datetime.now(dt.UTC) - dt.timedelta(days=KEPT_DAYS), prefix):
        if time.monotonic() > deadline:
            break
        with engine.connect() as connection:
            unused = list(connection.scalars(_UNUSED, {"keys": keys, "prefix": prefix})) if keys else []
        if unused:
            bucket.delete_files(unused)
            removed += len(unused)
    return removed
