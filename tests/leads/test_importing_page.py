"""The samples of docs/importing.md become what their tables say."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from sendledger.core.vocabulary import LeadStatus
from sendledger.leads.lead_columns import read_header
from sendledger.leads.read_leads import OptedOut, read_leads

PAGE = Path(__file__).parents[2] / "docs" / "importing.md"
PRODUCTS = (
    *("HubSpot", "Apollo", "LinkedIn", "Mailchimp", "Salesforce", "Google Contacts", "Outlook", "Instantly"),
    *("Smartlead", "lemlist", "Amazon Pinpoint"),
)
_SECTION = re.compile(r"^## (.+?)\n.*?```csv\n(.*?)```\n\n((?:\|[^\n]*\n)+)", re.DOTALL | re.MULTILINE)


def sections() -> dict[str, tuple[str, str]]:
    """The sample and the table of each product."""
    return {product: (sample, table) for product, sample, table in _SECTION.findall(PAGE.read_text("utf-8"))}


def mapping(sample: str) -> str:
    """The table of a sample: what each of its columns becomes."""
    columns = read_header(next(csv.reader(io.StringIO(sample))))
    fields = {index: field for field, places in columns.fields.items() for index in places}
    refusing = {index for index, _ in columns.opt_outs}
    lines = ["| column | becomes |", "| --- | --- |"]
    for index, name in enumerate(columns.names):
        becomes = f"`{fields[index]}`" if index in fields else "a custom field"
        if index in refusing:
            becomes += "; says who must not be mailed"
        lines.append(f"| {name} | {becomes} |")
    return "\n".join(lines) + "\n"


def test_page_has_every_product() -> None:
    assert tuple(sections()) == PRODUCTS


@pytest.mark.parametrize("product", PRODUCTS)
def test_table_says_what_the_sample_becomes(product: str) -> None:
    sample, table = sections()[product]
    assert table == mapping(sample)


@pytest.mark.parametrize("product", PRODUCTS)
def test_first_row_is_imported_with_name_and_company_and_the_others_are_suppressed(product: str) -> None:
    warnings: list[object] = []
    sample, _ = sections()[product]
    ann, *others = read_leads(io.BytesIO(sample.encode()), warnings.append).rows
    assert isinstance(ann, dict), ann
    assert (ann["email"], ann["contact_name"]) == ("ann@example.com", "Ann Lee")
    assert (ann["company_name"] == "Example Ltd") is ("Example Ltd" in sample)
    assert warnings == []
    opted_out = [(isinstance(row, OptedOut), getattr(row, "address", None)) for row in others]
    assert opted_out == [(True, "bob@example.com")] * len(others)


def test_custom_fields_of_smartlead_become_ours_one_by_one() -> None:
    sample, _ = sections()["Smartlead"]
    ann = next(iter(read_leads(io.BytesIO(sample.encode()), lambda _: None).rows))
    assert isinstance(ann, dict)
    assert ann["custom_fields"]["plan"] == "Pro"
    assert ann["custom_fields"]["status"] == "COMPLETED"
    assert "custom_fields" not in ann["custom_fields"]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("lastState", "emailsNotInterested", LeadStatus.NOT_INTERESTED),
        ("emailDeliverability", "undeliverable", LeadStatus.INVALID),
        ("emailDeliverability", "risky", None),
        ("lastState", "emailsReplied", None),
    ],
)
def test_state_of_a_lead_of_lemlist_that_is_no_refusal_is_its_status(
    header: str, value: str, status: LeadStatus | None
) -> None:
    file = f"email,{header}\nann@example.com,{value}\n"
    (ann,) = read_leads(io.BytesIO(file.encode()), lambda _: None).rows
    assert isinstance(ann, dict)
    assert ann.get("status") == status
