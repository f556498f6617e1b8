"""Importing leads: the rows of a file in, new leads of a lead batch out.

People who must not be mailed according to the file are suppressed instead, whether they are leads already or not. Known
leads of an import for a campaign get on its list. Reads and writes `leads` and `lead_batches`; writes `campaign_leads`,
`suppressions` and `scheduled_emails`.

A batch's `total_leads` is the number of rows processed so far. It changes in the same transaction as the leads, so an
interrupted import continues by skipping as many rows of the same file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO
from uuid import UUID

import sqlalchemy as sa

from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.ordered_ids import ordered_ids
from sendledger.core.tables import lead_batches
from sendledger.core.vocabulary import SuppressionReason
from sendledger.feedback.suppressions import NewSuppression, Suppressed, suppress_all
from sendledger.files.read_csv import RowError
from sendledger.files.read_text import UnreadableFile
from sendledger.files.write_csv import csv_bytes
from sendledger.leads.lead_columns import NOTHING_CHOSEN, REJECT_COLUMNS
from sendledger.leads.read_leads import OptedOut, ReadColumn, columns_of, read_leads

ROWS_PER_CHUNK = 5_000
BYTES_PER_CHUNK = 8 * 1024 * 1024
MOST_ERRORS = 1_000
"""Errors that the answer to an import lists; `failed_imports` counts all of them."""

MAX_NOTE = 300
"""Characters of the note of a suppression that an import makes."""

SOURCE, SOURCE_TYPE = "csv_import", "manual_import"

_LOCK = 0x6C65616473  # "leads"; advisory locks are known by a number
_COLUMNS = (
    *("email", "company_name", "contact_name", "job_title", "industry", "business_type", "city", "country", "address"),
    *("website", "phone", "linkedin_url", "company_size", "time_zone", "notes", "tags", "custom_fields", "id"),
)
_TYPES = {"id": "uuid", "tags": "text[]", "custom_fields": "jsonb", "status": "lead_status"}
_INSERT = sa.text(f"""
    INSERT INTO leads ({", ".join(_COLUMNS)}, status, source, source_type, batch_id)
    SELECT {", ".join(_COLUMNS)}, coalesce(status, 'new'), :source, :source_type, :batch_id
    FROM json_to_recordset(CAST(:rows AS json))
         AS given({", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in (*_COLUMNS, "status"))})
    WHERE NOT EXISTS (SELECT FROM leads l WHERE lower(l.email) = lower(given.email))
""").bindparams(
    sa.bindparam("batch_id", type_=sa.UUID),
    sa.bindparam("source", type_=sa.String),
    sa.bindparam("source_type", type_=sa.String),
)


# What is in the campaign already, or was left out, stays so. A batch of no campaign lists nobody. Imports at the same
# time may list a lead twice; it counts once.
_LIST_KNOWN = sa.text("""
    INSERT INTO campaign_leads (campaign_id, lead_id)
    SELECT b.active_campaign_id, l.id
    FROM lead_batches b JOIN leads l ON lower(l.email) = ANY(:addresses) AND l.batch_id IS DISTINCT FROM b.id
    WHERE b.id = :batch_id AND b.active_campaign_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM campaign_leads k WHERE k.campaign_id = b.active_campaign_id AND k.lead_id = l.id)
      AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.campaign_id = b.active_campaign_id AND e.lead_id = l.id)
      AND NOT EXISTS (SELECT FROM left_out_leads o WHERE o.campaign_id = b.active_campaign_id AND o.lead_id = l.id)
    ORDER BY l.id
""").bindparams(sa.bindparam("batch_id", type_=sa.UUID), sa.bindparam("addresses", type_=sa.ARRAY(sa.Text)))


@dataclass(frozen=True)
class ImportedFile:
    """What became of a file. `errors` and `warnings` hold the first `MOST_ERRORS`, in the order of their rows."""

    lead_batch: sa.RowMapping
    errors: list[RowError]
    warnings: list[RowError]
    """Values that were left out of leads."""
    suppressed: Suppressed
    """The suppressions of people who opted out. After the commit their campaigns may be complete."""
    columns: list[ReadColumn]
    rejected: Counter[str]
    """All of them, by their code."""
    may_be_known: list[str]
    """Addresses of leads, among which are all that were there before."""


def lock_addresses(connection: sa.Connection) -> None:
    """Lock the adding of addresses until the transaction ends. Take the lock before checking whether one exists.

    A unique constraint on the address is not possible: an existing installation may contain duplicates.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def insert_new(
    connection: sa.Connection, rows: Iterable[Mapping[str, Any]], batch_id: UUID | None, source: str, source_type: str
) -> int:
    """Store the leads whose addresses are new, once each; returns how many. `rows` are of `lead_values`.

    Their ids are in the order of the rows, and campaigns send in the order of ids.
    """
    unique: dict[str, Mapping[str, Any]] = {}  # one statement does not see its own duplicates
    for row in rows:
        unique.setdefault(row["email"].lower(), row)
    if not unique:
        return 0
    lock_addresses(connection)
    # ensure_ascii would write every character beyond ASCII as six.
    leads = [{"id": str(id_), **row} for id_, row in zip(ordered_ids(len(unique)), unique.values(), strict=True)]
    given = json.dumps(leads, ensure_ascii=False, separators=(",", ":"))
    origin = {"batch_id": batch_id, "source": source, "source_type": source_type}
    return connection.execute(_INSERT, {"rows": given, **origin}).rowcount


def list_known(connection: sa.Connection, batch_id: UUID, addresses: Iterable[str]) -> int:
    """Put leads with these addresses that were there before the batch on the list of the campaign that the batch is
    for. Repeatable; returns how many."""
    lower = list({address.lower() for address in addresses})
    return connection.execute(_LIST_KNOWN, {"batch_id": batch_id, "addresses": lower}).rowcount if lower else 0


def addresses_of(rows: Iterable[dict[str, Any] | RowError]) -> list[str]:
    """The addresses of the rows that are leads."""
    return [row["email"] for row in rows if not isinstance(row, RowError)]


def import_file(
    connection: sa.Connection,
    stream: BinaryIO,
    batch: Mapping[str, Any],
    actor: str,
    charset: str | None = None,
    chosen: Mapping[str, str] = NOTHING_CHOSEN,
) -> ImportedFile:
    """Import a whole file as a new lead batch, in the caller's transaction.

    `batch` has its name and other columns. `chosen` says what columns are, in place of what is recognised; see
    lead_columns.py.

    A file with only duplicates makes a batch without leads, as a record of the import.

    Raises:
        UnreadableFile: the file as a whole cannot be read.
        InvalidInput: `chosen` names a column that the file does not have.
    """
    warnings: list[RowError] = []
    rejected: Counter[str] = Counter()

    def warn(warning: RowError) -> None:
        rejected[warning.code] += 1
        _keep_some(warnings, [warning])

    file = read_leads(stream, warn, charset, chosen)
    if missing := chosen.keys() - set(file.header):
        message = f"the file has no column {min(missing)[:MAX_NOTE]}; it has {', '.join(file.header)[:1_000]}"
        raise InvalidInput("The file does not have this column.", [FieldError("columns", message)])
    batch_id = connection.execute(sa.insert(lead_batches).values(batch).returning(lead_batches.c.id)).scalar_one()
    errors: list[RowError] = []
    opted_out: list[OptedOut] = []
    may_be_known: list[str] = []
    position = 0
    for chunk in chunks(file.rows):
        addresses = addresses_of(chunk)
        if import_chunk(connection, batch_id, position, chunk) < len(addresses):
            may_be_known += addresses
        position += len(chunk)
        failed = [row for row in chunk if isinstance(row, RowError)]
        rejected.update(row.code for row in failed)
        opted_out += (row for row in failed if isinstance(row, OptedOut))
        _keep_some(errors, failed)
    # At the end, for all chunks: suppressing locks campaigns before leads, and locks are kept until the end.
    suppressed = suppress_opted_out(connection, opted_out, actor)
    completed = connection.execute(
        sa.update(lead_batches)
        .where(lead_batches.c.id == batch_id)
        .values(completed_at=sa.func.now())
        .returning(lead_batches)
    )
    lead_batch, columns = completed.mappings().one(), columns_of(file)
    return ImportedFile(lead_batch, errors, warnings, suppressed, columns, rejected, may_be_known)


def rejects_csv(imported: ImportedFile) -> str:
    """The rows and values that are listed as not taken, as a file under the header of the imported one."""
    rejects = sorted((*imported.errors, *imported.warnings), key=lambda reject: reject.row)
    rows = [[each.row, each.field, each.code, each.message, *each.cells] for each in rejects]
    return csv_bytes([[*REJECT_COLUMNS, *(column.name for column in imported.columns)], *rows]).decode()


def _keep_some(kept: list[RowError], found: Sequence[RowError]) -> None:
    kept += islice(found, MOST_ERRORS - len(kept))


def suppress_opted_out(connection: sa.Connection, rows: Iterable[RowError | dict[str, Any]], actor: str) -> Suppressed:
    """Suppress the people among the rows who must not be mailed, and skip their planned emails. Repeatable."""
    given = (
        NewSuppression(row.address.lower(), SuppressionReason.IMPORT, f"An imported file: {row.message}"[:MAX_NOTE])
        for row in rows
        if isinstance(row, OptedOut) and row.address
    )
    return suppress_all(connection, given, actor)


def chunks(
    rows: Iterable[dict[str, Any] | RowError], position: Callable[[], int] = lambda: 0
) -> Iterator[list[dict[str, Any] | RowError]]:
    """The rows in chunks of `ROWS_PER_CHUNK`, read on demand.

    `position` is how many bytes of the file have been read: no chunk is of more than about `BYTES_PER_CHUNK`.

    Raises:
        UnreadableFile: the file cannot be read any further; the rows before have been yielded.
    """
    remaining = iter(rows)
    while True:
        chunk: list[dict[str, Any] | RowError] = []
        full = position() + BYTES_PER_CHUNK
        try:
            for row in islice(remaining, ROWS_PER_CHUNK):
                chunk.append(row)
                if position() > full:
                    break
        except UnreadableFile:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk


def import_chunk(
    connection: sa.Connection, batch_id: UUID, position: int, chunk: Sequence[dict[str, Any] | RowError]
) -> int:
    """Add the leads of a chunk, except for known addresses, and count its rows in the batch. Returns how many are new.

    `position` is the number of rows of the file before this chunk. Leads and counts change together in the caller's
    transaction, so that a chunk is imported once, however often it is tried.

    Raises:
        Conflict: the batch is not at this position, because another run is importing the file or it was deleted.
    """
    found = [row for row in chunk if not isinstance(row, RowError)]
    added = insert_new(connection, found, batch_id, SOURCE, SOURCE_TYPE)
    counted = connection.execute(
        sa.update(lead_batches)
        .where(lead_batches.c.id == batch_id, lead_batches.c.total_leads == position)
        .values(
            total_leads=position + len(chunk),
            successful_imports=lead_batches.c.successful_imports + added,
            duplicates_skipped=lead_batches.c.duplicates_skipped + (len(found) - added),
            failed_imports=lead_batches.c.failed_imports + (len(chunk) - len(found)),
            updated_at=sa.func.now(),
        )
    )
    if counted.rowcount != 1:
        raise Conflict("This file is being imported by somebody else, or its lead batch was deleted.")
    return added
