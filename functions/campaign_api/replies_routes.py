"""Routes of replies: those that another mail system receives come in, all are listed."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Annotated
from uuid import UUID

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import Field

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Flag,
    Input,
    Instant,
    Limit,
    NextCursor,
    ReplyId,
    Resource,
    SortByTime,
    only_given,
)
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import (
    AuthenticationResult,
    AutomaticKind,
    ReplyKind,
    ReplyMatch,
    ReplyOutcome,
    ReplySource,
)

router = APIGatewayHttpRouter()
TAGS = ["Replies"]

# `feedback.replies` is imported where it is used: it brings Jinja2, which most requests do not need.

Address = Annotated[str, Field(min_length=3, max_length=500, pattern="@")]
MessageId = Annotated[str, Field(min_length=3, max_length=500, pattern=r"^<[^<>\s]+>$")]


class NewReply(Input):
    """Either `raw`, the whole message, or its parts, of which `from_address` is needed."""

    raw: (
        Annotated[str, Field(max_length=1_000_000, description="The message as it came (RFC 5322), in base64.")] | None
    ) = None
    from_address: Address | None = None
    to_addresses: Annotated[list[Address], Field(max_length=100)] = Field(default_factory=list)
    subject: Annotated[str, Field(max_length=2_000)] = ""
    text: Annotated[str, Field(max_length=500_000)] = ""
    message_id: Annotated[
        MessageId | None,
        Field(description="With it a reply that is sent twice counts once.", examples=["<1@example.com>"]),
    ] = None
    in_reply_to: MessageId | None = None
    references: Annotated[list[MessageId], Field(max_length=100)] = Field(default_factory=list)
    headers: Annotated[
        dict[str, Annotated[str, Field(max_length=2_000)]],
        Field(
            max_length=100,
            description="Further headers; those of RFC 3834 and the like show whether a person wrote it.",
        ),
    ] = Field(default_factory=dict)


class Reply(Resource):
    """A message that came back."""

    id: UUID
    message_id: Annotated[str, Field(description="The message's own id, or a hash of a message without one.")]
    source: ReplySource
    from_address: str
    subject: str
    body_text: str
    automatic: Annotated[
        AutomaticKind | None, Field(description="Why it is not a person's; null for a person's, which stops the mail.")
    ]
    spf: AuthenticationResult | None
    dkim: AuthenticationResult | None
    dmarc: Annotated[
        AuthenticationResult | None,
        Field(description="What the receiving mail server found about the sender; null where it does not say."),
    ]
    matched_by: Annotated[
        ReplyMatch | None,
        Field(description="How its lead was found: by the reply address, by the message it refers to, by its sender."),
    ]
    lead_id: UUID | None
    campaign_id: UUID | None
    email_id: UUID | None
    emails_skipped: Annotated[int, Field(description="Emails that are not sent because of it.")]
    created_at: dt.datetime
    kind: ReplyKind
    proposed_outcome: Annotated[
        ReplyOutcome | None,
        Field(description="`unsubscribe` where all that the reply says is to stop. Nothing is done until you set it."),
    ]
    outcome: Annotated[ReplyOutcome | None, Field(description="What the team made of it.")]
    later_until: dt.datetime | None
    handled_at: Annotated[dt.datetime | None, Field(description="Null: it is not handled yet.")]
    handled_by: str | None


class ReplyChanges(Input):
    """An outcome changes the lead and what is sent to it, and marks the reply as handled."""

    outcome: ReplyOutcome = only_given()
    later_until: Annotated[
        Instant | None,
        Field(
            description=(
                "With the outcome `later`: the campaign's remaining steps go out from this time on, with the gaps that "
                "they had. Without it they stay stopped."
            )
        ),
    ] = None
    handled: Annotated[Flag, Field(description="Without an outcome: whether it is handled.")] = only_given()


class ReplyPage(Resource):
    """One page of replies."""

    items: list[Reply]
    next_cursor: NextCursor


@router.post(
    "/v1/replies",
    operation_id="receive_reply",
    summary="Report a reply that another mail system has received",
    description=(
        "A person's reply stops the mail to its lead; a message that was received before changes nothing. Give the "
        "address that it was sent to and the ids that it refers to where you have them."
    ),
    response_description="The reply, and what it did.",
    tags=TAGS,
)
def receive_reply(body: Annotated[NewReply, Body()]) -> Reply:
    # For cold starts: the parser of mails.
    from sendledger.feedback import replies
    from sendledger.feedback.read_reply import read_reply, reply_from_fields

    parts = body.model_dump(exclude_unset=True, exclude={"raw"})
    if (body.raw is None) == (body.from_address is None) or (body.raw is not None and parts):
        message = "give either raw or the parts of the message, from_address among them"
        raise InvalidInput("The reply is not valid.", [FieldError(name, message) for name in ("raw", "from_address")])
    if body.raw is not None:
        try:
            raw = base64.b64decode(body.raw, validate=True)
        except ValueError:
            raise InvalidInput("The reply is not valid.", [FieldError("raw", "is not base64")]) from None
        reply = read_reply(raw)
    else:
        reply = reply_from_fields(
            body.from_address or "",
            body.subject,
            body.text,
            message_id=body.message_id,
            to_addresses=body.to_addresses,
            in_reply_to=body.in_reply_to,
            references=body.references,
            headers=body.headers,
        )
    settings = api_resources.settings()
    received = replies.receive(
        api_resources.engine(), reply, ReplySource.API, settings.stop_on_reply, settings.unsubscribe_keys
    )
    with api_resources.transaction() as connection:
        return Reply.model_validate(replies.get(connection, received.id))


@router.get(
    "/v1/replies",
    operation_id="list_replies",
    summary="List replies",
    response_description="A page of replies, newest first.",
    tags=TAGS,
)
def list_replies(
    limit: Limit = 50,
    cursor: Cursor = None,
    campaign_id: Annotated[UUID | None, Query(description="Only those to this campaign.")] = None,
    lead_id: Annotated[UUID | None, Query(description="Only those of this lead.")] = None,
    sender: Annotated[
        str | None,
        Query(max_length=320, description="Only those to campaigns that send from this address."),
    ] = None,
    kind: Annotated[ReplyKind | None, Query(description="Only those of this kind.")] = None,
    handled: Annotated[bool | None, Query(description="Whether it is handled.")] = None,
    sort: SortByTime = "-created_at",
) -> ReplyPage:
    from sendledger.feedback import replies  # for cold starts: the parser of mails

    settings = api_resources.settings()
    with api_resources.transaction() as connection:
        page = replies.list_page(
            connection,
            limit,
            cursor,
            campaign_id=campaign_id,
            lead_id=lead_id,
            kind=kind,
            handled=handled,
            sender=sender.strip().lower() if sender is not None else None,
            default_sender=settings.sender_from_address,
            sort=sort,
        )
    return ReplyPage.model_validate(page)


@router.get(
    "/v1/replies/<reply_id>",
    operation_id="get_reply",
    summary="Get a reply",
    response_description="The reply.",
    tags=TAGS,
)
def get_reply(reply_id: ReplyId) -> Reply:
    from sendledger.feedback import replies  # as above

    with api_resources.transaction() as connection:
        return Reply.model_validate(replies.get(connection, reply_id))


@router.patch(
    "/v1/replies/<reply_id>",
    operation_id="update_reply",
    summary="Set the outcome of a reply",
    description=(
        "An outcome sets the status of its lead, and of every lead with the same address. What campaigns would still "
        "send is skipped, but for `interested` and `later`. Setting another outcome later takes no suppression back."
    ),
    response_description="The changed reply.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "The steps cannot be moved: the campaign has ended, or the lead's address is suppressed."
    },
)
def update_reply(reply_id: ReplyId, body: Annotated[ReplyChanges, Body()], caller: Acting) -> Reply:
    from sendledger.feedback import replies, reply_outcomes  # as above

    changes = body.model_dump(exclude_unset=True)
    reply_outcomes.update(api_resources.engine(), reply_id, caller.actor, **changes)
    with api_resources.transaction() as connection:
        return Reply.model_validate(replies.get(connection, reply_id))


class NewAnswer(Input):
    """What to answer, as plain text. It is no template."""

    text: Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"\S")]
    quote: Annotated[Flag, Field(description="Show the text of the reply below.")] = True


class AnswerAccepted(Resource):
    """An answer that waits for the sender."""

    scheduled_email_id: Annotated[int, Field(description="Its row of the ledger, which says what becomes of it.")]


@router.post(
    "/v1/replies/<reply_id>/answer",
    operation_id="answer_reply",
    summary="Answer a reply",
    description=(
        "Sends one email in the thread of the reply, with the next tick. It is a row of the ledger like every other "
        "email and counts like one; its step number is above 1000. The steps of the campaign do not hold it up. The "
        "reply is marked as handled. A campaign that was complete runs again until the answer is sent."
    ),
    status_code=201,
    response_description="The answer waits for the sender.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": (
            "The lead's address is suppressed (`reason`), the reply was answered before, belongs to no lead or "
            "campaign, or the campaign is paused or was cancelled."
        )
    },
)
def answer_reply(reply_id: ReplyId, body: Annotated[NewAnswer, Body()], caller: Acting) -> AnswerAccepted:
    from sendledger.feedback import reply_answers  # as above

    with api_resources.transaction() as connection:
        row_id = reply_answers.answer(connection, reply_id, body.text, caller.actor, quote=body.quote)
    return AnswerAccepted(scheduled_email_id=row_id)
