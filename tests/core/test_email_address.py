"""Addresses are stored in one form, and only those that SES can send to."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from sendledger.core.email_address import InvalidAddress, normalized_address


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann@Example.COM \u00a0", "Ann@example.com"),
        ("\ufeffann@example.com", "ann@example.com"),
        ('"ann@example.com"', "ann@example.com"),
        ("ann@example.com;", "ann@example.com"),
        ("mailto:ann@example.com?subject=Hi", "ann@example.com"),
        ("MAILTO:ann@example.com", "ann@example.com"),
        ("Ann Lee <ann@example.com>", "ann@example.com"),
        ("<ann@example.com>", "ann@example.com"),
        ("ann+lists@mail.example.co.uk", "ann+lists@mail.example.co.uk"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("ann@müller.de", "ann@xn--mller-kva.de"),
        ("ann@xn--mller-kva.de", "ann@xn--mller-kva.de"),
        ("ann@acme.test", "ann@acme.test"),
        ("bounce@simulator.amazonses.com", "bounce@simulator.amazonses.com"),
    ],
)
def test_address_is_stored_as_ses_can_use_it(typed: str, stored: str) -> None:
    assert normalized_address(typed) == stored


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "no email address"),
        (" ", "no email address"),
        ("not-an-address", "no @-sign"),
        ("ann@", "after the @-sign"),
        ("ann@localhost", "period"),
        ("ann@printer.local", "special-use"),
        ("ann@example..com", "period"),
        ("ann lee@example.com", "invalid characters"),
        ("jörg@example.com", "before the @-sign"),
        ("a@example.com, b@example.com", "more than one"),
        ("ann@[10.0.0.1]", "IP address"),
        ("x" * 65 + "@example.com", "too long"),
        ("ann@" + "x." * 126 + "com", "too long"),
        ("ann@example.com\r\nBcc: eve@example.com", "more than one"),
    ],
)
def test_other_text_is_refused_with_a_reason(typed: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason):
        normalized_address(typed)


@given(st.from_regex(r"\A[a-zA-Z0-9_+-]{1,4}(\.[a-z+]{1,3}){0,2}@([a-zA-Z0-9-]{1,6}\.){1,3}[a-zA-Z0-9-]{1,9}\Z"))
@example("a@b.invalid")
@example("a@b.arpa")
@example("a@xn--a.com")
@example("a@ab--c.com")
@example("a@" + "x" * 64 + ".com")
@example("a" * 64 + "@" + "x" * 63 + "." + "y" * 63 + "." + "z" * 57 + ".com")
def test_short_cut_answers_as_the_library_does(typed: str) -> None:
    try:
        valid = validate_email(
            typed, check_deliverability=False, allow_smtputf8=False, strict=True, test_environment=True
        )
    except EmailNotValidError:
        with pytest.raises(InvalidAddress):
            normalized_address(typed)
    else:
        assert normalized_address(typed) == f"{valid.local_part}@{valid.ascii_domain}"


@given(st.text())
def test_any_text_is_an_address_or_refused(typed: str) -> None:
    try:
        address = normalized_address(typed)
    except InvalidAddress:
        return
    assert address.isascii()
    assert normalized_address(address) == address
