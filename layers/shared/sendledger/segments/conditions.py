"""The conditions of a segment: JSON of fixed forms. No database.

`kind` says which form a condition has. `and`, `or` and `not` hold others, so that a filter is a tree.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.instants import Instant
from sendledger.core.time_zones import zone_name
from sendledger.core.vocabulary import CampaignContact, LeadStatus

MAX_DEPTH = 6
"""Levels of `and`, `or` and `not`."""
MAX_CONDITIONS = 50
MAX_VALUES = 100

Text = Annotated[str, Strict(), Field(min_length=1, max_length=500)]
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


class _Condition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FieldCondition(_Condition):
    """A field of the lead has one of these values. Case does not matter."""

    kind: Literal["field"]
    field: Literal[
        "company_name",
        "contact_name",
        "email",
        "job_title",
        "industry",
        "business_type",
        "company_size",
        "phone",
        "website",
        "linkedin_url",
        "address",
        "city",
        "country",
        "notes",
        "source",
    ]
    operator: Literal["is", "contains", "starts_with", "is_empty"] = "is"
    values: Annotated[list[Text], Field(max_length=MAX_VALUES, description="One of them; none with `is_empty`.")] = (
        Field(default_factory=list, validate_default=True)
    )

    @field_validator("values")
    @classmethod
    def _as_many_as_the_operator_takes(cls, values: list[str], info: ValidationInfo) -> list[str]:
        _check_number(info.data.get("operator"), len(values))
        return values


def _finite(value: float | str) -> float | str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


CustomValue = Annotated[
    Text | Annotated[bool, Strict()] | Annotated[int, Strict()] | Annotated[float, Strict()], AfterValidator(_finite)
]


class CustomFieldCondition(_Condition):
    """A custom field has one of these values, or a number within a limit. A text that is a number counts as one."""

    kind: Literal["custom_field"]
    name: Annotated[str, Strict(), Field(min_length=1, max_length=255)]
    operator: Literal["is", "contains", "starts_with", "is_empty", "at_least", "at_most"] = "is"
    values: Annotated[
        list[CustomValue], Field(max_length=MAX_VALUES, description="One of them; none with `is_empty`.")
    ] = Field(default_factory=list, validate_default=True)

    @field_validator("values")
    @classmethod
    def _as_the_operator_takes_them(cls, values: list[Any], info: ValidationInfo) -> list[Any]:
        operator = info.data.get("operator")
        _check_number(operator, len(values))
        if operator in ("at_least", "at_most") and (len(values) != 1 or not is_number(values[0])):
            raise ValueError(f"must be one number of at most 15 digits with {operator}")
        if operator in ("contains", "starts_with") and not all(isinstance(value, str) for value in values):
            raise ValueError(f"must be texts with {operator}")
        return values


class TagCondition(_Condition):
    """The lead has this tag, with this case."""

    kind: Literal["tag"]
    tag: Annotated[str, Strict(), Field(min_length=1, max_length=100)]


class StatusCondition(_Condition):
    """The lead has one of these statuses."""

    kind: Literal["status"]
    values: Annotated[list[LeadStatus], Field(min_length=1, max_length=MAX_VALUES)]


class BatchCondition(_Condition):
    """The lead was imported with this lead batch."""

    kind: Literal["batch"]
    batch_id: UUID


class TimeZoneCondition(_Condition):
    """The lead's local time zone is one of these: its own, or the only one of its country."""

    kind: Literal["time_zone"]
    values: Annotated[
        list[Annotated[str, Strict(), Field(max_length=64), AfterValidator(zone_name)]],
        Field(min_length=1, max_length=MAX_VALUES, examples=[["Europe/Berlin"]]),
    ]


class LastContactedCondition(_Condition):
    """The last email to the lead was sent from `after` on, and before `before`."""

    kind: Literal["last_contacted"]
    after: Instant | None = None
    before: Annotated[Instant | None, Field(validate_default=True)] = None

    @field_validator("before")
    @classmethod
    def _at_least_one(cls, before: dt.datetime | None, info: ValidationInfo) -> dt.datetime | None:
        if before is None and info.data.get("after", True) is None:
            raise ValueError("is needed where there is no after")
        return before


class NotContactedForCondition(_Condition):
    """No email was sent to the lead for so many days, or none ever."""

    kind: Literal["not_contacted_for"]
    days: Annotated[int, Strict(), Field(ge=1, le=36_500)]


class CampaignCondition(_Condition):
    """What became of the emails of a campaign to the lead."""

    kind: Literal["campaign"]
    campaign_id: UUID
    contact: CampaignContact


class AndCondition(_Condition):
    """All of these are true."""

    kind: Literal["and"]
    conditions: Annotated[list[Condition], Field(min_length=1, max_length=MAX_CONDITIONS)]


class OrCondition(_Condition):
    """At least one of these is true."""

    kind: Literal["or"]
    conditions: Annotated[list[Condition], Field(min_length=1, max_length=MAX_CONDITIONS)]


class NotCondition(_Condition):
    """This is not true."""

    kind: Literal["not"]
    condition: Condition


Condition = Annotated[
    FieldCondition
    | CustomFieldCondition
    | TagCondition
    | StatusCondition
    | BatchCondition
    | TimeZoneCondition
    | LastContactedCondition
    | NotContactedForCondition
    | CampaignCondition
    | AndCondition
    | OrCondition
    | NotCondition,
    Field(discriminator="kind"),
]
KINDS = {
    get_args(model.model_fields["kind"].annotation)[0]: model.__doc__ for model in get_args(get_args(Condition)[0])
}
"""Each kind of condition and what is true then."""

# Built when a segment is first read: most processes never read one.
_stored: TypeAdapter[Condition] = TypeAdapter(Condition, config=ConfigDict(defer_build=True))


def is_number(value: object) -> bool:
    """Whether a value counts as a number, a text too."""
    return not isinstance(value, bool) and _NUMBER.fullmatch(str(value)) is not None


def of_json(stored: Any) -> Condition:
    """The condition that was stored as JSON."""
    return _stored.validate_python(stored)


def check_size(condition: Condition) -> None:
    """Refuse a filter that would take the database too long.

    Raises:
        InvalidInput: it has too many levels or conditions.
    """
    nodes = list(walk(condition, "filter"))
    errors = []
    if max(path.count(".condition") for path, _ in nodes) > MAX_DEPTH:
        errors.append(FieldError("filter", f"must have at most {MAX_DEPTH} levels of and, or and not"))
    if len(nodes) > MAX_CONDITIONS:
        errors.append(FieldError("filter", f"must have at most {MAX_CONDITIONS} conditions; it has {len(nodes)}"))
    if errors:
        raise InvalidInput("The segment is not valid.", errors)


def walk(condition: Condition, path: str) -> Iterator[tuple[str, Condition]]:
    """A condition and those in it, each with where it is."""
    yield path, condition
    if isinstance(condition, AndCondition | OrCondition):
        for index, each in enumerate(condition.conditions):
            yield from walk(each, f"{path}.conditions.{index}")
    elif isinstance(condition, NotCondition):
        yield from walk(condition.condition, f"{path}.condition")


def _check_number(operator: str | None, count: int) -> None:
    if operator == "is_empty" and count:
        raise ValueError("must be left out with is_empty")
    if operator not in ("is_empty", None) and not count:
        raise ValueError(f"must have at least one value with {operator}")
