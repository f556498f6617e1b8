"""Imports of uploaded files: a file in the bucket in, new leads of a lead batch and a file of its rejects out.

A run imports chunk by chunk, each in a transaction that also counts its rows. It ends before its deadline, or by a
crash. The next run reads the file again from the beginning and skips the counted rows. Concurrent runs repeat nothing:
the count is set by compare-and-set, and a run that finds another one stops. The run that reaches the end writes all
rejects, because it has read the whole file. Reads and writes `lead_batches` and `leads`. People who must not be mailed
according to the file are suppressed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger

from sendledger.core.errors import Conflict, NotFound
from sendledger.core.tables import lead_batches as _table
from sendledger.core.vocabulary import LeadBatchStatus
from sendledger.files.file_bucket import FileBucket, FileReplaced, StoredFile
from sendledger.files.read_csv import RowError
from sendledger.leads import check_files, lead_batches
from sendledger.leads.import_leads import (
    ROWS_PER_CHUNK,
    addresses_of,
    chunks,
    import_chunk,
    list_known,
    suppress_opted_out,
)
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

IMPORT = "import"
"""The actor of suppressions in the background."""

MOST_RUNS_WITHOUT_PROGRESS = 5
"""After this many runs in a row that crashed before their first chunk, the import fails."""

_OPEN = (LeadBatchStatus.PENDING, LeadBatchStatus.IMPORTING)
_UNFINISHED = (*_OPEN, LeadBatchStatus.CHECKING, LeadBatchStatus.DELETING)

logger = Logger(child=True)


def lead_batch_of(key: str) -> UUID | None:
    """The lead batch that an uploaded file belongs to, by its key."""
    try:
        return UUID(key.removeprefix(lead_batches.UPLOADS).removesuffix(".csv"))
    except ValueError:
        return None


def unfinished(connection: sa.Connection) -> list[UUID]:
    """The lead batches whose work no run seems to do, and those whose file was not uploaded in time."""
    age = sa.func.now() - _table.c.updated_at
    overdue = sa.case(
        (
            _table.c.status == LeadBatchStatus.PENDING,
            age > sa.text(f"interval '{lead_batches.UPLOAD_SECONDS + 600} s'"),
        ),
        (_table.c.status == LeadBatchStatus.DELETING, age > sa.text("interval '1 min'")),
        else_=age > sa.text("interval '10 min'"),
    )
    unfinished = _table.c.status.in_(_UNFINISHED)
    return list(connection.scalars(sa.select(_table.c.id).where(unfinished, overdue).order_by(_table.c.updated_at)))


def work(engine: sa.Engine, bucket: FileBucket, lead_batch_id: UUID, deadline: float) -> bool:
    """Import, check or delete a lead batch until `time.monotonic()` passes the deadline.

    Returns whether there is more to do.
    A batch that is complete, or that another run works on, is left alone.
    """
    query = sa.select(_table.c.status, _table.c.import_settings).where(_table.c.id == lead_batch_id)
    with engine.begin() as connection:
        found = connection.execute(query).one_or_none()
    if found is None:
        return False
    status, settings = found
    if status == LeadBatchStatus.DELETING:
        return lead_batches.delete_until(engine, lead_batch_id, deadline)
    if status == LeadBatchStatus.CHECKING or (status == LeadBatchStatus.PENDING and (settings or {}).get("dry_run")):
        check_files.check(engine, bucket, lead_batch_id, deadline)
    elif status in _OPEN:
        return _import(engine, bucket, lead_batch_id, deadline)
    return False


def _import(engine: sa.Engine, bucket: FileBucket, lead_batch_id: UUID, deadline: float) -> bool:
    failure: str | None = None
    with bucket.new_file(f"{REJECTS}{lead_batch_id}.csv") as writer:
        rejects, found = Rejects(writer), dict[str, Any]()
        try:
            upload = find_upload(engine, bucket, lead_batch_id)
            position = _begin(engine, lead_batch_id, upload.file)
            stream = bucket.reader(upload.file)
            content = read_leads(stream, rejects.note, chosen=upload.chosen)
            refuse_unknown_columns(upload.chosen, content)
            rows = rejects.noted(content.header, content.rows)
            last = _skip(rows, position)
            if upload.is_for_campaign:
                # The run before may have died between its last chunk and the look after it.
                _list_known(engine, lead_batch_id, last)
            for chunk in chunks(rows, stream.tell):
                refuse_too_many(position + len(chunk))
                # In a separate transaction: it locks campaigns, and a start locks its campaign before its batches.
                with engine.begin() as connection:
                    suppress_opted_out(connection, chunk, IMPORT)
                addresses = addresses_of(chunk) if upload.is_for_campaign else []
                # Before the new ones are stored, so that a repetition after a crash finds the same leads.
                _list_known(engine, lead_batch_id, addresses)
                with engine.begin() as connection:
                    added = import_chunk(connection, lead_batch_id, position, chunk)
                    _note_progress(connection, lead_batch_id)
                if added < len(addresses):
                    # Somebody else may have stored some of them in between.
                    _list_known(engine, lead_batch_id, addresses)
                position += len(chunk)
                if time.monotonic() >= deadline:
                    logger.info(
                        "Stopped at the deadline; the next run continues",
                        extra={"lead_batch_id": str(lead_batch_id), "rows_read": position},
                    )
                    return True
            found = found_in(columns_of(content), rejects)
        except (Conflict, NotFound):
            logger.info("Nothing to do, or another run does it", extra={"lead_batch_id": str(lead_batch_id)})
            return False
        except GIVEN_UP as error:
            failure = reason_of(error)
        rejects_object = rejects.complete()
    _end(engine, lead_batch_id, failure, rejects_object, found)
    return False


def _skip(rows: Iterable[Row], count: int) -> list[str]:
    """Pass over rows that are imported; returns the addresses of the last ones, at least those of the last chunk."""
    addresses = (row["email"] for row in islice(rows, count) if not isinstance(row, RowError))
    return list(deque(addresses, ROWS_PER_CHUNK))


def _list_known(engine: sa.Engine, lead_batch_id: UUID, addresses: Sequence[str]) -> None:
    if addresses:
        with engine.begin() as connection:
            list_known(connection, lead_batch_id, addresses)


def _begin(engine: sa.Engine, lead_batch_id: UUID, file: StoredFile) -> int:
    """Count a run; returns how many rows of the file are already imported.

    Raises:
        Conflict: the import has ended, or the batch was deleted.
        FileGivenUp: too many runs without progress.
        FileReplaced
    """
    begun = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id, _table.c.status.in_(_OPEN))
        .values(
            status=LeadBatchStatus.IMPORTING,
            source_etag=sa.func.coalesce(_table.c.source_etag, file.etag),
            runs_without_progress=_table.c.runs_without_progress + 1,
            updated_at=sa.func.now(),
        )
        .returning(_table.c.total_leads, _table.c.source_etag, _table.c.runs_without_progress)
    )
    with engine.begin() as connection:
        found = connection.execute(begun).one_or_none()
    if found is None:
        raise Conflict("There is nothing to import.")
    position, etag, runs = found
    if etag != file.etag:
        raise FileReplaced(file.key)
    if runs > MOST_RUNS_WITHOUT_PROGRESS:
        raise FileGivenUp(f"The import was interrupted {runs - 1} times after row {position:,}; see the log.")
    return int(position)


def _note_progress(connection: sa.Connection, lead_batch_id: UUID) -> None:
    """Raises:
    Conflict: the batch is being deleted, or the import was ended.
    """
    noted = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id, _table.c.status == LeadBatchStatus.IMPORTING)
        .values(runs_without_progress=0)
    )
    if connection.execute(noted).rowcount != 1:
        raise Conflict("It is no longer being imported.")


def _end(
    engine: sa.Engine, lead_batch_id: UUID, failure: str | None, rejects_object: str | None, found: dict[str, Any]
) -> None:
    values: dict[str, Any] = {"status": LeadBatchStatus.FAILED, "failure_reason": failure}
    if failure is None:
        values = {"status": LeadBatchStatus.COMPLETED, "completed_at": sa.func.now()}
    ended = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id, _table.c.status.in_(_OPEN))
        .values(
            **values,
            rejects_object=rejects_object,
            import_settings=lead_batches.with_settings(found),
            updated_at=sa.func.now(),
        )
        .returning(_table.c.status, _table.c.total_leads, _table.c.successful_imports, _table.c.failed_imports)
    )
    with engine.begin() as connection:
        shown = connection.execute(ended).mappings().one_or_none()
    if shown is not None:
        logger.info("Import ended", extra={"lead_batch_id": str(lead_batch_id), **shown})
