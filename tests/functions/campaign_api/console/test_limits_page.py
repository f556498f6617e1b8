"""The form on the page of a campaign under way: guardrails, caps, and how it takes in leads."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import audit_log, campaigns
from testbed.campaigns import make_campaign
from testbed.console_browser import Browser, Shown
from tests.functions.campaign_api.api_client import ApiClient

END, EVERY = "2099-01-02T09:30", "6 hours"
INTAKE = {"evergreen": True, "end_at": f"{END}:45Z", "intake": {"every": EVERY}}
NO_GUARDRAILS = dict.fromkeys(
    ("enabled", "max_bounce_rate", "max_complaint_rate", "min_emails", "window_hours", "max_provider_errors")
)


def started(api: ApiClient, engine: sa.Engine, **values: Any) -> str:
    """The id of a campaign that runs."""
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1)
    assert api.patch(f"/v1/campaigns/{campaign_id}", values).status == 200
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    return str(campaign_id)


def limits_of(shown: Shown) -> str:
    """The form on a page; empty where there is none."""
    found = re.search(r'<form[^>]*action="[^"]*/limits">.*?</form>', shown.html, re.DOTALL)
    return found[0] if found else ""


def typed(shown: Shown, **changes: str) -> dict[str, str]:
    """What a browser sends of the form, with some fields changed."""
    form = limits_of(shown)
    fields = dict(re.findall(r'<input[^>]*name="([^"]+)" (?:inputmode="\w+" )?value="([^"]*)"', form))
    chosen = re.search(r'<option value="(\w*)" selected>', form)
    assert chosen is not None
    assert changes.keys() <= {*fields, "guardrails_enabled"}
    return {**fields, "guardrails_enabled": chosen[1], **changes}


def save(browser: Browser, campaign_id: str, **changes: str) -> Shown:
    page = f"/console/campaigns/{campaign_id}"
    return browser.post(f"{page}/limits", typed(browser.get(page), **changes))


def changed_fields(engine: sa.Engine) -> list[list[str]]:
    """What each change has changed, since the start."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(audit_log.c.action, audit_log.c.detail).order_by(audit_log.c.id)).all()
    actions = [row.action for row in rows]
    after = rows[actions.index("campaign.start") + 1 :]
    return [row.detail["fields"] for row in after if row.action == "campaign.update"]


def test_guardrails_of_a_running_campaign_are_changed_on_its_page(
    browser: Browser, api: ApiClient, engine: sa.Engine
) -> None:
    campaign_id = started(api, engine, guardrails={"min_emails": 60})
    shown = save(browser, campaign_id, max_bounce_rate="0,04", guardrails_enabled="on")
    assert "The limits are saved." in shown.text
    guardrails = api.get(f"/v1/campaigns/{campaign_id}").json["guardrails"]
    assert guardrails == {**NO_GUARDRAILS, "min_emails": 60, "max_bounce_rate": 0.04, "enabled": True}
    assert changed_fields(engine) == [["guardrails"]]


def test_end_and_intake_of_an_evergreen_campaign_are_changed_on_its_page(
    browser: Browser, api: ApiClient, engine: sa.Engine
) -> None:
    campaign_id = started(api, engine, **INTAKE)
    save(browser, campaign_id, end_at="2098-05-06T07:08", intake_every="1 day")
    campaign = api.get(f"/v1/campaigns/{campaign_id}").json
    assert (campaign["end_at"][:16], campaign["intake"]) == ("2098-05-06T07:08", {"every": "1 day"})
    save(browser, campaign_id, end_at="", intake_every="")
    campaign = api.get(f"/v1/campaigns/{campaign_id}").json
    assert (campaign["end_at"], campaign["intake"], campaign["next_intake_at"]) == (None, None, None)


def test_what_is_not_changed_is_not_sent(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    """A new intake would count from now, and the end would lose its seconds."""
    campaign_id = started(api, engine, **INTAKE, new_leads_per_day=5)
    before = api.get(f"/v1/campaigns/{campaign_id}").json
    save(browser, campaign_id)
    save(browser, campaign_id, new_leads_per_day="7")
    after = api.get(f"/v1/campaigns/{campaign_id}").json
    assert after == {**before, "new_leads_per_day": 7, "updated_at": after["updated_at"]}
    assert changed_fields(engine) == [["new_leads_per_day"]]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("max_bounce_rate", "1.5"),
        ("min_emails", "two"),
        ("intake_every", "daily"),
        ("end_at", "tomorrow"),
        ("new_leads_per_day", "many"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    browser: Browser, api: ApiClient, engine: sa.Engine, field: str, text: str
) -> None:
    campaign_id = started(api, engine, **INTAKE, new_leads_per_day=5)
    before = api.get(f"/v1/campaigns/{campaign_id}").json
    refused = save(browser, campaign_id, **{"window_hours": "48", field: text})
    assert refused.status == 422
    assert re.search(rf'<input [^>]*name="{field}"[^>]*>\s*<span class="bad">[^<]+', refused.html)
    assert {name: typed(refused)[name] for name in (field, "window_hours")} == {field: text, "window_hours": "48"}
    assert api.get(f"/v1/campaigns/{campaign_id}").json == before
    # The page has its own address.
    assert limits_of(browser.get(f"/console/campaigns/{campaign_id}/limits"))


def test_each_role_sees_what_it_may_change(browsers: dict[str, Browser], api: ApiClient, engine: sa.Engine) -> None:
    campaign_id = started(api, engine, **INTAKE)
    seen = {}
    for role, browser in browsers.items():
        browser.sign_in()
        form = limits_of(browser.get(f"/console/campaigns/{campaign_id}"))
        seen[role] = [name for name in ("max_bounce_rate", "end_at", "intake_every") if f'name="{name}"' in form]
    guardrails = ["max_bounce_rate"]
    everything = [*guardrails, "end_at", "intake_every"]
    assert seen == {"viewer": [], "editor": guardrails, "sender": everything, "admin": everything}
    page = f"/console/campaigns/{campaign_id}/limits"
    assert "your role is viewer" in browsers["viewer"].get(page).text
    assert browsers["viewer"].post(page, {"min_emails": "7", "guardrails_enabled": ""}).status == 403
    assert browsers["editor"].post(page, {"intake_every": "1 day"}).status == 403
    assert changed_fields(engine) == []


@pytest.mark.parametrize(("values", "offered"), [({}, False), ({"new_leads_per_company_per_day": 3}, True)])
def test_caps_are_offered_where_the_campaign_can_have_them(
    browser: Browser, api: ApiClient, engine: sa.Engine, values: dict[str, int], offered: bool
) -> None:
    campaign_id = started(api, engine, **values)
    assert ('name="new_leads_per_day"' in limits_of(browser.get(f"/console/campaigns/{campaign_id}"))) == offered


@pytest.mark.parametrize("end", ["intake_ended_at", "end_at"])
def test_intake_that_is_over_is_not_offered(browser: Browser, api: ApiClient, engine: sa.Engine, end: str) -> None:
    campaign_id = started(api, engine, evergreen=True)
    page = f"/console/campaigns/{campaign_id}"
    assert 'name="intake_every"' in limits_of(browser.get(page))
    with engine.begin() as connection:
        connection.execute(
            sa.update(campaigns).where(campaigns.c.id == uuid.UUID(campaign_id)).values({end: sa.func.now()})
        )
    assert 'name="intake_every"' not in limits_of(browser.get(page))
    assert 'name="max_bounce_rate"' in limits_of(browser.get(page))
