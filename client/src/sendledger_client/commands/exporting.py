"""`sendledger export`: leads, or the ledger of a campaign, as a CSV file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sendledger_client import UNSET
from sendledger_client.commands.campaigns import CampaignName, find
from sendledger_client.commands.output import Json, console, errors, plain, show_json
from sendledger_client.commands.session import connect
from sendledger_client.generated.models import ExportKind, ExportReader, LeadFilters, LeadStatus, NewExport

app = typer.Typer(help="Export leads, or the ledger of a campaign.", no_args_is_help=True)
Output = Annotated[
    Path, typer.Option("--output", "-o", dir_okay=False, writable=True, help="The CSV file to write; - for a pipe.")
]
STANDARD_OUTPUT = ("-", "/dev/stdout")
Excel = Annotated[bool, typer.Option("--excel", help="So that Excel knows that it is UTF-8.")]


@app.command()
def leads(
    output: Output,
    status: Annotated[LeadStatus | None, typer.Option(help="Only those.")] = None,
    excel: Excel = False,
    as_json: Json = False,
) -> None:
    """Export leads. The file can be imported again."""
    filters = LeadFilters(status=status) if status else UNSET
    _export(NewExport(kind=ExportKind.LEADS, filters=filters), output, excel, as_json)


@app.command()
def ledger(campaign: CampaignName, output: Output, excel: Excel = False, as_json: Json = False) -> None:
    """Export each scheduled email of a campaign with what became of it."""
    with connect() as api:
        found = find(api, campaign)
    _export(NewExport(kind=ExportKind.CAMPAIGN_LEDGER, campaign_id=found.id), output, excel, as_json)


def _export(wanted: NewExport, output: Path, excel: bool, as_json: bool) -> None:
    with connect() as api, errors.status("The export is being written …"):
        export = api.wait(api.create_export(body=wanted, for_=ExportReader.EXCEL if excel else UNSET))
        if str(output) in STANDARD_OUTPUT:
            # What is told stands on standard error, not between the rows.
            api.download(export, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        size = api.download(export, output)
    if as_json:
        show_json({**export.to_dict(), "download_url": None, "file": str(output), "bytes": size})
        return
    console().print(f"{export.rows_written:,} rows are in {plain(str(output))} ({size:,} bytes).")
