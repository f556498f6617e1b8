"""Errors as HTTP answers: the one table from exceptions to a status and an RFC 9457 problem document.

An exception goes in, a `Problem` comes out. https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.logging import Logger

from sendledger.core import database, errors
from sendledger.core.errors import FieldError, SendledgerError

PROBLEM_JSON = "application/problem+json"

STATUS_OF: Mapping[type[SendledgerError], HTTPStatus] = {
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.NotThisDeployment: HTTPStatus.CONFLICT,
    errors.ContentChanged: HTTPStatus.FORBIDDEN,
}
"""A subclass has its base's status. Any other exception is our own error and answered with 500."""

CONFLICT_OF_STATE: Mapping[str, str] = {
    "23503": "Something that this refers to was deleted at the same time, or refers to this.",
    "23505": "There is such a thing already.",
}
"""Messages for foreign keys and unique constraints that concurrent changes violate, by SQLSTATE."""

MOST_NAMED = 10
"""Fields in the text of an error. Its list `errors` may have more."""
MOST_ERRORS = 100
"""Entries of `errors`, at most. Lambda could not return an answer with every field of a large body."""

RETRY_AFTER_SECONDS = 5

_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field that can be written",
    "string_type": "must be a string",
    "int_type": "must be a whole number, not in quotes",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "uuid_type": "must be a UUID in a string",
    "uuid_parsing": "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000",
    "datetime_type": "must be a date and time in a string",
    "datetime_parsing": "must be a date and time such as 2030-01-31T09:00:00Z",
    "datetime_from_date_parsing": "must be a date and time such as 2030-01-31T09:00:00Z",
    "datetime_object_invalid": "must be a date and time such as 2030-01-31T09:00:00Z",
    "timezone_aware": "must have an offset from UTC, for example 2030-01-31T09:00:00Z or …+02:00",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}

_NAMED_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")

logger = Logger(child=True)


_TITLES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Request Entity Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Entity",
}
"""Python 3.13 renamed these; a client's contract does not depend on the Python that runs."""


def title_of(status: HTTPStatus) -> str:
    """The title of a problem with this status."""
    return _TITLES.get(status, status.phrase)


@dataclass(frozen=True)
class Problem:
    """One error answer; `code` is stable for programs, `detail` is for people, `data` are extension members."""

    status: HTTPStatus
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> str:
        """The problem document."""
        document: dict[str, Any] = {
            "type": f"urn:sendledger:problem:{self.code}",
            "title": title_of(self.status),
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.errors:
            listed = self.errors[:MOST_ERRORS]
            document["errors"] = [{"field": error.field, "message": error.message} for error in listed]
        # An extension cannot take the place of a standard member; the campaign's status becomes current_status.
        extensions = {("current_status" if name == "status" else name): value for name, value in self.data.items()}
        return json.dumps({**extensions, **document}, default=str, separators=(",", ":"))


NO_SUCH_PATH = Problem(HTTPStatus.NOT_FOUND, "not_found", "There is no such path; see /v1/docs.")


class RequestRefused(Exception):
    """The request is refused before its route runs."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem_of(error: Exception, correlation_id: str) -> Problem:
    """The answer to an error. Our own errors are logged under `correlation_id` and not explained to the caller."""
    if isinstance(error, RequestRefused):
        return error.problem
    if isinstance(error, NotFoundError):
        return NO_SUCH_PATH
    if isinstance(error, RequestValidationError):
        return _invalid([field_error(found) for found in error.errors()])
    if isinstance(error, SendledgerError):
        for base in type(error).__mro__:
            if base in STATUS_OF:
                fields = error.errors if isinstance(error, errors.InvalidInput) else ()
                return Problem(STATUS_OF[base], error.code, error.detail, fields, error.data)
    if isinstance(error, sa.exc.DBAPIError):
        state = database.sqlstate(error)
        if state in CONFLICT_OF_STATE:
            return Problem(HTTPStatus.CONFLICT, "conflict", CONFLICT_OF_STATE[state])
        if database.is_transient(error):
            return _unavailable(error, correlation_id)
    if isinstance(error, OSError | sa.exc.TimeoutError):
        return _unavailable(error, correlation_id)
    _log("Unexpected error", error, correlation_id)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong on our side. The log has the details under this correlation id.",
        data={"correlation_id": correlation_id},
    )


def _invalid(found: Sequence[FieldError]) -> Problem:
    fields = list(dict.fromkeys(error.field for error in found[:MOST_ERRORS]))
    more = f" The first {MOST_ERRORS} of {len(found):,} are listed." if len(found) > MOST_ERRORS else ""
    detail = (
        f"The request is not valid; see errors: {', '.join(fields[:MOST_NAMED])}{', …' * (len(fields) > MOST_NAMED)}."
    )
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", detail + more, found)


def field_error(found: Mapping[str, Any]) -> FieldError:
    """An error of pydantic in our words. The first part of its place says where in the request it is."""
    where, *path = found["loc"] or ("body",)
    path = _without_kinds(path)
    if found["type"] == "value_error":
        message = str(found["ctx"]["error"])
    elif found["type"] in _MESSAGES:
        # A literal of enum members is shown with their names.
        context = {name: _NAMED_MEMBER.sub(r"\1", str(value)) for name, value in found.get("ctx", {}).items()}
        message = _MESSAGES[found["type"]].format(**context)
    else:
        message = found["msg"]
    return FieldError(".".join(str(part) for part in path) or str(where), message)


def _without_kinds(path: Sequence[str | int]) -> list[str | int]:
    """The path in the body. Pydantic adds the kind of each condition of a segment, by which it has chosen the model."""

    def is_kind(index: int) -> bool:
        before = path[max(index - 2, 0) : index]
        return before[-1:] in (["filter"], ["condition"]) or (before[:1] == ["conditions"] and len(before) == 2)

    # What is wrong is always a member of a condition: a kind is not the end.
    return [part for index, part in enumerate(path) if index == len(path) - 1 or not is_kind(index)]


def _unavailable(error: Exception, correlation_id: str) -> Problem:
    _log("The database cannot be reached or is too busy", error, correlation_id)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database_unavailable",
        "The database cannot be reached or is too busy. Try again shortly.",
        data={"correlation_id": correlation_id},
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _log(message: str, error: Exception, correlation_id: str) -> None:
    # Without the error's text: database errors quote values, which may be personal data.
    of_database = error if isinstance(error, sa.exc.DBAPIError) else None
    logger.error(
        message,
        extra={
            "correlation_id": correlation_id,
            "error": type(error).__qualname__,
            # Names the setting and never shows its value.
            "setting": error.detail if isinstance(error, errors.SettingsError) else None,
            "sqlstate": of_database and database.sqlstate(of_database),
            "constraint": of_database and database.constraint(of_database),
            "frames": [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(error.__traceback__)],
        },
    )
