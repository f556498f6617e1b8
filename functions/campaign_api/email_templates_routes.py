"""Routes of email templates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field, Strict

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Description,
    EmailTemplateId,
    Flag,
    Input,
    Limit,
    Name,
    NextCursor,
    Resource,
    Sort,
    no_content,
    only_given,
)
from attachments_routes import Attachment, files_of
from sendledger.content import attachments, email_templates
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.vocabulary import TemplateCategory

if TYPE_CHECKING:
    from sendledger.content.preview_step import StepPreview

router = APIGatewayHttpRouter()
TAGS = ["Email templates"]

Subject = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        pattern=r"\S",
        description="A template, as the bodies: `{{ first_name | default('there') }}`.",
        examples=["{{ company_name }} and Acme"],
    ),
]
BodyText = Annotated[
    str | None, Field(max_length=500_000, description="Missing or blank: it is made from `body_html`, for each lead.")
]
BodyHtml = Annotated[str | None, Field(max_length=500_000, description="Values are escaped for HTML.")]


class NewEmailTemplate(Input):
    """At least one of `body_text` and `body_html` is needed."""

    name: Name
    description: Description | None = None
    industry: Annotated[str, Field(max_length=100)] | None = None
    category: TemplateCategory = TemplateCategory.GENERAL
    subject: Subject
    body_text: BodyText = None
    body_html: BodyHtml = None
    is_active: Flag = True


class EmailTemplateChanges(Input):
    """Only the given fields change."""

    name: Name = only_given()
    description: Description | None = None
    industry: Annotated[str, Field(max_length=100)] | None = None
    category: TemplateCategory = only_given()
    subject: Subject = only_given()
    body_text: BodyText = None
    body_html: BodyHtml = None
    is_active: Flag = only_given()


class EmailTemplateSummary(Resource):
    """An email template without its bodies."""

    id: UUID
    name: str
    description: str | None
    industry: str | None
    category: TemplateCategory | None
    subject: str
    is_active: bool | None
    created_at: dt.datetime | None
    updated_at: dt.datetime | None


class EmailTemplate(EmailTemplateSummary):
    """An email template."""

    body_text: Annotated[str | None, Field(description="Null: it is made from `body_html`, for each lead.")]
    body_html: str | None


class EmailTemplatePage(Resource):
    """One page of email templates."""

    items: list[EmailTemplateSummary]
    next_cursor: NextCursor


class PreviewLead(Input):
    """The fields of a lead that templates can refer to."""

    company_name: str | None = None
    contact_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    job_title: str | None = None
    industry: str | None = None
    city: str | None = None
    country: str | None = None
    website: str | None = None
    phone: str | None = None
    custom_fields: dict[str, Any] | None = None


class PreviewRequest(Input):
    """Exactly one of `lead_id` and `lead`; both or none of `workflow_id` and `step_number`."""

    lead_id: UUID | None = None
    lead: PreviewLead | None = None
    campaign_name: Annotated[str, Field(max_length=255, description="The template's name if missing.")] | None = None
    workflow_id: Annotated[
        UUID | None,
        Field(description="With it the template is shown as this workflow sends it: as an answer, if the step is one."),
    ] = None
    step_number: Annotated[int | None, Strict(), Field(ge=1)] = None


class ContentPreviewRequest(Input):
    """Content that need not be stored, with at least one of the bodies. Exactly one of `lead_id` and `lead`."""

    subject: Subject
    body_text: BodyText = None
    body_html: BodyHtml = None
    lead_id: UUID | None = None
    lead: PreviewLead | None = None
    campaign_name: Annotated[str, Field(max_length=255)] = "Campaign"


class TestSendRequest(PreviewRequest):
    """As for a preview, and who gets it."""

    to: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=320, examples=["me@example.com"])]],
        Field(min_length=1, max_length=5),
    ]
    in_reply_to: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9_-]{1,200}$",
            description="The `ses_message_id` of a test email; this one is sent as an answer to it, in its thread.",
        ),
    ] = None


class TestEmail(Resource):
    """The message that SES has accepted."""

    ses_message_id: str
    to: list[str]


class RenderedContent(Resource):
    """What the lead would be sent."""

    subject: str
    body_text: str
    body_html: str | None


class ContentPreview(RenderedContent):
    """What the lead would be sent, and what to look at before."""

    warnings: Annotated[list[str], Field(description="What a preflight would warn of, in words.")]


class Preview(RenderedContent):
    """What the lead would be sent."""

    subject_of_step: Annotated[
        int | None,
        Field(
            description=(
                "The step whose subject it takes over; null where it begins a thread. The template's own subject is "
                "used only for a lead that no earlier email has gone out to."
            )
        ),
    ]
    answers_step: Annotated[
        int | None, Field(description="The step that it answers, and quotes where the step says so.")
    ]
    attachments: Annotated[list[Attachment], Field(description="The files that go with it.")]


@router.post(
    "/v1/email-templates",
    operation_id="create_email_template",
    summary="Create an email template",
    description="A template that is not valid is refused. The error names the line and what to write instead.",
    status_code=201,
    response_description="The new email template.",
    tags=TAGS,
)
def create_email_template(body: Annotated[NewEmailTemplate, Body()], caller: Acting) -> EmailTemplate:
    with api_resources.transaction() as connection:
        return EmailTemplate.model_validate(email_templates.create(connection, body.model_dump(), caller.actor))


@router.get(
    "/v1/email-templates",
    operation_id="list_email_templates",
    summary="List email templates",
    response_description="Email templates, newest first.",
    tags=TAGS,
)
def list_email_templates(
    limit: Limit = 50,
    cursor: Cursor = None,
    category: Annotated[TemplateCategory | None, Query(description="Only those of this category.")] = None,
    sort: Sort = "-created_at",
) -> EmailTemplatePage:
    with api_resources.transaction() as connection:
        return EmailTemplatePage.model_validate(email_templates.list_page(connection, limit, cursor, category, sort))


@router.get(
    "/v1/email-templates/<email_template_id>",
    operation_id="get_email_template",
    summary="Get an email template",
    response_description="The email template.",
    tags=TAGS,
)
def get_email_template(email_template_id: EmailTemplateId) -> EmailTemplate:
    with api_resources.transaction() as connection:
        return EmailTemplate.model_validate(email_templates.get(connection, email_template_id))


@router.patch(
    "/v1/email-templates/<email_template_id>",
    operation_id="update_email_template",
    summary="Change an email template",
    description="Campaigns that have started keep the content that they started with.",
    response_description="The changed email template.",
    tags=TAGS,
)
def update_email_template(
    email_template_id: EmailTemplateId, body: Annotated[EmailTemplateChanges, Body()], caller: Acting
) -> EmailTemplate:
    with api_resources.transaction() as connection:
        changes = body.model_dump(exclude_unset=True)
        changed = email_templates.update(connection, email_template_id, changes, caller.actor)
        return EmailTemplate.model_validate(changed)


@router.delete(
    "/v1/email-templates/<email_template_id>",
    operation_id="delete_email_template",
    summary="Delete an email template",
    description="Refused while a workflow uses it, or a campaign that has not ended or has failed to start.",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={"x-conflict": "A workflow or an open campaign uses it; the problem names them."},
)
def delete_email_template(email_template_id: EmailTemplateId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        email_templates.delete(connection, email_template_id, caller.actor)
    return no_content()


@router.post(
    "/v1/email-templates/<email_template_id>/preview",
    operation_id="preview_email_template",
    summary="Preview an email template for a lead",
    response_description="The rendered email; nothing is sent.",
    tags=TAGS,
)
def preview_email_template(email_template_id: EmailTemplateId, body: Annotated[PreviewRequest, Body()]) -> Preview:
    preview = _preview(email_template_id, body)
    with api_resources.transaction() as connection:
        attached = attachments.list_attachments(connection, email_template_id)
    return Preview(
        subject=preview.email.subject,
        body_text=preview.email.body_text,
        body_html=preview.email.body_html,
        subject_of_step=preview.subject_of_step,
        answers_step=preview.answers_step,
        attachments=[Attachment.model_validate(each) for each in attached],
    )


@router.post(
    "/v1/email-templates/preview",
    operation_id="preview_content",
    summary="Preview content that is not stored",
    response_description="The rendered email; nothing is stored or sent.",
    tags=TAGS,
)
def preview_content(body: Annotated[ContentPreviewRequest, Body()]) -> ContentPreview:
    from sendledger.preflight.check_content import content_warnings  # for cold starts: Jinja2

    content = body.model_dump(include={"subject", "body_text", "body_html"})
    with api_resources.transaction() as connection:
        email = email_templates.preview_content(connection, content, _lead_of(body), body.campaign_name)
    return ContentPreview(
        subject=email.subject,
        body_text=email.body_text,
        body_html=email.body_html,
        warnings=content_warnings(content, email.body_html),
    )


@router.post(
    "/v1/email-templates/<email_template_id>/test-send",
    operation_id="send_test_email",
    summary="Send an email template to yourself",
    description=(
        "What the preview shows is sent as one message to the given addresses, with [Test] before its subject and "
        "without the footer. Only addresses of the deployment's setting TEST_SEND_ADDRESSES are possible. The ledger, "
        "the counts and the lead are not touched."
    ),
    response_description="SES has accepted it.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "Nobody may get test emails, no sender is set, or SES refused the message (`ses_error`)."
    },
)
def send_test_email(
    email_template_id: EmailTemplateId, body: Annotated[TestSendRequest, Body()], caller: Acting
) -> TestEmail:
    from sendledger.sending import send_test_email as sending  # for cold starts: botocore

    settings = api_resources.settings()
    to = sending.allowed_recipients(body.to, settings.test_send_addresses)
    if settings.sender_from_address is None:
        raise Conflict("Test emails cannot be sent: the setting SENDER_FROM_ADDRESS is empty.")
    rendered = _preview(email_template_id, body).email
    files = files_of(email_template_id)
    client = api_resources.sending_ses_client()
    message_id = sending.send_test_email(client, rendered, to, settings, body.in_reply_to, files)
    with api_resources.transaction() as connection:
        sending.record_test_email(connection, email_template_id, len(to), message_id, caller.actor)
    return TestEmail(ses_message_id=message_id, to=to)


def _preview(email_template_id: UUID, body: PreviewRequest) -> StepPreview:
    from sendledger.content.preview_step import StepPreview, preview_step  # for cold starts: Jinja2

    lead = _lead_of(body)
    if (body.workflow_id is None) != (body.step_number is None):
        message = "both or none of workflow_id and step_number are needed"
        missing = "step_number" if body.step_number is None else "workflow_id"
        raise InvalidInput("The request is not valid.", [FieldError(missing, message)])
    with api_resources.transaction() as connection:
        if body.workflow_id is None or body.step_number is None:
            rendered = email_templates.preview(connection, email_template_id, lead, body.campaign_name)
            return StepPreview(rendered, None, None)
        sender = api_resources.settings().sender_from_address or ""
        return preview_step(
            connection, email_template_id, body.workflow_id, body.step_number, lead, body.campaign_name, sender
        )


def _lead_of(body: PreviewRequest | ContentPreviewRequest) -> UUID | dict[str, Any]:
    lead = body.lead.model_dump() if body.lead else body.lead_id
    if lead is None or (body.lead_id and body.lead):
        message = "exactly one of lead_id and lead is needed"
        raise InvalidInput("The request is not valid.", [FieldError(name, message) for name in ("lead_id", "lead")])
    return lead
