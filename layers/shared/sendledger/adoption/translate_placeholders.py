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

from sendledger.content.lead_variables import LEAD_FIELDS

_OTHER_NAMES = {
    "company": "company_name",
    "business_name": "company_name",
    "business": "company_name",
    "name": "contact_name",
    "full_name": "contact_name",
    "contact": "contact_name",
    "lead_name": "contact_name",
    "email_address": "email",
    "contact_email": "email",
    "title": "job_title",
    "position": "job_title",
    "phone_number": "phone",
    "website_url": "website",
    "campaign": "campaign_name",
    "unsubscribe_link": "unsubscribe_url",
    "unsubscribe": "unsubscribe_url",
}
_FIELDS = {*LEAD_FIELDS, "campaign_name", "unsubscribe_url"}

# {{{ name }}}, {{ name }}, and {name} if the name is known.
_PLACEHOLDER = re.compile(r"\{\{\{([^{}]*)\}\}\}|\{\{([^{}]*)\}\}|\{([A-Za-z][A-Za-z0-9_]*)\}")
_REFERENCE = re.compile(r"\{\{?\s*([A-Za-z][A-Za-z0-9_.-]*)\s*\}?\}")
# Texts that are in our syntax already.
_OURS = re.compile(r"(?<![a-z_])([a-z_]++)\s*+\|\s*default\('(?:[^'\\{}]|\\.)*'\)")
# Where the template engine would see the beginning of a tag, alone or with the tag that follows.
_LOOKS_LIKE_TAG = re.compile(r"\{(?=[{%#]|\Z)")


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
        parts += [_as_text(text[end : match.start()]), tag]
        end = match.end()
    return "".join([*parts, _as_text(text[end:])])


def _clean(name: str) -> str:
    """Without what an HTML editor may have put between the braces."""
    return html.unescape(name).replace("\u00a0", " ").strip()


def _braceless(key: str) -> str:
    return _snake_case(key.strip().strip("{}"))


def _snake_case(name: str) -> str:
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s.-]+", "_", separated).lower()


def _as_text(literal: str) -> str:
    return _LOOKS_LIKE_TAG.sub("{{ '{' }}", literal)


def _tag(name: str, vocabulary: Vocabulary) -> str | None:
    if (ours := _OURS.fullmatch(name)) and ours.group(1) in _FIELDS:
        return f"{{{{ {name} }}}}"
    key = _snake_case(name)
    variable = vocabulary.variables.get(key)
    field = _field(key)
    if field is None and variable is not None and (reference := _REFERENCE.fullmatch(variable.value)):
        field = _field(_snake_case(reference.group(1)))
    if field is not None:
        return _with_default(field, variable.default if variable is not None else "")
    stored = next((stored for stored in sorted(vocabulary.custom_fields) if _snake_case(stored) == key), None)
    if variable is None and stored is None:
        return None
    constant = variable.value if variable is not None and not _REFERENCE.fullmatch(variable.value) else ""
    fallback = constant or (variable.default if variable is not None else "")
    return _with_default(f"custom_fields[{_quoted(stored or name)}]", fallback)


def _field(key: str) -> str | None:
    for known in (key, re.sub(r"^(lead|contact|company|recipient)_", "", key)):
        known = _OTHER_NAMES.get(known, known)
        if known in _FIELDS:
            return known
    return None


def _with_default(expression: str, fallback: str) -> str:
    return f"{{{{ {expression} | default({_quoted(fallback)}) }}}}"


def _quoted(value: str) -> str:
    # Braces too, so that a text does not end a tag.
    return "'" + re.sub(r"[\\'{}\x00-\x1f]", lambda match: f"\\x{ord(match.group()):02x}", value) + "'"
