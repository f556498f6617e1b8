"""What may be stored of a lead: raw texts in, values of the columns of `leads` out, or what is wrong. No database.

The import of a file and the API check leads with the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core.email_address import InvalidAddress, normalized_address
from sendledger.core.tables import leads
from sendledger.leads.lead_columns import COLUMN_NAMES

MAX_TEXT = 10_000
"""Characters in a field without a limit of its own: address, notes, and each custom field."""

MAX_TAG = 100
MAX_TAGS = 100

NAME_PARTS = ("first_name", "last_name")
"""Fields without a column: they are kept in `custom_fields` under these names, and make the contact name."""

MAX_LENGTH: dict[str, int] = {
    **{name: getattr(leads.c[name].type, "length", None) or MAX_TEXT for name in COLUMN_NAMES if name in leads.c},
    # Both, with the blank between them, fit into contact_name.
    **dict.fromkeys(NAME_PARTS, 127),
}
"""Field → characters that it may have."""

_SEVERAL_LINES = frozenset(("address", "notes"))
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_NOT_NULL = {column.name: "" for column in leads.c if not column.nullable and isinstance(column.type, sa.String)}


class BadValue(ValueError):
    """One field of a lead cannot be stored; `code` is stable for programs."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
        self.message = message


def lead_values(fields: Mapping[str, Any], custom_fields: Mapping[str, Any]) -> dict[str, Any]:
    """Column → value for a new lead; fields without a value are left out, required columns without one are ''.

    `fields` holds texts; `tags` may be a list, or a text as it is in a file.
    '' rather than a guess: a template's `default` then supplies what is written instead.

    Raises:
        BadValue: the address or another field cannot be stored.
    """
    values: dict[str, Any] = dict(_NOT_NULL)
    values["email"] = address(fields.get("email", ""))
    custom = custom_values(custom_fields)
    for field, raw in fields.items():
        if field == "email":
            continue
        if field == "tags":
            values["tags"] = tags(re.split(r"[,;]", raw) if isinstance(raw, str) else raw)
        elif value := text(field, raw):
            (custom if field in NAME_PARTS else values)[field] = value
    if "contact_name" not in values and (name := contact_name(custom)):
        values["contact_name"] = name
    if custom:
        values["custom_fields"] = custom
    return values


def address(raw: str) -> str:
    """The address to store.

    Raises:
        BadValue: SES could not send to it.
    """
    if _UNSTORABLE.search(raw):
        raise _unstorable("email", raw)
    try:
        return normalized_address(raw)
    except InvalidAddress as error:
        code = "invalid_email" if raw.strip() else "missing_email"
        raise BadValue("email", code, str(error)) from error


def text(field: str, raw: str) -> str:
    """The text to store: without blanks around it and, but for address and notes, on one line.

    Raises:
        BadValue: too long, or with control characters.
    """
    if _UNSTORABLE.search(raw):
        raise _unstorable(field, raw)
    value = raw.strip() if field in _SEVERAL_LINES else " ".join(raw.split())
    if len(value) > (limit := MAX_LENGTH[field]):
        raise _too_long(field, len(value), limit)
    return value


def custom_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The custom fields to store; numbers and booleans pass, and what has no value is left out.

    Raises:
        BadValue: too long, or with control characters.
    """
    values = {}
    for name, value in raw.items():
        if isinstance(value, str):
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
    found = list(dict.fromkeys(tag for each in raw if (tag := " ".join(each.replace('"', " ").split()))))
    for tag in found:
        if _UNSTORABLE.search(tag):
            raise _unstorable("tags", tag)
        if len(tag) > MAX_TAG:
            raise _too_long("tags", len(tag), MAX_TAG)
    if len(found) > MAX_TAGS:
        raise BadValue("tags", "too_many", f"A lead has at most {MAX_TAGS} tags; these are {len(found)}.")
    return found


def contact_name(custom_fields: Mapping[str, Any]) -> str:
    """The contact name that first and last name make."""
    return " ".join(str(custom_fields[part]) for part in NAME_PARTS if custom_fields.get(part))


def _unstorable(field: str, value: str) -> BadValue:
    if "\ufffd" in value:
        message = "A character was lost before it arrived here (it is now U+FFFD). Save the file as UTF-8."
        return BadValue(field, "damaged_text", message)
    return BadValue(field, "control_character", "The text contains a control character.")


def _too_long(field: str, length: int, limit: int) -> BadValue:
    return BadValue(field, "too_long", f"The text has {length:,} characters; at most {limit:,} are possible.")
