"""What an operator sees of a campaign with a sending policy, through the API: why nothing goes, and what is held."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.ledger import claim_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, statuses
from tests.functions.campaign_api.api_client import ApiClient

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.fixture(autouse=True)
def ticking(engine: sa.Engine) -> None:
    """A sender ticked a moment ago."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now(), last_tick_ended_at = now()"))


def diagnosis(api: ApiClient, campaign_id: uuid.UUID) -> dict[str, Any]:
    answer = api.get(f"/v1/campaigns/{campaign_id}/diagnose")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def started(engine: sa.Engine, leads: int, **policy: Any) -> uuid.UUID:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, leads, [NO_DELAY, DAY], **policy)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def claim_all(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        return len(claim_emails.claim(connection, 100, uuid.uuid4()))


def test_closed_schedule_is_the_cause_with_its_next_opening(api: ApiClient, engine: sa.Engine) -> None:
    opens_on = dt.datetime.now(dt.UTC).date() + 3 * DAY
    hours = {WEEKDAYS[opens_on.weekday()]: [["09:00", "17:00"]]}
    schedule = {"name": "Once a week", "time_zone": "UTC", "zone_of": "schedule", "hours": hours}
    schedule_id = api.post("/v1/sending-schedules", schedule).json["id"]
    found = diagnosis(api, started(engine, 2, sending_schedule_id=uuid.UUID(schedule_id)))
    opening = f"{opens_on}T09:00:00"
    assert (found["cause"], found["next_send_at"][:19]) == ("window_closed", opening)
    assert {zone: at[:19] for zone, at in found["detail"]["next_openings"].items()} == {"UTC": opening}
    assert found["detail"]["due"] == 2


def test_used_up_cap_of_a_sender_is_the_cause_with_the_next_day(api: ApiClient, engine: sa.Engine) -> None:
    ann = api.post("/v1/senders", {"from_address": "ann@example.com", "daily_cap": 1, "spread": False}).json["id"]
    campaign_id = started(engine, 3, sender_ids=[uuid.UUID(ann)])
    assert claim_all(engine) == 1
    found = diagnosis(api, campaign_id)
    assert (found["cause"], found["detail"]) == ("sender_cap_reached", {"due": 2, "sender_ids": [ann]})
    assert found["next_send_at"][11:19] == "00:00:00"


def test_disabled_sender_is_the_cause_until_a_person_acts(api: ApiClient, engine: sa.Engine) -> None:
    ann = api.post("/v1/senders", {"from_address": "ann@example.com"}).json["id"]
    campaign_id = started(engine, 2, sender_ids=[uuid.UUID(ann)])
    assert diagnosis(api, campaign_id)["cause"] is None
    assert api.patch(f"/v1/senders/{ann}", {"status": "disabled"}).status == 200
    found = diagnosis(api, campaign_id)
    assert (found["cause"], found["next_send_at"], found["detail"]["due"]) == ("sender_disabled", None, 2)


@pytest.mark.parametrize("cap", ["new_leads_per_day", "new_leads_per_company_per_day"])
def test_used_up_cap_of_new_leads_is_the_cause(api: ApiClient, engine: sa.Engine, cap: str) -> None:
    campaign_id = started(engine, 3, **{cap: 2})
    assert claim_all(engine) == 2
    found = diagnosis(api, campaign_id)
    assert (found["cause"], found["detail"]["due"]) == ("new_leads_cap_reached", 1)
    assert found["next_send_at"][11:19] == "00:00:00"


def test_cap_that_is_new_counts_what_went_before_on_its_day(api: ApiClient, engine: sa.Engine) -> None:
    campaign_id = started(engine, 3, new_leads_per_day=2)
    assert claim_all(engine) == 2
    changes = {"new_leads_per_day": None, "new_leads_per_company_per_day": 2}
    assert api.patch(f"/v1/campaigns/{campaign_id}", changes).status == 200
    assert claim_all(engine) == 0
    assert diagnosis(api, campaign_id)["cause"] == "new_leads_cap_reached"


@pytest.mark.parametrize(("action", "expected"), [("send", {"pending": 6}), ("skip", {"pending": 5, "skipped": 1})])
def test_held_lane_is_shown_and_decided_about(
    api: ApiClient, engine: sa.Engine, action: str, expected: dict[str, int]
) -> None:
    campaign_id = started(engine, 3, new_leads_per_day=1)
    late = sa.text("""
        WITH due AS (
            UPDATE scheduled_emails SET is_behind = NULL, scheduled_for = now() - interval '2 days'
            WHERE id = (SELECT min(id) FROM scheduled_emails WHERE workflow_step_number = 2)
            RETURNING campaign_id, lane)
        UPDATE campaign_lanes l SET late_hold_until = now() - interval '1 day' FROM due
        WHERE l.campaign_id = due.campaign_id AND l.lane = due.lane
    """)
    with engine.begin() as other:
        assert other.execute(late).rowcount == 1
    path = f"/v1/campaigns/{campaign_id}"
    shown = api.get(path).json["late_hold_until"]
    assert shown is not None
    assert api.get("/v1/campaigns").json["items"][0]["late_hold_until"] == shown
    assert diagnosis(api, campaign_id)["detail"]["held"] == 1
    assert api.post(f"{path}/late-emails", {"action": action}).status == 202
    assert (statuses(engine, campaign_id), api.get(path).json["late_hold_until"]) == (expected, None)
    assert api.post(f"{path}/late-emails", {"action": action}).status == 409
