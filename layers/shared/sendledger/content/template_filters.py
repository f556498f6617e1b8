"""The filters and tests of the template language. Limits bound the work of each; other values are refused.

`FILTERS` and `TESTS` say what one use of each costs, in the unit of `template_language.MAX_WORK`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote

import jinja2
from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests
from markupsafe import Markup, escape

from sendledger.core.vocabulary import ErrorCode

MAX_VALUE = 10_000
"""Characters in one value."""

MAX_ENTRIES = 100
"""Entries of a list, and so rounds of a loop."""

MAX_VALUES = 1_000
"""Entries of all lists and objects of one lead, and so rounds of a loop in a loop."""

MAX_DIGITS = 10
"""Decimal places for `round`."""


_WORDS = re.compile(r"([-\s({\[<]+)")
_MARKUP = re.compile(r"<[^<>]*>")


class RenderError(Exception):
    """This lead's email cannot be made from this template.

    `code` is the reason for programs, `message` for people. `variable` is the path of a missing value, if that is the
    reason.
    """

    def __init__(self, code: str, message: str, variable: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.variable = variable


class NoValue(jinja2.StrictUndefined):
    """A variable without a value. All but `default` and `is defined` fail on it; its message is its path."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return self._undefined_name or self._undefined_hint or "a value"


class TooLarge:
    """The substitute for a value beyond the limits: any use of it fails this email."""

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        self._message = message

    def fail(self, *_: object) -> NoReturn:
        raise RenderError(ErrorCode.TOO_LONG, self._message)

    __str__ = __bool__ = __len__ = __iter__ = __contains__ = __eq__ = __ne__ = __hash__ = fail
    __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __abs__ = fail


def text_of(value: Any) -> str:
    """The value as a text for a filter. An escaped text stays escaped."""
    if isinstance(value, (int, float, jinja2.Undefined)):
        value = str(value)
    if not isinstance(value, str):
        refuse(value)
    if len(value) > MAX_VALUE:
        raise RenderError(
            ErrorCode.TOO_LONG, f"A value has {len(value):,} characters; at most {MAX_VALUE:,} are possible."
        )
    return value


def refuse(value: object) -> NoReturn:
    if isinstance(value, TooLarge):
        value.fail()
    name = {list: "a list", type(None): "null"}.get(type(value), "an object")
    raise RenderError(ErrorCode.NOT_TEXT, f"The template uses {name} where only a text or a number is possible.")


def entries_of(value: Any) -> list[Any]:
    """The entries of a list of the lead. An empty text, which `default('')` supplies, is an empty list."""
    if isinstance(value, (TooLarge, jinja2.Undefined)):
        iter(value)  # raises
    if isinstance(value, str) and not value:
        return []
    if not isinstance(value, list):
        raise RenderError(
            ErrorCode.NOT_A_LIST, "The template goes over a value that is not a list; a loop needs a list."
        )
    return value


def _title(value: Any) -> str:
    text = text_of(value)
    return type(text)("".join(map(str.capitalize, _WORDS.split(text))))


def _strip_tags(value: Any) -> str:
    return html.unescape(" ".join(_MARKUP.sub("", str(text_of(value))).split()))


def _truncate(value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5) -> str:
    text = text_of(value)
    if len(text) <= length + leeway:
        return text
    cut = text[: max(0, length - len(end))]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


def _url_encode(value: Any) -> str:
    encoded = str(text_of(value)).encode()
    if len(encoded) > MAX_VALUE:
        raise RenderError(ErrorCode.TOO_LONG, f"A value is too long for a link: more than {MAX_VALUE:,} bytes.")
    return quote(encoded, safe="/")


def _replace(value: Any, old: str, new: str) -> str:
    text = text_of(value)
    old, new = text_of(old), text_of(new)
    if not old or len(text) + text.count(old) * len(new) > MAX_VALUE:
        raise RenderError(ErrorCode.TOO_LONG, "The replace filter makes a text that is too long.")
    return text.replace(old, new)


def _join(values: Any, separator: str = "") -> str:
    parts = [text_of(part) for part in entries_of(values)]
    separator = text_of(separator)
    if sum(map(len, parts)) + len(parts) * len(separator) > MAX_VALUE:
        raise RenderError(ErrorCode.TOO_LONG, "The join filter makes a text that is too long.")
    if any(isinstance(part, Markup) for part in (*parts, separator)):
        return escape(separator).join(parts)
    return separator.join(parts)


def _sort(values: Any, reverse: bool = False) -> list[Any]:
    entries = [entry if isinstance(entry, (int, float)) else text_of(entry) for entry in entries_of(values)]
    return sorted(entries, key=lambda entry: entry.casefold() if isinstance(entry, str) else entry, reverse=reverse)


def _unique(values: Any) -> list[Any]:
    return list({text_of(entry).casefold(): entry for entry in reversed(entries_of(values))}.values())[::-1]


def _length(value: Any) -> int:
    if isinstance(value, (int, float)):
        raise RenderError(ErrorCode.NOT_TEXT, "The length filter is for texts and lists.")
    return len(value)


def _end(position: int) -> Callable[[Any], Any]:
    def entry(value: Any) -> Any:
        values = text_of(value) if isinstance(value, str) else entries_of(value)
        return values[position] if values else NoValue(name="the first or last entry of nothing")

    return entry


def _round(value: Any, precision: int = 0, method: str = "common") -> float:
    if not isinstance(precision, int) or not 0 <= precision <= MAX_DIGITS:
        raise RenderError(ErrorCode.TEMPLATE_ERROR, f"The round filter has 0 to {MAX_DIGITS} decimal places.")
    number = float(value)
    if method == "common":
        return round(number, precision)
    factor = 10**precision
    rounded: int = (math.ceil if method == "ceil" else math.floor)(number * factor)
    return float(rounded / factor)


def _number(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converted(value: Any, default: Any = 0) -> Any:
        return convert(text_of(value) if isinstance(value, str) else value, default)

    return converted


def _of_number(test: Callable[..., bool]) -> Callable[..., bool]:
    """Jinja2's tests use the sign % for the remainder, which on a text formats: "%999999999d" fills the memory."""

    def tested(value: Any, *numbers: Any) -> bool:
        value = _number(jinja_filters.do_float)(value, value) if isinstance(value, str) else value
        for number in (value, *numbers):
            if not isinstance(number, (int, float)):
                raise RenderError(ErrorCode.NOT_TEXT, "The tests odd, even and divisibleby are for numbers.")
        return test(value, *numbers)

    return tested


def _on_text(change: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: change(text_of(value))


FILTERS: dict[str, tuple[Callable[..., Any], int]] = {
    "abs": (lambda value: abs(float(value)) if not isinstance(value, int) else abs(value), 1),
    "capitalize": (_on_text(str.capitalize), 10),
    "count": (_length, 1),
    "d": (jinja_filters.do_default, 1),
    "default": (jinja_filters.do_default, 1),
    "e": (_on_text(escape), 10),
    "escape": (_on_text(escape), 10),
    "first": (_end(0), 1),
    "float": (_number(jinja_filters.do_float), 10),
    "int": (_number(jinja_filters.do_int), 10),
    "join": (_join, 20),
    "last": (_end(-1), 1),
    "length": (_length, 1),
    "lower": (_on_text(lambda text: text.lower()), 10),
    "replace": (_replace, 20),
    "round": (_round, 1),
    "sort": (_sort, 200),
    "striptags": (_strip_tags, 200),
    "title": (_title, 200),
    "trim": (_on_text(lambda text: text.strip()), 10),
    "truncate": (_truncate, 10),
    "unique": (_unique, 200),
    "upper": (_on_text(lambda text: text.upper()), 10),
    "urlencode": (_url_encode, 40),
    "wordcount": (_on_text(lambda text: len(text.split())), 20),
}
"""Name → function, and what one use of it costs."""

_COMPARISONS = (
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "eq",
    "equalto",
    "ne",
    "lt",
    "lessthan",
    "le",
    "gt",
    "greaterthan",
    "ge",
)
_QUESTIONS = ("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false")
_JINJA_TESTS: dict[str, Callable[..., Any]] = jinja_tests.TESTS  # type: ignore[assignment]
TESTS: dict[str, tuple[Callable[..., Any], int]] = {
    **{name: (_JINJA_TESTS[name], 5) for name in _COMPARISONS},
    **{name: (_JINJA_TESTS[name], 1) for name in (*_QUESTIONS, "mapping", "sequence")},
    **{name: (_of_number(_JINJA_TESTS[name]), 1) for name in ("odd", "even", "divisibleby")},
    **{name: (_JINJA_TESTS[name], 10) for name in ("in", "lower", "upper")},
}
"""Name → function, and what one use of it costs."""
