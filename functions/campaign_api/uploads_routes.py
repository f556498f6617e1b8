"""Routes of uploads: the caller puts a file that is too large for a request into the bucket, and it is imported."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_access
import api_requests
import api_resources
from api_fields import Acting, Flag, Input, LeadBatchId, Name, Resource
from lead_batches_routes import LeadBatch
from sendledger.core.invoke_function import tell_function
from sendledger.core.vocabulary import ColumnUse
from sendledger.leads import lead_batches

router = APIGatewayHttpRouter()


MOST_BYTES = 5_000_000_000
"""Of an uploaded file; S3 takes 5 GB in one request."""

Columns = Annotated[
    dict[Annotated[str, Field(max_length=255)], ColumnUse] | None,
    Field(
        max_length=1_000,
        description="What columns are, where they would be understood otherwise: name of a column → its use.",
        examples=[{"Firm": "company_name", "Internal id": ColumnUse.IGNORED}],
    ),
]
DryRun = Annotated[
    Flag,
    Field(
        description="Only count what would be imported. The lead batch is then `checked`; `POST …/import` imports it."
    ),
]


class NewUpload(Input):
    """What is going to be uploaded."""

    name: Annotated[Name, Field(description="Name of the lead batch.", examples=["Trade fair May"])]
    file_name: Annotated[str | None, Field(max_length=255, description="Name of the file, for the record.")] = None
    campaign_id: Annotated[
        UUID | None,
        Field(
            description=(
                "An evergreen campaign that takes in the leads of the file when the import is complete, also those "
                "that are there already. Needs the role sender."
            )
        ),
    ] = None
    columns: Columns = None
    dry_run: DryRun = False
    redirect_to: Annotated[
        str | None,
        Field(
            max_length=500,
            pattern=r"^https?://[^\s]+$",
            description="For a web page: where the browser is sent after the form with the file. S3 adds the key.",
            examples=["https://crm.example.com/imported"],
        ),
    ] = None


class UploadForm(Resource):
    """A form of a web page: its address, and its fields before the part `file` (multipart/form-data)."""

    url: str
    fields: dict[str, str]


class Upload(Resource):
    """Where to put the file."""

    id: Annotated[UUID, Field(description="Of the lead batch, which is pending until the file is there.")]
    upload_url: Annotated[
        str | None,
        Field(
            description="PUT the file here, as it is; no API key is needed. It is shown once: null in the answer to a "
            "repeated request."
        ),
    ]
    upload_headers: Annotated[dict[str, str], Field(description="Send exactly these headers with it.")]
    form: Annotated[
        UploadForm | None,
        Field(description="With `redirect_to`: how a form of a web page can send the file in place of the PUT."),
    ]
    expires_at: Annotated[dt.datetime, Field(description="Until when the upload can be begun.")]


class NewImport(Input):
    """How the file is imported."""

    columns: Columns = None
    dry_run: DryRun = False


@router.post(
    "/v1/lead-batches/uploads",
    operation_id="create_upload",
    summary="Import leads from a large CSV file",
    description=(
        "For files of up to 5 GB and 10,000,000 rows, in the same formats as a direct import. PUT the file to "
        "`upload_url`; its arrival starts the import, whose progress the lead batch shows. "
        '`curl --upload-file leads.csv --header "Content-Type: text/csv" "<upload_url>"`. A web page can do so too if '
        "the deployment allows its origin (parameter `UploadOrigins`), or with a form: see `redirect_to`."
    ),
    status_code=201,
    response_description="Where to put the file.",
    tags=["Lead batches"],
    openapi_extensions={
        "x-conflict": "The campaign of `campaign_id` takes in no leads, or not at this moment.",
        "x-not-found": "There is no campaign with the id `campaign_id`.",
    },
)
def create_upload(upload: Annotated[NewUpload, Body()], caller: Acting) -> Upload:
    if upload.campaign_id is not None:
        api_access.authorize_intake(caller)
    bucket = api_resources.file_bucket()
    batch = {
        "name": upload.name,
        "source_file": upload.file_name,
        "uploaded_by": caller.name[:255],
        "import_settings": {"columns": upload.columns or {}, "dry_run": upload.dry_run},
    }
    with api_resources.transaction() as connection:
        created = lead_batches.create_pending(connection, batch)
        if upload.campaign_id is not None:
            from sendledger.campaigns import intake  # for cold starts: Jinja2

            intake.give_batch(connection, upload.campaign_id, created["id"], caller.actor, dry_run=upload.dry_run)
    form = None
    if upload.redirect_to is not None:
        url, fields = bucket.upload_form(
            created["source_object"], lead_batches.UPLOAD_SECONDS, MOST_BYTES, upload.redirect_to
        )
        form = UploadForm(url=url, fields=fields)
    return Upload(
        id=created["id"],
        form=form,
        upload_url=bucket.upload_url(created["source_object"], lead_batches.UPLOAD_SECONDS),
        upload_headers={"Content-Type": api_requests.CSV},
        expires_at=created["updated_at"] + dt.timedelta(seconds=lead_batches.UPLOAD_SECONDS),
    )


@router.post(
    "/v1/lead-batches/<lead_batch_id>/import",
    operation_id="import_upload",
    summary="Import an uploaded file that was checked",
    description=(
        "Or check it again, with other `columns`. Or go on with an import that has failed: the rows that are imported "
        "stay, and the rest is tried again. The file is kept for 7 days. An import for a "
        "campaign needs the role sender."
    ),
    status_code=202,
    response_description="The lead batch, which shows the progress.",
    tags=["Lead batches"],
    openapi_extensions={
        "x-conflict": "It is neither checked nor failed, has no uploaded file, or a part of the file is imported and "
        "the rest shall be imported otherwise."
    },
)
def import_upload(lead_batch_id: LeadBatchId, body: Annotated[NewImport, Body()], caller: Acting) -> LeadBatch:
    with api_resources.transaction() as connection:
        batch = lead_batches.begin_again(connection, lead_batch_id, body.columns, caller.actor, dry_run=body.dry_run)
        campaign_id = batch["active_campaign_id"]
        if campaign_id is not None and not body.dry_run:
            from sendledger.campaigns import intake  # for cold starts: Jinja2

            api_access.authorize_intake(caller)
            intake.record_batch(connection, campaign_id, lead_batch_id, caller.actor)
    files = api_resources.file_settings()
    event = {"bucket": files.file_bucket, "lead_batch_id": str(lead_batch_id)}
    tell_function(files.lead_import_function_name, event)
    return LeadBatch.model_validate(batch)
