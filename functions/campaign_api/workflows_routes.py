"""Routes of workflows, with their steps inline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from pydantic import BeforeValidator, Field, Strict, model_validator

import api_resources
from api_fields import (
    Acting,
    Cursor,
    Description,
    Flag,
    Input,
    Limit,
    Name,
    NextCursor,
    Resource,
    Sort,
    WorkflowId,
    no_content,
    only_given,
)
from sendledger.content import workflows
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.vocabulary import StepCondition, WinnerBy

router = APIGatewayHttpRouter()
TAGS = ["Workflows"]

_UNITS = {"days": dt.timedelta(days=1), "hours": dt.timedelta(hours=1), "minutes": dt.timedelta(minutes=1)}

StepNumber = Annotated[int, Strict(), Field(ge=1, le=workflows.MAX_STEPS)]
Days = Annotated[int, Strict(), Field(ge=0, le=workflows.MAX_DELAY.days)]


_UNIT_MEANINGS = """\
- `minutes`: 60 seconds each.
- `hours`: 60 minutes each.
- `days`: 24 hours each.
- `business_days`: Days on which the campaign's sending schedule is open in the time zone of the lead. The local time of
  day stays the same. At most 365. The campaign must have a schedule to start."""


class Delay(Input):
    """How long after the step before; for the first step, after the start of the campaign."""

    value: Annotated[int, Strict(), Field(ge=0, le=workflows.MAX_DELAY // dt.timedelta(minutes=1))]
    unit: Annotated[
        Literal["minutes", "hours", "days", "business_days"],
        Field(description=_UNIT_MEANINGS),
    ]


class OnlyIf(Input):
    """What must have become of an earlier step. It is looked at just before the email would be sent."""

    event: StepCondition
    of_step: StepNumber


class Variant(Input):
    """One of the contents of a step, and its share of the leads: its weight divided by the sum of the weights."""

    email_template_id: UUID
    weight: Annotated[int, Strict(), Field(ge=1, le=workflows.MAX_WEIGHT)] = 1


class Winner(Input):
    """A part of the leads gets the variants, split; the others wait and get the winner."""

    by: Annotated[WinnerBy, Field(description="What makes a variant the winner. The campaign must track it.")]
    test_share: Annotated[
        int, Strict(), Field(ge=1, le=99, description="The percentage of the leads that get the variants.")
    ]
    after: Annotated[
        Delay,
        Field(description="How long after the planned time of the step the winner is decided, and the rest goes."),
    ]


class NewStep(Input):
    """At most one of `days_after_previous` and `delay`; without both it is sent together with the step before."""

    step_number: StepNumber
    email_template_id: Annotated[
        UUID | None, Field(description="What everybody gets. Beside `variants` it may only repeat the first of them.")
    ] = None
    variants: Annotated[
        list[Variant] | None,
        Field(
            min_length=1,
            max_length=workflows.MAX_VARIANTS,
            description=(
                "In place of `email_template_id`: each lead gets one of these. The leads are split by the weights, "
                "to at most one lead more or less, over all leads of the campaign."
            ),
        ),
    ] = None
    keep_variant: Annotated[
        Flag,
        Field(
            description=(
                "A lead gets the variant with the same number in all steps that have as many variants with the same "
                "weights. False: this step is split by itself."
            )
        ),
    ] = True
    winner: Annotated[
        Winner | None, Field(description="Test the variants with some leads, and send the winner to the others.")
    ] = None
    days_after_previous: Days | None = None
    delay: Delay | None = None
    in_thread: Annotated[
        Flag,
        Field(
            description=(
                'Sent as an answer to the lead\'s last email of this campaign: with its subject, "Re: " before it. The '
                "template's own subject is used where there is no such email. Not for step 1."
            )
        ),
    ] = False
    quote: Annotated[
        Flag, Field(description="Show the text of the email that is answered below. Needs `in_thread`.")
    ] = False
    only_if: Annotated[
        OnlyIf | None,
        Field(
            description=(
                "Sent only to leads for whom this holds; for others it is skipped as `condition_not_met`, and later "
                "steps go on. The campaign must track what it asks about. Not for step 1."
            )
        ),
    ] = None


Steps = Annotated[
    list[NewStep],
    Field(min_length=1, max_length=workflows.MAX_STEPS, description="Numbered 1, 2, 3, …, in any order."),
]


class NewWorkflow(Input):
    """A workflow and its steps."""

    name: Name
    description: Description | None = None
    industry: Annotated[str, Field(max_length=100)] | None = None
    country: Annotated[str, Field(max_length=100)] | None = None
    is_active: Flag = True
    steps: Steps


class WorkflowChanges(Input):
    """Only the given fields change; `steps` replace all steps."""

    name: Name = only_given()
    description: Description | None = None
    industry: Annotated[str, Field(max_length=100)] | None = None
    country: Annotated[str, Field(max_length=100)] | None = None
    is_active: Flag = only_given()
    steps: Steps = only_given()


def _shown_delay(delay: Any) -> Any:
    """The largest unit that needs no fraction."""
    if not isinstance(delay, dt.timedelta):
        return delay
    for unit, length in _UNITS.items():
        if delay % length == dt.timedelta(0):
            return {"value": delay // length, "unit": unit}
    return {"value": round(delay.total_seconds()), "unit": "seconds"}


class ShownDelay(Resource):
    """How long after the step before."""

    value: int
    unit: Annotated[
        Literal["seconds", "minutes", "hours", "days", "business_days"],
        Field(description=f"- `seconds`: Only in a delay that the API did not write.\n{_UNIT_MEANINGS}"),
    ]


def _shown_winner(stored: Any) -> Any:
    if not isinstance(stored, Mapping) or "after_seconds" not in stored:
        return stored
    return {**stored, "after": _shown_delay(dt.timedelta(seconds=stored["after_seconds"]))}


class ShownWinner(Resource):
    """How the winner is found."""

    by: WinnerBy
    test_share: int
    after: ShownDelay


class ShownVariant(Resource):
    """One of the contents of a step."""

    email_template_id: UUID
    weight: int


class Step(Resource):
    """A step of a workflow. Steps of an older application may have a subject and a body instead of a template."""

    step_number: int
    email_template_id: Annotated[UUID | None, Field(description="Of the first variant.")]
    variants: Annotated[list[ShownVariant], Field(description="In the order of their numbers, from 1; one is usual.")]
    keep_variant: bool
    winner: Annotated[ShownWinner | None, BeforeValidator(_shown_winner)]
    days_after_previous: Annotated[int | None, Field(description="The whole days of `delay`, or its business days.")]
    delay: Annotated[ShownDelay, BeforeValidator(_shown_delay)]
    in_thread: bool
    quote: bool
    only_if: OnlyIf | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_columns(cls, value: Any) -> Any:
        """The condition, and a delay in business days, from their columns."""
        columns = dict(value) if isinstance(value, Mapping) else value
        if isinstance(columns, dict) and columns.get("only_if_event"):
            columns["only_if"] = {"event": columns["only_if_event"], "of_step": columns["only_if_step"]}
        if isinstance(columns, dict) and columns.get("business_days"):
            columns["delay"] = {"value": columns["days_after_previous"] or 0, "unit": "business_days"}
        return columns

    subject: str | None
    body: str | None


class WorkflowSummary(Resource):
    """A workflow without its steps."""

    id: UUID
    name: str
    description: str | None
    industry: str | None
    country: str | None
    is_active: bool | None
    steps_count: int | None
    created_at: dt.datetime | None
    updated_at: dt.datetime | None


class Workflow(WorkflowSummary):
    """A workflow with its steps, in their order."""

    steps: list[Step]


class WorkflowPage(Resource):
    """One page of workflows."""

    items: list[WorkflowSummary]
    next_cursor: NextCursor


@router.post(
    "/v1/workflows",
    operation_id="create_workflow",
    summary="Create a workflow",
    status_code=201,
    response_description="The new workflow.",
    tags=TAGS,
)
def create_workflow(body: Annotated[NewWorkflow, Body()], caller: Acting) -> Workflow:
    steps = _columns(body.steps)
    with api_resources.transaction() as connection:
        values = body.model_dump(exclude={"steps"})
        return Workflow.model_validate(workflows.create(connection, values, steps, caller.actor))


@router.get(
    "/v1/workflows",
    operation_id="list_workflows",
    summary="List workflows",
    response_description="Workflows, newest first.",
    tags=TAGS,
)
def list_workflows(limit: Limit = 50, cursor: Cursor = None, sort: Sort = "-created_at") -> WorkflowPage:
    with api_resources.transaction() as connection:
        return WorkflowPage.model_validate(workflows.list_page(connection, limit, cursor, sort))


@router.get(
    "/v1/workflows/<workflow_id>",
    operation_id="get_workflow",
    summary="Get a workflow with its steps",
    response_description="The workflow.",
    tags=TAGS,
)
def get_workflow(workflow_id: WorkflowId) -> Workflow:
    with api_resources.transaction() as connection:
        return Workflow.model_validate(workflows.get(connection, workflow_id))


@router.patch(
    "/v1/workflows/<workflow_id>",
    operation_id="update_workflow",
    summary="Change a workflow",
    description="Campaigns that have started keep the steps that they started with.",
    response_description="The changed workflow.",
    tags=TAGS,
)
def update_workflow(workflow_id: WorkflowId, body: Annotated[WorkflowChanges, Body()], caller: Acting) -> Workflow:
    changes = body.model_dump(exclude_unset=True, exclude={"steps"})
    steps = _columns(body.steps) if "steps" in body.model_fields_set else None
    with api_resources.transaction() as connection:
        return Workflow.model_validate(workflows.update(connection, workflow_id, changes, steps, caller.actor))


@router.delete(
    "/v1/workflows/<workflow_id>",
    operation_id="delete_workflow",
    summary="Delete a workflow",
    description="Refused while a campaign uses it that has not started, or has failed to start.",
    status_code=204,
    response_description="It is deleted.",
    tags=TAGS,
    openapi_extensions={
        "x-conflict": "A draft, a scheduled campaign, or one that failed to start uses it; `campaigns` names them."
    },
)
def delete_workflow(workflow_id: WorkflowId, caller: Acting) -> Response[None]:
    with api_resources.transaction() as connection:
        workflows.delete(connection, workflow_id, caller.actor)
    return no_content()


def _columns(steps: list[NewStep]) -> list[dict[str, Any]]:
    twice = [index for index, step in enumerate(steps) if step.delay and step.days_after_previous is not None]
    if twice:
        message = "either days_after_previous or delay, not both"
        raise InvalidInput("The steps are not valid.", [FieldError(f"steps.{index}.delay", message) for index in twice])
    if errors := [error for index, step in enumerate(steps) for error in _unclear_content(f"steps.{index}", step)]:
        raise InvalidInput("The steps are not valid.", errors)
    return [_column_values(step) for step in steps]


def _unclear_content(field: str, step: NewStep) -> Iterator[FieldError]:
    if step.variants is None and step.email_template_id is None:
        yield FieldError(f"{field}.email_template_id", "is needed, or variants in its place")
    elif step.variants and step.email_template_id not in (None, step.variants[0].email_template_id):
        message = "either email_template_id or variants; beside variants it may only repeat the first of them"
        yield FieldError(f"{field}.email_template_id", message)
    if step.winner is not None:
        if len(step.variants or ()) < 2:
            yield FieldError(f"{field}.winner", "needs at least two variants")
        if step.winner.after.unit == "business_days":
            yield FieldError(f"{field}.winner.after.unit", "must be minutes, hours or days")
        elif not dt.timedelta(0) < step.winner.after.value * _UNITS[step.winner.after.unit] <= workflows.MAX_DELAY:
            message = f"must be longer than nothing and at most {workflows.MAX_DELAY.days} days"
            yield FieldError(f"{field}.winner.after.value", message)


def _stored_winner(winner: Winner | None) -> dict[str, Any] | None:
    if winner is None:
        return None
    after = winner.after.value * _UNITS[winner.after.unit]
    return {"by": winner.by, "test_share": winner.test_share, "after_seconds": round(after.total_seconds())}


def _column_values(step: NewStep) -> dict[str, Any]:
    variants = [each.model_dump() for each in step.variants or ()]
    variants = variants or [{"email_template_id": step.email_template_id, "weight": 1}]
    length, days, in_business_days = None, step.days_after_previous or 0, False
    if step.delay is not None and step.delay.unit == "business_days":
        days, in_business_days = step.delay.value, True
    elif step.delay is not None:
        length = step.delay.value * _UNITS[step.delay.unit]
        days = length.days
    return {
        "step_number": step.step_number,
        "email_template_id": variants[0]["email_template_id"],
        "variants": variants,
        "keep_variant": step.keep_variant,
        "winner": _stored_winner(step.winner),
        # What an older application reads.
        "days_after_previous": days,
        "delay": length,
        "business_days": in_business_days,
        "in_thread": step.in_thread,
        "quote": step.quote,
        "only_if_event": step.only_if.event if step.only_if else None,
        "only_if_step": step.only_if.of_step if step.only_if else None,
    }
