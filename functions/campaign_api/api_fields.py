"""The types of fields and parameters that several routes share, with their limits and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler import Depends, Request, Response
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    model_validator,
)

from sendledger.access.callers import Caller
from sendledger.core import instants
from sendledger.core.email_address import normalized_address
from sendledger.core.errors import FieldError, InvalidInput

INT32_MAX = 2**31 - 1
# The part of bigint that JSON numbers represent exactly: https://www.rfc-editor.org/rfc/rfc8259#section-6
LARGEST_ID = 2**53 - 1


# Models are built at first use. Otherwise a cold start would spend a quarter of its time on models of other routes.


def _acting(request: Request) -> Caller:
    caller: Caller = request.context["caller"]
    return caller


Acting = Annotated[Caller, Depends(_acting)]
"""The caller, from the context of the request."""


def _confirmed_content(request: Request) -> str | None:
    content: str | None = request.context["confirmed_content"]
    return content


ConfirmedContent = Annotated[str | None, Depends(_confirmed_content)]
"""The digest of the content with which a person has confirmed a start; see confirmed_requests.py."""


class Input(BaseModel):
    """A body, or part of one; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Resource(BaseModel):
    """An answer of a route. It is built from a row or an object that has the fields by their names."""

    model_config = ConfigDict(from_attributes=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _from_row(cls, value: Any) -> Any:
        return dict(value) if isinstance(value, Mapping) else value


def only_given() -> Any:
    """The default of a field that a PATCH may leave out but not set to null."""
    return Field(default_factory=lambda: None)


def ids_in(text: str | None) -> list[UUID] | None:
    """The ids of an `IdFilter`; None where there is no filter.

    Raises:
        InvalidInput: one is no id, or there are too many.
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) > MOST_IDS:
        raise InvalidInput("The request is not valid.", [FieldError("ids", f"must be at most {MOST_IDS} ids")])
    try:
        return [UUID(part.strip()) for part in parts]
    except ValueError:
        message = "must be ids with commas between them, as 0d7d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c11"
        raise InvalidInput("The request is not valid.", [FieldError("ids", message)]) from None


def no_content() -> Response[None]:
    """The empty answer of a route."""
    return Response(204)


# Not blank; the pattern is part of the documentation.
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"\S")]
Description = Annotated[str, Field(max_length=10_000)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0, le=INT32_MAX)]
Instant = Annotated[
    instants.Instant,
    Field(description="ISO 8601 with an offset from UTC.", examples=["2030-01-31T09:00:00Z"]),
]


def _mailbox(value: str) -> str:
    normalized_address(value)  # raises a ValueError that says what is wrong
    return value


Mailbox = Annotated[
    str,
    # No control characters: the value becomes a header.
    Field(max_length=320, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["Ann <ann@example.com>"]),
    AfterValidator(_mailbox),
]

Limit = Annotated[int, Query(ge=1, le=200, description="Most items to return.")]
# A cursor may hold a name of 255 characters, each of up to four bytes, in base64.
_CURSOR_LENGTH = 2000
Cursor = Annotated[
    str | None,
    Query(
        max_length=_CURSOR_LENGTH,
        description="The `next_cursor` of the page before; repeat its filters and order. Another list's is refused.",
    ),
]
Sort = Annotated[
    Literal["-created_at", "created_at", "-name", "name"], Query(description="With - before it: downwards.")
]
ScanLimit = Annotated[
    int | None,
    Query(
        ge=1,
        le=1_000_000,
        description="Look through so many leads at most. A page may then be short, or empty, although others follow: "
        "its `next_cursor` says so. Missing: no limit.",
    ),
]
SortByTime = Annotated[Literal["-created_at", "created_at"], Query(description="With - before it: newest first.")]
SortById = Annotated[Literal["id", "-id"], Query(description="With - before it: newest first.")]
MOST_IDS = 200
IdFilter = Annotated[
    str | None,
    Query(
        max_length=MOST_IDS * 37,
        description=f"Only those with these ids: at most {MOST_IDS}, with commas between them.",
        examples=["0d7d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c11,7b1d2a0e-6f3c-4b6e-9c6b-3a1f0f6d5c12"],
    ),
]
NextCursor = Annotated[
    str | None,
    Field(description="Pass it as `cursor` for the next page; null on the last one.", max_length=_CURSOR_LENGTH),
]

EmailTemplateId = Annotated[UUID, Path(description="Id of the email template.")]
AttachmentId = Annotated[UUID, Path(description="Id of the attachment.")]
WorkflowId = Annotated[UUID, Path(description="Id of the workflow.")]
CampaignId = Annotated[UUID, Path(description="Id of the campaign.")]
ScheduledEmailId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Id of the scheduled email.")]
EmailId = Annotated[UUID, Path(description="Id of the email.")]
SenderAddressId = Annotated[UUID, Path(description="Id of the sender.")]
SendingScheduleId = Annotated[UUID, Path(description="Id of the sending schedule.")]
LeadId = Annotated[UUID, Path(description="Id of the lead.")]
ReplyId = Annotated[UUID, Path(description="Id of the reply.")]
SuppressionId = Annotated[UUID, Path(description="Id of the suppression.")]
ApiKeyId = Annotated[UUID, Path(description="Id of the API key.")]
LeadBatchId = Annotated[UUID, Path(description="Id of the lead batch.")]
