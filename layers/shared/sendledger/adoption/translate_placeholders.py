"""The old application's placeholders, turned into ours: `{{companyName}}` → `{{ company_name | default('') }}`.

A text and the custom variables of its database go in. A template of ours and the unknown placeholders come out. A lead
without a value gets an empty string or the variable's default, as before, instead of no email. Text that looks like our
template syntax (`{% … %}`) stays text. Reads `custom_variables` and `leads`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from sendledger.content.placeholder_names import (
    FIELDS,
    as_text,
    custom_field,
    field_of,
    snake_case,
    with_default,
)

# {{{ name }}}, {{ name }}, and {name} if the name is known.
_PLACEHOLDER = re.compile(r"\{\{\{([^{}]*)\}\}\}|\{\{([^{}]*)\}\}|\{([A-Za-z][A-Za-z0-9_]*)\}")
_REFERENCE = re.compile(r"\{\{?\s*([A-Za-z][A-Za-z0-9_.-]*)\s*\}?\}")
# Texts that are in our syntax already.
_OURS = re.compile(r"(?<![a-z_])([a-z_]++)\s*+\|\s*default\('(?:[^'\\{}]|\\.)*'\)")


@dataclass(frozen=True)
class CustomVariable:
    """A row of `custom_variables`; `value` is a constant, or refers to a lead's field as ``{{company_name}}``."""

    value: str
    default: str


@dataclass(frozen=True)
class Vocabulary:
    """Names of placeholders besides the fields of a lead."""

    variables: Mapping[str, CustomVariable]
    """By key."""
    custom_fields: frozenset[str]
    """Keys that occur in `leads.custom_fields`."""


def read_vocabulary(connection: sa.Connection) -> Vocabulary:
    """What this database can fill in; reads `leads` once."""
    variables = connection.execute(
        sa.text("SELECT key, value, default_value FROM custom_variables WHERE is_active IS NOT FALSE ORDER BY key")
    )
    keys = connection.scalars(
        sa.text("""
            SELECT DISTINCT key FROM leads
            CROSS JOIN LATERAL jsonb_object_keys(
                CASE jsonb_typeof(custom_fields) WHEN 'object' THEN custom_fields ELSE '{}' END) AS keys (key)
        """)
    )
    return Vocabulary(
        {_braceless(key): CustomVariable(value.strip(), (default or "").strip()) for key, value, default in variables},
        frozenset(keys),
    )


def translate(text: str, vocabulary: Vocabulary, untranslatable: Callable[[str], None]) -> str:
    """The text as a template of ours. `untranslatable` is called with each unknown placeholder."""
    parts: list[str] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        triple, double, single = match.groups()
        name = single if single is not None else _clean(triple if triple is not None else double)
        tag = _tag(name, vocabulary)
        if tag is None:
            if single is not None or not name:
                continue  # braces of a style sheet, or empty braces, are text
            untranslatable(name)
            continue
        parts += [as_text(text[end : match.start()]), tag]
        end = match.end()
    return "".join([*parts, as_text(text[end:])])


def _clean(name: str) -> str:
    """Without what an HTML editor may have put between the braces."""
    return html.unescape(name).replace("\u00a0", " ").strip()


def _braceless(key: str) -> str:
    return snake_case(key.strip().strip("{}"))


def _tag(name: str, vocabulary: Vocabulary) -> str | None:
    if (ours := _OURS.fullmatch(name)) and ours.group(1) in FIELDS:
        return f"{{{{ {name} }}}}"
    key = snake_case(name)
    variable = vocabulary.variables.get(key)
    field = field_of(key)
    if field is None and variable is not None and (reference := _REFERENCE.fullmatch(variable.value)):
        field = field_of(snake_case(reference.group(1)))
    if field is not None:
        return with_default(field, variable.default if variable is not None else "")
    stored = next((stored for stored in sorted(vocabulary.custom_fields) if snake_case(stored) == key), None)
    if variable is None and stored is None:
        return None
    constant = variable.value if variable is not None and not _REFERENCE.fullmatch(variable.value) else ""
    fallback = constant or (variable.default if variable is not None else "")
    return with_default(custom_field(stored or name), fallback)
