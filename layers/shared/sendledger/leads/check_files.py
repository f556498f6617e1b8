"""Checks of uploaded files: what would an import make of the file? Only the counts and its rejects are stored.

A check that is interrupted begins again. Of two at once, the later one goes on. Reads `leads`; reads and writes
`lead_batches`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger

from sendledger.core.errors import Conflict, NotFound
from sendledger.core.tables import lead_batches as _table
from sendledger.core.vocabulary import LeadBatchStatus
from sendledger.files.file_bucket import FileBucket, FileReplaced, StoredFile
from sendledger.files.read_csv import RowError
from sendledger.leads import lead_batches
from sendledger.leads.import_leads import chunks
from sendledger.leads.read_leads import columns_of, read_leads
from sendledger.leads.uploaded_files import (
    GIVEN_UP,
    REJECTS,
    FileGivenUp,
    Rejects,
    Row,
    find_upload,
    found_in,
    reason_of,
    refuse_too_many,
    refuse_unknown_columns,
)

MOST_RUNS = 5
"""After this many runs that have crashed the check fails."""

_KNOWN = sa.text("""
    SELECT count(*) FROM json_array_elements_text(CAST(:addresses AS json)) AS given (address)
    WHERE EXISTS (SELECT FROM leads l WHERE lower(l.email) = given.address)
""")

logger = Logger(child=True)


def check(engine: sa.Engine, bucket: FileBucket, lead_batch_id: UUID, deadline: float) -> None:
    """Read the whole file before `time.monotonic()` passes the deadline. The batch is then `checked`, or `failed`."""
    failure: str | None = None
    found: dict[str, Any] = {}
    position = 0
    with bucket.new_file(f"{REJECTS}{lead_batch_id}.csv") as writer:
        rejects = Rejects(writer)
        try:
            upload = find_upload(engine, bucket, lead_batch_id)
            _begin(engine, lead_batch_id, upload.file)
            stream = bucket.reader(upload.file)
            content = read_leads(stream, rejects.note, chosen=upload.chosen)
            refuse_unknown_columns(upload.chosen, content)
            seen = set[int]()
            for chunk in chunks(rejects.noted(content.header, content.rows), stream.tell):
                refuse_too_many(position + len(chunk))
                with engine.begin() as connection:
                    _count(connection, lead_batch_id, position, chunk, seen)
                position += len(chunk)
                if time.monotonic() >= deadline:
                    raise FileGivenUp(
                        f"A check ends after {position:,} rows. Import the file without one, or split it."
                    )
            found = found_in(columns_of(content), rejects)
        except (Conflict, NotFound):
            logger.info("Nothing to check, or another run does it", extra={"lead_batch_id": str(lead_batch_id)})
            return
        except GIVEN_UP as error:
            failure = reason_of(error)
        rejects_object = rejects.complete()
    _end(engine, lead_batch_id, position, failure, rejects_object, found)


def _begin(engine: sa.Engine, lead_batch_id: UUID, file: StoredFile) -> None:
    """Raises:
    Conflict: the batch is not to be checked.
    FileReplaced
    FileGivenUp: too many runs.
    """
    begun = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id, _table.c.status.in_([LeadBatchStatus.PENDING, LeadBatchStatus.CHECKING]))
        .values(
            status=LeadBatchStatus.CHECKING,
            source_etag=sa.func.coalesce(_table.c.source_etag, file.etag),
            runs_without_progress=_table.c.runs_without_progress + 1,
            **lead_batches.NOTHING_COUNTED,
            updated_at=sa.func.now(),
        )
        .returning(_table.c.source_etag, _table.c.runs_without_progress)
    )
    with engine.begin() as connection:
        found = connection.execute(begun).one_or_none()
    if found is None:
        raise Conflict("There is nothing to check.")
    etag, runs = found
    if etag != file.etag:
        raise FileReplaced(file.key)
    if runs > MOST_RUNS:
        raise FileGivenUp(f"The check was interrupted {runs - 1} times; see the log.")


def _count(connection: sa.Connection, lead_batch_id: UUID, position: int, chunk: Sequence[Row], seen: set[int]) -> None:
    """Count the rows of a chunk. `seen` are hashes of the addresses before, as the addresses themselves are many.

    Raises:
        Conflict: another run has begun, or the batch is being deleted.
    """
    given = [row["email"].lower() for row in chunk if not isinstance(row, RowError)]
    fresh = {address for address in given if hash(address) not in seen}
    seen.update(map(hash, fresh))
    known = connection.execute(_KNOWN, {"addresses": json.dumps(sorted(fresh), ensure_ascii=False)}).scalar_one()
    new = len(fresh) - known
    counted = connection.execute(
        sa.update(_table)
        .where(
            _table.c.id == lead_batch_id,
            _table.c.status == LeadBatchStatus.CHECKING,
            _table.c.total_leads == position,
        )
        .values(
            total_leads=position + len(chunk),
            successful_imports=_table.c.successful_imports + new,
            duplicates_skipped=_table.c.duplicates_skipped + (len(given) - new),
            failed_imports=_table.c.failed_imports + (len(chunk) - len(given)),
            updated_at=sa.func.now(),
        )
    )
    if counted.rowcount != 1:
        raise Conflict("This file is being checked by another run, or its lead batch was deleted.")


def _end(
    engine: sa.Engine,
    lead_batch_id: UUID,
    position: int,
    failure: str | None,
    rejects_object: str | None,
    found: dict[str, Any],
) -> None:
    """Unless another run has begun, and counts anew."""
    status = LeadBatchStatus.CHECKED if failure is None else LeadBatchStatus.FAILED
    open_ = [LeadBatchStatus.PENDING, LeadBatchStatus.CHECKING]
    with engine.begin() as connection:
        connection.execute(
            sa.update(_table)
            .where(_table.c.id == lead_batch_id, _table.c.status.in_(open_))
            .where(sa.true() if failure is not None else _table.c.total_leads == position)
            .values(
                status=status,
                failure_reason=failure,
                rejects_object=rejects_object,
                import_settings=lead_batches.with_settings(found),
                runs_without_progress=0,
                updated_at=sa.func.now(),
            )
        )
    logger.info("Check ended", extra={"lead_batch_id": str(lead_batch_id), "status": status})
