"""Routes of exports: files that are written in the background and downloaded from the bucket."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Self
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body, Path, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, model_validator

import api_resources
from api_fields import Acting, Cursor, Input, Limit, NextCursor, Resource, SortByTime
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import ExportKind, ExportReader, ExportStatus, LeadStatus
from sendledger.exports import exports

router = APIGatewayHttpRouter()
TAGS = ["Exports"]

URL_SECONDS = 3600
ExportId = Annotated[UUID, Path(description="Id of the export.")]


class LeadFilters(Input):
    """Which leads."""

    status: LeadStatus | None = None
    batch_id: Annotated[UUID | None, Field(description="Those that were imported with this lead batch.")] = None


class NewExport(Input):
    """What to export."""

    kind: Annotated[
        ExportKind,
        Field(
            description="`campaign_ledger`: each scheduled email of a campaign with what became of it, and each lead "
            "of its audience that got none, with the reason. What is scheduled once writing has begun is not in it.",
            examples=[ExportKind.CAMPAIGN_LEDGER],
        ),
    ]
    campaign_id: Annotated[UUID | None, Field(description="Needed for `campaign_ledger`, and only there.")] = None
    filters: Annotated[LeadFilters | None, Field(description="Only for `leads`.")] = None

    @model_validator(mode="after")
    def _campaign_for_its_ledger(self) -> Self:
        if self.kind == ExportKind.CAMPAIGN_LEDGER and self.campaign_id is None:
            raise ValueError("campaign_ledger needs a campaign_id")
        if self.kind == ExportKind.LEADS and self.campaign_id is not None:
            raise ValueError("leads are not exported by campaign_id; filter by batch_id")
        if self.kind == ExportKind.CAMPAIGN_LEDGER and self.filters is not None:
            raise ValueError("campaign_ledger has no filters")
        return self


class Export(Resource):
    """A file that is being written, or that can be downloaded."""

    id: UUID
    kind: ExportKind
    campaign_id: UUID | None
    filters: dict[str, Any]
    made_for: Annotated[ExportReader | None, Field(description="The program that it is made for.")]
    status: ExportStatus
    rows_written: int
    failure_reason: Annotated[str | None, Field(description="In words, for people.")]
    requested_by: str
    created_at: dt.datetime
    updated_at: dt.datetime
    completed_at: dt.datetime | None
    download_url: Annotated[
        str | None, Field(description="A CSV file in UTF-8; null while there is none and after it was deleted.")
    ]
    download_url_expires_at: Annotated[dt.datetime | None, Field(description="Get the export again for another URL.")]


class ExportPage(Resource):
    """One page of exports."""

    items: list[Export]
    next_cursor: NextCursor


@router.post(
    "/v1/exports",
    operation_id="create_export",
    summary="Export leads or the ledger of a campaign",
    description=(
        "The file is written in the background. A cell that a spreadsheet would take for a formula (it begins with "
        "`=`, `+`, `-`, `@`, a tab or a line break) gets an apostrophe in front, which an import removes again, and "
        "every text is quoted. An export of leads can be imported again. Files are deleted after 7 days."
    ),
    status_code=202,
    response_description="The export, which waits to be written.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "The ledger of the campaign was removed by retention, in whole or in part."},
)
def create_export(
    export: Annotated[NewExport, Body()],
    caller: Acting,
    made_for: Annotated[
        ExportReader | None,
        Query(alias="for", description="`excel`: the file begins with a byte order mark, so that Excel knows UTF-8."),
    ] = None,
) -> Export:
    filters = {} if export.filters is None else export.filters.model_dump(mode="json", exclude_none=True)
    writer = api_resources.file_settings().export_function_name
    with api_resources.transaction() as connection:
        created = exports.create(connection, export.kind, export.campaign_id, filters, caller.actor, made_for)
    tell_function(writer, {"export_id": str(created["id"])})
    return _shown(created)


@router.get(
    "/v1/exports",
    operation_id="list_exports",
    summary="List exports",
    response_description="Exports, newest first.",
    tags=TAGS,
)
def list_exports(
    limit: Limit = 50,
    cursor: Cursor = None,
    kind: Annotated[ExportKind | None, Query(description="Only those of this kind.")] = None,
    status: Annotated[ExportStatus | None, Query(description="Only those with this status.")] = None,
    campaign_id: Annotated[UUID | None, Query(description="The ledger of this campaign.")] = None,
    sort: SortByTime = "-created_at",
) -> ExportPage:
    with api_resources.transaction() as connection:
        page = exports.list_page(
            connection, limit, cursor, kind=kind, status=status, campaign_id=campaign_id, sort=sort
        )
    return ExportPage(items=[_shown(row) for row in page.items], next_cursor=page.next_cursor)


@router.get(
    "/v1/exports/<export_id>",
    operation_id="get_export",
    summary="Get an export",
    response_description="The export, with a URL to download it once it is complete.",
    tags=TAGS,
)
def get_export(export_id: ExportId) -> Export:
    with api_resources.transaction() as connection:
        return _shown(exports.get(connection, export_id))


def _shown(row: Any) -> Export:
    name = f"{row['kind']}-{row['created_at']:%Y-%m-%d}.csv"
    url, expires_at = api_resources.download_url(row["object_key"], name, row["completed_at"], URL_SECONDS)
    return Export.model_validate({**row, "download_url": url, "download_url_expires_at": expires_at})
