"""Which leads each kind of condition matches, and how a filter is refused."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.errors import InvalidInput
from sendledger.core.tables import emails, leads, replies
from sendledger.segments import segments
from sendledger.segments.conditions import MAX_CONDITIONS, MAX_DEPTH, check_size, of_json
from sendledger.segments.matching_leads import matching
from testbed.campaigns import make_batch, make_campaign

NOW = dt.datetime.now(dt.UTC)
OLD_VALUES = {"custom_fields": ["a", "list"], "tags": None, "status": None, "industry": ""}


@pytest.fixture
def known(connection: sa.Connection) -> dict[str, uuid.UUID]:
    """Ann and Bob, Cid of whom nothing is known, Dan whom the old application has left; Eve was erased."""
    fields: dict[str, dict[str, Any]] = {
        "ann": {
            "email": "Ann@Example.com",
            "country": "Germany",
            "city": "50% off_city",
            "status": "contacted",
            "tags": ["vip", "Spring"],
            "custom_fields": {"plan": "Pro", "seats": 25, "paid": True},
            "last_contacted_at": NOW - dt.timedelta(days=10),
        },
        "bob": {
            "email": "bob@example.org",
            "country": " austria",
            "time_zone": "America/New_York",
            "tags": ["Vip"],
            "custom_fields": {"plan": "free", "seats": "7", "paid": "no"},
            "last_contacted_at": NOW - dt.timedelta(days=40),
        },
        "cid": {"email": None, "custom_fields": None},
        "dan": {**OLD_VALUES, "email": "dan@example.net"},
        "eve": {"email": "eve@example.com", "erased_at": NOW, "tags": ["vip"]},
    }
    ids = {}
    for name, values in fields.items():
        row = {"company_name": name, "industry": "spa", "source": "test", **values}
        ids[name] = connection.execute(sa.insert(leads).values(row).returning(leads.c.id)).scalar_one()
    return ids


def names(connection: sa.Connection, filter_: dict[str, Any]) -> str:
    """The first letters of those that match."""
    found = connection.scalars(sa.select(leads.c.company_name).where(matching(of_json(filter_))))
    return "".join(sorted(name[0] for name in found))


def field(name: str, operator: str, *values: str) -> dict[str, Any]:
    return {"kind": "field", "field": name, "operator": operator, "values": list(values)}


def custom(name: str, operator: str, *values: object) -> dict[str, Any]:
    return {"kind": "custom_field", "name": name, "operator": operator, "values": list(values)}


VIP = {"kind": "tag", "tag": "vip"}
CASES: list[tuple[dict[str, Any], str]] = [
    (field("country", "is", "germany"), "a"),
    (field("country", "is", "Germany", " austria"), "ab"),
    (field("country", "is_empty"), "cd"),
    (field("industry", "is_empty"), "d"),
    (field("email", "contains", "@EXAMPLE."), "abd"),
    (field("email", "starts_with", "b", "D"), "bd"),
    (field("city", "contains", "%"), "a"),
    (field("city", "contains", "f_c"), "a"),
    (field("city", "starts_with", "5_"), ""),
    (custom("plan", "is", "pro", "FREE"), "ab"),
    (custom("plan", "contains", "r"), "ab"),
    (custom("plan", "is_empty"), "cd"),
    (custom("seats", "is", 7), "b"),
    (custom("seats", "is", 25.0), "a"),
    (custom("seats", "is", "25"), "a"),
    (custom("seats", "is", "\u0662\u0665"), ""),
    (custom("seats", "at_least", 7.5), "a"),
    (custom("seats", "at_most", "25"), "ab"),
    (custom("plan", "at_least", 0), ""),
    (custom("paid", "is", True), "a"),
    (custom("paid", "is", False), ""),
    (VIP, "a"),
    ({"kind": "not", "condition": VIP}, "bcd"),
    ({"kind": "status", "values": ["contacted", "invalid"]}, "a"),
    ({"kind": "not", "condition": {"kind": "status", "values": ["contacted"]}}, "bcd"),
    ({"kind": "time_zone", "values": ["europe/berlin"]}, "a"),
    ({"kind": "time_zone", "values": ["Europe/Vienna"]}, ""),
    ({"kind": "time_zone", "values": ["America/New_York"]}, "b"),
    ({"kind": "last_contacted", "after": (NOW - dt.timedelta(days=20)).isoformat()}, "a"),
    ({"kind": "last_contacted", "before": (NOW - dt.timedelta(days=20)).isoformat()}, "b"),
    (
        {
            "kind": "last_contacted",
            "after": (NOW - dt.timedelta(days=50)).isoformat(),
            "before": NOW.isoformat(),
        },
        "ab",
    ),
    ({"kind": "not_contacted_for", "days": 11}, "bcd"),
    ({"kind": "not", "condition": {"kind": "not_contacted_for", "days": 41}}, "ab"),
    ({"kind": "and", "conditions": [field("country", "is_empty"), custom("plan", "is_empty")]}, "cd"),
    ({"kind": "or", "conditions": [VIP, {"kind": "not", "condition": field("email", "contains", "b")}]}, "acd"),
]


@pytest.mark.parametrize(("filter_", "expected"), CASES)
def test_condition_matches_these_leads(
    connection: sa.Connection, known: dict[str, uuid.UUID], filter_: dict[str, Any], expected: str
) -> None:
    assert names(connection, filter_) == expected
    opposite = {"kind": "not", "condition": filter_}
    assert names(connection, opposite) == "".join(sorted(set("abcd") - set(expected)))


@pytest.mark.parametrize(
    ("stored", "given"),
    [("\u0130stanbul", "\u0130STANBUL"), ("\u0398\u0397\u0392\u0391\u03a3", "\u0398\u0397\u0392\u0391\u03a3")],
    ids=["Turkish", "Greek"],
)
def test_case_does_not_matter_in_other_alphabets(
    connection: sa.Connection, known: dict[str, uuid.UUID], stored: str, given: str
) -> None:
    make_batch(connection, ["x@example.com"], company_name="x", city=stored, custom_fields={"home": stored})
    for filter_ in (field("city", "is", given), custom("home", "is", given), field("city", "contains", given)):
        assert names(connection, filter_) == "x"


def test_batch_matches_its_leads(connection: sa.Connection, known: dict[str, uuid.UUID]) -> None:
    batch_id = make_batch(connection, ["x@example.com"], company_name="x")
    assert names(connection, {"kind": "batch", "batch_id": str(batch_id)}) == "x"


def test_contact_with_a_campaign_is_that_campaigns_only(connection: sa.Connection, known: dict[str, uuid.UUID]) -> None:
    first, other = (make_campaign(connection, 0, email_template_id=None) for _ in range(2))
    email = {"subject": "s", "body_text": "b"}
    sent: list[dict[str, Any]] = [
        {"lead_id": known["ann"], "campaign_id": first, "opened_at": NOW, "clicked_at": None},
        {"lead_id": known["bob"], "campaign_id": first, "opened_at": NOW, "clicked_at": NOW},
        {"lead_id": known["dan"], "campaign_id": other, "opened_at": NOW, "clicked_at": NOW},
    ]
    connection.execute(sa.insert(emails), [email | each for each in sent])
    for campaign_id in (first, other):
        connection.execute(
            sa.text("""
                INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
                VALUES (:id, 1, interval '0', 's', 'b')
            """),
            {"id": campaign_id},
        )
    for name, campaign_id, status in (("ann", first, "sent"), ("bob", first, "pending"), ("dan", other, "sent")):
        connection.execute(
            sa.text("""
                INSERT INTO scheduled_emails
                    (campaign_id, lead_id, workflow_step_number, scheduled_for, status, sent_at)
                VALUES (:campaign, :lead, 1, now(), :status, CASE WHEN :status = 'sent' THEN now() END)
            """).bindparams(sa.bindparam("status", type_=sa.Text)),
            {"campaign": campaign_id, "lead": known[name], "status": status},
        )
    for name, campaign_id, automatic in (("ann", first, "subject"), ("bob", first, None), ("dan", other, None)):
        reply = {"message_id": name, "source": "api", "from_address": "x", "subject": "s", "body_text": "b"}
        matched = {"matched_by": "address", "lead_id": known[name], "campaign_id": campaign_id, "automatic": automatic}
        connection.execute(sa.insert(replies).values(reply | matched))
    found = {
        contact: names(connection, {"kind": "campaign", "campaign_id": str(first), "contact": contact})
        for contact in ("received", "opened", "clicked", "replied")
    }
    assert found == {"received": "a", "opened": "ab", "clicked": "b", "replied": "b"}


def test_values_are_bound_and_never_part_of_the_sql(connection: sa.Connection, known: dict[str, uuid.UUID]) -> None:
    hostile = "'; DROP TABLE leads; --"
    tag = {"kind": "tag", "tag": hostile}
    for filter_ in (field("city", "is", hostile), custom(hostile, "contains", hostile), tag):
        assert hostile not in str(matching(of_json(filter_)))
        assert names(connection, filter_) == ""


def nested(levels: int) -> dict[str, Any]:
    filter_: dict[str, Any] = VIP
    for _ in range(levels):
        filter_ = {"kind": "not", "condition": filter_}
    return filter_


def test_filter_is_bounded_in_depth_and_size() -> None:
    check_size(of_json(nested(MAX_DEPTH)))
    with pytest.raises(InvalidInput) as refused:
        check_size(of_json(nested(MAX_DEPTH + 1)))
    assert "levels" in refused.value.errors[0].message
    many = {"kind": "or", "conditions": [VIP] * (MAX_CONDITIONS - 1)}
    check_size(of_json(many))
    with pytest.raises(InvalidInput) as refused:
        check_size(of_json({"kind": "and", "conditions": [many, VIP]}))
    assert f"at most {MAX_CONDITIONS} conditions" in refused.value.errors[0].message


def test_what_is_stored_means_the_same(connection: sa.Connection, known: dict[str, uuid.UUID]) -> None:
    for filter_, expected in CASES:
        stored = segments.create(connection, "s", of_json(filter_), "ann")
        assert segments.count(connection, segments.condition_of(connection, stored["id"])) == len(expected)
