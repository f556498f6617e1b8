"""The columns of the usual exports become fields of leads; everything else about a person is kept."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.files.read_csv import RowError, UnreadableFile
from sendledger.leads.lead_columns import COLUMN_NAMES, read_header
from sendledger.leads.lead_values import MAX_LENGTH
from sendledger.leads.read_leads import read_leads


def read(content: str) -> list[dict[str, Any] | RowError]:
    return list(read_leads(io.BytesIO(content.encode())).rows)


def lead(content: str) -> dict[str, Any]:
    """The only lead of a file, without the required columns that have no value."""
    (found,) = read(content)
    assert isinstance(found, dict), found
    return {column: value for column, value in found.items() if value != ""}


def error(content: str) -> RowError:
    (found,) = read(content)
    assert isinstance(found, RowError), found
    return found


EXPORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "only an address": ("email\nann@acme.com\n", {"email": "ann@acme.com"}),
    "HubSpot": (
        (
            "Record ID,First Name,Last Name,Email,Phone Number,Contact owner,Associated Company,Job Title,"
            "Country/Region,Website URL,Lifecycle Stage\n"
            "51,Ann,Lee,ann@acme.com,+1 555,Bob,Acme,CTO,France,https://acme.com,Lead\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "phone": "+1 555",
            "company_name": "Acme",
            "job_title": "CTO",
            "country": "France",
            "website": "https://acme.com",
            "custom_fields": {
                "Record ID": "51",
                "Contact owner": "Bob",
                "Lifecycle Stage": "Lead",
                "first_name": "Ann",
                "last_name": "Lee",
            },
        },
    ),
    "Apollo": (
        (
            "First Name,Last Name,Title,Company,Company Name for Emails,Email,Email Status,Work Direct Phone,"
            "Mobile Phone,# Employees,Industry,Person Linkedin Url,Company Linkedin Url,City,Country,Company City\n"
            "Ann,Lee,CTO,Acme GmbH,Acme,ann@acme.com,Verified,,+49 1,50,software,http://linkedin.com/in/ann,"
            "http://linkedin.com/company/acme,,Germany,Berlin\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "job_title": "CTO",
            "company_name": "Acme GmbH",
            "phone": "+49 1",
            "company_size": "50",
            "industry": "software",
            "linkedin_url": "http://linkedin.com/in/ann",
            "city": "Berlin",
            "country": "Germany",
            "custom_fields": {
                "Company Name for Emails": "Acme",
                "Email Status": "Verified",
                "Company Linkedin Url": "http://linkedin.com/company/acme",
                "first_name": "Ann",
                "last_name": "Lee",
            },
        },
    ),
    "LinkedIn": (
        (
            'Notes:\n"When exporting your connection data, you may notice …"\n\n'
            "First Name,Last Name,URL,Email Address,Company,Position,Connected On\n"
            "Ann,Lee,https://www.linkedin.com/in/ann,ann@acme.com,Acme,CTO,15 Mar 2024\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "linkedin_url": "https://www.linkedin.com/in/ann",
            "company_name": "Acme",
            "job_title": "CTO",
            "custom_fields": {"Connected On": "15 Mar 2024", "first_name": "Ann", "last_name": "Lee"},
        },
    ),
    "Pinpoint": (
        (
            "ChannelType,Address,Id,OptOut,Location.City,Location.Country,Attributes.Plan,User.UserId,"
            "User.UserAttributes.FirstName,User.UserAttributes.LastName,User.UserAttributes.Company\n"
            "EMAIL,ann@acme.com,7,NONE,Berlin,DE,Pro,u1,Ann,Lee,Acme\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "city": "Berlin",
            "country": "DE",
            "company_name": "Acme",
            "custom_fields": {
                "ChannelType": "EMAIL",
                "Id": "7",
                "OptOut": "NONE",
                "Attributes.Plan": "Pro",
                "User.UserId": "u1",
                "first_name": "Ann",
                "last_name": "Lee",
            },
        },
    ),
}


@pytest.mark.parametrize(("content", "expected"), EXPORTS.values(), ids=EXPORTS.keys())
def test_columns_of_usual_exports_are_recognised(content: str, expected: dict[str, Any]) -> None:
    assert lead(content) == expected


def test_mailchimp_tags_and_repeated_columns_are_kept() -> None:
    found = lead(
        '"Email Address","First Name",Address,UNSUB_REASON,NOTES,TAGS,UNSUB_REASON\n'
        'ann@acme.com,Ann,"1 Main St\nBerlin",a,Met in May,"""VIP"",""Blog""",b\n'
    )
    assert found["tags"] == ["VIP", "Blog"]
    assert found["address"] == "1 Main St\nBerlin"
    assert found["notes"] == "Met in May"
    assert found["custom_fields"] == {"UNSUB_REASON": "a", "UNSUB_REASON (2)": "b", "first_name": "Ann"}


@pytest.mark.parametrize("name", ["Company Name", "company_name", "COMPANY-NAME", " CompanyName ", "company  name"])
def test_names_are_compared_without_case_blanks_and_signs(name: str) -> None:
    assert lead(f"{name},E-Mail\nAcme,ann@acme.com\n")["company_name"] == "Acme"


@pytest.mark.parametrize("field", COLUMN_NAMES)
def test_every_field_has_a_column_of_its_own_name(field: str) -> None:
    assert read_header(["email", field] if field != "email" else ["email"]).fields[field]


def test_columns_without_a_name_are_kept_by_their_number() -> None:
    assert lead("email,,plan,\nann@acme.com,x,Pro,\n")["custom_fields"] == {"column 2": "x", "plan": "Pro"}


def test_empty_values_are_left_out_so_that_defaults_apply() -> None:
    assert lead("email,company,plan,city\nann@acme.com, ,  ,\n") == {"email": "ann@acme.com"}


def test_short_rows_lack_their_last_values() -> None:
    assert lead("email,company,city\nann@acme.com,Acme\n") == {"email": "ann@acme.com", "company_name": "Acme"}


def test_values_are_brought_on_one_line() -> None:
    assert lead('email,company\nann@acme.com," Acme\r\n\u00a0& Sons "\n')["company_name"] == "Acme & Sons"


def test_full_name_goes_before_its_parts() -> None:
    found = lead("email,full name,first name\nann@acme.com,Dr Ann Lee,Ann\n")
    assert (found["contact_name"], found["custom_fields"]) == ("Dr Ann Lee", {"first_name": "Ann"})


def test_required_columns_without_a_value_are_empty() -> None:
    assert read("email\nann@acme.com\n") == [
        {"company_name": "", "industry": "", "source": "", "email": "ann@acme.com"}
    ]


ERRORS: dict[str, tuple[str, tuple[str, str]]] = {
    "no address": ("email,city\n,Berlin\n", ("email", "missing_email")),
    "not an address": ("email\nann at acme\n", ("email", "invalid_email")),
    "several addresses": ("email\na@acme.com; b@acme.com\n", ("email", "invalid_email")),
    "not ASCII": ("email\njörg@acme.com\n", ("email", "invalid_email")),
    "long company": (f"email,company\na@acme.com,{'x' * 256}\n", ("company_name", "too_long")),
    "long phone": (f"email,phone\na@acme.com,{'1' * 51}\n", ("phone", "too_long")),
    "long first name": (f"email,first name\na@acme.com,{'x' * 128}\n", ("first_name", "too_long")),
    "long tag": (f"email,tags\na@acme.com,{'x' * 101}\n", ("tags", "too_long")),
    "many tags": (f"email,tags\na@acme.com,{';'.join(map(str, range(101)))}\n", ("tags", "too_many")),
    "long custom field": (f"email,Plan\na@acme.com,{'x' * 10_001}\n", ("Plan", "too_long")),
    "NUL": ("email,company,city\na@acme.com,A\x00B,Berlin\n", ("company_name", "control_character")),
    "vertical tab": ("email,company\na@acme.com,A\x0bB\n", ("company_name", "control_character")),
    "control character": ("email,Plan\na@acme.com,\x1b[1m\n", ("Plan", "control_character")),
    "lost character": ("email,city\na@acme.com,M\ufffdnchen\n", ("city", "damaged_text")),
    "too many fields": ("email,company\na@acme.com,Acme, Inc\n", ("row", "too_many_fields")),
    "broken quotation mark": ('email,company\na@acme.com,"Acme" Inc\n', ("row", "broken_quote")),
}


@pytest.mark.parametrize(("content", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_row_that_cannot_be_stored_names_field_and_reason(content: str, expected: tuple[str, str]) -> None:
    found = error(content)
    assert (found.row, found.field, found.code) == (2, *expected)
    assert found.message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("OptOut", "ALL"),
        ("Unsubscribed from all email", "true"),
        ("UNSUB_TIME", "2024-01-01 10:00:00"),
        ("Email Opt Out", "1"),
        ("Do not contact", "Yes"),
    ],
)
def test_person_who_opted_out_elsewhere_is_not_taken(column: str, value: str) -> None:
    found = error(f"email,{column}\nann@acme.com,{value}\n")
    assert (found.field, found.code) == (column, "opted_out")


@pytest.mark.parametrize("value", ["", "NONE", "false", "No", "0"])
def test_person_who_did_not_opt_out_is_taken(value: str) -> None:
    assert lead(f"email,OptOut\nann@acme.com,{value}\n")["email"] == "ann@acme.com"


def test_good_rows_around_a_bad_one_are_read() -> None:
    found = read("email\na@acme.com\nnobody\nb@acme.com\n")
    assert [row["email"] if isinstance(row, dict) else row.row for row in found] == ["a@acme.com", 3, "b@acme.com"]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Email,email", "two columns are named email"),
        ("Email,First Name,first_name", "two columns are named first_name"),
        (f"Email,{'x' * 256}", "column 2"),
        ("Email,a\x00b", "column 2"),
        ("Email,a\x07b", "column 2"),
    ],
)
def test_unusable_header_is_refused(header: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read(f"{header}\nann@acme.com,x\n")


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=300)


@given(st.dictionaries(st.sampled_from(sorted({*COLUMN_NAMES, "plan"} - {"email"})), TEXT))
def test_any_text_is_stored_within_its_limits_or_an_error(values: dict[str, str]) -> None:
    cells = ['"{}"'.format(value.replace('"', '""')) for value in values.values()]
    content = f"{','.join(['email', *values])}\n{','.join(['a@acme.com', *cells])}\n"
    (found,) = list(read_leads(io.BytesIO(content.encode())).rows)
    if isinstance(found, RowError):
        assert found.field in {*values, "row"}
        return
    assert all(len(value) <= MAX_LENGTH[field] for field, value in found.items() if isinstance(value, str) and value)
