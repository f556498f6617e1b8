"""The columns of the usual exports become fields of leads; everything else about a person is kept."""

from __future__ import annotations

import contextlib
import io
import time
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendledger.files.read_csv import RowError
from sendledger.files.read_text import UnreadableFile
from sendledger.leads.lead_columns import COLUMN_NAMES, read_header
from sendledger.leads.lead_values import MAX_LENGTH
from sendledger.leads.read_leads import read_leads


def ignore(warning: RowError) -> None:
    """Nothing is made of warnings."""


def read(content: str) -> list[dict[str, Any] | RowError]:
    return list(read_leads(io.BytesIO(content.encode()), ignore).rows)


def warnings(content: str) -> list[RowError]:
    """What was left out of the only lead of a file."""
    found: list[RowError] = []
    (row,) = read_leads(io.BytesIO(content.encode()), found.append).rows
    assert isinstance(row, dict), row
    return found


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
    "Google Contacts": (
        (
            "First Name,Middle Name,Last Name,Name Prefix,Organization Name,Organization Title,Labels,"
            "E-mail 1 - Label,E-mail 1 - Value,Phone 1 - Value,Address 1 - City,Address 1 - Country,Website 1 - Value\n"
            "Ann,,Lee,Mrs.,Acme,CTO,* myContacts ::: VIP,"
            "* Work,ann@acme.com ::: ann@home.com,+49 1,Berlin,DE,acme.com\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "company_name": "Acme",
            "job_title": "CTO",
            "phone": "+49 1",
            "city": "Berlin",
            "country": "DE",
            "website": "acme.com",
            "tags": ["* myContacts", "VIP"],
            "custom_fields": {
                "Name Prefix": "Mrs.",
                "E-mail 1 - Label": "* Work",
                "E-mail 1 - Value": "ann@acme.com ::: ann@home.com",
                "first_name": "Ann",
                "last_name": "Lee",
            },
        },
    ),
    "Outlook": (
        (
            "Title,First Name,Last Name,Company,Job Title,Business Street,Business City,Business Country/Region,"
            "Business Phone,Mobile Phone,Categories,E-mail Address,E-mail Type,E-mail 2 Address,Web Page\n"
            "Mrs.,Ann,Lee,Acme,CTO,1 Main St,Berlin,Germany,,+49 1,VIP,ann@acme.com,SMTP,ann@home.com,acme.com\n"
        ),
        {
            "email": "ann@acme.com",
            "contact_name": "Ann Lee",
            "company_name": "Acme",
            "job_title": "CTO",
            "address": "1 Main St",
            "city": "Berlin",
            "country": "Germany",
            "phone": "+49 1",
            "website": "acme.com",
            "tags": ["VIP"],
            "custom_fields": {
                "Title": "Mrs.",
                "E-mail Type": "SMTP",
                "E-mail 2 Address": "ann@home.com",
                "first_name": "Ann",
                "last_name": "Lee",
            },
        },
    ),
}

# The names under which Outlook exports an address, a first and a last name and a company.
OUTLOOK = {
    "German": "E-Mail-Adresse,Vorname,Nachname,Firma,Position",
    "German with Name": "E-Mail,Vorname,Name,Unternehmen,Position",
    "French": "Adresse de messagerie,Prénom,Nom,Société,Fonction",
    "Spanish": "Dirección de correo electrónico,Nombre,Apellidos,Compañía,Puesto",
    "Italian": "Indirizzo posta elettronica,Nome,Cognome,Società,Posizione",
    "Portuguese": "Endereço de Email,Nome,Sobrenome,Empresa,Cargo",
    "Dutch": "E-mailadres,Voornaam,Achternaam,Bedrijf,Functie",
    "Polish": "Adres e-mail,Imię,Nazwisko,Firma,Stanowisko",
    "Swedish": "E-postadress,Förnamn,Efternamn,Företag,Befattning",
    "Norwegian": "E-postadresse,Fornavn,Etternavn,Firma,Stilling",
    "Finnish": "Sähköpostiosoite,Etunimi,Sukunimi,Yritys,Tehtävänimike",
    "Czech": "E-mailová adresa,Jméno,Příjmení,Společnost,Funkce",
    "Turkish": "E-posta Adresi,Adı,Soyadı,Şirket,İş Unvanı",
    "Russian": "Адрес электронной почты,Имя,Фамилия,Организация,Должность",
    "Japanese": "電子メール アドレス,名,姓,会社名,役職",
    "Chinese": "电子邮件地址,名,姓,单位,职务",
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("header", OUTLOOK.values(), ids=OUTLOOK.keys())
def test_columns_of_outlook_are_recognised_in_its_languages(header: str, form: Literal["NFC", "NFD"]) -> None:
    found = lead(f"{unicodedata.normalize(form, header)}\nann@acme.com,Ann,Lee,Acme,CTO\n")
    assert found == {
        "email": "ann@acme.com",
        "contact_name": "Ann Lee",
        "company_name": "Acme",
        "job_title": "CTO",
        "custom_fields": {"first_name": "Ann", "last_name": "Lee"},
    }


@pytest.mark.parametrize("name", ["Nom", "Nome", "Nombre", "Name", "Naam"])
def test_name_alone_is_the_whole_name(name: str) -> None:
    assert lead(f"Email,{name}\nann@acme.com,Ann Lee\n")["contact_name"] == "Ann Lee"


def test_of_columns_with_one_name_the_first_with_a_value_is_the_field() -> None:
    header = "Email,Phone,Phone,E-mail,Plan,Plan\n"
    assert lead(f"{header}ann@acme.com,1,2,eve@acme.com,a,b\n") == {
        "email": "ann@acme.com",
        "phone": "1",
        "custom_fields": {"Phone (2)": "2", "E-mail": "eve@acme.com", "Plan": "a", "Plan (2)": "b"},
    }
    assert lead(f"{header},,2,eve@acme.com,,\n") == {"email": "eve@acme.com", "phone": "2"}


@pytest.mark.parametrize("value", ["n/a", "-", "none", "ann at acme", "#N/A"])
def test_valid_address_counts_among_invalid_ones(value: str) -> None:
    found = lead(f"Email,Work Email\n{value},ann@acme.com\n")
    assert (found["email"], found["custom_fields"]) == ("ann@acme.com", {"Email": value})


@pytest.mark.parametrize(
    "mark", ["\u200e", "\u200f", "\u202a", "\u202c", "\u2066", "\u2069", "\ufeff", "\u00ad", "\u200b"]
)
def test_invisible_marks_around_values_are_removed(mark: str) -> None:
    found = lead(f"Email,Company\n{mark}ann@acme.com{mark},{mark}Acme{mark}\n")
    assert (found["email"], found["company_name"]) == ("ann@acme.com", "Acme")


def test_control_characters_of_windows_1252_are_corrected() -> None:
    found = lead("Email,First Name,Company,Plan\nann@acme.com,Ren\x82e,O\x92Hara \x96 Sons,\x80 5\x85\n")
    assert found["custom_fields"] == {"first_name": "Ren‚e", "Plan": "€ 5…"}
    assert found["company_name"] == "O’Hara – Sons"


def test_text_that_a_spreadsheet_was_made_to_keep_is_itself() -> None:
    found = lead('Email,Phone,Plan,City\nann@acme.com,="0044","=""007""",="Köln ""Mitte"""\n')
    assert (found["phone"], found["custom_fields"], found["city"]) == ("0044", {"Plan": "007"}, 'Köln "Mitte"')


@pytest.mark.parametrize("title", ["Mrs.", "Dr", "Prof. Dr.", "Herr", "Mme"])
def test_form_of_address_is_no_job_title(title: str) -> None:
    found = lead(f"Email,Title\nann@acme.com,{title}\n")
    assert found == {"email": "ann@acme.com", "custom_fields": {"Title": title}}


def test_address_in_the_name_is_no_name() -> None:
    found = lead("Email,Name\nann@acme.com,ann@acme.com\n")
    assert found == {"email": "ann@acme.com", "custom_fields": {"Name": "ann@acme.com"}}


def test_not_interested_elsewhere_is_not_interested_here() -> None:
    assert lead("Email,Lead Status\nann@acme.com,Not interested\n")["status"] == "not_interested"
    assert lead("Email,Email Status\nann@acme.com,Invalid\n")["status"] == "invalid"
    assert "status" not in lead("Email,Lead Status\nann@acme.com,Interested\n")


@pytest.mark.parametrize(
    ("cell", "custom"),
    [
        ('{""a"": 1, ""b"": true, ""c"": ""x"", ""d"": null}', {"a": 1, "b": True, "c": "x"}),
        ('{""a"": [1], ""b"": {""c"": 2}}', {"a": "[1]", "b": '{"c": 2}'}),
        ('{""a"": 1e999, ""first_name"": ""Eve""}', {"a": "Infinity"}),
        ("[1]", {"custom_fields": "[1]"}),
        ("{", {"custom_fields": "{"}),
        ("[" * 5_000, {"custom_fields": "[" * 5_000}),
    ],
)
def test_custom_fields_of_our_own_export_do_not_nest(cell: str, custom: dict[str, Any]) -> None:
    assert lead(f'id,email,status,custom_fields\n7,ann@acme.com,new,"{cell}"\n')["custom_fields"] == custom


@pytest.mark.parametrize(("content", "expected"), EXPORTS.values(), ids=EXPORTS.keys())
def test_columns_of_usual_exports_are_recognised(content: str, expected: dict[str, Any]) -> None:
    assert lead(content) == expected


def test_mailchimp_tags_and_repeated_columns_are_kept() -> None:
    found = lead(
        '"Email Address","First Name",Address,REGION,NOTES,TAGS,REGION\n'
        'ann@acme.com,Ann,"1 Main St\nBerlin",a,Met in May,"""VIP"",""Blog""",b\n'
    )
    assert found["tags"] == ["VIP", "Blog"]
    assert found["address"] == "1 Main St\nBerlin"
    assert found["notes"] == "Met in May"
    assert found["custom_fields"] == {"REGION": "a", "REGION (2)": "b", "first_name": "Ann"}


@pytest.mark.parametrize("name", ["Company Name", "company_name", "COMPANY-NAME", " CompanyName ", "company  name"])
def test_names_are_compared_without_case_blanks_and_signs(name: str) -> None:
    assert lead(f"{name},E-Mail\nAcme,ann@acme.com\n")["company_name"] == "Acme"


@pytest.mark.parametrize("field", COLUMN_NAMES)
def test_every_field_has_a_column_with_its_own_name(field: str) -> None:
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
    "too many fields": ("email,company\na@acme.com,Acme, Inc\n", ("row", "too_many_fields")),
    "broken quotation mark": ('email,company\na@acme.com,"Acme" Inc\n', ("row", "broken_quote")),
}


@pytest.mark.parametrize(("content", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_row_that_cannot_be_stored_names_field_and_reason(content: str, expected: tuple[str, str]) -> None:
    found = error(content)
    assert (found.row, found.field, found.code) == (2, *expected)
    assert found.message


LEFT_OUT: dict[str, tuple[str, tuple[str, str]]] = {
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
}


@pytest.mark.parametrize(("content", "expected"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_value_that_cannot_be_stored_is_left_out_with_a_warning(content: str, expected: tuple[str, str]) -> None:
    (found,) = warnings(content)
    assert (found.row, found.field, found.code) == (2, *expected)
    assert found.message.endswith("The lead was imported without it.")
    assert expected[0] not in lead(content)


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
def test_person_who_opted_out_elsewhere_is_not_imported(column: str, value: str) -> None:
    found = error(f"email,{column}\nann@acme.com,{value}\n")
    assert (found.field, found.code) == (column, "opted_out")


@pytest.mark.parametrize("value", ["", "NONE", "false", "No", "0"])
def test_person_who_did_not_opt_out_is_imported(value: str) -> None:
    assert lead(f"email,OptOut\nann@acme.com,{value}\n")["email"] == "ann@acme.com"


def test_good_rows_around_a_bad_one_are_read() -> None:
    found = read("email\na@acme.com\nnobody\nb@acme.com\n")
    assert [row["email"] if isinstance(row, dict) else row.row for row in found] == ["a@acme.com", 3, "b@acme.com"]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (f"Email,{'x' * 300}", "x" * 255),
        ("Email,Pl\u00adan", "Pl an"),
        ('Email,"Plan\nof May"', "Plan of May"),
        ("Email,\u200ePlan\u00a0A", "Plan A"),
        ("Email,a\x00b", "a b"),
    ],
)
def test_name_of_a_column_is_one_short_line(header: str, name: str) -> None:
    assert lead(f"{header}\nann@acme.com,x\n")["custom_fields"] == {name: "x"}


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=300)


@given(st.dictionaries(st.sampled_from(sorted({*COLUMN_NAMES, "plan"} - {"email"})), TEXT))
def test_any_text_is_stored_within_its_limits_or_an_error(values: dict[str, str]) -> None:
    cells = ['"{}"'.format(value.replace('"', '""')) for value in values.values()]
    content = f"{','.join(['email', *values])}\n{','.join(['a@acme.com', *cells])}\n"
    (found,) = list(read_leads(io.BytesIO(content.encode()), ignore).rows)
    if isinstance(found, RowError):
        assert found.field in {*values, "row"}
        return
    assert all(len(value) <= MAX_LENGTH[field] for field, value in found.items() if isinstance(value, str) and value)


MEGABYTE = 1_000_000
HOSTILE: dict[str, bytes] = {
    "ten million columns": b"email" + b",a" * 10 * MEGABYTE,
    "rows of 300,000 fields": b"email,x\n" + (b"ab," * 330_000 + b"\n") * 8,
    "NULs": b"email\n" + bytes(3 * MEGABYTE),
    "quotation marks": b"email,x\n" + b'"' * 3 * MEGABYTE,
    "marks that are never closed": b"email,x\n" + b'a,"b\n' * 700_000,
    "long fields that are never closed": b"email,x\n" + (b'a,"' + b"y" * 130_000 + b"\n") * 25,
    "blanks behind marks": b"email,x\n" + (b'"a" ,' * 190_000 + b'"b\n') * 3,
    "JSON in JSON": b'email,status,custom_fields\na@x.com,new,"' + b"[" * 120_000 + b'"\n',
    "domains of a domain": b"email\n" + (b"a@" + b"x." * 60_000 + b"\n") * 20,
    "angle brackets": b"email\n" + (b"<" * 120_000 + b"\n") * 20,
    "titles": b"email,name\n" + (b"a@x.com," + b"Dr. " * 30_000 + b"\n") * 20,
    "a status": b"email,status\n" + (b"a@x.com," + b"un" * 60_000 + b"\n") * 20,
    "tags": b"email,tags\n" + (b"a@x.com," + b"a;" * 60_000 + b"\n") * 20,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_file_takes_less_than_two_seconds(content: bytes) -> None:
    before = time.process_time()
    with contextlib.suppress(UnreadableFile):
        for _ in read_leads(io.BytesIO(content), ignore).rows:
            pass
    assert time.process_time() - before < 2


@pytest.mark.parametrize("name", ["Time Zone", "Timezone", "TIMEZONE", "time_zone", "Demographic.Timezone", "Zeitzone"])
def test_time_zone_is_recognised(name: str) -> None:
    assert lead(f"email,{name}\nann@acme.com,europe/berlin\n")["time_zone"] == "Europe/Berlin"


def test_row_with_an_unknown_time_zone_is_an_error_of_its_field_and_the_others_are_kept() -> None:
    first, second = read("email,Time Zone\nann@acme.com,Mars/Olympus\nbob@acme.com,Asia/Tokyo\n")
    assert isinstance(first, RowError)
    assert (first.row, first.field, first.code) == (2, "time_zone", "unknown_time_zone")
    assert "'Mars/Olympus'" in first.message
    assert isinstance(second, dict)
    assert second["time_zone"] == "Asia/Tokyo"
