"""Changing tags and custom fields of many leads: by filter, in chunks, once each, whatever is interrupted."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

import bulk_leads_routes
import lead_import_handler
from sendledger.core.tables import audit_log, lead_changes, leads
from sendledger.leads import change_leads
from testbed.campaigns import make_batch
from testbed.databases import working_as
from testbed.invariants import wait_for
from tests.campaigns.test_intake import waiting_for_locks
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

SPA = {"kind": "field", "field": "industry", "values": ["spa"]}
NOBODY = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def batch_id(connection: sa.Connection) -> str:
    """Of five leads; there are others."""
    created = make_batch(connection, [f"a{number}@example.com" for number in range(5)], tags=["old", "kept"])
    make_batch(connection, ["other@example.com"], industry="bar", custom_fields={"plan": "free"})
    connection.commit()
    return str(created)


def tags(connection: sa.Connection) -> dict[str, Any]:
    connection.rollback()
    return {row.email: row.tags for row in connection.execute(sa.select(leads.c.email, leads.c.tags))}


def test_tags_are_added_and_removed_where_the_filter_matches(
    api: ApiClient, connection: sa.Connection, batch_id: str
) -> None:
    changes = {"add_tags": ["vip", "kept", "vip"], "remove_tags": ["old"]}
    answer = api.post("/v1/leads/bulk", {"filter": {"batch_id": batch_id}, "changes": changes})
    assert answer.status == 202
    counts = {name: answer.json[name] for name in ("leads_total", "leads_done", "leads_changed")}
    assert counts == {"leads_total": 5, "leads_done": 5, "leads_changed": 5}
    assert answer.json["completed_at"] is not None
    assert api.get(f"/v1/lead-changes/{answer.json['id']}").json == answer.json
    found = tags(connection)
    assert found.pop("other@example.com") is None
    assert set(map(tuple, found.values())) == {("kept", "vip")}
    again = api.post("/v1/leads/bulk", {"filter": {"batch_id": batch_id}, "changes": changes})
    assert (again.json["leads_done"], again.json["leads_changed"]) == (5, 0)
    entry = connection.execute(sa.select(audit_log).where(audit_log.c.action == "lead.bulk_change")).mappings().first()
    assert entry is not None
    assert (entry["detail"]["leads"], entry["detail"]["add_tags"]) == (5, ["vip", "kept"])


def test_custom_fields_are_set_and_removed_by_segment_and_list_filters(
    api: ApiClient, connection: sa.Connection, batch_id: str
) -> None:
    segment_id = api.post("/v1/segments", {"name": "s", "filter": {"kind": "not", "condition": SPA}}).json["id"]
    for filter_ in ({"segment_id": segment_id}, {"search": "OTHER@"}, {"email": "Other@example.com", "status": "new"}):
        changes = {"custom_fields": {"plan": None, "seats": 7, "paid": True}}
        answer = api.post("/v1/leads/bulk", {"filter": filter_, "changes": changes})
        assert (answer.status, answer.json["leads_total"]) == (202, 1)
    rows = connection.execute(sa.select(leads.c.email, leads.c.custom_fields)).all()
    assert {row.email: row.custom_fields for row in rows if row.custom_fields} == {
        "other@example.com": {"seats": 7, "paid": True}
    }
    # What may be personal data is gone with the last lead.
    stored = connection.execute(sa.select(lead_changes.c.filter, lead_changes.c.custom_fields)).all()
    assert {(str(row.filter), str(row.custom_fields)) for row in stored} == {("{}", "{}")}


def test_tag_is_added_where_an_old_database_has_a_null_among_the_tags(
    api: ApiClient, connection: sa.Connection, batch_id: str
) -> None:
    for address, old in {"a0@example.com": [None, "old"], "a1@example.com": ["vip", None]}.items():
        connection.execute(sa.update(leads).where(leads.c.email == address).values(tags=old))
    connection.commit()
    answer = api.post("/v1/leads/bulk", {"filter": {"batch_id": batch_id}, "changes": {"add_tags": ["vip"]}})
    assert (answer.json["leads_done"], answer.json["leads_changed"]) == (5, 4)
    found = tags(connection)
    assert (found["a0@example.com"], found["a1@example.com"]) == ([None, "old", "vip"], ["vip", None])


def test_lead_that_would_get_too_many_tags_stays_as_it_is(
    api: ApiClient, connection: sa.Connection, batch_id: str
) -> None:
    full = [f"t{number}" for number in range(100)]
    connection.execute(sa.update(leads).where(leads.c.email == "a0@example.com").values(tags=full))
    connection.commit()
    answer = api.post("/v1/leads/bulk", {"filter": {"batch_id": batch_id}, "changes": {"add_tags": ["vip"]}})
    assert (answer.json["leads_done"], answer.json["leads_changed"]) == (5, 4)
    assert tags(connection)["a0@example.com"] == full


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filter": {}, "changes": {"add_tags": ["x"]}}, "filter"),
        ({"filter": {"status": "new"}, "changes": {}}, "changes"),
        ({"filter": {"status": "none"}, "changes": {"add_tags": ["x"]}}, "filter.status"),
        ({"filter": {"segment_id": NOBODY}, "changes": {"add_tags": ["x"]}}, "filter.segment_id"),
        ({"filter": {"status": "new"}, "changes": {"add_tags": ["\u0000"]}}, "changes.add_tags"),
        ({"filter": {"status": "new"}, "changes": {"add_tags": ["x"], "remove_tags": ["x"]}}, "changes.remove_tags"),
        ({"filter": {"status": "new"}, "changes": {"custom_fields": {"first_name": "x"}}}, "changes.custom_fields"),
        ({"filter": {"status": "new"}, "changes": {"custom_fields": {"x": [1]}}}, "changes.custom_fields.x"),
    ],
)
def test_wrong_change_is_refused_by_field(api: ApiClient, batch_id: str, body: Any, field: str) -> None:
    refused = api.post("/v1/leads/bulk", body)
    assert refused.status == 422
    assert refused.fields[0].startswith(field)
    assert api.get(f"/v1/lead-changes/{NOBODY}").status == 404


def test_change_that_takes_longer_than_the_call_goes_on_after_an_interruption_and_repeats_nothing(
    api: ApiClient,
    engine: sa.Engine,
    connection: sa.Connection,
    batch_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_leads, "LEADS_PER_CHUNK", 2)
    monkeypatch.setattr(bulk_leads_routes, "CALL_SECONDS", -1.0)
    # The condition is no longer true for those that are done.
    filter_ = {"kind": "not", "condition": {"kind": "tag", "tag": "vip"}}
    segment_id = api.post("/v1/segments", {"name": "s", "filter": filter_}).json["id"]
    body = {"filter": {"segment_id": segment_id}, "changes": {"add_tags": ["vip"]}}
    started = api.post("/v1/leads/bulk", body).json
    assert (started["leads_total"], started["leads_done"], started["completed_at"]) == (6, 2, None)
    with engine.connect() as killed, killed.begin() as chunk:
        change_leads._change_some(killed, uuid.UUID(started["id"]))
        chunk.rollback()
    with working_as("files", engine) as files:
        assert not change_leads.work(files, uuid.UUID(started["id"]), float("inf"))
    done = api.get(f"/v1/lead-changes/{started['id']}").json
    assert (done["leads_done"], done["leads_changed"]) == (6, 6)
    assert all("vip" in found for found in tags(connection).values())


def test_changes_at_the_same_time_keep_what_the_others_have_changed(
    engine: sa.Engine, connection: sa.Connection, batch_id: str
) -> None:
    condition = change_leads.condition_of(connection, {"batch_id": batch_id})
    first, second = (
        change_leads.create(connection, condition, [tag], [], {tag: 1}, "ann")["id"] for tag in ("one", "two")
    )
    connection.commit()

    with ThreadPoolExecutor(1) as threads:
        change_leads._change_some(connection, first)
        other = threads.submit(change_leads.work, engine, second, float("inf"))
        wait_for(lambda: waiting_for_locks(engine) == 1, "a change that waits for the leads")
        connection.commit()
        assert not other.result()

    changed = connection.execute(sa.select(leads.c.tags, leads.c.custom_fields).where(leads.c.batch_id == batch_id))
    for row in changed:
        assert (row.tags, row.custom_fields) == (["old", "kept", "one", "two"], {"one": 1, "two": 1})


def test_change_that_was_left_behind_is_found(engine: sa.Engine, connection: sa.Connection, batch_id: str) -> None:
    condition = change_leads.condition_of(connection, {"batch_id": batch_id})
    created = change_leads.create(connection, condition, ["vip"], [], {}, "ann")["id"]
    connection.commit()
    assert change_leads.unfinished(connection) == []
    connection.execute(sa.update(lead_changes).values(updated_at=sa.func.now() - sa.text("interval '2 min'")))
    connection.commit()
    assert change_leads.unfinished(connection) == [created]
    assert lead_import_handler._changes({"lead_change_id": str(created)}) == [created]
    assert lead_import_handler._changes({"bucket": "b", "lead_batch_id": "x"}) == []
