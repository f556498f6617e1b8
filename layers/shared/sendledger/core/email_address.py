"""The one form in which addresses are stored. Any input goes in, an address that SES can send to comes out."""

from __future__ import annotations

import re

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

_ORDINARY = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@"
    r"(?:(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
"""Addresses that need no closer look; a test compares the answer with email-validator's, which takes fifty times as
long, and an import of a million rows as many seconds."""

_RESERVED = tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES if name != "test")
_IN_ANGLE_BRACKETS = re.compile(r"[^<>]*<([^<>]*)>")
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# The look-behind makes the pattern try each run of characters once. Without it, a long run takes quadratic time.
_IN_TEXT = re.compile(r"(?<![^\s<>@,;:/()\"'])[^\s<>@,;:/()\"']+@[^\s<>@,;:/()\"']+")
_AROUND = " \t\r\n\u00a0\"',;"


class InvalidAddress(ValueError):
    """This is not an address that SES can send to; the text says why."""


def normalized_address(value: str) -> str:
    """The address in `value`, as it is stored and sent to.

    What spreadsheets and address books put around it is removed: blanks, quotation marks, ``mailto:``, the name in
    ``Name <address>``, and invisible characters, such as marks of the writing direction. The domain is in lower case
    and in its ASCII form (``müller.de`` is ``xn--mller-kva.de``); the local part is kept as it is, and must be ASCII
    because SES takes nothing else. DNS is not asked. Domains under ``.test`` are valid, for trials.
    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Destination.html

    Raises:
        InvalidAddress: empty, several addresses, or not an address.
    """
    address = (value if value.isascii() else _INVISIBLE.sub("", value)).strip(_AROUND)
    if bracketed := _IN_ANGLE_BRACKETS.fullmatch(address):
        address = bracketed.group(1).strip(_AROUND)
    if address[:7].lower() == "mailto:":
        address = address[7:].partition("?")[0].strip(_AROUND)
    if not address:
        raise InvalidAddress("There is no email address.")
    local_part, _, domain = address.partition("@")
    if len(local_part) <= 64 and len(address) <= 254 and _ORDINARY.fullmatch(address):
        domain = domain.lower()
        if not domain.endswith(_RESERVED) and all(len(label) <= 63 for label in domain.split(".")):
            return f"{local_part}@{domain}"
    if address.count("@") > 1 and re.search(r"[\s,;]", address):
        raise InvalidAddress("There is more than one email address.")
    if "@" not in address:
        raise InvalidAddress("This is not an email address: it has no @-sign.")
    try:
        valid = validate_email(
            address, check_deliverability=False, allow_smtputf8=False, strict=True, test_environment=True
        )
    except EmailNotValidError as error:
        raise InvalidAddress(str(error)) from error
    return f"{valid.local_part}@{valid.ascii_domain}"


def without_addresses(text: str) -> str:
    """The text with `(address)` in place of each address, for what is kept longer than the person it is about."""
    return _IN_TEXT.sub("(address)", text)
