"""Writing an export to a CSV file in the bucket, page by page. Reads what it exports, writes `exports`.

An interrupted run leaves nothing in the bucket, and the next one starts from the beginning. Of two concurrent runs the
later file stays; both are complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

import sqlalchemy as sa
from aws_lambda_powertools.logging import Logger

from sendledger.core.errors import NotFound
from sendledger.core.reader import Reader, Source
from sendledger.core.vocabulary import ExportKind, ExportReader
from sendledger.exports import export_rows, exports
from sendledger.exports.export_rows import Rows
from sendledger.files.file_bucket import FileBucket
from sendledger.files.write_csv import BYTE_ORDER_MARK, csv_bytes

EXPORTS = "exports/"
"""The prefix of the files in the bucket."""

logger = Logger(child=True)


def write_export(
    engine: sa.Engine, bucket: FileBucket, export_id: UUID, deadline: float, reader: Reader | None = None
) -> None:
    """Write the file. The export fails if that is not done when `time.monotonic()` passes the deadline.

    What is in the file is read from the reader endpoint, where there is one.
    """
    with engine.begin() as connection:
        export = exports.begin(connection, export_id)
    if export is None:
        return
    key = f"{EXPORTS}{export_id}.csv"
    rows_written = 0
    with Source(engine, reader) as source, bucket.new_file(key) as file:
        header, pages = _content(source, export)
        if export["made_for"] == ExportReader.EXCEL:
            file.write(BYTE_ORDER_MARK)
        file.write(csv_bytes([header]))
        try:
            for page in pages:
                file.write(csv_bytes(page))
                rows_written += len(page)
                with engine.begin() as connection:
                    exports.note_progress(connection, export_id, rows_written)
                    if time.monotonic() >= deadline:
                        reason = f"It was not done in time, after {rows_written:,} rows. Export fewer at once."
                        exports.fail(connection, export_id, reason)
                        return
        except NotFound:
            logger.info("The campaign was deleted meanwhile", extra={"export_id": str(export_id)})
            return
        file.complete()
    with engine.begin() as connection:
        exports.complete(connection, export_id, key, rows_written)
    logger.info("Export written", extra={"export_id": str(export_id), "rows": rows_written})


def _content(source: Source, export: sa.RowMapping) -> tuple[tuple[str, ...], Iterator[Rows]]:
    if export["kind"] == ExportKind.CAMPAIGN_LEDGER:
        return export_rows.LEDGER_HEADER, export_rows.ledger_rows(source, export["campaign_id"])
    return export_rows.LEAD_HEADER, export_rows.lead_rows(source, export["filters"])
