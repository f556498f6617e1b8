"""Routes of lead batches: importing leads from a CSV file, and what was imported."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_access
import api_requests
import api_resources
from api_fields import Acting, Cursor, LeadBatchId, Limit, NextCursor, Resource, Sort, no_content
from csv_bodies import csv_body
from sendledger.campaigns import completion
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import ColumnUse, LeadBatchStatus, RejectCode
from sendledger.leads import import_leads, lead_batches

router = APIGatewayHttpRouter()
TAGS = ["Lead batches"]
URL_SECONDS = 3600

_CSV_BODY = {
    "required": True,
    "content": api_requests.csv_content("Email,First Name,Company,Plan\nann@example.com,Ann,Acme,Pro\n"),
}


class LeadBatch(Resource):
    """One import of leads."""

    id: UUID
    name: str
    source_file: str | None
    status: Annotated[LeadBatchStatus, Field(description="`pending`: its file has not been uploaded yet.")]
    failure_reason: Annotated[
        str | None, Field(description="Why it failed, in words. The leads of the rows before were imported.")
    ]
    uploaded_by: Annotated[str | None, Field(description="The name of the API key, or the subject of the token.")]
    total_leads: Annotated[int | None, Field(description="Rows read: imported, failed and duplicates.")]
    successful_imports: int | None
    failed_imports: int | None
    duplicates_skipped: Annotated[
        int | None, Field(description="Rows with an address that there was already, in the file or before it.")
    ]
    active_campaign_id: Annotated[UUID | None, Field(description="The campaign that uses it now.")]
    campaign_history: Annotated[list[dict[str, Any]], Field(description="The campaigns that have used it.")]
    created_at: dt.datetime | None
    completed_at: Annotated[dt.datetime | None, Field(description="Null while it is being imported.")]
    updated_at: dt.datetime


class ImportedColumn(Resource):
    """How a column of the file was understood."""

    name: str
    field: ColumnUse
    samples: Annotated[list[str], Field(description="Values of the first rows, shortened.")]


class LeadBatchWithRejects(LeadBatch):
    """One import of leads, and the rows that were not taken."""

    dry_run: Annotated[
        bool, Field(description="Of an uploaded file: it is only checked. False from when its import was asked for.")
    ]
    rejects_url: Annotated[
        str | None,
        Field(
            description="Of an uploaded file: a CSV file with each row that was not imported, and each value that was "
            "left out of a lead, and what is wrong with it. Correct and import the "
            "rows. Null while there is none, and after 7 days, when it is deleted."
        ),
    ]
    rejects_url_expires_at: Annotated[dt.datetime | None, Field(description="Get the batch again for another URL.")]
    columns: Annotated[
        list[ImportedColumn] | None,
        Field(description="Of an uploaded file: how its columns were understood; null until it was read to its end."),
    ]
    chosen_columns: Annotated[
        dict[str, ColumnUse] | None,
        Field(description="Of an uploaded file: what was said that columns are, with the upload or since."),
    ]
    rejected: Annotated[
        dict[RejectCode, int] | None,
        Field(description="Of an uploaded file: rows that were not imported and values that were left out, by reason."),
    ]


class RowError(Resource):
    """Why one row was not imported, or one value of it."""

    row: Annotated[int, Field(description="The line of the file on which it begins; the first one is 1.")]
    field: Annotated[str, Field(description="The field of the lead, the name of a custom field, or `row`.")]
    code: Annotated[RejectCode, Field(examples=[RejectCode.INVALID_EMAIL])]
    message: str


class ImportedLeadBatch(LeadBatch):
    """What became of a file."""

    errors: Annotated[
        list[RowError], Field(description=f"The first {import_leads.MOST_ERRORS}; `failed_imports` counts them all.")
    ]
    warnings: Annotated[
        list[RowError],
        Field(description=f"Values that were left out of leads; the first {import_leads.MOST_ERRORS}."),
    ]
    addresses_suppressed: Annotated[
        int, Field(description="People whom the file says not to mail, and who were not suppressed before.")
    ]
    emails_skipped: Annotated[int, Field(description="Planned emails to these people that are not sent.")]
    columns: list[ImportedColumn]
    rejected: Annotated[
        dict[RejectCode, int],
        Field(description="Rows that were not imported and values that were left out, by reason; all of them."),
    ]
    rejects_csv: Annotated[
        str | None,
        Field(description="With `rejects`: what `errors` and `warnings` list, as a CSV file under the file's header."),
    ]


class LeadBatchPage(Resource):
    """One page of lead batches."""

    items: list[LeadBatch]
    next_cursor: NextCursor


@router.post(
    "/v1/lead-batches",
    operation_id="import_lead_batch",
    summary="Import leads from a CSV file",
    description=(
        "The file is UTF-8, UTF-16, Windows-1252, or has the charset of the media type; commas, semicolons, tabs or "
        "bars separate its columns. One column must hold the addresses and be named so (Email, E-mail Address, …). "
        "The usual columns of exports of HubSpot, Apollo, LinkedIn, Mailchimp, Amazon Pinpoint, Google Contacts and "
        "Outlook are recognised whatever their case, blanks and punctuation, many in other languages too, and every "
        "other one becomes a custom field under its name. A row without a valid address is an error and does not keep "
        "the others from being imported; another value that cannot be stored is left out of the lead and listed as a "
        "warning. A row that says that the person must not be mailed (unsubscribed, bounced, complained, no consent) "
        "is an error too, and its address is suppressed. Leads that are there already are left as they are: the same "
        "file twice adds nothing. The limit is 3 MB; a larger file is uploaded with `POST /v1/lead-batches/uploads`."
    ),
    status_code=201,
    response_description="What became of the file.",
    tags=TAGS,
    openapi_extensions={
        "requestBody": _CSV_BODY,
        "x-conflict": "The campaign of `campaign_id` takes in no leads, or not at this moment.",
        "x-not-found": "There is no campaign with the id `campaign_id`.",
    },
)
def import_lead_batch(
    caller: Acting,
    name: Annotated[str, Query(min_length=1, max_length=255, pattern=r"\S", description="Name of the lead batch.")],
    source_file: Annotated[str | None, Query(max_length=255, description="Name of the file, for the record.")] = None,
    campaign_id: Annotated[
        UUID | None,
        Query(
            description=(
                "An evergreen campaign that takes in the leads of the file with the next tick, also those that are "
                "there already. Needs the role sender."
            )
        ),
    ] = None,
    dry_run: Annotated[
        bool, Query(description="Only report what would be imported. Nothing is stored, and `id` belongs to no batch.")
    ] = False,
    rejects: Annotated[
        bool, Query(description="Return the rows that were not taken as a CSV file, to correct and import them.")
    ] = False,
    columns: Annotated[
        str | None,
        Query(
            max_length=8_000,
            description=(
                "What columns are, where they would be understood otherwise, as a JSON object: name of a column → its "
                "`ColumnUse`. A column that says that people must not be mailed does so all the same."
            ),
            examples=['{"Firm": "company_name", "Internal id": "ignored"}'],
        ),
    ] = None,
) -> ImportedLeadBatch:
    if campaign_id is not None:
        api_access.authorize_intake(caller)
    chosen = _chosen(columns)
    stream, charset = csv_body(router.current_event)
    batch = {"name": name, "source_file": source_file, "uploaded_by": caller.name[:255]}
    with api_resources.transaction() as connection, connection.begin_nested() as changes:
        imported = import_leads.import_file(connection, stream, batch, caller.actor, charset, chosen)
        if campaign_id is not None:
            from sendledger.campaigns import intake  # for cold starts: Jinja2

            intake.give_batch(connection, campaign_id, imported.lead_batch["id"], caller.actor)
            import_leads.list_known(connection, imported.lead_batch["id"], imported.may_be_known)
        if dry_run:
            changes.rollback()
    for campaign_id in imported.suppressed.campaign_ids:
        completion.mark_campaign_complete(api_resources.engine(), campaign_id)
    return ImportedLeadBatch.model_validate(
        {
            **imported.lead_batch,
            "errors": imported.errors,
            "columns": imported.columns,
            "rejected": imported.rejected,
            "rejects_csv": import_leads.rejects_csv(imported) if rejects else None,
            "warnings": imported.warnings,
            "addresses_suppressed": len(imported.suppressed.created),
            "emails_skipped": imported.suppressed.emails_skipped,
        },
        from_attributes=True,
    )


def _chosen(columns: str | None) -> dict[str, str]:
    """The parameter `columns`, read and checked."""
    if not columns:
        return {}
    try:
        chosen = json.loads(columns)
    except (ValueError, RecursionError):
        chosen = None
    if not isinstance(chosen, dict) or not all(use in [*ColumnUse] for use in chosen.values()):
        message = f"must be a JSON object: name of a column → one of {', '.join(ColumnUse)}"
        raise InvalidInput("The columns cannot be read.", [FieldError("columns", message)])
    return chosen


@router.get(
    "/v1/lead-batches",
    operation_id="list_lead_batches",
    summary="List lead batches",
    response_description="Lead batches, newest first.",
    tags=TAGS,
)
def list_lead_batches(
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[
        LeadBatchStatus | None,
        Query(description="`pending`, `checking` and `importing`: uploads that are under way."),
    ] = None,
    sort: Sort = "-created_at",
) -> LeadBatchPage:
    with api_resources.transaction() as connection:
        return LeadBatchPage.model_validate(lead_batches.list_page(connection, limit, cursor, status=status, sort=sort))


@router.get(
    "/v1/lead-batches/<lead_batch_id>",
    operation_id="get_lead_batch",
    summary="Get a lead batch",
    response_description="The lead batch.",
    tags=TAGS,
)
def get_lead_batch(lead_batch_id: LeadBatchId) -> LeadBatchWithRejects:
    with api_resources.transaction() as connection:
        batch = lead_batches.get(connection, lead_batch_id)
    # Not older than its batch; deleted with the other files of that day.
    written_at = batch["created_at"] or batch["updated_at"]
    url, expires_at = api_resources.download_url(
        batch["rejects_object"], f"rejects-{written_at:%Y-%m-%d}.csv", written_at, URL_SECONDS
    )
    found = batch["import_settings"] if batch["source_object"] is not None else None
    names = {"columns": "understood", "chosen_columns": "columns", "rejected": "rejected"}
    read = {name: (found or {}).get(stored) for name, stored in names.items()}
    return LeadBatchWithRejects.model_validate(
        {
            **batch,
            **read,
            "dry_run": bool((found or {}).get("dry_run")),
            "rejects_url": url,
            "rejects_url_expires_at": expires_at,
        }
    )


@router.delete(
    "/v1/lead-batches/<lead_batch_id>",
    operation_id="delete_lead_batch",
    summary="Delete a lead batch and its leads",
    description=(
        "As if the file had never been imported. Refused once a campaign has used one of its leads: what they were "
        "sent would be lost. With many leads that takes minutes; until then its status is `deleting`."
    ),
    status_code=204,
    responses={
        202: {"description": "The lead batch is marked, and deleted in the background."},
        204: {"description": "The lead batch and its leads are deleted."},
    },
    tags=TAGS,
    openapi_extensions={"x-conflict": "A campaign uses it (`campaigns` names it), or has used one of its leads."},
)
def delete_lead_batch(lead_batch_id: LeadBatchId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        done = lead_batches.delete(connection, lead_batch_id, caller.actor)
    if done:
        return no_content()
    files = api_resources.file_settings()
    event = {"bucket": files.file_bucket, "lead_batch_id": str(lead_batch_id)}
    tell_function(files.lead_import_function_name, event)
    return Response(202)
