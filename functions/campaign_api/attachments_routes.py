"""Routes of the attachments of email templates."""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid4

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict

import api_resources
from api_fields import Acting, AttachmentId, EmailTemplateId, Input, Resource, no_content
from sendledger.content import attachments
from sendledger.content.attachment_rules import MOST_BYTES, checked_file
from sendledger.core.errors import Conflict, FieldError, InvalidInput

if TYPE_CHECKING:
    from sendledger.content.attachment_rules import CheckedFile
    from sendledger.ses.attachments import AttachedFile

router = APIGatewayHttpRouter()
TAGS = ["Email templates"]
PATH = "/v1/email-templates/<email_template_id>/attachments"
UPLOAD_SECONDS = 3600
ANY_TYPE = "application/octet-stream"


class NewAttachment(Input):
    """Exactly one of `content` and `upload_id` is needed."""

    file_name: Annotated[
        str, Field(min_length=1, max_length=255, description="As the recipient sees it.", examples=["brochure.pdf"])
    ]
    content_type: Annotated[
        str | None,
        Field(
            max_length=78,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$",
            description="Its media type. Missing: what the file name says.",
            examples=["application/pdf"],
        ),
    ] = None
    content_id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,77}$",
            description='Of a picture that `body_html` shows: `<img src="cid:logo">` shows the one with `logo`.',
        ),
    ] = None
    content: Annotated[
        str | None, Field(description="The file, in base64. A request has 3 MB at most, so 2.2 MB of the file.")
    ] = None
    upload_id: Annotated[UUID | None, Field(description="Of a larger file that was uploaded before.")] = None


class Attachment(Resource):
    """A file that goes out with each email of the template."""

    id: UUID
    file_name: str
    content_type: str
    content_id: Annotated[str | None, Field(description="Null: it is not shown in the HTML, but listed below it.")]
    size: Annotated[int, Field(description="In bytes.")]
    created_at: dt.datetime


class AttachmentList(Resource):
    """All attachments of a template."""

    items: list[Attachment]


class NewAttachmentUpload(Input):
    """What is going to be uploaded."""

    size: Annotated[
        int,
        Strict(),
        Field(
            ge=1,
            le=MOST_BYTES,
            description="Bytes of the file. A file of another size is refused when it is put.",
            examples=[5_000_000],
        ),
    ]


class AttachmentUpload(Resource):
    """Where to put the file."""

    upload_id: UUID
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
    PATH,
    operation_id="attach_file",
    summary="Attach a file to an email template",
    description=(
        "A template may have 20 attachments with 10 MiB in total. Types that mail providers refuse are refused. "
        "Campaigns that have started keep the attachments that they started with."
    ),
    status_code=201,
    response_description="The attachment.",
    tags=TAGS,
)
def attach_file(
    email_template_id: EmailTemplateId, body: Annotated[NewAttachment, Body()], caller: Acting
) -> Attachment:
    with api_resources.transaction() as connection:
        attachments.list_attachments(connection, email_template_id)
    file, source = _file(email_template_id, body)
    with api_resources.transaction() as connection:
        attachments.check_room(connection, email_template_id, file, source)
    id_ = uuid4()
    api_resources.file_bucket().store(f"{attachments.FILES}{id_}", file.content, ANY_TYPE)
    with api_resources.transaction() as connection:
        attached = attachments.attach(connection, email_template_id, id_, file, source, caller.actor)
    return Attachment.model_validate(attached)


@router.post(
    f"{PATH}/uploads",
    operation_id="create_attachment_upload",
    summary="Upload a file that is too large for a request",
    description=(
        "PUT the file to `upload_url`, then attach it by its `upload_id`. "
        '`curl --upload-file brochure.pdf --header "Content-Type: application/octet-stream" "<upload_url>"`.'
    ),
    status_code=201,
    response_description="Where to put the file.",
    tags=TAGS,
)
def create_attachment_upload(
    email_template_id: EmailTemplateId, body: Annotated[NewAttachmentUpload, Body()]
) -> AttachmentUpload:
    with api_resources.transaction() as connection:
        attachments.list_attachments(connection, email_template_id)
    id_ = uuid4()
    key = _upload(email_template_id, id_)
    return AttachmentUpload(
        upload_id=id_,
        upload_url=api_resources.file_bucket().upload_url(key, UPLOAD_SECONDS, ANY_TYPE, body.size),
        upload_headers={"Content-Type": ANY_TYPE},
        expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=UPLOAD_SECONDS),
    )


@router.get(
    PATH,
    operation_id="list_attachments",
    summary="List the attachments of an email template",
    response_description="The attachments, in the order in which they were attached.",
    tags=TAGS,
)
def list_attachments(email_template_id: EmailTemplateId) -> AttachmentList:
    with api_resources.transaction() as connection:
        found = attachments.list_attachments(connection, email_template_id)
    return AttachmentList(items=[Attachment.model_validate(each) for each in found])


@router.delete(
    f"{PATH}/<attachment_id>",
    operation_id="delete_attachment",
    summary="Remove an attachment from an email template",
    description="Campaigns that have started keep it.",
    status_code=204,
    response_description="It is removed.",
    tags=TAGS,
)
def delete_attachment(
    email_template_id: EmailTemplateId, attachment_id: AttachmentId, caller: Acting
) -> Response[None]:
    with api_resources.transaction() as connection:
        attachments.detach(connection, email_template_id, attachment_id, caller.actor)
    return no_content()


def files_of(email_template_id: UUID) -> list[AttachedFile]:
    """The attachments of a template with their content, for a test email.

    Raises:
        Conflict: one is not in the bucket any more.
    """
    from sendledger.files.file_bucket import NoSuchFile  # for cold starts: botocore
    from sendledger.ses.attachments import AttachedFile  # for cold starts, too

    with api_resources.transaction() as connection:
        attached = attachments.list_attachments(connection, email_template_id)
    found = []
    for each in attached:
        try:
            content = api_resources.file_bucket().content_of(f"{attachments.FILES}{each['id']}", MOST_BYTES)
        except NoSuchFile as error:
            raise Conflict(f"The attachment {each['file_name']} is not in the bucket any more.") from error
        found.append(AttachedFile(each["file_name"], each["content_type"], each["content_id"], content))
    return found


def _upload(email_template_id: UUID, upload_id: UUID) -> str:
    """The key of an uploaded file."""
    return f"{attachments.UPLOADS}{email_template_id}/{upload_id}"


def _file(email_template_id: UUID, body: NewAttachment) -> tuple[CheckedFile, str]:
    """The file, checked, and the field that its content has come from."""
    if (body.content is None) == (body.upload_id is None):
        message = "exactly one of content and upload_id is needed"
        raise InvalidInput(
            "The request is not valid.", [FieldError(name, message) for name in ("content", "upload_id")]
        )
    source = "content" if body.upload_id is None else "upload_id"
    content = _decoded(body.content) if body.upload_id is None else _uploaded(email_template_id, body.upload_id)
    return checked_file(body.file_name, body.content_type, body.content_id, content, source), source


def _decoded(content: str | None) -> bytes:
    try:
        return base64.b64decode(content or "", validate=True)
    except ValueError:
        raise InvalidInput("The request is not valid.", [FieldError("content", "must be base64")]) from None


def _uploaded(email_template_id: UUID, upload_id: UUID) -> bytes:
    from sendledger.files.file_bucket import FileTooLarge, NoSuchFile  # for cold starts: botocore

    try:
        return api_resources.file_bucket().content_of(_upload(email_template_id, upload_id), MOST_BYTES)
    except NoSuchFile:
        message = "no file was uploaded for this template under this id"
    except FileTooLarge as error:
        message = f"has {error.size:,} bytes; the attachments of a template may have {MOST_BYTES:,} in total"
    raise InvalidInput("The file cannot be attached.", [FieldError("upload_id", message)])
