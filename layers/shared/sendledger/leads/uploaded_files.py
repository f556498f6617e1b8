"""What a check and an import of an uploaded file share: its place, what its columns are, and the file of its rejects.

What a person has chosen, and what was found, is in the column `import_settings` of its lead batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core.errors import SendledgerError
from sendledger.core.vocabulary import LeadBatchStatus
from sendledger.files.file_bucket import FileBucket, FileReplaced, FileWriter, NoSuchFile, StoredFile
from sendledger.files.read_csv import RowError
from sendledger.files.read_text import UnreadableFile
from sendledger.files.write_csv import csv_bytes
from sendledger.leads import lead_batches
from sendledger.leads.lead_columns import REJECT_COLUMNS
from sendledger.leads.read_leads import LeadFile, ReadColumn, shown

MAX_ROWS = 10_000_000
"""Rows of one file. Skipping this many after an interruption takes minutes, and a run has fifteen."""

REJECTS = "rejects/"

Row = dict[str, Any] | RowError


class FileGivenUp(SendledgerError):
    """The work on a file cannot go on; `detail` says why, to the user."""

    code = "file_given_up"


GIVEN_UP = (UnreadableFile, FileGivenUp, NoSuchFile, FileReplaced)
"""Errors after which the work on a file ends; see `reason_of`."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file, and what a person has said that its columns are."""

    file: StoredFile
    chosen: Mapping[str, str]
    is_for_campaign: bool


def find_upload(engine: sa.Engine, bucket: FileBucket, lead_batch_id: UUID) -> Upload:
    """Raises:
    NotFound: there is no such lead batch.
    NoSuchFile: the file is no longer there.
    FileGivenUp: it was never uploaded.
    """
    with engine.begin() as connection:
        batch = lead_batches.get(connection, lead_batch_id)
    try:
        file = bucket.find(batch["source_object"])
    except NoSuchFile as error:
        if batch["status"] == LeadBatchStatus.PENDING:
            raise FileGivenUp("No file was uploaded while the upload URL was valid.") from error
        raise
    columns = (batch["import_settings"] or {}).get("columns", {})
    return Upload(file, columns, batch["active_campaign_id"] is not None)


def refuse_too_many(rows: int) -> None:
    """Raises:
    FileGivenUp: a file has at most `MAX_ROWS`.
    """
    if rows > MAX_ROWS:
        raise FileGivenUp(f"The file has more than {MAX_ROWS:,} rows. Split it.")


def refuse_unknown_columns(chosen: Mapping[str, str], content: LeadFile) -> None:
    """Raises:
    FileGivenUp: a column that somebody has said something of is not in the file.
    """
    if missing := chosen.keys() - set(content.header):
        raise FileGivenUp(f"The file has no column {min(missing)[:255]}; it has {', '.join(content.header)[:1_000]}.")


def found_in(columns: Iterable[ReadColumn], rejects: Rejects) -> dict[str, Any]:
    """What `import_settings` keeps of a file that was read to its end."""
    return {"understood": [asdict(column) for column in columns], "rejected": dict(rejects.by_code)}


def reason_of(error: Exception) -> str:
    """Why the work has ended, in words."""
    match error:
        case UnreadableFile():
            place = error.errors[0].field
            return shown(error.detail if place == "file" else f"{error.detail} ({place})")
        case NoSuchFile():
            return "The uploaded file is no longer there."
        case FileReplaced():
            return "Another file was uploaded in its place while it was being read."
        case FileGivenUp():
            return shown(error.detail)
    raise error


class Rejects:
    """The file of rejects: each row and value that was not imported, with the reason, under the file's own header."""

    def __init__(self, writer: FileWriter) -> None:
        self.by_code: Counter[str] = Counter()
        self._writer = writer
        self._header: list[str] = []

    def noted(self, header: list[str], rows: Iterable[Row]) -> Iterator[Row]:
        """Yields the rows, and writes the rejects among them."""
        self._header = header
        for row in rows:
            if isinstance(row, RowError):
                self.note(row)
            yield row

    def note(self, row: RowError) -> None:
        if not self.by_code:
            self._writer.write(csv_bytes([[*REJECT_COLUMNS, *self._header]]))
        self.by_code[row.code] += 1
        self._writer.write(csv_bytes([[row.row, row.field, row.code, row.message, *row.cells]]))

    def complete(self) -> str | None:
        """The key of the file, or None if no row was rejected."""
        if not self.by_code:
            return None
        self._writer.complete()
        return self._writer.key
