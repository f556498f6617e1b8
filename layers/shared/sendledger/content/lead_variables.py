"""What a template can refer to: a lead's fields in, variables of bounded size out. Reads and writes no table.

Lead data is not trusted. Each value that a template may use is checked here, so that the size of texts, lists and
objects is limited for all filters, comparisons and loops. A value beyond the limits fails the email only if the
template uses it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sendledger.content.template_filters import MAX_ENTRIES, MAX_VALUE, MAX_VALUES, TooLarge
from sendledger.core.person_names import person_name

LEAD_FIELDS = (
    "company_name",
    "contact_name",
    "first_name",
    "last_name",
    "email",
    "job_title",
    "industry",
    "city",
    "country",
    "website",
    "phone",
)

VARIABLES = (*LEAD_FIELDS, "campaign_name", "unsubscribe_url", "custom_fields")
"""All names that a template knows; the lead's own fields are in `custom_fields`."""

MAX_DEPTH = 5
"""Levels of nested lists and objects."""

MAX_INTEGER = 10**100

SAMPLE_UNSUBSCRIBE_URL = "https://mail.example.com/u/AQEBAAAAAAAAMDk5ZjM2YzI4LTQ1ZDAtNDdiNC1hM2Y3LWQ0"
"""A link for previews."""


class Fields(dict[str, Any]):
    """An object of the lead's custom fields, which knows its own name for messages: `custom_fields.address`."""

    __slots__ = ("path",)

    def __init__(self, path: str, values: Mapping[str, Any] = {}) -> None:
        super().__init__(values)
        self.path = path


def lead_variables(
    lead: Mapping[str, Any], campaign_name: str, unsubscribe_url: str | None = SAMPLE_UNSUBSCRIBE_URL
) -> dict[str, Any]:
    """The lead's fields that have a value, `custom_fields`, `campaign_name` and `unsubscribe_url`.

    A field without a value is left out, so that it is undefined and `default` supplies a fallback.
    """
    custom = lead.get("custom_fields")
    custom_fields = _bounded_fields(custom) if isinstance(custom, dict) else Fields("custom_fields")
    known = {
        **{name: lead.get(name) for name in LEAD_FIELDS},
        **person_name(lead)._asdict(),
        "campaign_name": campaign_name,
        "unsubscribe_url": unsubscribe_url,
    }
    variables = {
        name: value if len(value) <= MAX_VALUE else _too_long(name, value)
        for name, value in known.items()
        if value is not None and value != ""
    }
    variables["custom_fields"] = custom_fields
    return variables


def _bounded_fields(custom: Mapping[str, Any]) -> Fields:
    fields = Fields("custom_fields")
    count: Iterator[int] | None = None
    for name, value in custom.items():
        if type(value) is str:
            if value:
                fields[name] = value if len(value) <= MAX_VALUE else _too_long(f"custom_fields.{name}", value)
        elif value is not None:
            count = count or itertools.count(1)
            fields[name] = _bounded(value, f"custom_fields.{name}", 1, count)
    return fields


def _bounded(value: Any, path: str, depth: int, count: Iterator[int]) -> Any:
    """The value, or its substitute. `count` counts the values of this lead."""
    if next(count) > MAX_VALUES:
        return TooLarge(f"The lead's lists and objects have more than {MAX_VALUES:,} values in all, with {path}.")
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else _too_long(path, value)
    if isinstance(value, int):
        return value if -MAX_INTEGER < value < MAX_INTEGER else TooLarge(f"{path} has too many digits.")
    if isinstance(value, (list, dict)) and depth > MAX_DEPTH:
        return TooLarge(f"{path} is nested more than {MAX_DEPTH} times.")
    if isinstance(value, list):
        if len(value) > MAX_ENTRIES:
            return TooLarge(f"{path} has {len(value):,} entries; a template can use at most {MAX_ENTRIES}.")
        return [_bounded(entry, f"{path}[{number}]", depth + 1, count) for number, entry in enumerate(value)]
    if isinstance(value, dict):
        fields = Fields(path)
        for name, entry in itertools.islice(value.items(), MAX_VALUES):
            if entry is not None and entry != "":
                fields[name] = _bounded(entry, f"{path}.{name}", depth + 1, count)
        return fields
    return value


def _too_long(path: str, value: str) -> TooLarge:
    return TooLarge(f"{path} has {len(value):,} characters; a template can use at most {MAX_VALUE:,}.")
