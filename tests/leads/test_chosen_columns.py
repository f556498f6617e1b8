"""Columns whose meaning was chosen, in place of the one that is recognised."""

from __future__ import annotations

import io
from typing import Any

import pytest

from sendledger.core.vocabulary import ColumnUse
from sendledger.files.read_csv import RowError
from sendledger.files.read_text import UnreadableFile
from sendledger.leads.lead_columns import COLUMN_NAMES
from sendledger.leads.read_leads import LeadFile, columns_of, read_leads


def read(content: str, chosen: dict[str, str]) -> tuple[LeadFile, list[dict[str, Any] | RowError]]:
    file = read_leads(io.BytesIO(content.encode()), lambda _: None, None, chosen)
    return file, list(file.rows)


def test_every_field_that_is_recognised_can_be_chosen() -> None:
    assert {*COLUMN_NAMES, ColumnUse.CUSTOM_FIELDS, ColumnUse.IGNORED} == set(ColumnUse)


def test_chosen_column_is_the_field_before_all_that_are_recognised() -> None:
    _, (lead,) = read("Email,Company,Holding\nann@example.com,Acme,Acme Group\n", {"Holding": "company_name"})
    assert isinstance(lead, dict)
    assert (lead["company_name"], lead["custom_fields"]) == ("Acme Group", {"Company": "Acme"})


def test_recognised_column_is_kept_as_a_custom_field_or_left_out() -> None:
    content = "Email,City,Country\nann@example.com,Berlin,Germany\n"
    _, (lead,) = read(content, {"City": "custom_fields", "Country": "ignored"})
    assert isinstance(lead, dict)
    assert {"city", "country"}.isdisjoint(lead)
    assert lead["custom_fields"] == {"City": "Berlin"}


def test_column_of_any_name_can_be_the_address() -> None:
    _, (lead,) = read("Kanal,Firma\nann@example.com,Acme\n", {"Kanal": "email"})
    assert isinstance(lead, dict)
    assert lead["email"] == "ann@example.com"


def test_file_without_an_address_is_refused_as_ever() -> None:
    with pytest.raises(UnreadableFile):
        read("Email,Company\nann@example.com,Acme\n", {"Email": "custom_fields"})


def test_one_of_two_columns_of_a_name_is_chosen() -> None:
    _, (lead,) = read("Email,Info,Info\nann@example.com,a,b\n", {"Info (2)": "notes"})
    assert isinstance(lead, dict)
    assert (lead["notes"], lead["custom_fields"]) == ("b", {"Info": "a"})


@pytest.mark.parametrize("use", ["custom_fields", "ignored", "notes"])
def test_who_must_not_be_mailed_is_not_whatever_is_chosen(use: str) -> None:
    _, (row,) = read("Email,Unsubscribed\nann@example.com,yes\n", {"Unsubscribed": use})
    assert isinstance(row, RowError)
    assert row.code == "opted_out"


def test_columns_are_told_with_their_first_values() -> None:
    rows = "".join(f"p{number}@example.com,,Plan {number}\n" for number in range(5))
    file, _ = read("Email,City,Plan\n" + rows, {"Plan": "tags"})
    told = [(column.name, column.field, column.samples) for column in columns_of(file)]
    assert told == [
        ("Email", "email", ["p0@example.com", "p1@example.com", "p2@example.com"]),
        ("City", "city", []),
        ("Plan", "tags", ["Plan 0", "Plan 1", "Plan 2"]),
    ]
