"""The pages in a real browser, on the local stack: the console, from a file of leads to the end of their campaign, the
API's documentation, and the inbox.

They need a Chromium of this machine. axe looks at each page of the console (WCAG 2.2 AA), which fits into 360 pixels.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Route, expect

from local.api_client import ApiClient
from local.campaigns_of_emails import CampaignsOfEmails
from local.replies_to_inbox import RepliesToInbox
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys
from testbed import browser
from testbed.campaigns import DAY, MINUTE, pass_time
from tests.acceptance.campaign_story import act, make_campaign

PATIENCE = 300_000
"""Milliseconds: the machine may be busy."""
ONLY_VIOLATIONS = {"resultTypes": ["violations"]}
"""Otherwise axe also describes each element that keeps a rule, which takes it most of its time."""
RULES = {**ONLY_VIOLATIONS, "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
CONTRAST = {**ONLY_VIOLATIONS, "runOnly": {"type": "rule", "values": ["color-contrast"]}}
LEADS = "Email,First Name,Company\nann@example.com,Ann,Acme\nbob@example.com,Bob,Bobs\nnobody,,\n"

# In CI they fail without one.
pytestmark = pytest.mark.skipif(browser.PATH is None and "CI" not in os.environ, reason=browser.MISSING)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert browser.PATH is not None, browser.MISSING
    expect.set_options(timeout=PATIENCE)
    with browser.chromium() as opened:
        yield opened


@pytest.fixture
def key(engine: sa.Engine) -> str:
    with engine.begin() as connection:
        return api_keys.create(connection, "acceptance", "admin").key


@pytest.fixture
def page(chromium: Browser, stack: LocalStack, key: str) -> Iterator[Page]:
    """A page that is signed in by the address that `make run` prints. An error of a script or of the policy fails."""
    context = chromium.new_context(base_url=stack.url)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    opened.goto(f"/console/sign-in#{key}")
    opened.wait_for_url("**/console/campaigns")
    yield opened
    context.close()
    assert errors == []


def violations(page: Page, options: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The rules that are broken, each with the elements."""
    axe = Axe()
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe.axe_script)
    found = page.evaluate("options => axe.run(options).then(found => found.violations)", options)
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def faults(page: Page) -> list[object]:
    """Violations that axe knows, in light and in dark, and the width of the page if it goes beyond a small phone."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found: list[object] = [*violations(page, RULES)]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += violations(page, CONTRAST)
    before = page.viewport_size
    page.set_viewport_size({"width": 360, "height": 740})
    width = page.evaluate("document.documentElement.scrollWidth")
    if before is not None:
        page.set_viewport_size(before)
    return found if width == 360 else [*found, f"is {width} pixels wide"]


def assert_good_to_use(page: Page) -> None:
    assert faults(page) == [], page.url


def open_from_menu(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()
    expect(page.get_by_role("main")).to_be_visible()


def import_leads(page: Page, folder: Path) -> None:
    file = folder / "leads.csv"
    file.write_text(LEADS)
    open_from_menu(page, "Import")
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("Nothing is imported yet.")).to_be_visible()
    page.get_by_role("combobox", name="Company").select_option("Notes")
    assert_good_to_use(page)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_role("button", name="Check the file")).to_be_enabled()
    expect(page.get_by_role("combobox", name="Company")).to_have_value("notes Company")
    page.get_by_role("combobox", name="Company").select_option("Company name")
    with page.expect_download():
        page.get_by_role("button", name="Get them as a file").click()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("The file is imported.")).to_be_visible()


def write_emails(page: Page) -> None:
    for name in ("First", "Second"):
        open_from_menu(page, "Templates")
        page.get_by_role("link", name="New template").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Subject").fill(name + " mail for {{ first_name }}")
        page.get_by_label("Text", exact=True).fill("Dear {{ first_name }} of {{ company_name }}")
        page.get_by_label("HTML", exact=True).fill("<p>Dear {{ first_name }}</p>")
        # What is typed is shown before it is saved.
        expect(page.get_by_text(f"{name} mail for")).to_be_visible()
        expect(page.frame_locator("iframe").get_by_text("Dear ")).to_be_visible()
        assert_good_to_use(page)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", name="Preview")).to_be_visible()
        expect(page.get_by_text(f"{name} mail for")).to_be_visible()
        assert_good_to_use(page)
    open_from_menu(page, "Workflows")
    page.get_by_role("link", name="New workflow").click()
    page.get_by_label("Name", exact=True).fill("Two mails")
    page.locator('select[name="template"]').nth(0).select_option("First")
    page.locator('select[name="template"]').nth(1).select_option("Second")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Two mails")).to_be_visible()
    assert_good_to_use(page)


def save_and_go_on(page: Page) -> None:
    page.get_by_role("button", name="Save and go on").click()


def start_campaign(page: Page) -> None:
    open_from_menu(page, "Campaigns")
    assert_good_to_use(page)
    page.get_by_role("link", name="New campaign").click()
    page.get_by_label("Name", exact=True).fill("Autumn")
    page.get_by_role("checkbox").first.check()
    assert_good_to_use(page)
    save_and_go_on(page)
    page.get_by_role("radio", name="Two mails").check()
    assert_good_to_use(page)
    save_and_go_on(page)
    page.get_by_label("Most first emails a day").fill("100")
    assert_good_to_use(page)
    save_and_go_on(page)
    expect(page.get_by_role("heading", name="Check the campaign")).to_be_visible()
    page.reload()
    assert_good_to_use(page)
    page.get_by_role("link", name="See the emails").click()
    expect(page.get_by_text("First mail for")).to_have_count(2)
    page.get_by_role("link", name="Email 2").click()
    expect(page.get_by_text("Second mail for")).to_have_count(2)
    assert_good_to_use(page)
    page.get_by_role("link", name="Go on to the start").click()
    expect(page.get_by_role("heading", name="Start this campaign")).to_be_visible()
    assert_good_to_use(page)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("The campaign is started.")).to_be_visible()


def reply_as_recipient(page: Page, ses: SesSimulator, address: str, text: str) -> None:
    """In the simulator's inbox, in a tab of its own."""
    inbox = page.context.new_page()
    inbox.goto(f"{ses.url}/?to={address}")
    inbox.get_by_role("cell").get_by_role("link").first.click()
    inbox.get_by_label("Text").fill(text)
    inbox.get_by_role("button", name="Send the reply").click()
    expect(inbox.get_by_text("It has arrived.")).to_be_visible()
    inbox.close()


def test_campaign_is_run_from_the_file_to_its_end(
    page: Page, stack: LocalStack, ses: SesSimulator, key: str, engine: sa.Engine, tmp_path: Path
) -> None:
    ses.inbox.reply = RepliesToInbox(ApiClient(stack.url, key))
    import_leads(page, tmp_path)
    write_emails(page)
    start_campaign(page)
    main = page.get_by_role("main")
    expect(main.get_by_text("4 pending")).to_be_visible()
    # Loaded after the page.
    expect(main.get_by_role("heading", name="The days ahead")).to_be_visible()

    stack.tick()
    # The page tells by itself.
    expect(main.get_by_role("link", name="2 sent")).to_be_visible()
    assert_good_to_use(page)

    reply_as_recipient(page, ses, "ann@example.com", "Call me")
    open_from_menu(page, "Replies")
    page.get_by_role("link", name="Re: First mail for Ann").click()
    page.get_by_role("radio", name="Interested", exact=False).first.check()
    page.get_by_role("button", name="Set the outcome").click()
    expect(page.get_by_text("The outcome is kept")).to_be_visible()
    open_from_menu(page, "Leads")
    assert_good_to_use(page)
    page.get_by_role("link", name="Ann").click()
    page.get_by_text("Read it").click()
    expect(page.get_by_text("Call me")).to_be_visible()
    expect(page.get_by_text("The lead replied to an earlier email.")).to_be_visible()
    assert_good_to_use(page)
    page.get_by_role("link", name="First mail for Ann", exact=True).click()
    expect(page.frame_locator("iframe").get_by_text("Dear Ann")).to_be_visible()
    assert_good_to_use(page)

    open_from_menu(page, "Campaigns")
    page.get_by_role("link", name="Autumn").click()
    # New leads have a cap unless the form says otherwise: so what follows is due in whole minutes, rounded up.
    pass_time(engine, 3 * DAY + MINUTE)
    stack.tick()
    expect(page.get_by_role("heading", name="Autumn Completed")).to_be_visible()
    expect(main.get_by_text("3 sent")).to_be_visible()


def test_large_file_is_uploaded_checked_and_imported(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "leads.csv"
    file.write_text(LEADS)
    open_from_menu(page, "Import")
    page.locator("#large").get_by_label("Name of the batch").fill("Fair")
    page.get_by_role("button", name="Go on and choose the file").click()
    page.get_by_label("CSV file").set_input_files(file)
    assert_good_to_use(page)
    page.get_by_role("button", name="Upload and check it").click()
    # The browser comes back from the bucket, and the page tells by itself.
    expect(page.get_by_text("Nothing is imported yet.")).to_be_visible()
    page.get_by_role("combobox", name="Company").select_option("Notes")
    assert_good_to_use(page)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("link", name="Make a campaign for them")).to_be_visible()
    expect(page.get_by_role("link", name="Get them as a file")).to_be_visible()


def test_pages_beside_the_campaigns_are_good_to_use(page: Page, api: httpx.Client) -> None:
    act(api, make_campaign(api, ["ann@example.com"], [0]), "start")
    assert api.post("/v1/suppressions", json={"value": "bob@example.com"}).status_code == 201
    for name in ("Replies", "Suppressions", "Sending", "Settings"):
        open_from_menu(page, name)
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        assert_good_to_use(page)
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_text("A campaign was started.")).to_be_visible()
    assert_good_to_use(page)


def test_slow_preview_of_older_text_does_not_replace_a_newer_one(page: Page) -> None:
    slow: list[Route] = []

    def answer_the_first_later(route: Route) -> None:
        if slow:
            route.continue_()
        else:
            slow.append(route)

    page.route("**/console/templates/preview", answer_the_first_later)
    page.goto("/console/templates/new")
    page.get_by_label("Text", exact=True).fill("Dear")
    with page.expect_request("**/console/templates/preview"):
        page.get_by_label("Subject").fill("The older subject")
    page.get_by_label("Subject").fill("The newer subject")
    shown = page.locator("#preview-result")
    expect(shown).to_contain_text("The newer subject")
    with contextlib.suppress(Error):  # the browser waits for it no more
        slow[0].fulfill(content_type="text/html", body="The older subject")
    page.evaluate("fetch(location.href)")  # time in which it would have been shown
    expect(shown).to_contain_text("The newer subject")


def open_settings(page: Page, name: str) -> None:
    open_from_menu(page, "Settings")
    page.get_by_role("navigation", name="Settings").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def test_business_hours_and_a_sender_are_made_in_the_settings(page: Page) -> None:
    open_settings(page, "Sending schedules")
    page.get_by_role("link", name="New schedule").click()
    page.get_by_label("Name", exact=True).fill("Office")
    page.get_by_label("Saturday").fill("10-12")
    assert_good_to_use(page)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("10:00-12:00")).to_be_visible()
    assert_good_to_use(page)
    open_settings(page, "Senders")
    page.get_by_label("From").fill("Ann <ann@example.com>")
    page.get_by_role("button", name="Add the sender").click()
    expect(page.get_by_role("heading", name="Ann <ann@example.com>")).to_be_visible()
    assert_good_to_use(page)


def test_webhooks_and_exports_are_looked_after_in_the_settings(page: Page) -> None:
    open_settings(page, "Webhooks")
    page.get_by_label("Address", exact=True).fill("https://example.com/hook")
    page.get_by_role("checkbox", name="lead.replied").check()
    page.get_by_role("button", name="Add the endpoint").click()
    expect(page.get_by_text("The endpoint is made.")).to_be_visible()
    assert_good_to_use(page)
    page.get_by_role("link", name="https://example.com/hook").click()
    expect(page.get_by_role("heading", name="https://example.com/hook")).to_be_visible()
    assert_good_to_use(page)
    open_settings(page, "Exports")
    page.get_by_role("button", name="Export all leads").click()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    assert_good_to_use(page)


def test_reply_is_worked_through_in_the_inbox(page: Page, api: httpx.Client, stack: LocalStack) -> None:
    act(api, make_campaign(api, ["ann@example.com"], [0, 1]), "start")
    stack.tick()
    reply = {"from_address": "ann@example.com", "subject": "Tell me more", "text": "Call me"}
    assert api.post("/v1/replies", json=reply).status_code == 200
    open_from_menu(page, "Replies")
    page.get_by_role("link", name="Tell me more").click()
    assert_good_to_use(page)
    page.get_by_role("radio", name="Interested", exact=False).first.check()
    page.get_by_role("button", name="Set the outcome").click()
    expect(page.get_by_text("The outcome is kept")).to_be_visible()
    page.get_by_label("Text").fill("On Monday?")
    page.get_by_role("button", name="Send the answer").click()
    expect(page.get_by_text("The answer goes out")).to_be_visible()
    assert_good_to_use(page)
    open_from_menu(page, "Replies")
    expect(page.get_by_text("Nothing is left to do")).to_be_visible()


def press(page: Page, name: str) -> None:
    """Reach what has this name with the tab key, and press it."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == name:
            break
    page.keyboard.press("Enter")


def test_campaign_is_paused_with_the_keyboard_alone(page: Page, api: httpx.Client) -> None:
    campaign_id = make_campaign(api, ["ann@example.com"], [0, 1])
    act(api, campaign_id, "start")
    page.goto(f"/console/campaigns/{campaign_id}")
    press(page, "Pause")
    expect(page.get_by_role("heading", name="Pause this campaign")).to_be_visible()
    press(page, "Pause")
    expect(page.get_by_text("The campaign is paused.")).to_be_visible()


def test_time_is_shown_and_typed_in_the_zone_of_the_browser(
    chromium: Browser, stack: LocalStack, api: httpx.Client, key: str
) -> None:
    campaign_id = make_campaign(api, ["ann@example.com"], [0])
    later = {"start_type": "scheduled", "scheduled_start_at": "2030-06-01T04:00:00Z"}
    assert api.patch(f"/v1/campaigns/{campaign_id}", json=later).status_code == 200
    context = chromium.new_context(base_url=stack.url, timezone_id="Asia/Kolkata")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"/console/sign-in#{key}")
    page.wait_for_url("**/console/campaigns")
    page.goto(f"/console/campaigns/{campaign_id}/edit/senders")
    # Its name for people depends on the version of Chromium.
    typed = page.get_by_label("Date and time, in your time zone (Asia/")
    sent = page.locator("input[name=scheduled_start_at]")
    assert (typed.input_value(), sent.input_value()) == ("2030-06-01T09:30", "2030-06-01T04:00")
    for local, utc in (("2030-06-02T01:15", "2030-06-01T19:45"), ("", "")):
        typed.fill(local)
        assert sent.input_value() == utc
    context.close()


def test_pages_work_without_javascript(chromium: Browser, stack: LocalStack, key: str) -> None:
    context = chromium.new_context(base_url=stack.url, java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto("/console/leads?search=nobody")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No lead fits.")).to_be_visible()
    page.goto("/console/campaigns/new")
    page.get_by_label("Name", exact=True).fill("Autumn")
    save_and_go_on(page)
    expect(page.get_by_text("There is no email yet.")).to_be_visible()
    save_and_go_on(page)
    page.get_by_label("Most first emails a day").fill("many")
    save_and_go_on(page)
    expect(page.get_by_text("must be a whole number").first).to_be_visible()
    expect(page.get_by_label("Most first emails a day")).to_have_value("many")
    page.get_by_label("Most first emails a day").fill("")
    save_and_go_on(page)
    expect(page.get_by_text("It has no leads yet.")).to_be_visible()
    page.get_by_role("link", name="Choose its leads").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Autumn")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_request_is_tried_out_in_the_documentation_with_one_sign_in(
    chromium: Browser, stack: LocalStack, api: httpx.Client, key: str
) -> None:
    make_campaign(api, ["ann@example.com"], [0])
    context = chromium.new_context(http_credentials={"username": "anybody", "password": key})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{stack.url}/v1/docs")
    operation = page.locator("#operations-Leads-list_leads")
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text("ann@example.com")
    # The key goes as the API wants it, and not by the browser's sign-in.
    expect(operation.locator(".curl-command")).to_contain_text(f"Authorization: Bearer {key}")
    context.close()


def test_inbox_and_its_messages_fit_on_a_phone(
    chromium: Browser, stack: LocalStack, ses: SesSimulator, api: httpx.Client, database_url: str
) -> None:
    with contextlib.closing(CampaignsOfEmails(database_url)) as campaigns_of_emails:
        ses.inbox.describe = campaigns_of_emails
        long_address = f"{'information' * 5}@{'bluedoor-massage-' * 3}practice.example.com"
        act(api, make_campaign(api, [long_address, "bob@example.com"], [0]), "start")
        stack.tick()
        context = chromium.new_context(base_url=ses.url, viewport={"width": 360, "height": 740}, is_mobile=True)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_text("Campaign, step 1")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.get_by_role("link", name="Step 1 for").last.click()
        expect(page.get_by_role("heading", name="Text")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        context.close()
