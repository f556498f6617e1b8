"""First and last names are taken from what is clear, and never guessed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.core.person_names import is_title, parse_name, person_name

NAMES: dict[tuple[str, str, str], tuple[str, str]] = {
    # first name, last name, contact name
    ("Ann", "Lee", ""): ("Ann", "Lee"),
    ("Ann", "", "Dr Ray"): ("Ann", "Ray"),
    ("", "Smith", ""): ("", "Smith"),
    ("", "Smith", "Smith"): ("", "Smith"),
    ("", "Smith", "Jane Smith"): ("Jane", "Smith"),
    ("", "Smith", "Smith Jane"): ("Jane", "Smith"),
    ("", "", "Smith"): ("", ""),
    ("", "", "Ann Lee"): ("Ann", "Lee"),
    ("", "", " Ann  van Lee "): ("Ann", "van Lee"),
    ("", "", "Smith, Jane"): ("Jane", "Smith"),
    ("", "", "Smith,Jane A."): ("Jane", "Smith"),
    ("", "", "van der Berg, Jan"): ("Jan", "van der Berg"),
    ("", "", "Smith, Dr. Jane"): ("Jane", "Smith"),
    ("", "", "Jane Smith, PhD, MBA"): ("Jane", "Smith"),
    ("", "", "Smith, Jane, MD"): ("Jane", "Smith"),
    ("", "", "Smith,"): ("", ""),
    ("", "", "Smith, Dr."): ("", "Smith"),
    ("", "", "Dr. Smith"): ("", "Smith"),
    ("", "", "Mr. and Mrs. Smith"): ("", ""),
    ("", "", "Prof. Dr. Hans Meier"): ("Hans", "Meier"),
    ("", "", "Frau Meier"): ("", "Meier"),
    ("", "", "Mrs."): ("", ""),
    ("Dr.", "Smith", "Dr. Smith"): ("", "Smith"),
    ("Dr. Jane", "Smith", ""): ("Jane", "Smith"),
    ("Mary Ann", "Lee", ""): ("Mary Ann", "Lee"),
    ("Smith, Jane", "", ""): ("Jane", ""),
    ("jane@example.com", "", "jane@example.com"): ("", ""),
    ("n/a", "n/a", "N/A"): ("", ""),
    ("J.", "Smith", "J. Smith"): ("", "Smith"),
    ("", "", "Acme, Inc."): ("", ""),
    ("", "", "Acme GmbH"): ("", ""),
    ("", "", "Sales Team"): ("", ""),
    ("", "", "山田 太郎"): ("", ""),
    ("明", "李", ""): ("明", "李"),
    ("", "", "Zoë Ærø"): ("Zoë", "Ærø"),
    ("", "", "Jane Smith (Acme)"): ("Jane", "Smith"),
    ("", "", 'Jane "JJ" Smith'): ("Jane", "Smith"),
    ("", "", "Jane 'JJ' O'Neil [CEO]"): ("Jane", "O'Neil"),
    ("", "", "Smith, Jane (she/her)"): ("Jane", "Smith"),
    ("", "", "Jane & John Smith"): ("", ""),
    ("Jane and John", "Smith", ""): ("", "Smith"),
}


@pytest.mark.parametrize(("given_", "expected"), NAMES.items())
def test_name_has_the_parts_that_are_clear(given_: tuple[str, str, str], expected: tuple[str, str]) -> None:
    assert tuple(parse_name(*given_)) == expected


def test_own_names_of_a_lead_go_before_its_contact_name() -> None:
    lead = {"contact_name": "Bob Ray", "custom_fields": {"first_name": "Ann", "last_name": 7}}
    assert tuple(person_name(lead)) == ("Ann", "Ray")
    assert tuple(person_name({**lead, "first_name": "Eve"})) == ("Eve", "Ray")


@pytest.mark.parametrize("custom_fields", [None, [], "text", 1])
def test_whatever_an_old_application_stored_has_a_name(custom_fields: object) -> None:
    assert tuple(person_name({"contact_name": None, "custom_fields": custom_fields})) == ("", "")


@pytest.mark.parametrize(("text", "expected"), [("Mrs.", True), ("Prof. Dr.", True), ("CTO", False), ("", False)])
def test_title_is_nothing_but_forms_of_address(text: str, expected: bool) -> None:
    assert is_title(text) == expected


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_first_name_is_never_an_address_nor_the_last_name(first: str, last: str, full: str) -> None:
    found = parse_name(first, last, full)
    assert "@" not in found.first_name
    assert not found.first_name or found.first_name.casefold() != found.last_name.casefold()


@pytest.mark.parametrize("text", [", " * 50_000, "Dr. " * 25_000, "a " * 50_000, "\u200e" * 100_000, "(" * 100_000])
def test_long_names_take_no_time(text: str) -> None:
    before = time.process_time()
    parse_name(text, text, text)
    assert time.process_time() - before < 2
