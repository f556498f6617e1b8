"""Names that other products give to a lead's fields, and our way to write them. No database.

`FNAME`, `contact.FIRSTNAME` and `firstName` are all `first_name`. Adoption and the translation of templates share this.
"""

from __future__ import annotations

import re

from sendledger.content.lead_variables import LEAD_FIELDS

_OTHER_NAMES = {
    "company": "company_name",
    "companyname": "company_name",
    "organization": "company_name",
    "organisation": "company_name",
    "organization_name": "company_name",
    "business_name": "company_name",
    "business": "company_name",
    "account_name": "company_name",
    "fname": "first_name",
    "firstname": "first_name",
    "given_name": "first_name",
    "lname": "last_name",
    "lastname": "last_name",
    "surname": "last_name",
    "family_name": "last_name",
    "name": "contact_name",
    "fullname": "contact_name",
    "full_name": "contact_name",
    "contact": "contact_name",
    "lead_name": "contact_name",
    "email_address": "email",
    "emailaddress": "email",
    "contact_email": "email",
    "title": "job_title",
    "jobtitle": "job_title",
    "position": "job_title",
    "phone_number": "phone",
    "mobile": "phone",
    "website_url": "website",
    "campaign": "campaign_name",
    "unsubscribe_link": "unsubscribe_url",
    "unsubscribelink": "unsubscribe_url",
    "unsubscribe": "unsubscribe_url",
    "unsub": "unsubscribe_url",
}
FIELDS = frozenset({*LEAD_FIELDS, "campaign_name", "unsubscribe_url"})
"""What can be referred to, besides custom fields."""

# Where the template engine would see the beginning of a tag, alone or with the tag that follows.
_LOOKS_LIKE_TAG = re.compile(r"\{(?=[{%#]|\Z)")


def snake_case(name: str) -> str:
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s.-]+", "_", separated).lower()


def field_of(key: str) -> str | None:
    """The field of a lead that a name in snake case means."""
    for known in (key, re.sub(r"^(lead|contact|company|recipient)_", "", key)):
        known = _OTHER_NAMES.get(known, known)
        if known in FIELDS:
            return known
    return None


def quoted(value: str) -> str:
    """A text in a tag. Braces are escaped too, so that it does not end the tag."""
    return "'" + re.sub(r"[\\'{}\x00-\x1f]", lambda match: f"\\x{ord(match.group()):02x}", value) + "'"


def custom_field(name: str) -> str:
    return f"custom_fields[{quoted(name)}]"


def with_default(expression: str, fallback: str) -> str:
    return f"{{{{ {expression} | default({quoted(fallback)}) }}}}"


def as_text(literal: str) -> str:
    """A text that stays as it is, whatever looks like a tag in it."""
    return _LOOKS_LIKE_TAG.sub("{{ '{' }}", literal)
