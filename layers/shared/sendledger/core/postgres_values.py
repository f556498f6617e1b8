"""How values of PostgreSQL become values of Python, where Python's types are narrower than PostgreSQL's.

In: what PostgreSQL writes; out: the value, or the nearest one that Python has. PostgreSQL knows times without an end,
and years before 1 and after 9999. pg8000 returns those as text, or reads them as other years.
https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from typing import Any

import pg8000
from pg8000 import converters

LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)
"""Stands for `infinity` and for every later year; written to the database it is `infinity`."""
EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
"""Stands for `-infinity` and for every earlier year; written to the database it is `-infinity`."""

LONGEST_DELAY = dt.timedelta(days=999_999_999)
"""Stands for every longer interval."""
DAYS_OF_A_MONTH = 30
"""As PostgreSQL has it when it compares intervals."""

LONGEST_NUMBER = 300
"""Digits. A longer number in JSON is read as text: Python cannot hold it, or not write it as JSON again."""


def is_infinite(time: dt.datetime | None) -> bool:
    """Whether the time is one that Python cannot hold; true of `infinity` above all."""
    return time in (LATEST, EARLIEST)


def register(connection: pg8000.Connection) -> None:
    """Let this connection read and write such values."""
    connection.register_in_adapter(converters.TIMESTAMP, _read_time)
    connection.register_in_adapter(converters.TIMESTAMPTZ, read_utc_time)
    connection.register_in_adapter(converters.INTERVAL, _read_interval)
    for array in (converters.VARCHAR_ARRAY, converters.TEXT_ARRAY, converters.UUID_ARRAY):
        connection.register_in_adapter(array, _array_reader(converters.PG_TYPES[array]))
    connection.register_out_adapter(dt.datetime, _write_time)
    connection.register_out_adapter(list, _write_list)


MAX_DEPTH = 200
"""Levels of a JSON document that is read; what is written in an answer may not have many more."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{\]}]')


def read_json(text: str) -> Any:
    """JSON as Python has it, with numbers that are too large, and documents that are too deep, as text."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return text
    return json.loads(text, parse_int=_read_integer, parse_float=_read_number)


def _depth(text: str) -> int:
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
    return deepest


def _read_time(text: str) -> dt.datetime:
    return read_utc_time(text).replace(tzinfo=None)


_LATER_YEAR = re.compile("[0-9]{5,}-")


def read_utc_time(text: str) -> dt.datetime:
    """A `timestamptz` of a session in UTC with the date style ISO, as PostgreSQL writes it by itself or in JSON."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        if text == "infinity" or _LATER_YEAR.match(text):
            return LATEST
        if text == "-infinity" or text.endswith(" BC"):
            return EARLIEST
        raise
    return time if time.tzinfo is dt.UTC else time.replace(tzinfo=dt.UTC)


def _write_time(time: dt.datetime) -> str:
    aware = time.replace(tzinfo=dt.UTC)
    if is_infinite(aware):
        return "infinity" if aware == LATEST else "-infinity"
    text: str = converters.datetime_out(time)
    return text


def _write_list(values: list[Any]) -> str:
    """pg8000 looks at each value anew, which takes five times as long for the ids of a chunk."""
    if all(type(value) is int for value in values):
        return f"{{{','.join(map(str, values))}}}"
    text: str = converters.array_out(values)
    return text


def _read_interval(text: str) -> dt.timedelta:
    if text in ("infinity", "-infinity"):
        return LONGEST_DELAY if text == "infinity" else -LONGEST_DELAY
    try:
        value = converters.interval_in(text)
        if not isinstance(value, dt.timedelta):
            parts = value.normalize()
            value = dt.timedelta(days=DAYS_OF_A_MONTH * parts.months + parts.days, seconds=parts.seconds)
    except OverflowError:
        return -LONGEST_DELAY if text.startswith("-") else LONGEST_DELAY
    return value


def _array_reader(read: Any) -> Any:
    def read_array(text: str) -> Any:
        # An array that does not begin at 1 says where: [0:1]={a,b}.
        return read(text[text.index("=") + 1 :] if text.startswith("[") else text)

    return read_array


def _read_integer(text: str) -> int | str:
    return int(text) if len(text) <= LONGEST_NUMBER else text


def _read_number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text
