"""Sending schedules through the API."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import ApiClient

SCHEDULE: dict[str, Any] = {
    "name": "Office",
    "time_zone": "Europe/Berlin",
    "hours": {"mon": [["09:00", "12:00"], ["13:00", "17:00"]]},
    "holidays": ["2026-12-25"],
}
UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def schedule(api: ApiClient) -> dict[str, Any]:
    created: dict[str, Any] = api.post("/v1/sending-schedules", SCHEDULE).json
    return created


def test_created_schedule_is_shown_as_it_was_given(api: ApiClient, schedule: dict[str, Any]) -> None:
    closed: dict[str, list[Any]] = {day: [] for day in ("tue", "wed", "thu", "fri", "sat", "sun")}
    assert schedule["hours"] == {"mon": [["09:00", "12:00"], ["13:00", "17:00"]], **closed}
    assert (schedule["zone_of"], schedule["holidays"]) == ("lead", ["2026-12-25"])
    assert api.get(f"/v1/sending-schedules/{schedule['id']}").json == schedule
    assert api.get("/v1/sending-schedules").json["items"] == [schedule]


def test_zone_hours_and_holidays_are_put_in_order(api: ApiClient) -> None:
    given = SCHEDULE | {
        "time_zone": "asia/tokyo",
        "hours": {"tue": [["13:00", "17:00"], ["09:00", "12:00"]]},
        "holidays": ["2027-01-01", "2026-12-25", "2027-01-01"],
    }
    stored = api.post("/v1/sending-schedules", given).json
    assert stored["time_zone"] == "Asia/Tokyo"
    assert stored["hours"]["tue"] == [["09:00", "12:00"], ["13:00", "17:00"]]
    assert stored["holidays"] == ["2026-12-25", "2027-01-01"]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"time_zone": "Europe/Bielefeld"}, ["time_zone"]),
        ({"zone_of": "office"}, ["zone_of"]),
        ({"hours": {}}, ["hours"]),
        ({"hours": {"mon": []}}, ["hours"]),
        ({"hours": {"mon": [["17:00", "09:00"]]}}, ["hours.mon.0"]),
        ({"hours": {"mon": [["09:00", "09:00"]]}}, ["hours.mon.0"]),
        ({"hours": {"mon": [["09:00", "12:00"], ["11:59", "13:00"]]}}, ["hours.mon.1"]),
        ({"hours": {"mon": [["09:00", "25:00"]]}}, ["hours.mon.0.1"]),
        ({"hours": {"mon": [["9:00", "12:00"]]}}, ["hours.mon.0.0"]),
        ({"hours": {"mon": [["09:00"]]}}, ["hours.mon.0"]),
        ({"hours": {"monday": [["09:00", "12:00"]]}}, ["hours.monday"]),
        ({"holidays": ["2026-02-30"]}, ["holidays.0"]),
        ({"holidays": [20261225]}, ["holidays.0"]),
        ({"name": " "}, ["name"]),
    ],
    ids=str,
)
def test_wrong_schedule_is_refused_by_field(
    api: ApiClient, schedule: dict[str, Any], change: dict[str, Any], fields: list[str]
) -> None:
    for answer in (
        api.post("/v1/sending-schedules", SCHEDULE | change),
        api.patch(f"/v1/sending-schedules/{schedule['id']}", change),
    ):
        assert (answer.status, answer.fields) == (422, fields), answer.body
    assert api.get(f"/v1/sending-schedules/{schedule['id']}").json == schedule


def test_touching_hours_and_whole_days_are_allowed(api: ApiClient) -> None:
    hours = {"mon": [["09:00", "12:00"], ["12:00", "17:00"]], "sun": [["00:00", "24:00"]]}
    assert api.post("/v1/sending-schedules", SCHEDULE | {"hours": hours}).status == 201


def test_change_is_logged_from_what_to_what(api: ApiClient, schedule: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/sending-schedules/{schedule['id']}", {"holidays": []}).json
    assert changed == schedule | {"holidays": [], "updated_at": changed["updated_at"]}
    detail = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]["detail"]
    assert detail == {"fields": ["holidays"], "before": {"holidays": ["2026-12-25"]}, "after": {"holidays": []}}


def test_unknown_schedule_is_not_found(api: ApiClient) -> None:
    path = f"/v1/sending-schedules/{UNKNOWN}"
    assert [api.get(path).status, api.patch(path, {"name": "n"}).status, api.delete(path).status] == [404, 404, 404]


def test_schedule_in_use_is_not_deleted_and_its_campaigns_are_named(
    api: ApiClient, connection: sa.Connection, schedule: dict[str, Any]
) -> None:
    campaign_id = make_campaign(connection, 1, sending_schedule_id=schedule["id"], name="Spring")
    answer = api.delete(f"/v1/sending-schedules/{schedule['id']}")
    assert (answer.status, answer.json["campaigns"]) == (409, [{"id": str(campaign_id), "name": "Spring"}])
    assert api.patch(f"/v1/campaigns/{campaign_id}", {"sending_schedule_id": None}).status == 200
    assert api.delete(f"/v1/sending-schedules/{schedule['id']}").status == 204
    assert api.get(f"/v1/sending-schedules/{schedule['id']}").status == 404


def test_campaign_with_an_unknown_schedule_is_refused_by_field(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1)
    answer = api.patch(f"/v1/campaigns/{campaign_id}", {"sending_schedule_id": UNKNOWN})
    assert (answer.status, answer.fields) == (422, ["sending_schedule_id"])


def test_a_campaign_that_runs_keeps_its_schedule(
    api: ApiClient, connection: sa.Connection, schedule: dict[str, Any]
) -> None:
    campaign_id = make_campaign(connection, 1, sending_schedule_id=schedule["id"])
    connection.execute(sa.text("UPDATE campaigns SET status = 'running'"))
    connection.commit()
    assert api.patch(f"/v1/campaigns/{campaign_id}", {"sending_schedule_id": None}).status == 409
