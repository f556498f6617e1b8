"""The console's pages of segments."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

COUNTRY = {"kind": "field", "field": "country", "operator": "is", "values": ["Germany", "Austria"]}
SEATS = {"kind": "custom_field", "name": "seats", "operator": "at_least", "values": ["5"]}
FORM = {
    "name": "Large",
    "join": "and",
    "about": ["country", "custom_field", ""],
    "custom": ["", "seats", ""],
    "operator": ["is", "at_least", "is"],
    "values": ["Germany, Austria", "5", "ignored"],
}


def only(api: ApiClient) -> Any:
    (found,) = api.get("/v1/segments").json["items"]
    return found


def test_segment_is_made_of_rows_and_shows_who_fits(browser: Browser, api: ApiClient) -> None:
    for email, seats in (("ann@example.com", 7), ("bob@example.com", 3)):
        api.post("/v1/leads", {"email": email, "country": "Austria", "custom_fields": {"seats": seats}})
    shown = browser.post("/console/segments/new", FORM)
    assert only(api)["filter"] == {"kind": "and", "conditions": [COUNTRY, SEATS]}
    assert "1 leads fit now ann@example.com" in shown.text
    for kept in ('value="Germany, Austria"', 'value="seats"', 'value="at_least" selected'):
        assert kept in shown.html
    assert "Large" in browser.get("/console/segments").text


def test_segment_is_changed_and_deleted(browser: Browser, api: ApiClient) -> None:
    browser.post("/console/segments/new", FORM)
    page = f"/console/segments/{only(api)['id']}"
    rows = {
        "about": ["tag", "not_contacted_for"],
        "values": ["vip", "30"],
        "custom": ["", ""],
        "operator": ["is", "is"],
    }
    browser.post(page, {**FORM, **rows, "join": "or"})
    conditions = [{"kind": "tag", "tag": "vip"}, {"kind": "not_contacted_for", "days": 30}]
    assert only(api)["filter"] == {"kind": "or", "conditions": conditions}
    assert "No segments yet" in browser.post(f"{page}/delete").text


@pytest.mark.parametrize(
    ("about", "value", "named"),
    [
        ("not_contacted_for", "soon", "filter.conditions.0.days"),
        ("not_contacted_for", "9" * 5_000, "filter.conditions.0.days"),
        ("status", "king", "filter.conditions.0.values"),
        ("time_zone", "Mars/Olympus", "filter.conditions.0.values"),
        ("country", " ", "filter.conditions.0.values"),
        ("shoe_size", "44", "filter.conditions.0.field"),
        ("", "", "filter.conditions"),
    ],
)
def test_row_that_is_not_valid_is_named_and_kept(
    browser: Browser, api: ApiClient, about: str, value: str, named: str
) -> None:
    form = {"name": "Odd", "about": [about], "custom": [""], "operator": ["is"], "values": [value]}
    shown = browser.post("/console/segments/new", form)
    assert (shown.status, named in shown.text, shown.field("name")) == (422, True, "Odd")
    assert api.get("/v1/segments").json["items"] == []


def test_filter_of_more_levels_is_shown_as_it_is(browser: Browser, api: ApiClient) -> None:
    made = api.post("/v1/segments", {"name": "Deep", "filter": {"kind": "not", "condition": COUNTRY}}).json
    shown = browser.get(f"/console/segments/{made['id']}")
    assert "more levels than this page can show" in shown.text
    assert "Germany" in shown.text


def test_viewer_sees_segments_and_no_form_to_save(browsers: dict[str, Browser], api: ApiClient) -> None:
    made = api.post("/v1/segments", {"name": "Large", "filter": COUNTRY}).json
    browsers["viewer"].sign_in()
    html = browsers["viewer"].get(f"/console/segments/{made['id']}").html
    assert "Large" in html
    assert ">Save<" not in html
    assert browsers["viewer"].post(f"/console/segments/{made['id']}", FORM).status == 403
