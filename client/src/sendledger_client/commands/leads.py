"""`sendledger leads`: import leads from CSV files of any size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from sendledger_client import File, Sendledger
from sendledger_client.client import LARGEST_DIRECT_FILE
from sendledger_client.commands.output import Json, console, errors, plain, show_fields, show_json, show_table
from sendledger_client.commands.session import connect
from sendledger_client.generated.models import ImportedLeadBatch, LeadBatchWithRejects

app = typer.Typer(help="Import leads.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `import` a command of its own name: more commands will follow."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A CSV file.")],
    name: Annotated[str | None, typer.Option(help="Name of the lead batch; the file's name if left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of each row.")] = False,
    as_json: Json = False,
) -> None:
    """Import leads. A file of more than 3 MB is uploaded to the bucket, and imported in the background."""
    name = name or file.stem
    with connect() as api:
        if dry_run:
            batch: ImportedLeadBatch | LeadBatchWithRejects = _try(api, file, name)
        else:
            with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
                task = progress.add_task(plain(file.name), total=file.stat().st_size)
                batch = api.import_file(file, name=name, progress=lambda sent: progress.advance(task, sent))
    if as_json:
        show_json(batch)
        return
    _show(batch, dry_run)


def _try(api: Sendledger, file: Path, name: str) -> ImportedLeadBatch:
    """What would become of the rows that a request can carry: of a large file, the first ones."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_DIRECT_FILE + 1)
    if len(content) > LARGEST_DIRECT_FILE:
        content = content[:LARGEST_DIRECT_FILE].rpartition(b"\n")[0]
        errors.print(f"The file is large: this is about its first {len(content):,} bytes.")
    body = File(io.BytesIO(content), file.name)
    return api.import_lead_batch(body=body, name=name, source_file=file.name, dry_run=True)


def _show(batch: ImportedLeadBatch | LeadBatchWithRejects, dry_run: bool) -> None:
    fields: dict[str, Any] = {
        "rows": batch.total_leads,
        "imported": batch.successful_imports,
        "duplicates": batch.duplicates_skipped,
        "errors": batch.failed_imports,
    }
    if not dry_run:
        fields = {"lead batch": batch.id, **fields}
    if isinstance(batch, LeadBatchWithRejects):
        show_fields(fields, title=batch.name)
        if batch.rejects_url:
            console().print(f"Rows that were not imported: {plain(batch.rejects_url)}", soft_wrap=True)
        return
    fields["suppressed"] = batch.addresses_suppressed
    show_fields(fields, title=f"{batch.name} (nothing was imported)" if dry_run else batch.name)
    found = [*batch.errors, *batch.warnings]
    if found:
        show_table(["row", "field", "what is wrong"], ((row.row, row.field, row.message) for row in found[:20]))
    if len(found) > 20:
        console().print(f"… and {len(found) - 20:,} more; --json shows them.")
