"""Segments as a part of a campaign's audience: evaluated at the start, by the same rules as batches and lists."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import audience as audiences
from sendledger.campaigns import background_work, campaigns, lifecycle, schedule_emails
from sendledger.campaigns.campaigns import get_campaign
from sendledger.core.errors import Conflict, NobodyToEmail
from sendledger.core.tables import campaign_leads, leads, segments, suppressions
from sendledger.segments import segments as segment_store
from sendledger.segments.conditions import of_json
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, make_template, rows_of
from testbed.databases import working_as
from tests.campaigns.test_lifecycle import wait_for_waiting_sessions
from tests.plans.test_segment_plans import conditions

SPA = {"kind": "field", "field": "industry", "values": ["spa"]}
BAR = {"kind": "field", "field": "industry", "values": ["bar"]}


def segment(connection: sa.Connection, filter_: dict[str, Any] = SPA) -> uuid.UUID:
    with_defaults = of_json(filter_).model_dump(mode="json")
    created = sa.insert(segments).values(name="s", filter=with_defaults).returning(segments.c.id)
    created_id: uuid.UUID = connection.execute(created).scalar_one()
    return created_id


def addresses(engine: sa.Engine, campaign_id: uuid.UUID) -> list[str]:
    ids = {row["lead_id"] for row in rows_of(engine, campaign_id)}
    with engine.connect() as connection:
        return sorted(connection.scalars(sa.select(leads.c.email).where(leads.c.id.in_(ids))))


def test_start_takes_whom_the_segments_match_then_besides_batches_and_list(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    make_batch(connection, ["spa@example.com"])
    make_batch(connection, ["bar@example.com"], industry="bar")
    make_batch(connection, ["other@example.com"], industry="pub")
    listed = connection.scalars(
        sa.select(leads.c.id).where(leads.c.batch_id == make_batch(connection, ["listed@example.com"], industry="pub"))
    ).one()
    batch = make_batch(connection, ["batch@example.com"], industry="pub")
    both = [segment(connection), segment(connection, BAR)]
    campaign_id = make_campaign(connection, 0, [NO_DELAY, DAY], batch_ids=[batch], segment_ids=both)
    connection.execute(sa.insert(campaign_leads).values(campaign_id=campaign_id, lead_id=listed))
    make_batch(connection, ["later@example.com"])
    connection.commit()
    started = lifecycle.start_campaign(engine, campaign_id)
    assert (started.total_leads_targeted, started.emails_scheduled_count) == (5, 10)
    expected = [f"{name}@example.com" for name in ("bar", "batch", "later", "listed", "spa")]
    assert addresses(engine, campaign_id) == expected


def test_leads_of_a_segment_are_left_out_with_the_reasons_of_a_start(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    make_batch(connection, ["a@example.com", "A@example.com", "b@example.com", "nowhere", None, "fine@example.com"])
    connection.execute(sa.insert(suppressions).values(value="b@example.com", reason="manual"))
    campaign_id = make_campaign(connection, 0, batch_ids=[], segment_ids=[segment(connection)])
    started = lifecycle.start_campaign(engine, campaign_id)
    assert started.leads_left_out == {
        "duplicate_address": 1,
        "suppressed": 1,
        "invalid_address": 1,
        "no_address": 1,
    }
    assert started.total_leads_targeted == 2


def test_segment_that_matches_nobody_starts_nothing(engine: sa.Engine, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 0, batch_ids=[], segment_ids=[segment(connection, BAR)])
    with pytest.raises(NobodyToEmail):
        lifecycle.start_campaign(engine, campaign_id)
    assert campaign_row(engine, campaign_id)["status"] == "draft"


def test_large_start_evaluates_segments_bucket_by_bucket_as_the_sender(
    engine: sa.Engine, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_emails, "ROWS_PER_BUCKET", 3)
    make_batch(connection, [f"l{number}@example.com" for number in range(20)])
    everybody = {"kind": "or", "conditions": [each for each, _ in conditions(str(uuid.uuid4())).values()]}
    segment_id = segment(connection, everybody)
    campaign_id = make_campaign(connection, 0, batch_ids=[], segment_ids=[segment_id])
    with working_as("sender", engine) as sender:
        started = lifecycle.start_campaign(sender, campaign_id)
        assert [work["kind"] for work in started.background_work] == ["schedule"]
        with pytest.raises(Conflict, match="still being scheduled"), engine.begin() as other:
            segment_store.update(other, segment_id, None, of_json(BAR), "ann")
        background_work.work_until(sender, campaign_id, float("inf"))
    assert len(addresses(engine, campaign_id)) == campaign_row(engine, campaign_id)["total_leads_targeted"] == 20
    with engine.begin() as other:
        segment_store.update(other, segment_id, None, of_json(BAR), "ann")


@pytest.mark.parametrize("kind", sorted(conditions("")))
def test_condition_means_in_an_audience_what_it_means_in_a_list(connection: sa.Connection, kind: str) -> None:
    make_batch(connection, ["17@example.com", "x@example.com"], custom_fields={"seats": 30}, country="Germany")
    campaign_id = make_campaign(connection, 1)
    segment_id = segment(connection, conditions(str(campaign_id))[kind][0])
    with_segment = make_campaign(connection, 0, batch_ids=[], segment_ids=[segment_id])
    listed = segment_store.count(connection, segment_store.condition_of(connection, segment_id))
    audience = audiences.audience_of(connection, get_campaign(connection, with_segment))
    assert audiences.audience_size(connection, audience) == listed


def test_segment_that_is_given_to_a_campaign_meanwhile_is_not_deleted(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    template, segment_id = make_template(connection), segment(connection)
    connection.commit()
    with ThreadPoolExecutor() as threads, engine.begin() as creating:
        values = {"name": "n", "email_template_id": template, "segment_ids": [segment_id]}
        campaigns.create(creating, values)
        deletion = threads.submit(_delete, engine, segment_id)
        wait_for_waiting_sessions(connection, 1)
        creating.commit()
        with pytest.raises(Conflict, match="in use by 'n'"):
            deletion.result()


def _delete(engine: sa.Engine, segment_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        segment_store.delete(connection, segment_id, "ann")
