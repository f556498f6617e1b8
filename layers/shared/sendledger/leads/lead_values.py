"""Checks of lead data: texts go in; values for the columns of `leads`, or errors, come out. No database.

The import of a file and the API check leads with the same rules. The API refuses a value that cannot be stored. An
import leaves it out with a warning and keeps the lead; only a bad address or time zone rejects the lead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core.email_address import InvalidAddress, normalized_address
from sendledger.core.person_names import NAME_PARTS
from sendledger.core.tables import leads
from sendledger.core.time_zones import UnknownTimeZone, zone_name
from sendledger.core.vocabulary import RejectCode
from sendledger.leads.lead_columns import COLUMN_NAMES

MAX_TEXT = 10_000
"""Characters in a field without another limit: address, notes, and each custom field."""

MAX_TAG = 100
MAX_TAGS = 100

MAX_LENGTH: dict[str, int] = {
    **{name: getattr(leads.c[name].type, "length", None) or MAX_TEXT for name in COLUMN_NAMES if name in leads.c},
    # Both, with the blank between them, fit into contact_name.
    **dict.fromkeys(NAME_PARTS, 127),
}
"""Field → characters that it may have."""

_SEVERAL_LINES = frozenset(("address", "notes"))
_TAG_BREAK = re.compile(r"[,;]| ::: ")
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_WINDOWS_1252 = {
    code: character for code in range(0x80, 0xA0) if (character := bytes([code]).decode("cp1252", "ignore"))
}
"""Windows-1252 characters that were read as Latin-1 control characters."""
_INVISIBLE = (
    "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_NOT_NULL = {column.name: "" for column in leads.c if not column.nullable and isinstance(column.type, sa.String)}


class BadValue(ValueError):
    """One field of a lead cannot be stored; `code` is stable for programs."""

    def __init__(self, field: str, code: RejectCode, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
        self.message = message


def lead_values(
    fields: Mapping[str, Any],
    custom_fields: Mapping[str, Any],
    leave_out: Callable[[BadValue], None] | None = None,
) -> dict[str, Any]:
    """Column → value for a new lead; fields without a value are left out, required columns without one are ''.

    `fields` holds texts; `tags` may be a list, or a text as it is in a file.
    Nothing is guessed: for '' a template's `default` is used.
    `leave_out` is called for each value that cannot be stored, which is then left out. Without it such a value is
    refused.

    Raises:
        BadValue: the address or the time zone cannot be stored; without `leave_out`, another field cannot.
    """
    values: dict[str, Any] = dict(_NOT_NULL)
    values["email"] = address(fields.get("email", ""))
    try:
        custom = custom_values(custom_fields)
    except BadValue as error:
        custom = _storable(custom_fields, leave_out, error)
    for field, raw in fields.items():
        if field == "email":
            continue
        try:
            if field == "tags":
                values["tags"] = tags(_TAG_BREAK.split(raw) if isinstance(raw, str) else raw)
            elif value := text(field, raw):
                (custom if field in NAME_PARTS else values)[field] = value
        except BadValue as error:
            # Without its time zone a lead could get mail at night.
            if leave_out is None or field == "time_zone":
                raise
            leave_out(error)
    if "contact_name" not in values and (name := contact_name(custom)):
        values["contact_name"] = name
    if custom:
        values["custom_fields"] = custom
    return values


def _storable(
    custom_fields: Mapping[str, Any], leave_out: Callable[[BadValue], None] | None, refused: BadValue
) -> dict[str, Any]:
    if leave_out is None:
        raise refused
    custom: dict[str, Any] = {}
    for name, value in custom_fields.items():
        try:
            custom |= custom_values({name: value})
        except BadValue as error:
            leave_out(error)
    return custom


def address(raw: str) -> str:
    """The address to store.

    Raises:
        BadValue: SES could not send to it.
    """
    if not (raw.isascii() and raw.isprintable()) and _UNSTORABLE.search(raw):
        raise _unstorable("email", raw)
    try:
        return normalized_address(raw)
    except InvalidAddress as error:
        code = RejectCode.INVALID_EMAIL if raw.strip() else RejectCode.MISSING_EMAIL
        raise BadValue("email", code, str(error)) from error


def text(field: str, raw: str) -> str:
    """The text to store: without blanks around it and, but for address and notes, on one line.

    Raises:
        BadValue: too long, or with control characters.
    """
    if not (raw.isascii() and raw.isprintable()):
        raw = _repaired(raw)
        if _UNSTORABLE.search(raw):
            raise _unstorable(field, raw)
    value = raw.strip() if field in _SEVERAL_LINES else " ".join(raw.split())
    if len(value) > (limit := MAX_LENGTH[field]):
        raise _too_long(field, len(value), limit)
    return _time_zone(value) if field == "time_zone" and value else value


def _time_zone(text: str) -> str:
    try:
        return zone_name(text)
    except UnknownTimeZone as error:
        raise BadValue("time_zone", RejectCode.UNKNOWN_TIME_ZONE, str(error)) from error


def custom_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The custom fields to store; numbers and booleans pass, and what has no value is left out.

    Raises:
        BadValue: too long, or with control characters.
    """
    values = {}
    for name, value in raw.items():
        if isinstance(value, str):
            if not (value.isascii() and value.isprintable()):
                value = _repaired(value)
                if _UNSTORABLE.search(value):
                    raise _unstorable(name, value)
            value = value.strip()
            if len(value) > MAX_TEXT:
                raise _too_long(name, len(value), MAX_TEXT)
        if value not in ("", None):
            values[name] = value
    return values


def tags(raw: list[str]) -> list[str]:
    """The tags to store, without repetition; Mailchimp writes each in quotation marks.

    Raises:
        BadValue: too long, too many, or with control characters.
    """
    plain = (_repaired(each).replace('"', " ").split() for each in raw)
    found = list(dict.fromkeys(" ".join(words) for words in plain if words))
    for tag in found:
        if _UNSTORABLE.search(tag):
            raise _unstorable("tags", tag)
        if len(tag) > MAX_TAG:
            raise _too_long("tags", len(tag), MAX_TAG)
    if len(found) > MAX_TAGS:
        raise BadValue("tags", RejectCode.TOO_MANY, f"A lead has at most {MAX_TAGS} tags; these are {len(found)}.")
    return found


def storable(text: str) -> bool:
    """Whether the database can store it."""
    return not _UNSTORABLE.search(text)


def contact_name(custom_fields: Mapping[str, Any]) -> str:
    """The contact name that first and last name make."""
    return " ".join(str(custom_fields[part]) for part in NAME_PARTS if custom_fields.get(part))


def _repaired(text: str) -> str:
    """The text with the characters that were meant, and without invisible ones around it."""
    return text.translate(_WINDOWS_1252).strip(_INVISIBLE)


def _unstorable(field: str, value: str) -> BadValue:
    if "\ufffd" in value:
        message = "A character was lost before it arrived here (it is now U+FFFD). Save the file as UTF-8."
        return BadValue(field, RejectCode.DAMAGED_TEXT, message)
    return BadValue(field, RejectCode.CONTROL_CHARACTER, "The text contains a control character. Remove it.")


def _too_long(field: str, length: int, limit: int) -> BadValue:
    return BadValue(
        field, RejectCode.TOO_LONG, f"The text has {length:,} characters; at most {limit:,} are possible. Shorten it."
    )
