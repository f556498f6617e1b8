"""A time that a caller writes: a text with an offset in, aware UTC that the database can store out. No database."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


def _text_only(value: Any) -> Any:
    # pydantic would read a number, also in a string, as seconds since 1970.
    if not isinstance(value, str) or "-" not in value[1:]:
        raise ValueError("must be a date and time in a string")
    return value


def _storable(value: dt.datetime) -> dt.datetime:
    if not 1970 <= value.year <= 9998:
        raise ValueError("must lie between the years 1970 and 9998")
    return value.astimezone(dt.UTC)


Instant = Annotated[
    AwareDatetime, BeforeValidator(_text_only, json_schema_input_type=AwareDatetime), AfterValidator(_storable)
]
