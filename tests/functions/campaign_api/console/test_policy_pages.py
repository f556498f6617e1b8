"""The console's pages of sending schedules and senders, and the campaign's form that names them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa

from testbed.campaigns import make_batch, make_template
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def client(clients: dict[str, ApiClient]) -> ApiClient:
    return clients["admin"]


SCHEDULE = {"name": "Office", "time_zone": "Europe/Berlin", "zone_of": "lead", "mon": "9-12, 13:00–17:30"}


def only(client: ApiClient, path: str) -> Any:
    (found,) = client.get(path).json["items"]
    return found


def test_schedule_is_made_as_people_write_hours(browser: Browser, client: ApiClient) -> None:
    shown = browser.post("/console/settings/schedules/new", {**SCHEDULE, "holidays": "2026-12-25, 2027-01-01\n"})
    assert "Monday 09:00-12:00, 13:00-17:30" in shown.text
    made = only(client, "/v1/sending-schedules")
    assert made["hours"]["mon"] == [["09:00", "12:00"], ["13:00", "17:30"]]
    assert made["hours"]["tue"] == []
    assert made["holidays"] == ["2026-12-25", "2027-01-01"]


def test_schedule_is_changed_and_deleted(browser: Browser, client: ApiClient) -> None:
    browser.post("/console/settings/schedules/new", SCHEDULE)
    page = f"/console/settings/schedules/{only(client, '/v1/sending-schedules')['id']}"
    assert browser.get(page).field("mon") == "09:00-12:00, 13:00-17:30"
    browser.post(page, {**SCHEDULE, "name": "Nights", "mon": "", "tue": "22:00-24:00"})
    changed = only(client, "/v1/sending-schedules")
    assert (changed["name"], changed["hours"]["mon"]) == ("Nights", [])
    assert changed["hours"]["tue"] == [["22:00", "24:00"]]
    assert "No schedules yet" in browser.post(f"{page}/delete").text


@pytest.mark.parametrize(
    ("field", "typed", "named"),
    [
        ("mon", "nine to five", "hours.mon"),
        ("mon", "9-12-13", "hours.mon"),
        ("mon", "17-9", "hours.mon"),
        ("mon", "", "hours"),
        ("time_zone", "Mars/Olympus", "time_zone"),
        ("holidays", "Christmas", "holidays"),
        ("name", " ", "name"),
    ],
)
def test_schedule_that_is_not_valid_names_the_field_and_keeps_what_was_typed(
    browser: Browser, client: ApiClient, field: str, typed: str, named: str
) -> None:
    shown = browser.post("/console/settings/schedules/new", {**SCHEDULE, field: typed})
    assert (shown.status, named in shown.text) == (422, True)
    if field == "time_zone":
        assert shown.field("time_zone") == typed
    assert client.get("/v1/sending-schedules").json["items"] == []


def test_sender_is_added_capped_and_disabled(browser: Browser, client: ApiClient) -> None:
    browser.post("/console/settings/senders", {"from_address": "Ann <ann@example.com>", "daily_cap": "50"})
    sender = only(client, "/v1/senders")
    assert (sender["daily_cap"], sender["status"]) == (50, "active")
    page = f"/console/settings/senders/{sender['id']}"
    assert "Disabled" in browser.post(page, {"daily_cap": "", "status": "disabled"}).text
    changed = only(client, "/v1/senders")
    assert (changed["daily_cap"], changed["status"]) == (None, "disabled")
    assert "No senders yet" in browser.post(f"{page}/delete").text


def test_new_sender_grows_from_day_to_day(browser: Browser, client: ApiClient) -> None:
    ramp = {"ramp_start": "10", "ramp_step": "5", "ramp_ceiling": "50"}
    shown = browser.post("/console/settings/senders", {"from_address": "ann@example.com", "spread": "yes", **ramp})
    sender = only(client, "/v1/senders")
    assert (sender["ramp"], sender["spread"]) == ({"start": 10, "step": 5, "ceiling": 50}, True)
    assert "0 sent today, of at most 10" in shown.text
    part = browser.post(f"/console/settings/senders/{sender['id']}", {"ramp_start": "10", "status": "active"})
    assert (part.status, "ramp.step" in part.text) == (422, True)
    browser.post(f"/console/settings/senders/{sender['id']}", {"status": "active"})
    changed = only(client, "/v1/senders")
    assert (changed["ramp"], changed["spread"]) == (None, False)


@pytest.mark.parametrize("cap", ["many", "0", "-1", "9" * 5000, "٣"])
def test_cap_that_is_no_number_is_refused(browser: Browser, client: ApiClient, cap: str) -> None:
    shown = browser.post("/console/settings/senders", {"from_address": "ann@example.com", "daily_cap": cap})
    assert (shown.status, "daily_cap" in shown.text) == (422, True)
    assert client.get("/v1/senders").json["items"] == []


def test_campaign_form_takes_hours_senders_and_tracking(browser: Browser, client: ApiClient, engine: sa.Engine) -> None:
    browser.post("/console/settings/schedules/new", SCHEDULE)
    browser.post("/console/settings/senders", {"from_address": "ann@example.com", "daily_cap": "50"})
    schedule, sender = only(client, "/v1/sending-schedules"), only(client, "/v1/senders")
    with engine.begin() as connection:
        batch_id, template_id = make_batch(connection, ["bob@example.com"]), make_template(connection)
    draft = {"name": "Autumn", "batch_ids": [str(batch_id)], "email_template_id": str(template_id)}
    page = f"/console/campaigns/{client.post('/v1/campaigns', draft).json['id']}/edit/senders"
    form = {
        "start_type": "manual",
        "sending_schedule_id": schedule["id"],
        "sender_ids": sender["id"],
        "track_opens": "yes",
    }
    assert browser.post(page, form, follow=False).status == 303
    made = only(client, "/v1/campaigns")
    assert (made["sending_schedule_id"], made["sender_ids"]) == (schedule["id"], [sender["id"]])
    assert (made["track_opens"], made["track_clicks"]) == (True, False)
    edit = browser.get(page).html
    for chosen in (f'value="{schedule["id"]}" selected', f'value="{sender["id"]}" checked'):
        assert chosen in edit
    assert "Office" in browser.get(f"/console/campaigns/{made['id']}").text
    refused = browser.post(f"/console/settings/schedules/{schedule['id']}/delete")
    assert (refused.status, "Autumn" in refused.text) == (409, True)


@pytest.mark.parametrize("role", ["viewer"])
def test_viewer_sees_no_form_of_the_policy(browsers: dict[str, Browser], browser: Browser, role: str) -> None:
    browser.post("/console/settings/schedules/new", SCHEDULE)
    browser.post("/console/settings/senders", {"from_address": "ann@example.com"})
    viewer = browsers[role]
    viewer.sign_in()
    for page in ("schedules", "senders"):
        html = viewer.get(f"/console/settings/{page}").html
        assert "ann@example.com" in html or "Office" in html
        assert re.findall(r'<form[^>]*action="/console/settings', html) == []
