"""Leads have one address each, and a deleted lead gets nothing more."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.content.lead_variables import lead_variables
from sendledger.core.errors import Conflict, InvalidInput, NotFound
from sendledger.core.tables import leads as leads_table
from sendledger.leads import lead_batches, leads
from testbed.campaigns import DAY, NO_DELAY, make_batch, make_campaign, rows_of


@pytest.fixture
def lead(connection: sa.Connection) -> dict[str, Any]:
    fields = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee", "company_name": "Acme"}
    return leads.create(connection, fields, {"plan": "Pro"})


def raw(connection: sa.Connection, lead_id: uuid.UUID) -> sa.RowMapping:
    return connection.execute(sa.select(leads_table).where(leads_table.c.id == lead_id)).mappings().one()


def test_lead_needs_only_an_address(connection: sa.Connection) -> None:
    lead = leads.create(connection, {"email": " Ann@Acme.COM "}, {})
    assert (lead["email"], lead["company_name"], lead["industry"], lead["status"]) == (
        "Ann@acme.com",
        None,
        None,
        "new",
    )
    assert raw(connection, lead["id"])["source"] == "api"


def test_same_address_in_other_case_is_refused_with_the_id(connection: sa.Connection, lead: dict[str, Any]) -> None:
    with pytest.raises(Conflict) as refused:
        leads.create(connection, {"email": "ANN@ACME.com"}, {})
    assert refused.value.data == {"lead_id": str(lead["id"])}


def test_names_are_as_in_templates(connection: sa.Connection) -> None:
    for fields in (
        {"contact_name": "Ann Mary Lee"},
        {"contact_name": "Ann"},
        {"first_name": "Ann Mary", "last_name": "Lee"},
        {"contact_name": "Dr Lee", "first_name": "Ann"},
        {},
    ):
        lead = leads.create(connection, {"email": f"{uuid.uuid4().hex}@acme.com", **fields}, {})
        variables = lead_variables(dict(raw(connection, lead["id"])), "")
        for name in ("first_name", "last_name", "contact_name", "company_name"):
            assert lead[name] == variables.get(name)


@pytest.mark.parametrize("custom_fields", [None, [1], "text", {}], ids=repr)
def test_whatever_an_old_application_stored_is_read(connection: sa.Connection, custom_fields: Any) -> None:
    batch_id = make_batch(connection, ["a@acme.com", None], custom_fields=custom_fields, status=None, created_at=None)
    page = leads.list_page(connection, 10, None, batch_id=batch_id)
    assert {lead["email"] for lead in page.items} == {"a@acme.com", None}
    changed = leads.update(connection, page.items[0]["id"], {"first_name": "Bob"})
    assert changed["first_name"] == "Bob"


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "first name": ({"first_name": "Eve"}, {"first_name": "Eve", "last_name": "Lee", "contact_name": "Eve Lee"}),
    "contact name": ({"contact_name": "Bob Ray"}, {"first_name": "Bob", "last_name": "Ray", "contact_name": "Bob Ray"}),
    "both": (
        {"contact_name": "Dr Ray", "first_name": "Bob"},
        {"first_name": "Bob", "last_name": "Lee", "contact_name": "Dr Ray"},
    ),
    "no last name": ({"last_name": None}, {"first_name": "Ann", "last_name": None, "contact_name": "Ann"}),
    "no names": (
        {"first_name": None, "last_name": None},
        {"first_name": None, "last_name": None, "contact_name": None},
    ),
    "company": ({"company_name": None, "city": " Berlin "}, {"company_name": None, "city": "Berlin"}),
    "custom fields": (
        {"custom_fields": {"seats": 5, "plan": None}},
        {"custom_fields": {"seats": 5}, "first_name": "Ann", "last_name": "Lee"},
    ),
    "tags": ({"tags": ["VIP", "VIP ", ""]}, {"tags": ["VIP"]}),
    "status": ({"status": "not_interested"}, {"status": "not_interested", "company_name": "Acme"}),
    "address": ({"email": "Eve@Acme.com"}, {"email": "Eve@acme.com"}),
    "case of the address": ({"email": "ANN@acme.com"}, {"email": "ANN@acme.com"}),
    "nothing": ({}, {"email": "ann@acme.com", "contact_name": "Ann Lee"}),
}


@pytest.mark.parametrize(("changes", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_given_fields_change(
    connection: sa.Connection, lead: dict[str, Any], changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    changed = leads.update(connection, lead["id"], changes)
    assert {name: changed[name] for name in expected} == expected


def test_address_of_another_lead_is_refused(connection: sa.Connection, lead: dict[str, Any]) -> None:
    other = leads.create(connection, {"email": "eve@acme.com"}, {})
    with pytest.raises(Conflict) as refused:
        leads.update(connection, other["id"], {"email": "Ann@acme.com"})
    assert refused.value.data == {"lead_id": str(lead["id"])}


@pytest.mark.parametrize("email", ["", "nobody", "jörg@acme.com"])
def test_bad_address_is_refused(connection: sa.Connection, lead: dict[str, Any], email: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        leads.update(connection, lead["id"], {"email": email})
    assert [error.field for error in refused.value.errors] == ["email"]


def test_list_is_filtered(connection: sa.Connection, lead: dict[str, Any]) -> None:
    batch_id = make_batch(connection, ["bob@acme.com", "eve_x@other.com"], status="contacted")

    def found(**filters: Any) -> set[str]:
        return {item["email"] for item in leads.list_page(connection, 10, None, **filters).items}

    assert found() == {"ann@acme.com", "bob@acme.com", "eve_x@other.com"}
    assert found(status="contacted") == found(batch_id=batch_id) == {"bob@acme.com", "eve_x@other.com"}
    assert found(email="ANN@ACME.COM") == {"ann@acme.com"}
    assert found(email="ann") == set()
    assert found(search="ACME") == {"ann@acme.com", "bob@acme.com"}
    assert found(search="e_x") == {"eve_x@other.com"}
    assert found(search="%") == set()
    assert found(search="ann lee") == {"ann@acme.com"}
    assert found(search="acme", status="contacted") == {"bob@acme.com"}


def test_pages_of_one_import_are_complete(connection: sa.Connection) -> None:
    batch_id = make_batch(connection, [f"lead{number}@acme.com" for number in range(25)])
    seen: list[str] = []
    cursor = None
    while True:
        page = leads.list_page(connection, 10, cursor, batch_id=batch_id)
        seen += [item["email"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 25


@pytest.mark.parametrize("sort", ["-created_at", "created_at"])
def test_list_looks_through_so_many_leads_for_a_page(connection: sa.Connection, sort: str) -> None:
    make_batch(connection, ["eve@other.com", *(f"lead{number}@acme.com" for number in range(6))])
    pages: list[list[str]] = []
    cursor = None
    while cursor is not None or not pages:
        page = leads.list_page(connection, 10, cursor, search="eve", sort=sort, scan_limit=2)
        pages.append([item["email"] for item in page.items])
        cursor = page.next_cursor
    # Seven leads are three times two, and one.
    assert len(pages) == 4
    assert sorted(pages) == [[], [], [], ["eve@other.com"]]


def test_full_page_ends_with_its_last_lead_however_many_are_looked_through(connection: sa.Connection) -> None:
    make_batch(connection, [f"lead{number}@acme.com" for number in range(6)])
    first = leads.list_page(connection, 2, None, search="acme", scan_limit=5)
    second = leads.list_page(connection, 9, first.next_cursor, search="acme", scan_limit=5)
    assert (len(first.items), len(second.items), second.next_cursor) == (2, 4, None)
    assert len({item["email"] for item in [*first.items, *second.items]}) == 6


@pytest.mark.parametrize(("limit", "search"), [(2, "acme"), (10, None)])
def test_page_loses_no_lead_when_another_one_is_deleted_while_it_is_read(
    connection: sa.Connection, limit: int, search: str | None
) -> None:
    make_batch(connection, [f"lead{number}@acme.com" for number in range(8)])
    newest, *others = [item["email"] for item in leads.list_page(connection, 10, None).items]
    wanted = others if search else [others[2]]

    def delete(*_: Any) -> None:
        connection.execute(sa.delete(leads_table).where(leads_table.c.email == newest))

    sa.event.listen(connection, "after_cursor_execute", delete, once=True)
    pages = [leads.list_page(connection, limit, None, search=search or others[2], scan_limit=3)]
    while (cursor := pages[-1].next_cursor) is not None:
        pages.append(leads.list_page(connection, limit, cursor, search=search or others[2], scan_limit=3))
    assert [item["email"] for page in pages for item in page.items] == wanted


def running_campaign(engine: sa.Engine, connection: sa.Connection) -> tuple[uuid.UUID, uuid.UUID]:
    """A running campaign of three steps, and one of its leads."""
    campaign_id = make_campaign(connection, 2, [NO_DELAY, DAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    lead_id: uuid.UUID = rows_of(engine, campaign_id)[0]["lead_id"]
    return campaign_id, lead_id


def test_deleted_lead_gets_nothing_more(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id, lead_id = running_campaign(engine, connection)
    leads.delete(connection, lead_id)
    connection.commit()
    rows = rows_of(engine, campaign_id)
    assert [(row["status"], row["reason"]) for row in rows if row["lead_id"] is None] == [
        ("skipped", "lead_deleted")
    ] * 3
    assert [row["status"] for row in rows if row["lead_id"] is not None] == ["pending"] * 3
    with pytest.raises(NotFound):
        leads.get(connection, lead_id)


def test_lead_deleted_during_a_pause_is_not_resumed(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id, lead_id = running_campaign(engine, connection)
    lifecycle.pause_campaign(engine, campaign_id)
    leads.delete(connection, lead_id)
    connection.commit()
    lifecycle.resume_campaign(engine, campaign_id)
    assert {row["status"] for row in rows_of(engine, campaign_id) if row["lead_id"] is None} == {"skipped"}


def test_lead_is_not_deleted_while_an_email_is_on_its_way(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id, lead_id = running_campaign(engine, connection)
    connection.execute(
        sa.text("""
            UPDATE scheduled_emails SET status = 'sending', claim_token = gen_random_uuid(), lease_until = now()
            WHERE lead_id = :lead_id AND workflow_step_number = 1
        """).bindparams(sa.bindparam("lead_id", type_=sa.UUID)),
        {"lead_id": lead_id},
    )
    connection.commit()
    with pytest.raises(Conflict):
        leads.delete(connection, lead_id)
    connection.rollback()
    assert leads.get(connection, lead_id)["id"] == lead_id
    assert [row["status"] for row in rows_of(engine, campaign_id) if row["lead_id"] == lead_id] == [
        "sending",
        "pending",
        "pending",
    ]


def test_deleted_batch_takes_its_leads_with_it(connection: sa.Connection) -> None:
    batch_id = make_batch(connection, ["a@acme.com", "b@acme.com"])
    make_batch(connection, ["c@acme.com"])
    lead_batches.delete(connection, batch_id)
    assert [lead["email"] for lead in leads.list_page(connection, 10, None).items] == ["c@acme.com"]
    with pytest.raises(NotFound):
        lead_batches.get(connection, batch_id)


@pytest.mark.parametrize("status", ["draft", "failed"])
def test_batch_of_a_campaign_that_can_be_started_is_not_deleted(connection: sa.Connection, status: str) -> None:
    batch_id = make_batch(connection, ["a@acme.com"])
    campaign_id = make_campaign(connection, batch_ids=[batch_id], status=status)
    with pytest.raises(Conflict) as refused:
        lead_batches.delete(connection, batch_id)
    assert refused.value.data["campaigns"] == [{"id": str(campaign_id), "name": "Campaign"}]


def test_batch_that_a_campaign_has_used_is_not_deleted(engine: sa.Engine, connection: sa.Connection) -> None:
    batch_id = make_batch(connection, ["a@acme.com"])
    campaign_id = make_campaign(connection, batch_ids=[batch_id])
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.cancel_campaign(engine, campaign_id)
    with pytest.raises(Conflict, match="belong to a campaign"):
        lead_batches.delete(connection, batch_id)


def test_lead_shows_its_local_time_zone_and_what_it_is_known_from(connection: sa.Connection) -> None:
    lead = leads.create(connection, {"email": "bob@acme.com", "country": "Japan"}, {})
    shown = ("time_zone", "local_time_zone", "time_zone_source")
    assert [lead[name] for name in shown] == [None, "Asia/Tokyo", "country"]
    lead = leads.update(connection, lead["id"], {"time_zone": "europe/berlin"})
    assert [lead[name] for name in shown] == ["Europe/Berlin", "Europe/Berlin", "lead"]
    lead = leads.update(connection, lead["id"], {"time_zone": None, "country": "US"})
    assert [lead[name] for name in shown] == [None, None, "schedule"]


def test_unknown_time_zone_is_refused_by_field(connection: sa.Connection, lead: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        leads.update(connection, lead["id"], {"time_zone": "Mars/Olympus"})
    (error,) = refused.value.errors
    assert error.field == "time_zone"
    assert "'Mars/Olympus'" in error.message
    assert "Europe/Berlin" in error.message
    with pytest.raises(InvalidInput):
        leads.create(connection, {"email": "bob@acme.com", "time_zone": "Mars/Olympus"}, {})
