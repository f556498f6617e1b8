"""The console's pages of campaigns and leads: what they show, what each role may do, and actions with their numbers."""

from __future__ import annotations

import datetime as dt
import html
import re
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

import api_resources
from console import campaign_pages
from console.campaign_pages import IN_A_PAGE, MOST_IN_NEED
from local.ses_simulator import SesSimulator
from sendledger.core.tables import (
    audit_log,
    campaign_lanes,
    campaigns,
    email_templates,
    leads,
    replies,
    scheduled_emails,
    workflow_steps,
)
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, statuses
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

EXPORT = "Export its emails"
LIMITS = "Save the limits"
ANN = "ann@example.com"


@pytest.fixture
def campaign_id(engine: sa.Engine) -> uuid.UUID:
    """A draft of two steps to three leads."""
    with engine.connect() as connection:
        return make_campaign(connection, [ANN, "bob@example.com", "cy@example.com"], [NO_DELAY, DAY], name="Autumn")


@pytest.fixture
def running(api: ApiClient, campaign_id: uuid.UUID) -> uuid.UUID:
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    return campaign_id


@pytest.fixture
def bare(engine: sa.Engine) -> uuid.UUID:
    """A draft without content or leads."""
    with engine.begin() as connection:
        created = sa.insert(campaigns).values(name="Bare").returning(campaigns.c.id)
        bare_id: uuid.UUID = connection.execute(created).scalar_one()
    return bare_id


def buttons(browser: Browser, path: str) -> list[str]:
    """What can be pressed on a page, the frame left out."""
    page = browser.get(path).html.partition("<main")[2]
    return re.findall(r'(?:<button[^>]*>|<a class="button[^>]*>)([^<]+)<', page)


def act(browser: Browser, campaign_id: uuid.UUID, name: str, **form: str) -> str:
    """Press the button of an action's page; what the next page says."""
    page = f"/console/campaigns/{campaign_id}/{name}"
    return browser.post(page, {"request": browser.get(page).field("request"), **form}).text


# What is shown


def test_empty_console_says_what_a_campaign_is(browser: Browser) -> None:
    assert "No campaigns yet" in browser.get("/console/campaigns").text


def test_list_shows_each_campaign_with_its_progress(browser: Browser, running: uuid.UUID) -> None:
    text = browser.get("/console/campaigns").text
    assert "Autumn Running" in text
    assert "6 pending" in text


def test_campaign_that_has_paused_itself_is_shown_first(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        stopped = make_campaign(connection, 1, name="Stopped")
        make_campaign(connection, 1, name="Newer")
    with engine.begin() as connection:
        reason = "The bounce rate is too high."
        changed = sa.update(campaigns).where(campaigns.c.id == stopped)
        connection.execute(changed.values(status="paused", failure_reason=reason, paused_at=sa.func.now()))
    text = browser.get("/console/campaigns").text
    assert text.index("Need attention") < text.index("Stopped") < text.index("All others") < text.index("Newer")
    assert text.count("Stopped") == 1
    assert "The bounce rate is too high." in text


def test_campaign_whose_edited_workflow_cannot_be_sent_needs_attention(
    browser: Browser, running: uuid.UUID, engine: sa.Engine
) -> None:
    with engine.connect() as connection:
        make_campaign(connection, 1, name="Newer")
    with engine.begin() as connection:
        errors = [{"field": "track_opens", "message": "must be true: step 2 asks it"}]
        connection.execute(sa.update(campaigns).where(campaigns.c.id == running).values(workflow_errors=errors))
    text = browser.get("/console/campaigns").text
    assert text.index("Need attention") < text.index("Autumn") < text.index("All others") < text.index("Newer")
    assert "The edited workflow cannot be sent" in text
    assert "must be true: step 2 asks it" in browser.get(f"/console/campaigns/{running}").text


def test_campaigns_that_need_attention_are_found_however_old_they_are(
    browser: Browser, running: uuid.UUID, engine: sa.Engine
) -> None:
    reason = {"failure_reason": "It was so."}
    needing: dict[str, dict[str, object]] = {
        "Paused": {"status": "paused", **reason},
        "Failed": {"status": "failed", **reason},
        "Waiting": {"status": "scheduled", "start_type": "scheduled", "scheduled_start_at": sa.func.now(), **reason},
    }
    with engine.connect() as connection:
        ids = {name: make_campaign(connection, 0, name=name) for name in needing}
        # Newer ones: paused by a person, stopped by nobody, and drafts.
        paused = [make_campaign(connection, 0, name=f"By hand {number}") for number in range(MOST_IN_NEED)]
        for number in range(IN_A_PAGE):
            make_campaign(connection, 0, name=f"Draft {number}")
    with engine.begin() as connection:
        for name, values in needing.items():
            connection.execute(sa.update(campaigns).where(campaigns.c.id == ids[name]).values(**values))
        connection.execute(sa.update(campaigns).where(campaigns.c.id.in_(paused)).values(status="paused"))
        connection.execute(sa.update(campaigns).where(campaigns.c.id == running).values(late_hold_until=sa.func.now()))
    text = browser.get("/console/campaigns").text
    needed = text[text.index("Need attention") : text.index("All others")]
    assert all(name in needed for name in ("Autumn", *needing))
    assert "By hand" not in needed
    assert "Draft" not in needed


def test_all_campaigns_that_need_attention_have_a_list(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        make_campaign(connection, 0, name="Well")
        for number in range(MOST_IN_NEED + 1):
            make_campaign(connection, 0, name=f"Stopped {number:02}")
    with engine.begin() as connection:
        stopped = sa.update(campaigns).where(campaigns.c.name != "Well")
        connection.execute(stopped.values(status="failed", failure_reason="It was so."))
    first = browser.get("/console/campaigns")
    (link,) = re.findall(r'href="([^"]*attention=[^"]*)"', first.html)
    listed = browser.get(link.replace("&amp;", "&")).text
    assert all(f"Stopped {number:02}" in listed for number in range(MOST_IN_NEED + 1))
    assert "Well" not in listed


def test_list_by_status_shows_no_other(browser: Browser, running: uuid.UUID, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        make_campaign(connection, 1, name="Draft of mine")
    text = browser.get("/console/campaigns?status=draft").text
    assert "Draft of mine" in text
    assert "Autumn" not in text


def test_long_list_goes_on_on_a_next_page(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for number in range(21):
            make_campaign(connection, 0, name=f"Campaign {number:02}")
    first = browser.get("/console/campaigns")
    (link,) = re.findall(r'href="([^"]*cursor=[^"]*)"', first.html)
    second = browser.get(link.replace("&amp;", "&"))
    seen = [set(re.findall(r"Campaign \d\d", page.text)) for page in (first, second)]
    assert [len(names) for names in seen] == [20, 1]
    assert not seen[0] & seen[1]


def test_campaign_shows_why_nothing_is_sent(browser: Browser, running: uuid.UUID) -> None:
    assert "The sender does not run" in browser.get(f"/console/campaigns/{running}").text


def test_campaign_shows_its_steps_and_content(browser: Browser, running: uuid.UUID) -> None:
    text = browser.get(f"/console/campaigns/{running}").text
    assert "Step 1 for {{ first_name }}" in text
    assert "1 day after the step before" in text
    assert "6 emails to 3 leads" in text


def test_live_part_is_the_campaign_without_the_frame(browser: Browser, running: uuid.UUID) -> None:
    part = browser.get(f"/console/campaigns/{running}/live")
    assert 'data-status="running"' in part.html
    assert "<html" not in part.html


def test_campaign_without_content_or_leads_is_shown(browser: Browser, bare: uuid.UUID) -> None:
    assert "It has no content yet." in browser.get(f"/console/campaigns/{bare}").text


def test_emails_are_listed_with_their_leads(browser: Browser, running: uuid.UUID) -> None:
    text = browser.get(f"/console/campaigns/{running}/emails?status=pending").text
    assert text.count(ANN) == 2
    assert "Ann0 Lee" in text


def test_emails_of_one_step_are_listed(browser: Browser, running: uuid.UUID) -> None:
    assert browser.get(f"/console/campaigns/{running}/emails?step=2").text.count(ANN) == 1


def test_emails_that_wait_say_why(browser: Browser, api: ApiClient, running: uuid.UUID) -> None:
    path = f"/console/campaigns/{running}/emails"
    diagnosis = api.get(f"/v1/campaigns/{running}/diagnose").json
    assert diagnosis["cause"]
    first, second = (browser.get(f"{path}?step={step}").text for step in (1, 2))
    assert (first.count(diagnosis["message"]), first.count("It waits for its time.")) == (3, 0)
    assert (second.count(diagnosis["message"]), second.count("It waits for its time.")) == (0, 3)


HELD = "It is held since an outage. Decide about the late emails"


def test_emails_that_are_held_since_an_outage_say_so(
    browser: Browser, api: ApiClient, running: uuid.UUID, engine: sa.Engine
) -> None:
    hour = dt.timedelta(hours=1)
    with engine.begin() as connection:
        connection.execute(sa.update(campaigns).values(late_hold_until=sa.func.now() - hour))
        of_ann = scheduled_emails.c.lead_id == sa.select(leads.c.id).where(leads.c.email == ANN).scalar_subquery()
        late = sa.update(scheduled_emails).where(of_ann, scheduled_emails.c.workflow_step_number == 1)
        connection.execute(late.values(scheduled_for=sa.func.now() - 2 * hour))
    message = api.get(f"/v1/campaigns/{running}/diagnose").json["message"]
    shown = browser.get(f"/console/campaigns/{running}/emails")
    assert [shown.text.count(each) for each in (HELD, message, "It waits for its time.")] == [1, 2, 3]
    assert shown.html.count(f'href="/console/campaigns/{running}/late-emails"') == 1


def test_emails_of_which_some_lanes_are_held_say_that_they_may_be(
    browser: Browser, api: ApiClient, engine: sa.Engine
) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1, new_leads_per_day=2)
    api.post(f"/v1/campaigns/{campaign_id}/start")
    with engine.begin() as connection:
        connection.execute(sa.update(campaign_lanes).values(late_hold_until=sa.func.now()))
    message = api.get(f"/v1/campaigns/{campaign_id}/diagnose").json["message"]
    text = browser.get(f"/console/campaigns/{campaign_id}/emails").text
    assert f"It may be held since an outage. If it is not: {message} Decide about the late emails" in text


def test_emails_are_listed_by_reason(browser: Browser, running: uuid.UUID, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        change = sa.update(scheduled_emails).where(scheduled_emails.c.workflow_step_number == 2)
        connection.execute(change.values(status="skipped", reason="suppressed"))
        of_ann = scheduled_emails.c.lead_id == sa.select(leads.c.id).where(leads.c.email == ANN).scalar_subquery()
        connection.execute(change.where(of_ann).values(reason="replied"))
    path = f"/console/campaigns/{running}/emails"
    # A reason finds no email with another status.
    for query in ("reason=replied", "reason=replied&status=skipped", "reason=replied&status=pending"):
        text = browser.get(f"{path}?{query}").text
        assert (text.count(ANN), "bob@example.com" in text) == (1, False)
    assert "There is no such email." in browser.get(f"{path}?reason=late").text


def test_emails_of_a_lead_are_found_by_its_name_and_address(
    browser: Browser, running: uuid.UUID, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(leads).where(leads.c.email == ANN).values(contact_name="Ann Lee"))
    with engine.connect() as connection:
        make_campaign(connection, ["anna@example.com"], name="Another")
    path = f"/console/campaigns/{running}/emails"
    for search in ("ann+lee", "ann%40EXAMPLE.com", "ann%40exam"):
        text = browser.get(f"{path}?search={search}").text
        assert (text.count("Ann Lee"), "bob@example.com" in text, "anna@example.com" in text) == (2, False, False)
    assert browser.get(f"{path}?search={ANN}&step=2").text.count("Ann Lee") == 1
    assert "There is no such email." in browser.get(f"{path}?search=nobody").text


def test_search_among_emails_says_that_there_are_more_leads(
    browser: Browser, running: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_pages, "LEADS_OF_A_SEARCH", 2)
    text = browser.get(f"/console/campaigns/{running}/emails?search=example.com").text
    assert "Only the newest leads that fit are shown." in text


def test_left_out_leads_are_listed_with_the_reason(browser: Browser, api: ApiClient, campaign_id: uuid.UUID) -> None:
    api.post("/v1/suppressions", {"value": ANN})
    api.post(f"/v1/campaigns/{campaign_id}/start")
    assert "Left out: suppressed" in browser.get(f"/console/campaigns/{campaign_id}").text
    assert ANN in browser.get(f"/console/campaigns/{campaign_id}/left-out?reason=suppressed").text


def test_deleted_lead_leaves_its_rows(browser: Browser, running: uuid.UUID, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.delete(leads).where(leads.c.email == ANN))
    page = browser.get(f"/console/campaigns/{running}/emails")
    assert page.status == 200
    assert "deleted" in page.text


def test_lead_shows_what_happened_to_it(
    browsers: dict[str, Browser], api: ApiClient, engine: sa.Engine, running: uuid.UUID
) -> None:
    lead = api.get("/v1/leads", email=ANN).json["items"][0]
    reply = {"message_id": "<1@example.com>", "source": "api", "from_address": ANN, "subject": "Yes please"}
    with engine.begin() as connection:
        connection.execute(sa.insert(replies).values(**reply, body_text="Call me", lead_id=lead["id"]))
        skipped = sa.update(scheduled_emails).where(scheduled_emails.c.lead_id == lead["id"])
        connection.execute(skipped.values(status="skipped", reason="replied"))
    for role in ("admin", "viewer"):
        browsers[role].sign_in()
    text = browsers["admin"].get(f"/console/leads/{lead['id']}").text
    assert "Yes please" in text
    assert "Step 2 of Autumn" in text
    assert "The lead replied to an earlier email." in text
    assert "Answer it or set its outcome" in text
    seen_by_viewer = browsers["viewer"].get(f"/console/leads/{lead['id']}").text
    assert "Open the reply" in seen_by_viewer
    assert "Answer it" not in seen_by_viewer


def test_lead_of_many_campaigns_is_shown(browser: Browser, engine: sa.Engine, running: uuid.UUID) -> None:
    """The newest emails are planned, and what happened last is of other campaigns."""
    copies = 230
    with engine.begin() as connection:
        row = connection.execute(sa.select(scheduled_emails).order_by(scheduled_emails.c.id).limit(1)).mappings().one()
        names = [{"name": f"Spring {number}"} for number in range(copies)]
        ids = connection.scalars(sa.insert(campaigns).returning(campaigns.c.id), names).all()
        steps = """INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
                   SELECT id, 1, interval '0', 's', 't' FROM campaigns WHERE name LIKE 'Spring %'"""
        connection.execute(sa.text(steps))
        kept = {name: row[name] for name in ("lead_id", "workflow_step_number", "scheduled_for", "template_id", "lane")}
        now = row["created_at"]
        emails = [
            {**kept, "campaign_id": id_, "created_at": now + (copies - place) * DAY} for place, id_ in enumerate(ids)
        ]
        connection.execute(sa.insert(scheduled_emails), emails)
    shown = browser.get(f"/console/leads/{row['lead_id']}")
    assert shown.status == 200
    assert "Step 1 of Spring 0 " in shown.text
    assert "Step 1 of Spring 229 " in shown.text


def test_leads_are_searched(browser: Browser, running: uuid.UUID) -> None:
    text = browser.get("/console/leads?search=bob%40&status=").text
    assert "bob@example.com" in text
    assert ANN not in text


def test_leads_that_fit_no_filter_are_looked_for_in_parts(
    browser: Browser, running: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.lead_pages.LOOKED_THROUGH", 2)
    shown = browser.get("/console/leads?search=nobody")
    assert "None of the newest 2 leads fits." in shown.text
    further = re.search(r'href="([^"]+)" data-further', shown.html)
    assert further
    # The campaign has three leads.
    assert "No lead fits." in browser.get(html.unescape(further[1])).text


def test_whole_address_is_found_however_old_its_lead_is(
    browser: Browser, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("first@example.com", "second@example.com", "third@example.com"):
        api.post("/v1/leads", {"email": address})
    monkeypatch.setattr("console.lead_pages.LOOKED_THROUGH", 1)
    assert browser.get("/console/leads?search=First@example.com").text.count("first@example.com") >= 1
    assert "None of the newest 1 leads fits." in browser.get("/console/leads?search=first@").text


# Actions


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("viewer", []),
        ("editor", [EXPORT, LIMITS]),
        ("sender", ["Pause", "Cancel", EXPORT, LIMITS]),
        ("admin", ["Pause", "Cancel", EXPORT, LIMITS]),
    ],
)
def test_nobody_sees_a_button_that_would_be_refused(
    browsers: dict[str, Browser], running: uuid.UUID, role: str, expected: list[str]
) -> None:
    browsers[role].sign_in()
    assert buttons(browsers[role], f"/console/campaigns/{running}") == expected


def test_viewer_who_opens_an_action_sees_why_not(browsers: dict[str, Browser], running: uuid.UUID) -> None:
    browsers["viewer"].sign_in()
    page = f"/console/campaigns/{running}/pause"
    assert "your role is viewer" in browsers["viewer"].get(page).text
    assert browsers["viewer"].post(page, {"request": "x"}).status == 403


@pytest.mark.parametrize("status", ["draft", "running", "paused", "completed", "cancelled"])
def test_status_decides_which_buttons_there_are(browser: Browser, engine: sa.Engine, status: str) -> None:
    expected = {
        "draft": ["Edit", "Start"],
        "running": ["Pause", "Cancel"],
        "paused": ["Resume", "Cancel"],
        "completed": [],
        "cancelled": [],
    }
    with engine.connect() as connection:
        some = make_campaign(connection, 1, status=status)
    limits = [LIMITS] if status in ("running", "paused") else []
    assert buttons(browser, f"/console/campaigns/{some}") == [*expected[status], EXPORT, *limits]


def test_start_shows_how_many_emails_it_will_send(browser: Browser, campaign_id: uuid.UUID) -> None:
    text = browser.get(f"/console/campaigns/{campaign_id}/start").text
    assert "Leads 3 Emails 6" in text


def test_start_that_would_be_refused_says_why(browser: Browser, bare: uuid.UUID) -> None:
    page = browser.get(f"/console/campaigns/{bare}/start")
    assert "It has no leads yet." in page.text
    assert "disabled" in page.html
    assert browser.post(f"/console/campaigns/{bare}/start", {"request": "x"}).status == 422


def test_check_and_start_lead_to_the_template_that_cannot_be_sent(
    browser: Browser, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        steps = connection.execute(sa.select(workflow_steps).order_by(workflow_steps.c.step_number)).mappings().all()
        wrong = steps[1]["email_template_id"]
        change = sa.update(email_templates).where(email_templates.c.id == wrong)
        connection.execute(change.values(subject="Dear {{ nobody }}"))
    for page in (f"/console/campaigns/{campaign_id}/{name}" for name in ("start", "edit/check")):
        assert f'<a href="/console/templates/{wrong}">Fix the template</a>' in browser.get(page).html
    assert "See the state of sending" in browser.get(page).text


def test_campaign_is_started_paused_resumed_and_cancelled(
    browser: Browser, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    assert "The campaign is started." in act(browser, campaign_id, "start")
    assert "6 emails wait" in browser.get(f"/console/campaigns/{campaign_id}/pause").text
    assert "The campaign is paused." in act(browser, campaign_id, "pause")
    assert "Up to 6 emails wait" in browser.get(f"/console/campaigns/{campaign_id}/resume").text
    assert "The campaign runs again." in act(browser, campaign_id, "resume")
    assert statuses(engine, campaign_id) == {"pending": 6}
    assert "6 emails will never be sent" in browser.get(f"/console/campaigns/{campaign_id}/cancel").text
    act(browser, campaign_id, "cancel")
    assert campaign_row(engine, campaign_id)["status"] == "cancelled"


def test_action_is_in_the_audit_log_under_the_key(browser: Browser, engine: sa.Engine, running: uuid.UUID) -> None:
    act(browser, running, "pause")
    with engine.begin() as connection:
        actor = connection.scalar(sa.select(audit_log.c.actor).where(audit_log.c.action == "campaign.pause"))
    assert str(actor).startswith("api_key:")


def test_form_that_is_sent_twice_acts_once(browser: Browser, running: uuid.UUID) -> None:
    page = f"/console/campaigns/{running}/pause"
    request = browser.get(page).field("request")
    assert [browser.post(page, {"request": request}, follow=False).status for _ in range(2)] == [303, 303]


def test_action_that_came_too_late_is_explained(browser: Browser, api: ApiClient, running: uuid.UUID) -> None:
    page = f"/console/campaigns/{running}/pause"
    request = browser.get(page).field("request")
    api.post(f"/v1/campaigns/{running}/cancel")
    refused = browser.post(page, {"request": request})
    assert refused.status == 409
    assert "cancelled" in refused.text


def test_action_from_another_site_changes_nothing(browser: Browser, engine: sa.Engine, running: uuid.UUID) -> None:
    page = f"/console/campaigns/{running}/pause"
    request = browser.get(page).field("request")
    refused = browser.post(page, {"request": request}, {"sec-fetch-site": "cross-site"})
    assert refused.status == 403
    assert campaign_row(engine, running)["status"] == "running"


def unknown_outcome(engine: sa.Engine, campaign_id: uuid.UUID) -> int:
    """The id of one of its emails, of which nobody knows whether it was sent."""
    with engine.begin() as connection:
        row = sa.select(sa.func.min(scheduled_emails.c.id)).where(scheduled_emails.c.campaign_id == campaign_id)
        row_id: int = connection.execute(row).scalar_one()
        failed = {"status": "failed", "error_code": "outcome_unknown", "failed_at": sa.func.now()}
        started = {"send_started_at": sa.func.now(), "failure_reason": "no answer", "claim_token": uuid.uuid4()}
        change = sa.update(scheduled_emails).where(scheduled_emails.c.id == row_id)
        connection.execute(change.values(**failed, **started))
    return row_id


@pytest.mark.parametrize(("action", "status"), [("mark-sent", "sent"), ("requeue", "pending")])
def test_email_of_unknown_outcome_is_settled(
    browser: Browser, engine: sa.Engine, running: uuid.UUID, action: str, status: str
) -> None:
    row_id = unknown_outcome(engine, running)
    listed = browser.get(f"/console/campaigns/{running}/emails?error_code=outcome_unknown")
    assert f"/console/scheduled-emails/{row_id}" in listed.html
    page = browser.get(f"/console/scheduled-emails/{row_id}")
    assert "the recipient gets it twice" in page.text
    path = f"/console/scheduled-emails/{row_id}/{action}"
    form = re.search(
        f'action="{path}">.*?name="request" value="([^"]+)"', browser.get(f"/console/campaigns/{running}").html
    )
    assert form, "the campaign's page does not offer it"
    settled = browser.post(path, {"request": form[1]})
    assert settled.status == 200, settled.text
    with engine.begin() as connection:
        query = sa.select(scheduled_emails.c.status).where(scheduled_emails.c.id == row_id)
        assert connection.scalar(query) == status


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_email_of_a_campaign_that_has_ended_is_not_offered_to_be_sent_again(
    browser: Browser, engine: sa.Engine, running: uuid.UUID, status: str
) -> None:
    row_id = unknown_outcome(engine, running)
    with engine.begin() as connection:
        connection.execute(sa.update(campaigns).values(status=status))
    for path in (f"/console/scheduled-emails/{row_id}", f"/console/campaigns/{running}"):
        shown = browser.get(path)
        assert ("/mark-sent" in shown.html, "/requeue" in shown.html) == (True, False)


def test_email_to_a_lead_that_was_taken_out_is_not_offered_to_be_sent_again(
    browser: Browser, api: ApiClient, engine: sa.Engine, running: uuid.UUID
) -> None:
    row_id = unknown_outcome(engine, running)
    lead_id = api.get(f"/v1/scheduled-emails/{row_id}").json["lead_id"]
    assert api.delete(f"/v1/campaigns/{running}/leads/{lead_id}").status == 200
    for path in (f"/console/scheduled-emails/{row_id}", f"/console/campaigns/{running}"):
        shown = browser.get(path)
        assert ("/mark-sent" in shown.html, "/requeue" in shown.html) == (True, False)


def test_viewer_cannot_settle(browsers: dict[str, Browser], engine: sa.Engine, running: uuid.UUID) -> None:
    row_id = unknown_outcome(engine, running)
    browsers["viewer"].sign_in()
    for path in (f"/console/scheduled-emails/{row_id}", f"/console/campaigns/{running}"):
        assert buttons(browsers["viewer"], path) == []


# Errors


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/no-such-page", 404),
        ("/console/campaigns/x", 404),
        ("/console/campaigns/123e4567-e89b-12d3-a456-426614174000", 404),
        ("/console/campaigns/123e4567-e89b-12d3-a456-426614174000/pause", 404),
        ("/console/leads/123e4567-e89b-12d3-a456-426614174000", 404),
        ("/console/scheduled-emails/999999", 404),
        ("/console/campaigns?status=nonsense", 422),
        ("/console/campaigns?cursor=nonsense", 422),
        ("/console/leads?search=%00", 422),
        ("/console/leads?batch_id=1", 422),
        ("/console/assets/0000000000000000/console.css", 404),
        ("/console/assets/0000000000000000/passwd", 404),
    ],
)
def test_errors_are_shown_as_a_page(browser: Browser, path: str, status: int) -> None:
    page = browser.get(path)
    assert page.status == status
    assert "Go to the campaigns" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_other_methods_are_refused(browser: Browser) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    refused = browser.send("DELETE", "/console/campaigns", headers=headers, follow=False)
    assert refused.status == 405
    assert refused.headers["allow"] == "GET"


def test_fault_of_ours_is_a_page_with_the_id_for_the_log(
    browser: Browser, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE leads RENAME TO leads_away"))
    try:
        page = browser.get("/console/leads")
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE leads_away RENAME TO leads"))
    assert page.status == 500
    assert "Correlation id" in page.text
    assert "leads_away" not in page.text


@pytest.mark.parametrize("name", ["start", "cancel"])
def test_token_for_an_assistant_is_made_and_works(
    browser: Browser, api: ApiClient, campaign_id: uuid.UUID, name: str
) -> None:
    if name == "cancel":
        assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    path = f"/console/campaigns/{campaign_id}/{name}"
    made = browser.post(f"{path}/confirmation", {"request": browser.get(path).field("request")})
    found = re.search(r'<code class="secret">([^<]+)</code>', made.html)
    assert found, made.text
    headers = {"Sendledger-Confirmation": found[1]}
    assert api.request("POST", f"/v1/campaigns/{campaign_id}/{name}", body={}, headers=headers).status == 200


def test_intake_of_an_evergreen_campaign_is_ended(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, [ANN], evergreen=True)
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    page = f"/console/campaigns/{campaign_id}"
    assert "End the intake" in buttons(browser, page)
    asked = browser.get(f"{page}/finish")
    assert "1 emails wait and still go out." in asked.text
    assert "takes in no more leads." in browser.post(f"{page}/finish", {"request": asked.field("request")}).text
    assert "End the intake" not in buttons(browser, page)


def test_segments_and_evergreen_are_chosen_in_the_form(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    condition = {"kind": "field", "field": "city", "values": ["Bath"]}
    segment = api.post("/v1/segments", {"name": "Bath", "filter": condition})
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, [ANN])
    form = {"name": "Autumn", "segment_ids": segment.json["id"], "evergreen": "yes"}
    browser.post(f"/console/campaigns/{campaign_id}/edit/leads", form, follow=False)
    campaign = api.get(f"/v1/campaigns/{campaign_id}").json
    assert (campaign["segment_ids"], campaign["evergreen"]) == ([segment.json["id"]], True)
    html = browser.get(f"/console/campaigns/{campaign_id}/edit/leads").html
    assert f'name="segment_ids" value="{segment.json["id"]}" checked' in html


@pytest.fixture
def ses_account(ses: SesSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API asks the simulator."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    api_resources.ses_client.cache_clear()
    yield
    api_resources.ses_client.cache_clear()


@pytest.mark.usefixtures("ses_account")
def test_days_ahead_are_shown_with_what_holds_others_back(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    sender = api.post("/v1/senders", {"from_address": "ann@example.com", "daily_cap": 2}).json
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 5, sender_ids=[sender["id"]])
    assert "The days ahead" in browser.get(f"/console/campaigns/{campaign_id}").text
    page = browser.get(f"/console/campaigns/{campaign_id}/plan").html
    (part,), (link,) = re.findall(r'data-later="([^"]+)"', page), re.findall(r'href="([^"]+wait=yes)"', page)
    plan = api.get(f"/v1/campaigns/{campaign_id}/plan").json
    for shown in (browser.get(part), browser.get(link)):
        assert "The last email goes out" in shown.text
        assert "Sender cap" in shown.text
        assert sum(f"{day['date']} {day['emails']}" in shown.text for day in plan["days"]) == 3


PLANNED = re.compile(r'data-later="/console/campaigns/([^/]+)/plan/end"')


@pytest.fixture
def capped(api: ApiClient, engine: sa.Engine) -> list[str]:
    """Four running campaigns with three emails each, which wait for a cap: no rate tells when they end."""
    with engine.connect() as connection:
        ids = [str(make_campaign(connection, 3, new_leads_per_day=2)) for _ in range(4)]
    assert {api.post(f"/v1/campaigns/{id_}/start").status for id_ in ids} == {200}
    return ids


@pytest.mark.usefixtures("ses_account")
def test_list_shows_when_a_campaign_with_a_cap_will_be_done(
    browser: Browser, api: ApiClient, capped: list[str]
) -> None:
    planned = PLANNED.findall(browser.get("/console/campaigns").html)
    assert (len(planned), set(planned) - set(capped)) == (campaign_pages.MOST_PLANNED, set())
    before = api.get(f"/v1/campaigns/{planned[0]}/plan").json["finishes_at"]
    shown = re.match('Done <time datetime="([^"Z]+)', browser.get(f"/console/campaigns/{planned[0]}/plan/end").html)
    after = api.get(f"/v1/campaigns/{planned[0]}/plan").json["finishes_at"]
    assert shown
    assert before[:19] <= shown[1] <= after[:19]


@pytest.mark.usefixtures("capped")
@pytest.mark.parametrize(("limit", "most"), [("MOST_FORECAST", 11), ("IN_A_PAGE", 3)])
def test_list_plans_nothing_while_much_waits_or_other_campaigns_run(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    assert PLANNED.search(browser.get("/console/campaigns").html)
    monkeypatch.setattr(campaign_pages, limit, most)
    shown = browser.get("/console/campaigns").html
    assert not PLANNED.search(shown)
    assert "When it will be done" in shown


def test_end_that_no_plan_tells_stays_a_link(browser: Browser, api: ApiClient, running: uuid.UUID) -> None:
    api.post(f"/v1/campaigns/{running}/pause")
    assert f'href="/console/campaigns/{running}/plan"' in browser.get(f"/console/campaigns/{running}/plan/end").html


def test_campaign_that_has_ended_has_no_days_ahead(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1, status="cancelled")
    assert "The days ahead" not in browser.get(f"/console/campaigns/{campaign_id}").text
