"""The console's view of steps and variants: the funnel, the winner, and retiring a variant."""

from __future__ import annotations

import re
import uuid

import pytest
import sqlalchemy as sa

from sendledger.campaigns import intake, lifecycle
from sendledger.core.tables import campaigns, email_templates, workflow_step_variants, workflow_steps
from testbed.campaigns import NO_DELAY, make_campaign, make_variants, make_workflow
from testbed.console_browser import Browser
from tests.campaigns.test_intake import new_leads
from tests.functions.campaign_api.api_client import ApiClient

WINNER = {"by": "replied", "test_share": 20, "after_seconds": 14_400}


@pytest.fixture
def campaign_id(engine: sa.Engine) -> uuid.UUID:
    """Running, to ten leads: two variants are tested with two of them, and eight wait for the winner."""
    with engine.connect() as connection:
        workflow_id = make_workflow(connection, [NO_DELAY])
        make_variants(connection, workflow_id, (1, 1))
        connection.execute(sa.update(workflow_steps).values(winner=WINNER))
        id_ = make_campaign(connection, 10, workflow_id=workflow_id, name="Autumn")
    lifecycle.start_campaign(engine, id_)
    return id_


def links(browser: Browser, path: str) -> list[str]:
    return re.findall(r'href="[^"]*/variants/([0-9]/[a-z]+)[?]', browser.get(path).html)


def press(browser: Browser, campaign_id: uuid.UUID, action: str) -> str:
    page = f"/console/campaigns/{campaign_id}/steps/1/variants/{action}"
    return browser.post(page, {"request": browser.get(page).field("request")}).text


def test_variants_are_shown_with_what_decides(browser: Browser, campaign_id: uuid.UUID) -> None:
    text = browser.get(f"/console/campaigns/{campaign_id}").text
    assert "Steps and variants" in text
    assert "20 % of the leads test the variants." in text
    assert "The most replied wins." in text


def test_winner_is_decided_early(browser: Browser, api: ApiClient, campaign_id: uuid.UUID) -> None:
    page = f"/console/campaigns/{campaign_id}/steps/1/variants/2/winner"
    assert "8 emails wait for the winner and go out as variant 2: at once." in browser.get(page).text
    assert "The winner is decided." in press(browser, campaign_id, "2/winner")
    (step,) = api.get(f"/v1/campaigns/{campaign_id}/stats").json["by_step"]
    assert step["winner"]["variant"] == 2
    assert "Winner" in browser.get(f"/console/campaigns/{campaign_id}").text
    assert links(browser, f"/console/campaigns/{campaign_id}") == ["1/retire", "2/retire"]


def test_variant_is_retired(browser: Browser, api: ApiClient, campaign_id: uuid.UUID) -> None:
    page = f"/console/campaigns/{campaign_id}/steps/1/variants/1/retire"
    assert "1 unsent email gets another variant of the step." in browser.get(page).text
    assert "The variant is retired." in press(browser, campaign_id, "1/retire")
    (step,) = api.get(f"/v1/campaigns/{campaign_id}/stats").json["by_step"]
    assert step["variants"][0]["retired_at"] is not None
    # The only one left cannot be retired.
    assert links(browser, f"/console/campaigns/{campaign_id}") == ["2/winner"]


def test_refused_decision_is_explained(browser: Browser, campaign_id: uuid.UUID) -> None:
    press(browser, campaign_id, "1/winner")
    page = f"/console/campaigns/{campaign_id}/steps/1/variants/2/winner"
    refused = browser.post(page, {"request": "other"})
    assert refused.status == 409
    assert "winner" in refused.text


@pytest.mark.parametrize("action", ["1/retire", "1/winner"])
def test_decision_is_about_the_revision_that_was_shown(
    engine: sa.Engine, browser: Browser, api: ApiClient, campaign_id: uuid.UUID, action: str
) -> None:
    with engine.connect() as connection:
        connection.execute(sa.update(campaigns).values(evergreen=True))
        connection.commit()
        shown = browser.get(f"/console/campaigns/{campaign_id}/steps/1/variants/{action}?revision=1")
        # The two variants change places.
        number = workflow_step_variants.c.variant
        connection.execute(sa.update(workflow_step_variants).values(variant=number + 5))
        connection.execute(sa.update(workflow_step_variants).values(variant=8 - number))
        connection.commit()
        taken = intake.add_leads(engine, campaign_id, new_leads(connection, "new@example.com"), "ann")
    assert taken.revision == 2

    fields = {name: shown.field(name) for name in ("request", "revision")}
    browser.post(f"/console/campaigns/{campaign_id}/steps/1/variants/{action}", fields)

    old, new = api.get(f"/v1/campaigns/{campaign_id}/stats").json["by_revision"]
    steps = [each["steps"][0] for each in (old, new)]
    if action == "1/winner":
        assert [step["winner"]["decided_at"] is not None for step in steps] == [True, False]
    else:
        retired = [[each["retired_at"] is not None for each in step["variants"]] for step in steps]
        assert retired == [[True, False], [False, True]]


def test_emails_that_wait_are_those_of_the_revision(
    engine: sa.Engine, browser: Browser, campaign_id: uuid.UUID
) -> None:
    with engine.connect() as connection:
        connection.execute(sa.update(campaigns).values(evergreen=True))
        connection.execute(sa.update(email_templates).values(body_text="Edited"))
        connection.commit()
        leads = new_leads(connection, *(f"new{number}@example.com" for number in range(5)))
        intake.add_leads(engine, campaign_id, leads, "ann")
    page = browser.get(f"/console/campaigns/{campaign_id}/steps/1/variants/2/winner")
    assert re.search(r"\b4 emails wait for the winner", page.text)
    page = browser.get(f"/console/campaigns/{campaign_id}/steps/1/variants/2/winner?revision=1")
    assert re.search(r"\b8 emails wait for the winner", page.text)
    # A retired one is retired in both, with its unsent email in each.
    page = browser.get(f"/console/campaigns/{campaign_id}/steps/1/variants/1/retire")
    assert re.search(r"\b2 unsent emails get another variant", page.text)


def test_unknown_variant_is_said(browser: Browser, campaign_id: uuid.UUID) -> None:
    page = browser.get(f"/console/campaigns/{campaign_id}/steps/1/variants/7/retire")
    assert (page.status, "The campaign has no such variant." in page.text) == (404, True)


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_who_may_not_send_is_offered_no_decision(
    browsers: dict[str, Browser], campaign_id: uuid.UUID, role: str
) -> None:
    browsers[role].sign_in()
    assert links(browsers[role], f"/console/campaigns/{campaign_id}") == []
    page = browsers[role].get(f"/console/campaigns/{campaign_id}/steps/1/variants/1/retire")
    assert f"Your role is {role}" in page.text
    assert "Retire it" not in page.text
