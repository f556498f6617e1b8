"""The route of uploads: the caller puts a file that is too large for a request into the bucket."""

from __future__ import annotations

import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_requests
import api_resources
from api_fields import Acting, Input, Name, Resource
from sendledger.leads import lead_batches

router = APIGatewayHttpRouter()


class NewUpload(Input):
    """What is going to be uploaded."""

    name: Annotated[Name, Field(description="Name of the lead batch.", examples=["Trade fair May"])]
    file_name: Annotated[str | None, Field(max_length=255, description="Name of the file, for the record.")] = None
    campaign_id: Annotated[
        UUID | None, Field(description="An evergreen campaign that takes in the new leads when the import is complete.")
    ] = None


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
    expires_at: Annotated[dt.datetime, Field(description="Until when the upload can be begun.")]


@router.post(
    "/v1/lead-batches/uploads",
    operation_id="create_upload",
    summary="Import leads from a large CSV file",
    description=(
        "For files of up to 5 GB and 10,000,000 rows, in the same formats as a direct import. PUT the file to "
        "`upload_url`; its arrival starts the import, whose progress the lead batch shows. "
        '`curl --upload-file leads.csv --header "Content-Type: text/csv" "<upload_url>"`. A web page can do so too if '
        "the deployment allows its origin (parameter `UploadOrigins`)."
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
    bucket = api_resources.file_bucket()
    batch = {
        "name": upload.name,
        "source_file": upload.file_name,
        "uploaded_by": caller.name[:255],
    }
    with api_resources.transaction() as connection:
        created = lead_batches.create_pending(connection, batch)
        if upload.campaign_id is not None:
            from sendledger.campaigns import intake  # for cold starts: Jinja2

            intake.give_batch(connection, upload.campaign_id, created["id"])
    return Upload(
        id=created["id"],
        upload_url=bucket.upload_url(created["source_object"], lead_batches.UPLOAD_SECONDS),
        upload_headers={"Content-Type": api_requests.CSV},
        expires_at=created["updated_at"] + dt.timedelta(seconds=lead_batches.UPLOAD_SECONDS),
    )
