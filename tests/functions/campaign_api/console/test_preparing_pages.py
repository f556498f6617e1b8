"""The console's pages on which leads are imported, content is written and campaigns are prepared."""

from __future__ import annotations

import re
import uuid

import pytest
import sqlalchemy as sa

from console import campaign_check
from sendledger.core.tables import campaigns, lead_batches, leads
from testbed.campaigns import NO_DELAY, make_batch, make_template, make_workflow
from testbed.console_browser import Browser, Shown
from tests.functions.campaign_api.api_client import ApiClient

CSV = "Email,First Name,Company\nann@example.com,Ann,Acme\nbob@example.com,Bob,Bobs\nnobody,,\n"


def send_file(
    browser: Browser,
    content: bytes,
    *,
    name: str = "",
    file_name: str = "list.csv",
    check: bool = False,
    columns: tuple[str, ...] = (),
) -> Shown:
    """Send the form of the import page as a browser does."""
    head = f'Content-Disposition: form-data; name="file"; filename="{file_name}"\r\nContent-Type: text/csv'
    parts = [
        *(f'Content-Disposition: form-data; name="column"\r\n\r\n{column}'.encode() for column in columns),
        f"{head}\r\n\r\n".encode() + content,
        f'Content-Disposition: form-data; name="name"\r\n\r\n{name}'.encode(),
    ]
    if check:
        parts.append(b'Content-Disposition: form-data; name="check"\r\n\r\n1')
    body = b"".join(b"--XyZ\r\n" + part + b"\r\n" for part in parts) + b"--XyZ--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=XyZ", "sec-fetch-site": "same-origin"}
    return browser.send("POST", "/console/import", body, headers, follow=False)


def count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.begin() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


# Importing


def test_file_is_imported_and_its_errors_are_shown(browser: Browser, engine: sa.Engine) -> None:
    shown = send_file(browser, CSV.encode(), name="Autumn fair")
    assert "3 rows: 2 leads, 0 that are there already, 1 with errors" in shown.text
    assert "4 email This is not an email address" in shown.text
    assert count(engine, leads) == 2
    assert "Autumn fair" in browser.get("/console/import").text


def test_checking_a_file_imports_nothing(browser: Browser, engine: sa.Engine) -> None:
    shown = send_file(browser, CSV.encode(), check=True)
    assert "Nothing is imported yet." in shown.text
    assert "2 new leads" in shown.text
    assert count(engine, leads) == count(engine, lead_batches) == 0


def test_columns_are_shown_and_corrected(browser: Browser, engine: sa.Engine) -> None:
    content = b"Email,Company,Holding\nann@example.com,Acme,Acme Group\n"
    shown = send_file(browser, content, check=True)
    for option in ('<option value="" title="The lead\'s company." selected>', '<option value="company_name Holding"'):
        assert option in shown.html.replace("&#39;", "'")
    again = send_file(browser, content, check=True, columns=("", "", "company_name Holding"))
    assert 'value="company_name Holding" title="The lead&#39;s company." selected' in again.html
    send_file(browser, content, columns=("", "ignored Company", "company_name Holding"))
    with engine.begin() as connection:
        assert connection.execute(sa.select(leads.c.company_name, leads.c.custom_fields)).one() == ("Acme Group", None)


def test_batch_without_a_name_gets_that_of_the_file(browser: Browser) -> None:
    send_file(browser, CSV.encode(), file_name="Messe Köln.csv")
    assert "Messe Köln.csv" in browser.get("/console/import").text


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"just text", b"Name\nAnn\n"])
def test_file_that_cannot_be_imported_says_why(browser: Browser, engine: sa.Engine, content: bytes) -> None:
    shown = send_file(browser, content, name="Broken")
    assert shown.status in (400, 422)
    assert 'role="alert"' in shown.html
    assert count(engine, leads) == 0


def test_import_without_a_file_says_so(browser: Browser) -> None:
    shown = browser.post("/console/import", {"name": "x"})
    assert shown.status in (415, 422)
    assert 'role="alert"' in shown.html


def test_viewer_cannot_import(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    browsers["viewer"].sign_in()
    assert 'type="file"' not in browsers["viewer"].get("/console/import").html
    assert send_file(browsers["viewer"], CSV.encode(), name="x").status == 403
    assert count(engine, leads) == 0


# Templates


CONTENT = {
    "name": "Hello",
    "subject": "Hello {{ first_name }}",
    "body_text": "Dear {{ first_name }},\r\n\r\nbye",
    "body_html": "",
}


def make_lead(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        make_batch(connection, ["ann@example.com"])


def test_template_is_written_and_shown_as_a_lead_gets_it(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    make_lead(engine)
    shown = browser.post("/console/templates/new", CONTENT)
    assert "Hello Ann0" in shown.text
    (template,) = api.get("/v1/email-templates").json["items"]
    assert api.get(f"/v1/email-templates/{template['id']}").json["body_text"] == "Dear {{ first_name }},\n\nbye"


def test_template_is_changed(browser: Browser, api: ApiClient) -> None:
    created = api.post("/v1/email-templates", {"name": "A", "subject": "B", "body_text": "C"}).json
    shown = browser.post(f"/console/templates/{created['id']}", {**CONTENT, "subject": "New subject"})
    assert "The template is saved." in shown.text
    assert api.get(f"/v1/email-templates/{created['id']}").json["subject"] == "New subject"


def test_wrong_template_keeps_what_was_typed(browser: Browser) -> None:
    shown = browser.post("/console/templates/new", {**CONTENT, "body_text": "Dear {{ first_name"})
    assert shown.status == 422
    assert "body_text" in shown.text
    assert "Dear {{ first_name" in shown.text


def test_template_that_is_sent_twice_is_made_once(browser: Browser, api: ApiClient) -> None:
    form = {**CONTENT, "request": browser.get("/console/templates/new").field("request")}
    for _ in range(2):
        browser.post("/console/templates/new", form)
    assert len(api.get("/v1/email-templates").json["items"]) == 1


def test_html_of_the_preview_is_shut_in(browser: Browser, engine: sa.Engine) -> None:
    make_lead(engine)
    form = {**CONTENT, "body_html": "<p>Dear {{ company_name }}</p><script>alert(1)</script>"}
    page = browser.post("/console/templates/new", form)
    (source,) = [part.partition('"')[0] for part in page.html.split('src="')[1:] if "/html?" in part]
    shown = browser.get(source)
    assert "<p>Dear Company 0</p>" in shown.html
    assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_test_email_that_is_refused_says_why(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    make_lead(engine)
    created = api.post("/v1/email-templates", {"name": "A", "subject": "B", "body_text": "C"}).json
    lead_id = api.get("/v1/leads").json["items"][0]["id"]
    shown = browser.post(f"/console/templates/{created['id']}/test", {"to": "me@example.com", "lead": lead_id})
    assert shown.status in (409, 422)
    assert 'role="alert"' in shown.html


def test_template_in_use_is_not_deleted(browser: Browser, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        workflow_id = make_workflow(connection, [NO_DELAY])
        query = sa.text("SELECT email_template_id FROM workflow_steps WHERE workflow_id = :id")
        template_id = connection.scalar(query, {"id": workflow_id})
    assert browser.post(f"/console/templates/{template_id}/delete").status == 409


def test_viewer_sees_templates_and_saves_none(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    with engine.begin() as connection:
        template_id = make_template(connection)
    browsers["viewer"].sign_in()
    shown = browsers["viewer"].get(f"/console/templates/{template_id}")
    assert "Save" not in shown.text
    assert browsers["viewer"].post(f"/console/templates/{template_id}", CONTENT).status == 403


# Workflows


def steps(*rows: tuple[object, str, str, str]) -> list[tuple[str, object]]:
    return [
        (name, value) for row in rows for name, value in zip(("template", "delay", "unit", "thread"), row, strict=True)
    ]


def test_workflow_is_made_of_the_rows_with_a_template(browser: Browser, api: ApiClient, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        first, second = make_template(connection), make_template(connection)
    rows = steps((first, "0", "days", "no"), ("", "3", "days", "no"), (second, "2", "hours", "yes"))
    shown = browser.post("/console/workflows/new", [("name", "Two steps"), *rows])
    assert shown.status == 200
    (workflow,) = api.get("/v1/workflows").json["items"]
    made = api.get(f"/v1/workflows/{workflow['id']}").json["steps"]
    assert [(step["step_number"], step["delay"]["value"], step["delay"]["unit"]) for step in made] == [
        (1, 0, "days"),
        (2, 2, "hours"),
    ]
    assert made[1]["in_thread"]


@pytest.mark.parametrize("delay", ["", "soon", "-1", "1.5", "9" * 30, "9" * 5000])
def test_delay_that_is_none_is_refused_with_its_step(browser: Browser, engine: sa.Engine, delay: str) -> None:
    with engine.begin() as connection:
        template = make_template(connection)
    shown = browser.post("/console/workflows/new", [("name", "W"), *steps((template, delay, "days", "no"))])
    assert shown.status == 422
    assert "steps.0.delay" in shown.text


def test_form_with_too_many_fields_is_refused(browser: Browser) -> None:
    shown = browser.post("/console/workflows/new", [("name", "W")] * 1001)
    assert (shown.status, "1,000 fields" in shown.text) == (413, True)
    assert browser.post("/console/workflows/new", [("name", "W")] * 1000).status == 422


def test_variants_thread_and_condition_of_a_step_are_shown_and_saved(browser: Browser, api: ApiClient) -> None:
    a, b, c = (
        api.post("/v1/email-templates", {"name": name, "subject": "B", "body_text": name}).json["id"] for name in "abc"
    )
    rows = steps((a, "0", "days", "no"), (a, "3", "days", "quote"))
    more = [("second", ""), ("second", b), ("only_if", ""), ("only_if", "delivered"), ("of_step", ""), ("of_step", "1")]
    browser.post("/console/workflows/new", [("name", "W"), *rows, *more])
    (workflow,) = api.get("/v1/workflows").json["items"]
    first, second = api.get(f"/v1/workflows/{workflow['id']}").json["steps"]
    assert (first["in_thread"], first["only_if"], len(first["variants"] or [])) in ((False, None, 0), (False, None, 1))
    assert [(each["email_template_id"], each["weight"]) for each in second["variants"]] == [(a, 1), (b, 1)]
    assert (second["in_thread"], second["quote"]) == (True, True)
    assert second["only_if"] == {"event": "delivered", "of_step": 1}

    page = f"/console/workflows/{workflow['id']}"
    shown = browser.get(page)
    for chosen in ('value="quote" selected', 'value="delivered" selected', f'value="{b}" selected'):
        assert chosen in shown.html
    # With another first template, weights of before and without the condition.
    variants = [{"email_template_id": a, "weight": 2}, {"email_template_id": b, "weight": 1}]
    steps_of_before = [
        {"step_number": 1, "email_template_id": a},
        {"step_number": 2, "variants": variants, "keep_variant": False},
    ]
    assert api.patch(f"/v1/workflows/{workflow['id']}", {"steps": steps_of_before}).status == 200
    hidden = [("kept", text) for text in browser.get(page).fields("kept")]
    rows = steps((a, "0", "days", "no"), (c, "3", "days", "no"))
    browser.post(page, [("name", "W"), *rows, *hidden, ("second", ""), ("second", b)])
    changed = api.get(f"/v1/workflows/{workflow['id']}").json["steps"][1]
    assert [(each["email_template_id"], each["weight"]) for each in changed["variants"]] == [(c, 2), (b, 1)]
    assert (changed["keep_variant"], changed["only_if"], changed["in_thread"]) == (False, None, False)


def test_more_than_two_variants_are_kept(browser: Browser, api: ApiClient) -> None:
    a, b, c = (
        api.post("/v1/email-templates", {"name": name, "subject": "B", "body_text": name}).json["id"] for name in "abc"
    )
    variants = [{"email_template_id": each, "weight": weight} for each, weight in ((a, 3), (b, 2), (c, 1))]
    step = {"step_number": 1, "variants": variants, "keep_variant": False}
    made = api.post("/v1/workflows", {"name": "W", "steps": [step]}).json
    page = f"/console/workflows/{made['id']}"
    shown = browser.get(page)
    assert "3 variants" in shown.text
    hidden = [("kept", text) for text in shown.fields("kept")]
    browser.post(page, [("name", "W"), *steps((a, "0", "days", "no")), *hidden, ("second", "")])
    assert api.get(f"/v1/workflows/{made['id']}").json["steps"][0]["variants"] == made["steps"][0]["variants"]


@pytest.mark.parametrize(
    "kept", ["", "[]", "{", '{"variants": 5}', '{"variants": [7]}', '{"variants": []}', "[" * 9999]
)
def test_hidden_field_that_was_tampered_with_is_no_server_error(browser: Browser, api: ApiClient, kept: str) -> None:
    template = api.post("/v1/email-templates", {"name": "A", "subject": "B", "body_text": "C"}).json["id"]
    rows = steps((template, "0", "days", "no"))
    assert browser.post("/console/workflows/new", [("name", "W"), *rows, ("kept", kept)]).status in (200, 422)


def test_workflow_without_steps_is_refused(browser: Browser) -> None:
    assert browser.post("/console/workflows/new", {"name": "Empty"}).status == 422


# Campaigns


@pytest.fixture
def batch_id(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        return make_batch(connection, ["ann@example.com", "bob@example.com"])


@pytest.fixture
def template_id(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        return make_template(connection)


Form = dict[str, str]


@pytest.fixture
def leads_form(batch_id: uuid.UUID) -> Form:
    return {"name": "Autumn", "batch_ids": str(batch_id)}


@pytest.fixture
def content_form(template_id: uuid.UUID) -> Form:
    return {"content": f"template:{template_id}"}


@pytest.fixture
def draft(browser: Browser, api: ApiClient, leads_form: Form) -> str:
    """The id of a draft whose first form was saved."""
    assert browser.post("/console/campaigns/new", leads_form, follow=False).status == 303
    return str(api.get("/v1/campaigns").json["items"][0]["id"])


def stage(draft: str, name: str) -> str:
    """The address of a stage."""
    return f"/console/campaigns/{draft}/edit/{name}"


def to_do(shown: Shown) -> list[str]:
    """What the page says of each stage that is not only to be looked at."""
    nav = shown.html.partition("Stages of preparing a campaign")[2].partition("</nav>")[0]
    return re.findall(r'class="pill[^>]*>([^<]+)<', nav)


def test_campaign_is_prepared_stage_by_stage_previewed_and_started(
    browser: Browser, api: ApiClient, leads_form: Form, content_form: Form
) -> None:
    shown = browser.post("/console/campaigns/new", leads_form)
    (campaign,) = api.get("/v1/campaigns").json["items"]
    path = f"/v1/campaigns/{campaign['id']}"
    assert (campaign["status"], campaign["email_template_id"]) == ("draft", None)
    assert to_do(shown) == ["done", "to do", "optional"]
    assert 'name="content"' in shown.html

    shown = browser.post(stage(campaign["id"], "content"), content_form)
    assert api.get(path).json["email_template_id"] is not None
    assert (to_do(shown), 'name="start_type"' in shown.html) == (["done", "done", "optional"], True)

    form = {"start_type": "manual", "reply_to_address": "ann@example.com"}
    shown = browser.post(stage(campaign["id"], "senders"), form)
    assert api.get(path).json["reply_to_address"] == "ann@example.com"
    assert to_do(shown) == ["done", "done", "done"]
    assert "Leads 2 Emails 2" in shown.text
    (link,) = re.findall(r'class="button main" href="([^"]+)"', shown.html)

    shown = browser.get(link)
    assert "Hello Ann0" in shown.text
    (link,) = re.findall(r'class="button main" href="([^"]+)"', shown.html)

    review = browser.get(link)
    assert "Leads 2 Emails 2" in review.text
    browser.post(link, {"request": review.field("request")})
    assert api.get(path).json["status"] == "running"


def test_draft_goes_on_where_something_is_to_do(
    browser: Browser, api: ApiClient, draft: str, content_form: Form
) -> None:
    def opened() -> str:
        return browser.get(f"/console/campaigns/{draft}/edit", follow=False).headers["location"]

    assert opened() == stage(draft, "content")
    browser.post(stage(draft, "content"), content_form)
    assert opened() == stage(draft, "leads")
    api.patch(f"/v1/campaigns/{draft}", {"batch_ids": [], "email_template_id": None})
    assert opened() == stage(draft, "leads")


def test_stages_of_a_new_campaign_are_not_links_before_it_is_saved(browser: Browser) -> None:
    shown = browser.get("/console/campaigns/new")
    assert to_do(shown) == ["to do", "to do", "optional"]
    assert re.findall(r'href="([^"]*/edit/[^"]*)"', shown.html) == []


def test_draft_without_leads_and_content_says_on_every_page_what_to_do(browser: Browser, api: ApiClient) -> None:
    draft = api.post("/v1/campaigns", {"name": "Bare"}).json["id"]
    assert "still needs leads and content" in browser.get(f"/console/campaigns/{draft}").text
    check = browser.get(stage(draft, "check"))
    for name in ("leads", "content"):
        assert f'<a href="{stage(draft, name)}">Choose its {name}</a>' in check.html
    assert "There is nothing to send yet." in browser.get(stage(draft, "preview")).text
    plan = browser.get(f"/console/campaigns/{draft}/plan?wait=yes")
    assert "It has no email template and no workflow yet." in plan.text
    start = browser.get(f"/console/campaigns/{draft}/start")
    assert re.search(r'<button class="main" disabled>', start.html)
    refused = browser.post(f"/console/campaigns/{draft}/start", {"request": "x"})
    assert (refused.status, "email_template_id" in refused.text, "batch_ids" in refused.text) == (422, True, True)


def test_each_stage_saves_its_own_fields_only(
    browser: Browser, api: ApiClient, draft: str, leads_form: Form, content_form: Form
) -> None:
    browser.post(stage(draft, "content"), content_form)
    browser.post(stage(draft, "senders"), {"start_type": "manual", "from_address": "ann@example.com"})
    before = api.get(f"/v1/campaigns/{draft}").json
    assert (before["email_template_id"] is not None, before["from_address"]) == (True, "ann@example.com")
    browser.post(stage(draft, "leads"), {**leads_form, "name": "Winter"})
    after = api.get(f"/v1/campaigns/{draft}").json
    assert after == {**before, "name": "Winter", "updated_at": after["updated_at"]}


def test_preview_shows_each_step_to_three_leads_of_several_batches(
    browser: Browser, api: ApiClient, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        batches = [make_batch(connection, [f"{name}@example.com"]) for name in ("ann", "bob", "cy", "dee")]
        workflow_id = make_workflow(connection, [NO_DELAY, NO_DELAY])
    campaign = {"name": "Autumn", "workflow_id": str(workflow_id), "batch_ids": [str(each) for each in batches]}
    draft = api.post("/v1/campaigns", campaign).json["id"]
    for query, number in (("", 1), ("?step=2", 2), ("?step=3", 1), ("?step=x", 1)):
        assert browser.get(stage(draft, "preview") + query).text.count(f"Step {number} for Ann0") == 3


def test_preview_is_of_the_campaign_and_of_its_thread(browser: Browser, api: ApiClient, batch_id: uuid.UUID) -> None:
    first, second = (
        api.post("/v1/email-templates", {"name": name, "subject": name, "body_text": "{{ campaign_name }}"}).json["id"]
        for name in ("Offer", "Unused")
    )
    steps = [
        {"step_number": 1, "email_template_id": first, "days_after_previous": 0},
        {"step_number": 2, "email_template_id": second, "days_after_previous": 3, "in_thread": True},
    ]
    workflow_id = api.post("/v1/workflows", {"name": "Two", "steps": steps}).json["id"]
    campaign = {"name": "Autumn", "workflow_id": workflow_id, "batch_ids": [str(batch_id)]}
    shown = browser.get(stage(api.post("/v1/campaigns", campaign).json["id"], "preview") + "?step=2")
    assert shown.text.count("Re: Offer Autumn") == 2


def test_preview_without_a_lead_leads_to_the_template(browser: Browser, api: ApiClient, template_id: uuid.UUID) -> None:
    campaign = {"name": "Autumn", "email_template_id": str(template_id), "evergreen": True}
    shown = browser.get(stage(api.post("/v1/campaigns", campaign).json["id"], "preview"))
    assert f'href="/console/templates/{template_id}"' in shown.html


@pytest.fixture(params=["many leads", "many batches", "a segment"])
def large(
    request: pytest.FixtureRequest,
    api: ApiClient,
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    draft: str,
    template_id: uuid.UUID,
) -> str:
    """The id of a draft whose check its pages do not wait for."""
    api.patch(f"/v1/campaigns/{draft}", {"email_template_id": str(template_id)})
    if request.param == "a segment":
        condition = {"kind": "field", "field": "industry", "values": ["spa"]}
        segment = api.post("/v1/segments", {"name": "Spas", "filter": condition}).json["id"]
        api.patch(f"/v1/campaigns/{draft}", {"batch_ids": [], "segment_ids": [segment]})
    elif request.param == "many leads":
        monkeypatch.setattr(campaign_check, "MOST_AT_ONCE", 1)
        with engine.begin() as connection:
            connection.execute(sa.update(lead_batches).values(successful_imports=2))
    else:
        monkeypatch.setattr(campaign_check, "MOST_BATCHES", 0)
    return draft


def test_check_of_many_leads_is_loaded_after_its_page(browser: Browser, api: ApiClient, large: str) -> None:
    for path in (stage(large, "check"), f"/console/campaigns/{large}/start"):
        shown = browser.get(path)
        assert "Leads 2" not in shown.text
        parts = re.findall(r'data-later="([^"]+)"', shown.html)
        links = re.findall(r'href="([^"]+wait=yes)"', shown.html)
        assert (len(parts), len(links)) == (1, 1)
        loaded = [browser.get(each) for each in (*parts, *links)]
        assert ["Leads 2 Emails 2" in each.text for each in loaded] == [True, True]
        assert ["<html" in each.html for each in loaded] == [False, True]
    made = browser.post(f"/console/campaigns/{large}/start/confirmation", {"request": loaded[0].field("request")})
    assert '<code class="secret">' in made.html
    browser.post(f"/console/campaigns/{large}/start", {"request": loaded[1].field("request")})
    assert api.get(f"/v1/campaigns/{large}").json["status"] == "running"


def test_stages_of_a_campaign_that_has_started_save_nothing(
    browser: Browser, api: ApiClient, draft: str, content_form: Form
) -> None:
    browser.post(stage(draft, "content"), content_form)
    assert api.post(f"/v1/campaigns/{draft}/start").status == 200
    for name in ("leads", "content", "senders"):
        shown = browser.get(stage(draft, name))
        assert "This campaign is running." in shown.text
        assert "Save and go on" not in shown.text
    assert browser.post(stage(draft, "content"), {"content": ""}).status == 409
    assert "This campaign is running." in browser.get(stage(draft, "check")).text


@pytest.mark.parametrize("typed", ["2099-01-02T09:30", "2099-01-02T10:30+01:00"])
def test_campaign_is_scheduled_for_a_time_in_utc(browser: Browser, api: ApiClient, draft: str, typed: str) -> None:
    form = {"start_type": "scheduled", "scheduled_start_at": typed}
    browser.post(stage(draft, "senders"), form)
    campaign = api.get(f"/v1/campaigns/{draft}").json
    assert campaign["start_type"] == "scheduled"
    assert campaign["scheduled_start_at"].startswith("2099-01-02T09:30:00")


def test_time_of_before_goes_with_the_choice_of_a_start_at_that_time(
    browser: Browser, api: ApiClient, draft: str
) -> None:
    stored = {"start_type": "scheduled", "scheduled_start_at": "2099-01-02T09:30:45Z"}
    api.patch(f"/v1/campaigns/{draft}", stored)
    form = {"start_type": "manual", "scheduled_start_at": "2099-01-02T09:30"}
    assert browser.post(stage(draft, "senders"), {**form, "scheduled_start_at": "2099-01-03T09:30"}).status == 422
    assert browser.post(stage(draft, "senders"), form, follow=False).status == 303
    campaign = api.get(f"/v1/campaigns/{draft}").json
    assert (campaign["start_type"], campaign["scheduled_start_at"]) == ("manual", None)


def test_stage_that_is_saved_unchanged_changes_nothing(browser: Browser, api: ApiClient, draft: str) -> None:
    form = {"start_type": "scheduled", "scheduled_start_at": "2099-01-02T09:30"}
    # A browser's field has no seconds.
    api.patch(f"/v1/campaigns/{draft}", {**form, "scheduled_start_at": "2099-01-02T09:30:45Z"})
    before = api.get(f"/v1/campaigns/{draft}").json
    assert browser.post(stage(draft, "senders"), form, follow=False).status == 303
    assert api.get(f"/v1/campaigns/{draft}").json == before


def test_draft_is_changed(browser: Browser, api: ApiClient, draft: str, leads_form: Form) -> None:
    page = stage(draft, "leads")
    assert browser.get(page).field("name") == "Autumn"
    browser.post(page, {**leads_form, "name": "Winter"})
    assert api.get(f"/v1/campaigns/{draft}").json["name"] == "Winter"


def test_form_keeps_what_was_chosen_when_newer_ones_fill_the_list(
    browser: Browser, engine: sa.Engine, draft: str, batch_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        newer = "INSERT INTO lead_batches (name, created_at) SELECT 'Newer ' || n, now() + interval '1 minute'"
        connection.execute(sa.text(f"{newer} FROM generate_series(1, 100) n"))
    shown = browser.get(stage(draft, "leads"))
    assert f'name="batch_ids" value="{batch_id}" checked' in shown.html


def test_leads_that_were_chosen_one_by_one_are_counted_and_kept(browser: Browser, api: ApiClient, draft: str) -> None:
    lead_ids = [lead["id"] for lead in api.get("/v1/leads").json["items"]]
    api.patch(f"/v1/campaigns/{draft}", {"lead_ids": lead_ids})
    shown = browser.get(stage(draft, "leads"))
    assert "Also 2 leads that were chosen one by one." in shown.text
    browser.post(stage(draft, "leads"), {"name": "Autumn"})
    campaign = api.get(f"/v1/campaigns/{draft}").json
    assert (campaign["lead_ids_count"], campaign["batch_ids"]) == (2, [])


def test_caps_of_first_emails_are_kept(browser: Browser, api: ApiClient, draft: str) -> None:
    page = stage(draft, "senders")
    browser.post(page, {"new_leads_per_day": "50", "new_leads_per_company_per_day": "2"})
    campaign = api.get(f"/v1/campaigns/{draft}").json
    assert (campaign["new_leads_per_day"], campaign["new_leads_per_company_per_day"]) == (50, 2)
    assert re.search(r'name="new_leads_per_day"[^>]* value="50"', browser.get(page).html)
    browser.post(page, {"new_leads_per_company_per_day": "2"})
    assert api.get(f"/v1/campaigns/{draft}").json["new_leads_per_day"] is None


EVERGREEN = {"evergreen": "yes", "end_at": "2099-01-02T09:30", "intake_every": "6 hours"}
GUARDRAILS = {
    "guardrails_enabled": "off",
    "max_bounce_rate": "0,04",
    "max_complaint_rate": "0.00001",
    "min_emails": "60",
    "window_hours": "48",
    "max_provider_errors": "7",
}


def test_evergreen_draft_keeps_how_long_and_how_often_it_takes_in_leads(browser: Browser, api: ApiClient) -> None:
    browser.post("/console/campaigns/new", {"name": "Autumn", **EVERGREEN})
    (campaign,) = api.get("/v1/campaigns").json["items"]
    assert campaign["end_at"].startswith("2099-01-02T09:30:00")
    assert campaign["intake"] == {"every": "6 hours"}
    shown = browser.get(stage(campaign["id"], "leads"))
    assert (shown.field("end_at"), shown.field("intake_every")) == ("2099-01-02T09:30", "6 hours")


def test_draft_keeps_its_guardrails(browser: Browser, api: ApiClient, draft: str) -> None:
    page = stage(draft, "senders")
    browser.post(page, GUARDRAILS)
    kept = {
        "enabled": False,
        "max_bounce_rate": 0.04,
        "max_complaint_rate": 0.00001,
        "min_emails": 60,
        "window_hours": 48,
        "max_provider_errors": 7,
    }
    assert api.get(f"/v1/campaigns/{draft}").json["guardrails"] == kept
    shown = browser.get(page)
    assert '<option value="off" selected>' in shown.html
    assert shown.field("max_complaint_rate") == "0.00001"
    again = {name: shown.field(name) for name in kept if name != "enabled"}
    browser.post(page, {"guardrails_enabled": "off", **again})
    assert api.get(f"/v1/campaigns/{draft}").json["guardrails"] == kept
    browser.post(page, {"start_type": "manual"})
    assert set(api.get(f"/v1/campaigns/{draft}").json["guardrails"].values()) == {None}


FILLED = {"leads": {"name": "Autumn", **EVERGREEN}, "senders": {"reply_to_address": "ann@example.com", **GUARDRAILS}}


@pytest.mark.parametrize(
    ("name", "field", "change"),
    [
        ("leads", "name", {"name": " "}),
        ("leads", "end_at", {"end_at": "tomorrow"}),
        ("leads", "end_at", {"evergreen": ""}),
        ("leads", "intake_every", {"intake_every": "daily"}),
        ("senders", "max_bounce_rate", {"max_bounce_rate": "5"}),
        ("senders", "max_complaint_rate", {"max_complaint_rate": "0.1 %"}),
        ("senders", "min_emails", {"min_emails": "0"}),
        ("senders", "window_hours", {"window_hours": "two days"}),
        ("senders", "max_provider_errors", {"max_provider_errors": "9" * 30}),
        ("senders", "from_address", {"from_address": "nobody"}),
        ("senders", "new_leads_per_day", {"new_leads_per_day": "many"}),
        ("senders", "scheduled_start_at", {"start_type": "scheduled", "scheduled_start_at": "tomorrow"}),
        ("senders", "scheduled_start_at", {"start_type": "manual", "scheduled_start_at": "2099-01-02T09:30"}),
        ("leads", "end_at", {"end_at": "0001-01-01T00:00+01:00"}),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    browser: Browser, api: ApiClient, draft: str, name: str, field: str, change: Form
) -> None:
    before = api.get(f"/v1/campaigns/{draft}").json
    typed = {**FILLED[name], **change}
    shown = browser.post(stage(draft, name), typed)
    assert shown.status == 422
    assert re.search(rf'<input [^>]*name="{field}"[^>]*>\s*<span class="bad">[^<]+', shown.html)
    kept = {"leads": ("name", "intake_every"), "senders": ("min_emails", "reply_to_address")}[name]
    assert [shown.field(each) for each in kept] == [typed[each] for each in kept]
    assert api.get(f"/v1/campaigns/{draft}").json == before


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("leads", {"batch_ids": "123e4567-e89b-12d3-a456-426614174000"}, "batch_ids"),
        ("leads", {"segment_ids": "nonsense"}, "segment_ids"),
        ("content", {"content": "workflow:nonsense"}, "workflow_id"),
        ("content", {"content": "template:123e4567-e89b-12d3-a456-426614174000"}, "email_template_id"),
        ("senders", {"sending_schedule_id": "nonsense"}, "sending_schedule_id"),
        ("senders", {"sender_ids": "nonsense"}, "sender_ids"),
    ],
)
def test_choice_that_does_not_exist_is_refused_with_its_field(
    browser: Browser, api: ApiClient, draft: str, name: str, change: Form, field: str
) -> None:
    before = api.get(f"/v1/campaigns/{draft}").json
    shown = browser.post(stage(draft, name), {"name": "Autumn", **change})
    assert (shown.status, field in shown.text) == (422, True)
    assert api.get(f"/v1/campaigns/{draft}").json == before


def test_new_campaign_that_is_refused_keeps_what_was_typed_and_is_not_stored(
    browser: Browser, engine: sa.Engine, leads_form: Form
) -> None:
    shown = browser.post("/console/campaigns/new", {**leads_form, "name": "", "evergreen": "yes"})
    assert shown.status == 422
    assert f'value="{leads_form["batch_ids"]}" checked' in shown.html
    assert 'name="evergreen" value="yes" checked' in shown.html
    assert count(engine, campaigns) == 0


def test_new_campaign_that_is_sent_twice_is_made_once(browser: Browser, engine: sa.Engine, leads_form: Form) -> None:
    form = {**leads_form, "request": browser.get("/console/campaigns/new").field("request")}
    for _ in range(2):
        assert browser.post("/console/campaigns/new", form, follow=False).status == 303
    assert count(engine, campaigns) == 1


def test_viewer_prepares_nothing(browsers: dict[str, Browser], engine: sa.Engine, draft: str) -> None:
    viewer = browsers["viewer"]
    viewer.sign_in()
    assert "New campaign" not in viewer.get("/console/campaigns").text
    assert viewer.post("/console/campaigns/new", {"name": "x"}).status == 403
    for name in ("leads", "content", "senders"):
        assert "Save and go on" not in viewer.get(stage(draft, name)).text
        assert viewer.post(stage(draft, name), {"name": "x"}).status == 403
    for name in ("check", "preview"):
        assert viewer.get(stage(draft, name)).status == 200
    assert count(engine, campaigns) == 1
